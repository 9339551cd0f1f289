//! Replicas against their originals, by samples or byte for byte. One that differs is dropped by the daemon.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::patience::{Patience, Pulse};
use super::{Finding, Repair, Scene, hangs, is_known_to_hang};
use crate::view::{ReplicaState, Severity};

const BLOCK_BYTES: u64 = 64 << 10;
/// Blocks that are compared of each replica, evenly spread.
const SAMPLES: u64 = 8;

pub(super) fn check(scene: &Scene, patience: &mut Patience<'_>, findings: &mut Vec<Finding>) {
    for model in &scene.resident {
        for place in &model.files {
            let serving = place.replicas.iter().filter(|replica| {
                matches!(replica.state, ReplicaState::Serving | ReplicaState::Spare)
            });
            for replica in serving {
                let (home, copy) = (PathBuf::from(&place.home), PathBuf::from(&replica.path));
                let Some(root) = scene.homes().find(|root| home.starts_with(root)) else {
                    continue;
                };
                if is_known_to_hang(root, findings) {
                    continue;
                }
                let all = scene.all;
                let found = patience.wait(root, move |pulse| differs(&home, &copy, all, pulse));
                if found.is_none() {
                    findings.push(hangs(root));
                }
                if matches!(found, Some(Ok(true))) {
                    findings.push(
                        Finding::new("replica-differs", Severity::Error, &replica.path, format!("other bytes than {}", place.home))
                            .means("Engines are given wrong bytes of this model: memory was damaged, or somebody wrote into the pool.")
                            .remedy(format!("speedloader demote '{}', and test the memory", model.name))
                            .repair(Repair::Demote(model.name.clone())),
                    );
                }
            }
        }
    }
}

/// What cannot be read is no finding: it may have been demoted meanwhile.
fn differs(home: &Path, copy: &Path, all: bool, pulse: &Pulse) -> io::Result<bool> {
    let (home, copy) = (File::open(home)?, File::open(copy)?);
    let size = home.metadata()?.len();
    if copy.metadata()?.len() != size {
        return Ok(true);
    }
    let blocks = size.div_ceil(BLOCK_BYTES);
    let step = if all { 1 } else { (blocks / SAMPLES).max(1) };
    let mut at = 0;
    while at < blocks {
        pulse.beat();
        if block(&home, at, size)? != block(&copy, at, size)? {
            return Ok(true);
        }
        at += step;
    }
    Ok(blocks > 0 && block(&home, blocks - 1, size)? != block(&copy, blocks - 1, size)?)
}

fn block(file: &File, number: u64, size: u64) -> io::Result<Vec<u8>> {
    let offset = number * BLOCK_BYTES;
    let length = usize::try_from(BLOCK_BYTES.min(size - offset)).unwrap_or(0);
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

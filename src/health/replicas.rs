//! Replicas against their originals, by samples or byte for byte. One that differs is dropped by the daemon.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::patience::{Patience, Pulse};
use super::{Finding, Repair, Scene, hangs, is_known_to_hang, shown};
use crate::view::human::{shell_word, unescape};
use crate::view::{ReplicaState, Severity};

const BLOCK_BYTES: u64 = 64 << 10;
/// Blocks that are compared of each replica, evenly spread.
const SAMPLES: u64 = 8;

/// What a comparison came to.
enum Verdict {
    Same,
    Differs,
    /// Why there was none.
    Unchecked(String),
}

pub(super) fn check(scene: &Scene, patience: &mut Patience<'_>, findings: &mut Vec<Finding>) {
    let mut unchecked = Vec::new();
    for model in &scene.resident {
        for place in &model.files {
            let serving = place.replicas.iter().filter(|replica| {
                matches!(replica.state, ReplicaState::Serving | ReplicaState::Spare)
            });
            for replica in serving {
                let (home, copy) = (path_of(&place.home), path_of(&replica.path));
                match judge(scene, &home, &copy, patience, findings) {
                    Verdict::Same => {}
                    Verdict::Differs => findings.push(differing(&model.name, &home, &copy)),
                    Verdict::Unchecked(why) => unchecked.push((copy, why)),
                }
            }
        }
    }
    if let Some((copy, why)) = unchecked.first() {
        let found = format!(
            "{} not compared with their originals: {why}",
            unchecked.len()
        );
        findings.push(
            Finding::new("replica-unchecked", Severity::Notice, copy, found)
                .means("Whether these replicas are right is not known.")
                .remedy("speedloader health again, as root, when the originals can be read"),
        );
    }
}

/// As it is on the disk, from what is shown.
fn path_of(shown: &str) -> PathBuf {
    match unescape(shown) {
        Some(bytes) => OsString::from_vec(bytes).into(),
        None => shown.into(),
    }
}

fn differing(model: &str, home: &Path, copy: &Path) -> Finding {
    let found = format!("other bytes than {}", shown(home));
    let model_word = shell_word(model.as_bytes());
    Finding::new("replica-differs", Severity::Error, copy, found)
        .means("Engines are given wrong bytes of this model: memory was damaged, or somebody wrote into the pool.")
        .remedy(format!("speedloader demote {model_word}, and test the memory"))
        .repair(Repair::Demote(model.to_owned()))
}

fn judge(
    scene: &Scene,
    home: &Path,
    copy: &Path,
    patience: &mut Patience<'_>,
    findings: &mut Vec<Finding>,
) -> Verdict {
    let Some(root) = scene.homes().find(|root| home.starts_with(root)) else {
        return Verdict::Unchecked(format!("{} is in no home", shown(home)));
    };
    let hung = || Verdict::Unchecked(format!("{} does not answer", shown(root)));
    if is_known_to_hang(root, findings) {
        return hung();
    }
    let (original, replica, all) = (home.to_owned(), copy.to_owned(), scene.all);
    match patience.wait(root, move |pulse| compare(&original, &replica, all, pulse)) {
        Some(verdict) => verdict,
        None => {
            findings.push(hangs(root));
            hung()
        }
    }
}

fn compare(home: &Path, copy: &Path, all: bool, pulse: &Pulse) -> Verdict {
    let unchecked =
        |path: &Path, error: io::Error| Verdict::Unchecked(format!("{}: {error}", shown(path)));
    let copied = match File::open(copy) {
        Ok(file) => file,
        // It was demoted meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Verdict::Same,
        Err(error) => return unchecked(copy, error),
    };
    let compared = File::open(home).and_then(|home| differs(&home, &copied, all, pulse));
    match compared {
        Ok(true) => Verdict::Differs,
        Ok(false) => Verdict::Same,
        Err(error) => unchecked(home, error),
    }
}

fn differs(home: &File, copy: &File, all: bool, pulse: &Pulse) -> io::Result<bool> {
    let size = home.metadata()?.len();
    if copy.metadata()?.len() != size {
        return Ok(true);
    }
    let blocks = size.div_ceil(BLOCK_BYTES);
    let step = if all { 1 } else { (blocks / SAMPLES).max(1) };
    let mut at = 0;
    while at < blocks {
        pulse.beat();
        if block(home, at, size)? != block(copy, at, size)? {
            return Ok(true);
        }
        at += step;
    }
    Ok(blocks > 0 && block(home, blocks - 1, size)? != block(copy, blocks - 1, size)?)
}

fn block(file: &File, number: u64, size: u64) -> io::Result<Vec<u8>> {
    let offset = number * BLOCK_BYTES;
    let length = usize::try_from(BLOCK_BYTES.min(size - offset)).unwrap_or(0);
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

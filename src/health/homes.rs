//! Originals: blobs that are not what their names say, manifests and split models that lack a part. Only read, and by
//! threads that nobody waits for when a home hangs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::patience::{Patience, Pulse};
use super::{Finding, Scene, hangs, is_known_to_hang};
use crate::view::Severity;

/// Files that are looked at in one home.
const FILES_MAX: usize = 500_000;
/// Directories deeper than that are no store of models.
const DEPTH_MAX: usize = 16;
/// Without `all`: so many blobs, and none larger, are hashed.
const SAMPLES: usize = 16;
const SAMPLE_BYTES_MAX: u64 = 64 << 20;
/// Manifests and indexes are small.
const TEXT_BYTES_MAX: u64 = 16 << 20;
/// One that names more parts than any model has is not believed.
const PARTS_MAX: u32 = 10_000;

pub(super) fn check(scene: &Scene, patience: &mut Patience<'_>, findings: &mut Vec<Finding>) {
    let all = scene.all;
    for home in scene.homes() {
        if is_known_to_hang(home, findings) {
            continue;
        }
        let path = home.to_owned();
        match patience.wait(home, move |pulse| {
            Home::read(&path, pulse).findings(all, pulse)
        }) {
            Some(found) => findings.extend(found),
            None => findings.push(hangs(home)),
        }
    }
}

/// What a home holds, as far as it concerns us.
#[derive(Default)]
struct Home {
    files: BTreeMap<PathBuf, u64>,
}

impl Home {
    fn read(root: &Path, pulse: &Pulse) -> Home {
        let mut home = Home::default();
        let mut open = vec![(root.to_owned(), 0)];
        while let Some((directory, depth)) = open.pop() {
            pulse.beat();
            // One that may not be read is the daemon's concern, not a fault of a model.
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                let Ok(found) = entry.metadata() else {
                    continue;
                };
                if found.is_dir() && depth < DEPTH_MAX {
                    open.push((entry.path(), depth + 1));
                } else if found.is_file() && home.files.len() < FILES_MAX {
                    home.files.insert(entry.path(), found.len());
                }
            }
        }
        home
    }

    fn findings(&self, all: bool, pulse: &Pulse) -> Vec<Finding> {
        let mut findings = self.blobs(all, pulse);
        for path in self.files.keys() {
            pulse.beat();
            findings.extend(self.manifest(path));
            findings.extend(self.index(path));
        }
        findings.extend(self.splits());
        findings
    }

    fn blobs(&self, all: bool, pulse: &Pulse) -> Vec<Finding> {
        let mut blobs: Vec<(&PathBuf, u64, &str)> = self
            .files
            .iter()
            .filter_map(|(path, size)| Some((path, *size, digest_in(path)?)))
            .collect();
        if !all {
            blobs.retain(|(_, size, _)| *size <= SAMPLE_BYTES_MAX);
            blobs.sort_by_key(|(_, size, _)| std::cmp::Reverse(*size));
            blobs.truncate(SAMPLES);
        }
        let differs = |(path, _, promised): &(&PathBuf, u64, &str)| {
            let found = hash(path, pulse).ok()?;
            (found != *promised).then(|| {
                Finding::new(
                    "digest-differs",
                    Severity::Error,
                    path,
                    format!("contents with the digest {found}"),
                )
                .means(
                    "The blob is not what its name says: it was damaged or not pulled to its end.",
                )
                .remedy("pull the model again: ollama pull NAME, after ollama rm NAME")
            })
        };
        blobs.iter().filter_map(differs).collect()
    }

    /// An Ollama manifest whose blobs are not all there.
    fn manifest(&self, path: &Path) -> Option<Finding> {
        let root = path
            .ancestors()
            .find(|one| one.ends_with("manifests"))?
            .parent()?;
        let text: serde_json::Value = serde_json::from_str(&small_text(path)?).ok()?;
        let layers = text["layers"].as_array().into_iter().flatten();
        let digests = layers
            .chain(std::iter::once(&text["config"]))
            .filter_map(|layer| layer["digest"].as_str());
        let missing = digests
            .filter(|digest| {
                let name = digest.replace(':', "-");
                // Names that could lead elsewhere are not followed.
                name.starts_with("sha256-")
                    && !name.contains('/')
                    && !self.files.contains_key(&root.join("blobs").join(name))
            })
            .count();
        (missing > 0).then(|| {
            Finding::new(
                "dangling-manifest",
                Severity::Warning,
                path,
                format!("{missing} of its blobs are not in the same store"),
            )
            .means(
                "The engine lists the model and cannot load it, unless another home has the blobs.",
            )
            .remedy("pull the model again, or ollama rm it")
        })
    }

    /// An index of safetensors whose shards are not all there.
    fn index(&self, path: &Path) -> Option<Finding> {
        let name = path.file_name()?.to_str()?;
        if !name.ends_with(".safetensors.index.json") {
            return None;
        }
        let text: serde_json::Value = serde_json::from_str(&small_text(path)?).ok()?;
        let shards: BTreeSet<&str> = text["weight_map"]
            .as_object()?
            .values()
            .filter_map(|shard| shard.as_str())
            .collect();
        let directory = path.parent()?;
        let missing: Vec<&str> = shards
            .into_iter()
            .filter(|shard| !shard.contains('/') && !directory.join(shard).exists())
            .collect();
        missing
            .first()
            .map(|first| part_missing(path, first, missing.len()))
    }

    /// Split GGUF sets of which a part is missing.
    fn splits(&self) -> Vec<Finding> {
        let mut sets: BTreeMap<(PathBuf, u32), BTreeSet<u32>> = BTreeMap::new();
        for path in self.files.keys() {
            if let Some((stem, number, count)) = split_of(path) {
                sets.entry((stem, count)).or_default().insert(number);
            }
        }
        let incomplete = |((stem, count), parts): (&(PathBuf, u32), &BTreeSet<u32>)| {
            let first = (1..=*count).find(|number| !parts.contains(number))?;
            let name = format!("part {first} of {count}");
            Some(part_missing(
                stem,
                &name,
                usize::try_from(*count).unwrap_or(0) - parts.len(),
            ))
        };
        sets.iter().filter_map(incomplete).collect()
    }
}

fn part_missing(subject: &Path, first: &str, count: usize) -> Finding {
    Finding::new(
        "missing-part",
        Severity::Warning,
        subject,
        format!("{count} parts are missing, {first} for one"),
    )
    .means("No engine can load the model, unless another home has the rest.")
    .remedy("download the missing parts")
}

/// The digest that a blob's name promises.
fn digest_in(path: &Path) -> Option<&str> {
    let name = path.file_name()?.to_str()?;
    let hex = name.strip_prefix("sha256-")?;
    let in_blobs = path.parent()?.ends_with("blobs");
    let is_hex = hex.len() == 64
        && hex
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (in_blobs && is_hex).then_some(hex)
}

/// `model-00002-of-00005.gguf` as stem, number and count.
fn split_of(path: &Path) -> Option<(PathBuf, u32, u32)> {
    let name = path.file_name()?.to_str()?.strip_suffix(".gguf")?;
    let (rest, count) = name.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    let number_of = |text: &str| {
        (text.len() == 5)
            .then(|| text.parse::<u32>().ok())
            .flatten()
    };
    let (number, count) = (number_of(number)?, number_of(count)?);
    ((1..=PARTS_MAX).contains(&count) && (1..=count).contains(&number))
        .then(|| (path.with_file_name(stem), number, count))
}

fn open(path: &Path) -> io::Result<File> {
    let flags = i32::try_from((rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits())
        .unwrap_or(0);
    File::options().read(true).custom_flags(flags).open(path)
}

fn small_text(path: &Path) -> Option<String> {
    let mut text = String::new();
    open(path)
        .ok()?
        .take(TEXT_BYTES_MAX)
        .read_to_string(&mut text)
        .ok()?;
    Some(text)
}

fn hash(path: &Path, pulse: &Pulse) -> io::Result<String> {
    let mut file = open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        pulse.beat();
        match file.read(&mut buffer)? {
            0 => break,
            count => hasher.update(&buffer[..count]),
        }
    }
    Ok(hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

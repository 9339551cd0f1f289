//! Originals: blobs that are not what their names say, manifests and split models that lack a part. Only read, and by
//! threads that nobody waits for when a home hangs. What one home lacks another may have: judged is the one tree that
//! the mount shows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::patience::{Patience, Pulse};
use super::{Finding, Scene, hangs, is_known_to_hang, shown, word};
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

/// Links that lead to links are followed so far.
const LINKS_MAX: usize = 8;

pub(super) fn check(scene: &Scene, patience: &mut Patience<'_>, findings: &mut Vec<Finding>) {
    let mut tree = Tree {
        homes: Vec::new(),
        is_whole: true,
    };
    for root in scene.homes() {
        if let Some(home) = look(root, patience, findings, Home::read) {
            tree.is_whole &= home.is_whole;
            tree.homes.push(Arc::new(home));
        } else {
            tree.is_whole = false;
        }
    }
    let tree = Arc::new(tree);
    let mut found = Vec::new();
    if scene.config.mount.allow_other {
        found.extend(tree.homes.iter().filter_map(|home| home.ignored_acls()));
    }
    for home in &tree.homes {
        let (tree, own, all) = (Arc::clone(&tree), Arc::clone(home), scene.all);
        let judge = move |_: PathBuf, pulse: &Pulse| tree.findings(&own, all, pulse);
        found.extend(
            look(&home.root, patience, findings, judge)
                .into_iter()
                .flatten(),
        );
    }
    found.extend(tree.splits());
    // A blob may be named by several manifests.
    let mut seen = BTreeSet::new();
    found.retain(|finding| seen.insert((finding.check, finding.subject.clone())));
    findings.extend(found);
}

/// What `work` comes to with a home; `None`, and a finding, if that hangs.
fn look<T: Send + 'static>(
    root: &Path,
    patience: &mut Patience<'_>,
    findings: &mut Vec<Finding>,
    work: impl FnOnce(PathBuf, &Pulse) -> T + Send + 'static,
) -> Option<T> {
    if is_known_to_hang(root, findings) {
        return None;
    }
    let path = root.to_owned();
    let done = patience.wait(root, move |pulse| work(path, pulse));
    if done.is_none() {
        findings.push(hangs(root));
    }
    done
}

/// What is under a name.
enum Entry {
    File {
        path: PathBuf,
        size: u64,
    },
    /// To another path below the homes.
    Link(PathBuf),
    /// A link out of the home: not looked at.
    Elsewhere,
}

/// What a home holds, as far as it concerns us; paths are relative to it.
struct Home {
    root: PathBuf,
    entries: BTreeMap<PathBuf, Entry>,
    /// Whether all of it was looked at.
    is_whole: bool,
    /// Of files and directories with an ACL, the first that was met, and how many there are.
    acls: Option<(PathBuf, usize)>,
}

impl Home {
    fn read(root: PathBuf, pulse: &Pulse) -> Home {
        let mut entries = BTreeMap::new();
        let mut is_whole = true;
        let mut acls = None;
        let mut see = |path: &Path| {
            if has_acl(path) {
                acls.get_or_insert_with(|| (path.to_owned(), 0)).1 += 1;
            }
        };
        see(&root);
        let mut open = vec![(PathBuf::new(), 0)];
        while let Some((directory, depth)) = open.pop() {
            // One that may not be read is the daemon's concern, not a fault of a model.
            for entry in fs::read_dir(root.join(&directory))
                .into_iter()
                .flatten()
                .flatten()
            {
                pulse.beat();
                let Ok(found) = entry.metadata() else {
                    continue;
                };
                let name = directory.join(entry.file_name());
                let path = entry.path();
                see(&path);
                if found.is_dir() {
                    if depth < DEPTH_MAX {
                        open.push((name, depth + 1));
                    }
                } else if entries.len() >= FILES_MAX {
                    is_whole = false;
                } else if found.is_file() {
                    let size = found.len();
                    entries.insert(name, Entry::File { path, size });
                } else if let Ok(target) = fs::read_link(&path) {
                    entries.insert(name, link(&root, &directory, &target));
                }
            }
        }
        Home {
            root,
            entries,
            is_whole,
            acls,
        }
    }

    fn ignored_acls(&self) -> Option<Finding> {
        let (first, count) = self.acls.as_ref()?;
        let found = match count {
            1 => format!("{} has an ACL", shown(first)),
            _ => format!(
                "{count} files and directories have ACLs, {} for one",
                shown(first)
            ),
        };
        let finding = Finding::new("acl-ignored", Severity::Warning, &self.root, found)
            .means(
                "The mount goes by owner, group and permission bits, less what the ACLs refuse: users and groups whom \
                 only an ACL lets in are refused.",
            )
            .remedy(format!(
                "let the engine's user in by the files' group (chgrp), and take the ACLs away: setfacl -R -b {}",
                word(&self.root)
            ));
        Some(finding)
    }

    fn blobs(&self, all: bool, pulse: &Pulse) -> Vec<Finding> {
        let blob = |entry| match entry {
            &Entry::File { ref path, size } => Some((path, size, digest_in(path)?)),
            Entry::Link(_) | Entry::Elsewhere => None,
        };
        let mut blobs: Vec<(&PathBuf, u64, &str)> =
            self.entries.values().filter_map(blob).collect();
        if !all {
            blobs.retain(|(_, size, _)| *size <= SAMPLE_BYTES_MAX);
            blobs.sort_by_key(|(_, size, _)| std::cmp::Reverse(*size));
            blobs.truncate(SAMPLES);
        }
        let differs = |(path, _, promised): &(&PathBuf, u64, &str)| {
            let found = hash(path, pulse).ok()?;
            let text = format!("contents with the digest {found}");
            (found != *promised).then(|| damaged(path, text))
        };
        blobs.iter().filter_map(differs).collect()
    }
}

/// Where a link in `directory` leads.
fn link(root: &Path, directory: &Path, target: &Path) -> Entry {
    let (mut path, rest) = match target.strip_prefix(root) {
        Ok(rest) => (PathBuf::new(), rest),
        Err(_) if target.is_absolute() => return Entry::Elsewhere,
        Err(_) => (directory.to_owned(), target),
    };
    for part in rest.components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::ParentDir if !path.pop() => return Entry::Elsewhere,
            _ => {}
        }
    }
    Entry::Link(path)
}

/// All homes as one.
struct Tree {
    homes: Vec<Arc<Home>>,
    /// Else nothing can be said to be missing.
    is_whole: bool,
}

impl Tree {
    fn entry(&self, path: &Path) -> Option<&Entry> {
        let mut homes = self.homes.iter();
        homes.find_map(|home| home.entries.get(path))
    }

    /// What is at the end of all links.
    fn find(&self, path: &Path) -> Option<&Entry> {
        let mut path = path;
        for _ in 0..LINKS_MAX {
            match self.entry(path) {
                Some(Entry::Link(target)) => path = target,
                Some(found) => return Some(found),
                None => {
                    // Through a directory that is a link.
                    let mut above = path.ancestors().skip(1);
                    let is_linked = above.any(|path| self.entry(path).is_some());
                    return is_linked.then_some(&Entry::Elsewhere);
                }
            }
        }
        None
    }

    /// What a small file at the end of all links says.
    fn json(&self, path: &Path) -> Option<Value> {
        match self.find(path)? {
            Entry::File { path, .. } => serde_json::from_str(&small_text(path)?).ok(),
            Entry::Link(_) | Entry::Elsewhere => None,
        }
    }

    fn findings(&self, home: &Home, all: bool, pulse: &Pulse) -> Vec<Finding> {
        let mut findings = home.blobs(all, pulse);
        for (path, entry) in &home.entries {
            pulse.beat();
            findings.extend(self.manifest(home, path).into_iter().flatten());
            findings.extend(self.index(home, path));
            findings.extend(self.weights(home, path, entry));
        }
        findings
    }

    /// An Ollama manifest whose blobs are not all there, or not as large as it says.
    fn manifest(&self, home: &Home, path: &Path) -> Option<Vec<Finding>> {
        let store = path
            .ancestors()
            .find(|one| one.ends_with("manifests"))?
            .parent()?;
        let text = self.json(path)?;
        let layers = text["layers"].as_array().into_iter().flatten();
        let (mut findings, mut missing) = (Vec::new(), 0);
        for layer in layers.chain(std::iter::once(&text["config"])) {
            let name = layer["digest"]
                .as_str()
                .unwrap_or_default()
                .replace(':', "-");
            // Names that could lead elsewhere are not followed.
            if !name.starts_with("sha256-") || name.contains('/') {
                continue;
            }
            match (
                self.find(&store.join("blobs").join(name)),
                layer["size"].as_u64(),
            ) {
                (None, _) => missing += 1,
                (Some(Entry::File { path: blob, size }), Some(promised)) if *size != promised => {
                    let manifest = shown(&home.root.join(path));
                    let text = format!("{size} bytes, and {manifest} says {promised}");
                    findings.push(damaged(blob, text));
                }
                (Some(_), _) => {}
            }
        }
        if missing > 0 && self.is_whole {
            findings.push(dangling(&home.root.join(path), missing));
        }
        Some(findings)
    }

    /// An index of safetensors whose shards are not all there.
    fn index(&self, home: &Home, path: &Path) -> Option<Finding> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        if !self.is_whole || !name.ends_with(".safetensors.index.json") {
            return None;
        }
        let text = self.json(path)?;
        let shards: BTreeSet<&str> = text["weight_map"]
            .as_object()?
            .values()
            .filter_map(|shard| shard.as_str())
            .collect();
        let directory = path.parent()?;
        let is_missing =
            |shard: &&str| !shard.contains('/') && self.find(&directory.join(shard)).is_none();
        let missing: Vec<&str> = shards.into_iter().filter(is_missing).collect();
        let first = missing.first()?;
        Some(part_missing(&home.root.join(path), first, missing.len()))
    }

    /// Weights in one file, of a revision in a hub cache, that lead to nothing.
    fn weights(&self, home: &Home, path: &Path, entry: &Entry) -> Option<Finding> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let is_whole_model =
            name == "model.safetensors" || (name.ends_with(".gguf") && split_of(path).is_none());
        let is_of_revision = path.iter().any(|part| part == "snapshots");
        let leads_nowhere = self.is_whole
            && is_whole_model
            && is_of_revision
            && matches!(entry, Entry::Link(_))
            && self.find(path).is_none();
        leads_nowhere.then(|| part_missing(&home.root.join(path), "what it leads to", 1))
    }

    /// Split GGUF sets of which a part is missing.
    fn splits(&self) -> Vec<Finding> {
        let mut sets: BTreeMap<(PathBuf, u32), (PathBuf, BTreeSet<u32>)> = BTreeMap::new();
        for home in self.homes.iter().filter(|_| self.is_whole) {
            for path in home.entries.keys() {
                let Some((stem, number, count)) = split_of(path) else {
                    continue;
                };
                let subject = home.root.join(&stem);
                let set = sets.entry((stem, count));
                let (_, parts) = set.or_insert_with(|| (subject, BTreeSet::new()));
                // A link may lead to nothing.
                parts.extend(self.find(path).map(|_| number));
            }
        }
        let mut findings = Vec::new();
        for ((_, count), (subject, parts)) in &sets {
            if let Some(first) = (1..=*count).find(|number| !parts.contains(number)) {
                let missing = usize::try_from(*count).unwrap_or(0) - parts.len();
                let first = format!("part {first} of {count}");
                findings.push(part_missing(subject, &first, missing));
            }
        }
        findings
    }
}

/// Whether it has a POSIX ACL, or gives one to what is made in it (acl(5)).
pub(super) fn has_acl(path: &Path) -> bool {
    let has = |name: &str| rustix::fs::lgetxattr(path, name, &mut [0_u8; 0]).is_ok();
    has("system.posix_acl_access") || has("system.posix_acl_default")
}

fn damaged(blob: &Path, found: String) -> Finding {
    Finding::new("digest-differs", Severity::Error, blob, found)
        .means("The blob is not what its name says: it was damaged or not pulled to its end.")
        .remedy("in models_dir: ollama rm NAME, then ollama pull NAME; in a cold directory: replace it there, or put a right copy into models_dir/blobs")
}

fn dangling(manifest: &Path, missing: usize) -> Finding {
    let found = match missing {
        1 => "one of its blobs is in no home".to_owned(),
        _ => format!("{missing} of its blobs are in no home"),
    };
    Finding::new("dangling-manifest", Severity::Warning, manifest, found)
        .means("The engine lists the model and cannot load it.")
        .remedy("pull the model again, or ollama rm it")
}

fn part_missing(subject: &Path, first: &str, count: usize) -> Finding {
    let found = match count {
        1 => format!("{first} is missing"),
        _ => format!("{count} parts are missing, {first} for one"),
    };
    Finding::new("missing-part", Severity::Warning, subject, found)
        .means("No engine can load the model.")
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
    const ENDING: &str = ".gguf";
    let name = path.file_name()?.to_str()?;
    let (name, ending) = name.split_at_checked(name.len().checked_sub(ENDING.len())?)?;
    if !ending.eq_ignore_ascii_case(ENDING) {
        return None;
    }
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

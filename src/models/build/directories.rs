//! Directories as Hugging Face lays them out, plain ones and revisions in a hub cache.
//!
//! Decides which directories are models and what they are called; `listing` decides which of
//! their files belong.

use super::Build;
use super::hub::{is_below, references_to, revision_of};
use super::listing::Listing;
use crate::models::catalog::{Draft, shown};
use crate::models::entries::{join, split_path};
use crate::models::huggingface::hub_name;
use crate::models::model::Kind;
use std::collections::{BTreeMap, HashMap, HashSet};

pub(super) fn find(build: &mut Build<'_>) {
    let mut revisions: BTreeMap<(Vec<u8>, Vec<u8>), Vec<u32>> = BTreeMap::new();
    let mut pipelines: HashSet<Vec<u8>> = HashSet::new();
    for directory in 0..build.entries.directories() {
        let path = build.entries.directory_path(directory).to_vec();
        if let Some((repository, revision)) = revision_of(&path) {
            let key = (repository.to_vec(), revision.to_vec());
            revisions.entry(key).or_default().push(directory);
        } else if !ancestors(&path).any(|above| pipelines.contains(above)) {
            if build
                .entries
                .find(&join(&path, b"model_index.json"))
                .is_some()
            {
                add_pipeline(build, directory, &path);
                pipelines.insert(path);
            } else {
                add_plain(build, directory, &path);
            }
        }
    }
    add_revisions(build, revisions);
}

/// The directories above a path.
fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(path), |path| {
        (!path.is_empty()).then(|| split_path(path).0)
    })
    .skip(1)
}

fn add_plain(build: &mut Build<'_>, directory: u32, path: &[u8]) {
    let listing = Listing::new(build, directory, b"");
    if !listing.has_config() {
        return;
    }
    let mut draft = Draft::new(plain_name(path), Kind::HuggingFace, path.to_vec());
    if listing.add_weights(build, &mut draft) {
        listing.add_extras(build, &mut draft);
        build.add(draft);
    }
}

/// A pipeline of several networks (diffusers): one model, all its directories.
fn add_pipeline(build: &mut Build<'_>, top: u32, path: &[u8]) {
    let mut draft = Draft::new(plain_name(path), Kind::HuggingFace, path.to_vec());
    let mut found = false;
    for directory in build.entries.directories_from(path) {
        let below = build.entries.directory_path(directory);
        if directory == top || is_below(below, path) {
            let prefix = below[path.len()..]
                .strip_prefix(b"/")
                .unwrap_or(&below[path.len()..]);
            let prefix = prefix.to_vec();
            let listing = Listing::new(build, directory, &prefix);
            found |= listing.add_weights(build, &mut draft);
            listing.add_extras(build, &mut draft);
        }
    }
    if found {
        build.add(draft);
    }
}

/// `ORG/NAME` is what people call a directory, wherever their collection of them lies.
fn plain_name(path: &[u8]) -> String {
    let mut slashes = path
        .iter()
        .enumerate()
        .rev()
        .filter(|(_, byte)| **byte == b'/');
    let start = slashes.nth(1).map_or(0, |(at, _)| at + 1);
    if path.is_empty() {
        ".".to_owned()
    } else {
        shown(&path[start..])
    }
}

fn add_revisions(build: &mut Build<'_>, revisions: BTreeMap<(Vec<u8>, Vec<u8>), Vec<u32>>) {
    let mut counts: HashMap<Vec<u8>, usize> = HashMap::new();
    for (repository, _) in revisions.keys() {
        *counts.entry(repository.clone()).or_default() += 1;
    }
    for ((repository, revision), directories) in revisions {
        let is_only = counts.get(&repository) == Some(&1);
        add_revision(build, &repository, &revision, &directories, is_only);
    }
}

fn add_revision(
    build: &mut Build<'_>,
    repository: &[u8],
    revision: &[u8],
    directories: &[u32],
    is_only: bool,
) {
    let base = repository
        .rsplit(|byte| *byte == b'/')
        .next()
        .unwrap_or_default();
    let Some(name) = hub_name(base).map(|name| shown(name.as_bytes())) else {
        return;
    };
    let start = repository.len() + "/snapshots/".len() + revision.len();
    let revision = shown(revision);
    let references = references_to(build, repository, &revision);
    let is_main = references.iter().any(|reference| reference == "main");
    let exact = format!("{name}@{revision}");
    // The revision that a bare name loads is called by it.
    let bare = is_main || (is_only && references.is_empty());
    let called = if is_main { &name } else { &exact };
    let place = join(repository, called.as_bytes());
    let mut draft = Draft::new(
        if bare { name.clone() } else { exact.clone() },
        Kind::HubRevision,
        place,
    );
    draft.aliases.push(exact);
    draft.aliases.extend(
        references
            .iter()
            .map(|reference| format!("{name}@{reference}")),
    );
    let listings: Vec<Listing> = directories
        .iter()
        .map(|directory| {
            let path = build.entries.directory_path(*directory);
            let prefix = path.get(start..).unwrap_or_default();
            let prefix = prefix.strip_prefix(b"/").unwrap_or(prefix).to_vec();
            Listing::new(build, *directory, &prefix)
        })
        .collect();
    let is_pipeline = listings.iter().any(Listing::is_pipeline);
    let mut found = false;
    for listing in &listings {
        // Below a directory with weights of its own lie copies in another format.
        if is_pipeline || !found {
            found |= listing.add_weights(build, &mut draft);
        }
        listing.add_extras(build, &mut draft);
    }
    // A repository of GGUF files is as many models as it has of them.
    let has_gguf = listings.iter().any(Listing::has_gguf);
    if found || (!has_gguf && !draft.members.is_empty()) {
        build.add(draft);
    }
}

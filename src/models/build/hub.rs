//! Revisions of repositories in a hub cache: whose files they are, and what names them.

use super::Build;
use crate::models::catalog::{Draft, Member, shown};
use crate::models::entries::join;
use crate::models::facts::{Facts, Format};
use crate::models::huggingface::hub_name;
use std::collections::{BTreeMap, BTreeSet};

/// `.../models--ORG--NAME/snapshots/REVISION/...` -> the repository's path and the revision.
pub(super) fn revision_of(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut starts: Vec<usize> = vec![0];
    starts.extend(
        path.iter()
            .enumerate()
            .filter(|(_, b)| **b == b'/')
            .map(|(at, _)| at + 1),
    );
    let part = |at: usize| {
        let end = starts.get(at + 1).map_or(path.len(), |next| next - 1);
        starts.get(at).map(|start| &path[*start..end])
    };
    (0..starts.len()).find_map(|at| {
        hub_name(part(at)?)?;
        (part(at + 1)? == b"snapshots").then_some(())?;
        Some((&path[..starts[at + 1] - 1], part(at + 2)?))
    })
}

pub(super) fn is_below(path: &[u8], directory: &[u8]) -> bool {
    directory.is_empty()
        || path
            .strip_prefix(directory)
            .is_some_and(|rest| rest.starts_with(b"/"))
}

/// Branches and tags of a repository by the revision that they name.
pub(super) type References = BTreeMap<String, Vec<String>>;

/// The branches and tags that name a revision. Those of a repository are read once, however many revisions it has.
pub(super) fn references_to(
    build: &mut Build<'_>,
    repository: &[u8],
    revision: &str,
) -> Vec<String> {
    if !build.references.contains_key(repository) {
        let read = read_references(build, repository);
        build.references.insert(repository.to_vec(), read);
    }
    let known = build.references.get(repository);
    known
        .and_then(|references| references.get(revision))
        .cloned()
        .unwrap_or_default()
}

fn read_references(build: &mut Build<'_>, repository: &[u8]) -> References {
    let top = join(repository, b"refs");
    let mut references = References::new();
    for directory in build.entries.directories_from(&top) {
        let path = build.entries.directory_path(directory);
        if path != top && !is_below(path, &top) {
            continue;
        }
        let prefix = path[top.len()..]
            .strip_prefix(b"/")
            .unwrap_or_default()
            .to_vec();
        for entry in build.in_directory(directory) {
            let Some(real) = build.entries.real(entry) else {
                continue;
            };
            let facts = build.facts(real, Format::Ref);
            if let Ok(Facts::Ref(to)) = facts.as_deref() {
                let name = shown(&join(&prefix, build.entries.name(entry)));
                references.entry(to.to_string()).or_default().push(name);
            }
        }
    }
    references
}

/// A revision, and the branches and tags that name it.
struct Revision {
    name: String,
    references: Vec<String>,
}

impl Revision {
    fn is_main(&self) -> bool {
        self.references.iter().any(|reference| reference == "main")
    }
}

/// A model, and the revisions that have it.
struct Shared {
    draft: Draft,
    revisions: Vec<Revision>,
}

/// GGUF models of hub repositories by repository and name. Revisions link to the same blobs where they have the same
/// files: those are one model.
#[derive(Default)]
pub(super) struct Snapshots {
    found: BTreeMap<(Vec<u8>, String), Vec<Shared>>,
    /// References of each revision.
    revisions: BTreeMap<(Vec<u8>, String), Vec<String>>,
}

impl Snapshots {
    /// Takes a model of a revision of the repository at this path.
    pub(super) fn add(
        &mut self,
        build: &mut Build<'_>,
        repository: &[u8],
        revision: &[u8],
        draft: Draft,
    ) {
        let name = shown(revision);
        let key = (repository.to_vec(), name.clone());
        let references = self
            .revisions
            .entry(key)
            .or_insert_with(|| references_to(build, repository, &name))
            .clone();
        let revision = Revision { name, references };
        let of_name = (repository.to_vec(), draft.name.clone());
        let models = self.found.entry(of_name).or_default();
        let files = files_of(&draft);
        let same = |known: &&mut Shared| files_of(&known.draft) == files;
        match models.iter_mut().find(same) {
            Some(known) => known.revisions.push(revision),
            None => models.push(Shared {
                draft,
                revisions: vec![revision],
            }),
        }
    }

    /// Gives the models their names: what a bare one means is the main revision, or all where none is known for it.
    pub(super) fn finish(self, build: &mut Build<'_>) {
        let is_main = |(_, references): (&(Vec<u8>, String), &Vec<String>)| {
            references.iter().any(|reference| reference == "main")
        };
        let with_main: BTreeSet<Vec<u8>> = self
            .revisions
            .iter()
            .filter(|revision| is_main(*revision))
            .map(|((repository, _), _)| repository.clone())
            .collect();
        for ((repository, _), models) in self.found {
            let base = repository.rsplit(|byte| *byte == b'/').next();
            let Some(hub) = base.and_then(hub_name) else {
                continue;
            };
            let hub = shown(hub.as_bytes());
            let has_main = with_main.contains(&repository);
            let is_only = models.len() == 1;
            for Shared {
                mut draft,
                revisions,
            } in models
            {
                let is_main = revisions.iter().any(Revision::is_main);
                name(&mut draft, &hub, &revisions, is_main || !has_main);
                let first = revisions.first().filter(|_| !is_main);
                let exact = first.map(|first| format!("{}@{}", draft.name, first.name));
                draft.place = join(
                    &repository,
                    exact.as_ref().unwrap_or(&draft.name).as_bytes(),
                );
                if let Some(exact) = exact.filter(|_| !is_only) {
                    draft.name = exact;
                }
                build.add(draft);
            }
        }
    }
}

/// The files of a model, in an order of their own.
fn files_of(draft: &Draft) -> Vec<u32> {
    let mut files: Vec<u32> = draft
        .members
        .iter()
        .map(|Member { entry, .. }| *entry)
        .collect();
    files.sort_unstable();
    files
}

fn name(draft: &mut Draft, hub: &str, revisions: &[Revision], is_bare: bool) {
    for revision in revisions {
        let names = std::iter::once(&revision.name).chain(&revision.references);
        draft
            .aliases
            .extend(names.map(|name| format!("{hub}@{name}")));
    }
    if is_bare {
        draft.aliases.push(hub.to_owned());
        let quantisation = draft.details.quantisation.as_deref();
        let alias = quantisation.map(|kind| format!("{hub}:{kind}"));
        draft.aliases.extend(alias);
    }
}

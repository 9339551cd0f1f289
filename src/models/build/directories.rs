//! Directories as Hugging Face lays them out, plain ones and revisions in a hub cache.
//!
//! Of a directory only what engines load belongs to the model: where the same weights are stored
//! twice (`consolidated.safetensors`, `original/`, `pytorch_model.bin`), one set of them counts.

use super::Build;
use crate::models::catalog::{Draft, Member, shown};
use crate::models::entries::{join, split_path};
use crate::models::facts::{Facts, Format};
use crate::models::gguf::{split_name, split_number};
use crate::models::huggingface::{SHARDS_MAX, hub_name};
use crate::models::model::{Kind, Role};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// A file that is no known weight file and larger than this many bytes is not needed to load.
const EXTRA_BYTES_MAX: u64 = 64 << 20;

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

/// `.../models--ORG--NAME/snapshots/REVISION/...` -> the repository's path and the revision.
fn revision_of(path: &[u8]) -> Option<(&[u8], &[u8])> {
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

fn is_below(path: &[u8], directory: &[u8]) -> bool {
    directory.is_empty()
        || path
            .strip_prefix(directory)
            .is_some_and(|rest| rest.starts_with(b"/"))
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
    let mut draft = Draft::new(plain_name(path), Kind::HuggingFace);
    if listing.add_weights(build, &mut draft) {
        listing.add_extras(build, &mut draft);
        build.add(draft);
    }
}

/// A pipeline of several networks (diffusers): one model, all its directories.
fn add_pipeline(build: &mut Build<'_>, top: u32, path: &[u8]) {
    let mut draft = Draft::new(plain_name(path), Kind::HuggingFace);
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
    let mut draft = Draft::new(
        if bare { name.clone() } else { exact.clone() },
        Kind::HubRevision,
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
    let is_pipeline = listings
        .iter()
        .any(|listing| listing.files.contains_key("model_index.json"));
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

/// The branches and tags that name a revision.
fn references_to(build: &mut Build<'_>, repository: &[u8], revision: &str) -> Vec<String> {
    let top = join(repository, b"refs");
    let mut names = Vec::new();
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
            if matches!(facts.as_deref(), Ok(Facts::Ref(to)) if **to == *revision) {
                names.push(shown(&join(&prefix, build.entries.name(entry))));
            }
        }
    }
    names
}

/// The files of one directory by name; `None` for a link that leads to no file.
struct Listing {
    directory: Vec<u8>,
    prefix: Vec<u8>,
    files: BTreeMap<String, Option<u32>>,
}

impl Listing {
    fn new(build: &Build<'_>, directory: u32, prefix: &[u8]) -> Self {
        let file = |entry: &u32| {
            let name = String::from_utf8_lossy(build.entries.name(*entry)).into_owned();
            (name, build.entries.real(*entry))
        };
        Self {
            directory: build.entries.directory_path(directory).to_vec(),
            prefix: prefix.to_vec(),
            files: build
                .by_directory
                .entries(directory)
                .iter()
                .map(file)
                .collect(),
        }
    }

    fn has_config(&self) -> bool {
        let names = ["config.json", "adapter_config.json", "params.json"];
        names.iter().any(|name| self.files.contains_key(*name))
    }

    fn has_gguf(&self) -> bool {
        self.files
            .keys()
            .any(|name| split_name(name.as_bytes()).is_some())
    }

    fn missing_name(&self, name: &str) -> String {
        shown(&join(&self.prefix, name.as_bytes()))
    }

    /// Adds the weights that engines would load; whether there are any.
    fn add_weights(&self, build: &mut Build<'_>, draft: &mut Draft) -> bool {
        let before = (draft.members.len(), draft.missing.len());
        for (index_ending, ending) in [
            (".safetensors.index.json", ".safetensors"),
            (".bin.index.json", ".bin"),
            (".none", ".pth"),
        ] {
            self.add_format(build, draft, index_ending, ending);
            if before != (draft.members.len(), draft.missing.len()) {
                break;
            }
        }
        self.add_config(build, draft);
        draft.members[before.0..]
            .iter()
            .any(|member| member.role.is_tensors())
            || draft.missing.len() > before.1
    }

    fn add_format(
        &self,
        build: &mut Build<'_>,
        draft: &mut Draft,
        index_ending: &str,
        ending: &str,
    ) {
        let mut listed: BTreeSet<Box<str>> = BTreeSet::new();
        for (name, entry) in self
            .files
            .iter()
            .filter(|(name, _)| name.ends_with(index_ending))
        {
            let Some(entry) = *entry else {
                draft.miss(|| self.missing_name(name));
                continue;
            };
            draft.members.push(Member {
                entry,
                role: Role::Manifest,
            });
            match build.facts(entry, Format::Index).as_deref() {
                Ok(Facts::Index(index)) => listed.extend(index.shards.iter().cloned()),
                Ok(_) => {}
                Err(problem) => draft
                    .faults
                    .push(format!("{}: {problem}", self.missing_name(name))),
            }
        }
        if listed.is_empty() {
            listed = self.weights_by_name(ending);
        }
        let mut parameters = Some(0_u64);
        for name in &listed {
            let Some(entry) = self.locate(build, name) else {
                draft.miss(|| self.missing_name(name));
                parameters = None;
                continue;
            };
            let is_adapter = name.starts_with("adapter_model");
            let role = if is_adapter {
                Role::Adapter
            } else {
                Role::Weights
            };
            draft.members.push(Member { entry, role });
            let weights = (ending == ".safetensors")
                .then(|| self.read_shard(build, name, entry, draft))
                .flatten();
            parameters = parameters
                .zip(weights)
                .and_then(|(sum, more)| sum.checked_add(more));
        }
        let known = parameters.filter(|_| !listed.is_empty());
        // A pipeline has as many weights as its networks together.
        draft.details.parameters = match (draft.details.parameters, known) {
            (Some(sum), Some(more)) => sum.checked_add(more),
            (sum, more) => sum.or(more),
        };
    }

    /// Shards may lie in directories below; most do not.
    fn locate(&self, build: &Build<'_>, name: &str) -> Option<u32> {
        match self.files.get(name) {
            Some(entry) => *entry,
            None => build
                .entries
                .lookup(&join(&self.directory, name.as_bytes())),
        }
    }

    /// Weights of one format, found by their names, with the shards that the numbering promises.
    fn weights_by_name(&self, ending: &str) -> BTreeSet<Box<str>> {
        let is_weights = |name: &&String| match ending {
            ".bin" => name.starts_with("pytorch_model") || name.starts_with("adapter_model"),
            _ => true,
        };
        let all: Vec<&String> = self
            .files
            .keys()
            .filter(|name| name.ends_with(ending))
            .filter(is_weights)
            .collect();
        let is_copy = |name: &str| name.starts_with("consolidated");
        let has_other = all.iter().any(|name| !is_copy(name));
        let mut names = BTreeSet::new();
        for name in all.into_iter().filter(|name| !(has_other && is_copy(name))) {
            names.insert(name.as_str().into());
            let stem = name.strip_suffix(ending).unwrap_or(name);
            if let Some((stem, _, count)) = split_number(stem.as_bytes()) {
                let stem = String::from_utf8_lossy(stem);
                // A count comes from a name: what it promises is listed up to a limit.
                let promised = (1..=count).take(SHARDS_MAX.saturating_sub(names.len()));
                names.extend(
                    promised.map(|n| format!("{stem}-{n:05}-of-{count:05}{ending}").into()),
                );
            }
        }
        names
    }

    fn read_shard(
        &self,
        build: &mut Build<'_>,
        name: &str,
        entry: u32,
        draft: &mut Draft,
    ) -> Option<u64> {
        // A sum over shards of a cold home is not worth a read of each.
        if build.entries.is_cold(entry) {
            return None;
        }
        match build.facts(entry, Format::Safetensors).as_deref() {
            Ok(Facts::Safetensors(header)) => {
                if header.truncated {
                    let name = self.missing_name(name);
                    draft
                        .faults
                        .push(format!("{name} ends before its last tensor"));
                }
                let kind = &mut draft.details.quantisation;
                *kind = kind.take().or(header.dtype.map(str::to_owned));
                Some(header.parameters)
            }
            Ok(_) => None,
            Err(problem) => {
                draft
                    .faults
                    .push(format!("{}: {problem}", self.missing_name(name)));
                None
            }
        }
    }

    fn add_config(&self, build: &mut Build<'_>, draft: &mut Draft) {
        let Some(Some(entry)) = self.files.get("config.json") else {
            return;
        };
        match build.facts(*entry, Format::HfConfig).as_deref() {
            Ok(Facts::HfConfig(config)) => {
                let details = &mut draft.details;
                let text = |text: &Option<Box<str>>| text.as_deref().map(str::to_owned);
                let dtype = config.dtype.as_deref().map(short_dtype);
                let kind = text(&config.quantisation).or_else(|| dtype.map(str::to_owned));
                details.architecture = details.architecture.take().or(text(&config.architecture));
                details.quantisation = kind.or(details.quantisation.take());
                details.context = details.context.or(config.context);
            }
            Ok(_) => {}
            Err(problem) => {
                draft
                    .faults
                    .push(format!("{}: {problem}", self.missing_name("config.json")));
            }
        }
    }

    /// Adds what belongs to the model beside its weights.
    fn add_extras(&self, build: &Build<'_>, draft: &mut Draft) {
        for (name, entry) in &self.files {
            let is_weights = WEIGHTS.iter().any(|ending| name.ends_with(ending));
            match entry {
                Some(entry) if !is_weights && build.entries.size(*entry) <= EXTRA_BYTES_MAX => {
                    draft.members.push(Member {
                        entry: *entry,
                        role: role_of(name),
                    });
                }
                None if role_of(name) != Role::Other => {
                    draft.miss(|| self.missing_name(name));
                }
                _ => {}
            }
        }
    }
}

/// Endings of weights; of these only the set that was chosen belongs to the model.
const WEIGHTS: [&str; 11] = [
    ".safetensors",
    ".gguf",
    ".bin",
    ".pth",
    ".pt",
    ".ckpt",
    ".h5",
    ".msgpack",
    ".onnx",
    ".onnx_data",
    ".npz",
];

/// The types of torch by the names that safetensors and GGUF use.
fn short_dtype(dtype: &str) -> &str {
    match dtype {
        "bfloat16" => "BF16",
        "float16" => "F16",
        "float32" => "F32",
        other => other,
    }
}

fn role_of(name: &str) -> Role {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    if name.ends_with(".index.json") {
        Role::Manifest
    } else if starts(&[
        "tokenizer",
        "vocab",
        "merges",
        "special_tokens",
        "added_tokens",
        "spiece",
    ]) || name.ends_with(".model")
        || name.ends_with(".tiktoken")
    {
        Role::Tokenizer
    } else if name.ends_with("config.json") || matches!(name, "params.json" | "model_index.json") {
        Role::Config
    } else {
        Role::Other
    }
}

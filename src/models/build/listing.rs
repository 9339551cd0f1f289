//! The files of one directory, sorted out: weights, index, configuration, tokenizer, the rest.
//!
//! Only what engines load belongs to the model: where the same weights are stored twice
//! (`consolidated.safetensors`, `original/`, `pytorch_model.bin`), one set of them counts.

use super::Build;
use crate::models::catalog::{Draft, Member, shown};
use crate::models::entries::join;
use crate::models::facts::{Facts, Format};
use crate::models::gguf::{split_name, split_number};
use crate::models::huggingface::SHARDS_MAX;
use crate::models::model::Role;
use std::collections::{BTreeMap, BTreeSet};

/// A file that is no known weight file and larger than this many bytes is not needed to load.
const EXTRA_BYTES_MAX: u64 = 64 << 20;

/// The files of one directory by name; `None` for a link that leads to no file.
pub(super) struct Listing {
    directory: Vec<u8>,
    prefix: Vec<u8>,
    files: BTreeMap<String, Option<u32>>,
}

impl Listing {
    pub(super) fn new(build: &Build<'_>, directory: u32, prefix: &[u8]) -> Self {
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

    pub(super) fn has_config(&self) -> bool {
        let names = ["config.json", "adapter_config.json", "params.json"];
        names.iter().any(|name| self.files.contains_key(*name))
    }

    pub(super) fn has_gguf(&self) -> bool {
        self.files
            .keys()
            .any(|name| split_name(name.as_bytes()).is_some())
    }

    pub(super) fn is_pipeline(&self) -> bool {
        self.files.contains_key("model_index.json")
    }

    fn missing_name(&self, name: &str) -> String {
        shown(&join(&self.prefix, name.as_bytes()))
    }

    /// Adds the weights that engines would load; whether there are any.
    pub(super) fn add_weights(&self, build: &mut Build<'_>, draft: &mut Draft) -> bool {
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
    pub(super) fn add_extras(&self, build: &Build<'_>, draft: &mut Draft) {
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

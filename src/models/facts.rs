//! What was read from files, kept once: most models of a tree share their facts with others.
//!
//! Facts stay true while a file keeps its identity, size and time. What could not be *read* is
//! not kept; what was read and is *wrong* is, so that a bad file is not read again and again.

use super::entries::{Entries, NONE};
use super::format::{FormatError, ReadError, Source};
use super::gguf::{self, Depth, GgufFacts};
use super::huggingface::{self, ConfigFacts, FetchedFacts, IndexFacts};
use super::ollama::{self, BlobConfigFacts, ManifestFacts};
use super::safetensors::{self, SafetensorsFacts};
use super::tree::Tree;
use std::collections::HashMap;
use std::sync::Arc;

/// As what a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Format {
    Gguf,
    Safetensors,
    HfConfig,
    Index,
    Fetched,
    Ref,
    Manifest,
    BlobConfig,
}

/// What a file told.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) enum Facts {
    Gguf(GgufFacts),
    Safetensors(SafetensorsFacts),
    HfConfig(ConfigFacts),
    Index(IndexFacts),
    Fetched(FetchedFacts),
    Ref(Box<str>),
    Manifest(ManifestFacts),
    BlobConfig(BlobConfigFacts),
    Wrong(Format, Box<str>),
}

impl Facts {
    fn listed(&self) -> usize {
        match self {
            Self::Manifest(manifest) => manifest.layers.len(),
            Self::Index(index) => index.shards.len(),
            _ => 0,
        }
    }

    fn format(&self) -> Format {
        match self {
            Self::Gguf(_) => Format::Gguf,
            Self::Safetensors(_) => Format::Safetensors,
            Self::HfConfig(_) => Format::HfConfig,
            Self::Index(_) => Format::Index,
            Self::Fetched(_) => Format::Fetched,
            Self::Ref(_) => Format::Ref,
            Self::Manifest(_) => Format::Manifest,
            Self::BlobConfig(_) => Format::BlobConfig,
            Self::Wrong(format, _) => *format,
        }
    }
}

/// Blobs and shards that the manifests and indexes of a tree may name together: 48 MiB of memory
/// at most, of which a real tree needs a hundredth.
const LISTED_MAX: usize = 1 << 20;

/// All facts of a catalog; an entry holds a position in it.
#[derive(Debug, Default)]
pub(crate) struct FactTable {
    facts: Vec<Arc<Facts>>,
}

impl FactTable {
    pub(crate) fn get(&self, position: u32) -> Option<&Arc<Facts>> {
        self.facts.get(position as usize)
    }
}

/// Reads files as facts, each at most once, and never again one that the previous catalog read.
pub(crate) struct Reader<'a> {
    tree: &'a dyn Tree,
    /// What lists of blobs and shards may still take, in list elements of all files together.
    listed_left: usize,
    previous: Option<(&'a Entries, &'a FactTable)>,
    known: HashMap<Arc<Facts>, u32>,
    table: FactTable,
    /// Headers and documents that were read, for tests and for what a build reports.
    pub(crate) reads: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(tree: &'a dyn Tree, previous: Option<(&'a Entries, &'a FactTable)>) -> Self {
        Self {
            tree,
            listed_left: LISTED_MAX,
            previous,
            known: HashMap::new(),
            table: FactTable::default(),
            reads: 0,
        }
    }

    pub(crate) fn into_table(mut self) -> FactTable {
        self.table.facts.shrink_to_fit();
        self.table
    }

    /// The facts of the regular file `index`, or a sentence about why there are none.
    pub(crate) fn facts(
        &mut self,
        entries: &mut Entries,
        index: u32,
        format: Format,
    ) -> Result<Arc<Facts>, String> {
        let held = self.table.get(entries.facts_of_links(index)).cloned();
        let facts = match held.or_else(|| self.unchanged(entries, index)) {
            Some(facts) if facts.format() == format => facts,
            _ => self.read(entries, index, format)?,
        };
        let Some(position) = self.intern(&facts) else {
            return Err("all lists of files together are too long to keep".to_owned());
        };
        entries.set_facts(index, position);
        match &*facts {
            Facts::Wrong(_, problem) => Err(problem.to_string()),
            _ => Ok(facts),
        }
    }

    fn unchanged(&self, entries: &Entries, index: u32) -> Option<Arc<Facts>> {
        let (older, table) = self.previous?;
        table
            .get(older.facts_of_unchanged(entries, index)?)
            .cloned()
    }

    fn intern(&mut self, facts: &Arc<Facts>) -> Option<u32> {
        if let Some(position) = self.known.get(facts) {
            return Some(*position);
        }
        self.listed_left = self.listed_left.checked_sub(facts.listed())?;
        let position = u32::try_from(self.table.facts.len()).unwrap_or(NONE);
        self.table.facts.push(Arc::clone(facts));
        self.known.insert(Arc::clone(facts), position);
        Some(position)
    }

    fn read(
        &mut self,
        entries: &Entries,
        index: u32,
        format: Format,
    ) -> Result<Arc<Facts>, String> {
        self.reads += 1;
        let path = entries.path(index);
        let tree = self.tree;
        let mut read = |offset, len| tree.read(&path, offset, len);
        let mut source = Source {
            size: entries.size(index),
            read: &mut read,
        };
        let depth = if entries.is_cold(index) {
            Depth::Quick
        } else {
            Depth::Full
        };
        match parse(&mut source, format, depth) {
            Ok(facts) => Ok(Arc::new(facts)),
            Err(ReadError::Format(error)) => Ok(Arc::new(Facts::Wrong(
                format,
                error.to_string().into_boxed_str(),
            ))),
            Err(ReadError::Io(error)) => Err(format!("cannot be read: {error}")),
        }
    }
}

fn parse(source: &mut Source<'_>, format: Format, depth: Depth) -> Result<Facts, ReadError> {
    let mut whole = |name, limit_bytes| source.whole(name, limit_bytes);
    let parsed = |facts: Result<Facts, FormatError>| facts.map_err(ReadError::from);
    match format {
        Format::Gguf => gguf::read(source, depth).map(Facts::Gguf),
        Format::Safetensors => safetensors::read(source).map(Facts::Safetensors),
        Format::HfConfig => {
            let bytes = whole("config.json", huggingface::CONFIG_BYTES_MAX)?;
            parsed(huggingface::read_config(&bytes).map(Facts::HfConfig))
        }
        Format::Index => {
            let bytes = whole("shard index", huggingface::INDEX_BYTES_MAX)?;
            parsed(huggingface::read_index(&bytes).map(Facts::Index))
        }
        Format::Fetched => {
            let bytes = whole("llama.cpp manifest", huggingface::CONFIG_BYTES_MAX)?;
            parsed(huggingface::read_fetched(&bytes).map(Facts::Fetched))
        }
        Format::Ref => parsed(huggingface::read_ref(&whole("hub ref", 4_096)?).map(Facts::Ref)),
        Format::Manifest => {
            let bytes = whole("Ollama manifest", ollama::MANIFEST_BYTES_MAX)?;
            parsed(ollama::read_manifest(&bytes).map(Facts::Manifest))
        }
        Format::BlobConfig => {
            let bytes = whole("Ollama configuration", ollama::CONFIG_BYTES_MAX)?;
            parsed(ollama::read_config(&bytes).map(Facts::BlobConfig))
        }
    }
}

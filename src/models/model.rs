//! The words that the rest of the program speaks about models in.
//!
//! Plain values: nothing here reads, searches or decides.

/// Position of a model in one [`Catalog`](super::Catalog); means nothing in another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelIndex(pub u32);

/// What a query was resolved to; valid for the catalog that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ModelRef {
    /// A model of the catalog.
    Model(ModelIndex),
    /// A single file that was asked for by its path.
    File(FileIndex),
}

/// Position of a file in one [`Catalog`](super::Catalog).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileIndex(pub(super) u32);

/// How a model is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A tag of an Ollama store.
    Ollama,
    /// A GGUF file or set of splits.
    Gguf,
    /// A directory as Hugging Face lays it out.
    HuggingFace,
    /// A revision in a hub cache.
    HubRevision,
    /// Any file, asked for by its path.
    File,
}

impl Kind {
    /// The word for it in listings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ollama => "ollama",
            Self::Gguf => "gguf",
            Self::HuggingFace => "huggingface",
            Self::HubRevision => "hub",
            Self::File => "file",
        }
    }
}

/// What a file is for in its model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Holds tensors of the model.
    Weights,
    /// Tensors that project images or sound into the model.
    Projector,
    /// Tensors that adapt another model.
    Adapter,
    /// Lists the other files: a manifest or an index of shards.
    Manifest,
    /// Describes the model.
    Config,
    /// Vocabulary and merges.
    Tokenizer,
    /// Anything else that belongs to it.
    Other,
}

impl Role {
    /// Whether an engine that reads such a file loads the model, rather than looks at it.
    pub fn is_tensors(self) -> bool {
        matches!(self, Self::Weights | Self::Projector | Self::Adapter)
    }
}

/// One file of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFile {
    /// Identity, as the tree gave it.
    pub file: u64,
    /// Path of the regular file in the tree (the blob, where names are symbolic links to it).
    pub path: Vec<u8>,
    /// Bytes.
    pub size: u64,
    /// What it is for.
    pub role: Role,
}

/// What is worth showing about a model, as far as its files tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Details {
    /// For example `llama`.
    pub architecture: Option<String>,
    /// For example `Q4_K_M` or `bfloat16`.
    pub quantisation: Option<String>,
    /// Number of weights.
    pub parameters: Option<u64>,
    /// Longest context in tokens.
    pub context: Option<u64>,
}

/// A model: the unit that people promote, demote and pin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// As people know it; unique in its catalog.
    pub name: String,
    /// How it is stored.
    pub kind: Kind,
    /// Its files, each once.
    pub files: Vec<ModelFile>,
    /// What its headers and configuration tell.
    pub details: Details,
    /// Names of files that should be there and are not.
    pub missing: Vec<String>,
    /// What is wrong with files that are there, one sentence each.
    pub faults: Vec<String>,
}

impl Model {
    /// Bytes of all its files.
    pub fn size_bytes(&self) -> u64 {
        self.files
            .iter()
            .fold(0, |sum, file| sum.saturating_add(file.size))
    }
}

//! The first configuration: what was found on this machine, what is proposed, and how it is used then.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::FaultView;
use super::human::{count, size};
use super::table::{Style, Tone};

/// Whose layout a store has.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum StoreKind {
    /// Ollama's manifests and blobs.
    Ollama,
    /// The hub cache of Hugging Face's libraries.
    HuggingFace,
    /// LM Studio's `PUBLISHER/MODEL/FILE.gguf`.
    LmStudio,
    /// What llama.cpp fetched.
    LlamaCpp,
    /// Any other directory.
    #[default]
    Directory,
}

impl StoreKind {
    /// As people call it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Ollama => "Ollama",
            Self::HuggingFace => "Hugging Face",
            Self::LmStudio => "LM Studio",
            Self::LlamaCpp => "llama.cpp",
            Self::Directory => "directory",
        }
    }
}

/// A directory in which models may be.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct StoreView {
    /// Where it is, links resolved.
    pub path: String,
    /// Whose layout it has.
    pub kind: StoreKind,
    /// What led there: a variable, a file, or that it is where engines keep their models.
    pub found_by: String,
    /// How many models are in it.
    pub models: u64,
    /// Bytes of all its files.
    pub bytes: u64,
    /// Names of some of the models.
    pub names: Vec<String>,
    /// Whether it was looked through to the end; else the figures are the least there is.
    pub complete: bool,
    /// What the directory lies on, for example `ext4`; empty if that is not known.
    pub file_system: String,
    /// The directory above it that others than its owner and group may not enter, if there is one: through a mount for
    /// everybody they could.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub barrier: Option<String>,
    /// Why it cannot be used, if it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// What to do about that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// A file system that could hold models.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct FileSystemView {
    /// Where it is mounted.
    pub mount_point: String,
    /// Its type, for example `ext4`.
    pub kind: String,
    /// Bytes in all.
    pub total_bytes: u64,
    /// Bytes that an ordinary user may still take.
    pub free_bytes: u64,
}

/// What a person decides.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetupChoices {
    /// The writable directory of models.
    pub models_dir: String,
    /// Directories that are only read.
    pub cold: Vec<String>,
    /// Where the models will be seen.
    pub mountpoint: String,
    /// Size of the pool in bytes.
    pub pool_bytes: u64,
    /// Memory that is left to everybody else, in bytes.
    pub reserve_bytes: u64,
}

/// A line that points an engine at the mount.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct UseView {
    /// Whose line it is.
    pub engine: String,
    /// The line.
    pub line: String,
}

/// How far the set-up is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SetupState {
    /// Nothing was written.
    #[default]
    Proposed,
    /// The configuration was written.
    Written,
}

/// What was found, and what is proposed.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct SetupView {
    /// How far it is.
    pub state: SetupState,
    /// Where the configuration is written to.
    pub config_path: String,
    /// Memory of this machine, or of the control group we are in, in bytes.
    pub memory_bytes: u64,
    /// What programs use of it now, in bytes.
    pub used_bytes: u64,
    /// File systems that could hold models, the one with most room first.
    pub file_systems: Vec<FileSystemView>,
    /// Directories in which models may be.
    pub stores: Vec<StoreView>,
    /// What is chosen, or proposed.
    pub choices: SetupChoices,
    /// The configuration that follows from it.
    pub toml: String,
    /// What is wrong with it; it is not written while anything is.
    pub faults: Vec<FaultView>,
    /// What is worth knowing before it is written.
    pub remarks: Vec<String>,
    /// How engines are pointed at the mount.
    pub uses: Vec<UseView>,
    /// Why the mount could not be made of what was written last, if it could not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

impl SetupView {
    pub(super) fn text(&self, style: Style) -> String {
        let mut text = style.heading("Models found") + "\n";
        if self.stores.is_empty() {
            text += "  none; name directories with --directory\n";
        }
        for store in &self.stores {
            text += &format!("  {}\n    {}\n", store.path, store_line(store));
            if let Some(problem) = &store.problem {
                text += &format!("    {}", style.paint(problem, Tone::Warning));
                text += &store
                    .remedy
                    .as_ref()
                    .map_or("\n".to_owned(), |remedy| format!("; {remedy}\n"));
            }
        }
        text += &format!(
            "\n{}\n  {} in all, {} used by programs now\n",
            style.heading("Memory"),
            size(self.memory_bytes),
            size(self.used_bytes)
        );
        text += &format!("\n{}\n", style.heading("File systems"));
        for found in &self.file_systems {
            text += &format!(
                "  {} ({}): {} free of {}\n",
                found.mount_point,
                found.kind,
                size(found.free_bytes),
                size(found.total_bytes)
            );
        }
        if !self.toml.is_empty() {
            text += &format!("\n{}\n\n{}", style.heading(&self.config_path), self.toml);
        }
        for fault in &self.faults {
            text += &format!("{} {}\n", style.paint("fault:", Tone::Bad), fault.text);
        }
        for remark in &self.remarks {
            text += &format!("note: {remark}\n");
        }
        text
    }
}

fn store_line(store: &StoreView) -> String {
    let least = if store.complete { "" } else { "at least " };
    let on = match store.file_system.as_str() {
        "" => String::new(),
        file_system => format!(", on {file_system}"),
    };
    format!(
        "{}: {least}{} model{}, {}{on}; {}",
        store.kind.text(),
        count(store.models),
        if store.models == 1 { "" } else { "s" },
        size(store.bytes),
        store.found_by
    )
}

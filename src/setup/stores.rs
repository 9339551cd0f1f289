//! Where engines keep their models, and what is there.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use speedloader_fs::mount_table;

use super::disks;
use super::surroundings::{Surroundings, as_text};
use super::walk::{Limits, Walked};
use crate::machine::barrier_above;
use crate::models::Catalog;
use crate::view::human;
use crate::view::{StoreKind, StoreView};

/// How long after their time threads that look are waited for: one look at a slow disk.
const GRACE: Duration = Duration::from_millis(500);
/// What led to a store, where that decides what is proposed.
const BY_PERSON: &str = "you named it";
const BY_UNIT: &str = "Ollama's systemd unit";
const BY_SYSTEM: &str = "where models often are";
/// Names of models that are told of each store.
const NAMES_MAX: usize = 6;
/// Places that are looked at.
const CANDIDATES_MAX: usize = 256;

/// A place where models may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    path: PathBuf,
    kind: StoreKind,
    found_by: String,
    /// Somebody named it: that it is not there is worth telling.
    is_named: bool,
}

/// Every place that is worth a look, `directories` that a person named first.
pub(super) fn candidates(around: &Surroundings, directories: &[PathBuf]) -> Vec<Candidate> {
    let mut all = Vec::new();
    let mut add = |path: PathBuf, kind, found_by: &str, is_named| {
        let found_by = found_by.to_owned();
        all.push(Candidate {
            path,
            kind,
            found_by,
            is_named,
        });
    };
    for directory in directories {
        add(directory.clone(), StoreKind::Directory, BY_PERSON, true);
    }
    for (name, below, kind) in VARIABLES {
        if let Some(path) = around.path_variable(name) {
            add(
                path.join(below),
                kind,
                &format!("the variable {name}"),
                true,
            );
        }
    }
    for unit in OLLAMA_UNITS {
        for path in ollama_of_unit(around, Path::new(unit)) {
            add(path, StoreKind::Ollama, BY_UNIT, true);
        }
    }
    for home in around.homes() {
        for path in lm_studio_of(around, &home) {
            add(path, StoreKind::LmStudio, "LM Studio's settings", true);
        }
        for (below, kind) in IN_HOMES {
            add(
                home.join(below),
                kind,
                "where it keeps models by itself",
                false,
            );
        }
    }
    for (path, kind) in IN_SYSTEM {
        add(around.system(path), kind, BY_SYSTEM, false);
    }
    all.truncate(CANDIDATES_MAX);
    all
}

/// Whether a person named it, so that it is wanted whoever will see it.
pub(super) fn is_named(store: &StoreView) -> bool {
    store.found_by == BY_PERSON
}

/// Whether it is the store of Ollama's service, whose user pulls models through the mount.
pub(super) fn is_of_service(store: &StoreView) -> bool {
    let found_by = store.found_by.as_str();
    store.kind == StoreKind::Ollama && [BY_UNIT, BY_SYSTEM].contains(&found_by)
}

/// Variables of engines: what below them is the store.
const VARIABLES: [(&str, &str, StoreKind); 6] = [
    ("OLLAMA_MODELS", "", StoreKind::Ollama),
    ("HF_HUB_CACHE", "", StoreKind::HuggingFace),
    ("HUGGINGFACE_HUB_CACHE", "", StoreKind::HuggingFace),
    ("HF_HOME", "hub", StoreKind::HuggingFace),
    ("LLAMA_CACHE", "", StoreKind::LlamaCpp),
    ("XDG_CACHE_HOME", "huggingface/hub", StoreKind::HuggingFace),
];
const IN_HOMES: [(&str, StoreKind); 6] = [
    (".ollama/models", StoreKind::Ollama),
    (".cache/huggingface/hub", StoreKind::HuggingFace),
    (".lmstudio/models", StoreKind::LmStudio),
    (".cache/lm-studio/models", StoreKind::LmStudio),
    (".cache/llama.cpp", StoreKind::LlamaCpp),
    ("models", StoreKind::Directory),
];
const IN_SYSTEM: [(&str, StoreKind); 8] = [
    ("/usr/share/ollama/.ollama/models", StoreKind::Ollama),
    ("/var/lib/ollama/.ollama/models", StoreKind::Ollama),
    ("/var/lib/ollama/models", StoreKind::Ollama),
    ("/var/lib/ollama", StoreKind::Ollama),
    ("/var/snap/ollama/common/models", StoreKind::Ollama),
    ("/models", StoreKind::Directory),
    ("/srv/models", StoreKind::Directory),
    ("/data/models", StoreKind::Directory),
];
const OLLAMA_UNITS: [&str; 3] = [
    "/etc/systemd/system/ollama.service",
    "/etc/systemd/system/ollama.service.d",
    "/usr/lib/systemd/system/ollama.service",
];

/// `OLLAMA_MODELS` as a unit or its drop-ins set it.
fn ollama_of_unit(around: &Surroundings, unit: &Path) -> Vec<PathBuf> {
    const DROP_INS_MAX: usize = 32;
    let unit = around.system(unit.to_str().unwrap_or_default());
    let mut files = vec![unit.clone()];
    if let Ok(entries) = std::fs::read_dir(&unit) {
        files = entries
            .flatten()
            .map(|entry| entry.path())
            .take(DROP_INS_MAX)
            .collect();
        files.sort();
    }
    let texts = files.iter().filter_map(|file| around.read(file));
    texts
        .flat_map(|text| text.lines().filter_map(models_of_line).collect::<Vec<_>>())
        .collect()
}

/// `Environment="OLLAMA_MODELS=/srv/ollama"`, quoted or not, among others or alone.
fn models_of_line(line: &str) -> Option<PathBuf> {
    let line = line.trim().strip_prefix("Environment=")?;
    let (before, rest) = line.split_once("OLLAMA_MODELS=")?;
    // A quoted path ends at its own quote: it may have blanks.
    let end = match before
        .chars()
        .next_back()
        .filter(|c| ['"', '\''].contains(c))
    {
        Some(quote) => rest.find(quote)?,
        None => rest.find(['"', '\'', ' ']).unwrap_or(rest.len()),
    };
    let path = PathBuf::from(&rest[..end]);
    path.is_absolute().then_some(path)
}

/// The directory of downloads that LM Studio's settings name.
fn lm_studio_of(around: &Surroundings, home: &Path) -> Vec<PathBuf> {
    let of = |text: String| {
        let settings: serde_json::Value = serde_json::from_str(&text).ok()?;
        let path = PathBuf::from(settings.get("downloadsFolder")?.as_str()?);
        path.is_absolute().then_some(path)
    };
    let files = [".lmstudio/settings.json", ".cache/lm-studio/settings.json"];
    files
        .iter()
        .filter_map(|file| of(around.read(&home.join(file))?))
        .collect()
}

/// What is at the candidates, each directory once; what is not there and was not named is left out.
pub(super) fn look(around: &Surroundings, candidates: Vec<Candidate>) -> Vec<StoreView> {
    let limits = &around.limits;
    let deadline = Instant::now() + limits.time_max;
    let (sender, answers) = bounded(candidates.len());
    let mut found: Vec<Option<Look>> = Vec::new();
    for (index, candidate) in candidates.iter().enumerate() {
        let (sender, candidate, limits) = (sender.clone(), candidate.clone(), *limits);
        let top = around.root.clone();
        found.push(Some(Look::Hangs));
        // What hangs holds up nobody but this thread.
        let _ = std::thread::Builder::new()
            .name("look".to_owned())
            .spawn(move || {
                let _ = sender.send((index, look_at(&candidate, &top, &limits, deadline)));
            });
    }
    drop(sender);
    while let Ok((index, answer)) = answers.recv_deadline(deadline + GRACE) {
        found[index] = answer;
    }
    let mut stores: Vec<StoreView> = Vec::new();
    for (candidate, look) in candidates.iter().zip(found) {
        let store = match look {
            None => continue,
            Some(Look::Found(store)) => store,
            Some(Look::Hangs) => bare(
                candidate,
                &candidate.path,
                "it does not answer",
                "see whether its server is there",
            ),
        };
        if !stores.iter().any(|known| known.path == store.path) {
            stores.push(store);
        }
    }
    stores
}

enum Look {
    Found(StoreView),
    Hangs,
}

/// What is at a candidate; `top` is the root directory.
fn look_at(candidate: &Candidate, top: &Path, limits: &Limits, deadline: Instant) -> Option<Look> {
    let found = std::fs::canonicalize(&candidate.path).and_then(|path| {
        let table = mount_table::read().unwrap_or_default();
        let kind = disks::kind_at(&table, &path);
        if kind == disks::OWN {
            let why = "it is a mount of speedloader itself";
            return Ok(bare(candidate, &path, why, "name what it is made of"));
        }
        if as_text(path.as_os_str()).is_none() {
            let why = "its name cannot stand in a configuration";
            return Ok(bare(candidate, &path, why, "rename it"));
        }
        let walked = Walked::new(&path, limits, deadline)?;
        let barrier = barrier_above(&path).filter(|barrier| barrier.starts_with(top));
        Ok(StoreView {
            barrier: barrier.map(|barrier| shown(&barrier)),
            ..store_of(candidate, &path, &walked, kind)
        })
    });
    match found {
        Ok(store) => Some(Look::Found(store)),
        Err(error) if candidate.is_named || error.kind() == io::ErrorKind::PermissionDenied => {
            let why = human::printable(&format!("it cannot be read: {error}"));
            let remedy = match error.kind() {
                io::ErrorKind::PermissionDenied => "do this as root, or let your user read it",
                _ => "correct what names it",
            };
            Some(Look::Found(bare(candidate, &candidate.path, &why, remedy)))
        }
        Err(_) => None,
    }
}

fn store_of(candidate: &Candidate, path: &Path, walked: &Walked, file_system: String) -> StoreView {
    let catalog = Catalog::build(walked, None);
    let names = catalog.indices().take(NAMES_MAX);
    StoreView {
        path: shown(path),
        kind: candidate.kind,
        found_by: candidate.found_by.clone(),
        models: catalog.len() as u64,
        bytes: walked.bytes(),
        names: names.map(|index| catalog.name(index).to_owned()).collect(),
        complete: walked.is_complete,
        file_system,
        barrier: None,
        problem: None,
        remedy: None,
    }
}

fn bare(candidate: &Candidate, path: &Path, problem: &str, remedy: &str) -> StoreView {
    StoreView {
        path: shown(path),
        kind: candidate.kind,
        found_by: candidate.found_by.clone(),
        problem: Some(problem.to_owned()),
        remedy: Some(remedy.to_owned()),
        ..StoreView::default()
    }
}

/// As a configuration has it; what none can have is escaped.
fn shown(path: &Path) -> String {
    let path = path.as_os_str();
    as_text(path).map_or_else(|| human::escape(path.as_bytes()), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_units_line_tells_where_ollama_keeps_its_models() {
        let of = |line: &str| models_of_line(line).map(|path| path.display().to_string());
        for line in [
            "Environment=\"OLLAMA_MODELS=/srv/o\"",
            "  Environment=OLLAMA_MODELS=/srv/o",
            "Environment=\"A=b\" \"OLLAMA_MODELS=/srv/o\"",
            "Environment='OLLAMA_MODELS=/srv/o' C=d",
        ] {
            assert_eq!(of(line).as_deref(), Some("/srv/o"), "{line}");
        }
        for line in [
            "Environment=\"OLLAMA_MODELS=/srv/it's my o\" 'C=d'",
            "Environment=A=b \"OLLAMA_MODELS=/srv/it's my o\"",
        ] {
            assert_eq!(of(line).as_deref(), Some("/srv/it's my o"), "{line}");
        }
        for line in [
            "Environment=\"OLLAMA_MODELS=/no/end",
            "#Environment=OLLAMA_MODELS=/x",
            "Environment=OLLAMA_MODELS=x",
            "ExecStart=/o",
        ] {
            assert_eq!(of(line), None, "{line}");
        }
    }
}

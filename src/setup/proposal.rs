//! From what was found to choices, from choices to a configuration, and what is wrong with it here.
//! The size of the pool is a pure function of figures.

use std::path::{Path, PathBuf};

use rustix::fs::Access;
use speedloader_config::{Bytes, File, Sources, edit, load};

use super::stores::{is_named, is_of_service};
use super::surroundings::Surroundings;
use crate::machine::Memory;
use crate::view::human::{shell_word, size};
use crate::view::{FaultView, SetupChoices, StoreKind, StoreView, UseView};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// A smaller pool is none.
const POOL_BYTES_MIN: u64 = 64 * MIB;
/// Of more memory than this many bytes, whole GiB are proposed.
const ROUNDED_FROM: u64 = 4 * GIB;

const HEADER: &str = "\
# Written by the set-up of speedloader. What can be said here, and what it means:
# speedloader config sample

";

/// What is left to everybody else, and what a pool may have: nothing that programs use now.
pub(super) fn shares(memory: Memory) -> (u64, u64) {
    let reserve = (memory.total_bytes / 10)
        .max(2 * GIB)
        .min(memory.total_bytes / 4);
    let free = memory.available_bytes.saturating_sub(reserve);
    let pool = free.min(memory.total_bytes / 10 * 8);
    (rounded(reserve).max(MIB), rounded(pool).max(POOL_BYTES_MIN))
}

fn rounded(bytes: u64) -> u64 {
    let step = if bytes >= ROUNDED_FROM { GIB } else { 64 * MIB };
    bytes / step * step
}

/// Whether the mount will be for everybody, not for its user alone.
pub(super) fn is_shared(sources: &Sources) -> bool {
    let mut sources = sources.clone();
    sources.file = None;
    // What else may be missing says nothing of it.
    let (models, mountpoint) = ("/models".to_owned(), "/mount".to_owned());
    let missing = [
        ("models_dir".to_owned(), models),
        ("mountpoint".to_owned(), mountpoint),
    ];
    sources.options.splice(0..0, missing);
    match load(&sources) {
        Ok(config) => config.mount.allow_other,
        Err(_) => sources.account.uid == 0,
    }
}

/// Whether everybody on the machine could read it through the mount, who may not now.
fn opens_up(store: &StoreView, is_shared: bool) -> bool {
    is_shared && store.barrier.is_some()
}

/// What is proposed: everything found is only read, and what is new goes into a directory of its own.
pub(super) fn propose(
    around: &Surroundings,
    stores: &[StoreView],
    memory: Memory,
    options: &[(String, String)],
    is_shared: bool,
) -> SetupChoices {
    let option = |name: &str| {
        let found = options.iter().rev().find(|(key, _)| key == name);
        found.map(|(_, value)| value.clone())
    };
    let models_dir = option("models_dir").unwrap_or_else(|| match around.account.uid {
        0 => text(&around.system("/var/lib/speedloader/models")),
        _ => text(
            &around
                .own("XDG_DATA_HOME", ".local/share")
                .join("speedloader/models"),
        ),
    });
    let mountpoint = option("mountpoint").unwrap_or_else(|| text(&free_mountpoint(around)));
    let taken = [models_dir.as_str(), mountpoint.as_str()];
    let mut cold: Vec<String> = Vec::new();
    let wanted = stores
        .iter()
        .filter(|store| !of_the_system(Path::new(&store.path)))
        .filter(|store| is_named(store) || !opens_up(store, is_shared));
    let mut wanted: Vec<&StoreView> = wanted.collect();
    // What several homes have is shown as the first one's: its engine shall be able to write there.
    wanted.sort_by_key(|store| !is_of_service(store));
    for store in wanted {
        let meets = |other: &str| overlaps(&store.path, other);
        let is_alone = !taken.iter().any(|one| meets(one)) && !cold.iter().any(|one| meets(one));
        if store.models > 0 && store.problem.is_none() && is_alone {
            cold.push(store.path.clone());
        }
    }
    let (reserve_bytes, pool_bytes) = shares(memory);
    SetupChoices {
        models_dir,
        cold,
        mountpoint,
        pool_bytes,
        reserve_bytes,
    }
}

fn overlaps(one: &str, other: &str) -> bool {
    let (one, other) = (Path::new(one), Path::new(other));
    one.starts_with(other) || other.starts_with(one)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn free_mountpoint(around: &Surroundings) -> PathBuf {
    let places = match around.account.uid {
        0 => {
            ["/mnt/models", "/mnt/speedloader", "/srv/speedloader"].map(|path| around.system(path))
        }
        _ => {
            let home = around
                .account
                .home
                .clone()
                .unwrap_or_else(|| PathBuf::from("/tmp"));
            ["models-in-ram", "speedloader", "speedloader-mount"].map(|name| home.join(name))
        }
    };
    let free = places
        .iter()
        .find(|place| mountpoint_fault(place).is_none());
    free.unwrap_or(&places[0]).clone()
}

/// The configuration that choices mean.
///
/// # Errors
/// A sentence, if one of them cannot stand in a file.
pub(super) fn toml_of(choices: &SetupChoices) -> Result<String, String> {
    let mut changes = vec![
        ("models_dir".to_owned(), choices.models_dir.clone()),
        ("mountpoint".to_owned(), choices.mountpoint.clone()),
    ];
    for (index, path) in choices.cold.iter().enumerate() {
        changes.push((format!("cold[{index}].path"), path.clone()));
    }
    let bytes = |number: u64| Bytes(number).to_string();
    changes.push(("pool[0].name".to_owned(), "local".to_owned()));
    changes.push(("pool[0].capacity".to_owned(), bytes(choices.pool_bytes)));
    changes.push((
        "policy.memory_reserve".to_owned(),
        bytes(choices.reserve_bytes),
    ));
    let changes: Vec<_> = changes
        .into_iter()
        .map(|(key, value)| (key, Some(value)))
        .collect();
    Ok(HEADER.to_owned() + &edit("", &changes)?)
}

/// What is wrong with a configuration: in itself, and on this machine.
pub(super) fn faults_of(
    toml: &str,
    choices: &SetupChoices,
    memory: Memory,
    path: &Path,
    sources: &Sources,
) -> Vec<FaultView> {
    let mut sources = sources.clone();
    sources.file = Some(File {
        path: path.to_owned(),
        contents: toml.as_bytes().to_vec(),
    });
    let mut faults: Vec<FaultView> = match load(&sources) {
        Ok(_) => Vec::new(),
        Err(judged) => judged
            .faults
            .iter()
            .map(|fault| fault_view(&fault.key, fault.to_string()))
            .collect(),
    };
    if !faults.is_empty() {
        return faults;
    }
    let add = |key: &str, fault: Option<String>| fault.map(|text| fault_view(key, text));
    faults.extend(add(
        "mountpoint",
        mountpoint_fault(Path::new(&choices.mountpoint)),
    ));
    faults.extend(add(
        "models_dir",
        models_dir_fault(Path::new(&choices.models_dir)),
    ));
    for (index, cold) in choices.cold.iter().enumerate() {
        faults.extend(add(
            &format!("cold[{index}].path"),
            cold_fault(Path::new(cold)),
        ));
    }
    if choices.pool_bytes.saturating_add(choices.reserve_bytes) > memory.total_bytes {
        let text = format!(
            "the pool and the reserve are {} together, and there are {}",
            size(choices.pool_bytes.saturating_add(choices.reserve_bytes)),
            size(memory.total_bytes)
        );
        faults.push(fault_view("pool[0].capacity", text));
    }
    faults
}

fn fault_view(key: &str, text: String) -> FaultView {
    FaultView {
        key: key.to_owned(),
        text,
    }
}

/// A mount needs an empty directory, or one that can be made.
fn mountpoint_fault(path: &Path) -> Option<String> {
    match std::fs::read_dir(path).map(|mut entries| entries.next().is_none()) {
        Ok(true) => None,
        Ok(false) => Some(format!("{} is not empty; name another one", path.display())),
        Err(_) => make_fault(path),
    }
}

/// Whether a directory is no place for models: what is there belongs to the system.
fn of_the_system(path: &Path) -> bool {
    const TREES: [&str; 8] = [
        "/etc", "/proc", "/sys", "/boot", "/bin", "/sbin", "/lib", "/usr/bin",
    ];
    path == Path::new("/") || TREES.iter().any(|tree| path.starts_with(tree))
}

/// Whether it is one that many things lie in, which engines cannot have for themselves.
fn is_a_top(path: &Path) -> bool {
    const TOPS: [&str; 9] = [
        "/dev", "/home", "/mnt", "/opt", "/root", "/run", "/tmp", "/usr", "/var",
    ];
    TOPS.iter().any(|top| path == Path::new(top))
}

fn models_dir_fault(path: &Path) -> Option<String> {
    if of_the_system(path) || is_a_top(path) {
        return Some(format!(
            "{} is the system's; name a directory for models",
            path.display()
        ));
    }
    if !path.is_dir() {
        return make_fault(path);
    }
    let access = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
    let refused = rustix::fs::access(path, access).err()?;
    Some(format!(
        "{} must be writable for you: {refused}",
        path.display()
    ))
}

fn cold_fault(path: &Path) -> Option<String> {
    if of_the_system(path) {
        return Some(format!(
            "{} is the system's; name a directory of models",
            path.display()
        ));
    }
    if !path.is_dir() {
        return Some(format!(
            "{} is no directory that can be read",
            path.display()
        ));
    }
    let refused = rustix::fs::access(path, Access::READ_OK | Access::EXEC_OK).err()?;
    Some(format!(
        "{} cannot be read by you: {refused}",
        path.display()
    ))
}

/// Why a directory that is not there, or is something else, cannot be made.
fn make_fault(path: &Path) -> Option<String> {
    if path.symlink_metadata().is_ok() {
        return Some(format!(
            "{} is there and is no directory that can be read",
            path.display()
        ));
    }
    let above = path
        .ancestors()
        .skip(1)
        .find(|above| above.symlink_metadata().is_ok())?;
    if !above.is_dir() {
        return Some(format!(
            "{} cannot be made: {} is no directory",
            path.display(),
            above.display()
        ));
    }
    let refused = rustix::fs::access(above, Access::WRITE_OK | Access::EXEC_OK).err()?;
    Some(format!(
        "{} cannot be made: {} is not writable for you: {refused}",
        path.display(),
        above.display()
    ))
}

/// What is worth knowing of these choices.
pub(super) fn remarks_of(
    around: &Surroundings,
    choices: &SetupChoices,
    stores: &[StoreView],
    memory: Memory,
    is_shared: bool,
) -> Vec<String> {
    let mut remarks = Vec::new();
    for store in stores.iter().filter(|store| opens_up(store, is_shared)) {
        let (path, barrier) = (&store.path, store.barrier.as_deref().unwrap_or_default());
        remarks.push(match choices.cold.contains(path) {
            true => format!(
                "others may not enter {barrier}, but through the mount everybody on this machine can read {path}, as far as its own permissions allow"
            ),
            false => format!(
                "{path} is left out: others may not enter {barrier}, and through the mount everybody on this machine could read it; --directory {} serves it all the same",
                shell_word(path.as_bytes())
            ),
        });
    }
    let is_left_out = |store: &&StoreView| {
        is_named(store) && !choices.cold.contains(&store.path) && store.path != choices.models_dir
    };
    for store in stores.iter().filter(is_left_out) {
        let why = match (&store.problem, store.models, store.complete) {
            (Some(problem), ..) => problem.as_str(),
            (None, 0, true) => "there is no model in it",
            (None, 0, false) => "no model was found in it in time",
            (None, ..) if of_the_system(Path::new(&store.path)) => "it is the system's",
            (None, ..) => "you left it out, or it holds, or lies in, another directory of these",
        };
        remarks.push(format!("{} is left out: {why}", store.path));
    }
    if !choices.cold.is_empty() {
        remarks.push(format!(
            "what was found is only read; what engines write through the mount goes to {}",
            choices.models_dir
        ));
    }
    let left = memory.available_bytes.saturating_sub(choices.reserve_bytes);
    if choices.pool_bytes > left {
        remarks.push(format!(
            "programs use so much memory now that the pool can have {} of its {}; it takes more as they end",
            size(left),
            size(choices.pool_bytes)
        ));
    }
    let chosen = stores
        .iter()
        .filter(|store| choices.cold.contains(&store.path));
    let wanted = chosen.fold(0_u64, |sum, store| sum.saturating_add(store.bytes));
    if wanted > choices.pool_bytes {
        remarks.push(format!(
            "the models are {}, more than the pool: those that are used most are kept in it",
            size(wanted)
        ));
    }
    if around.account.uid != 0 {
        remarks.push("only you will see the mount, and the daemon serves reads itself; as root the kernel does, which is faster".to_owned());
    }
    let access = Access::READ_OK | Access::WRITE_OK;
    if rustix::fs::access("/dev/fuse", access).is_err() {
        remarks.push(
            "/dev/fuse cannot be used: `modprobe fuse`, or in a container `--device /dev/fuse`"
                .to_owned(),
        );
    }
    remarks
}

/// How engines are pointed at the mount, those whose stores were chosen first.
pub(super) fn uses_of(choices: &SetupChoices, stores: &[StoreView]) -> Vec<UseView> {
    let mount = &choices.mountpoint;
    let chosen = |kind| {
        stores
            .iter()
            .any(|store| store.kind == kind && choices.cold.contains(&store.path))
    };
    let mut uses = [
        (
            StoreKind::Ollama,
            "Ollama",
            format!("OLLAMA_MODELS={mount} ollama serve"),
        ),
        (
            StoreKind::LlamaCpp,
            "llama.cpp",
            format!("llama-server -m {mount}/MODEL.gguf"),
        ),
        (
            StoreKind::HuggingFace,
            "vLLM, transformers",
            format!("HF_HUB_CACHE={mount} vllm serve ORG/MODEL"),
        ),
        (
            StoreKind::LmStudio,
            "LM Studio",
            format!("its models directory (My Models): {mount}"),
        ),
    ];
    uses.sort_by_key(|(kind, ..)| !chosen(*kind));
    uses.map(|(_, engine, line)| UseView {
        engine: engine.to_owned(),
        line,
    })
    .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_gets_what_nobody_uses_less_a_reserve() {
        let shares_of = |total: u64, available: u64| {
            let memory = Memory {
                total_bytes: total,
                available_bytes: available,
            };
            let (reserve, pool) = shares(memory);
            format!("{} and {}", Bytes(reserve), Bytes(pool))
        };
        for (total, available, wanted) in [
            (768 * GIB, 700 * GIB, "76GiB and 614GiB"),
            (64 * GIB, 60 * GIB, "6GiB and 51GiB"),
            (64 * GIB, 20 * GIB, "6GiB and 13GiB"),
            (16 * GIB, 12 * GIB, "2GiB and 10GiB"),
            (4 * GIB, 3 * GIB, "1GiB and 2GiB"),
            (GIB, GIB / 8, "256MiB and 64MiB"),
            (0, 0, "1MiB and 64MiB"),
        ] {
            assert_eq!(shares_of(total, available), wanted, "{total} {available}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_proposed_pool_and_its_reserve_fit(total in (128 * MIB)..(4096 * GIB), part in 0..=100_u64) {
            let memory = Memory { total_bytes: total, available_bytes: total / 100 * part };
            let (reserve, pool) = shares(memory);
            assert!(reserve + pool <= total);
            assert!(pool == POOL_BYTES_MIN || pool + reserve <= memory.available_bytes);
        }

        #[test]
        fn choices_that_are_no_paths_are_faults_and_no_panic(text: String, bytes: u64) {
            let choices = SetupChoices {
                models_dir: text.clone(),
                mountpoint: "/m".to_owned(),
                cold: vec![text],
                pool_bytes: bytes,
                reserve_bytes: bytes,
            };
            if let Ok(toml) = toml_of(&choices) {
                let sources = Sources::default();
                let faults = faults_of(&toml, &choices, Memory::default(), Path::new("/x"), &sources);
                assert!(!faults.is_empty());
            }
        }
    }
}

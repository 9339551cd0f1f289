//! A machine in a directory: what is found there, what is proposed, and what is written.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use speedloader_config::{Account, Sources};

use super::{Desk, Surroundings, Target, desk};
use crate::view::{SetupState, SetupView, StoreKind, StoreView};

/// A root directory with a person's home in it.
struct Machine {
    root: tempfile::TempDir,
    around: Surroundings,
    /// What is set beside the configuration's file.
    environment: Vec<(OsString, OsString)>,
}

impl Machine {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a directory");
        let home = root.path().join("home/lena");
        fs::create_dir_all(&home).expect("made");
        let account = Account {
            uid: 1000,
            home: Some(home),
            runtime_dir: None,
        };
        let mut around = Surroundings::new(Vec::new(), account);
        around.root = root.path().to_owned();
        Self {
            root,
            around,
            environment: Vec::new(),
        }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.root.path().join(below)
    }

    fn put(&self, below: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(below);
        fs::create_dir_all(path.parent().expect("it has one")).expect("made");
        fs::write(&path, bytes).expect("written");
        path
    }

    fn variable(&mut self, name: &str, value: &Path) {
        self.around.variables.push((name.into(), value.into()));
    }

    fn desk(&self) -> Desk {
        let sources = Sources {
            account: self.around.account.clone(),
            environment: self.environment.clone(),
            ..Sources::default()
        };
        let target = Target {
            path: self.path("etc/speedloader/config.toml"),
            sources,
            is_ours: false,
            failed: None,
        };
        Desk::new(self.around.clone(), target)
    }

    fn look(&self) -> SetupView {
        self.desk().look(&[])
    }
}

fn gguf() -> Vec<u8> {
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.resize(24, 0);
    bytes
}

fn store<'v>(view: &'v SetupView, end: &str) -> &'v StoreView {
    let found = view.stores.iter().find(|store| store.path.ends_with(end));
    found.unwrap_or_else(|| panic!("{end} is not among {:#?}", view.stores))
}

fn ollama(machine: &Machine, top: &str) {
    let digest = "a".repeat(64);
    machine.put(&format!("{top}/blobs/sha256-{digest}"), gguf());
    machine.put(
        &format!("{top}/manifests/registry.ollama.ai/library/llama3/latest"),
        format!(r#"{{"layers":[{{"mediaType":"application/vnd.ollama.image.model","digest":"sha256:{digest}","size":24}}]}}"#),
    );
}

#[test]
fn stores_of_every_engine_are_found_with_their_models() {
    let mut machine = Machine::new();
    ollama(&machine, "usr/share/ollama/.ollama/models");
    let revision = "b".repeat(40);
    let hub = "home/lena/.cache/huggingface/hub/models--org--name";
    machine.put(&format!("{hub}/blobs/w"), gguf());
    machine.put(&format!("{hub}/refs/main"), &revision);
    fs::create_dir_all(machine.path(&format!("{hub}/snapshots/{revision}"))).expect("made");
    symlink(
        "../../blobs/w",
        machine.path(&format!("{hub}/snapshots/{revision}/m.gguf")),
    )
    .expect("linked");
    machine.put(
        "home/lena/.lmstudio/models/pub/repo/vision-Q4_K_M.gguf",
        gguf(),
    );
    machine.put("big/downloads/pub/repo/other.gguf", gguf());
    let settings = format!(
        r#"{{"downloadsFolder":"{}"}}"#,
        machine.path("big/downloads").display()
    );
    machine.put("home/lena/.lmstudio/settings.json", settings);
    machine.put("fetched/org_repo_file.gguf", gguf());
    let fetched = machine.path("fetched");
    machine.variable("LLAMA_CACHE", &fetched);
    let unit = format!(
        "[Service]\nEnvironment=\"OLLAMA_MODELS={}\"\n",
        machine.path("srv/o").display()
    );
    machine.put("etc/systemd/system/ollama.service.d/override.conf", unit);
    ollama(&machine, "srv/o");
    let view = machine.look();
    for (end, kind, name) in [
        (
            "usr/share/ollama/.ollama/models",
            StoreKind::Ollama,
            "llama3:latest",
        ),
        ("srv/o", StoreKind::Ollama, "llama3:latest"),
        (".cache/huggingface/hub", StoreKind::HuggingFace, "m"),
        (".lmstudio/models", StoreKind::LmStudio, "vision-Q4_K_M"),
        ("big/downloads", StoreKind::LmStudio, "other"),
        ("fetched", StoreKind::LlamaCpp, "org_repo_file"),
    ] {
        let found = store(&view, end);
        assert_eq!((found.kind, found.models), (kind, 1), "{found:?}");
        assert!(found.names[0].contains(name), "{found:?}");
        assert!(
            found.complete && found.problem.is_none() && found.bytes >= 24,
            "{found:?}"
        );
        assert!(view.choices.cold.contains(&found.path), "{end} is chosen");
    }
    assert_eq!(view.faults, [], "{}", view.toml);
    assert!(
        view.uses[0].line.starts_with("OLLAMA_MODELS="),
        "{:?}",
        view.uses
    );
}

#[test]
fn a_store_that_is_a_link_is_its_target_and_found_once() {
    let mut machine = Machine::new();
    ollama(&machine, "disk/ollama");
    fs::create_dir_all(machine.path("home/lena/.ollama")).expect("made");
    symlink(
        machine.path("disk/ollama"),
        machine.path("home/lena/.ollama/models"),
    )
    .expect("linked");
    let same = machine.path("disk/../disk/ollama");
    machine.variable("OLLAMA_MODELS", &same);
    let view = machine.look();
    assert_eq!(view.stores.len(), 1, "{:?}", view.stores);
    let real = machine.path("disk/ollama").canonicalize().expect("there");
    assert_eq!(Path::new(&view.stores[0].path), real);
}

#[test]
fn no_link_leads_out_and_nothing_holds_the_search_up() {
    let machine = Machine::new();
    machine.put("secret/hidden.gguf", gguf());
    machine.put("srv/models/real.gguf", gguf());
    symlink(machine.path("secret"), machine.path("srv/models/out")).expect("linked");
    symlink(
        machine.path("secret/hidden.gguf"),
        machine.path("srv/models/link.gguf"),
    )
    .expect("linked");
    symlink(".", machine.path("srv/models/loop")).expect("linked");
    // Opening it would wait for a writer.
    let fifo = machine.path("srv/models/fifo.gguf");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR, 0).expect("a FIFO");
    let mut deep = "srv/models".to_owned();
    for _ in 0..30 {
        deep += "/d";
    }
    machine.put(&format!("{deep}/far.gguf"), gguf());
    let view = machine.look();
    let found = store(&view, "srv/models");
    assert_eq!(found.names, ["real"], "{found:?}");
    assert!(!found.complete, "what is too deep was not looked at");
    assert_eq!(found.bytes, 24);
}

#[test]
fn limits_of_number_and_time_are_kept_and_told() {
    let mut machine = Machine::new();
    for number in 0..300 {
        machine.put(&format!("srv/models/{number}.gguf"), gguf());
    }
    machine.around.limits.entries_max = 100;
    let view = machine.look();
    let found = store(&view, "srv/models");
    assert!(!found.complete && found.models <= 100, "{found:?}");
    machine.around.limits.entries_max = 1_000;
    machine.around.limits.time_max = Duration::ZERO;
    let began = Instant::now();
    let view = machine.look();
    let found = store(&view, "srv/models");
    assert!(!found.complete, "{found:?}");
    assert!(began.elapsed() < Duration::from_secs(30));
}

#[test]
fn what_is_named_and_not_there_is_told_with_a_remedy() {
    let mut machine = Machine::new();
    let nowhere = machine.path("nowhere");
    machine.variable("OLLAMA_MODELS", &nowhere);
    let file = machine.put("file", "x");
    let view = machine.desk().look(&[file]);
    assert_eq!(view.stores.len(), 2, "{:?}", view.stores);
    assert!(
        view.stores
            .iter()
            .all(|store| store.problem.is_some() && store.remedy.is_some())
    );
    assert!(view.choices.cold.is_empty());
}

/// Everything below a directory: what it is, when it was changed.
fn traces(directory: &Path) -> BTreeMap<PathBuf, (u64, i64, i64)> {
    let mut found = BTreeMap::new();
    let mut todo = vec![directory.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = path.symlink_metadata().expect("there");
        if meta.is_dir() {
            todo.extend(
                fs::read_dir(&path)
                    .expect("read")
                    .map(|entry| entry.expect("read").path()),
            );
        }
        found.insert(path, (meta.size(), meta.mtime_nsec(), meta.ctime_nsec()));
    }
    found
}

#[test]
fn looking_and_checking_write_nothing() {
    let machine = Machine::new();
    ollama(&machine, "home/lena/.ollama/models");
    let before = traces(machine.root.path());
    let desk = machine.desk();
    let view = desk.look(&[]);
    desk.check(view.choices);
    assert_eq!(traces(machine.root.path()), before);
}

#[test]
fn what_is_confirmed_is_written_whole_and_loads() {
    let machine = Machine::new();
    ollama(&machine, "home/lena/.ollama/models");
    let desk = machine.desk();
    let proposed = desk.look(&[]);
    let written = desk
        .apply(proposed.choices.clone())
        .expect("it can be written");
    assert_eq!(
        (written.state, &written.faults),
        (SetupState::Written, &Vec::new())
    );
    let path = machine.path("etc/speedloader/config.toml");
    let text = fs::read_to_string(&path).expect("there");
    assert_eq!(text, proposed.toml);
    let sources = Sources {
        account: machine.around.account.clone(),
        ..Sources::default()
    };
    let config = speedloader_config::load_path(&path, sources).expect("it is right");
    assert_eq!(config.pools[0].name.as_str(), "local");
    assert_eq!(config.cold[0].path, Path::new(&proposed.choices.cold[0]));
    assert!(config.models_dir.is_dir() && config.mountpoint.is_some_and(|path| path.is_dir()));
    let left = fs::read_dir(path.parent().expect("it has one"))
        .expect("read")
        .count();
    assert_eq!(left, 1, "no temporary file is left");
    // What is there is nobody's to write over.
    let again = desk.apply(proposed.choices).expect("asked");
    assert_eq!(again.state, SetupState::Proposed);
    assert!(
        again.faults[0].text.contains("already"),
        "{:?}",
        again.faults
    );
}

#[test]
fn wrong_choices_are_faults_of_their_keys_and_nothing_is_made() {
    let machine = Machine::new();
    let desk = machine.desk();
    let good = desk.look(&[]).choices;
    machine.put("full/file", "x");
    let path = |below: &str| machine.path(below).display().to_string();
    let cases = [
        ("mountpoint", path("full")),
        ("mountpoint", path("full/file")),
        ("mountpoint", path("full/file/below")),
        ("mountpoint", good.models_dir.clone()),
        ("mountpoint", "relative".to_owned()),
        ("models_dir", path("full/file")),
        ("cold[0].path", path("nowhere")),
        ("cold[0].path", good.models_dir.clone()),
        ("pool[0].capacity", String::new()),
    ];
    for (key, value) in cases {
        let mut choices = good.clone();
        match key {
            "mountpoint" => choices.mountpoint.clone_from(&value),
            "models_dir" => choices.models_dir.clone_from(&value),
            "cold[0].path" => choices.cold = vec![value.clone()],
            _ => choices.pool_bytes = u64::MAX / 2,
        }
        let view = desk.apply(choices).expect("asked");
        assert_eq!(view.state, SetupState::Proposed, "{key} {value}");
        assert!(!view.faults.is_empty(), "{key} {value}");
    }
    assert!(!machine.path("etc/speedloader").exists());
}

/// The same machine as root sees it, with a store of the service and one of a person whose home nobody else may enter.
fn of_root() -> Machine {
    let mut machine = Machine::new();
    machine.around.account = Account {
        uid: 0,
        home: None,
        runtime_dir: None,
    };
    machine.put(
        "etc/passwd",
        "lena:x:1000:1000::/home/lena:/bin/sh\nmax:x:1001:1001::/home/max:/bin/sh\n",
    );
    ollama(&machine, "home/lena/.ollama/models");
    ollama(&machine, "home/max/.ollama/models");
    ollama(&machine, "usr/share/ollama/.ollama/models");
    let closed = fs::Permissions::from_mode(0o750);
    fs::set_permissions(machine.path("home/lena"), closed).expect("set");
    machine
}

#[test]
fn what_others_may_not_enter_is_proposed_only_if_it_is_named() {
    let machine = of_root();
    let has = |view: &SetupView, below: &str| {
        let path = machine.path(below).canonicalize().expect("there");
        let path = path.display().to_string();
        let told = view.remarks.iter().any(|remark| remark.contains(&path));
        (view.choices.cold.contains(&path), told)
    };
    let view = machine.look();
    assert_eq!(has(&view, "home/lena/.ollama/models"), (false, true));
    assert_eq!(has(&view, "home/max/.ollama/models"), (true, false));
    let barrier = store(&view, "home/lena/.ollama/models").barrier.as_deref();
    assert!(barrier.is_some_and(|path| path.ends_with("/home/lena")));
    let named = machine.path("home/lena/.ollama/models");
    let view = machine.desk().look(&[named]);
    assert_eq!(has(&view, "home/lena/.ollama/models"), (true, true));
    // Through a mount of one's own nobody else sees it.
    let mut machine = of_root();
    let option = ("SPEEDLOADER_MOUNT_ALLOW_OTHER", "false");
    machine.environment.push((option.0.into(), option.1.into()));
    let view = machine.look();
    assert_eq!(view.choices.cold.len(), 3, "{:?}", view.remarks);
}

#[test]
fn ollamas_service_can_write_what_it_finds_through_the_mount() {
    let machine = of_root();
    let service = machine.path("usr/share/ollama/.ollama/models");
    if chown(&service, Some(990), Some(990)).is_err() {
        eprintln!("skipped: only root gives directories away");
        return;
    }
    let desk = machine.desk();
    let choices = desk.look(&[]).choices;
    assert_eq!(choices.cold.len(), 2, "{:?}", choices.cold);
    assert!(choices.cold[0].ends_with("/usr/share/ollama/.ollama/models"));
    let written = desk.apply(choices).expect("it can be written");
    assert_eq!(written.state, SetupState::Written, "{:?}", written.faults);
    for below in ["", "blobs", "manifests"] {
        let path = machine.path("var/lib/speedloader/models").join(below);
        let found = fs::metadata(&path).expect("made");
        assert_eq!((found.uid(), found.gid()), (990, 990), "{}", path.display());
    }
}

/// The directory was his first, and then what he had put at the names in it became his, through links as well.
#[test]
fn what_a_store_s_owner_links_to_is_not_given_to_him() {
    let top = tempfile::tempdir().expect("a directory");
    let (models_dir, victim) = (top.path().join("models"), top.path().join("victim"));
    fs::create_dir(&models_dir).expect("made");
    fs::create_dir(&victim).expect("made");
    if chown(top.path(), Some(990), Some(990)).is_err() {
        eprintln!("skipped: only root gives directories away");
        return;
    }
    symlink(&victim, models_dir.join("manifests")).expect("linked");
    desk::give(&models_dir, 990, 990).expect_err("something is at the name");
    let replaced = top.path().join("replaced");
    fs::create_dir(&replaced).expect("made");
    chown(&replaced, Some(991), Some(991)).expect("given");
    desk::give(&replaced, 990, 990).expect_err("it is not ours");
    let owner = |path: &Path| fs::metadata(path).expect("there").uid();
    assert_eq!(
        [&victim, &models_dir, &replaced].map(|path| owner(path)),
        [0, 0, 991]
    );
}

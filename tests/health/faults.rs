//! Every sort of fault, seeded: `health` finds it, repairs what it says it can, and changes no home.

use std::collections::BTreeSet;
use std::ffi::{CString, OsStr};
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use speedloader::health::{CHECKS, Finding, Scene, examine, repair};
use speedloader::view::{
    HomeState, HomeView, PassthroughView, PlaceView, ReplicaState, ReplicaView, Severity,
    StatusView, TierKind, TierState, TierView, WhichView, human,
};
use speedloader_config::{Config, Sources, load};

use crate::harness::skip;
use crate::harness::{acl, as_user};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A healthy installation in a temporary directory.
struct Place {
    _directory: tempfile::TempDir,
    root: PathBuf,
    scene: Scene,
    /// What a seed has mounted.
    mounts: Vec<PathBuf>,
    /// Whether how full file systems are was seeded; that of the test machine says nothing.
    space: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        for at in &self.mounts {
            let _ = rustix::mount::unmount(at, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

pub(super) fn config(root: &Path, more: &[(&str, &str)]) -> Config {
    let path = |name: &str| root.join(name).display().to_string();
    let mut options = vec![
        ("models_dir".to_owned(), path("models")),
        ("mountpoint".to_owned(), path("mnt")),
        ("state_dir".to_owned(), path("state")),
        ("cold".to_owned(), path("cold")),
        ("control.socket".to_owned(), path("sock")),
    ];
    options.extend(
        more.iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
    );
    load(&Sources {
        options,
        ..Sources::default()
    })
    .unwrap()
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

impl Place {
    fn new() -> Place {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
        for name in [
            "models",
            "mnt",
            "state",
            "cold",
            "dev",
            "proc/sys/kernel",
            "sys/kernel/mm/transparent_hugepage",
        ] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::write(root.join("dev/fuse"), "").unwrap();
        fs::write(root.join("proc/sys/kernel/osrelease"), "6.18.0-1-generic\n").unwrap();
        fs::write(
            root.join("sys/kernel/mm/transparent_hugepage/shmem_enabled"),
            "always within_size [advise] never deny force\n",
        )
        .unwrap();
        let status = StatusView {
            passthrough: PassthroughView {
                active: true,
                why: "FUSE passthrough".to_owned(),
            },
            pools: vec![TierView {
                name: "local".to_owned(),
                state: TierState::Connected,
                ..TierView::default()
            }],
            ..StatusView::default()
        };
        let scene = Scene {
            config: config(&root, &[]),
            config_file: None,
            status: Some(status),
            hangs: false,
            resident: Vec::new(),
            root: root.clone(),
            all: false,
            patience: Duration::from_secs(60),
            // Files of the test itself count as old.
            now_ms: now_ms() + 600_000,
        };
        Place {
            _directory: directory,
            root,
            scene,
            mounts: Vec::new(),
            space: false,
        }
    }

    fn status(&mut self) -> &mut StatusView {
        self.scene.status.as_mut().unwrap()
    }

    fn found(&self) -> Vec<Finding> {
        examine(&self.scene, &mut |_| ())
            .into_iter()
            .filter(|finding| self.space || finding.check() != "low-space")
            .collect()
    }

    fn words(&self) -> BTreeSet<&'static str> {
        self.found().iter().map(Finding::check).collect()
    }
}

/// Names, sizes, times and contents of a tree.
fn picture(root: &Path) -> BTreeSet<(PathBuf, u64, i64, Vec<u8>)> {
    let mut seen = BTreeSet::new();
    for entry in fs::read_dir(root).unwrap().flatten() {
        let found = entry.metadata().unwrap();
        if found.is_dir() {
            seen.extend(picture(&entry.path()));
        } else {
            seen.insert((
                entry.path(),
                found.len(),
                found.mtime_nsec(),
                fs::read(entry.path()).unwrap_or_default(),
            ));
        }
    }
    seen
}

fn write(path: PathBuf, contents: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, contents).unwrap();
}

fn blob(contents: &str, digest: &str) -> (String, String) {
    (format!("cold/blobs/sha256-{digest}"), contents.to_owned())
}

/// sha256 of "right".
const RIGHT: &str = "27042f4e6eca7d0b2a7ee4026df2ecfa51d3339e6d122aa099118ecd8563bad9";

type Seed = fn(&mut Place);

const SEEDS: &[(&str, Seed)] = &[
    ("daemon-silent", |place| place.scene.status = None),
    ("stale-socket", |place| {
        place.scene.status = None;
        drop(UnixListener::bind(place.root.join("sock")).unwrap());
    }),
    ("no-passthrough", |place| {
        place.status().passthrough.active = false
    }),
    ("pool-disconnected", |place| {
        place.status().pools.push(TierView {
            name: "p".to_owned(),
            state: TierState::Disconnected,
            ..TierView::default()
        });
    }),
    ("pool-not-in-memory", |place| {
        place
            .status()
            .warnings
            .push("pool p is not in memory".to_owned())
    }),
    ("memory-short", |place| {
        place.status().memory.held_back_bytes = 1 << 30
    }),
    ("home-hangs", |place| {
        place.status().homes.push(HomeView {
            path: "/mnt/nas".to_owned(),
            state: HomeState::Hung { since_ms: 1 },
            ..HomeView::default()
        });
    }),
    ("home-detached", |place| {
        place.status().homes.push(HomeView {
            path: "/mnt/disk".to_owned(),
            state: HomeState::Detached,
            ..HomeView::default()
        });
    }),
    ("misplaced", |place| {
        symlink("models", place.root.join("link")).unwrap();
        let state = place.root.join("link/state").display().to_string();
        place.scene.config = config(&place.root, &[("state_dir", &state)]);
    }),
    ("home-opened-up", |place| {
        let closed = fs::Permissions::from_mode(0o700);
        fs::create_dir_all(place.root.join("alice/models")).unwrap();
        fs::set_permissions(place.root.join("alice"), closed).unwrap();
        let cold = place.root.join("alice/models").display().to_string();
        let more = [("cold", cold.as_str()), ("mount.allow_other", "true")];
        place.scene.config = config(&place.root, &more);
    }),
    ("no-pool", |place| place.status().pools.clear()),
    ("pools-too-large", |place| {
        let warning = "the pools may hold 2 TB, more than the 1 TB that this machine has of memory";
        place.status().warnings.push(warning.to_owned());
    }),
    ("state-read-only", |place| {
        let closed = fs::Permissions::from_mode(0o555);
        fs::set_permissions(place.root.join("state"), closed).unwrap();
    }),
    ("home-missing", |place| {
        fs::remove_dir(place.root.join("models")).unwrap()
    }),
    ("mountpoint-missing", |place| {
        fs::remove_dir(place.root.join("mnt")).unwrap()
    }),
    ("no-fuse", |place| {
        fs::remove_file(place.root.join("dev/fuse")).unwrap()
    }),
    ("kernel-old", |place| {
        write(
            place.root.join("proc/sys/kernel/osrelease"),
            "6.1.0-18-amd64\n",
        )
    }),
    ("huge-pages-off", |place| {
        write(
            place
                .root
                .join("sys/kernel/mm/transparent_hugepage/shmem_enabled"),
            "always never [deny] force\n",
        )
    }),
    ("clock-wrong", |place| {
        write(place.root.join("state/learned.bin"), "x");
        let file = fs::File::options()
            .write(true)
            .open(place.root.join("state/learned.bin"))
            .unwrap();
        file.set_modified(SystemTime::now() + Duration::from_secs(86_400))
            .unwrap();
    }),
    ("secret-readable", |place| {
        let file = place.root.join("config.toml");
        write(file.clone(), "");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        place.scene.config = config(&place.root, &[("http.token", TOKEN)]);
        place.scene.config_file = Some(file);
    }),
    ("secret-readable", |place| {
        let secret = format!("DHHC-1:00:{}:", "a".repeat(48));
        with_remote(place, &[("remote.far.dhchap_secret", &secret)]);
        let file = place.root.join("config.toml");
        write(file.clone(), "");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        place.scene.config_file = Some(file);
    }),
    ("token-untrusted", |place| {
        write(place.root.join("elsewhere"), TOKEN);
        symlink(
            place.root.join("elsewhere"),
            place.root.join("state/http-token"),
        )
        .unwrap();
    }),
    ("state-writable", |place| {
        let file = place.root.join("state/loads.csv");
        write(file.clone(), "");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    }),
    ("left-over", |place| {
        write(place.root.join("state/pins.json.new"), "{")
    }),
    ("set-aside", |place| {
        write(place.root.join("state/learned.bin.bad"), "garbage")
    }),
    ("digest-differs", |place| {
        let (path, contents) = blob("damaged", RIGHT);
        write(place.root.join(path), &contents);
    }),
    ("dangling-manifest", |place| {
        let text = format!(
            r#"{{"config":{{"digest":"sha256:{RIGHT}"}},"layers":[{{"digest":"sha256:{}"}}]}}"#,
            "0".repeat(64)
        );
        write(
            place
                .root
                .join("cold/manifests/registry.ollama.ai/library/m/latest"),
            &text,
        );
    }),
    ("missing-part", |place| {
        write(place.root.join("cold/m-00001-of-00002.gguf"), "GGUF")
    }),
    ("acl-ignored", |place| {
        place.scene.config.mount.allow_other = true;
        let file = place.root.join("cold/for-one-user");
        write(file.clone(), "");
        acl::let_in_user_1(&file).unwrap();
    }),
    ("ssh-missing", |place| {
        with_remote(place, &[]);
        fs::remove_file(place.root.join("usr/bin/ssh")).unwrap();
    }),
    ("mkfs-missing", |place| {
        with_remote(place, &[("remote.far.filesystem", "ext4")]);
    }),
    ("tlshd-missing", |place| {
        with_remote(place, &[("remote.far.tls", "true")]);
    }),
    ("ssh-key-refused", |place| {
        with_remote(place, &[]);
        let key = place.root.join("root/.ssh/id_rsa");
        write(key.clone(), "");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    }),
    ("nvme-module-missing", |place| {
        with_remote(place, &[("remote.far.transport", "rdma")]);
    }),
    ("pool-lost", |place| {
        with_remote(place, &[]);
        place.status().pools = vec![remote_pool(TierState::Lost)];
    }),
    ("connection-left", |place| {
        with_remote(place, &[]);
        connect(place, "one-of-former-times");
    }),
    ("pool-left", |place| {
        with_remote(place, &[]);
        connect(place, "far");
        place.status().pools = vec![remote_pool(TierState::Disconnected)];
    }),
    ("replica-differs", |place| {
        write(place.root.join("cold/m.gguf"), "right");
        write(place.root.join("replica"), "wrong");
        let display = |name: &str| place.root.join(name).display().to_string();
        place.scene.resident = vec![resident(display("cold/m.gguf"), display("replica"))];
    }),
    ("replica-unchecked", |place| {
        write(place.root.join("replica"), "right");
        let display = |name: &str| place.root.join(name).display().to_string();
        place.scene.resident = vec![resident(display("cold/gone.gguf"), display("replica"))];
    }),
];

/// Those that need a mount, and so root.
const MOUNTED_SEEDS: &[(&str, Seed)] = &[
    ("stale-mount", |place| {
        let at = place.root.join("mnt");
        let device = hung_mount(&at);
        place.mounts.push(at);
        // Whoever served it is gone.
        drop(device);
    }),
    ("low-space", |place| {
        let at = place.root.join("models");
        mount("tmpfs", &at, "tmpfs", "size=1m");
        fs::write(at.join("large.gguf"), vec![0; (1 << 20) - 8192]).unwrap();
        place.mounts.push(at);
        place.space = true;
    }),
];

/// A mount that answers nothing while the device is open.
pub(super) fn hung_mount(at: &Path) -> fs::File {
    let device = fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/fuse")
        .unwrap();
    let options = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0",
        device.as_raw_fd()
    );
    mount("speedloader", at, "fuse", &options);
    device
}

/// A model of one file with one replica.
fn resident(home: String, replica: String) -> WhichView {
    let replica = ReplicaView {
        pool: "p".to_owned(),
        path: replica,
        state: ReplicaState::Serving,
    };
    let file = PlaceView {
        home,
        replicas: vec![replica],
        ..PlaceView::default()
    };
    WhichView {
        name: "m".to_owned(),
        files: vec![file],
        ..WhichView::default()
    }
}

fn mount(source: &str, at: &Path, kind: &str, options: &str) {
    let options = CString::new(options).unwrap();
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount(source, at, kind, flags, options.as_c_str()).unwrap();
}

/// Everything that a remote pool needs here.
fn with_remote(place: &mut Place, more: &[(&str, &str)]) {
    for program in ["usr/bin/ssh", "usr/sbin/mkfs.xfs"] {
        write(place.root.join(program), "");
    }
    write(
        place.root.join("lib/modules/6.18.0-1-generic/modules.dep"),
        "kernel/drivers/nvme/host/nvme-tcp.ko.xz: kernel/drivers/nvme/host/nvme-fabrics.ko.xz\n",
    );
    let mut options = vec![
        ("remote.far.ssh", "root@far.example.com"),
        ("remote.far.address", "10.0.40.2"),
    ];
    options.extend(more);
    place.scene.config = config(&place.root, &options);
    let pool = remote_pool(TierState::Connected);
    place.status().pools = vec![pool];
}

fn remote_pool(state: TierState) -> TierView {
    TierView {
        name: "far".to_owned(),
        kind: TierKind::Remote,
        state,
        path: "/run/speedloader/pools/far".to_owned(),
        ..TierView::default()
    }
}

/// An NVMe connection, and a mount, of this pool.
fn connect(place: &Place, pool: &str) {
    write(
        place.root.join("sys/class/nvme/nvme7/subsysnqn"),
        &format!("nqn.2026-01.io.speedloader:{pool}\n"),
    );
    write(
        place.root.join("sys/class/nvme/nvme0/subsysnqn"),
        "nqn.2014-08.org.nvmexpress:a-disk-of-this-machine\n",
    );
    write(
        place.root.join("proc/self/mountinfo"),
        &format!(
            "40 28 259:7 / /run/speedloader/pools/{pool} rw - xfs /dev/nvme7n1 rw\n41 28 0:5 / /dev rw - tmpfs tmpfs rw\n"
        ),
    );
}

#[test]
fn a_remote_pool_that_has_what_it_needs_is_no_finding() {
    let mut place = Place::new();
    with_remote(&mut place, &[]);
    connect(&place, "far");
    write(place.root.join("root/.ssh/id_ed25519"), "");
    let only_owner = fs::Permissions::from_mode(0o600);
    fs::set_permissions(place.root.join("root/.ssh/id_ed25519"), only_owner).unwrap();
    assert_eq!(place.words(), BTreeSet::new());
    // While no daemon answers, what it has left is there for the next one.
    place.scene.status = None;
    assert_eq!(place.words(), BTreeSet::from(["daemon-silent"]));
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    let mut place = Place::new();
    let (path, contents) = blob("right", RIGHT);
    write(place.root.join(path), &contents);
    for part in ["cold/m-00001-of-00002.gguf", "cold/m-00002-of-00002.gguf"] {
        write(place.root.join(part), "GGUF");
    }
    write(
        place.root.join("cold/hf/model.safetensors.index.json"),
        r#"{"weight_map":{"a":"one.safetensors"}}"#,
    );
    write(place.root.join("cold/hf/one.safetensors"), "x");
    place.scene.all = true;
    assert_eq!(place.words(), BTreeSet::new());
}

#[test]
fn every_seeded_fault_is_found_and_what_can_be_repaired_is() {
    let mut seeded = BTreeSet::new();
    println!(
        "{:<20} {:<8} repaired by --repair",
        "seeded and found", "severity"
    );
    let mounted = match skip::why_no_mount() {
        Some(why) => {
            skip::skip(&format!("faults that are mounts: {why}"));
            &[][..]
        }
        None => MOUNTED_SEEDS,
    };
    for (word, seed) in SEEDS.iter().chain(mounted) {
        if *word == "acl-ignored" && !acl::are_kept() {
            skip::skip("acl-ignored: no ACLs are kept here");
            seeded.insert(*word);
            continue;
        }
        let mut place = Place::new();
        seed(&mut place);
        let homes = || {
            ["models", "cold"]
                .map(|home| place.root.join(home))
                .into_iter()
                .filter(|home| home.exists())
                .map(|home| picture(&home))
                .collect::<Vec<_>>()
        };
        let before = homes();
        assert!(
            place.words().contains(word),
            "{word} is not found, but {:?}",
            place.words()
        );
        let mut demoted = Vec::new();
        for finding in place.found() {
            let view = finding.view();
            assert!(CHECKS.contains(&finding.check()), "{word} is documented");
            assert!(
                !view.meaning.is_empty() && !view.remedy.is_empty(),
                "{word} says what to do"
            );
            let done = repair(&place.scene, &finding, &mut |model| {
                demoted.push(model.to_owned());
                Ok(())
            });
            assert_eq!(done.is_some(), view.repairable);
            if finding.check() == *word {
                let severity = format!("{:?}", finding.severity()).to_lowercase();
                let repaired = done.as_ref().map_or("no", |_| "yes");
                println!("{word:<20} {severity:<8} {repaired}");
            }
            if let Some(done) = done {
                assert!(done.is_ok(), "{word}: {done:?}");
                let again = place.words();
                assert!(
                    finding.check() == "replica-differs" || !again.contains(finding.check()),
                    "{word} is there after its repair: {again:?}"
                );
            }
        }
        assert_eq!(demoted.is_empty(), *word != "replica-differs");
        assert_eq!(before, homes(), "{word}: a home was changed");
        seeded.insert(*word);
    }
    println!(
        "{} seeded faults, all found; no home was changed",
        seeded.len()
    );
    assert!(seeded.len() >= 15);
    let rest: Vec<&&str> = CHECKS
        .iter()
        .filter(|check| !seeded.contains(**check))
        .collect();
    assert!(rest.is_empty() || mounted.is_empty(), "{rest:?}");
}

#[test]
fn a_daemon_that_does_not_answer_is_told_from_none() {
    let told = |hangs: bool| {
        let mut place = Place::new();
        place.scene.status = None;
        place.scene.hangs = hangs;
        let found = place.found().into_iter();
        let mut silent = found.filter(|finding| finding.check() == "daemon-silent");
        silent.next().unwrap().view()
    };
    assert_eq!(told(false).found, "no daemon answers");
    assert_eq!(told(true).found, "a daemon that does not answer");
    assert!(told(true).remedy.contains("kill -9"));
}

/// The clock was set right, and the file stayed what it was.
#[test]
fn a_file_from_the_future_is_to_be_touched() {
    let mut place = Place::new();
    let (_, seed) = SEEDS
        .iter()
        .find(|(check, _)| *check == "clock-wrong")
        .unwrap();
    seed(&mut place);
    let found = place.found();
    let finding = found
        .iter()
        .find(|finding| finding.check() == "clock-wrong");
    let wanted = format!("touch {}", place.root.join("state/learned.bin").display());
    assert!(finding.unwrap().view().remedy.ends_with(&wanted));
}

#[test]
fn hostile_homes_hold_nobody_up() {
    let place = Place::new();
    symlink("/", place.root.join("cold/root")).unwrap();
    symlink("loop", place.root.join("cold/loop")).unwrap();
    write(
        place.root.join("cold/manifests/x"),
        r#"{"layers":[{"digest":"sha256:../../etc/passwd"},{"digest":7},7]}"#,
    );
    write(place.root.join("cold/manifests/y"), "{");
    write(
        place.root.join("cold/model.safetensors.index.json"),
        r#"{"weight_map":{"a":"../../../etc/shadow","b":7}}"#,
    );
    write(place.root.join("cold/m-00001-of-99999.gguf"), "");
    write(place.root.join("cold/m-00009-of-00002.gguf"), "");
    let fifo = place.root.join(format!("cold/blobs/sha256-{RIGHT}"));
    fs::create_dir_all(fifo.parent().unwrap()).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    assert_eq!(place.words(), BTreeSet::new());
}

/// The original of a resident file was opened by the thread that everybody waits for.
#[test]
fn a_home_that_hangs_holds_nobody_up() {
    if let Some(why) = skip::why_no_mount() {
        return skip::skip(why);
    }
    let mut place = Place::new();
    let at = place.root.join("cold");
    let device = hung_mount(&at);
    place.mounts.push(at.clone());
    place.scene.patience = Duration::from_millis(200);
    write(place.root.join("replica"), "x");
    let replica = place.root.join("replica").display().to_string();
    place.scene.resident = vec![resident(at.join("m.gguf").display().to_string(), replica)];
    assert_eq!(
        place.words(),
        BTreeSet::from(["home-hangs", "replica-unchecked"])
    );
    // The daemon has said so already.
    place.status().homes.push(HomeView {
        path: at.display().to_string(),
        state: HomeState::Hung { since_ms: 1 },
        ..HomeView::default()
    });
    assert_eq!(place.found().len(), 2);
    drop(device);
}

#[test]
fn a_mount_that_hangs_holds_nobody_up() {
    if let Some(why) = skip::why_no_mount() {
        return skip::skip(why);
    }
    let mut place = Place::new();
    let at = place.root.join("mnt");
    let device = hung_mount(&at);
    place.mounts.push(at);
    place.scene.patience = Duration::from_millis(200);
    assert_eq!(place.words(), BTreeSet::from(["stale-mount"]));
    assert!(!place.found()[0].view().repairable);
    drop(device);
}

/// A daemon that came back during the examination lost its mount, and its socket, to the repair.
#[test]
fn what_is_served_again_by_then_is_not_repaired() {
    if let Some(why) = skip::why_no_mount() {
        return skip::skip(why);
    }
    let mut place = Place::new();
    let (at, socket) = (place.root.join("mnt"), place.root.join("sock"));
    place.mounts.push(at.clone());
    place.scene.status = None;
    drop(hung_mount(&at));
    drop(UnixListener::bind(&socket).unwrap());
    let found = place.found();
    assert_eq!(
        found
            .iter()
            .filter(|finding| finding.view().repairable)
            .count(),
        2
    );
    rustix::mount::unmount(&at, rustix::mount::UnmountFlags::empty()).unwrap();
    mount("tmpfs", &at, "tmpfs", "size=1m");
    write(at.join("model"), "new");
    fs::remove_file(&socket).unwrap();
    let _served = UnixListener::bind(&socket).unwrap();
    for finding in &found {
        let done = repair(&place.scene, finding, &mut |_| Ok(()));
        assert!(done.is_none_or(|done| done.is_err()), "{finding:?}");
    }
    assert!(socket.exists());
    assert_eq!(fs::read(at.join("model")).unwrap(), b"new");
}

/// A name that is not UTF-8 was shown with U+FFFD, and not found under that name.
#[test]
fn a_damaged_replica_of_a_strange_name_is_found() {
    let mut place = Place::new();
    let name = OsStr::from_bytes(b"m\xff\x1b'.gguf");
    write(place.root.join("cold").join(name), "right");
    write(place.root.join("replica"), "wrong");
    let home = human::escape(place.root.join("cold").join(name).as_os_str().as_bytes());
    let replica = place.root.join("replica").display().to_string();
    place.scene.resident = vec![resident(home.clone(), replica)];
    place.scene.resident[0].name = "it's".to_owned();
    let found = place.found();
    let view = found[0].view();
    assert_eq!(view.check, "replica-differs");
    assert_eq!(view.found, format!("other bytes than {home}"));
    assert_eq!(
        view.remedy,
        r"speedloader demote 'it'\''s', and test the memory"
    );
}

/// Names of files reached the terminal as they are, and broke the commands that are to be pasted.
#[test]
fn no_name_commands_a_terminal_or_a_shell() {
    let mut place = Place::new();
    let strange = place.root.join("a\x1b[2J'b");
    fs::create_dir(&strange).unwrap();
    let path = |name: &str| strange.join(name).display().to_string();
    let options = [("state_dir", path("state")), ("models_dir", path("models"))];
    let options: Vec<(&str, &str)> = options.iter().map(|(k, v)| (*k, v.as_str())).collect();
    place.scene.config = config(&place.root, &options);
    write(strange.join("state/pins.json.bad"), "{");
    let found = place.found();
    assert_eq!(found.len(), 2);
    for finding in &found {
        let view = finding.view();
        let done = repair(&place.scene, finding, &mut |_| Ok(()));
        let done = done.map_or_else(String::new, |done| done.unwrap());
        for text in [&view.subject, &view.found, &view.remedy, &done] {
            assert!(!text.contains(char::is_control), "{text:?}");
        }
        let quoted = r"/a\x1b[2J\'b/";
        assert!(
            view.remedy.contains(quoted) && view.remedy.contains(" $'"),
            "{}",
            view.remedy
        );
    }
}

/// All files of a revision are links, so none was looked at.
#[test]
fn parts_that_a_hub_cache_lacks_are_found() {
    let place = Place::new();
    let cache = place.root.join("cold/models--o--n");
    let revision = cache.join("snapshots/r1");
    fs::create_dir_all(&revision).unwrap();
    write(
        cache.join("blobs/index"),
        r#"{"weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors"}}"#,
    );
    write(cache.join("blobs/whole"), "x");
    let blob = |name: &str, blob: &str| {
        symlink(Path::new("../../blobs").join(blob), revision.join(name)).unwrap();
    };
    blob("model.safetensors.index.json", "index");
    blob("m-1.safetensors", "whole");
    blob("q-00001-of-00002.GGUF", "whole");
    for _ in 0..2 {
        let found = place.found();
        let subjects: BTreeSet<String> =
            found.iter().map(|finding| finding.view().subject).collect();
        let missing = ["model.safetensors.index.json", "q"];
        let missing = missing.map(|name| revision.join(name).display().to_string());
        assert_eq!(subjects, BTreeSet::from(missing));
        // A link to what is not there is no better than none.
        let _ = symlink("../../blobs/gone", revision.join("m-2.safetensors"));
        let _ = symlink("../../blobs/gone", revision.join("q-00002-of-00002.GGUF"));
    }
    write(cache.join("blobs/gone"), "x");
    assert_eq!(place.words(), BTreeSet::new());
}

#[test]
fn weights_of_a_hub_cache_that_lead_nowhere_are_found() {
    let place = Place::new();
    let revision = place.root.join("cold/models--o--n/snapshots/r1");
    fs::create_dir_all(&revision).unwrap();
    for name in ["model.safetensors", "q.gguf"] {
        symlink("../../blobs/gone", revision.join(name)).unwrap();
    }
    let found = place.found();
    assert_eq!(found.len(), 2);
    write(place.root.join("cold/models--o--n/blobs/gone"), "x");
    assert_eq!(place.words(), BTreeSet::new());
}

#[test]
fn what_another_home_has_is_not_missing() {
    let place = Place::new();
    let manifest = |size: u64| {
        let text = format!(r#"{{"layers":[{{"digest":"sha256:{RIGHT}","size":{size}}}]}}"#);
        write(place.root.join("models/manifests/m/latest"), &text);
    };
    manifest(5);
    let (path, contents) = blob("right", RIGHT);
    write(place.root.join(path), &contents);
    write(place.root.join("models/m-00001-of-00002.gguf"), "GGUF");
    write(place.root.join("cold/m-00002-of-00002.gguf"), "GGUF");
    symlink(
        "/elsewhere/n",
        place.root.join("cold/n-00001-of-00001.gguf"),
    )
    .unwrap();
    assert_eq!(place.words(), BTreeSet::new());
    // A blob of another size than its manifest says is damaged, however large.
    manifest(6);
    assert_eq!(place.words(), BTreeSet::from(["digest-differs"]));
}

/// It was said that nothing is mounted, and that the token is to be removed.
#[test]
fn what_may_not_be_asked_or_read_is_no_fault() {
    if !skip::is_root() {
        return skip::skip("becoming an ordinary user needs root");
    }
    let mut place = Place::new();
    place.scene.status = None;
    let _served = UnixListener::bind(place.root.join("sock")).unwrap();
    write(place.root.join("state/http-token"), TOKEN);
    for (name, mode) in [("sock", 0o600), ("state/http-token", 0o640), ("", 0o755)] {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(place.root.join(name), mode).unwrap();
    }
    let found = as_user(65_534, &[], || place.found());
    let view = found[0].view();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(view.found, "it may not be asked by you");
    assert_eq!(found[0].severity(), Severity::Notice);
}

#[test]
fn a_directory_in_place_of_the_token_is_not_said_to_be_repairable() {
    let place = Place::new();
    fs::create_dir(place.root.join("state/http-token")).unwrap();
    assert_eq!(place.words(), BTreeSet::from(["token-untrusted"]));
    assert!(!place.found()[0].view().repairable);
}

/// What `--repair` says it did.
fn repaired(place: &Place) -> Vec<String> {
    let found = place.found();
    let repaired = found
        .iter()
        .filter_map(|finding| repair(&place.scene, finding, &mut |_| Ok(())));
    repaired
        .map(|done| done.unwrap_or_else(|error| error))
        .collect()
}

/// `health` offered to remove the only copy of what a user had said, as if it were learned again.
#[test]
fn pins_that_were_set_aside_are_nobodys_to_remove() {
    let place = Place::new();
    let pins = place.root.join("state/pins.json.bad");
    write(pins.clone(), "{");
    let found = place.found();
    let aside = found.iter().find(|finding| finding.check() == "set-aside");
    let aside = aside.expect("it is found").view();
    assert!(aside.meaning.contains("pins"), "{aside:?}");
    assert!(aside.remedy.contains("pins.json.bad"), "{aside:?}");
    repaired(&place);
    assert!(pins.exists());
}

/// A state directory that was a link to the models lost them what looked unfinished.
#[test]
fn no_repair_reaches_a_home_through_a_link() {
    let mut place = Place::new();
    let outside = place.found();
    assert!(outside.is_empty());
    write(place.root.join("models/learned.bin.new"), "{");
    write(place.root.join("models/pins.json.bad"), "{");
    symlink("models", place.root.join("link")).unwrap();
    let path = |name: &str| place.root.join(name).display().to_string();
    let options = [
        ("state_dir", path("link")),
        ("mountpoint", path("link/new")),
    ];
    let options: Vec<(&str, &str)> = options.iter().map(|(k, v)| (*k, v.as_str())).collect();
    place.scene.config = config(&place.root, &options);
    let before = picture(&place.root.join("models"));
    assert!(place.words().contains("set-aside") && place.words().contains("misplaced"));
    assert_eq!(repaired(&place), Vec::<String>::new());
    assert_eq!(picture(&place.root.join("models")), before);
    // Found while it was elsewhere, and carried out when it is not.
    write(place.root.join("state/learned.bin.bad"), "{");
    place.scene.config = config(&place.root, &[]);
    let found = place.found();
    fs::remove_dir_all(place.root.join("state")).unwrap();
    symlink("models", place.root.join("state")).unwrap();
    for finding in &found {
        repair(&place.scene, finding, &mut |_| Ok(()))
            .unwrap()
            .unwrap_err();
    }
    assert_eq!(picture(&place.root.join("models")), before);
}

#[test]
fn only_files_of_ours_are_left_over() {
    let place = Place::new();
    for name in ["model.gguf.tmp", "x.new", "y.bad.gguf", ".x.1.2"] {
        write(place.root.join("state").join(name), "");
    }
    assert_eq!(place.words(), BTreeSet::new());
    write(place.root.join("state/.pins.json.17.0"), "{");
    assert_eq!(place.words(), BTreeSet::from(["left-over"]));
}

/// The mode of the link, which is always 0777, was given to the file.
#[test]
fn the_file_behind_a_link_is_restricted_not_opened() {
    let mut place = Place::new();
    let file = place.root.join("real.toml");
    write(file.clone(), "");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    symlink("real.toml", place.root.join("config.toml")).unwrap();
    place.scene.config = config(&place.root, &[("http.token", TOKEN)]);
    place.scene.config_file = Some(place.root.join("config.toml"));
    assert_eq!(repaired(&place), ["the permissions are 640 now"]);
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o640);
}

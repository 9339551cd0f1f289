//! `health --as`: whom a path lets through, and who is told what would.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use speedloader::health::access::{CHECKS, Visitor, examine};
use speedloader::view::{HealthView, View};
use speedloader_config::Config;

use super::faults::{config, hung_mount};
use crate::cli::console::{Outcome, speedloader};
use crate::harness::mount::PROGRAM;
use crate::harness::{Mount, Site, acl, skip};

const OWNER: u32 = 5001;
const OTHER: u32 = 5002;
const TEAM: u32 = 5003;

fn visitor(uid: u32, groups: &[u32]) -> Visitor {
    Visitor {
        name: format!("user{uid}"),
        uid,
        gid: uid,
        groups: groups.to_vec(),
    }
}

fn set(path: &Path, mode: u32, (owner, group): (u32, u32)) {
    chown(path, Some(owner), Some(group)).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A temporary tree that everybody may enter. `None`, and a line that says why, where nobody else can be played.
struct Tree {
    _directory: tempfile::TempDir,
    root: PathBuf,
    config: Config,
    patience: Duration,
}

impl Tree {
    fn new() -> Option<Tree> {
        if !skip::is_root() {
            skip::skip("looking as another user needs root");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        set(&root, 0o755, (0, 0));
        for name in ["models", "cold", "mnt"] {
            fs::create_dir(root.join(name)).unwrap();
            set(&root.join(name), 0o755, (0, 0));
        }
        Some(Tree {
            _directory: directory,
            config: config(&root, &[]),
            root,
            patience: Duration::from_secs(60),
        })
    }

    fn directory(&self, name: &str, mode: u32, whose: (u32, u32)) -> PathBuf {
        let path = self.root.join(name);
        fs::create_dir(&path).unwrap();
        set(&path, mode, whose);
        path
    }

    fn file(&self, name: &str, mode: u32, whose: (u32, u32)) -> PathBuf {
        let path = self.root.join(name);
        fs::write(&path, "GGUF").unwrap();
        set(&path, mode, whose);
        path
    }

    fn look(&self, visitor: &Visitor, paths: &[&Path]) -> HealthView {
        let paths: Vec<PathBuf> = paths.iter().map(|path| (*path).to_owned()).collect();
        let view = examine(&self.config, visitor, &paths, self.patience, &mut |_| ());
        for finding in &view.findings {
            assert!(CHECKS.contains(&finding.check.as_str()), "{finding:?}");
            assert!(!finding.meaning.is_empty() && !finding.remedy.is_empty());
        }
        view
    }

    /// As it is shown, with the tree called `T`.
    fn shown(&self, view: HealthView) -> String {
        let text = View::Health(view).text(0, speedloader::view::Style::PLAIN);
        text.replace(self.root.to_str().unwrap(), "/T")
    }
}

fn checks(view: &HealthView) -> Vec<&str> {
    let findings = view.findings.iter();
    findings.map(|finding| finding.check.as_str()).collect()
}

#[test]
fn the_first_directory_that_refuses_is_told_with_what_would_open_it() {
    let Some(tree) = Tree::new() else { return };
    tree.directory("srv", 0o755, (0, 0));
    tree.directory("srv/team", 0o750, (OWNER, TEAM));
    tree.directory("srv/team/models", 0o700, (OWNER, TEAM));
    let file = tree.file("srv/team/models/m.gguf", 0o600, (OWNER, TEAM));
    insta::assert_snapshot!(tree.shown(tree.look(&visitor(OTHER, &[]), &[&file])));
    // Behind the first is a second, of his own group.
    insta::assert_snapshot!(tree.shown(tree.look(&visitor(OTHER, &[TEAM]), &[&file])));
    insta::assert_snapshot!(tree.shown(tree.look(&visitor(OWNER, &[]), &[&file])));
    // Its owner may be kept out as well.
    set(&file, 0o044, (OWNER, TEAM));
    let own = tree.look(&visitor(OWNER, &[]), &[&file]);
    assert_eq!(checks(&own), ["user-cannot-read"]);
    assert!(
        own.findings[0].remedy.contains("chmod u+r"),
        "{:?}",
        own.findings
    );
    // Root passes everything.
    assert!(checks(&tree.look(&visitor(0, &[]), &[&file])).is_empty());
}

#[test]
fn what_is_advised_lets_him_in() {
    let Some(tree) = Tree::new() else { return };
    let closed = tree.directory("closed dir's", 0o700, (OWNER, OWNER));
    let file = tree.file("closed dir's/m.gguf", 0o600, (OWNER, OWNER));
    let him = visitor(OTHER, &[]);
    for (wanted, left) in [("user-cannot-enter", 2), ("user-cannot-read", 1)] {
        let view = tree.look(&him, &[&file]);
        assert_eq!(checks(&view), [wanted], "{left} are left");
        let command = view.findings[0].remedy.split("; or ").next().unwrap();
        let done = Command::new("sh").args(["-c", command]).status().unwrap();
        assert!(done.success(), "{command}");
    }
    assert!(checks(&tree.look(&him, &[&file])).is_empty());
    let mode = fs::metadata(&closed).unwrap().mode() & 0o777;
    assert_eq!(mode, 0o701, "no more than is needed");
}

/// Its permission bits would let everybody read it.
#[test]
fn who_is_refused_by_an_acl_is_told_so() {
    let Some(tree) = Tree::new().filter(|_| acl::are_kept()) else {
        return skip::skip("no ACLs are kept here");
    };
    let file = tree.file("m.gguf", 0o644, (OWNER, OWNER));
    let entries = [
        acl::Entry::Owner(6),
        acl::Entry::User(OTHER, 0),
        acl::Entry::OwningGroup(4),
        acl::Entry::Mask(4),
        acl::Entry::Others(4),
    ];
    acl::set(&file, &entries).unwrap();
    let view = tree.look(&visitor(OTHER, &[]), &[&file]);
    assert_eq!(checks(&view), ["user-cannot-read"]);
    let finding = &view.findings[0];
    assert!(finding.found.ends_with("its ACL refuses"), "{finding:?}");
    assert!(finding.remedy.starts_with("getfacl "), "{finding:?}");
    assert!(checks(&tree.look(&visitor(TEAM, &[]), &[&file])).is_empty());
}

#[test]
fn links_are_followed_as_the_kernel_does() {
    let Some(tree) = Tree::new() else { return };
    let closed = tree.directory("closed", 0o700, (OWNER, OWNER));
    tree.directory("closed/within", 0o755, (OWNER, OWNER));
    tree.file("closed/within/f", 0o644, (OWNER, OWNER));
    tree.directory("open", 0o755, (0, 0));
    tree.file("open/f", 0o644, (0, 0));
    let link = |target: &Path, name: &str| {
        let path = tree.root.join(name);
        symlink(target, &path).unwrap();
        path
    };
    let him = visitor(OTHER, &[]);
    for (target, name) in [
        (Path::new("closed/within"), "relative"),
        (&tree.root.join("closed/within"), "absolute"),
        (Path::new("relative"), "twice"),
    ] {
        let view = tree.look(&him, &[&link(target, name).join("f")]);
        assert_eq!(checks(&view), ["user-cannot-enter"], "{name}");
        assert_eq!(view.findings[0].subject, closed.to_str().unwrap(), "{name}");
    }
    let open = link(Path::new("open/../open/./f"), "open-link");
    assert!(checks(&tree.look(&him, &[&open])).is_empty());
    assert!(checks(&tree.look(&him, &[&tree.root.join("open/../open")])).is_empty());
    for (path, wanted) in [
        (link(Path::new("loop"), "loop"), "user-meets-error"),
        (link(Path::new("nothing"), "dangling"), "user-finds-nothing"),
        (tree.root.join("open/f/below"), "user-meets-error"),
        (tree.root.join("nothing/at/all"), "user-finds-nothing"),
    ] {
        assert_eq!(checks(&tree.look(&him, &[&path])), [wanted], "{path:?}");
    }
}

#[test]
fn a_private_home_is_told_in_words() {
    let closed = fs::metadata("/root").is_ok_and(|found| found.mode() & 0o077 == 0);
    let Some(tree) = Tree::new().filter(|_| closed) else {
        return skip::skip("/root is not private here");
    };
    let view = tree.look(&visitor(OTHER, &[]), &[Path::new("/root/models/m.gguf")]);
    let finding = &view.findings[0];
    assert!(
        finding.found.contains("the private home of root"),
        "{finding:?}"
    );
    assert!(finding.meaning.contains("private home"), "{finding:?}");
    // Nobody is told to open a home to all.
    assert!(!finding.remedy.contains("chmod"), "{finding:?}");
    assert!(finding.remedy.contains("setfacl -m u:user5002:x /root"));
}

#[test]
fn what_is_not_mounted_is_said() {
    let Some(tree) = Tree::new() else { return };
    let him = visitor(OTHER, &[]);
    assert_eq!(checks(&tree.look(&him, &[])), ["not-mounted"]);
    set(&tree.root.join("mnt"), 0o750, (0, 0));
    assert_eq!(
        checks(&tree.look(&him, &[])),
        ["user-cannot-enter", "not-mounted"]
    );
}

#[test]
fn a_way_that_hangs_holds_nobody_up() {
    if let Some(why) = skip::why_no_mount() {
        return skip::skip(why);
    }
    let Some(mut tree) = Tree::new() else { return };
    tree.patience = Duration::from_millis(200);
    let at = tree.root.join("mnt");
    let device = hung_mount(&at);
    let view = tree.look(&visitor(0, &[]), &[&at.join("m")]);
    let private = tree.look(&visitor(OTHER, &[]), &[&at.join("m")]);
    drop(device);
    rustix::mount::unmount(&at, rustix::mount::UnmountFlags::DETACH).unwrap();
    assert_eq!(checks(&view), ["user-path-hangs"]);
    // It refuses whoever has not mounted it, and asks nobody.
    assert_eq!(checks(&private), ["user-cannot-enter"]);
}

#[test]
fn nobody_else_becomes_him() {
    let Some(tree) = Tree::new() else { return };
    let before = fs::read_to_string("/proc/thread-self/status").unwrap();
    let whose = |status: &str| -> Vec<String> {
        let lines = status.lines();
        let told = lines.filter(|line| {
            ["Uid:", "Gid:", "Groups:", "CapEff:"]
                .iter()
                .any(|name| line.starts_with(name))
        });
        told.map(str::to_owned).collect()
    };
    tree.look(&visitor(OTHER, &[TEAM]), &[&tree.root]);
    let after = fs::read_to_string("/proc/thread-self/status").unwrap();
    assert_eq!(whose(&before), whose(&after));
    let process = fs::read_to_string("/proc/self/status").unwrap();
    assert_eq!(whose(&before), whose(&process));
}

#[test]
fn users_are_found_by_name_and_number() {
    let find = |name: &str| Visitor::find(name.as_ref()).unwrap();
    let root = find("root").unwrap();
    assert_eq!((root.uid, root.name.as_str()), (0, "root"));
    assert_eq!(find("0"), Some(root));
    let nobody_knows = find("4294000001").unwrap();
    assert_eq!(
        (nobody_knows.uid, nobody_knows.groups.as_slice()),
        (4_294_000_001, &[][..])
    );
    for name in [
        "no such user",
        "",
        "-1",
        "4294967295",
        "4294967296",
        "a\x1b[2J",
    ] {
        assert_eq!(find(name), None, "{name:?}");
        let outcome = asked("health", &format!("--as={name}"));
        assert_eq!(outcome.status, 3, "{name:?}: {outcome:?}");
        assert!(outcome.err.contains("no user is called"), "{}", outcome.err);
        assert!(!outcome.err.contains('\x1b'), "{:?}", outcome.err);
    }
}

#[test]
fn the_verb_has_the_name_that_people_look_for() {
    let own = rustix::process::geteuid().as_raw();
    let outcome = asked("doctor", &format!("--as={own}"));
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert!(outcome.out.ends_with("nothing found\n"), "{}", outcome.out);
}

/// What the verb says of `/`.
fn asked(verb: &str, user: &str) -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let (config, socket) = (directory.path().join("c"), directory.path().join("s"));
    fs::write(&config, "models_dir = \"/srv/models\"\n").unwrap();
    let [config, socket] = [config, socket].map(|path| path.to_str().unwrap().to_owned());
    speedloader(&["--config", &config, "--socket", &socket, verb, user, "/"])
}

#[test]
fn an_ordinary_user_may_look_as_himself_only() {
    let Some(tree) = Tree::new() else { return };
    let program = tree.root.join("speedloader");
    fs::copy(PROGRAM, &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let text = format!("models_dir = \"{}/models\"\n", tree.root.display());
    fs::write(tree.root.join("config.toml"), text).unwrap();
    set(&tree.root.join("config.toml"), 0o644, (0, 0));
    let ask = |user: &str| {
        let mut asked = Command::new(&program);
        asked.current_dir(&tree.root).uid(OTHER).gid(OTHER);
        asked
            .args(["--config", "config.toml", "health", "--as", user])
            .arg("models");
        asked.output().unwrap()
    };
    let own = ask(&OTHER.to_string());
    assert_eq!(own.status.code(), Some(0), "{own:?}");
    let refused = ask("root");
    assert_eq!(refused.status.code(), Some(7), "{refused:?}");
    let told = String::from_utf8(refused.stderr).unwrap();
    let wanted = "error: only root can look as another user, and you are user 5002, not root (user 0); \
                  sudo speedloader health --as root\n";
    assert_eq!(told, wanted);
}

/// What a real mount says of somebody.
fn ask(mount: &Mount, user: u32) -> (i32, HealthView) {
    let output = mount.cli(&["--json", "health", "--as", &user.to_string()]);
    let document: speedloader::view::Document = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {output:?}"));
    match document.view {
        View::Health(view) => (output.status.code().unwrap(), view),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_keeps_a_user_from_a_mounted_model_is_changed_where_it_lives() {
    let mut site = Site::new().unguarded();
    for name in [
        "open/m.gguf",
        "team/m.gguf",
        "closed/a.gguf",
        "closed/b.gguf",
    ] {
        site = site.cold_file(name, 1, 4_096);
    }
    site = site.models_file("own.gguf", 1, 4_096);
    set(&site.cold(0, "team"), 0o750, (0, TEAM));
    for name in ["closed/a.gguf", "closed/b.gguf"] {
        set(&site.cold(0, name), 0o600, (0, 0));
    }
    let Some(mount) = site.start() else { return };
    let (status, view) = ask(&mount, OTHER);
    assert_eq!(status, 1, "{view:?}");
    assert_eq!(
        checks(&view),
        ["user-cannot-read", "user-cannot-enter"],
        "{view:?}"
    );
    let [files, team] = view.findings.as_slice() else {
        panic!("{view:?}")
    };
    assert!(files.found.contains("nor 1 more"), "{files:?}");
    let closed = mount.cold(0, "closed");
    let advised = format!("chmod o+r {}/*", closed.display());
    assert!(files.remedy.contains(&advised), "{files:?}");
    assert_eq!(team.subject, mount.mounted("team").to_str().unwrap());
    assert!(
        team.remedy.contains("never written through the mount"),
        "{team:?}"
    );
    // The mount does not go by ACLs.
    assert!(!team.remedy.contains("setfacl"), "{team:?}");
    for (name, mode) in [
        ("team", 0o751),
        ("closed/a.gguf", 0o604),
        ("closed/b.gguf", 0o604),
    ] {
        set(&mount.cold(0, name), mode, (0, 0));
    }
    let remedied = || checks(&ask(&mount, OTHER).1) == ["user-cannot-list"];
    mount.until("the mount shows what was changed", remedied);
    set(&mount.cold(0, "team"), 0o755, (0, 0));
    mount.until("all is open", || ask(&mount, OTHER).0 == 0);
    let (_, view) = ask(&mount, OTHER);
    let scope = view.scope.unwrap();
    assert!(scope.contains("8 files and directories"), "{scope}");
    // Nothing was loaded by being looked at.
    assert!(mount.which("open/m.gguf").replicas.is_empty());
}

#[test]
fn a_mount_for_its_owner_alone_is_told_as_such() {
    let site = Site::new().option("mount.allow_other=false");
    let Some(mount) = site.cold_file("m.gguf", 1, 1).start() else {
        return;
    };
    let (status, view) = ask(&mount, OTHER);
    assert_eq!((status, checks(&view)), (1, vec!["user-cannot-enter"]));
    let remedy = &view.findings[0].remedy;
    assert!(remedy.contains("mount.allow_other = true"), "{remedy}");
    assert_eq!(ask(&mount, 0).0, 0);
}

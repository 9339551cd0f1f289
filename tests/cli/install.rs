//! `speedloader install`: shown, made beneath another root, made only once, and taken back.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::console::{Outcome, Recorder, with_answers};
use crate::harness::mount::PROGRAM;
use crate::harness::{as_user, skip};

const UNIT: &str = "etc/systemd/system/speedloader.service";
const HELPER: &str = "sbin/mount.fuse.speedloader";
const FSTAB: &str = "# mine\nUUID=1 / ext4 defaults 0 1\n";

/// An image of a machine.
struct Image(tempfile::TempDir);

impl Image {
    fn new() -> Image {
        let image = Image(tempfile::tempdir().unwrap());
        for directory in ["etc/speedloader", "usr/sbin", "usr/share/man"] {
            fs::create_dir_all(image.path(directory)).unwrap();
        }
        symlink("usr/sbin", image.path("sbin")).unwrap();
        image.write("etc/fstab", FSTAB);
        image.configure("models_dir = \"/srv/models\"\nmountpoint = \"/mnt/models\"\n");
        image
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn configure(&self, text: &str) {
        self.write("etc/speedloader/config.toml", text);
    }

    fn run(&self, arguments: &[&str], answers: Option<&str>) -> Outcome {
        let root = self.0.path().to_str().unwrap();
        let whole = [&["speedloader", "install", "--root", root][..], arguments];
        let mut whole = whole.concat();
        if !arguments.contains(&"--program") {
            whole.extend(["--program", "/usr/local/bin/speedloader"]);
        }
        // What this shell has is not what a service has.
        let environment = [
            ("SPEEDLOADER_MODELS_DIR", "relative"),
            ("HOME", "/nonexistent"),
        ];
        with_answers(&whole, answers, &environment, &Recorder::default())
    }

    fn done(&self, arguments: &[&str]) -> String {
        let outcome = self.run(arguments, None);
        assert_eq!(outcome.status, 0, "{arguments:?}: {outcome:?}");
        outcome.out
    }

    /// Every file, with its permissions and where links lead.
    fn picture(&self) -> BTreeMap<PathBuf, (u32, String)> {
        let mut seen = BTreeMap::new();
        let mut open = vec![self.0.path().to_owned()];
        while let Some(directory) = open.pop() {
            for entry in fs::read_dir(directory).unwrap().flatten() {
                let path = entry.path();
                let found = entry.metadata().unwrap();
                if found.is_dir() {
                    open.push(path);
                    continue;
                }
                let text = match fs::read_link(&path) {
                    Ok(target) => target.display().to_string(),
                    Err(_) => String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned(),
                };
                seen.insert(path, (found.permissions().mode(), text));
            }
        }
        seen
    }
}

/// Without the digests, which change with every word of what they are about.
fn without_digests(text: &str) -> String {
    let mut shown = String::new();
    for line in text.lines() {
        let end = line.find("sha256:").map_or(line.len(), |at| at + 7);
        let rest = line.get(end + 64..).unwrap_or_default();
        shown += &format!("{}{rest}\n", &line[..end]);
    }
    shown
}

#[test]
fn a_service_is_shown_before_it_is_written() {
    let image = Image::new();
    let before = image.picture();
    fs::remove_dir(image.path("usr/share/man")).unwrap();
    let shown = image.done(&["--dry-run"]);
    insta::assert_snapshot!("install_service", without_digests(&shown));
    let fstab = image.done(&["--dry-run", "--fstab"]);
    insta::assert_snapshot!("install_fstab", without_digests(&fstab));
    assert_eq!(image.picture(), before);
}

#[test]
fn what_is_installed_is_installed_once_and_taken_back() {
    for way in [&[][..], &["--fstab"]] {
        let image = Image::new();
        fs::create_dir_all(image.path("usr/share/zsh")).unwrap();
        fs::set_permissions(image.path("etc/fstab"), fs::Permissions::from_mode(0o640)).unwrap();
        let before = image.picture();
        image.done(&[way, &["--yes"]].concat());
        let installed = image.picture();
        assert!(installed.len() > before.len() + 40, "manual pages, too");
        assert!(
            image
                .path("usr/local/share/man/man1/speedloader-install.1")
                .exists()
        );
        assert!(
            image
                .path("usr/local/share/zsh/site-functions/_speedloader")
                .exists()
        );
        assert!(
            !image.path("usr/local/share/fish").exists(),
            "nobody reads it"
        );
        let again = image.done(&[way, &["--yes"]].concat());
        assert_eq!(
            again, "nothing to change: all is as it would be\n",
            "{way:?}"
        );
        assert_eq!(image.picture(), installed);
        let trial = image.done(&["--uninstall", "--dry-run"]);
        assert!(trial.ends_with("files would change\n"), "{trial}");
        assert_eq!(image.picture(), installed);
        image.done(&["--uninstall", "--yes"]);
        assert_eq!(image.picture(), before, "{way:?}");
        let nothing = image.done(&["--uninstall", "--yes"]);
        assert!(nothing.starts_with("nothing to change"), "{nothing}");
    }
}

#[test]
fn the_unit_and_the_line_name_what_is_installed() {
    let image = Image::new();
    image.write(
        "opt/my config.toml",
        "models_dir = \"/m\"\nmountpoint = \"/mnt/a b\"\n",
    );
    image.done(&["--yes", "--config", "/opt/my config.toml"]);
    let unit = image.read(UNIT);
    let wanted = "ExecStart=/usr/local/bin/speedloader serve --config \"/opt/my config.toml\"\n";
    assert!(unit.contains(wanted), "{unit}");
    image.done(&["--uninstall", "--yes"]);
    image.done(&["--fstab", "--yes", "--config", "/opt/my config.toml"]);
    let table = image.read("etc/fstab");
    let wanted = "speedloader  /mnt/a\\040b  fuse.speedloader  config=/opt/my\\040config.toml,_netdev,nofail  0 0\n";
    assert!(
        table.starts_with(FSTAB) && table.ends_with(wanted),
        "{table}"
    );
    let link = fs::read_link(image.path(HELPER)).unwrap();
    assert_eq!(link, Path::new("/usr/local/bin/speedloader"));
    // A change of ours takes its place.
    image.configure("models_dir = \"/m\"\nmountpoint = \"/mnt/b\"\n");
    image.done(&["--fstab", "--yes"]);
    let table = image.read("etc/fstab");
    assert!(
        table.contains("  /mnt/b  ") && !table.contains("040b"),
        "{table}"
    );
    assert_eq!(table.lines().count(), FSTAB.lines().count() + 2);
}

#[test]
fn systemd_reads_the_unit() {
    if skip::lacks_programs(&["systemd-analyze"]) {
        return;
    }
    let image = Image::new();
    let config = "/opt/my $HOME 100% \"c\" ';.toml";
    let text = "models_dir = \"/m\"\nmountpoint = \"/mnt/m\"\n";
    image.write(&config[1..], text);
    image.done(&["--yes", "--program", PROGRAM, "--config", config]);
    let verified = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(image.path(UNIT))
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&verified.stderr);
    assert!(!told.contains("speedloader.service"), "{told}");
    let unit = image.read(UNIT);
    assert!(unit.contains("/opt/my $$HOME 100%%"), "{unit}");
}

#[test]
fn what_others_wrote_or_changed_is_replaced_only_by_force_and_comes_back() {
    let image = Image::new();
    image.write(UNIT, "[Unit]\nDescription=mine\n");
    let before = image.picture();
    let refused = image.run(&["--yes"], None);
    assert_eq!(refused.status, 4, "{refused:?}");
    assert!(
        refused.err.contains("is somebody else's"),
        "{}",
        refused.err
    );
    assert!(refused.err.contains("--force"), "{}", refused.err);
    assert_eq!(image.picture(), before);
    image.done(&["--yes", "--force"]);
    let kept = format!("{UNIT}.before-speedloader");
    assert_eq!(image.read(&kept), "[Unit]\nDescription=mine\n");
    image.done(&["--uninstall", "--yes"]);
    assert_eq!(image.picture(), before);
    // What was changed since is not ours any more.
    image.done(&["--yes", "--force"]);
    let changed = image.read(UNIT) + "# more\n";
    image.write(UNIT, &changed);
    let refused = image.run(&["--yes"], None);
    assert!(refused.err.contains("was changed since"), "{}", refused.err);
    let left = image.done(&["--uninstall", "--yes"]);
    assert!(left.contains("stays") && left.contains("--force"), "{left}");
    assert_eq!(image.read(UNIT), changed);
    // Nor is what is kept lost by a second one.
    let twice = image.run(&["--yes", "--force"], None);
    assert_eq!(twice.status, 4, "{twice:?}");
    assert!(twice.err.contains("is kept already"), "{}", twice.err);
    assert_eq!(image.read(&kept), "[Unit]\nDescription=mine\n");
}

#[test]
fn only_one_way_mounts_at_one_place() {
    let image = Image::new();
    image.done(&["--yes"]);
    let both = image.run(&["--fstab", "--yes"], None);
    assert_eq!(both.status, 4, "{both:?}");
    assert!(both.err.contains("--uninstall"), "{}", both.err);
    image.done(&["--uninstall", "--yes"]);
    image.write(
        "etc/fstab",
        &format!("{FSTAB}nas:/m /mnt/models/ nfs defaults 0 0\n"),
    );
    for way in [&["--yes"][..], &["--fstab", "--yes", "--force"]] {
        let other = image.run(way, None);
        assert_eq!(other.status, 4, "{other:?}");
        assert!(
            other.err.contains("mounts something at /mnt/models"),
            "{}",
            other.err
        );
    }
    fs::remove_file(image.path("etc/fstab")).unwrap();
    symlink("/elsewhere", image.path("etc/fstab")).unwrap();
    let linked = image.run(&["--fstab", "--yes"], None);
    assert!(
        linked.err.contains("is a link to /elsewhere"),
        "{}",
        linked.err
    );
}

/// A link in an image that leads to the machine's own files, or a `..` too many.
#[test]
fn no_link_leads_out_of_the_root() {
    let outside = tempfile::tempdir().unwrap();
    let image = Image::new();
    let absolute = outside.path().join("system");
    fs::create_dir_all(&absolute).unwrap();
    fs::create_dir_all(image.path("etc/systemd")).unwrap();
    let up = format!(
        "{}{}",
        "../".repeat(40),
        &absolute.display().to_string()[1..]
    );
    for target in [absolute.display().to_string(), up] {
        symlink(&target, image.path("etc/systemd/system")).unwrap();
        // It is within the image, where there is nothing of that name.
        let outcome = image.run(&["--yes"], None);
        assert_ne!(outcome.status, 0, "{outcome:?}");
        assert_eq!(fs::read_dir(&absolute).unwrap().count(), 0);
        fs::create_dir_all(image.path(&absolute.display().to_string()[1..])).unwrap();
        image.done(&["--yes"]);
        assert_eq!(fs::read_dir(&absolute).unwrap().count(), 0);
        image.done(&["--uninstall", "--yes"]);
        fs::remove_dir_all(image.path(&absolute.display().to_string()[1..])).unwrap();
        fs::remove_file(image.path("etc/systemd/system")).unwrap();
    }
    // Nor through the place of a file.
    let victim = outside.path().join("victim");
    fs::write(&victim, "victim").unwrap();
    fs::create_dir_all(image.path("etc/systemd/system")).unwrap();
    symlink(&victim, image.path(UNIT)).unwrap();
    assert_eq!(image.run(&["--yes"], None).status, 4);
    image.done(&["--yes", "--force"]);
    assert_eq!(fs::read_to_string(&victim).unwrap(), "victim");
    image.done(&["--uninstall", "--yes"]);
    assert_eq!(fs::read_link(image.path(UNIT)).unwrap(), victim);
}

#[test]
fn a_person_is_asked_and_nobody_else_agrees() {
    let image = Image::new();
    let before = image.picture();
    for (answers, status) in [
        (None, 2),
        (Some(""), 0),
        (Some("n\n"), 0),
        (Some("what\n"), 0),
    ] {
        let outcome = image.run(&[], answers);
        assert_eq!(outcome.status, status, "{outcome:?}");
        assert!(outcome.out.contains("+[Unit]"), "{}", outcome.out);
        assert_eq!(image.picture(), before, "{answers:?}");
    }
    let json = image.run(&["--json"], Some("y\n"));
    assert_eq!(json.status, 2, "a program is not asked");
    assert_eq!(image.picture(), before);
    let agreed = image.run(&[], Some("y\n"));
    assert_eq!(agreed.status, 0, "{agreed:?}");
    assert!(image.path(UNIT).exists());
}

#[test]
fn json_has_every_change_before_and_after() {
    let image = Image::new();
    let shown = image.done(&["--fstab", "--yes", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(
        (&json["view"], &json["state"]),
        (&"install".into(), &"done".into())
    );
    let table = &json["changes"][0];
    assert_eq!(table["path"], "/etc/fstab");
    assert_eq!(table["before"]["text"], FSTAB);
    assert_eq!(table["after"]["text"], image.read("etc/fstab"));
    assert_eq!(
        json["changes"][1]["after"]["target"],
        "/usr/local/bin/speedloader"
    );
    assert_eq!(json["changes"][1]["before"], serde_json::Value::Null);
}

#[test]
fn a_faulty_configuration_is_refused_with_all_its_faults() {
    let image = Image::new();
    image.configure("modelsdir = \"/m\"\nmountpoint = 7\n");
    let faulty = image.run(&["--yes"], None);
    assert_eq!(faulty.status, 2, "{faulty:?}");
    let told = &faulty.err;
    assert!(
        told.contains("modelsdir") && told.contains("mountpoint"),
        "{told}"
    );
    image.configure("models_dir = \"/m\"\n");
    let nowhere = image.run(&["--yes"], None);
    assert_eq!(nowhere.status, 2, "{nowhere:?}");
    assert!(nowhere.err.contains("mountpoint"), "{}", nowhere.err);
    fs::remove_file(image.path("etc/speedloader/config.toml")).unwrap();
    let none = image.run(&["--yes"], None);
    assert_eq!(none.status, 2, "{none:?}");
    assert!(none.err.contains("speedloader setup"), "{}", none.err);
    assert!(!image.path(UNIT).exists());
}

#[test]
fn hostile_paths_and_wrong_words_are_refused() {
    let image = Image::new();
    image.configure("models_dir = \"/m\"\nmountpoint = \"/mnt/a\\nb\"\n");
    let hostile = image.run(&["--fstab", "--yes"], None);
    assert_ne!(hostile.status, 0, "{hostile:?}");
    assert!(!hostile.err.contains("a\nb"), "{}", hostile.err);
    assert_eq!(image.read("etc/fstab"), FSTAB);
    for wrong in [
        &["--program", "relative", "--yes"][..],
        &["--root", "/nonexistent", "--yes"],
        &["--root", "/dev/null", "--yes"],
        &["--now", "--yes"],
        &["--uninstall", "--fstab"],
        &["--yes", "--dry-run"],
    ] {
        let whole = [&["speedloader", "install"][..], wrong].concat();
        let whole = match wrong.contains(&"--now") {
            true => [&whole[..], &["--root", "/"]].concat(),
            false => whole,
        };
        let outcome = with_answers(&whole, None, &[], &Recorder::default());
        assert_eq!(outcome.status, 2, "{wrong:?}: {outcome:?}");
    }
}

#[test]
fn who_may_not_write_is_told_who_may() {
    if !skip::is_root() {
        return skip::skip("becoming another user needs root");
    }
    let image = Image::new();
    fs::set_permissions(image.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let before = image.picture();
    let outcome = as_user(5001, &[], || image.run(&["--yes"], None));
    assert_eq!(outcome.status, 7, "{outcome:?}");
    assert!(outcome.err.contains("as root it can be"), "{}", outcome.err);
    assert_eq!(image.picture(), before);
    let trial = as_user(5001, &[], || image.run(&["--dry-run"], None));
    assert_eq!(trial.status, 0, "{trial:?}");
}

#[test]
fn what_cannot_be_written_is_said_and_nothing_is_half() {
    let image = Image::new();
    // A directory in the place of the unit.
    fs::create_dir_all(image.path(UNIT)).unwrap();
    let before = image.picture();
    let outcome = image.run(&["--yes", "--force"], None);
    assert_eq!(outcome.status, 1, "{outcome:?}");
    assert!(
        outcome.err.contains("neither a file nor a link"),
        "{}",
        outcome.err
    );
    assert_eq!(image.picture(), before);
    fs::remove_dir(image.path(UNIT)).unwrap();
    fs::remove_dir_all(image.path("etc/systemd")).unwrap();
    // A file in the place of a directory.
    image.write("etc/systemd", "");
    let outcome = image.run(&["--yes"], None);
    assert_eq!(outcome.status, 1, "{outcome:?}");
    assert!(outcome.err.contains(UNIT), "{}", outcome.err);
}

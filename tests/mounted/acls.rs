//! Home files with POSIX ACLs: nobody is let in through the mount whom the home itself refuses.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::acl::{self, Entry};
use crate::harness::store::Speed;
use crate::harness::{Mount, Site, content, skip};

/// Whose files are, and who is named in ACLs.
const GROUP: u32 = 10;
const NAMED_USER: u32 = 1;
const NAMED_GROUP: u32 = 20;
/// User and group of those who try.
const VISITORS: [(u32, u32); 6] = [
    (NAMED_USER, 1),
    (NAMED_USER, GROUP),
    (NAMED_USER, NAMED_GROUP),
    (2, GROUP),
    (2, NAMED_GROUP),
    (3, 3),
];

/// All ACLs that differ in who may read.
fn acls() -> Vec<Vec<Entry>> {
    let mut acls = Vec::new();
    for number in 0..72 {
        let may = |bit: usize| if number >> bit & 1 == 0 { 0 } else { 4 };
        let named = |which: usize| match number / 8 / which % 3 {
            0 => None,
            1 => Some(0),
            _ => Some(4),
        };
        let mut acl = vec![Entry::Owner(6)];
        acl.extend(named(1).map(|allowed| Entry::User(NAMED_USER, allowed)));
        acl.push(Entry::OwningGroup(may(0)));
        acl.extend(named(3).map(|allowed| Entry::Group(NAMED_GROUP, allowed)));
        acl.extend([Entry::Mask(may(1)), Entry::Others(may(2))]);
        acls.push(acl);
    }
    acls
}

fn names_somebody(acl: &[Entry]) -> bool {
    let names = |entry: &Entry| matches!(entry, Entry::User(..) | Entry::Group(..));
    acl.iter().any(names)
}

/// Which of these files, below a directory, a visitor can open to read.
fn readable(top: &Path, files: &[PathBuf], (uid, gid): (u32, u32)) -> BTreeSet<PathBuf> {
    let script = r#"for file; do true 2> /dev/null < "$file" && echo "$file"; done; true"#;
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh"]).args(files);
    let output = shell.current_dir(top).uid(uid).gid(gid).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    said.lines().map(PathBuf::from).collect()
}

fn put(file: &Path, acl: &[Entry]) {
    chown(file, None, Some(GROUP)).unwrap();
    acl::set(file, acl).unwrap();
}

#[test]
fn nobody_is_let_in_whom_an_acl_refuses() {
    if !acl::are_kept() {
        skip::skip("no ACLs are kept here");
        return;
    }
    let acls = acls();
    let mut site = Site::new();
    let mut files = Vec::new();
    for number in 0..acls.len() {
        let (own, cold) = (format!("own/{number}"), format!("cold/{number}"));
        site = site.models_file(&own, 1, 1).cold_file(&cold, 1, 1);
        files.extend([PathBuf::from(own), PathBuf::from(cold)]);
    }
    site = site.models_file("closed/file", 1, 1);
    files.push(PathBuf::from("closed/file"));
    for (number, acl) in acls.iter().enumerate() {
        put(&site.models(format!("own/{number}")), acl);
        put(&site.cold(0, format!("cold/{number}")), acl);
    }
    // As a file, but for who goes through it.
    let through = [
        Entry::Owner(7),
        Entry::User(NAMED_USER, 5),
        Entry::OwningGroup(0),
        Entry::Mask(5),
        Entry::Others(0),
    ];
    put(&site.models("closed"), &through);
    fs::set_permissions(
        site.models("closed/file"),
        fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    for home in [
        site.models(""),
        site.models("own"),
        site.cold(0, ""),
        site.cold(0, "cold"),
    ] {
        fs::set_permissions(home, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let Some(mount) = site.start() else { return };

    let is_below = |mount: &Mount, file: &Path| mount.models(file).exists();
    let compare = |mount: &Mount| {
        let (own, cold): (Vec<_>, Vec<_>) = files
            .iter()
            .cloned()
            .partition(|file| is_below(mount, file));
        let mut seen = 0;
        for visitor in VISITORS {
            let mut native = readable(&mount.models(""), &own, visitor);
            let reads = || readable(&mount.cold(0, ""), &cold, visitor);
            native.extend(mount.change_cold(0, reads));
            let mounted = readable(&mount.mounted(""), &files, visitor);
            let too_many: Vec<_> = mounted.difference(&native).collect();
            assert!(too_many.is_empty(), "{visitor:?} may read {too_many:?}");
            // What names nobody is shown as it is.
            for file in &files {
                let number = file.file_name().unwrap().to_string_lossy().parse::<usize>();
                if number.is_ok_and(|number| !names_somebody(&acls[number])) {
                    assert_eq!(
                        mounted.contains(file),
                        native.contains(file),
                        "{visitor:?} {file:?}"
                    );
                }
            }
            seen += mounted.len();
        }
        seen
    };
    assert!(compare(&mount) > 100);

    // One that is put there later, and one whose mask is raised through the mount.
    mount.change_cold(0, || {
        let file = mount.cold(0, format!("cold/{}", acls.len() - 1));
        acl::set(&file, &through).unwrap();
    });
    let shown = |file: &str| fs::metadata(mount.mounted(file)).unwrap().mode() & 0o777;
    let later = format!("cold/{}", acls.len() - 1);
    mount.until("the ACL is seen", || shown(&later) == 0o700);
    acl::set(&mount.models("own/8"), &through).unwrap();
    fs::set_permissions(mount.mounted("own/8"), fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(
        fs::metadata(mount.models("own/8")).unwrap().mode() & 0o777,
        0o666
    );
    assert_eq!(shown("own/8"), 0o604);
    content::check_file(&mount.mounted("own/8"), 1, 1).unwrap();
    compare(&mount);
    mount.finish();
}

/// The kernel gives the whole new mode of a `chmod`, made of the one that is shown: without the bits that an ACL's mask
/// has in the home, which `chmod u+x` took away, and with them what the ACL gave.
#[test]
fn a_chmod_leaves_the_mask_of_an_acl_that_it_does_not_mean() {
    if !acl::are_kept() {
        skip::skip("no ACLs are kept here");
        return;
    }
    let site = Site::new().models_file("own", 1, 1);
    let lets_in = [
        Entry::Owner(6),
        Entry::User(NAMED_USER, 4),
        Entry::OwningGroup(0),
        Entry::Mask(4),
        Entry::Others(0),
    ];
    put(&site.models("own"), &lets_in);
    let Some(mount) = site.start() else { return };
    let mode = |path: PathBuf| fs::metadata(path).unwrap().mode() & 0o777;
    let change = |to: u32| {
        fs::set_permissions(mount.mounted("own"), fs::Permissions::from_mode(to)).unwrap();
        (mode(mount.mounted("own")), mode(mount.models("own")))
    };
    assert_eq!(mode(mount.mounted("own")), 0o600);
    assert_eq!(change(0o700), (0o700, 0o740));
    // What is meant is done.
    assert_eq!(change(0o770).1, 0o770);
    mount.finish();
}

/// Its server answers any question for an ACL with EIO, as rclone's does, and the directory that it is mounted in is
/// on another file system.
#[test]
fn what_is_mounted_below_a_cold_directory_is_shown() {
    let site = Site::new().cold_file("near", 1, 4096);
    let backing = site.root().join("backing");
    fs::create_dir(&backing).unwrap();
    content::write_file(&backing.join("model"), 2, 4096);
    fs::create_dir(site.cold(0, "far")).unwrap();
    let Some(store) = site.far_store_at(&backing, &site.cold(0, "far"), Speed::default()) else {
        return;
    };
    let mount = site.start().expect("a mount");
    content::check_file(&mount.mounted("near"), 1, 4096).unwrap();
    content::check_file(&mount.mounted("far/model"), 2, 4096).unwrap();
    mount.finish();
    drop(store);
}

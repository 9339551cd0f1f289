//! Directories of cold storage that keep people out, and that the models directory gets as well.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use crate::harness::{Mount, Site, as_user, in_both_modes};

/// Who may make directories in the models directory, and who may not.
const MAKER: u32 = 5001;
const OTHER: u32 = 5002;
/// Whom a directory of cold storage lets in.
const TEAM: u32 = 5003;
/// Times that he makes one and looks into it, while the kernel is told of it.
const TRIES: usize = 100;

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn site(site: Site) -> Site {
    let mut site = site.unguarded();
    for name in [
        "private/within",
        "private/below/deep",
        "team/within",
        "open/within",
    ] {
        site = site.cold_file(name, 1, 1);
    }
    set_mode(&site.models(""), 0o777);
    for (name, mode) in [("private", 0o700), ("team", 0o750), ("open", 0o755)] {
        set_mode(&site.cold(0, name), mode);
    }
    for name in ["team", "team/within"] {
        chown(site.cold(0, name), None, Some(TEAM)).unwrap();
    }
    site
}

fn reads(mount: &Mount, name: &str, (user, groups): (u32, &[u32])) -> bool {
    let path = mount.mounted(name);
    as_user(user, groups, move || fs::File::open(path).is_ok())
}

/// He let himself in: what is shown had the permissions of the directory that he had made beside.
#[test]
fn whom_a_cold_directory_keeps_out_is_not_let_in_by_one_beside_it() {
    in_both_modes(site, |mount| {
        let closed = ["private", "private/below", "team"];
        let secrets = ["private/within", "private/below/deep", "team/within"];
        let make = |name: &str| {
            let path = mount.models(name);
            as_user(MAKER, &[], || {
                fs::create_dir(&path).unwrap();
                set_mode(&path, 0o777);
            });
        };
        for _ in 0..TRIES {
            // The kernel knows them, with the permissions that they had.
            assert!(secrets.iter().all(|name| mount.mounted(name).exists()));
            closed.iter().for_each(|name| make(name));
            for name in secrets {
                assert!(!reads(mount, name, (MAKER, &[])), "{name}");
            }
            for name in closed.iter().rev() {
                fs::remove_dir(mount.models(name)).unwrap();
            }
        }
        closed.iter().chain(&["open"]).for_each(|name| make(name));
        let merged = || {
            let mut stats = closed
                .iter()
                .map(|name| fs::metadata(mount.mounted(name)).unwrap());
            stats.all(|stat| stat.uid() == MAKER)
        };
        mount.until("shown are the permissions of his", merged);
        for name in secrets {
            assert!(!reads(mount, name, (MAKER, &[])), "{name}");
            assert!(!reads(mount, name, (OTHER, &[])), "{name}");
            assert!(reads(mount, name, (0, &[])), "{name}");
        }
        assert!(reads(mount, "open/within", (OTHER, &[])));
        assert!(reads(mount, "team/within", (OTHER, &[TEAM])));
        assert!(!reads(mount, "private/within", (OTHER, &[TEAM])));
        // What they are shown with follows the cold directories.
        set_mode(&mount.cold(0, "private"), 0o755);
        mount.until("it is open to all", || {
            let open = ["private/within", "private/below/deep"];
            open.iter().all(|name| reads(mount, name, (OTHER, &[])))
        });
        set_mode(&mount.cold(0, "private"), 0o700);
        mount.until("it is closed again", || {
            !reads(mount, "private/within", (OTHER, &[]))
        });
    });
}

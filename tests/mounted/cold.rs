//! Cold storage is never written: everything that would change a cold file is refused with EROFS and
//! an event that says why, or goes to the models directory, whose file then shadows the cold one.
//! Every test of this binary runs under a watch over its cold directories; these try to fool it.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use rustix::fs::{CWD, RenameFlags};

use crate::harness::{Mount, Site, content, in_both_modes, mapping, skip};

const LEN: u64 = 300_001;

fn site(site: Site) -> Site {
    site.cold_file("d/f", 1, LEN)
        .cold_file("only/cold", 2, 10)
        .models_file("own", 3, 20)
}

/// Everything that is refused, by name.
fn attempts(mount: &Mount) -> Vec<(&'static str, std::io::Result<()>)> {
    let (cold, own) = (mount.mounted("d/f"), mount.mounted("own"));
    let open = |options: &mut OpenOptions| options.open(&cold).map(|_| ());
    let exchange = |from: &Path, to: &Path| {
        Ok(rustix::fs::renameat_with(
            CWD,
            from,
            CWD,
            to,
            RenameFlags::EXCHANGE,
        )?)
    };
    vec![
        (
            "open O_RDWR",
            open(OpenOptions::new().read(true).write(true)),
        ),
        ("open O_WRONLY", open(OpenOptions::new().write(true))),
        ("open O_APPEND", open(OpenOptions::new().append(true))),
        (
            "open O_CREAT",
            open(OpenOptions::new().write(true).create(true)),
        ),
        ("truncate to a part", truncate_path(&cold, 5)),
        ("truncate to more", truncate_path(&cold, LEN + 5)),
        (
            "chmod",
            fs::set_permissions(&cold, fs::Permissions::from_mode(0o600)),
        ),
        ("chown", chown(&cold, Some(1), Some(1))),
        (
            "utimens",
            rustix::fs::utimensat(CWD, &cold, &times(), rustix::fs::AtFlags::empty())
                .map_err(Into::into),
        ),
        ("unlink", fs::remove_file(&cold)),
        ("rename away", fs::rename(&cold, mount.mounted("elsewhere"))),
        ("exchange", exchange(&cold, &own)),
        ("exchange the other way", exchange(&own, &cold)),
        (
            "rename its directory",
            fs::rename(mount.mounted("d"), mount.mounted("e")),
        ),
        ("link", fs::hard_link(&cold, mount.mounted("link"))),
        ("rmdir", fs::remove_dir(mount.mounted("empty"))),
        (
            "chmod of its directory",
            fs::set_permissions(mount.mounted("only"), fs::Permissions::from_mode(0o700)),
        ),
    ]
}

/// truncate(2), by name: a descriptor cannot be had.
fn truncate_path(path: &Path, len: u64) -> std::io::Result<()> {
    let script = "import os, sys\ntry: os.truncate(sys.argv[1], int(sys.argv[2]))\nexcept OSError as e: sys.exit(e.errno)";
    let mut python = std::process::Command::new("python3");
    let status = python
        .args(["-c", script])
        .arg(path)
        .arg(len.to_string())
        .status()?;
    match status.code() {
        Some(0) => Ok(()),
        code => Err(std::io::Error::from_raw_os_error(code.unwrap_or(-1))),
    }
}

fn times() -> rustix::fs::Timestamps {
    let time = rustix::fs::Timespec {
        tv_sec: 5,
        tv_nsec: 0,
    };
    rustix::fs::Timestamps {
        last_access: time,
        last_modification: time,
    }
}

#[test]
fn every_change_of_a_cold_file_is_refused() {
    if skip::lacks_programs(&["python3"]) {
        return;
    }
    in_both_modes(
        |fresh| {
            let site = site(fresh);
            fs::create_dir(site.cold(0, "empty")).unwrap();
            site
        },
        |mount| {
            for resident in [false, true] {
                if resident {
                    mount.promote_wait("d/f");
                }
                for (what, result) in attempts(mount) {
                    let error = result.expect_err(what);
                    assert_eq!(
                        error.kind(),
                        ErrorKind::ReadOnlyFilesystem,
                        "{what}: {error}"
                    );
                }
                content::check_file(&mount.mounted("d/f"), 1, LEN).unwrap();
                content::check_file(&mount.mounted("own"), 3, 20).unwrap();
            }
            let refused: Vec<_> = mount
                .events()
                .into_iter()
                .filter(|event| event.kind == "refused")
                .collect();
            let who = format!("({}): ", rustix::thread::gettid().as_raw_nonzero());
            assert!(
                refused.iter().any(|event| event.subject.contains("d/f")
                    && event.text.contains(&who)
                    && event.text.contains(" refused, ")),
                "{refused:?}"
            );
            assert!(!mount.models("d/f").exists(), "a refusal has made a file");
        },
    );
}

#[test]
fn touching_a_cold_file_changes_nothing() {
    in_both_modes(site, |mount| {
        let before = fs::metadata(mount.cold(0, "d/f"))
            .unwrap()
            .modified()
            .unwrap();
        let now = rustix::fs::Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_NOW,
        };
        let touch = rustix::fs::Timestamps {
            last_access: now,
            last_modification: now,
        };
        let path = mount.mounted("d/f");
        rustix::fs::utimensat(CWD, &path, &touch, rustix::fs::AtFlags::empty()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), before);
        assert_eq!(
            fs::metadata(mount.cold(0, "d/f"))
                .unwrap()
                .modified()
                .unwrap(),
            before
        );
        assert!(!mount.models("d/f").exists(), "a touch has made a file");
    });
}

#[test]
fn a_cold_file_cannot_be_written_through_a_mapping_or_a_read_handle() {
    in_both_modes(site, |mount| {
        for resident in [false, true] {
            if resident {
                mount.promote_wait("d/f");
            }
            let file = File::open(mount.mounted("d/f")).unwrap();
            assert_eq!(
                mapping::shared_mut(&file).unwrap_err().kind(),
                ErrorKind::PermissionDenied
            );
            assert!((&file).write(b"x").is_err());
            assert!(file.set_len(0).is_err());
            assert!(
                rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 10).is_err()
            );
            // The kernel opens backing files again with the caller's flags.
            let again = OpenOptions::new().read(true).write(true).open(format!(
                "/proc/self/fd/{}",
                std::os::fd::AsRawFd::as_raw_fd(&file)
            ));
            assert_eq!(again.unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
            content::check_open(&file, 1, LEN).unwrap();
        }
    });
}

#[test]
fn emptying_a_cold_file_makes_one_that_shadows_it() {
    if skip::lacks_programs(&["python3"]) {
        return;
    }
    in_both_modes(site, |mount| {
        let path = mount.mounted("d/f");
        let old = File::open(&path).unwrap();
        fs::write(&path, "new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read(mount.models("d/f")).unwrap(), b"new");
        // A reader whose pages the daemon fills sees the file emptied, as on any file system; one
        // that the kernel serves keeps what it opened.
        if mount.status().passthrough.active {
            content::check_open(&old, 1, LEN).unwrap();
        }
        // What is taken away is the shadow.
        fs::remove_file(&path).unwrap();
        content::check_file(&path, 1, LEN).unwrap();
        assert!(!mount.models("d/f").exists());
        assert_eq!(
            truncate_path(&path, 0).map_err(|error| error.to_string()),
            Ok(())
        );
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        assert!(mount.models("d/f").exists());
        let options = OpenOptions::new()
            .read(true)
            .write(true)
            .truncate(true)
            .open(&path);
        assert_eq!(options.unwrap().metadata().unwrap().len(), 0);
    });
}

#[test]
fn a_name_of_cold_storage_can_be_replaced() {
    in_both_modes(site, |mount| {
        fs::rename(mount.mounted("own"), mount.mounted("d/f")).unwrap();
        content::check_file(&mount.mounted("d/f"), 3, 20).unwrap();
        content::check_file(&mount.models("d/f"), 3, 20).unwrap();
        assert!(!mount.mounted("own").exists());
        let created = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(mount.mounted("only/cold"));
        assert_eq!(created.unwrap_err().kind(), ErrorKind::AlreadyExists);
    });
}

#[test]
fn what_is_made_in_a_cold_directory_lies_in_the_models_directory() {
    in_both_modes(site, |mount| {
        fs::write(mount.mounted("only/new"), "new").unwrap();
        fs::create_dir(mount.mounted("only/sub")).unwrap();
        assert_eq!(fs::read(mount.models("only/new")).unwrap(), b"new");
        assert!(mount.models("only/sub").is_dir());
        let told = |path: std::path::PathBuf| fs::metadata(path).unwrap();
        let (made, original) = (told(mount.models("only")), told(mount.cold(0, "only")));
        assert_eq!(
            (made.mode(), made.uid(), made.gid()),
            (original.mode(), original.uid(), original.gid())
        );
        content::check_file(&mount.mounted("only/cold"), 2, 10).unwrap();
    });
}

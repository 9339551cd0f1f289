//! The write path of POSIX through the mount: what is done there is found in the models directory,
//! at once and byte for byte, and the other way round nothing is lost.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, FallocateFlags, RenameFlags};

use crate::harness::{Site, content, in_both_modes, mapping};

const LEN: u64 = 200_001;

fn site(site: Site) -> Site {
    site.models_file("f", 1, LEN).models_file("d/g", 2, 50)
}

fn rename_with(from: &Path, to: &Path, flags: RenameFlags) -> std::io::Result<()> {
    Ok(rustix::fs::renameat_with(CWD, from, CWD, to, flags)?)
}

#[test]
fn a_new_file_is_in_the_models_directory() {
    in_both_modes(site, |mount| {
        let path = mount.mounted("d/new");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        file.write_all(&content::bytes(5, 0, 100_000)).unwrap();
        file.sync_all().unwrap();
        content::check_file(&mount.models("d/new"), 5, 100_000).unwrap();
        content::check_open(&file, 5, 100_000).unwrap();
        let again = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap_err();
        assert_eq!(again.kind(), ErrorKind::AlreadyExists);
        let (told, real) = (
            fs::metadata(&path).unwrap(),
            fs::metadata(mount.models("d/new")).unwrap(),
        );
        assert_eq!(
            (told.mode(), told.uid(), told.len(), told.mtime_nsec()),
            (real.mode(), real.uid(), real.len(), real.mtime_nsec())
        );
    });
}

#[test]
fn appending_adds_to_the_end() {
    in_both_modes(site, |mount| {
        let path = mount.mounted("f");
        let mut first = OpenOptions::new().append(true).open(&path).unwrap();
        let mut second = OpenOptions::new().append(true).open(&path).unwrap();
        let all = content::bytes(1, LEN, 30);
        first.write_all(&all[..10]).unwrap();
        second.write_all(&all[10..20]).unwrap();
        first.write_all(&all[20..]).unwrap();
        drop((first, second));
        content::check_file(&path, 1, LEN + 30).unwrap();
        content::check_file(&mount.models("f"), 1, LEN + 30).unwrap();
    });
}

#[test]
fn readers_and_writers_of_a_file_see_each_other() {
    in_both_modes(site, |mount| {
        let path = mount.mounted("f");
        mount.promote_wait("f");
        let reader = File::open(&path).unwrap();
        let writer = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        writer.write_all_at(b"changed", 1_000).unwrap();
        let mut buffer = [0; 7];
        writer.read_exact_at(&mut buffer, 1_000).unwrap();
        assert_eq!(&buffer, b"changed");
        let late = File::open(&path).unwrap();
        late.read_exact_at(&mut buffer, 1_000).unwrap();
        assert_eq!(&buffer, b"changed");
        drop((writer, late));
        // A replica never survives a change of its file.
        assert!(
            mount
                .which("f")
                .replicas
                .iter()
                .all(|replica| replica.state != speedloader::view::ReplicaState::Serving)
        );
        let mut after = [0; 7];
        File::open(&path)
            .unwrap()
            .read_exact_at(&mut after, 1_000)
            .unwrap();
        assert_eq!(&after, b"changed");
        drop(reader);
    });
}

#[test]
fn a_file_with_a_writer_is_not_promoted() {
    in_both_modes(site, |mount| {
        let writer = OpenOptions::new()
            .write(true)
            .open(mount.mounted("f"))
            .unwrap();
        let names = vec!["f".to_owned()];
        let _ = mount.try_call(speedloader::command::Command::Promote {
            names,
            pool: None,
            wait: true,
        });
        let place = mount.which("f");
        assert!(place.replicas.is_empty(), "{place:?}");
        drop(writer);
        // The close is told in the kernel's own time, however long the machine lets that take.
        mount.until("it is promoted", || {
            let _ = mount.try_call(speedloader::command::Command::Promote {
                names: vec!["f".to_owned()],
                pool: None,
                wait: true,
            });
            !mount.which("f").replicas.is_empty()
        });
        content::check_file(&mount.mounted("f"), 1, LEN).unwrap();
    });
}

#[test]
fn renames() {
    in_both_modes(site, |mount| {
        let (f, g, new) = (
            mount.mounted("f"),
            mount.mounted("d/g"),
            mount.mounted("d/new"),
        );
        let held = File::open(&f).unwrap();
        assert_eq!(
            rename_with(&f, &g, RenameFlags::NOREPLACE)
                .unwrap_err()
                .kind(),
            ErrorKind::AlreadyExists
        );
        rename_with(&f, &new, RenameFlags::NOREPLACE).unwrap();
        assert!(!f.exists() && !mount.models("f").exists());
        content::check_file(&new, 1, LEN).unwrap();
        content::check_file(&mount.models("d/new"), 1, LEN).unwrap();
        rename_with(&new, &g, RenameFlags::EXCHANGE).unwrap();
        content::check_file(&g, 1, LEN).unwrap();
        content::check_file(&new, 2, 50).unwrap();
        fs::rename(&g, &new).unwrap();
        content::check_file(&new, 1, LEN).unwrap();
        assert!(!g.exists());
        fs::rename(mount.mounted("d"), mount.mounted("e")).unwrap();
        content::check_file(&mount.mounted("e/new"), 1, LEN).unwrap();
        content::check_file(&mount.models("e/new"), 1, LEN).unwrap();
        content::check_open(&held, 1, LEN).unwrap();
        assert_eq!(
            fs::rename(mount.mounted("d/none"), mount.mounted("x"))
                .unwrap_err()
                .kind(),
            ErrorKind::NotFound
        );
        fs::create_dir_all(mount.mounted("a/b")).unwrap();
        assert_eq!(
            fs::rename(mount.mounted("a"), mount.mounted("a/b/c"))
                .unwrap_err()
                .kind(),
            ErrorKind::InvalidInput
        );
        assert_eq!(
            fs::rename(mount.mounted("a"), mount.mounted("e"))
                .unwrap_err()
                .kind(),
            ErrorKind::DirectoryNotEmpty
        );
    });
}

#[test]
fn a_renamed_file_keeps_its_replica() {
    in_both_modes(site, |mount| {
        mount.promote_wait("f");
        fs::rename(mount.mounted("f"), mount.mounted("d/moved")).unwrap();
        content::check_file(&mount.mounted("d/moved"), 1, LEN).unwrap();
        let place = mount.which("d/moved");
        assert_eq!(place.replicas.len(), 1, "{place:?}");
        assert!(
            Path::new(&place.serving).starts_with(mount.pool("p")),
            "{place:?}"
        );
    });
}

#[test]
fn links_and_symlinks() {
    in_both_modes(site, |mount| {
        let (f, link) = (mount.mounted("f"), mount.mounted("d/link"));
        fs::hard_link(&f, &link).unwrap();
        let (one, two) = (fs::metadata(&f).unwrap(), fs::metadata(&link).unwrap());
        assert_eq!((one.ino(), one.nlink()), (two.ino(), 2));
        OpenOptions::new()
            .append(true)
            .open(&link)
            .unwrap()
            .write_all(&content::bytes(1, LEN, 9))
            .unwrap();
        content::check_file(&f, 1, LEN + 9).unwrap();
        fs::remove_file(&f).unwrap();
        content::check_file(&link, 1, LEN + 9).unwrap();
        assert_eq!(fs::metadata(&link).unwrap().nlink(), 1);
        assert_eq!(
            fs::hard_link(&link, mount.mounted("d/g"))
                .unwrap_err()
                .kind(),
            ErrorKind::AlreadyExists
        );
        let soft = mount.mounted("soft");
        symlink("d/link", &soft).unwrap();
        assert_eq!(fs::read_link(&soft).unwrap(), Path::new("d/link"));
        assert_eq!(
            fs::read_link(mount.models("soft")).unwrap(),
            Path::new("d/link")
        );
        content::check_file(&soft, 1, LEN + 9).unwrap();
        fs::remove_file(&soft).unwrap();
        content::check_file(&link, 1, LEN + 9).unwrap();
    });
}

#[test]
fn what_is_open_outlives_its_name() {
    in_both_modes(site, |mount| {
        for resident in [false, true] {
            let name = if resident { "d/g" } else { "f" };
            let (seed, len) = if resident { (2, 50) } else { (1, LEN) };
            if resident {
                mount.promote_wait(name);
            }
            let reader = File::open(mount.mounted(name)).unwrap();
            fs::remove_file(mount.mounted(name)).unwrap();
            assert!(!mount.mounted(name).exists() && !mount.models(name).exists());
            content::check_open(&reader, seed, len).unwrap();
            assert_eq!(reader.metadata().unwrap().nlink(), 0);
        }
        let path = mount.mounted("scratch");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        fs::remove_file(&path).unwrap();
        file.write_all(b"still here").unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "still here");
        // The name is free for another file.
        fs::write(&path, "another").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"another");
        file.seek(SeekFrom::Start(0)).unwrap();
        text.clear();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "still here");
    });
}

#[test]
fn directories() {
    in_both_modes(site, |mount| {
        let path = mount.mounted("a/b/c");
        fs::create_dir_all(&path).unwrap();
        assert!(mount.models("a/b/c").is_dir());
        assert_eq!(
            fs::create_dir(&path).unwrap_err().kind(),
            ErrorKind::AlreadyExists
        );
        fs::write(path.join("x"), "x").unwrap();
        assert_eq!(
            fs::remove_dir(&path).unwrap_err().kind(),
            ErrorKind::DirectoryNotEmpty
        );
        assert_eq!(
            fs::remove_dir(path.join("x")).unwrap_err().kind(),
            ErrorKind::NotADirectory
        );
        assert_eq!(
            fs::remove_file(mount.mounted("a")).unwrap_err().kind(),
            ErrorKind::IsADirectory
        );
        fs::remove_dir_all(mount.mounted("a")).unwrap();
        assert!(!mount.models("a").exists() && !mount.mounted("a").exists());
        File::open(mount.mounted("")).unwrap().sync_all().unwrap();
    });
}

#[test]
fn truncation() {
    in_both_modes(site, |mount| {
        let path = mount.mounted("f");
        mount.promote_wait("f");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        file.set_len(1_000).unwrap();
        assert_eq!(
            (
                file.metadata().unwrap().len(),
                fs::metadata(mount.models("f")).unwrap().len()
            ),
            (1_000, 1_000)
        );
        content::check_open(&file, 1, 1_000).unwrap();
        file.set_len(5_000).unwrap();
        let all = fs::read(&path).unwrap();
        content::check(&all[..1_000], 1, 0).unwrap();
        assert_eq!(all[1_000..], [0; 4_000]);
        drop(file);
        File::create(&path).unwrap();
        assert_eq!(fs::metadata(mount.models("f")).unwrap().len(), 0);
        assert_eq!(fs::read(&path).unwrap(), b"");
    });
}

#[test]
fn attributes() {
    in_both_modes(site, |mount| {
        let path = mount.mounted("f");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        chown(&path, Some(1), Some(2)).unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::new(1_234_567_890, 123_456_789);
        let times = fs::FileTimes::new().set_accessed(time).set_modified(time);
        OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_times(times)
            .unwrap();
        for path in [&path, &mount.models("f")] {
            let stat = fs::metadata(path).unwrap();
            assert_eq!(
                (stat.mode() & 0o7777, stat.uid(), stat.gid()),
                (0o640, 1, 2)
            );
            assert_eq!(
                (stat.mtime(), stat.mtime_nsec()),
                (1_234_567_890, 123_456_789)
            );
        }
        // A second and a half before 1970: two seconds before, and half a one after that.
        let half = SystemTime::UNIX_EPOCH - Duration::from_millis(1500);
        let early = fs::FileTimes::new().set_modified(half);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_times(early).unwrap();
        drop(file);
        for path in [&path, &mount.models("f")] {
            let stat = fs::metadata(path).unwrap();
            assert_eq!((stat.mtime(), stat.mtime_nsec()), (-2, 500_000_000));
        }
        fs::set_permissions(mount.mounted("d"), fs::Permissions::from_mode(0o2711)).unwrap();
        assert_eq!(
            fs::metadata(mount.models("d")).unwrap().mode() & 0o7777,
            0o2711
        );
    });
}

/// Permissions and owner alone do not make another file: its replica stays, and serves.
#[test]
fn a_change_of_permissions_is_no_change_of_contents() {
    in_both_modes(site, |mount| {
        let path = mount.mounted("f");
        mount.promote_wait("f");
        for place in [&path, &mount.models("f")] {
            for what in ["permissions", "owner", "group"] {
                match what {
                    "permissions" => {
                        fs::set_permissions(place, fs::Permissions::from_mode(0o600)).unwrap();
                    }
                    "owner" => chown(place, Some(1), None).unwrap(),
                    _ => chown(place, None, Some(2)).unwrap(),
                }
                mount.rescan();
                content::check_file(&path, 1, LEN).unwrap();
                let serving = mount.which("f").serving;
                assert!(
                    Path::new(&serving).starts_with(mount.pool("p")),
                    "{what} of {}: {serving}",
                    place.display()
                );
            }
            let stat = fs::metadata(&path).unwrap();
            let told = (stat.mode() & 0o777, stat.uid(), stat.gid());
            assert_eq!(told, (0o600, 1, 2));
            chown(place, Some(0), Some(0)).unwrap();
            fs::set_permissions(place, fs::Permissions::from_mode(0o644)).unwrap();
        }
        assert_eq!(mount.status().totals.demotions, 0);
    });
}

#[test]
fn holes_and_ranges() {
    in_both_modes(site, |mount| {
        let path = mount.mounted("sparse");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 1 << 20).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 1 << 20);
        file.write_all_at(&[7; 1 << 20], 0).unwrap();
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&file, punch, 64 << 10, 64 << 10).unwrap();
        rustix::fs::fallocate(&file, FallocateFlags::ZERO_RANGE, 512 << 10, 4 << 10).unwrap();
        file.sync_all().unwrap();
        let mut wanted = vec![7; 1 << 20];
        wanted[64 << 10..128 << 10].fill(0);
        wanted[512 << 10..516 << 10].fill(0);
        assert!(
            fs::read(&path).unwrap() == wanted
                && fs::read(mount.models("sparse")).unwrap() == wanted
        );
        let real = File::open(mount.models("sparse")).unwrap();
        for at in [0, 64 << 10, 100 << 10, 200 << 10] {
            for wanted in [
                rustix::fs::SeekFrom::Hole(at),
                rustix::fs::SeekFrom::Data(at),
            ] {
                assert_eq!(
                    rustix::fs::seek(&file, wanted),
                    rustix::fs::seek(&real, wanted),
                    "{wanted:?}"
                );
            }
        }
        file.set_len(4 << 20).unwrap();
        assert_eq!(
            rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(2 << 20)).unwrap(),
            2 << 20
        );
        assert!(rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(2 << 20)).is_err());
    });
}

#[test]
fn a_shared_mapping_can_be_written() {
    in_both_modes(site, |mount| {
        let path = mount.mounted("f");
        mount.promote_wait("f");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        let mut map = mapping::shared_mut(&file).unwrap();
        map[100..110].copy_from_slice(b"0123456789");
        map.flush().unwrap();
        drop(map);
        file.sync_all().unwrap();
        drop(file);
        let mut wanted = content::bytes(1, 0, LEN as usize);
        wanted[100..110].copy_from_slice(b"0123456789");
        assert!(fs::read(mount.models("f")).unwrap() == wanted);
        assert!(fs::read(&path).unwrap() == wanted);
    });
}

#[test]
fn a_full_write_is_durable_after_fsync() {
    in_both_modes(site, |mount| {
        let path = mount.mounted("durable");
        let mut file = File::create(&path).unwrap();
        file.write_all(&content::bytes(9, 0, 400_000)).unwrap();
        file.sync_all().unwrap();
        let parent = File::open(mount.mounted("")).unwrap();
        parent.sync_all().unwrap();
        mount.kill9();
        content::check_file(&mount.models("durable"), 9, 400_000).unwrap();
        drop((file, parent));
        mount.restart();
        content::check_file(&path, 9, 400_000).unwrap();
    });
}

#[test]
fn another_user_writes_what_he_may() {
    in_both_modes(
        |fresh| {
            let site = site(fresh);
            fs::create_dir(site.models("open")).unwrap();
            // Whatever the umask of the tests' process is.
            for (name, mode) in [("open", 0o1777), ("", 0o755), ("f", 0o644)] {
                fs::set_permissions(site.models(name), fs::Permissions::from_mode(mode)).unwrap();
            }
            site
        },
        |mount| {
            let shell = |script: &str| {
                use std::os::unix::process::CommandExt;
                let mut shell = std::process::Command::new("sh");
                shell
                    .arg("-c")
                    .arg(script)
                    .current_dir(mount.mounted(""))
                    .uid(65_534)
                    .gid(65_534);
                shell.output().unwrap().status.success()
            };
            assert!(shell(
                "echo mine > open/file && mkdir open/dir && ln -s file open/link"
            ));
            assert!(
                !shell("echo x > f")
                    && !shell("echo x > new")
                    && !shell("rm -f f")
                    && !shell("chmod 777 f")
            );
            for name in ["open/file", "open/dir", "open/link"] {
                let stat = fs::symlink_metadata(mount.models(name)).unwrap();
                assert_eq!((stat.uid(), stat.gid()), (65_534, 65_534), "{name}");
            }
            fs::set_permissions(mount.mounted("f"), fs::Permissions::from_mode(0o600)).unwrap();
            assert!(!shell("cat f"), "a file that is closed to others was read");
            content::check_file(&mount.mounted("f"), 1, LEN).unwrap();
        },
    );
}

#[test]
fn a_read_only_mount_refuses_every_change() {
    in_both_modes(
        |fresh| site(fresh).cold_file("c", 4, 10).read_only(),
        |mount| {
            let read_only = |what: &str, result: std::io::Result<()>| {
                assert_eq!(
                    result.expect_err(what).kind(),
                    ErrorKind::ReadOnlyFilesystem,
                    "{what}"
                );
            };
            read_only("create", File::create(mount.mounted("new")).map(|_| ()));
            for name in ["f", "c"] {
                let path = mount.mounted(name);
                read_only(
                    "write",
                    OpenOptions::new().write(true).open(&path).map(|_| ()),
                );
                read_only("truncate", File::create(&path).map(|_| ()));
                read_only("unlink", fs::remove_file(&path));
                read_only("rename", fs::rename(&path, mount.mounted("x")));
                read_only("link", fs::hard_link(&path, mount.mounted("x")));
                read_only(
                    "chmod",
                    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)),
                );
            }
            read_only("mkdir", fs::create_dir(mount.mounted("x")));
            read_only("rmdir", fs::remove_dir(mount.mounted("d")));
            read_only("symlink", symlink("a", mount.mounted("x")));
            mount.promote_wait("f");
            mount.promote_wait("c");
            content::check_file(&mount.mounted("f"), 1, LEN).unwrap();
            content::check_file(&mount.mounted("c"), 4, 10).unwrap();
        },
    );
}

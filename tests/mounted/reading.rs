//! Files are read as they are: from their homes, from replicas, in every way that engines read.

use std::fs::{self, File};
use std::io::{IsTerminal, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::pipe::{SpliceFlags, splice};

use crate::harness::{content, in_both_modes, mapping};

/// Not a multiple of any page.
const LEN: u64 = (3 << 20) + 4_099;

#[test]
fn cold_and_resident_files_have_the_same_bytes() {
    in_both_modes(
        |site| {
            site.cold_file("a/big.bin", 1, LEN)
                .models_file("local.bin", 2, LEN)
        },
        |mount| {
            let (cold, local) = (mount.mounted("a/big.bin"), mount.mounted("local.bin"));
            let before = fs::metadata(&cold).unwrap();
            for _ in 0..2 {
                content::check_file(&cold, 1, LEN).unwrap();
                content::check_file(&local, 2, LEN).unwrap();
                mount.promote_wait("a/big.bin");
                mount.promote_wait("local.bin");
                content::check_file(&cold, 1, LEN).unwrap();
                content::check_file(&local, 2, LEN).unwrap();
                mount.demote("a/big.bin");
                mount.demote("local.bin");
            }
            let after = fs::metadata(&cold).unwrap();
            let facts = |stat: &fs::Metadata| {
                (
                    stat.ino(),
                    stat.mtime_nsec(),
                    stat.ctime_nsec(),
                    stat.nlink(),
                    stat.mode(),
                )
            };
            assert_eq!(facts(&before), facts(&after));
        },
    );
}

/// Python asks that of each file that it opens; the FUSE library would log a warning for each.
#[test]
fn a_file_is_no_terminal_and_asking_is_not_logged() {
    in_both_modes(
        |site| site.cold_file("f", 1, LEN),
        |mount| {
            assert!(!File::open(mount.mounted("f")).unwrap().is_terminal());
            assert!(!File::open(mount.mounted("")).unwrap().is_terminal());
            let log = mount.log();
            assert!(!log.contains("ioctl"), "{log}");
        },
    );
}

/// All of a file, past the page cache.
fn read_directly(path: &Path) -> Vec<u8> {
    const BLOCK: usize = 1 << 20;
    let direct = OFlags::DIRECT.bits().cast_signed();
    let file = File::options()
        .read(true)
        .custom_flags(direct)
        .open(path)
        .unwrap();
    let mut buffer = vec![0; BLOCK + 4_096];
    let start = buffer.as_ptr().align_offset(4_096);
    let buffer = &mut buffer[start..start + BLOCK];
    let mut all = Vec::new();
    loop {
        let length = file.read_at(buffer, all.len() as u64).unwrap();
        all.extend_from_slice(&buffer[..length]);
        if length < BLOCK {
            return all;
        }
    }
}

/// All of a file, as `sendfile` sends it.
fn sent(file: &File) -> Vec<u8> {
    let (mut here, there) = UnixStream::pair().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut offset = 0;
            while rustix::fs::sendfile(&there, file, Some(&mut offset), LEN as usize).unwrap() > 0 {
            }
        });
        let mut all = Vec::new();
        here.read_to_end(&mut all).unwrap();
        all
    })
}

/// All of a file, spliced into a pipe.
fn spliced(file: &File) -> Vec<u8> {
    let (here, there) = rustix::pipe::pipe().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let (mut offset, flags) = (0, SpliceFlags::empty());
            while splice(file, Some(&mut offset), &there, None, LEN as usize, flags).unwrap() > 0 {}
        });
        let mut all = Vec::new();
        File::from(here).read_to_end(&mut all).unwrap();
        all
    })
}

#[test]
fn every_way_of_reading_gives_the_same_bytes() {
    in_both_modes(
        |site| site.cold_file("f", 3, LEN),
        |mount| {
            for resident in [false, true] {
                if resident {
                    mount.promote_wait("f");
                }
                let file = File::open(mount.mounted("f")).unwrap();
                for map in [mapping::shared(&file), mapping::private(&file)] {
                    let map = map.unwrap();
                    assert_eq!(map.len() as u64, LEN);
                    content::check(&map, 3, 0).unwrap();
                }
                content::check(&read_directly(&mount.mounted("f")), 3, 0).unwrap();
                for (way, bytes) in [("sendfile", sent(&file)), ("splice", spliced(&file))] {
                    assert_eq!(bytes.len() as u64, LEN, "{way}");
                    content::check(&bytes, 3, 0).unwrap_or_else(|error| panic!("{way}: {error}"));
                }
                let mut buffer = [0; 4_096];
                for turn in (0..(LEN - 4_096) / 100_003).rev() {
                    let offset = turn * 100_003;
                    file.read_exact_at(&mut buffer, offset).unwrap();
                    content::check(&buffer, 3, offset).unwrap();
                }
                assert_eq!(file.read_at(&mut buffer, LEN).unwrap(), 0);
                assert_eq!(file.read_at(&mut buffer, LEN - 1).unwrap(), 1);
            }
        },
    );
}

#[test]
fn a_listing_is_the_union_of_all_homes() {
    in_both_modes(
        |site| {
            let site = site
                .colds(2)
                .cold_file("d/one", 1, 10)
                .models_file("d/own", 2, 20);
            content::write_file(&site.cold(1, "d/two"), 3, 30);
            content::write_file(&site.cold(1, "d/one"), 4, 40);
            site
        },
        |mount| {
            let mut names: Vec<_> = fs::read_dir(mount.mounted("d"))
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            names.sort();
            assert_eq!(names, ["one", "own", "two"]);
            // The earlier directory wins.
            content::check_file(&mount.mounted("d/one"), 1, 10).unwrap();
            content::check_file(&mount.mounted("d/two"), 3, 30).unwrap();
            assert_eq!(
                fs::read_dir(mount.mounted("")).unwrap().count(),
                1,
                "the control files are not listed"
            );
        },
    );
}

#[test]
fn the_space_told_is_that_of_the_models_directory() {
    in_both_modes(
        |site| site,
        |mount| {
            let told = rustix::fs::statvfs(mount.mounted("")).unwrap();
            let real = rustix::fs::statvfs(mount.models("")).unwrap();
            assert_eq!(
                (told.f_blocks, told.f_frsize, told.f_namemax),
                (real.f_blocks, real.f_frsize, real.f_namemax)
            );
        },
    );
}

#[test]
fn reads_are_served_by_the_kernel_where_it_can() {
    in_both_modes(
        |site| site.cold_file("f", 1, LEN),
        |mount| {
            let passthrough = mount.status().passthrough;
            assert!(!passthrough.why.is_empty());
            content::check_file(&mount.mounted("f"), 1, LEN).unwrap();
            let totals = mount.status().totals;
            if passthrough.active {
                assert_eq!(totals.read_bytes, 0, "{totals:?}");
                assert!(totals.opens_passthrough > 0, "{totals:?}");
            } else {
                assert!(totals.read_bytes >= LEN, "{totals:?}");
            }
        },
    );
}

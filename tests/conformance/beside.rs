//! Writers beside readers of a replica or of cold storage. On the file system below all handles of a
//! file see the same bytes; here a reader keeps what it has opened, and everything else is as below:
//! the writer can do all that it could do, and who opens the file later sees what it has written.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::mode::{self, Mode};
use crate::harness::content;
use crate::harness::mapping;
use crate::harness::{Mount, Site};

const LEN: u64 = 3 << 20;
const NAME: &str = "f.gguf";

/// A file of the models directory that is resident, and a cold one.
fn mounted(mode: Mode) -> Option<Mount> {
    let site = Site::new()
        .models_file(NAME, 1, LEN)
        .cold_file("cold.gguf", 2, LEN);
    mode::start(site, mode, &[])
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

/// A test story: a file that a model is loaded from is replaced in place (`cp new old`). Opening it
/// for writing answered EIO for as long as somebody had the replica open.
#[test]
fn a_file_that_is_read_from_a_replica_can_be_written() {
    for mode in [Mode::Passthrough, Mode::Daemon] {
        let Some(mount) = mounted(mode) else { continue };
        let path = mount.mounted(NAME);
        let mut options = OpenOptions::new();
        let writers = [
            options.read(true).write(true).clone(),
            options.read(false).append(true).clone(),
            OpenOptions::new().write(true).truncate(true).clone(),
            OpenOptions::new().write(true).create(true).clone(),
        ];
        for (number, options) in writers.iter().enumerate() {
            mount.promote_wait(NAME);
            let before = read(&mount.models(NAME));
            let mut reader = File::open(&path).unwrap();
            let map = mapping::shared(&reader).unwrap();
            let mut writer = options.open(&path).unwrap();
            writer.write_all(&[b'0' + number as u8; 7]).unwrap();
            let mut seen = Vec::new();
            reader.read_to_end(&mut seen).unwrap();
            assert!(
                seen == before && map[..] == before[..],
                "{options:?}: the reader's bytes"
            );
            assert!(
                read(&path) == read(&mount.models(NAME)),
                "{options:?}: a later reader's bytes"
            );
            assert!(read(&path) != before, "{options:?}: nothing was written");
            drop((writer, map, reader));
        }
    }
}

#[test]
fn a_shared_mapping_beside_a_reader_of_a_replica_can_be_written() {
    for mode in [Mode::Passthrough, Mode::Daemon] {
        let Some(mount) = mounted(mode) else { continue };
        mount.promote_wait(NAME);
        let reader = File::open(mount.mounted(NAME)).unwrap();
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true);
        let writer = options.open(mount.mounted(NAME)).unwrap();
        let mut map = mapping::shared_mut(&writer).unwrap();
        map[4_096..4_103].copy_from_slice(b"written");
        map.flush().unwrap();
        let mut found = [0; 7];
        let home = File::open(mount.models(NAME)).unwrap();
        home.read_exact_at(&mut found, 4_096).unwrap();
        assert_eq!(&found, b"written");
        drop((map, writer, reader));
    }
}

#[test]
fn a_cold_file_that_is_read_can_be_replaced() {
    for mode in [Mode::Passthrough, Mode::Daemon] {
        let Some(mount) = mounted(mode) else { continue };
        let path = mount.mounted("cold.gguf");
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).truncate(true);
        let reader = File::open(&path).unwrap();
        let mut writer = options.open(&path).unwrap();
        assert_eq!(writer.metadata().unwrap().len(), 0);
        writer.write_all(b"written").unwrap();
        assert_eq!(read(&path), b"written");
        assert_eq!(read(&mount.models("cold.gguf")), b"written");
        content::check_open(&reader, 2, LEN).unwrap();
    }
}

/// A lock belongs to an inode: on another one it would hold nobody off.
#[test]
fn a_file_that_its_reader_has_locked_is_busy() {
    for mode in [Mode::Passthrough, Mode::Daemon] {
        let Some(mount) = mounted(mode) else { continue };
        mount.promote_wait(NAME);
        let reader = File::open(mount.mounted(NAME)).unwrap();
        rustix::fs::flock(&reader, FlockOperation::LockShared).unwrap();
        let mut options = OpenOptions::new();
        let options = options.write(true).truncate(true);
        let refused = options.open(mount.mounted(NAME)).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(Errno::BUSY.raw_os_error()));
        content::check_file(&mount.models(NAME), 1, LEN).unwrap();
        drop(reader);
        options.open(mount.mounted(NAME)).unwrap();
        assert_eq!(read(&mount.models(NAME)), b"");
    }
}

/// By a name it finds another node; who has none but the reader's own can only be told.
#[test]
fn a_writer_that_comes_without_a_name_is_told_estale() {
    for mode in [Mode::Passthrough, Mode::Daemon] {
        let Some(mount) = mounted(mode) else { continue };
        mount.promote_wait(NAME);
        let reader = File::open(mount.mounted(NAME)).unwrap();
        let again = format!("/proc/self/fd/{}", reader.as_raw_fd());
        let refused = OpenOptions::new().write(true).open(&again).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(Errno::STALE.raw_os_error()));
        // Nothing has changed for the reader, and the name leads on.
        content::check_open(&File::open(&again).unwrap(), 1, LEN).unwrap();
        let mut options = OpenOptions::new();
        options.write(true).open(mount.mounted(NAME)).unwrap();
        content::check_file(&mount.models(NAME), 1, LEN).unwrap();
    }
}

//! A file is small, and says what it was told.

use super::*;

fn attr(ino: u64, uid: u32) -> Attr {
    Attr {
        identity: Identity {
            dev: 7,
            ino,
            size: 4096,
            mtime_ns: 3,
            ctime_ns: 4,
        },
        atime_ns: 5,
        blocks: 8,
        kind: Kind::File,
        permissions: 0o640,
        nlink: 1,
        uid,
        gid: 12,
        rdev: 0,
    }
}

fn file(ino: u64, uid: u32) -> HomeFile {
    HomeFile::new(FileId(ino), HomeId(1), ino, attr(ino, uid), None)
}

#[test]
fn attributes_come_back_as_they_were_seen_and_what_files_have_in_common_is_kept_once() {
    let (one, other) = (file(1, 900), file(2, 900));
    assert_eq!((one.attr(), other.attr()), (attr(1, 900), attr(2, 900)));
    assert_eq!(one.inode(), (7, 1));
    let common = |file: &HomeFile| Arc::clone(&lock(&file.seen).common);
    assert!(Arc::ptr_eq(&common(&one), &common(&other)));
    let given_away = Attr {
        permissions: 0o600,
        ..attr(1, 901)
    };
    assert_eq!(one.set_attr(given_away), attr(1, 900));
    assert_eq!((one.attr(), other.attr()), (given_away, attr(2, 900)));
}

#[test]
fn names_come_and_go() {
    let file = file(1, 0);
    let name = |text: &str| -> Name { (DirId(3), Arc::from(text.as_bytes())) };
    assert_eq!((file.any_name(), file.names()), (None, vec![]));
    for text in ["a", "b", "a", "c"] {
        file.add_name(DirId(3), &name(text).1);
    }
    assert_eq!(file.names(), ["a", "b", "c"].map(name));
    assert_eq!(file.any_name(), Some(name("a")));
    assert!(!file.remove_name(DirId(3), b"a"));
    assert!(!file.remove_name(DirId(4), b"b"));
    assert!(!file.remove_name(DirId(3), b"c"));
    assert_eq!(file.names(), [name("b")]);
    assert!(file.remove_name(DirId(3), b"b"));
    assert_eq!(file.any_name(), None);
}

#[test]
fn a_file_is_small() {
    // With its counts it fills a piece of the allocator, of 176 bytes.
    assert!(size_of::<HomeFile>() <= 152, "{}", size_of::<HomeFile>());
}

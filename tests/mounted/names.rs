//! Odd names, symlinks of all kinds, and what is neither file nor directory.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use speedloader::command::Command;

use crate::harness::{Site, content, in_both_modes};

const LEN: u64 = 70_000;

/// Names that programs trip over.
fn odd_names() -> Vec<OsString> {
    let mut names: Vec<Vec<u8>> = vec![
        b"new\nline".to_vec(),
        b"tab\tand \\ backslash".to_vec(),
        b"\xff\xfe not UTF-8 \x80".to_vec(),
        vec![b'n'; 255],
        b" leading and trailing ".to_vec(),
        b"-rf".to_vec(),
        b"*?[a]{b,c}".to_vec(),
        b"'quotes\" $(echo) `x`".to_vec(),
        "\u{1f999}e\u{301}".as_bytes().to_vec(),
        b"\x01\x1b[31m".to_vec(),
        b"...".to_vec(),
        b"a:b,c=d".to_vec(),
    ];
    // 255 bytes that end in the middle of a character.
    names.push([&[b'x'; 253][..], &[0xe2, 0x82]].concat());
    names.into_iter().map(OsString::from_vec).collect()
}

#[test]
fn odd_names_are_read_moved_and_written() {
    in_both_modes(
        |site| {
            let mut site = site;
            for (seed, name) in odd_names().into_iter().enumerate() {
                site = site.cold_file(Path::new("cold").join(&name), seed as u64, LEN);
                site = site.models_file(Path::new("own").join(&name), seed as u64, LEN);
            }
            site
        },
        |mount| {
            for directory in ["cold", "own"] {
                let listed: BTreeSet<OsString> = fs::read_dir(mount.mounted(directory))
                    .unwrap()
                    .map(|entry| entry.unwrap().file_name())
                    .collect();
                assert_eq!(listed, odd_names().into_iter().collect());
                for (seed, name) in odd_names().into_iter().enumerate() {
                    let path = Path::new(directory).join(&name);
                    let escaped = speedloader::view::human::escape(path.as_os_str().as_bytes());
                    content::check_file(&mount.mounted(&path), seed as u64, LEN).unwrap();
                    // A pattern is no name: the whole directory is promoted below.
                    if !escaped.contains('*') {
                        let names = vec![escaped.to_string()];
                        mount.call(Command::Promote {
                            names,
                            pool: None,
                            wait: true,
                        });
                        assert_eq!(mount.which(&escaped).replicas.len(), 1, "{escaped}");
                        content::check_file(&mount.mounted(&path), seed as u64, LEN).unwrap();
                        mount.demote(&escaped);
                    }
                }
            }
            for name in odd_names() {
                let path = Path::new("made").join(&name);
                fs::create_dir_all(mount.mounted("made")).unwrap();
                fs::write(mount.mounted(&path), "x").unwrap();
                assert_eq!(fs::read(mount.models(&path)).unwrap(), b"x");
                fs::remove_file(mount.mounted(&path)).unwrap();
            }
        },
    );
}

#[test]
fn names_that_cannot_be_are_refused() {
    in_both_modes(
        |site| site,
        |mount| {
            let long = OsString::from_vec(vec![b'n'; 256]);
            assert_eq!(
                File::create(mount.mounted(&long)).unwrap_err().kind(),
                ErrorKind::InvalidFilename
            );
            assert_eq!(
                File::open(mount.mounted(&long)).unwrap_err().kind(),
                ErrorKind::InvalidFilename
            );
            assert_eq!(
                fs::create_dir(mount.mounted(".speedloader"))
                    .unwrap_err()
                    .kind(),
                ErrorKind::AlreadyExists
            );
        },
    );
}

#[test]
fn symlinks_lead_where_they_say() {
    in_both_modes(
        |site| {
            let site = site.cold_file("d/f", 1, LEN).models_file("own", 2, LEN);
            content::write_file(&site.root().join("outside"), 3, 10);
            let outside = site.root().join("outside");
            let absolute = site.mounted("own");
            for (target, name) in [
                (Path::new("f"), "d/relative"),
                (Path::new("../own"), "d/up"),
                (&absolute, "d/absolute"),
                (Path::new("nowhere"), "d/dangling"),
                (Path::new("loop-b"), "d/loop-a"),
                (Path::new("loop-a"), "d/loop-b"),
                (&outside, "d/outside"),
                (Path::new("../../outside"), "d/outside-relative"),
                (Path::new("."), "d/here"),
                (Path::new("d"), "directory"),
            ] {
                symlink(target, site.cold(0, name)).unwrap();
            }
            site
        },
        |mount| {
            let at = |name: &str| mount.mounted(name);
            content::check_file(&at("d/relative"), 1, LEN).unwrap();
            content::check_file(&at("d/up"), 2, LEN).unwrap();
            content::check_file(&at("d/absolute"), 2, LEN).unwrap();
            content::check_file(&at("d/here/here/f"), 1, LEN).unwrap();
            content::check_file(&at("directory/f"), 1, LEN).unwrap();
            // Followed by the caller, in the caller's tree and with the caller's rights.
            content::check_file(&at("d/outside"), 3, 10).unwrap();
            content::check_file(&at("d/outside-relative"), 3, 10).unwrap();
            assert_eq!(
                File::open(at("d/dangling")).unwrap_err().kind(),
                ErrorKind::NotFound
            );
            assert_eq!(
                fs::read_link(at("d/dangling")).unwrap(),
                Path::new("nowhere")
            );
            let looped = File::open(at("d/loop-a")).unwrap_err().raw_os_error();
            assert_eq!(looped, Some(rustix::io::Errno::LOOP.raw_os_error()));
            for name in ["d/dangling", "d/loop-a", "d/outside"] {
                assert!(fs::symlink_metadata(at(name)).unwrap().is_symlink());
            }
            // What a symlink leads to is promoted, never what lies out of the tree.
            for name in ["d/dangling", "d/loop-a", "d/outside", "d/outside-relative"] {
                let names = vec![name.to_owned()];
                let _ = mount.try_call(Command::Promote {
                    names,
                    pool: None,
                    wait: true,
                });
                assert_eq!(mount.status().pools[0].resident_files, 0, "{name}");
            }
            assert_eq!(fs::read_dir(at("d")).unwrap().count(), 10);
        },
    );
}

fn mknod(path: &Path, kind: FileType) -> std::io::Result<()> {
    Ok(rustix::fs::mknodat(
        CWD,
        path,
        kind,
        Mode::from_raw_mode(0o666),
        rustix::fs::makedev(1, 3),
    )?)
}

#[test]
fn pipes_sockets_and_devices() {
    in_both_modes(
        |site| {
            fs::create_dir(site.cold(0, "d")).unwrap();
            mknod(&site.cold(0, "d/fifo"), FileType::Fifo).unwrap();
            mknod(&site.cold(0, "d/null"), FileType::CharacterDevice).unwrap();
            // Its name may be too long for a socket's address elsewhere: made by mknod.
            mknod(&site.cold(0, "d/socket"), FileType::Socket).unwrap();
            site
        },
        |mount| {
            let at = |name: &str| mount.mounted(name);
            let kind = |name: &str| fs::symlink_metadata(at(name)).unwrap().file_type();
            assert!(
                kind("d/fifo").is_fifo()
                    && kind("d/null").is_char_device()
                    && kind("d/socket").is_socket()
            );
            // A device in a directory of models is not a device.
            assert_eq!(
                File::open(at("d/null")).unwrap_err().kind(),
                ErrorKind::PermissionDenied
            );
            // Nobody writes into the pipe: an open that waits for that must not hang the daemon.
            let reader = rustix::fs::open(
                at("d/fifo"),
                OFlags::RDONLY | OFlags::NONBLOCK,
                Mode::empty(),
            )
            .unwrap();
            drop(reader);
            mknod(&at("fifo"), FileType::Fifo).unwrap();
            assert!(
                fs::symlink_metadata(mount.models("fifo"))
                    .unwrap()
                    .file_type()
                    .is_fifo()
            );
            let path = at("fifo");
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    File::create(&path)
                        .unwrap()
                        .write_all(b"through a pipe")
                        .unwrap()
                });
                let mut text = String::new();
                File::open(&path)
                    .unwrap()
                    .read_to_string(&mut text)
                    .unwrap();
                assert_eq!(text, "through a pipe");
            });
            let listener = UnixListener::bind(at("socket")).unwrap();
            assert!(kind("socket").is_socket());
            let mut client = UnixStream::connect(at("socket")).unwrap();
            client.write_all(b"hello").unwrap();
            drop(client);
            let mut text = String::new();
            listener
                .accept()
                .unwrap()
                .0
                .read_to_string(&mut text)
                .unwrap();
            assert_eq!(text, "hello");
            for name in ["d/fifo", "d/null", "d/socket", "fifo", "socket"] {
                let names = vec![name.to_owned()];
                let _ = mount.try_call(Command::Promote {
                    names,
                    pool: None,
                    wait: true,
                });
            }
            assert_eq!(mount.status().pools[0].resident_files, 0);
            fs::remove_file(at("fifo")).unwrap();
            fs::remove_file(at("socket")).unwrap();
        },
    );
}

#[test]
fn a_directory_that_holds_data_already_is_served_as_it_is() {
    in_both_modes(
        |site: Site| {
            let mut site = site;
            for index in 0..300_u64 {
                site = site.models_file(format!("a/{}/b/{index}", index % 7), index, index * 100);
            }
            fs::create_dir_all(site.models("empty/empty")).unwrap();
            site
        },
        |mount| {
            for index in 0..300_u64 {
                content::check_file(
                    &mount.mounted(format!("a/{}/b/{index}", index % 7)),
                    index,
                    index * 100,
                )
                .unwrap();
            }
            assert_eq!(
                fs::read_dir(mount.mounted("empty/empty")).unwrap().count(),
                0
            );
            assert!(mount.status().counts.files >= 300);
        },
    );
}

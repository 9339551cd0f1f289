//! Calls that a mount answers otherwise than a plain directory, on purpose: the table that
//! SEMANTICS.md shows, and the proof that each line of it is true.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, RenameFlags, XattrFlags};
use rustix::io::{Errno, Result};

use crate::harness::{Site, in_both_modes};

/// One call on a tree that holds the file `f`; on the mount, `cold` lies in cold storage and `over`
/// in the models directory over a cold file.
struct Difference {
    what: &'static str,
    call: fn(&Path) -> Result<()>,
    /// What a plain directory answers; `None`: what its file system happens to support.
    plain: Option<Result<()>>,
    mount: Result<()>,
}

/// What SEMANTICS.md shows, in its order.
const TABLE: [Difference; 10] = [
    Difference {
        what: "write to a cold file",
        call: |root| open(&root.join("cold"), OFlags::WRONLY),
        plain: Some(Ok(())),
        mount: Err(Errno::ROFS),
    },
    Difference {
        what: "chmod of a cold file",
        call: |root| rustix::fs::chmod(root.join("cold"), Mode::RUSR),
        plain: Some(Ok(())),
        mount: Err(Errno::ROFS),
    },
    Difference {
        what: "rename of a cold file",
        call: |root| rustix::fs::rename(root.join("cold"), root.join("new")),
        plain: Some(Ok(())),
        mount: Err(Errno::ROFS),
    },
    Difference {
        what: "unlink of a cold file",
        call: |root| {
            rustix::fs::unlink(root.join("new").as_path())
                .or_else(|_| rustix::fs::unlink(root.join("cold")))
        },
        plain: Some(Ok(())),
        mount: Err(Errno::ROFS),
    },
    Difference {
        what: "rmdir of an empty directory that cold storage has",
        call: |root| rustix::fs::rmdir(root.join("empty")),
        plain: Some(Ok(())),
        mount: Err(Errno::ROFS),
    },
    Difference {
        what: "open of a name after its unlink, if cold storage has it too",
        call: |root| {
            rustix::fs::unlink(root.join("over"))?;
            open(&root.join("over"), OFlags::RDONLY)
        },
        plain: Some(Err(Errno::NOENT)),
        mount: Ok(()),
    },
    Difference {
        what: "mkdir of `.speedloader` in the root",
        call: |root| rustix::fs::mkdir(root.join(".speedloader"), Mode::RWXU),
        plain: Some(Ok(())),
        mount: Err(Errno::EXIST),
    },
    Difference {
        what: "setxattr",
        call: |root| {
            let flags = XattrFlags::empty();
            rustix::fs::setxattr(root.join("f"), "user.speedloader", b"1", flags)
        },
        plain: None,
        mount: Err(Errno::OPNOTSUPP),
    },
    Difference {
        what: "O_TMPFILE",
        call: |root| open(root, OFlags::WRONLY | OFlags::TMPFILE),
        plain: None,
        mount: Err(Errno::OPNOTSUPP),
    },
    Difference {
        what: "RENAME_WHITEOUT",
        call: |root| {
            let (from, to, flags) = (root.join("f"), root.join("g"), RenameFlags::WHITEOUT);
            rustix::fs::renameat_with(CWD, from, CWD, to, flags)
        },
        plain: None,
        mount: Err(Errno::INVAL),
    },
];

fn open(path: &Path, flags: OFlags) -> Result<()> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR).map(drop)
}

fn populate(root: &Path, names: &[&str]) {
    for name in names {
        let file = File::create(root.join(name)).unwrap();
        file.write_all_at(name.as_bytes(), 0).unwrap();
    }
}

#[test]
fn what_differs_from_a_plain_directory() {
    let site = |site: Site| {
        populate(&site.models(""), &["f", "over"]);
        populate(&site.cold(0, ""), &["cold", "over"]);
        std::fs::create_dir(site.cold(0, "empty")).unwrap();
        site
    };
    in_both_modes(site, |mount| {
        let plain = tempfile::tempdir().unwrap();
        populate(plain.path(), &["f", "over", "cold"]);
        std::fs::create_dir(plain.path().join("empty")).unwrap();
        for Difference {
            what,
            call,
            plain: wanted,
            mount: wanted_of_mount,
        } in &TABLE
        {
            let found = call(plain.path());
            if let Some(wanted) = wanted {
                assert_eq!(&found, wanted, "{what}, in a plain directory");
            }
            assert_eq!(
                &call(&mount.mounted("")),
                wanted_of_mount,
                "{what}, on the mount"
            );
        }
    });
}

/// The document has a line for each difference, with the mount's answer.
#[test]
fn every_difference_is_in_the_document() {
    let document = include_str!("../../SEMANTICS.md");
    for Difference { what, mount, .. } in &TABLE {
        let row = document
            .lines()
            .find(|line| line.starts_with(&format!("| {what} |")));
        let row = row.unwrap_or_else(|| panic!("SEMANTICS.md does not tell of: {what}"));
        let answer = match mount {
            Ok(()) => "works",
            Err(Errno::ROFS) => "EROFS",
            Err(Errno::EXIST) => "EEXIST",
            Err(Errno::INVAL) => "EINVAL",
            Err(Errno::OPNOTSUPP) => "EOPNOTSUPP",
            Err(other) => panic!("{other} has no name here"),
        };
        assert!(
            row.contains(&format!("| {answer} |")),
            "{row}: the mount answers {answer}"
        );
    }
}

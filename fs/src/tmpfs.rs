//! A tmpfs of our own: mounted, recognised again, resized and unmounted.
//!
//! Ours is a tmpfs whose source is `speedloader` and whose root lies at the path; nothing else is
//! ever resized or unmounted. What this kernel cannot do (`huge=`, `noswap`, `mpol=`) is left out
//! option by option and reported, never silently.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, MoveMountFlags, UnmountFlags,
};

use crate::error::{ErrorKind, FsError, FsResult};
use crate::mount_table;

/// The source name by which a tmpfs of ours is known in `/proc/self/mountinfo`.
pub const SOURCE: &str = "speedloader";

/// `f_type` of a tmpfs.
const MAGIC: u64 = 0x0102_1994;

/// Whether a file lies on a tmpfs, ours or not.
///
/// # Errors
/// Whatever `fstatfs` reports.
pub fn holds(file: impl AsFd) -> rustix::io::Result<bool> {
    let stat = rustix::fs::fstatfs(file)?;
    Ok(u64::try_from(stat.f_type) == Ok(MAGIC))
}

/// When the tmpfs uses huge pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HugePages {
    /// Always: every file takes whole huge pages, one of 4 KiB takes 2 MiB unless it is filled
    /// with care, as replicas are.
    Always,
    /// Where a whole huge page fits into the file. As fast as `Always`, and wastes nothing.
    #[default]
    WithinSize,
    /// Never.
    Never,
}

impl HugePages {
    /// The value of the mount option.
    pub fn as_str(self) -> &'static str {
        match self {
            HugePages::Always => "always",
            HugePages::WithinSize => "within_size",
            HugePages::Never => "never",
        }
    }
}

/// A checked memory policy, as `mpol=` takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryPolicy(String);

impl MemoryPolicy {
    /// Checks the form of a policy: `default`, `local`, `prefer:N`, `bind:LIST` or
    /// `interleave[:LIST]`, the mode optionally followed by `=static` or `=relative`. Whether the
    /// nodes exist is the kernel's to say.
    ///
    /// # Errors
    /// Invalid when the text is none of these.
    pub fn new(text: &str) -> FsResult<Self> {
        let bad = || {
            FsError::new(
                "mpol",
                ErrorKind::Invalid(
                    "a memory policy is `default`, `local`, `prefer:NODE`, `bind:NODES` or \
                     `interleave[:NODES]`, with nodes such as `0,2-3`",
                ),
            )
        };
        let (mode, nodes) = match text.split_once(':') {
            Some((mode, nodes)) => (mode, Some(nodes)),
            None => (text, None),
        };
        let (mode, flag) = match mode.split_once('=') {
            Some((mode, flag)) => (mode, Some(flag)),
            None => (mode, None),
        };
        if !matches!(flag, None | Some("static" | "relative")) {
            return Err(bad());
        }
        let allowed = match (mode, nodes) {
            ("default" | "local", None) => flag.is_none(),
            ("prefer", Some(node)) => is_node_list(node) && node.parse::<u16>().is_ok(),
            ("bind", Some(nodes)) => is_node_list(nodes),
            ("interleave", nodes) => nodes.is_none_or(is_node_list),
            _ => false,
        };
        if allowed {
            Ok(MemoryPolicy(text.to_owned()))
        } else {
            Err(bad())
        }
    }

    /// The value of the mount option.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_node_list(text: &str) -> bool {
    let number = |part: &str| {
        !part.is_empty() && part.len() <= 4 && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    text.len() <= 256
        && text.split(',').all(|part| match part.split_once('-') {
            Some((from, to)) => number(from) && number(to),
            None => number(part),
        })
}

/// What the tmpfs shall be.
#[derive(Clone, Debug)]
pub struct TmpfsSettings {
    /// Capacity in bytes, at least one page.
    pub capacity_bytes: u64,
    /// Huge pages or not.
    pub huge_pages: HugePages,
    /// Never written to swap, where the kernel can promise it (6.4 and newer).
    pub no_swap: bool,
    /// On which memory nodes.
    pub memory_policy: Option<MemoryPolicy>,
}

/// An option that this kernel refused; the tmpfs does without.
#[derive(Debug)]
pub struct DroppedOption {
    /// The option as it was asked for.
    pub option: String,
    /// Why not.
    pub error: io::Error,
}

impl fmt::Display for DroppedOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is not possible on this kernel: {}",
            self.option, self.error
        )
    }
}

/// A tmpfs of ours, found in the mount table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The kernel's number of the mount.
    pub mount_id: u64,
    /// The options of the tmpfs as the kernel prints them.
    pub options: String,
}

/// Mounts a tmpfs at `path`, with mode 0700, nosuid, nodev, noexec. The directory is created when
/// it is missing and must be empty. Returns the options that had to be left out.
///
/// # Errors
/// Io (EPERM without CAP_SYS_ADMIN), Busy when the directory holds anything, since the mount
/// would hide it.
pub fn mount(path: &Path, settings: &TmpfsSettings) -> FsResult<Vec<DroppedOption>> {
    let failed = |error: io::Error| fail(path, error);
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    let target = open_directory(path).map_err(failed)?;
    if fs::read_dir(path).map_err(failed)?.next().is_some() {
        let why = "the directory is not empty and would be hidden by the mount";
        return Err(FsError::new("mount tmpfs", ErrorKind::Busy(why)).at_file(path));
    }
    let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(|error| failed(error.into()))?;
    let required = [
        ("source", SOURCE.to_owned()),
        ("size", settings.capacity_bytes.to_string()),
        ("mode", "0700".to_owned()),
    ];
    for (key, value) in &required {
        rustix::mount::fsconfig_set_string(&context, *key, value.as_str())
            .map_err(|error| failed(error.into()))?;
    }
    let dropped = set_wishes(&context, settings);
    let attach = || -> rustix::io::Result<()> {
        rustix::mount::fsconfig_create(&context)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC
            | MountAttrFlags::MOUNT_ATTR_NOATIME;
        let flags = FsMountFlags::FSMOUNT_CLOEXEC;
        let tree = rustix::mount::fsmount(&context, flags, attributes)?;
        let flags =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        rustix::mount::move_mount(&tree, "", &target, "", flags)
    };
    attach().map_err(|error| failed(error.into()))?;
    Ok(dropped)
}

/// Sets what a kernel may refuse; returns what it refused.
fn set_wishes(context: &OwnedFd, settings: &TmpfsSettings) -> Vec<DroppedOption> {
    let mut dropped = Vec::new();
    let mut note = |option: String, result: rustix::io::Result<()>| {
        if let Err(error) = result {
            dropped.push(DroppedOption {
                option,
                error: error.into(),
            });
        }
    };
    let huge = settings.huge_pages.as_str();
    let result = rustix::mount::fsconfig_set_string(context, "huge", huge);
    // `never` is what a kernel without huge pages does anyway.
    if settings.huge_pages != HugePages::Never {
        note(format!("huge={huge}"), result);
    }
    if settings.no_swap {
        let result = rustix::mount::fsconfig_set_flag(context, "noswap");
        note("noswap".to_owned(), result);
    }
    if let Some(policy) = &settings.memory_policy {
        let result = rustix::mount::fsconfig_set_string(context, "mpol", policy.as_str());
        note(format!("mpol={}", policy.as_str()), result);
    }
    dropped
}

/// The tmpfs of ours whose root lies at `path`, if there is one.
///
/// # Errors
/// Io when the path or the mount table cannot be read; a missing path is `None`.
pub fn find(path: &Path) -> FsResult<Option<Found>> {
    let failed = |error: io::Error| fail(path, error);
    let directory = match open_directory(path) {
        Ok(directory) => directory,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mount_id = mount_id_of(&directory).map_err(failed)?;
    let canonical = fs::canonicalize(path).map_err(failed)?;
    let table = mount_table::read().map_err(failed)?;
    let found = mount_table::entries(&table).find(|entry| entry.mount_id == mount_id);
    Ok(found.and_then(|entry| {
        let is_ours = entry.file_system == b"tmpfs"
            && entry.source == SOURCE.as_bytes()
            && entry.root == Path::new("/")
            && entry.mount_point == canonical;
        is_ours.then(|| Found {
            mount_id,
            options: String::from_utf8_lossy(entry.options).into_owned(),
        })
    }))
}

/// Changes the capacity of a tmpfs of ours.
///
/// # Errors
/// NotFound when there is none of ours at `path`; Io, EINVAL below what is used.
pub fn resize(path: &Path, capacity_bytes: u64) -> FsResult<()> {
    if find(path)?.is_none() {
        return Err(FsError::new("resize tmpfs", ErrorKind::NotFound).at_file(path));
    }
    let remount = || -> rustix::io::Result<()> {
        let flags = FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_SYMLINK_NOFOLLOW;
        let context = rustix::mount::fspick(CWD, path, flags)?;
        let size = capacity_bytes.to_string();
        rustix::mount::fsconfig_set_string(&context, "size", size.as_str())?;
        rustix::mount::fsconfig_reconfigure(&context)
    };
    remount()
        .map_err(|error| FsError::new("resize tmpfs", ErrorKind::Io(error.into())).at_file(path))
}

/// Unmounts a tmpfs of ours; what is still open or mapped in it lives until it is let go.
///
/// # Errors
/// NotFound when there is none of ours at `path`; Io.
pub fn unmount(path: &Path) -> FsResult<()> {
    if find(path)?.is_none() {
        return Err(FsError::new("unmount tmpfs", ErrorKind::NotFound).at_file(path));
    }
    rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
        .map_err(|error| FsError::new("unmount tmpfs", ErrorKind::Io(error.into())).at_file(path))
}

fn fail(path: &Path, error: io::Error) -> FsError {
    FsError::new("mount tmpfs", ErrorKind::Io(error)).at_file(path)
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// The mount that a descriptor lies on, as every kernel with procfs tells it.
fn mount_id_of(fd: &OwnedFd) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
    text.lines()
        .find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())
        .ok_or_else(|| io::Error::other("no mnt_id in /proc/self/fdinfo"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::MountPoint;

    fn settings(capacity_bytes: u64) -> TmpfsSettings {
        TmpfsSettings {
            capacity_bytes,
            huge_pages: HugePages::WithinSize,
            no_swap: true,
            memory_policy: None,
        }
    }

    #[test]
    fn policies_are_checked_before_the_kernel_sees_them() {
        for good in [
            "default",
            "local",
            "prefer:0",
            "bind:0-3,5",
            "interleave",
            "interleave:0,1",
            "bind=static:0",
            "interleave=relative:0-1",
        ] {
            assert_eq!(MemoryPolicy::new(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "bind",
            "bind:",
            "bind:a",
            "prefer:0-1",
            "prefer",
            "local:0",
            "default=static",
            "bind:0,size=1",
            "bind=other:0",
            "bind:0-",
            "bind:00000",
            "interleave:0 1",
            "huge",
        ] {
            assert!(MemoryPolicy::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn mount_find_resize_unmount() {
        let Some(point) = MountPoint::new("mount_find_resize_unmount") else {
            return;
        };
        assert_eq!(find(point.path()).unwrap(), None);
        let dropped = mount(point.path(), &settings(8 << 20)).unwrap();
        for option in &dropped {
            assert!(!option.to_string().is_empty());
        }
        let found = find(point.path()).unwrap().expect("ours");
        assert!(found.options.contains("mode=700"), "{}", found.options);

        resize(point.path(), 16 << 20).unwrap();
        let stat = rustix::fs::statfs(point.path()).unwrap();
        assert_eq!(stat.f_blocks * stat.f_bsize.cast_unsigned(), 16 << 20);
        fs::write(point.path().join("big"), vec![1; 9 << 20]).unwrap();
        assert!(resize(point.path(), 8 << 20).is_err());

        fs::create_dir(point.path().join("below")).unwrap();
        assert_eq!(find(&point.path().join("below")).unwrap(), None);
        unmount(point.path()).unwrap();
        assert_eq!(find(point.path()).unwrap(), None);
        assert!(unmount(point.path()).is_err());
    }

    #[test]
    fn nothing_of_somebody_else_is_touched() {
        let Some(point) = MountPoint::new("nothing_of_somebody_else_is_touched") else {
            return;
        };
        fs::write(point.path().join("theirs"), "x").unwrap();
        let error = mount(point.path(), &settings(1 << 20)).unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Busy(_)), "{error}");
        assert!(resize(point.path(), 1 << 20).is_err());
        assert_eq!(fs::read(point.path().join("theirs")).unwrap(), b"x");
        assert_eq!(find(Path::new("/dev/shm")).unwrap_or(None), None);
    }

    #[test]
    fn a_refused_option_is_reported_and_left_out() {
        let Some(point) = MountPoint::new("a_refused_option_is_reported_and_left_out") else {
            return;
        };
        let mut settings = settings(1 << 20);
        settings.memory_policy = Some(MemoryPolicy::new("bind:999").unwrap());
        let dropped = mount(point.path(), &settings).unwrap();
        assert!(
            dropped
                .iter()
                .any(|option| option.option == "mpol=bind:999"),
            "{dropped:?}"
        );
        assert!(find(point.path()).unwrap().is_some());
    }
}

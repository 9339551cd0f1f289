//! A mounted file system: options, threads, stale mounts, unmounting.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crossbeam_channel::Receiver;
use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags};

use super::held::HeldReplies;
use super::{Adapter, Passthrough, notify};
use crate::errno::{INPUT_OUTPUT, is_not_mounted, is_stale_mount};
use crate::mount_table;
use crate::read_ahead;
use crate::residency::Notice;
use crate::tiered_fs::TieredFs;

/// How the mount is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountSettings {
    /// Where.
    pub mountpoint: PathBuf,
    /// Threads that answer the kernel.
    pub threads: usize,
    /// How much the kernel reads ahead where the daemon serves the reads.
    pub read_ahead_bytes: u64,
    /// Whether other users may use the mount.
    pub allow_other: bool,
    /// Whether set-user-id programs and devices on the mount are honoured.
    pub allow_suid_dev: bool,
    /// Whether programs on the mount may be run.
    pub allow_exec: bool,
}

/// A live mount. Dropping it unmounts lazily.
pub struct Mounted {
    session: Option<BackgroundSession>,
    held: Arc<HeldReplies>,
    passthrough: Arc<OnceLock<Passthrough>>,
    mountpoint: PathBuf,
    ended: Receiver<()>,
}

/// Mounts the file system and starts answering.
///
/// # Errors
/// When the mountpoint is unusable, or the kernel or fusermount3 refuses.
pub fn mount(
    fs: &Arc<TieredFs>,
    notices: Receiver<Notice>,
    settings: &MountSettings,
) -> io::Result<Mounted> {
    replace_stale(&settings.mountpoint)?;
    // Permissions of what is created are those that the caller asked for, not ours.
    rustix::process::umask(rustix::fs::Mode::empty());
    let mut config = Config::default();
    config.mount_options = options(settings, fs.settings.read_only);
    config.acl = if settings.allow_other {
        SessionACL::All
    } else {
        SessionACL::Owner
    };
    config.n_threads = Some(settings.threads.max(1));
    let held = Arc::new(HeldReplies::default());
    let passthrough = Arc::new(OnceLock::new());
    let (end, ended) = crossbeam_channel::bounded(1);
    let adapter = Adapter {
        ended: end,
        fs: Arc::clone(fs),
        held: Arc::clone(&held),
        passthrough: Arc::clone(&passthrough),
        maps_direct: OnceLock::new(),
    };
    let session = if rustix::process::geteuid().is_root() {
        let device = mount_as_root(settings, fs.settings.read_only)?;
        let acl = config.acl;
        Session::from_fd(adapter, device, acl, config)
            // Nothing of a mount that does not answer is left behind.
            .inspect_err(|_| drop(detach(&settings.mountpoint)))?
    } else {
        Session::new(adapter, &settings.mountpoint, &config)?
    };
    let notifier = session.notifier();
    let session = session.spawn()?;
    std::thread::Builder::new()
        .name("notify".to_owned())
        .spawn(move || notify::run(&notices, &notifier))?;
    let mounted = Mounted {
        session: Some(session),
        held,
        passthrough,
        mountpoint: settings.mountpoint.clone(),
        ended,
    };
    let stat = rustix::fs::stat(&settings.mountpoint)?;
    fs.set_mount(&settings.mountpoint, stat.st_dev);
    if let Err(error) = read_ahead::set(stat.st_dev, settings.read_ahead_bytes) {
        tracing::debug!(%error, "the kernel reads ahead as it likes");
    }
    Ok(mounted)
}

/// For fusermount3, which an ordinary user needs.
fn options(settings: &MountSettings, read_only: bool) -> Vec<MountOption> {
    let mut options = vec![
        MountOption::FSName("speedloader".to_owned()),
        MountOption::Subtype("speedloader".to_owned()),
        MountOption::DefaultPermissions,
    ];
    if !settings.allow_suid_dev {
        options.extend([MountOption::NoSuid, MountOption::NoDev]);
    }
    if !settings.allow_exec {
        options.push(MountOption::NoExec);
    }
    if read_only {
        options.push(MountOption::RO);
    }
    options
}

/// Mounts by the system call itself: needs no helper program, and the type shown is
/// `fuse.speedloader`, which the library would show as `fuse`.
fn mount_as_root(settings: &MountSettings, read_only: bool) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let device = rustix::fs::open("/dev/fuse", flags, Mode::empty())?;
    let allow_other = if settings.allow_other {
        ",allow_other"
    } else {
        ""
    };
    let data = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0,default_permissions{allow_other}",
        device.as_raw_fd()
    );
    let data = CString::new(data).map_err(io::Error::other)?;
    let mut mount_flags = MountFlags::empty();
    if !settings.allow_suid_dev {
        mount_flags |= MountFlags::NOSUID | MountFlags::NODEV;
    }
    if !settings.allow_exec {
        mount_flags |= MountFlags::NOEXEC;
    }
    if read_only {
        mount_flags |= MountFlags::RDONLY;
    }
    let mountpoint = &settings.mountpoint;
    let data = Some(data.as_c_str());
    rustix::mount::mount(
        "speedloader",
        mountpoint,
        "fuse.speedloader",
        mount_flags,
        data,
    )?;
    Ok(device)
}

/// Takes away mounts whose daemon is dead, and refuses to hide one whose daemon is not. Their root is opened, since
/// its attributes may still be in the kernel's cache: an open is answered by the daemon or, with ENOTCONN, by nobody.
fn replace_stale(mountpoint: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    loop {
        match rustix::fs::open(mountpoint, flags, Mode::empty()).map_err(io::Error::from) {
            Ok(_) if is_ours(mountpoint)? => {
                let text = "a speedloader is mounted there already";
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
            }
            Ok(_) => return Ok(()),
            Err(error) if is_stale_mount(&error) => {
                let path = mountpoint.display();
                tracing::warn!(mountpoint = %path, "replacing the mount of a dead daemon");
                detach(mountpoint)?;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether the topmost mount on it is a speedloader's.
fn is_ours(mountpoint: &Path) -> io::Result<bool> {
    let path = std::fs::canonicalize(mountpoint)?;
    let table = mount_table::read()?;
    let topmost = mount_table::topmost(&table, &path);
    Ok(topmost.is_some_and(|mount| mount.file_system == b"fuse.speedloader"))
}

/// Unmounts lazily: what is open goes on, nothing new finds it.
fn detach(mountpoint: &Path) -> io::Result<()> {
    match rustix::mount::unmount(mountpoint, UnmountFlags::DETACH) {
        Ok(()) => Ok(()),
        Err(error) if rustix::process::geteuid().is_root() => Err(error.into()),
        Err(_) => {
            let helper = std::process::Command::new("fusermount3")
                .args(["-u", "-z", "--"])
                .arg(mountpoint)
                .output()?;
            // It fails, too, where somebody has unmounted it a moment ago.
            if helper.status.success() || !is_ours(mountpoint).unwrap_or(true) {
                Ok(())
            } else {
                let said = String::from_utf8_lossy(&helper.stderr);
                Err(io::Error::other(said.trim().to_owned()))
            }
        }
    }
}

impl Mounted {
    /// Whether the kernel moves the bytes.
    pub fn passthrough(&self) -> Passthrough {
        let unknown = || Passthrough::Off("the kernel has not said".to_owned());
        self.passthrough.get().cloned().unwrap_or_else(unknown)
    }

    /// Where it is mounted.
    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// Becomes ready when the kernel has ended the session.
    pub fn ended(&self) -> &Receiver<()> {
        &self.ended
    }

    /// Whether the kernel has ended the session: somebody unmounted it.
    pub fn is_over(&self) -> bool {
        self.session
            .as_ref()
            .is_none_or(|session| session.guard.is_finished())
    }

    /// Unmounts; lazily when something is still open. Held replies are answered first.
    ///
    /// # Errors
    /// When the mount cannot be taken away at all.
    pub fn unmount(mut self) -> io::Result<()> {
        self.end()
    }

    fn end(&mut self) -> io::Result<()> {
        let Some(session) = self.session.take() else {
            return Ok(());
        };
        self.held.fail_all(INPUT_OUTPUT);
        let over = session.guard.is_finished();
        let unmounted = match over {
            true => Ok(()),
            // Somebody may have unmounted it a moment ago.
            false => detach(&self.mountpoint).or_else(|error| match is_not_mounted(&error) {
                true => Ok(()),
                false => Err(error),
            }),
        };
        // The session thread ends when the kernel lets go, which open files may delay for long: it is
        // not waited for.
        drop(session);
        unmounted
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::warn!(%error, "could not unmount");
        }
    }
}

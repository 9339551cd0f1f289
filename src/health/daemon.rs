//! The daemon, its mount, its socket, and what it says of itself.

use std::io::{self, ErrorKind};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::patience::Patience;
use super::{Finding, Repair, Scene, word};
use crate::view::human::{shell_word, size};
use crate::view::{
    A_POOL, HomeRole, HomeState, HomeView, NO_POOLS, OF_MEMORY, Severity, TierState,
};

pub(super) fn check(scene: &Scene, patience: &mut Patience<'_>, findings: &mut Vec<Finding>) {
    mount(scene, patience, findings);
    match &scene.status {
        None => silent(scene, findings),
        Some(_) => pools(scene, findings),
    }
}

fn mount(scene: &Scene, patience: &mut Patience<'_>, findings: &mut Vec<Finding>) {
    let Some(mountpoint) = &scene.config.mountpoint else {
        return;
    };
    let path = mountpoint.clone();
    let look = move |_: &_| look(&path);
    let Some(found) = patience.wait(mountpoint, look) else {
        let found = "a mount that does not answer";
        findings.push(
            Finding::new("stale-mount", Severity::Error, mountpoint, found)
                .means("Whoever opens a model there waits.")
                .remedy(format!(
                    "end its daemon, then {} {}",
                    umount(),
                    word(mountpoint)
                )),
        );
        return;
    };
    match found {
        Err(error) if speedloader_fs::errno::is_stale_mount(&error) => findings.push(
            Finding::new(
                "stale-mount",
                Severity::Error,
                mountpoint,
                "a mount whose daemon is gone",
            )
            .means("Whoever opens a model there gets an error.")
            .remedy(format!(
                "{} {}, then mount again",
                umount(),
                word(mountpoint)
            ))
            .repair(Repair::Unmount(mountpoint.clone())),
        ),
        Err(error) if error.kind() == ErrorKind::NotFound => findings.push(
            Finding::new(
                "mountpoint-missing",
                Severity::Error,
                mountpoint,
                "no directory",
            )
            .means("Nothing can be mounted there.")
            .remedy(format!("mkdir -p {}", word(mountpoint)))
            .repair(Repair::MakeDirectory(mountpoint.clone())),
        ),
        Ok(_) | Err(_) => {}
    }
}

/// Looks at a mount. The kernel may remember the attributes of a root whose daemon is gone, but not what is in it.
fn look(mountpoint: &Path) -> io::Result<()> {
    std::fs::metadata(mountpoint).and_then(|_| std::fs::read_dir(mountpoint).map(drop))
}

/// Whether it is a mount whose daemon is gone: such a one answers at once.
pub(super) fn is_dead(mountpoint: &Path) -> bool {
    look(mountpoint).is_err_and(|error| speedloader_fs::errno::is_stale_mount(&error))
}

/// Whether it is a socket that nobody serves.
pub(super) fn is_unserved(socket: &Path) -> bool {
    std::fs::symlink_metadata(socket).is_ok_and(|found| found.file_type().is_socket())
        && UnixStream::connect(socket)
            .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

/// The command that takes away a mount that hangs, for whoever asks.
fn umount() -> &'static str {
    match rustix::process::geteuid().is_root() {
        true => "umount -l",
        false => "fusermount3 -uz",
    }
}

fn silent(scene: &Scene, findings: &mut Vec<Finding>) {
    let socket = &scene.config.control.socket;
    let answer = UnixStream::connect(socket)
        .map(drop)
        .map_err(|error| error.kind());
    if answer.is_err_and(|kind| kind == ErrorKind::PermissionDenied) {
        findings.push(
            Finding::new(
                "daemon-silent",
                Severity::Notice,
                socket,
                "it may not be asked by you",
            )
            .means("What only the daemon knows was not looked at.")
            .remedy("speedloader health as root, or as a member of control.group"),
        );
        return;
    }
    if scene.hangs {
        findings.push(
            Finding::new(
                "daemon-silent",
                Severity::Error,
                socket,
                "a daemon that does not answer",
            )
            .means("It stands still or has too much to do; what is not resident may not be opened.")
            .remedy("see its log; if it does not come back, end it (kill -9), then speedloader mount, or systemctl restart speedloader"),
        );
        return;
    }
    findings.push(
        Finding::new(
            "daemon-silent",
            Severity::Error,
            socket,
            "no daemon answers",
        )
        .means("Nothing is mounted, or nobody can steer it.")
        .remedy("speedloader mount, or systemctl start speedloader"),
    );
    if is_unserved(socket) {
        findings.push(
            Finding::new(
                "stale-socket",
                Severity::Notice,
                socket,
                "a socket that nobody serves",
            )
            .means("A daemon was killed; the next one replaces it.")
            .remedy(format!("rm {}", word(socket)))
            .repair(Repair::RemoveSocket(socket.clone())),
        );
    }
}

fn pools(scene: &Scene, findings: &mut Vec<Finding>) {
    let Some(status) = &scene.status else { return };
    if !status.passthrough.active {
        findings.push(
            Finding::new(
                "no-passthrough",
                Severity::Warning,
                &status.mountpoint,
                status.passthrough.why.clone(),
            )
            .means("Reads go through the daemon: slower, and they take its processor time.")
            .remedy("Linux 6.9 or newer, as root, with cache.passthrough = \"auto\""),
        );
    }
    for pool in &status.pools {
        // One that was lost is told by the checks of remote pools; the rest is on its way.
        if pool.state == TierState::Disconnected {
            findings.push(
                Finding::new(
                    "pool-disconnected",
                    Severity::Warning,
                    &pool.name,
                    "configured, and not in use",
                )
                .means("No model is promoted into it.")
                .remedy(format!(
                    "speedloader tiers connect {}",
                    shell_word(pool.name.as_bytes())
                )),
            );
        }
    }
    let held_back = status.memory.held_back_bytes;
    if held_back > 0 {
        let (available, reserve) = (status.memory.available_bytes, status.memory.reserve_bytes);
        findings.push(
            Finding::new(
                "memory-short",
                Severity::Notice,
                &status.mountpoint,
                format!(
                    "pools have given {} back: {} of memory are available, and {} are kept in reserve",
                    size(held_back),
                    size(available),
                    size(reserve)
                ),
            )
            .means("Fewer models are in RAM, until others let memory go.")
            .remedy("a smaller policy.memory_reserve, smaller pools, or more memory"),
        );
    }
    for warning in status
        .warnings
        .iter()
        .filter(|text| text.contains("is not in memory"))
    {
        findings.push(
            Finding::new(
                "pool-not-in-memory",
                Severity::Warning,
                &status.mountpoint,
                warning.clone(),
            )
            .means("Copies in it are no faster than its disk.")
            .remedy("set pool.path to a directory of a tmpfs, or pool.mount = true"),
        );
    }
    let too_large = status
        .warnings
        .iter()
        .filter(|text| text.contains(OF_MEMORY));
    findings.extend(too_large.map(|warning| {
        Finding::new(
            "pools-too-large",
            Severity::Warning,
            &status.mountpoint,
            warning.clone(),
        )
        .means("They give memory back all the time, and models do not stay.")
        .remedy("speedloader tiers resize NAME SIZE, and pool.capacity in the configuration")
    }));
    if status.pools.is_empty() {
        findings.push(
            Finding::new("no-pool", Severity::Warning, &status.mountpoint, NO_POOLS)
                .means("Every model is read from its home.")
                .remedy(A_POOL),
        );
    }
    for home in &status.homes {
        let found = match &home.state {
            HomeState::Hung { .. } => "it does not answer".to_owned(),
            HomeState::Failed { error } => error.clone(),
            HomeState::Ok | HomeState::Scanning => continue,
            HomeState::Detached => {
                findings.push(detached(home));
                continue;
            }
        };
        findings.push(
            Finding::new("home-hangs", Severity::Error, &home.path, found)
                .means("What lives there and is not resident cannot be read now.")
                .remedy(
                    "see to the server or network it is on; speedloader goes on when it answers",
                ),
        );
    }
}

/// A home that is not what is at its path.
fn detached(home: &HomeView) -> Finding {
    let found =
        "something else, or nothing, is at this path now; what was there before is still shown";
    let (severity, meaning, remedy) = match home.role {
        HomeRole::Writable => (
            Severity::Error,
            "What is written through the mount goes to what was there before, where nobody may look for it.",
            "unmount what covers it, or speedloader umount, then mount again",
        ),
        HomeRole::Cold => (
            Severity::Warning,
            "What others change there is not seen, and what was unmounted is still in use.",
            "mount it again, or speedloader rescan to go over to what is there; if a link leads elsewhere now, speedloader umount and mount",
        ),
    };
    Finding::new("home-detached", severity, &home.path, found)
        .means(meaning)
        .remedy(remedy)
}

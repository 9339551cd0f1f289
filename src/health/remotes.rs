//! What remote pools need on this machine, and what they have left on it. Nobody is connected to, and no
//! module is loaded.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use speedloader_config::{Config, DefaultValue, Filesystem, Remote, Transport};
use speedloader_fs::mount_table;

use super::{Finding, Repair, Scene, word};
use crate::remote::{MOUNTS, nqn_of};
use crate::view::human::shell_word;
use crate::view::{Severity, TierKind, TierState};

/// Where programs of the system are.
const PROGRAMS: [&str; 5] = ["usr/sbin", "usr/bin", "sbin", "bin", "usr/local/bin"];
/// The keys that ssh offers by itself.
const KEYS: [&str; 3] = ["id_ed25519", "id_ecdsa", "id_rsa"];

pub(super) fn check(scene: &Scene, findings: &mut Vec<Finding>) {
    if !scene.config.remotes.is_empty() {
        programs(scene, findings);
        keys(scene, findings);
    }
    for (name, remote) in &scene.config.remotes {
        modules(scene, name.as_str(), remote, findings);
    }
    lost(scene, findings);
    connections(scene, findings);
    mounts(scene, findings);
}

fn has_program(scene: &Scene, name: &str) -> bool {
    let mut places = PROGRAMS.iter();
    places.any(|place| scene.root.join(place).join(name).exists())
}

fn programs(scene: &Scene, findings: &mut Vec<Finding>) {
    if !has_program(scene, "ssh") {
        findings.push(
            Finding::new("ssh-missing", Severity::Error, "ssh", "no such program")
                .means("No remote pool can be connected.")
                .remedy("install it: package openssh-client"),
        );
    }
    let mut remotes = scene.config.remotes.values();
    if remotes.any(|remote| remote.tls) && !has_program(scene, "tlshd") {
        findings.push(
            Finding::new("tlshd-missing", Severity::Error, "tlshd", "no such program")
                .means("A remote pool with `tls` cannot be connected: tlshd does the handshake for the kernel.")
                .remedy("install it: package ktls-utils; then systemctl enable --now tlshd"),
        );
    }
    for (filesystem, program, package) in [
        (Filesystem::Xfs, "mkfs.xfs", "xfsprogs"),
        (Filesystem::Ext4, "mkfs.ext4", "e2fsprogs"),
    ] {
        let mut remotes = scene.config.remotes.values();
        let is_wanted = remotes.any(|remote| remote.filesystem == filesystem);
        if is_wanted && !has_program(scene, program) {
            findings.push(
                Finding::new("mkfs-missing", Severity::Error, program, "no such program")
                    .means("A remote pool gets no file system, so it cannot be connected.")
                    .remedy(format!("install it: package {package}")),
            );
        }
    }
}

/// Those of root, who runs a daemon that has remote pools.
fn keys(scene: &Scene, findings: &mut Vec<Finding>) {
    for name in KEYS {
        let key = scene.root.join("root/.ssh").join(name);
        if fs::metadata(&key).is_ok_and(|found| found.mode() & 0o077 != 0) {
            findings.push(
                Finding::new(
                    "ssh-key-refused",
                    Severity::Error,
                    &key,
                    "a private key that others may read",
                )
                .means("ssh does not use such a key, so remote pools cannot be connected with it.")
                .remedy(format!("chmod go= {}", word(&key)))
                .repair(Repair::Restrict(key.clone(), 0o077)),
            );
        }
    }
}

fn modules(scene: &Scene, name: &str, remote: &Remote, findings: &mut Vec<Finding>) {
    let wanted: &[&str] = match remote.transport {
        _ if remote.tls => &["nvme-tcp"],
        Transport::Rdma => &["nvme-rdma"],
        Transport::Tcp => &["nvme-tcp"],
        Transport::Auto => &["nvme-tcp", "nvme-rdma"],
    };
    if !wanted.iter().any(|module| has_module(scene, module)) {
        findings.push(
            Finding::new(
                "nvme-module-missing",
                Severity::Error,
                name,
                format!("this kernel has no {}", wanted.join(" and no ")),
            )
            .means("The remote pool cannot be connected.")
            .remedy("a kernel with NVMe over Fabrics; Debian's linux-image has it, its cloud kernel may not"),
        );
    }
}

/// Loaded, part of the kernel, or to be had by modprobe.
fn has_module(scene: &Scene, name: &str) -> bool {
    let loaded = scene.root.join("sys/module").join(name.replace('-', "_"));
    let release =
        fs::read_to_string(scene.root.join("proc/sys/kernel/osrelease")).unwrap_or_default();
    let library = scene.root.join("lib/modules").join(release.trim());
    let file = format!("/{name}.ko");
    let lists = ["modules.dep", "modules.builtin"];
    loaded.exists()
        || lists.iter().any(|list| {
            let text = fs::read_to_string(library.join(list)).unwrap_or_default();
            text.lines()
                .filter_map(|line| line.split(':').next())
                .any(|line| line.contains(&file))
        })
}

fn lost(scene: &Scene, findings: &mut Vec<Finding>) {
    let pools = scene.status.iter().flat_map(|status| &status.pools);
    for pool in pools.filter(|pool| pool.kind == TierKind::Remote) {
        if pool.state == TierState::Lost {
            findings.push(
                Finding::new(
                    "pool-lost",
                    Severity::Error,
                    &pool.name,
                    "its machine does not answer",
                )
                .means("What was in it is read from the next tier, or from its home.")
                .remedy(
                    "see to that machine and the network; it is connected again when it answers",
                ),
            );
        }
    }
}

/// NVMe connections with a name such as we give, which nobody uses.
fn connections(scene: &Scene, findings: &mut Vec<Finding>) {
    let class = scene.root.join("sys/class/nvme");
    let remotes = &scene.config.remotes;
    let is_ours = |nqn: &str| {
        let mut prefixes = remotes.values().map(|remote| remote.nqn_prefix.as_str());
        let begins = |prefix: &str| {
            let rest = nqn.strip_prefix(prefix);
            rest.is_some_and(|rest| rest.starts_with(':'))
        };
        usual_prefix().is_some_and(begins) || prefixes.any(begins)
    };
    for controller in fs::read_dir(&class).into_iter().flatten().flatten() {
        let nqn = fs::read_to_string(controller.path().join("subsysnqn")).unwrap_or_default();
        let nqn = nqn.trim();
        if !is_ours(nqn) {
            continue;
        }
        let pool = remotes
            .iter()
            .find(|(name, remote)| nqn_of(name.as_str(), remote) == nqn);
        let is_used = pool.is_some_and(|(name, _)| is_in_use(scene, name.as_str()));
        if !is_used {
            let subject = controller.file_name().to_string_lossy().into_owned();
            findings.push(
                Finding::new(
                    "connection-left",
                    Severity::Warning,
                    subject,
                    format!("connected to {nqn}, and no pool uses it"),
                )
                .means("The other machine keeps memory for nobody.")
                .remedy(format!(
                    "if no other speedloader here uses it: nvme disconnect -n {}",
                    shell_word(nqn.as_bytes())
                )),
            );
        }
    }
}

/// What the names of subsystems begin with where nothing else is configured.
fn usual_prefix() -> Option<&'static str> {
    match Config::field("remote.*.nqn_prefix")?.default {
        DefaultValue::Value(prefix) => Some(prefix),
        _ => None,
    }
}

/// While no daemon answers, the next one takes over what it finds.
fn is_in_use(scene: &Scene, name: &str) -> bool {
    scene.status.as_ref().is_none_or(|status| {
        let mut pools = status.pools.iter();
        pools.any(|pool| pool.name == name && pool.state != TierState::Disconnected)
    })
}

/// Pools that are mounted where ours are, and that the daemon does not know.
fn mounts(scene: &Scene, findings: &mut Vec<Finding>) {
    let Some(status) = &scene.status else { return };
    let table = fs::read(scene.root.join("proc/self/mountinfo")).unwrap_or_default();
    let mounted = mount_table::entries(&table).map(|entry| entry.mount_point);
    for at in mounted.filter(|path| path.starts_with(MOUNTS)) {
        let mut pools = status.pools.iter();
        let is_known =
            pools.any(|pool| Path::new(&pool.path) == at && pool.state != TierState::Disconnected);
        if !is_known {
            findings.push(
                Finding::new(
                    "pool-left",
                    Severity::Notice,
                    &at,
                    "mounted, and the daemon has no pool there",
                )
                .means("Its memory is kept for nobody. Pools hold copies only.")
                .remedy(format!(
                    "if no other speedloader uses it: umount {}",
                    word(&at)
                )),
            );
        }
    }
}

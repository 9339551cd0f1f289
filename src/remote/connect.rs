//! This machine's side of NVMe over Fabrics: connections are made through `/dev/nvme-fabrics`, looked up in
//! sysfs and ended through it.
//!
//! Not by nvme-cli: what is asked for is one line to the kernel, old versions of the program do not know
//! `fast_io_fail_tmo`, and which device was made is found by the subsystem's name and the namespace's UUID,
//! never by being the newest.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::kernel::{has_rdma, names_in, provide_module, read};
use super::keyring::{Keyring, NO_TLS};
use super::wire::{Fabric, Offer, TlsKey};
use super::{Failure, Settings, way};
use crate::state_files::HOST_ID;

/// How often it is looked whether the device has come.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// More queues than this bring nothing, and cost the other machine memory.
const QUEUES_MAX: usize = 16;
/// How much the kernel reads ahead of whoever reads or maps a file there. Its own 128 KiB keep one or two requests
/// under way, and each has a network to cross; `tests/run remote-all` measures others (`ratios`).
const READ_AHEAD_KIB: u64 = 4096;
/// Bytes of a sector as sysfs counts.
const SECTOR_BYTES: u64 = 512;

/// Who we are to other machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostIdentity {
    /// Our NVMe qualified name.
    pub nqn: String,
    /// Our UUID; the kernel wants one for each name.
    pub id: String,
}

impl HostIdentity {
    /// What `/etc/nvme` says, as nvme-cli does; else made once and kept in `state_dir`.
    ///
    /// # Errors
    /// When it can be neither read nor made.
    pub fn of_machine(state_dir: &Path, nqn: Option<&str>) -> Result<Self, Failure> {
        let etc = Path::new("/etc/nvme");
        let id = read(&etc.join("hostid")).filter(|id| is_uuid(id));
        let id = match id {
            Some(id) => id,
            None => kept_uuid(&state_dir.join(HOST_ID))?,
        };
        let configured = nqn.map(str::to_owned);
        let nqn = configured
            .or_else(|| read(&etc.join("hostnqn")).filter(|nqn| nqn.starts_with("nqn.")))
            .unwrap_or_else(|| format!("nqn.2014-08.org.nvmexpress:uuid:{id}"));
        Ok(HostIdentity { nqn, id })
    }
}

fn kept_uuid(path: &Path) -> Result<String, Failure> {
    if let Some(id) = read(path).filter(|id| is_uuid(id)) {
        return Ok(id);
    }
    let id = new_uuid()?;
    crate::whole_file::replace(path, id.as_bytes())
        .map_err(|error| Failure::io("write", path, &error))?;
    Ok(id)
}

/// A random UUID of the kernel's.
///
/// # Errors
/// Io of procfs.
pub fn new_uuid() -> Result<String, Failure> {
    let path = Path::new("/proc/sys/kernel/random/uuid");
    read(path).ok_or_else(|| Failure::new("the kernel gives no random UUID"))
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36 && text.chars().all(|c| c.is_ascii_hexdigit() || c == '-')
}

/// A connection to a subsystem: what sysfs knows of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// Names of its controllers.
    pub controllers: Vec<String>,
    /// Whether one of them is live.
    pub is_live: bool,
    /// Whether all of them are encrypted.
    pub is_encrypted: bool,
    /// Its namespace.
    pub namespace: Option<Namespace>,
}

/// The block device of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// `nvme1n1`.
    pub name: String,
    /// The UUID that the other machine gave it.
    pub uuid: String,
    /// Its size.
    pub size_bytes: u64,
}

/// The kernel's NVMe host.
#[derive(Clone, Debug)]
pub struct NvmeHost {
    sys: PathBuf,
    fabrics: PathBuf,
    keyring: Keyring,
}

impl Default for NvmeHost {
    fn default() -> Self {
        NvmeHost {
            sys: PathBuf::from("/sys"),
            fabrics: PathBuf::from("/dev/nvme-fabrics"),
            keyring: Keyring::default(),
        }
    }
}

impl NvmeHost {
    /// A host that is known by another sysfs.
    #[cfg(test)]
    pub fn below(sys: &Path) -> Self {
        NvmeHost {
            sys: sys.to_owned(),
            fabrics: sys.join("nvme-fabrics"),
            keyring: Keyring::of_listing(&sys.join("keys")),
        }
    }

    /// The connection to a subsystem, if there is one.
    pub fn find(&self, nqn: &str) -> Option<Connection> {
        let class = self.sys.join("class/nvme");
        let is_of = |directory: &Path| read(&directory.join("subsysnqn")).as_deref() == Some(nqn);
        let controllers: Vec<String> = names_in(&class)
            .into_iter()
            .filter(|name| is_of(&class.join(name)))
            .collect();
        if controllers.is_empty() {
            return None;
        }
        let is_live =
            |name: &String| read(&class.join(name).join("state")).as_deref() == Some("live");
        // The key that the handshake was done with; empty without one.
        let is_encrypted = |name: &String| {
            read(&class.join(name).join("tls_key")).is_some_and(|key| !key.is_empty())
        };
        let blocks = self.sys.join("block");
        // With multipath a namespace has a device for each path too, with a `c` in its name.
        let namespace = names_in(&blocks)
            .into_iter()
            .filter(|name| name.starts_with("nvme") && !name.contains('c'))
            .find(|name| is_of(&blocks.join(name).join("device")))
            .and_then(|name| {
                let block = blocks.join(&name);
                Some(Namespace {
                    uuid: read(&block.join("uuid"))?,
                    size_bytes: read(&block.join("size"))?.parse::<u64>().ok()? * SECTOR_BYTES,
                    name,
                })
            });
        Some(Connection {
            is_live: controllers.iter().any(is_live),
            is_encrypted: controllers.iter().all(is_encrypted),
            controllers,
            namespace,
        })
    }

    /// Sees to it that the block device with this number is the subsystem's namespace. Its name alone says nothing:
    /// it may have gone to another device since it was found.
    ///
    /// # Errors
    /// When it is another, or gone.
    pub fn must_be(&self, number: u64, nqn: &str, namespace: &Namespace) -> Result<(), Failure> {
        let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
        let block = self.sys.join(format!("dev/block/{major}:{minor}"));
        let is = |attribute: &str, value: &str| {
            read(&block.join(attribute)).is_some_and(|found| found == value)
        };
        if is("device/subsysnqn", nqn) && is("uuid", &namespace.uuid) {
            return Ok(());
        }
        let text = format!("{} went away, and is another device now", namespace.name);
        Err(Failure::new(text).with_remedy("try again; `dmesg` says more"))
    }

    /// Whether there is a block device of this name.
    pub fn has_device(&self, name: &str) -> bool {
        self.sys.join("block").join(name).exists()
    }

    /// Whether this machine has an RDMA device.
    pub fn has_rdma(&self) -> bool {
        has_rdma(&self.sys)
    }

    /// Whether this kernel can encrypt what goes over TCP.
    ///
    /// # Errors
    /// What is missing.
    pub fn need_tls(&self) -> Result<(), Failure> {
        let knows = |option: &str| {
            // What is read of it before anything was written is what may be written.
            let known = read(&self.fabrics).unwrap_or_default();
            known.split(',').any(|known| known == option)
        };
        if provide_module("nvme-tcp")
            && knows("tls")
            && self.keyring.is_there()
            && provide_module("tls")
        {
            return Ok(());
        }
        let text = "the kernel of this machine cannot encrypt NVMe over TCP";
        Err(Failure::new(text).with_remedy(NO_TLS))
    }

    /// What is written to the kernel to connect; `key` is the number of the key for TLS.
    pub fn request(settings: &Settings, offer: &Offer, key: Option<&str>) -> String {
        let Settings {
            nqn, host, timing, ..
        } = settings;
        let secret = settings.secret.as_ref().map_or(String::new(), |secret| {
            format!(",dhchap_secret={}", secret.reveal())
        });
        let tls = key.map_or(String::new(), |key| format!(",tls,tls_key={key}"));
        let queues = std::thread::available_parallelism().map_or(1, usize::from);
        format!(
            "transport={},traddr={},trsvcid={},nqn={nqn},hostnqn={},hostid={},nr_io_queues={},\
             keep_alive_tmo={},reconnect_delay={},ctrl_loss_tmo={},fast_io_fail_tmo={}{secret}{tls}",
            offer.fabric.word(),
            offer.address,
            offer.port,
            host.nqn,
            host.id,
            queues.min(QUEUES_MAX),
            seconds(timing.keep_alive),
            seconds(timing.reconnect_delay),
            seconds(timing.ctrl_loss),
            seconds(timing.fast_io_fail),
        )
    }

    /// Connects, and waits for the namespace that was offered. A `key` is kept where the kernel finds it as long as
    /// the connection is there, which may be made anew by the kernel itself.
    ///
    /// # Errors
    /// What is in the way: the module, the network, the other machine.
    pub fn connect(
        &self,
        settings: &Settings,
        offer: &Offer,
        key: Option<&TlsKey>,
    ) -> Result<Namespace, Failure> {
        let Settings { nqn, timing, .. } = settings;
        let until = Instant::now() + timing.connect;
        let module = format!("nvme-{}", offer.fabric.word());
        if !provide_module(&module) || !self.fabrics.exists() {
            let text = format!("this machine cannot load the kernel module {module}");
            return Err(Failure::new(text).with_remedy(
                "install it (Ubuntu: linux-modules-extra), or choose another `transport`",
            ));
        }
        if offer.fabric == Fabric::Tcp {
            knock(offer.address, offer.port, timing.connect)?;
        }
        let key = match key {
            Some(key) => Some(self.keyring.put(&settings.host.nqn, nqn, key)?.to_string()),
            None => None,
        };
        let request = Self::request(settings, offer, key.as_deref());
        let fabrics = self.fabrics.clone();
        // The kernel may wait far longer than we want to for a machine that does not answer.
        let (sender, answer) = crossbeam_channel::bounded(1);
        std::thread::Builder::new()
            .name("nvme-connect".to_owned())
            .spawn(move || {
                // Nobody may be there to hear it any more.
                let _ = sender.send(ask_kernel(&fabrics, &request));
            })
            .map_err(|error| Failure::new(format!("cannot start a thread: {error}")))?;
        let late = || {
            Failure::new(format!("{} does not answer NVMe in time", offer.address))
                .with_remedy("see its kernel log, or raise `connect_timeout`")
        };
        let answer = answer.recv_deadline(until).map_err(|_| late())?;
        answer.map_err(|error| refusal(settings, offer, &error))?;
        loop {
            let found = self.find(nqn).and_then(|connection| connection.namespace);
            match found {
                Some(namespace) if namespace.uuid == offer.uuid => return Ok(namespace),
                _ if Instant::now() >= until => return Err(late()),
                _ => std::thread::sleep(LOOK_INTERVAL),
            }
        }
    }

    /// Lets the kernel read further ahead on a device. Without it reads are right all the same, so a failure is only logged.
    pub fn read_further_ahead(&self, device: &str) {
        let queue = self.sys.join("block").join(device).join("queue");
        let path = queue.join("read_ahead_kb");
        if let Err(error) = fs::write(&path, READ_AHEAD_KIB.to_string()) {
            tracing::warn!(path = %path.display(), %error, "reads go on with the kernel's read-ahead");
        }
    }

    /// Ends all connections to a subsystem. Nothing of it is left then, no key either; whatever waits for it gets
    /// an error.
    ///
    /// # Errors
    /// Io of sysfs, or of the keyring.
    pub fn disconnect(&self, nqn: &str) -> Result<(), Failure> {
        for name in self.find(nqn).unwrap_or_default().controllers {
            let path = self
                .sys
                .join("class/nvme")
                .join(name)
                .join("delete_controller");
            match fs::write(&path, "1") {
                // It may have been given up by the kernel meanwhile.
                Err(error) if path.exists() => return Err(Failure::io("write", &path, &error)),
                _ => {}
            }
        }
        self.keyring.remove(nqn)
    }
}

/// Whether anybody listens there: a clear answer in time, before the kernel tries.
fn knock(address: IpAddr, port: u16, patience: Duration) -> Result<(), Failure> {
    match TcpStream::connect_timeout(&SocketAddr::new(address, port), patience) {
        Ok(_) => Ok(()),
        Err(error) => {
            let text = format!("cannot reach port {port} of {address}: {error}");
            Err(Failure::new(text).with_remedy(
                "does a firewall there let TCP to that port through, and is `address` right?",
            ))
        }
    }
}

fn ask_kernel(fabrics: &Path, request: &str) -> io::Result<()> {
    let mut file = File::options().read(true).write(true).open(fabrics)?;
    // One write is one request; the answer, `instance=0,cntlid=1`, is read back.
    if file.write(request.as_bytes())? != request.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    let mut answer = [0; 128];
    file.read(&mut answer).map(|_| ())
}

fn refusal(settings: &Settings, offer: &Offer, error: &io::Error) -> Failure {
    let text = format!(
        "the kernel cannot connect to {} port {} by {}: {error}",
        offer.address,
        offer.port,
        way(offer.fabric, settings.tls)
    );
    if settings.tls {
        return tls_refusal(text, error);
    }
    let remedy = match settings.secret {
        Some(_) => {
            "does this kernel know `dhchap_secret` (Linux 6.0, CONFIG_NVME_HOST_AUTH)? `dmesg` here and there says more"
        }
        None => "`dmesg` here and there says more",
    };
    Failure::new(text).with_remedy(remedy)
}

/// The kernel says in one way only that nobody does handshakes for it.
fn tls_refusal(text: String, error: &io::Error) -> Failure {
    if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) {
        let text = "no tlshd runs on this machine, which does the handshake of TLS for the kernel";
        return Failure::new(text)
            .with_remedy("install it (package ktls-utils), then `systemctl enable --now tlshd`");
    }
    Failure::new(text).with_remedy(
        "`journalctl -u tlshd` here and there says more; where tlshd was started before the kernel module \
         nvme-keyring was loaded, `systemctl restart tlshd`",
    )
}

/// Whole seconds, at least one: a value of zero has another meaning to the kernel.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NQN: &str = "nqn.2026-01.io.speedloader:meadowlark";

    fn put(sys: &Path, path: &str, text: &str) {
        let path = sys.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn controller(sys: &Path, name: &str, nqn: &str, state: &str) {
        put(sys, &format!("class/nvme/{name}/subsysnqn"), nqn);
        put(sys, &format!("class/nvme/{name}/state"), state);
    }

    fn block(sys: &Path, name: &str, nqn: &str, uuid: &str) {
        put(sys, &format!("block/{name}/device/subsysnqn"), nqn);
        put(sys, &format!("block/{name}/uuid"), uuid);
        put(sys, &format!("block/{name}/size"), "131072\n");
    }

    #[test]
    fn a_device_is_found_by_its_subsystem_whatever_else_there_is() {
        let sys = tempfile::tempdir().unwrap();
        let sys = sys.path();
        let host = NvmeHost::below(sys);
        assert_eq!(host.find(NQN), None);
        controller(sys, "nvme0", "nqn.of.a.disk", "live\n");
        block(sys, "nvme0n1", "nqn.of.a.disk", "disk");
        assert_eq!(host.find(NQN), None);
        controller(sys, "nvme1", &format!("{NQN}\n"), "connecting\n");
        let waiting = host.find(NQN).unwrap();
        assert!(!waiting.is_live && waiting.namespace.is_none());

        // With multipath there is a device for the path too.
        controller(sys, "nvme1", NQN, "live\n");
        block(sys, "nvme1c1n1", NQN, "path");
        block(sys, "nvme1n1", NQN, "ours\n");
        block(sys, "sda", NQN, "no");
        let found = host.find(NQN).unwrap();
        assert!(found.is_live);
        assert_eq!(found.controllers, ["nvme1"]);
        assert_eq!(
            found.namespace,
            Some(Namespace {
                name: "nvme1n1".to_owned(),
                uuid: "ours".to_owned(),
                size_bytes: 64 << 20,
            })
        );
        host.disconnect(NQN).unwrap();
        let written = |name: &str| {
            sys.join("class/nvme")
                .join(name)
                .join("delete_controller")
                .exists()
        };
        assert!(written("nvme1") && !written("nvme0"));
    }

    #[test]
    fn a_device_that_was_opened_is_known_by_its_number_not_by_its_name() {
        let sys = tempfile::tempdir().unwrap();
        let sys = sys.path();
        let host = NvmeHost::below(sys);
        controller(sys, "nvme1", NQN, "live\n");
        block(sys, "nvme1n1", NQN, "ours");
        let namespace = host.find(NQN).unwrap().namespace.unwrap();
        let number = rustix::fs::makedev(259, 3);
        let ends = |nqn: &str, uuid: &str| {
            put(sys, "dev/block/259:3/device/subsysnqn", nqn);
            put(sys, "dev/block/259:3/uuid", uuid);
            host.must_be(number, NQN, &namespace)
        };
        assert!(host.must_be(number, NQN, &namespace).is_err(), "it is gone");
        assert_eq!(ends(NQN, "ours\n"), Ok(()));
        for (nqn, uuid) in [("nqn.of.a.disk", "ours"), (NQN, "another")] {
            let failure = ends(nqn, uuid).unwrap_err();
            assert!(failure.what.starts_with("nvme1n1 went away"), "{failure}");
        }
        assert!(host.has_device("nvme1n1") && !host.has_device("nvme0n1"));
    }

    #[test]
    fn a_machine_without_handshakes_is_told_from_a_handshake_that_fails() {
        let nobody = io::Error::from_raw_os_error(rustix::io::Errno::SRCH.raw_os_error());
        let told = tls_refusal("by tcp".to_owned(), &nobody).to_string();
        assert!(told.contains("no tlshd runs on this machine"), "{told}");
        let late = tls_refusal("by tcp".to_owned(), &io::ErrorKind::TimedOut.into()).to_string();
        assert!(
            late.starts_with("by tcp; ") && late.contains("restart tlshd"),
            "{late}"
        );
    }

    #[test]
    fn an_encrypted_connection_has_a_key_in_sysfs() {
        let sys = tempfile::tempdir().unwrap();
        let sys = sys.path();
        let host = NvmeHost::below(sys);
        controller(sys, "nvme1", NQN, "live\n");
        assert!(!host.find(NQN).unwrap().is_encrypted);
        // As while the handshake has not been done.
        put(sys, "class/nvme/nvme1/tls_key", "");
        assert!(!host.find(NQN).unwrap().is_encrypted);
        put(sys, "class/nvme/nvme1/tls_key", "1b0d4e3c\n");
        assert!(host.find(NQN).unwrap().is_encrypted);
    }

    #[test]
    fn who_we_are_is_kept() {
        let state = tempfile::tempdir().unwrap();
        let one =
            HostIdentity::of_machine(state.path(), Some("nqn.2026-01.io.example:us")).unwrap();
        let two =
            HostIdentity::of_machine(state.path(), Some("nqn.2026-01.io.example:us")).unwrap();
        assert_eq!(one, two);
        assert!(is_uuid(&one.id));
        assert_eq!(one.nqn, "nqn.2026-01.io.example:us");
    }

    #[test]
    fn a_closed_port_is_said_at_once() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let failure =
            knock("127.0.0.1".parse().unwrap(), port, Duration::from_secs(5)).unwrap_err();
        assert!(
            failure.what.contains("refused") && failure.remedy.is_some(),
            "{failure}"
        );
    }
}

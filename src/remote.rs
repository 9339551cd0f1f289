//! Another machine's memory as a place for a pool: taken and offered there, connected, formatted and mounted
//! here; and all of that undone.
//!
//! What exists is looked up on both sides, never assumed, so that a bring-up continues after a crash of either
//! side at any step. Each step may be done again, has an inverse, a time-out and a message. A bring-up that
//! fails undoes what it did itself, in reverse, and nothing that it found. Nothing is formatted that is not
//! blank or ours, and nothing mounted whose record names another owner. Knows nothing of models and pools.

use std::fmt;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use speedloader_config::{Filesystem, Transport};

use crate::machine;
use crate::view::StepState;
use crate::view::human::size;

pub mod wire;
mod kernel;
pub mod keyring;
pub mod target;
pub mod connect;
pub mod volume;
pub mod ssh;

use connect::{Connection, HostIdentity, Namespace, NvmeHost};
use volume::{BlockDevice, Claim, Content};
use wire::{Export, Fabric, Offer, Progress, Request, Secret, TargetState, TlsKey};

/// Where remote pools are mounted, beside the local ones.
pub const MOUNTS: &str = "/run/speedloader/pools";

/// The name of a remote pool's NVMe subsystem.
pub fn nqn_of(name: &str, remote: &speedloader_config::Remote) -> String {
    format!("{}:{name}", remote.nqn_prefix.as_str())
}

/// Where devices have their names.
const DEVICES: &str = "/dev";

/// How long a file system may still be in use for a moment after its last reader has gone.
const UNMOUNT_PATIENCE: Duration = Duration::from_secs(5);

/// What went wrong, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What is wrong, and where.
    pub what: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

impl Failure {
    /// Without a remedy.
    pub fn new(what: impl Into<String>) -> Self {
        Failure {
            what: what.into(),
            remedy: None,
        }
    }

    /// The same with a remedy.
    #[must_use]
    pub fn with_remedy(self, remedy: impl Into<String>) -> Self {
        Failure {
            remedy: Some(remedy.into()),
            ..self
        }
    }

    fn io(what: &str, path: &Path, error: &io::Error) -> Self {
        Failure::new(format!("cannot {what} {}: {error}", path.display()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match &self.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

/// One line of what another program or machine said, harmless on a terminal.
fn printable(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words
        .join(" ")
        .chars()
        .filter(|c| !c.is_control())
        .collect()
}

/// Time-outs of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long connecting may take.
    pub connect: Duration,
    /// How often the connection is tested.
    pub keep_alive: Duration,
    /// Between attempts to connect again.
    pub reconnect_delay: Duration,
    /// Until reads fail that wait for a machine that is gone.
    pub fast_io_fail: Duration,
    /// Until a machine that is gone is given up.
    pub ctrl_loss: Duration,
}

/// What is to be brought up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Our name for it.
    pub pool: String,
    /// The name of the NVMe subsystem.
    pub nqn: String,
    /// The other machine on the fast network: a name or an address.
    pub address: String,
    /// The port that it listens on.
    pub port: u16,
    /// How data may travel.
    pub transport: Transport,
    /// How much memory, as the configuration writes it.
    pub capacity: String,
    /// What we must prove to know, if anything.
    pub secret: Option<Secret>,
    /// Whether data is encrypted on its way; `transport` is TCP then.
    pub tls: bool,
    /// The file system to make.
    pub filesystem: Filesystem,
    /// Where it is mounted here.
    pub mount_at: PathBuf,
    /// Who we are.
    pub host: HostIdentity,
    /// Time-outs.
    pub timing: Timing,
    /// The generation of the volume that was left last, if there was one.
    pub generation: Option<u64>,
}

/// A step, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The other machine answers over SSH.
    Reach,
    /// Its memory is taken.
    MakeRam,
    /// It is offered to us.
    Export,
    /// We are connected to it.
    Connect,
    /// It is ours by its record, and has a file system.
    Format,
    /// It is mounted.
    Mount,
}

impl Step {
    /// All, in order.
    pub const ALL: [Step; 6] = [
        Step::Reach,
        Step::MakeRam,
        Step::Export,
        Step::Connect,
        Step::Format,
        Step::Mount,
    ];

    /// What it is called.
    pub fn title(self) -> &'static str {
        match self {
            Step::Reach => "reach the other machine",
            Step::MakeRam => "take its memory",
            Step::Export => "offer it over NVMe",
            Step::Connect => "connect to it",
            Step::Format => "make a file system",
            Step::Mount => "mount it",
        }
    }
}

/// Hears of every step: what becomes of it, and in words what was found or done.
pub type Report<'a> = &'a mut dyn FnMut(Step, StepState, &str);

/// A bring-up or tear-down that did not come to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Where.
    pub step: Step,
    /// Why.
    pub failure: Failure,
    /// What could not be undone.
    pub left: Vec<String>,
}

impl Stopped {
    fn at(step: Step) -> impl FnOnce(Failure) -> Stopped {
        move |failure| Stopped {
            step,
            failure,
            left: Vec::new(),
        }
    }
}

/// A file system on another machine's memory, mounted here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// How data travels.
    pub fabric: Fabric,
    /// How often it was mounted, this time included.
    pub generation: u64,
    /// Whether what is on it is what we left there last.
    pub is_known: bool,
}

/// The other machine.
pub trait There {
    /// Asks its agent, which says how far it is with what takes long.
    ///
    /// # Errors
    /// When it says nothing for too long, or refuses.
    fn ask(
        &mut self,
        request: &Request,
        hear: &mut dyn FnMut(Progress),
    ) -> Result<TargetState, Failure>;
}

/// This machine. Every method may be called again.
pub trait Here {
    /// Whether it has an RDMA device.
    fn has_rdma(&self) -> bool;
    /// The connection to a subsystem.
    fn find(&self, nqn: &str) -> Option<Connection>;
    /// Whether it can encrypt data on its way.
    ///
    /// # Errors
    /// What is missing.
    fn need_tls(&self) -> Result<(), Failure>;
    /// Connects and waits for the namespace; encrypted with a key, which it keeps until the connection is ended.
    ///
    /// # Errors
    /// What is in the way.
    fn connect(
        &mut self,
        settings: &Settings,
        offer: &Offer,
        key: Option<&TlsKey>,
    ) -> Result<Namespace, Failure>;
    /// Ends the connection, and forgets its key.
    ///
    /// # Errors
    /// Io.
    fn disconnect(&mut self, nqn: &str) -> Result<(), Failure>;
    /// Takes hold of the device of a subsystem's namespace. All that follows is done to this one.
    ///
    /// # Errors
    /// Io; when it is another's by now.
    fn open(&self, nqn: &str, namespace: &Namespace) -> Result<BlockDevice, Failure>;
    /// What is on the device.
    ///
    /// # Errors
    /// Io.
    fn content(&self, device: &BlockDevice) -> Result<Content, Failure>;
    /// Writes whose it is.
    ///
    /// # Errors
    /// Io.
    fn write_claim(&mut self, device: &BlockDevice, claim: &Claim) -> Result<(), Failure>;
    /// Makes the file system.
    ///
    /// # Errors
    /// What its program says.
    fn format(&mut self, filesystem: Filesystem, device: &BlockDevice) -> Result<(), Failure>;
    /// Whether there is a block device of this name.
    fn has_device(&self, name: &str) -> bool;
    /// The device that is mounted at a place.
    ///
    /// # Errors
    /// Io.
    fn mounted_at(&self, at: &Path) -> Result<Option<String>, Failure>;
    /// Mounts.
    ///
    /// # Errors
    /// Io.
    fn mount(
        &mut self,
        filesystem: Filesystem,
        device: &BlockDevice,
        at: &Path,
    ) -> Result<(), Failure>;
    /// Unmounts.
    ///
    /// # Errors
    /// Io, EBUSY.
    fn unmount(&mut self, at: &Path) -> Result<(), Failure>;
    /// Takes the mount away although it is in use.
    ///
    /// # Errors
    /// Io.
    fn detach(&mut self, at: &Path) -> Result<(), Failure>;
}

/// This machine, really.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    nvme: NvmeHost,
}

impl Here for Machine {
    fn has_rdma(&self) -> bool {
        self.nvme.has_rdma()
    }

    fn find(&self, nqn: &str) -> Option<Connection> {
        self.nvme.find(nqn)
    }

    fn need_tls(&self) -> Result<(), Failure> {
        self.nvme.need_tls()
    }

    fn connect(
        &mut self,
        settings: &Settings,
        offer: &Offer,
        key: Option<&TlsKey>,
    ) -> Result<Namespace, Failure> {
        self.nvme.connect(settings, offer, key)
    }

    fn disconnect(&mut self, nqn: &str) -> Result<(), Failure> {
        self.nvme.disconnect(nqn)
    }

    fn open(&self, nqn: &str, namespace: &Namespace) -> Result<BlockDevice, Failure> {
        let device = BlockDevice::open(&Path::new(DEVICES).join(&namespace.name))?;
        self.nvme.must_be(device.number()?, nqn, namespace)?;
        Ok(device)
    }

    fn content(&self, device: &BlockDevice) -> Result<Content, Failure> {
        volume::content(device)
    }

    fn write_claim(&mut self, device: &BlockDevice, claim: &Claim) -> Result<(), Failure> {
        volume::write_claim(device, claim)
    }

    fn format(&mut self, filesystem: Filesystem, device: &BlockDevice) -> Result<(), Failure> {
        volume::format(filesystem, device)
    }

    fn has_device(&self, name: &str) -> bool {
        self.nvme.has_device(name)
    }

    fn mounted_at(&self, at: &Path) -> Result<Option<String>, Failure> {
        let source = volume::mounted_at(at)?;
        Ok(source.map(|source| source.trim_start_matches("/dev/").to_owned()))
    }

    fn mount(
        &mut self,
        filesystem: Filesystem,
        device: &BlockDevice,
        at: &Path,
    ) -> Result<(), Failure> {
        volume::mount(filesystem, device, at)?;
        let name = device.path().file_name().unwrap_or_default();
        self.nvme.read_further_ahead(&name.to_string_lossy());
        Ok(())
    }

    fn unmount(&mut self, at: &Path) -> Result<(), Failure> {
        volume::unmount(at, UNMOUNT_PATIENCE)
    }

    fn detach(&mut self, at: &Path) -> Result<(), Failure> {
        volume::detach(at)
    }
}

/// A bring-up under way.
struct BringUp<'a> {
    settings: &'a Settings,
    there: &'a mut dyn There,
    here: &'a mut dyn Here,
    report: Report<'a>,
    address: IpAddr,
    /// What it did itself, or may have done.
    did: Vec<Step>,
    step: Step,
}

/// Brings a volume up from whatever is there already.
///
/// # Errors
/// The step that failed and why; what this call did was undone, or is named.
pub fn connect(
    settings: &Settings,
    there: &mut dyn There,
    here: &mut dyn Here,
    report: Report<'_>,
) -> Result<Volume, Stopped> {
    let address = resolve(&settings.address, settings.port).map_err(|failure| {
        report(Step::Reach, StepState::Failed, &failure.to_string());
        Stopped::at(Step::Reach)(failure)
    })?;
    let mut run = BringUp {
        settings,
        there,
        here,
        report,
        address,
        did: Vec::new(),
        step: Step::Reach,
    };
    run.run().map_err(|failure| {
        let (step, words) = (run.step, failure.to_string());
        (run.report)(step, StepState::Failed, &words);
        let left = run.undo();
        Stopped {
            step,
            failure,
            left,
        }
    })
}

/// The address of a name, as the kernel wants it.
///
/// # Errors
/// When nobody knows the name.
pub fn resolve(address: &str, port: u16) -> Result<IpAddr, Failure> {
    let failed = |error: &str| {
        Failure::new(format!("`{address}` has no address: {error}"))
            .with_remedy("put the IP address of the fast network into `address`")
    };
    let mut found = (address, port)
        .to_socket_addrs()
        .map_err(|error| failed(&error.to_string()))?;
    found
        .next()
        .map(|socket| socket.ip())
        .ok_or_else(|| failed("the name is known without one"))
}

/// What the agent is told of an export.
pub fn export_of(settings: &Settings, address: IpAddr, fabric: Fabric) -> Export {
    Export {
        nqn: settings.nqn.clone(),
        host_nqn: settings.host.nqn.clone(),
        secret: settings.secret.clone(),
        tls: settings.tls,
        host_name: machine::name(),
        address,
        port: settings.port,
        fabric,
        capacity: settings.capacity.clone(),
    }
}

/// How data travels, in words.
pub fn way(fabric: Fabric, tls: bool) -> String {
    match tls {
        true => format!("{}, encrypted (TLS)", fabric.word()),
        false => fabric.word().to_owned(),
    }
}

/// How data travels where it is not known that both machines have RDMA.
fn plain_fabric(transport: Transport) -> Fabric {
    match transport {
        Transport::Rdma => Fabric::Rdma,
        Transport::Auto | Transport::Tcp => Fabric::Tcp,
    }
}

/// The file system that a record tells of. The other machine can write what it likes there, and the kernel would mount
/// anything by that name: only what we make is asked for.
fn filesystem_of(claim: &Claim, device: &str) -> Result<Filesystem, Failure> {
    let ours = [Filesystem::Xfs, Filesystem::Ext4];
    let known = ours
        .into_iter()
        .find(|ours| ours.word() == claim.filesystem);
    known.ok_or_else(|| {
        let text = format!("its file system is {}", printable(&claim.filesystem));
        not_ours(device, &text)
    })
}

/// A record that we cannot have written.
fn not_ours(device: &str, why: &str) -> Failure {
    let text = format!("the record on {device} is none of ours: {why}; nothing on it was changed");
    Failure::new(text).with_remedy("look who else writes there, and make the export anew")
}

/// The device that is mounted at a place, if it is one that the kernel has given up since: of a connection of an
/// earlier run, whose mount stayed. Nothing can be had from it, and who has something of it open gets errors with and
/// without a name.
fn gone_at(here: &dyn Here, at: &Path) -> Result<Option<String>, Failure> {
    let mounted = here.mounted_at(at)?;
    Ok(mounted.filter(|name| name.starts_with("nvme") && !here.has_device(name)))
}

/// Who answers with another offer than was asked for would have us connect to whom it likes.
fn must_be_asked_for(offer: &Offer, asked: &Export) -> Result<(), Failure> {
    let wanted = (asked.address, asked.port, asked.fabric);
    if (offer.address, offer.port, offer.fabric) == wanted {
        return Ok(());
    }
    let way = |(address, port, fabric): (IpAddr, u16, Fabric)| {
        format!("{address} port {port} by {}", fabric.word())
    };
    let text = format!(
        "the other machine offers {}, where {} was asked for",
        way((offer.address, offer.port, offer.fabric)),
        way(wanted)
    );
    Err(Failure::new(text).with_remedy("is it speedloader's agent that answers there?"))
}

impl BringUp<'_> {
    fn begin(&mut self, step: Step) {
        self.step = step;
        (self.report)(step, StepState::Running, "");
    }

    fn end(&mut self, state: StepState, text: &str) {
        (self.report)(self.step, state, text);
    }

    fn export(&self, fabric: Fabric) -> Export {
        export_of(self.settings, self.address, fabric)
    }

    fn run(&mut self) -> Result<Volume, Failure> {
        self.begin(Step::Reach);
        if self.settings.tls {
            self.here.need_tls()?;
        }
        let plain = plain_fabric(self.settings.transport);
        let export = self.export(plain);
        let found = self.there.ask(&Request::Look { export }, &mut |_| ())?;
        if let Some(owner) = found
            .owner
            .as_ref()
            .filter(|owner| **owner != self.settings.host.nqn)
        {
            let text = format!(
                "{} is exported by {} to another host: {owner}",
                self.settings.nqn, found.machine
            );
            return Err(Failure::new(text).with_remedy(
                "disconnect it there first, or give this pool another name or nqn_prefix",
            ));
        }
        let text = format!(
            "{}, Linux {}, {} of {} of memory available",
            found.machine,
            found.kernel,
            size(found.available_bytes),
            size(found.total_bytes)
        );
        self.end(StepState::Done, &text);

        self.begin(Step::MakeRam);
        let export = self.export(plain);
        // Each deed is noted before it is done: a lost answer does not mean that nothing was done.
        if found.ram_bytes.is_none() {
            self.did.push(Step::MakeRam);
        }
        let report = &mut self.report;
        let made = self
            .there
            .ask(&Request::MakeRam { export }, &mut |progress| {
                let Progress {
                    done_bytes,
                    total_bytes,
                } = progress;
                let text = format!("{} of {}", size(done_bytes), size(total_bytes));
                report(Step::MakeRam, StepState::Running, &text);
            })?;
        let ram_bytes = made.ram_bytes.unwrap_or(0);
        let text = format!("{} on {}", size(ram_bytes), made.machine);
        match found.ram_bytes == made.ram_bytes {
            true => self.end(StepState::Found, &text),
            false => self.end(StepState::Done, &text),
        }
        let (namespace, fabric) = self.attach(&made)?;
        if namespace.size_bytes != ram_bytes {
            let text = format!(
                "{} has {} bytes, {} were offered",
                namespace.name, namespace.size_bytes, ram_bytes
            );
            return Err(Failure::new(text));
        }
        self.use_device(&namespace, fabric)
    }

    /// Offers and connects: where both ways are open and the better does not go, by the other.
    fn attach(&mut self, made: &TargetState) -> Result<(Namespace, Fabric), Failure> {
        let transport = self.settings.transport;
        let tries_rdma = transport == Transport::Auto && made.has_rdma && self.here.has_rdma();
        let plain = plain_fabric(transport);
        let is_kept = |offer: &&Offer| {
            (offer.fabric == plain || (tries_rdma && offer.fabric == Fabric::Rdma))
                && offer.address == self.address
                && offer.port == self.settings.port
        };
        // The key of an export is known to nobody but the two kernels: without its connection it needs another.
        let is_usable = |offer: &&Offer| !self.settings.tls || self.is_connected(offer).is_some();
        if let Some(offer) = made.offer.as_ref().filter(is_kept).filter(is_usable) {
            // What is there already is not made again by another way.
            let fabric = offer.fabric;
            return Ok((self.attach_by(fabric, Some(offer.clone()))?, fabric));
        }
        if tries_rdma {
            match self.attach_by(Fabric::Rdma, None) {
                Ok(namespace) => return Ok((namespace, Fabric::Rdma)),
                Err(failure) => {
                    self.end(StepState::Running, &format!("not by rdma: {failure}"));
                    // What could not be undone is found by the other way, and done with.
                    let _ = self.undo_down_to(Step::Export);
                }
            }
        }
        Ok((self.attach_by(plain, None)?, plain))
    }

    /// The device of a connection that is live, to this offer, and encrypted or not as it should be.
    fn is_connected(&self, offer: &Offer) -> Option<Namespace> {
        let connection = self.here.find(&self.settings.nqn)?;
        let is_right = connection.is_live && connection.is_encrypted == self.settings.tls;
        let namespace = connection.namespace.filter(|_| is_right)?;
        (namespace.uuid == offer.uuid).then_some(namespace)
    }

    fn attach_by(&mut self, fabric: Fabric, kept: Option<Offer>) -> Result<Namespace, Failure> {
        self.begin(Step::Export);
        let mut key = None;
        let offer = match kept {
            Some(offer) => {
                self.end(StepState::Found, &self.settings.nqn.clone());
                offer
            }
            None => {
                let export = self.export(fabric);
                if self.settings.tls {
                    key = Some(keyring::new_key()?);
                }
                self.did.push(Step::Export);
                let request = Request::Export {
                    export: export.clone(),
                    key: key.clone(),
                };
                let state = self.there.ask(&request, &mut |_| ())?;
                let offer = state.offer.ok_or_else(|| {
                    Failure::new("it was exported, and then there was no whole export")
                })?;
                must_be_asked_for(&offer, &export)?;
                let text = format!(
                    "{} at {} port {} by {}",
                    self.settings.nqn,
                    offer.address,
                    offer.port,
                    way(fabric, self.settings.tls)
                );
                self.end(StepState::Done, &text);
                offer
            }
        };
        self.begin(Step::Connect);
        let nqn = &self.settings.nqn;
        // With a key that is new no connection stands.
        if let Some(namespace) = self.is_connected(&offer).filter(|_| key.is_none()) {
            self.end(StepState::Found, &namespace.name);
            return Ok(namespace);
        }
        // Of an export that is gone, or not live any more: nothing can be had from it.
        if self.here.find(nqn).is_some() {
            self.here.detach(&self.settings.mount_at)?;
            self.here.disconnect(nqn)?;
        }
        // One that does not come in time may come later.
        self.did.push(Step::Connect);
        let namespace = self.here.connect(self.settings, &offer, key.as_ref())?;
        self.end(StepState::Done, &namespace.name.clone());
        Ok(namespace)
    }

    /// Whose it is, its file system, its place.
    fn use_device(&mut self, namespace: &Namespace, fabric: Fabric) -> Result<Volume, Failure> {
        self.begin(Step::Format);
        let at = self.settings.mount_at.clone();
        if let Some(gone) = gone_at(self.here, &at)? {
            self.here.detach(&at)?;
            let text = format!("the mount of {gone}, which is gone, was taken away");
            self.end(StepState::Running, &text);
        }
        let mounted = self.here.mounted_at(&at)?;
        if let Some(other) = mounted.as_ref().filter(|name| **name != namespace.name) {
            let text = format!("{other} is mounted at {}", at.display());
            return Err(
                Failure::new(text).with_remedy(format!("unmount it: umount '{}'", at.display()))
            );
        }
        // From here on to the mount: nothing is done to what was not looked at.
        let device = self.here.open(&self.settings.nqn, namespace)?;
        let (mut claim, filesystem) = self.claim(&device, &namespace.name)?;
        let known = self.settings.generation;
        self.begin(Step::Mount);
        if mounted.is_some() {
            self.end(StepState::Found, &at.display().to_string());
            return Ok(Volume {
                fabric,
                generation: claim.generation,
                is_known: known == Some(claim.generation),
            });
        }
        // The number on the device goes up first: a crash in between leaves it one ahead of ours.
        let left = claim.generation;
        claim.generation = left
            .checked_add(1)
            .ok_or_else(|| not_ours(&namespace.name, "it was mounted more often than can be"))?;
        self.here.write_claim(&device, &claim)?;
        self.did.push(Step::Mount);
        self.here.mount(filesystem, &device, &at)?;
        self.end(StepState::Done, &at.display().to_string());
        Ok(Volume {
            fabric,
            generation: claim.generation,
            is_known: known
                .is_some_and(|known| left == known || Some(left) == known.checked_add(1)),
        })
    }

    /// Whose it is, which must be us, and its file system; both are made where it is blank.
    fn claim(&mut self, device: &BlockDevice, name: &str) -> Result<(Claim, Filesystem), Failure> {
        let filesystem = self.settings.filesystem;
        let mut claim = match self.here.content(device)? {
            Content::Claimed(claim) => {
                let ours =
                    claim.host_nqn == self.settings.host.nqn && claim.pool == self.settings.pool;
                if !ours {
                    let text = format!(
                        "{name} belongs to {} ({}), as its pool {}; nothing on it was changed",
                        printable(&claim.host_name),
                        printable(&claim.host_nqn),
                        printable(&claim.pool)
                    );
                    return Err(Failure::new(text).with_remedy(
                        "two hosts cannot use one export: give this pool another name or nqn_prefix",
                    ));
                }
                if claim.formatted {
                    let filesystem = filesystem_of(&claim, name)?;
                    let text = format!("{} of ours", filesystem.word());
                    self.end(StepState::Found, &text);
                    return Ok((claim, filesystem));
                }
                claim
            }
            Content::Blank => Claim {
                host_nqn: self.settings.host.nqn.clone(),
                host_name: machine::name(),
                pool: self.settings.pool.clone(),
                formatted: false,
                filesystem: filesystem.word().to_owned(),
                generation: 0,
            },
            Content::Foreign => {
                let text =
                    format!("{name} holds something that is not ours; nothing on it was changed");
                return Err(
                    Failure::new(text).with_remedy("if it may go, make the export anew there")
                );
            }
        };
        claim.filesystem = filesystem.word().to_owned();
        self.here.write_claim(device, &claim)?;
        self.here.format(filesystem, device)?;
        claim.formatted = true;
        self.here.write_claim(device, &claim)?;
        self.end(StepState::Done, filesystem.word());
        Ok((claim, filesystem))
    }

    /// Undoes what was done since, and including, a deed.
    fn undo_down_to(&mut self, deed: Step) -> Vec<String> {
        let from = self.did.iter().position(|did| *did == deed);
        let undone = self.did.split_off(from.unwrap_or(self.did.len()));
        let mut left = Vec::new();
        for step in undone.into_iter().rev() {
            let done = match step {
                Step::Mount => self.here.unmount(&self.settings.mount_at),
                Step::Connect => self.here.disconnect(&self.settings.nqn),
                Step::Export => {
                    let export = self.export(Fabric::Tcp);
                    self.there
                        .ask(&Request::Withdraw { export }, &mut |_| ())
                        .map(|_| ())
                }
                Step::MakeRam => {
                    let export = self.export(Fabric::Tcp);
                    self.there
                        .ask(&Request::FreeRam { export }, &mut |_| ())
                        .map(|_| ())
                }
                // They leave nothing, or what the others take away.
                Step::Reach | Step::Format => Ok(()),
            };
            match done {
                Ok(()) if step != self.step => (self.report)(step, StepState::Undone, ""),
                Ok(()) => {}
                Err(failure) => left.push(format!("{}: {failure}", step.title())),
            }
        }
        left
    }

    fn undo(&mut self) -> Vec<String> {
        match self.did.first() {
            Some(first) => self.undo_down_to(*first),
            None => Vec::new(),
        }
    }
}

/// Takes a volume down, as far as it is there, when nobody uses it any more.
///
/// # Errors
/// The step that failed and why; asking again continues there.
pub fn disconnect(
    settings: &Settings,
    there: &mut dyn There,
    here: &mut dyn Here,
    report: Report<'_>,
) -> Result<(), Stopped> {
    leave(settings, here, false, report)?;
    let address = resolve(&settings.address, settings.port).map_err(Stopped::at(Step::Export))?;
    let export = export_of(settings, address, plain_fabric(settings.transport));
    report(Step::Export, StepState::Running, "");
    let request = Request::Withdraw {
        export: export.clone(),
    };
    there
        .ask(&request, &mut |_| ())
        .map_err(Stopped::at(Step::Export))?;
    report(Step::Export, StepState::Undone, "");
    report(Step::MakeRam, StepState::Running, "");
    there
        .ask(&Request::FreeRam { export }, &mut |_| ())
        .map_err(Stopped::at(Step::MakeRam))?;
    report(Step::MakeRam, StepState::Undone, "");
    Ok(())
}

/// Takes down what is here only: the other machine keeps the memory and what is in it. With `lost` the mount is
/// taken away from whoever uses it, and they get errors.
///
/// # Errors
/// As [`disconnect`].
pub fn leave(
    settings: &Settings,
    here: &mut dyn Here,
    lost: bool,
    report: Report<'_>,
) -> Result<(), Stopped> {
    report(Step::Mount, StepState::Running, "");
    let at = &settings.mount_at;
    let unmounted = match lost {
        true => here.detach(at),
        false => gone_at(here, at).and_then(|gone| match gone {
            Some(_) => here.detach(at),
            None => here.unmount(at),
        }),
    };
    unmounted.map_err(Stopped::at(Step::Mount))?;
    report(Step::Mount, StepState::Undone, "");
    report(Step::Connect, StepState::Running, "");
    here.disconnect(&settings.nqn)
        .map_err(Stopped::at(Step::Connect))?;
    report(Step::Connect, StepState::Undone, "");
    Ok(())
}

/// What each step would do, in words and commands, for people who want to see it first.
///
/// # Errors
/// When nobody knows the other machine's address.
pub fn plan(settings: &Settings, ssh: &str) -> Result<Vec<(Step, String)>, Failure> {
    let device = Path::new("/dev/nvmeXn1");
    let offer = Offer {
        uuid: String::new(),
        address: resolve(&settings.address, settings.port)?,
        port: settings.port,
        fabric: plain_fabric(settings.transport),
    };
    let hidden = settings.secret.as_ref().map(|_| Secret::new("..."));
    let shown = Settings {
        secret: hidden,
        ..settings.clone()
    };
    let key = settings.tls.then_some("...");
    let request = NvmeHost::request(&shown, &offer, key);
    let format = volume::format_command(settings.filesystem, device, None);
    let words = |step: Step| match step {
        Step::Reach => ssh.to_owned(),
        Step::MakeRam => format!(
            "there: mount -t tmpfs -o huge=always,noswap; fallocate -l {}",
            settings.capacity
        ),
        Step::Export => format!(
            "there: /sys/kernel/config/nvmet: subsystem {}, allowed host {}, port {} of {} ({}){}",
            settings.nqn,
            settings.host.nqn,
            settings.port,
            settings.address,
            settings.transport.word(),
            match settings.tls {
                true => ", addr_tsas tls1.3, a new key in the keyring .nvme",
                false => "",
            }
        ),
        Step::Connect => format!(
            "{}echo '{request}' > /dev/nvme-fabrics",
            match settings.tls {
                true => "the same key in the keyring .nvme; ",
                false => "",
            }
        ),
        Step::Format => format!("if it is blank: {}", format.join(" ")),
        Step::Mount => format!(
            "mount -t {} -o nosuid,nodev,noexec,noatime {} '{}'",
            settings.filesystem.word(),
            device.display(),
            settings.mount_at.display()
        ),
    };
    Ok(Step::ALL.map(|step| (step, words(step))).into())
}

#[cfg(test)]
mod tests;

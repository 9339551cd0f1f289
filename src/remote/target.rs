//! What happens on the other machine: memory is taken and offered by the kernel's NVMe target, and both are
//! taken back. Runs there, as `speedloader remote-agent`.
//!
//! The memory is one file, allocated before it is offered, in a tmpfs of its own beside a record of whose it is and
//! what else was made for it. Only what that record names is ever removed. Everything else is looked up in
//! configfs, so that whatever was done by half is seen, and is completed or removed.

use std::fs::{self, File};
use std::io::{self, BufRead, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, FlockOperation};
use serde::{Deserialize, Serialize};
use speedloader_config::{Bytes, Capacity};
use speedloader_fs::tmpfs::{self, HugePages, TmpfsSettings};

use super::kernel::{has_rdma, names_in, provide_module, read};
use super::keyring::{Keyring, NO_TLS, has_handshaker, is_key};
use super::wire::{
    Export, Fabric, Greeting, LINE_BYTES_MAX, Offer, PROTOCOL, Progress, Reply, Request, Secret,
    TargetState, TlsKey,
};
use crate::machine::Memory;
use crate::view::human::{chain, size};
use crate::{machine, whole_file};

/// Beside the memory itself: the record, and rounding.
const RECORD_BYTES: u64 = 8 << 20;
/// Sizes are whole ones of these.
const ROUND_BYTES: u64 = 1 << 20;
/// So much is taken at once: on a slow machine a matter of seconds, which is less than who asked waits for a word.
const STEP_BYTES: u64 = 256 << 20;
/// What the kernel counts a file's memory in.
const BLOCK_BYTES: u64 = 512;
/// What must be left to the machine beside an export: this share of its memory, and at least so much.
const LEFT_SHARE: u64 = 20;
const LEFT_BYTES_MIN: u64 = 128 << 20;
/// As nvmet writes it.
const TLS: &str = "tls1.3";
/// nvmet's ports are numbered.
const PORTS_MAX: u16 = 1024;

/// A refusal.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    what: String,
    remedy: Option<String>,
}

type Done<T> = Result<T, Refused>;

/// Tells who asked how far it is; an error: nobody hears it.
type Tell<'a> = &'a mut dyn FnMut(Progress) -> io::Result<()>;

fn refused(what: impl Into<String>) -> Refused {
    Refused {
        what: what.into(),
        remedy: None,
    }
}

impl Refused {
    fn with_remedy(self, remedy: impl Into<String>) -> Self {
        Refused {
            remedy: Some(remedy.into()),
            ..self
        }
    }
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Refused {
    refused(format!("cannot {what} {}: {error}", path.display()))
}

/// Whose an export is, and what was made for it beside what bears its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    nqn: String,
    host_nqn: String,
    host_name: String,
    /// The port's number, if the port was made for it.
    port: Option<u16>,
    /// Whether the entry of the allowed host was made for it.
    host: bool,
}

/// The kernel's NVMe target and the memory for it.
pub struct Target {
    configfs: PathBuf,
    exports: PathBuf,
    keyring: Keyring,
    memory: Box<dyn Fn() -> Memory + Send + Sync>,
    /// Whether there is a kernel behind `configfs`, whose modules root can load: not in tests.
    is_kernel: bool,
}

impl Default for Target {
    fn default() -> Self {
        Target {
            configfs: PathBuf::from("/sys/kernel/config/nvmet"),
            exports: PathBuf::from("/run/speedloader/exports"),
            keyring: Keyring::default(),
            memory: Box::new(machine::memory),
            is_kernel: true,
        }
    }
}

/// Answers requests until there are no more, or somebody cannot hear the answers.
///
/// # Errors
/// Io of the streams.
pub fn serve(target: &Target, input: impl Read, mut output: impl Write) -> io::Result<()> {
    let mut say = |line: Vec<u8>| {
        output.write_all(&line)?;
        output.write_all(b"\n")?;
        output.flush()
    };
    let greeting = Greeting {
        agent: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    say(serde_json::to_vec(&greeting)?)?;
    let mut input = io::BufReader::new(input);
    loop {
        let mut line = Vec::new();
        let most = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
        if (&mut input).take(most).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let reply = match serde_json::from_slice::<Request>(&line) {
            Ok(request) => target.carry_out(&request, &mut |progress| {
                say(serde_json::to_vec(&Reply::Progress(progress))?)
            }),
            Err(error) => Err(refused(format!("this is no request: {error}"))),
        };
        let reply = match reply {
            Ok(state) => Reply::Ok(state),
            Err(Refused { what, remedy }) => Reply::Refused { what, remedy },
        };
        say(serde_json::to_vec(&reply)?)?;
    }
}

impl Target {
    fn carry_out(&self, request: &Request, tell: Tell<'_>) -> Done<TargetState> {
        let (Request::Look { export }
        | Request::MakeRam { export }
        | Request::Export { export, .. }
        | Request::Withdraw { export }
        | Request::FreeRam { export }) = request;
        check(export)?;
        self.refuse_if_foreign(export)?;
        if matches!(request, Request::Look { .. }) {
            return self.look(export);
        }
        if !rustix::process::geteuid().is_root() && self.is_kernel {
            return Err(
                refused("the agent must be root on the other machine").with_remedy(
                    "let ssh log in as root, or allow `sudo -n speedloader remote-agent` there",
                ),
            );
        }
        let alone = self.lock()?;
        let done = self.carry_out_alone(request, export, tell);
        self.remove_empty();
        drop(alone);
        done
    }

    fn carry_out_alone(
        &self,
        request: &Request,
        export: &Export,
        tell: Tell<'_>,
    ) -> Done<TargetState> {
        self.refuse_if_owned_by_another(export)?;
        match request {
            Request::Look { .. } => {}
            Request::MakeRam { .. } => {
                self.need_tls(export)?;
                self.make_ram(export, tell)?;
            }
            Request::Export { key, .. } => {
                if let Err(error) = self.offer(export, key.as_ref()) {
                    // What cannot be completed is not left by half.
                    let _ = self.withdraw(export);
                    return Err(error);
                }
            }
            Request::Withdraw { .. } => self.withdraw(export)?,
            Request::FreeRam { .. } => {
                self.withdraw(export)?;
                self.free_ram(export)?;
            }
        }
        self.look(export)
    }

    /// Two agents at once would each see what the other has made by half. The directory that is locked goes when
    /// nothing is left in it: who has waited for one that is gone has locked nothing.
    fn lock(&self) -> Done<File> {
        let attempt = || -> io::Result<File> {
            loop {
                self.make_directories()?;
                let file = match File::open(&self.exports) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    opened => opened?,
                };
                rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
                if is_at(&file, &self.exports)? {
                    return Ok(file);
                }
            }
        };
        attempt().map_err(|error| failed("lock", &self.exports, &error))
    }

    fn make_directories(&self) -> io::Result<()> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        if let Some(parent) = self.exports.parent() {
            builder.mode(0o755).create(parent)?;
        }
        let made = fs::DirBuilder::new().mode(0o700).create(&self.exports);
        // It is there; or another agent has just taken its parent away, and we come again.
        let is_no_fault = |error: &io::Error| {
            matches!(
                error.kind(),
                io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound
            )
        };
        made.or_else(|error| match is_no_fault(&error) {
            true => Ok(()),
            false => Err(error),
        })
    }

    /// The last that is done under the lock, which ends with its directory for whoever comes after. Other exports,
    /// and whatever else lies beside them, stay.
    fn remove_empty(&self) {
        let parent = self.exports.parent();
        for empty in [Some(self.exports.as_path()), parent].into_iter().flatten() {
            if fs::remove_dir(empty).is_err() {
                return;
            }
        }
    }

    /// A subsystem of this name that is not of our making is neither looked into nor changed. Ours have a record or,
    /// where that was lost, our serial number.
    fn refuse_if_foreign(&self, export: &Export) -> Done<()> {
        let subsystem = self.subsystem(export);
        // Kernels before 5.14 keep it as a number.
        let has_serial = |serial: String| {
            serial.trim_start_matches('0') == key(&export.nqn).trim_start_matches('0')
        };
        let is_ours = || {
            self.record(export).is_some()
                || read(&subsystem.join("attr_serial")).is_some_and(has_serial)
        };
        if !subsystem.exists() || is_ours() {
            return Ok(());
        }
        let text = format!(
            "{} has a subsystem {} already, which speedloader did not make",
            machine::name(),
            export.nqn
        );
        Err(refused(text)
            .with_remedy("remove it there, or give this pool another name or nqn_prefix"))
    }

    fn refuse_if_owned_by_another(&self, export: &Export) -> Done<()> {
        let Some(owner) = self.owner(export) else {
            return Ok(());
        };
        if owner == export.host_nqn {
            return Ok(());
        }
        let name = self.record(export).map(|record| record.host_name);
        let who = name.map_or_else(|| owner.clone(), |name| format!("{name} ({owner})"));
        let text = format!("{} is exported to another host already: {who}", export.nqn);
        Err(refused(text)
            .with_remedy("disconnect it there first, or give this pool another name or nqn_prefix"))
    }

    fn look(&self, export: &Export) -> Done<TargetState> {
        let memory = (self.memory)();
        Ok(TargetState {
            machine: machine::name(),
            kernel: machine::kernel_release(),
            total_bytes: memory.total_bytes,
            available_bytes: memory.available_bytes,
            has_rdma: has_rdma(Path::new("/sys")),
            owner: self.owner(export),
            ram_bytes: self.ram_bytes(export),
            offer: self.whole_offer(export),
        })
    }

    /// The host that the export is for: by its record, or by what configfs has.
    fn owner(&self, export: &Export) -> Option<String> {
        if let Some(record) = self.record(export) {
            return Some(record.host_nqn);
        }
        let subsystem = self.subsystem(export);
        if !subsystem.exists() {
            return None;
        }
        let allowed = names_in(&subsystem.join("allowed_hosts"));
        let ours = allowed.iter().find(|name| **name == export.host_nqn);
        let other = || allowed.first().cloned().unwrap_or_else(|| "any".to_owned());
        Some(ours.cloned().unwrap_or_else(other))
    }

    // --- memory

    fn directory(&self, export: &Export) -> PathBuf {
        self.exports.join(key(&export.nqn))
    }

    fn ram(&self, export: &Export) -> PathBuf {
        self.directory(export).join("ram")
    }

    fn record(&self, export: &Export) -> Option<Record> {
        let mut bytes = Vec::new();
        let file = File::open(self.directory(export).join("record.json")).ok()?;
        let most = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
        file.take(most).read_to_end(&mut bytes).ok()?;
        let record: Record = serde_json::from_slice(&bytes).ok()?;
        (record.nqn == export.nqn).then_some(record)
    }

    fn keep_record(&self, export: &Export, record: &Record) -> Done<()> {
        let path = self.directory(export).join("record.json");
        let bytes = serde_json::to_vec(record).map_err(|error| refused(error.to_string()))?;
        whole_file::replace(&path, &bytes).map_err(|error| failed("write", &path, &error))
    }

    /// The memory that was taken: the file has its name only when all of it is there.
    fn ram_bytes(&self, export: &Export) -> Option<u64> {
        tmpfs::find(&self.directory(export)).ok()??;
        Some(fs::metadata(self.ram(export)).ok()?.len())
    }

    /// What the export has of the machine's memory, completed or not.
    fn taken_bytes(&self, export: &Export) -> u64 {
        let ram = self.ram(export);
        let files = [unfinished(&ram), ram].map(fs::metadata);
        let blocks = files.into_iter().flatten().map(|found| found.blocks());
        blocks.sum::<u64>() * BLOCK_BYTES
    }

    fn make_ram(&self, export: &Export, tell: Tell<'_>) -> Done<()> {
        let memory = (self.memory)();
        let wanted = wanted_bytes(&export.capacity, memory.total_bytes)?;
        if self.ram_bytes(export) == Some(wanted) {
            return Ok(());
        }
        if self.subsystem(export).exists() {
            return Err(refused("its size changed while it is exported")
                .with_remedy("`speedloader tiers disconnect` it first"));
        }
        // What there is of another size, or was never completed, makes room for the new.
        let spare = memory.available_bytes + self.taken_bytes(export);
        let left = (memory.total_bytes / LEFT_SHARE).max(LEFT_BYTES_MIN);
        let most = spare.saturating_sub(left);
        if wanted.saturating_add(RECORD_BYTES) > most {
            let text = format!(
                "{} has {} of memory to spare, {} are wanted and {} are left to itself",
                machine::name(),
                size(spare),
                size(wanted),
                size(left)
            );
            return Err(refused(text).with_remedy("lower the pool's `capacity`"));
        }
        self.free_ram(export)?;
        let made = self.make_ram_of(export, wanted, tell);
        if made.is_err() {
            // The first error counts.
            let _ = self.free_ram(export);
        }
        made
    }

    fn make_ram_of(&self, export: &Export, bytes: u64, tell: Tell<'_>) -> Done<()> {
        let directory = self.directory(export);
        let settings = TmpfsSettings {
            capacity_bytes: bytes + RECORD_BYTES,
            huge_pages: HugePages::Always,
            no_swap: true,
            memory_policy: None,
        };
        tmpfs::mount(&directory, &settings).map_err(|error| refused(chain(&error)))?;
        self.keep_record(
            export,
            &Record {
                nqn: export.nqn.clone(),
                host_nqn: export.host_nqn.clone(),
                host_name: export.host_name.clone(),
                ..Record::default()
            },
        )?;
        let ram = self.ram(export);
        let unfinished = unfinished(&ram);
        let made = (|| -> io::Result<()> {
            let file = File::options()
                .read(true)
                .write(true)
                .create_new(true)
                .open(&unfinished)?;
            allocate(&file, bytes, STEP_BYTES, tell)?;
            fs::rename(&unfinished, &ram)
        })();
        made.map_err(|error| {
            failed("allocate", &ram, &error).with_remedy("lower the pool's `capacity`")
        })
    }

    fn free_ram(&self, export: &Export) -> Done<()> {
        let directory = self.directory(export);
        let found = tmpfs::find(&directory).map_err(|error| refused(chain(&error)))?;
        if found.is_some() {
            tmpfs::unmount(&directory).map_err(|error| refused(chain(&error)))?;
        }
        // What it was mounted on; there may be none.
        let _ = fs::remove_dir(&directory);
        Ok(())
    }

    // --- the offer

    fn subsystem(&self, export: &Export) -> PathBuf {
        self.configfs.join("subsystems").join(&export.nqn)
    }

    fn namespace(&self, export: &Export) -> PathBuf {
        self.subsystem(export).join("namespaces/1")
    }

    /// The offer, if every part of it is there and switched on.
    fn whole_offer(&self, export: &Export) -> Option<Offer> {
        let namespace = self.namespace(export);
        let is_on = read(&namespace.join("enable"))? == "1";
        let is_ours = read(&namespace.join("device_path"))? == self.ram(export).to_str()?;
        let allowed = self.subsystem(export).join("allowed_hosts");
        let lets_us_in = allowed.join(&export.host_nqn).exists();
        let lets_all_in = read(&self.subsystem(export).join("attr_allow_any_host"))? != "0";
        let asks_right = self.known_secret(export) == export.secret;
        let has_key = self.keyring.has(&export.host_nqn, &export.nqn);
        if has_key != export.tls {
            return None;
        }
        if !is_on || !is_ours || !lets_us_in || lets_all_in || !asks_right {
            return None;
        }
        let port = self
            .port_of(export)
            .filter(|port| needs_tls(port) == export.tls)?;
        Some(Offer {
            uuid: read(&namespace.join("device_uuid"))?,
            address: read(&port.join("addr_traddr"))?.parse().ok()?,
            port: read(&port.join("addr_trsvcid"))?.parse().ok()?,
            fabric: match read(&port.join("addr_trtype"))?.as_str() {
                "tcp" => Fabric::Tcp,
                "rdma" => Fabric::Rdma,
                _ => return None,
            },
        })
    }

    fn host(&self, export: &Export) -> PathBuf {
        self.configfs.join("hosts").join(&export.host_nqn)
    }

    /// What our host must prove to know by now.
    fn known_secret(&self, export: &Export) -> Option<Secret> {
        let word = read(&self.host(export).join("dhchap_key"))?;
        (!word.is_empty()).then(|| Secret::new(&word))
    }

    /// Asks the host for its secret from now on. The entry of a host is everybody's who lets it in: one that
    /// was not made for this export is not changed.
    fn ask_for_secret(&self, export: &Export, is_ours: bool) -> Done<()> {
        let known = self.known_secret(export);
        if known == export.secret {
            return Ok(());
        }
        let Some(secret) = export.secret.as_ref().filter(|_| is_ours) else {
            let text = format!("{} has another secret there, or none", export.host_nqn);
            return Err(refused(text).with_remedy(
                "give `dhchap_secret` the one that is in use there, or leave it out",
            ));
        };
        let attribute = self.host(export).join("dhchap_key");
        if self.is_kernel && !attribute.exists() {
            let text = format!(
                "the NVMe target of {} cannot ask for a secret",
                machine::name()
            );
            return Err(refused(text).with_remedy(
                "its kernel needs CONFIG_NVME_TARGET_AUTH (Linux 6.0); or leave `dhchap_secret` out",
            ));
        }
        put(&attribute, secret.reveal()).map_err(|error| {
            error.with_remedy("is `dhchap_secret` as `nvme gen-dhchap-key` printed it?")
        })
    }

    fn ports(&self) -> Vec<PathBuf> {
        let ports = self.configfs.join("ports");
        let mut numbers: Vec<u16> = names_in(&ports)
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect();
        numbers.sort_unstable();
        numbers
            .iter()
            .map(|number| ports.join(number.to_string()))
            .collect()
    }

    /// The port that offers the subsystem.
    fn port_of(&self, export: &Export) -> Option<PathBuf> {
        let offers = |port: &PathBuf| port.join("subsystems").join(&export.nqn).exists();
        self.ports().into_iter().find(offers)
    }

    fn offer(&self, export: &Export, tls_key: Option<&TlsKey>) -> Done<()> {
        if self.ram_bytes(export).is_none() {
            return Err(refused("there is no memory to export yet"));
        }
        self.load_modules(export.fabric)?;
        self.need_tls(export)?;
        if export.secret.is_none() && self.known_secret(export).is_some() {
            // The kernel does not take a secret back: the entry is made anew.
            self.withdraw(export)?;
        }
        let mut record = self
            .record(export)
            .ok_or_else(|| refused("the record of the export is gone"))?;
        let subsystem = self.subsystem(export);
        make(&subsystem)?;
        // For people who look at `nvme list`, and to know it again.
        put(&subsystem.join("attr_serial"), &key(&export.nqn))?;
        put(&subsystem.join("attr_allow_any_host"), "0")?;
        let host = self.host(export);
        if !host.exists() {
            // Before it is made: whatever comes between, nobody else's is taken for ours.
            record.host = true;
            self.keep_record(export, &record)?;
            make(&host)?;
        }
        self.ask_for_secret(export, record.host)?;
        link(
            &host,
            &subsystem.join("allowed_hosts").join(&export.host_nqn),
        )?;
        let namespace = self.namespace(export);
        if read(&namespace.join("enable")).is_none_or(|on| on != "1") {
            make(&namespace)?;
            let ram = self.ram(export);
            put(&namespace.join("device_path"), &ram.display().to_string())?;
            // The file's pages are memory already: a second copy of them is not wanted.
            put(&namespace.join("buffered_io"), "1")?;
            put(&namespace.join("enable"), "1")?;
        }
        let port = self.make_port(export, &mut record)?;
        // Before anybody can come in, and in place of another: who connects has a new one each time.
        self.keep_key(export, tls_key)?;
        link(&subsystem, &port.join("subsystems").join(&export.nqn)).map_err(|error| {
            error.with_remedy(format!(
                "is {} an address of {}, and port {} free there?",
                export.address,
                machine::name(),
                export.port
            ))
        })
    }

    /// Puts the key where the kernel's handshakes find it, or takes away what was there.
    fn keep_key(&self, export: &Export, key: Option<&TlsKey>) -> Done<()> {
        let kept = match (export.tls, key) {
            (true, Some(key)) if is_key(key) => {
                let put = self.keyring.put(&export.host_nqn, &export.nqn, key);
                put.map(|_| ())
            }
            (true, _) => return Err(refused("an encrypted export needs a key")),
            (false, _) => self.keyring.remove(&export.nqn),
        };
        kept.map_err(|failure| refused(failure.what))
    }

    /// What an encrypted export needs here beside what others need.
    fn need_tls(&self, export: &Export) -> Done<()> {
        if !export.tls {
            return Ok(());
        }
        self.load_modules(export.fabric)?;
        if !self.keyring.is_there() || !provide_module("tls") {
            let text = format!(
                "the kernel of {} cannot encrypt NVMe over TCP",
                machine::name()
            );
            return Err(refused(text).with_remedy(NO_TLS));
        }
        if has_handshaker(Path::new("/proc")) {
            return Ok(());
        }
        let text = format!(
            "no tlshd runs on {}, which does the handshake of TLS for the kernel",
            machine::name()
        );
        Err(refused(text).with_remedy(
            "install it there (package ktls-utils), then `systemctl enable --now tlshd`",
        ))
    }

    /// Lets nobody in who does not encrypt, or everybody.
    fn ask_for_tls(&self, export: &Export, port: &Path) -> Done<()> {
        let attribute = port.join("addr_tsas");
        if !export.tls {
            // Of an attempt that was to be encrypted.
            return match needs_tls(port) {
                true => put(&attribute, "none"),
                false => Ok(()),
            };
        }
        if self.is_kernel && !attribute.exists() {
            let text = format!("the NVMe target of {} cannot encrypt", machine::name());
            return Err(refused(text).with_remedy(NO_TLS));
        }
        put(&attribute, TLS).map_err(|error| error.with_remedy(NO_TLS))?;
        put(&port.join("addr_treq"), "required")
    }

    /// The port that listens there already, or a new one. Others may use it too.
    fn make_port(&self, export: &Export, record: &mut Record) -> Done<PathBuf> {
        let (address, service) = (export.address.to_string(), export.port.to_string());
        let listens = |port: &PathBuf| {
            read(&port.join("addr_trtype")).as_deref() == Some(export.fabric.word())
                && read(&port.join("addr_traddr")).as_deref() == Some(&address)
                && read(&port.join("addr_trsvcid")).as_deref() == Some(&service)
        };
        let fits = |port: &PathBuf| listens(port) && needs_tls(port) == export.tls;
        if let Some(port) = self.port_of(export) {
            if fits(&port) {
                return Ok(port);
            }
            self.close_port(export, record)?;
        }
        if let Some(port) = self.ports().into_iter().find(fits) {
            return Ok(port);
        }
        let ports = self.configfs.join("ports");
        let own = record.port.map(|number| ports.join(number.to_string()));
        let mut others = self.ports().into_iter();
        if others.any(|port| listens(&port) && Some(&port) != own.as_ref()) {
            let how = match export.tls {
                true => "without encryption",
                false => "with encryption only",
            };
            let text = format!("port {service} of {address} is there already, {how}");
            return Err(refused(text).with_remedy(
                "give this pool another `port`, or the same `tls` as the others there",
            ));
        }
        let number = match record.port {
            Some(number) => number,
            None => (1..=PORTS_MAX)
                .find(|number| !ports.join(number.to_string()).exists())
                .ok_or_else(|| refused("all ports of the NVMe target are taken"))?,
        };
        record.port = Some(number);
        self.keep_record(export, record)?;
        let port = ports.join(number.to_string());
        make(&port)?;
        let family = match export.address {
            IpAddr::V4(_) => "ipv4",
            IpAddr::V6(_) => "ipv6",
        };
        put(&port.join("addr_trtype"), export.fabric.word())?;
        put(&port.join("addr_adrfam"), family)?;
        put(&port.join("addr_traddr"), &address)?;
        put(&port.join("addr_trsvcid"), &service)?;
        self.ask_for_tls(export, &port)?;
        Ok(port)
    }

    /// Ends the offer at its port; the port goes when it was made for it and offers nothing else.
    fn close_port(&self, export: &Export, record: &mut Record) -> Done<()> {
        if let Some(port) = self.port_of(export) {
            let offered = port.join("subsystems").join(&export.nqn);
            fs::remove_file(&offered).map_err(|error| failed("unlink", &offered, &error))?;
        }
        if let Some(number) = record.port.take() {
            let port = self.configfs.join("ports").join(number.to_string());
            if port.exists() && names_in(&port.join("subsystems")).is_empty() {
                fs::remove_dir(&port).map_err(|error| failed("remove", &port, &error))?;
            }
        }
        Ok(())
    }

    fn withdraw(&self, export: &Export) -> Done<()> {
        let mut record = self.record(export).unwrap_or_default();
        self.close_port(export, &mut record)?;
        let subsystem = self.subsystem(export);
        if subsystem.exists() {
            let namespace = self.namespace(export);
            if namespace.exists() {
                put(&namespace.join("enable"), "0")?;
                fs::remove_dir(&namespace).map_err(|error| failed("remove", &namespace, &error))?;
            }
            let allowed = subsystem.join("allowed_hosts");
            for name in names_in(&allowed) {
                let allowed = allowed.join(name);
                fs::remove_file(&allowed).map_err(|error| failed("unlink", &allowed, &error))?;
            }
            fs::remove_dir(&subsystem).map_err(|error| failed("remove", &subsystem, &error))?;
        }
        let forgotten = self.keyring.remove(&export.nqn);
        forgotten.map_err(|failure| refused(failure.what))?;
        let host = self.host(export);
        // Another export may let the same host in: the kernel refuses then, and that is right.
        let host_gone = record.host && (!host.exists() || fs::remove_dir(&host).is_ok());
        if self.record(export).is_some() {
            record.host = record.host && !host_gone;
            self.keep_record(export, &record)?;
        }
        Ok(())
    }

    fn load_modules(&self, fabric: Fabric) -> Done<()> {
        if !self.is_kernel {
            return Ok(());
        }
        let config = Path::new("/sys/kernel/config");
        let module = format!("nvmet-{}", fabric.word());
        for name in ["configfs", "nvmet", &module] {
            // Without configfs there is no target either, which is said below.
            if !provide_module(name) && name != "configfs" {
                let text = format!("{} cannot load the kernel module {name}", machine::name());
                return Err(refused(text).with_remedy(
                    "install it there (Ubuntu: linux-modules-extra), or choose another `transport`",
                ));
            }
        }
        if !self.configfs.exists() && config.exists() {
            let flags = rustix::mount::MountFlags::empty();
            // It may be mounted, and the target missing: said below.
            let _ = rustix::mount::mount("configfs", config, "configfs", flags, None);
        }
        if self.configfs.exists() {
            return Ok(());
        }
        Err(
            failed("find", &self.configfs, &io::ErrorKind::NotFound.into())
                .with_remedy("the other machine's kernel has no NVMe target (CONFIG_NVME_TARGET)"),
        )
    }
}

/// What comes from the other side goes into paths and files of the kernel.
fn check(export: &Export) -> Done<()> {
    let is_nqn = |text: &str| {
        let harmless = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        text.starts_with("nqn.") && text.len() <= 223 && text.chars().all(harmless)
    };
    if !is_nqn(&export.nqn) || !is_nqn(&export.host_nqn) {
        return Err(refused("a name is no NVMe qualified name"));
    }
    if export.tls && export.fabric != Fabric::Tcp {
        return Err(refused("only TCP is encrypted"));
    }
    if export.port == 0 || export.host_name.len() > 255 || export.capacity.len() > 32 {
        return Err(refused("a port, name or size is out of range"));
    }
    Ok(())
}

/// What the memory is called, and the subsystem's serial number: at most 20 characters, and for old kernels
/// hexadecimal digits.
fn key(nqn: &str) -> String {
    let digest = <sha2::Sha256 as sha2::Digest>::digest(nqn.as_bytes());
    digest
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Takes all memory of a file now: too little of it shows here, not when a model is written. Only as long as somebody
/// hears of it: what nobody waits for any more is in the way of who comes next.
fn allocate(file: &File, bytes: u64, step_bytes: u64, tell: Tell<'_>) -> io::Result<()> {
    let mut done = 0;
    while done < bytes {
        tell(Progress {
            done_bytes: done,
            total_bytes: bytes,
        })?;
        let step = step_bytes.min(bytes - done);
        rustix::fs::fallocate(file, FallocateFlags::empty(), done, step)?;
        done += step;
    }
    Ok(())
}

/// What the memory is called until all of it is there.
fn unfinished(ram: &Path) -> PathBuf {
    ram.with_extension("new")
}

fn wanted_bytes(capacity: &str, total_bytes: u64) -> Done<u64> {
    let capacity = Capacity::parse(capacity)
        .map_err(|wanted| refused(format!("`{capacity}` is no size; wanted {wanted}")))?;
    let bytes = capacity.resolve(Bytes(total_bytes)).0 / ROUND_BYTES * ROUND_BYTES;
    match bytes {
        0 => Err(refused("a size of less than 1 MiB is of no use")),
        bytes => Ok(bytes),
    }
}

/// Whether what is open is what is at the path.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let opened = file.metadata()?;
    match fs::metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (opened.dev(), opened.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a port lets nobody in who does not encrypt.
fn needs_tls(port: &Path) -> bool {
    read(&port.join("addr_tsas")).as_deref() == Some(TLS)
        && read(&port.join("addr_treq")).as_deref() == Some("required")
}

fn make(directory: &Path) -> Done<()> {
    match fs::create_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(failed("make", directory, &error))
        }
        _ => Ok(()),
    }
}

fn link(to: &Path, at: &Path) -> Done<()> {
    match symlink(to, at) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(failed("link", at, &error))
        }
        _ => Ok(()),
    }
}

/// Writes an attribute of the kernel. One that has the value already may refuse it a second time.
fn put(attribute: &Path, value: &str) -> Done<()> {
    if read(attribute).as_deref() == Some(value) {
        return Ok(());
    }
    fs::write(attribute, value).map_err(|error| failed("write", attribute, &error))
}

#[cfg(test)]
mod tests;

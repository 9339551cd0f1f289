//! The effective configuration: validated, every default filled in. Its field docs are the manual.
//!
//! Whoever holds a `Config` need check nothing that this crate can check: paths are absolute, names harmless, numbers
//! within their ranges, pins name pools that exist. What only the machine knows (is the directory there, is it a
//! tmpfs) is not checked here.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use serde::Serialize;

use crate::choice::{
    Checksum, ColdKind, Filesystem, HugePages, LogFormat, LogLevel, Passthrough, Strategy,
    Transport,
};
use crate::fault::Fault;
use crate::field::DefaultValue::{Computed, Required, Unset, Value};
use crate::field::Effect::{Live, Refused, Remount};
use crate::field::{Field, Reader, Section, section};
use crate::name::{DhchapSecret, Group, Host, MemoryPolicy, Mode, Nqn, PoolName, SshTarget, Token};
use crate::origin::Origin;
use crate::setting::{Kind, Setting};
use crate::units::{Bytes, Capacity};

section! {
    /// Where everything is. These keys stand at the top, before the first `[section]`.
    pub struct Places in "" {
        /// The writable directory of models: the home of every file that is created through the mount.
        pub models_dir: PathBuf = Required("/var/lib/speedloader/models"),
            Refused("what is open through the mount lives there: unmount first");
        /// Where the models are seen; the directory that engines are pointed at.
        pub mountpoint: Option<PathBuf> = Unset("it must be given when mounting"),
            Refused("a mount does not move: unmount first");
        /// Where is kept what was learned and what was resident, across restarts.
        pub state_dir: PathBuf = Computed(
            "/var/lib/speedloader/state for root, else ~/.local/state/speedloader"), Remount;
    }
}

section! {
    /// A directory of models that is only read, never written; any number of them. In one tree with
    /// `models_dir`, and of two files of one name the one in the earlier directory is seen.
    pub struct Cold in "cold[]." {
        /// The directory.
        pub path: PathBuf = Required("/mnt/nas/models"), Remount;
        /// What it lies on; decides how changes are noticed.
        pub kind: ColdKind = Value("auto"), Remount;
        /// How often a directory that is not local is looked through for changes.
        pub rescan_interval: Duration = Value("5m"), Remount, from "1s" to "7d";
    }
}

section! {
    /// A place in this machine's RAM for copies; any number of them.
    pub struct Pool in "pool[]." {
        /// Its name, as in pins and commands.
        pub name: PoolName = Value("local"), Remount;
        /// Where it is mounted.
        pub path: PathBuf = Computed(
            "/run/speedloader/pools/NAME for root, else /dev/shm/speedloader-UID/NAME"),
            Refused("a pool does not move: disconnect it, or give the new one another name");
        /// How much it may hold: a size, or a share of this machine's RAM.
        pub capacity: Capacity = Value("50%"), Live, from "1MiB" to "100%";
        /// How much of its free room is faulted in and cleared in advance, so that the next models need not
        /// wait for that: a size, or a share of its capacity. Others that need the memory get it first; 0B: none.
        pub prefault: Capacity = Value("25%"), Live, from "0B" to "100%";
        /// Huge pages make reads of mapped models 2 to 20 times faster.
        pub huge_pages: HugePages = Value("always"), Remount;
        /// Never swap its pages out (Linux 6.4 or newer; ignored before).
        pub noswap: bool = Value("true"), Remount;
        /// On which NUMA nodes its memory lies, in the words of tmpfs(5).
        pub mpol: Option<MemoryPolicy> = Unset("where the kernel takes it from"), Remount;
        /// Mount a tmpfs of our own there; false: use a directory that is on a tmpfs already.
        pub mount: bool = Computed("true for root, else false"), Remount;
        /// How many bytes a second it gives, to order the pools by.
        pub speed: Option<Bytes> = Unset("it is measured"), Remount, from "1MiB" to "16TiB";
    }
}

section! {
    /// A place in another machine's RAM for copies, reached by NVMe over Fabrics; its
    /// name is in the header: `[remote.NAME]`.
    pub struct Remote in "remote.*." {
        /// How the other machine is asked to make it; it needs a key and no password.
        pub ssh: SshTarget = Required("service@meadowlark.example.com"), Remount;
        /// The other machine's address on the fast network.
        pub address: Host = Required("10.0.40.2"), Remount;
        /// How the data travels.
        pub transport: Transport = Value("auto"), Remount;
        /// How much it may hold: a size, or a share of the other machine's RAM.
        pub capacity: Capacity = Value("50%"), Remount, from "64MiB" to "100%";
        /// The file system that is made on it.
        pub filesystem: Filesystem = Value("xfs"), Remount;
        /// What the name of the NVMe subsystem begins with.
        pub nqn_prefix: Nqn = Value("nqn.2026-01.io.speedloader"), Remount;
        /// The port that the other machine listens on for NVMe.
        pub port: u16 = Value("4420"), Remount, from "1" to "65535";
        /// The only host that the other machine lets connect.
        pub allowed_host_nqn: Option<Nqn> = Unset("this machine's /etc/nvme/hostnqn"), Remount;
        /// A secret that both machines prove to know (DH-HMAC-CHAP); `nvme gen-dhchap-key` makes one.
        pub dhchap_secret: Option<DhchapSecret> = Unset("whoever has the allowed NQN is let in"), Remount;
        /// Encrypt data on its way (TLS 1.3, TCP only); both machines need Linux 6.7 and tlshd.
        pub tls: bool = Value("false"), Remount;
        /// How many bytes a second it gives, to order the pools by.
        pub speed: Option<Bytes> = Unset("it is measured"), Remount, from "1MiB" to "16TiB";
        /// Keep what is read from it in this machine's RAM too, as page cache; false: it is let go again.
        pub page_cache: bool = Value("false"), Live;
        /// Connect it at start, and again when it was lost; false: only on command.
        pub connect: bool = Value("true"), Remount;
        /// How long the other machine may be silent; it says how far it is with what takes longer.
        pub ssh_timeout: Duration = Value("30s"), Live, from "1s" to "1h";
        /// How long connecting may take.
        pub connect_timeout: Duration = Value("10s"), Live, from "1s" to "10m";
        /// How often the connection is tested.
        pub keep_alive: Duration = Value("5s"), Remount, from "1s" to "10m";
        /// How long until reads fail that wait for a machine that is gone.
        pub fast_io_fail: Duration = Value("5s"), Remount, from "1s" to "10m";
        /// How long between attempts to connect again.
        pub reconnect_delay: Duration = Value("2s"), Remount, from "1s" to "10m";
        /// How long until a machine that is gone is given up.
        pub ctrl_loss: Duration = Value("1m"), Remount, from "1s" to "1d";
    }
}

section! {
    /// Which pool a model goes to.
    pub struct Placement in "placement." {
        /// Which pool takes a model that has no pin: the fastest with room, the first of the configuration with room, or
        /// the one with the fewest models.
        pub strategy: Strategy = Value("fastest-fit"), Live;
    }
}

/// The pins: a section of its own in the file, but its keys are names of models, so no struct.
pub(crate) const PIN: Field = Field {
    key: "placement.pins.*",
    doc_lines: &[
        "The pool that a model stays in; the key is what commands know it by, its name or a path:",
        "`\"llama3.2-vision:90b\" = \"meadowlark\"`, for example.",
    ],
    kind: Kind::Text,
    default: Unset("no model is pinned"),
    range: None,
    effect: Live,
};

section! {
    /// What is promoted and demoted by itself.
    pub struct Policy in "policy." {
        /// Promote and demote by what is used; false: only on command.
        pub enabled: bool = Value("true"), Live;
        /// Bring back at start what was in the pools before, the hottest first, as far as there is room.
        pub warm_up: bool = Value("true"), Live;
        /// How much RAM is left to everybody else: a size, or a share of this machine's RAM.
        pub memory_reserve: Capacity = Value("10%"), Live, from "0B" to "90%";
        /// After how many loads, for each model that fits into the pools, a load counts half: how fast heat forgets.
        /// A change of it counts from then on.
        pub half_life: u32 = Value("16"), Live, from "1" to "1000000";
        /// Programs whose reading does not count as a load, by the name of their command; the kernel keeps 15
        /// characters of it, so of longer names the rest does not count.
        pub ignore_commands: Vec<String> = Value(
            "sha256sum,sha1sum,sha512sum,md5sum,b2sum,b3sum,cksum,sum,xxhsum,rhash,updatedb,\
             updatedb.plocate,updatedb.mlocate,locate,plocate,rsync,cp,mv,tar,cpio,zip,7z,find,fd,\
             grep,rg,du,ncdu,ls,stat,file,diff,cmp,fdupes,rdfind,jdupes,restic,borg,rclone,duplicity,\
             kopia,bup,scp,sftp-server,clamscan,clamd,clamdscan,freshclam,tracker-extract-3,localsearch-3,\
             baloo_file_extractor"), Live;
        /// How long the first open of a model that is on its way may wait for it; then it reads from the copy as it comes.
        pub max_wait: Duration = Value("30s"), Live, from "0s" to "1h";
        /// How much is kept of the log of loads, which `speedloader simulate` replays: times, names and sizes, in the
        /// state directory; 0B: none, and what there was is removed.
        pub load_log: Bytes = Value("16MiB"), Live, from "0B" to "1GiB";
        /// Models that win over others when there is not room for all, the first before the second; names, paths or
        /// patterns with `*`.
        pub priorities: Vec<String> = Value(""), Live;
        /// Models that are never promoted by themselves; names, paths or patterns with `*`.
        pub never: Vec<String> = Value(""), Live;
        /// Models that are promoted at start and stay as long as there is room; names, paths or patterns with `*`.
        pub always: Vec<String> = Value(""), Live;
    }
}

section! {
    /// How models are copied.
    pub struct Mover in "mover." {
        /// How many threads read one file.
        pub threads: u32 = Value("16"), Remount, from "1" to "64";
        /// How much one of them reads at a time; a multiple of 4KiB.
        pub chunk: Bytes = Value("2MiB"), Remount, from "64KiB" to "64MiB";
        /// Compare what was copied with the checksum in its name, where it has one, before it is used.
        pub verify: bool = Value("true"), Remount;
        /// The checksum that is recorded of every other copy.
        pub checksum: Checksum = Value("crc64"), Remount;
        /// Copies that nobody waits for stop while somebody else reads from their storage, and go on when nobody
        /// has for so long; 0s: they do not stop.
        pub back_off: Duration = Value("1s"), Remount, from "0s" to "1m";
        /// How many files are copied from one home at a time.
        pub concurrent: u32 = Value("1"), Remount, from "1" to "16";
    }
}

section! {
    /// How the kernel talks to the mount.
    pub struct Cache in "cache." {
        /// How long the kernel may remember a name without asking; it is told of changes.
        pub entry_timeout: Duration = Value("1h"), Remount, from "0s" to "7d";
        /// How long the kernel may remember sizes and times without asking; it is told of changes.
        pub attr_timeout: Duration = Value("1h"), Remount, from "0s" to "7d";
        /// Let the kernel read the real files itself, where it can (Linux 6.9 or newer, root).
        pub passthrough: Passthrough = Value("auto"), Remount;
        /// How many threads answer the kernel.
        pub fuse_threads: u32 = Value("4"), Remount, from "1" to "64";
        /// How much the kernel reads ahead where it does not read the real files itself.
        pub read_ahead: Bytes = Value("1MiB"), Remount, from "0B" to "64MiB";
        /// How much the kernel reads ahead in cold directories of other file systems than local disks: raised to
        /// this where we may and it is less, and put back at the end; 0B leaves it alone.
        pub cold_read_ahead: Bytes = Value("8MiB"), Remount, from "0B" to "64MiB";
    }
}

section! {
    /// The one tree of all models.
    pub struct Union in "union." {
        /// How long the start waits until the cold directories are read; what is slower appears later.
        pub scan_wait: Duration = Value("30s"), Remount, from "0s" to "1h";
        /// How long a resident file of a local disk that was changed where inotify is blind, through a mapping or a hard
        /// link from elsewhere, may still be given out as it was; of other cold directories `rescan_interval` says it.
        pub stale_check_interval: Duration = Value("10s"), Remount, from "1s" to "1h";
    }
}

section! {
    /// How the mount looks to others.
    pub struct Mount in "mount." {
        /// Let users other than the one who mounts see it.
        pub allow_other: bool = Computed("true for root, else false"), Remount;
        /// Refuse every change through the mount.
        pub read_only: bool = Value("false"), Remount;
        /// Let programs that lie there be run, such as llamafiles. Set-user-id bits and devices never count.
        pub exec: bool = Value("true"), Remount;
    }
}

section! {
    /// The web page and its interface.
    pub struct Http in "http." {
        /// Serve the web page.
        pub enabled: bool = Value("true"), Remount;
        /// The address and port it is served on; another machine can reach it only where `token` is set.
        pub listen: SocketAddr = Value("127.0.0.1:5050"), Remount;
        /// What must be presented to change anything over HTTP; looking needs none.
        pub token: Option<Token> = Unset("the file http-token in state_dir, made anew at each start"), Remount;
        /// Names by which browsers may reach it, beside addresses and localhost: a proxy's, for example.
        pub hosts: Vec<String> = Value(""), Remount;
    }
}

section! {
    /// The socket of the commands.
    pub struct Control in "control." {
        /// The socket.
        pub socket: PathBuf = Computed(
            "/run/speedloader/control.sock for root, else $XDG_RUNTIME_DIR/speedloader/control.sock"),
            Remount;
        /// The group whose members may give commands. They can change the configuration, too: to be in it is as much as
        /// to be who runs the daemon.
        pub group: Option<Group> = Unset("the group of who runs it"), Remount;
        /// The permissions of the socket, in octal.
        pub mode: Mode = Value("0660"), Remount;
    }
}

section! {
    /// Engines that are asked what they have loaded.
    pub struct Engines in "engines." {
        /// Addresses of engines, such as `http://127.0.0.1:11434`: Ollama, llama-server and vLLM say what
        /// they have loaded, which is then shown with the models. None is asked that is not named here.
        pub ask: Vec<String> = Value(""), Remount;
        /// How often.
        pub interval: Duration = Value("5s"), Remount, from "1s" to "1h";
    }
}

section! {
    /// What is logged.
    pub struct Log in "log." {
        /// The least important message that is logged.
        pub level: LogLevel = Value("info"), Remount;
        /// For people or for programs.
        pub format: LogFormat = Value("text"), Remount;
    }
}

/// The effective configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The writable home.
    pub models_dir: PathBuf,
    /// Where the models are seen, if the configuration says so.
    pub mountpoint: Option<PathBuf>,
    /// What is kept across restarts.
    pub state_dir: PathBuf,
    /// The homes that are only read, in order of precedence.
    pub cold: Vec<Cold>,
    /// The pools of this machine, in the order of the file.
    pub pools: Vec<Pool>,
    /// The pools of other machines, by name.
    pub remotes: BTreeMap<PoolName, Remote>,
    /// Which pool a model goes to.
    pub placement: Placement,
    /// Which pool a model stays in: name of the model, name of the pool.
    pub pins: BTreeMap<String, PoolName>,
    /// What moves by itself.
    pub policy: Policy,
    /// How it is copied.
    pub mover: Mover,
    /// How the kernel talks to the mount.
    pub cache: Cache,
    /// The one tree.
    pub union: Union,
    /// How the mount looks.
    pub mount: Mount,
    /// The web page.
    pub http: Http,
    /// The socket of the commands.
    pub control: Control,
    /// Engines that are asked.
    pub engines: Engines,
    /// What is logged.
    pub log: Log,
    /// Where each value comes from, by key; what is missing has its default.
    pub origins: BTreeMap<String, Origin>,
    /// What is odd but not wrong, such as a variable that nobody knows.
    pub warnings: Vec<Fault>,
}

/// One value of a configuration, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The key: `pool[0].capacity`.
    pub key: String,
    /// The value as TOML; `None` if it is unset. Secrets are blanked.
    pub value: Option<String>,
    /// Where it comes from.
    pub origin: Origin,
    #[serde(skip)]
    pub(crate) field: &'static Field,
    #[serde(skip)]
    pub(crate) item: String,
    /// Tells two values apart of which neither may be shown.
    #[serde(skip)]
    fingerprint: u64,
}

impl Entry {
    /// True if the values are the same, shown or not.
    pub(crate) fn has_value_of(&self, other: &Entry) -> bool {
        self.value == other.value && self.fingerprint == other.fingerprint
    }

    /// The value as a variable or option would have it: lists with commas, no quotes. Secrets are blanked.
    pub fn plain_value(&self) -> Option<String> {
        let written = self.value.as_ref()?;
        let read: Option<toml::Table> = format!("v = {written}").parse().ok();
        Some(match read.and_then(|mut table| table.remove("v")) {
            Some(toml::Value::String(text)) => text,
            Some(toml::Value::Array(items)) => {
                let texts = items.iter().filter_map(toml::Value::as_str);
                texts.collect::<Vec<_>>().join(", ")
            }
            _ => written.clone(),
        })
    }

    /// The field whose value this is.
    pub fn field(&self) -> &'static Field {
        self.field
    }
}

/// A section as the manual shows it.
pub(crate) struct Chapter {
    /// What stands before its fields' names: `mover.`, `pool[].`, nothing.
    pub(crate) place: &'static str,
    /// What it is about, line by line.
    pub(crate) about: &'static [&'static str],
    /// Its fields.
    pub(crate) fields: &'static [Field],
}

impl Chapter {
    const fn of<S: Section>() -> Chapter {
        Chapter {
            place: S::PLACE,
            about: S::ABOUT,
            fields: S::FIELDS,
        }
    }
}

/// All sections, in the order of the manual.
pub(crate) const CHAPTERS: &[Chapter] = &[
    Chapter::of::<Places>(),
    Chapter::of::<Cold>(),
    Chapter::of::<Pool>(),
    Chapter::of::<Remote>(),
    Chapter::of::<Placement>(),
    Chapter {
        place: "placement.pins.",
        about: &["Models that stay in one pool."],
        fields: &[PIN],
    },
    Chapter::of::<Policy>(),
    Chapter::of::<Mover>(),
    Chapter::of::<Cache>(),
    Chapter::of::<Union>(),
    Chapter::of::<Mount>(),
    Chapter::of::<Http>(),
    Chapter::of::<Control>(),
    Chapter::of::<Engines>(),
    Chapter::of::<Log>(),
];

impl Config {
    /// Every field there is, in the order of the manual.
    pub fn fields() -> &'static [Field] {
        static FIELDS: LazyLock<Vec<Field>> =
            LazyLock::new(|| CHAPTERS.iter().flat_map(|c| c.fields).copied().collect());
        &FIELDS
    }

    /// The field of a key, which may be that of an item: `http.listen`, `pool[0].capacity`, `pool[].capacity`.
    pub fn field(key: &str) -> Option<&'static Field> {
        Config::fields().iter().find(|field| {
            let split = field
                .key
                .split_once("[]")
                .or_else(|| field.key.split_once('*'));
            match split {
                None => field.key == key,
                Some((before, after)) => key
                    .strip_prefix(before)
                    .and_then(|rest| rest.strip_suffix(after))
                    .is_some_and(|item| !item.is_empty()),
            }
        })
    }

    /// Every value, in the order of the manual; secrets are blanked.
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        let places = Places {
            models_dir: self.models_dir.clone(),
            mountpoint: self.mountpoint.clone(),
            state_dir: self.state_dir.clone(),
        };
        self.add(&mut entries, "", &places);
        for (i, cold) in self.cold.iter().enumerate() {
            self.add(&mut entries, &i.to_string(), cold);
        }
        for (i, pool) in self.pools.iter().enumerate() {
            self.add(&mut entries, &i.to_string(), pool);
        }
        for (name, remote) in &self.remotes {
            self.add(&mut entries, name.as_str(), remote);
        }
        self.add(&mut entries, "", &self.placement);
        for (model, pool) in &self.pins {
            entries.push(self.entry(&PIN, model, pool.to_toml()));
        }
        self.add(&mut entries, "", &self.policy);
        self.add(&mut entries, "", &self.mover);
        self.add(&mut entries, "", &self.cache);
        self.add(&mut entries, "", &self.union);
        self.add(&mut entries, "", &self.mount);
        self.add(&mut entries, "", &self.http);
        self.add(&mut entries, "", &self.control);
        self.add(&mut entries, "", &self.engines);
        self.add(&mut entries, "", &self.log);
        entries
    }

    fn add<S: Section>(&self, entries: &mut Vec<Entry>, item: &str, section: &S) {
        for (field, value) in S::FIELDS.iter().zip(section.values()) {
            entries.push(self.entry(field, item, value));
        }
    }

    fn entry(&self, field: &'static Field, item: &str, value: Option<String>) -> Entry {
        let key = field.key_of(item);
        let origin = self.origins.get(&key).cloned().unwrap_or(Origin::Default);
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        let value = match (field.kind, value) {
            (Kind::Secret, Some(_)) => Some(BLANKED.to_owned()),
            (_, value) => value,
        };
        Entry {
            key,
            value,
            origin,
            field,
            item: item.to_owned(),
            fingerprint: hasher.finish(),
        }
    }
}

/// What is shown in place of a secret.
pub(crate) const BLANKED: &str = "\"(secret)\"";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_field_has_its_own_key_and_says_what_it_is_for() {
        let mut keys = BTreeSet::new();
        let mut variables = BTreeSet::new();
        for field in Config::fields() {
            assert!(keys.insert(field.key), "{} is there twice", field.key);
            let doc = field.doc();
            assert!(doc.ends_with('.') && doc.len() > 8, "{}: {doc}", field.key);
            if let Some(variable) = field.variable() {
                assert!(
                    variables.insert(variable),
                    "{} shares its variable",
                    field.key
                );
            }
            assert_eq!(Config::field(field.key), Some(field));
        }
        assert_eq!(
            Config::field("pool[3].capacity").map(|f| f.key),
            Some("pool[].capacity")
        );
        assert_eq!(
            Config::field("remote.a.ssh").map(|f| f.key),
            Some("remote.*.ssh")
        );
        assert_eq!(Config::field("http.nothing"), None);
    }

    #[test]
    fn fields_can_be_handed_to_a_form() {
        let json = serde_json::to_value(Config::fields()).expect("plain data");
        let capacity = json
            .as_array()
            .and_then(|fields| fields.iter().find(|f| f["key"] == "pool[].capacity"))
            .expect("the table has it");
        let expected = serde_json::json!({
            "key": "pool[].capacity",
            "doc": "How much it may hold: a size, or a share of this machine's RAM.",
            "kind": "capacity",
            "default": "value",
            "default_text": "50%",
            "range": ["1MiB", "100%"],
            "effect": "live",
        });
        assert_eq!(capacity, &expected);
    }
}

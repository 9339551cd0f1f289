//! Bring-up and tear-down against a made-up pair of machines, with a fault or the end of a side at every call.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use speedloader_config::{Filesystem, Transport};

use super::connect::{Connection, HostIdentity, Namespace};
use super::volume::{BlockDevice, Claim, Content};
use super::wire::{Offer, Progress, Request, TargetState, TlsKey};
use super::*;

/// When a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Before it has done anything, once.
    Before,
    /// After it has done everything, once: the answer was lost.
    After,
    /// Before, and nothing works from then on: our process has ended.
    Ended,
}

/// Everything that can be there or not.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pair {
    owner: Option<String>,
    ram: Option<u64>,
    offer: Option<Offer>,
    rdma: bool,
    rdma_connects: bool,
    connected: Option<Offer>,
    /// The keys for TLS that either has.
    key_there: Option<TlsKey>,
    key_here: Option<TlsKey>,
    can_encrypt: bool,
    content: Content,
    formatted: bool,
    /// The name of the device that is mounted.
    mounted: Option<String>,
    /// Somebody uses what is mounted: it can be taken away, and not unmounted.
    in_use: bool,
    /// The name that the device of the next connection gets.
    device: String,
    /// It answers with an offer at another port.
    offers_elsewhere: bool,
}

impl Default for Pair {
    fn default() -> Self {
        Pair {
            owner: None,
            ram: None,
            offer: None,
            rdma: false,
            rdma_connects: true,
            connected: None,
            key_there: None,
            key_here: None,
            can_encrypt: true,
            content: Content::Blank,
            formatted: false,
            mounted: None,
            in_use: false,
            device: "nvme7n1".to_owned(),
            offers_elsewhere: false,
        }
    }
}

struct World {
    pair: Pair,
    calls: usize,
    fault: Option<(usize, Fault)>,
    uuids: u64,
}

#[derive(Clone)]
struct Both(Rc<RefCell<World>>);

const US: &str = "nqn.2014-08.org.nvmexpress:uuid:us";
const RAM_BYTES: u64 = 64 << 20;
/// A device of this machine's own.
const DISK: &str = "nvme0n1";

impl Both {
    fn new(pair: Pair) -> Self {
        Both(Rc::new(RefCell::new(World {
            pair,
            calls: 0,
            fault: None,
            uuids: 0,
        })))
    }

    fn with_fault(&self, fault: Option<(usize, Fault)>) -> &Self {
        let mut world = self.0.borrow_mut();
        world.calls = 0;
        world.fault = fault;
        drop(world);
        self
    }

    fn pair(&self) -> Pair {
        self.0.borrow().pair.clone()
    }

    fn change<T>(
        &self,
        deed: impl FnOnce(&mut Pair, u64) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut world = self.0.borrow_mut();
        world.calls += 1;
        world.uuids += 1;
        let (call, uuid) = (world.calls, world.uuids);
        let fault = world.fault.filter(|(at, fault)| match fault {
            Fault::Ended => call >= *at,
            _ => call == *at,
        });
        match fault.map(|(_, fault)| fault) {
            Some(Fault::After) => {
                let _ = deed(&mut world.pair, uuid);
                Err(Failure::new("the answer is lost"))
            }
            Some(_) => Err(Failure::new("it fails")),
            None => deed(&mut world.pair, uuid),
        }
    }

    fn connect(&self, settings: &Settings) -> Result<Volume, Stopped> {
        super::connect(
            settings,
            &mut self.clone(),
            &mut self.clone(),
            &mut |_, _, _| (),
        )
    }

    fn disconnect(&self, settings: &Settings) -> Result<(), Stopped> {
        super::disconnect(
            settings,
            &mut self.clone(),
            &mut self.clone(),
            &mut |_, _, _| (),
        )
    }
}

impl There for Both {
    fn ask(
        &mut self,
        request: &Request,
        hear: &mut dyn FnMut(Progress),
    ) -> Result<TargetState, Failure> {
        self.change(|pair, uuid| {
            let (Request::Look { export }
            | Request::MakeRam { export }
            | Request::Export { export, .. }
            | Request::Withdraw { export }
            | Request::FreeRam { export }) = request;
            match request {
                Request::Look { .. } => {}
                Request::MakeRam { .. } => {
                    hear(Progress {
                        done_bytes: RAM_BYTES / 4,
                        total_bytes: RAM_BYTES,
                    });
                    if pair.ram.is_none() {
                        pair.content = Content::Blank;
                        pair.formatted = false;
                    }
                    pair.ram = Some(RAM_BYTES);
                    pair.owner = Some(export.host_nqn.clone());
                }
                Request::Export { key, .. } => {
                    assert_eq!(key.is_some(), export.tls);
                    if pair.key_there.is_some() != export.tls {
                        pair.offer = None;
                    }
                    pair.key_there = key.clone();
                    let same = |offer: &Offer| {
                        offer.fabric == export.fabric
                            && offer.port == export.port
                            && offer.address == export.address
                    };
                    if !pair.offer.as_ref().is_some_and(same) {
                        pair.offer = Some(Offer {
                            uuid: format!("{uuid}"),
                            address: export.address,
                            port: export.port + u16::from(pair.offers_elsewhere),
                            fabric: export.fabric,
                        });
                    }
                }
                Request::Withdraw { .. } => {
                    pair.offer = None;
                    pair.key_there = None;
                }
                Request::FreeRam { .. } => {
                    pair.offer = None;
                    pair.key_there = None;
                    pair.ram = None;
                    pair.owner = None;
                    pair.content = Content::Blank;
                    pair.formatted = false;
                }
            }
            Ok(TargetState {
                machine: "meadowlark".to_owned(),
                has_rdma: pair.rdma,
                owner: pair.owner.clone(),
                ram_bytes: pair.ram,
                offer: pair
                    .offer
                    .clone()
                    .filter(|_| pair.key_there.is_some() == export.tls),
                ..TargetState::default()
            })
        })
    }
}

fn namespace(pair: &Pair, offer: &Offer) -> Namespace {
    Namespace {
        name: pair.device.clone(),
        uuid: offer.uuid.clone(),
        size_bytes: RAM_BYTES,
    }
}

impl Here for Both {
    fn has_rdma(&self) -> bool {
        self.0.borrow().pair.rdma
    }

    fn find(&self, _: &str) -> Option<Connection> {
        let pair = self.pair();
        pair.connected.as_ref().map(|offer| Connection {
            controllers: vec!["nvme7".to_owned()],
            is_live: pair.offer.as_ref() == Some(offer),
            is_encrypted: pair.key_here.is_some(),
            namespace: Some(namespace(&pair, offer)),
        })
    }

    fn need_tls(&self) -> Result<(), Failure> {
        self.change(|pair, _| match pair.can_encrypt {
            true => Ok(()),
            false => Err(Failure::new("no TLS")),
        })
    }

    fn connect(
        &mut self,
        settings: &Settings,
        offer: &Offer,
        key: Option<&TlsKey>,
    ) -> Result<Namespace, Failure> {
        assert_eq!(key.is_some(), settings.tls);
        self.change(|pair, _| {
            if offer.fabric == Fabric::Rdma && !pair.rdma_connects {
                return Err(Failure::new("no RDMA"));
            }
            assert!(pair.connected.is_none(), "connected twice");
            assert_eq!(pair.offer.as_ref(), Some(offer));
            assert_eq!(
                pair.key_there.as_ref(),
                key,
                "a key that is not known there"
            );
            pair.key_here = key.cloned();
            pair.connected = Some(offer.clone());
            Ok(namespace(pair, offer))
        })
    }

    fn disconnect(&mut self, _: &str) -> Result<(), Failure> {
        self.change(|pair, _| {
            pair.connected = None;
            pair.key_here = None;
            Ok(())
        })
    }

    fn open(&self, _: &str, namespace: &Namespace) -> Result<BlockDevice, Failure> {
        self.change(|pair, _| {
            assert_eq!(namespace.name, pair.device);
            BlockDevice::open(Path::new("/dev/null"))
        })
    }

    fn content(&self, _: &BlockDevice) -> Result<Content, Failure> {
        self.change(|pair, _| Ok(pair.content.clone()))
    }

    fn write_claim(&mut self, _: &BlockDevice, claim: &Claim) -> Result<(), Failure> {
        self.change(|pair, _| {
            assert!(
                pair.mounted.is_none(),
                "the record of a mounted device was written"
            );
            assert_ne!(pair.content, Content::Foreign);
            pair.content = Content::Claimed(claim.clone());
            Ok(())
        })
    }

    fn format(&mut self, _: Filesystem, _: &BlockDevice) -> Result<(), Failure> {
        self.change(|pair, _| {
            let Content::Claimed(claim) = &pair.content else {
                panic!("formatted without a record")
            };
            assert!(
                claim.host_nqn == US && !claim.formatted,
                "formatted what was in use"
            );
            pair.formatted = true;
            Ok(())
        })
    }

    fn has_device(&self, name: &str) -> bool {
        let pair = self.pair();
        name == DISK || (pair.connected.is_some() && name == pair.device)
    }

    fn mounted_at(&self, _: &Path) -> Result<Option<String>, Failure> {
        self.change(|pair, _| Ok(pair.mounted.clone()))
    }

    fn mount(&mut self, _: Filesystem, _: &BlockDevice, _: &Path) -> Result<(), Failure> {
        self.change(|pair, _| {
            assert!(pair.formatted && pair.connected.is_some());
            assert_eq!(pair.mounted, None, "mounted over something else");
            pair.mounted = Some(pair.device.clone());
            Ok(())
        })
    }

    fn unmount(&mut self, _: &Path) -> Result<(), Failure> {
        self.change(|pair, _| {
            if pair.in_use {
                return Err(Failure::new("EBUSY"));
            }
            pair.mounted = None;
            Ok(())
        })
    }

    fn detach(&mut self, _: &Path) -> Result<(), Failure> {
        self.change(|pair, _| {
            pair.mounted = None;
            pair.in_use = false;
            Ok(())
        })
    }
}

fn settings(transport: Transport) -> Settings {
    Settings {
        pool: "meadowlark".to_owned(),
        nqn: "nqn.2026-01.io.speedloader:meadowlark".to_owned(),
        address: "10.9.0.1".to_owned(),
        port: 4420,
        transport,
        capacity: "64MiB".to_owned(),
        secret: None,
        tls: false,
        filesystem: Filesystem::Xfs,
        mount_at: PathBuf::from("/run/speedloader/pools/meadowlark"),
        host: HostIdentity {
            nqn: US.to_owned(),
            id: "us".to_owned(),
        },
        timing: Timing {
            connect: Duration::from_secs(1),
            keep_alive: Duration::from_secs(5),
            reconnect_delay: Duration::from_secs(2),
            fast_io_fail: Duration::from_secs(5),
            ctrl_loss: Duration::from_secs(60),
        },
        generation: None,
    }
}

#[test]
fn a_dry_run_shows_that_there_is_a_secret_and_not_which() {
    let settings = Settings {
        secret: Some(Secret::new("DHHC-1:00:hush:")),
        ..settings(Transport::Tcp)
    };
    let steps = format!("{:?} {settings:?}", plan(&settings, "ssh").unwrap());
    assert!(steps.contains("dhchap_secret=..."), "{steps}");
    assert!(!steps.contains("hush"), "{steps}");
    let offer = Offer {
        uuid: String::new(),
        address: "10.9.0.1".parse().unwrap(),
        port: 4420,
        fabric: Fabric::Tcp,
    };
    let request = NvmeHost::request(&settings, &offer, None);
    assert!(request.ends_with(",dhchap_secret=DHHC-1:00:hush:"));
}

/// Without and with TLS.
fn both_ways() -> [Settings; 2] {
    let encrypted = Settings {
        tls: true,
        ..settings(Transport::Tcp)
    };
    [settings(Transport::Tcp), encrypted]
}

#[test]
fn an_encrypted_connection_has_a_key_of_its_own_each_time() {
    let [plain, encrypted] = both_ways();
    let steps = format!("{:?}", plan(&encrypted, "ssh").unwrap());
    for part in ["addr_tsas tls1.3", ",tls,tls_key=..."] {
        assert!(steps.contains(part), "{part} is not in {steps}");
    }
    let both = Both::new(Pair::default());
    both.connect(&encrypted).unwrap();
    let first = both.pair().key_here.unwrap();
    // One that stands is taken over as it is.
    both.connect(&encrypted).unwrap();
    assert_eq!(both.pair().key_here.as_ref(), Some(&first));
    super::leave(&encrypted, &mut both.clone(), false, &mut |_, _, _| ()).unwrap();
    assert_eq!(both.pair().key_here, None);
    both.connect(&encrypted).unwrap();
    let second = both.pair().key_here.unwrap();
    assert!(first.id != second.id && first.secret != second.secret);

    // Told otherwise, it is made anew the other way, and what is there stays.
    let uuid = |both: &Both| both.pair().connected.unwrap().uuid;
    let before = (both.pair().ram, both.pair().content);
    both.connect(&plain).unwrap();
    assert_eq!(both.pair().key_there, None);
    assert_eq!(both.pair().key_here, None);
    let plain_uuid = uuid(&both);
    both.connect(&encrypted).unwrap();
    assert!(both.pair().key_here.is_some() && uuid(&both) != plain_uuid);
    assert_eq!(before.0, both.pair().ram);
    both.disconnect(&encrypted).unwrap();
    assert_eq!(both.pair(), Pair::default());
}

#[test]
fn a_machine_that_cannot_encrypt_asks_nobody() {
    let [_, encrypted] = both_ways();
    let pair = Pair {
        can_encrypt: false,
        ..Pair::default()
    };
    let both = Both::new(pair.clone());
    let stopped = both.connect(&encrypted).unwrap_err();
    assert_eq!((stopped.step, both.0.borrow().calls), (Step::Reach, 1));
    assert_eq!(both.pair(), pair);
}

/// How many calls a whole bring-up makes.
fn calls(deed: impl FnOnce(&Both)) -> usize {
    let both = Both::new(Pair::default());
    deed(&both);
    both.0.borrow().calls
}

#[test]
fn a_fault_at_any_call_leaves_nothing_and_the_next_attempt_goes_through() {
    for settings in both_ways() {
        let last = calls(|both| {
            both.connect(&settings).unwrap();
        });
        assert!(last >= 10, "{last} calls");
        for call in 1..=last {
            for fault in [Fault::Before, Fault::After] {
                let both = Both::new(Pair::default());
                let stopped = both
                    .with_fault(Some((call, fault)))
                    .connect(&settings)
                    .unwrap_err();
                assert_eq!(stopped.left, Vec::<String>::new());
                assert_eq!(
                    both.pair(),
                    Pair::default(),
                    "call {call}, {fault:?}: {stopped:?}"
                );
                both.with_fault(None)
                    .connect(&settings)
                    .unwrap_or_else(|again| panic!("call {call}, {fault:?}: {again:?}"));
                both.disconnect(&settings).unwrap();
                assert_eq!(both.pair(), Pair::default(), "call {call}, {fault:?}");
            }
        }
    }
}

#[test]
fn the_end_of_our_process_at_any_call_is_continued_from() {
    for settings in both_ways() {
        let last = calls(|both| {
            both.connect(&settings).unwrap();
        });
        for call in 1..=last {
            let both = Both::new(Pair::default());
            both.with_fault(Some((call, Fault::Ended)))
                .connect(&settings)
                .unwrap_err();
            let volume = both.with_fault(None).connect(&settings).unwrap();
            assert!(volume.generation >= 1);
            both.disconnect(&settings).unwrap();
            assert_eq!(both.pair(), Pair::default(), "call {call}");
        }
    }
}

#[test]
fn a_tear_down_that_stops_at_any_call_is_continued() {
    for settings in both_ways() {
        let up = Both::new(Pair::default());
        up.connect(&settings).unwrap();
        let whole = up.pair();
        up.with_fault(None).disconnect(&settings).unwrap();
        let last = up.0.borrow().calls;
        for call in 1..=last {
            for fault in [Fault::Before, Fault::After, Fault::Ended] {
                let both = Both::new(whole.clone());
                both.with_fault(Some((call, fault)))
                    .disconnect(&settings)
                    .unwrap_err();
                both.with_fault(None).disconnect(&settings).unwrap();
                assert_eq!(both.pair(), Pair::default(), "call {call}, {fault:?}");
            }
        }
    }
}

#[test]
fn what_is_there_is_found_and_its_generation_tells_whether_it_is_known() {
    let mut settings = settings(Transport::Tcp);
    let both = Both::new(Pair::default());
    let first = both.connect(&settings).unwrap();
    assert!(!first.is_known, "nothing was left there before");
    settings.generation = Some(first.generation);
    let found = both.connect(&settings).unwrap();
    assert_eq!((found.generation, found.is_known), (first.generation, true));

    super::leave(&settings, &mut both.clone(), false, &mut |_, _, _| ()).unwrap();
    let again = both.connect(&settings).unwrap();
    assert_eq!(
        (again.generation, again.is_known),
        (first.generation + 1, true)
    );

    // Ours was not told of the last two: somebody else mounted it.
    super::leave(&settings, &mut both.clone(), false, &mut |_, _, _| ()).unwrap();
    both.connect(&settings).unwrap();
    super::leave(&settings, &mut both.clone(), false, &mut |_, _, _| ()).unwrap();
    assert!(!both.connect(&settings).unwrap().is_known);
}

#[test]
fn what_belongs_to_others_is_refused_and_not_changed() {
    let settings = settings(Transport::Tcp);
    let exported = Pair {
        owner: Some("nqn.2014-08.org.nvmexpress:uuid:them".to_owned()),
        ram: Some(RAM_BYTES),
        ..Pair::default()
    };
    let both = Both::new(exported.clone());
    let stopped = both.connect(&settings).unwrap_err();
    assert_eq!(stopped.step, Step::Reach);
    assert!(
        stopped.failure.to_string().contains("uuid:them"),
        "{stopped:?}"
    );
    assert_eq!(both.pair(), exported);

    let theirs = Claim {
        host_nqn: "nqn.2014-08.org.nvmexpress:uuid:them".to_owned(),
        host_name: "other\u{1b}[2Jhost".to_owned(),
        pool: "meadowlark".to_owned(),
        formatted: true,
        filesystem: "xfs".to_owned(),
        generation: 4,
    };
    for content in [Content::Claimed(theirs), Content::Foreign] {
        let found = Pair {
            owner: Some(US.to_owned()),
            ram: Some(RAM_BYTES),
            content: content.clone(),
            formatted: true,
            ..Pair::default()
        };
        let both = Both::new(found.clone());
        let stopped = both.connect(&settings).unwrap_err();
        assert_eq!(stopped.step, Step::Format);
        assert!(!stopped.failure.to_string().contains('\u{1b}'));
        assert_eq!(both.pair(), found);
    }
}

#[test]
fn rdma_that_does_not_connect_is_left_for_tcp_only_where_that_was_left_open() {
    let pair = Pair {
        rdma: true,
        rdma_connects: false,
        ..Pair::default()
    };
    let both = Both::new(pair.clone());
    let volume = both.connect(&settings(Transport::Auto)).unwrap();
    assert_eq!(volume.fabric, Fabric::Tcp);
    let both = Both::new(pair.clone());
    both.connect(&settings(Transport::Rdma)).unwrap_err();
    assert_eq!(both.pair(), pair);
    let both = Both::new(Pair {
        rdma_connects: true,
        ..pair
    });
    let volume = both.connect(&settings(Transport::Auto)).unwrap();
    assert_eq!(volume.fabric, Fabric::Rdma);
}

#[test]
fn how_far_it_is_with_its_memory_is_told() {
    let both = Both::new(Pair::default());
    let mut told = Vec::new();
    super::connect(
        &settings(Transport::Tcp),
        &mut both.clone(),
        &mut both.clone(),
        &mut |step, state, text| told.push((step, state, text.to_owned())),
    )
    .unwrap();
    let text = "16.0 MiB of 64.0 MiB".to_owned();
    assert!(
        told.contains(&(Step::MakeRam, StepState::Running, text)),
        "{told:?}"
    );
}

#[test]
fn a_stale_connection_is_replaced() {
    let settings = settings(Transport::Tcp);
    let both = Both::new(Pair::default());
    both.connect(&settings).unwrap();
    // The other machine was restarted: its memory is gone, and we are still connected to what was.
    {
        let mut world = both.0.borrow_mut();
        world.pair.owner = None;
        world.pair.ram = None;
        world.pair.offer = None;
    }
    let volume = both.connect(&settings).unwrap();
    assert!(!volume.is_known);
    both.disconnect(&settings).unwrap();
    assert_eq!(both.pair(), Pair::default());
}

#[test]
fn the_mount_of_a_device_that_is_gone_is_in_nobodys_way() {
    let settings = settings(Transport::Tcp);
    let both = Both::new(Pair::default());
    both.connect(&settings).unwrap();
    // An engine had a model mapped, so our mount stayed when we ended. The other machine was restarted, the kernel has
    // given it up, and what is connected next has another name.
    let nothing_but_the_mount = Pair {
        mounted: both.pair().mounted,
        in_use: true,
        device: "nvme7n2".to_owned(),
        ..Pair::default()
    };
    both.0.borrow_mut().pair = nothing_but_the_mount.clone();
    both.connect(&settings).unwrap();
    assert_eq!(both.pair().mounted.as_deref(), Some("nvme7n2"));
    let both = Both::new(nothing_but_the_mount);
    both.disconnect(&settings).unwrap();
    assert_eq!(both.pair().mounted, None);

    // Whatever is there else is not taken away.
    for other in [DISK, "sda1", "tmpfs"] {
        let found = Pair {
            mounted: Some(other.to_owned()),
            ..Pair::default()
        };
        let both = Both::new(found.clone());
        let stopped = both.connect(&settings).unwrap_err();
        assert_eq!(stopped.step, Step::Format);
        assert!(stopped.failure.to_string().contains("umount"));
        assert_eq!(both.pair(), found);
    }
}

#[test]
fn what_the_other_machine_writes_into_our_record_chooses_nothing() {
    let settings = settings(Transport::Tcp);
    let claim = Claim {
        host_nqn: US.to_owned(),
        host_name: "here".to_owned(),
        pool: "meadowlark".to_owned(),
        formatted: true,
        filesystem: "ext4".to_owned(),
        generation: 4,
    };
    let of = |claim: Claim| Pair {
        owner: Some(US.to_owned()),
        ram: Some(RAM_BYTES),
        content: Content::Claimed(claim),
        formatted: true,
        ..Pair::default()
    };
    // What we make, though we are told to make another now.
    Both::new(of(claim.clone())).connect(&settings).unwrap();
    for (filesystem, generation) in [
        ("tmpfs", 4),
        ("ramfs", 4),
        ("fuse.x\u{1b}[2J", 4),
        ("", 4),
        ("XFS", 4),
        ("xfs", u64::MAX),
    ] {
        let found = of(Claim {
            filesystem: filesystem.to_owned(),
            generation,
            ..claim.clone()
        });
        let both = Both::new(found.clone());
        let stopped = both.connect(&settings).unwrap_err();
        let text = stopped.failure.to_string();
        assert!(
            text.contains("none of ours") && !text.contains('\u{1b}'),
            "{text}"
        );
        assert_eq!(both.pair(), found);
    }
}

#[test]
fn nobody_is_connected_to_at_another_place_than_was_asked_for() {
    let pair = Pair {
        offers_elsewhere: true,
        ..Pair::default()
    };
    let both = Both::new(pair.clone());
    let stopped = both.connect(&settings(Transport::Tcp)).unwrap_err();
    assert_eq!(stopped.step, Step::Export);
    assert!(stopped.failure.what.contains("port 4421"), "{stopped:?}");
    assert_eq!(both.pair(), pair);
}

#[test]
fn a_plan_names_every_step_with_its_command() {
    let plan = plan(
        &settings(Transport::Tcp),
        "ssh root@meadowlark speedloader remote-agent",
    )
    .unwrap();
    let steps: Vec<Step> = plan.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, Step::ALL);
    let all: String = plan.iter().map(|(_, text)| text.as_str()).collect();
    for part in [
        "ssh root@meadowlark",
        "traddr=10.9.0.1",
        "fast_io_fail_tmo=5",
        "mkfs.xfs",
        "nosuid,nodev,noexec",
    ] {
        assert!(all.contains(part), "{part} is not in {all}");
    }
}

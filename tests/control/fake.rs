//! An executor without a file system: it answers every command from constants, remembers what it was
//! asked, and can be made to wait, to fail and to panic.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use speedloader::command::{Answer, Code, Command, Message};
use speedloader::control::{Client, Executor, Peer, SocketServer, SocketSettings};
use speedloader::view::*;

/// The time that all constants are relative to.
pub const NOW_MS: u64 = 1_775_470_502_000;

#[derive(Default)]
pub struct Fake {
    asked: Mutex<Vec<(Peer, Command)>>,
    /// Peers whose waiting command has noticed that they are gone.
    gone: Mutex<Vec<String>>,
}

impl Fake {
    pub fn asked(&self) -> Vec<Command> {
        self.asked
            .lock()
            .unwrap()
            .iter()
            .map(|(_, command)| command.clone())
            .collect()
    }

    pub fn peers(&self) -> Vec<Peer> {
        self.asked
            .lock()
            .unwrap()
            .iter()
            .map(|(peer, _)| peer.clone())
            .collect()
    }

    pub fn gone(&self) -> Vec<String> {
        self.gone.lock().unwrap().clone()
    }
}

/// Blocks until `condition` holds; a test that waits for ever is killed by its runner.
pub fn until(condition: impl Fn() -> bool) {
    while !condition() {
        thread::sleep(Duration::from_millis(1));
    }
}

impl Executor for Fake {
    fn execute(&self, peer: &Peer, command: Command, progress: &mut dyn FnMut(View)) -> Answer {
        self.asked
            .lock()
            .unwrap()
            .push((peer.clone(), command.clone()));
        self.answer(peer, command, progress).into()
    }
}

impl Fake {
    fn answer(
        &self,
        peer: &Peer,
        command: Command,
        progress: &mut dyn FnMut(View),
    ) -> Result<View, Message> {
        Ok(match command {
            Command::Status {} => View::Status(Box::new(status())),
            Command::Models { filter } => View::Models(ModelsView {
                models: models()
                    .into_iter()
                    .filter(|model| {
                        filter
                            .as_ref()
                            .is_none_or(|part| model.name.contains(part.as_str()))
                    })
                    .collect(),
            }),
            Command::Promote { names, pool, wait } => {
                let names: Vec<String> = names
                    .iter()
                    .map(|name| known(name))
                    .collect::<Result<_, _>>()?;
                if let Some(pool) = &pool {
                    known_pool(pool)?;
                }
                if wait {
                    for done_bytes in [0, 1 << 30, 3 << 30] {
                        progress(View::Transfers(TransfersView {
                            transfers: vec![transfer(done_bytes)],
                        }));
                    }
                }
                let outcome = if wait {
                    Outcome::Done
                } else {
                    Outcome::Started
                };
                moves(&names, &pool.unwrap_or_else(|| "local".to_owned()), outcome)
            }
            Command::WarmUp { names, .. } => {
                let row = |name: &String| match known(name) {
                    Ok(name) => MoveView {
                        name,
                        outcome: Outcome::Started,
                        pool: "local".to_owned(),
                        files: 2,
                        bytes: 3 << 30,
                        ..MoveView::default()
                    },
                    Err(message) => MoveView {
                        name: name.clone(),
                        outcome: if message.code == Code::NoMatch {
                            Outcome::Unknown
                        } else {
                            Outcome::Refused
                        },
                        text: message.to_string(),
                        ..MoveView::default()
                    },
                };
                View::Moves(MovesView {
                    moves: names.iter().map(row).collect(),
                })
            }
            Command::Demote { names } => {
                let names: Vec<String> = names
                    .iter()
                    .map(|name| known(name))
                    .collect::<Result<_, _>>()?;
                moves(&names, "", Outcome::Draining)
            }
            Command::Pin { name, pool } => {
                known_pool(&pool)?;
                moves(&[known(&name)?], &pool, Outcome::Done)
            }
            Command::Unpin { name } => moves(&[known(&name)?], "", Outcome::Already),
            Command::Tiers {} => View::Tiers(TiersView { tiers: tiers() }),
            Command::TierSteps { name } => {
                known_pool(&name)?;
                let step = StepView {
                    step: "take this machine's memory".to_owned(),
                    text: "mount -t tmpfs".to_owned(),
                    ..StepView::default()
                };
                View::Steps(StepsView {
                    pool: name,
                    steps: vec![step],
                })
            }
            Command::TierMoves { name } => {
                known_pool(&name)?;
                View::Plan(PlanView::default())
            }
            Command::TierConnect { name } | Command::TierResize { name, .. } => {
                moves(&[known_pool(&name)?], &name, Outcome::Done)
            }
            Command::TierDisconnect {
                name,
                force,
                wait,
                no_move: _,
            } => {
                known_pool(&name)?;
                if !force && !wait {
                    let text = format!("copies in `{name}` are being read");
                    return Err(Message::new(Code::Busy, text).with_hint("wait, or use --force"));
                }
                moves(std::slice::from_ref(&name), &name, Outcome::Draining)
            }
            Command::Transfers {} => View::Transfers(TransfersView {
                transfers: vec![transfer(1 << 30)],
            }),
            Command::CancelTransfer { id: 7 } => {
                moves(&["llama3.2:3b".to_owned()], "local", Outcome::Done)
            }
            Command::CancelTransfer { id } => {
                return Err(Message::new(
                    Code::NoSuchTransfer,
                    format!("no transfer has the id {id}"),
                ));
            }
            Command::Wait { names, .. } if names == ["forever"] => {
                until(|| peer.is_gone());
                self.gone.lock().unwrap().extend(names);
                return Err(Message::new(Code::Cancelled, "nobody waits any more"));
            }
            Command::Wait { names, .. } if names == ["panic"] => panic!("as the test wants it"),
            Command::Wait { names, .. } if names.is_empty() => View::Moves(MovesView::default()),
            Command::Wait { names, timeout_s } => {
                let name = names.join("`, `");
                return Err(Message::new(
                    Code::TimedOut,
                    format!("`{name}` is not resident after {timeout_s} s"),
                ));
            }
            Command::Which { name } => which(&known(&name)?),
            Command::Rescan {} => View::Scan(ScanView {
                homes: 2,
                files_added: 3,
                files_removed: 0,
                files_changed: 1,
            }),
            Command::Events { since, follow } => {
                let events: Vec<EventView> = events()
                    .into_iter()
                    .filter(|event| event.seq > since)
                    .collect();
                if !follow {
                    return Ok(View::Events(EventsView {
                        events,
                        lost: if since == 0 { 2 } else { 0 },
                    }));
                }
                events
                    .into_iter()
                    .for_each(|event| progress(View::Event(event)));
                View::Events(EventsView::default())
            }
            Command::Config {} => View::Config(config()),
            Command::Reload {} => View::Reload(ReloadView { changes: changes() }),
            Command::Version {} => View::Version(version()),
            Command::Explain { name } => View::Explain(Box::new(explanation(known(&name)?))),
            Command::Plan {} => View::Plan(PlanView { moves: planned() }),
            Command::History {} => View::History(HistoryView {
                since_ms: NOW_MS - 3_600_000,
                loads: vec![LoadView {
                    time_ms: NOW_MS - 60_000,
                    model: "llama3.2:3b".to_owned(),
                    bytes: 3 << 30,
                    resident_bytes: 3 << 30,
                    pool: "local".to_owned(),
                    read_ms: 400,
                    saved_ms: 5_600,
                }],
                ..HistoryView::default()
            }),
            Command::Forecast {} => View::Forecast(ForecastView {
                loads: 12,
                points: vec![ForecastPoint {
                    pool_bytes: 64 << 30,
                    load_time_s: 410.5,
                    byte_hit_ratio: 0.87,
                }],
                ..ForecastView::default()
            }),
            Command::Settings {} => View::Settings(SettingsView {
                path: Some("/etc/speedloader/config.toml".to_owned()),
                fields: vec![FieldView {
                    key: "policy.enabled".to_owned(),
                    doc: "Promote and demote by what is used.".to_owned(),
                    kind: "switch".to_owned(),
                    live: true,
                    value: Some("true".to_owned()),
                    origin: "default".to_owned(),
                    ..FieldView::default()
                }],
            }),
            Command::CheckSettings { changes } => View::Draft(draft(&changes, false)),
            Command::SaveSettings { changes } => View::Draft(draft(&changes, true)),
            Command::Shutdown {} => View::Done(DoneView {
                text: "ending".to_owned(),
            }),
        })
    }
}

fn draft(changes: &[SettingChange], saved: bool) -> DraftView {
    let change = |change: &SettingChange| DraftChangeView {
        key: change.key.clone(),
        before: "true".to_owned(),
        after: change.value.clone().unwrap_or_default(),
        live: change.key.starts_with("policy."),
        refused: None,
        remark: None,
    };
    let line = |sign: &str, text: &str| DiffLineView {
        sign: sign.to_owned(),
        text: text.to_owned(),
    };
    let faults: Vec<FaultView> = changes
        .iter()
        .filter(|change| change.value.as_deref() == Some("maybe"))
        .map(|change| FaultView {
            key: change.key.clone(),
            text: "found \"maybe\", wanted true or false".to_owned(),
        })
        .collect();
    let saved = saved && faults.is_empty();
    DraftView {
        faults,
        changes: changes.iter().map(change).collect(),
        diff: vec![line("-", "enabled = true"), line("+", "enabled = false")],
        saved,
        ..DraftView::default()
    }
}

/// What a model that is not worth its place is told.
fn explanation(name: String) -> ExplainView {
    let standing = |expert: &str, cost_s| StandingView {
        expert: expert.to_owned(),
        cost_s,
    };
    ExplainView {
        spare: None,
        name,
        pools: vec!["local".to_owned()],
        size_bytes: 2_019_393_189,
        resident_bytes: 5_600,
        missing: Vec::new(),
        faults: Vec::new(),
        pinned: None,
        moving: None,
        rule: None,
        counted_for: None,
        heat: 1.25,
        rank: 3,
        models: 5,
        loads_since: Some(12),
        expert: "C (learned reuse)".to_owned(),
        standings: vec![
            standing("C (learned reuse)", 410.5),
            standing("A (heat)", 433.0),
        ],
        if_loaded: IfLoaded::Refused {
            why: "it is worth 0.71 of what it would displace in local".to_owned(),
            remedy: Some("promote it by hand, pin it, or make the pool larger".to_owned()),
        },
        loads_needed: Some(2),
        reasons: Vec::new(),
    }
    .with_reasons()
}

fn known(name: &str) -> Result<String, Message> {
    let models = models();
    let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
    match name {
        "huge:405b" => Err(Message::new(
            Code::TooLarge,
            "`huge:405b` has 810 GiB; `local` holds 64.0 GiB",
        )
        .with_hint("choose a larger pool with --pool")),
        "evil" => Err(Message::new(
            Code::Failed,
            "a file called \x1b[2J\u{9b}31m.gguf",
        )),
        "pinned:1b" => Err(Message::new(
            Code::Pinned,
            "`pinned:1b` is pinned to `meadowlark`",
        )),
        known if names.contains(&known) => Ok(known.to_owned()),
        other => Err(Message::no_model(other, names)),
    }
}

fn known_pool(name: &str) -> Result<String, Message> {
    match name {
        "local" | "meadowlark" => Ok(name.to_owned()),
        other => Err(Message::no_pool(other, ["local", "meadowlark"])),
    }
}

fn moves(names: &[String], pool: &str, outcome: Outcome) -> View {
    let moves = names.iter().map(|name| MoveView {
        name: name.clone(),
        outcome,
        pool: pool.to_owned(),
        files: 2,
        bytes: 3 << 30,
        text: "as asked".to_owned(),
    });
    View::Moves(MovesView {
        moves: moves.collect(),
    })
}

pub fn tiers() -> Vec<TierView> {
    vec![
        TierView {
            name: "local".to_owned(),
            kind: TierKind::Local,
            state: TierState::Connected,
            path: "/run/speedloader/pools/local".to_owned(),
            speed_bytes_per_sec: 13_000_000_000,
            capacity_bytes: 64 << 30,
            configured_bytes: 64 << 30,
            used_bytes: 21 << 30,
            free_bytes: 43 << 30,
            prefaulted_bytes: 16 << 30,
            draining_bytes: 1 << 29,
            reserved_bytes: 0,
            spare_bytes: 3 << 30,
            resident_files: 17,
            steps: Vec::new(),
        },
        TierView {
            name: "meadowlark".to_owned(),
            kind: TierKind::Remote,
            state: TierState::Lost,
            path: "/run/speedloader/pools/meadowlark".to_owned(),
            ..TierView::default()
        },
    ]
}

pub fn status() -> StatusView {
    StatusView {
        version: "0.1.0".to_owned(),
        pid: 4711,
        state: DaemonState::Ready,
        uptime_s: 93_784,
        mountpoint: "/mnt/models".to_owned(),
        models_dir: "/srv/models".to_owned(),
        passthrough: PassthroughView {
            active: true,
            why: "Linux 6.18 with CAP_SYS_ADMIN".to_owned(),
        },
        daemon_rss_bytes: 23 << 20,
        counts: CountsView {
            files: 12_345,
            models: 42,
            models_resident: 7,
            files_open: 3,
            transfers_running: 1,
            transfers_queued: 2,
        },
        memory: MemoryView {
            total_bytes: 128 << 30,
            available_bytes: 71 << 30,
            reserve_bytes: 8 << 30,
            held_back_bytes: 0,
        },
        policy: PolicyView {
            enabled: true,
            strategy: "fastest-fit".to_owned(),
        },
        pools: tiers(),
        homes: vec![
            HomeView {
                path: "/srv/models".to_owned(),
                kind: "local".to_owned(),
                files: 345,
                size_bytes: 210 << 30,
                last_scan_ms: Some(NOW_MS - 90_000),
                ..HomeView::default()
            },
            HomeView {
                path: "/mnt/beegfs/ollama/models".to_owned(),
                role: HomeRole::Cold,
                kind: "beegfs".to_owned(),
                state: HomeState::Hung {
                    since_ms: NOW_MS - 65_000,
                },
                write_protected: true,
                files: 12_000,
                size_bytes: 9 << 40,
                last_scan_ms: Some(NOW_MS - 7_200_000),
            },
        ],
        totals: TotalsView {
            opens: 1_000,
            loads: 40,
            loads_resident: 33,
            ..TotalsView::default()
        },
        engines: vec![EngineView {
            address: "http://127.0.0.1:11434".to_owned(),
            kind: "Ollama".to_owned(),
            answers: true,
            error: None,
            loaded: vec!["llama3.2:3b".to_owned()],
        }],
        warnings: vec!["/mnt/beegfs/ollama/models does not answer".to_owned()],
    }
}

pub fn models() -> Vec<ModelView> {
    let model = |name: &str, kind: &str, size_bytes: u64, resident: u64| {
        ModelView {
            name: name.to_owned(),
            kind: kind.to_owned(),
            files: 2,
            size_bytes,
            resident_bytes: BTreeMap::from([("local".to_owned(), resident)]),
            resident_total_bytes: resident,
            ..ModelView::default()
        }
        .with_percent()
    };
    vec![
        ModelView {
            heat: 3.25,
            pinned: Some("local".to_owned()),
            open: 1,
            loaded: vec!["Ollama".to_owned()],
            loads: 1_234,
            last_load_ms: Some(NOW_MS - 180_000),
            ..model("llama3.2:3b", "ollama", 2 << 30, 2 << 30)
        },
        model("phi4.gguf", "gguf", 9 << 30, 9 * (1 << 30) - 1),
        model("evil\\x1b[31m\\n.gguf", "gguf", 1 << 20, 0),
    ]
}

pub fn transfer(done_bytes: u64) -> TransferView {
    TransferView {
        id: 7,
        model: "llama3.2:3b".to_owned(),
        file: "blobs/sha256-6a0746a1ec1aef3e7ec53868f220ff6e389f6f8ef87a01d77c96807de94ca2aa"
            .to_owned(),
        from: "cold".to_owned(),
        to: "local".to_owned(),
        done_bytes,
        total_bytes: 3 << 30,
        rate_bytes_per_sec: 2_100_000_000,
        eta_s: Some(1),
        state: if done_bytes == 3 << 30 {
            TransferState::Done
        } else {
            TransferState::Copying
        },
        why: "request".to_owned(),
    }
}

fn which(name: &str) -> View {
    let replica = ReplicaView {
        pool: "local".to_owned(),
        path: "/run/speedloader/pools/local/3f".to_owned(),
        state: ReplicaState::Serving,
    };
    View::Which(WhichView {
        name: name.to_owned(),
        files: vec![PlaceView {
            file: "blobs/sha256-6a07".to_owned(),
            size_bytes: 2 << 30,
            serving: replica.path.clone(),
            home: "/srv/models/blobs/sha256-6a07".to_owned(),
            replicas: vec![replica],
            open: 1,
        }],
        missing: vec!["mmproj-F16.gguf".to_owned()],
        faults: Vec::new(),
    })
}

pub fn events() -> Vec<EventView> {
    let event = |seq, kind: &str, level, text: &str| EventView {
        seq,
        time_ms: NOW_MS - 60_000 + seq,
        kind: kind.to_owned(),
        level,
        subject: "llama3.2:3b".to_owned(),
        text: text.to_owned(),
        fields: BTreeMap::from([("bytes".to_owned(), "3221225472".to_owned())]),
    };
    vec![
        event(
            3,
            "promoted",
            Level::Info,
            "to local, verified, 1.5 s at 2.10 GB/s",
        ),
        event(4, "pool-lost", Level::Error, "an odd\nline break"),
    ]
}

fn config() -> ConfigView {
    ConfigView {
        path: Some("/etc/speedloader/config.toml".to_owned()),
        settings: vec![SettingView {
            key: "models_dir".to_owned(),
            value: "\"/srv/models\"".to_owned(),
            origin: "/etc/speedloader/config.toml:1:14".to_owned(),
        }],
        toml: "models_dir = \"/srv/models\"\n".to_owned(),
    }
}

fn changes() -> Vec<ChangeView> {
    let change = |key: &str, applied| ChangeView {
        key: key.to_owned(),
        before: "\"8GiB\"".to_owned(),
        after: "\"16GiB\"".to_owned(),
        applied,
        remark: None,
    };
    vec![
        change("policy.memory_reserve", true),
        change("mountpoint", false),
    ]
}

fn version() -> VersionView {
    VersionView {
        version: "0.1.0".to_owned(),
        protocol: 1,
        kernel: "6.18.0".to_owned(),
        daemon: None,
    }
}

fn planned() -> Vec<PlannedView> {
    let planned = |model: &str, planned, why: &str| PlannedView {
        model: model.to_owned(),
        from: "cold".to_owned(),
        to: "local".to_owned(),
        bytes: 9 << 30,
        planned,
        why: why.to_owned(),
    };
    vec![
        planned("phi4.gguf", true, "its second load within an hour"),
        planned("huge:405b", false, "larger than the pool"),
    ]
}

/// A served fake, and the directory that its socket is in.
pub struct Served {
    pub fake: Arc<Fake>,
    pub server: Option<SocketServer>,
    pub directory: tempfile::TempDir,
}

impl Served {
    pub fn new() -> Self {
        Self::with(|_| ())
    }

    pub fn with(change: impl FnOnce(&mut SocketSettings)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let fake = Arc::new(Fake::default());
        let mut settings = SocketSettings::new(directory.path().join("run/control.sock"));
        change(&mut settings);
        let server = SocketServer::start(settings, Arc::clone(&fake) as Arc<dyn Executor>).unwrap();
        Self {
            fake,
            server: Some(server),
            directory,
        }
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("run/control.sock")
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.socket()).unwrap()
    }
}

//! Stories told by the planner, compared with what a person has read and found right.
//!
//! A script (`golden/NAME.script`) sets up pools and models and lets things happen; what the plan
//! then says is `golden/NAME.txt`. `SPEEDLOADER_GOLDEN=write` writes it anew: read the difference.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use speedloader_policy::{
    BASELINES, FileRef, FileState, Learned, Load, ModelId, ModelRule, ModelState, MoveKind, Moves,
    Outcome, Params, PoolState, Snapshot, TierId, Tiers, TraceReader, Want, WantKind, check,
    explain, load_time_bound_secs, plan, replay, replay_baseline,
};

#[derive(Default)]
struct Story {
    snapshot: Snapshot,
    learned: Learned,
    params: Params,
    pools: Vec<String>,
    models: Vec<String>,
    files: BTreeMap<String, u64>,
    told: String,
}

impl Story {
    fn pool(&self, name: &str) -> TierId {
        TierId(
            self.pools
                .iter()
                .position(|p| p == name)
                .expect("a pool of the script") as u16,
        )
    }
    fn pool_name(&self, pool: Option<TierId>) -> &str {
        pool.map_or("home", |id| &self.pools[id.0 as usize])
    }
    fn model(&self, name: &str) -> ModelId {
        ModelId(
            self.models
                .iter()
                .position(|m| m == name)
                .expect("a model of the script") as u64,
        )
    }
    fn model_name(&self, model: ModelId) -> &str {
        &self.models[model.0 as usize]
    }
    fn state(&mut self, name: &str) -> &mut ModelState {
        let id = self.model(name);
        &mut self.snapshot.models[id.0 as usize]
    }

    /// `pool NAME CAPACITY SPEED`, `model NAME FILE:SIZE...`, `load NAME [TIMES]`,
    /// `promote NAME [POOL]`, `demote NAME [POOL]`, `pin NAME POOL`, `rule NAME always|never`,
    /// `priority NAME NUMBER`, `list NAME...` (all promoted at once), `restore NAME...`, `open FILE`, `close FILE`, `shrink POOL BYTES`, `explain NAME`.
    fn line(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| words[at].parse::<u64>().expect("a number in the script");
        let third = words.get(2).copied();
        match words[0] {
            "pool" => {
                self.snapshot.pools.push(PoolState {
                    id: TierId(self.pools.len() as u16),
                    speed_bytes_per_sec: number(3),
                    capacity_bytes: number(2),
                    free_bytes: number(2),
                    give_back_bytes: 0,
                    accepts: true,
                });
                self.pools.push(words[1].to_owned());
                self.snapshot.cold_bytes_per_sec = 1;
            }
            "model" => self.add_model(words[1], &words[2..]),
            "load" => {
                let times = third.map_or(1, |_| number(2));
                (0..times).for_each(|_| self.load(words[1]));
            }
            "promote" | "demote" => {
                let (model, pool) = (self.model(words[1]), third.map(|name| self.pool(name)));
                let up = words[0] == "promote";
                let kind = if up {
                    WantKind::Promote { pool }
                } else {
                    WantKind::Demote { pool }
                };
                if !up {
                    self.learned.set_aside(model);
                }
                self.step(line, Some(Want { model, kind }));
            }
            "pin" => {
                let pool = self.pool(words[2]);
                self.state(words[1]).pin = Some(pool);
                self.step(line, None);
            }
            "rule" => {
                let always = words[2] == "always";
                self.state(words[1]).rule = if always {
                    ModelRule::Always
                } else {
                    ModelRule::Never
                };
                self.step(line, None);
            }
            "priority" => self.state(words[1]).priority = number(2) as i32,
            "open" | "close" => {
                let at = self.files[words[1]] as usize;
                self.snapshot.files[at].open = words[0] == "open";
            }
            "shrink" => {
                let pool = self.pool(words[1]).0 as usize;
                self.snapshot.pools[pool].give_back_bytes = number(2);
                self.step(line, None);
                let pool = &mut self.snapshot.pools[pool];
                pool.capacity_bytes -= number(2);
                pool.free_bytes = pool.free_bytes.saturating_sub(number(2));
                pool.give_back_bytes = 0;
            }
            "list" | "restore" => {
                let want = |name: &&str| Want {
                    model: self.model(name),
                    kind: match words[0] {
                        "list" => WantKind::Promote { pool: None },
                        _ => WantKind::Restore { pool: None },
                    },
                };
                let wants = words[1..].iter().map(want).collect();
                self.step_all(line, wants);
            }
            "explain" => self.explain(words[1]),
            other => panic!("unknown word {other} in the script"),
        }
    }

    fn add_model(&mut self, name: &str, files: &[&str]) {
        let mut own = Vec::new();
        for file in files {
            let (file, size) = file.split_once(':').unwrap_or((file, ""));
            let next = self.files.len() as u64;
            let id = *self.files.entry(file.to_owned()).or_insert(next);
            if id == next {
                self.snapshot.files.push(FileState {
                    id: FileRef(id),
                    size_bytes: size.parse().expect("a size in the script"),
                    place: None,
                    open: false,
                    busy: false,
                    spare: None,
                    spare_open: false,
                });
            }
            own.push(FileRef(id));
        }
        self.snapshot.models.push(ModelState {
            id: ModelId(self.models.len() as u64),
            files: own,
            pin: None,
            rule: ModelRule::Normal,
            priority: 0,
            moving_to: None,
        });
        self.models.push(name.to_owned());
    }

    fn load(&mut self, name: &str) {
        let state = self.state(name).clone();
        let files: Vec<&FileState> = self
            .snapshot
            .files
            .iter()
            .filter(|f| state.files.contains(&f.id))
            .collect();
        let bytes = files.iter().map(|f| f.size_bytes).sum();
        let load = Load {
            model: state.id,
            bytes,
            family: 0,
        };
        self.learned
            .observe(&self.params, &Tiers::of(&self.snapshot), load);
        self.step(
            &format!("load {name}"),
            Some(Want {
                model: state.id,
                kind: WantKind::Loaded,
            }),
        );
    }

    fn step(&mut self, what: &str, want: Option<Want>) {
        self.step_all(what, want.into_iter().collect());
    }

    fn step_all(&mut self, what: &str, wants: Vec<Want>) {
        self.snapshot.wants = wants;
        let planned = plan(&self.params, &self.learned, &self.snapshot).expect("a right snapshot");
        assert_eq!(check(&self.snapshot, &planned), [], "{what}");
        let mut told = format!("{what}\n");
        for finding in &planned.report.findings {
            let outcome = match &finding.outcome {
                Outcome::Stays { pool } => format!("stays in {}", self.pool_name(Some(*pool))),
                Outcome::Promoted { pool, displaces } => {
                    let names: Vec<&str> = displaces.iter().map(|&m| self.model_name(m)).collect();
                    let instead = if names.is_empty() {
                        String::new()
                    } else {
                        format!(" instead of {}", names.join(", "))
                    };
                    format!("promoted to {}{instead}", self.pool_name(Some(*pool)))
                }
                Outcome::Demoted { pool } => format!("demoted to {}", self.pool_name(*pool)),
                Outcome::Refused(refusal) => format!("refused: {refusal}"),
            };
            writeln!(told, "  {}: {outcome}", self.model_name(finding.model)).expect("a string");
        }
        for (pool, bytes) in &planned.report.still_owed {
            writeln!(
                told,
                "  {} still owes {bytes} bytes",
                self.pool_name(Some(*pool))
            )
            .expect("a string");
        }
        for mv in &planned.moves {
            let name = self
                .files
                .iter()
                .find(|(_, id)| **id == mv.file.0)
                .map(|(name, _)| name);
            let name = name.expect("a file of the script");
            let (from, to) = (self.pool_name(mv.from), self.pool_name(mv.to));
            let what = match mv.kind {
                MoveKind::DropSpare => format!("{name} spare in {from} goes"),
                MoveKind::FallBack => format!("{name} {from} -> its spare in {to}"),
                _ if mv.keeps_spare => format!("{name} {from} -> {to}, spare stays"),
                _ => format!("{name} {from} -> {to}"),
            };
            writeln!(told, "    {what} ({})", mv.reason).expect("a string");
        }
        self.told += &told;
        for mv in &planned.moves {
            let file = &mut self.snapshot.files[mv.file.0 as usize];
            let (bytes, open) = (file.size_bytes, file.open || mv.keeps_spare);
            match mv.kind {
                MoveKind::DropSpare => file.spare = None,
                MoveKind::FallBack => (file.place, file.spare) = (mv.to, None),
                _ => {
                    file.place = mv.to;
                    file.spare = file.spare.or(mv.from.filter(|_| mv.keeps_spare));
                }
            }
            for pool in &mut self.snapshot.pools {
                if Some(pool.id) == mv.to && mv.kind != MoveKind::FallBack {
                    pool.free_bytes -= bytes;
                }
                if Some(pool.id) == mv.from && !open {
                    pool.free_bytes += bytes;
                }
            }
        }
    }

    fn explain(&mut self, name: &str) {
        let told = explain(
            &self.params,
            &self.learned,
            &self.snapshot,
            self.model(name),
        );
        let told = told
            .expect("a right snapshot")
            .expect("a model of the script");
        let loads = told
            .loads_needed
            .map_or("no number of".to_owned(), |n| n.to_string());
        let text = format!(
            "explain {name}\n  in {}{}, {} of {} bytes resident, heat {:.2}, rank {} of {}, \
             loaded {} loads ago, by {}\n  {loads} loads would make it resident\n",
            self.pool_name(told.place),
            told.spare.map_or(String::new(), |pool| format!(
                ", spare in {}",
                self.pool_name(Some(pool))
            )),
            told.resident_bytes,
            told.bytes,
            told.heat,
            told.rank,
            told.models,
            told.loads_since.map_or("no".to_owned(), |n| n.to_string()),
            told.expert,
        );
        self.told += &text;
    }
}

fn compare(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.txt"));
    if std::env::var("SPEEDLOADER_GOLDEN").is_ok_and(|value| value == "write") {
        std::fs::write(&path, found).expect("the golden file can be written");
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        found, wanted,
        "{name} tells another story; see the top of golden.rs"
    );
}

fn tell(name: &str, script: &str) {
    let mut story = Story::default();
    script
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .for_each(|line| story.line(line));
    compare(name, &story.told);
}

#[test]
fn what_is_hot_displaces_what_is_not() {
    tell("one_pool", include_str!("golden/one_pool.script"));
}

#[test]
fn a_faster_and_a_slower_pool() {
    tell("two_pools", include_str!("golden/two_pools.script"));
}

#[test]
fn copies_left_behind_are_free_room_and_free_ways_down() {
    tell("spares", include_str!("golden/spares.script"));
}

#[test]
fn what_users_say_goes_first() {
    tell("said", include_str!("golden/said.script"));
}

/// A priority only kept others away; it won nothing.
#[test]
fn what_has_a_higher_priority_wins() {
    tell("priorities", include_str!("golden/priorities.script"));
}

/// Whatever was loaded in the second was copied to the first, for nothing.
#[test]
fn between_pools_of_one_speed_nothing_moves() {
    tell("equal_pools", include_str!("golden/equal_pools.script"));
}

#[test]
fn lists_and_restarts_bring_back_what_fits() {
    tell("lists", include_str!("golden/lists.script"));
}

/// A small trace with a known rhythm, through the engine and every baseline.
#[test]
fn a_replay_of_every_policy() {
    let mut reader = TraceReader::new();
    reader.line(speedloader_policy::HEADER).expect("the header");
    for at in 0..3000u64 {
        // Half of the loads go to five models, the rest walks over thirty-five.
        let object = if at % 2 == 0 {
            at / 2 % 5
        } else {
            5 + at / 2 % 35
        };
        let size = 1000 + 100 * (object % 7);
        reader
            .line(&format!("{},{at},g,o{object},{size}", at * 100))
            .expect("a line");
    }
    let trace = reader.finish().expect("a trace");
    let capacity = trace.footprint_bytes() / 5;
    let pools = vec![(TierId(0), 1000, capacity), (TierId(1), 500, capacity)];
    let tiers = Tiers {
        pools,
        cold_bytes_per_sec: 100,
    };
    let mut told = format!("bound {:.0} s\n", load_time_bound_secs(&tiers, &trace));
    let mut row = |name: &str, totals: speedloader_policy::Totals| {
        writeln!(
            told,
            "{name:<16} {:>8.0} s, objects {:.3}, bytes {:.3}, moved {}",
            totals.load_time_secs,
            totals.object_hit_ratio(),
            totals.byte_hit_ratio(),
            totals.moved_bytes
        )
        .expect("a string");
    };
    row(
        "auto",
        replay(&Params::default(), &tiers, Moves::WhileReading, &trace),
    );
    for kind in BASELINES {
        row(
            kind.name(),
            replay_baseline(kind, &tiers, Moves::WhileReading, &trace),
        );
    }
    compare("replay", &told);
}

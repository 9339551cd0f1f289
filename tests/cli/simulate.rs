//! `speedloader simulate`: the figures are those of the policy's own replay, in text and JSON; what is
//! wrong with a trace or an option is said; without a trace the log of loads is replayed.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use speedloader::load_log::{Entry, LoadLog};
use speedloader_policy::{
    BaselineKind, HEADER, Moves, Params, TierId, Tiers, Trace, TraceReader, load_time_bound_secs,
    replay, replay_baseline,
};

use super::console::{Outcome, speedloader};

/// The same numbers for the same seed, on every machine.
fn numbers(seed: u64) -> impl Iterator<Item = u64> {
    let next = |state: &u64| {
        let state = state.wrapping_mul(6_364_136_223_846_793_005);
        Some(state.wrapping_add(1_442_695_040_888_963_407))
    };
    std::iter::successors(Some(seed), next).skip(1)
}

/// A few hundred loads of a dozen models, some of them much liked, from a small fixed generator.
fn lines() -> String {
    let mut text = format!("{HEADER}\n");
    for (at, state) in (0..400u64).zip(numbers(7)) {
        let model = ((state >> 33) % 12).min((state >> 45) % 12);
        let bytes = (1 + model % 5) * 1_000_000_000;
        writeln!(text, "{},{at},g{},m{model},{bytes}", at * 60, model / 3).unwrap();
    }
    text
}

fn written(directory: &Path, name: &str, contents: &[u8]) -> String {
    let path = directory.join(name);
    fs::write(&path, contents).unwrap();
    path.to_str().unwrap().to_owned()
}

fn trace(text: &str) -> Trace {
    let mut reader = TraceReader::new();
    text.lines().for_each(|line| reader.line(line).unwrap());
    reader.finish().unwrap()
}

fn results(outcome: &Outcome) -> Vec<serde_json::Value> {
    assert_eq!(outcome.status, 0, "{outcome:?}");
    let document: serde_json::Value = serde_json::from_str(&outcome.out).unwrap();
    document["results"].as_array().unwrap().clone()
}

/// Five thousand loads of 160 models of the sizes that people have, few of them much liked.
fn fleet() -> String {
    const GB: [u64; 11] = [2, 4, 5, 8, 13, 16, 20, 40, 42, 75, 141];
    let mut text = format!("{HEADER}\n");
    for (at, state) in (0..5000u64).zip(numbers(11)) {
        let unit = u128::from(state >> 40);
        let model = ((160 * unit * unit * unit) >> 72) as u64;
        let bytes = GB[(model * 7 % 11) as usize] * 1_000_000_000;
        writeln!(text, "{},{at},g{},m{model},{bytes}", at * 120, model / 4).unwrap();
    }
    text
}

/// One host alone, and with the RAM of one, two and three others.
#[test]
fn a_fleet() {
    let directory = tempfile::tempdir().unwrap();
    let path = written(directory.path(), "t.csv", fleet().as_bytes());
    let mut shown = String::new();
    for remotes in [
        &[][..],
        &["rdma=512GB@20GB/s"],
        &["rdma=512GB@20GB/s", "tcp25=512GB@2500MB/s"],
        &[
            "rdma=512GB@20GB/s",
            "tcp25=512GB@2500MB/s",
            "tcp10=1TB@1GB/s",
        ],
    ] {
        let mut arguments = vec![
            "simulate",
            "--trace",
            &path,
            "--policy",
            "auto",
            "--pool",
            "128GB",
            "--bandwidth",
            "ram=40GB/s,cold=500MB/s",
        ];
        for remote in remotes {
            arguments.extend(["--remote", remote]);
        }
        let outcome = speedloader(&arguments);
        assert_eq!((outcome.status, outcome.err.as_str()), (0, ""));
        writeln!(shown, "--remote {remotes:?}\n{}", outcome.out).unwrap();
    }
    insta::assert_snapshot!("fleet", shown);
}

#[test]
fn json_has_the_figures_of_the_policys_own_replay() {
    let directory = tempfile::tempdir().unwrap();
    let path = written(directory.path(), "t.csv", lines().as_bytes());
    let trace = trace(&lines());
    let pool = (u128::from(trace.footprint_bytes()) * 20 / 100) as u64;
    for (remote, moves) in [(0, "while-reading"), (2 * pool, "copy")] {
        let mut arguments = vec![
            "simulate", "--json", "--trace", &path, "--pool", "20%", "--policy", "auto,lru",
            "--moves", moves,
        ];
        if remote > 0 {
            arguments.extend(["--remote", "40%"]);
        }
        let results = results(&speedloader(&arguments));
        let mut pools = vec![(TierId(0), 10_000_000_000, pool)];
        if remote > 0 {
            pools.push((TierId(1), 5_000_000_000, remote));
        }
        let tiers = Tiers {
            pools,
            cold_bytes_per_sec: 1_000_000_000,
        };
        let cost = if moves == "copy" {
            Moves::Copy
        } else {
            Moves::WhileReading
        };
        let expected = [
            ("auto", replay(&Params::default(), &tiers, cost, &trace)),
            (
                "lru",
                replay_baseline(BaselineKind::Lru, &tiers, cost, &trace),
            ),
        ];
        let bound_s = load_time_bound_secs(&tiers, &trace);
        let expected: Vec<serde_json::Value> = expected
            .iter()
            .map(|(policy, totals)| {
                serde_json::json!({
                    "policy": policy,
                    "pool_bytes": pool,
                    "remote_bytes": remote,
                    "object_hit_ratio": totals.object_hit_ratio(),
                    "byte_hit_ratio": totals.byte_hit_ratio(),
                    "load_time_s": totals.load_time_secs,
                    "bound_s": bound_s,
                    "moved_bytes": totals.moved_bytes,
                })
            })
            .collect();
        assert_eq!(results, expected);
    }
}

/// With one remote pool the figures are those that are promised and no more.
#[test]
fn json_tells_several_remote_pools_apart() {
    let directory = tempfile::tempdir().unwrap();
    let path = written(directory.path(), "t.csv", lines().as_bytes());
    let results = results(&speedloader(&[
        "simulate",
        "--json",
        "--trace",
        &path,
        "--pool",
        "5GB",
        "--policy",
        "auto",
        "--remote",
        "near=10GB@9GB/s",
        "--remote",
        "far=5GB@2GB/s",
    ]));
    let tiers = results[0]["tiers"].as_array().unwrap();
    let shown: Vec<_> = tiers
        .iter()
        .map(|tier| {
            (
                &tier["tier"],
                &tier["capacity_bytes"],
                &tier["bytes_per_sec"],
            )
        })
        .map(|told| serde_json::json!(told))
        .collect();
    let expected = serde_json::json!([
        ["ram", 5_000_000_000u64, 10_000_000_000u64],
        ["near", 10_000_000_000u64, 9_000_000_000u64],
        ["far", 5_000_000_000u64, 2_000_000_000u64],
        ["cold", null, 1_000_000_000u64],
    ]);
    assert_eq!(serde_json::json!(shown), expected);
    let loaded = tiers
        .iter()
        .map(|tier| tier["loaded_bytes"].as_u64().unwrap());
    let all: u64 = trace(&lines()).loads.iter().map(|load| load.bytes).sum();
    assert_eq!(loaded.sum::<u64>(), all);
}

#[test]
fn all_policies_as_text() {
    let directory = tempfile::tempdir().unwrap();
    let path = written(directory.path(), "t.csv", lines().as_bytes());
    let outcome = speedloader(&[
        "simulate",
        "--trace",
        &path,
        "--pool",
        "5GB",
        "--more",
        "10GB,20GB",
    ]);
    assert_eq!((outcome.status, outcome.err.as_str()), (0, ""));
    insta::assert_snapshot!("simulate", outcome.out);
}

#[test]
fn compressed_traces_are_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let plain = written(directory.path(), "t.csv", lines().as_bytes());
    let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    zipped.write_all(lines().as_bytes()).unwrap();
    // Whatever it is called.
    let zipped = written(directory.path(), "t.csv2", &zipped.finish().unwrap());
    let out =
        |path: &str| speedloader(&["simulate", "--trace", path, "--policy", "auto,sieve"]).out;
    assert_eq!(out(&plain), out(&zipped));
    assert!(out(&plain).contains("sieve"));
}

#[test]
fn a_picture_is_drawn() {
    let directory = tempfile::tempdir().unwrap();
    let path = written(directory.path(), "t.csv", lines().as_bytes());
    let picture = directory.path().join("p.svg");
    let drawn = picture.to_str().unwrap();
    let outcome = speedloader(&["simulate", "--trace", &path, "--plot", drawn]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    let svg = fs::read_to_string(&picture).unwrap();
    for policy in ["auto", "w-tinylfu", "belady", "bound"] {
        assert!(svg.contains(&format!(">{policy}</text>")), "{policy}");
    }
    let outcome = speedloader(&["simulate", "--trace", &path, "--plot", "/nonexistent/p.svg"]);
    assert_eq!(outcome.status, 1, "{outcome:?}");
    assert!(
        outcome.err.contains("--plot: /nonexistent/p.svg"),
        "{outcome:?}"
    );
}

/// A configuration whose state directory is below `directory`.
fn configured(directory: &Path) -> (PathBuf, String) {
    let state = directory.join("state");
    fs::create_dir_all(&state).unwrap();
    let toml = format!("state_dir = \"{}\"\n", state.display());
    let path = written(directory, "config.toml", toml.as_bytes());
    (state, path)
}

/// Logs the loads of a trace, as a daemon with this state directory would.
fn log_loads(state: &Path, trace: &Trace) {
    let log = LoadLog::new(state);
    for load in &trace.loads {
        let entry = Entry {
            at_secs: load.at_secs,
            number: 0,
            family: "g",
            name: &format!("m{}", load.object),
            bytes: load.bytes,
        };
        log.add(1 << 20, &entry).unwrap();
    }
}

#[test]
fn without_a_trace_the_log_of_loads_is_replayed() {
    let directory = tempfile::tempdir().unwrap();
    let (state, config) = configured(directory.path());
    let asked = ["--config", &config, "simulate", "--pool", "20%", "--json"];
    let none = speedloader(&asked);
    assert_eq!(none.status, 1, "{none:?}");
    assert!(none.err.contains("no load is logged in"), "{none:?}");

    log_loads(&state, &trace(&lines()));
    let path = written(directory.path(), "t.csv", lines().as_bytes());
    let by_trace = ["simulate", "--pool", "20%", "--json", "--trace", &path];
    assert_eq!(
        results(&speedloader(&asked)),
        results(&speedloader(&by_trace))
    );
}

/// It was replayed with the default, whatever the daemon's policy worked with.
#[test]
fn the_log_of_loads_is_replayed_with_the_configured_half_life() {
    let directory = tempfile::tempdir().unwrap();
    let (state, config) = configured(directory.path());
    let mut toml = fs::read_to_string(&config).unwrap();
    toml += "policy.half_life = 1\n";
    fs::write(&config, toml).unwrap();
    let trace = trace(&lines());
    log_loads(&state, &trace);
    let pool = (u128::from(trace.footprint_bytes()) * 20 / 100) as u64;
    let tiers = Tiers {
        pools: vec![(TierId(0), 10_000_000_000, pool)],
        cold_bytes_per_sec: 1_000_000_000,
    };
    let load_time_s = |half_life: f64| {
        let params = Params {
            half_life,
            ..Params::default()
        };
        replay(&params, &tiers, Moves::WhileReading, &trace).load_time_secs
    };
    assert_ne!(load_time_s(1.0), load_time_s(Params::default().half_life));
    let asked = [
        "--config", &config, "simulate", "--pool", "20%", "--json", "--policy", "auto",
    ];
    assert_eq!(
        results(&speedloader(&asked))[0]["load_time_s"],
        load_time_s(1.0)
    );
}

#[test]
fn what_is_wrong_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let right = written(directory.path(), "right.csv", lines().as_bytes());
    let header = |rest: &str| format!("{HEADER}\n{rest}");
    let bad_traces = [
        ("nonsense", "line 1: the first line is \"nonsense\""),
        ("", "line 1"),
        (&header("1,2,g,o,-5"), "line 2: size_bytes is \"-5\""),
        (&header("1,2,g,o,1e9"), "line 2: size_bytes is \"1e9\""),
        (&header("1,2,g,o"), "line 2: 4 fields"),
        (
            &header("5,2,g,o,5\n4,2,g,o,5"),
            "line 3: ts_s is 4, before the 5",
        ),
        (&header("-1,2,g,o,5"), "line 2: ts_s is \"-1\""),
        (&header(""), "there are no loads in it"),
        (
            &header("1,2,g,o,0"),
            "all that is loaded in it is empty, 0 bytes",
        ),
    ];
    for (text, part) in bad_traces {
        let path = written(directory.path(), "bad.csv", text.as_bytes());
        let outcome = speedloader(&["simulate", "--trace", &path]);
        assert_eq!(
            (outcome.status, outcome.out.as_str()),
            (1, ""),
            "{text}: {outcome:?}"
        );
        assert!(outcome.err.contains(part), "{text}: {outcome:?}");
    }
    let damaged = written(directory.path(), "bad.gz", b"\x1f\x8b\x08\x00damaged");
    for (options, part) in [
        (vec!["--trace", "/nonexistent/t.csv"], "/nonexistent/t.csv"),
        (vec!["--trace", &damaged], "bad.gz"),
        (vec!["--trace", "/"], "--trace: /"),
    ] {
        let outcome = speedloader(&[&["simulate"], options.as_slice()].concat());
        assert_eq!(outcome.status, 1, "{options:?}: {outcome:?}");
        assert!(outcome.err.contains(part), "{options:?}: {outcome:?}");
    }
    for (option, value, part) in [
        ("--pool", "0%", "--pool: `0%` is no share"),
        ("--pool", "-5%", "--pool: `-5%` is no share"),
        ("--pool", "-5GB", "--pool: `-5GB` is no size"),
        ("--pool", "5%,,", "--pool: `` is no size"),
        ("--pool", "nan%", "--pool: `nan%` is no share"),
        ("--pool", "99999999TiB", "--pool: `99999999TiB` is no size"),
        ("--more", "0B", "--more: `0B` is nothing"),
        ("--remote", "lots", "--remote: `lots` is no size"),
        ("--policy", "lrru", "there is no policy `lrru`"),
        ("--bandwidth", "ram=0B/s", "--bandwidth: `ram=0B/s`"),
        ("--bandwidth", "tape=1GB/s", "--bandwidth: `tape=1GB/s`"),
        (
            "--bandwidth",
            "ram=1GB/s,ram=2GB/s",
            "--bandwidth: `ram` has two rates",
        ),
        ("--moves", "never", "invalid value 'never'"),
    ] {
        let given = format!("{option}={value}");
        let outcome = speedloader(&["simulate", "--trace", &right, &given]);
        assert_eq!(
            (outcome.status, outcome.out.as_str()),
            (2, ""),
            "{given}: {outcome:?}"
        );
        assert!(outcome.err.contains(part), "{given}: {outcome:?}");
    }
    let sizes = ["1%"; 65].join(",");
    let outcome = speedloader(&["simulate", "--trace", &right, "--pool", &sizes]);
    assert!(outcome.err.contains("64 can be compared"), "{outcome:?}");
}

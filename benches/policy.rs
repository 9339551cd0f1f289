//! tmp
#![allow(clippy::print_stdout)]
use speedloader_policy::*;
use std::io::BufRead;
fn read(path: &str) -> Trace {
    let f = std::fs::File::open(path).expect("open");
    let r = std::io::BufReader::new(flate2::read::GzDecoder::new(f));
    let mut t = TraceReader::new();
    for l in r.lines() {
        t.line(&l.expect("read")).expect("line");
    }
    t.finish().expect("trace")
}
fn main() {
    let dir = std::env::var("SPEEDLOADER_TRACES").expect("dir");
    for t in std::env::var("T")
        .unwrap_or("gentd26_lora ollama_fleet2025 ollama_fleet2025_sweep".into())
        .split(' ')
    {
        let trace = read(&format!("{dir}/{t}.csv.gz"));
        let fp = trace.footprint_bytes() as f64;
        for pct in [5.0, 10.0, 20.0, 40.0] {
            let cap = (fp * pct / 100.0) as u64;
            let two = Tiers {
                pools: vec![(TierId(0), 10_000_000_000, cap)],
                cold_bytes_per_sec: 1_000_000_000,
            };
            let three = Tiers {
                pools: vec![
                    (TierId(0), 10_000_000_000, cap),
                    (TierId(1), 5_000_000_000, 2 * cap),
                ],
                cold_bytes_per_sec: 1_000_000_000,
            };
            let mut s = format!("{t} {pct}");
            s += &format!(
                " 2t {:.0} 3t {:.0}",
                load_time_bound_secs(&two, &trace),
                load_time_bound_secs(&three, &trace)
            );
            println!("{s}");
        }
    }
}

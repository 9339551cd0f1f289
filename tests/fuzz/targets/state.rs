//! What lies in a state directory or a pool: what was resident, the log of loads, metadata of replicas, what was
//! learned (its contents are the target `learned`); and traces that somebody else has recorded.
#![no_main]

use libfuzzer_sys::fuzz_target;
use speedloader::coordinator::parse_resident;
use speedloader::load_log;
use speedloader_fs::replica::{ReplicaId, ReplicaMeta};
use speedloader_policy::{Learned, TraceReader};

fuzz_target!(|bytes: &[u8]| {
    let _ = Learned::from_bytes(bytes);
    let _ = parse_resident(bytes);
    let _ = (ReplicaMeta::from_bytes(bytes), ReplicaId::parse(bytes));
    assert!(load_log::parse([bytes]).is_ok(), "no contents are an error");
    let mut trace = TraceReader::new();
    let text = String::from_utf8_lossy(bytes);
    if text.lines().all(|line| trace.line(line).is_ok()) {
        let _ = trace.finish();
    }
});

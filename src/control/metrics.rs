//! Prometheus text from a [`StatusView`]. All names are here, with base units (bytes, seconds), the
//! prefix `speedloader_`, and `_total` for what only grows. A name is never given another meaning.

use std::fmt::Write as _;

use crate::view::{
    HomeRole, HomeState, HomeView, StatusView, StepState, StepView, TierState, TierView,
};

/// The exposition format's content type, for HTTP.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Clone, Copy)]
enum Kind {
    Gauge,
    Counter,
}

struct Exposition(String);

impl Exposition {
    /// One metric with all of its samples; none if there are no samples.
    fn metric(&mut self, kind: Kind, name: &str, help: &str, samples: &[(Vec<(&str, &str)>, u64)]) {
        if samples.is_empty() {
            return;
        }
        let kind = match kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            self.0,
            "# HELP speedloader_{name} {help}\n# TYPE speedloader_{name} {kind}"
        );
        for (labels, value) in samples {
            let labels: Vec<String> = labels
                .iter()
                .map(|(label, value)| format!("{label}=\"{}\"", escape(value)))
                .collect();
            let labels = if labels.is_empty() {
                String::new()
            } else {
                format!("{{{}}}", labels.join(","))
            };
            let _ = writeln!(self.0, "speedloader_{name}{labels} {value}");
        }
    }
}

/// The value of a label, as the format wants it.
fn escape(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// The whole exposition, ending in a newline.
pub fn render(status: &StatusView) -> String {
    let mut out = Exposition(String::new());
    daemon(&mut out, status);
    pools(&mut out, status);
    homes(&mut out, status);
    totals(&mut out, status);
    out.0
}

fn daemon(out: &mut Exposition, status: &StatusView) {
    let info = vec![("version", status.version.as_str())];
    out.metric(
        Kind::Gauge,
        "build_info",
        "Always 1; the label is the version.",
        &[(info, 1)],
    );
    let memory = &status.memory;
    let counts = &status.counts;
    for (name, help, value) in [
        (
            "uptime_seconds",
            "Seconds since the daemon started.",
            status.uptime_s,
        ),
        (
            "resident_memory_bytes",
            "Memory of the daemon itself, without pools.",
            status.daemon_rss_bytes,
        ),
        (
            "passthrough_active",
            "1 if the kernel reads the real files.",
            u64::from(status.passthrough.active),
        ),
        (
            "policy_enabled",
            "1 if models are moved automatically.",
            u64::from(status.policy.enabled),
        ),
        (
            "warnings",
            "What `speedloader status` warns of.",
            status.warnings.len() as u64,
        ),
        ("files", "Files in the union.", counts.files),
        ("models", "Models in the catalog.", counts.models),
        (
            "models_resident",
            "Models of which every byte is resident.",
            counts.models_resident,
        ),
        (
            "files_open",
            "Files that are open or mapped.",
            counts.files_open,
        ),
        (
            "transfers_running",
            "Copies that are running.",
            counts.transfers_running,
        ),
        (
            "transfers_queued",
            "Copies that wait for a worker.",
            counts.transfers_queued,
        ),
        (
            "memory_bytes",
            "Memory of this machine.",
            memory.total_bytes,
        ),
        (
            "memory_available_bytes",
            "Memory that the kernel says is available.",
            memory.available_bytes,
        ),
        (
            "memory_reserve_bytes",
            "Memory that pools leave free.",
            memory.reserve_bytes,
        ),
        (
            "memory_held_back_bytes",
            "Memory that pools have given back until there is some again.",
            memory.held_back_bytes,
        ),
    ] {
        out.metric(Kind::Gauge, name, help, &[(Vec::new(), value)]);
    }
}

/// A metric of each pool: name, help, value.
type PoolMetric = (&'static str, &'static str, fn(&TierView) -> u64);

const POOLS: &[PoolMetric] = &[
    (
        "pool_connected",
        "1 if the pool takes and serves replicas.",
        |pool| u64::from(pool.state == TierState::Connected),
    ),
    (
        "pool_lost",
        "1 if the pool cannot be reached, or a step of setting it up has failed.",
        |pool| {
            let has_failed = |step: &StepView| step.state == StepState::Failed;
            let is_lost = match pool.state {
                TierState::Lost => true,
                TierState::Disconnected => pool.steps.iter().any(has_failed),
                TierState::Connecting | TierState::Connected | TierState::Draining => false,
            };
            u64::from(is_lost)
        },
    ),
    (
        "pool_capacity_bytes",
        "How large the pool may become.",
        |pool| pool.capacity_bytes,
    ),
    (
        "pool_configured_bytes",
        "How large the pool may become when there is memory for it.",
        |pool| pool.configured_bytes,
    ),
    (
        "pool_used_bytes",
        "What it holds, draining and unfinished replicas included.",
        |pool| pool.used_bytes,
    ),
    ("pool_free_bytes", "What it could still take now.", |pool| {
        pool.free_bytes
    }),
    (
        "pool_prefaulted_bytes",
        "Of what is free, what is faulted in and cleared for the next replicas.",
        |pool| pool.prefaulted_bytes,
    ),
    (
        "pool_draining_bytes",
        "What demoted replicas hold that somebody reads.",
        |pool| pool.draining_bytes,
    ),
    (
        "pool_reserved_bytes",
        "What running copies have set aside.",
        |pool| pool.reserved_bytes,
    ),
    (
        "pool_spare_bytes",
        "What it holds of files that are served from faster pools; goes when its room is needed.",
        |pool| pool.spare_bytes,
    ),
    (
        "pool_resident_files",
        "Complete, verified replicas.",
        |pool| pool.resident_files,
    ),
    (
        "pool_read_speed_bytes_per_second",
        "Read speed, measured or configured.",
        |pool| pool.speed_bytes_per_sec,
    ),
];

fn pools(out: &mut Exposition, status: &StatusView) {
    for (name, help, value) in POOLS {
        let samples: Vec<_> = status
            .pools
            .iter()
            .map(|pool| {
                (
                    vec![("pool", pool.name.as_str()), ("kind", pool.kind.text())],
                    value(pool),
                )
            })
            .collect();
        out.metric(Kind::Gauge, name, help, &samples);
    }
}

/// A metric of each home: name, help, value if there is one.
type HomeMetric = (&'static str, &'static str, fn(&HomeView) -> Option<u64>);

const HOMES: &[HomeMetric] = &[
    ("home_up", "1 if the home answers.", |home| {
        Some(u64::from(matches!(
            home.state,
            HomeState::Ok | HomeState::Scanning | HomeState::Detached
        )))
    }),
    ("home_files", "Files in the home.", |home| Some(home.files)),
    (
        "home_size_bytes",
        "Bytes of the files in the home.",
        |home| Some(home.size_bytes),
    ),
    (
        "home_last_scan_timestamp_seconds",
        "When it was last read through.",
        |home| home.last_scan_ms.map(|time_ms| time_ms / 1_000),
    ),
];

fn homes(out: &mut Exposition, status: &StatusView) {
    for (name, help, value) in HOMES {
        let samples: Vec<_> = status
            .homes
            .iter()
            .filter_map(|home| {
                Some((
                    vec![("path", home.path.as_str()), ("role", role(home))],
                    value(home)?,
                ))
            })
            .collect();
        out.metric(Kind::Gauge, name, help, &samples);
    }
}

fn role(home: &HomeView) -> &'static str {
    match home.role {
        HomeRole::Writable => "writable",
        HomeRole::Cold => "cold",
    }
}

fn totals(out: &mut Exposition, status: &StatusView) {
    let totals = &status.totals;
    for (name, help, value) in [
        (
            "given_back_bytes_total",
            "Bytes that pools gave back because memory was short.",
            totals.given_back_bytes,
        ),
        ("opens_total", "Opens of files.", totals.opens),
        (
            "opens_resident_total",
            "Opens bound to a replica.",
            totals.opens_resident,
        ),
        (
            "opens_passthrough_total",
            "Opens bound to a real file in the kernel.",
            totals.opens_passthrough,
        ),
        ("loads_total", "Loads of models.", totals.loads),
        (
            "loads_resident_total",
            "Loads of models that were resident.",
            totals.loads_resident,
        ),
        (
            "first_loads_total",
            "Copies that began because somebody was loading the file.",
            totals.first_loads,
        ),
        (
            "opens_held_total",
            "Opens that waited for a copy.",
            totals.opens_held,
        ),
        (
            "read_bytes_total",
            "Bytes that the daemon itself served to readers.",
            totals.read_bytes,
        ),
        (
            "promoted_bytes_total",
            "Bytes copied into pools and verified.",
            totals.promoted_bytes,
        ),
        ("promotions_total", "Replicas published.", totals.promotions),
        (
            "promotions_failed_total",
            "Copies that failed or were thrown away.",
            totals.promotions_failed,
        ),
        ("demotions_total", "Replicas dropped.", totals.demotions),
        (
            "events_lost_total",
            "Events that a follower was too slow for.",
            totals.events_lost,
        ),
    ] {
        out.metric(Kind::Counter, name, help, &[(Vec::new(), value)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> StatusView {
        StatusView {
            version: "1.2.3".to_owned(),
            pools: vec![TierView {
                name: "lo\"cal\\\n".to_owned(),
                used_bytes: 5,
                ..TierView::default()
            }],
            homes: vec![HomeView {
                path: "/m".to_owned(),
                state: HomeState::Hung { since_ms: 1 },
                ..HomeView::default()
            }],
            ..StatusView::default()
        }
    }

    #[test]
    fn the_exposition_is_well_formed() {
        let text = render(&status());
        let mut declared = std::collections::BTreeSet::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(declared.insert(name.to_owned()), "{name} is declared twice");
                assert_eq!(
                    kind == "counter",
                    name.ends_with("_total"),
                    "{name} is a {kind}"
                );
            } else if !line.starts_with('#') {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let name = series.split('{').next().unwrap();
                assert!(declared.contains(name), "{name} has no TYPE line before it");
                assert!(name.starts_with("speedloader_"));
                value.parse::<f64>().unwrap();
            }
        }
        assert!(text.ends_with('\n'));
    }

    #[test]
    fn labels_are_escaped_and_a_hung_home_is_down() {
        let text = render(&status());
        assert!(
            text.contains(r#"speedloader_pool_used_bytes{pool="lo\"cal\\\n",kind="local"} 5"#),
            "{text}"
        );
        assert!(
            text.contains(r#"speedloader_home_up{path="/m",role="writable"} 0"#),
            "{text}"
        );
        assert!(
            !text.contains("home_last_scan_timestamp_seconds"),
            "never scanned is no sample"
        );
    }
}

//! Prometheus text from a [`StatusView`]. All names are here, with base units (bytes, seconds), the
//! prefix `speedloader_`, and `_total` for what only grows. A name is never given another meaning.

use std::fmt::Write as _;

use crate::view::{HomeRole, HomeState, StatusView, TierKind, TierState};

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

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.metric(Kind::Gauge, name, help, &[(Vec::new(), value)]);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.metric(Kind::Counter, name, help, &[(Vec::new(), value)]);
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
    out.gauge(
        "uptime_seconds",
        "Seconds since the daemon started.",
        status.uptime_s,
    );
    out.gauge(
        "resident_memory_bytes",
        "Memory of the daemon itself, without pools.",
        status.daemon_rss_bytes,
    );
    let passthrough = u64::from(status.passthrough.active);
    out.gauge(
        "passthrough_active",
        "1 if reads go to the real files inside the kernel.",
        passthrough,
    );
    let automatic = u64::from(status.policy.enabled);
    out.gauge(
        "policy_enabled",
        "1 if models are moved automatically.",
        automatic,
    );
    out.gauge(
        "warnings",
        "What a person should look at; `speedloader status` shows it.",
        status.warnings.len() as u64,
    );
    let counts = &status.counts;
    out.gauge("files", "Files in the union.", counts.files);
    out.gauge("models", "Models in the catalog.", counts.models);
    out.gauge(
        "models_resident",
        "Models of which every byte is resident.",
        counts.models_resident,
    );
    out.gauge(
        "files_open",
        "Files that are open or mapped.",
        counts.files_open,
    );
    out.gauge(
        "transfers_running",
        "Copies that are running.",
        counts.transfers_running,
    );
    out.gauge(
        "transfers_queued",
        "Copies that wait for a worker.",
        counts.transfers_queued,
    );
    let memory = &status.memory;
    out.gauge(
        "memory_bytes",
        "Memory of this machine.",
        memory.total_bytes,
    );
    out.gauge(
        "memory_available_bytes",
        "Memory that the kernel says is available.",
        memory.available_bytes,
    );
    out.gauge(
        "memory_reserve_bytes",
        "Memory that pools leave free.",
        memory.reserve_bytes,
    );
}

fn pools(out: &mut Exposition, status: &StatusView) {
    let samples = |value: fn(&crate::view::TierView) -> u64| -> Vec<(Vec<(&str, &str)>, u64)> {
        let labels = |pool: &'_ crate::view::TierView| {
            let kind = match pool.kind {
                TierKind::Local => "local",
                TierKind::Remote => "remote",
            };
            (kind, value(pool))
        };
        status
            .pools
            .iter()
            .map(|pool| {
                let (kind, value) = labels(pool);
                (vec![("pool", pool.name.as_str()), ("kind", kind)], value)
            })
            .collect()
    };
    let mut gauge = |name: &str, help: &str, value: fn(&crate::view::TierView) -> u64| {
        out.metric(Kind::Gauge, name, help, &samples(value));
    };
    gauge(
        "pool_connected",
        "1 if the pool takes and serves replicas.",
        |pool| u64::from(pool.state == TierState::Connected),
    );
    gauge(
        "pool_capacity_bytes",
        "How large the pool may become.",
        |pool| pool.capacity_bytes,
    );
    gauge(
        "pool_used_bytes",
        "What the pool holds, draining and unfinished replicas included.",
        |pool| pool.used_bytes,
    );
    gauge(
        "pool_free_bytes",
        "What the pool could still take now.",
        |pool| pool.free_bytes,
    );
    gauge(
        "pool_draining_bytes",
        "What demoted replicas still hold, because somebody reads them.",
        |pool| pool.draining_bytes,
    );
    gauge(
        "pool_reserved_bytes",
        "What running copies have set aside.",
        |pool| pool.reserved_bytes,
    );
    gauge(
        "pool_resident_files",
        "Complete, verified replicas in the pool.",
        |pool| pool.resident_files,
    );
    gauge(
        "pool_read_speed_bytes_per_second",
        "The pool's read speed, measured or configured.",
        |pool| pool.speed_bytes_per_sec,
    );
}

fn homes(out: &mut Exposition, status: &StatusView) {
    let samples =
        |value: fn(&crate::view::HomeView) -> Option<u64>| -> Vec<(Vec<(&str, &str)>, u64)> {
            status
                .homes
                .iter()
                .filter_map(|home| {
                    let role = match home.role {
                        HomeRole::Writable => "writable",
                        HomeRole::Cold => "cold",
                    };
                    Some((
                        vec![("path", home.path.as_str()), ("role", role)],
                        value(home)?,
                    ))
                })
                .collect()
        };
    let mut gauge = |name: &str, help: &str, value: fn(&crate::view::HomeView) -> Option<u64>| {
        out.metric(Kind::Gauge, name, help, &samples(value));
    };
    gauge("home_up", "1 if the home answers.", |home| {
        Some(u64::from(matches!(
            home.state,
            HomeState::Ok | HomeState::Scanning
        )))
    });
    gauge("home_files", "Files in the home.", |home| Some(home.files));
    gauge(
        "home_size_bytes",
        "Bytes of the files in the home.",
        |home| Some(home.size_bytes),
    );
    gauge(
        "home_last_scan_timestamp_seconds",
        "When the home was last read through.",
        |home| home.last_scan_ms.map(|time_ms| time_ms / 1_000),
    );
}

fn totals(out: &mut Exposition, status: &StatusView) {
    let totals = &status.totals;
    out.counter("opens_total", "Opens of files.", totals.opens);
    out.counter(
        "opens_resident_total",
        "Opens bound to a replica.",
        totals.opens_resident,
    );
    out.counter(
        "opens_passthrough_total",
        "Opens bound to a real file in the kernel.",
        totals.opens_passthrough,
    );
    out.counter("loads_total", "Loads of models.", totals.loads);
    out.counter(
        "loads_resident_total",
        "Loads of models that were resident.",
        totals.loads_resident,
    );
    out.counter(
        "read_bytes_total",
        "Bytes that the daemon itself served to readers.",
        totals.read_bytes,
    );
    out.counter(
        "promoted_bytes_total",
        "Bytes copied into pools and verified.",
        totals.promoted_bytes,
    );
    out.counter("promotions_total", "Replicas published.", totals.promotions);
    out.counter(
        "promotions_failed_total",
        "Copies that failed or were thrown away.",
        totals.promotions_failed,
    );
    out.counter("demotions_total", "Replicas dropped.", totals.demotions);
    out.counter(
        "events_lost_total",
        "Events that a follower was too slow for.",
        totals.events_lost,
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::{HomeView, TierView};

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

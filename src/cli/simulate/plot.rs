//! What a simulation found, as a picture: load time, and the RAM that a byte not read cold costs,
//! against the size of the pool; a line for each policy. SVG as text, readable on any background.

use std::fmt::Write;

use crate::view::human::size;

/// One policy at one size.
#[derive(Clone, Debug)]
pub(super) struct Point {
    pub(super) policy: &'static str,
    pub(super) pool_bytes: f64,
    pub(super) load_time_s: f64,
    pub(super) bound_s: f64,
    /// Bytes of pools for each byte that was not read cold; `None`: none was saved.
    pub(super) ram_per_byte_saved: Option<f64>,
}

const WIDTH: f64 = 860.0;
const PANEL_HEIGHT: f64 = 300.0;
const LEFT: f64 = 90.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 50.0;
const GAP: f64 = 90.0;
/// Colours that also those who see red and green alike can tell apart (Okabe and Ito).
const COLOURS: [&str; 8] = [
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C6D1F", "#666666",
];

/// The picture; one policy's line is drawn thicker.
pub(super) fn svg(points: &[Point], prominent: &str) -> String {
    let height = TOP + 2.0 * PANEL_HEIGHT + 2.0 * GAP;
    let mut out = String::new();
    line(
        &mut out,
        format_args!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="13">"#
        ),
    );
    line(
        &mut out,
        format_args!(r#"<rect width="100%" height="100%" fill="white"/>"#),
    );
    let mut lines = series(points, |point| Some(point.load_time_s));
    let bound = points.iter().map(|p| (p.pool_bytes, p.bound_s)).collect();
    lines.push(("bound", sorted(bound)));
    panel(&mut out, TOP, "Load time, seconds", &lines, prominent);
    let lines = series(points, |point| point.ram_per_byte_saved);
    let second = TOP + PANEL_HEIGHT + GAP;
    let title = "RAM per byte not read cold, bytes";
    panel(&mut out, second, title, &lines, prominent);
    out.push_str("</svg>\n");
    out
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(out, "{text}");
}

type Series = (&'static str, Vec<(f64, f64)>);

/// A line for each policy, in the order in which they come.
fn series(points: &[Point], value: impl Fn(&Point) -> Option<f64>) -> Vec<Series> {
    let mut lines: Vec<Series> = Vec::new();
    for point in points {
        if lines.iter().all(|(policy, _)| *policy != point.policy) {
            lines.push((point.policy, Vec::new()));
        }
        let own = lines.iter_mut().find(|(policy, _)| *policy == point.policy);
        if let (Some((_, own)), Some(value)) = (own, value(point)) {
            own.push((point.pool_bytes, value));
        }
    }
    for (_, own) in &mut lines {
        *own = sorted(std::mem::take(own));
    }
    lines
}

fn sorted(mut points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points.dedup_by(|a, b| a.0.total_cmp(&b.0).is_eq());
    points
}

/// A scale from 0 to a little above the greatest value, in steps people count in.
struct Scale {
    step: f64,
    most: f64,
}

impl Scale {
    fn new(values: impl Iterator<Item = f64>) -> Self {
        let most = values.fold(0.0, f64::max).max(f64::MIN_POSITIVE * 1e9);
        let power = 10f64.powf((most / 5.0).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|times| times * power);
        let step = step.into_iter().find(|step| most / step <= 5.0);
        let step = step.unwrap_or(most);
        Self {
            step,
            most: (most / step).ceil() * step,
        }
    }

    fn ticks(&self) -> impl Iterator<Item = f64> + '_ {
        let count = (self.most / self.step).round() as u32;
        (0..=count).map(|at| f64::from(at) * self.step)
    }
}

fn panel(out: &mut String, top: f64, title: &str, lines: &[Series], prominent: &str) {
    let all = || lines.iter().flat_map(|(_, points)| points);
    let (across, up) = (
        Scale::new(all().map(|p| p.0)),
        Scale::new(all().map(|p| p.1)),
    );
    let right = WIDTH - RIGHT;
    let bottom = top + PANEL_HEIGHT;
    let x = |value: f64| LEFT + (right - LEFT) * value / across.most;
    let y = |value: f64| bottom - PANEL_HEIGHT * value / up.most;
    line(
        out,
        format_args!(
            r#"<text x="{LEFT}" y="{:.0}" font-weight="bold">{title}</text>"#,
            top - 18.0
        ),
    );
    for tick in up.ticks() {
        let at = y(tick);
        line(
            out,
            format_args!(
                r##"<line x1="{LEFT}" y1="{at:.1}" x2="{right}" y2="{at:.1}" stroke="#ddd"/><text x="{:.0}" y="{:.1}" text-anchor="end" fill="#444">{}</text>"##,
                LEFT - 8.0,
                at + 4.0,
                plain(tick)
            ),
        );
    }
    for tick in across.ticks() {
        line(
            out,
            format_args!(
                r##"<text x="{:.1}" y="{:.0}" text-anchor="middle" fill="#444">{}</text>"##,
                x(tick),
                bottom + 20.0,
                size(tick as u64)
            ),
        );
    }
    line(
        out,
        format_args!(
            r##"<text x="{:.0}" y="{:.0}" text-anchor="middle" fill="#444">pool in local RAM</text>"##,
            (LEFT + right) / 2.0,
            bottom + 42.0
        ),
    );
    for (at, (policy, points)) in lines.iter().enumerate() {
        let colour = COLOURS[at % COLOURS.len()];
        let dashes = match (*policy, at / COLOURS.len()) {
            ("bound", _) => r#" stroke-dasharray="2 4""#,
            (_, 0) => "",
            _ => r#" stroke-dasharray="7 4""#,
        };
        let wide = if *policy == prominent { 3.5 } else { 1.6 };
        let path: Vec<String> = points
            .iter()
            .map(|p| format!("{:.1},{:.1}", x(p.0), y(p.1)))
            .collect();
        let stroke = format!(r#"fill="none" stroke="{colour}" stroke-width="{wide}"{dashes}"#);
        line(
            out,
            format_args!(r#"<polyline points="{}" {stroke}/>"#, path.join(" ")),
        );
        for point in points {
            line(
                out,
                format_args!(
                    r#"<circle cx="{:.1}" cy="{:.1}" r="3" fill="{colour}"/>"#,
                    x(point.0),
                    y(point.1)
                ),
            );
        }
        let legend = top + 8.0 + 20.0 * at as f64;
        line(
            out,
            format_args!(
                r#"<line x1="{:.0}" y1="{legend:.0}" x2="{:.0}" y2="{legend:.0}" {stroke}/><text x="{:.0}" y="{:.0}">{policy}</text>"#,
                right + 16.0,
                right + 46.0,
                right + 54.0,
                legend + 4.0
            ),
        );
    }
}

/// A number as short as it can be read exactly enough.
fn plain(value: f64) -> String {
    // Fewer than six decimals do not show it.
    if value > 0.0 && value < 1e-4 {
        let text = format!("{value:.3e}");
        let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
        let digits = digits.trim_end_matches('0').trim_end_matches('.');
        return format!("{digits}e{power}");
    }
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(policy: &'static str, pool_bytes: f64, load_time_s: f64) -> Point {
        Point {
            policy,
            pool_bytes,
            load_time_s,
            bound_s: load_time_s / 2.0,
            ram_per_byte_saved: (load_time_s < 100.0).then_some(pool_bytes / 1e12),
        }
    }

    #[test]
    fn every_policy_has_a_line_in_both_panels() {
        let text = svg(
            &[
                point("auto", 2e9, 50.0),
                point("lru", 2e9, 60.0),
                point("auto", 1e9, 80.0),
                point("lru", 1e9, 90.0),
            ],
            "auto",
        );
        assert_eq!(
            text.matches("<polyline").count(),
            5,
            "two, two, and the bound"
        );
        assert_eq!(text.matches(">lru</text>").count(), 2);
        assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n"));
    }

    #[test]
    fn what_has_no_value_is_left_out_and_nothing_is_not_a_number() {
        for points in [vec![], vec![point("auto", 1e9, 100.0)]] {
            let text = svg(&points, "auto");
            assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
        }
    }

    /// Of load times of nanoseconds every tick was 0.
    #[test]
    fn small_numbers_have_ticks_too() {
        let shown = [0.0, 1e-9, 2.5e-7, 6.000000001e-5, 0.0002, 0.15, 250.0].map(plain);
        assert_eq!(
            shown,
            ["0", "1e-9", "2.5e-7", "6e-5", "0.0002", "0.15", "250"]
        );
        let text = svg(&[point("auto", 1e3, 4e-9), point("lru", 1e3, 5e-9)], "auto");
        assert!(text.contains(">4e-9</text>"), "{text}");
    }

    #[test]
    fn scales_end_at_a_step_that_people_count_in() {
        let scale = Scale::new([3.0, 173.0].into_iter());
        assert_eq!((scale.step, scale.most), (50.0, 200.0));
        assert_eq!(scale.ticks().count(), 5);
    }
}

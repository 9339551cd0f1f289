//! Interleaved rounds and what is printed of them.
//!
//! In each round each case is measured once, its two sides one after the other, in turn in both
//! orders: what else the machine does meets both. The ratio is the median of the rounds' ratios.
//! Goals are judged by the clock. Where all work is the processor's the ratio by processor time is told
//! beside it: on a shared machine the clock on the wall measures neighbours, too. It knows nothing of
//! what the daemon does, where that and not the kernel moves the bytes.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::Options;
use super::machine;

/// What a ratio shall be.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// So much or more.
    AtLeast(f64),
    /// So much or less.
    AtMost(f64),
}

impl Goal {
    fn holds(self, ratio: f64) -> bool {
        match self {
            Goal::AtLeast(least) => ratio >= least,
            Goal::AtMost(most) => ratio <= most,
        }
    }

    fn text(self) -> String {
        match self {
            Goal::AtLeast(least) => format!(">= {least}"),
            Goal::AtMost(most) => format!("<= {most}"),
        }
    }
}

/// What one measurement found.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// The figure by the clock.
    pub figure: f64,
    /// The same with processor time in place of time, where that is what it is made of.
    pub by_processor: Option<f64>,
}

impl Sample {
    /// So much work in that time and processor time.
    pub fn rate(amount: f64, elapsed: Duration, processor: Duration) -> Sample {
        Sample {
            figure: amount / elapsed.as_secs_f64(),
            by_processor: Some(amount / processor.as_secs_f64()),
        }
    }

    /// The rate of all of these together, each of the same work.
    pub fn together(rates: &[Sample]) -> Sample {
        let mean = |figures: Vec<f64>| {
            figures.len() as f64 / figures.iter().map(|figure| figure.recip()).sum::<f64>()
        };
        let by_processor: Option<Vec<f64>> = rates.iter().map(|rate| rate.by_processor).collect();
        Sample {
            figure: mean(rates.iter().map(|rate| rate.figure).collect()),
            by_processor: by_processor.map(mean),
        }
    }
}

impl From<f64> for Sample {
    fn from(figure: f64) -> Sample {
        Sample {
            figure,
            by_processor: None,
        }
    }
}

/// One side of a case: measures once.
pub type Side<'a> = Box<dyn FnMut() -> Result<Sample> + 'a>;

/// A side from a closure.
pub fn side<'a, T: Into<Sample>>(mut measure: impl FnMut() -> Result<T> + 'a) -> Side<'a> {
    Box::new(move || measure().map(Into::into))
}

/// Two ways to do the same.
pub struct Case<'a> {
    /// What is done.
    pub name: String,
    /// Of both figures.
    pub unit: &'static str,
    /// For the ratio of ours to the other; `None`: shown, not judged.
    pub goal: Option<Goal>,
    /// Ours.
    pub ours: Side<'a>,
    /// What it is compared with.
    pub other: Side<'a>,
}

/// Figures of some rounds.
#[derive(Clone, Debug, Default)]
pub struct Figures(Vec<f64>);

impl Figures {
    /// Of these.
    pub fn new(mut figures: Vec<f64>) -> Figures {
        figures.sort_by(f64::total_cmp);
        Figures(figures)
    }

    /// The figure below which a share of all lies.
    pub fn quantile(&self, share: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let at = (share * last as f64).round() as usize;
        self.0.get(at).copied().unwrap_or(f64::NAN)
    }

    /// The one in the middle.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }
}

/// Everything that one benchmark found.
pub struct Report {
    title: &'static str,
    facts: Value,
    load_before: String,
    json: bool,
    check: bool,
    tables: Vec<Value>,
    missed: Vec<String>,
}

impl Report {
    /// Begins; prints the machine's facts.
    pub fn start(title: &'static str, options: &Options) -> Report {
        let facts = machine::facts();
        if !options.json {
            println!("{title}");
            let fact = |name: &str| facts[name].to_string().trim_matches('"').to_owned();
            println!(
                "Linux {}, {} cores ({}), shmem_enabled {}, load average {}; {} rounds\n",
                fact("kernel"),
                fact("cores"),
                fact("processor"),
                fact("shmem_enabled"),
                fact("load_average"),
                options.rounds
            );
        }
        Report {
            title,
            facts,
            load_before: machine::load_average(),
            json: options.json,
            check: options.check,
            tables: Vec::new(),
            missed: Vec::new(),
        }
    }

    /// Measures all cases and adds their table: `ours` and `other` name the columns.
    ///
    /// # Errors
    /// When a measurement fails.
    pub fn compare(
        &mut self,
        title: &str,
        (ours, other): (&str, &str),
        rounds: usize,
        cases: &mut [Case<'_>],
    ) -> Result<()> {
        let mut figures = vec![(Vec::new(), Vec::new()); cases.len()];
        for round in 0..rounds {
            for (case, figures) in cases.iter_mut().zip(&mut figures) {
                if round % 2 == 0 {
                    figures.0.push((case.ours)()?);
                    figures.1.push((case.other)()?);
                } else {
                    figures.1.push((case.other)()?);
                    figures.0.push((case.ours)()?);
                }
            }
        }
        let mut rows = Vec::new();
        for (case, figures) in cases.iter().zip(figures) {
            rows.push(self.row(case, figures));
        }
        let load = machine::load_average();
        if !self.json {
            println!("{title} (load average {load})\n");
            println!(
                "| | {ours} | {other} | ratio (quartiles) | by processor time | goal | holds |"
            );
            println!("|---|---|---|---|---|---|---|");
            rows.iter().for_each(print_row);
            println!();
        }
        self.tables.push(json!({
            "title": title, "ours": ours, "other": other, "load_average": load, "rows": rows,
        }));
        Ok(())
    }

    fn row(&mut self, case: &Case<'_>, (ours, other): (Vec<Sample>, Vec<Sample>)) -> Value {
        let pairs = || ours.iter().zip(&other);
        let ratios = Figures::new(pairs().map(|(a, b)| a.figure / b.figure).collect());
        let by_processor = pairs().filter_map(|(a, b)| Some(a.by_processor? / b.by_processor?));
        let by_processor = Figures::new(by_processor.collect());
        let by_processor = (!by_processor.0.is_empty()).then(|| by_processor.median());
        let figures =
            |samples: &[Sample]| Figures::new(samples.iter().map(|sample| sample.figure).collect());
        let (ours, other) = (figures(&ours), figures(&other));
        let holds = case.goal.map(|goal| goal.holds(ratios.median()));
        if holds == Some(false) {
            self.missed.push(case.name.clone());
        }
        json!({
            "name": case.name,
            "unit": case.unit,
            "ours": ours.median(),
            "other": other.median(),
            "ratio": ratios.median(),
            "ratio_by_processor_time": by_processor,
            "ratio_quartiles": [ratios.quantile(0.25), ratios.quantile(0.75)],
            "goal": case.goal.map(Goal::text),
            "holds": holds,
        })
    }

    /// Adds figures that are judged by themselves: name, figure as text, and what it shall be.
    pub fn facts(&mut self, title: &str, rows: &[Fact]) {
        let load = machine::load_average();
        if !self.json {
            println!("{title} (load average {load})\n");
            println!("| | | goal | holds |");
            println!("|---|---|---|---|");
        }
        let mut values = Vec::new();
        for row in rows {
            let holds = row.goal.map(|goal| goal.holds(row.figure));
            if holds == Some(false) {
                self.missed.push(row.name.clone());
            }
            let goal = row.goal.map(|goal| format!("{} {}", goal.text(), row.unit));
            if !self.json {
                println!(
                    "| {} | {} {} | {} | {} |",
                    row.name,
                    number(row.figure),
                    row.unit,
                    goal.clone().unwrap_or_default(),
                    yes_no(holds)
                );
            }
            values.push(json!({
                "name": row.name, "figure": row.figure, "unit": row.unit, "goal": goal, "holds": holds,
            }));
        }
        if !self.json {
            println!();
        }
        self.tables
            .push(json!({"title": title, "load_average": load, "rows": values}));
    }

    /// Adds a table of any form: the first row names the columns.
    pub fn table(&mut self, title: &str, header: &[&str], rows: Vec<Vec<Value>>) {
        let load = machine::load_average();
        if !self.json {
            println!("{title} (load average {load})\n");
            println!("| {} |", header.join(" | "));
            println!("|{}", "---|".repeat(header.len()));
            for row in &rows {
                let cell = |value: &Value| match value.as_f64() {
                    Some(figure) => number(figure),
                    None => value.as_str().unwrap_or("-").to_owned(),
                };
                let cells: Vec<String> = row.iter().map(cell).collect();
                println!("| {} |", cells.join(" | "));
            }
            println!();
        }
        self.tables
            .push(json!({"title": title, "load_average": load, "columns": header, "rows": rows}));
    }

    /// A line of words.
    pub fn note(&mut self, text: &str) {
        if !self.json {
            println!("{text}\n");
        }
        self.tables.push(json!({"note": text}));
    }

    /// A goal that cannot be measured here, and why: it counts as missed.
    pub fn cannot_measure(&mut self, why: &str) {
        self.note(why);
        self.missed.push(why.to_owned());
    }

    /// Ends: the sum of it, or all of it as JSON.
    ///
    /// # Errors
    /// When nothing was measured; with `--check`, when a goal was missed.
    pub fn finish(self) -> Result<()> {
        let has_figures = self.tables.iter().any(|table| table.get("note").is_none());
        ensure!(
            has_figures || !self.missed.is_empty(),
            "nothing was measured: no table is meant by --only; without it all are"
        );
        if self.json {
            let all = json!({
                "benchmark": self.title,
                "machine": self.facts,
                "load_average_before": self.load_before,
                "load_average_after": machine::load_average(),
                "tables": self.tables,
                "missed": self.missed,
            });
            println!("{all:#}");
        } else if self.missed.is_empty() {
            println!(
                "Every goal is met (load average {}).",
                machine::load_average()
            );
        } else {
            println!(
                "Missed: {} (load average {}).",
                self.missed.join("; "),
                machine::load_average()
            );
        }
        ensure!(
            !self.check || self.missed.is_empty(),
            "a goal was missed, and --check was given"
        );
        Ok(())
    }
}

/// One figure that is judged by itself.
pub struct Fact {
    /// What it is.
    pub name: String,
    /// How much.
    pub figure: f64,
    /// Of what.
    pub unit: &'static str,
    /// What it shall be.
    pub goal: Option<Goal>,
}

impl Fact {
    /// A figure that is shown, not judged.
    pub fn shown(name: impl Into<String>, figure: f64, unit: &'static str) -> Fact {
        Fact {
            name: name.into(),
            figure,
            unit,
            goal: None,
        }
    }

    /// A figure with a goal.
    pub fn judged(name: impl Into<String>, figure: f64, unit: &'static str, goal: Goal) -> Fact {
        Fact {
            goal: Some(goal),
            ..Fact::shown(name, figure, unit)
        }
    }
}

fn print_row(row: &Value) {
    let figure = |name: &str| row[name].as_f64().unwrap_or(f64::NAN);
    let unit = row["unit"].as_str().unwrap_or_default();
    let quartile = |at: usize| row["ratio_quartiles"][at].as_f64().unwrap_or(f64::NAN);
    println!(
        "| {} | {} {unit} | {} {unit} | {:.2} ({:.2}-{:.2}) | {} | {} | {} |",
        row["name"].as_str().unwrap_or_default(),
        number(figure("ours")),
        number(figure("other")),
        figure("ratio"),
        quartile(0),
        quartile(1),
        row["ratio_by_processor_time"]
            .as_f64()
            .map(|ratio| format!("{ratio:.2}"))
            .unwrap_or_default(),
        row["goal"].as_str().unwrap_or_default(),
        yes_no(row["holds"].as_bool()),
    );
}

/// Three digits that count.
fn number(figure: f64) -> String {
    match figure.abs() {
        size if size >= 100.0 => format!("{figure:.0}"),
        size if size >= 10.0 => format!("{figure:.1}"),
        size if size >= 0.1 => format!("{figure:.2}"),
        _ => format!("{figure:.3}"),
    }
}

fn yes_no(holds: Option<bool>) -> &'static str {
    match holds {
        Some(true) => "yes",
        Some(false) => "**no**",
        None => "",
    }
}

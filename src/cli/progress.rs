//! Progress of copies while somebody waits: bars on a terminal, plain lines elsewhere. Shows only what
//! the daemon has measured; says nothing that the final answer would not confirm.

use std::collections::BTreeMap;
use std::io::Write;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::view::human::{percent, printable, rate, size};
use crate::view::{StepState, StepView, TransferState, TransferView, View};

/// A bar for every file of a model with hundreds of shards would fill the screen.
const BARS_MAX: usize = 8;
const BAR: &str = "{prefix:!40} {wide_bar} {percent:>3} % of {binary_total_bytes} {msg}";
const STEP: &str = "{wide_msg}";
/// Lines are printed when so many percent have been added.
const LINE_STEP_PERCENT: u8 = 10;

/// Shows progress frames as they come.
pub(super) enum Progress<'a> {
    /// On a terminal.
    Bars(Bars),
    /// Elsewhere.
    Lines(Lines<'a>),
    /// Nowhere.
    Silent,
}

impl Progress<'_> {
    /// Shows one frame; of sentences those that were not said last.
    pub(super) fn show(&mut self, view: View) {
        match (view, self) {
            (View::Transfers(view), Self::Bars(bars)) => bars.show(&view.transfers),
            (View::Transfers(view), Self::Lines(lines)) => lines.show(&view.transfers),
            (View::Steps(view), Self::Bars(bars)) => {
                bars.show_step(&view.steps);
                for line in bars.steps.news(view.steps) {
                    // Progress that cannot be written is not worth failing for.
                    let _ = bars.all.println(line);
                }
            }
            (View::Steps(view), Self::Lines(lines)) => {
                for line in lines.steps.news(view.steps) {
                    let _ = writeln!(lines.err, "{line}");
                }
            }
            (View::Done(view), Self::Bars(bars)) => {
                if let Some(line) = bars.said.news(&view.text) {
                    let _ = bars.all.println(line);
                }
            }
            (View::Done(view), Self::Lines(lines)) => {
                if let Some(line) = lines.said.news(&view.text) {
                    let _ = writeln!(lines.err, "{line}");
                }
            }
            _ => {}
        }
    }

    /// Removes bars, so that the answer stands alone.
    pub(super) fn finish(self) {
        if let Self::Bars(bars) = self {
            let _ = bars.all.clear();
        }
    }
}

/// Steps as they were shown last.
#[derive(Default)]
pub(super) struct Steps(Vec<StepView>);

impl Steps {
    /// A line for each step that has come to something since.
    fn news(&mut self, steps: Vec<StepView>) -> Vec<String> {
        let is_over =
            |step: &StepView| !matches!(step.state, StepState::Waiting | StepState::Running);
        let news = steps
            .iter()
            .filter(|step| is_over(step) && !self.0.contains(step))
            .map(|step| {
                let line = format!("{}: {} {}", step.step, step.state.word(), step.text);
                printable(line.trim_end())
            });
        let news = news.collect();
        self.0 = steps;
        news
    }
}

/// The sentence that was shown last.
#[derive(Default)]
pub(super) struct Said(String);

impl Said {
    /// It as a line, if it is another one.
    fn news(&mut self, text: &str) -> Option<String> {
        if self.0 == text {
            return None;
        }
        self.0 = text.to_owned();
        Some(printable(text))
    }
}

/// A bar for each copy.
pub(super) struct Bars {
    all: MultiProgress,
    steps: Steps,
    said: Said,
    bars: BTreeMap<u64, ProgressBar>,
    /// A line for the step that says how far it is.
    step: Option<ProgressBar>,
}

impl Bars {
    pub(super) fn new() -> Self {
        Self {
            all: MultiProgress::with_draw_target(ProgressDrawTarget::stderr()),
            steps: Steps::default(),
            said: Said::default(),
            bars: BTreeMap::new(),
            step: None,
        }
    }

    fn show_step(&mut self, steps: &[StepView]) {
        let is_told = |step: &&StepView| step.state == StepState::Running && !step.text.is_empty();
        let Some(step) = steps.iter().find(is_told) else {
            if let Some(line) = self.step.take() {
                line.finish_and_clear();
            }
            return;
        };
        let line = self.step.get_or_insert_with(|| {
            let line = ProgressBar::no_length().with_style(style(STEP));
            self.all.add(line)
        });
        line.set_message(printable(&format!("{}: {}", step.step, step.text)));
    }

    fn show(&mut self, transfers: &[TransferView]) {
        for transfer in transfers {
            if !self.bars.contains_key(&transfer.id)
                && !transfer.state.is_final()
                && self.bars.len() < BARS_MAX
            {
                let bar = self
                    .all
                    .add(ProgressBar::new(transfer.total_bytes).with_style(style(BAR)));
                self.bars.insert(transfer.id, bar);
            }
            let Some(bar) = self.bars.get(&transfer.id) else {
                continue;
            };
            bar.set_position(transfer.done_bytes);
            bar.set_prefix(printable(&transfer.file));
            bar.set_message(remark(transfer));
            if transfer.state.is_final() {
                bar.finish_and_clear();
                self.bars.remove(&transfer.id);
            }
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn remark(transfer: &TransferView) -> String {
    match transfer.state {
        TransferState::Copying => rate(transfer.rate_bytes_per_sec),
        other => other.text().to_owned(),
    }
}

/// A line now and then about all copies together.
pub(super) struct Lines<'a> {
    err: &'a mut dyn Write,
    printed_percent: Option<u8>,
    steps: Steps,
    said: Said,
}

impl<'a> Lines<'a> {
    pub(super) fn new(err: &'a mut dyn Write) -> Self {
        Self {
            err,
            printed_percent: None,
            steps: Steps::default(),
            said: Said::default(),
        }
    }

    fn show(&mut self, transfers: &[TransferView]) {
        let done: u64 = transfers.iter().map(|transfer| transfer.done_bytes).sum();
        let total: u64 = transfers.iter().map(|transfer| transfer.total_bytes).sum();
        let speed: u64 = transfers
            .iter()
            .map(|transfer| transfer.rate_bytes_per_sec)
            .sum();
        let now = percent(done, total);
        let due = self
            .printed_percent
            .is_none_or(|printed| now >= printed.saturating_add(LINE_STEP_PERCENT));
        if transfers.is_empty() || !due {
            return;
        }
        self.printed_percent = Some(now);
        // Progress that cannot be written is not worth failing for.
        let _ = writeln!(
            self.err,
            "{now} % of {} copied, {}",
            size(total),
            rate(speed)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::TransfersView;

    fn frame(done: &[u64]) -> View {
        let transfers = done.iter().zip(1..).map(|(&done_bytes, id)| TransferView {
            id,
            file: "a\x1b[2J".to_owned(),
            done_bytes,
            total_bytes: 100,
            state: if done_bytes == 100 {
                TransferState::Done
            } else {
                TransferState::Copying
            },
            ..TransferView::default()
        });
        View::Transfers(TransfersView {
            transfers: transfers.collect(),
        })
    }

    #[test]
    fn lines_come_now_and_then() {
        let mut err = Vec::new();
        let mut progress = Progress::Lines(Lines::new(&mut err));
        for done in [0, 1, 9, 20, 21, 22, 80, 100] {
            progress.show(frame(&[done, done]));
        }
        progress.show(frame(&[]));
        progress.finish();
        let text = String::from_utf8(err).unwrap();
        let shown: Vec<&str> = text
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(now, _)| now)
            .collect();
        assert_eq!(shown, ["0", "20", "80", "100"]);
    }

    #[test]
    fn a_sentence_is_said_once() {
        let mut err = Vec::new();
        let mut progress = Progress::Lines(Lines::new(&mut err));
        for text in ["waits for a", "waits for a", "waits for b\x1b[2J"] {
            progress.show(View::Done(crate::view::DoneView {
                text: text.to_owned(),
            }));
        }
        progress.finish();
        let text = String::from_utf8(err).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(!text.contains('\x1b'), "{text:?}");
    }

    #[test]
    fn a_step_that_says_how_far_it_is_has_a_line_as_long_as_it_runs() {
        assert!(
            ProgressStyle::with_template(STEP).is_ok(),
            "the template is one"
        );
        let mut bars = Bars::new();
        bars.all = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        let mut show = |state, text: &str| {
            bars.show_step(&[StepView {
                step: "take its memory".to_owned(),
                state,
                text: text.to_owned(),
                ..StepView::default()
            }]);
            bars.step.as_ref().map(ProgressBar::message)
        };
        assert_eq!(show(StepState::Running, ""), None);
        assert_eq!(
            show(StepState::Running, "1.00 GiB of 2.00 GiB\x1b[2J").as_deref(),
            Some("take its memory: 1.00 GiB of 2.00 GiB\\u{1b}[2J")
        );
        assert_eq!(show(StepState::Done, "2.00 GiB on meadowlark"), None);
    }

    #[test]
    fn a_bar_is_drawn_for_each_copy_within_bounds() {
        assert!(
            ProgressStyle::with_template(BAR).is_ok(),
            "the template is one"
        );
        let mut bars = Bars {
            steps: Steps::default(),
            said: Said::default(),
            all: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()),
            bars: BTreeMap::new(),
            step: None,
        };
        let View::Transfers(view) = frame(&[50; 20]) else {
            panic!("as made above")
        };
        bars.show(&view.transfers);
        assert_eq!(bars.bars.len(), BARS_MAX);
        assert!(
            bars.bars
                .values()
                .all(|bar| !bar.prefix().chars().any(char::is_control))
        );
        let View::Transfers(view) = frame(&[100; 20]) else {
            panic!("as made above")
        };
        bars.show(&view.transfers);
        assert!(bars.bars.is_empty());
    }
}

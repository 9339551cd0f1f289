//! `speedloader top`: models, pools and transfers, live, in a terminal. What is shown comes from the same
//! commands as every other view, and keys ask the same commands as the verbs. Drawing is a function of the
//! state, so tests draw without a terminal.

mod state;
mod draw;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use ratatui::crossterm::ExecutableCommand;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::{DefaultTerminal, Terminal};
use rustix::process::{Signal, kill_current_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::context::Context;
use crate::command::{Code, Command, Message};
use crate::view::View;

use state::{Asked, Seen, State};

/// Keys wait for a daemon that does not answer no longer than this.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a signal is looked for while no key comes.
const LOOK_AROUND: Duration = Duration::from_millis(200);

/// Watch models, pools and transfers in the terminal, and steer them by keys
#[derive(Args, Debug)]
#[command(after_help = "\
Keys: arrows move, / searches, p promotes, d demotes, i pins or unpins, c cancels, s sorts, q ends.

Examples:
  speedloader top
  speedloader top --period 5
  NO_COLOR=1 speedloader top")]
pub(super) struct Arguments {
    /// Ask the daemon every so many seconds
    #[arg(short, long, value_name = "SECONDS", default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    period: u64,
}

pub(super) fn run(arguments: &Arguments, context: &mut Context<'_>) -> Result<(), Message> {
    if context.console.style.width.is_none() || context.global.json {
        let text = "`top` needs a terminal";
        return Err(Message::new(Code::Usage, text)
            .with_hint("`speedloader status --watch` and `speedloader models` need none"));
    }
    let mut state = State::new(context.console.style.colour);
    // What is wrong at the start is told by the shell's own screen.
    state.take(look(context)?, (context.console.now_ms)());
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(unusable)?;
    }
    let mut terminal = ratatui::try_init().map_err(unusable)?;
    let ended = watch(&mut terminal, &mut state, arguments, &stop, context);
    ratatui::restore();
    ended
}

fn unusable(error: io::Error) -> Message {
    let text = format!("the terminal cannot be used: {error}");
    Message::new(Code::Failed, text)
}

/// Gives the terminal back to the shell until the shell has us go on.
fn suspend(terminal: &mut DefaultTerminal) -> io::Result<()> {
    disable_raw_mode()?;
    io::stdout().execute(LeaveAlternateScreen)?;
    terminal.show_cursor()?;
    kill_current_process_group(Signal::TSTP)?;
    enable_raw_mode()?;
    io::stdout().execute(EnterAlternateScreen)?;
    terminal.clear()
}

fn watch(
    terminal: &mut DefaultTerminal,
    state: &mut State,
    arguments: &Arguments,
    stop: &AtomicBool,
    context: &Context<'_>,
) -> Result<(), Message> {
    let period = Duration::from_secs(arguments.period);
    let mut next = Instant::now() + period;
    while !stop.load(Ordering::Relaxed) {
        show(terminal, state).map_err(unusable)?;
        let left = next.saturating_duration_since(Instant::now());
        if event::poll(left.min(LOOK_AROUND)).map_err(unusable)? {
            // What is no key, a new size for example, is drawn anew anyhow.
            if let Event::Key(key) = event::read().map_err(unusable)?
                && key.kind != KeyEventKind::Release
            {
                match press(state, key, context) {
                    Pressed::Seen => {}
                    Pressed::Suspend => suspend(terminal).map_err(unusable)?,
                    Pressed::End => return Ok(()),
                }
            }
        }
        if Instant::now() >= next || state.is_asking() {
            match look(context) {
                Ok(seen) => state.take(seen, (context.console.now_ms)()),
                Err(message) => state.lose(&message),
            }
            // From now on: keys are heard also where each answer is waited for in vain.
            next = Instant::now() + period;
        }
    }
    Ok(())
}

fn show<B: ratatui::backend::Backend>(
    terminal: &mut Terminal<B>,
    state: &State,
) -> Result<(), B::Error> {
    terminal.draw(|frame| draw::draw(frame, state)).map(|_| ())
}

/// What a key has come to.
#[derive(Debug, PartialEq, Eq)]
enum Pressed {
    Seen,
    Suspend,
    End,
}

fn press(state: &mut State, key: KeyEvent, context: &Context<'_>) -> Pressed {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Pressed::End,
            KeyCode::Char('z') => Pressed::Suspend,
            _ => Pressed::Seen,
        };
    }
    match state.press(key.code) {
        Asked::Nothing => Pressed::Seen,
        Asked::End => Pressed::End,
        Asked::Of(command) => {
            let answer = context
                .connect_within(PATIENCE)
                .and_then(|mut client| client.call(command));
            state.say(match answer {
                Ok(View::Moves(moves)) => moves.moves.iter().map(state::moved).collect(),
                Ok(_) => "done".to_owned(),
                Err(message) => message.to_string(),
            });
            Pressed::Seen
        }
    }
}

fn look(context: &Context<'_>) -> Result<Seen, Message> {
    let mut client = context.connect_within(PATIENCE)?;
    let odd = || Message::new(Code::Internal, "the daemon answers something else");
    let View::Status(status) = client.call(Command::Status {})? else {
        return Err(odd());
    };
    let View::Models(models) = client.call(Command::Models { filter: None })? else {
        return Err(odd());
    };
    let View::Transfers(transfers) = client.call(Command::Transfers {})? else {
        return Err(odd());
    };
    Ok(Seen {
        status: *status,
        models: models.models,
        transfers: transfers.transfers,
    })
}

#[cfg(test)]
mod tests;

//! `speedloader top`: models, pools and transfers, live, in a terminal. What is shown comes from the same
//! commands as every other view, and keys ask the same commands as the verbs. Drawing is a function of the
//! state, so tests draw without a terminal.

mod state;
mod draw;

use std::time::{Duration, Instant};

use clap::Args;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::{DefaultTerminal, Terminal};

use super::context::Context;
use crate::command::{Code, Command, Message};
use crate::view::View;

use state::{Asked, Seen, State};

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
    let mut terminal = ratatui::try_init().map_err(|error| {
        Message::new(
            Code::Failed,
            format!("the terminal cannot be used: {error}"),
        )
    })?;
    let ended = watch(&mut terminal, &mut state, arguments, context);
    ratatui::restore();
    ended
}

fn watch(
    terminal: &mut DefaultTerminal,
    state: &mut State,
    arguments: &Arguments,
    context: &Context<'_>,
) -> Result<(), Message> {
    let failed = |error: std::io::Error| {
        Message::new(
            Code::Failed,
            format!("the terminal cannot be used: {error}"),
        )
    };
    let period = Duration::from_secs(arguments.period);
    let mut next = Instant::now() + period;
    loop {
        show(terminal, state).map_err(failed)?;
        let left = next.saturating_duration_since(Instant::now());
        if event::poll(left).map_err(failed)? {
            // What is no key, a new size for example, is drawn anew anyhow.
            if let Event::Key(key) = event::read().map_err(failed)?
                && key.kind != KeyEventKind::Release
                && press(state, key, context)
            {
                return Ok(());
            }
        }
        if Instant::now() >= next || state.is_asking() {
            next = Instant::now() + period;
            match look(context) {
                Ok(seen) => state.take(seen, (context.console.now_ms)()),
                Err(message) => state.lose(&message),
            }
        }
    }
}

fn show<B: ratatui::backend::Backend>(
    terminal: &mut Terminal<B>,
    state: &State,
) -> Result<(), B::Error> {
    terminal.draw(|frame| draw::draw(frame, state)).map(|_| ())
}

/// What a key does; whether it ends the program.
fn press(state: &mut State, key: KeyEvent, context: &Context<'_>) -> bool {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return key.code == KeyCode::Char('c');
    }
    match state.press(key.code) {
        Asked::Nothing => false,
        Asked::End => true,
        Asked::Of(command) => {
            state.say(match context.ask(command) {
                Ok(View::Moves(moves)) => moves.moves.iter().map(state::moved).collect(),
                Ok(_) => "done".to_owned(),
                Err(message) => message.to_string(),
            });
            false
        }
    }
}

fn look(context: &Context<'_>) -> Result<Seen, Message> {
    let mut client = context.connect()?;
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

//! `speedloader status`.

use std::time::Duration;

use clap::Args;

use super::context::Context;
use crate::command::{Command, Message};

/// Clears the screen and goes to its top left.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Show how the daemon, its pools and its homes are
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  speedloader status
  speedloader status --watch
  speedloader status --json | jq '.pools[].used_bytes'")]
pub(super) struct Arguments {
    /// Show it again and again, every so many seconds
    #[arg(short, long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    watch: Option<u64>,
}

pub(super) fn run(arguments: &Arguments, context: &mut Context<'_>) -> Result<(), Message> {
    let Some(period_s) = arguments.watch else {
        return context.show_answer(Command::Status {});
    };
    loop {
        let view = context.ask(Command::Status {})?;
        if context.console.style.width.is_some() && !context.global.json {
            context.print(CLEAR)?;
        }
        context.show(&view)?;
        std::thread::sleep(Duration::from_secs(period_s));
    }
}

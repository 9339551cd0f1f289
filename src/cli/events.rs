//! `speedloader events`.

use clap::Args;

use super::context::Context;
use crate::command::{Command, Message};

/// Show what happened: promotions, loads, refusals, lost pools
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  speedloader events
  speedloader events -f
  speedloader events --json -f | jq .text")]
pub(super) struct Arguments {
    /// Stay, and show what happens from now on
    #[arg(short, long)]
    follow: bool,

    /// Only events after this number (their `seq` in JSON)
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    since: u64,
}

pub(super) fn run(arguments: &Arguments, context: &mut Context<'_>) -> Result<(), Message> {
    let command = Command::Events {
        since: arguments.since,
        follow: arguments.follow,
    };
    let view = context
        .connect()?
        .call_with_progress(command, &mut |view| context.show(&view))?;
    // Whoever followed has seen them all.
    if arguments.follow {
        Ok(())
    } else {
        context.show(&view)
    }
}

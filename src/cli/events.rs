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
    command.check()?;
    let mut client = context.connect()?;
    let mut printed = Ok(());
    let view = client.call(command, &mut |view| {
        if printed.is_ok() {
            printed = context.show(&view);
        }
        if printed.is_err() {
            // Nobody reads on: the connection is closed, which ends the call.
            context.console.out = Box::new(std::io::sink());
        }
    })?;
    printed?;
    context.show(&view)
}

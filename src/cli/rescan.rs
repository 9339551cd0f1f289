//! `speedloader rescan`.

use clap::Args;

use super::context::Context;
use crate::command::{Command, Message};

/// Read all homes through now
#[derive(Args, Debug)]
#[command(after_help = "\
Changes in local homes are noticed at once; this is for network homes.

Example:
  speedloader rescan")]
pub(super) struct Arguments {}

pub(super) fn run(_arguments: &Arguments, context: &mut Context<'_>) -> Result<(), Message> {
    let view = context.ask(Command::Rescan {})?;
    context.show_change(&view)
}

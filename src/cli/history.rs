//! `speedloader history`.

use clap::Args;

use super::context::Context;
use crate::command::{Command, Message};

/// Show the last loads: from RAM or not, and what that saved
#[derive(Args, Debug)]
#[command(after_help = "\
Times are computed from measured speeds: the kernel does not tell how long a load takes.

Example:
  speedloader history")]
pub(super) struct Arguments {}

pub(super) fn run(_arguments: &Arguments, context: &mut Context<'_>) -> Result<(), Message> {
    context.show_answer(Command::History {})
}

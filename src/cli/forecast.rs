//! `speedloader forecast`.

use clap::Args;

use super::context::Context;
use crate::command::{Command, Message};

/// Show what other pool sizes would have meant for the loads that are logged
#[derive(Args, Debug)]
#[command(after_help = "\
`speedloader simulate` replays the same log with other policies, speeds and sizes.

Example:
  speedloader forecast")]
pub(super) struct Arguments {}

pub(super) fn run(_arguments: &Arguments, context: &mut Context<'_>) -> Result<(), Message> {
    context.show_answer(Command::Forecast {})
}

//! `speedloader plan`.

use clap::Args;

use super::context::Context;
use crate::command::{Command, Message};

/// Show what the policy would move now, and why
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  speedloader plan")]
pub(super) struct Arguments {}

pub(super) fn run(_arguments: &Arguments, context: &mut Context<'_>) -> Result<(), Message> {
    context.show_answer(Command::Plan {})
}

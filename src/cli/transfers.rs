//! `speedloader transfers`.

use clap::Args;

use super::context::Context;
use crate::command::{Command, Message};

/// List copies that run or wait, or cancel one
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  speedloader transfers
  speedloader transfers --cancel 12")]
pub(super) struct Arguments {
    /// End the copy with this id; nothing of it remains
    #[arg(long, value_name = "ID")]
    cancel: Option<u64>,
}

pub(super) fn run(arguments: &Arguments, context: &mut Context<'_>) -> Result<(), Message> {
    let Some(id) = arguments.cancel else {
        return context.show_answer(Command::Transfers {});
    };
    let view = context.ask(Command::CancelTransfer { id })?;
    context.show_change(&view)
}

//! `speedloader explain`.

use std::ffi::OsString;

use clap::Args;

use super::context::{Context, name};
use crate::command::{Command, Message};

/// Say why a model is where it is
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  speedloader explain llama3.2:3b")]
pub(super) struct Arguments {
    /// A model
    name: OsString,
}

pub(super) fn run(arguments: Arguments, context: &mut Context<'_>) -> Result<(), Message> {
    context.show_answer(Command::Explain {
        name: name(&arguments.name),
    })
}

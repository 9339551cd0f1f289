//! `speedloader which`.

use std::ffi::OsString;

use clap::Args;

use super::context::{Context, name};
use crate::command::{Command, Message};

/// Show where the files of a model are
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  speedloader which llama3.2:3b
  speedloader which /mnt/models/phi4.gguf --json")]
pub(super) struct Arguments {
    /// A model, or a path
    name: OsString,
}

pub(super) fn run(arguments: Arguments, context: &mut Context<'_>) -> Result<(), Message> {
    context.show_answer(Command::Which {
        name: name(&arguments.name),
    })
}

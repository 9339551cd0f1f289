//! `speedloader models`.

use std::ffi::OsString;

use clap::Args;

use super::context::{Context, name};
use crate::command::{Command, Message};

/// List models, and how much of each is resident
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  speedloader models
  speedloader models llama
  speedloader models '*.gguf' --json")]
pub(super) struct Arguments {
    /// Only models whose name contains this, or matches it as a glob
    filter: Option<OsString>,
}

pub(super) fn run(arguments: Arguments, context: &mut Context<'_>) -> Result<(), Message> {
    context.show_answer(Command::Models {
        filter: arguments.filter.as_deref().map(name),
    })
}

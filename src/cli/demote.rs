//! `speedloader demote`.

use std::ffi::OsString;

use clap::Args;

use super::context::{Context, judge, names};
use crate::command::{Command, Message};

/// Drop the copies of models; their originals stay
#[derive(Args, Debug)]
#[command(after_help = "\
Memory of a copy that somebody still reads is free when they let go.

Examples:
  speedloader demote llama3.2:3b
  speedloader demote 'qwen*'")]
pub(super) struct Arguments {
    /// A model, a path in the mount or a glob
    #[arg(required = true, value_name = "NAME")]
    names: Vec<OsString>,
}

pub(super) fn run(arguments: Arguments, context: &mut Context<'_>) -> Result<(), Message> {
    let view = context.ask(Command::Demote {
        names: names(&arguments.names),
    })?;
    context.show_change(&view)?;
    judge(&view, "demoted")
}

//! `speedloader pin` and `unpin`.

use std::ffi::OsString;

use clap::Args;

use super::context::{Context, name};
use crate::command::{Command, Message};

/// Keep a model in a pool
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  speedloader pin llama3.2:3b local")]
pub(super) struct PinArguments {
    /// A model
    name: OsString,
    /// The pool; `speedloader tiers` lists them
    pool: OsString,
}

/// Leave a pinned model to the policy again
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  speedloader unpin llama3.2:3b")]
pub(super) struct UnpinArguments {
    /// A model
    name: OsString,
}

pub(super) fn pin(arguments: PinArguments, context: &mut Context<'_>) -> Result<(), Message> {
    let command = Command::Pin {
        name: name(&arguments.name),
        pool: name(&arguments.pool),
    };
    let view = context.ask(command)?;
    context.show_change(&view)
}

pub(super) fn unpin(arguments: UnpinArguments, context: &mut Context<'_>) -> Result<(), Message> {
    let view = context.ask(Command::Unpin {
        name: name(&arguments.name),
    })?;
    context.show_change(&view)
}

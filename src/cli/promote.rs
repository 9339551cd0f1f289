//! `speedloader promote`.

use std::ffi::OsString;

use clap::Args;

use super::context::{Context, name, names};
use crate::command::{Command, Message};

/// Copy models into a pool
#[derive(Args, Debug)]
#[command(after_help = "\
A copy goes on in the background, also if --wait is interrupted.

Examples:
  speedloader promote llama3.2:3b
  speedloader promote 'qwen2.5*' --pool local --wait")]
pub(super) struct Arguments {
    /// A model, a path in the mount or a glob
    #[arg(required = true, value_name = "NAME")]
    names: Vec<OsString>,

    /// The pool [default: the placement strategy chooses]
    #[arg(short, long, value_name = "POOL")]
    pool: Option<OsString>,

    /// Return when every byte is copied and verified
    #[arg(short, long)]
    wait: bool,
}

pub(super) fn run(arguments: Arguments, context: &mut Context<'_>) -> Result<(), Message> {
    let Arguments {
        names: wanted,
        pool,
        wait,
    } = arguments;
    let command = Command::Promote {
        names: names(&wanted),
        pool: pool.as_deref().map(name),
        wait,
    };
    let view = context.ask_with_progress(command)?;
    context.show_change(&view)
}

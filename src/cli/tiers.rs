//! `speedloader tiers`.

use std::ffi::OsString;

use clap::{Args, Subcommand};
use speedloader_config::Capacity;

use super::context::{Context, name};
use crate::command::{Command, Message};

/// List pools, or connect, disconnect and resize one
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  speedloader tiers
  speedloader tiers connect local
  speedloader tiers resize local 64GiB")]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// List pools, the fastest first
    #[command(after_help = "\
Example:
  speedloader tiers list --json")]
    List,
    /// Set a configured pool up and use it
    #[command(after_help = "\
Example:
  speedloader tiers connect meadowlark
  speedloader tiers connect meadowlark --dry-run")]
    Connect {
        /// The pool
        name: OsString,
        /// Print each step and its command, and do none
        #[arg(long)]
        dry_run: bool,
    },
    /// Stop using a pool: what other pools have room for moves there, the rest goes back to its home
    #[command(after_help = "\
Examples:
  speedloader tiers disconnect meadowlark
  speedloader tiers disconnect meadowlark --dry-run
  speedloader tiers disconnect meadowlark --wait")]
    Disconnect {
        /// The pool
        name: OsString,
        /// Do so although copies in it are being read
        #[arg(long)]
        force: bool,
        /// Wait until they are not, and say who reads them
        #[arg(long, conflicts_with = "force")]
        wait: bool,
        /// Move nothing to other pools
        #[arg(long)]
        no_move: bool,
        /// Print what would move where and what would go back to its home, and do nothing
        #[arg(long, conflicts_with_all = ["force", "wait", "no_move"])]
        dry_run: bool,
    },
    /// Change how large a pool may become
    #[command(after_help = "\
Examples:
  speedloader tiers resize local 64GiB
  speedloader tiers resize local 60%")]
    Resize {
        /// The pool
        name: OsString,
        /// A size such as 64GiB, or a share of this machine's memory such as 60%
        #[arg(value_parser = capacity)]
        capacity: String,
    },
}

fn capacity(text: &str) -> Result<String, String> {
    Capacity::parse(text)
        .map(|_| text.to_owned())
        .map_err(|wanted| format!("wanted {wanted}"))
}

pub(super) fn run(arguments: Arguments, context: &mut Context<'_>) -> Result<(), Message> {
    let command = match arguments.action {
        None | Some(Action::List) => return context.show_answer(Command::Tiers {}),
        Some(Action::Connect {
            name: pool,
            dry_run: true,
        }) => return context.show_answer(Command::TierSteps { name: name(&pool) }),
        Some(Action::Connect {
            name: pool,
            dry_run: false,
        }) => Command::TierConnect { name: name(&pool) },
        Some(Action::Disconnect {
            name: pool,
            dry_run: true,
            ..
        }) => return context.show_answer(Command::TierMoves { name: name(&pool) }),
        Some(Action::Disconnect {
            name: pool,
            force,
            wait,
            no_move,
            dry_run: false,
        }) => Command::TierDisconnect {
            name: name(&pool),
            force,
            wait,
            no_move,
        },
        Some(Action::Resize {
            name: pool,
            capacity,
        }) => Command::TierResize {
            name: name(&pool),
            capacity,
        },
    };
    let view = context.ask_with_progress(command)?;
    context.show_change(&view)
}

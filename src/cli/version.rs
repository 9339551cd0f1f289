//! `speedloader version`.

use clap::Args;

use super::context::Context;
use crate::command::{Command, Message, PROTOCOL};
use crate::view::{VersionView, View};

/// Show this program's version, and the running daemon's
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  speedloader version --json")]
pub(super) struct Arguments {}

pub(super) fn run(_arguments: &Arguments, context: &mut Context<'_>) -> Result<(), Message> {
    let daemon = match context.ask(Command::Version {}) {
        Ok(View::Version(daemon)) => Some(Box::new(daemon)),
        // That no daemon answers is no failure of this verb.
        Ok(_) | Err(_) => None,
    };
    let kernel = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let version = VersionView {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol: PROTOCOL,
        kernel,
        daemon,
    };
    context.show(&View::Version(version))
}

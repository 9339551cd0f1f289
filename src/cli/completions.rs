//! `speedloader completions`: what a shell needs to complete our command lines.

use clap::Args;
use clap_complete::Shell;

use super::context::Context;
use crate::command::Message;

/// Print completions for a shell
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  speedloader completions bash > /etc/bash_completion.d/speedloader")]
pub(super) struct Arguments {
    /// Which shell
    pub(super) shell: Shell,
}

/// Prints the script, which is made of all verbs.
pub(super) fn run(script: &str, context: &mut Context<'_>) -> Result<(), Message> {
    context.print(script)
}

//! `speedloader remote-agent`: what another machine's daemon starts here over SSH.

use clap::Args;

use super::context::Context;
use crate::command::{Code, Message};
use crate::remote::target::{Target, serve};

/// Answer another machine's daemon over standard input and output
///
/// Started over SSH by a daemon that uses this machine's memory as a remote pool. It takes the memory, offers it
/// with the kernel's NVMe target, and takes both back; one line of JSON a request, one a reply. Nobody needs
/// to call it by hand.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  ssh meadowlark speedloader remote-agent </dev/null")]
pub(super) struct Arguments {}

pub(super) fn run(_: &Arguments, context: &mut Context<'_>) -> Result<(), Message> {
    let failed =
        |error: std::io::Error| Message::new(Code::Failed, format!("remote-agent: {error}"));
    serve(&Target::default(), std::io::stdin(), context.output()).map_err(failed)
}

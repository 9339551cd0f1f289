//! `speedloader wait`.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;
use speedloader_config::parse_duration;

use super::context::{Context, name};
use crate::command::{Command, Message};

/// Return when a model is wholly resident
#[derive(Args, Debug)]
#[command(after_help = "\
Ends with status 6 if the time is over before.

Example:
  speedloader promote llama3.2:3b && speedloader wait llama3.2:3b --timeout 2m && run-my-engine")]
pub(super) struct Arguments {
    /// A model
    name: OsString,

    /// How long to wait at most
    #[arg(short, long, value_name = "DURATION", default_value = "10m", value_parser = timeout)]
    timeout: Duration,
}

fn timeout(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|wanted| format!("wanted {wanted}"))
}

pub(super) fn run(arguments: Arguments, context: &mut Context<'_>) -> Result<(), Message> {
    // Less than a second is rounded up: it is not "do not wait".
    let timeout_s = arguments.timeout.as_secs() + u64::from(arguments.timeout.subsec_nanos() > 0);
    let view = context.ask_with_progress(Command::Wait {
        name: name(&arguments.name),
        timeout_s,
    })?;
    context.show_change(&view)
}

//! `speedloader wait`.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;
use speedloader_config::parse_duration;

use super::context::{Context, names};
use crate::command::{Command, Message};

/// Return when models have arrived in their pools
///
/// Without a name: when nothing moves any more.
#[derive(Args, Debug)]
#[command(after_help = "\
Ends with status 6 if the time is over before, and with status 1 if a model is not resident and
nothing moves it.

Examples:
  speedloader promote llama3.2:3b && speedloader wait llama3.2:3b --timeout 2m && run-my-engine
  speedloader wait")]
pub(super) struct Arguments {
    /// A model, a path in the mount or a glob
    #[arg(value_name = "NAME")]
    names: Vec<OsString>,

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
        names: names(&arguments.names),
        timeout_s,
    })?;
    context.show_change(&view)
}

//! `speedloader openapi`.

use clap::Args;

use super::context::Context;
use crate::command::{Code, Message};
use crate::control::http;

/// Print the description of the HTTP API (OpenAPI 3.1)
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  speedloader openapi > openapi.json")]
pub(super) struct Arguments {}

pub(super) fn run(_arguments: &Arguments, context: &mut Context<'_>) -> Result<(), Message> {
    let text = serde_json::to_string_pretty(&http::document())
        .map_err(|error| Message::new(Code::Internal, error.to_string()))?;
    context.print(&format!("{text}\n"))
}

//! `speedloader demo`: what the product does, on a temporary mount, in a minute.

use std::path::PathBuf;

use clap::Args;
use speedloader_config::Bytes;

use super::context::Context;
use crate::command::{Code, Message};
use crate::program::Demo;

/// Show on a temporary mount what speedloader does
#[derive(Args, Debug)]
#[command(after_help = "\
Works as root and as an ordinary user, and leaves nothing behind.

Examples:
  speedloader demo
  speedloader demo --models ~/.ollama/models --keep")]
pub(super) struct Arguments {
    /// Leave the mount up, to look around
    #[arg(long)]
    keep: bool,

    /// Use this directory of models, without writing to it, rather than synthetic ones
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,

    /// How large each synthetic model is
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = size, conflicts_with = "models")]
    size: Bytes,
}

fn size(text: &str) -> Result<Bytes, String> {
    Bytes::parse(text).map_err(|wanted| format!("wanted {wanted}"))
}

pub(super) fn run(arguments: Arguments, context: &mut Context<'_>) -> Result<(), Message> {
    let Arguments { keep, models, size } = arguments;
    if let Some(models) = models.as_ref().filter(|models| !models.is_dir()) {
        return Err(Message::new(
            Code::Usage,
            format!("--models: {} is no directory", models.display()),
        ));
    }
    context.program.demo(Demo {
        keep,
        models,
        size_bytes: size.0,
        json: context.global.json,
    })
}

//! `speedloader config`: what is configured, where each value is from, and whether a file is right.
//! Needs no daemon, except to reload.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use speedloader_config::{sample, show};

use super::context::Context;
use super::settings::{Loaded, load_config};
use crate::command::{Command, Message};
use crate::view::{ConfigView, DoneView, SettingView, View, human};

/// Check, show or reload the configuration
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  speedloader config sample > /etc/speedloader/config.toml
  speedloader config check ./new.toml
  speedloader config show --origin
  speedloader config reload")]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Report every fault of a configuration, with its place and what would be right
    #[command(after_help = "\
Example:
  speedloader config check ./new.toml && sudo install new.toml /etc/speedloader/config.toml")]
    Check {
        /// The file [default: the one that would be used]
        file: Option<PathBuf>,
    },
    /// Print the configuration in effect, secrets blanked
    #[command(after_help = "\
Example:
  speedloader config show --origin | grep capacity")]
    Show {
        /// Say where each value is from: default, file and line, environment, option
        #[arg(long)]
        origin: bool,
        /// Ask the running daemon, rather than read the file
        #[arg(long)]
        running: bool,
    },
    /// Print a commented configuration with every key and its default
    #[command(after_help = "\
Example:
  speedloader config sample > /etc/speedloader/config.toml")]
    Sample,
    /// Have the daemon read its configuration again, and say what that changed
    #[command(after_help = "\
Example:
  speedloader config check && speedloader config reload")]
    Reload,
}

pub(super) fn run(arguments: Arguments, context: &mut Context<'_>) -> Result<(), Message> {
    match arguments.action {
        Action::Check { file } => check(file, context),
        Action::Show { origin, running } => show_config(origin, running, context),
        Action::Sample => context.print(&sample()),
        Action::Reload => {
            let view = context.ask(Command::Reload {})?;
            context.show_change(&view)
        }
    }
}

fn check(file: Option<PathBuf>, context: &mut Context<'_>) -> Result<(), Message> {
    let file = file.or_else(|| context.global.config.clone());
    let Loaded {
        config,
        sources: _,
        path,
    } = load_config(context.console, file.as_deref(), Vec::new())?;
    for warning in &config.warnings {
        // A warning that cannot be written is not worth failing for.
        let _ = writeln!(
            context.console.err,
            "warning: {}",
            human::printable(&warning.to_string())
        );
    }
    let what = path.map_or_else(
        || "the defaults".to_owned(),
        |path| path.display().to_string(),
    );
    context.show_change(&View::Done(DoneView {
        text: format!("{what}: no fault"),
    }))
}

fn show_config(origin: bool, running: bool, context: &mut Context<'_>) -> Result<(), Message> {
    let view = if running {
        context.ask(Command::Config {})?
    } else {
        let loaded = load_config(
            context.console,
            context.global.config.as_deref(),
            Vec::new(),
        )?;
        View::Config(config_view(&loaded, origin))
    };
    context.show(&view)
}

fn config_view(loaded: &Loaded, origin: bool) -> ConfigView {
    let settings = loaded
        .config
        .entries()
        .into_iter()
        .map(|entry| SettingView {
            key: entry.key,
            value: entry.value.unwrap_or_default(),
            origin: entry.origin.to_string(),
        });
    ConfigView {
        path: loaded.path.as_ref().map(|path| path.display().to_string()),
        settings: settings.collect(),
        toml: show(&loaded.config, origin),
    }
}

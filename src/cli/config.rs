//! `speedloader config`: what is configured, where each value is from, and whether a file is right.
//! Needs no daemon, except to reload, to set and for all its fields.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use speedloader_config::{Config, sample, show};

use super::context::Context;
use super::settings::{Loaded, bad_config, load_config};
use crate::command::{Code, Command, Message};
use crate::machine::{misplaced, opened_up};
use crate::view::{ConfigView, DoneView, SettingChange, SettingView, View, human};

/// Check, show or reload the configuration
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  speedloader config sample > /etc/speedloader/config.toml
  speedloader config check ./new.toml
  speedloader config show --origin
  speedloader config set policy.enabled=false
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
    /// Print every field of the running daemon with its value, origin, effect and meaning
    #[command(after_help = "\
Example:
  speedloader config fields")]
    Fields,
    /// Change the configuration file of the running daemon, keeping its comments, and apply what can be
    #[command(after_help = "\
A key without `=` is taken out; `pool[1].name=NAME` adds a second pool, `pool[1]` takes it out.
The items of a list have commas between them: `policy.never=a,b*`.

Examples:
  speedloader config set policy.enabled=false
  speedloader config set 'policy.never=*-draft,*.bin'
  speedloader config set 'pool[0].capacity=96GiB' --dry-run")]
    Set {
        /// What to change: KEY=VALUE, or KEY to take it out
        #[arg(required = true, value_name = "KEY=VALUE")]
        changes: Vec<String>,
        /// Only say what would change
        #[arg(long)]
        dry_run: bool,
    },
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
        Action::Fields => context.show_answer(Command::Settings {}),
        Action::Set { changes, dry_run } => set(&changes, dry_run, context),
        Action::Reload => {
            let view = context.ask(Command::Reload {})?;
            context.show_change(&view)
        }
    }
}

fn set(changes: &[String], dry_run: bool, context: &mut Context<'_>) -> Result<(), Message> {
    let change = |text: &String| match text.split_once('=') {
        Some((key, value)) => SettingChange {
            key: key.to_owned(),
            value: Some(value.to_owned()),
        },
        None => SettingChange {
            key: text.clone(),
            value: None,
        },
    };
    let changes = changes.iter().map(change).collect();
    let view = context.ask(match dry_run {
        true => Command::CheckSettings { changes },
        false => Command::SaveSettings { changes },
    })?;
    let faulty = matches!(&view, View::Draft(draft) if !draft.faults.is_empty());
    context.show_change(&view)?;
    match faulty {
        true => Err(Message::new(Code::BadConfig, "nothing was saved")),
        false => Ok(()),
    }
}

fn check(file: Option<PathBuf>, context: &mut Context<'_>) -> Result<(), Message> {
    let file = file.or_else(|| context.global.config.clone());
    let Loaded {
        config,
        sources: _,
        path,
    } = load_config(context.console, file.as_deref(), Vec::new())?;
    check_places(&config, path.as_deref())?;
    let opened_up = opened_up(&config).into_iter().map(|(home, barrier)| {
        format!(
            "{} lies below {}, which others may not enter; through the mount they can",
            home.display(),
            barrier.display()
        )
    });
    let warnings = config.warnings.iter().map(ToString::to_string);
    for warning in warnings.chain(opened_up) {
        // A warning that cannot be written is not worth failing for.
        let _ = writeln!(
            context.console.err,
            "warning: {}",
            human::printable(&warning)
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

/// What no text says: where the directories lead on this machine.
fn check_places(config: &Config, path: Option<&Path>) -> Result<(), Message> {
    let faults = misplaced(config);
    match faults.is_empty() {
        true => Ok(()),
        false => Err(bad_config(path, &faults)),
    }
}

fn show_config(origin: bool, running: bool, context: &mut Context<'_>) -> Result<(), Message> {
    let view = if running {
        match context.ask(Command::Config {})? {
            View::Config(view) if origin => View::Config(with_origins(view)),
            view => view,
        }
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

/// The daemon's configuration with where each value is from, by dotted keys.
fn with_origins(view: ConfigView) -> ConfigView {
    let line = |setting: &SettingView| match setting.value.as_str() {
        "" => format!("# {} is not set\n", setting.key),
        value => format!("{} = {value}  # {}\n", setting.key, setting.origin),
    };
    ConfigView {
        toml: view.settings.iter().map(line).collect(),
        ..view
    }
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

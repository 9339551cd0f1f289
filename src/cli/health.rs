//! `speedloader health`: looks from outside, with the daemon's answers where it gives any.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use speedloader_config::Config;

use super::context::Context;
use super::running::running;
use super::settings::load_config;
use crate::command::{Code, Command, Message};
use crate::health::{Finding, Scene, examine, repair, view};
use crate::view::{Severity, StatusView, View, WhichView};

/// A home or a daemon that stands still for so long is said to hang.
const PATIENCE: Duration = Duration::from_secs(10);

/// Find what is wrong: mounts, pools, homes, blobs, space, settings; and repair what is safe
#[derive(Args, Debug)]
#[command(after_help = "\
Homes are only read. Exit status: 0 nothing or only notices, 4 warnings, 1 errors.

Examples:
  speedloader health
  speedloader health --repair
  speedloader health --all --json | jq '.findings[].check'")]
pub(super) struct Arguments {
    /// Repair what can be repaired safely: left-over files, stale mounts, bad replicas; never a home
    #[arg(long)]
    repair: bool,

    /// Hash every blob and compare every byte of every replica, rather than samples
    #[arg(long)]
    all: bool,
}

pub(super) fn run(arguments: &Arguments, context: &mut Context<'_>) -> Result<(), Message> {
    let (status, hangs) = status(context);
    let (mut config, path) = configuration(context, status.is_some())?;
    // What is asked is what is named.
    config.control.socket = context.socket().unwrap_or(config.control.socket);
    let scene = Scene {
        resident: status.as_ref().map_or_else(Vec::new, |_| resident(context)),
        status,
        hangs,
        config,
        config_file: path,
        root: "/".into(),
        all: arguments.all,
        patience: PATIENCE,
        now_ms: (context.console.now_ms)(),
    };
    let quiet = context.global.quiet;
    let err = &mut context.console.err;
    let mut findings = examine(&scene, &mut |text| {
        if !quiet {
            // What cannot be told is not worth failing for.
            let _ = writeln!(err, "{text}");
        }
    });
    let mut shown = view(&findings);
    if arguments.repair {
        for (finding, row) in findings.iter().zip(&mut shown.findings) {
            row.repaired = mend(&scene, finding, context);
        }
        // What was repaired is not counted any more.
        findings.retain(|finding| {
            let row = shown
                .findings
                .iter()
                .find(|row| row.subject == finding.view().subject && row.check == finding.check());
            row.is_none_or(|row| {
                row.repaired
                    .as_deref()
                    .is_none_or(|done| done.starts_with("failed"))
            })
        });
    }
    context.show(&View::Health(shown))?;
    match findings.iter().map(Finding::severity).max() {
        Some(Severity::Error) => Err(Message::new(Code::Failed, "")),
        Some(Severity::Warning) => Err(Message::new(Code::Unsupported, "")),
        Some(Severity::Notice) | None => Ok(()),
    }
}

/// The running daemon's, where no other is named: it may have been started with options.
fn configuration(
    context: &Context<'_>,
    answers: bool,
) -> Result<(Config, Option<PathBuf>), Message> {
    if answers && let Some(running) = running(context) {
        return Ok((running.config, running.path));
    }
    let named = context.global.config.as_deref();
    let loaded = load_config(context.console, named, Vec::new())?;
    Ok((loaded.config, loaded.path))
}

/// The daemon's state, or whether there is one that does not answer.
fn status(context: &Context<'_>) -> (Option<StatusView>, bool) {
    let answer = context
        .connect_within(PATIENCE)
        .and_then(|mut client| client.call(Command::Status {}));
    match answer {
        Ok(View::Status(status)) => (Some(*status), false),
        // That no daemon answers is a finding, not a failure.
        Ok(_) => (None, false),
        Err(message) => (None, message.code == Code::TimedOut),
    }
}

fn resident(context: &Context<'_>) -> Vec<WhichView> {
    let Ok(View::Models(models)) = context.ask(Command::Models { filter: None }) else {
        return Vec::new();
    };
    let resident = models
        .models
        .into_iter()
        .filter(|model| model.resident_total_bytes > 0);
    resident
        .filter_map(
            |model| match context.ask(Command::Which { name: model.name }) {
                Ok(View::Which(which)) => Some(which),
                Ok(_) | Err(_) => None,
            },
        )
        .collect()
}

fn mend(scene: &Scene, finding: &Finding, context: &Context<'_>) -> Option<String> {
    let mut demote = |name: &str| {
        let names = vec![name.to_owned()];
        context
            .ask(Command::Demote { names })
            .map(|_| ())
            .map_err(|message| message.to_string())
    };
    let done = repair(scene, finding, &mut demote)?;
    Some(done.unwrap_or_else(|error| format!("failed: {error}")))
}

//! `speedloader health`: looks from outside, with the daemon's answers where it gives any.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use speedloader_config::Config;

use super::context::Context;
use super::running::running;
use super::settings::load_config;
use crate::command::{Code, Command, Message};
use crate::health::access::{self, Visitor};
use crate::health::{Finding, Scene, examine, repair, view};
use crate::view::human::{escape, shell_word};
use crate::view::{Severity, StatusView, View, WhichView};

/// A home or a daemon that stands still for so long is said to hang.
const PATIENCE: Duration = Duration::from_secs(10);

/// Find what is wrong: mounts, pools, homes, blobs, space, settings; and repair what is safe
#[derive(Args, Debug)]
#[command(
    visible_alias = "doctor",
    after_help = "\
Homes are only read. Exit status: 0 nothing or only notices, 4 warnings, 1 errors.

With --as, every directory on the way is entered with the rights and groups that this user has at
login, and everything in the mount is looked at. The first that refuses is told, and what would let
the user through. Nothing is loaded by that, and nothing changed. What the unit of one service adds
or hides (SupplementaryGroups=, ProtectHome= and the like) is not known.

Examples:
  speedloader health
  speedloader health --repair
  speedloader health --as ollama
  speedloader health --as 1000 /mnt/models/blobs ~/models
  speedloader health --all --json | jq '.findings[].check'"
)]
pub(super) struct Arguments {
    /// Repair what can be repaired safely: left-over files, stale mounts, bad replicas; never a home
    #[arg(long)]
    repair: bool,

    /// Hash every blob and compare every byte of every replica, rather than samples
    #[arg(long)]
    all: bool,

    /// Only tell whether this user can reach and read the mount and the models in it
    #[arg(long = "as", value_name = "USER", conflicts_with_all = ["repair", "all"])]
    user: Option<OsString>,

    /// With --as: files and directories to look at [default: the mountpoint and everything in it]
    #[arg(value_name = "PATH", requires = "user")]
    paths: Vec<PathBuf>,
}

pub(super) fn run(arguments: &Arguments, context: &mut Context<'_>) -> Result<(), Message> {
    let (status, hangs) = status(context);
    let (mut config, path) = configuration(context, status.is_some())?;
    // What is asked is what is named.
    config.control.socket = context.socket().unwrap_or(config.control.socket);
    if let Some(user) = &arguments.user {
        return look_as(user, &arguments.paths, &config, context);
    }
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
    judge(findings.iter().map(Finding::severity).max())
}

fn judge(worst: Option<Severity>) -> Result<(), Message> {
    match worst {
        Some(Severity::Error) => Err(Message::new(Code::Failed, "")),
        Some(Severity::Warning) => Err(Message::new(Code::Unsupported, "")),
        Some(Severity::Notice) | None => Ok(()),
    }
}

/// Tells what keeps `user` from `paths`.
fn look_as(
    user: &OsStr,
    paths: &[PathBuf],
    config: &Config,
    context: &mut Context<'_>,
) -> Result<(), Message> {
    let visitor = visitor(user)?;
    if paths.is_empty() && config.mountpoint.is_none() {
        let text = "the configuration names no mountpoint to look at";
        return Err(Message::new(Code::Usage, text).with_hint("name what matters as PATH"));
    }
    let whole = |path: &PathBuf| {
        std::path::absolute(path).map_err(|error| {
            let text = format!("{} cannot be made absolute: {error}", path.display());
            Message::new(Code::Usage, text)
        })
    };
    let paths: Vec<PathBuf> = paths.iter().map(whole).collect::<Result<_, _>>()?;
    let quiet = context.global.quiet;
    let err = &mut context.console.err;
    let view = access::examine(config, &visitor, &paths, PATIENCE, &mut |text| {
        if !quiet {
            // What cannot be told is not worth failing for.
            let _ = writeln!(err, "{text}");
        }
    });
    let worst = view.findings.iter().map(|finding| finding.severity).max();
    context.show(&View::Health(view))?;
    judge(worst)
}

/// The user who is meant, if whoever asks may look in his name.
fn visitor(user: &OsStr) -> Result<Visitor, Message> {
    let shown = escape(user.as_encoded_bytes());
    let found = Visitor::find(user).map_err(|error| {
        let text = format!("user `{shown}` cannot be looked up: {error}");
        Message::new(Code::Failed, text)
    })?;
    let Some(visitor) = found else {
        let text = format!("--as: no user is called `{shown}`");
        let hint = "wanted: a name or number, such as `getent passwd` lists; a service's user is told by \
                    `systemctl show -p User NAME`";
        return Err(Message::new(Code::NoMatch, text).with_hint(hint));
    };
    let own = rustix::process::geteuid();
    if own.is_root() || own.as_raw() == visitor.uid {
        return Ok(visitor);
    }
    let text = format!(
        "only root can look as another user, and you are user {}, not {shown} (user {})",
        own.as_raw(),
        visitor.uid
    );
    let hint = format!(
        "sudo speedloader health --as {}",
        shell_word(user.as_encoded_bytes())
    );
    Err(Message::new(Code::Denied, text).with_hint(hint))
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

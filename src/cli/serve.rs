//! `speedloader serve`: the daemon in the foreground. Its arguments are those of `mount`.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use speedloader_config::{MountOptions, Sources, parse_mount_options};

use super::context::Context;
use super::mountpoint::resolve;
use super::settings::{Loaded, account, config_of_setup, faulty, load_config, missing_config};
use crate::command::{Code, Message};
use crate::program::{Ready, SetUp, SetUpEnd, Start};
use crate::setup::Target;

/// What `serve` and `mount` are told besides the configuration.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct MountArguments {
    /// Where to mount [default: `mountpoint` of the configuration]
    pub(super) mountpoint: Option<PathBuf>,

    /// The models directory, where engines write
    #[arg(long, value_name = "DIR")]
    pub(super) models: Option<PathBuf>,

    /// A directory of models that is only read; may be repeated
    #[arg(long, value_name = "DIR")]
    pub(super) cold: Vec<PathBuf>,

    /// A pool in memory: SIZE, NAME:SIZE or NAME:SIZE:DIR; may be repeated
    #[arg(long, value_name = "POOL")]
    pub(super) pool: Vec<String>,

    /// Any key of the configuration, as mount options: KEY=VALUE,..; may be repeated
    #[arg(short, value_name = "OPTIONS")]
    pub(super) options: Vec<String>,
}

impl MountArguments {
    /// As the settings that override a configuration, the named configuration file among them.
    pub(super) fn settings(&self) -> Result<MountOptions, Message> {
        let mut all = MountOptions::default();
        // Before the options: one of them may be about a pool that a flag names.
        let pools = self.pool.iter();
        let pools = pools.map(|pool| ("pool".to_owned(), pool.clone()));
        all.settings.extend(pools);
        for text in &self.options {
            let options =
                parse_mount_options(text).map_err(|faults| faulty(Code::Usage, "-o", &faults))?;
            all.config = options.config.or(all.config);
            all.settings.extend(options.settings);
        }
        let settings = &mut all.settings;
        if let Some(models) = &self.models {
            settings.push(("models_dir".to_owned(), absolute("--models", models)?));
        }
        for cold in &self.cold {
            // As an option it would be several directories.
            let cold = absolute("--cold", cold)?.replace(':', "\\:");
            settings.push(("cold".to_owned(), cold));
        }
        if let Some(mountpoint) = &self.mountpoint {
            settings.push(("mountpoint".to_owned(), absolute("MOUNTPOINT", mountpoint)?));
        }
        Ok(all)
    }
}

fn absolute(what: &str, path: &Path) -> Result<String, Message> {
    let usage = |why: &str| Message::new(Code::Usage, format!("{what}: {} {why}", path.display()));
    let absolute = std::path::absolute(path)
        .map_err(|error| usage(&format!("cannot be made absolute: {error}")))?;
    absolute
        .to_str()
        .map(str::to_owned)
        .ok_or_else(|| usage("is not UTF-8, which a configuration cannot hold"))
}

/// Run the daemon in the foreground, for systemd and containers
#[derive(Args, Debug)]
#[command(after_help = "\
Ends when it is unmounted, asked to (`speedloader umount`) or told by SIGTERM or SIGINT. Without a
configuration the web page, for this machine only, has a guide that makes one; then it mounts.

Example:
  speedloader serve --config /etc/speedloader/config.toml")]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) mount: MountArguments,

    /// How `mount` starts us: standard output is the pipe to it.
    #[arg(long, hide = true)]
    ready_on_stdout: bool,
}

pub(super) fn run(arguments: Arguments, context: &mut Context<'_>) -> Result<(), Message> {
    if !arguments.ready_on_stdout
        && let Some(set_up) = set_up_of(context, &arguments.mount)?
    {
        return serve_after_setup(context, &arguments.mount, set_up);
    }
    let mut ready = if arguments.ready_on_stdout {
        background()?
    } else {
        Ready::nobody()
    };
    let result = start(context, &arguments.mount, !arguments.ready_on_stdout)
        .and_then(|start| context.program.serve(start, &mut ready));
    match result {
        // Whoever waits tells it; it would else be told twice.
        Err(message) if !ready.is_announced() && ready.fail(&message) => {
            Err(Message::new(message.code, ""))
        }
        other => other,
    }
}

/// What a daemon is set up by that has neither a configuration nor a directory of models.
fn set_up_of(context: &Context<'_>, mount: &MountArguments) -> Result<Option<SetUp>, Message> {
    let MountOptions {
        config,
        settings: options,
        ignored: _,
    } = options_of(context, mount)?;
    let console = &*context.console;
    let has_models = options.iter().any(|(key, _)| key == "models_dir")
        || console.variable("SPEEDLOADER_MODELS_DIR").is_some();
    let Some(path) = missing_config(console, config.as_deref()).filter(|_| !has_models) else {
        return Ok(None);
    };
    let sources = Sources {
        file: None,
        environment: console.environment.clone(),
        options,
        account: account(console),
    };
    Ok(Some(SetUp {
        config: config_of_setup(&sources)?,
        target: Target {
            path: std::path::absolute(&path).unwrap_or(path),
            sources,
            is_ours: false,
            failed: None,
        },
        verbosity: context.global.verbosity(),
        interactive: context.console.interactive,
    }))
}

/// The guide, and then the mount that it has led to; if that cannot be made, the guide says why.
fn serve_after_setup(
    context: &mut Context<'_>,
    mount: &MountArguments,
    mut set_up: SetUp,
) -> Result<(), Message> {
    loop {
        match context.program.set_up(set_up.clone())? {
            SetUpEnd::Ended => return Ok(()),
            SetUpEnd::Written => set_up.target.is_ours = true,
        }
        let mut ready = Ready::nobody();
        let served =
            start(context, mount, true).and_then(|start| context.program.serve(start, &mut ready));
        match served {
            Err(message) if !ready.is_announced() => {
                tracing::error!(%message, "the mount cannot be made; the set-up goes on");
                set_up.target.failed = Some(message.to_string());
            }
            other => return other,
        }
    }
}

/// Leaves the session of whoever has started us, and takes hold of the pipe to them.
fn background() -> Result<Ready, Message> {
    let cannot = |error: io::Error| {
        Message::new(
            Code::Failed,
            format!("the daemon cannot leave its session: {error}"),
        )
    };
    // We may be a session's leader already.
    let _ = rustix::process::setsid();
    rustix::process::chdir("/").map_err(|error| cannot(error.into()))?;
    let pipe =
        rustix::io::fcntl_dupfd_cloexec(io::stdout(), 3).map_err(|error| cannot(error.into()))?;
    Ok(Ready::pipe(pipe))
}

/// Everything that a daemon starts with; what `mount` checks before it starts one.
pub(super) fn start(
    context: &Context<'_>,
    mount: &MountArguments,
    foreground: bool,
) -> Result<Start, Message> {
    let MountOptions {
        config,
        settings,
        ignored: _,
    } = options_of(context, mount)?;
    let Loaded {
        config,
        sources,
        path: named,
    } = load_config(context.console, config.as_deref(), settings)?;
    let Some(mountpoint) = config.mountpoint.as_deref().map(resolve) else {
        return Err(Message::new(Code::Usage, "nothing says where to mount")
            .with_hint(match named.as_deref().is_some_and(is_originals) {
                true => "the original had none: `speedloader mount /mnt/models`, or `-o mountpoint=/mnt/models`",
                false => "name a directory: `speedloader mount /mnt/models`; or set `mountpoint` in the configuration",
            }));
    };
    Ok(Start {
        config,
        sources,
        mountpoint,
        verbosity: context.global.verbosity(),
        foreground,
    })
}

/// Whether a configuration is the original's, by its name.
fn is_originals(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "json")
}

/// The configuration file that is named, and the settings that go before it.
fn options_of(context: &Context<'_>, mount: &MountArguments) -> Result<MountOptions, Message> {
    let mut options = mount.settings()?;
    let variable = |name: &str| context.console.variable(name).map(PathBuf::from);
    let socket = context.global.socket.clone();
    if let Some(socket) = socket.or_else(|| variable("SPEEDLOADER_SOCKET")) {
        let socket = absolute("--socket", &socket)?;
        options.settings.push(("control.socket".to_owned(), socket));
    }
    options.config = context.global.config.clone().or(options.config);
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::MountArguments;

    #[test]
    fn an_option_can_be_about_a_pool_that_a_flag_names() {
        let arguments = MountArguments {
            mountpoint: None,
            models: None,
            cold: Vec::new(),
            pool: vec!["p:1GiB".to_owned()],
            options: vec!["pool.p.mount=false".to_owned()],
        };
        let settings = arguments.settings().expect("they are valid").settings;
        let keys: Vec<&str> = settings.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["pool", "pool.p.mount"]);
    }
}

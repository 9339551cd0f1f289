//! `speedloader mount`: starts a daemon in the background and returns when its mount answers.

use std::ffi::OsString;

use clap::Args;
use speedloader_config::MountOptions;

use super::context::Context;
use super::serve::{self, MountArguments};
use super::spawn;
use crate::command::Message;
use crate::view::{DoneView, View};

/// Mount, and return when the mount answers
#[derive(Args, Debug, Default)]
#[command(after_help = "\
Works as root and, with fusermount3 installed, as an ordinary user. What the daemon has to say is
kept in `daemon.log` in its `state_dir`.

Examples:
  speedloader mount
  speedloader mount /mnt/models --models ~/models --pool 16GiB
  speedloader mount ~/mnt --models ~/models --cold /srv/models -o placement.strategy=fill-first

In /etc/fstab:
  speedloader /mnt/models fuse.speedloader config=/etc/speedloader/config.toml,_netdev 0 0")]
pub(super) struct Arguments {
    #[command(flatten)]
    mount: MountArguments,
}

pub(super) fn run(arguments: Arguments, context: &mut Context<'_>) -> Result<(), Message> {
    // What is wrong with the arguments or the configuration is told here, by the one whom they ask.
    let start = serve::start(context, &arguments.mount, false)?;
    let pid = spawn::serve_in_background(&serve_arguments(&arguments.mount, context)?)?;
    let text = format!(
        "{} is mounted on {} by process {pid}; `speedloader status` shows more",
        start.config.models_dir.display(),
        start.mountpoint.display()
    );
    context.show_change(&View::Done(DoneView { text }))
}

/// The same arguments for `serve`, which starts in another directory.
fn serve_arguments(
    mount: &MountArguments,
    context: &Context<'_>,
) -> Result<Vec<OsString>, Message> {
    let mut arguments: Vec<OsString> = Vec::new();
    let global = &context.global;
    for (flag, path) in [("--config", &global.config), ("--socket", &global.socket)] {
        if let Some(path) = path {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            arguments.extend([OsString::from(flag), path.into_os_string()]);
        }
    }
    arguments.extend((0..global.verbose).map(|_| OsString::from("--verbose")));
    arguments.extend(global.quiet.then(|| OsString::from("--quiet")));
    let MountOptions {
        config,
        settings,
        ignored: _,
    } = mount.settings()?;
    if let (Some(config), None) = (config, &global.config) {
        arguments.extend([OsString::from("--config"), config.into_os_string()]);
    }
    for (key, value) in settings {
        arguments.extend([OsString::from("-o"), OsString::from(option(&key, &value))]);
    }
    Ok(arguments)
}

/// A setting as a mount option: commas and quotes in its value do not end it.
pub(super) fn option(key: &str, value: &str) -> String {
    let value = value
        .replace('\\', "\\\\")
        .replace(',', "\\,")
        .replace('"', "\\\"");
    format!("{key}={value}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use speedloader_config::parse_mount_options;

    proptest! {
        #[test]
        fn any_value_survives_as_an_option(value in "/[ -~]{0,30}") {
            let parsed = parse_mount_options(&option("models", &value));
            prop_assert_eq!(parsed.map(|options| options.settings), Ok(vec![("models_dir".to_owned(), value)]));
        }
    }
}

//! The configuration of the daemon that runs, which need not be that of any file.

use std::path::{Path, PathBuf};

use speedloader_config::{Config, Origin, Sources, load_path, load_shown};

use super::context::Context;
use super::settings;
use crate::command::Command;
use crate::view::{SettingView, View};

/// What the daemon says of its configuration.
pub(super) struct Running {
    /// Without the secrets that are not in its file, or in one that may not be read.
    pub(super) config: Config,
    /// Its file.
    pub(super) path: Option<PathBuf>,
    settings: Vec<SettingView>,
}

/// The daemon's configuration, where one answers and no other configuration is named.
pub(super) fn running(context: &Context<'_>) -> Option<Running> {
    if context.global.config.is_some() {
        return None;
    }
    let Ok(View::Config(view)) = context.ask(Command::Config {}) else {
        return None;
    };
    let account = settings::account(context.console);
    let mut config = load_shown(&view.toml, account).ok()?;
    let path = view.path.map(PathBuf::from);
    if let Some(written) = path.as_deref().and_then(|path| written(path, context)) {
        config.http.token = written.http.token;
        for (name, remote) in &mut config.remotes {
            let own = written.remotes.get(name);
            remote.dhchap_secret = own.and_then(|own| own.dhchap_secret.clone());
        }
    }
    Some(Running {
        config,
        path,
        settings: view.settings,
    })
}

/// What is in the daemon's file.
fn written(path: &Path, context: &Context<'_>) -> Option<Config> {
    let sources = Sources {
        options: settings::client_options(),
        account: settings::account(context.console),
        ..Sources::default()
    };
    load_path(path, sources).ok()
}

impl Running {
    /// Where a key's value is from; none if nobody has set it.
    pub(super) fn origin_of(&self, key: &str) -> Option<&str> {
        let mut settings = self.settings.iter();
        let setting = settings.find(|setting| setting.key == key)?;
        (setting.origin != Origin::Default.to_string()).then_some(&setting.origin)
    }
}

//! The daemon's HTTP door. The mount does not depend on it: where it cannot be opened that is an event and a
//! warning, and it is tried again, so that nobody denies it for good by holding its address for a moment.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use speedloader_config::Config;

use crate::command::Message;
use crate::control::http::Token;
use crate::control::{Executor, HttpServer, HttpSettings};
use crate::coordinator::Coordinator;

/// How often it is tried to open a door that could not be opened.
const AGAIN: Duration = Duration::from_secs(5);

/// The door, or the attempts to open it.
pub(super) enum WebDoor {
    /// It is not wanted.
    Off,
    /// It is open.
    Open(HttpServer),
    /// It is tried again until it is open, or the sender is gone.
    Trying(Sender<()>, JoinHandle<Option<HttpServer>>),
}

impl WebDoor {
    /// Opens the door if the configuration wants one.
    pub(super) fn open(
        config: &Config,
        mountpoint: &Path,
        coordinator: &Arc<Coordinator>,
    ) -> WebDoor {
        if !config.http.enabled {
            return WebDoor::Off;
        }
        // It has just been mounted: what is there is ours.
        let found = rustix::fs::stat(mountpoint);
        let mount = found
            .ok()
            .map(|found| (mountpoint.to_owned(), found.st_dev));
        if let Some(server) = serve(config, mount.as_ref(), coordinator) {
            return WebDoor::Open(server);
        }
        let (end, ended) = bounded(0);
        let (config, coordinator) = (config.clone(), Arc::clone(coordinator));
        let thread = std::thread::Builder::new()
            .name("web-door".to_owned())
            .spawn(move || try_until(&ended, &config, mount.as_ref(), &coordinator));
        match thread {
            Ok(thread) => WebDoor::Trying(end, thread),
            Err(error) => {
                tracing::warn!(%error, "the web page is not tried again");
                WebDoor::Off
            }
        }
    }

    /// Takes no more requests, and lets answers that are ready be written.
    pub(super) fn close(self) {
        let server = match self {
            WebDoor::Off => None,
            WebDoor::Open(server) => Some(server),
            WebDoor::Trying(end, thread) => {
                drop(end);
                thread.join().unwrap_or_default()
            }
        };
        if let Some(server) = server {
            server.stop();
        }
    }
}

fn try_until(
    ended: &Receiver<()>,
    config: &Config,
    mount: Option<&(PathBuf, u64)>,
    coordinator: &Arc<Coordinator>,
) -> Option<HttpServer> {
    while ended.recv_timeout(AGAIN) == Err(RecvTimeoutError::Timeout) {
        if let Some(server) = serve(config, mount, coordinator) {
            coordinator.web_works(server.address());
            // It is open for as long as the daemon wants it.
            let _ = ended.recv();
            return Some(server);
        }
    }
    None
}

fn serve(
    config: &Config,
    mount: Option<&(PathBuf, u64)>,
    coordinator: &Arc<Coordinator>,
) -> Option<HttpServer> {
    let executor: Arc<dyn Executor> = coordinator.clone();
    let started = HttpServer::listen(config.http.listen).and_then(|listener| {
        let settings = HttpSettings {
            mount: mount.cloned(),
            ..settings(config)?
        };
        HttpServer::start_at(listener, settings, executor)
    });
    match started {
        Ok(server) => {
            tracing::info!("the web page is at http://{}/", server.address());
            Some(server)
        }
        Err(message) => {
            coordinator.web_failed(&message);
            None
        }
    }
}

/// What the configuration says of the door. Writes the token's file where the token is not configured: only once the
/// address is ours.
pub(super) fn settings(config: &Config) -> Result<HttpSettings, Message> {
    let token = match &config.http.token {
        Some(token) => Token::new(token.as_str()),
        None => Token::of_process(&config.state_dir, super::control_group(config)?)?,
    };
    Ok(HttpSettings {
        hosts: config.http.hosts.clone(),
        ..HttpSettings::new(config.http.listen, token)
    })
}

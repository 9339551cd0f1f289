//! Which configuration and which socket a verb means: flag over environment over file over default,
//! and where the file is looked for.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use speedloader_config::{Account, Config, Faults, Sources, load, load_path};

use super::console::Console;
use crate::command::{Code, Message};

const SYSTEM_DIRECTORY: &str = "/etc/speedloader";
/// The second is the original Speedloader's.
const NAMES: [&str; 2] = ["config.toml", "config.json"];

/// A configuration and what it was made of.
pub(super) struct Loaded {
    pub(super) config: Config,
    pub(super) sources: Sources,
    pub(super) path: Option<PathBuf>,
}

/// Who runs the program.
pub(super) fn account(console: &Console) -> Account {
    let uid = rustix::process::geteuid().as_raw();
    Account {
        uid,
        // mount(8) gives its helpers none.
        home: console
            .variable("HOME")
            .map(PathBuf::from)
            .or_else(|| home_of(uid)),
        runtime_dir: console.variable("XDG_RUNTIME_DIR").map(PathBuf::from),
    }
}

/// The home directory that `/etc/passwd` gives a user.
fn home_of(uid: u32) -> Option<PathBuf> {
    let people = fs::read_to_string("/etc/passwd").ok()?;
    let uid = uid.to_string();
    let person = people
        .lines()
        .find(|line| line.split(':').nth(2) == Some(&uid))?;
    let home = person
        .split(':')
        .nth(5)
        .filter(|home| home.starts_with('/'))?;
    Some(PathBuf::from(home))
}

/// Loads the configuration from `explicit`, or from where it is looked for, together with the
/// environment and `options`.
///
/// # Errors
/// [`Code::BadConfig`] with a line for each fault.
pub(super) fn load_config(
    console: &Console,
    explicit: Option<&Path>,
    options: Vec<(String, String)>,
) -> Result<Loaded, Message> {
    let account = account(console);
    let path = explicit
        .map(Path::to_owned)
        .or_else(|| console.variable("SPEEDLOADER_CONFIG").map(PathBuf::from))
        .or_else(|| {
            places(console, account.uid)
                .into_iter()
                .find(|place| is_there(place))
        });
    let mut sources = Sources {
        file: None,
        environment: console.environment.clone(),
        options,
        account,
    };
    let config = match &path {
        Some(path) => load_path(path, sources.clone()),
        None => load(&sources),
    }
    .map_err(|faults| bad_config(path.as_deref(), &faults))?;
    if let Some(path) = &path {
        // The contents are read again at a reload; only the path is kept.
        sources.file = Some(speedloader_config::File {
            path: path.clone(),
            contents: Vec::new(),
        });
    }
    Ok(Loaded {
        config,
        sources,
        path,
    })
}

/// Where a configuration would be, if there is none: the place that somebody named, or the first where it
/// is looked for.
pub(super) fn missing_config(console: &Console, explicit: Option<&Path>) -> Option<PathBuf> {
    let places = places_of(console, explicit);
    places
        .iter()
        .all(|path| is_gone(path))
        .then(|| places[0].clone())
}

/// The configuration that is in the way of a first one.
pub(super) fn found_config(console: &Console, explicit: Option<&Path>) -> Option<PathBuf> {
    let places = places_of(console, explicit);
    places.into_iter().find(|path| !is_gone(path))
}

fn places_of(console: &Console, explicit: Option<&Path>) -> Vec<PathBuf> {
    let named = explicit
        .map(Path::to_owned)
        .or_else(|| console.variable("SPEEDLOADER_CONFIG").map(PathBuf::from));
    match named {
        Some(path) => vec![path],
        None => places(console, account(console).uid),
    }
}

fn is_gone(path: &Path) -> bool {
    let looked = fs::symlink_metadata(path);
    looked.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// What a daemon without a configuration goes by: how its page is served, and no models.
///
/// # Errors
/// [`Code::BadConfig`] if the environment or the options are faulty.
pub(super) fn config_of_setup(sources: &Sources) -> Result<Config, Message> {
    let mut sources = sources.clone();
    sources.options.extend(client_options());
    load(&sources).map_err(|faults| bad_config(None, &faults))
}

/// Where a configuration is looked for, in this order.
fn places(console: &Console, uid: u32) -> Vec<PathBuf> {
    let mut directories = Vec::new();
    if uid != 0 {
        let directory = console
            .variable("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(|| {
                console
                    .variable("HOME")
                    .map(|home| Path::new(home).join(".config"))
            });
        directories.extend(directory.map(|directory| directory.join("speedloader")));
    }
    directories.push(PathBuf::from(SYSTEM_DIRECTORY));
    let places = directories.iter().flat_map(|directory| files_in(directory));
    places.collect()
}

/// Where root's configuration is looked for.
pub(super) fn system_places() -> [PathBuf; 2] {
    files_in(Path::new(SYSTEM_DIRECTORY))
}

fn files_in(directory: &Path) -> [PathBuf; 2] {
    NAMES.map(|name| directory.join(name))
}

/// A file that exists but may not be read by this user is somebody else's configuration.
fn is_there(path: &Path) -> bool {
    match fs::File::open(path) {
        Ok(_) => true,
        Err(error) => !matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
        ),
    }
}

/// A line for each fault of the configuration in `path`.
pub(super) fn bad_config(path: Option<&Path>, faults: &Faults) -> Message {
    let what = match path {
        Some(path) => format!("the configuration {}", path.display()),
        None => "the configuration (no file was found)".to_owned(),
    };
    faulty(Code::BadConfig, &what, faults)
}

/// A message with a line for each fault of `what`.
pub(super) fn faulty(code: Code, what: &str, faults: &Faults) -> Message {
    let counted = match faults.count() {
        1 => "a fault".to_owned(),
        count => format!("{count} faults"),
    };
    Message::new(code, format!("{what}: {counted}\n{faults}"))
}

/// The socket of the daemon that is meant.
///
/// # Errors
/// [`Code::BadConfig`] if it would be in a configuration that is faulty.
pub(super) fn socket(
    console: &Console,
    explicit: Option<&Path>,
    config: Option<&Path>,
) -> Result<PathBuf, Message> {
    if let Some(socket) = explicit
        .map(Path::to_owned)
        .or_else(|| console.variable("SPEEDLOADER_SOCKET").map(PathBuf::from))
    {
        return Ok(socket);
    }
    let own = load_config(console, config, client_options())
        .map_err(|message| message.with_hint("correct it, or name the socket with --socket"))?
        .config
        .control
        .socket;
    if config.is_some() || rustix::process::geteuid().is_root() || own.exists() {
        return Ok(own);
    }
    // Members of its group may steer the system's daemon.
    let system = system_config()?.control.socket;
    Ok(if system.exists() { system } else { own })
}

/// Whether a socket is where it is by default for this user.
pub(super) fn is_default_socket(console: &Console, socket: &Path) -> bool {
    account(console).default_socket().as_deref() == Some(socket)
}

/// Where the models are is the daemon's concern; a client needs no more than what reaches it.
pub(super) fn client_options() -> Vec<(String, String)> {
    vec![("models_dir".to_owned(), "/nonexistent/models".to_owned())]
}

fn system_config() -> Result<Config, Message> {
    let sources = Sources {
        account: Account::root(),
        options: client_options(),
        ..Sources::default()
    };
    let mut places = system_places().into_iter();
    let path = places.find(|place| is_there(place));
    let loaded = match &path {
        Some(path) => load_path(path, sources),
        None => load(&sources),
    };
    loaded.map_err(|faults| bad_config(path.as_deref(), &faults))
}

/// The configuration of the daemon at `socket`, as far as a client can tell: its own user's, or the
/// system's if the socket is that one's.
///
/// # Errors
/// [`Code::BadConfig`] with a line for each fault.
pub(super) fn client_config(
    console: &Console,
    explicit: Option<&Path>,
    socket: &Path,
) -> Result<Config, Message> {
    let own = load_config(console, explicit, client_options())?.config;
    if explicit.is_some() || own.control.socket == socket {
        return Ok(own);
    }
    let system = system_config()?;
    Ok(if system.control.socket == socket {
        system
    } else {
        own
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Style;

    #[test]
    fn the_originals_configuration_is_found_where_it_was() {
        let console = Console {
            out: Box::new(io::sink()),
            err: Box::new(io::sink()),
            style: Style::default(),
            interactive: false,
            answers: None,
            environment: vec![("HOME".into(), "/home/me".into())],
            now_ms: || 0,
        };
        let places = |uid| places(&console, uid);
        let system =
            ["config.toml", "config.json"].map(|name| Path::new("/etc/speedloader").join(name));
        assert_eq!(places(0), system);
        let own = Path::new("/home/me/.config/speedloader/config.json");
        assert_eq!(
            (places(1000)[1].as_path(), &places(1000)[2..]),
            (own, &system[..])
        );
    }
}

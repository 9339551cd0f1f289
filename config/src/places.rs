//! How the directories of a configuration lie to each other, as they are written or as they are found. Pure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::effective::Config;
use crate::fault::{Fault, Faults, quoted};
use crate::field::key_of;
use crate::origin::Origin;

/// A directory of the configuration, and what it is for.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    pub(crate) key: String,
    pub(crate) path: PathBuf,
    pub(crate) role: Role,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Mountpoint,
    Home,
    Pool,
    State,
    Socket,
}

/// What is wrong about the directories of a configuration that is right as a text: `resolve` knows where they really
/// are, and links lead where no text says.
pub fn misplaced(config: &Config, resolve: impl Fn(&Path) -> PathBuf) -> Faults {
    let written = directories_of(config);
    let resolved: Vec<Directory> = written
        .iter()
        .map(|directory| Directory {
            path: resolve(&directory.path),
            ..directory.clone()
        })
        .collect();
    let mut faults = Faults::default();
    for (later, earlier, (relation, wanted)) in related(&resolved) {
        let at = config.origins.get(&later.key);
        let other = with_place(&config.origins, &earlier.key);
        faults.push(Fault {
            key: later.key.clone(),
            at: at.cloned().unwrap_or(Origin::Default),
            found: format!(
                "a way to {}, which is {relation} {other}",
                quoted_path(&later.path)
            ),
            wanted: wanted.to_owned(),
            hint: None,
        });
    }
    faults
}

/// What is wrong about two directories: the relation and what would be right.
pub(crate) type Relation = (&'static str, &'static str);

/// Every two that do not go together.
pub(crate) fn related(
    directories: &[Directory],
) -> impl Iterator<Item = (&Directory, &Directory, Relation)> {
    directories.iter().enumerate().flat_map(|(i, later)| {
        let earlier = directories[..i].iter();
        earlier.filter_map(move |earlier| Some((later, earlier, relation(later, earlier)?)))
    })
}

pub(crate) fn with_place(origins: &BTreeMap<String, Origin>, key: &str) -> String {
    match origins.get(key) {
        Some(at) => format!("{key} ({at})"),
        None => key.to_owned(),
    }
}

pub(crate) fn quoted_path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

/// What is wrong about two directories together, if anything.
fn relation(later: &Directory, earlier: &Directory) -> Option<Relation> {
    use Role::{Home, Mountpoint, Pool, Socket, State};
    let relation = if later.path == earlier.path {
        "the same as"
    } else if later.path.starts_with(&earlier.path) {
        "inside"
    } else if earlier.path.starts_with(&later.path) {
        "around"
    } else {
        return None;
    };
    let wanted = match (earlier.role, later.role) {
        (Mountpoint, Socket | State) if relation == "around" => return None,
        (Mountpoint, _) if relation == "around" => "a directory without the mountpoint in it",
        (Mountpoint, _) => "a directory outside of the mount",
        (Home, Home) => "directories that do not overlap, so that each file has one home",
        (Home, Pool) => {
            "a directory apart from the models, because a pool is not seen through the mount"
        }
        (Pool, Pool) => "a directory of its own for each pool",
        (Home | Pool, State) if relation != "around" => "a directory apart from models and pools",
        _ => return None,
    };
    Some((relation, wanted))
}

/// All directories of a configuration.
fn directories_of(config: &Config) -> Vec<Directory> {
    let directory = |pattern: &str, item: usize, path: &Path, role: Role| Directory {
        key: key_of(pattern, &item.to_string()),
        path: path.to_owned(),
        role,
    };
    let mountpoint = config.mountpoint.iter();
    let mountpoint = mountpoint.map(|path| directory("mountpoint", 0, path, Role::Mountpoint));
    let models = directory("models_dir", 0, &config.models_dir, Role::Home);
    let cold = config.cold.iter().enumerate();
    let cold = cold.map(|(i, cold)| directory("cold[].path", i, &cold.path, Role::Home));
    let pools = config.pools.iter().enumerate();
    let pools = pools.map(|(i, pool)| directory("pool[].path", i, &pool.path, Role::Pool));
    let state = directory("state_dir", 0, &config.state_dir, Role::State);
    let socket = directory("control.socket", 0, &config.control.socket, Role::Socket);
    mountpoint
        .chain([models])
        .chain(cold)
        .chain(pools)
        .chain([state, socket])
        .collect()
}

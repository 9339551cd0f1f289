//! Who runs the program, and the defaults that follow from it.

use std::path::PathBuf;

/// Who runs the program; some defaults depend on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// The user's number; 0 is root.
    pub uid: u32,
    /// The home directory, if there is one.
    pub home: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`, if it is set.
    pub runtime_dir: Option<PathBuf>,
}

impl Account {
    /// The administrator.
    pub fn root() -> Account {
        Account::default()
    }

    fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// Where the socket is that nobody has configured.
    pub fn default_socket(&self) -> Option<PathBuf> {
        self.default_of("control.socket", "").map(PathBuf::from)
    }

    /// The computed default of a field, as text; `None` if it does not follow from what is known.
    pub(crate) fn default_of(&self, key: &str, pool: &str) -> Option<String> {
        let under = |dir: &Option<PathBuf>, rest: &str| {
            dir.as_ref()
                .and_then(|dir| dir.join(rest).to_str().map(str::to_owned))
        };
        match key {
            "state_dir" if self.is_root() => Some("/var/lib/speedloader/state".to_owned()),
            "state_dir" => under(&self.home, ".local/state/speedloader"),
            "control.socket" if self.is_root() => Some("/run/speedloader/control.sock".to_owned()),
            "control.socket" => under(&self.runtime_dir, "speedloader/control.sock")
                .or_else(|| Some(format!("/tmp/speedloader-{}/control.sock", self.uid))),
            "pool[].path" if self.is_root() => Some(format!("/run/speedloader/pools/{pool}")),
            "pool[].path" => Some(format!("/dev/shm/speedloader-{}/{pool}", self.uid)),
            "pool[].mount" | "mount.allow_other" => Some(self.is_root().to_string()),
            _ => None,
        }
    }
}

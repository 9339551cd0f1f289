//! A place for one mount: a temporary tree with a models directory, cold directories, a mountpoint,
//! a place for pools, and what the daemon shall be told. It is filled first and then mounted.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::content;
use super::mount::Mount;
use super::skip;
use super::store::{Speed, Store};

/// How long a test may take unless it asks for more.
const LIMIT: Duration = Duration::from_secs(180);

/// A mount that is still to be made.
#[derive(Debug)]
pub struct Site {
    /// Removed with the site.
    _tree: tempfile::TempDir,
    /// Pools of ordinary users must lie on a tmpfs that exists.
    pub(super) memory: Option<tempfile::TempDir>,
    pub(super) root: PathBuf,
    models: PathBuf,
    mountpoint: PathBuf,
    pub(super) colds: Vec<PathBuf>,
    pub(super) pools: Vec<(String, String)>,
    pub(super) options: Vec<String>,
    pub(super) environment: Vec<(OsString, OsString)>,
    pub(super) user: Option<u32>,
    pub(super) limit: Duration,
    pub(super) guarded: bool,
}

impl Default for Site {
    fn default() -> Self {
        Self::new()
    }
}

impl Site {
    /// One cold directory, one pool `p` of 256 MiB, no moves but on command, an event for all.
    pub fn new() -> Self {
        let tree = tempfile::Builder::new()
            .prefix("speedloader-test-")
            .tempdir()
            .unwrap();
        // Other users shall reach the mount.
        fs::set_permissions(tree.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let root = tree.path().canonicalize().unwrap();
        for name in ["models", "mnt", "pools", "state"] {
            fs::create_dir(root.join(name)).unwrap();
        }
        // Whatever the umask of the tests' process is: nobody else may write there.
        let ours = fs::Permissions::from_mode(0o755);
        fs::set_permissions(root.join("state"), ours).unwrap();
        let site = Site {
            _tree: tree,
            memory: None,
            models: root.join("models"),
            mountpoint: root.join("mnt"),
            root,
            colds: Vec::new(),
            pools: vec![("p".to_owned(), "256MiB".to_owned())],
            // Tests run side by side, and the port of the web page is one.
            options: vec![
                "policy.enabled=false".to_owned(),
                "http.enabled=false".to_owned(),
                // Nor shall copies wait for whoever else reads from this machine's disk.
                "mover.back_off=0s".to_owned(),
            ],
            environment: Vec::new(),
            user: None,
            limit: LIMIT,
            guarded: true,
        };
        site.colds(1)
    }

    /// With the models directory and the mountpoint at these places of the tree.
    #[must_use]
    pub fn at(mut self, models: &str, mountpoint: &str) -> Self {
        (self.models, self.mountpoint) = (self.root.join(models), self.root.join(mountpoint));
        for directory in [&self.models, &self.mountpoint] {
            fs::create_dir_all(directory).unwrap();
        }
        self
    }

    /// With so many cold directories.
    #[must_use]
    pub fn colds(mut self, count: usize) -> Self {
        self.colds = (0..count)
            .map(|index| self.root.join(format!("cold{index}")))
            .collect();
        for cold in &self.colds {
            fs::create_dir_all(cold).unwrap();
        }
        self
    }

    /// With a cold directory that is there already, in place of one of ours.
    pub fn set_cold(&mut self, index: usize, path: PathBuf) {
        self.colds[index] = path;
    }

    /// With one cold directory more.
    #[must_use]
    pub fn add_cold(mut self) -> Self {
        let cold = self.root.join(format!("cold{}", self.colds.len()));
        fs::create_dir_all(&cold).unwrap();
        self.colds.push(cold);
        self
    }

    /// With these pools (name and size) instead of the one.
    #[must_use]
    pub fn pools(mut self, pools: &[(&str, &str)]) -> Self {
        let owned = pools
            .iter()
            .map(|(name, size)| ((*name).to_owned(), (*size).to_owned()));
        self.pools = owned.collect();
        self
    }

    /// With a setting, as a mount option: `key=value`.
    #[must_use]
    pub fn option(mut self, option: &str) -> Self {
        self.options.push(option.to_owned());
        self
    }

    /// Reads are served by the daemon.
    #[must_use]
    pub fn without_passthrough(self) -> Self {
        self.option("cache.passthrough=off")
    }

    /// Nothing may be changed through the mount.
    #[must_use]
    pub fn read_only(self) -> Self {
        self.option("ro")
    }

    /// The daemon runs as this ordinary user, to whom everything belongs.
    #[must_use]
    pub fn user(mut self, uid: u32) -> Self {
        self.user = Some(uid);
        self
    }

    /// Takes longer than others.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Without a watch over cold storage: for a cold directory that cannot be read through.
    #[must_use]
    pub fn unguarded(mut self) -> Self {
        self.guarded = false;
        self
    }

    /// The temporary tree.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path in the models directory.
    pub fn models(&self, path: impl AsRef<Path>) -> PathBuf {
        self.models.join(path)
    }

    /// A path in a cold directory.
    pub fn cold(&self, index: usize, path: impl AsRef<Path>) -> PathBuf {
        self.colds[index].join(path)
    }

    /// A path in the mount to come.
    pub fn mounted(&self, path: impl AsRef<Path>) -> PathBuf {
        self.mountpoint.join(path)
    }

    /// A file in the first cold directory, with the content of a seed.
    #[must_use]
    pub fn cold_file(self, path: impl AsRef<Path>, seed: u64, len: u64) -> Self {
        content::write_file(&self.cold(0, path), seed, len);
        self
    }

    /// A file in the models directory, with the content of a seed.
    #[must_use]
    pub fn models_file(self, path: impl AsRef<Path>, seed: u64, len: u64) -> Self {
        content::write_file(&self.models(path), seed, len);
        self
    }

    /// Mounts it. `None`, and a line that says why, where nothing can be mounted.
    pub fn start(self) -> Option<Mount> {
        let closed = self.user.is_some() && !skip::is_fuse_open_to_all();
        let why = closed.then_some("/dev/fuse is closed to ordinary users (udev would open it)");
        match skip::why_no_mount().or(why) {
            Some(why) => {
                skip::skip(why);
                None
            }
            None => Some(Mount::start(self.prepared())),
        }
    }

    /// A far store in the place of the first cold directory. `None`, and a line that says why, where nothing can be
    /// mounted.
    pub fn far_store(&self, directory: &Path, speed: Speed) -> Option<Store> {
        self.far_store_at(directory, &self.cold(0, ""), speed)
    }

    /// The same there.
    pub fn far_store_at(&self, directory: &Path, place: &Path, speed: Speed) -> Option<Store> {
        if let Some(why) = skip::why_no_mount() {
            skip::skip(why);
            return None;
        }
        Some(Store::start(directory, place, speed).expect("a far store"))
    }

    /// Gives everything to the user whom the daemon runs as.
    pub fn prepared(mut self) -> Self {
        let Some(uid) = self.user else { return self };
        let memory = memory_directory();
        give(memory.path(), uid);
        self.memory = Some(memory);
        give(&self.root, uid);
        self
    }

    /// Where a pool lies.
    pub fn pool_path(&self, name: &str) -> PathBuf {
        match &self.memory {
            Some(memory) => memory.path().join(name),
            None => self.root.join("pools").join(name),
        }
    }
}

fn give(path: &Path, uid: u32) {
    let stat = fs::symlink_metadata(path).unwrap();
    if !stat.file_type().is_symlink() {
        chown(path, Some(uid), Some(uid)).unwrap();
    }
    if stat.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path(), uid);
        }
    }
}

/// A directory on a tmpfs; named after the directory of all temporary files, so that whoever has
/// started us can tell which are ours.
fn memory_directory() -> tempfile::TempDir {
    let all = std::env::temp_dir();
    let run = all.file_name().unwrap_or_default().to_string_lossy();
    let prefix = format!("{run}-speedloader-test-");
    tempfile::Builder::new()
        .prefix(&prefix)
        .tempdir_in("/dev/shm")
        .unwrap()
}

/// Runs a test twice: the kernel moves the bytes, where it can, and the daemon does.
#[allow(clippy::print_stdout)] // libtest shows it when the test fails.
pub fn in_both_modes(site: impl Fn(Site) -> Site, test: impl Fn(&mut Mount)) {
    for passthrough in [true, false] {
        let site = site(Site::new());
        let site = if passthrough {
            site
        } else {
            site.without_passthrough()
        };
        let Some(mut mount) = site.start() else {
            return;
        };
        let told = mount.status().passthrough;
        if !passthrough {
            assert!(!told.active, "{told:?}");
        }
        println!("reads: {}", told.why);
        test(&mut mount);
        mount.finish();
    }
}

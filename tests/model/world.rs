//! The real thing below the mount: homes on disk, pools, `TieredFs`, copies by the real code; and
//! what the homes hold on disk.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use crossbeam_channel::bounded;
use speedloader_fs::copy::{CopyControl, CopySettings, FileSource, Source, copy};
use speedloader_fs::error::{ErrorKind, FsError, FsResult};
use speedloader_fs::file::HomeFile;
use speedloader_fs::home::{Watch, WatchChoice};
use speedloader_fs::ids::PoolId;
use speedloader_fs::pool::{Pool, PoolKind, PoolSettings};
use speedloader_fs::rel_path::RelPath;
use speedloader_fs::replica::{Drainer, Partial, Replica, ReplicaMeta, ReplicaOrigin, adopt};
use speedloader_fs::seam::Seam;
use speedloader_fs::settings::{ColdSettings, FsSettings};
use speedloader_fs::tiered_fs::TieredFs;
use speedloader_fs::tmpfs::{HugePages, TmpfsSettings};
use speedloader_fs::union::Found;
use speedloader_fs::virtual_file::NoVirtualFiles;

use super::kernel::Kernel;
use super::op::{Behind, P};

/// Number of homes: the models directory and two of cold storage.
pub const HOMES: usize = 3;
pub const POOLS: usize = 2;
const CAPACITY_BYTES: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(20);

/// What the pools of a run are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pools {
    /// A directory on a tmpfs.
    Memory,
    /// A tmpfs of our own; needs root.
    Tmpfs,
    /// A directory on the file system of the homes.
    Disk,
}

/// Fails at the step that it was told.
#[derive(Default)]
pub struct FailAt(AtomicU64);

impl Seam for FailAt {
    fn step(&self, _name: &'static str) -> FsResult<()> {
        let left = self.0.load(Ordering::SeqCst);
        if left > 0 {
            self.0.store(left - 1, Ordering::SeqCst);
            if left == 1 {
                return Err(FsError::new(
                    "step",
                    ErrorKind::Invalid("broken by the test"),
                ));
            }
        }
        Ok(())
    }
}

/// A copy that is complete and waits to be handed over.
pub struct Pending {
    pub file: Arc<HomeFile>,
    pub replica: Replica,
    pub writes: u32,
}

/// Directories that live as long as a run.
struct Ground {
    root: tempfile::TempDir,
    pools: Vec<PathBuf>,
    mounted: bool,
    _memory: Option<tempfile::TempDir>,
}

impl Drop for Ground {
    fn drop(&mut self) {
        if self.mounted {
            for pool in &self.pools {
                let _ = rustix::mount::unmount(pool, rustix::mount::UnmountFlags::DETACH);
            }
        }
    }
}

struct Running {
    kernel: Kernel,
    drainer: Arc<Drainer>,
    pools: Vec<Arc<Pool>>,
}

pub struct World {
    running: Option<Running>,
    pub pending: Option<Pending>,
    seam: Arc<FailAt>,
    kind: Pools,
    passthrough: bool,
    mtime: u64,
    ground: Ground,
}

fn wait_until(what: &str, mut is: impl FnMut() -> bool) -> Result<(), String> {
    let until = Instant::now() + PATIENCE;
    while !is() {
        if Instant::now() > until {
            return Err(format!("not within {PATIENCE:?}: {what}"));
        }
        std::thread::yield_now();
    }
    Ok(())
}

fn text(error: impl std::error::Error) -> String {
    let source = error
        .source()
        .map(|source| format!(": {source}"))
        .unwrap_or_default();
    format!("{error}{source}")
}

impl World {
    /// Empty homes, nothing running.
    pub fn new(kind: Pools, passthrough: bool) -> Result<World, String> {
        let root = tempfile::tempdir().map_err(text)?;
        for home in 0..HOMES {
            let path = root.path().join(format!("home{home}"));
            fs::create_dir(&path).map_err(text)?;
            set_mode(&path, 0o755)?;
        }
        let memory = match kind {
            Pools::Memory => Some(tempfile::tempdir_in("/dev/shm").map_err(text)?),
            Pools::Tmpfs | Pools::Disk => None,
        };
        let below = memory.as_ref().map_or(root.path(), |memory| memory.path());
        let pools = (0..POOLS)
            .map(|pool| below.join(format!("pool{pool}")))
            .collect();
        Ok(World {
            running: None,
            pending: None,
            seam: Arc::default(),
            kind,
            passthrough,
            mtime: 1_500_000_000,
            ground: Ground {
                root,
                pools,
                mounted: kind == Pools::Tmpfs,
                _memory: memory,
            },
        })
    }

    pub fn home(&self, home: usize) -> PathBuf {
        self.ground.root.path().join(format!("home{home}"))
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("it was started")
    }

    pub fn kernel(&mut self) -> &mut Kernel {
        &mut self.running.as_mut().expect("it was started").kernel
    }

    pub fn fs(&self) -> &Arc<TieredFs> {
        &self.running().kernel.fs
    }

    pub fn pools(&self) -> &[Arc<Pool>] {
        &self.running().pools
    }

    /// Starts as the daemon does: homes, threads, pools, adoption.
    pub fn start(&mut self) -> Result<(), String> {
        let cold = |home: usize| ColdSettings {
            path: self.home(home),
            watch: WatchChoice::Fixed(Watch::Inotify),
            rescan_interval: Duration::from_secs(3600),
        };
        let settings = FsSettings {
            models_dir: self.home(0),
            cold: (1..HOMES).map(cold).collect(),
            passthrough: self.passthrough,
            // The model knows nothing of names that are kept for a while.
            vanished_grace: Duration::ZERO,
            ..FsSettings::default()
        };
        let drainer = Arc::new(Drainer::start(|_| {}).map_err(text)?);
        let (events, heard) = bounded(65_536);
        let virtual_files = Arc::new(NoVirtualFiles);
        let (fs, notices) =
            TieredFs::new(settings, Arc::clone(&drainer), events, virtual_files).map_err(text)?;
        fs.start().map_err(text)?;
        let mut pools = Vec::new();
        for (number, path) in self.ground.pools.iter().enumerate() {
            let pool = Pool::connect(self.pool_settings(number, path)).map_err(text)?;
            fs.set_pool_speed(pool.id(), (POOLS - number) as u64);
            adopt_into(&fs, &pool, &drainer)?;
            pools.push(pool);
        }
        let kernel = Kernel::new(fs, notices, heard);
        self.running = Some(Running {
            kernel,
            drainer,
            pools,
        });
        Ok(())
    }

    fn pool_settings(&self, number: usize, path: &Path) -> PoolSettings {
        let kind = match self.kind {
            Pools::Tmpfs => PoolKind::Tmpfs(TmpfsSettings {
                capacity_bytes: CAPACITY_BYTES,
                huge_pages: HugePages::Always,
                no_swap: true,
                memory_policy: None,
            }),
            _ => PoolKind::Directory {
                capacity_bytes: CAPACITY_BYTES,
            },
        };
        PoolSettings {
            id: PoolId(number as u16),
            name: format!("pool{number}"),
            path: path.to_owned(),
            kind,
            speed_bytes_per_sec: Some(1 << 30),
            seam: Arc::clone(&self.seam) as Arc<dyn Seam>,
        }
    }

    /// Ends as a daemon does that expects a successor: replicas stay in their pools.
    pub fn stop(&mut self) -> Result<(), String> {
        self.pending = None;
        let Some(mut running) = self.running.take() else {
            return Ok(());
        };
        running.kernel.close_all();
        let fs = Arc::clone(&running.kernel.fs);
        fs.stop();
        drop(running.kernel);
        wait_until("threads of the file system end", || {
            Arc::strong_count(&fs) == 1
        })?;
        drop(fs);
        drop(running.drainer);
        // The next run must be able to take the pools over.
        let weak: Vec<_> = running.pools.iter().map(Arc::downgrade).collect();
        drop(running.pools);
        wait_until("pools are let go", || {
            weak.iter().all(|pool| pool.strong_count() == 0)
        })
    }

    // ---- moves -----------------------------------------------------------------------------------

    pub fn find(&self, path: &P) -> Option<Arc<HomeFile>> {
        let path = RelPath::new(path.0.as_bytes()).ok()?;
        match self.fs().union().find(&path)? {
            Found::File(file) => Some(file),
            Found::Directory(_) => None,
        }
    }

    /// Makes a complete, verified replica that nobody is given yet: what the mover does.
    pub fn copy(&self, path: &P, pool: usize) -> FsResult<Pending> {
        let gone = || FsError::new("promote", ErrorKind::NotFound);
        let file = self.find(path).ok_or_else(gone)?;
        if file.with_live(|live| live.writers > 0) {
            return Err(FsError::new(
                "promote",
                ErrorKind::Busy("the file is being written"),
            ));
        }
        let writes = file.writes();
        let fs = self.fs();
        let path = fs.union().path_of(&file).ok_or_else(gone)?;
        let home = fs.home_of(&file);
        let source = FileSource::new(home.open_file(&path, false)?);
        let failed = |error| FsError::io("promote", &path, error);
        let identity = source.identity().map_err(failed)?;
        let claim = self.pools()[pool].try_reserve(identity.size)?;
        let home = home.path().to_owned();
        let origin = ReplicaOrigin {
            home,
            path,
            source: identity,
        };
        let partial = Partial::create(claim, origin)?;
        let settings = CopySettings {
            threads: std::num::NonZeroUsize::MIN,
            chunk_bytes: 64 << 10,
            ..CopySettings::default()
        };
        let digest = copy(&source, &partial, &settings, &CopyControl::new())?;
        let replica = partial.publish(digest)?;
        Ok(Pending {
            file,
            replica,
            writes,
        })
    }

    pub fn hand_over(&self, pending: Pending) -> FsResult<()> {
        let published = self
            .fs()
            .publish(&pending.file, pending.replica, pending.writes);
        published.map_err(|(error, replica)| {
            self.running().drainer.drain(*replica);
            error
        })
    }

    pub fn promote(&self, path: &P, pool: usize) -> FsResult<()> {
        self.hand_over(self.copy(path, pool)?)
    }

    /// A promotion that fails at its `step`-th step; one with fewer steps succeeds.
    pub fn promote_failing(&self, path: &P, pool: usize, step: u64) -> FsResult<()> {
        self.seam.0.store(step, Ordering::SeqCst);
        let done = self.copy(path, pool);
        self.seam.0.store(0, Ordering::SeqCst);
        self.hand_over(done?)
    }

    pub fn demote(&self, path: &P, pool: Option<usize>) -> usize {
        let pool = pool.map(|pool| PoolId(pool as u16));
        self.find(path)
            .map_or(0, |file| self.fs().drop_replicas(&file, pool, "asked for"))
    }

    /// Names of complete replicas and of copies under construction that a pool shows.
    pub fn pool_names(&self, pool: usize) -> (usize, usize) {
        // What was dropped loses its name in the background, where the pool is no memory; and stays known
        // until nobody uses it.
        let drainer = &self.running().drainer;
        let dropped = || {
            let states = drainer.draining();
            let id = self.pools()[pool].id();
            states.iter().filter(|state| state.pool == id).count()
        };
        let data = |name: &str| self.count_names(pool, name, "data");
        let serving = self.pools()[pool].replicas_serving();
        // Too many for ever is found by whoever compares them.
        let _ = wait_until("what was dropped has no name", || {
            drainer.check_now();
            dropped() == 0 || data("replicas") <= serving
        });
        (
            data("replicas"),
            self.count_names(pool, "partial", "partial"),
        )
    }

    fn count_names(&self, pool: usize, name: &str, ending: &str) -> usize {
        let directory = self.ground.pools[pool].join(name);
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.path().extension().is_some_and(|e| e == ending))
            .count()
    }

    /// Waits until nothing drains any more.
    pub fn drained(&self) -> Result<(), String> {
        let running = self.running();
        wait_until("the last replica drained", || {
            running.drainer.check_now();
            running.drainer.draining().is_empty()
                && running
                    .pools
                    .iter()
                    .all(|pool| pool.usage().is_ok_and(|usage| usage.draining_bytes == 0))
        })
    }

    /// Waits until the union has seen the homes as they are.
    pub fn rescan(&mut self) -> Result<(), String> {
        if !self.fs().rescan(PATIENCE) {
            return Err("a rescan did not end".to_owned());
        }
        self.kernel().listen();
        Ok(())
    }

    // ---- homes -----------------------------------------------------------------------------------

    /// Changes a home directly.
    pub fn behind(&mut self, home: usize, change: &Behind) -> std::io::Result<()> {
        let home = self.home(home);
        self.mtime += 1;
        let mtime = UNIX_EPOCH + Duration::from_secs(self.mtime);
        let at = |path: &P| home.join(&path.0);
        match change {
            Behind::Write(path, fill) => {
                let path = at(path);
                let fresh = !path.exists();
                fs::write(&path, fill.bytes())?;
                if fresh {
                    fs::set_permissions(&path, fs::Permissions::from_mode(0o640))?;
                }
                File::options().write(true).open(&path)?.set_modified(mtime)
            }
            Behind::Replace(path, fill) => {
                let (path, fresh) = (at(path), home.join(".fresh"));
                fs::write(&fresh, fill.bytes())?;
                fs::set_permissions(&fresh, fs::Permissions::from_mode(0o640))?;
                File::options()
                    .write(true)
                    .open(&fresh)?
                    .set_modified(mtime)?;
                fs::rename(fresh, path)
            }
            Behind::Remove(path) => {
                let path = at(path);
                match fs::symlink_metadata(&path)?.is_dir() {
                    true => fs::remove_dir_all(path),
                    false => fs::remove_file(path),
                }
            }
            Behind::Rename(from, to) => fs::rename(at(from), at(to)),
            Behind::Link(from, to) => fs::hard_link(at(from), at(to)),
            Behind::Mkdir(path) => {
                fs::create_dir(at(path))?;
                fs::set_permissions(at(path), fs::Permissions::from_mode(0o750))
            }
            Behind::Symlink(path, target) => symlink(target, at(path)),
            Behind::Chmod(path, mode) => {
                let path = at(path);
                let extra = if path.is_dir() { 0o100 } else { 0 };
                let mode = u32::from(*mode) | extra;
                fs::set_permissions(path, fs::Permissions::from_mode(mode))
            }
        }
    }

    /// All that a home has on disk.
    pub fn on_disk(&self, home: usize) -> BTreeMap<String, OnDisk> {
        let mut found = BTreeMap::new();
        walk(&self.home(home), "", &mut found);
        found
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<(), String> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(text)
}

/// Takes over what an earlier run left, as the coordinator does.
fn adopt_into(fs: &TieredFs, pool: &Arc<Pool>, drainer: &Drainer) -> Result<(), String> {
    let find = |path: &RelPath| match fs.union().find(path) {
        Some(Found::File(file)) => Some(file),
        _ => None,
    };
    let is_still_true = |meta: &ReplicaMeta| {
        find(&meta.origin.path).is_some_and(|file| {
            fs.home_of(&file).path() == meta.origin.home
                && file.attr().identity == meta.origin.source
        })
    };
    let adopted = adopt(pool, is_still_true).map_err(text)?;
    if adopted.foreign_entries > 0 {
        return Err(format!(
            "{} foreign entries in a pool",
            adopted.foreign_entries
        ));
    }
    for replica in adopted.replicas {
        let Some(file) = find(&replica.meta().origin.path) else {
            return Err("an adopted replica has no file".to_owned());
        };
        if let Err((_, replica)) = fs.publish(&file, replica, file.writes()) {
            drainer.drain(*replica);
        }
    }
    Ok(())
}

/// One name on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnDisk {
    pub kind: char,
    pub mode: u16,
    /// Contents, or the target of a symlink.
    pub bytes: Vec<u8>,
    pub ino: u64,
    /// Moves with every change of the inode.
    pub ctime: (i64, i64),
}

fn walk(directory: &Path, below: &str, found: &mut BTreeMap<String, OnDisk>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if below.is_empty() {
            name
        } else {
            format!("{below}/{name}")
        };
        let Ok(meta) = entry.metadata() else { continue };
        let (kind, bytes) = if meta.is_dir() {
            ('d', Vec::new())
        } else if meta.is_symlink() {
            let target = fs::read_link(entry.path()).unwrap_or_default();
            ('l', target.to_string_lossy().into_owned().into_bytes())
        } else {
            ('f', fs::read(entry.path()).unwrap_or_default())
        };
        if kind == 'd' {
            walk(&entry.path(), &path, found);
        }
        let on_disk = OnDisk {
            kind,
            mode: (meta.mode() & 0o7777) as u16,
            bytes,
            ino: meta.ino(),
            ctime: (meta.ctime(), meta.ctime_nsec()),
        };
        found.insert(path, on_disk);
    }
}

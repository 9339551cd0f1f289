//! The `.speedloader` directory: nodes that are never on disk; their contents come from the owner.

/// Name of the virtual directory in the root of the mount; hidden from listings.
pub const DIRECTORY: &str = ".speedloader";

/// Who fills the virtual files.
pub trait VirtualFiles: Send + Sync {
    /// Names in the directory, in a fixed order; nodeids follow from it.
    fn names(&self) -> &[&'static str];
    /// Permission bits of the file.
    fn permissions(&self, name: &str) -> u16;
    /// User and group to whom the directory and all files belong: those of the daemon, or whom it lets give commands.
    /// Whoever owns the models directory is neither.
    fn owner(&self) -> (u32, u32) {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        (uid.as_raw(), gid.as_raw())
    }
    /// The size to show, for a file that grows and is followed; others show 0.
    fn size_bytes(&self, name: &str) -> u64 {
        let _ = name;
        0
    }
    /// The whole contents now. Called on a thread that may wait.
    fn read(&self, name: &str) -> Vec<u8>;
    /// Takes one write.
    ///
    /// # Errors
    /// What was wrong with it, in words; the write fails with EINVAL.
    fn write(&self, name: &str, bytes: &[u8], pid: u32) -> Result<(), String>;
}

/// A mount without virtual files.
#[derive(Debug, Default)]
pub struct NoVirtualFiles;

impl VirtualFiles for NoVirtualFiles {
    fn names(&self) -> &[&'static str] {
        &[]
    }
    fn permissions(&self, _name: &str) -> u16 {
        0
    }
    fn read(&self, _name: &str) -> Vec<u8> {
        Vec::new()
    }
    fn write(&self, _name: &str, _bytes: &[u8], _pid: u32) -> Result<(), String> {
        Err("there is no control here".to_owned())
    }
}

//! How much the kernel reads ahead of a reader in one file system: a figure of its backing device, to
//! be had and changed below `/sys/class/bdi` where we may.
//!
//! Far file systems are mounted with 128 KiB, which keeps two to four requests under way: measured on
//! a store that takes 2 ms a request, 8 MiB make engines that map or read ten times faster.

use std::io;
use std::path::PathBuf;

/// Below it each backing device has a directory named by its number.
const DEVICES: &str = "/sys/class/bdi";

/// A figure that was raised; dropping it puts the former one back.
#[derive(Debug)]
pub struct ReadAhead {
    path: PathBuf,
    before_kib: u64,
    now_kib: u64,
}

impl ReadAhead {
    /// Raises the figure of device number `dev` to `bytes`; `None` when it is that large already, or
    /// the device is a local disk: there it is others' business too.
    ///
    /// # Errors
    /// Whatever the kernel reports, mostly that we may not.
    pub fn raise(dev: u64, bytes: u64) -> io::Result<Option<ReadAhead>> {
        let (path, now_kib) = (path_of(dev), bytes >> 10);
        if rustix::fs::major(dev) != 0 {
            return Ok(None);
        }
        let before_kib = read(&path)?;
        if before_kib >= now_kib {
            return Ok(None);
        }
        std::fs::write(&path, now_kib.to_string())?;
        Ok(Some(ReadAhead {
            path,
            before_kib,
            now_kib,
        }))
    }

    /// What it was before, in bytes.
    pub fn before_bytes(&self) -> u64 {
        self.before_kib << 10
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        // What somebody else has written since stays; so does everything when the mount is gone.
        if read(&self.path).is_ok_and(|now_kib| now_kib == self.now_kib) {
            let _ = std::fs::write(&self.path, self.before_kib.to_string());
        }
    }
}

/// Sets the figure of our own mount, whose device number is `dev`.
///
/// # Errors
/// Whatever the kernel reports, mostly that we may not.
pub fn set(dev: u64, bytes: u64) -> io::Result<()> {
    std::fs::write(path_of(dev), (bytes >> 10).to_string())
}

fn path_of(dev: u64) -> PathBuf {
    let (major, minor) = (rustix::fs::major(dev), rustix::fs::minor(dev));
    PathBuf::from(format!("{DEVICES}/{major}:{minor}/read_ahead_kb"))
}

fn read(path: &PathBuf) -> io::Result<u64> {
    let text = std::fs::read_to_string(path)?;
    text.trim()
        .parse()
        .map_err(|_| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_or_a_disk_is_left_alone() {
        let nothing = rustix::fs::makedev(0, 0xf_fff0);
        assert!(ReadAhead::raise(nothing, 8 << 20).is_err());
        assert!(set(nothing, 1 << 20).is_err());
        let disk = rustix::fs::makedev(8, 0);
        assert!(ReadAhead::raise(disk, 8 << 20).unwrap().is_none());
    }

    #[test]
    fn what_was_raised_is_put_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("read_ahead_kb");
        for (now, after) in [("8192", "128"), ("64", "64")] {
            std::fs::write(&path, now).unwrap();
            drop(ReadAhead {
                path: path.clone(),
                before_kib: 128,
                now_kib: 8192,
            });
            assert_eq!(std::fs::read_to_string(&path).unwrap(), after);
        }
    }
}

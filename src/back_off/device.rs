//! How many bytes were read from a device so far, by whomever: reads that the kernel serves itself
//! are seen nowhere else.

use std::path::{Path, PathBuf};

use speedloader_fs::mount_table::{self, MountEntry};

/// Block devices by their number.
const BLOCK_DEVICES: &str = "/sys/dev/block";
/// What the kernel counts of block devices is in sectors of this size, whatever they have.
const SECTOR_BYTES: u64 = 512;

/// Where a home's bytes come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Device {
    /// A whole disk, by the file of its statistics.
    Block(PathBuf),
    /// A mount of NFS, by its directory as the kernel writes it.
    Network(String),
    /// Nobody counts: known by its number only.
    Unmeasured(u64),
}

impl Device {
    /// The device of a file system with this number.
    pub fn of(dev: u64) -> Device {
        if rustix::fs::major(dev) != 0 {
            return Device::block(dev);
        }
        let mounts = mount_table::read().unwrap_or_default();
        match find_mount(&mounts, dev) {
            Some(mount) if mount.file_system.starts_with(b"nfs") => {
                Device::Network(String::from_utf8_lossy(mount.written_mount_point).into_owned())
            }
            // Of file systems that span devices this is one of them.
            Some(mount) if mount.source.starts_with(b"/dev/") => {
                match rustix::fs::stat(mount.source) {
                    Ok(stat) => Device::block(stat.st_rdev),
                    Err(_) => Device::Unmeasured(dev),
                }
            }
            _ => Device::Unmeasured(dev),
        }
    }

    fn block(dev: u64) -> Device {
        let (major, minor) = (rustix::fs::major(dev), rustix::fs::minor(dev));
        let link = Path::new(BLOCK_DEVICES).join(format!("{major}:{minor}"));
        let Ok(mut directory) = link.canonicalize() else {
            return Device::Unmeasured(dev);
        };
        if directory.join("partition").exists() {
            // Its disk, which other partitions share.
            directory.pop();
        }
        Device::Block(directory.join("stat"))
    }

    /// Bytes that were read from it since it is there; `None` where nobody counts.
    pub fn read_bytes(&self) -> Option<u64> {
        match self {
            Device::Block(path) => sectors_read(&std::fs::read_to_string(path).ok()?)
                .map(|sectors| sectors.wrapping_mul(SECTOR_BYTES)),
            Device::Network(directory) => {
                let stats = std::fs::read_to_string("/proc/self/mountstats").ok()?;
                bytes_from_server(&stats, directory)
            }
            Device::Unmeasured(_) => None,
        }
    }
}

/// The first mount of the file system with this number.
fn find_mount(table: &[u8], dev: u64) -> Option<MountEntry<'_>> {
    mount_table::entries(table).find(|entry| entry.dev == dev)
}

/// The third figure of a block device's statistics.
fn sectors_read(stat: &str) -> Option<u64> {
    stat.split_whitespace().nth(2)?.parse().ok()
}

/// What the server has sent, by the statistics of the mount on `directory`.
fn bytes_from_server(stats: &str, directory: &str) -> Option<u64> {
    let wanted = format!(" mounted on {directory} with fstype nfs");
    let mut lines = stats.lines();
    lines.find(|line| line.starts_with("device ") && line.contains(&wanted))?;
    let of_this = lines.take_while(|line| !line.starts_with("device "));
    let figures = of_this
        .filter_map(|line| line.trim_start().strip_prefix("bytes:"))
        .next()?;
    figures.split_whitespace().nth(4)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &[u8] = b"\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
44 27 0:51 / /mnt/far rw,relatime shared:3 - nfs4 server:/models rw,vers=4.2
45 27 0:52 /sub /mnt/pair rw - btrfs /dev/nothing rw
46 27 0:53 / /mnt/mem rw - tmpfs tmpfs rw
";

    #[test]
    fn mounts_are_found_by_their_number() {
        let far = find_mount(MOUNTS, rustix::fs::makedev(0, 51)).unwrap();
        assert_eq!(far.written_mount_point, b"/mnt/far");
        assert_eq!(far.file_system, b"nfs4");
        let pair = find_mount(MOUNTS, rustix::fs::makedev(0, 52)).unwrap();
        assert_eq!(pair.file_system, b"btrfs");
        assert_eq!(pair.source, b"/dev/nothing");
        assert!(find_mount(MOUNTS, rustix::fs::makedev(0, 5)).is_none());
        assert!(find_mount(b"rubbish\n - \n", 51).is_none());
    }

    #[test]
    fn figures_are_read_where_there_are_any() {
        let stat = "  160720     7110  8611554   449067    37712    59834 26900400\n";
        assert_eq!(sectors_read(stat), Some(8_611_554));
        assert_eq!(sectors_read("1 2"), None);
        let stats = "\
device tmpfs mounted on /dev/shm with fstype tmpfs
device server:/other mounted on /mnt/far/other with fstype nfs4 statvers=1.1
\tbytes:\t1 2 3 4 5 6 7 8
device server:/models mounted on /mnt/far with fstype nfs4 statvers=1.1
\tage:\t12
\tbytes:\t10 20 30 40 50 60 70 80
device server:/none mounted on /mnt/none with fstype nfs4 statvers=1.1
";
        assert_eq!(bytes_from_server(stats, "/mnt/far"), Some(50));
        assert_eq!(bytes_from_server(stats, "/mnt/far/other"), Some(5));
        assert_eq!(bytes_from_server(stats, "/mnt/none"), None);
        assert_eq!(bytes_from_server(stats, "/mnt/gone"), None);
    }

    #[test]
    fn a_disk_is_measured_and_memory_is_not() {
        let shm =
            std::fs::metadata("/dev/shm").map(|found| std::os::unix::fs::MetadataExt::dev(&found));
        if let Ok(dev) = shm {
            assert_eq!(Device::of(dev).read_bytes(), None);
        }
        let none = Device::of(rustix::fs::makedev(4095, 1));
        assert!(matches!(none, Device::Unmeasured(_)));
    }
}

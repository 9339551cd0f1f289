//! The file system on another machine's memory, and the record that says whose it is.
//!
//! The last mebibyte of the device is kept for that record: owner, pool, generation, checksum. It is read
//! before anything is mounted or made. A device without one is made ours only if its beginning and end
//! hold nothing but zeros; a record of somebody else, or anything else at all, is left as it is. From that look on the
//! device is held open: whatever is at its path later is another one, and not touched.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, UnmountFlags};
use serde::{Deserialize, Serialize};
use speedloader_config::Filesystem;
use speedloader_fs::mount_table;

use super::Failure;
use super::kernel::SYSTEM_PATH;

/// What is kept of the device for the record.
const TAIL_BYTES: u64 = 1 << 20;
/// mkfs.xfs makes no smaller ones.
const XFS_BYTES_MIN: u64 = 300 << 20;
/// How much of the beginning and of the end must be zeros on a device that nobody has used.
const BLANK_BYTES: u64 = 4 << 20;
const BLOCK_BYTES: usize = 1 << 20;
const RECORD_BYTES_MAX: usize = 4096;
/// What the file system is called.
const LABEL: &str = "speedloader";
const MAGIC: &[u8; 16] = b"SPEEDLOADER-OWN1";
/// Where a program has what it was given as its standard input.
const STANDARD_INPUT: &str = "/proc/self/fd/0";
/// How often it is tried again to unmount what is still in use for a moment.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Whose a device is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The owner's NVMe qualified name.
    pub host_nqn: String,
    /// What the owner calls itself.
    pub host_name: String,
    /// The owner's name for the pool.
    pub pool: String,
    /// Whether the file system was completed.
    pub formatted: bool,
    /// Which file system.
    pub filesystem: String,
    /// How often it was mounted: who finds another number than it left has lost track of it.
    pub generation: u64,
}

/// What is on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A record.
    Claimed(Claim),
    /// Nothing: zeros.
    Blank,
    /// Something, with no record.
    Foreign,
}

/// A block device that is held open. As long as it is, the kernel gives its number to no other, and who opens it by
/// the descriptor gets this one or, when it is gone, an error.
#[derive(Debug)]
pub struct BlockDevice {
    path: PathBuf,
    file: File,
}

impl BlockDevice {
    /// Takes hold of what is at the path now.
    ///
    /// # Errors
    /// Io.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        // Not for writing: who mounts it could be refused.
        let file = File::open(path).map_err(|error| Failure::io("open", path, &error))?;
        Ok(BlockDevice {
            path: path.to_owned(),
            file,
        })
    }

    /// Its number.
    ///
    /// # Errors
    /// Io.
    pub fn number(&self) -> Result<u64, Failure> {
        let found = self.file.metadata();
        found
            .map(|found| found.rdev())
            .map_err(|error| self.failed("look at", &error))
    }

    /// Where it was when it was opened: what people know it by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where this process has it, whatever is at its path by now.
    fn held_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }

    fn failed(&self, what: &str, error: &io::Error) -> Failure {
        Failure::io(what, &self.path, error)
    }

    fn gone(&self) -> Failure {
        let text = format!(
            "{} went away, and is another device now",
            self.path.display()
        );
        Failure::new(text).with_remedy("try again; `dmesg` says more")
    }
}

/// Looks what is on a device.
///
/// # Errors
/// Io.
pub fn content(device: &BlockDevice) -> Result<Content, Failure> {
    let failed = |error: io::Error| device.failed("read", &error);
    let file = &device.file;
    let size_bytes = size(file).map_err(failed)?;
    if size_bytes < 2 * BLANK_BYTES {
        let text = format!("{} is too small", device.path.display());
        return Err(Failure::new(text));
    }
    // What an earlier look has left in the page cache may be old.
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
    if let Some(claim) = read_claim(file, size_bytes).map_err(failed)? {
        return Ok(Content::Claimed(claim));
    }
    let blank = is_zero(file, 0, BLANK_BYTES)
        .and_then(|start| Ok(start && is_zero(file, size_bytes - BLANK_BYTES, BLANK_BYTES)?));
    Ok(match blank.map_err(failed)? {
        true => Content::Blank,
        false => Content::Foreign,
    })
}

fn size(mut file: &File) -> io::Result<u64> {
    // A block device has no length, but an end.
    io::Seek::seek(&mut file, io::SeekFrom::End(0))
}

fn read_claim(file: &File, size_bytes: u64) -> io::Result<Option<Claim>> {
    let mut record = vec![0; RECORD_BYTES_MAX];
    file.read_exact_at(&mut record, size_bytes - TAIL_BYTES)?;
    let Some(rest) = record.strip_prefix(MAGIC) else {
        return Ok(None);
    };
    let (digest, rest) = rest.split_at(32);
    let Some((len, rest)) = rest.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let len = usize::try_from(u32::from_le_bytes(*len)).unwrap_or(usize::MAX);
    let Some(json) = rest.get(..len) else {
        return Ok(None);
    };
    if digest != sha256(json).as_slice() {
        return Ok(None);
    }
    Ok(serde_json::from_slice(json).ok())
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    <sha2::Sha256 as sha2::Digest>::digest(bytes).into()
}

fn is_zero(file: &File, start: u64, len: u64) -> io::Result<bool> {
    let mut block = vec![0; BLOCK_BYTES];
    let mut at = start;
    while at < start + len {
        file.read_exact_at(&mut block, at)?;
        if block.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        at += BLOCK_BYTES as u64;
    }
    Ok(true)
}

/// Writes the record, durably. Refused by the kernel while anybody has the device mounted or claimed.
///
/// # Errors
/// Io.
pub fn write_claim(device: &BlockDevice, claim: &Claim) -> Result<(), Failure> {
    let failed = |error: io::Error| device.failed("write the owner's record to", &error);
    let json = serde_json::to_vec(claim).map_err(|error| Failure::new(error.to_string()))?;
    let mut record = Vec::with_capacity(RECORD_BYTES_MAX);
    record.extend_from_slice(MAGIC);
    record.extend_from_slice(&sha256(&json));
    record.extend_from_slice(&u32::try_from(json.len()).unwrap_or(u32::MAX).to_le_bytes());
    record.extend_from_slice(&json);
    if record.len() > RECORD_BYTES_MAX {
        return Err(Failure::new("the owner's record is too long"));
    }
    record.resize(RECORD_BYTES_MAX, 0);
    let mut options = File::options();
    options.read(true).write(true);
    let file = options
        .custom_flags(rustix::fs::OFlags::EXCL.bits().cast_signed())
        .open(device.held_path())
        .map_err(failed)?;
    let size_bytes = size(&file).map_err(failed)?;
    file.write_all_at(&record, size_bytes - TAIL_BYTES)
        .and_then(|()| file.sync_all())
        .map_err(failed)
}

/// The command that makes the file system on all of the device but the record's place; without a size, as it
/// is shown.
pub fn format_command(
    filesystem: Filesystem,
    device: &Path,
    size_bytes: Option<u64>,
) -> Vec<String> {
    let device = device.display().to_string();
    let bytes = size_bytes.map(|size| size - TAIL_BYTES);
    match filesystem {
        // -K: the memory is zeros already, and stays allocated.
        Filesystem::Xfs => {
            let size = bytes.map_or("SIZE".to_owned(), |bytes| bytes.to_string());
            let size = format!("size={size}");
            [
                "mkfs.xfs", "-q", "-f", "-K", "-L", LABEL, "-d", &size, &device,
            ]
            .map(str::to_owned)
            .into()
        }
        Filesystem::Ext4 => {
            let blocks = bytes.map_or("BLOCKS".to_owned(), |bytes| (bytes / 4096).to_string());
            let wishes = "nodiscard,lazy_itable_init=0,lazy_journal_init=0";
            [
                "mkfs.ext4",
                "-q",
                "-F",
                "-m",
                "0",
                "-b",
                "4096",
                "-L",
                LABEL,
                "-E",
                wishes,
                &device,
                &blocks,
            ]
            .map(str::to_owned)
            .into()
        }
    }
}

/// Makes the file system. Only after a look that found the device blank or ours.
///
/// # Errors
/// What its program says.
pub fn format(filesystem: Filesystem, device: &BlockDevice) -> Result<(), Failure> {
    let failed = |error: io::Error| device.failed("format", &error);
    let size_bytes = size(&device.file).map_err(failed)?;
    // The program has the device as its standard input, which it does not read.
    let held = device.file.try_clone().map_err(failed)?;
    let words = format_command(filesystem, Path::new(STANDARD_INPUT), Some(size_bytes));
    let output = Command::new(&words[0])
        .args(&words[1..])
        .env("PATH", SYSTEM_PATH)
        .stdin(Stdio::from(held))
        .output();
    let output = output.map_err(|error| {
        let package = match filesystem {
            Filesystem::Xfs => "xfsprogs",
            Filesystem::Ext4 => "e2fsprogs",
        };
        Failure::new(format!("cannot run {}: {error}", words[0]))
            .with_remedy(format!("install {package} on this machine"))
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.replace(STANDARD_INPUT, &device.path.display().to_string());
    let text = format!("{} failed: {}", words[0], super::printable(&said));
    let failure = Failure::new(text);
    Err(match filesystem {
        Filesystem::Xfs if size_bytes < XFS_BYTES_MIN => {
            failure.with_remedy("XFS wants at least 300 MiB; ext4 takes less")
        }
        _ => failure.with_remedy("`dmesg` says more"),
    })
}

/// Mounts the device where only we may enter.
///
/// # Errors
/// Io; when something else is mounted there; when the device is no longer at its path, by whose name the kernel lists
/// the mount.
pub fn mount(filesystem: Filesystem, device: &BlockDevice, at: &Path) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::io("mount at", at, &error);
    if let Some(parent) = at.parent() {
        let mut builder = fs::DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o755)
            .create(parent)
            .map_err(failed)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(at) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    let number = device.number()?;
    if !fs::metadata(&device.path).is_ok_and(|found| found.rdev() == number) {
        return Err(device.gone());
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOATIME;
    rustix::mount::mount(&device.path, at, filesystem.word(), flags, None)
        .map_err(|error| failed(error.into()))?;
    if !fs::metadata(at).is_ok_and(|found| found.dev() == number) {
        detach(at)?;
        return Err(device.gone());
    }
    fs::set_permissions(at, fs::Permissions::from_mode(0o700)).map_err(failed)
}

/// The device that is mounted at a place, as the kernel writes it.
///
/// # Errors
/// Io of procfs.
pub fn mounted_at(at: &Path) -> Result<Option<String>, Failure> {
    let table = mount_table::read().map_err(|error| Failure::io("read", at, &error))?;
    // The last one made is what is seen there.
    let found = mount_table::topmost(&table, at);
    Ok(found.map(|entry| String::from_utf8_lossy(entry.source).into_owned()))
}

/// Unmounts; while something is in use there it is tried again, at most for `patience`.
///
/// # Errors
/// Io: EBUSY when it is still in use then.
pub fn unmount(at: &Path, patience: Duration) -> Result<(), Failure> {
    let until = Instant::now() + patience;
    while mounted_at(at)?.is_some() {
        match rustix::mount::unmount(at, UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(_) if Instant::now() < until => std::thread::sleep(LOOK_INTERVAL),
            Err(error) => return Err(Failure::io("unmount", at, &error.into())),
        }
    }
    remove_empty(at);
    Ok(())
}

/// Removes the place of a mount and what was made for it above, as far as it is empty.
fn remove_empty(at: &Path) {
    for directory in at.ancestors().take(3) {
        // What holds anything stays, and all above it.
        if fs::remove_dir(directory).is_err() {
            return;
        }
    }
}

/// Takes the mount away from everybody who does not use it already; the kernel ends it when they let go.
///
/// # Errors
/// Io.
pub fn detach(at: &Path) -> Result<(), Failure> {
    while mounted_at(at)?.is_some() {
        rustix::mount::unmount(at, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
            .map_err(|error| Failure::io("detach", at, &error.into()))?;
    }
    remove_empty(at);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file in the place of a device.
    fn device(bytes: u64) -> (tempfile::NamedTempFile, BlockDevice) {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(bytes).unwrap();
        let device = BlockDevice::open(file.path()).unwrap();
        (file, device)
    }

    fn claim() -> Claim {
        Claim {
            host_nqn: "nqn.2014-08.org.nvmexpress:uuid:us".to_owned(),
            host_name: "here".to_owned(),
            pool: "meadowlark".to_owned(),
            formatted: false,
            filesystem: "xfs".to_owned(),
            generation: 7,
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_a_damaged_one_is_foreign() {
        let (file, device) = device(64 << 20);
        assert_eq!(content(&device).unwrap(), Content::Blank);
        write_claim(&device, &claim()).unwrap();
        assert_eq!(content(&device).unwrap(), Content::Claimed(claim()));
        let file = file.as_file();
        let at = (64 << 20) - TAIL_BYTES;
        for offset in [0, 20, 50, 60] {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at + offset).unwrap();
            file.write_all_at(&[byte[0] ^ 1], at + offset).unwrap();
            assert_eq!(content(&device).unwrap(), Content::Foreign, "byte {offset}");
            file.write_all_at(&byte, at + offset).unwrap();
        }
        assert_eq!(content(&device).unwrap(), Content::Claimed(claim()));
    }

    #[test]
    fn a_single_byte_of_somebody_else_keeps_us_away() {
        // Where labels lie: XFS, ext4, LVM, btrfs, ZFS, RAID at the end.
        let size = 64 << 20;
        for at in [
            0,
            1080,
            512,
            65536 + 64,
            256 << 10,
            size - 4096,
            size - 65536,
            size - 1,
        ] {
            let (file, device) = device(size);
            file.as_file().write_all_at(&[1], at).unwrap();
            assert_eq!(content(&device).unwrap(), Content::Foreign, "at {at}");
        }
    }

    #[test]
    fn what_is_too_small_is_refused() {
        assert!(content(&device(1 << 20).1).is_err());
    }

    #[test]
    fn a_file_system_leaves_the_record_alone() {
        // Real mkfs on a file: its size is what the command says, not what the file has.
        let (file, device) = device(64 << 20);
        write_claim(&device, &claim()).unwrap();
        match format(Filesystem::Ext4, &device) {
            Err(failure) if failure.what.starts_with("cannot run") => {
                eprintln!("SKIPPED a_file_system_leaves_the_record_alone: {failure}");
                return;
            }
            done => done.unwrap(),
        }
        assert_eq!(content(&device).unwrap(), Content::Claimed(claim()));
        let mut magic = [0; 2];
        file.as_file().read_exact_at(&mut magic, 1080).unwrap();
        assert_eq!(magic, [0x53, 0xef]);
    }

    #[test]
    fn what_comes_to_be_at_the_path_of_a_device_is_not_touched() {
        let (file, device) = device(64 << 20);
        assert_eq!(content(&device).unwrap(), Content::Blank);
        // The device goes, and another has its name.
        let kept = file.path().with_extension("kept");
        fs::rename(file.path(), &kept).unwrap();
        fs::write(file.path(), b"somebody else's").unwrap();
        write_claim(&device, &claim()).unwrap();
        let formatted = format(Filesystem::Ext4, &device);
        assert_eq!(fs::read(file.path()).unwrap(), b"somebody else's");
        assert_eq!(content(&device).unwrap(), Content::Claimed(claim()));
        fs::remove_file(kept).unwrap();
        match formatted {
            Err(failure) if failure.what.starts_with("cannot run") => {
                eprintln!("SKIPPED: {failure}");
            }
            done => done.unwrap(),
        }
    }
}

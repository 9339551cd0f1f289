//! Who else uses a file: asked of the kernel by trying to take a write lease, given back at once.
//!
//! The answer counts open descriptions *and mappings* in every process. It must be asked of the
//! only descriptor that this process has of the file, opened read-only. While the question is
//! being asked a blocking open by somebody else waits a few microseconds, a non-blocking one may
//! see EWOULDBLOCK.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use crate::errno;

/// `F_SETSIG` of the kernel's generic `fcntl.h`; libc names it on some targets only.
const F_SETSIG: libc::c_int = 10;

/// Whether nobody but `file` itself has the file open or mapped.
///
/// # Errors
/// Whatever `fcntl` reports except a refused lease: EINVAL where the file system has no leases,
/// EACCES when the file belongs to another user and we lack CAP_LEASE.
pub fn sole_user(file: &File) -> io::Result<bool> {
    can_lease(file, libc::F_WRLCK)
}

/// Whether nobody has the file open for writing. `file` must be open read-only.
///
/// # Errors
/// As [`sole_user`].
pub fn has_no_writer(file: &File) -> io::Result<bool> {
    can_lease(file, libc::F_RDLCK)
}

fn can_lease(file: &File, kind: libc::c_int) -> io::Result<bool> {
    // An open that meets the lease sends a signal to its holder; by default SIGIO, which would
    // end the process. SIGURG is ignored unless somebody handles it.
    fcntl(file, F_SETSIG, libc::SIGURG)?;
    match fcntl(file, libc::F_SETLEASE, kind) {
        Ok(()) => {
            fcntl(file, libc::F_SETLEASE, libc::F_UNLCK)?;
            Ok(true)
        }
        Err(error) if errno::lease_refused(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

fn fcntl(file: &File, command: libc::c_int, argument: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open as long as `file` is borrowed, and the commands used here
    // take one integer and no pointer.
    let answer = unsafe { libc::fcntl(file.as_raw_fd(), command, argument) };
    if answer == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::map::FileMap;

    fn read_only_file() -> (tempfile::NamedTempFile, File) {
        let named = tempfile::NamedTempFile::new().unwrap();
        named.as_file().set_len(8192).unwrap();
        let file = File::open(named.path()).unwrap();
        (named, file)
    }

    #[test]
    fn a_second_descriptor_and_a_mapping_are_both_seen() {
        let (named, file) = read_only_file();
        assert!(!sole_user(&file).unwrap(), "the NamedTempFile is open");
        let path = named.into_temp_path();
        assert!(sole_user(&file).unwrap());

        let other = File::options().read(true).write(true).open(&path);
        let other = other.unwrap();
        let map = FileMap::of_private_file(&other, 0, 8192).unwrap();
        drop(other);
        assert!(
            !sole_user(&file).unwrap(),
            "the mapping outlives its descriptor"
        );
        drop(map);
        assert!(sole_user(&file).unwrap());
        assert!(sole_user(&file).unwrap(), "the lease was given back");
    }

    #[test]
    fn a_writer_is_seen_and_a_reader_is_none() {
        let (named, file) = read_only_file();
        assert!(!has_no_writer(&file).unwrap());
        let path = named.into_temp_path();
        let _reader = File::open(&path).unwrap();
        assert!(has_no_writer(&file).unwrap());
    }
}

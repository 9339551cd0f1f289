//! `FsError` to errno: the one place with errno constants.

use rustix::io::Errno;

use crate::error::{ErrorKind, FsError};
use crate::rel_path::BadPath;

/// The number that a system call on the mount shall fail with.
pub fn to_errno(error: &FsError) -> i32 {
    let errno = match &error.kind {
        ErrorKind::Io(io) => return io.raw_os_error().unwrap_or(Errno::IO.raw_os_error()),
        ErrorKind::NotFound => Errno::NOENT,
        ErrorKind::Exists => Errno::EXIST,
        ErrorKind::NotDirectory => Errno::NOTDIR,
        ErrorKind::IsDirectory => Errno::ISDIR,
        ErrorKind::NotEmpty => Errno::NOTEMPTY,
        ErrorKind::BadPath(BadPath::TooLong) => Errno::NAMETOOLONG,
        ErrorKind::BadPath(_) | ErrorKind::Invalid(_) => Errno::INVAL,
        ErrorKind::ColdReadOnly | ErrorKind::ReadOnly => Errno::ROFS,
        ErrorKind::NotPermitted => Errno::PERM,
        ErrorKind::Barred => Errno::ACCESS,
        ErrorKind::Busy(_) => Errno::BUSY,
        // The kernel does not pass it on: it looks the name up again.
        ErrorKind::Retired | ErrorKind::Displaced => Errno::STALE,
        ErrorKind::TooLarge { .. } => Errno::FBIG,
        ErrorKind::NoSpace { .. } => Errno::NOSPC,
        ErrorKind::Cancelled => Errno::INTR,
        ErrorKind::SourceChanged | ErrorKind::DigestMismatch { .. } => Errno::IO,
        ErrorKind::PoolGone => Errno::IO,
        ErrorKind::Unsupported(_) => Errno::OPNOTSUPP,
    };
    errno.raw_os_error()
}

/// The operation is not implemented: the kernel stops asking.
pub const NOT_IMPLEMENTED: i32 = Errno::NOSYS.raw_os_error();
/// No control operation that this file knows; it is no terminal either.
pub const NO_SUCH_IOCTL: i32 = Errno::NOTTY.raw_os_error();
/// A wait was ended by a signal.
pub const INTERRUPTED: i32 = Errno::INTR.raw_os_error();
/// A plain input or output error.
pub const INPUT_OUTPUT: i32 = Errno::IO.raw_os_error();

/// The kernel's answer where there is no such file or directory.
pub fn missing() -> Errno {
    Errno::NOENT
}

/// Whether the file system refuses direct I/O here: copy buffered then.
pub fn refuses_direct_io(error: &std::io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw_os_error),
        Some(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS)
    )
}

/// Whether the file system or the memory behind it is full. A mapping that cannot be populated
/// answers EFAULT, because the fault would have been a SIGBUS.
pub fn is_out_of_space(error: &std::io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw_os_error),
        Some(Errno::NOSPC | Errno::DQUOT | Errno::NOMEM | Errno::FAULT)
    )
}

/// Whether the kernel or the file system does not know the call or its flag at all.
pub fn is_unsupported(error: &std::io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw_os_error),
        Some(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS | Errno::NOTTY | Errno::ISDIR)
    )
}

/// What the kernel says where no more files can be open.
pub fn too_many_open() -> std::io::Error {
    Errno::NFILE.into()
}

/// What the kernel says to whom it does not allow something.
pub fn not_permitted() -> std::io::Error {
    Errno::PERM.into()
}

/// What the kernel says where a path leads into another file system than it may.
pub fn other_file_system() -> Errno {
    Errno::XDEV
}

/// Whether there is something of that name already.
pub fn is_there(error: Errno) -> bool {
    error == Errno::EXIST
}

/// Whether what was asked for is not there.
pub fn is_of_missing(error: &FsError) -> bool {
    to_errno(error) == Errno::NOENT.raw_os_error()
}

/// Whether there is nothing of that name.
pub fn is_missing(error: Errno) -> bool {
    error == Errno::NOENT
}

/// Whether we may not.
pub fn is_refused(error: Errno) -> bool {
    error == Errno::PERM
}

/// Whether a signal came first: the call is made again.
pub fn is_interrupted(error: Errno) -> bool {
    error == Errno::INTR
}

/// Whether a file has no such extended attribute, also where nothing can have one.
pub fn has_no_attribute(error: Errno) -> bool {
    matches!(error, Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS)
}

/// Whether there was more to say than there was room for.
pub fn is_too_long(error: Errno) -> bool {
    error == Errno::RANGE
}

/// Whether it is a file system that cannot say what a name is, rather than one that says there is none.
pub fn is_no_answer(error: Errno) -> bool {
    matches!(
        error,
        Errno::IO
            | Errno::NOTCONN
            | Errno::CONNABORTED
            | Errno::CONNREFUSED
            | Errno::CONNRESET
            | Errno::TIMEDOUT
            | Errno::SHUTDOWN
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH
            | Errno::NETUNREACH
            | Errno::NETDOWN
            | Errno::REMOTEIO
            | Errno::AGAIN
            | Errno::INTR
            | Errno::NOMEM
    )
}

/// Whether a lease was refused because somebody else has the file open or mapped.
pub fn lease_refused(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(Errno::AGAIN.raw_os_error())
}

/// Whether this is the answer to unmounting what is not mounted.
pub fn is_not_mounted(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(Errno::INVAL.raw_os_error())
}

/// Whether this is the answer of a mount whose daemon is dead.
pub fn is_stale_mount(error: &std::io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw_os_error),
        Some(Errno::NOTCONN | Errno::CONNABORTED)
    )
}

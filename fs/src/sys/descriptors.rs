//! Descriptors that a program that is started is not to get.

/// Keeps everything but the standard streams from the programs that are started from now on: also what this
/// process was given by its caller, a lock or a pipe that a daemon would hold for as long as it lives. Kernels
/// before 5.11 cannot do it, and go on handing them down.
pub fn keep_from_children() {
    const FIRST: libc::c_uint = 3;
    // SAFETY: `close_range` takes three numbers and no pointer. With this flag it closes nothing: it marks
    // descriptors to be closed by exec, whoever owns them.
    let _ = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            FIRST,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
}

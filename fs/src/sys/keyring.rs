//! Keys of the kernel's keyrings, for which neither rustix nor libc has a call.

use std::ffi::CStr;
use std::io;

/// The keyring of the thread that asks: it ends with it, and nobody else sees it.
pub const OF_THREAD: i32 = libc::KEY_SPEC_THREAD_KEYRING;

/// Makes a key in a keyring, instead of one of the same type and description. Gives its number.
///
/// # Errors
/// Whatever `add_key(2)` reports: EACCES for a keyring of others, ENODEV for a type that nobody has registered.
pub fn add(kind: &CStr, description: &CStr, payload: &[u8], keyring: i32) -> io::Result<i32> {
    // SAFETY: the texts end with a NUL and the payload has its length; all live until the call returns, and the
    // kernel only reads them.
    let key = unsafe {
        libc::syscall(
            libc::SYS_add_key,
            kind.as_ptr(),
            description.as_ptr(),
            payload.as_ptr(),
            payload.len(),
            keyring,
        )
    };
    number(key)
}

/// Changes who may do what with a key; the bits are those of `keyctl_setperm(3)`.
///
/// # Errors
/// EACCES where the caller neither owns it nor may do everything, ENOKEY where there is none.
pub fn set_permissions(key: i32, permissions: u32) -> io::Result<()> {
    // SAFETY: this command takes two numbers and no pointer.
    let answer = unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_SETPERM, key, permissions) };
    number(answer).map(|_| ())
}

/// Puts a key into a keyring as well, instead of one of the same type and description.
///
/// # Errors
/// EACCES for a key or keyring of others, ENOKEY where there is none.
pub fn link(key: i32, keyring: i32) -> io::Result<()> {
    // SAFETY: this command takes two numbers and no pointer.
    let answer = unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_LINK, key, keyring) };
    number(answer).map(|_| ())
}

/// Ends a key: from now on nobody finds or uses it, and it goes out of all keyrings.
///
/// # Errors
/// EACCES where the caller may not find it, ENOKEY where there is none.
pub fn invalidate(key: i32) -> io::Result<()> {
    // SAFETY: this command takes a number and no pointer.
    let answer = unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_INVALIDATE, key) };
    number(answer).map(|_| ())
}

/// Takes a key out of a keyring; when it was in no other it is gone.
///
/// # Errors
/// EACCES for a keyring of others, ENOENT where the key is not in it, ENOKEY where there is no such key.
pub fn unlink(key: i32, keyring: i32) -> io::Result<()> {
    // SAFETY: this command takes two numbers and no pointer.
    let answer = unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_UNLINK, key, keyring) };
    number(answer).map(|_| ())
}

fn number(answer: libc::c_long) -> io::Result<i32> {
    match i32::try_from(answer) {
        Ok(number) if number >= 0 => Ok(number),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another keyring of ours, which ends with this process.
    const OTHER: i32 = libc::KEY_SPEC_PROCESS_KEYRING;

    #[test]
    fn a_key_is_made_and_taken_out_again() {
        let key = match add(c"user", c"speedloader-test", b"payload", OF_THREAD) {
            // A sandbox without keyrings, or a kernel.
            Err(error) if [libc::ENOSYS, libc::EPERM].contains(&error.raw_os_error().unwrap()) => {
                return eprintln!("SKIPPED: {error}");
            }
            key => key.unwrap(),
        };
        set_permissions(key, 0x3f3f_0000).unwrap();
        link(key, OTHER).unwrap();
        unlink(key, OF_THREAD).unwrap();
        assert!(unlink(key, OF_THREAD).is_err(), "it is in it no more");
        invalidate(key).unwrap();
        assert!(link(key, OF_THREAD).is_err(), "it is of no use any more");
        let unknown = add(c"no-such-type", c"speedloader-test", b"", OF_THREAD);
        assert!(unknown.is_err());
    }
}

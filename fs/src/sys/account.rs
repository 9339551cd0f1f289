//! Users and groups as this machine knows them, in whatever databases it asks (nsswitch.conf(5)): services of systemd and
//! people of a directory server are in no file. A database may take as long to answer as its server does.

use std::ffi::{CStr, CString, OsStr, OsString, c_char, c_int};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::ptr;

/// What an entry usually fits into, and what no honest one exceeds.
const ENTRY_BYTES: usize = 4 << 10;
const ENTRY_BYTES_MAX: usize = 4 << 20;
/// As many groups as the kernel lets a process have.
const GROUPS_MAX: usize = 65_536;

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// What he is called.
    pub name: OsString,
    /// His number.
    pub uid: u32,
    /// The number of his own group.
    pub gid: u32,
    /// Where he lives.
    pub home: PathBuf,
}

/// The user of a name; `None` if there is none.
///
/// # Errors
/// When the databases cannot be asked.
pub fn of_name(name: &OsStr) -> io::Result<Option<Account>> {
    let Ok(name) = CString::new(name.as_bytes()) else {
        return Ok(None);
    };
    look_up(
        |entry, buffer, length, found| {
            // SAFETY: the name ends with a NUL; entry and result can be written, the buffer for `length` bytes; all
            // live until the call returns, and it keeps none of them.
            unsafe { libc::getpwnam_r(name.as_ptr(), entry, buffer, length, found) }
        },
        account,
    )
}

/// The user of a number; `None` if there is none.
///
/// # Errors
/// As [`of_name`].
pub fn of_number(uid: u32) -> io::Result<Option<Account>> {
    look_up(
        |entry, buffer, length, found| {
            // SAFETY: entry and result can be written, the buffer for `length` bytes; all live until the call returns,
            // and it keeps none of them.
            unsafe { libc::getpwuid_r(uid, entry, buffer, length, found) }
        },
        account,
    )
}

/// What a group is called; `None` if there is none of that number.
///
/// # Errors
/// As [`of_name`].
pub fn group_name(gid: u32) -> io::Result<Option<OsString>> {
    look_up(
        |entry, buffer, length, found| {
            // SAFETY: as for users.
            unsafe { libc::getgrgid_r(gid, entry, buffer, length, found) }
        },
        |entry: &libc::group| text(entry.gr_name),
    )
}

/// The groups of a user, his own among them: what he has when he logs in, and his services when they start.
///
/// # Errors
/// When they are more than a process can have.
pub fn groups_of(account: &Account) -> io::Result<Vec<u32>> {
    let name = CString::new(account.name.as_bytes())?;
    let mut groups: Vec<libc::gid_t> = vec![0; 64];
    loop {
        let mut count = c_int::try_from(groups.len()).unwrap_or(c_int::MAX);
        // SAFETY: the name ends with a NUL, and `count` says how many groups can be written; all live until the call
        // returns.
        let done = unsafe {
            libc::getgrouplist(
                name.as_ptr(),
                account.gid,
                groups.as_mut_ptr(),
                &raw mut count,
            )
        };
        let count = usize::try_from(count).unwrap_or(0);
        if done >= 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        if groups.len() >= GROUPS_MAX {
            return Err(io::Error::other("more groups than a process can have"));
        }
        groups.resize(count.max(groups.len() * 2).min(GROUPS_MAX), 0);
    }
}

/// Asks with a buffer that grows until the entry fits.
fn look_up<E, T>(
    ask: impl Fn(*mut E, *mut c_char, usize, *mut *mut E) -> c_int,
    read: impl Fn(&E) -> T,
) -> io::Result<Option<T>> {
    let mut buffer: Vec<c_char> = vec![0; ENTRY_BYTES];
    loop {
        let mut entry = MaybeUninit::<E>::uninit();
        let mut found = ptr::null_mut();
        let answer = ask(
            entry.as_mut_ptr(),
            buffer.as_mut_ptr(),
            buffer.len(),
            &raw mut found,
        );
        match answer {
            0 if found.is_null() => return Ok(None),
            0 => {
                // SAFETY: the call has succeeded and found something, so it has written the whole entry.
                let entry = unsafe { entry.assume_init_ref() };
                return Ok(Some(read(entry)));
            }
            libc::EINTR => {}
            libc::ERANGE if buffer.len() < ENTRY_BYTES_MAX => {
                buffer.resize(buffer.len() * 4, 0);
            }
            // So databases say that they know nobody of that name (getpwnam(3)).
            libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM => return Ok(None),
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

fn account(entry: &libc::passwd) -> Account {
    Account {
        name: text(entry.pw_name),
        uid: entry.pw_uid,
        gid: entry.pw_gid,
        home: text(entry.pw_dir).into(),
    }
}

/// A text of an entry, which lies in the buffer that the entry was asked with.
fn text(start: *const c_char) -> OsString {
    if start.is_null() {
        return OsString::new();
    }
    // SAFETY: it is not null, and the texts of an entry end with a NUL within its buffer, which outlives this.
    let text = unsafe { CStr::from_ptr(start) };
    OsString::from_vec(text.to_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known_by_name_and_by_number() {
        let root = of_name(OsStr::new("root"))
            .expect("asked")
            .expect("there is one");
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(of_number(0).expect("asked").as_ref(), Some(&root));
        assert!(root.home.is_absolute());
        assert!(groups_of(&root).expect("told").contains(&0));
        assert_eq!(
            group_name(0).expect("asked").as_deref(),
            Some(OsStr::new("root"))
        );
    }

    #[test]
    fn whom_nobody_knows_is_nobody() {
        for name in ["", "no such user", "root\0", "\u{1b}[2J", ":", "-1"] {
            assert_eq!(of_name(OsStr::new(name)).expect("asked"), None, "{name:?}");
        }
        assert_eq!(of_number(4_294_000_001).expect("asked"), None);
        assert_eq!(group_name(4_294_000_001).expect("asked"), None);
        let long = "x".repeat(ENTRY_BYTES * 2);
        assert!(!matches!(of_name(OsStr::new(&long)), Ok(Some(_))));
    }

    #[test]
    fn a_buffer_grows_until_an_entry_fits() {
        let asked = std::cell::Cell::new(0);
        let found = look_up(
            |entry: *mut u8, _, length, found| {
                asked.set(asked.get() + 1);
                if length < ENTRY_BYTES * 16 {
                    return libc::ERANGE;
                }
                // SAFETY: the caller gives a place for one entry.
                unsafe { entry.write(7) };
                // SAFETY: and one for where it is.
                unsafe { found.write(entry) };
                0
            },
            |entry| *entry,
        );
        assert_eq!(found.expect("told"), Some(7));
        assert_eq!(asked.get(), 3);
        let endless = look_up(|_: *mut u8, _, _, _| libc::ERANGE, |entry| *entry);
        assert!(endless.is_err());
    }
}

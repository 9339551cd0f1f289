//! The token that a change over HTTP needs: from the configuration, or a file of the state directory
//! made at the first start. Its contents are compared in constant time. A file that somebody else could
//! have put there (a link, another owner, writable by others) is refused rather than believed.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{AtFlags, Gid, Mode, OFlags};
use subtle::ConstantTimeEq;

use crate::command::{Code, Message};

/// The file's name in the state directory.
pub const TOKEN_FILE: &str = "http-token";
/// Of the random bytes; the token has twice as many characters.
const RANDOM_BYTES: usize = 24;
const FILE_BYTES_MAX: u64 = 4096;

/// What must be presented. Never printed by `Debug`.
#[derive(Clone)]
pub struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    /// A token that is known already.
    pub fn new(text: impl Into<String>) -> Token {
        Token(text.into())
    }

    /// Whether `presented` is it, in a time that does not tell how much of it is right.
    pub fn matches(&self, presented: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(presented).into()
    }

    /// The token itself, for a link that a person asked for.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Reads the token file of a state directory, or makes it, readable by its owner and `group_id`.
    ///
    /// # Errors
    /// [`Code::Denied`] if what is there cannot be trusted; [`Code::Failed`] if it cannot be read or made.
    pub fn of_directory(directory: &Path, group_id: Option<u32>) -> Result<Token, Message> {
        let path = directory.join(TOKEN_FILE);
        match open(&path) {
            Ok(file) => read(file, &path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make(directory, &path, group_id)?;
                let file = open(&path).map_err(|error| failed("read", &path, &error))?;
                read(file, &path)
            }
            Err(error) => Err(cannot_open(&path, &error)),
        }
    }

    /// Reads the token file of a state directory, which a daemon has made.
    ///
    /// # Errors
    /// As [`Token::of_directory`]; [`Code::Failed`] if there is none.
    pub fn read_from(directory: &Path) -> Result<Token, Message> {
        let path = directory.join(TOKEN_FILE);
        match open(&path) {
            Ok(file) => read(file, &path),
            Err(error) => Err(cannot_open(&path, &error)),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    // Not waiting: a FIFO in its place must not hold us up.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

fn cannot_open(path: &Path, error: &io::Error) -> Message {
    if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
        return untrusted(path, "it is a symbolic link");
    }
    let code = match error.kind() {
        io::ErrorKind::PermissionDenied => Code::Denied,
        _ => Code::Failed,
    };
    Message::new(code, format!("cannot read {}: {error}", path.display())).with_hint(
        "the daemon makes it when it serves the web page; root and the control group may read it",
    )
}

fn untrusted(path: &Path, why: &str) -> Message {
    let text = format!("{} is not trusted: {why}", path.display());
    Message::new(Code::Denied, text).with_hint("remove it; the daemon makes a new one at its start")
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Message {
    Message::new(
        Code::Failed,
        format!("cannot {what} {}: {error}", path.display()),
    )
}

fn read(file: File, path: &Path) -> Result<Token, Message> {
    let found = file
        .metadata()
        .map_err(|error| failed("look at", path, &error))?;
    let own = rustix::process::geteuid().as_raw();
    if !found.is_file() {
        return Err(untrusted(path, "it is no file"));
    }
    if found.uid() != own && found.uid() != 0 && own == 0 {
        return Err(untrusted(
            path,
            &format!("it belongs to user {}", found.uid()),
        ));
    }
    if found.mode() & 0o027 != 0 {
        let why = format!(
            "its permissions are {:o}, and 640 is the most",
            found.mode() & 0o777
        );
        return Err(untrusted(path, &why));
    }
    let mut text = String::new();
    file.take(FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|error| failed("read", path, &error))?;
    let text = text.trim();
    if text.len() < 16 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(untrusted(path, "it holds no token"));
    }
    Ok(Token::new(text))
}

/// Makes the file without a moment in which others could read it or it is incomplete.
fn make(directory: &Path, path: &Path, group_id: Option<u32>) -> Result<(), Message> {
    let cannot = |error: io::Error| failed("make", path, &error);
    let text = random_text().map_err(cannot)?;
    let temporary = directory.join(format!("{TOKEN_FILE}.{}", std::process::id()));
    // What a crash of a former process of our number has left.
    let _ = std::fs::remove_file(&temporary);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file: OwnedFd = rustix::fs::open(&temporary, flags, Mode::RUSR | Mode::WUSR)
        .map_err(|error| cannot(error.into()))?;
    if let Some(group) = group_id {
        rustix::fs::fchown(&file, None, Some(Gid::from_raw(group)))
            .map_err(|error| cannot(error.into()))?;
    }
    rustix::fs::fchmod(&file, Mode::RUSR | Mode::WUSR | Mode::RGRP)
        .map_err(|error| cannot(error.into()))?;
    let mut file = File::from(file);
    file.write_all(format!("{text}\n").as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(cannot)?;
    // Not over one that a daemon started at the same moment has just made.
    let linked = rustix::fs::linkat(
        rustix::fs::CWD,
        &temporary,
        rustix::fs::CWD,
        path,
        AtFlags::empty(),
    );
    // Left behind it would be replaced at the next start.
    let _ = std::fs::remove_file(&temporary);
    match linked {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(cannot(error.into())),
    }
}

fn random_text() -> io::Result<String> {
    let mut bytes = [0_u8; RANDOM_BYTES];
    let mut filled = 0;
    while filled < bytes.len() {
        filled +=
            rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn the_file_is_made_once_and_kept_from_others() {
        let directory = tempfile::tempdir().expect("a directory");
        let first = Token::of_directory(directory.path(), None).expect("made");
        let again = Token::of_directory(directory.path(), None).expect("read");
        assert_eq!(first.reveal(), again.reveal());
        assert_eq!(first.reveal().len(), 2 * RANDOM_BYTES);
        let mode = std::fs::metadata(directory.path().join(TOKEN_FILE))
            .expect("there")
            .mode();
        assert_eq!(mode & 0o777, 0o640);
        let left = std::fs::read_dir(directory.path()).expect("read").count();
        assert_eq!(left, 1, "no temporary file is left");
    }

    #[test]
    fn a_symlinked_token_file_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let elsewhere = directory.path().join("elsewhere");
        std::fs::write(&elsewhere, "0123456789abcdef0123456789abcdef").expect("written");
        symlink(&elsewhere, directory.path().join(TOKEN_FILE)).expect("linked");
        let refused = Token::of_directory(directory.path(), None).expect_err("a link");
        assert_eq!(refused.code, Code::Denied);
        assert!(refused.text.contains("symbolic link"), "{refused}");
    }

    #[test]
    fn a_token_file_that_others_may_write_or_read_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(TOKEN_FILE);
        for mode in [0o644, 0o660, 0o666] {
            std::fs::write(&path, "0123456789abcdef0123456789abcdef").expect("written");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("set");
            let refused = Token::of_directory(directory.path(), None).expect_err("too open");
            assert_eq!(refused.code, Code::Denied, "{mode:o}");
        }
    }

    #[test]
    fn a_fifo_in_its_place_holds_nobody_up() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(TOKEN_FILE);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            Mode::RUSR,
            0,
        )
        .expect("a FIFO");
        assert!(Token::of_directory(directory.path(), None).is_err());
    }

    #[test]
    fn only_the_whole_token_matches() {
        let token = Token::new("0123456789abcdef");
        assert!(token.matches(b"0123456789abcdef"));
        for wrong in [
            "",
            "0123456789abcde",
            "0123456789abcdeF",
            "0123456789abcdef0",
        ] {
            assert!(!token.matches(wrong.as_bytes()), "{wrong}");
        }
        assert_eq!(format!("{token:?}"), "Token(..)");
    }
}

//! The token that a change over HTTP needs: from the configuration, or made anew by each daemon and kept in a
//! file of the state directory. Its contents are compared in constant time. A file that somebody else could
//! have put there (a link, another owner, writable by others) is refused rather than replaced.
//!
//! While no daemon runs anybody may listen at its port, and an open page would give him the token with its next
//! change. So the page asks for a [proof](Token::proof) first, and what it may have told a stranger all the same
//! (a page that was loaded from him reads all that the true one has kept) is worth nothing to the next daemon.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::{Gid, Mode, OFlags};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::command::{Code, Message};

/// The file's name in the state directory.
pub const TOKEN_FILE: &str = "http-token";
/// Of the random bytes; the token has twice as many characters.
const RANDOM_BYTES: usize = 24;
const FILE_BYTES_MAX: u64 = 4096;
/// What SHA-256 takes at a time.
const BLOCK_BYTES: usize = 64;

/// The token of this process: the guide's page goes on as the daemon's with the one that it has.
static OF_PROCESS: OnceLock<Token> = OnceLock::new();

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

    /// What shows that its sender knows the token, without showing it: HMAC-SHA256 of a question that cannot have
    /// been asked before, in hex.
    pub fn proof(&self, nonce: &str) -> String {
        let mut key = [0_u8; BLOCK_BYTES];
        match self.0.len() {
            len if len <= BLOCK_BYTES => key[..len].copy_from_slice(self.0.as_bytes()),
            _ => key[..32].copy_from_slice(&Sha256::digest(&self.0)),
        }
        let inner = Sha256::new()
            .chain_update(key.map(|byte| byte ^ 0x36))
            .chain_update(nonce);
        let outer = Sha256::new()
            .chain_update(key.map(|byte| byte ^ 0x5c))
            .chain_update(inner.finalize());
        hex(&outer.finalize())
    }

    /// The token of this process, written to a state directory for its owner and `group_id` to read. What a daemon
    /// before it has left there is replaced.
    ///
    /// # Errors
    /// [`Code::Denied`] if what is there cannot be trusted; [`Code::Failed`] if it cannot be written.
    pub fn of_process(directory: &Path, group_id: Option<u32>) -> Result<Token, Message> {
        let path = directory.join(TOKEN_FILE);
        let token = match OF_PROCESS.get() {
            Some(token) => token.clone(),
            None => {
                let text = random_text().map_err(|error| failed("make", &path, &error))?;
                OF_PROCESS.get_or_init(|| Token::new(text)).clone()
            }
        };
        token.keep_in(directory, group_id)?;
        Ok(token)
    }

    fn keep_in(&self, directory: &Path, group_id: Option<u32>) -> Result<(), Message> {
        let path = directory.join(TOKEN_FILE);
        match open(&path) {
            Ok(file) => trust(&file, &path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(cannot_open(&path, &error)),
        }
        self.write(directory, &path, group_id)
            .map_err(|error| failed("make", &path, &error))
    }

    /// Writes the file without a moment in which others could read it or it is incomplete.
    fn write(&self, directory: &Path, path: &Path, group_id: Option<u32>) -> io::Result<()> {
        let temporary = directory.join(format!("{TOKEN_FILE}.{}", std::process::id()));
        // What a crash of a former process of our number has left.
        let _ = std::fs::remove_file(&temporary);
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file: OwnedFd = rustix::fs::open(&temporary, flags, Mode::RUSR | Mode::WUSR)?;
        if let Some(group) = group_id {
            rustix::fs::fchown(&file, None, Some(Gid::from_raw(group)))?;
        }
        rustix::fs::fchmod(&file, Mode::RUSR | Mode::WUSR | Mode::RGRP)?;
        let mut file = File::from(file);
        file.write_all(format!("{}\n", self.0).as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    }

    /// Reads the token file of a state directory, which a daemon has made.
    ///
    /// # Errors
    /// As [`Token::of_process`]; [`Code::Failed`] if there is none.
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

/// Whether nobody else can have put the file there.
fn trust(file: &File, path: &Path) -> Result<(), Message> {
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
    Ok(())
}

fn read(file: File, path: &Path) -> Result<Token, Message> {
    trust(&file, path)?;
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

/// Text that nobody can guess.
///
/// # Errors
/// When the kernel has no random numbers.
pub(super) fn random_text() -> io::Result<String> {
    let mut bytes = [0_u8; RANDOM_BYTES];
    let mut filled = 0;
    while filled < bytes.len() {
        filled +=
            rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(hex(&bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn the_file_is_made_anew_and_kept_from_others() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(TOKEN_FILE);
        let before = Token::new(random_text().expect("random"));
        before.keep_in(directory.path(), None).expect("made");
        let token = Token::of_process(directory.path(), None).expect("made");
        assert_ne!(token.reveal(), before.reveal(), "another daemon's");
        let read = Token::read_from(directory.path()).expect("read");
        assert_eq!(read.reveal(), token.reveal());
        assert_eq!(token.reveal().len(), 2 * RANDOM_BYTES);
        let mode = std::fs::metadata(&path).expect("there").mode();
        assert_eq!(mode & 0o777, 0o640);
        let left = std::fs::read_dir(directory.path()).expect("read").count();
        assert_eq!(left, 1, "no temporary file is left");
    }

    /// The page of a daemon that had ended gave its token to whoever listened at the port then.
    #[test]
    fn a_proof_is_had_from_the_token_only() {
        // Case 2 of RFC 4231.
        let short = Token::new("Jefe").proof("what do ya want for nothing?");
        assert!(short.starts_with("5bdcc146bf60754e6a042426089575c7"));
        assert!(short.ends_with("5a003f089d2739839dec58b964ec3843"));
        let long = Token::new("k".repeat(100));
        assert_eq!(long.proof("a").len(), 64);
        assert_ne!(long.proof("a"), long.proof("b"));
        assert_ne!(long.proof("a"), Token::new("k".repeat(101)).proof("a"));
    }

    #[test]
    fn a_symlinked_token_file_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let elsewhere = directory.path().join("elsewhere");
        std::fs::write(&elsewhere, "0123456789abcdef0123456789abcdef").expect("written");
        symlink(&elsewhere, directory.path().join(TOKEN_FILE)).expect("linked");
        let refused = Token::of_process(directory.path(), None).expect_err("a link");
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
            let refused = Token::of_process(directory.path(), None).expect_err("too open");
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
        assert!(Token::of_process(directory.path(), None).is_err());
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

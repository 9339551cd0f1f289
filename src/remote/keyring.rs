//! Keys for TLS over NVMe/TCP, in the kernel's keyring for them. Each export has one of its own, drawn anew
//! whenever it is made: it is in the two kernels, goes from one to the other over SSH, and is nowhere else.
//!
//! The handshake is done by a daemon of the system, `tlshd`, which the kernel asks; it finds the key by the
//! identity that the other side names. That is the identity of the NVMe standard, of both hosts and a digest.
//! The digest is drawn too: it tells exports of similar names apart, and our keys from those of others.

use std::ffi::CString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use speedloader_fs::sys::keyring;

use super::Failure;
use super::kernel::{names_in, provide_module, read};
use super::wire::{Secret, TlsKey};

/// The keyring of the kernel's NVMe.
const KEYRING: &str = ".nvme";
/// A PSK of version 1 that was not derived from another, for SHA-256.
const VERSION: &str = "NVMe1R01";
/// What the digests of our keys begin with.
const MARK: &str = "speedloader-";
/// Bytes of a key for SHA-256, and of what names it.
const SECRET_BYTES: usize = 32;
const ID_BYTES: usize = 8;
/// Who has the key in one of his keyrings may do everything; root may also see, read and find it, as tlshd must
/// that was started before there was a keyring.
const PERMISSIONS: u32 = 0x3f0b_0000;
/// The daemon that does handshakes for the kernel.
const HANDSHAKER: &str = "tlshd";

/// What a kernel without TLS lacks, on either machine.
pub(super) const NO_TLS: &str = "it needs Linux 6.7 with CONFIG_NVME_TCP_TLS, CONFIG_NVME_TARGET_TCP_TLS and \
    CONFIG_TLS; or leave `tls` out, and let it cross a network of your own";

/// Draws a key.
///
/// # Errors
/// When the kernel gives no random bytes.
pub fn new_key() -> Result<TlsKey, Failure> {
    Ok(TlsKey {
        id: drawn(ID_BYTES)?,
        secret: Secret::new(&drawn(SECRET_BYTES)?),
    })
}

fn drawn(count: usize) -> Result<String, Failure> {
    let mut bytes = vec![0_u8; count];
    let mut filled = 0;
    while filled < count {
        let flags = rustix::rand::GetRandomFlags::empty();
        filled += rustix::rand::getrandom(&mut bytes[filled..], flags)
            .map_err(|error| Failure::new(format!("the kernel gives no random bytes: {error}")))?;
    }
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Whether this is a key as [`new_key`] draws it.
pub fn is_key(key: &TlsKey) -> bool {
    let is_hex = |text: &str, bytes: usize| {
        text.len() == 2 * bytes && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    is_hex(&key.id, ID_BYTES) && is_hex(key.secret.reveal(), SECRET_BYTES)
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let pairs = (0..hex.len())
        .step_by(2)
        .filter_map(|at| hex.get(at..at + 2));
    pairs
        .filter_map(|pair| u8::from_str_radix(pair, 16).ok())
        .collect()
}

/// Whether somebody does handshakes for the kernel here.
pub fn has_handshaker(proc: &Path) -> bool {
    let is_it = |name: &String| {
        name.bytes().all(|byte| byte.is_ascii_digit())
            && read(&proc.join(name).join("comm")).as_deref() == Some(HANDSHAKER)
    };
    names_in(proc).iter().any(is_it)
}

/// The keyring of the kernel's NVMe, on either machine.
#[derive(Clone, Debug)]
pub struct Keyring {
    keys: PathBuf,
}

impl Default for Keyring {
    fn default() -> Self {
        Keyring {
            keys: PathBuf::from("/proc/keys"),
        }
    }
}

impl Keyring {
    /// One that another listing of keys tells of.
    #[cfg(test)]
    pub fn of_listing(keys: &Path) -> Self {
        Keyring {
            keys: keys.to_owned(),
        }
    }

    fn listing(&self) -> String {
        fs::read_to_string(&self.keys).unwrap_or_default()
    }

    /// Whether the kernel has it, or can load what brings it.
    pub fn is_there(&self) -> bool {
        number_of(&self.listing()).is_some()
            || (provide_module("nvme-keyring") && number_of(&self.listing()).is_some())
    }

    /// Whether it has a key of ours for a host and a subsystem.
    pub fn has(&self, host_nqn: &str, nqn: &str) -> bool {
        let listing = self.listing();
        let keys = ours(&listing, nqn);
        keys.iter().any(|key| key.host_nqn == host_nqn)
    }

    /// Puts a key into it, in place of those that we have put there for the subsystem before. Gives its number.
    ///
    /// # Errors
    /// When there is no such keyring, and whatever it reports.
    pub fn put(&self, host_nqn: &str, nqn: &str, key: &TlsKey) -> Result<i32, Failure> {
        let refused = |error: io::Error| {
            Failure::new(format!("the kernel does not take a key for TLS: {error}"))
        };
        self.remove(nqn)?;
        let ring =
            number_of(&self.listing()).ok_or_else(|| refused(io::ErrorKind::NotFound.into()))?;
        let identity = format!("{VERSION} {host_nqn} {nqn} {MARK}{}", key.id);
        let identity = CString::new(identity)
            .map_err(|_| Failure::new("a name for a key of TLS holds a NUL"))?;
        let payload = bytes_of(key.secret.reveal());
        // Who does not have a key in a keyring of his own may not say who may read it.
        let own = keyring::OF_THREAD;
        let number = keyring::add(c"psk", &identity, &payload, own).map_err(refused)?;
        let put = keyring::set_permissions(number, PERMISSIONS)
            .and_then(|()| keyring::link(number, ring));
        // Where it was not put it is gone with this; the thread's keyring ends with the thread in any case.
        let _ = keyring::unlink(number, own);
        put.map(|()| number).map_err(refused)
    }

    /// Takes the keys out of it that we have put there for a subsystem.
    ///
    /// # Errors
    /// Whatever it reports.
    pub fn remove(&self, nqn: &str) -> Result<(), Failure> {
        // Not only unlinked: for a moment it would be listed on.
        for key in ours(&self.listing(), nqn) {
            // It may be on its way out already.
            if let Err(error) = keyring::invalidate(key.number)
                && is_listed(self, key.number)
            {
                let text = format!("cannot take back the key for TLS: {error}");
                return Err(Failure::new(text));
            }
        }
        Ok(())
    }
}

fn is_listed(keyring: &Keyring, number: i32) -> bool {
    let listing = keyring.listing();
    entries(&listing).any(|entry| entry.number == number)
}

/// A key, as the kernel lists it.
struct Entry<'a> {
    number: i32,
    kind: &'a str,
    /// Its description, and after a colon what its type says of it.
    text: &'a str,
}

/// A key of ours.
struct OurKey<'a> {
    number: i32,
    host_nqn: &'a str,
}

/// Lines such as `1b0d4e3c I------ 1 perm 3f0b0000 0 0 psk NVMe1R01 ...: 32`. What is no longer whole is
/// left out.
fn entries(listing: &str) -> impl Iterator<Item = Entry<'_>> {
    listing.lines().filter_map(|line| {
        let (number, rest) = line.trim_start().split_once(' ')?;
        let mut rest = rest.trim_start();
        let flags = rest.split(' ').next()?;
        let mut kind = "";
        for _ in 0..7 {
            let (word, after) = rest.split_once(' ')?;
            kind = word;
            rest = after.trim_start();
        }
        let is_gone = flags.contains(['R', 'D', 'i']);
        let number = i32::from_str_radix(number, 16).ok()?;
        (!is_gone).then_some(Entry {
            number,
            kind,
            text: rest,
        })
    })
}

fn number_of(listing: &str) -> Option<i32> {
    let is_it = |entry: &Entry<'_>| {
        entry.kind == "keyring" && entry.text.split(':').next() == Some(KEYRING)
    };
    entries(listing).find(is_it).map(|entry| entry.number)
}

fn ours<'a>(listing: &'a str, nqn: &str) -> Vec<OurKey<'a>> {
    let keys = entries(listing).filter(|entry| entry.kind == "psk");
    keys.filter_map(|entry| {
        let words: Vec<&str> = entry.text.split(' ').collect();
        let [VERSION, host_nqn, subsystem, digest, ..] = words[..] else {
            return None;
        };
        (subsystem == nqn && digest.starts_with(MARK)).then_some(OurKey {
            number: entry.number,
            host_nqn,
        })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "\
020b7f3e I--Q---     2 perm 1f3f0000     0     0 keyring   _uid_ses.0: 1
1b0d4e3c I------     1 perm 3f0b0000     0     0 psk       NVMe1R01 nqn.us nqn.a:x speedloader-0011223344556677: 32
1b0d4e3d IR-----     1 perm 3f0b0000     0     0 psk       NVMe1R01 nqn.us nqn.a:gone speedloader-0011223344556677: 32
1b0d4e3e I------     1 perm 3f0b0000     0     0 psk       NVMe1R01 nqn.us nqn.a:xy speedloader-0011223344556677: 32
1b0d4e3f I------     1 perm 3f0b0000     0     0 psk       NVMe1R01 nqn.us nqn.a:x AbCd=: 32
1c222222 I------     1 perm 1f3f0000     0     0 user      .nvme: 32
2a34f7d6 I------     3 perm 1f1f0000     0     0 keyring   .nvme: 4
";

    #[test]
    fn our_keys_are_told_from_those_of_others_and_of_similar_names() {
        assert_eq!(number_of(LISTING), Some(0x2a34_f7d6));
        let numbers = |nqn| -> Vec<i32> {
            let found = ours(LISTING, nqn);
            found.iter().map(|key| key.number).collect()
        };
        assert_eq!(numbers("nqn.a:x"), [0x1b0d_4e3c]);
        assert_eq!(numbers("nqn.a:xy"), [0x1b0d_4e3e]);
        assert_eq!(numbers("nqn.a:gone"), Vec::<i32>::new());
        assert_eq!(numbers("nqn.a"), Vec::<i32>::new());
        for listing in ["", "x", "1b0d4e3c I", "zz I 1 perm 0 0 0 psk NVMe1R01"] {
            assert_eq!((number_of(listing), ours(listing, "x").len()), (None, 0));
        }
    }

    #[test]
    fn a_key_is_asked_for_by_host_and_subsystem() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), LISTING).unwrap();
        let keyring = Keyring::of_listing(file.path());
        assert!(keyring.has("nqn.us", "nqn.a:x"));
        assert!(!keyring.has("nqn.them", "nqn.a:x"));
    }

    #[test]
    fn each_key_is_another_and_none_is_printed() {
        let (one, two) = (new_key().unwrap(), new_key().unwrap());
        assert!(is_key(&one) && is_key(&two));
        assert!(one.id != two.id && one.secret != two.secret);
        assert_eq!(bytes_of(one.secret.reveal()).len(), SECRET_BYTES);
        assert!(!format!("{one:?}").contains(one.secret.reveal()));
        let short = TlsKey {
            secret: Secret::new("00ff"),
            ..one.clone()
        };
        let hostile = TlsKey {
            id: "x\n: 32 speedloa".to_owned(),
            ..one
        };
        assert!(!is_key(&short) && !is_key(&hostile));
        assert_eq!(bytes_of("00ff10"), [0, 255, 16]);
    }

    #[test]
    fn who_does_handshakes_is_known_by_its_name() {
        let proc = tempfile::tempdir().unwrap();
        for (process, name) in [("1", "init"), ("self", "tlshd"), ("77", "tlshd-not")] {
            fs::create_dir(proc.path().join(process)).unwrap();
            fs::write(proc.path().join(process).join("comm"), format!("{name}\n")).unwrap();
        }
        assert!(!has_handshaker(proc.path()));
        fs::write(proc.path().join("77/comm"), "tlshd\n").unwrap();
        assert!(has_handshaker(proc.path()));
    }
}

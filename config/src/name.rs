//! Names that reach command lines, the kernel or other machines: each a type that only a checked text can become.
//!
//! All of them refuse a leading `-` (it would be an option), whitespace, quotes and shell characters, because their
//! character sets have none.

use std::fmt;
use std::net::Ipv6Addr;

use serde::{Serialize, Serializer};

use crate::setting::{Kind, Setting, Unfit, toml_quoted};

/// A text type: its meaning, what would be right, and the check.
macro_rules! name {
    ($(#[doc = $about:literal])+ $name:ident, $kind:expr, $wanted:literal, $check:expr) => {
        $(#[doc = $about])+
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The checked text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match $kind {
                    Kind::Secret => f.write_str("(secret)"),
                    _ => f.write_str(&self.0),
                }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.to_string(), f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl Setting for $name {
            const KIND: Kind = $kind;

            fn from_text(text: &str) -> Result<Self, Unfit> {
                let check: fn(&str) -> bool = $check;
                if check(text) { Ok($name(text.to_owned())) } else { Err(Self::wanted().into()) }
            }

            fn wanted() -> String {
                $wanted.to_owned()
            }

            fn to_toml(&self) -> Option<String> {
                self.0.to_toml()
            }
        }
    };
}

/// Free text of one line; the base of the others.
impl Setting for String {
    const KIND: Kind = Kind::Text;

    fn from_text(text: &str) -> Result<Self, Unfit> {
        const TEXT_LEN_MAX: usize = 1024;
        let fits = !text.is_empty() && text.len() <= TEXT_LEN_MAX;
        if fits && !text.chars().any(char::is_control) {
            Ok(text.to_owned())
        } else {
            Err(Self::wanted().into())
        }
    }

    fn wanted() -> String {
        "text without control characters".to_owned()
    }

    fn to_toml(&self) -> Option<String> {
        Some(toml_quoted(self))
    }
}

name! {
    /// The name of a pool, local or remote.
    PoolName, Kind::Text,
    "a name of 1 to 32 of a-z, 0-9, - and _ that begins with a letter or digit",
    pool_name
}

name! {
    /// Whom ssh connects to: `host` or `user@host`.
    SshTarget, Kind::Text,
    "user@host or host",
    |text| match text.split_once('@') {
        Some((user, host)) => user_name(user) && host_name(host),
        None => host_name(text),
    }
}

name! {
    /// A host name or IP address, as the data connection uses it.
    Host, Kind::Text,
    "a host name or an IP address",
    |text| host_name(text) || text.parse::<Ipv6Addr>().is_ok()
}

name! {
    /// An NVMe qualified name, or the beginning of one.
    Nqn, Kind::Text,
    "an NVMe name such as nqn.2026-01.com.example:pools",
    nqn
}

name! {
    /// A group of this machine, by name or number.
    Group, Kind::Text,
    "a group's name or number",
    user_name
}

name! {
    /// A NUMA policy in tmpfs's words.
    MemoryPolicy, Kind::Text,
    "a NUMA policy such as interleave, local, prefer:0 or bind:0-1",
    memory_policy
}

name! {
    /// A word that only those know who may do more; only `as_str` gives it away, it is never printed.
    Token, Kind::Secret,
    "16 to 256 of A-Z, a-z, 0-9, -, _ and .",
    |text| (16..=256).contains(&text.len()) && all(text, "-_.")
}

name! {
    /// A secret of NVMe in-band authentication (DH-HMAC-CHAP), as nvme-cli writes it; only `as_str` gives it
    /// away, it is never printed.
    DhchapSecret, Kind::Secret,
    "a secret such as `nvme gen-dhchap-key` prints: DHHC-1:00:...:",
    dhchap_secret
}

/// `DHHC-1:HASH:BASE64:`: 32, 48 or 64 bytes and their CRC-32 (NVM Express Base Specification 2.0, 8.13.5.8).
fn dhchap_secret(text: &str) -> bool {
    let Some((hash, key)) = text
        .strip_prefix("DHHC-1:")
        .and_then(|rest| rest.strip_suffix(':'))
        .and_then(|rest| rest.split_once(':'))
    else {
        return false;
    };
    let digits = key.trim_end_matches('=');
    let lengths = matches!((digits.len(), key.len()), (48, 48) | (70, 72) | (91, 92));
    matches!(hash, "00" | "01" | "02" | "03") && lengths && all(digits, "+/")
}

/// Only letters, digits and these, and at least one.
fn all(text: &str, others: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || others.contains(c))
}

fn starts_alphanumeric(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

fn pool_name(text: &str) -> bool {
    all(text, "-_")
        && text.len() <= 32
        && starts_alphanumeric(text)
        && !text.contains(|c: char| c.is_ascii_uppercase())
}

fn user_name(text: &str) -> bool {
    let starts = starts_alphanumeric(text) || text.starts_with('_');
    text.len() <= 32 && all(text, "-_.") && starts
}

fn host_name(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|label| {
            all(label, "-_")
                && label.len() <= 63
                && starts_alphanumeric(label)
                && !label.ends_with('-')
        })
}

fn nqn(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("nqn.") else {
        return false;
    };
    let date = |d: &str| {
        let bytes = d.as_bytes();
        bytes.len() == 7
            && bytes
                .iter()
                .enumerate()
                .all(|(i, b)| (i == 4) == (*b == b'-') && (i == 4 || b.is_ascii_digit()))
    };
    match rest.split_once('.') {
        Some((when, name)) => {
            text.len() <= 223 && date(when) && all(name, ".-:_") && starts_alphanumeric(name)
        }
        None => false,
    }
}

/// The syntax of tmpfs(5): `MODE[=FLAG][:NODES]`, nodes a list of numbers and ranges.
fn memory_policy(text: &str) -> bool {
    let (mode, nodes) = match text.split_once(':') {
        Some((mode, nodes)) => (mode, Some(nodes)),
        None => (text, None),
    };
    let (mode, flag) = match mode.split_once('=') {
        Some((mode, flag)) => (mode, Some(flag)),
        None => (mode, None),
    };
    let number = |n: &str| (1..=4).contains(&n.len()) && n.bytes().all(|b| b.is_ascii_digit());
    let list = |nodes: &str| {
        nodes.len() <= 256
            && nodes.split(',').all(|part| match part.split_once('-') {
                Some((from, to)) => number(from) && number(to),
                None => number(part),
            })
    };
    let flag_fits = matches!(flag, None | Some("static" | "relative"));
    let nodes_fit = match mode {
        "default" | "local" => nodes.is_none() && flag.is_none(),
        "interleave" => nodes.is_none_or(list),
        "prefer" => nodes.is_some_and(number),
        "bind" => nodes.is_some_and(list),
        _ => false,
    };
    flag_fits && nodes_fit
}

/// The permission bits of the control socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Mode(pub u32);

impl Setting for Mode {
    const KIND: Kind = Kind::Text;

    fn from_text(text: &str) -> Result<Self, Unfit> {
        let octal =
            (3..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
        let bits = if octal {
            u32::from_str_radix(text, 8).ok()
        } else {
            None
        };
        match bits {
            Some(bits) if bits & !0o770 != 0 => Err(Unfit {
                wanted: "no more than \"0770\": rights for owner and group only".to_owned(),
                hint: Some("to let more people in, put them into control.group".to_owned()),
            }),
            Some(bits) if bits & 0o600 != 0o600 => {
                Err("a mode that lets the owner read and write, such as \"0660\"".into())
            }
            Some(bits) => Ok(Mode(bits)),
            None => Err(Self::wanted().into()),
        }
    }

    fn wanted() -> String {
        "octal permissions in quotes, such as \"0660\"".to_owned()
    }

    fn to_toml(&self) -> Option<String> {
        Some(format!("\"{:04o}\"", self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: Setting>(right: &[&str], wrong: &[&str]) {
        for text in right {
            assert!(
                T::from_text(text).is_ok(),
                "{text:?} should be accepted as {}",
                T::wanted()
            );
        }
        for text in wrong {
            assert!(
                T::from_text(text).is_err(),
                "{text:?} should be refused as {}",
                T::wanted()
            );
        }
    }

    #[test]
    fn names_accept_only_their_characters() {
        let long = "a".repeat(33);
        check::<PoolName>(
            &["local", "0", "a-b_c"],
            &["", "-a", "A", "a b", "ä", "a/b", "..", &long],
        );
        check::<SshTarget>(
            &["host", "service@meadowlark.example.com", "u_1@10.0.0.2"],
            &[
                "",
                "@",
                "a@",
                "@b",
                "-oProxyCommand=x",
                "u@-x",
                "a b",
                "a;b",
                "a@b@c",
                "u@h:22",
                "$(x)",
            ],
        );
        check::<Host>(
            &["10.0.40.2", "fe80::1", "meadowlark", "a.b-c"],
            &["", "-a", "a-", "a..b", ".a", "a b", "a/b", "[::1]", "a\n"],
        );
        check::<Nqn>(
            &[
                "nqn.2014-08.org.nvmexpress:uuid:1b4e28ba-2fa1-11d2",
                "nqn.2026-01.io.x",
            ],
            &[
                "",
                "nqn.",
                "nqn.2026-1.x",
                "nqn.2026-01",
                "nqn.2026-01./etc",
                "nqn.2026-01.a b",
                "iqn.2026-01.a",
            ],
        );
        check::<Group>(&["speedloader", "100", "_x"], &["", "-g", "a:b", "a b"]);
        check::<MemoryPolicy>(
            &[
                "default",
                "local",
                "interleave",
                "interleave:0-3",
                "prefer:0",
                "bind=static:0,2-3",
            ],
            &[
                "",
                "bind",
                "prefer:0-1",
                "bind:0,size=1",
                "local:0",
                "bind=x:0",
                "interleave:",
                "bind:0-",
            ],
        );
        check::<Token>(
            &["0123456789abcdef"],
            &["short", "0123456789abcde\n", "0123456789abcdef!"],
        );
        let (short, middle, long) = ("a/+b".repeat(12), "a".repeat(70), "a".repeat(91));
        check::<DhchapSecret>(
            &[
                &format!("DHHC-1:00:{short}:"),
                &format!("DHHC-1:02:{middle}==:"),
                &format!("DHHC-1:03:{long}=:"),
            ],
            &[
                "",
                "DHHC-1:00::",
                &format!("DHHC-1:04:{short}:"),
                &format!("DHHC-1:00:{short}"),
                &format!("DHHC-1:00:{short},:"),
                &format!("DHHC-1:00:{middle}:"),
                &format!("DHHC-1:00:{short}:,tls"),
            ],
        );
        check::<Mode>(
            &["0660", "600", "0770"],
            &["", "0666", "0777", "0060", "4770", "+660", "rw", "0o660"],
        );
    }
}

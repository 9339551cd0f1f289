//! What goes over SSH between this machine and the agent on the other: one line of JSON a request, one a
//! reply, and before that a line now and then that says how far it is. Both ends are of one version, or say so; neither trusts what it reads.

use serde::{Deserialize, Serialize};

/// The version of these lines. An agent of another one is not talked to.
pub const PROTOCOL: u32 = 3;

/// A line is no longer than this, whoever wrote it.
pub const LINE_BYTES_MAX: usize = 64 << 10;

/// What the agent says first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greeting {
    /// [`PROTOCOL`].
    pub agent: u32,
    /// The version of its program.
    pub version: String,
}

/// How data travels: what [`speedloader_config::Transport`] comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fabric {
    /// NVMe over TCP.
    Tcp,
    /// NVMe over RDMA.
    Rdma,
}

impl Fabric {
    /// As nvmet and nvme-fabrics write it.
    pub fn word(self) -> &'static str {
        match self {
            Fabric::Tcp => "tcp",
            Fabric::Rdma => "rdma",
        }
    }
}

/// A word that must not be seen: it goes over SSH as it is, and is never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Keeps a word from being printed.
    pub fn new(word: &str) -> Self {
        Secret(word.to_owned())
    }

    /// The word itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// What the two ends of an encrypted connection share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsKey {
    /// What it is known by: hexadecimal digits.
    pub id: String,
    /// The key: hexadecimal digits.
    pub secret: Secret,
}

/// What is to be exported there, and to whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Export {
    /// The name of the NVMe subsystem.
    pub nqn: String,
    /// The only host that may connect, by its NQN.
    pub host_nqn: String,
    /// What that host must prove to know, if anything (DH-HMAC-CHAP).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    /// Whether data is encrypted on its way (TLS), and nobody is let in otherwise.
    pub tls: bool,
    /// What that host calls itself, for people.
    pub host_name: String,
    /// An address of the other machine.
    pub address: std::net::IpAddr,
    /// The port that it listens on.
    pub port: u16,
    /// How data travels.
    pub fabric: Fabric,
    /// How much memory: a size or a share, as the configuration writes it.
    pub capacity: String,
}

/// One that tests ask for.
#[cfg(test)]
pub(super) fn export_of_tests() -> Export {
    Export {
        nqn: "nqn.2026-01.io.speedloader:meadowlark".to_owned(),
        host_nqn: "nqn.2014-08.org.nvmexpress:uuid:us".to_owned(),
        secret: None,
        tls: false,
        host_name: "here".to_owned(),
        address: "10.9.0.1".parse().expect("an address"),
        port: 4420,
        fabric: Fabric::Tcp,
        capacity: "64MiB".to_owned(),
    }
}

/// What the agent is asked. Each is answered with how things are then; each may be asked again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// How things are. Changes nothing.
    Look {
        /// What is asked about.
        export: Export,
    },
    /// Take the memory.
    MakeRam {
        /// How much, and for whom.
        export: Export,
    },
    /// Offer it: subsystem, namespace, allowed host, port.
    Export {
        /// How, and to whom.
        export: Export,
        /// The key of the encrypted connections, from now on. Where they are encrypted it must be there.
        key: Option<TlsKey>,
    },
    /// Take the offer back.
    Withdraw {
        /// Which.
        export: Export,
    },
    /// Give the memory back.
    FreeRam {
        /// Which.
        export: Export,
    },
}

/// How things are on the other machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetState {
    /// What it calls itself.
    pub machine: String,
    /// Its kernel.
    pub kernel: String,
    /// All its memory.
    pub total_bytes: u64,
    /// What could be had of it.
    pub available_bytes: u64,
    /// Whether it has an RDMA device.
    pub has_rdma: bool,
    /// Whose the export is, by NQN, if there is any part of one.
    pub owner: Option<String>,
    /// The memory that was taken for it.
    pub ram_bytes: Option<u64>,
    /// The offer, when it is whole.
    pub offer: Option<Offer>,
}

/// A whole offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The namespace's UUID, drawn anew each time that it is made.
    pub uuid: String,
    /// Where it is to be had.
    pub address: std::net::IpAddr,
    /// And at which port.
    pub port: u16,
    /// And how.
    pub fabric: Fabric,
}

/// How far the agent is with what takes long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// So many bytes of the memory are taken.
    pub done_bytes: u64,
    /// Of so many.
    pub total_bytes: u64,
}

/// What the agent replies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// It is being done; another reply follows.
    Progress(Progress),
    /// It was done; this is how things are.
    Ok(TargetState),
    /// It was not; what was changed for it was changed back.
    Refused {
        /// What is wrong.
        what: String,
        /// What to do about it.
        remedy: Option<String>,
    },
}

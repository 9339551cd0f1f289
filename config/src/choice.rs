//! The fields that are one of a few words.

use serde::Serialize;

use crate::fault::did_you_mean;
use crate::setting::{Kind, Setting, Unfit, toml_string};

/// One of a few words, each with its meaning.
macro_rules! choice {
    ($(#[doc = $about:literal])+ pub enum $name:ident {
        $($(#[doc = $doc:literal])+ $variant:ident = $word:literal,)+
    }) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub enum $name {
            $($(#[doc = $doc])+ #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// The words, as they are written in the configuration.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word of this choice.
            pub fn word(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)+
                }
            }
        }

        impl Setting for $name {
            const KIND: Kind = Kind::Choice($name::WORDS);

            fn from_text(text: &str) -> Result<Self, Unfit> {
                match text {
                    $($word => Ok($name::$variant),)+
                    _ => Err(Unfit {
                        wanted: Self::wanted(),
                        hint: did_you_mean(text, $name::WORDS.iter().copied()),
                    }),
                }
            }

            fn wanted() -> String {
                format!("one of {}", $name::WORDS.join(", "))
            }

            fn to_toml(&self) -> Option<String> {
                toml_string(self.word())
            }
        }
    };
}

choice! {
    /// What a cold directory lies on.
    pub enum ColdKind {
        /// Asked of the kernel when the directory is opened.
        Auto = "auto",
        /// A disk of this machine: changes are heard of at once.
        Local = "local",
        /// NFS: looked through again from time to time.
        Nfs = "nfs",
        /// BeeGFS: looked through again from time to time.
        Beegfs = "beegfs",
        /// Something else that is far: looked through again from time to time.
        Other = "other",
    }
}

choice! {
    /// When a pool's tmpfs uses huge pages.
    pub enum HugePages {
        /// Always: reads of mapped models are 2 to 20 times faster.
        Always = "always",
        /// Only where a file fills the whole huge page.
        WithinSize = "within_size",
        /// Never.
        Never = "never",
    }
}

choice! {
    /// How a remote pool is reached.
    pub enum Transport {
        /// RDMA where both machines have it, else TCP.
        Auto = "auto",
        /// NVMe over RDMA.
        Rdma = "rdma",
        /// NVMe over TCP.
        Tcp = "tcp",
    }
}

choice! {
    /// The file system on a remote pool.
    pub enum Filesystem {
        /// XFS.
        Xfs = "xfs",
        /// ext4.
        Ext4 = "ext4",
    }
}

choice! {
    /// Which pool takes a model that has no pin.
    pub enum Strategy {
        /// The fastest pool with room for it.
        FastestFit = "fastest-fit",
        /// The fastest pool until it is full, then the next.
        FillFirst = "fill-first",
        /// The pools in turn.
        RoundRobin = "round-robin",
    }
}

choice! {
    /// Whether the kernel serves reads itself.
    pub enum Passthrough {
        /// Where the kernel and our privileges allow it.
        Auto = "auto",
        /// Never: the daemon serves every read.
        Off = "off",
    }
}

choice! {
    /// The checksum that is recorded of a copy whose file's name promises none.
    pub enum Checksum {
        /// Finds every accident; costs a third of the other.
        Crc64 = "crc64",
        /// Cannot be forged either.
        Blake3 = "blake3",
    }
}

choice! {
    /// The least important message that is logged.
    pub enum LogLevel {
        /// Only what failed.
        Error = "error",
        /// And what may fail soon.
        Warn = "warn",
        /// And what was done.
        Info = "info",
        /// And why.
        Debug = "debug",
        /// And everything else.
        Trace = "trace",
    }
}

choice! {
    /// How a message is logged.
    pub enum LogFormat {
        /// A line for people.
        Text = "text",
        /// A JSON object a line.
        Json = "json",
    }
}

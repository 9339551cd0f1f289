//! Identifiers: small copyable newtypes, so that a nodeid can never be passed for a file.
//!
//! Owns nothing and knows nothing; every other module may use it.

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub $inner);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

id!(
    /// One file of a home, whatever number of hard links and nodeids it has. Never re-used.
    FileId(u64)
);
id!(
    /// A directory of the union. Never re-used; the root is [`DirId::ROOT`].
    DirId(u32)
);
id!(
    /// A FUSE nodeid. Never re-used while the daemon runs.
    NodeId(u64)
);
id!(
    /// A FUSE file handle.
    HandleId(u64)
);
id!(
    /// Position of a home in the order of precedence; the models directory is [`HomeId::MODELS`].
    HomeId(u16)
);
id!(
    /// A pool, in the order in which it was added.
    PoolId(u16)
);
id!(
    /// One background copy, queued, running or ended.
    TransferId(u64)
);

impl DirId {
    /// The root of the union.
    pub const ROOT: DirId = DirId(0);
}

impl NodeId {
    /// The nodeid that the FUSE protocol gives to the root.
    pub const ROOT: NodeId = NodeId(1);
}

impl HomeId {
    /// The models directory: the only home that is ever written.
    pub const MODELS: HomeId = HomeId(0);
}

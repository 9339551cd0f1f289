//! The control plane: every door turns what comes in into a [`Command`](crate::command::Command),
//! hands it to the one [`Executor`], and writes the answer out. Doors know nothing of homes, pools or
//! policy. Whoever can open a door may use all of it: permission is the mode of the socket and of the
//! control files. Nothing that comes through a door is trusted, and no client can hold up another.

mod executor;
pub mod client;
pub mod metrics;
pub mod control_files;
pub mod socket;
pub mod http;

pub use client::Client;
pub use control_files::ControlFiles;
pub use executor::{Door, Executor, Gone, Peer};
pub use http::{HttpServer, HttpSettings};
pub use socket::{SocketServer, SocketSettings};

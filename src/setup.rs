//! The first configuration: what is on this machine is found, a configuration proposed, and written when
//! somebody says so. The command line and the page do this by the same [`Desk`].
//!
//! Finding is bounded in time, depth and number, follows no symbolic link, and writes nothing. What hangs
//! is reported and not waited for. Only [`Desk::apply`] changes anything: it makes the directories that
//! are to be made and the file, which appears whole or not at all.

mod walk;
mod surroundings;
mod disks;
mod stores;
mod proposal;
mod desk;

pub use desk::{Desk, Target};
pub use surroundings::Surroundings;
pub use walk::Limits;

#[cfg(test)]
mod tests;

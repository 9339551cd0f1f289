//! `speedloader demo`.
use crate::command::Message;
use crate::program::Demo;
/// Runs it.
///
/// # Errors
/// Why not.
pub fn run(_demo: &Demo) -> Result<(), Message> {
    Ok(())
}

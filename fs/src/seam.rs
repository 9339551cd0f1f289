//! The seam at which tests stop or break a promotion: every step that a crash could split is
//! announced by name before it is taken. It decides nothing and keeps nothing.

use crate::error::FsResult;

/// Told before each step of a promotion. The default does nothing.
pub trait Seam: Send + Sync {
    /// The step `name` comes next; an error is what the step then ends with.
    ///
    /// # Errors
    /// Only what a test injects.
    fn step(&self, name: &'static str) -> FsResult<()> {
        let _ = name;
        Ok(())
    }
}

/// The seam of production: every step is taken.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSeam;

impl Seam for NoSeam {}

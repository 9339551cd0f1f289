//! Bytes as a file, with a size that need not be theirs.

use speedloader::models::format::Source;

/// Gives `read` a source of `bytes` that claims to have `size` bytes.
pub fn with_source(bytes: &[u8], size: u64, read: impl FnOnce(&mut Source<'_>)) {
    let mut part = |offset: u64, len: usize| {
        let from = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        Ok(bytes[from..bytes.len().min(from.saturating_add(len))].to_vec())
    };
    read(&mut Source {
        size,
        read: &mut part,
    });
}

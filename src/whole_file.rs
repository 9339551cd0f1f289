//! Files that appear whole or not at all, whatever ends us on the way.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Writes a file of ours, in the place of one that may be there.
///
/// # Errors
/// As [`write()`].
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write(path, bytes, |_| Ok(()), |from, to| fs::rename(from, to))
}

/// Writes `bytes` beside `path` and gives them its name. `prepare` sets permissions and owner before
/// anything is in the file; `put` makes the first path the second: a rename, or a link where nothing
/// may be replaced. The directory must be there.
///
/// # Errors
/// Whatever writing, `prepare` or `put` reports; what was at `path` stays then, and nothing beside it.
pub fn write(
    path: &Path,
    bytes: &[u8],
    prepare: impl FnOnce(&File) -> io::Result<()>,
    put: impl FnOnce(&Path, &Path) -> io::Result<()>,
) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = directory.join(format!(".{name}.{}", std::process::id()));
    // What a crash of a former process of our number has left.
    let _ = fs::remove_file(&temporary);
    let written = (|| {
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .open(&temporary)?;
        prepare(&file)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        put(&temporary, path)?;
        File::open(directory)?.sync_all()
    })();
    // Renamed it is gone already; else it is of no more use.
    let _ = fs::remove_file(&temporary);
    written
}

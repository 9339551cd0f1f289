//! Files that appear whole or not at all, whatever ends us on the way.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Of what is written at the same moment each has a name of its own.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// Writes a file of ours that only its owner may read, in the place of one that may be there.
///
/// # Errors
/// As [`write()`].
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write(path, bytes, |_| Ok(()), |from, to| fs::rename(from, to))
}

/// Writes `bytes` beside `path` and gives them its name. `prepare` sets permissions, which are the owner's alone
/// until then, and owner before anything is in the file; `put` makes the first path the second: a rename, or a link where nothing
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
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let temporary = directory.join(format!(".{name}.{}.{number}", std::process::id()));
    // What a crash of a former process of our number has left.
    let _ = fs::remove_file(&temporary);
    let written = (|| {
        let mut file = File::options()
            .write(true)
            .create_new(true)
            // The process's mask is empty: FUSE needs that.
            .mode(0o600)
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn many_who_write_one_file_do_not_meet_each_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::thread::scope(|scope| {
            for number in 0..8u8 {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..20 {
                        replace(path, &[number; 100]).unwrap();
                    }
                });
            }
        });
        let bytes = fs::read(&path).unwrap();
        assert!(bytes.len() == 100 && bytes.iter().all(|byte| *byte == bytes[0]));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
    }
}

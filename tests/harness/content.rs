//! File contents that a number stands for: any part of a file can be told right or wrong without
//! keeping the file. Also where two contents first differ, since megabytes are no message.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The bytes from `offset` of the endless content that belongs to `seed`.
pub fn bytes(seed: u64, offset: u64, len: usize) -> Vec<u8> {
    let first = offset / 8;
    let skip = (offset % 8) as usize;
    let words = (skip + len).div_ceil(8) as u64;
    let mut all = Vec::with_capacity(words as usize * 8);
    for index in first..first + words {
        all.extend_from_slice(&word(seed, index).to_le_bytes());
    }
    all.drain(..skip);
    all.truncate(len);
    all
}

/// One word of the content: splitmix64, which is fast and has no pattern.
fn word(seed: u64, index: u64) -> u64 {
    let mut z = seed
        .wrapping_mul(0xd134_2543_de82_ef95)
        .wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Writes a file of `len` bytes of the content, and the directories above it.
pub fn write_file(path: &Path, seed: u64, len: u64) {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).unwrap();
    }
    let file = File::create(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    const CHUNK: u64 = 1 << 20;
    let mut at = 0;
    while at < len {
        let part = bytes(seed, at, (len - at).min(CHUNK) as usize);
        file.write_all_at(&part, at).unwrap();
        at += part.len() as u64;
    }
}

/// Whether `found`, read at `offset`, is the content.
///
/// # Errors
/// Where it first differs.
pub fn check(found: &[u8], seed: u64, offset: u64) -> Result<(), String> {
    let wanted = bytes(seed, offset, found.len());
    if found == wanted.as_slice() {
        return Ok(());
    }
    let at = found.iter().zip(&wanted).position(|(a, b)| a != b);
    let at = at.unwrap_or(found.len());
    Err(format!(
        "byte {} of the content of seed {seed} is {:#04x}, not {:#04x}",
        offset + at as u64,
        found[at],
        wanted[at]
    ))
}

/// Whether a file is exactly `len` bytes of the content.
///
/// # Errors
/// What cannot be read, how long it is, or where it differs.
pub fn check_file(path: &Path, seed: u64, len: u64) -> Result<(), String> {
    let named = |what: String| format!("{}: {what}", path.display());
    let file = File::open(path).map_err(|error| named(error.to_string()))?;
    check_open(&file, seed, len).map_err(named)
}

/// The same for a file that is open.
///
/// # Errors
/// As [`check_file`].
pub fn check_open(file: &File, seed: u64, len: u64) -> Result<(), String> {
    let told = file.metadata().map_err(|error| error.to_string())?.len();
    if told != len {
        return Err(format!("fstat tells {told} bytes, not {len}"));
    }
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        let count = match file.read_at(&mut buffer, at) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(format!("read at {at}: {error}")),
        };
        if count == 0 {
            break;
        }
        check(&buffer[..count], seed, at)?;
        at += count as u64;
    }
    if at == len {
        Ok(())
    } else {
        Err(format!("it has {at} bytes, not {len}"))
    }
}

#[test]
fn any_part_is_a_part_of_the_whole() {
    let whole = bytes(7, 0, 100);
    for (offset, len) in [(0, 0), (0, 1), (3, 5), (7, 1), (8, 8), (13, 80)] {
        let part = bytes(7, offset, len);
        assert_eq!(part, whole[offset as usize..offset as usize + len]);
        check(&part, 7, offset).unwrap();
    }
    let error = check(&whole[1..], 7, 0).unwrap_err();
    assert!(error.starts_with("byte 0 of"), "{error}");
    assert!(check(&whole, 8, 0).is_err());
}

#[test]
fn a_wrong_file_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a/b");
    write_file(&path, 3, 10_000);
    check_file(&path, 3, 10_000).unwrap();
    assert!(check_file(&path, 4, 10_000).is_err());
    assert!(check_file(&path, 3, 9_999).is_err());
    assert!(check_file(&path, 3, 10_001).is_err());
}

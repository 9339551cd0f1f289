//! Whether a process is about to destroy a file by copying or moving it onto itself: from the mount
//! onto the file's own home, or back.
//!
//! Two paths lead to one file, and the kernel shows them with different device numbers, so `cp` and
//! `mv` cannot see it: `cp` would empty the file that it reads, `mv` would unlink it. The caller's
//! command line and descriptors tell. Its options are not understood but for those that name a
//! directory: each argument that may be a source or a target is taken for one, and refused is only what
//! turns out to be the very file. Of the paths only what the kernel has at hand is followed: the caller
//! chooses them, and whoever answers the kernel must wait for no other file system, least of all for
//! itself. A program that copies has just looked at them.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};

use crate::home::numbers_of;
use crate::identity::Identity;
use crate::rel_path::RelPath;

/// Programs that copy or move what their arguments name.
const COPIERS: [&[u8]; 5] = [b"cp", b"mv", b"install", b"dd", b"rsync"];
/// Programs that are one of these when their first argument says so.
const MULTI_CALL: [&[u8]; 3] = [b"busybox", b"toybox", b"coreutils"];
/// Bytes that are read of a command line: the kernel starts nothing with more than 6 MiB.
const LINE_BYTES_MAX: u64 = 8 << 20;
/// Arguments that are looked at of each kind: the last ones, among which a target is, values of options, and of all
/// others those that are most like the file's path.
const ARGUMENTS_MAX: usize = 64;
/// Paths that are tried. What is most likely comes first.
const TRIES_MAX: usize = 1024;
/// A longer path is no single path to the kernel.
const PATH_BYTES_MAX: usize = 4096;
/// Times that a path is looked up.
const ATTEMPTS_MAX: usize = 4;
/// The inode number is within so many bytes of what the kernel tells of a descriptor; of some, which watch others, it
/// tells megabytes.
const INFO_BYTES: u64 = 256;
/// Descriptors that are looked at.
const DESCRIPTORS_MAX: usize = 1024;

/// A process that asks something of the mount.
pub struct Caller<'a> {
    pid: u32,
    mountpoint: &'a Path,
}

impl<'a> Caller<'a> {
    /// The process of thread `pid`; `mountpoint` is ours.
    pub fn new(pid: u32, mountpoint: &'a Path) -> Caller<'a> {
        Caller { pid, mountpoint }
    }

    /// Whether it is a program that copies or moves.
    pub fn copies(&self) -> bool {
        let program = self.program();
        let is_of = |names: &[&[u8]], name: &[u8]| names.contains(&name);
        is_of(&COPIERS, &program)
            || is_of(&MULTI_CALL, &program)
                && (self.told("cmdline").split(|byte| *byte == 0).nth(1))
                    .is_some_and(|applet| is_of(&COPIERS, applet))
    }

    /// Whether its arguments name, outside the mount, the home file of `path`.
    pub fn names(&self, path: &RelPath, home_file: &Identity) -> bool {
        let line = self.told("cmdline");
        let Some((_, line)) = split_at_nul(&line) else {
            return false;
        };
        let line = line.strip_suffix(b"\0").unwrap_or(line);
        let full = self.mountpoint.join(path.as_os_str());
        let arguments = likely(line, &full);
        let mut tries = TRIES_MAX;
        self.bases().iter().any(|base| {
            let places: Vec<PathBuf> = arguments
                .iter()
                .map(|argument| plain(&base.join(OsStr::from_bytes(argument))))
                .collect();
            let ends = self.ends(path, &arguments, &places);
            arguments.iter().zip(&places).any(|(argument, place)| {
                !place.starts_with(self.mountpoint)
                    && leads_to(base, argument, place, &ends, home_file, &mut tries)
            })
        })
    }

    /// What a directory that is copied to, or from, may be followed by: the name alone, and for each argument that
    /// leads to `path` through the mount what is below it, with and without a name before that.
    fn ends(&self, path: &RelPath, arguments: &[&[u8]], places: &[PathBuf]) -> Vec<PathBuf> {
        let path = Path::new(path.as_os_str());
        let full = self.mountpoint.join(path);
        let mut ends = Ends::default();
        ends.add(path.file_name().map(Path::new).unwrap_or(path));
        let mut is_named = false;
        for (argument, place) in arguments.iter().zip(places) {
            let Ok(below) = full.strip_prefix(place) else {
                continue;
            };
            is_named |= place.starts_with(self.mountpoint);
            ends.add(below);
            // From the other side: of `cp -r home/directory mount` the first name is the source's own.
            ends.add(below.strip_prefix(first(below)).unwrap_or(below));
            if let Some(name) = place.file_name().filter(|_| !is_dots(argument)) {
                ends.add(&Path::new(name).join(below));
            }
        }
        if arguments.iter().any(|argument| keeps_directories(argument)) {
            tails(&full).for_each(|tail| ends.add(tail));
        }
        if !is_named {
            // A symlink, a bind mount or a list in a file leads to it: any part of the path may be what is copied.
            tails(path).for_each(|tail| ends.add(tail));
            for name in places.iter().filter_map(|place| place.file_name()) {
                tails(path).for_each(|tail| ends.add(&Path::new(name).join(tail)));
            }
        }
        ends.0
    }

    /// The directories that relative arguments may begin in. `rsync` is elsewhere by the time that it reads.
    fn bases(&self) -> Vec<PathBuf> {
        let cwd = fs::read_link(format!("/proc/{}/cwd", self.pid)).ok();
        let started = (self.program() == b"rsync").then(|| {
            let environment = self.told("environ");
            let variables = environment.split(|byte| *byte == 0);
            let mut values = variables.filter_map(|variable| variable.strip_prefix(b"PWD="));
            values
                .next()
                .map(|value| PathBuf::from(OsStr::from_bytes(value)))
        });
        cwd.into_iter().chain(started.flatten()).collect()
    }

    fn program(&self) -> Vec<u8> {
        let mut name = self.told("comm");
        name.pop_if(|last| *last == b'\n');
        name
    }

    /// What the kernel tells of it; nothing if it is gone.
    fn told(&self, what: &str) -> Vec<u8> {
        let mut told = Vec::new();
        if let Ok(file) = File::open(format!("/proc/{}/{what}", self.pid)) {
            // What has been read before it ended is what there is.
            let _ = file.take(LINE_BYTES_MAX).read_to_end(&mut told);
        }
        told
    }

    /// Whether it has the home file open, other than through the mount.
    pub fn holds(&self, home_file: &Identity) -> bool {
        let Ok(entries) = fs::read_dir(format!("/proc/{}/fdinfo", self.pid)) else {
            return false;
        };
        let line = format!("ino:\t{}\n", home_file.ino);
        entries.flatten().take(DESCRIPTORS_MAX).any(|entry| {
            let mut info = Vec::new();
            if let Ok(file) = File::open(entry.path()) {
                // What cannot be read names no file.
                let _ = file.take(INFO_BYTES).read_to_end(&mut info);
            }
            let number = entry.file_name();
            String::from_utf8_lossy(&info).contains(&line)
                && fs::read_link(Path::new(&format!("/proc/{}/fd", self.pid)).join(number))
                    .is_ok_and(|target| {
                        !target.starts_with(self.mountpoint)
                            && open(CWD, &target).is_some_and(|found| is_file(found, home_file))
                    })
        })
    }
}

/// Paths, each once, in the order in which they were added.
#[derive(Default)]
struct Ends(Vec<PathBuf>);

impl Ends {
    fn add(&mut self, end: &Path) {
        let end: PathBuf = end.components().collect();
        // As text: they are many, and to compare paths part by part takes long.
        let is_known = |end: &OsStr| self.0.iter().any(|known| known.as_os_str() == end);
        if !end.as_os_str().is_empty() && self.0.len() < TRIES_MAX && !is_known(end.as_os_str()) {
            self.0.push(end);
        }
    }
}

/// The arguments that may name a source or a target, the most likely target first.
fn likely<'l>(line: &'l [u8], full: &Path) -> Vec<&'l [u8]> {
    let names: Vec<&[u8]> = (full.components().rev())
        .map(|component| component.as_os_str().as_bytes())
        .collect();
    let mut values: Vec<&[u8]> = Vec::new();
    let mut alike: Vec<(usize, &[u8])> = Vec::new();
    let mut rest = line;
    while !rest.is_empty() {
        let (argument, after) = split_at_nul(rest).unwrap_or((rest, &[]));
        rest = after;
        let value = value_of(argument, rest).filter(|_| values.len() < ARGUMENTS_MAX);
        values.extend(value);
        let likeness = likeness(argument, &names);
        if likeness > 0 {
            alike.push((likeness, argument));
        }
        if alike.len() == 2 * ARGUMENTS_MAX {
            keep_most_alike(&mut alike);
        }
    }
    keep_most_alike(&mut alike);
    let last = line.rsplit(|byte| *byte == 0).take(ARGUMENTS_MAX);
    let all = values.into_iter().chain(last);
    let mut likely: Vec<&[u8]> = Vec::new();
    for argument in all.chain(alike.into_iter().map(|(_, argument)| argument)) {
        if !argument.is_empty() && !likely.contains(&argument) {
            likely.push(argument);
        }
    }
    likely
}

fn keep_most_alike(alike: &mut Vec<(usize, &[u8])>) {
    alike.sort_by_key(|(likeness, _)| std::cmp::Reverse(*likeness));
    alike.truncate(ARGUMENTS_MAX);
}

/// How many of its last names an argument has in common with a path, or with a directory above it. `names` are those
/// of the path, the last one first.
fn likeness(argument: &[u8], names: &[&[u8]]) -> usize {
    let own = || {
        let parts = argument.rsplit(|byte| *byte == b'/');
        parts.filter(|part| !part.is_empty() && *part != b".")
    };
    let common = |from: usize| {
        let pairs = own().zip(&names[from..]);
        pairs.take_while(|(own, name)| own == *name).count()
    };
    (0..names.len()).map(common).max().unwrap_or(0)
}

/// The path in an argument such as `of=PATH`, `--target-directory=PATH`, any beginning of that, or `-tPATH`, also
/// behind other letters; or `next`'s first argument, if the option is that one's.
fn value_of<'l>(argument: &'l [u8], next: &'l [u8]) -> Option<&'l [u8]> {
    let next = || split_at_nul(next).map_or(next, |(first, _)| first);
    let of_dd = argument
        .strip_prefix(b"of=")
        .or_else(|| argument.strip_prefix(b"if="));
    if of_dd.is_some() {
        return of_dd;
    }
    let option = argument.strip_prefix(b"-")?;
    let Some(long) = option.strip_prefix(b"-") else {
        let at = option.iter().position(|letter| *letter == b't')?;
        return Some(&option[at + 1..])
            .filter(|value| !value.is_empty())
            .or_else(|| Some(next()));
    };
    let end = long
        .iter()
        .position(|byte| *byte == b'=')
        .unwrap_or(long.len());
    let (name, value) = long.split_at(end);
    let is_target = !name.is_empty() && b"target-directory".starts_with(name);
    is_target.then(|| value.strip_prefix(b"=").unwrap_or_else(next))
}

/// Whether an argument may be the option by which what is copied keeps the directories before its name: a beginning
/// of `--parents`, or `rsync --relative`.
fn keeps_directories(argument: &[u8]) -> bool {
    match argument.strip_prefix(b"--") {
        Some(long) => long.starts_with(b"pa") || long == b"relative",
        None => argument.starts_with(b"-") && argument.contains(&b'R'),
    }
}

/// Whether an argument stands for what is in a directory, and not for the directory.
fn is_dots(argument: &[u8]) -> bool {
    let last = argument
        .rsplit(|byte| *byte == b'/')
        .find(|part| !part.is_empty());
    matches!(last, Some(b"." | b".."))
}

/// Whether an argument is the file, or a directory from which one of `ends` leads to it.
fn leads_to(
    base: &Path,
    argument: &[u8],
    place: &Path,
    ends: &[PathBuf],
    home_file: &Identity,
    tries: &mut usize,
) -> bool {
    let mut found = |place: Option<OwnedFd>| {
        place.is_some_and(|place| {
            is_file(&place, home_file)
                || ends.iter().any(|end| {
                    *tries > 0 && {
                        *tries -= 1;
                        open(&place, end).is_some_and(|found| is_file(found, home_file))
                    }
                })
        })
    };
    if found(open(CWD, place)) {
        return true;
    }
    let argument = Path::new(OsStr::from_bytes(argument));
    let is_told_by_text = !argument
        .components()
        .any(|part| part == Component::ParentDir)
        && place.as_os_str().len() < PATH_BYTES_MAX;
    // `..` behind a symlink is above what that leads to.
    !is_told_by_text && found(open(CWD, base).and_then(|base| open(base, argument)))
}

/// What is at a path, if the kernel knows it without asking anybody.
fn open(base: impl AsFd, path: &Path) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_MAGICLINKS | ResolveFlags::CACHED;
    // A mount or rename elsewhere in the same moment looks like something that the kernel does not know.
    (0..ATTEMPTS_MAX).find_map(|_| openat2(&base, path, flags, Mode::empty(), resolve).ok())
}

fn is_file(found: impl AsFd, identity: &Identity) -> bool {
    numbers_of(found).is_ok_and(|found| found == (identity.dev, identity.ino))
}

fn split_at_nul(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|byte| *byte == 0)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

/// The first name of a path.
fn first(path: &Path) -> &Path {
    path.components()
        .next()
        .map_or(Path::new(""), |name| Path::new(name.as_os_str()))
}

/// A path, and it without its first name, its first two, and so on.
fn tails(path: &Path) -> impl Iterator<Item = &Path> {
    std::iter::successors(Some(path), |path| path.strip_prefix(first(path)).ok())
        .take_while(|tail| !tail.as_os_str().is_empty())
}

/// Without `.` and `..`, as far as text tells.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_own_descriptor_is_seen_and_one_of_another_file_is_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let (one, two) = (directory.path().join("one"), directory.path().join("two"));
        fs::write(&one, b"x").expect("written");
        fs::write(&two, b"x").expect("written");
        let held = fs::File::open(&one).expect("opened");
        let caller = Caller::new(std::process::id(), Path::new("/nowhere"));
        assert!(caller.holds(&Identity::of_fd(&held).expect("stat")));
        let other = Identity::of_fd(fs::File::open(&two).expect("opened")).expect("stat");
        assert!(!caller.holds(&other));
        let through_mount = Caller::new(std::process::id(), directory.path());
        assert!(!through_mount.holds(&Identity::of_fd(&held).expect("stat")));
    }

    #[test]
    fn a_test_is_no_copier_and_names_nothing() {
        let caller = Caller::new(std::process::id(), Path::new("/nowhere"));
        assert!(!caller.copies());
        let identity = Identity {
            dev: 1,
            ino: 1,
            size: 0,
            mtime_ns: 0,
            ctime_ns: 0,
        };
        assert!(!caller.names(&RelPath::root(), &identity));
        assert!(!Caller::new(u32::MAX, Path::new("/")).copies());
    }

    fn ends(path: &[u8], arguments: &[&str]) -> Vec<PathBuf> {
        let caller = Caller::new(1, Path::new("/mnt/models"));
        let words: Vec<&[u8]> = arguments
            .iter()
            .map(|argument| argument.as_bytes())
            .collect();
        let places: Vec<PathBuf> = arguments
            .iter()
            .map(|argument| plain(Path::new(argument)))
            .collect();
        caller.ends(&RelPath::new(path).expect("valid"), &words, &places)
    }

    #[test]
    fn a_directory_copied_to_its_home_ends_in_the_same_file() {
        let cases: [(&[&str], &[&str]); 5] = [
            (&["/mnt/models/a"], &["c.gguf", "b/c.gguf", "a/b/c.gguf"]),
            (&["/mnt/models"], &["a/b/c.gguf", "models/a/b/c.gguf"]),
            (&["/mnt"], &["models/a/b/c.gguf"]),
            (
                &["/mnt/models/a/b/c.gguf", "--parents"],
                &["b/c.gguf", "mnt/models/a/b/c.gguf"],
            ),
            (
                &["/a/link/x"],
                &["b/c.gguf", "a/b/c.gguf", "x/a/b/c.gguf", "x/c.gguf"],
            ),
        ];
        for (arguments, wanted) in cases {
            let ends = ends(b"a/b/c.gguf", arguments);
            for end in wanted {
                assert!(
                    ends.contains(&PathBuf::from(end)),
                    "{arguments:?}: {end} of {ends:?}"
                );
            }
        }
    }

    #[test]
    fn a_file_copied_elsewhere_in_its_home_does_not_end_in_itself() {
        assert_eq!(
            ends(b"a/b/c.gguf", &["/mnt/models/a/b/c.gguf"]),
            [Path::new("c.gguf")]
        );
        let ends = ends(b"a/b/c.gguf", &["/mnt/models/a/."]);
        assert!(!ends.contains(&PathBuf::from("a/b/c.gguf")), "{ends:?}");
    }

    #[test]
    fn a_target_is_found_however_it_is_spelled_and_wherever_it_stands() {
        let spelled: [&[u8]; 8] = [
            b"--target-directory=/home",
            b"--target=/home",
            b"--t=/home",
            b"--target-directory\0/home",
            b"-t\0/home",
            b"-t/home",
            b"-vt\0/home",
            b"-rpt/home",
        ];
        let full = Path::new("/mnt/models/f");
        let many = vec![b"/mnt/models/x".as_slice(); 10_000].join(&0);
        for option in spelled {
            for line in [option.to_vec(), [&many, option, &many].join(&0)] {
                assert!(
                    likely(&line, full).contains(&b"/home".as_slice()),
                    "{option:?}"
                );
            }
        }
        let last = [many.as_slice(), b"/home"].join(&0);
        assert!(likely(&last, full).contains(&b"/home".as_slice()));
        assert_eq!(value_of(b"of=/x", b""), Some(b"/x".as_slice()));
        assert_eq!(value_of(b"--preserve=all", b"x"), None);
        assert_eq!(value_of(b"f", b"x"), None);
    }

    #[test]
    fn of_very_many_sources_the_file_itself_is_looked_at() {
        let mut arguments: Vec<Vec<u8>> = (0..100_000)
            .map(|number| format!("/home/{number}/config.json").into_bytes())
            .collect();
        arguments.push(b"/mnt/models".to_vec());
        let line = arguments.join(&0);
        for number in [0, 7_000, 99_000] {
            let full = PathBuf::from(format!("/mnt/models/{number}/config.json"));
            let found = likely(&line, &full);
            assert!(found.contains(&arguments[number].as_slice()), "{number}");
            assert!(found.len() <= 3 * ARGUMENTS_MAX);
        }
    }

    #[test]
    fn dots_are_taken_out() {
        assert_eq!(plain(Path::new("/a/./b/../c")), Path::new("/a/c"));
        assert!(is_dots(b"/a/./") && is_dots(b"..") && !is_dots(b"/a/.b"));
    }
}

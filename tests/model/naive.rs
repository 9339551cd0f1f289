//! The naive model: nested maps, whole contents, no caches, no threads. What it says is what the
//! rules of the union say; it knows nothing of how the product works.
//!
//! Home 0 is the models directory, the others are cold storage in order of precedence.

use std::collections::{BTreeMap, BTreeSet};

use rustix::io::Errno;

use super::op::{Access, Behind, Fill, Flags, Mode, Op, P};

pub const CREATED_MODE: u16 = 0o644;
const BEHIND_FILE_MODE: u16 = 0o640;
const BEHIND_DIRECTORY_MODE: u16 = 0o750;

/// The place of a file in [`Naive::inodes`].
pub type Ino = usize;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    File(Vec<u8>),
    Symlink(String),
}

#[derive(Clone, Debug)]
pub struct Inode {
    pub body: Body,
    pub mode: u16,
    pub nlink: u32,
    /// Grows with every change of contents or modification time.
    pub changes: u64,
    /// Grows with every change at all.
    pub touches: u64,
}

/// A copy that serves: where the file was when it was made, and how often it had been touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub path: P,
    pub touches: u64,
}

#[derive(Clone, Debug)]
pub enum Entry {
    Leaf(Ino),
    Dir(Dir),
}

#[derive(Clone, Debug, Default)]
pub struct Dir {
    pub mode: u16,
    pub entries: BTreeMap<String, Entry>,
}

/// What an open handle shows.
#[derive(Clone, Debug)]
pub enum Sees {
    Live(Ino),
    Copy(Ino, Vec<u8>),
}

#[derive(Clone, Debug)]
pub struct Open {
    pub access: Access,
    pub sees: Sees,
}

impl Open {
    pub fn ino(&self) -> Ino {
        match &self.sees {
            Sees::Live(ino) | Sees::Copy(ino, _) => *ino,
        }
    }

    pub fn writes(&self) -> bool {
        self.access != Access::Read
    }
}

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum View {
    /// Homes that have the directory, in order.
    Dir(Vec<usize>),
    Leaf {
        home: usize,
        ino: Ino,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Done,
    Stat {
        kind: char,
        mode: u16,
        size: Option<usize>,
        nlink: u32,
    },
    Names(BTreeMap<String, char>),
    Bytes(Vec<u8>),
}

pub type Outcome = Result<Answer, i32>;

fn err<T>(errno: Errno) -> Result<T, i32> {
    Err(errno.raw_os_error())
}

#[derive(Clone, Debug)]
pub struct Naive {
    pub inodes: Vec<Inode>,
    pub homes: Vec<Dir>,
    pub handles: BTreeMap<u32, Open>,
    /// Which pools have a copy that serves.
    pub resident: BTreeMap<Ino, BTreeMap<usize, Stamp>>,
}

impl Naive {
    pub fn new(homes: usize) -> Naive {
        let root = Dir {
            mode: 0o755,
            ..Dir::default()
        };
        Naive {
            inodes: Vec::new(),
            homes: vec![root; homes],
            handles: BTreeMap::new(),
            resident: BTreeMap::new(),
        }
    }

    // ---- the union -----------------------------------------------------------------------------

    fn dir_in(&self, home: usize, path: &str) -> Option<&Dir> {
        let mut dir = &self.homes[home];
        for name in path.split('/').filter(|name| !name.is_empty()) {
            match dir.entries.get(name)? {
                Entry::Dir(below) => dir = below,
                Entry::Leaf(_) => return None,
            }
        }
        Some(dir)
    }

    fn dir_in_mut(&mut self, home: usize, path: &str) -> Option<&mut Dir> {
        let mut dir = &mut self.homes[home];
        for name in path.split('/').filter(|name| !name.is_empty()) {
            match dir.entries.get_mut(name)? {
                Entry::Dir(below) => dir = below,
                Entry::Leaf(_) => return None,
            }
        }
        Some(dir)
    }

    /// The entry of the first home hides the others; directories of the same name are merged.
    fn child(&self, homes: &[usize], directory: &str, name: &str) -> Option<View> {
        let entry = |home: usize| self.dir_in(home, directory)?.entries.get(name);
        let first = homes.iter().find(|home| entry(**home).is_some())?;
        if let Some(Entry::Leaf(ino)) = entry(*first) {
            return Some(View::Leaf {
                home: *first,
                ino: *ino,
            });
        }
        let has = |home: &&usize| matches!(entry(**home), Some(Entry::Dir(_)));
        Some(View::Dir(homes.iter().filter(has).copied().collect()))
    }

    pub fn view(&self, path: &str) -> Result<View, i32> {
        let mut at = View::Dir((0..self.homes.len()).collect());
        let mut walked = String::new();
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let View::Dir(homes) = at else {
                return err(Errno::NOTDIR);
            };
            let found = self.child(&homes, &walked, name);
            at = found.ok_or(Errno::NOENT.raw_os_error())?;
            if !walked.is_empty() {
                walked.push('/');
            }
            walked.push_str(name);
        }
        Ok(at)
    }

    /// The directory must exist; gives it and the last name.
    fn parent<'a>(&self, path: &'a P) -> Result<(&'a str, &'a str), i32> {
        let (directory, name) = path.split().ok_or(Errno::BUSY.raw_os_error())?;
        match self.view(directory)? {
            View::Dir(_) => Ok((directory, name)),
            View::Leaf { .. } => err(Errno::NOTDIR),
        }
    }

    pub fn list(&self, path: &str) -> Result<BTreeMap<String, char>, i32> {
        let View::Dir(homes) = self.view(path)? else {
            return err(Errno::NOTDIR);
        };
        let names = homes.iter().filter_map(|home| self.dir_in(*home, path));
        let names: BTreeSet<&String> = names.flat_map(|dir| dir.entries.keys()).collect();
        let kind = |name: &String| match self.child(&homes, path, name) {
            Some(View::Dir(_)) => 'd',
            Some(View::Leaf { ino, .. }) => self.kind(ino),
            None => '?',
        };
        Ok(names
            .into_iter()
            .map(|name| (name.clone(), kind(name)))
            .collect())
    }

    pub fn kind(&self, ino: Ino) -> char {
        match self.inodes[ino].body {
            Body::File(_) => 'f',
            Body::Symlink(_) => 'l',
        }
    }

    /// Visible paths, the root not among them.
    pub fn paths(&self) -> Vec<(P, View)> {
        let (mut found, mut waiting) = (Vec::new(), vec![String::new()]);
        while let Some(directory) = waiting.pop() {
            for name in self.list(&directory).unwrap_or_default().into_keys() {
                let path = if directory.is_empty() {
                    name
                } else {
                    format!("{directory}/{name}")
                };
                let Ok(view) = self.view(&path) else { continue };
                if matches!(view, View::Dir(_)) {
                    waiting.push(path.clone());
                }
                found.push((P(path), view));
            }
        }
        found
    }

    /// Paths of one home with what is there, the root not among them.
    pub fn paths_of(&self, home: usize) -> Vec<(P, Option<Ino>)> {
        fn walk(dir: &Dir, path: &str, found: &mut Vec<(P, Option<Ino>)>) {
            for (name, entry) in &dir.entries {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}/{name}")
                };
                match entry {
                    Entry::Leaf(ino) => found.push((P(path), Some(*ino))),
                    Entry::Dir(below) => {
                        found.push((P(path.clone()), None));
                        walk(below, &path, found);
                    }
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.homes[home], "", &mut found);
        found
    }

    pub fn bytes(&self, ino: Ino) -> &[u8] {
        match &self.inodes[ino].body {
            Body::File(bytes) => bytes,
            Body::Symlink(_) => &[],
        }
    }

    /// What a handle shows now.
    pub fn seen_by(&self, open: &Open) -> Vec<u8> {
        match &open.sees {
            Sees::Live(ino) => self.bytes(*ino).to_vec(),
            Sees::Copy(_, bytes) => bytes.clone(),
        }
    }

    pub fn has_writer(&self, ino: Ino) -> bool {
        self.handles
            .values()
            .any(|open| open.writes() && open.ino() == ino)
    }

    // ---- changes of one home ---------------------------------------------------------------------

    fn new_inode(&mut self, body: Body, mode: u16) -> Ino {
        self.inodes.push(Inode {
            body,
            mode,
            nlink: 1,
            changes: 0,
            touches: 0,
        });
        self.inodes.len() - 1
    }

    /// Puts a name; gives what was there.
    fn put(&mut self, home: usize, path: &str, entry: Entry) -> Option<Entry> {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        self.dir_in_mut(home, directory)?
            .entries
            .insert(name.to_owned(), entry)
    }

    fn take(&mut self, home: usize, path: &str) -> Option<Entry> {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        self.dir_in_mut(home, directory)?.entries.remove(name)
    }

    fn entry(&self, home: usize, path: &str) -> Option<&Entry> {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        self.dir_in(home, directory)?.entries.get(name)
    }

    /// A name of it is gone.
    fn gone(&mut self, entry: Entry) {
        match entry {
            Entry::Leaf(ino) => {
                self.inodes[ino].nlink -= 1;
                self.inodes[ino].touches += 1;
                if self.inodes[ino].nlink == 0 {
                    self.resident.remove(&ino);
                }
            }
            Entry::Dir(dir) => dir.entries.into_values().for_each(|below| self.gone(below)),
        }
    }

    fn touch(&mut self, entry: &Entry) {
        if let Entry::Leaf(ino) = entry {
            self.inodes[*ino].touches += 1;
        }
    }

    fn changed(&mut self, ino: Ino) {
        self.inodes[ino].changes += 1;
        self.inodes[ino].touches += 1;
        self.resident.remove(&ino);
    }

    fn body_mut(&mut self, ino: Ino) -> &mut Vec<u8> {
        self.changed(ino);
        match &mut self.inodes[ino].body {
            Body::File(bytes) => bytes,
            Body::Symlink(_) => unreachable!("symlinks are never opened"),
        }
    }

    fn write_at(&mut self, ino: Ino, offset: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let body = self.body_mut(ino);
        if body.len() < offset + bytes.len() {
            body.resize(offset + bytes.len(), 0);
        }
        body[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// Makes a directory that only cold storage has, with its parents.
    fn make_in_models(&mut self, directory: &str) {
        let mut walked = String::new();
        for name in directory.split('/').filter(|name| !name.is_empty()) {
            if !walked.is_empty() {
                walked.push('/');
            }
            walked.push_str(name);
            if self.dir_in(0, &walked).is_none() {
                let mode = self.directory_mode(&walked);
                self.put(
                    0,
                    &walked,
                    Entry::Dir(Dir {
                        mode,
                        ..Dir::default()
                    }),
                );
            }
        }
    }

    /// Permissions that are not shown of what a home has at a path: a directory above it is shown with the wider
    /// permissions of an earlier home, and its own would keep somebody out. Everything is root's.
    fn barred(&self, home: usize, path: &str) -> u16 {
        let (mut bits, mut at) = (0, path);
        while let Some((above, _)) = at.rsplit_once('/') {
            let mode = |home: usize| self.dir_in(home, above).map(|dir| dir.mode);
            let shown = (0..self.homes.len()).find_map(mode).unwrap_or(0);
            let own = mode(home).unwrap_or(0);
            if own & 0o111 != 0o111 && shown & !own & 0o111 != 0 {
                let searched = |bit: u16, class: u16| if own & bit == 0 { class } else { 0 };
                bits |= 0o007 | searched(0o100, 0o700) | searched(0o010, 0o070);
            }
            at = above;
        }
        bits
    }

    /// The same of a file, under whichever of its names the least is kept back.
    fn barred_file(&self, home: usize, ino: Ino) -> u16 {
        let paths = self.paths_of(home).into_iter();
        let names = paths.filter(|(_, found)| *found == Some(ino));
        let bits = names.map(|(path, _)| self.barred(home, &path.0));
        bits.reduce(|one, other| one & other).unwrap_or(0)
    }

    fn directory_mode(&self, path: &str) -> u16 {
        match self.view(path) {
            Ok(View::Dir(homes)) => self.dir_in(homes[0], path).map_or(0, |dir| dir.mode),
            _ => 0,
        }
    }

    // ---- steps -----------------------------------------------------------------------------------

    /// Takes a step of the system calls; promotions and the like are judged by the runner.
    pub fn apply(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Open {
                path,
                access,
                flags,
                label,
            } => self.open(path, *access, *flags, *label),
            Op::Close { label } => {
                self.handles.remove(label);
                Ok(Answer::Done)
            }
            Op::Read {
                label,
                offset,
                length,
            } => self.read(*label, *offset, *length),
            Op::Write {
                label,
                offset,
                fill,
            } => self.write(*label, *offset, *fill),
            Op::TruncateHandle { label, size } => {
                let open = self.handles[label].clone();
                if !open.writes() {
                    return err(Errno::INVAL);
                }
                self.body_mut(open.ino()).resize(*size as usize, 0);
                Ok(Answer::Done)
            }
            Op::Fsync { .. } | Op::Evict => Ok(Answer::Done),
            Op::FsyncDirectory { path } | Op::List { path } => {
                self.list(&path.0).map(|names| match op {
                    Op::List { .. } => Answer::Names(names),
                    _ => Answer::Done,
                })
            }
            Op::Truncate { path, size } => self.truncate(path, *size),
            Op::Chmod { path, mode } => self.chmod(path, *mode),
            Op::Touch { path, .. } => match self.view(&path.0)? {
                View::Dir(homes) if homes[0] != 0 => err(Errno::ROFS),
                View::Leaf { home, .. } if home != 0 => err(Errno::ROFS),
                View::Leaf { ino, .. } => {
                    self.changed(ino);
                    Ok(Answer::Done)
                }
                View::Dir(_) => Ok(Answer::Done),
            },
            Op::Mkdir { path, mode } => {
                let directory = self.free_name(path)?;
                self.make_in_models(directory);
                self.put(
                    0,
                    &path.0,
                    Entry::Dir(Dir {
                        mode: *mode,
                        ..Dir::default()
                    }),
                );
                Ok(Answer::Done)
            }
            Op::Rmdir { path } => self.rmdir(path),
            Op::Unlink { path } => self.unlink(path),
            Op::Symlink { path, target } => {
                let directory = self.free_name(path)?;
                self.make_in_models(directory);
                let ino = self.new_inode(Body::Symlink(target.clone()), 0o777);
                self.put(0, &path.0, Entry::Leaf(ino));
                Ok(Answer::Done)
            }
            Op::Link { from, to } => self.link(from, to),
            Op::Rename { from, to, mode } => self.rename(from, to, *mode),
            Op::Stat { path } => self.stat(path),
            Op::ReadLink { path } => match self.view(&path.0)? {
                View::Leaf { ino, .. } => match &self.inodes[ino].body {
                    Body::Symlink(target) => Ok(Answer::Bytes(target.clone().into_bytes())),
                    Body::File(_) => err(Errno::INVAL),
                },
                View::Dir(_) => err(Errno::INVAL),
            },
            _ => unreachable!("judged by the runner: {op:?}"),
        }
    }

    /// The name must not exist; gives its directory.
    fn free_name<'a>(&self, path: &'a P) -> Result<&'a str, i32> {
        let (directory, _) = self.parent(path)?;
        match self.view(&path.0) {
            Ok(_) => err(Errno::EXIST),
            Err(_) => Ok(directory),
        }
    }

    fn open(&mut self, path: &P, access: Access, flags: Flags, label: u32) -> Outcome {
        let writes = access != Access::Read;
        let found = match self.view(&path.0) {
            Err(errno) if errno == Errno::NOENT.raw_os_error() && flags.create => {
                let (directory, _) = self.parent(path)?;
                self.make_in_models(directory);
                let ino = self.new_inode(Body::File(Vec::new()), CREATED_MODE);
                self.put(0, &path.0, Entry::Leaf(ino));
                ino
            }
            Err(errno) => return Err(errno),
            Ok(_) if flags.create && flags.exclusive => return err(Errno::EXIST),
            Ok(View::Dir(_)) => return err(Errno::ISDIR),
            Ok(View::Leaf { ino, .. }) if self.kind(ino) == 'l' => return err(Errno::LOOP),
            Ok(View::Leaf { home, ino }) if home > 0 && writes => {
                if !flags.truncate {
                    return err(Errno::ROFS);
                }
                self.shadow(ino)
            }
            Ok(View::Leaf { ino, .. }) => ino,
        };
        if flags.truncate {
            self.body_mut(found).clear();
        }
        if writes {
            self.resident.remove(&found);
        }
        let sees = match self.resident.contains_key(&found) {
            true => Sees::Copy(found, self.bytes(found).to_vec()),
            false => Sees::Live(found),
        };
        self.handles.insert(label, Open { access, sees });
        Ok(Answer::Done)
    }

    /// An empty file of the models directory hides the cold one, under all its names.
    fn shadow(&mut self, cold: Ino) -> Ino {
        let names: Vec<P> = self
            .paths()
            .into_iter()
            .filter(|(_, view)| matches!(view, View::Leaf { ino, .. } if *ino == cold))
            .map(|(path, _)| path)
            .collect();
        let ino = self.new_inode(Body::File(Vec::new()), self.inodes[cold].mode);
        self.inodes[ino].nlink = names.len() as u32;
        for path in names {
            self.make_in_models(path.split().map_or("", |(directory, _)| directory));
            self.put(0, &path.0, Entry::Leaf(ino));
        }
        ino
    }

    fn read(&self, label: u32, offset: u64, length: usize) -> Outcome {
        let open = &self.handles[&label];
        if matches!(open.access, Access::Write | Access::Append) {
            return err(Errno::BADF);
        }
        let bytes = self.seen_by(open);
        let from = (offset as usize).min(bytes.len());
        let to = (from + length).min(bytes.len());
        Ok(Answer::Bytes(bytes[from..to].to_vec()))
    }

    fn write(&mut self, label: u32, offset: u64, fill: Fill) -> Outcome {
        let open = self.handles[&label].clone();
        if !open.writes() {
            return err(Errno::BADF);
        }
        let ino = open.ino();
        let at = match open.access {
            Access::Append => self.bytes(ino).len(),
            _ => offset as usize,
        };
        self.write_at(ino, at, &fill.bytes());
        Ok(Answer::Done)
    }

    fn truncate(&mut self, path: &P, size: u64) -> Outcome {
        match self.view(&path.0)? {
            View::Dir(_) => err(Errno::ISDIR),
            View::Leaf { ino, .. } if self.kind(ino) == 'l' => err(Errno::INVAL),
            View::Leaf { home: 0, ino } => {
                self.body_mut(ino).resize(size as usize, 0);
                Ok(Answer::Done)
            }
            View::Leaf { ino, .. } if size == 0 => {
                self.shadow(ino);
                Ok(Answer::Done)
            }
            View::Leaf { .. } => err(Errno::ROFS),
        }
    }

    fn chmod(&mut self, path: &P, mode: u16) -> Outcome {
        match self.view(&path.0)? {
            View::Dir(homes) if homes[0] != 0 => err(Errno::ROFS),
            View::Dir(_) => {
                if let Some(dir) = self.dir_in_mut(0, &path.0) {
                    dir.mode = mode;
                }
                Ok(Answer::Done)
            }
            View::Leaf { ino, .. } if self.kind(ino) == 'l' => err(Errno::OPNOTSUPP),
            View::Leaf { home: 0, ino } => {
                self.inodes[ino].mode = mode;
                self.inodes[ino].touches += 1;
                Ok(Answer::Done)
            }
            View::Leaf { .. } => err(Errno::ROFS),
        }
    }

    fn rmdir(&mut self, path: &P) -> Outcome {
        let View::Dir(homes) = self.view(&path.0)? else {
            return err(Errno::NOTDIR);
        };
        if !self.list(&path.0)?.is_empty() {
            return err(Errno::NOTEMPTY);
        }
        if homes != [0] {
            return err(Errno::ROFS);
        }
        self.take(0, &path.0);
        Ok(Answer::Done)
    }

    fn unlink(&mut self, path: &P) -> Outcome {
        match self.view(&path.0)? {
            View::Dir(_) => err(Errno::ISDIR),
            View::Leaf { home: 0, .. } => {
                if let Some(entry) = self.take(0, &path.0) {
                    self.gone(entry);
                }
                Ok(Answer::Done)
            }
            View::Leaf { .. } => err(Errno::ROFS),
        }
    }

    fn link(&mut self, from: &P, to: &P) -> Outcome {
        let source = self.view(&from.0)?;
        let directory = self.free_name(to)?;
        match source {
            View::Dir(_) => err(Errno::PERM),
            View::Leaf { home: 0, ino } => {
                self.make_in_models(directory);
                self.put(0, &to.0, Entry::Leaf(ino));
                self.inodes[ino].nlink += 1;
                self.inodes[ino].touches += 1;
                Ok(Answer::Done)
            }
            View::Leaf { .. } => err(Errno::ROFS),
        }
    }

    fn is_cold(&self, path: &P, view: &View) -> bool {
        match view {
            View::Leaf { home, .. } => *home != 0,
            View::Dir(homes) => {
                let below = format!("{}/", path.0);
                homes != &[0]
                    || self.paths().iter().any(|(path, view)| {
                        let partly = matches!(view, View::Dir(homes) if homes != &[0]);
                        path.0.starts_with(&below) && partly
                    })
            }
        }
    }

    fn rename(&mut self, from: &P, to: &P, mode: Mode) -> Outcome {
        self.parent(from)?;
        let (to_directory, _) = self.parent(to)?;
        let moved = self.view(&from.0)?;
        let target = self.view(&to.0).ok();
        match (mode, &target) {
            (Mode::NoReplace, Some(_)) => return err(Errno::EXIST),
            (Mode::Exchange, None) => return err(Errno::NOENT),
            _ => {}
        }
        if to.0.starts_with(&format!("{}/", from.0)) {
            return err(Errno::INVAL);
        }
        if from.0.starts_with(&format!("{}/", to.0)) {
            return err(if mode == Mode::Exchange {
                Errno::INVAL
            } else {
                Errno::NOTEMPTY
            });
        }
        if from == to || target.as_ref() == Some(&moved) && matches!(moved, View::Leaf { .. }) {
            return Ok(Answer::Done);
        }
        if mode != Mode::Exchange {
            match (&moved, &target) {
                (View::Dir(_), Some(View::Leaf { .. })) => return err(Errno::NOTDIR),
                (View::Leaf { .. }, Some(View::Dir(_))) => return err(Errno::ISDIR),
                _ => {}
            }
        }
        if self.is_cold(from, &moved) {
            return err(Errno::ROFS);
        }
        match (&target, mode) {
            (Some(target), Mode::Exchange) if self.is_cold(to, target) => {
                return err(Errno::ROFS);
            }
            (Some(View::Dir(homes)), Mode::Replace) => {
                if !self.list(&to.0)?.is_empty() {
                    return err(Errno::NOTEMPTY);
                }
                if homes != &[0] {
                    return err(Errno::ROFS);
                }
            }
            _ => {}
        }
        self.make_in_models(to_directory);
        let Some(entry) = self.take(0, &from.0) else {
            unreachable!("it is in home 0")
        };
        self.touch(&entry);
        let former = self.put(0, &to.0, entry);
        if let Some(former) = &former {
            self.touch(former);
        }
        match (former, mode) {
            (Some(former), Mode::Exchange) => {
                self.put(0, &from.0, former);
            }
            (Some(former), _) => self.gone(former),
            (None, _) => {}
        }
        Ok(Answer::Done)
    }

    fn stat(&self, path: &P) -> Outcome {
        Ok(match self.view(&path.0)? {
            View::Dir(homes) => {
                let below = self
                    .list(&path.0)?
                    .into_values()
                    .filter(|kind| *kind == 'd')
                    .count();
                Answer::Stat {
                    kind: 'd',
                    mode: self.directory_mode(&path.0) & !self.barred(homes[0], &path.0),
                    size: None,
                    nlink: 2 + below as u32,
                }
            }
            View::Leaf { home, ino } => {
                let inode = &self.inodes[ino];
                let size = match &inode.body {
                    Body::File(bytes) => bytes.len(),
                    Body::Symlink(target) => target.len(),
                };
                let barred = match inode.body {
                    Body::File(_) => self.barred_file(home, ino),
                    Body::Symlink(_) => 0,
                };
                let (mode, nlink) = (inode.mode & !barred, inode.nlink);
                Answer::Stat {
                    kind: self.kind(ino),
                    mode,
                    size: Some(size),
                    nlink,
                }
            }
        })
    }

    // ---- behind our back -------------------------------------------------------------------------

    /// Changes a home as its own file system would; `false`: it would refuse, nothing happens.
    pub fn behind(&mut self, home: usize, change: &Behind) -> bool {
        let parent_exists = |naive: &Naive, path: &P| {
            path.split()
                .is_some_and(|(parent, _)| naive.dir_in(home, parent).is_some())
        };
        match change {
            Behind::Write(path, fill) => match self.entry(home, &path.0) {
                Some(Entry::Leaf(ino)) if self.kind(*ino) == 'f' => {
                    let ino = *ino;
                    *self.body_mut(ino) = fill.bytes();
                    true
                }
                Some(_) => false,
                None if !parent_exists(self, path) => false,
                None => {
                    let ino = self.new_inode(Body::File(fill.bytes()), BEHIND_FILE_MODE);
                    self.put(home, &path.0, Entry::Leaf(ino));
                    true
                }
            },
            Behind::Replace(path, fill) => match self.entry(home, &path.0) {
                Some(Entry::Dir(_)) => false,
                _ if !parent_exists(self, path) => false,
                _ => {
                    let ino = self.new_inode(Body::File(fill.bytes()), BEHIND_FILE_MODE);
                    if let Some(former) = self.put(home, &path.0, Entry::Leaf(ino)) {
                        self.gone(former);
                    }
                    true
                }
            },
            Behind::Remove(path) => match self.take(home, &path.0) {
                Some(entry) => {
                    self.gone(entry);
                    true
                }
                None => false,
            },
            Behind::Rename(from, to) => {
                let overlaps = from == to
                    || to.0.starts_with(&format!("{}/", from.0))
                    || from.0.starts_with(&format!("{}/", to.0));
                let free = !matches!(self.entry(home, &to.0), Some(Entry::Dir(_)));
                let is_dir = matches!(self.entry(home, &from.0), Some(Entry::Dir(_)));
                let onto_file = is_dir && self.entry(home, &to.0).is_some();
                let same = match (self.entry(home, &from.0), self.entry(home, &to.0)) {
                    (Some(Entry::Leaf(one)), Some(Entry::Leaf(two))) => one == two,
                    _ => false,
                };
                if overlaps || !free || onto_file || same || !parent_exists(self, to) {
                    return false;
                }
                let Some(entry) = self.take(home, &from.0) else {
                    return false;
                };
                self.touch(&entry);
                if let Some(former) = self.put(home, &to.0, entry) {
                    self.gone(former);
                }
                true
            }
            Behind::Link(from, to) => {
                let Some(Entry::Leaf(ino)) = self.entry(home, &from.0) else {
                    return false;
                };
                let ino = *ino;
                if !parent_exists(self, to) || self.entry(home, &to.0).is_some() {
                    return false;
                }
                self.inodes[ino].nlink += 1;
                self.inodes[ino].touches += 1;
                self.put(home, &to.0, Entry::Leaf(ino));
                true
            }
            Behind::Mkdir(path) => {
                if !parent_exists(self, path) || self.entry(home, &path.0).is_some() {
                    return false;
                }
                let mode = BEHIND_DIRECTORY_MODE;
                self.put(
                    home,
                    &path.0,
                    Entry::Dir(Dir {
                        mode,
                        ..Dir::default()
                    }),
                );
                true
            }
            Behind::Symlink(path, target) => {
                if !parent_exists(self, path) || self.entry(home, &path.0).is_some() {
                    return false;
                }
                let ino = self.new_inode(Body::Symlink(target.clone()), 0o777);
                self.put(home, &path.0, Entry::Leaf(ino));
                true
            }
            Behind::Chmod(path, mode) => match self.entry(home, &path.0) {
                Some(Entry::Leaf(ino)) if self.kind(*ino) == 'f' => {
                    let ino = *ino;
                    self.inodes[ino].mode = *mode;
                    self.inodes[ino].touches += 1;
                    true
                }
                Some(Entry::Dir(_)) => {
                    if let Some(dir) = self.dir_in_mut(home, &path.0) {
                        dir.mode = *mode | 0o100;
                    }
                    true
                }
                _ => false,
            },
        }
    }

    /// A restart closes every handle.
    pub fn restart(&mut self) {
        self.handles.clear();
    }

    /// Copies of files that no path shows are not kept.
    pub fn drop_hidden(&mut self) {
        let shown: BTreeSet<Ino> = self
            .paths()
            .into_iter()
            .filter_map(|(_, view)| match view {
                View::Leaf { ino, .. } => Some(ino),
                View::Dir(_) => None,
            })
            .collect();
        self.resident
            .retain(|ino, pools| shown.contains(ino) && !pools.is_empty());
    }
}

//! Whom a home's own directories keep out of what they have below a directory that an earlier home
//! has, too, and shows with permissions that let more people in.

use std::time::{Duration, Instant};

use crate::attr::Attr;
use crate::file::HomeFile;
use crate::ids::{DirId, HomeId};

use super::{Found, Tree, Union};

/// For so long something is taken to be still believed by the kernel that it is being told is over.
const TOLD_WITHIN: Duration = Duration::from_secs(2);

/// What a directory was shown like, and until when the kernel may believe it.
#[derive(Debug)]
pub(super) struct ShownBefore {
    attr: Attr,
    until: Instant,
}

impl ShownBefore {
    /// The kernel is told from now on.
    pub(super) fn now(attr: Attr) -> ShownBefore {
        let until = Instant::now() + TOLD_WITHIN;
        ShownBefore { attr, until }
    }
}

/// Bits that let somebody search a directory.
const SEARCH: u16 = 0o111;
const OWNER: u16 = 0o700;
const GROUP: u16 = 0o070;
const OTHERS: u16 = 0o007;

/// Whether a directory that is shown like this lets in somebody whom its own permissions would not.
fn lets_in_more(shown: &Attr, own: &Attr) -> bool {
    let (open, allowed) = (shown.permissions & SEARCH, own.permissions & SEARCH);
    let same_people = (shown.uid, shown.gid) == (own.uid, own.gid);
    allowed != SEARCH && !(same_people && open & !allowed == 0)
}

/// The permission bits of something below a directory of its home that nobody keeps whom that directory might keep out.
/// Who is who is known of owner and group alone.
fn barred(below: &Attr, own: &Attr) -> u16 {
    let owner = below.uid == own.uid && own.permissions & SEARCH & OWNER != 0;
    let group = below.gid == own.gid && own.permissions & SEARCH & GROUP != 0;
    OTHERS | if owner { 0 } else { OWNER } | if group { 0 } else { GROUP }
}

impl Tree {
    /// The bits that a home's directories from `directory` upwards take from what the home has below. Its root takes
    /// none: that it is shown where the mount is was decided by whoever configured it. `believed`: also where the
    /// kernel may still take a directory for what it was before.
    fn barred(&self, directory: DirId, home: HomeId, below: &Attr, believed: bool) -> u16 {
        let (mut bits, mut at) = (0, directory);
        while at != DirId::ROOT {
            let Some(known) = self.directories.get(&at) else {
                break;
            };
            let before = known.shown_before.as_ref().filter(|_| believed);
            let before = before.filter(|before| Instant::now() < before.until);
            let mut shown = before
                .map(|before| &before.attr)
                .into_iter()
                .chain([&known.attr]);
            if let Some(own) = known.sight(home)
                && shown.any(|shown| lets_in_more(shown, &own.attr))
            {
                bits |= barred(below, &own.attr);
            }
            at = known.parent;
        }
        bits
    }

    fn cold_below(&self, directory: DirId) -> Vec<Found> {
        let (mut cold, mut waiting) = (Vec::new(), vec![directory]);
        while let Some(known) = waiting.pop().map(|at| self.directories.get(&at)) {
            for slot in known.iter().flat_map(|known| known.entries.values()) {
                match self.visible(slot) {
                    Some(Found::File(file)) if !file.is_cold() => {}
                    Some(found) => {
                        if let Found::Directory(below) = found {
                            waiting.push(below);
                        }
                        cold.push(found);
                    }
                    None => {}
                }
            }
        }
        cold
    }
}

impl Union {
    /// The permission bits of a cold file that are not shown, as its home's directories might keep out whom they let in.
    pub fn barred(&self, file: &HomeFile) -> u16 {
        self.barred_of(file, false)
    }

    /// The same, of what the kernel may believe that is told of changes at this moment.
    pub fn barred_as_believed(&self, file: &HomeFile) -> u16 {
        self.barred_of(file, true)
    }

    fn barred_of(&self, file: &HomeFile, believed: bool) -> u16 {
        let tree = self.read();
        let attr = file.attr();
        let names = file.names().into_iter();
        names
            .map(|(directory, _)| tree.barred(directory, file.home, &attr, believed))
            .reduce(|one, other| one & other)
            .unwrap_or(0)
    }

    /// The same of a directory.
    pub fn barred_directory(&self, directory: DirId) -> u16 {
        let tree = self.read();
        let known = tree.directories.get(&directory);
        let first = known.and_then(|known| Some((known.parent, known.sights.first()?)));
        first.map_or(0, |(parent, (home, sight))| {
            tree.barred(parent, *home, &sight.attr, false)
        })
    }

    /// What is below a directory but files of the models directory.
    pub fn cold_below(&self, directory: DirId) -> Vec<Found> {
        self.read().cold_below(directory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attr::Kind;
    use crate::identity::Identity;

    fn attr(uid: u32, gid: u32, permissions: u16) -> Attr {
        Attr {
            identity: Identity {
                dev: 1,
                ino: 1,
                size: 0,
                mtime_ns: 0,
                ctime_ns: 0,
            },
            atime_ns: 0,
            blocks: 0,
            kind: Kind::Directory,
            permissions,
            nlink: 1,
            uid,
            gid,
            rdev: 0,
        }
    }

    #[test]
    fn a_directory_lets_in_more_unless_its_own_permissions_do_surely() {
        let shown = attr(7, 7, 0o755);
        let own = [(9, 9, 0o755), (9, 9, 0o711), (7, 7, 0o755), (7, 7, 0o111)];
        for (uid, gid, permissions) in own {
            assert!(!lets_in_more(&shown, &attr(uid, gid, permissions)));
        }
        let narrower = [(9, 9, 0o750), (7, 7, 0o750), (7, 7, 0o700), (9, 9, 0o701)];
        for (uid, gid, permissions) in narrower {
            assert!(lets_in_more(&shown, &attr(uid, gid, permissions)));
        }
        assert!(!lets_in_more(&attr(7, 7, 0o700), &attr(7, 7, 0o750)));
        assert!(lets_in_more(&attr(7, 7, 0o700), &attr(9, 7, 0o750)));
        assert!(lets_in_more(&attr(7, 7, 0o770), &attr(7, 9, 0o770)));
    }

    #[test]
    fn whoever_could_reach_it_in_its_home_surely_keeps_his_bits() {
        let cases = [
            ((1, 2), (1, 2, 0o750), OTHERS),
            ((1, 2), (1, 2, 0o700), OTHERS | GROUP),
            ((1, 2), (3, 2, 0o750), OTHERS | OWNER),
            ((1, 2), (1, 4, 0o750), OTHERS | GROUP),
            ((1, 2), (3, 4, 0o770), OTHERS | GROUP | OWNER),
            ((1, 2), (1, 2, 0o077), OTHERS | OWNER),
        ];
        for ((uid, gid), (own_uid, own_gid, permissions), bits) in cases {
            let own = attr(own_uid, own_gid, permissions);
            assert_eq!(barred(&attr(uid, gid, 0o777), &own), bits, "{own:?}");
        }
    }
}

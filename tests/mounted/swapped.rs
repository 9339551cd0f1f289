//! Names that others exchange in a home between the kernel's question and the daemon's deed: the
//! kernel has allowed something to one file or directory, and the daemon must not do it to another.

use std::fs;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use rustix::fs::{CWD, RenameFlags};

use crate::harness::{Mount, Site, as_user, in_both_modes};

/// Tries of each attack; where they can succeed, some do among so many.
const TRIES: u32 = 600;
/// Who attacks.
const ATTACKER: u32 = 5001;

fn exchange(one: &Path, two: &Path) {
    // One of them may not be there yet.
    let _ = rustix::fs::renameat_with(CWD, one, CWD, two, RenameFlags::EXCHANGE);
}

/// Does something again and again for as long as `act` goes on, however that ends.
fn while_doing<T>(deed: impl Fn() + Sync, act: impl FnOnce() -> T) -> T {
    let has_ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !has_ended.load(Ordering::Relaxed) {
                deed();
            }
        });
        let result = catch_unwind(AssertUnwindSafe(act));
        has_ended.store(true, Ordering::Relaxed);
        result.unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// Exchanges two names of a home for as long as `act` goes on.
fn exchanging<T>(one: &Path, two: &Path, act: impl FnOnce() -> T) -> T {
    while_doing(|| exchange(one, two), act)
}

/// A directory that all may write in, with something of root's that is private.
fn shared(site: Site, home: impl Fn(&Site, &str) -> PathBuf) -> Site {
    let top = home(&site, "shared");
    fs::create_dir_all(top.join("private")).unwrap();
    fs::write(top.join("secret"), "secret").unwrap();
    fs::write(top.join("private/within"), "secret").unwrap();
    fs::create_dir(top.join("own-dir")).unwrap();
    fs::write(top.join("own"), "harmless").unwrap();
    fs::write(top.join("own-dir/within"), "harmless").unwrap();
    for (name, mode) in [
        ("", 0o777),
        ("private", 0o700),
        ("secret", 0o600),
        ("private/within", 0o644),
        ("own-dir", 0o777),
        ("own", 0o666),
        ("own-dir/within", 0o644),
    ] {
        fs::set_permissions(top.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    for name in ["own", "own-dir"] {
        chown(top.join(name), Some(ATTACKER), Some(ATTACKER)).unwrap();
    }
    site
}

fn owner(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().uid()
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

/// Attacks what has a home's files below the mount; `home` is where they are, and he makes something there if `makes`.
fn attack(mount: &Mount, home: &Path, makes: bool) {
    let seen = mount.mounted("shared");
    let read = |name: &str| {
        let found = fs::read(seen.join(name)).unwrap_or_default();
        assert_ne!(found, b"secret", "{name} was read");
    };
    exchanging(&home.join("own"), &home.join("secret"), || {
        as_user(ATTACKER, &[], || (0..TRIES).for_each(|_| read("own")));
    });
    exchanging(&home.join("own-dir"), &home.join("private"), || {
        as_user(ATTACKER, &[], || {
            for number in 0..TRIES {
                // What lies in it keeps its name wherever it goes.
                read("own-dir/within");
                let _ =
                    fs::set_permissions(seen.join("own-dir"), fs::Permissions::from_mode(0o777));
                if makes {
                    let _ = fs::write(seen.join(format!("own-dir/{number}")), "");
                }
                let _ = fs::remove_file(seen.join("own-dir/within"));
            }
        });
    });
}

/// Whatever is private to root is what it was, under whichever name.
fn is_whole(home: &Path) {
    let (secret, private) = match owner(&home.join("secret")) {
        0 => (home.join("secret"), home.join("private")),
        _ => (home.join("own"), home.join("private")),
    };
    let private = match owner(&private) {
        0 => private,
        _ => home.join("own-dir"),
    };
    assert_eq!((owner(&secret), mode(&secret)), (0, 0o600));
    assert_eq!((owner(&private), mode(&private)), (0, 0o700));
    let names: Vec<_> = fs::read_dir(&private)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["within"]);
    assert_eq!(fs::read(private.join("within")).unwrap(), b"secret");
}

#[test]
fn what_is_exchanged_in_the_models_directory_is_not_mistaken() {
    in_both_modes(
        |site| shared(site, |site, name| site.models(name)),
        |mount| {
            let home = mount.models("shared");
            attack(mount, &home, true);
            is_whole(&home);
        },
    );
}

#[test]
fn what_is_exchanged_in_a_cold_directory_is_not_mistaken() {
    in_both_modes(
        |site| shared(site.unguarded(), |site, name| site.cold(0, name)),
        |mount| {
            let home = mount.cold(0, "shared");
            // A directory that the models directory has, too, has the permissions of that one.
            attack(mount, &home, false);
            is_whole(&home);
        },
    );
}

/// What is made through the mount was root's until it was given away by its name, and could be exchanged until then.
#[test]
fn what_is_made_is_its_makers_and_nothing_else_becomes_his() {
    in_both_modes(
        |site| shared(site, |site, name| site.models(name)),
        |mount| {
            let home = mount.models("shared");
            let seen = mount.mounted("shared");
            for victim in ["secret", "private"] {
                // Each try has a name of its own: the kernel remembers the others.
                let number = AtomicU32::new(0);
                let name = |number: u32| format!("{victim}-{number}");
                let exchange = || {
                    let made = home.join(name(number.load(Ordering::Relaxed)));
                    exchange(&made, &home.join(victim));
                };
                while_doing(exchange, || {
                    as_user(ATTACKER, &[], || {
                        for _ in 0..TRIES {
                            let now = number.fetch_add(1, Ordering::Relaxed) + 1;
                            let path = seen.join(name(now));
                            let _ = match victim {
                                "private" => fs::create_dir(&path),
                                _ => {
                                    let mut options = fs::File::options();
                                    options.write(true).create_new(true).mode(0o4755);
                                    options.open(&path).map(drop)
                                }
                            };
                        }
                    });
                });
                let found = fs::read_dir(&home).unwrap().map(|entry| entry.unwrap());
                let stats = found.map(|entry| entry.metadata().unwrap());
                let roots: Vec<_> = stats.filter(|stat| stat.uid() == 0).collect();
                // The secret, what is private, and nothing that was made.
                assert_eq!(roots.len(), 2);
                assert!(roots.iter().all(|stat| stat.mode() & 0o4000 == 0));
            }
        },
    );
}

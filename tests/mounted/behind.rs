//! Changes behind the daemon's back, in homes that inotify watches: they are seen through the mount,
//! replicas of what has changed are given to nobody any more, and hard links stay one file.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use speedloader::view::{HomeState, ReplicaState};

use crate::harness::{Mount, Site, child, content, in_both_modes};

const LEN: u64 = 500_003;

fn site(site: Site) -> Site {
    site.models_file("own", 1, LEN)
        .cold_file("d/cold", 2, LEN)
        .cold_file("d/other", 3, 10)
}

fn is_serving(mount: &Mount, name: &str) -> bool {
    mount
        .which(name)
        .replicas
        .iter()
        .any(|replica| replica.state == ReplicaState::Serving)
}

#[test]
fn new_and_removed_names_are_seen() {
    in_both_modes(site, |mount| {
        assert!(!mount.mounted("new").exists());
        content::write_file(&mount.models("new"), 4, 100);
        mount.until("a new file is seen", || {
            content::check_file(&mount.mounted("new"), 4, 100).is_ok()
        });
        mount.change_cold(0, || content::write_file(&mount.cold(0, "x/y/new"), 5, 100));
        mount.until("a new cold file is seen", || {
            content::check_file(&mount.mounted("x/y/new"), 5, 100).is_ok()
        });
        mount.change_cold(0, || {
            content::write_file(&mount.cold(0, "x/y/late"), 6, 100)
        });
        mount.until("a file in a new directory is seen", || {
            mount.mounted("x/y/late").exists()
        });
        fs::rename(mount.models("new"), mount.models("renamed")).unwrap();
        mount.until("a rename is seen", || {
            mount.mounted("renamed").exists() && !mount.mounted("new").exists()
        });
        mount.change_cold(0, || fs::remove_dir_all(mount.cold(0, "x")).unwrap());
        mount.until("a removed directory is seen", || {
            !mount.mounted("x").exists()
        });
        fs::remove_file(mount.models("renamed")).unwrap();
        mount.until("a removed file is seen", || {
            !mount.mounted("renamed").exists()
        });
    });
}

#[test]
fn a_replica_of_a_changed_file_is_given_to_nobody() {
    in_both_modes(site, |mount| {
        mount.promote_wait("own");
        mount.promote_wait("d/cold");
        let (own, cold) = (
            File::open(mount.mounted("own")).unwrap(),
            File::open(mount.mounted("d/cold")).unwrap(),
        );
        // In place, and of the same length.
        let change = |path: std::path::PathBuf| {
            let mut file = OpenOptions::new().write(true).open(path).unwrap();
            file.write_all(b"changed").unwrap();
        };
        change(mount.models("own"));
        // Somebody holds it: the next opens get the new file as soon as inotify has told.
        let start = || {
            let mut start = [0; 7];
            let mut file = File::open(mount.mounted("own")).unwrap();
            std::io::Read::read_exact(&mut file, &mut start).unwrap();
            start
        };
        mount.until("the changed local file is read", || start() == *b"changed");
        mount.change_cold(0, || change(mount.cold(0, "d/cold")));
        mount.until("the changed file is read", || {
            fs::read(mount.mounted("d/cold"))
                .unwrap()
                .starts_with(b"changed")
        });
        mount.until("the replicas are gone", || {
            !is_serving(mount, "own") && !is_serving(mount, "d/cold")
        });
        // Whoever has them open keeps what he has.
        content::check_open(&own, 1, LEN).unwrap();
        content::check_open(&cold, 2, LEN).unwrap();
        drop((own, cold));
        mount.promote_wait("d/cold");
        assert!(
            fs::read(mount.mounted("d/cold"))
                .unwrap()
                .starts_with(b"changed")
        );
    });
}

/// The models directory is asked at each open: nobody waits for inotify.
#[test]
fn a_replica_of_a_changed_local_file_is_never_given_to_a_first_open() {
    in_both_modes(site, |mount| {
        for turn in 0..50_u64 {
            mount.promote_wait("own");
            content::write_file(&mount.models("own"), turn, LEN);
            content::check_file(&mount.mounted("own"), turn, LEN).unwrap();
        }
    });
}

#[test]
fn a_replaced_file_is_another_file() {
    in_both_modes(site, |mount| {
        mount.promote_wait("d/cold");
        let before = fs::metadata(mount.mounted("d/cold")).unwrap();
        let held = File::open(mount.mounted("d/cold")).unwrap();
        mount.change_cold(0, || {
            content::write_file(&mount.cold(0, "d/.part"), 9, LEN);
            fs::rename(mount.cold(0, "d/.part"), mount.cold(0, "d/cold")).unwrap();
        });
        mount.until("the new file is seen", || {
            content::check_file(&mount.mounted("d/cold"), 9, LEN).is_ok()
        });
        assert_ne!(
            before.ino(),
            fs::metadata(mount.mounted("d/cold")).unwrap().ino()
        );
        content::check_open(&held, 2, LEN).unwrap();
    });
}

#[test]
fn a_rescan_finds_what_nobody_told() {
    in_both_modes(
        |fresh| site(fresh).option("union.scan_wait=10s"),
        |mount| {
            mount.change_cold(0, || content::write_file(&mount.cold(0, "new"), 4, 100));
            mount.rescan();
            content::check_file(&mount.mounted("new"), 4, 100).unwrap();
        },
    );
}

#[test]
fn hard_links_are_one_file() {
    in_both_modes(
        |fresh| {
            let site = site(fresh);
            fs::hard_link(site.models("own"), site.models("own-link")).unwrap();
            fs::hard_link(site.cold(0, "d/cold"), site.cold(0, "cold-link")).unwrap();
            site
        },
        |mount| {
            let empty_bytes = mount.status().pools[0].used_bytes;
            for (name, link, seed) in [("own", "own-link", 1), ("d/cold", "cold-link", 2)] {
                let number = |name: &str| fs::metadata(mount.mounted(name)).unwrap().ino();
                assert_eq!(number(name), number(link));
                assert_eq!(fs::metadata(mount.mounted(name)).unwrap().nlink(), 2);
                let before = mount.status().pools[0].used_bytes;
                mount.promote_wait(name);
                let one = mount.status().pools[0].used_bytes;
                assert!(
                    is_serving(mount, link),
                    "{link} is another file than {name}"
                );
                mount.promote_wait(link);
                assert_eq!(
                    mount.status().pools[0].used_bytes,
                    one,
                    "it is twice in memory"
                );
                assert!(one > before);
                content::check_file(&mount.mounted(link), seed, LEN).unwrap();
                assert_eq!(number(name), number(link));
                // Both names were asked for: it stays until neither is wanted.
                mount.demote(link);
                mount.demote(name);
                assert!(!is_serving(mount, name) && !is_serving(mount, link));
            }
            mount.until("the pool is empty", || {
                mount.status().pools[0].used_bytes == empty_bytes
            });
            mount.promote_wait("own-link");
            OpenOptions::new()
                .append(true)
                .open(mount.mounted("own"))
                .unwrap()
                .write_all(b"x")
                .unwrap();
            assert_eq!(
                fs::metadata(mount.mounted("own-link")).unwrap().len(),
                LEN + 1
            );
            assert!(
                !is_serving(mount, "own-link"),
                "a write by one name has left the other's replica"
            );
        },
    );
}

#[test]
fn a_symlink_that_changes_leads_elsewhere() {
    in_both_modes(site, |mount| {
        symlink("own", mount.models("link")).unwrap();
        mount.until("the symlink is seen", || {
            fs::read_link(mount.mounted("link")).is_ok()
        });
        content::check_file(&mount.mounted("link"), 1, LEN).unwrap();
        fs::remove_file(mount.models("link")).unwrap();
        symlink("d/cold", mount.models("link")).unwrap();
        mount.until("the new target is seen", || {
            content::check_file(&mount.mounted("link"), 2, LEN).is_ok()
        });
    });
}

/// Its files were those of the former, and nothing in it was seen any more: a name kept its directory whatever lay
/// there.
#[test]
fn a_directory_in_the_place_of_another_is_another() {
    in_both_modes(site, |mount| {
        for home in [mount.models(""), mount.cold(0, "")] {
            for (turn, how) in ["renamed", "exchanged", "made again"]
                .into_iter()
                .enumerate()
            {
                let name = format!("place-{turn}-{}", home.ends_with("models"));
                let (place, other) = (home.join(&name), home.join(format!("{name}.other")));
                mount.change_cold(0, || {
                    content::write_file(&place.join("old"), 4, 100);
                    content::write_file(&place.join("both"), 5, 100);
                    content::write_file(&other.join("new"), 6, 100);
                    content::write_file(&other.join("both"), 7, 100);
                });
                mount.until("both are seen", || {
                    content::check_file(&mount.mounted(format!("{name}/both")), 5, 100).is_ok()
                        && mount.mounted(format!("{name}.other/both")).exists()
                });
                mount.change_cold(0, || match how {
                    "renamed" => {
                        fs::rename(&place, home.join(format!("{name}.away"))).unwrap();
                        fs::rename(&other, &place).unwrap();
                    }
                    "exchanged" => exchange(&place, &other),
                    _ => {
                        fs::remove_dir_all(&place).unwrap();
                        fs::create_dir(&place).unwrap();
                        content::write_file(&place.join("new"), 6, 100);
                        content::write_file(&place.join("both"), 7, 100);
                    }
                });
                let seen = |file: &str, seed| {
                    content::check_file(&mount.mounted(format!("{name}/{file}")), seed, 100).is_ok()
                };
                mount.until("the other is seen", || {
                    seen("new", 6)
                        && seen("both", 7)
                        && !mount.mounted(format!("{name}/old")).exists()
                });
                mount.change_cold(0, || content::write_file(&place.join("later"), 8, 100));
                mount.until("what is made in it later is seen", || seen("later", 8));
            }
        }
    });
}

/// The kernel kept the size of the answer to the first lookup: it did not know the file yet when it was told that there
/// is more of it.
#[test]
fn a_file_that_grows_while_it_is_first_looked_up_has_its_size() {
    in_both_modes(site, |mount| {
        for turn in 0..10 {
            let names: Vec<_> = (0..100)
                .map(|file| format!("grows-{turn}/{file}"))
                .collect();
            let shown = |names: &[String]| {
                let shown = names.iter().map(|name| fs::metadata(mount.mounted(name)));
                let sizes = shown.map(|shown| shown.map_or(0, |shown| shown.len()));
                sizes.sum::<u64>()
            };
            let write = |text: &str| {
                for name in &names {
                    fs::write(mount.cold(0, name), text).unwrap();
                }
            };
            mount.change_cold(0, || {
                fs::create_dir(mount.cold(0, format!("grows-{turn}"))).unwrap();
                write("");
            });
            mount.until("every file is listed", || {
                // Not looked up, which comes when what is written is noticed.
                fs::read_dir(mount.mounted(format!("grows-{turn}")))
                    .is_ok_and(|listed| listed.count() == names.len())
            });
            mount.change_cold(0, || {
                write("more");
                std::thread::scope(|scope| {
                    for names in names.chunks(25) {
                        scope.spawn(|| shown(names));
                    }
                });
            });
            mount.until("every file has its size", || shown(&names) == 400);
        }
    });
}

fn exchange(one: &std::path::Path, two: &std::path::Path) {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, one, CWD, two, RenameFlags::EXCHANGE).unwrap();
}

/// The kernel moved the name of the file that had been there, and what was written by it was lost.
#[test]
fn a_rename_moves_what_was_put_there_before() {
    in_both_modes(site, |mount| {
        for turn in 0..10 {
            let (name, goal) = (format!("put-{turn}"), format!("put-{turn}-there"));
            content::write_file(&mount.models(&name), 4, 100);
            mount.until("it is seen", || {
                content::check_file(&mount.mounted(&name), 4, 100).is_ok()
            });
            content::write_file(&mount.models("part"), 5, 100);
            // The kernel knows the former one.
            fs::metadata(mount.mounted(&name)).unwrap();
            fs::rename(mount.models("part"), mount.models(&name)).unwrap();
            fs::rename(mount.mounted(&name), mount.mounted(&goal)).unwrap();
            mount.until("the name leads to what has it in the home", || {
                content::check_file(&mount.mounted(&goal), 5, 100).is_ok()
            });
        }
    });
}

#[test]
fn permissions_of_a_directory_are_seen() {
    in_both_modes(site, |mount| {
        mount.change_cold(0, || {
            content::write_file(&mount.cold(0, "mode/file"), 4, 100)
        });
        fs::create_dir(mount.models("own-mode")).unwrap();
        for (path, directory) in [
            (mount.cold(0, "mode"), mount.mounted("mode")),
            (mount.models("own-mode"), mount.mounted("own-mode")),
        ] {
            for mode in [0o700, 0o755] {
                let permissions = || fs::metadata(&directory).map(|found| found.mode() & 0o777);
                mount.until("it is seen", || permissions().is_ok());
                mount.change_cold(0, || {
                    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
                });
                mount.until("its new mode is seen", || {
                    permissions().is_ok_and(|now| now == mode)
                });
            }
        }
    });
}

/// The kernel checks nothing after a creation: it opened what somebody else had just made, whoever might read that.
#[test]
fn who_creates_what_is_there_already_is_checked_as_by_any_open() {
    in_both_modes(
        |fresh| site(fresh).option("mount.allow_other=true"),
        |mount| {
            fs::create_dir(mount.models("open")).unwrap();
            fs::set_permissions(mount.models("open"), fs::Permissions::from_mode(0o777)).unwrap();
            mount.until("the directory is seen", || mount.mounted("open").exists());
            let mut user = child::start("create", Some(1000), &[mount.mounted("open")]);
            user.expect("ready");
            for turn in 0..30 {
                let path = mount.models(format!("open/{turn}"));
                fs::write(&path, b"a secret").unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
                user.say(&turn.to_string());
                user.expect("EACCES");
                assert_eq!(fs::read(&path).unwrap(), b"a secret");
                // Who may, has it.
                let mut file = OpenOptions::new();
                file.read(true).write(true).create(true);
                let path = mount.models(format!("open/mine-{turn}"));
                content::write_file(&path, 4, 100);
                let file = file
                    .open(mount.mounted(format!("open/mine-{turn}")))
                    .unwrap();
                content::check_open(&file, 4, 100).unwrap();
            }
            user.finish();
        },
    );
}

/// A part: creates what it is told, and says what came of it.
pub fn create() {
    child::say("ready");
    let directory = child::argument(0);
    while let Some(name) = child::hear() {
        let made = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(directory.join(name));
        let said = match made {
            Ok(_) => "opened".to_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                "EACCES".to_owned()
            }
            Err(error) => error.to_string(),
        };
        child::say(&said);
    }
}

/// The kernel kept the size that it had been told, for an hour: who maps so much of a shorter file gets a SIGBUS.
#[test]
fn a_file_that_a_writer_keeps_open_has_its_size() {
    in_both_modes(site, |mount| {
        let (seen, home) = (mount.mounted("own"), mount.models("own"));
        let size = || File::open(&seen).unwrap().metadata().unwrap().len();
        assert_eq!(size(), LEN);
        let mut writer = File::options().append(true).open(&home).unwrap();
        for added in 1..=3 {
            writer.write_all(b"x").unwrap();
            mount.until("it has grown", || size() == LEN + added);
        }
        writer.set_len(7).unwrap();
        mount.until("it is short", || size() == 7);
        drop(writer);
    });
}

/// Its home was said to have failed, and never anything else again.
#[test]
fn a_directory_that_vanishes_while_it_is_read_says_nothing_of_its_home() {
    in_both_modes(site, |mount| {
        for number in 0..300 {
            let made = mount.models(format!("made-{number}"));
            let moved = mount.models(format!("moved-{number}"));
            fs::create_dir(&made).unwrap();
            fs::rename(&made, &moved).unwrap();
            fs::remove_dir(&moved).unwrap();
        }
        fs::create_dir(mount.models("last")).unwrap();
        mount.until("all is read", || mount.mounted("last").is_dir());
        let state = &mount.status().homes[0].state;
        assert!(matches!(state, HomeState::Ok), "{state:?}");
    });
}

/// For half a second what was removed in the home could still be opened through the mount, also to write: what was
/// written and synced was nowhere, or in a file elsewhere that had been moved there.
#[test]
fn what_is_written_after_a_removal_in_the_home_is_in_the_home() {
    in_both_modes(site, |mount| {
        let away = mount.root().join("away");
        let part: [(&str, &dyn Fn()); 2] = [
            ("removed", &|| fs::remove_file(mount.models("own")).unwrap()),
            ("moved", &|| fs::rename(mount.models("own"), &away).unwrap()),
        ];
        for (how, part) in part {
            for turn in 0..5_u64 {
                content::write_file(&mount.models("own"), turn, 1000);
                mount.until("it is seen", || {
                    content::check_file(&mount.mounted("own"), turn, 1000).is_ok()
                });
                part();
                let mut file = OpenOptions::new();
                let file = file.create(true).write(true).truncate(true);
                let mut file = file.open(mount.mounted("own")).unwrap();
                file.write_all(b"new").unwrap();
                file.sync_all().unwrap();
                drop(file);
                assert_eq!(fs::read(mount.models("own")).unwrap(), b"new", "{how}");
                assert_eq!(fs::read(mount.mounted("own")).unwrap(), b"new", "{how}");
                if how == "moved" {
                    content::check_file(&away, turn, 1000).unwrap();
                }
                fs::remove_file(mount.mounted("own")).unwrap();
            }
        }
    });
}

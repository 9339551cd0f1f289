//! File systems that are mounted on a cold directory, or taken from it, while the daemon runs: what is there is shown,
//! and where that cannot be, it is told.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags};

use speedloader::view::HomeState;

use crate::harness::{Mount, Site, content, skip};

const LEN: u64 = 300_001;

/// A tmpfs that is shown in a second place, for as long as this lives.
struct Disk {
    disk: PathBuf,
    place: PathBuf,
}

impl Disk {
    fn new(site: &Path, place: PathBuf) -> Disk {
        let disk = site.join("disk");
        fs::create_dir(&disk).unwrap();
        rustix::mount::mount("tmpfs", &disk, "tmpfs", MountFlags::empty(), None).unwrap();
        Disk { disk, place }
    }

    fn mount(&self) {
        rustix::mount::mount_bind(&self.disk, &self.place).unwrap();
    }

    fn unmount(&self) {
        rustix::mount::unmount(&self.place, UnmountFlags::empty()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for mounted in [&self.place, &self.disk] {
            // Not mounted is right too.
            let _ = rustix::mount::unmount(mounted, UnmountFlags::DETACH);
        }
    }
}

fn state(mount: &Mount, home: usize) -> HomeState {
    mount.status().homes[home].state.clone()
}

fn until_told(mount: &Mount, text: &str) {
    mount.until(text, || {
        let events = mount.events();
        let mut of_homes = events.iter().filter(|event| event.kind == "home");
        of_homes.any(|event| event.text.contains(text))
    });
}

/// A disk that was mounted after the start was never seen, not even by `rescan`, and `health` found nothing.
#[test]
fn a_cold_disk_that_comes_and_goes_is_followed() {
    if let Some(why) = skip::why_no_mount() {
        return skip::skip(why);
    }
    let Some(mount) = Site::new().cold_file("before", 1, 10).start() else {
        return;
    };
    let disk = Disk::new(mount.root(), mount.cold(0, ""));
    let shows = |name: &str, seed| content::check_file(&mount.mounted(name), seed, LEN).is_ok();

    content::write_file(&disk.disk.join("d/first"), 2, LEN);
    disk.mount();
    mount.until("what was mounted is shown", || shows("d/first", 2));
    mount.until("what it hides is gone", || {
        !mount.mounted("before").exists()
    });
    until_told(&mount, "goes over to what is at the path now");
    mount.promote_wait("d/first");
    content::write_file(&disk.disk.join("d/second"), 3, LEN);
    mount.until("it is watched", || shows("d/second", 3));

    // What is below has a file: the home goes over to that.
    disk.unmount();
    mount.until("what it has hidden is back", || {
        mount.mounted("before").exists()
    });
    mount.until("what was on it is gone", || {
        !mount.mounted("d/first").exists()
    });
    assert_eq!(state(&mount, 1), HomeState::Ok);

    mount.change_cold(0, || fs::remove_file(mount.cold(0, "before")).unwrap());
    disk.mount();
    mount.until("it is shown again", || shows("d/first", 2));
    // An empty directory may be what a mount leaves that is gone by mistake.
    disk.unmount();
    mount.until("it is told", || state(&mount, 1) == HomeState::Detached);
    until_told(&mount, "what was there before is still shown");
    assert!(shows("d/second", 3));
    mount.rescan();
    assert!(
        !mount.mounted("d").exists(),
        "an empty directory is asked for"
    );
    assert_eq!(state(&mount, 1), HomeState::Ok);

    mount.change_cold(0, || content::write_file(&mount.cold(0, "before"), 1, 10));
    drop(disk);
    mount.finish();
}

/// What engines write would be hidden below: it cannot be followed, and must be told.
#[test]
fn a_disk_that_covers_the_models_directory_is_told() {
    if let Some(why) = skip::why_no_mount() {
        return skip::skip(why);
    }
    let Some(mount) = Site::new().models_file("own", 1, LEN).start() else {
        return;
    };
    let disk = Disk::new(mount.root(), mount.models(""));
    content::write_file(&disk.disk.join("other"), 2, LEN);
    disk.mount();
    mount.until("it is told", || state(&mount, 0) == HomeState::Detached);
    content::check_file(&mount.mounted("own"), 1, LEN).unwrap();
    disk.unmount();
    mount.until("it is as it was", || state(&mount, 0) == HomeState::Ok);
    until_told(&mount, "what is shown is at the path again");
    drop(disk);
    mount.finish();
}

/// One cold directory that was missing, an unplugged disk say, left everybody without any model.
#[test]
fn a_cold_directory_that_is_missing_is_shown_when_it_appears() {
    if let Some(why) = skip::why_no_mount() {
        return skip::skip(why);
    }
    let site = Site::new()
        .models_file("own", 1, LEN)
        .cold_file("first", 2, LEN)
        .unguarded();
    let (place, away) = (site.cold(0, ""), site.root().join("away"));
    fs::rename(&place, &away).unwrap();
    let Some(mount) = site.start() else {
        return;
    };
    let shows = |name: &str, seed| content::check_file(&mount.mounted(name), seed, LEN).is_ok();
    assert!(shows("own", 1) && !mount.mounted("first").exists());
    assert!(matches!(state(&mount, 1), HomeState::Failed { .. }));
    until_told(&mount, "shown when it appears");

    fs::rename(&away, &place).unwrap();
    mount.until("what has appeared is shown", || shows("first", 2));
    until_told(&mount, "goes over to what is at the path now");
    mount.until("it is a home like any other", || {
        state(&mount, 1) == HomeState::Ok
    });
    content::write_file(&mount.cold(0, "second"), 3, LEN);
    mount.until("it is watched", || shows("second", 3));
    mount.finish();
}

//! A models directory on a disk of its own: what its file system keeps for root is kept, and what the disk takes its
//! time for holds nobody else up.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use rustix::fs::FallocateFlags;
use rustix::mount::UnmountFlags;

use crate::harness::{Site, as_user, content, skip};

const USER: u32 = 4321;
const LEN: u64 = 100_000;
/// Threads of the daemon that answer the kernel.
const THREADS: usize = 4;

/// An ext4 file system in a file, mounted as long as this lives.
struct Disk {
    place: PathBuf,
}

impl Disk {
    /// In the place of the models directory, a fifth of it kept for root. `None`, and a line that says why, where that
    /// cannot be had.
    fn below(site: &Site) -> Option<Disk> {
        if let Some(why) = skip::why_no_mount() {
            skip::skip(why);
            return None;
        }
        if skip::lacks_programs(&["mkfs.ext4", "mount", "fsfreeze"]) {
            return None;
        }
        let (image, place) = (site.root().join("image"), site.models(""));
        File::create(&image).unwrap().set_len(96 << 20).unwrap();
        let mut make = Command::new("mkfs.ext4");
        assert!(
            make.args(["-q", "-m", "20"])
                .arg(&image)
                .status()
                .unwrap()
                .success()
        );
        let mut mount = Command::new("mount");
        let mounted = mount
            .args(["-o", "loop"])
            .arg(&image)
            .arg(&place)
            .output()
            .unwrap();
        if !mounted.status.success() {
            skip::skip("no loop device can be had");
            return None;
        }
        fs::set_permissions(&place, fs::Permissions::from_mode(0o777)).unwrap();
        Some(Disk { place })
    }

    /// While it is frozen, whoever changes something waits, and nobody else.
    fn freeze(&self, how: &str) {
        let done = Command::new("fsfreeze").arg(how).arg(&self.place).status();
        assert!(done.unwrap().success(), "{how}");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").arg("-u").arg(&self.place).output();
        let _ = rustix::mount::unmount(&self.place, UnmountFlags::DETACH);
    }
}

/// Writes until there is no room left.
fn fill(file: &mut File) {
    let block = vec![7; 1 << 16];
    let full = loop {
        if let Err(error) = file.write_all(&block).and_then(|()| file.sync_data()) {
            break error;
        }
    };
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull, "{full}");
}

/// Users filled the last fifth of a disk, too, and had no quota: the daemon that wrote for them is root.
#[test]
fn what_is_kept_for_root_is_kept_from_users() {
    for passthrough in [true, false] {
        let site = match passthrough {
            true => Site::new(),
            false => Site::new().without_passthrough(),
        };
        let Some(disk) = Disk::below(&site) else {
            return;
        };
        let Some(mount) = site.start() else { return };
        let through = mount.mounted("through");
        as_user(USER, &[], || {
            fill(&mut File::create(disk.place.join("direct")).unwrap());
            let mut file = File::create(&through).unwrap();
            fill(&mut file);
            let allocated = rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 8 << 20);
            assert_eq!(allocated, Err(rustix::io::Errno::NOSPC));
        });
        let taken = fs::metadata(disk.place.join("through")).unwrap().len();
        assert!(
            taken < 1 << 20,
            "passthrough: {passthrough}, {taken} bytes more"
        );
        mount.finish();
    }
}

/// As many as the daemon has threads for the kernel waited for the disk, and nobody could open anything.
#[test]
fn what_the_disk_takes_its_time_for_holds_nobody_else_up() {
    let site = Site::new();
    let Some(disk) = Disk::below(&site) else {
        return;
    };
    let Some(mount) = site.models_file("own", 1, LEN).start() else {
        return;
    };
    mount.promote_wait("own");
    let file = |index: usize| {
        let path = mount.mounted(format!("f{index}"));
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .unwrap()
    };
    let files: Vec<File> = (0..2 * THREADS).map(file).collect();
    disk.freeze("-f");
    std::thread::scope(|scope| {
        for (index, file) in files.iter().enumerate() {
            scope.spawn(move || match index % 2 {
                0 => file.set_len(LEN).unwrap(),
                _ => rustix::fs::fallocate(file, FallocateFlags::empty(), 0, LEN).unwrap(),
            });
        }
        mount.until("as many wait as answer the kernel", || {
            waiting(mount.pid()) >= THREADS
        });
        let (told, heard) = mpsc::channel();
        let own = mount.mounted("own");
        scope.spawn(move || told.send(content::check_file(&own, 1, LEN)));
        let read = heard.recv_timeout(Duration::from_secs(20));
        disk.freeze("-u");
        read.expect("nobody is held up").unwrap();
    });
    assert_eq!(files[0].metadata().unwrap().len(), LEN);
    drop(files);
    mount.finish();
}

/// How many threads of a process wait without a way to be woken.
fn waiting(pid: u32) -> usize {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten();
    let stats = tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("stat")).ok());
    stats.filter(|stat| stat.contains(") D ")).count()
}

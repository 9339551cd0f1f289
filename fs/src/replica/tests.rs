//! The life of a replica on every kind of pool, and what is left when it stops anywhere.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};

use super::*;
use crate::sys::map::FileMap;
use crate::testing::{TestPool, content, finish, origin_of, until, until_used};
use crate::tmpfs::HugePages;

fn digest() -> Digest {
    Digest::blake3([9; 32])
}

fn partial(pool: &Arc<Pool>, bytes: &[u8]) -> FsResult<Partial> {
    let claim = pool.try_reserve(bytes.len() as u64)?;
    let partial = Partial::create(claim, origin_of(bytes.len()))?;
    partial.allocate(&(0..bytes.len() as u64))?;
    partial.file().write_all_at(bytes, 0).unwrap();
    Ok(partial)
}

fn publish(pool: &Arc<Pool>, bytes: &[u8]) -> FsResult<Replica> {
    partial(pool, bytes)?.publish(digest())
}

#[test]
fn a_copy_has_no_name_before_it_is_published() {
    for test in TestPool::all("a_copy_has_no_name_before_it_is_published") {
        let start = test.pool.usage().unwrap();
        let bytes = content(5_000_000, 1);
        let copy = partial(&test.pool, &bytes).unwrap();
        assert_eq!(test.names(), [""; 0]);
        let usage = test.pool.usage().unwrap();
        assert!(
            usage.used_bytes >= start.used_bytes + 5_000_000,
            "{usage:?}"
        );

        let replica = copy.publish(digest()).unwrap();
        let id = replica.id();
        assert_eq!(test.names(), [format!("{id}.data"), format!("{id}.meta")]);
        let mut read = vec![0; bytes.len()];
        replica.file().read_exact_at(&mut read, 0).unwrap();
        assert_eq!(read, bytes);
        assert_eq!(test.pool.usage().unwrap().reserved_bytes, 0);
        assert_eq!(test.pool.replicas_serving(), 1);
        let stat = fs::metadata(test.path().join("replicas").join(&test.names()[0])).unwrap();
        assert_eq!(stat.permissions().mode() & 0o777, 0o600);

        finish(replica.drain());
        assert_eq!(test.names(), [""; 0]);
        assert_eq!(test.pool.usage().unwrap().used_bytes, start.used_bytes);
        assert_eq!(test.pool.replicas_serving(), 0);
    }
}

#[test]
fn small_files_and_tails_take_small_pages() {
    for huge in [HugePages::Always, HugePages::WithinSize, HugePages::Never] {
        let Some(test) = TestPool::mounted("small_files_and_tails_take_small_pages", huge) else {
            return;
        };
        for (size, data_bytes) in [
            (1, 4096),
            (65_536, 65_536),
            ((3 << 20) + 1, (3 << 20) + 4096),
        ] {
            let before = test.pool.usage().unwrap().used_bytes;
            let replica = publish(&test.pool, &content(size, 3)).unwrap();
            let used = test.pool.usage().unwrap().used_bytes - before;
            assert_eq!(used, data_bytes + 4096, "{size} bytes, {huge:?}");
            assert_eq!(replica.occupied_bytes(), used);
            assert_eq!(test.pool.footprint_bytes(size as u64), used);
        }
    }
}

#[test]
fn a_failure_at_any_step_leaves_nothing() {
    for test in TestPool::all("a_failure_at_any_step_leaves_nothing") {
        let bytes = content(3_000_000, 2);
        let start = test.pool.usage().unwrap();
        test.seam.fail_at(0);
        let replica = publish(&test.pool, &bytes).unwrap();
        let steps = test.seam.steps().len();
        assert!(steps >= 8, "{:?}", test.seam.steps());
        finish(replica.drain());
        for number in 1..=steps {
            test.seam.fail_at(number);
            assert!(publish(&test.pool, &bytes).is_err(), "step {number}");
            test.seam.fail_at(0);
            assert_eq!(test.names(), [""; 0], "step {number}");
            until_used(&test.pool, start.used_bytes);
            assert_eq!(test.pool.usage().unwrap().reserved_bytes, 0);
        }
    }
}

#[test]
fn what_somebody_reads_is_not_free_to_go() {
    for test in TestPool::all("what_somebody_reads_is_not_free_to_go") {
        let replica = publish(&test.pool, &content(10_000, 4)).unwrap();
        until("nobody reads it", || replica.is_free_to_go());
        let bound = replica.shared_file();
        assert!(!replica.is_free_to_go(), "a node is bound to it");
        drop(bound);
        let path = test.path().join("replicas").join(replica.id().data_name());
        let user = fs::File::open(path).unwrap();
        assert!(!replica.is_free_to_go(), "it is open");
        drop(user);
        until("nobody reads it any more", || replica.is_free_to_go());
        finish(replica.drain());
    }
}

#[test]
fn draining_ends_with_the_last_handle_and_mapping() {
    for test in TestPool::all("draining_ends_with_the_last_handle_and_mapping") {
        let start = test.pool.usage().unwrap();
        let replica = publish(&test.pool, &content(3 << 20, 4)).unwrap();
        assert!(!replica.is_in_use().unwrap());
        let path = test
            .path()
            .join("replicas")
            .join(format!("{}.data", replica.id()));
        let user = fs::File::options()
            .read(true)
            .write(true)
            .open(path)
            .unwrap();
        assert!(replica.is_in_use().unwrap());

        let draining = replica.drain();
        // Whoever drops a replica may be answering the kernel: a disk is asked by the drainer alone.
        assert_eq!(test.names().is_empty(), test.pool.is_memory());
        let draining = draining.try_finish().expect_err("a handle is open");
        assert_eq!(test.names(), [""; 0]);
        let map = FileMap::of_private_file(&user, 0, 3 << 20).unwrap();
        drop(user);
        let draining = draining.try_finish().expect_err("a mapping is there");
        let usage = test.pool.usage().unwrap();
        assert!(usage.draining_bytes >= 3 << 20, "{usage:?}");
        assert!(usage.used_bytes - start.used_bytes >= 3 << 20, "{usage:?}");
        drop(map);
        finish(*draining);
        assert_eq!(test.pool.usage().unwrap().used_bytes, start.used_bytes);
        assert_eq!(test.pool.usage().unwrap().draining_bytes, 0);
    }
}

#[test]
fn a_name_that_cannot_be_removed_now_is_removed_later() {
    for test in TestPool::all("a_name_that_cannot_be_removed_now_is_removed_later") {
        for step in 1..=3 {
            let replica = publish(&test.pool, &content(100, 4)).unwrap();
            test.seam.fail_at(step);
            let draining = replica.drain();
            test.seam.fail_at(0);
            finish(draining);
            assert_eq!(test.names(), [""; 0]);
        }
    }
}

#[test]
fn the_drainer_reports_what_is_gone() {
    for test in TestPool::all("the_drainer_reports_what_is_gone") {
        let (sender, gone) = crossbeam_channel::unbounded();
        let drainer = Drainer::start(move |one: &Gone| sender.send(one.clone()).unwrap()).unwrap();
        let replica = publish(&test.pool, &content(4096, 5)).unwrap();
        let (id, path) = (replica.id(), test.path().join("replicas"));
        let user = fs::File::open(path.join(format!("{id}.data"))).unwrap();
        drainer.drain(replica);
        assert_eq!(drainer.draining().len(), 1);
        assert!(gone.try_recv().is_err());
        drop(user);
        drainer.check_now();
        let one = gone.recv().unwrap();
        assert_eq!((one.id, one.occupied_bytes), (id, 8192));
        assert!(drainer.draining().is_empty());
        assert_eq!(test.names(), [""; 0]);
        assert_eq!(test.pool.usage().unwrap().draining_bytes, 0);
    }
}

#[test]
fn complete_replicas_are_adopted_and_the_rest_of_ours_removed() {
    for test in TestPool::all("complete_replicas_are_adopted_and_the_rest_of_ours_removed") {
        let replicas: Vec<_> = (0..5)
            .map(|n| publish(&test.pool, &content(10_000 + n, 6)).unwrap())
            .collect();
        let ids: Vec<_> = replicas.iter().map(Replica::id).collect();
        let occupied: Vec<_> = replicas.iter().map(Replica::occupied_bytes).collect();
        drop(replicas);
        let test = test.reconnect();
        let below = |name: String| test.path().join("replicas").join(name);
        // 1: shorter than it was; 2: damaged metadata; 3: without metadata.
        let file = fs::File::options()
            .write(true)
            .open(below(ids[1].data_name()))
            .unwrap();
        file.set_len(9_999).unwrap();
        drop(file);
        fs::write(below(ids[2].meta_name()), "{}").unwrap();
        fs::remove_file(below(ids[3].meta_name())).unwrap();
        fs::write(below(ReplicaId::random().meta_name()), "alone").unwrap();
        fs::write(
            test.path().join("partial").join(ids[0].partial_name()),
            "half",
        )
        .unwrap();
        fs::write(below("README".to_owned()), "not ours").unwrap();

        let adopted = adopt(&test.pool, |meta| meta.origin.source.size != 10_004).unwrap();
        let found: Vec<_> = adopted.replicas.iter().map(Replica::id).collect();
        assert_eq!(found, [ids[0]]);
        assert_eq!(adopted.replicas[0].meta().origin, origin_of(10_000));
        assert_eq!(adopted.replicas[0].meta().digest, digest());
        assert_eq!(adopted.foreign_entries, 1);
        assert_eq!(adopted.files_removed, 2 + 2 + 1 + 2 + 1 + 1);
        let mut left = vec!["README".to_owned(), ids[0].data_name(), ids[0].meta_name()];
        left.sort();
        assert_eq!(test.names(), left);
        assert!(!adopted.replicas[0].is_in_use().unwrap());
        assert_eq!(adopted.replicas[0].occupied_bytes(), occupied[0]);
        assert_eq!(test.pool.replicas_serving(), 1);
        for replica in adopted.replicas {
            finish(replica.drain());
        }
        assert_eq!(test.pool.replicas_serving(), 0);
    }
}

#[test]
fn hostile_entries_are_not_followed_or_opened() {
    for test in TestPool::all("hostile_entries_are_not_followed_or_opened") {
        let outside = tempfile::NamedTempFile::new().unwrap();
        fs::write(outside.path(), "precious").unwrap();
        let replica = publish(&test.pool, &content(50, 7)).unwrap();
        let good_meta = fs::read(test.path().join("replicas").join(replica.id().meta_name()));
        let good_meta = good_meta.unwrap();
        finish(replica.drain());
        let below = |name: String| test.path().join("replicas").join(name);
        let ids: Vec<_> = (0..5).map(|_| ReplicaId::random()).collect();
        for id in &ids {
            fs::write(below(id.meta_name()), &good_meta).unwrap();
        }
        symlink(outside.path(), below(ids[0].data_name())).unwrap();
        fs::create_dir(below(ids[1].data_name())).unwrap();
        let fifo = rustix::fs::FileType::Fifo;
        let mode = rustix::fs::Mode::RWXU;
        let at = rustix::fs::CWD;
        rustix::fs::mknodat(at, below(ids[2].data_name()), fifo, mode, 0).unwrap();
        // Of the right size, but with a second name, by which others could change it.
        fs::write(below(ids[3].data_name()), content(50, 7)).unwrap();
        fs::hard_link(below(ids[3].data_name()), test.path().join("second")).unwrap();
        // Writable by others.
        fs::write(below(ids[4].data_name()), content(50, 7)).unwrap();
        fs::set_permissions(below(ids[4].data_name()), fs::Permissions::from_mode(0o666)).unwrap();

        let adopted = adopt(&test.pool, |_| true).unwrap();
        assert!(adopted.replicas.is_empty());
        assert_eq!(fs::read(outside.path()).unwrap(), b"precious");
        assert_eq!(
            test.names(),
            [ids[1].data_name()],
            "a directory is not ours"
        );
        assert_eq!(fs::metadata(test.path().join("second")).unwrap().nlink(), 1);
    }
}

#[test]
fn a_hole_in_memory_is_not_adopted() {
    let Some(test) = TestPool::mounted("a_hole_in_memory_is_not_adopted", HugePages::Never) else {
        return;
    };
    let replica = publish(&test.pool, &content(1 << 20, 8)).unwrap();
    let path = test.path().join("replicas").join(replica.id().data_name());
    drop(replica);
    let file = fs::File::options().write(true).open(path).unwrap();
    let flags = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&file, flags, 4096, 4096).unwrap();
    drop(file);
    let test = test.reconnect();
    assert!(adopt(&test.pool, |_| true).unwrap().replicas.is_empty());
    assert_eq!(test.names(), [""; 0]);
}

//! Space is never promised twice; pools are taken over, resized and disconnected safely.

use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};

use super::*;
use crate::replica::{Digest, Partial, Replica, adopt};
use crate::testing::{POOL_BYTES, TestPool, finish, origin_of, settings};
use crate::tmpfs::HugePages;

fn publish(pool: &Arc<Pool>, size: usize) -> Replica {
    let claim = pool.try_reserve(size as u64).unwrap();
    let digest = Digest::blake3([0; 32]);
    let partial = Partial::create(claim, origin_of(size)).unwrap();
    partial.allocate(&(0..size as u64)).unwrap();
    partial.publish(digest).unwrap()
}

fn kind_of<T>(result: FsResult<T>) -> ErrorKind {
    match result {
        Ok(_) => panic!("an error was expected"),
        Err(error) => error.kind,
    }
}

#[test]
fn reservations_never_exceed_the_pool() {
    for test in TestPool::all("reservations_never_exceed_the_pool") {
        let pool = &test.pool;
        let start = pool.usage().unwrap();
        assert_eq!(start.capacity_bytes, POOL_BYTES);
        assert!(matches!(
            kind_of(pool.try_reserve(POOL_BYTES)),
            ErrorKind::TooLarge { .. }
        ));
        assert!(matches!(
            kind_of(pool.try_reserve(u64::MAX)),
            ErrorKind::TooLarge { .. }
        ));
        let first = pool.try_reserve(40 << 20).unwrap();
        assert!(matches!(
            kind_of(pool.try_reserve(40 << 20)),
            ErrorKind::NoSpace { .. }
        ));
        let usage = pool.usage().unwrap();
        assert_eq!(usage.reserved_bytes, (40 << 20) + 4096);
        assert_eq!(usage.free_bytes, start.free_bytes - usage.reserved_bytes);
        drop(first);
        assert_eq!(pool.usage().unwrap(), start);

        let replica = publish(pool, 10 << 20);
        let usage = pool.usage().unwrap();
        assert_eq!(
            usage.used_bytes - start.used_bytes,
            replica.occupied_bytes()
        );
        assert_eq!(
            usage.free_bytes,
            start.free_bytes - replica.occupied_bytes()
        );
    }
}

#[test]
fn the_last_byte_of_a_pool_can_be_used() {
    for test in TestPool::all("the_last_byte_of_a_pool_can_be_used") {
        let free_bytes = test.pool.usage().unwrap().free_bytes;
        let largest = usize::try_from(free_bytes - 4096).unwrap();
        assert!(test.pool.try_reserve(largest as u64 + 1).is_err());
        let replica = publish(&test.pool, largest);
        assert_eq!(replica.size_bytes(), largest as u64);
    }
}

#[test]
fn resizing_is_refused_below_what_is_used() {
    for test in TestPool::all("resizing_is_refused_below_what_is_used") {
        let replica = publish(&test.pool, 20 << 20);
        let claim = test.pool.try_reserve(10 << 20).unwrap();
        assert!(matches!(
            kind_of(test.pool.resize(25 << 20)),
            ErrorKind::NoSpace { .. }
        ));
        drop(claim);
        test.pool.resize(25 << 20).unwrap();
        assert_eq!(test.pool.usage().unwrap().capacity_bytes, 25 << 20);
        test.pool.resize(128 << 20).unwrap();
        assert_eq!(test.pool.usage().unwrap().capacity_bytes, 128 << 20);
        drop(replica);
    }
}

#[test]
fn disconnecting_waits_for_replicas_and_their_users() {
    for test in TestPool::all("disconnecting_waits_for_replicas_and_their_users") {
        let pool = &test.pool;
        let replica = publish(pool, 1 << 20);
        let name = format!("{}.data", replica.id());
        let user = File::open(test.path().join("replicas").join(name)).unwrap();
        pool.disconnect().unwrap();
        assert!(pool.is_disconnected());
        let draining = replica.drain();
        assert!(matches!(kind_of(pool.try_reserve(1)), ErrorKind::PoolGone));
        let mounted = || tmpfs::find(test.path()).unwrap().is_some();
        assert_eq!(mounted(), pool.is_mounted_by_us(), "still draining");
        let draining = draining.try_finish().unwrap_err();
        drop(user);
        finish(*draining);
        assert!(!mounted());
        pool.disconnect().unwrap();
    }
}

/// It was refused, after everything else had been taken out of the pool: nobody unmounted that any more.
#[test]
fn a_pool_that_is_disconnected_under_a_copy_goes_when_that_has_ended() {
    for test in TestPool::all("a_pool_that_is_disconnected_under_a_copy_goes_when_that_has_ended") {
        let pool = &test.pool;
        let claim = pool.try_reserve(1).unwrap();
        pool.disconnect().unwrap();
        assert!(pool.is_disconnected() && pool.is_held());
        assert!(matches!(kind_of(pool.try_reserve(1)), ErrorKind::PoolGone));
        let mounted = || tmpfs::find(test.path()).unwrap().is_some();
        assert_eq!(mounted(), pool.is_mounted_by_us());
        drop(claim);
        assert!(!pool.is_held() && !mounted());
    }
}

#[test]
fn a_surviving_tmpfs_is_adopted_with_its_replicas() {
    let name = "a_surviving_tmpfs_is_adopted_with_its_replicas";
    let Some(test) = TestPool::mounted(name, HugePages::WithinSize) else {
        return;
    };
    assert!(!test.pool.was_adopted());
    let id = publish(&test.pool, 5 << 20).id();
    let used = test.pool.usage().unwrap().used_bytes;
    let test = test.reconnect();
    assert!(test.pool.was_adopted() && test.pool.is_mounted_by_us());
    let adopted = adopt(&test.pool, |_| true).unwrap();
    assert_eq!(adopted.replicas[0].id(), id);
    assert_eq!(test.pool.usage().unwrap().used_bytes, used);
}

#[test]
fn a_pool_is_used_by_one_daemon_only() {
    for test in TestPool::all("a_pool_is_used_by_one_daemon_only") {
        let second = Pool::connect(settings(test.path(), &test.kind, test.seam.clone()));
        assert!(matches!(kind_of(second), ErrorKind::Busy(_)));
        assert!(test.pool.usage().is_ok());
    }
}

#[test]
fn directories_that_are_not_ours_alone_are_refused() {
    let base = tempfile::tempdir().unwrap();
    let seam = || Arc::new(crate::seam::NoSeam);
    let kind = PoolKind::Directory {
        capacity_bytes: 1 << 20,
    };
    let connect = |path: &Path| Pool::connect(settings(path, &kind, seam()));

    let open = base.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(kind_of(connect(&open)), ErrorKind::NotPermitted));

    let link = base.path().join("link");
    symlink(base.path(), &link).unwrap();
    assert!(connect(&link).is_err());

    let inside = base.path().join("inside");
    fs::DirBuilder::new().mode(0o700).create(&inside).unwrap();
    symlink("/", inside.join("replicas")).unwrap();
    assert!(connect(&inside).is_err());

    assert!(matches!(
        kind_of(connect(Path::new("relative"))),
        ErrorKind::Invalid(_)
    ));
    let file = base.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(connect(&file).is_err());
}

#[test]
fn speed_is_measured_and_the_sample_given_back() {
    for test in TestPool::all("speed_is_measured_and_the_sample_given_back") {
        let start = test.pool.usage().unwrap();
        assert_eq!(test.pool.speed_bytes_per_sec(), 0);
        let speed = test.pool.measure_speed().unwrap();
        assert!(speed > 0);
        assert_eq!(test.pool.speed_bytes_per_sec(), speed);
        assert_eq!(test.pool.usage().unwrap(), start);
    }
}

//! What is ready is free room in every book, becomes the next copy, and makes way for everything else.

use std::os::unix::fs::FileExt;

use proptest::prelude::*;

use super::*;
use crate::pool::{Reservation, Usage};
use crate::replica::{Digest, Partial};
use crate::testing::{TestPool, content, finish, origin_of};
use crate::tmpfs::HugePages;

const MIB: u64 = 1 << 20;
const CAPACITY_BYTES: u64 = 256 * MIB;

/// A tmpfs of [`CAPACITY_BYTES`]; `None`, with a note, without root.
fn pool(test: &str) -> Option<TestPool> {
    let test = TestPool::mounted(test, HugePages::Always)?;
    test.pool.resize(CAPACITY_BYTES).unwrap();
    Some(test)
}

/// Makes all that is wanted, as far as there is room; how much that was.
fn make_all(pool: &Pool) -> u64 {
    let mut made = 0;
    loop {
        match pool.prefault().unwrap() {
            0 => return made,
            bytes => made += bytes,
        }
    }
}

/// Bytes of the tmpfs that are allocated, as the kernel says.
fn allocated(pool: &Pool) -> u64 {
    let stat = rustix::fs::fstatfs(pool.directory()).unwrap();
    (stat.f_blocks - stat.f_bfree) * u64::try_from(stat.f_bsize).unwrap()
}

#[test]
fn what_is_ready_is_free_room_and_becomes_the_next_copy() {
    let Some(test) = pool("what_is_ready_is_free_room_and_becomes_the_next_copy") else {
        return;
    };
    let pool = &test.pool;
    let start = pool.usage().unwrap();
    let empty = allocated(pool);
    pool.want_prefaulted(vec![63 * MIB, 65 * MIB, 100 * MIB + 5]);
    assert!(pool.is_prefault_wanted());
    assert_eq!(
        make_all(pool),
        164 * MIB,
        "whole huge pages, none for little ones"
    );
    assert_eq!(allocated(pool) - empty, 164 * MIB);
    let prefaulted_bytes = 164 * MIB;
    assert_eq!(
        pool.usage().unwrap(),
        Usage {
            prefaulted_bytes,
            ..start
        }
    );

    // The smaller of the two is large enough, and what it has too much is let go.
    let bytes = content(64 << 20, 7);
    let claim = pool.try_reserve_ready(bytes.len() as u64).unwrap();
    assert_eq!(claim.reserved_bytes(), 4096, "for the metadata");
    assert_eq!(pool.usage().unwrap().prefaulted_bytes, 100 * MIB);
    let partial = Partial::create(claim, origin_of(bytes.len())).unwrap();
    assert_eq!(allocated(pool) - empty, 164 * MIB);
    let mut read = vec![1; bytes.len()];
    partial.file().read_exact_at(&mut read, 0).unwrap();
    assert!(read.iter().all(|byte| *byte == 0), "cleared");
    partial.allocate(&(0..bytes.len() as u64)).unwrap();
    assert_eq!(
        allocated(pool) - empty,
        164 * MIB,
        "nothing was left to make"
    );
    partial.file().write_all_at(&bytes, 0).unwrap();
    let replica = partial.publish(Digest::blake3([9; 32])).unwrap();
    assert_eq!(replica.occupied_bytes(), (64 << 20) + 4096);
    replica.file().read_exact_at(&mut read, 0).unwrap();
    assert_eq!(read, bytes);

    // Only a larger copy is left to be ready for: it takes what there is, and makes the rest.
    let size = (140 << 20) + 3;
    let claim = pool.try_reserve_ready(size as u64).unwrap();
    let partial = Partial::create(claim, origin_of(size)).unwrap();
    partial.allocate(&(0..size as u64)).unwrap();
    assert_eq!(pool.usage().unwrap().prefaulted_bytes, 0);
    let footprint = pool.footprint_bytes(size as u64) - 4096;
    assert_eq!(
        allocated(pool) - empty,
        replica.occupied_bytes() + footprint
    );
    drop(partial);
    finish(replica.drain());
    assert_eq!(allocated(pool), empty);
    assert_eq!(pool.usage().unwrap(), start);
}

#[test]
fn what_is_ready_makes_way() {
    let Some(test) = pool("what_is_ready_makes_way") else {
        return;
    };
    let pool = &test.pool;
    let start = pool.usage().unwrap();
    let ready = || pool.usage().unwrap().prefaulted_bytes;
    pool.want_prefaulted(vec![128 * MIB, 512 * MIB]);
    make_all(pool);
    assert!(ready() > CAPACITY_BYTES - 4 * MIB, "all free room");

    // For whoever was promised the room, and did not take what is ready.
    let claim = pool.try_reserve(100 * MIB).unwrap();
    assert_eq!(make_all(pool), 0, "what is promised is not made ready");
    assert!(ready() + claim.reserved_bytes() <= start.free_bytes);
    assert!(ready() > 0);
    drop(claim);
    // For a pool that becomes smaller.
    make_all(pool);
    pool.resize(96 * MIB).unwrap();
    assert!(ready() <= 96 * MIB && ready() > 80 * MIB);
    // When it is asked for, from the smallest file on, and when it is not wanted any more.
    pool.give_back_prefaulted(3 * MIB);
    assert!(ready() <= 93 * MIB && ready() > 80 * MIB);
    pool.want_prefaulted(vec![70 * MIB]);
    assert_eq!(ready(), 70 * MIB);
    pool.want_prefaulted(Vec::new());
    assert_eq!(ready(), 0);
    // A reservation that comes to nothing takes its memory along.
    pool.want_prefaulted(vec![70 * MIB]);
    make_all(pool);
    let claim = pool.try_reserve_ready(70 * MIB).unwrap();
    assert_eq!((ready(), claim.reserved_bytes()), (0, 4096));
    drop(claim);
    assert_eq!(pool.usage().unwrap().used_bytes, start.used_bytes);
    // A pool that goes keeps none, and makes none.
    make_all(pool);
    assert_eq!(allocated(pool), 70 * MIB);
    pool.disconnect().unwrap();
    assert_eq!((allocated(pool), make_all(pool)), (0, 0));
    assert!(crate::tmpfs::find(test.path()).unwrap().is_none());
}

#[test]
fn a_refused_reservation_leaves_what_is_ready() {
    let Some(test) = pool("a_refused_reservation_leaves_what_is_ready") else {
        return;
    };
    let pool = &test.pool;
    pool.want_prefaulted(vec![128 * MIB]);
    make_all(pool);
    let claim = pool.try_reserve(100 * MIB).unwrap();
    assert!(pool.try_reserve_ready(200 * MIB).is_err());
    assert!(pool.try_reserve_ready(u64::MAX).is_err());
    assert_eq!(pool.usage().unwrap().prefaulted_bytes, 128 * MIB);
    drop(claim);
}

#[test]
fn only_memory_of_our_own_is_made_ready() {
    let test = TestPool::directory(&std::env::temp_dir());
    test.pool.resize(CAPACITY_BYTES).unwrap();
    test.pool.want_prefaulted(vec![100 * MIB]);
    assert!(!test.pool.is_prefault_wanted());
    assert_eq!(test.pool.prefault().unwrap(), 0);
}

#[derive(Clone, Debug)]
enum Deed {
    Want(Vec<u64>),
    Make(u64),
    GiveBack(u64),
    Reserve(u64),
    Copy(u64),
    Drop(usize),
    Resize(u64),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let mib = 0..300 * MIB;
    let deed = prop_oneof![
        proptest::collection::vec(mib.clone(), 0..4).prop_map(Deed::Want),
        (0..CAPACITY_BYTES).prop_map(Deed::Make),
        (0..100 * MIB).prop_map(Deed::GiveBack),
        mib.clone().prop_map(Deed::Reserve),
        (0..160 * MIB).prop_map(Deed::Copy),
        (0_usize..8).prop_map(Deed::Drop),
        (1..300 * MIB).prop_map(Deed::Resize),
    ];
    proptest::collection::vec(deed, 1..16)
}

/// What holds room of the pool.
enum Holder {
    Claim(Reservation),
    Copy(Partial),
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    /// Whatever comes after what: what was promised can be had, and nothing is counted twice.
    #[test]
    fn the_books_are_those_of_the_kernel(deeds in deeds()) {
        let Some(test) = pool("the_books_are_those_of_the_kernel") else {
            return Ok(());
        };
        let pool = &test.pool;
        let mut holders = Vec::new();
        for deed in deeds {
            match deed {
                Deed::Want(sizes) => pool.want_prefaulted(sizes),
                Deed::Make(bytes) => {
                    let mut made = 0;
                    while made < bytes && pool.prefault().unwrap() > 0 {
                        made += HUGE_PAGE_BYTES;
                    }
                }
                Deed::GiveBack(bytes) => pool.give_back_prefaulted(bytes),
                Deed::Reserve(bytes) => {
                    let free = pool.usage().unwrap().free_bytes;
                    let claim = pool.try_reserve(bytes);
                    prop_assert_eq!(claim.is_ok(), pool.footprint_bytes(bytes) <= free);
                    holders.extend(claim.ok().map(Holder::Claim));
                }
                Deed::Copy(bytes) => {
                    let free = pool.usage().unwrap().free_bytes;
                    let claim = pool.try_reserve_ready(bytes);
                    prop_assert_eq!(claim.is_ok(), pool.footprint_bytes(bytes) <= free);
                    if let Ok(claim) = claim {
                        let size = usize::try_from(bytes).unwrap();
                        let partial = Partial::create(claim, origin_of(size)).unwrap();
                        partial.allocate(&(0..bytes)).unwrap();
                        holders.push(Holder::Copy(partial));
                    }
                }
                Deed::Drop(at) if at < holders.len() => match holders.swap_remove(at) {
                    Holder::Claim(claim) => drop(claim),
                    Holder::Copy(partial) => drop(partial),
                },
                Deed::Drop(_) => {}
                Deed::Resize(bytes) => {
                    let usage = pool.usage().unwrap();
                    let needed = usage.used_bytes + usage.reserved_bytes;
                    prop_assert_eq!(pool.resize(bytes).is_ok(), bytes >= needed);
                }
            }
            let usage = pool.usage().unwrap();
            let taken = usage.used_bytes + usage.reserved_bytes;
            prop_assert_eq!(usage.free_bytes, usage.capacity_bytes - taken);
            prop_assert_eq!(allocated(pool), usage.used_bytes + usage.prefaulted_bytes);
            prop_assert!(
                allocated(pool) + usage.reserved_bytes <= usage.capacity_bytes,
                "promised and not there: {:?}",
                usage
            );
        }
        drop(holders);
        let usage = pool.usage().unwrap();
        prop_assert_eq!((usage.used_bytes, usage.reserved_bytes), (0, 0));
    }
}

//! What was only looked up, and when it becomes a node.

use std::sync::Barrier;

use super::*;
use crate::ids::{FileId, HomeId};
use crate::testing::{attr_of, identity_of};

fn file(id: u64) -> Arc<HomeFile> {
    let identity = Identity {
        ino: id,
        ..identity_of(0)
    };
    Arc::new(HomeFile::new(
        FileId(id),
        HomeId(1),
        id,
        attr_of(identity),
        None,
    ))
}

fn descriptor() -> OwnedFd {
    OwnedFd::from(File::open("/dev/null").expect("a descriptor"))
}

#[test]
fn what_was_only_looked_up_is_no_node_until_somebody_wants_one() {
    let (nodes, file) = (NodeTable::new(0), file(5000));
    let id = nodes.look_up_file(&file, || None);
    assert_eq!(id, NodeId(5000));
    assert_eq!(nodes.look_up_file(&file, || None), id);
    assert!(matches!(nodes.target(id), Some(Target::File(known)) if known.id == file.id));
    assert!(nodes.opened(id).is_none());
    let node = nodes.get(id).expect("a node");
    assert!(Arc::ptr_eq(&node, &nodes.opened(id).expect("the node")));
    assert!(Arc::ptr_eq(&node, &nodes.get(id).expect("the node")));
    assert_eq!(node.target().file().map(|file| file.id), Some(file.id));
    // Two lookups are known of it, and one more comes.
    nodes.look_up_file(&file, || None);
    nodes.forget(id, 2);
    assert!(nodes.get(id).is_some());
    nodes.forget(id, 1);
    assert!(nodes.get(id).is_none());
    assert_eq!(file.with_live(|live| live.node()), None);
}

#[test]
fn what_was_only_looked_up_is_forgotten() {
    let (nodes, file) = (NodeTable::new(0), file(5000));
    let before = nodes.len();
    let id = nodes.look_up_file(&file, || Some(descriptor()));
    nodes.look_up_file(&file, || None);
    nodes.forget(id, 1);
    assert_eq!(nodes.len(), before + 1);
    nodes.forget(id, u64::MAX);
    assert_eq!(nodes.len(), before);
    assert_eq!(file.with_live(|live| live.node()), None);
    assert_eq!(Arc::strong_count(&file), 1);
}

#[test]
fn all_who_want_the_node_at_once_get_the_same() {
    const THREADS: u64 = 8;
    for round in 0..200 {
        let (nodes, file) = (NodeTable::new(0), file(5000 + round));
        let id = nodes.look_up_file(&file, || None);
        let start = Barrier::new(THREADS as usize);
        let got: Vec<Arc<Node>> = std::thread::scope(|scope| {
            let run = |number| {
                let (nodes, file, start) = (&nodes, &file, &start);
                scope.spawn(move || {
                    start.wait();
                    match number % 2 {
                        0 => nodes.set_anchor(id, file, descriptor()),
                        _ => assert_eq!(nodes.look_up_file(file, || None), id),
                    }
                    nodes.get(id).expect("a node")
                })
            };
            let threads: Vec<_> = (0..THREADS).map(run).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, Arc<Node>>| thread.join();
            threads
                .into_iter()
                .map(|it| join(it).expect("it ends"))
                .collect()
        });
        assert!(got.iter().all(|node| Arc::ptr_eq(node, &got[0])));
        assert!(got[0].anchor(&file).is_some());
        // The first lookup, and one of every second thread.
        nodes.forget(id, THREADS / 2);
        assert!(nodes.opened(id).is_some());
        nodes.forget(id, 1);
        assert!(nodes.target(id).is_none());
    }
}

#[test]
fn an_anchor_is_of_its_file_and_goes_with_it_into_the_node() {
    let (nodes, other) = (NodeTable::new(0), file(5001));
    let file = file(5000);
    let id = nodes.look_up_file(&file, || None);
    nodes.set_anchor(id, &other, descriptor());
    assert!(nodes.anchor(id, &file).is_none());
    nodes.set_anchor(id, &file, descriptor());
    let anchor = nodes.anchor(id, &file).expect("an anchor");
    assert!(nodes.anchor(id, &other).is_none());
    nodes.set_anchor(id, &file, descriptor());
    let same = |found: Option<Arc<OwnedFd>>| found.is_some_and(|it| Arc::ptr_eq(&it, &anchor));
    assert!(same(nodes.anchor(id, &file)), "the first stays");
    let node = nodes.get(id).expect("a node");
    assert!(same(node.anchor(&file)) && same(nodes.anchor(id, &file)));
    node.set_file(&other, None);
    assert!(nodes.anchor(id, &file).is_none() && nodes.anchor(id, &other).is_none());
}

#[test]
fn more_lookups_than_fit_are_counted_by_a_node() {
    let (nodes, file) = (NodeTable::new(0), file(5000));
    let id = nodes.look_up_file(&file, || None);
    nodes.nodes.insert(
        id,
        Known::LookedUp {
            file: Arc::clone(&file),
            anchor: None,
            lookups: u32::MAX,
        },
    );
    nodes.look_up_file(&file, || None);
    assert!(nodes.opened(id).is_some());
    nodes.forget(id, u64::from(u32::MAX));
    assert!(nodes.target(id).is_some());
    nodes.forget(id, 1);
    assert!(nodes.target(id).is_none());
}

#[test]
fn two_files_of_one_number_have_two_nodeids() {
    let (nodes, one, other) = (NodeTable::new(0), file(5000), file(5000));
    let id = nodes.look_up_file(&one, || None);
    let fresh = nodes.look_up_file(&other, || None);
    assert!(id == NodeId(5000) && fresh.0 >= FIRST_FRESH);
}

#[test]
fn what_is_known_of_a_file_that_was_looked_up_is_small() {
    assert!(size_of::<Known>() <= 24, "{}", size_of::<Known>());
}

//! Races between operations that no program can bring about at will, on a file system without FUSE.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use super::*;
use crate::home::WatchChoice;
use crate::ids::FileId;
use crate::rel_path::BadPath;
use crate::replica::{Digest, Partial, ReplicaOrigin};
use crate::settings::ColdSettings;
use crate::testing::TestPool;
use crate::virtual_file::NoVirtualFiles;

const NAME: &[u8] = b"f.gguf";

/// A file system over a models directory; what it registers for passthrough is nothing.
fn file_system(models: &Path, passthrough: bool) -> Arc<TieredFs> {
    with_settings(FsSettings {
        models_dir: models.to_owned(),
        passthrough,
        ..FsSettings::default()
    })
}

fn with_settings(settings: FsSettings) -> Arc<TieredFs> {
    let drainer = Arc::new(Drainer::start(|_| ()).unwrap());
    let (events, _) = unbounded();
    let (file_system, _) =
        TieredFs::new(settings, drainer, events, Arc::new(NoVirtualFiles)).unwrap();
    file_system
}

/// A models directory over a cold one, which are read only when they are asked for.
fn over_cold(models: &Path, cold: &Path) -> Arc<TieredFs> {
    with_settings(FsSettings {
        models_dir: models.to_owned(),
        cold: vec![ColdSettings {
            path: cold.to_owned(),
            watch: WatchChoice::Fixed(Watch::Rescan),
            rescan_interval: Duration::from_secs(3600),
        }],
        ..FsSettings::default()
    })
}

fn request(flags: i32) -> OpenRequest {
    OpenRequest {
        flags,
        ..OpenRequest::default()
    }
}

fn open(fs: &TieredFs, node: NodeId, flags: i32) -> FsResult<Opened> {
    let register = |_: &fs::File| Ok(Arc::new(()) as crate::node::Token);
    match fs.open(node, &request(flags), &register, Patience::HomeOnly)? {
        OpenReply::Ready(opened) => Ok(opened),
        OpenReply::Waits(_) | OpenReply::Held(_) => panic!("it waits"),
    }
}

fn create(fs: &TieredFs, flags: i32) -> FsResult<Opened> {
    let register = |_: &fs::File| Ok(Arc::new(()) as crate::node::Token);
    let create = CreateRequest {
        parent: NodeId::ROOT,
        name: NAME,
        mode: 0o644,
        open: request(flags | libc::O_CREAT),
    };
    fs.create(&create, &register).map(|(_, opened)| opened)
}

/// Makes the file resident, with contents that only the replica has.
fn promote(fs: &TieredFs, pool: &TestPool, node: NodeId) {
    let file = fs.target(node).unwrap().file().unwrap();
    let replica = replica_of(fs, pool, &file);
    assert!(fs.publish(&file, replica, file.writes()).is_ok());
}

fn replica_of(fs: &TieredFs, pool: &TestPool, file: &HomeFile) -> Replica {
    let source = file.attr().identity;
    let origin = ReplicaOrigin {
        home: fs.home_of(file).path().to_owned(),
        path: fs.union().path_of(file).unwrap(),
        source,
    };
    let claim = pool.pool.try_reserve(source.size).unwrap();
    let partial = Partial::create(claim, origin).unwrap();
    let length = usize::try_from(source.size).unwrap();
    partial.file().write_all_at(&vec![b'r'; length], 0).unwrap();
    partial.publish(Digest::blake3([0; 32])).unwrap()
}

fn first_byte(fs: &TieredFs, opened: &Opened) -> u8 {
    let mut byte = [0];
    assert_eq!(fs.read(opened.handle, 0, &mut byte).unwrap(), 1);
    byte[0]
}

/// The kernel asks to create a name when it has found none; meanwhile somebody may have made it,
/// promoted it and opened it. A writer must never be given the replica to write to.
#[test]
fn a_create_that_comes_too_late_writes_to_no_replica() {
    for passthrough in [true, false] {
        let models = tempfile::tempdir().unwrap();
        let home = models.path().join("f.gguf");
        fs::write(&home, "home").unwrap();
        let pool = TestPool::directory(&std::env::temp_dir());
        let fs = file_system(models.path(), passthrough);
        let node = fs.lookup(NodeId::ROOT, NAME, 0).unwrap().node;
        promote(&fs, &pool, node);
        let reader = open(&fs, node, libc::O_RDONLY).unwrap();
        assert_eq!(first_byte(&fs, &reader), b'r');

        let error = create(&fs, libc::O_RDWR).unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Retired), "{error}");
        // As the kernel does: it is looked up again and opened, and once more, since its readers keep the node.
        let again = fs.lookup(NodeId::ROOT, NAME, 0).unwrap().node;
        let error = open(&fs, again, libc::O_RDWR).expect_err("is refused");
        assert!(matches!(error.kind, ErrorKind::Retired), "{error}");
        let again = fs.lookup(NodeId::ROOT, NAME, 0).unwrap().node;
        assert_ne!(again, node);
        let writer = open(&fs, again, libc::O_RDWR).unwrap();
        assert_eq!(first_byte(&fs, &writer), b'h');
        fs.write(again, writer.handle, 0, b"H", 0).unwrap();
        assert_eq!(fs::read(&home).unwrap(), b"Home");
        assert_eq!(first_byte(&fs, &reader), b'r');
        fs.release(writer.handle);
        fs.release(reader.handle);
        assert_eq!(fs.handle_count(), 0);
    }
}

/// A `stat` put a change behind our back on record and nobody else saw a difference any more: whoever
/// opened beside a reader of the replica got the old bytes, and the replica was offered for ever.
#[test]
fn a_change_that_a_stat_saw_first_is_no_secret() {
    for passthrough in [true, false] {
        let models = tempfile::tempdir().unwrap();
        let home = models.path().join("f.gguf");
        fs::write(&home, "home").unwrap();
        let pool = TestPool::directory(&std::env::temp_dir());
        let fs = file_system(models.path(), passthrough);
        let node = fs.lookup(NodeId::ROOT, NAME, 0).unwrap().node;
        promote(&fs, &pool, node);
        let reader = open(&fs, node, libc::O_RDONLY).unwrap();
        fs::write(&home, "HOMES").unwrap();

        let file = fs.target(node).unwrap().file().unwrap();
        assert_eq!(fs.getattr(node, None).unwrap().attr.identity.size, 5);
        assert!(!file.is_resident(), "passthrough: {passthrough}");
        let again = fs.lookup(NodeId::ROOT, NAME, 0).unwrap().node;
        assert_ne!(again, node);
        let other = open(&fs, again, libc::O_RDONLY).unwrap();
        assert_eq!(first_byte(&fs, &other), b'H');
        assert_eq!(first_byte(&fs, &reader), b'r', "it keeps what it opened");
    }
}

/// With the daemon serving, pages of a replica were kept for who read the changed file afterwards: the
/// replica had been recorded with the size and time of the change.
#[test]
fn pages_of_a_replica_are_not_kept_for_what_its_file_has_become() {
    let models = tempfile::tempdir().unwrap();
    let home = models.path().join("f.gguf");
    fs::write(&home, "home").unwrap();
    let pool = TestPool::directory(&std::env::temp_dir());
    let fs = file_system(models.path(), false);
    let node = fs.lookup(NodeId::ROOT, NAME, 0).unwrap().node;
    promote(&fs, &pool, node);
    let reader = open(&fs, node, libc::O_RDONLY).unwrap();
    let unchanged = open(&fs, node, libc::O_RDONLY).unwrap();
    assert!(matches!(unchanged.served, Served::Cached(true)));
    fs::write(&home, "HOMES").unwrap();

    let refused = open(&fs, node, libc::O_RDONLY).unwrap_err();
    assert!(matches!(refused.kind, ErrorKind::Retired), "{refused}");
    let file = fs.target(node).unwrap().file().unwrap();
    file.set_attr(fs.homes()[0].stat(&RelPath::new(NAME).unwrap()).unwrap());
    // A thread that had the nodeid already.
    let late = open(&fs, node, libc::O_RDONLY).unwrap();
    fs.release(late.handle);
    fs.release(unchanged.handle);
    fs.release(reader.handle);
    let changed = open(&fs, node, libc::O_RDONLY).unwrap();
    assert!(matches!(changed.served, Served::Cached(false)));
    assert_eq!(first_byte(&fs, &changed), b'H');
}

/// What one process has written another may make durable, by a descriptor that only reads; it was told
/// that it had, and nothing was done.
#[test]
fn fsync_of_a_reader_reaches_the_home() {
    let models = tempfile::tempdir().unwrap();
    let home = models.path().join("f.gguf");
    fs::write(&home, "home").unwrap();
    let pool = TestPool::directory(&std::env::temp_dir());
    let fs = file_system(models.path(), true);
    let synced = |opened: &Opened| {
        let open = fs.open_file_of(opened.handle).unwrap();
        fs.fsync(opened.handle, false).unwrap();
        let file = fs.home_file_of(&open).unwrap()?;
        Some(Identity::of_fd(&*file).unwrap())
    };
    let wanted = Some(Identity::of_fd(fs::File::open(&home).unwrap()).unwrap());
    let node = fs.lookup(NodeId::ROOT, NAME, 0).unwrap().node;
    let at_home = open(&fs, node, libc::O_RDONLY).unwrap();
    assert_eq!(synced(&at_home), wanted);
    promote(&fs, &pool, node);
    let node = fs.lookup(NodeId::ROOT, NAME, 0).unwrap().node;
    let on_replica = open(&fs, node, libc::O_RDONLY).unwrap();
    assert_eq!(first_byte(&fs, &on_replica), b'r');
    assert_eq!(synced(&on_replica), wanted);
}

/// inotify tells nothing of a file that is changed through a link outside its home; the setting was
/// never looked at, and the replica served for ever.
#[test]
fn stale_check_interval_ends_a_replica_that_inotify_says_nothing_of() {
    let top = tempfile::tempdir().unwrap();
    let (models, cold) = (top.path().join("models"), top.path().join("cold"));
    for home in [&models, &cold] {
        fs::create_dir(home).unwrap();
        fs::write(home.join(home.file_name().unwrap()), "home").unwrap();
    }
    let fs = with_settings(FsSettings {
        models_dir: models.clone(),
        cold: vec![ColdSettings {
            path: cold.clone(),
            watch: WatchChoice::Fixed(Watch::Inotify),
            rescan_interval: Duration::from_secs(3600),
        }],
        stale_check_interval: Duration::from_millis(20),
        ..FsSettings::default()
    });
    fs.start().unwrap();
    let pool = TestPool::directory(&std::env::temp_dir());
    for home in [&models, &cold] {
        let name = home.file_name().unwrap();
        let node = fs.lookup(NodeId::ROOT, name.as_encoded_bytes(), 0).unwrap();
        let file = fs.target(node.node).unwrap().file().unwrap();
        promote(&fs, &pool, node.node);
        std::thread::sleep(Duration::from_millis(100));
        assert!(file.is_resident(), "it was not changed");

        let link = top.path().join("link");
        fs::hard_link(home.join(name), &link).unwrap();
        fs::write(&link, "HOMES").unwrap();
        fs::remove_file(&link).unwrap();
        if home == &models {
            // Each open looks at it.
            let opened = open(&fs, node.node, libc::O_RDONLY).unwrap();
            assert_eq!(first_byte(&fs, &opened), b'H');
            fs.release(opened.handle);
        }
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while file.is_resident() {
            assert!(std::time::Instant::now() < deadline, "{home:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    fs.stop();
}

/// A models directory and a cold one that has `d/cold` are kept true by inotify.
fn watched_beside_cold(top: &Path) -> Arc<TieredFs> {
    let (models, cold) = (top.join("models"), top.join("cold"));
    fs::create_dir(&models).unwrap();
    fs::create_dir_all(cold.join("d")).unwrap();
    fs::write(cold.join("d/cold"), "cold").unwrap();
    let fs = with_settings(FsSettings {
        models_dir: models,
        cold: vec![ColdSettings {
            path: cold,
            watch: WatchChoice::Fixed(Watch::Inotify),
            rescan_interval: Duration::from_secs(3600),
        }],
        ..FsSettings::default()
    });
    fs.start().unwrap();
    fs
}

fn until_found(fs: &TieredFs, path: &str) -> Found {
    let path = RelPath::new(path.as_bytes()).unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(found) = fs.union().find(&path) {
            return found;
        }
        assert!(std::time::Instant::now() < deadline, "{path}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// inotify tells of a directory's end when the last descriptor of it is closed; by then another one may have its
/// place, whose files were taken out of the union for a moment, and their replicas for good.
#[test]
fn the_late_end_of_a_directory_is_not_that_of_the_one_in_its_place() {
    let top = tempfile::tempdir().unwrap();
    let fs = watched_beside_cold(top.path());
    let models = top.path().join("models");
    fs::create_dir(models.join("d")).unwrap();
    fs::write(models.join("d/before"), "home").unwrap();
    until_found(&fs, "d/before");
    let held = fs::File::open(models.join("d")).unwrap();
    fs::remove_dir_all(models.join("d")).unwrap();
    assert!(fs.rescan(Duration::from_secs(10)));
    assert!(
        fs.union()
            .find(&RelPath::new(b"d/before").unwrap())
            .is_none()
    );

    let d = fs.lookup(NodeId::ROOT, b"d", 0).unwrap().node;
    let create = CreateRequest {
        parent: d,
        name: NAME,
        mode: 0o644,
        open: request(libc::O_CREAT | libc::O_WRONLY),
    };
    let register = |_: &fs::File| Ok(Arc::new(()) as crate::node::Token);
    let (made, opened) = fs.create(&create, &register).unwrap();
    fs.write(made.node, opened.handle, 0, b"home", 0).unwrap();
    fs.release(opened.handle);
    // Its thread watches the new directory before it answers.
    assert!(fs.rescan(Duration::from_secs(10)));
    let pool = TestPool::directory(&std::env::temp_dir());
    promote(&fs, &pool, made.node);
    let file = fs.target(made.node).unwrap().file().unwrap();

    drop(held);
    fs::write(models.join("d/after"), "home").unwrap();
    until_found(&fs, "d/after");
    assert!(file.is_resident());
    let found = until_found(&fs, "d/f.gguf");
    assert!(matches!(found, Found::File(found) if found.id == file.id));
    fs.stop();
}

/// Merged with a directory that came into its place, one of cold storage was watched under a number that was gone.
#[test]
fn a_cold_directory_that_another_joins_is_still_watched() {
    let top = tempfile::tempdir().unwrap();
    let fs = watched_beside_cold(top.path());
    let models = top.path().join("models");
    fs::create_dir(models.join("own")).unwrap();
    until_found(&fs, "own");
    fs::write(models.join("d"), "a file hides the cold directory").unwrap();
    let is_file = |found| matches!(found, Found::File(_));
    while !is_file(until_found(&fs, "d")) {
        std::thread::yield_now();
    }
    let (d, own) = ((NodeId::ROOT, &b"d"[..]), (NodeId::ROOT, &b"own"[..]));
    fs.rename(own, d, RenameMode::Exchange, 0).unwrap();
    until_found(&fs, "d/cold");

    fs::write(top.path().join("cold/d/new"), "cold").unwrap();
    until_found(&fs, "d/new");
    fs.stop();
}

/// A name too deep to be reached by a path was made in the home all the same, listed, and could be
/// neither looked up nor removed.
#[test]
fn nothing_is_made_where_no_path_leads() {
    let models = tempfile::tempdir().unwrap();
    let fs = file_system(models.path(), true);
    let name = [b'd'; 255];
    let (mut parent, mut depth) = (NodeId::ROOT, 0);
    let too_deep = loop {
        match fs.mkdir(parent, &name, 0o755, 0, 0) {
            Ok(made) => (parent, depth) = (made.node, depth + 1),
            Err(error) => break error,
        }
    };
    assert!(matches!(
        too_deep.kind,
        ErrorKind::BadPath(BadPath::TooLong)
    ));
    // 16 names and the slashes between them are 4095 bytes.
    assert_eq!(depth, 16);
    let listed = fs.opendir(parent).unwrap();
    assert!(fs.readdir(parent, listed, true).unwrap().0.is_empty());
}

/// Of directories renamed into the bottoms of others a tree was made deeper and deeper, until a walk over it overflowed
/// its thread's stack, and the daemon died.
#[test]
fn nothing_is_moved_where_no_path_leads() {
    let models = tempfile::tempdir().unwrap();
    let fs = file_system(models.path(), true);
    let name = [b'd'; 255];
    let chain = |top: &[u8], length| {
        let made = fs.mkdir(NodeId::ROOT, top, 0o755, 0, 0).unwrap().node;
        (0..length).fold(made, |parent, _| {
            fs.mkdir(parent, &name, 0o755, 0, 0).unwrap().node
        })
    };
    let short = (NodeId::ROOT, &b"short"[..]);
    let long = (NodeId::ROOT, &b"long"[..]);
    chain(b"short", 8);
    let bottom = chain(b"long", 8);
    let beside = fs.mkdir(bottom, b"beside", 0o755, 0, 0).unwrap().node;
    let (into, other) = ((bottom, &b"x"[..]), (beside, &b"y"[..]));
    let refused = |done: FsResult<()>| {
        let error = done.unwrap_err();
        assert!(
            matches!(error.kind, ErrorKind::BadPath(BadPath::TooLong)),
            "{error}"
        );
    };
    refused(fs.rename(short, into, RenameMode::Replace, 0));
    fs.mkdir(beside, b"y", 0o755, 0, 0).unwrap();
    refused(fs.rename(short, other, RenameMode::Exchange, 0));
    refused(fs.rename(other, short, RenameMode::Exchange, 0));
    // Seven names of 255 bytes less, and it is not too long any more.
    let shallow = fs
        .mkdir(NodeId::ROOT, b"shallow", 0o755, 0, 0)
        .unwrap()
        .node;
    fs.rename(short, (shallow, b"x"), RenameMode::Replace, 0)
        .unwrap();
    fs.rename((shallow, b"x"), short, RenameMode::Replace, 0)
        .unwrap();
    fs.rename(long, (shallow, b"x"), RenameMode::NoReplace, 0)
        .unwrap();
}

/// However deep a home's tree is, which others can change: a walk over it takes no more stack.
#[test]
fn no_walk_over_a_deep_tree_takes_a_deep_stack() {
    const DEPTH: usize = 400;
    let top = tempfile::tempdir().unwrap();
    let (models, cold) = (top.path().join("models"), top.path().join("cold"));
    let deep = ["d"; DEPTH].join("/");
    for (home, own) in [(models.join("own"), "own"), (cold.join("d"), "cold")] {
        fs::create_dir_all(home.join(&deep)).unwrap();
        fs::write(home.join(&deep).join(own), own).unwrap();
    }
    fs::write(models.join("d"), "a file hides the cold directory").unwrap();
    let fs = over_cold(&models, &cold);
    fs.start().unwrap();
    assert!(fs.rescan(Duration::from_secs(60)));
    let walk = || {
        let (d, own) = ((NodeId::ROOT, &b"d"[..]), (NodeId::ROOT, &b"own"[..]));
        assert!(fs.union().hidden_residents(DirId::ROOT, b"d").is_empty());
        fs.rename(own, d, RenameMode::Exchange, 0).unwrap();
        let Some(Found::Directory(merged)) = fs.union().look_up(DirId::ROOT, b"d") else {
            panic!("it is a directory");
        };
        assert!(fs.union().has_cold_below(merged));
        assert_eq!(fs.union().cold_below(merged).len(), DEPTH + 1);
        assert_eq!(fs.union().path_bytes_below(merged), 2 * DEPTH + 4);
        let mut paths = Vec::new();
        fs.union().for_each_path(|path, _| paths.push(path.len()));
        assert_eq!(paths, [2 + 2 * DEPTH + 4, 2 + 2 * DEPTH + 3, 3]);
        fs.mkdir(NodeId::ROOT, b"new", 0o755, 0, 0).unwrap();
        fs::rename(models.join("d"), top.path().join("gone")).unwrap();
        let home = &fs.homes()[0];
        fs.union().refresh_name(home, DirId::ROOT, b"d").unwrap();
        let left = fs.union().directory(merged).unwrap();
        assert!(!left.in_models);
    };
    std::thread::scope(|scope| {
        let small = std::thread::Builder::new().stack_size(128 << 10);
        small.spawn_scoped(scope, walk).unwrap().join().unwrap();
    });
    fs.stop();
}

/// Emptied through `/proc/self/fd` of a reader, a cold file was replaced, and whoever asked was told
/// ENOENT: the kernel asks a second time, with the same node, of which no name is left.
#[test]
fn emptying_a_cold_file_without_a_name_is_stale() {
    let (models, cold) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(cold.path().join("f.gguf"), "cold").unwrap();
    let fs = over_cold(models.path(), cold.path());
    fs.start().unwrap();
    let node = fs.lookup(NodeId::ROOT, NAME, 0).unwrap().node;
    let reader = open(&fs, node, libc::O_RDONLY).unwrap();
    for _ in 0..2 {
        let refused = open(&fs, node, libc::O_RDWR | libc::O_TRUNC).unwrap_err();
        assert!(matches!(refused.kind, ErrorKind::Retired), "{refused}");
    }
    assert_eq!(first_byte(&fs, &reader), b'c');
    fs.stop();
}

/// Root empties the file for whoever opens it, and the kernel leaves root's files what they are.
#[test]
fn emptying_a_file_takes_its_set_id_bits_away() {
    let models = tempfile::tempdir().unwrap();
    let home = models.path().join("f.gguf");
    fs::write(&home, "home").unwrap();
    let fs = file_system(models.path(), true);
    let node = fs.lookup(NodeId::ROOT, NAME, 0).unwrap().node;
    for (uid, before, after) in [(0, 0o6777, 0o6777), (1, 0o6777, 0o777), (1, 0o6767, 0o2767)] {
        fs::set_permissions(&home, fs::Permissions::from_mode(before)).unwrap();
        let by = OpenRequest {
            uid,
            ..request(libc::O_WRONLY | libc::O_TRUNC)
        };
        let register = |_: &fs::File| Ok(Arc::new(()) as crate::node::Token);
        let Ok(OpenReply::Ready(opened)) = fs.open(node, &by, &register, Patience::None) else {
            panic!("it was not opened");
        };
        fs.release(opened.handle);
        assert_eq!(fs.getattr(node, None).unwrap().attr.permissions, after);
    }
}

/// Where so many files are looked up that one gets no anchor, what is open without a name could be
/// neither truncated nor given other permissions.
#[test]
fn an_open_file_without_name_or_anchor_can_be_changed() {
    let models = tempfile::tempdir().unwrap();
    fs::write(models.path().join("f.gguf"), "home").unwrap();
    let mut fs = file_system(models.path(), true);
    Arc::get_mut(&mut fs).unwrap().anchors_below = 0;
    let node = fs.lookup(NodeId::ROOT, NAME, 0).unwrap().node;
    let writer = open(&fs, node, libc::O_RDWR).unwrap();
    fs.unlink(NodeId::ROOT, NAME, 0).unwrap();
    let set = |set: SetAttr, handle| fs.setattr(node, handle, &set, &request(0)).unwrap();
    let size = Some(2);
    let shown = set(
        SetAttr {
            size,
            ..SetAttr::default()
        },
        Some(writer.handle),
    );
    assert_eq!((shown.attr.identity.size, shown.attr.nlink), (2, 0));
    let mode = Some(0o600);
    let shown = set(
        SetAttr {
            mode,
            ..SetAttr::default()
        },
        None,
    );
    assert_eq!(shown.attr.permissions, 0o600);
    fs.write(node, writer.handle, 0, b"HOMES", 0).unwrap();
    assert_eq!(fs.getattr(node, None).unwrap().attr.identity.size, 5);
}

/// A writable mapping outlives its descriptor, and the kernel's word that the writer is gone; so does
/// who writes in the home itself. Both were copied while they wrote.
#[test]
fn what_is_mapped_or_open_for_writing_in_its_home_is_not_promoted() {
    let models = tempfile::tempdir().unwrap();
    let home = models.path().join("f.gguf");
    fs::write(&home, "home").unwrap();
    let pool = TestPool::directory(&std::env::temp_dir());
    let fs = file_system(models.path(), true);
    let node = fs.lookup(NodeId::ROOT, NAME, 0).unwrap().node;
    let file = fs.target(node).unwrap().file().unwrap();
    let writer = fs::OpenOptions::new().write(true).open(&home).unwrap();
    let busy = fs.open_to_copy(&file).unwrap_err();
    assert!(matches!(busy.kind, ErrorKind::Busy(_)), "{busy}");
    let published = fs.publish(&file, replica_of(&fs, &pool, &file), file.writes());
    assert!(matches!(published.unwrap_err().0.kind, ErrorKind::Busy(_)));
    drop(writer);
    fs.open_to_copy(&file).unwrap();
    promote(&fs, &pool, node);
    assert!(file.is_resident());
}

/// The machine behind a pool does not answer: who opens then reads the home, at once and without asking
/// the pool; who reads already keeps what is open; when it answers again, nothing was forgotten.
#[test]
fn a_pool_that_does_not_answer_gets_no_new_open_and_loses_nothing() {
    let models = tempfile::tempdir().unwrap();
    fs::write(models.path().join("f.gguf"), "home").unwrap();
    let pool = TestPool::directory(&std::env::temp_dir());
    let fs = file_system(models.path(), true);
    let node = fs.lookup(NodeId::ROOT, NAME, 0).unwrap().node;
    promote(&fs, &pool, node);
    let reader = open(&fs, node, libc::O_RDONLY).unwrap();

    fs.set_reach(&pool.pool, Reach::Silent);
    assert!(
        pool.pool.try_reserve(1).is_err(),
        "nothing new is copied into it"
    );
    let elsewhere = fs.lookup(NodeId::ROOT, NAME, 0).unwrap().node;
    assert_ne!(elsewhere, node, "who holds the node keeps it to itself");
    let other = open(&fs, elsewhere, libc::O_RDONLY).unwrap();
    assert_eq!(
        (first_byte(&fs, &other), first_byte(&fs, &reader)),
        (b'h', b'r')
    );
    fs.release(other.handle);
    fs.release(reader.handle);

    fs.set_reach(&pool.pool, Reach::Answers);
    let back = fs.lookup(NodeId::ROOT, NAME, 0).unwrap().node;
    let again = open(&fs, back, libc::O_RDONLY).unwrap();
    assert_eq!(first_byte(&fs, &again), b'r');
    fs.release(again.handle);

    // Lost: it is not asked to take names away, and never answers again.
    let names = pool.names();
    fs.set_reach(&pool.pool, Reach::Lost);
    fs.set_reach(&pool.pool, Reach::Answers);
    assert_eq!(pool.pool.reach(), Reach::Lost);
    let file = fs.target(back).unwrap().file().unwrap();
    fs.drop_replicas(&file, Some(pool.pool.id()), "lost");
    assert!(!file.is_resident());
    assert_eq!(pool.names(), names);
}

/// Whoever is sent elsewhere has changed nothing and left nothing behind.
#[test]
fn a_writer_that_is_sent_elsewhere_leaves_no_trace() {
    let models = tempfile::tempdir().unwrap();
    let home = models.path().join("f.gguf");
    fs::File::create(&home).unwrap().write_all(b"home").unwrap();
    let pool = TestPool::directory(&std::env::temp_dir());
    let fs = file_system(models.path(), true);
    let node = fs.lookup(NodeId::ROOT, NAME, 0).unwrap().node;
    promote(&fs, &pool, node);
    let reader = open(&fs, node, libc::O_RDONLY).unwrap();
    let file: FileId = fs.target(node).unwrap().file().unwrap().id;

    let refused = open(&fs, node, libc::O_WRONLY | libc::O_TRUNC).unwrap_err();
    assert!(matches!(refused.kind, ErrorKind::Retired), "{refused}");
    assert_eq!(fs::read(&home).unwrap(), b"home");
    assert_eq!(fs.handle_count(), 1);
    fs.release(reader.handle);
    let again = fs.lookup(NodeId::ROOT, NAME, 0).unwrap().node;
    let known = fs.target(again).unwrap().file().unwrap();
    assert_eq!(known.id, file);
    // No writer is counted any more, so it can be promoted.
    promote(&fs, &pool, again);
    assert!(known.is_resident());
}

/// A directory that its first home lost went on with that home's permissions until another scan of
/// the next one (a random sequence found it).
#[test]
fn a_directory_that_its_first_home_lost_shows_the_next_ones_permissions() {
    let homes = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    for (home, mode) in homes.iter().zip([0o775, 0o750]) {
        let directory = home.path().join("d");
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).unwrap();
    }
    let first = Home::open_models(homes[0].path()).unwrap();
    let second = Home::open_cold(
        HomeId(1),
        homes[1].path(),
        WatchChoice::Fixed(Watch::Rescan),
    )
    .unwrap();
    let root = first.stat(&RelPath::root()).unwrap();
    let union = Union::new(root, 2);
    for home in [&first, &second] {
        union.refresh_directory(home, DirId::ROOT).unwrap();
    }
    let permissions = || match union.look_up(DirId::ROOT, b"d") {
        Some(Found::Directory(id)) => union.directory(id).unwrap().attr.permissions,
        found => panic!("{found:?}"),
    };
    assert_eq!(permissions(), 0o775);
    fs::remove_dir(homes[0].path().join("d")).unwrap();
    union.refresh_name(&first, DirId::ROOT, b"d").unwrap();
    assert_eq!(permissions(), 0o750);
}

/// Found by pjdfstest, once in forty runs: what a closing writer or another `stat` had seen before was recorded
/// after what was just set, and shown to who had set it.
#[test]
fn who_sets_times_is_shown_them_whatever_others_see_meanwhile() {
    let models = tempfile::tempdir().unwrap();
    fs::write(models.path().join("f.gguf"), "home").unwrap();
    let fs = file_system(models.path(), true);
    let node = fs.lookup(NodeId::ROOT, NAME, 0).unwrap().node;
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let setter = scope.spawn(|| {
            for second in 1..=100_000u32 {
                let after = Duration::from_secs(second.into());
                let set = SetAttr {
                    mtime: Some(Time::At(std::time::UNIX_EPOCH + after)),
                    ..SetAttr::default()
                };
                let shown = fs.setattr(node, None, &set, &request(0)).unwrap();
                let expected_ns = i64::from(second) * 1_000_000_000;
                assert_eq!(shown.attr.identity.mtime_ns, expected_ns);
            }
        });
        for _ in 0..3 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let writer = open(&fs, node, libc::O_WRONLY).unwrap();
                    fs.getattr(node, None).unwrap();
                    fs.release(writer.handle);
                }
            });
        }
        let set = setter.join();
        over.store(true, Ordering::Relaxed);
        set.unwrap();
    });
}

/// The kernel may not have been told yet that the name leads to another node; until then opens came to
/// the one that is held on the old replica.
#[test]
fn an_open_that_comes_before_the_notice_is_given_nothing_old() {
    let models = tempfile::tempdir().unwrap();
    fs::write(models.path().join("f.gguf"), "home").unwrap();
    let pool = TestPool::directory(&std::env::temp_dir());
    let fs = file_system(models.path(), true);
    let node = fs.lookup(NodeId::ROOT, NAME, 0).unwrap().node;
    promote(&fs, &pool, node);
    let reader = open(&fs, node, libc::O_RDONLY).unwrap();
    let emptied = SetAttr {
        size: Some(2),
        ..SetAttr::default()
    };
    fs.setattr(node, None, &emptied, &request(0)).unwrap();
    let by = |tid: u32| {
        let register = |_: &fs::File| Ok(Arc::new(()) as crate::node::Token);
        let request = OpenRequest {
            pid: tid,
            ..request(libc::O_RDONLY)
        };
        fs.open(node, &request, &register, Patience::HomeOnly)
    };
    for tid in [1, 2] {
        let error = by(tid).map(drop).expect_err("is sent on");
        assert!(matches!(error.kind, ErrorKind::Retired), "{error}");
        // Who comes again has no name, but a descriptor of what the reader has.
        let Ok(OpenReply::Ready(same)) = by(tid) else {
            panic!("sent on twice");
        };
        fs.release(same.handle);
    }
    let again = fs.lookup(NodeId::ROOT, NAME, 0).unwrap().node;
    assert_ne!(again, node);
    let now = open(&fs, again, libc::O_RDONLY).unwrap();
    assert_eq!(first_byte(&fs, &now), b'h');
    assert_eq!(first_byte(&fs, &reader), b'r');
    fs.release(now.handle);
    fs.release(reader.handle);
}

/// Who looks a file up for the first time asked the tree for its path while he held the file's live state; who walks
/// the tree holds it and asks for live states: with a third who wanted to change the tree, none went on.
#[test]
fn looking_up_walking_and_changing_the_tree_do_not_wait_for_each_other() {
    let models = tempfile::tempdir().unwrap();
    for number in 0..200 {
        fs::write(models.path().join(format!("{number}")), "x").unwrap();
    }
    let fs = file_system(models.path(), true);
    fs.start().unwrap();
    let has_ended = std::sync::atomic::AtomicBool::new(false);
    let goes_on = || !has_ended.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while goes_on() {
                fs.union().for_each_file(|file| file.with_live(|_| ()));
            }
        });
        scope.spawn(|| {
            while goes_on() {
                let made = fs.mknod(NodeId::ROOT, b"made", libc::S_IFREG | 0o644, 0, (0, 0));
                let node = made.unwrap().node;
                fs.unlink(NodeId::ROOT, b"made", 0).unwrap();
                fs.forget(node, 1);
            }
        });
        for _ in 0..20 {
            for number in 0..200 {
                let name = format!("{number}");
                let node = fs.lookup(NodeId::ROOT, name.as_bytes(), 0).unwrap().node;
                fs.forget(node, 1);
            }
        }
        has_ended.store(true, Ordering::Relaxed);
    });
}

/// A name may lead to another file than the one that the kernel has checked: that one is not given out, not changed, and
/// not made a part of the tree below a directory that it is not in.
#[test]
fn what_has_taken_a_name_is_not_taken_for_what_had_it() {
    let top = tempfile::tempdir().unwrap();
    let at = |path: &str| top.path().join(path);
    for directory in ["models/d", "models/private", "cold"] {
        fs::create_dir_all(at(directory)).unwrap();
    }
    for (path, text) in [
        ("models/own", "own"),
        ("models/other", "other"),
        ("models/d/within", "within"),
        ("models/private/secret", "secret"),
        ("cold/own-cold", "own"),
        ("cold/other-cold", "other"),
    ] {
        fs::write(at(path), text).unwrap();
    }
    let fs = with_settings(FsSettings {
        models_dir: at("models"),
        cold: vec![ColdSettings {
            path: at("cold"),
            watch: WatchChoice::Fixed(Watch::Rescan),
            rescan_interval: Duration::from_secs(1000),
        }],
        passthrough: true,
        ..FsSettings::default()
    });
    // Nothing tells of changes: no thread is started.
    let models = fs.models();
    for name in [&b"own"[..], b"other", b"d", b"private"] {
        fs.see_name(models, DirId::ROOT, name);
    }
    fs.see_name(&fs.homes()[1], DirId::ROOT, b"own-cold");
    let swap = |one: &str, two: &str| {
        let flags = rustix::fs::RenameFlags::EXCHANGE;
        let cwd = rustix::fs::CWD;
        rustix::fs::renameat_with(cwd, at(one), cwd, at(two), flags).unwrap();
    };
    let is_displaced = |done: FsResult<()>| {
        let error = done.expect_err("is refused");
        assert_eq!(crate::errno::to_errno(&error), libc::ESTALE, "{error}");
    };
    let look = |name: &str| fs.lookup(NodeId::ROOT, name.as_bytes(), 0).unwrap().node;

    let cold = look("own-cold");
    swap("cold/own-cold", "cold/other-cold");
    is_displaced(open(&fs, cold, libc::O_RDONLY).map(drop));
    // It was looked at again: whoever asks now finds what is there.
    let now = look("own-cold");
    assert_ne!(now, cold);
    let opened = open(&fs, now, libc::O_RDONLY).unwrap();
    fs.release(opened.handle);

    let own = fs.target(look("own")).unwrap().file().unwrap();
    is_displaced(fs.must_be(&own, fs::File::open(at("models/other")).unwrap()));
    fs.must_be(&own, fs::File::open(at("models/own")).unwrap())
        .unwrap();

    let directory = look("d");
    swap("models/d", "models/private");
    let mode = SetAttr {
        mode: Some(0o777),
        ..SetAttr::default()
    };
    is_displaced(fs.setattr(directory, None, &mode, &request(0)).map(drop));
    let mode = fs::metadata(at("models/d")).unwrap().permissions().mode();
    assert_ne!(mode & 0o7777, 0o777);
    swap("models/d", "models/private");
    fs.see_name(models, DirId::ROOT, b"d");
    let Some(Found::Directory(id)) = fs.union().look_up(DirId::ROOT, b"d") else {
        panic!("no directory");
    };
    // What the other holds is not seen in it, but where it is.
    swap("models/d", "models/private");
    fs.see_name(models, id, b"secret");
    assert!(fs.union().look_up(id, b"secret").is_none());
    let Some(Found::Directory(now)) = fs.union().look_up(DirId::ROOT, b"d") else {
        panic!("no directory");
    };
    fs.see_name(models, now, b"secret");
    assert!(fs.union().look_up(now, b"secret").is_some());
}

/// What was removed, replaced or moved away in the home a moment ago was still opened for writing by its
/// old descriptor: what was written was nowhere, or in a file elsewhere that nobody had named.
#[test]
fn what_is_written_goes_to_no_file_that_was_moved_away() {
    const THREAD: u32 = 4242;
    let top = tempfile::tempdir().unwrap();
    let (models, away) = (top.path().join("models"), top.path().join("away"));
    let home = models.join("f.gguf");
    let is_stale = |error: FsError| crate::errno::to_errno(&error) == libc::ESTALE;
    let by = |flags| OpenRequest {
        pid: THREAD,
        ..request(flags)
    };
    let set = |mode, size| SetAttr {
        mode,
        size,
        ..SetAttr::default()
    };
    let parted: [&dyn Fn(); 3] = [
        &|| fs::rename(&home, &away).unwrap(),
        &|| {
            fs::hard_link(&home, &away).unwrap();
            fs::remove_file(&home).unwrap();
        },
        &|| {
            fs::rename(&home, &away).unwrap();
            fs::write(&home, "other").unwrap();
        },
    ];
    for (case, part) in parted.iter().enumerate() {
        let _ = fs::remove_dir_all(&models);
        let _ = fs::remove_file(&away);
        fs::create_dir(&models).unwrap();
        fs::write(&home, "home").unwrap();
        fs::set_permissions(&home, fs::Permissions::from_mode(0o644)).unwrap();
        let fs = file_system(&models, true);
        let node = fs.lookup(NodeId::ROOT, NAME, 0).unwrap().node;
        part();
        // Nothing has told of it: no thread is started. Nobody else is asked twice either.
        for flags in [libc::O_WRONLY, libc::O_RDWR | libc::O_TRUNC] {
            let refused = open(&fs, node, flags).map(drop).expect_err("is refused");
            assert!(is_stale(refused), "case {case}");
        }
        for set in [set(None, Some(0)), set(Some(0o600), None)] {
            let refused = fs
                .setattr(node, None, &set, &request(0))
                .expect_err("is refused");
            assert!(is_stale(refused), "case {case}");
        }
        let refused = fs
            .link(node, NodeId::ROOT, b"link", 0)
            .expect_err("is refused");
        assert!(is_stale(refused), "case {case}");
        // By its name there is now what the home has.
        let now = fs.lookup(NodeId::ROOT, NAME, 0);
        assert_eq!(now.is_ok(), home.exists(), "case {case}");
        assert!(!now.is_ok_and(|now| now.node == node), "case {case}");
        assert_eq!(fs::read(&away).unwrap(), b"home", "case {case}");
        let mode = fs::metadata(&away).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644, "case {case}");
        // Who comes again has a descriptor of the file, and no name.
        let register = |_: &fs::File| Ok(Arc::new(()) as crate::node::Token);
        let mut again =
            (0..2).map(|_| fs.open(node, &by(libc::O_WRONLY), &register, Patience::HomeOnly));
        assert!(
            is_stale(again.next().unwrap().map(drop).expect_err("is told")),
            "case {case}"
        );
        assert!(again.next().unwrap().is_ok(), "case {case}");
    }
}

/// Beside containers a user's inotify instances are used up easily: nothing told of changes, and nobody looked.
#[test]
fn where_there_is_no_inotify_rescans_find_what_changes() {
    let top = tempfile::tempdir().unwrap();
    let at = |path: &str| top.path().join(path);
    for directory in ["models", "cold"] {
        fs::create_dir(at(directory)).unwrap();
    }
    let mut fs = with_settings(FsSettings {
        models_dir: at("models"),
        cold: vec![ColdSettings {
            path: at("cold"),
            watch: WatchChoice::Fixed(Watch::Inotify),
            rescan_interval: Duration::from_millis(20),
        }],
        ..FsSettings::default()
    });
    Arc::get_mut(&mut fs).unwrap().keep_true.inotify = None;
    fs.start().unwrap();
    assert!(!fs.home_states()[1].watched, "nothing tells of changes");
    fs::write(at("cold/late"), "late").unwrap();
    until_found(&fs, "late");
    assert!(fs.rescan(Duration::from_secs(60)));
    assert!(!fs.home_states()[0].watched, "nor in the models directory");
    fs.stop();
}

#[test]
fn a_models_directory_that_others_may_change_is_rescanned() {
    let local = tempfile::tempdir().unwrap();
    let watched = |models: &Path| file_system(models, true).home_states()[0].watched;
    assert!(watched(local.path()));
    assert!(!watched(Path::new("/proc/self/fdinfo")));
}

#[test]
fn what_a_home_has_under_the_name_that_is_ours_is_hidden() {
    let models = tempfile::tempdir().unwrap();
    fs::create_dir(models.path().join(".speedloader")).unwrap();
    fs::write(models.path().join(".speedloader/m.gguf"), "hidden").unwrap();
    let fs = file_system(models.path(), true);
    fs.see_name(fs.models(), DirId::ROOT, b".speedloader");
    assert!(fs.union().look_up(DirId::ROOT, b".speedloader").is_none());
    assert!(fs.union().listing(DirId::ROOT).unwrap().is_empty());
}

#[test]
fn a_removed_directory_is_not_taken_for_a_cold_one() {
    let models = tempfile::tempdir().unwrap();
    fs::create_dir(models.path().join("d")).unwrap();
    let fs = file_system(models.path(), true);
    let node = fs.lookup(NodeId::ROOT, b"d", 0).unwrap().node;
    fs.rmdir(NodeId::ROOT, b"d", 0).unwrap();
    let mode = SetAttr {
        mode: Some(0o700),
        ..SetAttr::default()
    };
    let error = fs
        .setattr(node, None, &mode, &request(0))
        .expect_err("is gone");
    assert_eq!(crate::errno::to_errno(&error), libc::ENOENT, "{error}");
    assert_eq!(fs.stats().cold_writes_refused.load(Ordering::Relaxed), 0);
}

#[test]
fn what_root_empties_stays_its_owners() {
    let top = tempfile::tempdir().unwrap();
    let (models, cold) = (top.path().join("models"), top.path().join("cold"));
    for home in [&models, &cold] {
        fs::create_dir(home).unwrap();
    }
    let file = cold.join("f.gguf");
    fs::write(&file, "cold").unwrap();
    if std::os::unix::fs::chown(&file, Some(1), Some(2)).is_err() {
        return;
    }
    let fs = over_cold(&models, &cold);
    fs.see_name(&fs.homes()[1], DirId::ROOT, NAME);
    let node = fs.lookup(NodeId::ROOT, NAME, 0).unwrap().node;
    let opened = open(&fs, node, libc::O_WRONLY | libc::O_TRUNC).unwrap();
    let attr = fs.getattr(node, None).unwrap().attr;
    assert_eq!((attr.uid, attr.gid, attr.identity.size), (1, 2, 0));
    let owner = attr_of(fs::File::open(models.join("f.gguf")).unwrap()).unwrap();
    assert_eq!((owner.uid, owner.gid), (1, 2));
    fs.release(opened.handle);
}

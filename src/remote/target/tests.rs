//! The agent without a kernel that has an NVMe target: what is refused, and that nothing said to it ends it.

use proptest::prelude::*;

use super::*;
use crate::remote::wire::export_of_tests as export;

fn nowhere() -> (tempfile::TempDir, Target) {
    let directory = tempfile::tempdir().unwrap();
    let target = Target {
        configfs: directory.path().join("nvmet"),
        exports: directory.path().join("run/exports"),
        keyring: Keyring::of_listing(&directory.path().join("keys")),
        memory: Box::new(machine::memory),
        is_kernel: false,
    };
    (directory, target)
}

/// Nobody looks how far it is.
fn unheard(_: Progress) -> io::Result<()> {
    Ok(())
}

fn say(target: &Target, input: &[u8]) -> Vec<String> {
    let mut output = Vec::new();
    serve(target, input, &mut output).unwrap();
    let text = String::from_utf8(output).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn it_greets_and_looks_and_changes_nothing() {
    let (directory, target) = nowhere();
    let request = serde_json::to_string(&Request::Look { export: export() }).unwrap();
    let said = say(&target, format!("{request}\n").as_bytes());
    let greeting: Greeting = serde_json::from_str(&said[0]).unwrap();
    assert_eq!(greeting.agent, PROTOCOL);
    let reply: Reply = serde_json::from_str(&said[1]).unwrap();
    let Reply::Ok(state) = reply else {
        panic!("{reply:?}")
    };
    assert!(state.total_bytes > 0 && state.owner.is_none() && state.offer.is_none());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn hostile_names_are_refused() {
    let (directory, target) = nowhere();
    let bad = [
        "nqn.x/../../../../etc",
        "nqn.2026-01.io\n",
        "../../etc/passwd",
        "",
        "nqn.$(reboot)",
    ];
    for name in bad {
        for place in 0..2 {
            let mut export = export();
            match place {
                0 => export.nqn = name.to_owned(),
                _ => export.host_nqn = name.to_owned(),
            }
            let request = serde_json::to_string(&Request::MakeRam { export }).unwrap();
            let said = say(&target, format!("{request}\n").as_bytes());
            assert!(said[1].contains("refused"), "{name:?}: {}", said[1]);
        }
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

/// The attribute of a host's entry, as the kernel makes it.
fn put_secret(target: &Target, export: &Export, word: &str) {
    fs::create_dir_all(target.host(export)).unwrap();
    fs::write(target.host(export).join("dhchap_key"), word).unwrap();
}

#[test]
fn a_secret_is_asked_for_and_that_of_others_is_left_alone() {
    let (_directory, target) = nowhere();
    let export = Export {
        secret: Some(Secret::new("DHHC-1:00:ours:")),
        ..export()
    };
    put_secret(&target, &export, "DHHC-1:00:theirs:");
    let refused = target.ask_for_secret(&export, false).unwrap_err();
    assert!(refused.remedy.is_some());
    let said = format!("{refused:?}{export:?}");
    assert!(!said.contains("ours") && !said.contains("theirs"), "{said}");
    assert_eq!(
        target.known_secret(&export),
        Some(Secret::new("DHHC-1:00:theirs:"))
    );
    target.ask_for_secret(&export, true).unwrap();
    assert_eq!(target.known_secret(&export), export.secret);
    // What is known already may be everybody's.
    target.ask_for_secret(&export, false).unwrap();
}

/// A port as the kernel shows it.
fn put_port(target: &Target, export: &Export, number: u16, security: [&str; 2]) -> PathBuf {
    let port = target.configfs.join("ports").join(number.to_string());
    fs::create_dir_all(port.join("subsystems")).unwrap();
    for (attribute, value) in [
        ("addr_trtype", "tcp"),
        ("addr_traddr", &export.address.to_string()),
        ("addr_trsvcid", &export.port.to_string()),
        ("addr_tsas", security[0]),
        ("addr_treq", security[1]),
    ] {
        fs::write(port.join(attribute), format!("{value}\n")).unwrap();
    }
    port
}

#[test]
fn a_port_is_shared_by_those_who_encrypt_alike_and_one_of_others_is_left_alone() {
    let (_directory, target) = nowhere();
    let plain = export();
    let encrypted = Export {
        tls: true,
        ..export()
    };
    let port = put_port(&target, &plain, 3, ["none", "not specified"]);
    let mut record = Record::default();
    assert_eq!(target.make_port(&plain, &mut record), Ok(port.clone()));
    let refused = target.make_port(&encrypted, &mut record).unwrap_err();
    assert!(refused.what.contains("without encryption"), "{refused:?}");
    assert_eq!(
        fs::read_to_string(port.join("addr_tsas")).unwrap(),
        "none\n"
    );

    let port = put_port(&target, &plain, 3, [TLS, "required"]);
    assert_eq!(target.make_port(&encrypted, &mut record), Ok(port.clone()));
    let refused = target.make_port(&plain, &mut record).unwrap_err();
    assert!(refused.what.contains("with encryption only"), "{refused:?}");
    // One that lets others in too is no encrypted one.
    put_port(&target, &plain, 3, [TLS, "not required"]);
    assert!(target.make_port(&encrypted, &mut record).is_err());

    // Our own, of an attempt that was cut short, is made what it is to be.
    put_port(&target, &plain, 3, ["none", "not specified"]);
    fs::create_dir_all(target.directory(&encrypted)).unwrap();
    record.port = Some(3);
    assert_eq!(target.make_port(&encrypted, &mut record), Ok(port.clone()));
    assert!(needs_tls(&port));
    assert_eq!(target.make_port(&plain, &mut record), Ok(port.clone()));
    assert!(!needs_tls(&port));
}

#[test]
fn nothing_is_encrypted_without_a_key_or_over_something_else_than_tcp() {
    let (directory, target) = nowhere();
    let encrypted = Export {
        tls: true,
        ..export()
    };
    for key in [
        None,
        Some(TlsKey {
            id: "..".to_owned(),
            secret: Secret::new(""),
        }),
    ] {
        assert!(target.keep_key(&encrypted, key.as_ref()).is_err());
    }
    let rdma = Export {
        fabric: Fabric::Rdma,
        ..encrypted.clone()
    };
    assert_eq!(check(&rdma), Err(refused("only TCP is encrypted")));
    assert_eq!(check(&encrypted), Ok(()));
    // The keyring of this machine is not there for this target.
    assert!(!target.keyring.has(&encrypted.host_nqn, &encrypted.nqn));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn sizes_are_whole_mebibytes() {
    assert_eq!(wanted_bytes("64MiB", 1 << 30), Ok(64 << 20));
    assert_eq!(wanted_bytes("50%", (1 << 30) + 5000), Ok(512 << 20));
    assert!(wanted_bytes("1000B", 1 << 30).is_err());
    assert!(wanted_bytes("much", 1 << 30).is_err());
}

#[test]
fn more_memory_than_there_is_is_refused() {
    let (directory, target) = nowhere();
    let export = Export {
        capacity: "100TiB".to_owned(),
        ..export()
    };
    let refused = target.make_ram(&export, &mut unheard).unwrap_err();
    assert!(refused.what.contains("to spare"), "{refused:?}");
    assert!(refused.remedy.is_some());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn who_waited_for_a_lock_whose_directory_is_gone_locks_what_is_there_now() {
    let (_directory, target) = nowhere();
    let first = target.lock().unwrap();
    // Memory of another size is given back before more is taken: that is not the end.
    target.free_ram(&export()).unwrap();
    assert!(is_at(&first, &target.exports).unwrap());
    let inode = first.metadata().unwrap().ino();
    let second = std::thread::scope(|scope| {
        let waiter = scope.spawn(|| target.lock().unwrap());
        // A line of who waits is marked by an arrow.
        let waits = |line: &str| line.contains("->") && line.contains(&format!(":{inode} "));
        while !fs::read_to_string("/proc/locks")
            .unwrap()
            .lines()
            .any(waits)
        {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        target.remove_empty();
        drop(first);
        waiter.join().unwrap()
    });
    assert!(is_at(&second, &target.exports).unwrap());
    // So nobody else has it.
    let third = File::open(&target.exports).unwrap();
    let taken = rustix::fs::flock(&third, FlockOperation::NonBlockingLockExclusive);
    assert_eq!(taken, Err(rustix::io::Errno::WOULDBLOCK));
}

#[test]
fn nothing_is_left_where_nothing_was_done() {
    let (directory, target) = nowhere();
    let export = Export {
        capacity: "100TiB".to_owned(),
        ..export()
    };
    for request in [
        Request::MakeRam {
            export: export.clone(),
        },
        Request::FreeRam { export },
    ] {
        let _ = target.carry_out(&request, &mut unheard);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}

#[test]
fn a_subsystem_of_our_name_that_we_did_not_make_is_left_alone() {
    let (_directory, target) = nowhere();
    let export = export();
    let subsystem = target.subsystem(&export);
    let all = || {
        let (export, key) = (export.clone(), None);
        [
            Request::Look {
                export: export.clone(),
            },
            Request::MakeRam {
                export: export.clone(),
            },
            Request::Export {
                export: export.clone(),
                key,
            },
            Request::Withdraw {
                export: export.clone(),
            },
            Request::FreeRam { export },
        ]
    };
    // It lets our host in, as somebody may have set up by hand.
    fs::create_dir_all(subsystem.join("allowed_hosts")).unwrap();
    fs::write(subsystem.join("allowed_hosts").join(&export.host_nqn), "").unwrap();
    fs::write(subsystem.join("attr_serial"), "fedcba9876543210\n").unwrap();
    for request in all() {
        let refused = target.carry_out(&request, &mut unheard).unwrap_err();
        assert!(
            refused.what.contains("did not make"),
            "{request:?}: {refused:?}"
        );
        assert!(target.owner(&export).is_some(), "{request:?}");
    }
    // Ours, whose record was lost, is known by its number.
    fs::write(subsystem.join("attr_serial"), key(&export.nqn)).unwrap();
    assert_eq!(
        target
            .carry_out(&all()[0], &mut unheard)
            .map(|state| state.owner.is_some()),
        Ok(true)
    );
}

#[test]
fn an_export_of_another_size_takes_the_place_of_the_first_and_stays_if_that_cannot_be() {
    let (_directory, mut target) = nowhere();
    if !rustix::process::geteuid().is_root() {
        return eprintln!("SKIPPED: mounting a tmpfs needs root");
    }
    let _alone = target.lock().unwrap();
    // As long as the first is there, it has less to spare than the second takes.
    target.memory = Box::new(|| Memory {
        total_bytes: 1 << 30,
        available_bytes: LEFT_BYTES_MIN + RECORD_BYTES + (8 << 20),
    });
    let of = |mib: u64| Export {
        capacity: format!("{mib}MiB"),
        ..export()
    };
    for (mib, found) in [(8, 8), (12, 12), (100, 12)] {
        let made = target.make_ram(&of(mib), &mut unheard);
        assert_eq!(made.is_ok(), mib == found, "{made:?}");
        assert_eq!(target.ram_bytes(&of(mib)), Some(found << 20));
    }
    target.free_ram(&export()).unwrap();
    assert_eq!(target.ram_bytes(&export()), None);
}

#[test]
fn memory_is_taken_in_steps_as_long_as_somebody_hears_of_it() {
    let step = 4 << 20;
    let bytes = 10 << 20;
    let told_of = |last: u64| {
        let file = tempfile::tempfile().unwrap();
        let mut told = Vec::new();
        let taken = allocate(&file, bytes, step, &mut |progress| {
            assert_eq!(progress.total_bytes, bytes);
            told.push(progress.done_bytes);
            match progress.done_bytes < last {
                true => Ok(()),
                false => Err(io::ErrorKind::BrokenPipe.into()),
            }
        });
        (taken.is_ok(), file.metadata().unwrap().len(), told)
    };
    assert_eq!(told_of(u64::MAX), (true, bytes, vec![0, step, 2 * step]));
    assert_eq!(told_of(step), (false, step, vec![0, step]));
}

/// Where lines go until the other side is gone.
struct Line {
    said: Vec<u8>,
    lines_left: usize,
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.lines_left == 0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.lines_left -= bytes.iter().filter(|byte| **byte == b'\n').count();
        self.said.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_agent_whose_ssh_is_gone_takes_no_memory_and_leaves_none() {
    let (directory, target) = nowhere();
    if !rustix::process::geteuid().is_root() {
        return eprintln!("SKIPPED: mounting a tmpfs needs root");
    }
    let request = serde_json::to_string(&Request::MakeRam { export: export() }).unwrap() + "\n";
    let serve_for = |lines_left: usize| {
        let mut line = Line {
            said: Vec::new(),
            lines_left,
        };
        let served = serve(&target, request.as_bytes(), &mut line);
        (served.is_ok(), String::from_utf8(line.said).unwrap())
    };
    // The greeting is still heard.
    assert!(!serve_for(1).0);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);

    let (is_served, said) = serve_for(usize::MAX);
    let last = said.lines().next_back().unwrap();
    assert!(is_served && target.ram_bytes(&export()) == Some(64 << 20));
    assert!(
        said.contains("progress") && !last.contains("progress"),
        "{said}"
    );
    target
        .carry_out(&Request::FreeRam { export: export() }, &mut unheard)
        .unwrap();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_serial_number_fits_and_tells_exports_apart() {
    let (one, two) = (key("nqn.2026-01.a:x"), key("nqn.2026-01.a:y"));
    assert!(one.len() <= 20 && one != two);
}

proptest! {
    #[test]
    fn nothing_that_is_said_ends_it(lines in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..5)) {
        let (_directory, target) = nowhere();
        let input = lines.join(&b'\n');
        let mut output = Vec::new();
        serve(&target, input.as_slice(), &mut output).unwrap();
        for line in output.split(|byte| *byte == b'\n').skip(1).filter(|line| !line.is_empty()) {
            let is_refusal = matches!(serde_json::from_slice(line), Ok(Reply::Refused { .. }));
            prop_assert!(is_refusal);
        }
    }
}

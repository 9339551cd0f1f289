//! All the ways to start and end: by an ordinary user, by mount(8) and a line of fstab, after a crash
//! that left a dead mount, by signals; and what stands in the way is said.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::mount::PROGRAM;
use crate::harness::{Mount, Site, content, in_both_modes, mapping, mount_table, skip};

const LEN: u64 = 400_000;
/// `nobody` of every Debian; fusermount3 wants a user that has a name.
const NOBODY: u32 = 65_534;

fn site(site: Site) -> Site {
    site.cold_file("f", 1, LEN).models_file("own", 2, LEN)
}

#[test]
fn a_dead_mount_is_replaced() {
    in_both_modes(site, |mount| {
        mount.promote_wait("f");
        for _ in 0..2 {
            mount.kill9();
            assert!(
                fs::read_dir(mount.mounted("")).is_err(),
                "a mount without a daemon answers"
            );
            mount.restart();
            content::check_file(&mount.mounted("f"), 1, LEN).unwrap();
            content::check_file(&mount.mounted("own"), 2, LEN).unwrap();
            let mounts = mount_table::below(&mount.mounted(""));
            assert_eq!(mounts.len(), 1, "{mounts:?}");
        }
        // What was complete is taken over, not copied again.
        assert_eq!(mount.which("f").replicas.len(), 1);
        assert_eq!(mount.status().totals.promoted_bytes, 0);
    });
}

#[test]
fn umount_of_a_dead_mount_removes_it() {
    in_both_modes(site, |mount| {
        mount.kill9();
        let said = mount.cli_ok(&["umount".as_ref(), mount.mounted("").as_os_str()]);
        assert!(said.is_empty() || said.contains("unmounted"), "{said}");
        assert!(mount_table::at(&mount.mounted("")).is_none());
        mount.restart();
    });
}

#[test]
fn a_second_daemon_is_refused() {
    in_both_modes(site, |mount| {
        let again = mount.cli(&[
            "serve".as_ref(),
            mount.mounted("").as_os_str(),
            "--models".as_ref(),
            mount.models("").as_os_str(),
        ]);
        assert!(!again.status.success());
        assert!(!again.stderr.is_empty());
        content::check_file(&mount.mounted("f"), 1, LEN).unwrap();
        mount.status();
    });
}

/// By a service manager: the pool stays for the next one. By a person: its memory is given back.
#[test]
fn how_it_ends_decides_about_the_pool() {
    in_both_modes(site, |mount| {
        mount.promote_wait("f");
        assert!(mount.end(Signal::TERM).success());
        assert!(mount_table::at(&mount.mounted("")).is_none());
        assert!(mount_table::at(&mount.pool("p")).is_some());
        mount.restart();
        assert_eq!(mount.which("f").replicas.len(), 1);
        assert!(mount.end(Signal::INT).success());
        assert!(mount_table::at(&mount.pool("p")).is_none());
        mount.restart();
        assert!(mount.which("f").replicas.is_empty());
        // The administrator's own command ends it, too.
        rustix::mount::unmount(mount.mounted(""), rustix::mount::UnmountFlags::empty()).unwrap();
        assert!(mount.wait_ended().success());
        assert!(mount_table::at(&mount.pool("p")).is_none());
    });
}

#[test]
fn what_was_open_at_a_restart_is_lost_unless_the_kernel_serves_it() {
    in_both_modes(site, |mount| {
        mount.promote_wait("f");
        let directory = fs::File::open(mount.mounted("")).unwrap();
        let held = fs::File::open(mount.mounted("f")).unwrap();
        let is_kernels = mount.status().passthrough.active;
        assert!(mount.end(Signal::TERM).success());
        mount.restart();
        let flags = rustix::fs::OFlags::RDONLY;
        let opened = rustix::fs::openat(&directory, "own", flags, rustix::fs::Mode::empty());
        assert_eq!(opened.unwrap_err(), rustix::io::Errno::NOTCONN);
        let read = held.read_at(&mut [0], LEN / 2);
        match is_kernels {
            true => assert_eq!(read.unwrap(), 1),
            false => assert_eq!(read.unwrap_err().kind(), ErrorKind::NotConnected),
        }
        content::check_file(&mount.mounted("f"), 1, LEN).unwrap();
    });
}

/// The house itself: whoever waits for a daemon that answers nothing is given an error in the end.
#[test]
fn a_hung_test_is_ended_by_the_watchdog() {
    let Some(mut mount) = site(Site::new()).limit(Duration::from_secs(3)).start() else {
        return;
    };
    mount.signal(Signal::STOP);
    // Only the daemon can answer this.
    assert!(fs::read(mount.mounted("no-such-file")).is_err());
    assert!(mount.wait_ended().signal().is_some());
}

/// A reader of a replica once kept the pool mounted for ever, with all its memory.
#[test]
fn a_pool_that_is_still_read_is_unmounted_at_the_end() {
    in_both_modes(site, |mount| {
        mount.promote_wait("f");
        let held = fs::File::open(mount.mounted("f")).unwrap();
        let map = mapping::shared(&held).unwrap();
        assert!(mount.end(Signal::INT).success());
        assert!(mount_table::at(&mount.pool("p")).is_none());
        drop((held, map));
        mount.restart();
    });
}

#[test]
fn an_ordinary_user_mounts_reads_and_unmounts() {
    if skip::lacks_programs(&["fusermount3"]) {
        return;
    }
    let Some(mut mount) = site(Site::new()).user(NOBODY).start() else {
        return;
    };
    assert!(!mount.status().passthrough.active);
    let as_user = |script: &str, mount: &crate::harness::Mount| {
        let mut shell = Command::new("sh");
        shell
            .arg("-c")
            .arg(script)
            .current_dir(mount.root())
            .uid(NOBODY)
            .gid(NOBODY);
        shell.output().unwrap()
    };
    let compare =
        "cmp mnt/f cold0/f && cmp mnt/own models/own && echo x > mnt/new && cat models/new";
    assert_eq!(said(&as_user(compare, &mount)), "x");
    mount.promote_wait("f");
    mount.promote_wait("own");
    assert_eq!(said(&as_user(compare, &mount)), "x");
    assert!(
        Path::new(&mount.which("f").serving).starts_with("/dev/shm"),
        "{:?}",
        mount.which("f")
    );
    let umount = mount.cli(&["umount"]);
    assert!(
        umount.status.success(),
        "{}",
        String::from_utf8_lossy(&umount.stderr)
    );
    let ended = mount.wait_ended();
    assert!(ended.success(), "{ended}\n{}", mount.log());
    assert!(mount_table::at(&mount.mounted("")).is_none());
    mount.finish();
}

/// Told to end while somebody unmounts, the daemon may find its session not over yet and no mount any more.
#[test]
fn an_ordinary_user_unmounts_while_the_daemon_ends() {
    if skip::lacks_programs(&["fusermount3"]) {
        return;
    }
    for _ in 0..8 {
        let Some(mut mount) = site(Site::new()).user(NOBODY).start() else {
            return;
        };
        mount.signal(Signal::STOP);
        let mut unmount = Command::new("fusermount3");
        unmount.args(["-u", "-z", "--"]).arg(mount.mounted(""));
        assert!(unmount.uid(NOBODY).gid(NOBODY).status().unwrap().success());
        mount.signal(Signal::TERM);
        mount.signal(Signal::CONT);
        let ended = mount.wait_ended();
        assert!(ended.success(), "{ended}\n{}", mount.log());
        mount.finish();
    }
}

/// What the command in README does, by the same user. Where no udev has opened /dev/fuse to
/// everybody, an open one is put in its place, for this test alone.
#[test]
fn an_ordinary_user_runs_speedloader_mount() {
    if cannot_run() || skip::lacks_programs(&["fusermount3", "setpriv"]) {
        return;
    }
    let as_user = "\
        set -e
        cd $T
        ./speedloader --socket $T/s mount mnt --models models --cold cold0 \
            --pool p:64MiB:$POOL -o state_dir=$T/state
        cmp mnt/f cold0/f
        ./speedloader --socket $T/s promote f --wait
        cmp mnt/f cold0/f
        echo x > mnt/new
        cmp mnt/new models/new
        ./speedloader --socket $T/s which f
        ./speedloader --socket $T/s umount
        ! grep -q \" $T/mnt \" /proc/self/mountinfo";
    let site = site(Site::new()).user(NOBODY).prepared();
    fs::copy(PROGRAM, site.root().join("speedloader")).unwrap();
    fs::write(site.root().join("as_user"), as_user).unwrap();
    let script = format!(
        "
        mknod -m 666 $T/fuse c 10 229
        mount --bind $T/fuse /dev/fuse
        POOL={} HOME=$T setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups sh $T/as_user",
        site.pool_path("p").display()
    );
    let output = in_namespace(&site, &script);
    assert!(said(&output).contains("/dev/shm/"), "{output:?}");
}

pub(super) fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    assert!(
        output.status.success(),
        "{}: {} {}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// Runs a script as root in a mount namespace of its own, where /usr/sbin has our mount helper as
/// well. `$T` is the site, `$PROGRAM` the program.
pub(super) fn in_namespace(site: &Site, script: &str) -> Output {
    let prepare = "\
        set -e
        mkdir -p $T/real
        for sbin in /sbin; do
            real=$(readlink -f $sbin)
            mount --bind $real $T/real
            mount -t tmpfs none $real
            for program in $T/real/*; do ln -s $program $real/; done
            ln -s $PROGRAM $real/mount.fuse.speedloader
        done
        ";
    let mut shell = Command::new("unshare");
    shell.args(["--mount", "--propagation", "private", "sh", "-c"]);
    shell.arg(format!("{prepare}{script}"));
    shell
        .env("T", site.root())
        .env("PROGRAM", PROGRAM)
        .current_dir("/");
    // As at boot: there is no HOME, and no PATH but the standard one.
    shell
        .env_remove("HOME")
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    shell.stdin(Stdio::null()).output().unwrap()
}

fn write_fstab(site: &Site, options: &str) {
    let root = site.root().display();
    fs::write(
        site.root().join("fstab"),
        format!("speedloader {root}/mnt fuse.speedloader {options} 0 0\n"),
    )
    .unwrap();
}

pub(super) fn write_config(site: &Site, extra: &str) {
    let root = site.root().display();
    let text = format!(
        "{extra}\nmodels_dir = \"{root}/models\"\nstate_dir = \"{root}/state\"\n\
         [[cold]]\npath = \"{root}/cold0\"\n\
         [[pool]]\nname = \"p\"\npath = \"{root}/pools/p\"\ncapacity = \"64MiB\"\n\
         [control]\nsocket = \"{root}/s\"\n"
    );
    fs::write(site.root().join("config.toml"), text).unwrap();
}

/// The site with its configuration written down.
fn configured() -> Site {
    let site = site(Site::new());
    write_config(&site, "");
    site
}

pub(super) fn cannot_run() -> bool {
    if let Some(why) = skip::why_no_mount() {
        skip::skip(why);
        return true;
    }
    skip::lacks_programs(&["unshare", "mount", "umount"])
}

#[test]
fn a_line_of_fstab_is_mounted_and_unmounted() {
    if cannot_run() {
        return;
    }
    let site = configured();
    let config = site.root().join("config.toml");
    write_fstab(
        &site,
        &format!(
            "config={},_netdev,nosuid,noatime,x-systemd.requires=network-online.target",
            config.display()
        ),
    );
    let output = in_namespace(
        &site,
        "
        mount -T $T/fstab -a
        grep -q \"$T/mnt.*fuse.speedloader\" /proc/self/mountinfo
        cmp $T/mnt/f $T/cold0/f
        mount -T $T/fstab -a
        test $(grep -c \"$T/mnt .*fuse.speedloader\" /proc/self/mountinfo) = 1
        $PROGRAM --socket $T/s promote f --wait
        cmp $T/mnt/f $T/cold0/f
        umount $T/mnt
        ! grep -q \" $T/mnt \" /proc/self/mountinfo
        mkdir -p $T/elsewhere/speedloader && cd $T/elsewhere
        mount -T $T/fstab $T/mnt
        cmp $T/mnt/own $T/models/own
        $PROGRAM --socket $T/s umount
        ! grep -q \" $T/mnt \" /proc/self/mountinfo
        echo well done",
    );
    assert!(said(&output).ends_with("well done"), "{output:?}");
}

/// What `install` writes is read by mount(8) itself, strange names included.
#[test]
fn what_install_writes_into_fstab_is_mounted() {
    if cannot_run() {
        return;
    }
    let site = configured();
    let output = in_namespace(
        &site,
        "
        mkdir -p \"$T/image$T/my models\" \"$T/my models\" $T/image/etc
        { cat $T/config.toml; echo \"mountpoint = \\\"$T/my models\\\"\"; } > $T/unsorted
        { grep ^mountpoint $T/unsorted; grep -v ^mountpoint $T/unsorted; } > $T/config.toml
        cp $T/config.toml $T/image$T/
        echo '# mine' > $T/image/etc/fstab
        install=\"$PROGRAM --config $T/config.toml install --root $T/image --program $PROGRAM\"
        $install --fstab --yes > $T/log
        mount -T $T/image/etc/fstab -a
        cmp \"$T/my models/f\" $T/cold0/f
        umount \"$T/my models\"
        $install --uninstall --yes >> $T/log
        test \"$(cat $T/image/etc/fstab)\" = '# mine'
        echo well done",
    );
    assert!(said(&output).ends_with("well done"), "{output:?}");
}

/// On a machine whose `/etc` is a copy, and whose systemd only writes down what it is told.
#[test]
fn a_service_is_enabled_and_taken_away_by_systemd() {
    if cannot_run() {
        return;
    }
    let site = configured();
    let output = in_namespace(
        &site,
        "
        mkdir $T/etc $T/bin
        cp -a /etc/. $T/etc/ && mount --bind $T/etc /etc
        rm -rf /etc/systemd/system/speedloader.service
        mount -t tmpfs none /usr/local && mount -t tmpfs none /run && mkdir -p /run/systemd/system
        printf '#!/bin/sh\necho \"$@\" >> %s\n' $T/told > $T/bin/systemctl && chmod +x $T/bin/systemctl
        PATH=$T/bin:$PATH
        { echo \"mountpoint = \\\"$T/mnt\\\"\"; cat $T/config.toml; } > $T/c && mv $T/c $T/config.toml
        install=\"$PROGRAM --config $T/config.toml install\"
        $install --dry-run --now | grep 'systemctl enable --now speedloader.service' > $T/log
        test ! -e $T/told
        $install --yes --now >> $T/log
        ln -s /etc/systemd/system/speedloader.service /etc/systemd/system/multi-user.target.wants/
        grep \"ExecStart=$PROGRAM serve --config $T/config.toml\" /etc/systemd/system/speedloader.service >> $T/log
        $install --yes >> $T/log
        $PROGRAM --config $T/config.toml mount > $T/log
        $install --uninstall --yes --now >> $T/log
        ! grep -q \" $T/mnt \" /proc/self/mountinfo
        test ! -e /etc/systemd/system/speedloader.service
        test ! -L /etc/systemd/system/multi-user.target.wants/speedloader.service
        printf '#!/bin/sh\necho no such unit >&2; exit 5\n' > $T/bin/systemctl
        $install --yes --now 2>&1 | tail -n 1
        cat $T/told",
    );
    let told = said(&output);
    let wanted = "error: `systemctl daemon-reload` failed: exit status: 5; no such unit; the files are written; \
                  give it by hand\n\
                  daemon-reload\nenable --now speedloader.service\ndaemon-reload";
    assert_eq!(told, wanted);
}

/// The memory of its pools stayed, for nobody.
#[test]
fn a_start_that_fails_leaves_no_pool() {
    if cannot_run() {
        return;
    }
    let site = configured();
    let output = in_namespace(
        &site,
        "
        $PROGRAM --config $T/config.toml mount $T/mnt > $T/log 2>&1
        sed 's|/state|/state-2|; s|/pools/p|/pools/q|; s|/s\"|/s-2\"|' $T/config.toml > $T/second.toml
        $PROGRAM --config $T/second.toml mount $T/mnt 2>&1 || echo status $?
        ! grep -q \"$T/pools/q\" /proc/self/mountinfo
        $PROGRAM --socket $T/s umount",
    );
    let said = said(&output);
    assert!(said.contains("is mounted there already"), "{said}");
    assert!(said.contains("status 4"), "{said}");
}

/// What mount(8) makes of a name that is a directory where it is called was shown instead of the models.
#[test]
fn a_source_that_contradicts_the_configuration_is_refused() {
    if cannot_run() {
        return;
    }
    let site = configured();
    let output = in_namespace(
        &site,
        "
        options=config=$T/config.toml
        mount -t fuse.speedloader -o $options $T/cold0 $T/mnt 2>&1 || echo status $?
        ! grep -q \" $T/mnt \" /proc/self/mountinfo
        mount -t fuse.speedloader -o $options $T/models $T/mnt
        cmp $T/mnt/own $T/models/own
        umount $T/mnt",
    );
    let said = said(&output);
    assert!(said.contains("the models directory is"), "{said}");
    assert!(said.contains("status 1"), "{said}");
}

/// Such a mount could not be unmounted by us: nothing was mounted where the link is. A path through it,
/// or through the mountpoint itself, was no model.
#[test]
fn a_mountpoint_can_be_a_symlink() {
    if cannot_run() {
        return;
    }
    let site = configured();
    symlink("mnt", site.root().join("link")).unwrap();
    let output = in_namespace(
        &site,
        "
        cd $T
        for named in '' $T/link $T/mnt; do
            $PROGRAM --config $T/config.toml mount link
            cmp link/f cold0/f
            for path in f /f $T/mnt/f $T/link/f; do $PROGRAM --socket $T/s which $path; done
            $PROGRAM --socket $T/s umount $named
            ! grep -q \" $T/mnt \" /proc/self/mountinfo
        done
        echo well done",
    );
    assert!(said(&output).ends_with("well done"), "{output:?}");
}

#[test]
fn a_broken_configuration_is_told_and_with_nofail_stops_nothing() {
    if cannot_run() {
        return;
    }
    let site = site(Site::new());
    write_config(&site, "modelsdir = \"x\"");
    let options = format!("config={}", site.root().join("config.toml").display());
    write_fstab(&site, &options);
    let broken = in_namespace(&site, "mount -T $T/fstab $T/mnt");
    assert_eq!(broken.status.code(), Some(32), "{broken:?}");
    let told = String::from_utf8_lossy(&broken.stderr);
    assert!(
        told.contains("modelsdir") && told.contains("config.toml:1"),
        "{told}"
    );
    let all = in_namespace(&site, "mount -T $T/fstab -a");
    assert!(!all.status.success(), "{all:?}");
    write_fstab(&site, &format!("{options},nofail"));
    let script = "mount -T $T/fstab -a || echo status $?; ! grep -q \" $T/mnt \" /proc/self/mountinfo; echo goes on";
    let nofail = in_namespace(&site, script);
    assert!(said(&nofail).ends_with("goes on"), "{nofail:?}");
    assert!(
        String::from_utf8_lossy(&nofail.stderr).contains("modelsdir"),
        "{nofail:?}"
    );
}

#[test]
fn a_page_that_cannot_be_served_is_a_warning() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("http.listen={}", taken.local_addr().unwrap());
    let site = site(Site::new())
        .option("http.enabled=true")
        .option(&listen);
    // Whoever can make this link must not choose the file that the daemon believes.
    let token = site.root().join("state/http-token");
    let elsewhere = site.root().join("elsewhere");
    fs::write(&elsewhere, "0123456789abcdef0123456789abcdef").unwrap();
    symlink(&elsewhere, &token).unwrap();
    let Some(mut mount) = site.start() else {
        return;
    };
    let warned = |mount: &Mount, wanted: &str| {
        content::check_file(&mount.mounted("f"), 1, LEN).unwrap();
        // The page comes after the mount, which does not wait for it.
        mount.until(&format!("a warning: {wanted}"), || {
            let warnings = mount.status().warnings;
            warnings.iter().any(|warning| warning.contains(wanted))
        });
    };
    warned(&mount, "in use");
    // A link would give the token to whoever has the port.
    assert!(!mount.cli(&["web-url"]).status.success());
    // Who held the address for a moment kept the page away until the daemon was started again.
    drop(taken);
    warned(&mount, "symbolic link");
    assert!(!mount.cli(&["web-url"]).status.success());
    fs::remove_file(&token).unwrap();
    mount.until("the page is served", || {
        let warnings = mount.status().warnings;
        !warnings.iter().any(|warning| warning.contains("web page"))
    });
    let first = mount.cli_ok(&["web-url"]);
    mount.end(Signal::TERM);
    mount.restart();
    // What somebody has come to know of the daemon before is worth nothing.
    mount.until("it has a token of its own", || {
        mount.cli_ok(&["web-url"]) != first
    });
    mount.finish();
}

/// Commands went by the file alone: `health` found none, `web-url` another daemon's token and port.
#[test]
fn commands_go_by_the_configuration_of_the_daemon_that_runs() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let site = site(Site::new())
        .option("http.enabled=true")
        .option(&format!("http.listen={free}"));
    let Some(mount) = site.start() else {
        return;
    };
    let token = mount.root().join("state/http-token");
    mount.until("there is a token", || token.exists());
    let token = fs::read_to_string(token).unwrap();
    let link = format!("http://{free}/#token={}", token.trim());
    assert_eq!(mount.cli_ok(&["web-url"]).trim(), link);
    let health = mount.cli(&["health"]);
    assert_ne!(health.status.code(), Some(2), "{health:?}");
    let set = mount.cli(&["config", "set", "policy.enabled=false"]);
    let told = String::from_utf8_lossy(&set.stderr);
    assert!(told.contains("config show --running >"), "{told}");
    mount.finish();
}

/// It was saved, and that was all that was said.
#[test]
fn a_change_that_an_option_goes_before_is_told() {
    if cannot_run() {
        return;
    }
    let site = configured();
    let output = in_namespace(
        &site,
        "
        $PROGRAM --config $T/config.toml mount $T/mnt -o policy.enabled=true
        $PROGRAM --socket $T/s config set policy.enabled=false policy.warm_up=false
        $PROGRAM --socket $T/s umount",
    );
    let told = said(&output);
    let wanted = "policy.enabled has no effect: option policy.enabled goes before the file";
    assert!(told.contains("saved") && told.contains(wanted), "{told}");
    assert!(!told.contains("warm_up has no effect"), "{told}");
}

/// It was saved, or reloaded with "needs a restart", and the restart refused it.
#[test]
fn a_change_that_the_next_start_would_refuse_is_refused() {
    if cannot_run() {
        return;
    }
    let site = configured();
    symlink("models", site.root().join("way")).unwrap();
    let output = in_namespace(
        &site,
        "
        $PROGRAM --config $T/config.toml mount $T/mnt
        $PROGRAM --socket $T/s config set state_dir=$T/way 2>&1 && echo taken
        grep \"state_dir\" $T/config.toml
        sed -i \"s#^state_dir.*#state_dir = '$T/way'#\" $T/config.toml
        $PROGRAM --socket $T/s config reload 2>&1 && echo taken
        sed -i \"s#^state_dir.*#state_dir = '$T/state'#\" $T/config.toml
        $PROGRAM --socket $T/s config reload
        $PROGRAM --socket $T/s umount",
    );
    let told = said(&output);
    assert_eq!(told.matches("which is the same as").count(), 2, "{told}");
    assert!(told.contains("/state\""), "it was not saved: {told}");
    assert!(!told.contains("taken"), "{told}");
}

/// A lock of the caller was held, and a pipe of his kept open, for as long as the daemon lived.
#[test]
fn a_daemon_in_the_background_holds_nothing_of_its_caller() {
    if cannot_run() || skip::lacks_programs(&["flock"]) {
        return;
    }
    let site = configured();
    let config = site.root().join("config.toml");
    write_fstab(&site, &format!("config={}", config.display()));
    let output = in_namespace(
        &site,
        "
        exec 9>$T/lock
        flock 9
        $PROGRAM --config $T/config.toml mount $T/mnt
        exec 9>&-
        flock -n $T/lock true
        $PROGRAM --socket $T/s umount
        exec 9>$T/lock
        flock 9
        mount -T $T/fstab $T/mnt
        exec 9>&-
        flock -n $T/lock true
        $PROGRAM --socket $T/s umount
        echo well done",
    );
    assert!(said(&output).ends_with("well done"), "{output:?}");
}

/// Now and then it was refused: the daemon that was just unmounted still answered.
#[test]
fn what_was_just_unmounted_can_be_mounted_again() {
    if cannot_run() {
        return;
    }
    let output = in_namespace(
        &configured(),
        "
        for round in 1 2 3 4 5 6 7 8; do
            $PROGRAM --config $T/config.toml mount $T/mnt
            umount $T/mnt
        done
        $PROGRAM --config $T/config.toml mount $T/mnt
        $PROGRAM --socket $T/s umount
        echo well done",
    );
    assert!(said(&output).ends_with("well done"), "{output:?}");
}

/// `config check` took it, and the daemon, which starts in another directory, did not find it.
#[test]
fn variables_may_name_files_beside_the_caller() {
    if cannot_run() {
        return;
    }
    let output = in_namespace(
        &configured(),
        "
        cd $T
        export SPEEDLOADER_CONFIG=config.toml SPEEDLOADER_SOCKET=other
        $PROGRAM mount $T/mnt
        test -S $T/other
        $PROGRAM umount
        echo well done",
    );
    assert!(said(&output).ends_with("well done"), "{output:?}");
}

#[test]
fn what_is_in_the_way_is_said() {
    if let Some(why) = skip::why_no_mount() {
        return skip::skip(why);
    }
    let site = site(Site::new());
    let run = |arguments: &[&str]| {
        let output = Command::new(PROGRAM)
            .args(["--socket", "s", "mount"])
            .args(arguments)
            .current_dir(site.root())
            .output()
            .unwrap();
        assert!(!output.status.success(), "{arguments:?}");
        assert!(
            mount_table::at(&site.mounted("")).is_none(),
            "{arguments:?}"
        );
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    fs::write(site.root().join("file"), "").unwrap();
    fs::set_permissions(site.root().join("file"), fs::Permissions::from_mode(0o644)).unwrap();
    for (arguments, wanted) in [
        (["mnt", "--models", "nowhere"].as_slice(), "nowhere"),
        (&["nowhere", "--models", "models"], "nowhere"),
        (&["mnt", "--models", "file"], "file"),
        (&["file", "--models", "models"], "file"),
        (&["mnt", "--models", "models", "--cold", "file"], "file"),
        (&["mnt", "--models", "models", "--pool", "p:much"], "much"),
        (&["mnt", "--models", "models", "-o", "nosuch=1"], "nosuch"),
    ] {
        let told = run(arguments);
        assert!(told.contains(wanted), "{arguments:?}: {told}");
        // No directory can be made where a file is.
        assert!(wanted != "file" || !told.contains("mkdir"), "{told}");
    }
}

/// What lies on a disk was taken over unread: an error of the disk while no daemon ran was served.
#[test]
fn a_damaged_replica_on_a_disk_is_not_served() {
    let on_disk = |made: Site| site(made).option("pool.p.mount=false");
    let Some(mut mount) = on_disk(Site::new()).without_passthrough().start() else {
        return;
    };
    let warnings = mount.status().warnings;
    if !warnings.iter().any(|text| text.contains("not in memory")) {
        skip::skip("the temporary directory is in memory");
        return;
    }
    for path in ["f", "own"] {
        mount.promote_wait(path);
    }
    assert!(mount.end(Signal::TERM).success());
    let replicas = fs::read_dir(mount.pool("p").join("replicas")).unwrap();
    let mut data: Vec<_> = replicas.map(|entry| entry.unwrap().path()).collect();
    data.retain(|path| path.extension().is_some_and(|end| end == "data"));
    let damaged = fs::OpenOptions::new().write(true).open(&data[0]).unwrap();
    damaged.write_all_at(b"damaged", LEN - 7).unwrap();
    mount.restart();
    for (path, seed) in [("f", 1), ("own", 2)] {
        content::check_file(&mount.mounted(path), seed, LEN).unwrap();
    }
    let said = "1 replicas taken over, 1 damaged ones removed";
    assert!(mount.log().contains(said), "{}", mount.log());
    mount.finish();
}

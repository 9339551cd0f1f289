//! Commands as people give them, on a daemon with a configuration file.

use super::starting::{cannot_run, in_namespace, said, write_config};
use crate::harness::Site;

const LEN: u64 = 300_000;

/// Files `f` and `g`, a cold file `big` that is larger than the pool, a daemon that is mounted on `$T/mnt`; what the
/// script prints.
fn steered(script: &str) -> Option<String> {
    if cannot_run() {
        return None;
    }
    let site = Site::new()
        .cold_file("f", 1, LEN)
        .cold_file("g", 2, LEN)
        .cold_file("big", 3, 65 << 20);
    let mountpoint = site.mounted("");
    let extra = format!(
        "mountpoint = \"{}\"\npolicy.enabled = false\nhttp.enabled = false",
        mountpoint.display()
    );
    write_config(&site, &extra);
    let whole = format!(
        "
        speedloader() {{ $PROGRAM --socket $T/s \"$@\"; }}
        $PROGRAM --config $T/config.toml mount $T/mnt > $T/log 2>&1
        {script}
        speedloader umount
        ! grep -qE \"$T/(mnt|pools)\" /proc/self/mountinfo"
    );
    Some(said(&in_namespace(&site, &whole)))
}

/// A full disk, or a reader of the log that has gone, ended the thread that had something to say.
#[test]
fn a_log_that_cannot_be_written_ends_nothing() {
    if cannot_run() {
        return;
    }
    let site = Site::new().cold_file("f", 1, LEN);
    write_config(&site, "");
    let script = "
        $PROGRAM --config $T/config.toml serve $T/mnt > /dev/full 2>&1 &
        until $PROGRAM --socket $T/s status --json 2> /dev/null | grep -q '\"state\":\"ready\"'; do :; done
        $PROGRAM --socket $T/s promote f --wait
        $PROGRAM --socket $T/s demote f
        $PROGRAM --socket $T/s umount
        wait";
    said(&in_namespace(&site, script));
}

/// The daemon closes its connections first and releases its pools last.
#[test]
fn umount_returns_when_the_pools_are_gone() {
    let script = "
        for round in 1 2 3 4 5; do
            speedloader promote f g --wait
            speedloader umount
            ! grep -q \"$T/pools\" /proc/self/mountinfo
            $PROGRAM --config $T/config.toml mount $T/mnt > $T/log 2>&1
        done";
    steered(script);
}

#[test]
fn umount_without_a_name_takes_away_what_a_crash_has_left() {
    let script = "
        kill -9 $(speedloader status --json | sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/')
        $PROGRAM --config $T/config.toml umount
        $PROGRAM --config $T/config.toml mount $T/mnt > $T/log 2>&1";
    steered(script);
}

/// The same command again ends a daemon whose mount is gone here, and kept elsewhere.
#[test]
fn what_another_namespace_keeps_ends_all_the_same() {
    let script = "
        mkfifo $T/kept
        unshare --mount --propagation private sh -c \"echo > $T/kept; read line < $T/kept\" &
        read line < $T/kept
        umount $T/mnt
        speedloader umount
        echo > $T/kept
        $PROGRAM --config $T/config.toml mount $T/mnt > $T/log 2>&1";
    steered(script);
}

#[test]
fn the_mountpoint_as_a_name_means_all_that_is_in_it() {
    let script = "
        speedloader promote $T/mnt/ --wait || echo left out $?
        speedloader which $T/mnt | grep -c pools/p";
    if let Some(told) = steered(script) {
        assert!(told.contains("left out 4"), "{told}");
        assert_eq!(told.lines().rev().nth(1), Some("2"), "{told}");
    }
}

#[test]
fn of_several_names_only_those_refused_are_left_out() {
    let script = "
        speedloader promote big f --wait || echo status $?
        speedloader which f
        speedloader pin f p
        speedloader demote f g || echo status $?";
    let Some(told) = steered(script) else { return };
    assert_eq!(told.matches("status 4").count(), 2, "{told}");
    assert!(told.contains("/pools/p/"), "{told}");
}

#[test]
fn the_first_copy_of_a_pin_is_told() {
    let script = "
        speedloader pin f p
        speedloader wait f
        speedloader pin f p";
    let Some(told) = steered(script) else { return };
    let started = told.find("started").expect("the first has begun");
    let already = told.find("already").expect("the second has nothing to do");
    assert!(started < already, "{told}");
}

#[test]
fn a_pool_that_the_file_has_since_can_be_connected_and_goes_with_it() {
    let script = "
        cp $T/config.toml $T/before.toml
        printf '[[pool]]\\nname = \"late\"\\npath = \"%s/pools/late\"\\ncapacity = \"16MiB\"\\n' $T >> $T/config.toml
        speedloader config reload
        speedloader promote g --pool late 2>&1 || echo status $?
        speedloader tiers connect late
        speedloader promote g --pool late --wait
        speedloader which g
        cp $T/before.toml $T/config.toml
        echo while it is used
        speedloader config reload
        speedloader tiers disconnect late
        speedloader config reload
        speedloader tiers connect late 2>&1 || echo status $?";
    let Some(told) = steered(script) else { return };
    // It was said that no pool is called so.
    assert!(told.contains("pool `late` is not connected"), "{told}");
    assert!(told.contains("/pools/late/"), "{told}");
    let (_, after) = told
        .split_once("while it is used")
        .expect("it comes so far");
    assert!(after.contains("no pool is called `late`"), "{told}");
}

/// What a link leads to was looked at only where a start would be needed.
#[test]
fn a_pool_in_the_way_of_something_is_not_saved() {
    let script = "
        mkdir $T/models/within
        ln -s $T/models/within $T/link
        speedloader config set 'pool[1].name=late' 'pool[1].capacity=16MiB' \"pool[1].path=$T/link\" 2>&1 && echo taken
        grep -c late $T/config.toml || true";
    let Some(told) = steered(script) else { return };
    assert!(
        !told.contains("taken") && told.contains("not saved"),
        "{told}"
    );
}

/// A tmpfs takes a size of 0 for no limit at all, and cannot be given one afterwards.
#[test]
fn a_pool_is_never_made_so_small_that_it_has_no_limit() {
    let script = "
        speedloader tiers resize p 0B 2>&1 || echo status $?
        speedloader tiers resize p 1000KiB 2>&1 || echo status $?
        ! grep \"$T/pools\" /proc/mounts | grep -q 'size=0k'
        speedloader tiers resize p 1MiB
        speedloader tiers resize p 64MiB";
    let Some(told) = steered(script) else { return };
    assert_eq!(told.matches("wanted 1.00 MiB or more").count(), 2, "{told}");
}

/// Whom it was that a copy was made for was forgotten with the copy's end.
#[test]
fn transfers_that_have_ended_are_told_whole() {
    let script = "
        speedloader promote f --wait
        speedloader transfers";
    let Some(told) = steered(script) else { return };
    let row = told
        .lines()
        .rev()
        .find(|line| line.contains("done"))
        .expect("a row");
    assert!(row.contains("cold0") && row.contains("request"), "{told}");
}

/// Messages of a daemon in the background went to nobody, and others told people to look there.
#[test]
fn what_a_daemon_in_the_background_says_is_kept() {
    let script = "
        speedloader promote f --wait
        grep 'serves from p' $T/state/daemon.log
        grep -c $(printf '\\033') $T/state/daemon.log || true";
    let Some(told) = steered(script) else { return };
    assert!(
        told.contains("serves from p") && told.contains("\n0\n"),
        "{told}"
    );
}

/// Whoever could write another file of the same name took a pin away, and a rule: both were kept by a name that others
/// change.
#[test]
fn another_model_of_the_same_name_takes_nothing_away() {
    let script = "
        mkdir $T/models/sub $T/mnt/new
        cp $T/cold0/f $T/models/sub/pinned.gguf
        cp $T/cold0/f $T/models/sub/secret.gguf
        speedloader rescan
        speedloader config set 'policy.never=[\"secret\"]'
        speedloader pin pinned p
        speedloader wait pinned
        cp $T/cold0/g $T/mnt/new/pinned.gguf
        cp $T/cold0/g $T/mnt/new/secret.gguf
        speedloader models
        speedloader demote sub/pinned.gguf 2>&1 || echo refused $?
        for one in sub new; do speedloader promote $one/secret.gguf; done
        speedloader umount
        $PROGRAM --config $T/config.toml mount $T/mnt > $T/log 2>&1
        until speedloader which sub/pinned.gguf | grep pools/p; do :; done
        speedloader demote sub/pinned.gguf 2>&1 || echo refused $?
        echo the other
        speedloader demote new/pinned.gguf
        cat $T/state/pins.json";
    let Some(told) = steered(script) else { return };
    assert!(told.contains("pinned (sub/pinned.gguf)"), "{told}");
    assert_eq!(told.matches("is pinned to p").count(), 2, "{told}");
    assert_eq!(told.matches("set to never, and goes").count(), 2, "{told}");
    let (_, other) = told.split_once("the other").expect("it comes so far");
    assert!(other.contains("it is in no pool"), "{told}");
    assert!(other.contains("\"/sub/pinned.gguf\": \"p\""), "{told}");
}

/// Pins as older builds kept them, by name; one of a name that two models have by now holds for both.
#[test]
fn pins_that_were_kept_by_a_name_hold() {
    let script = "
        mkdir $T/models/sub
        for file in one two sub/two; do cp $T/cold0/f $T/models/$file.gguf; done
        speedloader umount
        printf '{\"one\": \"p\", \"two\": \"p\", \"gone\": \"p\"}' > $T/state/pins.json
        $PROGRAM --config $T/config.toml mount $T/mnt > $T/log 2>&1
        for file in one two sub/two; do
            until speedloader which $file.gguf | grep pools/p; do :; done
            speedloader demote $file.gguf 2>&1 || echo refused $?
        done
        speedloader status
        speedloader unpin gone
        speedloader unpin one
        cat $T/state/pins.json";
    let Some(told) = steered(script) else { return };
    assert_eq!(told.matches("is pinned to p").count(), 3, "{told}");
    assert!(
        told.contains("the pin of `gone` to p has no effect"),
        "{told}"
    );
    let (_, kept) = told.rsplit_once('{').expect("the pins");
    for (name, is_kept) in [("/two.gguf", true), ("/sub/two.gguf", true), ("one", false)] {
        assert_eq!(kept.contains(name), is_kept, "{told}");
    }
}

/// Only names meant anything, where paths were promised.
#[test]
fn the_configuration_means_models_by_path_and_pattern_and_tells_what_means_none() {
    let script = "
        mkdir $T/models/sub $T/models/sub/deep
        for file in one sub/two sub/three sub/deep/four; do cp $T/cold0/f $T/models/$file.gguf; done
        speedloader rescan
        speedloader config set 'policy.never=[\"one.gguf\", \"sub/t*\", \"f\", \"nobody\"]' \
            \"policy.always=[\\\"$T/mnt/sub/deep/four.gguf\\\"]\"
        speedloader promote one two three f
        speedloader wait four
        speedloader demote four
        speedloader status";
    let Some(told) = steered(script) else { return };
    assert_eq!(told.matches("set to never, and goes").count(), 4, "{told}");
    assert!(told.contains("set to always, and comes back"), "{told}");
    assert!(
        told.contains("`nobody` in policy.never has no effect"),
        "{told}"
    );
    assert_eq!(told.matches("has no effect").count(), 1, "{told}");
}

/// It was said to be done, and was undone by the next plan.
#[test]
fn what_the_configuration_undoes_again_is_told() {
    let script = "
        speedloader config set 'policy.never=[\"f\"]' 'policy.always=[\"g\"]'
        speedloader promote f g
        speedloader wait f g
        speedloader demote g
        speedloader pin f p
        speedloader unpin f
        until ! speedloader models f --json | grep -q '\"resident_bytes\":{\"'; do :; done";
    let Some(said) = steered(script) else { return };
    assert!(said.contains("set to never, and goes"), "{said}");
    assert!(said.contains("set to always, and comes back"), "{said}");
}

/// Each reload, and each setting that was saved, put it back to what the configuration has; a restart did not.
#[test]
fn a_pin_over_one_of_the_configuration_stays_until_the_file_says_something_new() {
    let script = "
        pinned() { speedloader models f --json | grep -o '\"pinned\":\"[a-z]*\"' || echo free; }
        printf '[[pool]]\\nname = \"late\"\\npath = \"%s/pools/late\"\\ncapacity = \"16MiB\"\\n' $T >> $T/config.toml
        cp $T/config.toml $T/before.toml
        speedloader config set placement.pins.f=p
        speedloader tiers connect late
        speedloader pin f late
        speedloader config reload
        echo after a reload
        pinned
        speedloader config set policy.max_wait=7s
        echo after another setting
        pinned
        cp $T/before.toml $T/config.toml
        speedloader config reload
        echo after it was taken out
        pinned
        cat $T/state/pins.json";
    let Some(told) = steered(script) else { return };
    for said in [
        "after a reload\n\"pinned\":\"late\"\n",
        "after another setting\n\"pinned\":\"late\"\n",
        "after it was taken out\nfree\n",
    ] {
        assert!(told.contains(said), "{told}");
    }
    let (_, kept) = told.split_once("free\n").expect("it comes so far");
    assert!(!kept.contains("late"), "{told}");
}

/// Of one that was taken away it was said that the pins hold.
#[test]
fn a_pin_that_cannot_be_written_down_is_told_as_what_it_is() {
    let script = "
        speedloader pin f p
        rm $T/state/pins.json
        mkdir -p $T/state/pins.json/in-the-way
        speedloader unpin f 2>&1 || echo status $?
        speedloader models f --json | grep -c '\"pinned\":\"p\"' || true";
    let Some(told) = steered(script) else { return };
    assert!(
        told.contains("until a restart, and then as before"),
        "{told}"
    );
    assert!(told.contains("status 1\n0\n"), "{told}");
}

/// It said that another speedloader kept its state, whoever that was.
#[test]
fn a_mount_where_one_is_says_which_and_who_keeps_it() {
    let script = "
        $PROGRAM --config $T/config.toml mount $T/mnt 2>&1 && echo mounted
        exec 7< $T/mnt/f
        speedloader umount --lazy
        $PROGRAM --config $T/config.toml mount $T/mnt 7<&- 2>&1 && echo mounted
        echo shell $$
        exec 7<&-
        until ! speedloader status > /dev/null 2>&1; do :; done
        $PROGRAM --config $T/config.toml mount $T/mnt > $T/log 2>&1";
    let Some(told) = steered(script) else { return };
    assert!(told.contains("/mnt by process "), "{told}");
    let shell = told.lines().find_map(|line| line.strip_prefix("shell "));
    let waits = format!("waits for process {} (sh)", shell.expect("it is said"));
    assert!(
        told.contains("is detached from") && told.contains(&waits),
        "{told}"
    );
    assert!(!told.contains("mounted\n/"), "{told}");
}

/// Two documents were printed: what became of each, and an error.
#[test]
fn what_is_refused_in_part_is_one_json_document() {
    let script = "
        echo begin
        speedloader promote big f --json 2> /dev/null || echo status $?
        echo middle
        speedloader promote big --json 2> /dev/null || echo status $?
        echo end";
    let Some(told) = steered(script) else { return };
    let (_, told) = told.split_once("begin\n").expect("it begins");
    let (parts, rest) = told.split_once("middle\n").expect("it goes on");
    let (whole, _) = rest.split_once("end\n").expect("it ends");
    for (text, member) in [(parts, "moves"), (whole, "error")] {
        let (document, status) = text.trim_end().rsplit_once('\n').expect("two lines");
        assert_eq!(status, "status 4", "{told}");
        let document: serde_json::Value = serde_json::from_str(document).expect("one document");
        assert!(!document[member].is_null(), "{document}");
    }
}

/// It was "applied", and nothing could go there.
#[test]
fn a_pool_that_a_reload_adds_says_how_it_is_had() {
    let script = "
        cp $T/config.toml $T/before
        printf '[[pool]]\\nname = \"two\"\\npath = \"%s/pools/two\"\\ncapacity = \"8MiB\"\\n' $T >> $T/config.toml
        sed -i \"s#$T/s\\\"#$T/elsewhere\\\"#\" $T/config.toml
        speedloader config reload
        cp $T/before $T/config.toml
        speedloader config show --running --origin | grep capacity";
    let Some(told) = steered(script) else { return };
    assert!(
        told.contains("after `speedloader tiers connect two`"),
        "{told}"
    );
    assert!(told.contains("until then `--socket /"), "{told}");
    assert!(told.contains("pool[0].capacity = \"64MiB\"  # "), "{told}");
}

/// `noexec` was taken for one of mount(8)'s own options and left out.
#[test]
fn what_may_not_be_run_is_not_run() {
    let script = "
        speedloader umount
        cp /bin/true $T/models/run
        cp /bin/id $T/models/marked
        chown 1 $T/models/marked
        chmod 4755 $T/models/run $T/models/marked
        mknod -m 666 $T/models/null c 1 3
        for how in mount.exec=true noexec mount.exec=false; do
            $PROGRAM --config $T/config.toml mount $T/mnt -o $how > $T/log 2>&1
            $T/mnt/run 2> /dev/null && echo runs with $how
            test \"$($T/mnt/marked -u 2> /dev/null)\" = 1 && echo marked with $how
            cat $T/mnt/null 2> /dev/null && echo opened with $how
            grep \"$T/mnt\" /proc/self/mountinfo
            test $how = mount.exec=false || speedloader umount
        done
        echo tried";
    let Some(told) = steered(script) else { return };
    let (mounts, done): (Vec<_>, Vec<_>) =
        (told.lines()).partition(|line| line.contains("fuse.speedloader"));
    assert_eq!(mounts.len(), 3, "{told}");
    for (mount, executes) in mounts.iter().zip([true, false, false]) {
        assert!(
            mount.contains("nosuid") && mount.contains("nodev"),
            "{mount}"
        );
        assert_eq!(mount.contains("noexec"), !executes, "{mount}");
    }
    let tried = ["runs with", "marked with", "opened with"];
    let done: Vec<_> = (done.iter())
        .filter(|line| tried.iter().any(|what| line.contains(what)))
        .collect();
    assert_eq!(done, [&"runs with mount.exec=true"], "{told}");
}

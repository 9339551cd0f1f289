# What must be refused, with an error that says why, and nothing changed on either side. Sourced.

# refused POINT WORDS: connecting is refused, with these words in the error, and nothing is different afterwards.
refused() {
    local point=$1 words=$2 left start took status
    start=$(now)
    if speedloader_ tiers connect meadowlark >/run/connect.log 2>&1; then
        fail "$point: it connects"
    fi
    took=$(since "$start")
    grep -qiE "$words" /run/connect.log || {
        sed 's/^/    | /' /run/connect.log
        fail "$point: the error does not say \`$words\`"
    }
    # ssh is away a moment after it was told.
    left=$(compare_here_and_there) || fail "$point: $left"
    row "refused: $point" "$(grep -iE "$words" /run/connect.log | tail -n 1 | cut -c 1-110)" "$took" - unchanged "$left" -
}

compare_here_and_there() {
    state >/run/here.now
    there state >/run/there.now
    diff /run/here.running /run/here.now && diff /run/there.before /run/there.now && echo nothing
}

# A daemon with a configuration, and how things are with it.
with_daemon() {
    configure "$@"
    start_daemon
    state >/run/here.running
    there state >/run/there.before
}

scenario_refused-memory() {
    with_daemon tcp 'capacity = "2GiB"'
    refused "more memory than it has" "memory|capacity"
    stop_daemon
    with_daemon tcp
    there 'mkdir -p /run/full && mount -t tmpfs -o size=450m full /run/full && head -c 430M /dev/zero >/run/full/f'
    there state >/run/there.before
    refused "a machine whose memory is taken" "memory|capacity"
    there 'umount /run/full && rmdir /run/full'
    stop_daemon
}

scenario_refused-size() {
    with_daemon tcp 'capacity = "64MiB"'
    refused "too small for XFS" "300 MiB"
    stop_daemon
}

scenario_refused-ssh() {
    with_daemon tcp
    mv /root/.ssh/id_ed25519 /root/.ssh/away
    refused "no key" "permission denied"
    mv /root/.ssh/away /root/.ssh/id_ed25519
    cp /root/.ssh/known_hosts /root/.ssh/known_hosts.kept
    ssh-keygen -q -t ed25519 -N '' -f /run/other
    printf '* %s\n' "$(cut -d' ' -f1,2 /run/other.pub)" >/root/.ssh/known_hosts
    refused "another host key than is known" "host key"
    : >/root/.ssh/known_hosts
    refused "a host key that nobody knows" "host key"
    mv /root/.ssh/known_hosts.kept /root/.ssh/known_hosts
    stop_daemon
    with_daemon tcp 'ssh = "root@10.9.0.77"' 'ssh_timeout = "5s"'
    refused "a machine that is not there" "did not answer|no route|timed out"
    stop_daemon
}

scenario_refused-module() {
    local where='/lib/modules/$(uname -r)/kernel/drivers/nvme'
    with_daemon tcp
    there "rmmod nvmet_tcp 2>/dev/null; mv $where/target/nvmet-tcp.ko /run/ && depmod"
    refused "no nvmet-tcp there" "nvmet-tcp"
    there "mv /run/nvmet-tcp.ko $where/target/ && depmod"
    rmmod nvme_tcp 2>/dev/null || true
    mv /lib/modules/*/kernel/drivers/nvme/host/nvme-tcp.ko /run/
    depmod
    refused "no nvme-tcp here" "nvme-tcp"
    mv /run/nvme-tcp.ko /lib/modules/*/kernel/drivers/nvme/host/
    depmod
    stop_daemon
}

# Two hosts with the same names for everything: the second is told whose it is.
scenario_refused-other-host() {
    local own
    own=$(cat /etc/nvme/hostnqn)
    configure tcp
    start_daemon
    connect
    promote one.gguf || fail "$(cat /run/promote.log)"
    # The first goes without a word, its export stays.
    kill_daemon
    umount "$mounted"
    leave_here
    echo nqn.2014-08.org.nvmexpress:uuid:00000000-0000-4000-8000-0000000000ff >/etc/nvme/hostnqn
    with_daemon tcp
    refused "an export that is another host's" "another host"
    stop_daemon
    echo "$own" >/etc/nvme/hostnqn
    start_daemon
    connect
    is_remote one.gguf || fail "the first host does not find its copies again"
    same_bytes || fail "wrong bytes"
    disconnect
    stop_daemon
}

# What a daemon has left here when it was killed.
leave_here() {
    local controller
    awk '$1 ~ "^/dev/nvme" {print $2}' /proc/mounts | while read -r at; do umount "$at"; done
    for controller in /sys/class/nvme/*/delete_controller; do
        [ ! -e "$controller" ] || echo 1 >"$controller"
    done
}

# Not our own export with something on it that is not ours: never formatted, not changed.
scenario_refused-foreign() {
    local sum
    configure tcp
    start_daemon
    connect
    kill_daemon
    umount "$mounted"
    leave_here
    there 'ram=$(echo /run/speedloader/exports/*/ram); size=$(stat -c %s $ram)
        dd if=/dev/zero of=$ram bs=1M seek=$((size / 1048576 - 1)) count=1 conv=notrunc 2>/dev/null
        mkfs.ext4 -q -F $ram'
    sum=$(there 'sha256sum /run/speedloader/exports/*/ram')
    with_daemon tcp
    refused "a file system that is not ours" "not ours"
    [ "$sum" = "$(there 'sha256sum /run/speedloader/exports/*/ram')" ] || fail "it was changed"
    say "the foreign file system is byte for byte as it was"
    there 'dd if=/dev/zero of=$(echo /run/speedloader/exports/*/ram) bs=1M count=320 conv=notrunc 2>/dev/null'
    connect
    disconnect
    stop_daemon
}

# The other machine lets a host in that is not this one.
scenario_refused-nqn() {
    with_daemon tcp 'allowed_host_nqn = "nqn.2014-08.org.nvmexpress:uuid:00000000-0000-4000-8000-0000000000aa"' \
        'nqn_prefix = "nqn.2026-01.org.example:elsewhere"'
    # The host says that it is who is let in, and that its id is another's: whichever is believed, nothing breaks.
    if speedloader_ tiers connect meadowlark >/run/connect.log 2>&1; then
        say "the kernel takes the configured NQN for ours"
        disconnect
    else
        sed 's/^/    | /' /run/connect.log
    fi
    stop_daemon
    # An export of this name that is somebody else's altogether: not by us, and for anybody.
    with_daemon tcp
    there 'modprobe -a nvmet nvmet-tcp; s=/sys/kernel/config/nvmet/subsystems/nqn.2026-01.io.speedloader:'"$(nqn_rest)"'
        mkdir "$s" && echo 1 >"$s/attr_allow_any_host"'
    there state >/run/there.before
    refused "a subsystem of this name that we did not make" "another host|already"
    there 'rmdir /sys/kernel/config/nvmet/subsystems/nqn.2026-01*'
    stop_daemon
}

# What follows the prefix in the name of our subsystem, from the steps of a dry run.
nqn_rest() {
    speedloader_ tiers connect meadowlark --dry-run | grep -o 'nqn=nqn.2026-01.io.speedloader:[^, ]*' |
        head -n 1 | cut -d: -f2-
}

# Names that would be options, commands or paths elsewhere: refused before anything is done.
scenario_refused-names() {
    local line bad=0
    rm -f /run/owned
    while read -r line; do
        configure tcp "$line"
        if speedloader config check --config /run/config.toml >/run/check.log 2>&1; then
            say "not refused by the check: $line"
            with_daemon tcp "$line"
            ! speedloader_ tiers connect meadowlark >/run/connect.log 2>&1 || bad=1
            compare_here_and_there || bad=1
            stop_daemon
        else
            say "$(grep -v '^ ' /run/check.log | head -n 1 | cut -c 1-120)"
        fi
        [ ! -e /run/owned ] || fail "a command was run: $line"
    done <<'X'
ssh = "-oProxyCommand=touch /run/owned"
ssh = "root@meadowlark -oProxyCommand=touch$IFS/run/owned"
ssh = "root@meadowlark; touch /run/owned"
ssh = "$(touch /run/owned)@meadowlark"
address = "10.9.0.1,trsvcid=1"
address = "10.9.0.1\ntransport=rdma"
address = "`touch /run/owned`"
nqn_prefix = "nqn.2026-01.io.speedloader/../../../x"
nqn_prefix = "nqn.2026-01.io.speedloader,hostnqn=x"
allowed_host_nqn = "nqn.x/../../y"
filesystem = "xfs; touch /run/owned"
capacity = "320MiB; touch /run/owned"
X
    [ "$bad" = 0 ] || fail "something hostile was taken"
    row "refused: hostile names" "12 values, each refused" - - unchanged nothing -
}

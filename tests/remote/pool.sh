# What the scenarios of a remote pool are written with: on `client`, whose pool lies in the memory of `meadowlark`.
# Sourced.

. /share/host-root.sh
. /share/state.sh

root=/run/root
site=$root/tmp/site
mounted=$site/mnt
models=$site/cold
# Of the file system in $root, for programs that run there.
inside=/tmp/site
socket=/run/speedloader.sock
table=/share/table
# The scenarios that have come to their end, each with how.
done=/share/done
keep_alive=${KEEP_ALIVE:-3} fast_io_fail=2 reconnect_delay=1 ctrl_loss=6 ssh_timeout=${SSH_TIMEOUT:-30} connect_timeout=$((ssh_timeout * 2 / 3))
# Until a reader has its error: a lost machine is noticed after 1.5 to 2 keep-alives, and reads fail
# `fast_io_fail` later; the rest is what an emulated processor takes.
error_limit=$((2 * keep_alive + fast_io_fail + 5))

now() { cut -d' ' -f1 /proc/uptime; }
since() { awk -v a="$1" -v b="${2:-$(now)}" 'BEGIN {printf "%.1f", b - a}'; }
within() { awk -v a="$1" -v b="$2" 'BEGIN {exit !(a <= b)}'; }
say() { printf '    %s\n' "$*"; }

# Says what is wrong, with what the daemon has logged, and ends the scenario.
fail() {
    printf '    FAILED: %s\n' "$*"
    tail -n 25 /run/daemon.log | sed 's/^/    | /'
    exit 1
}

# Waits until a command succeeds: until SECONDS WHAT COMMAND...
until_true() {
    local limit=$1 what=$2 start
    shift 2
    start=$(now)
    until "$@" >/dev/null 2>&1; do
        within "$(since "$start")" "$limit" || fail "not within $limit s: $what"
        sleep 0.1
    done
}

# A line of the table: point, what happened, seconds until an error or the end, limit, bytes, left over, recovery.
row() {
    local IFS=$'\t'
    printf '%s\n' "$*" >>"$table"
}

# --- the other machine

# Runs a script there; answers its output and exit status, 124 if it does not answer.
there() {
    local ask=/share/ask/meadowlark name status start
    name=$BASHPID.$RANDOM$RANDOM
    start=$(now)
    printf '. /share/state.sh\n%s\n' "$*" >"$ask/$name.new"
    mv "$ask/$name.new" "$ask/$name"
    until [ -e "$ask/$name.rc" ]; do
        if ! within "$(since "$start")" 40; then
            rm -f "$ask/$name"
            return 124
        fi
        sleep 0.05
    done
    cat "$ask/$name.out"
    status=$(cat "$ask/$name.rc")
    rm -f "$ask/$name".*
    return "$status"
}

# Asks the runner of the machines for a fault, and waits until it was done.
fault() {
    # By another name: the runner may take it away before it is whole.
    : >"/share/.vm/new.$1"
    mv "/share/.vm/new.$1" "/share/.vm/$1"
    while [ -e "/share/.vm/$1" ]; do sleep 0.05; done
}

power_cut() { fault kill.meadowlark; }

boot() {
    rm -rf /share/ask/meadowlark
    fault boot.meadowlark
    until_true 90 "meadowlark boots" test -d /share/ask/meadowlark
    until_true 60 "meadowlark answers" there true
}

is_up() { [ -e /share/.vm/meadowlark.ready ] && [ -d /share/ask/meadowlark ] && there true; }

# --- the daemon

# RDMA without a card for it, on both machines.
soft_roce() {
    local make='modprobe -a crc32_generic rdma_rxe 2>/dev/null
        rdma link show | grep -q rxe0 || rdma link add rxe0 type rxe netdev eth0'
    eval "$make" && there "$make" || fail "no soft-RoCE: $(rdma link show)"
}

# Writes the configuration; further lines belong to the remote pool and win over what is here.
configure() {
    local transport=$1 line key
    shift
    {
        cat <<X
mountpoint = "$mounted"
models_dir = "$site/models"
state_dir = "$site/state"
[[cold]]
path = "$models"
[policy]
enabled = false
[http]
enabled = false
[control]
socket = "$socket"
[remote.meadowlark]
X
        {
            cat <<X
ssh = "root@meadowlark"
address = "10.9.0.1"
transport = "$transport"
capacity = "320MiB"
filesystem = "xfs"
connect = false
ssh_timeout = "${ssh_timeout}s"
connect_timeout = "${connect_timeout}s"
keep_alive = "${keep_alive}s"
fast_io_fail = "${fast_io_fail}s"
reconnect_delay = "${reconnect_delay}s"
ctrl_loss = "${ctrl_loss}s"
X
            for line in "$@"; do echo "$line"; done
        } | awk '{key = $1; if (!(key in line)) order[++n] = key; line[key] = $0} END {for (i = 1; i <= n; i++) print line[order[i]]}'
    } >/run/config.toml
}

speedloader_() { timeout 300 speedloader --socket "$socket" "$@"; }

start_daemon() {
    [ ! -e /run/daemon.pid ] || fail "a daemon runs already"
    setsid speedloader serve --config /run/config.toml >>/run/daemon.log 2>&1 </dev/null &
    echo $! >/run/daemon.pid
    until_true 60 "the daemon is ready" is_ready
}

is_ready() { speedloader_ status --json | grep -q '"state": *"ready"'; }

# As a person ends it.
stop_daemon() {
    local pid
    pid=$(cat /run/daemon.pid)
    kill -INT "$pid"
    until_true 60 "the daemon has ended" is_gone "$pid"
    rm -f /run/daemon.pid
}

is_gone() { ! kill -0 "$1" 2>/dev/null; }

kill_daemon() {
    local pid
    pid=$(cat /run/daemon.pid)
    kill -KILL "$pid"
    until_true 20 "the daemon is dead" is_gone "$pid"
    rm -f /run/daemon.pid
}

# --- what is done with the pool

connect() { change_tier connect; }
disconnect() { change_tier disconnect; }

# What is said of it is in /run/VERB.log.
change_tier() {
    local verb=$1 start
    start=$(now)
    speedloader_ tiers "$verb" meadowlark >"/run/$verb.log" 2>&1 || {
        sed 's/^/    | /' "/run/$verb.log"
        fail "it does not $verb"
    }
    say "${verb}ed in $(since "$start") s"
}

promote() { speedloader_ promote --wait --pool meadowlark "$1" >/run/promote.log 2>&1; }

# Whether new opens of a file are served from the pool.
is_remote() { speedloader_ which "$1" --json | grep -q '"pool": *"meadowlark"'; }

# Every file of the mount has the bytes of its original, whether or not they are in the page cache.
same_bytes() {
    local file
    echo 3 >/proc/sys/vm/drop_caches
    while read -r file; do
        cmp "$models/$file" "$mounted/$file" >&2 || return 1
    done < <(cd "$models" && find . -type f)
}

# --- before and after

remember() {
    state >/run/here.before
    there state >/run/there.before
    memory >/run/here.memory
    there memory >/run/there.memory
}

# Compares with what was remembered; says what is left, and fails if anything is.
compare() {
    local left='' place a b shared_before shared_after
    # A device is gone a moment after its connection.
    for _ in $(seq 20); do
        state >/run/here.after
        there state >/run/there.after
        cmp -s /run/here.before /run/here.after && cmp -s /run/there.before /run/there.after && break
        sleep 0.25
    done
    for place in here there; do
        diff "/run/$place.before" "/run/$place.after" >"/run/$place.diff" ||
            left+="$place: $(grep -E '^[-+<>] ?[a-z/]' "/run/$place.diff" | tr '\n' ' ')"
    done
    memory >/run/here.memory.after
    there memory >/run/there.memory.after
    for place in here there; do
        read -r a shared_before <"/run/$place.memory"
        read -r b shared_after <"/run/$place.memory.after"
        # What the kernel keeps for itself comes and goes; a pool is 320 MiB.
        [ $((a - b)) -le 48 ] && [ $((shared_after - shared_before)) -le 2 ] ||
            left+="$place: memory from $a to $b MiB, shared $shared_before to $shared_after"
    done
    [ -z "$left" ] || { printf '%s\n' "$left"; return 1; }
    echo nothing
}

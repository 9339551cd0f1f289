# Who dies, and when: one row of the table each. Sourced.
#
# `lost WHO MOMENT`: WHO is `target` (a power cut there), `daemon` (SIGKILL), `link` (packets are lost) or `frozen`
# (the other machine stands still).

# The steps of bringing it up, and after the end of what each begins: a line of `tiers connect`.
moment_begins() {
    case $1 in
        reach) pgrep -x ssh ;;
        ram) grep -q '^reach the other machine: ' /run/connect.log ;;
        export) grep -q '^take its memory: ' /run/connect.log ;;
        connect) grep -q '^offer it over NVMe: ' /run/connect.log ;;
        format) grep -q '^connect to it: ' /run/connect.log ;;
        mount) grep -q '^make a file system: ' /run/connect.log ;;
    esac
}

strike() {
    case $1 in
        # It stands still meanwhile, so that no step is over before the power is.
        target) freeze_daemon STOP; power_cut; freeze_daemon CONT ;;
        daemon) kill_daemon ;;
        link) fault cut ;;
        frozen) fault stop.meadowlark ;;
    esac
}

freeze_daemon() { kill "-$1" "$(cat /run/daemon.pid)"; }

# Everybody is there again, by hand and by restart, and knows nothing of it.
revive() {
    case $1 in
        target) boot; [ -z "${tls:-}" ] || handshakes ;;
        daemon) start_daemon ;;
        link) fault join; until_true 60 "meadowlark answers" there true ;;
        frozen) fault cont.meadowlark; until_true 60 "meadowlark answers" there true ;;
    esac
}

# The whole way again: connected by the documented command, used, disconnected, and nothing is left. Whoever answers
# before the kernel has given it up is there without.
recover() {
    recovery="tiers connect"
    if speedloader_ tiers connect meadowlark >/run/connect.log 2>&1; then
        say "connected again"
    elif grep -q 'connected already' /run/connect.log; then
        until_true "$error_limit" "it answers again" answers
        recovery="by itself"
    else
        fail "it does not connect: $(cat /run/connect.log)"
    fi
    promote one.gguf || fail "no promotion after it: $(cat /run/promote.log)"
    is_remote one.gguf || fail "it is not in the pool after it"
    same_bytes || fail "wrong bytes after it"
    disconnect
    stop_daemon
    left=$(compare) || fail "left over: $left"
}

answers() { speedloader_ tiers --json | grep -q '"state": *"connected"'; }

lost() {
    local who=$1 moment=$2 left='' struck took what='' limit bytes=right recovery
    configure tcp ${tls:+'tls = true'}
    [ -z "${tls:-}" ] || handshakes
    remember
    start_daemon
    case $moment in
        reach | ram | export | connect | format | mount) lost_while_connecting ;;
        promoting) lost_while_promoting ;;
        reading) lost_while_reading ;;
        idle) lost_while_idle ;;
        disconnecting) lost_while_disconnecting ;;
    esac
    recover
    row "$who, $moment${tls:+, with TLS}" "$what" "$took" "$limit" "$bytes" "$left" "$recovery"
}

# What is asked for in the background has its words in /run/NAME.log and its status in /run/NAME.rc.
in_background() {
    local name=$1
    shift
    rm -f "/run/$name.rc"
    : >"/run/$name.log"
    (
        status=0
        "$@" >"/run/$name.log" 2>&1 || status=$?
        echo "$status" >"/run/$name.rc"
    ) &
}

# The end of what was asked for: seconds since the blow, and its last words.
its_end() {
    local name=$1
    until_true "$limit" "$name has ended" test -s "/run/$name.rc"
    took=$(since "$struck")
    what="$(cat "/run/$name.rc"): $(grep -v '^ ' "/run/$name.log" | tail -n 1 | cut -c 1-110)"
}

lost_while_connecting() {
    # Three questions over ssh may each be waited for, and the connection.
    limit=$((3 * ssh_timeout + connect_timeout))
    in_background connect speedloader_ tiers connect meadowlark
    until_true 120 "it comes to $moment" moment_begins "$moment"
    strike "$who"
    struck=$(now)
    its_end connect
    same_home || fail "wrong bytes"
    revive "$who"
}

same_home() { [ "$who" = daemon ] || same_bytes; }

lost_while_promoting() {
    limit=$error_limit
    connect
    # It must not be over before the blow falls.
    head -c 160M /dev/urandom >"$models/long.gguf"
    speedloader_ rescan >/dev/null
    in_background promote speedloader_ promote --wait --pool meadowlark long.gguf
    until_true 60 "the copy has begun" is_copying
    strike "$who"
    struck=$(now)
    its_end promote
    same_home || fail "wrong bytes"
    revive "$who"
    rm "$models/long.gguf"
}

is_copying() { speedloader_ transfers --json | grep -q '"done_bytes": *[1-9]'; }

read_on() {
    rm -f /share/report
    in_root "$root" python3 /share/reader.py "$inside/mnt/one.gguf" "$inside/cold/one.gguf" /share/report &
    reader=$!
    until_true 60 "it is read" grep -q pass /share/report
}

lost_while_reading() {
    local start
    limit=$error_limit
    connect
    promote one.gguf || fail "$(cat /run/promote.log)"
    read_on
    strike "$who"
    struck=$(now)
    if [ "$who" = daemon ]; then
        # The kernel goes on by itself.
        : >/share/report.after
        sleep 3
        what="$(awk -v s="$struck" '$1 > s && $2 == "pass"' /share/report | wc -l) passes go on without it"
        took=0
        ! grep -qE 'error|wrong' /share/report || fail "$(tail -n 1 /share/report)"
    else
        until_true "$limit" "the reader has its error" grep -qE 'error|wrong' /share/report
        took=$(since "$struck" "$(awk '$2 == "error" {print $1}' /share/report)")
        ! grep -q wrong /share/report || fail "$(tail -n 1 /share/report)"
        what=$(tail -n 1 /share/report | cut -d' ' -f2-)
        start=$(now)
        same_bytes || fail "new opens have wrong bytes"
        what+=", new opens at once ($(since "$start") s)"
    fi
    rm -f /share/report
    # Not for the daemon, which is this shell's too.
    wait "$reader" || true
    revive "$who"
}

lost_while_idle() {
    # Nobody's read fails here: it is given up by the kernel.
    limit=$((error_limit - fast_io_fail + ctrl_loss))
    connect
    promote one.gguf || fail "$(cat /run/promote.log)"
    strike "$who"
    struck=$(now)
    if [ "$who" = daemon ]; then
        what="the pool waits for the next daemon"
        took=0
    else
        until_true "$limit" "the loss is noticed" is_lost
        took=$(since "$struck")
        what="$(speedloader_ tiers | grep meadowlark | tr -s ' ' | cut -c 1-80)"
        same_bytes || fail "wrong bytes"
    fi
    revive "$who"
}

is_lost() { ! is_remote one.gguf; }

lost_while_disconnecting() {
    limit=$((3 * ssh_timeout + error_limit))
    connect
    promote one.gguf || fail "$(cat /run/promote.log)"
    in_background disconnect speedloader_ tiers disconnect meadowlark
    until_true 60 "it has begun" grep -q . /run/disconnect.log
    strike "$who"
    struck=$(now)
    its_end disconnect
    same_home || fail "wrong bytes"
    revive "$who"
}

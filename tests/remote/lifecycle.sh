# From nothing to a pool on another machine, a model through it, and back to nothing. Sourced.

scenario_tcp() { lifecycle tcp; }
scenario_rdma() { lifecycle rdma; }

# Bytes of the pool's files in this machine's page cache.
cached() {
    local each
    each=$(find /run/speedloader/pools/meadowlark -type f -size +1000k -exec fincore -b -n -o RES {} +)
    [ -n "$each" ] || fail "nothing says what is in the page cache"
    awk '{s += $1} END {print s + 0}' <<<"$each"
}

is_let_go() { [ "$(cached)" = 0 ]; }

# One more connection to a subsystem, with a secret or without, and with further options.
connect_by_hand() {
    printf 'transport=tcp,traddr=10.9.0.1,trsvcid=4420,nqn=%s,hostnqn=%s,hostid=%s,duplicate_connect%s%s' "$1" \
        "$(cat /etc/nvme/hostnqn)" "$(cat /etc/nvme/hostid)" "${2:+,dhchap_secret=$2}" "${3:-}" >/dev/nvme-fabrics
}

# Who has the name of a host and not its secret is not let in.
scenario_secret() {
    local secret other nqn left start
    # Without a hash: 32 random bytes and their check.
    secret=$(nvme gen-dhchap-key -m 0 -l 32) other=$(nvme gen-dhchap-key -m 0 -l 32)
    configure tcp "dhchap_secret = \"$secret\""
    remember
    start_daemon
    start=$(now)
    ! speedloader_ tiers connect meadowlark --dry-run | grep -F "$secret" || fail "the dry run tells the secret"
    connect
    promote one.gguf || fail "$(cat /run/promote.log)"
    same_bytes || fail "wrong bytes"
    nqn=$(there 'ls /sys/kernel/config/nvmet/subsystems')
    # Our connection stays; others by hand.
    ! connect_by_hand "$nqn" "" || fail "it is let in without a secret"
    ! connect_by_hand "$nqn" "$other" || fail "it is let in with another secret"
    connect_by_hand "$nqn" "$secret" || fail "it is not let in with its secret"
    ! grep -F "$secret" /run/daemon.log || fail "the log tells the secret"
    same_bytes || fail "wrong bytes"
    disconnect
    stop_daemon
    left=$(compare) || fail "left over: $left"
    row "tcp with a secret" "no other and none is let in" "$(since "$start")" - right "$left" -
}

# The bytes of a model as a real engine has them; the same for the same weights.
loaded() {
    in_root "$root" "$REPOSITORY/tests/.venv/base/bin/python" "$REPOSITORY/tests/engines/load.py" "$1" "$2" |
        grep '"loader"'
}

lifecycle() {
    local transport=$1 start wanted found left
    configure "$transport"
    [ "$transport" != rdma ] || soft_roce
    remember
    start_daemon
    start=$(now)
    speedloader_ tiers connect meadowlark --dry-run | sed 's/^/    | /'
    compare_names "a dry run"
    connect
    sed 's/^/    | /' /run/connect.log
    speedloader_ tiers | sed 's/^/    | /'
    if [ -n "$ENGINES" ]; then
        wanted=$(loaded safetensors "$inside/cold/org/model")
        promote org/model || fail "$(cat /run/promote.log)"
        is_remote org/model/model-00001-of-00002.safetensors || fail "it is not in the pool"
        echo 3 >/proc/sys/vm/drop_caches
        found=$(loaded safetensors "$inside/mnt/org/model")
        [ "$wanted" = "$found" ] || fail "safetensors read $found, not $wanted"
        say "safetensors: the same tensors from the pool: $(grep -o '"sha256": "[0-9a-f]\{12\}' <<<"$found" | tail -c 13)"
        wanted=$(loaded llama-mmap "$inside/cold/one.gguf")
        promote one.gguf || fail "$(cat /run/promote.log)"
        echo 3 >/proc/sys/vm/drop_caches
        found=$(loaded llama-mmap "$inside/mnt/one.gguf")
        [ "$wanted" = "$found" ] || fail "llama.cpp says $found, not $wanted"
        say "llama.cpp: the same tokens and probabilities from the pool"
    else
        promote org/model || fail "$(cat /run/promote.log)"
        promote one.gguf || fail "$(cat /run/promote.log)"
    fi
    is_remote one.gguf || fail "it is not in the pool"
    same_bytes || fail "wrong bytes"
    say "$(cached) bytes of the pool are in the page cache after reading all of it"
    until_true 10 "the page cache lets go what was read" is_let_go
    speedloader_ demote org/model one.gguf
    ! is_remote one.gguf || fail "it is still in the pool"
    same_bytes || fail "wrong bytes after demotion"
    promote one.gguf || fail "$(cat /run/promote.log)"
    disconnect
    same_bytes || fail "wrong bytes after the end"
    stop_daemon
    left=$(compare) || fail "left over: $left"
    row "$transport: all of it" "from nothing to nothing" "$(since "$start")" - right "$left" -
}

# Nothing is different but the daemon itself.
compare_names() {
    state | grep -vE "^mount speedloader |speedloader" >/run/here.now
    there state >/run/there.now
    grep -vE "speedloader" /run/here.before | cmp -s - /run/here.now || fail "$1 changes this machine"
    cmp -s /run/there.before /run/there.now || fail "$1 changes the other machine"
}

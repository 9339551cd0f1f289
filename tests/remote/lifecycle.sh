# From nothing to a pool on another machine, a model through it, and back to nothing. Sourced.

scenario_tcp() { lifecycle tcp; }
scenario_rdma() { lifecycle rdma; }

# The bytes of a model as a real engine has them; the same for the same weights.
loaded() {
    in_root "$root" "$REPOSITORY/tests/.venv/base/bin/python" "$REPOSITORY/tests/engines/load.py" "$1" "$2" |
        grep '"loader"'
}

lifecycle() {
    local transport=$1 start wanted found left
    configure "$transport"
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

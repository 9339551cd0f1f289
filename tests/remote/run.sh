#!/usr/bin/env bash
# Tests in virtual machines, as root on Debian:  run.sh short|all|fallback
#
#   short     from nothing to a remote pool over TCP between two machines, and back to nothing
#   all       the whole table: TCP and RDMA, every point of failure, what must be refused, and ratios
#   fallback  the mounted tests and real engines on Debian 12's own kernel, which has no FUSE passthrough
#
# SPEEDLOADER_VM_SCENARIOS="NAME..." runs those scenarios alone.
# SPEEDLOADER_VM_PROFILE=dev takes the debug build for `all`: slower there, and built by the other tests already.
# SPEEDLOADER_VM_FILTERS="WORD..." are words for the test program instead of those that `fallback` uses.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
cd "$repository"
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
share=$(mktemp -d)
# shellcheck disable=SC2317 # reached by the trap
finish() { rm -rf "$share"; }
trap finish EXIT
trap 'exit 130' INT TERM

# What is built for guests is optimised a little: their processors are emulated.
fallback() {
    local built tests
    built=$(cargo test --profile guest --workspace --locked --test main --no-run --message-format=json)
    tests=$(python3 -c '
import json, sys
for line in sys.stdin:
    found = json.loads(line)
    if found.get("executable") and found["target"]["name"] == "main" and "test" in found["target"]["kind"]:
        print(found["executable"])' <<<"$built")
    python3 tests/engines/setup.py tests/.venv >/dev/null
    cp "$tests" "$share/tests"
    cp "$target/guest/speedloader" "$here/host-root.sh" "$share/"
    [ -n "${SPEEDLOADER_VM_FILTERS:-}" ] ||
        echo "SKIPPED mounted::workload: 800 loads, each counted after a second, tell of the policy, not of the kernel"
    nice -n 10 bash "$here/vm.sh" -k bookworm -s "$share" -r -d 8192 -c 2 -m 4096 -t 3000 \
        -e "REPOSITORY=$repository" -e "PROGRAM=$target/guest/speedloader" -e PATIENCE=20 -e MOVES=100 \
        -e "FILTERS=${SPEEDLOADER_VM_FILTERS:-mounted:: --skip workload::}" -e "ENGINES=llama-mmap,llama-none,llama-dio,safetensors" \
        box="$here/fallback.sh"
}

moments="reach ram export connect format mount promoting reading idle disconnecting"

# What runs in both machines, of a profile that is built already, or is worth it.
build() { # PROFILE
    local directory=$1
    [ "$1" != dev ] || directory=debug
    cargo build --profile "$1" --workspace --locked
    strip -o "$share/speedloader" "$target/$directory/speedloader"
}

# Scenarios between two machines.
pool() { # LIMIT SCENARIO...
    local limit=$1 engines=''
    shift
    cp "$here"/{client,pool,state,host-root,lifecycle,failures,refusals,ratios,tls}.sh "$here/reader.py" "$share/"
    python3 tests/engines/setup.py tests/.venv >/dev/null && engines=1
    mkdir -p "$share/models/org/model"
    if [ -n "$engines" ]; then
        tests/.venv/base/bin/python tests/engines/models.py hf --size 24M --shards 2 --seed 3 "$share/models/org/model"
        tests/.venv/base/bin/python tests/engines/models.py gguf --size 8M --seed 1 "$share/models/one.gguf"
    else
        echo "SKIPPED engines: their Python packages cannot be had here; bytes are compared all the same"
        head -c 8M /dev/urandom >"$share/models/one.gguf"
        head -c 24M /dev/urandom >"$share/models/org/model/model-00001-of-00002.safetensors"
    fi
    local boot status
    for boot in 1 2 3 4; do
        status=0
        nice -n 10 bash "$here/vm.sh" -k trixie -s "$share" -r -d 2048 -t "$limit" \
            -e "REPOSITORY=$repository" -e "ENGINES=$engines" -e "SSH_TIMEOUT=${ssh_timeout:-}" -e "KEEP_ALIVE=${keep_alive:-}" -e "SCENARIOS=${SPEEDLOADER_VM_SCENARIOS:-$*}" \
            meadowlark="$here/node.sh" client="$here/client.sh" || status=$?
        # QEMU 7.2 emulates the processor's flags wrongly now and then, mostly under soft-RoCE: in two of six
        # runs a kernel died with EFLAGS that are an address. What had not ended is begun anew.
        [ "$status" = 125 ] && grep -q 'Kernel panic' "$share"/.vm/*.console || return "$status"
        echo "a machine's kernel has died (boot $boot); the scenarios that had not ended begin anew"
    done
    # So often it is no accident of the emulation.
    return 1
}

short() {
    local status=0
    build dev
    # An unoptimised program on an emulated processor, on any machine: what is waited for does not matter here.
    ssh_timeout=120 keep_alive=15
    pool 600 tcp || status=$?
    case $status in
        124) echo "SKIPPED remote: emulated machines are too slow here, it was not done within 600 s" ;;
        125) echo "SKIPPED remote: emulated machines do not boot in time here" ;;
        *) return "$status" ;;
    esac
    return 77
}

all() {
    local scenarios=(tcp rdma secret tls ratios) who moment
    build "${SPEEDLOADER_VM_PROFILE:-guest}"
    for who in target daemon; do
        for moment in $moments; do scenarios+=("lost-$who-$moment"); done
    done
    scenarios+=(lost-link-reading lost-link-idle lost-frozen-reading lost-frozen-promoting)
    scenarios+=(tls-lost-target-reading tls-lost-link-reading tls-lost-daemon-reading)
    scenarios+=(refused-{memory,size,ssh,module,other-host,foreign,nqn,names,tls})
    pool 6000 "${scenarios[@]}"
}

case ${1:-} in
    short | all | fallback) "$1" ;;
    *) sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac

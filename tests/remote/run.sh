#!/usr/bin/env bash
# Tests in virtual machines, as root on Debian:  run.sh fallback
#
#   fallback  the mounted tests and real engines on Debian 12's own kernel, which has no FUSE passthrough
#
# SPEEDLOADER_VM_FILTERS="WORD..." are words for the test program instead of those that are used here.
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

case ${1:-} in
    fallback) "$1" ;;
    *) sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac

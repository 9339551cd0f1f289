#!/usr/bin/env bash
# Boots one or two virtual machines on a private link and runs a bash script in each:
#
#   vm.sh [-k SUITE] [-s SHARE] [-t SECONDS] [-m MIB] [-c CPUS] [-r] [-d MIB] [-e NAME=VALUE]... NODE=SCRIPT [NODE=SCRIPT]
#
# NODE is the guest's host name (letters, digits, `-`). Guests see each other by name (10.9.0.1, 10.9.0.2),
# SHARE (default: a new temporary directory) read-write as /share, and each has an sshd that lets the other's
# root in. There is no other network. With -r they can also read this machine's root directory (9p, tag
# `host`, read-only), with -d they have an empty disk of that size (/dev/vda), with -e their scripts have a
# variable; nothing else of the environment reaches them.
#
# It ends when the LAST node's script ends, when any script fails, or after -t seconds (default 300); the
# machines are then ended, and the exit status is that of the script in question, 124 after a time-out, 125
# when a machine did not boot. Output: SHARE/.vm/NODE.log (the script's, the last node's also as it comes,
# the others' at the end), SHARE/.vm/NODE.console (the kernel's).
#
# A guest can ask for a fault by making a file in /share/.vm/:
#   kill.NODE  end that machine at once, as a power cut     boot.NODE  boot it again after that
#   stop.NODE  freeze it     cont.NODE  let it go on        cut, join  unplug the link, plug it in again
# The file is gone when that was done. What a frozen machine is sent waits and is not lost: for what happens
# without a peer, kill it. After boot.NODE its script is run anew.
#
# Without KVM on purpose: emulation (TCG) works wherever QEMU does. SPEEDLOADER_VM_ACCEL=kvm for KVM.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
suite=trixie share='' limit=300 memory=768 processors=1 with_root='' disk='' variables=()
while getopts k:s:t:m:c:rd:e: option; do
    case $option in
        k) suite=$OPTARG ;; s) share=$OPTARG ;; t) limit=$OPTARG ;; m) memory=$OPTARG ;;
        c) processors=$OPTARG ;; r) with_root=1 ;; d) disk=$OPTARG ;; e) variables+=("$OPTARG") ;;
        *) sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
done
shift $((OPTIND - 1))
if [ $# -lt 1 ] || [ $# -gt 2 ]; then
    echo "vm: one or two NODE=SCRIPT, see the top of $0" >&2
    exit 2
fi
image=$(bash "$here/image.sh" "$suite")

own_share=
[ -n "$share" ] || { share=$(mktemp -d); own_share=1; }
mkdir -p "$share"
share=$(cd "$share" && pwd) state=$share/.vm
rm -rf "$state"
mkdir -p "$state"
run=$(mktemp -d) # sockets: their paths must be short
declare -A pid
nodes=() tailer=''

# shellcheck disable=SC2317 # reached by the trap
finish() {
    local node
    for node in "${nodes[@]}"; do
        [ -z "${pid[$node]:-}" ] || kill -9 "${pid[$node]}" 2>/dev/null || true
    done
    [ -z "$tailer" ] || { sleep 0.2; kill "$tailer" 2>/dev/null || true; }
    wait 2>/dev/null || true
    rm -rf "$run"
    [ -z "$own_share" ] || rm -rf "$share"
}
trap finish EXIT
trap 'exit 130' INT TERM

acceleration=${SPEEDLOADER_VM_ACCEL:-tcg} kernel_options=
case $acceleration in
    kvm) processor=host ;;
    # Without these the kernel copies and clears memory by words; by bytes, emulated, it takes 60 s to start a pool.
    # After a cmpxchg16b QEMU 7.2 may leave an address in EFLAGS, and the kernel dies of it: it is told to use another
    # way. Programs keep it: NumPy asks for it.
    tcg) acceleration=tcg,thread=multi processor=max,erms=off,fsrm=off kernel_options=clearcpuid=cx16 ;;
    *) processor=max ;;
esac

index=0
for argument in "$@"; do
    node=${argument%%=*} index=$((index + 1))
    nodes+=("$node")
    cp "${argument#*=}" "$state/$node.sh"
    : >"$state/$node.log"
    echo "10.9.0.$index $node" >>"$state/hosts"
done
for variable in "${variables[@]}"; do
    printf 'export %s=%q\n' "${variable%%=*}" "${variable#*=}" >>"$state/environment"
done

boot() { # INDEX NODE
    local index=$1 node=$2 link more=()
    # Datagrams: when the other side is gone packets are lost and the carrier stays, as behind a switch.
    # A stream would drop the carrier.
    rm -f "$run/$index" "$run/q$index"
    link=(-netdev "dgram,id=n0,local.type=unix,local.path=$run/$index,remote.type=unix,remote.path=$run/$((3 - index))")
    [ ${#nodes[@]} = 2 ] || link=(-netdev "hubport,id=n0,hubid=0")
    if [ -n "$with_root" ]; then
        more+=(-fsdev "local,id=h,path=/,security_model=none,readonly=on,multidevs=remap"
            -device virtio-9p-pci,fsdev=h,mount_tag=host)
    fi
    if [ -n "$disk" ]; then
        rm -f "$run/$index.disk"
        truncate -s "${disk}M" "$run/$index.disk"
        more+=(-drive "file=$run/$index.disk,if=none,id=d,format=raw,cache=unsafe,aio=threads,discard=unmap"
            -device virtio-blk-pci,drive=d)
    fi
    # `no_timer_check`: on a loaded machine the guest would take its timer for a broken one.
    env -i PATH="$PATH" qemu-system-x86_64 -accel "$acceleration" -M q35 -cpu "$processor" -smp "$processors" \
        -m "$memory" -nodefaults -display none -no-reboot -serial "file:$state/$node.console" \
        -kernel "$image/vmlinux" -initrd "$image/initrd.cpio" \
        -append "console=ttyS0 quiet panic=-1 reboot=t mitigations=off no_timer_check $kernel_options vm.node=$node vm.idx=$index vm.ip=10.9.0.$index" \
        -fsdev "local,id=s,path=$share,security_model=none,multidevs=remap" \
        -device virtio-9p-pci,fsdev=s,mount_tag=share "${more[@]}" \
        "${link[@]}" -device "virtio-net-pci,netdev=n0,mac=52:54:00:09:00:0$index" \
        -device virtio-rng-pci -qmp "unix:$run/q$index,server=on,wait=off" 2>"$state/$node.qemu" &
    pid[$node]=$!
    disown "$!"
    booted[$node]=$((SECONDS + 120))
}

declare -A booted
for index in "${!nodes[@]}"; do boot $((index + 1)) "${nodes[$index]}"; done
main=${nodes[-1]}
tail -n +1 -f "$state/$main.log" &
tailer=$!

set_link() { # on|off, for every machine
    local socket
    for socket in "$run"/q*; do
        python3 - "$socket" "$1" <<'PY' || true
import json, socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); f = s.makefile("rw")
f.readline()
for c, a in (("qmp_capabilities", {}), ("set_link", {"name": "n0", "up": sys.argv[2] == "on"})):
    f.write(json.dumps({"execute": c, "arguments": a}) + "\n"); f.flush(); f.readline()
PY
    done
}

# Does what guests have asked for of a machine.
faults() { # INDEX NODE
    local index=$1 node=$2 fault
    for fault in kill boot stop cont; do
        [ -e "$state/$fault.$node" ] || continue
        case $fault in
            kill)
                if [ -n "${pid[$node]}" ]; then
                    kill -9 "${pid[$node]}" 2>/dev/null || true
                    while kill -0 "${pid[$node]}" 2>/dev/null; do sleep 0.05; done
                fi
                pid[$node]='' ;;
            boot) rm -f "$state/$node.ready" "$state/$node.rc"; boot "$index" "$node" ;;
            stop) [ -z "${pid[$node]}" ] || kill -STOP "${pid[$node]}" ;;
            cont) [ -z "${pid[$node]}" ] || kill -CONT "${pid[$node]}" ;;
        esac
        rm -f "$state/$fault.$node"
    done
}

status=''
end=$((SECONDS + limit))
while [ -z "$status" ]; do
    [ $SECONDS -lt $end ] || { echo "vm: not done within $limit s" >&2; status=124; break; }
    for index in "${!nodes[@]}"; do
        node=${nodes[$index]}
        faults $((index + 1)) "$node"
        if [ -s "$state/$node.rc" ]; then
            ended=$(cat "$state/$node.rc")
            if [ "$node" = "$main" ] || [ "$ended" != 0 ]; then status=$ended; break; fi
        elif [ -n "${pid[$node]}" ]; then
            alive=1
            kill -0 "${pid[$node]}" 2>/dev/null || alive=
            [ -e "$state/$node.ready" ] || [ $SECONDS -lt "${booted[$node]}" ] || alive=
            if [ -z "$alive" ]; then
                echo "vm: $node has died or did not boot:" >&2
                tail -n 60 "$state/$node.qemu" "$state/$node.console" >&2 || true
                status=125
                break
            fi
        fi
    done
    if [ -e "$state/cut" ]; then set_link off; rm -f "$state/cut"; fi
    if [ -e "$state/join" ]; then set_link on; rm -f "$state/join"; fi
    sleep 0.1
done
sleep 0.3
for node in "${nodes[@]}"; do
    [ "$node" = "$main" ] || { echo "--- $node"; cat "$state/$node.log"; }
done
exit "$status"

# Pools whose data is encrypted on its way: the kernels do it, `tlshd` on either machine does their handshakes. Sourced.

# Runs it on both machines, where the keyring of NVMe is there already: as a machine does at boot that loads the module
# then. A scenario that is not about it does not mind that it is there.
handshakes() {
    local make='modprobe -a nvme-keyring tls
        pgrep -x tlshd >/dev/null || setsid tlshd -s </dev/null >>/run/tlshd.log 2>&1 &
        for _ in $(seq 100); do ! pgrep -x tlshd >/dev/null || exit 0; sleep 0.1; done; exit 1'
    (eval "$make") && there "$make" || fail "no tlshd: $(cat /run/tlshd.log)"
}

no_handshakes_here() { kill "$(pgrep -x tlshd)"; }

# Sockets whose data the kernel encrypts now.
encrypted_sockets() {
    awk '$1 == "TlsCurrRxSw" || $1 == "TlsCurrRxDevice" {s += $2} END {print s + 0}' /proc/net/tls_stat
}

# What the keys are known by, on either machine.
key_here() { state | grep ^key; }
key_there() { there 'state | grep ^key'; }

# A key of other bytes by a name that is known there, in root's own keyring; says its
# number. x86-64's numbers of add_key and keyctl; commands 5, 8 and 9 set permissions, link and unlink.
put_key() { # IDENTITY
    in_root "$root" python3 - "$1" <<'X'
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
of_thread, of_user = -1, -4
key = libc.syscall(248, b"psk", sys.argv[1].encode(), os.urandom(32), ctypes.c_size_t(32), of_thread)
assert key > 0, os.strerror(ctypes.get_errno())
assert libc.syscall(250, 5, key, 0x3F0B0000) == 0
assert libc.syscall(250, 8, key, of_user) == 0
print(key)
X
}

remove_key() { # NUMBER
    in_root "$root" python3 -c "import ctypes; assert ctypes.CDLL(None).syscall(250, 9, $1, -4) == 0"
}

# Takes all keys out of our keyring that a scenario which failed has left.
forget_keys() {
    local key ring
    ring=$(awk '$8 == "keyring" && $9 == ".nvme:" {print $1}' /proc/keys)
    for key in $(awk '$8 == "psk" {print $1}' /proc/keys); do
        in_root "$root" python3 -c "import ctypes; ctypes.CDLL(None).syscall(250, 9, 0x$key, 0x$ring)"
    done
}

# Counts the packets that hold a piece of a file: none, if they are encrypted. What is too fast to be seen is missed.
watch_wire() { # FILE
    in_root "$root" python3 - "$1" <<'X' &
import os, socket, sys
file = open(sys.argv[1], "rb").read()
pieces = [file[at : at + 64] for at in range(1 << 18, len(file), 1 << 19)]
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
s.setsockopt(socket.SOL_SOCKET, 33, 32 << 20)  # SO_RCVBUFFORCE
s.settimeout(0.5)
open("/share/watching", "w").close()
seen = found = 0
while os.path.exists("/share/watching"):
    try:
        packet = s.recv(1 << 17)
    except TimeoutError:
        continue
    seen += len(packet)
    found += any(piece in packet for piece in pieces)
open("/share/watched", "w").write(f"{seen} {found}\n")
X
    watcher=$!
    until_true 30 "packets are watched" test -e /share/watching
}

# Reads a file from the pool, and says how many bytes were seen on the wire, and how many packets held a piece of it.
read_watched() {
    rm -f /share/watched
    echo 3 >/proc/sys/vm/drop_caches
    watch_wire "$inside/cold/one.gguf"
    cmp "$models/one.gguf" "$mounted/one.gguf" || fail "wrong bytes"
    sleep 1
    rm -f /share/watching
    wait "$watcher" || fail "the wire was not watched"
    cat /share/watched
}

same_keys() { [ "$(key_here)" = "$(key_there)" ]; }

scenario_tls() {
    local start nqn left key identity number seen found
    handshakes
    # First without: what is looked for on the wire would be seen there.
    configure tcp
    start_daemon
    connect
    promote one.gguf || fail "$(cat /run/promote.log)"
    read -r seen found <<<"$(read_watched)"
    [ "$found" -gt 0 ] || fail "nothing is seen on the wire without TLS ($seen bytes)"
    say "without TLS: $seen bytes on the wire, $found packets hold a piece of the file"
    disconnect
    stop_daemon

    configure tcp 'tls = true'
    remember
    start_daemon
    start=$(now)
    speedloader_ tiers connect meadowlark --dry-run | sed 's/^/    | /'
    connect
    sed 's/^/    | /' /run/connect.log
    promote one.gguf || fail "$(cat /run/promote.log)"
    is_remote one.gguf || fail "it is not in the pool"
    read -r seen found <<<"$(read_watched)"
    [ "$found" = 0 ] && [ "$seen" -gt 1000000 ] || fail "$found packets of $seen bytes hold a piece of the file"
    say "with TLS: $seen bytes on the wire, no packet holds a piece of the file"
    same_bytes || fail "wrong bytes"
    [ "$(encrypted_sockets)" -ge 2 ] || fail "$(encrypted_sockets) sockets are encrypted: $(cat /proc/net/tls_stat)"
    [ -n "$(cat /sys/class/nvme/nvme*/tls_key)" ] || fail "the controller has no key"
    key=$(key_here)
    [ -n "$key" ] && [ "$key" = "$(key_there)" ] || fail "the keys differ: $key, $(key_there)"
    grep -q "encrypted (TLS)" /run/connect.log || fail "nobody says that it is encrypted"

    # Our connection stays; others by hand, without TLS and with another key of the same name.
    nqn=$(there 'ls /sys/kernel/config/nvmet/subsystems')
    ! connect_by_hand "$nqn" "" || fail "it is let in without TLS"
    identity=$(sed 's/^key //' <<<"$key")
    number=$(put_key "${identity%:*}")
    ! connect_by_hand "$nqn" "" ",tls,tls_key=$number" || fail "it is let in with another key"
    remove_key "$number"
    until_true 10 "the other key is gone" same_keys
    same_bytes || fail "wrong bytes"

    # A daemon that comes back takes over what stands.
    key=$(key_there)
    kill_daemon
    start_daemon
    connect
    [ "$key" = "$(key_there)" ] || fail "a new key for a connection that stands"
    is_remote one.gguf || fail "the copies are not found again"
    # What stands no more is made anew, with a key of its own.
    kill_daemon
    umount "$mounted"
    leave_here
    start_daemon
    connect
    [ "$key" != "$(key_there)" ] || fail "the old key for a new connection"
    [ "$(key_here)" = "$(key_there)" ] || fail "the keys differ: $(key_here), $(key_there)"
    is_remote one.gguf || fail "the copies are not found again"
    same_bytes || fail "wrong bytes"
    disconnect
    stop_daemon
    left=$(compare) || fail "left over: $left"
    row "tcp with TLS" "encrypted; no other key and none is let in" "$(since "$start")" - right "$left" -
}

scenario_refused-tls() {
    handshakes
    with_daemon tcp 'tls = true'
    no_handshakes_here
    refused "no tlshd here" "tlshd runs on this machine"
    handshakes
    there 'kill $(pgrep -x tlshd)'
    refused "no tlshd there" "tlshd runs on meadowlark"
    # One that was started before there was a keyring is not able to find a key in it.
    there 'rmmod nvmet_tcp nvmet nvme_tcp nvme_fabrics nvme_keyring 2>/dev/null; rmmod nvme_keyring 2>/dev/null
        ! grep -q "keyring *[.]nvme" /proc/keys || echo "the keyring stays"
        setsid tlshd -s </dev/null >>/run/tlshd.log 2>&1 & sleep 2'
    refused "a tlshd there that has no keyring" "restart tlshd"
    there 'kill $(pgrep -x tlshd)'
    handshakes
    there 'rmmod tls; mv /lib/modules/$(uname -r)/kernel/net/tls/tls.ko /run/ && depmod'
    refused "a kernel there without TLS" "kernel of meadowlark cannot encrypt"
    there 'mv /run/tls.ko /lib/modules/$(uname -r)/kernel/net/tls/ && depmod && modprobe tls'
    rmmod tls
    mv /lib/modules/*/kernel/net/tls/tls.ko /run/
    depmod
    refused "a kernel here without TLS" "kernel of this machine cannot encrypt"
    mv /run/tls.ko /lib/modules/*/kernel/net/tls/
    depmod
    # A port that lets everybody in is not ours to change.
    there 'cd /sys/kernel/config/nvmet && mkdir ports/9 && cd ports/9 &&
        echo tcp >addr_trtype && echo ipv4 >addr_adrfam &&
        echo 10.9.0.1 >addr_traddr && echo 4420 >addr_trsvcid'
    there state >/run/there.before
    refused "a port that others offer without TLS" "without encryption"
    there 'rmdir /sys/kernel/config/nvmet/ports/9'
    there state >/run/there.before
    connect
    disconnect
    stop_daemon
}

# What must be as before when a remote pool is gone again; on either machine. Sourced.

# Names: exports, controllers, devices, mounts, files, processes of ours and keys for TLS.
state() {
    find /sys/kernel/config/nvmet -mindepth 2 2>/dev/null | sort || true
    ls /sys/class/nvme /sys/class/nvme-subsystem 2>/dev/null | grep . | sed 's/^/nvme /' | grep -v :$ || true
    ls /sys/block | sed 's/^/block /'
    awk '{print "mount", $1, $2, $3}' /proc/mounts | sort
    find /run/speedloader /mnt 2>/dev/null | sort || true
    awk '$8 == "psk" && $2 !~ /[RDi]/ {$1 = "key"; for (i = 2; i < 9; i++) $i = ""; print}' /proc/keys 2>/dev/null |
        tr -s ' ' | sort || true
    ps -eo args= | grep -E '^(/[^ ]*/)?(speedloader|ssh) ' | sort || true
}

# MiB of memory that programs could have, and of shared memory that is taken.
memory() {
    sync
    echo 3 >/proc/sys/vm/drop_caches
    awk '/^MemAvailable:/ {a = $2} /^Shmem:/ {s = $2} END {printf "%d %d\n", a / 1024, s / 1024}' /proc/meminfo
}

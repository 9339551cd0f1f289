# Reading from the pool through the mount, against the same file on the remote file system and against the bare
# device; promotion against cp. Interleaved, medians; only ratios mean anything, the processors are emulated. Sourced.

rounds=${ROUNDS:-7}
# An open costs an emulated processor some 50 ms; models are larger than this.
bytes_mib=128

# Seconds and seconds of all processors together for a command.
measure() {
    local start busy
    start=$(now_fine) busy=$(busy)
    "$@" >/dev/null 2>&1 || fail "$*"
    awk -v a="$start" -v b="$(now_fine)" -v c="$busy" -v d="$(busy)" 'BEGIN {printf "%.3f %.2f\n", b - a, (d - c) / 100}'
}

now_fine() { date +%s.%N; }
# All but idle and waiting, in hundredths.
busy() { awk '/^cpu / {print $2 + $3 + $4 + $7 + $8}' /proc/stat; }
median() { sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }
read_direct() { dd if="$1" of=/dev/null bs=1M iflag=direct count="$bytes_mib"; }
read_cached() { dd if="$1" of=/dev/null bs=1M count="$bytes_mib"; }
column() { awk -v n="$1" '{print $n}' "$2" | median; }
# How fast one way is beside another: the median of the rounds' own ratios, so that what slows a whole round is no difference.
ratio() { paste "/run/$1" "/run/$2" | awk '{printf "%.3f\n", $3 / $1}' | median; }

scenario_ratios() {
    local file=big.gguf at device replica left round way kib
    configure tcp
    head -c "${bytes_mib}M" /dev/urandom >"$models/$file"
    start_daemon
    remember
    connect
    at=$(awk '$1 ~ "^/dev/nvme" {print $2}' /proc/mounts)
    device=$(awk '$1 ~ "^/dev/nvme" {print $1}' /proc/mounts)
    rm -f /run/way.*
    for ((round = 0; round < rounds; round++)); do
        sync
        echo 3 >/proc/sys/vm/drop_caches
        measure promote "$file" >>/run/way.promote
        speedloader_ demote "$file" >/dev/null
        sync
        echo 3 >/proc/sys/vm/drop_caches
        measure by_hand "$models/$file" "$at/by-hand" >>/run/way.cp
        rm "$at/by-hand"
    done
    promote "$file"
    replica=$(find "$at" -type f -size +$((bytes_mib * 1000))k | head -n 1)
    [ -n "$replica" ] || fail "no file of $bytes_mib MiB below $at"
    for ((round = 0; round < rounds; round++)); do
        for way in "mount $mounted/$file" "file $replica" "device $device"; do
            echo 3 >/proc/sys/vm/drop_caches
            # shellcheck disable=SC2086 # two words
            set -- $way
            measure read_direct "$2" >>"/run/way.$1"
            echo 3 >/proc/sys/vm/drop_caches
            measure read_cached "$2" >>"/run/way.cached-$1"
        done
    done
    # The figure that the program sets, and others.
    for ((round = 0; round < 3; round++)); do
        for kib in 128 1024 4096 16384; do
            echo "$kib" >"/sys/block/${device#/dev/}/queue/read_ahead_kb"
            echo 3 >/proc/sys/vm/drop_caches
            measure read_cached "$replica" >>"/run/way.ahead-$kib"
        done
    done
    for way in ahead-{128,1024,4096,16384} {,cached-}{mount,file,device} promote cp; do
        say "$(printf '%-13s median %7.3f s, %6.2f CPU s' "$way" "$(column 1 "/run/way.$way")" "$(column 2 "/run/way.$way")")"
    done
    row "read: mount against file" "$(ratio way.mount way.file)x" - ">= 0.95" - - -
    row "read: mount against device" "$(ratio way.mount way.device)x" - ">= 0.95" - - -
    row "read through the page cache: mount against file" "$(ratio way.cached-mount way.cached-file)x" - ">= 0.95" - - -
    row "promotion against cp and fsync" "$(ratio way.promote way.cp)x" - - - - -
    disconnect
    rm "$models/$file"
    left=$(compare) || fail "left over: $left"
    stop_daemon
    # The goal is 0.95; what other programs of the machine take from emulated processors is less than 0.05 of it.
    for way in "mount file" "mount device" "cached-mount cached-file"; do
        # shellcheck disable=SC2086 # two words
        set -- $way
        awk -v r="$(ratio "way.$1" "way.$2")" 'BEGIN {exit !(r >= 0.9)}' || fail "$1 is slower than $2"
    done
}

by_hand() { cp "$1" "$2" && sync "$2"; }

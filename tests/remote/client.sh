# On `client`: the scenarios that $SCENARIOS names, one after the other, and the table of what came of them.
set -uo pipefail
. /share/pool.sh
. /share/tls.sh

cp /share/speedloader /usr/bin/speedloader
modprobe -a nvme-tcp nvme-fabrics xfs
# Each in a shell of its own, which ends with the first thing that goes wrong.
run_scenario() {
    bash -c 'set -Eeuo pipefail
        . /share/pool.sh
        for file in lifecycle failures refusals ratios tls; do . "/share/$file.sh"; done
        trap "echo \"    at line \$LINENO: \$BASH_COMMAND\" >&2" ERR
        case $1 in
            tls-lost-*-*) tls=1 rest=${1#tls-lost-}; lost "${rest%%-*}" "${rest#*-}" ;;
            lost-*-*) rest=${1#lost-}; lost "${rest%%-*}" "${rest#*-}" ;;
            *) "scenario_$1" ;;
        esac' scenario "$1"
}

# Whatever a scenario that failed has left.
clear_away() {
    local controller at
    [ ! -e /run/daemon.pid ] || kill -KILL "$(cat /run/daemon.pid)" 2>/dev/null
    rm -f /run/daemon.pid /share/report
    for at in $(awk '$1 ~ "^/dev/nvme" || $1 == "speedloader" {print $2}' /proc/mounts); do umount -l "$at"; done
    for controller in /sys/class/nvme/*/delete_controller; do [ ! -e "$controller" ] || echo 1 >"$controller"; done
    forget_keys
    # What it was before is what the next one is compared with.
    rm -f "$models/long.gguf"
    rmdir /run/speedloader/pools/* /run/speedloader/pools /run/speedloader 2>/dev/null
    : >/share/.vm/cont.meadowlark
    power_cut
    boot
}

echo "kernel $(uname -r)"
host_root "$root" || exit 1
if [ -n "$ENGINES" ] && ! in_root "$root" "$REPOSITORY/tests/.venv/base/bin/python" -c ''; then
    echo "SKIPPED engines: their Python does not run here; bytes are compared all the same"
    export ENGINES=
fi
mkdir -p "$site"/{models,mnt,state}
cp -r /share/models "$models"
until_true 90 "meadowlark answers" is_up
for scenario in $SCENARIOS; do
    # Of an earlier boot.
    ! grep -q "^[a-z]* $scenario\$" "$done" 2>/dev/null || continue
    start=$(now)
    echo "== $scenario"
    : >/run/daemon.log
    if run_scenario "$scenario"; then
        echo "passed $scenario" >>"$done"
        echo "   passed, $(since "$start") s"
    else
        echo "failed $scenario" >>"$done"
        echo "   FAILED, $(since "$start") s"
        row "$scenario" FAILED - - - - -
        clear_away
    fi
done
echo
awk -F'\t' -v OFS='\t' 'BEGIN {print "point", "what happened", "s", "limit", "bytes", "left over", "recovery"} {print}' "$table" |
    awk -F'\t' '{for (i = 1; i <= NF; i++) {cell[NR, i] = $i; if (length($i) > width[i]) width[i] = length($i)}}
        END {for (r = 1; r <= NR; r++) {line = ""; for (i = 1; i <= 7; i++) line = line sprintf("%-*s  ", width[i], cell[r, i]); sub(/ +$/, "", line); print line}}'
echo "test result: $(grep -c ^passed "$done") passed; $(grep -c ^failed "$done") failed"
! grep -q ^failed "$done"

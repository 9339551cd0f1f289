# In a guest whose kernel has no FUSE passthrough (booted with -r and -d): the mounted tests, then real engines
# through a mount. $REPOSITORY and $PROGRAM are this repository and the program as the tests know it; the share
# has both binaries without their debugging information. $FILTERS are the tests to run.
set -uo pipefail
. /share/host-root.sh
root=/run/root
ROOT_ENVIRONMENT=("SPEEDLOADER_TEST_PATIENCE=$PATIENCE" "SPEEDLOADER_CHURN_MOVES=$MOVES")

echo "kernel $(uname -r), $(awk '/^MemTotal/ {printf "%d MiB", $2 / 1024}' /proc/meminfo), $(nproc) processors"
host_root "$root" || exit 1
# The real ones would come over 9p, debugging information and all.
rm -f "$root$PROGRAM"
install -D /share/speedloader "$root$PROGRAM"
install /share/tests "$root/tmp/tests"
echo "root ready at $(cut -d' ' -f1 /proc/uptime) s"

status=0
# shellcheck disable=SC2086 # a list of words
in_root "$root" sh -c 'cd "$1" && shift && exec /tmp/tests --test-threads 2 "$@"' sh "$REPOSITORY" $FILTERS || status=1
echo "tests done at $(cut -d' ' -f1 /proc/uptime) s"

if [ -n "$ENGINES" ]; then
    in_root "$root" bash "$REPOSITORY/tests/remote/engines.sh" "$PROGRAM" "$ENGINES" || status=1
    echo "engines done at $(cut -d' ' -f1 /proc/uptime) s"
fi
exit "$status"

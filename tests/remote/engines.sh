#!/usr/bin/env bash
# Real engines load models through a mount and from the file system below, before, during and after moves, and
# all must answer the same:  engines.sh PROGRAM LOADERS. Run in a guest, within a root like this machine's.
set -euo pipefail
program=$1 loaders=$2
tests=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
site=$(mktemp -d)
mkdir "$site"/{models,cold,mnt,state}
speedloader=("$program" --socket "$site/sock")
"${speedloader[@]}" mount "$site/mnt" --models "$site/models" --cold "$site/cold" \
    --pool "p:256MiB:$site/pool" -o "state_dir=$site/state,policy.enabled=false,http.enabled=false"
"${speedloader[@]}" status
status=0
python3 "$tests/engines/run.py" --venv "$tests/.venv" --loaders "$loaders" --models gguf,hf --no-ollama \
    --timeout-s 1800 --home "$site/models" --mount "$site/mnt" \
    --promote-cmd "${speedloader[*]} promote --wait {path}" \
    --demote-cmd "${speedloader[*]} demote {path}" || status=1
"${speedloader[@]}" umount || status=1
rm -r "$site"
exit "$status"

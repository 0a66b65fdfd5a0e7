#!/usr/bin/env bash
# Runs the block of README's "Protect an API" unchanged, as root. It runs in its own mount namespace, so that it
# leaves no files on the machine.
set -euo pipefail

if [[ ${1:-} != inside ]]; then
    if ((EUID != 0)) || ! unshare --mount true 2>/dev/null; then
        echo "skipped: this needs root and a mount namespace"
        exit 0
    fi
    exec unshare --mount --propagation private "$0" inside
fi

cd "$(dirname "$0")/.."
work=$(mktemp -d)
export KEYWARD_DATA_DIR=$work/data
[[ -d /usr/share/keyward ]] || { mkdir /usr/share/keyward && made=1; }
mount -t tmpfs none /usr/share/keyward
mount -t tmpfs none /etc/nginx/conf.d
mount -t tmpfs none /run
trap finish EXIT

finish() {
    local code=$?
    [[ ! -s /run/nginx.pid ]] || kill -TERM "$(</run/nginx.pid)" || true
    # Each job is a process group: the shell of a command list and the program that it runs.
    for job in $(jobs -p); do
        kill -TERM -- "-$job" 2>/dev/null || true
    done
    wait || true
    umount /usr/share/keyward
    [[ -z ${made:-} ]] || rmdir /usr/share/keyward
    rm -rf "$work" /tmp/api
    ((code == 0)) || echo "FAILED: the commands of README's \"Protect an API\"" >&2
}

# Root does not need sudo, and some machines do not have it.
command -v sudo >/dev/null || sudo() { "$@"; }

block=$(sed -n '/^## Protect an API/,/^## /p' README.md | sed -n '/^```sh/,/^```/p' | sed '1d;$d')
lines=$(grep -c . <<<"$block")
((lines < 20)) || { echo "the block has $lines lines; at most 19 are allowed" >&2; exit 1; }

set -m
eval "$(grep -v '^curl' <<<"$block")" >"$work/log" 2>&1
for port in 8080 3000 80; do
    for ((i = 0; i < 600; i++)); do
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break
        sleep 0.1
    done
done
KEYWARD_KEY=$(<"$work/data/initial-root-key")
export KEYWARD_KEY
answers=$(grep '^curl' <<<"$block" | while read -r line; do
    eval "$line" 2>/dev/null | sed -n '1s/^[^ ]* \([0-9]*\).*/\1/p'
done | xargs)
expected=$(grep '^curl' <<<"$block" | sed 's/.*# //' | xargs)
echo "answered: $answers; README says: $expected"
[[ $answers == "$expected" ]] || { cat "$work/log" >&2; exit 1; }

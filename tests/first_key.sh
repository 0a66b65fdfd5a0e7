#!/usr/bin/env bash
# Measures the time from a checkout to the first verified key. Runs README's first command and the blocks of "First key
# in 30 seconds", up to the answer of verify, as they stand. Needs curl, and the port 8080.
#
#   git clone . /tmp/fresh && /tmp/fresh/tests/first_key.sh    # with the build of everything, and all downloads
#   tests/first_key.sh                                         # with what is built already
set -euo pipefail

tree=$(realpath "$(dirname "$0")/..")
work=$(mktemp -d)
server=
trap finish EXIT
trap 'exit 143' TERM
trap 'exit 130' INT

finish() {
    local code=$?
    [[ -z $server ]] || { kill -TERM "$server" 2>/dev/null; wait "$server"; } || true
    ((code == 0)) || { tail -n 20 "$work/log" >&2; echo "FAILED: README's way to the first key" >&2; }
    rm -rf "$work"
}

fail() {
    echo "$*" >&2
    exit 1
}

# The directory of the checkout may hold data of its own, so the commands run in an empty one. `exec` makes the server the
# job itself: the end of this script then waits until the server has ended, and not only the shell before it.
cargo() { exec cargo "$1" --manifest-path "$tree/Cargo.toml" "${@:2}"; }
# Some machines have a proxy that does not know this server.
export NO_PROXY=localhost
milliseconds() { echo "$((${EPOCHREALTIME/./} / 1000))"; }
# Prints the blocks below a heading of README.
blocks() { sed -n "/^##* $1\$/,/^## /{/^\`\`\`sh/,/^\`\`\`/{/^\`\`\`/!p}}" "$tree/README.md"; }

for name in $(compgen -e KEYWARD_ || true); do
    unset "$name"
done
cd "$work"
touch log
answers() { (exec 3<>/dev/tcp/127.0.0.1/8080) 2>/dev/null; }
! answers || fail "another program listens on port 8080"

start=$(blocks keyward | head -n 1)
[[ $start == "cargo run "* ]] || fail "README does not begin with the start of the server: $start"
steps=$(blocks 'First key in 30 seconds' | sed -n '1,/^ *-d "{..key/p')
[[ $steps == */verify* ]] || fail "README verifies no key"

begun=$(milliseconds)
eval "$start" </dev/null >"$work/log" 2>&1 &
server=$!
until answers && [[ -s keyward-data/initial-root-key ]]; do
    kill -0 "$server" 2>/dev/null || fail "the server ended"
    sleep 0.1
done
ready=$(milliseconds)
eval "$steps" >"$work/answers"
grep -q '^{"valid":true,"code":"VALID"' "$work/answers" || fail "not verified: $(<"$work/answers")"
verified=$(milliseconds)
printf 'the server is ready after %d.%03d s, and the first key is verified %d ms later\n' \
    $(((ready - begun) / 1000)) $(((ready - begun) % 1000)) $((verified - ready))

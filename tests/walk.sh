#!/usr/bin/env bash
# Tests the life of a key with curl against a real server: `tests/walk.sh target/release/keyward`.
# Needs curl and jq. Uses a temporary directory and a port that the system chooses.
set -euo pipefail

binary=$(realpath "${1:?usage: tests/walk.sh path/to/keyward}")
work=$(mktemp -d)
data=$work/data
server=
trap finish EXIT
trap 'exit 143' TERM
trap 'exit 130' INT

finish() {
    local code=$?
    if [[ -n $server ]]; then
        kill -KILL "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    if ((code != 0)); then
        echo "walk: FAILED while: ${step:-starting}" >&2
        [[ -z ${url:-} ]] || echo "walk: last answer: ${status:-none} ${body:-}" >&2
        [[ ! -s $work/log ]] || { echo "walk: the server's log ends:"; tail -n 20 "$work/log"; } >&2
    fi
    rm -rf "$work"
}

# Names the next step, for messages.
step() {
    step=$1
    echo "walk: $step"
}

fail() {
    echo "walk: $*" >&2
    exit 1
}

# Variables of this machine must not affect the test.
for name in $(compgen -e KEYWARD_ || true); do
    unset "$name"
done
here=(--config "$work/keyward.toml" --data-dir "$data")
cd "$work"

start() {
    : >"$work/out"
    "$binary" serve "${here[@]}" --listen 127.0.0.1:0 >"$work/out" 2>"$work/log" </dev/null &
    server=$!
    local i
    for ((i = 0; i < 300; i++)); do
        url=$(head -n 1 "$work/out" | grep -o 'http://[0-9.:]*' || true)
        [[ -z $url ]] || return 0
        kill -0 "$server" 2>/dev/null || fail "the server ended before it printed its address"
        sleep 0.1
    done
    fail "the server printed no address within 30 seconds"
}

stop() {
    local code=0
    kill -TERM "$server"
    timeout 60 tail --pid="$server" -f /dev/null || fail "the server did not stop within a minute"
    wait "$server" || code=$?
    server=
    [[ $code == 0 ]] || fail "the server ended with $code, not 0"
}

# Sends a request and sets $status and $body. The third argument, if any, is the body.
call() {
    local body_options=()
    (($# < 3)) || body_options=(-H 'Content-Type: application/json' --data-binary "$3")
    status=$(curl --silent --show-error --noproxy '*' --max-time 20 --output "$work/answer" \
        --write-out '%{http_code}' -X "$1" -H "X-API-Key: $root" "${body_options[@]}" \
        "$url/api/v1$2") || fail "$1 $2: no answer"
    body=$(<"$work/answer")
}

expect_status() {
    [[ $status == "$1" ]] || fail "expected status $1, got $status"
}

# Checks that the body fulfils a jq condition. Further arguments are passed to jq.
expect() {
    local condition=$1
    shift
    jq -e "$@" "$condition" <<<"$body" >/dev/null || fail "the answer does not fulfil: $condition"
}

verify() {
    call POST /api-keys/verify "$(jq -cn --arg key "$1" '{key: $key, scopes: ["orders:read"]}')"
    expect_status 200
}

expect_verdict() {
    verify "$1"
    expect '.code == $code and .valid == ($code == "VALID")' --arg code "$2"
}

: >"$work/keyward.toml"

step "start on an empty data directory"
root=
start
key_file=$data/initial-root-key
[[ -f $key_file ]] || fail "$key_file does not exist"
mode=$(stat -c %a "$key_file")
[[ $mode == 600 ]] || fail "the root key's file has mode $mode, not 600"
root=$(<"$key_file")
! grep -qF "$root" "$work/out" "$work/log" || fail "the root key was printed"

step "create a key"
call POST /api-keys '{"name":"Production Integration","scopes":["orders:read","products:read"],"expiresAt":"2099-01-20T00:00:00Z"}'
expect_status 201
expect '.name == "Production Integration" and .scopes == ["orders:read", "products:read"]'
expect '.expiresAt == "2099-01-20T00:00:00.000Z" and .lastUsedAt == null and .status == "active"'
expect '.key[0:12] == .keyPrefix'
id=$(jq -r .id <<<"$body")
first=$(jq -r .key <<<"$body")

step "the root key's file is removed at the key's first use"
for ((i = 0; i < 50; i++)); do
    [[ -e $key_file ]] || break
    sleep 0.1
done
[[ ! -e $key_file ]] || fail "$key_file still exists"

step "list: without a full key"
call GET /api-keys
expect_status 200
expect 'any(.data[]; .id == $id) and .nextCursor == null' --arg id "$id"
expect 'all(.data[]; has("key") | not)'
[[ $body != *"$first"* ]] || fail "the list holds a full key"

step "get"
call GET "/api-keys/$id"
expect_status 200
expect '.id == $id and (has("key") | not)' --arg id "$id"

step "change its name"
call PUT "/api-keys/$id" '{"name":"Production Integration 2"}'
expect_status 200
expect '.name == "Production Integration 2" and .scopes == ["orders:read", "products:read"]'

step "verify"
expect_verdict "$first" VALID

step "rotate with a grace period of one second: both credentials work"
call POST "/api-keys/$id/rotate" '{"gracePeriodSeconds":1}'
expect_status 200
expect '.id == $id and (.previousKeys | length) == 1' --arg id "$id"
second=$(jq -r .key <<<"$body")
[[ $second != "$first" ]] || fail "the credential did not change"
expect_verdict "$first" VALID
expect_verdict "$second" VALID

step "after the grace period only the new credential works"
for ((i = 0; i < 100; i++)); do
    verify "$first"
    [[ $(jq -r .code <<<"$body") == VALID ]] || break
    sleep 0.1
done
expect_verdict "$first" ROTATED
expect_verdict "$second" VALID

step "revoke"
call DELETE "/api-keys/$id"
expect_status 204
call GET "/api-keys/$id"
expect_status 404
expect '.code == "not_found" and .status == 404'
expect_verdict "$second" REVOKED

step "the audit log contains the changes in order"
call GET "/events?subject=$id"
expect_status 200
order='["api_key.created", "api_key.updated", "api_key.rotated", "api_key.revoked"]'
expect '[.data[].type | select(IN($order[]))] == $order' --argjson order "$order"

step "create another key, which is kept"
call POST /api-keys '{"name":"Kept","scopes":["orders:read"]}'
expect_status 201
kept=$(jq -r .key <<<"$body")

step "a second server on the same data directory exits"
code=0
timeout 20 "$binary" serve "${here[@]}" --listen 127.0.0.1:0 >"$work/second" 2>&1 </dev/null || code=$?
[[ $code == 75 ]] || fail "the second server ended with $code, not 75: $(<"$work/second")"
grep -qw "$server" "$work/second" || fail "the message does not name process $server: $(<"$work/second")"

step "reset the root key while the server runs"
timeout 60 "$binary" root-key reset "${here[@]}" >"$work/reset" 2>&1 </dev/null || fail "it failed: $(<"$work/reset")"
[[ -f $key_file ]] || fail "$key_file does not exist"
old_root=$root
root=$(<"$key_file")
[[ $root != "$old_root" ]] || fail "the file holds the old root key"
call GET /api-keys/self
expect_status 200
root=$old_root
call GET /api-keys/self
expect_status 200

step "stop"
stop

step "a restart keeps all data"
start
expect_verdict "$kept" VALID
expect_verdict "$second" REVOKED
expect_verdict "$first" REVOKED
call GET "/events?subject=$id"
expect_status 200
expect '[.data[].type | select(IN($order[]))] == $order' --argjson order "$order"
stop

echo "walk: all steps passed"

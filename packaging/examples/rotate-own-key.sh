#!/bin/sh
# Rotates the key of a service and writes the new credential to the service's file:
#
#   rotate-own-key.sh FILE [--now]
#
# The key in FILE needs the scope api-keys:rotate. KEYWARD_URL is the address of keyward. The old credential works for
# KEYWARD_GRACE more seconds, a day if that is not set. Without --now, a FILE that changed within the last 24 hours
# stays as it is. So a run can be repeated after any failure, and always leaves a working credential in FILE.
# If FILE is a symbolic link, all of this is about the file to which it leads. Owner, group and mode stay as they are.
# Needs curl, jq and coreutils.
set -eu
umask 077
: "${1:?the name of the file is missing; use rotate-own-key.sh FILE [--now]}"
file=$(realpath -- "$1" 2>/dev/null) && [ -f "$file" ] && [ -r "$file" ] || {
    echo "$1 is not a file that can be read" >&2
    exit 2
}
url=${KEYWARD_URL:-http://127.0.0.1:8080}
while [ "$url" != "${url%/}" ]; do url=${url%/}; done
grace=${KEYWARD_GRACE:-86400}

if [ "${2-}" != --now ] && [ -n "$(find "$file" -mtime -1)" ]; then
    echo "$file changed within the last 24 hours; nothing to do"
    exit 0
fi

# A directory that cannot be written to is noticed before anything changes.
rm -f "$file.new" || exit 2
: >"$file.new"
trap 'rm -f "$file.new"' EXIT
key=$(cat "$file")
# Each credential has its own Idempotency-Key. If an answer was lost, the next run presents the same credential and
# gets the same answer. Headers from standard input: other users can read the arguments of a process.
attempt=$(printf %s "$key" | sha256sum | cut -c 1-32)
answer=$(printf 'X-API-Key: %s\nIdempotency-Key: %s\nContent-Type: application/json\n' "$key" "$attempt" |
    curl --silent --show-error --fail-with-body --max-time 10 --noproxy '*' -H @- \
        --data-binary "{\"gracePeriodSeconds\":$grace}" "$url/api/v1/api-keys/self/rotate") || {
    echo "keyward did not rotate the key; its answer: $answer" >&2
    exit 1
}
printf %s "$answer" | jq -er .key >"$file.new"

# Only root can give a file to another user. The members of another group must not get the key instead.
if chown --reference="$file" "$file.new" 2>/dev/null || chgrp --reference="$file" "$file.new" 2>/dev/null; then
    chmod --reference="$file" "$file.new"
fi
kept=$(stat -c '%u:%g %a' "$file")
has=$(stat -c '%u:%g %a' "$file.new")

# The rename replaces the credential as a whole, also if the power fails.
sync "$file.new"
mv -f "$file.new" "$file"
sync "$(dirname "$file")"
echo "$file has a new credential; the old one works for $grace more seconds"
[ "$has" = "$kept" ] || echo "owner, group and mode of $file were $kept and are now $has" >&2

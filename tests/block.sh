#!/usr/bin/env bash
# Prints the blocks of code below a heading of a page, so that a script runs them as they stand:
#
#   tests/block.sh README.md 'Running it' sh [NUMBER]
#
# NUMBER chooses one of these blocks, from 1. Fails if the page has no such block.
set -euo pipefail

awk -v heading="$2" -v language="$3" -v number="${4:-0}" '
    /^ *```/ {
        inside = !inside
        sub(/^ *```/, "")
        chosen = inside && at == heading && $0 == language && (++count == number || !number)
        next
    }
    !inside && /^#+ / { at = $0; sub(/^#+ /, "", at) }
    chosen { print; found = 1 }
    END { exit !found }' "$1" ||
    { echo "$1: no block \"$3\" ${4:-} below \"$2\"" >&2; exit 1; }

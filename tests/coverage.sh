#!/usr/bin/env bash
# Measures how many lines of each layer the tests run: `tests/coverage.sh [FILTER of cargo test…]`.
#
# Only keyward itself is instrumented, so its dependencies are not built again. Processes that the tests start write
# profiles, too; one that is killed does not. target/coverage/lines.txt has the figure of each file, and
# target/coverage/uncovered.txt each line that no test runs.
set -euo pipefail

cd "$(dirname "$0")/.."
work=$(realpath -m "${CARGO_TARGET_DIR:-target}")/coverage
llvm=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
profdata=${LLVM_PROFDATA:-llvm-profdata-$llvm} cov=${LLVM_COV:-llvm-cov-$llvm}
rm -rf "$work/profiles"
mkdir -p "$work/profiles"
printf '#!/bin/sh\nexec "$@" -C instrument-coverage\n' >"$work/rustc"
chmod +x "$work/rustc"
export RUSTC_WORKSPACE_WRAPPER=$work/rustc

# The profiles of build scripts do not count.
LLVM_PROFILE_FILE=/dev/null cargo test --locked --no-run --lib --test it
mapfile -t binaries < <(LLVM_PROFILE_FILE=/dev/null cargo test --locked --no-run --lib --test it --message-format=json |
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | sort -u)
# %m merges the profiles of all processes of a binary into few files.
LLVM_PROFILE_FILE=$work/profiles/%4m.profraw cargo test --locked --no-fail-fast --lib --test it "$@" || failed=$?

"$profdata" merge -sparse "$work"/profiles/*.profraw -o "$work/all.profdata"
objects=("${binaries[0]}")
for binary in "${binaries[@]:1}"; do objects+=(-object "$binary"); done
"$cov" export "${objects[@]}" -instr-profile="$work/all.profdata" -format=lcov src >"$work/lcov.info"
awk -F: -v work="$work" '
    /^SF:/ {
        file = $2; sub(/.*\/src\//, "src/", file)
        # The tests themselves do not count.
        end = 0; at = 0
        while ((getline text < file) > 0) { at++; if (!end && text ~ /^#\[cfg\(test\)\]/) end = at }
        close(file)
        if (file ~ /\/tests[.\/]/) end = 1
    }
    /^DA:/ {
        split($2, it, ",")
        if (end && end <= it[1]) next
        lines[file]++
        if (it[2] > 0) covered[file]++; else print file ":" it[1] >(work "/uncovered.txt")
    }
    END {
        for (file in lines) {
            printf "%s %d %d\n", file, covered[file], lines[file] >(work "/lines.txt")
            area = file; sub(/^src\//, "", area); sub(/[\/.].*/, "", area)
            all[area] += lines[file]; hit[area] += covered[file]; every += lines[file]; hits += covered[file]
        }
        for (area in all) printf "%-10s %6d of %6d lines  %5.1f %%\n", area, hit[area], all[area], 100 * hit[area] / all[area] | "sort"
        close("sort")
        printf "%-10s %6d of %6d lines  %5.1f %%\n", "all", hits, every, 100 * hits / every
    }' "$work/lcov.info"
exit "${failed:-0}"

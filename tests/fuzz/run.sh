#!/usr/bin/env bash
# Builds the fuzz targets once, and runs each of them: `run.sh [SECONDS for each target [TARGET…]]`.
#
# Without an argument each target runs for 4 seconds, from the committed corpus and with a fixed seed. With one, the seed
# is the time, and the inputs that reach new code stay in target/fuzz/corpus for the next such run. SEED overrides both.
set -euo pipefail

cd "$(dirname "$0")"
readonly SECONDS_EACH=${1:-4}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/../../target}/fuzz
# The compiler counts in each branch. --target keeps these flags away from build scripts and derive macros.
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=3 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Ccodegen-units=1"

host=$(rustc -vV | sed -n 's/^host: //p')
cargo build --quiet --locked --target "$host"
# For the database of a target, which must stay in its place.
TMPDIR=$(mktemp -d)
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
binary=$CARGO_TARGET_DIR/$host/debug/keyward-fuzz
findings=$CARGO_TARGET_DIR/findings
seed=${SEED:-1}
if (($#)); then
    seed=${SEED:-$(date +%s)}
    echo "seed $seed"
fi

targets=("${@:2}")
((${#targets[@]})) || mapfile -t targets < <("$binary")
passed=0 failed=0
for target in "${targets[@]}"; do
    folders=("corpus/$target")
    (($# == 0)) || folders+=("$CARGO_TARGET_DIR/corpus/$target")
    if timeout --kill-after=5 $((SECONDS_EACH + 60)) "$binary" "$target" "$SECONDS_EACH" "$seed" "$findings" \
        "${folders[@]}"; then
        rm "$findings/$target.current"
        passed=$((passed + 1))
    else
        # An input on which the process died or hung is still in this file.
        echo "$target failed; the last input is in $findings/$target.current"
        failed=$((failed + 1))
    fi
done
echo "$passed passed, $failed failed"
((failed == 0))

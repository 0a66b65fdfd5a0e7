#!/usr/bin/env bash
# Builds the Debian package. Needs `cargo deb` (cargo install cargo-deb). Arguments go to it.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --release
binary=${CARGO_TARGET_DIR:-target}/release/keyward
made=target/deb
rm -rf "$made"
mkdir -p "$made"
# What the program can say about itself is not written twice.
"$binary" man --out "$made/man"
for shell in bash zsh fish; do
    "$binary" completions "$shell" >"$made/keyward.$shell"
done
sed 's|^#data_dir = .*|data_dir = "/var/lib/keyward"|' packaging/keyward.toml >"$made/keyward.toml"
grep -q '^data_dir' "$made/keyward.toml"
cargo deb --no-build "$@"

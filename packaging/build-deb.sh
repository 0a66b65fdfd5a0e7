#!/usr/bin/env bash
# Builds the Debian package. Needs `cargo deb` (cargo install cargo-deb) and dpkg-dev. Passes its arguments to
# `cargo deb`.
set -euo pipefail
cd "$(dirname "$0")/.."

# Without dpkg-shlibdeps, cargo deb would warn, and the package would not depend on libc6.
command -v dpkg-shlibdeps >/dev/null ||
    { echo "build-deb.sh: there is no dpkg-shlibdeps: apt-get install dpkg-dev" >&2; exit 1; }
cargo deb --version >/dev/null 2>&1 ||
    { echo "build-deb.sh: there is no cargo deb: cargo install cargo-deb" >&2; exit 1; }

cargo build --release
binary=${CARGO_TARGET_DIR:-target}/release/keyward
made=target/deb
rm -rf "$made"
mkdir -p "$made"
# The program itself generates these files.
"$binary" man --out "$made/man"
for shell in bash zsh fish; do
    "$binary" completions "$shell" >"$made/keyward.$shell"
done
sed 's|^#data_dir = .*|data_dir = "/var/lib/keyward"|' packaging/keyward.toml >"$made/keyward.toml"
grep -q '^data_dir' "$made/keyward.toml"
cargo deb --no-build "$@"

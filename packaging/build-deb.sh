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

# Prints the version of the package. One built between two releases has its commit and the time of the commit in the
# version, so that dpkg tells it from the package before, and calls a later one newer.
version() {
    local version commit
    version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
    commit=$(TZ=UTC git --git-dir=.git log -1 --date=format-local:%Y%m%d%H%M%S --abbrev=12 --format=%cd.%h 2>/dev/null) ||
        commit=
    if [[ -z $commit ]] || git --git-dir=.git tag --points-at HEAD | grep -qxF "v$version"; then
        echo "$version-1"
    elif git --git-dir=.git show-ref --quiet --verify "refs/tags/v$version"; then
        echo "$version+git$commit-1"
    else
        echo "$version~git$commit-1"
    fi
}

[[ " $* " == *" --deb-version "* ]] || set -- --deb-version "$(version)" "$@"
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

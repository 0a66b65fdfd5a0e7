#!/usr/bin/env bash
# Builds keyward as one file that needs no library of the machine, with its SHA-256 and its bill of materials:
#
#   packaging/build-static.sh [TARGET]
#
#   target/static/keyward-VERSION-ARCHITECTURE-linux             the program, stripped
#   target/static/keyward-VERSION-ARCHITECTURE-linux.sha256      for `sha256sum -c`
#   target/static/keyward-VERSION-ARCHITECTURE-linux.cdx.json    its components, as CycloneDX JSON
#
# TARGET is a target of rustc whose standard library is installed. Without it, the script builds for this machine.
# docs/container.md says what the program needs, and how to build for another architecture. Needs jq, and cargo-cyclonedx
# from crates.io; installs nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

die() { printf 'build-static.sh: %s\n' "$*" >&2; exit 1; }

command -v jq >/dev/null || die "there is no jq: apt-get install jq"
cargo cyclonedx --version >/dev/null 2>&1 ||
    die "there is no cargo cyclonedx: cargo install --locked cargo-cyclonedx"

target=${1:-$(rustc -vV | sed -n 's/^host: //p')}
version=$(cargo metadata --locked --no-deps --format-version 1 | jq -r '.packages[0].version')
build=$(realpath -m "${CARGO_TARGET_DIR:-target}")
out=$build/static
name=keyward-$version-${target%%-*}-linux
mkdir -p "$out"

# With a target of its own, cargo keeps the program apart from those of the build. Without, it is the program of
# `cargo build --release` but for the last step.
options=(--locked --release --bin keyward)
made=$build/release/keyward
if (($#)); then
    options+=(--target "$target")
    made=$build/$target/release/keyward
fi
case $target in
    *-linux-gnu)
        libc="the GNU C library; names are looked up in /etc/hosts and by DNS, without other modules of nsswitch.conf"
        variable=CC_${target//-/_}
        compiler=${!variable:-cc}
        "$compiler" -O2 -c -o "$out/static.o" packaging/static.c
        glibc=$("$compiler" -E -P -include features.h - <<<'__GLIBC__.__GLIBC_MINOR__' | tail -n 1 | tr -d ' ')
        # Relative relocations are packed: 0.6 MiB less.
        link=(-C link-arg=-Wl,-z,pack-relative-relocs
            -C link-arg=-Wl,--wrap=__libc_dlopen_mode,--wrap=dlsym -C "link-arg=$out/static.o")
        ;;
    *-linux-musl)
        libc="musl; names are looked up in /etc/hosts and by DNS; not tested, and its allocator is slower"
        link=() glibc=
        ;;
    *) die "$target: only targets of Linux with the C library gnu or musl" ;;
esac
# Without flags of the environment and of cargo's configuration, the program runs on every processor of its architecture.
# The flags here are for the last step only, so no program of the build becomes static, and nothing is compiled twice.
unset CFLAGS
CARGO_ENCODED_RUSTFLAGS='' cargo rustc "${options[@]}" -- -C target-feature=+crt-static "${link[@]}"
install -m 755 "$made" "$out/$name"

# The directory of a crate's source.
source_of() {
    cargo metadata --locked --format-version 1 --filter-platform "$target" |
        jq -r --arg name "$1" '.packages[] | select(.name == $name).manifest_path | rtrimstr("/Cargo.toml")'
}

# Prints what the program contains and cargo does not know: name, version, licence, package URL.
contained() {
    local sqlite swagger_ui
    sqlite=$(sed -n 's/^#define SQLITE_VERSION  *"\(.*\)"/\1/p' "$(source_of libsqlite3-sys)/sqlite3/sqlite3.h")
    swagger_ui=$(basename "$(source_of utoipa-swagger-ui-vendored)"/res/v*.zip .zip)
    echo "sqlite $sqlite blessing pkg:generic/sqlite@$sqlite"
    echo "swagger-ui ${swagger_ui#v} Apache-2.0 pkg:npm/swagger-ui-dist@${swagger_ui#v}"
    sed -nE 's/.*`htm@([0-9.]+)`, `dist.*/htm \1 Apache-2.0 pkg:npm\/htm@\1/p
        s/.*@picocss\/pico@([0-9.]+)`.*/pico \1 MIT pkg:npm\/%40picocss\/pico@\1/p
        s/.*nearest to Preact ([0-9.]+)\.$/preact \1 MIT pkg:npm\/preact@\1/p' src/http/console/vendor/VENDOR.md
    [[ -z $glibc ]] || echo "glibc $glibc LGPL-2.1-or-later pkg:generic/glibc@$glibc"
}

# The tool writes beside Cargo.toml.
trap 'rm -f "$name.tmp.json"' EXIT
cargo cyclonedx --quiet --format json --spec-version 1.5 --no-build-deps --target "$target" \
    --override-filename "$name.tmp"
sed -i "s|path+file://$PWD#||g" "$name.tmp.json"
contained | jq -R --slurp 'split("\n") | map(select(. != "") | split(" ") |
    {type: "library", name: .[0], version: .[1], licenses: [{license: {id: .[2]}}], purl: .[3], "bom-ref": .[3]})' |
    jq --slurpfile bom "$name.tmp.json" '. as $more | $bom[0] | .components += $more' >"$out/$name.cdx.json"
(cd "$out" && sha256sum "$name" "$name.cdx.json" >"$name.sha256")
echo "built with $libc:"
ls -l "$out/$name"*

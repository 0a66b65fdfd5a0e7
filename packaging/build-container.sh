#!/usr/bin/env bash
# Builds the image of keyward with buildah, or else with podman or docker:
#
#   packaging/build-container.sh BINARY [IMAGE]
#
# BINARY is what packaging/build-static.sh made. IMAGE is the image's name, localhost/keyward unless given. The
# image contains the root certificates of this machine, for webhooks; pulls nothing; runs nothing of the image.
#
# Labels say from what the image was built: `revision` is the commit that BINARY names; `created` is the time of that
# commit, or SOURCE_DATE_EPOCH; `source` is SOURCE_URL, or the address of the remote `origin` if it begins with https://.
# What is not known is left out. If the time is known, the same files make the same layers.
set -euo pipefail
here=$(dirname "$(realpath "$0")")

readonly CERTIFICATES=/etc/ssl/certs/ca-certificates.crt
[[ -e $CERTIFICATES ]] ||
    { echo "build-container.sh: there is no $CERTIFICATES: apt-get install ca-certificates" >&2; exit 1; }
binary=$(realpath "${1:?usage: packaging/build-container.sh BINARY [IMAGE]}")
# keyward-VERSION-ARCHITECTURE-linux; a version may have hyphens.
[[ ${binary##*/} =~ ^keyward-(.+)-(x86_64|aarch64)-linux$ ]] ||
    { echo "build-container.sh: ${binary##*/} is no name of packaging/build-static.sh" >&2; exit 1; }
version=${BASH_REMATCH[1]}
case ${BASH_REMATCH[2]} in
    x86_64) architecture=amd64 ;;
    aarch64) architecture=arm64 ;;
esac

# The repository of this script, also for another user than its owner.
repository() { git --git-dir="$here/../.git" "$@" 2>/dev/null; }
labels=()
label() { [[ -z $2 ]] || labels+=(--label "org.opencontainers.image.$1=$2"); }
# The text that `keyward --version` prints; a binary for another architecture cannot be run.
revision=$(grep -aoE "${version//./\\.} \([0-9a-f]{12}(-modified)?\)" "$binary" | head -n 1 | tr -d '()' || true)
revision=${revision#* }
time=${SOURCE_DATE_EPOCH:-$(repository show -s --format=%ct "${revision:-none}" || true)}
source=${SOURCE_URL:-$(repository remote get-url origin | grep -E '^https://[^@]*$' || true)}
label revision "$revision"
label source "$source"
if [[ -n $time ]]; then
    label created "$(date --utc --date="@$time" +%Y-%m-%dT%H:%M:%SZ)"
    # For docker, which has no such option.
    export SOURCE_DATE_EPOCH=$time
fi

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT

# The modes of these files do not depend on the umask or on git.
install -D -m 755 "$binary" "$context/program/usr/bin/keyward"
install -D -m 644 "$CERTIFICATES" "$context/program$CERTIFICATES"
install -d -m 700 "$context/volume/data"
chmod 755 "$context"/{program,volume} "$context"/program/{usr,usr/bin,etc,etc/ssl,etc/ssl/certs}
# The format `docker`, because the format `oci` has no place for HEALTHCHECK.
if command -v buildah >/dev/null; then
    build=(buildah build --format docker --isolation chroot ${time:+--timestamp "$time"})
elif command -v podman >/dev/null; then
    build=(podman build --format docker --isolation chroot ${time:+--timestamp "$time"})
else
    build=(docker build)
fi
"${build[@]}" --platform "linux/$architecture" --build-arg VERSION="$version" "${labels[@]}" \
    --file "$here/container/Containerfile" --tag "${2:-localhost/keyward}" "$context"

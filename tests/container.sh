#!/usr/bin/env bash
# Tests the image with buildah, and with podman where it can run containers: `tests/container.sh target/static/keyward-…`.
# Builds it; starts it on a new volume; creates and verifies a key; stops it; starts it again with a root file system
# that cannot be written. Then runs the services of packaging/container/compose.yaml with this machine's Caddy.
# Needs root, buildah, docker-compose, caddy, curl, ip, jq and python3-yaml. Pulls nothing, and keeps no image.
set -euo pipefail

binary=$(realpath "${1:?usage: tests/container.sh path/to/keyward}")
cd "$(dirname "$(realpath "$0")")/.."

if [[ ${2:-} != inside ]]; then
    if ((EUID != 0)) || ! unshare --mount --net --pid --fork true 2>/dev/null; then
        echo "skipped: this needs root, and namespaces for mounts, network and processes"
        exit 0
    fi
    # With a network of its own, the ports of the image and of compose.yaml are free. No process outlives the script,
    # also not those that buildah and podman start.
    exec unshare --mount --net --pid --fork --kill-child --mount-proc --propagation private "$0" "$binary" inside
fi

# Debian's docker-compose needs Debian's libraries.
unset PYTHONPATH
work=$(mktemp -d)
readonly IMAGE=localhost/keyward VOLUME=$work/volume URL=http://127.0.0.1:8080
# Pulls and keeps nothing of this machine's images. The driver `vfs` works everywhere.
printf '[storage]\ndriver = "vfs"\ngraphroot = "%s/storage"\nrunroot = "%s/run"\n' "$work" "$work" >"$work/storage.conf"
export CONTAINERS_STORAGE_CONF=$work/storage.conf
container=
server=
others=()
trap finish EXIT
trap 'exit 143' TERM
trap 'exit 130' INT

finish() {
    local code=$?
    for process in "$server" "${others[@]}"; do
        [[ -z $process ]] || kill -KILL "$process" 2>/dev/null || true
    done
    wait || true
    if ((code != 0)); then
        echo "container: FAILED while: ${step:-starting}" >&2
        [[ ! -s $work/log ]] || tail -n 20 "$work/log" >&2
    fi
    [[ -z ${works:-} ]] || command podman --runtime "$works" rm --force keyward >/dev/null 2>&1 || true
    [[ -z $container ]] || buildah rm "$container" >/dev/null || true
    rm -rf "$work"
}

# Names the next step, for messages.
step() {
    step=$1
    echo "container: $step"
}

fail() {
    echo "container: $*" >&2
    exit 1
}

# Prints a value of the image's configuration: the arguments of a command, one a line, or one text.
configured() {
    jq -er "$1 | if type == \"array\" then .[] else . end" <<<"$configuration"
}

# Runs the image's own command in the container's root file system, with its own user and variables. buildah's
# isolation `chroot` needs no right to create namespaces; it has no way to make the root file system read-only.
run_image() {
    buildah run --isolation chroot --volume "$VOLUME:/data" --volume "$PWD/packaging/routes.toml:/etc/keyward/routes.toml:ro" \
        "${more[@]}" "${variables[@]/#/--env=}" "$container" -- "$@"
}

start() {
    local i
    "$@" "${entrypoint[@]}" "${command[@]}" >"$work/log" 2>&1 </dev/null &
    server=$!
    for ((i = 0; i < 300; i++)); do
        ! curl -fsS -o "$work/ready" "$URL/readyz" 2>/dev/null || return 0
        kill -0 "$server" 2>/dev/null || fail "the container ended"
        sleep 0.1
    done
    fail "the container was not ready within 30 seconds"
}

stop() {
    local code=0
    # The server's own number, which the file of its lock has. A signal to buildah would not reach it.
    kill -TERM "$(<"$VOLUME/keyward/keyward.lock")"
    timeout 60 tail --pid="$server" -f /dev/null || fail "the container did not stop within a minute"
    wait "$server" || code=$?
    server=
    [[ $code == 0 ]] || fail "the container ended with $code, not 0"
}

ask() { curl -fsS --max-time 10 -H "X-API-Key: $key" -H 'Content-Type: application/json' "$@"; }
verdict() { ask -d "{\"key\":\"$made\",\"scopes\":[\"orders:read\"]}" "$URL/api/v1/api-keys/verify" | jq -r .code; }

# A read-only root file system, of which only the volume can be written, without buildah.
run_read_only() {
    unshare --mount --propagation private bash -euc '
        root=$1 volume=$2
        shift 2
        mount --bind "$root" "$root"
        mount -o remount,bind,ro "$root"
        mount --bind "$volume" "$root/data"
        exec "$@"' - "$root" "$VOLUME" \
        env -i "${environment[@]}" "$(command -v chroot)" --userspec="$image_user" "$root" "$@"
}

ip link set lo up

step "build the image"
packaging/build-container.sh "$binary" >"$work/log" 2>&1
configuration=$(buildah inspect --type image "$IMAGE" | jq .Docker.config)
mapfile -t entrypoint < <(configured .Entrypoint)
mapfile -t command < <(configured .Cmd)
mapfile -t health < <(configured .Healthcheck.Test)
mapfile -t environment < <(configured .Env)
image_user=$(configured .User)
[[ ${health[0]} == CMD ]] || fail "the health check is: ${health[*]}"
[[ $image_user =~ ^[1-9][0-9]*:[1-9][0-9]*$ ]] || fail "the user is not a number: $image_user"
[[ $(configured '.Volumes | keys') == /data && $(configured '.ExposedPorts | keys') == 8080/tcp ]]
version=$(configured '.Labels["org.opencontainers.image.version"]')
[[ $("$binary" --version) == "keyward $version"* ]] || fail "the label of the version is $version"
container=$(buildah from --pull-never "$IMAGE")
# Otherwise buildah mounts a directory of its own there, sometimes over the one that this script gives it.
buildah config --volume /data- "$container"
root=$(buildah mount "$container")
(cd "$root" && find . -type f) >"$work/files"
[[ $(sort "$work/files" | xargs) == './etc/ssl/certs/ca-certificates.crt ./usr/bin/keyward' ]] ||
    fail "the image contains: $(<"$work/files")"
[[ $(stat -c '%u:%g %a' "$root/usr/bin/keyward") == '0:0 755' ]] || fail "the server could change its own program"

step "start on a new volume"
# docker and podman give a new volume the owner and the mode of the image's directory.
cp -a "$root/data" "$VOLUME"
variables=() more=()
start run_image
key=$(<"$VOLUME/keyward/initial-root-key")
[[ $(stat -c '%u:%g %a' "$VOLUME/keyward") == "$image_user 700" ]] || fail "$(stat -c '%u:%g %a' "$VOLUME/keyward")"

step "create and verify a key"
made=$(ask -d '{"name":"first","scopes":["orders:read"]}' "$URL/api/v1/api-keys" | jq -r .key)
[[ $(verdict) == VALID ]] || fail "the verdict is $(verdict)"

step "the health check of the image"
[[ $(run_image "${health[@]:1}") == ok ]]

step "SIGTERM ends it with 0"
stop
! run_image "${health[@]:1}" >/dev/null 2>&1 || fail "the health check succeeds without a server"

step "start again, with a read-only root file system: the key is still there"
start run_read_only
[[ $(verdict) == VALID ]] || fail "the verdict is $(verdict)"
! touch "/proc/$(<"$VOLUME/keyward/keyward.lock")/root/probe" 2>/dev/null || fail "the root file system can be written"
stop

step "a volume as Kubernetes gives it to a group (fsGroup)"
rm -r "$VOLUME"
install -d -m 2770 -o 0 -g "${image_user#*:}" "$VOLUME"
for _ in 1 2; do
    start run_read_only
    stop
done

step "compose.yaml: its form, and its services with this machine's Caddy"
docker-compose --file packaging/container/compose.yaml config --quiet
key=$(run_image "${entrypoint[@]}" root-key generate)
printf 'sha256:%s\n' "$(sha256sum < <(printf %s "$key") | cut -d ' ' -f 1)" >"$work/root-key.digest"
# Prints a list or a mapping of a service, one line an element.
of_service() {
    python3 - "$1" "$2" <<'PYTHON'
import sys, yaml
service = yaml.safe_load(open("packaging/container/compose.yaml"))["services"][sys.argv[1]]
value = service[sys.argv[2]]
print("\n".join(value.split() if isinstance(value, str) else [f"{name}={text}" for name, text in value.items()]))
PYTHON
}
rm -r "$VOLUME"
cp -a "$root/data" "$VOLUME"
mapfile -t variables < <(of_service keyward environment)
more=(--volume "$work/root-key.digest:/run/secrets/root-key:ro")
start run_image
made=$(ask -d '{"name":"first","scopes":["orders:read"]}' "$URL/api/v1/api-keys" | jq -r .key)
echo '127.0.0.1 localhost keyward api' >"$work/hosts"
mount --bind "$work/hosts" /etc/hosts
mapfile -t api < <(of_service api command)
mapfile -t caddy < <(of_service caddy environment)
"${api[@]}" >"$work/api" 2>&1 &
others+=($!)
# The command of the image docker.io/library/caddy.
env "${caddy[@]}" XDG_DATA_HOME="$work" XDG_CONFIG_HOME="$work" \
    caddy run --adapter caddyfile --config packaging/caddy/Caddyfile.policy >"$work/caddy" 2>&1 &
others+=($!)
# Prints the status of a request through Caddy.
through() { curl -sS --max-time 10 -o "$work/answer" -w '%{http_code}' "$@"; }
for ((i = 0; i < 300; i++)); do
    [[ $(through http://127.0.0.1/orders/ 2>/dev/null) != 401 ]] || break
    sleep 0.1
done
[[ $(through http://127.0.0.1/orders/) == 401 ]] || fail "without a key: $(<"$work/answer") $(tail "$work/caddy")"
[[ $(through -H "X-API-Key: $made" http://127.0.0.1/orders/) == 200 ]] || fail "with a key: $(<"$work/answer")"
[[ $(<"$work/answer") == orders ]] || fail "the API answered $(<"$work/answer")"
[[ $(through -H "X-API-Key: $made" -X POST http://127.0.0.1/orders/) == 403 ]] || fail "with too few scopes"
stop
for process in "${others[@]}"; do
    kill -TERM "$process"
done
wait "${others[@]}" || true
others=()

step "podman: the commands of docs/container.md as they stand"
for runtime in crun runc; do
    options=(--ulimit nofile=1024:1024 --ulimit nproc=1024:1024 --network host)
    if podman --runtime "$runtime" run --rm "${options[@]}" "$IMAGE" --version >"$work/log" 2>&1; then
        works=$runtime
        break
    fi
done
if [[ -z ${works:-} ]]; then
    echo "skipped: podman cannot run a container here: $(tail -n 1 "$work/log")"
    exit 0
fi
# Not every machine allows podman's own limits and its bridge.
podman() {
    if [[ $1 == run ]]; then
        command podman --runtime "$works" run "${options[@]}" "${@:2}"
        until curl -fsS -o "$work/ready" "$URL/readyz" 2>/dev/null; do
            [[ $(command podman inspect --format '{{.State.Status}}' keyward) == running ]] || fail "the container ended"
            sleep 0.1
        done
    else
        command podman --runtime "$works" "$@"
    fi
}
block=$(sed -n '/^podman run/,/^```/p' docs/container.md | sed '$d')
(($(grep -c '^podman' <<<"$block") > 4)) || fail "docs/container.md has too few commands"
eval "$block" >"$work/typed" 2>"$work/log"
mapfile -t keys < <(grep -ao 'rg_[0-9A-Za-z]\{47\}' "$work/typed")
key=${keys[0]} made=${keys[1]}
[[ $(command podman inspect --format '{{.State.ExitCode}}' keyward) == 0 ]] || fail "it did not end with 0"

step "podman: the key is still there after another start"
podman start keyward >/dev/null
for ((i = 0; i < 300; i++)); do
    ! curl -fsS -o "$work/ready" "$URL/readyz" 2>/dev/null || break
    sleep 0.1
done
[[ $(verdict) == INSUFFICIENT_SCOPES ]] || fail "the verdict is $(verdict)"
[[ $(podman exec keyward "${health[@]:1}") == ok ]]
! podman exec keyward /bin/sh 2>/dev/null || fail "the image has a shell"
podman rm --force --time 30 --volumes keyward >/dev/null 2>&1

echo "container: all steps passed"

#!/usr/bin/env bash
# Tests the image with buildah, and with podman where it can run containers: `tests/container.sh target/static/keyward-…`.
# Builds it; starts it on a new volume; creates and verifies a key; stops it; starts it again with a root file system
# that cannot be written, and as docs/container.md says for Kubernetes. Then runs the services of
# packaging/container/compose.yaml with this machine's Caddy. The commands are those of docs/container.md.
# Needs root, buildah, docker-compose, caddy, curl, git, ip, jq and python3-yaml. Pulls nothing, and keeps no image.
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
# Some machines have a proxy that does not know this server.
export NO_PROXY=localhost,127.0.0.1
readonly PAGE=docs/container.md
tree=$PWD
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
    [[ -z ${works:-} ]] || command podman "${runtime[@]}" rm --force keyward >/dev/null 2>&1 || true
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
    buildah run --isolation chroot --volume "$VOLUME:/data" --volume "$tree/packaging/routes.toml:/etc/keyward/routes.toml:ro" \
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
    kill -TERM "$(cat "$VOLUME"/${1:-keyward}/keyward.lock)"
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
# The page's command names the binary in the directory of the build.
block=$(tests/block.sh $PAGE 'The image' sh 1)
[[ $block == *'target/static/keyward-*-linux'* ]] || fail "$PAGE builds the image of another file: $block"
build() { eval "${block//'target/static/keyward-*-linux'/"$binary"}" >"$work/log" 2>&1; }
build
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
label() { configured ".Labels[\"org.opencontainers.image.$1\"] // \"\""; }
revision=$(label revision)
[[ $("$binary" --version) == "keyward $version${revision:+ ($revision)}" ]] ||
    fail "the labels say $version and $revision, and the binary $("$binary" --version)"
[[ $(label title) == keyward && $(label licenses) == MIT ]] || fail "$(jq .Labels <<<"$configuration")"
time=$(git --git-dir=.git show -s --format=%ct "$revision" 2>/dev/null || true)
[[ -z $time || $(date --date="$(label created)" +%s) == "$time" ]] || fail "created: $(label created), not $time"
if [[ -n $time ]]; then
    # The identifier of the image differs, because the format `docker` also stores a random name of the build.
    layers=$(buildah inspect --type image "$IMAGE" | jq -c .Docker.rootfs)
    SOURCE_URL=https://git.example.com/keyward build
    again=$(buildah inspect --type image "$IMAGE" | jq -r '.Docker.config.Labels["org.opencontainers.image.source"]')
    [[ $again == https://git.example.com/keyward ]] || fail "source: $again"
    build
    [[ $(buildah inspect --type image "$IMAGE" | jq -c .Docker.rootfs) == "$layers" ]] || fail "a second build differs"
fi
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

step "the health check of the image, with keyward dev"
served=("${command[@]}")
command=(dev --listen 0.0.0.0:8080)
start run_image
[[ $(run_image "${health[@]:1}") == ok ]]
stop 'keyward-dev-*'
! run_image "${health[@]:1}" >/dev/null 2>&1 || fail "the health check succeeds without a server"
command=("${served[@]}")

step "start again, with a read-only root file system: the key is still there"
start run_read_only
[[ $(verdict) == VALID ]] || fail "the verdict is $(verdict)"
! touch "/proc/$(<"$VOLUME/keyward/keyward.lock")/root/probe" 2>/dev/null || fail "the root file system can be written"
stop

step "Kubernetes: the manifest agrees with the image, its variables and its probes work"
tests/block.sh $PAGE Kubernetes yaml >"$work/manifest.yaml"
# Prints the variables, the directory of the secret, and the paths of the probes.
python3 - "$work/manifest.yaml" "$version" >"$work/manifest" 3<<<"$configuration" <<'PYTHON'
import json, os, sys, yaml

manifest = yaml.safe_load(open(sys.argv[1]))
image = json.load(open(3))
spec = manifest["spec"]
pod = spec["template"]["spec"]
container, = pod["containers"]
user, group = map(int, image["User"].split(":"))
port, = (int(it.split("/")[0]) for it in image["ExposedPorts"])
data, = image["Volumes"]
security = pod["securityContext"]
mounts = {it["name"]: it["mountPath"] for it in container["volumeMounts"]}
variables = {it["name"]: it["value"] for it in container["env"]}
directory, member = os.path.split(variables["KEYWARD_ROOT_KEY_FILE"])
probes = [container[it]["httpGet"] for it in ["startupProbe", "livenessProbe", "readinessProbe"]]
ports = [it["containerPort"] for it in container["ports"]] + [it["port"] for it in probes]
for what, found, expected in [
    ("kind", [manifest["apiVersion"], manifest["kind"]], ["apps/v1", "Deployment"]),
    ("replicas", [spec["replicas"], spec["strategy"]], [1, {"type": "Recreate"}]),
    ("labels", spec["selector"]["matchLabels"], spec["template"]["metadata"]["labels"]),
    ("user", [security[it] for it in ["runAsUser", "runAsGroup", "fsGroup"]], [user, group, group]),
    ("image", container["image"].split("/")[-1], f"keyward:{sys.argv[2]}"),
    ("command", [container.get("command"), container.get("args")], [None, None]),
    ("ports", ports, [port] * 4),
    ("listen", f"KEYWARD_LISTEN=0.0.0.0:{port}" in image["Env"], True),
    ("volumes", sorted(mounts), sorted(it["name"] for it in pod["volumes"])),
    ("data", mounts["data"], data),
    ("secret", [directory, member], [mounts["root-key"], "root-key"]),
]:
    if found != expected:
        sys.exit(f"{what}: the manifest has {found}, and the image {expected}")
print(*(f"{name}={value}" for name, value in variables.items()))
print(directory)
print(*(it["path"] for it in probes))
PYTHON
{ read -ra variables && read -r directory && read -ra probes; } <"$work/manifest"
key=$(run_image "${entrypoint[@]}" root-key generate)
mkdir "$work/secret"
printf 'sha256:%s\n' "$(sha256sum < <(printf %s "$key") | cut -d ' ' -f 1)" >"$work/secret/root-key"
more=(--volume "$work/secret:$directory:ro")
# As Kubernetes gives a volume to a group (fsGroup).
rm -r "$VOLUME"
install -d -m 2770 -o 0 -g "${image_user#*:}" "$VOLUME"
start run_image
for path in "${probes[@]}"; do
    curl -fsS -o "$work/ready" "$URL$path" || fail "the probe $path"
done
ask -o "$work/answer" "$URL/api/v1/api-keys" || fail "the root key is not that of the secret"
stop
for _ in 1 2; do
    start run_read_only
    stop
done

step "compose.yaml: its form, and the page's commands, with this machine's Caddy"
docker-compose --file packaging/container/compose.yaml config --quiet
# Prints a list or a mapping of a service, one line an element.
of_service() {
    python3 - "$1" "$2" <<'PYTHON'
import sys, yaml
service = yaml.safe_load(open("compose.yaml"))["services"][sys.argv[1]]
value = service[sys.argv[2]]
print("\n".join(value.split() if isinstance(value, str) else [f"{name}={text}" for name, text in value.items()]))
PYTHON
}
compose_up() {
    mapfile -t variables < <(of_service keyward environment)
    more=(--volume "$PWD/root-key.digest:/run/secrets/root-key:ro")
    start run_image
    mapfile -t api < <(of_service api command)
    mapfile -t caddy < <(of_service caddy environment)
    "${api[@]}" >"$work/api" 2>&1 &
    others+=($!)
    # The command of the image docker.io/library/caddy.
    env "${caddy[@]}" XDG_DATA_HOME="$work" XDG_CONFIG_HOME="$work" \
        caddy run --adapter caddyfile --config ../caddy/Caddyfile.policy >"$work/caddy" 2>&1 &
    others+=($!)
}
# Stands in for docker, which would pull images: keyward runs with buildah, the two others as programs of this machine.
docker() {
    case "$1 $2" in
        "run --rm") run_image "${entrypoint[@]}" "${@:4}" ;;
        "compose up") compose_up ;;
        "compose exec") run_image "${@:4}" ;;
        *) fail "$PAGE has another command: docker $*" ;;
    esac
}
rm -r "$VOLUME"
cp -a "$root/data" "$VOLUME"
echo '127.0.0.1 localhost keyward api' >"$work/hosts"
mount --bind "$work/hosts" /etc/hosts
block=$(tests/block.sh $PAGE Compose sh)
variables=() more=()
# The commands write files, so they run in a copy of packaging.
mkdir "$work/tree"
cp -r packaging "$work/tree"
cd "$work/tree"
eval "$(grep -v '^curl ' <<<"$block")" >"$work/typed"
made=$(grep -o 'rg_[0-9A-Za-z]\{47\}' "$work/typed")
# Prints the status of a request through Caddy.
through() { curl -sS --max-time 10 -o "$work/answer" -w '%{http_code}' "$@"; }
for ((i = 0; i < 300; i++)); do
    [[ $(through http://127.0.0.1/orders/ 2>/dev/null) != 401 ]] || break
    sleep 0.1
done
eval "$(sed -n "/^curl /s/KEY/$made/p" <<<"$block")" >"$work/answer" 2>"$work/log"
grep -q '^HTTP/1.1 200 ' "$work/answer" || fail "the page's request was answered: $(<"$work/answer")"
cd "$tree"
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

step "podman: the commands of docs/container.md"
# The first way that works here: as the page says; without podman's own limits, if the machine does not allow them; and
# with this script's network in place of the published port, if podman cannot make a bridge.
limits=(--ulimit nofile=1024:1024 --ulimit nproc=1024:1024)
for way in page limits network; do
    case $way in
        page) options=() ;;
        limits) options=("${limits[@]}") ;;
        network) options=("${limits[@]}" --network host) ;;
    esac
    for name in "" crun runc; do
        runtime=(${name:+--runtime "$name"})
        if podman "${runtime[@]}" run --rm -p 127.0.0.1:8080:8080 "${options[@]}" "$IMAGE" --version \
            >"$work/log" 2>&1; then
            works=$way
            break 2
        fi
    done
    echo "podman does not run a container here with '${options[*]}': $(tail -n 1 "$work/log")"
done
if [[ -z ${works:-} ]]; then
    echo "skipped: podman cannot run a container here"
    exit 0
fi
# The page's commands, with these options, once the server is ready.
podman() {
    if [[ $1 == run ]]; then
        command podman "${runtime[@]}" run "${options[@]}" "${@:2}"
        until curl -fsS -o "$work/ready" "$URL/readyz" 2>/dev/null; do
            [[ $(command podman inspect --format '{{.State.Status}}' keyward) == running ]] || fail "the container ended"
            sleep 0.1
        done
    else
        command podman "${runtime[@]}" "$@"
    fi
}
block=$(tests/block.sh $PAGE 'The image' sh 2)
(($(grep -c '^podman' <<<"$block") > 4)) || fail "$PAGE has too few commands"
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

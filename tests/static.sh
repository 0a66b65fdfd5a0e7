#!/usr/bin/env bash
# Tests the static binary in a root file system that contains nothing else: `tests/static.sh target/static/keyward-…`.
# Starts it there as root and as a user that no file names; creates and verifies a key; looks up names in a hosts file
# and by DNS; delivers a webhook; checks certificates; stops it. Needs root, curl, jq, openssl, python3 and readelf.
set -euo pipefail

binary=$(realpath "${1:?usage: tests/static.sh path/to/keyward}")
work=$(mktemp -d)
root=$work/root
user=0
server=
helper=
CHROOT=$(command -v chroot)
readonly CHROOT
trap finish EXIT
trap 'exit 143' TERM
trap 'exit 130' INT

finish() {
    local code=$?
    for process in $server $helper; do
        kill -KILL "$process" 2>/dev/null || true
        wait "$process" 2>/dev/null || true
    done
    if ((code != 0)); then
        echo "static: FAILED while: ${step:-starting}" >&2
        [[ ! -s $work/log ]] || { echo "static: the server's log ends:"; tail -n 20 "$work/log"; } >&2
    fi
    rm -rf "$work"
}

# Names the next step, for messages.
step() {
    step=$1
    echo "static: $step"
}

fail() {
    echo "static: $*" >&2
    exit 1
}

if ((EUID != 0)); then
    echo "skipped: this needs root, for chroot"
    exit 0
fi

# Runs keyward in the empty root. It has no environment but the variables before the `--`.
keyward() {
    local variables=()
    while [[ $1 != -- ]]; do
        variables+=("$1")
        shift
    done
    shift
    env -i "${variables[@]}" "$CHROOT" --userspec="$user:$user" "$root" /keyward "$@"
}

start() {
    : >"$work/out"
    # `env` and `chroot` replace themselves by the next program, so the signals of `stop` reach keyward.
    env -i "${settings[@]}" "$CHROOT" --userspec="$user:$user" "$root" /keyward serve >"$work/out" 2>"$work/log" </dev/null &
    server=$!
    local i
    for ((i = 0; i < 300; i++)); do
        url=$(head -n 1 "$work/out" | grep -oE 'https?://[0-9.:]*' || true)
        [[ -z $url ]] || return 0
        kill -0 "$server" 2>/dev/null || fail "the server ended before it printed its address"
        sleep 0.1
    done
    fail "the server printed no address within 30 seconds"
}

stop() {
    local code=0
    kill -TERM "$server"
    timeout 60 tail --pid="$server" -f /dev/null || fail "the server did not stop within a minute"
    wait "$server" || code=$?
    server=
    [[ $code == 0 ]] || fail "the server ended with $code, not 0"
}

# Makes the root file system again, with only the program in it. The root directory belongs to the user.
empty_root() {
    rm -rf "$root"
    mkdir -m 755 "$root"
    cp "$binary" "$root/keyward"
    chown "$user:$user" "$root"
    settings=(KEYWARD_DATA_DIR=/data KEYWARD_LISTEN=127.0.0.1:0)
}

step "the file needs no library and no loader"
readelf --wide --program-headers "$binary" >"$work/headers"
! grep -q INTERP "$work/headers" || fail "the program asks for a loader: $(grep INTERP "$work/headers")"
readelf --wide --dynamic "$binary" >"$work/dynamic"
! grep -q NEEDED "$work/dynamic" || fail "the program needs libraries: $(grep NEEDED "$work/dynamic")"
! readelf --sections --wide "$binary" | grep -qF .symtab || fail "the program is not stripped"

step "the checksum, and the bill of materials"
(cd "$(dirname "$binary")" && sha256sum --check --quiet "$binary.sha256")
jq -e '.bomFormat == "CycloneDX" and ([.components[].name] |
    contains(["actix-web", "rusqlite", "swagger-ui", "preact", "htm", "pico"]) and index("proptest") == null)' \
    "$binary.cdx.json" >/dev/null || fail "the bill of materials is wrong"
sqlite=$(jq -r '.components[] | select(.name == "sqlite").version' "$binary.cdx.json")
grep -qaF "$sqlite" "$binary" || fail "the program does not contain SQLite $sqlite"

for user in 0 12345; do
    step "user $user: start in an empty root"
    empty_root
    start
    [[ $(stat -c '%u %a' "$root/data") == "$user 700" ]] || fail "the data directory: $(stat -c '%u %a' "$root/data")"
    key=$(<"$root/data/initial-root-key")

    step "user $user: create and verify a key, over HTTP and on the command line"
    made=$(curl -fsS -H "X-API-Key: $key" -H 'Content-Type: application/json' \
        -d '{"name":"first","scopes":["orders:read"]}' "$url/api/v1/api-keys" | jq -r .key)
    code=$(curl -fsS -H "X-API-Key: $key" -H 'Content-Type: application/json' \
        -d "{\"key\":\"$made\",\"scopes\":[\"orders:read\"]}" "$url/api/v1/api-keys/verify" | jq -r .code)
    [[ $code == VALID ]] || fail "the verdict is $code"
    second=$(keyward KEYWARD_DATA_DIR=/data -- keys create --name second --scope orders:read -q)
    code=$(keyward KEYWARD_DATA_DIR=/data -- verify - -o json <<<"$second" | jq -r .code)
    [[ $code == VALID ]] || fail "the verdict is $code"
    [[ $(curl -fsS "$url/console/" | head -c 15) == '<!doctype html>' ]] || fail "the console is missing"

    step "user $user: health, doctor, backup"
    [[ $(keyward KEYWARD_DATA_DIR=/data -- health --ready) == ok ]]
    keyward KEYWARD_DATA_DIR=/data -- doctor -o json >"$work/doctor" || fail "doctor: $(<"$work/doctor")"
    ! grep -q '"failed"' "$work/doctor" || fail "doctor: $(<"$work/doctor")"
    keyward KEYWARD_DATA_DIR=/data -- backup create >/dev/null

    step "user $user: the log is in UTC"
    time=$(head -n 1 "$work/log" | jq -r .timestamp)
    [[ $time == "$(date -u +%Y-%m-%dT)"*Z ]] || fail "the log's time is $time"

    step "user $user: stop, start, and the key is still there"
    stop
    start
    code=$(keyward KEYWARD_DATA_DIR=/data -- verify - -o json <<<"$made" | jq -r .code)
    [[ $code == VALID ]] || fail "the verdict after a restart is $code"
    stop
done

# From here on, the user is the one that no file names. The helper answers DNS queries for two names, and receives
# webhooks: it writes down the type of each event.
cat >"$work/helper.py" <<'PYTHON'
import http.server, json, socket, struct, sys, threading

dns_address, place = sys.argv[1:]
names = [b"keyward.test", b"receiver.test"]

def answer_dns(dns):
    while True:
        query, client = dns.recvfrom(512)
        end, labels = 12, []
        while query[end]:
            labels.append(query[end + 1 : end + 1 + query[end]])
            end += 1 + query[end]
        known = b".".join(labels) in names
        found = known and query[end + 1 : end + 3] == b"\0\1"
        answer = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + socket.inet_aton("127.0.0.1")
        head = query[:2] + struct.pack(">HHHHH", 0x8180 if known else 0x8183, 1, int(found), 0, 0)
        dns.sendto(head + query[12 : end + 5] + (answer if found else b""), client)

class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        event = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with open(f"{place}/received", "a") as received:
            print(event["type"], file=received)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass

dns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
dns.bind((dns_address, 53))
threading.Thread(target=answer_dns, args=[dns], daemon=True).start()
server = http.server.HTTPServer(("127.0.0.1", 0), Receiver)
with open(f"{place}/port", "w") as port:
    print(server.server_port, file=port)
server.serve_forever()
PYTHON
readonly DNS=127.18.23.1
python3 "$work/helper.py" "$DNS" "$work" &
helper=$!
for ((i = 0; i < 100; i++)); do
    [[ ! -s $work/port ]] || break
    sleep 0.1
done
receiver=$(<"$work/port")

step "a name without a hosts file and without DNS: an error, and an address still works"
empty_root
# A certificate for the name, for the steps with TLS.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=keyward.test \
    -addext subjectAltName=DNS:keyward.test -addext basicConstraints=critical,CA:FALSE -keyout "$root/tls.key" -out "$root/tls.pem" 2>/dev/null
echo "whsec_$(openssl rand -base64 32)" >"$root/secret"
printf '[[webhooks]]\nname = "byname"\nurl = "http://receiver.test:%s/"\nevents = ["*"]\nallow_private = true\nsecret_file = "/secret"\n' \
    "$receiver" >"$root/keyward.toml"
chown "$user:$user" "$root"/*
chmod 600 "$root"/{tls.key,secret}
start
key=$(<"$root/data/initial-root-key")
port=${url##*:}
keyward KEYWARD_URL="$url" KEYWARD_KEY="$key" -- keys list >/dev/null
! keyward KEYWARD_URL="http://keyward.test:$port" KEYWARD_KEY="$key" -- keys list >/dev/null 2>"$work/said" ||
    fail "keyward.test was found"
grep -q 'failed to lookup address information' "$work/said" || fail "it said: $(<"$work/said")"

step "a name by DNS"
mkdir "$root/etc"
echo "nameserver $DNS" >"$root/etc/resolv.conf"
keyward KEYWARD_URL="http://keyward.test:$port" KEYWARD_KEY="$key" -- keys list >/dev/null

step "a name in the hosts file"
echo '127.0.0.1 elsewhere.test' >"$root/etc/hosts"
keyward KEYWARD_URL="http://elsewhere.test:$port" KEYWARD_KEY="$key" -- keys list >/dev/null

step "no module of nsswitch.conf is loaded: it would belong to another C library"
echo 'hosts: mdns4_minimal [NOTFOUND=return] resolve [!UNAVAIL=return] myhostname files dns' >"$root/etc/nsswitch.conf"
for name in keyward.test elsewhere.test; do
    env -i KEYWARD_URL="http://$name:$port" KEYWARD_KEY="$key" "$(command -v strace)" -f -e trace=execve,open,openat,openat2 -o "$work/trace" \
        "$CHROOT" --userspec="$user:$user" "$root" /keyward keys list >/dev/null
    # `chroot` itself looks up the user before it enters the root.
    sed -i '1,/execve("\/keyward"/d' "$work/trace"
    grep -q nsswitch.conf "$work/trace" || fail "nsswitch.conf was not read"
    ! grep libnss "$work/trace" || fail "a module was looked for"
done

step "a webhook to a name"
for ((i = 0; i < 300; i++)); do
    keyward KEYWARD_DATA_DIR=/data -- webhooks enable byname >/dev/null
    ! grep -qs . "$work/received" || break
    sleep 0.1
done
grep -qs . "$work/received" || fail "no event arrived: $(keyward KEYWARD_DATA_DIR=/data -- webhooks list)"
stop

step "https: without root certificates nothing is trusted; a file of the machine or of the user is enough"
settings+=(KEYWARD_TLS_CERTIFICATE=/tls.pem KEYWARD_TLS_KEY=/tls.key)
start
by_name=(KEYWARD_URL="https://keyward.test:${url##*:}" KEYWARD_KEY="$key")
! keyward "${by_name[@]}" -- keys list >/dev/null 2>"$work/said" || fail "a certificate was trusted without a root"
cat "$work/said"
keyward "${by_name[@]}" KEYWARD_CA_FILE=/tls.pem -- keys list >/dev/null
keyward "${by_name[@]}" SSL_CERT_FILE=/tls.pem -- keys list >/dev/null
mkdir -p "$root/etc/ssl/certs"
cp "$root/tls.pem" "$root/etc/ssl/certs/ca-certificates.crt"
keyward "${by_name[@]}" -- keys list >/dev/null
stop

echo "static: all steps passed"

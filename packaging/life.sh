#!/usr/bin/env bash
# Tests the package on a minimal Debian: a root file system from debootstrap, booted with systemd-nspawn, with
# its own network. Installs the package there, loads the service, kills it, reloads, stops, backs up, restores,
# upgrades, removes and purges it. Rotates a key by the example's timer. Then runs every command of docs/operations.md,
# in order. (The blocks that are
# marked `bash` need Litestream; tests/it/litestream.rs runs them.)
#
#   packaging/life.sh OLD.deb NEW.deb [BASE]
#
# BASE is an existing root file system from debootstrap; the script copies it.
#
# Needs root, debootstrap, systemd-container, curl, jq and python3, all of the same Debian. Where no container can be booted, the script
# reports this and succeeds. After a container has started, every fault is a failure. After SIGINT and similar
# signals, no process keeps running.
set -euo pipefail

readonly OLD=$(realpath "$1") NEW=$(realpath "$2") BASE=${3-}
page=$(dirname "$(realpath "$0")")/../docs/operations.md
readonly page
readonly DATA=/var/lib/keyward URL=http://127.0.0.1:8080
work=$(mktemp -d)
root=$work/root
container=
load=

finish() {
    local code=$?
    [[ -z $load ]] || kill -KILL "$load" 2>/dev/null || true
    if [[ -n $container ]]; then
        ((code == 0)) || inside journalctl --no-pager -n 60 >&2 || true
        kill -TERM "$container" 2>/dev/null || true
        for _ in {1..100}; do
            kill -0 "$container" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL "$container" 2>/dev/null || true
        wait "$container" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 143' TERM
trap 'exit 130' INT

say() { printf -- '-- %s\n' "$*"; }
fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }
inside() { nsenter -t "$init" -m -u -i -n -p -C -- "$@"; }
# Runs this machine's curl in the container's network.
ask() { nsenter -t "$init" -n -- curl -sS --max-time 10 -H "X-API-Key: $key" "$@"; }
as_keyward() { inside setpriv --reuid keyward --regid keyward --clear-groups env -C / "$@"; }

until_true() {
    local what=$1
    shift
    for _ in {1..600}; do
        if "$@" >/dev/null 2>&1; then return 0; fi
        sleep 0.1
    done
    fail "$what"
}

boot() {
    say "start a minimal Debian"
    if [[ -n $BASE ]]; then
        cp -a "$BASE" "$root"
    else
        debootstrap --variant=minbase --include=systemd,dbus bookworm "$root" >"$work/debootstrap.log" 2>&1 ||
            { tail -n 20 "$work/debootstrap.log" >&2; fail "debootstrap"; }
    fi
    mkdir -p "$root/packages"
    cp "$OLD" "$root/packages/old.deb"
    cp "$NEW" "$root/packages/new.deb"
    systemd-nspawn -q -D "$root" --boot --register=no --keep-unit --machine=keyward-life --console=pipe \
        --private-network </dev/null >"$work/console" 2>&1 &
    container=$!
    init=
    for _ in {1..300}; do
        init=$(pgrep -P "$container" 2>/dev/null | head -n 1 || true)
        if [[ -n $init ]] && inside systemctl is-system-running 2>/dev/null | grep -qE 'running|degraded'; then
            return 0
        fi
        kill -0 "$container" 2>/dev/null || break
        sleep 0.1
    done
    container=
    say "skipped: systemd-nspawn cannot boot a container here:"
    tail -n 5 "$work/console"
    exit 0
}

main_pid() { inside systemctl show -P MainPID keyward; }
is_active() { inside systemctl is-active -q keyward; }
changed_from() { [[ $(main_pid) != "$1" && $(main_pid) != 0 ]]; }
journal_has() {
    inside journalctl -u keyward -o json --no-pager | jq -e --slurp --arg it "$1" 'any(.[]; .MESSAGE | startswith($it))'
}
status_text() { inside systemctl show -P StatusText keyward; }

# Sends requests of every kind from four threads, for at most five minutes: verification, changes, pages. Writes
# down the id of each key whose creation was answered.
start_load() {
    mkdir "$work/answered"
    cat >"$work/load.py" <<'PYTHON'
import http.client, json, sys, threading, time

root, place = sys.argv[1:]
end = time.monotonic() + 300
headers = {"X-API-Key": root, "Content-Type": "application/json"}
new = json.dumps({"name": "load", "scopes": ["orders:read"]})

def work(number):
    with open(f"{place}/{number}", "a", buffering=1) as answered:
        while time.monotonic() < end:
            server = http.client.HTTPConnection("127.0.0.1", 8080, timeout=10)
            try:
                while time.monotonic() < end:
                    for path in ["/metrics", "/readyz", "/docs/", "/openapi.json", "/api/v1/api-keys?limit=10"]:
                        server.request("GET", path, headers=headers)
                        server.getresponse().read()
                    for _ in range(20):
                        server.request("POST", "/api/v1/api-keys", new, headers)
                        response = server.getresponse()
                        body = json.loads(response.read())
                        if response.status == 201:
                            print(body["id"], file=answered)
                            question = json.dumps({"key": body["key"]})
                            server.request("POST", "/api/v1/api-keys/verify", question, headers)
                            server.getresponse().read()
            except (OSError, http.client.HTTPException, ValueError):
                time.sleep(0.05)  # The server was killed: connect again.
            finally:
                server.close()

for number in range(4):
    threading.Thread(target=work, args=[number]).start()
PYTHON
    nsenter -t "$init" -n -- python3 "$work/load.py" "$key" "$work/answered" &
    load=$!
}

stop_load() {
    kill -KILL "$load" 2>/dev/null || true
    wait "$load" 2>/dev/null || true
    load=
}

# Prints the keys whose creation has been answered.
answered() { cat "$work/answered/"* | sort; }
# Checks that each of these keys is in the list on standard input.
all_there() {
    jq -r '.data[].id' | sort >"$work/there"
    [[ -z $(comm -23 "$1" "$work/there") ]] || fail "answered, but missing: $(comm -23 "$1" "$work/there")"
}

# Copies programs of this machine and the libraries that they lack into the minimal Debian, which has no network.
lend() {
    local program file
    for program in "$@"; do
        cp "$(command -v "$program")" "$root/usr/local/bin/"
        ldd "$(command -v "$program")" | grep -o '/[^ ]*' | while read -r file; do
            [[ -e $root/usr/lib/$(uname -m)-linux-gnu/${file##*/} || -e $root$file ]] ||
                cp -L "$file" "$root/usr/local/lib/"
        done
    done
    inside ldconfig
}

boot

say "install: the service is ready at once"
inside dpkg -i /packages/old.deb
is_active || fail "the service is not active"
[[ $(inside systemctl show -P NRestarts keyward) == 0 ]]
[[ $(status_text) == *"$URL"* ]] || fail "no status: $(status_text)"
inside stat -c '%n %U:%G %a' /etc/keyward /etc/keyward/keyward.toml /etc/keyward/routes.toml \
    /etc/keyward/credentials $DATA $DATA/keyward.db $DATA/initial-root-key /usr/bin/keyward \
    /usr/share/man/man1/keyward.1.gz >"$work/modes"
diff - "$work/modes" <<'MODES'
/etc/keyward root:keyward 750
/etc/keyward/keyward.toml root:keyward 640
/etc/keyward/routes.toml root:keyward 640
/etc/keyward/credentials root:root 700
/var/lib/keyward keyward:keyward 700
/var/lib/keyward/keyward.db keyward:keyward 600
/var/lib/keyward/initial-root-key keyward:keyward 600
/usr/bin/keyward root:root 755
/usr/share/man/man1/keyward.1.gz root:root 644
MODES
[[ $(inside systemctl is-enabled keyward.socket) == disabled ]]
inside systemctl cat keyward.service | grep -q SystemCallFilter

say "create a key on the command line while the server runs, as root and as the service's user"
key=$(inside cat $DATA/initial-root-key)
made=$(inside keyward keys create --name first --scope orders:read -q)
[[ $(inside sh -c "echo '$made' | keyward verify - --scope orders:read -o json" | jq -r .code) == VALID ]]
as_keyward keyward keys list | grep -q first
[[ $(ask -o /dev/null -w '%{http_code}' "$URL/api/v1/api-keys") == 200 ]]
until_true "the root key's file was not removed" inside test ! -e $DATA/initial-root-key

say "load: the system-call filter refuses no call, and the watchdog does not act"
start_load
sleep 12
is_active || fail "the service stopped under load"
[[ $(inside systemctl show -P NRestarts keyward) == 0 ]]
inside journalctl -u keyward -p warning --no-pager -o cat >"$work/warnings"
[[ ! -s $work/warnings ]] || { cat "$work/warnings"; fail "the log contains warnings"; }
inside journalctl -u keyward -o json --no-pager |
    jq -e --slurp 'any(.[]; .KEYWARD_HTTP_STATUS == "201")' >/dev/null || fail "no fields in the journal"
for job in end_graces expire_keys notices purge flush_usage keep_time record_denials tokens checkpoint upkeep; do
    inside keyward run-job "$job" >/dev/null
done

say "make a backup during the load, and restore it in another directory with every key"
answered >"$work/before"
backup=$(inside keyward backup create -o json)
file=$(jq -r .path <<<"$backup")
inside keyward backup verify "$file"
as_keyward keyward backup restore "$file" --yes --data-dir /tmp/elsewhere
as_keyward keyward keys list -o json --data-dir /tmp/elsewhere | all_there "$work/before"
[[ $(inside sh -c "echo '$made' | setpriv --reuid keyward --regid keyward --clear-groups \
    keyward verify - --data-dir /tmp/elsewhere -o json" | jq -r .code) == VALID ]]
as_keyward keyward events verify --data-dir /tmp/elsewhere >/dev/null

say "kill the server under load: systemd starts it again, with every answered key"
killed=$(main_pid)
inside sh -c "kill -KILL $killed"
until_true "systemd does not start the server again" changed_from "$killed"
until_true "the service is not active again" is_active
stop_load
answered >"$work/all"
(($(wc -l <"$work/before") < $(wc -l <"$work/all"))) || fail "the load had stopped"
inside keyward keys list -o json | all_there "$work/all"
wc -l <"$work/all" | sed 's/$/ keys, none missing/'

say "freeze the process: the watchdog notices it"
hung=$(main_pid)
inside sh -c "kill -STOP $hung"
until_true "the watchdog does not restart the server" changed_from "$hung" # WatchdogSec is 30 s.
until_true "the service is not active again" is_active

say "reload: a broken file fails and changes nothing, a correct file takes effect"
inside cp -p /etc/keyward/keyward.toml /etc/keyward/keyward.toml.kept
inside sh -c 'echo "nonsense = 1" >>/etc/keyward/keyward.toml'
before_pid=$(main_pid)
inside systemctl reload keyward 2>/dev/null && fail "a reload accepted a broken file"
is_active || fail "a failed reload ended the server"
inside sh -c "kill -HUP $before_pid"
until_true "the journal has no error" journal_has "not reloaded; the earlier configuration stays in force"
[[ $(ask -o /dev/null -w '%{http_code}' "$URL/readyz") == 200 ]]
inside mv /etc/keyward/keyward.toml.kept /etc/keyward/keyward.toml
inside sed -i 's/^#level = "info"/level = "debug"/' /etc/keyward/keyward.toml
inside systemctl reload keyward
until_true "the server did not reload" journal_has reloaded
[[ $(main_pid) == "$before_pid" ]]

say "stop cleanly; a mistake in the configuration ends the start, and systemd does not repeat it"
inside systemctl stop keyward
[[ $(inside systemctl show -P Result keyward) == success ]]
inside keyward keys list >/dev/null 2>"$work/owner" && fail "root opened the service's files"
grep -q 'sudo -u' "$work/owner"
as_keyward keyward keys list | grep -q first
inside cp -p /etc/keyward/keyward.toml /etc/keyward/keyward.toml.kept
for mistake in 'nonsense = 1' 'listen = "127.0.0.1:80"'; do # The second fails only when the server listens.
    printf '%s\ndata_dir = "%s"\n' "$mistake" "$DATA" | inside tee /etc/keyward/keyward.toml >/dev/null
    inside systemctl start keyward 2>/dev/null && fail "the server starts with $mistake"
    sleep 5 # Longer than RestartSec.
    [[ $(inside systemctl show -p NRestarts,ActiveState keyward | sort | paste -sd ' ') == 'ActiveState=failed NRestarts=0' ]] ||
        fail "started again with $mistake: $(inside systemctl show -p NRestarts,ActiveState keyward)"
done
inside mv /etc/keyward/keyward.toml.kept /etc/keyward/keyward.toml
inside systemctl start keyward

say "upgrade: configuration and keys stay"
inside dpkg -i --force-confold /packages/new.deb
is_active || fail "the service is not active after the upgrade"
inside grep -q '^level = "debug"' /etc/keyward/keyward.toml || fail "the configuration was replaced"
[[ $(inside sh -c "echo '$made' | keyward verify - -o json" | jq -r .code) == VALID ]]
[[ $(inside dpkg-query -W -f '${Version}' keyward) == "$(dpkg-deb -f "$NEW" Version)" ]]

say "the example's timer rotates the key of a service, after a run that the machine missed"
lend curl jq
examples=/usr/share/doc/keyward/examples/integrate
inside useradd --system --no-create-home orders-api
inside install -d -o orders-api -m 700 /var/lib/orders-api
inside keyward keys create --name orders-api --scope api-keys:verify --scope api-keys:rotate -q >"$work/first"
inside install -D -m 755 -t /usr/local/lib/keyward $examples/rotate-own-key.sh
inside install -m 644 -t /etc/systemd/system $examples/keyward-rotate.service $examples/keyward-rotate.timer
# As the page says: the address, and the service, which only has to run here.
inside sed -i "s|https://keyward.example.com|$URL|" /etc/systemd/system/keyward-rotate.service
printf '[Service]\nExecStart=/usr/bin/sleep infinity\n' >"$root/etc/systemd/system/orders-api.service"
inside install -o orders-api -m 600 /dev/stdin /var/lib/orders-api/keyward.key <"$work/first"
# The key is 8 days old, and so is the last run of the timer. The script leaves a new file as it is.
inside touch -d '8 days ago' /var/lib/orders-api/keyward.key
inside install -d /var/lib/systemd/timers
inside touch -d '8 days ago' /var/lib/systemd/timers/stamp-keyward-rotate.timer
# Without the delay of up to six hours.
mkdir "$root/etc/systemd/system/keyward-rotate.timer.d"
printf '[Timer]\nRandomizedDelaySec=0\n' >"$root/etc/systemd/system/keyward-rotate.timer.d/now.conf"
inside systemctl daemon-reload
inside systemctl start orders-api
service=$(inside systemctl show -P MainPID orders-api)
inside systemctl enable --now keyward-rotate.timer 2>/dev/null
rotated() { [[ $(inside systemctl show -P MainPID orders-api) != "$service" ]]; }
until_true "the timer did not rotate the key" rotated
[[ $(inside systemctl show -P Result keyward-rotate.service) == success ]]
inside cat /var/lib/orders-api/keyward.key >"$work/second"
! cmp -s "$work/first" "$work/second" || fail "the file has the same credential"
for file in first second; do
    [[ $(inside keyward verify - -o json <"$work/$file" | jq -r .code) == VALID ]] || fail "the $file credential"
done
[[ $(inside stat -c '%U %a' /var/lib/orders-api/keyward.key) == 'orders-api 600' ]]
inside systemctl start keyward-rotate.service
inside cat /var/lib/orders-api/keyward.key | cmp - "$work/second" || fail "a second run on the same day rotates again"
inside systemctl disable --now keyward-rotate.timer orders-api 2>/dev/null
inside sh -c 'rm -r /usr/local/lib/keyward /etc/systemd/system/keyward-rotate.* /etc/systemd/system/orders-api.service \
    /var/lib/orders-api /var/lib/systemd/timers/stamp-keyward-rotate.timer'
inside userdel orders-api
inside systemctl daemon-reload

say "systemd passes a certificate that only root can read, and keeps a socket open"
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 \
    -keyout "$root/etc/keyward/credentials/tls.key" -out "$root/etc/keyward/credentials/tls.pem" 2>/dev/null
chmod 600 "$root/etc/keyward/credentials/"*
inside systemctl restart keyward
cp "$root/etc/keyward/credentials/tls.pem" "$work/ca.pem"
[[ $(ask --cacert "$work/ca.pem" "${URL/http/https}/livez") == ok ]]
rm "$root/etc/keyward/credentials/"*
inside systemctl stop keyward
inside systemctl start keyward.socket
[[ $(ask "$URL/livez") == ok ]] || fail "the socket does not start the service"
is_active
inside systemctl stop keyward.socket

say "remove: the keys stay; purge: all files are deleted"
inside dpkg -r keyward
inside test -e $DATA/keyward.db
inside test -e /etc/keyward/keyward.toml
inside dpkg -P keyward
left=$(inside find / -xdev -path /proc -prune -o -path /packages -prune -o -iname '*keyward*' -print)
left=$(grep -vE '^/(tmp/elsewhere|var/log/journal|run/log|var/log/(dpkg|apt))' <<<"$left" || true)
[[ -z $left ]] || fail "left behind: $left"
inside getent passwd keyward && fail "the user still exists"

say "run each command of docs/operations.md"
mkdir "$root/typed"
cp "$OLD" "$root/typed/keyward.deb"
cp "$NEW" "$root/typed/keyward-new.deb"
sed -n '/^```sh$/,/^```$/{/^```/!p}' "$page" >"$root/typed/all"
# The commands after the packing are for a new machine, so remove the package and its files first.
sed -i '/^    srv\/keyward-backups etc/a dpkg -P keyward; rm -r /srv/keyward-backups /etc/systemd/system/keyward.service.d' \
    "$root/typed/all"
grep -q '^dpkg -P keyward; rm' "$root/typed/all" || fail "$page has no command that packs for another machine"
(($(wc -l <"$root/typed/all") > 60)) || fail "$page has too few commands"
inside bash -c 'cd /typed && exec bash -euxo pipefail all </dev/null' >"$work/typed" 2>&1 ||
    { tail -n 30 "$work/typed" >&2; fail "a command of docs/operations.md failed"; }
inside test -e $DATA && fail "left behind: $DATA"
grep -c '^+ ' "$work/typed" | sed 's/$/ commands/'

say "all checks passed"

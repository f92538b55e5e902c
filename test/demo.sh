#!/bin/sh
# demo.sh - `make demo`: a proxy written in takt carries traffic; every byte is compared.
#
#     test/demo.sh [auto|uring|poll]        the proxy's backend
#
# build/demo asks build/http by way of build/proxy, all on loopback. BUILD, CONNECTIONS,
# SECONDS_OF_LOAD and IDLE in the environment change what is run.

build=${BUILD:-build}
connections=${CONNECTIONS:-200}
seconds=${SECONDS_OF_LOAD:-6}
idle=${IDLE:-2000}
backend=${1:-auto}

tmp=$(mktemp -d) || exit 1
http='' proxy='' holder=''

cleanup() {
    for pid in $http $proxy $holder; do
        kill -KILL "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
    done
    rm -rf "$tmp"
}
trap cleanup EXIT
trap 'exit 1' INT TERM HUP

die() {
    echo "demo: $*" >&2
    for log in http proxy holder; do
        [ -s "$tmp/$log.err" ] && tail -n 5 "$tmp/$log.err" >&2
    done
    exit 1
}

# ended PID: true once it has exited
ended() {
    case $(cat "/proc/$1/stat" 2>/dev/null) in
    '' | *') Z '*) return 0 ;;
    esac
    return 1
}

# wait_for PID FILE PATTERN: until the file has the line; 10 s at most
wait_for() {
    tries=0
    until grep -q "$3" "$2" 2>/dev/null; do
        ended "$1" && die "ended before its line \"$3\""
        tries=$((tries + 1))
        [ $tries -gt 400 ] && die "no line \"$3\" within 10 s"
        sleep 0.025
    done
}

# stop PID NAME: by SIGTERM; it must exit with 0 within 10 s
stop() {
    tries=0
    ended "$1" && die "$2 has ended before its time"
    kill -TERM "$1"
    until ended "$1"; do
        tries=$((tries + 1))
        [ $tries -gt 400 ] && die "$2 is still there 10 s after SIGTERM"
        sleep 0.025
    done
    wait "$1"
    status=$?
    [ $status -eq 0 ] || die "$2 exited with $status after SIGTERM"
}

# memory PID: what it has written to, in bytes
memory() {
    awk '/^Private_Dirty:/ { print $2 * 1024 }' "/proc/$1/smaps_rollup"
}

TAKT_BACKEND=$backend "$build/http" --listen 127.0.0.1:0 2>"$tmp/http.err" &
http=$!
wait_for $http "$tmp/http.err" '^http: listening on '
upstream=$(sed -n 's/^http: listening on //p' "$tmp/http.err")

"$build/proxy" --listen 127.0.0.1:0 --upstream "$upstream" --backend "$backend" \
    2>"$tmp/proxy.err" &
proxy=$!
wait_for $proxy "$tmp/proxy.err" '^proxy: .* -> .* on '
address=$(sed -n 's/^proxy: \([^ ]*\) -> .*/\1/p' "$tmp/proxy.err")
runs_on=$(sed -n 's/^proxy: [^ ]* -> [^ ]* on //p' "$tmp/proxy.err")
echo "demo: $connections clients -> proxy $address -> http $upstream, on $runs_on" >&2

# hold COUNT NAME: that many connections, answered once and then silent, until fd 3 is closed
hold() {
    "$build/demo" --connect "$address" --idle "$1" \
        <"$tmp/hold" >"$tmp/$2.out" 2>"$tmp/$2.err" 3>&- &
    holder=$!
}

# Connections that stay silent are held while the load runs beside them. The first of them
# pay for what the proxy touches once: only those after them are measured.
mkfifo "$tmp/hold" || exit 1
hold 100 first
first=$holder
exec 3>"$tmp/hold"
wait_for $first "$tmp/first.out" '^idle 100$'
before=$(memory $proxy)
hold "$idle" holder
wait_for $holder "$tmp/holder.out" '^idle '
grep -qx "idle $idle" "$tmp/holder.out" || die "not all of $idle idle connections were answered"
after=$(memory $proxy)

"$build/demo" --connect "$address" --connections "$connections" --seconds "$seconds" \
    >"$tmp/load.out" 3>&-
load=$?

exec 3>&-
wait $holder
held=$?
holder=''
stop $proxy "the proxy"
proxy=''
stop $http "http"
http=''

read -r requests bytes elapsed errors mismatches p50 p99 <"$tmp/load.out" || die "no figures"
awk -v backend="$runs_on" -v connections="$connections" -v requests="$requests" \
    -v bytes="$bytes" -v seconds="$elapsed" -v errors="$errors" -v mismatches="$mismatches" \
    -v p50="$p50" -v p99="$p99" -v idle="$idle" -v before="$before" -v after="$after" '
function row(name, value) { printf "  %-46s %s\n", name, value }
BEGIN {
    sub(/^io_uring .*/, "io_uring", backend) # the rest is above; a reason for epoll stays
    row("backend", backend)
    row("busy connections", connections)
    row("idle connections beside them", idle)
    row("requests", requests)
    row("requests/s", sprintf("%.0f", requests / seconds))
    row("GB/s of bodies", sprintf("%.2f", bytes / seconds / 1e9))
    row("time to a body of up to 16 KiB, p50 / p99", p50 " / " p99 " us")
    row("user-space bytes per idle proxied connection", sprintf("%.0f", (after - before) / idle))
    row("bytes compared", bytes)
    row("bodies that differed / connections that failed", mismatches " / " errors)
}'

[ "$mismatches" = 0 ] || die "$mismatches bodies were not what was sent"
[ $held -eq 0 ] || die "idle connections failed (exit $held)"
[ $load -eq 0 ] || die "the load failed (exit $load)"
echo "demo: every byte was equal"

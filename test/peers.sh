#!/bin/sh
# peers.sh [SECONDS] - real programs talk through examples/proxy.c, on both backends.
#
# nginx, redis-server and iperf3 stand behind the proxy; curl, wrk, redis-benchmark, iperf3
# and a few rude clients in front of it. After each the proxy must hold as many descriptors
# as before, and answer SIGTERM with exit 0. All on loopback, on ports that were free; every
# server has a directory of its own. A tool that is missing is skipped.
#
# PROXY (build/proxy), BACKENDS (uring poll), KEEP=1 to keep the logs.
set -u
cd "$(dirname "$0")/.." || exit 1
proxy=${PROXY:-build/proxy}
seconds=${1:-3}
passed=0
failed=0
dir=$(mktemp -d)
running=
ulimit -n "$(ulimit -Hn)" 2> /dev/null

cleanup() {
    for pid in $running; do kill -9 "$pid" 2> /dev/null; done
    wait 2> /dev/null
    if [ "${KEEP:-0}" = 1 ]; then echo "logs are in $dir"; else rm -rf "$dir"; fi
}
trap cleanup EXIT
trap 'exit 130' INT TERM

check() { # TEXT STATUS [LOG]
    if [ "$2" -eq 0 ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL $1"
        [ $# -lt 3 ] || tr "\r" "\n" < "$3" | tail -3
    fi
}

have() {
    for tool; do
        command -v "$tool" > /dev/null && continue
        echo "skipped: no $tool"
        return 1
    done
}

# Waits until a command succeeds, at most that many tenths of a second.
within() { # TENTHS COMMAND...
    tenths=$1
    shift
    while ! "$@" 2> /dev/null; do
        tenths=$((tenths - 1))
        [ $tenths -gt 0 ] || return 1
        sleep 0.1
    done
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])'
}

answers() { # PORT
    python3 -c 'import socket, sys; socket.create_connection(("127.0.0.1", int(sys.argv[1])), 1)' \
        "$1" 2> /dev/null
}

gone() { ! kill -0 "$1" 2> /dev/null; }

end() { # PID [SIGNAL]: one that this script started
    kill "-${2:-TERM}" "$1" 2> /dev/null
    within 50 gone "$1" || kill -9 "$1" 2> /dev/null
    wait "$1" 2> /dev/null
    running=$(echo " $running " | sed "s/ $1 / /")
}

# -- the proxy -----------------------------------------------------------------------

# without pipes: the relays keep some, empty, for the next bulk
descriptors() {
    find "/proc/$proxy_pid/fd" -mindepth 1 ! -lname 'pipe:*' 2> /dev/null | wc -l
}

is_ready() { grep -q '^proxy: .* -> ' "$dir/proxy.log"; }

start_proxy() { # UPSTREAM-PORT BACKEND [OPTION...]: sets proxy_pid, proxy_port, fds_before
    upstream=$1 backend=$2
    shift 2
    : > "$dir/proxy.log"
    "$proxy" --listen 127.0.0.1:0 --upstream "127.0.0.1:$upstream" --backend "$backend" \
        --connect 5s --idle 60s --max-connections 4000 --drain 10s --quiet "$@" \
        2> "$dir/proxy.log" &
    proxy_pid=$!
    running="$running $proxy_pid"
    if ! within 50 is_ready; then
        check "$backend: the proxy does not come up" 1 "$dir/proxy.log"
        end $proxy_pid
        return 1
    fi
    proxy_port=$(sed -n 's/^proxy: .*:\([0-9]*\) -> .*/\1/p' "$dir/proxy.log" | head -1)
    case $backend$(sed -n 's/^proxy: .* on //p' "$dir/proxy.log") in
        uringio_uring* | poll[!i]*) ;;
        *) check "$backend: the proxy runs on something else" 1 "$dir/proxy.log" ;;
    esac
    fds_before=$(descriptors)
}

fds_are_back() { [ "$(descriptors)" -eq "$fds_before" ]; }

stop_proxy() { # WHAT
    gone "$proxy_pid"
    check "$1: the proxy has died" "$([ $? -ne 0 ]; echo $?)" "$dir/proxy.log"
    within 100 fds_are_back
    check "$1: the proxy holds $(descriptors) descriptors, $fds_before before" $?
    kill -TERM "$proxy_pid" 2> /dev/null
    within 150 gone "$proxy_pid" || kill -9 "$proxy_pid" 2> /dev/null
    wait "$proxy_pid" 2> /dev/null
    check "$1: SIGTERM was not answered with exit 0" $? "$dir/proxy.log"
    running=$(echo " $running " | sed "s/ $proxy_pid / /")
}

# -- nginx, curl, wrk ----------------------------------------------------------------

sizes='0 1 4095 65536 1048576 268435456'

make_files() {
    mkdir -p "$dir/www"
    for size in $sizes; do head -c "$size" /dev/urandom > "$dir/www/$size"; done
}

start_nginx() { # sets nginx_pid; nginx_port stays
    mkdir -p "$dir/nginx/tmp"
    cat > "$dir/nginx/nginx.conf" << EOF
daemon off;
master_process off;
pid $dir/nginx/pid;
error_log $dir/nginx/error.log;
worker_rlimit_nofile $(ulimit -n | sed 's/unlimited/65536/');
events { worker_connections 4096; }
http {
    access_log off;
    client_body_temp_path $dir/nginx/tmp/body;
    proxy_temp_path $dir/nginx/tmp/proxy;
    fastcgi_temp_path $dir/nginx/tmp/fastcgi;
    uwsgi_temp_path $dir/nginx/tmp/uwsgi;
    scgi_temp_path $dir/nginx/tmp/scgi;
    keepalive_requests 10000000;
    sendfile on;
    server { listen 127.0.0.1:$nginx_port backlog=4096; root $dir/www; }
}
EOF
    nginx -p "$dir/nginx" -c "$dir/nginx/nginx.conf" > "$dir/nginx/log" 2>&1 &
    nginx_pid=$!
    running="$running $nginx_pid"
    within 50 answers "$nginx_port"
}

same_bytes() { # SIZE
    curl -sS --max-time 60 -o "$dir/got" "http://127.0.0.1:$proxy_port/$1" 2> "$dir/curl.log" &&
        [ "$(sha256sum < "$dir/got")" = "$(sha256sum < "$dir/www/$1")" ]
}

curl_downloads() { # BACKEND
    have nginx curl || return
    start_proxy "$nginx_port" "$1" || return
    for size in $sizes; do
        rm -f "$dir/got"
        : > "$dir/got"
        same_bytes "$size"
        check "$1: curl: $size bytes of nginx do not arrive as they are" $? "$dir/curl.log"
    done
    stop_proxy "$1, curl and nginx"
}

wrk_reports_no_error() { # BACKEND CONNECTIONS
    wrk -t 2 -c "$2" -d "${seconds}s" --timeout 20s "http://127.0.0.1:$proxy_port/4095" \
        > "$dir/wrk.log" 2>&1 &&
        ! grep -Eq 'Socket errors|Non-2xx' "$dir/wrk.log" &&
        [ "$(awk '/requests in/ { print $1 }' "$dir/wrk.log")" -gt 0 ]
    check "$1: wrk with $2 connections reports errors" $? "$dir/wrk.log"
}

wrk_hammers() { # BACKEND
    have nginx wrk || return
    for connections in 64 1000; do
        start_proxy "$nginx_port" "$1" || return
        wrk_reports_no_error "$1" $connections
        awk -v who="$1: wrk $connections" '/^Requests.sec/ { print who ": " $2 " requests/s" }' \
            "$dir/wrk.log"
        stop_proxy "$1, wrk with $connections connections"
    done
}

# -- redis, iperf3 -------------------------------------------------------------------

redis_runs() { # BACKEND
    have redis-server redis-benchmark || return
    start_proxy "$redis_port" "$1" || return
    for pipeline in 1 16; do
        timeout 120 redis-benchmark -p "$proxy_port" -q -n 20000 -P $pipeline \
            -t ping,set,get,lpush,lrange_100,mset > "$dir/redis.log" 2>&1 &&
            ! grep -qi error "$dir/redis.log" && grep -q 'requests per second' "$dir/redis.log"
        check "$1: redis-benchmark -P $pipeline" $? "$dir/redis.log"
    done
    stop_proxy "$1, redis"
}

start_redis() {
    mkdir -p "$dir/redis"
    redis_port=$(free_port)
    redis-server --port "$redis_port" --bind 127.0.0.1 --save '' --appendonly no \
        --dir "$dir/redis" --daemonize no > "$dir/redis/log" 2>&1 &
    redis_pid=$!
    running="$running $redis_pid"
    within 50 answers "$redis_port"
}

listens() { ss -Htln "sport = :$1" 2> /dev/null | grep -q . || sleep 0.5; }

iperf_runs() { # BACKEND
    have iperf3 || return
    iperf_port=$(free_port)
    iperf3 -s -B 127.0.0.1 -p "$iperf_port" > "$dir/iperf.server" 2>&1 &
    iperf_pid=$!
    running="$running $iperf_pid"
    within 50 listens "$iperf_port"
    start_proxy "$iperf_port" "$1" || return
    for way in "" -R; do
        # shellcheck disable=SC2086
        timeout 60 iperf3 -c 127.0.0.1 -p "$proxy_port" -t 2 $way > "$dir/iperf.log" 2>&1 &&
            awk '/receiver/ { got += $5 } END { exit !(got > 0) }' "$dir/iperf.log"
        check "$1: iperf3 $way" $? "$dir/iperf.log"
        awk -v who="$1: iperf3 $way" '/receiver/ { print who ": " $7 " " $8 }' "$dir/iperf.log"
        sleep 0.2
    done
    stop_proxy "$1, iperf3"
    end "$iperf_pid"
}

# -- rudeness ------------------------------------------------------------------------

# For SECONDS: clients that reset, that leave in the middle, that ask and never read, that
# send half of a request and are silent. All of them are gone at the end.
rude_clients() { # PORT SECONDS
    python3 - "$1" "$2" << 'EOF'
import random, socket, struct, sys, threading, time
port, end = int(sys.argv[1]), time.time() + float(sys.argv[2])

def connect():
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.settimeout(2)
    s.connect(("127.0.0.1", port))
    return s

def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()

def one(rng, stalled):
    s = connect()
    what = rng.randrange(6)
    if what == 0:                       # nothing said, gone at once
        reset(s)
    elif what == 1:                     # gone with the answer under way
        s.sendall(b"GET /268435456 HTTP/1.0\r\n\r\n")
        s.recv(rng.randrange(1, 100000))
        reset(s)
    elif what == 2:                     # the same, gently
        s.sendall(b"GET /1048576 HTTP/1.0\r\n\r\n")
        s.shutdown(socket.SHUT_WR)
        s.recv(1)
        s.close()
    elif what == 3:                     # never reads
        s.sendall(b"GET /268435456 HTTP/1.0\r\n\r\n")
        stalled.append(s)
    elif what == 4:                     # never finishes its question
        s.sendall(b"GET /65536 HTT")
        stalled.append(s)
    else:                               # sends much that nobody wants, and resets
        s.sendall(b"POST /1 HTTP/1.0\r\nContent-Length: 900000\r\n\r\n" + b"x" * 65536)
        reset(s)

def rude(seed):
    rng, stalled = random.Random(seed), []
    while time.time() < end:
        try:
            one(rng, stalled)
        except OSError:                 # upstream is down: that is what happens here
            time.sleep(0.01)
        while len(stalled) > 20:
            s = stalled.pop(0)
            reset(s) if rng.random() < 0.5 else s.close()
    for s in stalled:
        s.close()

threads = [threading.Thread(target=rude, args=(seed,)) for seed in range(8)]
for t in threads: t.start()
for t in threads: t.join()
EOF
}

# The upstream dies and comes back while rude clients and a load are at it.
survives_rudeness() { # BACKEND
    have nginx curl || return
    start_proxy "$nginx_port" "$1" || return
    rude_clients "$proxy_port" "$((seconds + 2))" &
    rude_pid=$!
    wrk_pid=
    if command -v wrk > /dev/null; then
        wrk -t 1 -c 50 -d "${seconds}s" "http://127.0.0.1:$proxy_port/65536" \
            > "$dir/wrk.log" 2>&1 &
        wrk_pid=$!
    fi
    running="$running $rude_pid $wrk_pid"
    until gone "$rude_pid"; do
        sleep 0.4
        end "$nginx_pid" KILL
        sleep 0.2
        start_nginx
    done
    wait "$rude_pid"
    check "$1: the rude clients failed themselves" $?
    [ -z "$wrk_pid" ] || wait "$wrk_pid"
    running=$(echo " $running " | sed "s/ $rude_pid / /; s/ ${wrk_pid:-none} / /")
    within 100 fds_are_back
    check "$1: after resets and restarts: $(descriptors) descriptors, $fds_before before" $?
    : > "$dir/got"
    same_bytes 1048576
    check "$1: after resets and restarts nothing goes through any more" $? "$dir/proxy.log"
    stop_proxy "$1, rude clients"
}

# Refused by the upstream, and a client that hangs on: SIGTERM ends all of it in time.
ends_with_clients_inside() { # BACKEND
    have nginx || return
    start_proxy "$nginx_port" "$1" --drain 1s || return
    rude_clients "$proxy_port" 2 &
    rude_pid=$!
    running="$running $rude_pid"
    sleep 1
    kill -TERM "$proxy_pid"
    within 100 gone "$proxy_pid"
    check "$1: SIGTERM with clients inside does not end the proxy" $?
    wait "$proxy_pid"
    check "$1: SIGTERM with clients inside is not answered with exit 0" $? "$dir/proxy.log"
    wait "$rude_pid"
    running=$(echo " $running " | sed "s/ $proxy_pid / /; s/ $rude_pid / /")
}

have python3 || exit 77
if [ ! -x "$proxy" ]; then
    echo "FAIL there is no $proxy: make examples"
    exit 1
fi
make_files
nginx_port=$(free_port)
if have nginx; then start_nginx; fi
if have redis-server; then start_redis; fi
for backend in ${BACKENDS:-uring poll}; do
    curl_downloads "$backend"
    wrk_hammers "$backend"
    redis_runs "$backend"
    iperf_runs "$backend"
    survives_rudeness "$backend"
    ends_with_clients_inside "$backend"
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]

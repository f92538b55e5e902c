#!/usr/bin/env python3
"""run.py - `make bench`: takt beside its peers, in one run.

    test/bench/run.py [PART...]      default: all
                                     nop core timers echo idle proxy bulk udp post loops game

Builds the programs of test/bench into build/bench, runs them in interleaved rounds, prints
a table, and writes build/bench.tsv and build/bench.svg. In the environment:

    ROUNDS   of the timed parts (9); half as many of the timers
    IDLE     idle echo connections (100000, or what the limit of descriptors allows)
    PAIRS    idle proxied pairs (4000, likewise)
    FIFO=1   at real-time priority, as root: for a machine that others keep busy. They stand
             still meanwhile, a fifth of a second at a time
    CC       compiler (cc)

Losses are printed as plainly as wins, and nothing fails because of a figure.
"""
import contextlib
import ctypes
import math
import os
import platform
import random
import re
import resource
import signal
import socket
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = "build/bench"
FLAGS = "-std=c11 -O2 -g -DNDEBUG -Wall -Wextra -D_GNU_SOURCE -I.".split()  # as the examples
ROUNDS = int(os.environ.get("ROUNDS", "9"))
IDLE = int(os.environ.get("IDLE", "100000"))
PAIRS = int(os.environ.get("PAIRS", "4000"))
ALONE = ["chrt", "-f", "1"] if os.environ.get("FIFO") == "1" else []
SERVER_CPU, LOAD_CPU = ([*ALONE, "taskset", "-c", str(cpu)] for cpu in (os.cpu_count() - 1, 0))
LIMIT_S = 60      # of any one program
MEASURE_MS = 150  # of load, each time
NGINX_STREAM = "/usr/lib/nginx/modules/ngx_stream_module.so"
SPIN_US = 100
CPU, RATE = "CPU us a request", "requests/s"
CPU_GB, GBS = "CPU s a GB", "GB/s"
CPU_TICK = "CPU us a tick"
CPU_PACKET, PACKETS = "CPU us a packet", "packets/s"
BULK_MS = 300  # of bulk, each time
PROGRAMS = {      # name: what it is linked with
    "nop": "-luring", "core": "", "timers": "-luv -lev", "echo_load": "", "server_epoll": "",
    "server_uring": "-luring", "server_stream": "-luring", "server_uv": "-luv",
    "server_ev": "-lev",
    "server_event": "-levent_core", "proxy_splice": "", "bulk_load": "", "game_tick": "-luring",
    "udp_load": "", "udp_mmsg": "", "udp_uv": "-luv", "post": "-luring -luv",
}

rows = []     # in the order of their measuring
missing = []  # what could not be measured, and why


class Row:
    """One comparison. `worse`: how many times as much takt takes; below 1 it wins. Lists are
    of the same rounds: the ratio is the median of theirs, for what disturbs a round disturbs
    both sides of it."""

    def __init__(self, name, takt, peer, value, unit, more_is_better=False):
        self.name, self.peer, self.unit = name, peer, unit
        self.takt, self.spread = middle(takt)
        self.value, self.peer_spread = middle(value)
        self.ratio, self.error = self.takt / self.value if self.value > 0 else math.inf, 0.0
        if isinstance(takt, list):
            self.ratio, spread = middle([mine / theirs for mine, theirs in zip(takt, value)])
            # the standard error of a median, by the middle half of the values
            self.error = self.ratio * 0.93 * (spread or 0) / 100 / math.sqrt(len(takt))
        self.worse = 1 / self.ratio if more_is_better else self.ratio
        rows.append(self)


def middle(values):
    """The median, and how wide the middle half of the values is, in percent of it."""
    if not isinstance(values, list):
        return values, None
    if len(values) == 1:
        return values[0], None
    values = sorted(values)
    count = len(values)
    median = (values[(count - 1) // 2] + values[count // 2]) / 2
    spread = values[count - 1 - count // 4] - values[count // 4]
    return median, 100 * spread / median if median else 0.0


def tell(text):
    print("bench: " + text, file=sys.stderr, flush=True)


# -- programs -------------------------------------------------------------------

def build():
    """Compiles everything. A peer whose library is missing is left out."""
    os.makedirs(BUILD, exist_ok=True)
    if subprocess.run(["make", "-s", "build/echo", "build/proxy", "build/udp_echo",
                       "build/per_core"]).returncode:
        sys.exit("bench: the examples do not compile")
    for name, libraries in PROGRAMS.items():
        command = [os.environ.get("CC", "cc"), *FLAGS, f"test/bench/{name}.c", "-o",
                   f"{BUILD}/{name}", *libraries.split()]
        if subprocess.run(command, stderr=subprocess.PIPE).returncode:
            missing.append(f"{name}: does not compile; is {libraries or 'takt.h'} there?")
            if os.path.exists(f"{BUILD}/{name}"):
                os.unlink(f"{BUILD}/{name}")


def here(name):
    return os.path.exists(f"{BUILD}/{name}")


def numbers(*command):
    """Runs a program; the numbers that it printed."""
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=LIMIT_S, check=True)
    return [float(word) for word in done.stdout.split()]


def collected(command):
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *command]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          timeout=LIMIT_S, check=True)
    return int(re.search(rb"Collected\s*:\s*(\d+)", done.stderr).group(1))


def instructions(*command, few=20480, many=61440):
    """User-space instructions an operation: the difference of two runs, so that the start
    and the end of the program do not count."""
    few_run, many_run = (collected([*command, str(count)]) for count in (few, many))
    return (many_run - few_run) / (many - few)


def interleaved(commands, rounds=ROUNDS):
    """For each name, a list for each number that its command prints, of all rounds."""
    results = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            results[name].append(numbers(*SERVER_CPU, *command))
    return {name: [list(column) for column in zip(*runs)] for name, runs in results.items()}


# -- without sockets --------------------------------------------------------------

def bench_nop():
    program = f"{BUILD}/nop"
    peers = {"raw": "liburing by hand", "bare": "bare rings by hand"}
    for depth in (1, 32, 256):
        name = f"awaited NOP, depth {depth}"
        count = {who: instructions(program, who, str(depth)) for who in ("takt", *peers)}
        times = interleaved({who: [program, who, str(depth), "500000"] for who in count})
        for who, peer in peers.items():
            Row(name, count["takt"], peer, count[who], "instructions")
        for who, peer in peers.items():
            Row(name, times["takt"][0], peer, times[who][0], "ns")


def bench_core():
    program = f"{BUILD}/core"
    what = {"yield": "resume", "chain": "resume below 15 calls",
            "call": "call and return, frame of 128 bytes", "spawn": "spawn and finish"}
    floors = {"yield": "callback by hand", "chain": "callback by hand",
              "spawn": "calloc and callback by hand"}
    count = {who: instructions(program, who, few=100000, many=200000)
             for who in (*what, "floor-yield", "floor-spawn")}
    times = interleaved({who: [program, who, "3000000"] for who in count})
    for who, name in what.items():
        floor = "floor-spawn" if who == "spawn" else "floor-yield"
        if who == "call":
            Row(name, count[who], "the figure to reach", 60, "instructions")
        else:
            Row(name, count[who], floors[who], count[floor], "instructions")
            Row(name, times[who][0], floors[who], times[floor][0], "ns")


def bench_timers():
    peers = ("libuv", "libev")
    times = interleaved({who: [f"{BUILD}/timers", who, "1000000"] for who in ("takt", *peers)},
                        (ROUNDS + 1) // 2)
    for step, name in enumerate(("arm", "re-arm", "cancel")):
        for peer in peers:
            Row(f"timer {name}, 1 M armed", times["takt"][step], peer, times[peer][step], "ns")


# -- servers ------------------------------------------------------------------------

class Server:
    """One running server, pinned to the last CPU, with the address that it told."""

    running = []

    def __init__(self, *command, env=None, tells=r"listening on (\S+)", address=None,
                 cpu=SERVER_CPU):
        self.process = subprocess.Popen(
            [*cpu, *command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, env={**os.environ, **(env or {})})
        Server.running.append(self)
        self.pid = self.process.pid
        self.address = address or self.hear(tells)

    def hear(self, tells):
        for line in self.process.stderr:
            found = re.search(tells, line.decode())
            if found:
                return found.group(1)
        raise RuntimeError(f"{self.process.args} ended before it was ready")

    def memory(self):
        """Bytes of its own that it has written to."""
        with open(f"/proc/{self.pid}/smaps_rollup", encoding="ascii") as file:
            return 1024 * int(re.search(r"Private_Dirty:\s*(\d+)", file.read()).group(1))

    def stop(self):
        Server.running.remove(self)
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()


def takt_echo(backend, spin=0):
    """build/echo; the environment is for versions without the options."""
    command = ["build/echo", "--listen", "127.0.0.1:0"]
    if "--backend" in echo_usage():
        command += ["--backend", backend]
    if spin:
        command += ["--spin", str(spin)]
    return lambda: Server(*command, env={"TAKT_BACKEND": backend})


def echo_usage():
    return subprocess.run(["build/echo", "--help"], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=LIMIT_S).stdout.decode()


PEER_SERVERS = {  # name: program and its arguments
    "io_uring by hand": ["server_uring", "multishot"],
    "io_uring by hand, plain recv": ["server_uring", "plain"],
    "epoll by hand": ["server_epoll"],
    "libuv": ["server_uv"], "libev": ["server_ev"], "libevent": ["server_event"],
}


def takt_stream():
    return {"takt with a stream": lambda: Server(f"{BUILD}/server_stream")} \
        if here("server_stream") else {}


def peer_servers():
    return {name: (lambda command=command: Server(f"{BUILD}/{command[0]}", *command[1:]))
            for name, command in PEER_SERVERS.items() if here(command[0])}


def load(server, connections, size):
    """requests/s, CPU microseconds a request"""
    requests, seconds, _, _, cpu_ns, _ = numbers(
        *LOAD_CPU, f"{BUILD}/echo_load", "--connect", server.address, "--connections",
        str(connections), "--size", str(size), "--ms", str(MEASURE_MS), "--warm-ms", "50",
        "--pid", str(server.pid))
    return requests / seconds, cpu_ns / requests / 1000


def bench_echo():
    """All servers run at the same time, and sleep unless they are asked."""
    starts = {"takt": takt_echo("uring"), "takt on epoll": takt_echo("poll"), **takt_stream(),
              **peer_servers()}
    if "--spin" in echo_usage():
        starts["takt, spinning"] = takt_echo("uring", SPIN_US)
    else:
        missing.append("echo, 1 connection, spinning: build/echo has no --spin")
    servers = {name: start() for name, start in starts.items()}
    shapes = [(connections, size) for connections in (1, 64, 1000) for size in (64, 4096)]
    results = {}
    names = list(servers)
    for turn in range(ROUNDS):
        for shape in shapes:
            random.shuffle(names)  # nobody always follows the same one
            for name in names:
                if name != "takt, spinning" or shape[0] == 1:
                    results.setdefault((shape, name), []).append(load(servers[name], *shape))
        tell(f"echo: round {turn + 1} of {ROUNDS}")
    for server in servers.values():
        server.stop()
    for shape in shapes:
        echo_rows(shape, {name: list(zip(*runs)) for (one, name), runs in results.items()
                          if one == shape})


def echo_rows(shape, results):
    size = f"{shape[1]} B" if shape[1] < 1024 else f"{shape[1] // 1024} KiB"
    connections = f"{shape[0]} connection" + ("s" if shape[0] > 1 else "")
    for ours, unit in (("takt", CPU), ("takt", RATE), ("takt on epoll", CPU),
                       ("takt with a stream", CPU), ("takt, spinning", RATE)):
        for peer in PEER_SERVERS:
            if ours in results and peer in results:
                column = 1 if unit == CPU else 0
                Row(f"echo, {connections}, {size}{ours[4:]}", list(results[ours][column]), peer,
                    list(results[peer][column]), unit, more_is_better=unit == RATE)


# -- memory ---------------------------------------------------------------------------

def slope(server, count, measured=None):
    """Bytes that each of the second half of `count` idle connections costs: the first half
    pays for what is touched once."""
    idle = subprocess.Popen([*LOAD_CPU, f"{BUILD}/echo_load", "--connect", server.address,
                             "--idle", str(count)], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE)
    try:
        sizes = []
        for opened in (count // 2, count):
            if idle.stdout.readline() != b"idle %d\n" % opened:
                raise RuntimeError(f"not all of {opened} idle connections were answered")
            sizes.append((measured or server).memory())
            idle.stdin.write(b"\n")
            idle.stdin.flush()
        return (sizes[1] - sizes[0]) / (count - count // 2)
    finally:
        idle.stdin.close()
        idle.wait(LIMIT_S)
        idle.stdout.close()


def descriptors():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return hard if hard != resource.RLIM_INFINITY else 1 << 20


def bench_idle():
    count = min(IDLE, descriptors() - 100)
    starts = {"takt": takt_echo("uring"), "takt on epoll": takt_echo("poll"), **takt_stream(),
              **peer_servers()}
    starts.pop("io_uring by hand, plain recv", None)  # it holds a buffer for each
    bytes_each = {}
    for name, start in starts.items():
        server = start()
        try:
            bytes_each[name] = slope(server, count)
        except (RuntimeError, BrokenPipeError) as error:
            missing.append(f"memory of idle connections, {name}: {error}")
        server.stop()
    for ours in ("takt", "takt on epoll", "takt with a stream"):
        for peer in PEER_SERVERS:
            if ours in bytes_each and peer in bytes_each:
                Row(f"idle echo connection, of {count}" + ours[4:], bytes_each[ours], peer,
                    bytes_each[peer], "bytes")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listening(command, port, cpu=SERVER_CPU):
    """A server that does not say when it is ready."""
    server = Server(*command, address=f"127.0.0.1:{port}", cpu=cpu)
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return server
        except OSError:
            time.sleep(0.025)
    raise RuntimeError(f"{command[0]} does not listen")


def haproxy(upstream):
    port = free_port()
    path = f"{BUILD}/haproxy.cfg"
    with open(path, "w", encoding="ascii") as file:
        file.write(f"""global
    nbthread 1
    maxconn {PAIRS + 100}
defaults
    mode tcp
    timeout connect 5s
    timeout client 10m
    timeout server 10m
listen bench
    bind 127.0.0.1:{port}
    server echo {upstream}
""")
    return listening(["/usr/sbin/haproxy", "-db", "-q", "-f", path], port)


def nginx(upstream):
    port = free_port()
    path = os.path.abspath(f"{BUILD}/nginx.conf")
    with open(path, "w", encoding="ascii") as file:
        file.write(f"""daemon off;
master_process off;
pid {path}.pid;
error_log stderr;
load_module {NGINX_STREAM};
events {{ worker_connections {2 * PAIRS + 200}; }}
stream {{
    server {{ listen 127.0.0.1:{port}; proxy_pass {upstream}; }}
}}
""")
    return listening(["/usr/sbin/nginx", "-c", path], port)


def socat(upstream):
    """A process for each connection."""
    port = free_port()
    return listening(["socat", "-b", "65536", f"TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr",
                      f"TCP:{upstream}"], port)


def takt_proxy(upstream, backend="auto"):
    return Server("build/proxy", "--listen", "127.0.0.1:0", "--upstream", upstream, "--quiet",
                  "--backend", backend, tells=r"proxy: (\S+) ->")


def proxies(upstream):
    """All that are here, each before that upstream."""
    found = {"takt": takt_proxy(upstream), "takt on epoll": takt_proxy(upstream, "poll")}
    if here("proxy_splice"):
        found["epoll + splice by hand"] = Server(f"{BUILD}/proxy_splice", upstream)
    for name, program, start in (("haproxy", "/usr/sbin/haproxy", haproxy),
                                 ("nginx", NGINX_STREAM, nginx),
                                 ("socat", "/usr/bin/socat", socat)):
        if os.path.exists(program):
            found[name] = start(upstream)
        else:
            missing.append(f"proxy, {name}: no {program}")
    return found


def proxy_rows(name, results, units):
    """`results`: by proxy, a list of tuples, in the order of `units`."""
    for ours in ("takt", "takt on epoll"):
        for column, unit in enumerate(units):
            for peer in ("haproxy", "nginx", "socat", "epoll + splice by hand"):
                if peer in results:
                    mine, theirs = ([run[column] for run in results[who]] for who in (ours, peer))
                    Row(name + ours[4:], mine, peer, theirs, unit,
                        more_is_better=unit in (RATE, GBS, PACKETS))


def bench_requests():
    """Behind each proxy the same echo server, on the CPU of the load."""
    upstream = Server(f"{BUILD}/server_epoll", cpu=LOAD_CPU)
    servers = proxies(upstream.address)
    names = list(servers)
    for size in (64, 4096):
        results = {name: [] for name in names}
        for _ in range(ROUNDS):
            random.shuffle(names)
            for name in names:
                results[name].append(load(servers[name], 64, size))
        proxy_rows(f"proxy, 64 connections, {'64 B' if size == 64 else '4 KiB'}", results,
                   (RATE, CPU))
    for server in (*servers.values(), upstream):
        server.stop()


@contextlib.contextmanager
def private_network(congestion):
    """A network of this process's own, with nothing in it but lo: only there can everybody's
    congestion control be chosen. Yields whether that worked; it takes root."""
    libc = ctypes.CDLL(None, use_errno=True)
    outer = os.open("/proc/self/ns/net", os.O_RDONLY)
    inside = libc.unshare(0x40000000) == 0  # CLONE_NEWNET
    try:
        if inside:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            with open("/proc/sys/net/ipv4/tcp_congestion_control", "w", encoding="ascii") as file:
                file.write(congestion)
        yield inside
    finally:
        if inside:
            libc.setns(outer, 0x40000000)
        os.close(outer)


def bench_bulk():
    """With reno: the pacing of bbr makes bulk on loopback a matter of luck."""
    with private_network("reno") as inside:
        if not inside:
            missing.append("proxy bulk: a network namespace of its own takes root")
            return
        for connections in (64, 1):
            bulk_of(connections)


def bulk_of(connections):
    source = subprocess.Popen([*LOAD_CPU, f"{BUILD}/bulk_load", str(connections), str(BULK_MS)],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True)
    servers = {}
    try:
        servers = proxies(source.stderr.readline().split()[-1])
        results = {name: [] for name in servers}
        names = list(servers)
        for _ in range(ROUNDS):
            random.shuffle(names)
            for name in names:
                print(servers[name].address, servers[name].pid, file=source.stdin, flush=True)
                sent, seconds, cpu_ns = (float(word) for word in source.stdout.readline().split())
                results[name].append((sent / seconds / 1e9, cpu_ns / sent))
        proxy_rows(f"proxy bulk, {connections} connection" + "s" * (connections > 1), results,
                   (GBS, CPU_GB))
    finally:
        for server in servers.values():
            server.stop()
        source.stdin.close()
        source.wait(LIMIT_S)
        source.stdout.close()
        source.stderr.close()


def bench_proxy():
    bench_requests()
    bench_pairs()


def bench_pairs():
    count = min(PAIRS, (descriptors() - 100) // 2)
    bytes_each = {}
    for name in ("takt", "haproxy"):
        if name == "haproxy" and not os.path.exists("/usr/sbin/haproxy"):
            missing.append("idle proxied pair: no haproxy")
            return
        upstream = Server(f"{BUILD}/server_epoll")
        proxy = haproxy(upstream.address) if name == "haproxy" else takt_proxy(upstream.address)
        bytes_each[name] = slope(proxy, count)
        proxy.stop()
        upstream.stop()
    Row(f"idle proxied pair, of {count}", bytes_each["takt"], "haproxy", bytes_each["haproxy"],
        "bytes")


# -- datagrams ----------------------------------------------------------------------------

TICKS = 10  # of a run
GAME = {    # what the players are; how many datagrams a snapshot is
    "lo": ("on loopback", (1, 3)), "gro": ("on loopback, players with GRO", (2, 3)),
    "device": ("to a device", (1, 2, 3)),
}


def bench_game():
    """All send in turn, tick by tick, in one process: game_tick.c tells what it measures."""
    with private_network("reno") as inside:
        for where, (name, shapes) in GAME.items():
            if where == "device" and not (inside and swallowing()):
                missing.append("game snapshot, to a device: it takes root, and tc")
                continue
            for count in shapes:
                program = [f"{BUILD}/game_tick", where, str(count), str(TICKS)]
                runs = [numbers(*SERVER_CPU, *program) for _ in range(ROUNDS)]
                sendto, sendmmsg, takt, single = ([ns / 1000 for ns in way] for way in zip(*runs))
                row = f"game snapshot to 1000, {count} datagram{'s' * (count > 1)}, {name}"
                Row(row, takt, "sendto loop", sendto, CPU_TICK)
                Row(row, takt, "sendmmsg by hand", sendmmsg, CPU_TICK)
                if count == 3:
                    Row(row + ", one by one", single, "sendmmsg by hand", sendmmsg, CPU_TICK)


def swallowing():
    """From here on, what is sent to this network's loopback reaches the device, and nobody."""
    command = "tc qdisc add dev lo root blackhole"
    return subprocess.run(command.split(), stderr=subprocess.DEVNULL, check=False).returncode == 0


# -- datagrams, and threads ---------------------------------------------------------------

UDP_SHAPES = (  # name, flows, bytes, datagrams of each in flight, joined
    ("UDP echo, 16 flows, 64 B", 16, 64, 1, []),
    ("UDP echo, 16 flows, 64 B, 8 in flight", 16, 64, 8, []),
    ("UDP echo, 16 flows, 1200 B, 8 in flight", 16, 1200, 8, []),
    ("UDP bursts of 32 to one peer, of 16, 64 B", 16, 64, 32, ["joined"]),
    ("UDP bursts of 32 to one peer, of 16, 1200 B", 16, 1200, 32, ["joined"]),
)


def takt_udp(backend):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        address = "127.0.0.1:%d" % probe.getsockname()[1]
    server = Server("build/udp_echo", "--listen", address, "--backend", backend, address=address)
    server.hear("(ready)")
    return server


def bench_udp():
    """An echo server for all. The peers send and receive one by one; takt's joins what goes to
    one peer, where that is allowed, and tells each the address that it asked."""
    servers = {"takt": takt_udp("uring"), "takt on epoll": takt_udp("poll")}
    for name, program in (("recvmmsg/sendmmsg + epoll by hand", "udp_mmsg"),
                          ("libuv", "udp_uv")):
        if here(program):
            servers[name] = Server(f"{BUILD}/{program}")
    results, names, lost = {}, list(servers), 0
    for turn in range(ROUNDS):
        for shape, flows, size, count, joined in UDP_SHAPES:
            random.shuffle(names)
            for name in names:
                packets, seconds, cpu_ns, gone = numbers(
                    *LOAD_CPU, f"{BUILD}/udp_load", servers[name].address,
                    str(servers[name].pid), str(flows), str(size), str(count), str(MEASURE_MS),
                    *joined)
                lost += gone
                results.setdefault((shape, name), []).append(
                    (packets / seconds, cpu_ns / packets / 1000))
        tell(f"udp: round {turn + 1} of {ROUNDS}")
    for server in servers.values():
        server.stop()
    if lost:
        missing.append(f"UDP: {lost:.0f} datagrams were lost, and not counted")
    for shape, *_ in UDP_SHAPES:
        for ours in ("takt", "takt on epoll"):
            for column, unit in enumerate((PACKETS, CPU_PACKET)):
                for peer in sorted(servers):
                    if "takt" not in peer:
                        mine, theirs = ([run[column] for run in results[shape, who]]
                                        for who in (ours, peer))
                        Row(shape + ours[4:], mine, peer, theirs, unit, unit == PACKETS)


def bench_post():
    """Short runs, many: what wakes a thread on another CPU differs from second to second."""
    results = {who: [] for who in ("takt", "epoll", "uv")}
    for _ in range(4 * ROUNDS):
        for who, runs in results.items():
            runs.append(numbers(*ALONE, f"{BUILD}/post", who, "1000"))
    for ours, name in (("takt", ""), ("epoll", " on epoll")):
        for column, unit in ((0, "ns one way"), (1, "CPU ns one way")):
            Row("post from thread to thread" + name, [run[column] for run in results[ours]],
                "libuv's async handle", [run[column] for run in results["uv"]], unit)


def bench_loops():
    """One loop and two of the same server, on all CPUs, which the load has to share with them:
    it can show what a second loop costs, and not what a machine with cores to spare gains."""
    servers = {}
    for count in (1, 2):
        port = free_port()
        servers[count] = listening(["build/per_core", "--listen", f"127.0.0.1:{port}",
                                    "--threads", str(count)], port, cpu=ALONE)
    results = {1: [], 2: []}
    for _ in range(ROUNDS):
        for count, server in servers.items():
            results[count].append(load(server, 64, 64))
    for server in servers.values():
        server.stop()
    for column, unit in ((0, RATE), (1, CPU)):
        Row("echo, 64 connections, 64 B, two loops", [run[column] for run in results[2]],
            "one loop", [run[column] for run in results[1]], unit, unit == RATE)


# -- what was to be reached ---------------------------------------------------------------

# text, pattern of the row's name, of its peer, unit, at most this ratio (None: this value)
FIGURES = [
    ("awaited NOP, instructions at depth 1", "awaited NOP, depth 1$", "liburing by hand",
     "instructions", 1.0, None),
    ("awaited NOP, instructions at depth 32 and 256", "awaited NOP, depth (32|256)$",
     "liburing by hand", "instructions", 1.6, None),
    ("awaited NOP, time", "awaited NOP", "liburing by hand", "ns", 1.10, None),
    ("call and return", "call and return", "", "instructions", None, 60),
    ("echo, CPU a request, against io_uring by hand", "echo, (64|1000) connections, \\S+ \\S+$",
     "io_uring by hand$", CPU, 1.05, None),
    ("echo, CPU a request, against epoll by hand", "echo, (64|1000) connections, \\S+ \\S+$",
     "epoll by hand", CPU, 1.0, None),
    ("echo, CPU a request, against libuv and libev",
     "echo, (64|1000) connections, \\S+ \\S+$", "libuv$|libev$", CPU, 0.98, None),
    ("echo, 1 connection, spinning, against any that sleeps",
     "echo, 1 connection, 64 B, spinning", "", RATE, 1 / 3, None),
    ("timers", "timer ", "", "ns", 0.33, None),
    ("memory of an idle echo connection", "idle echo connection, of \\d+$", "", "bytes",
     None, 256),
    ("memory of an idle proxied pair", "idle proxied pair", "", "bytes", None, 640),
    ("proxy, CPU a request", "proxy, 64 connections, \\S+ \\S+$", "haproxy|nginx", CPU, 0.90,
     None),
    ("proxy bulk, GB/s, against haproxy", "proxy bulk, 64 connections$", "haproxy", GBS, 1 / 3,
     None),
    ("proxy bulk, CPU a byte, against haproxy", "proxy bulk, 64 connections$", "haproxy", CPU_GB,
     0.25, None),
    ("proxy bulk, GB/s, against epoll + splice by hand", "proxy bulk, 64 connections$",
     "epoll \\+ splice", GBS, 1 / 0.95, None),
    ("proxy bulk, CPU a byte, against epoll + splice by hand", "proxy bulk, 64 connections$",
     "epoll \\+ splice", CPU_GB, 1 / 0.95, None),
    ("game snapshot of several datagrams each, CPU a tick",
     "game snapshot to 1000, 3 datagrams, (?!.*one by one)", "sendto", CPU_TICK, 0.5, None),
    ("game snapshot of one datagram each, CPU a tick", "game snapshot to 1000, 1 ", "sendto",
     CPU_TICK, 0.5, None),
    ("UDP echo, CPU a packet", "UDP echo, [^n]*$|UDP echo, .*flight$", "recvmmsg", CPU_PACKET,
     0.95, None),
    ("UDP bursts of 32 to one peer, CPU a packet", "UDP bursts .* B$", "recvmmsg", CPU_PACKET,
     0.12, None),
    ("post from thread to thread, latency", "post from thread to thread$", "libuv", "ns one way",
     1.0, None),
]


def verdict(found, ratio, value):
    """The word, and the row that decides: a clear miss, or what lies in the noise, or else
    the row that comes closest."""
    def beyond(row):
        return row.takt - value if value else row.worse - ratio

    noise = {row: 0.0 if value else row.error for row in found}
    missed = [row for row in found if beyond(row) > noise[row]]
    unclear = [row for row in found if abs(beyond(row)) <= noise[row] and noise[row] > 0]
    word = "MISSED" if missed else "unclear" if unclear else "reached"
    return word, max(missed or unclear or found, key=beyond)


def figures():
    """Lines: reached, missed, unclear (in the noise) or not measured, and by what."""
    for text, name, peer, unit, ratio, value in FIGURES:
        found = [row for row in rows if re.match(name, row.name) and re.match(peer, row.peer)
                 and row.unit == unit]
        goal = f"at most {value} {unit}" if value else f"at least {1 / ratio:.3g} times" \
            if unit in (RATE, GBS, PACKETS) else f"ratio at most {ratio:.3g}"
        if not found:
            yield f"not measured  {text}: {goal}"
            continue
        word, row = verdict(found, ratio, value)
        got = f"{row.takt:.4g} {unit}" if value else f"{row.ratio:.3f}"
        noise = f" +-{row.error:.3f}" if row.error and unit not in (RATE, GBS, PACKETS) else ""
        yield f"{word:12}  {text}: {goal}; {got}{noise} ({row.name}; {row.peer})"


def ticks():
    """Of all CPUs since the start: taken by the host for others, and in all."""
    with open("/proc/stat", encoding="ascii") as file:
        fields = [int(word) for word in file.readline().split()[1:9]]
    return fields[7], sum(fields)


def machine():
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        cpu = re.search(r"model name\s*:\s*(.*)", file.read())
    version = subprocess.run([os.environ.get("CC", "cc"), "--version"],
                             stdout=subprocess.PIPE).stdout.decode().splitlines()[0]
    return [
        f"kernel {platform.release()}, {os.cpu_count()} CPUs, {cpu.group(1) if cpu else '?'}",
        f"{version}; {' '.join(flag for flag in FLAGS if not flag.startswith('-W'))}",
        f"load average {os.getloadavg()[0]:.2f} at the start"
        + ("; at real-time priority" if ALONE else ""),
        f"{ROUNDS} interleaved rounds; medians, and behind +- half of the middle half",
        "instructions: user space, callgrind, the difference of a short and a long run",
        "ns: CPU time of the process. echo: a closed loop on loopback, one request in flight",
        f"a connection, {MEASURE_MS} ms each time, server and load on a CPU each; CPU a request",
        "is the server's, kernel included, from silence to silence. bytes: private memory",
        "written to, the slope over the second half of the connections. ratio: takt / peer; of",
        "what was timed, the median of the rounds' ratios.",
    ]


def number(value, spread=None):
    text = f"{value:.0f}" if value >= 1000 else f"{value:.4g}"
    return text + (f" +-{spread / 2:.0f}%" if spread is not None else "")


def show(about):
    """One paragraph for each thing measured: takt's value, then the peers with the ratios."""
    print("\n".join(about) + "\n")
    last = None
    for row in rows:
        if (row.name, row.unit) != last:
            print(f"{row.name:50}  {number(row.takt, row.spread):>14}  {row.unit}")
        last = (row.name, row.unit)
        print(f"    {row.peer:46}  {number(row.value, row.peer_spread):>14}  {row.ratio:7.3f}"
              f"{'  behind' if row.worse > 1 else ''}")
    print()
    for line in missing:
        print("not measured  " + line)
    print("\n".join(figures()))


def write_tsv(path):
    with open(path, "w", encoding="utf-8") as file:
        file.write("name\ttakt\tpeer\tpeer_value\tratio\tunit\n")
        for row in rows:
            file.write(f"{row.name}\t{row.takt:.6g}\t{row.peer}\t{row.value:.6g}\t"
                       f"{row.ratio:.4f}\t{row.unit}\n")


# -- the plot: a bar for each comparison, to the left of 1 where takt takes less ---------------

BAR, NAMES, PEERS, ZERO, OCTAVE, TOP = 16, 330, 340, 720, 60, 48  # pixels


def plotted():
    """What fits on a page. requests/s says again what CPU a request does, where both sides
    are busy; takt on epoll has its rows in the table."""
    return [row for row in rows if "on epoll" not in row.name and
            (row.unit not in (RATE, GBS, PACKETS) or "spinning" in row.name)]


def bar(row, y):
    """One row; beyond nine times, to either side, a bar is cut."""
    length = min(abs(math.log2(row.worse)), 3.2) * OCTAVE if row.worse > 0 else 0
    behind = row.worse > 1
    x, end, anchor = (ZERO, ZERO + length + 4, "start") if behind else \
        (ZERO - length, ZERO - length - 4, "end")
    return (f'<text x="{NAMES}" y="{y + 12}" text-anchor="end">{row.name} ({row.unit})</text>'
            f'<text x="{PEERS}" y="{y + 12}" class="peer">{row.peer}</text>'
            f'<rect x="{x:.1f}" y="{y + 2}" width="{max(length, 1):.1f}" height="{BAR - 4}" '
            f'class="{"behind" if behind else "ahead"}"/>'
            f'<text x="{end:.1f}" y="{y + 12}" text-anchor="{anchor}">{row.worse:.2f}</text>')


def write_svg(path, about):
    shown = plotted()
    bottom = TOP + BAR * len(shown)
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{ZERO + 4 * OCTAVE}" '
             f'height="{bottom + 24}" font-family="sans-serif" font-size="11">',
             '<style>.peer{fill:#666}.ahead{fill:#2a7f62}.behind{fill:#c8553d}'
             '.grid{stroke:#ccc}</style><rect width="100%" height="100%" fill="white"/>',
             f'<text x="8" y="18" font-size="14">takt / peer, the cost of the same work: '
             f'left of 1 takt takes less</text>',
             f'<text x="8" y="36" class="peer">{about[0]}; all rows: build/bench.tsv</text>']
    for octave in (-3, -2, -1, 0, 1, 2, 3):
        x = ZERO + octave * OCTAVE
        lines.append(f'<line x1="{x}" y1="{TOP - 4}" x2="{x}" y2="{bottom}" class="grid"/>'
                     f'<text x="{x}" y="{bottom + 14}" text-anchor="middle" class="peer">'
                     f'{2.0 ** octave:g}</text>')
    lines += [bar(row, TOP + BAR * i) for i, row in enumerate(shown)]
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join([*lines, "</svg>", ""]))


# -- all of it --------------------------------------------------------------------------------

PARTS = {  # what each needs
    "nop": (bench_nop, ["nop"]), "core": (bench_core, ["core"]),
    "timers": (bench_timers, ["timers"]), "echo": (bench_echo, ["echo_load"]),
    "idle": (bench_idle, ["echo_load"]), "proxy": (bench_proxy, ["echo_load", "server_epoll"]),
    "bulk": (bench_bulk, ["bulk_load"]), "udp": (bench_udp, ["udp_load"]),
    "post": (bench_post, ["post"]), "loops": (bench_loops, ["echo_load"]),
    "game": (bench_game, ["game_tick"]),
}


def main():
    os.chdir(ROOT)
    wanted = sys.argv[1:] or list(PARTS)
    if any(part not in PARTS for part in wanted):
        sys.exit("usage: test/bench/run.py [" + "|".join(PARTS) + "]...")
    about = machine()
    stolen, total = ticks()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        subprocess.run(["test/deps.sh", "bench"], check=False)
        build()
        for part in wanted:
            tell(part)
            run, programs = PARTS[part]
            if all(here(program) for program in programs):
                run()
    finally:
        for server in list(Server.running):
            server.stop()
    if not rows:
        sys.exit("bench: nothing could be measured")
    stolen, total = (now - then for now, then in zip(ticks(), (stolen, total)))
    about.append(f"the host took {100 * stolen / max(total, 1):.1f} % of the CPUs for others")
    write_tsv("build/bench.tsv")
    write_svg("build/bench.svg", about)
    show(about)


if __name__ == "__main__":
    main()

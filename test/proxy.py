#!/usr/bin/env python3
"""proxy.py - what build/proxy promises, seen from outside.

    test/proxy.py PROGRAM [BACKEND...]     BACKEND: uring, poll, refused

`refused` runs it where a seccomp filter refuses io_uring_setup: it must say so, and serve
all the same. Everything waits for an event with a deadline; nothing sleeps for luck.
"""
import contextlib
import ctypes
import hashlib
import os
import re
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

PROGRAM = sys.argv[1]
SLOW = float(os.environ.get("SLOW", "1"))  # how much slower than others this machine is
DEADLINE = 20.0 * SLOW  # of any one event: reached only when something hangs
failures = []


def refuse_io_uring():
    """A filter that answers io_uring_setup with EPERM, and allows everything else."""
    libc = ctypes.CDLL(None, use_errno=True)
    code = struct.pack("HBBI", 0x20, 0, 0, 0) + struct.pack("HBBI", 0x15, 0, 1, 425) + \
        struct.pack("HBBI", 0x06, 0, 0, 0x00050000 | 1) + \
        struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000)
    buf = ctypes.create_string_buffer(code)
    prog = struct.pack("HxxxxxxQ", 4, ctypes.addressof(buf))
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, prog, 0, 0):
        os._exit(99)


class Proxy:
    def __init__(self, backend, upstream, *options, nofile=None, env=None):
        def prepare():
            if backend == "refused":
                refuse_io_uring()
            if nofile:
                resource.setrlimit(resource.RLIMIT_NOFILE, (nofile, nofile))
        name = "auto" if backend == "refused" else backend
        self.process = subprocess.Popen(
            [PROGRAM, "--listen", "127.0.0.1:0", "--upstream", upstream, "--backend", name,
             *options], stderr=subprocess.PIPE, preexec_fn=prepare, text=True)
        self.lines = []
        self.seen = threading.Condition()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.ready = self.wait_for(r"^proxy: .* -> .* on ")
        self.port = int(re.match(r"proxy: 127\.0\.0\.1:(\d+) -> ", self.ready).group(1))
        eventually(self._has_signals, "it does not listen to signals")

    def _read(self):
        for line in self.process.stderr:
            with self.seen:
                self.lines.append(line.rstrip("\n"))
                self.seen.notify_all()

    def wait_for(self, pattern):
        until = time.monotonic() + DEADLINE
        with self.seen:
            while True:
                for line in self.lines:
                    if re.search(pattern, line):
                        return line
                if not self.seen.wait(max(0.0, until - time.monotonic())):
                    raise AssertionError(f"no line like {pattern!r} in {self.lines[-5:]}")

    def connect(self):
        s = socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE)
        return s

    def _has_signals(self):
        where = f"/proc/{self.process.pid}/fd"
        try:
            return any("signalfd" in os.readlink(f"{where}/{fd}") for fd in os.listdir(where))
        except OSError:
            return False

    def descriptors(self):
        """Without pipes: the relays keep some, bounded and empty, for the next bulk."""
        where = f"/proc/{self.process.pid}/fd"
        kinds = []
        for fd in os.listdir(where):
            with contextlib.suppress(OSError):
                kinds.append(os.readlink(f"{where}/{fd}"))
        pipes = sum(kind.startswith("pipe:") for kind in kinds)
        assert pipes <= 2 * 256 + 3, f"{pipes} ends of pipes"
        return len(kinds) - pipes

    def memory_kb(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as f:
            return int(re.search(r"RssAnon:\s+(\d+)", f.read()).group(1))

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def ended(self):
        rc = self.process.wait(timeout=DEADLINE)
        self.reader.join(DEADLINE)
        return rc

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Upstream:
    """A listener whose every connection is handed to `serve`, in a thread."""
    def __init__(self, serve=None, backlog=128):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=backlog)
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.accepted = []
        if serve:
            threading.Thread(target=self._accept, args=(serve,), daemon=True).start()

    def _accept(self, serve):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            s.settimeout(DEADLINE)
            self.accepted.append(s)
            threading.Thread(target=serve, args=(s,), daemon=True).start()

    def take(self):
        self.listener.settimeout(DEADLINE)
        s, _ = self.listener.accept()
        s.settimeout(DEADLINE)
        return s

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()
        for s in self.accepted:
            s.close()


def echo(s):
    try:
        while True:
            data = s.recv(65536)
            if not data:
                break
            s.sendall(data)
    except OSError:
        pass
    s.close()


def eventually(condition, what):
    until = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > until:
            raise AssertionError(what)
        time.sleep(0.01)


def read_all(s):
    out = bytearray()
    while True:
        data = s.recv(65536)
        if not data:
            return bytes(out)
        out += data


def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def expect_refused(proxy):
    """A new connection is reset; the reset may be faster than connect()."""
    try:
        s = proxy.connect()
    except ConnectionError:
        return
    expect_reset(s)


def expect_reset(s):
    """The connection ends by a reset, never by a clean end."""
    try:
        while s.recv(65536):
            pass
    except ConnectionError:
        return
    raise AssertionError("a broken transfer looks like a clean end")


# -- the tests ------------------------------------------------------------------

def ready_line_names_the_backend(backend):
    with Upstream(echo) as up, Proxy(backend, up.address) as proxy:
        want = {"uring": r"on io_uring", "poll": r"on epoll", "refused": r"on epoll \(.*EPERM.*\)"}
        assert re.search(want[backend], proxy.ready), proxy.ready
        assert proxy.stop() == 0
        assert re.search(r"^proxy: 0 accepted", proxy.lines[-1]), proxy.lines


def half_close_is_passed_on_and_each_direction_ends_by_itself(backend):
    with Upstream() as up, Proxy(backend, up.address) as proxy:
        client = proxy.connect()
        client.sendall(b"question")
        client.shutdown(socket.SHUT_WR)
        server = up.take()
        assert read_all(server) == b"question"
        answer = os.urandom(3_000_000)
        threading.Thread(target=lambda: (server.sendall(answer), server.close()),
                         daemon=True).start()
        assert read_all(client) == answer
        client = proxy.connect()
        server = up.take()
        server.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
        client.sendall(b"still talking")
        client.close()
        assert read_all(server) == b"still talking"
        assert proxy.stop() == 0
        assert " 0 failed" in proxy.lines[-1], proxy.lines[-3:]


def both_directions_run_at_once(backend):
    with Upstream(echo) as up, Proxy(backend, up.address) as proxy:
        def one(i, out):
            data = hashlib.sha256(str(i).encode()).digest() * 40_000
            s = proxy.connect()
            threading.Thread(target=lambda: (s.sendall(data), s.shutdown(socket.SHUT_WR)),
                             daemon=True).start()
            out[i] = read_all(s) == data
            s.close()
        out = [None] * 30
        threads = [threading.Thread(target=one, args=(i, out)) for i in range(30)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert all(out), out
        assert proxy.stop() == 0
        assert " 0 failed" in proxy.lines[-1], proxy.lines[-3:]


def a_reset_upstream_is_a_reset_for_that_client_alone(backend):
    with Upstream() as up, Proxy(backend, up.address) as proxy:
        client, other = proxy.connect(), proxy.connect()
        server, other_server = up.take(), up.take()
        server.sendall(b"part of something")
        assert client.recv(4) == b"part"
        reset(server)
        expect_reset(client)
        other.sendall(b"hello")
        assert other_server.recv(5) == b"hello"
        proxy.wait_for(r"connection 1: .*reset")
        assert sum("connection 1:" in line for line in proxy.lines) == 1
        other.close()
        other_server.close()
        assert proxy.stop() == 0


def a_reset_client_is_a_reset_for_the_upstream(backend):
    with Upstream() as up, Proxy(backend, up.address) as proxy:
        before = proxy.descriptors()
        client = proxy.connect()
        server = up.take()
        client.sendall(b"part")
        assert server.recv(4) == b"part"
        reset(client)
        expect_reset(server)
        eventually(lambda: proxy.descriptors() == before, "a descriptor is left")


def a_dead_upstream_costs_that_client_alone(backend):
    with Upstream() as up:
        address = up.address
    with Proxy(backend, address) as proxy:
        before = proxy.descriptors()
        for _ in range(20):
            expect_refused(proxy)
        proxy.wait_for(r"connection 20: connect: connection refused")
        eventually(lambda: proxy.descriptors() == before, "a descriptor is left")
        assert proxy.stop() == 0
        assert "20 accepted, 0 refused, 20 failed" in proxy.lines[-1], proxy.lines[-1]


def a_connect_limit_ends_a_black_hole(backend):
    with Upstream(backlog=0) as up:
        address = ("127.0.0.1", up.listener.getsockname()[1])
        fill = []
        for _ in range(4):  # the queue of connections that nobody accepts is full
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex(address)
            fill.append(s)
        with Proxy(backend, up.address, "--connect", "200ms") as proxy:
            before = proxy.descriptors()
            expect_reset(proxy.connect())
            proxy.wait_for(r"connection 1: connect: timed out")
            eventually(lambda: proxy.descriptors() == before, "a descriptor is left")
            assert proxy.stop() == 0
        for s in fill:
            s.close()


def silence_in_both_directions_ends_a_connection(backend):
    with Upstream(echo) as up, Proxy(backend, up.address, "--idle",
                                        "%dms" % (400 * SLOW)) as proxy:
        silent, busy = proxy.connect(), proxy.connect()
        silent.sendall(b"x")
        assert silent.recv(1) == b"x"
        done = threading.Event()

        def keep_busy():  # more than one limit long
            while not done.is_set():
                busy.sendall(b"y")
                assert busy.recv(1) == b"y"
                done.wait(0.05)
        thread = threading.Thread(target=keep_busy)
        thread.start()
        expect_reset(silent)
        proxy.wait_for(r"connection 1: .*timed out")
        done.set()
        thread.join()
        assert not any("connection 2:" in line for line in proxy.lines), proxy.lines


def beyond_the_limit_clients_are_refused_and_counted(backend):
    with Upstream(echo) as up, Proxy(backend, up.address, "--max-connections", "2") as proxy:
        kept = [proxy.connect(), proxy.connect()]
        for s in kept:
            s.sendall(b"x")
            assert s.recv(1) == b"x"
        for _ in range(5):
            expect_refused(proxy)
        kept[0].close()

        def serves():
            try:
                s = proxy.connect()
                s.sendall(b"z")
                return s.recv(1) == b"z"
            except ConnectionError:
                return False
        eventually(serves, "the place that became free is not used")
        kept[1].close()
        assert proxy.stop() == 0
        refused = int(re.search(r"(\d+) refused", proxy.lines[-1]).group(1))
        assert refused >= 5, proxy.lines[-1]


def a_stalled_reader_stops_its_writer(backend):
    with Upstream() as up, Proxy(backend, up.address) as proxy:
        pairs = [(proxy.connect(), up.take()) for _ in range(10)]
        before = proxy.memory_kb()
        data = os.urandom(1 << 20) * 80  # more than the system's buffers grow to, on the way
        threads = []
        for _, server in pairs:
            t = threading.Thread(target=lambda s=server: (s.sendall(data), s.close()), daemon=True)
            t.start()
            threads.append(t)
        def stalled():
            first = proxy.cpu_seconds()
            time.sleep(0.3)
            return proxy.cpu_seconds() - first < 0.05
        eventually(stalled, "the proxy does not come to rest")
        assert all(t.is_alive() for t in threads), "80 MiB went nowhere"
        # a buffer a direction, some for the allocator, and those that the kernel keeps
        assert proxy.memory_kb() - before < 10 * 2 * 16 + 512 + 512, (before, proxy.memory_kb())
        want = hashlib.sha256(data).digest()
        for client, _ in pairs:
            assert hashlib.sha256(read_all(client)).digest() == want
            client.close()
        assert proxy.stop() == 0
        assert " 0 failed" in proxy.lines[-1], proxy.lines[-3:]


def running_out_of_descriptors_neither_spins_nor_deafens(backend):
    with Upstream(echo) as up, Proxy(backend, up.address, "--quiet", nofile=40) as proxy:
        before = proxy.descriptors()
        clients = [proxy.connect() for _ in range(60)]
        proxy.wait_for(r"cannot accept for now: too many open descriptors")
        first = proxy.cpu_seconds()
        time.sleep(1.0)
        assert proxy.cpu_seconds() - first < 0.3, "it spins"
        assert sum("cannot accept" in line for line in proxy.lines) == 1
        for s in clients:
            s.close()
        eventually(lambda: proxy.descriptors() == before, "descriptors are left")
        s = proxy.connect()
        s.sendall(b"again")
        assert s.recv(5) == b"again"
        s.close()
        assert proxy.stop() == 0


def sigterm_lets_connections_finish(backend):
    with Upstream() as up, Proxy(backend, up.address, "--drain", "60s") as proxy:
        client = proxy.connect()
        server = up.take()
        client.sendall(b"x")
        assert server.recv(1) == b"x"
        proxy.process.send_signal(signal.SIGTERM)

        def refuses():
            try:
                socket.create_connection(("127.0.0.1", proxy.port), timeout=1).close()
                return False
            except OSError:
                return True
        eventually(refuses, "it still accepts")
        # what was asked before it had seen the signal has a connection, which has to end, too
        threading.Thread(target=up._accept, args=(socket.socket.close,), daemon=True).start()
        server.sendall(b"the rest")
        server.close()
        assert read_all(client) == b"the rest"
        client.close()
        assert proxy.ended() == 0
        assert " 0 failed" in proxy.lines[-1], proxy.lines


def the_drain_limit_and_a_second_signal_cancel_the_rest(backend):
    for how in ("limit", "second"):
        with Upstream() as up:
            options = ["--drain", "200ms" if how == "limit" else "60s"]
            with Proxy(backend, up.address, *options) as proxy:
                client = proxy.connect()
                server = up.take()
                client.sendall(b"x")
                assert server.recv(1) == b"x"
                proxy.process.send_signal(signal.SIGTERM)
                if how == "second":
                    eventually(lambda: proxy.process.poll() is None, "it ended too early")
                    proxy.process.send_signal(signal.SIGINT)
                assert proxy.ended() == 0
                expect_reset(client)
                expect_reset(server)


def sigusr1_shows_where_everything_stands(backend):
    with Upstream() as up, Proxy(backend, up.address) as proxy:
        client = proxy.connect()
        server = up.take()
        client.sendall(b"x")
        assert server.recv(1) == b"x"
        proxy.process.send_signal(signal.SIGUSR1)
        proxy.wait_for(r"front  .*proxy\.c:\d+  awaits accept fd \d+")
        proxy.wait_for(r"takt_relay  .*takt\.h:\d+  awaits recv fd \d+")
        proxy.wait_for(r"signals  .*proxy\.c:\d+  ")
        client.close()


def signals_at_a_high_rate_change_nothing(backend):
    with Upstream(echo) as up, Proxy(backend, up.address, "--quiet") as proxy:
        done = threading.Event()

        def storm():
            while not done.is_set():
                proxy.process.send_signal(signal.SIGUSR1)
                proxy.process.send_signal(signal.SIGSTOP)
                proxy.process.send_signal(signal.SIGCONT)
                done.wait(0.001)
        thread = threading.Thread(target=storm)
        thread.start()
        data = os.urandom(1 << 20) * 8
        s = proxy.connect()
        threading.Thread(target=lambda: (s.sendall(data), s.shutdown(socket.SHUT_WR)),
                         daemon=True).start()
        ok = read_all(s) == data
        done.set()
        thread.join()
        assert ok
        assert proxy.stop() == 0


def a_storm_leaves_nothing_behind(backend):
    with Upstream(echo) as up, Proxy(backend, up.address, "--quiet") as proxy:
        def storm(seed):
            clients = [proxy.connect() for _ in range(150)]
            for i, s in enumerate(clients):
                s.sendall(os.urandom(1 + (i * 7919 + seed) % 60000))
                if i % 3 == 0:
                    reset(s)
                elif i % 3 == 1:
                    s.shutdown(socket.SHUT_WR)
            for i, s in enumerate(clients):
                if i % 3 == 1:
                    read_all(s)
                s.close()
        before = proxy.descriptors()
        storm(1)
        eventually(lambda: proxy.descriptors() == before, "descriptors are left")
        memory = proxy.memory_kb()
        for seed in range(2, 6):
            storm(seed)
        eventually(lambda: proxy.descriptors() == before, "descriptors are left")
        assert proxy.memory_kb() <= memory + 4096, (memory, proxy.memory_kb())
        assert proxy.stop() == 0


def run(args):
    return subprocess.run([PROGRAM, *args], capture_output=True, text=True, timeout=DEADLINE,
                          check=False)


def arguments_are_checked(_):
    out = run(["--help"])
    assert out.returncode == 0 and "--upstream" in out.stdout and out.stderr == ""
    good = ["--listen", "127.0.0.1:0", "--upstream", "127.0.0.1:9"]
    for bad in ([], ["--listen", "127.0.0.1:0"], good + ["--idle", "5"], good + ["--idle", "-1s"],
                good + ["--backend", "kqueue"], good + ["--max-connections", "0"],
                good + ["--frobnicate"], good + ["--drain"],
                ["--listen", "nowhere", "--upstream", "127.0.0.1:9"],
                ["--listen", "127.0.0.1:99999", "--upstream", "127.0.0.1:9"]):
        out = run(bad)
        assert out.returncode == 2, (bad, out)
        assert out.stderr.startswith("proxy: ") and out.stderr.count("\n") == 1, (bad, out.stderr)


def a_port_that_is_taken_is_said(_):
    with Upstream() as taken:
        out = run(["--listen", taken.address, "--upstream", "127.0.0.1:9"])
        assert out.returncode == 1, out
        assert out.stderr.count("\n") == 1 and "in use" in out.stderr, out.stderr


TESTS = [ready_line_names_the_backend, both_directions_run_at_once,
         half_close_is_passed_on_and_each_direction_ends_by_itself,
         a_reset_upstream_is_a_reset_for_that_client_alone,
         a_reset_client_is_a_reset_for_the_upstream, a_dead_upstream_costs_that_client_alone,
         a_connect_limit_ends_a_black_hole, silence_in_both_directions_ends_a_connection,
         beyond_the_limit_clients_are_refused_and_counted, a_stalled_reader_stops_its_writer,
         running_out_of_descriptors_neither_spins_nor_deafens, sigterm_lets_connections_finish,
         the_drain_limit_and_a_second_signal_cancel_the_rest,
         sigusr1_shows_where_everything_stands, signals_at_a_high_rate_change_nothing,
         a_storm_leaves_nothing_behind]


def has_ring():
    out = subprocess.run([PROGRAM, "--listen", "127.0.0.1:0", "--upstream", "127.0.0.1:9",
                          "--backend", "uring"], capture_output=True, text=True, timeout=3,
                         check=False)
    return out.returncode != 1


def main():
    wanted = sys.argv[2:] or ["uring", "poll", "refused"]
    only = os.environ.get("ONLY")
    passed = failed = skipped = 0
    cases = [(test, "any") for test in (arguments_are_checked, a_port_that_is_taken_is_said)]
    cases += [(test, backend) for backend in wanted for test in TESTS]
    ring = True
    if "uring" in wanted:
        try:
            ring = has_ring()
        except subprocess.TimeoutExpired:
            ring = True
    for test, backend in cases:
        if only and only not in test.__name__:
            continue
        if backend == "uring" and not ring:
            skipped += 1
            continue
        try:
            test(backend)
            passed += 1
        except Exception as error:  # one failure costs one test
            failed += 1
            print(f"FAIL {test.__name__} ({backend}): {type(error).__name__}: {error}")
    if skipped:
        print(f"{skipped} skipped: no io_uring here")
    print(f"{passed} passed, {failed} failed")
    return failed > 0


sys.exit(main())

#!/usr/bin/env python3
"""proxy.py - what build/proxy promises, seen from outside.

    test/proxy.py PROGRAM [BACKEND...]     BACKEND: uring, poll, refused; +sandbox, +threads

`refused` runs it where a seccomp filter refuses io_uring_setup: it must say so, and serve
all the same. Everything waits for an event with a deadline; nothing sleeps for luck.
"""
import contextlib
import hashlib
import os
import re
import signal
import socket
import sys
import tempfile
import threading
import time

from harness import (DEADLINE, PROGRAM, SLOW, THREADS, Proxy, Upstream, echo, eventually,
                     expect_refused, expect_reset, main, read_all, reset, run, serves)


# -- the tests ------------------------------------------------------------------

def ready_line_names_the_backend(backend):
    with Upstream(echo) as up, Proxy(backend, up.address) as proxy:
        want = {"uring": r"on io_uring", "poll": r"on epoll", "refused": r"on epoll \(.*EPERM.*\)"}
        assert re.search(want[backend.split("+")[0]], proxy.ready), proxy.ready
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
        client, server = proxy.connect(), up.take()
        other, other_server = proxy.connect(), up.take()
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
        silent = proxy.connect()
        silent.sendall(b"x")
        assert silent.recv(1) == b"x"
        busy = proxy.connect()
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

        eventually(lambda: serves(proxy), "the place that became free is not used")
        kept[1].close()
        assert proxy.stop() == 0
        refused = int(re.search(r"(\d+) refused", proxy.lines[-1]).group(1))
        assert refused >= 5, proxy.lines[-1]


def one_source_has_its_limit_and_others_theirs(backend):  # S6
    with Upstream(echo) as up, Proxy(backend, up.address, "--max-per-source", "3") as proxy:
        before = proxy.descriptors()

        def guest(source):
            s = socket.create_connection(("127.0.0.1", proxy.port), timeout=DEADLINE,
                                         source_address=(source, 0))
            s.sendall(b"x")
            return s if s.recv(1) == b"x" else None

        def refused(source):
            try:
                return guest(source) is None
            except ConnectionError:
                return True
        kept = [guest(source) for source in ("127.0.0.2", "127.0.0.3") for _ in range(3)]
        assert all(kept)
        holds = proxy.descriptors()
        assert refused("127.0.0.2") and refused("127.0.0.3")
        assert proxy.descriptors() == holds, "one that was refused holds something"
        kept.append(guest("127.0.0.4"))
        kept.pop(0).close()
        eventually(lambda: not refused("127.0.0.2"), "the place that became free is not used")
        for s in kept:
            s.close()
        eventually(lambda: proxy.descriptors() == before, "descriptors are left")
        assert proxy.stop() == 0


def lines_are_few_and_tell_no_bytes(backend):  # S28
    with Upstream() as up:
        address = up.address
    with Proxy(backend, address) as proxy:
        began = time.monotonic()
        for _ in range(400):  # nobody is there
            with contextlib.suppress(ConnectionError), proxy.connect() as s:
                s.sendall(b"a SECRET of somebody")
                s.recv(1)  # until it is turned away
        proxy.process.send_signal(signal.SIGUSR1)
        proxy.wait_for("awaits accept")
        assert proxy.stop() == 0
        said = sum(" connection " in line for line in proxy.lines)
        assert 20 <= said <= 100 * (2 + time.monotonic() - began), f"{said} lines"
        assert any(line.endswith("; and more") for line in proxy.lines), proxy.lines[-3:]
        assert not any("SECRET" in line for line in proxy.lines)
        ended = re.search(r"400 accepted, (\d+) refused, (\d+) failed", proxy.lines[-1])
        assert ended and sum(map(int, ended.groups())) == 400, proxy.lines[-1]  # late ones: refused


def descriptors_sent_along_do_not_stay(backend):  # S26
    backend = backend.replace("+threads", "")  # Unix sockets are not shared
    with tempfile.TemporaryDirectory() as place:
        path = os.path.join(place, "front %s%n")  # S27: it is printed as it is
        with Upstream() as up, Proxy(backend, up.address, listen=f"unix:{path}") as proxy:
            assert f"proxy: unix:{path} -> " in proxy.ready, proxy.ready
            before = proxy.descriptors()
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(DEADLINE)
            client.connect(path)
            server = up.take()
            holds = proxy.descriptors()
            with open("/dev/null", "rb") as extra:
                for size in (1, 1000, 1 << 20, 1 << 20, 5):  # by a buffer, and by splice
                    data = os.urandom(size)
                    sender = threading.Thread(target=lambda: socket.send_fds(
                        client, [data[:1]], [extra.fileno()] * 7) and client.sendall(data[1:]))
                    sender.start()
                    got = b""
                    while len(got) < size:
                        got += server.recv(size - len(got))
                    sender.join()
                    assert got == data
            assert proxy.descriptors() == holds, "it keeps what came along"
            client.close()
            server.close()
            eventually(lambda: proxy.descriptors() == before, "descriptors are left")
            assert proxy.stop() == 0


def the_environment_has_no_say(backend):  # S27
    hostile = {"LC_ALL": "%n%s%n", "LANG": "../../etc", "TZ": ":/etc/shadow",
               "LANGUAGE": "x" * 9999, "IFS": "/", "PATH": "", "MALLOC_TRACE": "/tmp/x",
               "LOCPATH": "/tmp", "COLUMNS": "-1",
               "LISTEN": "1", "--threads": "9", "TAKT_": "%s", "TAKT_BACKENDS": "none"}
    with Upstream(echo) as up, Proxy(backend, up.address, env=hostile) as proxy:
        assert serves(proxy)
        assert proxy.stop() == 0
    out = run(["--listen", "127.0.0.1:0", "--upstream", "127.0.0.1:9"],
              env={"TAKT_BACKEND": "%n%n%s"})
    assert out.returncode == 2 and out.stderr.count("\n") == 1, out


def every_loop_carries_traffic(backend):
    loops = THREADS if "+threads" in backend else 1
    with Upstream(echo) as up, Proxy(backend, up.address) as proxy:
        before = proxy.switches()
        kept = [proxy.connect() for _ in range(20 * loops)]
        extra = PROGRAM.endswith(".tsan")  # which has a thread of its own
        def all_are_woken():  # one that is kept busy has not been to sleep
            for s in kept:
                s.sendall(b"x")
                assert s.recv(1) == b"x"
            woken = sum(n > before[task] for task, n in proxy.switches().items())
            assert woken <= loops + extra, f"{woken} threads have been woken"
            return woken >= loops
        eventually(all_are_woken, "a loop sleeps through it all")
        proxy.process.send_signal(signal.SIGUSR1)
        eventually(lambda: sum("awaits accept" in line for line in proxy.lines) == loops and
                   sum("takt_relay " in line for line in proxy.lines) == 2 * len(kept),
                   "some do not stand in the dump")
        assert len(before) == loops + extra, f"{len(before)} threads"
        for s in kept:
            s.close()
        assert proxy.stop() == 0
        assert f"{len(kept)} accepted, 0 refused, 0 failed, {2 * len(kept)} bytes" in \
            proxy.lines[-1], proxy.lines[-1]


def a_stalled_reader_stops_its_writer(backend):
    with Upstream() as up, Proxy(backend, up.address, "--idle", "1h") as proxy:
        # few, with small buffers where the system lets us choose: beyond a part of the machine's
        # memory (tcp(7): tcp_mem), TCP drops what comes, and then waits for its timers; others
        # test at the same time
        pairs = [(proxy.connect(), up.take()) for _ in range(4)]
        before = proxy.memory_kb()
        for client, server in pairs:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 18)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 18)
            server.settimeout(10 * DEADLINE)  # all of it is sent in one call
        data = os.urandom(1 << 20) * 60  # more than the system's buffers grow to, on the way
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
        assert all(t.is_alive() for t in threads), "60 MiB went nowhere"
        # a buffer a direction, some for the allocator, and those that the kernel keeps
        assert proxy.memory_kb() - before < 4 * 2 * 16 + 512 + 512, (before, proxy.memory_kb())
        want = hashlib.sha256(data).digest()
        for client, _ in pairs:
            assert hashlib.sha256(read_all(client)).digest() == want
            client.close()
        assert proxy.stop() == 0
        assert " 0 failed" in proxy.lines[-1], proxy.lines[-3:]


def running_out_of_descriptors_neither_spins_nor_deafens(backend):
    with Upstream(echo) as up, Proxy(backend, up.address, "--quiet", nofile=40) as proxy:
        before = proxy.descriptors()
        clients = []
        for _ in range(60):
            with contextlib.suppress(ConnectionError):  # none left to go on with
                clients.append(proxy.connect())
        proxy.wait_for(r"cannot accept for now: too many open descriptors")
        first = proxy.cpu_seconds()
        time.sleep(1.0)
        assert proxy.cpu_seconds() - first < 0.3, "it spins"
        said = sum("cannot accept" in line for line in proxy.lines)
        assert 1 <= said <= (THREADS if "+threads" in backend else 1), said
        for s in clients:
            s.close()
        eventually(lambda: proxy.descriptors() == before, "descriptors are left")
        eventually(lambda: serves(proxy), "it has gone deaf")  # some of them still stand in line
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


def who_stands_in_line_at_a_stop_is_served(backend):
    with Upstream(echo) as up, Proxy(backend, up.address) as proxy:
        assert serves(proxy)
        proxy.process.send_signal(signal.SIGSTOP)
        clients = [proxy.connect() for _ in range(30)]  # the system has told them that they are in
        proxy.process.send_signal(signal.SIGTERM)
        proxy.process.send_signal(signal.SIGCONT)
        for s in clients:
            s.sendall(b"x")
            assert s.recv(1) == b"x"
            s.close()
        assert proxy.ended() == 0
        assert "31 accepted, 0 refused, 0 failed" in proxy.lines[-1], proxy.lines[-1]


def the_drain_limit_and_a_second_signal_cancel_the_rest(backend):
    for how in ("limit", "second") * (4 if "+threads" in backend else 1):
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
        proxy.wait_for(r"doorman  .*door\.h:\d+  awaits accept fd \d+")
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
         beyond_the_limit_clients_are_refused_and_counted,
         one_source_has_its_limit_and_others_theirs, every_loop_carries_traffic,
         lines_are_few_and_tell_no_bytes, descriptors_sent_along_do_not_stay,
         the_environment_has_no_say,
         a_stalled_reader_stops_its_writer,
         running_out_of_descriptors_neither_spins_nor_deafens, sigterm_lets_connections_finish,
         who_stands_in_line_at_a_stop_is_served,
         the_drain_limit_and_a_second_signal_cancel_the_rest,
         sigusr1_shows_where_everything_stands, signals_at_a_high_rate_change_nothing,
         a_storm_leaves_nothing_behind]


sys.exit(main([arguments_are_checked, a_port_that_is_taken_is_said], TESTS))

#!/usr/bin/env python3
"""relay.py - what build/relay promises, seen from outside.

    test/relay.py PROGRAM BACKEND [sandbox] [million] [NAME...]     BACKEND: uring, poll

Sources are addresses of 127.0.0.0/8. `million` has as many of them knock as its name says,
and `sandbox` runs everything in one.
Everything waits for an event with a deadline; what must not come is shown by what comes
behind it. Parsers and tables have tests of their own: proxy_protocol.c, guests.c.
"""
import concurrent.futures
import contextlib
import ctypes
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

PROGRAM, BACKEND = sys.argv[1:3]
MILLION = "million" in sys.argv
SANDBOX = ["--sandbox"] if "sandbox" in sys.argv else []
SLOW = float(os.environ.get("SLOW", "1"))
DEADLINE = 20.0 * SLOW  # of any one event: reached only when something hangs
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
CANARY = b"NEVER-IN-A-LOG"
here = threading.local()  # tests run side by side: each has its failures
rng = random.Random(int(os.environ.get("SEED", "1")))


def expect(ok, what):
    if not ok:
        here.failures.append(what)


def expect_equal(got, wanted):
    expect(got == wanted, f"{wanted!r}, got {got!r}"[:400])


def eventually(condition, what):
    until = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > until:
            raise AssertionError(what)
        time.sleep(0.005)


class Relay:
    """A relay, with ports in the order of its maps."""

    def __init__(self, *options, env=None):
        self.process = subprocess.Popen([PROGRAM, "--backend", BACKEND, *SANDBOX, *options],
                                        stderr=subprocess.PIPE, text=True, errors="replace",
                                        env=dict(os.environ, **(env or {})))
        self.lines = []
        self.ports = []
        while not self.lines or "ready" not in self.lines[-1]:
            line = self.process.stderr.readline()
            if not line:
                raise AssertionError(f"it did not start: {self.lines}")
            self.lines.append(line)
            found = re.match(r"relay: (udp|tcp) .*:(\d+) -> ", line)
            if found:
                self.ports.append(int(found.group(2)))
        self.port = self.ports[0]
        self.told = threading.Condition()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stderr:
            with self.told:
                self.lines.append(line)
                self.told.notify_all()

    def counted(self):
        """The counters now."""
        with self.told:
            seen = len(self.lines)
            self.process.send_signal(signal.SIGUSR1)
            until = time.monotonic() + DEADLINE
            while True:
                for line in self.lines[seen:]:
                    if "sessions=" in line:
                        return {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", line)}
                if not self.told.wait(until - time.monotonic()):
                    raise AssertionError("no counters")

    def memory(self, what):
        with open(f"/proc/{self.process.pid}/status") as status:
            return int(re.search(what + r":\s+(\d+) kB", status.read()).group(1))

    def __enter__(self):
        return self

    def __exit__(self, failed, *_):
        self.end()
        text = "".join(self.lines)
        expect(CANARY.decode() not in text, "no payload in the log")
        expect("ERROR" not in text and "runtime error" not in text, "nothing that a sanitizer "
               f"says: {text[-2000:]}")

    def end(self):
        """Asks twice: what still runs is not waited for."""
        for _ in range(2):
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(0.12)
        try:
            expect_equal(self.process.wait(DEADLINE), 0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            expect(False, "it ends when it is asked to")
        self.reader.join(DEADLINE)


def udp(host="127.0.0.1", port=0, timeout=None):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((host, port))
    s.settimeout(timeout or DEADLINE)
    return s


def free_port():
    """One that the system gives nobody who asks for any."""
    while True:
        port = random.SystemRandom().randrange(10000, 32768)
        with contextlib.suppress(OSError), udp(port=port):
            return port


def address(s):
    return "%s:%d" % s.getsockname()[:2]


def got_nothing_but(s, wanted, send):
    """What comes up to `wanted`, which `send` makes come, is returned without it."""
    got = []
    send()
    while True:
        data = s.recv(70000)
        if data == wanted:
            return got
        got.append(data)


def listener():
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    s.listen(200)
    s.settimeout(DEADLINE)
    return s


def connect(port, host="127.0.0.1"):
    s = socket.create_connection(("127.0.0.1", port), DEADLINE, (host, 0))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


def all_of(s):
    """What comes until the end; None for a reset."""
    data = b""
    try:
        while True:
            more = s.recv(65536)
            if not more:
                return data
            data += more
    except ConnectionError:
        return None


def is_turned_away(port, host="127.0.0.1", data=b""):
    try:
        with connect(port, host) as c:
            if data:
                c.sendall(data)
            return all_of(c) is None
    except ConnectionError:  # it comes but once: whoever asks again finds an end
        return True


def header2(source, sport, target, tport, udp_=False, command=0x21, family=None, more=b""):
    v4 = ":" not in source
    kind = socket.AF_INET if v4 else socket.AF_INET6
    body = socket.inet_pton(kind, source) + socket.inet_pton(kind, target) + \
        struct.pack(">HH", sport, tport) + more
    family = family if family is not None else (0x10 if v4 else 0x20) | (2 if udp_ else 1)
    return SIGNATURE + bytes([command, family]) + struct.pack(">H", len(body)) + body


# -- UDP ---------------------------------------------------------------------------------


def sources_keep_their_sessions():
    """Many sources at a time, each with tagged bytes: what comes back is its own, from the
    address that it asked, in order (S16)."""
    with udp() as up, Relay("--map", f"udp:0.0.0.0:0={address(up)},open") as relay:
        clients = [udp(f"127.0.{i // 200}.{i % 200 + 1}") for i in range(60)]
        seen = {}
        for turn in range(5):
            for i, c in enumerate(clients):
                c.sendto(b"%d/%d " % (i, turn) + CANARY, (f"127.0.0.{1 + i % 7}", relay.port))
            for _ in clients:
                data, peer = up.recvfrom(100)
                seen.setdefault(peer, []).append(data)
                up.sendto(data + b"!", peer)
            for i, c in enumerate(clients):
                expect_equal(c.recvfrom(100), (b"%d/%d " % (i, turn) + CANARY + b"!",
                                               (f"127.0.0.{1 + i % 7}", relay.port)))
        expect_equal(len(seen), len(clients))
        for data in seen.values():
            expect_equal(len({d.split(b"/")[0] for d in data}), 1)
        stranger = udp()
        stranger.sendto(b"not your upstream", next(iter(seen)))
        clients[0].sendto(b"next", ("127.0.0.1", relay.port))
        data, peer = up.recvfrom(100)
        up.sendto(b"only this", peer)
        expect_equal(clients[0].recv(100), b"only this")
        counted = relay.counted()
        expect_equal([counted[k] for k in ("sessions", "opened", "udp_up", "udp_out")],
                     [60, 60, 301, 301])


def bursts_come_through():
    """Joined datagrams, up and down, and the longest there is."""
    with udp() as up, Relay("--map", f"udp:127.0.0.1:0={address(up)},open", "--datagram",
                            "65507") as relay, udp("127.0.0.3") as c:
        for s in (up, c):
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        c.connect(("127.0.0.1", relay.port))
        c.setsockopt(17, 103, 1000)
        c.send(b"a" * 30000 + b"b" * 500)
        c.setsockopt(17, 103, 0)
        wanted = [b"a" * 1000] * 30 + [b"b" * 500]
        expect_equal([up.recv(70000) for _ in wanted], wanted)
        c.send(b"x" * 65507)
        data, peer = up.recvfrom(70000)
        expect_equal(len(data), 65507)
        up.setsockopt(17, 103, 1200)
        for _ in range(10):
            up.sendto(b"s" * 1200 * 40, peer)
            expect_equal([len(c.recv(70000)) for _ in range(40)], [1200] * 40)


def nothing_stops_reception():
    """S10: empty ones, truncated ones, and an upstream whose port is closed."""
    up = udp()
    with Relay("--map", f"udp:127.0.0.1:0={address(up)},open", "--datagram", "100") as relay, \
            udp("127.0.0.4") as c:
        c.connect(("127.0.0.1", relay.port))
        for data in (b"", b"after", b"t" * 500, b"y" * 100):
            c.send(data)
        expect_equal([up.recv(1000) for _ in range(3)], [b"", b"after", b"y" * 100])
        _, peer = (c.send(b"?"), up.recvfrom(100))[1]
        for data in (b"", b"t" * 500, b"back"):
            up.sendto(data, peer)
        expect_equal([c.recv(1000) for _ in range(2)], [b"", b"back"])
        port = up.getsockname()[1]
        up.close()
        for _ in range(10):
            c.send(CANARY)  # each is answered by ICMP
        eventually(lambda: relay.counted()["udp_in"] == 15, "all have come")
        up = udp(port=port)
        c.send(b"probe")  # the last error may cost one
        got = got_nothing_but(up, b"again", lambda: c.send(b"again"))
        expect(set(got) <= {b"probe", CANARY}, "only what was sent")
        expect_equal(relay.counted()["truncated"], 2)
        up.close()


def amplification_is_limited():
    """S11: an upstream that says much more than it was asked, to sources that say this and
    that. No source gets more than three bytes for one, nor two datagrams for one."""
    with udp() as up, Relay("--map", f"udp:0.0.0.0:0={address(up)}") as relay:
        clients = [udp(f"127.1.0.{i + 1}") for i in range(20)]
        for c in clients:
            c.setblocking(False)
        paid = [[0, 0] for _ in clients]
        got = [[0, 0] for _ in clients]
        peers = {}

        def collect():
            for i, c in enumerate(clients):
                with contextlib.suppress(BlockingIOError):
                    while True:
                        data = c.recv(70000)
                        got[i][0] += len(data)
                        got[i][1] += 1
                        expect(got[i][0] <= 3 * paid[i][0] and got[i][1] <= paid[i][1],
                               f"{i} has paid {paid[i]} and got {got[i]}")
        for _ in range(300):
            i = rng.randrange(len(clients))
            size = rng.choice([0, 1, 10, rng.randrange(1400)])
            paid[i][0] += size
            paid[i][1] += 1
            clients[i].sendto(i.to_bytes(1, "big") * size, ("127.0.0.1", relay.port))
            data, peer = up.recvfrom(2000)
            peers[peer] = i
            for peer in rng.sample(sorted(peers), min(3, len(peers))):
                for _ in range(rng.randrange(4)):
                    up.sendto(CANARY * rng.choice([0, 1, 3, rng.randrange(100)]), peer)
            collect()
        counted = relay.counted()
        collect()
        expect(counted["over_limit"] > 100 and counted["udp_out"] > 50,
               f"some pass, some do not: {counted}")


def cookies_validate():
    """S11, S29: who repeats a cookie is let in; who does not, or has another's, gets no more
    than it sent, and nothing of it reaches the upstream."""
    with udp() as up, Relay("--map", f"udp:127.0.0.1:0={address(up)},cookie") as relay, \
            udp("127.0.0.5") as c, udp("127.0.0.5") as other:
        for s in (c, other):
            s.connect(("127.0.0.1", relay.port))
        c.send(b"short")  # not answered: that would be more than came
        c.send(b"hello, is there anybody")
        cookie = c.recv(100)
        expect(len(cookie) == 16 and cookie.startswith(b"takt-ck1"), f"a cookie: {cookie}")
        other.send(cookie + b"stolen")  # another port: another cookie
        theirs = other.recv(100)
        expect(theirs != cookie and len(theirs) == 16, "each has its own")
        for i in range(16):
            bad = bytearray(cookie + CANARY)
            bad[i] ^= 1 << rng.randrange(8)
            c.send(bad)
            expect_equal(c.recv(100), cookie)
        expect_equal(relay.counted()["opened"], 0)
        c.send(cookie)  # alone it only opens
        c.send(cookie + b"first")
        data, peer = up.recvfrom(100)
        expect_equal(data, b"first")
        c.send(b"takt-ck1 an old one, and something")
        expect_equal(c.recv(100), cookie)
        c.send(b"second")
        expect_equal(up.recv(100), b"second")
        for _ in range(20):
            up.sendto(b"z" * 1000, peer)
        expect_equal([len(c.recv(2000)) for _ in range(20)], [1000] * 20)
        counted = relay.counted()
        expect_equal([counted[k] for k in ("opened", "challenged")], [1, 19])


def a_proxys_cookie_is_its_sources():
    """S11, S15: who comes by a proxy proves nothing for others that come by it."""
    with udp() as up, Relay("--map", f"udp:127.0.0.1:0={address(up)},cookie,accept",
                            "--trust", "127.0.7.0/24") as relay, udp("127.0.7.1") as proxy:
        proxy.connect(("127.0.0.1", relay.port))
        one, two = (header2(s, 5, "9.8.7.6", 7, True) for s in ("1.2.3.4", "5.6.7.8"))
        proxy.send(one + b"hello, is there anybody")
        cookie = proxy.recv(100)
        proxy.send(two + cookie + b"stolen")
        theirs = proxy.recv(100)
        expect(len(theirs) == 16 and theirs != cookie, f"a cookie of its own: {theirs}")
        proxy.send(one + cookie + b"mine")
        expect_equal(up.recv(100), b"mine")
        expect_equal(relay.counted()["opened"], 1)


def some_are_never_answered():
    """S12: port 0, multicast, broadcast, the upstream, and the relay's own ports."""
    with udp() as up, Relay("--map", f"udp:0.0.0.0:0={address(up)},open", "--map",
                            f"udp:0.0.0.0:0={address(up)},cookie") as relay, \
            udp("127.0.0.7") as c:
        up.sendto(b"a loop with the upstream" + CANARY, ("127.0.0.1", relay.port))
        up.sendto(b"a loop with the upstream" + CANARY, ("127.0.0.1", relay.ports[1]))
        unfit = 2
        try:
            raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        except PermissionError:
            raw = None
        for host, port in (("127.0.0.9", 0), ("127.0.0.1", relay.port), ("224.0.0.1", 5),
                           ("127.0.0.1", relay.ports[1]), ("255.255.255.255", 5)):
            if not raw:
                continue
            packet = struct.pack(">HHHH", port, relay.port, 8 + 30, 0) + b"forged" * 5
            head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(packet), 1, 0, 64, 17, 0,
                               socket.inet_aton(host), socket.inet_aton("127.0.0.1"))
            raw.sendto(head + packet, ("127.0.0.1", 0))
            unfit += 1
        c.sendto(b"fit", ("127.0.0.1", relay.port))
        data, peer = up.recvfrom(100)
        expect_equal(data, b"fit")
        up.sendto(b"answer", peer)
        expect_equal(c.recv(100), b"answer")
        counted = relay.counted()
        expect_equal([counted[k] for k in ("unfit", "opened", "challenged")], [unfit, 1, 0])


def forged6(host, port, to, data):
    """A datagram of IPv6 that claims to be from there, to `to` of this machine."""
    ends = socket.inet_pton(socket.AF_INET6, host) + socket.inet_pton(socket.AF_INET6, "::1")
    data += b"\0" * (len(data) % 2)
    head = struct.pack(">HHH", port, to, 8 + len(data))
    summed = ends + struct.pack(">II", 8 + len(data), 17) + head + b"\0\0" + data
    check = sum(struct.unpack(f">{len(summed) // 2}H", summed))
    check = ~((check & 0xffff) + (check >> 16)) & 0xffff
    return struct.pack(">IHBB", 6 << 28, 8 + len(data), 17, 64) + ends + head + \
        struct.pack(">H", check) + data


def nobody_is_not_answered():
    """S12: an answer to :: would go to this machine, to a port that a stranger has chosen."""
    with udp() as up, Relay("--map", f"udp:[::1]:0={address(up)},open") as relay:
        try:
            raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
        except OSError:
            return
        with raw:
            raw.sendto(forged6("::", 53, relay.port, b"forged"), ("::1", 0))
            raw.sendto(forged6("::1", 53, relay.port, b"true"), ("::1", 0))
        expect_equal(up.recv(100), b"true")
        expect_equal(relay.counted()["unfit"], 1)


def spoofed_sources_fill_nothing():
    """S13: strangers without number, a guest that stays, memory that does not grow."""
    strangers = 1000000 if MILLION else 3000
    with udp() as up, Relay("--map", f"udp:127.0.0.1:0={address(up)}", "--sessions", "128",
                            "--per-network", "4") as relay, udp("127.0.0.8") as guest:
        up.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        guest.connect(("127.0.0.1", relay.port))
        guest.send(b"guest")
        data, home = up.recvfrom(100)
        up.sendto(b"hello", home)
        expect_equal(guest.recv(100), b"hello")
        guest.send(b"guest")
        up.recv(100)
        up.setblocking(False)
        size = resident = 0

        def drain_upstream():
            with contextlib.suppress(BlockingIOError):
                while True:
                    data, peer = up.recvfrom(100)
                    expect(data != b"guest" or peer == home, "the guest keeps its session")
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) \
            if MILLION else None
        for i in range(strangers):
            host = f"127.{rng.randrange(1, 255)}.{rng.randrange(256)}.{rng.randrange(1, 255)}"
            if raw:
                raw.sendto(struct.pack(">BBHHHBBH4s4sHHHH", 0x45, 0, 20 + 8 + 20, 1, 0, 64, 17, 0,
                                       socket.inet_aton(host), socket.inet_aton("127.0.0.1"),
                                       rng.randrange(1, 65536), relay.port, 8 + 20, 0)
                           + b"f" * 20, ("127.0.0.1", 0))
            else:
                with udp(host) as stranger:
                    stranger.sendto(b"f" * 20, ("127.0.0.1", relay.port))
            if i % 100 == 0:
                guest.send(b"guest")
                relay.counted()  # it keeps up
                drain_upstream()
            if i == strangers // 2:
                size, resident = relay.memory("VmSize"), relay.memory("VmRSS")
        counted = relay.counted()
        drain_upstream()
        expect(counted["opened"] > strangers // 4 and counted["evicted"] > strangers // 4 - 700,
               f"many come and go: {counted}")
        expect_equal(counted["sessions"], 128)
        expect(relay.memory("VmSize") == size, "no memory is taken")
        if "san" not in PROGRAM:
            expect(relay.memory("VmRSS") < resident + 8192, "nor used")
        up.settimeout(DEADLINE)
        guest.send(b"still here")
        while up.recvfrom(100) != (b"still here", home):
            pass


def both_families_are_served():
    """IPv6, and IPv4 that comes to a socket of IPv6: told apart, and S12 for both."""
    with udp() as up, listener() as tcp_up, \
            Relay("--map", f"udp:[::]:0={address(up)},send-v2", "--map",
                  f"tcp:[::]:0={address(tcp_up)},send-v1") as relay:
        port = relay.port
        for host in ("::1", "::ffff:127.0.0.1"):
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as c:
                c.settimeout(DEADLINE)
                c.connect((host, port))
                c.send(b"hello")
                data, peer = up.recvfrom(200)
                plain = host.replace("::ffff:", "")
                expect_equal(data, header2(plain, c.getsockname()[1], plain, port, True) + b"hello")
                up.sendto(b"back", peer)
                expect_equal(c.recv(100), b"back")
            with socket.create_connection((host, relay.ports[1]), DEADLINE) as c:
                s = tcp_up.accept()[0]
                expect_equal(s.recv(200), b"PROXY TCP%d %s %s %d %d\r\n" % (
                    4 if "." in plain else 6, plain.encode(), plain.encode(),
                    c.getsockname()[1], relay.ports[1]))
        up.sendto(b"a loop", ("127.0.0.1", port))
        eventually(lambda: relay.counted()["unfit"] == 1, "the upstream is no client")


def one_network_has_its_share():
    """S13: sessions of one /24, whatever its hosts call themselves; and the one beside it."""
    with udp() as up, Relay("--map", f"udp:127.0.0.1:0={address(up)}", "--per-network",
                            "5") as relay:
        clients = [udp(f"127.9.9.{i + 1}") for i in range(20)] + [udp("127.9.10.1")]
        for c in clients:
            c.sendto(b"?", ("127.0.0.1", relay.port))
        eventually(lambda: relay.counted()["udp_in"] == 21, "all have come")
        counted = relay.counted()
        expect_equal([counted["sessions"], counted["full_network"]], [6, 15])


def sessions_end():
    """The oldest goes when there is no room, the silent after a while; both may come again."""
    with udp() as up, Relay("--map", f"udp:127.0.0.1:0={address(up)}", "--sessions", "4",
                            "--idle", "400ms", "--per-network", "9") as relay:
        clients = [udp(f"127.0.0.{20 + i}") for i in range(6)]
        peers = []
        for c in clients[:5]:
            c.sendto(b"?", ("127.0.0.1", relay.port))
            peers.append(up.recvfrom(100)[1])
        counted = relay.counted()
        expect_equal([counted[k] for k in ("sessions", "opened", "evicted", "full")], [4, 5, 1, 0])
        eventually(lambda: relay.counted()["sessions"] == 0, "all have been silent")
        expect_equal(relay.counted()["expired"], 4)
        up.sendto(b"too late", peers[4])
        clients[0].sendto(b"again", ("127.0.0.1", relay.port))
        data, peer = up.recvfrom(100)
        up.sendto(b"welcome", peer)
        expect_equal(clients[0].recv(100), b"welcome")


def those_who_are_there_stay():
    """A full table of those who came back: the newcomer waits until one is silent."""
    with udp() as up, Relay("--map", f"udp:127.0.0.1:0={address(up)}", "--sessions",
                            "2") as relay:
        clients = [udp(f"127.0.0.{40 + i}") for i in range(3)]
        for c in clients[:2]:
            for _ in range(2):
                c.sendto(b"?", ("127.0.0.1", relay.port))
                up.sendto(b"!", up.recvfrom(100)[1])
                c.recv(100)
        clients[2].sendto(b"may I", ("127.0.0.1", relay.port))
        eventually(lambda: relay.counted()["full"] == 1, "it may not")

        came = []

        def again():
            clients[1].sendto(b"?", ("127.0.0.1", relay.port))
            clients[2].sendto(b"may I", ("127.0.0.1", relay.port))
            counted = relay.counted()
            up.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    came.append(up.recv(100))
            up.settimeout(DEADLINE)
            return counted["evicted"] == 1
        eventually(again, "the silent one has to go")
        clients[1].sendto(b"I stay", ("127.0.0.1", relay.port))
        while b"may I" not in came or b"I stay" not in came:
            came.append(up.recv(100))
        expect_equal(relay.counted()["opened"], 3)


def a_host_has_its_rate():
    with udp() as up, Relay("--map", f"udp:127.0.0.1:0={address(up)}", "--rate", "50") as relay:
        ours = [udp("127.0.0.50") for _ in range(4)]
        for i in range(400):
            ours[i % 4].sendto(b"flood", ("127.0.0.1", relay.port))
        eventually(lambda: relay.counted()["udp_in"] == 400, "all have come")
        with udp("127.0.0.51") as other:
            other.sendto(b"another", ("127.0.0.1", relay.port))
            eventually(lambda: relay.counted()["opened"] == 5, "another host has its own")
        counted = relay.counted()
        expect(50 <= counted["udp_up"] < 200 and counted["over_rate"] > 200, f"{counted}")


def tokens_route():
    with udp() as a, udp() as b, \
            Relay("--map", f"udp:127.0.0.1:0={address(a)},token,open", "--route",
                  f"0011223344556677={address(a)}", "--route",
                  f"ffeeddccbbaa9988={address(b)}") as relay, udp("127.0.0.60") as c:
        to_a, to_b = bytes.fromhex("0011223344556677"), bytes.fromhex("ffeeddccbbaa9988")
        c.connect(("127.0.0.1", relay.port))
        c.send(b"no token at all")
        c.send(to_a[:7])
        c.send(to_b + b"hello b")
        data, peer = b.recvfrom(100)
        expect_equal(data, to_b + b"hello b")
        c.send(b"no token, but at home")
        expect_equal(b.recv(100), b"no token, but at home")
        c.send(to_a + b"hello a")
        data, home = a.recvfrom(100)
        expect_equal(data, to_a + b"hello a")
        b.sendto(b"from the game that was left", peer)
        a.sendto(b"from a", home)
        expect_equal(c.recv(100), b"from a")
        counted = relay.counted()
        expect_equal([counted["unrouted"], counted["opened"]], [2, 2])


def dead_way():
    """In a thread of its own, which goes into a network namespace: there the datagrams to one
    upstream are kept, as its machine does not answer."""
    if ctypes.CDLL(None).unshare(0x40000000):
        return
    for words in ("link set lo up", "link add v0 type veth peer name v1",
                  "addr add 10.9.0.1/24 dev v0", "link set v0 up", "link set v1 up"):
        if subprocess.run(["ip", *words.split()], stderr=subprocess.DEVNULL).returncode:
            return
    with open("/proc/thread-self/net/dev") as devices:
        expect("v0" in devices.read(), "it is there")
    with open("/proc/sys/net/ipv4/neigh/v0/unres_qlen_bytes", "w") as most:
        most.write("100000000")
    dead, alive = bytes(8), bytes(range(8))
    with udp() as up, udp("127.0.0.2") as one, udp("127.0.0.3") as other, \
            Relay("--map", "udp:127.0.0.1:0=127.0.0.1:9,token,open", "--route",
                  f"{dead.hex()}=10.9.0.2:9", "--route", f"{alive.hex()}={address(up)}") as relay:
        begin = time.monotonic()
        for _ in range(20):
            for _ in range(32):
                one.sendto(dead + b"x" * 1400, ("127.0.0.1", relay.port))
            other.sendto(alive, ("127.0.0.1", relay.port))
            up.recv(100)
        took = time.monotonic() - begin
        counted = relay.counted()
        expect(counted["unsent"] > 100, f"its socket is full: {counted}")
        expect(took < 1 * SLOW, f"{took} s for twenty that pass")


def one_that_is_full_holds_nobody_up():
    def run_it():
        here.failures = failures
        try:
            dead_way()
        except Exception as error:
            failures.append(f"{type(error).__name__}: {error}")
    failures = here.failures
    thread = threading.Thread(target=run_it)
    thread.start()
    thread.join()


def datagrams_name_their_source():
    """S15: version 2 in each datagram: sent, and believed of those who are trusted."""
    with udp() as up, Relay("--map", f"udp:127.0.0.1:0={address(up)},accept,send-v2,open",
                            "--map", f"udp:127.0.0.1:0={address(up)},send-v2,open",
                            "--trust", "127.0.7.0/24") as relay, \
            udp("127.0.7.1") as proxy, udp("127.0.8.1") as stranger:
        first = header2("1.2.3.4", 5, "9.8.7.6", 7, True)
        second = header2("2001:db8::1", 5, "::2", 7, True, more=b"\x04\0\3abc")
        proxy.sendto(first + b"one", ("127.0.0.1", relay.port))
        data, a = up.recvfrom(200)
        expect_equal(data, first + b"one")
        proxy.sendto(second + b"two", ("127.0.0.1", relay.port))
        data, b = up.recvfrom(200)
        expect_equal(data, header2("2001:db8::1", 5, "::2", 7, True) + b"two")
        expect(a != b, "two sources of one proxy are two sessions")
        up.sendto(b"back", a)
        expect_equal(proxy.recv(100), b"back")
        local = SIGNATURE + b"\x20\0\0\0"
        own = header2("127.0.7.1", proxy.getsockname()[1], "127.0.0.1", relay.port, True)
        proxy.sendto(local + b"three", ("127.0.0.1", relay.port))
        expect_equal(up.recv(200), own + b"three")
        bad = [b"", b"none", first[:-1], first[:16], header2("1.2.3.4", 5, "6.7.8.9", 1, True,
                                                             command=0x11),
               b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n" + CANARY,
               header2("1.2.3.4", 5, "6.7.8.9", 1, True, more=b"\0" * 600) + CANARY]
        for data in bad:
            proxy.sendto(data, ("127.0.0.1", relay.port))
        stranger.sendto(first + b"I am 1.2.3.4", ("127.0.0.1", relay.port))
        # without accept it is payload, whoever it is
        for s in (proxy, stranger):
            s.sendto(first + b"payload", ("127.0.0.1", relay.ports[1]))
            expect_equal(up.recv(200), header2(*s.getsockname(), "127.0.0.1", relay.ports[1],
                                               True) + first + b"payload")
        counted = relay.counted()
        expect_equal([counted["malformed"], counted["untrusted"]], [len(bad), 1])


# -- TCP -------------------------------------------------------------------------------------


def connections_are_relayed():
    """Both ways at a time, bulk and bits; each half ends by itself."""
    with listener() as up, Relay("--map", f"tcp:127.0.0.1:0={address(up)}") as relay:
        bulk = rng.randbytes(3_000_000)
        c = connect(relay.port)
        s, _ = up.accept()
        sender = threading.Thread(target=lambda: (c.sendall(bulk), c.shutdown(1)))
        sender.start()
        expect(all_of(s) == bulk, "all bytes up")
        sender.join()
        s.sendall(b"the other half still talks")
        s.close()
        expect_equal(all_of(c), b"the other half still talks")
        c, s = connect(relay.port), up.accept()[0]
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.close()
        expect_equal(all_of(c), None)  # a reset stays a reset
        eventually(lambda: relay.counted()["connections"] == 0, "both are over")


def connections_have_limits():
    """S6: of all and of one host, and none is left; an upstream that is down; silence."""
    with listener() as up, Relay("--map", f"tcp:127.0.0.1:0={address(up)}", "--map",
                                 "tcp:127.0.0.1:0=127.0.0.1:1", "--connections", "6",
                                 "--per-source", "4", "--idle", "1500ms") as relay:
        expect(is_turned_away(relay.ports[1]), "nobody is behind it")
        eventually(lambda: relay.counted()["connections"] == 0, "it is over")
        ours = [connect(relay.port) for _ in range(4)]
        up_ends = [up.accept()[0] for _ in ours]
        expect(is_turned_away(relay.port), "a fifth of one host")
        others = [connect(relay.port, "127.0.0.70") for _ in range(2)]
        expect(is_turned_away(relay.port, "127.0.0.71"), "a seventh")
        counted = relay.counted()
        expect_equal([counted["refused"], counted["connections"]], [2, 6])
        expect_equal([all_of(c) for c in ours + others], [None] * 6)  # all were silent
        eventually(lambda: relay.counted()["connections"] == 0, "all are over")
        connect(relay.port).sendall(b"and again")
        for s in up_ends + [up.accept()[0] for _ in range(2)]:
            s.close()
        expect_equal(up.accept()[0].recv(100), b"and again")


def connections_name_their_source():
    """S15: both versions, sent and believed; whole before a byte is passed on; exact."""
    with listener() as up, \
            Relay("--map", f"tcp:127.0.0.1:0={address(up)},accept,send-v1", "--map",
                  f"tcp:127.0.0.1:0={address(up)},accept,send-v2", "--map",
                  f"tcp:127.0.0.1:0={address(up)},send-v2", "--trust", "127.0.7.0/24",
                  "--trust", "::1", "--header", "400ms") as relay:
        line = b"PROXY TCP4 1.2.3.4 9.8.7.6 5 7\r\n"
        binary = header2("1.2.3.4", 5, "9.8.7.6", 7)
        for i, wanted in ((0, line), (1, binary)):
            for sent in (line, binary, binary[:15] + b"\x13" + binary[16:] + b"\4\0\4....",
                         header2("1.2.3.4", 5, "9.8.7.6", 7, more=b"\4\0\4....")):
                if sent[15:16] == b"\x13":
                    sent = header2("1.2.3.4", 5, "9.8.7.6", 7, more=b"\4\2\0" + b"." * 505)
                c = connect(relay.ports[i], "127.0.7.1")
                c.sendall(sent + b"GET")
                s = up.accept()[0]
                got = s.recv(len(wanted) + 3, socket.MSG_WAITALL)
                expect_equal(got, wanted + b"GET")
                c.close()
                expect_equal(all_of(s), b"")
        for sent in (b"PROXY UNKNOWN\r\n", SIGNATURE + b"\x20\0\0\0"):
            c = connect(relay.ports[1], "127.0.7.1")
            c.sendall(sent)
            own = header2(*c.getsockname(), "127.0.0.1", relay.ports[1])
            expect_equal(up.accept()[0].recv(100), own)
        for sent in (line, binary):  # byte by byte
            c = connect(relay.ports[1], "127.0.7.1")
            for byte in sent:
                c.sendall(bytes([byte]))
            c.sendall(b"+")
            s = up.accept()[0]
            expect_equal(s.recv(len(binary) + 1, socket.MSG_WAITALL), binary + b"+")

        up.setblocking(False)
        bad = [b"GET / HTTP/1.0\r\n\r\n" + CANARY, line.replace(b"\r", b""),
               b"PROXY TCP4 1.2.3.4 9.8.7.6 5 70000\r\n", b"PROXY UNKNOWN" + b"x" * 100,
               b"PROXY UNKNOWN " + b"x" * 91 + b"x\r\n",
               header2("1.2.3.4", 5, "9.8.7.6", 7, command=0x22),
               header2("1.2.3.4", 5, "9.8.7.6", 7, family=0x41),
               header2("1.2.3.4", 5, "9.8.7.6", 7, more=b"." * 509),
               SIGNATURE + b"\x21\x11\xff\xff", SIGNATURE + b"\x21\x11\0\x0b" + b"." * 11]
        for data in bad:
            expect(is_turned_away(relay.port, "127.0.7.1", data), f"{data}")
        expect_equal(relay.counted()["malformed"], len(bad))
        for data in (b"", line[:-1], binary[:-1]):  # never complete: in time, or at all
            expect(is_turned_away(relay.port, "127.0.7.1", data), f"{data}, and no more")
            c = connect(relay.port, "127.0.7.1")
            c.sendall(data)
            c.shutdown(1)
            expect_equal(all_of(c), None)
        expect(is_turned_away(relay.port, data=line), "not one of the trusted")
        with contextlib.suppress(BlockingIOError):
            expect(False, f"the upstream hears of none of them: {up.accept()}")
        up.settimeout(DEADLINE)
        c = connect(relay.ports[2], "127.0.7.1")  # where it is not expected it is payload
        c.sendall(line)
        own = header2(*c.getsockname(), "127.0.0.1", relay.ports[2])
        expect_equal(up.accept()[0].recv(len(own) + len(line), socket.MSG_WAITALL), own + line)
        expect_equal(relay.counted()["untrusted"], 1)


# -- both ------------------------------------------------------------------------------------


def it_drains():
    """No newcomers; those who are there go on; when all have gone it ends, with 0."""
    with udp() as up, listener() as tcp_up, \
            Relay("--map", f"udp:127.0.0.1:0={address(up)}", "--map",
                  f"tcp:127.0.0.1:0={address(tcp_up)}", "--idle", "3s", "--drain", "30s",
                  "--sessions", "1") as relay, \
            udp("127.0.0.80") as guest, udp("127.0.0.81") as late:
        guest.connect(("127.0.0.1", relay.port))
        guest.send(b"here")
        peer = up.recvfrom(100)[1]
        c, s = connect(relay.ports[1]), tcp_up.accept()[0]
        relay.process.send_signal(signal.SIGSTOP)
        line = [connect(relay.ports[1]) for _ in range(10)]
        relay.process.send_signal(signal.SIGTERM)
        relay.process.send_signal(signal.SIGCONT)
        for waits in line:  # in line by then: served, not cut off
            waits.sendall(b"x")
            expect_equal(tcp_up.accept()[0].recv(1), b"x")
            waits.close()

        def is_closed():
            with open("/proc/net/tcp") as sockets:
                return f":{relay.ports[1]:04X} 00000000:0000 0A" not in sockets.read()
        eventually(is_closed, "its door is closed")
        try:
            connect(relay.ports[1]).close()
            expect(False, "nobody gets in any more")
        except ConnectionRefusedError:
            pass
        late.sendto(b"late", ("127.0.0.1", relay.port))
        guest.send(b"still")
        expect_equal(up.recv(100), b"still")
        up.sendto(b"yes", peer)
        expect_equal(guest.recv(100), b"yes")
        c.sendall(b"half")
        expect_equal(s.recv(100), b"half")
        expect(relay.process.poll() is None, "it waits for them")
        s.close()
        expect_equal(all_of(c), b"")
        c.close()
        expect_equal(relay.process.wait(DEADLINE), 0)
        relay.reader.join(DEADLINE)
        last = {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", relay.lines[-1])}
        expect_equal([last["sessions"], last["connections"], last["opened"], last["full"]],
                     [0, 0, 1, 1])
        expect(last["tcp_bytes"] >= 4, "and what it has done is told")


def drains_have_a_limit():
    with udp() as up, Relay("--map", f"udp:127.0.0.1:0={address(up)}", "--drain",
                            "200ms") as relay, udp("127.0.0.82") as guest:
        guest.sendto(b"here", ("127.0.0.1", relay.port))
        up.recv(100)
        relay.process.send_signal(signal.SIGTERM)
        expect_equal(relay.process.wait(DEADLINE), 0)


def the_log_has_limits():
    """S27, S28: a hundred lines a second, without a payload; whatever the environment says."""
    with Relay("--map", "tcp:127.0.0.1:0=127.0.0.1:1", "--stats", "100ms",
               env={"LC_ALL": "%s%n", "LANG": "tr_TR.UTF-8", "TZ": "%n", "IFS": "x"}) as relay:
        begin = time.monotonic()
        for _ in range(400):
            is_turned_away(relay.port, data=CANARY + b"%n%s\x1b[2J")
        eventually(lambda: relay.counted()["failed"] == 400, "all have failed")
        most = 100 * (2 + int(time.monotonic() - begin))
        said = sum("failed:" in line for line in relay.lines)
        expect(0 < said <= most and said < 400, f"{said} lines, and not above {most}")
        eventually(lambda: sum("sessions=" in line for line in relay.lines) > 3, "--stats")


def a_wrong_command_line_is_told():
    good = "udp:127.0.0.1:0=127.0.0.1:1"
    for options in ([], ["--map"], ["--map", "udp:127.0.0.1:0"], ["--map", good + ",maybe"],
                    ["--map", good + ",send-v1"], ["--map", "udp:unix:/x=127.0.0.1:1"],
                    ["--map", "tcp" + good[3:] + ",cookie"], ["--map", "127.0.0.1:0=127.0.0.1:1"],
                    ["--map", "udp:127.0.0.1:0=127.0.0.1:0"], ["--map", good] * 17,
                    ["--route", "0011=127.0.0.1:1"], ["--route", "001122334455667g=127.0.0.1:1"],
                    ["--trust", "127.0.0.0/33"], ["--trust", "127.0.0.0/"], ["--trust", "x"],
                    ["--trust", "::1/129"], ["--idle", "5"], ["--rate", "0"], ["--what", "1"],
                    ["--map", good, "--datagram", "65508"], ["--map", good + ",accept"],
                    ["--map", good + ",token"]):
        done = subprocess.run([PROGRAM, *options], capture_output=True, timeout=DEADLINE)
        expect(done.returncode == 2 and b"--help" in done.stderr, f"{options}: {done}")
    done = subprocess.run([PROGRAM, "--map", "udp:203.0.113.1:9=127.0.0.1:1"],
                          capture_output=True, timeout=DEADLINE)
    expect(done.returncode == 1 and b"cannot listen on 203.0.113.1:9" in done.stderr, f"{done}")
    done = subprocess.run([PROGRAM, "--help"], capture_output=True, timeout=DEADLINE)
    expect(done.returncode == 0 and b"--per-network" in done.stdout, "--help")


def without_seccomp():
    """In a child: it cannot enter a sandbox."""
    libc = ctypes.CDLL(None, use_errno=True)
    number = {"x86_64": 157, "aarch64": 167}[os.uname().machine]
    # prctl(PR_SET_SECCOMP, ...) fails with EPERM
    code = [(0x20, 0, 0, 0), (0x15, 0, 3, number), (0x20, 0, 0, 16), (0x15, 0, 1, 22),
            (6, 0, 0, 0x50001), (6, 0, 0, 0x7fff0000)]
    memory = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *c) for c in code))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(code), ctypes.addressof(memory)))
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, program, 0, 0):
        os._exit(99)


def a_start_that_fails_is_the_end():
    """Also of those who are there by then: they would hold it for ever."""
    if os.uname().machine not in ("x86_64", "aarch64"):
        return
    over = threading.Event()
    with udp() as up, contextlib.ExitStack() as clients:
        port = free_port()
        guests = [clients.enter_context(udp(f"127.0.0.{i}")) for i in range(2, 10)]

        def flood():
            while not over.wait(0.0002):
                for s in guests:
                    with contextlib.suppress(OSError):
                        s.sendto(b"early", ("127.0.0.1", port))

        sender = threading.Thread(target=flood)
        sender.start()
        try:
            for _ in range(4):
                done = subprocess.run([PROGRAM, "--backend", BACKEND, "--sandbox", "--map",
                                       f"udp:127.0.0.1:{port}={address(up)}"],
                                      capture_output=True, timeout=DEADLINE,
                                      env=dict(os.environ, ASAN_OPTIONS="detect_leaks=0"),
                                      preexec_fn=without_seccomp)
                expect(done.returncode == 1 and b"cannot give up" in done.stderr, f"{done}")
        finally:
            over.set()
            sender.join()


TESTS = [both_families_are_served, those_who_are_there_stay, connections_name_their_source,
         sources_keep_their_sessions, bursts_come_through, nothing_stops_reception,
         amplification_is_limited, cookies_validate, a_proxys_cookie_is_its_sources,
         some_are_never_answered, nobody_is_not_answered,
         spoofed_sources_fill_nothing, one_network_has_its_share, sessions_end,
         a_host_has_its_rate, tokens_route, one_that_is_full_holds_nobody_up,
         datagrams_name_their_source,
         connections_are_relayed, connections_have_limits, it_drains, drains_have_a_limit,
         the_log_has_limits, a_wrong_command_line_is_told,
         a_start_that_fails_is_the_end]


def run(test):
    """What it has failed to show."""
    here.failures = []
    begin = time.monotonic()
    try:
        test()
    except Exception as error:  # a hang or a surprise is a failure of this one alone
        here.failures.append(f"{type(error).__name__}: {error}")
    if "TIMES" in os.environ:
        print(f"{time.monotonic() - begin:6.2f} s {test.__name__}")
    return here.failures


named = [t for t in sys.argv[3:] if t not in ("million", "sandbox")]
wanted = [t for t in TESTS if not named or t.__name__ in named]
failed = 0
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    for test, failures in zip(wanted, pool.map(run, wanted)):
        if failures:
            print(f"FAIL {test.__name__} ({BACKEND})", *failures, sep="\n  expected: ")
        failed += bool(failures)
print(f"{len(wanted) - failed} passed, {failed} failed")
sys.exit(failed > 0)

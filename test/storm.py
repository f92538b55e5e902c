#!/usr/bin/env python3
"""storm.py - storms over a proxy, and what must be left after each: nothing.

    test/storm.py PROGRAM BACKEND [SECONDS]     BACKEND: uring, poll, refused

After each storm the proxy must hold as many descriptors as before and no more memory than
TOLERANCE_KB above it (256), be at rest, and pass a transfer on whole. In all of them every
byte is compared, and no transfer that was cut off may look like one that ended.

SEED: repeats a run. ONLY: a part of a storm's name. SLOW: a factor for deadlines, for
programs under valgrind. Everything waits for an event with a deadline.
"""
import asyncio
import contextlib
import math
import os
import random
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import weakref

import harness
from harness import DEADLINE, SLOW, Lines

TOLERANCE_KB = int(os.environ.get("TOLERANCE_KB", "256"))
MIB = 1 << 20

# -- what is sent: a stream in which every place looks different --------------------

PERIOD = 1048573  # a prime: no buffer's size divides it
CHUNK = 65536
_STREAM = random.Random(1).randbytes(PERIOD)
STREAM = memoryview(_STREAM + _STREAM[:CHUNK])

# magic, bytes up, bytes down, place up, place down, when to reset, mode
HEAD = struct.Struct("!4sQQIIQB")
PLAIN, RESETS, STALLS, DEAF, SPEAKS_FIRST, DRIPS, CHATS = range(7)
CHAT = 600  # bytes at a time, with pauses


def piece(place, n):
    start = place % PERIOD
    return STREAM[start:start + min(n, CHUNK)]


class Lie(Exception):
    """A part was presented as the whole."""


class Corrupt(Exception):
    """Bytes that nobody sent."""


class Told(ConnectionError):
    """The mode said: reset it now."""


def linger_zero(s, on=True):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", int(on), 0))


def close(s, with_reset):
    try:
        linger_zero(s, with_reset)
    except OSError:
        pass
    s.close()


# Sockets whose send was told of the reset. The kernel tells it once: a recv after that
# yields 0, as at a clean end.
told_by_send = weakref.WeakSet()


async def send_all(s, data):
    try:
        await asyncio.get_running_loop().sock_sendall(s, data)
    except ConnectionResetError:
        told_by_send.add(s)
        raise


async def send_stream(s, place, n, step=CHUNK, budget=None):
    """Sends n bytes of the stream. `budget` is shared: [bytes until a reset]."""
    sent = 0
    while sent < n:
        part = piece(place + sent, min(n - sent, step))
        if budget is not None:
            part = part[:max(0, budget[0])]
            budget[0] -= len(part)
            if not part:
                raise Told()
        await send_all(s, part)
        sent += len(part)
        if step == CHAT:
            await asyncio.sleep(random.random() * 0.002)


async def receive_stream(s, place, n, step=CHUNK, budget=None):
    """Reads to the end, which must come after exactly n bytes of the stream."""
    loop = asyncio.get_running_loop()
    got = 0
    while True:
        data = await loop.sock_recv(s, step)
        if not data:
            for _ in range(3):
                await asyncio.sleep(0)  # a send that failed before this is heard of first
            if got < n and s in told_by_send:
                raise ConnectionResetError("as its send was told")
            if got < n:
                raise Lie(f"a clean end after {got} bytes of {n}")
            return
        for start in range(0, len(data), CHUNK):
            part = data[start:start + CHUNK]
            if got + len(part) > n or part != piece(place + got, len(part)):
                raise Corrupt(f"wrong bytes after {got} of {n}")
            got += len(part)
        if budget is not None:
            budget[0] -= len(data)
            if budget[0] <= 0:
                raise Told()


async def together(*parts):
    """All at the same time; the first failure ends the others and is raised. A broken pipe
    is no verdict: it comes after a reset, which recv reports, or after an end and a reset."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        if others and any(isinstance(task.exception(), BrokenPipeError) for task in done):
            done |= (await asyncio.wait(others, timeout=1.0))[0]
        errors = [task.exception() for task in done if task.exception()]
        for error in sorted(errors, key=lambda e: not isinstance(e, (Lie, Corrupt))):
            raise error
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# -- the upstream, a process of its own so that it can be killed -----------------------

class Server:
    """Says on stdout what went wrong; answers "report" and "vanish" on stdin."""
    def __init__(self):
        self.whole = self.broken = self.empty = 0
        self.open = set()
        self.stalled = {}

    async def ask(self, s):
        loop = asyncio.get_running_loop()
        head = b""
        while len(head) < HEAD.size:
            data = await loop.sock_recv(s, HEAD.size - len(head))
            if not data:
                if head:
                    raise Lie(f"a clean end within the question, after {len(head)} bytes")
                return None
            head += data
        return HEAD.unpack(head)

    async def answer(self, s, question):
        magic, up, down, up_at, down_at, reset_at, mode = question
        if magic != b"takt":
            raise Corrupt("not a question")
        if mode == STALLS:
            self.stalled[s] = asyncio.get_running_loop().create_future()
            await self.stalled[s]
        budget = [reset_at] if mode in (RESETS, CHATS) else None
        step = {DRIPS: 1, CHATS: CHAT}.get(mode, CHUNK)

        async def speak():
            await send_stream(s, down_at, down, step, budget)
            s.shutdown(socket.SHUT_WR)

        if mode == SPEAKS_FIRST:
            await speak()
            await receive_stream(s, up_at, up)
        elif mode == DEAF:
            self.stalled[s] = asyncio.get_running_loop().create_future()
            await together(speak(), self.stalled[s])
        else:
            await together(speak(), receive_stream(s, up_at, up, CHUNK, budget))

    async def serve(self, s):
        whole = False
        try:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            question = await self.ask(s)
            if question is None:
                self.empty += 1
            else:
                await self.answer(s, question)
                self.whole += 1
            whole = True
        except (Lie, Corrupt) as error:
            print(f"LIE upstream: {type(error).__name__}: {error}", flush=True)
        except (OSError, asyncio.CancelledError):
            self.broken += 1
        finally:
            self.stalled.pop(s, None)
            self.open.discard(s)
            close(s, not whole)

    async def accept(self, listener):
        loop = asyncio.get_running_loop()
        tasks = set()
        while True:
            s, _ = await loop.sock_accept(listener)
            self.open.add(s)
            task = asyncio.ensure_future(self.serve(s))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    def command(self, line):
        if line == "vanish":
            for release in list(self.stalled.values()):
                if not release.done():
                    release.set_exception(Told())
        print(f"REPORT {self.whole} {self.broken} {self.empty} {len(self.open)} "
              f"{len(self.stalled)}", flush=True)

    async def run(self, port):
        loop = asyncio.get_running_loop()
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        linger_zero(listener)  # inherited: whoever is killed resets
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, CHUNK)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, CHUNK)
        until = time.monotonic() + DEADLINE
        while True:
            try:
                listener.bind(("127.0.0.1", port))
                listener.listen(4096)
                break
            except OSError:  # somebody's port of the moment
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(0.01)
        listener.setblocking(False)
        print(f"PORT {listener.getsockname()[1]}", flush=True)
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        serving = asyncio.ensure_future(self.accept(listener))
        while line := await reader.readline():
            self.command(line.decode().strip())
        serving.cancel()
        os._exit(0)


class Upstream:
    def __init__(self):
        self.port = 0
        self.lies = []
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), "--upstream", str(self.port)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.said = Lines(self.process.stdout)
        self.port = int(self.said.wait_for("^PORT ").split()[1])

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.said.thread.join(DEADLINE)
        self.lies += [line for line in self.said.lines if line.startswith("LIE")]

    def command(self, word="report"):
        """whole, broken, empty, open, stalled"""
        after = len(self.said.lines)
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return [int(n) for n in self.said.wait_for("^REPORT ", after).split()[1:]]

    def all_lies(self):
        return self.lies + [line for line in self.said.lines if line.startswith("LIE")]


# -- the proxy ---------------------------------------------------------------------

class Proxy(harness.Proxy):
    def __init__(self, backend, port, *options):
        super().__init__(backend, f"127.0.0.1:{port}", "--quiet", *options)
        want = {"uring": r"on io_uring", "poll": r"on epoll", "refused": r"on epoll \(.*EPERM"}
        assert re.search(want[backend], self.ready), self.ready
        self.address = ("127.0.0.1", self.port)
        self.fds = self.descriptors()

    def alive(self):
        return self.process.poll() is None

    def signal(self, number):
        if self.process.poll() is None:
            self.process.send_signal(number)

    async def ended(self, limit):
        await eventually(lambda: self.process.poll() is not None, "it does not end", limit)
        self.said.thread.join(DEADLINE)
        return self.process.returncode

    async def stop(self):
        self.signal(signal.SIGTERM)
        rc = await self.ended(DEADLINE)
        assert rc == 0, (rc, self.said.lines[-5:])
        assert re.search(r"^proxy: \d+ accepted, ", self.said.lines[-1]), self.said.lines[-3:]
        sick = [line for line in self.said.lines
                if re.search(r"Sanitizer|runtime error|==\d+==|takt_uring_free", line)]
        assert not sick, sick[:5]

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


async def eventually(condition, what, limit=DEADLINE):
    until = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < until, what() if callable(what) else what
        await asyncio.sleep(0.01)


# -- the clients -------------------------------------------------------------------------

class Tally:
    """What became of the transfers of one storm."""
    def __init__(self):
        self.whole = self.reset = self.refused = self.left = self.empty = 0
        self.wrong = []

    def __str__(self):
        return f"{self.whole} whole, {self.reset} reset, {self.refused} refused, {self.left} left"


class Clients:
    def __init__(self, proxy, rng):
        self.proxy = proxy
        self.rng = rng
        self.tally = Tally()

    async def connect(self, small=True):
        s = socket.socket()
        s.setblocking(False)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if small:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, CHUNK)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, CHUNK)
        try:
            await asyncio.get_running_loop().sock_connect(s, self.proxy.address)
        except BaseException:
            s.close()
            raise
        return s

    def question(self, up, down, mode=PLAIN, reset_at=0):
        places = self.rng.randrange(PERIOD), self.rng.randrange(PERIOD)
        return HEAD.pack(b"takt", up, down, *places, reset_at, mode), places

    async def exchange(self, s, up, down, mode=PLAIN, reset_at=0, budget=None, step=CHUNK,
                       end=True):
        """One transfer, as the mode says; returns when all came, else raises why not."""
        loop = asyncio.get_running_loop()
        head, (up_at, down_at) = self.question(up, down, mode, reset_at)

        async def speak():
            await send_stream(s, up_at, up, step, budget)
            if end:
                s.shutdown(socket.SHUT_WR)

        for i in range(0, len(head), step):
            await loop.sock_sendall(s, head[i:i + step])
        if mode == SPEAKS_FIRST:
            await receive_stream(s, down_at, down, CHUNK, budget)
            await speak()
        else:
            await together(speak(), receive_stream(s, down_at, down, CHUNK, budget))

    async def counted(self, what, strict, s=None):
        """Runs `what(s)` on a connection, and counts how it ended."""
        tally, whole = self.tally, False
        try:
            async with asyncio.timeout(DEADLINE):
                if s is None:
                    s = await self.connect()
                await what(s)
            tally.whole += 1
            whole = True
        except Told:
            tally.left += 1
        except OSError as error:
            if isinstance(error, TimeoutError):
                tally.wrong.append(f"a client waited for {DEADLINE} s: {what.__qualname__}")
            elif strict:
                tally.wrong.append(f"{what.__qualname__}: {error}")
            elif s is None:
                tally.refused += 1
            else:
                tally.reset += 1
        except (Lie, Corrupt) as error:
            tally.wrong.append(f"{what.__qualname__}: {type(error).__name__}: {error}")
        finally:
            if s is not None:
                close(s, not whole)
        return whole

    # Ways to behave. Each is one connection.

    async def plain(self, strict=True, most=MIB):
        up, down = self.rng.randrange(most), self.rng.randrange(most)
        await self.counted(lambda s: self.exchange(s, up, down), strict)

    async def upload(self, strict=True, most=MIB):
        await self.counted(lambda s: self.exchange(s, self.rng.randrange(most), 0), strict)

    async def answered_first(self, strict=True, most=MIB):
        up, down = self.rng.randrange(most), self.rng.randrange(most)
        await self.counted(lambda s: self.exchange(s, up, down, SPEAKS_FIRST), strict)

    async def both_end_at_once(self, strict=True):
        await self.counted(lambda s: self.exchange(s, 0, 0), strict)

    async def drops(self, strict=True):
        up, down = self.rng.randrange(1, 200), self.rng.randrange(1, 200)
        await self.counted(lambda s: self.exchange(s, up, down, DRIPS, step=1), strict)

    async def empty(self, strict=True):
        async def nothing(s):
            loop = asyncio.get_running_loop()
            self.tally.empty += 1
            if self.rng.random() < 0.5:
                s.shutdown(socket.SHUT_WR)
                if await loop.sock_recv(s, 1):
                    raise Corrupt("an answer to nothing")
        await self.counted(nothing, strict)

    async def upstream_resets(self, _=False, most=MIB):
        up, down = self.rng.randrange(1, most), self.rng.randrange(1, most)
        at = self.rng.randrange(1, up + down + 1)
        await self.counted(lambda s: self.exchange(s, up, down, RESETS, at), False)

    async def chats(self, _=False):
        """Both talk, in small pieces, until one of them resets."""
        here, there = self.rng.randrange(1, 40_000), self.rng.randrange(1, 40_000)
        await self.counted(lambda s: self.exchange(s, MIB, MIB, CHATS, there, [here], CHAT), False)

    async def resets_at_once(self, _=False):
        async def go(s):
            if self.rng.random() < 0.5:
                await asyncio.sleep(0)
            raise Told()
        await self.counted(go, False)

    async def resets_within_the_question(self, _=False):
        async def go(s):
            head, _ = self.question(1000, 1000)
            n = self.rng.randrange(1, len(head))
            await asyncio.get_running_loop().sock_sendall(s, head[:n])
            raise Told()
        await self.counted(go, False)

    async def resets_in_the_middle(self, _=False, most=MIB):
        up, down = self.rng.randrange(1, most), self.rng.randrange(1, most)
        budget = [self.rng.randrange(0, up + down)]
        await self.counted(lambda s: self.exchange(s, up, down, budget=budget, end=False), False)

    async def resets_after_half_close(self, _=False, most=MIB):
        down = self.rng.randrange(1, most)

        async def go(s):
            loop = asyncio.get_running_loop()
            head, (up_at, _) = self.question(1000, down)
            await loop.sock_sendall(s, head)
            await send_stream(s, up_at, 1000)
            s.shutdown(socket.SHUT_WR)
            if self.rng.random() < 0.7:
                await loop.sock_recv(s, self.rng.randrange(1, CHUNK))
            raise Told()
        await self.counted(go, False)

    async def resets_while_upstream_stalls(self, _=False):
        async def go(s):
            loop = asyncio.get_running_loop()
            head, (up_at, _) = self.question(8 * MIB, 8 * MIB, STALLS)
            await loop.sock_sendall(s, head)
            await send_stream(s, up_at, self.rng.randrange(1, 2 * CHUNK))
            raise Told()
        await self.counted(go, False)

    async def crowd(self, size, until, *ways):
        """That many at a time, each behaving in ways drawn by lot, until then."""
        async def one(rng):
            while time.monotonic() < until and self.proxy.alive() and len(self.tally.wrong) < 20:
                await rng.choice(ways)()
        await asyncio.gather(*(one(random.Random(self.rng.random())) for _ in range(size)))


# -- one run ---------------------------------------------------------------------------

class Run:
    LIMIT = 300  # connections: no storm but one reaches it

    def __init__(self, backend, seconds, seed):
        self.backend, self.seconds, self.seed = backend, seconds, seed
        self.up = Upstream()
        self.proxy = None
        self.rng = random.Random(seed)

    def start_proxy(self, *options):
        return Proxy(self.backend, self.up.port, *options)

    async def is_quiet(self, proxy, what):
        """All pairs are gone, and nobody works."""
        await eventually(lambda: proxy.descriptors() == proxy.fds,
                         lambda: f"{what}: {proxy.descriptors()} descriptors, {proxy.fds} before")

        def at_rest():
            first = proxy.cpu_seconds()
            time.sleep(0.2)
            return proxy.cpu_seconds() - first < 0.05
        await eventually(at_rest, f"{what}: nothing to do, and it spins")

    async def still_serves(self, proxy, what):
        clients = Clients(proxy, self.rng)
        # the newest accept gives a storm's buffers back: a connection, then a transfer
        await clients.both_end_at_once()
        await self.is_quiet(proxy, what)
        await clients.counted(lambda s: clients.exchange(s, 3 * MIB, 3 * MIB), True)
        assert not clients.tally.wrong, (what, clients.tally.wrong)
        await self.is_quiet(proxy, what)

    async def calm(self, what, clients, before_kb):
        """What must hold after a storm. Returns the memory in use."""
        proxy = clients.proxy
        assert proxy.alive(), (f"{what}: it has died", proxy.process.returncode,
                               proxy.said.lines[-5:])
        assert not clients.tally.wrong, (what, len(clients.tally.wrong), clients.tally.wrong[:5])
        await self.is_quiet(proxy, what)
        await self.still_serves(proxy, what)
        await eventually(lambda: self.up.command()[3] == 0, f"{what}: the upstream's are left")
        assert not self.up.all_lies(), (what, self.up.all_lies()[:5])
        after_kb = proxy.memory_kb()
        assert after_kb <= before_kb + TOLERANCE_KB, f"{what}: {before_kb} KiB, now {after_kb}"
        return after_kb

    async def warm_up(self):
        """As many pairs as ever will be, with data stuck in both directions of each."""
        clients = Clients(self.proxy, self.rng)
        first, count = self.proxy.memory_kb(), 250
        await self.stall(clients, count, both=True)
        self.up.command("vanish")
        await self.let_go(clients, 1.0)
        assert not clients.tally.wrong, clients.tally.wrong[:5]
        await self.is_quiet(self.proxy, "warming up")
        await self.still_serves(self.proxy, "warming up")
        # a connection's own memory stays, the buffers do not
        kept = self.proxy.memory_kb() - first
        assert kept <= count + TOLERANCE_KB, f"{count} pairs have gone and {kept} KiB are kept"

    # -- readers that stall

    async def stall(self, clients, count, both=False):
        """Half of the clients do not read, the upstream of the others does not."""
        loop = asyncio.get_running_loop()
        self.held = []
        for i in range(count):
            s = await clients.connect()
            deaf = both or i % 2 == 0
            mode = DEAF if both else PLAIN if deaf else STALLS
            up = 0 if deaf and not both else 64 * MIB  # more than all the kernel's buffers hold
            head, (up_at, down_at) = clients.question(up, 8 * MIB, mode)
            await loop.sock_sendall(s, head)
            writer = None
            if both or not deaf:
                # a stalled upstream does not read; a client that does not read stops its answer
                writer = asyncio.ensure_future(send_stream(s, up_at, up))
            self.held.append((s, deaf, writer, down_at))
        proxy = clients.proxy

        def comes_to_rest():
            first = proxy.cpu_seconds()
            time.sleep(0.3)
            return proxy.cpu_seconds() - first < 0.04
        until = time.monotonic() + DEADLINE
        calm = 0
        while calm < 2:
            assert time.monotonic() < until, "stalled readers, and the proxy does not come to rest"
            await asyncio.sleep(0.1)
            calm = calm + 1 if await loop.run_in_executor(None, comes_to_rest) else 0

    async def let_go(self, clients, leavers):
        """That share of those held vanish; the others read slowly, to the end."""
        async def read_on(s, down_at):
            async def go(s):
                await receive_stream(s, down_at, 8 * MIB, 8192)
                # all of the answer, and the end: now the own end
                s.shutdown(socket.SHUT_WR)
            await clients.counted(go, True, s)
        rest = []
        for s, deaf, writer, down_at in self.held:
            if writer:
                if writer.done() and not writer.cancelled() and writer.exception() is None:
                    clients.tally.wrong.append("64 MiB went nowhere")
                writer.cancel()
                await asyncio.gather(writer, return_exceptions=True)
            if not deaf or writer or clients.rng.random() < leavers:
                clients.tally.left += 1
                close(s, clients.rng.random() < 0.5 or writer is not None)
            else:
                rest.append(read_on(s, down_at))
        self.held = []
        await asyncio.gather(*rest)

    # -- the storms; each returns (clients, a line about it)

    async def upstreams_die(self, until):
        clients = Clients(self.proxy, self.rng)
        deaths = 0

        async def killer():
            nonlocal deaths
            loop = asyncio.get_running_loop()
            while time.monotonic() < until:
                await asyncio.sleep(self.rng.uniform(0.2, 0.6))
                await loop.run_in_executor(None, self.up.kill)
                await asyncio.sleep(self.rng.uniform(0.02, 0.2))
                await loop.run_in_executor(None, self.up.start)
                deaths += 1
        await asyncio.gather(killer(), clients.crowd(
            40, until, lambda: clients.plain(False, 2 * MIB), lambda: clients.upload(False, MIB),
            lambda: clients.answered_first(False, 4 * MIB), clients.upstream_resets))
        assert clients.tally.whole and clients.tally.reset, str(clients.tally)
        return clients, f"{deaths} deaths"

    async def clients_reset(self, until):
        clients = Clients(self.proxy, self.rng)
        await clients.crowd(60, until, clients.resets_at_once, clients.resets_within_the_question,
                            clients.resets_in_the_middle, clients.resets_after_half_close,
                            clients.resets_while_upstream_stalls, clients.upstream_resets,
                            clients.plain)
        assert clients.tally.whole and clients.tally.left, str(clients.tally)
        self.up.command("vanish")
        return clients, ""

    async def resets_while_both_talk(self, until):
        """A send may be told of a reset before recv: that then yields 0, which is no end."""
        clients = Clients(self.proxy, self.rng)
        await clients.crowd(30, until, clients.chats)
        assert clients.tally.reset and clients.tally.left, str(clients.tally)
        return clients, ""

    async def readers_stall(self, until):
        clients = Clients(self.proxy, self.rng)
        rounds = peak = 0
        while time.monotonic() < until or not rounds:
            before = self.proxy.memory_kb()
            count = 100
            await self.stall(clients, count)
            assert self.up.command()[4] == count // 2, "the upstream does not stall"
            peak = max(peak, self.proxy.memory_kb() - before)
            # a buffer a direction, and some for the rest
            assert peak <= count * 2 * 16 + 512, f"{count} stalled pairs hold {peak} KiB"
            await asyncio.gather(*(clients.plain() for _ in range(10)))
            self.up.command("vanish")
            await self.let_go(clients, 0.5)
            rounds += 1
        return clients, f"{rounds} rounds, {peak} KiB at the most"

    async def descriptors_run_out(self, until):
        clients = Clients(self.proxy, self.rng)
        proxy, pid = self.proxy, self.proxy.process.pid
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        rounds = spare = 0
        while time.monotonic() < until or rounds < 2:
            room = 20 + rounds % 2  # of descriptors: also an odd one
            taken = len(open_fds(pid))
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit_for(pid, room), limits[1]))
            try:
                spare += await self.short_of_descriptors(clients, proxy, room, taken)
            finally:
                resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
            rounds += 1
        return clients, f"{rounds} rounds, {spare} of those who waited were served"

    async def short_of_descriptors(self, clients, proxy, room, taken):
        count = 60
        go = asyncio.Event()

        async def one(s):
            loop = asyncio.get_running_loop()
            head, (up_at, down_at) = clients.question(100_000, 100_000)
            await loop.sock_sendall(s, head)

            async def speak():
                await go.wait()
                await send_stream(s, up_at, 100_000)
                s.shutdown(socket.SHUT_WR)
            await together(speak(), receive_stream(s, down_at, 100_000))
        before = clients.tally.whole
        said = proxy.said.count("cannot accept for now")
        tasks = [asyncio.ensure_future(clients.counted(one, False)) for _ in range(count)]
        # it is full: all descriptors are taken, or the last ones come and go
        await eventually(lambda: len(open_fds(proxy.process.pid)) >= taken + room - 1,
                         "it is never full")
        if room % 2 == 0:
            await eventually(lambda: proxy.said.count("cannot accept for now") > said,
                             "it does not say that it is full")
        first = proxy.cpu_seconds()
        await asyncio.sleep(1.0)
        used = proxy.cpu_seconds() - first
        assert used < 0.3 * SLOW, f"out of descriptors it spins: {used:.2f} s of 1 s"
        go.set()
        await asyncio.gather(*tasks)
        served = clients.tally.whole - before
        assert served >= room // 2, f"only {served} of {count} were served"
        return served - room // 2

    async def signals_rain(self, until):
        clients = Clients(self.proxy, self.rng)
        sent = 0
        done = threading.Event()

        def rain():
            nonlocal sent
            harmless = [signal.SIGWINCH, signal.SIGCHLD, signal.SIGURG, signal.SIGCONT]
            while not done.wait(0.001):
                sent += 1
                self.proxy.signal(harmless[sent % 4])
                if sent % 10 == 0:
                    self.proxy.signal(signal.SIGSTOP)
                    self.proxy.signal(signal.SIGCONT)
                if sent % 300 == 0:
                    self.proxy.signal(signal.SIGUSR1)
        thread = threading.Thread(target=rain)
        thread.start()
        try:
            await clients.crowd(6, until, lambda: clients.plain(True, 8 * MIB),
                                lambda: clients.answered_first(True, 4 * MIB))
        finally:
            done.set()
            thread.join()
            self.proxy.signal(signal.SIGCONT)
        assert clients.tally.whole, str(clients.tally)
        return clients, f"{sent} signals"

    async def ends_of_all_kinds(self, until):
        clients = Clients(self.proxy, self.rng)
        first = self.up.command()[2]
        await clients.crowd(40, until, lambda: clients.plain(True, 2 * CHUNK),
                            lambda: clients.answered_first(True, 2 * CHUNK),
                            clients.both_end_at_once, clients.empty, clients.drops,
                            lambda: clients.upload(True, 2 * CHUNK))
        await self.is_quiet(self.proxy, "ends_of_all_kinds")
        empty = self.up.command()[2] - first
        assert empty <= clients.tally.empty, "more connections came empty than were sent empty"
        return clients, ""

    async def a_crowd_beyond_the_limit(self, until):
        limit = 20
        proxy = self.start_proxy("--max-connections", str(limit))
        try:
            clients = Clients(proxy, self.rng)
            peak = 0
            for i in range(2):
                half = until if i else (until + time.monotonic()) / 2
                crowd = asyncio.ensure_future(clients.crowd(
                    60, half, lambda: clients.plain(False, 2 * CHUNK), lambda: clients.drops(False),
                    clients.resets_in_the_middle, clients.resets_at_once))
                while not crowd.done():
                    peak = max(peak, proxy.descriptors() - proxy.fds)
                    await asyncio.sleep(0.005)
                await crowd
                await self.every_place_is_free(proxy, limit)
            tally = clients.tally
            assert tally.whole and tally.reset + tally.refused, str(tally)
            # two a pair, and the guests at the door
            assert peak <= 2 * limit + 2, f"{peak} descriptors for {limit} connections"
            await self.is_quiet(proxy, "a_crowd_beyond_the_limit")
            await proxy.stop()
            refused = int(re.search(r"(\d+) refused", proxy.said.lines[-1]).group(1))
            assert refused > 0, proxy.said.lines[-1]
            wrong = clients.tally.wrong
            clients = Clients(self.proxy, self.rng)
            clients.tally.wrong, clients.tally.whole = wrong, tally.whole
            clients.tally.reset, clients.tally.left = tally.reset, tally.left
            return clients, f"{refused} refused by the limit"
        finally:
            proxy.end()

    async def every_place_is_free(self, proxy, limit):
        """That many can be inside at a time, and not one more."""
        await self.is_quiet(proxy, "the limit")
        clients = Clients(proxy, self.rng)
        loop = asyncio.get_running_loop()
        inside = []
        head, (_, down_at) = clients.question(0, 5)
        for _ in range(limit):
            s = await clients.connect()
            await loop.sock_sendall(s, head)
            got = b""
            async with asyncio.timeout(DEADLINE):
                while len(got) < 5:
                    data = await loop.sock_recv(s, 5 - len(got))
                    assert data, "a free place is not given"
                    got += data
            assert got == piece(down_at, 5)
            inside.append(s)
        await clients.both_end_at_once(False)
        for s in inside:
            close(s, False)
        assert clients.tally.whole == 0, "one more than the limit is inside"

    async def mix(self, clients, until, killing=True):
        loop = asyncio.get_running_loop()
        rng = clients.rng
        done = threading.Event()

        def rain():
            i = 0
            while not done.wait(0.01):
                i += 1
                clients.proxy.signal((signal.SIGWINCH, signal.SIGURG, signal.SIGCHLD)[i % 3])
                if i % 7 == 0:
                    clients.proxy.signal(signal.SIGSTOP)
                    clients.proxy.signal(signal.SIGCONT)
                if i % 50 == 0:
                    clients.proxy.signal(signal.SIGUSR1)

        async def killer():
            while killing and time.monotonic() < until:
                await asyncio.sleep(rng.uniform(0.5, 1.5))
                if time.monotonic() >= until:
                    break
                await loop.run_in_executor(None, self.up.kill)
                await asyncio.sleep(rng.uniform(0.02, 0.1))
                await loop.run_in_executor(None, self.up.start)

        async def stalled():
            async def go(s):
                up, down = rng.randrange(4 * MIB), rng.randrange(4 * MIB)
                head, (up_at, _) = clients.question(up, down, rng.choice((PLAIN, STALLS)))
                await loop.sock_sendall(s, head)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(send_stream(s, up_at, up), rng.uniform(0.1, 1.5))
                raise Told()
            await clients.counted(go, False)
        ways = [lambda: clients.plain(False), lambda: clients.upload(False),
                lambda: clients.answered_first(False), lambda: clients.drops(False),
                lambda: clients.empty(False), lambda: clients.both_end_at_once(False),
                clients.upstream_resets, clients.resets_at_once,
                clients.resets_within_the_question, clients.resets_in_the_middle,
                clients.resets_after_half_close, clients.resets_while_upstream_stalls, stalled]
        thread = threading.Thread(target=rain)
        thread.start()
        try:
            await asyncio.gather(killer(), clients.crowd(120, until, *ways))
        finally:
            done.set()
            thread.join()
            clients.proxy.signal(signal.SIGCONT)
        self.up.command("vanish")

    async def everything_at_once(self, until):
        clients = Clients(self.proxy, random.Random(self.seed))
        await self.mix(clients, until)
        return clients, ""

    async def sigterm_in_a_storm(self, until):
        drain = 2.0
        proxy = self.start_proxy("--max-connections", "300", "--drain", f"{int(drain)}s")
        try:
            clients = Clients(proxy, random.Random(self.seed + 1))
            took = 0.0
            after = max(0.5, min(3.0, until - time.monotonic() - drain))

            async def terminate():
                nonlocal took
                async def go(s):  # it outlasts the drain
                    await clients.exchange(s, MIB, MIB, STALLS)
                stays = asyncio.ensure_future(clients.counted(go, False))
                await asyncio.sleep(after)
                assert proxy.alive(), "it has died"
                proxy.signal(signal.SIGTERM)
                start = time.monotonic()
                rc = await proxy.ended((drain + 1.0) * SLOW)
                took = time.monotonic() - start
                assert rc == 0, (rc, proxy.said.lines[-3:])
                assert took > drain - 0.1, f"it ended {took:.2f} s into {drain} s of drain"
                assert not await stays
            storm = asyncio.ensure_future(self.mix(clients, math.inf, killing=False))
            try:
                await terminate()
            finally:
                proxy.end()
                await storm
            assert re.search(r"^proxy: \d+ accepted, ", proxy.said.lines[-1]), proxy.said.lines[-3:]
            assert not clients.tally.wrong, clients.tally.wrong[:5]
            text = f"ended after {took:.2f} s; {clients.tally}"
            return Clients(self.proxy, self.rng), text
        finally:
            proxy.end()

    STORMS = [(upstreams_die, 6), (clients_reset, 6),
              (resets_while_both_talk, 5), (readers_stall, 6), (descriptors_run_out, 6),
              (signals_rain, 6), (ends_of_all_kinds, 5), (a_crowd_beyond_the_limit, 5),
              (everything_at_once, 7), (sigterm_in_a_storm, 3)]

    async def all(self):
        passed = failed = 0
        weights = sum(weight for _, weight in self.STORMS)
        for storm, weight in self.STORMS:
            name = storm.__name__
            if os.environ.get("ONLY", "") not in name:
                continue
            try:
                if self.proxy is None:
                    self.proxy = self.start_proxy("--max-connections", str(self.LIMIT))
                    await self.warm_up()
                before = self.proxy.memory_kb()
                until = time.monotonic() + self.seconds * 0.8 * weight / weights
                clients, text = await storm(self, until)
                after = await self.calm(name, clients, before)
                print(f"{self.backend}: {name}: {clients.tally}; {text}{'; ' if text else ''}"
                      f"{self.proxy.fds} descriptors, {before} KiB before, {after} after",
                      flush=True)
                passed += 1
            except Exception as error:  # one failure costs one storm, and a proxy
                failed += 1
                print(f"FAIL {name} ({self.backend}): {type(error).__name__}: {error}", flush=True)
                if self.proxy:
                    self.proxy.end()
                self.proxy = None
                self.up.kill()
                self.up.lies = []
                self.up.start()
        try:
            if self.proxy:
                await self.proxy.stop()
                passed += 1
        except AssertionError as error:
            failed += 1
            print(f"FAIL the end ({self.backend}): {error}")
        return passed, failed

    def close(self):
        if self.proxy:
            self.proxy.end()
        self.up.process.kill()


def raise_fd_limit():
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))


def open_fds(pid):
    return {int(fd) for fd in os.listdir(f"/proc/{pid}/fd")}


def limit_for(pid, room):
    """The limit of descriptors below which `room` numbers are free."""
    taken, limit = open_fds(pid), 0
    while room > 0 or limit in taken:
        room -= limit not in taken
        limit += 1
    return limit


def main():
    if sys.argv[1] == "--upstream":
        raise_fd_limit()
        asyncio.run(Server().run(int(sys.argv[2])))
        return 0
    backend = sys.argv[2]
    seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 60.0
    seed = int(os.environ.get("SEED", random.SystemRandom().randrange(1 << 31)))
    if backend == "uring" and not harness.has_ring(*harness.PROXY_STARTS):
        print("skipped: no io_uring here")
        return 77
    raise_fd_limit()
    print(f"{backend}: SEED={seed}", flush=True)
    run = Run(backend, seconds, seed)
    try:
        passed, failed = asyncio.run(run.all())
    finally:
        run.close()
    print(f"{passed} passed, {failed} failed")
    return failed > 0


sys.exit(main())

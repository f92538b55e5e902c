"""harness.py - an example as it runs, what stands behind a proxy, and what tests of them have in
common.

What tests import: the program is the first word of their command line, backends follow. A
backend is uring, poll or refused (a seccomp filter refuses io_uring_setup); words may follow
it with a + between: sandbox (entered, and any call that it does not allow kills) and threads.
"""
import contextlib
import ctypes
import os
import random
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
THREADS = 3  # of a backend "+threads"
PROXY_STARTS = (["--listen", "127.0.0.1:0", "--upstream", "127.0.0.1:9"], " -> .* on ")


def program(backend):
    """The command line of the proxy, as far as the backend says it."""
    name, *extras = backend.split("+")
    words = [PROGRAM, "--backend", "auto" if name == "refused" else name]
    for extra in extras:
        words += {"sandbox": ["--sandbox-kill"], "threads": ["--threads", str(THREADS)]}[extra]
    return words


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


class Lines:
    """What a process says, line by line."""
    def __init__(self, stream):
        self.lines = []
        self.seen = threading.Condition()
        self.thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self.thread.start()

    def _read(self, stream):
        for line in stream:
            with self.seen:
                self.lines.append(line.rstrip("\n"))
                self.seen.notify_all()

    def wait_for(self, pattern, after=0):
        """The first line that is like it."""
        until = time.monotonic() + DEADLINE
        with self.seen:
            while True:
                for line in self.lines[after:]:
                    if re.search(pattern, line):
                        return line
                if not self.seen.wait(max(0.0, until - time.monotonic())):
                    raise AssertionError(f"no line like {pattern!r} in {self.lines[-5:]}")

    def count(self, pattern):
        with self.seen:
            return sum(bool(re.search(pattern, line)) for line in self.lines)


class Program:
    """A program that has said that it is ready, in a line like `ready`."""
    def __init__(self, words, ready, prepare=None, env=None):
        self.process = subprocess.Popen(words, stderr=subprocess.PIPE, preexec_fn=prepare,
                                        text=True, env={**os.environ, **(env or {})})
        self.said = Lines(self.process.stderr)
        self.ready = self.wait_for(ready)
        eventually(self._has_signals, "it does not listen to signals")

    @property
    def lines(self):
        return self.said.lines

    def wait_for(self, pattern):
        return self.said.wait_for(pattern)

    def _has_signals(self):
        where = f"/proc/{self.process.pid}/fd"
        try:
            return any("signalfd" in os.readlink(f"{where}/{fd}") for fd in os.listdir(where))
        except PermissionError:
            return True  # in a sandbox nobody but root may look, and it listens by now
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

    def switches(self):
        """How often each thread has slept."""
        where = f"/proc/{self.process.pid}/task"
        counts = {}
        for task in os.listdir(where):
            with open(f"{where}/{task}/status", encoding="ascii") as f:
                counts[task] = int(re.search(r"\nvoluntary_ctxt_switches:\s+(\d+)",
                                             f.read()).group(1))
        return counts

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def ended(self):
        rc = self.process.wait(timeout=DEADLINE)
        self.said.thread.join(DEADLINE)
        return rc

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Proxy(Program):
    def __init__(self, backend, upstream, *options, nofile=None, env=None,
                 listen="127.0.0.1:0"):
        def prepare():
            if backend.startswith("refused"):
                refuse_io_uring()
            if nofile:
                resource.setrlimit(resource.RLIMIT_NOFILE, (nofile, nofile))
        super().__init__([*program(backend), "--listen", listen, "--upstream", upstream, *options],
                         r"^proxy: .* -> .* on ", prepare, env)
        port = re.match(r"proxy: 127\.0\.0\.1:(\d+) -> ", self.ready)
        self.port = int(port.group(1)) if port else 0

    def connect(self):
        s = socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE)
        return s


class Upstream:
    """A listener whose every connection is handed to `serve`, in a thread."""
    def __init__(self, serve=None, backlog=128):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=backlog)
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.accepted = []
        self.acceptor = threading.Thread(target=self._accept, args=(serve,), daemon=True)
        if serve:
            self.acceptor.start()

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
        if self.acceptor.is_alive():  # else it may go on with whatever gets this descriptor next
            self.listener.shutdown(socket.SHUT_RDWR)
            self.acceptor.join()
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


def serves(proxy):
    """True if a new connection gets its echo."""
    try:
        with proxy.connect() as s:
            s.sendall(b"z")
            return s.recv(1) == b"z"
    except ConnectionError:
        return False


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


def run(args, **options):
    return subprocess.run([PROGRAM, *args], capture_output=True, text=True, timeout=DEADLINE,
                          check=False, **options)


def free_port():
    """A port that the system gives nobody who asks for any, so that it stays free."""
    while True:
        port = random.randrange(10000, 32768)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)), \
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", port))
            return port


def has_ring(words, ready):
    """True if the program is ready on io_uring here."""
    with subprocess.Popen([PROGRAM, *words, "--backend", "uring"], stderr=subprocess.PIPE,
                          text=True) as process:
        line = process.stderr.readline()
        process.kill()
    return re.search(ready, line) is not None


_points = [0, 0]  # held, failed


def check(what, ok, *seen):
    """One point of a test that is a story, not a list of functions."""
    _points[not ok] += 1
    if not ok:
        print("FAIL " + what, *seen)


def close():
    """The end of such a test."""
    print(f"{_points[0]} passed, {_points[1]} failed")
    sys.exit(_points[1] > 0)


def main(once, tests, backends=("uring", "poll", "refused"),
         starts=PROXY_STARTS):
    """Runs `once`, then `tests` on each backend: the program `starts` by these words, with such a
    line. ONLY: a part of a test's name."""
    wanted = sys.argv[2:] or backends
    only = os.environ.get("ONLY", "")
    passed = failed = skipped = 0
    cases = [(test, "any") for test in once]
    cases += [(test, backend) for backend in wanted for test in tests]
    ring = not any(backend.startswith("uring") for backend in wanted) or has_ring(*starts)
    for test, backend in cases:
        if only not in test.__name__:
            continue
        if backend.startswith("uring") and not ring:
            skipped += 1
            continue
        begin = time.monotonic()
        try:
            test(backend)
            passed += 1
        except Exception as error:  # one failure costs one test
            failed += 1
            print(f"FAIL {test.__name__} ({backend}): {type(error).__name__}: {error}")
        if os.environ.get("TIMES"):
            print(f"{time.monotonic() - begin:6.2f} s  {test.__name__} ({backend})")
    if skipped:
        print(f"{skipped} skipped: no io_uring here")
    print(f"{passed} passed, {failed} failed")
    return failed > 0

#!/usr/bin/env python3
"""resolve.py PROGRAM uring|poll - what examples/resolve.c promises. PROGRAM has the getaddrinfo()
of hold.c, which counts its calls, and holds some up for as long as it is told to."""
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from harness import check, close

PROGRAM, BACKEND = sys.argv[1:]
PATIENCE = 60


class Run:
    def __init__(self, *options):
        self.process = subprocess.Popen(
            [PROGRAM, *map(str, options)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env={**os.environ, "HOLD": FIFO, "TAKT_BACKEND": BACKEND})
        self.said = ""

    def wait_for(self, pattern):
        while not re.search(pattern, self.said):
            line = self.process.stderr.readline()
            if not line:
                raise AssertionError(f"no {pattern!r} in {self.said!r}")
            self.said += line

    def end(self):
        out, err = self.process.communicate(timeout=PATIENCE)
        self.said += out + err
        return self

    def has(self, *lines):
        return self.process.returncode == 0 and all(line in self.said for line in lines)


def let_go():
    """All that are held up; those that come later, too, while it is open."""
    return os.open(FIFO, os.O_RDWR)


FIFO = os.path.join(tempfile.mkdtemp(), "fifo")
os.mkfifo(FIFO)

run = Run("--askers", 400, "localhost", "127.0.0.1", "::1", "x.invalid").end()
check("many who ask for a name share one call", run.has(
    "127.0.0.1: 127.0.0.1:443, 100 times", "::1: [::1]:443, 100 times", "localhost: ",
    "x.invalid: ", "400 asked, 4 looked up, 396 shared", "getaddrinfo: 4 calls"), run.said)

run = Run("--askers", 10, "--rounds", 5, "--keep", "1h", "127.0.0.1", "x.invalid").end()
check("an answer is kept, a failure too", run.has(
    "50 asked, 2 looked up, 8 shared, 40 known", "getaddrinfo: 2 calls"), run.said)

run = Run("--askers", 10, "--rounds", 3, "--keep", "1ms", "--pause", "20ms", "127.0.0.1").end()
check("but not for long", run.has("3 looked up, 27 shared, 0 known", "getaddrinfo: 3 calls"),
      run.said)

run = Run("--askers", 30, "--timeout", "50ms", "held.a", "--timeout", "1h", "held.a", "127.0.0.1")
run.wait_for("held held.a")
time.sleep(0.3)  # far more than 50 ms, wherever it is by now
gate = let_go()
check("who gives up takes nothing from the others", run.end().has(
    "held.a: timed out, 10 times", "held.a: 127.0.0.7:443, 10 times",
    "127.0.0.1: 127.0.0.1:443, 10 times", "getaddrinfo: 2 calls"), run.said)
os.close(gate)

run = Run("--askers", 5, "--timeout", "20ms", "--rounds", 2, "held.a", "127.0.0.1")
run.wait_for("2 known")  # it has ended: of the look-up that runs nobody wants to hear
check("one that nobody waits for is not begun anew", "held.a: timed out, 6 times" not in run.said
      and "10 asked, 1 looked up, 6 shared, 2 known" in run.said, run.said)
gate = let_go()
check("and the program waits for its thread", run.end().has(
    "held.a: timed out, 6 times", "getaddrinfo: 2 calls"), run.said)
os.close(gate)

run = Run("--askers", 70, "--timeout", "1h", *(f"held.{i}" for i in range(70)))
for i in range(4):
    run.wait_for(f"(?s)(held held.*){{{i + 1}}}")
gate = let_go()
check("there is room for 64 names, and the next ones are refused", run.end().has(
    "held.0: 127.0.0.7:443, 1 times", "held.63: 127.0.0.7:443, 1 times",
    "held.64: a resource is exhausted for now; try again, 1 times", "70 asked, 64 looked up",
    "6 refused", "getaddrinfo: 64 calls"), run.said)
os.close(gate)

run = Run("--askers", 100, "--threads", 2, "held.a", "held.b", "held.c")
run.wait_for("(?s)held held.*held held")
run.process.send_signal(signal.SIGTERM)
run.wait_for("100 asked, 0 looked up, 97 shared")
check("it stops at once while calls run", run.process.poll() is None and
      "getaddrinfo" not in run.said, run.said)
gate = let_go()
check("and ends when they return, without those that had not begun", run.end().has(
    "getaddrinfo: 2 calls"), run.said)
os.close(gate)

check("a name that is too long", "invalid argument, 1 times" in
      Run("--askers", 1, "x" * 256).end().said)
os.unlink(FIFO)
os.rmdir(os.path.dirname(FIFO))
close()

#!/usr/bin/env python3
"""per_core.py - what build/per_core promises: a loop for each thread, and all of them serve.

    test/per_core.py PROGRAM [BACKEND...]     BACKEND: uring, poll
"""
import re
import socket
import sys

from harness import DEADLINE, PROGRAM, Program, eventually, free_port, main

THREADS, CONNECTIONS = 3, 60


def serve(backend, spread):
    """How many connections each loop has served."""
    port = free_port()
    with Program([PROGRAM, "--listen", f"127.0.0.1:{port}", "--threads", str(THREADS), "--spread",
                  spread, "--backend", backend], "listens") as program:
        doors = 1 if spread == "even" else THREADS
        eventually(lambda: program.said.count("listens") == doors, "not all listen")
        guests = [socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
                  for _ in range(CONNECTIONS)]
        for i, s in enumerate(guests):
            word = b"word %d " % i * 100
            s.sendall(word)
            got = b""
            while len(got) < len(word):
                got += s.recv(65536)
            assert got == word, "another's bytes"
        for s in guests[::2 if spread == "even" else 1]:  # the others are cut off by the end
            s.close()
        assert program.stop() == 0, program.lines
        for s in guests:
            s.close()
        return [int(n) for n in re.findall(r"^per_core: loop \d served (\d+)$",
                                           "\n".join(program.lines), re.M)]


def the_system_spreads_connections(backend):
    served = serve(backend, "system")
    assert len(served) == THREADS and sum(served) == CONNECTIONS and all(served), served


def connections_are_handed_over_in_turn(backend):
    served = serve(backend, "even")
    assert served == [CONNECTIONS // THREADS] * THREADS, served


sys.exit(main([], [the_system_spreads_connections, connections_are_handed_over_in_turn],
              ["uring", "poll"], (["--listen", "127.0.0.1:0", "--threads", "1"], "listens")))

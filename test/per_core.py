#!/usr/bin/env python3
"""per_core.py - what build/per_core promises: a loop for each thread, and all of them serve.

    test/per_core.py PROGRAM [BACKEND...]     BACKEND: uring, poll
"""
import os
import re
import signal
import socket
import subprocess
import sys
import time

PROGRAM = sys.argv[1]
DEADLINE = 20.0 * float(os.environ.get("SLOW", "1"))
THREADS, CONNECTIONS = 3, 60


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


def connect(port):
    until = time.monotonic() + DEADLINE
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        except ConnectionRefusedError:
            assert time.monotonic() < until, "nobody listens"
            time.sleep(0.01)


def serve(backend, spread):
    """How many connections each loop has served."""
    port = free_port()
    process = subprocess.Popen(
        [PROGRAM, "--listen", f"127.0.0.1:{port}", "--threads", str(THREADS), "--spread", spread,
         "--backend", backend], stderr=subprocess.PIPE, text=True)
    try:
        for _ in range(1 if spread == "even" else THREADS):
            assert "listens" in process.stderr.readline()
        guests = [connect(port) for _ in range(CONNECTIONS)]
        for i, s in enumerate(guests):
            word = b"word %d " % i * 100
            s.sendall(word)
            got = b""
            while len(got) < len(word):
                got += s.recv(65536)
            assert got == word, "another's bytes"
        for s in guests[::2 if spread == "even" else 1]:  # the others are cut off by the end
            s.close()
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=DEADLINE)[1]
        assert process.returncode == 0, (process.returncode, said)
        for s in guests:
            s.close()
        return [int(n) for n in re.findall(r"^per_core: loop \d served (\d+)$", said, re.M)]
    finally:
        process.kill()
        process.wait()


def the_system_spreads_connections(backend):
    served = serve(backend, "system")
    assert len(served) == THREADS and sum(served) == CONNECTIONS and all(served), served


def connections_are_handed_over_in_turn(backend):
    served = serve(backend, "even")
    assert served == [CONNECTIONS // THREADS] * THREADS, served


def main():
    passed = failed = 0
    for backend in sys.argv[2:] or ["uring", "poll"]:
        for test in (the_system_spreads_connections, connections_are_handed_over_in_turn):
            try:
                test(backend)
                passed += 1
            except Exception as error:  # one failure costs one test
                failed += 1
                print(f"FAIL {test.__name__} ({backend}): {type(error).__name__}: {error}")
    print(f"{passed} passed, {failed} failed")
    return failed > 0


sys.exit(main())

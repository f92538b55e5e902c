#!/usr/bin/env python3
"""per_core.py PROGRAM uring|poll - what examples/per_core.c promises, seen from outside."""
import re
import signal
import socket
import subprocess
import sys

LOOPS, CONNECTIONS, PATIENCE = 3, 60, 20
passed = failed = 0


def check(what, ok, *seen):
    global passed, failed
    passed += bool(ok)
    failed += not ok
    if not ok:
        print("FAIL " + what, *seen)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def echoed(sock, data):
    sock.sendall(data)
    got = b""
    while len(got) < len(data):
        more = sock.recv(len(data) - len(got))
        if not more:
            break
        got += more
    return got == data


def run(spread):
    """Connections that all live at the same time; what was said, and how many each loop served."""
    port, listeners = free_port(), 1 if spread == "even" else LOOPS
    server = subprocess.Popen(
        [sys.argv[1], "--listen", f"127.0.0.1:{port}", "--threads", str(LOOPS), "--spread", spread,
         "--backend", sys.argv[2]], stderr=subprocess.PIPE, text=True)
    for _ in range(listeners):
        server.stderr.readline()
    socks = [socket.create_connection(("127.0.0.1", port), PATIENCE) for _ in range(CONNECTIONS)]
    for turn in range(3):
        check(f"{spread}: each connection has its echo",
              all(echoed(sock, bytes([turn, i]) * (1 + 500 * i)) for i, sock in enumerate(socks)))
    for sock in socks[::2]:
        sock.close()
    check(f"{spread}: those that end take nothing from the others",
          all(echoed(sock, b"still there") for sock in socks[1::2]))
    for sock in socks[1:-1:2]:
        sock.close()
    server.send_signal(signal.SIGTERM)  # while one is open: for a second it may go on
    check(f"{spread}: it ends when told to", server.wait(PATIENCE) == 0)
    check(f"{spread}: who is still there then is cut off", socks[-1].recv(1) == b"")
    socks[-1].close()
    said = server.stderr.read()
    server.stderr.close()
    check(f"{spread}: without a complaint",
          all(re.fullmatch(r"per_core: loop \d (listens|served \d+)", line)
              for line in said.splitlines()), said)
    return {int(loop): int(count) for loop, count in re.findall(r"loop (\d) served (\d+)", said)}


served = run("even")
check("one loop accepts, and each gets its turn",
      served == {i: CONNECTIONS // LOOPS for i in range(LOOPS)}, served)
served = run("system")
check("each loop accepts", sum(served.values()) == CONNECTIONS and len(served) == LOOPS, served)
print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)

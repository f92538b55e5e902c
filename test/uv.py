#!/usr/bin/env python3
"""uv.py PROGRAM uring|poll - what examples/uv.c promises: a takt loop inside one of libuv's."""
import re
import signal
import socket
import subprocess
import sys
import time

from harness import check, close

PATIENCE = 20


def start(*options):
    server = subprocess.Popen([sys.argv[1], "--listen", "127.0.0.1:0", "--backend", sys.argv[2],
                               *options], stderr=subprocess.PIPE, text=True)
    return server, int(re.search(r":(\d+)$", server.stderr.readline()).group(1))


def connect(port):
    return socket.create_connection(("127.0.0.1", port), PATIENCE)


def echoed(sock, data):
    sock.sendall(data)
    got = b""
    while len(got) < len(data):
        more = sock.recv(len(data) - len(got))
        if not more:
            break
        got += more
    return got == data


def cpu_ms(pid):
    with open(f"/proc/{pid}/schedstat", encoding="ascii") as file:
        return int(file.read().split()[0]) / 1e6


server, port = start()
guests = [connect(port) for _ in range(100)]
check("each connection has its echo", all(
    echoed(guest, bytes([i]) * (100 * i + 1)) for i, guest in enumerate(guests)))
check("a thousand times in a row", all(echoed(guests[0], b"ping") for _ in range(1000)))
before = cpu_ms(server.pid)
time.sleep(1.1)  # long enough for libuv's clock to tick
used = cpu_ms(server.pid) - before
check("while nothing happens it sleeps", used < 100, used)
check("and is there when something does", all(echoed(guest, b"again") for guest in guests))
for guest in guests[1:]:
    guest.close()
server.send_signal(signal.SIGTERM)
check("a signal of libuv's stops it, and who is there is cut off", guests[0].recv(1) == b"")
check("it ends well", server.wait(PATIENCE) == 0)
said = server.stderr.read()
check("libuv's clock went on all the while", re.search(r"100 guests, [1-9]\d* seconds", said), said)
server.stderr.close()

server, port = start("--idle", "100ms")
begin = time.monotonic()
with connect(port) as guest:
    check("a limit of takt's is kept while libuv has nothing to do", guest.recv(1) == b"" and
          0.1 <= time.monotonic() - begin < PATIENCE / 2, time.monotonic() - begin)
server.send_signal(signal.SIGINT)
check("it ends at once when nobody is there", server.wait(PATIENCE) == 0)
server.stderr.close()
close()

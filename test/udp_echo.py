#!/usr/bin/env python3
"""udp_echo.py PROGRAM uring|poll - what examples/udp_echo.c promises, seen from outside."""
import signal
import socket
import subprocess
import sys
import time

from harness import DEADLINE, check, close, free_port

UDP_SEGMENT = 103


def received(sock, count):
    """The next `count` datagrams, or as many as come in time."""
    got = []
    try:
        while len(got) < count:
            got.append(sock.recv(70000))
    except TimeoutError:
        pass
    return got


port = free_port()
server = subprocess.Popen([sys.argv[1], "--listen", f"0.0.0.0:{port}", "--backend", sys.argv[2]],
                          stderr=subprocess.PIPE, text=True)
server.stderr.readline()
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
    client.bind(("127.0.0.1", 0))
    client.settimeout(DEADLINE)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    for host in ("127.0.0.1", "127.0.0.9"):
        client.sendto(b"hello", (host, port))
        check(f"an answer from {host}, which was asked",
              client.recvfrom(100) == (b"hello", (host, port)))

    sent = [bytes([i % 256]) * (1200 if i % 50 < 40 else 10 + i % 7) for i in range(400)]
    got = []
    for i in range(0, len(sent), 50):
        for datagram in sent[i:i + 50]:
            client.sendto(datagram, ("127.0.0.1", port))
        got += received(client, 50)
    check("what was sent in a row comes back, each by itself and in order", got == sent)

    client.setsockopt(socket.SOL_UDP if hasattr(socket, "SOL_UDP") else 17, UDP_SEGMENT, 1000)
    client.sendto(b"a" * 30000 + b"b" * 500, ("127.0.0.1", port))
    client.setsockopt(17, UDP_SEGMENT, 0)
    check("what came joined goes back as the datagrams it was",
          received(client, 31) == [b"a" * 1000] * 30 + [b"b" * 500])

    client.sendto(b"", ("127.0.0.1", port))
    client.sendto(b"after", ("127.0.0.1", port))
    check("an empty one ends nothing", received(client, 2) == [b"", b"after"])

    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    silent.sendto(b"gone", ("127.0.0.1", port))
    silent.close()  # what comes back to it finds nobody
    time.sleep(0.05)
    client.sendto(b"still there", ("127.0.0.1", port))
    check("a peer that has gone ends nothing", received(client, 1) == [b"still there"])
    server.send_signal(signal.SIGTERM)
    check("it ends when told to", server.wait(5) == 0)
server.stderr.close()
close()

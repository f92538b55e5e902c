#!/usr/bin/env python3
"""enet.py PROGRAM HIDDEN PEER uring|poll - examples/enet.c talks to a program that uses ENet alone.

HIDDEN is PROGRAM built with -fvisibility=hidden: ENet does not find what takes its place there.
"""
import concurrent.futures
import heapq
import random
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from harness import check, close

PROGRAM, HIDDEN, PEER, BACKEND = sys.argv[1:]
PATIENCE = 60


class Lossy(threading.Thread):
    """A way to a port on which datagrams are lost, doubled, and overtake one another; the same
    ones in each run, as far as the peers do the same."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.front = self.bound()
        self.port, self.to = self.front.getsockname()[1], ("127.0.0.1", port)
        self.clients, self.lost, self.doubled = {}, 0, 0
        self.random = random.Random(5)
        self.over = False
        self.start()

    @staticmethod
    def bound():
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind(("127.0.0.1", 0))
        return made

    def run(self):
        late, number = [], 0
        while not self.over:
            ready = select.select([self.front, *self.clients.values()], [], [], 0.005)[0]
            for one in ready:
                data, source = one.recvfrom(65536)
                if one is self.front and source not in self.clients:
                    self.clients[source] = self.bound()
                out = (self.clients[source], self.to) if one is self.front else \
                    (self.front, next(who for who, s in self.clients.items() if s is one))
                dice = self.random.random()
                self.lost += dice < 0.05
                self.doubled += 0.05 <= dice < 0.1
                for _ in range(0 if dice < 0.05 else 2 if dice < 0.1 else 1):
                    number += 1
                    wait = 0.01 if self.random.random() < 0.1 else 0
                    heapq.heappush(late, (time.monotonic() + wait, number, out, data))
            while late and late[0][0] <= time.monotonic():
                _, _, (sock, to), data = heapq.heappop(late)
                sock.sendto(data, to)


def server(*command):
    """A started server, and its port."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return process, int(re.search(r"\d+", process.stdout.readline()).group())


def ask(port, peers, rounds):
    done = subprocess.run([PEER, "ask", str(port), str(peers), str(rounds)], timeout=PATIENCE,
                          stdout=subprocess.PIPE, text=True)
    reliable, others, wrong = (int(n) for n in re.findall(r"\d+", done.stdout))
    return done.returncode == 0 and wrong == 0 and reliable == 60 * peers * rounds and \
        others > 0, done.stdout


def connect(port):
    done = subprocess.run([PROGRAM, "--connect", f"127.0.0.1:{port}", "--backend", BACKEND],
                          timeout=PATIENCE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True)
    return done.returncode == 0 and "200 of 200 packets" in done.stdout, done.stdout


pool = concurrent.futures.ThreadPoolExecutor()  # bad lines take time, which is not for waiting
takt, port = server(PROGRAM, "--listen", "127.0.0.1:0", "--backend", BACKEND)
peer, peers_port = server(PEER, "serve")
lines = Lossy(port), Lossy(peers_port)
asked, asks = pool.submit(ask, lines[0].port, 1, 1), pool.submit(connect, lines[1].port)

check("what an ENet program sends comes back", *ask(port, 1, 3))
check("so it does to eight at a time", *ask(port, 8, 1))
check("a takt program and a takt program", *connect(port))
check("it asks an ENet program", *connect(peers_port))
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
    for junk in (b"", b"x", b"\xff" * 60, b"\0" * 5000, random.Random(1).randbytes(4000)):
        stranger.sendto(junk, ("127.0.0.1", port))
check("where datagrams are lost, doubled, and come late, too", *asked.result(PATIENCE))
check("also when it asks", *asks.result(PATIENCE))
for line in lines:
    line.over = True
    check("and they were", line.lost > 10 and line.doubled > 3, line.lost, line.doubled)
peer.terminate()
peer.wait(PATIENCE)
peer.stdout.close()

guest = subprocess.Popen([PEER, "stay", str(port)], stdout=subprocess.PIPE, text=True)
guest.stdout.readline()
takt.send_signal(signal.SIGTERM)
check("guests are seen off", guest.wait(PATIENCE) == 0)
check("it ends when told to", takt.wait(PATIENCE) == 0)
guest.stdout.close()
check("and has kept count", re.search("1[34] visits", said := takt.stdout.read()), said)
takt.stdout.close()

idle, _ = server(PROGRAM, "--listen", "127.0.0.1:0", "--backend", BACKEND)
idle.terminate()
check("it ends also when nobody came", idle.wait(PATIENCE) == 0)
idle.stdout.close()
refused = subprocess.run([HIDDEN, "--listen", "127.0.0.1:0", "--backend", BACKEND],
                         timeout=PATIENCE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                         text=True)
check("where ENet does not find it, it says so", refused.returncode == 1 and
      "not supported" in refused.stdout, refused)
close()

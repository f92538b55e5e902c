#!/usr/bin/env python3
"""game.py SERVER CLIENT uring|poll PLAYERS - what examples/game.c promises, seen from outside.

SERVER serves what is done by hand in here and few players of CLIENT's; then CLIENT serves, and
plays, PLAYERS: 1140 find a seat.
"""
import re
import signal
import socket
import struct
import subprocess
import sys

from harness import check, close, free_port

HELLO, COOKIE, WELCOME, INPUT, SNAPSHOT, LEAVE, BYE, THANKS = range(8)
LEFT, TIMED_OUT, KICKED, CLOSING, FULL, NO_ANSWER = range(6)
SEATS, STAND, CHEAT = 1140, 4, 9


def numbers(text):
    """What stands before each number in what a program has said."""
    return {name.strip(): int(number)
            for name, number in re.findall(r"([a-zA-Z ]+) (\d+)", text.replace("game:", ","))}


class Server:
    def __init__(self, program, timeout):
        self.port = free_port()
        self.process = subprocess.Popen(
            [program, "--listen", f"0.0.0.0:{self.port}", "--timeout", f"{timeout}ms",
             "--backend", sys.argv[3]], stderr=subprocess.PIPE, text=True)
        self.process.stderr.readline()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        said = self.process.communicate(timeout=20)[1]
        check("it ends when told to", self.process.returncode == 0, said)
        return numbers(said)


def client(program, port, players, seconds):
    done = subprocess.run([program, "--client", f"127.0.0.1:{port}", "--players", str(players),
                           "--seconds", str(seconds), "--backend", sys.argv[3]],
                          stderr=subprocess.PIPE, text=True, timeout=60)
    return done.returncode, numbers(done.stderr), done.stderr


class Player:
    """One that says what the test tells it to."""

    def __init__(self, port, host="127.0.0.1"):
        self.server = (host, port)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(5)
        self.cookie = self.number = 0

    def say(self, kind, way=STAND):
        self.number = (self.number + 1) % 128
        self.socket.sendto(struct.pack("=BBBBIQ", kind, self.number, way, 0, 0, self.cookie),
                           self.server)

    def hear(self, *kinds):
        """The next datagram of these kinds: kind, reason, slot, cookie, length."""
        while True:
            data, address = self.socket.recvfrom(2000)
            check("it speaks from the address that was asked", address == self.server, address)
            if data[0] in kinds:
                return (data[0], *struct.unpack("=BIQ", data[3:16].ljust(13)), len(data))

    def join(self):
        self.cookie = 0
        self.say(HELLO)
        self.cookie = self.hear(COOKIE)[3]
        self.say(HELLO)
        return self.hear(WELCOME)

    def told(self, reason):
        """To go; whatever it is told beside that."""
        while self.hear(BYE)[1] != reason:
            pass
        return True


def by_hand(server):
    """Joins and goodbyes; returns how many have joined."""
    one, far, thief = Player(server.port), Player(server.port, "127.0.0.9"), Player(server.port)
    first = one.join()
    check("a cookie that is returned is a seat", first[0] == WELCOME)
    one.say(HELLO)
    check("and the same if the welcome was lost", one.hear(WELCOME) == first)
    check("another has another", far.join()[:3] == (WELCOME, 0, first[2] + 1))
    far.say(INPUT)
    check("who plays is told of the world", far.hear(SNAPSHOT)[0] == SNAPSHOT)
    far.say(INPUT)
    thief.cookie = one.cookie
    thief.say(HELLO)
    check("a cookie is good for one address", thief.hear(COOKIE, WELCOME)[0] == COOKIE)

    one.say(INPUT, CHEAT)
    check("who cheats is kicked", one.told(KICKED))
    check("and told again until he thanks", one.told(KICKED))
    one.say(THANKS)
    far.say(INPUT)
    far.say(LEAVE)
    check("who leaves is let go", far.told(LEFT))
    far.say(THANKS)
    check("who is gone may come again", one.join()[0] == WELCOME)
    check("who is silent is put out", one.told(TIMED_OUT))
    one.say(THANKS)
    return 3


def nonsense(server):
    """What nobody should say; returns how much of it there was."""
    one = Player(server.port)
    count = 0
    for size in (0, 1, 15, 17, 100, 300, 1200):
        one.socket.sendto(bytes([INPUT]) * size, one.server)
        count += 1
    for kind in (*range(COOKIE, THANKS + 1), 77, 255):
        one.say(kind)
        count += 1
    one.say(HELLO)
    check("nonsense is not answered, and does no harm", one.hear(*range(256))[0] == COOKIE)
    one.cookie = 12345
    for _ in range(1000):  # as a flood of forged ones would
        one.say(HELLO)
    answers = [one.hear(COOKIE, WELCOME, BYE) for _ in range(100)]
    check("a flood of hellos gets cookies, no seats", all(a[0] == COOKIE for a in answers))
    check("and no more bytes than it sends", all(a[4] == 16 for a in answers))
    return count


def few():
    server = Server(sys.argv[1], 800)
    strange = nonsense(server)
    joined = by_hand(server)
    code, got, said = client(sys.argv[2], server.port, 8, 1)
    check("eight play, and see what they should", code == 0 and got["wrong"] == 0, said)
    check("each goes its way", [got[end] for end in ("joined", "left", "timed out", "kicked")]
          == [8, 6, 1, 1], said)
    last = Player(server.port)
    check("there is room again", last.join()[:3] == (WELCOME, 0, 0))
    last.say(INPUT)
    last.hear(SNAPSHOT)
    server.process.send_signal(signal.SIGTERM)
    check("whoever still plays is told that it closes", last.told(CLOSING))
    last.say(HELLO)
    late = last.hear(WELCOME, BYE)
    last.say(THANKS)
    check("nobody new is let in then", late[0] == BYE or late[2] == 0, late)
    said = server.stop()
    check("all is counted", [said[end] for end in ("joined", "left", "timed out", "kicked",
                                                   "closed", "strange", "dropped")]
          == [joined + 9, 7, 2, 2, 1, strange, 0], said)


def many(players):
    server = Server(sys.argv[2], 2000)
    seats = min(players, SEATS)
    code, got, said = client(sys.argv[2], server.port, players, 2)
    full = players - seats
    check(f"{players} play", got["joined"] == seats and got["full"] == full, said)
    check("and see what they should", got["wrong"] == 0 and got["surprises"] == full, said)
    check("by its exit it tells", code == (full > 0))
    check("each goes its way", [got[end] for end in ("timed out", "kicked", "no answer")]
          == [1, 1, 0], said)
    said = server.stop()
    check("no datagram was dropped", said["dropped"] == 0, said)
    check("all went", said["joined"] == seats == said["left"] + 2, said)
    print(f"{players} players: {said['ticks']} ticks, {said['missed']} missed")


def nobody():
    """Players that cannot even ask are told of, too."""
    done = subprocess.run([sys.argv[1], "--client", "unix:/nowhere", "--players", "3", "--backend",
                           sys.argv[3]], stderr=subprocess.PIPE, text=True, timeout=60)
    check("who does not get through is told of", done.returncode == 1 and
          numbers(done.stderr).get("no answer") == 3, done.stderr)


nobody()
few()
many(int(sys.argv[4]))
close()

#!/usr/bin/env python3
"""chat.py - what build/chat promises, seen by its guests.

    test/chat.py PROGRAM [BACKEND...]     BACKEND: uring, poll

Everything waits for an event with a deadline; nothing sleeps for luck. ONLY=word runs the
tests whose names contain the word.
"""
import re
import signal
import socket
import struct
import sys
import threading

from harness import DEADLINE, PROGRAM, SLOW, Program, eventually, main, run

GUESTS, DOOR, LINE = 50, 8, 256  # as in examples/chat.c


class Chat(Program):
    def __init__(self, backend, *options):
        super().__init__([PROGRAM, "--listen", "127.0.0.1:0", "--backend", backend, *options],
                         "^chat: listening on ")
        self.port = int(re.match(r"chat: listening on 127\.0\.0\.1:(\d+)$", self.ready).group(1))
        self.guests = []

    def stop(self):
        for guest in self.guests:  # or each would be waited for
            guest.close()
        return super().stop()


class Guest:
    """One who has come in, unless `greeted` is False: then the first line is still unread."""
    def __init__(self, chat, nick=None, greeted=True, rcvbuf=0):
        self.socket = socket.socket()
        if rcvbuf:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.socket.settimeout(DEADLINE)
        self.socket.connect(("127.0.0.1", chat.port))
        chat.guests.append(self)
        self.data = b""
        if greeted:
            self.name = re.match(r"\* welcome, (guest\d+);", self.line()).group(1)
        if nick:
            self.say(f"/nick {nick}")
            assert self.skip_to("* you are now ") == f"* you are now {nick}"
            self.name = nick

    def say(self, text):
        self.socket.sendall(text.encode() + b"\n")

    def line(self):
        """The next line; None at the end."""
        while b"\n" not in self.data:
            more = self.socket.recv(65536)
            if not more:
                assert self.data == b"", f"it ends inside a line: {self.data!r}"
                return None
            self.data += more
        line, self.data = self.data.split(b"\n", 1)
        return line.decode()

    def skip_to(self, start):
        """The next line that begins so."""
        while True:
            line = self.line()
            assert line is not None, f"no line begins with {start!r}"
            if line.startswith(start):
                return line

    def rest(self):
        """All lines up to a clean end."""
        return list(iter(self.line, None))

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self):
        self.socket.close()


def together(work, items):
    """work(item) of all items at the same time; what they return, in order."""
    out = [AssertionError("it did not return")] * len(items)

    def one(i):
        try:
            out[i] = work(items[i])
        except Exception as error:
            out[i] = error
    threads = [threading.Thread(target=one, args=(i,), daemon=True) for i in range(len(items))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(3 * DEADLINE)
    for result in out:
        if isinstance(result, Exception):
            raise result
    return out


# -- the tests ------------------------------------------------------------------

def each_line_reaches_all_others_once_and_in_order(backend):
    lines = 40
    with Chat(backend) as chat:
        guests = [Guest(chat) for _ in range(GUESTS)]

        def talk(guest):
            for k in range(0, lines, 8):  # eight in one segment
                guest.say("\n".join(str(k + i) for i in range(8)))

        def listen(guest):
            heard = {}
            while sum(map(len, heard.values())) < (GUESTS - 1) * lines:
                line = guest.line()
                if not line.startswith("* "):
                    who, what = line.split(": ")
                    heard.setdefault(who, []).append(int(what))
            return heard
        for guest in guests:  # while nobody reads
            talk(guest)
        heard = together(listen, guests)
        for guest, what in zip(guests, heard):
            assert set(what) == {g.name for g in guests} - {guest.name}, guest.name
            assert all(list(range(lines)) == said for said in what.values()), guest.name
        chat.process.send_signal(signal.SIGTERM)
        for guest in guests:  # nothing came twice
            assert guest.rest() == ["* the server closes: goodbye"]
            guest.close()
        assert chat.ended() == 0


def the_fifty_first_is_refused_in_words(backend):
    with Chat(backend) as chat:
        guests = [Guest(chat) for _ in range(GUESTS)]
        for _ in range(3):
            late = Guest(chat, greeted=False)
            late.say("I am not heard" * 50_000)  # unread at the close, this would be a reset
            assert late.rest() == ["* all places are taken: goodbye"]
            late.close()
        guests[0].close()
        guests[1].skip_to(f"* {guests[0].name} has left")
        again = Guest(chat)  # its place is free at once
        again.say("I am")
        while not (line := guests[1].line()).startswith(again.name):
            assert "not heard" not in line
        assert line == f"{again.name}: I am"
        assert chat.stop() == 0


def even_a_crowd_at_the_door_ends_well(backend):
    with Chat(backend) as chat:
        guests = [Guest(chat) for _ in range(GUESTS)]
        before = chat.descriptors()
        crowd = [Guest(chat, greeted=False) for _ in range(4 * DOOR)]
        for late in crowd:  # told so, or closed at once: but nobody is let hang
            try:
                assert late.rest() in ([], ["* all places are taken: goodbye"])
            except ConnectionError:
                pass
        for late in crowd:
            late.close()
        eventually(lambda: chat.descriptors() == before, "descriptors are left")
        guests[0].say("still here")
        assert guests[1].skip_to("guest1:") == "guest1: still here"
        assert chat.stop() == 0


def a_stalled_reader_delays_nobody_and_is_put_out(backend):
    with Chat(backend) as chat:
        talker, listener = Guest(chat, "talker"), Guest(chat, "listener")
        stalled = Guest(chat, "stalled", rcvbuf=4096)
        listener.skip_to("* guest3 is now stalled")
        talker.skip_to("* guest3 is now stalled")
        before = chat.memory_kb()
        with open("/proc/sys/net/ipv4/tcp_wmem", encoding="ascii") as f:
            kept = int(f.read().split()[2]) + 4_000_000  # bytes: more than the kernel keeps
        lines = kept // 25_000 * 100
        thread = threading.Thread(
            target=lambda: [talker.say("\n".join(f"{k + i:06} {'x' * 240}" for i in range(100)))
                            for k in range(0, lines, 100)], daemon=True)
        thread.start()
        left, grown = False, 0
        for i in range(lines):
            line = listener.line()
            if line == "* stalled has left":
                left, line = True, listener.line()
            assert line.startswith(f"talker: {i:06} x"), line[:40]
            if i % 1000 == 0:
                grown = max(grown, chat.memory_kb() - before)
        thread.join(DEADLINE)
        assert left
        assert talker.line() == "* stalled has left"
        # three outboxes and letters, and what an allocator and the kernel's queues take
        slack = 8192 if PROGRAM.endswith(".san") else 1024
        assert grown < 3 * 110 + slack, grown
        for i in range(lines):  # what it has still got is a beginning, without a gap
            try:
                line = stalled.line()
            except (ConnectionError, AssertionError):
                break
            if line is None:
                break
            assert line.startswith(f"talker: {i:06} x"), line[:40]
        assert 0 < i < lines
        assert chat.stop() == 0


def a_line_that_is_too_long_is_dropped_and_its_author_told(backend):
    with Chat(backend) as chat:
        one, other = Guest(chat), Guest(chat)
        one.line()
        one.say("a" * LINE)
        one.say("b" * (LINE + 1))
        assert one.line() == f"* at most {LINE} bytes a line: yours was dropped"
        before = chat.memory_kb()
        one.say("c" * 5_000_000)
        assert one.line() == f"* at most {LINE} bytes a line: yours was dropped"
        assert chat.memory_kb() - before < 512
        one.say("/quit" + "d" * LINE)
        assert one.line() == f"* at most {LINE} bytes a line: yours was dropped"
        one.say("short again")
        assert [other.line(), other.line()] == [f"guest1: {'a' * LINE}", "guest1: short again"]
        assert chat.stop() == 0


def a_line_is_a_line_however_it_arrives(backend):
    with Chat(backend) as chat:
        one, other = Guest(chat), Guest(chat)
        one.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"byte by byte\r\n":
            one.socket.sendall(bytes([byte]))
        one.socket.sendall(b"two\nin one\nand \x1b[2Jhalf")
        one.socket.sendall(b" of\n\n\r\n\nthe last\n")
        assert [other.line() for _ in range(5)] == [
            "guest1: byte by byte", "guest1: two", "guest1: in one",
            "guest1: and [2Jhalf of", "guest1: the last"]
        assert chat.stop() == 0


def half_a_close_is_answered_to_the_end(backend):
    with Chat(backend) as chat:
        one, other = Guest(chat), Guest(chat)
        one.line()
        one.socket.sendall(b"before\n/who\nunfinished")
        one.socket.shutdown(socket.SHUT_WR)
        assert one.rest() == ["* guest1 is here", "* guest2 is here",
                              "* you have hung up: goodbye"]
        assert [other.line(), other.line()] == ["guest1: before", "* guest1 has left"]
        assert chat.stop() == 0


def quit_is_the_last_word(backend):
    with Chat(backend) as chat:
        one, other = Guest(chat), Guest(chat)
        one.line()
        one.socket.sendall(b"bye\n/quit\nnot said\n/who\n")
        assert one.rest() == ["* as you wish: goodbye"]
        one.close()
        assert [other.line(), other.line()] == ["guest1: bye", "* guest1 has left"]
        other.say("/quit")
        assert other.line() == "* as you wish: goodbye"
        assert chat.stop() == 0


def a_reset_costs_that_guest_alone(backend):
    with Chat(backend) as chat:
        guests = [Guest(chat) for _ in range(6)]
        before = chat.descriptors()
        for guest in guests[2:]:
            guest.say("here")
        for guest in guests[2:]:
            guest.reset()
        left = set()
        while len(left) < 4:
            line = guests[0].line()
            if line.endswith(" has left"):
                left.add(line)
        assert left == {f"* {guest.name} has left" for guest in guests[2:]}
        guests[1].say("still here")
        assert guests[0].skip_to("guest2: ") == "guest2: still here"
        eventually(lambda: chat.descriptors() == before - 4, "descriptors are left")
        assert chat.stop() == 0


def names_are_unique_and_announced(backend):
    with Chat(backend) as chat:
        one, other = Guest(chat), Guest(chat)
        assert one.line() == "* guest2 has come"
        one.say("/nick ann")
        assert one.line() == "* you are now ann"
        assert other.line() == "* guest1 is now ann"
        other.say("/nick ann")
        assert other.line() == "* ann is taken"
        other.say("/nick guest2")
        assert other.line() == "* guest2 is taken"
        for bad in ("", "a b", "x" * 16, "new\tname!", "ann:"):
            other.say(f"/nick {bad}")
            assert other.line() == "* a name is 1 to 15 letters and digits", bad
        other.say("/nick " + "x" * 15)
        assert other.line() == "* you are now " + "x" * 15
        assert one.line() == "* guest2 is now " + "x" * 15
        other.say("/dance")
        assert other.line() == "* there are /nick NAME, /who and /quit"
        one.say("/who")
        assert [one.line(), one.line()] == ["* ann is here", f"* {'x' * 15} is here"]
        one.close()
        assert other.line() == "* ann has left"
        other.say("/nick ann")  # free again
        assert other.line() == "* you are now ann"
        other.say("/nick guest3")
        assert other.line() == "* you are now guest3"
        third = Guest(chat)
        assert third.name not in ("guest3", "ann")
        assert chat.stop() == 0


def silence_ends_a_visit_and_talk_does_not(backend):
    with Chat(backend, "--idle", f"{max(1, int(SLOW))}s") as chat:
        silent, busy = Guest(chat), Guest(chat)
        done = threading.Event()

        def talk():
            while not done.is_set():
                busy.say("still here")
                done.wait(0.1)
        thread = threading.Thread(target=talk, daemon=True)
        thread.start()
        assert silent.rest()[-1] == "* timed out: goodbye"
        silent.close()
        assert busy.skip_to("* guest") == "* guest1 has left"
        busy.say("/who")
        assert busy.line() == "* guest2 is here"
        done.set()
        thread.join(DEADLINE)
        assert chat.stop() == 0


def a_signal_says_goodbye_to_all(backend):
    for number in (signal.SIGTERM, signal.SIGINT):
        with Chat(backend) as chat:
            guests = [Guest(chat) for _ in range(GUESTS)]
            chat.process.send_signal(number)
            for guest in guests:
                assert guest.rest()[-1] == "* the server closes: goodbye"
            for guest in guests:  # only then do they hang up: nothing is taken back
                guest.close()
            assert chat.ended() == 0
            assert len(chat.lines) == 1, chat.lines


def the_drain_ends_though_guests_do_not_hang_up(backend):
    with Chat(backend) as chat:
        polite, talkative, stalled = Guest(chat), Guest(chat), Guest(chat, rcvbuf=4096)
        done = threading.Event()

        def talk():
            try:
                while not done.is_set():
                    talkative.say("x" * 200)
            except OSError:
                pass
        thread = threading.Thread(target=talk, daemon=True)
        thread.start()
        polite.skip_to("guest2: x")
        chat.process.send_signal(signal.SIGTERM)
        assert chat.ended() == 0
        done.set()
        assert polite.rest()[-1] == "* the server closes: goodbye"
        thread.join(DEADLINE)
        stalled.close()


def guests_that_come_and_go_leave_nothing_behind(backend):
    with Chat(backend) as chat:
        def visit(seed):
            for i in range(20):
                guest = Guest(chat, greeted=False)
                try:
                    guest.say(f"/nick n{seed}x{i}\nhello\n/who" + "\n/quit" * (i % 2))
                    if i % 3 == 0:
                        guest.reset()
                    elif i % 3 == 1:
                        guest.rest() if i % 2 else guest.line()
                        guest.close()
                    else:
                        guest.socket.shutdown(socket.SHUT_WR)
                        guest.rest()
                        guest.close()
                except ConnectionError:
                    pass
        before = chat.descriptors()
        together(visit, range(20))
        eventually(lambda: chat.descriptors() == before, "descriptors are left")
        memory = chat.memory_kb()
        together(visit, range(20))
        eventually(lambda: chat.descriptors() == before, "descriptors are left")
        assert chat.memory_kb() <= memory + 4096, (memory, chat.memory_kb())
        last = Guest(chat)
        last.say("/who")
        assert last.line() == f"* {last.name} is here"
        assert chat.stop() == 0


def arguments_are_checked(backend):
    for idle in ("0", "0s", "-1s", "1", "1d"):
        out = run(["--listen", "127.0.0.1:0", "--backend", backend, "--idle", idle])
        assert out.returncode == 2 and "--idle " + idle in out.stderr, (idle, out)


TESTS = [each_line_reaches_all_others_once_and_in_order, the_fifty_first_is_refused_in_words,
         even_a_crowd_at_the_door_ends_well, a_stalled_reader_delays_nobody_and_is_put_out,
         a_line_that_is_too_long_is_dropped_and_its_author_told,
         a_line_is_a_line_however_it_arrives, half_a_close_is_answered_to_the_end,
         quit_is_the_last_word, a_reset_costs_that_guest_alone, names_are_unique_and_announced,
         silence_ends_a_visit_and_talk_does_not, a_signal_says_goodbye_to_all,
         the_drain_ends_though_guests_do_not_hang_up,
         guests_that_come_and_go_leave_nothing_behind, arguments_are_checked]


sys.exit(main([], TESTS, ["uring", "poll"], (["--listen", "127.0.0.1:0"], "listening")))

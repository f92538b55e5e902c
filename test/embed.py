#!/usr/bin/env python3
"""embed.py PROGRAM uring|poll - what examples/embed.c promises, seen from outside."""
import os
import signal
import socket
import subprocess
import sys

from harness import check, close


def start():
    return subprocess.Popen([sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True,
                            env={**os.environ, "TAKT_BACKEND": sys.argv[2]})


with socket.create_server(("127.0.0.1", 0)) as greeter, \
        socket.create_server(("127.0.0.1", 0), backlog=300) as mute, \
        socket.socket() as closed:
    closed.bind(("127.0.0.1", 0))  # and does not listen
    host = start()
    host.stdin.write("127.0.0.1:%d\n" % greeter.getsockname()[1])
    host.stdin.flush()
    guest = greeter.accept()[0]
    guest.sendall(b"hello, who are you?\r\n")
    check("it answers while the keyboard is open", host.stdout.readline() ==
          "127.0.0.1:%d hello, who are you?\n" % greeter.getsockname()[1])
    guest.close()
    lines = ["127.0.0.1:%d" % mute.getsockname()[1]] * 200 + ["nonsense"] + \
        ["127.0.0.1:%d" % closed.getsockname()[1]] * 100  # more than there are probes
    said, told = host.communicate("\n".join(lines) + "\n" + "x" * 9000 + "\n[::1]:1", timeout=20)
    check("each line has its answer", sorted(line.split(" ", 1)[1] for line in said.splitlines()
          if not line.startswith(("x", "[::1]"))) == sorted(
              ["connection refused: nobody listens there"] * 100 + ["is open"] * 200 +
              ["is no ADDRESS:PORT"]), said[-300:])
    check("the last needs no end", "\n[::1]:1 " in said, said[-300:])
    check("it ends with what is typed", host.returncode == 0, told)

    said, told = start().communicate("nonsense\n", timeout=20)
    check("nothing comes of the end of the last line", said == "nonsense is no ADDRESS:PORT\n",
          said)
    check("nor of nothing", start().communicate("", timeout=20)[0] == "")

    host = start()
    host.stdin.write("127.0.0.1:%d\n" % greeter.getsockname()[1])
    host.stdin.flush()
    greeter.accept()[0].close()
    check("who hangs up is there", host.stdout.readline().endswith(" is open\n"))
    check("a clock of the host's runs", host.stderr.readline().startswith("embed: 1 s"))
    host.send_signal(signal.SIGTERM)
    check("it ends when told to", host.wait(5) == 0)
    host.communicate()
close()

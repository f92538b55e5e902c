#!/usr/bin/env python3
"""options.py BUILD [EXAMPLE...] - what all examples in the directory BUILD have in common: their
command line, what they say when they cannot start, and that a signal right after they have said
that they are ready ends them well."""
import os
import re
import resource
import signal
import socket
import subprocess
import sys

from harness import check, close, free_port

LIMIT = 20 * float(os.environ.get("SLOW", "1"))
LISTEN = ["--listen", "127.0.0.1:{port}"]
EXAMPLES = {  # what each needs to run; what its ready line has in it
    "chat": (LISTEN, "listening"), "echo": (LISTEN, "listening"), "embed": ([], None),
    "enet": (LISTEN, "port"), "game": (LISTEN, "ready"), "http": (LISTEN, "listening"),
    "per_core": (LISTEN, "loop 0 listens"), "resolve": (["127.0.0.1"], None),
    "proxy": ([*LISTEN, "--upstream", "127.0.0.1:9"], "->"),
    "relay": (["--map", "tcp:127.0.0.1:{port}=127.0.0.1:9"], "ready"),
    "udp_echo": (LISTEN, "ready"), "uv": (LISTEN, "listening")}


def words(name, port):
    return [word.format(port=port) for word in EXAMPLES[name][0]]


def run(name, *options, **env):
    """Its exit status, stdout and stderr; (None, ...) if it does not end."""
    try:
        done = subprocess.run([os.path.join(BUILD, name), *options], capture_output=True,
                              text=True, timeout=LIMIT, stdin=subprocess.DEVNULL, check=False,
                              env={**os.environ, **env})
        return done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired as late:
        return None, "", str(late.stderr)


def is_told(told, *wanted):
    """One line on stderr, with all that is wanted, and status 2."""
    status, out, err = told
    return status == 2 and out == "" and err.count("\n") == 1 and err.endswith("; see --help\n") \
        and all(word in err for word in wanted)


def command_line(name):
    status, out, err = told = run(name, "--help", TAKT_BACKEND="nonsense")
    check(f"{name} --help is answered on stdout", status == 0 and err == "" and
          out.startswith(f"usage: {name} "), told)
    for option in re.findall(r"^  (--[a-z-]+)", out, re.M):
        if option not in ("--quiet", "--sandbox", "--sandbox-kill"):
            told = run(name, option)
            check(f"{name} {option}: a value is missed", is_told(told, name + ":", option), told)
            told = run(name, option, "n%sense")
            check(f"{name} {option}: a bad value is named", is_told(
                told, name + ":", option, "n%sense"), told)
    check(f"{name} names --backend", "--backend" in out, out)
    told = run(name, "--frobnicate", "1")
    check(f"{name}: an option that there is not", is_told(told, name + ":", "--frobnicate"), told)
    told = run(name, *words(name, 0), TAKT_BACKEND="nonsense")
    check(f"{name} reads the environment", is_told(told, name + ":", "TAKT_BACKEND"), told)
    if EXAMPLES[name][0]:
        told = run(name)
        check(f"{name}: without what it needs", is_told(told, name + ":", "needed"), told)


def taken(name):
    port = free_port()
    with socket.create_server(("127.0.0.1", port)), \
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", port))
        for more in ([], ["--spread", "even"]) if name == "per_core" else ([],):
            status, out, err = told = run(name, *words(name, port), *more)
            check(f"{name} {more}: a port that is taken is the end", status == 1 and
                  "in use" in err and not re.search(r"\bready", err), told)


def few_descriptors(name):
    """It serves, or says why it cannot: it does not fall over."""
    def prepare():
        resource.setrlimit(resource.RLIMIT_NOFILE, (7, 7))
    with subprocess.Popen([os.path.join(BUILD, name), *words(name, 0)], stderr=subprocess.PIPE,
                          text=True, preexec_fn=prepare) as process:
        said = process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        said += process.communicate(timeout=LIMIT)[1]
        check(f"{name} with seven descriptors", process.returncode in (0, 1, -signal.SIGTERM) and
              said, process.returncode, said)


def signals(name):
    for number in (signal.SIGTERM, signal.SIGINT) * 2:
        with subprocess.Popen([os.path.join(BUILD, name), *words(name, 0)],
                              stderr=subprocess.PIPE, text=True) as process:
            lines = []
            while not lines or EXAMPLES[name][1] not in lines[-1]:
                lines.append(process.stderr.readline())
                if not lines[-1]:
                    break
            process.send_signal(number)
            try:
                said = process.communicate(timeout=LIMIT)[1]
            except subprocess.TimeoutExpired:
                process.kill()
                said = "it does not end"
            check(f"{name} ends by {number.name}, however early", process.returncode == 0,
                  process.returncode, lines, said)


BUILD = sys.argv[1]
for example in sys.argv[2:] or EXAMPLES:
    if not os.path.exists(os.path.join(BUILD, example)):
        print(f"{example} was not built")
        continue
    command_line(example)
    if EXAMPLES[example][1]:
        taken(example)
        few_descriptors(example)
        signals(example)
close()

#!/bin/sh
# gdb.sh - a dead process tells where everything stood.
#
# A program with coroutines in every kind of wait prints takt_dump() and aborts. What
# test/takt-gdb.py reads from the core file must be the same lines, and so must what it reads
# from the process itself, stopped in its abort().
set -u
root=$(cd "$(dirname "$0")/.." && pwd) || exit 1
passed=0
failed=0
skip() {
    echo "$1"
    exit 77
}
command -v gdb > /dev/null || skip "gdb is not there"
gdb -nx -batch -ex 'python print(1)' 2>&1 | grep -qx 1 || skip "this gdb has no python"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

cat > "$scratch/stuck.c" <<'END'
#define TAKT_IMPLEMENTATION
#include "takt.h"
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>

TAKT_LOOP(net, takt_posix);
static net loop;
static int pair[2];
static takt_event event;
static takt_bufs bufs;

struct nap { takt_frame frame; };
static TAKT_CORO(nap)
{
    TAKT_BEGIN(nap, my);
    TAKT_AWAIT(takt_sleep(600 * TAKT_SEC));
    TAKT_END;
}

struct reading { takt_frame frame; char c; };
static TAKT_CORO(reading)
{
    TAKT_BEGIN(reading, my);
    TAKT_AWAIT(takt_within(90 * TAKT_SEC, takt_recv(pair[0], &my->c, 1)));
    TAKT_END;
}

struct waiting { takt_frame frame; };
static TAKT_CORO(waiting)
{
    TAKT_BEGIN(waiting, my);
    TAKT_AWAIT(takt_event_wait(&event));
    TAKT_END;
}

struct batch { takt_frame frame; takt_op ops[3]; unsigned char *data; };
static TAKT_CORO(batch)
{
    TAKT_BEGIN(batch, my);
    my->ops[0] = takt_nop();
    my->ops[1] = takt_recv_lease(pair[1], &bufs, &my->data);
    my->ops[2] = takt_within(70 * TAKT_SEC, takt_event_wait(&event));
    TAKT_AWAIT_ALL(my->ops, 3);
    TAKT_END;
}

struct racing { takt_frame frame; int winner; struct nap a; struct waiting b; };
static TAKT_CORO(racing)
{
    TAKT_BEGIN(racing, my);
    TAKT_START(my->a, nap);
    TAKT_START(my->b, waiting);
    TAKT_RACE(my->winner, my->a, my->b);
    TAKT_END;
}

struct scoped { takt_frame frame; takt_idle idle; struct racing racing; };
static TAKT_CORO(scoped)
{
    TAKT_BEGIN(scoped, my);
    takt_idle_start(&my->frame, &my->idle, 50 * TAKT_SEC);
    TAKT_CALL_WITHIN(30 * TAKT_SEC, my->racing, racing);
    TAKT_END;
}

struct leaver { takt_frame frame; takt_semaphore none; };
static TAKT_CORO(leaver)
{
    TAKT_BEGIN(leaver, my);
    TAKT_DEFER { TAKT_AWAIT(takt_acquire(&my->none)); }
    TAKT_THROW(-EPROTO);
    TAKT_END;
}

struct tree { takt_frame frame; struct reading reading; takt_group group; bool there; };
static TAKT_CORO(tree)
{
    TAKT_BEGIN(tree, my);
    my->there = TAKT_GO(my->group, nap);
    TAKT_CALL(my->reading, reading);
    TAKT_END;
}

struct last { takt_frame frame; struct waiting told; };
static TAKT_CORO(last)
{
    TAKT_BEGIN(last, my);
    TAKT_START(my->told, waiting);
    TAKT_AWAIT(takt_sleep(20 * TAKT_MS));
    if (!TAKT_SPAWN(nap))
        TAKT_RETURN;
    takt_cancel(&my->told.frame);
    (void)takt_now(&my->frame);
    takt_dump(takt_sched_of(&my->frame));
    raise(SIGABRT);
    TAKT_END;
}

struct tree tree;
struct batch batch;
struct scoped scoped;
struct leaver leaver;
struct last last;
takt_group outside;

int main(void)
{
    net_config config = net_defaults();
    TAKT_POOL(config, nap, 4);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) < 0 ||
        takt_bufs_init(&bufs, 8, 2048) < 0 || net_init(&loop, &config) < 0 ||
        !TAKT_START_ON(&loop, tree, tree) || !TAKT_START_ON(&loop, batch, batch) ||
        !TAKT_START_ON(&loop, scoped, scoped) || !TAKT_START_ON(&loop, leaver, leaver) ||
        !TAKT_START_ON(&loop, last, last) || !TAKT_GO_ON(&loop, outside, nap))
        return 1;
    return net_run(&loop);
}
END

check() { # TEXT WANTED GOT
    if diff "$2" "$3" > "$scratch/diff"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL $1 (< takt_dump, > gdb)"
        head -20 "$scratch/diff"
        tail -5 "$scratch/error"
    fi
}

ask() { # ARGUMENT...: what the script prints; the rest of gdb's words are left out
    timeout 60 gdb -nx -batch -x "$root/test/takt-gdb.py" "$@" 2> "$scratch/error" \
        < /dev/null | sed -n '/^takt: /,/^end$/p' | grep -v '^end$'
}

for flags in "${CC:-cc} -O2" "clang -O0" "${CC:-cc} -O0 -DTAKT_AGES" "clang -O1 -DTAKT_AGES" \
    "${CXX:-c++} -O0 -x c++ -std=c++17"; do
    compiler=${flags%% *}
    command -v "$compiler" > /dev/null || continue
    # shellcheck disable=SC2086
    if ! $compiler -g -std=c11 ${flags#* } -D_GNU_SOURCE -I"$root" "$scratch/stuck.c" \
        -o "$scratch/stuck" > "$scratch/error" 2>&1; then
        failed=$((failed + 1))
        echo "FAIL $flags: it does not compile"
        head -5 "$scratch/error"
        continue
    fi
    rm -f "$scratch"/core*
    (cd "$scratch" && ulimit -c unlimited && exec ./stuck) 2> "$scratch/wanted" \
        > /dev/null
    grep '^takt: \|^  \|^pool \|^buffers ' "$scratch/wanted" > "$scratch/dumped"
    wc -l < "$scratch/dumped" > "$scratch/got"
    echo 21 > "$scratch/lines"
    check "$flags: the lines of the dump" "$scratch/lines" "$scratch/got"

    core=$(find "$scratch" -maxdepth 1 -name 'core*' -size +0 | head -1)
    if [ -n "$core" ]; then
        ask "$scratch/stuck" "$core" -ex 'takt-dump loop' > "$scratch/got"
        check "$flags: from a core file" "$scratch/dumped" "$scratch/got"
    else
        echo "no core file was left: only the process itself is looked at"
    fi
    # the same process prints and is looked at: its times differ from those above
    timeout 60 gdb -nx -batch -x "$root/test/takt-gdb.py" -ex run -ex 'echo end\n' \
        -ex 'takt-dump loop' "$scratch/stuck" > "$scratch/both" 2>&1 < /dev/null
    if grep -q 'ptrace\|Could not trace' "$scratch/both"; then
        [ -n "$core" ] || skip "no core file was left, and gdb may not trace a process here"
        continue
    fi
    sed '/^end$/q' "$scratch/both" | grep '^takt: \|^  \|^pool \|^buffers ' > "$scratch/dumped"
    sed '1,/^end$/d' "$scratch/both" | grep '^takt: \|^  \|^pool \|^buffers ' > "$scratch/got"
    check "$flags: from the stopped process" "$scratch/dumped" "$scratch/got"
done

# By a scheduler, from wherever it is known.
if [ -n "$core" ]; then
    ask "$scratch/stuck" "$core" -ex 'takt-dump-sched &loop.sched' > "$scratch/got"
    grep '^takt: \|^  \|^pool \|^buffers ' "$scratch/wanted" > "$scratch/dumped"
    check "takt-dump-sched" "$scratch/dumped" "$scratch/got"
fi

# One strand alone, from the frame that stands in it.
timeout 60 gdb -nx -batch -x "$root/test/takt-gdb.py" -ex run -ex 'takt-frame tree' \
    "$scratch/stuck" 2> /dev/null < /dev/null |
    grep -oE '^ *(tree|reading|nap) |\(a group of 1\)' > "$scratch/got"
printf 'tree \n  (a group of 1)\n    nap \n  reading \n' | sed 's/^  *(/(/' > "$scratch/wanted"
check "takt-frame" "$scratch/wanted" "$scratch/got"

# Its words for ops are those of takt_op_name().
sed -n 's/^    X(\([A-Z_]*\), "\([a-z]*\)", [A-Z]*).*/\1 \2/p' "$root/takt.h" |
    sort > "$scratch/wanted"
# shellcheck disable=SC2016
timeout 60 gdb -nx -batch -x "$root/test/takt-gdb.py" -ex 'python
for field in gdb.lookup_type("takt_op_kind").strip_typedefs().fields():
    name = field.name[len("TAKT_OP_"):]
    if name != "COUNT" and not name.startswith("FIRST_"): print(name, WORDS.get(name, name.lower()))
' "$scratch/stuck" 2> "$scratch/error" | sort > "$scratch/got"
check "the words for ops" "$scratch/wanted" "$scratch/got"

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]

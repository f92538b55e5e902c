#!/bin/sh
# coverage.sh TEST[.asan|.ndebug]... - the branches that the tests have taken, room by room
#
# Each test/TEST.c is built by gcc --coverage -O0 into build/coverage (.asan: under
# AddressSanitizer, .ndebug: with NDEBUG, for what is there only then) and run, contract.c on
# every backend; gcovr adds up what all of them counted, line by line. A room of which a
# branch was never taken is a failure, and FILE:LINE of each such branch is printed. KEEP=1
# builds and runs only what has changed since the last time.
#
# What counts:
#
#     Children too. One that leaves by _exit() or abort() writes its counters first: see
#     TEST_COVERAGE in test/test.h.
#     Assertions apart: no branch of a line with TAKT_ASSERT(...) is counted, since one side
#     of it is the end of the program. What looks for misuse (TAKT_DEBUG) is counted, and
#     mistakes are made on purpose to get there.
#     The rooms whose work is the operating system's (net, posix with what is inside of it,
#     and those of takt_uring.h) are shown, but need not be complete: what they miss are
#     answers of a kernel that cannot be had everywhere. A function there that is always
#     inlined has its branches once for each place.
#     What a macro expands to in a user's file (>>macros, the runners of >>stream, >>loop and
#     >>drive) has its branches at the line of the test that uses it, not in takt.h, and is
#     not counted; test/keywords.c, contract.c, laws.c, wrong/ and others are there for it.
#     Nor is it where takt.h has coroutines of its own (>>relay, >>post): there the lines with
#     TAKT_BEGIN, END, DEFER, AWAIT, TRY_AWAIT, YIELD and TAKT__SPAWN are left
#     out.
#     Conditions that are constant have no branches, nor has what #if leaves out: this is
#     Linux, gcc, epoll beside poll.
#
# Closes with "N passed, N failed": tests that ran, rooms that must be complete.
set -u
cd "$(dirname "$0")/.." || exit 1
dir=build/coverage

# One test: built, run, and what it said.
one() {
    name=$1 source=${1%%.*} flags= arguments=-
    case $name in
    *.asan) flags=-fsanitize=address ;;
    *.ndebug) flags=-DNDEBUG ;;
    contract) arguments="epoll poll uring refused" ;;
    esac
    rm -f "$dir/$name.gcda" "$dir/$name-$source.gcda"
    # shellcheck disable=SC2086
    gcc -std=c11 -D_GNU_SOURCE -DTEST_COVERAGE -I. --coverage -fprofile-update=atomic -O0 $flags \
        "test/$source.c" -luring -o "$dir/$name" > "$dir/$name.said" 2>&1 || return 1
    for argument in ${arguments:--}; do
        [ "$argument" = - ] && argument=
        # shellcheck disable=SC2086
        timeout -k 5 120 "$dir/$name" $argument > "$dir/$name.said" 2>&1 < /dev/null
        case $? in 0 | 77) ;; *) return 1 ;; esac
    done
}

if [ -n "${COVERAGE_ONE:-}" ]; then
    if [ -n "${KEEP:-}" ] && [ -x "$dir/$1" ]; then
        changed=$(find "test/${1%%.*}.c" test/*.h takt.h takt_uring.h -newer "$dir/$1")
        [ -n "$changed" ] || exit 0
    fi
    one "$1" && exit 0
    echo "FAIL $1"
    tail -n 5 "$dir/$1.said"
    rm -f "$dir/$1"
    echo "$1" >> "$dir/failed"
    exit 0
fi
command -v gcovr > /dev/null || { echo "gcovr is not there (make deps-coverage)"; exit 77; }
[ -n "${KEEP:-}" ] || rm -rf "$dir"
mkdir -p "$dir"
: > "$dir/failed"
COVERAGE_ONE=1
export COVERAGE_ONE
printf '%s\0' "$@" | xargs -0 -n 1 -P "${JOBS:-2}" "$0"

apart='.*\bTAKT_(ASSERT|BEGIN|END|DEFER|(TRY_)?AWAIT|YIELD|_SPAWN)\b.*'
gcovr --root . --object-directory "$dir" --filter takt.h --filter takt_uring.h \
    --exclude-branches-by-pattern "$apart" --json "$dir/lines.json" "$dir" || exit 1
python3 - "$dir/lines.json" $# "$(wc -l < "$dir/failed")" <<'END'
import json, re, sys

FREE = {'net', 'posix', 'pipes', 'many', 'burst', 'try', 'wait', 'ask'}  # of takt.h
files = {f['file']: f['lines'] for f in json.load(open(sys.argv[1]))['files']}
failed = int(sys.argv[3])
passed = int(sys.argv[2]) - failed
missing = []
print('%-24s %7s %9s %7s %8s' % ('room', 'lines', 'branches', 'taken', 'missing'))
for name in 'takt.h', 'takt_uring.h':
    room, rooms, source = '', {}, [''] + open(name).read().split('\n')
    room_of = []
    for line in source:
        mark = re.match(r' \* >>([a-z]+)(-impl)?( |$)', line)
        room = mark.group(1) if mark else room
        room_of.append(room)
    for line in files.get(name, []):
        if line.get('gcovr/noncode') or line.get('gcovr/excluded'):
            continue
        number, taken = line['line_number'], [b['count'] > 0 for b in line['branches']]
        row = rooms.setdefault(room_of[number], [0, 0, 0])
        row[0] += 1
        row[1] += len(taken)
        row[2] += sum(taken)
        if not all(taken) and name == 'takt.h' and room_of[number] not in FREE:
            which = ', '.join(str(i) for i, t in enumerate(taken) if not t)
            missing.append('%s:%d: branch %s of %d%s: %s' % (
                name, number, which, len(taken), '' if line['count'] else ', never run',
                source[number].strip()))
    for room, (lines, branches, taken) in rooms.items():
        demanded = name == 'takt.h' and room not in FREE
        print('%-24s %7d %9d %7d %8d%s' % (
            room if name == 'takt.h' else name + ' ' + room, lines, branches, taken,
            branches - taken, '' if demanded else '  (not demanded)'))
        if demanded:
            passed += branches == taken
            failed += branches != taken
print('\n'.join(missing))
print('%d passed, %d failed' % (passed, failed))
sys.exit(failed > 0)
END

#!/bin/sh
# rungs.sh - every rung of the ladder forced off, each alone, then all but one, then all, and
# the ring restricted to what takt asks of it, with all rungs and with none:
# the backend's contract, its streams, and the proxy's promises hold on each. fault.c takes away
# what no configuration can: registration, locked memory, the ring itself.
set -u
cd "$(dirname "$0")/.." || exit 1
words=$(sed -n 's/^    X([A-Z_]*, [0-9]*, "\([a-z_]*\)".*/\1/p' takt_uring.h)
[ -n "$words" ] || { echo "takt_uring.h lists no rungs"; exit 1; }
all=$(echo $words | tr ' ' ',')
set --
for word in $words; do
    set -- "$@" "TAKT_DISABLE=$word build/test/contract uring" \
        "TAKT_DISABLE=$word test/proxy.py build/proxy uring"
done
for word in $words; do
    rest=$(echo "$all" | sed "s/\(^\|,\)$word\(,\|\$\)/\1/; s/,\$//")
    set -- "$@" "TAKT_DISABLE=$rest build/test/contract uring"
done
for disabled in "" "$all"; do
    set -- "$@" "TAKT_RESTRICT=1 TAKT_DISABLE=$disabled build/test/contract uring" \
        "TAKT_RESTRICT=1 TAKT_DISABLE=$disabled test/proxy.py build/proxy uring"
done
exec test/run.sh "$@" "TAKT_DISABLE=$all build/test/contract uring" \
    "TAKT_DISABLE=$all test/proxy.py build/proxy uring" \
    "build/test/stream_backend" "build/test/fault" "build/test/restrict" "build/test/zerocopy"

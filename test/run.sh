#!/bin/sh
# run.sh COMMAND... - runs each, three at a time, adds up their closing lines "N passed, N failed".
#
# What a command prints is shown if it fails. Exit 77 is a skip: its last line says why. A
# command that dies, or closes without such a line, is one failure more. JOBS says how many
# run at the same time, LIMIT how many seconds each may take.
set -u

# One command: a line for it, and its numbers into a file.
one() {
    command=$1
    out=$(mktemp -p "$RUN_DIR")
    begin=$(date +%s)
    timeout -k 5 "${LIMIT:-300}" sh -c "$command" > "$out" 2>&1 < /dev/null
    rc=$?
    took=$(($(date +%s) - begin))
    short=$(echo "$command" | cut -c 1-44)
    if [ $rc -eq 77 ]; then
        echo "0 0 1" > "$out.numbers"
        printf 'skip %-44s %s\n' "$short" "$(tail -n 1 "$out")"
        return
    fi
    line=$(grep -E '^[0-9]+ passed, [0-9]+ failed' "$out" | tail -n 1)
    p=$(echo "$line" | sed 's/ passed.*//')
    f=$(echo "$line" | sed 's/.*passed, \([0-9]*\) failed.*/\1/')
    if [ -z "$line" ] || { [ $rc -ne 0 ] && [ "$f" -eq 0 ]; }; then
        f=$((${f:-0} + 1))
        p=${p:-0}
        echo "(it ended with status $rc)" >> "$out"
    fi
    echo "$p $f 0" > "$out.numbers"
    if [ "$f" -ne 0 ]; then
        { printf 'FAIL %-44s %4d passed, %d failed  %ds\n' "$short" "$p" "$f" "$took"
          tail -n 60 "$out" | sed 's/^/     | /'; } > "$out.said"
        cat "$out.said"
    else
        printf 'ok   %-44s %4d passed  %ds\n' "$short" "$p" "$took"
    fi
}

if [ -n "${RUN_DIR:-}" ]; then
    one "$1"
    exit 0
fi
RUN_DIR=$(mktemp -d)
export RUN_DIR
trap 'rm -rf "$RUN_DIR"' EXIT
printf '%s\0' "$@" | xargs -0 -n 1 -P "${JOBS:-3}" "$0"
cat "$RUN_DIR"/*.numbers | awk -v wanted=$# '
    { passed += $1; failed += $2; skipped += $3; ran++ }
    END {
        if (ran != wanted) { failed++; print "some did not run" }
        printf "%d passed, %d failed", passed, failed
        print skipped ? ", " skipped " skipped" : ""
        exit failed > 0 || passed == 0
    }'

#!/bin/sh
# run.sh COMMAND... - runs each, adds up their closing lines "N passed, N failed".
#
# What a command prints is shown if it fails. Exit 77 is a skip: its last line says why. A
# command that dies, or closes without such a line, is one failure more.
passed=0 failed=0 skipped=0
out=$(mktemp)
trap 'rm -f "$out"' EXIT
for command in "$@"; do
    begin=$(date +%s)
    timeout -k 5 "${LIMIT:-120}" sh -c "$command" > "$out" 2>&1 < /dev/null
    rc=$?
    took=$(($(date +%s) - begin))
    line=$(grep -E '^[0-9]+ passed, [0-9]+ failed' "$out" | tail -n 1)
    if [ $rc -eq 77 ]; then
        skipped=$((skipped + 1))
        printf 'skip %-44s %s\n' "$command" "$(tail -n 1 "$out")"
        continue
    fi
    p=$(echo "$line" | sed 's/ passed.*//')
    f=$(echo "$line" | sed 's/.*passed, \([0-9]*\) failed.*/\1/')
    if [ -z "$line" ] || { [ $rc -ne 0 ] && [ "$f" -eq 0 ]; }; then
        f=$((${f:-0} + 1))
        p=${p:-0}
        echo "(it ended with status $rc)" >> "$out"
    fi
    passed=$((passed + p))
    failed=$((failed + f))
    short=$(echo "$command" | cut -c 1-44)
    if [ "$f" -ne 0 ]; then
        printf 'FAIL %-44s %4d passed, %d failed  %ds\n' "$short" "$p" "$f" "$took"
        tail -n 60 "$out" | sed 's/^/     | /'
    else
        printf 'ok   %-44s %4d passed  %ds\n' "$short" "$p" "$took"
    fi
done
[ $skipped -eq 0 ] && echo "$passed passed, $failed failed" ||
    echo "$passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ] && [ $passed -gt 0 ]

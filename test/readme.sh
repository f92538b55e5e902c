#!/bin/sh
# readme.sh README.md - the programs in the README compile as they stand there.
#
# A ```c block with a main is compiled under the strictest flags and linked. One without is
# compiled alone, with takt.h put in front where it does not include it; a block that opens
# with a comment `<!-- body: NAME -->` above it is put into the body of a coroutine NAME,
# whose struct the block before has declared.
set -u
root=$(cd "$(dirname "$0")/.." && pwd) || exit 1
cc=${CC:-cc}
passed=0
failed=0
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# One file for each ```c block, named after the line at which it begins; `.body` beside it
# holds the NAME of the comment above, if there is one.
extract() {
    awk -v to="$scratch" '
        /^ *```/ && block { close(block); block = ""; next }
        /^ *```c *$/ {
            indent = match($0, /`/) - 1
            block = sprintf("%s/%05d.c", to, FNR)
            printf "" > block
            if (name != "") { print name > (block ".body"); close(block ".body") }
            name = ""
            next
        }
        /^ *```/ { other = !other; next }
        block { print substr($0, indent + 1) > block; next }
        /<!-- *body: *[a-z_]+ *-->/ {
            name = $0; sub(/.*body: */, "", name); sub(/ *-->.*/, "", name); next
        }
        NF && !other { name = "" }
    ' "$1"
}

# COMPILER-FLAGS...: compiles $scratch/block.c and counts.
compile() {
    if $cc -std=c11 -D_GNU_SOURCE -I"$root" "$@" > "$scratch/said" 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL $readme:$line: $(head -1 "$block")"
        grep -E '(error|warning):|undefined reference' "$scratch/said" | head -5
    fi
}

one_block() {
    line=$(basename "$block" .c | sed 's/^0*//')
    if grep -Eq '^int main *\(' "$block"; then
        compile -Wall -Wextra -Wpedantic -Werror "$block" -luring -o "$scratch/program"
        return
    fi
    {
        grep -q '#include "takt' "$block" || echo '#include "takt.h"'
        if [ -f "$block.body" ]; then
            [ -z "$before" ] || cat "$before"
            printf 'static TAKT_CORO(%s)\n{\nTAKT_BEGIN(%s, my);\n' \
                "$(cat "$block.body")" "$(cat "$block.body")"
            cat "$block"
            printf 'TAKT_END;\n}\n'
        else
            cat "$block"
        fi
    } > "$scratch/block.c"
    compile -Wall -Wextra -Werror -Wno-unused -fsyntax-only "$scratch/block.c"
}

for readme; do
    rm -f "$scratch"/*
    if ! extract "$readme"; then
        failed=$((failed + 1))
        echo "FAIL $readme: not to be read"
    fi
    before=
    for block in "$scratch"/[0-9]*.c; do
        [ -f "$block" ] || continue
        one_block
        [ -f "$block.body" ] || before=$block
    done
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]

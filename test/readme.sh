#!/bin/sh
# readme.sh README.md - the programs in the README compile, and print what stands there.
#
# A ```c block with a main is compiled under strict flags and linked. If a ```text block is
# the next one, it is also run, and must print that: as it is, where io_uring runs if the
# system allows it; where io_uring_setup(2) is refused, so that the portable backend runs; and
# under ASan and UBSan. A block without a main is compiled alone, with takt.h put in front
# where it does not include it; one that opens with a comment `<!-- body: NAME -->` above it
# is put into the body of a coroutine NAME, whose struct the block before has declared.
# LIBRARY: an object with the implementation, under ASan and UBSan, if there is one already.
set -u
root=$(cd "$(dirname "$0")/.." && pwd) || exit 1
cc=${CC:-cc}
sanitize='-g -fsanitize=address,undefined -fno-sanitize-recover=all'
passed=0
failed=0
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# One file for each ```c block, named after the line at which it begins; `.body` beside it
# holds the NAME of the comment above, `.text` what it prints, if there is one.
extract() {
    awk -v to="$scratch" '
        /^ *```/ && block { close(block); program = block; block = ""; next }
        /^ *```text *$/ && program {
            block = program ".text"
            program = ""
            printf "" > block
            next
        }
        /^ *```c *$/ {
            indent = match($0, /`/) - 1
            block = sprintf("%s/%05d.c", to, FNR)
            printf "" > block
            program = ""
            if (name != "") { print name > (block ".body"); close(block ".body") }
            name = ""
            next
        }
        /^ *```/ { other = !other; program = ""; next }
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

# HOW COMMAND...: it prints what stands in the README, and nothing else.
prints() {
    how=$1
    shift
    timeout 20 "$@" > "$scratch/said" 2>&1 < /dev/null
    rc=$?
    if [ $rc -eq 0 ] && cmp -s "$scratch/said" "$block.text"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL $readme:$line: it ended with $rc $how, and printed (>) in place of (<):"
        diff "$block.text" "$scratch/said" | head -10
    fi
}

# A program that runs another one where there is no io_uring, and the library alone.
build_helpers() {
    if [ -n "${LIBRARY:-}" ]; then
        cp "$LIBRARY" "$scratch/takt.o" || return
    else
        printf '#define TAKT_IMPLEMENTATION\n#include "takt_uring.h"\n' > "$scratch/takt.c"
        # shellcheck disable=SC2086
        $cc -std=c11 -D_GNU_SOURCE -I"$root" $sanitize -c "$scratch/takt.c" \
            -o "$scratch/takt.o" || return
    fi
    cat > "$scratch/refused.c" << 'END'
#include "refuse.h"
#include <unistd.h>
int main(int argc, char **argv)
{
    return argc < 2 || refuse(__NR_io_uring_setup, EPERM) < 0 ? 125 : execv(argv[1], argv + 1);
}
END
    $cc -std=c11 -D_GNU_SOURCE -I"$root/test" "$scratch/refused.c" -o "$scratch/refused"
}

program() {
    compile -Wall -Wextra -Wpedantic -Werror "$block" -luring -o "$scratch/program"
    [ -f "$block.text" ] || return
    prints "as it is" "$scratch/program"
    prints "without io_uring" "$scratch/refused" "$scratch/program"
    # once more as one of several files: the library stands in another
    grep -v '^#define TAKT_IMPLEMENTATION' "$block" > "$scratch/block.c"
    # shellcheck disable=SC2086
    compile $sanitize "$scratch/block.c" "$scratch/takt.o" -luring -o "$scratch/program"
    prints "under ASan and UBSan" "$scratch/program"
}

one_block() {
    line=$(basename "$block" .c | sed 's/^0*//')
    if grep -Eq '^int main *\(' "$block"; then
        program
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
    build_helpers || exit 1
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

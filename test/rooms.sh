#!/bin/sh
# rooms.sh HEADER... - checks that a room uses only the rooms above it.
#
# A room begins at a banner line " * >>name", and again at " * >>name-impl". The header is
# cut before each banner in turn; every beginning must still compile. Beside that:
#
#     the marks listed in the manual are exactly the rooms that exist, in their order;
#     a room with prototypes has an implementation; the second pass has the order of the
#     first, with rooms of its own in between;
#     takt_uring.h compiles with what stands above >>frame in takt.h, and nothing else.
set -u
cc=${CC:-cc}
passed=0
failed=0
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# Rooms whose prototypes are implemented in another room, or by the user's backend.
without_impl='config time frame keywords engine macros runner rounds'
lines_max=600

check() { # TEXT STATUS [FILE]
    if [ "$2" -eq 0 ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL $1"
        [ $# -lt 3 ] || grep -E 'error' "$3" | head -3
    fi
}

# "line mark" of every banner of HEADER; the line is that of the rule above the mark.
banners() {
    awk '/^ \* >>[a-z]+(-impl)?( |$)/ { mark = $2; sub(/^>>/, "", mark); print FNR - 1, mark }' "$1"
}

# The first `$2` lines of HEADER, with every open #if closed.
cut_before() {
    awk -v end="$2" '
        FNR >= end { exit }
        { print }
        /^[ ]*#[ ]*if/ { depth++ }
        /^[ ]*#[ ]*endif/ { depth-- }
        END { while (depth-- > 0) print "#endif" }
    ' "$1"
}

compiles() { # FILE INCLUDES-DIRECTORY
    # Warnings are silent, save that a call to a room below must not pass as implicit.
    $cc -std=c11 -D_GNU_SOURCE -DTAKT_IMPLEMENTATION -fsyntax-only \
        -Werror=implicit-function-declaration -Wno-unused -I"$2" -x c "$1" \
        > "$scratch/said" 2>&1
}

beginnings_compile() {
    banners "$1" | sed -n '2,$p' > "$scratch/banners"
    while read -r line mark; do
        cut_before "$1" "$line" > "$scratch/cut.c"
        compiles "$scratch/cut.c" "$(dirname "$1")"
        check "$1:$line: what stands above >>$mark needs what stands below" $? "$scratch/said"
    done < "$scratch/banners"
}

# The marks between "Find a room" and the end of the manual are the rooms, in the order of
# their declarations; those that have none, as -impl only, come last.
marks_are_listed() {
    awk '
        /Find a room by searching/ { on = 1; next }
        /^ \*\// || /^ \* [A-Z]/ { on = 0 }
        on {
            for (i = 1; i <= NF; i++)
                if ($i ~ /^>>[a-z]/) { gsub(/[^a-z]/, "", $i); print $i }
        }
    ' "$1" > "$scratch/listed"
    banners "$1" | awk '
        { room = $2; sub(/-impl$/, "", room) }
        !(room in seen) { print room }
        { seen[room] = 1 }
    ' > "$scratch/rooms"
    if [ "$(basename "$1")" != takt.h ]; then # ordered by its second pass, or as it likes
        sort "$scratch/listed" -o "$scratch/listed"
        sort "$scratch/rooms" -o "$scratch/rooms"
    fi
    diff "$scratch/listed" "$scratch/rooms" > "$scratch/said"
    check "$1: the manual's marks (<) are not the rooms that exist (>): $(
        grep '^[<>]' "$scratch/said" | tr '\n' ' ')" "$([ ! -s "$scratch/said" ]; echo $?)"
}

# Each room in which a prototype stands outside of comments and macros.
rooms_with_prototypes() {
    awk '
        /^ \* >>[a-z]+(-impl)?( |$)/ { room = $2 ~ /-impl$/ ? "" : substr($2, 3) }
        /^#define/ { macro = 1 }
        !macro && room != "" && /^[a-z][a-z0-9_ ]*[ *]+takt_[a-z0-9_]+\(/ && !/^typedef/ &&
            !/static/ { print room }
        macro && !/\\$/ { macro = 0 }
    ' "$1" | sort -u
}

implementations_are_there() {
    banners "$1" | awk '$2 ~ /-impl$/ { sub(/-impl$/, "", $2); print $2 }' > "$scratch/impl"
    for room in $(rooms_with_prototypes "$1"); do
        case " $without_impl " in *" $room "*) continue ;; esac
        grep -qx "$room" "$scratch/impl"
        check "$1: >>$room has prototypes, but no >>$room-impl" $?
    done
    [ "$(basename "$1")" = takt.h ] || return # the other header orders its second pass anew
    banners "$1" | awk '$2 !~ /-impl$/ { print $2 }' > "$scratch/rooms"
    grep -Fxf "$scratch/rooms" "$scratch/impl" > "$scratch/both"
    grep -Fxf "$scratch/impl" "$scratch/rooms" | diff - "$scratch/both" > "$scratch/said"
    check "$1: the second pass is not in the order of the first: $(
        grep '^[<>]' "$scratch/said" | tr '\n' ' ')" "$([ ! -s "$scratch/said" ]; echo $?)"
}

# A backend does not know that coroutines exist: takt_uring.h compiles against a takt.h
# that ends above >>frame, in both passes.
backend_sees_no_frame() {
    takt=$(dirname "$1")/takt.h
    [ "$(basename "$1")" != takt.h ] && [ -f "$takt" ] || return
    end_1=$(banners "$takt" | awk '$2 == "frame" { print $1 }')
    begin_2=$(awk '/^#endif \/\* TAKT_H \*\// { print FNR }' "$takt")
    end_2=$(banners "$takt" | awk -v begin="$begin_2" '
        $2 == "frame" { below = 1 }
        $2 !~ /-impl$/ && below { engine[$2 "-impl"] = 1 }
        $2 in engine { print $1; exit }')
    {
        sed -n "1,$((end_1 - 1))p" "$takt"
        echo 'TAKT__EXTERN_C_END'
        sed -n "$begin_2,\$p" "$takt"
    } > "$scratch/long.h"
    cut_before "$scratch/long.h" $((end_1 + 1 + end_2 - begin_2)) > "$scratch/takt.h"
    echo 'TAKT__EXTERN_C_END' >> "$scratch/takt.h"
    cp "$1" "$scratch/backend.c"
    compiles "$scratch/backend.c" "$scratch"
    check "$1: it needs more of takt.h than stands above >>frame" $? "$scratch/said"
}

print_lines() {
    banners "$1" > "$scratch/banners"
    wc -l < "$1" | awk '{ print $1 + 1, "end" }' >> "$scratch/banners"
    awk -v max="$lines_max" -v header="$1" '
        NR > 1 {
            n = $1 - from
            printf "%s%s %d", (NR > 2 ? ", " : header ": "), mark, n
            if (n > max)
                over = over sprintf("warning: %s: >>%s has %d lines, above %d\n",
                                    header, mark, n, max)
        }
        { from = $1; mark = $2 }
        END { printf "\n%s", over }
    ' "$scratch/banners"
}

for header; do
    beginnings_compile "$header"
    marks_are_listed "$header"
    implementations_are_there "$header"
    backend_sees_no_frame "$header"
    print_lines "$header"
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]

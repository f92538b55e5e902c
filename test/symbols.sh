#!/bin/sh
# symbols.sh - what the headers leave behind in a program, and in which dialects they compile.
#
# The implementation is compiled as an object of its own, by each compiler of CCS (C) and its
# C++ sister: its exported names are takt_ only, nothing in it can be written to, and every
# declared function is there once. An including file sees no macro but TAKT_...
set -u
cd "$(dirname "$0")/.." || exit 1
passed=0
failed=0
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
flags="-D_GNU_SOURCE -I."

check() { # TEXT STATUS [FILE]
    if [ "$2" -eq 0 ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL $1"
        [ $# -lt 3 ] || head -5 "$3"
    fi
}

empty() { # TEXT FILE: nothing was found
    check "$1" "$([ ! -s "$2" ]; echo $?)" "$2"
}

have() {
    command -v "$1" > /dev/null && return
    echo "skipped: no $1"
    return 1
}

sister() {
    case $(basename "$1") in
        *clang*) echo "$1" | sed 's|\(.*\)clang|\1clang++|' ;;
        *) echo "$1" | sed 's|\(.*\)gcc|\1g++|' ;;
    esac
}

# The functions that HEADER declares for users and for its own macros, one a line.
declared() {
    awk '
        /^#ifdef TAKT_IMPLEMENTATION/ { exit }
        /^#define/ { macro = 1 }
        !macro && /^[a-zA-Z]/ && !/static|^TAKT__HOT|typedef|^TAKT__STATIC/ {
            if (match($0, /takt_[a-z0-9_]+\(/)) print substr($0, RSTART, RLENGTH - 1)
        }
        macro && !/\\$/ { macro = 0 }
    ' "$1" | sort
}

# An object with the implementation of takt.h, and of takt_uring.h where asked for; it stays
# there as one.o. That a file includes a header twice does no harm.
object_is_clean() { # COMPILER STANDARD LANGUAGE HEADER
    what="$1 -std=$2 $4"
    printf '#define TAKT_IMPLEMENTATION\n#include "%s"\n#include "%s"\n' "$4" "$4" \
        > "$scratch/one.c"
    level=-O0 # takt_uring.h holds all of takt.h: the dear level is for it alone, and once
    [ "$4$1" = takt_uring.hgcc ] && level=-O2
    # shellcheck disable=SC2086
    $1 -x "$3" -std="$2" $flags -Wall -Wextra -Werror $level -c "$scratch/one.c" \
        -o "$scratch/one.o" > "$scratch/said" 2>&1
    status=$?
    check "$what: the implementation does not compile" $status "$scratch/said"
    [ $status -eq 0 ] || return
    nm -g --defined-only "$scratch/one.o" | awk '{ print $3 }' | sort > "$scratch/exported"
    grep -v '^takt_' "$scratch/exported" > "$scratch/foreign"
    empty "$what: it exports names that are not takt_'s:" "$scratch/foreign"
    writable_sections "$scratch/one.o" > "$scratch/sections"
    empty "$what: something in it can be written to:" "$scratch/sections"

    declared takt.h > "$scratch/declared"
    [ "$4" = takt.h ] || declared "$4" >> "$scratch/declared"
    sort -u "$scratch/declared" -o "$scratch/declared"
    comm -23 "$scratch/declared" "$scratch/exported" > "$scratch/missing"
    empty "$what: declared, but not defined:" "$scratch/missing"
    comm -13 "$scratch/declared" "$scratch/exported" | # what has an option in its name is
        grep -v '_TAKT_' > "$scratch/undeclared"        # declared by a macro
    empty "$what: exported, but declared nowhere:" "$scratch/undeclared"
}

# Sections that hold variables, with their sizes. .data.rel.ro* is constant once relocated.
writable_sections() {
    size -A "$1" | awk '
        $1 ~ /^\.data\.rel\.ro/ { next }
        $1 ~ /^(\.data|\.bss|\.tdata|\.tbss|COMMON)/ && $2 > 0 { print $1, $2 }
    '
}

# Two objects, one.o with the implementation: nothing is defined twice.
two_objects_link() { # COMPILER STANDARD LANGUAGE HEADER LIBRARIES
    printf '#include "%s"\nint main(void) { return takt_strerror(0) == NULL; }\n' "$4" \
        > "$scratch/two.c"
    # shellcheck disable=SC2086
    $1 -x "$3" -std="$2" $flags -c "$scratch/two.c" -o "$scratch/two.o" > "$scratch/said" 2>&1 &&
        $1 "$scratch/one.o" "$scratch/two.o" $5 -o "$scratch/two" > "$scratch/said" 2>&1 &&
        "$scratch/two"
    check "$1 -std=$2 $4: two files, one implementation, do not link and run" $? "$scratch/said"
}

# Files that disagree on what changes the layout do not link, and the linker names the option.
layouts_must_agree() { # COMPILER
    printf '%s\n' '#include "takt_uring.h"' 'TAKT_LOOP(net, takt_uring);' \
        'static net loop;' 'struct one { takt_frame frame; };' \
        'static TAKT_CORO(one) { TAKT_BEGIN(one, my); TAKT_END; }' 'int main(void) {' \
        '    net_config config = net_defaults();' \
        '    return net_init(&loop, &config) < 0 || !TAKT_SPAWN_ON(&loop, one) ||' \
        '           net_free(&loop) < 0; }' > "$scratch/user.c"
    printf '#define TAKT_IMPLEMENTATION\n#include "takt_uring.h"\n' > "$scratch/one.c"
    for side in one user; do
        # shellcheck disable=SC2086
        $1 $flags -c "$scratch/$side.c" -o "$scratch/$side.o"
    done
    for option in TAKT_POOLS_MAX=32 TAKT_NO_URING; do
        for side in one user; do
            other=$([ $side = one ] && echo user || echo one)
            # shellcheck disable=SC2086
            $1 $flags -D$option -c "$scratch/$side.c" -o "$scratch/other.o" &&
                ! $1 "$scratch/other.o" "$scratch/$other.o" -luring -o "$scratch/two" \
                    > "$scratch/said" 2>&1 &&
                grep -q "undefined.*${option%%=*}" "$scratch/said"
            check "$1: with $option in one file only, the linker does not say so" $? \
                "$scratch/said"
        done
    done
    $1 "$scratch/one.o" "$scratch/user.o" -luring -o "$scratch/two" > "$scratch/said" 2>&1
    check "$1: two files that agree do not link" $? "$scratch/said"
}

# What was replaced leaves nothing of libc behind, and is used.
replaced_is_gone() { # COMPILER
    printf '%s\n' '#include <stddef.h>' 'void *my_calloc(size_t, size_t);' \
        'void my_free(void *);' 'void my_assert(int);' 'void my_log(const char *);' \
        'void my_panic(const char *);' 'long long my_clock(void);' \
        '#define TAKT_CALLOC(n, size) my_calloc(n, size)' '#define TAKT_FREE(ptr) my_free(ptr)' \
        '#define TAKT_ASSERT(c) my_assert(!!(c))' '#define TAKT_LOG(text) my_log(text)' \
        '#define TAKT_PANIC(text) my_panic(text)' '#define TAKT_CLOCK() my_clock()' \
        '#define TAKT_IMPLEMENTATION' "#include \"$2\"" > "$scratch/one.c"
    # shellcheck disable=SC2086
    $1 $flags -O0 -c "$scratch/one.c" -o "$scratch/one.o" > "$scratch/said" 2>&1
    check "$1 $2: it does not compile with everything replaced" $? "$scratch/said"
    nm -u "$scratch/one.o" | awk '{ print $2 }' > "$scratch/used"
    of_libc='(c|m|re)alloc|free|assert_fail|abort|v?fprintf|fputs|fputc|fwrite|std(err|out)'
    grep -E "^_*($of_libc|clock_[a-z]*)(_chk)?\$" "$scratch/used" > "$scratch/left"
    empty "$1 $2: replaced, but still there:" "$scratch/left"
    for name in calloc free assert log panic clock; do
        grep -qx "my_$name" "$scratch/used"
        check "$1 $2: what stands in for $name is not used" $?
    done
}

# Names that other headers take: windows.h and its kind, before and after.
any_neighbours() { # COMPILER STANDARD LANGUAGE
    {
        for name in near far small interface IN OUT OPTIONAL CONST VOID; do
            echo "#define $name"
        done
        echo '#define min(a, b) ((a) < (b) ? (a) : (b))'
        echo '#define max(a, b) ((a) > (b) ? (a) : (b))'
        for name in ERROR TRUE FALSE BOOL DELETE NO_ERROR IGNORE INFINITE STRICT NONE READ WRITE \
            RECV SEND READER WRITER CALL GROUP IDLE FREE READY; do
            echo "#define $name not_ours"
        done
    } > "$scratch/windows.h"
    for order in "windows.h takt_uring.h" "linux/io_uring.h takt_uring.h" \
        "takt_uring.h linux/io_uring.h windows.h" "windows.h takt.h takt_uring.h" \
        "takt.h liburing.h takt_uring.h" "sys/socket.h takt.h" "linux/time_types.h takt_uring.h"; do
        {
            echo '#define TAKT_IMPLEMENTATION'
            for header in $order; do echo "#include <$header>"; done
        } > "$scratch/one.c"
        # shellcheck disable=SC2086
        $1 -x "$3" -std="$2" $flags -I"$scratch" -fsyntax-only "$scratch/one.c" \
            > "$scratch/said" 2>&1
        check "$1 -std=$2: $order does not compile" $? "$scratch/said"
    done
}

macros() { # COMPILER STANDARD LANGUAGE: those defined at the end of stdin
    # shellcheck disable=SC2086
    $1 -x "$3" -std="$2" $flags -dM -E - | awk '{ sub(/\(.*/, "", $2); print $2 }' | sort -u
}

# takt.h adds TAKT_ macros to those of the headers it must include, and no others.
no_foreign_macros() { # COMPILER STANDARD LANGUAGE
    printf '#include <%s>\n' errno.h stdbool.h stddef.h stdint.h string.h |
        macros "$@" > "$scratch/before"
    echo '#include "takt.h"' | macros "$@" | comm -13 "$scratch/before" - |
        grep -v '^TAKT_' > "$scratch/foreign"
    empty "$1 -std=$2: takt.h brings macros along that are not TAKT_'s:" "$scratch/foreign"
    echo '#include <liburing.h>' | macros "$@" | sort -u - "$scratch/before" > "$scratch/all"
    [ -s "$scratch/all" ] || return
    echo '#include "takt_uring.h"' | macros "$@" | comm -13 "$scratch/all" - |
        grep -v '^TAKT_' > "$scratch/foreign"
    empty "$1 -std=$2: takt_uring.h brings macros along that are not TAKT_'s:" "$scratch/foreign"
}

compiles() { # COMPILER HEADER FLAGS...
    compiler=$1 header=$2
    shift 2
    printf '#define TAKT_IMPLEMENTATION\n#include "%s"\n' "$header" > "$scratch/one.c"
    $compiler -Wall -Wextra -Werror -I. "$@" -c "$scratch/one.c" -o "$scratch/one.o" \
        > "$scratch/said" 2>&1
    check "$compiler $* $header: does not compile" $? "$scratch/said"
}

dialects_compile() { # COMPILER
    for header in takt.h takt_uring.h; do # strict C11, with or without the implementation
        compiles "$1" $header -std=c11 -fsyntax-only
        echo "#include \"$header\"" > "$scratch/one.c"
        $1 -std=c11 -Wall -Wextra -Wpedantic -Werror -I. -fsyntax-only "$scratch/one.c" \
            > "$scratch/said" 2>&1
        check "$1 -std=c11 $header: it does not compile alone" $? "$scratch/said"
    done
    for header in takt.h takt_uring.h; do
        for more in "-std=gnu11 -fsyntax-only" "-std=c17 -D_GNU_SOURCE -fsyntax-only -DNDEBUG" \
            "-std=c11 -D_GNU_SOURCE -fsyntax-only -DTAKT_NO_EPOLL" \
            "-std=c11 -D_GNU_SOURCE -fsyntax-only -funsigned-char"; do
            # shellcheck disable=SC2086
            compiles "$1" $header $more
        done
    done
    compiles "$1" takt_uring.h -std=c11 -D_GNU_SOURCE -fsyntax-only -DTAKT_NO_URING
    compiles "$1" takt_uring.h -std=c11 -D_GNU_SOURCE -fsyntax-only -DTAKT_NO_URING \
        -DTAKT_NO_EPOLL
    compiles "$1" takt.h -std=c11 -fsyntax-only -DTAKT_NO_POSIX # asks for no more than C11
    for header in takt.h takt_uring.h; do
        # shellcheck disable=SC2086
        if echo '#include <errno.h>
#include <sys/socket.h>' | $1 -m32 $flags -E - > /dev/null 2>&1; then
            compiles "$1" $header -std=c11 -D_GNU_SOURCE -m32 -fsyntax-only
        else
            echo "skipped: $1 has no headers for -m32"
        fi
    done
}

# Without POSIX, what is left calls nothing but this of libc.
libc='mem[a-z]*|str[a-z_]*|s?v?f?n?printf|fputs|fputc|fwrite|stderr|calloc|free|abort'
libc="$libc|assert_fail|stack_chk_fail|errno_location|GLOBAL_OFFSET_TABLE_"
core_is_free_of_the_system() { # COMPILER
    printf '#define TAKT_IMPLEMENTATION\n#include "takt.h"\n' > "$scratch/one.c"
    $1 -std=gnu11 -O0 -I. -DTAKT_NO_POSIX -c "$scratch/one.c" -o "$scratch/one.o" \
        > "$scratch/said" 2>&1 || return
    nm -u "$scratch/one.o" | awk '{ print $2 }' |
        grep -Ev "^_*($libc)(_chk)?\$" > "$scratch/system"
    empty "$1 -DTAKT_NO_POSIX: what is left calls the system:" "$scratch/system"
}

first=
for cc in ${CCS:-gcc clang}; do
    have "$cc" || continue
    object_is_clean "$cc" c11 c takt.h
    two_objects_link "$cc" c11 c takt.h ""
    object_is_clean "$cc" c11 c takt_uring.h
    two_objects_link "$cc" c11 c takt_uring.h -luring
    no_foreign_macros "$cc" c11 c
    dialects_compile "$cc"
    core_is_free_of_the_system "$cc"
    if [ -z "$first" ]; then # these are the linker's and the preprocessor's matter
        first=$cc
        layouts_must_agree "$cc"
        replaced_is_gone "$cc" takt_uring.h # which holds all of takt.h
        any_neighbours "$cc" c11 c
    fi
    have "$(sister "$cc")" || continue
    object_is_clean "$(sister "$cc")" c++17 c++ takt_uring.h
    two_objects_link "$(sister "$cc")" c++17 c++ takt_uring.h -luring
    no_foreign_macros "$(sister "$cc")" c++17 c++
    [ "$first" != "$cc" ] || any_neighbours "$(sister "$cc")" c++17 c++
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]

#!/bin/sh
# run.sh [FILE...] - every mistake in this folder must be explained by every compiler.
#
# The first lines of a program say what is to be heard:
#
#     /* expect: REGEX */          a warning or an error that matches, from each compiler
#     /* expect-gcc: REGEX */      from gcc only; so for clang; one that has none is not asked
#     /* shown-gcc: REGEX */       and a line of the source that gcc shows beside it
#     /* expect: nothing */        no word, also under the strictest flags, in C and in C++
#     /* flags: -Wall */           what it takes beside the defaults: no flag at all
#     /* flags-clang: -Wall */     the same for one compiler
#
# What is not heard of the parser is compiled with -O0 and with -O2, unless its flags name a
# level. CCS names the C compilers; a .cc goes to their C++ sisters.
set -u
cd "$(dirname "$0")" || exit 1
passed=0
failed=0
heard=$(mktemp)
trap 'rm -f "$heard"' EXIT
strict='-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wimplicit-fallthrough -Werror'

# The C++ sister of a compiler: gcc-12 -> g++-12, clang -> clang++.
sister() {
    case $(basename "$1") in
        *clang*) echo "$1" | sed 's|\(.*\)clang|\1clang++|' ;;
        *) echo "$1" | sed 's|\(.*\)gcc|\1g++|' ;;
    esac
}

family() {
    case $(basename "$1") in *clang*) echo clang ;; *) echo gcc ;; esac
}

# What the first three lines of FILE say for the compilers of FAMILY: words, shown, flags.
read_head() { # FILE FAMILY
    words="" shown="" flags="" expects=""
    {
        for _ in 1 2 3; do
            read -r line || break
            case $line in '/* '*:*'*/') ;; *) continue ;; esac
            mark=${line#/\* }
            said=${line#*:}
            said=${said%\*/}
            said=${said# }
            said=${said% }
            case ${mark%%:*} in
            expect | "expect-$2") words=$said ;;
            "shown-$2") shown=$said ;;
            flags | "flags-$2") flags="$flags $said" ;;
            esac
            case $mark in expect*) expects=yes ;; esac
        done
    } < "$1"
}

fail() {
    failed=$((failed + 1))
    echo "FAIL $1"
}

# FILE COMPILER STANDARD LANGUAGE: it compiles without a word.
expect_nothing() {
    for level in -O0 -O2; do
        # shellcheck disable=SC2086
        if $2 -std="$3" -D_GNU_SOURCE $strict $level $flags -c -x "$4" -o /dev/null "$1" \
            > "$heard" 2>&1 && [ ! -s "$heard" ]; then
            passed=$((passed + 1))
        else
            fail "$1: $2 -std=$3 $level is not silent:"
            grep -E '(warning|error):' "$heard" | head -3
        fi
    done
}

# FILE COMPILER-AND-FLAGS...: it says the words.
says() {
    file=$1
    shift
    "$@" -c -o /dev/null "$file" > "$heard" 2>&1
    grep -Eq "(warning|error):.*($words)" "$heard" && grep -Eq "$shown" "$heard"
}

# FILE COMPILER STANDARD: it says the words. Most are those of the parser, which is asked first,
# and once: what it says does not depend on the level.
expect_words() {
    case $flags in *-O*) levels=-DAS_TOLD ;; *) levels='-O0 -O2' ;; esac
    # shellcheck disable=SC2086
    if says "$1" "$2" -std="$3" -D_GNU_SOURCE $flags -fsyntax-only; then
        passed=$((passed + 1))
        return
    fi
    for level in $levels; do
        # shellcheck disable=SC2086
        if says "$1" "$2" -std="$3" -D_GNU_SOURCE $level $flags; then
            passed=$((passed + 1))
        else
            fail "$1: $2 $level $flags does not say \"$words\", but:"
            grep -E '(warning|error):' "$heard" | head -3
        fi
    done
}

one_file() { # FILE COMPILER SISTER
    read_head "$1" "$family"
    case $1 in *.cc) compiler=$3 standard=c++17 ;; *) compiler=$2 standard=c11 ;; esac
    [ -n "$compiler" ] || return
    if [ "$words" = nothing ]; then
        expect_nothing "$1" "$compiler" c11 c
        [ -z "$3" ] || expect_nothing "$1" "$3" c++17 c++
    elif [ -n "$words" ]; then
        expect_words "$1" "$compiler" "$standard"
    elif [ -z "$expects" ]; then
        fail "$1: its first line does not say what to expect"
    fi
}

there() { # COMPILER
    command -v "$1" > /dev/null && return
    echo "skipped: no $1" >&2
    return 1
}

[ $# -gt 0 ] || set -- *.c *.cc
for cc in ${CCS:-gcc clang}; do
    family=$(family "$cc")
    c=$(there "$cc" && echo "$cc")
    cxx=$(there "$(sister "$cc")" && sister "$cc")
    for file; do one_file "$file" "$c" "$cxx"; done
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]

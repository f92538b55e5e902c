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
# Each is compiled with -O0 and with -O2, unless its flags name a level. CCS names the C
# compilers; a .cc goes to their C++ sisters.
set -u
cd "$(dirname "$0")" || exit 1
passed=0
failed=0
said=$(mktemp)
trap 'rm -f "$said"' EXIT
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

# What FILE says behind the mark `$2` in its first three lines.
head_line() {
    sed -n "1,3s|^/\* $2: *\(.*\) *\*/\$|\1|p" "$1" | sed 's/ *$//'
}

fail() {
    failed=$((failed + 1))
    echo "FAIL $1"
}

# FILE COMPILER STANDARD LANGUAGE: it compiles without a word.
expect_nothing() {
    for level in -O0 -O2; do
        # shellcheck disable=SC2086
        if $2 -std="$3" -D_GNU_SOURCE $strict $level -c -x "$4" -o /dev/null "$1" > "$said" 2>&1 &&
            [ ! -s "$said" ]; then
            passed=$((passed + 1))
        else
            fail "$1: $2 -std=$3 $level is not silent:"
            grep -E '(warning|error):' "$said" | head -3
        fi
    done
}

# FILE COMPILER STANDARD WORDS: it says the words.
expect_words() {
    flags="$(head_line "$1" flags) $(head_line "$1" "flags-$(family "$2")")"
    shown=$(head_line "$1" "shown-$(family "$2")")
    case $flags in *-O*) levels= ;; *) levels='-O0 -O2' ;; esac
    for level in ${levels:--DAS_TOLD}; do
        # shellcheck disable=SC2086
        $2 -std="$3" -D_GNU_SOURCE $level $flags -c -o /dev/null "$1" > "$said" 2>&1
        if grep -Eq "(warning|error):.*($4)" "$said" && grep -Eq "$shown" "$said"; then
            passed=$((passed + 1))
        else
            fail "$1: $2 $level $flags does not say \"$4\", but:"
            grep -E '(warning|error):' "$said" | head -3
        fi
    done
}

one_file() {
    words=$(head_line "$1" expect)
    [ -n "$words" ] || words=$(head_line "$1" "expect-$(family "$2")")
    case $1 in *.cc) compiler=$(sister "$2") standard=c++17 ;; *) compiler=$2 standard=c11 ;; esac
    command -v "$compiler" > /dev/null || return
    if [ "$words" = nothing ]; then
        expect_nothing "$1" "$compiler" c11 c
        command -v "$(sister "$2")" > /dev/null &&
            expect_nothing "$1" "$(sister "$2")" c++17 c++
    elif [ -n "$words" ]; then
        expect_words "$1" "$compiler" "$standard" "$words"
    elif ! sed -n 1,3p "$1" | grep -q '^/\* expect-'; then
        fail "$1: its first line does not say what to expect"
    fi
}

[ $# -gt 0 ] || set -- *.c *.cc
for cc in ${CCS:-gcc clang}; do
    for compiler in "$cc" "$(sister "$cc")"; do
        command -v "$compiler" > /dev/null || echo "skipped: no $compiler"
    done
    for file; do one_file "$file" "$cc"; done
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]

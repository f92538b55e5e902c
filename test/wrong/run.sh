#!/bin/sh
# run.sh [FILE...] - every mistake in this folder must be explained by every compiler.
#
# The first lines of a program say what is to be heard:
#
#     /* expect: REGEX */          a warning or an error that matches, from each compiler
#     /* expect-gcc: REGEX */      from gcc only; so for clang; one that has none is not asked
#     /* expect: nothing */        no word, also under the strictest flags, in C and in C++
#     /* flags: -W... */           in place of -Wall -Wextra
#
# CCS names the C compilers; a .cc goes to their C++ sisters.
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

# FILE COMPILER LANGUAGE: it compiles without a word.
expect_nothing() {
    # shellcheck disable=SC2086
    if $2 -std="$3" -D_GNU_SOURCE $strict -O1 -c -x "$4" -o /dev/null "$1" > "$said" 2>&1 &&
        [ ! -s "$said" ]; then
        passed=$((passed + 1))
    else
        fail "$1: $2 -std=$3 is not silent:"
        grep -E '(warning|error):' "$said" | head -3
    fi
}

# FILE COMPILER STANDARD WORDS: it says the words.
expect_words() {
    flags='-Wall -Wextra'
    if grep -q '^/\* flags:' "$1"; then flags=$(head_line "$1" flags); fi
    # shellcheck disable=SC2086
    $2 -std="$3" -D_GNU_SOURCE $flags -O1 -c -o /dev/null "$1" > "$said" 2>&1
    if grep -Eq "(warning|error):.*($4)" "$said"; then
        passed=$((passed + 1))
    else
        fail "$1: $2 does not say \"$4\", but:"
        grep -E '(warning|error):' "$said" | head -3
    fi
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

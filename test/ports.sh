#!/bin/sh
# ports.sh [ROW...] - other compilers, levels, machines and libraries.
#
# Each row builds tests of the portable parts and, where the machine can run them, runs them.
# What is not installed is skipped by name; `test/deps.sh ports` installs it. Rows: levels
# lto m32 aarch64 riscv64 musl tcc mingw msvc msan valgrind.
set -u
cd "$(dirname "$0")/.." || exit 1
passed=0
failed=0
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
warn='-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wimplicit-fallthrough -Werror'
posix='-std=c11 -D_GNU_SOURCE -DTAKT_NO_URING -I.'
all='outcome op memory timer keywords sched chan net loop dump'
some='keywords sched loop'

check() { # TEXT STATUS
    if [ "$2" -eq 0 ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL $1"
        tail -n 5 "$scratch/said"
    fi
}

have() { # PROGRAM PACKAGE
    command -v "$1" > /dev/null && return
    echo "skipped: no $1 (package $2)"
    return 1
}

compile() { # TEXT COMMAND...: compiles without a word
    text=$1
    shift
    "$@" > "$scratch/said" 2>&1 && [ ! -s "$scratch/said" ]
    status=$?
    check "$text does not compile cleanly" $status
    return $status
}

run() { # TEXT COMMAND...: a test that passes
    text=$1
    shift
    timeout -k 5 120 "$@" > "$scratch/said" 2>&1 < /dev/null &&
        grep -Eq '^[1-9][0-9]* passed, 0 failed' "$scratch/said"
    check "$text does not pass" $?
}

# The tests named in $3, built with COMPILER FLAGS, run under RUNNER (may be empty).
suite() { # ROW RUNNER TESTS COMPILER FLAGS...
    row=$1 runner=$2 tests=$3
    shift 3
    for name in $tests; do
        compile "$row: $name.c" "$@" "test/$name.c" -o "$scratch/$name" || continue
        # shellcheck disable=SC2086
        run "$row: $name" $runner "$scratch/$name"
    done
}

# Every real backend that is portable, seen from coroutines.
backends() { # ROW RUNNER COMPILER FLAGS...
    row=$1 runner=$2
    shift 2
    compile "$row: contract.c" "$@" test/contract.c -o "$scratch/contract" || return
    for backend in epoll poll; do
        # shellcheck disable=SC2086
        run "$row: contract $backend" $runner "$scratch/contract" $backend
    done
}

row_levels() {
    for cc in gcc clang; do
        have $cc $cc || continue
        for level in -O0 -O1 -O2 -O3 -Os "-O2 -DNDEBUG"; do
            # shellcheck disable=SC2086
            suite "$cc $level" "" "$some" $cc $warn $posix $level
        done
    done
}

row_lto() {
    for cc in gcc clang; do
        have $cc $cc || continue
        echo 'int main(void) { return 0; }' > "$scratch/main.c"
        lto=$([ $cc = gcc ] && echo -flto=auto || echo -flto)
        if ! $cc $lto "$scratch/main.c" -o "$scratch/main" 2> /dev/null; then
            echo "skipped: $cc cannot link with -flto here"
            continue
        fi
        # shellcheck disable=SC2086
        compile "$cc -flto: two_a.c two_b.c" $cc $warn $posix -O2 $lto test/two_a.c \
            test/two_b.c -o "$scratch/two" && run "$cc -flto: two" "$scratch/two"
        # shellcheck disable=SC2086
        # not keywords.c, whose mistakes are told of when it is linked, too
        suite "$cc -flto" "" "sched loop chan" $cc $warn $posix -O3 $lto
    done
}

row_m32() {
    have gcc gcc || return
    # where gcc-multilib is not installed, since it excludes cross compilers
    asm="-idirafter /usr/include/$(gcc -print-multiarch)"
    echo '#include <errno.h>
int main(void) { return ENOENT == 0; }' > "$scratch/main.c"
    # shellcheck disable=SC2086
    if ! gcc -m32 $asm "$scratch/main.c" -o "$scratch/main" 2> /dev/null; then
        echo "skipped: gcc has no -m32 (packages gcc-12-multilib libc6-dev-i386)"
        return
    fi
    # shellcheck disable=SC2086
    suite m32 "" "$all" gcc -m32 $asm $warn $posix -O2
    # shellcheck disable=SC2086
    backends m32 "" gcc -m32 $asm $warn $posix -O2
}

cross() { # ROW TRIPLE QEMU
    have "$2-gcc" "gcc-$2" || return
    if ! command -v "$3" > /dev/null; then
        echo "skipped: running $1: no $3 (package qemu-user)"
        # shellcheck disable=SC2086
        compile "$1: contract.c" "$2-gcc" $warn $posix -O2 -static test/contract.c \
            -o "$scratch/contract"
        return
    fi
    # shellcheck disable=SC2086
    suite "$1" "$3" "$all" "$2-gcc" $warn $posix -O2 -static
    # shellcheck disable=SC2086
    backends "$1" "$3" "$2-gcc" $warn $posix -O2 -static
}

row_aarch64() {
    cross aarch64 aarch64-linux-gnu qemu-aarch64
}

row_riscv64() {
    cross riscv64 riscv64-linux-gnu qemu-riscv64
}

row_musl() {
    have musl-gcc musl-tools || return
    # its own headers alone: linux/ and asm/ are the kernel's, and come last
    kernel="$scratch/kernel"
    mkdir "$kernel"
    ln -s /usr/include/linux /usr/include/asm-generic "$kernel"
    ln -s "/usr/include/$(gcc -print-multiarch)/asm" "$kernel/asm"
    # shellcheck disable=SC2086
    suite musl "" "$all" musl-gcc $warn $posix -O2 -static
    # shellcheck disable=SC2086
    backends musl "" musl-gcc $warn $posix -O2 -static -idirafter "$kernel"
}

row_tcc() {
    have tcc tcc || return
    suite "tcc, core" "" loop tcc -DTAKT_NO_POSIX -I.
    # shellcheck disable=SC2086
    suite tcc "" "$all" tcc $posix
}

row_mingw() {
    have x86_64-w64-mingw32-gcc gcc-mingw-w64-x86-64 || return
    # shellcheck disable=SC2086
    compile "mingw: loop.c" x86_64-w64-mingw32-gcc -std=c11 $warn -DTAKT_NO_POSIX -I. -O2 \
        test/loop.c -o "$scratch/loop.exe" || return
    if command -v wine > /dev/null; then
        run "mingw: loop" wine "$scratch/loop.exe"
    else
        echo "skipped: running mingw's: no wine"
    fi
}

# No Windows headers are at hand: those that the core asks for are written down here.
row_msvc() {
    have clang clang || return
    mkdir "$scratch/msvc"
    (
        cd "$scratch/msvc" || exit
        printf '%s\n' '#pragma once' 'int *_errno(void);' '#define errno (*_errno())' > errno.h
        for pair in EPERM=1 ENOENT=2 EINTR=4 EIO=5 E2BIG=7 EBADF=9 EAGAIN=11 ENOMEM=12 EACCES=13 \
            EFAULT=14 EBUSY=16 EEXIST=17 EINVAL=22 ENFILE=23 EMFILE=24 EPIPE=32 EDEADLK=36 \
            ENOSYS=40 EADDRINUSE=100 EADDRNOTAVAIL=101 EAFNOSUPPORT=102 ECANCELED=105 \
            ECONNABORTED=106 ECONNREFUSED=107 ECONNRESET=108 EDESTADDRREQ=109 EHOSTUNREACH=110 \
            EINPROGRESS=112 EISCONN=113 EMSGSIZE=115 ENETUNREACH=118 ENOBUFS=119 ENOTCONN=126 \
            ENOTSOCK=128 ENOTSUP=129 EOVERFLOW=132 EPROTO=134 ETIMEDOUT=138; do
            echo "#define ${pair%=*} ${pair#*=}"
        done >> errno.h
        printf '%s\n' '#pragma once' '#include <stddef.h>' \
            'void *memset(void *, int, size_t);' 'void *memcpy(void *, const void *, size_t);' \
            'void *memmove(void *, const void *, size_t);' \
            'size_t strlen(const char *);' 'int strcmp(const char *, const char *);' \
            'char *strcpy(char *, const char *);' \
            'char *strstr(const char *, const char *);' > string.h
        printf '%s\n' '#pragma once' '#include <stddef.h>' 'void *calloc(size_t, size_t);' \
            'void free(void *);' 'void abort(void);' 'char *getenv(const char *);' \
            'int atoi(const char *);' > stdlib.h
        printf '%s\n' '#pragma once' '#define assert(x) ((void)sizeof(x))' > assert.h
        printf '%s\n' '#pragma once' '#include <stddef.h>' 'typedef struct FILE FILE;' \
            'extern FILE *stderr, *stdout;' 'int fprintf(FILE *, const char *, ...);' \
            'int printf(const char *, ...);' '#define _IOLBF 64' \
            'int setvbuf(FILE *, char *, int, size_t);' > stdio.h
    )
    for standard in c11 c++17; do
        compile "MSVC mode, $standard: loop.c" clang --driver-mode=cl -Zs \
            --target=x86_64-pc-windows-msvc "-std:$standard" -W4 -WX \
            -Xclang -ffreestanding -imsvc "$scratch/msvc" -Wno-unused-command-line-argument \
            "$([ $standard = c11 ] && echo -TC || echo -TP)" -DTAKT_NO_POSIX -I. -- test/loop.c
    done
}

row_msan() {
    have clang clang || return
    echo 'int main(void) { return 0; }' > "$scratch/main.c"
    if ! clang -fsanitize=memory "$scratch/main.c" -o "$scratch/main" 2> /dev/null; then
        echo "skipped: clang has no MemorySanitizer here"
        return
    fi
    suite msan "" "keywords sched net" clang -std=c11 -D_GNU_SOURCE -I. -g -O1 -fsanitize=memory
    compile "msan: lend.c" clang -std=c11 -D_GNU_SOURCE -I. -g -O1 -fsanitize=memory \
        test/lend.c -luring -o "$scratch/lend" && run "msan: lend" "$scratch/lend"
}

row_valgrind() {
    have valgrind valgrind || return
    compile "valgrind: lend.c" gcc -std=c11 -D_GNU_SOURCE -I. -g -O1 -DTAKT_VALGRIND \
        test/lend.c -luring -o "$scratch/lend" &&
        run "valgrind: lend" test/valgrind.sh "$scratch/lend"
}

[ $# -gt 0 ] || set -- levels lto m32 aarch64 riscv64 musl tcc mingw msvc msan valgrind
for row; do "row_$row"; done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]

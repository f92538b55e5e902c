#!/bin/sh
# deps.sh [ports|bench|kernels|coverage] - installs the Debian packages that the build and the
# default suite need (and with `ports`, those of test/ports.sh, with `bench` those of takt's
# peers, with `kernels` those of test/kernels.sh, with `coverage` gcovr), if any is missing: as
# root, with a sudo that asks nothing, or where CI=true. Else it says what to type, and fails.
set -u
missing=
need() { # PROGRAM-OR-HEADER PACKAGE
    case $1 in
    /*) [ -e "$1" ] || missing="$missing $2" ;;
    *) command -v "$1" > /dev/null 2>&1 || missing="$missing $2" ;;
    esac
}
need gcc gcc
need make make
need g++ g++
need clang clang
need nm binutils
need awk mawk
need python3 python3-minimal
need curl curl
need /usr/include/liburing.h liburing-dev
need /usr/include/enet/enet.h libenet-dev
need /usr/include/uv.h libuv1-dev
need /usr/include/stdio.h libc6-dev
if [ "${1:-}" = ports ]; then
    # not gcc-multilib, which excludes the cross compilers; the one with a number does not
    version=$(gcc -dumpversion 2> /dev/null || echo 12)
    need "/usr/lib/gcc/x86_64-linux-gnu/${version%%.*}/32" "gcc-${version%%.*}-multilib"
    need /usr/include/gnu/stubs-32.h libc6-dev-i386
    need aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu
    need /usr/aarch64-linux-gnu/include/stdio.h libc6-dev-arm64-cross
    need riscv64-linux-gnu-gcc gcc-riscv64-linux-gnu
    need /usr/riscv64-linux-gnu/include/stdio.h libc6-dev-riscv64-cross
    need qemu-aarch64 qemu-user
    need musl-gcc musl-tools
    need x86_64-w64-mingw32-gcc gcc-mingw-w64-x86-64
    need tcc tcc
    need valgrind valgrind
fi
if [ "${1:-}" = kernels ]; then
    need qemu-system-x86_64 qemu-system-x86
    need busybox busybox-static
    need cpio cpio
fi
if [ "${1:-}" = bench ]; then
    need valgrind valgrind
    need taskset util-linux
    need /usr/sbin/haproxy haproxy
    need /usr/lib/nginx/modules/ngx_stream_module.so libnginx-mod-stream
    need socat socat
    need ip iproute2
    need /usr/include/ev.h libev-dev
    need /usr/include/event2/event.h libevent-dev
fi
if [ "${1:-}" = coverage ]; then
    need gcovr gcovr
fi
[ -z "$missing" ] && exit 0

install="apt-get install -y --no-install-recommends$missing"
if [ "$(id -u)" -eq 0 ]; then
    run=
elif command -v sudo > /dev/null 2>&1 &&
    { sudo -n true 2> /dev/null || [ "${CI:-}" = true ]; }; then
    run="sudo -n"
else
    echo "These packages are missing; please install them:" >&2
    echo "    sudo apt-get update && sudo $install" >&2
    exit 1
fi
echo "installing:$missing" >&2
$run apt-get update -qq > /dev/null || exit 1
DEBIAN_FRONTEND=noninteractive $run $install > /dev/null

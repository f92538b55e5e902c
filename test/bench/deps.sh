#!/bin/sh
# deps.sh - installs the Debian packages of takt's peers that `make bench` needs, if any is
# missing: as root, with a sudo that asks nothing, or where CI=true. Else it says what to
# type, and fails.
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
need python3 python3-minimal
need valgrind valgrind
need taskset util-linux
need /usr/sbin/haproxy haproxy
need /usr/include/liburing.h liburing-dev
need /usr/include/uv.h libuv1-dev
need /usr/include/ev.h libev-dev
need /usr/include/event2/event.h libevent-dev
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
DEBIAN_FRONTEND=noninteractive $run $install > /dev/null || exit 1
case $missing in
*haproxy*) # Debian starts it as a service; nobody asked for that
    $run systemctl disable --now haproxy > /dev/null 2>&1 ||
        $run service haproxy stop > /dev/null 2>&1
    ;;
esac
exit 0

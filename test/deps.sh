#!/bin/sh
# deps.sh - installs the Debian packages that the build and the default suite need, if any
# is missing: as root, with a sudo that asks nothing, or where CI=true. Else it says what to
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
need g++ g++
need clang clang
need nm binutils
need awk mawk
need python3 python3-minimal
need curl curl
need /usr/include/liburing.h liburing-dev
need /usr/include/stdio.h libc6-dev
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

#!/bin/sh
# kernels.sh [-k VERSION]... TEST... - build/test/TEST on other kernels than the running one.
#
# Each kernel is Debian's own package, fetched and unpacked into build/kernels/, not installed.
# It runs under QEMU without KVM, with nothing but a file system in memory: a static busybox,
# the tests, python3 and the libraries they need. There test/run.sh runs the tests, which write
# to one serial line, and the kernel to another. A line for each kernel and test; at the end
# `N passed, N failed`.
#
# Emulation alone makes a guest crash now and then. It is started again at most twice, and only
# if no function of io_uring stands in what the kernel wrote of the crash; that stays in
# build/kernels/VERSION.crash. MINUTES says how long a guest may run, LIMIT how many seconds
# each test. ONLY='COMMAND' runs that instead, and shows what it says.
set -u
cd "$(dirname "$0")/.." || exit 1
here=$PWD/build/kernels
kernels=
while [ "${1:-}" = -k ]; do
    kernels="$kernels $2"
    shift 2
done
kernels=${kernels:-5.10 6.1 6.12}
tests=$*
passed=0
failed=0
mkdir -p "$here/apt/lists/partial" "$here/apt/cache/archives/partial"
for program in qemu-system-x86_64 busybox cpio dpkg-deb apt-get; do
    command -v "$program" > /dev/null && continue
    echo "no $program: test/deps.sh kernels installs it"
    exit 77
done

# The suite of Debian that has the kernel VERSION.
suite() { # VERSION
    case $1 in
    5.10) echo bullseye ;;
    6.1) echo bookworm ;;
    6.12) echo bookworm-backports ;;
    *) echo sid ;;
    esac
}

# apt with lists of its own: from where this machine has its Debian, but of that suite. Both
# forms of sources that apt knows are read.
write_sources() { # VERSION
    name=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
    {
        cat /etc/apt/sources.list.d/*.sources 2> /dev/null
        echo
        sed -nE 's/^deb +(\[[^]]*\] +)?([^ ]+) +([^ ]+) +(.*)/\2 \3/p' /etc/apt/sources.list \
            /etc/apt/sources.list.d/*.list 2> /dev/null |
            while read -r uri suite; do
                printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\n' "$uri" "$suite"
                printf 'Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n'
            done
    } | awk -v RS= -v name="$name" -v suite="$(suite "$1")" '
        $0 ~ "(^|\n)Suites:([^\n]* )?" name "( |\n|$)" {
            sub(/Suites:[^\n]*/, "Suites: " suite)
            print
            exit
        }' > "$here/apt/kernels.sources"
    [ -s "$here/apt/kernels.sources" ]
}

apt() { # apt-get|apt-cache ARGUMENT...
    program=$1
    shift
    "$program" -q -o "Dir::Etc::sourcelist=$here/apt/kernels.sources" \
        -o Dir::Etc::sourceparts=/dev/null -o "Dir::State::lists=$here/apt/lists" \
        -o "Dir::Cache=$here/apt/cache" -o APT::Sandbox::User= "$@" < /dev/null
}

# Unpacks the newest kernel VERSION into build/kernels/VERSION, unless it is there.
fetch() { # VERSION
    ls "$here/$1"/boot/vmlinuz* > /dev/null 2>&1 && return
    write_sources "$1" && apt apt-get update > "$here/apt/said" 2>&1 ||
        { tail -n 3 "$here/apt/said"; echo "no Debian mirror has it"; return 1; }
    pattern="^linux-image-$(echo "$1" | sed 's/\./\\./g')\\.[^ ]*[0-9]-cloud-amd64\$"
    package=$(apt apt-cache search --names-only "$pattern" | cut -d ' ' -f 1 | sort -V | tail -n 1)
    [ -n "$package" ] || { echo "no package of Linux $1"; return 1; }
    echo "Linux $1: fetching $package"
    (cd "$here/apt" && apt apt-get download "$package") > "$here/apt/said" 2>&1 ||
        { tail -n 3 "$here/apt/said"; return 1; }
    dpkg-deb -x "$here/apt/$package"_*.deb "$here/$1" && rm "$here/apt/$package"_*.deb
}

# Copies FILE, and the libraries it needs, into the guest: these to where they are here, FILE
# itself to PLACE.
put() { # FILE [PLACE]
    mkdir -p "$(dirname "$root${2:-$1}")"
    cp -L "$1" "$root${2:-$1}"
    ldd "$1" 2> /dev/null | sed -nE 's/^(.*=> |[[:space:]]*)(\/[^ ]+) .*/\2/p' |
        while read -r library; do
            mkdir -p "$root$(dirname "$library")"
            [ -e "$root$library" ] || cp -L "$library" "$root$library"
        done
}

put_python() {
    python=$(python3 -c 'import os, sys; print(os.path.realpath(sys.executable))')
    library=$(python3 -c 'import os; print(os.path.dirname(os.__file__))')
    put "$python"
    for module in "$library"/lib-dynload/*.so; do put "$module"; done
    ln -s "$python" "$root/usr/bin/python3"
    (cd "$library" && find . -name '*.py' ! -path '*/test/*' ! -path './*-packages/*' \
        ! -path './idlelib/*' ! -path './lib2to3/*' ! -path './ensurepip/*' |
        cpio -pdm --quiet "$root$library")
    # what the guest makes of times of files is nothing to go by
    python3 -m compileall -q --invalidation-mode unchecked-hash -s "$root" "$root$library"
}

write_init() {
    cat << 'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin:/usr/bin HOME=/tmp
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts
mount -t devpts pts /dev/pts
mount -t tmpfs tmp /tmp
ln -sf /proc/self/fd /dev/fd
ip link set lo up
ulimit -n 65536
# pages of two megabytes would be what the tests measure
echo madvise > /sys/kernel/mm/transparent_hugepage/enabled
export TAKT_TEST_VM=1 SLOW=10 # this machine is the tests' own, and no fast one
exec > /dev/ttyS1 2>&1 < /dev/null
stty -F /dev/ttyS1 -onlcr
cd /takt
echo "# $(uname -r)"
build/doctor | sed 's/^/# /'
sh /takt/run
echo "# over"
poweroff -f
INIT
}

# The guest's whole file system, $here/guest.cpio.
pack() { # COMMAND...
    root=$here/root
    rm -rf "$root"
    for part in bin usr/bin proc sys dev tmp etc takt/build/test takt/test; do
        mkdir -p "$root/$part"
    done
    cp "$(command -v busybox)" "$root/bin/busybox"
    ln -s busybox "$root/bin/sh"
    ln -s ../../bin/busybox "$root/usr/bin/env"
    echo '127.0.0.1 localhost' > "$root/etc/hosts"
    echo 'root:x:0:0::/tmp:/bin/sh' > "$root/etc/passwd"
    write_init > "$root/init"
    chmod +x "$root/init"
    cp test/run.sh test/proxy.py test/harness.py "$root/takt/test"
    for file in build/doctor build/proxy $(printf 'build/test/%s ' $tests); do
        put "$file" "/takt/$file"
    done
    put_python
    {
        echo "export JOBS=1 LIMIT=${LIMIT:-900}"
        [ -n "${ONLY:-}" ] && echo "$ONLY; exit"
        printf 'exec test/run.sh'
        printf " '%s'" "$@"
        echo
    } > "$root/takt/run"
    (cd "$root" && find . | cpio -o -H newc -R 0:0 --quiet) > "$here/guest.cpio"
}

# Runs the guest once. True if it came to its end.
boot() { # VERSION
    rm -f "$here/$1.out" "$here/$1.log"
    timeout -k 5 "$((${MINUTES:-60} * 60))" qemu-system-x86_64 \
        -accel tcg,thread=single -cpu qemu64,-cx16 -smp 1 \
        -m 1536 -nodefaults -no-user-config -no-reboot -display none -nic none \
        -kernel "$(ls "$here/$1"/boot/vmlinuz*)" -initrd "$here/guest.cpio" \
        -append "console=ttyS0 loglevel=4 panic=-1 rdinit=/init" \
        -serial "file:$here/$1.log" -serial "file:$here/$1.out" \
        -object rng-random,filename=/dev/urandom,id=rng -device virtio-rng-pci,rng=rng \
        < /dev/null > "$here/$1.qemu" 2>&1
    grep -q '^# over' "$here/$1.out"
}

# A crash that has nothing to do with io_uring: no frame of its, no worker of its.
crashed_elsewhere() { # VERSION
    grep -Eq 'Oops|BUG: |general protection fault|Kernel panic|double fault' "$here/$1.log" &&
        ! grep -Eq 'io_uring|iou-|[ _]io_[a-z_]*\+0x' "$here/$1.log"
}

run() { # VERSION
    if ! fetch "$1"; then
        [ "$1" = 5.10 ] && { echo "skip Linux 5.10: Debian has put it away"; return; }
        echo "FAIL Linux $1: it could not be fetched"
        failed=$((failed + 1))
        return
    fi
    for again in 1 2 3; do
        boot "$1" && break
        [ $again -lt 3 ] && crashed_elsewhere "$1" || break
        cat "$here/$1.log" >> "$here/$1.crash"
        echo "Linux $1: the guest crashed, not in io_uring; once more"
    done
    sed "s/^/Linux $1: /" "$here/$1.out"
    if ! grep -q '^# over' "$here/$1.out"; then
        echo "FAIL Linux $1: the guest did not come to its end"
        tail -n 20 "$here/$1.log" "$here/$1.qemu"
        failed=$((failed + 1))
    fi
    numbers=$(sed -nE 's/^([0-9]+) passed, ([0-9]+) failed.*/\1 \2/p' "$here/$1.out" | tail -n 1)
    [ -n "$numbers" ] && passed=$((passed + ${numbers% *})) failed=$((failed + ${numbers#* }))
}

set -- 'build/doctor && echo 1 passed, 0 failed'
for name in $tests; do
    case $name in
    contract)
        for backend in epoll poll uring refused; do
            set -- "$@" "build/test/contract $backend"
        done ;;
    *) set -- "$@" "build/test/$name" ;;
    esac
done
for backend in uring poll; do set -- "$@" "test/proxy.py build/proxy $backend"; done
pack "$@" || exit 1
for kernel in $kernels; do run "$kernel"; done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]

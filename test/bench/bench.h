/* bench.h - what the programs of test/bench share: clocks, arguments, a listening socket. */
#ifndef BENCH_H
#define BENCH_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BENCH_LIMIT_S = 1800 }; /* no program here lives longer, whatever goes wrong */

__attribute__((noreturn)) static inline void bench_die(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

/* Ends the program in any case. */
static inline void bench_bound(void)
{
    signal(SIGPIPE, SIG_IGN);
    alarm(BENCH_LIMIT_S);
}

static inline uint64_t bench_clock(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline uint64_t bench_now(void)
{
    return bench_clock(CLOCK_MONOTONIC);
}

/* Time on the CPU: what others on the machine do does not count. */
static inline uint64_t bench_cpu(void)
{
    return bench_clock(CLOCK_PROCESS_CPUTIME_ID);
}

/* CPU time of another process, in ns, exact while it sleeps; and of its children, for those who
 * fork for each connection. */
static inline uint64_t bench_cpu_of(int pid, bool itself)
{
    unsigned long long ns = 0;
    char path[64];
    int child;
    FILE *file;
    snprintf(path, sizeof path, "/proc/%d/schedstat", pid);
    file = itself ? fopen(path, "r") : NULL;
    if (itself && (!file || fscanf(file, "%llu", &ns) != 1))
        bench_die(path);
    if (file)
        fclose(file);
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", pid, pid);
    file = fopen(path, "r");
    while (file && fscanf(file, "%d", &child) == 1)
        ns += bench_cpu_of(child, true);
    if (file)
        fclose(file);
    return ns;
}

/* The same sequence for everyone. */
static inline uint64_t bench_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

/* The number in argv[index], at least 1; or the default. */
static inline uint64_t bench_number(int argc, char **argv, int index, uint64_t otherwise)
{
    const long long value = argc > index ? atoll(argv[index]) : 0;
    return value > 0 ? (uint64_t)value : otherwise;
}

static inline void bench_more_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* Listens on a free port of 127.0.0.1 and says which: the servers' first line. */
static inline int bench_listen(void)
{
    struct sockaddr_in addr;
    socklen_t len = sizeof addr;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    memset(&addr, 0, sizeof addr);
    addr.sin_family = AF_INET;
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof addr) < 0 || listen(fd, 4096) < 0 ||
        getsockname(fd, (struct sockaddr *)&addr, &len) < 0)
        bench_die("listen");
    fprintf(stderr, "listening on 127.0.0.1:%d\n", ntohs(addr.sin_port));
    return fd;
}

/* A datagram socket of the same kind, with room for bursts. */
static inline int bench_udp(void)
{
    struct sockaddr_in addr;
    socklen_t len = sizeof addr;
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), room = 4 << 20;
    memset(&addr, 0, sizeof addr);
    addr.sin_family = AF_INET;
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof addr) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room) < 0 ||
        getsockname(fd, (struct sockaddr *)&addr, &len) < 0)
        bench_die("a datagram socket");
    fprintf(stderr, "listening on 127.0.0.1:%d\n", ntohs(addr.sin_port));
    return fd;
}

#endif

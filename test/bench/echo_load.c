/*
 * echo_load.c - the load on an echo server: connections that ask, wait and compare.
 *
 *     echo_load --connect 127.0.0.1:PORT [--connections N] [--size BYTES] [--ms N]
 *               [--warm-ms N] [--pid SERVER] [--spin]
 *     echo_load --connect 127.0.0.1:PORT --idle N
 *
 * The first keeps one request in flight on each connection, checks every byte, and prints
 *
 *     requests seconds p50_us p99_us server_cpu_ns switches
 *
 * It counts from silence to silence: before and after, all answers are in and the server
 * sleeps, so that the kernel's account of its CPU time and context switches is exact.
 * --spin asks epoll without sleeping: with one connection the load's own wake-up would
 * otherwise be half of what is measured.
 *
 * The second opens N/2 connections, has each answered once, prints "idle N/2" and waits for
 * a line on stdin; opens the rest, prints "idle N" and waits for the end of stdin.
 *
 * Plain POSIX and epoll, no takt: it must not share a mistake with what it measures.
 * Exit: 0; 1 a byte differed or a connection failed; 2 usage.
 */
#include "bench.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/epoll.h>

enum {
    SIZE_MAX_BYTES = 65536,
    PER_SOURCE = 20000, /* connections from one of 127.0.0.x: there are 28000 ports */
    EVENTS = 256
};

struct connection {
    int fd;
    size_t got;
    uint64_t asked_ns;
};

static struct {
    struct sockaddr_in server;
    int count, idle, ms, warm_ms, pid;
    size_t size;
    bool spin;
    int epoll;
    int busy;  /* connections that wait for an answer */
    bool asking;
    uint64_t requests;
    uint64_t latency[64 * 64]; /* counts, see slot_of() */
} load;

static struct connection *connections;
static unsigned char question[SIZE_MAX_BYTES], answer[SIZE_MAX_BYTES];

/* -- percentiles: 0.1 us by magnitude, 32 steps to each doubling ------------ */

static size_t slot_of(uint64_t value)
{
    size_t shift = 0;
    while (value >> shift >= 64)
        shift++;
    return shift ? 32 * shift + (size_t)(value >> shift) : (size_t)value;
}

static double percentile(uint64_t percent)
{
    uint64_t left = load.requests * percent / 100;
    size_t slot = 0;
    for (; slot + 1 < sizeof load.latency / sizeof *load.latency; slot++) {
        if (left < load.latency[slot])
            break;
        left -= load.latency[slot];
    }
    return (double)(slot < 64 ? slot : (uint64_t)(slot % 32 + 32) << (slot / 32 - 1)) / 10;
}

/* -- connections ------------------------------------------------------------- */

static void ask(struct connection *connection)
{
    connection->got = 0;
    connection->asked_ns = bench_now();
    load.busy++;
    /* The last answer is in, so that the socket's buffer is empty: there is room. */
    if (send(connection->fd, question, load.size, MSG_NOSIGNAL) != (ssize_t)load.size)
        bench_die("send");
}

static void receive(struct connection *connection)
{
    const ssize_t got = recv(connection->fd, answer, sizeof answer, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        errno = got < 0 ? errno : ECONNRESET;
        bench_die("a connection ended");
    }
    if (connection->got + (size_t)got > load.size ||
        memcmp(answer, question + connection->got, (size_t)got) != 0) {
        errno = EBADMSG;
        bench_die("a byte differs");
    }
    connection->got += (size_t)got;
    if (connection->got < load.size)
        return;
    load.busy--;
    load.requests++;
    load.latency[slot_of((bench_now() - connection->asked_ns) / 100)]++;
    if (load.asking)
        ask(connection);
}

static void turn(void)
{
    struct epoll_event events[EVENTS];
    const int count = epoll_wait(load.epoll, events, EVENTS, load.spin ? 0 : 100);
    for (int i = 0; i < count; i++)
        receive((struct connection *)events[i].data.ptr);
}

/* Until all answers are in. */
static void settle(void)
{
    const uint64_t end = bench_now() + 10000000000u;
    load.asking = false;
    while (load.busy > 0) {
        turn();
        if (bench_now() > end) {
            errno = ETIMEDOUT;
            bench_die("no answer");
        }
    }
}

static void open_one(int index)
{
    struct connection *const connection = &connections[index];
    const int one = 1;
    struct epoll_event event;
    struct sockaddr_in source = load.server;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    source.sin_port = 0;
    source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)(index / PER_SOURCE));
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (fd < 0 || bind(fd, (struct sockaddr *)&source, sizeof source) < 0 ||
        connect(fd, (struct sockaddr *)&load.server, sizeof load.server) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) < 0 ||
        fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
        bench_die("connect");
    memset(&event, 0, sizeof event);
    event.events = EPOLLIN;
    event.data.ptr = connection;
    connection->fd = fd;
    if (epoll_ctl(load.epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        bench_die("epoll_ctl");
}

/* -- the server's account ------------------------------------------------------ */

/* The number behind `label` in a file, or the file's first number. */
static uint64_t number_in(const char *path, const char *label)
{
    char text[4096];
    uint64_t value = 0;
    FILE *const file = fopen(path, "r");
    if (file) {
        const size_t len = fread(text, 1, sizeof text - 1, file);
        const char *at;
        text[len] = '\0';
        at = strstr(text, label);
        value = at ? strtoull(at + strlen(label), NULL, 10) : 0;
        fclose(file);
    }
    return value;
}

/* CPU time and context switches of all its threads: io_uring may have workers. The time of its
 * children too. */
static void server_account(uint64_t *cpu_ns, uint64_t *switches)
{
    char path[300];
    struct dirent *entry;
    DIR *threads;
    *cpu_ns = load.pid ? bench_cpu_of(load.pid, false) : 0;
    *switches = 0;
    snprintf(path, sizeof path, "/proc/%d/task", load.pid);
    threads = load.pid ? opendir(path) : NULL;
    while (threads && (entry = readdir(threads))) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/%d/task/%.20s/schedstat", load.pid, entry->d_name);
        *cpu_ns += number_in(path, "");
        snprintf(path, sizeof path, "/proc/%d/task/%.20s/status", load.pid, entry->d_name);
        *switches += number_in(path, "\nvoluntary_ctxt_switches:");
    }
    if (threads)
        closedir(threads);
}

/* -- the two uses --------------------------------------------------------------- */

static uint64_t run_for(int ms)
{
    const uint64_t start = bench_now();
    const uint64_t end = start + (uint64_t)ms * 1000000u;
    load.requests = 0;
    memset(load.latency, 0, sizeof load.latency);
    load.asking = true;
    for (int i = 0; i < load.count; i++)
        ask(&connections[i]);
    while (bench_now() < end)
        turn();
    settle();
    return bench_now() - start;
}

static void run_load(void)
{
    const struct timespec a_moment = {.tv_sec = 0, .tv_nsec = 3000000};
    uint64_t ns, cpu[2], switches[2];
    for (int i = 0; i < load.count; i++)
        open_one(i);
    run_for(load.warm_ms);
    nanosleep(&a_moment, NULL);
    server_account(&cpu[0], &switches[0]);
    ns = run_for(load.ms);
    nanosleep(&a_moment, NULL);
    server_account(&cpu[1], &switches[1]);
    printf("%llu %.6f %.1f %.1f %llu %llu\n", (unsigned long long)load.requests,
           (double)ns / 1e9, percentile(50), percentile(99),
           (unsigned long long)(cpu[1] - cpu[0]), (unsigned long long)(switches[1] - switches[0]));
}

static void open_idle(int from, int to)
{
    for (int i = from; i < to; i++) { /* one at a time: no storm that leaves memory behind */
        open_one(i);
        ask(&connections[i]);
        settle();
    }
    printf("idle %d\n", to);
    fflush(stdout);
}

static void run_idle(void)
{
    char line[16];
    open_idle(0, load.idle / 2);
    if (!fgets(line, sizeof line, stdin))
        return;
    open_idle(load.idle / 2, load.idle);
    while (fgets(line, sizeof line, stdin))
        ;
}

/* -- the command line -------------------------------------------------------------- */

static bool parse_address(const char *text)
{
    char host[64];
    unsigned port;
    char end;
    load.server.sin_family = AF_INET;
    if (sscanf(text, "%63[0-9.]:%5u%c", host, &port, &end) != 2 || port == 0 || port > 65535)
        return false;
    load.server.sin_port = htons((uint16_t)port);
    return inet_pton(AF_INET, host, &load.server.sin_addr) == 1;
}

static bool parse_option(const char *name, const char *value)
{
    const int number = atoi(value);
    if (strcmp(name, "--connect") == 0)
        return parse_address(value);
    if (strcmp(name, "--connections") == 0)
        return (load.count = number) > 0;
    if (strcmp(name, "--idle") == 0)
        return (load.idle = number) > 0;
    if (strcmp(name, "--size") == 0)
        return (load.size = (size_t)number) > 0 && load.size <= SIZE_MAX_BYTES;
    if (strcmp(name, "--ms") == 0)
        return (load.ms = number) > 0 && number <= 60000;
    if (strcmp(name, "--warm-ms") == 0)
        return (load.warm_ms = number) > 0 && number <= 60000;
    return strcmp(name, "--pid") == 0 && (load.pid = number) > 0;
}

static bool parse(int argc, char **argv)
{
    load.count = 64;
    load.size = 64;
    load.ms = 1000;
    load.warm_ms = 100;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--spin") == 0)
            load.spin = true;
        else if (i + 1 == argc || !parse_option(argv[i], argv[i + 1]))
            return false;
        else
            i++;
    }
    return load.server.sin_port != 0;
}

int main(int argc, char **argv)
{
    uint64_t seed = 88172645463325252u;
    if (!parse(argc, argv)) {
        fprintf(stderr, "usage: echo_load --connect IPV4:PORT [--connections N] [--size BYTES]\n"
                        "       [--ms N] [--warm-ms N] [--pid SERVER] [--spin] | --idle N\n");
        return 2;
    }
    bench_bound();
    bench_more_descriptors();
    for (size_t i = 0; i < sizeof question; i++)
        question[i] = (unsigned char)bench_random(&seed);
    connections = (struct connection *)calloc(
        (size_t)(load.idle > load.count ? load.idle : load.count), sizeof *connections);
    load.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!connections || load.epoll < 0)
        bench_die("start");
    if (load.idle)
        run_idle();
    else
        run_load();
    return 0;
}

/*
 * demo.c - the load of `make demo`: HTTP clients that compare every byte.
 *
 *     build/demo --connect 127.0.0.1:PORT --connections 200 --seconds 6
 *     build/demo --connect 127.0.0.1:PORT --idle 2000
 *
 * The first keeps so many connections busy with GET /N for a mix of sizes, and compares
 * each body with the pattern of examples/http.c. The last line, on stdout:
 *
 *     requests bytes seconds errors mismatches p50_us p99_us
 *
 * The second opens so many connections, has each answered once, writes "idle N" on stdout
 * and is silent until its stdin ends. Then each must answer once more.
 *
 * It must not share a mistake with what it measures: plain POSIX and epoll, no takt.
 * Exit: 0; 1 a byte differed, or a connection failed or ended early; 2 usage; 3 too late.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PERIOD         65521
#define CHUNK          (256 * 1024)   /* bytes received at a time */
#define SMALL          (16 * 1024)    /* bodies up to here count for the latency */
#define GRACE_S        5              /* for what is under way when the time is over */
#define START_S        10             /* for connecting, at most */
#define IDLE_S         60             /* the idle connections end by then */
#define CONNECTIONS    10000          /* at most */

struct connection {
    int fd; /* -1: closed */
    bool busy;
    uint64_t asked_ns;   /* when */
    uint64_t length;     /* of the body */
    uint64_t done;       /* bytes of it that have arrived */
    bool in_body;
    size_t head_len;     /* bytes of the head that have arrived */
    char head[512];
};

static struct {
    struct sockaddr_in address;
    int connections, idle, seconds;
    int epoll;
    int busy; /* connections that wait for an answer */
    int alive;
    bool stdin_ended;
    uint64_t seed;
    uint64_t requests, bytes, errors, mismatches;
    uint64_t latency[64 * 64]; /* of small requests: counts, see slot_of() */
    uint64_t small;
} demo;

static struct connection connections[CONNECTIONS];
static unsigned char expected[PERIOD + CHUNK];
static unsigned char received[CHUNK];

/* -- time, chance, percentiles -------------------------------------------- */

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t chance(uint64_t below)
{
    demo.seed ^= demo.seed << 13;
    demo.seed ^= demo.seed >> 7;
    demo.seed ^= demo.seed << 17;
    return demo.seed % below;
}

/* The mix: mostly 1 to 16 KiB, 4 % 256 KiB, 1 % nothing, 0.4 % 4 MiB. */
static uint64_t next_length(void)
{
    const uint64_t roll = chance(1000);
    if (roll < 4)
        return 4u << 20;
    if (roll < 14)
        return 0;
    if (roll < 54)
        return 256u << 10;
    return 1024 + chance(15 * 1024 + 1);
}

/* Microseconds by magnitude, 32 steps to each doubling: within 3 %. */
static size_t slot_of(uint64_t us)
{
    size_t shift = 0;
    while (us >> shift >= 64)
        shift++;
    return shift ? 32 * shift + (size_t)(us >> shift) : (size_t)us;
}

static uint64_t us_of(size_t slot)
{
    return slot < 64 ? slot : (uint64_t)(slot % 32 + 32) << (slot / 32 - 1);
}

static uint64_t percentile(uint64_t percent)
{
    uint64_t left = demo.small * percent / 100;
    size_t slot = 0;
    for (; slot + 1 < sizeof demo.latency / sizeof *demo.latency; slot++) {
        if (left < demo.latency[slot])
            break;
        left -= demo.latency[slot];
    }
    return demo.small ? us_of(slot) : 0;
}

/* -- one connection ------------------------------------------------------- */

/* Counts what went wrong, and tells of the first ones. */
static void fail(struct connection *c, const char *what)
{
    if (++demo.errors <= 5)
        fprintf(stderr, "demo: connection %ld: %s, at byte %llu of %llu\n",
                (long)(c - connections), what, (unsigned long long)c->done,
                (unsigned long long)c->length);
    close(c->fd);
    c->fd = -1;
    demo.alive--;
    demo.busy -= c->busy ? 1 : 0;
    c->busy = false;
}

static void ask(struct connection *c, uint64_t length)
{
    char text[96];
    const int n = snprintf(text, sizeof text, "GET /%llu HTTP/1.1\r\nHost: demo\r\n\r\n",
                           (unsigned long long)length);
    c->busy = true;
    demo.busy++;
    c->length = length;
    c->done = 0;
    c->in_body = false;
    c->head_len = 0;
    c->asked_ns = now_ns();
    /* The last answer is in, so that the socket's buffer is empty: there is room. */
    if (send(c->fd, text, (size_t)n, MSG_NOSIGNAL) != n)
        fail(c, "cannot send a request");
}

static void finish(struct connection *c)
{
    const uint64_t us = (now_ns() - c->asked_ns) / 1000;
    c->busy = false;
    demo.busy--;
    demo.requests++;
    if (c->length <= SMALL) {
        demo.latency[slot_of(us)]++;
        demo.small++;
    }
}

/* Takes bytes of the head from `data`. How many; `n` + 1 if it is not what we expect. */
static size_t take_head(struct connection *c, const unsigned char *data, size_t n)
{
    size_t i;
    for (i = 0; i < n; i++) {
        if (c->head_len + 1 == sizeof c->head)
            return n + 1;
        c->head[c->head_len++] = (char)data[i];
        if (c->head_len >= 4 && memcmp(c->head + c->head_len - 4, "\r\n\r\n", 4) == 0) {
            const char *field;
            c->head[c->head_len] = '\0';
            field = strstr(c->head, "\r\nContent-Length: ");
            if (strncmp(c->head, "HTTP/1.1 200 ", 13) != 0 || !field ||
                strtoull(field + 18, NULL, 10) != c->length)
                return n + 1;
            c->in_body = true;
            return i + 1;
        }
    }
    return n;
}

/* Compares a piece of the body. False, and told: a byte differs. */
static bool compare(struct connection *c, const unsigned char *data, size_t n)
{
    const unsigned char *const want = expected + c->done % PERIOD;
    size_t i = 0;
    if (memcmp(data, want, n) == 0)
        return true;
    while (data[i] == want[i])
        i++;
    demo.mismatches++;
    c->done += i;
    return false;
}

static void receive(struct connection *c)
{
    const ssize_t got = recv(c->fd, received, sizeof received, 0);
    size_t n, at = 0;
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        fail(c, got < 0 ? strerror(errno) : c->busy ? "ended early" : "ended while idle");
        return;
    }
    n = (size_t)got;
    if (!c->busy) {
        fail(c, "bytes that nobody asked for");
        return;
    }
    if (!c->in_body) {
        at = take_head(c, received, n);
        if (at > n) {
            fail(c, "not the head of a response to the request");
            return;
        }
    }
    if (!c->in_body)
        return;
    if (n - at > c->length - c->done) {
        fail(c, "more bytes than announced");
        return;
    }
    if (!compare(c, received + at, n - at)) {
        fail(c, "A BYTE DIFFERS");
        return;
    }
    c->done += n - at;
    demo.bytes += n - at;
    if (c->done == c->length)
        finish(c);
}

/* -- all of them ---------------------------------------------------------- */

static bool open_connection(struct connection *c)
{
    const int one = 1;
    struct epoll_event event;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 ||
        connect(c->fd, (const struct sockaddr *)&demo.address, sizeof demo.address) < 0 ||
        fcntl(c->fd, F_SETFL, O_NONBLOCK) < 0 ||
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) < 0) {
        fprintf(stderr, "demo: cannot connect: %s\n", strerror(errno));
        return false;
    }
    memset(&event, 0, sizeof event);
    event.events = EPOLLIN;
    event.data.ptr = c;
    demo.alive++;
    return epoll_ctl(demo.epoll, EPOLL_CTL_ADD, c->fd, &event) == 0;
}

/* Serves what has arrived, or waits a little. `again`: who is answered asks the next. */
static void turn(bool again)
{
    struct epoll_event events[64];
    const int count = epoll_wait(demo.epoll, events, 64, 100);
    int i;
    for (i = 0; i < count; i++) {
        struct connection *const c = (struct connection *)events[i].data.ptr;
        if (!c) {
            char drop[64];
            demo.stdin_ended = read(STDIN_FILENO, drop, sizeof drop) <= 0;
            continue;
        }
        if (c->fd >= 0)
            receive(c);
        if (again && c->fd >= 0 && !c->busy)
            ask(c, next_length());
    }
}

static void settle(uint64_t deadline)
{
    int i;
    while (demo.busy > 0 && now_ns() < deadline)
        turn(false);
    for (i = 0; i < CONNECTIONS; i++)
        if (connections[i].fd >= 0 && connections[i].busy)
            fail(&connections[i], "no answer in time");
}

static void show_progress(double seconds, uint64_t requests, uint64_t bytes, double since)
{
    const bool tty = isatty(STDERR_FILENO);
    fprintf(stderr, "%sdemo: %4.1f s  %8.0f requests/s  %6.2f GB/s  %llu errors%s",
            tty ? "\r" : "", seconds, (double)requests / since, (double)bytes / since / 1e9,
            (unsigned long long)demo.errors, tty ? "" : "\n");
}

static void run_load(void)
{
    const uint64_t start = now_ns();
    const uint64_t end = start + (uint64_t)demo.seconds * 1000000000u;
    uint64_t shown = start, requests = 0, bytes = 0, now;
    int i;
    for (i = 0; i < demo.connections; i++)
        if (connections[i].fd >= 0)
            ask(&connections[i], next_length());
    while ((now = now_ns()) < end && demo.alive > 0) {
        turn(true);
        if (now - shown >= 1000000000u) {
            show_progress((double)(now - start) / 1e9, demo.requests - requests,
                          demo.bytes - bytes, (double)(now - shown) / 1e9);
            shown = now;
            requests = demo.requests;
            bytes = demo.bytes;
        }
    }
    settle(now_ns() + GRACE_S * 1000000000ull);
    if (isatty(STDERR_FILENO))
        fputc('\n', stderr);
    printf("%llu %llu %.3f %llu %llu %llu %llu\n", (unsigned long long)demo.requests,
           (unsigned long long)demo.bytes, (double)(now_ns() - start) / 1e9,
           (unsigned long long)demo.errors, (unsigned long long)demo.mismatches,
           (unsigned long long)percentile(50), (unsigned long long)percentile(99));
}

/* One small answer for each connection; few at a time, for what a storm leaves behind in
 * the proxy is not what an idle connection costs. */
static void ask_all(void)
{
    const uint64_t deadline = now_ns() + GRACE_S * 1000000000ull;
    int i;
    for (i = 0; i < demo.idle; i++) {
        if (connections[i].fd >= 0)
            ask(&connections[i], next_length() % SMALL);
        while (demo.busy >= 16 && now_ns() < deadline)
            turn(false);
    }
    settle(deadline);
}

static void run_idle(void)
{
    struct epoll_event event;
    ask_all();
    printf("idle %d\n", demo.alive);
    fflush(stdout);
    memset(&event, 0, sizeof event); /* no pointer: stdin */
    event.events = EPOLLIN;
    if (epoll_ctl(demo.epoll, EPOLL_CTL_ADD, STDIN_FILENO, &event) == 0) {
        while (!demo.stdin_ended)
            turn(false);
        epoll_ctl(demo.epoll, EPOLL_CTL_DEL, STDIN_FILENO, &event);
    }
    ask_all();
}

/* -- the command line ----------------------------------------------------- */

static void too_late(int number)
{
    static const char text[] = "demo: the time is over, and it has not ended\n";
    (void)number;
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0)
        _exit(4);
    _exit(3);
}

static bool parse_address(const char *text)
{
    char host[64];
    unsigned port;
    char end;
    demo.address.sin_family = AF_INET;
    if (sscanf(text, "%63[0-9.]:%5u%c", host, &port, &end) != 2 || port == 0 || port > 65535)
        return false;
    demo.address.sin_port = htons((uint16_t)port);
    return inet_pton(AF_INET, host, &demo.address.sin_addr) == 1;
}

static bool parse_number(const char *text, int most, int *number)
{
    char *end;
    const long value = strtol(text, &end, 10);
    *number = (int)value;
    return end != text && !*end && value > 0 && value <= most;
}

static bool parse(int argc, char **argv)
{
    int i;
    int seed = 1;
    bool connect_to = false;
    for (i = 1; i + 1 < argc; i += 2) {
        const char *const name = argv[i], *const value = argv[i + 1];
        if (strcmp(name, "--connect") == 0 && parse_address(value))
            connect_to = true;
        else if ((strcmp(name, "--connections") != 0 ||
                  !parse_number(value, CONNECTIONS, &demo.connections)) &&
                 (strcmp(name, "--idle") != 0 ||
                  !parse_number(value, CONNECTIONS, &demo.idle)) &&
                 (strcmp(name, "--seconds") != 0 ||
                  !parse_number(value, 3600, &demo.seconds)) &&
                 (strcmp(name, "--seed") != 0 || !parse_number(value, 1 << 30, &seed)))
            return false;
    }
    demo.seed = (uint64_t)seed * 0x9e3779b97f4a7c15u;
    return i == argc && connect_to && (demo.idle > 0) != (demo.connections > 0);
}

int main(int argc, char **argv)
{
    struct rlimit limit;
    size_t n;
    int i;

    demo.seconds = 6;
    if (!parse(argc, argv)) {
        fprintf(stderr, "usage: demo --connect IPV4:PORT (--connections N [--seconds N] | "
                        "--idle N) [--seed N]\n");
        return 2;
    }
    signal(SIGALRM, too_late);
    alarm((unsigned)(START_S + (demo.idle ? IDLE_S : demo.seconds) + 2 * GRACE_S));

    for (n = 0; n < sizeof expected; n++) { /* as examples/http.c documents it */
        const uint64_t k = n % PERIOD;
        expected[n] = (unsigned char)(((k * k * 2654435761u) & 0xffffffffu) >> 24);
    }
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    demo.epoll = epoll_create1(EPOLL_CLOEXEC);
    for (i = 0; i < CONNECTIONS; i++)
        connections[i].fd = -1;
    for (i = 0; i < demo.idle + demo.connections; i++)
        if (!open_connection(&connections[i]))
            return 1;
    if (demo.idle)
        run_idle();
    else
        run_load();
    for (i = 0; i < CONNECTIONS; i++)
        if (connections[i].fd >= 0)
            close(connections[i].fd);
    return demo.errors || demo.mismatches;
}

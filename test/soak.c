/*
 * soak.c - gibibytes through build/proxy, and every byte of them looked at.
 *
 *     build/soak PROGRAM BACKEND GIB [SEED]     BACKEND: uring, poll; GIB: 0.5, 64 ...
 *
 * This process is all clients and the server at once. A connection is planned from the seed: how
 * much goes either way, in messages of 1 byte to 256 KiB, in phases, so that the proxy goes from
 * its buffers to splice(2) and back; how slowly it is read; and how it ends: by itself, by a
 * reset or a close of either side in the middle, or by silence that is longer than the proxy's
 * limit. Now and then the proxy is told to drain, with little time, and begun anew.
 *
 * A byte depends on its connection, its direction and its place. What arrives has to be the
 * beginning of what was sent; a clean end may come after all of it only, and only if the other
 * side has made one. What was cut off may be short, and never wrong.
 */
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
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define GIB ((double)(1 << 30))

enum {
    PAIRS = 48,
    BLOCK = 256 * 1024,
    IDLE_MS = 2000,  /* the proxy's limit of silence */
    SLOWEST = 2048,  /* bytes a millisecond; less is silence: see .idle of takt_relay */
    DRAIN_MS = 200,
    PATIENCE_S = 60, /* for any connection to end */
    CLIENT = 0,
    SERVER = 1
};

enum mode { WHOLE, RESET, LEAVE, SILENT };

struct end {
    int fd; /* -1: over */
    uint32_t index;
    uint64_t seed;        /* of what it sends */
    uint64_t sent, total; /* of that, without the name */
    uint64_t got;
    size_t step;       /* bytes of a message */
    uint64_t phase;    /* messages are as long up to here */
    size_t most;       /* bytes to read at a time */
    int64_t read_ms;   /* when it last did */
    bool open, ended;  /* it has shut down its way; so has its peer */
    bool broken;       /* by an error, or by itself */
    uint32_t interest; /* of epoll */
};

struct pair {
    bool used, whole_planned;
    uint32_t serial;
    enum mode mode;
    int who;           /* breaks it */
    uint64_t break_at; /* when so many bytes were sent and got there */
    bool silent;
    int64_t since;
    struct end ends[2];
};

struct guest { /* accepted, and has not said who it is */
    int fd;
    unsigned have;
    unsigned char name[8];
};

static struct pair pairs[PAIRS];
static struct guest guests[4 * PAIRS];
static int epoll, listener, server_port, proxy_port, failures, restarts, pipes_most;
static pid_t proxy;
static uint64_t random_state, checked, by_mode[4][2]; /* pairs: cut short, whole */
static uint64_t lost; /* nothing was to happen to them, and no drain did */
static bool draining;
static int64_t now_ms;

static uint64_t draw(void)
{
    uint64_t x = random_state += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static uint64_t below(uint64_t n)
{
    return draw() % n;
}

static void fail(const struct pair *pair, const char *what)
{
    if (failures++ < 20)
        printf("FAIL connection %u (mode %d): %s; client %llu/%llu got %llu, server %llu/%llu got "
               "%llu\n", pair->serial, (int)pair->mode, what,
               (unsigned long long)pair->ends[0].sent, (unsigned long long)pair->ends[0].total,
               (unsigned long long)pair->ends[0].got, (unsigned long long)pair->ends[1].sent,
               (unsigned long long)pair->ends[1].total, (unsigned long long)pair->ends[1].got);
}

static void die(const char *what)
{
    perror(what);
    if (proxy > 0)
        kill(proxy, SIGKILL);
    exit(1);
}

/* Bytes `at` to `at` + `n` of a stream, until the next call. n <= BLOCK. */
static const unsigned char *stream(uint64_t seed, uint64_t at, size_t n)
{
    static uint64_t words[BLOCK / 8 + 2];
    const size_t count = n / 8 + 2;
    const uint64_t first = seed + at / 8 * 0x9e3779b97f4a7c15u;
    for (size_t i = 0; i < count; i++)
        words[i] = first + i * 0x9e3779b97f4a7c15u;
    return (const unsigned char *)words + at % 8;
}

/* -- ends ------------------------------------------------------------------------- */

static struct pair *pair_of(const struct end *end)
{
    return &pairs[end->index / 2];
}

static struct end *peer_of(struct end *end)
{
    return &pair_of(end)->ends[end->index % 2 == CLIENT ? SERVER : CLIENT];
}

static void watch(struct end *end)
{
    struct epoll_event event;
    uint32_t interest = end->ended ? 0 : EPOLLIN;
    if (!pair_of(end)->silent && end->open)
        interest |= EPOLLOUT;
    if (end->fd < 0 || interest == end->interest)
        return;
    event.events = interest;
    event.data.u32 = end->index;
    epoll_ctl(epoll, end->interest == UINT32_MAX ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, end->fd, &event);
    end->interest = interest;
}

static void over(struct end *end, bool reset)
{
    const struct linger linger = {1, 0};
    if (end->fd < 0)
        return;
    if (reset)
        setsockopt(end->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    close(end->fd);
    end->fd = -1;
}

static void broken(struct end *end)
{
    end->broken = true;
    over(end, true);
}

/* The plan may say that this is as far as it goes. */
static void consider(struct end *end)
{
    struct pair *const pair = pair_of(end);
    if (end->fd < 0 || pair->mode == WHOLE || pair->silent ||
        end->index % 2 != (uint32_t)pair->who || end->sent + end->got < pair->break_at)
        return;
    if (pair->mode == SILENT) {
        pair->silent = true;
        watch(peer_of(end));
        return;
    }
    end->broken = true;
    end->open = end->open && pair->mode == RESET; /* a close may be a clean end of its way */
    over(end, pair->mode == RESET);
}

static void next_phase(struct end *end)
{
    static const size_t steps[] = {1, 7, 64, 600, 4096, 16384, 40000, 65536, BLOCK};
    const uint64_t kind = below(sizeof steps / sizeof steps[0]);
    end->step = steps[kind];
    end->phase = end->sent + end->step * (1 + below(end->step < 4096 ? 60 : 200));
}

static void speak(struct end *end)
{
    while (end->open && !pair_of(end)->silent && end->fd >= 0) {
        const uint64_t left = end->total - end->sent;
        ssize_t n;
        if (left == 0) {
            shutdown(end->fd, SHUT_WR);
            end->open = false;
            return;
        }
        if (end->sent >= end->phase)
            next_phase(end);
        n = send(end->fd, stream(end->seed, end->sent, end->step),
                 left < end->step ? left : end->step, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN)
            broken(end); /* a receive would now tell of a clean end: it is told once */
        if (n <= 0)
            return;
        end->sent += (uint64_t)n;
        consider(end);
        if (end->step < 4096 || (size_t)n < end->step)
            return; /* small ones go one at a time */
    }
}

static void clean_end(struct end *end)
{
    const struct end *const peer = peer_of(end);
    end->ended = true;
    if (peer->open)
        fail(pair_of(end), "a clean end that nobody made");
    else if (end->got != peer->sent)
        fail(pair_of(end), "a clean end too early");
}

static void hear(struct end *end)
{
    static unsigned char buf[BLOCK];
    struct end *const peer = peer_of(end);
    const size_t due = (size_t)(now_ms - end->read_ms) * SLOWEST;
    const size_t most = due < end->most ? end->most : due < BLOCK ? due : BLOCK;
    const ssize_t n = recv(end->fd, buf, most, 0);
    end->read_ms = now_ms;
    if (n < 0) {
        if (errno != EAGAIN)
            broken(end);
        return;
    }
    if (n == 0) {
        clean_end(end);
        return;
    }
    if (end->got + (uint64_t)n > peer->sent)
        fail(pair_of(end), "more than was sent");
    else if (memcmp(buf, stream(peer->seed, end->got, (size_t)n), (size_t)n) != 0)
        fail(pair_of(end), "wrong bytes");
    end->got += (uint64_t)n;
    checked += (uint64_t)n;
    consider(end);
}

/* -- connections -------------------------------------------------------------------- */

static uint64_t size_of_way(void)
{
    if (below(8) == 0)
        return below(3);
    return below((uint64_t)1 << (4 + below(23))); /* up to 64 MiB, small ones as often as large */
}

static void set_up(struct end *end, int fd)
{
    const int yes = 1, small = 262144 << below(3);
    end->fd = fd;
    end->read_ms = now_ms;
    end->interest = UINT32_MAX;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (end->most < BLOCK)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    watch(end);
}

static void begin(struct pair *pair, uint32_t index)
{
    static uint32_t serial;
    struct sockaddr_in addr;
    uint32_t name[2];
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const uint64_t kind = below(20);
    memset(pair, 0, sizeof *pair);
    pair->used = true;
    pair->serial = ++serial;
    pair->since = now_ms;
    pair->mode = kind < 13 ? WHOLE : kind < 16 ? RESET : kind < 19 ? LEAVE : SILENT;
    pair->who = (int)below(2);
    for (uint32_t i = 0; i < 2; i++) {
        struct end *const end = &pair->ends[i];
        end->fd = -1;
        end->index = 2 * index + i;
        end->seed = draw();
        end->total = size_of_way();
        end->open = true;
        end->most = below(6) ? BLOCK : 300 + below(8192);
    }
    pair->break_at = below(pair->ends[0].total + pair->ends[1].total + 1);
    memset(&addr, 0, sizeof addr);
    addr.sin_family = AF_INET;
    addr.sin_port = htons((uint16_t)proxy_port);
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    name[0] = index;
    name[1] = pair->serial;
    if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof addr) < 0 ||
        send(fd, name, sizeof name, MSG_NOSIGNAL) != (ssize_t)sizeof name)
        die("connect");
    set_up(&pair->ends[CLIENT], fd);
    consider(&pair->ends[CLIENT]);
}

/* True once both ends are over; or the client is, and the server never heard of it. */
static bool finish(struct pair *pair)
{
    bool all = true, whole = true;
    for (int i = 0; i < 2; i++) {
        struct end *const end = &pair->ends[i];
        if (end->fd >= 0 && end->ended && !end->open)
            over(end, false);
        all = all && end->fd < 0;
        whole = whole && !end->broken && end->ended && !end->open;
    }
    if (!all)
        return false;
    if (whole && pair->mode == SILENT && pair->silent)
        whole = false; /* it was over before anybody fell silent */
    by_mode[pair->mode][whole]++;
    lost += pair->mode == WHOLE && !whole && !draining;
    pair->used = false;
    return true;
}

static void meet(struct guest *guest)
{
    uint32_t name[2];
    const ssize_t n = recv(guest->fd, guest->name + guest->have, 8 - guest->have, 0);
    struct pair *pair;
    if (n < 0 && errno == EAGAIN)
        return;
    if (n > 0 && (guest->have += (unsigned)n) < 8)
        return;
    memcpy(name, guest->name, sizeof name);
    pair = &pairs[name[0] % PAIRS];
    if (n > 0 && (name[0] >= PAIRS || name[1] > 1u << 30))
        fail(pair, "a name that nobody has");
    if (n > 0 && pair->used && pair->serial == name[1]) {
        epoll_ctl(epoll, EPOLL_CTL_DEL, guest->fd, NULL);
        set_up(&pair->ends[SERVER], guest->fd);
        consider(&pair->ends[SERVER]);
    } else {
        close(guest->fd); /* who is gone already */
    }
    guest->fd = -1;
}

static void take_guests(void)
{
    for (uint32_t i = 0; i < 4 * PAIRS; i++) {
        struct epoll_event event;
        if (guests[i].fd >= 0)
            continue;
        guests[i].fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (guests[i].fd < 0)
            return;
        guests[i].have = 0;
        event.events = EPOLLIN;
        event.data.u32 = 2 * PAIRS + i;
        epoll_ctl(epoll, EPOLL_CTL_ADD, guests[i].fd, &event);
    }
}

/* -- the proxy ---------------------------------------------------------------------- */

static void start_proxy(char **argv)
{
    char upstream[64], idle[32], drain[32], line[256] = "";
    const char *colon;
    int out[2];
    FILE *said;
    snprintf(upstream, sizeof upstream, "127.0.0.1:%d", server_port);
    snprintf(idle, sizeof idle, "%dms", IDLE_MS);
    snprintf(drain, sizeof drain, "%dms", DRAIN_MS);
    if (pipe(out) < 0 || (proxy = fork()) < 0)
        die("fork");
    if (proxy == 0) {
        dup2(out[1], 2);
        close(out[0]);
        close(out[1]);
        execl(argv[1], argv[1], "--listen", "127.0.0.1:0", "--upstream", upstream, "--backend",
              argv[2], "--idle", idle, "--drain", drain, "--quiet", "--threads",
              restarts % 2 ? "2" : "1", restarts % 4 < 2 ? "--sandbox-kill" : "--quiet",
              (char *)NULL);
        _exit(99);
    }
    close(out[1]);
    said = fdopen(out[0], "r");
    if (!said || !fgets(line, sizeof line, said) || !(colon = strchr(line + 7, ':')))
        die("no proxy");
    proxy_port = atoi(colon + 1);
    if (proxy_port <= 0 || !strstr(line, " -> "))
        die(line);
    /* it goes on to write there: a few lines fit into a pipe */
}

static void count_pipes(void)
{
    char path[64], to[64];
    int pipes = 0;
    for (int fd = 0; fd < 1200; fd++) {
        ssize_t n;
        snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)proxy, fd);
        n = readlink(path, to, sizeof to);
        pipes += n > 5 && memcmp(to, "pipe:", 5) == 0;
    }
    if (pipes > pipes_most)
        pipes_most = pipes;
}

static void proxy_has_ended(void)
{
    int status = 0;
    if (waitpid(proxy, &status, 0) != proxy || status != 0) {
        printf("FAIL the proxy ended with status %#x\n", (unsigned)status);
        failures++;
    }
    proxy = 0;
}

/* -- the loop ----------------------------------------------------------------------- */

static void turn(void)
{
    struct epoll_event events[64];
    const int n = epoll_wait(epoll, events, 64, 100);
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    now_ms = (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
    for (int i = 0; i < n; i++) {
        const uint32_t index = events[i].data.u32;
        if (index == UINT32_MAX) {
            take_guests();
        } else if (index >= 2 * PAIRS) {
            if (guests[index - 2 * PAIRS].fd >= 0)
                meet(&guests[index - 2 * PAIRS]);
        } else {
            struct end *const end = &pairs[index / 2].ends[index % 2];
            if (end->fd >= 0 && !end->ended && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                hear(end);
            else if (end->fd >= 0 && events[i].events & (EPOLLHUP | EPOLLERR))
                broken(end);
            if (end->fd >= 0 && events[i].events & EPOLLOUT)
                speak(end);
            watch(end);
        }
    }
}

/* True while connections are open. */
static bool tend(bool more)
{
    bool any = false;
    for (uint32_t i = 0; i < PAIRS; i++) {
        struct pair *const pair = &pairs[i];
        if (pair->used && pair->ends[SERVER].interest == 0 && pair->ends[CLIENT].broken)
            pair->ends[SERVER].broken = true; /* it never came, and will not be let in */
        if (pair->used)
            finish(pair);
        if (pair->used && now_ms - pair->since > PATIENCE_S * 1000) {
            fail(pair, "it does not end");
            broken(&pair->ends[0]);
            broken(&pair->ends[1]);
        }
        if (!pair->used && more)
            begin(pair, i);
        any = any || pair->used;
    }
    return any;
}

static void open_listener(void)
{
    struct sockaddr_in addr;
    struct epoll_event event;
    socklen_t len = sizeof addr;
    memset(&addr, 0, sizeof addr);
    addr.sin_family = AF_INET;
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&addr, sizeof addr) < 0 || listen(listener, 1024) < 0 ||
        getsockname(listener, (struct sockaddr *)&addr, &len) < 0)
        die("listen");
    server_port = ntohs(addr.sin_port);
    event.events = EPOLLIN;
    event.data.u32 = UINT32_MAX;
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
}

int main(int argc, char **argv)
{
    const double wanted = argc > 3 ? atof(argv[3]) * GIB : 0;
    double round = wanted / 8 < 4 * GIB ? wanted / 8 : 4 * GIB;
    struct timespec first, last;
    double seconds;
    if (round < GIB / 8)
        round = GIB / 8;
    if (argc < 4 || wanted <= 0) {
        fputs("usage: soak PROGRAM BACKEND GIB [SEED]\n", stderr);
        return 2;
    }
    random_state = argc > 4 ? strtoull(argv[4], NULL, 0) : (uint64_t)time(NULL);
    printf("seed %llu\n", (unsigned long long)random_state);
    for (int i = 0; i < 4 * PAIRS; i++)
        guests[i].fd = -1;
    open_listener();
    clock_gettime(CLOCK_MONOTONIC, &first);
    now_ms = (int64_t)first.tv_sec * 1000 + first.tv_nsec / 1000000;
    for (double goal = round; (double)checked < wanted && failures < 20; goal += round) {
        start_proxy(argv);
        while (tend((double)checked < goal) && (double)checked < goal)
            turn();
        count_pipes();
        draining = true;
        kill(proxy, SIGTERM); /* in the middle of everything */
        restarts++;
        do
            turn();
        while (tend(false));
        proxy_has_ended();
        draining = false;
    }
    clock_gettime(CLOCK_MONOTONIC, &last);
    seconds = (double)(last.tv_sec - first.tv_sec) + (double)(last.tv_nsec - first.tv_nsec) / 1e9;
    printf("%.2f GiB in %.1f s, %.2f GiB/s; %d drains; up to %d ends of pipes\n"
           "connections whole and cut off: %llu %llu, to be reset: %llu %llu, to be left: "
           "%llu %llu, to fall silent: %llu %llu\n", (double)checked / GIB, seconds,
           (double)checked / GIB / seconds, restarts, pipes_most,
           (unsigned long long)by_mode[WHOLE][1], (unsigned long long)by_mode[WHOLE][0],
           (unsigned long long)by_mode[RESET][1], (unsigned long long)by_mode[RESET][0],
           (unsigned long long)by_mode[LEAVE][1], (unsigned long long)by_mode[LEAVE][0],
           (unsigned long long)by_mode[SILENT][1], (unsigned long long)by_mode[SILENT][0]);
    if (lost && ++failures)
        printf("FAIL %llu were cut off that nothing was to happen to\n", (unsigned long long)lost);
    if (pipes_most <= 8 && ++failures)
        puts("FAIL it has hardly spliced");
    printf("%d passed, %d failed\n", failures == 0, failures);
    return failures > 0;
}

/*
 * bulk_load.c - bulk through a proxy: both ends of it, so that every byte is counted.
 *
 *     bulk_load CONNECTIONS MS        listens, and tells where on stderr: the upstream
 *
 * For each line "127.0.0.1:PORT PID" on stdin: opens the connections to that proxy, sends on
 * all of them for MS milliseconds, waits until all has arrived, and prints
 *
 *     bytes seconds proxy_cpu_ns
 *
 * The proxy is measured from silence to silence; before that it is warmed up.
 *
 * Plain POSIX and epoll, no takt: it must not share a mistake with what it measures.
 * Exit: 0; 1 bytes were lost or a connection failed; 2 usage.
 */
#include "bench.h"

#include <fcntl.h>
#include <sys/epoll.h>

enum { EVENTS = 256, PIECE = 128 * 1024, CONNECTIONS_MAX = 4096 };

static unsigned char piece[PIECE];
static int epoll, listener, count, sources[CONNECTIONS_MAX];
static bool is_sink[1 << 16];
static uint64_t sent, received;
static bool sending;

static void watch(int fd, uint32_t events)
{
    struct epoll_event event;
    memset(&event, 0, sizeof event);
    event.events = events;
    event.data.fd = fd;
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        bench_die("epoll_ctl");
}

static void push(int fd)
{
    const ssize_t n = sending ? send(fd, piece, sizeof piece, MSG_NOSIGNAL) : 0;
    if (n < 0 && errno != EAGAIN && errno != EINTR)
        bench_die("send");
    if (n > 0)
        sent += (uint64_t)n;
}

/* Takes what has come, without looking at it. */
static void pull(int fd)
{
    const ssize_t n = recv(fd, NULL, 1 << 20, MSG_TRUNC);
    if (n < 0 && errno != EAGAIN && errno != EINTR)
        bench_die("recv");
    if (n > 0)
        received += (uint64_t)n;
    if (n == 0) {
        is_sink[fd] = false;
        close(fd);
    }
}

static void turn(int wait_ms)
{
    struct epoll_event events[EVENTS];
    const int got = epoll_wait(epoll, events, EVENTS, wait_ms);
    for (int i = 0; i < got; i++) {
        const int fd = events[i].data.fd;
        if (fd == listener) {
            const int sink = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
            if (sink >= 0) {
                is_sink[sink] = true;
                watch(sink, EPOLLIN);
            }
        } else if (is_sink[fd]) {
            pull(fd);
        } else {
            push(fd);
        }
    }
}

/* Until all has arrived, and for a moment after that. */
static void settle(void)
{
    const struct timespec a_moment = {.tv_sec = 0, .tv_nsec = 3000000};
    const uint64_t end = bench_now() + 10000000000u;
    sending = false;
    while (received < sent) {
        turn(0);
        if (bench_now() > end) {
            errno = ETIMEDOUT;
            bench_die("bytes are missing");
        }
    }
    if (received > sent) {
        errno = EBADMSG;
        bench_die("bytes were added");
    }
    nanosleep(&a_moment, NULL);
}

static void send_for(uint64_t ms)
{
    const uint64_t end = bench_now() + ms * 1000000u;
    sending = true;
    for (int i = 0; i < count; i++) {
        struct epoll_event event;
        memset(&event, 0, sizeof event);
        event.events = EPOLLOUT;
        event.data.fd = sources[i];
        epoll_ctl(epoll, EPOLL_CTL_MOD, sources[i], &event);
    }
    while (bench_now() < end)
        turn(10);
    for (int i = 0; i < count; i++) {
        struct epoll_event event;
        memset(&event, 0, sizeof event);
        event.data.fd = sources[i];
        epoll_ctl(epoll, EPOLL_CTL_MOD, sources[i], &event);
    }
    settle();
}

static void run(const struct sockaddr_in *proxy, int pid, uint64_t ms)
{
    uint64_t start, cpu;
    for (int i = 0; i < count; i++) {
        sources[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (sources[i] < 0 ||
            connect(sources[i], (const struct sockaddr *)proxy, sizeof *proxy) < 0)
            bench_die("connect");
        fcntl(sources[i], F_SETFL, O_NONBLOCK);
        watch(sources[i], 0);
    }
    send_for(ms / 4 + 20);
    sent = received = 0;
    cpu = bench_cpu_of(pid, true);
    start = bench_now();
    send_for(ms);
    printf("%llu %.6f ", (unsigned long long)sent, (double)(bench_now() - start) / 1e9);
    printf("%llu\n", (unsigned long long)(bench_cpu_of(pid, true) - cpu));
    fflush(stdout);
    for (int i = 0; i < count; i++)
        close(sources[i]);
    for (int i = 0; i < 20; i++)
        turn(10);
}

int main(int argc, char **argv)
{
    char line[128];
    const uint64_t ms = bench_number(argc, argv, 2, 300);
    count = (int)bench_number(argc, argv, 1, 64);
    if (argc != 3 || count > CONNECTIONS_MAX || ms > 60000)
        return 2;
    bench_bound();
    bench_more_descriptors();
    epoll = epoll_create1(EPOLL_CLOEXEC);
    listener = bench_listen();
    watch(listener, EPOLLIN);
    while (fgets(line, sizeof line, stdin)) {
        struct sockaddr_in proxy;
        char host[64];
        unsigned port;
        int pid;
        memset(&proxy, 0, sizeof proxy);
        if (sscanf(line, "%63[0-9.]:%5u %d", host, &port, &pid) != 3)
            return 2;
        proxy.sin_family = AF_INET;
        proxy.sin_port = htons((uint16_t)port);
        inet_pton(AF_INET, host, &proxy.sin_addr);
        run(&proxy, pid, ms);
    }
    return 0;
}

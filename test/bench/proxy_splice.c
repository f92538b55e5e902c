/*
 * proxy_splice.c - the TCP proxy that one writes by hand for bulk: epoll(7) and splice(2).
 *
 *     proxy_splice 127.0.0.1:PORT
 *
 * Edge-triggered. What is readable goes into a pipe and out of it at once, without having
 * been copied; a pipe is held only while it is not empty, the newest is used again first.
 */
#include "bench.h"

#include <fcntl.h>
#include <sys/epoll.h>

enum { EVENTS = 256, FDS_MAX = 1 << 16, PIPES_MAX = 1024, PIPE_BYTES = 256 * 1024 };

struct pipe {
    int in, out;
};

/* One socket of a pair; what it sends on goes to `peer`. */
struct side {
    int peer; /* -1: it is free, or the listener */
    bool ended, done; /* its end was read; and was passed on */
    struct pipe pipe;
    size_t held; /* bytes in the pipe; 0: there is none */
};

static struct side sides[FDS_MAX];
static struct pipe pipes[PIPES_MAX];
static int pipe_count, epoll;
static struct sockaddr_in upstream;

static bool pipe_take(struct pipe *pipe)
{
    int fds[2];
    if (pipe_count > 0) {
        *pipe = pipes[--pipe_count];
        return true;
    }
    if (pipe2(fds, O_NONBLOCK | O_CLOEXEC) < 0)
        return false;
    fcntl(fds[1], F_SETPIPE_SZ, PIPE_BYTES);
    pipe->out = fds[0];
    pipe->in = fds[1];
    return true;
}

static void pipe_put(struct pipe *pipe, bool empty)
{
    if (empty && pipe_count < PIPES_MAX) {
        pipes[pipe_count++] = *pipe;
        return;
    }
    close(pipe->in);
    close(pipe->out);
}

static void end(int fd)
{
    const int both[] = {fd, sides[fd].peer};
    for (int i = 0; i < 2; i++) {
        struct side *const side = &sides[both[i]];
        if (side->held)
            pipe_put(&side->pipe, false);
        memset(side, 0, sizeof *side);
        side->peer = -1;
        close(both[i]);
    }
}

/* Moves what can be moved from `fd` to its peer. False: the pair is over. */
static bool pump(int fd)
{
    struct side *const side = &sides[fd];
    const unsigned flags = SPLICE_F_MOVE | SPLICE_F_NONBLOCK;
    while (!side->done) {
        ssize_t n;
        if (side->held == 0) {
            if (!side->ended && !pipe_take(&side->pipe))
                return false;
            n = side->ended ? 0 : splice(fd, NULL, side->pipe.in, NULL, PIPE_BYTES, flags);
            if (n <= 0 && !side->ended)
                pipe_put(&side->pipe, true);
            if (n < 0)
                return errno == EAGAIN;
            if (n == 0) {
                shutdown(side->peer, SHUT_WR);
                side->ended = side->done = true;
                return !sides[side->peer].done;
            }
            side->held = (size_t)n;
        }
        n = splice(side->pipe.out, NULL, side->peer, NULL, side->held, flags);
        if (n < 0)
            return errno == EAGAIN;
        side->held -= (size_t)n;
        if (side->held == 0)
            pipe_put(&side->pipe, true);
    }
    return true;
}

static void watch(int fd, uint32_t events)
{
    struct epoll_event event;
    memset(&event, 0, sizeof event);
    event.events = events;
    event.data.fd = fd;
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        bench_die("epoll_ctl");
}

static void accept_all(int listener)
{
    const int one = 1;
    for (;;) {
        const int client = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        int server;
        if (client < 0)
            return;
        server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (server < 0 || server >= FDS_MAX || client >= FDS_MAX ||
            connect(server, (struct sockaddr *)&upstream, sizeof upstream) < 0)
            bench_die("connect"); /* on loopback; it does not wait */
        fcntl(server, F_SETFL, O_NONBLOCK);
        setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        sides[client].peer = server;
        sides[server].peer = client;
        watch(client, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
        watch(server, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
    }
}

int main(int argc, char **argv)
{
    struct epoll_event events[EVENTS];
    char host[64];
    unsigned port;
    int listener;
    if (argc != 2 || sscanf(argv[1], "%63[0-9.]:%5u", host, &port) != 2)
        return 2;
    upstream.sin_family = AF_INET;
    upstream.sin_port = htons((uint16_t)port);
    inet_pton(AF_INET, host, &upstream.sin_addr);
    bench_bound();
    bench_more_descriptors();
    for (int i = 0; i < FDS_MAX; i++)
        sides[i].peer = -1;
    epoll = epoll_create1(EPOLL_CLOEXEC);
    listener = bench_listen();
    watch(listener, EPOLLIN);
    for (;;) {
        const int count = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            const int fd = events[i].data.fd;
            const int peer = sides[fd].peer;
            const uint32_t what = events[i].events;
            bool lives = true;
            if (fd == listener) {
                accept_all(listener);
                continue;
            }
            if (peer < 0)
                continue; /* ended in this round */
            if (what & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
                lives = pump(fd);
            if (lives && what & (EPOLLOUT | EPOLLERR) && sides[peer].held)
                lives = pump(peer);
            if (!lives)
                end(fd);
        }
    }
}

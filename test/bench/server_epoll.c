/*
 * server_epoll.c - the echo server that one writes by hand with epoll(7).
 *
 * Level-triggered; receives into one buffer for all, and answers at once. What the socket
 * does not take is kept aside until it does.
 */
#include "bench.h"

#include <sys/epoll.h>

enum { EVENTS = 256, BUFFER = 16384, FDS_MAX = 1 << 18 };

struct rest {
    size_t len, at;
    unsigned char bytes[];
};

static struct rest *rests[FDS_MAX]; /* by descriptor: what is still to be sent, or NULL */
static unsigned char buffer[BUFFER];
static int epoll;

static void watch(int fd, int change, uint32_t events)
{
    struct epoll_event event;
    memset(&event, 0, sizeof event);
    event.events = events;
    event.data.fd = fd;
    if (epoll_ctl(epoll, change, fd, &event) < 0)
        bench_die("epoll_ctl");
}

static void end(int fd)
{
    free(rests[fd]);
    rests[fd] = NULL;
    close(fd);
}

static void put_aside(int fd, const unsigned char *bytes, size_t len)
{
    struct rest *const rest = (struct rest *)malloc(sizeof *rest + len);
    if (!rest)
        bench_die("malloc");
    rest->len = len;
    rest->at = 0;
    memcpy(rest->bytes, bytes, len);
    rests[fd] = rest;
    watch(fd, EPOLL_CTL_MOD, EPOLLOUT);
}

static void receive(int fd)
{
    const ssize_t got = recv(fd, buffer, sizeof buffer, 0);
    ssize_t sent;
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        end(fd);
        return;
    }
    sent = send(fd, buffer, (size_t)got, MSG_NOSIGNAL);
    if (sent == got)
        return;
    if (sent < 0 && errno != EAGAIN && errno != EINTR)
        end(fd);
    else
        put_aside(fd, buffer + (sent > 0 ? sent : 0), (size_t)(got - (sent > 0 ? sent : 0)));
}

static void send_rest(int fd)
{
    struct rest *const rest = rests[fd];
    const ssize_t sent = send(fd, rest->bytes + rest->at, rest->len - rest->at, MSG_NOSIGNAL);
    if (sent < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (sent < 0) {
        end(fd);
        return;
    }
    rest->at += (size_t)sent;
    if (rest->at < rest->len)
        return;
    free(rest);
    rests[fd] = NULL;
    watch(fd, EPOLL_CTL_MOD, EPOLLIN);
}

static void accept_all(int listener)
{
    for (;;) {
        const int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        if (fd < FDS_MAX)
            watch(fd, EPOLL_CTL_ADD, EPOLLIN);
        else
            close(fd);
    }
}

int main(void)
{
    struct epoll_event events[EVENTS];
    int listener;
    bench_bound();
    bench_more_descriptors();
    epoll = epoll_create1(EPOLL_CLOEXEC);
    listener = bench_listen();
    watch(listener, EPOLL_CTL_ADD, EPOLLIN);
    for (;;) {
        const int count = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            const int fd = events[i].data.fd;
            if (fd == listener)
                accept_all(listener);
            else if (rests[fd])
                send_rest(fd);
            else
                receive(fd);
        }
    }
}

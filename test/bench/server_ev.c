/*
 * server_ev.c - the echo server on libev: a watcher for each connection, one buffer for
 * all. An answer that the socket does not take at once is waited for with poll(2): that
 * never happens here, and libev has no buffers of its own to offer.
 */
#include "bench.h"

#include <ev.h>
#include <poll.h>

static unsigned char buffer[16384];

static void end(struct ev_loop *loop, ev_io *io)
{
    ev_io_stop(loop, io);
    close(io->fd);
    free(io);
}

static bool send_all(int fd, const unsigned char *bytes, size_t len)
{
    while (len) {
        const ssize_t sent = send(fd, bytes, len, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            struct pollfd writable = {.fd = fd, .events = POLLOUT, .revents = 0};
            poll(&writable, 1, 1000);
        } else if (sent < 0) {
            return false;
        } else {
            bytes += sent;
            len -= (size_t)sent;
        }
    }
    return true;
}

static void on_readable(struct ev_loop *loop, ev_io *io, int events)
{
    const ssize_t got = recv(io->fd, buffer, sizeof buffer, 0);
    (void)events;
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0 || !send_all(io->fd, buffer, (size_t)got))
        end(loop, io);
}

static void on_connection(struct ev_loop *loop, ev_io *listener, int events)
{
    int fd;
    (void)events;
    while ((fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        ev_io *const io = (ev_io *)malloc(sizeof *io);
        if (!io)
            bench_die("malloc");
        ev_io_init(io, on_readable, fd, EV_READ);
        ev_io_start(loop, io);
    }
}

int main(void)
{
    struct ev_loop *const loop = ev_default_loop(0);
    ev_io listener;
    bench_bound();
    bench_more_descriptors();
    ev_io_init(&listener, on_connection, bench_listen(), EV_READ);
    ev_io_start(loop, &listener);
    return !ev_run(loop, 0);
}

/*
 * server_stream.c - the echo server again, each connection with a receive stream.
 *
 * examples/echo.c takes one buffer after the other: an idle connection has nothing in the
 * kernel but a poll. Here one request receives everything a connection ever sends, which costs
 * a strand more, and saves a system call for each message.
 */
#define TAKT_IMPLEMENTATION
#include "takt_uring.h"

#include "bench.h"

struct echo {
    takt_frame frame;
    int fd;          /* in: connected socket, closed here */
    takt_bufs *bufs; /* in */
    takt_stream messages;
    takt_item message;
};

static TAKT_CORO(echo)
{
    TAKT_BEGIN(echo, my);
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->fd)); }
    TAKT_DEFER { takt_bufs_put(my->bufs, &my->message.data); }
    TAKT_OPEN(my->messages, takt_recv_multishot(my->fd, my->bufs));
    for (;;) {
        TAKT_NEXT(my->message, my->messages);
        if (my->message.value == 0)
            TAKT_RETURN;
        TAKT_AWAIT(takt_send(my->fd, my->message.data, (size_t)my->message.value));
        takt_bufs_put(my->bufs, &my->message.data);
    }
    TAKT_CATCH {}
    TAKT_END;
}

struct server {
    takt_frame frame;
    int listener;    /* in */
    takt_bufs *bufs; /* in */
    takt_stream guests;
    takt_item guest;
    takt_group connections;
};

static TAKT_CORO(server)
{
    TAKT_BEGIN(server, my);
    TAKT_OPEN(my->guests, takt_accept_multishot(my->listener));
    for (;;) {
        TAKT_NEXT(my->guest, my->guests);
        if (!TAKT_GO(my->connections, echo, .fd = (int)my->guest.value, .bufs = my->bufs))
            TAKT_AWAIT(takt_close((int)my->guest.value));
    }
    TAKT_END;
}

TAKT_LOOP(net, takt_uring);

int main(void)
{
    static net loop;
    static takt_bufs bufs;
    net_config config = net_defaults();
    bench_bound();
    TAKT_POOL(config, echo, 130000, .strands = 2);
    TAKT_POOL(config, server, 1, .strands = 2);
    config.backend.mode = TAKT_URING_ONLY;
    if (takt_raise_fd_limit() < 0 || takt_bufs_init(&bufs, 256, 4096) < 0 ||
        net_init(&loop, &config) < 0 ||
        !TAKT_SPAWN_ON(&loop, server, .listener = bench_listen(), .bufs = &bufs))
        bench_die("server");
    return net_run(&loop) < 0;
}

/*
 * echo.c - sends back what it receives.
 *
 *     cc -D_GNU_SOURCE -I. examples/echo.c -luring -o echo && ./echo --listen 127.0.0.1:7000
 *     echo hello | socat - TCP:127.0.0.1:7000
 *
 * An idle connection holds no buffer: takt_recv_lease() takes one from a pool when there
 * is something to read.
 */
#define TAKT_IMPLEMENTATION
#include "takt_uring.h"

#include "server.h"

/* -- echo: one connection ------------------------------------------------- */

struct echo {
    takt_frame frame;
    int fd;         /* in: connected socket, closed here */
    int n;
    takt_bufs *bufs; /* in */
    unsigned char *data;
};

static TAKT_CORO(echo)
{
    TAKT_BEGIN(echo, my);
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->fd)); }
    TAKT_DEFER { takt_bufs_put(my->bufs, &my->data); }

    for (;;) {
        TAKT_AWAIT(my->n, takt_recv_lease(my->fd, my->bufs, &my->data));
        if (my->n == 0)
            TAKT_RETURN; /* the peer is done */
        TAKT_AWAIT(takt_send(my->fd, my->data, (size_t)my->n));
        takt_bufs_put(my->bufs, &my->data);
    }
    TAKT_CATCH {} /* a reset costs this connection, and nobody needs to hear of it */
    TAKT_END;
}

/* -- ctrl_c: the first signal stops gently, the second at once ---------------- */

struct ctrl_c {
    takt_frame frame;
    int signals;
};

static TAKT_CORO(ctrl_c)
{
    TAKT_BEGIN(ctrl_c, my);
    TAKT_CHECK(my->signals = takt_signals(&my->frame, 1u << SIGINT | 1u << SIGTERM));
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->signals)); }
    TAKT_AWAIT(takt_signal(my->signals));
    takt_stop(takt_sched_of(&my->frame), 5 * TAKT_SEC);
    TAKT_AWAIT(takt_signal(my->signals));
    takt_stop(takt_sched_of(&my->frame), 0);
    TAKT_END;
}

/* -- server: accepts until it is told to stop ------------------------------- */

struct server {
    takt_frame frame;
    const takt_addr *addr; /* in */
    takt_bufs *bufs;       /* in */
    int listener;
    int err;
    takt_stream guests; /* one request accepts them all */
    takt_item guest;
    takt_group connections;
    struct ctrl_c ctrl_c;
};

static void say_ready(struct server *my)
{
    char text[TAKT_ADDR_TEXT];
    takt_addr own;
    takt_sockname(&my->frame, my->listener, &own);
    fprintf(stderr, "echo: listening on %s\n", takt_addr_format(&own, text, sizeof text));
}

static TAKT_CORO(server)
{
    TAKT_BEGIN(server, my);
    TAKT_CHECK(my->listener = takt_listen(&my->frame, my->addr, 0));
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->listener)); }
    TAKT_START(my->ctrl_c, ctrl_c);
    TAKT_YIELD; /* by now it listens to signals */
    say_ready(my);

    TAKT_OPEN(my->guests, takt_accept_multishot(my->listener));
    for (;;) {
        TAKT_TRY_NEXT(my->err, my->guest, my->guests);
        if (my->err < 0)
            break;
        if (!TAKT_GO(my->connections, echo, .fd = (int)my->guest.value, .bufs = my->bufs))
            TAKT_AWAIT(takt_close((int)my->guest.value)); /* full: turn the guest away */
    }
    TAKT_JOIN_GROUP(my->connections);
    if (my->err != TAKT_ESTOPPING)
        TAKT_THROW(my->err);
    TAKT_END;
}

TAKT_LOOP(net, takt_uring);

static const char usage[] =
    "usage: echo --listen ADDRESS [options]\n"
    "  --listen ADDRESS   127.0.0.1:7000, [::1]:7000, :7000 or unix:/path; port 0 picks one\n"
    "  --backend NAME     auto (io_uring if it works, else epoll), uring or poll\n"
    "  --spin US          ask the system for so long before going to sleep  (0)\n"
    "SIGTERM or SIGINT: those who are there have 5 s to end; a second one: at once.\n";

int main(int argc, char **argv)
{
    static net loop;
    static takt_bufs bufs;
    static takt_addr addr;
    net_config config = net_defaults();
    int spin = 0, rc;
    const struct server_option options[] = {
        {"--listen", server_address, &addr, 0},
        {"--spin", server_number, &spin, 1000000},
        {NULL, NULL, NULL, 0},
    };
    server_options("echo", usage, options, &config.backend, argc, argv);
    if (!addr.len)
        server_wrong("echo", "--listen is needed");
    config.backend.spin = spin * TAKT_US;
    TAKT_POOL(config, echo, 130000);
    TAKT_POOL(config, server, 1, .strands = 3);
    takt_raise_fd_limit();
    if ((rc = takt_bufs_init(&bufs, 256, 16384)) < 0 || (rc = net_init(&loop, &config)) < 0)
        return server_fail("echo", "cannot start", rc);
    return !TAKT_SPAWN_ON(&loop, server, .addr = &addr, .bufs = &bufs) || net_run(&loop) < 0;
}

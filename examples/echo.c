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

#include <stdio.h>
#include <stdlib.h>

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
    int number;
};

static TAKT_CORO(ctrl_c)
{
    TAKT_BEGIN(ctrl_c, my);
    TAKT_CHECK(my->signals = takt_signals(&my->frame, 1u << SIGINT | 1u << SIGTERM));
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->signals)); }
    TAKT_AWAIT(my->number, takt_signal(my->signals));
    takt_stop(takt_sched_of(&my->frame), 5 * TAKT_SEC);
    TAKT_AWAIT(my->number, takt_signal(my->signals));
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

/* One option. `config` and `addr` hold what was said. */
static bool option(const char *name, const char *value, takt_addr *addr, net_config *config)
{
    if (strcmp(name, "--listen") == 0)
        return takt_addr_parse(addr, value) == 0;
    if (strcmp(name, "--spin") == 0) {
        config->backend.spin = strtol(value, NULL, 10) * TAKT_US;
        return config->backend.spin >= 0;
    }
    if (strcmp(name, "--backend") != 0)
        return false;
    config->backend.mode = strcmp(value, "poll") == 0    ? TAKT_URING_NEVER
                           : strcmp(value, "uring") == 0 ? TAKT_URING_ONLY
                                                         : TAKT_URING_AUTO;
    return strcmp(value, "poll") == 0 || strcmp(value, "uring") == 0 ||
           strcmp(value, "auto") == 0;
}

static bool parse(int argc, char **argv, takt_addr *addr, net_config *config)
{
    for (int i = 1; i < argc; i += 2)
        if (i + 1 == argc || !option(argv[i], argv[i + 1], addr, config))
            return false;
    return addr->len > 0;
}

int main(int argc, char **argv)
{
    static net loop;
    static takt_bufs bufs;
    net_config config = net_defaults();
    takt_addr addr;

    memset(&addr, 0, sizeof addr);
    if (takt_uring_config_from_env(&config.backend) < 0 || !parse(argc, argv, &addr, &config)) {
        fprintf(stderr, "usage: %s --listen ADDRESS:PORT [--backend auto|uring|poll] "
                        "[--spin MICROSECONDS]\n", argv[0]);
        return 2;
    }
    TAKT_POOL(config, echo, 130000);
    TAKT_POOL(config, server, 1, .strands = 3);
    if (takt_raise_fd_limit() < 0 || takt_bufs_init(&bufs, 256, 16384) < 0 ||
        net_init(&loop, &config) < 0 ||
        !TAKT_SPAWN_ON(&loop, server, .addr = &addr, .bufs = &bufs))
        return 1;
    return net_run(&loop) < 0;
}

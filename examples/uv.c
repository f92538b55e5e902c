/*
 * uv.c - an echo server of takt's inside a program of libuv's.
 *
 *     cc -O2 -D_GNU_SOURCE -I. -Iexamples examples/uv.c -luring -luv -o uv
 *     ./uv --listen 127.0.0.1:7000 --idle 10000
 *
 * takt_uv.h runs the one loop in the other. Connections are coroutines; signals, and a clock that
 * counts seconds, are libuv's, whose callbacks talk to coroutines and stop them.
 */
#define TAKT_IMPLEMENTATION
#include "takt_uring.h"
#include "server.h"
#include "takt_uv.h"

#include <signal.h>

enum { GUESTS = 1000 };

TAKT_LOOP(net, takt_uring);
TAKT_UV(net);

static struct {
    net loop;
    takt_uv in_uv;
    uv_signal_t signals[2];
    uv_timer_t clock;
    takt_ns idle; /* how long a guest may be silent */
    unsigned guests, seconds;
} app;

/* -- takt's part ------------------------------------------------------------------------ */

struct echo {
    takt_frame frame;
    int fd; /* in: closed here */
    int n;
    char buf[4096];
};

static TAKT_CORO(echo)
{
    TAKT_BEGIN(echo, my);
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->fd)); }
    for (;;) {
        TAKT_AWAIT(my->n, takt_within(app.idle, takt_recv(my->fd, my->buf, sizeof my->buf)));
        if (my->n == 0)
            TAKT_RETURN;
        TAKT_AWAIT(takt_send(my->fd, my->buf, (size_t)my->n));
    }
    TAKT_CATCH {}
    TAKT_END;
}

struct server {
    takt_frame frame;
    takt_addr addr; /* in */
    int listener, fd, err;
    takt_group guests;
    takt_stream stream;
    takt_item item;
};

static TAKT_CORO(server)
{
    char text[TAKT_ADDR_TEXT];
    TAKT_BEGIN(server, my);
    TAKT_CHECK(my->listener = takt_listen(&my->frame, &my->addr, 0));
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->listener)); }
    TAKT_CHECK(takt_sockname(&my->frame, my->listener, &my->addr));
    fprintf(stderr, "uv: listening on %s\n", takt_addr_format(&my->addr, text, sizeof text));
    TAKT_OPEN(my->stream, takt_accept_multishot(my->listener));
    for (;;) {
        TAKT_TRY_NEXT(my->err, my->item, my->stream);
        if (my->err < 0)
            break;
        my->fd = (int)my->item.value;
        app.guests++;
        if (!TAKT_GO(my->guests, echo, .fd = my->fd))
            TAKT_AWAIT(takt_close(my->fd)); /* full: turn the guest away */
    }
    TAKT_JOIN_GROUP(my->guests);
    if (my->err != TAKT_ESTOPPING)
        TAKT_THROW(my->err);
    TAKT_END;
}

/* -- libuv's part ------------------------------------------------------------------------ */

static void on_second(uv_timer_t *clock)
{
    (void)clock;
    app.seconds++;
}

/* takt finishes, within a second; once nothing is left in either, uv_run() returns. */
static void on_signal(uv_signal_t *signal, int number)
{
    (void)signal;
    (void)number;
    for (int i = 0; i < 2; i++)
        if (!uv_is_closing((uv_handle_t *)&app.signals[i]))
            uv_close((uv_handle_t *)&app.signals[i], NULL);
    net_stop(&app.loop, TAKT_SEC);
    if (!uv_is_closing((uv_handle_t *)&app.clock))
        uv_close((uv_handle_t *)&app.clock, NULL);
}

static const char usage[] =
    "usage: uv --listen ADDRESS [options]\n"
    "  --listen ADDRESS   127.0.0.1:7000, [::1]:7000, :7000 or unix:/path; port 0 picks one\n"
    "  --idle TIME        how long a guest may be silent: a number with ms, s, m or h  (60s)\n"
    "  --backend NAME     auto (io_uring if it works, else epoll), uring or poll\n"
    "SIGTERM or SIGINT: those who are there have 1 s to end.\n";

int main(int argc, char **argv)
{
    static struct server server;
    static takt_addr addr;
    static const struct server_option options[] = {
        {"--listen", server_address, &addr, 0},
        {"--idle", server_time, &app.idle, 0},
        {NULL, NULL, NULL, 0},
    };
    uv_loop_t *const uv = uv_default_loop();
    net_config config = net_defaults();
    int i, rc;
    app.idle = 60 * TAKT_SEC;
    server_options("uv", usage, options, &config.backend, argc, argv);
    if (!addr.len)
        server_wrong("uv", "--listen is needed");
    if (!uv)
        return server_fail("uv", "cannot start libuv", -EMFILE);
    uv_timer_init(uv, &app.clock);
    uv_timer_start(&app.clock, on_second, 1000, 1000);
    for (i = 0; i < 2; i++) {
        if ((rc = uv_signal_init(uv, &app.signals[i])) < 0)
            return server_fail("uv", "cannot start", rc);
        uv_signal_start(&app.signals[i], on_signal, i == 0 ? SIGINT : SIGTERM);
        uv_unref((uv_handle_t *)&app.signals[i]);
    }
    uv_unref((uv_handle_t *)&app.clock);
    TAKT_POOL(config, echo, GUESTS);
    rc = net_init(&app.loop, &config);
    if (rc == 0)
        rc = net_uv_init(&app.in_uv, &app.loop, uv);
    if (rc < 0)
        return server_fail("uv", "cannot start", rc);
    if (!TAKT_START_ON(&app.loop, server, server, .addr = addr))
        return 1;
    uv_run(uv, UV_RUN_DEFAULT); /* until takt has no task left */
    on_signal(NULL, 0);
    takt_uv_close(&app.in_uv, NULL);
    uv_run(uv, UV_RUN_DEFAULT);
    rc = app.in_uv.error ? app.in_uv.error : takt_error(&server.frame);
    fprintf(stderr, "uv: %u guests, %u seconds\n", app.guests, app.seconds);
    net_free(&app.loop);
    uv_loop_close(uv);
    return rc < 0 && rc != TAKT_ECANCELED;
}

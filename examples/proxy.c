/*
 * proxy.c - passes TCP connections on to another server.
 *
 *     cc -O2 -D_GNU_SOURCE -I. examples/proxy.c -luring -pthread -o proxy
 *     ./proxy --listen 127.0.0.1:8080 --upstream 127.0.0.1:9000 --threads 2 --sandbox
 *
 * Both directions of a connection run at the same time, and each ends by itself: the end
 * of one is passed on, the other may still be talking. What does not end well is reset on
 * both sides, so that nobody takes a part for the whole.
 *
 * What comes in bulk goes from socket to socket by splice(2), the rest through buffers.
 *
 * Memory of a connection: 640 bytes, and while it has something to pass on, one buffer of
 * 16 KiB or one pipe a direction. A reader that stalls stops its writer.
 *
 * Each thread has a loop and listens for itself; the system spreads the connections over
 * them. They share limits and counters. Signals come to the first, which tells the others.
 */
#define TAKT_IMPLEMENTATION
#include "takt_uring.h"

#include <pthread.h>
#include <signal.h>

#include "door.h"
#include "sandbox.h"
#include "server.h"

enum { BUFFER_BYTES = 16 * 1024, THREADS_MAX = 64, CONNECTIONS_MAX = 1000000 };

TAKT_LOOP(net, takt_uring);

/* A loop, its thread, and what belongs to it. */
struct core {
    net loop;
    pthread_t thread;
    takt_bufs bufs;
    takt_inbox inbox;
    takt_message told; /* posted while there are */
    unsigned orders;   /* STOP ..., of any thread */
    takt_event stop;   /* no newcomers any more */
    takt_group connections;
};

/* What the command line says, and what all threads count. */
static struct {
    takt_addr listen, upstream;
    takt_ns connect_limit, idle_limit, drain_limit;
    struct limits limits;
    int threads, quiet, sandbox, sandbox_kills;
    net_config config;
    struct core cores[THREADS_MAX];
    int started; /* the last that has a thread of its own */
    uint64_t ready, failed, bytes, broken; /* by count() */
} app;

/* Adds to what any thread may change. Result: what it is now. */
static uint64_t count(uint64_t *counter, uint64_t n)
{
    return __atomic_add_fetch(counter, n, __ATOMIC_ACQ_REL);
}

/* -- proxy: one connection --------------------------------------------------- */

struct proxy {
    takt_frame frame;
    int client;       /* in: connected socket, closed here */
    int server;       /* in: -1 */
    takt_bufs *bufs;  /* in */
    uint32_t *source; /* in: it has entered the limits, and leaves them here */
    uint32_t number;  /* in: for the log */
    bool clean;       /* both directions came to their end */
    takt_idle idle;
    takt_relay up, down;
};

static void say_failed(struct proxy *my)
{
    const char *const where = my->server < 0                  ? "connect"
                              : takt_error(&my->up.frame) < 0 ? "client to upstream"
                              : takt_error(&my->down.frame) < 0 ? "upstream to client"
                                                                : "both ways";
    bool last;
    count(&app.failed, 1);
    if (!app.quiet && limits_line(&app.limits, takt_now(&my->frame), &last))
        fprintf(stderr, "proxy: connection %u: %s: %s%s\n", (unsigned)my->number, where,
                takt_strerror(my->frame.error), last ? "; and more" : "");
}

static TAKT_CORO(proxy)
{
    static const takt_tcp no_delay = {true, 0, 0, 0, 0};
    TAKT_BEGIN(proxy, my);
    TAKT_DEFER
    {
        count(&app.bytes, my->up.bytes + my->down.bytes);
        if (!my->clean)
            takt_reset_on_close(&my->frame, my->client);
        TAKT_AWAIT(takt_close(my->client));
        limits_leave(&app.limits, my->source);
    }

    TAKT_AWAIT(my->server, takt_within(app.connect_limit, takt_tcp_connect(&app.upstream)));
    TAKT_DEFER
    {
        if (!my->clean)
            takt_reset_on_close(&my->frame, my->server);
        TAKT_AWAIT(takt_close(my->server));
    }
    takt_tcp_options(&my->frame, my->client, &no_delay);
    takt_tcp_options(&my->frame, my->server, &no_delay);

    takt_idle_start(&my->frame, &my->idle, app.idle_limit);
    TAKT_START(my->down, takt_relay, .from = my->server, .to = my->client, .bufs = my->bufs,
               .idle = &my->idle);
    TAKT_CALL(my->up, takt_relay, .from = my->client, .to = my->server, .bufs = my->bufs,
              .idle = &my->idle);
    TAKT_JOIN(my->down);
    my->clean = true;

    TAKT_CATCH { say_failed(my); }
    TAKT_END;
}

/* -- orders, from any thread to every loop ---------------------------------------- */

enum { STOP = 1, STOP_NOW = 2, SHOW = 4 };

static void obey(takt_message *message)
{
    struct core *const core =
        (struct core *)(void *)((char *)message - offsetof(struct core, told));
    const unsigned orders = __atomic_exchange_n(&core->orders, 0, __ATOMIC_ACQ_REL);
    if (orders & SHOW)
        takt_dump(&core->loop.sched);
    if (orders & STOP)
        takt_event_set(&core->stop);
    if (orders & STOP_NOW)
        net_stop(&core->loop, 0);
}

static void tell_all(unsigned order)
{
    for (struct core *core = app.cores; core < app.cores + app.threads; core++)
        if (__atomic_fetch_or(&core->orders, order, __ATOMIC_ACQ_REL) == 0) {
            core->told.run = obey;
            takt_post(&core->inbox, &core->told);
        }
}

/* Of the first loop: one signal stops gently, the second at once; SIGUSR1 shows. */
struct signals {
    takt_frame frame;
    int fd, number;
    bool stopping;
};

static TAKT_CORO(signals)
{
    TAKT_BEGIN(signals, my);
    TAKT_CHECK(my->fd = takt_signals(&my->frame, 1u << SIGINT | 1u << SIGTERM | 1u << SIGUSR1));
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->fd)); }
    for (;;) {
        TAKT_AWAIT(my->number, takt_signal(my->fd));
        tell_all(my->number == SIGUSR1 ? SHOW : my->stopping ? STOP_NOW : STOP);
        my->stopping |= my->number != SIGUSR1;
    }
    TAKT_END;
}

/* -- front: all that a loop does -------------------------------------------------- */

struct front {
    takt_frame frame;
    struct core *core; /* in */
    const char *step;  /* for the log */
    int listener;
    takt_delivery delivery;
    struct signals signals;
    struct door door;
};

static void say_ready(const struct front *my)
{
    const takt_uring *const backend = &my->core->loop.backend;
    char from[TAKT_ADDR_TEXT], to[TAKT_ADDR_TEXT], on[256];
    takt_uring_describe(backend, on, sizeof on);
    fprintf(stderr, "proxy: %s -> %s on %s; threads: %d%s\n",
            takt_addr_format(&app.listen, from, sizeof from),
            takt_addr_format(&app.upstream, to, sizeof to),
            backend->on_ring ? takt_uring_name(backend) : on, app.threads,
            app.sandbox ? ", in a sandbox" : "");
}

static bool let_in(struct door *door)
{
    struct core *const core = (struct core *)door->user;
    if (core->bufs.fresh > 16 && core->bufs.in_use == 0)
        takt_bufs_trim(&core->bufs); /* a storm is over */
    return TAKT_GO_ON(&core->loop, core->connections, proxy, .client = door->client,
                      .server = -1, .bufs = &core->bufs, .source = door->source,
                      .number = door->number);
}

static void *run_thread(void *core);

static int start_others(void)
{
    while (app.started + 1 < app.threads) {
        struct core *const core = &app.cores[app.started + 1];
        const int rc = pthread_create(&core->thread, NULL, run_thread, core);
        if (rc)
            return -rc;
        app.started++;
    }
    return 0;
}

static TAKT_CORO(front)
{
    TAKT_BEGIN(front, my);
    TAKT_START(my->delivery, takt_delivery, .inbox = &my->core->inbox);
    my->step = "listen";
    my->listener = app.threads > 1 ? takt_listen_shared(&my->frame, &app.listen, 0)
                                   : takt_listen(&my->frame, &app.listen, 0);
    TAKT_CHECK(my->listener);
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->listener)); }
    if (my->core == app.cores) {
        TAKT_CHECK(takt_sockname(&my->frame, my->listener, &app.listen)); /* for the others */
        TAKT_START(my->signals, signals);
        TAKT_YIELD; /* it blocks them: in the other threads, too */
        my->step = "start threads";
        TAKT_CHECK(start_others());
    }
    if (app.sandbox)
        TAKT_CHECK(sandbox_enter(app.sandbox_kills ? SANDBOX_KILL : 0,
                                 takt_addr_port(&app.upstream), &my->step));
    if (count(&app.ready, 1) == (uint64_t)app.threads)
        say_ready(my);

    TAKT_CALL(my->door, door, .program = "proxy", .listener = my->listener,
              .stop = &my->core->stop, .limits = &app.limits, .let_in = let_in,
              .user = my->core);
    TAKT_AWAIT(takt_close(my->listener)); /* newcomers are to go elsewhere */
    my->listener = -1;
    takt_stop(takt_sched_of(&my->frame), app.drain_limit);
    TAKT_JOIN_GROUP(my->core->connections);
    while (my->core == app.cores && limits_open(&app.limits) > 0)
        TAKT_AWAIT(takt_sleep(20 * TAKT_MS)); /* signals are for the other loops, too */

    TAKT_CATCH {
        fprintf(stderr, "proxy: cannot %s: %s\n", my->step, takt_strerror(my->frame.error));
        count(&app.broken, 1);
    }
    TAKT_END;
}

/* -- the command line ---------------------------------------------------------- */

static const char usage[] =
    "usage: proxy --listen ADDRESS --upstream ADDRESS [options]\n"
    "  ADDRESS                127.0.0.1:8080, [::1]:8080, :8080 or unix:/path; port 0 picks one\n"
    "  --threads N            loops, a thread each; 1 to 64, TCP only  (1)\n"
    "  --backend NAME         auto (io_uring if it works, else epoll), uring or poll\n"
    "  --connect TIME         limit of connecting to the upstream      (5s)\n"
    "  --idle TIME            limit of silence in both directions      (60s)\n"
    "  --max-connections N    beyond it, clients are refused           (10000)\n"
    "  --max-per-source N     the same of one IPv4 address or IPv6 /64 (no limit)\n"
    "  --drain TIME           at SIGTERM, limit for what still runs    (10s)\n"
    "  --quiet                no line for connections that fail\n"
    "  --sandbox              once it listens, give up all that it does not need: files,\n"
    "                         programs, new rings, other ports ... such calls fail\n"
    "  --sandbox-kill         the same, and a system call that is not needed ends it\n"
    "  TIME                   a number with ms, s, m or h\n"
    "SIGTERM or SIGINT: drain, then exit; a second one: exit at once. SIGUSR1: show where\n"
    "every connection stands.\n";

static const struct server_option options[] = {
    {"--listen", server_address, &app.listen, 0},
    {"--upstream", server_address, &app.upstream, 0},
    {"--threads", server_count, &app.threads, THREADS_MAX},
    {"--connect", server_time, &app.connect_limit, 0},
    {"--idle", server_time, &app.idle_limit, 0},
    {"--max-connections", server_count, &app.limits.connections, CONNECTIONS_MAX},
    {"--max-per-source", server_count, &app.limits.per_source, CONNECTIONS_MAX},
    {"--drain", server_time, &app.drain_limit, 0},
    {"--quiet", server_flag, &app.quiet, 0},
    {"--sandbox", server_flag, &app.sandbox, 0},
    {"--sandbox-kill", server_flag, &app.sandbox_kills, 0},
    {NULL, NULL, NULL, 0},
};

static int fail(const char *what, int error)
{
    count(&app.broken, 1);
    return server_fail("proxy", what, error);
}

/* What a thread does. It says what went wrong. */
static void run_core(struct core *core)
{
    int rc = takt_bufs_init(&core->bufs, 2 * (uint32_t)app.limits.connections, BUFFER_BYTES);
    if (rc == 0)
        rc = net_init(&core->loop, &app.config);
    if (rc < 0) {
        fail("cannot start the loop", rc);
        return;
    }
    if (TAKT_SPAWN_ON(&core->loop, front, .core = core) && (rc = net_run(&core->loop)) < 0)
        fail("the loop has ended", rc);
    net_free(&core->loop);
    takt_bufs_free(&core->bufs);
}

static void *run_thread(void *core)
{
    run_core((struct core *)core);
    if (count(&app.broken, 0) > 0)
        tell_all(STOP_NOW);
    return NULL;
}

int main(int argc, char **argv)
{
    app.connect_limit = 5 * TAKT_SEC;
    app.idle_limit = 60 * TAKT_SEC;
    app.drain_limit = 10 * TAKT_SEC;
    app.limits.connections = 10000;
    app.limits.per_source = CONNECTIONS_MAX;
    app.threads = 1;
    app.config = net_defaults();
    server_options("proxy", usage, options, &app.config.backend, argc, argv);
    if (!app.listen.len || !app.upstream.len)
        server_wrong("proxy", "--listen and --upstream are needed");

    app.sandbox |= app.sandbox_kills;
    app.config.backend.restrict_ops |= app.sandbox != 0; /* a ring's ops pass by seccomp */
    signal(SIGPIPE, SIG_IGN); /* whoever reads our log may go away */
    takt_raise_fd_limit();
    TAKT_POOL(app.config, front, 1, .strands = 4);
    TAKT_POOL(app.config, proxy, (uint32_t)app.limits.connections, .strands = 2);
    int rc = limits_init(&app.limits);
    for (int i = 0; rc == 0 && i < app.threads; i++)
        rc = takt_inbox_init(&app.cores[i].inbox);
    if (rc < 0)
        return fail("cannot start", rc);
    run_core(&app.cores[0]); /* and this starts the others, which end first, unless it fails: */
    tell_all(STOP_NOW);
    while (app.started > 0)
        pthread_join(app.cores[app.started--].thread, NULL);
    for (int i = 0; i < app.threads; i++)
        takt_inbox_free(&app.cores[i].inbox);
    if (!app.broken)
        fprintf(stderr, "proxy: %llu accepted, %llu refused, %llu failed, %llu bytes\n",
                (unsigned long long)app.limits.accepted, (unsigned long long)app.limits.refused,
                (unsigned long long)app.failed, (unsigned long long)app.bytes);
    return app.broken > 0;
}

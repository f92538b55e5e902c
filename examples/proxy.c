/*
 * proxy.c - passes TCP connections on to another server.
 *
 *     cc -O2 -D_GNU_SOURCE -I. examples/proxy.c -luring -o proxy
 *     ./proxy --listen 127.0.0.1:8080 --upstream 127.0.0.1:9000
 *
 * Both directions of a connection run at the same time, and each ends by itself: the end
 * of one is passed on, the other may still be talking. What does not end well is reset on
 * both sides, so that nobody takes a part for the whole.
 *
 * What comes in bulk goes from socket to socket by splice(2), the rest through buffers.
 *
 * Memory of a connection: 630 bytes, and while it has something to pass on, one buffer of
 * 16 KiB or one pipe a direction. A reader that stalls stops its writer.
 */
#define TAKT_IMPLEMENTATION
#include "takt_uring.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#define BUFFER_BYTES (16 * 1024)

/* What the command line says, and what is counted. */
struct app {
    takt_addr listen, upstream;
    takt_ns connect_limit, idle_limit, drain_limit; /* idle 0: none */
    int max_connections;
    bool quiet;
    takt_bufs bufs;
    uint64_t accepted, refused, failed, bytes;
    int exit_code;
    char backend[256];
};

/* -- proxy: one connection --------------------------------------------------- */

struct proxy {
    takt_frame frame;
    int client;      /* in: connected socket, closed here */
    int server;      /* in: -1 */
    struct app *app; /* in */
    uint32_t number; /* in: for the log */
    bool clean;      /* both directions came to their end */
    takt_idle idle;
    takt_relay up, down;
};

static void say_failed(struct proxy *my)
{
    const char *const where = my->server < 0                  ? "connect"
                              : takt_error(&my->up.frame) < 0 ? "client to upstream"
                              : takt_error(&my->down.frame) < 0 ? "upstream to client"
                                                                : "both ways";
    my->app->failed++;
    if (!my->app->quiet)
        fprintf(stderr, "proxy: connection %u: %s: %s\n", (unsigned)my->number, where,
                takt_strerror(my->frame.error));
}

static TAKT_CORO(proxy)
{
    static const takt_tcp no_delay = {true, 0, 0, 0, 0};
    TAKT_BEGIN(proxy, my);
    TAKT_DEFER
    {
        my->app->bytes += my->up.bytes + my->down.bytes;
        if (!my->clean)
            takt_reset_on_close(&my->frame, my->client);
        TAKT_AWAIT(takt_close(my->client));
    }

    TAKT_AWAIT(my->server,
               takt_within(my->app->connect_limit, takt_tcp_connect(&my->app->upstream)));
    TAKT_DEFER
    {
        if (!my->clean)
            takt_reset_on_close(&my->frame, my->server);
        TAKT_AWAIT(takt_close(my->server));
    }
    takt_tcp_options(&my->frame, my->client, &no_delay);
    takt_tcp_options(&my->frame, my->server, &no_delay);

    takt_idle_start(&my->frame, &my->idle, my->app->idle_limit);
    TAKT_START(my->down, takt_relay, .from = my->server, .to = my->client,
               .bufs = &my->app->bufs, .idle = &my->idle);
    TAKT_CALL(my->up, takt_relay, .from = my->client, .to = my->server,
              .bufs = &my->app->bufs, .idle = &my->idle);
    TAKT_JOIN(my->down);
    my->clean = true;

    TAKT_CATCH { say_failed(my); }
    TAKT_END;
}

/* -- signals: the first stops gently, the second at once; SIGUSR1 shows ------- */

struct signals {
    takt_frame frame;
    struct app *app; /* in */
    int fd;
    int number;
    bool stopping;
};

static TAKT_CORO(signals)
{
    TAKT_BEGIN(signals, my);
    TAKT_CHECK(my->fd = takt_signals(&my->frame, 1u << SIGINT | 1u << SIGTERM | 1u << SIGUSR1));
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->fd)); }
    for (;;) {
        TAKT_AWAIT(my->number, takt_signal(my->fd));
        if (my->number == SIGUSR1) {
            takt_dump(takt_sched_of(&my->frame));
        } else {
            takt_stop(takt_sched_of(&my->frame), my->stopping ? 0 : my->app->drain_limit);
            my->stopping = true;
        }
    }
    TAKT_END;
}

/* -- front: accepts until it is told to stop ------------------------------------ */

struct front {
    takt_frame frame;
    struct app *app; /* in */
    int listener;
    int client;
    bool full; /* of descriptors or memory; said once */
    takt_group connections;
    struct signals signals;
};

static void say_ready(struct front *my)
{
    char from[TAKT_ADDR_TEXT], to[TAKT_ADDR_TEXT];
    takt_addr own;
    takt_sockname(&my->frame, my->listener, &own);
    fprintf(stderr, "proxy: %s -> %s on %s\n", takt_addr_format(&own, from, sizeof from),
            takt_addr_format(&my->app->upstream, to, sizeof to), my->app->backend);
}

static void say_full(struct front *my)
{
    if (!my->full)
        fprintf(stderr, "proxy: cannot accept for now: %s\n", takt_strerror(my->client));
    my->full = true;
}

static TAKT_CORO(front)
{
    TAKT_BEGIN(front, my);
    TAKT_CHECK(my->listener = takt_listen(&my->frame, &my->app->listen, 0));
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->listener)); }
    TAKT_START(my->signals, signals, .app = my->app);
    say_ready(my);

    for (;;) {
        TAKT_TRY_AWAIT(my->client, takt_accept(my->listener, NULL));
        if (my->client == TAKT_ESTOPPING)
            break;
        if (my->client == -ECONNABORTED)
            continue; /* the client has gone again */
        if (my->client < 0) {
            say_full(my);
            TAKT_AWAIT(takt_sleep(20 * TAKT_MS)); /* let some close */
            continue;
        }
        my->full = false;
        my->app->accepted++;
        if (!TAKT_GO(my->connections, proxy, .client = my->client, .server = -1,
                     .app = my->app, .number = (uint32_t)my->app->accepted)) {
            my->app->refused++;
            takt_reset_on_close(&my->frame, my->client);
            TAKT_AWAIT(takt_close(my->client));
        }
        if (my->app->bufs.fresh > 16 && my->app->bufs.in_use == 0)
            takt_bufs_trim(&my->app->bufs); /* a storm is over */
    }
    TAKT_AWAIT(takt_close(my->listener)); /* newcomers are to go elsewhere at once */
    my->listener = -1;
    TAKT_JOIN_GROUP(my->connections);

    TAKT_CATCH {
        fprintf(stderr, "proxy: cannot listen: %s\n", takt_strerror(my->frame.error));
        my->app->exit_code = 1;
    }
    TAKT_END;
}

TAKT_LOOP(net, takt_uring);

/* -- the command line ---------------------------------------------------------- */

static const char usage[] =
    "usage: proxy --listen ADDRESS --upstream ADDRESS [options]\n"
    "  ADDRESS                127.0.0.1:8080, [::1]:8080, :8080 or unix:/path; port 0 picks one\n"
    "  --backend NAME         auto (io_uring if it works, else epoll), uring or poll\n"
    "  --connect TIME         limit of connecting to the upstream      (5s)\n"
    "  --idle TIME            limit of silence in both directions      (60s)\n"
    "  --max-connections N    beyond it, clients are refused           (10000)\n"
    "  --drain TIME           at SIGTERM, limit for what still runs    (10s)\n"
    "  --quiet                no line for connections that fail\n"
    "  TIME                   a number with ms, s, m or h\n"
    "SIGTERM or SIGINT: drain, then exit; a second one: exit at once. SIGUSR1: show where\n"
    "every connection stands.\n";

/* A positive number with one of the units behind it. */
static bool parse_time(const char *text, takt_ns *ns)
{
    static const char *const units[] = {"ms", "s", "m", "h"};
    static const takt_ns lengths[] = {TAKT_MS, TAKT_SEC, 60 * TAKT_SEC, 3600 * TAKT_SEC};
    char *end;
    const long number = strtol(text, &end, 10);
    for (int i = 0; i < 4; i++) {
        if (end != text && number > 0 && number < 1000000 && strcmp(end, units[i]) == 0) {
            *ns = number * lengths[i];
            return true;
        }
    }
    return false;
}

static bool parse_count(const char *text, int *count)
{
    char *end;
    const long number = strtol(text, &end, 10);
    *count = (int)number;
    return end != text && !*end && number > 0 && number <= 1000000;
}

static bool parse_backend(const char *text, takt_uring_mode *mode)
{
    *mode = strcmp(text, "uring") == 0  ? TAKT_URING_ONLY
            : strcmp(text, "poll") == 0 ? TAKT_URING_NEVER
                                        : TAKT_URING_AUTO;
    return *mode != TAKT_URING_AUTO || strcmp(text, "auto") == 0;
}

/* Takes one option with a value. False: unknown, or not a value for it. */
static bool parse_option(struct app *app, takt_uring_mode *mode, const char *name,
                         const char *value)
{
    if (strcmp(name, "--listen") == 0)
        return takt_addr_parse(&app->listen, value) == 0;
    if (strcmp(name, "--upstream") == 0)
        return takt_addr_parse(&app->upstream, value) == 0;
    if (strcmp(name, "--backend") == 0)
        return parse_backend(value, mode);
    if (strcmp(name, "--connect") == 0)
        return parse_time(value, &app->connect_limit);
    if (strcmp(name, "--idle") == 0)
        return parse_time(value, &app->idle_limit);
    if (strcmp(name, "--drain") == 0)
        return parse_time(value, &app->drain_limit);
    return strcmp(name, "--max-connections") == 0 && parse_count(value, &app->max_connections);
}

static void parse(struct app *app, takt_uring_mode *mode, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            fputs(usage, stdout);
            exit(0);
        }
        if (strcmp(argv[i], "--quiet") == 0) {
            app->quiet = true;
        } else if (i + 1 == argc || !parse_option(app, mode, argv[i], argv[i + 1])) {
            fprintf(stderr, "proxy: cannot understand %s %s; see --help\n", argv[i],
                    i + 1 < argc ? argv[i + 1] : "(no value)");
            exit(2);
        } else {
            i++;
        }
    }
    if (!app->listen.len || !app->upstream.len) {
        fputs("proxy: --listen and --upstream are needed; see --help\n", stderr);
        exit(2);
    }
}

static int fail(const char *what, int error)
{
    fprintf(stderr, "proxy: %s: %s\n", what, takt_strerror(error));
    return 1;
}

int main(int argc, char **argv)
{
    static net loop;
    static struct app app;
    net_config config = net_defaults();
    int rc;

    app.connect_limit = 5 * TAKT_SEC;
    app.idle_limit = 60 * TAKT_SEC;
    app.drain_limit = 10 * TAKT_SEC;
    app.max_connections = 10000;
    if (takt_uring_config_from_env(&config.backend) < 0)
        return fail("TAKT_BACKEND or TAKT_DISABLE is not understood", -EINVAL);
    parse(&app, &config.backend.mode, argc, argv);

    signal(SIGPIPE, SIG_IGN); /* whoever reads our log may go away */
    takt_raise_fd_limit();
    TAKT_POOL(config, front, 1, .strands = 2);
    TAKT_POOL(config, proxy, (uint32_t)app.max_connections, .strands = 2);
    rc = takt_bufs_init(&app.bufs, 2 * (uint32_t)app.max_connections, BUFFER_BYTES);
    if (rc < 0)
        return fail("cannot allocate buffers", rc);
    rc = net_init(&loop, &config);
    if (rc < 0)
        return fail("cannot start the loop", rc);
    takt_uring_describe(&loop.backend, app.backend, sizeof app.backend);
    if (loop.backend.on_ring)
        strcpy(app.backend, takt_uring_name(&loop.backend)); /* without its details */

    if (!TAKT_SPAWN_ON(&loop, front, .app = &app))
        return 1;
    rc = net_run(&loop);
    if (rc < 0)
        return fail("the loop has ended", rc);
    if (app.exit_code == 0)
        fprintf(stderr, "proxy: %llu accepted, %llu refused, %llu failed, %llu bytes\n",
                (unsigned long long)app.accepted, (unsigned long long)app.refused,
                (unsigned long long)app.failed, (unsigned long long)app.bytes);
    net_free(&loop);
    takt_bufs_free(&app.bufs);
    return app.exit_code;
}

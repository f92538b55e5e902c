/*
 * per_core.c - an echo server with a loop for each core.
 *
 *     cc -O2 -D_GNU_SOURCE -I. examples/per_core.c -luring -pthread -o per_core
 *     ./per_core --listen 127.0.0.1:7000 --threads 4
 *
 * Each thread owns a loop, and nothing is shared but what is posted. As a rule every loop
 * listens for itself, and the system spreads the connections. With `--spread even` the first
 * loop alone listens and hands each connection to the loop whose turn it is: connections that
 * live long are then never bunched on one core. A signal stops the first loop, which posts the
 * same to the others.
 */
#define TAKT_IMPLEMENTATION
#include "takt_uring.h"

#include "server.h"

#include <pthread.h>
#include <signal.h>

enum { THREADS_MAX = 64, CONNECTIONS = 10000 };

TAKT_LOOP(net, takt_uring);

/* One loop, and what belongs to it. */
struct core {
    net loop;
    takt_bufs bufs;
    takt_inbox inbox;
    takt_group connections;
    takt_message stop; /* posted at the end, */
    bool told;         /* once */
    takt_event stopped;
    int number;
    uint64_t served;
    pthread_t thread;
};

static struct {
    struct core cores[THREADS_MAX];
    int count;
    bool even;
    takt_addr listen;
    net_config config;
} app;

/* -- echo: one connection ------------------------------------------------------- */

struct echo {
    takt_frame frame;
    int fd;          /* in: closed here */
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
            TAKT_RETURN;
        TAKT_AWAIT(takt_send(my->fd, my->data, (size_t)my->n));
        takt_bufs_put(my->bufs, &my->data);
    }
    TAKT_CATCH {}
    TAKT_END;
}

/* Takes a connection into the loop of `core`, in its own thread. False: it is full. */
static bool serve(struct core *core, int fd)
{
    core->served++;
    return TAKT_GO_ON(&core->loop, core->connections, echo, .fd = fd, .bufs = &core->bufs);
}

/* -- from one loop to another ------------------------------------------------------ */

struct handed {
    takt_message message; /* first */
    struct core *to;
    int fd;
};

static void take_over(takt_message *message)
{
    struct handed *const handed = (struct handed *)(void *)message;
    if (!serve(handed->to, handed->fd))
        close(handed->fd); /* nothing of this loop's is in flight on it */
    free(handed);
}

/* Nothing is in flight on `fd` any more: so it may change its loop. */
static bool hand_over(struct core *to, int fd)
{
    struct handed *const handed = (struct handed *)malloc(sizeof *handed);
    if (!handed)
        return false;
    handed->message.run = take_over;
    handed->to = to;
    handed->fd = fd;
    if (takt_post(&to->inbox, &handed->message) == 0)
        return true;
    free(handed);
    return false;
}

static void stop_core(takt_message *message)
{
    struct core *const core =
        (struct core *)(void *)((char *)message - offsetof(struct core, stop));
    net_stop(&core->loop, TAKT_SEC);
    takt_event_set(&core->stopped);
}

static void stop_all(void)
{
    for (int i = 0; i < app.count; i++)
        if (!__atomic_exchange_n(&app.cores[i].told, true, __ATOMIC_RELAXED)) {
            app.cores[i].stop.run = stop_core;
            takt_post(&app.cores[i].inbox, &app.cores[i].stop);
        }
}

/* -- what runs on each --------------------------------------------------------------- */

struct door {
    takt_frame frame;
    struct core *core; /* in */
    int listener, fd, err;
    int to; /* the loop that the next one is for */
    takt_stream guests;
    takt_item guest;
};

static TAKT_CORO(door)
{
    TAKT_BEGIN(door, my);
    my->listener = app.even ? takt_listen(&my->frame, &app.listen, 0)
                            : takt_listen_shared(&my->frame, &app.listen, 0);
    TAKT_CHECK(my->listener);
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->listener)); }
    fprintf(stderr, "per_core: loop %d listens\n", my->core->number);
    my->to = my->core->number;

    TAKT_OPEN(my->guests, takt_accept_multishot(my->listener));
    for (;;) {
        TAKT_TRY_NEXT(my->err, my->guest, my->guests);
        if (my->err < 0)
            break;
        my->fd = (int)my->guest.value;
        if (app.even)
            my->to = (my->to + 1) % app.count;
        if (my->to != my->core->number ? hand_over(&app.cores[my->to], my->fd)
                                       : serve(my->core, my->fd))
            continue;
        TAKT_AWAIT(takt_close(my->fd)); /* full: turn the guest away */
    }
    if (my->err != TAKT_ESTOPPING)
        TAKT_THROW(my->err);
    TAKT_END;
}

/* On the first loop only. */
struct signals {
    takt_frame frame;
    int fd;
};

static TAKT_CORO(signals)
{
    TAKT_BEGIN(signals, my);
    TAKT_CHECK(my->fd = takt_signals(&my->frame, 1u << SIGINT | 1u << SIGTERM));
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->fd)); }
    TAKT_AWAIT(takt_signal(my->fd));
    stop_all();
    TAKT_END;
}

/* Keeps the rest going; what it has started ends with it. */
struct keeper {
    takt_frame frame;
    struct core *core; /* in */
    takt_delivery delivery;
    struct signals signals;
    struct door door;
};

static TAKT_CORO(keeper)
{
    TAKT_BEGIN(keeper, my);
    TAKT_START(my->delivery, takt_delivery, .inbox = &my->core->inbox);
    if (my->core->number == 0)
        TAKT_START(my->signals, signals);
    if (my->core->number == 0 || !app.even)
        TAKT_CALL(my->door, door, .core = my->core);
    else
        TAKT_AWAIT(takt_event_wait(&my->core->stopped));
    TAKT_JOIN_GROUP(my->core->connections);
    TAKT_END;
}

static int run_core(struct core *core)
{
    int rc = takt_bufs_init(&core->bufs, 256, 16384);
    if (rc == 0)
        rc = net_init(&core->loop, &app.config);
    if (rc == 0 && !TAKT_SPAWN_ON(&core->loop, keeper, .core = core))
        rc = -ENOMEM;
    if (rc == 0)
        rc = net_run(&core->loop);
    if (rc == 0) {
        fprintf(stderr, "per_core: loop %d served %llu\n", core->number,
                (unsigned long long)core->served);
    } else {
        fprintf(stderr, "per_core: loop %d: %s\n", core->number, takt_strerror(rc));
        stop_all(); /* all, or none */
    }
    net_free(&core->loop);
    takt_bufs_free(&core->bufs);
    return rc;
}

static void *run_thread(void *user)
{
    return (void *)(intptr_t)run_core((struct core *)user);
}

static const char *take_spread(const struct server_option *it, const char *value)
{
    app.even = strcmp(value, "even") == 0;
    (void)it;
    return app.even || strcmp(value, "system") == 0 ? NULL : "system or even";
}

static const char usage[] =
    "usage: per_core --listen ADDRESS [options]\n"
    "  --listen ADDRESS   127.0.0.1:7000, [::1]:7000 or :7000\n"
    "  --threads N        loops, a thread each; 1 to 64                          (2)\n"
    "  --spread HOW       system: each loop listens; even: the first hands over  (system)\n"
    "  --backend NAME     auto (io_uring if it works, else epoll), uring or poll\n"
    "SIGTERM or SIGINT: those who are there have 1 s to end.\n";

int main(int argc, char **argv)
{
    static const struct server_option options[] = {
        {"--listen", server_address, &app.listen, 0},
        {"--threads", server_count, &app.count, THREADS_MAX},
        {"--spread", take_spread, NULL, 0},
        {NULL, NULL, NULL, 0},
    };
    sigset_t signals;
    int failed, rc;
    app.count = 2;
    app.config = net_defaults();
    server_options("per_core", usage, options, &app.config.backend, argc, argv);
    if (!app.listen.len)
        server_wrong("per_core", "--listen is needed");
    TAKT_POOL(app.config, echo, CONNECTIONS);
    TAKT_POOL(app.config, keeper, 1, .strands = 4);
    takt_raise_fd_limit();
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL); /* in every thread: the first loop reads them */
    for (int i = 0; i < app.count; i++) {
        app.cores[i].number = i;
        if ((rc = takt_inbox_init(&app.cores[i].inbox)) < 0)
            return server_fail("per_core", "cannot start", rc);
    }
    for (int i = 1; i < app.count; i++)
        if ((rc = pthread_create(&app.cores[i].thread, NULL, run_thread, &app.cores[i])) != 0)
            return server_fail("per_core", "cannot start a thread", -rc);
    failed = run_core(&app.cores[0]) != 0;
    for (int i = 1; i < app.count; i++) {
        void *ended;
        pthread_join(app.cores[i].thread, &ended);
        failed |= ended != NULL;
    }
    for (int i = 0; i < app.count; i++)
        takt_inbox_free(&app.cores[i].inbox);
    return failed;
}

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

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

enum { THREADS_MAX = 64, CONNECTIONS = 10000 };

TAKT_LOOP(net, takt_uring);

/* One loop, and what belongs to it. */
struct core {
    net loop;
    takt_bufs bufs;
    takt_inbox inbox;
    takt_group connections;
    takt_message stop; /* posted at the end */
    takt_event stopped;
    takt_uring_mode mode;
    int number;
    uint64_t served;
    pthread_t thread;
};

static struct {
    struct core cores[THREADS_MAX];
    int count;
    bool even;
    takt_addr listen;
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
    int fd, number;
};

static TAKT_CORO(signals)
{
    TAKT_BEGIN(signals, my);
    TAKT_CHECK(my->fd = takt_signals(&my->frame, 1u << SIGINT | 1u << SIGTERM));
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->fd)); }
    TAKT_AWAIT(my->number, takt_signal(my->fd));
    for (int i = 0; i < app.count; i++) {
        app.cores[i].stop.run = stop_core;
        takt_post(&app.cores[i].inbox, &app.cores[i].stop);
    }
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
    net_config config = net_defaults();
    int rc;
    config.backend.mode = core->mode;
    TAKT_POOL(config, echo, CONNECTIONS);
    TAKT_POOL(config, keeper, 1, .strands = 4);
    rc = takt_bufs_init(&core->bufs, 256, 16384);
    if (rc == 0)
        rc = net_init(&core->loop, &config);
    if (rc == 0 && !TAKT_SPAWN_ON(&core->loop, keeper, .core = core))
        rc = -ENOMEM;
    if (rc == 0)
        rc = net_run(&core->loop);
    if (rc == 0)
        fprintf(stderr, "per_core: loop %d served %llu\n", core->number,
                (unsigned long long)core->served);
    else
        fprintf(stderr, "per_core: loop %d: %s\n", core->number, takt_strerror(rc));
    net_free(&core->loop);
    takt_bufs_free(&core->bufs);
    return rc;
}

static void *run_thread(void *user)
{
    return (void *)(intptr_t)run_core((struct core *)user);
}

static bool option(const char *name, const char *value, takt_uring_mode *mode)
{
    if (strcmp(name, "--listen") == 0)
        return takt_addr_parse(&app.listen, value) == 0;
    if (strcmp(name, "--threads") == 0)
        return (app.count = atoi(value)) >= 1 && app.count <= THREADS_MAX;
    if (strcmp(name, "--spread") == 0)
        return (app.even = strcmp(value, "even") == 0) || strcmp(value, "system") == 0;
    if (strcmp(name, "--backend") != 0)
        return false;
    *mode = strcmp(value, "poll") == 0    ? TAKT_URING_NEVER
            : strcmp(value, "uring") == 0 ? TAKT_URING_ONLY
                                          : TAKT_URING_AUTO;
    return *mode != TAKT_URING_AUTO || strcmp(value, "auto") == 0;
}

int main(int argc, char **argv)
{
    takt_uring_mode mode = TAKT_URING_AUTO;
    bool ok = true;
    sigset_t signals;
    int failed;
    app.count = 2;
    for (int i = 1; ok && i < argc; i += 2)
        ok = i + 1 < argc && option(argv[i], argv[i + 1], &mode);
    if (!ok || !app.listen.len) {
        fprintf(stderr, "usage: %s --listen ADDRESS:PORT [--threads N] [--spread system|even] "
                        "[--backend auto|uring|poll]\n", argv[0]);
        return 2;
    }
    takt_raise_fd_limit();
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL); /* in every thread: the first loop reads them */
    for (int i = 0; i < app.count; i++) {
        app.cores[i].number = i;
        app.cores[i].mode = mode;
        if (takt_inbox_init(&app.cores[i].inbox) < 0)
            return 1;
    }
    for (int i = 1; i < app.count; i++)
        if (pthread_create(&app.cores[i].thread, NULL, run_thread, &app.cores[i]) != 0)
            return 1;
    failed = run_core(&app.cores[0]) != 0;
    for (int i = 1; i < app.count; i++) {
        void *rc;
        pthread_join(app.cores[i].thread, &rc);
        failed |= rc != NULL;
    }
    for (int i = 0; i < app.count; i++)
        takt_inbox_free(&app.cores[i].inbox);
    return failed;
}

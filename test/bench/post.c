/*
 * post.c - from thread to thread and back: what it takes to have another thread's loop run
 * something of this one's.
 *
 *     post takt|epoll|uv [ROUND_TRIPS]
 *
 * Two threads, each with a loop, on the first and the last CPU. In takt each has a coroutine that
 * is woken by a takt_post() and answers by one; in libuv a uv_async_t, whose callback answers.
 * Prints the median of the round trips, halved: ns one way; and the CPU time of both threads.
 */
#define TAKT_IMPLEMENTATION
#include "takt_uring.h"

#include "bench.h"

#include <pthread.h>
#include <sched.h>
#include <uv.h>

enum { TRIPS_MAX = 1000000 };

static uint32_t trips[TRIPS_MAX]; /* ns */
static size_t count = 20000, done, warm;

static void pin(bool last)
{
    const long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(last && cpus > 0 ? (size_t)cpus - 1 : 0, &set);
    pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

/* By the one who begins, each time that it is its turn again. False: that was the last. */
static bool note(void)
{
    static uint64_t before;
    const uint64_t now = bench_now();
    if (warm++ > count / 10) /* the first ones do not count */
        trips[done++] = (uint32_t)(now - before);
    before = now;
    return done < count;
}

/* -- takt ----------------------------------------------------------------------- */

TAKT_LOOP(net, takt_uring);

struct player {
    takt_frame frame;
    struct player *other; /* in */
    takt_inbox *inbox;    /* in */
    bool begins;          /* in */
    takt_delivery delivery;
    takt_event turn;
    takt_message message; /* to the other */
    bool over;            /* said the other */
};

static takt_uring_mode mode;
static pthread_barrier_t ready;
static struct player players[2];
static takt_inbox inboxes[2];

static void arrived(takt_message *message)
{
    struct player *const from =
        (struct player *)(void *)((char *)message - offsetof(struct player, message));
    from->other->over = done == count;
    takt_event_set(&from->other->turn);
}

static TAKT_CORO(player)
{
    TAKT_BEGIN(player, my);
    my->message.run = arrived;
    TAKT_START(my->delivery, takt_delivery, .inbox = my->inbox);
    if (my->begins)
        takt_post(my->other->inbox, &my->message);
    while (!my->over) {
        TAKT_AWAIT(takt_event_wait(&my->turn));
        takt_event_reset(&my->turn);
        if (my->begins)
            my->over = !note();
        takt_post(my->other->inbox, &my->message);
    }
    TAKT_END;
}

static void *play(void *user)
{
    static net loops[2];
    const int i = (int)(intptr_t)user;
    net_config config = net_defaults();
    config.backend.mode = mode;
    pin(i == 1);
    if (net_init(&loops[i], &config) < 0 ||
        !TAKT_START_ON(&loops[i], players[i], player, .other = &players[!i],
                       .inbox = &inboxes[i], .begins = i == 0))
        bench_die("net_init");
    pthread_barrier_wait(&ready);
    net_run(&loops[i]);
    net_free(&loops[i]);
    return NULL;
}

/* -- libuv -------------------------------------------------------------------------- */

static uv_async_t asyncs[2];

static void on_turn(uv_async_t *async)
{
    const bool begins = async == &asyncs[0];
    const bool over = begins ? !note() : done == count;
    uv_async_send(&asyncs[begins]);
    if (over)
        uv_close((uv_handle_t *)async, NULL);
}

static void *play_uv(void *user)
{
    static uv_loop_t loops[2];
    const int i = (int)(intptr_t)user;
    pin(i == 1);
    uv_loop_init(&loops[i]);
    uv_async_init(&loops[i], &asyncs[i], on_turn);
    pthread_barrier_wait(&ready);
    if (i == 0)
        uv_async_send(&asyncs[1]);
    uv_run(&loops[i], UV_RUN_DEFAULT);
    return NULL;
}

static int by_size(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    pthread_t threads[2];
    uint64_t cpu;
    const bool uv = argc > 1 && strcmp(argv[1], "uv") == 0;
    bench_bound();
    if (argc < 2)
        return 2;
    mode = strcmp(argv[1], "epoll") == 0 ? TAKT_URING_NEVER : TAKT_URING_ONLY;
    count = (size_t)bench_number(argc, argv, 2, count);
    if (count > TRIPS_MAX)
        return 2;
    pthread_barrier_init(&ready, NULL, 2);
    for (int i = 0; i < 2; i++)
        if (takt_inbox_init(&inboxes[i]) < 0)
            bench_die("inbox");
    cpu = bench_cpu();
    for (intptr_t i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, uv ? play_uv : play, (void *)i);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    cpu = bench_cpu() - cpu;
    qsort(trips, count, sizeof trips[0], by_size);
    printf("%.1f %.1f\n", (double)trips[count / 2] / 2, (double)cpu / (double)warm / 2);
    return 0;
}

/*
 * takt_uv.h - runs a takt loop inside a loop of libuv's, beside everything else that is there.
 *
 *     TAKT_LOOP(net, takt_uring);
 *     TAKT_UV(net);                     // once, for that type of loop
 *     ...
 *     static net loop;                  // net_init(), TAKT_START_ON() ... as ever
 *     static takt_uv in_uv;
 *     net_uv_init(&in_uv, &loop, uv_default_loop());
 *     uv_run(uv_default_loop(), UV_RUN_DEFAULT);
 *     takt_uv_close(&in_uv, NULL);      // and uv_run() once more, before net_free()
 *
 * Callbacks of libuv's may do what may be done outside a turn: start coroutines, cancel them, put
 * into channels, set events. Each round of libuv's begins with a turn of takt's, and goes to
 * sleep only when there is nothing to do in either. While takt has tasks, uv_run() goes on. What
 * takt waits for by time is up to 1 ms late: libuv counts in these.
 */
#ifndef TAKT_UV_H
#define TAKT_UV_H

#include <uv.h>

enum { TAKT_UV_TURNS = 4 }; /* of takt's at most, before libuv's other handles */

/* It must not move, nor end, before all three are closed. */
typedef struct takt_uv {
    uv_poll_t poll; /* wakes libuv, when the loop has work */
    uv_timer_t timer;
    uv_prepare_t prepare;
    void *loop;
    int error; /* what ended the loop, if that was not its last task */
    /* The adapter's: */
    int (*turn)(void *loop);
    takt_ns (*wait)(void *loop);
    bool (*pending)(void *loop);
    void (*closed)(struct takt_uv *);
    int open;
} takt_uv;

/* The turns do the work: this is for libuv to wake up. */
static inline void takt_uv_on_poll(uv_poll_t *poll, int status, int events)
{
    (void)poll;
    (void)status;
    (void)events;
}

/* So is this. */
static inline void takt_uv_on_timer(uv_timer_t *timer)
{
    (void)timer;
}

/* Before libuv goes to sleep: no longer than takt may. */
static inline void takt_uv_on_prepare(uv_prepare_t *prepare)
{
    takt_uv *const my = (takt_uv *)prepare->data;
    takt_ns wait = 0;
    int done = 1;
    for (int i = 0; i < TAKT_UV_TURNS && done > 0; i++)
        done = my->turn(my->loop);
    if (done < 0 && my->error == 0) {
        my->error = done;
        uv_poll_stop(&my->poll);
    }
    if (done <= 0)
        wait = my->error ? TAKT_FOREVER : my->wait(my->loop);
    uv_update_time(prepare->loop);
    if (wait == TAKT_FOREVER)
        uv_timer_stop(&my->timer);
    else
        uv_timer_start(&my->timer, takt_uv_on_timer,
                       (uint64_t)(wait / TAKT_MS + (wait % TAKT_MS > 0)), 0);
    if (my->pending(my->loop) && !my->error)
        uv_ref((uv_handle_t *)&my->poll);
    else
        uv_unref((uv_handle_t *)&my->poll);
}

/* To be called when something was started from a callback that is the last of its round, as
 * those of uv_check_t and uv_close() are: else uv_run() may take it that nothing is left. */
static inline void takt_uv_wake(takt_uv *my)
{
    uv_ref((uv_handle_t *)&my->poll);
}

/* What TAKT_UV() makes of it. `fd`: the loop's. 0 or an error of libuv's, which are those of
 * errno: then nothing is left behind. */
static inline int takt_uv_init(takt_uv *my, uv_loop_t *uv, int fd)
{
    int rc = fd < 0 ? UV_ENOTSUP : uv_poll_init(uv, &my->poll, fd);
    if (rc < 0)
        return rc;
    uv_timer_init(uv, &my->timer);
    uv_prepare_init(uv, &my->prepare);
    my->prepare.data = my->timer.data = my->poll.data = my;
    my->error = 0;
    my->open = 3;
    uv_poll_start(&my->poll, UV_READABLE, takt_uv_on_poll);
    uv_prepare_start(&my->prepare, takt_uv_on_prepare);
    uv_unref((uv_handle_t *)&my->prepare);
    uv_unref((uv_handle_t *)&my->timer);
    return 0;
}

/* The last of the three tells. */
static inline void takt_uv_on_close(uv_handle_t *handle)
{
    takt_uv *const my = (takt_uv *)handle->data;
    if (--my->open == 0 && my->closed)
        my->closed(my);
}

/* Ends it; the loop can be freed, or run elsewhere, once `closed` is called, in a round of
 * libuv's. */
static inline void takt_uv_close(takt_uv *my, void (*closed)(takt_uv *))
{
    my->closed = closed;
    uv_close((uv_handle_t *)&my->poll, takt_uv_on_close);
    uv_close((uv_handle_t *)&my->timer, takt_uv_on_close);
    uv_close((uv_handle_t *)&my->prepare, takt_uv_on_close);
}

/* int name_uv_init(takt_uv *, name *loop, uv_loop_t *): 0, or an error: there is no descriptor
 * of the loop's (UV_ENOTSUP), or libuv's. */
#define TAKT_UV(name)                                                                          \
    static int name##_uv_turn(void *loop) { return name##_turn((name *)loop, 0, 0); }          \
    static bool name##_uv_pending(void *loop) { return name##_pending((name *)loop) > 0; }     \
    static takt_ns name##_uv_wait(void *loop)                                                  \
    {                                                                                          \
        const takt_ns at = name##_deadline((name *)loop), now = name##_now((name *)loop);      \
        return at == TAKT_FOREVER ? at : at > now ? at - now : 0;                              \
    }                                                                                          \
    static int name##_uv_init(takt_uv *my, name *loop, uv_loop_t *uv)                          \
    {                                                                                          \
        my->loop = loop;                                                                       \
        my->turn = name##_uv_turn;                                                             \
        my->wait = name##_uv_wait;                                                             \
        my->pending = name##_uv_pending;                                                       \
        return takt_uv_init(my, uv, name##_fd(loop));                                          \
    }                                                                                          \
    struct name##_uv /* for the semicolon */

#endif

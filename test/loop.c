/*
 * loop.c - what a loop asks of its backend, and makes of the answers
 *
 * The backend here is a page long, and does not know that coroutines exist: its time
 * jumps to the next deadline, and it does what a script tells it. What takes an hour
 * takes no time, and always the same way.
 */
#include <string.h>

static char logged[4][256]; /* the first lines */
static int log_count;

void remember(const char *text)
{
    const size_t len = strlen(text) < sizeof logged[0] ? strlen(text) : sizeof logged[0] - 1;
    if (log_count < 4)
        memcpy(logged[log_count], text, len); /* a zero follows: the lines are no longer */
    log_count++;
}

#define TAKT_LOG(text) remember(text)
#define TAKT_IMPLEMENTATION
#include "../takt.h"

#include "test.h"

/* -- sim: a backend ------------------------------------------------------- */

enum { FAILING = 13, HANGING = 14, STUCK = 15 }; /* descriptors that mean something */

typedef struct sim_config {
    int init_error;
} sim_config;

typedef struct sim {
    const takt_slots *slots;
    takt_ns now;
    takt_op *done, *done_last; /* complete, not yet polled */
    takt_op *stuck;            /* completes when the test says so */
    int submits, polls, cancels, max; /* counted; `max` as it was told last */
    int poll_error;            /* once, in place of completions */
    int stale;                 /* that many completions nobody waits for */
} sim;

static int frees;

static int sim_init(sim *s, const sim_config *config, const takt_slots *slots)
{
    memset(s, 0, sizeof *s);
    s->slots = slots;
    return config->init_error;
}

static void sim_free(sim *s)
{
    (void)s;
    frees++;
}

static takt_ns sim_now(sim *s)
{
    return s->now;
}

static void sim_done(sim *s, takt_op *op, int64_t result)
{
    op->result = result;
    op->next = NULL;
    if (s->done)
        s->done_last->next = op;
    else
        s->done = op;
    s->done_last = op;
}

static int sim_submit(sim *s, takt_op *op, takt_token *token)
{
    (void)token;
    s->submits++;
    op->state = 0;
    if (op->fd == FAILING)
        return -EIO;
    if (op->fd == STUCK)
        s->stuck = op;
    else if (op->fd != HANGING)
        sim_done(s, op, op->fd < 0 ? 0 : op->fd);
    return 0;
}

static void sim_cancel(sim *s, takt_op *op)
{
    s->cancels++;
    if (op->fd == HANGING)
        sim_done(s, op, -ECANCELED);
}

static int sim_poll(sim *s, takt_completion *out, int max, takt_ns wait)
{
    int count = 0;
    s->polls++;
    s->max = max;
    if (s->poll_error)
        return s->poll_error;
    for (; s->stale && count < max; s->stale--, count++) {
        memset(&out[count], 0, sizeof *out);
        out[count].token = takt_token_make(77777, (uint32_t)s->stale % 3 ? 0 : 99999);
    }
    for (; s->done && count < max; count++) {
        memset(&out[count], 0, sizeof *out);
        out[count].token = takt_token_of(s->done);
        out[count].value = s->done->result;
        out[count].error = s->done->result < 0 ? (int32_t)s->done->result : 0;
        s->done = s->done->next;
    }
    if (count == 0 && wait == TAKT_FOREVER)
        return -EDEADLK; /* nothing will ever happen again */
    if (count == 0)
        s->now += wait;
    return count ? count : TAKT_EWOULDBLOCK;
}

static void sim_flush(sim *s)
{
    (void)s;
}

static bool sim_busy(sim *s)
{
    return s->done != NULL;
}

static int sim_fd(sim *s)
{
    (void)s;
    return -1;
}

static int64_t sim_call(sim *s, takt_op *op)
{
    (void)s;
    return op->kind == TAKT_OP_SOCKET ? 4 : -ENOTSUP;
}

TAKT_LOOP(world, sim);
static world loop;

static void setup_with(world_config *config)
{
    frees = 0;
    config->loop.strands = 8;
    EXPECT_EQ(world_init(&loop, config), 0);
}

static void setup(void)
{
    world_config config = world_defaults();
    setup_with(&config);
}

static void finish(void)
{
    EXPECT_EQ(loop.sched.strands_used, 0);
    EXPECT_EQ(loop.sched.wheel.count, 0);
    EXPECT_EQ(world_free(&loop), 0);
    EXPECT_EQ(frees, 1);
}

/* -- a watchdog fed for an hour, then left alone ---------------------------- */

struct watchdog {
    takt_frame frame;
    const takt_ns *last_seen;
    takt_ns limit;
    int naps;
};

static TAKT_CORO(watchdog)
{
    TAKT_BEGIN(watchdog, my);
    while (takt_now(&my->frame) < *my->last_seen + my->limit) {
        my->naps++;
        TAKT_AWAIT(takt_sleep_until(*my->last_seen + my->limit));
    }
    TAKT_THROW(-ETIMEDOUT);
    TAKT_END;
}

struct feeder {
    takt_frame frame;
    takt_ns last_seen, ended;
    int i;
    struct watchdog watchdog;
};

static TAKT_CORO(feeder)
{
    TAKT_BEGIN(feeder, my);
    TAKT_START(my->watchdog, watchdog, .last_seen = &my->last_seen, .limit = 30 * TAKT_SEC);
    for (my->i = 0; my->i < 3600; my->i++) {
        TAKT_AWAIT(takt_sleep(1 * TAKT_SEC));
        my->last_seen = takt_now(&my->frame);
    }
    TAKT_AWAIT(takt_sleep(24 * 3600 * TAKT_SEC)); /* the watchdog interrupts this */
    note("never");
    TAKT_CATCH {
        EXPECT_EQ(my->frame.error, -ETIMEDOUT);
        my->ended = takt_now(&my->frame);
    }
    TAKT_END;
}

static void an_hour_passes_in_no_time_and_always_the_same(void)
{
    static struct feeder feeder;
    takt_ns first = 0;
    for (int i = 0; i < 2; i++) {
        setup();
        EXPECT(TAKT_START_ON(&loop, feeder, feeder));
        EXPECT_EQ(world_run(&loop), 0);
        EXPECT(feeder.last_seen >= 3600 * TAKT_SEC);
        EXPECT(feeder.last_seen <= 3600 * (TAKT_SEC + TAKT_TICK));
        EXPECT(feeder.ended - feeder.last_seen >= 30 * TAKT_SEC);
        EXPECT(feeder.ended - feeder.last_seen <= 30 * TAKT_SEC + TAKT_TICK);
        EXPECT(feeder.watchdog.naps > 100 && feeder.watchdog.naps < 130);
        EXPECT_EQ(loop.backend.submits, 0); /* sleeping is none of the backend's business */
        EXPECT(loop.backend.polls < 4 * 3700); /* and nobody spins */
        EXPECT(i == 0 || feeder.ended == first);
        first = feeder.ended;
        finish();
    }
    EXPECT_TRACE("");
}

/* -- submit ------------------------------------------------------------------ */

struct one {
    takt_frame frame;
    int fd; /* of its op; 0: none */
    takt_ns limit;
    int64_t n;
    char c;
    bool defer_ran;
};

static TAKT_CORO(one)
{
    TAKT_BEGIN(one, my);
    TAKT_DEFER { my->defer_ran = true; }
    if (my->fd && my->limit)
        TAKT_AWAIT(my->n, takt_within(my->limit, takt_recv(my->fd, &my->c, 1)));
    else if (my->fd)
        TAKT_AWAIT(my->n, takt_recv(my->fd, &my->c, 1));
    TAKT_END;
}

static struct one a, b, c;

static int failures, failed_with;

static void on_failure(void *user, const char *name, int error, const char *file, int line)
{
    EXPECT(user == &failures && strcmp(name, "one") == 0 && strstr(file, "loop.c") && line > 0);
    failures++;
    failed_with = error;
}

static void told_of_failures(world_config *config)
{
    failures = 0;
    config->loop.on_failure = on_failure;
    config->loop.user = &failures;
}

/* BK-1; LP-16 and LP-19 as DESIGN.md has them: one failure costs one coroutine. */
static void a_refused_submit_is_thrown_into_that_coroutine_only(void)
{
    world_config config = world_defaults();
    told_of_failures(&config);
    setup_with(&config);
    EXPECT(TAKT_START_ON(&loop, a, one, .fd = 5));
    EXPECT(TAKT_START_ON(&loop, b, one, .fd = FAILING, .limit = TAKT_SEC));
    EXPECT(TAKT_START_ON(&loop, c, one, .fd = 6));
    EXPECT_EQ(world_run(&loop), -EIO); /* the first error that nobody caught */
    EXPECT_EQ(world_failed(&loop), 0);
    EXPECT_EQ(a.n, 5);
    EXPECT_EQ(b.n, -EIO);
    EXPECT_EQ(c.n, 6);
    EXPECT(b.defer_ran);
    EXPECT_EQ(failures, 1);
    EXPECT_EQ(failed_with, -EIO);
    finish();
}

/* BK-8, LP-1 */
static void a_submitted_frame_runs_to_its_first_await(void)
{
    setup();
    memset(&a, 0, sizeof a);
    EXPECT_EQ(world_submit(&loop, &a.frame, one_coro), 1); /* it awaits nothing */
    EXPECT(takt_finished(&a.frame) && !takt_alive(&a.frame));
    EXPECT_EQ(world_pending(&loop), 0);
    a.fd = 5;
    EXPECT_EQ(world_submit(&loop, &a.frame, one_coro), 0);
    EXPECT_EQ(world_pending(&loop), 1);
    EXPECT_EQ(loop.backend.submits, 1);
    EXPECT(takt_alive(&a.frame) && !takt_finished(&a.frame));
    EXPECT_EQ(world_submit(&loop, &a.frame, one_coro), TAKT_ERUNNING);
    EXPECT_EQ(world_run(&loop), 0);
    EXPECT_EQ(a.n, 5);
    EXPECT_EQ(world_pending(&loop), 0);
    finish();
    EXPECT_EQ(world_submit(&loop, &a.frame, one_coro), TAKT_EDISPOSED);
}

/* LP-7: deviating */
static void a_submit_without_a_strand_or_on_a_stopping_loop_is_an_error(void)
{
    static struct one many[9];
    setup();
    for (int i = 0; i < 8; i++) {
        many[i].fd = HANGING;
        EXPECT_EQ(world_submit(&loop, &many[i].frame, one_coro), 0);
    }
    EXPECT_EQ(world_submit(&loop, &many[8].frame, one_coro), TAKT_ESTRANDS);
    EXPECT(!takt_alive(&many[8].frame));
    world_stop(&loop, 0);
    EXPECT_EQ(world_submit(&loop, &many[8].frame, one_coro), TAKT_ESTOPPING);
    EXPECT_EQ(world_run(&loop), 0);
    EXPECT_EQ(loop.backend.cancels, 8);
    finish();
}

/* -- poll --------------------------------------------------------------------- */

/* BK-9, LP-24 */
/* Submits the next of a chain, and ends. */
struct chained {
    takt_frame frame;
    struct chained *next;
    int rc;
};

static TAKT_CORO(chained)
{
    TAKT_BEGIN(chained, my);
    if (my->next)
        my->rc = world_submit(&loop, &my->next->frame, chained_coro);
    TAKT_END;
}

/* However many end in one turn: who is submitted has a result, or was refused. */
static void every_submit_has_its_result(void)
{
    enum { COUNT = 40, STRANDS = 4 };
    static struct chained chain[COUNT];
    takt_frame *results[COUNT];
    world_config config = world_defaults();
    int count, more = 0;
    config.loop.strands = STRANDS;
    EXPECT_EQ(world_init(&loop, &config), 0);
    memset((void *)chain, 0, sizeof chain);
    for (int i = 0; i + 1 < COUNT; i++)
        chain[i].next = &chain[i + 1];
    EXPECT_EQ(world_submit(&loop, &chain[0].frame, chained_coro), 1);
    count = world_poll(&loop, results, 1);
    EXPECT_EQ(count, 1);
    EXPECT_EQ(chain[STRANDS].rc, 0);
    EXPECT_EQ(chain[STRANDS + 1].rc, TAKT_ESTRANDS); /* it can do that again, later */
    chain[COUNT - 1].rc = 0; /* results stand there, and a submit still tells its own */
    EXPECT_EQ(world_submit(&loop, &chain[COUNT - 1].frame, chained_coro), 1);
    more = world_poll(&loop, results + 1, COUNT - 1);
    EXPECT_EQ(more, STRANDS);
    for (int i = 0; i < count + more; i++)
        EXPECT(results[i] == &chain[i + 1].frame);
    EXPECT(!takt_finished(&chain[STRANDS + 2].frame));
    EXPECT_EQ(world_poll(&loop, results, COUNT), TAKT_EWOULDBLOCK);
    EXPECT_EQ(world_free(&loop), 0);
}

/* What a turn tells is an int. */
struct busy {
    takt_frame frame;
};

static TAKT_CORO(busy)
{
    TAKT_BEGIN(busy, my);
    loop.sched.stats.resumed += (uint64_t)1 << 40;
    TAKT_END;
}

static void a_turn_that_does_too_much_to_tell_tells_the_most(void)
{
    static struct busy it;
    setup();
    EXPECT(TAKT_START_ON(&loop, it, busy));
    EXPECT_EQ(world_turn(&loop, 0, 0), INT32_MAX);
    EXPECT_EQ(world_free(&loop), 0);
}

static void would_block_from_poll_is_idle(void)
{
    setup();
    EXPECT_EQ(world_turn(&loop, TAKT_SEC, 0), 0);
    EXPECT_EQ(loop.backend.polls, 1); /* BK-9: also with nothing pending */
    EXPECT(TAKT_START_ON(&loop, a, one, .fd = HANGING));
    EXPECT(world_turn(&loop, 0, 0) >= 0);
    EXPECT_EQ(world_turn(&loop, 5, 0), 0);
    EXPECT_EQ(world_failed(&loop), 0);
    EXPECT_EQ(world_pending(&loop), 1);
    takt_cancel(&a.frame);
    EXPECT_EQ(world_run(&loop), 0);
    EXPECT_EQ(a.n, TAKT_ECANCELED);
    finish();
}

/* LP-45, LP-23, LP-25 */
static void a_failing_poll_is_the_end_and_stays_it(void)
{
    static const int errors[] = {-EBADF, TAKT_EMORE};
    for (int i = 0; i < 2; i++) {
        world_config config = world_defaults();
        int polls;
        TAKT_POOL(config, one, 1);
        setup_with(&config);
        EXPECT(TAKT_START_ON(&loop, a, one, .fd = HANGING));
        EXPECT(world_turn(&loop, 0, 0) >= 0);
        loop.backend.poll_error = errors[i];
        EXPECT_EQ(world_turn(&loop, 0, 0), errors[i]);
        polls = loop.backend.polls;
        loop.backend.poll_error = -EIO; /* another one: the first stands */
        EXPECT_EQ(world_turn(&loop, 0, 0), errors[i]);
        EXPECT_EQ(world_run(&loop), errors[i]);
        EXPECT_EQ(world_failed(&loop), errors[i]);
        EXPECT_EQ(loop.backend.polls, polls);
        EXPECT_EQ(world_submit(&loop, &b.frame, one_coro), errors[i]);
        EXPECT(!TAKT_START_ON(&loop, c, one, .fd = 5));
        EXPECT(!TAKT_SPAWN_ON(&loop, one, .fd = 5)); /* it would never run */
        EXPECT_EQ(loop.sched.stats.discarded, 1);
        EXPECT_EQ(world_drain(&loop), 0); /* LP-45: they are counted already */
        EXPECT_EQ(world_failed(&loop), errors[i]);
        EXPECT_EQ(world_free(&loop), -EBUSY); /* the op may still be written to */
        EXPECT_EQ(frees, 0);
        free(loop.sched.slab); /* here the test knows better */
        free(loop.sched.results);
        free(loop.sched.items);
        free(loop.sched.foreign.at);
        free(loop.completions);
        free(loop.sched.config.pools[0].memory);
    }
}

/* A loop that is broken while nothing is in the backend's hands has nothing to keep. */
struct dozing {
    takt_frame frame;
    bool defer_ran;
};

static TAKT_CORO(dozing)
{
    TAKT_BEGIN(dozing, my);
    TAKT_DEFER { my->defer_ran = true; }
    TAKT_AWAIT(takt_sleep(3600 * TAKT_SEC));
    TAKT_END;
}

static void a_broken_loop_still_runs_the_defers_of_those_it_can_reach(void)
{
    static struct dozing dozing;
    setup();
    EXPECT(TAKT_START_ON(&loop, dozing, dozing));
    EXPECT(world_turn(&loop, 0, 0) >= 0);
    loop.backend.poll_error = -EBADF;
    EXPECT_EQ(world_run(&loop), -EBADF);
    world_drain(&loop);
    EXPECT(dozing.defer_ran);
    EXPECT_EQ(world_free(&loop), 0);
    if (loop.sched.slab) {
        free(loop.sched.slab);
        free(loop.sched.results);
        free(loop.sched.items);
        free(loop.sched.foreign.at);
        free(loop.completions);
    }
}

static void a_stale_completion_is_counted_and_ignored(void)
{
    setup();
    EXPECT(TAKT_START_ON(&loop, a, one, .fd = HANGING));
    EXPECT(TAKT_START_ON(&loop, b, one, .fd = 5));
    EXPECT(world_turn(&loop, 0, 0) >= 0);
    loop.backend.stale = 6; /* a generation that never was, and slots that are none */
    EXPECT(world_turn(&loop, 0, 0) >= 0);
    EXPECT_EQ(loop.sched.stats.stale, 6);
    EXPECT_EQ(world_failed(&loop), 0);
    EXPECT(takt_alive(&a.frame));
    takt_cancel(&a.frame);
    EXPECT_EQ(world_run(&loop), 0);
    EXPECT_EQ(b.n, 5);
    finish();
}

/* The token of an op that is over means nothing any more, whoever has its slot now. */
static void a_token_of_the_past_finds_nothing(void)
{
    takt_token old;
    setup();
    EXPECT(TAKT_START_ON(&loop, a, one, .fd = STUCK));
    EXPECT(world_turn(&loop, 0, 0) >= 0);
    old = takt_token_of(loop.backend.stuck);
    sim_done(&loop.backend, loop.backend.stuck, 3);
    EXPECT_EQ(world_run(&loop), 0);
    EXPECT_EQ(a.n, 3);
    for (int i = 0; i < 5; i++) {
        EXPECT(TAKT_START_ON(&loop, b, one, .fd = STUCK));
        EXPECT(world_turn(&loop, 0, 0) >= 0);
        EXPECT_EQ((uint32_t)takt_token_of(loop.backend.stuck), (uint32_t)old); /* the slot */
        EXPECT(takt_token_of(loop.backend.stuck) != old);
        EXPECT(takt_slot_find(&loop.sched.slots, old) == NULL);
        sim_done(&loop.backend, loop.backend.stuck, 3);
        EXPECT_EQ(world_run(&loop), 0);
    }
    finish();
}

/* BK-4 */
static void a_turn_takes_no_more_than_it_was_told(void)
{
    world_config config = world_defaults();
    config.loop.completions = 5;
    setup_with(&config);
    EXPECT(TAKT_START_ON(&loop, a, one, .fd = 5));
    EXPECT(TAKT_START_ON(&loop, b, one, .fd = 6));
    EXPECT(TAKT_START_ON(&loop, c, one, .fd = 7));
    EXPECT(world_turn(&loop, 0, 1) > 0);
    EXPECT_EQ(loop.backend.max, 1);
    EXPECT_EQ(world_pending(&loop), 2);
    EXPECT_EQ(world_deadline(&loop), 0); /* there is more: at once */
    EXPECT(world_turn(&loop, 0, 2) > 0);
    EXPECT_EQ(world_pending(&loop), 0);
    EXPECT_EQ(world_deadline(&loop), TAKT_FOREVER);
    world_turn(&loop, 0, 0);
    EXPECT_EQ(loop.backend.max, 5);
    world_turn(&loop, 0, 100);
    EXPECT_EQ(loop.backend.max, 5);
    finish();
}

/* LP-30 */
static void a_run_with_nothing_pending_asks_nobody(void)
{
    setup();
    EXPECT_EQ(world_run(&loop), 0);
    EXPECT_EQ(loop.backend.polls, 0);
    finish();
}

static void a_limit_asks_for_a_cancel_and_waits_for_the_answer(void)
{
    world_config config = world_defaults();
    told_of_failures(&config);
    setup_with(&config);
    EXPECT(TAKT_START_ON(&loop, a, one, .fd = HANGING, .limit = TAKT_SEC));
    EXPECT(TAKT_START_ON(&loop, b, one, .fd = STUCK, .limit = TAKT_SEC));
    while (loop.backend.now < 2 * TAKT_SEC)
        EXPECT(world_turn(&loop, TAKT_SEC / 4, 0) >= 0);
    EXPECT_EQ(a.n, -ETIMEDOUT);
    EXPECT_EQ(loop.backend.cancels, 2); /* one each */
    EXPECT(takt_alive(&b.frame)); /* law 1: it is the backend's until that says so */
    sim_done(&loop.backend, loop.backend.stuck, 1); /* and then it had it after all */
    EXPECT_EQ(world_run(&loop), -ETIMEDOUT);
    EXPECT_EQ(b.n, 1);
    EXPECT_EQ(takt_error(&b.frame), 0);
    EXPECT_EQ(failures, 1);
    finish();
}

/* -- the end -------------------------------------------------------------------- */

/* LP-44, LP-46, LP-47, LP-48 */
static void a_drained_loop_is_over(void)
{
    setup();
    EXPECT(TAKT_START_ON(&loop, a, one, .fd = HANGING));
    EXPECT(TAKT_START_ON(&loop, b, one, .fd = HANGING));
    EXPECT(world_turn(&loop, 0, 0) >= 0);
    EXPECT_EQ(world_drain(&loop), 2);
    EXPECT_EQ(world_pending(&loop), 0);
    EXPECT(a.defer_ran && b.defer_ran);
    EXPECT_EQ(takt_error(&a.frame), TAKT_ECANCELED);
    EXPECT_EQ(world_failed(&loop), TAKT_EDISPOSED);
    EXPECT_EQ(world_drain(&loop), 0);
    EXPECT_EQ(world_turn(&loop, 0, 0), TAKT_EDISPOSED);
    EXPECT_EQ(world_run(&loop), TAKT_EDISPOSED);
    EXPECT_EQ(world_submit(&loop, &c.frame, one_coro), TAKT_EDISPOSED);
    EXPECT(!TAKT_START_ON(&loop, c, one, .fd = 5));
    EXPECT_EQ(loop.sched.stats.discarded, 2);
    finish();
    setup();
    EXPECT_EQ(world_drain(&loop), 0);
    EXPECT_EQ(world_failed(&loop), TAKT_EDISPOSED);
    finish();
}

/* What the backend does not give back within the limit is kept, and can be freed later. */
static void memory_is_kept_as_long_as_the_backend_has_it(void)
{
    world_config config = world_defaults();
    config.loop.reap_limit = 50 * TAKT_MS;
    setup_with(&config);
    EXPECT(TAKT_START_ON(&loop, a, one, .fd = STUCK));
    EXPECT(world_turn(&loop, 0, 0) >= 0);
    EXPECT_EQ(world_free(&loop), -EBUSY);
    EXPECT_EQ(frees, 0);
    EXPECT(takt_alive(&a.frame) && !a.defer_ran);
    EXPECT_EQ(loop.backend.cancels, 1);
    sim_done(&loop.backend, loop.backend.stuck, -ECANCELED);
    EXPECT_EQ(world_free(&loop), 0);
    EXPECT_EQ(frees, 1);
    EXPECT(!takt_alive(&a.frame) && a.defer_ran);
}

static void an_init_that_fails_leaves_nothing(void)
{
    world_config config = world_defaults();
    frees = 0;
    config.backend.init_error = -EPERM;
    EXPECT_EQ(world_init(&loop, &config), -EPERM);
    config.backend.init_error = 0;
    config.loop.completions = 0;
    EXPECT_EQ(world_init(&loop, &config), -EINVAL);
    config = world_defaults();
    config.loop.strands = 0;
    EXPECT_EQ(world_init(&loop, &config), -EINVAL); /* nothing could run on it */
    config = world_defaults();
    for (int i = 0; i < TAKT_POOLS_MAX; i++)
        TAKT_POOL(config, one, 1);
    EXPECT_EQ(world_init(&loop, &config), 0);
    EXPECT_EQ(world_free(&loop), 0);
    TAKT_POOL(config, one, 1);
    EXPECT_EQ(world_init(&loop, &config), -E2BIG);
    EXPECT_EQ(frees, 1);
}

/* -- a turn is bounded ------------------------------------------------------- */

struct burner {
    takt_frame frame;
    sim *clock; /* in */
    int rounds;
};

/* A millisecond of work between any two yields. */
static TAKT_CORO(burner)
{
    TAKT_BEGIN(burner, my);
    for (my->rounds = 0; my->rounds < 3; my->rounds++) {
        my->clock->now += TAKT_MS;
        TAKT_YIELD;
    }
    TAKT_END;
}

struct punctual {
    takt_frame frame;
    sim *clock; /* in */
    takt_ns asked, woke;
};

static TAKT_CORO(punctual)
{
    TAKT_BEGIN(punctual, my);
    my->asked = my->clock->now;
    TAKT_AWAIT(takt_nop());
    my->woke = my->clock->now;
    TAKT_END;
}

/* How long an op takes that completes at once, beside 64 ms of work that is ready. */
static takt_ns lateness(takt_ns slice, uint32_t completions)
{
    enum { BURNERS = 64 };
    static struct burner burners[BURNERS];
    static struct punctual punctual;
    world_config config = world_defaults();
    config.loop.strands = BURNERS + 1;
    config.loop.slice = slice;
    config.loop.completions = completions;
    EXPECT_EQ(world_init(&loop, &config), 0);
    memset((void *)burners, 0, sizeof burners);
    memset((void *)&punctual, 0, sizeof punctual);
    EXPECT(TAKT_START_ON(&loop, punctual, punctual, .clock = &loop.backend));
    for (int i = 0; i < BURNERS; i++)
        EXPECT(TAKT_START_ON(&loop, burners[i], burner, .clock = &loop.backend));
    EXPECT_EQ(world_run(&loop), 0);
    for (int i = 0; i < BURNERS; i++)
        EXPECT_EQ(burners[i].rounds, 3);
    EXPECT_EQ(world_free(&loop), 0);
    return punctual.woke - punctual.asked;
}

/* C15, K3: what is ready cannot keep the backend waiting for longer than the slice
 * and 15 coroutines more. */
static void a_slice_bounds_a_turn_in_time(void)
{
    EXPECT(lateness(0, 256) >= 60 * TAKT_MS); /* all of one round */
    EXPECT(lateness(4 * TAKT_MS, 256) <= 20 * TAKT_MS);
    EXPECT(lateness(4 * TAKT_MS, 50) >= 0); /* fewer than it would allow */
    EXPECT_EQ(loop.sched.config.completions, 50);
}

struct hog {
    takt_frame frame;
    sim *clock; /* in */
    takt_ns first, then;
};

static TAKT_CORO(hog)
{
    TAKT_BEGIN(hog, my);
    my->clock->now += my->first;
    TAKT_AWAIT(takt_nop());
    my->clock->now += my->then;
    TAKT_END;
}

/* I11: a coroutine that keeps the loop is named; one that does not, is not. */
static void who_holds_up_the_others_is_named(void)
{
    static struct hog hogs[3];
    for (int limited = 0; limited < 2; limited++) {
        world_config config = world_defaults();
        config.loop.hold_limit = limited ? 10 * TAKT_MS : 0;
        EXPECT_EQ(world_init(&loop, &config), 0);
        memset((void *)hogs, 0, sizeof hogs);
        log_count = 0;
        memset(logged, 0, sizeof logged);
        EXPECT(TAKT_START_ON(&loop, hogs[0], hog, .clock = &loop.backend, .first = TAKT_MS));
        EXPECT(TAKT_START_ON(&loop, hogs[1], hog, .clock = &loop.backend, .first = 25 * TAKT_MS));
        EXPECT(TAKT_START_ON(&loop, hogs[2], hog, .clock = &loop.backend,
                             .then = 10 * TAKT_MS + 1));
        EXPECT_EQ(world_run(&loop), 0);
        EXPECT_EQ(loop.sched.stats.held, TAKT_DEBUG && limited ? 2u : 0u);
        EXPECT_EQ(log_count, TAKT_DEBUG && limited ? 2 : 0);
        EXPECT(!log_count || strstr(logged[0], "loop.c:"));
        EXPECT(!log_count || strstr(logged[0], ": hog: before it came here it kept all others "
                                               "waiting for 25 ms"));
        EXPECT_EQ(world_free(&loop), 0);
    }
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        TEST(an_hour_passes_in_no_time_and_always_the_same),
        TEST(a_refused_submit_is_thrown_into_that_coroutine_only),
        TEST(a_submitted_frame_runs_to_its_first_await),
        TEST(a_submit_without_a_strand_or_on_a_stopping_loop_is_an_error),
        TEST(every_submit_has_its_result),
        TEST(a_turn_that_does_too_much_to_tell_tells_the_most),
        TEST(would_block_from_poll_is_idle),
        TEST(a_failing_poll_is_the_end_and_stays_it),
        TEST(a_broken_loop_still_runs_the_defers_of_those_it_can_reach),
        TEST(a_stale_completion_is_counted_and_ignored),
        TEST(a_token_of_the_past_finds_nothing),
        TEST(a_turn_takes_no_more_than_it_was_told),
        TEST(a_run_with_nothing_pending_asks_nobody),
        TEST(a_limit_asks_for_a_cancel_and_waits_for_the_answer),
        TEST(a_drained_loop_is_over),
        TEST(memory_is_kept_as_long_as_the_backend_has_it),
        TEST(an_init_that_fails_leaves_nothing),
        TEST(a_slice_bounds_a_turn_in_time),
        TEST(who_holds_up_the_others_is_named),
    };
    return RUN_TESTS(argc, argv, tests);
}

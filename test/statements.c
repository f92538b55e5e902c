/*
 * statements.c - what a loop and a stream runner promise, statement by statement
 *
 * Against the scripted backend of script.h. The comment above each test names the statements
 * that it shows; test/STATEMENTS has their words, test/DEVIATIONS where takt differs, and
 * test/contract.sh puts the three together. Frames are counted where they begin and where
 * their defers run, and completions where they are delivered: nothing is inferred.
 */
#include "script.h"

#include <pthread.h>

TAKT_LOOP(net, script);
TAKT_STREAM(feed, script, char);

/* -- a coroutine that awaits `n` numbers ----------------------------------------- */

enum { ECHO = TAKT_OP_USER };

static struct {
    int live, begun, resumed, freed, discarded;
} frames;

struct job {
    takt_frame frame;
    int n;     /* in: ops */
    int first; /* in: the number of the first */
    int error; /* in: thrown at the end */
    bool catches; /* in */
    void (*look)(struct job *my); /* in: called whenever it goes on */
    int i;
    int64_t got, sum;
    int begun, resumed, freed, discarded;
    int caught;
};

static TAKT_CORO(job)
{
    TAKT_BEGIN(job, my);
    my->begun++;
    frames.begun++;
    frames.live++;
    TAKT_DEFER {
        my->freed++;
        frames.freed++;
        frames.live--;
        my->discarded += my->frame.error == TAKT_ECANCELED;
        frames.discarded += my->frame.error == TAKT_ECANCELED;
    }
    for (my->i = 0; my->i < my->n; my->i++) {
        TAKT_AWAIT(my->got, takt_op_user(ECHO, NULL, my->first + my->i));
        my->resumed++;
        frames.resumed++;
        my->sum += my->got;
        if (my->look)
            my->look(my);
    }
    if (my->error)
        TAKT_THROW(my->error);
    TAKT_CATCH {
        my->caught = my->frame.error;
        if (!my->catches)
            TAKT_THROW(my->frame.error);
    }
    TAKT_END;
}

TAKT_LOOP_OF(jobs_only, script, job);

static net loop;
static struct job a, b, c, many[500];

static struct job *prepare(struct job *my, int n)
{
    memset((void *)my, 0, sizeof *my);
    my->n = n;
    return my;
}

/* Submits a job of `n` ops. */
static int submit(struct job *my, int n)
{
    prepare(my, n);
    return net_submit(&loop, &my->frame, job_coro);
}

/* A new loop, a new script. Tokens are the backend's, from 0 on. */
static void setup_of(uint32_t strands, uint32_t completions)
{
    net_config config = net_defaults();
    script_begin();
    memset(&frames, 0, sizeof frames);
    config.loop.strands = strands;
    if (completions)
        config.loop.completions = completions;
    EXPECT_EQ(net_init(&loop, &config), 0);
}

static void setup(void)
{
    setup_of(8, 0);
}

/* Nothing is left. */
static void finish(void)
{
    EXPECT_EQ(net_free(&loop), 0);
    EXPECT_EQ(hooks.live, 0);
    EXPECT_EQ(frames.live, 0);
    EXPECT_EQ(frames.freed, frames.begun);
    EXPECT_EQ(hooks.asserts + hooks.panics, 0);
}

/* The loop is over, and `held` frames are in ops that the backend has not given back: they
 * are kept, and no defer of theirs has run. */
static void quarantined(int held)
{
    const int freed = frames.freed;
    EXPECT_EQ(net_pending(&loop), 0);
    EXPECT_EQ(net_free(&loop), -EBUSY);
    EXPECT_EQ(frames.live, held);
    EXPECT_EQ(frames.freed, freed);
    EXPECT_EQ(hooks.asserts + hooks.panics, 0);
}

static takt_frame *results[512];

/* Polls, and expects exactly these results. */
static void expect_results(int count, const struct job *first, const struct job *second)
{
    EXPECT_EQ(net_poll(&loop, results, 512), count);
    EXPECT(count < 1 || results[0] == &first->frame);
    EXPECT(count < 2 || results[1] == &second->frame);
}

static int poll_once(void)
{
    return net_poll(&loop, results, 512);
}

/* -- the backend and its completions ------------------------------------------------ */

/* BK-1, LP-18 */
static void a_refused_op_leaves_no_token_behind(void)
{
    setup();
    submit_gives(7, -EIO);
    EXPECT_EQ(submit(&a, 1), -EIO);
    EXPECT_EQ(net_pending(&loop), 0);
    arrive(7, 1, 0, 0);
    EXPECT_EQ(poll_once(), TAKT_EWOULDBLOCK);
    EXPECT_EQ(loop.sched.stats.stale, 1);
    EXPECT_EQ(a.resumed, 0);
    EXPECT_EQ(a.freed, 1);
    finish();
}

/* BK-2, BK-9 */
static void zero_is_a_token_and_an_idle_loop_is_polled(void)
{
    setup();
    EXPECT_EQ(poll_once(), TAKT_EWOULDBLOCK);
    EXPECT_EQ(sc.polls, 1);
    sc.value = 42;
    sc.echo = true;
    EXPECT_EQ(submit(&a, 1), 0);
    EXPECT_EQ(sc.ready[0].token, 0);
    expect_results(1, &a, NULL);
    EXPECT_EQ(a.sum, 42);
    finish();
}

/* BK-3 */
static void a_token_is_free_before_its_frame_goes_on(void)
{
    setup();
    for (int i = 0; i < 20; i++) {
        submit_gives(1, 0);
        and_ready(SAME, i, 0, 0);
    }
    EXPECT_EQ(submit(&a, 20), 0);
    for (int i = 0; i < 19; i++)
        EXPECT_EQ(poll_once(), 0);
    expect_results(1, &a, NULL);
    EXPECT_EQ(a.sum, 190);
    EXPECT_EQ(sc.submits, 20);
    EXPECT_EQ(net_failed(&loop), 0);
    finish();
}

/* BK-4 */
static void what_does_not_fit_comes_with_the_next_poll(void)
{
    setup_of(8, 1);
    sc.echo = true;
    EXPECT_EQ(submit(&a, 1), 0);
    EXPECT_EQ(submit(&b, 1), 0);
    expect_results(1, &a, NULL);
    EXPECT_EQ(sc.max, 1);
    expect_results(1, &b, NULL);
    finish();
}

/* BK-6 */
static void more_completions_than_asked_for_are_a_trap(void)
{
    setup_of(8, 4);
    EXPECT_EQ(submit(&a, 1), 0);
    sc.lie = 5;
    EXPECT(poll_once() < 0);
    EXPECT_EQ(hooks.asserts, 1);
    EXPECT(net_failed(&loop) < 0);
    EXPECT_EQ(a.resumed, 0);
    EXPECT_EQ(loop.sched.stats.completions, 0); /* none of it was looked at */
}

/* BK-7, LP-14 */
static void the_error_of_a_failure_reaches_the_coroutine(void)
{
    setup();
    submit_gives(NEXT, 0);
    and_ready(SAME, -1, -ECONNRESET, 0);
    submit_gives(NEXT, 0);
    and_ready(SAME, -1, -EPIPE, 0);
    EXPECT_EQ(submit(&a, 1), 0);
    prepare(&b, 1)->catches = true;
    EXPECT_EQ(net_submit(&loop, &b.frame, job_coro), 0);
    expect_results(2, &a, &b); /* it is a result, and no error of the loop */
    EXPECT_EQ(net_failed(&loop), 0);
    EXPECT_EQ(takt_error(&a.frame), -ECONNRESET);
    EXPECT_EQ(b.caught, -EPIPE);
    EXPECT_EQ(takt_error(&b.frame), 0);
    EXPECT_EQ(b.got, -EPIPE);
    EXPECT_EQ(frames.discarded, 0);
    finish();
}

/* BK-8, LP-2, LP-13 */
static void a_submit_never_completes_what_it_begins(void)
{
    setup();
    sc.echo = true;
    sc.value = 10;
    prepare(&a, 2)->first = 70;
    EXPECT_EQ(net_submit(&loop, &a.frame, job_coro), 0);
    EXPECT_EQ(a.begun, 1);
    EXPECT_EQ(a.resumed, 0);
    EXPECT_EQ(sc.submits, 1);
    EXPECT_EQ(sc.ops[0], 70);
    EXPECT_EQ(net_pending(&loop), 1);
    EXPECT_EQ(poll_once(), 0); /* the next op is there, and not completed as well */
    EXPECT_EQ(sc.submits, 2);
    EXPECT_EQ(sc.ops[1], 71);
    EXPECT_EQ(a.resumed, 1);
    EXPECT_EQ(net_pending(&loop), 1);
    expect_results(1, &a, NULL);
    EXPECT_EQ(a.sum, 20);
    finish();
}

/* BK-10 */
static void a_slot_that_was_not_reported_is_not_read(void)
{
    setup();
    EXPECT_EQ(submit(&a, 1), 0);
    EXPECT_EQ(submit(&b, 1), 0);
    arrive(0, 5, 0, 0);
    arrive(33, 5, 0, 0);
    expect_results(1, &a, NULL);
    memset((void *)sc.slab, 0, 4 * sizeof *sc.slab);
    sc.slab[0].token = sc.slab[1].token = 1; /* of b: but nobody says that it is there */
    EXPECT_EQ(poll_once(), TAKT_EWOULDBLOCK);
    EXPECT_EQ(b.resumed, 0);
    arrive(1, 6, 0, 0);
    expect_results(1, &b, NULL);
    EXPECT_EQ(loop.sched.stats.stale, 1);
    finish();
}

/* BK-11, LP-49, LP-23, LP-42 */
static void a_fatal_error_calls_nobody_and_a_drain_asks_for_the_end(void)
{
    for (int fatal = 0; fatal < 2; fatal++) {
        int submits, polls;
        setup();
        EXPECT_EQ(submit(&a, 1), 0);
        EXPECT_EQ(submit(&b, 1), 0);
        submits = sc.submits;
        if (!fatal) {
            EXPECT_EQ(net_drain(&loop), 2);
            EXPECT_EQ(sc.cancels, 2);
            EXPECT(sc.polls > 0); /* and the answers are waited for */
            EXPECT_EQ(sc.submits, submits);
            EXPECT_EQ(frames.discarded, 2);
            EXPECT_EQ(frames.freed, 2);
            finish();
            continue;
        }
        poll_gives(-EIO);
        EXPECT_EQ(poll_once(), -EIO);
        EXPECT_EQ(loop.sched.stats.discarded, 2); /* at once */
        EXPECT_EQ(net_pending(&loop), 0);
        EXPECT_EQ(sc.cancels, 0);
        polls = sc.polls;
        EXPECT_EQ(net_drain(&loop), 0);
        EXPECT_EQ(sc.polls, polls); /* it is not asked again */
        EXPECT_EQ(loop.sched.stats.discarded, 2);
        quarantined(2);
    }
}

static void scribble(takt_op *op)
{
    (void)op;
    if (sc.slab)
        memset((void *)sc.slab, 0xee, sizeof *sc.slab); /* the slot it is called for */
    memset((void *)(sc.ready + sc.ready_count), 0xee, 8 * sizeof *sc.ready);
}

/* BK-12 */
static void what_the_backend_does_in_submit_does_not_reach_the_batch(void)
{
    setup();
    sc.echo = true;
    EXPECT_EQ(submit(&a, 2), 0);
    EXPECT_EQ(submit(&b, 1), 0);
    sc.value = 10;
    sc.on_submit = scribble;
    expect_results(1, &b, NULL);
    EXPECT_EQ(a.resumed, 1);
    EXPECT_EQ(a.sum, 0); /* the number of its first op */
    sc.on_submit = NULL;
    expect_results(1, &a, NULL);
    EXPECT_EQ(a.sum, 10);
    EXPECT_EQ(loop.sched.stats.stale, 0);
    finish();
}

/* -- submission ----------------------------------------------------------------------- */

static int submitted_inside;

static void submit_b(struct job *my)
{
    (void)my;
    submitted_inside = submit(&b, 0);
    EXPECT_EQ(b.begun, 0); /* it is queued */
}

/* LP-1, LP-51 */
static void what_awaits_nothing_is_done_at_once(void)
{
    int allocations;
    setup();
    allocations = hooks.allocations;
    for (int i = 0; i < 100; i++) {
        EXPECT_EQ(submit(&a, 0), 1);
        EXPECT(takt_finished(&a.frame));
        EXPECT_EQ(a.freed, 1);
    }
    EXPECT_EQ(hooks.allocations, allocations);
    EXPECT_EQ(sc.submits, 0);
    EXPECT_EQ(sc.polls, 0);
    EXPECT_EQ(net_pending(&loop), 0);
    sc.echo = true;
    prepare(&a, 1)->look = submit_b;
    EXPECT_EQ(net_submit(&loop, &a.frame, job_coro), 0);
    expect_results(2, &a, &b); /* from inside it runs after who submits it */
    EXPECT_EQ(submitted_inside, 0);
    EXPECT_EQ(b.begun, 1);
    finish();
}

/* LP-3 */
static void a_refused_first_op_costs_that_frame_alone(void)
{
    static const int errors[] = {-EIO, TAKT_EWOULDBLOCK, TAKT_EMORE};
    for (int i = 0; i < 3; i++) {
        setup();
        submit_gives(NEXT, 0);
        and_ready(SAME, 5, 0, 0);
        submit_gives(NEXT, errors[i]);
        submit_gives(NEXT, errors[i]);
        EXPECT_EQ(submit(&a, 1), 0);
        EXPECT_EQ(submit(&b, 1), errors[i]); /* verbatim */
        EXPECT_EQ(b.freed, 1);
        EXPECT_EQ(b.resumed, 0);
        EXPECT_EQ(net_pending(&loop), 1);
        EXPECT_EQ(net_failed(&loop), 0);
        prepare(&c, 1)->catches = true;
        EXPECT_EQ(net_submit(&loop, &c.frame, job_coro), 1); /* it was thrown, and caught */
        EXPECT_EQ(c.caught, errors[i]);
        expect_results(1, &a, NULL);
        sc.echo = true;
        EXPECT_EQ(submit(&b, 1), 0);
        expect_results(1, &b, NULL);
        finish();
    }
}

/* LP-4, LP-42, CO-10 */
static void a_token_that_is_live_ends_the_loop(void)
{
    setup();
    submit_gives(1, 0);
    submit_gives(1, 0);
    EXPECT_EQ(submit(&a, 1), 0);
    EXPECT_EQ(submit(&b, 1), TAKT_ELIVETOKEN);
    EXPECT(!takt_finished(&b.frame));
    EXPECT_EQ(b.sum, 0);
    EXPECT_EQ(net_pending(&loop), 0);
    EXPECT_EQ(net_failed(&loop), TAKT_ELIVETOKEN);
    EXPECT_EQ(loop.sched.stats.discarded, 2);
    EXPECT_EQ(sc.cancels, 0);
    EXPECT_EQ(poll_once(), TAKT_ELIVETOKEN);
    EXPECT_EQ(sc.polls, 0);
    quarantined(2);
}

/* LP-4: also if one of them is known by the loop's own token. */
static void an_offered_token_that_is_live_is_no_other(void)
{
    setup();
    sc.offered = true;
    EXPECT_EQ(submit(&a, 1), 0);
    submit_gives(sc.tokens[0] + 0x700000000, 0); /* another generation is another token */
    EXPECT_EQ(submit(&c, 1), 0);
    arrive(sc.tokens[1], 4, 0, 0);
    expect_results(1, &c, NULL);
    EXPECT_EQ(a.resumed, 0);
    submit_gives(sc.tokens[0], 0);
    EXPECT_EQ(submit(&b, 1), TAKT_ELIVETOKEN);
    EXPECT_EQ(loop.sched.stats.discarded, 2);
    quarantined(2);
}

/* LP-5, LP-6, CO-11 */
static void a_loop_that_is_over_runs_nothing(void)
{
    for (int n = 0; n < 2; n++) {
        setup();
        poll_gives(-EIO);
        EXPECT_EQ(poll_once(), -EIO);
        EXPECT_EQ(submit(&a, n), -EIO);
        EXPECT_EQ(a.begun, 0); /* not even up to its first op */
        EXPECT(!takt_alive(&a.frame) && !takt_finished(&a.frame));
        EXPECT_EQ(sc.submits, 0);
        finish();
    }
}

/* LP-7, LP-28, LP-32: in any order each is delivered once. */
static void each_completion_ends_one_of_many(void)
{
    for (int offered = 0; offered < 2; offered++) {
        uint32_t random = 7;
        int count;
        setup_of(500, 0);
        sc.offered = offered;
        sc.echo = true;
        for (int i = 0; i < 500; i++) {
            prepare(&many[i], 1)->first = i + 1;
            EXPECT_EQ(net_submit(&loop, &many[i].frame, job_coro), 0);
        }
        EXPECT_EQ(net_pending(&loop), 500);
        for (int i = 499; i > 0; i--) { /* shuffled */
            const takt_completion last = sc.ready[i];
            random = random * 1664525u + 1013904223u;
            sc.ready[i] = sc.ready[random % (uint32_t)(i + 1)];
            sc.ready[random % (uint32_t)(i + 1)] = last;
        }
        EXPECT_EQ(net_collect(&loop, results, 500, &count), 0);
        EXPECT_EQ(count, 500);
        EXPECT_EQ(frames.resumed, 500);
        for (int i = 0; i < 500; i++) {
            EXPECT_EQ(many[i].sum, i + 1);
            EXPECT_EQ(many[i].resumed + many[i].freed, 2);
        }
        EXPECT_EQ(net_pending(&loop), 0);
        EXPECT_EQ(poll_once(), TAKT_EWOULDBLOCK);
        finish();
    }
}

/* -- poll ------------------------------------------------------------------------------ */

/* LP-11, LP-12 */
static void four_answers_of_a_poll_are_told_apart(void)
{
    for (int offered = 0; offered < 2; offered++) {
        setup();
        sc.offered = offered;
        EXPECT_EQ(submit(&a, 2), 0);
        EXPECT_EQ(poll_once(), TAKT_EWOULDBLOCK); /* IDLE */
        arrive(sc.tokens[0], 1, 0, 0);
        EXPECT_EQ(poll_once(), 0); /* ADVANCED */
        arrive(sc.tokens[0], 41, 0, 0);
        EXPECT_EQ(net_pending(&loop), 1);
        expect_results(1, &a, NULL); /* RESULTS */
        EXPECT_EQ(a.sum, 42);
        EXPECT_EQ(a.freed, 1);
        EXPECT_EQ(net_pending(&loop), 0);
        poll_gives(-EIO);
        EXPECT_EQ(poll_once(), -EIO); /* FATAL */
        EXPECT_EQ(net_collect(&loop, results, 1, &a.i), -EIO);
        finish();
    }
}

/* LP-15, LP-37 */
static void would_block_submits_the_same_op_again(void)
{
    for (int offered = 0; offered < 2; offered++) {
        takt_token first;
        setup();
        sc.offered = offered;
        prepare(&a, 1)->first = 9;
        EXPECT_EQ(net_submit(&loop, &a.frame, job_coro), 0);
        first = sc.tokens[0];
        arrive(first, 77, TAKT_EWOULDBLOCK, 0);
        EXPECT_EQ(poll_once(), TAKT_EWOULDBLOCK); /* that is no progress */
        EXPECT_EQ(sc.submits, 2);
        EXPECT_EQ(sc.ops[1], 9);
        EXPECT(sc.tokens[0] != first);
        EXPECT_EQ(a.resumed, 0);
        EXPECT_EQ(net_pending(&loop), 1);
        arrive(first, 78, 0, 0); /* the old token is nobody's */
        arrive(sc.tokens[0], 10, 0, 0);
        expect_results(1, &a, NULL);
        EXPECT_EQ(a.sum, 10);
        EXPECT_EQ(loop.sched.stats.stale, 1);
        finish();
    }
}

/* LP-16, LP-19, CO-10 */
static void a_refused_further_op_is_thrown_and_the_loop_lives_on(void)
{
    static const int errors[] = {-EIO, TAKT_EWOULDBLOCK, TAKT_EMORE};
    for (int i = 0; i < 6; i++) {
        const bool again = i % 2; /* the same op, or the next one */
        setup();
        EXPECT_EQ(submit(&b, 1), 0);
        submit_gives(NEXT, 0);
        and_ready(SAME, 5, again ? TAKT_EWOULDBLOCK : 0, 0);
        submit_gives(NEXT, errors[i / 2]);
        EXPECT_EQ(submit(&a, 2), 0);
        expect_results(1, &a, NULL);
        EXPECT_EQ(takt_error(&a.frame), errors[i / 2]);
        EXPECT_EQ(a.resumed, !again);
        EXPECT_EQ(a.freed, 1);
        EXPECT_EQ(net_failed(&loop), 0);
        EXPECT_EQ(net_pending(&loop), 1); /* the sibling */
        arrive(0, 3, 0, 0);
        expect_results(1, &b, NULL);
        EXPECT_EQ(b.sum, 3);
        EXPECT_EQ(loop.sched.stats.discarded, 0);
        finish();
    }
}

/* LP-17, CO-10 */
static void more_to_come_of_one_op_ends_the_loop(void)
{
    for (int i = 0; i < 4; i++) {
        setup();
        sc.offered = i % 2;
        EXPECT_EQ(submit(&a, 1 + i / 2), 0); /* it would finish, or go on */
        EXPECT_EQ(submit(&b, 1), 0);
        arrive(sc.tokens[0], 0x5eed, TAKT_EMORE, 0);
        EXPECT_EQ(poll_once(), TAKT_EMULTISHOT);
        EXPECT_EQ(a.resumed, 0); /* the value was not even shown to it */
        EXPECT_EQ(a.got, 0);
        EXPECT_EQ(net_failed(&loop), TAKT_EMULTISHOT);
        EXPECT_EQ(net_pending(&loop), 0);
        EXPECT_EQ(loop.sched.stats.discarded, 2);
        EXPECT_EQ(sc.submits, 2);
        quarantined(2);
    }
}

/* LP-18, LP-11 */
static void a_token_that_is_nobodys_is_passed_over(void)
{
    static const takt_token strange[] = {5, 0x100000000, 0x100000005, 0xffffffffffffffff};
    setup();
    EXPECT_EQ(submit(&a, 1), 0);
    for (int i = 0; i < 4; i++) {
        arrive(strange[i], 1, 0, 0);
        EXPECT_EQ(poll_once(), TAKT_EWOULDBLOCK);
        arrive(strange[i], 1, TAKT_EMORE, 0); /* not even this */
        EXPECT_EQ(poll_once(), TAKT_EWOULDBLOCK);
    }
    EXPECT_EQ(loop.sched.stats.stale, 8);
    EXPECT_EQ(net_failed(&loop), 0);
    EXPECT_EQ(net_pending(&loop), 1);
    EXPECT_EQ(net_drain(&loop), 1);
    finish();
}

/* LP-20, CO-10 */
static void a_live_token_for_the_next_op_ends_the_loop(void)
{
    setup_of(8, 1);
    submit_gives(1, 0);
    and_ready(SAME, 5, 0, 0);
    submit_gives(2, 0);
    and_ready(SAME, 5, 0, 0);
    submit_gives(2, 0);
    EXPECT_EQ(submit(&a, 2), 0);
    EXPECT_EQ(submit(&b, 1), 0);
    EXPECT_EQ(poll_once(), TAKT_ELIVETOKEN);
    EXPECT_EQ(sc.submits, 3);
    EXPECT_EQ(net_pending(&loop), 0);
    EXPECT_EQ(net_failed(&loop), TAKT_ELIVETOKEN);
    EXPECT_EQ(loop.sched.stats.discarded, 2);
    EXPECT_EQ(frames.freed, 0);
    quarantined(2);
}

/* In one batch: `a` ends, `b` turns fatal, `c` completes. */
static void a_batch_that_turns_fatal(bool more)
{
    setup();
    EXPECT_EQ(submit(&a, 1), 0);
    EXPECT_EQ(submit(&b, 2), 0);
    EXPECT_EQ(submit(&c, 1), 0);
    submit_gives(2, 0); /* the token of c */
    arrive(0, 10, 0, 0);
    arrive(1, 20, more ? TAKT_EMORE : 0, 0);
    arrive(2, 30, 0, TAKT_FD);
}

/* LP-21, LP-22 */
static void results_come_before_the_fatal_error_of_their_batch(void)
{
    for (int more = 0; more < 2; more++) {
        const int fatal = more ? TAKT_EMULTISHOT : TAKT_ELIVETOKEN;
        a_batch_that_turns_fatal(more);
        expect_results(1, &a, NULL);
        EXPECT_EQ(a.sum, 10);
        EXPECT_EQ(net_failed(&loop), fatal); /* it is known already */
        EXPECT_EQ(net_pending(&loop), 0);
        EXPECT_EQ(c.resumed, 0); /* what came behind it is dropped, */
        EXPECT_EQ(sc.calls, 1);  /* and closed */
        EXPECT_EQ(loop.sched.stats.discarded, 2);
        EXPECT_EQ(poll_once(), fatal);
        EXPECT_EQ(sc.polls, 1);
        quarantined(2);
    }
}

static takt_event bell;

static void ring(struct job *my)
{
    (void)my;
    takt_event_set(&bell);
}

/* Is woken by an event, by time, or by nothing but its start. */
struct sleeper {
    takt_frame frame;
    int how; /* in: 1: the event; 2: a sleep */
    bool awake;
    bool left;
};

static TAKT_CORO(sleeper)
{
    TAKT_BEGIN(sleeper, my);
    TAKT_DEFER { my->left = true; }
    if (my->how == 1)
        TAKT_AWAIT(takt_event_wait(&bell));
    if (my->how == 2)
        TAKT_AWAIT(takt_sleep(TAKT_SEC));
    my->awake = true;
    TAKT_END;
}

/* LP-22, LP-10: nor does anybody else go on, whatever woke it; drain ends them. */
static void nobody_goes_on_after_a_fatal_error(void)
{
    for (int how = 1; how < 3; how++) {
        static struct sleeper sleeper;
        setup();
        memset((void *)&bell, 0, sizeof bell);
        EXPECT(TAKT_START_ON(&loop, sleeper, sleeper, .how = how));
        EXPECT(net_turn(&loop, 0, 0) > 0);
        prepare(&a, 2)->look = ring;
        EXPECT_EQ(net_submit(&loop, &a.frame, job_coro), 0);
        EXPECT_EQ(submit(&b, 1), 0);
        submit_gives(1, 0); /* the token of b */
        arrive(0, 10, 0, 0);
        sc.now += 2 * TAKT_SEC;
        EXPECT_EQ(poll_once(), TAKT_ELIVETOKEN);
        EXPECT(!sleeper.awake && takt_alive(&sleeper.frame));
        EXPECT_EQ(net_drain(&loop), 0);
        EXPECT(!sleeper.awake == (how == 2)); /* what is ready runs to its next await */
        EXPECT(sleeper.left && !takt_alive(&sleeper.frame));
        quarantined(2);
    }
}

/* LP-10: a fatal error in what was ready before the poll. */
static void a_loop_that_turned_fatal_is_not_polled(void)
{
    setup();
    EXPECT_EQ(submit(&a, 1), 0);
    submit_gives(0, 0); /* the token of a */
    EXPECT(TAKT_START_ON(&loop, b, job, .n = 1));
    EXPECT(TAKT_START_ON(&loop, c, job, .n = 1));
    EXPECT_EQ(poll_once(), TAKT_ELIVETOKEN);
    EXPECT_EQ(sc.polls, 0);
    EXPECT_EQ(sc.submits, 2);
    EXPECT_EQ(c.begun, 0); /* it stood behind b */
    EXPECT_EQ(loop.sched.stats.discarded, 3);
    EXPECT_EQ(poll_once(), TAKT_ELIVETOKEN);
    EXPECT_EQ(sc.polls, 0);
    net_drain(&loop);
    EXPECT(!takt_alive(&c.frame));
    EXPECT_EQ(sc.submits, 2);
    quarantined(2);
}

/* LP-23, LP-25, LP-41 */
static void a_failing_poll_is_the_same_error_for_ever(void)
{
    static const int errors[] = {-EIO, TAKT_EMORE};
    for (int i = 0; i < 2; i++) {
        setup();
        EXPECT_EQ(net_failed(&loop), 0);
        EXPECT_EQ(submit(&a, 1), 0);
        arrive(0, 1, 0, 0);
        poll_gives(errors[i]);
        poll_gives(-EBADF);
        EXPECT_EQ(poll_once(), errors[i]);
        EXPECT_EQ(poll_once(), errors[i]);
        EXPECT_EQ(sc.polls, 1);
        EXPECT_EQ(a.resumed, 0);
        EXPECT_EQ(net_pending(&loop), 0);
        EXPECT_EQ(net_failed(&loop), errors[i]);
        EXPECT_EQ(net_drain(&loop), 0);
        EXPECT_EQ(net_failed(&loop), errors[i]); /* the first stands */
        quarantined(1);
    }
}

/* LP-24 */
static void would_block_of_a_poll_is_an_idle_turn(void)
{
    setup();
    EXPECT_EQ(submit(&a, 1), 0);
    arrive(0, 21, 0, 0);
    poll_gives(TAKT_EWOULDBLOCK);
    EXPECT_EQ(poll_once(), TAKT_EWOULDBLOCK);
    EXPECT_EQ(net_pending(&loop), 1);
    EXPECT_EQ(net_failed(&loop), 0);
    expect_results(1, &a, NULL);
    EXPECT_EQ(a.sum, 21);
    finish();
}

/* LP-26, LP-35 */
static void results_stand_in_the_callers_array(void)
{
    takt_frame *first[3] = {NULL}, *second[3] = {NULL};
    int allocations;
    setup();
    allocations = hooks.allocations;
    sc.echo = true;
    EXPECT_EQ(submit(&a, 1), 0);
    EXPECT_EQ(net_poll(&loop, first, 3), 1);
    EXPECT_EQ(submit(&b, 1), 0);
    EXPECT_EQ(net_poll(&loop, second, 3), 1);
    EXPECT(first[0] == &a.frame && first[1] == NULL);
    EXPECT(second[0] == &b.frame && second[1] == NULL);
    EXPECT_EQ(submit(&a, 1), 0);
    EXPECT_EQ(submit(&b, 1), 0);
    EXPECT_EQ(submit(&c, 1), 0);
    EXPECT_EQ(net_poll(&loop, first, 2), 2); /* no more than there is room for: */
    EXPECT(first[0] == &a.frame && first[1] == &b.frame && first[2] == NULL);
    EXPECT_EQ(net_poll(&loop, second, 3), 1); /* the next call has the rest, at once */
    EXPECT(second[0] == &c.frame);
    EXPECT_EQ(sc.polls, 3);
    EXPECT_EQ(hooks.allocations, allocations);
    finish();
}

/* LP-27 */
static void results_have_the_order_of_their_completions(void)
{
    setup();
    EXPECT_EQ(submit(&a, 1), 0);
    EXPECT_EQ(submit(&b, 1), 0);
    EXPECT_EQ(submit(&c, 1), 0);
    arrive(2, 1, 0, 0);
    arrive(0, 2, 0, 0);
    arrive(1, 3, 0, 0);
    expect_results(3, &c, &a);
    EXPECT(results[2] == &b.frame);
    finish();
}

/* -- run ------------------------------------------------------------------------------- */

static int collect(int max, int *count)
{
    return net_collect(&loop, results, max, count);
}

/* LP-30, LP-31, LP-47, LP-48 */
static void a_run_with_nothing_to_do_asks_nobody(void)
{
    int count = 7;
    setup();
    EXPECT_EQ(collect(8, &count), 0);
    EXPECT_EQ(count, 0);
    EXPECT_EQ(net_run(&loop), 0);
    EXPECT_EQ(sc.polls, 0);
    EXPECT_EQ(net_drain(&loop), 0);
    EXPECT_EQ(collect(8, &count), TAKT_EDISPOSED);
    EXPECT_EQ(count, 0);
    EXPECT_EQ(net_run(&loop), TAKT_EDISPOSED);
    EXPECT_EQ(net_turn(&loop, 0, 0), TAKT_EDISPOSED);
    EXPECT_EQ(poll_once(), TAKT_EDISPOSED);
    EXPECT_EQ(submit(&a, 0), TAKT_EDISPOSED);
    EXPECT_EQ(a.begun, 0);
    EXPECT_EQ(sc.polls, 0);
    finish();
}

/* LP-32 */
static void a_run_returns_what_was_pending_in_order_of_arrival(void)
{
    int count;
    setup();
    sc.echo = true;
    EXPECT_EQ(submit(&a, 3), 0);
    EXPECT_EQ(submit(&b, 1), 0);
    EXPECT_EQ(submit(&c, 2), 0);
    EXPECT_EQ(collect(net_pending(&loop), &count), 0);
    EXPECT_EQ(count, 3);
    EXPECT(results[0] == &b.frame && results[1] == &c.frame && results[2] == &a.frame);
    EXPECT_EQ(net_pending(&loop), 0);
    finish();
}

static void submit_c(struct job *my)
{
    if (my->resumed == 1)
        EXPECT_EQ(submit(&c, 3), 0);
}

/* LP-33 */
static void a_run_waits_for_what_was_submitted_meanwhile(void)
{
    for (int max = 1; max <= 2; max++) {
        int count;
        setup();
        sc.echo = true;
        prepare(&a, 1)->look = submit_c;
        EXPECT_EQ(net_submit(&loop, &a.frame, job_coro), 0);
        EXPECT_EQ(collect(max, &count), 0);
        EXPECT_EQ(count, max); /* save if there is no room for more */
        EXPECT(results[0] == &a.frame);
        EXPECT_EQ(net_pending(&loop), 2 - max);
        EXPECT_EQ(net_run(&loop), 0);
        EXPECT_EQ(c.resumed, 3);
        EXPECT_EQ(net_pending(&loop), 0);
        finish();
    }
}

/* LP-34 */
static void a_run_returns_results_and_the_fatal_error_together(void)
{
    int count;
    a_batch_that_turns_fatal(false);
    EXPECT_EQ(collect(3, &count), TAKT_ELIVETOKEN);
    EXPECT_EQ(count, 1);
    EXPECT(results[0] == &a.frame);
    EXPECT_EQ(sc.polls, 1);
    quarantined(2);
    setup();
    EXPECT_EQ(submit(&a, 1), 0);
    poll_gives(-EIO);
    EXPECT_EQ(collect(3, &count), -EIO);
    EXPECT_EQ(count, 0);
    quarantined(1);
}

/* LP-36, LP-37, LP-38 */
static void a_run_waits_in_the_backend_and_never_sleeps(void)
{
    const takt_ns before = TAKT_SEC;
    int count;
    setup();
    sc.echo = true;
    EXPECT_EQ(submit(&a, 60), 0);
    EXPECT_EQ(collect(1, &count), 0);
    EXPECT_EQ(count, 1);
    EXPECT_EQ(sc.polls, 60); /* one each, and none in vain */
    EXPECT_EQ(sc.now, before);
    submit_gives(NEXT, 0);
    and_ready(SAME, 0, TAKT_EWOULDBLOCK, 0);
    for (int i = 0; i < 50; i++)
        poll_gives(TAKT_EWOULDBLOCK); /* it could not wait as long as it was told */
    EXPECT_EQ(submit(&b, 1), 0);
    EXPECT_EQ(collect(1, &count), 0); /* and nobody gives up */
    EXPECT_EQ(count, 1);
    EXPECT_EQ(sc.polls, 60 + 50 + 2);
    for (int i = 0; i < sc.polls; i++)
        EXPECT(sc.waits[i] == TAKT_FOREVER);
    EXPECT_EQ(sc.now, before); /* nothing else has let time pass */
    finish();
}

/* LP-36: with a deadline it waits until then and no longer. */
static void a_wait_ends_with_the_next_deadline(void)
{
    static struct sleeper sleeper;
    setup();
    EXPECT(TAKT_START_ON(&loop, sleeper, sleeper, .how = 2));
    EXPECT_EQ(net_run(&loop), 0);
    EXPECT(sleeper.awake);
    EXPECT(sc.now >= 2 * TAKT_SEC && sc.now <= 2 * TAKT_SEC + TAKT_TICK);
    EXPECT(sc.polls <= 5);
    finish();
}

/* -- state, the end ---------------------------------------------------------------------- */

static int pending_inside;

static void look_at_pending(struct job *my)
{
    (void)my;
    pending_inside = net_pending(&loop);
}

/* LP-40 */
static void pending_counts_what_is_alive(void)
{
    setup();
    sc.echo = true;
    EXPECT_EQ(net_pending(&loop), 0);
    prepare(&a, 2)->look = look_at_pending;
    EXPECT_EQ(net_submit(&loop, &a.frame, job_coro), 0);
    EXPECT_EQ(net_pending(&loop), 1);
    EXPECT_EQ(submit(&b, 1), 0);
    EXPECT_EQ(net_pending(&loop), 2);
    expect_results(1, &b, NULL);
    EXPECT_EQ(pending_inside, 2); /* who looks is alive too */
    EXPECT_EQ(net_pending(&loop), 1);
    expect_results(1, &a, NULL);
    EXPECT_EQ(pending_inside, 1);
    EXPECT_EQ(net_pending(&loop), 0);
    EXPECT_EQ(submit(&a, 1), 0);
    poll_gives(-EIO);
    EXPECT_EQ(poll_once(), -EIO);
    EXPECT_EQ(net_pending(&loop), 0);
    quarantined(1);
}

/* The memory of completions, counted. */
static int acquires, releases;
static takt_completion slab[16];

static void *slab_acquire(void *user, size_t size, size_t *capacity)
{
    (void)user;
    (void)size;
    acquires++;
    *capacity = sizeof slab;
    return slab;
}

static int slab_release(void *user, void *memory, size_t capacity)
{
    (void)user;
    EXPECT(memory == slab);
    EXPECT_EQ(capacity, sizeof slab);
    releases++;
    return 0;
}

/* LP-43, LP-44, LP-45, LP-46, LP-47, CM-13 */
static void a_drain_gives_the_slab_back_once_whatever_came_before(void)
{
    for (int fatal = 0; fatal < 2; fatal++) {
        takt_memory memory = {slab_acquire, slab_release, NULL};
        net_config config = net_defaults();
        script_begin();
        memset(&frames, 0, sizeof frames);
        acquires = releases = 0;
        config.loop.memory = &memory;
        config.loop.completions = 16;
        EXPECT_EQ(net_init(&loop, &config), 0);
        EXPECT_EQ(submit(&a, 1), 0);
        EXPECT_EQ(submit(&b, 1), 0);
        if (fatal) {
            poll_gives(-EIO);
            EXPECT_EQ(poll_once(), -EIO);
        }
        EXPECT_EQ(acquires, 1);
        EXPECT_EQ(releases, 0);
        EXPECT_EQ(net_drain(&loop), fatal ? 0 : 2);
        EXPECT_EQ(releases, 1);
        EXPECT_EQ(net_drain(&loop), 0);
        EXPECT_EQ(net_failed(&loop), fatal ? -EIO : TAKT_EDISPOSED);
        EXPECT_EQ(submit(&c, 0), net_failed(&loop));
        EXPECT_EQ(poll_once(), net_failed(&loop));
        EXPECT_EQ(loop.sched.stats.discarded, 2);
        if (fatal)
            quarantined(2);
        else
            finish();
        EXPECT_EQ(acquires + releases, 2);
    }
}

/* LP-41 */
static void what_fails_during_a_drain_is_not_the_first_error(void)
{
    setup();
    EXPECT_EQ(submit(&a, 1), 0);
    poll_gives(-EIO);
    EXPECT_EQ(net_drain(&loop), 1);
    EXPECT_EQ(sc.polls, 2);
    EXPECT_EQ(net_failed(&loop), TAKT_EDISPOSED);
    EXPECT_EQ(a.discarded, 1);
    EXPECT_EQ(loop.sched.stats.discarded, 1);
    finish();
}

static void *from_another_thread(void *user)
{
    *(int *)user = submit(&b, 0);
    EXPECT_EQ(hooks.panics, 1);
    EXPECT(strstr(hooks.said, takt_strerror(TAKT_ETHREAD)));
    net_turn(&loop, 0, 0);
    EXPECT(hooks.panics > 1);
    return NULL;
}

/* LP-50 */
static void a_loop_has_one_owner(void)
{
    pthread_t thread;
    int rc = 0;
    setup();
    EXPECT_EQ(net_turn(&loop, 0, 0), 0);
    EXPECT_EQ(pthread_create(&thread, NULL, from_another_thread, &rc), 0);
    EXPECT_EQ(pthread_join(thread, NULL), 0);
    EXPECT_EQ(rc, TAKT_ETHREAD);
    EXPECT_EQ(b.begun, 0);
    hooks.panics = 0;
    EXPECT_EQ(submit(&b, 0), 1);
    finish();
}

static void call_back_in(struct job *my)
{
    int count;
    EXPECT_EQ(poll_once(), TAKT_EREENTER);
    EXPECT_EQ(collect(1, &count), TAKT_EREENTER);
    EXPECT_EQ(net_run(&loop), TAKT_EREENTER);
    EXPECT_EQ(net_turn(&loop, 0, 0), TAKT_EREENTER);
    EXPECT_EQ(net_drain(&loop), TAKT_EREENTER);
    EXPECT_EQ(net_free(&loop), TAKT_EREENTER);
    EXPECT_EQ(net_failed(&loop), 0);
    if (my->resumed == 1 && my != &c)
        EXPECT_EQ(submit(&c, 1), 0);
}

/* LP-51 */
static void from_inside_only_a_submit_is_served(void)
{
    setup();
    sc.echo = true;
    EXPECT_EQ(submit(&b, 1), 0); /* its result is there when a calls */
    prepare(&a, 1)->look = call_back_in;
    EXPECT_EQ(net_submit(&loop, &a.frame, job_coro), 0);
    expect_results(2, &b, &a);
    EXPECT(takt_alive(&c.frame));
    c.look = call_back_in;
    expect_results(1, &c, NULL);
    finish();
}

/* LP-52, LP-44, LP-42 */
static void a_drain_reaches_each_once(void)
{
    setup();
    for (int i = 0; i < 8; i++)
        EXPECT_EQ(submit(&many[i], 1 + i % 2), 0);
    EXPECT_EQ(net_drain(&loop), 8);
    for (int i = 0; i < 8; i++) {
        EXPECT_EQ(many[i].freed, 1);
        EXPECT_EQ(many[i].discarded, 1);
        EXPECT_EQ(many[i].resumed, 0);
    }
    EXPECT_EQ(frames.freed, 8);
    EXPECT_EQ(sc.cancels, 8);
    finish();
}

/* CO-10: the other ways, each with its count. */
static void a_discard_is_counted_once_whatever_the_way(void)
{
    static takt_drive drive;
    setup(); /* a refused first op */
    submit_gives(NEXT, -EIO);
    EXPECT_EQ(submit(&a, 1), -EIO);
    EXPECT_EQ(a.freed, 1);
    EXPECT_EQ(a.discarded, 0); /* it has failed: that is another end */
    EXPECT_EQ(submit(&b, 1), 0); /* drain */
    EXPECT_EQ(net_drain(&loop), 1);
    EXPECT_EQ(b.discarded, 1);
    EXPECT_EQ(b.freed, 1);
    EXPECT_EQ(loop.sched.stats.discarded, 1);
    finish();
    setup(); /* a fatal error, and then a drain */
    EXPECT_EQ(submit(&a, 1), 0);
    EXPECT_EQ(submit(&b, 1), 0);
    poll_gives(-EIO);
    EXPECT_EQ(poll_once(), -EIO);
    EXPECT_EQ(net_drain(&loop), 0);
    EXPECT_EQ(loop.sched.stats.discarded, 2);
    quarantined(2);
    setup(); /* a throw, without a loop */
    takt_drive_init(&drive, NULL);
    prepare(&a, 1)->error = -EPROTO;
    EXPECT_EQ(takt_step(&drive, &a.frame, job_coro), 0);
    EXPECT_EQ(takt_resume(&drive, drive.epoch, 1), 1);
    EXPECT_EQ(takt_error(&a.frame), -EPROTO);
    EXPECT_EQ(a.freed, 1);
    EXPECT(!takt_discard(&drive));
    EXPECT_EQ(a.freed, 1);
    finish();
}

/* ER-17, ER-12 */
static void a_throw_on_a_loop_is_nothing_for_the_backend(void)
{
    setup();
    sc.echo = true;
    sc.value = 1;
    EXPECT_EQ(submit(&b, 2), 0);
    prepare(&a, 1)->error = -EPROTO;
    EXPECT_EQ(net_submit(&loop, &a.frame, job_coro), 0);
    prepare(&c, 1)->error = -EPROTO;
    c.catches = true;
    EXPECT_EQ(net_submit(&loop, &c.frame, job_coro), 0);
    expect_results(2, &a, &c);
    EXPECT_EQ(takt_error(&a.frame), -EPROTO);
    EXPECT_EQ(c.caught, -EPROTO); /* any error, whatever its kind */
    EXPECT_EQ(takt_error(&c.frame), 0);
    EXPECT_EQ(sc.submits, 4); /* the awaits, and nothing else */
    expect_results(1, &b, NULL); /* the sibling has not noticed */
    EXPECT_EQ(b.sum, 2);
    finish();
}

/* LP-12, LP-32: the same, and what comes back is of the type that was submitted. */
static void a_loop_of_one_coroutine_has_typed_results(void)
{
    static jobs_only typed;
    jobs_only_config config = jobs_only_defaults();
    struct job *done[2] = {NULL, NULL};
    int count;
    script_begin();
    memset(&frames, 0, sizeof frames);
    sc.echo = true;
    sc.value = 5;
    EXPECT_EQ(jobs_only_init(&typed, &config), 0);
    EXPECT_EQ(jobs_only_submit(&typed, prepare(&a, 0)), 1);
    EXPECT_EQ(jobs_only_submit(&typed, prepare(&a, 1)), 0);
    EXPECT_EQ(jobs_only_submit(&typed, prepare(&b, 2)), 0);
    EXPECT_EQ(jobs_only_poll(&typed, done, 2), 1);
    EXPECT(done[0] == &a && done[0]->sum == 5);
    EXPECT_EQ(jobs_only_collect(&typed, done, 2, &count), 0);
    EXPECT(count == 1 && done[0] == &b && done[0]->sum == 10);
    EXPECT_EQ(jobs_only_free(&typed), 0);
    EXPECT_EQ(hooks.live, 0);
}

/* -- streams -------------------------------------------------------------------------------- */

static feed runner;
static feed_event *events;

static void setup_stream(void)
{
    feed_config config = feed_defaults();
    script_begin();
    sc.deaf = true; /* a test says when a request ends */
    EXPECT_EQ(feed_init(&runner, &config), 0);
}

static void finish_stream(void)
{
    feed_free(&runner);
    EXPECT_EQ(hooks.live, 0);
    EXPECT_EQ(hooks.asserts + hooks.panics, 0);
}

static takt_op request(void)
{
    takt_op op = takt_op_user(ECHO, NULL, 0);
    op.flags |= TAKT_OP_MULTI;
    return op;
}

static takt_token id(uint32_t token, uint32_t generation)
{
    return takt_token_make(generation, token);
}

/* Opens a route that the backend calls so. */
static takt_route open_route(uint32_t token, uint32_t generation)
{
    takt_route route;
    submit_gives(id(token, generation), 0);
    EXPECT_EQ(feed_subscribe(&runner, request(), &route), 0);
    EXPECT(route.token == token && route.generation == generation);
    return route;
}

static int poll_stream(void)
{
    return feed_poll(&runner, &events, 0);
}

static void expect_event(int at, takt_route route, int64_t value, int error, bool last)
{
    EXPECT(memcmp(&events[at].route, &route, sizeof route) == 0);
    EXPECT_EQ(events[at].value, value);
    EXPECT_EQ(events[at].error, error);
    EXPECT_EQ(events[at].last, last);
}

/* ST-1 */
static void a_route_is_a_token_and_a_generation(void)
{
    static const takt_route routes[] = {{7, 3}, {0, 0}, {0, 1}, {1, 0}};
    for (int i = 0; i < 4; i++)
        EXPECT_EQ(takt_route_is_zero(routes[i]), i == 1);
    setup_stream();
    for (int i = 0; i < 4; i++)
        if (i != 1)
            (void)open_route(routes[i].token, routes[i].generation);
    EXPECT_EQ(feed_pending(&runner), 3);
    finish_stream();
}

/* ST-2 */
static void a_subscription_has_the_backends_id(void)
{
    for (int offered = 0; offered < 2; offered++) {
        takt_route route;
        setup_stream();
        sc.offered = offered;
        if (!offered)
            submit_gives(id(5, 1), 0);
        EXPECT_EQ(feed_subscribe(&runner, request(), &route), 0);
        EXPECT_EQ(takt_token_make(route.generation, route.token), sc.tokens[0]);
        EXPECT(!takt_route_is_zero(route));
        EXPECT_EQ(feed_pending(&runner), 1);
        arrive(sc.tokens[0], 5, 0, TAKT_MORE);
        EXPECT_EQ(poll_stream(), 1);
        expect_event(0, route, 5, 0, false);
        finish_stream();
    }
}

/* ST-3 */
static void a_refused_subscription_costs_nothing(void)
{
    static const int errors[] = {-EIO, TAKT_EWOULDBLOCK, TAKT_EMORE};
    takt_route route;
    setup_stream();
    for (int i = 0; i < 3; i++) {
        submit_gives(id(4, 4), errors[i]);
        EXPECT_EQ(feed_subscribe(&runner, request(), &route), errors[i]);
        EXPECT(takt_route_is_zero(route));
        EXPECT_EQ(feed_pending(&runner), 0);
        EXPECT_EQ(feed_failed(&runner), 0);
    }
    (void)open_route(4, 4);
    EXPECT_EQ(feed_pending(&runner), 1);
    finish_stream();
}

/* ST-2 */
static void a_runner_has_room_for_so_many(void)
{
    feed_config config = feed_defaults();
    takt_route route;
    script_begin();
    config.routes = 2;
    EXPECT_EQ(feed_init(&runner, &config), 0);
    (void)open_route(1, 1);
    (void)open_route(2, 1);
    EXPECT_EQ(feed_subscribe(&runner, request(), &route), -ENOSPC);
    EXPECT_EQ(sc.submits, 2); /* nobody was asked */
    EXPECT_EQ(feed_pending(&runner), 2);
    EXPECT_EQ(feed_failed(&runner), 0);
    arrive(id(1, 1), 0, 0, 0);
    EXPECT_EQ(poll_stream(), 1);
    (void)open_route(3, 1);
    finish_stream();
}

/* ST-4, ST-5, ST-27 */
static void an_id_that_is_none_or_live_ends_the_runner(void)
{
    for (int live = 0; live < 2; live++) {
        const int fatal = live ? TAKT_ELIVEROUTE : TAKT_EBADROUTE;
        takt_route route;
        setup_stream();
        (void)open_route(1, 1);
        submit_gives(live ? id(1, 1) : 0, 0);
        EXPECT_EQ(feed_subscribe(&runner, request(), &route), fatal);
        EXPECT(takt_route_is_zero(route));
        EXPECT_EQ(sc.cancels, 1); /* the one that was there, once */
        EXPECT_EQ(sc.cancelled[0], id(1, 1));
        EXPECT_EQ(feed_pending(&runner), 0);
        EXPECT_EQ(feed_failed(&runner), fatal);
        EXPECT_EQ(poll_stream(), fatal);
        EXPECT_EQ(sc.polls, 0);
        EXPECT_EQ(feed_drain(&runner), 0);
        EXPECT_EQ(feed_failed(&runner), fatal); /* the first stands */
        EXPECT_EQ(sc.cancels, 1);
        finish_stream();
    }
}

/* ST-6 */
static void two_generations_of_a_token_are_two_routes(void)
{
    takt_route first, second;
    setup_stream();
    first = open_route(9, 1);
    second = open_route(9, 2);
    EXPECT_EQ(feed_pending(&runner), 2);
    arrive(id(9, 2), 22, 0, TAKT_MORE);
    arrive(id(9, 1), 11, 0, TAKT_MORE);
    arrive(id(9, 3), 33, 0, TAKT_MORE);
    EXPECT_EQ(poll_stream(), 2);
    expect_event(0, second, 22, 0, false);
    expect_event(1, first, 11, 0, false);
    arrive(id(9, 1), 1, 0, 0);
    EXPECT_EQ(poll_stream(), 1);
    expect_event(0, first, 1, 0, true);
    first = open_route(9, 3);
    arrive(id(9, 1), 1, 0, TAKT_MORE); /* of the one that has ended */
    arrive(id(9, 3), 3, 0, TAKT_MORE);
    EXPECT_EQ(poll_stream(), 1);
    expect_event(0, first, 3, 0, false);
    finish_stream();
}

/* ST-7, ST-8, ST-9, ST-11 */
static void more_keeps_the_route_whatever_came_with_it(void)
{
    takt_route route;
    setup_stream();
    route = open_route(1, 1);
    arrive(id(1, 1), 11, 0, TAKT_MORE);
    arrive(id(1, 1), 0, 0, TAKT_MORE | TAKT_NO_VALUE);
    arrive(id(1, 1), -1, -EIO, TAKT_MORE);
    arrive(id(1, 1), 5, 0, TAKT_MORE | TAKT_NO_VALUE);
    EXPECT_EQ(poll_stream(), 4);
    expect_event(0, route, 11, 0, false);
    EXPECT(events[0].has_value);
    expect_event(1, route, 0, 0, false);
    EXPECT(!events[1].has_value);
    expect_event(2, route, -1, -EIO, false);
    expect_event(3, route, 5, 0, false); /* as it is, though it is none */
    EXPECT(!events[3].has_value);
    EXPECT_EQ(feed_pending(&runner), 1);
    finish_stream();
}

/* ST-10 */
static void without_more_the_event_is_the_last(void)
{
    static const int errors[] = {0, -EIO, 0};
    for (int i = 0; i < 3; i++) {
        takt_route route;
        setup_stream();
        route = open_route(1, 1);
        arrive(id(1, 1), 15, errors[i], i == 2 ? TAKT_NO_VALUE : 0);
        EXPECT_EQ(poll_stream(), 1);
        expect_event(0, route, 15, errors[i], true);
        EXPECT_EQ(events[0].has_value, i == 0);
        EXPECT_EQ(feed_pending(&runner), 0);
        EXPECT_EQ(feed_failed(&runner), 0);
        EXPECT_EQ(feed_cancel(&runner, route), TAKT_EUNKNOWN);
        finish_stream();
    }
}

/* ST-12, ST-13, ST-17 */
static void what_belongs_to_no_open_route_is_passed_over(void)
{
    takt_route route;
    setup_stream();
    route = open_route(1, 1);
    arrive(0, 5, 0, TAKT_MORE);
    arrive(id(2, 1), 5, 0, 0);
    EXPECT_EQ(poll_stream(), 0);
    EXPECT(events == NULL);
    EXPECT_EQ(feed_pending(&runner), 1);
    arrive(id(1, 1), 5, 0, 0);
    EXPECT_EQ(poll_stream(), 1);
    arrive(id(1, 1), 99, 0, TAKT_MORE);
    EXPECT_EQ(poll_stream(), 0);
    EXPECT(events == NULL);
    EXPECT_EQ(feed_failed(&runner), 0);
    EXPECT_EQ(feed_cancel(&runner, route), TAKT_EUNKNOWN);
    finish_stream();
}

/* ST-14 */
static void what_comes_behind_the_last_event_of_a_batch_is_stale(void)
{
    takt_route route;
    setup_stream();
    route = open_route(1, 1);
    arrive(id(1, 1), 1, 0, TAKT_MORE);
    arrive(id(1, 1), 2, 0, TAKT_MORE);
    arrive(id(1, 1), 0, 0, 0);
    arrive(id(1, 1), 3, 0, TAKT_MORE);
    EXPECT_EQ(poll_stream(), 3);
    expect_event(0, route, 1, 0, false);
    expect_event(1, route, 2, 0, false);
    expect_event(2, route, 0, 0, true);
    finish_stream();
}

/* ST-15, ST-17 */
static void would_block_of_a_stream_poll_is_nothing(void)
{
    setup_stream();
    (void)open_route(1, 1);
    poll_gives(TAKT_EWOULDBLOCK);
    EXPECT_EQ(poll_stream(), 0);
    EXPECT(events == NULL);
    EXPECT_EQ(feed_pending(&runner), 1);
    EXPECT_EQ(feed_failed(&runner), 0);
    finish_stream();
}

/* ST-16, ST-31 */
static void a_failing_stream_poll_cancels_what_is_active(void)
{
    static const int errors[] = {-EIO, TAKT_EMORE};
    for (int i = 0; i < 2; i++) {
        setup_stream();
        (void)open_route(1, 1);
        EXPECT_EQ(feed_cancel(&runner, open_route(2, 1)), 0);
        (void)open_route(3, 1);
        arrive(id(1, 1), 1, 0, TAKT_MORE);
        poll_gives(errors[i]);
        EXPECT_EQ(poll_stream(), errors[i]);
        EXPECT(events == NULL);
        EXPECT_EQ(sc.cancels, 3);
        EXPECT_EQ(sc.cancelled[0], id(2, 1));
        EXPECT_EQ(sc.cancelled[1] + sc.cancelled[2], id(1, 1) + id(3, 1)); /* in any order */
        EXPECT(sc.cancelled[1] != sc.cancelled[2]);
        EXPECT_EQ(feed_pending(&runner), 0);
        EXPECT_EQ(feed_failed(&runner), errors[i]);
        EXPECT_EQ(poll_stream(), errors[i]);
        EXPECT_EQ(sc.polls, 1);
        finish_stream();
    }
}

/* ST-18 */
static void events_stand_in_the_runners_memory(void)
{
    feed_event *first;
    setup_stream();
    (void)open_route(1, 1);
    arrive(id(1, 1), 1, 0, TAKT_MORE);
    EXPECT_EQ(poll_stream(), 1);
    first = events;
    EXPECT_EQ(first->value, 1);
    arrive(id(1, 1), 2, 0, TAKT_MORE);
    EXPECT_EQ(poll_stream(), 1);
    EXPECT(events == first);
    EXPECT_EQ(first->value, 2);
    EXPECT_EQ(feed_drain(&runner), 1);
    EXPECT_EQ(first->value, 2); /* until it is freed */
    finish_stream();
}

/* ST-19, ST-20, ST-21 */
static void a_cancelled_route_lives_until_its_last_event(void)
{
    takt_route route;
    setup_stream();
    route = open_route(1, 1);
    EXPECT_EQ(feed_cancel(&runner, route), 0);
    EXPECT_EQ(sc.cancels, 1);
    EXPECT_EQ(sc.cancelled[0], id(1, 1));
    EXPECT_EQ(feed_pending(&runner), 1);
    EXPECT_EQ(feed_cancel(&runner, route), 0);
    EXPECT_EQ(sc.cancels, 1); /* no second call */
    arrive(id(1, 1), 5, 0, TAKT_MORE);
    EXPECT_EQ(poll_stream(), 1);
    expect_event(0, route, 5, 0, false);
    arrive(id(1, 1), 0, TAKT_ECANCELED, 0);
    EXPECT_EQ(poll_stream(), 1);
    expect_event(0, route, 0, TAKT_ECANCELED, true);
    EXPECT_EQ(feed_pending(&runner), 0);
    EXPECT_EQ(feed_failed(&runner), 0);
    finish_stream();
}

/* ST-22 */
static void to_cancel_what_is_not_there_is_an_error_and_no_more(void)
{
    const takt_route none = {0, 0}, never = {7, 7};
    takt_route route;
    setup_stream();
    route = open_route(1, 1);
    arrive(id(1, 1), 0, 0, 0);
    EXPECT_EQ(poll_stream(), 1);
    EXPECT_EQ(feed_cancel(&runner, none), TAKT_EUNKNOWN);
    EXPECT_EQ(feed_cancel(&runner, never), TAKT_EUNKNOWN);
    EXPECT_EQ(feed_cancel(&runner, route), TAKT_EUNKNOWN);
    EXPECT_EQ(sc.cancels, 0);
    EXPECT_EQ(feed_failed(&runner), 0);
    finish_stream();
}

static int pending_at_cancel[4];

static void look_at_routes(takt_op *op)
{
    (void)op;
    pending_at_cancel[sc.cancels - 1] = feed_pending(&runner);
}

/* ST-23, ST-24, ST-25, ST-26, ST-31 */
static void a_drained_runner_has_cancelled_and_forgotten_its_routes(void)
{
    const takt_route none = {0, 0};
    takt_route route;
    setup_stream();
    EXPECT_EQ(feed_cancel(&runner, open_route(2, 1)), 0);
    (void)open_route(1, 1);
    (void)open_route(0, 1);
    arrive(id(1, 1), 9, 0, 0);
    sc.on_cancel = look_at_routes;
    EXPECT_EQ(feed_drain(&runner), 3);
    EXPECT_EQ(sc.cancels, 3); /* one before, and those that were active */
    EXPECT_EQ(sc.cancelled[1] + sc.cancelled[2], id(1, 1) + id(0, 1));
    EXPECT(pending_at_cancel[1] > pending_at_cancel[2]); /* it is out before it is cancelled */
    EXPECT(pending_at_cancel[1] <= 2 && pending_at_cancel[2] <= 1);
    EXPECT_EQ(feed_pending(&runner), 0);
    EXPECT_EQ(feed_failed(&runner), TAKT_EDISPOSED);
    EXPECT_EQ(feed_drain(&runner), 0);
    EXPECT_EQ(sc.cancels, 3);
    EXPECT_EQ(poll_stream(), TAKT_EDISPOSED);
    EXPECT_EQ(feed_subscribe(&runner, request(), &route), TAKT_EDISPOSED);
    EXPECT_EQ(feed_cancel(&runner, none), TAKT_EDISPOSED); /* before "unknown" */
    EXPECT_EQ(sc.polls, 0); /* what has come meanwhile is not read */
    EXPECT_EQ(sc.submits, 3);
    finish_stream();
}

/* ST-28, ST-29, CM-22 */
static void the_backend_sees_as_many_places_as_were_asked_for(void)
{
    feed_config config = feed_defaults();
    setup_stream();
    EXPECT_EQ(poll_stream(), 0);
    EXPECT_EQ(sc.max, TAKT_DEFAULT_COMPLETIONS);
    finish_stream();
    config.events = 3;
    script_begin();
    EXPECT_EQ(feed_init(&runner, &config), 0);
    (void)open_route(1, 1);
    arrive(id(1, 1), 1, 0, TAKT_MORE);
    arrive(id(1, 1), 2, 0, TAKT_MORE);
    EXPECT_EQ(poll_stream(), 2);
    EXPECT_EQ(sc.max, 3);
    EXPECT_EQ(poll_stream(), 0); /* what still stands there is not read again */
    sc.lie = 4;
    EXPECT(poll_stream() < 0);
    EXPECT_EQ(hooks.asserts, 1);
    hooks.asserts = 0;
    finish_stream();
    config.events = 0;
    EXPECT_EQ(feed_init(&runner, &config), -EINVAL);
    EXPECT_EQ(hooks.live, 0);
}

/* OC-8 */
static void a_completion_stands_for_one_outcome(void)
{
    static const int errors[] = {0, -EIO, TAKT_EWOULDBLOCK, TAKT_EMORE};
    for (int i = 0; i < 16; i++) {
        takt_completion done;
        memset(&done, 0, sizeof done);
        done.error = errors[i % 4];
        done.flags = (i & 4 ? TAKT_MORE : 0) | (i & 8 ? TAKT_NO_VALUE : 0);
        EXPECT_EQ(takt_route_outcome(&done), i & 4              ? TAKT_OUTCOME_MORE
                                             : done.error       ? TAKT_OUTCOME_FAILURE
                                                                : TAKT_OUTCOME_OK);
    }
}

/* -- the select table ------------------------------------------------------------------------ */

enum { OK, WB, MORE, FAIL }; /* its columns */
static const int column[] = {0, TAKT_EWOULDBLOCK, TAKT_EMORE, -EIO};

/* OC-7: its rows for a loop. */
static void every_outcome_has_its_meaning_at_each_site_of_a_loop(void)
{
    static const int submitted[] = {0, TAKT_EWOULDBLOCK, TAKT_EMORE, -EIO};
    static const int polled[] = {1, TAKT_EWOULDBLOCK, TAKT_EMORE, 1};
    static const int completed[] = {1, TAKT_EWOULDBLOCK, TAKT_EMULTISHOT, 1};
    for (int o = OK; o <= FAIL; o++) {
        setup(); /* the first submit: an error is plain */
        submit_gives(NEXT, column[o]);
        EXPECT_EQ(submit(&a, 1), submitted[o]);
        EXPECT_EQ(takt_alive(&a.frame), o == OK);
        EXPECT_EQ(net_failed(&loop), 0);
        EXPECT_EQ(net_drain(&loop), o == OK);
        finish();
        for (int again = 0; again < 2; again++) { /* a further one: likewise, deviating */
            setup();
            submit_gives(NEXT, 0);
            and_ready(SAME, 0, again ? TAKT_EWOULDBLOCK : 0, 0);
            submit_gives(NEXT, column[o]);
            EXPECT_EQ(submit(&a, 2), 0);
            EXPECT_EQ(poll_once(), o != OK ? 1 : again ? TAKT_EWOULDBLOCK : 0);
            EXPECT_EQ(takt_error(&a.frame), column[o]);
            EXPECT_EQ(net_failed(&loop), 0);
            EXPECT_EQ(net_drain(&loop), o == OK);
            finish();
        }
        setup(); /* a poll */
        EXPECT_EQ(submit(&a, 1), 0);
        arrive(0, 1, 0, 0);
        poll_gives(column[o]);
        EXPECT_EQ(poll_once(), o == FAIL ? -EIO : polled[o]);
        EXPECT_EQ(net_failed(&loop), o == MORE || o == FAIL ? column[o] : 0);
        setup(); /* a completion */
        EXPECT_EQ(submit(&a, 1), 0);
        arrive(0, 7, column[o], 0);
        EXPECT_EQ(poll_once(), completed[o]);
        EXPECT_EQ(net_failed(&loop), o == MORE ? TAKT_EMULTISHOT : 0);
        EXPECT_EQ(a.resumed, o == OK);
        EXPECT_EQ(takt_error(&a.frame), o == FAIL ? -EIO : 0); /* deviating: it is told */
        EXPECT_EQ(sc.submits, o == WB ? 2 : 1);
    }
}

/* OC-7: its rows for a stream runner. */
static void every_outcome_has_its_meaning_at_each_site_of_a_stream(void)
{
    for (int o = OK; o <= FAIL; o++) {
        takt_route route;
        setup_stream(); /* subscribe */
        submit_gives(id(1, 1), column[o]);
        EXPECT_EQ(feed_subscribe(&runner, request(), &route), column[o]);
        EXPECT_EQ(feed_pending(&runner), o == OK);
        EXPECT_EQ(feed_failed(&runner), 0);
        finish_stream();
        setup_stream(); /* poll */
        route = open_route(1, 1);
        arrive(id(1, 1), 1, 0, TAKT_MORE);
        poll_gives(column[o]);
        EXPECT_EQ(poll_stream(), o == OK ? 1 : o == WB ? 0 : column[o]);
        EXPECT_EQ(feed_failed(&runner), o == MORE || o == FAIL ? column[o] : 0);
        finish_stream();
        for (uint32_t more = 0; more < 2; more++) { /* the error of an event: not interpreted */
            setup_stream();
            route = open_route(1, 1);
            arrive(id(1, 1), 1, column[o], more ? TAKT_MORE : 0);
            EXPECT_EQ(poll_stream(), 1);
            expect_event(0, route, 1, column[o], !more);
            EXPECT_EQ(feed_pending(&runner), more);
            EXPECT_EQ(feed_failed(&runner), 0);
            EXPECT_EQ(sc.submits, 1);
            if (more) /* cancel cannot fail */
                EXPECT_EQ(feed_cancel(&runner, route), 0);
            EXPECT_EQ(feed_drain(&runner), more);
            EXPECT_EQ(sc.cancels, more);
            finish_stream();
        }
    }
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        TEST(a_refused_op_leaves_no_token_behind),
        TEST(zero_is_a_token_and_an_idle_loop_is_polled),
        TEST(a_token_is_free_before_its_frame_goes_on),
        TEST(what_does_not_fit_comes_with_the_next_poll),
        TEST(more_completions_than_asked_for_are_a_trap),
        TEST(the_error_of_a_failure_reaches_the_coroutine),
        TEST(a_submit_never_completes_what_it_begins),
        TEST(a_slot_that_was_not_reported_is_not_read),
        TEST(a_fatal_error_calls_nobody_and_a_drain_asks_for_the_end),
        TEST(what_the_backend_does_in_submit_does_not_reach_the_batch),
        TEST(what_awaits_nothing_is_done_at_once),
        TEST(a_refused_first_op_costs_that_frame_alone),
        TEST(a_token_that_is_live_ends_the_loop),
        TEST(an_offered_token_that_is_live_is_no_other),
        TEST(a_loop_that_is_over_runs_nothing),
        TEST(each_completion_ends_one_of_many),
        TEST(four_answers_of_a_poll_are_told_apart),
        TEST(would_block_submits_the_same_op_again),
        TEST(a_refused_further_op_is_thrown_and_the_loop_lives_on),
        TEST(more_to_come_of_one_op_ends_the_loop),
        TEST(a_token_that_is_nobodys_is_passed_over),
        TEST(a_live_token_for_the_next_op_ends_the_loop),
        TEST(results_come_before_the_fatal_error_of_their_batch),
        TEST(nobody_goes_on_after_a_fatal_error),
        TEST(a_loop_that_turned_fatal_is_not_polled),
        TEST(a_failing_poll_is_the_same_error_for_ever),
        TEST(would_block_of_a_poll_is_an_idle_turn),
        TEST(results_stand_in_the_callers_array),
        TEST(results_have_the_order_of_their_completions),
        TEST(a_run_with_nothing_to_do_asks_nobody),
        TEST(a_run_returns_what_was_pending_in_order_of_arrival),
        TEST(a_run_waits_for_what_was_submitted_meanwhile),
        TEST(a_run_returns_results_and_the_fatal_error_together),
        TEST(a_run_waits_in_the_backend_and_never_sleeps),
        TEST(a_wait_ends_with_the_next_deadline),
        TEST(pending_counts_what_is_alive),
        TEST(a_drain_gives_the_slab_back_once_whatever_came_before),
        TEST(what_fails_during_a_drain_is_not_the_first_error),
        TEST(a_loop_has_one_owner),
        TEST(from_inside_only_a_submit_is_served),
        TEST(a_drain_reaches_each_once),
        TEST(a_discard_is_counted_once_whatever_the_way),
        TEST(a_throw_on_a_loop_is_nothing_for_the_backend),
        TEST(a_loop_of_one_coroutine_has_typed_results),
        TEST(a_route_is_a_token_and_a_generation),
        TEST(a_subscription_has_the_backends_id),
        TEST(a_refused_subscription_costs_nothing),
        TEST(a_runner_has_room_for_so_many),
        TEST(an_id_that_is_none_or_live_ends_the_runner),
        TEST(two_generations_of_a_token_are_two_routes),
        TEST(more_keeps_the_route_whatever_came_with_it),
        TEST(without_more_the_event_is_the_last),
        TEST(what_belongs_to_no_open_route_is_passed_over),
        TEST(what_comes_behind_the_last_event_of_a_batch_is_stale),
        TEST(would_block_of_a_stream_poll_is_nothing),
        TEST(a_failing_stream_poll_cancels_what_is_active),
        TEST(events_stand_in_the_runners_memory),
        TEST(a_cancelled_route_lives_until_its_last_event),
        TEST(to_cancel_what_is_not_there_is_an_error_and_no_more),
        TEST(a_drained_runner_has_cancelled_and_forgotten_its_routes),
        TEST(the_backend_sees_as_many_places_as_were_asked_for),
        TEST(a_completion_stands_for_one_outcome),
        TEST(every_outcome_has_its_meaning_at_each_site_of_a_loop),
        TEST(every_outcome_has_its_meaning_at_each_site_of_a_stream),
    };
    return RUN_TESTS(argc, argv, tests);
}

/*
 * gaps_script.c - what test/mutants.py found that no test looked at, on the scripted backend
 */
#include "script.h"

TAKT_LOOP(net, script);
static net loop;

static void setup_with(void (*change)(net_config *config))
{
    net_config config;
    script_begin();
    config = net_defaults();
    if (change)
        change(&config);
    EXPECT_EQ(net_init(&loop, &config), 0);
}

static void finish(void)
{
    EXPECT_EQ(loop.sched.strands_used, 0);
    EXPECT_EQ(loop.sched.wheel.count, 0);
    EXPECT_EQ(net_free(&loop), 0);
    EXPECT_EQ(hooks.asserts, 0);
}

/* Runs until `frame` has ended, or nothing would ever happen again. */
static void drive(const takt_frame *frame)
{
    for (int turns = 0; turns < 1000 && takt_alive(frame) && !net_failed(&loop); turns++)
        net_turn(&loop, TAKT_SEC, 0);
    EXPECT(!takt_alive(frame));
}

/* -- a limit of silence ----------------------------------------------------------- */

struct patient {
    takt_frame frame;
    takt_idle idle;
    int i;
    takt_ns ended;
};

static TAKT_CORO(patient)
{
    TAKT_BEGIN(patient, my);
    takt_idle_start(&my->frame, &my->idle, 100 * TAKT_MS);
    for (my->i = 0; my->i < 5; my->i++) {
        TAKT_AWAIT(takt_sleep(80 * TAKT_MS));
        takt_idle_touch(&my->idle);
    }
    note("5");
    TAKT_AWAIT(takt_sleep(TAKT_SEC));
    note("never");
    TAKT_CATCH { my->ended = takt_now(&my->frame) - TAKT_SEC; }
    TAKT_END;
}

static void a_limit_of_silence_counts_from_the_last_touch(void)
{
    static struct patient patient;
    setup_with(NULL);
    EXPECT(TAKT_START_ON(&loop, patient, patient));
    drive(&patient.frame);
    EXPECT_TRACE("5");
    EXPECT(patient.ended >= 500 * TAKT_MS && patient.ended < 510 * TAKT_MS);
    finish();
}

/* -- children that fail ----------------------------------------------------------- */

struct fails {
    takt_frame frame;
};

static TAKT_CORO(fails)
{
    TAKT_BEGIN(fails, my);
    TAKT_AWAIT(takt_sleep(TAKT_MS));
    TAKT_THROW(-EIO);
    TAKT_END;
}

struct busy {
    takt_frame frame;
    struct fails child;
    takt_ns ended;
};

static TAKT_CORO(busy)
{
    TAKT_BEGIN(busy, my);
    TAKT_START(my->child, fails);
    TAKT_AWAIT(takt_sleep(TAKT_SEC)); /* not a join: the failure interrupts all the same */
    note("never");
    TAKT_CATCH
    {
        EXPECT_EQ(my->frame.error, -EIO);
        my->ended = takt_now(&my->frame) - TAKT_SEC;
    }
    TAKT_END;
}

static void the_failure_of_a_child_interrupts_whatever_is_awaited(void)
{
    static struct busy busy;
    setup_with(NULL);
    EXPECT(TAKT_START_ON(&loop, busy, busy));
    drive(&busy.frame);
    EXPECT_TRACE("");
    EXPECT(busy.ended > 0 && busy.ended < 10 * TAKT_MS);
    finish();
}

/* -- an idle loop, a stopping loop, a loop inside itself -------------------------- */

struct yielder {
    takt_frame frame;
    int rc;
};

static TAKT_CORO(yielder)
{
    TAKT_BEGIN(yielder, my);
    my->rc = net_run(&loop);
    TAKT_YIELD;
    note("y");
    takt_stop(takt_sched_of(&my->frame), TAKT_SEC);
    if (!TAKT_SPAWN(fails))
        note("refused");
    TAKT_END;
}

static void with_pools(net_config *config)
{
    TAKT_POOL(*config, yielder, 2);
    TAKT_POOL(*config, fails, 2);
}

/* Who has yielded goes on in the next turn: a host that sleeps until then must not sleep. */
static void who_has_yielded_is_due_at_once(void)
{
    static struct yielder yielder;
    setup_with(with_pools);
    EXPECT(TAKT_START_ON(&loop, yielder, yielder));
    EXPECT(net_turn(&loop, 0, 0) > 0);
    EXPECT_TRACE("");
    EXPECT_EQ(net_deadline(&loop), 0);
    EXPECT(net_turn(&loop, 0, 0) > 0);
    EXPECT_TRACE("yrefused"); /* nor does a loop that stops spawn */
    EXPECT_EQ(yielder.rc, TAKT_EREENTER);
    EXPECT_EQ(loop.sched.stats.spawned, 1);
    EXPECT_EQ(loop.sched.stats.refused, 1);
    finish();
}

/* -- streams ---------------------------------------------------------------------- */

struct taker {
    takt_frame frame;
    takt_ns pause; /* in: after the first item */
    takt_stream stream;
    takt_item item;
    takt_op op; /* in */
    int count;  /* in: of items to take; 0: to the end */
    int taken;
    takt_ns times[8];
};

static TAKT_CORO(taker)
{
    TAKT_BEGIN(taker, my);
    TAKT_OPEN(my->stream, my->op);
    for (;;) {
        TAKT_NEXT(my->item, my->stream);
        if (my->item.end)
            break;
        my->times[my->taken & 7] = takt_now(&my->frame) - TAKT_SEC;
        if (++my->taken == my->count)
            TAKT_RETURN;
        if (my->pause && my->taken == 1)
            TAKT_AWAIT(takt_sleep(my->pause));
    }
    note("end");
    TAKT_CATCH
    {
        EXPECT_EQ(my->frame.error, -EIO);
        note("e");
        TAKT_NEXT(my->item, my->stream); /* it was told: now it is over */
        note(my->item.end ? "end" : "?");
    }
    TAKT_END;
}

static void a_clock_that_was_late_is_on_time_again(void)
{
    static struct taker taker;
    setup_with(NULL);
    EXPECT(TAKT_START_ON(&loop, taker, taker, .op = takt_every(10 * TAKT_MS), .count = 3));
    while (taker.taken < 1)
        net_turn(&loop, TAKT_SEC, 0);
    sc.now = TAKT_SEC + 26 * TAKT_MS; /* somebody else had the thread */
    drive(&taker.frame);
    EXPECT_EQ(taker.item.value, 1);
    EXPECT(taker.times[1] >= 26 * TAKT_MS);
    EXPECT(taker.times[2] >= 30 * TAKT_MS && taker.times[2] < 31 * TAKT_MS);
    finish();
}

static void the_error_of_a_stream_is_told_once(void)
{
    static struct taker taker;
    setup_with(NULL);
    submit_gives(NEXT, 0);
    and_ready(SAME, 1, 0, TAKT_MORE);
    and_ready(SAME, 0, -EIO, 0);
    EXPECT(TAKT_START_ON(&loop, taker, taker, .op = takt_ready_multishot(0, TAKT_READABLE)));
    drive(&taker.frame);
    EXPECT_TRACE("eend");
    EXPECT_EQ(taker.taken, 1);
    finish();
}

static void with_three_items(net_config *config)
{
    config->loop.items = 3;
}

/* config.items of all streams together, and not one less; beyond, they are dropped. */
static void a_table_of_three_items_holds_three(void)
{
    static struct taker taker;
    setup_with(with_three_items);
    submit_gives(NEXT, 0);
    for (int i = 0; i < 4; i++)
        and_ready(SAME, i, 0, i < 3 ? TAKT_MORE : 0);
    EXPECT(TAKT_START_ON(&loop, taker, taker, .op = takt_accept_multishot(0), .pause = TAKT_MS));
    drive(&taker.frame);
    EXPECT_TRACE("end");
    EXPECT_EQ(taker.taken, 3);
    finish();
}

/* As many as .limit says may stand in line: then, and not after one more, it is stopped. */
static void a_stream_is_stopped_at_its_limit(void)
{
    static struct taker taker;
    takt_token token;
    setup_with(NULL);
    EXPECT(TAKT_START_ON(&loop, taker, taker, .op = takt_ready_multishot(0, TAKT_READABLE),
                         .stream.limit = 2, .pause = TAKT_MS, .count = 4));
    net_turn(&loop, 0, 0);
    EXPECT_EQ(sc.live_count, 1);
    token = sc.tokens[0];
    arrive(token, 1, 0, TAKT_MORE);
    net_turn(&loop, 0, 0); /* taken, and busy with it */
    EXPECT_EQ(taker.taken, 1);
    arrive(token, 2, 0, TAKT_MORE);
    net_turn(&loop, 0, 0);
    EXPECT_EQ(sc.cancels, 0);
    arrive(token, 3, 0, TAKT_MORE);
    net_turn(&loop, 0, 0);
    EXPECT_EQ(sc.cancels, 1);
    EXPECT_EQ(taker.stream.count, 2);
    takt_cancel(&taker.frame);
    drive(&taker.frame);
    finish();
}

/* -- drain, orphans --------------------------------------------------------------- */

struct waiter {
    takt_frame frame;
    int kind; /* in */
    takt_event event;
    struct fails child;
};

static TAKT_CORO(waiter)
{
    TAKT_BEGIN(waiter, my);
    TAKT_DEFER { note("~"); }
    if (my->kind == 0)
        TAKT_AWAIT(takt_sleep(TAKT_SEC));
    else if (my->kind == 1)
        TAKT_AWAIT(takt_event_wait(&my->event));
    else if (my->kind == 2)
        TAKT_AWAIT(takt_nop());
    TAKT_DEFER
    {
        TAKT_AWAIT(takt_sleep(TAKT_SEC)); /* shielded from orders, not from a drain */
        note("never");
    }
    TAKT_END;
}

static void a_drain_ends_what_is_shielded_from_orders(void)
{
    static struct waiter waiters[4];
    setup_with(NULL);
    for (int i = 0; i < 4; i++)
        EXPECT(TAKT_START_ON(&loop, waiters[i], waiter, .kind = i));
    net_turn(&loop, 0, 0);
    EXPECT_EQ(net_pending(&loop), 4);
    EXPECT_EQ(net_drain(&loop), 4);
    for (int i = 0; i < 4; i++)
        EXPECT(!takt_alive(&waiters[i].frame));
    EXPECT_TRACE("~~~~");
    finish();
}

/* A descriptor comes for somebody who is gone: it is closed, and counted. */
static void a_descriptor_that_nobody_waits_for_is_closed(void)
{
    static struct waiter waiter;
    takt_token token;
    setup_with(NULL);
    EXPECT(TAKT_START_ON(&loop, waiter, waiter, .kind = 2));
    net_turn(&loop, 0, 0);
    token = sc.tokens[0];
    takt_cancel(&waiter.frame);
    drive(&waiter.frame);
    EXPECT_EQ(sc.calls, 0);
    arrive(token, 7, 0, TAKT_FD);
    net_turn(&loop, 0, 0);
    EXPECT_EQ(sc.calls, 1);
    EXPECT_EQ(loop.sched.stats.orphans, 1);
    EXPECT_EQ(loop.sched.stats.stale, 1);
    finish();
}

struct limited {
    takt_frame frame;
    int64_t result;
};

static TAKT_CORO(limited)
{
    TAKT_BEGIN(limited, my);
    TAKT_TRY_AWAIT(my->result, takt_within(10 * TAKT_MS, takt_nop()));
    note(my->result == 42 ? "42" : "?");
    TAKT_AWAIT(takt_sleep(TAKT_MS));
    note("on");
    TAKT_END;
}

/* The limit has passed, or an order has come, and the backend was asked to end the op; but what
 * it ends with is a result: that is delivered. An order then takes the next await. */
static void what_arrives_after_an_end_was_asked_for_is_delivered(void)
{
    static struct limited limited;
    for (int ordered = 0; ordered < 2; ordered++) {
        setup_with(NULL);
        test_trace[0] = '\0';
        sc.deaf = true;
        EXPECT(TAKT_START_ON(&loop, limited, limited));
        net_turn(&loop, 0, 0);
        if (ordered)
            takt_cancel(&limited.frame);
        while (sc.cancels == 0)
            net_turn(&loop, TAKT_SEC, 0);
        EXPECT_TRACE("");
        arrive(sc.tokens[0], 42, 0, 0);
        drive(&limited.frame);
        EXPECT_TRACE(ordered ? "42" : "42on");
        EXPECT_EQ(takt_error(&limited.frame), ordered ? TAKT_ECANCELED : 0);
        finish();
    }
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        TEST(a_limit_of_silence_counts_from_the_last_touch),
        TEST(the_failure_of_a_child_interrupts_whatever_is_awaited),
        TEST(who_has_yielded_is_due_at_once),
        TEST(a_clock_that_was_late_is_on_time_again),
        TEST(the_error_of_a_stream_is_told_once),
        TEST(a_table_of_three_items_holds_three),
        TEST(a_stream_is_stopped_at_its_limit),
        TEST(a_drain_ends_what_is_shielded_from_orders),
        TEST(a_descriptor_that_nobody_waits_for_is_closed),
        TEST(what_arrives_after_an_end_was_asked_for_is_delivered),
    };
    return RUN_TESTS(argc, argv, tests);
}

/*
 * await.c - what becomes of one op: refused, begun too early, answered by nobody, late
 */
#include "script.h"

TAKT_LOOP(net, script);
static net loop;

/* Awaits the ops of a list, one after the other, and keeps what they end with. */
struct asker {
    takt_frame frame;
    takt_op ops[4];
    int count;
    int64_t got[4];
    bool closes; /* in its defer: 5, and what is none */
    int64_t closed[2];
    int i;
};

static TAKT_CORO(asker)
{
    TAKT_BEGIN(asker, my);
    TAKT_DEFER
    {
        if (my->closes) {
            TAKT_TRY_AWAIT(my->closed[0], takt_close(5));
            TAKT_TRY_AWAIT(my->closed[1], takt_close(-1));
        }
        note("~");
    }
    for (my->i = 0; my->i < my->count; my->i++)
        TAKT_TRY_AWAIT(my->got[my->i], my->ops[my->i]);
    note("!");
    TAKT_END;
}

static struct asker a, b;

static void setup_with(net_config *config)
{
    script_begin();
    memset((void *)&a, 0, sizeof a);
    memset((void *)&b, 0, sizeof b);
    config->loop.strands = 4;
    EXPECT_EQ(net_init(&loop, config), 0);
}

static void setup(void)
{
    net_config config = net_defaults();
    setup_with(&config);
}

static void finish(void)
{
    EXPECT_EQ(loop.sched.strands_used, 0);
    EXPECT_EQ(net_free(&loop), 0);
    EXPECT_EQ(hooks.live, 0);
    EXPECT_EQ(hooks.asserts + hooks.panics, 0);
}

static void turn(void)
{
    EXPECT(net_turn(&loop, 0, 0) >= 0);
}

/* Starts `who` with `op`, on a submit that gives `token`. */
static void ask(struct asker *who, takt_op op, takt_token token)
{
    submit_gives(token, 0);
    who->ops[0] = op;
    who->count = 1;
    EXPECT_EQ(net_submit(&loop, &who->frame, asker_coro), 0);
}

/* -- what never gets to the backend ------------------------------------------------ */

static void an_op_that_says_nothing_is_invalid(void)
{
    setup();
    a.count = 1; /* all zero */
    EXPECT_EQ(net_submit(&loop, &a.frame, asker_coro), 1);
    EXPECT_EQ(a.got[0], -EINVAL);
    EXPECT_EQ(sc.submits, 0);
    finish();
}

/* Nobody but a stream could take what comes after the first: it costs one coroutine, and not
 * the loop. */
static void an_op_of_streams_is_no_op_to_await(void)
{
    static takt_bufs pool;
    const takt_op ops[] = {takt_accept_multishot(3), takt_recv_multishot(3, &pool),
                           takt_recvmsg_multishot(3, &pool), takt_every(TAKT_MS)};
    for (int i = 0; i < 8; i++) {
        setup();
        a.count = 2;
        a.ops[0] = i < 4 ? ops[i] : takt_within(TAKT_SEC, ops[i - 4]);
        EXPECT_EQ(net_submit(&loop, &a.frame, asker_coro), 1);
        EXPECT_EQ(a.got[0], -EINVAL);
        EXPECT_EQ(sc.submits, 0);
        finish();
    }
}

/* Keeps an address of its own stack in an op. */
struct careless {
    takt_frame frame;
    int mode;
    int64_t got;
    char buf[8];
    takt_op ops[1];
    takt_channel channel;
};

enum { RECEIVES, RECEIVES_IN_A_BATCH, ACCEPTS, WAITS, CARELESS_MODES };

static TAKT_CORO(careless)
{
    TAKT_BEGIN(careless, my);
    if (my->mode == WAITS) {
        takt_event here;
        memset(&here, 0, sizeof here);
        my->ops[0] = takt_event_wait(&here);
    } else {
        takt_addr here;
        my->ops[0] = my->mode == ACCEPTS ? takt_accept(3, &here)
                                         : takt_recvfrom(3, my->buf, sizeof my->buf, &here);
    }
    if (my->mode == RECEIVES_IN_A_BATCH) {
        TAKT_AWAIT_ALL(my->ops, 1);
        TAKT_THROW((int)my->ops[0].result);
    }
    TAKT_AWAIT(my->ops[0]);
    note("never");
    TAKT_CATCH { my->got = my->frame.error; }
    TAKT_END;
}

static void an_address_on_the_stack_is_refused_with_its_place(void)
{
    static struct careless it;
    for (int mode = 0; mode < CARELESS_MODES; mode++) {
        setup();
        EXPECT(TAKT_START_ON(&loop, it, careless, .mode = mode));
        turn();
        turn();
        EXPECT_EQ(it.got, TAKT_ESTACK);
        EXPECT(strstr(hooks.said, "await.c:") && strstr(hooks.said, "careless: "));
        EXPECT(strstr(hooks.said, "C stack"));
        EXPECT_EQ(sc.submits, 0);
        finish();
    }
    EXPECT_TRACE("");
}

/* -- too early ------------------------------------------------------------------------ */

static void what_was_too_early_is_submitted_once_more(void)
{
    setup();
    ask(&a, takt_nop(), 7);
    submit_gives(8, 0);
    arrive(7, 0, TAKT_EWOULDBLOCK, 0);
    turn();
    EXPECT_EQ(sc.submits, 2);
    EXPECT(takt_alive(&a.frame));
    arrive(8, 5, 0, 0);
    turn();
    EXPECT_EQ(a.got[0], 5);
    finish();
}

static void what_was_too_early_and_is_cancelled_is_not(void)
{
    setup();
    sc.deaf = true;
    ask(&a, takt_nop(), 7);
    takt_cancel(&a.frame);
    EXPECT_EQ(sc.cancels, 1);
    arrive(7, 0, TAKT_EWOULDBLOCK, 0);
    turn();
    EXPECT_EQ(sc.submits, 1);
    EXPECT_EQ(takt_error(&a.frame), TAKT_ECANCELED);
    EXPECT_TRACE("~");
    finish();
}

/* -- what a dump tells of it ------------------------------------------------------------- */

static char told_of[200]; /* the line of the coroutine that is looked for */

static void print(void *user, const char *line)
{
    if (strstr(line, (const char *)user))
        snprintf(told_of, sizeof told_of, "%s", line);
}

static const char *line_of(const char *name)
{
    told_of[0] = '\0';
    takt_dump_to(&loop.sched, print, (void *)(uintptr_t)name);
    return told_of;
}

struct failing {
    takt_frame frame;
};

static TAKT_CORO(failing)
{
    TAKT_BEGIN(failing, my);
    TAKT_THROW(-EPROTO);
    TAKT_END;
}

struct boss {
    takt_frame frame;
    struct failing child;
    int error;
};

static TAKT_CORO(boss)
{
    TAKT_BEGIN(boss, my);
    TAKT_START(my->child, failing);
    TAKT_AWAIT(takt_nop());
    TAKT_CATCH { my->error = my->frame.error; }
    TAKT_END;
}

static void what_was_told_to_stop_says_so_until_it_is_answered(void)
{
    static struct boss it;
    setup();
    sc.deaf = true;
    ask(&a, takt_within(TAKT_SEC, takt_nop()), 7);
    EXPECT(strstr(line_of("asker"), " ms left"));
    sc.now += 2 * TAKT_SEC;
    turn();
    EXPECT_EQ(sc.cancels, 1);
    EXPECT(strstr(line_of("asker"), ", its limit has passed"));
    arrive(7, 0, TAKT_ECANCELED, 0);
    turn();
    EXPECT_EQ(a.got[0], -ETIMEDOUT);

    submit_gives(8, 0);
    EXPECT(TAKT_START_ON(&loop, it, boss));
    turn();
    EXPECT_EQ(sc.cancels, 2);
    EXPECT(strstr(line_of("boss"), "awaits nop, being stopped, interrupted, error -"));
    arrive(8, 0, TAKT_ECANCELED, 0);
    turn();
    EXPECT_EQ(it.error, -EPROTO);
    finish();
}

/* -- nobody's --------------------------------------------------------------------------- */

static int told;
static takt_completion last_orphan;

static void on_orphan(void *user, const takt_completion *completion)
{
    EXPECT(user == &told);
    told++;
    last_orphan = *completion;
}

static void what_nobody_waits_for_is_told_or_closed(void)
{
    char payload = 0;
    for (int hook = 0; hook < 2; hook++) {
        net_config config = net_defaults();
        told = 0;
        if (hook) {
            config.loop.on_orphan = on_orphan;
            config.loop.user = &told;
        }
        setup_with(&config);
        arrive(1, 0, 0, 0);
        turn();
        EXPECT_EQ(loop.sched.stats.stale, 1); /* it brings nothing */
        EXPECT_EQ(loop.sched.stats.orphans, 0);
        EXPECT_EQ(told, 0);
        arrive(1, 9, 0, TAKT_FD);
        turn();
        EXPECT_EQ(told, hook);
        EXPECT_EQ(sc.calls, !hook); /* a close */
        EXPECT(!hook || (last_orphan.value == 9 && last_orphan.flags & TAKT_FD));
        arrive(1, -1, 0, TAKT_FD); /* none after all */
        turn();
        EXPECT_EQ(sc.calls, !hook);
        arrive(1, 4, 0, 0);
        sc.ready[0].payload = &payload;
        turn();
        EXPECT_EQ(told, hook ? 3 : 0);
        EXPECT(!hook || last_orphan.payload == &payload);
        EXPECT_EQ(loop.sched.stats.orphans, 3);
        EXPECT_EQ(loop.sched.stats.stale, 4);
        finish();
    }
}

/* -- one op, many completions -------------------------------------------------------------- */

static void a_plain_op_that_promises_more_ends_the_loop(void)
{
    setup();
    ask(&a, takt_nop(), 7);
    arrive(7, 1, 0, TAKT_MORE);
    EXPECT_EQ(net_turn(&loop, 0, 0), TAKT_EMULTISHOT);
    EXPECT(takt_alive(&a.frame));
    EXPECT_EQ(net_free(&loop), -EBUSY); /* it never came back */
}

/* -- tokens of the backend's ------------------------------------------------------------ */

/* What the loop would have called the op of `f`. */
static takt_token own(const takt_frame *f)
{
    return takt_token_of(&f->strand->slot.op);
}

/* Only what stands for an op in flight is taken. */
static void a_token_may_look_like_one_that_nobody_uses(void)
{
    setup();
    sc.offered = true;
    ask(&a, takt_nop(), 7);             /* known as 7, and not as what was offered */
    ask(&b, takt_nop(), own(&a.frame)); /* so that is free */
    arrive(own(&a.frame), 2, 0, 0);
    turn();
    EXPECT_EQ(b.got[0], 2);
    EXPECT(takt_alive(&a.frame));
    arrive(7, 1, 0, 0);
    turn();
    EXPECT_EQ(a.got[0], 1);
    finish();
}

static void a_token_of_an_op_in_flight_ends_the_loop(void)
{
    setup();
    sc.offered = true;
    ask(&a, takt_nop(), NEXT);
    submit_gives(own(&a.frame), 0);
    b.ops[0] = takt_nop();
    b.count = 1;
    EXPECT_EQ(net_submit(&loop, &b.frame, asker_coro), TAKT_ELIVETOKEN);
    EXPECT_EQ(net_failed(&loop), TAKT_ELIVETOKEN);
    EXPECT_EQ(net_free(&loop), -EBUSY);
}

/* Takes items until the end. */
struct taker {
    takt_frame frame;
    takt_stream stream;
    takt_item item;
    int64_t sum;
};

static TAKT_CORO(taker)
{
    TAKT_BEGIN(taker, my);
    TAKT_OPEN(my->stream, takt_ready_multishot(3, 1));
    for (;;) {
        TAKT_NEXT(my->item, my->stream);
        if (my->item.end)
            break;
        my->sum += my->item.value;
    }
    note("e");
    TAKT_END;
}

static void a_token_of_a_request_that_lives_ends_the_loop(void)
{
    static struct taker t;
    setup();
    sc.offered = true;
    submit_gives(NEXT, 0);
    memset((void *)&t, 0, sizeof t);
    EXPECT_EQ(net_submit(&loop, &t.frame, taker_coro), 0);
    submit_gives(takt_token_of(takt__stream_op(&loop.sched, &t.stream)), 0);
    b.ops[0] = takt_nop();
    b.count = 1;
    EXPECT_EQ(net_submit(&loop, &b.frame, asker_coro), TAKT_ELIVETOKEN);
    EXPECT_EQ(net_free(&loop), -EBUSY);
}

static void a_request_keeps_its_token_until_its_end(void)
{
    static struct taker t;
    setup();
    submit_gives(7, 0);
    memset((void *)&t, 0, sizeof t);
    EXPECT_EQ(net_submit(&loop, &t.frame, taker_coro), 0);
    for (int i = 1; i <= 3; i++) {
        arrive(7, i, 0, TAKT_MORE);
        turn();
        EXPECT_EQ(t.sum, i * (i + 1) / 2);
    }
    arrive(7, 0, 0, 0);
    turn();
    EXPECT(takt_finished(&t.frame));
    arrive(7, 50, 0, TAKT_MORE); /* late: it is nobody's */
    turn();
    EXPECT_EQ(loop.sched.stats.stale, 1);
    EXPECT_EQ(t.sum, 6);
    EXPECT_TRACE("e");
    finish();
}

/* -- the end of a loop ------------------------------------------------------------------ */

/* The backend has failed: what is not an await of its own, a close, is still done. */
static void a_broken_loop_gives_descriptors_back(void)
{
    for (int error = 0; error >= -EIO; error -= EIO) {
        setup();
        a.closes = true;
        a.ops[0] = takt_sleep(TAKT_SEC);
        a.count = 1;
        EXPECT_EQ(net_submit(&loop, &a.frame, asker_coro), 0);
        poll_gives(-EPIPE);
        EXPECT_EQ(net_turn(&loop, 0, 0), -EPIPE);
        sc.call_error = error;
        net_drain(&loop);
        EXPECT_EQ(sc.calls, 1);
        EXPECT_EQ(sc.submits, 0);
        EXPECT_EQ(a.closed[0], error);
        EXPECT_EQ(a.closed[1], 0);
        EXPECT_TRACE(error ? "~~" : "~");
        finish();
    }
}

struct yielder {
    takt_frame frame;
};

static TAKT_CORO(yielder)
{
    TAKT_BEGIN(yielder, my);
    TAKT_DEFER { note("y"); }
    for (;;)
        TAKT_YIELD;
    TAKT_END;
}

/* The loop ends in the middle of a turn. */
static void who_has_yielded_and_who_was_ready_end_in_the_drain(void)
{
    static struct yielder y;
    static struct asker c;
    setup();
    sc.offered = true;
    ask(&a, takt_nop(), NEXT);
    submit_gives(own(&a.frame), 0);
    EXPECT(TAKT_START_ON(&loop, y, yielder));
    EXPECT(TAKT_START_ON(&loop, b, asker, .count = 1));
    EXPECT(TAKT_START_ON(&loop, c, asker, .count = 1));
    b.ops[0] = c.ops[0] = takt_nop();
    EXPECT_EQ(net_turn(&loop, 0, 0), TAKT_ELIVETOKEN);
    EXPECT_TRACE("");
    net_drain(&loop);
    EXPECT_TRACE("y~"); /* it was started: it came to its first await */
    EXPECT_EQ(takt_error(&c.frame), TAKT_ECANCELED);
    EXPECT(takt_alive(&a.frame) && takt_alive(&b.frame)); /* the backend has both */
    EXPECT_EQ(net_free(&loop), -EBUSY);
}

/* A frame that is gone is not gone back to, whatever its op has ended with. */
static void a_failure_does_not_find_a_frame_that_was_freed(void)
{
    struct asker kept;
    setup();
    ask(&a, takt_nop(), 7);
    kept = a;
    memset((void *)&a, 0, sizeof a);
    arrive(7, 0, -EIO, 0);
    turn();
    EXPECT_EQ(hooks.panics, 1);
    EXPECT(strstr(hooks.said, "asker: the frame was freed"));
    hooks.panics = 0;
    a = kept; /* the test puts it back, and lets it end */
    takt__op_over(&loop.sched, a.frame.strand, -EIO);
    turn();
    EXPECT_EQ(a.got[0], -EIO);
    finish();
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        TEST(an_op_that_says_nothing_is_invalid),
        TEST(an_op_of_streams_is_no_op_to_await),
        TEST(an_address_on_the_stack_is_refused_with_its_place),
        TEST(what_was_too_early_is_submitted_once_more),
        TEST(what_was_too_early_and_is_cancelled_is_not),
        TEST(what_was_told_to_stop_says_so_until_it_is_answered),
        TEST(what_nobody_waits_for_is_told_or_closed),
        TEST(a_plain_op_that_promises_more_ends_the_loop),
        TEST(a_token_may_look_like_one_that_nobody_uses),
        TEST(a_token_of_an_op_in_flight_ends_the_loop),
        TEST(a_token_of_a_request_that_lives_ends_the_loop),
        TEST(a_request_keeps_its_token_until_its_end),
        TEST(a_broken_loop_gives_descriptors_back),
        TEST(who_has_yielded_and_who_was_ready_end_in_the_drain),
        TEST(a_failure_does_not_find_a_frame_that_was_freed),
    };
    return RUN_TESTS(argc, argv, tests);
}

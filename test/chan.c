/*
 * chan.c - waiting for each other, without a system call
 */
#define TAKT_IMPLEMENTATION
#include "../takt.h"

#include "test.h"

TAKT_LOOP(net, takt_posix);
static net loop;
static takt_event event;
static takt_semaphore semaphore;

/* Waits for one of the two, and notes its name when it has it. */
struct waiter {
    takt_frame frame;
    const char *name;
    bool acquires;
    takt_ns limit;
    takt_ns holds;
    int n;
};

static TAKT_CORO(waiter)
{
    TAKT_BEGIN(waiter, my);
    my->n = 1;
    if (my->acquires && my->limit)
        TAKT_TRY_AWAIT(my->n, takt_within(my->limit, takt_acquire(&semaphore)));
    else if (my->acquires)
        TAKT_AWAIT(my->n, takt_acquire(&semaphore));
    else if (my->limit)
        TAKT_TRY_AWAIT(my->n, takt_within(my->limit, takt_event_wait(&event)));
    else
        TAKT_AWAIT(my->n, takt_event_wait(&event));
    note(my->n == 0 ? my->name : "-");
    if (my->n == 0 && my->holds) {
        TAKT_AWAIT(takt_sleep(my->holds));
        takt_release(&semaphore, 1);
    }
    TAKT_END;
}

static struct waiter a, b, c, d;

static void setup(void)
{
    const net_config config = net_defaults();
    memset(&event, 0, sizeof event);
    memset(&semaphore, 0, sizeof semaphore);
    EXPECT_EQ(net_init(&loop, &config), 0);
}

static void turn(void)
{
    EXPECT(net_turn(&loop, 0, 0) >= 0);
}

static void finish(void)
{
    EXPECT_EQ(net_run(&loop), 0);
    EXPECT_EQ(loop.sched.strands_used, 0);
    EXPECT_EQ(loop.sched.wheel.count, 0);
    EXPECT(event.line.first == NULL && event.line.last == NULL);
    EXPECT(semaphore.line.first == NULL && semaphore.line.last == NULL);
    EXPECT_EQ(net_free(&loop), 0);
}

#define START(object, ...) EXPECT(TAKT_START_ON(&loop, object, waiter, __VA_ARGS__))

static void an_event_lets_all_go_on_in_order(void)
{
    setup();
    START(a, .name = "a");
    START(b, .name = "b");
    START(c, .name = "c");
    turn();
    EXPECT_TRACE("");
    takt_event_set(&event);
    EXPECT_TRACE(""); /* not from in here */
    START(d, .name = "d"); /* set already: does not wait */
    turn();
    EXPECT_TRACE("abcd");
    takt_event_set(&event);
    takt_event_reset(&event);
    START(a, .name = "a");
    turn();
    EXPECT_TRACE("abcd");
    takt_event_set(&event);
    finish();
    EXPECT_TRACE("abcda");
}

static void a_reset_does_not_take_back_what_was_set(void)
{
    setup();
    START(a, .name = "a");
    turn();
    takt_event_set(&event);
    takt_event_reset(&event);
    START(b, .name = "b");
    turn();
    EXPECT_TRACE("a");
    takt_event_set(&event);
    finish();
    EXPECT_TRACE("ab");
}

static void a_wait_with_a_limit_leaves_the_line(void)
{
    setup();
    START(a, .name = "a", .limit = 600 * TAKT_SEC);
    START(b, .name = "b", .limit = 1);
    START(c, .name = "c");
    while (takt_alive(&b.frame))
        EXPECT(net_turn(&loop, TAKT_SEC, 0) >= 0);
    EXPECT_EQ(b.n, -ETIMEDOUT);
    EXPECT_EQ(net_pending(&loop), 2);
    takt_event_set(&event);
    finish();
    EXPECT_TRACE("-ac");
    setup();
    START(a, .name = "a", .acquires = true, .limit = 1);
    START(b, .name = "b", .acquires = true, .limit = 600 * TAKT_SEC);
    while (takt_alive(&a.frame))
        EXPECT(net_turn(&loop, TAKT_SEC, 0) >= 0);
    takt_release(&semaphore, 1);
    finish();
    EXPECT_EQ(semaphore.permits, 0); /* the one that gave up took none */
    EXPECT_TRACE("-ac-b");
}

static void a_cancelled_waiter_leaves_the_line(void)
{
    setup();
    START(a, .name = "a");
    START(b, .name = "b", .acquires = true);
    START(c, .name = "c", .acquires = true);
    turn();
    takt_cancel(&a.frame);
    takt_cancel(&b.frame);
    turn();
    EXPECT_EQ(a.n, TAKT_ECANCELED);
    EXPECT_EQ(b.n, TAKT_ECANCELED);
    takt_release(&semaphore, 1);
    finish();
    EXPECT_TRACE("c");
    EXPECT_EQ(takt_error(&a.frame), TAKT_ECANCELED);
}

static void permits_go_to_those_who_came_first(void)
{
    setup();
    semaphore.permits = 2;
    START(a, .name = "a", .acquires = true, .holds = 4 * TAKT_MS);
    START(b, .name = "b", .acquires = true, .holds = TAKT_MS);
    START(c, .name = "c", .acquires = true, .holds = 1);
    START(d, .name = "d", .acquires = true, .holds = 1);
    turn();
    EXPECT_TRACE("ab");
    EXPECT_EQ(semaphore.permits, 0);
    finish();
    EXPECT_TRACE("abcd");
    EXPECT_EQ(semaphore.permits, 2);
}

/* Nobody is overtaken: a permit that comes back belongs to the first in line at once. */
static void a_newcomer_does_not_overtake(void)
{
    setup();
    START(a, .name = "a", .acquires = true);
    turn();
    takt_release(&semaphore, 1);
    START(b, .name = "b", .acquires = true);
    turn();
    EXPECT_TRACE("a");
    takt_release(&semaphore, 3);
    finish();
    EXPECT_TRACE("ab");
    EXPECT_EQ(semaphore.permits, 2);
}

/* What was granted is delivered, also to one that is cancelled before it runs: it can give
 * the permit back. */
struct holder {
    takt_frame frame;
    int n;
    bool held;
};

static TAKT_CORO(holder)
{
    TAKT_BEGIN(holder, my);
    TAKT_DEFER
    {
        if (my->held)
            takt_release(&semaphore, 1);
    }
    TAKT_AWAIT(my->n, takt_acquire(&semaphore));
    my->held = true;
    TAKT_AWAIT(takt_sleep(600 * TAKT_SEC));
    note("never");
    TAKT_END;
}

static void a_grant_is_final(void)
{
    static struct holder holder;
    setup();
    holder.n = 1;
    EXPECT(TAKT_START_ON(&loop, holder, holder));
    turn();
    takt_release(&semaphore, 1);
    EXPECT_EQ(semaphore.permits, 0);
    takt_cancel(&holder.frame);
    finish();
    EXPECT_EQ(holder.n, 0);
    EXPECT(holder.held);
    EXPECT_EQ(semaphore.permits, 1);
    EXPECT_TRACE("");
}

static void a_grant_beats_a_limit_that_passes_later(void)
{
    setup();
    START(a, .name = "a", .acquires = true, .limit = 1);
    turn();
    takt_release(&semaphore, 1); /* before the limit has been looked at */
    EXPECT_EQ(loop.sched.wheel.count, 0);
    finish();
    EXPECT_TRACE("a");
    EXPECT_EQ(semaphore.permits, 0);
}

/* Both are ops like others: in a batch, one after the other. */
struct collector {
    takt_frame frame;
    takt_op ops[4];
};

static TAKT_CORO(collector)
{
    TAKT_BEGIN(collector, my);
    my->ops[0] = takt_acquire(&semaphore);
    my->ops[1] = takt_within(1, takt_event_wait(&event));
    my->ops[2] = takt_acquire(&semaphore);
    my->ops[3] = takt_within(TAKT_MS, takt_acquire(&semaphore));
    TAKT_AWAIT_ALL(my->ops, 4);
    EXPECT_EQ(my->ops[0].result, 0);
    EXPECT_EQ(my->ops[1].result, -ETIMEDOUT);
    EXPECT_EQ(my->ops[2].result, 0);
    EXPECT_EQ(my->ops[3].result, -ETIMEDOUT);
    note("!");
    TAKT_END;
}

static void a_batch_waits_for_them_too(void)
{
    static struct collector collector;
    setup();
    semaphore.permits = 1;
    EXPECT(TAKT_START_ON(&loop, collector, collector));
    turn();
    takt_release(&semaphore, 1);
    finish();
    EXPECT_EQ(semaphore.permits, 0);
    EXPECT_TRACE("!");
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        TEST(an_event_lets_all_go_on_in_order),
        TEST(a_reset_does_not_take_back_what_was_set),
        TEST(a_wait_with_a_limit_leaves_the_line),
        TEST(a_cancelled_waiter_leaves_the_line),
        TEST(permits_go_to_those_who_came_first),
        TEST(a_newcomer_does_not_overtake),
        TEST(a_grant_is_final),
        TEST(a_grant_beats_a_limit_that_passes_later),
        TEST(a_batch_waits_for_them_too),
    };
    return RUN_TESTS(argc, argv, tests);
}

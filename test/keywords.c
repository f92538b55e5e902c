/*
 * keywords.c - the laws of the coroutine language, each as a trace.
 *
 * A coroutine writes a letter for everything it does; a test compares the word that
 * results. Sleeps order things; nothing depends on how long they take.
 */
#include <stdint.h>
static int64_t test_clock(void);
#define TAKT_CLOCK() test_clock()
#define TAKT_IMPLEMENTATION
#include "../takt.h"

#include "test.h"

#include <sys/socket.h>
#include <unistd.h>

TAKT_LOOP(net, takt_posix);
static net loop;
static int socket_pair[2];
static takt_ns skipped; /* the test's clock is ahead by that */

static int64_t test_clock(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * TAKT_SEC + ts.tv_nsec + skipped;
}

/* -- leaf: sleeps, then returns or throws ------------------------------------ */

struct leaf {
    takt_frame frame;
    const char *name;
    takt_ns ns;
    int fail;
    int twice; /* out */
};

static TAKT_CORO(leaf)
{
    TAKT_BEGIN(leaf, my);
    note(my->name);
    TAKT_DEFER { note("~"); note(my->name); }
    if (my->ns)
        TAKT_AWAIT(takt_sleep(my->ns));
    if (my->fail)
        TAKT_THROW(my->fail);
    my->twice = 2;
    note("!");
    TAKT_END;
}

/* -- defers run last first, on return, and may suspend ------------------------- */

struct defers {
    takt_frame frame;
    int i;
};

static TAKT_CORO(defers)
{
    TAKT_BEGIN(defers, my);
    TAKT_DEFER { note("a"); }
    TAKT_DEFER
    {
        note("b");
        TAKT_AWAIT(takt_sleep(1));
        note("c");
        for (my->i = 0; my->i < 9; my->i++)
            if (my->i == 2)
                break;
        if (my->i == 2)
            break; /* leaves the block, not the unwinding */
        note("never");
    }
    TAKT_DEFER
    {
        note("d");
        TAKT_THROW(-EIO); /* ends this block only */
        note("never");
    }
    note("1");
    if (my->i == 0)
        TAKT_RETURN;
    TAKT_DEFER { note("never"); }
    note("never");
    TAKT_END;
}

/* -- calls: nested, caught, tried ------------------------------------------------ */

struct caller {
    takt_frame frame;
    int mode;
    int err;
    struct leaf leaf;
};

static TAKT_CORO(caller)
{
    TAKT_BEGIN(caller, my);
    TAKT_DEFER { note("."); }
    if (my->mode == 0) {
        TAKT_CALL(my->leaf, leaf, .name = "x", .ns = 1);
        TAKT_CALL(my->leaf, leaf, .name = my->leaf.twice == 2 ? "y" : "?");
    } else if (my->mode == 1) {
        TAKT_CALL(my->leaf, leaf, .name = "x", .ns = 1, .fail = -EPERM);
        note("never");
    } else if (my->mode == 2) {
        TAKT_TRY_CALL(my->err, my->leaf, leaf, .name = "x", .fail = -EPERM);
        note(my->err == -EPERM ? "P" : "?");
    } else if (my->mode == 3) { /* a limit over the whole call */
        TAKT_CALL_WITHIN(2 * TAKT_MS, my->leaf, leaf, .name = "x", .ns = 60 * TAKT_SEC);
        note("never");
    } else {
        TAKT_CALL_WITHIN(60 * TAKT_SEC, my->leaf, leaf, .name = "x", .ns = 1);
        note("W");
        TAKT_CALL_WITHIN(60 * TAKT_SEC, my->leaf, leaf, .name = "y", .fail = -EPERM);
        note("never");
    }
    TAKT_CATCH {
        note("C");
        TAKT_AWAIT(takt_sleep(1)); /* a handler may suspend */
        note(my->frame.error == -EPERM ? "p" : my->frame.error == -ETIMEDOUT ? "t" : "?");
    }
    TAKT_END;
}

struct uncaught {
    takt_frame frame;
    struct caller caller;
    struct leaf leaf;
};

static TAKT_CORO(uncaught)
{
    TAKT_BEGIN(uncaught, my);
    TAKT_DEFER { note("u"); }
    TAKT_CALL(my->leaf, leaf, .name = "z", .fail = -ENOENT);
    note("never");
    TAKT_END;
}

/* -- children: join, race, failure, scope ------------------------------------------ */

struct parent {
    takt_frame frame;
    int mode;
    int winner;
    struct leaf a, b, c;
};

static TAKT_CORO(parent)
{
    TAKT_BEGIN(parent, my);
    TAKT_DEFER { note("."); }
    if (my->mode == 0) { /* all of them */
        TAKT_START(my->a, leaf, .name = "a", .ns = 2 * TAKT_MS);
        TAKT_START(my->b, leaf, .name = "b", .ns = 20 * TAKT_MS);
        TAKT_JOIN(my->a, my->b);
        note("J");
    } else if (my->mode == 1) { /* the first of them */
        TAKT_START(my->a, leaf, .name = "a", .ns = 60 * TAKT_SEC);
        TAKT_START(my->b, leaf, .name = "b", .ns = 2 * TAKT_MS);
        TAKT_RACE(my->winner, my->a, my->b);
        note(my->winner == 1 ? "R" : "?");
    } else if (my->mode == 2) { /* a child that fails interrupts the parent's own await */
        TAKT_START(my->a, leaf, .name = "a", .ns = 60 * TAKT_SEC);
        TAKT_START(my->b, leaf, .name = "b", .ns = 2 * TAKT_MS, .fail = -EIO);
        TAKT_AWAIT(takt_sleep(60 * TAKT_SEC));
        note("never");
    } else if (my->mode == 3) { /* returning cancels what still runs */
        TAKT_START(my->a, leaf, .name = "a", .ns = 60 * TAKT_SEC);
        TAKT_AWAIT(takt_sleep(2 * TAKT_MS));
        note("r");
    } else if (my->mode == 4) { /* a child of a caller interrupts the call */
        TAKT_START(my->a, leaf, .name = "a", .ns = 2 * TAKT_MS, .fail = -EIO);
        TAKT_CALL(my->c, leaf, .name = "c", .ns = 60 * TAKT_SEC);
        note("never");
    } else if (my->mode == 5) { /* one that has already finished wins */
        TAKT_START(my->a, leaf, .name = "a", .ns = 60 * TAKT_SEC);
        TAKT_START(my->b, leaf, .name = "b");
        TAKT_AWAIT(takt_sleep(1));
        TAKT_RACE(my->winner, my->a, my->b);
        note(my->winner == 1 ? "R" : "?");
    } else if (my->mode == 6) { /* an error nobody awaited is not lost on return */
        TAKT_START(my->a, leaf, .name = "a", .fail = -EIO);
        TAKT_YIELD; /* a fails while this frame is ready */
        note("r");
    } else if (my->mode == 7) { /* cancelled before it ever ran: it runs to its first await */
        TAKT_START(my->a, leaf, .name = "a", .ns = 60 * TAKT_SEC);
        note("r");
    } else if (my->mode == 8) { /* one that fails does not end a race */
        TAKT_START(my->a, leaf, .name = "a", .ns = 1, .fail = -EIO);
        TAKT_START(my->b, leaf, .name = "b", .ns = 5 * TAKT_MS);
        TAKT_RACE(my->winner, my->a, my->b);
        note(my->winner == 1 && takt_error(&my->a.frame) == -EIO ? "R" : "?");
    } else if (my->mode == 9) { /* all fail: so does the race */
        TAKT_START(my->a, leaf, .name = "a", .ns = 1, .fail = -EPERM);
        TAKT_START(my->b, leaf, .name = "b", .ns = 5 * TAKT_MS, .fail = -EIO);
        TAKT_RACE(my->winner, my->a, my->b);
        note("never");
    } else if (my->mode == 10) { /* a join names a failure; the others are cancelled */
        TAKT_START(my->a, leaf, .name = "a", .ns = 1, .fail = -EIO);
        TAKT_START(my->b, leaf, .name = "b", .ns = 60 * TAKT_SEC);
        TAKT_JOIN(my->a, my->b);
        note("never");
    } else if (my->mode == 11) { /* without arguments: all */
        TAKT_START(my->a, leaf, .name = "a", .ns = 1);
        TAKT_START(my->b, leaf, .name = "b", .ns = 5 * TAKT_MS);
        TAKT_START(my->c, leaf, .name = "c");
        TAKT_JOIN();
        note("J");
        TAKT_JOIN();
        note("J");
    } else { /* the memory of a child that runs is not given to another */
        TAKT_START(my->a, leaf, .name = "a", .ns = 60 * TAKT_SEC);
        TAKT_START(my->a, leaf, .name = "never");
        note("never");
    }
    TAKT_CATCH {
        note(my->frame.error == -EIO ? "C" : my->frame.error == TAKT_ERUNNING ? "B" : "?");
    }
    TAKT_END;
}

/* -- cancellation: defers run from the leaf up, catches do not ----------------------- */

struct stopper {
    takt_frame frame;
    takt_ns after;
};

static TAKT_CORO(stopper)
{
    TAKT_BEGIN(stopper, my);
    if (my->after)
        TAKT_AWAIT(takt_sleep(my->after));
    takt_stop(takt_sched_of(&my->frame), 0);
    TAKT_END;
}

struct nested {
    takt_frame frame;
    struct leaf leaf;
};

static TAKT_CORO(nested)
{
    TAKT_BEGIN(nested, my);
    TAKT_DEFER { note("n"); TAKT_AWAIT(takt_sleep(1)); note("N"); }
    TAKT_DEFER { TAKT_CALL(my->leaf, leaf, .name = "s", .ns = 1); }
    TAKT_CALL(my->leaf, leaf, .name = "x", .ns = 60 * TAKT_SEC);
    note("never");
    TAKT_CATCH { note("never"); }
    TAKT_END;
}

/* -- awaits: results, timeouts, batches ------------------------------------------------ */

struct awaits {
    takt_frame frame;
    int n;
    char c;
    takt_op ops[3];
};

static TAKT_CORO(awaits)
{
    TAKT_BEGIN(awaits, my);
    TAKT_TRY_AWAIT(my->n, takt_within(2 * TAKT_MS, takt_recv(socket_pair[0], &my->c, 1)));
    note(my->n == -ETIMEDOUT ? "T" : "?");
    TAKT_TRY_AWAIT(my->n, takt_by(takt_now(&my->frame) + 1, takt_recv(socket_pair[0], &my->c, 1)));
    note(my->n == -ETIMEDOUT ? "T" : "?");
    TAKT_TRY_AWAIT(my->n, takt_within(1, takt_sleep(60 * TAKT_SEC)));
    note(my->n == -ETIMEDOUT ? "S" : "?");

    my->ops[0] = takt_send(socket_pair[1], "k", 1);
    my->ops[1] = takt_recv(socket_pair[0], &my->c, 1);
    my->ops[2] = takt_recv(-1, &my->c, 1);
    TAKT_AWAIT_ALL(my->ops, 3);
    note(my->ops[1].result == 1 && my->c == 'k' ? "k" : "?");
    note(my->ops[2].result == -EBADF ? "B" : "?");
    TAKT_AWAIT_ALL(my->ops, 0);
    TAKT_YIELD;

    TAKT_AWAIT(my->n, takt_recv(-1, &my->c, 1));
    note("never");
    TAKT_CATCH { note(my->n == -EBADF && my->frame.error == -EBADF ? "b" : "?"); }
    TAKT_END;
}

struct in_time {
    takt_frame frame;
    int n;
    char c;
};

static TAKT_CORO(in_time)
{
    TAKT_BEGIN(in_time, my);
    TAKT_DEFER { note("."); }
    TAKT_SYS(my->n, (int)write(socket_pair[1], "k", 1));
    TAKT_AWAIT(my->n, takt_recv(socket_pair[0], &my->c, 1)); /* the stop comes right behind */
    note(my->n == 1 ? "k" : "?");
    TAKT_AWAIT(takt_sleep(1));
    note("never");
    TAKT_END;
}

struct done {
    takt_frame frame;
    int n;
    char c;
};

static TAKT_CORO(done)
{
    TAKT_BEGIN(done, my);
    TAKT_DEFER { note("."); }
    TAKT_AWAIT(takt_send(socket_pair[1], "k", 1));
    takt_stop(takt_sched_of(&my->frame), 0); /* from here on this task is cancelled */
    TAKT_TRY_AWAIT(my->n, takt_recv(socket_pair[0], &my->c, 1));
    note("never");
    TAKT_END;
}

struct batch {
    takt_frame frame;
    takt_op ops[2];
};

static TAKT_CORO(batch)
{
    TAKT_BEGIN(batch, my);
    TAKT_DEFER { note(my->ops[0].result == 0 && my->ops[1].result == TAKT_ECANCELED ? "." : "?"); }
    my->ops[0] = takt_sleep(1);
    my->ops[1] = takt_sleep(60 * TAKT_SEC);
    TAKT_AWAIT_ALL(my->ops, 2);
    note("never");
    TAKT_END;
}

/* More ops than there are strands: the rest waits. */
struct crowd {
    takt_frame frame;
    int i, good;
    takt_op ops[100];
};

static TAKT_CORO(crowd)
{
    TAKT_BEGIN(crowd, my);
    for (my->i = 0; my->i < 100; my->i++)
        my->ops[my->i] = my->i % 2 ? takt_nop() : takt_sleep(1);
    TAKT_AWAIT_ALL(my->ops, 100);
    for (my->i = 0; my->i < 100; my->i++)
        my->good += my->ops[my->i].result == 0;
    note(my->good == 100 ? "A" : "?");
    TAKT_END;
}

/* -- groups ------------------------------------------------------------------------------- */

struct herd {
    takt_frame frame;
    int mode;
    takt_group group;
};

static TAKT_CORO(herd)
{
    TAKT_BEGIN(herd, my);
    TAKT_DEFER { note("."); }
    my->group.fail_fast = my->mode == 1;
    if (!TAKT_GO(my->group, leaf, .name = "a", .ns = 1, .fail = my->mode ? -EIO : 0))
        note("?");
    if (!TAKT_GO(my->group, leaf, .name = "b", .ns = my->mode == 1 ? 60 * TAKT_SEC : 5 * TAKT_MS))
        note("?");
    if (my->mode == 3)
        TAKT_RETURN;
    TAKT_JOIN_GROUP(my->group);
    note(my->group.count == 0 ? "J" : "?");
    note(my->group.first_error == (my->mode ? -EIO : 0) ? "e" : "?");
    TAKT_CATCH { note(my->frame.error == -EIO ? "C" : "?"); }
    TAKT_END;
}

/* -- misuse that is noticed at run time ---------------------------------------------------- */

#if defined(__GNUC__) /* the compiler notices some of it before */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wattribute-warning"
#endif

struct misuse {
    takt_frame frame;
    int mode;
};

static TAKT_CORO(misuse)
{
    TAKT_BEGIN(misuse, my);
    if (my->mode == 0) {
        char here[4];
        TAKT_AWAIT(takt_recv(socket_pair[0], here, sizeof here));
        note("never");
    } else if (my->mode == 1) {
        TAKT_THROW(EIO);
    } else if (my->mode == 2) {
        break; /* not a return */
    } else {
        TAKT_DEFER { note("1"); }
        TAKT_DEFER { note("2"); }
        TAKT_DEFER { note("3"); }
        TAKT_DEFER { note("4"); }
        TAKT_DEFER { note("never"); }
    }
    TAKT_CATCH {
        note(my->frame.error == TAKT_ESTACK   ? "S"
             : my->frame.error == TAKT_ERANGE ? "R"
             : my->frame.error == TAKT_EBREAK ? "B"
             : my->frame.error == TAKT_EDEFERS ? "D" : "?");
    }
    TAKT_END;
}

#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif

/* -- idle limits ------------------------------------------------------------------------------ */

struct hour {
    takt_frame frame;
};

/* Lets an hour pass while the others sleep. */
static TAKT_CORO(hour)
{
    TAKT_BEGIN(hour, my);
    TAKT_YIELD;
    skipped += 3600 * TAKT_SEC;
    TAKT_YIELD;
    TAKT_END;
}

struct sleepy {
    takt_frame frame;
    takt_idle idle;
    int i;
    struct leaf leaf;
    struct hour hour;
};

static TAKT_CORO(sleepy)
{
    TAKT_BEGIN(sleepy, my);
    takt_idle_touch(&my->idle); /* it was not started: nothing */
    takt_idle_start(&my->frame, &my->idle, 3600 * TAKT_SEC);
    for (my->i = 0; my->i < 6; my->i++) {
        skipped += 3000 * TAKT_SEC;
        TAKT_YIELD;
        takt_idle_touch(&my->idle);
    }
    note("t");
    TAKT_START(my->hour, hour);
    TAKT_CALL(my->leaf, leaf, .name = "x", .ns = 7200 * TAKT_SEC);
    note("never");
    TAKT_CATCH { note(my->frame.error == -ETIMEDOUT ? "T" : "?"); }
    TAKT_END;
}

/* -- the tests ------------------------------------------------------------------------ */

static void setup(void)
{
    net_config config = net_defaults();
    TAKT_POOL(config, defers, 1);
    TAKT_POOL(config, caller, 1, .strands = 2);
    TAKT_POOL(config, uncaught, 1);
    TAKT_POOL(config, parent, 1, .strands = 4);
    TAKT_POOL(config, nested, 1);
    TAKT_POOL(config, stopper, 1);
    TAKT_POOL(config, awaits, 1, .strands = 3);
    TAKT_POOL(config, in_time, 1);
    TAKT_POOL(config, done, 1);
    TAKT_POOL(config, batch, 1, .strands = 3);
    TAKT_POOL(config, crowd, 1);
    TAKT_POOL(config, herd, 1);
    TAKT_POOL(config, leaf, 2);
    TAKT_POOL(config, misuse, 1);
    TAKT_POOL(config, sleepy, 1, .strands = 2);
    config.loop.strands = 4;
    test_trace[0] = '\0';
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, socket_pair), 0);
    EXPECT_EQ(net_init(&loop, &config), 0);
}

static int finish(void)
{
    const int rc = net_run(&loop);
    EXPECT_EQ(loop.sched.strands_used, 0);
    EXPECT_EQ(loop.sched.wheel.count, 0);
    EXPECT_EQ(net_free(&loop), 0);
    close(socket_pair[0]);
    close(socket_pair[1]);
    return rc;
}

/* Runs one task on a fresh loop, to its end. */
#define RUN(...) (setup(), TAKT_SPAWN_ON(&loop, __VA_ARGS__) ? finish() : -ENOMEM)

static void defers_run_last_first(void)
{
    EXPECT_EQ(RUN(defers, .i = 0), 0);
    EXPECT_TRACE("1dbca");
}

static void calls_return_throw_and_expire(void)
{
    EXPECT_EQ(RUN(caller, .mode = 0), 0);
    EXPECT_TRACE("x!~xy!~y.");
    EXPECT_EQ(RUN(caller, .mode = 1), 0);
    EXPECT_TRACE("x~xCp.");
    EXPECT_EQ(RUN(caller, .mode = 2), 0);
    EXPECT_TRACE("x~xP.");
    EXPECT_EQ(RUN(caller, .mode = 3), 0);
    EXPECT_TRACE("x~xCt.");
    EXPECT_EQ(RUN(caller, .mode = 4), 0);
    EXPECT_TRACE("x!~xWy~yCp.");
    EXPECT_EQ(RUN(uncaught), -ENOENT);
    EXPECT_TRACE("z~zu");
}

static void children_join_race_and_fail(void)
{
    static const char *const traces[] = {
        "ab!~a!~bJ.", "ab!~b~aR.", "ab~b~aC.", "ar~a.", "ca~a~cC.", "ab!~b~aR.", "a~arC.",
        "ra~a.", "ab~a!~bR.", "ab~a~bC.", "ab~a~bC.", "abc!~c!~a!~bJJ.", "a~aB."};
    for (int mode = 0; mode < (int)(sizeof traces / sizeof traces[0]); mode++) {
        EXPECT_EQ(RUN(parent, .mode = mode), 0);
        EXPECT_TRACE(traces[mode]);
    }
}

static void cancellation_only_runs_defers(void)
{
    setup();
    EXPECT(TAKT_SPAWN_ON(&loop, nested));
    EXPECT(TAKT_SPAWN_ON(&loop, stopper, .after = 5 * TAKT_MS));
    EXPECT_EQ(finish(), 0);
    EXPECT_TRACE("x~xs!~snN");
}

static void an_await_completes_or_is_cancelled(void)
{
    EXPECT_EQ(RUN(done), 0);
    EXPECT_TRACE(".");
    setup();
    EXPECT(TAKT_SPAWN_ON(&loop, batch));
    EXPECT(TAKT_SPAWN_ON(&loop, stopper, .after = 5 * TAKT_MS));
    EXPECT_EQ(finish(), 0);
    EXPECT_TRACE(".");
}

static void awaits_yield_results_and_limits(void)
{
    EXPECT_EQ(RUN(awaits), 0);
    EXPECT_TRACE("TTSkBb");
    EXPECT_EQ(RUN(crowd), 0);
    EXPECT_TRACE("A");
}

static void groups_own_their_members(void)
{
    EXPECT_EQ(RUN(herd, .mode = 0), 0);
    EXPECT_TRACE("ab!~a!~bJe.");
    EXPECT_EQ(RUN(herd, .mode = 1), 0);
    EXPECT_TRACE("ab~a~bC.");
    EXPECT_EQ(RUN(herd, .mode = 2), 0);
    EXPECT_TRACE("ab~a!~bJe.");
    EXPECT_EQ(RUN(herd, .mode = 3), 0);
    EXPECT_TRACE("a~ab~b.");
}

static void misuse_is_thrown(void)
{
    EXPECT_EQ(RUN(misuse, .mode = 0), 0);
    EXPECT_TRACE("S");
    EXPECT_EQ(RUN(misuse, .mode = 1), 0);
    EXPECT_TRACE("R");
    EXPECT_EQ(RUN(misuse, .mode = 2), 0);
    EXPECT_TRACE("B");
    EXPECT_EQ(RUN(misuse, .mode = 3), 0);
    EXPECT_TRACE("D4321");
}

static void an_idle_limit_interrupts(void)
{
    EXPECT_EQ(RUN(sleepy), 0);
    EXPECT_TRACE("tx~xT");
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        TEST(defers_run_last_first),
        TEST(calls_return_throw_and_expire),
        TEST(children_join_race_and_fail),
        TEST(cancellation_only_runs_defers),
        TEST(an_await_completes_or_is_cancelled),
        TEST(awaits_yield_results_and_limits),
        TEST(groups_own_their_members),
        TEST(misuse_is_thrown),
        TEST(an_idle_limit_interrupts),
    };
    return RUN_TESTS(argc, argv, tests);
}

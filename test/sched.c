/*
 * sched.c - strands, pools, calls, cancellation, counters
 */
void remember(const char *text);
#define TAKT_LOG(text) remember(text)
#define TAKT_IMPLEMENTATION
#include "../takt.h"

#include "test.h"

TAKT_LOOP(net, takt_posix);
static net loop;
static char logged[512]; /* the last line */

void remember(const char *text)
{
    snprintf(logged, sizeof logged, "%s", text);
}

static void setup_with(net_config *config, uint32_t strands)
{
    logged[0] = '\0';
    config->loop.strands = strands;
    EXPECT_EQ(net_init(&loop, config), 0);
}

static void setup(uint32_t strands)
{
    net_config config = net_defaults();
    setup_with(&config, strands);
}

static void turn(void)
{
    EXPECT(net_turn(&loop, 0, 0) >= 0);
}

static void finish(void)
{
    EXPECT_EQ(loop.sched.strands_used, 0);
    EXPECT_EQ(loop.sched.wheel.count, 0);
    EXPECT_EQ(loop.sched.pending, 0);
    EXPECT_EQ(net_free(&loop), 0);
}

/* -- pools ------------------------------------------------------------------ */

struct sleeper {
    takt_frame frame;
    takt_ns ns;
    int fail;
    int evaluated;
};

static TAKT_CORO(sleeper)
{
    TAKT_BEGIN(sleeper, my);
    TAKT_DEFER { note("~"); }
    note("s");
    if (my->ns)
        TAKT_AWAIT(takt_sleep(my->ns));
    if (my->fail)
        TAKT_THROW(my->fail);
    TAKT_END;
}

struct stranger {
    takt_frame frame;
    char large[1000];
};

static TAKT_CORO(stranger)
{
    TAKT_BEGIN(stranger, my);
    note("never");
    TAKT_END;
}

static int evaluated;

static int evaluate(void)
{
    return ++evaluated;
}

static void a_full_pool_refuses_without_looking_at_the_arguments(void)
{
    net_config config = net_defaults();
    TAKT_POOL(config, sleeper, 2);
    setup_with(&config, 1);
    evaluated = 0;
    EXPECT(TAKT_SPAWN_ON(&loop, sleeper, .ns = TAKT_MS, .evaluated = evaluate()));
    EXPECT(TAKT_SPAWN_ON(&loop, sleeper, .ns = TAKT_MS, .evaluated = evaluate()));
    EXPECT(!TAKT_SPAWN_ON(&loop, sleeper, .ns = TAKT_MS, .evaluated = evaluate()));
    EXPECT_EQ(evaluated, 2);
    EXPECT_EQ(net_pending(&loop), 2);
    EXPECT_EQ(loop.sched.config.pools[0].refused, 1);
    EXPECT_EQ(loop.sched.config.pools[0].used, 2);
    EXPECT_EQ(loop.sched.stats.refused, 1);
    EXPECT_EQ(net_run(&loop), 0);
    EXPECT(TAKT_SPAWN_ON(&loop, sleeper)); /* there is room again, and it is clean */
    EXPECT_EQ(net_run(&loop), 0);
    EXPECT_TRACE("ss~~s~");
    EXPECT_EQ(loop.sched.config.pools[0].used, 0);
    EXPECT_EQ(loop.sched.config.pools[0].used_max, 2);
    EXPECT_EQ(loop.sched.stats.spawned, 3);
    finish();
}

static void a_coroutine_that_is_not_listed_is_refused_and_told_of(void)
{
    net_config config = net_defaults();
    TAKT_POOL(config, sleeper, 2);
    setup_with(&config, 1);
    EXPECT(!TAKT_SPAWN_ON(&loop, stranger));
    EXPECT(strstr(logged, "TAKT_POOL"));
    EXPECT_EQ(net_pending(&loop), 0);
    EXPECT_EQ(loop.sched.stats.refused, 1);
    EXPECT_EQ(net_run(&loop), 0);
    EXPECT_TRACE("");
    finish();
}

/* As in two files that do not agree what it looks like. */
static void a_coroutine_that_has_grown_is_refused(void)
{
    net_config config = net_defaults();
    TAKT_POOL(config, sleeper, 2);
    config.loop.pools[0].size -= 8;
    setup_with(&config, 1);
    EXPECT(!TAKT_SPAWN_ON(&loop, sleeper));
    EXPECT(strstr(logged, "TAKT_POOL"));
    EXPECT_EQ(net_run(&loop), 0);
    EXPECT_TRACE("");
    finish();
}

/* -- strands ------------------------------------------------------------------- */

struct greedy {
    takt_frame frame;
    int mode, err;
    struct sleeper children[3];
};

static TAKT_CORO(greedy)
{
    TAKT_BEGIN(greedy, my);
    TAKT_START(my->children[0], sleeper, .ns = 600 * TAKT_SEC);
    if (my->mode == 0)
        TAKT_START(my->children[1], sleeper, .ns = 600 * TAKT_SEC);
    else
        TAKT_CALL_WITHIN(TAKT_SEC, my->children[1], sleeper, .ns = 1);
    note("never");
    TAKT_CATCH {
        my->err = my->frame.error;
        EXPECT(!takt_alive(&my->children[0].frame)); /* cancelled, and awaited */
        EXPECT(!takt_alive(&my->children[1].frame));
    }
    TAKT_END;
}

static void a_start_without_a_strand_is_thrown(void)
{
    static struct greedy greedy;
    for (int mode = 0; mode < 2; mode++) {
        setup(2);
        EXPECT(TAKT_START_ON(&loop, greedy, greedy, .mode = mode));
        EXPECT_EQ(net_run(&loop), 0);
        EXPECT_EQ(greedy.err, TAKT_ESTRANDS);
        EXPECT_EQ(loop.sched.strands_max, 2);
        finish();
    }
    EXPECT_TRACE("s~s~");
}

static void a_start_from_outside_without_a_strand_is_refused(void)
{
    static struct sleeper a, b;
    setup(1);
    EXPECT(TAKT_START_ON(&loop, a, sleeper, .ns = 1));
    memset(&b, 0, sizeof b);
    EXPECT(!TAKT_START_ON(&loop, b, sleeper, .ns = 1));
    EXPECT(!takt_alive(&b.frame));
    EXPECT_EQ(net_run(&loop), 0);
    EXPECT(TAKT_START_ON(&loop, b, sleeper, .ns = 1));
    EXPECT_EQ(net_run(&loop), 0);
    EXPECT_EQ(loop.sched.stats.refused, 1);
    finish();
}

/* -- a frame seen from outside ---------------------------------------------------- */

static void a_frame_tells_how_it_stands(void)
{
    static struct sleeper a;
    memset(&a, 0, sizeof a);
    EXPECT(!takt_alive(&a.frame) && !takt_finished(&a.frame)); /* all zero: never started */
    EXPECT_EQ(takt_error(&a.frame), 0);
    EXPECT_EQ(takt_done(&a.frame), 0);
    takt_cancel(&a.frame); /* nothing */
    setup(2);
    EXPECT(TAKT_START_ON(&loop, a, sleeper, .ns = 20 * TAKT_MS));
    EXPECT(takt_alive(&a.frame) && !takt_finished(&a.frame));
    EXPECT_TRACE(""); /* it has not run yet: a turn does that */
    turn();
    EXPECT_TRACE("s");
    EXPECT_EQ(net_run(&loop), 0);
    EXPECT(!takt_alive(&a.frame) && takt_finished(&a.frame));
    EXPECT_EQ(takt_error(&a.frame), 0);
    EXPECT(TAKT_START_ON(&loop, a, sleeper, .ns = 600 * TAKT_SEC)); /* the same memory again */
    EXPECT(takt_alive(&a.frame) && !takt_finished(&a.frame));
    turn();
    takt_cancel(&a.frame);
    EXPECT(takt_alive(&a.frame)); /* an order: it takes a turn */
    EXPECT_EQ(net_run(&loop), 0);
    EXPECT(takt_finished(&a.frame));
    EXPECT_EQ(takt_error(&a.frame), TAKT_ECANCELED);
    takt_cancel(&a.frame);
    EXPECT(TAKT_START_ON(&loop, a, sleeper, .fail = -EDOM));
    EXPECT_EQ(net_run(&loop), -EDOM);
    EXPECT_EQ(takt_error(&a.frame), -EDOM);
    EXPECT_TRACE("s~s~s~");
    finish();
}

/* -- calls: as deep as there is memory ---------------------------------------------- */

enum { DEPTH = 64 };

/* Joins what is alive but another's, and what never began. */
struct joiner {
    takt_frame frame;
    struct sleeper *others;
    int winner;
    struct sleeper never;
};

static TAKT_CORO(joiner)
{
    TAKT_BEGIN(joiner, my);
    TAKT_JOIN(*my->others, my->never);
    my->winner = 7;
    TAKT_RACE(my->winner, *my->others, my->never);
    note("j");
    TAKT_END;
}

struct parent {
    takt_frame frame;
    struct sleeper child;
};

static TAKT_CORO(parent)
{
    TAKT_BEGIN(parent, my);
    TAKT_START(my->child, sleeper, .ns = 600 * TAKT_SEC);
    TAKT_JOIN(my->child);
    TAKT_END;
}

static void a_join_waits_for_children_of_its_own(void)
{
    static struct parent parent;
    static struct joiner joiner;
    setup(3);
    EXPECT(TAKT_START_ON(&loop, parent, parent));
    turn();
    EXPECT(TAKT_START_ON(&loop, joiner, joiner, .others = &parent.child));
    turn();
    EXPECT_TRACE("sj");
    EXPECT_EQ(joiner.winner, -1);
    EXPECT(takt_alive(&parent.child.frame));
    takt_cancel(&parent.frame);
    EXPECT_EQ(net_run(&loop), 0);
    finish();
}

struct patient {
    takt_frame frame;
    takt_idle idle;
};

static TAKT_CORO(patient)
{
    TAKT_BEGIN(patient, my);
    takt_idle_start(&my->frame, &my->idle, TAKT_FOREVER);
    TAKT_AWAIT(takt_sleep(TAKT_FOREVER));
    TAKT_END;
}

static void the_longest_idle_limit_is_fifty_days(void)
{
    static struct patient patient;
    takt_ns left;
    setup(1);
    EXPECT(TAKT_START_ON(&loop, patient, patient));
    turn();
    left = patient.idle.due - net_now(&loop);
    EXPECT(left > 49 * 86400 * TAKT_SEC && left < 50 * 86400 * TAKT_SEC);
    takt_cancel(&patient.frame);
    EXPECT_EQ(net_run(&loop), 0);
    finish();
}

struct level {
    takt_frame frame;
    int depth, mode;
    int sum;
    char name[2];
};

static struct level levels[DEPTH];
static int unwound;

static TAKT_CORO(level)
{
    TAKT_BEGIN(level, my);
    TAKT_DEFER { EXPECT_EQ(unwound++, DEPTH - 1 - my->depth); } /* the leaf's first */
    if (my->depth < DEPTH - 1)
        TAKT_CALL(levels[my->depth + 1], level, .depth = my->depth + 1, .mode = my->mode);
    else if (my->mode == 1)
        TAKT_THROW(-EDOM);
    else
        TAKT_AWAIT(takt_sleep(my->mode == 2 ? 600 * TAKT_SEC : 1));
    my->sum = my->depth + (my->depth < DEPTH - 1 ? levels[my->depth + 1].sum : 0);
    TAKT_END;
}

static void calls_go_as_deep_as_there_is_memory(void)
{
    static const int results[] = {0, -EDOM, 0};
    for (int mode = 0; mode < 3; mode++) {
        memset(levels, 0, sizeof levels);
        unwound = 0;
        setup(1); /* they all share one strand */
        EXPECT(TAKT_START_ON(&loop, levels[0], level, .mode = mode));
        turn();
        if (mode == 2) {
            EXPECT(takt_alive(&levels[DEPTH - 1].frame));
            takt_cancel(&levels[0].frame);
        }
        EXPECT_EQ(net_run(&loop), results[mode]);
        EXPECT_EQ(unwound, DEPTH);
        EXPECT_EQ(levels[0].sum, mode == 0 ? DEPTH * (DEPTH - 1) / 2 : 0);
        EXPECT_EQ(takt_error(&levels[0].frame), mode == 2 ? TAKT_ECANCELED : results[mode]);
        EXPECT_EQ(takt_error(&levels[DEPTH - 1].frame), takt_error(&levels[0].frame));
        EXPECT_EQ(loop.sched.stats.cancelled, mode == 2);
        EXPECT_EQ(loop.sched.stats.failed, mode == 1);
        finish();
    }
}

/* Cancelling one of a chain ends the call, not the caller. */
struct caller {
    takt_frame frame;
    int err;
    struct sleeper callee;
};

static TAKT_CORO(caller)
{
    TAKT_BEGIN(caller, my);
    TAKT_CALL(my->callee, sleeper, .ns = 600 * TAKT_SEC);
    note("never");
    TAKT_CATCH {
        my->err = my->frame.error;
        TAKT_AWAIT(takt_sleep(1)); /* the caller is as free as before */
        note("!");
    }
    TAKT_END;
}

static void a_cancelled_call_is_thrown_in_its_caller(void)
{
    static struct caller caller;
    setup(1);
    EXPECT(TAKT_START_ON(&loop, caller, caller));
    turn();
    takt_cancel(&caller.callee.frame);
    EXPECT_EQ(net_run(&loop), 0);
    EXPECT_EQ(caller.err, TAKT_ECANCELED);
    EXPECT_EQ(takt_error(&caller.frame), 0);
    EXPECT_TRACE("s~!");
    finish();
}

/* -- who fails, who is told ------------------------------------------------------------ */

static struct {
    int count, error, line;
    char name[32];
    const void *user;
} told;

static void on_failure(void *user, const char *name, int error, const char *file, int line)
{
    told.count++;
    told.error = error;
    told.line = line;
    told.user = user;
    snprintf(told.name, sizeof told.name, "%s", name);
    EXPECT(strstr(file, "sched.c"));
}

static void the_hook_is_told_of_every_uncaught_error(void)
{
    net_config config = net_defaults();
    memset(&told, 0, sizeof told);
    config.loop.on_failure = on_failure;
    config.loop.user = &told;
    TAKT_POOL(config, sleeper, 3);
    setup_with(&config, 1);
    EXPECT(TAKT_SPAWN_ON(&loop, sleeper, .fail = -EDOM));
    EXPECT(TAKT_SPAWN_ON(&loop, sleeper));
    EXPECT_EQ(net_run(&loop), -EDOM);
    EXPECT_EQ(told.count, 1);
    EXPECT_EQ(told.error, -EDOM);
    EXPECT(told.line > 0 && strcmp(told.name, "sleeper") == 0 && told.user == &told);
    EXPECT(TAKT_SPAWN_ON(&loop, sleeper, .ns = 1, .fail = -ERANGE));
    EXPECT_EQ(net_run(&loop), -EDOM); /* the first one stands */
    EXPECT_EQ(told.count, 2);
    EXPECT_EQ(told.error, -ERANGE);
    EXPECT_EQ(loop.sched.stats.failed, 2);
    EXPECT_EQ(logged[0], '\0');
    EXPECT_EQ(net_failed(&loop), 0); /* a task is not the loop */
    finish();
}

static void without_a_hook_a_line_says_who_where_and_why(void)
{
    static struct sleeper a;
    setup(1);
    EXPECT(TAKT_START_ON(&loop, a, sleeper, .fail = -ECONNRESET));
    EXPECT_EQ(net_run(&loop), -ECONNRESET);
    EXPECT(strstr(logged, "sched.c:") && strstr(logged, "sleeper"));
    EXPECT(strstr(logged, takt_strerror(-ECONNRESET)));
    finish();
}

static void a_cancelled_task_is_no_failure(void)
{
    net_config config = net_defaults();
    TAKT_POOL(config, sleeper, 3);
    setup_with(&config, 1);
    for (int i = 0; i < 3; i++)
        EXPECT(TAKT_SPAWN_ON(&loop, sleeper, .ns = 600 * TAKT_SEC));
    turn();
    net_stop(&loop, 0);
    EXPECT_EQ(net_run(&loop), 0);
    EXPECT_EQ(loop.sched.stats.cancelled, 3);
    EXPECT_EQ(loop.sched.stats.failed, 0);
    EXPECT_EQ(logged[0], '\0');
    EXPECT_TRACE("sss~~~");
    finish();
}

/* -- groups from outside ------------------------------------------------------------------ */

static void a_group_outside_counts_its_members(void)
{
    static takt_group group;
    net_config config = net_defaults();
    memset(&group, 0, sizeof group);
    TAKT_POOL(config, sleeper, 4);
    setup_with(&config, 1);
    EXPECT(TAKT_GO_ON(&loop, group, sleeper, .ns = 600 * TAKT_SEC));
    EXPECT(TAKT_GO_ON(&loop, group, sleeper, .ns = 600 * TAKT_SEC));
    EXPECT(TAKT_GO_ON(&loop, group, sleeper, .fail = -EDOM));
    EXPECT_EQ(group.count, 3);
    turn();
    EXPECT_EQ(group.count, 2);
    EXPECT_EQ(group.failed, 1);
    EXPECT_EQ(group.first_error, -EDOM);
    takt_group_cancel(&group);
    EXPECT_EQ(net_run(&loop), 0); /* a member's error is its group's */
    EXPECT_EQ(group.count, 0);
    EXPECT_EQ(group.failed, 1); /* a cancelled one has not failed */
    EXPECT_TRACE("sss~~~");
    finish();
}

static void a_fail_fast_group_outside_ends_with_its_first_error(void)
{
    static takt_group group;
    net_config config = net_defaults();
    memset(&group, 0, sizeof group);
    group.fail_fast = true;
    TAKT_POOL(config, sleeper, 3);
    setup_with(&config, 1);
    EXPECT(TAKT_GO_ON(&loop, group, sleeper, .ns = 600 * TAKT_SEC));
    EXPECT(TAKT_GO_ON(&loop, group, sleeper, .ns = 1, .fail = -EDOM));
    EXPECT_EQ(net_run(&loop), 0);
    EXPECT_EQ(group.first_error, -EDOM);
    EXPECT_EQ(group.count, 0);
    EXPECT_EQ(loop.sched.stats.cancelled, 1);
    finish();
}

/* -- counters, fairness -------------------------------------------------------------------- */

struct yielder {
    takt_frame frame;
    const char *name;
    int i;
};

static TAKT_CORO(yielder)
{
    TAKT_BEGIN(yielder, my);
    for (my->i = 0; my->i < 3; my->i++) {
        note(my->name);
        TAKT_YIELD;
    }
    TAKT_AWAIT(takt_nop());
    TAKT_END;
}

static void a_yield_lets_the_others_run_first(void)
{
    static struct yielder a, b;
    setup(2);
    EXPECT(TAKT_START_ON(&loop, a, yielder, .name = "a"));
    EXPECT(TAKT_START_ON(&loop, b, yielder, .name = "b"));
    EXPECT_EQ(net_run(&loop), 0);
    EXPECT_TRACE("ababab");
    EXPECT_EQ(loop.sched.stats.resumed, 2 * 5); /* a start, three yields, a nop */
    EXPECT_EQ(loop.sched.stats.completions, 2);
    EXPECT_EQ(loop.sched.stats.stale, 0);
    EXPECT_EQ(loop.sched.stats.spawned, 2);
    EXPECT(loop.sched.stats.turns >= 4);
    finish();
}

/* A task that spawns the next one, on and on, in a pool of two. */
struct relay {
    takt_frame frame;
    int left;
    bool spawned;
};

static int relayed;

static TAKT_CORO(relay)
{
    TAKT_BEGIN(relay, my);
    relayed++;
    if (my->left > 0)
        my->spawned = TAKT_SPAWN(relay, .left = my->left - 1);
    EXPECT(my->spawned || my->left == 0);
    TAKT_END;
}

/* LP-33 */
static void a_run_includes_what_its_tasks_have_spawned(void)
{
    net_config config = net_defaults();
    relayed = 0;
    TAKT_POOL(config, relay, 2);
    setup_with(&config, 1);
    EXPECT(TAKT_SPAWN_ON(&loop, relay, .left = 1000));
    EXPECT_EQ(net_run(&loop), 0); /* LP-33, as DESIGN.md has it */
    EXPECT_EQ(relayed, 1001);
    EXPECT_EQ(loop.sched.stats.spawned, 1001);
    EXPECT_EQ(net_pending(&loop), 0);
    finish();
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        TEST(a_full_pool_refuses_without_looking_at_the_arguments),
        TEST(a_coroutine_that_is_not_listed_is_refused_and_told_of),
        TEST(a_coroutine_that_has_grown_is_refused),
        TEST(a_join_waits_for_children_of_its_own),
        TEST(the_longest_idle_limit_is_fifty_days),
        TEST(a_start_without_a_strand_is_thrown),
        TEST(a_start_from_outside_without_a_strand_is_refused),
        TEST(a_frame_tells_how_it_stands),
        TEST(calls_go_as_deep_as_there_is_memory),
        TEST(a_cancelled_call_is_thrown_in_its_caller),
        TEST(the_hook_is_told_of_every_uncaught_error),
        TEST(without_a_hook_a_line_says_who_where_and_why),
        TEST(a_cancelled_task_is_no_failure),
        TEST(a_group_outside_counts_its_members),
        TEST(a_fail_fast_group_outside_ends_with_its_first_error),
        TEST(a_yield_lets_the_others_run_first),
        TEST(a_run_includes_what_its_tasks_have_spawned),
    };
    return RUN_TESTS(argc, argv, tests);
}

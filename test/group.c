/*
 * group.c - groups of tasks: who owns them, how they end, what becomes of their errors
 *
 * Members wait for events that the test sets, so that everything happens in the order that
 * the test wants. A member notes its name when it ends, and `~` before it if it was
 * cancelled; a slow one takes until the test lets it go.
 */
#define TAKT_IMPLEMENTATION
#include "../takt.h"

#include "test.h"

TAKT_LOOP(net, takt_posix);
static net loop;
static takt_event gates[4]; /* of the members a, b, c, d */
static takt_event slow;     /* lets those go that are slow to end */
static takt_event hold;     /* what owners wait for beside their groups */

struct member {
    takt_frame frame;
    const char *name;
    int fail;
    bool slow;
    bool over;
};

static TAKT_CORO(member)
{
    TAKT_BEGIN(member, my);
    TAKT_DEFER
    {
        if (my->slow)
            TAKT_AWAIT(takt_event_wait(&slow));
        note(my->over ? "" : "~");
        note(my->name);
    }
    TAKT_AWAIT(takt_event_wait(&gates[my->name[0] - 'a']));
    my->over = true;
    if (my->fail)
        TAKT_THROW(my->fail);
    TAKT_END;
}

/* Owns a group of up to three members, and does with it what the mode says. */
enum { JOINS, WAITS, RETURNS, CALLS, CATCHES, CANCELS, TWICE, UNWINDS };

struct callee {
    takt_frame frame;
};

static TAKT_CORO(callee)
{
    TAKT_BEGIN(callee, my);
    TAKT_DEFER { note("c."); }
    TAKT_AWAIT(takt_event_wait(&hold));
    TAKT_END;
}

struct owner {
    takt_frame frame;
    int mode;
    bool fail_fast;
    int fail_a, fail_b;
    bool slow;
    int error; /* out: what was caught */
    int n;
    takt_group group, other;
    struct callee callee;
};

static TAKT_CORO(owner)
{
    TAKT_BEGIN(owner, my);
    TAKT_DEFER
    {
        EXPECT_EQ(my->group.count, 0); /* law 4: nothing of it is left when defers run */
        EXPECT_EQ(my->other.count, 0);
        note(".");
    }
    my->group.fail_fast = my->fail_fast;
    EXPECT(TAKT_GO(my->group, member, .name = "a", .fail = my->fail_a, .slow = my->slow));
    EXPECT(TAKT_GO(my->group, member, .name = "b", .fail = my->fail_b, .slow = my->slow));
    EXPECT_EQ(my->group.count, 2);
    if (my->mode == JOINS || my->mode == CANCELS) {
        TAKT_JOIN_GROUP(my->group);
    } else if (my->mode == WAITS) {
        TAKT_AWAIT(takt_event_wait(&hold));
        TAKT_JOIN_GROUP(my->group);
    } else if (my->mode == RETURNS) {
        EXPECT(TAKT_GO(my->other, member, .name = "c", .slow = true));
        TAKT_RETURN;
    } else if (my->mode == CALLS) {
        TAKT_CALL(my->callee, callee);
    } else if (my->mode == CATCHES || my->mode == UNWINDS) {
        TAKT_THROW(-EPERM);
    } else {
        TAKT_JOIN_GROUP(my->group);
        note("J");
        takt_event_reset(&gates[0]);
        TAKT_JOIN_GROUP(my->group); /* empty: does not wait */
        note("J");
        EXPECT(TAKT_GO(my->group, member, .name = "a", .fail = my->fail_a));
        TAKT_JOIN_GROUP(my->group);
    }
    note("!");
    TAKT_CATCH {
        EXPECT_EQ(my->group.count, 0); /* children and members first, then the catch */
        my->error = my->frame.error;
        note("C");
    }
    TAKT_END;
}

static struct owner o;

static void setup(void)
{
    net_config config = net_defaults();
    TAKT_POOL(config, member, 4);
    config.loop.strands = 8;
    memset(gates, 0, sizeof gates);
    memset(&slow, 0, sizeof slow);
    memset(&hold, 0, sizeof hold);
    test_trace[0] = '\0';
    EXPECT_EQ(net_init(&loop, &config), 0);
}

static void turn(void)
{
    EXPECT(net_turn(&loop, 0, 0) >= 0);
}

static void open_gate(const char *name)
{
    takt_event_set(&gates[name[0] - 'a']);
    turn();
}

static void finish(void)
{
    EXPECT_EQ(net_run(&loop), 0);
    EXPECT_EQ(net_pending(&loop), 0);
    EXPECT_EQ(loop.sched.strands_used, 0);
    EXPECT_EQ(loop.sched.config.pools[0].used, 0);
    for (int i = 0; i < 4; i++)
        EXPECT(gates[i].line.first == NULL);
    EXPECT_EQ(net_free(&loop), 0);
}

#define OWN(...)                                                                             \
    do {                                                                                     \
        setup();                                                                             \
        EXPECT(TAKT_START_ON(&loop, o, owner, __VA_ARGS__));                                 \
        turn();                                                                              \
    } while (0)

/* -- errors are collected ---------------------------------------------------------- */

static void a_group_collects_errors_and_goes_on(void)
{
    OWN(.mode = JOINS, .fail_a = -EIO, .fail_b = -EPIPE);
    EXPECT_EQ(o.group.count, 2);
    open_gate("b");
    EXPECT_EQ(o.group.count, 1);
    EXPECT_EQ(o.group.failed, 1);
    EXPECT_EQ(o.group.first_error, -EPIPE);
    EXPECT_TRACE("b");
    open_gate("a");
    finish();
    EXPECT_EQ(o.group.failed, 2);
    EXPECT_EQ(o.group.first_error, -EPIPE);
    EXPECT_EQ(o.error, 0);
    EXPECT_EQ(loop.sched.stats.failed, 0); /* somebody has them: they are not uncaught */
    EXPECT_TRACE("ba!.");
}

/* -- the first error cancels all ------------------------------------------------------ */

static void the_first_error_cancels_all_and_is_thrown_in_a_join(void)
{
    OWN(.mode = JOINS, .fail_fast = true, .fail_a = -EIO, .slow = true);
    takt_event_set(&gates[0]);
    takt_event_set(&slow);
    turn();
    turn();
    finish();
    EXPECT_EQ(o.error, -EIO);
    EXPECT_EQ(o.group.failed, 1); /* b was cancelled: that is no failure */
    EXPECT_EQ(o.group.first_error, -EIO);
    EXPECT_TRACE("a~bC.");
}

static void the_owner_waits_for_those_that_end_slowly(void)
{
    OWN(.mode = JOINS, .fail_fast = true, .fail_b = -EIO, .slow = true);
    open_gate("b"); /* fails, and its defer takes its time: it is not over yet */
    EXPECT_EQ(o.group.count, 2);
    takt_event_set(&slow);
    takt_event_reset(&slow); /* lets go who waits now: b */
    turn();
    EXPECT_EQ(o.group.count, 1);
    EXPECT_TRACE("b"); /* a is cancelled, but not over: the catch has not run */
    takt_event_set(&slow);
    finish();
    EXPECT_EQ(o.error, -EIO);
    EXPECT_TRACE("b~aC.");
}

static void an_error_comes_before_the_join(void)
{
    OWN(.mode = WAITS, .fail_fast = true, .fail_a = -EIO);
    open_gate("a");
    finish();
    EXPECT_EQ(o.error, -EIO);
    EXPECT(hold.line.first == NULL);
    EXPECT_TRACE("a~bC.");
    OWN(.mode = WAITS, .fail_a = -EIO, .fail_b = -EPIPE); /* collected: it does not disturb */
    open_gate("a");
    open_gate("b");
    EXPECT_TRACE("ab");
    takt_event_set(&hold);
    finish();
    EXPECT_TRACE("ab!.");
    EXPECT_EQ(o.group.failed, 2);
}

static void an_error_interrupts_what_the_owner_calls(void)
{
    OWN(.mode = CALLS, .fail_fast = true, .fail_b = -EIO);
    open_gate("b");
    finish();
    EXPECT_EQ(o.error, -EIO);
    EXPECT_TRACE("b~ac.C.");
}

/* The last member fails: the owner wakes once, with the error. */
static void an_error_of_the_last_member_is_thrown(void)
{
    OWN(.mode = JOINS, .fail_fast = true, .fail_a = -EIO);
    open_gate("b");
    EXPECT_EQ(o.group.count, 1);
    open_gate("a");
    finish();
    EXPECT_EQ(o.error, -EIO);
    EXPECT_TRACE("baC.");
    OWN(.mode = JOINS, .fail_fast = true, .fail_a = -EIO, .fail_b = -EPIPE); /* both at once */
    takt_event_set(&gates[0]);
    takt_event_set(&gates[1]);
    finish();
    EXPECT_EQ(o.error, -EIO);
    EXPECT_EQ(o.group.first_error, -EIO);
    EXPECT_TRACE("abC.");
}

/* While the owner is on its way out, errors of members change nothing any more. */
static void an_error_while_the_owner_unwinds_is_not_thrown(void)
{
    OWN(.mode = UNWINDS, .fail_fast = true, .fail_a = -EIO, .slow = true);
    turn();
    EXPECT_TRACE("");
    takt_event_set(&gates[0]);
    takt_event_set(&slow);
    finish();
    EXPECT_EQ(o.error, -EPERM);
    EXPECT_EQ(o.group.failed, 0);
    EXPECT_TRACE("~a~bC.");
}

/* -- leaving --------------------------------------------------------------------------- */

static void an_owner_that_leaves_cancels_all_its_groups_and_waits(void)
{
    OWN(.mode = RETURNS);
    turn();
    EXPECT_EQ(o.group.count, 0);
    EXPECT_EQ(o.other.count, 1);
    EXPECT_TRACE("~a~b");
    takt_event_set(&slow);
    finish();
    EXPECT_TRACE("~a~b~c.");
    OWN(.mode = CATCHES);
    finish();
    EXPECT_EQ(o.error, -EPERM);
    EXPECT_TRACE("~a~bC.");
}

static void an_owner_that_is_cancelled_takes_its_members_along(void)
{
    OWN(.mode = JOINS, .slow = true);
    takt_cancel(&o.frame);
    turn();
    EXPECT_EQ(o.group.count, 2);
    EXPECT(takt_alive(&o.frame));
    takt_event_set(&slow);
    finish();
    EXPECT_EQ(takt_error(&o.frame), TAKT_ECANCELED);
    EXPECT_EQ(o.group.failed, 0);
    EXPECT_TRACE("~b~a."); /* a catch does not see a cancellation */
}

static void a_group_that_is_cancelled_ends_its_join(void)
{
    OWN(.mode = CANCELS, .fail_fast = true, .slow = true);
    takt_group_cancel(&o.group);
    takt_group_cancel(&o.group);
    turn();
    EXPECT_EQ(o.group.count, 2);
    EXPECT_TRACE("");
    takt_event_set(&slow);
    finish();
    EXPECT_EQ(o.group.failed, 0);
    EXPECT_TRACE("~b~a!."); /* the join has succeeded */
}

static void a_drain_takes_groups_apart(void)
{
    OWN(.mode = JOINS, .slow = true);
    EXPECT_EQ(net_drain(&loop), 3);
    EXPECT_EQ(loop.sched.strands_used, 0);
    EXPECT_EQ(net_free(&loop), 0);
    EXPECT(takt_finished(&o.frame));
}

/* -- used again -------------------------------------------------------------------------- */

static void a_group_is_used_again_after_its_end(void)
{
    OWN(.mode = TWICE);
    open_gate("a");
    open_gate("b");
    EXPECT_TRACE("abJJ");
    open_gate("a");
    finish();
    EXPECT_TRACE("abJJa!.");
    OWN(.mode = TWICE, .fail_a = -EIO); /* the counts go on */
    open_gate("b");
    open_gate("a");
    open_gate("a");
    finish();
    EXPECT_EQ(o.group.failed, 2);
    EXPECT_TRACE("baJJa!.");
}

/* -- without an owner ----------------------------------------------------------------------- */

static takt_group group;

static void a_group_in_a_plain_struct_needs_no_coroutine(void)
{
    setup();
    memset(&group, 0, sizeof group);
    takt_group_cancel(&group); /* nothing */
    EXPECT(TAKT_GO_ON(&loop, group, member, .name = "a", .fail = -EIO));
    EXPECT(TAKT_GO_ON(&loop, group, member, .name = "b"));
    EXPECT_EQ(group.count, 2);
    turn();
    open_gate("a");
    EXPECT_EQ(group.count, 1);
    EXPECT_EQ(group.failed, 1);
    takt_group_cancel(&group);
    finish();
    EXPECT_EQ(group.count, 0);
    EXPECT_EQ(group.failed, 1);
    EXPECT_EQ(group.first_error, -EIO);
    EXPECT_TRACE("a~b");
}

/* Its errors cancel all each time, not only the first time it is used; and it may move on
 * to another loop when it is empty. */
static void failing_fast_works_each_time(void)
{
    memset(&group, 0, sizeof group);
    group.fail_fast = true;
    for (uint32_t i = 1; i <= 3; i++) {
        if (i != 2)
            setup();
        memset(gates, 0, sizeof gates);
        EXPECT(TAKT_GO_ON(&loop, group, member, .name = "a", .fail = -EIO));
        EXPECT(TAKT_GO_ON(&loop, group, member, .name = "b"));
        turn();
        open_gate("a");
        EXPECT_EQ(net_run(&loop), 0);
        EXPECT_EQ(group.failed, i);
        EXPECT_EQ(group.count, 0);
        if (i != 1)
            finish();
    }
    EXPECT_TRACE("a~b");
}

static void a_cancelled_group_can_be_used_on_another_loop(void)
{
    static net first;
    net_config config = net_defaults();
    TAKT_POOL(config, member, 1);
    memset(&group, 0, sizeof group);
    EXPECT_EQ(net_init(&first, &config), 0);
    EXPECT(TAKT_GO_ON(&first, group, member, .name = "a"));
    EXPECT_EQ(net_free(&first), 0);
    EXPECT_EQ(group.count, 0);
    memset(&first, 0x55, sizeof first); /* it is gone */
    setup();
    EXPECT(TAKT_GO_ON(&loop, group, member, .name = "b"));
    turn();
    takt_group_cancel(&group);
    finish();
    EXPECT_TRACE("~b");
}

/* Anybody may wait for its end. */
struct joiner {
    takt_frame frame;
    takt_group *group;
    const char *name;
};

static TAKT_CORO(joiner)
{
    TAKT_BEGIN(joiner, my);
    TAKT_JOIN_GROUP(*my->group);
    note(my->name);
    TAKT_END;
}

static void anybody_may_join_a_group(void)
{
    static struct joiner x, y, z;
    setup();
    memset(&group, 0, sizeof group);
    EXPECT(TAKT_GO_ON(&loop, group, member, .name = "a"));
    EXPECT(TAKT_GO_ON(&loop, group, member, .name = "b"));
    EXPECT(TAKT_START_ON(&loop, x, joiner, .group = &group, .name = "x"));
    EXPECT(TAKT_START_ON(&loop, y, joiner, .group = &group, .name = "y"));
    EXPECT(TAKT_START_ON(&loop, z, joiner, .group = &group, .name = "z"));
    turn();
    open_gate("a");
    takt_cancel(&y.frame);
    turn();
    EXPECT(!takt_alive(&y.frame));
    EXPECT_TRACE("a");
    open_gate("b");
    finish();
    EXPECT_EQ(group.joiners, 0);
    EXPECT_TRACE("abxz");
    OWN(.mode = JOINS); /* one with an owner too, though only that is thrown at */
    EXPECT(TAKT_START_ON(&loop, x, joiner, .group = &o.group, .name = "x"));
    turn();
    takt_cancel(&o.frame);
    finish();
    EXPECT_TRACE("~b~ax.");
}

/* -- whose it is ------------------------------------------------------------------------------ */

/* Puts one member into a group of somebody else's, and ends. */
struct guest {
    takt_frame frame;
    takt_group *group;
    bool went;
};

static TAKT_CORO(guest)
{
    TAKT_BEGIN(guest, my);
    my->went = TAKT_GO(*my->group, member, .name = "c");
    TAKT_YIELD;
    note("g");
    TAKT_END;
}

static void a_group_belongs_to_who_put_the_first_member_in(void)
{
    static struct guest guest;
    OWN(.mode = JOINS);
    EXPECT(TAKT_START_ON(&loop, guest, guest, .group = &o.group));
    turn();
    turn();
    EXPECT(!takt_alive(&guest.frame)); /* it does not wait for it */
    EXPECT_EQ(o.group.count, 3);
    takt_cancel(&o.frame);
    finish();
    EXPECT_TRACE("g~c~b~a.");
    setup(); /* without one, it is the guest's own while that lives */
    memset(&group, 0, sizeof group);
    EXPECT(TAKT_START_ON(&loop, guest, guest, .group = &group));
    finish();
    EXPECT_TRACE("g~c");
    EXPECT(group.link.owner == NULL);
    setup();
    EXPECT(TAKT_GO_ON(&loop, group, member, .name = "a")); /* and nobody's after that */
    EXPECT(TAKT_START_ON(&loop, guest, guest, .group = &group));
    turn();
    turn();
    EXPECT_EQ(group.count, 2);
    takt_group_cancel(&group);
    finish();
    EXPECT_TRACE("g~c~a");
}

static void nobody_joins_a_group_whose_owner_leaves(void)
{
    static struct guest guest;
    for (int throws = 0; throws < 2; throws++) {
        OWN(.mode = throws ? CATCHES : JOINS, .slow = true);
        if (!throws)
            takt_cancel(&o.frame);
        turn();
        EXPECT_EQ(o.group.count, 2);
        EXPECT(TAKT_START_ON(&loop, guest, guest, .group = &o.group));
        EXPECT(!TAKT_GO_ON(&loop, o.group, member, .name = "d"));
        turn();
        EXPECT(!guest.went);
        EXPECT_EQ(o.group.count, 2);
        takt_event_set(&slow);
        finish();
        EXPECT_TRACE(throws ? "~a~bgC." : "~b~ag.");
    }
}

static void a_full_pool_refuses_and_the_group_is_as_it_was(void)
{
    setup();
    memset(&group, 0, sizeof group);
    for (int i = 0; i < 4; i++)
        EXPECT(TAKT_GO_ON(&loop, group, member, .name = "a"));
    EXPECT(!TAKT_GO_ON(&loop, group, member, .name = "b"));
    EXPECT_EQ(group.count, 4);
    EXPECT_EQ(group.failed, 0);
    open_gate("a");
    finish();
    EXPECT_TRACE("aaaa");
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        TEST(a_group_collects_errors_and_goes_on),
        TEST(the_first_error_cancels_all_and_is_thrown_in_a_join),
        TEST(the_owner_waits_for_those_that_end_slowly),
        TEST(an_error_comes_before_the_join),
        TEST(an_error_interrupts_what_the_owner_calls),
        TEST(an_error_of_the_last_member_is_thrown),
        TEST(an_error_while_the_owner_unwinds_is_not_thrown),
        TEST(an_owner_that_leaves_cancels_all_its_groups_and_waits),
        TEST(an_owner_that_is_cancelled_takes_its_members_along),
        TEST(a_group_that_is_cancelled_ends_its_join),
        TEST(a_drain_takes_groups_apart),
        TEST(a_group_is_used_again_after_its_end),
        TEST(a_group_in_a_plain_struct_needs_no_coroutine),
        TEST(failing_fast_works_each_time),
        TEST(a_cancelled_group_can_be_used_on_another_loop),
        TEST(anybody_may_join_a_group),
        TEST(a_group_belongs_to_who_put_the_first_member_in),
        TEST(nobody_joins_a_group_whose_owner_leaves),
        TEST(a_full_pool_refuses_and_the_group_is_as_it_was),
    };
    return RUN_TESTS(argc, argv, tests);
}

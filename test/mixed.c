/*
 * mixed.c - a file that does not look for misuse, with an implementation that does
 */
#undef TAKT_DEBUG
#define TAKT_DEBUG 0
#include "../takt.h"

#include "test.h"

#undef TAKT__GUARDED
#define TAKT__GUARDED 0
TAKT_LOOP(net, takt_posix);
static net loop;
static takt_event its_time;
static takt_group nappers;

struct napper {
    takt_frame frame;
};

static TAKT_CORO(napper)
{
    TAKT_BEGIN(napper, my);
    TAKT_AWAIT(takt_sleep(1));
    note("n");
    TAKT_END;
}

struct callee {
    takt_frame frame;
};

static TAKT_CORO(callee)
{
    TAKT_BEGIN(callee, my);
    TAKT_JOIN_GROUP(nappers);
    note("c");
    TAKT_END;
}

struct caller {
    takt_frame frame;
    struct callee callee;
};

static TAKT_CORO(caller)
{
    TAKT_BEGIN(caller, my);
    TAKT_AWAIT(takt_event_wait(&its_time));
    TAKT_CALL(my->callee, callee);
    note("C");
    TAKT_END;
}

#undef TAKT_DEBUG
#define TAKT_DEBUG 1
#undef TAKT__GUARDED
#define TAKT__GUARDED 1
#define TAKT_IMPLEMENTATION
#include "../takt.h"

/* What the file does not tell the implementation of is no mistake. */
static void where_nobody_looks_nothing_is_found(void)
{
    static struct caller a;
    net_config config = net_defaults();
    TAKT_POOL(config, napper, 1);
    EXPECT_EQ(net_init(&loop, &config), 0);
    EXPECT(loop.sched.watches == NULL);
    EXPECT(TAKT_GO_ON(&loop, nappers, napper));
    EXPECT(TAKT_START_ON(&loop, a, caller));
    EXPECT(net_turn(&loop, 0, 0) >= 0);
    takt_event_set(&its_time);
    EXPECT_EQ(net_run(&loop), 0);
    EXPECT_TRACE("ncC");
    EXPECT_EQ(net_free(&loop), 0);
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        TEST(where_nobody_looks_nothing_is_found),
    };
    return RUN_TESTS(argc, argv, tests);
}

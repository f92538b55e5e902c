/*
 * dump.c - where everything stands
 */
static void remember(const char *text);
#define TAKT_LOG(text) remember(text)
#define TAKT_IMPLEMENTATION
#include "../takt.h"

#include "test.h"

#include <sys/socket.h>

TAKT_LOOP(net, takt_posix);
static net loop;
static char lines[32][256];
static int line_count;

static void remember(const char *text)
{
    snprintf(lines[line_count % 32], sizeof lines[0], "%s", text);
    line_count++;
}

static void print(void *user, const char *line)
{
    EXPECT(user == &line_count);
    EXPECT(strchr(line, '\n') == NULL);
    remember(line);
}

/* The number of the first line that begins with `name` at any depth, or -1. */
static int find(const char *name)
{
    for (int i = 0; i < line_count && i < 32; i++) {
        const char *const at = lines[i] + strspn(lines[i], " ");
        if (strncmp(at, name, strlen(name)) == 0 && at[strlen(name)] == ' ')
            return i;
    }
    return -1;
}

static int depth(int i)
{
    return i < 0 ? -1 : (int)strspn(lines[i], " ") / 2;
}

static bool says(int i, const char *text)
{
    const bool yes = i >= 0 && strstr(lines[i], text);
    if (!yes)
        printf("no \"%s\" in \"%s\"\n", text, i < 0 ? "(no such line)" : lines[i]);
    return yes;
}

/* -- a tree ----------------------------------------------------------------- */

static int pair[2];
static int recv_line, call_line; /* where they are suspended */
static takt_event event;

struct reading {
    takt_frame frame;
    char c;
};

static TAKT_CORO(reading)
{
    TAKT_BEGIN(reading, my);
    recv_line = __LINE__ + 1;
    TAKT_AWAIT(takt_within(90 * TAKT_SEC, takt_recv(pair[0], &my->c, 1)));
    TAKT_END;
}

struct waiting {
    takt_frame frame;
};

static TAKT_CORO(waiting)
{
    TAKT_BEGIN(waiting, my);
    TAKT_AWAIT(takt_event_wait(&event));
    TAKT_END;
}

struct dozing {
    takt_frame frame;
};

static TAKT_CORO(dozing)
{
    TAKT_BEGIN(dozing, my);
    TAKT_AWAIT(takt_sleep(600 * TAKT_SEC));
    TAKT_END;
}

struct tree {
    takt_frame frame;
    struct reading reading;
    struct waiting waiting;
    struct dozing fresh;
    takt_group group;
};

static TAKT_CORO(tree)
{
    TAKT_BEGIN(tree, my);
    TAKT_START(my->waiting, waiting);
    EXPECT(TAKT_GO(my->group, dozing));
    call_line = __LINE__ + 1;
    TAKT_CALL(my->reading, reading);
    TAKT_END;
}

static struct tree root;

static void setup(void)
{
    net_config config = net_defaults();
    TAKT_POOL(config, dozing, 2);
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    EXPECT_EQ(net_init(&loop, &config), 0);
    EXPECT(TAKT_START_ON(&loop, root, tree));
    EXPECT(net_turn(&loop, 0, 0) >= 0);
    EXPECT(net_turn(&loop, 0, 0) >= 0);
    line_count = 0;
}

static void finish(void)
{
    EXPECT_EQ(net_drain(&loop), 2);
    EXPECT_EQ(loop.sched.strands_used, 0);
    EXPECT_EQ(net_free(&loop), 0);
    close(pair[0]);
    close(pair[1]);
}

static void every_strand_stands_in_the_dump_where_it_belongs(void)
{
    char text[64];
    setup();
    takt_dump_to(&loop.sched, print, &line_count);
    EXPECT_EQ(line_count, 5); /* what there is in all, and four frames */
    EXPECT(says(0, "2 tasks") && says(0, "3 of ") && says(0, "2 timers"));

    snprintf(text, sizeof text, "dump.c:%d", call_line);
    EXPECT(says(find("tree"), text));
    EXPECT(says(find("tree"), "calls"));
    snprintf(text, sizeof text, "dump.c:%d", recv_line);
    EXPECT(says(find("reading"), text));
    snprintf(text, sizeof text, "recv fd %d", pair[0]);
    EXPECT(says(find("reading"), text));
    EXPECT(says(find("reading"), "for at most 8") || says(find("reading"), "for at most 90"));
    EXPECT(says(find("waiting"), "event"));
    EXPECT(strstr(lines[find("waiting")], " fd ") == NULL);
    EXPECT(says(find("dozing"), "sleep"));
    EXPECT_EQ(depth(find("tree")), 1);
    EXPECT_EQ(depth(find("reading")), 2);
    EXPECT_EQ(depth(find("waiting")), 2); /* a child of its starter */
    EXPECT_EQ(depth(find("dozing")), 2);  /* a member of a group of its owner */
    finish();
}

static void a_dump_tells_who_is_cancelled_and_who_has_not_run(void)
{
    static struct dozing fresh;
    setup();
    takt_cancel(&root.frame);
    EXPECT(TAKT_START_ON(&loop, fresh, dozing));
    takt_dump(&loop.sched); /* to the log */
    EXPECT(line_count > 5);
    EXPECT(says(find("reading"), "cancelled"));
    EXPECT(strstr(lines[find("waiting")], "cancelled") == NULL); /* not yet */
    EXPECT(find("(a") >= 0);
    takt_cancel(&fresh.frame);
    EXPECT_EQ(net_run(&loop), 0);
    line_count = 0;
    takt_dump(&loop.sched);
    EXPECT_EQ(line_count, 1);
    EXPECT(says(0, "0 tasks") && says(0, "0 timers"));
    EXPECT_EQ(net_free(&loop), 0);
    close(pair[0]);
    close(pair[1]);
}

static void a_dump_tells_that_the_loop_is_stopping(void)
{
    setup();
    net_stop(&loop, TAKT_FOREVER);
    takt_dump(&loop.sched);
    EXPECT(says(0, "stopping"));
    finish();
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        TEST(every_strand_stands_in_the_dump_where_it_belongs),
        TEST(a_dump_tells_who_is_cancelled_and_who_has_not_run),
        TEST(a_dump_tells_that_the_loop_is_stopping),
    };
    return RUN_TESTS(argc, argv, tests);
}

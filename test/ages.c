/*
 * ages.c - TAKT_AGES: a dump tells of every op how long it has been awaited
 */
static void remember(const char *text);
#define TAKT_AGES
#define TAKT_LOG(text) remember(text)
#define TAKT_IMPLEMENTATION
#include "../takt.h"

#include "test.h"

#include <sys/socket.h>
#include <unistd.h>

TAKT_LOOP(net, takt_posix);
static net loop;
static char said[16][256];
static int said_count;
static int pair[2];
static takt_event event;

static void remember(const char *text)
{
    snprintf(said[said_count++ % 16], sizeof said[0], "%s", text);
}

/* The number before "ms already" in the line that holds `text`, or -1. */
static long age(const char *text)
{
    for (int i = 0; i < said_count && i < 16; i++)
        if (strstr(said[i], text) && strstr(said[i], ", for ") && strstr(said[i], " ms already"))
            return atol(strstr(said[i], ", for ") + 6);
    printf("no age of %s\n", text);
    return -1;
}

struct reading {
    takt_frame frame;
    char c;
    int fd; /* in */
    ptrdiff_t n;
};

static TAKT_CORO(reading)
{
    TAKT_BEGIN(reading, my);
    TAKT_AWAIT(my->n, takt_recv(my->fd, &my->c, 1));
    EXPECT_EQ(my->n, 1); /* a result, not when it began */
    TAKT_AWAIT(takt_event_wait(&event));
    TAKT_END;
}

struct batch {
    takt_frame frame;
    takt_op ops[2];
    char c;
};

static TAKT_CORO(batch)
{
    TAKT_BEGIN(batch, my);
    my->ops[0] = takt_event_wait(&event);
    my->ops[1] = takt_recv(pair[1], &my->c, 1);
    TAKT_AWAIT_ALL(my->ops, 2);
    EXPECT_EQ(my->ops[0].result, 0);
    EXPECT_EQ(my->ops[1].result, 1);
    TAKT_END;
}

struct sleeping {
    takt_frame frame;
};

static TAKT_CORO(sleeping)
{
    TAKT_BEGIN(sleeping, my);
    TAKT_AWAIT(takt_sleep(600 * TAKT_SEC));
    TAKT_END;
}

static void pass(int ms)
{
    const takt_ns until = net_now(&loop) + ms * TAKT_MS;
    while (net_now(&loop) < until)
        EXPECT(net_turn(&loop, until - net_now(&loop), 0) >= 0);
    said_count = 0;
    takt_dump(&loop.sched);
}

static void every_op_has_an_age(void)
{
    static struct reading reading;
    static struct batch batch;
    static struct sleeping sleeping;
    const net_config config = net_defaults();
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    EXPECT_EQ(net_init(&loop, &config), 0);
    EXPECT(TAKT_START_ON(&loop, reading, reading, .fd = pair[0]));
    EXPECT(TAKT_START_ON(&loop, batch, batch));
    EXPECT(TAKT_START_ON(&loop, sleeping, sleeping));
    EXPECT(net_turn(&loop, 0, 0) >= 0); /* they wait from here on */
    pass(30);
    EXPECT(age("awaits recv") >= 29 && age("awaits recv") < 5000);
    EXPECT(age("] event") >= 29 && age("] recv") >= 29);
    EXPECT(age("awaits sleep") >= 29 && age("awaits sleep") < 5000);
    EXPECT_EQ(write(pair[1], "x", 1), 1);
    EXPECT(net_turn(&loop, TAKT_SEC, 0) > 0);
    pass(1);
    EXPECT(age("awaits event") <= age("] recv") - 25); /* its age begins anew with each op */
    EXPECT_EQ(write(pair[0], "x", 1), 1);
    takt_event_set(&event);
    takt_cancel(&sleeping.frame);
    EXPECT_EQ(net_run(&loop), 0);
    EXPECT_EQ(net_free(&loop), 0);
    close(pair[0]);
    close(pair[1]);
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        TEST(every_op_has_an_age),
    };
    return RUN_TESTS(argc, argv, tests);
}

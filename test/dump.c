/*
 * dump.c - where everything stands
 */
void remember(const char *text);
#define TAKT_LOG(text) remember(text)
#define TAKT_IMPLEMENTATION
#include "../takt.h"

#include "test.h"

#include <sys/socket.h>
#include <unistd.h>

TAKT_LOOP(net, takt_posix);
static net loop;
static char lines[32][256];
static int line_count;

void remember(const char *text)
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

/* The first line that holds `text`, or -1. */
static int line_with(const char *text)
{
    for (int i = 0; i < line_count && i < 32; i++)
        if (strstr(lines[i], text))
            return i;
    return -1;
}

static bool says(int i, const char *text)
{
    const bool yes = i >= 0 && strstr(lines[i], text);
    if (!yes)
        printf("no \"%s\" in \"%s\"\n", text, i < 0 ? "(no such line)" : lines[i]);
    return yes;
}

static uint64_t number_behind(int i, const char *text)
{
    const char *const at = i < 0 ? NULL : strstr(lines[i], text);
    return at ? strtoull(at + strlen(text), NULL, 10) : 0;
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

struct failing {
    takt_frame frame;
};

static TAKT_CORO(failing)
{
    TAKT_BEGIN(failing, my);
    TAKT_THROW(-EPROTO);
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

static void finish_after(int discarded)
{
    EXPECT_EQ(net_drain(&loop), discarded);
    EXPECT_EQ(loop.sched.strands_used, 0);
    EXPECT_EQ(net_free(&loop), 0);
    close(pair[0]);
    close(pair[1]);
}

static void finish(void)
{
    finish_after(2);
}

static void every_strand_stands_in_the_dump_where_it_belongs(void)
{
    char text[64];
    setup();
    takt_dump_to(&loop.sched, print, &line_count);
    EXPECT_EQ(line_count, 7); /* what there is in all, four frames, a group, a pool */
    EXPECT(says(0, "2 tasks") && says(0, "3 of ") && says(0, "2 timers, turn 2"));

    snprintf(text, sizeof text, "dump.c:%d", call_line);
    EXPECT(says(find("tree"), text));
    EXPECT(says(find("tree"), "calls"));
    snprintf(text, sizeof text, "dump.c:%d", recv_line);
    EXPECT(says(find("reading"), text));
    snprintf(text, sizeof text, "recv fd %d", pair[0]);
    EXPECT(says(find("reading"), text));
    EXPECT(says(find("reading"), ", for ") && says(find("reading"), " ms left"));
    EXPECT(number_behind(find("reading"), " ms already, ") - 1 < 90000);
    EXPECT(says(find("waiting"), "event"));
    EXPECT(strstr(lines[find("waiting")], " fd ") == NULL);
    EXPECT(says(find("dozing"), "sleep, for ") && says(find("dozing"), " ms left"));
    EXPECT(number_behind(find("dozing"), ", for ") < 60000);
    EXPECT(number_behind(find("reading"), ", for ") < 60000);
    EXPECT(says(find("(a"), "(a group of 1)"));
    EXPECT(says(find("pool"), "pool dozing: 1 of 2 used, at most 1, refused: 0"));
    EXPECT_EQ(depth(find("tree")), 1);
    EXPECT_EQ(depth(find("reading")), 2);
    EXPECT_EQ(depth(find("waiting")), 2); /* a child of its starter */
    EXPECT_EQ(depth(find("(a")), 2);      /* its group */
    EXPECT_EQ(depth(find("dozing")), 3);  /* a member of that */
    finish();
}

static void a_dump_tells_who_is_cancelled_and_who_has_not_run(void)
{
    static struct dozing fresh;
    static struct waiting nameless;
    setup();
    takt_cancel(&root.frame);
    EXPECT(TAKT_START_ON(&loop, fresh, dozing));
    EXPECT(TAKT_START_ON(&loop, nameless, waiting));
    takt_dump(&loop.sched); /* to the log */
    EXPECT(line_count > 5);
    EXPECT(says(find("reading"), "cancelled"));
    EXPECT(strstr(lines[find("waiting")], "cancelled") == NULL); /* not yet */
    EXPECT(line_with("dozing  has not run yet") >= 0); /* its pool knows its name */
    EXPECT(line_with("(a coroutine)  has not run yet") >= 0); /* nobody knows it yet */
    takt_cancel(&fresh.frame);
    takt_event_set(&event);
    EXPECT_EQ(net_run(&loop), 0);
    takt_event_reset(&event);
    line_count = 0;
    takt_dump(&loop.sched);
    EXPECT_EQ(line_count, 2);
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

/* -- whatever a strand can wait for ------------------------------------------ */

struct batch {
    takt_frame frame;
    takt_op ops[3];
    char c[2];
};

static TAKT_CORO(batch)
{
    TAKT_BEGIN(batch, my);
    my->ops[0] = takt_within(40 * TAKT_SEC, takt_sleep(600 * TAKT_SEC));
    my->ops[1] = takt_recv(pair[0], &my->c[0], 1);
    my->ops[2] = takt_within(70 * TAKT_SEC, takt_recv(pair[1], &my->c[1], 1));
    TAKT_AWAIT_ALL(my->ops, 3);
    TAKT_END;
}

struct racing {
    takt_frame frame;
    int winner;
    struct dozing a;
    struct waiting b;
};

static TAKT_CORO(racing)
{
    TAKT_BEGIN(racing, my);
    TAKT_START(my->a, dozing);
    TAKT_START(my->b, waiting);
    TAKT_RACE(my->winner, my->a, my->b);
    TAKT_END;
}

struct scoped {
    takt_frame frame;
    takt_idle idle;
    struct racing racing;
};

static TAKT_CORO(scoped)
{
    TAKT_BEGIN(scoped, my);
    takt_idle_start(&my->frame, &my->idle, 50 * TAKT_SEC);
    TAKT_CALL_WITHIN(30 * TAKT_SEC, my->racing, racing);
    TAKT_END;
}

struct leaver {
    takt_frame frame;
    takt_semaphore none;
};

static TAKT_CORO(leaver)
{
    TAKT_BEGIN(leaver, my);
    TAKT_DEFER { TAKT_AWAIT(takt_acquire(&my->none)); }
    TAKT_THROW(-EPROTO);
    TAKT_CATCH { TAKT_AWAIT(takt_event_wait(&event)); }
    TAKT_END;
}

static void each_kind_of_wait_has_its_words(void)
{
    static struct batch batch;
    static struct scoped scoped;
    static struct leaver leaver;
    setup();
    takt_cancel(&root.frame);
    EXPECT(net_turn(&loop, 0, 0) >= 0);
    EXPECT(TAKT_START_ON(&loop, batch, batch) && TAKT_START_ON(&loop, scoped, scoped) &&
           TAKT_START_ON(&loop, leaver, leaver));
    EXPECT(net_turn(&loop, 0, 0) >= 0);
    EXPECT(net_turn(&loop, 0, 0) >= 0);
    line_count = 0;
    takt_dump(&loop.sched);

    EXPECT(says(find("batch"), "awaits a batch of 3, begun: 3"));
    EXPECT(says(find("[0]"), "sleep, for ") && number_behind(find("[0]"), "already, ") > 0);
    EXPECT(number_behind(find("[0]"), "already, ") < 40000);
    EXPECT(number_behind(find("[0]"), ", for ") < 60000);
    EXPECT(says(find("[1]"), "recv fd ") && !strstr(lines[find("[1]")], "left"));
    EXPECT(says(find("[2]"), "recv fd ") && says(find("[2]"), "left"));
    EXPECT_EQ(depth(find("[1]")), depth(find("batch")) + 1);
    EXPECT(number_behind(find("scoped"), "calls within a limit, ") - 1 < 30000);
    EXPECT(number_behind(find("(an"), "(an idle limit, ") - 1 < 50000);
    EXPECT(says(find("racing"), "races 2"));
    EXPECT_EQ(depth(find("racing")), 2);
    EXPECT_EQ(depth(find("waiting")), 3);
    EXPECT(says(find("leaver"), "awaits event, in its catch, error -"));
    takt_event_set(&event);
    EXPECT(net_turn(&loop, 0, 0) >= 0);
    line_count = 0;
    takt_dump(&loop.sched);
    EXPECT(says(find("leaver"), "awaits semaphore, in its defer"));
    takt_release(&leaver.none, 1);
    takt_event_reset(&event);
    EXPECT(net_drain(&loop) >= 1);
    EXPECT_EQ(net_free(&loop), 0);
    close(pair[0]);
    close(pair[1]);
}

/* Everything else there is to wait for. */
struct sleeping {
    takt_frame frame;
    takt_op op; /* in */
};

static TAKT_CORO(sleeping)
{
    TAKT_BEGIN(sleeping, my);
    TAKT_AWAIT(my->op);
    TAKT_END;
}

static takt_event late; /* lets those go that are slow to end */

struct slow {
    takt_frame frame;
};

static TAKT_CORO(slow)
{
    TAKT_BEGIN(slow, my);
    TAKT_DEFER { TAKT_AWAIT(takt_event_wait(&late)); }
    TAKT_AWAIT(takt_event_wait(&event));
    TAKT_END;
}

enum ways { JOINS, JOINS_A_GROUP, TAKES, RETURNS, THROWS, FAILED, WAYS };

struct waits {
    takt_frame frame;
    enum ways how; /* in */
    takt_group group;
    takt_stream stream;
    takt_item item;
    struct slow child;
};

static TAKT_CORO(waits)
{
    TAKT_BEGIN(waits, my);
    if (my->how == JOINS || my->how >= RETURNS)
        TAKT_START(my->child, slow);
    TAKT_YIELD;
    if (my->how == JOINS)
        TAKT_JOIN(my->child);
    if (my->how == RETURNS)
        TAKT_RETURN;
    if (my->how == THROWS)
        TAKT_THROW(-EPROTO);
    if (my->how == TAKES) {
        TAKT_OPEN(my->stream, takt_every(600 * TAKT_SEC));
        TAKT_NEXT(my->item, my->stream);
    }
    if (my->how == JOINS_A_GROUP || my->how == FAILED) {
        EXPECT(TAKT_GO(my->group, dozing));
        if (my->how == FAILED)
            EXPECT(TAKT_GO(my->group, failing));
        TAKT_JOIN_GROUP(my->group);
    }
    TAKT_CATCH { note("c"); }
    TAKT_END;
}

static void the_other_waits_have_their_words_too(void)
{
    static const char *const words[WAYS] = {
        "joins 1", "joins a group", "awaits an item of a stream",
        "waits for its children to end, leaving",
        "waits for its children to end, throwing, error -",
        "joins a group"};
    for (int how = 0; how < WAYS; how++) {
        static struct waits it;
        net_config config = net_defaults();
        TAKT_POOL(config, dozing, 1);
        TAKT_POOL(config, failing, 1);
        EXPECT_EQ(net_init(&loop, &config), 0);
        takt_event_reset(&event);
        takt_event_reset(&late);
        EXPECT(TAKT_START_ON(&loop, it, waits, .how = (enum ways)how));
        for (int i = 0; i < 3; i++)
            EXPECT(net_turn(&loop, 0, 0) >= 0);
        line_count = 0;
        takt_dump(&loop.sched);
        EXPECT(says(find("waits"), words[how]));
        EXPECT_EQ(find("slow") >= 0, how == JOINS || how >= RETURNS);
        if (how == FAILED)
            EXPECT(says(find("(a"), "(a group of 1, failed: 1, the first with -"));
        takt_event_set(&late);
        net_drain(&loop);
        EXPECT(takt_finished(&it.frame));
        EXPECT_EQ(net_free(&loop), 0);
    }
}

/* What has no limit, or one that several share, tells no age. */
static void where_nobody_looked_at_the_clock_no_age_is_told(void)
{
    static struct sleeping it[4];
    takt_ns soon;
    const net_config config = net_defaults();
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    EXPECT_EQ(net_init(&loop, &config), 0);
    soon = takt_after(net_now(&loop), 40 * TAKT_SEC);
    memset(&event, 0, sizeof event);
    EXPECT(TAKT_START_ON(&loop, it[0], sleeping, .op = takt_sleep(TAKT_FOREVER)));
    EXPECT(TAKT_START_ON(&loop, it[1], sleeping, .op = takt_by(soon, takt_sleep(TAKT_FOREVER))));
    EXPECT(TAKT_START_ON(&loop, it[2], sleeping,
                         .op = takt_by(soon, takt_ready(pair[0], TAKT_READABLE))));
    EXPECT(TAKT_START_ON(&loop, it[3], sleeping,
                         .op = takt_within(40 * TAKT_SEC, takt_event_wait(&event))));
    EXPECT(net_turn(&loop, 0, 0) >= 0);
    line_count = 0;
    takt_dump(&loop.sched);
    EXPECT_EQ(line_count, 5);
    EXPECT(says(line_with(" event"), "already")); /* the last that began stands first */
    EXPECT(!strstr(lines[2], "already") && says(2, "readiness fd ") && says(2, " left"));
    EXPECT(!strstr(lines[3], "already") && says(3, "sleep, ") && says(3, " left"));
    EXPECT(!strstr(lines[4], "already") && says(4, "sleep"));
    EXPECT_EQ(net_drain(&loop), 4);
    line_count = 0;
    takt_dump(&loop.sched);
    EXPECT(says(0, "ended: "));
    EXPECT_EQ(net_free(&loop), 0);
    close(pair[0]);
    close(pair[1]);
}

/* From inside: it is one of them. */
struct curious {
    takt_frame frame;
    bool clock;
};

static TAKT_CORO(curious)
{
    TAKT_BEGIN(curious, my);
    if (my->clock)
        EXPECT(takt_now(&my->frame) > 0);
    takt_dump(takt_sched_of(&my->frame));
    TAKT_END;
}

static void a_coroutine_can_look_around(void)
{
    static struct curious it;
    for (int clock = 0; clock < 2; clock++) {
        setup();
        EXPECT(TAKT_START_ON(&loop, it, curious, .clock = clock == 1));
        EXPECT(net_turn(&loop, 0, 0) >= 0);
        EXPECT(says(find("curious"), "runs, or is ready to"));
        EXPECT(number_behind(find("dozing"), ", for ") < 60000);
        finish();
    }
}

struct leasing {
    takt_frame frame;
    takt_bufs *bufs; /* in */
    int fd;          /* in */
    unsigned char *data;
};

static TAKT_CORO(leasing)
{
    TAKT_BEGIN(leasing, my);
    TAKT_AWAIT(takt_recv_lease(my->fd, my->bufs, &my->data));
    TAKT_END;
}

struct asking {
    takt_frame frame;
    takt_bufs *bufs; /* in */
    unsigned char *data;
};

static TAKT_CORO(asking)
{
    TAKT_BEGIN(asking, my);
    TAKT_AWAIT(takt_lease(my->bufs, &my->data));
    TAKT_END;
}

/* Who asks for one to fill, too. */
static void who_asks_for_a_buffer_names_its_pool(void)
{
    static struct asking one;
    net_config config = net_defaults();
    takt_bufs bufs;
    unsigned char *data;
    EXPECT_EQ(takt_bufs_init(&bufs, 1, 64), 0);
    data = takt_bufs_take(&bufs);
    EXPECT_EQ(net_init(&loop, &config), 0);
    EXPECT(TAKT_START_ON(&loop, one, asking, .bufs = &bufs));
    EXPECT(net_turn(&loop, 0, 0) >= 0);
    line_count = 0;
    takt_dump(&loop.sched);
    EXPECT(says(find("buffers"), "of 64 bytes: 1 of 1 used, at most "));
    EXPECT_EQ(net_drain(&loop), 1);
    EXPECT_EQ(net_free(&loop), 0);
    EXPECT_EQ(takt_bufs_put(&bufs, &data), 0);
    takt_bufs_free(&bufs);
}

static void a_group_of_nobody_is_found_and_so_are_buffers(void)
{
    static struct leasing a, b;
    takt_group outside;
    takt_bufs bufs;
    unsigned char *data;
    memset(&outside, 0, sizeof outside);
    EXPECT_EQ(takt_bufs_init(&bufs, 5, 2048), 0);
    data = takt_bufs_take(&bufs);
    setup();
    takt_cancel(&root.frame);
    EXPECT(net_turn(&loop, 0, 0) >= 0);
    EXPECT(TAKT_GO_ON(&loop, outside, dozing));
    EXPECT(TAKT_GO_ON(&loop, outside, dozing));
    EXPECT(!TAKT_GO_ON(&loop, outside, dozing)); /* the pool is for two */
    EXPECT(TAKT_START_ON(&loop, a, leasing, .bufs = &bufs, .fd = pair[0]));
    EXPECT(TAKT_START_ON(&loop, b, leasing, .bufs = &bufs, .fd = pair[1]));
    line_count = 0;
    takt_dump(&loop.sched);
    EXPECT(says(find("dozing"), "dozing  has not run yet")); /* its pool knows its name */
    EXPECT_EQ(line_with("buffers"), -1);
    EXPECT(net_turn(&loop, 0, 0) >= 0);
    line_count = 0;
    takt_dump(&loop.sched);
    EXPECT(says(find("(a"), "(a group of 2)"));
    EXPECT_EQ(depth(find("dozing")), depth(find("(a")) + 1);
    EXPECT(says(find("pool"), "2 of 2 used, at most 2, refused: 1"));
    EXPECT(says(find("buffers"), "of 2048 bytes: 1 of 5 used, at most "));
    EXPECT_EQ(line_count, line_with("buffers") + 1); /* two wait for them: named once */
    EXPECT_EQ(net_drain(&loop), 4);
    EXPECT_EQ(net_free(&loop), 0);
    EXPECT_EQ(takt_bufs_put(&bufs, &data), 0);
    takt_bufs_free(&bufs);
    close(pair[0]);
    close(pair[1]);
}

/* Sixteen of them: others are left out. */
static void of_many_pools_of_buffers_some_are_told(void)
{
    enum { POOLS = 18, TOLD = 16 };
    static struct leasing them[POOLS];
    takt_bufs bufs[POOLS];
    int pairs[POOLS / 2][2], told = 0;
    net_config config = net_defaults();
    EXPECT_EQ(net_init(&loop, &config), 0);
    for (int i = 0; i < POOLS; i++) {
        EXPECT_EQ(takt_bufs_init(&bufs[i], 1, 16), 0);
        if (i % 2 == 0)
            EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pairs[i / 2]), 0);
        EXPECT(TAKT_START_ON(&loop, them[i], leasing, .bufs = &bufs[i],
                             .fd = pairs[i / 2][i % 2]));
    }
    EXPECT(net_turn(&loop, 0, 0) >= 0);
    line_count = 0;
    takt_dump_to(&loop.sched, print, &line_count);
    EXPECT_EQ(line_count, 1 + POOLS + TOLD);
    for (int i = 0; i < 32; i++) /* as many as the test remembers */
        told += strncmp(lines[i], "buffers of 16 bytes: ", 21) == 0;
    EXPECT(told >= 32 - 1 - POOLS);
    EXPECT_EQ(net_drain(&loop), POOLS);
    EXPECT_EQ(net_free(&loop), 0);
    for (int i = 0; i < POOLS; i++) {
        close(pairs[i / 2][i % 2]);
        takt_bufs_free(&bufs[i]);
    }
}

struct deep {
    takt_frame frame;
    struct deep *next; /* in */
    struct waiting child;
};

static TAKT_CORO(deep)
{
    TAKT_BEGIN(deep, my);
    if (!my->next)
        TAKT_START(my->child, waiting); /* too deep to be told of */
    if (!my->next)
        TAKT_AWAIT(takt_event_wait(&event));
    else
        TAKT_CALL(*my->next, deep, .next = my->next[1].next ? my->next + 1 : NULL);
    TAKT_END;
}

static void a_stack_of_calls_without_end_is_cut(void)
{
    static struct deep frames[102];
    setup();
    for (int i = 0; i < 100; i++)
        frames[i].next = &frames[i + 1];
    EXPECT(TAKT_START_ON(&loop, frames[0], deep, .next = &frames[1]));
    EXPECT(net_turn(&loop, 0, 0) >= 0);
    line_count = 0;
    takt_dump(&loop.sched);
    EXPECT_EQ(line_count, 7 + 1 + 64);
    finish_after(3);
}

/* -- what it costs ----------------------------------------------------------- */

static void sizes_add_up_and_are_the_same_before_and_after_init(void)
{
    char before[32][256];
    int count;
    net_config config = net_defaults();
    TAKT_POOL(config, dozing, 1000, .strands = 2);
    TAKT_POOL(config, waiting, 10, .strands = 0); /* at least one */
    line_count = 0;
    takt_sizes(NULL, print, &line_count);
    EXPECT_EQ(line_count, 1);
    EXPECT_EQ(number_behind(0, "header "), sizeof(takt_frame));
    EXPECT_EQ(number_behind(0, "an op "), sizeof(takt_op));
    EXPECT_EQ(number_behind(0, "a strand "), sizeof(takt_strand));

    line_count = 0;
    takt_sizes(&config.loop, NULL, NULL);
    count = line_count;
    memcpy(before, lines, sizeof before);
    EXPECT_EQ(count, 6);
    EXPECT_EQ(number_behind(1, "struct "), sizeof(struct dozing));
    EXPECT_EQ(number_behind(1, "a task "), 48 + 2 * sizeof(takt_strand));
    EXPECT_EQ(number_behind(1, "in all "), 1000 * (48 + 2 * sizeof(takt_strand)));
    EXPECT_EQ(number_behind(2, "strands "), 1);
    EXPECT_EQ(number_behind(2, "in all "), 10 * (48 + sizeof(takt_strand)));
    EXPECT_EQ(number_behind(3, "in all "), 64 * sizeof(takt_strand));
    EXPECT_EQ(number_behind(4, "in all "), TAKT_DEFAULT_COMPLETIONS * sizeof(takt_completion));
    EXPECT_EQ(number_behind(5, "backend: "),
              sizeof(takt_sched) + number_behind(1, "in all ") + number_behind(2, "in all ") +
                  number_behind(3, "in all ") + number_behind(4, "in all "));

    EXPECT_EQ(net_init(&loop, &config), 0);
    line_count = 0;
    takt_sizes(&loop.sched.config, NULL, NULL);
    EXPECT_EQ(line_count, count);
    for (int i = 0; i < count; i++)
        EXPECT(strcmp(before[i], lines[i]) == 0);
    EXPECT_EQ(net_free(&loop), 0);
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        TEST(every_strand_stands_in_the_dump_where_it_belongs),
        TEST(a_dump_tells_who_is_cancelled_and_who_has_not_run),
        TEST(a_dump_tells_that_the_loop_is_stopping),
        TEST(each_kind_of_wait_has_its_words),
        TEST(the_other_waits_have_their_words_too),
        TEST(where_nobody_looked_at_the_clock_no_age_is_told),
        TEST(a_coroutine_can_look_around),
        TEST(who_asks_for_a_buffer_names_its_pool),
        TEST(a_group_of_nobody_is_found_and_so_are_buffers),
        TEST(of_many_pools_of_buffers_some_are_told),
        TEST(a_stack_of_calls_without_end_is_cut),
        TEST(sizes_add_up_and_are_the_same_before_and_after_init),
    };
    return RUN_TESTS(argc, argv, tests);
}

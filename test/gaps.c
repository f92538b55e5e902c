/*
 * gaps.c - what test/mutants.py found that no test looked at, on every real backend
 */
#define TAKT_IMPLEMENTATION
#include "../takt_uring.h"

#include "test.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

TAKT_LOOP(net, takt_uring);
static net loop;
static net_config wanted;
static const char *backend; /* epoll, poll or io_uring */
static char big[4 << 20];

static void setup(void)
{
    EXPECT_EQ(net_init(&loop, &wanted), 0);
}

static void finish(void)
{
    EXPECT_EQ(loop.sched.strands_used, 0);
    EXPECT_EQ(loop.sched.wheel.count, 0);
    EXPECT_EQ(net_free(&loop), 0);
}

/* Runs until `frame` has ended, or it has clearly been forgotten. */
static void drive(const takt_frame *frame)
{
    const takt_ns limit = net_now(&loop) + 10 * TAKT_SEC;
    while (takt_alive(frame) && net_now(&loop) < limit && !net_failed(&loop))
        net_turn(&loop, 100 * TAKT_MS, 0);
    EXPECT(!takt_alive(frame));
}

/* What is ready is done, and what is under way has been begun. */
static void settle(void)
{
    for (int i = 0; i < 5; i++)
        net_turn(&loop, TAKT_MS, 0);
}

static void pair_of(int type, int *pair)
{
    EXPECT_EQ(socketpair(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
}

static void close_pair(const int *pair)
{
    for (int i = 0; i < 2; i++)
        if (pair[i] >= 0)
            close(pair[i]);
}

/* Awaits one op, and notes `name`. */
struct single {
    takt_frame frame;
    takt_op op;       /* in */
    const char *name; /* in */
    int64_t result;
};

static TAKT_CORO(single)
{
    TAKT_BEGIN(single, my);
    TAKT_TRY_AWAIT(my->result, my->op);
    note(my->name);
    TAKT_END;
}

#define START(who, what, letter)                                                             \
    EXPECT(TAKT_START_ON(&loop, who, single, .op = (what), .name = (letter)))

/* -- closing ---------------------------------------------------------------------- */

static void a_close_is_over_after_what_was_in_flight(void)
{
    static struct single reader, writer, closer;
    static char c;
    int pair[2];
    setup();
    pair_of(SOCK_STREAM, pair);
    START(reader, takt_recv(pair[0], &c, 1), "r");
    START(writer, takt_send(pair[0], big, sizeof big), "w");
    settle();
    EXPECT_TRACE("");
    START(closer, takt_close(pair[0]), "c");
    drive(&closer.frame);
    settle();
    EXPECT_EQ(reader.result, TAKT_ECLOSED);
    EXPECT_EQ(writer.result, TAKT_ECLOSED);
    EXPECT_EQ(closer.result, 0);
    EXPECT(strlen(test_trace) == 3 && test_trace[2] == 'c');
    pair[0] = -1;
    close_pair(pair);
    finish();
}

/* While the kernel lets go of what is in flight, nothing else begins. */
static void nothing_begins_on_a_descriptor_that_is_being_closed(void)
{
    static struct single reader, closer, late;
    static char c;
    int pair[2];
    setup();
    pair_of(SOCK_STREAM, pair);
    START(reader, takt_recv(pair[0], &c, 1), "r");
    settle();
    START(closer, takt_close(pair[0]), "");
    START(late, takt_send(pair[0], "x", 1), "");
    drive(&closer.frame);
    drive(&late.frame);
    settle();
    EXPECT_EQ(reader.result, TAKT_ECLOSED);
    if (strcmp(backend, "io_uring") == 0)
        EXPECT_EQ(late.result, TAKT_ECLOSED);
    else
        EXPECT_EQ(late.result, -EBADF); /* there the close acts at once */
    pair[0] = -1;
    close_pair(pair);
    finish();
}

/* -- lines ------------------------------------------------------------------------ */

static void who_leaves_the_line_of_a_pool_takes_nobody_along(void)
{
    static struct single a, b, c;
    static unsigned char *data[3];
    unsigned char *held;
    takt_bufs pool;
    int pairs[3][2];
    setup();
    EXPECT_EQ(takt_bufs_init(&pool, 1, 64), 0);
    held = takt_bufs_take(&pool);
    for (int i = 0; i < 3; i++) {
        pair_of(SOCK_STREAM, pairs[i]);
        EXPECT_EQ(send(pairs[i][1], "x", 1, 0), 1);
    }
    START(a, takt_recv_lease(pairs[0][0], &pool, &data[0]), "a");
    START(b, takt_recv_lease(pairs[1][0], &pool, &data[1]), "b");
    settle();
    takt_cancel(&b.frame); /* the last of the line */
    drive(&b.frame);
    START(c, takt_recv_lease(pairs[2][0], &pool, &data[2]), "c");
    settle();
    EXPECT_EQ(takt_bufs_put(&pool, &held), 0);
    drive(&a.frame);
    EXPECT_EQ(takt_bufs_put(&pool, &data[0]), 0);
    drive(&c.frame);
    EXPECT_EQ(takt_bufs_put(&pool, &data[2]), 0);
    EXPECT_TRACE("ac");
    for (int i = 0; i < 3; i++)
        close_pair(pairs[i]);
    finish();
    takt_bufs_free(&pool);
}

static void who_leaves_the_line_of_a_socket_takes_nobody_along(void)
{
    static struct single a, b, c;
    char got[4];
    int pair[2];
    setup();
    pair_of(SOCK_DGRAM, pair);
    while (send(pair[0], "-", 1, 0) == 1)
        continue;
    START(a, takt_sendto(pair[0], "a", 1, NULL), "a");
    START(b, takt_sendto(pair[0], "b", 1, NULL), "b");
    settle();
    takt_cancel(&b.frame); /* the last of the line */
    drive(&b.frame);
    START(c, takt_sendto(pair[0], "c", 1, NULL), "c");
    settle();
    EXPECT_TRACE("");
    for (int i = 0; i < 1000 && (takt_alive(&a.frame) || takt_alive(&c.frame)); i++) {
        if (recv(pair[1], got, 1, 0) == 1 && *got != '-')
            note("?");
        net_turn(&loop, TAKT_MS, 0);
    }
    EXPECT_EQ(a.result, 1);
    EXPECT_EQ(c.result, 1);
    for (int i = 0; i < 10000 && recv(pair[1], got, 1, 0) == 1; i++)
        if (*got != '-')
            note(*got == 'a' ? "A" : *got == 'c' ? "C" : "?");
    EXPECT(strstr(test_trace, "A") && strstr(test_trace, "C") && !strstr(test_trace, "?"));
    EXPECT(!strstr(test_trace, "b"));
    close_pair(pair);
    finish();
}

/* -- both directions at once ------------------------------------------------------ */

static void a_writer_is_looked_after_beside_a_reader(void)
{
    static struct single reader, writer;
    static char c, sink[1 << 16];
    size_t drained = 0;
    int pair[2];
    setup();
    pair_of(SOCK_STREAM, pair);
    START(reader, takt_recv(pair[0], &c, 1), "r");
    START(writer, takt_send(pair[0], big, sizeof big), "w");
    for (int i = 0; i < 100000 && drained < sizeof big; i++) {
        const ssize_t n = recv(pair[1], sink, sizeof sink, 0);
        drained += n > 0 ? (size_t)n : 0;
        net_turn(&loop, n > 0 ? 0 : TAKT_MS, 0);
    }
    drive(&writer.frame);
    EXPECT_EQ(writer.result, (int64_t)sizeof big);
    EXPECT_EQ(send(pair[1], "x", 1, 0), 1);
    drive(&reader.frame);
    EXPECT_EQ(reader.result, 1);
    EXPECT_TRACE("wr");
    close_pair(pair);
    finish();
}

/* What was sent before a shutdown is sent before it, though nobody has awaited the send. */
static void a_shutdown_comes_after_what_was_sent_before(void)
{
    static struct single sender, shutter;
    char got[2];
    int pair[2];
    setup();
    pair_of(SOCK_STREAM, pair);
    START(sender, takt_send(pair[0], "x", 1), "s");
    START(shutter, takt_shutdown(pair[0], TAKT_SHUT_WRITE), "h");
    drive(&sender.frame);
    drive(&shutter.frame);
    EXPECT_EQ(sender.result, 1);
    EXPECT_EQ(shutter.result, 0);
    EXPECT_EQ(recv(pair[1], got, 2, 0), 1);
    EXPECT_EQ(recv(pair[1], got, 2, 0), 0);
    close_pair(pair);
    finish();
}

/* Both ends of a TCP connection. */
static void tcp_pair(int *pair)
{
    takt_addr addr;
    socklen_t len = sizeof addr.sockaddr;
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(takt_addr_parse(&addr, "127.0.0.1:0"), 0);
    EXPECT_EQ(bind(listener, takt__sockaddr(&addr), addr.len), 0);
    EXPECT_EQ(listen(listener, 1), 0);
    EXPECT_EQ(getsockname(listener, takt__sockaddr(&addr), &len), 0);
    pair[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(connect(pair[1], takt__sockaddr(&addr), addr.len), 0);
    pair[0] = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    EXPECT(pair[0] >= 0);
    close(listener);
}

/* The backend could not serve it: so nobody gets it, and it does not leak. */
static void what_is_opened_beyond_the_table_is_closed(void)
{
    enum { TABLE = 64, MORE = 80 };
    static struct single accepts, dials;
    static takt_addr addr;
    socklen_t len = sizeof addr.sockaddr;
    int others[MORE], pair[2], next;
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    wanted.backend.posix.fds_max = TABLE;
    setup();
    EXPECT_EQ(takt_addr_parse(&addr, "127.0.0.1:0"), 0);
    EXPECT_EQ(bind(listener, takt__sockaddr(&addr), addr.len), 0);
    EXPECT_EQ(listen(listener, 1), 0);
    EXPECT_EQ(getsockname(listener, takt__sockaddr(&addr), &len), 0);
    addr.len = (uint32_t)len;
    for (int i = 0; i < MORE; i++)
        others[i] = dup(listener);
    pair[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(connect(pair[1], takt__sockaddr(&addr), addr.len), 0);
    pair[0] = dup(listener); /* the number that comes next */
    close(pair[0]);
    START(accepts, takt_accept(listener, NULL), "");
    drive(&accepts.frame);
    EXPECT_EQ(accepts.result, -EMFILE);
    START(dials, takt_tcp_connect(&addr), "");
    drive(&dials.frame);
    EXPECT_EQ(dials.result, -EMFILE);
    next = dup(listener);
    EXPECT_EQ(next, pair[0]);
    close(next);
    close(pair[1]);
    for (int i = 0; i < MORE; i++)
        close(others[i]);
    close(listener);
    finish();
    wanted.backend.posix.fds_max = 0;
}

static void to_receive_nothing_does_not_wait(void)
{
    static struct single a, b, c;
    static char byte;
    static struct iovec none[2];
    int pair[2];
    setup();
    tcp_pair(pair);
    START(a, takt_recv(pair[0], &byte, 0), "a");
    drive(&a.frame);
    none[0].iov_base = none[1].iov_base = &byte;
    START(b, takt_recvv(pair[0], none, 2), "b");
    drive(&b.frame);
    START(c, takt_recv_all(pair[0], &byte, 0), "c");
    drive(&c.frame);
    EXPECT_TRACE("abc");
    EXPECT_EQ(a.result + b.result + c.result, 0);
    close_pair(pair);
    finish();
}

static void to_read_from_an_empty_pipe_waits(void)
{
    static struct single reader;
    static char got[4];
    int ends[2];
    setup();
    EXPECT_EQ(pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
    START(reader, takt_read(ends[0], got, sizeof got, -1), "r");
    settle();
    EXPECT_TRACE("");
    EXPECT_EQ(write(ends[1], "abc", 3), 3);
    drive(&reader.frame);
    EXPECT_EQ(reader.result, 3);
    close_pair(ends);
    finish();
}

/* -- cancelled too late ----------------------------------------------------------- */

struct assassin {
    takt_frame frame;
    takt_frame *victim; /* in */
};

static TAKT_CORO(assassin)
{
    TAKT_BEGIN(assassin, my);
    takt_cancel(my->victim);
    TAKT_END;
}

/* In the same turn: its op is done already where that takes no kernel. */
static void what_is_done_is_delivered_in_spite_of_an_order(void)
{
    static struct single victim, after;
    static struct assassin assassin;
    setup();
    START(victim, takt_nop(), "v");
    EXPECT(TAKT_START_ON(&loop, assassin, assassin, .victim = &victim.frame));
    START(after, takt_nop(), "a");
    drive(&victim.frame);
    drive(&after.frame);
    EXPECT_EQ(after.result, 0);
    if (strcmp(backend, "io_uring") != 0)
        EXPECT_TRACE("va");
    finish();
}

/* -- edges ------------------------------------------------------------------------ */

enum { WATCHERS = 9 };

struct watcher {
    takt_frame frame;
    int fd; /* in */
    takt_stream stream;
    takt_item item;
    int64_t seen;
};

static TAKT_CORO(watcher)
{
    TAKT_BEGIN(watcher, my);
    TAKT_OPEN(my->stream, takt_ready_multishot(my->fd, TAKT_READABLE | TAKT_WRITABLE));
    while (!(my->seen & TAKT_READABLE)) {
        TAKT_NEXT(my->item, my->stream);
        my->seen |= my->item.value;
    }
    TAKT_END;
}

/* All are writable at once, and handed out one by one. Meanwhile the last becomes readable:
 * that must not get lost between two items. */
static void an_edge_that_comes_before_its_item_is_handed_out_counts(void)
{
    static struct watcher watchers[WATCHERS];
    int pairs[WATCHERS][2];
    setup();
    for (int i = 0; i < WATCHERS; i++) {
        pair_of(SOCK_STREAM, pairs[i]);
        EXPECT(TAKT_START_ON(&loop, watchers[i], watcher, .fd = pairs[i][0]));
    }
    net_turn(&loop, 10 * TAKT_MS, 1);
    for (int i = 0; i < WATCHERS; i++)
        EXPECT_EQ(send(pairs[i][1], "x", 1, 0), 1);
    for (int i = 0; i < 1000 && net_pending(&loop); i++)
        net_turn(&loop, 10 * TAKT_MS, 1);
    EXPECT_EQ(net_pending(&loop), 0);
    net_stop(&loop, 0);
    for (int i = 0; i < WATCHERS; i++) {
        drive(&watchers[i].frame);
        close_pair(pairs[i]);
    }
    finish();
}

/* -- a socket that meets itself --------------------------------------------------- */

/* Who dials a port that nobody listens on, and that the system hands out to those who dial,
 * gets it himself one day. Here it is told to: what is left is what the backends do then. */
static void a_socket_that_meets_itself_is_no_connection(void)
{
    static takt_slot slot;
    takt_addr self;
    socklen_t len = sizeof self.sockaddr;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setup();
    EXPECT_EQ(takt_addr_parse(&self, "127.0.0.1:0"), 0);
    EXPECT_EQ(bind(fd, takt__sockaddr(&self), self.len), 0);
    EXPECT_EQ(getsockname(fd, takt__sockaddr(&self), &len), 0);
    EXPECT_EQ(connect(fd, takt__sockaddr(&self), self.len), 0);
    slot.op = takt_tcp_connect(&self);
    slot.op.fd = fd;
    if (loop.backend.on_ring)
        EXPECT_EQ(takt__ring_settle(&loop.backend, &slot.op, 0), TAKT_ESELF);
    else
        EXPECT_EQ(takt__posix_settle(&loop.backend.posix, &slot.op, 0), TAKT_ESELF);
    EXPECT_EQ(slot.op.fd, -1);
    EXPECT_EQ(close(fd), -1); /* it was closed */
    finish();
}

/* -- io_uring: a full queue, completions that are not believed -------------------- */

/* How many entries the queue has; with none, the kernel takes nothing. What it had. */
static unsigned set_queue(unsigned entries)
{
    const unsigned old = loop.backend.ring.sq.ring_entries;
    loop.backend.ring.sq.ring_entries = entries;
    takt__ring_judge(&loop.backend);
    return old;
}

/* As long as the kernel takes nothing, what is asked for stands in line. */
static void what_finds_the_queue_full_is_asked_for_later(void)
{
    static struct single reader, nop;
    static char c;
    unsigned entries;
    int pair[2];
    setup();
    if (!loop.backend.on_ring) {
        finish();
        return;
    }
    pair_of(SOCK_STREAM, pair);
    START(reader, takt_recv(pair[0], &c, 1), "r");
    settle();
    entries = set_queue(0);
    START(nop, takt_nop(), "n");
    takt_cancel(&reader.frame);
    settle();
    EXPECT_TRACE("");
    set_queue(entries);
    drive(&nop.frame);
    drive(&reader.frame);
    EXPECT_EQ(nop.result, 0);
    EXPECT_EQ(takt_error(&reader.frame), TAKT_ECANCELED);
    close_pair(pair);
    finish();
}

struct reads {
    takt_frame frame;
    int fd;          /* in */
    takt_bufs *pool; /* in */
    takt_stream stream;
    takt_item item;
};

static TAKT_CORO(reads)
{
    TAKT_BEGIN(reads, my);
    TAKT_OPEN(my->stream, takt_recv_multishot(my->fd, my->pool));
    for (;;) {
        TAKT_NEXT(my->item, my->stream);
        if (my->item.end)
            TAKT_RETURN;
        takt_bufs_put(my->pool, &my->item.data);
    }
    TAKT_END;
}

/* The other half can be taken directly. */
static void the_kernel_gets_half_of_what_is_not_out(void)
{
    enum { COUNT = 16, OUT = 10 };
    static struct reads reads;
    unsigned char *out[COUNT];
    takt_bufs pool;
    int pair[2];
    setup();
    EXPECT_EQ(takt_bufs_init(&pool, COUNT, 64), 0);
    for (int i = 0; i < OUT; i++)
        out[i] = takt_bufs_take(&pool);
    pair_of(SOCK_STREAM, pair);
    EXPECT(TAKT_START_ON(&loop, reads, reads, .fd = pair[0], .pool = &pool));
    settle();
    for (int i = OUT; i < OUT + (COUNT - OUT) / 2; i++) {
        out[i] = takt_bufs_take(&pool);
        EXPECT(out[i] != NULL);
    }
    for (int i = 0; i < OUT + (COUNT - OUT) / 2; i++)
        EXPECT_EQ(takt_bufs_put(&pool, &out[i]), 0);
    close(pair[1]);
    pair[1] = -1;
    drive(&reads.frame);
    close_pair(pair);
    finish();
    takt_bufs_free(&pool);
}

/* The system tells of a reset once. If a send was told, reading sees an end, but not a clean
 * one. */
static void a_reset_that_a_send_was_told_of_is_no_clean_end(void)
{
    static struct single reader, writer;
    static unsigned char *data;
    const struct linger at_once = {1, 0};
    int error = 0, pair[2];
    socklen_t len = sizeof error;
    unsigned entries;
    takt_bufs pool;
    setup();
    if (!loop.backend.on_ring) {
        finish();
        return;
    }
    EXPECT_EQ(takt_bufs_init(&pool, 2, 64), 0);
    tcp_pair(pair);
    START(reader, takt_recv_lease(pair[0], &pool, &data), "r");
    settle();
    entries = set_queue(0);
    START(writer, takt_send(pair[0], "x", 1), "w"); /* in flight, as far as we know */
    net_turn(&loop, 0, 0);
    EXPECT_EQ(setsockopt(pair[1], SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
    close(pair[1]);
    EXPECT_EQ(getsockopt(pair[0], SOL_SOCKET, SO_ERROR, &error, &len), 0);
    EXPECT_EQ(error, ECONNRESET);
    drive(&reader.frame);
    EXPECT_EQ(reader.result, -ECONNRESET);
    set_queue(entries);
    drive(&writer.frame);
    EXPECT(writer.result < 0);
    close(pair[0]);
    finish();
    takt_bufs_free(&pool);
}

/* Some kernels say -EAGAIN where others wait: then it is asked for readiness. */
static void too_early_is_not_the_end(void)
{
    static struct single reader;
    static char c;
    unsigned entries;
    takt_op *op;
    int pair[2];
    setup();
    if (!loop.backend.on_ring) {
        finish();
        return;
    }
    pair_of(SOCK_STREAM, pair);
    entries = set_queue(0);
    START(reader, takt_recv(pair[0], &c, 1), "r");
    settle();
    set_queue(entries);
    op = &reader.frame.strand->slot.op; /* it stands in line, the kernel knows nothing of it */
    takt__ring_unpark(&loop.backend, op);
    takt__ring_failed(&loop.backend, op, -EAGAIN);
    settle();
    EXPECT_TRACE("");
    EXPECT_EQ(send(pair[1], "x", 1, 0), 1);
    drive(&reader.frame);
    EXPECT_EQ(reader.result, 1);
    EXPECT_EQ(c, 'x');
    close_pair(pair);
    finish();
}

static void a_completion_that_cannot_be_is_not_believed(void)
{
    static struct single reader, sleeper;
    static char c;
    const takt_op *op;
    uint64_t key;
    int pair[2];
    setup();
    if (!loop.backend.on_ring) {
        finish();
        return;
    }
    pair_of(SOCK_STREAM, pair);
    START(reader, takt_recv(pair[0], &c, 1), "r");
    START(sleeper, takt_sleep(600 * TAKT_SEC), "s");
    settle();
    op = &reader.frame.strand->slot.op;
    key = takt__ring_key(&loop.backend, op);
    takt__ring_complete(&loop.backend, key - ((uint64_t)1 << 32), 1, 0); /* of the op before */
    EXPECT_EQ(loop.backend.stale, 1);
    op = &sleeper.frame.strand->slot.op; /* never went to the kernel */
    takt__ring_complete(&loop.backend, takt__ring_key(&loop.backend, op), 1, 0);
    EXPECT_EQ(loop.backend.stale, 2);
    EXPECT(takt_alive(&sleeper.frame));
    takt_cancel(&sleeper.frame);
    drive(&sleeper.frame);
    EXPECT_TRACE("");
    takt__ring_complete(&loop.backend, key, 1, IORING_CQE_F_MORE); /* it was asked for one */
    EXPECT_EQ(loop.backend.stale, 3); /* and is cancelled: nobody knows what it does now */
    drive(&reader.frame);
    EXPECT(reader.result < 0);
    close_pair(pair);
    finish();
}

/* -- all of it, on every backend -------------------------------------------------- */

static const test tests[] = {
    TEST(a_close_is_over_after_what_was_in_flight),
    TEST(nothing_begins_on_a_descriptor_that_is_being_closed),
    TEST(who_leaves_the_line_of_a_pool_takes_nobody_along),
    TEST(who_leaves_the_line_of_a_socket_takes_nobody_along),
    TEST(a_writer_is_looked_after_beside_a_reader),
    TEST(a_shutdown_comes_after_what_was_sent_before),
    TEST(what_is_opened_beyond_the_table_is_closed),
    TEST(to_receive_nothing_does_not_wait),
    TEST(to_read_from_an_empty_pipe_waits),
    TEST(what_is_done_is_delivered_in_spite_of_an_order),
    TEST(an_edge_that_comes_before_its_item_is_handed_out_counts),
    TEST(a_socket_that_meets_itself_is_no_connection),
    TEST(what_finds_the_queue_full_is_asked_for_later),
    TEST(the_kernel_gets_half_of_what_is_not_out),
    TEST(a_reset_that_a_send_was_told_of_is_no_clean_end),
    TEST(too_early_is_not_the_end),
    TEST(a_completion_that_cannot_be_is_not_believed),
};

/* All of them on the backend that is wanted; how many have failed. */
static int run_on(const char *name, int argc, char **argv)
{
    int failed = 0;
    backend = name;
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) {
        if (!test_wanted(tests[i].name, argc, argv))
            continue;
        test_failures = 0;
        test_trace[0] = '\0';
        tests[i].run();
        if (test_failures)
            printf("FAIL %s (%s)\n", tests[i].name, name);
        failed += test_failures > 0;
    }
    return failed;
}

int main(int argc, char **argv)
{
    const int count = argc > 1 ? argc - 1 : (int)(sizeof tests / sizeof tests[0]);
    int passed = 0, failed = 0, now;
    alarm(120); /* a test that spins ends here */
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 0; i < 3; i++) {
        wanted = net_defaults();
        wanted.backend.mode = i < 2 ? TAKT_URING_NEVER : TAKT_URING_ONLY;
        wanted.backend.posix.poll_instead = i == 1;
        if (net_init(&loop, &wanted) < 0) {
            printf("skipped: no io_uring here\n");
            continue;
        }
        net_free(&loop);
        now = run_on(i == 0 ? "epoll" : i == 1 ? "poll" : "io_uring", argc, argv);
        failed += now;
        passed += count - now;
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0;
}

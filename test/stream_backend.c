/*
 * stream_backend.c - ops that complete many times, asked of each backend directly
 *
 * Every test runs on each of them: epoll, poll, io_uring, and io_uring without the rungs
 * that streams stand on. What is not there on this machine is left out, with a line.
 */
#define TAKT_IMPLEMENTATION
#include "../takt_uring.h"

#include "refuse.h"
#include "test.h"

#include <dirent.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* -- the driver: slots, a backend, and what came out of it ------------------ */

enum { SLOTS = 600, BATCH = 64, LOG = 4096 };

#include "slots.h"

static const struct mode {
    const char *name;
    takt_uring_config config;
} modes[] = {
#define REST 0, 0, 0, false, false /* no spin; zerocopy: its defaults; unrestricted */
    {"epoll", {{0, false}, TAKT_URING_NEVER, 0, 0, 0, REST}},
    {"poll", {{0, true}, TAKT_URING_NEVER, 0, 0, 0, REST}},
    {"uring", {{0, false}, TAKT_URING_ONLY, 0, 0, 0, REST}},
    {"restricted", {{0, false}, TAKT_URING_ONLY, 0, 0, 0, 0, 0, 0, false, true}},
    {"no_buffer_ring", {{0, false}, TAKT_URING_ONLY, 0, 0, TAKT_URING_NO_BUFFER_RING, REST}},
    {"no_multishot", {{0, false}, TAKT_URING_ONLY, 0, 0, TAKT_URING_NO_MULTISHOT, REST}},
    {"neither",
     {{0, false}, TAKT_URING_ONLY, 0, 0, TAKT_URING_NO_MULTISHOT | TAKT_URING_NO_BUFFER_RING,
      REST}},
    {"no_defer", /* completions come at any time */
     {{0, false}, TAKT_URING_ONLY, 0, 0,
      TAKT_URING_NO_DEFER_TASKRUN | TAKT_URING_NO_COOP_TASKRUN | TAKT_URING_NO_SINGLE_ISSUER,
      REST}},
};

enum { MODES = sizeof modes / sizeof modes[0] };

static const struct mode *mode;
static takt_uring_config wanted; /* a test may ask for more */
static takt_uring backend;
static takt_completion logged[LOG]; /* those that next() has not handed out */
static int log_count;
static int ended[SLOTS]; /* terminal completions, since begin() */
static takt_bufs pool;
static int open_before;

static int open_descriptors(void)
{
    DIR *const dir = opendir("/proc/self/fd");
    int count = 0;
    while (dir && readdir(dir))
        count++;
    if (dir)
        closedir(dir);
    return count;
}

static void setup(uint32_t count, uint32_t size)
{
    open_before = open_descriptors();
    slots_clear();
    log_count = 0;
    EXPECT_EQ(takt_uring_init(&backend, &wanted, &slots), 0);
    if (count)
        EXPECT_EQ(takt_bufs_init(&pool, count, size), 0);
}

static void finish(void)
{
    EXPECT_EQ(log_count, 0);
    EXPECT_EQ(pool.in_use, 0);
    EXPECT(pool.waiting == NULL);
    takt_uring_free(&backend);
    EXPECT_EQ(pool.kept, 0);
    if (pool.count)
        takt_bufs_free(&pool);
    EXPECT_EQ(open_descriptors(), open_before);
}

/* Submits `op` in slot `i`. 0 or an error. */
static int begin(int i, takt_op op)
{
    ended[i] = 0;
    return slot_begin(&backend, i, op);
}

static void cancel(int i)
{
    takt_uring_cancel(&backend, &slot_memory[i].op);
}

/* One poll. How many came, or an error. */
static int pump(takt_ns wait)
{
    takt_completion done[BATCH];
    const int count = takt_uring_poll(&backend, done, BATCH, wait);
    EXPECT(count >= 0);
    for (int i = 0; i < count && log_count < LOG; i++) {
        const uint32_t index = (uint32_t)done[i].token;
        if (index < SLOTS && takt_slot_find(&slots, done[i].token)) {
            EXPECT_EQ(ended[index], 0); /* nothing comes after the end */
            ended[index] += !(done[i].flags & TAKT_MORE);
        }
        EXPECT(!(done[i].flags & ~(uint32_t)(TAKT_MORE | TAKT_FD)));
        logged[log_count++] = done[i];
    }
    return count;
}

/* The next completion of slot `i`, within `limit`. False if there was none. */
static bool next_within(int i, takt_completion *out, takt_ns limit)
{
    const takt_ns until = takt_uring_now(&backend) + limit;
    for (;;) {
        takt_ns left;
        for (int at = 0; at < log_count; at++) {
            if ((int)(uint32_t)logged[at].token != i)
                continue;
            *out = logged[at];
            log_count--;
            memmove(&logged[at], &logged[at + 1], (size_t)(log_count - at) * sizeof *out);
            return true;
        }
        left = until - takt_uring_now(&backend);
        if (left <= 0)
            return false;
        pump(left);
    }
}

static takt_completion next(int i)
{
    takt_completion done;
    memset(&done, 0, sizeof done);
    if (!next_within(i, &done, test_failures ? TAKT_MS : 5 * test_slow() * TAKT_SEC)) {
        done.error = -ETIME;
        EXPECT(false && "a completion comes");
    }
    return done;
}

/* The next completion, whose ever: kernels differ in whom they serve first. Its slot, or -1. */
static int next_of_all(takt_completion *done)
{
    const takt_ns until = takt_uring_now(&backend) + 5 * TAKT_SEC;
    int i;
    while (!log_count && takt_uring_now(&backend) < until)
        pump(100 * TAKT_MS);
    EXPECT(log_count > 0);
    i = log_count ? (int)(uint32_t)logged[0].token : -1;
    return i >= 0 && next_within(i, done, 0) ? i : -1;
}

/* The end of slot `i`: its value or error; items before it are not expected. */
static int64_t end_of(int i)
{
    const takt_completion done = next(i);
    EXPECT(!(done.flags & TAKT_MORE));
    EXPECT(done.payload == NULL);
    return done.error ? done.error : done.value;
}

/* Nothing comes for a while, and nobody is busy with that. */
static void expect_silence(takt_ns ns)
{
    const takt_ns until = takt_uring_now(&backend) + ns;
    const int count = log_count;
    int polls = 0;
    takt_ns left;
    while ((left = until - takt_uring_now(&backend)) > 0 && polls++ < 1000)
        pump(left);
    EXPECT_EQ(log_count, count);
    EXPECT(polls < 40); /* a storm would be thousands */
}

static void put(takt_completion *done)
{
    unsigned char *data = (unsigned char *)done->payload;
    EXPECT_EQ(takt_bufs_put(&pool, &data), 0);
}

/* An item with `text`, whose buffer is given back. */
static void expect_text(int i, const char *text)
{
    takt_completion done = next(i);
    EXPECT_EQ(done.flags, TAKT_MORE);
    EXPECT_EQ(done.error, 0);
    EXPECT_EQ(done.value, strlen(text));
    EXPECT(done.payload && memcmp(done.payload, text, strlen(text)) == 0);
    put(&done);
}

static void pair_of(int type, int *pair)
{
    EXPECT_EQ(socketpair(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
}

static void say(int fd, const char *text)
{
    EXPECT_EQ(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static void close_pair(const int *pair)
{
    close(pair[0]);
    close(pair[1]);
}

static int listener_at(struct sockaddr_in *addr)
{
    socklen_t len = sizeof *addr;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    memset(addr, 0, sizeof *addr);
    addr->sin_family = AF_INET;
    addr->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(bind(fd, (struct sockaddr *)addr, sizeof *addr), 0);
    EXPECT_EQ(listen(fd, 128), 0);
    EXPECT_EQ(getsockname(fd, (struct sockaddr *)addr, &len), 0);
    return fd;
}

static int connected(const struct sockaddr_in *addr)
{
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(connect(fd, (const struct sockaddr *)addr, sizeof *addr), 0);
    return fd;
}

/* Closes `fd` through the backend. */
static void close_by_backend(int fd)
{
    takt_op op = takt__op(TAKT_OP_CLOSE, fd, NULL, 0);
    EXPECT_EQ(takt_uring_call(&backend, &op), 0);
}

/* -- bytes -------------------------------------------------------------------- */

static void every_piece_is_an_item_and_the_end_is_the_last(void)
{
    int pair[2];
    setup(16, 64);
    pair_of(SOCK_STREAM, pair);
    EXPECT_EQ(begin(0, takt_recv_multishot(pair[0], &pool)), 0);
    expect_silence(5 * TAKT_MS);
    EXPECT_EQ(pool.in_use, 0); /* an idle connection holds no buffer */
    for (int i = 0; i < 100; i++) {
        say(pair[1], i % 2 ? "ping" : "a longer one");
        expect_text(0, i % 2 ? "ping" : "a longer one");
    }
    say(pair[1], "last");
    shutdown(pair[1], SHUT_WR);
    expect_text(0, "last");
    EXPECT_EQ(end_of(0), 0);
    expect_silence(TAKT_MS);
    EXPECT_EQ(pool.in_use_max, 1);
    close_pair(pair);
    finish();
}

static void more_than_a_buffer_comes_in_pieces(void)
{
    char sent[1000], got[1000];
    size_t count = 0;
    int pair[2];
    setup(16, 64);
    pair_of(SOCK_STREAM, pair);
    for (size_t i = 0; i < sizeof sent; i++)
        sent[i] = (char)(i * 7);
    EXPECT_EQ(begin(0, takt_recv_multishot(pair[0], &pool)), 0);
    EXPECT_EQ(send(pair[1], sent, sizeof sent, 0), sizeof sent);
    shutdown(pair[1], SHUT_WR);
    for (;;) {
        takt_completion done = next(0);
        if (!(done.flags & TAKT_MORE)) {
            EXPECT_EQ(done.value, 0);
            EXPECT_EQ(done.error, 0);
            break;
        }
        EXPECT(done.value > 0 && done.value <= 64 && count + (size_t)done.value <= sizeof got);
        memcpy(got + count, done.payload, (size_t)done.value);
        count += (size_t)done.value;
        put(&done);
    }
    EXPECT_EQ(count, sizeof sent);
    EXPECT(memcmp(sent, got, sizeof sent) == 0);
    close_pair(pair);
    finish();
}

/* E1, E2: what found no buffer goes on when one comes back, loses nothing, and does not spin */
static void an_empty_pool_is_waited_for(void)
{
    enum { COUNT = 4 };
    takt_completion held[COUNT];
    int pair[2];
    setup(COUNT, 8);
    pair_of(SOCK_STREAM, pair);
    EXPECT_EQ(begin(0, takt_recv_multishot(pair[0], &pool)), 0);
    say(pair[1], "aaaaaaaabbbbbbbbccccccccddddddddeeeeeeeeffffffff");
    for (int i = 0; i < COUNT; i++) {
        held[i] = next(0);
        EXPECT_EQ(held[i].flags, TAKT_MORE);
        EXPECT_EQ(held[i].value, 8);
        EXPECT(held[i].payload && *(char *)held[i].payload == 'a' + i);
    }
    EXPECT_EQ(pool.in_use, COUNT);
    expect_silence(20 * TAKT_MS);
    put(&held[1]);
    held[1] = next(0);
    EXPECT(held[1].payload && *(char *)held[1].payload == 'e');
    expect_silence(5 * TAKT_MS);
    put(&held[0]);
    held[0] = next(0);
    EXPECT(held[0].payload && *(char *)held[0].payload == 'f');
    for (int i = 0; i < COUNT; i++)
        put(&held[i]);
    expect_silence(5 * TAKT_MS);
    say(pair[1], "again");
    expect_text(0, "again");
    close(pair[1]);
    EXPECT_EQ(end_of(0), 0);
    close(pair[0]);
    finish();
}

/* One floods, one has little to say, nobody gives back more than a buffer at a time. */
static void a_flood_leaves_buffers_for_the_others(void)
{
    static char flood[4096];
    int loud[2], quiet[2];
    takt_completion held[2];
    int until_quiet = -1;
    setup(4, 64);
    pair_of(SOCK_STREAM, loud);
    pair_of(SOCK_STREAM, quiet);
    EXPECT_EQ(begin(0, takt_recv_multishot(loud[0], &pool)), 0);
    EXPECT_EQ(begin(1, takt_recv_multishot(quiet[0], &pool)), 0);
    EXPECT_EQ(send(loud[1], flood, sizeof flood, 0), sizeof flood);
    for (int i = 0; i < 2; i++)
        held[i] = next(0);
    pump(0);
    say(quiet[1], "me too");
    for (int i = 0; i < 50 && until_quiet < 0; i++) {
        takt_completion done;
        put(&held[i % 2]);
        held[i % 2].payload = NULL;
        if (next_within(0, &done, TAKT_SEC))
            held[i % 2] = done;
        for (int at = 0; at < log_count; at++)
            if ((uint32_t)logged[at].token == 1)
                until_quiet = i;
    }
    EXPECT(until_quiet >= 0 && until_quiet < 10);
    expect_text(1, "me too");
    put(&held[0]);
    put(&held[1]);
    cancel(0);
    cancel(1);
    for (;;) {
        takt_completion done = next(0);
        if (!(done.flags & TAKT_MORE)) {
            EXPECT_EQ(done.error, -ECANCELED);
            break;
        }
        put(&done);
    }
    EXPECT_EQ(end_of(1), -ECANCELED);
    close_pair(loud);
    close_pair(quiet);
    finish();
}

/* Law 5: who sleeps on the backend's descriptor is woken, when it happens, by what happens */
static void the_descriptor_announces_what_comes(void)
{
    int pair[2], other[2];
    setup(16, 64);
    pair_of(SOCK_STREAM, pair);
    pair_of(SOCK_STREAM, other);
    EXPECT_EQ(begin(0, takt_recv_multishot(pair[0], &pool)), 0);
    for (int i = 0; i < 3; i++) {
        struct pollfd foreign;
        takt_ns start;
        foreign.fd = takt_uring_fd(&backend);
        foreign.events = POLLIN;
        if (foreign.fd < 0)
            break; /* poll(2) has none */
        pump(0);
        pump(0);
        takt_uring_flush(&backend);
        EXPECT(!takt_uring_busy(&backend));
        EXPECT_EQ(poll(&foreign, 1, 0), 0);
        start = takt_uring_now(&backend);
        if (fork() == 0) {
            usleep(20000);
            _exit(send(pair[1], "wake up", 7, 0) != 7);
        }
        while (poll(&foreign, 1, 3000) < 0)
            continue;
        EXPECT(takt_uring_now(&backend) - start < TAKT_SEC);
        expect_text(0, "wake up");
        wait(NULL);
    }
    for (int i = 0; i < 3; i++) { /* and is silent again, whatever it was that came */
        static char byte;
        struct pollfd foreign;
        EXPECT_EQ(begin(1, i == 0 ? takt_nop() : i == 1 ? takt_recv(other[0], &byte, 1)
                                                        : takt_send(other[0], "x", 1)), 0);
        say(other[1], "y");
        EXPECT_EQ(end_of(1), i != 0);
        pump(0);
        pump(0);
        foreign.fd = takt_uring_fd(&backend);
        foreign.events = POLLIN;
        if (foreign.fd >= 0)
            EXPECT_EQ(poll(&foreign, 1, 0), 0);
    }
    close_pair(other);
    cancel(0);
    EXPECT_EQ(end_of(0), -ECANCELED);
    close_pair(pair);
    finish();
}

/* D1, D2: one end, whenever it is asked for, however often */
static void a_cancel_ends_it_once(void)
{
    int pair[2];
    setup(16, 64);
    pair_of(SOCK_STREAM, pair);
    for (int when = 0; when < 3; when++) {
        EXPECT_EQ(begin(0, takt_recv_multishot(pair[0], &pool)), 0);
        if (when > 0)
            pump(0);
        if (when > 1) {
            say(pair[1], "x");
            expect_text(0, "x");
        }
        cancel(0);
        cancel(0);
        EXPECT_EQ(end_of(0), -ECANCELED);
        cancel(0);
        expect_silence(TAKT_MS);
    }
    close_pair(pair);
    finish();
}

/* D4: what had arrived is an item before the end, or still in the socket */
static void a_cancel_loses_no_byte(void)
{
    int pair[2];
    setup(16, 8);
    pair_of(SOCK_STREAM, pair);
    for (int round = 0; round < 100; round++) {
        char rest[64];
        int64_t got = 0;
        ssize_t left;
        EXPECT_EQ(begin(0, takt_recv_multishot(pair[0], &pool)), 0);
        if (round % 4)
            pump(0);
        say(pair[1], "0123456789abcdefghij");
        if (round % 3 == 1)
            pump(0);
        else if (round % 3 == 2)
            takt_uring_flush(&backend); /* it may stand ready, but is not handed out */
        cancel(0);
        for (;;) {
            takt_completion done = next(0);
            if (!(done.flags & TAKT_MORE)) {
                EXPECT_EQ(done.error, -ECANCELED);
                break;
            }
            got += done.value;
            put(&done);
        }
        left = recv(pair[0], rest, sizeof rest, MSG_DONTWAIT);
        EXPECT_EQ(got + (left > 0 ? left : 0), 20);
    }
    close_pair(pair);
    finish();
}

/* F1: close ends it, and comes after it */
static void a_close_ends_it(void)
{
    static char byte;
    int pair[2];
    takt_completion done;
    setup(16, 64);
    pair_of(SOCK_STREAM, pair);
    EXPECT_EQ(begin(0, takt_recv_multishot(pair[0], &pool)), 0);
    EXPECT_EQ(begin(2, takt_recv(pair[0], &byte, 1)), -EBUSY);
    pump(0);
    EXPECT_EQ(begin(1, takt_close(pair[0])), 0);
    EXPECT_EQ(end_of(0), TAKT_ECLOSED);
    done = next(1);
    EXPECT_EQ(done.error, 0);
    close(pair[1]);
    finish();
}

/* E7: however many connections are silent, they hold nothing */
static void idle_connections_hold_no_buffer(void)
{
    enum { MANY = 100 };
    takt_completion done;
    int pairs[MANY][2];
    int heard[MANY] = {0};
    setup(4, 64);
    for (int i = 0; i < MANY; i++) {
        pair_of(SOCK_STREAM, pairs[i]);
        EXPECT_EQ(begin(i, takt_recv_multishot(pairs[i][0], &pool)), 0);
    }
    expect_silence(2 * TAKT_MS);
    EXPECT_EQ(pool.in_use, 0);
    for (int i = MANY - 1; i >= 0; i--) {
        say(pairs[i][1], "here");
        expect_text(i, "here");
    }
    for (int i = 0; i < MANY; i++)
        say(pairs[i][1], "all at once"); /* G6: far more than there are buffers */
    for (int i = 0, at; i < MANY && (at = next_of_all(&done)) >= 0; i++) {
        EXPECT_EQ(done.flags, TAKT_MORE);
        EXPECT_EQ(done.value, 11);
        EXPECT_EQ(heard[at]++, 0);
        put(&done);
    }
    for (int i = 0; i < MANY; i++)
        EXPECT_EQ(heard[i], 1);
    for (int i = 0; i < MANY; i++)
        cancel(i);
    for (int i = 0; i < MANY; i++)
        EXPECT_EQ(end_of(i), -ECANCELED);
    for (int i = 0; i < MANY; i++)
        close_pair(pairs[i]);
    finish();
}

/* C15: in one poll a flooding connection gets what its socket holds, at most, and the others
 * are served in the same or the next */
static void a_flood_does_not_keep_others_waiting(void)
{
    int loud[2], quiet[2];
    takt_completion done;
    int loud_first = 0;
    setup(512, 64);
    pair_of(SOCK_DGRAM, loud);
    pair_of(SOCK_STREAM, quiet);
    EXPECT_EQ(begin(0, takt_recv_multishot(loud[0], &pool)), 0);
    EXPECT_EQ(begin(1, takt_recv_multishot(quiet[0], &pool)), 0);
    pump(0);
    while (send(loud[1], "loud", 4, MSG_DONTWAIT) == 4)
        continue;
    say(quiet[1], "quiet");
    while (!(log_count && (uint32_t)logged[log_count - 1].token == 1) && loud_first < 400) {
        if (pump(TAKT_SEC) == 0)
            break;
        for (loud_first = 0; loud_first < log_count; loud_first++)
            if ((uint32_t)logged[loud_first].token == 1)
                break;
        if (loud_first < log_count)
            break;
    }
    EXPECT(loud_first < 300);
    expect_text(1, "quiet");
    cancel(0);
    cancel(1);
    EXPECT_EQ(end_of(1), -ECANCELED);
    for (done = next(0); done.flags & TAKT_MORE; done = next(0))
        put(&done);
    EXPECT_EQ(done.error, -ECANCELED);
    close_pair(loud);
    close_pair(quiet);
    finish();
}

/* A buffer is taken when data is there, also by an op that completes once. */
static void a_lease_takes_its_buffer_late(void)
{
    enum { MANY = 50 };
    static unsigned char *data[MANY];
    takt_completion done;
    int pairs[MANY][2];
    setup(8, 64);
    for (int i = 0; i < MANY; i++) {
        data[i] = NULL;
        pair_of(SOCK_STREAM, pairs[i]);
        EXPECT_EQ(begin(i, takt_recv_lease(pairs[i][0], &pool, &data[i])), 0);
    }
    expect_silence(2 * TAKT_MS);
    EXPECT_EQ(pool.in_use, 0);
    for (int i = 0; i < MANY; i++)
        say(pairs[i][1], "mine");
    for (int n = 0, i; n < MANY && (i = next_of_all(&done)) >= 0; n++) { /* more than buffers */
        EXPECT_EQ(done.flags, 0);
        EXPECT_EQ(done.value, 4);
        EXPECT(data[i] && memcmp(data[i], "mine", 4) == 0);
        EXPECT(pool.in_use <= 8);
        EXPECT_EQ(takt_bufs_put(&pool, &data[i]), 0);
    }
    for (int i = 0; i < MANY; i++) {
        EXPECT_EQ(begin(i, takt_recv_lease(pairs[i][0], &pool, &data[i])), 0);
        if (i % 2)
            shutdown(pairs[i][1], SHUT_WR);
        else
            cancel(i);
    }
    for (int i = 0; i < MANY; i++) {
        EXPECT_EQ(end_of(i), i % 2 ? 0 : -ECANCELED);
        EXPECT(data[i] == NULL);
        close_pair(pairs[i]);
    }
    finish();
}

/* The stated split: half of what is not out can be taken directly, and comes back. */
static void half_of_the_pool_can_be_taken_directly(void)
{
    enum { COUNT = 64 };
    unsigned char *held[COUNT];
    int count = 0;
    int pair[2];
    setup(COUNT, 64);
    pair_of(SOCK_STREAM, pair);
    EXPECT_EQ(begin(0, takt_recv_multishot(pair[0], &pool)), 0);
    expect_silence(TAKT_MS);
    EXPECT(pool.kept <= COUNT / 2);
    EXPECT_EQ(pool.kept > 0, (backend.rungs & TAKT_URING_NO_BUFFER_RING) != 0);
    while (count < COUNT && (held[count] = takt_bufs_take(&pool)) != NULL)
        count++;
    EXPECT(count >= COUNT / 2);
    EXPECT_EQ(count + (int)pool.kept, COUNT);
    say(pair[1], "still served");
    if (pool.kept == 0)
        EXPECT_EQ(takt_bufs_put(&pool, &held[--count]), 0);
    expect_text(0, "still served");
    while (count > 0)
        EXPECT_EQ(takt_bufs_put(&pool, &held[--count]), 0);
    for (int i = 0; i < 3 * COUNT; i++) { /* every buffer has its turn */
        say(pair[1], "and again");
        expect_text(0, "and again");
    }
    EXPECT(pool.kept <= COUNT / 2);
    cancel(0);
    EXPECT_EQ(end_of(0), -ECANCELED);
    close_pair(pair);
    finish();
}

/* Memory goes back while nothing is received, and what is armed goes on after that. */
static void a_pool_can_be_trimmed(void)
{
    int pair[2];
    setup(64, 4096);
    pair_of(SOCK_STREAM, pair);
    EXPECT_EQ(begin(0, takt_recv_multishot(pair[0], &pool)), 0);
    for (int i = 0; i < 10; i++) {
        say(pair[1], "before");
        expect_text(0, "before");
        EXPECT(pool.fresh > 0);
        takt_bufs_trim(&pool);
        EXPECT_EQ(pool.kept, 0);
        EXPECT_EQ(pool.fresh, 0);
        say(pair[1], "after");
        expect_text(0, "after");
    }
    cancel(0);
    EXPECT_EQ(end_of(0), -ECANCELED);
    close_pair(pair);
    finish();
}

/* What has arrived, and was not read by a poll, keeps its buffer. */
static void trimming_spares_what_was_not_read(void)
{
    takt_completion done[2];
    int pair[2];
    setup(64, 4096);
    pair_of(SOCK_SEQPACKET, pair);
    EXPECT_EQ(begin(0, takt_recv_multishot(pair[0], &pool)), 0);
    expect_silence(TAKT_MS);
    say(pair[1], "first");
    say(pair[1], "second");
    EXPECT_EQ(takt_uring_poll(&backend, done, 1, TAKT_SEC), 1);
    EXPECT_EQ(done[0].value, 5);
    put(&done[0]);
    takt_bufs_trim(&pool);
    expect_text(0, "second");
    cancel(0);
    EXPECT_EQ(end_of(0), -ECANCELED);
    close_pair(pair);
    finish();
}

/* Polls for one, and no more; also those polls count that bring nothing yet. */
static bool poll_one(takt_completion *done, takt_ns limit)
{
    const takt_ns until = takt_uring_now(&backend) + limit;
    takt_ns left;
    while ((left = until - takt_uring_now(&backend)) > 0) {
        const int count = takt_uring_poll(&backend, done, 1, left);
        EXPECT(count == 0 || count == 1);
        if (count)
            return true;
    }
    return false;
}

/* However little a poll may bring, it brings no more, and everything in the end. */
static void one_completion_a_poll_is_enough(void)
{
    enum { COUNT = 8, MANY = 20 };
    takt_completion held[COUNT], done[2];
    int pairs[MANY][2];
    setup(COUNT, 64);
    for (int i = 0; i < MANY; i++) {
        pair_of(SOCK_STREAM, pairs[i]);
        EXPECT_EQ(begin(i, takt_recv_multishot(pairs[i][0], &pool)), 0);
        say(pairs[i][1], "mine");
    }
    for (int i = 0; i < COUNT; i++)
        EXPECT(poll_one(&held[i], TAKT_SEC));
    EXPECT(!poll_one(done, 5 * TAKT_MS));
    for (int i = 0; i < COUNT; i++)
        put(&held[i]);
    for (int i = COUNT; i < MANY; i++) {
        memset(done, 0, sizeof done);
        EXPECT(poll_one(done, TAKT_SEC));
        EXPECT_EQ(done[1].token, 0);
        put(&done[0]);
    }
    for (int i = 0; i < MANY; i++) {
        cancel(i);
        EXPECT_EQ(end_of(i), -ECANCELED);
        close_pair(pairs[i]);
    }
    finish();
}

/* E21: in either order, and with others on the same backend */
static void a_pool_may_go_before_or_after_the_backend(void)
{
    takt_bufs other;
    int pair[2];
    for (int order = 0; order < 2; order++) {
        setup(16, 64);
        EXPECT_EQ(takt_bufs_init(&other, 16, 128), 0);
        pair_of(SOCK_STREAM, pair);
        for (int round = 0; round < 3; round++) {
            EXPECT_EQ(begin(0, takt_recv_multishot(pair[0], &pool)), 0);
            say(pair[1], "x");
            expect_text(0, "x");
            cancel(0);
            EXPECT_EQ(end_of(0), -ECANCELED);
            EXPECT_EQ(begin(0, takt_recv_multishot(pair[0], &other)), 0);
            say(pair[1], "y");
            {
                takt_completion done = next(0);
                unsigned char *data = (unsigned char *)done.payload;
                EXPECT(data && *data == 'y');
                EXPECT_EQ(takt_bufs_put(&other, &data), 0);
            }
            cancel(0);
            EXPECT_EQ(end_of(0), -ECANCELED);
            if (order == 0) {
                takt_bufs_free(&pool);
                EXPECT_EQ(takt_bufs_init(&pool, 16, 64), 0);
            }
        }
        if (order == 0)
            takt_bufs_free(&other);
        close_pair(pair);
        finish();
        if (order == 1) {
            EXPECT_EQ(other.kept, 0);
            EXPECT(takt_bufs_take(&other) != NULL);
            other.in_use = 0;
            takt_bufs_free(&other);
        }
    }
}

/* C4, R4: the slot was given away while the request lived on. What comes for it is not lost. */
static void what_is_stale_gives_back_what_it_carries(void)
{
    struct sockaddr_in addr;
    takt_completion held[20];
    char text[64];
    int pair[2], other[2], clients[4];
    int listener, before, count = 0;
    if (wanted.mode == TAKT_URING_NEVER)
        return; /* no completion but its own */
    setup(16, 64);
    pair_of(SOCK_STREAM, pair);
    pair_of(SOCK_SEQPACKET, other);
    listener = listener_at(&addr);
    EXPECT_EQ(begin(0, takt_recv_multishot(pair[0], &pool)), 0);
    EXPECT_EQ(begin(1, takt_accept_multishot(listener)), 0);
    pump(0);
    slot_memory[0].generation++;
    slot_memory[1].generation++;
    before = open_descriptors();
    for (int i = 0; i < 4; i++)
        clients[i] = connected(&addr);
    for (int i = 0; i < 3; i++) {
        say(pair[1], "lost");
        expect_silence(2 * TAKT_MS);
    }
    EXPECT(backend.stale >= 2);
    EXPECT_EQ(recv(pair[0], text, sizeof text, MSG_DONTWAIT) % 4, 0); /* it was ended, too */
    EXPECT_EQ(pool.in_use, 0);
    EXPECT_EQ(begin(2, takt_recv_multishot(other[0], &pool)), 0);
    for (int i = 0; i < 20; i++)
        say(other[1], "all of them");
    while (next_within(2, &held[count], 20 * TAKT_MS) && count < 19)
        count++;
    EXPECT_EQ(count, 16);
    while (count > 0)
        put(&held[--count]);
    for (int i = 0; i < 4; i++)
        expect_text(2, "all of them");
    cancel(2);
    EXPECT_EQ(end_of(2), -ECANCELED);
    close_pair(other);
    EXPECT_EQ(open_descriptors(), before + 4 - 2);
    slot_memory[0].op.state = slot_memory[1].op.state = 0; /* nobody owes these an end */
    for (int i = 0; i < 4; i++)
        close(clients[i]);
    close(listener);
    close_pair(pair);
    finish();
}

/* Items that were never polled, when the backend goes. */
static void buffers_that_nobody_takes_come_back(void)
{
    int pair[2];
    setup(16, 64);
    pair_of(SOCK_STREAM, pair);
    EXPECT_EQ(begin(0, takt_recv_multishot(pair[0], &pool)), 0);
    say(pair[1], "for nobody");
    takt_uring_flush(&backend);
    takt_uring_free(&backend);
    EXPECT_EQ(pool.in_use, 0);
    EXPECT_EQ(pool.kept, 0);
    takt_bufs_free(&pool);
    close_pair(pair);
    EXPECT_EQ(open_descriptors(), open_before);
}

/* C1, C2: more than the queue of completions holds; the kernel ends its request without an
 * error */
static void an_overflow_is_no_end(void)
{
    enum { COUNT = 100 };
    int pair[2];
    wanted.entries = 4;
    wanted.cq_entries = 4;
    setup(256, 16);
    pair_of(SOCK_SEQPACKET, pair);
    EXPECT_EQ(begin(0, takt_recv_multishot(pair[0], &pool)), 0);
    pump(0);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < COUNT; i++) {
            const unsigned char byte = (unsigned char)i;
            EXPECT_EQ(send(pair[1], &byte, 1, MSG_DONTWAIT), 1);
        }
        for (int i = 0; i < COUNT; i++) {
            takt_completion done = next(0);
            EXPECT_EQ(done.flags, TAKT_MORE);
            EXPECT(done.payload && *(unsigned char *)done.payload == i);
            put(&done);
        }
    }
    close(pair[1]);
    EXPECT_EQ(end_of(0), 0);
    close(pair[0]);
    finish();
}

/* B1: the queue to the kernel is too small for all that begins at once */
static void a_full_queue_is_no_error(void)
{
    enum { MANY = 64 };
    int pairs[MANY][2];
    wanted.entries = 4;
    setup(64, 64);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < MANY; i++) {
            pair_of(SOCK_STREAM, pairs[i]);
            EXPECT_EQ(begin(i, takt_recv_multishot(pairs[i][0], &pool)), 0);
            if (round == 2)
                cancel(i);
        }
        takt_bufs_trim(&pool); /* while most stand in line */
        for (int i = 0; i < MANY && round < 2; i++)
            say(pairs[i][1], "here");
        for (int i = 0; i < MANY && round < 2; i++) {
            expect_text(i, "here");
            cancel(i);
        }
        for (int i = 0; i < MANY; i++) {
            EXPECT_EQ(end_of(i), -ECANCELED);
            close_pair(pairs[i]);
        }
    }
    finish();
}

/* One request serves for many items; without the rung, or the ring, each takes its own. */
static void the_rungs_are_what_they_say(void)
{
    char text[256];
    int pair[2];
    uint64_t submitted;
    uint32_t without;
    if (wanted.mode == TAKT_URING_NEVER)
        return;
    setup(16, 64);
    pair_of(SOCK_STREAM, pair);
    takt_uring_describe(&backend, text, sizeof text);
    without = ~backend.rungs; /* an old kernel has no more than others are told to use */
    EXPECT_EQ(strstr(text, "multishot") != NULL, !(without & TAKT_URING_NO_MULTISHOT));
    EXPECT_EQ(strstr(text, "buffer_ring") != NULL, !(without & TAKT_URING_NO_BUFFER_RING));
    EXPECT_EQ(wanted.disable & ~without, 0);
    EXPECT_EQ(begin(0, takt_recv_multishot(pair[0], &pool)), 0);
    pump(0);
    submitted = backend.submitted;
    for (int i = 0; i < 100; i++) {
        say(pair[1], "ping");
        expect_text(0, "ping");
    }
    pump(0);
    if (without & (TAKT_URING_NO_MULTISHOT | TAKT_URING_NO_BUFFER_RING))
        EXPECT(backend.submitted - submitted >= 100);
    else
        EXPECT(backend.submitted - submitted < 10);
    cancel(0);
    EXPECT_EQ(end_of(0), -ECANCELED);
    EXPECT_EQ(begin(0, takt_ready_multishot(pair[0], TAKT_READABLE)), 0);
    pump(0);
    submitted = backend.submitted;
    for (int i = 0; i < 100; i++) {
        say(pair[1], "ping");
        while (next(0).value & POLLIN && recv(pair[0], text, 4, MSG_DONTWAIT) != 4)
            continue;
    }
    if (without & TAKT_URING_NO_MULTISHOT)
        EXPECT(backend.submitted - submitted >= 99);
    else
        EXPECT(backend.submitted - submitted < 10);
    cancel(0);
    while (next(0).flags & TAKT_MORE)
        continue;
    close_pair(pair);
    finish();
}

/* A10, E14: the kernel, or who guards it, registers nothing: at init, or later */
static void without_registration_it_works_all_the_same(void)
{
    if (wanted.mode == TAKT_URING_NEVER || wanted.restrict_ops) /* else it registers, or ends */
        return;
    for (int late = 0; late < 2; late++) {
        int status = 0, pair[2];
        const pid_t child = fork();
        if (child == 0) {
            EXPECT_EQ(late ? 0 : refuse(__NR_io_uring_register, EINVAL), 0);
            setup(16, 64);
            EXPECT_EQ(late ? refuse(__NR_io_uring_register, ENOMEM) : 0, 0);
            pair_of(SOCK_STREAM, pair);
            EXPECT_EQ(begin(0, takt_recv_multishot(pair[0], &pool)), 0);
            for (int i = 0; i < 10; i++) {
                say(pair[1], "ping");
                expect_text(0, "ping");
            }
            EXPECT_EQ(pool.kept, 0);
            EXPECT(!(backend.rungs & TAKT_URING_NO_BUFFER_RING));
            cancel(0);
            EXPECT_EQ(end_of(0), -ECANCELED);
            close_pair(pair);
            finish();
            fflush(stdout);
            _exit(test_failures != 0);
        }
        EXPECT_EQ(waitpid(child, &status, 0), child);
        EXPECT_EQ(status, 0);
    }
}

/* -- connections ------------------------------------------------------------- */

/* The descriptor of an item, not yet closed. */
static int accepted(int i)
{
    const takt_completion done = next(i);
    EXPECT_EQ(done.flags, TAKT_MORE | TAKT_FD);
    EXPECT_EQ(done.error, 0);
    EXPECT(done.payload == NULL);
    EXPECT_EQ(fcntl((int)done.value, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    EXPECT(fcntl((int)done.value, F_GETFL) & O_NONBLOCK);
    return (int)done.value;
}

static void every_connection_is_an_item(void)
{
    enum { MANY = 20 };
    struct sockaddr_in addr;
    int clients[MANY];
    int listener;
    setup(0, 0);
    listener = listener_at(&addr);
    EXPECT_EQ(begin(0, takt_accept_multishot(listener)), 0);
    pump(0);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < MANY; i++)
            clients[i] = connected(&addr);
        for (int i = 0; i < MANY; i++) {
            close_by_backend(accepted(0));
            close(clients[i]);
        }
    }
    expect_silence(2 * TAKT_MS);
    cancel(0);
    EXPECT_EQ(end_of(0), -ECANCELED);
    clients[0] = connected(&addr); /* nobody accepts it any more */
    expect_silence(5 * TAKT_MS);
    close(clients[0]);
    close(listener);
    finish();
}

/* F8: what is no error of one connection is the end */
static void a_listener_that_is_shut_down_ends_it(void)
{
    struct sockaddr_in addr;
    int listener;
    setup(0, 0);
    listener = listener_at(&addr);
    EXPECT_EQ(begin(0, takt_accept_multishot(listener)), 0);
    pump(0);
    shutdown(listener, SHUT_RDWR);
    EXPECT_EQ(end_of(0), -EINVAL);
    expect_silence(TAKT_MS);
    close(listener);
    finish();
}

/* Leaves room for `count` descriptors more. The limit before. */
static struct rlimit leave_room(int count)
{
    struct rlimit before, now;
    const int lowest = dup(0);
    close(lowest);
    EXPECT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    now = before;
    now.rlim_cur = (rlim_t)(lowest + count);
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &now), 0);
    return before;
}

/* F9: no descriptor is free. It waits, without a storm and without going deaf. */
static void without_descriptors_it_waits_for_one(void)
{
    enum { MANY = 4 };
    struct sockaddr_in addr;
    struct rlimit before;
    takt_completion done;
    struct pollfd foreign;
    int clients[MANY], got[MANY];
    int listener, spare, other, sleeps = 0;
    uint64_t submitted;
    setup(0, 0);
    listener = listener_at(&addr);
    for (int i = 0; i < MANY; i++)
        clients[i] = connected(&addr);
    spare = dup(0);
    foreign.fd = takt_uring_fd(&backend);
    foreign.events = POLLIN;
    EXPECT_EQ(begin(0, takt_accept_multishot(listener)), 0);
    before = leave_room(0);
    submitted = backend.submitted;
    expect_silence(250 * TAKT_MS);
    EXPECT(backend.submitted - submitted < 20);
    close_by_backend(spare);
    EXPECT(next_within(0, &done, 50 * TAKT_MS)); /* at once, not after a while */
    got[0] = (int)done.value;
    EXPECT_EQ(got[0], spare);
    expect_silence(20 * TAKT_MS);

    EXPECT_EQ(begin(1, takt_close(got[0])), 0); /* the other way to close */
    EXPECT_EQ(end_of(1), 0);
    EXPECT(next_within(0, &done, 50 * TAKT_MS));
    got[1] = (int)done.value;
    expect_silence(20 * TAKT_MS);

    for (int i = 0; i < 4; i++) { /* who sleeps on the backend's descriptor is woken for it */
        takt_uring_flush(&backend);
        if (foreign.fd >= 0 && !takt_uring_busy(&backend)) {
            const takt_ns start = takt_uring_now(&backend);
            EXPECT_EQ(poll(&foreign, 1, 2000), 1);
            EXPECT(takt_uring_now(&backend) - start < TAKT_SEC);
            sleeps++;
        }
        pump(0);
    }
    EXPECT(foreign.fd < 0 || sleeps >= 2); /* not busy all the time */
    close(got[1]); /* behind its back */
    EXPECT(next_within(0, &done, 2 * TAKT_SEC));
    got[2] = (int)done.value;
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
    EXPECT(next_within(0, &done, 2 * TAKT_SEC));
    got[3] = (int)done.value;

    other = connected(&addr); /* and it is in order again */
    EXPECT(next_within(0, &done, 2 * TAKT_SEC));
    close_by_backend((int)done.value);
    close(other);
    close_by_backend(got[2]);
    close_by_backend(got[3]);
    cancel(0);
    EXPECT_EQ(end_of(0), -ECANCELED);
    for (int i = 0; i < MANY; i++)
        close(clients[i]);
    close(listener);
    finish();
}

static void a_cancel_while_it_waits_for_descriptors(void)
{
    struct sockaddr_in addr;
    struct rlimit before;
    int client, listener;
    setup(0, 0);
    listener = listener_at(&addr);
    client = connected(&addr);
    EXPECT_EQ(begin(0, takt_accept_multishot(listener)), 0);
    before = leave_room(0);
    pump(0);
    pump(TAKT_MS);
    cancel(0);
    EXPECT_EQ(end_of(0), -ECANCELED);
    expect_silence(TAKT_MS);
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
    expect_silence(150 * TAKT_MS);
    close(client);
    close(listener);
    finish();
}

/* D12: what nobody took is closed with the backend, or by who takes the completion */
static void connections_that_nobody_takes_are_closed(void)
{
    struct sockaddr_in addr;
    int clients[8];
    int listener;
    setup(0, 0);
    listener = listener_at(&addr);
    EXPECT_EQ(begin(0, takt_accept_multishot(listener)), 0);
    for (int i = 0; i < 8; i++)
        clients[i] = connected(&addr);
    takt_uring_flush(&backend);
    takt_uring_free(&backend); /* finish() counts descriptors */
    for (int i = 0; i < 8; i++)
        close(clients[i]);
    close(listener);
    EXPECT_EQ(open_descriptors(), open_before);
}

/* -- datagrams ---------------------------------------------------------------- */

static int udp_at(int af, struct sockaddr_storage *addr, socklen_t *len)
{
    const int fd = socket(af, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in in4;
    struct sockaddr_in6 in6;
    memset(&in4, 0, sizeof in4);
    memset(&in6, 0, sizeof in6);
    in4.sin_family = AF_INET;
    in4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    in6.sin6_family = AF_INET6;
    in6.sin6_addr = in6addr_loopback;
    if (af == AF_INET)
        EXPECT_EQ(bind(fd, (struct sockaddr *)&in4, sizeof in4), 0);
    else if (bind(fd, (struct sockaddr *)&in6, sizeof in6) < 0) {
        close(fd);
        return -1; /* no IPv6 here */
    }
    *len = sizeof *addr;
    EXPECT_EQ(getsockname(fd, (struct sockaddr *)addr, len), 0);
    return fd;
}

static void set(int fd, int level, int name, int value)
{
    EXPECT_EQ(setsockopt(fd, level, name, &value, sizeof value), 0);
}

static const takt_datagram *datagram(const takt_completion *done)
{
    const takt_datagram *const d = (const takt_datagram *)done->payload;
    EXPECT_EQ(done->flags, TAKT_MORE);
    EXPECT_EQ(done->error, 0);
    EXPECT(d != NULL);
    if (!d)
        exit(1);
    EXPECT(d->data == (unsigned char *)done->payload + 256);
    EXPECT_EQ(done->value, d->len);
    return d;
}

static void datagrams_of(int af)
{
    struct sockaddr_storage there, here;
    takt_completion done;
    const takt_datagram *d;
    takt_addr expected;
    socklen_t len;
    int server, client;
    setup(16, 512);
    server = udp_at(af, &there, &len);
    client = server >= 0 ? udp_at(af, &here, &len) : -1;
    if (client < 0) {
        finish();
        return;
    }
    if (af == AF_INET) {
        set(server, IPPROTO_IP, IP_PKTINFO, 1);
        set(server, IPPROTO_IP, IP_RECVTOS, 1);
        set(client, IPPROTO_IP, IP_TOS, 2);
    } else {
        set(server, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
        set(server, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
        set(client, IPPROTO_IPV6, IPV6_TCLASS, 2);
    }
    memset(&expected, 0, sizeof expected);
    expected.len = len;
    memcpy(&expected.sockaddr, &here, len);
    EXPECT_EQ(begin(0, takt_recvmsg_multishot(server, &pool)), 0);
    for (int i = 0; i < 40; i++) {
        EXPECT_EQ(sendto(client, "hello", 5, 0, (struct sockaddr *)&there, len), 5);
        done = next(0);
        d = datagram(&done);
        EXPECT_EQ(d->len, 5);
        EXPECT(memcmp(d->data, "hello", 5) == 0);
        EXPECT(!d->truncated);
        EXPECT_EQ(d->segment, 0);
        EXPECT_EQ(d->ecn, 2);
        EXPECT_EQ(d->from.len, len);
        EXPECT(takt_addr_equal(&d->from, &expected));
        EXPECT_EQ(d->to.len, len);
        EXPECT_EQ(takt_addr_port(&d->to), 0);
        EXPECT(memcmp((const char *)&d->to.sockaddr + (af == AF_INET ? 4 : 8),
                      (const char *)&there + (af == AF_INET ? 4 : 8), af == AF_INET ? 4 : 16) ==
               0);
        put(&done);
    }
    EXPECT_EQ(pool.in_use, 0);
    cancel(0);
    EXPECT_EQ(end_of(0), -ECANCELED);
    close(server);
    close(client);
    finish();
}

static void datagrams_tell_where_from_and_where_to(void)
{
    datagrams_of(AF_INET);
    datagrams_of(AF_INET6);
}

/* G1, G3: too long, and empty; nothing was asked for, so nothing is told */
static void long_and_empty_datagrams_are_items(void)
{
    static const char text[400] = "long";
    unsigned char *used[8];
    struct sockaddr_storage there, here;
    takt_completion done;
    const takt_datagram *d;
    socklen_t len;
    int server, client;
    setup(8, 256 + 256);
    for (int i = 0; i < 8; i++)
        memset(used[i] = takt_bufs_take(&pool), 0xff, 512); /* what was in it does not show */
    for (int i = 0; i < 8; i++)
        EXPECT_EQ(takt_bufs_put(&pool, &used[i]), 0);
    server = udp_at(AF_INET, &there, &len);
    client = udp_at(AF_INET, &here, &len);
    EXPECT_EQ(begin(0, takt_recvmsg_multishot(server, &pool)), 0);
    for (int i = 0; i < 20; i++) {
        const size_t size = i % 4 == 0 ? 0 : i % 4 == 1 ? 256 : i % 4 == 2 ? 257 : 400;
        EXPECT_EQ(sendto(client, text, size, 0, (struct sockaddr *)&there, len), size);
        done = next(0);
        d = datagram(&done);
        EXPECT_EQ(d->len, size < 256 ? size : 256);
        EXPECT_EQ(d->truncated, size > 256);
        EXPECT_EQ(d->from.len, len);
        EXPECT_EQ(d->to.len, 0);
        EXPECT_EQ(d->ecn, 0);
        put(&done);
    }
    for (int i = 0; i < 8; i++)
        EXPECT_EQ(sendto(client, "", 0, 0, (struct sockaddr *)&there, len), 0);
    for (int i = 0; i < 8; i++) {
        done = next(0);
        EXPECT_EQ(datagram(&done)->len, 0);
        put(&done);
    }
    shutdown(server, SHUT_RD); /* says -1, and does it: maybe the end, but no flood of nothing */
    pump(10 * TAKT_MS);
    if (!log_count) {
        expect_silence(10 * TAKT_MS);
        cancel(0);
        EXPECT_EQ(end_of(0), -ECANCELED);
    } else {
        EXPECT_EQ(end_of(0), 0);
    }
    close(server);
    close(client);
    finish();
}

/* G2: an error of one datagram is none of the stream */
static void icmp_errors_do_not_end_it(void)
{
    struct sockaddr_storage there, here;
    takt_completion done;
    socklen_t len;
    int server, client;
    setup(8, 512);
    server = udp_at(AF_INET, &there, &len);
    client = udp_at(AF_INET, &here, &len);
    EXPECT_EQ(connect(client, (struct sockaddr *)&there, len), 0);
    EXPECT_EQ(begin(0, takt_recvmsg_multishot(client, &pool)), 0);
    pump(0);
    close(server); /* nobody is there any more */
    for (int i = 0; i < 5; i++) {
        (void)!send(client, "anybody?", 8, 0);
        pump(0);
    }
    expect_silence(20 * TAKT_MS);
    server = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(bind(server, (struct sockaddr *)&there, len), 0);
    EXPECT_EQ(sendto(server, "back", 4, 0, (struct sockaddr *)&here, len), 4);
    done = next(0);
    EXPECT_EQ(datagram(&done)->len, 4);
    put(&done);
    cancel(0);
    EXPECT_EQ(end_of(0), -ECANCELED);
    close(server);
    close(client);
    finish();
}

/* G10: what came together is told apart */
static void joined_datagrams_have_a_segment_size(void)
{
    static char text[4000];
    struct sockaddr_storage there, here;
    const int segment = 1000;
    takt_completion done;
    const takt_datagram *d;
    socklen_t len;
    size_t count = 0;
    int server, client;
    setup(8, 256 + 65536);
    server = udp_at(AF_INET, &there, &len);
    client = udp_at(AF_INET, &here, &len);
    set(server, IPPROTO_UDP, UDP_GRO, 1);
    set(client, IPPROTO_UDP, UDP_SEGMENT, segment);
    EXPECT_EQ(begin(0, takt_recvmsg_multishot(server, &pool)), 0);
    EXPECT_EQ(sendto(client, text, sizeof text, 0, (struct sockaddr *)&there, len), sizeof text);
    while (count < sizeof text) {
        done = next(0);
        d = datagram(&done);
        EXPECT(d->len == 1000 || d->segment == 1000);
        count += d->len;
        if (d->len == 0)
            break;
        put(&done);
    }
    EXPECT_EQ(count, sizeof text);
    cancel(0);
    EXPECT_EQ(end_of(0), -ECANCELED);
    close(server);
    close(client);
    finish();
}

/* E16: and what else cannot be a stream */
static void what_cannot_be_a_stream_is_refused(void)
{
    static const uint32_t sizes[] = {8, 256, 260};
    struct sockaddr_storage there;
    socklen_t len;
    takt_op op;
    int server;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        setup(4, sizes[i]);
        server = udp_at(AF_INET, &there, &len);
        EXPECT_EQ(begin(0, takt_recvmsg_multishot(server, &pool)), -EINVAL);
        op = takt_recvfrom(server, &there, 8, NULL);
        op.flags |= TAKT_OP_MULTI;
        EXPECT_EQ(begin(0, op), -ENOTSUP);
        op = takt_recvmsg_multishot(server, &pool);
        op.flags = 0;
        EXPECT_EQ(begin(0, op), -ENOTSUP);
        EXPECT_EQ(begin(0, takt_recv_multishot(-1, &pool)), -EBADF);
        EXPECT_EQ(begin(0, takt_recv_multishot(server, NULL)), -EINVAL);
        close(server);
        finish();
    }
}

/* -- readiness ----------------------------------------------------------------- */

static void each_edge_is_an_item(void)
{
    takt_completion done;
    char byte;
    int pair[2];
    setup(0, 0);
    pair_of(SOCK_STREAM, pair);
    EXPECT_EQ(begin(0, takt_ready_multishot(pair[0], TAKT_READABLE)), 0);
    expect_silence(5 * TAKT_MS);
    for (int i = 0; i < 20; i++) {
        say(pair[1], "x");
        do {
            done = next(0);
            EXPECT_EQ(done.flags, TAKT_MORE);
            EXPECT(done.value & POLLIN);
        } while (recv(pair[0], &byte, 1, MSG_DONTWAIT) != 1);
    }
    close(pair[1]);
    done = next(0);
    EXPECT_EQ(done.flags, TAKT_MORE);
    EXPECT(done.value & (POLLIN | POLLHUP));
    cancel(0);
    for (done = next(0); done.flags & TAKT_MORE; done = next(0))
        continue;
    EXPECT_EQ(done.error, -ECANCELED);
    close(pair[0]);
    finish();
}

/* And what it has not seen, those see who come after it. */
static void readiness_hides_nothing_from_those_who_come_after(void)
{
    static char text[8];
    takt_completion done;
    int pair[2];
    setup(0, 0);
    pair_of(SOCK_STREAM, pair);
    EXPECT_EQ(begin(0, takt_ready_multishot(pair[0], TAKT_READABLE)), 0);
    pump(0);
    say(pair[1], "data");
    done = next(0);
    EXPECT(done.value & POLLIN);
    cancel(0);
    for (done = next(0); done.flags & TAKT_MORE; done = next(0))
        continue;
    EXPECT_EQ(done.error, -ECANCELED);
    EXPECT_EQ(begin(1, takt_recv(pair[0], text, sizeof text)), 0);
    EXPECT_EQ(end_of(1), 4);
    close_pair(pair);
    finish();
}

/* A short read says nothing of the message behind it: also for an op that completes once. */
static void every_message_of_a_burst_is_received(void)
{
    static char text[64];
    int pair[2];
    setup(0, 0);
    pair_of(SOCK_DGRAM, pair);
    for (int round = 0; round < 3; round++) {
        EXPECT_EQ(begin(0, takt_recv(pair[0], text, sizeof text)), 0);
        expect_silence(TAKT_MS);
        for (int i = 0; i < 5; i++)
            say(pair[1], "message");
        EXPECT_EQ(end_of(0), 7);
        for (int i = 1; i < 5; i++) {
            EXPECT_EQ(begin(0, takt_recv(pair[0], text, sizeof text)), 0);
            EXPECT_EQ(end_of(0), 7);
        }
    }
    close_pair(pair);
    finish();
}

/* Both directions in one op: either is enough. */
static void either_direction_is_enough(void)
{
    static char block[1 << 16];
    takt_completion done;
    int pair[2];
    for (int many = 0; many < 2; many++) {
        setup(0, 0);
        pair_of(SOCK_STREAM, pair);
        while (send(pair[0], block, sizeof block, MSG_DONTWAIT) > 0)
            continue;
        EXPECT_EQ(begin(0, many ? takt_ready_multishot(pair[0], TAKT_READABLE | TAKT_WRITABLE)
                                : takt_ready(pair[0], TAKT_READABLE | TAKT_WRITABLE)),
                  0);
        expect_silence(5 * TAKT_MS);
        while (recv(pair[1], block, sizeof block, MSG_DONTWAIT) > 0)
            continue;
        done = next(0);
        EXPECT(done.value & POLLOUT);
        if (many) {
            cancel(0);
            for (done = next(0); done.flags & TAKT_MORE; done = next(0))
                continue;
        }
        close_pair(pair);
        finish();
    }
}

/* -- all of it, on every backend ------------------------------------------------- */

static const test tests[] = {
    TEST(every_piece_is_an_item_and_the_end_is_the_last),
    TEST(more_than_a_buffer_comes_in_pieces),
    TEST(an_empty_pool_is_waited_for),
    TEST(a_flood_leaves_buffers_for_the_others),
    TEST(the_descriptor_announces_what_comes),
    TEST(a_cancel_ends_it_once),
    TEST(a_cancel_loses_no_byte),
    TEST(a_close_ends_it),
    TEST(idle_connections_hold_no_buffer),
    TEST(a_flood_does_not_keep_others_waiting),
    TEST(a_lease_takes_its_buffer_late),
    TEST(half_of_the_pool_can_be_taken_directly),
    TEST(a_pool_can_be_trimmed),
    TEST(trimming_spares_what_was_not_read),
    TEST(one_completion_a_poll_is_enough),
    TEST(a_pool_may_go_before_or_after_the_backend),
    TEST(what_is_stale_gives_back_what_it_carries),
    TEST(buffers_that_nobody_takes_come_back),
    TEST(an_overflow_is_no_end),
    TEST(a_full_queue_is_no_error),
    TEST(the_rungs_are_what_they_say),
    TEST(without_registration_it_works_all_the_same),
    TEST(every_connection_is_an_item),
    TEST(a_listener_that_is_shut_down_ends_it),
    TEST(without_descriptors_it_waits_for_one),
    TEST(a_cancel_while_it_waits_for_descriptors),
    TEST(connections_that_nobody_takes_are_closed),
    TEST(datagrams_tell_where_from_and_where_to),
    TEST(long_and_empty_datagrams_are_items),
    TEST(icmp_errors_do_not_end_it),
    TEST(joined_datagrams_have_a_segment_size),
    TEST(what_cannot_be_a_stream_is_refused),
    TEST(each_edge_is_an_item),
    TEST(readiness_hides_nothing_from_those_who_come_after),
    TEST(every_message_of_a_burst_is_received),
    TEST(either_direction_is_enough),
};

/* stream_backend [MODE] [NAME...] */
int main(int argc, char **argv)
{
    const size_t count = sizeof tests / sizeof tests[0];
    int passed = 0, failed = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (mode = modes; mode < modes + MODES; mode++) {
        int skip = 0;
        for (int i = 1; i < argc && i < 2; i++)
            for (int m = 0; m < MODES; m++)
                skip |= strcmp(argv[i], modes[m].name) == 0 && &modes[m] != mode;
        for (size_t i = 0; i < count && !skip; i++) {
            const int named = argc > 1 && strcmp(argv[1], mode->name) == 0;
            if (argc > 1 + named && !test_wanted(tests[i].name, argc, argv))
                continue;
            wanted = mode->config;
            test_failures = 0;
            memset(&pool, 0, sizeof pool);
            tests[i].run();
            if (test_failures)
                printf("FAIL %s on %s\n", tests[i].name, mode->name);
            failed += test_failures > 0;
            passed += test_failures == 0;
        }
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0;
}

/*
 * contract.c - what every real backend does, seen from coroutines
 *
 *     contract epoll | poll | uring | refused   [NAME...]
 *
 * One suite for all of them; `refused` forbids io_uring first and expects epoll to run
 * in its place. Nothing here depends on how long something takes: a test that hangs is
 * ended by drive(). After each, no strand, no timer and no descriptor is left.
 */
#define TAKT_IMPLEMENTATION
#include "../takt_uring.h"

#include "refuse.h"
#include "test.h"

#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

TAKT_LOOP(net, takt_uring);
static net loop;
static net_config wanted; /* as the command line asks for it */
static const char *expected_name;
static int open_before;
static unsigned char big[8 << 20]; /* what is sent, and in its second use received */
static unsigned char copy[8 << 20];

/* -- what surrounds every test --------------------------------------------- */

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

static void setup(void)
{
    open_before = open_descriptors();
    EXPECT_EQ(net_init(&loop, &wanted), 0);
    EXPECT(strcmp(takt_uring_name(&loop.backend), expected_name) == 0);
}

static void finish(void)
{
    EXPECT_EQ(loop.sched.strands_used, 0);
    EXPECT_EQ(loop.sched.wheel.count, 0);
    EXPECT_EQ(loop.sched.stats.stale, 0);
    EXPECT_EQ(net_free(&loop), 0);
    EXPECT_EQ(open_descriptors(), open_before);
}

/* Runs the loop until `frame` has finished, or it has clearly been forgotten. */
static void drive(const takt_frame *frame)
{
    const takt_ns limit = net_now(&loop) + 10 * test_slow() * TAKT_SEC;
    while (takt_alive(frame)) {
        const takt_ns left = limit - net_now(&loop);
        if (left <= 0 || net_turn(&loop, left, 0) < 0) {
            EXPECT(false && "the coroutine ends");
            takt_dump(&loop.sched);
            takt_stop(&loop.sched, 0);
            net_drain(&loop);
            return;
        }
    }
    EXPECT_EQ(takt_error(frame), 0);
}

/* RUN(object, coroutine, .argument = value, ...): on a loop of its own, to its end. */
#define RUN(object, ...)                                                                     \
    do {                                                                                     \
        setup();                                                                             \
        EXPECT(TAKT_START_ON(&loop, object, __VA_ARGS__));                                   \
        drive(&(object).frame);                                                              \
        finish();                                                                            \
    } while (0)

static void pair_of(int type, int *pair)
{
    EXPECT_EQ(socketpair(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
}

static uint32_t random_state = 1;

static uint32_t random_below(uint32_t limit)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % limit;
}

/* Up to three ticks. */
static takt_ns soon(void)
{
    return 1 + (takt_ns)random_below(3 * (uint32_t)TAKT_TICK);
}

/* -- addresses ------------------------------------------------------------- */

enum { IPV4, IPV6, UNIX, PLACES };

static bool have[PLACES];

static takt_addr place(int which)
{
    takt_addr addr;
    char text[64];
    snprintf(text, sizeof text, "%s", which == IPV4 ? "127.0.0.1:0" : "[::1]:0");
    if (which == UNIX)
        snprintf(text, sizeof text, "unix:/tmp/takt-contract-%d", (int)getpid());
    EXPECT_EQ(takt_addr_parse(&addr, text), 0);
    return addr;
}

static struct sockaddr *raw(takt_addr *addr)
{
    return (struct sockaddr *)(void *)&addr->sockaddr;
}

static int family(takt_addr *addr)
{
    return raw(addr)->sa_family;
}

static void forget(int which)
{
    takt_addr addr = place(which);
    if (which == UNIX)
        unlink(((struct sockaddr_un *)(void *)raw(&addr))->sun_path);
}

static void look_for_places(void)
{
    for (int i = 0; i < PLACES; i++) {
        takt_addr addr = place(i);
        const int fd = socket(family(&addr), SOCK_STREAM, 0);
        have[i] = fd >= 0 && bind(fd, raw(&addr), addr.len) == 0;
        if (!have[i])
            printf("note: no %s here\n", i == IPV6 ? "IPv6" : "place to listen");
        close(fd);
        forget(i);
    }
}

/* A listening socket, and in `addr` where. */
static int listen_at(takt_frame *frame, int which, takt_addr *addr)
{
    int fd;
    *addr = place(which);
    fd = takt_listen(frame, addr, 0);
    EXPECT(fd >= 0);
    EXPECT_EQ(takt_sockname(frame, fd, addr), 0);
    return fd;
}

/* A listener on which no connection comes to be any more. Two descriptors. */
static void listen_in_silence(takt_addr *addr, int *fds)
{
    socklen_t len = sizeof addr->sockaddr;
    *addr = place(IPV4);
    fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    fds[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    EXPECT_EQ(bind(fds[0], raw(addr), addr->len), 0);
    EXPECT_EQ(listen(fds[0], 0), 0);
    EXPECT_EQ(getsockname(fds[0], raw(addr), &len), 0);
    (void)!connect(fds[1], raw(addr), addr->len); /* takes the only place */
}

/* -- time ------------------------------------------------------------------ */

struct clockwork {
    takt_frame frame;
    takt_ns before;
    int n;
};

static TAKT_CORO(clockwork)
{
    TAKT_BEGIN(clockwork, my);
    my->n = 7;
    TAKT_AWAIT(my->n, takt_nop());
    EXPECT_EQ(my->n, 0);
    TAKT_AWAIT(takt_within(10 * TAKT_SEC, takt_nop()));
    my->before = takt_now(&my->frame);
    TAKT_AWAIT(my->n, takt_sleep(2 * TAKT_MS));
    EXPECT_EQ(my->n, 0);
    EXPECT(takt_now(&my->frame) - my->before >= 2 * TAKT_MS);
    my->before = takt_now(&my->frame) + TAKT_MS;
    TAKT_AWAIT(takt_sleep_until(my->before));
    EXPECT(takt_now(&my->frame) >= my->before);
    TAKT_AWAIT(takt_sleep_until(1)); /* long past */
    TAKT_AWAIT(takt_sleep(-5));
    TAKT_END;
}

static void nops_and_sleeps_end_in_time(void)
{
    static struct clockwork clockwork;
    RUN(clockwork, clockwork);
}

/* -- a conversation, over every kind of stream ----------------------------- */

struct client {
    takt_frame frame;
    takt_addr *to;
    bool dial;
    int fd;
    int n;
    takt_addr own;
    char buf[16];
};

static TAKT_CORO(client)
{
    TAKT_BEGIN(client, my);
    my->fd = -1;
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->fd)); }
    if (my->dial) {
        TAKT_AWAIT(my->fd, takt_tcp_connect(my->to));
    } else {
        my->fd = takt_socket(&my->frame, family(my->to), SOCK_STREAM, 0);
        TAKT_CHECK(my->fd);
        TAKT_AWAIT(my->n, takt_within(10 * TAKT_SEC, takt_connect(my->fd, my->to)));
        EXPECT_EQ(my->n, 0);
    }
    EXPECT(my->fd >= 0);
    EXPECT_EQ(takt_sockname(&my->frame, my->fd, &my->own), 0);
    TAKT_AWAIT(my->n, takt_send(my->fd, "abcdefghij", 10));
    EXPECT_EQ(my->n, 10);
    TAKT_AWAIT(my->n, takt_recv_all(my->fd, my->buf, 4));
    EXPECT(my->n == 4 && memcmp(my->buf, "pong", 4) == 0);
    TAKT_AWAIT(takt_send(my->fd, "klm", 3));
    TAKT_AWAIT(my->n, takt_shutdown(my->fd, SHUT_WR));
    EXPECT_EQ(my->n, 0);
    TAKT_AWAIT(my->n, takt_recv_all(my->fd, my->buf, 3)); /* one direction is still open */
    EXPECT(my->n == 3 && memcmp(my->buf, "bye", 3) == 0);
    TAKT_AWAIT(my->n, takt_recv(my->fd, my->buf, sizeof my->buf));
    EXPECT_EQ(my->n, 0);
    TAKT_TRY_AWAIT(my->n, takt_send(my->fd, "x", 1));
    EXPECT_EQ(my->n, -EPIPE);
    TAKT_END;
}

struct talk {
    takt_frame frame;
    int which;
    bool dial;
    int listener, fd, n;
    takt_addr addr, peer;
    struct client client;
    char buf[32];
    struct iovec iov[3];
};

/* What the client sends arrives, taken in every way there is. */
static TAKT_CORO(talk)
{
    TAKT_BEGIN(talk, my);
    my->fd = -1;
    my->listener = listen_at(&my->frame, my->which, &my->addr);
    TAKT_DEFER
    {
        TAKT_AWAIT(takt_close(my->listener));
        TAKT_AWAIT(takt_close(my->fd));
    }
    TAKT_START(my->client, client, .to = &my->addr, .dial = my->dial);
    TAKT_AWAIT(my->fd, takt_accept(my->listener, &my->peer));
    EXPECT(fcntl(my->fd, F_GETFD) & FD_CLOEXEC);
    EXPECT(fcntl(my->fd, F_GETFL) & O_NONBLOCK);

    TAKT_AWAIT(my->n, takt_recv_flags(my->fd, my->buf, 1, MSG_PEEK));
    EXPECT(my->n == 1 && my->buf[0] == 'a');
    EXPECT_EQ(family(&my->peer), family(&my->addr));
    if (my->which != UNIX) {
        EXPECT(takt_addr_equal(&my->peer, &my->client.own));
        EXPECT_EQ(takt_addr_port(&my->peer), takt_addr_port(&my->client.own));
    }
    TAKT_AWAIT(my->n, takt_recv_all(my->fd, my->buf, 5));
    EXPECT(my->n == 5 && memcmp(my->buf, "abcde", 5) == 0);
    EXPECT_EQ(takt_done(&my->frame), 5);
    my->iov[0].iov_base = my->buf + 20;
    my->iov[0].iov_len = 2;
    my->iov[1].iov_base = NULL;
    my->iov[1].iov_len = 0;
    my->iov[2].iov_base = my->buf;
    my->iov[2].iov_len = 10;
    TAKT_AWAIT(my->n, takt_recvv(my->fd, my->iov, 3));
    EXPECT(my->n == 5 && memcmp(my->buf + 20, "fg", 2) == 0 && memcmp(my->buf, "hij", 3) == 0);

    TAKT_AWAIT(takt_send(my->fd, "pong", 4));
    TAKT_TRY_AWAIT(my->n, takt_recv_all(my->fd, my->buf, 9)); /* only three will come */
    EXPECT_EQ(my->n, TAKT_ETRUNCATED);
    EXPECT_EQ(takt_done(&my->frame), 3);
    EXPECT(memcmp(my->buf, "klm", 3) == 0);
    TAKT_AWAIT(my->n, takt_recv(my->fd, my->buf, 0)); /* none asked for: not an end */
    EXPECT_EQ(my->n, 0);
    TAKT_AWAIT(takt_send(my->fd, "bye", 3));
    TAKT_AWAIT(takt_close(my->fd));
    my->fd = -1;
    TAKT_JOIN(my->client);
    TAKT_END;
}

static void converse(void)
{
    static struct talk talk;
    for (int which = 0; which < PLACES; which++)
        for (int dial = 0; have[which] && dial < 2; dial++) {
            RUN(talk, talk, .which = which, .dial = dial != 0);
            forget(which);
        }
}

static void streams_of_every_family_carry_a_conversation(void)
{
    converse();
}

/* -- bulk ------------------------------------------------------------------ */

struct slow_reader {
    takt_frame frame;
    int fd;
    size_t sum;
    int i, n;
};

static TAKT_CORO(slow_reader)
{
    TAKT_BEGIN(slow_reader, my);
    for (my->i = 0;; my->i++) {
        TAKT_AWAIT(my->n, takt_recv(my->fd, copy + my->sum, sizeof copy - my->sum));
        my->sum += (size_t)my->n;
        if (my->n == 0)
            break;
        if (my->sum == sizeof copy)
            TAKT_RETURN;
        if (my->i % 4 == 0)
            TAKT_AWAIT(takt_sleep(1));
    }
    TAKT_END;
}

struct bulk {
    takt_frame frame;
    int pair[2];
    int mode; /* 0: send, 1: sendv */
    int64_t n;
    size_t bytes;
    struct slow_reader reader;
    struct iovec iov[1000];
};

static void fill_vector(struct bulk *my)
{
    my->bytes = 0;
    for (size_t i = 0; i < 1000; i++) {
        my->iov[i].iov_base = big + my->bytes;
        my->iov[i].iov_len = i % 7 == 3 ? 0 : (i * 37) % 4000;
        my->bytes += my->iov[i].iov_len;
    }
}

static TAKT_CORO(bulk)
{
    TAKT_BEGIN(bulk, my);
    EXPECT_EQ(takt_setsockopt(&my->frame, my->pair[0], SOL_SOCKET, SO_SNDBUF, 30000), 0);
    TAKT_START(my->reader, slow_reader, .fd = my->pair[1]);
    if (my->mode == 0) {
        my->bytes = sizeof big;
        TAKT_AWAIT(my->n, takt_send(my->pair[0], big, sizeof big));
    } else {
        fill_vector(my);
        TAKT_AWAIT(my->n, takt_sendv(my->pair[0], my->iov, 1000));
    }
    EXPECT_EQ(my->n, my->bytes);
    EXPECT_EQ(takt_done(&my->frame), my->bytes);
    TAKT_AWAIT(takt_close(my->pair[0]));
    TAKT_JOIN(my->reader);
    EXPECT_EQ(my->reader.sum, my->bytes);
    EXPECT(memcmp(big, copy, my->bytes) == 0);
    TAKT_AWAIT(takt_close(my->pair[1]));
    TAKT_END;
}

static void move_bulk(void)
{
    static struct bulk bulk;
    for (size_t i = 0; i < sizeof big; i++)
        big[i] = (unsigned char)(i * 31 + (i >> 9));
    for (int mode = 0; mode < 2; mode++) {
        int pair[2];
        memset(copy, 0, sizeof copy);
        setup();
        pair_of(SOCK_STREAM, pair);
        EXPECT(TAKT_START_ON(&loop, bulk, bulk, .pair[0] = pair[0], .pair[1] = pair[1],
                             .mode = mode));
        drive(&bulk.frame);
        finish();
    }
}

static void a_send_is_whole_however_slow_the_reader(void)
{
    move_bulk();
}

/* A send that is cut off tells how far it came. */
struct cut_off {
    takt_frame frame;
    int pair[2];
    int64_t n;
    uint64_t done;
};

static TAKT_CORO(cut_off)
{
    TAKT_BEGIN(cut_off, my);
    TAKT_TRY_AWAIT(my->n, takt_within(3 * TAKT_MS, takt_send(my->pair[0], big, sizeof big)));
    EXPECT_EQ(my->n, -ETIMEDOUT);
    my->done = takt_done(&my->frame);
    EXPECT(my->done > 0 && my->done < sizeof big);
    TAKT_AWAIT(takt_close(my->pair[0]));
    TAKT_AWAIT(my->n, takt_recv_all(my->pair[1], copy, (size_t)my->done));
    EXPECT(memcmp(big, copy, (size_t)my->done) == 0);
    TAKT_AWAIT(my->n, takt_recv(my->pair[1], copy, 1));
    EXPECT_EQ(my->n, 0); /* not one byte more had gone */
    TAKT_AWAIT(takt_close(my->pair[1]));
    TAKT_END;
}

static void a_send_that_times_out_tells_how_many_bytes_went(void)
{
    static struct cut_off cut_off;
    int pair[2];
    setup();
    pair_of(SOCK_STREAM, pair);
    EXPECT(TAKT_START_ON(&loop, cut_off, cut_off, .pair[0] = pair[0], .pair[1] = pair[1]));
    drive(&cut_off.frame);
    finish();
}

/* -- datagrams ------------------------------------------------------------- */

enum { SHOTS = 40 };

struct datagrams {
    takt_frame frame;
    int which;
    int a, b, c, n, i;
    takt_addr a_addr, b_addr, from;
    takt_op ops[SHOTS];
    char out[SHOTS], buf[64];
    unsigned seen;
};

static TAKT_CORO(datagrams)
{
    TAKT_BEGIN(datagrams, my);
    my->a = my->b = my->c = -1;
    TAKT_DEFER
    {
        TAKT_AWAIT(takt_close(my->a));
        TAKT_AWAIT(takt_close(my->b));
        TAKT_AWAIT(takt_close(my->c));
    }
    my->a_addr = my->b_addr = place(my->which);
    TAKT_CHECK(my->a = takt_udp_bind(&my->frame, &my->a_addr));
    TAKT_CHECK(my->b = takt_udp_bind(&my->frame, &my->b_addr));
    TAKT_CHECK(takt_sockname(&my->frame, my->a, &my->a_addr));
    TAKT_CHECK(takt_sockname(&my->frame, my->b, &my->b_addr));

    TAKT_AWAIT(my->n, takt_sendto(my->a, "hello", 5, &my->b_addr));
    EXPECT_EQ(my->n, 5);
    TAKT_AWAIT(my->n, takt_recvfrom(my->b, my->buf, sizeof my->buf, &my->from));
    EXPECT(my->n == 5 && memcmp(my->buf, "hello", 5) == 0);
    EXPECT(takt_addr_equal(&my->from, &my->a_addr));

    TAKT_AWAIT(my->n, takt_sendto(my->a, "", 0, &my->b_addr)); /* empty, and not an end */
    EXPECT_EQ(my->n, 0);
    memset(&my->from, 0, sizeof my->from);
    TAKT_AWAIT(my->n, takt_within(10 * TAKT_SEC,
                                  takt_recvfrom(my->b, my->buf, sizeof my->buf, &my->from)));
    EXPECT_EQ(my->n, 0);
    EXPECT(takt_addr_equal(&my->from, &my->a_addr));

    TAKT_AWAIT(takt_sendto(my->a, "too long", 8, &my->b_addr));
    my->buf[3] = '#';
    TAKT_AWAIT(my->n, takt_recvfrom(my->b, my->buf, 3, NULL));
    EXPECT(my->n == 8 && memcmp(my->buf, "too#", 4) == 0);

    TAKT_CHECK(my->c = takt_udp_connect(&my->frame, &my->b_addr));
    TAKT_CHECK(takt_sockname(&my->frame, my->c, &my->from));
    TAKT_AWAIT(takt_sendto(my->a, "another's", 9, &my->from)); /* does not reach it */
    TAKT_AWAIT(takt_sendto(my->b, "its peer's", 10, &my->from));
    TAKT_AWAIT(my->n, takt_recv(my->c, my->buf, sizeof my->buf));
    EXPECT(my->n == 10 && memcmp(my->buf, "its peer's", 10) == 0);

    TAKT_TRY_AWAIT(my->n, takt_sendto(my->a, "x", 1, NULL));
    EXPECT_EQ(my->n, -EDESTADDRREQ);
    EXPECT_EQ(connect(my->a, raw(&my->b_addr), my->b_addr.len), 0);
    TAKT_AWAIT(my->n, takt_sendto(my->a, "y", 1, NULL));
    TAKT_AWAIT(my->n, takt_recvfrom(my->b, my->buf, sizeof my->buf, NULL));
    EXPECT(my->n == 1 && my->buf[0] == 'y');

    for (my->i = 0; my->i < SHOTS; my->i++) {
        my->out[my->i] = (char)my->i;
        my->ops[my->i] = takt_sendto(my->b, &my->out[my->i], 1, &my->a_addr);
    }
    TAKT_AWAIT_ALL(my->ops, SHOTS);
    for (my->i = 0; my->i < SHOTS; my->i++) {
        EXPECT_EQ(my->ops[my->i].result, 1);
        TAKT_AWAIT(my->n, takt_within(10 * TAKT_SEC,
                                      takt_recvfrom(my->a, my->buf, sizeof my->buf, NULL)));
        EXPECT_EQ(my->n, 1);
        my->seen += (unsigned)my->buf[0];
    }
    EXPECT_EQ(my->seen, SHOTS * (SHOTS - 1) / 2);
    TAKT_TRY_AWAIT(my->n, takt_sendto(my->b, big, 100000, &my->a_addr));
    EXPECT_EQ(my->n, -EMSGSIZE);
    TAKT_END;
}

static void datagrams_keep_their_bounds_and_senders(void)
{
    static struct datagrams datagrams;
    for (int which = IPV4; which <= IPV6; which++)
        if (have[which])
            RUN(datagrams, datagrams, .which = which);
}

/* Many datagrams wait for room on one socket. Their order is nobody's promise. */
struct queue {
    takt_frame frame;
    int pair[2];
    int i, n;
    int out[60];
    takt_op ops[60];
    int buf;
};

struct queue_reader {
    takt_frame frame;
    struct queue *queue;
    int i, n, buf[2000];
    uint64_t seen;
};

static TAKT_CORO(queue_reader)
{
    TAKT_BEGIN(queue_reader, my);
    TAKT_AWAIT(takt_sleep(3 * TAKT_MS)); /* the room is used up by then */
    for (my->i = 0; my->i < 60; my->i++) {
        TAKT_AWAIT(my->n, takt_within(5 * TAKT_SEC, takt_recvfrom(my->queue->pair[1], my->buf,
                                                                  sizeof my->buf, NULL)));
        EXPECT_EQ(my->n, sizeof my->buf);
        EXPECT(!(my->seen >> my->buf[0] & 1));
        my->seen |= (uint64_t)1 << my->buf[0];
    }
    TAKT_END;
}

static int shots[60][2000];

struct queue_test {
    takt_frame frame;
    struct queue queue;
    struct queue_reader reader;
};

static TAKT_CORO(queue_test)
{
    TAKT_BEGIN(queue_test, my);
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, my->queue.pair), 0);
    TAKT_DEFER
    {
        TAKT_AWAIT(takt_close(my->queue.pair[0]));
        TAKT_AWAIT(takt_close(my->queue.pair[1]));
    }
    TAKT_START(my->reader, queue_reader, .queue = &my->queue);
    for (my->queue.i = 0; my->queue.i < 60; my->queue.i++) {
        shots[my->queue.i][0] = my->queue.i;
        my->queue.ops[my->queue.i] =
            takt_sendto(my->queue.pair[0], shots[my->queue.i], sizeof shots[0], NULL);
    }
    TAKT_AWAIT_ALL(my->queue.ops, 60);
    for (my->queue.i = 0; my->queue.i < 60; my->queue.i++)
        EXPECT_EQ(my->queue.ops[my->queue.i].result, sizeof shots[0]);
    TAKT_JOIN(my->reader);
    TAKT_END;
}

static void datagrams_wait_for_room_and_arrive_once(void)
{
    static struct queue_test queue_test;
    RUN(queue_test, queue_test);
}

/* -- pipes, files, readiness, signals -------------------------------------- */

struct writer {
    takt_frame frame;
    int fd;
    int n;
};

static TAKT_CORO(writer)
{
    TAKT_BEGIN(writer, my);
    TAKT_AWAIT(takt_sleep(TAKT_MS));
    TAKT_AWAIT(my->n, takt_write(my->fd, "pipe", 4, -1));
    EXPECT_EQ(my->n, 4);
    TAKT_END;
}

struct files {
    takt_frame frame;
    int pipe[2];
    int file, n;
    char buf[16];
    struct writer writer;
};

static TAKT_CORO(files)
{
    TAKT_BEGIN(files, my);
    EXPECT_EQ(pipe2(my->pipe, O_NONBLOCK | O_CLOEXEC), 0);
    my->file = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    EXPECT(my->file >= 0);
    TAKT_DEFER
    {
        TAKT_AWAIT(takt_close(my->pipe[0]));
        TAKT_AWAIT(takt_close(my->file));
    }

    TAKT_START(my->writer, writer, .fd = my->pipe[1]);
    TAKT_AWAIT(my->n, takt_read(my->pipe[0], my->buf, sizeof my->buf, -1)); /* waits */
    EXPECT(my->n == 4 && memcmp(my->buf, "pipe", 4) == 0);
    TAKT_AWAIT(my->n, takt_read(my->pipe[0], my->buf, 0, -1));
    EXPECT_EQ(my->n, 0);
    TAKT_TRY_AWAIT(my->n, takt_within(TAKT_MS, takt_read(my->pipe[0], my->buf, 1, -1)));
    EXPECT_EQ(my->n, -ETIMEDOUT);
    TAKT_JOIN(my->writer);
    TAKT_AWAIT(takt_close(my->pipe[1]));
    TAKT_AWAIT(my->n, takt_read(my->pipe[0], my->buf, sizeof my->buf, -1));
    EXPECT_EQ(my->n, 0);

    TAKT_AWAIT(my->n, takt_write(my->file, "0123456789", 10, -1));
    EXPECT_EQ(my->n, 10);
    TAKT_AWAIT(my->n, takt_write(my->file, "xyz", 3, 100));
    EXPECT_EQ(my->n, 3);
    TAKT_AWAIT(my->n, takt_read(my->file, my->buf, sizeof my->buf, 100));
    EXPECT(my->n == 3 && memcmp(my->buf, "xyz", 3) == 0);
    TAKT_AWAIT(my->n, takt_read(my->file, my->buf, 4, 2));
    EXPECT(my->n == 4 && memcmp(my->buf, "2345", 4) == 0);
    TAKT_AWAIT(my->n, takt_read(my->file, my->buf, 1, -1)); /* the position is still at 10 */
    EXPECT(my->n == 1 && my->buf[0] == '\0');
    TAKT_AWAIT(my->n, takt_read(my->file, my->buf, 1, 1000));
    EXPECT_EQ(my->n, 0);
    TAKT_TRY_AWAIT(my->n, takt_read(-1, my->buf, 1, -1));
    EXPECT_EQ(my->n, -EBADF);
    TAKT_TRY_AWAIT(my->n, takt_recv(my->file, my->buf, 1));
    EXPECT_EQ(my->n, -ENOTSOCK);
    TAKT_END;
}

static void pipes_and_files_are_read_and_written(void)
{
    static struct files files;
    RUN(files, files);
}

struct readiness {
    takt_frame frame;
    int pair[2];
    int events, n;
    char c;
    struct writer writer;
};

static TAKT_CORO(readiness)
{
    TAKT_BEGIN(readiness, my);
    pair_of(SOCK_STREAM, my->pair);
    TAKT_DEFER
    {
        TAKT_AWAIT(takt_close(my->pair[0]));
        TAKT_AWAIT(takt_close(my->pair[1]));
    }
    TAKT_AWAIT(my->events, takt_ready(my->pair[0], POLLOUT));
    EXPECT_EQ(my->events, POLLOUT);
    TAKT_TRY_AWAIT(my->events, takt_within(TAKT_MS, takt_ready(my->pair[0], POLLIN)));
    EXPECT_EQ(my->events, -ETIMEDOUT);
    TAKT_START(my->writer, writer, .fd = my->pair[1]);
    TAKT_AWAIT(my->events, takt_ready(my->pair[0], POLLIN));
    EXPECT_EQ(my->events, POLLIN);
    TAKT_AWAIT(my->events, takt_ready(my->pair[0], POLLIN)); /* a level, not an edge */
    EXPECT_EQ(my->events, POLLIN);
    TAKT_AWAIT(my->n, takt_recv(my->pair[0], &my->c, 1));
    TAKT_AWAIT(my->events, takt_ready(my->pair[0], POLLIN));
    EXPECT_EQ(my->events, POLLIN);
    TAKT_JOIN(my->writer);
    TAKT_AWAIT(takt_close(my->pair[1]));
    my->pair[1] = -1;
    TAKT_AWAIT(my->events, takt_ready(my->pair[0], POLLIN));
    EXPECT((my->events & (POLLIN | POLLHUP)) == (POLLIN | POLLHUP));
    TAKT_END;
}

static void readiness_is_a_level(void)
{
    static struct readiness readiness;
    RUN(readiness, readiness);
}

struct signals {
    takt_frame frame;
    int fd, n;
};

static TAKT_CORO(signals)
{
    TAKT_BEGIN(signals, my);
    my->fd = takt_signals(&my->frame, 1u << SIGUSR1 | 1u << SIGUSR2);
    TAKT_CHECK(my->fd);
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->fd)); }
    EXPECT_EQ(kill(getpid(), SIGUSR2), 0);
    TAKT_AWAIT(my->n, takt_signal(my->fd));
    EXPECT_EQ(my->n, SIGUSR2);
    TAKT_TRY_AWAIT(my->n, takt_within(TAKT_MS, takt_signal(my->fd)));
    EXPECT_EQ(my->n, -ETIMEDOUT);
    EXPECT_EQ(kill(getpid(), SIGUSR1), 0);
    TAKT_AWAIT(my->n, takt_signal(my->fd));
    EXPECT_EQ(my->n, SIGUSR1);
    TAKT_END;
}

static void a_signal_is_awaited(void)
{
    static struct signals signals;
    sigset_t old;
    sigprocmask(SIG_SETMASK, NULL, &old);
    RUN(signals, signals);
    sigprocmask(SIG_SETMASK, &old, NULL);
}

/* -- leases ---------------------------------------------------------------- */

static takt_bufs pool, other_pool;

struct lessee {
    takt_frame frame;
    const char *name;
    int fd;
    int n;
    unsigned char *data;
};

/* Notes its name when it is served, and holds the buffer for a while. */
static TAKT_CORO(lessee)
{
    TAKT_BEGIN(lessee, my);
    TAKT_DEFER { EXPECT_EQ(takt_bufs_put(&pool, &my->data), 0); }
    for (;;) {
        TAKT_AWAIT(my->n, takt_recv_lease(my->fd, &pool, &my->data));
        EXPECT((my->n > 0) == (my->data != NULL));
        if (my->n == 0)
            TAKT_RETURN;
        note(my->name);
        EXPECT_EQ(my->data[0], my->name[0]);
        TAKT_AWAIT(takt_sleep(1));
        EXPECT_EQ(takt_bufs_put(&pool, &my->data), 0);
    }
    TAKT_END;
}

struct leases {
    takt_frame frame;
    int pairs[4][2];
    int i;
    unsigned char *held;
    struct lessee a, b, c, d;
};

static TAKT_CORO(leases)
{
    TAKT_BEGIN(leases, my);
    for (my->i = 0; my->i < 4; my->i++)
        pair_of(SOCK_STREAM, my->pairs[my->i]);
    TAKT_DEFER
    {
        for (my->i = 0; my->i < 8; my->i++)
            TAKT_AWAIT(takt_close(my->pairs[my->i / 2][my->i % 2]));
    }
    TAKT_START(my->a, lessee, .name = "a", .fd = my->pairs[0][0]);
    TAKT_START(my->b, lessee, .name = "b", .fd = my->pairs[1][0]);
    TAKT_START(my->c, lessee, .name = "c", .fd = my->pairs[2][0]);
    TAKT_START(my->d, lessee, .name = "d", .fd = my->pairs[3][0]);
    TAKT_AWAIT(takt_sleep(TAKT_MS));
    EXPECT_EQ(pool.in_use, 0); /* whoever waits in silence holds nothing */
    my->held = takt_bufs_take(&pool);
    TAKT_AWAIT(takt_send(my->pairs[2][1], "c", 1)); /* they come in this order */
    while (pool.waits < 1)
        TAKT_AWAIT(takt_sleep(1));
    TAKT_AWAIT(takt_send(my->pairs[0][1], "aaaaaaaaaaaaaaaa", 16)); /* two buffers full */
    while (pool.waits < 2)
        TAKT_AWAIT(takt_sleep(1));
    TAKT_AWAIT(takt_send(my->pairs[3][1], "d", 1));
    while (pool.waits < 3)
        TAKT_AWAIT(takt_sleep(1));
    TAKT_AWAIT(takt_send(my->pairs[1][1], "b", 1));
    while (pool.waits < 4)
        TAKT_AWAIT(takt_sleep(1));
    takt_cancel(&my->d.frame); /* it leaves the line and takes nothing with it */
    TAKT_AWAIT(takt_sleep(1));
    EXPECT(!takt_alive(&my->d.frame));
    EXPECT_EQ(my->d.n, TAKT_ECANCELED);
    EXPECT(my->d.data == NULL);
    note("|");
    EXPECT_EQ(takt_bufs_put(&pool, &my->held), 0);
    while (strlen(test_trace) < 5)
        TAKT_AWAIT(takt_sleep(1));
    for (my->i = 0; my->i < 3; my->i++)
        TAKT_AWAIT(takt_shutdown(my->pairs[my->i][1], SHUT_WR));
    TAKT_JOIN(my->a, my->b, my->c);
    TAKT_END;
}

static void an_empty_pool_serves_first_come_first_served(void)
{
    static struct leases leases;
    EXPECT_EQ(takt_bufs_init(&pool, 1, 8), 0);
    RUN(leases, leases);
    EXPECT_TRACE("|caba"); /* what is left of `a` stood in line again, behind `b` */
    EXPECT_EQ(pool.in_use, 0);
    EXPECT_EQ(pool.in_use_max, 1);
    takt_bufs_free(&pool);
}

/* Sixteen readers, three buffers, thousands of messages: no buffer is lost or shared. */
struct nothing {
    takt_frame frame;
    int pair[2];
    int n;
    char c;
    struct iovec iov[2];
};

static TAKT_CORO(nothing)
{
    TAKT_BEGIN(nothing, my);
    pair_of(SOCK_STREAM, my->pair);
    my->iov[0].iov_base = my->iov[1].iov_base = &my->c;
    TAKT_AWAIT(my->n, takt_sendv(my->pair[0], my->iov, 2));
    EXPECT_EQ(my->n, 0);
    TAKT_AWAIT(my->n, takt_recvv(my->pair[0], my->iov, 2));
    EXPECT_EQ(my->n, 0);
    TAKT_AWAIT(takt_close(my->pair[0]));
    TAKT_AWAIT(takt_close(my->pair[1]));
    TAKT_END;
}

/* Pieces without bytes: there is nothing to wait for. */
static void a_vector_of_nothing_is_done_at_once(void)
{
    static struct nothing nothing;
    RUN(nothing, nothing);
}

struct sink {
    takt_frame frame;
    int fd, n, i;
    uint64_t sum;
    unsigned char *data;
};

static TAKT_CORO(sink)
{
    TAKT_BEGIN(sink, my);
    TAKT_DEFER { EXPECT_EQ(takt_bufs_put(&pool, &my->data), 0); }
    for (;;) {
        TAKT_AWAIT(my->n, takt_recv_lease(my->fd, &pool, &my->data));
        if (my->n == 0)
            TAKT_RETURN;
        for (my->i = 0; my->i < my->n; my->i++)
            EXPECT_EQ(my->data[my->i], my->fd & 255);
        my->sum += (unsigned)my->n;
        if (my->sum % 3 == 0)
            TAKT_YIELD;
        EXPECT_EQ(takt_bufs_put(&pool, &my->data), 0);
    }
    TAKT_END;
}

struct source {
    takt_frame frame;
    int fd, value;
    int i;
    unsigned char buf[100];
};

static TAKT_CORO(source)
{
    TAKT_BEGIN(source, my);
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->fd)); }
    memset(my->buf, my->value & 255, sizeof my->buf);
    for (my->i = 0; my->i < 100; my->i++)
        TAKT_AWAIT(takt_send(my->fd, my->buf, (size_t)(my->i % 100 + 1)));
    TAKT_END;
}

struct many_leases {
    takt_frame frame;
    int pairs[16][2];
    int i;
    struct sink sinks[16];
    struct source sources[16];
};

static TAKT_CORO(many_leases)
{
    TAKT_BEGIN(many_leases, my);
    for (my->i = 0; my->i < 16; my->i++) {
        pair_of(SOCK_STREAM, my->pairs[my->i]);
        TAKT_START(my->sinks[my->i], sink, .fd = my->pairs[my->i][0]);
        TAKT_START(my->sources[my->i], source, .fd = my->pairs[my->i][1],
                   .value = my->pairs[my->i][0]);
    }
    TAKT_JOIN();
    for (my->i = 0; my->i < 16; my->i++) {
        EXPECT_EQ(my->sinks[my->i].sum, 5050);
        TAKT_AWAIT(takt_close(my->pairs[my->i][0]));
    }
    TAKT_END;
}

static void leased_buffers_come_back_exactly_once(void)
{
    static struct many_leases many_leases;
    EXPECT_EQ(takt_bufs_init(&pool, 3, 64), 0);
    RUN(many_leases, many_leases);
    EXPECT_EQ(pool.in_use, 0);
    EXPECT(pool.in_use_max <= 3 && pool.waits > 0);
    EXPECT(pool.waiting == NULL);
    takt_bufs_free(&pool);
}

/* -- one reader, one writer; close ends them ------------------------------- */

enum { RECV, RECVFROM, LEASE, READY, READ, SEND, ACCEPT, BLOCKED_KINDS, LEASE_OTHER };

struct blocked {
    takt_frame frame;
    int kind, fd;
    int64_t n;
    char c;
    unsigned char *data;
};

static TAKT_CORO(blocked)
{
    TAKT_BEGIN(blocked, my);
    my->n = 1;
    if (my->kind == RECV)
        TAKT_TRY_AWAIT(my->n, takt_recv(my->fd, &my->c, 1));
    else if (my->kind == RECVFROM)
        TAKT_TRY_AWAIT(my->n, takt_recvfrom(my->fd, &my->c, 1, NULL));
    else if (my->kind == LEASE)
        TAKT_TRY_AWAIT(my->n, takt_recv_lease(my->fd, &pool, &my->data));
    else if (my->kind == LEASE_OTHER)
        TAKT_TRY_AWAIT(my->n, takt_recv_lease(my->fd, &other_pool, &my->data));
    else if (my->kind == READY)
        TAKT_TRY_AWAIT(my->n, takt_ready(my->fd, POLLIN));
    else if (my->kind == READ)
        TAKT_TRY_AWAIT(my->n, takt_read(my->fd, &my->c, 1, -1));
    else if (my->kind == SEND)
        TAKT_TRY_AWAIT(my->n, takt_send(my->fd, big, sizeof big));
    else
        TAKT_TRY_AWAIT(my->n, takt_accept(my->fd, NULL));
    TAKT_END;
}

struct closing {
    takt_frame frame;
    int kind;
    int pair[2];
    int n;
    takt_addr addr;
    struct blocked victim, second;
    char buf[65536];
};

static TAKT_CORO(closing)
{
    TAKT_BEGIN(closing, my);
    if (my->kind == ACCEPT) {
        my->pair[0] = listen_at(&my->frame, IPV4, &my->addr);
        my->pair[1] = -1;
    } else {
        pair_of(SOCK_STREAM, my->pair);
    }
    TAKT_START(my->victim, blocked, .kind = my->kind, .fd = my->pair[0]);
    TAKT_AWAIT(takt_sleep(1));
    TAKT_START(my->second, blocked, .kind = my->kind, .fd = my->pair[0]);
    TAKT_JOIN(my->second); /* one at a time */
    EXPECT_EQ(my->second.n, -EBUSY);
    EXPECT(takt_alive(&my->victim.frame));
    TAKT_AWAIT(my->n, takt_close(my->pair[0]));
    EXPECT_EQ(my->n, 0);
    TAKT_JOIN(my->victim);
    EXPECT_EQ(my->victim.n, TAKT_ECLOSED);
    EXPECT(my->victim.data == NULL);
    if (my->kind != ACCEPT)
        do
            TAKT_AWAIT(my->n, takt_recv(my->pair[1], my->buf, sizeof my->buf));
        while (my->n > 0);
    TAKT_AWAIT(takt_close(my->pair[1])); /* -1 is none, and a success */
    TAKT_TRY_AWAIT(my->n, takt_close(my->pair[0])); /* twice: not an open one */
    EXPECT_EQ(my->n, -EBADF);
    TAKT_END;
}

static void a_close_ends_what_is_in_flight_and_the_peer_sees_it(void)
{
    static struct closing closing;
    EXPECT_EQ(takt_bufs_init(&pool, 1, 8), 0);
    for (int kind = 0; kind < BLOCKED_KINDS; kind++)
        RUN(closing, closing, .kind = kind);
    EXPECT_EQ(pool.in_use, 0);
    takt_bufs_free(&pool);
}

/* The same for one that has data but no buffer: it stands in the line of the pool. */
struct closing_in_line {
    takt_frame frame;
    int pair[2];
    unsigned char *held;
    struct blocked victim;
};

static TAKT_CORO(closing_in_line)
{
    TAKT_BEGIN(closing_in_line, my);
    pair_of(SOCK_STREAM, my->pair);
    my->held = takt_bufs_take(&pool);
    TAKT_START(my->victim, blocked, .kind = LEASE, .fd = my->pair[0]);
    TAKT_AWAIT(takt_send(my->pair[1], "x", 1));
    while (pool.waits == 0)
        TAKT_AWAIT(takt_sleep(1));
    TAKT_AWAIT(takt_close(my->pair[0]));
    TAKT_JOIN(my->victim);
    EXPECT_EQ(my->victim.n, TAKT_ECLOSED);
    EXPECT(pool.waiting == NULL);
    EXPECT_EQ(takt_bufs_put(&pool, &my->held), 0);
    TAKT_AWAIT(takt_close(my->pair[1]));
    TAKT_END;
}

static void a_close_takes_a_lease_out_of_its_line(void)
{
    static struct closing_in_line closing_in_line;
    EXPECT_EQ(takt_bufs_init(&pool, 1, 8), 0);
    RUN(closing_in_line, closing_in_line);
    takt_bufs_free(&pool);
}

/* A descriptor that is closed and opened again, number and all, starts anew. */
struct reuse {
    takt_frame frame;
    int pair[2];
    int i, n;
    char c;
};

static TAKT_CORO(reuse)
{
    TAKT_BEGIN(reuse, my);
    for (my->i = 0; my->i < 50; my->i++) {
        pair_of(SOCK_STREAM, my->pair);
        TAKT_TRY_AWAIT(my->n, takt_within(1, takt_recv(my->pair[0], &my->c, 1)));
        EXPECT_EQ(my->n, -ETIMEDOUT);
        TAKT_AWAIT(takt_send(my->pair[1], "x", 1));
        TAKT_AWAIT(my->n, takt_within(5 * TAKT_SEC, takt_recv(my->pair[0], &my->c, 1)));
        TAKT_AWAIT(takt_close(my->pair[my->i % 2]));
        if (my->i % 2 == 0) {
            TAKT_AWAIT(my->n, takt_recv(my->pair[1], &my->c, 1));
            EXPECT_EQ(my->n, 0);
        }
        TAKT_AWAIT(takt_close(my->pair[1 - my->i % 2]));
    }
    TAKT_END;
}

static void a_descriptor_that_was_closed_starts_anew(void)
{
    static struct reuse reuse;
    RUN(reuse, reuse);
}

/* -- connections that do not come to be ------------------------------------ */

struct refused {
    takt_frame frame;
    takt_addr addr;
    int fd, n;
    int before;
};

static TAKT_CORO(refused)
{
    TAKT_BEGIN(refused, my);
    my->fd = listen_at(&my->frame, IPV4, &my->addr);
    TAKT_AWAIT(takt_close(my->fd));
    my->before = open_descriptors();
    TAKT_TRY_AWAIT(my->n, takt_tcp_connect(&my->addr));
    EXPECT_EQ(my->n, -ECONNREFUSED);
    EXPECT_EQ(open_descriptors(), my->before);
    my->fd = takt_socket(&my->frame, AF_INET, SOCK_STREAM, 0);
    TAKT_TRY_AWAIT(my->n, takt_connect(my->fd, &my->addr));
    EXPECT_EQ(my->n, -ECONNREFUSED);
    TAKT_AWAIT(takt_close(my->fd));
    EXPECT_EQ(takt_addr_parse(&my->addr, "unix:/tmp/takt-contract-there-is-none"), 0);
    TAKT_TRY_AWAIT(my->n, takt_tcp_connect(&my->addr));
    EXPECT_EQ(my->n, -ENOENT);
    EXPECT_EQ(open_descriptors(), my->before);
    TAKT_END;
}

static void a_refused_connection_leaves_no_descriptor(void)
{
    static struct refused refused;
    RUN(refused, refused);
}

struct dialler {
    takt_frame frame;
    takt_addr *to;
    int n;
};

static TAKT_CORO(dialler)
{
    TAKT_BEGIN(dialler, my);
    my->n = 1;
    TAKT_AWAIT(my->n, takt_tcp_connect(my->to));
    TAKT_END;
}

struct unanswered {
    takt_frame frame;
    takt_addr addr;
    int fds[2];
    int fd, n, before;
    struct dialler dialler;
    takt_op ops[3];
};

static TAKT_CORO(unanswered)
{
    TAKT_BEGIN(unanswered, my);
    listen_in_silence(&my->addr, my->fds);
    my->before = open_descriptors();
    TAKT_TRY_AWAIT(my->n, takt_within(5 * TAKT_MS, takt_tcp_connect(&my->addr)));
    EXPECT_EQ(my->n, -ETIMEDOUT);
    EXPECT_EQ(open_descriptors(), my->before);

    TAKT_START(my->dialler, dialler, .to = &my->addr);
    TAKT_AWAIT(takt_sleep(TAKT_MS));
    takt_cancel(&my->dialler.frame); /* in flight */
    TAKT_JOIN(my->dialler);
    EXPECT_EQ(my->dialler.n, TAKT_ECANCELED);
    TAKT_START(my->dialler, dialler, .to = &my->addr);
    takt_cancel(&my->dialler.frame); /* before it has begun */
    TAKT_JOIN(my->dialler);
    EXPECT_EQ(my->dialler.n, TAKT_ECANCELED);
    EXPECT_EQ(open_descriptors(), my->before);

    for (my->n = 0; my->n < 3; my->n++)
        my->ops[my->n] = takt_by(takt_now(&my->frame) + TAKT_MS, takt_tcp_connect(&my->addr));
    TAKT_AWAIT_ALL(my->ops, 3);
    for (my->n = 0; my->n < 3; my->n++)
        EXPECT_EQ(my->ops[my->n].result, -ETIMEDOUT);
    EXPECT_EQ(open_descriptors(), my->before);

    my->fd = takt_socket(&my->frame, AF_INET, SOCK_STREAM, 0);
    TAKT_TRY_AWAIT(my->n, takt_within(TAKT_MS, takt_connect(my->fd, &my->addr)));
    EXPECT_EQ(my->n, -ETIMEDOUT);
    TAKT_AWAIT(takt_close(my->fd)); /* the socket is the caller's */
    TAKT_AWAIT(takt_close(my->fds[0]));
    TAKT_AWAIT(takt_close(my->fds[1]));
    TAKT_END;
}

static void a_connect_that_is_given_up_leaves_no_descriptor(void)
{
    static struct unanswered unanswered;
    RUN(unanswered, unanswered);
}

/* -- limits and cancels: an op has it, or it is still there ---------------- */

struct limits {
    takt_frame frame;
    int pair[2];
    int n;
    char c;
    takt_ns before;
    takt_op ops[3];
};

static TAKT_CORO(limits)
{
    TAKT_BEGIN(limits, my);
    pair_of(SOCK_STREAM, my->pair);
    my->ops[0] = takt_by(1, takt_recv(my->pair[0], &my->c, 1));
    my->ops[1] = takt_by(1, takt_send(my->pair[0], "z", 1)); /* beside a reader that waits, */
    my->ops[2] = takt_nop(); /* in a turn in which something is done */
    TAKT_AWAIT_ALL(my->ops, 3);
    EXPECT_EQ(my->ops[0].result, -ETIMEDOUT);
    EXPECT_EQ(my->ops[1].result, 1); /* long past, but it completes at once */
    TAKT_AWAIT(takt_recv(my->pair[1], &my->c, 1));
    my->before = takt_now(&my->frame);
    TAKT_TRY_AWAIT(my->n, takt_within(3 * TAKT_MS, takt_recv(my->pair[0], &my->c, 1)));
    EXPECT_EQ(my->n, -ETIMEDOUT);
    EXPECT(takt_now(&my->frame) - my->before >= 3 * TAKT_MS); /* never early */
    TAKT_TRY_AWAIT(my->n, takt_by(1, takt_recv(my->pair[0], &my->c, 1))); /* long past */
    EXPECT_EQ(my->n, -ETIMEDOUT);
    TAKT_TRY_AWAIT(my->n, takt_within(1, takt_ready(my->pair[0], POLLIN)));
    EXPECT_EQ(my->n, -ETIMEDOUT);
    TAKT_AWAIT(takt_send(my->pair[1], "xy", 2));
    TAKT_AWAIT(my->n, takt_within(10 * TAKT_SEC, takt_recv(my->pair[0], &my->c, 1)));
    EXPECT_EQ(my->n, 1);
    TAKT_AWAIT(my->n, takt_by(takt_now(&my->frame) + 10 * TAKT_SEC,
                              takt_recv(my->pair[0], &my->c, 1)));
    EXPECT(my->n == 1 && my->c == 'y');
    TAKT_AWAIT(my->n, takt_within(10 * TAKT_SEC, takt_sleep(1)));
    TAKT_AWAIT(my->n, takt_within(10 * TAKT_SEC, takt_close(my->pair[1])));
    TAKT_AWAIT(my->n, takt_within(10 * TAKT_SEC, takt_recv(my->pair[0], &my->c, 1)));
    EXPECT_EQ(my->n, 0);
    TAKT_AWAIT(takt_close(my->pair[0]));
    TAKT_END;
}

static void a_limit_expires_or_changes_nothing(void)
{
    static struct limits limits;
    RUN(limits, limits);
}

/* Somebody else sends what the time is, a while after the loop has gone to sleep. */
struct told_the_time {
    takt_frame frame;
    int pair[2];
    pid_t child;
    takt_ns before, sent;
    int64_t n;
};

static TAKT_CORO(told_the_time)
{
    TAKT_BEGIN(told_the_time, my);
    pair_of(SOCK_STREAM, my->pair);
    my->child = fork();
    if (my->child == 0) {
        poll(NULL, 0, 20);
        my->sent = net_now(&loop);
        _exit(write(my->pair[1], &my->sent, sizeof my->sent) < 0);
    }
    TAKT_AWAIT(takt_recv_all(my->pair[0], &my->sent, sizeof my->sent));
    my->before = takt_now(&my->frame);
    EXPECT(my->before >= my->sent); /* the clock was read after the wait */
    TAKT_TRY_AWAIT(my->n, takt_within(5 * TAKT_MS, takt_recv(my->pair[0], &my->n, 1)));
    EXPECT_EQ(my->n, -ETIMEDOUT);
    EXPECT(net_now(&loop) - my->sent >= 5 * TAKT_MS); /* so no limit passes early */
    EXPECT_EQ(waitpid(my->child, NULL, 0), my->child);
    TAKT_AWAIT(takt_close(my->pair[0]));
    TAKT_AWAIT(takt_close(my->pair[1]));
    TAKT_END;
}

struct sleeper {
    takt_frame frame;
};

static TAKT_CORO(sleeper)
{
    TAKT_BEGIN(sleeper, my);
    TAKT_AWAIT(takt_sleep(TAKT_SEC));
    TAKT_END;
}

static void the_clock_is_read_anew_after_a_wait(void)
{
    static struct told_the_time told;
    static struct sleeper sleeper; /* a timer is armed: the clock is read before the wait, too */
    setup();
    EXPECT(TAKT_START_ON(&loop, sleeper, sleeper));
    EXPECT(TAKT_START_ON(&loop, told, told_the_time));
    drive(&told.frame);
    takt_cancel(&sleeper.frame);
    EXPECT_EQ(net_run(&loop), 0);
    finish();
}

struct cancelled {
    takt_frame frame;
    int pair[2];
    int i, n;
    char c;
    struct blocked victim;
};

static TAKT_CORO(cancelled)
{
    TAKT_BEGIN(cancelled, my);
    pair_of(SOCK_STREAM, my->pair);
    TAKT_START(my->victim, blocked, .kind = RECV, .fd = my->pair[0]);
    takt_cancel(&my->victim.frame); /* before its first run */
    TAKT_JOIN(my->victim);
    EXPECT_EQ(my->victim.n, TAKT_ECANCELED);
    EXPECT_EQ(takt_error(&my->victim.frame), TAKT_ECANCELED);

    TAKT_START(my->victim, blocked, .kind = RECV, .fd = my->pair[0]);
    TAKT_AWAIT(takt_sleep(TAKT_MS)); /* in flight */
    takt_cancel(&my->victim.frame);
    takt_cancel(&my->victim.frame);
    TAKT_JOIN(my->victim);
    EXPECT_EQ(my->victim.n, TAKT_ECANCELED);

    for (my->i = 0; my->i < 200; my->i++) { /* completed in the same turn */
        TAKT_START(my->victim, blocked, .kind = RECV, .fd = my->pair[0]);
        if (my->i % 3)
            TAKT_YIELD;
        if (my->i % 5)
            TAKT_AWAIT(takt_nop());
        EXPECT_EQ(write(my->pair[1], "x", 1), 1);
        if (my->i % 2)
            TAKT_YIELD;
        if (my->i % 7 == 0)
            TAKT_AWAIT(takt_nop());
        takt_cancel(&my->victim.frame);
        TAKT_JOIN(my->victim);
        if (my->victim.n == 1) {
            EXPECT_EQ(my->victim.c, 'x');
        } else {
            EXPECT_EQ(my->victim.n, TAKT_ECANCELED);
            TAKT_AWAIT(my->n, takt_within(5 * TAKT_SEC, takt_recv(my->pair[0], &my->c, 1)));
        }
        TAKT_TRY_AWAIT(my->n, takt_within(1, takt_recv(my->pair[0], &my->c, 1)));
        EXPECT_EQ(my->n, -ETIMEDOUT); /* it was there once */
    }
    takt_cancel(&my->victim.frame); /* over: nothing */
    TAKT_AWAIT(takt_close(my->pair[0]));
    TAKT_AWAIT(takt_close(my->pair[1]));
    TAKT_END;
}

static void a_cancel_in_any_phase_loses_nothing(void)
{
    static struct cancelled cancelled;
    RUN(cancelled, cancelled);
}

/* Bytes that are counted up arrive about when a limit passes. */
enum { ROUNDS = 200 };

struct dripping {
    takt_frame frame;
    int fd, i;
    unsigned char c[2];
};

static TAKT_CORO(dripping)
{
    TAKT_BEGIN(dripping, my);
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->fd)); }
    for (my->i = 0; my->i < ROUNDS; my->i++) {
        my->c[0] = (unsigned char)(2 * my->i);
        my->c[1] = (unsigned char)(2 * my->i + 1);
        TAKT_AWAIT(takt_send(my->fd, my->c, 2));
        TAKT_AWAIT(takt_sleep(soon()));
    }
    TAKT_END;
}

struct impatient {
    takt_frame frame;
    int mode; /* 0: recv, 1: recv_all, 2: lease, 3: recvfrom, 4: read */
    int pair[2];
    int64_t n;
    int i, got, expired;
    bool over;
    unsigned char buf[64];
    unsigned char *data;
    struct dripping dripping;
};

static void count_up(struct impatient *my, const unsigned char *bytes, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        EXPECT_EQ(bytes[i], my->got++ & 255);
}

static TAKT_CORO(impatient)
{
    TAKT_BEGIN(impatient, my);
    pair_of(SOCK_STREAM, my->pair);
    TAKT_START(my->dripping, dripping, .fd = my->pair[1]);
    while (!my->over) {
        if (my->mode == 0)
            TAKT_TRY_AWAIT(my->n, takt_within(soon(), takt_recv(my->pair[0], my->buf, 3)));
        else if (my->mode == 1)
            TAKT_TRY_AWAIT(my->n, takt_within(soon(), takt_recv_all(my->pair[0], my->buf, 7)));
        else if (my->mode == 2)
            TAKT_TRY_AWAIT(my->n, takt_within(soon(),
                                              takt_recv_lease(my->pair[0], &pool, &my->data)));
        else if (my->mode == 3)
            TAKT_TRY_AWAIT(my->n, takt_within(soon(),
                                              takt_recvfrom(my->pair[0], my->buf, 64, NULL)));
        else
            TAKT_TRY_AWAIT(my->n, takt_within(soon(), takt_read(my->pair[0], my->buf, 3, -1)));
        my->expired += my->n == -ETIMEDOUT;
        if (my->n < 0 && my->mode == 1)
            count_up(my, my->buf, (int64_t)takt_done(&my->frame)); /* half way is not lost */
        count_up(my, my->data ? my->data : my->buf, my->n);
        EXPECT_EQ(takt_bufs_put(&pool, &my->data), 0);
        EXPECT(my->n >= 0 || my->n == -ETIMEDOUT || my->n == TAKT_ETRUNCATED);
        my->over = my->n == 0 || my->n == TAKT_ETRUNCATED;
    }
    EXPECT_EQ(my->got, 2 * ROUNDS);
    EXPECT(my->expired > 0);
    TAKT_AWAIT(takt_close(my->pair[0]));
    TAKT_JOIN(my->dripping);
    TAKT_END;
}

static void data_that_comes_with_the_limit_is_never_lost(void)
{
    static struct impatient impatient;
    EXPECT_EQ(takt_bufs_init(&pool, 1, 3), 0);
    for (int mode = 0; mode < 5; mode++)
        RUN(impatient, impatient, .mode = mode);
    EXPECT_EQ(pool.in_use, 0);
    takt_bufs_free(&pool);
}

/* The same for connections. */
struct caller {
    takt_frame frame;
    takt_addr *to;
    int i, fd;
};

static TAKT_CORO(caller)
{
    TAKT_BEGIN(caller, my);
    for (my->i = 0; my->i < ROUNDS; my->i++) {
        my->fd = takt_socket(&my->frame, family(my->to), SOCK_STREAM, 0);
        TAKT_AWAIT(takt_connect(my->fd, my->to));
        TAKT_AWAIT(takt_close(my->fd));
        TAKT_AWAIT(takt_sleep(soon()));
    }
    TAKT_END;
}

struct doorman {
    takt_frame frame;
    takt_addr addr;
    int listener, fd, got, expired;
    struct caller caller;
};

static TAKT_CORO(doorman)
{
    TAKT_BEGIN(doorman, my);
    my->listener = listen_at(&my->frame, UNIX, &my->addr);
    TAKT_START(my->caller, caller, .to = &my->addr);
    while (my->got < ROUNDS) {
        TAKT_TRY_AWAIT(my->fd, takt_within(soon(), takt_accept(my->listener, NULL)));
        my->got += my->fd >= 0;
        my->expired += my->fd == -ETIMEDOUT;
        EXPECT(my->fd >= 0 || my->fd == -ETIMEDOUT);
        TAKT_AWAIT(takt_close(my->fd));
    }
    EXPECT(my->expired > 0);
    TAKT_AWAIT(takt_close(my->listener));
    TAKT_END;
}

static void a_connection_that_comes_with_the_limit_is_never_lost(void)
{
    static struct doorman doorman;
    RUN(doorman, doorman);
    forget(UNIX);
}

/* -- batches --------------------------------------------------------------- */

struct batches {
    takt_frame frame;
    int pair[2];
    int i;
    char buf[8];
    takt_op ops[3];
};

/* A batch is an array of values: it can be awaited again as it is. */
static TAKT_CORO(batches)
{
    TAKT_BEGIN(batches, my);
    pair_of(SOCK_STREAM, my->pair);
    my->ops[0] = takt_send(my->pair[1], "abcd", 4);
    my->ops[1] = takt_recv_all(my->pair[0], my->buf, 4);
    my->ops[2] = takt_within(10 * TAKT_SEC, takt_nop());
    for (my->i = 0; my->i < 3; my->i++) {
        memset(my->buf, 0, sizeof my->buf);
        TAKT_AWAIT_ALL(my->ops, 3);
        EXPECT_EQ(my->ops[0].result, 4);
        EXPECT_EQ(my->ops[1].result, 4);
        EXPECT_EQ(my->ops[2].result, 0);
        EXPECT(memcmp(my->buf, "abcd", 4) == 0);
    }
    my->ops[0] = takt_close(my->pair[0]);
    my->ops[1] = takt_close(my->pair[1]);
    TAKT_AWAIT_ALL(my->ops, 2);
    EXPECT(my->ops[0].result == 0 && my->ops[1].result == 0);
    TAKT_END;
}

static void a_batch_can_be_awaited_again(void)
{
    static struct batches batches;
    RUN(batches, batches);
}

/* -- more than the ring holds ---------------------------------------------- */

struct worker {
    takt_frame frame;
    int pair[2];
    int i, n;
    char out[32], in[32];
    takt_op ops[2];
    bool over;
};

static TAKT_CORO(worker)
{
    TAKT_BEGIN(worker, my);
    pair_of(SOCK_STREAM, my->pair);
    for (my->i = 0; my->i < 5; my->i++) {
        memset(my->out, 'a' + my->i, sizeof my->out);
        my->ops[0] = takt_send(my->pair[0], my->out, sizeof my->out);
        my->ops[1] = takt_recv_all(my->pair[1], my->in, sizeof my->in);
        TAKT_AWAIT_ALL(my->ops, 2);
        EXPECT_EQ(my->ops[0].result, sizeof my->out);
        EXPECT_EQ(my->ops[1].result, sizeof my->in);
        EXPECT(memcmp(my->out, my->in, sizeof my->in) == 0);
        TAKT_AWAIT(takt_nop());
        TAKT_TRY_AWAIT(my->n, takt_within(1, takt_recv(my->pair[0], my->in, 1)));
        EXPECT_EQ(my->n, -ETIMEDOUT);
    }
    TAKT_AWAIT(takt_close(my->pair[0]));
    TAKT_AWAIT(takt_close(my->pair[1]));
    my->over = true;
    TAKT_END;
}

static void three_hundred_finish_on_a_ring_of_two_entries(void)
{
    static struct worker workers[300];
    const net_config before = wanted;
    wanted.backend.entries = 2;
    wanted.loop.strands = 900;
    setup();
    for (int i = 0; i < 300; i++)
        EXPECT(TAKT_START_ON(&loop, workers[i], worker));
    for (int i = 0; i < 300; i++)
        drive(&workers[i].frame);
    for (int i = 0; i < 300; i++)
        EXPECT(workers[i].over);
    finish();
    wanted = before;
}

/* -- signals from outside -------------------------------------------------- */

static volatile sig_atomic_t alarms;

static void on_alarm(int number)
{
    (void)number;
    alarms = alarms + 1;
}

static void signals_a_thousand_times_a_second_change_nothing(void)
{
    struct sigaction action, before;
    struct itimerval timer;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_alarm; /* without SA_RESTART: calls do fail with EINTR */
    memset(&timer, 0, sizeof timer);
    timer.it_value.tv_usec = timer.it_interval.tv_usec = 1000;
    alarms = 0;
    sigaction(SIGALRM, &action, &before);
    setitimer(ITIMER_REAL, &timer, NULL);
    converse();
    move_bulk();
    leased_buffers_come_back_exactly_once();
    data_that_comes_with_the_limit_is_never_lost();
    pipes_and_files_are_read_and_written();
    memset(&timer, 0, sizeof timer);
    setitimer(ITIMER_REAL, &timer, NULL);
    sigaction(SIGALRM, &before, NULL);
    EXPECT(alarms > 100);
}

/* -- a million times ------------------------------------------------------- */

struct million {
    takt_frame frame;
    int i;
};

static uintptr_t stack_low, stack_high;

static void look_at_stack(void)
{
    const uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    stack_low = here < stack_low ? here : stack_low;
    stack_high = here > stack_high ? here : stack_high;
}

static TAKT_CORO(million)
{
    TAKT_BEGIN(million, my);
    for (my->i = 0; my->i < TEST_MANY; my->i++) {
        TAKT_AWAIT(takt_nop());
        look_at_stack();
    }
    TAKT_END;
}

static void a_million_nops_stay_on_the_same_stack(void)
{
    static struct million million;
    stack_low = UINTPTR_MAX;
    stack_high = 0;
    RUN(million, million);
    EXPECT_EQ(million.i, TEST_MANY);
    EXPECT(stack_high - stack_low < 1024);
}

/* -- no descriptor left ---------------------------------------------------- */

struct crowded {
    takt_frame frame;
    takt_addr addr;
    int listener, spare, fd, out[2], n;
    struct rlimit limit;
};

static void limit_descriptors(struct crowded *my)
{
    struct rlimit low;
    const int next = dup(0);
    close(next);
    getrlimit(RLIMIT_NOFILE, &my->limit);
    low = my->limit;
    low.rlim_cur = (rlim_t)next;
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
}

static TAKT_CORO(crowded)
{
    TAKT_BEGIN(crowded, my);
    my->listener = listen_at(&my->frame, IPV4, &my->addr);
    my->spare = takt_socket(&my->frame, AF_INET, SOCK_STREAM, 0);
    for (my->n = 0; my->n < 2; my->n++) {
        my->out[my->n] = takt_socket(&my->frame, AF_INET, SOCK_STREAM, 0);
        TAKT_AWAIT(takt_connect(my->out[my->n], &my->addr));
    }
    limit_descriptors(my);
    TAKT_TRY_AWAIT(my->fd, takt_accept(my->listener, NULL));
    EXPECT_EQ(my->fd, -EMFILE);
    TAKT_TRY_AWAIT(my->fd, takt_tcp_connect(&my->addr));
    EXPECT_EQ(my->fd, -EMFILE);
    EXPECT_EQ(takt_socket(&my->frame, AF_INET, SOCK_STREAM, 0), -EMFILE);
    TAKT_AWAIT(takt_close(my->spare));
    TAKT_TRY_AWAIT(my->fd, takt_accept(my->listener, NULL));
    EXPECT_EQ(my->fd, my->spare);
    setrlimit(RLIMIT_NOFILE, &my->limit);
    TAKT_AWAIT(takt_close(my->fd));
    TAKT_TRY_AWAIT(my->fd, takt_accept(my->listener, NULL)); /* the second is still there */
    EXPECT(my->fd >= 0);
    TAKT_AWAIT(takt_close(my->fd));
    TAKT_AWAIT(takt_close(my->out[0]));
    TAKT_AWAIT(takt_close(my->out[1]));
    TAKT_AWAIT(takt_close(my->listener));
    TAKT_END;
}

static void an_accept_without_a_descriptor_fails_and_works_again(void)
{
    static struct crowded crowded;
    RUN(crowded, crowded);
}

/* -- inside a loop of somebody else's -------------------------------------- */

enum { ECHOES = 2000 };

struct echoer {
    takt_frame frame;
    int fd, i, n;
    char c;
    int received;
};

static TAKT_CORO(echoer)
{
    TAKT_BEGIN(echoer, my);
    for (my->i = 0; my->i < ECHOES; my->i++) {
        TAKT_AWAIT(my->n, takt_recv(my->fd, &my->c, 1));
        EXPECT(my->n == 1 && my->c == (char)my->i);
        if (my->i % 100 == 0)
            TAKT_AWAIT(takt_sleep(TAKT_MS));
        if (my->i % 10 == 0)
            TAKT_AWAIT(takt_nop());
        if (my->i % 11 == 0)
            TAKT_YIELD;
        TAKT_AWAIT(takt_send(my->fd, &my->c, 1));
        my->received++;
    }
    TAKT_AWAIT(takt_close(my->fd));
    TAKT_END;
}

/* Milliseconds for poll(2), rounded up; -1 for ever. */
static int until(takt_ns deadline)
{
    const takt_ns left = deadline - net_now(&loop);
    if (deadline == TAKT_FOREVER)
        return -1;
    return left <= 0 ? 0 : (int)((left + TAKT_MS - 1) / TAKT_MS);
}

/* Sleeps as a foreign loop does. False: it was told to, and has missed something. */
static bool sleep_outside(int other)
{
    struct pollfd polls[2];
    const int wait = until(net_deadline(&loop));
    polls[0].fd = net_fd(&loop);
    polls[1].fd = other;
    polls[0].events = polls[1].events = POLLIN;
    polls[0].revents = polls[1].revents = 0;
    return poll(polls, 2, wait < 0 ? 5000 : wait) != 0 || wait >= 0;
}

static void a_foreign_loop_that_sleeps_on_the_descriptor_misses_nothing(void)
{
    static struct echoer echoer;
    int pair[2], i = 0;
    char c = 0, back = 0;
    setup();
    pair_of(SOCK_STREAM, pair);
    EXPECT_EQ(net_fd(&loop) < 0, strcmp(expected_name, "poll") == 0);
    EXPECT(TAKT_START_ON(&loop, echoer, echoer, .fd = pair[0]));
    EXPECT_EQ(write(pair[1], &c, 1), 1);
    while (takt_alive(&echoer.frame)) {
        const bool embedded = net_fd(&loop) >= 0;
        if (net_turn(&loop, embedded ? 0 : TAKT_MS, 0) < 0)
            break;
        if (embedded && takt_alive(&echoer.frame) && !sleep_outside(pair[1])) {
            EXPECT(false && "the loop's descriptor says that there is work");
            takt_dump(&loop.sched);
            takt_cancel(&echoer.frame);
        }
        if (read(pair[1], &back, 1) == 1) {
            EXPECT_EQ(back, (char)i);
            c = (char)++i;
            if (i < ECHOES)
                EXPECT_EQ(write(pair[1], &c, 1), 1);
        }
    }
    EXPECT_EQ(echoer.received, ECHOES);
    EXPECT_EQ(net_deadline(&loop), TAKT_FOREVER);
    close(pair[1]);
    finish();
}

/* No descriptor tells of it: the deadline does. */
static void a_buffer_that_comes_back_from_outside_is_work(void)
{
    static struct blocked waiting[2];
    takt_bufs *const pools[2] = {&pool, &other_pool};
    unsigned char *mine[2];
    int pair[2][2];
    setup();
    for (int i = 0; i < 2; i++) {
        EXPECT_EQ(takt_bufs_init(pools[i], 1, 8), 0);
        mine[i] = takt_bufs_take(pools[i]);
        pair_of(SOCK_STREAM, pair[i]);
        EXPECT_EQ(write(pair[i][1], "x", 1), 1);
        EXPECT(TAKT_START_ON(&loop, waiting[i], blocked, .fd = pair[i][0],
                             .kind = i ? LEASE_OTHER : LEASE));
    }
    for (int i = 0; i < 100 && pool.waits + other_pool.waits < 2; i++)
        EXPECT(net_turn(&loop, TAKT_MS, 0) >= 0);
    EXPECT_EQ(pool.waits + other_pool.waits, 2);
    for (int i = 0; i < 2; i++) {
        EXPECT_EQ(net_deadline(&loop), TAKT_FOREVER);
        EXPECT_EQ(takt_bufs_put(pools[i], &mine[i]), 0);
        EXPECT_EQ(net_deadline(&loop), 0);
        drive(&waiting[i].frame);
        EXPECT_EQ(waiting[i].n, 1);
        EXPECT_EQ(takt_bufs_put(pools[i], &waiting[i].data), 0);
        close(pair[i][0]);
        close(pair[i][1]);
    }
    finish();
    takt_bufs_free(&pool);
    takt_bufs_free(&other_pool);
}

/* The same with all of them inside: every wake-up is one of the loop's own. */
static void a_foreign_loop_carries_a_conversation(void)
{
    static struct talk talk;
    setup();
    EXPECT(TAKT_START_ON(&loop, talk, talk, .which = IPV4, .dial = true));
    while (takt_alive(&talk.frame)) {
        const bool embedded = net_fd(&loop) >= 0;
        if (net_turn(&loop, embedded ? 0 : TAKT_MS, 1) < 0) /* one completion at a time */
            break;
        if (embedded && takt_alive(&talk.frame) && !sleep_outside(-1)) {
            EXPECT(false && "the loop's descriptor says that there is work");
            takt_cancel(&talk.frame);
        }
    }
    EXPECT_EQ(takt_error(&talk.frame), 0);
    finish();
}

/* -- the end: stop, drain -------------------------------------------------- */

struct acceptor {
    takt_frame frame;
    takt_addr addr;
    int listener, first, second;
    bool defers_ran;
};

static TAKT_CORO(acceptor)
{
    TAKT_BEGIN(acceptor, my);
    my->listener = listen_at(&my->frame, IPV4, &my->addr);
    TAKT_DEFER
    {
        TAKT_AWAIT(takt_close(my->listener));
        my->defers_ran = true;
    }
    TAKT_TRY_AWAIT(my->first, takt_accept(my->listener, NULL)); /* in flight */
    TAKT_TRY_AWAIT(my->second, takt_accept(my->listener, NULL));
    TAKT_END;
}

static int ended, registered;

struct lingering {
    takt_frame frame;
    takt_ns ns;
    int outcome;
};

static TAKT_CORO(lingering)
{
    TAKT_BEGIN(lingering, my);
    TAKT_DEFER { ended++; }
    TAKT_AWAIT(my->outcome, takt_sleep(my->ns));
    note("!");
    TAKT_END;
}

static void a_loop_that_stops_takes_no_new_work_and_ends(void)
{
    static struct acceptor acceptor;
    static struct lingering quick, slow;
    const net_config before = wanted;
    ended = 0;
    TAKT_POOL(wanted, lingering, 2);
    setup();
    EXPECT(TAKT_START_ON(&loop, acceptor, acceptor));
    EXPECT(TAKT_START_ON(&loop, quick, lingering, .ns = 2 * TAKT_MS));
    EXPECT(TAKT_START_ON(&loop, slow, lingering, .ns = 600 * TAKT_SEC));
    EXPECT(net_turn(&loop, 0, 0) >= 0);
    net_stop(&loop, 300 * TAKT_MS);
    EXPECT(!TAKT_SPAWN_ON(&loop, lingering, .ns = 1));
    EXPECT(!TAKT_START_ON(&loop, quick, lingering, .ns = 1));
    EXPECT_EQ(loop.sched.stats.refused, 2);
    EXPECT_EQ(net_run(&loop), 0);
    EXPECT_EQ(acceptor.first, TAKT_ESTOPPING);
    EXPECT_EQ(acceptor.second, TAKT_ESTOPPING);
    EXPECT(acceptor.defers_ran);
    EXPECT_EQ(ended, 2);
    EXPECT_EQ(quick.outcome, 0);
    EXPECT_EQ(slow.outcome, TAKT_ECANCELED);
    EXPECT_TRACE("!");
    EXPECT_EQ(loop.sched.stats.cancelled, 1);
    EXPECT_EQ(net_failed(&loop), 0);
    finish();
    wanted = before;
}

static takt_event never;
static takt_semaphore none;

struct pending {
    takt_frame frame;
    int kind;
    int pair[2];
    int n;
    char c;
    unsigned char *data;
    takt_addr addr;
    struct lingering callee;
    takt_op ops[2];
};

/* Every way to wait, in turn. */
static TAKT_CORO(pending)
{
    TAKT_BEGIN(pending, my);
    my->pair[0] = my->pair[1] = -1;
    registered++;
    TAKT_DEFER { ended++; }
    TAKT_DEFER
    {
        TAKT_AWAIT(takt_close(my->pair[0]));
        TAKT_AWAIT(takt_close(my->pair[1]));
    }
    TAKT_DEFER
    {
        EXPECT_EQ(takt_bufs_put(&pool, &my->data), 0);
        TAKT_AWAIT(takt_sleep(600 * TAKT_SEC)); /* fails at once, and ends only this block */
        EXPECT(false && "no await but close goes on in a drain");
    }
    pair_of(SOCK_STREAM, my->pair);
    if (my->kind == 0)
        TAKT_AWAIT(takt_recv(my->pair[0], &my->c, 1));
    else if (my->kind == 1)
        TAKT_AWAIT(takt_send(my->pair[0], big, sizeof big));
    else if (my->kind == 2)
        TAKT_AWAIT(takt_recv_lease(my->pair[0], &pool, &my->data));
    else if (my->kind == 3)
        TAKT_AWAIT(takt_ready(my->pair[0], POLLIN));
    else if (my->kind == 4)
        TAKT_AWAIT(takt_sleep(600 * TAKT_SEC));
    else if (my->kind == 5)
        TAKT_AWAIT(takt_within(600 * TAKT_SEC, takt_event_wait(&never)));
    else if (my->kind == 6)
        TAKT_AWAIT(takt_acquire(&none));
    else if (my->kind == 7)
        TAKT_CALL_WITHIN(600 * TAKT_SEC, my->callee, lingering, .ns = 601 * TAKT_SEC);
    else if (my->kind == 8)
        TAKT_START(my->callee, lingering, .ns = 601 * TAKT_SEC);
    if (my->kind == 8)
        TAKT_JOIN(my->callee);
    my->ops[0] = takt_recv(my->pair[0], &my->c, 1);
    my->ops[1] = takt_within(600 * TAKT_SEC, takt_recv(my->pair[1], &my->c, 1));
    TAKT_AWAIT_ALL(my->ops, 2);
    EXPECT(false && "it is drained");
    TAKT_END;
}

static void a_drain_ends_everything_and_runs_every_defer(void)
{
    enum { TASKS = 200 };
    const net_config before = wanted;
    ended = registered = 0;
    EXPECT_EQ(takt_bufs_init(&pool, 1, 8), 0);
    TAKT_POOL(wanted, pending, TASKS, .strands = 3);
    setup();
    for (int i = 0; i < TASKS; i++) {
        EXPECT(TAKT_SPAWN_ON(&loop, pending, .kind = i % 10));
        if (i == TASKS - 20)
            EXPECT(net_turn(&loop, 0, 0) >= 0); /* the last ones have not even run yet */
    }
    EXPECT_EQ(net_pending(&loop), TASKS);
    EXPECT_EQ(net_drain(&loop), TASKS);
    EXPECT_EQ(net_drain(&loop), 0);
    EXPECT_EQ(net_pending(&loop), 0);
    EXPECT_EQ(registered, TASKS);
    EXPECT_EQ(ended, TASKS + 2 * TASKS / 10); /* the callees have one each */
    EXPECT_EQ(loop.sched.stats.discarded, TASKS);
    EXPECT_EQ(net_failed(&loop), TAKT_EDISPOSED);
    EXPECT_EQ(net_run(&loop), TAKT_EDISPOSED);
    EXPECT_EQ(net_turn(&loop, 0, 0), TAKT_EDISPOSED);
    EXPECT(!TAKT_SPAWN_ON(&loop, pending, .kind = 0));
    EXPECT(never.line.first == NULL && none.line.first == NULL && pool.waiting == NULL);
    EXPECT_EQ(pool.in_use, 0);
    finish();
    takt_bufs_free(&pool);
    wanted = before;
}

/* In a drain every await fails at once, but close acts: also one of many. */
struct hoarder {
    takt_frame frame;
    int fds[2];
    takt_op ops[2];
};

static TAKT_CORO(hoarder)
{
    TAKT_BEGIN(hoarder, my);
    pair_of(SOCK_STREAM, my->fds);
    TAKT_DEFER
    {
        my->ops[0] = takt_close(my->fds[0]);
        my->ops[1] = takt_close(my->fds[1]);
        TAKT_AWAIT_ALL(my->ops, 2);
    }
    TAKT_AWAIT(takt_sleep(600 * TAKT_SEC));
    TAKT_END;
}

static void a_batch_of_closes_acts_in_a_drain(void)
{
    static struct hoarder hoarder;
    setup();
    EXPECT(TAKT_START_ON(&loop, hoarder, hoarder));
    EXPECT(net_turn(&loop, 0, 0) >= 0);
    EXPECT_EQ(net_drain(&loop), 1);
    finish();
}

/* -- where there is no io_uring -------------------------------------------- */

/* True if, io_uring_setup failing with `error`, epoll runs in its place and says why. */
static bool falls_back(int number, int error, const char *name)
{
    static struct clockwork clockwork;
    static net other;
    net_config config = net_defaults();
    char text[512];
    bool good;
    if (number && refuse(number, error) < 0)
        return false;
    if (net_init(&other, &config) < 0)
        return false;
    takt_uring_describe(&other.backend, text, sizeof text);
    good = !other.backend.on_ring && other.backend.setup_error == -error &&
           strcmp(takt_uring_name(&other.backend), "epoll") == 0 && strstr(text, "epoll") &&
           strstr(text, name) && strstr(text, "io_uring");
    if (!good)
        printf("%s: %s\n", name, text);
    good = good && TAKT_START_ON(&other, clockwork, clockwork) && net_run(&other) == 0;
    return good && net_free(&other) == 0;
}

static void whatever_forbids_the_ring_is_named_and_epoll_runs(void)
{
    static const struct {
        int number, error;
        const char *name;
    } cases[] = {
        {__NR_io_uring_setup, EPERM, "EPERM"},       {__NR_io_uring_setup, ENOSYS, "ENOSYS"},
        {__NR_io_uring_setup, ENOMEM, "ENOMEM"},     {__NR_io_uring_setup, EINVAL, "EINVAL"},
        {__NR_io_uring_setup, EOPNOTSUPP, "EOPNOTSUPP"},
        {__NR_io_uring_setup, EMFILE, "EMFILE"},     {__NR_io_uring_setup, E2BIG, "-7"},
        {__NR_io_uring_enter, EPERM, "EPERM"}};
    const bool forbidden = wanted.backend.mode == TAKT_URING_AUTO;
#ifdef TAKT_NO_URING
    return; /* there is no ring to forbid */
#endif
    if (strcmp(expected_name, "epoll") != 0)
        return; /* once is enough */
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        pid_t child;
        int status = -1;
        if (cases[i].number == __NR_io_uring_enter && forbidden)
            continue;
        fflush(stdout);
        child = fork();
        if (child == 0)
            _exit(falls_back(cases[i].number, cases[i].error, cases[i].name) ? 0 : 1);
        EXPECT_EQ(waitpid(child, &status, 0), child);
        EXPECT_EQ(status, 0);
    }
    if (forbidden)
        EXPECT(falls_back(0, EPERM, "EPERM"));
}

static void what_was_asked_for_runs_and_says_so(void)
{
    static net other;
    net_config config = wanted;
    char text[512], small[8];
    int len;
    setup();
    len = takt_uring_describe(&loop.backend, text, sizeof text);
    EXPECT_EQ(len, strlen(text));
    EXPECT(strncmp(text, expected_name, strlen(expected_name)) == 0);
    EXPECT(strstr(text, "io_uring")); /* it runs, or why it does not */
    EXPECT_EQ(takt_uring_describe(&loop.backend, small, sizeof small), len);
    EXPECT_EQ(strlen(small), sizeof small - 1);
    finish();
    if (wanted.backend.mode == TAKT_URING_AUTO) { /* and without a way back, it is an error */
        config.backend.mode = TAKT_URING_ONLY;
        EXPECT_EQ(net_init(&other, &config), -EPERM);
        takt_uring_describe(&other.backend, text, sizeof text);
        EXPECT(strstr(text, "nothing") && strstr(text, "EPERM"));
        EXPECT_EQ(open_descriptors(), open_before);
    }
}

/* -- any of several ---------------------------------------------------------- */

static takt_event bell;
static takt_channel letters;
static int letter_box[2];

/* Sends its bytes in turn on one of two sockets or on both, as a count that goes on on each. */
struct scatter {
    takt_frame frame;
    int fds[2];
    int i, which;
    unsigned char next[2];
};

static TAKT_CORO(scatter)
{
    TAKT_BEGIN(scatter, my);
    TAKT_DEFER
    {
        TAKT_AWAIT(takt_close(my->fds[0]));
        TAKT_AWAIT(takt_close(my->fds[1]));
    }
    for (my->i = 0; my->i < ROUNDS; my->i++) {
        my->which = (int)random_below(3);
        if (my->which != 1) {
            TAKT_AWAIT(takt_send(my->fds[0], &my->next[0], 1));
            my->next[0]++;
        }
        if (my->which != 0) {
            TAKT_AWAIT(takt_send(my->fds[1], &my->next[1], 1));
            my->next[1]++;
        }
        TAKT_AWAIT(takt_sleep(soon()));
    }
    TAKT_END;
}

/* Whatever wins, what the losers got is theirs too. */
struct gatherer {
    takt_frame frame;
    int a[2], b[2];
    takt_op ops[5];
    int winner, wins[5];
    int over; /* streams that have ended */
    unsigned char expected[2], buf[2][8];
    unsigned char *data;
    struct scatter scatter;
};

static void gather(struct gatherer *my, int which, const unsigned char *bytes)
{
    for (int64_t i = 0; i < my->ops[which].result; i++)
        EXPECT_EQ(bytes[i], my->expected[which]++);
    my->over += my->ops[which].result == 0;
}

static TAKT_CORO(gatherer)
{
    TAKT_BEGIN(gatherer, my);
    pair_of(SOCK_STREAM, my->a);
    pair_of(SOCK_STREAM, my->b);
    TAKT_START(my->scatter, scatter, .fds[0] = my->a[1], .fds[1] = my->b[1]);
    while (!my->over) {
        my->ops[0] = takt_recv(my->a[0], my->buf[0], 3);
        my->ops[1] = takt_recv_lease(my->b[0], &pool, &my->data);
        my->ops[2] = takt_sleep(soon());
        my->ops[3] = takt_event_wait(&bell);
        my->ops[4] = takt_get(&letters, my->buf[1]);
        TAKT_AWAIT_ANY(my->winner, my->ops, 5);
        EXPECT(my->winner >= 0 && my->winner < 3);
        my->wins[my->winner]++;
        for (int i = 0; i < 5; i++)
            EXPECT(my->ops[i].result >= 0 || my->ops[i].result == TAKT_ECANCELED);
        gather(my, 0, my->buf[0]);
        gather(my, 1, my->data);
        EXPECT_EQ(takt_bufs_put(&pool, &my->data), 0);
    }
    while (my->over < 2) { /* what the slower one still has */
        my->ops[0].result = my->ops[1].result = TAKT_ECANCELED;
        TAKT_TRY_AWAIT(my->ops[0].result, takt_recv(my->a[0], my->buf[0], 3));
        gather(my, 0, my->buf[0]);
        TAKT_TRY_AWAIT(my->ops[1].result, takt_recv_lease(my->b[0], &pool, &my->data));
        gather(my, 1, my->data);
        EXPECT_EQ(takt_bufs_put(&pool, &my->data), 0);
    }
    EXPECT(my->wins[0] > 0 && my->wins[1] > 0 && my->wins[2] > 0);
    EXPECT_EQ(my->expected[0], my->scatter.next[0]);
    EXPECT_EQ(my->expected[1], my->scatter.next[1]);
    TAKT_AWAIT(takt_close(my->a[0]));
    TAKT_AWAIT(takt_close(my->b[0]));
    TAKT_JOIN(my->scatter);
    TAKT_END;
}

static void of_any_of_several_no_loser_loses_data(void)
{
    static struct gatherer gatherer;
    memset(&bell, 0, sizeof bell);
    EXPECT_EQ(takt_channel_init(&letters, letter_box, sizeof letter_box[0], 2), 0);
    EXPECT_EQ(takt_bufs_init(&pool, 1, 8), 0);
    RUN(gatherer, gatherer);
    EXPECT_EQ(pool.in_use, 0);
    EXPECT(bell.line.first == NULL && letters.getters.first == NULL && pool.waiting == NULL);
    takt_bufs_free(&pool);
}

/* A connection that is accepted while something else wins. */
struct porter {
    takt_frame frame;
    takt_addr addr;
    int listener, got, lost, i, winner;
    takt_op ops[3];
    struct caller caller;
};

static TAKT_CORO(porter)
{
    TAKT_BEGIN(porter, my);
    my->listener = listen_at(&my->frame, UNIX, &my->addr);
    TAKT_START(my->caller, caller, .to = &my->addr);
    while (my->got < ROUNDS) {
        my->ops[0] = takt_accept(my->listener, NULL);
        my->ops[1] = takt_sleep(soon());
        my->ops[2] = takt_nop();
        TAKT_AWAIT_ANY(my->winner, my->ops, random_below(4) ? 2 : 3);
        if (my->ops[0].result >= 0) {
            my->got++;
            TAKT_AWAIT(takt_close((int)my->ops[0].result));
        } else {
            my->lost++;
            EXPECT_EQ(my->ops[0].result, TAKT_ECANCELED);
        }
    }
    EXPECT(my->lost > 0);
    TAKT_AWAIT(takt_close(my->listener));
    TAKT_END;
}

static void of_any_of_several_no_accepted_descriptor_is_lost(void)
{
    static struct porter porter;
    RUN(porter, porter);
    forget(UNIX);
}

/* Every kind of loser is reaped: its descriptor is free at once, and nothing is left. */
struct dabbler {
    takt_frame frame;
    takt_addr addr, from;
    int pair[2], tubes[2], silent[2], which, winner, n;
    takt_op ops[8];
    char c, d;
    unsigned char *data;
};

static TAKT_CORO(dabbler)
{
    TAKT_BEGIN(dabbler, my);
    pair_of(SOCK_STREAM, my->pair);
    pair_of(SOCK_DGRAM, my->tubes);
    listen_in_silence(&my->addr, my->silent);
    for (my->which = 0; my->which < 5; my->which++) {
        my->ops[0] = takt_tcp_connect(&my->addr);
        my->ops[1] = takt_recv(my->pair[0], &my->c, 1);
        my->ops[2] = takt_ready(my->pair[1], TAKT_READABLE);
        my->ops[3] = takt_recvfrom(my->tubes[0], &my->d, 1, &my->from);
        my->ops[4] = takt_recv_lease(my->tubes[1], &pool, &my->data);
        my->ops[5] = takt_event_wait(&bell);
        my->ops[6] = my->which == 0 ? takt_nop() : takt_sleep(600 * TAKT_SEC);
        my->ops[7] = my->which == 1 ? takt_sleep(TAKT_MS) : takt_acquire(&none);
        if (my->which == 2)
            TAKT_AWAIT(takt_send(my->pair[0], "x", 1));
        if (my->which == 3)
            TAKT_AWAIT(takt_send(my->tubes[1], "y", 1));
        if (my->which == 4)
            TAKT_AWAIT(takt_send(my->tubes[0], "z", 1));
        TAKT_AWAIT_ANY(my->winner, my->ops, 8);
        EXPECT_EQ(my->winner, my->which == 0 ? 6 : my->which == 1 ? 7 : my->which);
        EXPECT_EQ(my->ops[my->winner].result, my->which < 2 ? 0 : 1);
        for (int i = 0; i < 8; i++)
            EXPECT(i == my->winner || my->ops[i].result == TAKT_ECANCELED);
        EXPECT_EQ(takt_bufs_put(&pool, &my->data), 0);
        if (my->which == 2) { /* readiness took nothing, and its place is free */
            TAKT_AWAIT(my->n, takt_recv(my->pair[1], &my->c, 1));
            EXPECT(my->n == 1 && my->c == 'x');
        }
    }
    EXPECT_EQ(my->d, 'y');
    for (my->which = 0; my->which < 2; my->which++) {
        TAKT_AWAIT(takt_close(my->pair[my->which]));
        TAKT_AWAIT(takt_close(my->tubes[my->which]));
        TAKT_AWAIT(takt_close(my->silent[my->which]));
    }
    TAKT_END;
}

static void every_loser_is_reaped_and_leaves_nothing(void)
{
    static struct dabbler dabbler;
    memset(&bell, 0, sizeof bell);
    EXPECT_EQ(takt_bufs_init(&pool, 1, 8), 0);
    RUN(dabbler, dabbler);
    EXPECT_EQ(pool.in_use, 0);
    EXPECT(none.line.first == NULL && bell.line.first == NULL);
    takt_bufs_free(&pool);
}

/* -- the command line ------------------------------------------------------ */

static int usage(void)
{
    printf("usage: contract epoll | poll | uring | refused [NAME...]\n");
    return 2;
}

/* 0, or the exit code. */
static int choose(const char *name)
{
    char text[512];
    int rc;
    wanted = net_defaults();
    wanted.backend.mode = TAKT_URING_NEVER;
    expected_name = strcmp(name, "uring") == 0  ? "io_uring"
                    : strcmp(name, "poll") == 0 ? "poll"
                                                : "epoll";
    if (strcmp(name, "poll") == 0) {
        wanted.backend.posix.poll_instead = true;
    } else if (strcmp(name, "refused") == 0) {
        wanted.backend.mode = TAKT_URING_AUTO;
        rc = refuse(__NR_io_uring_setup, EPERM);
        if (rc < 0)
            printf("no seccomp filter can be installed: %s\n", strerror(-rc));
        return rc < 0 ? 77 : 0;
    } else if (strcmp(name, "uring") == 0) {
        if (takt_uring_config_from_env(&wanted.backend) < 0) /* TAKT_DISABLE */
            return usage();
        wanted.backend.mode = TAKT_URING_ONLY;
        rc = net_init(&loop, &wanted);
        takt_uring_describe(&loop.backend, text, sizeof text);
        printf("%s\n", text);
        return rc < 0 ? 77 : net_free(&loop);
    } else if (strcmp(name, "epoll") != 0) {
        return usage();
    }
    return 0;
}

/* A lost wake-up in net_run() would hang: then the process is ended. */
static void no_longer_than(int seconds)
{
    struct sigevent event;
    struct itimerspec when;
    timer_t timer;
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = SIGABRT;
    memset(&when, 0, sizeof when);
    when.it_value.tv_sec = seconds;
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) == 0)
        timer_settime(timer, 0, &when, NULL);
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        TEST(what_was_asked_for_runs_and_says_so),
        TEST(whatever_forbids_the_ring_is_named_and_epoll_runs),
        TEST(nops_and_sleeps_end_in_time),
        TEST(streams_of_every_family_carry_a_conversation),
        TEST(a_send_is_whole_however_slow_the_reader),
        TEST(a_send_that_times_out_tells_how_many_bytes_went),
        TEST(datagrams_keep_their_bounds_and_senders),
        TEST(datagrams_wait_for_room_and_arrive_once),
        TEST(pipes_and_files_are_read_and_written),
        TEST(readiness_is_a_level),
        TEST(a_signal_is_awaited),
        TEST(an_empty_pool_serves_first_come_first_served),
        TEST(a_vector_of_nothing_is_done_at_once),
        TEST(leased_buffers_come_back_exactly_once),
        TEST(a_close_ends_what_is_in_flight_and_the_peer_sees_it),
        TEST(a_close_takes_a_lease_out_of_its_line),
        TEST(a_descriptor_that_was_closed_starts_anew),
        TEST(a_refused_connection_leaves_no_descriptor),
        TEST(a_connect_that_is_given_up_leaves_no_descriptor),
        TEST(a_limit_expires_or_changes_nothing),
        TEST(the_clock_is_read_anew_after_a_wait),
        TEST(a_cancel_in_any_phase_loses_nothing),
        TEST(data_that_comes_with_the_limit_is_never_lost),
        TEST(a_connection_that_comes_with_the_limit_is_never_lost),
        TEST(a_batch_can_be_awaited_again),
        TEST(three_hundred_finish_on_a_ring_of_two_entries),
        TEST(signals_a_thousand_times_a_second_change_nothing),
        TEST(a_million_nops_stay_on_the_same_stack),
        TEST(an_accept_without_a_descriptor_fails_and_works_again),
        TEST(a_foreign_loop_that_sleeps_on_the_descriptor_misses_nothing),
        TEST(a_buffer_that_comes_back_from_outside_is_work),
        TEST(a_foreign_loop_carries_a_conversation),
        TEST(a_loop_that_stops_takes_no_new_work_and_ends),
        TEST(a_drain_ends_everything_and_runs_every_defer),
        TEST(a_batch_of_closes_acts_in_a_drain),
        TEST(of_any_of_several_no_loser_loses_data),
        TEST(of_any_of_several_no_accepted_descriptor_is_lost),
        TEST(every_loser_is_reaped_and_leaves_nothing),
    };
    int rc;
    if (argc < 2)
        return usage();
    setvbuf(stdout, NULL, _IOLBF, 0);
    no_longer_than(60);
    rc = choose(argv[1]);
    if (rc)
        return rc;
    look_for_places();
    return RUN_TESTS(argc - 1, argv + 1, tests);
}

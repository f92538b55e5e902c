/*
 * burst.c - takt_send_burst() on every real backend: epoll, poll, io_uring, io_uring refused;
 * with datagrams that the system takes apart, and one by one
 */
#define TAKT_IMPLEMENTATION
#include "../takt_uring.h"

#include "refuse.h"
#include "test.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PEERS = 5, MOST = 300 };

TAKT_LOOP(net, takt_uring);

static net_config wanted;
static bool single; /* in this mode */
static net loop;
static int server, peers[PEERS];
static takt_addr where[PEERS];
static takt_packet packets[MOST];
static char contents[MOST][1400];

/* A socket on the loopback, and its address. */
static int bound(takt_addr *addr)
{
    struct sockaddr_in in;
    socklen_t len = sizeof in;
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const int room = 4 << 20;
    memset(&in, 0, sizeof in);
    in.sin_family = AF_INET;
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(bind(fd, (struct sockaddr *)&in, sizeof in), 0);
    EXPECT_EQ(getsockname(fd, (struct sockaddr *)&in, &len), 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    memset(addr, 0, sizeof *addr);
    memcpy(&addr->sockaddr, &in, sizeof in);
    addr->len = sizeof in;
    return fd;
}

static void setup(void)
{
    takt_addr own;
    net_config config = wanted;
    config.loop.strands = 32;
    EXPECT_EQ(net_init(&loop, &config), 0);
    if (single)
        loop.backend.posix.no_segments = -ENOTSUP;
    server = bound(&own);
    for (int i = 0; i < PEERS; i++)
        peers[i] = bound(&where[i]);
    memset((void *)packets, 0, sizeof packets);
}

static void finish(void)
{
    EXPECT_EQ(net_free(&loop), 0);
    close(server);
    for (int i = 0; i < PEERS; i++)
        close(peers[i]);
}

struct burst {
    takt_frame frame;
    int fd, count; /* in */
    int64_t sent;
};

static TAKT_CORO(burst)
{
    TAKT_BEGIN(burst, my);
    TAKT_TRY_AWAIT(my->sent, takt_send_burst(my->fd, packets, (size_t)my->count));
    TAKT_END;
}

static int64_t send_all(int count)
{
    static struct burst it;
    memset((void *)&it, 0, sizeof it);
    EXPECT(TAKT_START_ON(&loop, it, burst, .fd = server, .count = count));
    EXPECT_EQ(net_run(&loop), 0);
    return it.sent;
}

static void packet(int i, int peer, uint32_t len)
{
    packets[i].data = contents[i];
    packets[i].len = len;
    packets[i].error = 1;
    packets[i].to = &where[peer];
    memset(contents[i], 'a' + i % 26, sizeof contents[i]);
    contents[i][0] = (char)i;
}

/* A Unix socket, on which a full burst has to wait. */
static void more_than_fits(int *pair)
{
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair), 0);
    for (int i = 0; i < MOST; i++) {
        packet(i, 0, 1000);
        packets[i].to = NULL;
    }
}

/* The next datagram of `peer` is the `i`th that was sent. */
static void expect_packet(int peer, int i)
{
    char got[2000];
    struct pollfd it = {peers[peer], POLLIN, 0};
    ssize_t n = poll(&it, 1, 5000); /* a busy system delivers it when it has the time */
    n = recv(peers[peer], got, sizeof got, 0);
    EXPECT_EQ(n, packets[i].len);
    EXPECT(n < 0 || memcmp(got, contents[i], (size_t)n) == 0);
}

static void expect_silence(void)
{
    char c;
    for (int i = 0; i < PEERS; i++)
        EXPECT(recv(peers[i], &c, 1, 0) < 0);
}

/* The tick of a game: one to each, in one go. */
static void one_to_each_of_many(void)
{
    setup();
    for (int i = 0; i < 200; i++)
        packet(i, i % PEERS, 20 + (uint32_t)i);
    EXPECT_EQ(send_all(200), 200);
    for (int i = 0; i < 200; i++) {
        expect_packet(i % PEERS, i);
        EXPECT_EQ(packets[i].error, 0);
    }
    expect_silence();
    finish();
}

/* Runs of one length to one peer, the last shorter, then another run; also empty ones. They
 * arrive as they were, whatever they were joined to. */
static void runs_arrive_as_they_were_sent(void)
{
    setup();
    for (int i = 0; i < MOST; i++)
        packet(i, i / 60, i % 60 == 59 ? 7 : i % 60 == 30 ? 0 : i % 60 < 30 ? 1200 : 100);
    EXPECT_EQ(send_all(MOST), MOST);
    for (int i = 0; i < MOST; i++)
        expect_packet(i / 60, i);
    expect_silence();
    EXPECT_EQ(loop.backend.posix.no_segments, single ? -ENOTSUP : 0);
    finish();
}

/* One that cannot go is told, and does not hold the others. */
static void one_that_fails_costs_only_itself(void)
{
    static char huge[70000];
    takt_addr nowhere;
    setup();
    for (int i = 0; i < 9; i++)
        packet(i, 0, 100);
    memset(&nowhere, 0, sizeof nowhere);
    EXPECT_EQ(takt_addr_parse(&nowhere, "127.0.0.1:0"), 0);
    packets[2].to = &nowhere;
    packets[5].data = huge;
    packets[5].len = sizeof huge;
    EXPECT_EQ(send_all(9), 7);
    EXPECT_EQ(packets[2].error, -EINVAL);
    EXPECT_EQ(packets[5].error, -EMSGSIZE);
    for (int i = 0; i < 9; i++) {
        if (i == 2 || i == 5)
            continue;
        EXPECT_EQ(packets[i].error, 0);
        expect_packet(0, i);
    }
    expect_silence();
    finish();
}

static void nothing_and_nobody(void)
{
    static struct burst it;
    setup();
    EXPECT_EQ(send_all(0), 0);
    memset((void *)&it, 0, sizeof it);
    packet(0, 0, 10);
    EXPECT(TAKT_START_ON(&loop, it, burst, .fd = -1, .count = 1));
    EXPECT_EQ(net_run(&loop), 0);
    EXPECT_EQ(it.sent, -EBADF);
    finish();
}

/* A reply leaves from the address that was hit. */
static void it_leaves_from_where_it_is_told_to(void)
{
    struct sockaddr_in any, from;
    socklen_t len = sizeof from;
    takt_addr other;
    char got[100];
    setup();
    close(server);
    server = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    memset(&any, 0, sizeof any);
    any.sin_family = AF_INET;
    EXPECT_EQ(bind(server, (struct sockaddr *)&any, sizeof any), 0);
    EXPECT_EQ(takt_addr_parse(&other, "127.0.0.77:0"), 0);
    for (int i = 0; i < 3; i++) {
        packet(i, 1, 50);
        packets[i].from = i < 2 ? &other : NULL;
    }
    EXPECT_EQ(send_all(3), 3);
    for (int i = 0; i < 3; i++) {
        EXPECT_EQ(recvfrom(peers[1], got, sizeof got, 0, (struct sockaddr *)&from, &len), 50);
        EXPECT_EQ(ntohl(from.sin_addr.s_addr), i < 2 ? 0x7f00004d : 0x7f000001);
    }
    finish();
}

/* A socket that is full is waited for: here the other end of a pair, which reads late. */
static void a_full_socket_is_waited_for(void)
{
    static struct burst it;
    int pair[2], got = 0;
    char bytes[2000];
    setup();
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair), 0);
    for (int i = 0; i < MOST; i++) {
        packet(i, 0, (uint32_t)(1000 + i));
        packets[i].to = NULL;
    }
    memset((void *)&it, 0, sizeof it);
    EXPECT(TAKT_START_ON(&loop, it, burst, .fd = pair[0], .count = MOST));
    EXPECT(net_turn(&loop, 0, 0) >= 0);
    EXPECT(takt_alive(&it.frame));
    for (int turns = 0; got < MOST && turns < 10000; turns++) {
        const ssize_t n = recv(pair[1], bytes, sizeof bytes, 0);
        if (n < 0) {
            EXPECT(net_turn(&loop, TAKT_MS, 0) >= 0);
            continue;
        }
        EXPECT_EQ(n, 1000 + got);
        got++;
    }
    EXPECT_EQ(got, MOST);
    EXPECT_EQ(net_run(&loop), 0);
    EXPECT_EQ(it.sent, MOST);
    close(pair[0]);
    close(pair[1]);
    finish();
}

/* Where there is room, several send on one socket in one turn, and none is in another's way. */
static void many_send_in_one_turn(void)
{
    static struct burst bursts[4];
    char in[64];
    setup();
    memset((void *)bursts, 0, sizeof bursts);
    packets[0].data = "here";
    packets[0].len = 4;
    packets[0].to = &where[0];
    for (int i = 0; i < 4; i++)
        EXPECT(TAKT_START_ON(&loop, bursts[i], burst, .fd = server, .count = 1));
    EXPECT_EQ(net_run(&loop), 0);
    for (int i = 0; i < 4; i++) {
        EXPECT_EQ(bursts[i].sent, 1);
        EXPECT_EQ(recv(peers[0], in, sizeof in, 0), 4);
    }
    finish();
}

struct line {
    takt_frame frame;
    int fd, first, count; /* in; of one: takt_sendto() */
    int64_t sent;
};

static TAKT_CORO(line)
{
    TAKT_BEGIN(line, my);
    if (my->count == 1)
        TAKT_TRY_AWAIT(my->sent, takt_sendto(my->fd, packets[my->first].data,
                                             packets[my->first].len, NULL));
    else
        TAKT_TRY_AWAIT(my->sent, takt_send_burst(my->fd, packets + my->first,
                                                 (size_t)my->count));
    TAKT_END;
}

/* Bursts and single datagrams stand in one line while the socket is full, whoever came first,
 * and are sent in that order; who gives up leaves it. */
static void they_stand_in_line(void)
{
    enum { LINES = 24 };
    static struct line lines[LINES];
    int pair[2], first = 0, turns = 0;
    setup();
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair), 0);
    for (int i = 0; i < MOST; i++) {
        packet(i, 0, (uint32_t)(1000 + i));
        packets[i].to = NULL;
    }
    memset((void *)lines, 0, sizeof lines);
    for (int i = 0; i < LINES; i++) {
        lines[i].count = i % 5 == 1 || i % 5 == 2 ? 1 : i == 0 ? 2 : 20;
        const int count = i % 5 == 1 || i % 5 == 2 ? 1 : i == 0 ? 200 : 5;
        EXPECT(TAKT_START_ON(&loop, lines[i], line, .fd = pair[0], .first = first,
                             .count = count));
        first += count;
        if (i % 4 == 3)
            EXPECT(net_turn(&loop, 0, 0) >= 0);
    }
    EXPECT(first <= MOST);
    takt_cancel(&lines[20].frame); /* a burst; */
    takt_cancel(&lines[22].frame); /* and a single one, none of them the first */
    for (int i = 0; i < LINES; i++) {
        for (int k = 0; i != 20 && i != 22 && k < lines[i].count; k++) {
            char bytes[2000];
            ssize_t n;
            while ((n = recv(pair[1], bytes, sizeof bytes, 0)) < 0 && turns++ < 10000)
                EXPECT(net_turn(&loop, TAKT_MS, 0) >= 0);
            EXPECT_EQ(n, 1000 + lines[i].first + k);
        }
    }
    EXPECT_EQ(net_run(&loop), 0);
    for (int i = 0; i < LINES; i++) {
        if (i == 20 || i == 22)
            EXPECT_EQ(takt_error(&lines[i].frame), TAKT_ECANCELED);
        else
            EXPECT_EQ(lines[i].sent, lines[i].count == 1 ? 1000 + lines[i].first
                                                         : lines[i].count);
    }
    close(pair[0]);
    close(pair[1]);
    finish();
}

struct shut_line {
    takt_frame frame;
    int fd;
    int64_t closed;
};

static TAKT_CORO(shut_line)
{
    TAKT_BEGIN(shut_line, my);
    TAKT_TRY_AWAIT(my->closed, takt_close(my->fd));
    TAKT_END;
}

/* A close ends the whole line. */
static void a_close_ends_the_line(void)
{
    static struct line lines[3];
    static struct shut_line shut;
    int pair[2];
    setup();
    more_than_fits(pair);
    memset((void *)lines, 0, sizeof lines);
    memset((void *)&shut, 0, sizeof shut);
    for (int i = 0; i < 3; i++)
        EXPECT(TAKT_START_ON(&loop, lines[i], line, .fd = pair[0], .count = i == 1 ? 1 : MOST));
    EXPECT(net_turn(&loop, 0, 0) >= 0);
    EXPECT(TAKT_START_ON(&loop, shut, shut_line, .fd = pair[0]));
    EXPECT_EQ(net_run(&loop), 0);
    EXPECT_EQ(shut.closed, 0);
    for (int i = 0; i < 3; i++)
        EXPECT_EQ(lines[i].sent, TAKT_ECLOSED);
    close(pair[1]);
    finish();
}

struct twice {
    takt_frame frame;
    takt_op ops[1];
    int64_t first, second;
};

static TAKT_CORO(twice)
{
    TAKT_BEGIN(twice, my);
    my->ops[0] = takt_send_burst(server, packets, 3);
    TAKT_AWAIT_ALL(my->ops, 1);
    my->first = my->ops[0].result;
    TAKT_AWAIT_ALL(my->ops, 1);
    my->second = my->ops[0].result;
    TAKT_END;
}

/* An op of a batch may be awaited again. */
static void it_can_be_sent_again(void)
{
    static struct twice it;
    setup();
    memset((void *)&it, 0, sizeof it);
    for (int i = 0; i < 3; i++)
        packet(i, 0, 100);
    EXPECT(TAKT_START_ON(&loop, it, twice));
    EXPECT_EQ(net_run(&loop), 0);
    EXPECT_EQ(it.first, 3);
    EXPECT_EQ(it.second, 3);
    for (int i = 0; i < 6; i++)
        expect_packet(0, i % 3);
    expect_silence();
    finish();
}

/* Given up while it waits, it says nothing of what was not sent. */
static void it_can_be_cancelled(void)
{
    static struct burst it;
    int pair[2];
    setup();
    more_than_fits(pair);
    memset((void *)&it, 0, sizeof it);
    EXPECT(TAKT_START_ON(&loop, it, burst, .fd = pair[0], .count = MOST));
    EXPECT(net_turn(&loop, 0, 0) >= 0);
    takt_cancel(&it.frame);
    for (int i = 0; i < 100 && takt_alive(&it.frame); i++)
        EXPECT(net_turn(&loop, 10 * TAKT_MS, 0) >= 0);
    EXPECT_EQ(takt_error(&it.frame), TAKT_ECANCELED);
    EXPECT_EQ(packets[0].error, 0);
    EXPECT_EQ(packets[MOST - 1].error, 1);
    close(pair[0]);
    close(pair[1]);
    finish();
}

struct bystander {
    takt_frame frame;
};

static TAKT_CORO(bystander)
{
    TAKT_BEGIN(bystander, my);
    TAKT_AWAIT(takt_sleep(600 * TAKT_SEC));
    TAKT_END;
}

/* What there is no room for is told of, and nobody waits: neither the caller, nor behind one
 * that does wait. */
static void a_try_sends_what_fits_and_never_waits(void)
{
    static struct bystander frame;
    static struct burst waits;
    int pair[2], sent, more;
    char bytes[2000];
    setup();
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair), 0);
    EXPECT(TAKT_START_ON(&loop, frame, bystander));
    for (int i = 0; i < MOST; i++) {
        packet(i, 0, 1000);
        packets[i].to = NULL;
    }
    sent = takt_try_send_burst(&frame.frame, pair[0], packets, MOST);
    EXPECT(sent > 0 && sent < MOST);
    for (int i = 0; i < MOST; i++)
        EXPECT_EQ(packets[i].error, i < sent ? 0 : -EAGAIN);
    EXPECT_EQ(takt_try_send_burst(&frame.frame, pair[0], packets, MOST), 0);
    EXPECT_EQ(packets[0].error, -EAGAIN);
    EXPECT_EQ(takt_try_send_burst(&frame.frame, pair[0], packets, 0), 0);
    EXPECT_EQ(takt_try_send_burst(&frame.frame, -1, packets, 2), -EBADF);

    memset((void *)&waits, 0, sizeof waits);
    EXPECT(TAKT_START_ON(&loop, waits, burst, .fd = pair[0], .count = 1));
    EXPECT(net_turn(&loop, 0, 0) >= 0);
    EXPECT(takt_alive(&waits.frame));
    EXPECT_EQ(recv(pair[1], bytes, sizeof bytes, 0), 1000);
    more = takt_try_send_burst(&frame.frame, pair[0], packets + 1, 2);
    EXPECT(more == 1 || more == 2); /* on room for one, it may have been for two */
    for (int i = 1; i < sent + more; i++)
        EXPECT_EQ(recv(pair[1], bytes, sizeof bytes, 0), 1000);
    for (int i = 0; i < 100 && takt_alive(&waits.frame); i++)
        EXPECT(net_turn(&loop, 10 * TAKT_MS, 0) >= 0);
    EXPECT_EQ(waits.sent, 1);
    takt_cancel(&frame.frame);
    EXPECT_EQ(net_run(&loop), 0);
    close(pair[0]);
    close(pair[1]);
    finish();
}

/* As many as there are peers, of which each gets its own, in order. */
static void a_try_serves_many(void)
{
    static struct bystander frame;
    setup();
    EXPECT(TAKT_START_ON(&loop, frame, bystander));
    for (int i = 0; i < MOST; i++)
        packet(i, i / 3 % PEERS, i % 3 < 2 ? 1200 : 300);
    EXPECT_EQ(takt_try_send_burst(&frame.frame, server, packets, MOST), MOST);
    for (int i = 0; i < MOST; i++) {
        EXPECT_EQ(packets[i].error, 0);
        expect_packet(i / 3 % PEERS, i);
    }
    expect_silence();
    takt_cancel(&frame.frame);
    EXPECT_EQ(net_run(&loop), 0);
    finish();
}

static const struct mode {
    const char *name;
    takt_uring_mode mode;
    bool poll, refused, single;
} modes[] = {
    {"epoll", TAKT_URING_NEVER, false, false, false},
    {"epoll, one by one", TAKT_URING_NEVER, false, false, true},
    {"poll", TAKT_URING_NEVER, true, false, false},
    {"uring", TAKT_URING_AUTO, false, false, false},
    {"uring, one by one", TAKT_URING_AUTO, false, false, true},
    {"refused", TAKT_URING_AUTO, false, true, false},
};

/* What a mode asks for. */
static int enter(size_t m)
{
    if (modes[m].refused && refuse(425, EPERM) < 0)
        return 0;
    wanted = net_defaults();
    wanted.backend.mode = modes[m].mode;
    wanted.backend.posix.poll_instead = modes[m].poll;
    single = modes[m].single;
    return 1;
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        TEST(one_to_each_of_many),
        TEST(runs_arrive_as_they_were_sent),
        TEST(one_that_fails_costs_only_itself),
        TEST(nothing_and_nobody),
        TEST(it_leaves_from_where_it_is_told_to),
        TEST(a_full_socket_is_waited_for),
        TEST(many_send_in_one_turn),
        TEST(they_stand_in_line),
        TEST(a_close_ends_the_line),
        TEST(it_can_be_sent_again),
        TEST(it_can_be_cancelled),
        TEST(a_try_sends_what_fits_and_never_waits),
        TEST(a_try_serves_many),
    };
    return RUN_MODES(argc, argv, tests, modes, enter);
}

/*
 * stream_loop.c - streams in coroutines, on every real backend: epoll, poll, io_uring, and
 * io_uring without the rungs that streams stand on
 */
#define TAKT_IMPLEMENTATION
#include "../takt_uring.h"

#include "test.h"

#include <dirent.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

TAKT_LOOP(net, takt_uring);

static net loop;
static net_config wanted;
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
    EXPECT_EQ(net_init(&loop, &wanted), 0);
    EXPECT_EQ(takt_bufs_init(&pool, count, size), 0);
}

/* Runs to the end of `frame`, which must come; then nothing is left of anything. */
static void finish(const takt_frame *frame)
{
    const takt_ns limit = net_now(&loop) + 10 * TAKT_SEC;
    while (takt_alive(frame) && net_now(&loop) < limit && !net_failed(&loop))
        net_turn(&loop, 100 * TAKT_MS, 0);
    EXPECT(!takt_alive(frame));
    EXPECT_EQ(net_failed(&loop), 0);
    if (takt_alive(frame))
        takt_dump(&loop.sched);
    EXPECT_EQ(takt_error(frame), 0);
    EXPECT_EQ(net_free(&loop), 0);
    EXPECT_EQ(pool.in_use, 0);
    takt_bufs_free(&pool);
    EXPECT_EQ(open_descriptors(), open_before);
}

static void pair_of(int type, int *pair)
{
    EXPECT_EQ(socketpair(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
}

/* -- a server of streams -------------------------------------------------------- */

struct served {
    takt_frame frame;
    int fd; /* in: closed here */
    takt_stream bytes;
    takt_item item;
};

static TAKT_CORO(served)
{
    TAKT_BEGIN(served, my);
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->fd)); }
    TAKT_DEFER { takt_bufs_put(&pool, &my->item.data); }
    TAKT_CHECK(takt_setsockopt(&my->frame, my->fd, IPPROTO_TCP, TCP_NODELAY, 1)); /* in pieces */
    TAKT_OPEN(my->bytes, takt_recv_multishot(my->fd, &pool));
    for (;;) {
        TAKT_NEXT(my->item, my->bytes);
        if (my->item.end)
            TAKT_RETURN;
        TAKT_AWAIT(takt_send(my->fd, my->item.data, (size_t)my->item.value));
        takt_bufs_put(&pool, &my->item.data);
    }
    TAKT_END;
}

struct server {
    takt_frame frame;
    int fd; /* in: listening */
    int served;
    takt_stream connections;
    takt_item item;
};

static TAKT_CORO(server)
{
    TAKT_BEGIN(server, my);
    TAKT_OPEN(my->connections, takt_accept_multishot(my->fd));
    for (;;) {
        TAKT_NEXT(my->item, my->connections);
        if (my->item.end)
            TAKT_RETURN;
        my->served++;
        if (!TAKT_SPAWN(served, .fd = (int)my->item.value))
            TAKT_AWAIT(takt_close((int)my->item.value));
    }
    TAKT_END;
}

enum { ROUNDS = 20, TEXT = 700 };

struct client {
    takt_frame frame;
    const takt_addr *addr;
    int fd, i;
    char out[TEXT], in[TEXT];
};

static TAKT_CORO(client)
{
    TAKT_BEGIN(client, my);
    TAKT_AWAIT(my->fd, takt_tcp_connect(my->addr));
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->fd)); }
    for (my->i = 0; my->i < ROUNDS; my->i++) {
        memset(my->out, my->i + my->fd, sizeof my->out);
        TAKT_AWAIT(takt_send(my->fd, my->out, sizeof my->out));
        TAKT_AWAIT(takt_recv_all(my->fd, my->in, sizeof my->in));
        EXPECT(memcmp(my->in, my->out, sizeof my->in) == 0);
    }
    TAKT_END;
}

enum { CLIENTS = 50 };

struct crowd {
    takt_frame frame;
    takt_addr addr;
    int listener, i;
    struct server server;
    struct client clients[CLIENTS];
};

static TAKT_CORO(crowd)
{
    TAKT_BEGIN(crowd, my);
    TAKT_CHECK(takt_addr_parse(&my->addr, "127.0.0.1:0"));
    TAKT_CHECK(my->listener = takt_listen(&my->frame, &my->addr, 0));
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->listener)); }
    TAKT_CHECK(takt_sockname(&my->frame, my->listener, &my->addr));
    TAKT_START(my->server, server, .fd = my->listener);
    for (my->i = 0; my->i < CLIENTS; my->i++)
        TAKT_START(my->clients[my->i], client, .addr = &my->addr);
    for (my->i = 0; my->i < CLIENTS; my->i++)
        TAKT_JOIN(my->clients[my->i]);
    EXPECT_EQ(my->server.served, CLIENTS);
    takt_cancel(&my->server.frame);
    TAKT_END;
}

static void a_server_of_streams(void)
{
    static struct crowd crowd;
    for (int few = 0; few < 2; few++) {
        memset((void *)&crowd, 0, sizeof crowd);
        setup(few ? 4 : 200, few ? 64 : 512);
        EXPECT(TAKT_START_ON(&loop, crowd, crowd));
        finish(&crowd.frame);
    }
}

/* -- back-pressure ----------------------------------------------------------------- */

struct slow {
    takt_frame frame;
    int pair[2];
    int sent, got, most;
    bool leave; /* in: without having taken all */
    takt_stream bytes;
    takt_item item;
};

static TAKT_CORO(slow)
{
    TAKT_BEGIN(slow, my);
    pair_of(SOCK_SEQPACKET, my->pair);
    TAKT_DEFER
    {
        TAKT_AWAIT(takt_close(my->pair[0]));
        TAKT_AWAIT(takt_close(my->pair[1]));
    }
    TAKT_DEFER { takt_bufs_put(&pool, &my->item.data); }
    my->bytes.limit = 4;
    TAKT_OPEN(my->bytes, takt_recv_multishot(my->pair[0], &pool));
    while (send(my->pair[1], &my->sent, sizeof my->sent, MSG_DONTWAIT) > 0 && my->sent < 100)
        my->sent++;
    TAKT_AWAIT(takt_sleep(20 * test_slow() * TAKT_MS)); /* nothing is taken meanwhile */
    my->most = (int)pool.in_use;
    if (my->leave)
        TAKT_RETURN;
    while (my->got < my->sent) {
        TAKT_NEXT(my->item, my->bytes);
        EXPECT(my->item.data && memcmp(my->item.data, &my->got, sizeof my->got) == 0);
        takt_bufs_put(&pool, &my->item.data);
        my->got++;
    }
    TAKT_END;
}

static void who_does_not_take_gets_no_more(void)
{
    static struct slow slow;
    for (int leave = 0; leave < 2; leave++) {
        memset((void *)&slow, 0, sizeof slow);
        setup(128, 64);
        EXPECT(TAKT_START_ON(&loop, slow, slow, .leave = leave == 1));
        finish(&slow.frame);
        EXPECT(slow.sent >= 50);
        EXPECT(slow.most >= 4);
        EXPECT(slow.most < slow.sent); /* the request was stopped */
    }
}

/* -- datagrams ----------------------------------------------------------------------- */

struct datagrams {
    takt_frame frame;
    const char *at, *to, *hit; /* in */
    int server, client, n;
    takt_addr addr, own, expected;
    takt_udp options;
    takt_stream stream;
    takt_item item;
};

static const takt_datagram *datagram(const takt_item *item)
{
    return (const takt_datagram *)(const void *)item->data;
}

static TAKT_CORO(datagrams)
{
    TAKT_BEGIN(datagrams, my);
    TAKT_CHECK(takt_addr_parse(&my->addr, my->at));
    my->server = takt_udp_bind(&my->frame, &my->addr);
    if (my->server < 0)
        TAKT_RETURN; /* no IPv6 here */
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->server)); }
    my->options.local_address = true;
    my->options.ecn = true;
    my->options.gro = true;
    my->options.receive_buffer = 30000;
    EXPECT_EQ(takt_udp_options(&my->frame, my->server, &my->options), 0);
    EXPECT_EQ(takt_getsockopt(&my->frame, my->server, SOL_SOCKET, SO_RCVBUF, &my->n), 0);
    EXPECT_EQ(my->n, 60000); /* the kernel doubles it */
    TAKT_CHECK(takt_sockname(&my->frame, my->server, &my->own));
    {
        char text[64];
        snprintf(text, sizeof text, "%s:%d", my->to, takt_addr_port(&my->own));
        TAKT_CHECK(takt_addr_parse(&my->own, text));
        snprintf(text, sizeof text, "%s:0", my->to);
        TAKT_CHECK(takt_addr_parse(&my->addr, text));
        snprintf(text, sizeof text, "%s:0", my->hit);
        TAKT_CHECK(takt_addr_parse(&my->expected, text));
    }
    TAKT_CHECK(my->client = takt_udp_bind(&my->frame, &my->addr));
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->client)); }
    if (my->to[0] == '[')
        EXPECT_EQ(takt_setsockopt(&my->frame, my->client, IPPROTO_IPV6, IPV6_TCLASS, 1), 0);
    else
        EXPECT_EQ(takt_setsockopt(&my->frame, my->client, IPPROTO_IP, IP_TOS, 1), 0);
    TAKT_OPEN(my->stream, takt_recvmsg_multishot(my->server, &pool));
    TAKT_DEFER { takt_bufs_put(&pool, &my->item.data); }
    TAKT_AWAIT(takt_sendto(my->client, "datagram", 8, &my->own));
    TAKT_NEXT(my->item, my->stream);
    EXPECT_EQ(my->item.value, 8);
    EXPECT(memcmp(datagram(&my->item)->data, "datagram", 8) == 0);
    EXPECT_EQ(datagram(&my->item)->ecn, 1);
    EXPECT(takt_addr_equal(&datagram(&my->item)->to, &my->expected));
    /* and the way back works */
    TAKT_AWAIT(takt_sendto(my->server, "answer", 6, &datagram(&my->item)->from));
    {
        static char answer[8];
        TAKT_AWAIT(my->n, takt_recv(my->client, answer, sizeof answer));
        EXPECT_EQ(my->n, 6);
    }
    TAKT_END;
}

static void datagrams_say_where_they_were_sent_to(void)
{
    static const char *const places[][3] = {
        {"127.0.0.1:0", "127.0.0.1", "127.0.0.1"},
        {":0", "127.0.0.1", "127.0.0.1"},
        {"[::1]:0", "[::1]", "[::1]"},
        {"[::]:0", "127.0.0.1", "[::ffff:127.0.0.1]"},
    };
    static struct datagrams datagrams;
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        memset((void *)&datagrams, 0, sizeof datagrams);
        setup(8, 2048);
        EXPECT(TAKT_START_ON(&loop, datagrams, datagrams, .at = places[i][0], .to = places[i][1],
                             .hit = places[i][2]));
        finish(&datagrams.frame);
    }
}

/* -- on every backend ------------------------------------------------------------------ */

static const struct {
    const char *name;
    takt_uring_mode mode;
    bool poll_instead;
    uint32_t disable;
} modes[] = {
    {"epoll", TAKT_URING_NEVER, false, 0},
    {"poll", TAKT_URING_NEVER, true, 0},
    {"uring", TAKT_URING_ONLY, false, 0},
    {"no_buffer_ring", TAKT_URING_ONLY, false, TAKT_URING_NO_BUFFER_RING},
    {"no_multishot", TAKT_URING_ONLY, false, TAKT_URING_NO_MULTISHOT},
    {"neither", TAKT_URING_ONLY, false, TAKT_URING_NO_MULTISHOT | TAKT_URING_NO_BUFFER_RING},
};

/* What a mode asks for. */
static int enter(size_t m)
{
    wanted = net_defaults();
    wanted.backend.mode = modes[m].mode;
    wanted.backend.posix.poll_instead = modes[m].poll_instead;
    wanted.backend.disable = modes[m].disable;
    wanted.loop.strands = 2 * CLIENTS + 20; /* children, and their streams */
    TAKT_POOL(wanted, served, CLIENTS, .strands = 2);
    return 1;
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        TEST(a_server_of_streams),
        TEST(who_does_not_take_gets_no_more),
        TEST(datagrams_say_where_they_were_sent_to),
    };
    return RUN_MODES(argc, argv, tests, modes, enter);
}

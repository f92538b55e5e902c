/*
 * net.c - addresses
 */
#define TAKT_IMPLEMENTATION
#include "../takt.h"

#include "test.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Parsed and formatted, `text` becomes `again`. */
static void expect_round(const char *text, const char *again, int port)
{
    takt_addr addr, second;
    char out[TAKT_ADDR_TEXT];
    EXPECT_EQ(takt_addr_parse(&addr, text), 0);
    EXPECT(takt_addr_format(&addr, out, sizeof out) == out);
    if (strcmp(out, again) != 0)
        printf("%s became %s\n", text, out);
    EXPECT(strcmp(out, again) == 0);
    EXPECT_EQ(takt_addr_port(&addr), port);
    EXPECT_EQ(takt_addr_parse(&second, out), 0);
    EXPECT(takt_addr_equal(&addr, &second));
    EXPECT_EQ(addr.len, second.len);
}

static void what_is_written_is_read_again(void)
{
    expect_round("127.0.0.1:80", "127.0.0.1:80", 80);
    expect_round("255.255.255.255:65535", "255.255.255.255:65535", 65535);
    expect_round(":0", "0.0.0.0:0", 0);
    expect_round(":8080", "0.0.0.0:8080", 8080);
    expect_round("[::1]:80", "[::1]:80", 80);
    expect_round("[::]:0", "[::]:0", 0);
    expect_round("[2001:DB8:0:0:0:0:0:1]:443", "[2001:db8::1]:443", 443);
    expect_round("[::ffff:1.2.3.4]:5", "[::ffff:1.2.3.4]:5", 5);
    expect_round("[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:65535",
                 "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", 65535);
    expect_round("unix:/tmp/socket", "unix:/tmp/socket", 0);
    expect_round("unix:relative:with:colons", "unix:relative:with:colons", 0);
}

static void what_is_no_address_is_refused(void)
{
    static const char *const bad[] = {
        "", ":", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:-1", "127.0.0.1:65536",
        "127.0.0.1:99999999999999999999", "127.0.0.1:80 ", " 127.0.0.1:80", "127.0.0.1:+80",
        "127.0.0.1:0x50", "256.0.0.1:80", "1.2.3:80", "localhost:80", "::1:80", "[::1]",
        "[::1]80", "[::1:80", "::1]:80", "[]:80", "[127.0.0.1]:80", "[::1]]:80", "[[::1]]:80",
        "[fe80::1%eth0]:80", "unix:", "[::1]:80:90",
        "1111111111222222222233333333334444444444555555555566666666667777777777:80"};
    takt_addr addr;
    char text[TAKT_ADDR_TEXT];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        memset(&addr, 0xff, sizeof addr);
        if (takt_addr_parse(&addr, bad[i]) != -EINVAL)
            printf("accepted: \"%s\"\n", bad[i]);
        EXPECT_EQ(takt_addr_parse(&addr, bad[i]), -EINVAL);
        EXPECT_EQ(addr.len, 0); /* none, and not what stood there before */
        EXPECT_EQ(takt_addr_port(&addr), 0);
        EXPECT(takt_addr_format(&addr, text, sizeof text) == text && *text);
    }
}

static void a_path_may_be_as_long_as_the_system_takes(void)
{
    struct sockaddr_un un;
    char text[5 + sizeof un.sun_path + 1], out[TAKT_ADDR_TEXT];
    takt_addr addr;
    memset(text, 'p', sizeof text);
    memcpy(text, "unix:", 5);
    text[5 + sizeof un.sun_path - 1] = '\0';
    EXPECT_EQ(takt_addr_parse(&addr, text), 0);
    EXPECT(strcmp(takt_addr_format(&addr, out, sizeof out), text) == 0);
    text[5 + sizeof un.sun_path - 1] = 'p';
    text[5 + sizeof un.sun_path] = '\0';
    EXPECT_EQ(takt_addr_parse(&addr, text), -EINVAL);
}

static void addresses_are_equal_if_they_name_the_same(void)
{
    static const char *const all[] = {"1.2.3.4:80", "1.2.3.4:81", "1.2.3.5:80", "[::1]:80",
                                      "[::1]:81",   "[::2]:80",   "unix:/a",    "unix:/ab"};
    const uint64_t key[2] = {1, 2}, other[2] = {1, 3};
    const size_t count = sizeof all / sizeof all[0];
    takt_addr a, b;
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < count; k++) {
            EXPECT_EQ(takt_addr_parse(&a, all[i]), 0);
            EXPECT_EQ(takt_addr_parse(&b, all[k]), 0);
            EXPECT_EQ(takt_addr_equal(&a, &b), i == k);
            EXPECT_EQ(takt_addr_hash(&a, key) == takt_addr_hash(&b, key), i == k);
        }
    EXPECT_EQ(takt_addr_parse(&a, "1.2.3.4:80"), 0);
    memset(&b, 0xff, sizeof b);
    b.len = a.len; /* what the kernel leaves around the address does not count */
    memcpy(&b.sockaddr, &a.sockaddr, 8);
    EXPECT(takt_addr_equal(&a, &b));
    EXPECT(takt_addr_hash(&a, key) == takt_addr_hash(&b, key));
    EXPECT(takt_addr_hash(&a, key) != takt_addr_hash(&b, other));
    EXPECT_EQ(takt_addr_parse(&a, "[::1]:80"), 0);
    b = a;
    b.sockaddr.bytes[offsetof(struct sockaddr_in6, sin6_flowinfo)] = 1; /* no part of a name */
    EXPECT(takt_addr_equal(&a, &b));
    EXPECT(takt_addr_hash(&a, key) == takt_addr_hash(&b, key));
    b.len = sizeof b.sockaddr; /* as of a struct sockaddr_storage */
    EXPECT(takt_addr_equal(&a, &b));
    EXPECT(takt_addr_hash(&a, key) == takt_addr_hash(&b, key));
    memset(&a, 0, sizeof a);
    memset(&b, 0, sizeof b);
    EXPECT(takt_addr_equal(&a, &b)); /* none and none */
}

/* The vectors of SipHash-2-4, by way of a family that there is not: all bytes count. */
static void the_hash_is_siphash(void)
{
    static const struct {
        uint32_t len;
        uint64_t hash;
    } known[] = {{0, 0x726fdb47dd0e0e31}, {8, 0x93f5f5799a932462}, {15, 0xa129ca6149be45e5},
                 {16, 0x3f2acc7f57c29bdb}, {63, 0x958a324ceb064572}};
    const uint64_t key[2] = {0x0706050403020100, 0x0f0e0d0c0b0a0908};
    takt_addr addr;
    memset(&addr, 0, sizeof addr);
    for (unsigned char i = 0; i < 63; i++)
        addr.sockaddr.bytes[i] = i;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        addr.len = known[i].len;
        EXPECT(takt_addr_hash(&addr, key) == known[i].hash);
    }
}

static void a_short_text_is_cut_and_closed(void)
{
    takt_addr addr;
    char text[8] = "#######";
    EXPECT_EQ(takt_addr_parse(&addr, "127.0.0.1:80"), 0);
    takt_addr_format(&addr, text, 5);
    EXPECT(strcmp(text, "127.") == 0);
    EXPECT_EQ(text[5], '#');
    takt_addr_format(&addr, text, 1);
    EXPECT_EQ(text[0], '\0');
    text[0] = '#';
    takt_addr_format(&addr, text, 0);
    EXPECT_EQ(text[0], '#');
}

/* -- the calls, on a loop -------------------------------------------------------- */

TAKT_LOOP(net, takt_posix);

struct caller {
    takt_frame frame;
    int fd, value;
    takt_addr addr, name;
    takt_tcp tcp;
};

static TAKT_CORO(caller)
{
    TAKT_BEGIN(caller, my);
    TAKT_CHECK(takt_addr_parse(&my->addr, "127.0.0.1:0"));
    my->fd = takt_listen(&my->frame, &my->addr, 5);
    TAKT_CHECK(my->fd);
    EXPECT_EQ(takt_sockname(&my->frame, my->fd, &my->name), 0);
    EXPECT_EQ(my->name.len, my->addr.len);
    EXPECT(takt_addr_port(&my->name) > 0);
    EXPECT_EQ(takt_peername(&my->frame, my->fd, &my->addr), -ENOTCONN);
    EXPECT_EQ(takt_listen(&my->frame, &my->name, 5), -EADDRINUSE);
    EXPECT_EQ(takt_getsockopt(&my->frame, my->fd, SOL_SOCKET, SO_REUSEADDR, &my->value), 0);
    EXPECT_EQ(my->value, 1);
    my->tcp.nodelay = true;
    my->tcp.keepalive = 1500 * TAKT_MS; /* two whole seconds */
    my->tcp.user_timeout = 2 * TAKT_SEC;
    my->tcp.receive_buffer = 20000;
    EXPECT_EQ(takt_tcp_options(&my->frame, my->fd, &my->tcp), 0);
    EXPECT_EQ(takt_getsockopt(&my->frame, my->fd, IPPROTO_TCP, TCP_NODELAY, &my->value), 0);
    EXPECT_EQ(my->value, 1);
    EXPECT_EQ(takt_getsockopt(&my->frame, my->fd, IPPROTO_TCP, TCP_KEEPIDLE, &my->value), 0);
    EXPECT_EQ(my->value, 2);
    EXPECT_EQ(takt_getsockopt(&my->frame, my->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &my->value), 0);
    EXPECT_EQ(my->value, 2000);
    EXPECT_EQ(takt_getsockopt(&my->frame, my->fd, SOL_SOCKET, SO_RCVBUF, &my->value), 0);
    EXPECT_EQ(my->value, 40000); /* the kernel doubles it */
    TAKT_AWAIT(takt_close(my->fd));
    EXPECT_EQ(takt_setsockopt(&my->frame, my->fd, SOL_SOCKET, SO_REUSEADDR, 1), -EBADF);
    EXPECT_EQ(takt_sockname(&my->frame, my->fd, &my->addr), -EBADF);
    EXPECT_EQ(takt_socket(&my->frame, -1, SOCK_STREAM, 0), -EAFNOSUPPORT);
    memset(&my->addr, 0, sizeof my->addr);
    EXPECT(takt_listen(&my->frame, &my->addr, 5) < 0); /* no address at all */
    TAKT_END;
}

static void calls_answer_at_once_and_with_the_error(void)
{
    static net loop;
    static struct caller caller;
    const net_config config = net_defaults();
    EXPECT_EQ(net_init(&loop, &config), 0);
    EXPECT(TAKT_START_ON(&loop, caller, caller));
    EXPECT_EQ(net_run(&loop), 0);
    EXPECT_EQ(loop.sched.strands_used, 0);
    EXPECT_EQ(net_free(&loop), 0);
}

/* -- sockets with a path ------------------------------------------------------------ */

struct pathed {
    takt_frame frame;
    int first, second, value;
    takt_addr addr, name;
};

static TAKT_CORO(pathed)
{
    TAKT_BEGIN(pathed, my);
    char text[64];
    snprintf(text, sizeof text, "unix:/tmp/takt-net-%d", (int)getpid());
    EXPECT_EQ(takt_addr_parse(&my->addr, text), 0);
    my->first = takt_listen(&my->frame, &my->addr, 0);
    TAKT_CHECK(my->first);
    EXPECT_EQ(takt_sockname(&my->frame, my->first, &my->name), 0);
    EXPECT_EQ(my->name.len, my->addr.len); /* not the room that there was for it */
    EXPECT(takt_addr_equal(&my->name, &my->addr));
    EXPECT_EQ(takt_listen(&my->frame, &my->addr, 0), -EADDRINUSE); /* it is alive */
    TAKT_AWAIT(takt_close(my->first));
    my->first = takt_listen(&my->frame, &my->addr, 0); /* a dead one is replaced */
    EXPECT(my->first >= 0);
    TAKT_AWAIT(takt_close(my->first));
    unlink(((struct sockaddr_un *)(void *)&my->addr.sockaddr)->sun_path);
    TAKT_END;
}

static void the_file_of_a_dead_socket_is_replaced(void)
{
    static net loop;
    static struct pathed pathed;
    const net_config config = net_defaults();
    EXPECT_EQ(net_init(&loop, &config), 0);
    EXPECT(TAKT_START_ON(&loop, pathed, pathed));
    EXPECT_EQ(net_run(&loop), 0);
    EXPECT_EQ(net_free(&loop), 0);
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        TEST(what_is_written_is_read_again),
        TEST(what_is_no_address_is_refused),
        TEST(a_path_may_be_as_long_as_the_system_takes),
        TEST(addresses_are_equal_if_they_name_the_same),
        TEST(the_hash_is_siphash),
        TEST(a_short_text_is_cut_and_closed),
        TEST(calls_answer_at_once_and_with_the_error),
        TEST(the_file_of_a_dead_socket_is_replaced),
    };
    return RUN_TESTS(argc, argv, tests);
}

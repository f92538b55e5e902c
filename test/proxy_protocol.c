/*
 * proxy_protocol.c - headers of proxies, as examples/proxy_protocol.h reads and writes them
 */
#define TAKT_IMPLEMENTATION
#include "../examples/proxy_protocol.h"

#include "test.h"

/* The answer to `size` bytes, from a copy of exactly that size, so that a sanitizer sees whoever
 * reads beyond. What is named is left in from and to. */
static takt_addr from, to, nobody;

static int reads(const void *data, size_t size, bool udp)
{
    unsigned char *const copy = (unsigned char *)malloc(size + !size);
    int n;
    memcpy(copy, data, size);
    from = to = nobody;
    n = proxy_read(copy, size, udp, &from, &to);
    free(copy);
    return n;
}

static takt_addr make(const char *host, int port)
{
    char text[64];
    takt_addr addr;
    snprintf(text, sizeof text, strchr(host, ':') ? "[%s]:%d" : "%s:%d", host, port);
    EXPECT_EQ(takt_addr_parse(&addr, text), 0);
    return addr;
}

static bool is(const takt_addr *addr, const char *host, int port)
{
    const takt_addr other = make(host, port);
    return takt_addr_equal(addr, &other) && addr->len == other.len;
}

static bool named_nobody(void)
{
    return memcmp(&from, &nobody, sizeof from) == 0 && memcmp(&to, &nobody, sizeof to) == 0;
}

/* Whatever is cut off, it is not complete, never something else, and names nobody. */
static void expect_whole_only(const void *data, size_t size, bool udp)
{
    for (size_t n = 0; n < size; n++) {
        EXPECT_EQ(reads(data, n, udp), 0);
        EXPECT(named_nobody());
    }
}

/* S15 */
static void a_line_is_read(void)
{
    static const struct {
        const char *line, *from, *to;
        int from_port, to_port;
    } good[] = {
        {"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n", "1.2.3.4", "5.6.7.8", 9, 10},
        {"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255",
         "255.255.255.255", 65535, 65535},
        {"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", "0.0.0.0", "0.0.0.0", 0, 0},
        {"PROXY TCP6 ::1 2001:DB8::2 1 2\r\n", "::1", "2001:db8::2", 1, 2},
        {"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
         "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
         "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
         65535, 65535},
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        const size_t size = strlen(good[i].line);
        char longer[200];
        expect_whole_only(good[i].line, size, false);
        EXPECT_EQ(reads(good[i].line, size, false), size);
        EXPECT(is(&from, good[i].from, good[i].from_port));
        EXPECT(is(&to, good[i].to, good[i].to_port));
        snprintf(longer, sizeof longer, "%sGET / HTTP/1.0\r\n", good[i].line);
        EXPECT_EQ(reads(longer, strlen(longer), false), size);
        EXPECT_EQ(reads(good[i].line, size, true), -1); /* not of UDP */
    }
}

/* S15 */
static void a_line_that_names_nobody_is_read(void)
{
    char most[107 + 2] = "PROXY UNKNOWN ";
    EXPECT_EQ(PROXY_LINE_MAX, 107);
    EXPECT_EQ(reads("PROXY UNKNOWN\r\n", 15, false), 15);
    EXPECT(named_nobody());
    EXPECT_EQ(reads("PROXY UNKNOWN \xff\0 what ever\r\n", 28, false), 28);
    EXPECT(named_nobody());
    memset(most + 14, 'f', sizeof most - 14);
    memcpy(most + PROXY_LINE_MAX - 2, "\r\n", 2);
    EXPECT_EQ(reads(most, PROXY_LINE_MAX, false), PROXY_LINE_MAX);
    memcpy(most + PROXY_LINE_MAX - 2, "f\r\n", 3);
    EXPECT_EQ(reads(most, PROXY_LINE_MAX - 1, false), 0);
    EXPECT_EQ(reads(most, PROXY_LINE_MAX, false), -1); /* one byte too long */
    EXPECT_EQ(reads(most, PROXY_LINE_MAX + 1, false), -1);
}

/* S15 */
static void a_line_that_is_not_exact_is_none(void)
{
    static const char *const bad[] = {
        "GET / HTTP/1.0\r\n", "PROXYTCP4 1.2.3.4 5.6.7.8 9 10\r\n", "proxy UNKNOWN\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 9 10\n", "PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\r\n",
        "PROXY TCP4  1.2.3.4 5.6.7.8 9 10\r\n", "PROXY TCP4 1.2.3.4 5.6.7.8 9  10\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 9 10 \r\n", "PROXY TCP4 1.2.3.4 5.6.7.8 9\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 9 10 11\r\n", "PROXY TCP4 1.2.3.4 5.6.7.8 65536 10\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 9 99999\r\n", "PROXY TCP4 1.2.3.4 5.6.7.8 09 10\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 00 10\r\n", "PROXY TCP4 1.2.3.4 5.6.7.8 -9 10\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 +9 10\r\n", "PROXY TCP4 1.2.3.4 5.6.7.8 0x9 10\r\n",
        "PROXY TCP4 01.2.3.4 5.6.7.8 9 10\r\n", "PROXY TCP4 1.2.3 5.6.7.8 9 10\r\n",
        "PROXY TCP4 1.2.3.256 5.6.7.8 9 10\r\n", "PROXY TCP4 ::1 ::2 9 10\r\n",
        "PROXY TCP4 1.2.3.4 ::2 9 10\r\n", "PROXY TCP6 1.2.3.4 5.6.7.8 9 10\r\n",
        "PROXY TCP6 ::1 5.6.7.8 9 10\r\n", "PROXY TCP6 :::1 ::2 9 10\r\n",
        "PROXY TCP5 1.2.3.4 5.6.7.8 9 10\r\n", "PROXY UDP4 1.2.3.4 5.6.7.8 9 10\r\n",
        "PROXY\tTCP4 1.2.3.4 5.6.7.8 9 10\r\n", "PROXY TCP4\t1.2.3.4 5.6.7.8 9 10\r\n",
        "PROXY UNKNOWNX\r\n", "PROXY UNKNOW\r\n", "PROXY UNKNOWN\n", "PROXY UNKNOWN x\ny\r\n",
        "PROXY \r\n", "\r\r\n", "\n",
        "PROXY TCP6 1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa ::2 9 10\r\n"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (reads(bad[i], strlen(bad[i]), false) != -1)
            printf("accepted: \"%s\"\n", bad[i]);
        EXPECT_EQ(reads(bad[i], strlen(bad[i]), false), -1);
        EXPECT(named_nobody());
    }
    EXPECT_EQ(reads("PROXY UNKNOWN\0\r\n", 16, false), -1);
    EXPECT_EQ(reads("PROXY TCP4 1.2.3.4 5.6.7.8 9 10\0\r\n", 34, false), -1);
    EXPECT_EQ(reads("PROXY TCP4 1.2.3.4\0 5.6.7.8 9 10\r\n", 34, false), -1);
}

/* What version 2 makes of these: command, family and protocol, the length that it tells. */
static size_t binary(unsigned char *out, int command, int family, unsigned length)
{
    memcpy(out, proxy_signature, 12);
    out[12] = (unsigned char)command;
    out[13] = (unsigned char)family;
    out[14] = (unsigned char)(length >> 8);
    out[15] = (unsigned char)length;
    for (unsigned i = 0; i < length; i++)
        out[16 + i] = (unsigned char)i;
    return 16 + length;
}

/* S15 */
static void what_is_written_is_read(void)
{
    static const char *const hosts[][2] = {{"1.2.3.4", "5.6.7.8"}, {"::1", "2001:db8::2"},
                                           {"::ffff:1.2.3.4", "fe80::1"}};
    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++)
        for (int how = 0; how < 3; how++) {
            const bool udp = how == 2;
            const takt_addr a = make(hosts[i][0], 65535), b = make(hosts[i][1], 258);
            unsigned char out[PROXY_WRITE_MAX];
            const size_t n = proxy_write(out, how == 0 ? 1 : 2, udp, &a, &b);
            EXPECT(n <= PROXY_WRITE_MAX);
            expect_whole_only(out, n, udp);
            EXPECT_EQ(reads(out, n, udp), n);
            EXPECT(is(&from, hosts[i][0], 65535) && is(&to, hosts[i][1], 258));
            EXPECT_EQ(reads(out, n, !udp), how == 0 ? -1 : (int)n);
            EXPECT(named_nobody()); /* a datagram's header means nothing on a connection */
        }
}

/* S15 */
static void a_binary_header_has_its_limits(void)
{
    unsigned char out[16 + 65536];
    size_t n;
    for (int byte = 0; byte < 256; byte++) { /* version and command */
        n = binary(out, byte, 0x11, 12);
        EXPECT_EQ(reads(out, n, false), byte == 0x20 || byte == 0x21 ? (int)n : -1);
        EXPECT_EQ(reads(out, 13, false), byte == 0x20 || byte == 0x21 ? 0 : -1); /* soon */
    }
    for (int byte = 0; byte < 256; byte++) { /* family and protocol */
        n = binary(out, 0x21, byte, 216);
        EXPECT_EQ(reads(out, n, false), byte >> 4 <= 3 && (byte & 15) <= 2 ? (int)n : -1);
        EXPECT(named_nobody() != (byte == 0x11 || byte == 0x21));
        n = binary(out, 0x20, byte, 216); /* whatever a LOCAL one says does not matter */
        EXPECT_EQ(reads(out, n, false), n);
        EXPECT(named_nobody());
    }
    for (unsigned length = 0; length < 65536; length += length < 600 ? 1 : 997) {
        n = binary(out, 0x21, 0x11, length);
        EXPECT_EQ(reads(out, n, false), length >= 12 && n <= PROXY_READ_MAX ? (int)n : -1);
        n = binary(out, 0x21, 0x21, length);
        EXPECT_EQ(reads(out, n, false), length >= 36 && n <= PROXY_READ_MAX ? (int)n : -1);
        EXPECT_EQ(reads(out, 16, false), length < 36 || n > PROXY_READ_MAX ? -1 : 0);
        n = binary(out, 0x20, 0, length);
        EXPECT_EQ(reads(out, n, false), n <= PROXY_READ_MAX ? (int)n : -1);
    }
    binary(out, 0x21, 0x11, 65535);
    EXPECT_EQ(reads(out, sizeof out, false), -1);
}

/* S18: whatever comes, piece by piece: never beyond what is there, never longer than that, and
 * the same answer in whatever pieces. */
static void noise_is_read_without_harm(void)
{
    uint64_t seed = 88172645463325252u;
    unsigned long complete = 0, none = 0;
    for (int round = 0; round < 60000; round++) {
        unsigned char data[PROXY_READ_MAX + 64];
        size_t size = 0;
        const takt_addr a = make(round % 8 ? "1.2.3.4" : "1:2:3:4:5:6:7:8", (int)(seed % 65536));
        int n = 0, last;
        if (round % 4 == 0)
            size = proxy_write(data, 1, false, &a, &a);
        else if (round % 4 < 3)
            size = binary(data, 0x20 + round % 8 / 4, (int)(seed >> 30) & 0x33,
                          (unsigned)(seed >> 40) % (PROXY_READ_MAX + 8) % (1u << seed % 12));
        for (size_t i = size < sizeof data ? size : sizeof data; i < sizeof data; i++)
            data[i] = (unsigned char)((seed >> i % 50) * (i + 1));
        for (int changes = round % 3; changes > 0; changes--) {
            seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
            data[(seed >> 8) % (round % 2 ? 16 : 120)] = (unsigned char)(seed >> 3);
        }
        seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
        last = reads(data, sizeof data, round % 5 == 0);
        EXPECT(last != 0 && last <= PROXY_READ_MAX);
        for (size_t at = 1; at <= sizeof data && n == 0; at += 1 + seed % 7)
            n = reads(data, at, round % 5 == 0);
        EXPECT(n == last);
        complete += last > 0;
        none += last < 0;
    }
    EXPECT(complete > 5000 && none > 5000);
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        TEST(a_line_is_read),
        TEST(a_line_that_names_nobody_is_read),
        TEST(a_line_that_is_not_exact_is_none),
        TEST(what_is_written_is_read),
        TEST(a_binary_header_has_its_limits),
        TEST(noise_is_read_without_harm),
    };
    return RUN_TESTS(argc, argv, tests);
}

/*
 * alike.c - one program runs unchanged on every backend: the same ops end in the same way
 *
 * Each test does the same on io_uring, with and without its rungs, on epoll and on poll(2), by
 * single ops of a loop. What is told of how they ended is compared. The last one draws the ops.
 */
#define TAKT_IMPLEMENTATION
#include "../takt_uring.h"

#include "loopback.h"
#include "test.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

TAKT_LOOP(net, takt_uring);

enum { OPS = 16, PENDING = -99999 };

static net loop;
static net_config wanted;
static int64_t ends[OPS];
static char bytes[OPS][256], large[4 << 20];
static char story[4096]; /* how it went, here; */
static size_t told;

static void tell(const char *format, ...)
{
    va_list values;
    va_start(values, format);
    if (told < sizeof story)
        told += (size_t)vsnprintf(story + told, sizeof story - told, format, values);
    va_end(values);
}

static void ended(void *user, int64_t result)
{
    *(int64_t *)user = result;
}

static void begin(int i, takt_op op)
{
    ends[i] = PENDING;
    EXPECT(net_submit_op(&loop, op, ended, &ends[i]));
}

static void turn(takt_ns wait)
{
    EXPECT(net_turn(&loop, wait, 0) >= 0);
}

/* A few turns: what can happen at once has happened. */
static void settle(void)
{
    for (int i = 0; i < 3; i++)
        turn(TAKT_MS);
}

/* What became of op `i`; it has some time for that. */
static int64_t end_of(int i)
{
    for (int n = 0; n < 300 && ends[i] == PENDING; n++)
        turn(TAKT_MS);
    return ends[i];
}

static int64_t now(int i, takt_op op)
{
    begin(i, op);
    return end_of(i);
}

/* Both are told when a connection breaks, by one error or the other. */
static const char *broken(int64_t result)
{
    return result == -EPIPE || result == -ECONNRESET ? "broken" : result < 0 ? "?" : "fine";
}

static void setup(void)
{
    net_config config = wanted;
    TAKT_POOL(config, takt_request, OPS);
    EXPECT_EQ(net_init(&loop, &config), 0);
}

static void finish(void)
{
    net_stop(&loop, 0);
    EXPECT_EQ(net_run(&loop), 0);
    EXPECT_EQ(net_free(&loop), 0);
}

static void connected(int *pair)
{
    loopback(&pair[0], &pair[1], 0);
}

static void say(int fd, const char *text)
{
    EXPECT_EQ(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static void shut(int fd)
{
    EXPECT_EQ(now(OPS - 1, takt_close(fd)), 0);
}

static void look(void)
{
    int pair[2];
    connected(pair);
    begin(0, takt_recv(pair[0], bytes[0], 10));
    settle();
    say(pair[1], "hello");
    tell("%d", (int)end_of(0));
    say(pair[1], "world");
    settle();
    tell(" %d", (int)now(0, takt_recv_flags(pair[0], bytes[0], 100, MSG_PEEK)));
    tell(" %d", (int)now(0, takt_recv_flags(pair[0], bytes[0], 100, MSG_PEEK)));
    tell(" %d", (int)now(0, takt_recv(pair[0], bytes[0], 100)));
    shut(pair[0]);
    close(pair[1]);
}

static void be_reset(void)
{
    int pair[2];
    for (int how = 0; how < 5; how++) {
        connected(pair);
        if (how == 4)
            begin(0, takt_recv_all(pair[0], bytes[0], 10));
        else if (how != 2)
            begin(0, takt_recv(pair[0], bytes[0], 10));
        if (how == 4)
            say(pair[1], "some");
        if (how > 0 && how < 3)
            begin(1, takt_send(pair[0], large, sizeof large));
        settle();
        reset(pair[1]);
        if (how == 3)
            begin(1, takt_send(pair[0], large, 1));
        if (how > 0 && how < 4)
            tell("send %s ", broken(end_of(1)));
        if (how == 2)
            begin(0, takt_recv(pair[0], bytes[0], 10));
        tell("recv %d", (int)end_of(0));
        tell(" %d, ", (int)now(0, takt_recv(pair[0], bytes[0], 10)));
        shut(pair[0]);
    }
}

static void be_ended(void)
{
    int pair[2];
    connected(pair);
    say(pair[1], "all");
    close(pair[1]);
    tell("recv %d", (int)now(0, takt_recv(pair[0], bytes[0], 10)));
    tell(" send %d", (int)now(1, takt_send(pair[0], "abc", 3)));
    poll(NULL, 0, 5);
    tell(" %d", (int)now(1, takt_send(pair[0], "abc", 3)));
    tell(" recv %d", (int)now(0, takt_recv(pair[0], bytes[0], 10)));
    shut(pair[0]);
    connected(pair); /* one that has been left by both sides, in order */
    begin(0, takt_recv(pair[0], bytes[0], 10));
    tell(", shutdown %d", (int)now(1, takt_shutdown(pair[0], TAKT_SHUT_WRITE)));
    settle();
    close(pair[1]);
    tell(" recv %d", (int)end_of(0));
    tell(" %d", (int)now(0, takt_recv(pair[0], bytes[0], 10)));
    shut(pair[0]);
    connected(pair); /* the same, in the middle of something */
    begin(0, takt_recv_all(pair[0], bytes[0], 10));
    say(pair[1], "some");
    now(1, takt_shutdown(pair[0], TAKT_SHUT_WRITE));
    settle();
    close(pair[1]);
    tell(", %d", (int)end_of(0));
    tell(" %d", (int)now(0, takt_recv(pair[0], bytes[0], 10)));
    shut(pair[0]);
}

static void close_behind(void)
{
    for (int many = 0; many < 2; many++) {
        int pair[2], again[2], fd;
        EXPECT_EQ(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair), 0);
        fd = pair[0];
        begin(0, takt_ready(fd, TAKT_READABLE));
        settle();
        say(pair[1], "x");
        tell("%d", (int)end_of(0));
        close(fd);
        close(pair[1]);
        EXPECT_EQ(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, again), 0);
        EXPECT_EQ(again[0], fd);
        begin(0, takt_ready(fd, TAKT_READABLE));
        settle();
        tell("%s", ends[0] == PENDING ? "" : "!");
        say(again[1], "y");
        tell(" %d ", (int)end_of(0));
        close(fd);
        close(again[1]);
    }
}

static void shut_reading(void)
{
    for (int how = 0; how < 4; how++) {
        int pair[2];
        takt_op it = how % 2 ? takt_recv(0, bytes[0], 10) : takt_recvfrom(0, bytes[0], 10, NULL);
        EXPECT_EQ(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair), 0);
        it.fd = pair[0];
        if (how < 2) {
            say(pair[1], "some");
        } else {
            begin(0, it);
            settle();
        }
        EXPECT_EQ(now(1, takt_shutdown(pair[0], TAKT_SHUT_READ)), 0);
        if (how < 2)
            begin(0, it);
        tell("%d", (int)end_of(0));
        tell(" %d, ", (int)now(0, it));
        shut(pair[0]);
        close(pair[1]);
    }
}

static void ask_for_nonsense(void)
{
    const int none = 200;
    int pipes[2];
    EXPECT_EQ(pipe2(pipes, O_NONBLOCK | O_CLOEXEC), 0);
    tell("ready %d", (int)now(0, takt_ready(none, TAKT_READABLE)));
    tell(" recv %d", (int)now(0, takt_recv(none, bytes[0], 1)));
    tell(" accept %d", (int)now(0, takt_accept(none, NULL)));
    tell(" close %d", (int)now(0, takt_close(none)));
    for (int fd = -1; fd <= none; fd += none + 1)
        tell(", of none %d %d %d %d", (int)now(0, takt_recv(fd, bytes[0], 0)),
             (int)now(0, takt_send(fd, bytes[0], 0)), (int)now(0, takt_read(fd, bytes[0], 0, 0)),
             (int)now(0, takt_write(fd, bytes[0], 0, 0)));
    EXPECT_EQ(write(pipes[1], "xyz", 3), 3);
    tell(", pipe %d", (int)now(0, takt_read(pipes[0], bytes[0], 2, 0)));
    tell(" %d", (int)now(0, takt_read(pipes[0], bytes[0], 2, 100)));
    tell(" %d", (int)now(0, takt_write(pipes[1], bytes[0], 2, 100)));
    tell(" recv %d", (int)now(0, takt_recv(pipes[0], bytes[0], 2)));
    tell(" send %d", (int)now(0, takt_send(pipes[1], bytes[0], 2)));
    shut(pipes[0]);
    shut(pipes[1]);
}

/* -- drawn by lot ---------------------------------------------------------------------- */

enum { PAIRS = 4, EACH = 3, STEPS = 80 }; /* EACH: ops of a pair under way, or one too many */

struct one {
    takt_frame frame;
    takt_op op; /* in */
    int64_t n;
};

static TAKT_CORO(one)
{
    TAKT_BEGIN(one, my);
    TAKT_TRY_AWAIT(my->n, my->op);
    TAKT_END;
}

static struct side {
    int fd, peer; /* ours and the other's; -1: closed */
    int kind;     /* 0: TCP, 1: Unix stream, 2: UDP, 3: Unix datagrams */
    unsigned char sent;
    struct one ones[EACH];
    char what[EACH]; /* 0: none */
    unsigned char in[EACH][64];
    takt_packet packets[2];
    takt_addr from;
} sides[PAIRS];

static uint64_t lot;
static takt_ns patience;

static int draw(int count)
{
    lot = lot * 6364136223846793005u + 1442695040888963407u;
    return (int)((lot >> 33) % (unsigned)count);
}

static void open_pair(struct side *s, int kind)
{
    int pair[2];
    memset((void *)s, 0, sizeof *s);
    s->kind = kind;
    if (kind == 0) {
        connected(pair);
    } else if (kind == 2) {
        struct sockaddr_in at[2];
        socklen_t len = sizeof at[0];
        memset(at, 0, sizeof at);
        for (int i = 0; i < 2; i++) {
            pair[i] = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
            at[i].sin_family = AF_INET;
            at[i].sin_addr.s_addr = htonl(INADDR_LOOPBACK);
            EXPECT_EQ(bind(pair[i], (struct sockaddr *)&at[i], len), 0);
            EXPECT_EQ(getsockname(pair[i], (struct sockaddr *)&at[i], &len), 0);
        }
        for (int i = 0; i < 2; i++)
            EXPECT_EQ(connect(pair[i], (struct sockaddr *)&at[1 - i], len), 0);
    } else {
        EXPECT_EQ(socketpair(AF_UNIX, (kind == 1 ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK |
                                          SOCK_CLOEXEC, 0, pair), 0);
    }
    s->fd = pair[0];
    s->peer = pair[1];
}

/* Turns until nothing more happens, and tells what has ended. */
static void happen(void)
{
    for (int calm = 0; calm < 2;) {
        const int did = net_turn(&loop, patience, 0);
        EXPECT(did >= 0);
        calm = did == 0 ? calm + 1 : 0;
    }
    for (int p = 0; p < PAIRS; p++) {
        for (int i = 0; i < EACH; i++) {
            struct side *const s = &sides[p];
            struct one *const it = &s->ones[i];
            int64_t n;
            int sum = 0;
            if (!s->what[i] || takt_alive(&it->frame))
                continue;
            n = takt_error(&it->frame) < 0 ? takt_error(&it->frame) : it->n;
            for (int64_t k = 0; strchr("ropdv", s->what[i]) && k < n && k < 64; k++)
                sum = sum * 31 % 9973 + s->in[i][k];
            if (strchr("sbt", s->what[i]) && *broken(n) == 'b')
                tell(" %d%c:broken", p, s->what[i]);
            else
                tell(" %d%c:%d/%d", p, s->what[i], (int)n, sum);
            s->what[i] = 0;
        }
    }
}

static takt_op draw_op(struct side *s, int i, char *what)
{
    const bool datagrams = s->kind >= 2;
    unsigned char *const in = s->in[i];
    const size_t len = (size_t)draw(40) + 1;
    /* Of TCP: urgent data wakes who waits for readiness, or does not; and after a shutdown of
     * ours, what cuts a recv_all short may be told as the end. */
    *what = datagrams ? "rdRWtbrdzt"[draw(10)] : (s->kind ? "roprRWsssw" : "roprrWsssr")[draw(10)];
    switch (*what) {
    case 'o':
        return takt_recv_all(s->fd, in, len);
    case 'p':
        return takt_recv_flags(s->fd, in, len, MSG_PEEK);
    case 'd':
        return takt_recvfrom(s->fd, in, len, &s->from);
    case 'R':
        return takt_ready(s->fd, TAKT_READABLE);
    case 'W':
        return takt_ready(s->fd, TAKT_WRITABLE);
    case 's':
        return takt_send(s->fd, large, len);
    case 'w':
        return takt_shutdown(s->fd, TAKT_SHUT_WRITE);
    case 't':
        return takt_sendto(s->fd, large, len, NULL);
    case 'z':
        return takt_sendto(s->fd, large, 0, NULL);
    case 'b':
        s->packets[0].data = s->packets[1].data = large;
        s->packets[0].len = s->packets[1].len = (uint32_t)len;
        return takt_send_burst(s->fd, s->packets, 2);
    default:
        return takt_recv(s->fd, in, len);
    }
}

/* The other side does something. Empty datagrams are part of it. */
static void draw_peer(struct side *s)
{
    char out[200];
    const int what = draw(12);
    if (s->peer < 0)
        return;
    if (what < 5) {
        const int len = draw(s->kind >= 2 ? 60 : 100);
        for (int i = 0; i < len; i++)
            out[i] = (char)s->sent++;
        if (len || s->kind >= 2)
            (void)!send(s->peer, out, (size_t)len, MSG_NOSIGNAL | MSG_DONTWAIT);
    } else if (what < 9) {
        static char away[1 << 20];
        for (int calm = 0; calm < 4; calm++) {
            while (recv(s->peer, away, sizeof away, MSG_DONTWAIT) > 0)
                calm = 0;
            EXPECT(net_turn(&loop, patience, 0) >= 0);
        }
    } else if (what == 9 && s->kind == 0) {
        (void)!send(s->peer, "!", 1, MSG_OOB | MSG_NOSIGNAL);
    } else if (what == 10 && s->kind < 2) {
        shutdown(s->peer, SHUT_WR);
    } else if (what == 11 && draw(3) == 0) {
        if (s->kind == 0 && draw(2))
            reset(s->peer);
        else
            close(s->peer);
        s->peer = -1;
    }
}

static void close_side(struct side *s)
{
    static struct one last;
    EXPECT(TAKT_START_ON(&loop, last, one, .op = takt_close(s->fd)));
    happen();
    EXPECT_EQ(last.n, 0);
    for (int i = 0; i < EACH; i++)
        EXPECT(!s->what[i]);
    if (s->peer >= 0)
        close(s->peer);
}

static void step(void)
{
    struct side *const s = &sides[draw(PAIRS)];
    const int what = draw(20), i = draw(EACH);
    if (what < 10) {
        char kind;
        const takt_op op = draw_op(s, i, &kind);
        if (s->what[i])
            return;
        memset(s->in[i], 0, sizeof s->in[i]);
        EXPECT(TAKT_START_ON(&loop, s->ones[i], one, .op = op));
        s->what[i] = kind;
    } else if (what < 17) {
        draw_peer(s);
    } else if (what < 19) {
        if (s->what[i])
            takt_cancel(&s->ones[i].frame);
    } else {
        close_side(s);
        open_pair(s, draw(4));
    }
}

static void by_lot(uint64_t seed)
{
    lot = seed;
    for (int p = 0; p < PAIRS; p++)
        open_pair(&sides[p], p);
    for (int i = 0; i < STEPS; i++) {
        step();
        happen();
        tell(".");
    }
    for (int p = 0; p < PAIRS; p++)
        close_side(&sides[p]);
}

/* -- the ways there are ------------------------------------------------------------------ */

static const struct mode {
    const char *name;
    takt_uring_mode mode;
    bool poll;
    uint32_t disable;
} modes[] = {
    {"epoll", TAKT_URING_NEVER, false, 0},
    {"poll", TAKT_URING_NEVER, true, 0},
    {"uring", TAKT_URING_AUTO, false, 0},
    {"uring, at any time", TAKT_URING_AUTO, false,
     TAKT_URING_NO_DEFER_TASKRUN | TAKT_URING_NO_COOP_TASKRUN | TAKT_URING_NO_SINGLE_ISSUER},
    {"uring, old", TAKT_URING_AUTO, false,
     TAKT_URING_NO_WAITALL | TAKT_URING_NO_BUFFER_RING | TAKT_URING_NO_EXT_ARG},
};

enum { MODES = sizeof modes / sizeof modes[0] };

static void choose(const struct mode *mode)
{
    wanted = net_defaults();
    wanted.loop.strands = PAIRS * EACH + 4;
    wanted.backend.mode = mode->mode;
    wanted.backend.posix.poll_instead = mode->poll;
    wanted.backend.disable = mode->disable;
    told = 0;
    story[0] = '\0';
}

/* Runs one on every backend. `expected`: what each has to tell. */
static void everywhere(void (*run)(void), const char *expected)
{
    for (int m = 0; m < MODES; m++) {
        choose(&modes[m]);
        setup();
        run();
        finish();
        if (strcmp(story, expected) != 0) {
            printf("%s: expected \"%s\", got \"%s\"\n", modes[m].name, expected, story);
            test_failures++;
        }
    }
}

/* What was only looked at is still there: also where an op has already waited. */
static void a_look_takes_nothing(void)
{
    everywhere(look, "5 5 5 5");
}

/* F4: whoever reads learns that the connection is broken, and not that it has ended; also when
 * a send was the first to learn of it, and however often it is asked. */
static void a_reset_is_never_an_end(void)
{
    everywhere(be_reset, "recv -104 -104, send broken recv -104 -104, send broken recv -104 -104, "
               "send broken recv -104 -104, recv -104 -104, ");
}

/* F5: but what did end has ended, whoever still sends into it */
static void an_end_is_never_a_reset(void)
{
    everywhere(be_ended, "recv 3 send 3 -32 recv 0, shutdown 0 recv 0 0, -20012 0");
}

/* I16: a descriptor of a library's that closes it by itself, and opens the next one of its
 * number, is waited for anew */
static void what_a_library_closes_may_be_waited_for(void)
{
    everywhere(close_behind, "1 1 1 1 ");
}

/* Where there will be no datagrams any more, what had come is first, and then the end. */
static void no_more_datagrams_come(void)
{
    everywhere(shut_reading, "4 0, 4 0, 0 0, 0 0, ");
}

/* What is no descriptor, no socket, or has no position */
static void what_is_not_right(void)
{
    everywhere(ask_for_nonsense,
               "ready -9 recv -9 accept -9 close -9, of none -9 -9 -9 -9, of none 0 0 0 0, "
               "pipe 2 1 2 recv -88 send -88");
}

/* The same lots on all: what one tells all tell. A machine that is busy may be slow to deliver:
 * then they are given more time. */
static void whatever_is_drawn_ends_alike(void)
{
    static char first[sizeof story];
    const char *const count = getenv("ALIKE");
    const uint64_t lots = count ? strtoull(count, NULL, 10) : 6;
    for (uint64_t seed = 1; seed <= lots; seed++) {
        for (int m = 0, slow = 0; m < MODES; m++) {
            choose(&modes[m]);
            patience = slow ? 10 * TAKT_MS : 100 * TAKT_US;
            setup();
            by_lot(seed);
            finish();
            if (m == 0) {
                strcpy(first, story);
            } else if (strcmp(story, first) != 0 && !slow++) {
                m = -1;
            } else if (strcmp(story, first) != 0) {
                printf("lot %d: %s: %s\n  %s: %s\n", (int)seed, modes[0].name, first,
                       modes[m].name, story);
                test_failures++;
                break;
            }
        }
    }
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        TEST(a_look_takes_nothing),
        TEST(a_reset_is_never_an_end),
        TEST(an_end_is_never_a_reset),
        TEST(what_a_library_closes_may_be_waited_for),
        TEST(no_more_datagrams_come),
        TEST(what_is_not_right),
        TEST(whatever_is_drawn_ends_alike),
    };
    return RUN_TESTS(argc, argv, tests);
}

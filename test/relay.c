/*
 * relay.c - takt_splice and takt_relay on every real backend: epoll, poll, io_uring, io_uring
 * refused; and where there are no pipes
 *
 *     relay [MODE] [NAME...]        SEED in the environment repeats a run
 *
 * The far ends of the connections are plain sockets, which the test serves between two turns.
 * Every byte that passes is compared: each stream has contents of its own, so that bytes of
 * another, or from another place, are seen.
 */
#include <stdint.h>
static int64_t test_clock(void);
#define TAKT_CLOCK() test_clock()
#define TAKT_IMPLEMENTATION
#include "../takt_uring.h"

#include "refuse.h"
#include "test.h"

#include <dirent.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

TAKT_LOOP(net, takt_uring);

static net loop;
static net_config wanted;
static takt_bufs pool;
static int open_before;
static bool pipes_there; /* in this mode */
static uint64_t seed;
static takt_ns skipped; /* the test's clock is ahead by that */

static int64_t test_clock(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * TAKT_SEC + ts.tv_nsec + skipped;
}

static uint32_t draw(uint32_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 32) % below;
}

/* -- what is there ----------------------------------------------------------------- */

static int entries(const char *path)
{
    DIR *const dir = opendir(path);
    int count = 0;
    while (dir && readdir(dir))
        count++;
    if (dir)
        closedir(dir);
    return count;
}

enum { BUFFERS = 64, BUFFER = 16 * 1024 };

static void setup(void)
{
    open_before = entries("/proc/self/fd");
    EXPECT_EQ(net_init(&loop, &wanted), 0);
    EXPECT_EQ(takt_bufs_init(&pool, BUFFERS, BUFFER), 0);
}

static const takt_pipes *pipes(void)
{
    return &loop.backend.posix.pipes;
}

/* Nothing is left of anything. */
static void finish(void)
{
    EXPECT_EQ(net_failed(&loop), 0);
    EXPECT_EQ(net_pending(&loop), 0);
    EXPECT_EQ(pipes()->in_use, 0);
    /* ".", ".." and this thread: no workers. To older kernels, in emulation (test/kernels.sh),
     * a send that had to wait more than a hundred times is worth one. */
    EXPECT(entries("/proc/self/task") == 3 || test_slow() > 1);
    EXPECT_EQ(net_free(&loop), 0);
    EXPECT_EQ(pool.in_use, 0);
    takt_bufs_free(&pool);
    EXPECT_EQ(entries("/proc/self/fd"), open_before);
}

/* -- contents ------------------------------------------------------------------------ */

enum { PERIOD = 1000003, CHUNK = 1 << 17 };

static unsigned char contents[PERIOD + CHUNK];

static void fill_contents(void)
{
    for (int i = 0; i < PERIOD; i++)
        contents[i] = (unsigned char)draw(256);
    memcpy(contents + PERIOD, contents, CHUNK);
}

/* At least CHUNK bytes of stream `tag` from `at` on. */
static const unsigned char *content(uint32_t tag, uint64_t at)
{
    return contents + (at + (uint64_t)tag * 104729) % PERIOD;
}

/* -- far ends ------------------------------------------------------------------------- */

struct end {
    int fd;
    uint32_t tag_out, tag_in;
    uint64_t to_send, sent, got;
    uint32_t most;  /* bytes a step, each way */
    bool deaf;      /* does not receive */
    bool open;      /* does not shut down when it has sent all */
    bool shut, eof; /* its own end was sent; the other's has come */
    int error;
};

static bool end_sends(struct end *e)
{
    const uint64_t left = e->to_send - e->sent;
    uint32_t len = 1 + draw(e->most);
    ssize_t n;
    if (e->error || e->shut)
        return false;
    if (!left) {
        if (e->open)
            return false;
        EXPECT_EQ(shutdown(e->fd, SHUT_WR), 0);
        return e->shut = true;
    }
    len = len < left ? len : (uint32_t)left;
    n = send(e->fd, content(e->tag_out, e->sent), len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN)
        e->error = errno;
    e->sent += n > 0 ? (uint64_t)n : 0;
    return n > 0;
}

static bool end_receives(struct end *e)
{
    static unsigned char into[CHUNK];
    ssize_t n;
    if (e->error || e->eof || e->deaf)
        return false;
    n = recv(e->fd, into, 1 + draw(e->most), MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN)
        e->error = errno;
    if (n > 0) {
        EXPECT(memcmp(into, content(e->tag_in, e->got), (size_t)n) == 0);
        e->got += (uint64_t)n;
    }
    e->eof = n == 0;
    return n >= 0;
}

static bool end_step(struct end *e)
{
    const bool sends = end_sends(e);
    return end_receives(e) || sends;
}

static void set_buffers(int fd, int bytes)
{
    if (!bytes)
        return;
    EXPECT_EQ(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes), 0);
    EXPECT_EQ(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes), 0);
}

/* A connection over TCP, with buffers of `bytes` (0: as they are) at both ends. */
static void tcp_pair(int *pair, int bytes)
{
    struct sockaddr_in addr;
    socklen_t len = sizeof addr;
    const int one = 1;
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    memset(&addr, 0, sizeof addr);
    addr.sin_family = AF_INET;
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    pair[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    set_buffers(listener, bytes);
    set_buffers(pair[0], bytes);
    if (bind(listener, (struct sockaddr *)&addr, sizeof addr) < 0 || listen(listener, 1) < 0 ||
        getsockname(listener, (struct sockaddr *)&addr, &len) < 0 ||
        connect(pair[0], (struct sockaddr *)&addr, len) < 0)
        abort();
    pair[1] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (pair[1] < 0 || fcntl(pair[0], F_SETFL, O_NONBLOCK) < 0)
        abort();
    setsockopt(pair[0], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(pair[1], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    close(listener);
}

static void unix_pair(int *pair)
{
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
        abort();
}

static void reset(struct end *e)
{
    const struct linger now = {1, 0};
    setsockopt(e->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(e->fd);
    e->fd = -1;
}

/* -- joint: a client and a server, and both directions between them --------------------- */

struct joint {
    takt_frame frame;
    int client, server; /* in: closed here; -1: one of them is both */
    takt_ns limit;      /* in: of silence; 0: none */
    bool clean;
    takt_idle idle;
    takt_relay up, down;
};

static TAKT_CORO(joint)
{
    TAKT_BEGIN(joint, my);
    TAKT_DEFER
    {
        if (!my->clean)
            takt_reset_on_close(&my->frame, my->client);
        TAKT_AWAIT(takt_close(my->client));
    }
    TAKT_DEFER
    {
        if (!my->clean)
            takt_reset_on_close(&my->frame, my->server);
        TAKT_AWAIT(takt_close(my->server));
    }
    if (my->limit)
        takt_idle_start(&my->frame, &my->idle, my->limit);
    TAKT_START(my->down, takt_relay, .from = my->server, .to = my->client, .bufs = &pool,
               .idle = my->limit ? &my->idle : NULL);
    TAKT_CALL(my->up, takt_relay, .from = my->client, .to = my->server, .bufs = &pool,
              .idle = my->limit ? &my->idle : NULL);
    TAKT_JOIN(my->down);
    my->clean = true;
    TAKT_END;
}

enum { CONNECTIONS = 24 };

static const takt_ns PATIENCE = 60 * TAKT_SEC; /* of a machine that is busy elsewhere */

static struct joint joints[CONNECTIONS];
static struct end clients[CONNECTIONS], servers[CONNECTIONS];

static void end_init(struct end *e, int fd, uint32_t tag_out, uint32_t tag_in, uint64_t to_send)
{
    memset(e, 0, sizeof *e);
    e->fd = fd;
    e->tag_out = tag_out;
    e->tag_in = tag_in;
    e->to_send = to_send;
    e->most = CHUNK;
}

/* Connects both far ends of `i` by a joint. */
static void join_up(int i, uint64_t up, uint64_t down, int buffers, takt_ns limit)
{
    const uint32_t tag = draw(1 << 20);
    int near[2], far[2];
    tcp_pair(near, buffers);
    tcp_pair(far, buffers);
    end_init(&clients[i], near[0], tag, tag + 1, up);
    end_init(&servers[i], far[0], tag + 1, tag, down);
    EXPECT(TAKT_START_ON(&loop, joints[i], joint, .client = near[1], .server = far[1],
                         .limit = limit));
}

/* One round: the far ends of `count` connections, and a turn. */
static void round_of(int count)
{
    bool moved = false;
    for (int i = 0; i < count; i++) {
        moved |= clients[i].fd >= 0 && end_step(&clients[i]);
        moved |= servers[i].fd >= 0 && end_step(&servers[i]);
    }
    net_turn(&loop, moved ? 0 : TAKT_MS, 0);
}

/* Rounds until `count` joints have ended and all has arrived. */
static void until_all_ended(int count)
{
    const takt_ns until = test_clock() + PATIENCE;
    for (;;) {
        bool done = true;
        for (int i = 0; i < count; i++) {
            const struct end *const both[] = {&clients[i], &servers[i]};
            done &= !takt_alive(&joints[i].frame);
            for (int k = 0; k < 2; k++)
                done &= both[k]->fd < 0 || both[k]->eof || both[k]->error || both[k]->deaf;
        }
        if (done)
            return;
        if (test_clock() > until) {
            EXPECT(done); /* in time */
            takt_dump(&loop.sched);
            return;
        }
        round_of(count);
    }
}

/* Rounds of the first connection until `e` has got what the other sent. */
static void until_got(const struct end *e, const struct end *sender)
{
    const takt_ns until = test_clock() + PATIENCE;
    while (e->got < sender->to_send && !e->error && !e->eof && test_clock() < until)
        round_of(1);
    EXPECT_EQ(e->got, sender->to_send);
}

static void close_ends(int count)
{
    for (int i = 0; i < count; i++) {
        if (clients[i].fd >= 0)
            close(clients[i].fd);
        if (servers[i].fd >= 0)
            close(servers[i].fd);
    }
}

static void expect_exact(int i)
{
    EXPECT_EQ(takt_error(&joints[i].frame), 0);
    EXPECT(joints[i].clean);
    EXPECT(clients[i].eof && servers[i].eof);
    EXPECT_EQ(clients[i].error, 0);
    EXPECT_EQ(servers[i].error, 0);
    EXPECT_EQ(servers[i].got, clients[i].to_send);
    EXPECT_EQ(clients[i].got, servers[i].to_send);
    EXPECT_EQ(joints[i].up.bytes, clients[i].to_send);
    EXPECT_EQ(joints[i].down.bytes, servers[i].to_send);
}

/* -- bytes ------------------------------------------------------------------------------- */

/* Seeded sizes, from nothing to megabytes, through large, small and tiny sockets. */
static void every_byte_arrives_once_and_in_order(void)
{
    static const int buffers[] = {0, 1 << 20, 64 * 1024, 4608};
    static const uint32_t shifts[] = {1, 8, 14, 17, 21, 22};
    for (size_t b = 0; b < sizeof buffers / sizeof buffers[0]; b++) {
        setup();
        for (int i = 0; i < 12; i++) {
            const uint32_t most = buffers[b] == 4608 ? 18 : 22;
            uint32_t up = shifts[draw(6)], down = shifts[draw(6)];
            up = up < most ? up : most;
            down = down < most ? down : most;
            join_up(i, draw(1u << up), draw(1u << down), buffers[b], 0);
            clients[i].most = 1 + draw(CHUNK);
            servers[i].most = 1 + draw(CHUNK);
        }
        until_all_ended(12);
        for (int i = 0; i < 12; i++)
            expect_exact(i);
        close_ends(12);
        finish();
    }
}

/* Bulk is spliced, where there are pipes; and is the same where there are none. */
static void bulk_is_spliced(void)
{
    setup();
    join_up(0, 32 << 20, 0, 0, 0);
    until_all_ended(1);
    expect_exact(0);
    EXPECT_EQ(pipes()->at[0].size > 0, pipes_there);
    EXPECT_EQ(joints[0].up.refused, !pipes_there);
    close_ends(1);
    finish();
}

/* Small messages never take a pipe; after bulk they soon go back to buffers; and who waits
 * in silence holds neither. */
static void small_messages_go_through_buffers(void)
{
    setup();
    join_up(0, 0, 0, 0, 0);
    clients[0].open = servers[0].open = true;
    for (int i = 0; i < 200; i++) {
        clients[0].to_send += 4096;
        until_got(&servers[0], &clients[0]);
        servers[0].to_send += 64;
        until_got(&clients[0], &servers[0]);
        EXPECT(!joints[0].up.splices && !joints[0].down.splices);
    }
    EXPECT_EQ(pipes()->fresh, 0);
    clients[0].to_send += 16 << 20;
    until_got(&servers[0], &clients[0]);
    EXPECT_EQ(joints[0].up.splices, pipes_there);
    EXPECT_EQ(pipes()->in_use, 0);
    EXPECT_EQ(pool.in_use, 0);
    for (int i = 0; i < TAKT__RELAY_SMALLS; i++) {
        clients[0].to_send += 100;
        until_got(&servers[0], &clients[0]);
    }
    EXPECT(!joints[0].up.splices);
    clients[0].open = servers[0].open = false;
    until_all_ended(1);
    expect_exact(0);
    close_ends(1);
    finish();
}

/* Between a TCP and a Unix socket, and from a socket to itself. */
static void any_stream_sockets_will_do(void)
{
    int near[2], far[2];
    setup();
    tcp_pair(near, 0);
    unix_pair(far);
    end_init(&clients[0], near[0], 1, 2, 6 << 20);
    end_init(&servers[0], far[0], 2, 1, 3 << 20);
    EXPECT(TAKT_START_ON(&loop, joints[0], joint, .client = near[1], .server = far[1]));
    until_all_ended(1);
    expect_exact(0);
    close_ends(1);
    finish();
}

struct mirror {
    takt_frame frame;
    int fd; /* in: closed here */
    takt_relay relay;
};

static TAKT_CORO(mirror)
{
    TAKT_BEGIN(mirror, my);
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->fd)); }
    TAKT_CALL(my->relay, takt_relay, .from = my->fd, .to = my->fd, .bufs = &pool);
    TAKT_END;
}

static void a_socket_is_relayed_to_itself(void)
{
    static struct mirror mirror;
    struct end *const e = &clients[0];
    int pair[2];
    setup();
    tcp_pair(pair, 0);
    end_init(e, pair[0], 7, 7, 5 << 20);
    EXPECT(TAKT_START_ON(&loop, mirror, mirror, .fd = pair[1]));
    while (takt_alive(&mirror.frame) || !(e->eof || e->error))
        net_turn(&loop, end_step(e) ? 0 : TAKT_MS, 0);
    EXPECT_EQ(takt_error(&mirror.frame), 0);
    EXPECT_EQ(e->got, e->to_send);
    EXPECT_EQ(e->error, 0);
    close(e->fd);
    finish();
}

/* splice(2) stops at urgent data, and takes it for the end where that has come too. */
static void urgent_data_does_not_stop_it(void)
{
    for (int last = 0; last < 2; last++) {
        setup();
        join_up(0, 6 << 20, 0, 0, 0);
        clients[0].open = true;
        clients[0].to_send = 4 << 20;
        until_got(&servers[0], &clients[0]);
        EXPECT_EQ(joints[0].up.splices, pipes_there);
        EXPECT_EQ(send(clients[0].fd, "!", 1, MSG_OOB), 1);
        clients[0].to_send += 100000; /* all of it, and the end, before it is read */
        clients[0].open = last == 0;
        for (int i = 0; last == 1 && i < 1000 && !clients[0].shut; i++)
            end_step(&clients[0]);
        until_got(&servers[0], &clients[0]);
        clients[0].open = false;
        until_all_ended(1);
        EXPECT_EQ(takt_error(&joints[0].frame), 0);
        EXPECT_EQ(servers[0].got, clients[0].to_send);
        EXPECT(servers[0].eof);
        close_ends(1);
        finish();
    }
}

/* -- ends --------------------------------------------------------------------------------- */

/* The end of one direction is passed on, behind all bytes; the other goes on. */
static void each_direction_ends_by_itself(void)
{
    for (int way = 0; way < 2; way++) {
        struct end *const first = way ? &servers[0] : &clients[0];
        struct end *const second = way ? &clients[0] : &servers[0];
        setup();
        join_up(0, 0, 0, 0, 0);
        first->to_send = 3 << 20;
        second->to_send = 2 << 20;
        second->open = true;
        second->deaf = true;
        for (int i = 0; i < 50; i++) /* both are held up */
            round_of(1);
        EXPECT(!second->eof);
        second->deaf = false;
        while (!second->eof && !second->error)
            round_of(1);
        EXPECT_EQ(second->got, first->to_send);
        EXPECT(takt_alive(&joints[0].frame));
        second->to_send += 4 << 20; /* after the end of the other */
        second->open = false;
        until_all_ended(1);
        expect_exact(0);
        close_ends(1);
        finish();
    }
}

/* S17, F4: whoever resets, and whenever: the other side never sees a clean end. */
static void a_reset_is_never_a_clean_end(void)
{
    setup();
    for (int round = 0; round < 40; round++) {
        struct end *const resets = round & 1 ? &servers[0] : &clients[0];
        struct end *const other = round & 1 ? &clients[0] : &servers[0];
        const int rounds = (int)draw(1u << (1 + draw(9)));
        join_up(0, 1 << 30, round & 2 ? 1 << 30 : 0, draw(2) ? 0 : 1 << 15, 0);
        servers[0].open = true;
        other->deaf = round % 3 == 0;
        for (int i = 0; i < rounds; i++)
            round_of(1);
        reset(resets);
        other->deaf = false;
        until_all_ended(1);
        EXPECT(!other->eof);
        EXPECT(other->error == ECONNRESET || other->error == EPIPE);
        EXPECT(takt_error(&joints[0].frame) == -ECONNRESET ||
               takt_error(&joints[0].frame) == -EPIPE);
        EXPECT(!joints[0].clean);
        close_ends(1);
    }
    finish();
}

/* Cancelled in any phase: what has arrived is the beginning, and there is no clean end. */
static void a_cancel_leaves_the_beginning(void)
{
    setup();
    for (int round = 0; round < 40; round++) {
        const int rounds = (int)draw(1u << (1 + draw(8)));
        join_up(0, 1 << 30, 1 << 30, draw(2) ? 0 : 1 << 15, 0);
        clients[0].deaf = draw(2);
        servers[0].deaf = draw(2);
        for (int i = 0; i < rounds; i++)
            round_of(1);
        takt_cancel(&joints[0].frame);
        while (takt_alive(&joints[0].frame))
            net_turn(&loop, TAKT_MS, 0);
        EXPECT_EQ(takt_error(&joints[0].frame), TAKT_ECANCELED);
        EXPECT_EQ(pipes()->in_use, 0);
        clients[0].deaf = servers[0].deaf = false;
        until_all_ended(1);
        EXPECT(!clients[0].eof && !servers[0].eof);
        EXPECT(clients[0].got <= servers[0].sent && servers[0].got <= clients[0].sent);
        close_ends(1);
    }
    finish();
}

/* S16, F25: pipes that were in use when their connection broke off serve nobody else. */
static void no_byte_of_one_appears_in_another(void)
{
    setup();
    for (int round = 0; round < 6; round++) {
        for (int i = 0; i < CONNECTIONS; i++) {
            join_up(i, 1 << 20, draw(1 << 20), draw(2) ? 0 : 1 << 15, 0);
            clients[i].deaf = i % 3 == 0;
            servers[i].deaf = i % 3 == 0; /* so that their pipes fill up */
            if (i % 3 == 0)
                clients[i].to_send = servers[i].to_send = 64 << 20;
        }
        for (int i = 0; i < 40; i++)
            round_of(CONNECTIONS);
        for (int i = 0; i < CONNECTIONS; i += 3) {
            if (i % 2)
                takt_cancel(&joints[i].frame);
            else
                reset(draw(2) ? &clients[i] : &servers[i]);
        }
        until_all_ended(CONNECTIONS);
        for (int i = 0; i < CONNECTIONS; i++)
            if (i % 3)
                expect_exact(i);
        close_ends(CONNECTIONS);
        EXPECT_EQ(pipes()->in_use, 0);
    }
    finish();
}

/* -- the op alone ----------------------------------------------------------------------- */

/* Moves with a limit of no time at all around each op, or beside a sleep that wins. */
struct patient {
    takt_frame frame;
    int from, to; /* in */
    bool any;     /* in */
    struct takt_pipe *pipe;
    takt_op ops[2];
    int64_t n;
    int winner;
    uint64_t bytes, cut;
};

static TAKT_CORO(patient)
{
    TAKT_BEGIN(patient, my);
    TAKT_DEFER { takt_pipe_drop(&my->frame, &my->pipe); }
    for (;;) {
        if (my->any) {
            my->ops[0] = takt_splice(my->from, my->to, &my->pipe);
            my->ops[1] = takt_sleep(1);
            TAKT_AWAIT_ANY(my->winner, my->ops, 2);
            my->n = my->ops[0].result;
        } else {
            TAKT_TRY_AWAIT(my->n,
                           takt_within(1, takt_splice(my->from, my->to, &my->pipe)));
        }
        if (my->n == 0)
            break;
        my->cut += my->n < 0;
        EXPECT(my->n > 0 || my->n == -ETIMEDOUT || my->n == TAKT_ECANCELED);
        if (my->n > 0)
            my->bytes += (uint64_t)my->n;
        else if (my->n != -ETIMEDOUT && my->n != TAKT_ECANCELED)
            TAKT_THROW((int)my->n);
    }
    EXPECT(my->pipe == NULL);
    TAKT_AWAIT(takt_shutdown(my->to, TAKT_SHUT_WRITE));
    TAKT_END;
}

static void an_op_that_was_cut_short_goes_on(void)
{
    static struct patient patient;
    if (!pipes_there)
        return;
    for (int any = 0; any < 2; any++) {
        int near[2], far[2];
        setup();
        tcp_pair(near, 1 << 15);
        tcp_pair(far, 1 << 14);
        end_init(&clients[0], near[0], 3, 3, 2 << 20);
        end_init(&servers[0], far[0], 3, 3, 0);
        servers[0].open = true;
        EXPECT(TAKT_START_ON(&loop, patient, patient, .from = near[1], .to = far[1],
                             .any = any > 0));
        while (takt_alive(&patient.frame) || !(servers[0].eof || servers[0].error)) {
            skipped += TAKT_MS; /* the limits pass */
            if (draw(3) == 0)
                end_step(&clients[0]);
            if (draw(3) == 0)
                end_step(&servers[0]);
            net_turn(&loop, 0, 0);
        }
        EXPECT_EQ(takt_error(&patient.frame), 0);
        EXPECT_EQ(servers[0].got, clients[0].to_send);
        EXPECT_EQ(patient.bytes, clients[0].to_send);
        EXPECT(patient.cut > 0);
        close(near[0]);
        close(near[1]);
        close(far[0]);
        close(far[1]);
        finish();
    }
}

/* What a splice needs is taken, or was closed. */
struct strict {
    takt_frame frame;
    int from, to; /* in */
    bool reads;   /* in: a receive, no splice */
    bool keeps;   /* in: its pipe, if it succeeds */
    struct takt_pipe *pipe;
    char byte;
    int64_t n;
};

static TAKT_CORO(strict)
{
    TAKT_BEGIN(strict, my);
    TAKT_DEFER
    {
        if (my->n <= 0 || !my->keeps)
            takt_pipe_drop(&my->frame, &my->pipe);
    }
    if (my->reads)
        TAKT_TRY_AWAIT(my->n, takt_recv(my->from, &my->byte, 1));
    else
        TAKT_TRY_AWAIT(my->n, takt_splice(my->from, my->to, &my->pipe));
    TAKT_END;
}

struct closing {
    takt_frame frame;
    int first, second; /* in */
    takt_op ops[2];
};

static TAKT_CORO(closing)
{
    TAKT_BEGIN(closing, my);
    my->ops[0] = takt_close(my->first);
    my->ops[1] = takt_close(my->second);
    TAKT_AWAIT_ALL(my->ops, 2);
    EXPECT_EQ(my->ops[0].result, 0);
    EXPECT_EQ(my->ops[1].result, 0);
    TAKT_END;
}

static void ends_at_once(int from, int to, bool reads, int64_t error)
{
    static struct strict strict;
    EXPECT(TAKT_START_ON(&loop, strict, strict, .from = from, .to = to, .reads = reads));
    for (int i = 0; i < 100 && takt_alive(&strict.frame); i++)
        net_turn(&loop, 0, 0);
    EXPECT_EQ(strict.n, error);
}

static void it_occupies_both_and_ends_with_either(void)
{
    static struct strict strict;
    static struct closing closing;
    if (!pipes_there)
        return;
    for (int held = 0; held < 2; held++) {
        for (int which = 0; which < 3; which++) { /* from, to, or both are closed */
            int near[2], far[2], tries = 0;
            takt_ns begin;
            setup();
            unix_pair(near); /* of these, nobody takes a part after a while */
            unix_pair(far);
            ends_at_once(near[1], -1, false, -EBADF);
            ends_at_once(-1, far[1], false, -EBADF);
            ends_at_once(near[1], 1 << 28, false, -EMFILE);
            do { /* held: until it waits for room in `to` */
                struct takt_pipe *const kept = strict.pipe;
                if (held)
                    EXPECT(send(near[0], contents, CHUNK, MSG_DONTWAIT) > 0 || errno == EAGAIN);
                EXPECT(TAKT_START_ON(&loop, strict, strict, .from = near[1], .to = far[1],
                                     .pipe = kept, .keeps = true));
                for (int i = 0; i < 10 && takt_alive(&strict.frame); i++)
                    net_turn(&loop, held ? TAKT_MS : 0, 0);
            } while (!takt_alive(&strict.frame) && ++tries < 1000);
            EXPECT_EQ(pipes()->in_use, (uint32_t)held);
            EXPECT(!held || send(near[0], contents, CHUNK, MSG_DONTWAIT) > 0 || errno == EAGAIN);
            for (int i = 0; i < 10; i++)
                net_turn(&loop, 0, 0);
            begin = test_clock();
            net_turn(&loop, 20 * TAKT_MS, 0); /* it sleeps, whatever the other side is */
            EXPECT(!held || test_clock() - begin >= 15 * TAKT_MS);
            ends_at_once(near[1], near[1], false, -EBUSY); /* its reading */
            ends_at_once(near[1], -1, true, -EBUSY);
            ends_at_once(far[1], far[1], false, -EBUSY); /* its writing */
            EXPECT(takt_alive(&strict.frame));
            EXPECT(TAKT_START_ON(&loop, closing, closing,
                                 .first = which == 1 ? -1 : near[1],
                                 .second = which == 0 ? -1 : far[1]));
            for (int i = 0; i < 1000 && net_pending(&loop); i++)
                net_turn(&loop, TAKT_MS, 0);
            EXPECT_EQ(strict.n, TAKT_ECLOSED);
            EXPECT(strict.pipe == NULL);
            if (which == 0)
                close(far[1]);
            if (which == 1)
                close(near[1]);
            close(near[0]);
            close(far[0]);
            finish();
        }
    }
}

/* Errors that say that there is no pipe to be had; others are the connection's. */
static void for_want_of_a_pipe_it_receives(void)
{
    static const int errors[] = {-ENOBUFS, -ENOTSUP, -ENOSYS, -EINVAL, -EPERM, -ECONNRESET};
    for (int i = 0; i < 6; i++) {
        struct takt_relay my;
        memset((void *)&my, 0, sizeof my);
        my.splices = true;
        my.n = errors[i];
        EXPECT_EQ(takt__relay_refused(&my), errors[i] != -ECONNRESET);
        EXPECT_EQ(my.splices, errors[i] == -ECONNRESET);
    }
}

/* -- bounds --------------------------------------------------------------------------------- */

/* Where descriptors run out, or pipes do, it copies. */
static void without_a_pipe_it_copies(void)
{
    struct rlimit before, none;
    setup();
    join_up(0, 8 << 20, 8 << 20, 0, 0);
    getrlimit(RLIMIT_NOFILE, &before);
    none = before;
    none.rlim_cur = 0; /* those that are open stay so */
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    until_all_ended(1);
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
    expect_exact(0);
    EXPECT(joints[0].up.refused && joints[0].down.refused);
    close_ends(1);
    finish();
}

static void stalled_connections_leave_the_others_their_way(void)
{
    const int all = wanted.backend.posix.fds_max;
    if (!pipes_there)
        return;
    wanted.backend.posix.fds_max = 128; /* 8 pipes */
    setup();
    for (int i = 0; i < 16; i++) {
        join_up(i, 4 << 20, 0, 1 << 15, 0);
        servers[i].deaf = i < 12;
    }
    for (int i = 0; i < 100; i++)
        round_of(16);
    EXPECT_EQ(pipes()->in_use, 8);
    for (int i = 0; i < 12; i++)
        servers[i].deaf = false;
    until_all_ended(16);
    for (int i = 0; i < 16; i++)
        expect_exact(i);
    close_ends(16);
    finish();
    wanted.backend.posix.fds_max = all;
}

/* Whatever moves counts, also where one piece takes long; and silence ends it. */
static void silence_ends_it_and_progress_does_not(void)
{
    setup();
    join_up(0, 16 << 20, 0, 1 << 15, 60 * TAKT_SEC);
    clients[0].open = servers[0].open = true;
    for (int i = 0; i < 20; i++)
        round_of(1);
    for (int i = 0; i < 30; i++) {
        const uint64_t before = joints[0].up.bytes;
        skipped += 40 * TAKT_SEC;
        while (joints[0].up.bytes == before && takt_alive(&joints[0].frame))
            round_of(1);
        EXPECT(takt_alive(&joints[0].frame));
    }
    clients[0].to_send = clients[0].sent;
    until_got(&servers[0], &clients[0]);
    skipped += 50 * TAKT_SEC;
    round_of(1);
    EXPECT(takt_alive(&joints[0].frame));
    skipped += 11 * TAKT_SEC;
    until_all_ended(1);
    EXPECT_EQ(takt_error(&joints[0].frame), -ETIMEDOUT);
    EXPECT(!servers[0].eof && !clients[0].eof);
    close_ends(1);
    finish();
}

/* A loop that is drained in the midst of it leaves nothing. */
static void a_drain_leaves_nothing(void)
{
    for (int round = 0; round < 6; round++) {
        setup();
        for (int i = 0; i < 6; i++) {
            join_up(i, 1 << 30, 1 << 30, 0, 0);
            servers[i].deaf = i % 2;
        }
        for (int i = 0; i < 1 + (int)draw(60); i++)
            round_of(6);
        EXPECT(net_drain(&loop) > 0);
        EXPECT_EQ(pipes()->in_use, 0);
        for (int i = 0; i < 6; i++)
            EXPECT(!takt_alive(&joints[i].frame));
        close_ends(6);
        EXPECT_EQ(net_free(&loop), 0);
        EXPECT_EQ(pool.in_use, 0);
        takt_bufs_free(&pool);
        EXPECT_EQ(entries("/proc/self/fd"), open_before);
    }
}

/* Resets are what is tested: they are told of elsewhere. */
static void on_failure(void *user, const char *name, int error, const char *file, int line)
{
    (void)user;
    (void)name;
    (void)error;
    (void)file;
    (void)line;
}

/* -- on every backend ------------------------------------------------------------------------ */

static const test tests[] = {
    TEST(for_want_of_a_pipe_it_receives),
    TEST(every_byte_arrives_once_and_in_order),
    TEST(bulk_is_spliced),
    TEST(small_messages_go_through_buffers),
    TEST(any_stream_sockets_will_do),
    TEST(a_socket_is_relayed_to_itself),
    TEST(urgent_data_does_not_stop_it),
    TEST(each_direction_ends_by_itself),
    TEST(a_reset_is_never_a_clean_end),
    TEST(a_cancel_leaves_the_beginning),
    TEST(no_byte_of_one_appears_in_another),
    TEST(an_op_that_was_cut_short_goes_on),
    TEST(it_occupies_both_and_ends_with_either),
    TEST(without_a_pipe_it_copies),
    TEST(stalled_connections_leave_the_others_their_way),
    TEST(silence_ends_it_and_progress_does_not),
    TEST(a_drain_leaves_nothing),
};

/* In this order: what is refused stays so. */
static const struct mode {
    const char *name;
    takt_uring_mode mode;
    bool poll_instead;
    int refused; /* a system call, or -1 */
    bool pipes;
} modes[] = {
    {"epoll", TAKT_URING_NEVER, false, -1, true},
    {"poll", TAKT_URING_NEVER, true, -1, true},
    {"uring", TAKT_URING_ONLY, false, -1, true},
    {"refused", TAKT_URING_AUTO, false, __NR_io_uring_setup, true},
    {"no_pipes", TAKT_URING_AUTO, false, __NR_pipe2, false},
};

int main(int argc, char **argv)
{
    const size_t count = sizeof tests / sizeof tests[0];
    const uint64_t first = getenv("SEED") ? strtoull(getenv("SEED"), NULL, 0)
                                          : (uint64_t)time(NULL) * 2654435761u | 1;
    int passed = 0, failed = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    alarm(300); /* whatever hangs, ends */
    seed = first;
    fill_contents();
    for (const struct mode *m = modes; m < modes + sizeof modes / sizeof modes[0]; m++) {
        int skip = 0, named = 0;
        for (size_t k = 0; argc > 1 && k < sizeof modes / sizeof modes[0]; k++) {
            named |= strcmp(argv[1], modes[k].name) == 0;
            skip |= strcmp(argv[1], modes[k].name) == 0 && &modes[k] != m;
        }
        if (skip)
            continue;
        if (m->refused >= 0 && refuse(m->refused, EPERM) < 0) {
            printf("%s: no seccomp filter can be installed\n", m->name);
            continue;
        }
        wanted = net_defaults();
        wanted.loop.strands = 4 * CONNECTIONS;
        wanted.loop.on_failure = on_failure;
        wanted.backend.mode = m->mode;
        wanted.backend.posix.poll_instead = m->poll_instead;
        pipes_there = m->pipes;
        for (size_t i = 0; i < count; i++) {
            if (argc > 1 + named && !test_wanted(tests[i].name, argc, argv))
                continue;
            test_failures = 0;
            seed = first;
            tests[i].run();
            if (test_failures)
                printf("FAIL %s on %s, SEED=%llu\n", tests[i].name, m->name,
                       (unsigned long long)first);
            failed += test_failures > 0;
            passed += test_failures == 0;
        }
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0;
}

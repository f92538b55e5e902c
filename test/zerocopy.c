/*
 * zerocopy.c - buffers that are handed over to be sent: >>op's takt_send_lease(), >>zerocopy
 *
 * On TCP over loopback the system copies at last, when the receiver takes the bytes: until then
 * it reads the sender's memory, and a receiver that does not read delays that for as long as a
 * test wants. Orders that no kernel can be made to show come from a kernel of this file's, to
 * which the requests go instead: see push().
 */
#include <liburing.h>
#include <stdlib.h>

static int our_enter(unsigned fd, unsigned submit, unsigned wait, unsigned flags, sigset_t *arg,
                     size_t size);
static void *our_calloc(size_t count, size_t size);
static void our_free(void *memory);
static int logs;

#define io_uring_enter2 our_enter
#define TAKT_CALLOC(count, size) our_calloc((count), (size))
#define TAKT_FREE(memory) our_free(memory)
#define TAKT_LOG(text) ((void)(text), logs++)
#define TAKT_IMPLEMENTATION
#include "../takt_uring.h"
#undef io_uring_enter2

#include "loopback.h"
#include "test.h"

#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* -- the kernel of this file's ------------------------------------------------ */

enum { ASKED_MAX = 16 };

static struct {
    bool on; /* requests are noted, and nothing happens until push() */
    takt_uring *uring;
    struct io_uring_sqe asked[ASKED_MAX];
    int count;
} script;

static int memory_live;

static void *our_calloc(size_t count, size_t size)
{
    void *const p = calloc(count, size);
    memory_live += p != NULL;
    return p;
}

static void our_free(void *p)
{
    memory_live -= p != NULL;
    free(p);
}

static int our_enter(unsigned fd, unsigned submit, unsigned wait, unsigned flags, sigset_t *arg,
                     size_t size)
{
    struct io_uring_sq *sq;
    if (!script.on)
        return io_uring_enter2(fd, submit, wait, flags, arg, size);
    sq = &script.uring->ring.sq;
    for (unsigned i = 0; i < submit; i++) {
        EXPECT(script.count < ASKED_MAX);
        script.asked[script.count++ % ASKED_MAX] = sq->sqes[(*sq->khead)++ & sq->ring_mask];
    }
    return (int)submit;
}

/* The kernel completes the request that was asked for as number `i`. */
static void push(int i, int res, unsigned flags)
{
    struct io_uring_cq *const cq = &script.uring->ring.cq;
    struct io_uring_cqe *const cqe = &cq->cqes[*cq->ktail & cq->ring_mask];
    cqe->user_data = script.asked[i].user_data;
    cqe->res = res;
    cqe->flags = flags;
    *cq->ktail += 1;
}

/* -- the driver ---------------------------------------------------------------- */

enum { SLOTS = 8, SIZE = 256 * 1024, MORE = IORING_CQE_F_MORE, NOTIF = IORING_CQE_F_NOTIF };

#include "slots.h"

static takt_uring_config wanted;
static takt_uring engine;
static takt_bufs pool;
static int64_t values[SLOTS];
static bool ended[SLOTS];

static void setup_with(uint32_t count, uint32_t size)
{
    slots_clear();
    memset(ended, 0, sizeof ended);
    EXPECT_EQ(takt_uring_init(&engine, &wanted, &slots), 0);
    EXPECT_EQ(takt_bufs_init(&pool, count, size), 0);
}

static void setup(void)
{
    setup_with(4, SIZE);
}

static void setup_script(void)
{
    wanted.zerocopy_from = 1;
    setup();
    script.on = true;
    script.uring = &engine;
    script.count = 0;
}

static void finish(void)
{
    script.on = false;
    EXPECT_EQ(engine.zerocopies_held, 0);
    EXPECT_EQ(pool.in_use, 0);
    takt_uring_free(&engine);
    takt_bufs_free(&pool);
    EXPECT_EQ(memory_live, 0);
}

static int begin(int i, takt_op op)
{
    ended[i] = false;
    return slot_begin(&engine, i, op);
}

static int pump(takt_ns wait)
{
    takt_completion done[SLOTS];
    const int count = takt_uring_poll(&engine, done, SLOTS, wait);
    for (int i = 0; i < count; i++) {
        const uint32_t index = (uint32_t)done[i].token;
        EXPECT(takt_slot_find(&slots, done[i].token) != NULL);
        unsigned char *item = (unsigned char *)done[i].payload; /* of a stream */
        EXPECT_EQ(done[i].flags, item ? TAKT_MORE : 0);
        EXPECT_EQ(takt_bufs_put(&pool, &item), 0);
        EXPECT(!ended[index]);
        ended[index] = true;
        values[index] = done[i].error ? done[i].error : done[i].value;
    }
    return count;
}

/* Turns until `done`, for ten seconds at most. */
#define PUMP_UNTIL(done)                                                                     \
    do {                                                                                     \
        const takt_ns until_ = takt_uring_now(&engine) + 10 * TAKT_SEC;                      \
        while (!(done) && takt_uring_now(&engine) < until_ && pump(10 * TAKT_MS) >= 0)       \
            continue;                                                                        \
        EXPECT(done);                                                                        \
    } while (0)

static int64_t end_of(int i)
{
    PUMP_UNTIL(ended[i]);
    return values[i];
}

/* A connection. The one who receives has room for little. */
static void connection(int *pair)
{
    loopback(&pair[1], &pair[0], 65536);
}

/* A buffer of the pool's, each byte of which tells where it stands. */
static unsigned char *filled(size_t len)
{
    unsigned char *const data = takt_bufs_take(&pool);
    EXPECT(data != NULL);
    for (size_t i = 0; data && i < len; i++)
        data[i] = (unsigned char)(i * 7 + i / 256);
    return data;
}

/* Reads `len` such bytes at `fd`, turning the backend meanwhile; `from`: where they begin. */
static void expect_bytes(int fd, size_t from, size_t len)
{
    unsigned char part[8192];
    const takt_ns until = takt_uring_now(&engine) + 10 * TAKT_SEC;
    size_t wrong = 0, got = 0;
    while (got < len && takt_uring_now(&engine) < until) {
        const ssize_t n = recv(fd, part, sizeof part < len - got ? sizeof part : len - got,
                               MSG_DONTWAIT);
        for (ssize_t i = 0; i < n; i++, got++)
            wrong += part[i] != (unsigned char)((from + got) * 7 + (from + got) / 256);
        if (n <= 0)
            pump(TAKT_MS);
    }
    EXPECT_EQ(got, len);
    EXPECT_EQ(wrong, 0);
}

/* -- what holds on every backend ------------------------------------------------- */

static void goes_over(size_t len)
{
    unsigned char *data;
    int pair[2];
    setup();
    connection(pair);
    for (int i = 0; i < 3; i++) {
        data = filled(len);
        EXPECT_EQ(begin(0, takt_send_lease(pair[1], &pool, &data, len)), 0);
        EXPECT(data == NULL); /* it was handed over */
        expect_bytes(pair[0], 0, len);
        EXPECT_EQ(end_of(0), len);
        PUMP_UNTIL(pool.in_use == 0); /* and comes back */
    }
    close(pair[0]);
    close(pair[1]);
    finish();
}

/* However it is sent, the bytes arrive and the buffer comes back */
static void a_buffer_goes_over_and_comes_back(void)
{
    const size_t lengths[] = {1, 100, 16384, SIZE - 1, SIZE};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        memset(&wanted, 0, sizeof wanted);
        goes_over(lengths[i]);
        wanted.zerocopy_from = 1;
        wanted.zerocopy_always = true;
        goes_over(lengths[i]);
        wanted.disable = TAKT_URING_NO_SEND_ZC;
        goes_over(lengths[i]);
        wanted.mode = TAKT_URING_NEVER;
        goes_over(lengths[i]);
        wanted.posix.poll_instead = true;
        goes_over(lengths[i]);
    }
}

static void refusals(void)
{
    static unsigned char elsewhere[8];
    unsigned char *data, *kept, *none = NULL;
    int pair[2];
    setup();
    connection(pair);
    kept = data = filled(SIZE);
    EXPECT_EQ(begin(0, takt_send_lease(pair[1], &pool, &none, 1)), TAKT_EBUFFER);
    none = elsewhere;
    EXPECT_EQ(begin(0, takt_send_lease(pair[1], &pool, &none, 1)), TAKT_EBUFFER);
    EXPECT_EQ(begin(0, takt_send_lease(pair[1], &pool, &data, SIZE + 1)), TAKT_EBUFFER);
    data = kept + SIZE - 8;
    EXPECT_EQ(begin(0, takt_send_lease(pair[1], &pool, &data, 9)), TAKT_EBUFFER);
    EXPECT_EQ(begin(0, takt_send_lease(-1, &pool, &data, 8)), -EBADF);
    EXPECT_EQ(begin(0, takt_send_lease(1 << 30, &pool, &data, 8)), -EMFILE);
    EXPECT(data == kept + SIZE - 8); /* what did not begin did not take it */
    EXPECT_EQ(begin(0, takt_send_lease(pair[1], &pool, &data, 8)), 0);
    EXPECT_EQ(end_of(0), 8);
    expect_bytes(pair[0], SIZE - 8, 8);
    PUMP_UNTIL(pool.in_use == 0);
    data = kept = filled(1);
    EXPECT_EQ(begin(0, takt_send_lease(pair[1], &pool, &data, 0)), 0);
    EXPECT_EQ(end_of(0), 0);
    EXPECT_EQ(pool.in_use, 0);
    data = kept; /* it has gone back: this one is nobody's */
    EXPECT_EQ(begin(0, takt_send_lease(pair[1], &pool, &data, 1)), TAKT_EBUFFER);
    EXPECT_EQ(takt_bufs_put(&pool, &data), TAKT_EBUFFER);
    close(pair[0]);
    close(pair[1]);
    finish();
}

/* R3: what is no buffer of the pool's is not sent, and what is refused is not taken */
static void what_is_refused_is_not_taken(void)
{
    refusals();
    wanted.zerocopy_from = 1;
    refusals();
    wanted.mode = TAKT_URING_NEVER;
    refusals();
}

/* Fills the connection until a send has to wait, and ends that in a way of `how`'s. */
static void cut_short(void (*how)(const int *pair), int64_t wanted_result)
{
    unsigned char *data;
    int pair[2], sent = 0;
    setup_with(64, SIZE);
    connection(pair);
    do {
        data = filled(SIZE);
        EXPECT_EQ(begin(0, takt_send_lease(pair[1], &pool, &data, SIZE)), 0);
        for (int i = 0; i < 5 && !ended[0]; i++)
            pump(2 * TAKT_MS);
        sent += ended[0];
    } while (ended[0] && sent < 60);
    EXPECT(!ended[0] && sent > 0);
    how(pair);
    EXPECT_EQ(end_of(0), wanted_result);
    while (pool.in_use) {
        static char all[SIZE];
        const ssize_t n = recv(pair[0], all, sizeof all, MSG_DONTWAIT);
        if (n == 0)
            break;
        pump(n > 0 ? 0 : TAKT_MS);
    }
    PUMP_UNTIL(pool.in_use == 0);
    close(pair[0]);
    close(pair[1]);
    finish();
}

static void by_cancel(const int *pair)
{
    (void)pair;
    takt_uring_cancel(&engine, &slot_memory[0].op);
}

static void by_close(const int *pair)
{
    EXPECT_EQ(begin(1, takt_close(dup(pair[1]))), 0); /* something else */
    EXPECT_EQ(end_of(1), 0);
    EXPECT_EQ(begin(1, takt_close(pair[1])), 0);
}

static void by_shutdown(const int *pair)
{
    EXPECT_EQ(shutdown(pair[1], SHUT_WR), 0);
}

/* D1, F8, E11: cut short in any way, each buffer comes back */
static void one_that_is_cut_short_comes_back(void)
{
    for (int i = 0; i < 3; i++) {
        memset(&wanted, 0, sizeof wanted);
        wanted.zerocopy_always = i == 1;
        wanted.mode = i == 2 ? TAKT_URING_NEVER : TAKT_URING_ONLY;
        cut_short(by_cancel, TAKT_ECANCELED);
        cut_short(by_close, TAKT_ECLOSED);
        cut_short(by_shutdown, -EPIPE);
    }
}

/* Nor is it asked again and again meanwhile. A stream that has nothing to receive goes on. */
static void a_stream_is_deprived(void)
{
    unsigned char *out[4] = {NULL, NULL, NULL, NULL};
    int quiet[2], loud[2];
    wanted.mode = TAKT_URING_ONLY;
    setup_with(4, 64);
    connection(quiet);
    connection(loud);
    EXPECT_EQ(begin(0, takt_recv_multishot(quiet[0], &pool)), 0);
    pump(TAKT_MS);
    for (int i = 0; i < 4; i++) {
        const uint64_t before = engine.enters;
        EXPECT_EQ(send(loud[1], "x", 1, MSG_NOSIGNAL), 1);
        EXPECT_EQ(begin(1, i % 2 ? takt_recv_lease(loud[0], &pool, &out[i])
                                 : takt_lease(&pool, &out[i])), 0);
        EXPECT(end_of(1) > 0);
        EXPECT(engine.enters - before < 40);
        EXPECT(out[i] != NULL);
    }
    for (int i = 0; i < 4; i++)
        takt_bufs_put(&pool, &out[i]);
    EXPECT_EQ(send(quiet[1], "late", 4, MSG_NOSIGNAL), 4);
    EXPECT_EQ(end_of(0), 4);
    ended[0] = false;
    takt_uring_cancel(&engine, &slot_memory[0].op);
    EXPECT_EQ(end_of(0), TAKT_ECANCELED);
    for (int i = 0; i < 2; i++) {
        close(quiet[i]);
        close(loud[i]);
    }
    finish();
}

static void what_a_stream_does_not_use_is_for_those_who_wait(void)
{
    const uint32_t rungs[] = {0, TAKT_URING_NO_DEFER_TASKRUN,
                              TAKT_URING_NO_DEFER_TASKRUN | TAKT_URING_NO_COOP_TASKRUN,
                              TAKT_URING_NO_BUFFER_RING};
    for (size_t i = 0; i < sizeof rungs / sizeof rungs[0]; i++) {
        wanted.disable = rungs[i];
        a_stream_is_deprived();
    }
}

/* An empty pool is waited for, in order; who is told to stop leaves the line */
static void a_buffer_is_waited_for_in_turn(void)
{
    unsigned char *all[2], *one = NULL, *two = NULL, *three = NULL, *four = NULL;
    int pair[2];
    for (int posix = 0; posix < 2; posix++) {
        wanted.mode = posix ? TAKT_URING_NEVER : TAKT_URING_ONLY;
        setup_with(2, 64);
        connection(pair);
        for (int i = 0; i < 2; i++) {
            all[i] = NULL;
            EXPECT_EQ(begin(0, takt_lease(&pool, &all[i])), 0);
            EXPECT_EQ(end_of(0), 64);
            EXPECT(all[i] != NULL);
        }
        EXPECT_EQ(begin(0, takt_lease(&pool, &one)), 0);
        EXPECT_EQ(begin(1, takt_lease(&pool, &two)), 0);
        EXPECT_EQ(begin(2, takt_recv_lease(pair[0], &pool, &three)), 0);
        EXPECT_EQ(send(pair[1], "x", 1, MSG_NOSIGNAL), 1);
        for (int i = 0; i < 3; i++)
            pump(TAKT_MS);
        EXPECT(!ended[0] && !ended[1] && !ended[2]);
        takt_uring_cancel(&engine, &slot_memory[0].op);
        EXPECT_EQ(end_of(0), TAKT_ECANCELED);
        EXPECT(!one);
        EXPECT_EQ(takt_bufs_put(&pool, &all[1]), 0);
        EXPECT_EQ(begin(3, takt_lease(&pool, &four)), 0); /* it is there, but not for this one */
        EXPECT_EQ(end_of(1), 64);
        EXPECT(two && !ended[2] && !ended[3]);
        EXPECT_EQ(takt_bufs_put(&pool, &two), 0);
        EXPECT_EQ(end_of(2), 1);
        EXPECT(!ended[3]);
        EXPECT_EQ(takt_bufs_put(&pool, &three), 0);
        EXPECT_EQ(end_of(3), 64);
        EXPECT_EQ(takt_bufs_put(&pool, &four), 0);
        EXPECT_EQ(takt_bufs_put(&pool, &all[0]), 0);
        EXPECT_EQ(pool.in_use_max, 2);
        close(pair[0]);
        close(pair[1]);
        finish();
    }
}

/* -- the kernel holds the buffer ------------------------------------------------ */

/* Sends a whole buffer that nobody receives: the op is over, and the buffer is out. */
static unsigned char *send_unheard(const int *pair)
{
    unsigned char *data = filled(SIZE);
    unsigned char *const was = data;
    const uint32_t before = engine.zerocopies_held;
    EXPECT_EQ(begin(0, takt_send_lease(pair[1], &pool, &data, SIZE)), 0);
    EXPECT_EQ(end_of(0), SIZE);
    pump(0);
    EXPECT_EQ(engine.zerocopies_held, before + 1);
    return was;
}

/* E10, C6: the op is over first; the buffer is the kernel's until it says otherwise */
static void the_buffer_is_the_kernels_after_the_op(void)
{
    unsigned char *was, *stale;
    int pair[2];
    setup();
    connection(pair);
    stale = was = send_unheard(pair);
    EXPECT_EQ(pool.in_use, 1);
    EXPECT_EQ(takt_bufs_put(&pool, &stale), TAKT_EBUFFER);
    for (int i = 0; i < 3; i++) { /* nobody else gets it */
        unsigned char *const other = takt_bufs_take(&pool);
        EXPECT(other && other != was);
        memset(other, 0, SIZE);
    }
    EXPECT(takt_bufs_take(&pool) == NULL);
#if defined(TAKT__ASAN)
    EXPECT(__asan_region_is_poisoned(was, SIZE) == was);
#endif
    expect_bytes(pair[0], 0, SIZE);
    PUMP_UNTIL(engine.zerocopies_held == 0);
    EXPECT_EQ(pool.in_use, 3);
#if defined(TAKT__ASAN)
    EXPECT(__asan_region_is_poisoned(was, SIZE) == NULL);
#endif
    for (uint32_t i = 0; i < 4; i++) {
        unsigned char *data = pool.memory + i * SIZE;
        takt_bufs_put(&pool, &data);
    }
    close(pair[0]);
    close(pair[1]);
    finish();
}

/* E11: the sender's close does not bring it back, the receiver's reading does */
static void it_outlives_the_descriptor(void)
{
    int pair[2];
    setup();
    connection(pair);
    send_unheard(pair);
    EXPECT_EQ(begin(1, takt_close(pair[1])), 0);
    EXPECT_EQ(end_of(1), 0); /* a close does not wait for it */
    pump(20 * TAKT_MS);
    EXPECT_EQ(engine.zerocopies_held, 1);
    expect_bytes(pair[0], 0, SIZE);
    PUMP_UNTIL(pool.in_use == 0);
    close(pair[0]);
    finish();
}

/* F4, E11: a reset, by either side, brings it back at once */
static void a_reset_brings_it_back(void)
{
    int pair[2];
    for (int side = 0; side < 2; side++) {
        setup();
        connection(pair);
        send_unheard(pair);
        reset(pair[side]);
        PUMP_UNTIL(pool.in_use == 0);
        close(pair[!side]);
        finish();
    }
}

/* E11: so many at a time; the next one is copied, and its buffer is back at once */
static void with_all_loans_out_it_copies(void)
{
    unsigned char *data;
    int pair[2], other[2];
    wanted.zerocopy_max = 1;
    setup();
    connection(pair);
    connection(other);
    send_unheard(pair);
    data = filled(SIZE);
    EXPECT_EQ(begin(1, takt_send_lease(other[1], &pool, &data, SIZE)), 0);
    EXPECT_EQ(end_of(1), SIZE);
    EXPECT_EQ(pool.in_use, 1);
    EXPECT_EQ(engine.zerocopies, 1);
    expect_bytes(other[0], 0, SIZE);
    expect_bytes(pair[0], 0, SIZE);
    PUMP_UNTIL(pool.in_use == 0);
    data = filled(SIZE);
    EXPECT_EQ(begin(1, takt_send_lease(other[1], &pool, &data, SIZE)), 0);
    expect_bytes(other[0], 0, SIZE);
    EXPECT_EQ(end_of(1), SIZE);
    EXPECT_EQ(engine.zerocopies, 2); /* there is a loan again */
    PUMP_UNTIL(pool.in_use == 0);
    for (int i = 0; i < 2; i++) {
        close(pair[i]);
        close(other[i]);
    }
    finish();
}

/* E11, E17: slow receivers keep half of a pool at most, and each a quarter */
static void who_does_not_receive_starves_nobody(void)
{
    const uint32_t held[][3] = {{1, 2, 2}, {3, 4, 4}, {4, 4, 4}};
    unsigned char *data;
    int pair[3][2];
    setup_with(8, SIZE);
    for (int i = 0; i < 3; i++) {
        connection(pair[i]);
        for (int n = 0; n < 3; n++) {
            data = filled(SIZE);
            EXPECT_EQ(begin(0, takt_send_lease(pair[i][1], &pool, &data, SIZE)), 0);
            EXPECT_EQ(end_of(0), SIZE);
            pump(0);
            EXPECT_EQ(engine.zerocopies_held, held[i][n]);
            EXPECT_EQ(pool.in_use, held[i][n]);
            EXPECT_EQ(pool.sending, held[i][n]);
        }
    }
    reset(pair[0][0]); /* it gives back what it had */
    PUMP_UNTIL(pool.in_use == 2);
    data = filled(SIZE);
    EXPECT_EQ(begin(0, takt_send_lease(pair[2][1], &pool, &data, SIZE)), 0);
    EXPECT_EQ(end_of(0), SIZE);
    pump(0);
    EXPECT_EQ(pool.in_use, 3);
    for (int i = 1; i < 3; i++)
        for (int n = 0; n < 3 + (i == 2); n++)
            expect_bytes(pair[i][0], 0, SIZE);
    PUMP_UNTIL(pool.in_use == 0);
    EXPECT_EQ(pool.sending, 0);
    for (int i = 0; i < 3; i++)
        EXPECT_EQ(engine.fds.at[pair[i][1]].bits / TAKT__FD_LOAN, 0);
    for (int i = 0; i < 3; i++) {
        close(pair[i][1]);
        if (i)
            close(pair[i][0]);
    }
    finish();
}

/* A3, R3: a ring that fails keeps what it was handed */
static void a_ring_that_fails_keeps_what_it_has(void)
{
    unsigned char *memory;
    for (int from = 1; from <= 1000; from += 999) { /* without a copy, and with one */
        setup_script();
        engine.zerocopy_from = (uint32_t)from;
        {
            unsigned char *data = filled(100);
            EXPECT_EQ(begin(0, takt_send_lease(0, &pool, &data, 100)), 0);
            pump(0);
        }
        EXPECT_EQ(script.asked[0].opcode, from == 1 ? IORING_OP_SEND_ZC : IORING_OP_SEND);
        engine.fatal = -EPERM;
        takt_uring_free(&engine);
        script.on = false;
        EXPECT_EQ(pool.in_use, 1);
        EXPECT_EQ(pool.lost, 1);
        memory = pool.memory;
        takt_bufs_free(&pool);
#if defined(TAKT__ASAN)
        __asan_unpoison_memory_region(memory, 4 * SIZE);
#endif
        our_free(memory);
        EXPECT_EQ(memory_live, 0);
    }
}

/* K1: who waits for a buffer is served when the kernel gives one back */
static void one_who_waits_for_it_gets_it(void)
{
    unsigned char *got = NULL;
    int pair[2], other[2];
    unsigned char *another;
    wanted.zerocopy_always = true;
    setup_with(2, SIZE);
    another = takt_bufs_take(&pool);
    connection(pair);
    connection(other);
    send_unheard(pair);
    EXPECT_EQ(begin(1, takt_recv_lease(other[0], &pool, &got)), 0);
    EXPECT_EQ(send(other[1], "x", 1, MSG_NOSIGNAL), 1);
    pump(10 * TAKT_MS);
    pump(10 * TAKT_MS);
    EXPECT(!ended[1] && !got);
    expect_bytes(pair[0], 0, SIZE);
    EXPECT_EQ(end_of(1), 1);
    EXPECT(got && *got == 'x');
    takt_bufs_put(&pool, &got);
    send_unheard(pair);
    EXPECT_EQ(begin(1, takt_lease(&pool, &got)), 0); /* it wants one to fill */
    pump(10 * TAKT_MS);
    EXPECT(!ended[1]);
    expect_bytes(pair[0], 0, SIZE);
    EXPECT_EQ(end_of(1), SIZE);
    takt_bufs_put(&pool, &got);
    takt_bufs_put(&pool, &another);
    for (int i = 0; i < 2; i++) {
        close(pair[i]);
        close(other[i]);
    }
    finish();
}

/* R5, E11: what the kernel still reads when the backend goes is never used again */
static void what_never_comes_back_is_kept(void)
{
    unsigned char *memory;
    uint32_t *next;
    int pair[2];
    setup();
    connection(pair);
    send_unheard(pair);
    memory = pool.memory;
    next = pool.next;
    logs = 0;
    EXPECT_EQ(takt_uring_end(&engine, 20 * TAKT_MS), -EBUSY);
    EXPECT_EQ(logs, 1);
    EXPECT_EQ(pool.in_use, 1);
    EXPECT_EQ(pool.sending, 1);
    EXPECT_EQ(pool.lost, 1);
    takt_bufs_free(&pool);
    EXPECT_EQ(memory_live, 1); /* its memory */
    {
        static char all[SIZE];
        size_t got = 0;
        ssize_t n;
        fcntl(pair[0], F_SETFL, 0);
        while (got < SIZE && (n = recv(pair[0], all, sizeof all, 0)) > 0)
            got += (size_t)n;
        EXPECT_EQ(got, SIZE); /* and its bytes arrive */
    }
    (void)next;
#if defined(TAKT__ASAN)
    __asan_unpoison_memory_region(memory, 4 * SIZE);
#endif
    our_free(memory);
    close(pair[0]);
    close(pair[1]);
    EXPECT_EQ(memory_live, 0);
}

TAKT_LOOP(net, takt_uring);

struct sends {
    takt_frame frame;
    int fd; /* in */
    unsigned char *data;
};

static TAKT_CORO(sends)
{
    TAKT_BEGIN(sends, my);
    TAKT_AWAIT(takt_lease(&pool, &my->data));
    TAKT_AWAIT(takt_send_lease(my->fd, &pool, &my->data, SIZE));
    TAKT_END;
}

/* The same of a loop: its free waits for as long as it was told, and says what came of it */
static void a_free_says_what_it_left(void)
{
    for (int late = 0; late < 2; late++) {
        net_config config = net_defaults();
        static struct sends one;
        static net loop;
        takt_ns began, took;
        int pair[2];
        config.backend = wanted;
        config.loop.reap_limit = late ? 30 * TAKT_MS : 10 * TAKT_SEC;
        EXPECT_EQ(net_init(&loop, &config), 0);
        EXPECT_EQ(takt_bufs_init(&pool, 4, SIZE), 0);
        connection(pair);
        EXPECT(TAKT_START_ON(&loop, one, sends, .fd = pair[1]));
        EXPECT_EQ(net_run(&loop), 0);
        EXPECT_EQ(pool.in_use, 1); /* the peer has not read */
        if (!late)
            reset(pair[0]);
        began = takt_uring_now(&engine);
        EXPECT_EQ(net_free(&loop), late ? -EBUSY : 0);
        took = takt_uring_now(&engine) - began;
        EXPECT(late ? took >= 30 * TAKT_MS && took < TAKT_SEC : took < 5 * TAKT_SEC);
        EXPECT_EQ(pool.lost, late);
        if (late) {
            unsigned char *const memory = pool.memory;
            takt_bufs_free(&pool);
            EXPECT_EQ(memory_live, 1);
            reset(pair[0]);
            poll(NULL, 0, 20);
#if defined(TAKT__ASAN)
            __asan_unpoison_memory_region(memory, 4 * SIZE);
#endif
            our_free(memory);
        } else {
            takt_bufs_free(&pool);
        }
        close(pair[1]);
        EXPECT_EQ(memory_live, 0);
    }
}

/* -- where it cannot be, or is no use ----------------------------------------------- */

/* E12: a socket that cannot do it copies, then and from then on */
static void a_socket_that_cannot_copies(void)
{
    unsigned char *data;
    int pair[2];
    setup();
    for (int again = 0; again < 2; again++) {
        EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
        for (int i = 0; i < 2; i++) {
            data = filled(SIZE);
            EXPECT_EQ(begin(0, takt_send_lease(pair[1], &pool, &data, SIZE)), 0);
            expect_bytes(pair[0], 0, SIZE);
            EXPECT_EQ(end_of(0), SIZE);
            EXPECT_EQ(engine.zerocopies, again + 1); /* it was tried once */
            PUMP_UNTIL(pool.in_use == 0);
        }
        close(pair[0]);
        EXPECT_EQ(begin(1, takt_close(pair[1])), 0); /* its number may be another's next */
        EXPECT_EQ(end_of(1), 0);
    }
    finish();
}

/* E12: where the system says that it copied after all, it is not asked again */
static void where_it_is_no_use_it_copies(void)
{
    unsigned char *data;
    int pair[2];
    for (int always = 0; always < 2; always++) {
        wanted.zerocopy_always = always;
        setup();
        connection(pair);
        for (int i = 0; i < 3; i++) {
            data = filled(SIZE);
            EXPECT_EQ(begin(0, takt_send_lease(pair[1], &pool, &data, SIZE)), 0);
            expect_bytes(pair[0], 0, SIZE);
            EXPECT_EQ(end_of(0), SIZE);
            PUMP_UNTIL(pool.in_use == 0);
        }
        if (engine.zerocopy_flags) /* Linux 6.2 tells */
            EXPECT_EQ(engine.zerocopies, always ? 3 : 1);
        EXPECT_EQ(engine.zerocopies_copied, engine.zerocopy_flags ? engine.zerocopies : 0);
        close(pair[0]);
        close(pair[1]);
        finish();
    }
}

/* E13: where so much memory may not be locked, that one is copied */
static void without_memory_to_lock(void)
{
    const struct rlimit little = {256 << 10, 256 << 10};
    const uid_t nobody = 70000 + (uid_t)getpid() % 100000;
    unsigned char *data;
    int pair[2];
    EXPECT_EQ(setrlimit(RLIMIT_MEMLOCK, &little), 0);
    EXPECT_EQ(setresuid(nobody, nobody, nobody), 0);
    setup_with(2, 1 << 20); /* a ring of root's is not bound by it */
    connection(pair);
    data = filled(1 << 20);
    EXPECT_EQ(begin(0, takt_send_lease(pair[1], &pool, &data, 1 << 20)), 0);
    expect_bytes(pair[0], 0, 1 << 20);
    EXPECT_EQ(end_of(0), 1 << 20);
    EXPECT_EQ(engine.zerocopies, 1);
    PUMP_UNTIL(pool.in_use == 0);
    EXPECT(!(engine.fds.at[pair[1]].bits & TAKT__FD_COPIES)); /* another may not be */
    close(pair[0]);
    close(pair[1]);
    takt_uring_free(&engine);
    takt_bufs_free(&pool);
}

static void in_child(void (*run)(void))
{
    int status = -1;
    pid_t child;
    fflush(stdout);
    child = fork();
    if (child == 0) {
        test_failures = 0;
        run();
        fflush(stdout);
        _exit(test_failures != 0);
    }
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
}

static void memory_that_may_not_be_locked(void)
{
    if (geteuid() != 0)
        return; /* it cannot become somebody whom the limit binds */
    in_child(without_memory_to_lock);
}

/* -- the orders that completions can come in -------------------------------------------- */

/* Sends the bytes of a buffer; the request is the script's number `i`. */
static void ask(int i, size_t len)
{
    unsigned char *data = filled(len);
    EXPECT_EQ(begin(0, takt_send_lease(0, &pool, &data, len)), 0);
    pump(0);
    EXPECT_EQ(script.count, i + 1);
    EXPECT_EQ(script.asked[i].opcode, IORING_OP_SEND_ZC);
    EXPECT_EQ(script.asked[i].ioprio, engine.zerocopy_flags);
    EXPECT_EQ(script.asked[i].len, len);
    EXPECT(!ended[0]);
}

/* Descriptor 0 is entered into the table only: no system call sees it. */
static void expect_end(int64_t result, uint32_t in_use)
{
    pump(0);
    EXPECT(ended[0]);
    EXPECT_EQ(values[0], result);
    EXPECT_EQ(pool.in_use, in_use);
}

/* C6: first the result, then the buffer; an error is no different */
static void every_result_may_have_a_second(void)
{
    const int codes[] = {100, -EPIPE, -ECONNRESET, -EFAULT, -EBADF};
    setup_script();
    for (int i = 0; i < 5; i++) {
        ask(2 * i, 100);
        push(2 * i, codes[i], MORE);
        expect_end(codes[i], 1);
        push(2 * i, 0, NOTIF);
        pump(0);
        EXPECT_EQ(pool.in_use, 0);
        ask(2 * i + 1, 100); /* and without a second */
        push(2 * i + 1, codes[i], 0);
        expect_end(codes[i], 0);
    }
    EXPECT_EQ(engine.stale, 0);
    finish();
}

/* C5: should the second be first, the buffer still waits for the result */
static void the_second_may_be_first(void)
{
    setup_script();
    ask(0, 100);
    push(0, 0, NOTIF);
    pump(0);
    EXPECT(!ended[0]);
    EXPECT_EQ(pool.in_use, 1);
    push(0, 100, MORE);
    expect_end(100, 0);
    EXPECT_EQ(engine.stale, 0);
    finish();
}

/* F7, C5: parts are one op; seconds may come in any order, and each is waited for */
static void parts_have_seconds_of_their_own(void)
{
    setup_script();
    ask(0, 100);
    push(0, 30, MORE);
    pump(0);
    pump(0);
    EXPECT(!ended[0]);
    EXPECT_EQ(script.count, 2);
    EXPECT_EQ(script.asked[1].len, 70);
    EXPECT_EQ(script.asked[1].addr, script.asked[0].addr + 30);
    push(1, 70, MORE);
    expect_end(100, 1);
    push(1, 0, NOTIF);
    pump(0);
    EXPECT_EQ(pool.in_use, 1);
    push(0, 0, NOTIF);
    pump(0);
    EXPECT_EQ(pool.in_use, 0);
    ask(2, 100); /* the first's comes before the rest is sent */
    push(2, 30, MORE);
    push(2, 0, NOTIF);
    pump(0);
    pump(0);
    EXPECT_EQ(pool.in_use, 1);
    push(3, -ECONNRESET, MORE); /* and the rest fails */
    expect_end(-ECONNRESET, 1);
    EXPECT_EQ(slot_memory[0].op.extra - slot_memory[0].op.len, 30);
    push(3, 0, NOTIF);
    pump(0);
    EXPECT_EQ(pool.in_use, 0);
    EXPECT_EQ(engine.stale, 0);
    finish();
}

/* B11: one that would have to wait asks for readiness, and tries again */
static void one_that_would_block_waits(void)
{
    setup_script();
    ask(0, 100);
    push(0, -EAGAIN, MORE);
    push(0, 0, NOTIF);
    pump(0);
    pump(0);
    EXPECT_EQ(script.count, 2);
    EXPECT_EQ(script.asked[1].opcode, IORING_OP_POLL_ADD);
    push(1, POLLOUT, 0);
    pump(0);
    pump(0);
    EXPECT_EQ(script.count, 3);
    EXPECT_EQ(script.asked[2].opcode, IORING_OP_SEND_ZC);
    push(2, 100, MORE);
    push(2, 0, NOTIF);
    expect_end(100, 0);
    EXPECT_EQ(engine.stale, 0);
    finish();
}

/* E12, E13: what it lacks, a request that copies does without; the buffer waits for both */
static void what_it_lacks_a_copy_does_without(void)
{
    const int errors[] = {-ENOMEM, -ENOBUFS, -EOPNOTSUPP};
    for (int i = 0; i < 3; i++) {
        setup_script();
        ask(0, 100);
        push(0, errors[i], MORE);
        pump(0);
        pump(0);
        EXPECT(!ended[0]);
        EXPECT_EQ(script.count, 2);
        EXPECT_EQ(script.asked[1].opcode, IORING_OP_SEND);
        EXPECT_EQ(script.asked[1].ioprio, 0);
        EXPECT_EQ(script.asked[1].len, 100);
        push(1, 40, 0); /* a part */
        pump(0);
        pump(0);
        EXPECT_EQ(script.asked[2].opcode, IORING_OP_SEND);
        EXPECT_EQ(script.asked[2].len, 60);
        push(2, 60, 0);
        expect_end(100, 1);
        push(0, 0, NOTIF);
        pump(0);
        EXPECT_EQ(pool.in_use, 0);
        EXPECT_EQ(engine.stale, 0);
        finish();
    }
}

/* D1, C10: asked to stop, it is over with its own completion; unasked, it is no cancel */
static void a_cancel_waits_for_the_result(void)
{
    setup_script();
    ask(0, 100);
    takt_uring_cancel(&engine, &slot_memory[0].op);
    pump(0);
    EXPECT(!ended[0]);
    EXPECT_EQ(script.asked[1].opcode, IORING_OP_ASYNC_CANCEL);
    EXPECT_EQ(script.asked[1].addr, script.asked[0].user_data);
    push(1, 0, 0);
    pump(0);
    EXPECT(!ended[0]);
    push(0, -ECANCELED, MORE);
    expect_end(TAKT_ECANCELED, 1);
    push(0, 0, NOTIF);
    pump(0);
    EXPECT_EQ(pool.in_use, 0);
    ask(2, 100);
    takt_uring_cancel(&engine, &slot_memory[0].op); /* what it lacks now is no matter */
    push(2, -ENOMEM, MORE);
    expect_end(-ENOMEM, 1);
    push(2, 0, NOTIF);
    pump(0);
    EXPECT_EQ(pool.in_use, 0);
    ask(4, 100);
    push(4, -ECANCELED, 0);
    expect_end(-EAGAIN, 0);
    finish();
}

/* C4, C11, C17: what nobody is owed changes nothing, and gives back nothing twice */
static void what_is_owed_to_nobody_is_dropped(void)
{
    struct io_uring_sqe *const forged = &script.asked[ASKED_MAX - 1];
    uint64_t stale = 0;
    setup_script();
    ask(0, 100);
    *forged = script.asked[0];
    push(0, 100, MORE);
    expect_end(100, 1);
    push(0, 100, 0); /* its result comes twice */
    push(0, -EIO, MORE);
    pump(0);
    EXPECT_EQ(engine.stale, stale += 2);
    EXPECT_EQ(pool.in_use, 1);
    push(0, 0, NOTIF);
    push(0, 0, NOTIF); /* its second too */
    pump(0);
    EXPECT_EQ(engine.stale, stale += 1);
    EXPECT_EQ(pool.in_use, 0);
    ask(1, 100); /* in the same loan */
    push(0, 50, MORE);
    push(0, 0, NOTIF);
    forged->user_data = TAKT__RING_KEY_LOAN | 77; /* no such loan */
    push(ASKED_MAX - 1, 0, NOTIF);
    push(ASKED_MAX - 1, 0, MORE);
    forged->user_data = takt_token_of(&slot_memory[0].op); /* the op, but not its key */
    push(ASKED_MAX - 1, 100, 0);
    pump(0);
    EXPECT_EQ(engine.stale, stale += 5);
    EXPECT(!ended[0]);
    EXPECT_EQ(pool.in_use, 1);
    push(1, 0, NOTIF);
    push(1, 0, NOTIF);
    pump(0);
    EXPECT_EQ(engine.stale, stale += 1);
    push(1, 100, MORE);
    expect_end(100, 0);
    finish();
}

/* -- coroutines -------------------------------------------------------------------- */

struct sender {
    takt_frame frame;
    int fd, count, times;
    takt_ns limit;
    int64_t result;
    uint64_t done;
    unsigned char *data;
};

static TAKT_CORO(sender)
{
    TAKT_BEGIN(sender, my);
    TAKT_DEFER { takt_bufs_put(&pool, &my->data); }
    for (; my->times < my->count; my->times++) {
        my->data = filled(SIZE);
        TAKT_TRY_AWAIT(my->result,
                       takt_within(my->limit, takt_send_lease(my->fd, &pool, &my->data, SIZE)));
        my->done = takt_done(&my->frame);
        if (my->result < 0)
            TAKT_RETURN;
    }
    TAKT_END;
}

static net loop;

static void setup_loop(uint32_t count)
{
    net_config config = net_defaults();
    config.backend = wanted;
    EXPECT_EQ(net_init(&loop, &config), 0);
    EXPECT_EQ(takt_bufs_init(&pool, count, SIZE), 0);
}

/* R3: the frame may go before its bytes have gone; nobody waits for them but the free */
static void the_coroutine_ends_before_its_buffer_is_back(void)
{
    struct sender *const one = (struct sender *)calloc(1, sizeof *one);
    int pair[2];
    setup_loop(4);
    connection(pair);
    EXPECT(TAKT_START_ON(&loop, *one, sender, .fd = pair[1], .count = 1, .limit = TAKT_SEC));
    EXPECT_EQ(net_run(&loop), 0);
    EXPECT(takt_finished(&one->frame));
    EXPECT_EQ(one->result, SIZE);
    free(one);
    EXPECT_EQ(loop.backend.zerocopies_held, 1);
    reset(pair[1]);
    EXPECT_EQ(net_free(&loop), 0);
    EXPECT_EQ(pool.in_use, 0);
    takt_bufs_free(&pool);
    close(pair[0]);
    EXPECT_EQ(memory_live, 0);
}

/* What never began has sent nothing, and the buffer is still the sender's. */
static void what_is_refused_has_sent_nothing(void)
{
    struct sender one;
    memset(&one, 0, sizeof one);
    one.done = 1;
    setup_loop(4);
    EXPECT(TAKT_START_ON(&loop, one, sender, .fd = -1, .count = 1, .limit = TAKT_SEC));
    EXPECT_EQ(net_run(&loop), 0);
    EXPECT_EQ(one.result, -EBADF);
    EXPECT_EQ(one.done, 0);
    EXPECT_EQ(net_free(&loop), 0);
    EXPECT_EQ(pool.in_use, 0);
    takt_bufs_free(&pool);
}

/* A limit ends the wait; what had gone is told; what waits is cancelled by drain */
static void a_limit_and_a_drain_end_it(void)
{
    struct sender one, two;
    int pair[2];
    memset(&one, 0, sizeof one);
    memset(&two, 0, sizeof two);
    for (int posix = 0; posix < 2; posix++) {
        wanted.mode = posix ? TAKT_URING_NEVER : TAKT_URING_ONLY;
        setup_loop(64);
        connection(pair);
        EXPECT(TAKT_START_ON(&loop, one, sender, .fd = pair[1], .count = 60,
                             .limit = 20 * TAKT_MS));
        EXPECT_EQ(net_run(&loop), 0);
        EXPECT_EQ(one.result, -ETIMEDOUT);
        EXPECT(one.times > 0 && one.done < SIZE);
        EXPECT(TAKT_START_ON(&loop, two, sender, .fd = pair[1], .count = 1,
                             .limit = TAKT_FOREVER));
        for (int i = 0; i < 3; i++)
            net_turn(&loop, TAKT_MS, 0);
        EXPECT(takt_alive(&two.frame));
        reset(pair[0]);
        net_drain(&loop);
        EXPECT(!takt_alive(&two.frame));
        EXPECT_EQ(net_free(&loop), 0);
        EXPECT_EQ(pool.in_use, 0);
        takt_bufs_free(&pool);
        close(pair[1]);
        EXPECT_EQ(memory_live, 0);
    }
}

struct crowd {
    takt_frame frame;
    const int *fds;
    unsigned char *data[4];
    takt_op ops[4];
};

static TAKT_CORO(crowd)
{
    TAKT_BEGIN(crowd, my);
    for (int i = 0; i < 4; i++) {
        my->data[i] = filled(SIZE);
        my->ops[i] = takt_send_lease(my->fds[i], &pool, &my->data[i], SIZE);
    }
    TAKT_AWAIT_ALL(my->ops, 4);
    TAKT_END;
}

/* In a batch as alone */
static void a_batch_of_them(void)
{
    struct crowd one;
    int pair[4][2], fds[4];
    memset(&one, 0, sizeof one);
    setup_loop(4);
    for (int i = 0; i < 4; i++) {
        connection(pair[i]);
        fds[i] = pair[i][1];
    }
    EXPECT(TAKT_START_ON(&loop, one, crowd, .fds = fds));
    EXPECT_EQ(net_run(&loop), 0);
    for (int i = 0; i < 4; i++) {
        EXPECT_EQ(one.ops[i].result, SIZE);
        EXPECT(one.data[i] == NULL);
        reset(pair[i][0]);
        close(pair[i][1]);
    }
    EXPECT_EQ(net_free(&loop), 0);
    EXPECT_EQ(pool.in_use, 0);
    takt_bufs_free(&pool);
    EXPECT_EQ(memory_live, 0);
}

/* -- main --------------------------------------------------------------------------- */

static const test everywhere[] = {
    TEST(a_buffer_goes_over_and_comes_back),
    TEST(what_is_refused_is_not_taken),
    TEST(one_that_is_cut_short_comes_back),
    TEST(a_buffer_is_waited_for_in_turn),
    TEST(what_a_stream_does_not_use_is_for_those_who_wait),
};

static const test with_zerocopy[] = {
    TEST(the_buffer_is_the_kernels_after_the_op),
    TEST(it_outlives_the_descriptor),
    TEST(a_reset_brings_it_back),
    TEST(with_all_loans_out_it_copies),
    TEST(who_does_not_receive_starves_nobody),
    TEST(a_ring_that_fails_keeps_what_it_has),
    TEST(one_who_waits_for_it_gets_it),
    TEST(what_never_comes_back_is_kept),
    TEST(a_free_says_what_it_left),
    TEST(a_socket_that_cannot_copies),
    TEST(where_it_is_no_use_it_copies),
    TEST(memory_that_may_not_be_locked),
    TEST(every_result_may_have_a_second),
    TEST(the_second_may_be_first),
    TEST(parts_have_seconds_of_their_own),
    TEST(one_that_would_block_waits),
    TEST(what_it_lacks_a_copy_does_without),
    TEST(a_cancel_waits_for_the_result),
    TEST(what_is_owed_to_nobody_is_dropped),
    TEST(the_coroutine_ends_before_its_buffer_is_back),
        TEST(what_is_refused_has_sent_nothing),
    TEST(a_limit_and_a_drain_end_it),
    TEST(a_batch_of_them),
};

static bool there_is_zerocopy(void)
{
    bool is;
    setup();
    is = engine.on_ring && engine.rungs & TAKT_URING_NO_SEND_ZC;
    finish();
    return is;
}

static int passed, failed;

/* All of `tests`, without some rungs of the ladder. */
static void run_all(const test *tests, size_t count, uint32_t disable, int argc, char **argv)
{
    for (size_t i = 0; i < count; i++) {
        if (!test_wanted(tests[i].name, argc, argv))
            continue;
        memset(&wanted, 0, sizeof wanted);
        wanted.disable = disable;
        test_failures = 0;
        tests[i].run();
        script.on = false;
        if (test_failures)
            printf("FAIL %s%s\n", tests[i].name, disable ? ", completions at any time" : "");
        failed += test_failures > 0;
        passed += test_failures == 0;
    }
}

int main(int argc, char **argv)
{
    const uint32_t at_any_time = TAKT_URING_NO_DEFER_TASKRUN | TAKT_URING_NO_COOP_TASKRUN |
                                 TAKT_URING_NO_SINGLE_ISSUER;
    setvbuf(stdout, NULL, _IOLBF, 0);
    run_all(everywhere, sizeof everywhere / sizeof everywhere[0], 0, argc, argv);
    memset(&wanted, 0, sizeof wanted);
    if (there_is_zerocopy()) {
        run_all(with_zerocopy, sizeof with_zerocopy / sizeof with_zerocopy[0], 0, argc, argv);
        run_all(with_zerocopy, sizeof with_zerocopy / sizeof with_zerocopy[0], at_any_time, argc,
                argv);
    } else {
        printf("no sends without copying here\n");
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0;
}

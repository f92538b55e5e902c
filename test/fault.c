/*
 * fault.c - what the kernel, the machine and its users do to a ring
 *
 * The backend is asked directly, on a real ring. Where no machine can be made to fail on
 * demand, what stands between takt and the kernel is in the way: it refuses a call, spoils a
 * request before the kernel reads it, or changes a completion before takt does. Each test names
 * the faults of test/fault/COVERAGE.md that it provokes.
 */
#include <liburing.h>
#include <stdlib.h>

static int fault_enter(unsigned fd, unsigned submit, unsigned wait, unsigned flags, sigset_t *arg,
                       size_t size);
static int fault_setup(unsigned entries, struct io_uring *ring, struct io_uring_params *params);
static int fault_buf_ring(struct io_uring *ring, struct io_uring_buf_reg *reg, unsigned flags);
static void *fault_calloc(size_t count, size_t size);
static void fault_free(void *memory);
static int logs;

#define io_uring_enter2 fault_enter
#define io_uring_queue_init_params fault_setup
#define io_uring_register_buf_ring fault_buf_ring
#define TAKT_CALLOC(count, size) fault_calloc((count), (size))
#define TAKT_FREE(memory) fault_free(memory)
#define TAKT_LOG(text) ((void)(text), logs++)
#define TAKT_IMPLEMENTATION
#include "../takt_uring.h"
#undef io_uring_enter2
#undef io_uring_queue_init_params
#undef io_uring_register_buf_ring

#include "refuse.h"
#include "test.h"

#include <dirent.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* -- what stands in the way ------------------------------------------------- */

static struct fault {
    int enter_error, enter_times;  /* the next calls fail so */
    unsigned setup_unknown;        /* flags that this kernel does not know */
    unsigned setup_without;        /* features that it does not have */
    unsigned setup_most;           /* entries that it has memory for; 0: any */
    int setup_error, setup_times;  /* the next calls fail so */
    int buf_ring_error;            /* registering buffers fails so */
    void (*request)(struct io_uring_sqe *sqe);
    void (*completion)(struct io_uring_cqe *cqe);
    int calls, setups;             /* of enter and setup */
    int overslept;                 /* waits that left requests behind */
    int strange;                   /* requests and rings of a kind that takt does without */
    bool simulated;                /* there is no kernel: each request succeeds at once */
} fault;

static struct memory {
    int live, calls, fails_at; /* the call that fails; 0: none */
} memory;

static takt_uring engine;
static takt_uring *current = &engine; /* in whose way it is */

static void *fault_calloc(size_t count, size_t size)
{
    void *p;
    if (++memory.calls == memory.fails_at)
        return NULL;
    p = calloc(count, size);
    memory.live += p != NULL;
    return p;
}

static void fault_free(void *p)
{
    memory.live -= p != NULL;
    free(p);
}

static int fault_setup(unsigned entries, struct io_uring *ring, struct io_uring_params *params)
{
    const unsigned known = IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL |
                           IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                           IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
    int rc;
    fault.strange += (params->flags & ~known) != 0; /* A11, A19: no SQPOLL, never disabled */
    fault.setups++;
    if (fault.setup_times > 0 && fault.setup_times--)
        return fault.setup_error;
    if (fault.setup_most && entries > fault.setup_most)
        return -ENOMEM;
    if (params->flags & fault.setup_unknown)
        return -EINVAL;
    rc = io_uring_queue_init_params(entries, ring, params);
    ring->features &= ~fault.setup_without;
    return rc;
}

static int fault_buf_ring(struct io_uring *ring, struct io_uring_buf_reg *reg, unsigned flags)
{
    if (fault.buf_ring_error)
        return fault.buf_ring_error;
    return io_uring_register_buf_ring(ring, reg, flags);
}

/* The kinds of requests that there are: each is as old as the oldest kernel that can run takt
 * (B8), but for the one that sends without copying, which zerocopy.c tests. No links, no drain,
 * nothing skipped, nothing forced upon a thread (B2, B14 to B16, A21), no timeout or cancel but
 * the plainest (D6, D7, D8, D16), no close (A26), nobody else's rights (S19). */
static bool is_plain(const struct io_uring_sqe *sqe)
{
    unsigned flags = 0, ioprio = 0;
    switch (sqe->opcode) {
    case IORING_OP_RECV:
    case IORING_OP_RECVMSG:
        flags = IOSQE_BUFFER_SELECT;
        ioprio = IORING_RECV_MULTISHOT;
        break;
    case IORING_OP_ACCEPT:
        ioprio = IORING_ACCEPT_MULTISHOT;
        break;
    case IORING_OP_SEND_ZC:
        ioprio = TAKT__RING_ZC_REPORT_USAGE;
        break;
    case IORING_OP_ASYNC_CANCEL:
        if (sqe->cancel_flags)
            return false;
        break;
    case IORING_OP_TIMEOUT:
        if (sqe->timeout_flags || sqe->off)
            return false;
        break;
    case IORING_OP_NOP:
    case IORING_OP_POLL_ADD:
    case IORING_OP_SEND:
    case IORING_OP_SENDMSG:
    case IORING_OP_CONNECT:
    case IORING_OP_READ:
    case IORING_OP_WRITE:
        break;
    default:
        return false;
    }
    return !(sqe->flags & ~flags) && !(sqe->ioprio & ~ioprio) && sqe->len <= 1u << 30 &&
           sqe->personality == 0 && sqe->file_index == 0;
}

/* A kernel of NOPs, to which every index is as good as the next. */
static int fault_simulate(unsigned submit)
{
    struct io_uring_sq *const sq = &current->ring.sq;
    struct io_uring_cq *const cq = &current->ring.cq;
    for (unsigned i = 0; i < submit; i++) {
        struct io_uring_cqe *const cqe = &cq->cqes[*cq->ktail & cq->ring_mask];
        cqe->user_data = sq->sqes[*sq->khead & sq->ring_mask].user_data;
        cqe->res = 0;
        cqe->flags = 0;
        *sq->khead += 1;
        *cq->ktail += 1;
    }
    return (int)submit;
}

static int fault_enter(unsigned fd, unsigned submit, unsigned wait, unsigned flags, sigset_t *arg,
                       size_t size)
{
    struct io_uring_sq *const sq = &current->ring.sq;
    struct io_uring_cq *const cq = &current->ring.cq;
    unsigned seen = *cq->ktail;
    int rc;
    fault.calls++;
    fault.strange += flags & IORING_ENTER_EXT_ARG && fault.setup_without & IORING_FEAT_EXT_ARG;
    if (fault.enter_times > 0 && fault.enter_times--)
        return fault.enter_error;
    if (wait && *sq->ktail - *sq->khead != submit)
        fault.overslept++;
    if (fault.simulated)
        return fault_simulate(submit);
    for (unsigned i = *sq->khead; i != *sq->ktail; i++) {
        struct io_uring_sqe *const sqe = &sq->sqes[i & sq->ring_mask];
        if (fault.request)
            fault.request(sqe);
        else
            fault.strange += !is_plain(sqe);
    }
    rc = io_uring_enter2(fd, submit, wait, flags, arg, size);
    for (; fault.completion && seen != *cq->ktail; seen++)
        fault.completion(&cq->cqes[seen & cq->ring_mask]);
    return rc;
}

/* -- the driver -------------------------------------------------------------- */

enum { SLOTS = 2200, BATCH = 64 };

#include "slots.h"

static takt_uring_config wanted;
static takt_completion last[SLOTS]; /* of each slot */
static int items[SLOTS], ends[SLOTS];
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

static void forget(void)
{
    current = &engine;
    slots_clear();
    memset(ends, 0, sizeof ends);
    memset(items, 0, sizeof items);
}

static void setup(void)
{
    open_before = open_descriptors();
    forget();
    EXPECT_EQ(takt_uring_init(&engine, &wanted, &slots), 0);
    EXPECT(engine.on_ring);
}

static void finish(void)
{
    EXPECT_EQ(fault.strange, 0);
    memset(&fault, 0, sizeof fault);
    takt_uring_free(&engine);
    if (pool.count) {
        EXPECT_EQ(pool.in_use, 0);
        EXPECT_EQ(pool.kept, 0);
        takt_bufs_free(&pool);
    }
    EXPECT_EQ(memory.live, 0);
    EXPECT_EQ(open_descriptors(), open_before);
}

static int begin(int i, takt_op op)
{
    ends[i] = items[i] = 0;
    memset(&last[i], 0, sizeof last[i]);
    return slot_begin(&engine, i, op);
}

static void cancel(int i)
{
    takt_uring_cancel(&engine, &slot_memory[i].op);
}

/* One poll. How many came, or an error. */
static int pump(takt_ns wait)
{
    takt_completion done[BATCH];
    const int count = takt_uring_poll(&engine, done, BATCH, wait);
    for (int i = 0; i < count; i++) {
        const uint32_t index = (uint32_t)done[i].token;
        unsigned char *data = (unsigned char *)done[i].payload;
        if (index >= SLOTS || !takt_slot_find(&slots, done[i].token) || ends[index]) {
            EXPECT(false && "a completion is of what is in flight");
            continue;
        }
        items[index]++;
        ends[index] += !(done[i].flags & TAKT_MORE);
        last[index] = done[i];
        if (data)
            EXPECT_EQ(takt_bufs_put(&pool, &data), 0);
    }
    return count;
}

/* Polls until slot `i` is over. Its value or error; -ETIME: it never ends. */
static int64_t end_of(int i)
{
    const takt_ns until = takt_uring_now(&engine) + 20 * TAKT_SEC;
    while (!ends[i]) {
        const takt_ns left = until - takt_uring_now(&engine);
        if (left <= 0 || test_failures > 20) {
            EXPECT(false && "it ends");
            return -ETIME;
        }
        if (pump(left) < 0)
            return engine.fatal;
    }
    return last[i].error ? last[i].error : last[i].value;
}

/* Polls until slot `i` has had `count` items. */
static void expect_items(int i, int count)
{
    const takt_ns until = takt_uring_now(&engine) + 20 * TAKT_SEC;
    while (items[i] < count && takt_uring_now(&engine) < until && pump(TAKT_SEC) >= 0)
        continue;
    EXPECT_EQ(items[i], count);
}

static void pair_of(int type, int *pair)
{
    EXPECT_EQ(socketpair(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
}

static void close_pair(const int *pair)
{
    close(pair[0]);
    close(pair[1]);
}

static void say(int fd, const char *text)
{
    EXPECT_EQ(send(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT), strlen(text));
}

/* A byte there and back, in slot 0: the backend works. */
static void expect_it_works(void)
{
    char c = 0;
    int pair[2];
    pair_of(SOCK_STREAM, pair);
    EXPECT_EQ(begin(0, takt_recv(pair[0], &c, 1)), 0);
    EXPECT_EQ(begin(1, takt_send(pair[1], "x", 1)), 0);
    EXPECT_EQ(end_of(0), 1);
    EXPECT_EQ(end_of(1), 1);
    EXPECT_EQ(c, 'x');
    close_pair(pair);
}

/* `run`, in a process of its own. */
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

/* Another user, whom limits bind, and whom nobody else is. */
static bool become_nobody(void)
{
    const uid_t id = 70000 + (uid_t)getpid() % 100000;
    return setresuid(id, id, id) == 0;
}

static void limit(__rlimit_resource_t what, rlim_t most)
{
    struct rlimit both;
    getrlimit(what, &both);
    both.rlim_cur = most;
    if (what != RLIMIT_NOFILE)
        both.rlim_max = most;
    EXPECT_EQ(setrlimit(what, &both), 0);
}

/* -- A: the ring and what is around it --------------------------------------- */

/* A4: each flag in turn is one that the kernel does not know yet */
static void an_older_kernel_is_met_half_way(void)
{
    static const struct {
        unsigned unknown;
        uint32_t rungs;
    } ages[] = {
        {IORING_SETUP_DEFER_TASKRUN, TAKT_URING_NO_DEFER_TASKRUN},
        {IORING_SETUP_SINGLE_ISSUER, TAKT_URING_NO_SINGLE_ISSUER},
        {IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG, TAKT_URING_NO_COOP_TASKRUN},
        {IORING_SETUP_SUBMIT_ALL, TAKT_URING_NO_SUBMIT_ALL},
    };
    uint32_t without = 0;
    for (size_t i = 0; i < sizeof ages / sizeof ages[0]; i++) {
        fault.setup_unknown |= ages[i].unknown;
        without |= ages[i].rungs;
        setup();
        EXPECT_EQ(engine.rungs & without, 0);
        expect_it_works();
        without |= fault.setup_unknown; /* finish() forgets it */
        finish();
        for (size_t k = 0; k <= i; k++)
            fault.setup_unknown |= ages[k].unknown;
        without = 0;
        for (size_t k = 0; k <= i; k++)
            without |= ages[k].rungs;
    }
    memset(&fault, 0, sizeof fault);
}

/* A4, B9: a kernel that cannot be told how long to wait, and those that lack what is needed */
static void a_kernel_that_lacks_a_feature(void)
{
    static const unsigned needed[] = {IORING_FEAT_NODROP, IORING_FEAT_SUBMIT_STABLE,
                                      IORING_FEAT_FAST_POLL};
    takt_ns begun;
    fault.setup_without = IORING_FEAT_EXT_ARG;
    fault.setup_unknown = IORING_SETUP_DEFER_TASKRUN; /* which is newer */
    setup();
    EXPECT_EQ(engine.rungs & (TAKT_URING_NO_EXT_ARG | TAKT_URING_NO_DEFER_TASKRUN), 0);
    expect_it_works();
    begun = takt_uring_now(&engine);
    EXPECT_EQ(pump(5 * TAKT_MS), 0);
    EXPECT(takt_uring_now(&engine) - begun >= 4 * TAKT_MS);
    finish();
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++) {
        fault.setup_without = needed[i];
        EXPECT_EQ(takt_uring_init(&engine, &wanted, &slots), -EOPNOTSUPP);
        EXPECT_EQ(memory.live, 0);
    }
}

/* A5 */
static void whatever_size_is_asked_for_one_is_given(void)
{
    static const uint32_t sizes[] = {1, 3, 100000}, cq_sizes[] = {0, 1, 5, 1000000};
    for (size_t i = 0; i < 3; i++) {
        for (size_t k = 0; k < 4; k++) {
            wanted.entries = sizes[i];
            wanted.cq_entries = cq_sizes[k];
            setup();
            EXPECT(engine.ring.sq.ring_entries >= 1 && engine.ring.sq.ring_entries <= 32768);
            EXPECT(engine.ring.cq.ring_entries >= engine.ring.sq.ring_entries);
            expect_it_works();
            finish();
        }
    }
}

/* True if rings count against the memory that may be locked, for this user. */
static bool rings_are_counted(void)
{
    struct io_uring ring;
    const int rc = io_uring_queue_init(4096, &ring, 0);
    if (rc == 0)
        io_uring_queue_exit(&ring);
    return rc == -ENOMEM;
}

static void with_little_memory(void)
{
    char text[512];
    limit(RLIMIT_MEMLOCK, 64 << 10);
    if (!become_nobody())
        return;
    if (!rings_are_counted()) {
        printf("  rings are not counted here\n");
        return;
    }
    wanted.entries = 4096;
    for (int i = 0; i < 10; i++) { /* A7: what the last one had comes back late */
        setup();
        EXPECT(engine.ring.sq.ring_entries < 4096);
        expect_it_works();
        finish();
    }
    limit(RLIMIT_MEMLOCK, 0);
    EXPECT_EQ(takt_uring_init(&engine, &wanted, &slots), -ENOMEM);
    wanted.mode = TAKT_URING_AUTO;
    EXPECT_EQ(takt_uring_init(&engine, &wanted, &slots), 0);
    EXPECT(!engine.on_ring);
    EXPECT_EQ(engine.setup_error, -ENOMEM);
    takt_uring_describe(&engine, text, sizeof text);
    EXPECT(strstr(text, "ulimit -l"));
    expect_it_works();
    finish();
}

/* A6, A7: for those whom a limit on locked memory binds */
static void little_locked_memory_makes_a_small_ring_or_none(void)
{
    in_child(with_little_memory);
}

/* A7, A8: a smaller one, and memory that comes back late is waited for, if there is nothing
 * else */
static void the_ring_is_as_large_as_there_is_memory(void)
{
    wanted.entries = 1024;
    fault.setup_most = 32;
    setup();
    EXPECT_EQ(engine.ring.sq.ring_entries, 32);
    expect_it_works();
    finish();

    wanted.entries = 8;
    fault.setup_error = -ENOMEM;
    fault.setup_times = 5;
    setup();
    EXPECT(fault.setups >= 6); /* and more where flags are not known */
    finish();

    wanted.mode = TAKT_URING_AUTO;
    fault.setup_error = -ENOMEM;
    fault.setup_times = 5;
    open_before = open_descriptors();
    EXPECT_EQ(takt_uring_init(&engine, &wanted, &slots), 0);
    EXPECT(!engine.on_ring && fault.setups == 1);
    expect_it_works();
    finish();
}

static void short_of_descriptors(void)
{
    const int before = open_descriptors();
    struct rlimit limits;
    int refused = 0;
    getrlimit(RLIMIT_NOFILE, &limits);
    for (int automatic = 0; automatic < 2; automatic++) {
        wanted.mode = automatic ? TAKT_URING_AUTO : TAKT_URING_ONLY;
        for (int spare = 0; spare < 8; spare++) {
            const int next = dup(0);
            int rc;
            close(next);
            forget();
            limit(RLIMIT_NOFILE, (rlim_t)(next + spare));
            rc = takt_uring_init(&engine, &wanted, &slots);
            EXPECT(rc == 0 || rc == -EMFILE);
            refused += rc == -EMFILE;
            if (rc == 0)
                takt_uring_free(&engine);
            setrlimit(RLIMIT_NOFILE, &limits);
            EXPECT_EQ(open_descriptors(), before);
            EXPECT_EQ(memory.live, 0);
        }
    }
    EXPECT(refused >= 2);
}

/* A9: no descriptor is free, at each place where one is made; and none is left */
static void without_descriptors_nothing_is_left_open(void)
{
    in_child(short_of_descriptors);
    for (int i = 0; i < 50; i++) {
        setup();
        EXPECT(takt_uring_fd(&engine) >= 0);
        finish();
    }
}

static int foreign_result;

static void *poll_elsewhere(void *unused)
{
    takt_completion done[1];
    (void)unused;
    foreign_result = takt_uring_poll(&engine, done, 1, TAKT_MS);
    return NULL;
}

static void in_a_thread(void *(*body)(void *))
{
    pthread_t thread;
    EXPECT_EQ(pthread_create(&thread, NULL, body, NULL), 0);
    pthread_join(thread, NULL);
}

/* A10: a use from elsewhere is the end, not a corruption. In debug builds the loop says so
 * before, see misuse.c. */
static void a_ring_has_one_thread(void)
{
    setup();
    if (engine.rungs & TAKT_URING_NO_SINGLE_ISSUER) {
        EXPECT_EQ(begin(0, takt_nop()), 0);
        in_a_thread(poll_elsewhere);
        EXPECT(foreign_result == -EEXIST || foreign_result == -EBADF || foreign_result == -EINVAL);
        EXPECT_EQ(pump(0), foreign_result);
        EXPECT_EQ(begin(1, takt_nop()), foreign_result);
    }
    finish();
}

/* A12: what the kernel defers is fetched by a poll that does not wait, too */
static void a_poll_that_does_not_wait_sees_what_has_come(void)
{
    char c;
    int pair[2];
    setup();
    pair_of(SOCK_STREAM, pair);
    for (int i = 0; i < 100; i++) {
        EXPECT_EQ(begin(0, takt_recv(pair[0], &c, 1)), 0);
        EXPECT_EQ(pump(0), 0);
        say(pair[1], "x");
        EXPECT(takt_uring_busy(&engine));
        EXPECT_EQ(pump(0), 1);
    }
    close_pair(pair);
    finish();
}

static void touch_the_parents_ring(void)
{
    signal(SIGSEGV, SIG_DFL);
    begin(1, takt_nop());
    pump(0);
}

static void have_a_ring_of_ones_own(void)
{
    setup();
    expect_it_works();
    takt_uring_free(&engine);
}

/* A13: the ring is the parent's; a child that touches it dies, and harms nobody */
static void a_child_cannot_touch_the_ring(void)
{
    static takt_uring kept;
    static takt_slot kept_slots[SLOTS];
    char c = 0;
    int pair[2], status = 0;
    pid_t child;
    setup();
    pair_of(SOCK_STREAM, pair);
    EXPECT_EQ(begin(0, takt_recv(pair[0], &c, 1)), 0);
    EXPECT_EQ(pump(0), 0);
    fflush(stdout);
    child = fork();
    if (child == 0) {
        touch_the_parents_ring();
        _exit(0);
    }
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    kept = engine;
    memcpy(kept_slots, slot_memory, sizeof kept_slots);
    memory.live = 0;
    in_child(have_a_ring_of_ones_own);
    engine = kept;
    memcpy(slot_memory, kept_slots, sizeof kept_slots);
    say(pair[1], "x");
    EXPECT_EQ(end_of(0), 1);
    EXPECT_EQ(engine.stale, 0);
    close_pair(pair);
    memory.live = 0;
    takt_uring_free(&engine);
    memory.live = 0;
    EXPECT_EQ(open_descriptors(), open_before);
}

static int thread_pair[2];
static char thread_byte;

static void *submit_and_leave(void *unused)
{
    (void)unused;
    EXPECT_EQ(begin(0, takt_recv(thread_pair[0], &thread_byte, 1)), 0);
    takt_uring_flush(&engine);
    return NULL;
}

/* A14, C10: who submitted it is gone, and the kernel ends it though nobody asked for that */
static void what_a_thread_left_behind_is_no_cancel(void)
{
    int64_t n;
    wanted.disable = TAKT_URING_NO_SINGLE_ISSUER | TAKT_URING_NO_REGISTERED_RING;
    setup();
    pair_of(SOCK_STREAM, thread_pair);
    in_a_thread(submit_and_leave);
    say(thread_pair[1], "x");
    n = end_of(0);
    EXPECT(n == 1 || n == -EAGAIN);
    if (n < 0)
        EXPECT_EQ(recv(thread_pair[0], &thread_byte, 1, MSG_DONTWAIT), 1);
    EXPECT_EQ(thread_byte, 'x');
    close_pair(thread_pair);
    finish();
}

static void give_minus_ecanceled(struct io_uring_cqe *cqe)
{
    if (!(cqe->user_data & TAKT__RING_KEY_CANCEL))
        cqe->res = -ECANCELED;
}

/* A20, C10: the kernel had nobody to do it; that is no cancel */
static void what_nobody_cancelled_is_not_cancelled(void)
{
    char c;
    int pair[2];
    setup();
    pair_of(SOCK_STREAM, pair);
    fault.completion = give_minus_ecanceled;
    EXPECT_EQ(begin(0, takt_recv(pair[0], &c, 1)), 0);
    say(pair[1], "x");
    EXPECT_EQ(end_of(0), -EAGAIN);
    EXPECT_EQ(begin(0, takt_recv(pair[0], &c, 1)), 0);
    cancel(0);
    EXPECT_EQ(end_of(0), TAKT_ECANCELED);
    close_pair(pair);
    finish();
}

static int accept_error;

/* The connection is gone, too: as when its client has left. */
static void fail_an_accept(struct io_uring_cqe *cqe)
{
    if (cqe->user_data & TAKT__RING_KEY_ACCEPT && cqe->res >= 0) {
        close(cqe->res);
        cqe->res = -accept_error;
        fault.completion = NULL;
    }
}

/* S5: whatever an accept fails with, the next one serves the next. What says "not yet" is asked
 * for again by itself. */
static void an_accept_may_fail_with_anything(void)
{
    static const int errors[] = {EMFILE, ENFILE, ENOBUFS, ENOMEM, ECONNABORTED, EPROTO,
                                 EPERM,  EINTR,  EAGAIN, ENETDOWN, EOPNOTSUPP};
    struct sockaddr_un addr;
    socklen_t len = sizeof addr;
    int listener;
    setup();
    memset(&addr, 0, sizeof addr);
    addr.sun_family = AF_UNIX;
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT(bind(listener, (struct sockaddr *)&addr, sizeof addr.sun_family) == 0 &&
           listen(listener, 10) == 0 &&
           getsockname(listener, (struct sockaddr *)&addr, &len) == 0);
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        int clients[2];
        accept_error = errors[i];
        fault.completion = fail_an_accept;
        for (int k = 0; k < 2; k++) {
            clients[k] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
            EXPECT(connect(clients[k], (struct sockaddr *)&addr, len) == 0);
        }
        EXPECT_EQ(begin(0, takt_accept(listener, NULL)), 0);
        if (accept_error != EINTR && accept_error != EAGAIN) {
            EXPECT_EQ(end_of(0), -accept_error);
            EXPECT_EQ(begin(0, takt_accept(listener, NULL)), 0);
        }
        EXPECT(end_of(0) >= 0 && close((int)last[0].value) == 0);
        close(clients[0]);
        close(clients[1]);
    }
    close(listener);
    finish();
}

static void without_workers(void)
{
    char text[64];
    const int fd = open("/proc/version", O_RDONLY | O_CLOEXEC);
    int64_t n;
    limit(RLIMIT_NPROC, 1);
    if (!become_nobody())
        return;
    setup();
    EXPECT_EQ(begin(0, takt_read(fd, text, sizeof text, 0)), 0);
    n = end_of(0);
    EXPECT(n > 0 || n == -EAGAIN);
    expect_it_works();
    finish();
}

/* A20: in earnest, for a read that the kernel would do by a thread */
static void without_workers_the_rest_goes_on(void)
{
    in_child(without_workers);
}

/* A15: programs that are run inherit nothing */
static void every_descriptor_is_closed_by_an_exec(void)
{
    setup();
    EXPECT(fcntl(engine.ring.ring_fd, F_GETFD) & FD_CLOEXEC);
    EXPECT(fcntl(takt_uring_fd(&engine), F_GETFD) & FD_CLOEXEC);
    finish();
    wanted.mode = TAKT_URING_NEVER;
    open_before = open_descriptors();
    EXPECT_EQ(takt_uring_init(&engine, &wanted, &slots), 0);
    EXPECT(fcntl(takt_uring_fd(&engine), F_GETFD) & FD_CLOEXEC);
    finish();
}

/* The ring's descriptor becomes something else, as with those who close them all. */
static void replace_the_descriptor(void)
{
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    EXPECT(null >= 0);
    EXPECT_EQ(dup3(null, engine.ring.ring_fd, O_CLOEXEC), engine.ring.ring_fd);
    close(null);
}

static void daemonise(void)
{
    setup();
    if (engine.rungs & TAKT_URING_NO_REGISTERED_RING) {
        replace_the_descriptor();
        expect_it_works(); /* it is not needed */
    }
    wanted.disable = TAKT_URING_NO_REGISTERED_RING;
    setup();
    replace_the_descriptor();
    EXPECT_EQ(begin(0, takt_nop()), 0);
    EXPECT(pump(TAKT_SEC) < 0);
    EXPECT(engine.fatal == -EOPNOTSUPP || engine.fatal == -EBADF);
    EXPECT_EQ(pump(TAKT_SEC), engine.fatal);
    EXPECT_EQ(begin(1, takt_nop()), engine.fatal);
    takt_uring_free(&engine);
}

/* A16 */
static void a_ring_whose_descriptor_was_closed(void)
{
    in_child(daemonise);
}

/* A17, E8: what was in flight when the backend went is not written to any more */
static void nothing_is_written_after_the_end(void)
{
    for (int round = 0; round < 30; round++) {
        char bytes[4] = "...";
        int pair[2], pipes[2];
        setup();
        pair_of(SOCK_STREAM, pair);
        EXPECT_EQ(pipe2(pipes, O_CLOEXEC), 0);
        EXPECT_EQ(begin(0, takt_recv(pair[0], &bytes[0], 1)), 0);
        EXPECT_EQ(begin(1, takt_read(pipes[0], &bytes[1], 1, -1)), 0);
        EXPECT_EQ(begin(2, takt_recv_all(pair[1], &bytes[2], 2)), 0);
        if (round % 2)
            EXPECT_EQ(pump(0), 0);
        takt_uring_free(&engine);
        say(pair[0], "xx");
        say(pair[1], "x");
        EXPECT_EQ(write(pipes[1], "x", 1), 1);
        EXPECT_EQ(memcmp(bytes, "...", 4), 0);
        close_pair(pair);
        close_pair(pipes);
        EXPECT_EQ(open_descriptors(), open_before);
    }
}

static void fail_with_buffers(void)
{
    unsigned char *all;
    char text[256];
    int pair[2];
    wanted.disable = TAKT_URING_NO_DEFER_TASKRUN; /* it writes whenever there is data */
    setup();
    if (!(engine.rungs & TAKT_URING_NO_BUFFER_RING)) {
        puts("  the kernel holds no buffers here");
        return;
    }
    pair_of(SOCK_STREAM, pair);
    EXPECT_EQ(takt_bufs_init(&pool, 16, 64), 0);
    all = pool.memory;
    EXPECT_EQ(begin(0, takt_recv_multishot(pair[0], &pool)), 0);
    say(pair[1], "a");
    expect_items(0, 1);
    EXPECT_EQ(refuse(__NR_io_uring_enter, EPERM), 0);
    EXPECT_EQ(refuse(__NR_io_uring_register, EPERM), 0);
    cancel(0);
    EXPECT_EQ(pump(TAKT_SEC), -EPERM);
    takt_uring_describe(&engine, text, sizeof text);
    EXPECT(strstr(text, "io_uring (it has failed: EPERM, forbidden by a seccomp profile") == text);
    takt_bufs_free(&pool);
    say(pair[1], "late");
    for (int i = 0; i < 16 * 64; i++)
        EXPECT(all[i] <= 'z'); /* it is still there */
    fault_free(all);
    EXPECT_EQ(takt_uring_end(&engine, TAKT_SEC), -EBUSY);
    EXPECT_EQ(memory.live, 0);
}

/* A17: nor when the ring has failed: what the kernel may still write to is not given away */
static void buffers_of_a_ring_that_failed_are_kept(void)
{
    in_child(fail_with_buffers);
}

static int listener_at(struct sockaddr_in *addr)
{
    socklen_t len = sizeof *addr;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    addr->sin_family = AF_INET;
    addr->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(bind(fd, (struct sockaddr *)addr, sizeof *addr), 0);
    EXPECT_EQ(listen(fd, 16), 0);
    EXPECT_EQ(getsockname(fd, (struct sockaddr *)addr, &len), 0);
    return fd;
}

/* A18: what the backend had is free as soon as it is gone */
static void a_port_is_free_when_the_backend_is_gone(void)
{
    struct sockaddr_in addr;
    memset(&addr, 0, sizeof addr);
    for (int round = 0; round < 30; round++) {
        int listener;
        setup();
        listener = listener_at(&addr); /* the same port again, at the first try */
        EXPECT_EQ(begin(0, round % 2 ? takt_accept(listener, NULL)
                                     : takt_accept_multishot(listener)), 0);
        EXPECT_EQ(pump(0), 0);
        takt_uring_free(&engine);
        close(listener);
        EXPECT_EQ(open_descriptors(), open_before);
    }
}

static int threads(void)
{
    DIR *const dir = opendir("/proc/self/task");
    int count = 0;
    while (dir && readdir(dir))
        count++;
    if (dir)
        closedir(dir);
    return count;
}

/* A21: those who wait need no thread each */
static void waiting_takes_no_threads(void)
{
    enum { MANY = 100 };
    static char bytes[2 * MANY];
    int pairs[MANY][2], pipes[MANY][2];
    const int before = threads();
    setup();
    for (int i = 0; i < MANY; i++) {
        pair_of(SOCK_STREAM, pairs[i]);
        EXPECT_EQ(pipe2(pipes[i], O_CLOEXEC | O_NONBLOCK), 0);
        EXPECT_EQ(begin(2 * i, takt_recv(pairs[i][0], &bytes[2 * i], 1)), 0);
        EXPECT_EQ(begin(2 * i + 1, takt_read(pipes[i][0], &bytes[2 * i + 1], 1, -1)), 0);
    }
    pump(5 * TAKT_MS);
    EXPECT_EQ(threads(), before);
    for (int i = 0; i < MANY; i++) {
        say(pairs[i][1], "x");
        EXPECT_EQ(write(pipes[i][1], "x", 1), 1);
        EXPECT_EQ(end_of(2 * i), 1);
        EXPECT_EQ(end_of(2 * i + 1), 1);
        close_pair(pairs[i]);
        close_pair(pipes[i]);
    }
    EXPECT_EQ(threads(), before);
    finish();
}

/* A21, F5: nor do those who send to somebody who sends no more, before or meanwhile, and does not
 * read: Linux would give each a thread. They go on when there is room. */
static void sending_to_the_half_closed_takes_no_threads(void)
{
    enum { MANY = 40, SIZE = 1 << 20 };
    static char out[SIZE], in[SIZE];
    struct iovec piece;
    int pairs[MANY][2];
    const int before = threads();
    piece.iov_base = out;
    piece.iov_len = SIZE;
    setup();
    for (int i = 0; i < MANY; i++) {
        pair_of(SOCK_STREAM, pairs[i]);
        if (i % 2)
            EXPECT_EQ(shutdown(pairs[i][1], SHUT_WR), 0);
        EXPECT_EQ(begin(i, i % 4 < 2 ? takt_send(pairs[i][0], out, SIZE)
                                     : takt_sendv(pairs[i][0], &piece, 1)), 0);
    }
    pump(5 * TAKT_MS);
    for (int i = 0; i < MANY; i += 2)
        EXPECT_EQ(shutdown(pairs[i][1], SHUT_WR), 0);
    for (int k = 0; k < 3; k++)
        pump(5 * TAKT_MS);
    EXPECT_EQ(threads(), before);
    fault.calls = 0;
    for (const takt_ns until = takt_uring_now(&engine) + 50 * TAKT_MS;
         takt_uring_now(&engine) < until;)
        pump(50 * TAKT_MS);
    EXPECT(fault.calls < 50); /* they wait, and do not ask again and again */
    cancel(0);
    EXPECT_EQ(end_of(0), TAKT_ECANCELED);
    for (int i = 1; i < MANY; i++) {
        size_t got = 0;
        while (got < SIZE) {
            const ssize_t n = recv(pairs[i][1], in, SIZE, MSG_DONTWAIT);
            got += n > 0 ? (size_t)n : 0;
            if (n <= 0 && pump(20 * TAKT_MS) < 0)
                break;
        }
        EXPECT_EQ(end_of(i), SIZE);
    }
    EXPECT_EQ(threads(), before);
    for (int i = 0; i < MANY; i++)
        close_pair(pairs[i]);
    finish();
}

static void send_nothing(struct io_uring_sqe *sqe)
{
    if (sqe->opcode == IORING_OP_SEND)
        sqe->opcode = IORING_OP_NOP, sqe->rw_flags = 0;
}

static void give_minus_eagain(struct io_uring_cqe *cqe)
{
    if (cqe->res == 0)
        cqe->res = -EAGAIN;
}

/* H5: there is room, says the system, but it has no memory to send with: that is not asked for
 * again and again */
static void there_is_room_but_no_memory(void)
{
    int pair[2];
    takt_ns until;
    setup();
    pair_of(SOCK_STREAM, pair);
    fault.request = send_nothing;
    fault.completion = give_minus_eagain;
    EXPECT_EQ(begin(0, takt_send(pair[0], "bytes", 5)), 0);
    for (until = takt_uring_now(&engine) + 100 * TAKT_MS; takt_uring_now(&engine) < until;)
        pump(100 * TAKT_MS);
    EXPECT(fault.calls > 5 && fault.calls < 100);
    fault.request = NULL;
    fault.completion = NULL;
    EXPECT_EQ(end_of(0), 5);
    close_pair(pair);
    finish();
}

/* A22: stopped and continued, as with a laptop's lid */
static void a_process_that_was_stopped_goes_on(void)
{
    char c;
    int pair[2], ready[2], status = 0;
    pid_t child;
    pair_of(SOCK_STREAM, pair);
    EXPECT_EQ(pipe2(ready, O_CLOEXEC), 0);
    fflush(stdout);
    child = fork();
    if (child == 0) {
        setup();
        EXPECT_EQ(begin(0, takt_recv(pair[0], &c, 1)), 0);
        EXPECT_EQ(pump(0), 0);
        EXPECT_EQ(write(ready[1], "x", 1), 1);
        EXPECT_EQ(end_of(0), 1);
        finish();
        fflush(stdout);
        _exit(test_failures != 0);
    }
    EXPECT_EQ(read(ready[0], &c, 1), 1);
    kill(child, SIGSTOP);
    EXPECT_EQ(waitpid(child, &status, WUNTRACED), child);
    EXPECT(WIFSTOPPED(status));
    say(pair[1], "x");
    kill(child, SIGCONT);
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    close_pair(pair);
    close_pair(ready);
}

/* A23, H5: each allocation of init fails, once; and afterwards there is none */
static void an_init_without_memory_leaves_nothing(void)
{
    const int before = open_descriptors();
    for (int automatic = 0; automatic < 2; automatic++) {
        int rc = -ENOMEM;
        wanted.mode = automatic ? TAKT_URING_AUTO : TAKT_URING_ONLY;
        for (int at = 1; at < 100; at++) {
            forget();
            memory.calls = 0;
            memory.fails_at = at;
            rc = takt_uring_init(&engine, &wanted, &slots);
            memory.fails_at = 0;
            EXPECT(rc == 0 || rc == -ENOMEM);
            if (rc == 0)
                takt_uring_free(&engine);
            EXPECT_EQ(memory.live, 0);
            EXPECT_EQ(open_descriptors(), before);
            if (memory.calls < at)
                break;
        }
        EXPECT_EQ(rc, 0);
    }
    wanted.mode = TAKT_URING_ONLY;
    setup();
    memory.calls = 0;
    for (int i = 0; i < 100; i++)
        expect_it_works();
    EXPECT_EQ(memory.calls, 0);
    finish();
}

#if !defined(TAKT__ASAN)
static void in_little_space(void)
{
    char text[256];
    FILE *const file = fopen("/proc/self/statm", "re");
    unsigned long pages = 0;
    EXPECT(file && fgets(text, sizeof text, file) && sscanf(text, "%lu", &pages) == 1);
    if (file)
        fclose(file);
    for (rlim_t room = 0; room < 1 << 20; room += 32 << 10) {
        struct rlimit limits;
        int rc;
        forget();
        getrlimit(RLIMIT_AS, &limits);
        limits.rlim_cur = pages * (rlim_t)sysconf(_SC_PAGESIZE) + room;
        setrlimit(RLIMIT_AS, &limits);
        rc = takt_uring_init(&engine, &wanted, &slots);
        EXPECT(rc == 0 || rc == -ENOMEM);
        if (rc == 0)
            takt_uring_free(&engine);
        EXPECT_EQ(memory.live, 0);
        limits.rlim_cur = limits.rlim_max;
        setrlimit(RLIMIT_AS, &limits);
    }
}
#endif

/* H5: no more address space, at any place of init */
static void an_init_without_space_is_an_error(void)
{
#if !defined(TAKT__ASAN)
    wanted.mode = TAKT_URING_ONLY;
    in_child(in_little_space);
#endif
}

/* -- B: submission ------------------------------------------------------------ */

/* B1, D9: the queue is full, the kernel takes nothing, and then everybody is to end */
static void cancels_that_find_the_queue_full(void)
{
    enum { MANY = 100 };
    static char bytes[MANY];
    int pairs[MANY][2];
    wanted.entries = 4;
    setup();
    for (int i = 0; i < MANY; i++) {
        pair_of(SOCK_STREAM, pairs[i]);
        EXPECT_EQ(begin(i, takt_recv(pairs[i][0], &bytes[i], 1)), 0);
    }
    EXPECT_EQ(pump(0), 0);
    fault.enter_error = -EAGAIN;
    fault.enter_times = 1000;
    for (int i = 0; i < MANY; i++)
        cancel(i);
    EXPECT(engine.cancels_due > 0);
    EXPECT(takt_uring_busy(&engine));
    EXPECT(pump(0) <= 0);
    EXPECT_EQ(engine.fatal, 0);
    fault.enter_times = 0;
    for (int i = 0; i < MANY; i++) {
        EXPECT_EQ(end_of(i), TAKT_ECANCELED);
        close_pair(pairs[i]);
    }
    finish();
}

static int spoilt;

/* The second request becomes one that no kernel knows. */
static void spoil_one(struct io_uring_sqe *sqe)
{
    if ((uint32_t)sqe->user_data == 1) {
        sqe->opcode = 200;
        spoilt++;
    }
}

/* B3, B4, B7: a request that the kernel refuses splits the batch; the others do not notice */
static void a_bad_request_fails_alone(void)
{
    for (int split = 0; split < 2; split++) {
        wanted.disable = split ? TAKT_URING_NO_SUBMIT_ALL : 0;
        setup();
        spoilt = 0;
        fault.request = spoil_one;
        for (int i = 0; i < 4; i++)
            EXPECT_EQ(begin(i, takt_nop()), 0);
        takt_uring_flush(&engine);
        EXPECT_EQ(takt__ring_unsubmitted(&engine), 0);
        for (int i = 0; i < 4; i++)
            EXPECT_EQ(end_of(i), i == 1 ? -EINVAL : 0);
        EXPECT(spoilt > 0);
        EXPECT_EQ(engine.fatal, 0);
        finish();
    }
}

/* B5: whatever is submitted with, and however small the queue, it sleeps on nothing unsent */
static void it_never_sleeps_on_what_was_not_submitted(void)
{
    enum { MANY = 40 };
    static char bytes[MANY];
    int pairs[MANY][2];
    for (wanted.entries = 1; wanted.entries <= 64; wanted.entries *= 4) {
        setup();
        for (int i = 0; i < MANY; i++) {
            pair_of(SOCK_STREAM, pairs[i]);
            EXPECT_EQ(begin(2 * i, takt_recv(pairs[i][0], &bytes[i], 1)), 0);
            EXPECT_EQ(begin(2 * i + 1, takt_nop()), 0);
            if (i % 5 == 0)
                pump(1);
        }
        for (int i = 0; i < MANY; i++) {
            EXPECT_EQ(end_of(2 * i + 1), 0);
            say(pairs[i][1], "x");
            EXPECT_EQ(end_of(2 * i), 1);
            close_pair(pairs[i]);
        }
        EXPECT_EQ(fault.overslept, 0);
        finish();
    }
}

/* What the queue held before is the worst that it could be. */
static void poison(void)
{
    struct io_uring_sq *const sq = &engine.ring.sq;
    takt_uring_flush(&engine);
    memset(sq->sqes, 0xff, sq->ring_entries * sizeof *sq->sqes);
    memset(engine.messages, 0xff, sq->ring_entries * sizeof *engine.messages);
}

/* B6: with every kind of request, by every way of writing one */
static void what_an_entry_held_before_does_not_matter(void)
{
    struct sockaddr_in raw;
    takt_addr addr;
    char text[8], other[8];
    struct iovec two[2];
    int pair[2], file, client, listener;
    memset(&raw, 0, sizeof raw);
    two[0].iov_base = text;
    two[1].iov_base = other;
    two[0].iov_len = two[1].iov_len = 2;
    file = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    setup();
    EXPECT_EQ(takt_bufs_init(&pool, 16, 64), 0);
    pair_of(SOCK_STREAM, pair);
    listener = listener_at(&raw);
    client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    memset(&addr, 0, sizeof addr);
    snprintf(other, sizeof other, "%d", ntohs(raw.sin_port));
    {
        char place[32];
        snprintf(place, sizeof place, "127.0.0.1:%s", other);
        EXPECT_EQ(takt_addr_parse(&addr, place), 0);
    }
#define EACH(i, op, result)                                                              \
    poison();                                                                            \
    EXPECT_EQ(begin(i, op), 0);                                                          \
    EXPECT_EQ(end_of(i) >= (result), 1)
    EACH(0, takt_nop(), 0);
    EACH(0, takt_send(pair[1], "abcd", 4), 4);
    EACH(0, takt_recv(pair[0], text, 2), 2);
    EACH(0, takt_recv_all(pair[0], text, 2), 2);
    EACH(0, takt_sendv(pair[1], two, 2), 4);
    EACH(0, takt_recvv(pair[0], two, 2), 4);
    EACH(0, takt_sendto(pair[1], "abcd", 4, NULL), 4);
    EACH(0, takt_ready(pair[0], TAKT_READABLE), 1);
    EACH(0, takt_recvfrom(pair[0], text, 8, NULL), 4);
    EACH(0, takt_connect(client, &addr), 0);
    EACH(0, takt_accept(listener, NULL), 0);
    close((int)last[0].value);
    EACH(0, takt_read(file, text, 8, 0), 1);
    EACH(0, takt_write(pair[1], "abcd", 4, -1), 4);
    EACH(0, takt_recv(pair[0], text, 8), 4);
#undef EACH
    poison();
    EXPECT_EQ(begin(2, takt_recv_multishot(pair[0], &pool)), 0);
    poison();
    say(pair[1], "x");
    expect_items(2, 1);
    poison();
    cancel(2);
    EXPECT_EQ(end_of(2), TAKT_ECANCELED);
    close_pair(pair);
    close(client);
    close(listener);
    close(file);
    open_before--; /* the file was open before */
    finish();
}

static unsigned bad_ioprio;

static void refuse_multishot(struct io_uring_sqe *sqe)
{
    if (sqe->ioprio) {
        sqe->ioprio = (__u16)(sqe->ioprio | 1U << 12);
        bad_ioprio++;
    }
}

static void lose_what_had_come(struct io_uring_cqe *cqe)
{
    if (cqe->user_data == TAKT__TRIAL_RECV && cqe->res == 1 && !cqe->flags)
        cqe->res = -ECANCELED;
}

/* B9, D5, R20: what is asked of a kernel is what it showed that it can */
static void what_the_trial_does_not_show_is_not_used(void)
{
    int pair[2];
    bad_ioprio = 0;
    fault.request = refuse_multishot;
    setup();
    EXPECT_EQ(takt_bufs_init(&pool, 16, 64), 0);
    EXPECT_EQ(engine.rungs & TAKT_URING_NO_MULTISHOT, 0);
    EXPECT(bad_ioprio > 0);
    bad_ioprio = 0;
    pair_of(SOCK_STREAM, pair);
    EXPECT_EQ(begin(0, takt_recv_multishot(pair[0], &pool)), 0);
    for (int i = 0; i < 10; i++) {
        say(pair[1], "x");
        expect_items(0, i + 1);
    }
    EXPECT_EQ(bad_ioprio, 0);
    cancel(0);
    EXPECT_EQ(end_of(0), TAKT_ECANCELED);
    close_pair(pair);
    finish();

    fault.completion = lose_what_had_come;
    setup();
    EXPECT_EQ(engine.rungs & TAKT_URING_NO_WAITALL, 0);
    EXPECT_EQ(engine.recv_flags & MSG_WAITALL, 0);
    expect_it_works();
    finish();
}

/* B10: names and headers are the caller's again once the kernel has the request */
static void what_a_request_pointed_to_may_change_once_it_is_submitted(void)
{
    struct sockaddr_in raw;
    takt_addr addr;
    char text[32], bytes[8] = "";
    struct iovec two[2];
    int pair[2], listener, client;
    memset(&raw, 0, sizeof raw);
    setup();
    listener = listener_at(&raw);
    client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(text, sizeof text, "127.0.0.1:%d", ntohs(raw.sin_port));
    EXPECT_EQ(takt_addr_parse(&addr, text), 0);
    EXPECT_EQ(begin(0, takt_connect(client, &addr)), 0);
    takt_uring_flush(&engine);
    memset(&addr, 0xff, sizeof addr);
    EXPECT_EQ(end_of(0), 0);

    pair_of(SOCK_STREAM, pair);
    two[0].iov_base = bytes;
    two[1].iov_base = bytes + 4;
    two[0].iov_len = two[1].iov_len = 4;
    EXPECT_EQ(begin(0, takt_recvv(pair[0], two, 2)), 0);
    poison();
    say(pair[1], "12345678");
    EXPECT_EQ(end_of(0), 8);
    EXPECT_EQ(memcmp(bytes, "12345678", 8), 0);
    close_pair(pair);
    close(client);
    close(listener);
    finish();
}

/* A datagram whose receiver has no room: later, whole, or not at all */
static void a_datagram_that_waits_for_room_arrives_whole(void)
{
    char text[64], block[16];
    takt_addr place;
    int receiver, sender, count;
    snprintf(text, sizeof text, "unix:/tmp/takt-fault-%d", (int)getpid());
    EXPECT_EQ(takt_addr_parse(&place, text), 0);
    for (int connected = 0; connected < 2; connected++) {
        struct sockaddr *const to = (struct sockaddr *)(void *)&place.sockaddr;
        setup();
        receiver = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        sender = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        unlink(text + 5);
        EXPECT_EQ(bind(receiver, to, place.len), 0);
        if (connected)
            EXPECT_EQ(connect(sender, to, place.len), 0);
        for (count = 0; sendto(sender, "fill", 4, 0, to, place.len) == 4; count++)
            continue;
        EXPECT(count > 0);
        EXPECT_EQ(begin(1, takt_sendto(sender, "last", 4, connected ? NULL : &place)), 0);
        for (int i = 0; i < 10; i++)
            EXPECT_EQ(pump(TAKT_MS), 0);
        for (; count > 0; count--)
            EXPECT_EQ(recv(receiver, block, sizeof block, 0), 4);
        EXPECT_EQ(end_of(1), 4);
        EXPECT_EQ(recv(receiver, block, sizeof block, 0), 4);
        EXPECT_EQ(memcmp(block, "last", 4), 0);
        unlink(text + 5);
        close(receiver);
        close(sender);
        finish();
    }
}

/* B11, B12, A25: EAGAIN and EBUSY are asked again, an interrupted call, too */
static void what_is_refused_for_now_is_asked_again(void)
{
    static const int errors[] = {-EAGAIN, -EBUSY, -EINTR, -ETIME};
    for (int k = 0; k < 4; k++) {
        setup();
        for (int times = 1; times < 5; times++) {
            fault.enter_error = errors[k];
            fault.enter_times = times;
            expect_it_works();
            EXPECT_EQ(fault.enter_times, 0);
            EXPECT_EQ(engine.fatal, 0);
        }
        finish();
    }
}

static void enter_fails_for_good(int error)
{
    char c;
    int pair[2];
    setup();
    pair_of(SOCK_STREAM, pair);
    EXPECT_EQ(begin(0, takt_recv(pair[0], &c, 1)), 0);
    fault.enter_error = error;
    fault.enter_times = 1000000;
    EXPECT_EQ(pump(TAKT_SEC), error);
    fault.calls = 0;
    for (int i = 0; i < 10; i++)
        EXPECT_EQ(pump(TAKT_SEC), error);
    EXPECT_EQ(fault.calls, 0); /* it is not asked again */
    EXPECT_EQ(begin(1, takt_nop()), error);
    EXPECT_EQ(begin(2, takt_recv(pair[1], &c, 1)), error);
    takt_uring_flush(&engine);
    EXPECT(takt_uring_busy(&engine) || true);
    fault.enter_times = 0;
    close_pair(pair);
    finish();
}

/* B11, A16: and everything else is the end, once */
static void an_error_that_stays_is_the_end(void)
{
    static const int errors[] = {-EBADR, -ENXIO, -EBADF, -EFAULT, -EPERM, -EOWNERDEAD};
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
        enter_fails_for_good(errors[i]);
}

static void forbidden_later(void)
{
    char c;
    int pair[2];
    setup();
    pair_of(SOCK_STREAM, pair);
    EXPECT_EQ(begin(0, takt_recv(pair[0], &c, 1)), 0);
    EXPECT_EQ(pump(0), 0);
    EXPECT_EQ(refuse(__NR_io_uring_enter, EPERM), 0);
    EXPECT_EQ(begin(1, takt_nop()), 0);
    EXPECT_EQ(pump(TAKT_SEC), -EPERM);
    EXPECT_EQ(begin(2, takt_nop()), -EPERM);
    close_pair(pair);
    takt_uring_free(&engine);
}

/* A3: io_uring is forbidden while it runs */
static void a_ring_that_is_forbidden_later(void)
{
    in_child(forbidden_later);
}

/* B13, D8, I16: the number of a descriptor that was closed belongs to who has it next */
static void a_number_that_is_used_again(void)
{
    char secret[8] = "", c = 0;
    for (int sent = 0; sent < 3; sent++) {
        int pair[2], next[2];
        setup();
        pair_of(SOCK_STREAM, pair);
        EXPECT_EQ(begin(0, takt_recv(pair[0], &c, 1)), 0);
        if (sent)
            EXPECT_EQ(pump(0), 0);
        if (sent == 2) { /* behind its back */
            close(pair[0]);
            cancel(0);
            EXPECT_EQ(end_of(0), TAKT_ECANCELED);
        } else {
            EXPECT_EQ(begin(1, takt_close(pair[0])), 0);
            EXPECT_EQ(end_of(1), 0);
            EXPECT_EQ(end_of(0), TAKT_ECLOSED);
        }
        close(pair[1]);
        pair_of(SOCK_STREAM, next);
        EXPECT(next[0] == pair[0] || next[1] == pair[0]);
        say(next[1], "SECRET");
        pump(TAKT_MS);
        EXPECT_EQ(recv(next[0], secret, sizeof secret, 0), 6);
        EXPECT_EQ(c, 0);
        close_pair(next);
        EXPECT_EQ(begin(1, takt_close(pair[0])), 0); /* I16: twice */
        EXPECT_EQ(end_of(1), -EBADF);
        finish();
    }
}

static uint32_t longest;

static void note_length(struct io_uring_sqe *sqe)
{
    if (sqe->len > longest)
        longest = sqe->len;
}

/* B17, E18: more than 32 bits can say is asked for in parts */
static void a_length_beyond_32_bits(void)
{
    const size_t huge = ((size_t)1 << 32) + 1;
    char *const at = (char *)mmap(NULL, huge, PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    int pair[2];
    setup();
    pair_of(SOCK_STREAM, pair);
    EXPECT(at != MAP_FAILED);
    fault.request = note_length;
    longest = 0;
    say(pair[1], "ten bytes.");
    EXPECT_EQ(begin(0, takt_recv(pair[0], at, huge)), 0);
    EXPECT_EQ(end_of(0), 10);
    EXPECT_EQ(begin(0, takt_send(pair[0], at, huge)), 0);
    pump(0);
    cancel(0);
    EXPECT_EQ(end_of(0), TAKT_ECANCELED);
    EXPECT(slot_memory[0].op.arg.done > 0);
    EXPECT(longest > 1 && longest <= 1u << 30);
    munmap(at, huge);
    close_pair(pair);
    finish();
}

/* B18: more pieces than the kernel takes at once */
static void three_thousand_pieces(void)
{
    enum { PIECES = 3000 };
    static struct iovec from[PIECES], to[PIECES];
    static char sent[PIECES], got[PIECES];
    int pair[2];
    setup();
    pair_of(SOCK_STREAM, pair);
    for (int i = 0; i < PIECES; i++) {
        sent[i] = (char)(i * 7);
        from[i].iov_base = &sent[i];
        to[i].iov_base = &got[i];
        from[i].iov_len = to[i].iov_len = 1;
    }
    EXPECT_EQ(begin(0, takt_sendv(pair[1], from, PIECES)), 0);
    EXPECT_EQ(end_of(0), PIECES);
    for (int count = 0; count < PIECES;) {
        int64_t n;
        EXPECT_EQ(begin(0, takt_recvv(pair[0], to + count, PIECES - count)), 0);
        n = end_of(0);
        EXPECT(n > 0);
        if (n <= 0)
            break;
        count += (int)n;
    }
    EXPECT_EQ(memcmp(sent, got, PIECES), 0);
    close_pair(pair);
    finish();
}

/* B19: to ask for nothing is answered without the kernel, which would wait or call it an end */
static void nothing_is_asked_for_nothing(void)
{
    char c;
    int pair[2];
    uint64_t submitted;
    setup();
    pair_of(SOCK_STREAM, pair);
    submitted = engine.submitted;
    EXPECT_EQ(begin(0, takt_recv(pair[0], &c, 0)), 0);
    EXPECT_EQ(begin(1, takt_send(pair[0], &c, 0)), 0);
    EXPECT_EQ(begin(2, takt_recvv(pair[1], NULL, 0)), 0);
    for (int i = 0; i < 3; i++)
        EXPECT_EQ(end_of(i), 0);
    EXPECT_EQ(engine.submitted, submitted);
    close_pair(pair);
    finish();
}

/* B20, D17, D19: the kernel is never told a time that is none, and that it passes is no error */
static void any_wait_is_a_time(void)
{
    static const takt_ns waits[] = {INT64_MIN, -1,           0,        1, 999, TAKT_SEC - 1,
                                    TAKT_SEC,  TAKT_SEC + 1, INT64_MAX - 1, INT64_MAX};
    for (int k = 0; k < 2; k++) {
        wanted.disable = k ? TAKT_URING_NO_EXT_ARG : 0;
        setup();
        for (size_t i = 0; i < sizeof waits / sizeof waits[0]; i++) {
            EXPECT_EQ(begin(0, takt_nop()), 0);
            EXPECT(pump(waits[i]) >= 0);
            EXPECT_EQ(end_of(0), 0);
        }
        EXPECT_EQ(pump(TAKT_MS), 0); /* it passes */
        EXPECT_EQ(engine.fatal, 0);
        finish();
    }
}

/* -- C: completions ------------------------------------------------------------ */

/* C3: the kernel says that it has lost some: nobody can tell whose */
static void a_lost_completion_is_the_end(void)
{
    setup();
    EXPECT_EQ(begin(0, takt_nop()), 0);
    EXPECT_EQ(end_of(0), 0);
    *engine.ring.cq.koverflow += 1;
    EXPECT_EQ(begin(0, takt_nop()), 0);
    for (int i = 0; i < 10 && pump(TAKT_MS) >= 0; i++)
        continue;
    EXPECT_EQ(engine.fatal, -EBADR);
    EXPECT_EQ(begin(1, takt_nop()), -EBADR);
    finish();
}

/* C1, C18: more at once than the queue holds; none is lost, and it is told */
static void an_overflow_is_counted(void)
{
    enum { MANY = 200 };
    wanted.entries = 4;
    wanted.cq_entries = 4;
    wanted.spin = 1;
    setup();
    for (int i = 0; i < MANY; i++)
        EXPECT_EQ(begin(i, takt_nop()), 0);
    for (int i = 0; i < MANY; i++)
        EXPECT_EQ(end_of(i), 0);
    EXPECT(engine.overflow > 0);
    EXPECT_EQ(*engine.ring.cq.koverflow, engine.dropped);
    finish();
}

static void forget_the_bytes(struct io_uring_cqe *cqe)
{
    if (cqe->flags & IORING_CQE_F_BUFFER && cqe->res > 0)
        cqe->res = 0;
}

static void fail_with_a_buffer(struct io_uring_cqe *cqe)
{
    if (cqe->flags & IORING_CQE_F_BUFFER)
        cqe->res = -EIO;
}

static void name_another_buffer(struct io_uring_cqe *cqe)
{
    if (cqe->flags & IORING_CQE_F_BUFFER)
        cqe->flags |= 0xffffU << IORING_CQE_BUFFER_SHIFT;
}

static void add_unknown_flags(struct io_uring_cqe *cqe)
{
    cqe->flags |= 1U << 6 | 1U << 9 | 1U << 15;
}

/* C7, E5, R2: a buffer that comes with no byte, or with an error, comes back; one that there is
 * not is none */
static void a_buffer_with_nothing_in_it_comes_back(void)
{
    static void (*const ways[])(struct io_uring_cqe *) = {forget_the_bytes, fail_with_a_buffer,
                                                          name_another_buffer};
    int pair[2];
    for (int way = 0; way < 3; way++) {
        setup();
        EXPECT_EQ(takt_bufs_init(&pool, 16, 64), 0);
        for (int i = 0; i < (way < 2 ? 100 : 4); i++) { /* what is lost is lost */
            pair_of(SOCK_STREAM, pair);
            EXPECT_EQ(begin(0, takt_recv_multishot(pair[0], &pool)), 0);
            EXPECT_EQ(pump(0), 0);
            fault.completion = ways[way];
            say(pair[1], "x");
            pump(TAKT_MS);
            fault.completion = NULL;
            if (!ends[0])
                cancel(0);
            end_of(0);
            EXPECT_EQ(pool.in_use, 0);
            EXPECT(pool.kept <= 8);
            close_pair(pair);
        }
        finish();
    }
}

/* C8, R2: bits that nobody has explained yet */
static void flags_that_mean_nothing_change_nothing(void)
{
    int pair[2];
    setup();
    EXPECT_EQ(takt_bufs_init(&pool, 16, 64), 0);
    fault.completion = add_unknown_flags;
    expect_it_works();
    pair_of(SOCK_STREAM, pair);
    EXPECT_EQ(begin(0, takt_recv_multishot(pair[0], &pool)), 0);
    for (int i = 0; i < 10; i++) {
        say(pair[1], "x");
        expect_items(0, i + 1);
    }
    cancel(0);
    EXPECT_EQ(end_of(0), TAKT_ECANCELED);
    EXPECT_EQ(engine.stale, 0);
    close_pair(pair);
    finish();
}

/* As a request that a thread of the kernel's works on. */
static void be_busy(struct io_uring_cqe *cqe)
{
    if (cqe->user_data & TAKT__RING_KEY_CANCEL)
        cqe->res = -EALREADY;
    else if (cqe->res == -ECANCELED)
        cqe->res = -EINTR;
}

static void interrupt(struct io_uring_cqe *cqe)
{
    if (cqe->res > 0 && !(cqe->user_data & TAKT__RING_KEY_CANCEL))
        cqe->res = -EINTR;
}

/* C9, D3: a cancel says that it came too late, and the request that it was interrupted */
static void an_interrupted_request_was_cancelled_if_that_was_asked_for(void)
{
    char c = 0;
    int pair[2];
    setup();
    pair_of(SOCK_STREAM, pair);
    fault.completion = be_busy;
    EXPECT_EQ(begin(0, takt_recv(pair[0], &c, 1)), 0);
    EXPECT_EQ(pump(0), 0);
    cancel(0);
    EXPECT_EQ(end_of(0), TAKT_ECANCELED);
    fault.completion = interrupt; /* and if not, it is asked again */
    EXPECT_EQ(begin(0, takt_ready(pair[0], TAKT_READABLE)), 0);
    say(pair[1], "x");
    pump(TAKT_MS);
    EXPECT_EQ(ends[0], 0);
    fault.completion = NULL;
    EXPECT(end_of(0) & TAKT_READABLE);
    close_pair(pair);
    finish();
}

static struct io_uring forger;
static bool forges_flags;

/* A completion in the backend's queue that the kernel has from somebody else. */
static bool forge(uint64_t key, int32_t res, uint32_t flags)
{
    enum { MSG_RING = 40, FLAGS_PASS = 2 };
    struct io_uring_sqe *const sqe = io_uring_get_sqe(&forger);
    struct io_uring_cqe *cqe;
    int rc;
    memset(sqe, 0, sizeof *sqe);
    sqe->opcode = MSG_RING;
    sqe->fd = engine.ring.ring_fd;
    sqe->off = key;
    sqe->len = (uint32_t)res;
    if (forges_flags) {
        sqe->file_index = flags;
        sqe->rw_flags = FLAGS_PASS;
    }
    if (io_uring_submit_and_wait(&forger, 1) != 1 || io_uring_wait_cqe(&forger, &cqe) < 0)
        return false;
    rc = cqe->res;
    io_uring_cqe_seen(&forger, cqe);
    if (rc == -EINVAL && forges_flags) {
        forges_flags = false;
        printf("  flags cannot be forged here\n");
        return forge(key, res, 0);
    }
    return rc >= 0;
}

static uint32_t random_state = 7;

static uint32_t random_bits(void)
{
    random_state = random_state * 1664525u + 1013904223u;
    return random_state ^ random_state >> 13;
}

static uint32_t any_length(void)
{
    const uint32_t kind = random_bits() % 4;
    return kind == 0 ? 0 : kind == 1 ? random_bits() % 300 : kind == 2 ? random_bits() : UINT32_MAX;
}

/* Before a datagram stands nonsense, and its completion has any length. */
static void lie(struct io_uring_cqe *cqe)
{
    const uint32_t number = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
    const struct takt__bufring *const ring = engine.bufrings;
    const uint32_t head[4] = {any_length(), any_length(), any_length(), random_bits()};
    unsigned char *data;
    if (!(cqe->flags & IORING_CQE_F_BUFFER) || !ring || ring->indexes[number] >= pool.count)
        return;
    data = pool.memory + (size_t)ring->indexes[number] * pool.size;
    for (uint32_t i = sizeof head; i < TAKT__HEAD; i++)
        data[i] = (unsigned char)(random_bits() % 3 ? random_bits() % 64 : random_bits());
    for (uint32_t i = 128; i + 16 < TAKT__HEAD; i += 24 + 8 * (random_bits() % 4)) {
        const uint64_t pktinfo = random_bits() % 2 ? 50ull << 32 | 41 : 8ull << 32;
        const uint64_t control[2] = {any_length(), pktinfo};
        memcpy(data + i, control, sizeof control);
    }
    memcpy(data, head, sizeof head); /* name, controls, payload, flags */
    if (random_bits() % 2)
        cqe->res = (int32_t)(any_length() & INT32_MAX);
}

/* S14: a datagram is as long as its buffer at most, whatever is said of it */
static void a_datagram_that_lies_about_itself(void)
{
    struct sockaddr_in at;
    socklen_t len = sizeof at;
    int receiver, sender, seen = 0;
    setup();
    EXPECT_EQ(takt_bufs_init(&pool, 16, TAKT__HEAD + 64), 0);
    memset(&at, 0, sizeof at);
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    receiver = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    sender = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    EXPECT_EQ(bind(receiver, (struct sockaddr *)&at, len), 0);
    EXPECT_EQ(getsockname(receiver, (struct sockaddr *)&at, &len), 0);
    EXPECT_EQ(connect(sender, (struct sockaddr *)&at, len), 0);
    fault.completion = lie;
    for (int i = 0; i < 300; i++) {
        const takt_datagram *d;
        if (i == 0 || ends[0])
            EXPECT_EQ(begin(0, takt_recvmsg_multishot(receiver, &pool)), 0);
        items[0] = 0;
        pump(0);
        EXPECT_EQ(send(sender, "0123456789abcdef", 16, 0), 16);
        for (int turn = 0; turn < 3 && !items[0] && !ends[0]; turn++)
            pump(10 * TAKT_MS); /* a lie may cost the datagram */
        if (!last[0].payload || ends[0])
            continue;
        seen++;
        d = (const takt_datagram *)last[0].payload;
        EXPECT(d->len <= 64 && (uint64_t)last[0].value == d->len);
        EXPECT(d->data == (unsigned char *)last[0].payload + TAKT__HEAD);
        EXPECT(d->from.len <= sizeof d->from.sockaddr && d->to.len <= sizeof d->to.sockaddr);
    }
    EXPECT(seen > 75);
    fault.completion = NULL;
    if (!ends[0])
        cancel(0);
    end_of(0);
    close(receiver);
    close(sender);
    finish();
}

/* A key that is of nothing in flight. What carries no descriptor or buffer of ours. */
static bool forge_anything(void)
{
    static const uint32_t bits[] = {0, IORING_CQE_F_MORE, IORING_CQE_F_NOTIF,
                                    IORING_CQE_F_BUFFER | 5000U << 16,
                                    IORING_CQE_F_BUFFER | IORING_CQE_F_MORE | 65535U << 16};
    const uint64_t place = random_bits() % 4 ? random_bits() % SLOTS : random_bits();
    uint64_t key = (uint64_t)(1000 + random_bits() % 100000) << 32 | place;
    const int32_t res = random_bits() % 2 ? -(int32_t)(random_bits() % 133)
                                          : (int32_t)(1000000 + random_bits() % 1000);
    if (random_bits() % 8 == 0)
        key = TAKT__RING_KEY_NOBODY - random_bits() % 2;
    if (random_bits() % 3 == 0)
        key |= TAKT__RING_KEY_ACCEPT;
    return forge(key, res, bits[random_bits() % 5]);
}

/* C4, C11, C17, E5: completions that somebody made up, and one that comes twice */
static void forged_completions_harm_nobody(void)
{
    char c = 0;
    int pair[2], other[2];
    bool can;
    EXPECT_EQ(io_uring_queue_init(8, &forger, 0), 0);
    forges_flags = true;
    setup();
    EXPECT_EQ(takt_bufs_init(&pool, 16, 64), 0);
    pair_of(SOCK_STREAM, pair);
    pair_of(SOCK_STREAM, other);
    EXPECT_EQ(begin(5, takt_recv_multishot(pair[0], &pool)), 0);
    EXPECT_EQ(begin(6, takt_recv(other[0], &c, 1)), 0);
    EXPECT_EQ(pump(0), 0);
    can = forge(takt_token_of(&slot_memory[6].op) + ((uint64_t)1 << 32), 1, 0);
    if (!can)
        printf("  nothing can be forged here\n");
    for (int i = 0; i < 1000 && can; i++) {
        EXPECT(forge_anything());
        if (i % 7 == 0)
            EXPECT(pump(0) >= 0);
        if (i % 50 == 0) {
            const int before = items[5];
            say(pair[1], "x");
            expect_items(5, before + 1);
        }
    }
    EXPECT_EQ(pump(TAKT_MS), 0);
    EXPECT(!can || engine.stale > 100);
    EXPECT_EQ(ends[5] + ends[6], 0);
    say(other[1], "x");
    EXPECT_EQ(end_of(6), 1);
    if (can)
        EXPECT(forge(takt_token_of(&slot_memory[6].op), 1, 0)); /* C17: once more */
    EXPECT_EQ(begin(7, takt_nop()), 0);
    EXPECT_EQ(end_of(7), 0);
    EXPECT_EQ(ends[6], 1);
    expect_it_works();
    cancel(5);
    EXPECT_EQ(end_of(5), TAKT_ECANCELED);
    close_pair(pair);
    close_pair(other);
    finish();
    io_uring_queue_exit(&forger);
}

/* C12, I20: the indexes of the queues are 32 bits, which begin anew, and so does a slot's
 * generation */
static void counters_begin_anew(void)
{
    enum { ENTRIES = 8 };
    static struct io_uring_sqe sqes[ENTRIES];
    static uint64_t cqes[4 * ENTRIES][2];
    static unsigned sq_head, sq_tail, cq_head, cq_tail;
    struct io_uring real;
    wanted.entries = ENTRIES;
    setup();
    real = engine.ring;
    sq_head = sq_tail = UINT_MAX - 20;
    cq_head = cq_tail = UINT_MAX - 30;
    engine.ring.sq.sqes = sqes;
    engine.ring.sq.khead = &sq_head;
    engine.ring.sq.ktail = &sq_tail;
    engine.ring.sq.sqe_tail = sq_tail;
    engine.ring.cq.cqes = (struct io_uring_cqe *)(void *)cqes;
    engine.ring.cq.khead = &cq_head;
    engine.ring.cq.ktail = &cq_tail;
    takt__ring_judge(&engine);
    fault.simulated = true;
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 7; i++) {
            slot_memory[i].generation = UINT32_MAX - 10 + (uint32_t)round;
            EXPECT_EQ(begin(i, takt_nop()), 0);
            EXPECT(takt__ring_unsubmitted(&engine) <= ENTRIES);
        }
        for (int i = 0; i < 7; i++)
            EXPECT_EQ(end_of(i), 0);
    }
    EXPECT(sq_head < 1000 && cq_head < 1000);
    EXPECT(!takt__ring_in_flight(&engine));
    EXPECT_EQ(engine.stale, 0);
    fault.simulated = false;
    engine.ring = real;
    takt__ring_judge(&engine);
    finish();
}

/* -- D: cancellation and time --------------------------------------------------- */

/* D1, D2: an end comes once, however often it was asked for, and not before the kernel's */
static void a_cancel_is_asked_for_once(void)
{
    char c;
    int pair[2];
    uint64_t submitted;
    setup();
    pair_of(SOCK_STREAM, pair);
    EXPECT_EQ(begin(0, takt_recv(pair[0], &c, 1)), 0);
    EXPECT_EQ(pump(0), 0);
    submitted = engine.submitted;
    for (int i = 0; i < 10; i++)
        cancel(0);
    EXPECT_EQ(ends[0], 0);
    EXPECT_EQ(end_of(0), TAKT_ECANCELED);
    EXPECT_EQ(engine.submitted - submitted, 1);
    cancel(0); /* it is over: nothing */
    EXPECT_EQ(pump(TAKT_MS), 0);
    EXPECT_EQ(engine.submitted - submitted, 1);
    close_pair(pair);
    finish();
}

/* D9: two thousand at once, in a bounded number of calls */
static void a_crowd_is_cancelled(void)
{
    enum { MANY = 1000 };
    static char bytes[2 * MANY];
    static int pairs[MANY][2];
    struct rlimit limits;
    uint64_t enters;
    getrlimit(RLIMIT_NOFILE, &limits);
    limits.rlim_cur = limits.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limits);
    wanted.posix.fds_max = 4 * MANY;
    setup();
    for (int i = 0; i < MANY; i++) {
        pair_of(SOCK_STREAM, pairs[i]);
        for (int k = 0; k < 2; k++)
            EXPECT_EQ(begin(2 * i + k, takt_recv(pairs[i][k], &bytes[2 * i + k], 1)), 0);
    }
    EXPECT_EQ(pump(0), 0);
    enters = engine.enters;
    for (int i = 0; i < 2 * MANY; i++)
        cancel(i);
    for (int i = 0; i < 2 * MANY; i++)
        EXPECT_EQ(end_of(i), TAKT_ECANCELED);
    EXPECT(engine.enters - enters < 200);
    for (int i = 0; i < MANY; i++)
        close_pair(pairs[i]);
    finish();
}

TAKT_LOOP(net, takt_uring);

struct sleeper {
    takt_frame frame;
    takt_ns until;
};

static int woken, early;

static TAKT_CORO(sleeper)
{
    TAKT_BEGIN(sleeper, my);
    TAKT_AWAIT(takt_sleep_until(my->until));
    early += takt_now(&my->frame) < my->until;
    woken++;
    TAKT_END;
}

static struct sleeper sleepers[5000];

/* D15, D16, D18: however many timers, the kernel has none of them; and none is early */
static void five_thousand_sleep_until_the_same_moment(void)
{
    enum { MANY = sizeof sleepers / sizeof sleepers[0] };
    static net loop;
    net_config config = net_defaults();
    takt_ns until;
    config.backend = wanted;
    config.loop.strands = MANY + 10;
    current = &loop.backend;
    EXPECT_EQ(net_init(&loop, &config), 0);
    woken = early = 0;
    until = net_now(&loop) + 200 * TAKT_MS;
    for (int i = 0; i < MANY; i++)
        EXPECT(TAKT_START_ON(&loop, sleepers[i], sleeper, .until = until));
    EXPECT_EQ(net_run(&loop), 0);
    EXPECT_EQ(woken, MANY);
    EXPECT_EQ(early, 0);
    EXPECT_EQ(loop.backend.submitted, 0);
    EXPECT(loop.backend.enters < 100);
    EXPECT_EQ(net_free(&loop), 0);
    EXPECT_EQ(memory.live, 0);
}

struct pair_reader {
    takt_frame frame;
    int fd, n;
    char c;
    struct pair_reader *other;
    bool closes;
};

static TAKT_CORO(pair_reader)
{
    TAKT_BEGIN(pair_reader, my);
    TAKT_TRY_AWAIT(my->n, takt_recv(my->fd, &my->c, 1));
    if (takt_alive(&my->other->frame)) { /* what it waits for has come, in the same batch */
        if (my->closes)
            TAKT_AWAIT(takt_close(my->other->fd));
        else
            takt_cancel(&my->other->frame);
    }
    TAKT_END;
}

/* C14: who goes on first ends what another waits for, whose completion was read already */
static void what_was_read_already_may_be_for_somebody_gone(void)
{
    for (int closes = 0; closes < 2; closes++) {
        static struct pair_reader readers[2];
        static net loop;
        net_config config = net_defaults();
        int pairs[2][2];
        config.backend = wanted;
        open_before = open_descriptors();
        current = &loop.backend;
    EXPECT_EQ(net_init(&loop, &config), 0);
        for (int i = 0; i < 2; i++) {
            pair_of(SOCK_STREAM, pairs[i]);
            EXPECT(TAKT_START_ON(&loop, readers[i], pair_reader, .fd = pairs[i][0],
                                 .other = &readers[1 - i], .closes = closes > 0));
        }
        EXPECT(net_turn(&loop, 0, 0) >= 0);
        say(pairs[0][1], "a");
        say(pairs[1][1], "b");
        EXPECT_EQ(net_run(&loop), 0);
        for (int i = 0; i < 2; i++) {
            EXPECT_EQ(readers[i].n, 1); /* delivered: it had completed */
            EXPECT_EQ(readers[i].c, 'a' + i);
            close(pairs[i][1]);
            if (fcntl(pairs[i][0], F_GETFD) >= 0)
                close(pairs[i][0]);
        }
        EXPECT_EQ(loop.sched.stats.stale, 0);
        EXPECT_EQ(net_free(&loop), 0);
        EXPECT_EQ(open_descriptors(), open_before);
    }
}

struct busy {
    takt_frame frame;
    int count;
};

static TAKT_CORO(busy)
{
    TAKT_BEGIN(busy, my);
    for (my->count = 0; my->count < 10000; my->count++)
        TAKT_AWAIT(takt_nop());
    TAKT_END;
}

/* C3: a loop that is never asked for more than its ops notices, too */
static void a_busy_loop_sees_what_is_lost(void)
{
    static struct busy busy;
    static net loop;
    net_config config = net_defaults();
    config.backend = wanted;
    current = &loop.backend;
    EXPECT_EQ(net_init(&loop, &config), 0);
    EXPECT(TAKT_START_ON(&loop, busy, busy));
    EXPECT(net_turn(&loop, 0, 0) >= 0);
    *loop.backend.ring.cq.koverflow += 1;
    EXPECT_EQ(net_run(&loop), -EBADR);
    EXPECT(busy.count < 1000);
    net_drain(&loop);
    net_free(&loop);
}

/* C16, A3: a loop that is over gives everything back */
static void forbid_and_run(void)
{
    static struct pair_reader reader;
    static net loop;
    net_config config = net_defaults();
    int pair[2];
    config.backend = wanted;
    current = &loop.backend;
    EXPECT_EQ(net_init(&loop, &config), 0);
    pair_of(SOCK_STREAM, pair);
    EXPECT(TAKT_START_ON(&loop, reader, pair_reader, .fd = pair[0], .other = &reader));
    EXPECT(net_turn(&loop, 0, 0) >= 0);
    EXPECT_EQ(refuse(__NR_io_uring_enter, EPERM), 0);
    EXPECT_EQ(net_run(&loop), -EPERM);
    EXPECT_EQ(net_failed(&loop), -EPERM);
    EXPECT_EQ(net_run(&loop), -EPERM);
    net_drain(&loop);
    EXPECT_EQ(net_pending(&loop), 0);
    net_free(&loop);
}

static void a_loop_whose_ring_is_forbidden_ends(void)
{
    in_child(forbid_and_run);
}

/* -- E: buffers ------------------------------------------------------------------ */

/* E3, E14, E15: the kernel refuses a ring of buffers, whatever for */
static void a_ring_of_buffers_that_is_refused(void)
{
    static const int errors[] = {-EEXIST, -EINVAL, -EFAULT, -ENOMEM};
    for (int i = 0; i < 8; i++) {
        int pair[2];
        fault.buf_ring_error = i < 4 ? errors[i] : 0; /* at init, or later */
        setup();
        EXPECT_EQ(takt_bufs_init(&pool, 16, 64), 0);
        fault.buf_ring_error = errors[i % 4];
        pair_of(SOCK_STREAM, pair);
        EXPECT_EQ(begin(0, takt_recv_multishot(pair[0], &pool)), 0);
        for (int k = 0; k < 10; k++) {
            say(pair[1], "x");
            expect_items(0, k + 1);
        }
        EXPECT_EQ(pool.kept, 0);
        EXPECT_EQ(engine.rungs & TAKT_URING_NO_BUFFER_RING, 0);
        cancel(0);
        EXPECT_EQ(end_of(0), TAKT_ECANCELED);
        close_pair(pair);
        finish();
    }
}

/* E9: memory that is none; what had come stays where it is */
static void memory_that_is_not_there(void)
{
    char text[8];
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *const gone = (char *)mmap(NULL, page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int pair[2];
    setup();
    pair_of(SOCK_STREAM, pair);
    EXPECT_EQ(begin(0, takt_recv(pair[0], gone, 4)), 0);
    EXPECT_EQ(pump(0), 0);
    say(pair[1], "data");
    EXPECT_EQ(end_of(0), -EFAULT);
    EXPECT_EQ(recv(pair[0], text, sizeof text, 0), 4);
    EXPECT_EQ(begin(0, takt_send(pair[0], gone, 4)), 0);
    EXPECT_EQ(end_of(0), -EFAULT);
    munmap(gone, page);
    expect_it_works();
    close_pair(pair);
    finish();
}

/* -- H: the host ------------------------------------------------------------------ */

static void bring_up(bool up)
{
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq request;
    memset(&request, 0, sizeof request);
    memcpy(request.ifr_name, "lo", 3);
    EXPECT_EQ(ioctl(fd, SIOCGIFFLAGS, &request), 0);
    if (up)
        request.ifr_flags = (short)(request.ifr_flags | IFF_UP);
    else
        request.ifr_flags = (short)(request.ifr_flags & ~IFF_UP);
    EXPECT_EQ(ioctl(fd, SIOCSIFFLAGS, &request), 0);
    close(fd);
}

static void without_a_network(void)
{
    struct sockaddr_in raw;
    takt_addr addr;
    char text[32], c = 0;
    int listener, fd;
    if (unshare(CLONE_NEWNET) < 0) {
        printf("  no network of its own to take away\n");
        return;
    }
    memset(&raw, 0, sizeof raw);
    setup();
    EXPECT_EQ(takt_addr_parse(&addr, "127.0.0.1:9"), 0);
    EXPECT_EQ(begin(0, takt_tcp_connect(&addr)), 0);
    EXPECT_EQ(end_of(0), -ENETUNREACH);
    bring_up(true);
    listener = listener_at(&raw);
    snprintf(text, sizeof text, "127.0.0.1:%d", ntohs(raw.sin_port));
    EXPECT_EQ(takt_addr_parse(&addr, text), 0);
    EXPECT_EQ(begin(0, takt_tcp_connect(&addr)), 0);
    fd = (int)end_of(0);
    EXPECT(fd >= 0);
    bring_up(false);
    EXPECT_EQ(begin(0, takt_send(fd, "x", 1)), 0);
    EXPECT_EQ(end_of(0), 1); /* nobody has said yet that it is in vain */
    EXPECT_EQ(begin(0, takt_recv(fd, &c, 1)), 0);
    EXPECT_EQ(pump(TAKT_MS), 0);
    cancel(0);
    EXPECT_EQ(end_of(0), TAKT_ECANCELED);
    EXPECT_EQ(begin(0, takt_tcp_connect(&addr)), 0);
    pump(TAKT_MS);
    cancel(0);
    EXPECT(end_of(0) < 0);
    expect_it_works();
    close(fd);
    close(listener);
    takt_uring_free(&engine);
}

/* H3: the network is not there, and goes away */
static void a_network_that_goes_away(void)
{
    in_child(without_a_network);
}

/* H9: to die with requests in flight does not hang */
static void a_process_that_aborts_ends(void)
{
    char c;
    int pair[2], status = 0;
    pid_t child;
    pair_of(SOCK_STREAM, pair);
    fflush(stdout);
    child = fork();
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        limit(RLIMIT_CORE, 0);
        setup();
        begin(0, takt_recv(pair[0], &c, 1));
        begin(1, takt_read(pair[1], &c, 1, -1));
        pump(0);
        abort();
    }
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    close_pair(pair);
}

static void set_disabled(const char *value)
{
    const int fd = open("/proc/sys/kernel/io_uring_disabled", O_WRONLY | O_CLOEXEC);
    EXPECT_EQ(write(fd, value, 1), 1);
    close(fd);
}

/* A2, D14, H7: what acts on the whole machine, on one that is a test's own (test/kernels.sh) */
static void a_machine_that_changes_its_mind(void)
{
    struct timespec now, other;
    takt_ns begun;
    if (!getenv("TAKT_TEST_VM"))
        return;
    if (access("/proc/sys/kernel/io_uring_disabled", W_OK) == 0) {
        set_disabled("2");
        EXPECT_EQ(takt_uring_init(&engine, &wanted, &slots), -EPERM);
        set_disabled("0");
        EXPECT_EQ(memory.live, 0);
    }
    setup();
    clock_gettime(CLOCK_REALTIME, &now);
    begun = takt_uring_now(&engine);
    for (int days = -10; days <= 10; days += 20) {
        other = now;
        other.tv_sec += days * 86400;
        EXPECT_EQ(clock_settime(CLOCK_REALTIME, &other), 0);
        EXPECT_EQ(pump(20 * TAKT_MS), 0);
    }
    clock_settime(CLOCK_REALTIME, &now);
    EXPECT(takt_uring_now(&engine) - begun >= 40 * TAKT_MS);
    EXPECT(takt_uring_now(&engine) - begun < 20 * TAKT_SEC);
    finish();
}

static const test tests[] = {
    TEST(an_older_kernel_is_met_half_way),
    TEST(a_kernel_that_lacks_a_feature),
    TEST(whatever_size_is_asked_for_one_is_given),
    TEST(little_locked_memory_makes_a_small_ring_or_none),
    TEST(the_ring_is_as_large_as_there_is_memory),
    TEST(without_descriptors_nothing_is_left_open),
    TEST(a_ring_has_one_thread),
    TEST(a_poll_that_does_not_wait_sees_what_has_come),
    TEST(a_child_cannot_touch_the_ring),
    TEST(what_a_thread_left_behind_is_no_cancel),
    TEST(what_nobody_cancelled_is_not_cancelled),
    TEST(an_accept_may_fail_with_anything),
    TEST(without_workers_the_rest_goes_on),
    TEST(every_descriptor_is_closed_by_an_exec),
    TEST(a_ring_whose_descriptor_was_closed),
    TEST(nothing_is_written_after_the_end),
    TEST(buffers_of_a_ring_that_failed_are_kept),
    TEST(a_port_is_free_when_the_backend_is_gone),
    TEST(waiting_takes_no_threads),
    TEST(sending_to_the_half_closed_takes_no_threads),
    TEST(there_is_room_but_no_memory),
    TEST(a_process_that_was_stopped_goes_on),
    TEST(an_init_without_memory_leaves_nothing),
    TEST(an_init_without_space_is_an_error),
    TEST(cancels_that_find_the_queue_full),
    TEST(a_bad_request_fails_alone),
    TEST(it_never_sleeps_on_what_was_not_submitted),
    TEST(what_an_entry_held_before_does_not_matter),
    TEST(what_the_trial_does_not_show_is_not_used),
    TEST(what_a_request_pointed_to_may_change_once_it_is_submitted),
    TEST(a_datagram_that_waits_for_room_arrives_whole),
    TEST(what_is_refused_for_now_is_asked_again),
    TEST(an_error_that_stays_is_the_end),
    TEST(a_ring_that_is_forbidden_later),
    TEST(a_number_that_is_used_again),
    TEST(a_length_beyond_32_bits),
    TEST(three_thousand_pieces),
    TEST(nothing_is_asked_for_nothing),
    TEST(any_wait_is_a_time),
    TEST(a_lost_completion_is_the_end),
    TEST(a_busy_loop_sees_what_is_lost),
    TEST(an_overflow_is_counted),
    TEST(a_buffer_with_nothing_in_it_comes_back),
    TEST(flags_that_mean_nothing_change_nothing),
    TEST(an_interrupted_request_was_cancelled_if_that_was_asked_for),
    TEST(forged_completions_harm_nobody),
    TEST(a_datagram_that_lies_about_itself),
    TEST(counters_begin_anew),
    TEST(a_cancel_is_asked_for_once),
    TEST(a_crowd_is_cancelled),
    TEST(five_thousand_sleep_until_the_same_moment),
    TEST(what_was_read_already_may_be_for_somebody_gone),
    TEST(a_loop_whose_ring_is_forbidden_ends),
    TEST(a_ring_of_buffers_that_is_refused),
    TEST(memory_that_is_not_there),
    TEST(a_network_that_goes_away),
    TEST(a_process_that_aborts_ends),
    TEST(a_machine_that_changes_its_mind),
};

static bool there_is_a_ring(void)
{
    int rc;
    char text[256];
    forget();
    rc = takt_uring_init(&engine, &wanted, &slots);
    takt_uring_describe(&engine, text, sizeof text);
    if (rc == 0)
        takt_uring_free(&engine);
    else
        printf("no io_uring here: %s\n", text);
    return rc == 0;
}

static void begin_anew(void)
{
    memset(&wanted, 0, sizeof wanted);
    memset(&fault, 0, sizeof fault);
    memset(&memory, 0, sizeof memory);
    memset(&pool, 0, sizeof pool);
    wanted.mode = TAKT_URING_ONLY;
    test_failures = 0;
}

/* fault [-v] [NAME...] */
int main(int argc, char **argv)
{
    const bool verbose = argc > 1 && strcmp(argv[1], "-v") == 0;
    int passed = 0, failed = 0;
    argc -= verbose;
    argv += verbose;
    setvbuf(stdout, NULL, _IOLBF, 0);
    begin_anew();
    if (!there_is_a_ring())
        return 77;
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) {
        if (!test_wanted(tests[i].name, argc, argv))
            continue;
        begin_anew();
        tests[i].run();
        if (test_failures || verbose)
            printf("%s %s\n", test_failures ? "FAIL" : "ok", tests[i].name);
        failed += test_failures > 0;
        passed += test_failures == 0;
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0;
}

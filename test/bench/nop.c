/*
 * nop.c - the price of the loop: an operation that completes at once, awaited.
 *
 *     nop takt|raw|bare DEPTH COUNT
 *
 * Keeps DEPTH no-ops in the ring until COUNT have completed. `takt`: a coroutine for each
 * of the DEPTH, which awaits one after the other. `raw`: what one writes by hand with
 * liburing's own functions: a callback for each completion, found through user_data, which
 * submits the next; one io_uring_submit_and_wait() a batch. `bare`: the same on the rings
 * themselves, the floor.
 *
 * Prints nanoseconds an operation: by the process's CPU clock, then by the wall's. Counting
 * instructions is the business of whoever runs it.
 */
#define TAKT_IMPLEMENTATION
#include "takt_uring.h"

#include "bench.h"

enum { ENTRIES = 256, DEPTH_MAX = 256 };

/* -- takt ----------------------------------------------------------------- */

struct nops {
    takt_frame frame;
    uint64_t left;
};

static TAKT_CORO(nops)
{
    TAKT_BEGIN(nops, my);
    do
        TAKT_AWAIT(takt_nop());
    while (--my->left);
    TAKT_END;
}

TAKT_LOOP(net, takt_uring);

static void run_takt(uint64_t depth, uint64_t count)
{
    static net loop;
    net_config config = net_defaults();
    uint64_t i;
    config.backend.mode = TAKT_URING_ONLY;
    config.backend.entries = ENTRIES;
    TAKT_POOL(config, nops, DEPTH_MAX);
    if (net_init(&loop, &config) < 0)
        bench_die("io_uring");
    for (i = 0; i < depth; i++)
        if (!TAKT_SPAWN_ON(&loop, nops, .left = count / depth))
            bench_die("spawn");
    if (net_run(&loop) < 0)
        bench_die("run");
    net_free(&loop);
}

/* -- by hand, with liburing ----------------------------------------------- */

struct request {
    void (*done)(struct request *request, int result);
    uint64_t left;
};

static struct io_uring ring;
static uint64_t alive;

static void submit_nop(struct request *request)
{
    struct io_uring_sqe *const sqe = io_uring_get_sqe(&ring);
    if (!sqe)
        bench_die("the queue is full");
    io_uring_prep_nop(sqe);
    io_uring_sqe_set_data(sqe, request);
}

static void on_nop(struct request *request, int result)
{
    if (result < 0)
        bench_die("nop");
    if (--request->left)
        submit_nop(request);
    else
        alive--;
}

static void init_ring(void)
{
    struct io_uring_params params;
    memset(&params, 0, sizeof params);
    params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
    errno = -io_uring_queue_init_params(ENTRIES, &ring, &params);
    if (errno)
        bench_die("io_uring");
    io_uring_register_ring_fd(&ring);
}

static void run_raw(uint64_t depth, uint64_t count)
{
    static struct request requests[DEPTH_MAX];
    init_ring();
    for (alive = 0; alive < depth; alive++) {
        requests[alive].done = on_nop;
        requests[alive].left = count / depth;
        submit_nop(&requests[alive]);
    }
    while (alive) {
        struct io_uring_cqe *cqe;
        unsigned head, seen = 0;
        const int rc = io_uring_submit_and_wait(&ring, 1);
        if (rc < 0 && rc != -EINTR)
            bench_die("submit");
        io_uring_for_each_cqe(&ring, head, cqe)
        {
            struct request *const request = (struct request *)io_uring_cqe_get_data(cqe);
            request->done(request, cqe->res);
            seen++;
        }
        io_uring_cq_advance(&ring, seen);
    }
    io_uring_queue_exit(&ring);
}

/* -- by hand, without ------------------------------------------------------ */

static void bare_nop(struct request *request)
{
    struct io_uring_sqe *const sqe = &ring.sq.sqes[ring.sq.sqe_tail++ & ring.sq.ring_mask];
    memset(sqe, 0, sizeof *sqe);
    sqe->opcode = IORING_OP_NOP;
    sqe->user_data = (uintptr_t)request;
}

static void on_bare_nop(struct request *request, int result)
{
    if (result < 0)
        bench_die("nop");
    if (--request->left)
        bare_nop(request);
    else
        alive--;
}

static void run_bare(uint64_t depth, uint64_t count)
{
    static struct request requests[DEPTH_MAX];
    unsigned submitted = 0;
    init_ring();
    for (unsigned i = 0; i < ring.sq.ring_entries; i++)
        ring.sq.array[i] = i;
    for (alive = 0; alive < depth; alive++) {
        requests[alive].done = on_bare_nop;
        requests[alive].left = count / depth;
        bare_nop(&requests[alive]);
    }
    while (alive) {
        unsigned head = *ring.cq.khead;
        const unsigned due = ring.sq.sqe_tail - submitted;
        submitted = ring.sq.sqe_tail;
        __atomic_store_n(ring.sq.ktail, submitted, __ATOMIC_RELEASE);
        if (io_uring_enter((unsigned)ring.enter_ring_fd, due, 1,
                           IORING_ENTER_GETEVENTS | IORING_ENTER_REGISTERED_RING, NULL) < 0)
            bench_die("enter");
        for (unsigned tail = __atomic_load_n(ring.cq.ktail, __ATOMIC_ACQUIRE); head != tail;
             head++) {
            const struct io_uring_cqe *const cqe = &ring.cq.cqes[head & ring.cq.ring_mask];
            struct request *const request = (struct request *)(uintptr_t)cqe->user_data;
            request->done(request, cqe->res);
        }
        __atomic_store_n(ring.cq.khead, head, __ATOMIC_RELEASE);
    }
    io_uring_queue_exit(&ring);
}

int main(int argc, char **argv)
{
    const char *const who = argc > 1 ? argv[1] : "takt";
    uint64_t depth = bench_number(argc, argv, 2, 32);
    const uint64_t count = bench_number(argc, argv, 3, 1000000);
    uint64_t cpu, wall;
    bench_bound();
    depth = depth < DEPTH_MAX ? depth : DEPTH_MAX;
    cpu = bench_cpu();
    wall = bench_now();
    if (strcmp(who, "raw") == 0)
        run_raw(depth, count);
    else if (strcmp(who, "bare") == 0)
        run_bare(depth, count);
    else
        run_takt(depth, count);
    cpu = bench_cpu() - cpu;
    wall = bench_now() - wall;
    printf("%.2f %.2f\n", (double)cpu / (double)count, (double)wall / (double)count);
    return 0;
}

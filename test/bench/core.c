/*
 * core.c - coroutines without a system: what a resume, a call and a spawn cost.
 *
 *     core yield|chain|call|spawn|floor-yield|floor-spawn COUNT
 *
 * yield        1000 tasks that yield, COUNT resumes in all
 * chain        the same, but each yields at the end of a chain of 16 calls
 * call         COUNT calls of a coroutine with a frame of 128 bytes that returns at once
 * spawn        COUNT tasks that finish at once, out of a pool, 100 at a time
 * floor-yield  the same by hand: callbacks through a pointer, in a circular queue
 * floor-spawn  the same by hand: malloc, queue, callback, free
 *
 * Prints nanoseconds of CPU time for each.
 */
#define TAKT_IMPLEMENTATION
#include "takt.h"

#include "bench.h"

enum { TASKS = 1000, BURST = 100, CHAIN = 16 };

TAKT_LOOP(net, takt_posix);

/* -- resume --------------------------------------------------------------- */

struct yields {
    takt_frame frame;
    uint64_t left;
};

static TAKT_CORO(yields)
{
    TAKT_BEGIN(yields, my);
    for (; my->left; my->left--)
        TAKT_YIELD;
    TAKT_END;
}

struct chain {
    takt_frame frame;
    struct chain *next; /* in: the frames below, or NULL */
    uint64_t left;
};

static TAKT_CORO(chain)
{
    TAKT_BEGIN(chain, my);
    if (my->next)
        TAKT_CALL(*my->next, chain, .next = my->left & 0xff ? my->next + 1 : NULL,
                  .left = my->left - 1);
    else
        for (my->left >>= 8; my->left; my->left--)
            TAKT_YIELD;
    TAKT_END;
}

/* -- call ------------------------------------------------------------------- */

struct callee {
    takt_frame frame;
    uint64_t in, out;
    unsigned char rest[128 - sizeof(takt_frame) - 2 * sizeof(uint64_t)];
};

static TAKT_CORO(callee)
{
    TAKT_BEGIN(callee, my);
    my->out = my->in + 1;
    TAKT_END;
}

TAKT__STATIC_ASSERT(sizeof(struct callee) == 128, "the frame that the figure speaks of");

struct calls {
    takt_frame frame;
    uint64_t left;
    struct callee callee;
    uint64_t sum;
};

static TAKT_CORO(calls)
{
    TAKT_BEGIN(calls, my);
    do {
        TAKT_CALL(my->callee, callee, .in = my->left);
        my->sum += my->callee.out;
    } while (--my->left);
    TAKT_END;
}

/* -- spawn ------------------------------------------------------------------ */

struct once {
    takt_frame frame;
    uint64_t *sum; /* in */
    uint64_t value;
};

static TAKT_CORO(once)
{
    TAKT_BEGIN(once, my);
    *my->sum += my->value;
    TAKT_END;
}

struct spawns {
    takt_frame frame;
    uint64_t left;
    uint64_t sum;
    int i;
};

static TAKT_CORO(spawns)
{
    TAKT_BEGIN(spawns, my);
    while (my->left) {
        for (my->i = 0; my->i < BURST && my->left; my->i++, my->left--)
            if (!TAKT_SPAWN(once, .sum = &my->sum, .value = my->left))
                TAKT_THROW(-ENOMEM);
        TAKT_YIELD;
    }
    TAKT_END;
}

static net loop;

static void run_takt(const char *what, uint64_t count)
{
    static struct chain chains[TASKS][CHAIN];
    static struct calls calls;
    static struct spawns spawns;
    static struct yields yields[TASKS];
    net_config config = net_defaults();
    bool started = true;
    config.loop.strands = TASKS;
    TAKT_POOL(config, once, BURST);
    if (net_init(&loop, &config) < 0)
        bench_die("init");
    if (strcmp(what, "call") == 0)
        started = TAKT_START_ON(&loop, calls, calls, .left = count);
    else if (strcmp(what, "spawn") == 0)
        started = TAKT_START_ON(&loop, spawns, spawns, .left = count);
    for (int i = 0; i < TASKS; i++) {
        if (strcmp(what, "yield") == 0)
            started = started && TAKT_START_ON(&loop, yields[i], yields, .left = count / TASKS);
        else if (strcmp(what, "chain") == 0)
            started = started && TAKT_START_ON(&loop, chains[i][0], chain, .next = &chains[i][1],
                                               .left = (count / TASKS) << 8 | (CHAIN - 2));
    }
    if (!started || net_run(&loop) < 0)
        bench_die("run");
    net_free(&loop);
}

/* -- by hand ---------------------------------------------------------------- */

struct job {
    void (*run)(struct job *job);
    uint64_t left;
};

static struct job *queue[1024];
static unsigned queue_first, queue_last;
static uint64_t sum;

static void push(struct job *job)
{
    queue[queue_last++ & 1023] = job;
}

static void run_again(struct job *job)
{
    if (--job->left)
        push(job);
}

static void run_once(struct job *job)
{
    sum += job->left;
    free(job);
}

static void run_queue(void)
{
    while (queue_first != queue_last) {
        struct job *const job = queue[queue_first++ & 1023];
        job->run(job);
    }
}

static void floor_yield(uint64_t count)
{
    static struct job jobs[TASKS];
    for (int i = 0; i < TASKS; i++) {
        jobs[i].run = run_again;
        jobs[i].left = count / TASKS + 1;
        push(&jobs[i]);
    }
    run_queue();
}

static void floor_spawn(uint64_t count)
{
    while (count) {
        for (int i = 0; i < BURST && count; i++, count--) {
            struct job *const job = (struct job *)calloc(1, sizeof(struct once));
            if (!job)
                bench_die("calloc");
            job->run = run_once;
            job->left = count;
            push(job);
        }
        run_queue();
    }
}

int main(int argc, char **argv)
{
    const char *const what = argc > 1 ? argv[1] : "yield";
    const uint64_t count = bench_number(argc, argv, 2, 1000000);
    uint64_t cpu;
    bench_bound();
    cpu = bench_cpu();
    if (strcmp(what, "floor-yield") == 0)
        floor_yield(count);
    else if (strcmp(what, "floor-spawn") == 0)
        floor_spawn(count);
    else
        run_takt(what, count);
    cpu = bench_cpu() - cpu;
    printf("%.2f\n", (double)cpu / (double)count);
    return 0;
}

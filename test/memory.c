/*
 * memory.c - the pool of buffers; completion memory, by itself and under a loop
 *
 * What is allocated is counted, and the heap can be told to be empty.
 */
#include <stdlib.h>

static int allocations, frees, allocations_left = -1; /* -1: as many as you like */

static void *counted_calloc(size_t n, size_t size)
{
    if (allocations_left == 0)
        return NULL;
    allocations_left -= allocations_left > 0;
    allocations++;
    return calloc(n, size);
}

static void counted_free(void *ptr)
{
    frees += ptr != NULL;
    free(ptr);
}

static void remember(const char *text);

#define TAKT_CALLOC(n, size) counted_calloc((n), (size))
#define TAKT_FREE(ptr) counted_free(ptr)
#define TAKT_LOG(text) remember(text)
#define TAKT_IMPLEMENTATION
#include "../takt.h"

#include "test.h"

static char logged[256]; /* the last line */

static void remember(const char *text)
{
    snprintf(logged, sizeof logged, "%s", text);
}

static takt_bufs bufs;

static void impossible_pools_are_refused(void)
{
    EXPECT_EQ(takt_bufs_init(&bufs, 0, 8), -EINVAL);
    EXPECT_EQ(takt_bufs_init(&bufs, 8, 0), -EINVAL);
    EXPECT_EQ(takt_bufs_init(&bufs, UINT32_MAX, 1), -EINVAL);
    takt_bufs_free(&bufs); /* harmless */
}

static void a_pool_without_memory_is_none(void)
{
    for (int left = 0; left < 2; left++) {
        allocations_left = left;
        EXPECT_EQ(takt_bufs_init(&bufs, 3, 100), -ENOMEM);
        allocations_left = -1;
        EXPECT_EQ(allocations, frees);
    }
    EXPECT(bufs.memory == NULL && bufs.next == NULL);
}

#ifndef TAKT_NO_POSIX
static void a_pool_is_trimmed_when_nothing_is_out(void)
{
    unsigned char *data;
    EXPECT_EQ(takt_bufs_init(&bufs, 4, 65536), 0);
    data = takt_bufs_take(&bufs);
    memset(data, 'x', 65536);
    takt_bufs_trim(&bufs);
    EXPECT_EQ(data[32768], 'x'); /* it is out: nothing has happened */
    EXPECT_EQ(takt_bufs_put(&bufs, &data), 0);
    takt_bufs_trim(&bufs);
    data = takt_bufs_take(&bufs);
    EXPECT_EQ(data[32768], 0);
    EXPECT_EQ(takt_bufs_put(&bufs, &data), 0);
    takt_bufs_free(&bufs);
}
#endif

static void a_pool_gives_what_it_has_and_then_nothing(void)
{
    unsigned char *data[4];
    EXPECT_EQ(takt_bufs_init(&bufs, 3, 100), 0);
    for (int i = 0; i < 3; i++) {
        data[i] = takt_bufs_take(&bufs);
        EXPECT(data[i] != NULL);
        memset(data[i], i, 100); /* each is whole, and its own */
        EXPECT_EQ(bufs.in_use, i + 1);
    }
    EXPECT(takt_bufs_take(&bufs) == NULL);
    EXPECT_EQ(bufs.in_use, 3);
    for (int i = 0; i < 3; i++)
        EXPECT(data[i][0] == i && data[i][99] == i);
    for (int i = 0; i < 3; i++)
        EXPECT_EQ(takt_bufs_put(&bufs, &data[i]), 0);
    EXPECT_EQ(bufs.in_use, 0);
    EXPECT_EQ(bufs.in_use_max, 3);
    takt_bufs_free(&bufs);
    EXPECT_EQ(bufs.count, 0);
}

static void the_newest_comes_first(void)
{
    unsigned char *a, *b, *c, *was_a, *was_b;
    EXPECT_EQ(takt_bufs_init(&bufs, 8, 16), 0);
    was_a = a = takt_bufs_take(&bufs);
    was_b = b = takt_bufs_take(&bufs);
    EXPECT_EQ(takt_bufs_put(&bufs, &b), 0);
    EXPECT_EQ(takt_bufs_put(&bufs, &a), 0);
    c = takt_bufs_take(&bufs);
    EXPECT(c == was_a);
    EXPECT_EQ(takt_bufs_put(&bufs, &c), 0);
    a = takt_bufs_take(&bufs);
    b = takt_bufs_take(&bufs);
    EXPECT(a == was_a && b == was_b);
    EXPECT_EQ(takt_bufs_put(&bufs, &a), 0);
    EXPECT_EQ(takt_bufs_put(&bufs, &b), 0);
    EXPECT_EQ(bufs.in_use_max, 2); /* and what was never needed was never touched */
    takt_bufs_free(&bufs);
}

static void a_buffer_is_given_back_once(void)
{
    unsigned char *data, *again, *none = NULL;
    EXPECT_EQ(takt_bufs_init(&bufs, 2, 16), 0);
    again = data = takt_bufs_take(&bufs);
    EXPECT_EQ(takt_bufs_put(&bufs, &data), 0);
    EXPECT(data == NULL);
    EXPECT_EQ(takt_bufs_put(&bufs, &data), 0); /* NULL by now: a loop and a defer */
    EXPECT_EQ(takt_bufs_put(&bufs, &none), 0);
    EXPECT_EQ(takt_bufs_put(&bufs, &again), TAKT_EBUFFER); /* a copy: that is a mistake */
    EXPECT_EQ(bufs.in_use, 0);
    EXPECT(takt_bufs_take(&bufs) != takt_bufs_take(&bufs)); /* and has broken nothing */
    EXPECT(takt_bufs_take(&bufs) == NULL);
    data = bufs.memory;
    again = bufs.memory + 16;
    EXPECT_EQ(takt_bufs_put(&bufs, &data), 0);
    EXPECT_EQ(takt_bufs_put(&bufs, &again), 0);
    takt_bufs_free(&bufs);
}

static void what_is_not_the_pools_is_refused(void)
{
    static unsigned char mine[16];
    unsigned char *data, *foreign = mine, *behind, *untouched, *before;
    EXPECT_EQ(takt_bufs_init(&bufs, 4, 16), 0);
    data = takt_bufs_take(&bufs);
    EXPECT_EQ(takt_bufs_put(&bufs, &foreign), TAKT_EBUFFER);
    behind = bufs.memory + 4 * 16;
    before = (unsigned char *)((uintptr_t)bufs.memory - 1);
    untouched = bufs.memory + 16;
    EXPECT_EQ(takt_bufs_put(&bufs, &behind), TAKT_EBUFFER);
    EXPECT_EQ(takt_bufs_put(&bufs, &before), TAKT_EBUFFER);
    EXPECT_EQ(takt_bufs_put(&bufs, &untouched), TAKT_EBUFFER);
    EXPECT_EQ(bufs.in_use, 1);
    data += 15; /* any address inside will do: a parser has moved on */
    EXPECT_EQ(takt_bufs_put(&bufs, &data), 0);
    EXPECT_EQ(bufs.in_use, 0);
    takt_bufs_free(&bufs);
}

/* A million takes and puts against a table of who has what. */
static void every_buffer_has_one_owner(void)
{
    enum { COUNT = 50 };
    static unsigned char *owned[COUNT];
    uint32_t state = 1, held = 0, most = 0;
    EXPECT_EQ(takt_bufs_init(&bufs, COUNT, 8), 0);
    for (int i = 0; i < 200000; i++) {
        const uint32_t who = (state = state * 1664525u + 1013904223u) >> 8;
        unsigned char **const mine = &owned[who % COUNT];
        if (*mine) {
            EXPECT_EQ(**mine, who % COUNT);
            EXPECT_EQ(takt_bufs_put(&bufs, mine), 0);
            held--;
        } else {
            *mine = takt_bufs_take(&bufs);
            **mine = (unsigned char)(who % COUNT);
            held++;
        }
        most = held > most ? held : most;
        if (bufs.in_use != held)
            break;
    }
    EXPECT_EQ(bufs.in_use, held);
    EXPECT_EQ(bufs.in_use_max, most);
    for (int i = 0; i < COUNT; i++)
        EXPECT_EQ(takt_bufs_put(&bufs, &owned[i]), 0);
    EXPECT_EQ(bufs.in_use, 0);
    takt_bufs_free(&bufs);
}

/* -- completion memory: the heap -------------------------------------------- */

static void *take(takt_memory *memory, size_t size, size_t *capacity)
{
    *capacity = 0;
    return memory->acquire(memory->user, size, capacity);
}

static int give(takt_memory *memory, void *slab, size_t capacity)
{
    return memory->release(memory->user, slab, capacity);
}

static bool all_zero(const void *slab, size_t size)
{
    const unsigned char *const bytes = (const unsigned char *)slab;
    for (size_t i = 0; i < size; i++)
        if (bytes[i])
            return false;
    return true;
}

/* CM-1, CM-8 */
static void the_default_is_what_stays_in_the_cache(void)
{
    TAKT__STATIC_ASSERT(TAKT_DEFAULT_COMPLETIONS == TAKT_SLAB_DEFAULT / sizeof(takt_completion),
                        "CM-1: a compile-time constant");
    takt_config config;
    memset(&config, 0, sizeof config);
    takt__defaults(&config);
    EXPECT_EQ(config.completions, TAKT_DEFAULT_COMPLETIONS); /* CM-1 */
    EXPECT(config.memory == NULL);
    EXPECT_EQ(TAKT_SLABS_DEFAULT, 8); /* CM-8 */
}

/* CM-2, CM-3 */
static void the_heap_gives_what_was_asked_for(void)
{
    static const size_t sizes[] = {1, 8, 64, 1024, TAKT_SLAB_DEFAULT + 1};
    takt_heap_memory heap;
    size_t capacity;
    void *slab;
    const int before = allocations - frees;
    takt_heap_init(&heap);
    slab = take(&heap.memory, 0, &capacity); /* CM-2 */
    EXPECT_EQ(capacity, TAKT_SLAB_DEFAULT);
    EXPECT_EQ(give(&heap.memory, slab, capacity), 0);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) { /* CM-3 */
        slab = take(&heap.memory, sizes[i], &capacity);
        EXPECT_EQ(capacity, sizes[i]);
        memset(slab, 1, sizes[i]);
        EXPECT_EQ(give(&heap.memory, slab, capacity), 0);
    }
    EXPECT_EQ(heap.acquired, 6);
    EXPECT_EQ(heap.released, 6);
    EXPECT_EQ(give(&heap.memory, NULL, TAKT_SLAB_DEFAULT), 0);
    takt_heap_free(&heap);
    EXPECT_EQ(allocations - frees, before);
}

/* CM-4, CM-6, CM-20 */
static void the_heap_reuses_slabs_of_the_default_size_zeroed(void)
{
    takt_heap_memory heap;
    size_t capacity;
    unsigned char *first, *slab;
    int before;
    takt_heap_init(&heap);
    first = (unsigned char *)take(&heap.memory, 0, &capacity);
    before = allocations;
    for (int i = 0; i < 64; i++) { /* CM-4: it repeats, always */
        first[0] = first[TAKT_SLAB_DEFAULT - 1] = 42;
        EXPECT_EQ(give(&heap.memory, first, capacity), 0);
        slab = (unsigned char *)take(&heap.memory, 0, &capacity);
        EXPECT(slab == first);
        EXPECT_EQ(capacity, TAKT_SLAB_DEFAULT);
        EXPECT(all_zero(slab, TAKT_SLAB_DEFAULT)); /* CM-6 */
    }
    EXPECT_EQ(allocations, before);
    slab = (unsigned char *)take(&heap.memory, 0, &capacity);
    EXPECT(slab != first); /* CM-18 */
    EXPECT_EQ(give(&heap.memory, slab, capacity), 0); /* one is kept, */
    before = frees;
    EXPECT_EQ(give(&heap.memory, first, capacity), 0);
    EXPECT_EQ(frees, before + 1); /* the other is not */
    first = slab;
    EXPECT_EQ(give(&heap.memory, first, capacity), TAKT_EBUFFER); /* CM-20: not twice */
    takt_heap_free(&heap);
    EXPECT_EQ(allocations - frees, 0);
}

/* CM-5 */
static void the_heap_does_not_keep_other_sizes(void)
{
    takt_heap_memory heap;
    size_t capacity;
    void *slab;
    int freed;
    takt_heap_init(&heap);
    slab = take(&heap.memory, 7, &capacity); /* CM-5 */
    freed = frees;
    EXPECT_EQ(give(&heap.memory, slab, capacity), 0);
    EXPECT_EQ(frees, freed + 1);
    slab = take(&heap.memory, 7, &capacity);
    EXPECT_EQ(capacity, 7);
    EXPECT_EQ(give(&heap.memory, slab, capacity), 0);
    EXPECT(heap.kept == NULL);
    allocations_left = 0;
    EXPECT(take(&heap.memory, 7, &capacity) == NULL); /* an empty heap is said to be one */
    allocations_left = -1;
    EXPECT_EQ(heap.acquired, 2);
    takt_heap_free(&heap);
    EXPECT_EQ(allocations - frees, 0);
}

/* -- completion memory: bounded ----------------------------------------------- */

enum { SLAB = 256 };

/* CM-16 */
static void impossible_bounds_are_refused(void)
{
    takt_bounded_memory b;
    EXPECT_EQ(takt_bounded_init(&b, 0, SLAB), -EINVAL);
    EXPECT_EQ(takt_bounded_init(&b, 4, 0), -EINVAL);
    EXPECT_EQ(takt_bounded_init(&b, UINT32_MAX, SLAB), -EINVAL);
    EXPECT_EQ(takt_bounded_init(&b, 1u << 24, SIZE_MAX / 4), -EINVAL);
    EXPECT_EQ(takt_bounded_init(&b, 4, SIZE_MAX), -EINVAL);
    for (allocations_left = 0; allocations_left < 3;) {
        const int left = allocations_left;
        EXPECT_EQ(takt_bounded_init(&b, 4, SLAB), -ENOMEM);
        allocations_left = left + 1;
    }
    allocations_left = -1;
    EXPECT_EQ(give(&b.memory, &b, 0), TAKT_EBUFFER);
    EXPECT_EQ(takt_bounded_free(&b), 0); /* harmless */
    EXPECT_EQ(allocations - frees, 0);
}

/* CM-7, CM-9, CM-12, CM-18 */
static void a_bounded_provider_has_one_block(void)
{
    takt_bounded_memory b;
    unsigned char *slabs[TAKT_SLABS_DEFAULT], *low;
    size_t capacity;
    int before = allocations;
    bool seen[TAKT_SLABS_DEFAULT] = {false};
    EXPECT_EQ(takt_bounded_init(&b, TAKT_SLABS_DEFAULT, TAKT_SLAB_DEFAULT), 0);
    EXPECT(allocations > before); /* CM-12, deviating: at the start */
    EXPECT_EQ(b.count, 8);
    before = allocations;
    for (int i = 0; i < TAKT_SLABS_DEFAULT; i++) {
        slabs[i] = (unsigned char *)take(&b.memory, 64, &capacity);
        EXPECT_EQ(capacity, TAKT_SLAB_DEFAULT); /* CM-7: a whole slab, whatever was asked for */
        EXPECT_EQ((uintptr_t)slabs[i] % sizeof(uint64_t), 0);
        memset(slabs[i], i, capacity); /* CM-18: disjoint */
    }
    EXPECT_EQ(allocations, before); /* and nothing later */
    low = slabs[0];
    for (int i = 0; i < TAKT_SLABS_DEFAULT; i++) {
        EXPECT(slabs[i][0] == i && slabs[i][TAKT_SLAB_DEFAULT - 1] == i);
        low = slabs[i] < low ? slabs[i] : low;
    }
    for (int i = 0; i < TAKT_SLABS_DEFAULT; i++) { /* CM-9 */
        const size_t offset = (size_t)(slabs[i] - low);
        EXPECT_EQ(offset % TAKT_SLAB_DEFAULT, 0);
        EXPECT(offset / TAKT_SLAB_DEFAULT < 8 && !seen[offset / TAKT_SLAB_DEFAULT]);
        seen[offset / TAKT_SLAB_DEFAULT] = true;
    }
    EXPECT_EQ(takt_bounded_free(&b), -EBUSY);
    for (int i = 0; i < TAKT_SLABS_DEFAULT; i++)
        EXPECT_EQ(give(&b.memory, slabs[i], capacity), 0);
    EXPECT_EQ(b.in_use_max, 8);
    EXPECT_EQ(takt_bounded_free(&b), 0);
    EXPECT_EQ(allocations - frees, 0);
}

/* CM-8 */
static void the_count_is_a_power_of_two_and_the_order_first_in_first_out(void)
{
    static const uint32_t asked[] = {1, 2, 3, 4, 5}, got[] = {1, 2, 4, 4, 8};
    takt_bounded_memory b;
    void *slabs[4];
    size_t capacity;
    for (int i = 0; i < 5; i++) {
        EXPECT_EQ(takt_bounded_init(&b, asked[i], SLAB), 0);
        EXPECT_EQ(b.count, got[i]);
        EXPECT_EQ(takt_bounded_free(&b), 0);
    }
    EXPECT_EQ(takt_bounded_init(&b, 3, SLAB - 1), 0);
    for (int i = 0; i < 4; i++)
        slabs[i] = take(&b.memory, 0, &capacity);
    EXPECT_EQ(capacity, SLAB); /* a slab is whole cache lines */
    for (int round = 0; round < 100; round++) { /* the order of return is that of reuse */
        EXPECT_EQ(give(&b.memory, slabs[2], capacity), 0);
        EXPECT_EQ(give(&b.memory, slabs[0], capacity), 0);
        EXPECT_EQ(give(&b.memory, slabs[3], capacity), 0);
        EXPECT(take(&b.memory, SLAB, &capacity) == slabs[2]);
        EXPECT(take(&b.memory, SLAB, &capacity) == slabs[0]);
        EXPECT(take(&b.memory, SLAB, &capacity) == slabs[3]);
    }
    for (int i = 0; i < 4; i++)
        EXPECT_EQ(give(&b.memory, slabs[i], capacity), 0);
    EXPECT_EQ(takt_bounded_free(&b), 0);
}

/* CM-6 */
static void what_comes_back_is_zeroed(void)
{
    takt_bounded_memory b;
    size_t capacity;
    void *slab;
    EXPECT_EQ(takt_bounded_init(&b, 1, SLAB), 0);
    slab = take(&b.memory, 0, &capacity);
    memset(slab, 0xff, SLAB);
    EXPECT_EQ(give(&b.memory, slab, capacity), 0);
    EXPECT(take(&b.memory, 0, &capacity) == slab);
    EXPECT(all_zero(slab, SLAB));
    EXPECT_EQ(give(&b.memory, slab, capacity), 0);
    EXPECT_EQ(takt_bounded_free(&b), 0);
}

/* CM-10, CM-7: deviating */
static void an_empty_provider_says_so(void)
{
    takt_bounded_memory b;
    void *slabs[4];
    size_t capacity;
    EXPECT_EQ(takt_bounded_init(&b, 4, SLAB), 0);
    EXPECT(take(&b.memory, SLAB + 1, &capacity) == NULL); /* CM-7, deviating: too large */
    for (int i = 0; i < 4; i++)
        slabs[i] = take(&b.memory, SLAB, &capacity);
    EXPECT(take(&b.memory, 1, &capacity) == NULL);
    EXPECT_EQ(b.refused, 2);
    EXPECT_EQ(give(&b.memory, slabs[1], SLAB), 0);
    EXPECT(take(&b.memory, 1, &capacity) == slabs[1]);
    for (int i = 0; i < 4; i++)
        EXPECT_EQ(give(&b.memory, slabs[i], SLAB), 0);
    EXPECT_EQ(takt_bounded_free(&b), 0);
}

/* CM-7, CM-10: as they are written */
static void it_grows_when_asked_to(void)
{
    takt_bounded_memory b;
    unsigned char *slabs[4], *more, *large;
    size_t capacity;
    EXPECT_EQ(takt_bounded_init(&b, 4, SLAB), 0);
    b.grow = true;
    for (int i = 0; i < 4; i++)
        slabs[i] = (unsigned char *)take(&b.memory, SLAB, &capacity);
    more = (unsigned char *)take(&b.memory, 5, &capacity);
    EXPECT(more != NULL);
    EXPECT_EQ(capacity, SLAB);
    EXPECT(more + SLAB <= b.block || more >= b.block + 4 * SLAB);
    large = (unsigned char *)take(&b.memory, SLAB + 1, &capacity);
    EXPECT_EQ(capacity, SLAB + 1);
    memset(more, 1, SLAB);
    memset(large, 1, SLAB + 1);
    EXPECT_EQ(b.grown, 2);
    EXPECT_EQ(b.refused, 0);
    EXPECT_EQ(takt_bounded_free(&b), -EBUSY);
    EXPECT_EQ(give(&b.memory, more, SLAB + 1), TAKT_EBUFFER); /* not its size */
    for (int i = 0; i < 4; i++)
        EXPECT_EQ(give(&b.memory, slabs[i], SLAB), 0);
    EXPECT_EQ(takt_bounded_free(&b), -EBUSY); /* what grew is out as well */
    for (int i = 0; i < 4; i++)
        EXPECT(take(&b.memory, SLAB, &capacity) == slabs[i]);
    EXPECT_EQ(give(&b.memory, more, SLAB), 0);
    EXPECT_EQ(give(&b.memory, large, SLAB + 1), 0);
    EXPECT_EQ(b.grown, 0);
    allocations_left = 0;
    EXPECT(take(&b.memory, 5, &capacity) == NULL); /* the heap is empty too */
    allocations_left = -1;
    EXPECT(take(&b.memory, SIZE_MAX, &capacity) == NULL);
    EXPECT_EQ(b.refused, 2);
    for (int i = 0; i < 4; i++)
        EXPECT_EQ(give(&b.memory, slabs[i], SLAB), 0);
    EXPECT(take(&b.memory, 5, &capacity) == slabs[0]); /* what grew is not of the pool */
    EXPECT_EQ(give(&b.memory, slabs[0], SLAB), 0);
    EXPECT_EQ(takt_bounded_free(&b), 0);
    EXPECT_EQ(allocations - frees, 0);
}

/* CM-11, CM-17, CM-20 */
static void what_is_not_out_is_not_taken_back(void)
{
    static uint64_t mine[SLAB / 8];
    takt_bounded_memory b;
    unsigned char *slab, *other;
    size_t capacity;
    const int freed = frees;
    EXPECT_EQ(takt_bounded_init(&b, 4, SLAB), 0);
    EXPECT_EQ(give(&b.memory, b.block, SLAB), TAKT_EBUFFER); /* before the first was taken */
    slab = (unsigned char *)take(&b.memory, SLAB, &capacity);
    other = (unsigned char *)take(&b.memory, SLAB, &capacity);
    EXPECT_EQ(give(&b.memory, NULL, SLAB), 0);
    EXPECT_EQ(give(&b.memory, mine, SLAB), TAKT_EBUFFER);
    EXPECT_EQ(give(&b.memory, slab, 64), TAKT_EBUFFER); /* CM-17: of what was asked for */
    EXPECT_EQ(give(&b.memory, slab + 64, SLAB), TAKT_EBUFFER);
    EXPECT_EQ(give(&b.memory, b.block + 4 * SLAB, SLAB), TAKT_EBUFFER);
    EXPECT_EQ(b.in_use, 2);
    EXPECT_EQ(give(&b.memory, slab, SLAB), 0);
    EXPECT_EQ(give(&b.memory, slab, SLAB), TAKT_EBUFFER); /* CM-20: twice */
    EXPECT_EQ(b.in_use, 1);
    EXPECT_EQ(b.strange, 6);
    EXPECT_EQ(frees, freed);
    for (int i = 0; i < 3; i++) { /* nobody was given what another has, or what is mine */
        unsigned char *const next = (unsigned char *)take(&b.memory, SLAB, &capacity);
        EXPECT(next != NULL && next != other && next != (unsigned char *)mine);
    }
    EXPECT(take(&b.memory, SLAB, &capacity) == NULL);
    for (uint32_t i = 0; i < 4; i++)
        EXPECT_EQ(give(&b.memory, b.block + i * SLAB, SLAB), 0);
    EXPECT_EQ(takt_bounded_free(&b), 0);
}

/* -- completion memory: under a loop -------------------------------------------- */

typedef struct echo_config {
    int init_error;
} echo_config;

/* A backend that completes a nop at the next poll, and holds all else until it is told. */
typedef struct echo {
    takt_op *done;
    takt_op *held;
    int max, polls; /* `max` as it was told last */
    int poll_error;
} echo;

static int echo_init(echo *e, const echo_config *config, const takt_slots *slots)
{
    (void)slots;
    memset(e, 0, sizeof *e);
    return config->init_error;
}

static void echo_free(echo *e)
{
    (void)e;
}

static takt_ns echo_now(echo *e)
{
    return e->polls * TAKT_MS; /* so that even waiting for ever ends */
}

static int echo_submit(echo *e, takt_op *op, takt_token *token)
{
    (void)token;
    if (op->kind != TAKT_OP_NOP) {
        e->held = op;
        return 0;
    }
    op->next = e->done;
    e->done = op;
    return 0;
}

static void echo_cancel(echo *e, takt_op *op)
{
    (void)e;
    (void)op; /* it does not listen */
}

static int echo_poll(echo *e, takt_completion *out, int max, takt_ns wait)
{
    int count = 0;
    (void)wait;
    e->max = max;
    e->polls++;
    if (e->poll_error)
        return e->poll_error;
    for (; e->done && count < max; count++, e->done = e->done->next) {
        memset(&out[count], 0, sizeof *out);
        out[count].token = takt_token_of(e->done);
    }
    return count ? count : TAKT_EWOULDBLOCK;
}

static void echo_flush(echo *e)
{
    (void)e;
}

static bool echo_busy(echo *e)
{
    return e->done != NULL;
}

static int echo_fd(echo *e)
{
    (void)e;
    return -1;
}

static int64_t echo_call(echo *e, takt_op *op)
{
    (void)e;
    (void)op;
    return -ENOTSUP;
}

TAKT_LOOP(world, echo);

struct waiter {
    takt_frame frame;
    bool hold;
    char byte;
};

static TAKT_CORO(waiter)
{
    TAKT_BEGIN(waiter, my);
    if (my->hold)
        TAKT_AWAIT(takt_recv(3, &my->byte, 1));
    TAKT_AWAIT(takt_nop());
    TAKT_END;
}

struct other {
    takt_frame frame;
};

static TAKT_CORO(other)
{
    TAKT_BEGIN(other, my);
    TAKT_END;
}

/* The user's own: counts, and gives `has` completions whatever is asked for. */
typedef struct recorder {
    takt_memory memory;
    size_t has;      /* completions; 0: none at all */
    size_t by;       /* bytes off the alignment */
    size_t asked;    /* bytes, last */
    size_t released_capacity;
    int acquires, releases;
    takt_completion slab[17] __attribute__((aligned(8))); /* as the loop wants it, everywhere */
} recorder;

static void *recorder_acquire(void *user, size_t size, size_t *capacity)
{
    recorder *const r = (recorder *)user;
    r->acquires++;
    r->asked = size;
    *capacity = r->has * sizeof(takt_completion);
    return r->has ? (unsigned char *)r->slab + r->by : NULL;
}

static int recorder_release(void *user, void *slab, size_t capacity)
{
    recorder *const r = (recorder *)user;
    EXPECT(slab == (unsigned char *)r->slab + r->by);
    r->releases++;
    r->released_capacity = capacity;
    memset(r->slab, 0xee, sizeof r->slab); /* CM-18: it is no longer the loop's */
    return 0;
}

static void recorder_begin(recorder *r, size_t has)
{
    memset(r, 0, sizeof *r);
    r->has = has;
    r->memory.acquire = recorder_acquire;
    r->memory.release = recorder_release;
    r->memory.user = r;
}

static world loop, second;
static struct waiter a, b;

static int begin(world *w, const takt_memory *memory, uint32_t completions)
{
    world_config config = world_defaults();
    config.loop.memory = memory;
    config.loop.strands = 4;
    config.loop.reap_limit = 20 * TAKT_MS;
    if (completions)
        config.loop.completions = completions;
    return world_init(w, &config);
}

/* CM-13, CM-14, LP-44, CM-17, CM-18, LP-46 */
static void a_loop_takes_its_slab_once_and_gives_it_back_once(void)
{
    recorder r;
    recorder_begin(&r, 16);
    EXPECT_EQ(begin(&loop, &r.memory, 8), 0);
    EXPECT_EQ(r.acquires, 1); /* CM-13 */
    EXPECT_EQ(r.asked, 8 * sizeof(takt_completion)); /* CM-14 */
    EXPECT(TAKT_START_ON(&loop, a, waiter));
    EXPECT(TAKT_START_ON(&loop, b, waiter));
    EXPECT(world_turn(&loop, 0, 0) >= 0);
    EXPECT_EQ(loop.backend.max, 8); /* CM-14: trimmed to the cap */
    EXPECT_EQ(r.releases, 0);
    EXPECT(TAKT_START_ON(&loop, a, waiter));
    EXPECT(TAKT_START_ON(&loop, b, waiter));
    EXPECT_EQ(world_drain(&loop), 2); /* LP-44 */
    EXPECT_EQ(world_failed(&loop), TAKT_EDISPOSED);
    EXPECT_EQ(r.releases, 1);
    EXPECT_EQ(r.released_capacity, 16 * sizeof(takt_completion)); /* CM-17 */
    EXPECT(loop.completions == NULL); /* CM-18 */
    EXPECT_EQ(world_drain(&loop), 0); /* LP-46 */
    EXPECT_EQ(world_turn(&loop, 0, 0), TAKT_EDISPOSED);
    EXPECT_EQ(world_free(&loop), 0);
    EXPECT_EQ(r.releases, 1);
    EXPECT_EQ(r.acquires, 1);
    EXPECT_EQ(allocations - frees, 0);
}

/* LP-43, LP-45, LP-46 */
static void a_broken_loop_keeps_its_slab_until_it_is_drained(void)
{
    recorder r;
    recorder_begin(&r, 8);
    EXPECT_EQ(begin(&loop, &r.memory, 8), 0);
    EXPECT(TAKT_START_ON(&loop, a, waiter));
    loop.backend.poll_error = -EIO;
    EXPECT_EQ(world_turn(&loop, 0, 0), -EIO);
    EXPECT_EQ(r.releases, 0); /* LP-43 */
    EXPECT_EQ(world_drain(&loop), 0); /* LP-45 */
    EXPECT_EQ(world_failed(&loop), -EIO);
    EXPECT_EQ(r.releases, 1);
    EXPECT_EQ(world_drain(&loop), 0); /* LP-46 */
    EXPECT_EQ(r.releases, 1);
    EXPECT_EQ(world_free(&loop), -EBUSY); /* its op was never completed */
    EXPECT_EQ(r.releases, 1);
    counted_free(loop.sched.slab); /* here the test knows better */
    counted_free(loop.sched.results);
    counted_free(loop.sched.items);
    counted_free(loop.sched.foreign.at);
    EXPECT_EQ(allocations - frees, 0);
}

/* CM-13, LP-44: what the kernel does not give up within the limit is waited for by the next
 * drain: until then the slab is needed. */
static void a_drain_that_did_not_end_keeps_the_slab(void)
{
    recorder r;
    recorder_begin(&r, 8);
    EXPECT_EQ(begin(&loop, &r.memory, 8), 0);
    EXPECT(TAKT_START_ON(&loop, a, waiter, .hold = true));
    EXPECT(world_turn(&loop, 0, 0) >= 0);
    EXPECT_EQ(world_drain(&loop), 1);
    EXPECT_EQ(r.releases, 0);
    EXPECT_EQ(world_free(&loop), -EBUSY);
    EXPECT_EQ(r.releases, 0);
    loop.backend.held->next = NULL;
    loop.backend.done = loop.backend.held;
    EXPECT_EQ(world_drain(&loop), 0);
    EXPECT_EQ(r.releases, 1);
    EXPECT_EQ(world_free(&loop), 0);
    EXPECT_EQ(r.releases, 1);
    EXPECT_EQ(allocations - frees, 0);
}

/* CM-15 */
static void a_slab_that_will_not_do_is_an_error_of_the_init(void)
{
    recorder r;
    recorder_begin(&r, 1);
    logged[0] = '\0';
    EXPECT_EQ(begin(&loop, &r.memory, 4), -EINVAL); /* CM-15 */
    EXPECT(strstr(logged, "too short"));
    EXPECT_EQ(r.releases, 1); /* it is theirs again */
    recorder_begin(&r, 0);
    EXPECT_EQ(begin(&loop, &r.memory, 0), -ENOMEM); /* CM-15: empty */
    EXPECT_EQ(r.releases, 0);
    recorder_begin(&r, 16);
    r.by = 1;
    EXPECT_EQ(begin(&loop, &r.memory, 4), -EINVAL);
    EXPECT_EQ(r.releases, 1);
    EXPECT_EQ(allocations - frees, 0);
}

/* CM-16 */
static void an_init_that_fails_takes_nothing_with_it(void)
{
    recorder r;
    world_config config = world_defaults();
    recorder_begin(&r, 16);
    config.loop.memory = &r.memory;
    config.loop.completions = 4;
    config.backend.init_error = -EPERM;
    EXPECT_EQ(world_init(&loop, &config), -EPERM);
    EXPECT_EQ(r.releases, 1);
    config.backend.init_error = 0;
    config.loop.completions = 0; /* CM-16 */
    EXPECT_EQ(world_init(&loop, &config), -EINVAL);
    config.loop.completions = (1u << 20) + 1;
    EXPECT_EQ(world_init(&loop, &config), -EINVAL);
    config.loop.completions = 4;
    config.loop.strands = 0;
    EXPECT_EQ(world_init(&loop, &config), -EINVAL);
    EXPECT_EQ(r.acquires, 1); /* nobody was asked in vain */
    config.loop.strands = 4;
    config.loop.memory = NULL;
    allocations_left = 1; /* for the strands, but not for the slab */
    EXPECT_EQ(world_init(&loop, &config), -ENOMEM);
    allocations_left = -1;
    EXPECT_EQ(allocations - frees, 0);
}

/* Wherever the heap ends: nothing is left behind. */
static void an_init_without_memory_fails_as_a_whole(void)
{
    world_config config = world_defaults();
    int left = 0, rc;
    TAKT_POOL(config, waiter, 2);
    do {
        allocations_left = left++;
        rc = world_init(&loop, &config);
        allocations_left = -1;
        EXPECT(rc == 0 || rc == -ENOMEM);
        EXPECT(rc == 0 || allocations == frees);
    } while (rc < 0 && left < 100);
    EXPECT(left > 5); /* strands, results, items, tokens, completions, the pool */
    EXPECT_EQ(world_free(&loop), 0);
    EXPECT_EQ(allocations - frees, 0);
}

static void more_strands_than_can_be_counted_are_refused(void)
{
    world_config config = world_defaults();
    config.loop.strands = UINT32_MAX / 4 + 1;
    EXPECT_EQ(world_init(&loop, &config), -EINVAL);
    config.loop.strands = 1;
    TAKT_POOL(config, waiter, UINT32_MAX, .strands = UINT32_MAX);
    EXPECT_EQ(world_init(&loop, &config), -EINVAL);
    EXPECT_EQ(allocations - frees, 0);
}

/* A task has a strand at least; a pool may be empty. */
static void a_pool_can_say_nothing_of_strands_or_of_tasks(void)
{
    world_config config = world_defaults();
    config.loop.strands = 0;
    config.loop.items = 0;
    TAKT_POOL(config, waiter, 2, .strands = 0);
    TAKT_POOL(config, other, 0);
    EXPECT_EQ(world_init(&loop, &config), 0);
    EXPECT(TAKT_SPAWN_ON(&loop, waiter));
    EXPECT(TAKT_SPAWN_ON(&loop, waiter));
    EXPECT(!TAKT_SPAWN_ON(&loop, waiter));
    EXPECT(!TAKT_SPAWN_ON(&loop, other));
    EXPECT_EQ(world_run(&loop), 0);
    EXPECT_EQ(world_free(&loop), 0);
    EXPECT_EQ(allocations - frees, 0);
}

static int forgetful_release(void *user, void *slab, size_t capacity)
{
    (void)recorder_release(user, slab, capacity);
    return TAKT_EBUFFER;
}

static void a_provider_that_does_not_know_its_slab_is_told_of(void)
{
    recorder r;
    recorder_begin(&r, 16);
    r.memory.release = forgetful_release;
    logged[0] = '\0';
    EXPECT_EQ(begin(&loop, &r.memory, 4), 0);
    EXPECT_EQ(world_free(&loop), 0);
    EXPECT_EQ(r.releases, 1);
    EXPECT(strstr(logged, "does not know the slab"));
    EXPECT_EQ(allocations - frees, 0);
}

TAKT_STREAM(feed, echo, unsigned char);

static void a_runner_without_memory_or_routes_is_none(void)
{
    static feed runner;
    feed_config config = feed_defaults();
    int left = 0, rc;
    config.routes = 0;
    EXPECT_EQ(feed_init(&runner, &config), -EINVAL);
    config.routes = UINT32_MAX / 4 + 1;
    EXPECT_EQ(feed_init(&runner, &config), -EINVAL);
    config.routes = 4;
    do {
        allocations_left = left++;
        rc = feed_init(&runner, &config);
        allocations_left = -1;
        EXPECT(rc == 0 || rc == -ENOMEM);
        EXPECT(rc == 0 || allocations == frees);
    } while (rc < 0 && left < 100);
    EXPECT(left > 4); /* routes, tokens, events, completions */
    feed_free(&runner);
    EXPECT_EQ(allocations - frees, 0);
}

/* CM-2 */
static void the_heap_serves_a_loop_with_or_without_a_provider(void)
{
    takt_heap_memory heap;
    takt_heap_init(&heap);
    for (int i = 0; i < 3; i++) {
        EXPECT_EQ(begin(&loop, i ? &heap.memory : NULL, 0), 0);
        EXPECT(TAKT_START_ON(&loop, a, waiter));
        EXPECT_EQ(world_run(&loop), 0);
        EXPECT_EQ(loop.backend.max, TAKT_DEFAULT_COMPLETIONS); /* CM-2 */
        EXPECT_EQ(world_free(&loop), 0);
    }
    EXPECT_EQ(heap.acquired, 2);
    EXPECT_EQ(heap.released, 2);
    takt_heap_free(&heap);
    EXPECT_EQ(allocations - frees, 0);
}

/* CM-10, CM-18, CM-19 */
static void two_loops_share_a_bounded_provider(void)
{
    takt_bounded_memory bounded;
    const size_t size = TAKT_DEFAULT_COMPLETIONS * sizeof(takt_completion);
    EXPECT_EQ(takt_bounded_init(&bounded, 2, TAKT_SLAB_DEFAULT), 0);
    for (int i = 0; i < 5; i++) {
        EXPECT_EQ(begin(&loop, &bounded.memory, 0), 0);
        EXPECT_EQ(begin(&second, &bounded.memory, 0), 0);
        EXPECT((uintptr_t)loop.completions + size <= (uintptr_t)second.completions ||
               (uintptr_t)second.completions + size <= (uintptr_t)loop.completions); /* CM-18 */
        EXPECT(TAKT_START_ON(&loop, a, waiter));
        EXPECT(TAKT_START_ON(&second, b, waiter));
        EXPECT_EQ(world_run(&loop), 0);
        EXPECT_EQ(world_run(&second), 0);
        EXPECT_EQ(world_drain(&second), 0);
        EXPECT_EQ(bounded.in_use, 1);
        EXPECT_EQ(world_free(&second), 0);
        EXPECT_EQ(begin(&second, &bounded.memory, 0), 0);
        {
            static world third;
            EXPECT_EQ(begin(&third, &bounded.memory, 0), -ENOMEM); /* CM-10, deviating */
        }
        EXPECT_EQ(world_free(&second), 0);
        EXPECT_EQ(world_free(&loop), 0);
    }
    EXPECT_EQ(bounded.strange, 0);
    EXPECT_EQ(takt_bounded_free(&bounded), 0);
    EXPECT_EQ(allocations - frees, 0);
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        TEST(impossible_pools_are_refused),
        TEST(a_pool_without_memory_is_none),
#ifndef TAKT_NO_POSIX
        TEST(a_pool_is_trimmed_when_nothing_is_out),
#endif
        TEST(a_pool_gives_what_it_has_and_then_nothing),
        TEST(the_newest_comes_first),
        TEST(a_buffer_is_given_back_once),
        TEST(what_is_not_the_pools_is_refused),
        TEST(every_buffer_has_one_owner),
        TEST(the_default_is_what_stays_in_the_cache),
        TEST(the_heap_gives_what_was_asked_for),
        TEST(the_heap_reuses_slabs_of_the_default_size_zeroed),
        TEST(the_heap_does_not_keep_other_sizes),
        TEST(impossible_bounds_are_refused),
        TEST(a_bounded_provider_has_one_block),
        TEST(the_count_is_a_power_of_two_and_the_order_first_in_first_out),
        TEST(what_comes_back_is_zeroed),
        TEST(an_empty_provider_says_so),
        TEST(it_grows_when_asked_to),
        TEST(what_is_not_out_is_not_taken_back),
        TEST(a_loop_takes_its_slab_once_and_gives_it_back_once),
        TEST(a_broken_loop_keeps_its_slab_until_it_is_drained),
        TEST(a_drain_that_did_not_end_keeps_the_slab),
        TEST(a_slab_that_will_not_do_is_an_error_of_the_init),
        TEST(an_init_that_fails_takes_nothing_with_it),
        TEST(an_init_without_memory_fails_as_a_whole),
        TEST(more_strands_than_can_be_counted_are_refused),
        TEST(a_pool_can_say_nothing_of_strands_or_of_tasks),
        TEST(a_provider_that_does_not_know_its_slab_is_told_of),
        TEST(a_runner_without_memory_or_routes_is_none),
        TEST(the_heap_serves_a_loop_with_or_without_a_provider),
        TEST(two_loops_share_a_bounded_provider),
    };
    return RUN_TESTS(argc, argv, tests);
}

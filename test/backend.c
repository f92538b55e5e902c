/*
 * backend.c - what backends keep their books with: tokens of their own, descriptor_limit
 *
 * The heap can be told to be empty, and the limit of descriptor_limit is what a test says.
 */
#include <stdlib.h>
#include <sys/resource.h>

static int allocations_left = -1; /* -1: as many as you like */
static rlim_t descriptor_limit;        /* the soft limit */

static void *some_calloc(size_t n, size_t size)
{
    if (allocations_left == 0)
        return NULL;
    allocations_left -= allocations_left > 0;
    return calloc(n, size);
}

static inline int some_getrlimit(struct rlimit *limit)
{
    limit->rlim_cur = descriptor_limit;
    limit->rlim_max = RLIM_INFINITY;
    return 0;
}

#define TAKT_CALLOC(n, size) some_calloc((n), (size))
#define TAKT_FREE(ptr) free(ptr)
#define getrlimit(which, limit) some_getrlimit(limit)
#define TAKT_IMPLEMENTATION
#include "../takt.h"

#include "test.h"

/* -- tokens -------------------------------------------------------------------- */

static void a_token_stands_for_what_it_was_given(void)
{
    enum { COUNT = 50 };
    takt_tokens tokens;
    int things[COUNT];
    EXPECT_EQ(takt_tokens_init(&tokens, COUNT), 0);
    EXPECT(takt_tokens_find(&tokens, 7) == NULL);
    for (int i = 0; i < COUNT; i++)
        takt_tokens_add(&tokens, (takt_token)i * 0x100000001, &things[i]);
    for (int i = 0; i < COUNT; i++)
        EXPECT(takt_tokens_find(&tokens, (takt_token)i * 0x100000001) == &things[i]);
    for (int i = 0; i < COUNT; i += 3)
        takt_tokens_remove(&tokens, (takt_token)i * 0x100000001);
    for (int i = 0; i < COUNT; i++) { /* the others are found all the same */
        void *const found = takt_tokens_find(&tokens, (takt_token)i * 0x100000001);
        EXPECT(found == (i % 3 ? &things[i] : NULL));
    }
    takt_tokens_free(&tokens);
}

static void a_token_that_is_not_there_is_taken_out_in_vain(void)
{
    takt_tokens tokens;
    int thing;
    EXPECT_EQ(takt_tokens_init(&tokens, 4), 0);
    takt_tokens_remove(&tokens, 1);
    takt_tokens_add(&tokens, 2, &thing);
    takt_tokens_remove(&tokens, 1);
    EXPECT_EQ(tokens.used, 1);
    EXPECT(takt_tokens_find(&tokens, 2) == &thing);
    takt_tokens_free(&tokens);
}

static void tables_tell_of_an_empty_heap(void)
{
    takt_tokens tokens;
    takt_fds fds;
    allocations_left = 0;
    EXPECT_EQ(takt_tokens_init(&tokens, 4), -ENOMEM);
    EXPECT_EQ(takt_fds_init(&fds, 4, NULL), -ENOMEM);
    allocations_left = -1;
    takt_tokens_free(&tokens);
    takt_fds_free(&fds);
}

/* -- descriptor_limit --------------------------------------------------------------- */

static takt_slot places[8];
static takt_slots slots;
static takt_fds fds;

static void setup(void)
{
    memset(places, 0, sizeof places);
    for (uint32_t i = 0; i < 8; i++)
        places[i].index = i;
    slots.base = (unsigned char *)places;
    slots.stride = sizeof places[0];
    slots.count = 8;
    EXPECT_EQ(takt_fds_init(&fds, 64, &slots), 0);
}

/* The op at a place, made one of `kind` on descriptor `fd`. */
static takt_op *op(int place, int kind, int fd)
{
    places[place].op.kind = (uint8_t)kind;
    places[place].op.fd = fd;
    return &places[place].op;
}

static int enter(int place, int kind, int fd)
{
    return takt_fds_enter(&fds, op(place, kind, fd));
}

/* The place of the close that may go on once that at `place` has left; or -1. */
static int leave(int place)
{
    takt_op *const next = takt_fds_leave(&fds, &places[place].op);
    return next ? (int)((takt_slot *)(void *)next)->index : -1;
}

static void the_table_has_as_many_places_as_the_limit_says(void)
{
    descriptor_limit = 1000;
    EXPECT_EQ(takt_fds_init(&fds, 0, NULL), 0);
    EXPECT_EQ(fds.count, 1000);
    takt_fds_free(&fds);
    descriptor_limit = RLIM_INFINITY;
    EXPECT_EQ(takt_fds_init(&fds, 0, NULL), 0);
    EXPECT_EQ(fds.count, 1 << 20);
    takt_fds_free(&fds);
    descriptor_limit = 3; /* it may be raised later on */
    EXPECT_EQ(takt_fds_init(&fds, 0, NULL), 0);
    EXPECT_EQ(fds.count, 64);
    takt_fds_free(&fds);
    EXPECT_EQ(takt_fds_init(&fds, 100, NULL), 0);
    EXPECT_EQ(fds.count, 100);
    takt_fds_free(&fds);
}

static void one_reads_and_one_writes(void)
{
    setup();
    EXPECT_EQ(enter(0, TAKT_OP_RECV, 5), 0);
    EXPECT_EQ(enter(1, TAKT_OP_SEND, 5), 0);
    EXPECT_EQ(enter(2, TAKT_OP_ACCEPT, 5), -EBUSY);
    EXPECT_EQ(enter(3, TAKT_OP_SEND, 5), -EBUSY);
    EXPECT_EQ(enter(3, TAKT_OP_SENDTO, 5), -EBUSY); /* behind a stream's */
    EXPECT_EQ(enter(4, TAKT_OP_RECV, 6), 0);
    EXPECT(takt_fds_op(&fds, fds.at[5].reader) == &places[0].op);
    EXPECT(takt_fds_op(&fds, fds.at[5].writer) == &places[1].op);
    EXPECT_EQ(leave(2), -1); /* it was never in */
    EXPECT(takt_fds_op(&fds, fds.at[5].reader) == &places[0].op);
    EXPECT_EQ(leave(0), -1);
    EXPECT_EQ(leave(1), -1);
    EXPECT_EQ(enter(2, TAKT_OP_RECV, 5), 0);
    EXPECT_EQ(enter(3, TAKT_OP_SEND, 5), 0);
    takt_fds_free(&fds);
}

static void datagrams_stand_in_line_to_be_written(void)
{
    setup();
    EXPECT_EQ(enter(0, TAKT_OP_SENDTO, 5), 0);
    EXPECT_EQ(enter(1, TAKT_OP_SENDTO, 5), 0);
    EXPECT_EQ(enter(2, TAKT_OP_SENDTO, 5), 0);
    EXPECT_EQ(enter(3, TAKT_OP_SEND, 5), -EBUSY);
    EXPECT_EQ(leave(3), -1); /* it was never in */
    EXPECT_EQ(leave(1), -1);
    EXPECT(places[0].op.next == &places[2].op);
    EXPECT_EQ(leave(2), -1);
    EXPECT_EQ(enter(4, TAKT_OP_SENDTO, 5), 0);
    EXPECT(places[0].op.next == &places[4].op);
    EXPECT_EQ(leave(0), -1);
    EXPECT(takt_fds_op(&fds, fds.at[5].writer) == &places[4].op);
    EXPECT_EQ(leave(4), -1);
    EXPECT_EQ(fds.at[5].writer, 0);
    takt_fds_free(&fds);
}

static void readiness_is_read_or_written_as_it_asks(void)
{
    setup();
    places[0].op.bits = TAKT_READABLE;
    places[1].op.bits = TAKT_WRITABLE;
    EXPECT_EQ(enter(0, TAKT_OP_READY, 5), 0);
    EXPECT_EQ(enter(1, TAKT_OP_READY, 5), 0);
    EXPECT_EQ(fds.at[5].reader, 1);
    EXPECT_EQ(fds.at[5].writer, 2);
    takt_fds_free(&fds);
}

static void a_close_waits_for_both_and_lets_nobody_in(void)
{
    setup();
    EXPECT_EQ(enter(0, TAKT_OP_RECV, 5), 0);
    EXPECT_EQ(enter(1, TAKT_OP_SEND, 5), 0);
    EXPECT_EQ(enter(2, TAKT_OP_CLOSE, 5), 0);
    EXPECT_EQ(enter(3, TAKT_OP_RECV, 5), TAKT_ECLOSED);
    EXPECT_EQ(enter(3, TAKT_OP_CLOSE, 5), TAKT_ECLOSED);
    EXPECT_EQ(leave(0), -1);
    EXPECT_EQ(leave(1), 2);
    EXPECT_EQ(leave(2), -1);
    EXPECT_EQ(enter(1, TAKT_OP_SEND, 5), 0);
    EXPECT_EQ(enter(0, TAKT_OP_RECV, 5), 0);
    EXPECT_EQ(enter(2, TAKT_OP_CLOSE, 5), 0);
    EXPECT_EQ(leave(1), -1);
    EXPECT_EQ(leave(0), 2);
    takt_fds_free(&fds);
}

/* From descriptor to descriptor: it reads one and writes the other. */
static int through(int place, int from, int to)
{
    (void)op(place, TAKT_OP_SPLICE, from);
    places[place].op.extra = (uint32_t)to;
    return takt_fds_enter(&fds, &places[place].op);
}

static void what_goes_through_occupies_both(void)
{
    setup();
    EXPECT_EQ(through(0, 5, -1), -EBADF);
    EXPECT_EQ(leave(0), -1);
    EXPECT_EQ(through(0, 5, 64), -EMFILE);
    EXPECT_EQ(through(0, 5, 6), 0);
    EXPECT_EQ(enter(1, TAKT_OP_RECV, 5), -EBUSY);
    EXPECT_EQ(enter(1, TAKT_OP_SEND, 6), -EBUSY);
    EXPECT_EQ(through(1, 7, 6), -EBUSY);
    EXPECT_EQ(enter(2, TAKT_OP_CLOSE, 6), 0);
    EXPECT_EQ(through(1, 7, 6), TAKT_ECLOSED);
    EXPECT_EQ(leave(0), 2);
    EXPECT_EQ(leave(2), -1);
    for (int reads = 0; reads < 2; reads++) { /* another still holds the one that closes */
        EXPECT_EQ(through(0, 5, 6), 0);
        EXPECT_EQ(enter(1, TAKT_OP_SEND, 5), 0);
        EXPECT_EQ(enter(2, TAKT_OP_CLOSE, 5), 0);
        if (reads) {
            EXPECT_EQ(leave(0), -1);
            EXPECT_EQ(leave(1), 2);
        } else {
            EXPECT_EQ(leave(1), -1);
            EXPECT_EQ(leave(0), 2);
        }
        EXPECT_EQ(leave(2), -1);
    }
    EXPECT_EQ(enter(1, TAKT_OP_RECV, 5), 0);
    EXPECT_EQ(enter(2, TAKT_OP_CLOSE, 5), 0);
    EXPECT_EQ(through(0, 5, 6), TAKT_ECLOSED);
    EXPECT_EQ(leave(0), -1); /* it was never in */
    EXPECT_EQ(leave(1), 2);
    takt_fds_free(&fds);
}

static void what_concerns_no_descriptor_takes_no_place(void)
{
    setup();
    EXPECT_EQ(enter(0, TAKT_OP_NOP, -1), 0);
    EXPECT_EQ(enter(0, TAKT_OP_BIND, 5), 0);
    EXPECT_EQ(leave(0), -1);
    (void)op(0, TAKT_OP_NOP, -1);
    EXPECT_EQ(leave(0), -1);
    EXPECT_EQ(enter(0, TAKT_OP_RECV, -1), -EBADF);
    EXPECT_EQ(leave(0), -1);
    EXPECT_EQ(enter(0, TAKT_OP_RECV, 64), -EMFILE);
    EXPECT_EQ(leave(0), -1);
    EXPECT_EQ(enter(1, 200, 5), 0); /* of no kind that there is */
    EXPECT_EQ(enter(0, TAKT_OP_RECV, 5), 0);
    takt_fds_free(&fds);
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        TEST(a_token_stands_for_what_it_was_given),
        TEST(a_token_that_is_not_there_is_taken_out_in_vain),
        TEST(tables_tell_of_an_empty_heap),
        TEST(the_table_has_as_many_places_as_the_limit_says),
        TEST(one_reads_and_one_writes),
        TEST(datagrams_stand_in_line_to_be_written),
        TEST(readiness_is_read_or_written_as_it_asks),
        TEST(a_close_waits_for_both_and_lets_nobody_in),
        TEST(what_goes_through_occupies_both),
        TEST(what_concerns_no_descriptor_takes_no_place),
    };
    return RUN_TESTS(argc, argv, tests);
}

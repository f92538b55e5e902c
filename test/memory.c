/*
 * memory.c - the pool of buffers
 */
#define TAKT_IMPLEMENTATION
#include "../takt.h"

#include "test.h"

static takt_bufs bufs;

static void impossible_pools_are_refused(void)
{
    EXPECT_EQ(takt_bufs_init(&bufs, 0, 8), -EINVAL);
    EXPECT_EQ(takt_bufs_init(&bufs, 8, 0), -EINVAL);
    EXPECT_EQ(takt_bufs_init(&bufs, UINT32_MAX, 1), -EINVAL);
    takt_bufs_free(&bufs); /* harmless */
}

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

int main(int argc, char **argv)
{
    static const test tests[] = {
        TEST(impossible_pools_are_refused),
        TEST(a_pool_gives_what_it_has_and_then_nothing),
        TEST(the_newest_comes_first),
        TEST(a_buffer_is_given_back_once),
        TEST(what_is_not_the_pools_is_refused),
        TEST(every_buffer_has_one_owner),
    };
    return RUN_TESTS(argc, argv, tests);
}

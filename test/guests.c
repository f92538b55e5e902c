/*
 * guests.c - who may have a session of examples/relay.c, and what it may be sent
 */
#define TAKT_IMPLEMENTATION
#include "../examples/guests.h"

#include "test.h"

enum { MAX = 64, STRANGERS = TEST_MANY };

static struct guests all;
static struct guest guests[MAX];
static struct guest *rest[MAX]; /* those that are free */
static int rest_count;
static uint64_t seed = 88172645463325252u;

static uint64_t chance(void)
{
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return seed * 0x2545f4914f6cdd1du;
}

static void begin(int network_max)
{
    memset(&all, 0, sizeof all);
    memset(guests, 0, sizeof guests);
    EXPECT_EQ(guests_init(&all, MAX, network_max, 100), 0);
    for (int i = 0; i < 3; i++)
        all.key[i][0] = chance(); /* so that a run can be repeated */
    for (rest_count = 0; rest_count < MAX; rest_count++)
        rest[rest_count] = &guests[rest_count];
}

static void end(void)
{
    free(all.table);
}

static takt_addr addr_of(uint32_t host, uint16_t port)
{
    const unsigned char bytes[6] = {(unsigned char)(host >> 24), (unsigned char)(host >> 16),
                                    (unsigned char)(host >> 8), (unsigned char)host,
                                    (unsigned char)(port >> 8), (unsigned char)port};
    return host_make(4, bytes, bytes + 4);
}

static struct guest *find(takt_addr addr)
{
    return *guests_find(&all, &all, &addr, &addr);
}

static void leave(struct guest *g)
{
    guest_leave(&all, g);
    rest[rest_count++] = g;
}

/* What the relay does with a datagram; NULL if it has no session now. */
static struct guest *arrives(takt_addr addr, uint32_t size, takt_ns now)
{
    struct guest *g = find(addr);
    if (!g) {
        if (*guests_network(&all, &addr) >= all.network_max)
            return NULL;
        if (all.live == all.max) {
            struct guest *const victim = guests_victim(&all, now);
            if (!victim)
                return NULL;
            leave(victim);
        }
        g = rest[--rest_count];
        memset(g, 0, sizeof *g);
        g->map = &all;
        g->peer = g->source = addr;
        guest_enter(&all, g, now);
    }
    guest_heard(&all, g, size, now);
    return g;
}

/* The rings, the table and the counts tell the same. */
static void expect_sound(void)
{
    int count = 0, sum = 0;
    for (int known = 0; known < 2; known++)
        for (const struct guest *g = all.rings[known].next; g != &all.rings[known]; g = g->next) {
            EXPECT(g->next->before == g && g->listed && g->known == known);
            EXPECT(g->next == &all.rings[known] || g->next->heard >= g->heard);
            EXPECT(find(g->peer) == g);
            count++;
        }
    for (int i = 0; i < GUEST_PLACES; i++)
        sum += all.networks[i];
    EXPECT(count == all.live && sum == count && count + rest_count == MAX);
}

/* S11: whatever comes in whatever order, no source gets more than three bytes for one and a
 * datagram for one, counted over all that it ever sent. */
static void nobody_gets_more_than_it_has_paid_for(void)
{
    enum { SOURCES = 200 };
    static int64_t in[SOURCES], out[SOURCES], in_count[SOURCES], out_count[SOURCES];
    begin(MAX);
    for (int round = 0; round < 200000; round++) {
        const int who = (int)(chance() % SOURCES);
        const takt_addr key = addr_of((uint32_t)who << 8, 1000);
        const uint32_t size = (uint32_t)(chance() % 7 ? chance() % 100 : chance() % 65536);
        struct guest *g = find(key);
        if (chance() % 2) {
            arrives(key, size, round * TAKT_SEC / 20);
            in[who] += size;
            in_count[who]++;
        } else if (g && guest_may_get(g, size)) {
            out[who] += size;
            out_count[who]++;
        }
        EXPECT(out[who] <= 3 * in[who] && out_count[who] <= in_count[who]);
    }
    for (int i = 0; i < SOURCES; i++)
        EXPECT(out_count[i] > 0); /* and all did get something */
    expect_sound();
    end();
}

/* S11: one who has proved to be there gets whatever there is. */
static void whoever_is_validated_gets_it_all(void)
{
    struct guest *g;
    begin(MAX);
    g = arrives(addr_of(1, 1), 1, 0);
    EXPECT(g && guest_may_get(g, 3) && !guest_may_get(g, 0));
    g->validated = true;
    for (int i = 0; i < 1000; i++)
        EXPECT(guest_may_get(g, 65507));
    end();
}

/* S13: a million sources that nobody has, and one that is there: it stays, and the table is
 * what it was. */
static void a_million_strangers_do_not_drive_out_a_guest(void)
{
    const takt_addr key = addr_of(0x7f000001, 7000);
    struct guest *guest;
    takt_ns now = 0;
    begin(4);
    guest = arrives(key, 10, now);
    EXPECT(guest && guest_may_get(guest, 10));
    EXPECT(arrives(key, 10, now) == guest && guest->known);
    for (int i = 0; i < STRANGERS; i++, now += 5000) {
        arrives(addr_of((uint32_t)chance(), (uint16_t)chance()), 20, now);
        if (i % 10000 == 0) /* every 50 ms */
            EXPECT(arrives(key, 10, now) == guest && takt_addr_port(&guest->peer) == 7000);
        if (i % 10000 == 0)
            expect_sound();
    }
    EXPECT_EQ(all.live, MAX);
    EXPECT(guest->listed && all.rings[1].next == guest && guest->next == &all.rings[1]);
    expect_sound();
    end();
}

/* S13: one network has so many, whatever it calls itself. */
static void a_network_has_its_share(void)
{
    begin(4);
    for (uint32_t i = 0; i < 1000; i++)
        arrives(addr_of(0x0a000000 + i % 256, (uint16_t)(1000 + i)), 20, i);
    EXPECT_EQ(all.live, 4);
    EXPECT(arrives(addr_of(0x0a000100, 1), 20, 0)); /* the one beside it has its own */
    EXPECT_EQ(all.live, 5);
    while (all.live > 0)
        leave(guests_victim(&all, 0));
    EXPECT(arrives(addr_of(0x0a000001, 1), 20, 0)); /* and may come again when they are gone */
    expect_sound();
    end();
}

/* Who goes when there is no room: the oldest of those who did not come back, then of those
 * who are silent; nobody who is there. */
static void those_who_came_back_are_the_last_to_go(void)
{
    begin(MAX);
    for (uint32_t i = 0; i < MAX; i++) {
        struct guest *const g = arrives(addr_of(i << 8, 1), 20, i);
        if (i % 2 == 0 && guest_may_get(g, 1))
            arrives(addr_of(i << 8, 1), 20, i);
    }
    for (uint32_t i = 1; i < MAX; i += 2) {
        EXPECT(host_of(&guests_victim(&all, 100)->peer)[2] == i);
        leave(guests_victim(&all, 100));
    }
    EXPECT_EQ(all.live, MAX / 2);
    EXPECT(!guests_victim(&all, 100) && !guests_victim(&all, GUEST_PROTECTED - 1));
    EXPECT(host_of(&guests_victim(&all, GUEST_PROTECTED)->peer)[2] == 0);
    EXPECT(!guests_silent(&all, -1) && guests_silent(&all, 0)->heard == 0);
    expect_sound();
    end();
}

/* A host has so many datagrams a second, and a second's worth at once, over all its ports. */
static void a_host_has_its_rate(void)
{
    int passed = 0;
    begin(MAX);
    for (int i = 0; i < 10000; i++) { /* for ten seconds, from eight ports */
        const takt_addr addr = addr_of(0x0a000001, (uint16_t)(i % 8));
        passed += guests_pass(&all, &addr, i * TAKT_SEC / 1000);
    }
    EXPECT(passed >= 1090 && passed <= 1110);
    end();
}

/* S29: a cookie is another for each address, port, map and half minute, and good for two of
 * these. Whoever changes a bit of it has none. */
static void a_cookie_is_good_for_one(void)
{
    const takt_addr addr = addr_of(0x0a000001, 1), port = addr_of(0x0a000001, 2),
                    host = addr_of(0x0a000002, 1);
    const takt_ns now = 1000 * GUEST_COOKIE_TIME;
    unsigned char cookie[GUEST_COOKIE];
    begin(MAX);
    guests_bake(&all, &addr, 5, now, cookie);
    EXPECT(memcmp(cookie, "takt-ck1", 8) == 0);
    EXPECT(guests_know(&all, &addr, 5, now, cookie));
    EXPECT(guests_know(&all, &addr, 5, now + 2 * GUEST_COOKIE_TIME - 1, cookie));
    EXPECT(!guests_know(&all, &addr, 5, now + 2 * GUEST_COOKIE_TIME, cookie));
    EXPECT(!guests_know(&all, &addr, 5, now - 1, cookie));
    EXPECT(!guests_know(&all, &addr, 6, now, cookie));
    EXPECT(!guests_know(&all, &port, 5, now, cookie));
    EXPECT(!guests_know(&all, &host, 5, now, cookie));
    for (int i = 0; i < 8 * GUEST_COOKIE; i++) {
        cookie[i / 8] ^= (unsigned char)(1 << i % 8);
        EXPECT(!guests_know(&all, &addr, 5, now, cookie));
        cookie[i / 8] ^= (unsigned char)(1 << i % 8);
    }
    all.key[2][0] ^= (uint64_t)1 << 63;
    EXPECT(!guests_know(&all, &addr, 5, now, cookie));
    end();
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        TEST(nobody_gets_more_than_it_has_paid_for),
        TEST(whoever_is_validated_gets_it_all),
        TEST(a_million_strangers_do_not_drive_out_a_guest),
        TEST(a_network_has_its_share),
        TEST(those_who_came_back_are_the_last_to_go),
        TEST(a_host_has_its_rate),
        TEST(a_cookie_is_good_for_one),
    };
    return RUN_TESTS(argc, argv, tests);
}

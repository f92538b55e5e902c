/*
 * sessions.c - who may have a session of examples/relay.c, and what it may be sent: S11, S13, S29
 */
#include "../examples/relay/sessions.h"

#include "test.h"

enum { MAX = 64, STRANGERS = 1000000 };
#define SECOND ((int64_t)1000000000)

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

static void begin(uint32_t network_max)
{
    memset(&all, 0, sizeof all);
    memset(guests, 0, sizeof guests);
    all.max = MAX;
    all.network_max = network_max;
    all.rate = 100;
    all.protect = 2 * SECOND;
    all.secret[0] = chance();
    all.secret[1] = chance();
    EXPECT(guests_init(&all, 16));
    for (rest_count = 0; rest_count < MAX; rest_count++)
        rest[rest_count] = &guests[rest_count];
}

static void end(void)
{
    free(all.table);
    free(all.tallies);
}

static struct session_key key_of(uint32_t host, uint16_t port)
{
    struct session_key key;
    memset(&key, 0, sizeof key);
    memcpy(key.peer.host, endpoint_ip4, sizeof endpoint_ip4);
    for (int i = 0; i < 4; i++)
        key.peer.host[12 + i] = (unsigned char)(host >> (24 - 8 * i));
    key.peer.port = port;
    key.source = key.peer;
    return key;
}

static void leave(struct guest *g)
{
    guest_leave(&all, g);
    rest[rest_count++] = g;
}

/* What the relay does with a datagram; NULL if it has no session now. */
static struct guest *arrives(struct session_key key, uint32_t size, int64_t now)
{
    struct guest *g = *guest_place(&all, &key);
    if (!g) {
        if (guests_are_full(&all, &key.source))
            return NULL;
        if (all.live == all.max) {
            struct guest *const victim = guests_victim(&all, now);
            if (!victim)
                return NULL;
            leave(victim);
        }
        g = rest[--rest_count];
        memset(g, 0, sizeof *g);
        g->key = key;
        guest_enter(&all, g, now);
    }
    guest_heard(&all, g, size, now);
    return g;
}

/* How many stand in a ring, if it is one, oldest first. */
static uint32_t count_ring(const struct guest *first, bool known)
{
    const struct guest *g = first;
    uint32_t n = 0;
    if (!g)
        return 0;
    do {
        EXPECT(g->next->before == g && g->listed && g->known == known);
        EXPECT(g->next == first || g->next->heard >= g->heard);
        EXPECT(*guest_place(&all, &g->key) == g);
        g = g->next;
        n++;
    } while (g != first && n <= MAX);
    return n;
}

static void expect_sound(void)
{
    uint32_t sum = 0, places = 0;
    EXPECT_EQ(count_ring(all.fresh, false) + count_ring(all.known, true), all.live);
    for (uint32_t i = 0; i < all.tallies_size; i++) {
        sum += all.tallies[i].count;
        places += all.tallies[i].count > 0;
        EXPECT(!all.tallies[i].count || tally_of(&all, all.tallies[i].hash) == &all.tallies[i]);
    }
    EXPECT_EQ(sum, 2 * all.live);
    EXPECT(places <= all.tallies_size / 2);
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
        const struct session_key key = key_of((uint32_t)who << 8, 1000);
        const uint32_t size = (uint32_t)(chance() % 7 ? chance() % 100 : chance() % 65536);
        struct guest *g = *guest_place(&all, &key);
        if (chance() % 2) {
            arrives(key, size, round * SECOND / 20);
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
    g = arrives(key_of(1, 1), 1, 0);
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
    const struct session_key key = key_of(0x7f000001, 7000);
    struct guest *guest;
    int64_t now = 0;
    begin(4);
    guest = arrives(key, 10, now);
    EXPECT(guest && guest_may_get(guest, 10));
    EXPECT(arrives(key, 10, now) == guest && guest->known);
    for (int i = 0; i < STRANGERS; i++, now += 5000) {
        arrives(key_of((uint32_t)chance(), (uint16_t)chance()), 20, now);
        if (i % 10000 == 0) /* every 50 ms */
            EXPECT(arrives(key, 10, now) == guest && guest->key.peer.port == 7000);
        if (i % 100000 == 0)
            expect_sound();
    }
    EXPECT_EQ(all.live, MAX);
    EXPECT(guest->listed && all.known == guest && guest->next == guest);
    expect_sound();
    end();
}

/* S13: one network has so many, whatever it calls itself. */
static void a_network_has_its_share(void)
{
    begin(4);
    for (uint32_t i = 0; i < 1000; i++)
        arrives(key_of(0x0a000000 + i % 256, (uint16_t)(1000 + i)), 20, i);
    EXPECT_EQ(all.live, 4);
    EXPECT(arrives(key_of(0x0a000100, 1), 20, 0)); /* the one beside it has its own */
    EXPECT_EQ(all.live, 5);
    while (all.fresh)
        leave(all.fresh);
    EXPECT(arrives(key_of(0x0a000001, 1), 20, 0)); /* and may come again when they are gone */
    expect_sound();
    end();
}

/* Who goes when there is no room: the oldest of those who did not come back, then of those
 * who are silent; nobody who is there. */
static void those_who_came_back_are_the_last_to_go(void)
{
    begin(MAX);
    for (uint32_t i = 0; i < MAX; i++) {
        struct guest *const g = arrives(key_of(i << 8, 1), 20, i);
        if (i % 2 == 0 && guest_may_get(g, 1))
            arrives(key_of(i << 8, 1), 20, i);
    }
    for (uint32_t i = 1; i < MAX; i += 2) {
        EXPECT(guests_victim(&all, 100)->key.source.host[14] == i);
        leave(guests_victim(&all, 100));
    }
    EXPECT_EQ(all.live, MAX / 2);
    EXPECT(guests_victim(&all, 100) == NULL && guests_victim(&all, all.protect - 1) == NULL);
    EXPECT(guests_victim(&all, all.protect)->key.source.host[14] == 0);
    EXPECT(guests_silent(&all, 0) == NULL && guests_silent(&all, 1)->heard == 0);
    expect_sound();
    end();
}

/* A host has so many datagrams a second, and a second's worth at once, over all its ports. */
static void a_host_has_its_rate(void)
{
    int passed = 0;
    begin(MAX);
    for (int i = 0; i < 10000; i++) { /* for ten seconds, from eight ports */
        const struct session_key key = key_of(0x0a000001, (uint16_t)(i % 8));
        struct guest *const g = *guest_place(&all, &key);
        if (g)
            passed += guest_heard(&all, g, 1, i * SECOND / 1000);
        else
            passed += arrives(key, 1, i * SECOND / 1000) != NULL;
    }
    EXPECT(passed >= 1090 && passed <= 1110);
    end();
}

/* S29: without the secret nobody knows a cookie; it is another for each address, port, map and
 * time. And names that were chosen to meet do not: no chain is long. */
static void what_strangers_choose_meets_nowhere(void)
{
    static uint32_t length[4096];
    const struct session_key key = key_of(0x0a000001, 1);
    struct session_key other = key;
    uint64_t cookie;
    begin(MAX);
    cookie = guests_cookie(&all, &key, 5);
    EXPECT(cookie == guests_cookie(&all, &key, 5) && cookie != guests_cookie(&all, &key, 6));
    other.map = 1;
    EXPECT(cookie != guests_cookie(&all, &other, 5));
    other = key_of(0x0a000001, 2);
    EXPECT(cookie != guests_cookie(&all, &other, 5));
    other = key_of(0x0a000002, 1);
    EXPECT(cookie != guests_cookie(&all, &other, 5));
    all.secret[0]++;
    EXPECT(cookie != guests_cookie(&all, &key, 5));
    for (uint32_t i = 0; i < 10000; i++) {
        const struct session_key chosen = key_of(i << 16, 0);
        const uint64_t hash = sip_hash(all.secret, &chosen, sizeof chosen);
        EXPECT(++length[hash % 4096] < 20);
    }
    end();
}

/* The hash is SipHash-2-4: the vectors of its authors, on machines that count as they did. */
static void the_hash_is_what_it_is_called(void)
{
    const uint64_t secret[2] = {0x0706050403020100u, 0x0f0e0d0c0b0a0908u};
    const unsigned char data[15] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14};
    const uint16_t one = 1;
    if (*(const unsigned char *)&one != 1)
        return;
    EXPECT(sip_hash(secret, data, 0) == 0x726fdb47dd0e0e31u);
    EXPECT(sip_hash(secret, data, 8) == 0x93f5f5799a932462u);
    EXPECT(sip_hash(secret, data, 15) == 0xa129ca6149be45e5u);
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
        TEST(what_strangers_choose_meets_nowhere),
        TEST(the_hash_is_what_it_is_called),
    };
    return RUN_TESTS(argc, argv, tests);
}

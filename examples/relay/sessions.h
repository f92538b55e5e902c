/*
 * sessions.h - who may have a session of relay.c, and what it may be sent; without any I/O
 *
 * Anybody can claim to be anybody. So: the tables have a fixed size; names are hashed with a
 * secret key (SipHash-2-4), so that nobody can make them meet in one place; a network has so
 * many sessions and no more; newcomers push out newcomers, and not those who have come back;
 * and who has not proved to be there is sent at most three bytes for one, and a datagram for
 * a datagram (RFC 9000, 8.1). Times are ns of one clock.
 */
#ifndef RELAY_SESSIONS_H
#define RELAY_SESSIONS_H

#include "proxy_protocol.h"

enum { SESSION_SECRET = 8 }; /* bytes */

/* Whose a session is. Compared and hashed as bytes. */
struct session_key {
    struct endpoint peer;   /* who sends, */
    struct endpoint source; /* and on behalf of whom: the same, unless it is a proxy */
    uint16_t map;
};

/* One that has a session: a part of it. */
struct guest {
    struct session *session;
    struct session_key key;
    uint64_t network, host; /* hashes of what its tallies are */
    int64_t heard;          /* when it last was */
    int64_t bytes, count;   /* that it may still be sent, unless it is validated */
    bool listed, answered, validated, known;
    struct guest *next, *before; /* in a ring */
    struct guest *chain;         /* in the table */
};

/* What a network or a host has. */
struct tally {
    uint64_t hash;
    int64_t due;    /* when its next datagram is, at the rate that it is allowed */
    uint32_t count; /* of sessions or connections; 0: this place is free */
};

struct guests {
    uint32_t max, network_max, rate; /* in: sessions of all, of a network; datagrams a second */
    int64_t protect; /* in: so long after it was heard, one that has come back is not put out */
    uint64_t secret[2];          /* in: random */
    struct guest *fresh, *known; /* rings, oldest first; the latter have come back */
    struct guest **table;
    struct tally *tallies;
    uint32_t table_size, tallies_size, live;
};

/* -- hashing ------------------------------------------------------------------------ */

static inline void sip_rounds(uint64_t v[4], int rounds)
{
#define SIP_ROTATE(x, n) ((x) << (n) | (x) >> (64 - (n)))
    while (rounds-- > 0) {
        v[0] += v[1];
        v[1] = SIP_ROTATE(v[1], 13) ^ v[0];
        v[0] = SIP_ROTATE(v[0], 32);
        v[2] += v[3];
        v[3] = SIP_ROTATE(v[3], 16) ^ v[2];
        v[0] += v[3];
        v[3] = SIP_ROTATE(v[3], 21) ^ v[0];
        v[2] += v[1];
        v[1] = SIP_ROTATE(v[1], 17) ^ v[2];
        v[2] = SIP_ROTATE(v[2], 32);
    }
#undef SIP_ROTATE
}

/* SipHash-2-4 of `size` bytes; words as this machine has them. */
static inline uint64_t sip_hash(const uint64_t secret[2], const void *data, size_t size)
{
    uint64_t v[4] = {secret[0] ^ 0x736f6d6570736575u, secret[1] ^ 0x646f72616e646f6du,
                     secret[0] ^ 0x6c7967656e657261u, secret[1] ^ 0x7465646279746573u};
    for (size_t at = 0; at <= size; at += 8) {
        const size_t n = size - at < 8 ? size - at : 8;
        uint64_t word = n < 8 ? (uint64_t)size << 56 : 0;
        memcpy(&word, (const char *)data + at, n);
        v[3] ^= word;
        sip_rounds(v, 2);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    sip_rounds(v, 4);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* A cookie: the key and a time under our secret. Only who gets datagrams there knows it. */
static inline uint64_t guests_cookie(const struct guests *all, const struct session_key *key,
                                     int64_t when)
{
    unsigned char text[sizeof *key + sizeof when];
    memcpy(text, key, sizeof *key);
    memcpy(text + sizeof *key, &when, sizeof when);
    return sip_hash(all->secret, text, sizeof text);
}

/* -- tallies, in open addressing ---------------------------------------------------- */

enum { TALLY_SESSIONS, TALLY_DATAGRAMS, TALLY_CONNECTIONS };

/* Of sessions, those of a network are counted (/24, /48), else those of a host (/32, /64). */
static inline uint64_t tally_hash(const struct guests *all, int kind, const struct endpoint *e)
{
    const bool four = endpoint_is_ip4(e);
    struct endpoint key =
        endpoint_network(e, kind == TALLY_SESSIONS ? (four ? 120 : 48) : (four ? 128 : 64));
    key.port = (uint16_t)kind;
    return sip_hash(all->secret, &key, sizeof key);
}

/* Where it stands, or would. */
static inline struct tally *tally_of(const struct guests *all, uint64_t hash)
{
    uint32_t i = (uint32_t)hash & (all->tallies_size - 1);
    while (all->tallies[i].count && all->tallies[i].hash != hash)
        i = (i + 1) & (all->tallies_size - 1);
    return &all->tallies[i];
}

/* One more, unless it has `limit` of them: false. */
static inline bool tally_add(struct guests *all, uint64_t hash, uint32_t limit)
{
    struct tally *const t = tally_of(all, hash);
    if (t->count >= limit)
        return false;
    if (t->count++ == 0) {
        t->hash = hash;
        t->due = 0;
    }
    return true;
}

/* One less; of none, its place is free, and those behind it move up. */
static inline void tally_drop(struct guests *all, uint64_t hash)
{
    const uint32_t mask = all->tallies_size - 1;
    struct tally *const at = all->tallies;
    uint32_t gap = (uint32_t)(tally_of(all, hash) - at);
    if (--at[gap].count)
        return;
    for (uint32_t i = (gap + 1) & mask; at[i].count; i = (i + 1) & mask) {
        if (((i - (uint32_t)at[i].hash) & mask) < ((i - gap) & mask))
            continue; /* it would not be found there */
        at[gap] = at[i];
        at[i].count = 0;
        gap = i;
    }
}

/* A bucket that holds as many as a second brings: whether one more may pass now. */
static inline bool tally_pass(struct guests *all, uint64_t hash, int64_t now)
{
    const int64_t second = 1000000000;
    struct tally *const t = tally_of(all, hash);
    if (t->due > now + second)
        return false;
    t->due = (t->due > now ? t->due : now) + second / all->rate;
    return true;
}

/* -- the table ------------------------------------------------------------------------ */

/* Allocates all that there will be: for .max sessions and `connections`. False: no memory. */
static inline bool guests_init(struct guests *all, uint32_t connections)
{
    for (all->table_size = 16; all->table_size < all->max;)
        all->table_size *= 2;
    for (all->tallies_size = 16; all->tallies_size < 4 * all->max + 2 * connections;)
        all->tallies_size *= 2;
    all->table = (struct guest **)calloc(all->table_size, sizeof *all->table);
    all->tallies = (struct tally *)calloc(all->tallies_size, sizeof *all->tallies);
    return all->table && all->tallies;
}

static inline struct guest **guest_place(const struct guests *all, const struct session_key *key)
{
    const uint64_t hash = sip_hash(all->secret, key, sizeof *key);
    struct guest **at = &all->table[hash & (all->table_size - 1)];
    while (*at && memcmp(&(*at)->key, key, sizeof *key) != 0)
        at = &(*at)->chain;
    return at;
}

static inline void guest_append(struct guest **ring, struct guest *g)
{
    struct guest *const first = *ring ? *ring : g;
    g->before = *ring ? first->before : g;
    g->next = first;
    g->before->next = g;
    first->before = g;
    *ring = first;
}

static inline void guest_leave_ring(struct guests *all, struct guest *g)
{
    struct guest **const ring = g->known ? &all->known : &all->fresh;
    g->before->next = g->next;
    g->next->before = g->before;
    if (*ring == g)
        *ring = g->next == g ? NULL : g->next;
}

/* Whether the network of `e` has as many as it may. */
static inline bool guests_are_full(const struct guests *all, const struct endpoint *e)
{
    return tally_of(all, tally_hash(all, TALLY_SESSIONS, e))->count >= all->network_max;
}

/* Who has to go, that a newcomer may come: the oldest of the fresh, then of those who have
 * been silent for long. NULL: nobody, the newcomer has to wait. */
static inline struct guest *guests_victim(const struct guests *all, int64_t now)
{
    return all->fresh ? all->fresh
           : all->known && now - all->known->heard >= all->protect ? all->known
                                                                    : NULL;
}

/* The oldest that has not been heard since `when`; or NULL. */
static inline struct guest *guests_silent(const struct guests *all, int64_t when)
{
    return all->fresh && all->fresh->heard < when   ? all->fresh
           : all->known && all->known->heard < when ? all->known
                                                    : NULL;
}

/* Puts `g`, whose key and session are set, into the table: there is room. */
static inline void guest_enter(struct guests *all, struct guest *g, int64_t now)
{
    g->network = tally_hash(all, TALLY_SESSIONS, &g->key.source);
    g->host = tally_hash(all, TALLY_DATAGRAMS, &g->key.source);
    tally_add(all, g->network, UINT32_MAX);
    tally_add(all, g->host, UINT32_MAX);
    g->heard = now;
    g->listed = true;
    *guest_place(all, &g->key) = g;
    guest_append(&all->fresh, g);
    all->live++;
}

static inline void guest_leave(struct guests *all, struct guest *g)
{
    *guest_place(all, &g->key) = g->chain;
    guest_leave_ring(all, g);
    tally_drop(all, g->network);
    tally_drop(all, g->host);
    g->listed = false;
    all->live--;
}

/* A datagram of `size` bytes has come. False: over its rate, and not to be passed on. Whoever
 * comes back after an answer, or is validated, gives way to newcomers no longer. */
static inline bool guest_heard(struct guests *all, struct guest *g, uint32_t size, int64_t now)
{
    if (!tally_pass(all, g->host, now))
        return false;
    g->bytes += 3 * (int64_t)size;
    g->count++;
    g->heard = now;
    guest_leave_ring(all, g);
    g->known = g->known || g->answered || g->validated;
    guest_append(g->known ? &all->known : &all->fresh, g);
    return true;
}

/* Whether it may be sent `size` bytes; then that counts. */
static inline bool guest_may_get(struct guest *g, uint32_t size)
{
    if (!g->validated && (g->count < 1 || g->bytes < (int64_t)size))
        return false;
    g->count--;
    g->bytes -= size;
    g->answered = true;
    return true;
}

#endif

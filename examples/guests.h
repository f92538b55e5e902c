/*
 * guests.h - who may have a session of relay.c, and what it may be sent; without any I/O
 *
 * Anybody can claim to be anybody. So tables have a fixed size, and places in them are hashes
 * with a secret key; a network has so many sessions; newcomers push out newcomers, and not
 * those who have come back; and who has not shown that it is there is sent at most three
 * bytes for one that came, and a datagram for a datagram (RFC 9000, 8.1).
 */
#ifndef GUESTS_H
#define GUESTS_H

#include "proxy_protocol.h"

#include <stdlib.h>
#include <sys/random.h>

enum { GUEST_PLACES = 1 << 16 };        /* that networks and hosts are counted in */
enum { GUEST_COOKIE = 16 };             /* bytes of one, of which the first 8 are */
static const char guest_magic[9] = "takt-ck1";
#define GUEST_COOKIE_TIME (30 * TAKT_SEC) /* it is good for that long, and for twice at most */
#define GUEST_PROTECTED (2 * TAKT_SEC)  /* so long those who came back do not give way */

/* A part of a session. */
struct guest {
    struct session *session;
    const void *map;        /* that it came to */
    takt_addr peer, source; /* who sends; on behalf of whom: the same, unless it is a proxy */
    takt_ns heard;
    int64_t bytes, count; /* that it may still be sent, unless it is validated */
    bool listed, answered, validated, known;
    struct guest *next, *before, *chain;
};

struct guests {
    int max, network_max, rate; /* sessions of all, of a network; datagrams a second of a host */
    int live;
    uint64_t key[3][2];     /* random; of places, of sessions, of cookies */
    struct guest rings[2];  /* of newcomers, of those who have come back; oldest first */
    struct guest **table;   /* by hash */
    uint32_t table_size;    /* a power of two */
    takt_ns due[GUEST_PLACES];      /* of a host: when its next datagram is */
    int networks[GUEST_PLACES];     /* sessions of one */
};

/* Takes keys, and memory for the table. 0 or an error. */
static inline int guests_init(struct guests *all, int max, int network_max, int rate)
{
    const ssize_t n = getrandom(all->key, sizeof all->key, 0);
    all->max = max;
    all->network_max = network_max;
    all->rate = rate;
    for (int i = 0; i < 2; i++)
        all->rings[i].next = all->rings[i].before = &all->rings[i];
    for (all->table_size = 16; all->table_size < (uint32_t)max;)
        all->table_size *= 2;
    all->table = (struct guest **)calloc(all->table_size, sizeof *all->table);
    return n != (ssize_t)sizeof all->key ? -EIO : all->table ? 0 : -ENOMEM;
}

/* The count of a host's network, /24 or /48. Two that meet in a place share it. */
static inline int *guests_network(struct guests *all, const takt_addr *addr)
{
    const takt_addr network = host_network(addr, host_size(addr) == 4 ? 24 : 48);
    return &all->networks[takt_addr_hash(&network, all->key[0]) % GUEST_PLACES];
}

/* A host, /32 or /64, sends a datagram: whether it may, of so many a second, and as many as a
 * second brings at once. */
static inline bool guests_pass(struct guests *all, const takt_addr *addr, takt_ns now)
{
    const takt_addr host = host_network(addr, host_size(addr) == 4 ? 32 : 64);
    takt_ns *const due = &all->due[takt_addr_hash(&host, all->key[0]) % GUEST_PLACES];
    if (*due > now + TAKT_SEC)
        return false;
    *due = (*due > now ? *due : now) + TAKT_SEC / all->rate;
    return true;
}

/* Writes a cookie for `addr` where `salt` is asked: what only who receives there can know. */
static inline void guests_bake(const struct guests *all, const takt_addr *addr, uint64_t salt,
                               takt_ns now, unsigned char *cookie)
{
    const uint64_t when = (uint64_t)(now / GUEST_COOKIE_TIME);
    const uint64_t key[2] = {all->key[2][0] ^ when, all->key[2][1] ^ salt};
    const uint64_t hash = takt_addr_hash(addr, key);
    memcpy(cookie, guest_magic, GUEST_COOKIE - sizeof hash);
    memcpy(cookie + GUEST_COOKIE - sizeof hash, &hash, sizeof hash);
}

/* Whether `cookie` was written for it, not long ago. */
static inline bool guests_know(const struct guests *all, const takt_addr *addr, uint64_t salt,
                               takt_ns now, const unsigned char *cookie)
{
    unsigned char own[2][GUEST_COOKIE];
    guests_bake(all, addr, salt, now, own[0]);
    guests_bake(all, addr, salt, now - GUEST_COOKIE_TIME, own[1]);
    return memcmp(cookie, own[0], GUEST_COOKIE) == 0 || memcmp(cookie, own[1], GUEST_COOKIE) == 0;
}

/* Where it stands in the table, or would. */
static inline struct guest **guests_find(struct guests *all, const void *map,
                                         const takt_addr *peer, const takt_addr *source)
{
    const uint64_t hash =
        takt_addr_hash(peer, all->key[0]) ^ takt_addr_hash(source, all->key[1]);
    struct guest **at = &all->table[hash & (all->table_size - 1)];
    while (*at && !((*at)->map == map && takt_addr_equal(&(*at)->peer, peer) &&
                    takt_addr_equal(&(*at)->source, source)))
        at = &(*at)->chain;
    return at;
}

static inline void guest_unlink(struct guest *g)
{
    g->before->next = g->next;
    g->next->before = g->before;
}

static inline void guest_append(struct guests *all, struct guest *g)
{
    struct guest *const ring = &all->rings[g->known];
    g->next = ring;
    g->before = ring->before;
    g->before->next = ring->before = g;
}

/* Lists `g`, of which everything else is set or zero. There is room. */
static inline void guest_enter(struct guests *all, struct guest *g, takt_ns now)
{
    g->heard = now;
    g->listed = true;
    *guests_find(all, g->map, &g->peer, &g->source) = g;
    ++*guests_network(all, &g->source);
    guest_append(all, g);
    all->live++;
}

static inline void guest_leave(struct guests *all, struct guest *g)
{
    *guests_find(all, g->map, &g->peer, &g->source) = g->chain;
    --*guests_network(all, &g->source);
    guest_unlink(g);
    g->listed = false;
    all->live--;
}

/* The first that was not heard since `when`; NULL if there is none. */
static inline struct guest *guests_silent(const struct guests *all, takt_ns when)
{
    for (int i = 0; i < 2; i++)
        if (all->rings[i].next != &all->rings[i] && all->rings[i].next->heard <= when)
            return all->rings[i].next;
    return NULL;
}

/* Who has to go that a newcomer may come: the oldest newcomer, or one that has been silent.
 * NULL: nobody. */
static inline struct guest *guests_victim(const struct guests *all, takt_ns now)
{
    const struct guest *const newcomers = &all->rings[0];
    return newcomers->next != newcomers ? newcomers->next
                                        : guests_silent(all, now - GUEST_PROTECTED);
}

/* It has sent `size` bytes. Who comes back after an answer, or is validated, is known. */
static inline void guest_heard(struct guests *all, struct guest *g, uint32_t size, takt_ns now)
{
    g->bytes += 3 * (int64_t)size;
    g->count++;
    g->heard = now;
    guest_unlink(g);
    g->known |= g->answered || g->validated;
    guest_append(all, g);
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

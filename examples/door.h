/*
 * door.h - lets connections in: so many in all, and of one source, and at the end those who
 * stand in line.
 *
 * How many there may be, and how many lines a second may be said of them, is in `struct limits`,
 * which several doors may share, in any threads. Nothing grows with what comes: sources are
 * counted in a table of a fixed size. Two that meet in one place of it share its limit; a random
 * key makes that nobody's choice.
 */
#ifndef DOOR_H
#define DOOR_H

#include "takt_uring.h"

#include <linux/filter.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/random.h>

/* -- limits ------------------------------------------------------------------------ */

enum { LIMITS_SOURCE_BITS = 16, LIMITS_LINES = 100 };

struct limits {
    int connections, per_source; /* in */
    uint64_t key[2];
    uint32_t open, sources[1 << LIMITS_SOURCE_BITS];
    uint32_t second, lines; /* said in it */
    uint64_t accepted, refused; /* so far */
};

/* Takes a key; the rest is zero. 0 or an error. */
static inline int limits_init(struct limits *limits)
{
    const ssize_t n = getrandom(limits->key, sizeof limits->key, 0);
    return n == (ssize_t)sizeof limits->key ? 0 : n < 0 ? -errno : -EIO;
}

/* Where connections from `from` are counted: an IPv4 address, or 64 bits of an IPv6 one. */
static inline uint32_t *limits_source(struct limits *limits, const takt_addr *from)
{
    struct sockaddr_in ip4;
    struct sockaddr_in6 ip6;
    uint64_t halves[2] = {0, 0};
    memcpy(&ip4, from->sockaddr.bytes, sizeof ip4);
    memcpy(&ip6, from->sockaddr.bytes, sizeof ip6);
    if (ip4.sin_family == AF_INET)
        memcpy(halves, &ip4.sin_addr, sizeof ip4.sin_addr);
    else if (ip4.sin_family == AF_INET6)
        memcpy(halves, &ip6.sin6_addr, sizeof halves);
    if (!halves[0])
        halves[0] = halves[1]; /* IPv4 within IPv6, or this machine */
    halves[0] = (halves[0] ^ limits->key[0]) * (limits->key[1] | 1);
    return &limits->sources[halves[0] >> (64 - LIMITS_SOURCE_BITS)];
}

/* One less; `source` is what limits_enter() returned. */
static inline void limits_leave(struct limits *limits, uint32_t *source)
{
    __atomic_sub_fetch(source, 1, __ATOMIC_RELAXED);
    __atomic_sub_fetch(&limits->open, 1, __ATOMIC_ACQ_REL);
}

/* Before anything is held for a connection from `from`. NULL: it is one too many; else, when
 * it has ended, limits_leave(). */
static inline uint32_t *limits_enter(struct limits *limits, const takt_addr *from)
{
    uint32_t *const source = limits_source(limits, from);
    const uint32_t open = __atomic_add_fetch(&limits->open, 1, __ATOMIC_ACQ_REL);
    const uint32_t same = __atomic_add_fetch(source, 1, __ATOMIC_RELAXED);
    if (open <= (uint32_t)limits->connections && same <= (uint32_t)limits->per_source)
        return source;
    limits_leave(limits, source);
    return NULL;
}

/* Connections that are open. */
static inline uint32_t limits_open(const struct limits *limits)
{
    return __atomic_load_n(&limits->open, __ATOMIC_ACQUIRE);
}

/* True if there may be a line more: a crowd that fails does not fill the disk. `last`: it is
 * the last in this second, and may say so. */
static inline bool limits_line(struct limits *limits, takt_ns now, bool *last)
{
    const uint32_t second = (uint32_t)(now / TAKT_SEC);
    uint32_t lines;
    if (__atomic_exchange_n(&limits->second, second, __ATOMIC_RELAXED) != second)
        __atomic_store_n(&limits->lines, 0, __ATOMIC_RELAXED);
    lines = __atomic_add_fetch(&limits->lines, 1, __ATOMIC_RELAXED);
    *last = lines == LIMITS_LINES;
    return lines <= LIMITS_LINES;
}

/* -- the door ---------------------------------------------------------------------- */

struct door;

struct doorman { /* accepts until it is cancelled */
    takt_frame frame;
    struct door *door; /* in */
    bool full;         /* of descriptors or memory; said once */
};

/* Accepts until `stop` is set. For TAKT_CALL; its doorman takes a strand. */
struct door {
    takt_frame frame;
    const char *program;           /* in: for the log */
    int listener;                  /* in: to be closed at once when this returns */
    takt_event *stop;              /* in */
    struct limits *limits;         /* in */
    bool (*let_in)(struct door *); /* in: starts a task that closes .client, and then has .source
                                    * leave the limits; false: it cannot */
    void *user;                    /* in */
    int client;                    /* who comes: a connected socket, */
    takt_addr from;                /* its address, */
    uint32_t *source;              /* where that is counted, */
    uint32_t number;               /* and a number for the log */
    struct doorman doorman;
};

/* False: the newcomer has to go. */
static inline bool door_lets_in(struct door *my)
{
    my->number = (uint32_t)__atomic_add_fetch(&my->limits->accepted, 1, __ATOMIC_RELAXED);
    my->source = limits_enter(my->limits, &my->from);
    if (my->source && my->let_in(my))
        return true;
    if (my->source)
        limits_leave(my->limits, my->source);
    __atomic_add_fetch(&my->limits->refused, 1, __ATOMIC_RELAXED);
    takt_reset_on_close(&my->frame, my->client);
    return false;
}

/* From here on newcomers of TCP are not answered, and the line of those who wait to be accepted
 * grows by those alone whose first packet was. Accept them, and then close it: so nobody is cut
 * off who has been told that he is in. */
static inline void door_last_call(int listener)
{
    enum { FLAGS = 13, SYN = 2, ACK = 16 }; /* of a TCP header */
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, FLAGS),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, SYN | ACK),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYN, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
    };
    const struct sock_fprog filter = {sizeof code / sizeof code[0], code};
    setsockopt(listener, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter);
}

static TAKT_CORO(doorman)
{
    TAKT_BEGIN(doorman, my);
    TAKT_DEFER
    {
        door_last_call(my->door->listener);
        for (;;) {
            TAKT_TRY_AWAIT(my->door->client,
                           takt_within(10 * TAKT_MS,
                                       takt_accept(my->door->listener, &my->door->from)));
            if (my->door->client < 0)
                break;
            if (!door_lets_in(my->door))
                TAKT_AWAIT(takt_close(my->door->client));
        }
    }
    for (;;) {
        TAKT_TRY_AWAIT(my->door->client, takt_accept(my->door->listener, &my->door->from));
        if (my->door->client == -ECONNABORTED)
            continue; /* it has gone again */
        if (my->door->client < 0) {
            if (!my->full)
                fprintf(stderr, "%s: cannot accept for now: %s\n", my->door->program,
                        takt_strerror(my->door->client));
            my->full = true;
            TAKT_AWAIT(takt_sleep(20 * TAKT_MS)); /* let some close */
            continue;
        }
        my->full = false;
        if (!door_lets_in(my->door))
            TAKT_AWAIT(takt_close(my->door->client));
    }
    TAKT_END;
}

static TAKT_CORO(door)
{
    TAKT_BEGIN(door, my);
    TAKT_START(my->doorman, doorman, .door = my);
    TAKT_AWAIT(takt_event_wait(my->stop));
    takt_cancel(&my->doorman.frame);
    TAKT_JOIN(my->doorman);
    TAKT_END;
}

#endif

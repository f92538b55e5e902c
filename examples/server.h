/*
 * server.h - what servers in here have in common beside takt: limits, and a command line.
 *
 * Limits: how many connections there may be, in all and of one source, and how many lines a
 * second may be said of them. Any thread may ask. Nothing grows with what comes: sources are
 * counted in a table of a fixed size. Two that meet in one place of it share its limit; a
 * random key makes that nobody's choice.
 */
#ifndef SERVER_H
#define SERVER_H

#include "takt_uring.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

enum { LIMITS_SOURCE_BITS = 16, LIMITS_LINES = 100 };

struct limits {
    int connections, per_source; /* in */
    uint64_t key[2];
    uint32_t open, sources[1 << LIMITS_SOURCE_BITS];
    uint32_t second, lines; /* said in it */
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

/* -- the command line ---------------------------------------------------------- */

enum server_kind {
    SERVER_ADDRESS, /* takt_addr */
    SERVER_TIME,    /* takt_ns: a number with ms, s, m or h */
    SERVER_COUNT,   /* int: 1 to .most */
    SERVER_BACKEND, /* takt_uring_mode: auto, uring or poll */
    SERVER_FLAG     /* int: 1, and no value follows */
};

struct server_option {
    const char *name; /* NULL: the end of them */
    enum server_kind kind;
    void *to;
    int most;
};

/* False: not a value for it. */
static inline bool server_value(const struct server_option *option, const char *text)
{
    static const char *const units[] = {"ms", "s", "m", "h"};
    static const takt_ns lengths[] = {TAKT_MS, TAKT_SEC, 60 * TAKT_SEC, 3600 * TAKT_SEC};
    static const char *const modes[] = {"auto", "uring", "poll"}; /* in their order */
    char *end;
    const long number = strtol(text, &end, 10);
    const bool good = end != text && number > 0 && number <= 1000000;
    if (option->kind == SERVER_ADDRESS)
        return takt_addr_parse((takt_addr *)option->to, text) == 0;
    if (option->kind == SERVER_COUNT) {
        *(int *)option->to = good ? (int)number : 0;
        return good && !*end && number <= option->most;
    }
    for (int i = 0; good && option->kind == SERVER_TIME && i < 4; i++) {
        *(takt_ns *)option->to = number * lengths[i];
        if (strcmp(end, units[i]) == 0)
            return true;
    }
    for (int i = 0; option->kind == SERVER_BACKEND && i < 3; i++) {
        *(takt_uring_mode *)option->to = (takt_uring_mode)i;
        if (strcmp(text, modes[i]) == 0)
            return true;
    }
    return false;
}

/* Reads the options of `program`. At --help, and at the first that it does not understand, it
 * says so and exits. */
static inline void server_options(const char *program, const char *usage,
                                  const struct server_option *options, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const struct server_option *it = options;
        const char *const value = i + 1 < argc ? argv[i + 1] : "(no value)";
        if (strcmp(argv[i], "--help") == 0) {
            fputs(usage, stdout);
            exit(0);
        }
        while (it->name && strcmp(argv[i], it->name) != 0)
            it++;
        if (it->name && it->kind == SERVER_FLAG) {
            *(int *)it->to = 1;
            continue;
        }
        if (!it->name || !server_value(it, value)) {
            fprintf(stderr, "%s: cannot understand %s %s; see --help\n", program, argv[i], value);
            exit(2);
        }
        i++;
    }
}

#endif

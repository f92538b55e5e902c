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

#include <linux/filter.h>
#include <netinet/in.h>
#include <stdarg.h>
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

/* From here on newcomers of TCP are not answered, and the line of those who wait to be accepted
 * grows by those alone whose first packet was. Accept them, and then close it: so nobody is cut
 * off who has been told that he is in. */
static inline void server_last_call(int listener)
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

/* One option. `take` puts its value where `to` points; NULL, or what the value has to be. */
struct server_option {
    const char *name; /* "": of words that are no options; NULL: the end of the table */
    const char *(*take)(const struct server_option *, const char *value);
    void *to;
    int most; /* of a number */
};

/* Takes a takt_addr. */
static inline const char *server_address(const struct server_option *it, const char *value)
{
    return takt_addr_parse((takt_addr *)it->to, value) == 0 ? NULL
                                                            : "an address, as 127.0.0.1:7000";
}

/* Takes an int, 0 to .most. */
static inline const char *server_number(const struct server_option *it, const char *value)
{
    char *end;
    const long number = strtol(value, &end, 10);
    const bool good = end != value && !*end && number >= 0 && number <= it->most;
    *(int *)it->to = good ? (int)number : 0;
    return good ? NULL : "a number from 0";
}

/* Takes an int, 1 to .most. */
static inline const char *server_count(const struct server_option *it, const char *value)
{
    return !server_number(it, value) && *(int *)it->to > 0 ? NULL : "a number from 1";
}

/* Takes a takt_ns, above 0. */
static inline const char *server_time(const struct server_option *it, const char *value)
{
    static const char *const units[] = {"ms", "s", "m", "h"};
    static const takt_ns lengths[] = {TAKT_MS, TAKT_SEC, 60 * TAKT_SEC, 3600 * TAKT_SEC};
    char *end;
    const long number = strtol(value, &end, 10);
    for (int i = 0; end != value && number > 0 && number <= 1000000 && i < 4; i++) {
        *(takt_ns *)it->to = number * lengths[i];
        if (strcmp(end, units[i]) == 0)
            return NULL;
    }
    return "a time, as 500ms, 5s, 2m or 1h";
}

/* Takes nothing: an int is 1 then. */
static inline const char *server_flag(const struct server_option *it, const char *value)
{
    (void)value;
    *(int *)it->to = 1;
    return NULL;
}

static inline const char *server_backend(const struct server_option *it, const char *value)
{
    static const char *const modes[] = {"auto", "uring", "poll"}; /* in their order */
    for (int i = 0; i < 3; i++) {
        *(takt_uring_mode *)it->to = (takt_uring_mode)i;
        if (strcmp(value, modes[i]) == 0)
            return NULL;
    }
    return "auto, uring or poll";
}

/* Says on stderr what is wrong with the command line, and exits. */
static inline void server_wrong(const char *program, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s: ", program);
    vfprintf(stderr, format, arguments);
    fputs("; see --help\n", stderr);
    va_end(arguments);
    exit(2);
}

/* Says on stderr what has failed, and how. For `return server_fail(...)` from main(). */
static inline int server_fail(const char *program, const char *what, int error)
{
    fprintf(stderr, "%s: %s: %s\n", program, what, takt_strerror(error));
    return 1;
}

/* Reads the environment (TAKT_BACKEND ...), then the command line: --backend, --help and what
 * `options` lists. At --help, and at the first thing that is wrong, it says so and exits. */
static inline void server_options(const char *program, const char *usage,
                                  const struct server_option *options, takt_uring_config *config,
                                  int argc, char **argv)
{
    const struct server_option backend = {"--backend", server_backend, &config->mode, 0};
    const bool known = takt_uring_config_from_env(config) == 0;
    for (int i = 1; i < argc; i++) {
        const struct server_option *it = options;
        const char *value = argv[i], *wanted;
        if (strcmp(argv[i], "--help") == 0) {
            fputs(usage, stdout);
            exit(0);
        }
        while (it->name && strcmp(argv[i][0] == '-' ? argv[i] : "", it->name) != 0)
            it++;
        if (!it->name && strcmp(argv[i], backend.name) == 0)
            it = &backend;
        if (!it->name)
            server_wrong(program, "there is no option %s", argv[i]);
        if (it->name[0] && it->take != server_flag && (value = argv[++i]) == NULL)
            server_wrong(program, "%s needs a value", it->name);
        wanted = it->take(it, value);
        if (wanted && it->most)
            server_wrong(program, "%s %s is not %s to %d", it->name, value, wanted, it->most);
        if (wanted)
            server_wrong(program, "%s %s is not %s", it->name, value, wanted);
    }
    if (!known)
        server_wrong(program, "TAKT_BACKEND, TAKT_DISABLE or TAKT_RESTRICT is not understood");
}

#endif

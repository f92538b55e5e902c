/*
 * log.h - what relay.c counts, and what it says: ten lines a second, and never a payload
 */
#ifndef RELAY_LOG_H
#define RELAY_LOG_H

#include "options.h"

#include <stdarg.h>

#define COUNTERS(X)                                                                           \
    X(udp_in) X(udp_up) X(udp_out) X(opened) X(expired) X(evicted) X(validated) X(challenged) \
    X(over_rate) X(over_limit) X(full) X(full_network) X(unfit) X(unrouted) X(untrusted)      \
    X(malformed) X(truncated) X(unsent) X(accepted) X(refused) X(failed) X(tcp_bytes) X(unsaid)

enum { LINES = 10 }; /* a second */

struct counted {
#define X(name) uint64_t name;
    COUNTERS(X)
#undef X
    int lines; /* that may still be said in this second */
};

static void say(struct counted *n, const char *format, ...)
{
    va_list arguments;
    if (n->lines <= 0) {
        n->unsaid++;
        return;
    }
    n->lines--;
    fputs("relay: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}

static void say_counted(const struct counted *n, unsigned sessions, unsigned connections)
{
    fprintf(stderr, "relay: sessions=%u connections=%u", sessions, connections);
#define X(name) fprintf(stderr, " " #name "=%llu", (unsigned long long)n->name);
    COUNTERS(X)
#undef X
    fputc('\n', stderr);
}

static void say_listening(const struct map *map)
{
    char from[TAKT_ADDR_TEXT], to[TAKT_ADDR_TEXT];
    fprintf(stderr, "relay: %s %s -> %s\n", map->udp ? "udp" : "tcp",
            takt_addr_format(&map->listen, from, sizeof from),
            takt_addr_format(&map->upstream, to, sizeof to));
}

#endif

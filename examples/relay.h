/*
 * relay.h - what relay.c is told, and what it tells: its maps, its command line, its counters
 */
#ifndef RELAY_H
#define RELAY_H

#include "proxy_protocol.h"
#include "server.h"

#include <ifaddrs.h>

enum { MAPS = 16, ROUTES = 64, TRUSTED = 32, OWN = 64, TOKEN = 8 };

/* A listening socket, and what is done with those who come to it. */
struct map {
    bool udp, cookie, open, token, accept;
    int send; /* version of the PROXY header for the upstream; 0: none */
    takt_addr listen, upstream;
};

struct route {
    unsigned char token[TOKEN];
    takt_addr upstream;
};

struct network {
    takt_addr addr;
    int bits;
};

/* All that the command line says. */
struct served {
    struct map maps[MAPS];
    struct route routes[ROUTES];
    struct network trusted[TRUSTED];
    takt_addr own[OWN]; /* of this machine */
    int map_count, route_count, trusted_count, own_count;
    int sessions, per_network, rate, datagram, buffers, connections, per_source, sandbox;
    takt_ns idle, connect, header, drain, stats; /* stats 0: never */
};

#define COUNTERS(X)                                                                           \
    X(udp_in) X(udp_up) X(udp_out) X(opened) X(expired) X(evicted) X(challenged) X(over_rate) \
    X(over_limit) X(full) X(full_network) X(unfit) X(unrouted) X(untrusted) X(malformed)      \
    X(truncated) X(unsent) X(accepted) X(refused) X(failed) X(tcp_bytes)

struct counted {
#define X(name) uint64_t name;
    COUNTERS(X)
#undef X
};

static inline void counted_show(const struct counted *n, uint32_t sessions, uint32_t connections)
{
    fprintf(stderr, "relay: sessions=%u connections=%u", sessions, connections);
#define X(name) fprintf(stderr, " " #name "=%llu", (unsigned long long)n->name);
    COUNTERS(X)
#undef X
    fputc('\n', stderr);
}

static inline void map_show(const struct map *map)
{
    char from[TAKT_ADDR_TEXT], to[TAKT_ADDR_TEXT];
    fprintf(stderr, "relay: %s %s -> %s\n", map->udp ? "udp" : "tcp",
            takt_addr_format(&map->listen, from, sizeof from),
            takt_addr_format(&map->upstream, to, sizeof to));
}

/* What listening to it has given: an error is said, as there may be many maps. */
static inline int map_opened(const struct map *map, int fd)
{
    char text[TAKT_ADDR_TEXT];
    if (fd < 0)
        fprintf(stderr, "relay: cannot listen on %s: %s\n",
                takt_addr_format(&map->listen, text, sizeof text), takt_strerror(fd));
    return fd;
}

static inline bool is_trusted(const struct served *all, const takt_addr *addr)
{
    const takt_addr plain = host_plain(addr);
    for (int i = 0; i < all->trusted_count; i++) {
        const takt_addr network = host_network(&plain, all->trusted[i].bits);
        if (takt_addr_equal(&network, &all->trusted[i].addr))
            return true;
    }
    return false;
}

/* What must not be answered: nobody, many, the upstream, or we ourselves, at `hit` or elsewhere:
 * these would answer for ever. Broadcast to networks the system refuses. */
static inline bool is_unfit(const struct served *all, const takt_addr *addr, const takt_addr *hit)
{
    const unsigned char *const host = host_of(addr);
    const bool four = host_size(addr) == 4;
    const takt_addr alone = host_network(addr, 128), nobody = host_network(addr, 0);
    bool unfit = takt_addr_port(addr) == 0 || host[0] >= (four ? 224 : 255) ||
                 (four ? !host[0] : takt_addr_equal(&alone, &nobody));
    bool own = takt_addr_equal(&alone, hit) || (four && host[0] == 127), listening = false;
    for (int i = 0; i < all->own_count; i++)
        own |= takt_addr_equal(&alone, &all->own[i]);
    for (int i = 0; i < all->map_count; i++) {
        unfit |= takt_addr_equal(addr, &all->maps[i].upstream);
        listening |=
            all->maps[i].udp && takt_addr_port(&all->maps[i].listen) == takt_addr_port(addr);
    }
    for (int i = 0; i < all->route_count; i++)
        unfit |= takt_addr_equal(addr, &all->routes[i].upstream);
    return unfit || (own && listening);
}

static inline void served_learn_own(struct served *all)
{
    struct ifaddrs *found = NULL;
    getifaddrs(&found);
    for (const struct ifaddrs *it = found; it && all->own_count < OWN; it = it->ifa_next) {
        const int family = it->ifa_addr ? it->ifa_addr->sa_family : AF_UNSPEC;
        takt_addr *const addr = &all->own[all->own_count];
        addr->len = family == AF_INET    ? sizeof(struct sockaddr_in)
                    : family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                         : 0;
        if (addr->len > 0) {
            memcpy(&addr->sockaddr, it->ifa_addr, addr->len);
            all->own_count++;
        }
    }
    freeifaddrs(found);
}

/* -- the command line: these fail with false ------------------------------------------------- */

static const char usage[] =
    "usage: relay --map MAP [--map MAP ...] [options]\n"
    "  MAP                    udp:LISTEN=UPSTREAM or tcp:LISTEN=UPSTREAM, each an address as\n"
    "                         127.0.0.1:7000, [::1]:7000 or :7000; then, behind commas:\n"
    "      send-v1, send-v2   begin with a PROXY protocol header for the upstream (UDP: v2, in\n"
    "                         each datagram)\n"
    "      accept             who comes is a proxy of --trust and begins with such a header\n"
    "                         (UDP: v2, each datagram); others are turned away. Without this,\n"
    "                         what looks like a header is passed on\n"
    "      token              UDP: the first 8 bytes are looked up among --route; who sends\n"
    "                         others stays where it is, or is not served; UPSTREAM is not used\n"
    "      cookie, open       UDP: see below\n"
    "  --route TOKEN=UPSTREAM 16 hex digits, which are passed on\n"
    "  --trust NETWORK        of proxies, as 10.0.0.0/8 or ::1\n"
    "  --sessions N           UDP: at a time; beyond, see below                 (4096)\n"
    "  --per-network N        of them from one /24, or /48 of IPv6              (256)\n"
    "  --rate N               datagrams a second from one host, or /64          (2000)\n"
    "  --datagram N           bytes of the longest; longer ones are dropped     (2048)\n"
    "  --buffers N            datagrams under way                               (1024)\n"
    "  --connections N        TCP: at a time                                    (1000)\n"
    "  --per-source N         of them from one host, or /64; a proxy is one     (100)\n"
    "  --connect TIME         limit of connecting to the upstream               (5s)\n"
    "  --header TIME          limit of a PROXY header that is to come           (3s)\n"
    "  --idle TIME            of silence: of the client (UDP), of both (TCP)    (60s)\n"
    "  --drain TIME           at SIGTERM, limit for those who are there         (10s)\n"
    "  --stats TIME           print the counters so often                       (never)\n"
    "  --backend NAME         auto (io_uring if it works, else epoll), uring or poll\n"
    "  --sandbox              once it listens, give up files, programs, new rings ...\n"
    "  TIME                   a number with ms, s, m or h\n"
    "A UDP source can be forged. One that has not shown that it is there gets at most three\n"
    "bytes for one, and a datagram for a datagram, as long as it lives (RFC 9000, 8.1). That it\n"
    "comes again shows nothing. With `cookie` it can show it: a newcomer's datagram of 16 bytes\n"
    "or more is dropped and answered by 16, of which 8 are \"takt-ck1\"; a datagram with these\n"
    "in front, within 30 s, lets it in, and nothing is kept of one that does not. `open`\n"
    "is for networks where sources cannot be forged: no limit. When --sessions are there, the\n"
    "oldest is put out that did not come back after an answer; if all did, one that was silent\n"
    "for 2 s; else the newcomer waits. Never answered are port 0, multicast, broadcast, the\n"
    "upstreams and the relay itself.\n"
    "SIGTERM or SIGINT: no newcomers, exit when all have gone; a second one: at once. SIGUSR1:\n"
    "print the counters. All memory is allocated at the start.\n";

/* "udp:LISTEN=UPSTREAM,WORD,..." */
static inline const char *served_map(const struct server_option *it, const char *value)
{
    static const char *const words[] = {"cookie", "open", "token", "accept", "send-v1", "send-v2"};
    static const char wanted[] = "a map, as udp:127.0.0.1:7000=127.0.0.1:7001,cookie";
    struct served *const all = (struct served *)it->to;
    struct map *const map = &all->maps[all->map_count];
    bool chosen[6] = {false, false, false, false, false, false};
    char text[512], *rest = NULL, *word, *upstream;
    if (all->map_count++ == MAPS)
        return "one of 16 maps";
    snprintf(text, sizeof text, "%s", value);
    map->udp = strncmp(text, "udp:", 4) == 0;
    word = strtok_r(text, ",", &rest);
    upstream = word ? strchr(word, '=') : NULL;
    if (!upstream || (!map->udp && strncmp(text, "tcp:", 4) != 0))
        return wanted;
    *upstream++ = '\0';
    while ((word = strtok_r(NULL, ",", &rest)) != NULL) {
        int i = 0;
        while (i < 6 && strcmp(word, words[i]) != 0)
            i++;
        if (i == 6)
            return wanted;
        chosen[i] = true;
    }
    if (map->udp ? chosen[4] : chosen[0] || chosen[1] || chosen[2])
        return "a map: cookie, open and token are for UDP, send-v1 for TCP";
    map->cookie = chosen[0];
    map->open = chosen[1];
    map->token = chosen[2];
    map->accept = chosen[3];
    map->send = chosen[5] ? 2 : chosen[4];
    return strncmp(text + 4, "unix:", 5) != 0 && takt_addr_parse(&map->listen, text + 4) == 0 &&
                   takt_addr_parse(&map->upstream, upstream) == 0 &&
                   takt_addr_port(&map->upstream) > 0
               ? NULL
               : wanted;
}

/* "0011223344556677=UPSTREAM" */
static inline const char *served_route(const struct server_option *it, const char *value)
{
    static const char wanted[] = "a route, as 0011223344556677=127.0.0.1:7001";
    struct served *const all = (struct served *)it->to;
    struct route *const route = &all->routes[all->route_count];
    unsigned byte;
    if (all->route_count++ == ROUTES)
        return "one of 64 routes";
    if (strspn(value, "0123456789abcdefABCDEF") != 2 * TOKEN || value[2 * TOKEN] != '=')
        return wanted;
    for (int i = 0; i < TOKEN && sscanf(value + 2 * i, "%2x", &byte) == 1; i++)
        route->token[i] = (unsigned char)byte;
    return takt_addr_parse(&route->upstream, value + 2 * TOKEN + 1) == 0 &&
                   takt_addr_port(&route->upstream) > 0
               ? NULL
               : wanted;
}

/* "10.0.0.0/8" */
static inline const char *served_trust(const struct server_option *it, const char *value)
{
    static const char wanted[] = "a network, as 10.0.0.0/8, 10.0.0.1 or ::1";
    struct served *const all = (struct served *)it->to;
    struct network *const network = &all->trusted[all->trusted_count];
    char host[64], text[80];
    int end = 0, most;
    if (all->trusted_count++ == TRUSTED)
        return "one of 32 networks";
    if (sscanf(value, "%63[^/]%n", host, &end) != 1)
        return wanted;
    snprintf(text, sizeof text, strchr(host, ':') ? "[%s]:0" : "%s:0", host);
    if (takt_addr_parse(&network->addr, text) < 0)
        return wanted;
    most = network->bits = 8 * (int)host_size(&network->addr);
    value += end;
    if (*value && (sscanf(value, "/%3d%n", &network->bits, &end) != 1 || value[end]))
        return wanted;
    network->addr = host_network(&network->addr, network->bits);
    return network->bits >= 0 && network->bits <= most ? NULL : wanted;
}

/* Reads the command line; exits where it is not understood. */
static inline void served_options(struct served *all, takt_uring_config *config, int argc,
                                  char **argv)
{
    const struct server_option options[] = {
        {"--map", served_map, all, 0},
        {"--route", served_route, all, 0},
        {"--trust", served_trust, all, 0},
        {"--sessions", server_count, &all->sessions, 1000000},
        {"--per-network", server_count, &all->per_network, 1000000},
        {"--rate", server_count, &all->rate, 1000000},
        {"--datagram", server_count, &all->datagram, 65507},
        {"--buffers", server_count, &all->buffers, 65536},
        {"--connections", server_count, &all->connections, 1000000},
        {"--per-source", server_count, &all->per_source, 1000000},
        {"--connect", server_time, &all->connect, 0},
        {"--header", server_time, &all->header, 0},
        {"--idle", server_time, &all->idle, 0},
        {"--drain", server_time, &all->drain, 0},
        {"--stats", server_time, &all->stats, 0},
        {"--sandbox", server_flag, &all->sandbox, 0},
        {NULL, NULL, NULL, 0},
    };
    all->sessions = 4096;
    all->per_network = 256;
    all->rate = 2000;
    all->datagram = 2048;
    all->buffers = 1024;
    all->connections = 1000;
    all->per_source = 100;
    all->connect = 5 * TAKT_SEC;
    all->header = 3 * TAKT_SEC;
    all->idle = 60 * TAKT_SEC;
    all->drain = 10 * TAKT_SEC;
    server_options("relay", usage, options, config, argc, argv);
    if (all->map_count == 0)
        server_wrong("relay", "a --map is needed");
    for (int i = 0; i < all->map_count; i++) {
        if (all->maps[i].accept && all->trusted_count == 0)
            server_wrong("relay", "a --map that accepts is of no use without --trust");
        if (all->maps[i].token && all->route_count == 0)
            server_wrong("relay", "a --map with tokens is of no use without --route");
    }
}

#endif

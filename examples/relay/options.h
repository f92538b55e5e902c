/*
 * options.h - the command line of relay.c
 */
#ifndef RELAY_OPTIONS_H
#define RELAY_OPTIONS_H

#include "proxy_protocol.h"

enum { MAPS = 16, ROUTES = 64, TRUSTED = 32 }; /* at most */
enum { TOKEN = 8 };                            /* bytes */

/* What is said of one listening socket. */
struct map {
    bool udp, cookie, open, token, echo, accept;
    int send; /* version of the PROXY header for the upstream; 0: none */
    unsigned secret_at, echo_at; /* where the upstream's secret stands, and the client's echo */
    takt_addr listen, upstream;
};

struct route {
    unsigned char token[TOKEN];
    takt_addr upstream;
};

struct network {
    struct endpoint host;
    int bits; /* of 128 */
};

struct options {
    struct map maps[MAPS];
    struct route routes[ROUTES];
    struct network trusted[TRUSTED];
    int map_count, route_count, trusted_count;
    takt_ns idle, protect, connect, header, drain, stats; /* stats 0: never */
    uint32_t sessions, per_network, rate, connections, per_host, buffers, datagram;
    takt_uring_mode backend;
};

static const char usage[] =
    "usage: relay --map MAP [--map MAP ...] [options]\n"
    "  MAP                    udp:LISTEN=UPSTREAM or tcp:LISTEN=UPSTREAM, each an address as\n"
    "                         127.0.0.1:7000, [::1]:7000 or :7000; then, behind commas:\n"
    "      send-v1, send-v2   begin with a PROXY protocol header for the upstream; UDP: v2, in\n"
    "                         every datagram\n"
    "      accept             everybody who comes is a proxy of --trust, and begins with such a\n"
    "                         header (UDP: v2, every datagram). Others are turned away. Without\n"
    "                         this, what looks like a header is passed on like anything else\n"
    "      token              (UDP) the first 8 bytes are looked up among --route; who sends\n"
    "                         others stays where it is, or is not served. UPSTREAM is not used\n"
    "      cookie, echo=A/B, open   (UDP) how a source is validated: see below\n"
    "  --route TOKEN=UPSTREAM 16 hex digits, and where they lead; the token is passed on\n"
    "  --trust NETWORK        of proxies, as 10.0.0.0/8 or ::1\n"
    "  --backend NAME         auto (io_uring if it works, else epoll), uring or poll\n"
    "UDP:\n"
    "  --sessions N           at a time                                     (4096)\n"
    "  --per-network N        of them from one /24, or /48 of IPv6          (256)\n"
    "  --rate N               datagrams a second from one host, or /64      (2000)\n"
    "  --protect TIME         beyond --sessions, the oldest one that did not come back after\n"
    "                         an answer is put out; if all did, the one silent longest, but\n"
    "                         not before this time; else the newcomer waits (2s)\n"
    "  --datagram N           bytes of the longest; below 65535 also: none come joined (65535)\n"
    "  --buffers N            datagrams under way at a time                 (512)\n"
    "TCP:\n"
    "  --connections N        at a time                                     (1000)\n"
    "  --per-host N           of them from one host, or /64                 (100)\n"
    "  --connect TIME         limit of connecting to the upstream           (5s)\n"
    "  --header TIME          limit of a PROXY header that is to come       (3s)\n"
    "Both:\n"
    "  --idle TIME            limit of silence: of a client (UDP), of both (TCP)   (60s)\n"
    "  --drain TIME           at SIGTERM, limit for those who are there     (10s)\n"
    "  --stats TIME           print the counters so often                   (never)\n"
    "  TIME                   a number with ms, s, m or h\n"
    "Validation: a UDP source can be forged, so one that has not proved to be there gets at most\n"
    "three bytes for each that it has sent, and a datagram for a datagram (RFC 9000, 8.1), for\n"
    "as long as it likes. It has proved it with\n"
    "  cookie      a round trip before anything else. A newcomer's datagram of 16 bytes or more\n"
    "              is dropped and answered by 16 bytes, of which the first 8 are \"takt-ck1\". To\n"
    "              be let in it repeats these in front of a datagram, within 30 s; the relay\n"
    "              takes them off. Nothing is kept of one that does not: the best there is\n"
    "  echo=A/B    the 8 bytes at A of what the upstream answered, sent back at B of its own.\n"
    "              They must be random, as a QUIC connection id is or a challenge\n"
    "  open        nothing: for networks where sources cannot be forged\n"
    "Never answered: port 0, multicast, broadcast, upstreams, the relay's own sockets.\n"
    "SIGTERM or SIGINT: no newcomers, exit when all have gone; a second one: at once. SIGUSR1:\n"
    "print the counters. All memory is allocated at the start, and its size printed.\n";

/* A positive number with one of the units behind it. */
static bool parse_time(const char *text, takt_ns *ns)
{
    static const char *const units[] = {"ms", "s", "m", "h"};
    static const takt_ns lengths[] = {TAKT_MS, TAKT_SEC, 60 * TAKT_SEC, 3600 * TAKT_SEC};
    char *end;
    const long number = strtol(text, &end, 10);
    for (int i = 0; i < 4; i++) {
        if (end != text && number > 0 && number < 1000000 && strcmp(end, units[i]) == 0) {
            *ns = number * lengths[i];
            return true;
        }
    }
    return false;
}

static bool parse_count(const char *text, uint32_t *count)
{
    char *end;
    const long number = strtol(text, &end, 10);
    *count = (uint32_t)number;
    return end != text && !*end && number > 0 && number <= 1000000;
}

static bool parse_upstream(const char *text, takt_addr *addr)
{
    return takt_addr_parse(addr, text) == 0 && takt_addr_port(addr) > 0;
}

static bool parse_map(struct options *o, const char *value)
{
    struct map *const map = &o->maps[o->map_count];
    char text[512], *word, *rest = NULL, *upstream;
    int end = 0;
    if (o->map_count++ == MAPS || (size_t)snprintf(text, sizeof text, "%s", value) >= sizeof text)
        return false;
    map->udp = strncmp(text, "udp:", 4) == 0;
    word = strtok_r(text, ",", &rest);
    upstream = word ? strchr(word, '=') : NULL;
    if ((!map->udp && strncmp(text, "tcp:", 4) != 0) || !upstream)
        return false;
    *upstream++ = '\0';
    if (takt_addr_parse(&map->listen, text + 4) < 0 || strncmp(text + 4, "unix:", 5) == 0 ||
        !parse_upstream(upstream, &map->upstream))
        return false;
    while ((word = strtok_r(NULL, ",", &rest)) != NULL) {
        if (strcmp(word, "accept") == 0)
            map->accept = true;
        else if (strcmp(word, "send-v2") == 0)
            map->send = 2;
        else if (strcmp(word, "send-v1") == 0 && !map->udp)
            map->send = 1;
        else if (strcmp(word, "cookie") == 0 && map->udp)
            map->cookie = true;
        else if (strcmp(word, "token") == 0 && map->udp)
            map->token = true;
        else if (strcmp(word, "open") == 0 && map->udp)
            map->open = true;
        else if (map->udp && sscanf(word, "echo=%5u/%5u%n", &map->secret_at, &map->echo_at,
                                    &end) == 2 && !word[end])
            map->echo = true;
        else
            return false;
    }
    return map->cookie + map->open + map->echo <= 1;
}

static bool parse_route(struct options *o, const char *value)
{
    struct route *const route = &o->routes[o->route_count];
    unsigned byte;
    if (o->route_count++ == ROUTES || strspn(value, "0123456789abcdefABCDEF") != 2 * TOKEN ||
        value[2 * TOKEN] != '=')
        return false;
    for (int i = 0; i < TOKEN && sscanf(value + 2 * i, "%2x", &byte) == 1; i++)
        route->token[i] = (unsigned char)byte;
    return parse_upstream(value + 2 * TOKEN + 1, &route->upstream);
}

static bool parse_network(struct options *o, const char *value)
{
    struct network *const network = &o->trusted[o->trusted_count];
    char host[INET6_ADDRSTRLEN];
    const size_t n = strcspn(value, "/");
    int bits = 128, end = 0;
    if (o->trusted_count++ == TRUSTED || n >= sizeof host)
        return false;
    memcpy(host, value, n);
    host[n] = '\0';
    if (!endpoint_parse_host(&network->host, host))
        return false;
    if (value[n]) {
        if (sscanf(value + n, "/%3d%n", &bits, &end) != 1 || value[n + (size_t)end])
            return false;
        bits += strchr(host, ':') ? 0 : 96;
    }
    network->bits = bits;
    network->host = endpoint_network(&network->host, bits);
    return bits >= (strchr(host, ':') ? 0 : 96) && bits <= 128;
}

static bool parse_backend(const char *text, takt_uring_mode *mode)
{
    *mode = strcmp(text, "uring") == 0  ? TAKT_URING_ONLY
            : strcmp(text, "poll") == 0 ? TAKT_URING_NEVER
                                        : TAKT_URING_AUTO;
    return *mode != TAKT_URING_AUTO || strcmp(text, "auto") == 0;
}

/* Takes one option with a value. False: unknown, or not a value for it. */
static bool parse_option(struct options *o, const char *name, const char *value)
{
    const struct {
        const char *name;
        takt_ns *time;
        uint32_t *count;
    } plain[] = {{"--idle", &o->idle, NULL},         {"--protect", &o->protect, NULL},
                 {"--connect", &o->connect, NULL},   {"--header", &o->header, NULL},
                 {"--drain", &o->drain, NULL},       {"--stats", &o->stats, NULL},
                 {"--sessions", NULL, &o->sessions}, {"--per-network", NULL, &o->per_network},
                 {"--rate", NULL, &o->rate},         {"--connections", NULL, &o->connections},
                 {"--per-host", NULL, &o->per_host}, {"--buffers", NULL, &o->buffers},
                 {"--datagram", NULL, &o->datagram}};
    if (strcmp(name, "--map") == 0)
        return parse_map(o, value);
    if (strcmp(name, "--route") == 0)
        return parse_route(o, value);
    if (strcmp(name, "--trust") == 0)
        return parse_network(o, value);
    if (strcmp(name, "--backend") == 0)
        return parse_backend(value, &o->backend);
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++)
        if (strcmp(name, plain[i].name) == 0)
            return plain[i].time ? parse_time(value, plain[i].time)
                                 : parse_count(value, plain[i].count);
    return false;
}

/* The whole command line; ends the program if it is not understood. */
static void parse(struct options *o, int argc, char **argv)
{
    o->idle = 60 * TAKT_SEC;
    o->protect = 2 * TAKT_SEC;
    o->connect = 5 * TAKT_SEC;
    o->header = 3 * TAKT_SEC;
    o->drain = 10 * TAKT_SEC;
    o->sessions = 4096;
    o->per_network = 256;
    o->rate = 2000;
    o->connections = 1000;
    o->per_host = 100;
    o->buffers = 512;
    o->datagram = UINT16_MAX;
    for (int i = 1; i < argc; i += 2) {
        if (strcmp(argv[i], "--help") == 0) {
            fputs(usage, stdout);
            exit(0);
        }
        if (i + 1 == argc || !parse_option(o, argv[i], argv[i + 1])) {
            fprintf(stderr, "relay: cannot understand %s %s; see --help\n", argv[i],
                    i + 1 < argc ? argv[i + 1] : "(no value)");
            exit(2);
        }
    }
    if (o->map_count == 0 || o->datagram > UINT16_MAX) {
        fputs("relay: a --map is needed, and no --datagram above 65535; see --help\n", stderr);
        exit(2);
    }
}

#endif

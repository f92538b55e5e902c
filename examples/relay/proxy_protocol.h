/*
 * proxy_protocol.h - who it was that came, as proxies tell each other; for relay.c
 *
 * Versions 1 and 2 of haproxy's doc/proxy-protocol.txt, sections 2.1 and 2.2. Nothing in here
 * guesses: who reads a header expects one. Plain C, no state; the memory is the caller's.
 */
#ifndef PROXY_PROTOCOL_H
#define PROXY_PROTOCOL_H

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PROXY_READ_MAX = 536, /* bytes of a header that is read, what is tacked on included */
    PROXY_LINE_MAX = 107, /* bytes of one of version 1 */
    PROXY_WRITE_MAX = 108 /* room for one that is written */
};

/* An IPv6 host, or an IPv4 one mapped into it, and a port. Compared and hashed as bytes. */
struct endpoint {
    unsigned char host[16];
    uint16_t port;
};

static const unsigned char endpoint_ip4[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static inline bool endpoint_is_ip4(const struct endpoint *e)
{
    return memcmp(e->host, endpoint_ip4, sizeof endpoint_ip4) == 0;
}

/* Reads a host as text, without a port. */
static inline bool endpoint_parse_host(struct endpoint *e, const char *text)
{
    memcpy(e->host, endpoint_ip4, sizeof endpoint_ip4);
    return inet_pton(AF_INET, text, e->host + 12) == 1 || inet_pton(AF_INET6, text, e->host) == 1;
}

static inline bool endpoint_same_host(const struct endpoint *a, const struct endpoint *b)
{
    return memcmp(a->host, b->host, sizeof a->host) == 0;
}

/* Its network: the first `bits` of 128. */
static inline struct endpoint endpoint_network(const struct endpoint *e, int bits)
{
    struct endpoint network = *e;
    for (int i = 0; i < 16; i++, bits -= 8)
        if (bits < 8)
            network.host[i] &= (unsigned char)(bits <= 0 ? 0 : 0xff << (8 - bits));
    return network;
}

static const unsigned char proxy_signature[13] = "\r\n\r\n\0\r\nQUIT\n";

static inline bool proxy_read_port(const char *text, uint16_t *port)
{
    const long number = strtol(text, NULL, 10); /* of one to five digits */
    *port = (uint16_t)number;
    return number <= 65535 && (text[0] != '0' || !text[1]);
}

/* "PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n", as exactly as that. */
static inline int proxy_read_v1(const unsigned char *data, size_t size, struct endpoint *from,
                                struct endpoint *to)
{
    char line[PROXY_LINE_MAX + 1], family[2], source[46], target[46], ports[2][6];
    const size_t line_max = PROXY_LINE_MAX, most = size < line_max ? size : line_max;
    const unsigned char *const end = (const unsigned char *)memchr(data, '\n', most);
    struct endpoint a, b;
    int n = 0;
    if (!end)
        return size < line_max ? 0 : -1;
    memcpy(line, data, (size_t)(end - data));
    line[end - data] = '\0';
    if (end - data < 14 || end[-1] != '\r')
        return -1;
    if (memcmp(line, "PROXY UNKNOWN", 13) == 0 && (line[13] == ' ' || line[13] == '\r'))
        return (int)(end - data) + 1;
    if (sscanf(line,
               "PROXY%*1[ ]TCP%1[46]%*1[ ]%45[0-9a-fA-F.:]%*1[ ]%45[0-9a-fA-F.:]%*1[ ]"
               "%5[0-9]%*1[ ]%5[0-9]%n",
               family, source, target, ports[0], ports[1], &n) != 5 ||
        n != (int)(end - data) - 1 || !endpoint_parse_host(&a, source) ||
        !endpoint_parse_host(&b, target) || !proxy_read_port(ports[0], &a.port) ||
        !proxy_read_port(ports[1], &b.port) || !strchr(source, ':') != (family[0] == '4') ||
        !strchr(target, ':') != (family[0] == '4'))
        return -1;
    *from = a;
    *to = b;
    return (int)(end - data) + 1;
}

static inline int proxy_read_v2(const unsigned char *data, size_t size, bool udp,
                                struct endpoint *from, struct endpoint *to)
{
    static const uint8_t least[4] = {0, 12, 36, 216};
    const bool local = size > 12 && data[12] == 0x20;
    size_t length, each;
    int family, protocol;
    if (size > 12 && !local && data[12] != 0x21)
        return -1; /* another version, or an unknown command */
    if (size < 16)
        return 0;
    family = data[13] >> 4;
    protocol = data[13] & 15;
    length = 16 + ((size_t)data[14] << 8 | data[15]);
    each = family == 1 ? 4 : 16;
    if (length > PROXY_READ_MAX ||
        (!local && (family > 3 || protocol > 2 || length < 16u + least[family])))
        return -1;
    if (size < length)
        return 0;
    if (!local && (family == 1 || family == 2) && protocol == (udp ? 2 : 1)) {
        const unsigned char *const ports = data + 16 + 2 * each;
        memcpy(from->host, endpoint_ip4, sizeof endpoint_ip4);
        memcpy(to->host, endpoint_ip4, sizeof endpoint_ip4);
        memcpy(from->host + 16 - each, data + 16, each);
        memcpy(to->host + 16 - each, data + 16 + each, each);
        from->port = (uint16_t)(ports[0] << 8 | ports[1]);
        to->port = (uint16_t)(ports[2] << 8 | ports[3]);
    }
    return (int)length;
}

/* Reads the header at the start of `size` bytes. Its length; 0 while it is not complete, which
 * it is or is not at PROXY_READ_MAX bytes; -1 if it is none. `from` and `to` are set, unless it
 * says that there is nobody to name (LOCAL, UNKNOWN, or not of this protocol): then they stay.
 * Of UDP, one datagram is all there is, and there is no version 1. */
static inline int proxy_read(const unsigned char *data, size_t size, bool udp,
                             struct endpoint *from, struct endpoint *to)
{
    if (size == 0)
        return 0;
    if (memcmp(data, proxy_signature, size < 12 ? size : 12) == 0)
        return proxy_read_v2(data, size, udp, from, to);
    if (udp || memcmp(data, "PROXY ", size < 6 ? size : 6) != 0)
        return -1;
    return proxy_read_v1(data, size, from, to);
}

/* Writes a header of `version` 1 (TCP only) or 2 into PROXY_WRITE_MAX bytes. Its length. */
static inline size_t proxy_write(unsigned char *out, int version, bool udp,
                                 const struct endpoint *from, const struct endpoint *to)
{
    const bool four = endpoint_is_ip4(from) && endpoint_is_ip4(to);
    const int skip = four ? 12 : 0, family = four ? AF_INET : AF_INET6;
    const size_t each = four ? 4 : 16;
    char source[INET6_ADDRSTRLEN], target[INET6_ADDRSTRLEN];
    if (version == 1)
        return (size_t)snprintf((char *)out, PROXY_WRITE_MAX, "PROXY TCP%c %s %s %d %d\r\n",
                                four ? '4' : '6',
                                inet_ntop(family, from->host + skip, source, sizeof source),
                                inet_ntop(family, to->host + skip, target, sizeof target),
                                from->port, to->port);
    memcpy(out, proxy_signature, 12);
    out[12] = 0x21;
    out[13] = (unsigned char)((four ? 0x10 : 0x20) | (udp ? 2 : 1));
    out[14] = 0;
    out[15] = (unsigned char)(2 * each + 4);
    memcpy(out + 16, from->host + skip, each);
    memcpy(out + 16 + each, to->host + skip, each);
    out += 16 + 2 * each;
    out[0] = (unsigned char)(from->port >> 8);
    out[1] = (unsigned char)from->port;
    out[2] = (unsigned char)(to->port >> 8);
    out[3] = (unsigned char)to->port;
    return 20 + 2 * each;
}

#endif

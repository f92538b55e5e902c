/*
 * proxy_protocol.h - who it was that came, as proxies tell each other
 *
 * Versions 1 and 2 of haproxy's doc/proxy-protocol.txt, 2.1 and 2.2. Nothing in here guesses:
 * who reads a header expects one. For IPv4 and IPv6; no state, the memory is the caller's.
 */
#ifndef PROXY_PROTOCOL_H
#define PROXY_PROTOCOL_H

#include "takt_uring.h"

#include <arpa/inet.h>
#include <stdio.h>

enum {
    PROXY_READ_MAX = 536, /* bytes of a header that is read, what is tacked on included */
    PROXY_LINE_MAX = 107, /* bytes of one of version 1 */
    PROXY_WRITE_MAX = 108 /* room for one that is written */
};

/* -- hosts as bytes ------------------------------------------------------------------- */

enum { HOST_PORT_AT = 2 }; /* in a sockaddr of either family: two bytes, the high one first */

/* Bytes of the host, 4 or 16. */
static inline size_t host_size(const takt_addr *addr)
{
    return addr->len == sizeof(struct sockaddr_in) ? 4 : 16;
}

static inline const unsigned char *host_of(const takt_addr *addr)
{
    return addr->sockaddr.bytes + (host_size(addr) == 4 ? offsetof(struct sockaddr_in, sin_addr)
                                                        : offsetof(struct sockaddr_in6, sin6_addr));
}

static inline takt_addr host_make(size_t size, const unsigned char *host, const unsigned char *port)
{
    takt_addr addr;
    takt_addr_parse(&addr, size == 4 ? "0.0.0.0:0" : "[::]:0");
    memcpy(addr.sockaddr.bytes + (host_of(&addr) - addr.sockaddr.bytes), host, size);
    memcpy(addr.sockaddr.bytes + HOST_PORT_AT, port, 2);
    return addr;
}

/* The same, but IPv4 that comes to a socket of IPv6 (::ffff:1.2.3.4) is IPv4. */
static inline takt_addr host_plain(const takt_addr *addr)
{
    static const unsigned char mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    const unsigned char *const host = host_of(addr);
    if (host_size(addr) == 4 || memcmp(host, mapped, sizeof mapped) != 0)
        return *addr;
    return host_make(4, host + sizeof mapped, addr->sockaddr.bytes + HOST_PORT_AT);
}

/* Its first `bits`, without a port. */
static inline takt_addr host_network(const takt_addr *addr, int bits)
{
    takt_addr network = *addr;
    unsigned char *const host = network.sockaddr.bytes + (host_of(addr) - addr->sockaddr.bytes);
    memset(network.sockaddr.bytes + HOST_PORT_AT, 0, 2);
    for (size_t i = 0; i < host_size(addr); i++, bits -= 8)
        if (bits < 8)
            host[i] &= (unsigned char)(bits <= 0 ? 0 : 0xff << (8 - bits));
    return network;
}

/* -- headers ---------------------------------------------------------------------------- */

static const unsigned char proxy_signature[13] = "\r\n\r\n\0\r\nQUIT\n";

static inline bool proxy_v1_address(takt_addr *addr, char family, const char *host,
                                    const char *port)
{
    char text[64];
    snprintf(text, sizeof text, family == '4' ? "%s:%s" : "[%s]:%s", host, port);
    return (port[0] != '0' || !port[1]) && takt_addr_parse(addr, text) == 0;
}

/* "PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n", as exactly as that. */
static inline int proxy_v1(const unsigned char *data, size_t size, takt_addr *from, takt_addr *to)
{
    char line[PROXY_LINE_MAX + 1], family[2], source[46], target[46], ports[2][6];
    const size_t line_max = PROXY_LINE_MAX, most = size < line_max ? size : line_max;
    const unsigned char *const end = (const unsigned char *)memchr(data, '\n', most);
    takt_addr a, b;
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
        n != (int)(end - data) - 1 || !proxy_v1_address(&a, family[0], source, ports[0]) ||
        !proxy_v1_address(&b, family[0], target, ports[1]))
        return -1;
    *from = a;
    *to = b;
    return (int)(end - data) + 1;
}

static inline int proxy_v2(const unsigned char *data, size_t size, bool udp, takt_addr *from,
                   takt_addr *to)
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
        *from = host_make(each, data + 16, data + 16 + 2 * each);
        *to = host_make(each, data + 16 + each, data + 18 + 2 * each);
    }
    return (int)length;
}

/* Reads the header at the start of `size` bytes. Its length; 0 while it is not complete, which
 * it is or is not at PROXY_READ_MAX bytes; -1 if it is none. Where it names nobody (LOCAL,
 * UNKNOWN, or not of this protocol), `from` and `to` stay. For UDP there is no version 1. */
static inline int proxy_read(const unsigned char *data, size_t size, bool udp, takt_addr *from,
                       takt_addr *to)
{
    if (size == 0)
        return 0;
    if (memcmp(data, proxy_signature, size < 12 ? size : 12) == 0)
        return proxy_v2(data, size, udp, from, to);
    if (udp || memcmp(data, "PROXY ", size < 6 ? size : 6) != 0)
        return -1;
    return proxy_v1(data, size, from, to);
}

/* Writes a header of version 1 (TCP alone) or 2 into PROXY_WRITE_MAX bytes. Both addresses are
 * of one family. Its length. */
static inline size_t proxy_write(unsigned char *out, int version, bool udp, const takt_addr *from,
                           const takt_addr *to)
{
    const size_t each = host_size(from);
    const int family = each == 4 ? AF_INET : AF_INET6;
    char source[INET6_ADDRSTRLEN], target[INET6_ADDRSTRLEN];
    if (version == 1)
        return (size_t)snprintf((char *)out, PROXY_WRITE_MAX, "PROXY TCP%c %s %s %d %d\r\n",
                                each == 4 ? '4' : '6',
                                inet_ntop(family, host_of(from), source, sizeof source),
                                inet_ntop(family, host_of(to), target, sizeof target),
                                takt_addr_port(from), takt_addr_port(to));
    memcpy(out, proxy_signature, 12);
    out[12] = 0x21;
    out[13] = (unsigned char)((each == 4 ? 0x10 : 0x20) | (udp ? 2 : 1));
    out[14] = 0;
    out[15] = (unsigned char)(2 * each + 4);
    memcpy(out + 16, host_of(from), each);
    memcpy(out + 16 + each, host_of(to), each);
    memcpy(out + 16 + 2 * each, from->sockaddr.bytes + HOST_PORT_AT, 2);
    memcpy(out + 18 + 2 * each, to->sockaddr.bytes + HOST_PORT_AT, 2);
    return 20 + 2 * each;
}

#endif

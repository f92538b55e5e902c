/*
 * sources.h - whom relay.c trusts, and whom it never answers
 */
#ifndef RELAY_SOURCES_H
#define RELAY_SOURCES_H

#include "options.h"

#include <ifaddrs.h>

/* The addresses of this machine. */
struct own {
    struct endpoint at[64];
    int count;
};

static struct endpoint endpoint_of(const takt_addr *addr)
{
    struct sockaddr_in in4;
    struct sockaddr_in6 in6;
    struct endpoint e;
    memset(&e, 0, sizeof e);
    memcpy(&in4, &addr->sockaddr, sizeof in4);
    memcpy(&in6, &addr->sockaddr, sizeof in6);
    e.port = (uint16_t)takt_addr_port(addr);
    if (in4.sin_family == AF_INET) {
        memcpy(e.host, endpoint_ip4, sizeof endpoint_ip4);
        memcpy(e.host + 12, &in4.sin_addr, 4);
    } else if (in4.sin_family == AF_INET6) {
        memcpy(e.host, &in6.sin6_addr, 16);
    }
    return e;
}

/* Those that there are now. */
static void own_learn(struct own *own)
{
    struct ifaddrs *all = NULL;
    if (getifaddrs(&all) < 0)
        return;
    for (struct ifaddrs *it = all; it && own->count < 64; it = it->ifa_next) {
        const int family = it->ifa_addr ? it->ifa_addr->sa_family : AF_UNSPEC;
        takt_addr addr;
        memset(&addr, 0, sizeof addr);
        addr.len = family == AF_INET    ? sizeof(struct sockaddr_in)
                   : family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                        : 0;
        if (addr.len == 0)
            continue;
        memcpy(&addr.sockaddr, it->ifa_addr, addr.len);
        own->at[own->count++] = endpoint_of(&addr);
    }
    freeifaddrs(all);
}

static bool is_trusted(const struct options *o, const struct endpoint *e)
{
    for (int i = 0; i < o->trusted_count; i++) {
        const struct endpoint network = endpoint_network(e, o->trusted[i].bits);
        if (endpoint_same_host(&network, &o->trusted[i].host))
            return true;
    }
    return false;
}

static bool is_upstream(const struct options *o, const struct endpoint *e)
{
    for (int i = 0; i < o->map_count + o->route_count; i++) {
        const struct endpoint upstream =
            endpoint_of(i < o->map_count ? &o->maps[i].upstream
                                         : &o->routes[i - o->map_count].upstream);
        if (endpoint_same_host(e, &upstream) && e->port == upstream.port)
            return true;
    }
    return false;
}

/* One of our own listening sockets. `hit`: the address of ours that was asked. */
static bool is_own(const struct options *o, const struct own *own, const struct endpoint *e,
                   const struct endpoint *hit)
{
    bool here = endpoint_same_host(e, hit) || (endpoint_is_ip4(e) && e->host[12] == 127);
    bool listening = false;
    for (int i = 0; i < own->count; i++)
        here = here || endpoint_same_host(e, &own->at[i]);
    for (int i = 0; i < o->map_count; i++)
        listening = listening || (o->maps[i].udp && takt_addr_port(&o->maps[i].listen) == e->port);
    return here && listening;
}

/* What must not be answered: nobody, many, or somebody who would answer for ever. Broadcast
 * addresses of networks are refused by the system. */
static bool is_unfit(const struct options *o, const struct own *own, const struct endpoint *e,
                     const struct endpoint *hit)
{
    const unsigned char first = endpoint_is_ip4(e) ? e->host[12] : 1;
    return e->port == 0 || e->host[0] == 0xff || first == 0 || first >= 224 || is_upstream(o, e) ||
           is_own(o, own, e, hit);
}

#endif

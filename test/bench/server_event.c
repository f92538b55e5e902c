/* server_event.c - the echo server on libevent, the way its book shows it: bufferevents. */
#include "bench.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>

static void on_read(struct bufferevent *connection, void *user)
{
    (void)user;
    evbuffer_add_buffer(bufferevent_get_output(connection), bufferevent_get_input(connection));
}

static void on_end(struct bufferevent *connection, short what, void *user)
{
    (void)user;
    if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
        bufferevent_free(connection);
}

static void on_connection(struct evconnlistener *listener, evutil_socket_t fd,
                          struct sockaddr *addr, int len, void *user)
{
    struct bufferevent *const connection = bufferevent_socket_new(
        evconnlistener_get_base(listener), fd, BEV_OPT_CLOSE_ON_FREE);
    (void)addr;
    (void)len;
    (void)user;
    if (!connection)
        bench_die("bufferevent");
    bufferevent_setcb(connection, on_read, NULL, on_end, NULL);
    bufferevent_enable(connection, EV_READ | EV_WRITE);
}

int main(void)
{
    struct event_base *const base = event_base_new();
    bench_bound();
    bench_more_descriptors();
    if (!base || !evconnlistener_new(base, on_connection, NULL, LEV_OPT_CLOSE_ON_EXEC, -1,
                                     bench_listen()))
        bench_die("listener");
    return event_base_dispatch(base) < 0;
}

/*
 * server_uv.c - the echo server on libuv: one buffer for all, an answer at once by
 * uv_try_write(), and a uv_write() of its own for what the socket does not take.
 */
#include "bench.h"

#include <uv.h>

static char buffer[16384];

struct rest {
    uv_write_t request;
    char bytes[];
};

static void on_closed(uv_handle_t *handle)
{
    free(handle);
}

static void lend(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    (void)handle;
    (void)suggested;
    *buf = uv_buf_init(buffer, sizeof buffer);
}

static void on_written(uv_write_t *request, int status)
{
    if (status < 0 && !uv_is_closing((uv_handle_t *)request->handle))
        uv_close((uv_handle_t *)request->handle, on_closed);
    free(request->data);
}

static void write_rest(uv_stream_t *stream, const char *bytes, size_t len)
{
    struct rest *const rest = (struct rest *)malloc(sizeof *rest + len);
    const uv_buf_t buf = uv_buf_init(rest ? rest->bytes : NULL, (unsigned)len);
    if (!rest)
        bench_die("malloc");
    memcpy(rest->bytes, bytes, len);
    rest->request.data = rest;
    uv_write(&rest->request, stream, &buf, 1, on_written);
}

static void on_read(uv_stream_t *stream, ssize_t got, const uv_buf_t *buf)
{
    if (got < 0) {
        uv_close((uv_handle_t *)stream, on_closed);
    } else if (got > 0) {
        const uv_buf_t answer = uv_buf_init(buf->base, (unsigned)got);
        const int rc = uv_try_write(stream, &answer, 1);
        const size_t sent = rc > 0 ? (size_t)rc : 0;
        if (sent < (size_t)got)
            write_rest(stream, buf->base + sent, (size_t)got - sent);
    }
}

static void on_connection(uv_stream_t *listener, int status)
{
    uv_tcp_t *tcp;
    if (status < 0)
        return;
    tcp = (uv_tcp_t *)malloc(sizeof *tcp);
    if (!tcp)
        bench_die("malloc");
    uv_tcp_init(listener->loop, tcp);
    if (uv_accept(listener, (uv_stream_t *)tcp) == 0)
        uv_read_start((uv_stream_t *)tcp, lend, on_read);
    else
        uv_close((uv_handle_t *)tcp, on_closed);
}

int main(void)
{
    uv_tcp_t listener;
    bench_bound();
    bench_more_descriptors();
    uv_tcp_init(uv_default_loop(), &listener);
    uv_tcp_open(&listener, bench_listen());
    if (uv_listen((uv_stream_t *)&listener, 4096, on_connection) < 0)
        bench_die("uv_listen");
    return uv_run(uv_default_loop(), UV_RUN_DEFAULT);
}

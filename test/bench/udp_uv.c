/*
 * udp_uv.c - the UDP echo server on libuv: recvmmsg(2) on, answers at once by uv_udp_try_send(),
 * which sends one at a time.
 */
#include "bench.h"

#include <uv.h>

static char buffer[64 * 65536]; /* libuv fills 64 KiB pieces of it */

static void lend(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    (void)handle;
    (void)suggested;
    *buf = uv_buf_init(buffer, sizeof buffer);
}

static void on_datagram(uv_udp_t *udp, ssize_t got, const uv_buf_t *buf,
                        const struct sockaddr *from, unsigned flags)
{
    (void)flags;
    if (got >= 0 && from) {
        const uv_buf_t answer = uv_buf_init(buf->base, (unsigned)got);
        uv_udp_try_send(udp, &answer, 1, from);
    }
}

int main(void)
{
    uv_udp_t udp;
    bench_bound();
    if (uv_udp_init_ex(uv_default_loop(), &udp, AF_UNSPEC | UV_UDP_RECVMMSG) < 0 ||
        uv_udp_open(&udp, bench_udp()) < 0 || uv_udp_recv_start(&udp, lend, on_datagram) < 0)
        bench_die("uv_udp");
    return uv_run(uv_default_loop(), UV_RUN_DEFAULT);
}

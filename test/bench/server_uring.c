/*
 * server_uring.c - the echo server that one writes by hand with io_uring.
 *
 *     server_uring multishot     multishot accept and recv, a ring of provided buffers
 *     server_uring plain         a buffer for each connection, recv and send in turn
 *
 * SINGLE_ISSUER and DEFER_TASKRUN, a registered ring, one system call a batch. A send asks
 * for MSG_WAITALL, so that it completes once. Ordinary descriptors, as takt's.
 */
#include "bench.h"

#include <liburing.h>

enum {
    ENTRIES = 128,
    COMPLETIONS = 4096,
    BUFFER = 4096,
    BUFFERS = 256, /* of the multishot server: they should stay in the cache */
    GROUP = 0,
    FDS_MAX = 1 << 18
};

enum what { ACCEPT, RECV, SEND };

static bool multishot;
static struct io_uring ring;
static struct io_uring_buf_ring *provided;
static unsigned char *buffers;              /* multishot: all of them */
static unsigned char *own_buffer[FDS_MAX];  /* plain: by descriptor */
static int starved[FDS_MAX];                /* multishot: who found no buffer; a circle */
static unsigned starved_first, starved_last;

/* user_data: what, then the buffer, then the descriptor */
static uint64_t key(enum what what, unsigned buffer, int fd)
{
    return (uint64_t)what << 48 | (uint64_t)buffer << 32 | (uint32_t)fd;
}

static struct io_uring_sqe *next_sqe(void)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
    while (!sqe) {
        io_uring_submit(&ring);
        sqe = io_uring_get_sqe(&ring);
    }
    return sqe;
}

static void submit_accept(int listener)
{
    struct io_uring_sqe *const sqe = next_sqe();
    io_uring_prep_multishot_accept(sqe, listener, NULL, NULL, SOCK_CLOEXEC);
    io_uring_sqe_set_data64(sqe, key(ACCEPT, 0, listener));
}

static void submit_recv(int fd)
{
    struct io_uring_sqe *const sqe = next_sqe();
    if (multishot) {
        io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
        sqe->flags |= IOSQE_BUFFER_SELECT;
        sqe->buf_group = GROUP;
    } else {
        io_uring_prep_recv(sqe, fd, own_buffer[fd], BUFFER, 0);
    }
    io_uring_sqe_set_data64(sqe, key(RECV, 0, fd));
}

static void submit_send(int fd, unsigned buffer, size_t len)
{
    struct io_uring_sqe *const sqe = next_sqe();
    const unsigned char *const from =
        multishot ? buffers + (size_t)buffer * BUFFER : own_buffer[fd];
    io_uring_prep_send(sqe, fd, from, len, MSG_NOSIGNAL | MSG_WAITALL);
    io_uring_sqe_set_data64(sqe, key(SEND, buffer, fd));
}

static void give_back(unsigned buffer)
{
    io_uring_buf_ring_add(provided, buffers + (size_t)buffer * BUFFER, BUFFER,
                          (unsigned short)buffer, io_uring_buf_ring_mask(BUFFERS), 0);
    io_uring_buf_ring_advance(provided, 1);
    if (starved_first != starved_last)
        submit_recv(starved[starved_first++ & (FDS_MAX - 1)]);
}

static void on_accept(int listener, const struct io_uring_cqe *cqe)
{
    if (!(cqe->flags & IORING_CQE_F_MORE))
        submit_accept(listener);
    if (cqe->res < 0)
        return;
    if (cqe->res >= FDS_MAX) {
        close(cqe->res);
        return;
    }
    if (!multishot && !own_buffer[cqe->res])
        own_buffer[cqe->res] = (unsigned char *)malloc(BUFFER);
    submit_recv(cqe->res);
}

static void on_recv(int fd, const struct io_uring_cqe *cqe)
{
    if (cqe->res == -ENOBUFS) {
        starved[starved_last++ & (FDS_MAX - 1)] = fd;
        return;
    }
    if (cqe->res <= 0) {
        close(fd);
        return;
    }
    submit_send(fd, cqe->flags >> IORING_CQE_BUFFER_SHIFT, (size_t)cqe->res);
    if (multishot && !(cqe->flags & IORING_CQE_F_MORE))
        submit_recv(fd);
}

static void on_send(int fd, unsigned buffer, const struct io_uring_cqe *cqe)
{
    if (multishot)
        give_back(buffer);
    else if (cqe->res > 0)
        submit_recv(fd);
    if (cqe->res <= 0)
        shutdown(fd, SHUT_RDWR); /* its recv ends by that, and closes */
    if (!multishot && cqe->res <= 0)
        close(fd);
}

static void on_completion(const struct io_uring_cqe *cqe)
{
    const int fd = (int)(uint32_t)cqe->user_data;
    const unsigned buffer = (unsigned)(cqe->user_data >> 32) & 0xffff;
    const enum what what = (enum what)(cqe->user_data >> 48);
    if (what == RECV)
        on_recv(fd, cqe);
    else if (what == SEND)
        on_send(fd, buffer, cqe);
    else
        on_accept(fd, cqe);
}

static void init_ring(void)
{
    struct io_uring_params params;
    memset(&params, 0, sizeof params);
    params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                   IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE;
    params.cq_entries = COMPLETIONS;
    errno = -io_uring_queue_init_params(ENTRIES, &ring, &params);
    if (errno)
        bench_die("io_uring");
    io_uring_register_ring_fd(&ring);
}

static void init_buffers(void)
{
    struct io_uring_buf_reg reg;
    void *memory;
    if (posix_memalign(&memory, 4096, BUFFERS * sizeof(struct io_uring_buf)))
        bench_die("memory");
    provided = (struct io_uring_buf_ring *)memory;
    memset(&reg, 0, sizeof reg);
    reg.ring_addr = (uintptr_t)memory;
    reg.ring_entries = BUFFERS;
    reg.bgid = GROUP;
    errno = -io_uring_register_buf_ring(&ring, &reg, 0);
    buffers = (unsigned char *)malloc((size_t)BUFFERS * BUFFER);
    if (errno || !buffers)
        bench_die("buffers");
    io_uring_buf_ring_init(provided);
    for (unsigned i = 0; i < BUFFERS; i++)
        give_back(i);
}

int main(int argc, char **argv)
{
    multishot = argc < 2 || strcmp(argv[1], "plain") != 0;
    bench_bound();
    bench_more_descriptors();
    init_ring();
    if (multishot)
        init_buffers();
    submit_accept(bench_listen());
    for (;;) {
        struct io_uring_cqe *cqe;
        unsigned head, seen = 0;
        io_uring_submit_and_wait(&ring, 1);
        io_uring_for_each_cqe(&ring, head, cqe)
        {
            on_completion(cqe);
            seen++;
        }
        io_uring_cq_advance(&ring, seen);
    }
}

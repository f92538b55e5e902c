/*
 * restrict.c - a ring that refuses what takt does not ask of it: takt_uring_config.restrict_ops
 *
 * The ring is asked past the backend, as somebody would who has got hold of the process. Names
 * the statements of test/fault/COVERAGE.md.
 */
#include <liburing.h>
#include <stdlib.h>

static int our_register(unsigned fd, unsigned opcode, const void *arg, unsigned count);

#define io_uring_register our_register
#define TAKT_IMPLEMENTATION
#include "../takt_uring.h"
#undef io_uring_register

#include "test.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* -- the driver ---------------------------------------------------------------- */

enum { SLOTS = 4 };

#include "slots.h"

static int register_error;          /* each call fails so */
static int newest_sqe = 255;        /* opcodes that this kernel knows */
static int newest_register = 255;

static takt_uring_config wanted;
static takt_uring engine;

static int our_register(unsigned fd, unsigned opcode, const void *arg, unsigned count)
{
    const struct io_uring_restriction *const list = (const struct io_uring_restriction *)arg;
    if (register_error)
        return register_error;
    for (unsigned i = 0; opcode == IORING_REGISTER_RESTRICTIONS && i < count; i++)
        if ((list[i].opcode == IORING_RESTRICTION_SQE_OP && list[i].sqe_op > newest_sqe) ||
            (list[i].opcode == IORING_RESTRICTION_REGISTER_OP &&
             list[i].register_op > newest_register))
            return -EINVAL;
    return io_uring_register(fd, opcode, arg, count);
}

static int begin_engine(void)
{
    slots_clear();
    wanted.restrict_ops = true;
    return takt_uring_init(&engine, &wanted, &slots);
}

static int64_t result_of(takt_op op)
{
    takt_completion done;
    int count, rc = slot_begin(&engine, 0, op);
    if (rc < 0)
        return rc;
    do
        count = takt_uring_poll(&engine, &done, 1, TAKT_SEC);
    while (count == 0);
    return count < 0 ? count : done.error ? done.error : done.value;
}

/* What the kernel answers to a request of somebody else's. */
static int answer_to(const struct io_uring_sqe *request)
{
    struct io_uring *const ring = &engine.ring;
    struct io_uring_sqe *const sqe = &ring->sq.sqes[ring->sq.sqe_tail++ & ring->sq.ring_mask];
    const struct io_uring_cqe *cqe;
    int rc, res;
    *sqe = *request;
    sqe->user_data = 1;
    __atomic_store_n(ring->sq.ktail, ring->sq.sqe_tail, __ATOMIC_RELEASE);
    rc = io_uring_enter2((unsigned)ring->enter_ring_fd, 1, 1, engine.wait_flags, NULL, 0);
    if (rc < 0)
        return rc;
    EXPECT_EQ(takt__ring_unread(&engine), 1);
    cqe = &ring->cq.cqes[*ring->cq.khead & ring->cq.ring_mask];
    res = cqe->res;
    __atomic_store_n(ring->cq.khead, *ring->cq.khead + 1, __ATOMIC_RELEASE);
    return res;
}

static int answer_to_opcode(int opcode, int flags)
{
    struct io_uring_sqe sqe;
    memset(&sqe, 0, sizeof sqe);
    sqe.opcode = (uint8_t)opcode;
    sqe.flags = (uint8_t)flags;
    sqe.fd = -1;
    return answer_to(&sqe);
}

/* What takt asks for: the list of this file's own. */
static bool is_takts(int opcode)
{
    switch (opcode) {
    case IORING_OP_NOP:
    case IORING_OP_POLL_ADD:
    case IORING_OP_SENDMSG:
    case IORING_OP_RECVMSG:
    case IORING_OP_TIMEOUT:
    case IORING_OP_ACCEPT:
    case IORING_OP_ASYNC_CANCEL:
    case IORING_OP_CONNECT:
    case IORING_OP_READ:
    case IORING_OP_WRITE:
    case IORING_OP_SEND:
    case IORING_OP_RECV:
    case IORING_OP_SEND_ZC:
        return true;
    default:
        return false;
    }
}

/* -- what is refused ------------------------------------------------------------ */

/* S20, S21 */
static void every_other_request_is_refused(void)
{
    struct io_uring_probe *const probe = io_uring_get_probe(); /* beyond: no request at all */
    const int last = probe ? probe->last_op : 0;
    io_uring_free_probe(probe);
    EXPECT(last >= IORING_OP_SPLICE);
    EXPECT_EQ(begin_engine(), 0);
    EXPECT(engine.on_ring && engine.restricted);
    for (int opcode = 0; opcode < 256; opcode++)
        if (!is_takts(opcode))
            EXPECT_EQ(answer_to_opcode(opcode, 0), opcode <= last ? -EACCES : -EINVAL);
    EXPECT_EQ(answer_to_opcode(IORING_OP_NOP, 0), 0);
    EXPECT_EQ(answer_to_opcode(IORING_OP_RECV, 0), -EBADF); /* it is asked, and there is none */
    for (int bit = 0; bit < 8; bit++)
        if (1 << bit != IOSQE_BUFFER_SELECT)
            EXPECT(answer_to_opcode(IORING_OP_NOP, 1 << bit) < 0);
    EXPECT_EQ(answer_to_opcode(IORING_OP_NOP, IOSQE_IO_LINK), -EACCES);
    EXPECT_EQ(answer_to_opcode(IORING_OP_NOP, IOSQE_ASYNC), -EACCES);
    takt_uring_free(&engine);
}

/* S21: nothing can be registered beside what takt registers, nor the list be changed */
static void every_other_registration_is_refused(void)
{
    unsigned fd;
    EXPECT_EQ(begin_engine(), 0);
    fd = (unsigned)engine.ring.ring_fd;
    for (unsigned opcode = 0; opcode < 35; opcode++) {
        const int rc = io_uring_register(fd, opcode, NULL, 0);
        if (opcode == IORING_REGISTER_EVENTFD || opcode == IORING_REGISTER_RING_FDS ||
            opcode == IORING_UNREGISTER_RING_FDS || opcode == IORING_REGISTER_PBUF_RING ||
            opcode == IORING_UNREGISTER_PBUF_RING)
            EXPECT(rc < 0 && rc != -EACCES);
        else
            EXPECT(rc == -EACCES || rc == -EINVAL); /* that one: no such */
        if (opcode < IORING_REGISTER_LAST && rc == -EINVAL)
            EXPECT(opcode >= IORING_REGISTER_EVENTFD && opcode != IORING_REGISTER_RESTRICTIONS);
    }
    EXPECT_EQ(io_uring_register(fd, IORING_REGISTER_RESTRICTIONS, NULL, 0), -EACCES);
    EXPECT_EQ(io_uring_register(fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0), -EACCES);
    EXPECT_EQ(io_uring_register(fd, IORING_REGISTER_PERSONALITY, NULL, 0), -EACCES);
    EXPECT_EQ(io_uring_register(fd, IORING_REGISTER_FILES, NULL, 0), -EACCES);
    EXPECT_EQ(io_uring_register(fd, IORING_REGISTER_BUFFERS, NULL, 0), -EACCES);
    takt_uring_free(&engine);
}

/* What takt does with a ring still goes, and what there is for other loops to sleep on. */
static void expect_it_works(void)
{
    takt_bufs pool;
    unsigned char *data = NULL;
    char text[8] = "12345";
    int pair[2];
    EXPECT_EQ(takt_bufs_init(&pool, 8, 65536), 0);
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    EXPECT(takt_uring_fd(&engine) >= 0);
    EXPECT_EQ(result_of(takt_nop()), 0);
    EXPECT_EQ(result_of(takt_send(pair[1], text, 5)), 5);
    EXPECT_EQ(result_of(takt_ready(pair[0], TAKT_READABLE)), TAKT_READABLE);
    EXPECT_EQ(result_of(takt_recv_lease(pair[0], &pool, &data)), 5);
    EXPECT_EQ(result_of(takt_send_lease(pair[1], &pool, &data, 5)), 5);
    EXPECT_EQ(result_of(takt_recv(pair[0], text, 8)), 5);
    data = takt_bufs_take(&pool);
    EXPECT_EQ(result_of(takt_send_lease(pair[1], &pool, &data, 65536)), 65536);
    EXPECT_EQ(pool.in_use, engine.zerocopies_held);
    EXPECT_EQ(result_of(takt_close(pair[0])), 0);
    EXPECT_EQ(result_of(takt_close(pair[1])), 0);
    takt_uring_free(&engine);
    EXPECT_EQ(pool.in_use, 0);
    takt_bufs_free(&pool);
}

/* S21: with any rung off; contract.c and stream_backend.c do the rest under TAKT_RESTRICT */
static void every_ladder_can_be_restricted(void)
{
    char text[256];
#define TAKT__X(name, bit, word, without)                       \
    wanted.disable = bit;                                       \
    EXPECT_EQ(begin_engine(), 0);                               \
    EXPECT(engine.restricted && !(engine.rungs & bit));         \
    expect_it_works();
    TAKT_URING_RUNGS(TAKT__X)
#undef TAKT__X
    wanted.disable = UINT32_MAX;
    EXPECT_EQ(begin_engine(), 0);
    EXPECT(engine.restricted && !engine.rungs);
    takt_uring_describe(&engine, text, sizeof text);
    EXPECT(strstr(text, "plain, restricted)") != NULL);
    expect_it_works();
}

/* A11, S21: what an older kernel does not know is left out of the list, and not used */
static void an_older_kernel_is_told_less(void)
{
    uint32_t rungs; /* that this one does know */
    EXPECT_EQ(begin_engine(), 0);
    rungs = engine.rungs;
    takt_uring_free(&engine);
    newest_sqe = IORING_OP_SEND_ZC - 1;
    EXPECT_EQ(begin_engine(), 0);
    EXPECT(engine.restricted);
    EXPECT_EQ(engine.rungs, rungs & ~(uint32_t)TAKT_URING_NO_SEND_ZC);
    if (rungs & TAKT_URING_NO_SEND_ZC)
        EXPECT_EQ(answer_to_opcode(IORING_OP_SEND_ZC, 0), -EACCES);
    expect_it_works();
    newest_register = IORING_REGISTER_RING_FDS - 1;
    EXPECT_EQ(begin_engine(), 0);
    EXPECT(engine.restricted);
    EXPECT(!(engine.rungs & (TAKT_URING_NO_BUFFER_RING | TAKT_URING_NO_REGISTERED_RING)));
    expect_it_works();
}

/* S21: where it cannot be had, there is no ring rather than one without */
static void without_restrictions_there_is_no_ring(void)
{
    char text[256];
    register_error = -EINVAL;
    EXPECT_EQ(begin_engine(), -EINVAL);
    EXPECT(!engine.on_ring && !engine.restricted);
    takt_uring_describe(&engine, text, sizeof text);
    EXPECT(strstr(text, "io_uring restrictions: EINVAL") != NULL);
    wanted.mode = TAKT_URING_AUTO;
    EXPECT_EQ(begin_engine(), 0);
    EXPECT(!engine.on_ring);
    EXPECT_EQ(result_of(takt_nop()), 0);
    takt_uring_free(&engine);
    register_error = 0;
    newest_sqe = IORING_OP_NOP; /* it is restricted, but does not work */
    EXPECT_EQ(begin_engine(), 0);
    EXPECT(!engine.on_ring && !engine.restricted && !engine.rungs);
    EXPECT_EQ(result_of(takt_nop()), 0);
    takt_uring_free(&engine);
}

/* -- whose rights --------------------------------------------------------------- */

static int open_secret(int personality)
{
    struct io_uring_sqe sqe;
    memset(&sqe, 0, sizeof sqe);
    sqe.opcode = IORING_OP_OPENAT;
    sqe.fd = AT_FDCWD;
    sqe.addr = (uint64_t)(uintptr_t)"/etc/shadow";
    sqe.open_flags = O_RDONLY | O_CLOEXEC;
    sqe.personality = (uint16_t)personality;
    return answer_to(&sqe);
}

static void drop_privileges(void)
{
    const uid_t nobody = 70000 + (uid_t)getpid() % 100000;
    wanted.restrict_ops = false;
    slots_clear();
    EXPECT_EQ(takt_uring_init(&engine, &wanted, &slots), 0);
    EXPECT(open_secret(0) >= 0);
    EXPECT_EQ(setresgid(nobody, nobody, nobody), 0);
    EXPECT_EQ(setresuid(nobody, nobody, nobody), 0);
    EXPECT_EQ(open_secret(0), -EACCES);
    for (int id = 1; id < 8; id++)
        EXPECT_EQ(open_secret(id), -EINVAL); /* none was registered */
    takt_uring_free(&engine);
}

/* S19: requests have the rights that the process has now, not those it began with */
static void privileges_that_were_dropped_are_gone(void)
{
    int status = -1;
    pid_t child;
    if (geteuid() != 0 || access("/etc/shadow", R_OK) != 0)
        return; /* there is nothing to drop */
    fflush(stdout);
    child = fork();
    if (child == 0) {
        test_failures = 0;
        drop_privileges();
        fflush(stdout);
        _exit(test_failures != 0);
    }
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
}

/* S25, A15: the ring is nobody else's; fault.c: a_child_cannot_touch_the_ring */
static void the_ring_is_not_passed_on(void)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr message;
    struct iovec piece;
    char byte = 0;
    int pair[2];
    EXPECT_EQ(begin_engine(), 0);
    EXPECT(fcntl(engine.ring.ring_fd, F_GETFD) & FD_CLOEXEC);
    EXPECT(fcntl(takt_uring_fd(&engine), F_GETFD) & FD_CLOEXEC);
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), 0);
    memset(&message, 0, sizeof message);
    memset(&control, 0, sizeof control);
    piece.iov_base = &byte;
    piece.iov_len = 1;
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes;
    message.msg_controllen = sizeof control.bytes;
    control.align.cmsg_level = SOL_SOCKET;
    control.align.cmsg_type = SCM_RIGHTS;
    control.align.cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(&control.align), &engine.ring.ring_fd, sizeof(int));
    EXPECT(sendmsg(pair[0], &message, 0) < 0);
    EXPECT_EQ(errno, EINVAL);
    close(pair[0]);
    close(pair[1]);
    takt_uring_free(&engine);
}

/* -- main ------------------------------------------------------------------------ */

static const test tests[] = {
    TEST(every_other_request_is_refused),
    TEST(every_other_registration_is_refused),
    TEST(every_ladder_can_be_restricted),
    TEST(an_older_kernel_is_told_less),
    TEST(without_restrictions_there_is_no_ring),
    TEST(privileges_that_were_dropped_are_gone),
    TEST(the_ring_is_not_passed_on),
};

static void begin_anew(void)
{
    memset(&wanted, 0, sizeof wanted);
    wanted.mode = TAKT_URING_ONLY;
    register_error = 0;
    newest_sqe = newest_register = 255;
}

int main(int argc, char **argv)
{
    int passed = 0, failed = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    begin_anew();
    if (begin_engine() < 0)
        return 77;
    takt_uring_free(&engine);
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) {
        if (!test_wanted(tests[i].name, argc, argv))
            continue;
        begin_anew();
        test_failures = 0;
        tests[i].run();
        if (test_failures)
            printf("FAIL %s\n", tests[i].name);
        failed += test_failures > 0;
        passed += test_failures == 0;
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0;
}

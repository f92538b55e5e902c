/*
 * sandbox.c - what examples/sandbox.h denies, and what it leaves.
 *
 * Each test does its deeds in a child that has entered the sandbox, and that tells by its exit
 * status how many of them did not end as they should.
 */
#define TAKT_IMPLEMENTATION
#include "../takt_uring.h"

#include "../examples/sandbox.h"

#include "test.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

static int wrong; /* in the child */

static void expect(bool good, const char *what)
{
    char line[128];
    const int n = snprintf(line, sizeof line, "sandbox.c: expected %s\n", what);
    wrong += !good;
    if (!good)
        (void)!write(1, line, (size_t)n);
}

/* Fails with what a filter answers. */
#define DENIED(call) (errno = 0, expect((call) < 0 && errno == EPERM, #call " to be denied"))
#define ALLOWED(call) (errno = 0, expect((call) >= 0 || errno != EPERM, #call " to be allowed"))

/* Runs `deeds` in the sandbox: what the child ended with, as of waitpid(2). */
static int in_sandbox(int how, int port, void (*deeds)(void))
{
    int status = 0;
    pid_t child;
    fflush(stdout);
    child = fork();
    if (child == 0) {
        const char *step = NULL;
        if (sandbox_enter(how, port, &step) < 0) {
            printf("sandbox.c: cannot %s: %s\n", step, strerror(errno));
            fflush(stdout);
            _exit(99);
        }
        deeds();
        _exit(wrong);
    }
    EXPECT(child > 0 && waitpid(child, &status, 0) == child);
    return status;
}

static bool has_landlock(int version)
{
    return syscall(444, NULL, 0, 1) >= version;
}

static struct io_uring ring; /* made outside of it */

/* The result of a request, or 1 if it could not be made. */
static int ask(const struct io_uring_sqe *like)
{
    struct io_uring_sqe *const sqe = io_uring_get_sqe(&ring);
    struct io_uring_cqe *cqe;
    int rc;
    if (!sqe)
        return 1;
    *sqe = *like;
    if (io_uring_submit(&ring) != 1 || io_uring_wait_cqe(&ring, &cqe) < 0)
        return 1;
    rc = cqe->res;
    io_uring_cqe_seen(&ring, cqe);
    return rc;
}

/* -- tests ------------------------------------------------------------------------- */

static void try_what_nobody_needs(void)
{
    char *const none[] = {NULL};
    DENIED(open("/etc/hostname", O_RDONLY));
    DENIED(syscall(SYS_openat, AT_FDCWD, "/etc/hostname", O_RDONLY));
    DENIED(syscall(SYS_memfd_create, "x", 0));
    DENIED(execve("/bin/true", none, none));
    DENIED(fork());
    DENIED(kill(getppid(), 0));
    DENIED(syscall(SYS_tgkill, getppid(), getppid(), 0));
    DENIED(socket(AF_NETLINK, SOCK_RAW, 0));
    DENIED(socket(AF_PACKET, SOCK_RAW, 0));
    DENIED(bind(0, NULL, 0));
    DENIED(listen(0, 1));
    DENIED(syscall(SYS_ptrace, 0, 0, 0, 0));
    DENIED(syscall(SYS_process_vm_readv, getppid(), NULL, 0, NULL, 0, 0));
    DENIED(unshare(CLONE_NEWUSER));
    DENIED(setuid(0));
    DENIED(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
    DENIED(syscall(SYS_bpf, 0, NULL, 0));
    DENIED(syscall(SYS_userfaultfd, 0));
    errno = 0;
    expect(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
                   MAP_FAILED && errno == EPERM, "memory that can be executed to be denied");
}

/* S22 */
static void calls_that_carry_no_traffic_are_denied(void)
{
    EXPECT_EQ(in_sandbox(0, 0, try_what_nobody_needs), 0);
}

static bool streams;

static void try_rings(void)
{
    struct io_uring_params params;
    char probe[sizeof(struct io_uring_probe) + 8 * sizeof(struct io_uring_probe_op)];
    memset(&params, 0, sizeof params);
    memset(probe, 0, sizeof probe);
    DENIED(syscall(SYS_io_uring_setup, 8, &params));
    for (unsigned what = 0; what < 64; what++) {
        if (what == IORING_UNREGISTER_RING_FDS || (streams && (what == 22 || what == 23)))
            continue;
        DENIED(syscall(SYS_io_uring_register, ring.ring_fd, what, probe, 8));
        DENIED(syscall(SYS_io_uring_register, ring.ring_fd, what | 1u << 31, probe, 8));
    }
    ALLOWED(syscall(SYS_io_uring_register, ring.ring_fd, IORING_UNREGISTER_RING_FDS, probe, 1));
    ALLOWED(syscall(SYS_io_uring_register, 0, IORING_UNREGISTER_RING_FDS | 1u << 31, probe, 1));
    if (streams)
        ALLOWED(syscall(SYS_io_uring_register, ring.ring_fd, IORING_UNREGISTER_PBUF_RING, probe,
                        1));
    ALLOWED(syscall(SYS_io_uring_enter, ring.ring_fd, 0, 0, 0, NULL, 0));
}

/* S22 */
static void no_ring_is_made_or_changed(void)
{
    streams = false;
    EXPECT_EQ(in_sandbox(0, 0, try_rings), 0);
    streams = true;
    EXPECT_EQ(in_sandbox(SANDBOX_STREAMS, 0, try_rings), 0);
}

static char made[64]; /* if anything is */

/* The filter sees none of these: Landlock does. */
static void try_files_by_the_ring(void)
{
    struct io_uring_sqe sqe;
    int rc;
    io_uring_prep_openat(&sqe, AT_FDCWD, "/etc/passwd", O_RDONLY, 0);
    rc = ask(&sqe);
    expect(rc == -EACCES, "no file to be opened by the ring");
    io_uring_prep_openat(&sqe, AT_FDCWD, made, O_WRONLY | O_CREAT, 0600);
    rc = ask(&sqe);
    expect(rc == -EACCES, "no file to be made by the ring");
    io_uring_prep_mkdirat(&sqe, AT_FDCWD, made, 0700);
    rc = ask(&sqe);
    expect(rc == -EACCES, "no directory to be made by the ring");
    io_uring_prep_unlinkat(&sqe, AT_FDCWD, "/etc/passwd-that-is-not-there", 0);
    rc = ask(&sqe);
    expect(rc == -EACCES || rc == -ENOENT, "no file to be removed by the ring");
}

/* S23 */
static void a_ring_made_before_opens_no_file(void)
{
    if (!has_landlock(1) || io_uring_queue_init(8, &ring, 0) < 0) {
        note("skipped: no Landlock, or no ring");
        return;
    }
    snprintf(made, sizeof made, "/tmp/takt-sandbox-%d", (int)getpid());
    EXPECT_EQ(in_sandbox(0, 0, try_files_by_the_ring), 0);
    EXPECT(remove(made) < 0);
    io_uring_queue_exit(&ring);
}

static struct sockaddr_in upstream, other;

static int listener(struct sockaddr_in *addr)
{
    socklen_t len = sizeof *addr;
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    memset(addr, 0, sizeof *addr);
    addr->sin_family = AF_INET;
    addr->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT(bind(fd, (struct sockaddr *)addr, sizeof *addr) == 0 && listen(fd, 5) == 0 &&
           getsockname(fd, (struct sockaddr *)addr, &len) == 0);
    return fd;
}

static int connect_by_call(const struct sockaddr_in *addr)
{
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    const int rc = connect(fd, (const struct sockaddr *)addr, sizeof *addr) < 0 ? -errno : 0;
    close(fd);
    return rc;
}

static int connect_by_ring(const struct sockaddr_in *addr)
{
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct io_uring_sqe sqe;
    int rc;
    io_uring_prep_connect(&sqe, fd, (const struct sockaddr *)addr, sizeof *addr);
    rc = ask(&sqe);
    close(fd);
    return rc;
}

static void try_ports(void)
{
    expect(connect_by_call(&upstream) == 0, "the upstream's port to be allowed");
    expect(connect_by_call(&other) == -EACCES, "other ports to be denied");
    if (ring.ring_fd > 0) {
        expect(connect_by_ring(&upstream) == 0, "the upstream's port to be allowed by the ring");
        expect(connect_by_ring(&other) == -EACCES, "other ports to be denied by the ring");
    }
}

/* S23 */
static void only_the_upstream_is_connected_to(void)
{
    const int a = listener(&upstream), b = listener(&other);
    if (has_landlock(4)) {
        memset(&ring, 0, sizeof ring);
        if (io_uring_queue_init(8, &ring, 0) < 0)
            ring.ring_fd = 0;
        EXPECT_EQ(in_sandbox(0, ntohs(upstream.sin_port), try_ports), 0);
        if (ring.ring_fd > 0)
            io_uring_queue_exit(&ring);
    } else {
        note("skipped: no Landlock for ports");
    }
    close(a);
    close(b);
}

static void dump_core(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_CORE, &limit); /* denied: it says nothing */
    (void)limit;
    abort();
}

/* S24 */
static void no_core_is_dumped(void)
{
    const int status = in_sandbox(0, 0, dump_core);
    EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT); /* it still can abort */
    EXPECT(!WCOREDUMP(status));
}

static void open_a_file(void)
{
    (void)!open("/etc/hostname", O_RDONLY);
}

/* S22 */
static void what_is_not_needed_may_kill(void)
{
    const int status = in_sandbox(SANDBOX_KILL, 0, open_a_file);
    EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
}

static void start_another_program(void)
{
    expect(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) < 0, "prctl to be denied");
}

/* The loop under test: io_uring if it is there. */
TAKT_LOOP(net, takt_uring);
static net loop;
static takt_bufs bufs;
static int fds[2];

struct echo {
    takt_frame frame;
    takt_stream stream;
    takt_item item;
    int i;
};

static TAKT_CORO(echo)
{
    TAKT_BEGIN(echo, my);
    TAKT_OPEN(my->stream, takt_recv_multishot(fds[0], &bufs));
    for (my->i = 0; my->i < 3; my->i++) {
        TAKT_AWAIT(takt_send(fds[1], "ping", 4));
        TAKT_NEXT(my->item, my->stream);
        expect(my->item.value == 4 && memcmp(my->item.data, "ping", 4) == 0, "the same bytes");
        takt_bufs_put(&bufs, &my->item.data);
        TAKT_AWAIT(takt_sleep(TAKT_MS));
    }
    TAKT_END;
}

/* A filter of somebody's who knows nothing of rings of buffers. */
static void deny_register(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_register, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {4, code};
    expect(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
               prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0, "a filter");
}

static void keep_what_the_kernel_has(void)
{
    struct echo task;
    uint32_t kept;
    expect(TAKT_START_ON(&loop, task, echo) && net_run(&loop) == 0, "a loop");
    kept = bufs.kept;
    expect(kept > 0 || !(loop.backend.rungs & TAKT_URING_NO_BUFFER_RING), "kept buffers");
    deny_register();
    takt_bufs_trim(&bufs);
    expect(bufs.kept == kept, "the kernel's buffers to stay the kernel's");
    while (takt_bufs_take(&bufs))
        kept++;
    expect(kept == bufs.count, "all others to be had");
    _exit(wrong);
}

static void serve(void)
{
    const char *step;
    const bool had_ring = loop.backend.on_ring;
    const uint32_t rungs = loop.backend.rungs;
    struct echo task;
    expect(sandbox_enter(SANDBOX_KILL | SANDBOX_STREAMS, 0, &step) == 0, "a sandbox");
    expect(TAKT_START_ON(&loop, task, echo), "room");
    expect(net_run(&loop) == 0, "a loop that goes on");
    expect(!had_ring || loop.backend.rungs == rungs, "buffers with the kernel, as without");
    expect(bufs.in_use == 0, "no buffer to be left");
    takt_bufs_trim(&bufs); /* takes them back from the kernel */
    expect(bufs.kept == 0, "no buffer to be with the kernel");
    net_free(&loop);
    takt_bufs_free(&bufs);
}

/* Of a child, as a ring is its thread's. `then`: with the loop. */
static void with_a_loop(takt_uring_mode mode, void (*then)(void))
{
    int status = 0;
    const pid_t child = fork();
    if (child == 0) {
        net_config config = net_defaults();
        config.backend.mode = mode;
        expect(net_init(&loop, &config) == 0 && takt_bufs_init(&bufs, 64, 4096) == 0, "a loop");
        expect(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0, "sockets");
        then();
        (_exit)(wrong); /* in there no counters of coverage can be written */
    }
    EXPECT(child > 0 && waitpid(child, &status, 0) == child);
    EXPECT_EQ(status, 0);
}

/* S22 */
static void a_loop_goes_on_in_it(void)
{
    with_a_loop(TAKT_URING_AUTO, serve);
    with_a_loop(TAKT_URING_NEVER, serve);
}

/* E6: what the kernel will not give back is not handed to others */
static void a_filter_that_denies_register_costs_no_bytes(void)
{
    with_a_loop(TAKT_URING_AUTO, keep_what_the_kernel_has);
}

/* S22 */
static void it_cannot_be_undone(void)
{
    EXPECT_EQ(in_sandbox(0, 0, start_another_program), 0);
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        TEST(calls_that_carry_no_traffic_are_denied),
        TEST(no_ring_is_made_or_changed),
        TEST(a_ring_made_before_opens_no_file),
        TEST(only_the_upstream_is_connected_to),
        TEST(no_core_is_dumped),
        TEST(what_is_not_needed_may_kill),
        TEST(a_loop_goes_on_in_it),
        TEST(a_filter_that_denies_register_costs_no_bytes),
        TEST(it_cannot_be_undone),
    };
#ifndef SANDBOX_ARCH
    puts("no filter for this machine");
    return 77;
#endif
    return RUN_TESTS(argc, argv, tests);
}

/*
 * sandbox.h - what a server gives up once it has started, so that whoever takes it over has
 * little of it: no files, no programs, no new rings, no ports of its own.
 *
 *     const char *step;
 *     if (sandbox_enter(0, takt_addr_port(&upstream), &step) < 0) ...
 *
 * For the calling thread, and threads that it starts from then on: call it in each, when its
 * loop listens and before it serves. It cannot be undone. It needs no library.
 *
 * A seccomp filter, on x86_64 and aarch64, allows the system calls that carry traffic, by
 * io_uring and by epoll, and no others. It does not see what is asked of a ring: there
 * Landlock (Linux 5.13) denies files, and from 6.7 on TCP to ports other than one, and
 * listening. Without Landlock the filter alone is there.
 */
#ifndef SANDBOX_H
#define SANDBOX_H

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define SANDBOX_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define SANDBOX_ARCH AUDIT_ARCH_AARCH64
#endif

enum {
    SANDBOX_KILL = 1,   /* a system call that is not needed ends the process, instead of failing
                         * with EPERM */
    SANDBOX_STREAMS = 2 /* it opens streams of what is received: their pools are registered with
                         * the ring when that happens, and not before */
};

/* -- Landlock: its header may be older than the kernel ------------------------------- */

struct sandbox_ruleset {
    uint64_t files, ports, scopes; /* what is denied, but for rules */
};

struct sandbox_port {
    uint64_t allowed, port;
};

/* All that this kernel can deny, but TCP connections to `port`, if that is not 0. 0, also where
 * there is no Landlock, or an error. */
static inline int sandbox_landlock(int port)
{
    enum { CREATE = 444, ADD_RULE, RESTRICT, VERSION = 1, PORT = 2, CONNECT = 2, BIND = 1 };
    static const uint8_t file_rights[] = {0, 13, 14, 15, 15, 16}; /* by version */
    static const uint8_t sizes[] = {0, 8, 8, 8, 16, 16, 24};
    const long found = syscall(CREATE, NULL, 0, VERSION);
    const int version = found < 6 ? (int)found : 6;
    struct sandbox_ruleset rules = {0, 0, 0};
    struct sandbox_port rule;
    int fd, rc = 0;
    if (version < 1)
        return 0;
    rules.files = ((uint64_t)1 << file_rights[version < 5 ? version : 5]) - 1;
    rules.ports = version < 4 ? 0 : port ? CONNECT | BIND : BIND;
    rules.scopes = version < 6 ? 0 : 1; /* abstract Unix sockets of others */
    rule.allowed = CONNECT;
    rule.port = (uint64_t)port;
    fd = (int)syscall(CREATE, &rules, (size_t)sizes[version], 0);
    if (fd < 0)
        return -errno;
    if ((rules.ports & CONNECT && syscall(ADD_RULE, fd, PORT, &rule, 0) < 0) ||
        syscall(RESTRICT, fd, 0) < 0)
        rc = -errno;
    close(fd);
    return rc;
}

/* -- seccomp ------------------------------------------------------------------------- */

#ifdef SANDBOX_ARCH

/* Calls that carry traffic, and those that libc makes of itself. */
static const int sandbox_calls[] = {
    /* a loop */
    SYS_io_uring_enter, SYS_epoll_ctl, SYS_epoll_pwait, SYS_ppoll, SYS_timerfd_create,
    SYS_timerfd_settime, SYS_clock_gettime, SYS_clock_nanosleep, SYS_futex,
#ifdef SYS_epoll_wait
    SYS_epoll_wait, SYS_poll,
#endif
    441, /* epoll_pwait2 */
    /* connections; whose sockets: see below */
    SYS_accept4, SYS_connect, SYS_shutdown, SYS_setsockopt, SYS_getsockopt, SYS_getsockname,
    SYS_getpeername, SYS_recvfrom, SYS_recvmsg, SYS_recvmmsg, SYS_sendto, SYS_sendmsg,
    SYS_sendmmsg, SYS_read, SYS_readv, SYS_write, SYS_writev, SYS_splice, SYS_pipe2, SYS_fcntl,
    SYS_close,
    /* signals, and the end */
    SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigtimedwait, SYS_rt_sigreturn, SYS_exit,
    SYS_exit_group, SYS_restart_syscall, SYS_gettid, SYS_getpid, SYS_sigaltstack,
    /* memory, and what malloc(3) asks */
    SYS_brk, SYS_munmap, SYS_madvise, SYS_mremap, SYS_sched_getaffinity, SYS_getrandom};

/* Calls that are allowed when an argument, under a mask, is the one here. */
static const struct sandbox_case {
    int call, argument;
    uint32_t mask, value;
} sandbox_cases[] = {
    {SYS_mmap, 2, PROT_EXEC, 0},
    {SYS_mprotect, 2, PROT_EXEC, 0},
    {SYS_socket, 0, UINT32_MAX, AF_INET},
    {SYS_socket, 0, UINT32_MAX, AF_INET6},
    {SYS_socket, 0, UINT32_MAX, AF_UNIX},
    /* unregister the ring's descriptor: at the end. The highest bit only says how it is named:
     * liburing from 2.4 on sets it */
    {SYS_io_uring_register, 1, INT32_MAX, 21},
};

/* More of them: SANDBOX_STREAMS. */
static const struct sandbox_case sandbox_streams[] = {
    {SYS_io_uring_register, 1, INT32_MAX, 22}, /* register a ring of buffers, */
    {SYS_io_uring_register, 1, INT32_MAX, 23}, /* and unregister it */
};

enum { SANDBOX_CODE_MAX = 256 };

struct sandbox_code {
    struct sock_filter at[SANDBOX_CODE_MAX];
    unsigned short count;
};

static inline void sandbox_add(struct sandbox_code *code, unsigned op, uint32_t k, unsigned if_not)
{
    const struct sock_filter it = BPF_JUMP((unsigned short)op, k, 0, (unsigned char)if_not);
    code->at[code->count++] = it; /* the table has room for all */
}

/* The number that is loaded is `call`, and the argument is right: it is allowed. */
static inline void sandbox_allow(struct sandbox_code *code, const struct sandbox_case *it)
{
    const uint32_t low = (uint32_t)(offsetof(struct seccomp_data, args) +
                                    sizeof(uint64_t) * (size_t)it->argument);
    const unsigned is = BPF_JMP | BPF_JEQ | BPF_K, load = BPF_LD | BPF_W | BPF_ABS;
    sandbox_add(code, is, (uint32_t)it->call, it->mask ? 5 : 1);
    if (it->mask) {
        sandbox_add(code, load, low, 0);
        sandbox_add(code, BPF_ALU | BPF_AND | BPF_K, it->mask, 0);
        sandbox_add(code, is, it->value, 1);
    }
    sandbox_add(code, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0);
    if (it->mask)
        sandbox_add(code, load, offsetof(struct seccomp_data, nr), 0);
}

static inline int sandbox_seccomp(int how)
{
    const unsigned load = BPF_LD | BPF_W | BPF_ABS, is = BPF_JMP | BPF_JEQ | BPF_K;
    const uint32_t denied =
        how & SANDBOX_KILL ? SECCOMP_RET_KILL_PROCESS : SECCOMP_RET_ERRNO | EPERM;
    const struct sandbox_case to_ourselves = {SYS_tgkill, 0, UINT32_MAX, (uint32_t)getpid()};
    struct sandbox_code code;
    struct sock_fprog program;
    code.count = 0;
    sandbox_add(&code, load, offsetof(struct seccomp_data, arch), 0);
    sandbox_add(&code, is, SANDBOX_ARCH, 1);
    sandbox_add(&code, BPF_JMP | BPF_JA, 1, 0);
    sandbox_add(&code, BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0);
    sandbox_add(&code, load, offsetof(struct seccomp_data, nr), 0);
    for (size_t i = 0; i < sizeof sandbox_calls / sizeof sandbox_calls[0]; i++) {
        const struct sandbox_case it = {sandbox_calls[i], 0, 0, 0};
        sandbox_allow(&code, &it);
    }
    for (size_t i = 0; i < sizeof sandbox_cases / sizeof sandbox_cases[0]; i++)
        sandbox_allow(&code, &sandbox_cases[i]);
    for (size_t i = 0; how & SANDBOX_STREAMS && i < 2; i++)
        sandbox_allow(&code, &sandbox_streams[i]);
    sandbox_allow(&code, &to_ourselves); /* abort(3) */
    sandbox_add(&code, BPF_RET | BPF_K, denied, 0);
    program.len = code.count;
    program.filter = code.at;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0 ? -errno : 0;
}

#else

static inline int sandbox_seccomp(int how)
{
    (void)how;
    return -ENOSYS;
}

#endif

/* Enters it. `how`: SANDBOX_..., or'ed. `port`: the one that TCP connections may be made to;
 * 0: any. No core is dumped, no debugger attaches. 0; or an error, and `*step`, constant text,
 * is what could not be done: then do not serve. */
static inline int sandbox_enter(int how, int port, const char **step)
{
    struct rlimit none = {0, 0};
    int rc;
    *step = "give up core files";
    if (setrlimit(RLIMIT_CORE, &none) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return -errno;
    *step = "give up new privileges";
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    *step = "give up files (Landlock)";
    rc = sandbox_landlock(port);
    if (rc < 0)
        return rc;
    *step = "give up system calls (seccomp, on x86_64 and aarch64)";
    return sandbox_seccomp(how);
}

#endif

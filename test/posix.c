/*
 * posix.c - the portable backend by itself, on epoll and on poll(2), where the system refuses
 *
 * Calls of the system can be told to fail, a number of times; so can the heap.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    ACCEPT, CALLOC, CONNECT, CREATE, CTL, GETRLIMIT, GETSOCKOPT, LISTEN, MASK, NAME, POLL, PWAIT,
    RECV, SETRLIMIT, SETSOCKOPT, SOCKET, STAT, TIMER, WAIT, CALLS
};

static int errors[CALLS], times[CALLS], still_good[CALLS];
static bool meets_itself; /* getsockname(2) tells the peer's */
static int only;          /* of poll(2)'s answers, if not 0 */
static rlim_t hard_limit;

/* After `good` more of these calls, `count` of them fail. */
static void fail(int call, int error, int count, int good)
{
    errors[call] = error;
    times[call] = count;
    still_good[call] = good;
}

static bool fails(int call)
{
    if (times[call] == 0 || still_good[call]-- > 0)
        return false;
    times[call]--;
    errno = errors[call];
    return true;
}

/* In functions, so that they add no branches to the lines that call them. */
static int some_accept(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
    return fails(ACCEPT) ? -1 : accept4(fd, addr, len, flags);
}

static int some_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
    if (!fails(CONNECT))
        return connect(fd, addr, len);
    if (errno == EINTR) { /* it goes on without us */
        connect(fd, addr, len);
        errno = EINTR;
    }
    return -1;
}

static int some_epoll(int flags)
{
    return fails(CREATE) ? -1 : epoll_create1(flags);
}

static int some_control(int epoll, int how, int fd, struct epoll_event *event)
{
    return fails(CTL) ? -1 : epoll_ctl(epoll, how, fd, event);
}

#if defined(__GLIBC_PREREQ)
#if __GLIBC_PREREQ(2, 35)
static int some_pwait(int epoll, struct epoll_event *events, int max,
                             const struct timespec *wait, const sigset_t *mask)
{
    return fails(PWAIT) ? -1 : epoll_pwait2(epoll, events, max, wait, mask);
}
#define epoll_pwait2(...) some_pwait(__VA_ARGS__)
#endif
#endif

static int some_wait(int epoll, struct epoll_event *events, int max, int wait)
{
    return fails(WAIT) ? -1 : epoll_wait(epoll, events, max, wait);
}

static int some_limit(struct rlimit *limit)
{
    if (fails(GETRLIMIT))
        return -1;
    getrlimit(RLIMIT_NOFILE, limit);
    if (hard_limit)
        limit->rlim_max = hard_limit;
    return 0;
}

static int no_limit(void)
{
    return fails(SETRLIMIT) ? -1 : 0;
}

static int some_name(int fd, struct sockaddr *addr, socklen_t *len)
{
    if (fails(NAME))
        return -1;
    return meets_itself ? getpeername(fd, addr, len) : getsockname(fd, addr, len);
}

static int some_option(int fd, int level, int name, void *value, socklen_t *len)
{
    return fails(GETSOCKOPT) ? -1 : getsockopt(fd, level, name, value, len);
}

static int some_setting(int fd, int level, int name, const void *value, socklen_t len)
{
    return fails(SETSOCKOPT) ? -1 : setsockopt(fd, level, name, value, len);
}

static int some_listen(int fd, int backlog)
{
    return fails(LISTEN) ? -1 : listen(fd, backlog);
}

static int some_poll(struct pollfd *them, nfds_t count, int wait)
{
    const int rc = fails(POLL) ? -1 : poll(them, count, wait);
    if (only)
        them[0].revents = (short)only;
    return only ? 1 : rc;
}

static ssize_t some_recv(int fd, void *buf, size_t len, int flags)
{
    return fails(RECV) ? -1 : recv(fd, buf, len, flags);
}

static int some_mask(int how, const sigset_t *set, sigset_t *old)
{
    return fails(MASK) ? -1 : sigprocmask(how, set, old);
}

static int some_socket(int family, int type, int protocol)
{
    return fails(SOCKET) ? -1 : socket(family, type, protocol);
}

static int some_stat(const char *path, struct stat *info)
{
    return fails(STAT) ? -1 : stat(path, info);
}

static int some_timer(int clock, int flags)
{
    return fails(TIMER) ? -1 : timerfd_create(clock, flags);
}

static void *some_calloc(size_t n, size_t size)
{
    return fails(CALLOC) ? NULL : calloc(n, size);
}

#define accept4(...) some_accept(__VA_ARGS__)
#define connect(...) some_connect(__VA_ARGS__)
#define epoll_create1(flags) some_epoll(flags)
#define epoll_ctl(...) some_control(__VA_ARGS__)
#define epoll_wait(...) some_wait(__VA_ARGS__)
#define getrlimit(which, limit) some_limit(limit)
#define getsockname(...) some_name(__VA_ARGS__)
#define getsockopt(...) some_option(__VA_ARGS__)
#define listen(...) some_listen(__VA_ARGS__)
#define poll(...) some_poll(__VA_ARGS__)
#define recv(...) some_recv(__VA_ARGS__)
#define setrlimit(...) no_limit()
#define setsockopt(...) some_setting(__VA_ARGS__)
#define sigprocmask(...) some_mask(__VA_ARGS__)
#define socket(...) some_socket(__VA_ARGS__)
#define stat(...) some_stat(__VA_ARGS__)
#define timerfd_create(...) some_timer(__VA_ARGS__)

#define TAKT_CALLOC(n, size) some_calloc((n), (size))
#define TAKT_FREE(ptr) free(ptr)
#define TAKT_IMPLEMENTATION
#include "../takt.h"

#include "test.h"

/* -- the backend alone ------------------------------------------------------------------ */

enum { PLACES = 8 };

static takt_posix real;
static takt_slot places[PLACES];
static const takt_slots slots = {(unsigned char *)places, sizeof places[0], PLACES};
static takt_completion told[PLACES];
static takt_bufs bufs;
static bool polls; /* poll(2) */

/* What it has told and nobody has asked for, oldest first. */
static takt_completion inbox[64];
static int inbox_count;

static void setup(void)
{
    takt_posix_config config;
    memset(&config, 0, sizeof config);
    config.fds_max = 64;
    config.poll_instead = polls;
    memset(times, 0, sizeof times);
    inbox_count = 0;
    EXPECT_EQ(takt_posix_init(&real, &config, &slots), 0);
    EXPECT(strcmp(takt_posix_name(&real), polls ? "poll" : "epoll") == 0);
    EXPECT_EQ(takt_bufs_init(&bufs, 4, 512), 0);
}

static void finish(void)
{
    takt_posix_free(&real);
    EXPECT_EQ(bufs.in_use, 0);
    takt_bufs_free(&bufs);
}

static int begin(int place, takt_op op)
{
    takt_token token;
    places[place].op = op;
    places[place].index = (uint32_t)place;
    places[place].generation++;
    token = takt_token_of(&places[place].op);
    return takt_posix_submit(&real, &places[place].op, &token);
}

static int pump(takt_ns wait)
{
    const int count = takt_posix_poll(&real, told, PLACES, wait);
    for (int i = 0; i < count; i++) {
        unsigned char *data = (unsigned char *)told[i].payload;
        EXPECT_EQ(takt_bufs_put(&bufs, &data), 0);
        if (inbox_count < 64)
            inbox[inbox_count++] = told[i];
    }
    return count;
}

/* What the op of `place` ends with, or has got: in `last` too. -EDOM: nothing for a while. */
static takt_completion last;

static int64_t answer(int place)
{
    const takt_ns limit = takt_posix_now(&real) + TAKT_SEC;
    do {
        for (int i = 0; i < inbox_count; i++) {
            if (inbox[i].token != takt_token_of(&places[place].op))
                continue;
            last = inbox[i];
            inbox_count--;
            memmove((void *)&inbox[i], &inbox[i + 1],
                    (size_t)(inbox_count - i) * sizeof inbox[0]);
            return last.error ? last.error : last.value;
        }
        EXPECT(pump(50 * TAKT_MS) >= 0);
    } while (takt_posix_now(&real) < limit);
    return -EDOM;
}

static void pair_of(int type, int *pair)
{
    EXPECT_EQ(socketpair(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
}

static void close_both(const int *pair)
{
    close(pair[0]);
    close(pair[1]);
}

/* A listener of 127.0.0.1, and where. */
static int listener(takt_addr *addr)
{
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    EXPECT_EQ(takt_addr_parse(addr, "127.0.0.1:0"), 0);
    EXPECT_EQ(bind(fd, takt__sockaddr(addr), addr->len), 0);
    EXPECT_EQ(takt__name_of(fd, addr, false), 0);
    EXPECT_EQ(listen(fd, 8), 0);
    return fd;
}

static int dialled(const takt_addr *addr)
{
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(connect(fd, takt__sockaddr(addr), addr->len), 0);
    return fd;
}

/* Each of these runs on epoll, then on poll(2). */
#define ON_BOTH for (int both = 0; both < 2 && (polls = both, true); both++)

static void an_init_that_fails_leaves_nothing(void)
{
    takt_posix_config config;
    memset(&config, 0, sizeof config);
    ON_BOTH {
        config.poll_instead = polls;
        for (int i = 0; i < 2 + polls; i++) {
            fail(CALLOC, 0, 1, i);
            EXPECT_EQ(takt_posix_init(&real, &config, &slots), -ENOMEM);
        }
    }
    config.poll_instead = false;
    fail(CREATE, EMFILE, 1, 0);
    EXPECT_EQ(takt_posix_init(&real, &config, &slots), -EMFILE);
}

/* -- what the system says of waiting ------------------------------------------------------- */

static void a_poll_that_is_interrupted_has_found_nothing(void)
{
    ON_BOTH {
        const int call = polls ? POLL : PWAIT;
        setup();
        fail(call, EINTR, 1, 0);
        EXPECT_EQ(pump(TAKT_SEC), 0);
        fail(call, EBADF, 1, 0);
        EXPECT_EQ(pump(TAKT_SEC), -EBADF);
        finish();
    }
}

/* The clock of epoll_wait(2) and poll(2) is of milliseconds, in an int. */
static void a_long_wait_is_as_long_as_can_be(void)
{
    ON_BOTH {
        char c = 0;
        int pair[2];
        setup();
        pair_of(SOCK_STREAM, pair);
        EXPECT_EQ(begin(0, takt_recv(pair[0], &c, 1)), 0);
        EXPECT_EQ(pump(0), 0);
        EXPECT_EQ(send(pair[1], "x", 1, 0), 1);
        fail(PWAIT, ENOSYS, 1, 0); /* an older system */
        EXPECT_EQ(pump(TAKT_FOREVER - 1), 1);
        EXPECT_EQ(c, 'x');
        fail(PWAIT, ENOSYS, 1, 0);
        EXPECT_EQ(pump(TAKT_US), 0); /* less than one is one */
        EXPECT_EQ(begin(0, takt_recv(pair[0], &c, 1)), 0);
        EXPECT_EQ(pump(0), 0);
        EXPECT_EQ(send(pair[1], "y", 1, 0), 1);
        EXPECT_EQ(pump(TAKT_FOREVER), 1);
        EXPECT_EQ(c, 'y');
        close_both(pair);
        finish();
    }
}

/* -- descriptors that cannot be waited for ------------------------------------------------- */

static void what_cannot_be_watched_fails(void)
{
    char c;
    int pair[2];
    polls = false;
    setup();
    pair_of(SOCK_STREAM, pair);
    fail(CTL, ENOSPC, 1, 0);
    EXPECT_EQ(begin(0, takt_recv(pair[0], &c, 1)), 0);
    EXPECT_EQ(answer(0), -ENOSPC);
    fail(CTL, ENOSPC, 1, 0);
    EXPECT_EQ(begin(0, takt_ready_multishot(pair[0], TAKT_READABLE)), 0);
    EXPECT_EQ(answer(0), -ENOSPC);
    fail(CTL, EPERM, 1, 0); /* a file: but then it would not have to wait */
    EXPECT_EQ(begin(0, takt_recv(pair[0], &c, 1)), 0);
    EXPECT_EQ(answer(0), -EAGAIN);
    close_both(pair);
    finish();
}

/* That there is nothing to read does not keep a send, which may have a deadline, until the system
 * is asked: with something else to hand out that takes a while. */
static void who_reads_in_vain_delays_no_writer(void)
{
    ON_BOTH {
        char c;
        int pair[2];
        setup();
        pair_of(SOCK_STREAM, pair);
        EXPECT_EQ(begin(0, takt_recv(pair[0], &c, 1)), 0);
        EXPECT_EQ(begin(1, takt_nop()), 0);
        EXPECT_EQ(begin(2, takt_send(pair[0], "x", 1)), 0);
        EXPECT_EQ(pump(0), 2);
        EXPECT_EQ(answer(2), 1);
        takt_posix_cancel(&real, &places[0].op);
        EXPECT_EQ(answer(0), -ECANCELED);
        close_both(pair);
        finish();
    }
}

static void a_file_is_always_ready(void)
{
    ON_BOTH {
        const int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
        setup();
        EXPECT_EQ(begin(0, takt_ready_multishot(fd, TAKT_READABLE)), 0);
        for (int i = 0; i < (polls ? 3 : 1); i++) /* no edge comes after the first */
            EXPECT_EQ(answer(0), TAKT_READABLE);
        takt_posix_cancel(&real, &places[0].op);
        while (answer(0) > 0)
            continue;
        close(fd);
        finish();
    }
}

/* A copy keeps what the number stood for known to epoll. */
static void a_number_that_epoll_knows_already_is_none_the_worse(void)
{
    char c = 0;
    int pair[2], copy;
    polls = false;
    setup();
    pair_of(SOCK_STREAM, pair);
    EXPECT_EQ(begin(0, takt_recv(pair[0], &c, 1)), 0);
    EXPECT_EQ(pump(0), 0);
    copy = dup(pair[0]);
    EXPECT_EQ(begin(1, takt_close(pair[0])), 0);
    EXPECT_EQ(answer(1), 0);
    EXPECT_EQ(dup2(copy, pair[0]), pair[0]);
    EXPECT_EQ(begin(0, takt_recv(pair[0], &c, 1)), 0);
    EXPECT_EQ(pump(0), 0);
    EXPECT_EQ(send(pair[1], "x", 1, 0), 1);
    EXPECT_EQ(answer(0), 1);
    close(copy);
    close_both(pair);
    finish();
}

/* -- connections ----------------------------------------------------------------------- */

/* Brought by one that multishot accept has not lost. */
static void expect_accepted(int place)
{
    const int64_t fd = answer(place);
    EXPECT(fd >= 0);
    close((int)fd);
}

static void accepting_goes_on_after_what_passes(void)
{
    static const struct {
        int error, count;
    } cases[] = {{EINTR, 3}, {ECONNABORTED, 5}, {ECONNABORTED, 100}, {EPERM, 1}, {EMFILE, 1}};
    ON_BOTH {
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            takt_addr addr;
            int fd, client;
            setup();
            fd = listener(&addr);
            client = dialled(&addr);
            fail(ACCEPT, cases[i].error, cases[i].count, 0);
            EXPECT_EQ(begin(0, takt_accept_multishot(fd)), 0);
            expect_accepted(0);
            EXPECT_EQ(times[ACCEPT], 0);
            close(client);
            for (int again = 0; again < 2; again++) {
                takt_posix_cancel(&real, &places[0].op);
                EXPECT_EQ(answer(0), -ECANCELED);
                EXPECT_EQ(again || begin(0, takt_accept_multishot(fd)) == 0, true);
            }
            close(fd);
            finish();
        }
    }
}

/* Sends a descriptor along. */
static void say_with_rights(int fd, const char *text)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec piece;
    struct msghdr message;
    memset(&message, 0, sizeof message);
    memset(&control, 0, sizeof control);
    piece.iov_base = (void *)(uintptr_t)text;
    piece.iov_len = strlen(text);
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes;
    message.msg_controllen = sizeof control.bytes;
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    EXPECT_EQ(sendmsg(fd, &message, 0), (ssize_t)strlen(text));
}

static void expect_two_parts(int fd, const char *first, const char *second)
{
    char text[16] = "";
    EXPECT_EQ(answer(0), (int64_t)strlen(first));
    EXPECT_EQ(begin(0, takt_recv(fd, text, sizeof text - 1)), 0);
    EXPECT_EQ(answer(0), (int64_t)strlen(second));
    EXPECT(strcmp(text, second) == 0);
}

/* F24, F32: a read that stops early has not always taken all there was */
static void urgent_data_and_descriptors_hide_nothing(void)
{
    ON_BOTH {
        takt_addr addr;
        char text[16];
        int pair[2], client, door;
        setup();
        door = listener(&addr);
        client = dialled(&addr);
        EXPECT_EQ(begin(0, takt_accept(door, NULL)), 0);
        pair[0] = (int)answer(0);
        EXPECT_EQ(begin(0, takt_recv(pair[0], text, sizeof text)), 0);
        EXPECT(pump(0) >= 0 && pump(0) >= 0); /* it waits for an edge */
        EXPECT(send(client, "ab", 2, 0) == 2 && send(client, "!", 1, MSG_OOB) == 1 &&
               send(client, "cd", 2, 0) == 2);
        expect_two_parts(pair[0], "ab", "cd");
        close(pair[0]);
        close(client);
        close(door);
        EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
        EXPECT_EQ(begin(0, takt_recv(pair[0], text, sizeof text)), 0);
        EXPECT(pump(0) >= 0 && pump(0) >= 0); /* it waits for an edge */
        say_with_rights(pair[1], "ab");
        say_with_rights(pair[1], "cd");
        expect_two_parts(pair[0], "ab", "cd");
        close(pair[0]);
        close(pair[1]);
        finish();
    }
}

/* Two that lack descriptors; the first can leave before the other. */
static void those_who_lack_descriptors_wait_together(void)
{
    ON_BOTH {
        takt_addr addrs[2];
        int fds[2], clients[2];
        setup();
        for (int i = 0; i < 2; i++) {
            fds[i] = listener(&addrs[i]);
            clients[i] = dialled(&addrs[i]);
        }
        fail(ACCEPT, EMFILE, 2, 0);
        fail(TIMER, EMFILE, polls ? 0 : 1, 0); /* nor is there one for a timer */
        EXPECT_EQ(begin(0, takt_accept_multishot(fds[0])), 0);
        EXPECT_EQ(begin(1, takt_accept_multishot(fds[1])), 0);
        EXPECT_EQ(pump(0), 0);
        EXPECT_EQ(times[ACCEPT], 0);
        EXPECT(!takt_posix_busy(&real));
        takt_posix_cancel(&real, &places[0].op);
        EXPECT_EQ(answer(0), -ECANCELED);
        EXPECT_EQ(begin(2, takt_close(clients[0])), 0); /* now there might be one */
        EXPECT_EQ(answer(2), 0);
        expect_accepted(1);
        takt_posix_cancel(&real, &places[1].op);
        EXPECT_EQ(answer(1), -ECANCELED);
        close(clients[1]);
        close_both(fds);
        finish();
    }
}

static void what_lacks_descriptors_is_work_once_one_is_closed(void)
{
    ON_BOTH {
        takt_addr addr;
        takt_op gone;
        int fd, client;
        setup();
        fd = listener(&addr);
        client = dialled(&addr);
        fail(ACCEPT, ENFILE, 1, 0);
        EXPECT_EQ(begin(0, takt_accept_multishot(fd)), 0);
        EXPECT(takt_posix_busy(&real)); /* it is still to be tried */
        EXPECT_EQ(pump(0), 0);
        EXPECT(!takt_posix_busy(&real));
        gone = takt_close(dup(fd));
        EXPECT_EQ(takt_posix_call(&real, &gone), 0);
        EXPECT(takt_posix_busy(&real));
        expect_accepted(0);
        takt_posix_cancel(&real, &places[0].op);
        EXPECT_EQ(answer(0), -ECANCELED);
        close(client);
        close(fd);
        finish();
    }
}

/* Who sleeps on the backend's descriptor is woken for those who lack memory, too. */
static void what_lacks_memory_is_announced(void)
{
    struct pollfd outside;
    int pair[2];
    polls = false;
    setup();
    pair_of(SOCK_STREAM, pair);
    EXPECT_EQ(begin(0, takt_recv_multishot(pair[0], &bufs)), 0);
    EXPECT_EQ(pump(0), 0);
    EXPECT_EQ(send(pair[1], "hello", 5, 0), 5);
    fail(RECV, ENOBUFS, 1, 0);
    EXPECT_EQ(pump(0), 0);
    EXPECT_EQ(places[0].op.state, TAKT__LATER);
    EXPECT(!takt_posix_busy(&real));
    outside.fd = takt_posix_fd(&real);
    outside.events = POLLIN;
    EXPECT_EQ(poll(&outside, 1, 5000), 1);
    EXPECT_EQ(answer(0), 5);
    takt_posix_cancel(&real, &places[0].op);
    EXPECT_EQ(answer(0), -ECANCELED);
    close_both(pair);
    finish();
}

static void a_connect_that_cannot_be_waited_for_fails(void)
{
    ON_BOTH {
        takt_addr addr;
        int fd, mine;
        int64_t new_fd;
        setup();
        fd = listener(&addr);
        mine = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        fail(CONNECT, ENETDOWN, 1, 0);
        EXPECT_EQ(begin(0, takt_connect(mine, &addr)), 0);
        EXPECT_EQ(answer(0), -ENETDOWN);
        if (!polls) {
            fail(CTL, ENOSPC, 1, 0);
            EXPECT_EQ(begin(0, takt_tcp_connect(&addr)), 0);
            EXPECT_EQ(answer(0), -ENOSPC);
        }
        EXPECT_EQ(begin(0, takt_connect(mine, &addr)), 0);
        EXPECT_EQ(begin(1, takt_connect(mine, &addr)), 0);
        EXPECT_EQ(answer(1), -EBUSY);
        fail(POLL, EINTR, polls, 1); /* asked once more */
        EXPECT_EQ(answer(0), 0);
        fail(GETSOCKOPT, ENOBUFS, 1, 0);
        EXPECT_EQ(begin(0, takt_tcp_connect(&addr)), 0);
        EXPECT_EQ(answer(0), -ENOBUFS);
        fail(NAME, ENOBUFS, 1, 0); /* whether it met itself is not known */
        fail(CONNECT, EINTR, 1, 0);
        EXPECT_EQ(begin(0, takt_tcp_connect(&addr)), 0);
        new_fd = answer(0);
        EXPECT(new_fd >= 0);
        close((int)new_fd);
        meets_itself = true;
        EXPECT_EQ(begin(0, takt_tcp_connect(&addr)), 0);
        EXPECT_EQ(answer(0), TAKT_ESELF);
        meets_itself = false;
        fail(SOCKET, EMFILE, 1, 0);
        EXPECT_EQ(begin(0, takt_tcp_connect(&addr)), 0);
        EXPECT_EQ(answer(0), -EMFILE);
        close(mine);
        close(fd);
        finish();
    }
}

/* -- readiness -------------------------------------------------------------------------- */

/* Fills a stream's buffers. */
static void fill(int fd)
{
    static const char junk[4096] = {0};
    while (send(fd, junk, sizeof junk, 0) > 0)
        continue;
}

static void drain(int fd)
{
    static char junk[65536];
    while (recv(fd, junk, sizeof junk, 0) > 0)
        continue;
}

static void a_writer_waits_until_there_is_room(void)
{
    ON_BOTH {
        char c = 0;
        int pair[2];
        setup();
        pair_of(SOCK_STREAM, pair);
        fill(pair[0]);
        EXPECT_EQ(begin(0, takt_ready(pair[0], TAKT_WRITABLE)), 0);
        EXPECT_EQ(begin(1, takt_recv(pair[0], &c, 1)), 0);
        EXPECT_EQ(pump(0), 0);
        drain(pair[1]);
        EXPECT_EQ(answer(0), TAKT_WRITABLE);
        EXPECT_EQ(send(pair[1], "x", 1, 0), 1);
        EXPECT_EQ(answer(1), 1);
        fail(POLL, ENOMEM, 1, 0);
        EXPECT_EQ(begin(0, takt_ready(pair[0], TAKT_READABLE)), 0);
        EXPECT_EQ(polls ? takt_posix_poll(&real, told, 1, 0) : answer(0), polls ? 1 : -ENOMEM);
        close_both(pair);
        finish();
    }
}

/* Both directions, of a descriptor that is known already, and of which one is in line. */
static void readiness_of_both_directions_is_told_apart(void)
{
    ON_BOTH {
        char c = 0;
        int pair[2];
        setup();
        pair_of(SOCK_STREAM, pair);
        EXPECT_EQ(begin(0, takt_recv(pair[0], &c, 1)), 0);
        EXPECT_EQ(pump(0), 0); /* known from here on */
        takt_posix_cancel(&real, &places[0].op);
        EXPECT_EQ(answer(0), -ECANCELED);
        EXPECT_EQ(begin(0, takt_ready_multishot(pair[0], TAKT_READABLE)), 0);
        EXPECT_EQ(begin(1, takt_ready_multishot(pair[0], TAKT_WRITABLE)), 0);
        EXPECT_EQ(answer(1), TAKT_WRITABLE);
        EXPECT_EQ(send(pair[1], "x", 1, 0), 1);
        EXPECT_EQ(answer(0), TAKT_READABLE);
        for (int i = 0; i < 2; i++)
            takt_posix_cancel(&real, &places[i].op);
        while (answer(0) > 0)
            continue;
        pump(0);
        close_both(pair);
        finish();
    }
}

/* Asks the system, though there is something to hand out, and takes none of it. */
static void look_again(void)
{
    real.skipped = 100;
    EXPECT_EQ(takt_posix_poll(&real, told, 0, 0), 0);
}

/* Not yet handed out, it takes in what has come since, if that is still so. */
static void an_edge_is_taken_in_by_what_stands_in_line(void)
{
    ON_BOTH {
        char c;
        int pair[2];
        setup();
        pair_of(SOCK_STREAM, pair);
        fill(pair[0]);
        EXPECT_EQ(begin(0, takt_ready_multishot(pair[0], TAKT_READABLE)), 0);
        EXPECT_EQ(begin(1, takt_ready_multishot(pair[0], TAKT_WRITABLE)), 0);
        EXPECT_EQ(pump(0), 0);
        EXPECT_EQ(send(pair[1], "x", 1, 0), 1);
        drain(pair[1]);
        look_again(); /* both stand in line from here on */
        EXPECT_EQ(recv(pair[0], &c, 1, 0), 1);
        EXPECT_EQ(send(pair[1], "y", 1, 0), 1);
        EXPECT_EQ(recv(pair[0], &c, 1, 0), 1); /* gone before anybody looked */
        look_again();
        EXPECT_EQ(shutdown(pair[1], SHUT_WR), 0);
        look_again();
        EXPECT_EQ(answer(0) & TAKT_READABLE, TAKT_READABLE);
        EXPECT_EQ(answer(1) & TAKT_WRITABLE, TAKT_WRITABLE);
        for (int i = 0; i < 2; i++) {
            takt_posix_cancel(&real, &places[i].op);
            while (answer(i) > 0)
                continue;
        }
        close_both(pair);
        finish();
    }
}

/* More pieces than a system call takes. */
static void a_vector_may_be_longer_than_the_system_takes(void)
{
    enum { PIECES = 1030 };
    static struct iovec iov[PIECES];
    ON_BOTH {
        int pair[2];
        setup();
        pair_of(SOCK_STREAM, pair);
        for (int i = 0; i < PIECES; i++) {
            iov[i].iov_base = (char *)(uintptr_t) "x";
            iov[i].iov_len = 1;
        }
        EXPECT_EQ(begin(0, takt_sendv(pair[0], iov, PIECES)), 0);
        EXPECT_EQ(answer(0), PIECES); /* in several calls */
        close_both(pair);
        finish();
    }
}

/* -- datagrams --------------------------------------------------------------------------- */

static void datagrams_wait_for_a_buffer_and_may_be_empty(void)
{
    ON_BOTH {
        unsigned char *taken[4];
        int pair[2];
        setup();
        EXPECT_EQ(begin(0, takt_recvmsg_multishot(0, NULL)), -EINVAL);
        pair_of(SOCK_SEQPACKET, pair);
        for (int i = 0; i < 4; i++)
            taken[i] = takt_bufs_take(&bufs);
        EXPECT_EQ(begin(0, takt_recvmsg_multishot(pair[0], &bufs)), 0);
        EXPECT_EQ(send(pair[1], "hello", 5, 0), 5);
        EXPECT_EQ(pump(0), 0);
        EXPECT_EQ(bufs.waits, 1);
        for (int i = 0; i < 4; i++)
            EXPECT_EQ(takt_bufs_put(&bufs, &taken[i]), 0);
        EXPECT_EQ(answer(0), 5);
        EXPECT_EQ(send(pair[1], "", 0, 0), 0);
        EXPECT_EQ(answer(0), 0); /* one from nobody, without a byte */
        EXPECT(last.flags & TAKT_MORE);
        EXPECT_EQ(shutdown(pair[1], SHUT_WR), 0);
        EXPECT_EQ(answer(0), 0);
        EXPECT(!(last.flags & TAKT_MORE));
        close_both(pair);
        finish();
    }
}

static void datagrams_that_wait_come_sixteen_at_a_time(void)
{
    ON_BOTH {
        takt_completion got[40];
        takt_bufs many;
        int pair[2], expected = 0;
        setup();
        EXPECT_EQ(takt_bufs_init(&many, 40, 512), 0);
        pair_of(SOCK_SEQPACKET, pair);
        for (char i = 1; i <= 20; i++)
            EXPECT_EQ(send(pair[1], "twenty, each longer", (size_t)i, 0), i);
        EXPECT_EQ(begin(0, takt_recvmsg_multishot(pair[0], &many)), 0);
        for (int turn = 0; turn < 3; turn++) {
            const int most = turn == 0 ? 3 : 40;
            const int count = takt_posix_poll(&real, got, most, 0);
            EXPECT_EQ(count, turn == 0 ? 3 : turn == 1 ? 16 : 1);
            for (int i = 0; i < count; i++) {
                unsigned char *data = (unsigned char *)got[i].payload;
                EXPECT_EQ(got[i].value, ++expected);
                EXPECT_EQ(got[i].flags, TAKT_MORE);
                EXPECT_EQ(takt_bufs_put(&many, &data), 0);
            }
        }
        EXPECT_EQ(takt_posix_poll(&real, got, 40, 0), 0);
        close_both(pair);
        finish();
        takt_bufs_free(&many);
    }
}

/* Who has stood in line for a buffer is not passed by those for whom data comes just when there
 * is one again. */
static void a_buffer_that_comes_back_goes_to_the_line(void)
{
    ON_BOTH {
        takt_completion got[8];
        takt_bufs one;
        unsigned char *sent, *first = NULL, *second = NULL;
        char junk[4096];
        int full[2], busy[2], count = 0;
        setup();
        EXPECT_EQ(takt_bufs_init(&one, 1, sizeof junk), 0);
        pair_of(SOCK_STREAM, full);
        pair_of(SOCK_STREAM, busy);
        memset(junk, 0, sizeof junk);
        EXPECT_EQ(begin(0, takt_recv_lease(busy[0], &one, &second)), 0);
        EXPECT_EQ(takt_posix_poll(&real, got, 8, 0), 0); /* it waits for data */
        while (send(full[0], junk, sizeof junk, MSG_DONTWAIT) > 0)
            continue;
        sent = takt_bufs_take(&one);
        EXPECT_EQ(begin(1, takt_send_lease(full[0], &one, &sent, sizeof junk)), 0);
        EXPECT_EQ(begin(2, takt_lease(&one, &first)), 0);
        EXPECT_EQ(takt_posix_poll(&real, got, 8, 0), 0);
        while (recv(full[1], junk, sizeof junk, MSG_DONTWAIT) > 0)
            continue;
        EXPECT_EQ(send(busy[1], "x", 1, 0), 1);
        for (int turn = 0; turn < 4 && count < 2; turn++)
            count += takt_posix_poll(&real, got, 8, 0);
        EXPECT_EQ(count, 2);
        EXPECT(first && !second);
        EXPECT_EQ(takt_bufs_put(&one, &first), 0);
        EXPECT_EQ(takt_posix_poll(&real, got, 8, 0), 1);
        EXPECT(second && *second == 'x');
        EXPECT_EQ(takt_bufs_put(&one, &second), 0);
        close_both(full);
        close_both(busy);
        finish();
        takt_bufs_free(&one);
    }
}

/* An error that waits to be told is not the end. */
static void only_a_shutdown_is_the_end_of_datagrams(void)
{
    only = POLLERR;
    EXPECT(!takt__no_more(0));
    only = POLLRDHUP;
    EXPECT(takt__no_more(0));
    only = 0;
}

static struct cmsghdr *control(struct msghdr *message, int level, int type, const void *data,
                               size_t len)
{
    static union {
        struct cmsghdr align;
        unsigned char bytes[128];
    } controls;
    struct cmsghdr *c;
    memset(message, 0, sizeof *message);
    memset(&controls, 0, sizeof controls);
    message->msg_control = controls.bytes;
    message->msg_controllen = CMSG_SPACE(len);
    c = CMSG_FIRSTHDR(message);
    c->cmsg_level = level;
    c->cmsg_type = type;
    c->cmsg_len = CMSG_LEN(len);
    memcpy(CMSG_DATA(c), data, len);
    return c;
}

static void of_what_the_kernel_says_only_what_is_known_is_told(void)
{
    takt_datagram d;
    struct msghdr message;
    struct in6_pktinfo info;
    struct sockaddr_in6 in6;
    const int value = 7, none = 0, huge = 70000;
    memset((void *)&d, 0, sizeof d);
    control(&message, IPPROTO_IP, IP_TTL, &value, sizeof value);
    takt__many_controls(&d, &message);
    control(&message, IPPROTO_IPV6, IPV6_HOPLIMIT, &value, sizeof value);
    takt__many_controls(&d, &message);
    control(&message, SOL_SOCKET, SCM_RIGHTS, &value, sizeof value);
    takt__many_controls(&d, &message);
    control(&message, IPPROTO_UDP, 77, &value, sizeof value);
    takt__many_controls(&d, &message);
    EXPECT(d.to.len == 0 && d.ecn == 0 && d.segment == 0);
    control(&message, IPPROTO_UDP, TAKT__UDP_GRO, &value, sizeof value);
    takt__many_controls(&d, &message);
    EXPECT_EQ(d.segment, 7);
    control(&message, IPPROTO_UDP, TAKT__UDP_GRO, &none, sizeof none);
    takt__many_controls(&d, &message);
    EXPECT_EQ(d.segment, 0);
    control(&message, IPPROTO_UDP, TAKT__UDP_GRO, &huge, sizeof huge);
    takt__many_controls(&d, &message);
    EXPECT_EQ(d.segment, 0);
    memset(&info, 0, sizeof info);
    EXPECT_EQ(inet_pton(AF_INET6, "fe80::1", &info.ipi6_addr), 1);
    info.ipi6_ifindex = 3;
    control(&message, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof info);
    takt__many_controls(&d, &message);
    memcpy(&in6, &d.to.sockaddr, sizeof in6);
    EXPECT_EQ(in6.sin6_scope_id, 3); /* it is of that link */
}

/* -- beyond the table, beyond what there is ---------------------------------------------- */

static void descriptors_beyond_the_table_are_closed(void)
{
    ON_BOTH {
        takt_addr addr;
        takt_op op;
        int fd, client, high;
        int64_t rc;
        setup();
        fd = listener(&addr);
        high = fcntl(fd, F_DUPFD_CLOEXEC, 100);
        EXPECT(high >= 100);
        client = dialled(&addr);
        EXPECT_EQ(begin(0, takt_accept(high, NULL)), -EMFILE);
        EXPECT_EQ(begin(0, takt_close(high)), 0); /* it can be closed all the same */
        EXPECT_EQ(answer(0), 0);
        EXPECT_EQ(begin(0, takt_close(high)), 0);
        EXPECT_EQ(answer(0), -EBADF);
        op = takt_close(-1);
        EXPECT_EQ(takt_posix_call(&real, &op), -EBADF);
        op = takt_close(fcntl(fd, F_DUPFD_CLOEXEC, 100));
        EXPECT_EQ(takt_posix_call(&real, &op), 0);
        real.fds.count = fd + 1; /* as small as that */
        EXPECT_EQ(begin(0, takt_accept(fd, NULL)), 0);
        EXPECT_EQ(answer(0), -EMFILE);
        real.fds.count = 64;
        rc = takt__posix_opened(&real, dup(fd));
        EXPECT(rc >= 0);
        close((int)rc);
        close(client);
        close(fd);
        finish();
    }
}

static void what_is_no_op_of_a_backend_is_refused(void)
{
    takt_op op = takt_nop();
    polls = false;
    setup();
    EXPECT_EQ(takt_posix_call(&real, &op), -ENOTSUP);
    op.kind = TAKT_OP_BIND; /* a call, not to be awaited */
    EXPECT_EQ(begin(0, op), -ENOTSUP);
    op.kind = TAKT_OP_USER;
    EXPECT_EQ(begin(0, op), -ENOTSUP);
    finish();
}

static void what_nobody_took_is_given_back_at_the_end(void)
{
    ON_BOTH {
        takt_addr addr;
        int pair[2], fd, client;
        char c = 0;
        setup();
        pair_of(SOCK_STREAM, pair);
        fd = listener(&addr);
        client = dialled(&addr);
        EXPECT_EQ(send(pair[1], "x", 1, 0), 1);
        EXPECT_EQ(begin(0, takt_accept_multishot(fd)), 0);
        EXPECT_EQ(begin(1, takt_recv_multishot(pair[0], &bufs)), 0);
        EXPECT_EQ(begin(2, takt_ready_multishot(pair[1], TAKT_WRITABLE)), 0);
        EXPECT_EQ(begin(3, takt_nop()), 0);
        EXPECT_EQ(takt_posix_poll(&real, told, 0, 0), 0);
        real.skipped = 100;
        EXPECT_EQ(takt_posix_poll(&real, told, 0, 0), 0);
        EXPECT_EQ(bufs.in_use, 1);
        takt_posix_cancel(&real, &places[0].op); /* it ends after what it has */
        close_both(pair);
        finish(); /* the buffer is back */
        EXPECT_EQ(fcntl(client, F_SETFL, O_NONBLOCK), 0);
        EXPECT_EQ(recv(client, &c, 1, 0), 0); /* and the connection is closed */
        close(client);
        close(fd);
    }
}

/* A receive of what is not known to be a stream: each short read says nothing. */
static void a_socket_that_will_not_tell_its_type_is_tried_again(void)
{
    ON_BOTH {
        char buf[8];
        int pair[2];
        setup();
        pair_of(SOCK_STREAM, pair);
        fail(GETSOCKOPT, ENOBUFS, 1, 0);
        for (int i = 0; i < 2; i++) {
            EXPECT_EQ(send(pair[1], "x", 1, 0), 1);
            EXPECT_EQ(begin(0, takt_recv(pair[0], buf, sizeof buf)), 0);
            EXPECT_EQ(answer(0), 1);
        }
        fail(RECV, EPERM, 1, 0); /* not one of many: the end */
        EXPECT_EQ(begin(0, takt_recv_multishot(pair[0], &bufs)), 0);
        EXPECT_EQ(answer(0), -EPERM);
        close_both(pair);
        finish();
    }
}

/* -- calls of a coroutine ---------------------------------------------------------------- */

TAKT_LOOP(net, takt_posix);
static net loop;

struct caller {
    takt_frame frame;
    int fd, value, n;
    char path[64];
    takt_addr addr;
    takt_tcp tcp;
    takt_udp udp;
};

static TAKT_CORO(caller)
{
    TAKT_BEGIN(caller, my);
    TAKT_CHECK(takt_addr_parse(&my->addr, "127.0.0.1:0"));
    fail(LISTEN, EADDRINUSE, 1, 0);
    EXPECT_EQ(takt_listen(&my->frame, &my->addr, 5), -EADDRINUSE);
    TAKT_CHECK(my->fd = takt_socket(&my->frame, AF_INET, SOCK_STREAM, 0));
    TAKT_AWAIT(my->n, takt_shutdown(my->fd, SHUT_WR)); /* it never was connected */
    EXPECT_EQ(my->n, 0);
    EXPECT_EQ(takt_tcp_options(&my->frame, my->fd, &my->tcp), 0); /* none is wanted */
    my->tcp.user_timeout = TAKT_FOREVER; /* as long as can be */
    my->tcp.receive_buffer = my->tcp.send_buffer = 20000;
    fail(SETSOCKOPT, EPERM, 1, 0);
    EXPECT_EQ(takt_tcp_options(&my->frame, my->fd, &my->tcp), -EPERM);
    EXPECT_EQ(times[SETSOCKOPT], 0);
    EXPECT_EQ(takt_tcp_options(&my->frame, my->fd, &my->tcp), 0);
    TAKT_AWAIT(takt_close(my->fd));
    EXPECT_EQ(takt_udp_options(&my->frame, my->fd, &my->udp), -EBADF);

    TAKT_CHECK(my->fd = takt_socket(&my->frame, AF_UNIX, SOCK_STREAM, 0));
    my->tcp.keepalive = TAKT_SEC; /* not served there, and not asked for */
    EXPECT_EQ(takt_tcp_options(&my->frame, my->fd, &my->tcp), 0);
    TAKT_AWAIT(takt_close(my->fd));

    TAKT_CHECK(my->fd = takt_socket(&my->frame, AF_INET6, SOCK_DGRAM, 0));
    EXPECT_EQ(takt_udp_options(&my->frame, my->fd, &my->udp), 0);
    TAKT_AWAIT(takt_close(my->fd));

    fail(MASK, EINVAL, 1, 0);
    EXPECT_EQ(takt_signals(&my->frame, 0), -EINVAL);
    TAKT_CATCH { EXPECT_EQ(my->frame.error, 0); }
    TAKT_END;
}

static void a_call_that_fails_says_why(void)
{
    static struct caller c;
    const net_config config = net_defaults();
    memset(times, 0, sizeof times);
    EXPECT_EQ(net_init(&loop, &config), 0);
    EXPECT(TAKT_START_ON(&loop, c, caller));
    EXPECT_EQ(net_run(&loop), 0);
    EXPECT_EQ(net_free(&loop), 0);
}

/* It must be a socket's, a dead one's, and one that can be looked at. */
struct replacer {
    takt_frame frame;
    const char *path;
    takt_addr addr;
    int got[3];
};

static TAKT_CORO(replacer)
{
    TAKT_BEGIN(replacer, my);
    TAKT_CHECK(takt_addr_parse(&my->addr, my->path));
    my->got[0] = takt_listen(&my->frame, &my->addr, 0); /* a plain file */
    unlink(my->path + 5);
    TAKT_CHECK(my->got[1] = takt_listen(&my->frame, &my->addr, 0));
    TAKT_AWAIT(takt_close(my->got[1])); /* what is left is dead */
    fail(STAT, EACCES, 1, 0);
    my->got[1] = takt_listen(&my->frame, &my->addr, 0);
    fail(SOCKET, EMFILE, 1, 0);
    my->got[2] = takt_listen(&my->frame, &my->addr, 0);
    unlink(my->path + 5);
    TAKT_END;
}

static void only_the_file_of_a_dead_socket_is_removed(void)
{
    static struct replacer it;
    static char path[64];
    const net_config config = net_defaults();
    int fd;
    snprintf(path, sizeof path, "unix:/tmp/takt-posix-%d", (int)getpid());
    fd = open(path + 5, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    EXPECT(fd >= 0);
    close(fd);
    memset(times, 0, sizeof times);
    EXPECT_EQ(net_init(&loop, &config), 0);
    EXPECT(TAKT_START_ON(&loop, it, replacer, .path = path));
    EXPECT_EQ(net_run(&loop), 0);
    for (int i = 0; i < 3; i++)
        EXPECT_EQ(it.got[i], -EADDRINUSE);
    EXPECT_EQ(net_free(&loop), 0);
}

static void the_limit_of_descriptors_is_raised_or_the_error_told(void)
{
    fail(GETRLIMIT, EPERM, 1, 0);
    EXPECT_EQ(takt_raise_fd_limit(), -EPERM);
    fail(SETRLIMIT, EPERM, 1, 0);
    EXPECT_EQ(takt_raise_fd_limit(), -EPERM);
    hard_limit = 12345;
    EXPECT_EQ(takt_raise_fd_limit(), 12345);
    hard_limit = RLIM_INFINITY;
    EXPECT_EQ(takt_raise_fd_limit(), INT_MAX);
    hard_limit = 0;
}

/* Something else than a signal's record comes from there. */
static void what_is_no_signal_is_an_error(void)
{
    ON_BOTH {
        int ends[2];
        setup();
        EXPECT_EQ(pipe(ends), 0);
        EXPECT_EQ(write(ends[1], "x", 1), 1);
        EXPECT_EQ(begin(0, takt_signal(ends[0])), 0);
        EXPECT_EQ(answer(0), -EIO);
        close_both(ends);
        finish();
    }
}

static void addresses_of_other_links_and_paths_are_others(void)
{
    takt_addr a, b;
    struct sockaddr_in6 in6;
    EXPECT_EQ(takt_addr_parse(&a, "[fe80::1]:5"), 0);
    b = a;
    memcpy(&in6, &b.sockaddr, sizeof in6);
    in6.sin6_scope_id = 2;
    memcpy(&b.sockaddr, &in6, sizeof in6);
    EXPECT(!takt_addr_equal(&a, &b));
    EXPECT_EQ(takt_addr_parse(&a, "unix:/one"), 0);
    EXPECT_EQ(takt_addr_parse(&b, "unix:/two"), 0);
    EXPECT(!takt_addr_equal(&a, &b));
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        TEST(an_init_that_fails_leaves_nothing),
        TEST(a_poll_that_is_interrupted_has_found_nothing),
        TEST(a_long_wait_is_as_long_as_can_be),
        TEST(what_cannot_be_watched_fails),
        TEST(who_reads_in_vain_delays_no_writer),
        TEST(a_file_is_always_ready),
        TEST(a_number_that_epoll_knows_already_is_none_the_worse),
        TEST(accepting_goes_on_after_what_passes),
        TEST(urgent_data_and_descriptors_hide_nothing),
        TEST(those_who_lack_descriptors_wait_together),
        TEST(what_lacks_descriptors_is_work_once_one_is_closed),
        TEST(what_lacks_memory_is_announced),
        TEST(a_connect_that_cannot_be_waited_for_fails),
        TEST(a_writer_waits_until_there_is_room),
        TEST(readiness_of_both_directions_is_told_apart),
        TEST(an_edge_is_taken_in_by_what_stands_in_line),
        TEST(a_vector_may_be_longer_than_the_system_takes),
        TEST(datagrams_wait_for_a_buffer_and_may_be_empty),
        TEST(datagrams_that_wait_come_sixteen_at_a_time),
        TEST(a_buffer_that_comes_back_goes_to_the_line),
        TEST(only_a_shutdown_is_the_end_of_datagrams),
        TEST(of_what_the_kernel_says_only_what_is_known_is_told),
        TEST(descriptors_beyond_the_table_are_closed),
        TEST(what_is_no_op_of_a_backend_is_refused),
        TEST(what_nobody_took_is_given_back_at_the_end),
        TEST(a_socket_that_will_not_tell_its_type_is_tried_again),
        TEST(a_call_that_fails_says_why),
        TEST(only_the_file_of_a_dead_socket_is_removed),
        TEST(the_limit_of_descriptors_is_raised_or_the_error_told),
        TEST(what_is_no_signal_is_an_error),
        TEST(addresses_of_other_links_and_paths_are_others),
    };
    return RUN_TESTS(argc, argv, tests);
}

/*
 * takt.h - v0.1 - stackless coroutines that await operations
 *
 * In ONE C or C++ file:
 *
 *     #define TAKT_IMPLEMENTATION
 *     #include "takt.h"           // or "takt_uring.h", which includes this
 *
 * Everywhere else just include it. Where system headers come first, build with
 * -D_GNU_SOURCE.
 *
 * What an object is, who owns it, whether it may move
 *
 *   A coroutine is a struct and a body. The struct is yours (or a pool's of the
 *   loop); its first member is a takt_frame. While the coroutine is alive, the
 *   struct must not move and must not be freed: the kernel may be writing into
 *   it. Everything that must survive a suspension lives in it.
 *
 *   A strand is a chain of frames (caller -> callee) that waits for one thing
 *   at a time. Strands live in a slab that the loop allocates at its start.
 *
 *   An op is a plain value that says what is wanted: copy it freely. It becomes
 *   a request when a coroutine awaits it; the memory that it points to is then
 *   the kernel's until the await has returned.
 *
 *   A loop is a struct of yours. It must not move after its init. It belongs to
 *   the thread that runs it.
 *
 * One program:
 *
 *     struct echo {
 *         takt_frame frame;
 *         int fd; // in: socket, closed here
 *         size_t n;
 *         char buf[4096];
 *     };
 *
 *     static TAKT_CORO(echo)
 *     {
 *         TAKT_BEGIN(echo, my);
 *         TAKT_DEFER { TAKT_AWAIT(takt_close(my->fd)); }
 *         for (;;) {
 *             TAKT_AWAIT(my->n, takt_recv(my->fd, my->buf, sizeof my->buf));
 *             if (my->n == 0)
 *                 TAKT_RETURN;
 *             TAKT_AWAIT(takt_send(my->fd, my->buf, my->n));
 *         }
 *         TAKT_END;
 *     }
 *
 * UPPERCASE words may suspend, jump or declare. lowercase words are functions.
 *
 * The laws:
 *   1. The kernel's memory is the kernel's, until the terminal completion.
 *   2. Exactly once: a suspension is resumed or discarded, a defer runs once.
 *   3. One failure costs one coroutine.
 *   4. Nothing started in a frame outlives it. Errors can be caught, cancellation
 *      cannot. An await completes or is cancelled, never both.
 *   5. No lost wake-up: if a turn says "idle", sleeping on the loop's descriptor
 *      until its deadline misses nothing.
 *   6. Everything is bounded, and each bound has an answer when it is reached.
 *   7. Coroutines reach the system only through takt.
 *   8. What you do not use costs nothing.
 *   9. Resumption never recurses.
 *
 * Find a room by searching for its mark; each appears again as >>room-impl:
 *
 *     values      >>config  >>time  >>outcome  >>op  >>memory  >>backend  >>net
 *     backends    >>posix
 *     language    >>frame  >>keywords
 *     engine      >>timer  >>sched  >>chan  >>loop  >>dump
 *     inside      >>engine  >>macros; and as -impl only: >>try  >>wait  >>stop  >>await
 *                 >>start  >>join  >>leave
 *
 * Options, to be defined the same way before every include:
 *
 *     TAKT_DEFERS_MAX   4      live TAKT_DEFER blocks a frame; fixed by the layout
 *     TAKT_POOLS_MAX    16     coroutines that a loop's config can list
 *     TAKT_NO_POSIX            leave out >>net's and >>posix's system calls
 *     TAKT_NO_EPOLL            poll(2) even on Linux
 *     TAKT_CALLOC(n, size), TAKT_FREE(ptr)   both or neither; default libc's
 *     TAKT_ASSERT(condition)                 default assert of <assert.h>
 *     TAKT_LOG(text)                         default: a line on stderr
 *
 * Licence: MIT, see the end of this file.
 */
#ifndef TAKT_H
#define TAKT_H

/* ==========================================================================
 * >>config - everything a build may change, and nothing else
 *
 * No room below tests for a compiler or a platform; they use these names.
 * ======================================================================== */

#if defined(TAKT_IMPLEMENTATION) && defined(__linux__) && !defined(TAKT_NO_POSIX) && \
    !defined(_GNU_SOURCE)
#if defined(_FEATURES_H)
#error "compile with -D_GNU_SOURCE, or include takt.h first: the implementation needs accept4()"
#else
#define _GNU_SOURCE 1
#endif
#endif

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define TAKT_VERSION "0.1.0"

#ifndef TAKT_POOLS_MAX
#define TAKT_POOLS_MAX 16
#endif

#define TAKT_DEFERS_MAX 4

#if defined(TAKT_CALLOC) != defined(TAKT_FREE)
#error "define both TAKT_CALLOC(n, size) and TAKT_FREE(ptr), or neither"
#endif

#ifdef __cplusplus
#define TAKT__STATIC_ASSERT(cond, text) static_assert(cond, text)
#define TAKT__EXTERN_C_BEGIN extern "C" {
#define TAKT__EXTERN_C_END }
#else
#define TAKT__STATIC_ASSERT(cond, text) _Static_assert(cond, text)
#define TAKT__EXTERN_C_BEGIN
#define TAKT__EXTERN_C_END
#endif

#if defined(__GNUC__) || defined(__clang__)
#define TAKT__UNUSED __attribute__((unused))
#define TAKT__MUST_USE __attribute__((warn_unused_result))
#define TAKT__COLD __attribute__((cold, noinline))
#define TAKT__NOINLINE __attribute__((noinline))
#define TAKT__LIKELY(x) __builtin_expect(!!(x), 1)
#define TAKT__UNLIKELY(x) __builtin_expect(!!(x), 0)
#ifdef __riscv /* where the caller's frame ends; elsewhere two words lie in between */
#define TAKT__STACK_POINTER() ((uintptr_t)__builtin_frame_address(0) - 1)
#else
#define TAKT__STACK_POINTER() ((uintptr_t)__builtin_frame_address(0) + 2 * sizeof(void *) - 1)
#endif
#else
#define TAKT__UNUSED
#define TAKT__MUST_USE
#define TAKT__COLD
#define TAKT__NOINLINE
#define TAKT__LIKELY(x) (x)
#define TAKT__UNLIKELY(x) (x)
#define TAKT__STACK_POINTER() ((uintptr_t)0)
#endif

TAKT__EXTERN_C_BEGIN

/* ==========================================================================
 * >>time - nanoseconds, signed, 64 bits
 * ======================================================================== */

/* Nanoseconds: a duration, or a point on the loop's clock (CLOCK_MONOTONIC on
 * the real backends, virtual in a simulation). */
typedef int64_t takt_ns;

#define TAKT_US ((takt_ns)1000)
#define TAKT_MS (1000 * TAKT_US)
#define TAKT_SEC (1000 * TAKT_MS)
#define TAKT_FOREVER INT64_MAX /* as a wait or a deadline: none */

/* `when` + `ns`, saturating: a far deadline is TAKT_FOREVER, never the past. */
static inline takt_ns takt_after(takt_ns when, takt_ns ns)
{
    if (ns <= 0)
        return when;
    return when > TAKT_FOREVER - ns ? TAKT_FOREVER : when + ns;
}

/* ==========================================================================
 * >>outcome - what an error code means, and its words
 *
 * Errors are negative errno values, or one of takt's own codes below. Zero and
 * above is success. Two of the codes are not failures: would-block ("nothing
 * yet, try again") and more ("this is usable, and further ones follow").
 * ======================================================================== */

/* name, value, text: what happened, and what to do about it. */
#define TAKT_ERRORS(X)                                                                       \
    X(TAKT_EWOULDBLOCK, -20001, "would block: nothing yet, try again")                       \
    X(TAKT_EMORE, -20002, "expect more: usable now, further completions follow")             \
    X(TAKT_EDISPOSED, -20003, "the loop was drained; init it again before using it")         \
    X(TAKT_ELIVETOKEN, -20004, "the backend returned a token that is still in flight")       \
    X(TAKT_EMULTISHOT, -20005, "a one-shot operation was completed with more to come")       \
    X(TAKT_ESTRANDS, -20006,                                                                 \
      "no strand is free; raise TAKT_POOL(.strands) or the config's strands")                \
    X(TAKT_EDEFERS, -20007, "more than TAKT_DEFERS_MAX defers; make a part its own coroutine") \
    X(TAKT_ESTACK, -20008,                                                                   \
      "an operation points into the C stack; keep its memory in the coroutine's struct")     \
    X(TAKT_EBREAK, -20009, "a break left the coroutine's body; use TAKT_RETURN")             \
    X(TAKT_ERESUME, -20010, "no such suspension; is there a TAKT_ word inside a switch?")    \
    X(TAKT_ECLOSED, -20011, "the descriptor was closed while the operation was in flight")   \
    X(TAKT_ETRUNCATED, -20012, "the peer ended the stream before all bytes had arrived")     \
    X(TAKT_ESTOPPING, -20013, "the loop is stopping; no new work")                           \
    X(TAKT_EBUFFER, -20014, "a leased buffer was returned twice, or to the wrong pool")      \
    X(TAKT_ERUNNING, -20015, "this frame is still running; give the new one its own struct") \
    X(TAKT_ERANGE, -20016, "a thrown error must be negative; TAKT_SYS makes it so")          \
    X(TAKT_ESELF, -20017, "the socket connected to itself; is the server down?")

enum {
#define TAKT__X(name, value, text) name = value,
    TAKT_ERRORS(TAKT__X)
#undef TAKT__X
};

/* The code with which a cancelled await ends. */
#define TAKT_ECANCELED (-ECANCELED)

/* What a code stands for. FAILURE is 0: a zeroed outcome never reads as success. */
typedef enum takt_outcome {
    TAKT_OUTCOME_FAILURE,
    TAKT_OUTCOME_OK,
    TAKT_OUTCOME_WOULD_BLOCK,
    TAKT_OUTCOME_MORE
} takt_outcome;

/* Classifies a code; total, and depends on nothing else. */
static inline takt_outcome takt_classify(int64_t code)
{
    if (TAKT__LIKELY(code >= 0))
        return TAKT_OUTCOME_OK;
    if (code == TAKT_EWOULDBLOCK)
        return TAKT_OUTCOME_WOULD_BLOCK;
    return code == TAKT_EMORE ? TAKT_OUTCOME_MORE : TAKT_OUTCOME_FAILURE;
}

/* True for would-block and more: an answer, but not a plain success. */
static inline bool takt_is_semantic(int64_t code)
{
    return code == TAKT_EWOULDBLOCK || code == TAKT_EMORE;
}

/* True unless the code is a failure. */
static inline bool takt_is_nonfailure(int64_t code)
{
    return takt_classify(code) != TAKT_OUTCOME_FAILURE;
}

/* True if there is usable work now: success or more. */
static inline bool takt_is_progress(int64_t code)
{
    return code >= 0 || code == TAKT_EMORE;
}

/* "OK", "WouldBlock", "More"; anything else: "Failure". */
const char *takt_outcome_name(takt_outcome outcome);

/* The words for an error code, takt's or a negative errno; never NULL. */
const char *takt_strerror(int error);

/* ==========================================================================
 * >>op - operation descriptors: plain values that say what is wanted
 *
 * An op becomes a request only when a coroutine awaits it. Whatever it points
 * to must stay put until the await has returned: keep it in the frame.
 *
 * Unless it says otherwise, an op on a descriptor fails with what the system
 * call of its name fails with; with -EBUSY if another op already waits for the
 * same direction of the same descriptor; with TAKT_ECLOSED if the descriptor is
 * closed meanwhile; with -ETIMEDOUT under takt_within() and takt_by().
 * Lengths above 1 GiB are served 1 GiB at a time.
 * ======================================================================== */

/* kind, its word in dumps, which direction of the descriptor it occupies. */
#define TAKT_OPS(X)                  \
    X(NONE, "nothing", NEITHER)      \
    X(SLEEP, "sleep", NEITHER)       \
    X(EVENT, "event", NEITHER)       \
    X(ACQUIRE, "semaphore", NEITHER) \
    X(NOP, "nop", NEITHER)           \
    X(ACCEPT, "accept", READER)      \
    X(CONNECT, "connect", WRITER)    \
    X(DIAL, "connect", WRITER)       \
    X(RECV, "recv", READER)          \
    X(SEND, "send", WRITER)          \
    X(RECVFROM, "recvfrom", READER)  \
    X(SENDTO, "sendto", WRITER)      \
    X(LEASE, "recv", READER)         \
    X(READY, "readiness", EITHER)    \
    X(READ, "read", READER)          \
    X(WRITE, "write", WRITER)        \
    X(SIGNAL, "signal", READER)      \
    X(SHUTDOWN, "shutdown", NEITHER) \
    X(CLOSE, "close", BOTH)          \
    X(SOCKET, "socket", CALL)        \
    X(BIND, "bind", CALL)            \
    X(LISTEN, "listen", CALL)        \
    X(SETOPT, "setsockopt", CALL)    \
    X(GETOPT, "getsockopt", CALL)    \
    X(SOCKNAME, "getsockname", CALL) \
    X(PEERNAME, "getpeername", CALL) \
    X(SIGNALS, "signalfd", CALL)

/* What an op asks for. */
typedef enum takt_op_kind {
#define TAKT__X(kind, word, direction) TAKT_OP_##kind,
    TAKT_OPS(TAKT__X)
#undef TAKT__X
        TAKT_OP_COUNT,
    TAKT_OP_FIRST_OF_BACKEND = TAKT_OP_NOP /* what stands before is the scheduler's */
} takt_op_kind;

enum {                   /* takt_op.flags */
    TAKT_OP_ALL = 1,     /* complete only when all bytes are done */
    TAKT_OP_VECTOR = 2,  /* buf is an array of struct iovec, len its count */
    TAKT_OP_DEADLINE = 4 /* `when` is a point in time, not a duration */
};

struct iovec;

/* 64 bytes. The user's part is set by the constructors below. */
typedef struct takt_op {
    uint8_t kind; /* takt_op_kind */
    uint8_t flags;
    uint16_t state; /* the backend's, while in flight */
    int32_t fd;
    void *buf;
    size_t len; /* bytes, or iovecs */
    union {
        void *ptr;       /* address, buffer pool, event */
        int64_t offset;  /* read, write: file offset, -1 = current */
        takt_ns sleep;   /* sleep: how long, or until when */
        uint64_t done;   /* send, recv_all: bytes done so far */
    } arg;
    uint32_t bits;  /* message flags, poll events, option name */
    uint32_t extra; /* address length, option level, winner */
    takt_ns when;   /* its limit: a duration, or a deadline; 0 = none */
    int64_t result; /* >= 0, or an error */
    struct takt_op *next; /* the backend's, while in flight */
} takt_op;

TAKT__STATIC_ASSERT(sizeof(takt_op) <= 64, "an op is one cache line");

static inline takt_op takt__op(takt_op_kind kind, int fd, const void *buf, size_t len)
{
    takt_op op;
    op.kind = (uint8_t)kind;
    op.flags = 0;
    op.state = 0;
    op.fd = fd;
    op.buf = (void *)(uintptr_t)buf;
    op.len = len;
    op.arg.done = 0;
    op.bits = 0;
    op.extra = 0;
    op.when = 0;
    op.result = 0;
    op.next = NULL;
    return op;
}

/* Completes with 0, by way of the backend. */
TAKT__MUST_USE static inline takt_op takt_nop(void)
{
    return takt__op(TAKT_OP_NOP, -1, NULL, 0);
}

/* Suspends for `ns` nanoseconds; never less, and more by at most TAKT_TICK and
 * what a turn takes. Result: 0. */
TAKT__MUST_USE static inline takt_op takt_sleep(takt_ns ns)
{
    takt_op op = takt__op(TAKT_OP_SLEEP, -1, NULL, 0);
    op.arg.sleep = ns > 0 ? ns : 1;
    return op;
}

/* Suspends until the loop's clock reaches `when`. Result: 0. */
TAKT__MUST_USE static inline takt_op takt_sleep_until(takt_ns when)
{
    takt_op op = takt__op(TAKT_OP_SLEEP, -1, NULL, 0);
    op.arg.sleep = when > 0 ? when : 1;
    op.flags = TAKT_OP_DEADLINE;
    return op;
}

struct takt_addr;

/* The next connection of a listening socket: accept4(2). `peer`: where to put
 * its address, or NULL. Result: its descriptor, yours to close; it has
 * SOCK_CLOEXEC and SOCK_NONBLOCK. Fails with TAKT_ESTOPPING once the loop is
 * stopping. */
TAKT__MUST_USE static inline takt_op takt_accept(int listener, struct takt_addr *peer)
{
    takt_op op = takt__op(TAKT_OP_ACCEPT, listener, NULL, 0);
    op.arg.ptr = peer;
    return op;
}

/* Connects the socket `fd` to `addr`: connect(2). Result: 0. */
TAKT__MUST_USE static inline takt_op takt_connect(int fd, const struct takt_addr *addr)
{
    takt_op op = takt__op(TAKT_OP_CONNECT, fd, NULL, 0);
    op.arg.ptr = (void *)(uintptr_t)addr;
    return op;
}

/* Makes a stream socket of the address's family and connects it. Result: its
 * descriptor, yours to close; nothing is left behind when it fails. A socket
 * that connected to itself fails with TAKT_ESELF. */
TAKT__MUST_USE static inline takt_op takt_tcp_connect(const struct takt_addr *addr)
{
    takt_op op = takt__op(TAKT_OP_DIAL, -1, NULL, 0);
    op.arg.ptr = (void *)(uintptr_t)addr;
    return op;
}

/* Receives what is there, at most `len` bytes. `flags` as for recv(2). Result:
 * bytes, 0 at the end of the stream. */
TAKT__MUST_USE static inline takt_op takt_recv_flags(int fd, void *buf, size_t len, int flags)
{
    takt_op op = takt__op(TAKT_OP_RECV, fd, buf, len);
    op.bits = (uint32_t)flags;
    return op;
}

/* takt_recv_flags() without flags. */
TAKT__MUST_USE static inline takt_op takt_recv(int fd, void *buf, size_t len)
{
    return takt__op(TAKT_OP_RECV, fd, buf, len);
}

/* Receives exactly `len` bytes. Result: `len`. If the peer ends the stream
 * first: TAKT_ETRUNCATED, and takt_done() tells how many arrived. */
TAKT__MUST_USE static inline takt_op takt_recv_all(int fd, void *buf, size_t len)
{
    takt_op op = takt__op(TAKT_OP_RECV, fd, buf, len);
    op.flags = TAKT_OP_ALL;
    return op;
}

/* Receives into `count` (1 to 1024) buffers, filling one after the other. The
 * array too must stay put. Result: bytes, 0 at the end of the stream. */
TAKT__MUST_USE static inline takt_op takt_recvv(int fd, const struct iovec *bufs, int count)
{
    takt_op op = takt__op(TAKT_OP_RECV, fd, bufs, (size_t)(count > 0 ? count : 0));
    op.flags = TAKT_OP_VECTOR;
    return op;
}

struct takt_bufs;

/* Receives into a buffer of `pool`, taken when there is data: whoever waits in
 * silence holds no buffer. `data`: where to put its address; it is set exactly
 * when the result is above 0, and the buffer is then yours until takt_bufs_put().
 * Result: bytes, 0 at the end of the stream. An empty pool is waited for, first
 * come, first served. */
TAKT__MUST_USE static inline takt_op takt_recv_lease(int fd, struct takt_bufs *pool,
                                                     unsigned char **data)
{
    takt_op op = takt__op(TAKT_OP_LEASE, fd, data, 0);
    op.arg.ptr = pool;
    return op;
}

/* Sends all of `buf`. `flags` as for send(2); MSG_NOSIGNAL is always set.
 * Result: `len`. When it fails half way, takt_done() tells how many bytes went. */
TAKT__MUST_USE static inline takt_op takt_send_flags(int fd, const void *buf, size_t len,
                                                     int flags)
{
    takt_op op = takt__op(TAKT_OP_SEND, fd, buf, len);
    op.flags = TAKT_OP_ALL;
    op.bits = (uint32_t)flags;
    return op;
}

/* takt_send_flags() without flags. */
TAKT__MUST_USE static inline takt_op takt_send(int fd, const void *buf, size_t len)
{
    return takt_send_flags(fd, buf, len, 0);
}

/* Sends all of `count` (1 to 1024) buffers. The array too must stay put.
 * Result: the sum of their lengths. */
TAKT__MUST_USE static inline takt_op takt_sendv(int fd, const struct iovec *bufs, int count)
{
    takt_op op = takt__op(TAKT_OP_SEND, fd, bufs, (size_t)(count > 0 ? count : 0));
    op.flags = TAKT_OP_ALL | TAKT_OP_VECTOR;
    return op;
}

/* Sends one datagram. `to`: where, or NULL on a connected socket. Several may
 * wait on one socket. Result: `len`. */
TAKT__MUST_USE static inline takt_op takt_sendto(int fd, const void *buf, size_t len,
                                                 const struct takt_addr *to)
{
    takt_op op = takt__op(TAKT_OP_SENDTO, fd, buf, len);
    op.arg.ptr = (void *)(uintptr_t)to;
    return op;
}

/* Receives one datagram. `from`: where to put its sender, or NULL. Result: its
 * length; if that is above `len`, the rest was cut off (MSG_TRUNC). */
TAKT__MUST_USE static inline takt_op takt_recvfrom(int fd, void *buf, size_t len,
                                                   struct takt_addr *from)
{
    takt_op op = takt__op(TAKT_OP_RECVFROM, fd, buf, len);
    op.arg.ptr = from;
    return op;
}

enum { TAKT_SHUT_READ, TAKT_SHUT_WRITE, TAKT_SHUT_BOTH }; /* SHUT_RD, SHUT_WR, SHUT_RDWR */

/* Ends one direction or both: shutdown(2). Result: 0. A socket that is no longer
 * connected is a success. */
TAKT__MUST_USE static inline takt_op takt_shutdown(int fd, int how)
{
    takt_op op = takt__op(TAKT_OP_SHUTDOWN, fd, NULL, 0);
    op.bits = (uint32_t)how;
    return op;
}

/* Cancels what is in flight on `fd`, waits until it is over, and closes it. It
 * always acts, also in a coroutine that is being cancelled. A negative `fd` is
 * none, and a success. Result: 0. */
TAKT__MUST_USE static inline takt_op takt_close(int fd)
{
    return takt__op(TAKT_OP_CLOSE, fd, NULL, 0);
}

enum { TAKT_READABLE = 1, TAKT_WRITABLE = 4 }; /* POLLIN, POLLOUT */

/* Suspends until `fd` is ready for one of `events`. Result: the events that hold,
 * POLLERR and POLLHUP among them. */
TAKT__MUST_USE static inline takt_op takt_ready(int fd, int events)
{
    takt_op op = takt__op(TAKT_OP_READY, fd, NULL, 0);
    op.bits = (uint32_t)events;
    return op;
}

/* read(2) and pread(2): `offset` -1 reads at the current position. Result: bytes,
 * maybe fewer than `len`; 0 at the end. On the portable backend regular files
 * are read where they stand, and other descriptors must be non-blocking. */
TAKT__MUST_USE static inline takt_op takt_read(int fd, void *buf, size_t len, int64_t offset)
{
    takt_op op = takt__op(TAKT_OP_READ, fd, buf, len);
    op.arg.offset = offset;
    return op;
}

/* write(2) and pwrite(2), as takt_read(). On a socket or a pipe without a reader
 * it raises SIGPIPE unless that is ignored: use takt_send() on sockets. */
TAKT__MUST_USE static inline takt_op takt_write(int fd, const void *buf, size_t len,
                                                int64_t offset)
{
    takt_op op = takt__op(TAKT_OP_WRITE, fd, buf, len);
    op.arg.offset = offset;
    return op;
}

/* The next signal of a descriptor that takt_signals() made. Result: its number. */
TAKT__MUST_USE static inline takt_op takt_signal(int fd)
{
    return takt__op(TAKT_OP_SIGNAL, fd, NULL, 0);
}

/* The same op, but it fails with -ETIMEDOUT after `ns` nanoseconds. */
TAKT__MUST_USE static inline takt_op takt_within(takt_ns ns, takt_op op)
{
    if (op.kind != TAKT_OP_SLEEP)
        op.flags &= (uint8_t)~TAKT_OP_DEADLINE;
    op.when = ns > 0 ? ns : 1;
    return op;
}

/* The same op, but it fails with -ETIMEDOUT once the loop's clock reaches
 * `deadline`. Not for takt_sleep(). */
TAKT__MUST_USE static inline takt_op takt_by(takt_ns deadline, takt_op op)
{
    op.flags |= TAKT_OP_DEADLINE;
    op.when = deadline > 0 ? deadline : 1;
    return op;
}

/* The word for an op's kind in dumps; never NULL. */
const char *takt_op_name(int kind);

/* ==========================================================================
 * >>memory - a pool of buffers to receive into, shared by all connections
 *
 * A buffer is taken when data is there and given back once; the newest comes
 * first, so that it is still in the cache. When the pool is empty, whoever wants
 * to receive waits in line. A pool belongs to one loop, and must outlive it.
 * ======================================================================== */

typedef struct takt_bufs {
    uint32_t size;  /* bytes a buffer */
    uint32_t count; /* buffers */
    uint32_t in_use;
    uint32_t in_use_max; /* the most that were out at the same time */
    uint64_t waits;      /* how often somebody had to wait for one */
    /* The pool's: */
    unsigned char *memory;
    uint32_t *next;  /* free list; TAKT__LEASED while it is out */
    uint32_t free;   /* head */
    uint32_t fresh;  /* buffers from here on were never touched */
    takt_op *waiting, *waiting_last; /* the backend's: ops that found it empty */
    struct takt_bufs *next_starved;
    bool starved;
} takt_bufs;

/* Allocates `count` buffers of `size` bytes, without touching them. 0, -EINVAL
 * if either is 0 or their product overflows, or -ENOMEM. */
int takt_bufs_init(takt_bufs *bufs, uint32_t count, uint32_t size);

/* Frees the memory. No buffer may be in use. */
void takt_bufs_free(takt_bufs *bufs);

/* Takes a buffer, or NULL if none is free. */
unsigned char *takt_bufs_take(takt_bufs *bufs);

/* Gives a buffer back and sets `*data` to NULL; nothing if it is NULL already,
 * so that a loop and a defer may both do it. Any address inside the buffer will
 * do. 0, or TAKT_EBUFFER. */
int takt_bufs_put(takt_bufs *bufs, unsigned char **data);

#ifndef TAKT_NO_POSIX
/* If no buffer is in use, gives their pages back to the system. */
void takt_bufs_trim(takt_bufs *bufs);
#endif

/* ==========================================================================
 * >>backend - what a loop asks of the thing that performs operations
 *
 * A backend takes ops, and later returns completions that carry their tokens.
 * It does not know that coroutines exist. For a backend `B` a loop calls:
 *
 *   B_config                      a struct; zeroed, its defaults
 *   int  B_init(B *, const B_config *, const takt_slots *)      0 or an error
 *   void B_free(B *)              nothing is in flight any more
 *   takt_ns B_now(B *)            the clock
 *   int  B_submit(B *, takt_op *, takt_token *)
 *            0 or an error. The op stays put until its terminal completion. It
 *            never completes in here, also when it could: that comes from poll.
 *            The token is offered; a backend may put a key of its own in place.
 *   void B_cancel(B *, takt_op *)  asks for an early end. The op completes all
 *            the same, with -ECANCELED or with what it had done. Never refused.
 *   int  B_poll(B *, takt_completion *, int max, takt_ns wait)
 *            flushes what was submitted, waits up to `wait` ns (0: not at all)
 *            for something to complete, returns how many, or an error that is
 *            the end of the loop. TAKT_EWOULDBLOCK: nothing, not an error.
 *   void B_flush(B *)             makes the system see what was submitted
 *   bool B_busy(B *)              completions wait that no descriptor announces
 *   int  B_fd(B *)                becomes readable when poll has work, or -1
 *   int64_t B_call(B *, takt_op *) what does not wait: socket, bind, options ...
 * ======================================================================== */

/* Correlates a completion with its op: generation in the high, index in the low
 * half. Any value is legal. */
typedef uint64_t takt_token;

/* Where an op lives while it is in flight. The generation rises with every
 * submission, so that a late completion finds nothing. */
typedef struct takt_slot {
    takt_op op; /* first */
    uint32_t generation;
    uint32_t index;
} takt_slot;

/* The loop's slots, for backends that look one up by its token. */
typedef struct takt_slots {
    unsigned char *base;
    uint32_t stride; /* bytes from one to the next */
    uint32_t count;
} takt_slots;

/* One completion of one op. */
typedef struct takt_completion {
    takt_token token;
    int64_t value;  /* what the op yields; meaningful beside a failure too */
    int32_t error;  /* 0, TAKT_EWOULDBLOCK, TAKT_EMORE, or a failure */
    uint32_t flags; /* the backend's */
    void *payload;  /* what is lost if nobody wants this completion */
} takt_completion;

/* The token of the slot at `index` in its present generation. */
static inline takt_token takt_token_make(uint32_t generation, uint32_t index)
{
    return (uint64_t)generation << 32 | index;
}

/* The token of an op that is in flight. */
static inline takt_token takt_token_of(const takt_op *op)
{
    const takt_slot *slot = (const takt_slot *)(const void *)op;
    return takt_token_make(slot->generation, slot->index);
}

/* The slot at `index`, which must be in range. */
static inline takt_slot *takt_slot_at(const takt_slots *slots, uint32_t index)
{
    return (takt_slot *)(void *)(slots->base + (size_t)index * slots->stride);
}

/* The slot that `token` stands for, or NULL if it is stale or was never ours. */
static inline takt_slot *takt_slot_find(const takt_slots *slots, takt_token token)
{
    const uint32_t index = (uint32_t)token;
    takt_slot *slot;
    if (index >= slots->count)
        return NULL;
    slot = takt_slot_at(slots, index);
    return slot->generation == (uint32_t)(token >> 32) ? slot : NULL;
}

/* -- descriptors: which ops are in flight on each ------------------------- */

/* One descriptor; slots are counted from 1, 0 is none. */
typedef struct takt_fd {
    uint32_t reader; /* the op that waits to read */
    uint32_t writer; /* the op that waits to write; datagrams chain by op.next */
    uint32_t writer_last;
    uint32_t closer; /* the close that waits for both to end */
    uint32_t bits;   /* the backend's */
} takt_fd;

/* All descriptors of a backend, by number. Untouched entries cost no memory. */
typedef struct takt_fds {
    takt_fd *at;
    int count;
    const takt_slots *slots;
} takt_fds;

/* For `count` descriptors; 0 takes the soft limit of RLIMIT_NOFILE, at most 2^20.
 * 0 or -ENOMEM. */
int takt_fds_init(takt_fds *fds, int count, const takt_slots *slots);
/* Frees the table. */
void takt_fds_free(takt_fds *fds);
/* Puts `op` in its place. 0, -EBADF, -EMFILE (beyond the table), or -EBUSY. */
int takt_fds_enter(takt_fds *fds, takt_op *op);
/* Takes `op` out. If a close waited for that: the close op, now free to act. */
takt_op *takt_fds_leave(takt_fds *fds, takt_op *op);
/* The op in a place of the table, or NULL. */
static inline takt_op *takt_fds_op(const takt_fds *fds, uint32_t place)
{
    return place ? &takt_slot_at(fds->slots, place - 1)->op : NULL;
}

/* ==========================================================================
 * >>net - addresses, and calls on sockets that never wait
 *
 * The calls take the frame and are answered by its loop's backend, so that the
 * same program runs on a simulated network. They return 0 or more, or a negative
 * errno. Sockets are made non-blocking and close-on-exec.
 * ======================================================================== */

typedef struct takt_frame takt_frame;

/* An address of any family: IPv4, IPv6, Unix. All zero is none. */
typedef struct takt_addr {
    uint32_t len; /* of the sockaddr in here */
    uint32_t reserved;
    union {
        uint64_t align;
        unsigned char bytes[112];
    } sockaddr; /* a struct sockaddr */
} takt_addr;

enum { TAKT_ADDR_TEXT = 128 }; /* room for any address as text */

/* Reads "127.0.0.1:80", "[::1]:80", ":80" (any IPv4 address) or "unix:/path".
 * Numbers only: nothing is looked up. 0, or -EINVAL. */
int takt_addr_parse(takt_addr *addr, const char *text);

/* Writes `addr` the way takt_addr_parse() reads it. Returns `text`. */
const char *takt_addr_format(const takt_addr *addr, char *text, size_t size);

/* The port, or 0. */
int takt_addr_port(const takt_addr *addr);

/* True if both name the same family, host and port, or the same path. */
bool takt_addr_equal(const takt_addr *a, const takt_addr *b);

/* A listening stream socket, with SO_REUSEADDR; the file of a dead Unix socket is
 * replaced. `backlog` 0: the system's largest. Result: its descriptor. */
int takt_listen(takt_frame *frame, const takt_addr *addr, int backlog);

/* A datagram socket bound to `addr`. Result: its descriptor. */
int takt_udp_bind(takt_frame *frame, const takt_addr *addr);

/* A socket: socket(2). Result: its descriptor. */
int takt_socket(takt_frame *frame, int family, int type, int protocol);

/* The address that `fd` is bound to. 0 or an error. */
int takt_sockname(takt_frame *frame, int fd, takt_addr *addr);

/* The address that `fd` is connected to. 0 or an error. */
int takt_peername(takt_frame *frame, int fd, takt_addr *addr);

/* setsockopt(2) with an int. 0 or an error. */
int takt_setsockopt(takt_frame *frame, int fd, int level, int name, int value);

/* getsockopt(2) of an int. 0 or an error. */
int takt_getsockopt(takt_frame *frame, int fd, int level, int name, int *value);

/* What a TCP connection may be told. Zero leaves the system's default. */
typedef struct takt_tcp {
    bool nodelay;            /* send small messages at once */
    takt_ns keepalive;       /* probe a silent peer after this long; whole seconds */
    takt_ns user_timeout;    /* give up when data stays unacknowledged; milliseconds */
    int receive_buffer;      /* bytes */
    int send_buffer;         /* bytes */
} takt_tcp;

/* Applies `options` to `fd`; to a Unix socket, those that it knows. 0 or the first
 * error. */
int takt_tcp_options(takt_frame *frame, int fd, const takt_tcp *options);

/* From here on the close of `fd` sends a reset: the peer learns that what it got is not
 * all. 0 or an error. */
int takt_reset_on_close(takt_frame *frame, int fd);

/* A descriptor for takt_signal(), which from here on takes the place of the usual
 * action of these signals. `mask`: 1u << number, or'ed. They are blocked in the
 * calling thread, and stay so. Linux; elsewhere -ENOSYS. */
int takt_signals(takt_frame *frame, uint64_t mask);

/* Raises the soft limit of descriptors to the hard one: before a loop's init, which
 * sizes its table by it. Result: the limit now. */
int takt_raise_fd_limit(void);

/* ==========================================================================
 * >>posix - the portable backend: epoll on Linux, poll elsewhere
 *
 * An op is tried when its descriptor may be ready, and waits otherwise. Nothing
 * is allocated after init. Regular files are read and written where they stand.
 * ======================================================================== */

typedef struct takt_posix_config {
    int fds_max;       /* descriptors; 0: RLIMIT_NOFILE at init, at most 2^20 */
    bool poll_instead; /* poll(2) even where there is epoll */
} takt_posix_config;

/* The backend; it allocates in init, and must not move from there on. */
typedef struct takt_posix {
    takt_fds fds;
    uint32_t *run_next;               /* by descriptor: the list of those to try */
    uint32_t run_first, run_last;     /* descriptor + 1 */
    takt_op *done_first, *done_last;  /* complete, not yet polled */
    takt_bufs *starved;               /* pools that somebody waits for */
    struct pollfd *polls;             /* poll(2) only */
    int fd_limit;                     /* descriptors at and above it were never used */
    int epoll;                        /* -1: poll(2) */
    int skipped;                      /* polls in a row that did not ask the system */
} takt_posix;

/* The backend functions, as >>backend describes them. */
int takt_posix_init(takt_posix *posix, const takt_posix_config *config, const takt_slots *slots);
void takt_posix_free(takt_posix *posix);
takt_ns takt_posix_now(takt_posix *posix);
int takt_posix_submit(takt_posix *posix, takt_op *op, takt_token *token);
void takt_posix_cancel(takt_posix *posix, takt_op *op);
int takt_posix_poll(takt_posix *posix, takt_completion *done, int max, takt_ns wait);
void takt_posix_flush(takt_posix *posix);
bool takt_posix_busy(takt_posix *posix);
int takt_posix_fd(takt_posix *posix);
int64_t takt_posix_call(takt_posix *posix, takt_op *op);
/* "epoll" or "poll". */
const char *takt_posix_name(const takt_posix *posix);

/* ==========================================================================
 * >>frame - one activation of one coroutine
 *
 * The first member of every coroutine's struct. A frame never moves while its
 * coroutine is alive, and it outlives every child started from it. All zero is
 * a frame that was never started. 48 bytes.
 * ======================================================================== */

struct takt_strand;
struct takt_sched;

/* What a body hands back. A struct, so that `return 0;` in a body does not
 * compile: a coroutine leaves with TAKT_RETURN, TAKT_THROW or TAKT_END. */
typedef struct takt_leave_with_TAKT_RETURN {
    int go;
} takt_status;

typedef takt_status takt_body(takt_frame *takt_self);

/* What is the same in all activations of a coroutine. */
typedef struct takt_coro {
    takt_body *body;
    const char *name;
    const char *file;
    uint32_t line; /* of its TAKT_BEGIN */
    uint32_t size; /* of its struct */
} takt_coro;

/* A frame's header. Read what the functions below tell instead. */
struct takt_frame {
    union {
        const takt_coro *coro; /* once it has run: its name, for gdb */
        takt_body *first;      /* until then */
    } of;
    takt_frame *parent; /* the caller or the starter; NULL for a task */
    struct takt_strand *strand;
    uint32_t line; /* where it is suspended */
    int32_t error; /* 0, or the error it failed with; in TAKT_CATCH: what was thrown */
    /* The scheduler's: */
    uint32_t children; /* started here and still alive */
    uint8_t state;
    uint8_t bits;
    uint8_t defer_count;
    uint8_t reserved;
    uint16_t defers[TAKT_DEFERS_MAX]; /* lines below TAKT_BEGIN */
};

TAKT__STATIC_ASSERT(sizeof(takt_frame) <= 48, "a frame's header is at most 48 bytes");

/* The loop's clock, read at most once a turn. */
takt_ns takt_now(const takt_frame *frame);

/* True from its start until it has finished. A frame that is not alive may be
 * freed or used again. */
bool takt_alive(const takt_frame *frame);

/* True once it has run to its end, one way or another. */
bool takt_finished(const takt_frame *frame);

/* 0, or the error with which it finished; TAKT_ECANCELED if it was cancelled. */
int takt_error(const takt_frame *frame);

/* How many bytes the frame's last send or recv_all had done when it failed. */
uint64_t takt_done(const takt_frame *frame);

/* Orders a coroutine to stop: what it awaits is cancelled, its children too, then
 * its defers run. Returns at once. Nothing if it is not alive. Of a called frame
 * the call is cancelled: it throws TAKT_ECANCELED in the caller. */
void takt_cancel(takt_frame *frame);

/* ==========================================================================
 * >>keywords - the language of coroutine bodies
 *
 *   Only what lives in the struct survives a suspension.
 *   Nothing started in a frame outlives it: on the way out its children are
 *   cancelled and awaited, then the catch runs, then the defers, last first.
 *   Errors can be caught; a cancellation cannot, it only runs defers.
 *   An await either completes or is cancelled, never both: a result that arrived
 *   is delivered, and the order to stop takes the next await.
 *
 * Words that may suspend must not stand inside a switch of yours: use an if-chain.
 * ======================================================================== */

/* Declares or defines a coroutine: `static TAKT_CORO(echo) { ... }`. Its struct is
 * `struct echo`; the function behind it is named echo_coro. */
#define TAKT_CORO(coro) takt_status coro##_coro(takt_frame *takt_self)

/* Opens the body of `coro`. `my` becomes a `struct coro *`. */
#define TAKT_BEGIN(coro, my) TAKT__BEGIN(coro, my)

/* Closes the body. Reaching it returns. */
#define TAKT_END TAKT__END

/* Leaves the coroutine; results stay in its struct for the caller to read. */
#define TAKT_RETURN                                                                          \
    do {                                                                                     \
        takt__return(takt_self);                                                             \
        goto takt__unwind;                                                                   \
    } while (0)

/* TAKT_AWAIT(op) or TAKT_AWAIT(result, op): suspends until `op` completes. A failure
 * is thrown; `result` is stored first, even then. */
#define TAKT_AWAIT(...)                                                                      \
    TAKT__PICK3(__VA_ARGS__, TAKT_AWAIT_takes_one_or_two_arguments, TAKT__AWAIT2,            \
                TAKT__AWAIT1, ~)                                                             \
    (__VA_ARGS__)

/* Like TAKT_AWAIT(result, op), but a failure is handed to you: `result` < 0. It must
 * be signed and at least an int. */
#define TAKT_TRY_AWAIT(result, op) TAKT__TRY_AWAIT(result, op, __LINE__)

/* Submits `count` ops together and suspends until all have completed. Their failures
 * are not thrown: each carries its own .result. They draw on the loop's strands; what
 * does not fit waits in order, and one at a time always fits. */
#define TAKT_AWAIT_ALL(ops, count) TAKT__AWAIT_ALL(ops, count, __LINE__)

/* Lets everything else that is ready run first. */
#define TAKT_YIELD TAKT__YIELD(__LINE__)

/* TAKT_CALL(my->child, name, .arg = value, ...): runs another coroutine in a struct
 * that you own and suspends until it has finished. Its error is thrown. Up to sixteen
 * arguments; they are evaluated once, before the struct is cleared, and gathered in a
 * copy of it on the C stack. */
#define TAKT_CALL(child, ...)                                                                \
    TAKT__CALL(child, __LINE__, TAKT__HEAD(__VA_ARGS__, ~), __VA_ARGS__)

/* Like TAKT_CALL, but its error is handed to you: `err` is 0 or < 0. */
#define TAKT_TRY_CALL(err, child, ...)                                                       \
    TAKT__TRY_CALL(err, child, __LINE__, TAKT__HEAD(__VA_ARGS__, ~), __VA_ARGS__)

/* Like TAKT_CALL, but the callee is cancelled after `ns` nanoseconds, with whatever it
 * has called or started, and -ETIMEDOUT is thrown. Takes a strand, as TAKT_START. */
#define TAKT_CALL_WITHIN(ns, child, ...)                                                     \
    TAKT__CALL_WITHIN(ns, child, __LINE__, TAKT__HEAD(__VA_ARGS__, ~), __VA_ARGS__)

/* TAKT_START(my->child, name, .arg = value, ...): runs it alongside, on a strand of its
 * own. Does not suspend; it runs to its first await in any case. If the child fails,
 * whatever this frame awaits is interrupted and the error is thrown here. Throws
 * TAKT_ESTRANDS if no strand is free. */
#define TAKT_START(child, ...)                                                               \
    TAKT__START(child, __LINE__, TAKT__HEAD(__VA_ARGS__, ~), __VA_ARGS__)

/* Suspends until all the named children have finished; without arguments, all children
 * of this frame. At most eight. */
#define TAKT_JOIN(...) TAKT__JOIN(__LINE__, __VA_ARGS__)

/* Suspends until one of the named children has succeeded, cancels the others and waits
 * for them too. `winner`: its index among the arguments. One that fails does not end
 * the race; if all fail, the last error is thrown. */
#define TAKT_RACE(winner, ...) TAKT__RACE(winner, __LINE__, __VA_ARGS__)

/* TAKT_SPAWN(name, .arg = value, ...): starts an independent task on this loop, in
 * memory of the loop's: list it with TAKT_POOL(). False if the pool is full, the loop
 * is stopping, or it was not listed; then the arguments were not evaluated. */
#define TAKT_SPAWN(...)                                                                      \
    TAKT__SPAWN(takt_sched_of(takt_self), NULL, NULL, TAKT__HEAD(__VA_ARGS__, ~), __VA_ARGS__)

/* The same, from outside any coroutine: TAKT_SPAWN_ON(&loop, name, ...). */
#define TAKT_SPAWN_ON(loop, ...)                                                             \
    TAKT__SPAWN(&(loop)->sched, NULL, NULL, TAKT__HEAD(__VA_ARGS__, ~), __VA_ARGS__)

/* TAKT_GO(my->group, name, ...): as TAKT_SPAWN, but it belongs to a takt_group of this
 * frame: it is cancelled and awaited before the frame ends. */
#define TAKT_GO(group, ...)                                                                  \
    TAKT__SPAWN(takt_sched_of(takt_self), &(group), takt_self,                               \
                TAKT__HEAD(__VA_ARGS__, ~), __VA_ARGS__)

/* The same from outside: the group stands in memory of yours. */
#define TAKT_GO_ON(loop, group, ...)                                                         \
    TAKT__SPAWN(&(loop)->sched, &(group), NULL, TAKT__HEAD(__VA_ARGS__, ~), __VA_ARGS__)

/* Suspends until the group is empty. Anybody may wait for it, as long as it stands. */
#define TAKT_JOIN_GROUP(group) TAKT__JOIN_GROUP(group, __LINE__)

/* TAKT_START_ON(&loop, object, name, .arg = value, ...): starts a coroutine in a struct
 * of yours, from outside any coroutine. True, or false if no strand is free or the loop
 * is stopping. The struct may go once takt_alive(&object.frame) is false. `object` is
 * evaluated once for every argument. */
#define TAKT_START_ON(loop, object, ...)                                                     \
    TAKT__START_ON(&(loop)->sched, object, TAKT__HEAD(__VA_ARGS__, ~), __VA_ARGS__)

/* Fails with `error`, which must be negative. */
#define TAKT_THROW(error)                                                                    \
    do {                                                                                     \
        takt__throw(takt_self, (error), __LINE__);                                           \
        goto takt__unwind;                                                                   \
    } while (0)

/* Throws if a plain C expression yields a negative error. */
#define TAKT_CHECK(expr)                                                                     \
    do {                                                                                     \
        const int64_t takt__rc = (int64_t)(expr);                                            \
        if (takt__rc < 0)                                                                    \
            TAKT_THROW((int)takt__rc);                                                       \
    } while (0)

/* For system calls that answer -1 and set errno: stores the result, or -errno, which is
 * thrown. */
#define TAKT_SYS(result, call)                                                               \
    do {                                                                                     \
        (result) = (call);                                                                   \
        if ((result) == -1) {                                                                \
            (result) = (-errno);                                                             \
            TAKT_THROW((int)(result));                                                       \
        }                                                                                    \
    } while (0)

/* TAKT_CATCH { ... }, once, last thing before TAKT_END: runs after a throw, when the
 * children have ended and before the defers, with the error in my->frame.error. Its
 * end is a return. */
#define TAKT_CATCH TAKT__CATCH_HERE

/* TAKT_DEFER { ... }: the block runs when the coroutine ends, however it ends, last
 * registered first. It may await; an error inside ends only the block. At most
 * TAKT_DEFERS_MAX at a time, else TAKT_EDEFERS is thrown. Not in a loop. */
#define TAKT_DEFER TAKT__DEFER_HERE(__LINE__)

/* ==========================================================================
 * >>timer - deadlines: O(1) to arm, re-arm and cancel, no allocation
 *
 * A hierarchical wheel. A timer fires at the first tick at or after its time,
 * never early; those of one tick fire in the order in which they were armed.
 * ======================================================================== */

#define TAKT_TICK ((takt_ns)1 << 17) /* 131 us */

enum { TAKT__LEVELS = 8, TAKT__SLOTS = 64 }; /* 48 bits of ticks: every deadline there is */

/* A timer stands in memory of its owner's; all zero is not armed. */
typedef struct takt_timer {
    struct takt_timer *next, *prev;
    takt_ns when;
} takt_timer;

/* All timers of a loop. It must not move while one is armed. */
typedef struct takt_wheel {
    uint64_t tick; /* everything up to here has fired */
    uint64_t used[TAKT__LEVELS];
    uint32_t count; /* armed */
    takt_timer due; /* list: fire next */
    takt_timer at[TAKT__LEVELS][TAKT__SLOTS]; /* lists */
} takt_wheel;

/* An empty wheel at `now`. */
void takt_wheel_init(takt_wheel *wheel, takt_ns now);
/* Arms or re-arms `timer` for `when`. */
void takt_timer_arm(takt_wheel *wheel, takt_timer *timer, takt_ns when);
/* Disarms it; nothing if it is not armed. */
void takt_timer_disarm(takt_wheel *wheel, takt_timer *timer);
/* The next timer that is due at `now`, disarmed; NULL when there is none. */
takt_timer *takt_wheel_expire(takt_wheel *wheel, takt_ns now);
/* Not later than the next timer is due; TAKT_FOREVER if none is armed. */
takt_ns takt_wheel_deadline(const takt_wheel *wheel);

/* True while it is armed. */
static inline bool takt_timer_armed(const takt_timer *timer)
{
    return timer->next != NULL;
}

/* ==========================================================================
 * >>sched - what every loop shares: strands, ready list, children, spawning
 *
 * A strand is suspended and resumed in O(1), whatever the depth of its calls. All
 * memory is allocated at init; nothing moves.
 * ======================================================================== */

/* What hangs on a frame beside its children, newest first. */
typedef struct takt_attached {
    struct takt_attached *next;
    takt_frame *owner;
    uint32_t kind;
    uint32_t limit_ms; /* idle only */
} takt_attached;

/* Two cache lines: a suspended chain of frames, or one request of a batch. */
typedef struct takt_strand {
    takt_slot slot;
    union {
        takt_frame *leaf;          /* runs or waits */
        struct takt_strand *owner; /* of a request */
    } who;
    union {
        takt_attached *attached; /* of the frames of this strand */
        takt_op *user_op;        /* of a request: where the result goes */
    } on;
    takt_timer timer; /* of its sleep, or of its op's limit */
    uint32_t next;    /* in the ready list, or in the free list */
    uint32_t sibling_next, sibling_prev;
    uint8_t wait;  /* what for */
    uint8_t flags;
    uint8_t racer;   /* its index in a race */
    uint8_t pumping; /* its batch is being submitted */
} takt_strand;

TAKT__STATIC_ASSERT(sizeof(void *) != 8 || sizeof(takt_strand) == 128,
                    "a strand is two cache lines");

/* Tasks with one owner: a frame, or a struct of yours. All zero is an empty group. */
typedef struct takt_group {
    takt_attached link;
    struct takt_sched *sched;
    uint32_t members;
    uint32_t count;      /* members alive */
    uint32_t failed;     /* members that ended with an error */
    int32_t first_error; /* of them, 0 if none */
    bool fail_fast;      /* in: the first error cancels all, and is thrown in the owner */
    bool waited_for;     /* by its owner */
    takt_op *waiting;    /* list: the joins of others */
} takt_group;

/* Cancels every member; returns at once. */
void takt_group_cancel(takt_group *group);

/* Fails the frame with -ETIMEDOUT when it is not touched for a while. */
typedef struct takt_idle {
    takt_attached link;
    takt_timer timer;
    takt_ns due;
} takt_idle;

/* From here on `frame` (the caller's own) is interrupted with -ETIMEDOUT when `idle` is
 * not touched for `limit` ns (at least 1 ms, at most 49 days). Ends with the frame. */
void takt_idle_start(takt_frame *frame, takt_idle *idle, takt_ns limit);
/* Starts the limit anew. */
void takt_idle_touch(takt_idle *idle);

/* A coroutine whose tasks the loop holds memory for. */
typedef struct takt_pool {
    takt_body *body;
    const char *name;
    uint32_t size;    /* of the struct */
    uint32_t count;   /* tasks alive at most */
    uint32_t strands; /* each of them uses: itself and what it starts; 0: 1 */
    /* The loop's: */
    uint32_t used, used_max;
    uint32_t fresh;
    uint64_t refused;
    void *free;
    unsigned char *memory;
} takt_pool;

/* What a loop is told at its init. Begin with name_defaults(). */
typedef struct takt_config {
    takt_pool pools[TAKT_POOLS_MAX]; /* by TAKT_POOL() */
    uint32_t pool_count;
    uint32_t strands;     /* beside those of the pools: for TAKT_START_ON, batches */
    uint32_t completions; /* taken from the backend at a time */
    takt_ns reap_limit;   /* how long drain waits for the kernel */
    /* Told of every task that ends with an error nobody caught, if set; else a line
     * goes to TAKT_LOG. */
    void (*on_failure)(void *user, const char *name, int error, const char *file, int line);
    void *user;
} takt_config;

/* Counters, exact between any two steps. */
typedef struct takt_stats {
    uint64_t turns;
    uint64_t resumed;
    uint64_t completions;
    uint64_t stale;     /* completions that nothing waited for */
    uint64_t spawned;
    uint64_t refused;   /* spawns */
    uint64_t failed;    /* tasks that ended with an uncaught error */
    uint64_t cancelled; /* tasks that were cancelled */
    uint64_t discarded; /* by drain or a fatal error */
} takt_stats;

struct takt__calls;

/* What every loop holds, as its member `sched`. */
typedef struct takt_sched {
    takt_stats stats; /* for you to read */
    /* The scheduler's: */
    takt_slots slots; /* strands; a pointer to this struct stands before the first */
    void *slab;
    const struct takt__calls *calls;
    void *backend;
    uintptr_t stack_base; /* of the turn that is running */
    takt_ns now;
    bool now_known, in_turn, stopping, discarding, feeding;
    int fatal;
    int first_error; /* of a task, uncaught */
    uint32_t ready_first, ready_last;
    uint32_t later_first, later_last; /* ready in the next turn: they have yielded */
    uint32_t tasks; /* strands without a parent */
    uint32_t pending;
    uint32_t free, fresh, strands_used, strands_max;
    uint32_t starved_first, starved_last; /* batches that wait for a free strand */
    takt_frame *spawning; /* its arguments are being set */
    takt_timer stop_timer;
    takt_wheel wheel;
    takt_config config;
} takt_sched;

/* TAKT_POOL(config, name, count, .strands = n): gives tasks of `name` room on the loop.
 * Tasks that start children name how many strands each uses, its own included. */
#define TAKT_POOL(config, name, ...)                                                         \
    TAKT__POOL((config).loop, name, __VA_ARGS__)

/* The scheduler that runs `frame`. */
takt_sched *takt_sched_of(const takt_frame *frame);

/* The graceful way out: no new work (accepts fail with TAKT_ESTOPPING, spawns are
 * refused), let what runs finish, cancel the rest after `limit` ns (0: now,
 * TAKT_FOREVER: never). May be called again with another limit. Returns at once. */
void takt_stop(takt_sched *sched, takt_ns limit);

/* True once the loop was told to stop. */
bool takt_stopping(const takt_frame *frame);

/* ==========================================================================
 * >>chan - waiting for each other, without a system call
 *
 * Objects of one loop. All zero is a valid start. They must outlive their waiters.
 * ======================================================================== */

/* Waiters in line. */
typedef struct takt_line {
    takt_op *first, *last;
} takt_line;

/* Once set, everybody goes on until it is reset. */
typedef struct takt_event {
    takt_line line;
    bool set;
} takt_event;

/* Suspends until the event is set. Result: 0. */
TAKT__MUST_USE static inline takt_op takt_event_wait(takt_event *event)
{
    takt_op op = takt__op(TAKT_OP_EVENT, -1, NULL, 0);
    op.arg.ptr = event;
    return op;
}
/* Lets all waiters go on, in order. */
void takt_event_set(takt_event *event);
/* From here on, waiting waits again. */
void takt_event_reset(takt_event *event);

/* So many permits. */
typedef struct takt_semaphore {
    takt_line line;
    int64_t permits; /* in */
} takt_semaphore;

/* Takes a permit, or suspends until there is one: first come, first served. Result: 0;
 * what was granted is delivered even to one that is being cancelled. */
TAKT__MUST_USE static inline takt_op takt_acquire(takt_semaphore *semaphore)
{
    takt_op op = takt__op(TAKT_OP_ACQUIRE, -1, NULL, 0);
    op.arg.ptr = semaphore;
    return op;
}
/* Gives `permits` back. */
void takt_release(takt_semaphore *semaphore, int64_t permits);

/* ==========================================================================
 * >>loop - TAKT_LOOP(name, backend): a loop type bound to its backend
 *
 * Declares the type `name`, its config and the functions below; the backend's are
 * called by name, so that they inline. With `TAKT_LOOP(net, takt_posix);`:
 *
 *   net_config net_defaults(void)       .loop is a takt_config, .backend the backend's
 *   int  net_init(net *, const net_config *)   0 or an error; allocates everything.
 *        The loop must not move from here on.
 *   int  net_run(net *)     until nothing is pending. 0; or what ended the loop; or the
 *        first error that no task caught
 *   int  net_turn(net *, takt_ns wait, int max)   one round: runs what is ready, takes
 *        at most `max` completions (0: the config's), waiting up to `wait` ns for the
 *        first. How much was done, 0 if nothing, or what ended the loop
 *   int  net_fd(net *)                  readable when a turn has work, -1 if there is none
 *   takt_ns net_deadline(net *)         when a turn is due even so, on net_now()'s clock:
 *        the past if at once, TAKT_FOREVER if never
 *   takt_ns net_now(net *)              the clock
 *   void net_stop(net *, takt_ns limit) takt_stop()
 *   int  net_submit(net *, takt_frame *, takt_body *)   starts a frame of yours and runs
 *        it to its first await: 1 if it has finished, 0 if it is pending, or an error
 *   int  net_pending(const net *)       tasks and submitted frames that are alive
 *   int  net_failed(const net *)        0, or what ended the loop
 *   int  net_drain(net *)               discards everything: cancels, waits for the
 *        kernel, runs defers (in which every await but close fails at once). Result: how
 *        many were discarded. The loop is over: TAKT_EDISPOSED
 *   int  net_free(net *)                drains, then gives the memory back. 0, or -EBUSY
 *        if the kernel still holds some of it: then it is kept, on purpose
 *
 * From inside a coroutine only net_stop, net_pending and net_failed may be called.
 * ======================================================================== */

#define TAKT_LOOP(name, backend_) TAKT__LOOP(name, backend_)

/* ==========================================================================
 * >>dump - where everything stands
 * ======================================================================== */

/* Prints every strand as a logical stack: name, file:line of the suspension, what is
 * awaited, on which descriptor, until when, whether it is being cancelled. Allocates
 * nothing; callable from a debugger. `print` gets one line at a time, without its end;
 * NULL prints to TAKT_LOG. */
void takt_dump_to(const takt_sched *sched, void (*print)(void *user, const char *line),
                  void *user);

/* The same, to TAKT_LOG. */
void takt_dump(const takt_sched *sched);

/* ==========================================================================
 * >>engine - what the words and the loops call; nothing below is API
 * ======================================================================== */

enum { /* the rest of the 32 bits above a line number */
    TAKT__LINES = 0x00ffffff,
    TAKT__UNWIND = 0x01000000,
    TAKT__CATCH = 0x02000000,
    TAKT__DEFERRED = 0x04000000
};

/* Where a body goes next. */
enum {
    TAKT__OP,      /* the strand's op is to be submitted */
    TAKT__SUSPEND, /* it waits for something else */
    TAKT__AGAIN,   /* straight back in: there is nothing to wait for */
    TAKT__CALLING, /* the callee runs */
    TAKT__FINISH   /* it has left */
};

enum { /* takt_frame.state; zero was never started */
    TAKT__NEVER,
    TAKT__RUNNING,
    TAKT__THROWN,   /* on the way to its catch */
    TAKT__CATCHING,
    TAKT__UNWINDING, /* its defers run */
    TAKT__FINISHED
};

enum { /* takt_frame.bits */
    TAKT__ROOT = 1,        /* the first of its strand */
    TAKT__POOLED = 2,      /* in memory of the loop's */
    TAKT__GROUPED = 4,     /* parent is a takt_group */
    TAKT__INTERRUPTED = 8, /* error is to be thrown at its next await */
    TAKT__IN_DEFER = 16,
    TAKT__CALL_CANCELLED = 32 /* and with it what it has called, but not its caller */
};

enum { /* takt_strand.wait */
    TAKT__FREE,
    TAKT__READY, /* in the ready list, or running */
    TAKT__ON_OP,
    TAKT__ON_SLEEP,
    TAKT__ON_EVENT,
    TAKT__ON_BATCH,
    TAKT__ON_JOIN,
    TAKT__ON_RACE,
    TAKT__ON_SCOPE,
    TAKT__ON_GROUP,
    TAKT__ON_CHILDREN
};

enum { /* takt_strand.flags */
    TAKT__STOP = 1,      /* look closer at every await */
    TAKT__CANCELLED = 2, /* from its root on */
    TAKT__NEW = 4,       /* its leaf has not run yet */
    TAKT__REQUEST = 8,   /* one op of a batch */
    TAKT__AWAITED = 16,  /* in the set that its parent waits for */
    TAKT__EXPIRED = 32,  /* the limit of what it awaits has passed */
    TAKT__ASKED = 64,    /* the backend was asked to cancel its op */
    TAKT__STARVED = 128  /* a batch that waits for a free strand */
};

enum { /* takt_attached.kind */
    TAKT__IDLE = 1,
    TAKT__GROUP
};

/* How the rooms without inlining reach the backend. */
typedef struct takt__calls {
    int (*submit)(void *backend, takt_op *op, takt_token *token);
    void (*cancel)(void *backend, takt_op *op);
    int64_t (*call)(void *backend, takt_op *op);
    takt_ns (*now)(void *backend);
} takt__calls;

static inline takt_status takt__leave(int go)
{
    takt_status status;
    status.go = go;
    return status;
}

static inline takt_op *takt__op_of(takt_frame *f)
{
    return &f->strand->slot.op;
}

int takt__await_told(takt_frame *f);
void takt__await_all(takt_frame *f, takt_op *ops, size_t count, uint32_t line);
int takt__yield(takt_frame *f, uint32_t line);
bool takt__prepare(takt_frame *f, takt_frame *child, const takt_frame *in, size_t size,
                   takt_body *body, uint32_t line);
bool takt__start(takt_frame *f, takt_frame *child, uint32_t line);
bool takt__start_within(takt_frame *f, takt_frame *child, takt_ns ns, uint32_t line);
void takt__join_begin(takt_frame *f);
void takt__join_add(takt_frame *f, takt_frame *child, int index);
void takt__join_all(takt_frame *f);
int takt__join(takt_frame *f, bool race, uint32_t line);
int takt__join_group(takt_frame *f, takt_group *group, uint32_t line);
bool takt__failing(takt_frame *f);
bool takt__defer(takt_frame *f, uint32_t line);
int takt__unwind_step(takt_frame *f);
void takt__lost(takt_frame *f, uint32_t label);
void takt__fell_out(takt_frame *f, uint32_t line);
void takt__return(takt_frame *f);
void takt__throw(takt_frame *f, int error, uint32_t line);
int64_t takt__take_result(takt_frame *f);

takt_frame *takt__spawn_begin(takt_sched *s, takt_group *group, takt_frame *owner,
                              takt_body *body, size_t size);
bool takt__spawn_end(takt_sched *s);
bool takt__start_on_begin(takt_sched *s, takt_frame *frame, takt_body *body, size_t size);
takt_pool *takt__pool_add(takt_config *config, takt_body *body, const char *name, size_t size,
                          uint32_t count);

int takt__sched_init(takt_sched *s, const takt_config *config, const takt__calls *calls,
                     void *backend, takt_completion **completions);
void takt__sched_begin(takt_sched *s);
void takt__sched_free(takt_sched *s, takt_completion *completions);
void takt__defaults(takt_config *config);
takt_strand *takt__next_ready(takt_sched *s);
void takt__stack_begins(takt_sched *s);
void takt__turn_begins(takt_sched *s);
takt_body *takt__step(takt_sched *s, takt_strand *strand, int go);
bool takt__refuse(takt_sched *s, takt_strand *strand);
void takt__arm_limit(takt_sched *s, takt_strand *strand);
void takt__settle(takt_sched *s, takt_strand *strand);
bool takt__special(takt_sched *s, takt_strand *strand, int64_t result);
int takt__expire(takt_sched *s);
takt_ns takt__wait(takt_sched *s, takt_ns wait);
void takt__fail_loop(takt_sched *s, int error);
int takt__discard_all(takt_sched *s);
int takt__submit(takt_sched *s, takt_frame *frame, takt_body *body);

/* A spawn can be refused: the compiler asks you to look. */
TAKT__MUST_USE static inline bool takt__spawned(bool ok)
{
    return ok;
}

/* Nothing is in the way: the op can go to the backend. */
static inline int takt__await(takt_frame *f, uint32_t line)
{
    f->line = line;
    return TAKT__LIKELY(!(f->strand->flags & TAKT__STOP)) ? TAKT__OP : takt__await_told(f);
}

static inline int64_t takt__result(takt_frame *f)
{
    return takt__op_of(f)->result;
}

static inline bool takt__failed(takt_frame *f)
{
    return TAKT__UNLIKELY(takt__op_of(f)->result < 0) && takt__failing(f);
}

static inline int takt__call(takt_frame *f, uint32_t line)
{
    f->line = line;
    return TAKT__CALLING;
}

enum { TAKT__BODY_STACK = 16384 }; /* how far below the turn a body's locals may lie */

/* True if the op cannot go to the backend as it is; takt__refuse() looks closer. */
static inline bool takt__refuse_inline(takt_sched *s, takt_strand *strand)
{
    const takt_op *const op = &strand->slot.op;
    return TAKT__UNLIKELY(op->kind < TAKT_OP_FIRST_OF_BACKEND ||
                          s->stack_base - (uintptr_t)op->buf < TAKT__BODY_STACK ||
                          s->stack_base - (uintptr_t)op->arg.ptr < TAKT__BODY_STACK ||
                          s->stopping) &&
           takt__refuse(s, strand);
}

/* ==========================================================================
 * >>macros - how the keywords work; nothing below is API
 *
 * A suspension point is a case label made of a tag and its source line. The tag puts
 * the label outside the range of int, so that an await inside a switch of yours is
 * refused by the compiler instead of resuming in the wrong place. The bare line is
 * what the frame stores.
 * ======================================================================== */

#define TAKT__AT(line) ((uint64_t)0x7a6b000000000000 | (line))


/* clang-format off */
#define TAKT__HEAD(head, ...) head
#define TAKT__PICK3(a, b, c, name, ...) name
#define TAKT__CAT_(a, b) a##b
#define TAKT__CAT(a, b) TAKT__CAT_(a, b)
#define TAKT__COUNT_(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, \
                     count, ...) count
#define TAKT__COUNT(...)                                                                     \
    TAKT__COUNT_(__VA_ARGS__, at_most_sixteen_arguments, at_most_sixteen_arguments,          \
                 at_most_sixteen_arguments, at_most_sixteen_arguments,                       \
                 at_most_sixteen_arguments, at_most_sixteen_arguments,                       \
                 at_most_sixteen_arguments, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5,   \
                 4, 3, 2, 1, ~)

/* `.field = value` pasted behind an lvalue is an assignment: that is all. */
#define TAKT__SET(x, ...) TAKT__CAT(TAKT__SET, TAKT__COUNT(__VA_ARGS__))(x, __VA_ARGS__)
#define TAKT__SET1(x, fn)
#define TAKT__SET2(x, fn, a)        x a,
#define TAKT__SET3(x, fn, a, ...)   x a, TAKT__SET2(x, fn, __VA_ARGS__)
#define TAKT__SET4(x, fn, a, ...)   x a, TAKT__SET3(x, fn, __VA_ARGS__)
#define TAKT__SET5(x, fn, a, ...)   x a, TAKT__SET4(x, fn, __VA_ARGS__)
#define TAKT__SET6(x, fn, a, ...)   x a, TAKT__SET5(x, fn, __VA_ARGS__)
#define TAKT__SET7(x, fn, a, ...)   x a, TAKT__SET6(x, fn, __VA_ARGS__)
#define TAKT__SET8(x, fn, a, ...)   x a, TAKT__SET7(x, fn, __VA_ARGS__)
#define TAKT__SET9(x, fn, a, ...)   x a, TAKT__SET8(x, fn, __VA_ARGS__)
#define TAKT__SET10(x, fn, a, ...)  x a, TAKT__SET9(x, fn, __VA_ARGS__)
#define TAKT__SET11(x, fn, a, ...)  x a, TAKT__SET10(x, fn, __VA_ARGS__)
#define TAKT__SET12(x, fn, a, ...)  x a, TAKT__SET11(x, fn, __VA_ARGS__)
#define TAKT__SET13(x, fn, a, ...)  x a, TAKT__SET12(x, fn, __VA_ARGS__)
#define TAKT__SET14(x, fn, a, ...)  x a, TAKT__SET13(x, fn, __VA_ARGS__)
#define TAKT__SET15(x, fn, a, ...)  x a, TAKT__SET14(x, fn, __VA_ARGS__)
#define TAKT__SET16(x, fn, a, ...)  x a, TAKT__SET15(x, fn, __VA_ARGS__)
#define TAKT__SET17(x, fn, a, ...)  x a, TAKT__SET16(x, fn, __VA_ARGS__)

#define TAKT__ADD(...) TAKT__CAT(TAKT__ADD, TAKT__COUNT(__VA_ARGS__))(0, __VA_ARGS__)
#define TAKT__ADD1(i, a)            takt__join_add(takt_self, &(a).frame, i)
#define TAKT__ADD2(i, a, ...)       TAKT__ADD1(i, a), TAKT__ADD1(i + 1, __VA_ARGS__)
#define TAKT__ADD3(i, a, ...)       TAKT__ADD1(i, a), TAKT__ADD2(i + 1, __VA_ARGS__)
#define TAKT__ADD4(i, a, ...)       TAKT__ADD1(i, a), TAKT__ADD3(i + 1, __VA_ARGS__)
#define TAKT__ADD5(i, a, ...)       TAKT__ADD1(i, a), TAKT__ADD4(i + 1, __VA_ARGS__)
#define TAKT__ADD6(i, a, ...)       TAKT__ADD1(i, a), TAKT__ADD5(i + 1, __VA_ARGS__)
#define TAKT__ADD7(i, a, ...)       TAKT__ADD1(i, a), TAKT__ADD6(i + 1, __VA_ARGS__)
#define TAKT__ADD8(i, a, ...)       TAKT__ADD1(i, a), TAKT__ADD7(i + 1, __VA_ARGS__)
#define TAKT__ADD9(...)             TAKT_JOIN_and_TAKT_RACE_take_at_most_eight(__VA_ARGS__)

/* Nothing, or a list: `TAKT__NONE __VA_ARGS__ ()` has a comma only if there is nothing. */
#define TAKT__NONE(...) ~, ~
#define TAKT__ADD_OR_ALL(...)                                                                \
    TAKT__CAT(TAKT__ADD_OR_ALL_, TAKT__EMPTY(__VA_ARGS__))(__VA_ARGS__)
#define TAKT__EMPTY(...)                                                                     \
    TAKT__EMPTY_(TAKT__COUNT(__VA_ARGS__), TAKT__COUNT(TAKT__NONE __VA_ARGS__ ()))
#define TAKT__EMPTY_(count, with) TAKT__CAT(TAKT__EMPTY_, TAKT__CAT(count, TAKT__CAT(_, with)))
#define TAKT__EMPTY_1_2 1
#define TAKT__EMPTY_1_1 0
#define TAKT__EMPTY_2_2 0
#define TAKT__EMPTY_3_3 0
#define TAKT__EMPTY_4_4 0
#define TAKT__EMPTY_5_5 0
#define TAKT__EMPTY_6_6 0
#define TAKT__EMPTY_7_7 0
#define TAKT__EMPTY_8_8 0
#define TAKT__EMPTY_9_9 0
#define TAKT__ADD_OR_ALL_0(...) TAKT__ADD(__VA_ARGS__)
#define TAKT__ADD_OR_ALL_1(...) takt__join_all(takt_self)
/* clang-format on */

#define TAKT__BODY_SCOPE                                                                     \
    typedef int TAKT_CATCH_stands_at_the_end_of_the_body_and_in_no_block TAKT__UNUSED;

#ifdef __cplusplus
#define TAKT__PLAIN_DATA(coro)                                                               \
    static_assert(__is_trivially_copyable(struct coro),                                      \
                  "struct " #coro " must be plain data: nobody would run its constructors "  \
                  "and destructors");
#else
#define TAKT__PLAIN_DATA(coro)
#endif

/* What compilers can tell, they are asked to tell, without flags of yours: that a local
 * does not survive an await, that TAKT_CATCH stands in a block, that a `;` takes the place
 * of the block behind TAKT_DEFER or TAKT_CATCH. */
#if defined(__clang__)
#define TAKT__WATCH_BODY                                                                     \
    _Pragma("clang diagnostic push")                                                         \
    _Pragma("clang diagnostic warning \"-Wempty-body\"")                                     \
    _Pragma("clang diagnostic warning \"-Wconditional-uninitialized\"")
#define TAKT__WATCH_CATCH _Pragma("clang diagnostic warning \"-Wshadow\"")
#define TAKT__UNWATCH_BODY _Pragma("clang diagnostic pop")
#elif defined(__GNUC__) && !defined(__cplusplus)
#define TAKT__WATCH_BODY                                                                     \
    _Pragma("GCC diagnostic push")                                                           \
    _Pragma("GCC diagnostic warning \"-Wempty-body\"")                                       \
    _Pragma("GCC diagnostic warning \"-Wjump-misses-init\"")
#define TAKT__WATCH_CATCH _Pragma("GCC diagnostic warning \"-Wshadow\"")
#define TAKT__UNWATCH_BODY _Pragma("GCC diagnostic pop")
#elif defined(__GNUC__)
#define TAKT__WATCH_BODY                                                                     \
    _Pragma("GCC diagnostic push")                                                           \
    _Pragma("GCC diagnostic warning \"-Wempty-body\"")
#define TAKT__WATCH_CATCH _Pragma("GCC diagnostic warning \"-Wshadow\"")
#define TAKT__UNWATCH_BODY _Pragma("GCC diagnostic pop")
#else
#define TAKT__WATCH_BODY
#define TAKT__WATCH_CATCH
#define TAKT__UNWATCH_BODY
#endif

#define TAKT__BEGIN(name_, my)                                                                \
    TAKT__STATIC_ASSERT(offsetof(struct name_, frame) == 0,                                   \
        "the first member of struct " #name_ " must be `takt_frame frame;`");                 \
    TAKT__PLAIN_DATA(name_)                                                                   \
    static const takt_coro takt__coro = {name_##_coro, #name_, __FILE__, __LINE__,             \
                                         (uint32_t)sizeof(struct name_)};                     \
    struct name_ *const my = (struct name_ *)(void *)takt_self;                                \
    (void)my;                                                                                \
    uint32_t takt__at = takt_self->line;                                                     \
    TAKT__WATCH_BODY                                                                         \
takt__dispatch:                                                                              \
    switch (TAKT__AT(takt__at)) {                                                            \
        TAKT__BODY_SCOPE                                                                     \
    default:                                                                                 \
        takt__lost(takt_self, takt__at);                                                     \
        goto takt__unwind;                                                                   \
    case TAKT__AT(0):                                                                        \
        takt_self->of.coro = &takt__coro

#define TAKT__END                                                                            \
        TAKT__UNWATCH_BODY                                                                   \
        takt__return(takt_self);                                                             \
        goto takt__unwind;                                                                   \
    case TAKT__AT(TAKT__UNWIND):                                                             \
        goto takt__unwind;                                                                   \
    }                                                                                        \
    takt__fell_out(takt_self, __LINE__);                                                       \
takt__unwind: {                                                                              \
        const int takt__next = takt__unwind_step(takt_self);                                 \
        if (takt__next > TAKT__LINES) {                                                      \
            takt__at = (uint32_t)takt__next;                                                 \
            goto takt__dispatch;                                                             \
        }                                                                                    \
        return takt__leave(takt__next);                                                      \
    }

/* Every await leaves and comes back by its label, even when it need not wait: so the
 * compiler can see that no local survives it. */
#define TAKT__LEAVE_AND_RETURN_AT(line, go)                                                  \
    return takt__leave(go);                                                                  \
    case TAKT__AT(line):

#define TAKT__THROW_IF_FAILED                                                                \
    if (takt__failed(takt_self))                                                             \
        goto takt__unwind

#define TAKT__AWAIT1(op) TAKT__AWAIT_(op, (void)0, __LINE__)
#define TAKT__AWAIT2(result, op)                                                             \
    TAKT__AWAIT_(op, (result) = (__typeof__(result))takt__result(takt_self), __LINE__)
#define TAKT__AWAIT_(op, store, line)                                                        \
    do {                                                                                     \
        *takt__op_of(takt_self) = (op);                                                      \
        TAKT__LEAVE_AND_RETURN_AT(line, takt__await(takt_self, line))                        \
        store;                                                                               \
        TAKT__THROW_IF_FAILED;                                                               \
    } while (0)

#define TAKT__TRY_AWAIT(result, op, line)                                                    \
    do {                                                                                     \
        TAKT__STATIC_ASSERT((__typeof__(result))-1 < 0 && sizeof(result) >= sizeof(int),     \
            "the result of TAKT_TRY_AWAIT must be signed and at least an int");              \
        *takt__op_of(takt_self) = (op);                                                      \
        TAKT__LEAVE_AND_RETURN_AT(line, takt__await(takt_self, line))                        \
        (result) = (__typeof__(result))takt__take_result(takt_self);                         \
        TAKT__THROW_IF_FAILED;                                                               \
    } while (0)

#define TAKT__AWAIT_ALL(ops, count, line)                                                    \
    do {                                                                                     \
        takt__await_all(takt_self, (ops), (count), line);                                    \
        TAKT__LEAVE_AND_RETURN_AT(line, TAKT__SUSPEND)                                       \
        TAKT__THROW_IF_FAILED;                                                               \
    } while (0)

#define TAKT__YIELD(line)                                                                    \
    do {                                                                                     \
        TAKT__LEAVE_AND_RETURN_AT(line, takt__yield(takt_self, line))                        \
        TAKT__THROW_IF_FAILED;                                                               \
    } while (0)

/* Gathers the arguments in a copy, so that they may speak of what the child was. */
#define TAKT__PREPARE(child, line, act, fn, ...)                                             \
    {                                                                                        \
        struct fn takt__in;                                                                  \
        (void)sizeof((child) = takt__in); /* the same type, or it does not compile */        \
        memset((void *)&takt__in, 0, sizeof takt__in);                                       \
        TAKT__SET(takt__in, __VA_ARGS__)(void) 0;                                            \
        if (!takt__prepare(takt_self, &(child).frame, &takt__in.frame, sizeof takt__in,      \
                           fn##_coro, line) || !(act))                                       \
            goto takt__unwind;                                                               \
    }

#define TAKT__ENTER(child) (takt_self->strand->who.leaf = &(child).frame, true)

#define TAKT__CALL(child, line, fn, ...)                                                     \
    do {                                                                                     \
        TAKT__PREPARE(child, line, TAKT__ENTER(child), fn, __VA_ARGS__)                      \
        TAKT__LEAVE_AND_RETURN_AT(line, takt__call(takt_self, line))                         \
        TAKT__THROW_IF_FAILED;                                                               \
    } while (0)

#define TAKT__TRY_CALL(err, child, line, fn, ...)                                            \
    do {                                                                                     \
        TAKT__STATIC_ASSERT((__typeof__(err))-1 < 0 && sizeof(err) >= sizeof(int),           \
            "the result of TAKT_TRY_CALL must be signed and at least an int");               \
        TAKT__PREPARE(child, line, TAKT__ENTER(child), fn, __VA_ARGS__)                      \
        TAKT__LEAVE_AND_RETURN_AT(line, takt__call(takt_self, line))                         \
        (err) = (int)takt__take_result(takt_self);                                           \
        TAKT__THROW_IF_FAILED;                                                               \
    } while (0)

#define TAKT__CALL_WITHIN(ns, child, line, fn, ...)                                          \
    do {                                                                                     \
        TAKT__PREPARE(child, line, takt__start_within(takt_self, &(child).frame, (ns), line), \
                      fn, __VA_ARGS__)                                                       \
        TAKT__LEAVE_AND_RETURN_AT(line, TAKT__SUSPEND)                                       \
        TAKT__THROW_IF_FAILED;                                                               \
    } while (0)

#define TAKT__START(child, line, fn, ...)                                                    \
    do {                                                                                     \
        TAKT__PREPARE(child, line, takt__start(takt_self, &(child).frame, line), fn,         \
                      __VA_ARGS__)                                                           \
    } while (0)

#define TAKT__JOIN(line, ...)                                                                \
    do {                                                                                     \
        takt__join_begin(takt_self);                                                         \
        TAKT__ADD_OR_ALL(__VA_ARGS__);                                                       \
        TAKT__LEAVE_AND_RETURN_AT(line, takt__join(takt_self, false, line))                  \
        TAKT__THROW_IF_FAILED;                                                               \
    } while (0)

#define TAKT__RACE(who, line, ...)                                                           \
    do {                                                                                     \
        takt__join_begin(takt_self);                                                         \
        TAKT__ADD(__VA_ARGS__);                                                              \
        TAKT__LEAVE_AND_RETURN_AT(line, takt__join(takt_self, true, line))                   \
        (who) = (int)takt__op_of(takt_self)->extra;                                          \
        TAKT__THROW_IF_FAILED;                                                               \
    } while (0)

#define TAKT__JOIN_GROUP(group, line)                                                        \
    do {                                                                                     \
        TAKT__LEAVE_AND_RETURN_AT(line, takt__join_group(takt_self, &(group), line))         \
        TAKT__THROW_IF_FAILED;                                                               \
    } while (0)

#define TAKT__SPAWN(...) TAKT__SPAWN_(__VA_ARGS__)
#define TAKT__SPAWN_(s, group, owner, fn, ...)                                               \
    takt__spawned(takt__spawn_begin((s), (group), (owner), fn##_coro, sizeof(struct fn)) !=  \
                      NULL &&                                                                \
                  (TAKT__SET((*(struct fn *)(void *)(s)->spawning), __VA_ARGS__)             \
                       takt__spawn_end(s)))

#define TAKT__START_ON(...) TAKT__START_ON_(__VA_ARGS__)
#define TAKT__START_ON_(s, object, fn, ...)                                                  \
    takt__spawned(((void)sizeof((object) = *(struct fn *)(void *)(s)->spawning),             \
                   takt__start_on_begin((s), &(object).frame, fn##_coro, sizeof(struct fn))) && \
                  (TAKT__SET((object), __VA_ARGS__) takt__spawn_end(s)))

#define TAKT__POOL(config, coro, ...)                                                        \
    do {                                                                                     \
        takt_pool *const takt__pool =                                                        \
            takt__pool_add(&(config), coro##_coro, #coro, sizeof(struct coro),               \
                           (uint32_t)(TAKT__HEAD(__VA_ARGS__, ~)));                          \
        TAKT__SET((*takt__pool), __VA_ARGS__)(void) takt__pool;                              \
    } while (0)

/* The block's end is a return. The typedef repeats the one of TAKT_BEGIN: in a block inside
 * the body it is a shadow, and the compiler says so by its name. */
#if defined(__GNUC__)
#define TAKT__CATCH_HERE                                                                     \
        takt__return(takt_self);                                                             \
        goto takt__unwind;                                                                   \
        TAKT__WATCH_CATCH                                                                    \
        TAKT__BODY_SCOPE                                                                     \
    case TAKT__AT(TAKT__CATCH):                                                              \
        for (;; (void)__extension__({ takt__return(takt_self); goto takt__unwind; true; }))  \
            if (true)
#else
#define TAKT__CATCH_HERE                                                                     \
        takt__return(takt_self);                                                             \
        goto takt__unwind;                                                                   \
    case TAKT__AT(TAKT__CATCH):
#endif

/* Passing by registers the block and skips it. Unwinding jumps to the label and runs the
 * block; its end goes on unwinding, and so does a `break` in the block, by way of
 * takt__defer(). The second form is plain C, but draws a warning about falling through. */
#if defined(__GNUC__)
#define TAKT__GO_ON_UNWINDING __extension__({ goto takt__unwind; true; })
#define TAKT__DEFER_HERE(line)                                                               \
    while (takt__defer(takt_self, (line)) && TAKT__GO_ON_UNWINDING)                          \
    case TAKT__AT(TAKT__DEFERRED | (line)):                                                  \
        for (;; (void)TAKT__GO_ON_UNWINDING)                                                 \
            if (true)
#else
#define TAKT__DEFER_HERE(line)                                                               \
    while (takt__defer(takt_self, (line)))                                                   \
        for (;;)                                                                             \
            if (takt_self->state != TAKT__NEVER)                                             \
                goto takt__unwind;                                                           \
            else                                                                             \
    case TAKT__AT(TAKT__DEFERRED | (line)):
#endif

#define TAKT__LOOP(name, backend_)                                                           \
    typedef struct name##_config {                                                           \
        takt_config loop;                                                                    \
        backend_##_config backend;                                                           \
    } name##_config;                                                                         \
                                                                                             \
    typedef struct name {                                                                    \
        takt_sched sched;                                                                    \
        takt_completion *completions;                                                        \
        backend_ backend;                                                                    \
    } name;                                                                                  \
                                                                                             \
    TAKT__UNUSED static inline name##_config name##_defaults(void)                           \
    {                                                                                        \
        name##_config config;                                                                \
        memset(&config, 0, sizeof config);                                                   \
        takt__defaults(&config.loop);                                                        \
        return config;                                                                       \
    }                                                                                        \
                                                                                             \
    static inline int name##__call_submit(void *backend, takt_op *op, takt_token *token)     \
    {                                                                                        \
        return backend_##_submit((backend_ *)backend, op, token);                            \
    }                                                                                        \
                                                                                             \
    static inline void name##__call_cancel(void *backend, takt_op *op)                       \
    {                                                                                        \
        backend_##_cancel((backend_ *)backend, op);                                          \
    }                                                                                        \
                                                                                             \
    static inline int64_t name##__call_call(void *backend, takt_op *op)                      \
    {                                                                                        \
        return backend_##_call((backend_ *)backend, op);                                     \
    }                                                                                        \
                                                                                             \
    static inline takt_ns name##__call_now(void *backend)                                    \
    {                                                                                        \
        return backend_##_now((backend_ *)backend);                                          \
    }                                                                                        \
                                                                                             \
    TAKT__UNUSED static inline int name##_init(name *loop, const name##_config *config)      \
    {                                                                                        \
        static const takt__calls calls = {name##__call_submit, name##__call_cancel,          \
                                          name##__call_call, name##__call_now};              \
        int rc = takt__sched_init(&loop->sched, &config->loop, &calls, &loop->backend,       \
                                  &loop->completions);                                       \
        if (rc < 0)                                                                          \
            return rc;                                                                       \
        rc = backend_##_init(&loop->backend, &config->backend, &loop->sched.slots);          \
        if (rc < 0) {                                                                        \
            takt__sched_free(&loop->sched, loop->completions);                               \
            return rc;                                                                       \
        }                                                                                    \
        takt__sched_begin(&loop->sched);                                                     \
        return 0;                                                                            \
    }                                                                                        \
                                                                                             \
    /* Runs `strand` until it waits for something. */                                        \
    static inline void name##__run(name *loop, takt_strand *strand, takt_body *body)         \
    {                                                                                        \
        takt_sched *const sched = &loop->sched;                                              \
        while (body) {                                                                       \
            const int go = body(strand->who.leaf).go;                                        \
            sched->stats.resumed++;                                                          \
            if (TAKT__LIKELY(go == TAKT__OP) && !takt__refuse_inline(sched, strand)) {       \
                takt_token token;                                                            \
                int rc;                                                                      \
                strand->slot.generation++;                                                   \
                strand->wait = TAKT__ON_OP;                                                  \
                token = takt_token_of(&strand->slot.op);                                     \
                if (strand->slot.op.when)                                                    \
                    takt__arm_limit(sched, strand);                                          \
                rc = backend_##_submit(&loop->backend, &strand->slot.op, &token);            \
                if (TAKT__LIKELY(rc >= 0))                                                   \
                    return;                                                                  \
                strand->slot.op.result = rc;                                                 \
                takt__settle(sched, strand);                                                 \
                body = strand->who.leaf->of.coro->body;                                      \
            } else {                                                                         \
                body = takt__step(sched, strand, go);                                        \
            }                                                                                \
        }                                                                                    \
    }                                                                                        \
                                                                                             \
    static inline void name##__complete(name *loop, const takt_completion *done)             \
    {                                                                                        \
        takt_sched *const sched = &loop->sched;                                              \
        takt_strand *const strand =                                                          \
            (takt_strand *)(void *)takt_slot_find(&sched->slots, done->token);               \
        sched->stats.completions++;                                                          \
        if (TAKT__UNLIKELY(strand == NULL || strand->wait != TAKT__ON_OP)) {                 \
            sched->stats.stale++;                                                            \
            return;                                                                          \
        }                                                                                    \
        strand->slot.op.result = done->error ? done->error : done->value;                    \
        if (TAKT__UNLIKELY(strand->flags || takt_timer_armed(&strand->timer)) &&             \
            takt__special(sched, strand, strand->slot.op.result))                            \
            return;                                                                          \
        strand->wait = TAKT__READY;                                                          \
        name##__run(loop, strand, strand->who.leaf->of.coro->body);                          \
    }                                                                                        \
                                                                                             \
    static inline int name##__run_ready(name *loop)                                          \
    {                                                                                        \
        enum { MOST = 1024 }; /* in one go: then the backend is polled */                    \
        takt_strand *strand;                                                                 \
        int count = 0;                                                                       \
        while (count < MOST && (strand = takt__next_ready(&loop->sched)) != NULL) {          \
            takt_frame *const leaf = strand->who.leaf;                                       \
            takt_body *const body =                                                          \
                strand->flags & TAKT__NEW ? leaf->of.first : leaf->of.coro->body;            \
            strand->flags &= (uint8_t)~TAKT__NEW;                                            \
            name##__run(loop, strand, body);                                                 \
            count++;                                                                         \
        }                                                                                    \
        return count;                                                                        \
    }                                                                                        \
                                                                                             \
    static inline int name##__turn(name *loop, takt_ns wait, int max)                        \
    {                                                                                        \
        takt_sched *const sched = &loop->sched;                                              \
        const int most = (int)sched->config.completions;                                     \
        int count, progress;                                                                 \
        sched->in_turn = true;                                                               \
        takt__stack_begins(sched);                                                           \
        sched->now_known = false;                                                            \
        sched->stats.turns++;                                                                \
        takt__turn_begins(sched);                                                            \
        progress = name##__run_ready(loop);                                                  \
        wait = takt__wait(sched, wait);                                                      \
        count = backend_##_poll(&loop->backend, loop->completions,                           \
                                max > 0 && max < most ? max : most, wait);                   \
        sched->now_known = false;                                                            \
        if (TAKT__UNLIKELY(count < 0)) {                                                     \
            if (count != TAKT_EWOULDBLOCK)                                                   \
                takt__fail_loop(sched, count);                                               \
            count = 0;                                                                       \
        }                                                                                    \
        for (int i = 0; i < count; i++)                                                      \
            name##__complete(loop, &loop->completions[i]);                                   \
        progress += count + takt__expire(sched) + name##__run_ready(loop);                   \
        sched->in_turn = false;                                                              \
        return progress;                                                                     \
    }                                                                                        \
                                                                                             \
    TAKT__UNUSED static inline int name##_turn(name *loop, takt_ns wait, int max)            \
    {                                                                                        \
        int progress;                                                                        \
        if (loop->sched.fatal)                                                               \
            return loop->sched.fatal;                                                        \
        progress = name##__turn(loop, wait, max);                                            \
        backend_##_flush(&loop->backend);                                                    \
        return loop->sched.fatal ? loop->sched.fatal : progress;                             \
    }                                                                                        \
                                                                                             \
    TAKT__UNUSED static inline int name##_run(name *loop)                                    \
    {                                                                                        \
        while (loop->sched.pending && !loop->sched.fatal)                                    \
            name##__turn(loop, TAKT_FOREVER, 0);                                             \
        return loop->sched.fatal ? loop->sched.fatal : loop->sched.first_error;              \
    }                                                                                        \
                                                                                             \
    TAKT__UNUSED static inline int name##_fd(name *loop)                                     \
    {                                                                                        \
        return backend_##_fd(&loop->backend);                                                \
    }                                                                                        \
                                                                                             \
    TAKT__UNUSED static inline takt_ns name##_now(name *loop)                                \
    {                                                                                        \
        return backend_##_now(&loop->backend);                                               \
    }                                                                                        \
                                                                                             \
    TAKT__UNUSED static inline takt_ns name##_deadline(name *loop)                           \
    {                                                                                        \
        if (loop->sched.ready_first || loop->sched.later_first ||                            \
            backend_##_busy(&loop->backend))                                                 \
            return 0;                                                                        \
        return takt_wheel_deadline(&loop->sched.wheel);                                      \
    }                                                                                        \
                                                                                             \
    TAKT__UNUSED static inline void name##_stop(name *loop, takt_ns limit)                   \
    {                                                                                        \
        takt_stop(&loop->sched, limit);                                                      \
    }                                                                                        \
                                                                                             \
    TAKT__UNUSED static inline int name##_submit(name *loop, takt_frame *frame,              \
                                                 takt_body *body)                            \
    {                                                                                        \
        takt_sched *const sched = &loop->sched;                                              \
        const int rc = takt__submit(sched, frame, body);                                     \
        if (rc < 0 || sched->in_turn)                                                        \
            return rc;                                                                       \
        sched->in_turn = true;                                                               \
        takt__stack_begins(sched);                                                           \
        sched->now_known = false;                                                            \
        name##__run(loop, frame->strand, body);                                              \
        sched->in_turn = false;                                                              \
        return takt_finished(frame);                                                         \
    }                                                                                        \
                                                                                             \
    TAKT__UNUSED static inline int name##_pending(const name *loop)                          \
    {                                                                                        \
        return (int)loop->sched.pending;                                                     \
    }                                                                                        \
                                                                                             \
    TAKT__UNUSED static inline int name##_failed(const name *loop)                           \
    {                                                                                        \
        return loop->sched.fatal;                                                            \
    }                                                                                        \
                                                                                             \
    TAKT__UNUSED static inline int name##_drain(name *loop)                                  \
    {                                                                                        \
        takt_sched *const sched = &loop->sched;                                              \
        const bool broken = sched->fatal && sched->fatal != TAKT_EDISPOSED;                  \
        const int discarded = takt__discard_all(sched);                                      \
        const takt_ns deadline =                                                             \
            takt_after(backend_##_now(&loop->backend), sched->config.reap_limit);            \
        do                                                                                   \
            takt__turn_begins(sched);                                                        \
        while (broken && name##__run_ready(loop));                                           \
        while (sched->strands_used && !broken &&                                             \
               backend_##_now(&loop->backend) < deadline)                                    \
            name##__turn(loop, 10 * TAKT_MS, 0);                                             \
        return discarded;                                                                    \
    }                                                                                        \
                                                                                             \
    TAKT__UNUSED static inline int name##_free(name *loop)                                   \
    {                                                                                        \
        name##_drain(loop);                                                                  \
        if (loop->sched.strands_used)                                                        \
            return -EBUSY;                                                                   \
        backend_##_free(&loop->backend);                                                     \
        takt__sched_free(&loop->sched, loop->completions);                                   \
        return 0;                                                                            \
    }                                                                                        \
    struct name

TAKT__EXTERN_C_END

#endif /* TAKT_H */

/* ==========================================================================
 * The implementation: the same rooms once more
 * ======================================================================== */
#ifdef TAKT_IMPLEMENTATION
#ifndef TAKT_IMPLEMENTED
#define TAKT_IMPLEMENTED

#ifndef TAKT_CALLOC
#include <stdlib.h>
#define TAKT_CALLOC(n, size) calloc((n), (size))
#define TAKT_FREE(ptr) free(ptr)
#endif

#ifndef TAKT_ASSERT
#include <assert.h>
#define TAKT_ASSERT(condition) assert(condition)
#endif

#ifndef TAKT_LOG
#include <stdio.h>
#define TAKT_LOG(text) ((void)fprintf(stderr, "%s\n", (text)))
#endif

TAKT__EXTERN_C_BEGIN

/* ==========================================================================
 * >>outcome-impl
 * ======================================================================== */

/* What users meet most, beside takt's own codes: what happened, what to do. */
#define TAKT__SYSTEM_ERRORS(X)                                                               \
    X(EACCES, "permission denied")                                                           \
    X(EADDRINUSE, "the address is already in use")                                           \
    X(EADDRNOTAVAIL, "the address is not one of this machine's, or no port is left")         \
    X(EAFNOSUPPORT, "this kind of address is not supported here")                            \
    X(EAGAIN, "a resource is exhausted for now; try again")                                  \
    X(EBADF, "not an open descriptor")                                                       \
    X(EBUSY, "another operation already waits for this direction of the descriptor")         \
    X(ECANCELED, "cancelled")                                                                \
    X(ECONNABORTED, "the connection was aborted")                                            \
    X(ECONNREFUSED, "connection refused: nobody listens there")                              \
    X(ECONNRESET, "the peer reset the connection")                                           \
    X(EDESTADDRREQ, "no destination address")                                                \
    X(EEXIST, "it exists already")                                                           \
    X(EFAULT, "a bad address was given to the kernel")                                       \
    X(EHOSTUNREACH, "no route to the host")                                                  \
    X(EINPROGRESS, "in progress")                                                            \
    X(EINTR, "interrupted by a signal")                                                      \
    X(EINVAL, "invalid argument")                                                            \
    X(EIO, "input/output error")                                                             \
    X(EISCONN, "the socket is connected already")                                            \
    X(EMFILE, "too many open descriptors: raise ulimit -n, or the config's fds_max")         \
    X(EMSGSIZE, "the datagram is too long")                                                  \
    X(ENETUNREACH, "the network is unreachable")                                             \
    X(ENFILE, "too many open files in the system")                                           \
    X(ENOBUFS, "no buffer space")                                                            \
    X(ENOENT, "no such file")                                                                \
    X(ENOMEM, "out of memory")                                                               \
    X(ENOSYS, "this system cannot do that")                                                  \
    X(ENOTCONN, "the socket is not connected")                                               \
    X(ENOTSOCK, "not a socket")                                                              \
    X(ENOTSUP, "not supported")                                                              \
    X(EPERM, "not permitted")                                                                \
    X(EPIPE, "the peer has closed its receiving side")                                       \
    X(EPROTO, "protocol error")                                                              \
    X(E2BIG, "too many; raise TAKT_POOLS_MAX")                                               \
    X(ETIMEDOUT, "timed out")

const char *takt_strerror(int error)
{
    switch (error) {
    case 0:
        return "no error";
#define TAKT__X(name, value, text) \
    case name:                     \
        return text;
        TAKT_ERRORS(TAKT__X)
#undef TAKT__X
#define TAKT__X(name, text) \
    case -name:             \
        return text;
        TAKT__SYSTEM_ERRORS(TAKT__X)
#undef TAKT__X
    default:
        return error > 0 ? "not an error: errors are negative" : "unknown error";
    }
}

const char *takt_outcome_name(takt_outcome outcome)
{
    switch (outcome) {
    case TAKT_OUTCOME_OK:
        return "OK";
    case TAKT_OUTCOME_WOULD_BLOCK:
        return "WouldBlock";
    case TAKT_OUTCOME_MORE:
        return "More";
    case TAKT_OUTCOME_FAILURE:
    default:
        return "Failure";
    }
}

/* -- text: lines put together without stdio ------------------------------- */

typedef struct takt__text {
    char *at;
    size_t size, len;
} takt__text;

static void takt__put(takt__text *text, const char *s)
{
    while (*s && text->len + 1 < text->size)
        text->at[text->len++] = *s++;
    if (text->size)
        text->at[text->len] = '\0';
}

static void takt__put_number(takt__text *text, int64_t number)
{
    char digits[24];
    char *p = digits + sizeof digits - 1;
    uint64_t rest = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    *p = '\0';
    do
        *--p = (char)('0' + rest % 10);
    while (rest /= 10);
    if (number < 0)
        *--p = '-';
    takt__put(text, p);
}

/* ==========================================================================
 * >>op-impl
 * ======================================================================== */

enum { TAKT__NEITHER, TAKT__READER, TAKT__WRITER, TAKT__EITHER, TAKT__BOTH, TAKT__CALL };

const char *takt_op_name(int kind)
{
    switch (kind) {
#define TAKT__X(name, word, direction) \
    case TAKT_OP_##name:               \
        return word;
        TAKT_OPS(TAKT__X)
#undef TAKT__X
    default:
        return "unknown";
    }
}

static inline int takt__direction(const takt_op *op)
{
    static const uint8_t directions[] = {
#define TAKT__X(kind, word, direction) TAKT__##direction,
        TAKT_OPS(TAKT__X)
#undef TAKT__X
    };
    const int direction = directions[op->kind];
    if (direction != TAKT__EITHER)
        return direction;
    return op->bits & TAKT_READABLE ? TAKT__READER : TAKT__WRITER;
}

/* ==========================================================================
 * >>memory-impl
 * ======================================================================== */

#define TAKT__NO_BUFFER UINT32_MAX
#define TAKT__LEASED (UINT32_MAX - 1)

int takt_bufs_init(takt_bufs *bufs, uint32_t count, uint32_t size)
{
    memset(bufs, 0, sizeof *bufs);
    if (count == 0 || size == 0 || count >= TAKT__LEASED || size > SIZE_MAX / count)
        return -EINVAL;
    bufs->memory = (unsigned char *)TAKT_CALLOC(count, size);
    bufs->next = (uint32_t *)TAKT_CALLOC(count, sizeof *bufs->next);
    if (!bufs->memory || !bufs->next) {
        takt_bufs_free(bufs);
        return -ENOMEM;
    }
    bufs->count = count;
    bufs->size = size;
    bufs->free = TAKT__NO_BUFFER;
    return 0;
}

void takt_bufs_free(takt_bufs *bufs)
{
    TAKT_ASSERT(bufs->in_use == 0 && bufs->waiting == NULL);
    TAKT_FREE(bufs->memory);
    TAKT_FREE(bufs->next);
    memset(bufs, 0, sizeof *bufs);
}

static bool takt__bufs_any(const takt_bufs *bufs)
{
    return bufs->free != TAKT__NO_BUFFER || bufs->fresh < bufs->count;
}

unsigned char *takt_bufs_take(takt_bufs *bufs)
{
    uint32_t index = bufs->free;
    if (index != TAKT__NO_BUFFER)
        bufs->free = bufs->next[index];
    else if (bufs->fresh < bufs->count)
        index = bufs->fresh++;
    else
        return NULL;
    bufs->next[index] = TAKT__LEASED;
    if (++bufs->in_use > bufs->in_use_max)
        bufs->in_use_max = bufs->in_use;
    return bufs->memory + (size_t)index * bufs->size;
}

int takt_bufs_put(takt_bufs *bufs, unsigned char **data)
{
    const uintptr_t offset = (uintptr_t)*data - (uintptr_t)bufs->memory;
    uint32_t index;
    if (*data == NULL)
        return 0;
    *data = NULL;
    if (offset >= (uintptr_t)bufs->count * bufs->size)
        return TAKT_EBUFFER;
    index = (uint32_t)(offset / bufs->size);
    if (index >= bufs->fresh || bufs->next[index] != TAKT__LEASED)
        return TAKT_EBUFFER;
    bufs->next[index] = bufs->free;
    bufs->free = index;
    bufs->in_use--;
    return 0;
}

/* -- the line of those who found it empty; the backends' ------------------ */

TAKT__UNUSED static void takt__bufs_wait(takt_bufs *bufs, takt_op *op, takt_bufs **starved)
{
    op->next = NULL;
    if (bufs->waiting)
        bufs->waiting_last->next = op;
    else
        bufs->waiting = op;
    bufs->waiting_last = op;
    bufs->waits++;
    if (!bufs->starved) {
        bufs->starved = true;
        bufs->next_starved = *starved;
        *starved = bufs;
    }
}

static takt_op *takt__bufs_next_waiter(takt_bufs *bufs)
{
    takt_op *op = bufs->waiting;
    bufs->waiting = op->next;
    if (!bufs->waiting)
        bufs->waiting_last = NULL;
    op->next = NULL;
    return op;
}

TAKT__UNUSED static void takt__bufs_leave(takt_bufs *bufs, takt_op *op)
{
    takt_op *before = NULL;
    for (takt_op *it = bufs->waiting; it; before = it, it = it->next) {
        if (it != op)
            continue;
        if (before)
            before->next = op->next;
        else
            bufs->waiting = op->next;
        if (bufs->waiting_last == op)
            bufs->waiting_last = before;
        op->next = NULL;
        return;
    }
}

/* The next op that can have a buffer now, or NULL. Pools without waiters leave the
 * list of the starved. */
TAKT__UNUSED static takt_op *takt__bufs_serve(takt_bufs **starved)
{
    takt_bufs **link = starved;
    while (*link) {
        takt_bufs *const bufs = *link;
        if (!bufs->waiting) {
            *link = bufs->next_starved;
            bufs->starved = false;
        } else if (takt__bufs_any(bufs)) {
            return takt__bufs_next_waiter(bufs);
        } else {
            link = &bufs->next_starved;
        }
    }
    return NULL;
}

/* True if takt__bufs_serve() would find something. */
TAKT__UNUSED static bool takt__bufs_can_serve(const takt_bufs *starved)
{
    for (; starved; starved = starved->next_starved)
        if (starved->waiting && takt__bufs_any(starved))
            return true;
    return false;
}

/* ==========================================================================
 * >>backend-impl
 * ======================================================================== */

void takt_fds_free(takt_fds *fds)
{
    TAKT_FREE(fds->at);
    fds->at = NULL;
    fds->count = 0;
}

static uint32_t takt__place_of(const takt_op *op)
{
    return ((const takt_slot *)(const void *)op)->index + 1;
}

static int takt__enter_writer(takt_fds *fds, takt_fd *fd, takt_op *op)
{
    const uint32_t place = takt__place_of(op);
    op->next = NULL;
    if (fd->writer) {
        takt_op *const last = takt_fds_op(fds, fd->writer_last);
        if (op->kind != TAKT_OP_SENDTO || last->kind != TAKT_OP_SENDTO)
            return -EBUSY;
        last->next = op;
    } else {
        fd->writer = place;
    }
    fd->writer_last = place;
    return 0;
}

int takt_fds_enter(takt_fds *fds, takt_op *op)
{
    const int direction = takt__direction(op);
    takt_fd *fd;
    if (direction == TAKT__NEITHER || direction == TAKT__CALL)
        return 0;
    if (op->fd < 0)
        return -EBADF;
    if (op->fd >= fds->count)
        return -EMFILE;
    fd = &fds->at[op->fd];
    if (fd->closer)
        return TAKT_ECLOSED;
    if (direction == TAKT__WRITER)
        return takt__enter_writer(fds, fd, op);
    if (direction == TAKT__BOTH) {
        fd->closer = takt__place_of(op);
        return 0;
    }
    if (fd->reader)
        return -EBUSY;
    fd->reader = takt__place_of(op);
    return 0;
}

static void takt__leave_writer(takt_fds *fds, takt_fd *fd, takt_op *op)
{
    takt_op *before = NULL;
    takt_op *it = takt_fds_op(fds, fd->writer);
    while (it && it != op) {
        before = it;
        it = it->next;
    }
    if (!it)
        return;
    if (before)
        before->next = op->next;
    else
        fd->writer = op->next ? takt__place_of(op->next) : 0;
    if (!op->next)
        fd->writer_last = before ? takt__place_of(before) : 0;
    op->next = NULL;
}

takt_op *takt_fds_leave(takt_fds *fds, takt_op *op)
{
    const int direction = takt__direction(op);
    takt_fd *fd;
    if (direction == TAKT__NEITHER || op->fd < 0 || op->fd >= fds->count)
        return NULL;
    fd = &fds->at[op->fd];
    if (direction == TAKT__BOTH)
        fd->closer = 0;
    else if (direction == TAKT__WRITER)
        takt__leave_writer(fds, fd, op);
    else if (fd->reader == takt__place_of(op))
        fd->reader = 0;
    return fd->closer && !fd->reader && !fd->writer ? takt_fds_op(fds, fd->closer) : NULL;
}

#ifndef TAKT_NO_POSIX

#include <arpa/inet.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#if defined(__linux__)
#include <sys/signalfd.h>
#if !defined(TAKT_NO_EPOLL)
#include <sys/epoll.h>
#define TAKT__EPOLL 1
#endif
#endif

enum { /* what some systems cannot be told in the call itself; 0 there */
#if defined(SOCK_CLOEXEC) && defined(SOCK_NONBLOCK)
    TAKT__SOCKET_FLAGS = SOCK_CLOEXEC | SOCK_NONBLOCK,
#else
    TAKT__SOCKET_FLAGS = 0,
#endif
#if defined(MSG_NOSIGNAL)
    TAKT__SEND_FLAGS = MSG_NOSIGNAL | MSG_DONTWAIT
#else
    TAKT__SEND_FLAGS = MSG_DONTWAIT
#endif
};

void takt_bufs_trim(takt_bufs *bufs)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t first = ((uintptr_t)bufs->memory + page - 1) & ~(page - 1);
    const uintptr_t last =
        ((uintptr_t)bufs->memory + (size_t)bufs->fresh * bufs->size) & ~(page - 1);
    if (bufs->in_use)
        return;
#if defined(MADV_DONTNEED)
    if (last > first)
        madvise((void *)first, last - first, MADV_DONTNEED);
#else
    (void)first;
    (void)last;
#endif
    bufs->free = TAKT__NO_BUFFER;
    bufs->fresh = 0;
}

int takt_fds_init(takt_fds *fds, int count, const takt_slots *slots)
{
    enum { MOST = 1 << 20, FEWEST = 64 };
    struct rlimit limit;
    if (count <= 0) {
        count = MOST;
        if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < (rlim_t)MOST)
            count = (int)limit.rlim_cur;
    }
    if (count < FEWEST)
        count = FEWEST; /* ulimit -n may be raised again */
    fds->slots = slots;
    fds->count = count;
    fds->at = (takt_fd *)TAKT_CALLOC((size_t)count, sizeof *fds->at);
    return fds->at ? 0 : -ENOMEM;
}

/* ==========================================================================
 * >>net-impl
 * ======================================================================== */

static struct sockaddr *takt__sockaddr(const takt_addr *addr)
{
    return (struct sockaddr *)(uintptr_t)&addr->sockaddr;
}

/* Reads a decimal number up to `max`. -1 if it is none. */
static int takt__parse_number(const char *text, int max)
{
    int number = 0;
    if (!*text)
        return -1;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return -1;
        number = number * 10 + (*text - '0');
        if (number > max)
            return -1;
    }
    return number;
}

static int takt__parse_unix(takt_addr *addr, const char *path)
{
    struct sockaddr_un un;
    const size_t len = strlen(path);
    memset(&un, 0, sizeof un);
    if (len == 0 || len >= sizeof un.sun_path)
        return -EINVAL;
    un.sun_family = AF_UNIX;
    memcpy(un.sun_path, path, len + 1);
    addr->len = (uint32_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
    memcpy(&addr->sockaddr, &un, addr->len);
    return 0;
}

int takt_addr_parse(takt_addr *addr, const char *text)
{
    char host[64];
    struct sockaddr_in in4;
    struct sockaddr_in6 in6;
    const char *const colon = strrchr(text, ':');
    size_t len;
    int port;

    memset(addr, 0, sizeof *addr);
    if (strncmp(text, "unix:", 5) == 0)
        return takt__parse_unix(addr, text + 5);
    if (!colon || (port = takt__parse_number(colon + 1, 65535)) < 0)
        return -EINVAL;
    len = (size_t)(colon - text);
    if (len >= sizeof host)
        return -EINVAL;
    memcpy(host, text, len);
    host[len] = '\0';
    if (len >= 2 && host[0] == '[' && host[len - 1] == ']') {
        host[len - 1] = '\0';
        memset(&in6, 0, sizeof in6);
        in6.sin6_family = AF_INET6;
        in6.sin6_port = htons((uint16_t)port);
        if (inet_pton(AF_INET6, host + 1, &in6.sin6_addr) != 1)
            return -EINVAL;
        addr->len = sizeof in6;
        memcpy(&addr->sockaddr, &in6, sizeof in6);
        return 0;
    }
    memset(&in4, 0, sizeof in4);
    in4.sin_family = AF_INET;
    in4.sin_port = htons((uint16_t)port);
    if (len > 0 && inet_pton(AF_INET, host, &in4.sin_addr) != 1)
        return -EINVAL;
    addr->len = sizeof in4;
    memcpy(&addr->sockaddr, &in4, sizeof in4);
    return 0;
}

static int takt__family(const takt_addr *addr)
{
    return addr->len >= sizeof(sa_family_t) ? takt__sockaddr(addr)->sa_family : AF_UNSPEC;
}

int takt_addr_port(const takt_addr *addr)
{
    struct sockaddr_in in4;
    const int family = takt__family(addr);
    if (family != AF_INET && family != AF_INET6)
        return 0;
    memcpy(&in4, &addr->sockaddr, sizeof in4); /* the port stands at the same place in both */
    return ntohs(in4.sin_port);
}

const char *takt_addr_format(const takt_addr *addr, char *text, size_t size)
{
    takt__text out = {text, size, 0};
    char host[INET6_ADDRSTRLEN] = "";
    struct sockaddr_un un;
    struct sockaddr_in in4;
    struct sockaddr_in6 in6;
    takt__put(&out, "");
    switch (takt__family(addr)) {
    case AF_INET:
        memcpy(&in4, &addr->sockaddr, sizeof in4);
        inet_ntop(AF_INET, &in4.sin_addr, host, sizeof host);
        takt__put(&out, host);
        break;
    case AF_INET6:
        memcpy(&in6, &addr->sockaddr, sizeof in6);
        inet_ntop(AF_INET6, &in6.sin6_addr, host, sizeof host);
        takt__put(&out, "[");
        takt__put(&out, host);
        takt__put(&out, "]");
        break;
    case AF_UNIX:
        memset(&un, 0, sizeof un);
        memcpy(&un, &addr->sockaddr, addr->len < sizeof un ? addr->len : sizeof un - 1);
        takt__put(&out, "unix:");
        takt__put(&out, un.sun_path);
        return text;
    default:
        takt__put(&out, "(no address)");
        return text;
    }
    takt__put(&out, ":");
    takt__put_number(&out, takt_addr_port(addr));
    return text;
}

bool takt_addr_equal(const takt_addr *a, const takt_addr *b)
{
    struct sockaddr_in a4, b4;
    struct sockaddr_in6 a6, b6;
    if (takt__family(a) != takt__family(b))
        return false;
    switch (takt__family(a)) {
    case AF_INET:
        memcpy(&a4, &a->sockaddr, sizeof a4);
        memcpy(&b4, &b->sockaddr, sizeof b4);
        return a4.sin_port == b4.sin_port && a4.sin_addr.s_addr == b4.sin_addr.s_addr;
    case AF_INET6:
        memcpy(&a6, &a->sockaddr, sizeof a6);
        memcpy(&b6, &b->sockaddr, sizeof b6);
        return a6.sin6_port == b6.sin6_port && a6.sin6_scope_id == b6.sin6_scope_id &&
               memcmp(&a6.sin6_addr, &b6.sin6_addr, sizeof a6.sin6_addr) == 0;
    default:
        return a->len == b->len && memcmp(&a->sockaddr, &b->sockaddr, a->len) == 0;
    }
}

/* -- what the real backends answer at once -------------------------------- */

/* Result of a system call: itself, or -errno. */
static int64_t takt__answer(int64_t result)
{
    return result < 0 ? -errno : result;
}

/* For systems whose calls cannot say so: non-blocking and close-on-exec. */
static int takt__prepare_fd(int fd)
{
    if (TAKT__SOCKET_FLAGS != 0 || fd < 0)
        return fd;
    if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
        const int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

static int64_t takt__make_socket(int family, int type, int protocol)
{
    const int fd = socket(family, type | TAKT__SOCKET_FLAGS, protocol);
    return takt__answer(takt__prepare_fd(fd));
}

static int64_t takt__make_signals(uint64_t mask)
{
#if defined(__linux__)
    sigset_t set;
    sigemptyset(&set);
    for (int number = 1; number < 64; number++)
        if (mask >> number & 1)
            sigaddset(&set, number);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return -errno;
    return takt__answer(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
#else
    (void)mask;
    return -ENOSYS;
#endif
}

/* The next signal of a signalfd. */
static int64_t takt__read_signal(int fd)
{
#if defined(__linux__)
    struct signalfd_siginfo info;
    const ssize_t n = read(fd, &info, sizeof info);
    return n < 0 ? -errno : n == (ssize_t)sizeof info ? (int64_t)info.ssi_signo : -EIO;
#else
    (void)fd;
    return -ENOSYS;
#endif
}

/* getsockname and getpeername; the kernel may report more than fits. */
static int64_t takt__name_of(int fd, takt_addr *addr, bool peer)
{
    socklen_t len = sizeof addr->sockaddr;
    const int rc = peer ? getpeername(fd, takt__sockaddr(addr), &len)
                        : getsockname(fd, takt__sockaddr(addr), &len);
    if (rc < 0)
        return -errno;
    addr->len = len < sizeof addr->sockaddr ? (uint32_t)len : (uint32_t)sizeof addr->sockaddr;
    return 0;
}

/* Answers the ops that never wait. */
static int64_t takt__net_call(takt_op *op)
{
    takt_addr *const addr = (takt_addr *)op->arg.ptr;
    socklen_t len;
    switch (op->kind) {
    case TAKT_OP_SOCKET:
        return takt__make_socket(op->fd, (int)op->bits, (int)op->extra);
    case TAKT_OP_BIND:
        return takt__answer(bind(op->fd, takt__sockaddr(addr), addr->len));
    case TAKT_OP_LISTEN:
        return takt__answer(listen(op->fd, (int)op->bits));
    case TAKT_OP_SETOPT:
        return takt__answer(setsockopt(op->fd, (int)op->extra, (int)op->bits, op->buf,
                                       (socklen_t)op->len));
    case TAKT_OP_GETOPT:
        len = (socklen_t)op->len;
        return takt__answer(getsockopt(op->fd, (int)op->extra, (int)op->bits, op->buf, &len));
    case TAKT_OP_SOCKNAME:
        return takt__name_of(op->fd, addr, false);
    case TAKT_OP_PEERNAME:
        return takt__name_of(op->fd, addr, true);
    case TAKT_OP_SIGNALS:
        return takt__make_signals(op->arg.done);
    case TAKT_OP_CLOSE:
        return takt__answer(close(op->fd));
    default:
        return -ENOTSUP;
    }
}

/* shutdown(2), with its real outcome: that the peer was faster is no error. */
static int64_t takt__do_shutdown(const takt_op *op)
{
    const int64_t result = takt__answer(shutdown(op->fd, (int)op->bits));
    return result == -ENOTCONN ? 0 : result;
}

/* A socket that dials a port of the ephemeral range on its own machine can meet itself. */
static bool takt__met_itself(int fd, const takt_addr *to)
{
    takt_addr own;
    memset(&own, 0, sizeof own);
    return takt__family(to) != AF_UNIX && takt__name_of(fd, &own, false) == 0 &&
           takt_addr_equal(&own, to);
}

int takt_raise_fd_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return -errno;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        return -errno;
    return limit.rlim_cur > INT_MAX ? INT_MAX : (int)limit.rlim_cur;
}

/* -- calls of a coroutine, answered by its loop's backend ----------------- */

/* What the scheduler passes on to the backend. */
static int64_t takt__ask(takt_frame *frame, takt_op *op);

static int takt__ask_close(takt_frame *frame, int fd, int64_t error)
{
    takt_op op = takt__op(TAKT_OP_CLOSE, fd, NULL, 0);
    takt__ask(frame, &op);
    return (int)error;
}

int takt_socket(takt_frame *frame, int family, int type, int protocol)
{
    takt_op op = takt__op(TAKT_OP_SOCKET, family, NULL, 0);
    op.bits = (uint32_t)type;
    op.extra = (uint32_t)protocol;
    return (int)takt__ask(frame, &op);
}

static int takt__ask_name(takt_frame *frame, takt_op_kind kind, int fd, takt_addr *addr)
{
    takt_op op = takt__op(kind, fd, NULL, 0);
    memset(addr, 0, sizeof *addr);
    op.arg.ptr = addr;
    return (int)takt__ask(frame, &op);
}

int takt_sockname(takt_frame *frame, int fd, takt_addr *addr)
{
    return takt__ask_name(frame, TAKT_OP_SOCKNAME, fd, addr);
}

int takt_peername(takt_frame *frame, int fd, takt_addr *addr)
{
    return takt__ask_name(frame, TAKT_OP_PEERNAME, fd, addr);
}

int takt_setsockopt(takt_frame *frame, int fd, int level, int name, int value)
{
    takt_op op = takt__op(TAKT_OP_SETOPT, fd, &value, sizeof value);
    op.bits = (uint32_t)name;
    op.extra = (uint32_t)level;
    return (int)takt__ask(frame, &op);
}

int takt_getsockopt(takt_frame *frame, int fd, int level, int name, int *value)
{
    takt_op op = takt__op(TAKT_OP_GETOPT, fd, value, sizeof *value);
    op.bits = (uint32_t)name;
    op.extra = (uint32_t)level;
    return (int)takt__ask(frame, &op);
}

/* A socket of the address's family, bound to it. */
static int takt__bound(takt_frame *frame, const takt_addr *addr, int type)
{
    takt_op op = takt__op(TAKT_OP_BIND, -1, NULL, 0);
    int64_t rc;
    const int fd = takt_socket(frame, takt__family(addr), type, 0);
    if (fd < 0)
        return fd;
    if (type == SOCK_STREAM && takt__family(addr) != AF_UNIX)
        takt_setsockopt(frame, fd, SOL_SOCKET, SO_REUSEADDR, 1);
    op.fd = fd;
    op.arg.ptr = (void *)(uintptr_t)addr;
    rc = takt__ask(frame, &op);
    return rc < 0 ? takt__ask_close(frame, fd, rc) : fd;
}

/* Removes the file of a Unix socket on which nobody listens any more. */
static void takt__remove_dead(const takt_addr *addr)
{
    struct sockaddr_un un;
    struct stat info;
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    memset(&un, 0, sizeof un);
    memcpy(&un, &addr->sockaddr, addr->len < sizeof un ? addr->len : sizeof un - 1);
    if (fd < 0)
        return;
    if (connect(fd, takt__sockaddr(addr), addr->len) < 0 && errno == ECONNREFUSED &&
        stat(un.sun_path, &info) == 0 && S_ISSOCK(info.st_mode))
        unlink(un.sun_path);
    close(fd);
}

int takt_listen(takt_frame *frame, const takt_addr *addr, int backlog)
{
    takt_op op = takt__op(TAKT_OP_LISTEN, -1, NULL, 0);
    int64_t rc;
    int fd;
    if (takt__family(addr) == AF_UNIX)
        takt__remove_dead(addr);
    fd = takt__bound(frame, addr, SOCK_STREAM);
    if (fd < 0)
        return fd;
    op.fd = fd;
    op.bits = (uint32_t)(backlog > 0 ? backlog : SOMAXCONN);
    rc = takt__ask(frame, &op);
    return rc < 0 ? takt__ask_close(frame, fd, rc) : fd;
}

int takt_udp_bind(takt_frame *frame, const takt_addr *addr)
{
    return takt__bound(frame, addr, SOCK_DGRAM);
}

/* One option more, unless one before it failed or this one is not wanted. */
static int takt__option(takt_frame *frame, int rc, int fd, int level, int name, int64_t value)
{
    if (rc < 0 || value <= 0)
        return rc;
    return takt_setsockopt(frame, fd, level, name, value > INT_MAX ? INT_MAX : (int)value);
}

int takt_tcp_options(takt_frame *frame, int fd, const takt_tcp *options)
{
    takt_addr own;
    int rc = takt_sockname(frame, fd, &own);
    rc = takt__option(frame, rc, fd, SOL_SOCKET, SO_RCVBUF, options->receive_buffer);
    rc = takt__option(frame, rc, fd, SOL_SOCKET, SO_SNDBUF, options->send_buffer);
    if (rc < 0 || takt__family(&own) == AF_UNIX)
        return rc;
    rc = takt__option(frame, rc, fd, IPPROTO_TCP, TCP_NODELAY, options->nodelay);
    if (options->keepalive > 0) {
        const takt_ns seconds = (options->keepalive + TAKT_SEC - 1) / TAKT_SEC;
        rc = takt__option(frame, rc, fd, SOL_SOCKET, SO_KEEPALIVE, 1);
#if defined(TCP_KEEPIDLE)
        rc = takt__option(frame, rc, fd, IPPROTO_TCP, TCP_KEEPIDLE, seconds);
        rc = takt__option(frame, rc, fd, IPPROTO_TCP, TCP_KEEPINTVL, (seconds + 8) / 9);
#else
        (void)seconds;
#endif
    }
#if defined(TCP_USER_TIMEOUT)
    rc = takt__option(frame, rc, fd, IPPROTO_TCP, TCP_USER_TIMEOUT,
                      (options->user_timeout + TAKT_MS - 1) / TAKT_MS);
#endif
    return rc;
}

int takt_reset_on_close(takt_frame *frame, int fd)
{
    struct linger linger = {1, 0};
    takt_op op = takt__op(TAKT_OP_SETOPT, fd, &linger, sizeof linger);
    op.bits = SO_LINGER;
    op.extra = SOL_SOCKET;
    return (int)takt__ask(frame, &op);
}

int takt_signals(takt_frame *frame, uint64_t mask)
{
    takt_op op = takt__op(TAKT_OP_SIGNALS, -1, NULL, 0);
    op.arg.done = mask;
    return (int)takt__ask(frame, &op);
}

/* ==========================================================================
 * >>posix-impl
 *
 * For each descriptor two hints are kept: that reading, that writing may succeed.
 * A hint falls when a try says EAGAIN or does less than it was asked for, and rises
 * with the next edge that epoll reports. So an op is tried when it may succeed, and a
 * descriptor is told to epoll once.
 * ======================================================================== */

enum { /* takt_fd.bits */
    TAKT__MAY_READ = 1,
    TAKT__MAY_WRITE = 2,
    TAKT__HUNG_UP = 4,   /* hints no longer fall by short results */
    TAKT__KNOWN = 8,     /* to epoll; until then anything may succeed */
    TAKT__ALWAYS = 16,   /* a regular file */
    TAKT__QUEUED = 32    /* in the list of those to try */
};

enum { /* takt_op.state */
    TAKT__IDLE_OP,
    TAKT__WAITING,
    TAKT__NO_BUFFERS, /* in the line of a pool */
    TAKT__DONE
};

enum { TAKT__AT_MOST = 1 << 30 }; /* bytes a system call */

const char *takt_posix_name(const takt_posix *posix)
{
    return posix->epoll >= 0 ? "epoll" : "poll";
}

int takt_posix_init(takt_posix *posix, const takt_posix_config *config, const takt_slots *slots)
{
    int rc;
    memset(posix, 0, sizeof *posix);
    posix->epoll = -1;
    rc = takt_fds_init(&posix->fds, config->fds_max, slots);
    if (rc < 0)
        return rc;
    posix->run_next = (uint32_t *)TAKT_CALLOC((size_t)posix->fds.count, sizeof(uint32_t));
    rc = posix->run_next ? 0 : -ENOMEM;
#if defined(TAKT__EPOLL)
    if (rc == 0 && !config->poll_instead) {
        posix->epoll = epoll_create1(EPOLL_CLOEXEC);
        rc = posix->epoll < 0 ? -errno : 0;
    }
#endif
    if (rc == 0 && posix->epoll < 0) {
        posix->polls =
            (struct pollfd *)TAKT_CALLOC((size_t)posix->fds.count, sizeof(struct pollfd));
        rc = posix->polls ? 0 : -ENOMEM;
    }
    if (rc < 0)
        takt_posix_free(posix);
    return rc;
}

void takt_posix_free(takt_posix *posix)
{
    if (posix->epoll >= 0)
        close(posix->epoll);
    posix->epoll = -1;
    TAKT_FREE(posix->polls);
    TAKT_FREE(posix->run_next);
    takt_fds_free(&posix->fds);
    posix->polls = NULL;
    posix->run_next = NULL;
}

takt_ns takt_posix_now(takt_posix *posix)
{
    struct timespec ts;
    (void)posix;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (takt_ns)ts.tv_sec * TAKT_SEC + ts.tv_nsec;
}

/* -- lists ----------------------------------------------------------------- */

static void takt__posix_done(takt_posix *posix, takt_op *op, int64_t result)
{
    takt_fds_leave(&posix->fds, op);
    op->result = result;
    op->state = TAKT__DONE;
    op->next = NULL;
    if (posix->done_first)
        posix->done_last->next = op;
    else
        posix->done_first = op;
    posix->done_last = op;
}

static void takt__posix_queue(takt_posix *posix, int fd)
{
    takt_fd *const entry = &posix->fds.at[fd];
    const uint32_t place = (uint32_t)fd + 1;
    if (fd >= posix->fd_limit)
        posix->fd_limit = fd + 1;
    if (entry->bits & TAKT__QUEUED)
        return;
    entry->bits |= TAKT__QUEUED;
    posix->run_next[fd] = 0;
    if (posix->run_first)
        posix->run_next[posix->run_last - 1] = place;
    else
        posix->run_first = place;
    posix->run_last = place;
}

/* A descriptor that has just been opened: nothing is known of it. Beyond the table it
 * could not be served, nor closed again. */
static int64_t takt__posix_opened(takt_posix *posix, int64_t fd)
{
    if (fd < 0)
        return fd;
    if (fd >= posix->fds.count) {
        close((int)fd);
        return -EMFILE;
    }
    posix->fds.at[fd].bits &= TAKT__QUEUED;
    return fd;
}

/* ==========================================================================
 * >>try-impl
 *
 * One try of one op of the portable backend; -EAGAIN: it has to wait.
 * ======================================================================== */

static size_t takt__clamp(size_t len)
{
    return len < (size_t)TAKT__AT_MOST ? len : (size_t)TAKT__AT_MOST;
}

/* The iovecs of `op` that are left after op->arg.done bytes; `part` holds the rest of
 * the one that was begun. Returns how many whole ones follow it. */
static size_t takt__vector_left(const takt_op *op, struct iovec *part, const struct iovec **rest)
{
    const struct iovec *iov = (const struct iovec *)op->buf;
    size_t left = op->len;
    uint64_t done = op->arg.done;
    while (left && done >= iov->iov_len) {
        done -= iov->iov_len;
        iov++;
        left--;
    }
    part->iov_base = left ? (char *)iov->iov_base + done : NULL;
    part->iov_len = left ? iov->iov_len - (size_t)done : 0;
    *rest = left ? iov + 1 : iov;
    return left ? left - 1 : 0;
}

static int64_t takt__try_vector(const takt_op *op, bool sending)
{
    struct iovec part;
    const struct iovec *rest;
    struct msghdr message;
    memset(&message, 0, sizeof message);
    if (op->arg.done) { /* what is left of one comes first, alone */
        takt__vector_left(op, &part, &rest);
        message.msg_iov = &part;
        message.msg_iovlen = 1;
    } else {
        message.msg_iov = (struct iovec *)op->buf;
        message.msg_iovlen = op->len < 1024 ? (unsigned)op->len : 1024;
    }
    if (sending)
        return takt__answer(sendmsg(op->fd, &message, (int)op->bits | TAKT__SEND_FLAGS));
    return takt__answer(recvmsg(op->fd, &message, (int)op->bits | MSG_DONTWAIT));
}

/* Bytes that the op is about. */
static uint64_t takt__op_bytes(const takt_op *op)
{
    uint64_t sum = 0;
    if (!(op->flags & TAKT_OP_VECTOR))
        return op->len;
    for (size_t i = 0; i < op->len; i++)
        sum += ((const struct iovec *)op->buf)[i].iov_len;
    return sum;
}

static int64_t takt__try_bytes(const takt_op *op, bool sending)
{
    char *const at = (char *)op->buf + op->arg.done;
    const size_t len = takt__clamp(op->len - (size_t)op->arg.done);
    if (op->flags & TAKT_OP_VECTOR)
        return takt__try_vector(op, sending);
    if (sending)
        return takt__answer(send(op->fd, at, len, (int)op->bits | TAKT__SEND_FLAGS));
    return takt__answer(recv(op->fd, at, len, (int)op->bits | MSG_DONTWAIT));
}

/* send and recv, until all is done where that was asked for. */
static int64_t takt__try_stream(takt_fd *entry, takt_op *op, bool sending)
{
    const uint64_t bytes = takt__op_bytes(op);
    for (;;) {
        const int64_t n = takt__try_bytes(op, sending);
        if (n < 0)
            return n;
        if (n == 0 && !sending)
            return op->flags & TAKT_OP_ALL ? TAKT_ETRUNCATED : 0;
        if (!(op->flags & TAKT_OP_ALL)) {
            if ((uint64_t)n < bytes && !(entry->bits & TAKT__HUNG_UP))
                entry->bits &= ~(uint32_t)TAKT__MAY_READ;
            return n;
        }
        op->arg.done += (uint64_t)n;
        if (op->arg.done == bytes)
            return (int64_t)bytes;
    }
}

static int64_t takt__try_accept(takt_posix *posix, takt_op *op)
{
    takt_addr *const peer = (takt_addr *)op->arg.ptr;
    socklen_t len = sizeof peer->sockaddr;
    struct sockaddr *const to = peer ? takt__sockaddr(peer) : NULL;
    int fd;
#if defined(__linux__)
    fd = accept4(op->fd, to, peer ? &len : NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
#else
    fd = takt__prepare_fd(accept(op->fd, to, peer ? &len : NULL));
#endif
    if (fd < 0)
        return -errno;
    if (peer)
        peer->len = (uint32_t)len;
    return takt__posix_opened(posix, fd);
}

static int64_t takt__try_datagram(takt_op *op, bool sending)
{
    takt_addr *const addr = (takt_addr *)op->arg.ptr;
    struct sockaddr *const sockaddr = addr ? takt__sockaddr(addr) : NULL;
    socklen_t len = sizeof addr->sockaddr;
    int64_t n;
    if (sending)
        return takt__answer(sendto(op->fd, op->buf, op->len, TAKT__SEND_FLAGS, sockaddr,
                                   addr ? addr->len : 0));
    n = takt__answer(recvfrom(op->fd, op->buf, op->len, MSG_TRUNC | MSG_DONTWAIT, sockaddr,
                              addr ? &len : NULL));
    if (n >= 0 && addr)
        addr->len = (uint32_t)len;
    return n;
}

static int64_t takt__try_lease(takt_posix *posix, takt_fd *entry, takt_op *op)
{
    takt_bufs *const bufs = (takt_bufs *)op->arg.ptr;
    unsigned char *data = takt_bufs_take(bufs);
    int64_t n;
    if (!data) {
        op->state = TAKT__NO_BUFFERS;
        takt__bufs_wait(bufs, op, &posix->starved);
        return -EAGAIN;
    }
    n = takt__answer(recv(op->fd, data, bufs->size, MSG_DONTWAIT));
    if (n <= 0) {
        takt_bufs_put(bufs, &data);
        return n;
    }
    if ((uint64_t)n < bufs->size && !(entry->bits & TAKT__HUNG_UP))
        entry->bits &= ~(uint32_t)TAKT__MAY_READ;
    *(unsigned char **)op->buf = data;
    return n;
}

static int64_t takt__try_file(const takt_op *op)
{
    const size_t len = takt__clamp(op->len);
    const off_t offset = (off_t)op->arg.offset;
    if (op->kind == TAKT_OP_READ)
        return takt__answer(offset < 0 ? read(op->fd, op->buf, len)
                                       : pread(op->fd, op->buf, len, offset));
    return takt__answer(offset < 0 ? write(op->fd, op->buf, len)
                                   : pwrite(op->fd, op->buf, len, offset));
}

static int64_t takt__try_ready(const takt_op *op)
{
    struct pollfd now;
    now.fd = op->fd;
    now.events = (short)op->bits;
    now.revents = 0;
    if (poll(&now, 1, 0) < 0)
        return -errno;
    return now.revents ? now.revents : -EAGAIN;
}

/* The end of a connect that was in progress. */
static int64_t takt__try_connected(takt_op *op)
{
    struct pollfd now;
    int error = 0;
    socklen_t len = sizeof error;
    now.fd = op->fd;
    now.events = POLLOUT;
    now.revents = 0;
    if (poll(&now, 1, 0) <= 0)
        return -EAGAIN;
    if (getsockopt(op->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
        return -errno;
    return error ? -error : 0;
}

static int64_t takt__try(takt_posix *posix, takt_fd *entry, takt_op *op)
{
    int64_t result;
    switch (op->kind) {
    case TAKT_OP_ACCEPT:
        return takt__try_accept(posix, op);
    case TAKT_OP_CONNECT:
    case TAKT_OP_DIAL:
        return takt__try_connected(op);
    case TAKT_OP_RECV:
        return takt__try_stream(entry, op, false);
    case TAKT_OP_SEND:
        return takt__try_stream(entry, op, true);
    case TAKT_OP_RECVFROM:
        return takt__try_datagram(op, false);
    case TAKT_OP_SENDTO:
        return takt__try_datagram(op, true);
    case TAKT_OP_LEASE:
        return takt__try_lease(posix, entry, op);
    case TAKT_OP_READ:
    case TAKT_OP_WRITE:
        return takt__try_file(op);
    case TAKT_OP_READY:
        return takt__try_ready(op);
    case TAKT_OP_SIGNAL:
        result = takt__read_signal(op->fd);
        return result;
    default:
        return -ENOTSUP;
    }
}

/* ==========================================================================
 * >>wait-impl
 *
 * What waits for which descriptor: submit, cancel and poll of the portable backend.
 * ======================================================================== */

/* Tells epoll of a descriptor. 0, or why that cannot be. */
static int takt__posix_watch(takt_posix *posix, int fd, takt_fd *entry)
{
#if defined(TAKT__EPOLL)
    struct epoll_event event;
    memset(&event, 0, sizeof event);
    event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    event.data.fd = fd;
    if (posix->epoll >= 0 && epoll_ctl(posix->epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
        if (errno == EPERM)
            entry->bits |= TAKT__ALWAYS;
        else if (errno != EEXIST)
            return -errno;
    }
#else
    (void)posix;
    (void)fd;
#endif
    entry->bits |= TAKT__KNOWN;
    return 0;
}

/* What a connect needs after it is over: the descriptor, or its end. */
static int64_t takt__posix_dialled(takt_posix *posix, takt_op *op, int64_t result)
{
    const int fd = op->fd;
    if (op->kind != TAKT_OP_DIAL || fd < 0)
        return result;
    if (result == 0 && takt__met_itself(fd, (const takt_addr *)op->arg.ptr))
        result = TAKT_ESELF;
    takt_fds_leave(&posix->fds, op);
    if (result == 0)
        return fd;
    posix->fds.at[fd].bits &= TAKT__QUEUED;
    close(fd);
    op->fd = -1;
    return result;
}

/* Tries `op`. True if it is over. */
static bool takt__posix_try(takt_posix *posix, takt_op *op, uint32_t hint)
{
    takt_fd *const entry = &posix->fds.at[op->fd];
    int64_t result;
    do
        result = takt__try(posix, entry, op);
    while (result == -EINTR);
    if ((result == -EAGAIN || result == -EWOULDBLOCK) && !(entry->bits & TAKT__ALWAYS)) {
        int rc;
        if (op->state == TAKT__NO_BUFFERS)
            return false;
        entry->bits &= ~hint;
        rc = entry->bits & TAKT__KNOWN ? 0 : takt__posix_watch(posix, op->fd, entry);
        if (entry->bits & TAKT__ALWAYS) /* a file after all */
            return takt__posix_try(posix, op, hint);
        if (rc == 0)
            return false;
        result = rc;
    }
    takt__posix_done(posix, op, takt__posix_dialled(posix, op, result));
    return true;
}

/* Tries what waits on `fd`, where it may succeed. */
static void takt__posix_run(takt_posix *posix, int fd)
{
    takt_fd *const entry = &posix->fds.at[fd];
    takt_op *op = takt_fds_op(&posix->fds, entry->reader);
    if (op && op->state != TAKT__NO_BUFFERS &&
        (!(entry->bits & TAKT__KNOWN) || entry->bits & (TAKT__MAY_READ | TAKT__ALWAYS)))
        takt__posix_try(posix, op, TAKT__MAY_READ);
    while ((op = takt_fds_op(&posix->fds, entry->writer)) != NULL &&
           (!(entry->bits & TAKT__KNOWN) || entry->bits & (TAKT__MAY_WRITE | TAKT__ALWAYS)))
        if (!takt__posix_try(posix, op, TAKT__MAY_WRITE))
            break;
}

static void takt__posix_event(takt_posix *posix, int fd, bool in, bool out, bool gone)
{
    takt_fd *const entry = &posix->fds.at[fd];
    if (in || gone)
        entry->bits |= TAKT__MAY_READ;
    if (out || gone)
        entry->bits |= TAKT__MAY_WRITE;
    if (gone)
        entry->bits |= TAKT__HUNG_UP;
    takt__posix_run(posix, fd);
}

/* -- submit, cancel ----------------------------------------------------------- */

/* Begins a connect. -EINPROGRESS: it waits for the descriptor to become writable. */
static int64_t takt__posix_connect(takt_posix *posix, takt_op *op)
{
    const takt_addr *const addr = (const takt_addr *)op->arg.ptr;
    takt_fd *entry;
    int rc;
    if (op->kind == TAKT_OP_DIAL) {
        const int64_t fd = takt__posix_opened(
            posix, takt__make_socket(takt__family(addr), SOCK_STREAM, 0));
        if (fd < 0)
            return fd;
        op->fd = (int32_t)fd;
    }
    rc = takt_fds_enter(&posix->fds, op);
    if (rc < 0)
        return rc;
    entry = &posix->fds.at[op->fd];
    if (connect(op->fd, takt__sockaddr(addr), addr->len) == 0)
        return 0;
    if (errno != EINPROGRESS && errno != EINTR)
        return -errno;
    if (op->fd >= posix->fd_limit)
        posix->fd_limit = op->fd + 1;
    rc = takt__posix_watch(posix, op->fd, entry); /* after connect: else it reports a hang-up */
    return rc < 0 ? rc : -EINPROGRESS;
}

/* Cancels what is in flight on a descriptor and closes it. */
static void takt__posix_close(takt_posix *posix, takt_op *op)
{
    takt_fd *const entry = &posix->fds.at[op->fd];
    takt_op *it;
    while ((it = takt_fds_op(&posix->fds, entry->reader ? entry->reader : entry->writer)) != NULL) {
        if (it->state == TAKT__NO_BUFFERS)
            takt__bufs_leave((takt_bufs *)it->arg.ptr, it);
        takt__posix_done(posix, it, TAKT_ECLOSED);
    }
    entry->bits &= TAKT__QUEUED;
    takt__posix_done(posix, op, takt__answer(close(op->fd)));
}

int takt_posix_submit(takt_posix *posix, takt_op *op, takt_token *token)
{
    int64_t result;
    int rc;
    (void)token;
    op->state = TAKT__WAITING;
    switch (op->kind) {
    case TAKT_OP_NOP:
        takt__posix_done(posix, op, 0);
        return 0;
    case TAKT_OP_SHUTDOWN:
        takt__posix_done(posix, op, takt__do_shutdown(op));
        return 0;
    case TAKT_OP_CONNECT:
    case TAKT_OP_DIAL:
        result = takt__posix_connect(posix, op);
        if (result != -EINPROGRESS)
            takt__posix_done(posix, op, takt__posix_dialled(posix, op, result));
        return 0;
    case TAKT_OP_CLOSE:
        if (op->fd < 0 || op->fd >= posix->fds.count) { /* nothing of ours is in flight there */
            takt__posix_done(posix, op, op->fd < 0 ? 0 : takt__answer(close(op->fd)));
            return 0;
        }
        break;
    case TAKT_OP_RECV:
    case TAKT_OP_SEND:
        op->arg.done = 0; /* the user's array of a batch may be awaited again */
        if (takt__op_bytes(op) == 0) { /* no question of readiness */
            takt__posix_done(posix, op, 0);
            return 0;
        }
        break;
    case TAKT_OP_READ:
    case TAKT_OP_WRITE:
        if (op->len == 0) { /* no question of readiness */
            takt__posix_done(posix, op, 0);
            return 0;
        }
        break;
    default:
        if (takt__direction(op) == TAKT__NEITHER || takt__direction(op) == TAKT__CALL)
            return -ENOTSUP;
        break;
    }
    rc = takt_fds_enter(&posix->fds, op);
    if (rc < 0)
        return rc;
    if (op->kind == TAKT_OP_CLOSE)
        takt__posix_close(posix, op);
    else
        takt__posix_queue(posix, op->fd);
    return 0;
}

void takt_posix_cancel(takt_posix *posix, takt_op *op)
{
    if (op->state != TAKT__WAITING && op->state != TAKT__NO_BUFFERS)
        return; /* too late: it reports what it did */
    if (op->state == TAKT__NO_BUFFERS)
        takt__bufs_leave((takt_bufs *)op->arg.ptr, op);
    takt__posix_done(posix, op, takt__posix_dialled(posix, op, -ECANCELED));
}

/* -- poll ----------------------------------------------------------------------- */

static void takt__posix_run_queued(takt_posix *posix)
{
    takt_op *op;
    while ((op = takt__bufs_serve(&posix->starved)) != NULL) {
        op->state = TAKT__WAITING;
        takt__posix_try(posix, op, TAKT__MAY_READ);
    }
    while (posix->run_first) {
        const int fd = (int)posix->run_first - 1;
        posix->run_first = posix->run_next[fd];
        posix->fds.at[fd].bits &= ~(uint32_t)TAKT__QUEUED;
        takt__posix_run(posix, fd);
    }
}

#if defined(TAKT__EPOLL)
static int takt__posix_epoll(takt_posix *posix, takt_ns wait)
{
    enum { EVENTS = 128 };
    struct epoll_event events[EVENTS];
    int count;
#if defined(__GLIBC_PREREQ)
#if __GLIBC_PREREQ(2, 35)
#define TAKT__EPOLL_NS 1
#endif
#endif
#if defined(TAKT__EPOLL_NS)
    struct timespec ts;
    if (wait > 0 && wait != TAKT_FOREVER) {
        ts.tv_sec = (time_t)(wait / TAKT_SEC);
        ts.tv_nsec = (long)(wait % TAKT_SEC);
        count = epoll_pwait2(posix->epoll, events, EVENTS, &ts, NULL);
        if (count >= 0 || errno != ENOSYS)
            goto told;
    }
#endif
    count = epoll_wait(posix->epoll, events, EVENTS,
                       wait == TAKT_FOREVER ? -1
                       : wait / TAKT_MS >= INT_MAX
                           ? INT_MAX
                           : (int)((wait + TAKT_MS - 1) / TAKT_MS));
#if defined(TAKT__EPOLL_NS)
told:
#endif
    if (count < 0)
        return errno == EINTR ? 0 : -errno;
    for (int i = 0; i < count; i++)
        takt__posix_event(posix, events[i].data.fd, events[i].events & EPOLLIN,
                          events[i].events & EPOLLOUT,
                          events[i].events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP));
    return 0;
}
#endif

static int takt__posix_poll(takt_posix *posix, takt_ns wait)
{
    nfds_t count = 0;
    int rc;
    for (int fd = 0; fd < posix->fd_limit; fd++) {
        const takt_fd *const entry = &posix->fds.at[fd];
        const takt_op *const reader = takt_fds_op(&posix->fds, entry->reader);
        short events = 0;
        if (reader && reader->state != TAKT__NO_BUFFERS)
            events |= POLLIN;
        if (entry->writer)
            events |= POLLOUT;
        if (!events)
            continue;
        posix->polls[count].fd = fd;
        posix->polls[count].events = events;
        posix->polls[count++].revents = 0;
    }
    rc = poll(posix->polls, count,
              wait == TAKT_FOREVER          ? -1
              : wait / TAKT_MS >= INT_MAX ? INT_MAX
                                            : (int)((wait + TAKT_MS - 1) / TAKT_MS));
    if (rc < 0)
        return errno == EINTR ? 0 : -errno;
    for (nfds_t i = 0; i < count && rc > 0; i++) {
        const short events = posix->polls[i].revents;
        if (events)
            takt__posix_event(posix, posix->polls[i].fd, events & POLLIN, events & POLLOUT,
                              events & (POLLERR | POLLHUP | POLLNVAL));
    }
    return 0;
}

static int takt__posix_ask(takt_posix *posix, takt_ns wait)
{
#if defined(TAKT__EPOLL)
    if (posix->epoll >= 0)
        return takt__posix_epoll(posix, wait);
#endif
    return takt__posix_poll(posix, wait);
}

int takt_posix_poll(takt_posix *posix, takt_completion *done, int max, takt_ns wait)
{
    enum { SKIPS = 4 }; /* with enough to hand out, the system is asked every so often */
    int count = 0;
    takt__posix_run_queued(posix);
    if (!posix->done_first || ++posix->skipped > SKIPS) {
        const int rc = takt__posix_ask(posix, posix->done_first ? 0 : wait);
        if (rc < 0)
            return rc;
        posix->skipped = 0;
    }
    while (posix->done_first && count < max) {
        takt_op *const op = posix->done_first;
        takt_completion *const completion = &done[count++];
        posix->done_first = op->next;
        op->next = NULL;
        op->state = TAKT__IDLE_OP;
        completion->token = takt_token_of(op);
        completion->value = op->result;
        completion->error = op->result < 0 ? (int32_t)op->result : 0;
        completion->flags = 0;
        completion->payload = NULL;
    }
    return count;
}

void takt_posix_flush(takt_posix *posix)
{
    takt__posix_run_queued(posix);
}

bool takt_posix_busy(takt_posix *posix)
{
    return posix->done_first || posix->run_first || takt__bufs_can_serve(posix->starved);
}

int takt_posix_fd(takt_posix *posix)
{
    return posix->epoll;
}

int64_t takt_posix_call(takt_posix *posix, takt_op *op)
{
    const int64_t result = takt__net_call(op);
    if (op->kind == TAKT_OP_SOCKET || op->kind == TAKT_OP_SIGNALS)
        return takt__posix_opened(posix, result);
    if (op->kind == TAKT_OP_CLOSE && op->fd >= 0 && op->fd < posix->fds.count)
        posix->fds.at[op->fd].bits &= TAKT__QUEUED;
    return result;
}

#endif /* TAKT_NO_POSIX */

/* ==========================================================================
 * >>timer-impl
 *
 * A timer's tick differs from the wheel's in some highest digit (of 6 bits): that is
 * its level, and the digit its slot there. So all timers of a level lie ahead in its
 * present block, and the first used slot of the lowest used level comes next.
 * ======================================================================== */

enum { TAKT__TICK_SHIFT = 17 };

static inline int takt__lowest_bit(uint64_t bits)
{
#if defined(__GNUC__)
    return __builtin_ctzll(bits);
#else
    int index = 0;
    while (!(bits & 1)) {
        bits >>= 1;
        index++;
    }
    return index;
#endif
}

static void takt__list_init(takt_timer *list)
{
    list->next = list->prev = list;
}

static void takt__list_add(takt_timer *list, takt_timer *timer)
{
    timer->prev = list->prev;
    timer->next = list;
    list->prev->next = timer;
    list->prev = timer;
}

/* The first tick at or after `when`. */
static uint64_t takt__tick_of(takt_ns when)
{
    if (when <= 0)
        return 0;
    return ((uint64_t)when + (uint64_t)TAKT_TICK - 1) >> TAKT__TICK_SHIFT; /* fits 48 bits */
}

void takt_wheel_init(takt_wheel *wheel, takt_ns now)
{
    memset(wheel, 0, sizeof *wheel);
    wheel->tick = now > 0 ? (uint64_t)now >> TAKT__TICK_SHIFT : 0;
    takt__list_init(&wheel->due);
    for (int level = 0; level < TAKT__LEVELS; level++)
        for (int slot = 0; slot < TAKT__SLOTS; slot++)
            takt__list_init(&wheel->at[level][slot]);
}

static void takt__wheel_place(takt_wheel *wheel, takt_timer *timer)
{
    const uint64_t tick = takt__tick_of(timer->when);
    const uint64_t differs = tick ^ wheel->tick;
    int level = 0;
    int slot;
    if (tick <= wheel->tick) {
        takt__list_add(&wheel->due, timer);
        return;
    }
    while (level < TAKT__LEVELS - 1 && differs >> (6 * (level + 1)))
        level++;
    slot = (int)(tick >> (6 * level) & (TAKT__SLOTS - 1));
    takt__list_add(&wheel->at[level][slot], timer);
    wheel->used[level] |= (uint64_t)1 << slot;
}

void takt_timer_disarm(takt_wheel *wheel, takt_timer *timer)
{
    takt_timer *const first = &wheel->at[0][0];
    takt_timer *const list = timer->next;
    if (!list)
        return;
    timer->prev->next = timer->next;
    timer->next->prev = timer->prev;
    if (list == timer->prev && list >= first && list < first + TAKT__LEVELS * TAKT__SLOTS) {
        const ptrdiff_t index = list - first; /* the slot is empty now */
        wheel->used[index / TAKT__SLOTS] &= ~((uint64_t)1 << (index % TAKT__SLOTS));
    }
    timer->next = timer->prev = NULL;
    wheel->count--;
}

void takt_timer_arm(takt_wheel *wheel, takt_timer *timer, takt_ns when)
{
    takt_timer_disarm(wheel, timer);
    timer->when = when;
    wheel->count++;
    takt__wheel_place(wheel, timer);
}

/* The tick of the next used slot; false if there is none. */
static bool takt__wheel_next(const takt_wheel *wheel, uint64_t *tick, int *level, int *slot)
{
    for (*level = 0; *level < TAKT__LEVELS; ++*level) {
        const int shift = 6 * *level;
        if (!wheel->used[*level])
            continue;
        *slot = takt__lowest_bit(wheel->used[*level]);
        *tick = (wheel->tick >> (shift + 6) << (shift + 6)) | (uint64_t)*slot << shift;
        return true;
    }
    return false;
}

takt_timer *takt_wheel_expire(takt_wheel *wheel, takt_ns now)
{
    const uint64_t until = now > 0 ? (uint64_t)now >> TAKT__TICK_SHIFT : 0;
    uint64_t tick;
    int level, slot;
    while (wheel->due.next == &wheel->due) {
        takt_timer *list;
        takt_timer moving;
        if (wheel->count == 0 || !takt__wheel_next(wheel, &tick, &level, &slot) || tick > until) {
            if (wheel->tick < until)
                wheel->tick = until;
            return NULL;
        }
        wheel->tick = tick;
        wheel->used[level] &= ~((uint64_t)1 << slot);
        list = &wheel->at[level][slot];
        moving = *list; /* take the whole slot, then place each anew, in order */
        moving.prev->next = NULL;
        takt__list_init(list);
        for (takt_timer *timer = moving.next, *next; timer; timer = next) {
            next = timer->next;
            takt__wheel_place(wheel, timer);
        }
    }
    {
        takt_timer *const timer = wheel->due.next;
        takt_timer_disarm(wheel, timer);
        return timer;
    }
}

takt_ns takt_wheel_deadline(const takt_wheel *wheel)
{
    uint64_t tick;
    int level, slot;
    if (wheel->due.next != &wheel->due)
        return 0;
    if (wheel->count == 0 || !takt__wheel_next(wheel, &tick, &level, &slot))
        return TAKT_FOREVER;
    return tick > (uint64_t)TAKT_FOREVER >> TAKT__TICK_SHIFT
               ? TAKT_FOREVER
               : (takt_ns)(tick << TAKT__TICK_SHIFT);
}

/* ==========================================================================
 * >>sched-impl
 * ======================================================================== */

static inline takt_strand *takt__strand_at(const takt_sched *s, uint32_t place)
{
    return place ? (takt_strand *)(void *)takt_slot_at(&s->slots, place - 1) : NULL;
}

static inline uint32_t takt__place(const takt_strand *strand)
{
    return strand ? strand->slot.index + 1 : 0;
}

/* A pointer to the scheduler stands in the place before the first strand. */
static inline takt_sched *takt__sched_of_strand(const takt_strand *strand)
{
    return *(takt_sched *const *)(const void *)(strand - strand->slot.index - 1);
}

static inline takt_strand *takt__strand_of(takt_op *op)
{
    return (takt_strand *)(void *)op;
}

takt_sched *takt_sched_of(const takt_frame *frame)
{
    TAKT_ASSERT(frame->strand != NULL && "the coroutine is not alive");
    return takt__sched_of_strand(frame->strand);
}

static takt_ns takt__now(takt_sched *s)
{
    if (!s->now_known || !s->in_turn) {
        s->now = s->calls->now(s->backend);
        s->now_known = s->in_turn;
    }
    return s->now;
}

takt_ns takt_now(const takt_frame *frame)
{
    return takt__now(takt_sched_of(frame));
}

TAKT__UNUSED static int64_t takt__ask(takt_frame *frame, takt_op *op)
{
    takt_sched *const s = takt_sched_of(frame);
    return s->calls->call(s->backend, op);
}

bool takt_alive(const takt_frame *frame)
{
    return frame->strand != NULL;
}

bool takt_finished(const takt_frame *frame)
{
    return frame->state == TAKT__FINISHED;
}

int takt_error(const takt_frame *frame)
{
    return takt_finished(frame) ? frame->error : 0;
}

uint64_t takt_done(const takt_frame *frame)
{
    return frame->strand ? frame->strand->slot.op.arg.done : 0;
}

bool takt_stopping(const takt_frame *frame)
{
    return takt_sched_of(frame)->stopping;
}

/* Tells of something that has no better place to be told: name, file:line, words. */
static void takt__complain(const takt_frame *f, const char *words)
{
    char line[256];
    takt__text text = {line, sizeof line, 0};
    takt__put(&text, "takt: ");
    if (f->state != TAKT__NEVER && !(f->strand && f->strand->flags & TAKT__NEW)) {
        takt__put(&text, f->of.coro->file);
        takt__put(&text, ":");
        takt__put_number(&text, f->line & TAKT__LINES);
        takt__put(&text, ": ");
        takt__put(&text, f->of.coro->name);
        takt__put(&text, ": ");
    }
    takt__put(&text, words);
    TAKT_LOG(line);
}

/* -- the slab of strands --------------------------------------------------- */

static void takt__pump(takt_sched *s, takt_strand *owner);

/* One strand more than was asked for is spared for batches: else those that hold all strands
 * could each wait for one more, for ever. */
enum { TAKT__FOR_A_REQUEST, TAKT__FOR_A_FRAME };

static takt_strand *takt__strand_take(takt_sched *s, uint32_t spared)
{
    takt_strand *strand;
    if (s->strands_used + spared >= s->slots.count)
        return NULL;
    if (s->free) {
        strand = takt__strand_at(s, s->free);
        s->free = strand->next;
    } else {
        strand = (takt_strand *)(void *)takt_slot_at(&s->slots, s->fresh);
        strand->slot.index = s->fresh++;
    }
    if (++s->strands_used > s->strands_max)
        s->strands_max = s->strands_used;
    strand->next = 0;
    strand->sibling_next = strand->sibling_prev = 0;
    strand->on.attached = NULL;
    strand->flags = 0;
    strand->wait = TAKT__READY;
    return strand;
}

/* Strands have come back: batches were waiting for them. Not from inside itself, so that
 * the stack does not grow with the number of those that wait. */
static void takt__feed(takt_sched *s)
{
    if (s->feeding)
        return;
    s->feeding = true;
    while (s->starved_first && s->strands_used < s->slots.count) {
        takt_strand *const owner = takt__strand_at(s, s->starved_first);
        s->starved_first = owner->next;
        if (!s->starved_first)
            s->starved_last = 0;
        owner->flags &= (uint8_t)~TAKT__STARVED;
        takt__pump(s, owner);
    }
    s->feeding = false;
}

static void takt__strand_give(takt_sched *s, takt_strand *strand)
{
    TAKT_ASSERT(!takt_timer_armed(&strand->timer));
    TAKT_ASSERT(strand->wait == TAKT__READY);
    strand->wait = TAKT__FREE;
    strand->slot.generation++; /* what is still under way for it has become stale */
    strand->next = s->free;
    s->free = takt__place(strand);
    s->strands_used--;
    if (s->starved_first)
        takt__feed(s);
}

/* -- lists ----------------------------------------------------------------- */

static void takt__append(takt_sched *s, takt_strand *strand, uint32_t *first, uint32_t *last)
{
    const uint32_t place = takt__place(strand);
    strand->next = 0;
    if (*first)
        takt__strand_at(s, *last)->next = place;
    else
        *first = place;
    *last = place;
}

static void takt__ready(takt_sched *s, takt_strand *strand)
{
    strand->wait = TAKT__READY;
    takt__append(s, strand, &s->ready_first, &s->ready_last);
}

/* Bodies run below here. Not inlined, and nor is its frame a part of the caller's: what
 * stands on the stack of who runs the loop, in main() say, is no body's local. */
TAKT__NOINLINE void takt__stack_begins(takt_sched *s)
{
    s->stack_base = TAKT__STACK_POINTER();
}

/* Those that have yielded come behind what is ready. */
void takt__turn_begins(takt_sched *s)
{
    if (!s->later_first)
        return;
    if (s->ready_first)
        takt__strand_at(s, s->ready_last)->next = s->later_first;
    else
        s->ready_first = s->later_first;
    s->ready_last = s->later_last;
    s->later_first = s->later_last = 0;
}

takt_strand *takt__next_ready(takt_sched *s)
{
    takt_strand *const strand = takt__strand_at(s, s->ready_first);
    if (strand) {
        s->ready_first = strand->next;
        if (!s->ready_first)
            s->ready_last = 0;
    }
    return strand;
}

static void takt__link(takt_sched *s, uint32_t *list, takt_strand *strand)
{
    strand->sibling_prev = 0;
    strand->sibling_next = *list;
    if (*list)
        takt__strand_at(s, *list)->sibling_prev = takt__place(strand);
    *list = takt__place(strand);
}

static void takt__unlink(takt_sched *s, uint32_t *list, takt_strand *strand)
{
    if (strand->sibling_prev)
        takt__strand_at(s, strand->sibling_prev)->sibling_next = strand->sibling_next;
    else
        *list = strand->sibling_next;
    if (strand->sibling_next)
        takt__strand_at(s, strand->sibling_next)->sibling_prev = strand->sibling_prev;
}

/* ==========================================================================
 * >>stop-impl
 *
 * Orders to stop. A strand can be cancelled as a whole, and each of its frames can be
 * interrupted, by a child that fails or a limit that passes: then what the frame has
 * called is cancelled, and the error is thrown in the frame itself. A frame that unwinds
 * shields what its defers call: that runs to its end.
 * ======================================================================== */

enum { TAKT__GO_ON, TAKT__THROW_IT, TAKT__CANCEL_IT };

/* What `f` is told, on a strand with TAKT__STOP. */
static int takt__told(const takt_frame *f)
{
    const takt_strand *const strand = f->strand;
    if (takt__sched_of_strand(strand)->discarding)
        return TAKT__CANCEL_IT;
    for (const takt_frame *a = f;; a = a->parent) {
        if (a->state == TAKT__UNWINDING)
            return TAKT__GO_ON;
        if (a->bits & TAKT__CALL_CANCELLED || (a != f && a->bits & TAKT__INTERRUPTED))
            return TAKT__CANCEL_IT;
        if (a->bits & TAKT__ROOT)
            break;
    }
    if (strand->flags & TAKT__CANCELLED)
        return TAKT__CANCEL_IT;
    return f->bits & TAKT__INTERRUPTED ? TAKT__THROW_IT : TAKT__GO_ON;
}

static void takt__cancel_strand(takt_sched *s, takt_strand *strand);

static void takt__cancel_list(takt_sched *s, uint32_t list, bool awaited_only)
{
    takt_strand *next;
    for (takt_strand *it = takt__strand_at(s, list); it; it = next) {
        next = takt__strand_at(s, it->sibling_next);
        if (!awaited_only || it->flags & TAKT__AWAITED)
            takt__cancel_strand(s, it);
    }
}

/* A batch that waits for a strand need not, when it is cancelled. */
static void takt__unstarve(takt_sched *s, takt_strand *strand)
{
    takt_strand *before = NULL;
    if (!(strand->flags & TAKT__STARVED))
        return;
    for (takt_strand *it = takt__strand_at(s, s->starved_first); it != strand;
         it = takt__strand_at(s, it->next))
        before = it;
    if (before)
        before->next = strand->next;
    else
        s->starved_first = strand->next;
    if (!strand->next)
        s->starved_last = takt__place(before);
    strand->flags &= (uint8_t)~TAKT__STARVED;
}

static void takt__line_leave(takt_op *op);
static void takt__op_over(takt_sched *s, takt_strand *strand, int64_t result);

/* Ends early what one op waits for. */
static void takt__interrupt_op(takt_sched *s, takt_strand *strand, int64_t result)
{
    switch (strand->wait) {
    case TAKT__ON_OP:
        if (strand->flags & TAKT__ASKED || strand->slot.op.kind == TAKT_OP_CLOSE)
            return;
        strand->flags |= TAKT__ASKED;
        s->calls->cancel(s->backend, &strand->slot.op);
        return;
    case TAKT__ON_EVENT:
        takt__line_leave(&strand->slot.op);
        takt__op_over(s, strand, result);
        return;
    case TAKT__ON_SLEEP:
        takt__op_over(s, strand, result);
        return;
    default:
        return;
    }
}

/* Ends the wait of a strand early. What completes all the same counts as done. */
static void takt__interrupt(takt_sched *s, takt_strand *strand)
{
    takt_op *const op = &strand->slot.op;
    takt_strand *next;
    switch (strand->wait) {
    case TAKT__ON_OP:
    case TAKT__ON_EVENT:
    case TAKT__ON_SLEEP:
        takt__interrupt_op(s, strand, TAKT_ECANCELED);
        return;
    case TAKT__ON_BATCH:
        op->result = TAKT_ECANCELED;
        for (takt_strand *it = takt__strand_at(s, op->bits); it; it = next) {
            next = takt__strand_at(s, it->sibling_next);
            takt__interrupt_op(s, it, TAKT_ECANCELED);
        }
        if (strand->wait == TAKT__ON_BATCH) {
            takt__unstarve(s, strand);
            takt__pump(s, strand);
        }
        return;
    case TAKT__ON_JOIN:
    case TAKT__ON_RACE:
    case TAKT__ON_SCOPE:
        op->result = TAKT_ECANCELED;
        takt__cancel_list(s, strand->who.leaf->children, true);
        return;
    case TAKT__ON_GROUP:
        op->result = TAKT_ECANCELED;
        for (takt_op **link = &((takt_group *)op->buf)->waiting; *link; link = &(*link)->next)
            if (*link == op) {
                *link = op->next;
                break;
            }
        takt__ready(s, strand);
        return;
    default: /* ready: it will notice at its next await. Unwinding: let it. */
        return;
    }
}

/* Something has changed for a strand: passes it on to what its leaf waits for. */
static void takt__stop_strand(takt_sched *s, takt_strand *strand)
{
    strand->flags |= TAKT__STOP;
    if (!(strand->flags & TAKT__NEW) && takt__told(strand->who.leaf) != TAKT__GO_ON)
        takt__interrupt(s, strand);
}

static void takt__cancel_strand(takt_sched *s, takt_strand *strand)
{
    if (strand->flags & TAKT__CANCELLED)
        return;
    strand->flags |= TAKT__CANCELLED;
    takt__stop_strand(s, strand);
}

/* `error` is thrown in `f` at its next await, or at the one it is in. The first stands. */
static void takt__interrupt_frame(takt_frame *f, int error)
{
    if (f->state == TAKT__UNWINDING || f->bits & TAKT__INTERRUPTED)
        return;
    f->bits |= TAKT__INTERRUPTED;
    f->error = error;
    takt__stop_strand(takt__sched_of_strand(f->strand), f->strand);
}

void takt_cancel(takt_frame *frame)
{
    if (!takt_alive(frame))
        return;
    if (frame->bits & TAKT__ROOT) {
        takt__cancel_strand(takt__sched_of_strand(frame->strand), frame->strand);
    } else {
        frame->bits |= TAKT__CALL_CANCELLED;
        takt__stop_strand(takt__sched_of_strand(frame->strand), frame->strand);
    }
}

/* ==========================================================================
 * >>await-impl
 *
 * One op of a strand, and batches of them.
 * ======================================================================== */

/* Slow path of every await: the strand may have been told to stop. */
int takt__await_told(takt_frame *f)
{
    takt_op *const op = takt__op_of(f);
    if (op->kind == TAKT_OP_CLOSE || takt__told(f) == TAKT__GO_ON)
        return TAKT__OP;
    op->result = TAKT_ECANCELED;
    return TAKT__AGAIN;
}

/* Puts an end to the wait of a strand or of one request: it goes on in this turn. */
static void takt__request_over(takt_sched *s, takt_strand *request);

static void takt__op_over(takt_sched *s, takt_strand *strand, int64_t result)
{
    strand->slot.op.result = result;
    takt__settle(s, strand);
    if (strand->flags & TAKT__REQUEST)
        takt__request_over(s, strand);
    else
        takt__ready(s, strand);
}

/* What was armed and noted for the op that is over. */
void takt__settle(takt_sched *s, takt_strand *strand)
{
    takt_timer_disarm(&s->wheel, &strand->timer);
    strand->flags &= (uint8_t) ~(TAKT__EXPIRED | TAKT__ASKED);
    strand->wait = TAKT__READY;
}

/* Arms a timer; a wheel without timers is first brought up to now. */
static void takt__arm(takt_sched *s, takt_timer *timer, takt_ns when)
{
    if (s->wheel.count == 0)
        takt_wheel_expire(&s->wheel, takt__now(s));
    takt_timer_arm(&s->wheel, timer, when);
}

void takt__arm_limit(takt_sched *s, takt_strand *strand)
{
    const takt_op *const op = &strand->slot.op;
    takt__arm(s, &strand->timer,
              op->flags & TAKT_OP_DEADLINE ? op->when : takt_after(takt__now(s), op->when));
}

static void takt__sleep(takt_sched *s, takt_strand *strand)
{
    const takt_op *const op = &strand->slot.op;
    takt_ns until = op->flags & TAKT_OP_DEADLINE ? op->arg.sleep
                                                 : takt_after(takt__now(s), op->arg.sleep);
    if (op->when && takt_after(takt__now(s), op->when) < until) {
        until = takt_after(takt__now(s), op->when);
        strand->flags |= TAKT__EXPIRED; /* its limit will come first */
    }
    strand->wait = TAKT__ON_SLEEP;
    takt__arm(s, &strand->timer, until);
}

static bool takt__wait_in_line(takt_sched *s, takt_strand *strand);

/* The backend has failed for good, and what it does not hold is being discarded. */
static bool takt__broken(const takt_sched *s)
{
    return s->discarding && s->fatal != TAKT_EDISPOSED;
}

/* An op that does not go to the backend as it is. False: it may go after all. True: it
 * is over, or waits, and takt__step() finds out which. */
bool takt__refuse(takt_sched *s, takt_strand *strand)
{
    takt_op *const op = &strand->slot.op;
    const uintptr_t buf = s->stack_base - (uintptr_t)op->buf;
    const uintptr_t arg = s->stack_base - (uintptr_t)op->arg.ptr;
    if (op->kind == TAKT_OP_SLEEP || op->kind == TAKT_OP_NONE)
        return true;
    if (buf < TAKT__BODY_STACK || arg < TAKT__BODY_STACK) {
        if (strand->flags & TAKT__REQUEST)
            return true;
        takt__complain(strand->who.leaf, takt_strerror(TAKT_ESTACK));
        return true;
    }
    return op->kind < TAKT_OP_FIRST_OF_BACKEND || takt__broken(s) ||
           (s->stopping && op->kind == TAKT_OP_ACCEPT);
}

/* Begins an op that takt__refuse() kept from the backend. Zero: it waits. */
static int64_t takt__begin_here(takt_sched *s, takt_strand *strand)
{
    takt_op *const op = &strand->slot.op;
    int64_t rc;
    switch (op->kind) {
    case TAKT_OP_SLEEP:
        takt__sleep(s, strand);
        return 0;
    case TAKT_OP_EVENT:
    case TAKT_OP_ACQUIRE:
        if (s->stack_base - (uintptr_t)op->arg.ptr < TAKT__BODY_STACK)
            return TAKT_ESTACK;
        if (!takt__wait_in_line(s, strand))
            return 1;
        if (op->when)
            takt__arm_limit(s, strand);
        return 0;
    case TAKT_OP_NONE:
        return -EINVAL;
    case TAKT_OP_ACCEPT:
        return s->stopping ? TAKT_ESTOPPING : TAKT_ESTACK;
    case TAKT_OP_CLOSE: /* a broken loop still gives its descriptors back */
        rc = op->fd < 0 ? 0 : s->calls->call(s->backend, op);
        return rc < 0 ? rc : 1;
    default:
        return takt__broken(s) ? s->fatal : TAKT_ESTACK;
    }
}

/* Begins the op of any strand or request, by way of the backend's table of calls. */
static void takt__begin(takt_sched *s, takt_strand *strand)
{
    takt_token token;
    int64_t rc;
    if (takt__refuse_inline(s, strand)) {
        rc = takt__begin_here(s, strand);
        if (rc)
            takt__op_over(s, strand, rc < 0 ? rc : 0);
        return;
    }
    strand->slot.generation++;
    strand->wait = TAKT__ON_OP;
    if (strand->slot.op.when)
        takt__arm_limit(s, strand);
    token = takt_token_of(&strand->slot.op);
    rc = s->calls->submit(s->backend, &strand->slot.op, &token);
    if (rc < 0)
        takt__op_over(s, strand, rc);
}

/* A completion of a strand with something to settle. True: it does not go on at once. */
bool takt__special(takt_sched *s, takt_strand *strand, int64_t result)
{
    takt_op *const op = &strand->slot.op;
    const takt_strand *const told = strand->flags & TAKT__REQUEST ? strand->who.owner : strand;
    if (result == TAKT_ECANCELED && strand->flags & TAKT__ASKED) {
        if (strand->flags & TAKT__EXPIRED)
            op->result = -ETIMEDOUT;
        else if (s->stopping && op->kind == TAKT_OP_ACCEPT &&
                 (!(told->flags & TAKT__STOP) || takt__told(told->who.leaf) == TAKT__GO_ON))
            op->result = TAKT_ESTOPPING;
    }
    takt__settle(s, strand);
    if (!(strand->flags & TAKT__REQUEST))
        return false;
    takt__request_over(s, strand);
    return true;
}

int takt__yield(takt_frame *f, uint32_t line)
{
    takt_sched *const s = takt__sched_of_strand(f->strand);
    f->line = line;
    takt__op_of(f)->result = 0;
    if (f->strand->flags & TAKT__STOP && takt__told(f) != TAKT__GO_ON) {
        takt__op_of(f)->result = TAKT_ECANCELED;
        return TAKT__AGAIN;
    }
    takt__append(s, f->strand, &s->later_first, &s->later_last);
    return TAKT__SUSPEND;
}

/* -- batches ----------------------------------------------------------------
 *
 * The owner's op keeps the account: buf and len are the user's ops, extra the next of
 * them to submit, bits the list of those in flight, result 0 or the order to stop, arg
 * how many of them that has cancelled: if none, the batch is done all the same.
 */

/* Submits what there are free strands for; the owner goes on when all are over. */
static void takt__pump(takt_sched *s, takt_strand *owner)
{
    takt_op *const account = &owner->slot.op;
    takt_op *const ops = (takt_op *)account->buf;
    if (owner->pumping) /* already in here, further up */
        return;
    owner->pumping = 1;
    while (account->extra < account->len) {
        takt_op *const op = &ops[account->extra];
        takt_strand *request;
        if (account->result < 0 && op->kind != TAKT_OP_CLOSE) {
            op->result = TAKT_ECANCELED;
            account->arg.done++;
            account->extra++;
            continue;
        }
        request = takt__strand_take(s, TAKT__FOR_A_REQUEST);
        if (!request)
            break;
        account->extra++;
        request->flags = TAKT__REQUEST;
        request->who.owner = owner;
        request->on.user_op = op;
        request->slot.op = *op;
        takt__link(s, &account->bits, request);
        takt__begin(s, request);
    }
    owner->pumping = 0;
    if (account->extra == account->len && !account->bits) {
        if (account->arg.done == 0)
            account->result = 0;
        takt__ready(s, owner);
    } else if (account->extra < account->len && !account->bits) {
        owner->flags |= TAKT__STARVED; /* none of its own will come back to free one */
        takt__append(s, owner, &s->starved_first, &s->starved_last);
    }
}

static void takt__request_over(takt_sched *s, takt_strand *request)
{
    takt_strand *const owner = request->who.owner;
    takt_op *const op = request->on.user_op;
    op->result = request->slot.op.result;
    op->arg = request->slot.op.arg;
    op->fd = request->slot.op.fd;
    owner->slot.op.arg.done += op->result == TAKT_ECANCELED;
    takt__unlink(s, &owner->slot.op.bits, request);
    takt__strand_give(s, request);
    takt__pump(s, owner);
}

void takt__await_all(takt_frame *f, takt_op *ops, size_t count, uint32_t line)
{
    takt_strand *const owner = f->strand;
    takt_op *const account = &owner->slot.op;
    takt_sched *const s = takt__sched_of_strand(owner);
    f->line = line;
    *account = takt__op(TAKT_OP_NONE, -1, ops, count);
    if (owner->flags & TAKT__STOP && takt__told(f) != TAKT__GO_ON)
        account->result = TAKT_ECANCELED;
    if (count && s->stack_base - (uintptr_t)ops < TAKT__BODY_STACK) {
        takt__complain(f, takt_strerror(TAKT_ESTACK));
        account->len = 0;
        account->arg.done = 1; /* it has not completed */
        account->result = TAKT_ESTACK;
    }
    owner->wait = TAKT__ON_BATCH;
    owner->pumping = 0;
    takt__pump(s, owner);
}

/* ==========================================================================
 * >>start-impl
 *
 * Frames begin: called, started, spawned from a pool, or in memory of the user's.
 * ======================================================================== */

/* A child that is alive and lies in the same memory. */
static const takt_frame *takt__child_in(takt_frame *f, const void *memory, size_t size)
{
    takt_sched *const s = takt__sched_of_strand(f->strand);
    for (takt_strand *it = takt__strand_at(s, f->children); it;
         it = takt__strand_at(s, it->sibling_next)) {
        const takt_frame *root = it->who.leaf;
        while (!(root->bits & TAKT__ROOT))
            root = root->parent;
        if ((uintptr_t)root - (uintptr_t)memory < size)
            return root;
    }
    return NULL;
}

static void takt__frame_begin(takt_frame *frame, takt_frame *parent, takt_strand *strand,
                              takt_body *body, uint8_t bits)
{
    frame->of.first = body;
    frame->parent = parent;
    frame->strand = strand;
    frame->state = TAKT__RUNNING;
    frame->bits = bits;
}

/* Clears `child` to the arguments gathered in `in`. Its old contents are not looked at. */
bool takt__prepare(takt_frame *f, takt_frame *child, const takt_frame *in, size_t size,
                   takt_body *body, uint32_t line)
{
    if (f->children && takt__child_in(f, child, size)) {
        takt__throw(f, TAKT_ERUNNING, line);
        takt__complain(f, takt_strerror(TAKT_ERUNNING));
        return false;
    }
    memcpy((void *)child, (const void *)in, size);
    takt__frame_begin(child, f, f->strand, body, 0);
    return true;
}

bool takt__start(takt_frame *f, takt_frame *child, uint32_t line)
{
    takt_sched *const s = takt__sched_of_strand(f->strand);
    takt_strand *const strand = takt__strand_take(s, TAKT__FOR_A_FRAME);
    if (!strand) {
        memset((void *)child, 0, sizeof *child);
        takt__throw(f, TAKT_ESTRANDS, line);
        return false;
    }
    child->strand = strand;
    child->bits = TAKT__ROOT;
    strand->who.leaf = child;
    strand->flags = TAKT__NEW;
    takt__link(s, &f->children, strand);
    takt__ready(s, strand);
    return true;
}

bool takt__start_within(takt_frame *f, takt_frame *child, takt_ns ns, uint32_t line)
{
    takt_strand *const strand = f->strand;
    takt_sched *const s = takt__sched_of_strand(strand);
    if (!takt__start(f, child, line))
        return false;
    child->strand->flags |= TAKT__AWAITED;
    f->line = line;
    takt__op_of(f)->result = 0;
    strand->wait = TAKT__ON_SCOPE;
    takt__arm(s, &strand->timer, takt_after(takt__now(s), ns > 0 ? ns : 1));
    if (strand->flags & TAKT__STOP && takt__told(f) != TAKT__GO_ON)
        takt__interrupt(s, strand);
    return true;
}

static takt_pool *takt__pool_of(takt_sched *s, takt_body *body)
{
    for (uint32_t i = 0; i < s->config.pool_count; i++)
        if (s->config.pools[i].body == body)
            return &s->config.pools[i];
    return NULL;
}

static size_t takt__stride(const takt_pool *pool)
{
    return ((size_t)pool->size + 15) & ~(size_t)15;
}

static takt_frame *takt__pool_take(takt_pool *pool)
{
    void *memory = pool->free;
    if (memory)
        memcpy(&pool->free, memory, sizeof pool->free);
    else
        memory = pool->memory + takt__stride(pool) * pool->fresh++;
    if (++pool->used > pool->used_max)
        pool->used_max = pool->used;
    memset(memory, 0, pool->size);
    return (takt_frame *)memory;
}

static void takt__pool_give(takt_pool *pool, takt_frame *frame)
{
    memset((void *)frame, 0, sizeof *frame);
    memcpy((void *)frame, &pool->free, sizeof pool->free);
    pool->free = frame;
    pool->used--;
}

static takt_frame *takt__refuse_spawn(takt_sched *s)
{
    s->stats.refused++;
    return NULL;
}

/* The arguments of `frame` are being set. They may spawn others: its strand, in no list as
 * yet, remembers whose arguments those are. */
static void takt__spawning(takt_sched *s, takt_frame *frame)
{
    frame->strand->sibling_next = s->spawning ? takt__place(s->spawning->strand) : 0;
    s->spawning = frame;
}

takt_frame *takt__spawn_begin(takt_sched *s, takt_group *group, takt_frame *owner,
                              takt_body *body, size_t size)
{
    takt_pool *const pool = takt__pool_of(s, body);
    takt_strand *strand;
    takt_frame *frame;
    if (!pool || pool->size < size) {
        TAKT_LOG("takt: a task was spawned that no TAKT_POOL() of the loop's config lists");
        return takt__refuse_spawn(s);
    }
    if (s->stopping || s->fatal || pool->used == pool->count ||
        (strand = takt__strand_take(s, TAKT__FOR_A_FRAME)) == NULL) {
        pool->refused++;
        return takt__refuse_spawn(s);
    }
    frame = takt__pool_take(pool);
    takt__frame_begin(frame, (takt_frame *)(void *)group, strand, body,
                      TAKT__ROOT | TAKT__POOLED | (group ? TAKT__GROUPED : 0));
    strand->who.leaf = frame;
    strand->flags = TAKT__NEW;
    if (group) {
        group->sched = s;
        if (owner && !group->link.owner) {
            group->link.kind = TAKT__GROUP;
            group->link.owner = owner;
            group->link.next = owner->strand->on.attached;
            owner->strand->on.attached = &group->link;
        }
    }
    takt__spawning(s, frame);
    return frame;
}

bool takt__start_on_begin(takt_sched *s, takt_frame *frame, takt_body *body, size_t size)
{
    takt_strand *strand = NULL;
    if (!s->stopping && !s->fatal)
        strand = takt__strand_take(s, TAKT__FOR_A_FRAME);
    if (!strand) {
        takt__refuse_spawn(s);
        return false;
    }
    memset((void *)frame, 0, size);
    takt__frame_begin(frame, NULL, strand, body, TAKT__ROOT);
    strand->who.leaf = frame;
    strand->flags = TAKT__NEW;
    takt__spawning(s, frame);
    return true;
}

/* The arguments are set: from here on it counts. */
bool takt__spawn_end(takt_sched *s)
{
    takt_frame *const frame = s->spawning;
    const takt_strand *const outer = takt__strand_at(s, frame->strand->sibling_next);
    s->spawning = outer ? outer->who.leaf : NULL;
    if (frame->bits & TAKT__GROUPED) {
        takt_group *const group = (takt_group *)(void *)frame->parent;
        group->count++;
        takt__link(s, &group->members, frame->strand);
    } else {
        takt__link(s, &s->tasks, frame->strand);
    }
    s->pending++;
    s->stats.spawned++;
    takt__ready(s, frame->strand);
    return true;
}

int takt__submit(takt_sched *s, takt_frame *frame, takt_body *body)
{
    takt_strand *strand;
    if (s->fatal)
        return s->fatal;
    if (s->stopping)
        return TAKT_ESTOPPING;
    if (takt_alive(frame))
        return TAKT_ERUNNING;
    strand = takt__strand_take(s, TAKT__FOR_A_FRAME);
    if (!strand)
        return TAKT_ESTRANDS;
    memset((void *)frame, 0, sizeof *frame);
    takt__frame_begin(frame, NULL, strand, body, TAKT__ROOT);
    strand->who.leaf = frame;
    takt__link(s, &s->tasks, strand);
    s->pending++;
    if (s->in_turn) {
        strand->flags = TAKT__NEW;
        takt__ready(s, strand);
    }
    return 0;
}

/* ==========================================================================
 * >>join-impl
 *
 * While a frame joins, its op keeps the account: bits counts the children that are
 * awaited, extra is the winner, result what the join will yield, len how many succeeded.
 * ======================================================================== */

void takt__join_begin(takt_frame *f)
{
    takt_op *const account = takt__op_of(f);
    *account = takt__op(TAKT_OP_NONE, -1, NULL, 0);
    account->extra = (uint32_t)-1;
}

void takt__join_add(takt_frame *f, takt_frame *child, int index)
{
    takt_op *const account = takt__op_of(f);
    if (child->strand && child->parent == f && child->bits & TAKT__ROOT) {
        if (child->strand->flags & TAKT__AWAITED)
            return; /* it was named before */
        child->strand->flags |= TAKT__AWAITED;
        child->strand->racer = (uint8_t)index;
        account->bits++;
    } else if (takt_finished(child)) { /* before we came to wait */
        if (child->error < 0)
            account->arg.done = (uint64_t)(int64_t)child->error;
        else if (account->len++ == 0)
            account->extra = (uint32_t)index;
    }
}

void takt__join_all(takt_frame *f)
{
    takt_sched *const s = takt__sched_of_strand(f->strand);
    for (takt_strand *it = takt__strand_at(s, f->children); it;
         it = takt__strand_at(s, it->sibling_next)) {
        it->flags |= TAKT__AWAITED;
        takt__op_of(f)->bits++;
    }
}

/* What a race yields when nobody is left in it. */
static int64_t takt__race_result(const takt_op *account)
{
    if (account->len)
        return 0;
    return account->result < 0 ? account->result : (int64_t)account->arg.done;
}

int takt__join(takt_frame *f, bool race, uint32_t line)
{
    takt_strand *const strand = f->strand;
    takt_sched *const s = takt__sched_of_strand(strand);
    takt_op *const account = &strand->slot.op;
    const bool stop = strand->flags & TAKT__STOP && takt__told(f) != TAKT__GO_ON;
    f->line = line;
    if (stop) { /* unwinding will see to the children */
        account->result = TAKT_ECANCELED;
        for (takt_strand *it = takt__strand_at(s, f->children); it;
             it = takt__strand_at(s, it->sibling_next))
            it->flags &= (uint8_t)~TAKT__AWAITED;
        return TAKT__AGAIN;
    }
    if (account->bits == 0) {
        account->result = race ? takt__race_result(account) : 0;
        return TAKT__AGAIN;
    }
    strand->wait = race ? TAKT__ON_RACE : TAKT__ON_JOIN;
    if (race && account->len)
        takt__cancel_list(s, f->children, true);
    return TAKT__SUSPEND;
}

int takt__join_group(takt_frame *f, takt_group *group, uint32_t line)
{
    takt_strand *const strand = f->strand;
    f->line = line;
    takt__op_of(f)->result = 0;
    if (strand->flags & TAKT__STOP && takt__told(f) != TAKT__GO_ON) {
        takt__op_of(f)->result = TAKT_ECANCELED;
        return TAKT__AGAIN;
    }
    if (group->count == 0)
        return TAKT__AGAIN;
    *takt__op_of(f) = takt__op(TAKT_OP_NONE, -1, group, 0);
    if (group->link.owner == f) {
        group->waited_for = true;
    } else {
        takt__op_of(f)->next = group->waiting;
        group->waiting = takt__op_of(f);
    }
    strand->wait = TAKT__ON_GROUP;
    return TAKT__SUSPEND;
}

void takt_group_cancel(takt_group *group)
{
    if (group->sched)
        takt__cancel_list(group->sched, group->members, false);
}

/* ==========================================================================
 * >>leave-impl
 *
 * Frames end: by a return, a throw or a cancellation; children, catch, defers; and what
 * that means for those who wait for them.
 * ======================================================================== */

static void takt__fail(takt_frame *f, int error)
{
    if (f->state == TAKT__UNWINDING)
        return; /* the first error stands */
    f->bits &= (uint8_t)~TAKT__INTERRUPTED;
    f->error = error;
    f->state = f->state == TAKT__RUNNING ? TAKT__THROWN : TAKT__UNWINDING;
}

/* An await has failed: how does the frame go on? What is done is done: an order to stop
 * waits for the next await, so that no result, and no descriptor in it, is ever lost. */
bool takt__failing(takt_frame *f)
{
    if (f->state == TAKT__UNWINDING)
        return true; /* ends the deferred block it happened in */
    switch (f->strand->flags & TAKT__STOP ? takt__told(f) : TAKT__GO_ON) {
    case TAKT__CANCEL_IT:
        takt__fail(f, TAKT_ECANCELED);
        f->state = TAKT__UNWINDING;
        break;
    case TAKT__THROW_IT:
        takt__fail(f, f->error);
        break;
    default:
        takt__fail(f, (int)takt__op_of(f)->result);
        break;
    }
    return true;
}

/* For TAKT_TRY_: an error becomes yours to handle, an order to stop does not, unless in a
 * defer: there is nothing left to stop, and what follows, a close say, must not be skipped. */
int64_t takt__take_result(takt_frame *f)
{
    takt_op *const op = takt__op_of(f);
    const int64_t result = op->result;
    if (result < 0 && (f->state == TAKT__UNWINDING || !(f->strand->flags & TAKT__STOP) ||
                       takt__told(f) == TAKT__GO_ON))
        op->result = 0;
    return result;
}

void takt__throw(takt_frame *f, int error, uint32_t line)
{
    f->line = line;
    takt__fail(f, error < 0 ? error : TAKT_ERANGE);
}

void takt__return(takt_frame *f)
{
    if (f->state == TAKT__UNWINDING)
        return;
    if (f->bits & TAKT__INTERRUPTED) { /* nobody has seen it yet: it is not lost either */
        takt__fail(f, f->error);
        return;
    }
    f->error = 0;
    f->state = TAKT__UNWINDING;
}

void takt__fell_out(takt_frame *f, uint32_t line)
{
    takt__throw(f, TAKT_EBREAK, line);
    takt__complain(f, takt_strerror(TAKT_EBREAK));
}

void takt__lost(takt_frame *f, uint32_t label)
{
    if (label == TAKT__CATCH) { /* there is no TAKT_CATCH here */
        f->state = TAKT__UNWINDING;
        return;
    }
    takt__complain(f, takt_strerror(TAKT_ERESUME));
    takt__fail(f, TAKT_ERESUME);
    f->state = TAKT__UNWINDING;
}

/* While a block runs, its own line stands above those that are still to run. */
bool takt__defer(takt_frame *f, uint32_t line)
{
    const uint32_t below = line - f->of.coro->line;
    const bool inside = f->state == TAKT__UNWINDING && f->bits & TAKT__IN_DEFER;
    if (inside && f->defers[f->defer_count] == below)
        return true; /* a `break` inside the block: on to the unwinding */
    if (f->defer_count + inside >= TAKT_DEFERS_MAX || below > UINT16_MAX) {
        if (inside)
            takt__complain(f, takt_strerror(TAKT_EDEFERS));
        takt__throw(f, TAKT_EDEFERS, line);
        return true;
    }
    if (inside)
        f->defers[f->defer_count + 1] = f->defers[f->defer_count];
    f->defers[f->defer_count++] = (uint16_t)below;
    return false;
}

void takt_idle_start(takt_frame *frame, takt_idle *idle, takt_ns limit)
{
    takt_sched *const s = takt_sched_of(frame);
    const takt_ns ms = limit / TAKT_MS;
    takt_attached *it = frame->strand->on.attached;
    while (it && it != &idle->link)
        it = it->next;
    if (!it) {
        memset(idle, 0, sizeof *idle);
        idle->link.kind = TAKT__IDLE;
        idle->link.owner = frame;
        idle->link.next = frame->strand->on.attached;
        frame->strand->on.attached = &idle->link;
    }
    idle->link.limit_ms = ms < 1 ? 1 : ms > UINT32_MAX ? UINT32_MAX : (uint32_t)ms;
    takt_idle_touch(idle);
    takt__arm(s, &idle->timer, idle->due);
}

void takt_idle_touch(takt_idle *idle)
{
    takt_sched *const s = takt_sched_of(idle->link.owner);
    idle->due = takt_after(takt__now(s), idle->link.limit_ms * TAKT_MS);
}

/* Lets go of what hangs on `f`. False: a group is still to be waited for. */
static bool takt__detach(takt_sched *s, takt_frame *f)
{
    takt_attached **link = &f->strand->on.attached;
    bool all = true;
    while (*link) {
        takt_attached *const it = *link;
        if (it->owner != f) {
            link = &it->next;
        } else if (it->kind == TAKT__GROUP && ((takt_group *)(void *)it)->count) {
            takt_group_cancel((takt_group *)(void *)it);
            ((takt_group *)(void *)it)->waited_for = true;
            all = false;
            link = &it->next;
        } else {
            *link = it->next;
            if (it->kind == TAKT__GROUP) {
                it->owner = NULL;
                ((takt_group *)(void *)it)->sched = NULL;
            } else { /* children that are not over yet may still touch it */
                takt_timer_disarm(&s->wheel, &((takt_idle *)(void *)it)->timer);
            }
        }
    }
    return all;
}

/* The way out: children and what hangs on the frame, then the catch, then the defers.
 * Returns a label of the body, or a TAKT__ word. */
int takt__unwind_step(takt_frame *f)
{
    takt_sched *const s = takt__sched_of_strand(f->strand);
    if (f->line == TAKT__UNWIND)
        f->line = takt__op_of(f)->extra;
    if (f->children)
        takt__cancel_list(s, f->children, false);
    if (!takt__detach(s, f) || f->children) {
        takt__op_of(f)->extra = f->line; /* where it failed, for who asks later */
        f->line = TAKT__UNWIND;
        f->strand->wait = TAKT__ON_CHILDREN;
        return TAKT__SUSPEND;
    }
    if (f->state == TAKT__THROWN) {
        f->state = TAKT__CATCHING;
        return TAKT__CATCH;
    }
    f->state = TAKT__UNWINDING;
    if (f->defer_count > 0) {
        f->bits |= TAKT__IN_DEFER;
        return TAKT__DEFERRED | (int)(f->of.coro->line + f->defers[--f->defer_count]);
    }
    return TAKT__FINISH;
}

/* -- ends ------------------------------------------------------------------ */

/* A task has ended with an error that nobody caught. */
static void takt__report(takt_sched *s, const takt_frame *f)
{
    const takt_coro *const coro = f->of.coro;
    char line[256];
    takt__text text = {line, sizeof line, 0};
    s->stats.failed++;
    if (s->first_error == 0)
        s->first_error = f->error;
    if (s->config.on_failure) {
        s->config.on_failure(s->config.user, coro->name, f->error, coro->file,
                             (int)(f->line & TAKT__LINES));
        return;
    }
    takt__put(&text, "takt: ");
    takt__put(&text, coro->file);
    takt__put(&text, ":");
    takt__put_number(&text, f->line & TAKT__LINES);
    takt__put(&text, ": ");
    takt__put(&text, coro->name);
    takt__put(&text, " failed: ");
    takt__put(&text, takt_strerror(f->error));
    takt__put(&text, " (");
    takt__put_number(&text, f->error);
    takt__put(&text, ")");
    TAKT_LOG(line);
}

/* One of those that a frame waits for has ended. What succeeds in spite of an order to stop
 * is done, as an op is: the results are delivered, and the order takes the next await. */
static void takt__joined(takt_sched *s, takt_frame *parent, int error, uint8_t racer)
{
    takt_strand *const strand = parent->strand;
    takt_op *const account = &strand->slot.op;
    if (strand->wait == TAKT__ON_SCOPE) {
        account->result = strand->flags & TAKT__EXPIRED && error == TAKT_ECANCELED ? -ETIMEDOUT
                                                                                  : error;
        takt__settle(s, strand);
        takt__ready(s, strand);
        return;
    }
    account->bits--;
    if (error < 0)
        account->arg.done = (uint64_t)(int64_t)error;
    else if (account->len++ == 0)
        account->extra = racer;
    if (strand->wait == TAKT__ON_RACE && error >= 0 && account->len == 1)
        takt__cancel_list(s, parent->children, true);
    if (account->bits == 0) {
        if (strand->wait == TAKT__ON_RACE)
            account->result = takt__race_result(account);
        else if (account->arg.done == 0)
            account->result = 0;
        takt__ready(s, strand);
    }
}

/* A child of `parent` has ended. */
static void takt__child_over(takt_sched *s, takt_frame *parent, takt_strand *strand, int error)
{
    takt_strand *const waiting = parent->strand;
    const bool leaf = waiting->who.leaf == parent && !(waiting->flags & TAKT__NEW);
    const bool awaited = strand->flags & TAKT__AWAITED && leaf;
    const bool handed_over =
        awaited && (waiting->wait == TAKT__ON_RACE || waiting->wait == TAKT__ON_SCOPE);
    takt__unlink(s, &parent->children, strand);
    if (error < 0 && !handed_over && !(strand->flags & TAKT__CANCELLED))
        takt__interrupt_frame(parent, error);
    if (awaited && (handed_over || waiting->wait == TAKT__ON_JOIN))
        takt__joined(s, parent, error, strand->racer);
    else if (leaf && waiting->wait == TAKT__ON_CHILDREN && !parent->children)
        takt__ready(s, waiting);
}

static void takt__member_over(takt_sched *s, takt_group *group, takt_strand *strand, int error)
{
    takt_frame *const owner = group->link.owner;
    takt__unlink(s, &group->members, strand);
    group->count--;
    if (error < 0 && !(strand->flags & TAKT__CANCELLED)) {
        group->failed++;
        if (group->first_error == 0) {
            group->first_error = error;
            if (group->fail_fast) {
                takt_group_cancel(group);
                if (owner)
                    takt__interrupt_frame(owner, error);
            }
        }
    }
    while (group->count == 0 && group->waiting) {
        takt_strand *const waiting = takt__strand_of(group->waiting);
        group->waiting = group->waiting->next;
        takt__ready(s, waiting);
    }
    if (group->count == 0 && owner && group->waited_for) {
        takt_strand *const waiting = owner->strand;
        group->waited_for = false;
        if (waiting->who.leaf == owner &&
            (waiting->wait == TAKT__ON_GROUP || waiting->wait == TAKT__ON_CHILDREN))
            takt__ready(s, waiting);
    }
}

/* The first frame of a strand has ended. */
static void takt__strand_over(takt_sched *s, takt_strand *strand, takt_frame *f)
{
    const bool cancelled = strand->flags & TAKT__CANCELLED;
    const int error = f->error;
    takt_frame *const parent = f->parent;
    const uint8_t bits = f->bits;

    f->strand = NULL;
    strand->wait = TAKT__READY;
    if (bits & TAKT__GROUPED || !parent) {
        s->pending--;
        s->stats.cancelled += cancelled;
        if (error < 0 && !cancelled && !(bits & TAKT__GROUPED))
            takt__report(s, f);
    }
    if (bits & TAKT__POOLED)
        takt__pool_give(takt__pool_of(s, f->of.coro->body), f);
    if (bits & TAKT__GROUPED)
        takt__member_over(s, (takt_group *)(void *)parent, strand, error);
    else if (parent)
        takt__child_over(s, parent, strand, error);
    else
        takt__unlink(s, &s->tasks, strand);
    takt__strand_give(s, strand);
    if (s->pending == 0)
        takt_timer_disarm(&s->wheel, &s->stop_timer);
}

/* `strand` has left its body with `go`. Returns the body to run next, if it goes on. */
takt_body *takt__step(takt_sched *s, takt_strand *strand, int go)
{
    takt_frame *const f = strand->who.leaf;
    int64_t rc;
    switch (go) {
    case TAKT__CALLING: /* the callee has been put in place */
        return f->of.first;
    case TAKT__AGAIN:
        return f->of.coro->body;
    case TAKT__OP:
        rc = takt__begin_here(s, strand);
        if (rc == 0)
            return NULL;
        strand->slot.op.result = rc < 0 ? rc : 0;
        if (rc < 0)
            return f->of.coro->body;
        takt__ready(s, strand); /* at once, but others first */
        return NULL;
    case TAKT__FINISH:
        TAKT_ASSERT(!takt_timer_armed(&strand->timer));
        f->state = TAKT__FINISHED;
        if (f->bits & TAKT__ROOT) {
            takt__strand_over(s, strand, f);
            return NULL;
        }
        strand->who.leaf = f->parent;
        strand->slot.op.result = f->error;
        f->strand = NULL;
        return f->parent->of.coro->body;
    case TAKT__SUSPEND:
    default:
        return NULL;
    }
}

/* ==========================================================================
 * >>chan-impl
 *
 * A waiter is the op of a strand; while it waits, buf and next are its links.
 * ======================================================================== */

static takt_line *takt__line_of(const takt_op *op)
{
    if (op->kind == TAKT_OP_EVENT)
        return &((takt_event *)op->arg.ptr)->line;
    return &((takt_semaphore *)op->arg.ptr)->line;
}

static void takt__line_leave(takt_op *op)
{
    takt_line *const line = takt__line_of(op);
    takt_op *const before = (takt_op *)op->buf;
    if (before)
        before->next = op->next;
    else
        line->first = op->next;
    if (op->next)
        op->next->buf = before;
    else
        line->last = before;
    op->buf = NULL;
    op->next = NULL;
}

/* Joins the line. False if there is nothing to wait for. */
static bool takt__wait_in_line(takt_sched *s, takt_strand *strand)
{
    takt_op *const op = &strand->slot.op;
    takt_line *const line = takt__line_of(op);
    (void)s;
    if (op->kind == TAKT_OP_EVENT) {
        if (((takt_event *)op->arg.ptr)->set)
            return false;
    } else {
        takt_semaphore *const semaphore = (takt_semaphore *)op->arg.ptr;
        if (semaphore->permits > 0 && !line->first) {
            semaphore->permits--;
            return false;
        }
    }
    op->buf = line->last;
    op->next = NULL;
    if (line->last)
        line->last->next = op;
    else
        line->first = op;
    line->last = op;
    strand->wait = TAKT__ON_EVENT;
    return true;
}

/* The first in line goes on. */
static void takt__line_next(takt_line *line)
{
    takt_strand *const strand = takt__strand_of(line->first);
    takt__line_leave(line->first);
    takt__op_over(takt__sched_of_strand(strand), strand, 0);
}

void takt_event_set(takt_event *event)
{
    event->set = true;
    while (event->line.first)
        takt__line_next(&event->line);
}

void takt_event_reset(takt_event *event)
{
    event->set = false;
}

void takt_release(takt_semaphore *semaphore, int64_t permits)
{
    semaphore->permits += permits;
    while (semaphore->permits > 0 && semaphore->line.first) {
        semaphore->permits--;
        takt__line_next(&semaphore->line);
    }
}

/* ==========================================================================
 * >>loop-impl
 *
 * What a turn does beside running bodies: time, stopping, drain, beginning and end.
 * ======================================================================== */

static void takt__stop_now(takt_sched *s);

static bool takt__is_strand(const takt_sched *s, const takt_timer *timer)
{
    const uintptr_t offset = (uintptr_t)timer - (uintptr_t)s->slots.base;
    return offset < (uintptr_t)s->slots.count * s->slots.stride;
}

/* A limit or a sleep is over. */
static void takt__strand_timer(takt_sched *s, takt_strand *strand)
{
    switch (strand->wait) {
    case TAKT__ON_SLEEP:
        takt__op_over(s, strand, strand->flags & TAKT__EXPIRED ? -ETIMEDOUT : 0);
        break;
    case TAKT__ON_OP:
    case TAKT__ON_EVENT:
        strand->flags |= TAKT__EXPIRED;
        takt__interrupt_op(s, strand, -ETIMEDOUT);
        break;
    case TAKT__ON_SCOPE:
        strand->flags |= TAKT__EXPIRED;
        takt__cancel_list(s, strand->who.leaf->children, true);
        break;
    default:
        break;
    }
}

static void takt__idle_timer(takt_sched *s, takt_idle *idle)
{
    if (idle->due > takt__now(s))
        takt_timer_arm(&s->wheel, &idle->timer, idle->due); /* it was touched */
    else
        takt__interrupt_frame(idle->link.owner, -ETIMEDOUT);
}

int takt__expire(takt_sched *s)
{
    takt_timer *timer;
    int count = 0;
    if (s->wheel.count == 0)
        return 0;
    while ((timer = takt_wheel_expire(&s->wheel, takt__now(s))) != NULL) {
        count++;
        if (timer == &s->stop_timer)
            takt__stop_now(s);
        else if (takt__is_strand(s, timer))
            takt__strand_timer(
                s, (takt_strand *)(void *)((char *)timer - offsetof(takt_strand, timer)));
        else
            takt__idle_timer(s,
                             (takt_idle *)(void *)((char *)timer - offsetof(takt_idle, timer)));
    }
    return count;
}

/* How long a turn may wait: not if somebody is ready or nobody is left. */
takt_ns takt__wait(takt_sched *s, takt_ns wait)
{
    takt_ns deadline;
    if (wait <= 0 || s->ready_first || s->later_first || s->strands_used == 0)
        return 0;
    deadline = takt_wheel_deadline(&s->wheel);
    if (deadline == TAKT_FOREVER)
        return wait;
    deadline -= takt__now(s);
    return deadline <= 0 ? 0 : deadline < wait ? deadline : wait;
}

/* -- stopping, drain -------------------------------------------------------- */

/* Calls `what` for every strand that lives. */
static void takt__each(takt_sched *s, void (*what)(takt_sched *s, takt_strand *strand))
{
    for (uint32_t i = 0; i < s->fresh; i++) {
        takt_strand *const strand = takt__strand_at(s, i + 1);
        if (strand->wait != TAKT__FREE)
            what(s, strand);
    }
}

static void takt__cancel_root(takt_sched *s, takt_strand *strand)
{
    const takt_frame *root = strand->who.leaf;
    if (strand->flags & TAKT__REQUEST)
        return;
    while (!(root->bits & TAKT__ROOT))
        root = root->parent;
    if (root->bits & TAKT__GROUPED || !root->parent)
        takt__cancel_strand(s, strand);
}

static void takt__stop_now(takt_sched *s)
{
    takt__each(s, takt__cancel_root);
}

static void takt__refuse_accept(takt_sched *s, takt_strand *strand)
{
    if (strand->wait == TAKT__ON_OP && strand->slot.op.kind == TAKT_OP_ACCEPT)
        takt__interrupt_op(s, strand, TAKT_ESTOPPING);
}

void takt_stop(takt_sched *s, takt_ns limit)
{
    if (!s->stopping) {
        s->stopping = true;
        takt__each(s, takt__refuse_accept);
    }
    if (limit <= 0)
        takt__stop_now(s);
    else if (limit == TAKT_FOREVER)
        takt_timer_disarm(&s->wheel, &s->stop_timer);
    else
        takt__arm(s, &s->stop_timer, takt_after(takt__now(s), limit));
}

/* While discarding, what was shielded is no longer. */
static void takt__discard(takt_sched *s, takt_strand *strand)
{
    if (strand->flags & TAKT__REQUEST)
        return;
    strand->flags |= TAKT__STOP;
    if (!(strand->flags & TAKT__NEW))
        takt__interrupt(s, strand);
}

int takt__discard_all(takt_sched *s)
{
    const int count = s->fatal ? 0 : (int)s->pending;
    if (!s->fatal)
        s->fatal = TAKT_EDISPOSED;
    s->stats.discarded += (uint64_t)count;
    s->stopping = true;
    takt__stop_now(s);
    s->discarding = true;
    takt__each(s, takt__discard);
    return count;
}

void takt__fail_loop(takt_sched *s, int error)
{
    if (s->fatal)
        return;
    s->fatal = error;
    s->stats.discarded += s->pending;
}

/* -- a loop's beginning and end ---------------------------------------------- */

void takt__defaults(takt_config *config)
{
    config->strands = 64;
    config->completions = 256;
    config->reap_limit = 1 * TAKT_SEC;
}

takt_pool *takt__pool_add(takt_config *config, takt_body *body, const char *name, size_t size,
                          uint32_t count)
{
    takt_pool *const pool =
        &config->pools[config->pool_count < TAKT_POOLS_MAX ? config->pool_count
                                                           : TAKT_POOLS_MAX - 1];
    config->pool_count++; /* too many: init says so */
    memset(pool, 0, sizeof *pool);
    pool->body = body;
    pool->name = name;
    pool->size = (uint32_t)size;
    pool->count = count;
    pool->strands = 1;
    return pool;
}

static int takt__slab_init(takt_sched *s, uint64_t count)
{
    unsigned char *base;
    if (count == 0 || count > UINT32_MAX / 4)
        return -EINVAL;
    count++; /* the spare one; before them stands a pointer, and they are aligned */
    s->slab = TAKT_CALLOC((size_t)count + 2, sizeof(takt_strand));
    if (!s->slab)
        return -ENOMEM;
    base = (unsigned char *)s->slab + sizeof(takt_strand);
    base += (sizeof(takt_strand) - (uintptr_t)base % sizeof(takt_strand)) % sizeof(takt_strand);
    *(takt_sched **)(void *)(base - sizeof(takt_strand)) = s;
    s->slots.base = base;
    s->slots.stride = (uint32_t)sizeof(takt_strand);
    s->slots.count = (uint32_t)count;
    return 0;
}

int takt__sched_init(takt_sched *s, const takt_config *config, const takt__calls *calls,
                     void *backend, takt_completion **completions)
{
    uint64_t strands = config->strands;
    int rc;
    memset((void *)s, 0, sizeof *s);
    *completions = NULL;
    s->config = *config;
    s->calls = calls;
    s->backend = backend;
    if (config->pool_count > TAKT_POOLS_MAX)
        return -E2BIG;
    if (config->completions == 0 || config->completions > 1u << 20)
        return -EINVAL;
    for (uint32_t i = 0; i < config->pool_count; i++) {
        takt_pool *const pool = &s->config.pools[i];
        if (pool->strands == 0)
            pool->strands = 1;
        strands += (uint64_t)pool->count * pool->strands;
    }
    rc = takt__slab_init(s, strands);
    *completions =
        (takt_completion *)TAKT_CALLOC(config->completions, sizeof(takt_completion));
    if (rc == 0 && !*completions)
        rc = -ENOMEM;
    for (uint32_t i = 0; rc == 0 && i < config->pool_count; i++) {
        takt_pool *const pool = &s->config.pools[i];
        pool->memory = (unsigned char *)TAKT_CALLOC(pool->count ? pool->count : 1,
                                                    takt__stride(pool));
        if (!pool->memory)
            rc = -ENOMEM;
    }
    if (rc < 0)
        takt__sched_free(s, *completions);
    return rc;
}

void takt__sched_begin(takt_sched *s)
{
    takt_wheel_init(&s->wheel, takt__now(s));
}

void takt__sched_free(takt_sched *s, takt_completion *completions)
{
    for (uint32_t i = 0; i < s->config.pool_count && i < TAKT_POOLS_MAX; i++) {
        TAKT_FREE(s->config.pools[i].memory);
        s->config.pools[i].memory = NULL;
    }
    TAKT_FREE(s->slab);
    TAKT_FREE(completions);
    s->slab = NULL;
    s->config.pool_count = 0;
    if (!s->fatal)
        s->fatal = TAKT_EDISPOSED;
}

/* ==========================================================================
 * >>dump-impl
 * ======================================================================== */

typedef struct takt__printer {
    const takt_sched *sched;
    void (*print)(void *user, const char *line);
    void *user;
    takt_ns now;
} takt__printer;

static void takt__log_line(void *user, const char *line)
{
    (void)user;
    TAKT_LOG(line);
}

static void takt__put_ms(takt__text *text, takt_ns ns)
{
    takt__put_number(text, ns / TAKT_MS);
    takt__put(text, " ms");
}

/* What the leaf of a strand waits for. */
static void takt__put_wait(takt__text *text, const takt__printer *p, const takt_strand *strand)
{
    static const char *const waits[] = {"free", "is ready", "awaits ", "awaits ", "awaits ",
                                        "awaits a batch", "joins", "races", "calls within",
                                        "joins a group", "unwinds"};
    const takt_op *const op = &strand->slot.op;
    takt__put(text, waits[strand->wait]);
    if (strand->wait == TAKT__ON_OP || strand->wait == TAKT__ON_EVENT ||
        strand->wait == TAKT__ON_SLEEP) {
        takt__put(text, takt_op_name(op->kind));
        if (op->fd >= 0) {
            takt__put(text, " fd ");
            takt__put_number(text, op->fd);
        }
    }
    if (takt_timer_armed(&strand->timer)) {
        takt__put(text, ", for at most ");
        takt__put_ms(text, strand->timer.when - p->now);
    }
    if (strand->flags & TAKT__CANCELLED)
        takt__put(text, ", cancelled");
    else if (strand->flags & TAKT__STOP)
        takt__put(text, ", being stopped");
}

static void takt__dump_frame(const takt__printer *p, const takt_strand *strand,
                             const takt_frame *f, int depth)
{
    char line[256];
    takt__text text = {line, sizeof line, 0};
    for (int i = 0; i < depth && i < 40; i++)
        takt__put(&text, "  ");
    if (strand->flags & TAKT__NEW) {
        takt__put(&text, "(a coroutine that has not run yet)");
        p->print(p->user, line);
        return;
    }
    takt__put(&text, f->of.coro->name);
    takt__put(&text, "  ");
    takt__put(&text, f->of.coro->file);
    takt__put(&text, ":");
    takt__put_number(&text, f->line & TAKT__LINES);
    takt__put(&text, "  ");
    if (strand->who.leaf == f)
        takt__put_wait(&text, p, strand);
    else
        takt__put(&text, "calls");
    p->print(p->user, line);
}

/* The strand that comes after `strand` among those with the same owner. */
static const takt_strand *takt__dump_strand(const takt__printer *p, const takt_strand *strand,
                                            int depth);

static void takt__dump_list(const takt__printer *p, uint32_t list, int depth)
{
    const takt_strand *it = takt__strand_at(p->sched, list);
    while (it && depth < 64)
        it = takt__dump_strand(p, it, depth);
}

static const takt_strand *takt__dump_strand(const takt__printer *p, const takt_strand *strand,
                                            int depth)
{
    const takt_frame *chain[64];
    const takt_frame *f = strand->who.leaf;
    int count = 0;
    chain[count++] = f;
    while (!(f->bits & TAKT__ROOT) && count < 64) {
        f = f->parent;
        chain[count++] = f;
    }
    while (count-- > 0) {
        takt__dump_frame(p, strand, chain[count], depth);
        takt__dump_list(p, chain[count]->children, depth + 1);
        for (const takt_attached *it = strand->on.attached; it; it = it->next)
            if (it->owner == chain[count] && it->kind == TAKT__GROUP)
                takt__dump_list(p, ((const takt_group *)(const void *)it)->members, depth + 1);
        depth++;
    }
    return takt__strand_at(p->sched, strand->sibling_next);
}

void takt_dump_to(const takt_sched *sched, void (*print)(void *user, const char *line),
                  void *user)
{
    takt__printer p;
    char line[256];
    takt__text text = {line, sizeof line, 0};
    p.sched = sched;
    p.print = print ? print : takt__log_line;
    p.user = user;
    p.now = sched->now_known && sched->in_turn ? sched->now : sched->calls->now(sched->backend);
    takt__put(&text, "takt: ");
    takt__put_number(&text, sched->pending);
    takt__put(&text, " tasks, ");
    takt__put_number(&text, sched->strands_used);
    takt__put(&text, " of ");
    takt__put_number(&text, sched->slots.count - 1);
    takt__put(&text, " strands, ");
    takt__put_number(&text, sched->wheel.count);
    takt__put(&text, sched->stopping ? " timers, stopping" : " timers");
    p.print(p.user, line);
    takt__dump_list(&p, sched->tasks, 1);
}

void takt_dump(const takt_sched *sched)
{
    takt_dump_to(sched, NULL, NULL);
}

TAKT__EXTERN_C_END

#endif /* TAKT_IMPLEMENTED */
#endif /* TAKT_IMPLEMENTATION */

/*
 * MIT License
 *
 * Copyright (c) 2026 the takt authors
 *
 * Permission is hereby granted, free of charge, to any person obtaining a copy of this
 * software and associated documentation files (the "Software"), to deal in the Software
 * without restriction, including without limitation the rights to use, copy, modify,
 * merge, publish, distribute, sublicense, and/or sell copies of the Software, and to
 * permit persons to whom the Software is furnished to do so, subject to the following
 * conditions:
 *
 * The above copyright notice and this permission notice shall be included in all copies
 * or substantial portions of the Software.
 *
 * THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED,
 * INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A
 * PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT
 * HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF
 * CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR
 * THE USE OR OTHER DEALINGS IN THE SOFTWARE.
 */

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
 *   it. Everything that must survive a suspension lives in it. Once it is not
 *   alive, it may be freed, moved, or started anew.
 *
 *   A strand is a chain of frames (caller -> callee) that waits for one thing
 *   at a time. Strands live in a slab that the loop allocates at its start.
 *
 *   An op is a plain value that says what is wanted: copy it freely. It becomes
 *   a request when a coroutine awaits it; the memory that it points to is then
 *   the kernel's until the await has returned. AddressSanitizer reports whoever
 *   touches it before (use-after-poison), and a struct that was freed while its
 *   coroutine waits; a debug build whoever changes what is being sent.
 *
 *   A loop is a struct of yours. It must not move after its init. It belongs to
 *   the thread that runs it, from its first turn on; once nobody runs it any
 *   more, another may drain and free it.
 *
 *   Groups, events, semaphores and idle limits are structs of yours too: they
 *   must not move, nor end, while somebody stands in them. A buffer pool
 *   allocates its buffers at its init, and must outlive the loop.
 *
 * How to read the comments below. Unless one says otherwise:
 *
 *   A pointer is not NULL, and what an op points to must stay put until the
 *   await has returned; what a plain function is handed it may forget.
 *   Sizes are bytes, times takt_ns, descriptors stay yours. Text ends with a 0.
 *   Errors are negative: -errno, or TAKT_E... of >>outcome. "Throws" means: as
 *   TAKT_THROW, with that error.
 *   A function never suspends, never waits and never allocates; it is called in
 *   the loop's thread, from a coroutine or from outside. A word that may
 *   suspend says so, and throws TAKT_ECANCELED there once its coroutine has
 *   been told to stop. That one cannot be caught.
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
 *     engine      >>timer  >>sched  >>drive  >>stream  >>chan  >>loop  >>relay  >>post
 *                 >>dump
 *     inside      >>engine  >>macros  >>runner  >>rounds; and as -impl only: >>pipes  >>many
 *                 >>burst  >>try  >>wait  >>ask  >>lend  >>stop  >>await  >>start  >>join
 *                 >>leave
 *
 * Options, to be defined the same way before every include:
 *
 *     TAKT_POOLS_MAX    16     coroutines that a loop's config can list; a plain number. Where
 *                              two files differ, the linker names it
 *     TAKT_NO_POSIX            leave out >>net's and >>posix's system calls
 *     TAKT_NO_EPOLL            poll(2) even on Linux
 *     TAKT_AGES                dumps tell of every op how long it has been awaited; the
 *                              clock is then read once in each turn that begins an op
 *     TAKT_CALLOC(n, size), TAKT_FREE(ptr)   both or neither; default libc's. Called by
 *                                            the inits and frees only; NULL: -ENOMEM
 *     TAKT_ASSERT(condition)                 default assert of <assert.h>
 *     TAKT_LOG(text)                         one line, without its end; default: stderr
 *     TAKT_PANIC(text)                       a mistake of the program's that cannot go on;
 *                                            default: TAKT_LOG, then abort()
 *     TAKT_CLOCK()      takt_ns of a clock that never goes back; default CLOCK_MONOTONIC
 *     TAKT_DEBUG        1      look for misuse at run time: frames that were freed or
 *                              overwritten while alive, foreign threads, memory that was
 *                              changed while lent. 0 if NDEBUG is defined. No layout
 *                              depends on it
 *     TAKT_VALGRIND            tell valgrind what io_uring wrote: <valgrind/memcheck.h>
 *
 * And one that is fixed: TAKT_DEFERS_MAX, 4 live TAKT_DEFER blocks a frame.
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

#define TAKT_VERSION "0.1.0" /* semver.org; while it begins with 0, anything may change */

#ifndef TAKT_POOLS_MAX
#define TAKT_POOLS_MAX 16
#endif

#define TAKT_DEFERS_MAX 4

#ifndef TAKT_DEBUG
#ifdef NDEBUG
#define TAKT_DEBUG 0
#else
#define TAKT_DEBUG 1
#endif
#endif

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

#if defined(__has_attribute)
#if __has_attribute(warning)
#define TAKT__WARN_IF_CALLED(text) __attribute__((warning(text)))
#endif
#endif
#ifndef TAKT__WARN_IF_CALLED
#define TAKT__WARN_IF_CALLED(text)
#endif

/* A parameter whose address goes into the result: clang++ refuses one of a local's. */
#if defined(__clang__) && defined(__cplusplus)
#define TAKT__KEPT [[clang::lifetimebound]]
#else
#define TAKT__KEPT
#endif

#if defined(__GNUC__) || defined(__clang__)
#define TAKT__ATOMICS 1 /* __atomic_load_n() and the like are there */
#define TAKT__UNUSED __attribute__((unused))
#define TAKT__MUST_USE __attribute__((warn_unused_result))
#define TAKT__COLD __attribute__((cold, noinline))
#define TAKT__NOINLINE __attribute__((noinline)) /* what is rare stays out of hot code */
#define TAKT__HOT static inline __attribute__((always_inline))
#define TAKT__KNOWN_POSITIVE(x) (__builtin_constant_p(x) && (x) >= 0)
#define TAKT__LIKELY(x) __builtin_expect(!!(x), 1)
#define TAKT__UNLIKELY(x) __builtin_expect(!!(x), 0)
#else
#define TAKT__UNUSED
#define TAKT__MUST_USE
#define TAKT__COLD
#define TAKT__HOT static inline
#define TAKT__KNOWN_POSITIVE(x) false
#define TAKT__LIKELY(x) (x)
#define TAKT__UNLIKELY(x) (x)
#if defined(_MSC_VER)
#define TAKT__NOINLINE __declspec(noinline)
#else
#define TAKT__NOINLINE
#endif
#endif

#if defined(__SANITIZE_ADDRESS__)
#define TAKT__ASAN 1
#elif defined(__SANITIZE_THREAD__)
#define TAKT__TSAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TAKT__ASAN 1
#elif __has_feature(memory_sanitizer)
#define TAKT__MSAN 1
#elif __has_feature(thread_sanitizer)
#define TAKT__TSAN 1
#endif
#endif

/* The calls of >>engine that look for misuse are made at all. */
#if TAKT_DEBUG || defined(TAKT__ASAN) || defined(TAKT__MSAN) || defined(TAKT_VALGRIND)
#define TAKT__GUARDED 1
#else
#define TAKT__GUARDED 0
#endif

/* What is the same only within a thread; no library for threads is needed for it. */
#define TAKT__THREAD() ((uintptr_t)(void *)&errno)

/* An option that changes the layout is in the names of the functions by which a file gets
 * at it: files that differ in it do not link, and the linker says why. So it does where the
 * implementation was forgotten. */
#define TAKT__PASTE_(a, b) a##b
#define TAKT__PASTE(a, b) TAKT__PASTE_(a, b)
#define TAKT__NAMED(name)                                                                    \
    TAKT__PASTE(name##_of_a_TAKT_IMPLEMENTATION_with_TAKT_POOLS_MAX_, TAKT_POOLS_MAX)

TAKT__EXTERN_C_BEGIN

/* Where the stack of the caller, and of what it was inlined into, ends: the highest byte of
 * what it calls, or at most a few above. */
TAKT__NOINLINE TAKT__UNUSED static uintptr_t takt__stack_pointer(void)
{
#if defined(__GNUC__) && defined(__riscv)
    return (uintptr_t)__builtin_frame_address(0) - 1;
#elif defined(__GNUC__) /* two words lie in between */
    return (uintptr_t)__builtin_frame_address(0) + 2 * sizeof(void *) - 1;
#else
    volatile char here = 0;
    return (uintptr_t)&here + (uintptr_t)here;
#endif
}
#define TAKT__STACK_POINTER() takt__stack_pointer()

/* ==========================================================================
 * >>time - nanoseconds, signed, 64 bits
 * ======================================================================== */

/* Nanoseconds: a duration, or a point on the loop's clock (CLOCK_MONOTONIC of
 * clock_gettime(2) on the real backends, virtual in a simulation). The clock does not
 * count the time in which the machine is suspended. */
typedef int64_t takt_ns;

/* Units, to multiply with: 5 * TAKT_SEC. */
#define TAKT_US ((takt_ns)1000)
#define TAKT_MS (1000 * TAKT_US)
#define TAKT_SEC (1000 * TAKT_MS)
#define TAKT_FOREVER INT64_MAX /* as a wait or a deadline: none */

/* `when` + `ns`, saturating: a far deadline is TAKT_FOREVER, never the past. `ns` below 0
 * counts as 0. */
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

/* takt's own codes, for an X(name, value, text) of yours; the text tells what happened and
 * what to do about it. The values lie below every errno. */
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
    X(TAKT_ECLOSED, -20011, "the descriptor or the channel was closed under the operation")  \
    X(TAKT_ETRUNCATED, -20012, "the peer ended the stream before all bytes had arrived")     \
    X(TAKT_ESTOPPING, -20013, "the loop is stopping; no new work")                           \
    X(TAKT_EBUFFER, -20014, "a leased buffer was returned twice, or to the wrong pool")      \
    X(TAKT_ERUNNING, -20015, "this frame is still running; give the new one its own struct") \
    X(TAKT_ERANGE, -20016, "a thrown error must be negative; TAKT_SYS makes it so")          \
    X(TAKT_ESELF, -20017, "the socket connected to itself; is the server down?")             \
    X(TAKT_EREENTER, -20018, "a loop was turned from inside one of its own coroutines")      \
    X(TAKT_EUNKNOWN, -20019, "no such route: it has ended, or was never opened")             \
    X(TAKT_ELIVEROUTE, -20020, "the backend returned a route that is still open")            \
    X(TAKT_EBADROUTE, -20021, "the backend returned an invalid route")                         \
    X(TAKT_ETHREAD, -20030, "the loop belongs to another thread; let that one do this")      \
    X(TAKT_EFRAME, -20031,                                                                   \
      "the frame was freed, moved or overwritten, or its function has returned, while the "  \
      "coroutine was alive")                                                                 \
    X(TAKT_EBODY, -20032,                                                                    \
      "the body was entered, but is not to run: it has finished, was never started, or waits") \
    X(TAKT_ELENT, -20033,                                                                    \
      "memory was changed while an operation read it; leave it until the await returns")     \
    X(TAKT_EBOUNDS, -20034,                                                                  \
      "an operation was given memory that is not all there; is its length right?")

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

/* "OK", "WouldBlock", "More"; anything else: "Failure". Constant text. */
const char *takt_outcome_name(takt_outcome outcome);

/* The words for an error code, takt's or a negative errno; "unknown error" for those that
 * it has no words for. Constant text, never NULL, from any thread. */
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
 * closed meanwhile; with -EMFILE if it lies beyond the backend's table; with
 * -ETIMEDOUT under takt_within() and takt_by(); with TAKT_ESTACK if it points
 * into the C stack. The result of an await is an int64_t, 0 or more. Sockets
 * must be non-blocking: takt makes them so, those from elsewhere are yours to set.
 *
 * A constructor does nothing but fill in the struct, from any thread. Lengths
 * above 1 GiB are served 1 GiB at a time; a recv of length 0 yields 0, which
 * cannot be told from the end of the stream.
 * ======================================================================== */

/* All kinds, for an X(kind, word, direction) of yours: the word is that of dumps, the
 * direction that which the op occupies of its descriptor. */
#define TAKT_OPS(X)                  \
    X(NONE, "nothing", NEITHER)      \
    X(SLEEP, "sleep", NEITHER)       \
    X(EVENT, "event", NEITHER)       \
    X(ACQUIRE, "semaphore", NEITHER) \
    X(PUT, "put", NEITHER)           \
    X(GET, "get", NEITHER)           \
    X(ACCEPT, "accept", READER)      \
    X(CLOSE, "close", BOTH)          \
    X(NOP, "nop", NEITHER)           \
    X(CONNECT, "connect", WRITER)    \
    X(DIAL, "connect", WRITER)       \
    X(RECV, "recv", READER)          \
    X(SEND, "send", WRITER)          \
    X(SEND_LEASE, "send", WRITER)    \
    X(RECVFROM, "recvfrom", READER)  \
    X(SENDTO, "sendto", WRITER)      \
    X(BURST, "sendmmsg", WRITER)     \
    X(LEASE, "recv", READER)         \
    X(BUFFER, "buffer", NEITHER)     \
    X(RECVMSG, "recvmsg", READER)    \
    X(READY, "readiness", EITHER)    \
    X(READ, "read", READER)          \
    X(WRITE, "write", WRITER)        \
    X(SIGNAL, "signal", READER)      \
    X(SPLICE, "splice", THROUGH)     \
    X(SHUTDOWN, "shutdown", NEITHER) \
    X(SOCKET, "socket", CALL)        \
    X(BIND, "bind", CALL)            \
    X(LISTEN, "listen", CALL)        \
    X(SETOPT, "setsockopt", CALL)    \
    X(GETOPT, "getsockopt", CALL)    \
    X(SOCKNAME, "getsockname", CALL) \
    X(PEERNAME, "getpeername", CALL) \
    X(SIGNALS, "signalfd", CALL)     \
    X(PIPE, "pipe", CALL)

/* What an op asks for. */
typedef enum takt_op_kind {
#define TAKT__X(kind, word, direction) TAKT_OP_##kind,
    TAKT_OPS(TAKT__X)
#undef TAKT__X
        TAKT_OP_COUNT,
    TAKT_OP_FIRST_OF_BACKEND = TAKT_OP_ACCEPT, /* what stands before is the scheduler's */
    TAKT_OP_FIRST_AS_IT_IS = TAKT_OP_NOP       /* before: it looks first */
} takt_op_kind;

enum {                   /* takt_op.flags */
    TAKT_OP_ALL = 1,     /* complete only when all bytes are done */
    TAKT_OP_VECTOR = 2,  /* buf is an array of struct iovec, len its count */
    TAKT_OP_DEADLINE = 4, /* `when` is a point in time, not a duration */
    TAKT_OP_MULTI = 8,   /* one request, many completions: for TAKT_OPEN */
    TAKT_OP_UNTIL = 16   /* a sleep's arg.sleep is a point in time, not a duration */
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
    uint32_t extra; /* address length, option level, winner, splice: where to */
    takt_ns when;   /* its limit: a duration, or a deadline; 0 = none */
    int64_t result; /* >= 0, or an error */
    struct takt_op *next; /* the backend's, while in flight */
} takt_op;

TAKT__STATIC_ASSERT(sizeof(takt_op) <= 64, "an op is one cache line");

static inline takt_op takt__op(takt_op_kind kind, int fd, const void *buf, size_t len)
{
    const takt_op op = {(uint8_t)kind, 0, 0, fd, (void *)(uintptr_t)buf, len, {NULL}, 0, 0, 0,
                        0, NULL};
    return op;
}

/* Completes with 0, by way of the backend: at the earliest in the loop's next turn. */
TAKT__MUST_USE static inline takt_op takt_nop(void)
{
    return takt__op(TAKT_OP_NOP, -1, NULL, 0);
}

/* Suspends for `ns` nanoseconds, at least 1; never less, and more by at most TAKT_TICK
 * (131 us) and what a turn takes. Result: 0. */
TAKT__MUST_USE static inline takt_op takt_sleep(takt_ns ns)
{
    takt_op op = takt__op(TAKT_OP_SLEEP, -1, NULL, 0);
    op.arg.sleep = ns > 0 ? ns : 1;
    return op;
}

/* Suspends until the loop's clock (takt_now()) reaches `when`; if that has passed,
 * for a turn at most. Exact as takt_sleep(). Result: 0. */
TAKT__MUST_USE static inline takt_op takt_sleep_until(takt_ns when)
{
    takt_op op = takt__op(TAKT_OP_SLEEP, -1, NULL, 0);
    op.arg.sleep = when > 0 ? when : 1;
    op.flags = TAKT_OP_UNTIL;
    return op;
}

struct takt_addr;

/* The next connection of a listening socket: accept4(2). `peer`: where to put
 * its address, or NULL. Result: its descriptor, yours to close; it has
 * SOCK_CLOEXEC and SOCK_NONBLOCK. Fails with -EMFILE or -ENFILE when there are no
 * descriptors: then wait a little, the connection stays in the backlog; with
 * TAKT_ESTOPPING once the loop is stopping. */
TAKT__MUST_USE static inline takt_op takt_accept(int listener,
                                                 struct takt_addr *peer TAKT__KEPT)
{
    takt_op op = takt__op(TAKT_OP_ACCEPT, listener, NULL, 0);
    op.arg.ptr = peer;
    return op;
}

/* Connects the socket `fd` to `addr`: connect(2). Result: 0. A stream socket that has
 * failed to connect is of no more use: close it. */
TAKT__MUST_USE static inline takt_op takt_connect(int fd,
                                                  const struct takt_addr *addr TAKT__KEPT)
{
    takt_op op = takt__op(TAKT_OP_CONNECT, fd, NULL, 0);
    op.arg.ptr = (void *)(uintptr_t)addr;
    return op;
}

/* Makes a stream socket of the address's family (a Unix one too) and connects it.
 * Result: its descriptor, yours to close; nothing is left behind when it fails, as with
 * -ECONNREFUSED, -EHOSTUNREACH, or -ETIMEDOUT: after minutes, unless takt_within() is
 * around it. A socket that connected to itself fails with TAKT_ESELF. */
TAKT__MUST_USE static inline takt_op takt_tcp_connect(const struct takt_addr *addr TAKT__KEPT)
{
    takt_op op = takt__op(TAKT_OP_DIAL, -1, NULL, 0);
    op.arg.ptr = (void *)(uintptr_t)addr;
    return op;
}

/* Waits until something has arrived, and receives at most `len` bytes of it. `flags` as
 * for recv(2): MSG_PEEK. Result: bytes, 0 at the end of the stream; of a datagram socket
 * the length of one, 0 being an empty one. Fails with -ECONNRESET if the peer has broken
 * the connection. */
TAKT__MUST_USE static inline takt_op takt_recv_flags(int fd, void *buf TAKT__KEPT, size_t len,
                                                     int flags)
{
    takt_op op = takt__op(TAKT_OP_RECV, fd, buf, len);
    op.bits = (uint32_t)flags;
    return op;
}

/* takt_recv_flags() without flags. */
TAKT__MUST_USE static inline takt_op takt_recv(int fd, void *buf TAKT__KEPT, size_t len)
{
    return takt__op(TAKT_OP_RECV, fd, buf, len);
}

/* Receives exactly `len` bytes; 0 are there at once. Result: `len`. If the peer ends the
 * stream first: TAKT_ETRUNCATED. When it fails, takt_done() tells how many arrived. */
TAKT__MUST_USE static inline takt_op takt_recv_all(int fd, void *buf TAKT__KEPT, size_t len)
{
    takt_op op = takt__op(TAKT_OP_RECV, fd, buf, len);
    op.flags = TAKT_OP_ALL;
    return op;
}

/* Receives into `count` (1 to 1024) buffers, filling one after the other: readv(2). The
 * array too must stay put. Result: bytes, 0 at the end of the stream. */
TAKT__MUST_USE static inline takt_op takt_recvv(int fd, const struct iovec *bufs TAKT__KEPT,
                                                int count)
{
    takt_op op = takt__op(TAKT_OP_RECV, fd, bufs, (size_t)(count > 0 ? count : 0));
    op.flags = TAKT_OP_VECTOR;
    return op;
}

struct takt_bufs;

/* Receives into a buffer of `pool`, taken when there is data: whoever waits in
 * silence holds no buffer. `data`: where to put its address; it is set exactly
 * when the result is above 0, and the buffer is then yours until takt_bufs_put().
 * Result: bytes, at most pool->size; 0 at the end of the stream. An empty pool is
 * waited for, first come, first served. */
TAKT__MUST_USE static inline takt_op takt_recv_lease(int fd, struct takt_bufs *pool,
                                                     unsigned char **data TAKT__KEPT)
{
    takt_op op = takt__op(TAKT_OP_LEASE, fd, data, 0);
    op.arg.ptr = pool;
    return op;
}

/* Takes a buffer of `pool`, to be filled: for takt_send_lease(), for one. `data`: where to put
 * its address; it is set exactly when the result is above 0, and yours until takt_bufs_put() or
 * until it is handed over. Result: pool->size. An empty pool is waited for, first come, first
 * served, together with those who receive into it. */
TAKT__MUST_USE static inline takt_op takt_lease(struct takt_bufs *pool,
                                                unsigned char **data TAKT__KEPT)
{
    takt_op op = takt__op(TAKT_OP_BUFFER, -1, data, 0);
    op.arg.ptr = pool;
    return op;
}

/* Sends all of `buf`: waits until the system has taken the last byte, which does not mean
 * that the peer has. `flags` as for send(2), MSG_MORE for one; MSG_NOSIGNAL is always set.
 * Result: `len`. Fails with -EPIPE or -ECONNRESET when the peer is gone; takt_done() tells
 * how many bytes went before. */
TAKT__MUST_USE static inline takt_op takt_send_flags(int fd, const void *buf TAKT__KEPT,
                                                     size_t len, int flags)
{
    takt_op op = takt__op(TAKT_OP_SEND, fd, buf, len);
    op.flags = TAKT_OP_ALL;
    op.bits = (uint32_t)flags;
    return op;
}

/* takt_send_flags() without flags. */
TAKT__MUST_USE static inline takt_op takt_send(int fd, const void *buf TAKT__KEPT, size_t len)
{
    return takt_send_flags(fd, buf, len, 0);
}

/* Sends all of `count` (1 to 1024) buffers, as takt_send(): writev(2). The array too must
 * stay put. Result: the sum of their lengths. */
TAKT__MUST_USE static inline takt_op takt_sendv(int fd, const struct iovec *bufs TAKT__KEPT,
                                                int count)
{
    takt_op op = takt__op(TAKT_OP_SEND, fd, bufs, (size_t)(count > 0 ? count : 0));
    op.flags = TAKT_OP_ALL | TAKT_OP_VECTOR;
    return op;
}

/* Sends the `len` bytes at `*data`, which lie in a buffer of `pool` that is out, and hands that
 * buffer over, so that they need not be copied: `*data` is NULL from the await on, and the
 * buffer is back in its pool once the system reads it no more; maybe long after the await, when
 * the peer has the bytes, also if the coroutine has ended by then. Nobody waits for that but
 * who wants a buffer. Otherwise as takt_send(), errors included: these too take the buffer,
 * unless `*data` tells that it never began, so that a defer may takt_bufs_put() it either way.
 * TAKT_EBUFFER if the bytes are not in such a buffer.
 *
 * io_uring sends without copying (see takt_uring_config) where that is worth it, as long as at
 * most half of the pool is with the system, and a quarter for one descriptor: peers that read
 * slowly do not starve the others. Anything else is a takt_send(), and the buffer is back when
 * it completes. `pool` has to outlive the loop, whose free waits config.loop.reap_limit for
 * buffers. What is not back by then is never used again, and is kept when the pool is freed:
 * net_free() says -EBUSY, pool->lost how many, and LeakSanitizer that they are there. */
TAKT__MUST_USE static inline takt_op takt_send_lease(int fd, struct takt_bufs *pool,
                                                     unsigned char **data TAKT__KEPT, size_t len)
{
    takt_op op = takt__op(TAKT_OP_SEND_LEASE, fd, data, len);
    op.arg.ptr = pool;
    op.flags = TAKT_OP_ALL;
    return op;
}

/* Sends one datagram: sendto(2). `to`: where, or NULL on a connected socket. Several may
 * wait on one socket, takt_send_burst() among them, and go in order. Result: `len`. Fails
 * with -EMSGSIZE if it is too long for one, -ECONNREFUSED if an earlier one found nobody
 * (connected sockets). Of a Unix socket whose receiver is full the system tells nobody when
 * there is room, unless it is connected: until then it is tried again every turn. */
TAKT__MUST_USE static inline takt_op takt_sendto(int fd, const void *buf TAKT__KEPT, size_t len,
                                                 const struct takt_addr *to TAKT__KEPT)
{
    takt_op op = takt__op(TAKT_OP_SENDTO, fd, buf, len);
    op.arg.ptr = (void *)(uintptr_t)to;
    return op;
}

/* One datagram of takt_send_burst(). */
typedef struct takt_packet {
    const void *data;
    uint32_t len;
    int32_t error;               /* out: 0 if it was sent, or why not */
    const struct takt_addr *to;  /* NULL on a connected socket */
    const struct takt_addr *from; /* the address it leaves from: takt_datagram.to; or NULL, or
                                   * none: the system's choice */
} takt_packet;

/* Sends `count` datagrams, in their order, with as few system calls as there can be:
 * sendmmsg(2); and where several in a row of one length (the last may be shorter) go to one
 * peer, they are one request, which the system takes apart again (UDP_SEGMENT, udp(7)), as
 * long as it can: loop.backend.posix.no_segments says why it cannot. One that fails does not
 * hold the others. Waits while the socket is full, behind those that came before, as
 * takt_sendto(). Suspends. Result: how many were sent. */
TAKT__MUST_USE static inline takt_op takt_send_burst(int fd, takt_packet *packets TAKT__KEPT,
                                                     size_t count)
{
    return takt__op(TAKT_OP_BURST, fd, packets, count);
}

/* Receives one datagram: recvfrom(2). `from`: where to put its sender, or NULL. Result:
 * its length, 0 being an empty one, or the end of a socket that was shut down for reading; if
 * that is above `len`, the rest was cut off (MSG_TRUNC). */
TAKT__MUST_USE static inline takt_op takt_recvfrom(int fd, void *buf TAKT__KEPT, size_t len,
                                                   struct takt_addr *from TAKT__KEPT)
{
    takt_op op = takt__op(TAKT_OP_RECVFROM, fd, buf, len);
    op.arg.ptr = from;
    return op;
}

enum { TAKT_SHUT_READ, TAKT_SHUT_WRITE, TAKT_SHUT_BOTH }; /* SHUT_RD, SHUT_WR, SHUT_RDWR */

/* Ends one direction or both: shutdown(2). `how`: TAKT_SHUT_... The descriptor stays
 * open. Result: 0. A socket that is no longer connected is a success. */
TAKT__MUST_USE static inline takt_op takt_shutdown(int fd, int how)
{
    takt_op op = takt__op(TAKT_OP_SHUTDOWN, fd, NULL, 0);
    op.bits = (uint32_t)how;
    return op;
}

/* Cancels what is in flight on `fd`, waits until it is over, and closes it. It
 * always acts, also in a coroutine that is being cancelled. A negative `fd` is
 * none, and a success. Result: 0. When it fails with what close(2) fails with, the
 * descriptor is gone all the same: do not close it again. */
TAKT__MUST_USE static inline takt_op takt_close(int fd)
{
    return takt__op(TAKT_OP_CLOSE, fd, NULL, 0);
}

enum { TAKT_READABLE = 1, TAKT_WRITABLE = 4 }; /* POLLIN, POLLOUT */

/* Suspends until `fd`, of any kind that poll(2) knows, is ready for one of `events`
 * (TAKT_READABLE, TAKT_WRITABLE, or'ed). Result: the events that hold, POLLERR and
 * POLLHUP among them. Occupies one direction: reading, if that is among them. A descriptor of
 * a library that also closes it may be waited for with this, and with nothing else. */
TAKT__MUST_USE static inline takt_op takt_ready(int fd, int events)
{
    takt_op op = takt__op(TAKT_OP_READY, fd, NULL, 0);
    op.bits = (uint32_t)events;
    return op;
}

/* read(2) and pread(2): `offset` -1 reads at the current position. Result: bytes,
 * maybe fewer than `len`; 0 at the end. On the portable backend regular files
 * are read where they stand, and other descriptors must be non-blocking. */
TAKT__MUST_USE static inline takt_op takt_read(int fd, void *buf TAKT__KEPT, size_t len,
                                               int64_t offset)
{
    takt_op op = takt__op(TAKT_OP_READ, fd, buf, len);
    op.arg.offset = offset;
    return op;
}

/* write(2) and pwrite(2), as takt_read(). On a socket or a pipe without a reader
 * it raises SIGPIPE unless that is ignored: use takt_send() on sockets. */
TAKT__MUST_USE static inline takt_op takt_write(int fd, const void *buf TAKT__KEPT, size_t len,
                                                int64_t offset)
{
    takt_op op = takt__op(TAKT_OP_WRITE, fd, buf, len);
    op.arg.offset = offset;
    return op;
}

/* -- streams: one request, many completions; for TAKT_OPEN ------------------
 *
 * Awaited, or given to net_submit_op(), they fail with -EINVAL: nobody there could take the
 * second item. A callback submits takt_accept(), takt_sleep_until() ... anew each time.
 */

/* Every connection of a listening socket. Items: .value is a descriptor, yours to close,
 * as takt_accept() makes it. Descriptors that nobody took are closed. When descriptors
 * run out it waits until one is closed. Ends with TAKT_ESTOPPING once the loop stops. */
TAKT__MUST_USE static inline takt_op takt_accept_multishot(int listener)
{
    takt_op op = takt__op(TAKT_OP_ACCEPT, listener, NULL, 0);
    op.flags = TAKT_OP_MULTI;
    return op;
}

/* All that arrives on a connected stream socket, each piece in a buffer of `pool`, taken
 * when data is there. Items: .data is the buffer, yours until takt_bufs_put(), .value its
 * bytes. Ends when the peer does. An empty pool is waited for. */
TAKT__MUST_USE static inline takt_op takt_recv_multishot(int fd, struct takt_bufs *pool)
{
    takt_op op = takt__op(TAKT_OP_LEASE, fd, NULL, 0);
    op.arg.ptr = pool;
    op.flags = TAKT_OP_MULTI;
    return op;
}

/* Every datagram, each in a buffer of `pool`, which needs room for a takt_datagram (256
 * bytes) and the longest payload, and a size divisible by 8; else -EINVAL. Items: .data is
 * the buffer, yours until takt_bufs_put(), and a takt_datagram stands at its start; .value
 * is the payload's length, 0 for an empty datagram. Errors of single datagrams (ICMP) do
 * not end it; that the socket is shut down for reading may. */
TAKT__MUST_USE static inline takt_op takt_recvmsg_multishot(int fd, struct takt_bufs *pool)
{
    takt_op op = takt__op(TAKT_OP_RECVMSG, fd, NULL, 0);
    op.arg.ptr = pool;
    op.flags = TAKT_OP_MULTI;
    return op;
}

/* Each time `fd` becomes ready for one of `events`. Items: .value is what holds. On poll(2),
 * and on kernels without multishot requests, where edges cannot be told: once a turn, as
 * long as it holds. */
TAKT__MUST_USE static inline takt_op takt_ready_multishot(int fd, int events)
{
    takt_op op = takt__op(TAKT_OP_READY, fd, NULL, 0);
    op.bits = (uint32_t)events;
    op.flags = TAKT_OP_MULTI;
    return op;
}

/* Every `ns` nanoseconds (at least TAKT_TICK), counted from the start: it does not drift.
 * Items: .value is how many times it has come due since the item before. */
TAKT__MUST_USE static inline takt_op takt_every(takt_ns ns)
{
    takt_op op = takt__op(TAKT_OP_SLEEP, -1, NULL, 0);
    op.arg.sleep = ns > (takt_ns)1 << 17 ? ns : (takt_ns)1 << 17;
    op.flags = TAKT_OP_MULTI;
    return op;
}

/* The next signal of a descriptor that takt_signals() made: signalfd(2). Result: its
 * number. -ENOSYS where there is none. */
TAKT__MUST_USE static inline takt_op takt_signal(int fd)
{
    return takt__op(TAKT_OP_SIGNAL, fd, NULL, 0);
}

struct takt_pipe;

/* Moves what arrives on the stream socket `from` on to the stream socket `to`, through a
 * pipe of the backend's and without copying it: splice(2), for bulk. Suspends until some
 * bytes have been handed to `to`, at most what one pipe holds. Result: how many; 0 at the
 * end of the stream, when all that came before has been handed on. takt_relay, which
 * chooses between this and a buffer, is what most want.
 *
 * `pipe`: NULL at first, then yours to hand on from op to op. While bytes have left `from`
 * and `to` has no room for them, it is the pipe that holds them: also when the op was
 * cancelled, ran out of time or failed. The next takt_splice() goes on with these, so that
 * nothing is lost or doubled; else takt_pipe_drop() it. It is NULL whenever nothing is in
 * it: whoever waits in silence holds no pipe.
 *
 * Occupies reading of `from` and writing of `to`, which may be the same; if either is closed:
 * TAKT_ECLOSED. Fails as recv and send do; with -ENOBUFS if there is no pipe, as where the
 * backend has none, all are in use, or descriptors have run out, and where urgent data is in
 * the way: nothing was taken then, and the bytes can be received. */
TAKT__MUST_USE static inline takt_op takt_splice(int from, int to,
                                                 struct takt_pipe **pipe TAKT__KEPT)
{
    takt_op op = takt__op(TAKT_OP_SPLICE, from, pipe, 0);
    op.extra = (uint32_t)to;
    return op;
}

/* The same op, but it fails with -ETIMEDOUT after `ns` nanoseconds, at least 1; exact as
 * takt_sleep(). What was done by then is done: see takt_done(). A result that arrives
 * together with the limit is delivered. Around another limit, the outer one counts. */
TAKT__MUST_USE static inline takt_op takt_within(takt_ns ns, takt_op op TAKT__KEPT)
{
    op.flags &= (uint8_t)~TAKT_OP_DEADLINE;
    op.when = ns > 0 ? ns : 1;
    return op;
}

/* The same op, but it fails with -ETIMEDOUT once the loop's clock reaches `deadline`; if
 * that has passed, in this turn, unless it completes at once. TAKT_FOREVER: never.
 * takt_by(takt_after(takt_now(&my->frame), 5 * TAKT_SEC), op) twice shares one limit of
 * five seconds. */
TAKT__MUST_USE static inline takt_op takt_by(takt_ns deadline, takt_op op TAKT__KEPT)
{
    op.flags |= TAKT_OP_DEADLINE;
    op.when = deadline > 0 ? deadline : 1;
    return op;
}

/* The word for an op's kind in dumps; constant text, "unknown" for what is none. */
const char *takt_op_name(int kind);

/* ==========================================================================
 * >>memory - buffers to receive into, shared by all connections; completion memory
 *
 * A buffer is taken when data is there and given back once; the newest comes
 * first, so that it is still in the cache. When the pool is empty, whoever wants
 * to receive waits in line. A pool belongs to one loop and must not move. It may be freed
 * before or after the loop is, once nothing that uses it is in flight.
 *
 * A backend may keep buffers with the system, so that data goes straight into one: at most
 * half of those that are not out, and none while somebody waits in line. takt_bufs_take()
 * does not find these.
 * ======================================================================== */

typedef struct takt_bufs {
    uint32_t size;  /* bytes a buffer */
    uint32_t count; /* buffers */
    uint32_t in_use;
    uint32_t in_use_max; /* the most that were out at the same time, tries included */
    uint64_t waits;      /* how often somebody had to wait for one */
    /* The pool's: */
    unsigned char *memory;
    uint32_t *next;  /* free list; TAKT__LEASED while it is out */
    uint32_t free;   /* head */
    uint32_t fresh;  /* buffers from here on were never touched */
    takt_op *waiting, *waiting_last; /* the backend's: ops that found it empty */
    struct takt_bufs *next_starved;
    bool starved;
    uint32_t sending; /* of those in use: with the system, which has yet to give them back */
    uint32_t lost;    /* of those: it never will */
    /* Of a backend that keeps free buffers with the system: */
    uint32_t kept; /* how many */
    void *keeper;
    /* Asks for all of them. False: not now, unless the pool is `going`. */
    bool (*reclaim)(struct takt_bufs *bufs, bool going);
} takt_bufs;

/* Allocates `count` buffers of `size` bytes, without touching them: memory is used as
 * buffers are. 0, -EINVAL if either is 0 or their product overflows, or -ENOMEM. Yours to
 * free, unless it failed. */
int takt_bufs_init(takt_bufs *bufs, uint32_t count, uint32_t size);

/* Frees the memory. No buffer may be in use, and no op in flight on the pool: after
 * takt_send_lease() that is certain once the loop is freed. Where the system did not give a
 * buffer back then, the memory is kept, on purpose. */
void takt_bufs_free(takt_bufs *bufs);

/* Takes a buffer, of bufs->size bytes and no certain contents; yours until it is put
 * back. NULL if none is free: it does not wait. */
unsigned char *takt_bufs_take(takt_bufs *bufs);

/* Gives a buffer back and sets `*data` to NULL; nothing if it is NULL already,
 * so that a loop and a defer may both do it. Any address inside the buffer will
 * do. Whoever waits for one gets it in the next turn. 0, or TAKT_EBUFFER if it is not
 * out, or not of this pool; `*data` is NULL then too. */
int takt_bufs_put(takt_bufs *bufs, unsigned char **data);

#ifndef TAKT_NO_POSIX
/* If no buffer is in use, gives their pages back to the system: madvise(2). */
void takt_bufs_trim(takt_bufs *bufs);
#endif

/* -- completion memory ------------------------------------------------------
 *
 * A loop takes what completed from its backend into one slab. It asks a provider for it
 * once, in its init, and gives it back once, when it has been drained: config.memory.
 * NULL is the heap. Providers are for those who start and end many loops, or who know
 * better where memory is. None of takt's is thread-safe: one provider, one thread.
 */

enum {
    TAKT_SLAB_DEFAULT = 8192, /* bytes of a slab, unless told otherwise: it stays in the cache */
    TAKT_SLABS_DEFAULT = 8    /* slabs of a bounded provider, unless told otherwise */
};

/* A provider; your own, or a part of takt's below. It outlives its loops. */
typedef struct takt_memory {
    /* At least `size` bytes (0: its default), aligned as by malloc(3); sets `*capacity` to
     * how many there are. NULL if there are none. They need not be zero. */
    void *(*acquire)(void *user, size_t size, size_t *capacity);
    /* The whole slab back, with the capacity that acquire told. 0, or an error if it is
     * not one that is out: then nothing has happened. */
    int (*release)(void *user, void *slab, size_t capacity);
    void *user;
} takt_memory;

/* Takes slabs from the heap, of exactly the size asked for. It keeps one of the default
 * size for the next who asks, zeroed. */
typedef struct takt_heap_memory {
    takt_memory memory; /* for config.memory */
    uint64_t acquired, released;
    void *kept;
} takt_heap_memory;

/* Makes it ready; allocates nothing. */
void takt_heap_init(takt_heap_memory *heap);
/* Frees what it keeps. Slabs that are out are not its concern. */
void takt_heap_free(takt_heap_memory *heap);

/* Holds a bounded number of slabs in one block; whichever has rested longest is used next,
 * zeroed. */
typedef struct takt_bounded_memory {
    takt_memory memory; /* for config.memory */
    bool grow;          /* in: what the block cannot serve comes from the heap */
    uint32_t count;     /* slabs */
    size_t slab;        /* bytes each */
    uint32_t in_use;    /* of the block */
    uint32_t in_use_max;
    uint32_t grown;   /* slabs from the heap that are out */
    uint64_t refused; /* how often there was none to give */
    uint64_t strange; /* releases of what was not out: twice, or never ours */
    /* The provider's: */
    unsigned char *block;
    uint32_t *line; /* free slabs, in order; first and last count on for ever */
    uint32_t first, last;
    bool *out;
    struct takt__grown *more;
} takt_bounded_memory;

/* Allocates `count` slabs, rounded up to a power of two, of `slab` bytes, rounded up to a
 * cache line. 0, -EINVAL if either is 0 or they are beyond all measure, or -ENOMEM. With
 * .grow unset, which it is, acquire answers NULL when all are out or `size` is above
 * `slab`. */
int takt_bounded_init(takt_bounded_memory *bounded, uint32_t count, size_t slab);
/* Frees the block. -EBUSY, and nothing happens, if a slab is out. */
int takt_bounded_free(takt_bounded_memory *bounded);

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
 *            for something to complete, returns how many (above `max`: asserted),
 *            or an error that is the end of the loop. TAKT_EWOULDBLOCK: nothing,
 *            not an error.
 *   void B_flush(B *)             makes the system see what was submitted
 *   bool B_busy(B *)              completions wait that no descriptor announces
 *   int  B_fd(B *)                becomes readable when poll has work, or -1
 *   int64_t B_call(B *, takt_op *) what does not wait: socket, bind, options ...; of a
 *            TAKT_OP_BURST what can be sent at once, then -EAGAIN if that is not all
 *
 * And if it has `#define TAKT_EACH_B , TAKT__BY_EACH`, for what most completions are:
 *   bool B_each(B *, int max, takt_ns wait, size_t stride,
 *               bool (*succeed)(void *loop, takt_slot *, int64_t value), void *loop)
 *            asks and waits as poll does, and calls `succeed` with the slot of each op that
 *            has completed with a value and nothing else, in their order, until it returns
 *            false, at most `max` times. `stride`: from one slot to the next. True: that was
 *            all. False: poll is to see to the rest.
 *
 * And if it has `#define TAKT_END_B , TAKT__BY_END`, for what its free may have to wait for:
 *   int  B_end(B *, takt_ns limit)  in place of B_free. 0, or -EBUSY if after `limit` ns the
 *            system still held memory: that is kept
 *
 * An op with TAKT_OP_MULTI (accept, recv_multishot, recvmsg_multishot, readiness) completes
 * many times: with TAKT_MORE while the request lives, then once without. The kernel ends
 * such requests at its whim; the backend starts them anew by itself: when a buffer comes
 * back (-ENOBUFS), when a descriptor is closed (-EMFILE, -ENFILE), at once after what
 * concerns one datagram or one connection only, and never in a storm. So the completion
 * without TAKT_MORE is the real end: of the stream, by an error, or by B_cancel. A buffer
 * pool may keep some of its free buffers with the backend: see takt_bufs.
 *
 * What TAKT_OP_SPLICE has taken from op->fd and not handed on to op->extra stays in *op->buf,
 * a struct takt_pipe * whose contents are the backend's affair; B_call drops it as TAKT_OP_PIPE.
 * A backend without such answers -ENOTSUP, and relays copy.
 *
 * TAKT_OP_SEND_LEASE hands a buffer over, see takt_send_lease(): the backend takes it in
 * submit, unless it refuses, and puts it back once the system has done with it.
 *
 * What an op says may be written is the backend's until its terminal completion: under
 * AddressSanitizer anybody else is caught in there. A backend that writes into it itself
 * does so in poll and flush, or in submit and cancel of the same op.
 * ======================================================================== */

/* Correlates a completion with its op: generation in the high, index in the low
 * half. Any value is legal. */
typedef uint64_t takt_token;

/* Where an op lives while it is in flight. The generation rises with every
 * submission, so that a late completion finds nothing. */
typedef struct takt_slot {
    takt_op op; /* first */
    uint32_t index;
    uint32_t generation;
} takt_slot;

/* The loop's slots, for backends that look one up by its token. */
typedef struct takt_slots {
    unsigned char *base;
    uint32_t stride; /* bytes from one to the next */
    uint32_t count;
} takt_slots;

enum {             /* takt_completion.flags */
    TAKT_MORE = 1, /* of a TAKT_OP_MULTI: the request lives on, further ones follow */
    TAKT_FD = 2,   /* `value` is a descriptor that has to be closed by somebody */
    TAKT_NO_VALUE = 4 /* of a TAKT_OP_MULTI: it lives, and that is all */
};

/* One completion of one op. */
typedef struct takt_completion {
    takt_token token;
    int64_t value;  /* what the op yields; meaningful beside a failure too */
    int32_t error;  /* 0, TAKT_EWOULDBLOCK, TAKT_EMORE, or a failure */
    uint32_t flags; /* TAKT_MORE, TAKT_FD */
    void *payload;  /* a buffer of the op's pool */
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

/* The next generation of `slot`, which begins: its token. */
static inline takt_token takt__slot_begin(takt_slot *slot)
{
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    unsigned char *const at = (unsigned char *)slot + offsetof(takt_slot, index);
    takt_token token;
    memcpy(&token, at, sizeof token); /* both halves at once */
    token += (takt_token)1 << 32;
    memcpy(at, &token, sizeof token);
    return token;
#else
    slot->generation++;
    return takt_token_make(slot->generation, slot->index);
#endif
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

/* -- tokens that a backend chose itself ------------------------------------ */

/* What each stands for. At most half of the places are used. */
typedef struct takt_tokens {
    struct takt__token_place *at;
    uint32_t size, used;
} takt_tokens;

/* Room for `count` tokens. 0 or -ENOMEM. */
int takt_tokens_init(takt_tokens *tokens, uint32_t count);
/* Frees it. */
void takt_tokens_free(takt_tokens *tokens);
/* What `token` stands for, or NULL. */
void *takt_tokens_find(const takt_tokens *tokens, takt_token token);
/* From here on `token`, which is not in it, stands for `what`, which is not NULL. */
void takt_tokens_add(takt_tokens *tokens, takt_token token, void *what);
/* Takes `token` out, if it is in. */
void takt_tokens_remove(takt_tokens *tokens, takt_token token);

/* -- descriptors: which ops are in flight on each ------------------------- */

/* One descriptor; slots are counted from 1, 0 is none. */
typedef struct takt_fd {
    uint32_t reader; /* the op that waits to read */
    uint32_t writer; /* the op that waits to write; datagrams and bursts chain by op.next */
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
/* Takes `op` out. If a close waited for that: the close op, now free to act. A splice may
 * free two: the second is told when the first has left, by asking once more. */
takt_op *takt_fds_leave(takt_fds *fds, takt_op *op);
/* The op in a place of the table, or NULL. */
static inline takt_op *takt_fds_op(const takt_fds *fds, uint32_t place)
{
    return place ? &takt_slot_at(fds->slots, place - 1)->op : NULL;
}

/* ==========================================================================
 * >>net - addresses, and calls on sockets that never wait
 *
 * The calls take the frame, which must be alive, and are answered by its loop's
 * backend, so that the same program runs on a simulated network. They return 0
 * or more, or a negative errno: TAKT_CHECK() throws that. Nothing is left behind
 * by one that fails. Sockets are made non-blocking and close-on-exec, and are
 * yours to close. Addresses are copied: they may stand on the stack.
 * ======================================================================== */

typedef struct takt_frame takt_frame;

/* An address of any family: IPv4, IPv6, Unix. Plain data: copy it. All zero is none. For
 * others, memcpy a sockaddr of yours into .sockaddr and set .len. */
typedef struct takt_addr {
    uint32_t len; /* of the sockaddr in here */
    uint32_t reserved;
    union {
        uint64_t align;
        unsigned char bytes[112];
    } sockaddr; /* a struct sockaddr */
} takt_addr;

enum { TAKT_ADDR_TEXT = 128 }; /* room for any address as text */

/* Reads "127.0.0.1:80", "[::1]:80", ":80" (any IPv4 address) or "unix:/path". Ports are 0
 * to 65535; 0 lets the system choose one when it is bound, and takt_sockname() tells.
 * Numbers only: nothing is looked up. 0, or -EINVAL, and `addr` is none or useless. */
int takt_addr_parse(takt_addr *addr, const char *text);

/* Writes `addr` the way takt_addr_parse() reads it, or "(no address)". `size`: of `text`,
 * TAKT_ADDR_TEXT is always enough; what does not fit is cut off. Returns `text`. */
const char *takt_addr_format(const takt_addr *addr, char *text, size_t size);

/* The port, 0 to 65535; 0 if the family has none. */
int takt_addr_port(const takt_addr *addr);

/* True if both name the same family, host and port, or the same path. An IPv4 address
 * mapped into IPv6 is not the IPv4 address. */
bool takt_addr_equal(const takt_addr *a, const takt_addr *b);

/* SipHash-2-4 of what takt_addr_equal() looks at. With a `key` that nobody else knows, 16
 * bytes of getrandom(2): a place in a table that strangers fill, or a cookie that proves that
 * one receives at an address. A key for each: what is shown must not tell what is not. */
uint64_t takt_addr_hash(const takt_addr *addr, const uint64_t key[2]);

/* A listening stream socket, with SO_REUSEADDR: socket(2), bind(2), listen(2). The file of
 * a dead Unix socket is replaced; it stays when the socket is closed. `backlog`:
 * connections that may wait to be accepted, 0 for SOMAXCONN. Result: its descriptor.
 * Fails with -EADDRINUSE, -EACCES ... */
int takt_listen(takt_frame *frame, const takt_addr *addr, int backlog);
/* The same, and other sockets of this user may listen there too, if all do so: a loop for each
 * core. The system spreads the connections over them (SO_REUSEPORT). When one is closed, what
 * waits in it is reset. Not for Unix sockets. */
int takt_listen_shared(takt_frame *frame, const takt_addr *addr, int backlog);

/* A datagram socket bound to `addr`. Result: its descriptor. Fails with -EADDRINUSE ... */
int takt_udp_bind(takt_frame *frame, const takt_addr *addr);
/* The same, shared as by takt_listen_shared(): a sender stays with one of them. */
int takt_udp_bind_shared(takt_frame *frame, const takt_addr *addr);

/* A datagram socket connected to `addr`, on a port that the system chooses: what comes from
 * others does not reach it, and errors of the way there do. Result: its descriptor. Fails
 * with -ENETUNREACH ... */
int takt_udp_connect(takt_frame *frame, const takt_addr *addr);

/* A socket: socket(2). Result: its descriptor. */
int takt_socket(takt_frame *frame, int family, int type, int protocol);

/* As takt_send_burst(), but it never suspends: what the socket has no room for is not sent, and
 * has the error -EAGAIN. For a frame loop that sends what the next tick replaces anyway: no
 * peer can hold it. `frame`: any of this loop's that is alive; in it or from outside. It does
 * not mind whoever waits on this socket to send, and may overtake them. Result: how many were
 * sent; or -EBADF, -ENOTSOCK, or -ENOTSUP if the backend has none. */
int takt_try_send_burst(takt_frame *frame, int fd, takt_packet *packets, size_t count);

/* What stands at the start of a buffer of takt_recvmsg_multishot(). 256 bytes; the payload
 * follows it in the same buffer. */
typedef struct takt_datagram {
    unsigned char *data; /* the payload */
    uint32_t len;        /* its bytes in here */
    uint16_t segment;    /* above 0: several datagrams of this size (the last may be
                            shorter) that came together: UDP_GRO */
    uint8_t ecn;         /* the two bits of RFC 3168, if takt_udp_options() asked for them */
    bool truncated;      /* it was longer than the buffer */
    takt_addr from;      /* none, if the sender has no address */
    takt_addr to; /* the address that was hit, without a port; or none, as above */
} takt_datagram;

TAKT__STATIC_ASSERT(sizeof(takt_datagram) <= 256, "it stands in for the kernel's header");

/* The address that `fd` is bound to: getsockname(2). 0 or an error, then `addr` is none. */
int takt_sockname(takt_frame *frame, int fd, takt_addr *addr);

/* The address that `fd` is connected to: getpeername(2). 0 or an error, then `addr` is
 * none. */
int takt_peername(takt_frame *frame, int fd, takt_addr *addr);

/* setsockopt(2) with an int, `value`. 0 or an error. */
int takt_setsockopt(takt_frame *frame, int fd, int level, int name, int value);

/* getsockopt(2) of an int, into `value`. 0 or an error, then it is as it was. */
int takt_getsockopt(takt_frame *frame, int fd, int level, int name, int *value);

/* What a TCP connection may be told. Zero leaves the system's default. */
typedef struct takt_tcp {
    bool nodelay;            /* send small messages at once */
    takt_ns keepalive;       /* probe a silent peer after this long; up to whole seconds */
    takt_ns user_timeout;    /* give up when data stays unacknowledged; up to whole ms */
    int receive_buffer;      /* bytes; the system may double or cap them */
    int send_buffer;
} takt_tcp;

/* Applies `options` to `fd`: tcp(7), socket(7). Of a Unix socket, the sizes of buffers
 * alone. Options that this system lacks are passed over. 0, or the first error; those
 * before it have been applied. */
int takt_tcp_options(takt_frame *frame, int fd, const takt_tcp *options);

/* What a datagram socket is to tell with each datagram, in its takt_datagram. */
typedef struct takt_udp {
    bool local_address;      /* .to */
    bool ecn;                /* .ecn */
    bool gro;                /* .segment: the system may join what one sender sent in a row,
                                up to 64 KiB, for which the buffers need room. Linux */
    int receive_buffer;      /* bytes; 0: the system's default */
    int send_buffer;         /* bytes; 0: the system's default */
} takt_udp;

/* Applies `options` to `fd`, a socket of IPv4 or IPv6. 0 or the first error; -ENOTSUP for
 * what this system does not have. */
int takt_udp_options(takt_frame *frame, int fd, const takt_udp *options);

/* From here on the close of `fd` sends a reset (SO_LINGER of 0, RFC 9293 3.5.2): the peer
 * learns that what it got is not all, and what was not sent yet is dropped. 0 or an
 * error. */
int takt_reset_on_close(takt_frame *frame, int fd);

/* A descriptor for takt_signal(), which from here on takes the place of the usual
 * action of these signals: signalfd(2). `mask`: (uint64_t)1 << number, or'ed; numbers 1
 * to 63. They are blocked in the calling thread, and stay so, also when the descriptor
 * has been closed; threads and children inherit that. Linux; elsewhere -ENOSYS. */
int takt_signals(takt_frame *frame, uint64_t mask);

/* Raises the soft limit of descriptors to the hard one: before a loop's init, which
 * sizes its table by it. For the whole process: setrlimit(2). Result: the limit now. */
int takt_raise_fd_limit(void);

/* ==========================================================================
 * >>posix - the portable backend: epoll on Linux, poll elsewhere
 *
 * An op is tried when its descriptor may be ready, and waits otherwise. Nothing
 * is allocated after init. Regular files are read and written where they stand.
 * ======================================================================== */

/* All zero, its defaults. A table of `fds_max` entries takes 24 bytes a descriptor that was
 * ever used (32 with poll); ops on those beyond it fail with -EMFILE. */
typedef struct takt_posix_config {
    int fds_max;       /* descriptors; 0: RLIMIT_NOFILE at init, at most 2^20 */
    bool poll_instead; /* poll(2) even where there is epoll */
} takt_posix_config;

/* Pipes for takt_splice(): made when they are needed, two descriptors each, and kept. At
 * most 256, and one for every 16 descriptors of the table. */
typedef struct takt_pipes {
    struct takt_pipe *at;
    struct takt_pipe *free; /* the newest first */
    uint32_t count, fresh;  /* those from `fresh` on were never used */
    uint32_t in_use;
    uint8_t guard; /* against SIGPIPE, until the end of this poll */
} takt_pipes;

/* The backend; it allocates in init, and must not move from there on. */
typedef struct takt_posix {
    takt_fds fds;
    uint32_t *run_next;               /* by descriptor: the list of those to try */
    uint32_t run_first, run_last;     /* descriptor + 1 */
    takt_op *done_first, *done_last;  /* complete, not yet polled */
    takt_bufs *starved;               /* pools that somebody waits for */
    takt_op *later;                   /* ops that wait for descriptors or memory */
    takt_ns later_until;              /* when they are tried again even so */
    bool later_now;                   /* a descriptor was closed meanwhile */
    int timer;                        /* announces later_until to others; epoll only */
    struct pollfd *polls;             /* poll(2) only */
    int fd_limit;                     /* descriptors at and above it were never used */
    int epoll;                        /* -1: poll(2) */
    int skipped;                      /* polls in a row that did not ask the system */
    takt_pipes pipes;
    int no_segments; /* why the system does not take datagrams apart, or 0: takt_send_burst().
                      * Set it to an error, and each goes by itself */
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
/* "epoll" or "poll"; constant text. */
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

/* A body: what TAKT_CORO() defines. Only a loop calls it. */
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
    uint16_t failed_at; /* line below TAKT_BEGIN; while it runs: a mark of its address */
    uint16_t defers[TAKT_DEFERS_MAX]; /* lines below TAKT_BEGIN; 0: none */
};

TAKT__STATIC_ASSERT(sizeof(takt_frame) <= 48, "a frame's header is at most 48 bytes");

/* The loop's clock, read at most once a turn: all that runs in it sees the same time. The
 * frame must be alive. */
takt_ns takt_now(const takt_frame *frame);

/* True from its start until it has finished, defers and children included. A frame that
 * is not alive may be freed or used again. Of memory that was never started, all zero. */
bool takt_alive(const takt_frame *frame);

/* True once it has run to its end, one way or another; until it is started again. Of a
 * task from a pool nobody can ask: its memory is the loop's again. */
bool takt_finished(const takt_frame *frame);

/* 0, or the error with which it finished; TAKT_ECANCELED if it was cancelled. 0 too if it
 * has not finished. */
int takt_error(const takt_frame *frame);

/* How many bytes the frame's last send or recv_all had done when it failed. To be asked
 * before the next await, in the coroutine itself; 0 if it is not alive. */
uint64_t takt_done(const takt_frame *frame);

/* Orders a coroutine to stop: what it awaits is cancelled, its children too, then
 * its defers run. Returns at once: it is over when takt_alive() says so. What completes
 * all the same is still delivered, and the order takes the next await. Nothing if it is
 * not alive, or on its way out. A coroutine may cancel itself. Of a called frame the call
 * is cancelled: it throws TAKT_ECANCELED in the caller, which may catch that. */
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
 * All but TAKT_CORO, TAKT_SPAWN_ON, TAKT_GO_ON and TAKT_START_ON stand in a body, at most
 * one a line. Arguments are evaluated once, unless it says otherwise. Words that may
 * suspend must not stand inside a switch of yours: use an if-chain.
 * ======================================================================== */

/* Declares or defines a coroutine: `static TAKT_CORO(echo) { ... }`. Its struct is
 * `struct echo`; the function behind it is named echo_coro. */
#define TAKT_CORO(coro) takt_status coro##_coro(takt_frame *takt_self)

/* Opens the body of `coro`, and stands first in it: what stands before it runs anew at every
 * resumption. `my`, a name of your choice, becomes a `struct coro *`. A local that is to be
 * used behind an await is an error or a warning (in C++ and for gcc, any initialised one in
 * whose scope an await stands); of arrays only gcc warns, and only under -O2 -Wall. */
#define TAKT_BEGIN(coro, my) TAKT__BEGIN(coro, my)

/* Closes the body, and stands last in it. Reaching it is TAKT_RETURN. */
#define TAKT_END TAKT__END

/* Leaves the coroutine, from anywhere in the body; results stay in its struct for the
 * caller to read. Suspends while children end and defers run. In a TAKT_DEFER block it
 * ends the block. */
#define TAKT_RETURN                                                                          \
    do {                                                                                     \
        if (TAKT__LIKELY(takt__ends(takt_self)))                                             \
            return takt__leave(TAKT__RETURN);                                                \
        return takt__returned(takt_self);                                                    \
    } while (0)

/* TAKT_AWAIT(op) or TAKT_AWAIT(result, op): suspends until `op` completes. A failure
 * is thrown; `result`, an lvalue of any integer type, is stored first, even then: what
 * does not fit is cut off, so an int does for descriptors, not for large lengths. */
#define TAKT_AWAIT(...)                                                                      \
    TAKT__PICK3(__VA_ARGS__, TAKT_AWAIT_takes_one_or_two_arguments, TAKT__AWAIT2,            \
                TAKT__AWAIT1, ~)                                                             \
    (__VA_ARGS__)

/* Like TAKT_AWAIT(result, op), but a failure is handed to you: `result` < 0. It must
 * be signed and at least an int. Suspends. An order to stop is thrown all the same. */
#define TAKT_TRY_AWAIT(result, op) TAKT__TRY_AWAIT(result, op, __LINE__)

/* Submits `count` ops together and suspends until all have completed. Their failures
 * are not thrown: each carries its own .result. The array is in the frame, or in other
 * memory that stays put; `count` 0 is done at once. They draw on the loop's strands
 * (config.loop.strands); what does not fit waits in order, and one at a time always fits.
 * Told to stop, it cancels all of them, waits until they are over, and throws, unless they
 * had all completed; each .result is set. */
#define TAKT_AWAIT_ALL(ops, count) TAKT__AWAIT_ALL(ops, count, __LINE__)

/* Submits `count` ops together, and when the first has completed, with success or not,
 * cancels the others and waits until they are over too. `winner`: the index of the first,
 * -1 if `count` is 0. Their failures are not thrown: each carries its own .result, which
 * is TAKT_ECANCELED for those that were cut short or never begun; a loser that completed
 * all the same keeps what it got, so look at all of them where a descriptor or an item
 * could be lost. Of several that need not wait the foremost wins. takt_sleep() among
 * them is a limit; limits count from here, also of those that wait for a strand. */
#define TAKT_AWAIT_ANY(winner, ops, count) TAKT__AWAIT_ANY(winner, ops, count, __LINE__)

/* Suspends, and lets everything else that is ready run first: it goes on in the next
 * turn. For long computations. A child that fails meanwhile is thrown by the next await. */
#define TAKT_YIELD TAKT__YIELD(__LINE__)

/* TAKT_CALL(my->child, name, .arg = value, ...): runs another coroutine in a struct
 * that you own and suspends until it has finished. Its error is thrown. `my->child` is a
 * `struct name` that outlives the call; it may be used for the next one, or share a union
 * with others that are not alive. It is cleared to zero but for the arguments. Up to
 * sixteen of them; they are evaluated once, before the struct is cleared, and gathered in
 * a copy of it on the C stack. Throws TAKT_ERUNNING if a child of this frame is alive in
 * that memory. Depth is bounded by your memory alone: resuming costs the same. */
#define TAKT_CALL(child, ...)                                                                \
    TAKT__CALL(child, __LINE__, TAKT__HEAD(__VA_ARGS__, ~), __VA_ARGS__)

/* Like TAKT_CALL, but its error is handed to you: `err` is 0 or < 0; it must be signed and
 * at least an int. Suspends. */
#define TAKT_TRY_CALL(err, child, ...)                                                       \
    TAKT__TRY_CALL(err, child, __LINE__, TAKT__HEAD(__VA_ARGS__, ~), __VA_ARGS__)

/* Like TAKT_CALL, but the callee is cancelled after `ns` nanoseconds, at least 1, with
 * whatever it has called or started, and -ETIMEDOUT is thrown once all that is over: its
 * defers are not cut short. If it ends well all the same, so does the call. Suspends.
 * Takes a strand, as TAKT_START. */
#define TAKT_CALL_WITHIN(ns, child, ...)                                                     \
    TAKT__CALL_WITHIN(ns, child, __LINE__, TAKT__HEAD(__VA_ARGS__, ~), __VA_ARGS__)

/* TAKT_START(my->child, name, .arg = value, ...): runs it alongside, on a strand of its
 * own. Does not suspend; the child runs once this coroutine waits, and to its first await
 * in any case. Memory and arguments as for TAKT_CALL. If the child fails, whatever this
 * frame awaits is interrupted and the error is thrown here. When this frame ends, a child
 * that still runs is cancelled and awaited. Throws TAKT_ESTRANDS if no strand is free. */
#define TAKT_START(child, ...)                                                               \
    TAKT__START(child, __LINE__, TAKT__HEAD(__VA_ARGS__, ~), __VA_ARGS__)

/* Suspends until all the named children have finished; without arguments, all children
 * of this frame. At most eight. One that has finished, or was never started, counts as
 * finished. If a child fails, named or not, the named ones are cancelled, and when they
 * have ended its error is thrown; one that was cancelled has not failed. Results and
 * takt_error() stay in their structs. */
#define TAKT_JOIN(...) TAKT__JOIN(__LINE__, __VA_ARGS__)

/* Suspends until one of the named children has succeeded, cancels the others and waits
 * for them too. At most eight, started before. `winner`, an int: its index among the
 * arguments, -1 if there is none. One that fails does not end the race; if all fail, the
 * last error is thrown. A loser that finished as well has takt_error() 0. */
#define TAKT_RACE(winner, ...) TAKT__RACE(winner, __LINE__, __VA_ARGS__)

/* TAKT_SPAWN(name, .arg = value, ...): starts an independent task on this loop, in
 * memory of the loop's: list it with TAKT_POOL(). A bool, which must be looked at: false
 * if the pool is full, no strand is free, the loop is stopping, or it was not listed; then
 * the arguments were not evaluated. Does not suspend: the task runs once this coroutine
 * waits, and to its first await in any case: a descriptor or buffer that it is handed is its
 * own, a TAKT_DEFER before that gives it back, also if all is stopped meanwhile. What its first
 * lines are to note, in a table say, is not there yet when this returns. Nobody awaits it; an
 * error that it does not catch goes to config.loop.on_failure. What it is lent must outlive
 * it. */
#define TAKT_SPAWN(...)                                                                      \
    TAKT__SPAWN(takt_sched_of(takt_self), NULL, NULL, TAKT__HEAD(__VA_ARGS__, ~), __VA_ARGS__)

/* The same, from outside any coroutine: TAKT_SPAWN_ON(&loop, name, ...). It runs in the
 * next turn. */
#define TAKT_SPAWN_ON(loop, ...)                                                             \
    TAKT__SPAWN(&(loop)->sched, NULL, NULL, TAKT__HEAD(__VA_ARGS__, ~), __VA_ARGS__)

/* TAKT_GO(my->group, name, ...): as TAKT_SPAWN, but it belongs to a takt_group of this
 * frame: it is cancelled and awaited before the frame ends. Its error is counted in the
 * group; with .fail_fast it is thrown here, as a child's. */
#define TAKT_GO(group, ...)                                                                  \
    TAKT__SPAWN(takt_sched_of(takt_self), &(group), takt_self,                               \
                TAKT__HEAD(__VA_ARGS__, ~), __VA_ARGS__)

/* The same without an owner, from inside or outside: the group stands in memory of yours. */
#define TAKT_GO_ON(loop, group, ...)                                                         \
    TAKT__SPAWN(&(loop)->sched, &(group), NULL, TAKT__HEAD(__VA_ARGS__, ~), __VA_ARGS__)

/* Suspends until the group is empty. Any coroutine of its loop may join it. */
#define TAKT_JOIN_GROUP(group) TAKT__JOIN_GROUP(group, __LINE__)

/* TAKT_START_ON(&loop, object, name, .arg = value, ...): starts a coroutine in a struct
 * of yours, from outside any coroutine; an lvalue of type `struct name`, not alive. It is
 * cleared to zero but for the arguments, and runs in the next turn. A bool, which must be
 * looked at: false if no strand is free (config.loop.strands), the loop is stopping, or the
 * struct cannot be used (it lies on the stack of a body, or, under TAKT_DEBUG, is alive);
 * then the arguments were not evaluated. The struct may go once takt_alive(&object.frame) is
 * false. `object` is evaluated once for every argument. (valgrind wants
 * the struct to be zeroed, or TAKT_VALGRIND.) */
#define TAKT_START_ON(loop, object, ...)                                                     \
    TAKT__START_ON(&(loop)->sched, object, TAKT__HEAD(__VA_ARGS__, ~), __VA_ARGS__)

/* TAKT_OPEN(my->stream, op): opens a stream: one request, many items. `stream` is a
 * takt_stream of this frame, `op` one of the multishot ones. Does not suspend. The stream
 * ends with the frame at the latest; items that nobody took are given back: buffers to
 * their pool, descriptors closed. Takes a strand: throws TAKT_ESTRANDS if none is free. */
#define TAKT_OPEN(stream, op)                                                                \
    do {                                                                                     \
        if (!takt__open(takt_self, &(stream), (op), __LINE__))                               \
            goto takt__unwind;                                                               \
    } while (0)

/* TAKT_NEXT(my->item, my->stream): suspends until the stream has an item, and takes it.
 * `item` is a takt_item; .end says that the stream is over. What it failed with is thrown,
 * after the items that came before. takt_stream_take() does not suspend. */
#define TAKT_NEXT(item, stream) TAKT__NEXT(item, stream, __LINE__)

/* Like TAKT_NEXT(item, stream), but what it failed with is handed to you: `err` is 0 or an
 * error, an int or wider, signed. An order to stop is thrown all the same. */
#define TAKT_TRY_NEXT(err, item, stream) TAKT__TRY_NEXT(err, item, stream, __LINE__)

/* Fails with `error`, which must be negative, else with TAKT_ERANGE. On to TAKT_CATCH, or
 * out: children are cancelled and awaited first. In a TAKT_DEFER block it ends the block.
 * The first error stands. */
#define TAKT_THROW(error)                                                                    \
    do {                                                                                     \
        if (TAKT__KNOWN_POSITIVE(error))                                                     \
            takt__throw_positive(takt_self, (error), __LINE__);                              \
        else                                                                                 \
            takt__throw(takt_self, (error), __LINE__);                                       \
        goto takt__unwind;                                                                   \
    } while (0)

/* Throws what a plain C expression of any integer type yields, if that is negative. For
 * functions that return errors: TAKT_CHECK(my->fd = takt_listen(...)). */
#define TAKT_CHECK(expr)                                                                     \
    do {                                                                                     \
        const int64_t takt__rc = (int64_t)(expr);                                            \
        if (takt__rc < 0)                                                                    \
            TAKT_THROW((int)takt__rc);                                                       \
    } while (0)

/* For system calls that answer -1 and set errno: stores the result, or -errno, which is
 * thrown. `result` is signed; it is evaluated several times. The call must not wait. */
#define TAKT_SYS(result, call)                                                               \
    do {                                                                                     \
        (result) = (call);                                                                   \
        if ((result) == -1) {                                                                \
            (result) = (-errno);                                                             \
            TAKT_THROW((int)(result));                                                       \
        }                                                                                    \
    } while (0)

/* TAKT_CATCH { ... }, once, last thing before TAKT_END: runs after a throw, when the
 * children have ended and before the defers, with the error in my->frame.error. What stands
 * behind it is never run: what is to run either way belongs in a TAKT_DEFER. It may
 * await. Its end is a TAKT_RETURN: the error is dealt with; a TAKT_THROW in it goes to the
 * caller. It does not run for TAKT_ECANCELED that was meant for this coroutine. */
#define TAKT_CATCH TAKT__CATCH_HERE

/* TAKT_DEFER { ... }: the block runs when the coroutine ends, however it ends, last
 * registered first. It may await and call, also in a coroutine that was cancelled, and is
 * not interrupted; an error inside ends only the block. When the loop is drained, every await
 * in it but takt_close() fails at once. At most TAKT_DEFERS_MAX at a time, else
 * TAKT_EDEFERS is thrown. Not in a loop: each round would register it anew. It must stand
 * within 32766 lines of TAKT_BEGIN. */
#define TAKT_DEFER TAKT__DEFER_HERE(__LINE__)

/* ==========================================================================
 * >>timer - deadlines: O(1) to arm, re-arm and cancel, no allocation
 *
 * A hierarchical wheel, for those who build schedulers: coroutines have takt_sleep() and
 * takt_within(). A timer fires at the first tick at or after its time, never early; those
 * of one tick fire in the order in which they were armed.
 * ======================================================================== */

/* How exact timers are: 131 us, as takt_ns. */
#define TAKT_TICK ((takt_ns)1 << 17)

enum { TAKT__LEVELS = 8, TAKT__SLOTS = 64 }; /* 48 bits of ticks: every deadline there is */

/* A timer stands in memory of its owner's, and must not move while it is armed; all zero
 * is not armed. */
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

/* An empty wheel at `now`, a point of the clock that it is to follow. */
void takt_wheel_init(takt_wheel *wheel, takt_ns now);
/* Arms or re-arms `timer` for `when`; in the past: it is due at once. */
void takt_timer_arm(takt_wheel *wheel, takt_timer *timer, takt_ns when);
/* Disarms it; nothing if it is not armed. */
void takt_timer_disarm(takt_wheel *wheel, takt_timer *timer);
/* The next timer that is due at `now`, disarmed; NULL when there is none. */
takt_timer *takt_wheel_expire(takt_wheel *wheel, takt_ns now);
/* Not later than the next timer is due, maybe earlier: then ask again. 0 if one is due
 * already; TAKT_FOREVER if none is armed. */
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
        struct takt_stream *stream; /* of a stream's request */
    } who;
    union {
        takt_attached *attached; /* of the frames of this strand */
        takt_op *user_op;        /* of a request: where the result goes */
    } on;
    takt_timer timer; /* of its sleep, or of its op's limit */
    uint32_t next;    /* in the ready list, or in the free list */
    uint32_t sibling_next, sibling_prev;
    uint8_t wait;  /* what for */
    uint8_t racer; /* its index in a race */
    uint16_t flags;
} takt_strand;

TAKT__STATIC_ASSERT(sizeof(void *) != 8 || sizeof(takt_strand) == 128,
                    "a strand is two cache lines");

/* Tasks that belong together. All zero is an empty group. It is owned by the frame that
 * puts the first member in by TAKT_GO, until that frame ends; by none if that was
 * TAKT_GO_ON: then it must outlive its members. It must not move while it has any. The
 * counts go on when it is used again; set them to zero if you like. */
typedef struct takt_group {
    takt_attached link;
    struct takt_sched *sched;
    uint32_t members;
    uint32_t joiners;    /* strands that wait for its end */
    uint32_t count;      /* members alive */
    uint32_t failed;     /* members that ended with an error of their own */
    int32_t first_error; /* of them, 0 if none */
    bool fail_fast;      /* in: an error cancels all members, and is thrown in the owner */
} takt_group;

/* Cancels every member; returns at once. What they then end with is not a failure. */
void takt_group_cancel(takt_group *group);

/* Fails the frame with -ETIMEDOUT when it is not touched for a while. In memory of the
 * frame's; no contents needed. */
typedef struct takt_idle {
    takt_attached link;
    takt_timer timer;
    takt_ns due;
} takt_idle;

/* From here on `frame` (the caller's own) is interrupted with -ETIMEDOUT when `idle` is
 * not touched for `limit` ns (at least 1 ms, at most 49 days; whole milliseconds). Again:
 * a new limit. It fires once, as a child that fails does: whatever the frame awaits or has
 * called is interrupted, and the error is thrown in the frame. Ends with the frame. */
void takt_idle_start(takt_frame *frame, takt_idle *idle, takt_ns limit);
/* Starts the limit anew; cheap, for every read. From anywhere on the loop's thread, a frame
 * loop too, while the frame is alive. Before takt_idle_start(), in a frame that is all zero but
 * for its arguments, it does nothing. */
void takt_idle_touch(takt_idle *idle);

/* A coroutine whose tasks the loop holds memory for. TAKT_POOL() fills it; .strands is an
 * argument of that. To read, after init: loop.sched.config.pools[i], in their order. */
typedef struct takt_pool {
    takt_body *body;
    const char *name;
    uint32_t size;    /* of the struct */
    uint32_t count;   /* tasks alive at most */
    uint32_t strands; /* each of them uses: itself and what it starts; 0: 1 */
    /* The loop's: */
    uint32_t used, used_max; /* tasks alive: now, and at most */
    uint32_t fresh;
    uint64_t refused; /* spawns for want of room, or while stopping */
    void *free;
    unsigned char *memory;
} takt_pool;

/* Completions that a loop takes from its backend at a time, unless told otherwise. */
#define TAKT_DEFAULT_COMPLETIONS ((uint32_t)(TAKT_SLAB_DEFAULT / sizeof(takt_completion)))

/* What a loop is told at its init, which copies it. Begin with name_defaults(). */
typedef struct takt_config {
    takt_pool pools[TAKT_POOLS_MAX]; /* by TAKT_POOL() */
    uint32_t pool_count;
    uint32_t strands;     /* beside those of the pools, 128 bytes each: for TAKT_START_ON and
                           * what it starts, for ops of batches; default 64 */
    uint32_t completions; /* taken from the backend at a time; 1 to 2^20, default
                           * TAKT_DEFAULT_COMPLETIONS */
    uint32_t items;       /* of all streams, not yet taken; beyond, they are dropped; 1024 */
    const takt_memory *memory; /* where completions are put; NULL: the heap. See >>memory */
    takt_ns slice;        /* ns that a turn goes on with what is ready before it asks for the
                           * time, the timers and the backend again; looked at after every
                           * 16th coroutine, and after 64 completions. 0: not measured */
    takt_ns hold_limit;   /* ns that a coroutine may run before it awaits again, as it holds up
                           * all others. One that took longer is counted in stats.held, and
                           * named in TAKT_LOG. Under TAKT_DEBUG only; 0: not measured */
    takt_ns reap_limit;   /* how long drain waits for the kernel to end what is in flight, and
                           * free for it to give buffers back; default 1 s */
    /* Told of every task that ends with an error nobody caught, members of groups apart, if
     * set; else a line goes to TAKT_LOG. `name`, `file`: constant text. It runs inside a
     * turn: it may spawn, and stop with a limit above 0; not turn, drain or free. */
    void (*on_failure)(void *user, const char *name, int error, const char *file, int line);
    /* Given what a completion brought that nobody waits for any more, if set; else its
     * descriptor is closed. Buffers have gone back to their pool by themselves. */
    void (*on_orphan)(void *user, const takt_completion *completion);
    void *user;
} takt_config;

/* Counters since init, exact between any two steps: loop.sched.stats. */
typedef struct takt_stats {
    uint64_t turns;
    uint64_t resumed;     /* bodies entered */
    uint64_t completions; /* of the backend */
    uint64_t stale;     /* completions that nothing waited for */
    uint64_t spawned;   /* tasks, whatever started them */
    uint64_t refused;   /* spawns */
    uint64_t failed;    /* tasks that ended with an uncaught error; groups count their own */
    uint64_t cancelled; /* tasks that were cancelled */
    uint64_t discarded; /* by drain or a fatal error */
    uint64_t orphans;   /* completions with a descriptor or a buffer that nobody took */
    uint64_t held;      /* times that a coroutine ran longer than config.hold_limit */
} takt_stats;

struct takt__calls;
struct takt__watch;

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
    bool now_known, in_turn, stopping, discarding;
    bool only_ops; /* are in flight, and there is nothing else to see to: a round finds that,
                    * and whoever changes it says so */
    bool alone; /* a drive's: this strand, and no other */
    int fatal;
    int first_error; /* of a task, uncaught */
    uint32_t ready_first, ready_last;
    uint32_t later_first, later_last; /* ready in the next turn: they have yielded */
    uint32_t tasks; /* strands without a parent */
    uint32_t pending;
    uint32_t free, fresh, strands_used, strands_max;
    uint32_t starved_first, starved_last; /* batches that wait for a free strand */
    bool feeding; /* them; or they hold still */
    takt_tokens foreign; /* those that the backend chose itself */
    struct takt__item *items;
    uint32_t items_free, items_fresh;
    takt_frame **results; /* submitted frames that have ended in this turn */
    uint32_t result_count;
    struct takt__watch *watches; /* one a strand, where misuse is looked for; else NULL */
    uintptr_t owner;             /* the thread that runs it, from its first turn on */
    takt_frame *spawning; /* its arguments are being set */
    takt_timer stop_timer;
    size_t completions_size; /* bytes, as their provider told */
    takt_wheel wheel;
    takt_config config;
} takt_sched;

/* TAKT_POOL(config, name, count, .strands = n): gives `count` tasks of `name` room on the
 * loop. `config`: a net_config, before init. A task takes its struct and a strand; tasks
 * that start children or use TAKT_CALL_WITHIN name how many strands each uses, its own
 * included. Strands are shared by all of the loop. Names a coroutine once; more than
 * TAKT_POOLS_MAX make init fail with -E2BIG. takt_sizes() tells what it costs. */
#define TAKT_POOL(config, name, ...)                                                         \
    TAKT__POOL((config).loop, name, __VA_ARGS__)

/* The scheduler that runs `frame`, which must be alive (asserted). */
takt_sched *takt_sched_of(const takt_frame *frame);

/* The graceful way out: no new work (accepts fail with TAKT_ESTOPPING, spawns are
 * refused), let what runs finish, cancel the rest after `limit` ns (0: now,
 * TAKT_FOREVER: never). May be called again with another limit. Returns at once; the loop
 * is done when nothing is pending, and can only be freed then. `sched`: &loop.sched, or
 * takt_sched_of(). */
void takt_stop(takt_sched *sched, takt_ns limit);

/* True once the loop of `frame`, which must be alive, was told to stop. */
bool takt_stopping(const takt_frame *frame);

/* ==========================================================================
 * >>drive - without a loop: step, advance, exec over a dispatcher; bodies by hand
 *
 * One coroutine at a time, driven by you: it runs to its first op; a dispatcher, or you
 * yourself, performs that; it runs on with the result. For tests, tools, foreign loops.
 *
 *     static int answer(void *user, takt_op *op, int64_t *value)
 *     {
 *         *value = op->kind == TAKT_OP_RECV ? fill(op->buf, op->len) : 0;
 *         return 0;
 *     }
 *
 *     takt_dispatcher dispatcher = {0};
 *     dispatcher.dispatch = answer;
 *     rc = TAKT_EXEC(&dispatcher, reader, read_header, .fd = 3);
 *
 * TAKT_CALL, TAKT_CATCH, TAKT_DEFER and TAKT_YIELD work. There are no further strands, no
 * timers and no pools: TAKT_START, TAKT_CALL_WITHIN, TAKT_AWAIT_ALL and _ANY throw -ENOTSUP;
 * TAKT_SPAWN and TAKT_GO are false, and they and takt_idle_start() throw -ENOTSUP at the
 * next await; a line in TAKT_LOG names the word. Every op, a sleep too, is the
 * dispatcher's, with its limit (op->when).
 * ======================================================================== */

/* Performs `op`. 0: it is done, and `*value` is its result; a negative one is an error,
 * which is thrown in the coroutine. TAKT_EMORE: likewise, but takt_advance() tells.
 * TAKT_EWOULDBLOCK: not yet, ask again. Anything else negative: the dispatcher itself has
 * failed; the coroutine hears nothing of it. `*value` counts with 0 and TAKT_EMORE only. */
typedef int takt_dispatch(void *user, takt_op *op, int64_t *value);

/* How long to wait before one asks again: block n is n sleeps of n times `base` each, at
 * most `max`, give or take an eighth. All zero is ready to use. */
typedef struct takt_backoff {
    takt_ns base;  /* in: 0 or less: 500 us */
    takt_ns max;   /* in: 0 or less: 100 ms */
    uint64_t seed; /* in: of the give or take; 0: takt's own */
    void (*sleep)(void *user, takt_ns ns); /* in: NULL: the system's; none without POSIX */
    void *user;                            /* in: for `sleep` */
    uint32_t block, slept;                 /* blocks that are over, sleeps of the present one */
} takt_backoff;

/* How long each sleep of the present block is, before the give or take. */
takt_ns takt_backoff_duration(const takt_backoff *backoff);
/* How long to sleep now, and counts that as slept. */
takt_ns takt_backoff_next(takt_backoff *backoff);
/* Sleeps so long. */
void takt_backoff_wait(takt_backoff *backoff);
/* Begins anew with block 1; nothing else changes. */
void takt_backoff_reset(takt_backoff *backoff);

/* Who performs the ops of a coroutine that has no loop. Zero it, then set `dispatch`. */
typedef struct takt_dispatcher {
    takt_dispatch *dispatch; /* in: also asked by takt_socket() and the like */
    void *user;              /* in: for both functions */
    takt_ns (*now)(void *user); /* in: takt_now(); NULL: the system's; 0 without POSIX */
    takt_backoff backoff;       /* in: a pattern; takt_exec() works on a copy */
} takt_dispatcher;

/* Kinds of your own, for dispatchers and backends of your own, begin here; at most 255.
 * takt's backends answer them with -ENOTSUP. */
enum { TAKT_OP_USER = 128 };

/* An op of your own: `ptr` is op->buf, `number` is op->arg.offset. */
TAKT__MUST_USE static inline takt_op takt_op_user(int kind, void *ptr, int64_t number)
{
    takt_op op = takt__op(TAKT_OP_NONE, -1, ptr, 0);
    op.kind = (uint8_t)kind;
    op.arg.offset = number;
    return op;
}

/* One strand, for one coroutine after the other. It must not move, and the dispatcher must
 * stay, while a coroutine is suspended on it. Some 14 KiB: a scheduler of its own. */
typedef struct takt_drive {
    takt_frame *frame; /* what it drives; NULL once that has finished */
    uint64_t epoch;    /* of the suspension: rises at every resume, and never falls */
    uint64_t dispatches;
    uint64_t discarded;
    const takt_dispatcher *dispatcher;
    /* The drive's: */
    takt_sched sched;
    union {
        takt_sched *sched;
        takt_strand strand;
    } places[2]; /* as in a slab: the scheduler, and the one strand */
} takt_drive;

/* Makes it ready. Without a `dispatcher` (NULL) you are the one who resumes. */
void takt_drive_init(takt_drive *drive, const takt_dispatcher *dispatcher);

/* Starts a frame of yours, whose arguments are set, and runs it to its first op. 1 if it
 * has finished, 0 if it is suspended, or TAKT_ERUNNING if the frame is alive or the drive
 * has another one. */
int takt_step(takt_drive *drive, takt_frame *frame, takt_body *body);

/* What it is suspended at; NULL if it is not. Yours to read, and to perform. */
takt_op *takt_drive_op(takt_drive *drive);

/* Asks the dispatcher once. 0 or TAKT_EMORE: the coroutine has run on, to its next op or
 * its end. TAKT_EWOULDBLOCK or a failure of the dispatcher: nothing has changed, it is for
 * you to ask again or to discard. If the coroutine is being cancelled, it is told so
 * instead, and the dispatcher is not asked. With nothing suspended: as takt_resume(). */
int takt_advance(takt_drive *drive);

/* Lets the suspension `epoch` run on: `value` is the result of its op. 1 if it has
 * finished, 0 if it is suspended again. If that suspension is over, it asserts, and
 * answers TAKT_ERESUME where assertions are off. */
int takt_resume(takt_drive *drive, uint64_t epoch, int64_t value);

/* The same, but to be late is no mistake: TAKT_ERESUME, and nothing else. */
int takt_try_resume(takt_drive *drive, uint64_t epoch, int64_t value);

/* Gives up what is suspended: its defers run, and every await in them fails, save that a
 * close is handed to the dispatcher, once. False if nothing was suspended. */
bool takt_discard(takt_drive *drive);

/* Runs a frame to its end, and sleeps while the dispatcher would block: 0, or the error it
 * ended with. When the dispatcher fails the coroutine is discarded, and that is the result:
 * takt_error(frame) is TAKT_ECANCELED then. */
int takt_exec(const takt_dispatcher *dispatcher, takt_frame *frame, takt_body *body);

/* TAKT_EXEC(&dispatcher, object, name, .arg = value, ...): takt_exec() of a struct of yours,
 * which it clears. `object` is evaluated several times. */
#define TAKT_EXEC(dispatcher, object, ...)                                                   \
    TAKT__EXEC(dispatcher, object, TAKT__HEAD(__VA_ARGS__, ~), __VA_ARGS__)

/* -- bodies by hand ---------------------------------------------------------
 *
 * A body without the words: a state machine, and a body like any other. Named by TAKT_CORO,
 * it can be called, started, spawned and submitted by all words above. What it must do:
 *
 *     struct twice {
 *         takt_frame frame;
 *         int fd;             // in: closed here
 *         char buf[2][64];
 *     };
 *
 *     static TAKT_CORO(twice)
 *     {
 *         static const takt_coro coro = {twice_coro, "twice", __FILE__, __LINE__,
 *                                        sizeof(struct twice)};
 *         struct twice *my = (struct twice *)(void *)takt_self;
 *         int64_t got = takt_result(takt_self);
 *         switch (takt_enter(takt_self, &coro)) {
 *         case 0:
 *             return takt_yield(takt_self, takt_recv(my->fd, my->buf[0], 64), 1);
 *         case 1:
 *             if (got <= 0)
 *                 break;
 *             return takt_yield(takt_self, takt_recv(my->fd, my->buf[1], 64), 2);
 *         case 2:
 *             break;
 *         default: // on its way out: 3, or takt's
 *             return takt_finish(takt_self, 0);
 *         }
 *         takt_unwind(takt_self, got < 0 ? (int)got : 0);
 *         return takt_yield(takt_self, takt_close(my->fd), 3);
 *     }
 *
 * A body that is cancelled sees TAKT_ECANCELED as the result of its await, and of every
 * further one: it must finish. One that is interrupted, by a child or a group of its own
 * that failed or by its takt_idle, sees that error as the result of one await. */

/* First of all: the state that was given with the await it comes back from; 0 at the
 * beginning. A state that is not yours (default:) asks for takt_finish(). `coro` says who
 * you are, always the same. */
uint32_t takt_enter(takt_frame *frame, const takt_coro *coro);

/* Awaits `op`: return it. `state`, 1 to 0xffffff: where to come back to; dumps show it as
 * the line. */
takt_status takt_yield(takt_frame *frame, takt_op op, uint32_t state);

/* Calls another body in a struct of yours, whose arguments are set: return it. Its result is
 * 0, or the error it ended with. */
takt_status takt_call(takt_frame *frame, takt_frame *child, takt_body *body, uint32_t state);

/* What the last await yielded: at least 0, or an error. 0 at the beginning. */
int64_t takt_result(takt_frame *frame);

/* From here on it is on its way out, with `error` (0: none), as in a TAKT_DEFER: awaits
 * work, also when it was cancelled. */
void takt_unwind(takt_frame *frame, int error);

/* Ends it with `error`, or with 0: return it. After takt_unwind(), that one's stands. */
takt_status takt_finish(takt_frame *frame, int error);

/* ==========================================================================
 * >>stream - one request, many completions
 *
 * A stream is opened by TAKT_OPEN in a frame and taken from by TAKT_NEXT. What arrives
 * stands in line: at `limit` items the request is stopped, and started anew when half of
 * them have been taken. What comes until it has ended stands there too: by io_uring half of
 * the pool and a few more, by the portable backend up to 16 datagrams. All streams of a loop
 * share config.items.
 *
 * TAKT_STREAM(name, backend, payload) is the same without coroutines and without a loop.
 * ======================================================================== */

/* One of them. Plain data: copy it freely. */
typedef struct takt_item {
    int64_t value;       /* a descriptor, bytes, events, ticks: see the op */
    unsigned char *data; /* a buffer, yours until takt_bufs_put(); or NULL */
    bool end;            /* nothing but this: the stream is over */
} takt_item;

/* In a frame, from which it hangs while it is open; all zero before. */
typedef struct takt_stream {
    takt_attached link;
    uint32_t limit; /* in: items that may stand in line; 0: 16 */
    uint32_t count; /* items in line */
    /* The scheduler's: */
    uint32_t first, last; /* in the loop's table */
    uint32_t strand;      /* its request; 0: it has none any more */
    int32_t error;        /* what it failed with */
    struct takt_bufs *pool; /* of its buffers */
    uint8_t state;
} takt_stream;

/* Takes the next item, if there is one: true. Does not suspend. At the end: false. */
bool takt_stream_take(takt_stream *stream, takt_item *item);

/* True once it is over and its last item was taken, or if it was never opened. */
bool takt_stream_ended(const takt_stream *stream);

/* Orders it to stop; returns at once. It ends with TAKT_ECANCELED, after what is in line
 * or under way. */
void takt_stream_cancel(takt_stream *stream);

/* Which request an event belongs to. All zero is none. */
typedef struct takt_route {
    uint32_t token;
    uint32_t generation;
} takt_route;

/* True for the route that is none. */
static inline bool takt_route_is_zero(takt_route route)
{
    return route.token == 0 && route.generation == 0;
}

/* What a completion of a stream's request stands for: TAKT_OUTCOME_MORE while the request
 * lives, whatever came with it; else FAILURE with any error, and OK without. */
static inline takt_outcome takt_route_outcome(const takt_completion *done)
{
    return done->flags & TAKT_MORE ? TAKT_OUTCOME_MORE
           : done->error           ? TAKT_OUTCOME_FAILURE
                                   : TAKT_OUTCOME_OK;
}

/* The runner's part that is the same for all. */
typedef struct takt_routes {
    takt_slots slots;
    takt_tokens foreign;
    uint32_t free, fresh;
    uint32_t pending;   /* open */
    uint32_t forgotten; /* by drain: their requests may still be in flight */
    int fatal;
} takt_routes;

/* A stream runner, bound to its backend and to the type of its payload. With
 * `TAKT_STREAM(feed, takt_posix, unsigned char);`:
 *
 *   feed_config feed_defaults(void)  .routes at most, .events taken at a time, .backend
 *   int feed_init(feed *, const feed_config *)   0 or an error; allocates everything
 *   int feed_subscribe(feed *, takt_op, takt_route *)   begins a request. 0, or the
 *        backend's error: then nothing has changed; TAKT_EBADROUTE and TAKT_ELIVEROUTE
 *        end the runner; -ENOSPC: .routes are open
 *   int feed_poll(feed *, feed_event **, takt_ns wait)   how many events have come, in
 *        order; they stand in memory of the runner's until the next call. 0 and NULL if
 *        none; or what ended the runner
 *   bool feed_accept(feed *, const takt_completion *, feed_event *)   the same for one
 *        completion that you polled yourself. False: it belongs to no open route
 *   int feed_cancel(feed *, takt_route)   asks for an early end; events go on until the
 *        last one, with .last set. 0, TAKT_EUNKNOWN, or what ended the runner
 *   int feed_pending(const feed *), feed_failed(const feed *)   as of a loop
 *   int feed_drain(feed *)   cancels and forgets all routes; how many. The runner is over
 *   void feed_free(feed *)   drains, reaps, gives the memory back
 *
 * feed_event: .route, .value, .payload, .error (0 or a failure of this event), .has_value,
 * .last (the route is closed by it). Payloads are yours to give back to their pool. */
#define TAKT_STREAM(name, backend_, payload_) TAKT__STREAM_RUNNER(name, backend_, payload_)

/* ==========================================================================
 * >>chan - waiting for each other, without a system call
 *
 * Objects of one loop. All zero is a valid start, but a channel has an init. They must
 * not move while somebody waits, and must outlive their waiters. The functions may be
 * called from anywhere on the loop's thread; nobody is resumed from inside them.
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

/* Suspends until the event is set; if it is, for a moment. Result: 0. */
TAKT__MUST_USE static inline takt_op takt_event_wait(takt_event *event TAKT__KEPT)
{
    takt_op op = takt__op(TAKT_OP_EVENT, -1, NULL, 0);
    op.arg.ptr = event;
    return op;
}
/* Lets all waiters go on, in order, and those to come. Again: nothing. */
void takt_event_set(takt_event *event);
/* From here on, waiting waits again. Those who were let go on go on. */
void takt_event_reset(takt_event *event);

/* So many permits: a limit on how many may do something at a time. */
typedef struct takt_semaphore {
    takt_line line;
    int64_t permits; /* in */
} takt_semaphore;

/* Takes a permit, or suspends until there is one: first come, first served. Result: 0;
 * what was granted is delivered even to one that is being cancelled. */
TAKT__MUST_USE static inline takt_op takt_acquire(takt_semaphore *semaphore TAKT__KEPT)
{
    takt_op op = takt__op(TAKT_OP_ACQUIRE, -1, NULL, 0);
    op.arg.ptr = semaphore;
    return op;
}
/* Gives `permits`, 1 or more, back, or adds them; who waits longest goes on first. */
void takt_release(takt_semaphore *semaphore, int64_t permits);

/* Items of one size, in the order in which they were put. They are copied in and out. */
typedef struct takt_channel {
    uint32_t capacity; /* items that it holds; 0: each is handed from one to the other */
    uint32_t count;    /* of items in it */
    bool closed;
    /* The channel's: */
    uint32_t first; /* the oldest */
    size_t size;    /* bytes an item */
    unsigned char *ring;
    takt_line getters, putters; /* never both */
} takt_channel;

/* An empty channel. `ring`: an array of yours of `capacity` items of `size` bytes each; it
 * must live as long as the channel, and may be NULL if `capacity` is 0. Nobody may be
 * waiting. 0, or -EINVAL if `size` is 0 or the ring is missing:
 *
 *     takt_channel_init(&my->jobs, my->ring, sizeof my->ring[0], 16) */
int takt_channel_init(takt_channel *channel, void *ring, size_t size, uint32_t capacity);

/* Puts a copy of `*item` in, or suspends until there is room: first come, first served.
 * With capacity 0 it completes when somebody has got the item. Result: 0. Fails with
 * TAKT_ECLOSED, -EINVAL without an init. The item went in exactly if it did not fail. */
TAKT__MUST_USE static inline takt_op takt_put(takt_channel *channel, const void *item)
{
    takt_op op = takt__op(TAKT_OP_PUT, -1, item, 0);
    op.arg.ptr = channel;
    return op;
}

/* Gets the oldest item, or suspends until there is one: first come, first served. `item`:
 * where to put it; it is written exactly when the result is 1. Result: 1, or 0 when the
 * channel is closed and empty. What was got is delivered even to one that is being
 * cancelled. -EINVAL without an init. */
TAKT__MUST_USE static inline takt_op takt_get(takt_channel *channel, void *item)
{
    takt_op op = takt__op(TAKT_OP_GET, -1, item, 0);
    op.arg.ptr = channel;
    return op;
}

/* The same without suspending, where there is nothing to wait for; else TAKT_EWOULDBLOCK.
 * Here items may lie on the stack. */
TAKT__MUST_USE int takt_try_put(takt_channel *channel, const void *item);
TAKT__MUST_USE int takt_try_get(takt_channel *channel, void *item);

/* Takes no more items: whoever waits to put fails with TAKT_ECLOSED. Those that are in it
 * can still be got; who waits for more gets the end. Nothing if it is closed already. */
void takt_channel_close(takt_channel *channel);

/* ==========================================================================
 * >>loop - TAKT_LOOP(name, backend): a loop type bound to its backend
 *
 * Declares the type `name`, its config and the functions below; the backend's are
 * called by name, so that they inline. With `TAKT_LOOP(net, takt_posix);`:
 *
 *   net_config net_defaults(void)       .loop is a takt_config, .backend the backend's
 *   int  net_init(net *, const net_config *)   0; or -ENOMEM, -E2BIG (pools), -EINVAL (no
 *        strands, completions out of range), or the backend's error, and nothing is left
 *        behind. Allocates everything. In the thread that is to run the loop. The loop
 *        needs no contents before, and must not move from here on.
 *   int  net_run(net *)     turns until nothing is pending. 0; or what ended the loop; or
 *        the first error that no task caught, members of groups apart. May be called again
 *   int  net_turn(net *, takt_ns wait, int max)   one round: runs what is ready, takes
 *        at most `max` completions (0: the config's), waiting up to `wait` ns for the
 *        first (0: not at all; nor while nothing is pending). How much was done, 0 if
 *        nothing, or what ended the loop
 *   int  net_fd(net *)                  readable (POLLIN, level-triggered) when a turn has
 *        work; -1 if there is none: poll(2) backend. The loop's: do not read, do not close
 *   takt_ns net_deadline(net *)         when a turn is due even so, on net_now()'s clock:
 *        the past if at once, TAKT_FOREVER if never
 *   takt_ns net_now(net *)              the clock
 *   void net_stop(net *, takt_ns limit) takt_stop()
 *   int  net_submit(net *, takt_frame *, takt_body *)   starts a frame of yours and runs
 *        it to its first await: 1 if it has finished, 0 if it is pending, or an error: the
 *        loop's (TAKT_ERUNNING, TAKT_ESTOPPING, TAKT_ESTRANDS, what ended it), then it did
 *        not run; or its own. From a coroutine: it is queued, 0; refused (TAKT_ESTRANDS)
 *        also while as many results of this turn stand as there are strands
 *   int  net_poll(net *, takt_frame **results, int max)   one round that does not wait.
 *        How many submitted frames have ended, in order, yours again; 0: some went on,
 *        none ended; TAKT_EWOULDBLOCK: nothing happened; or what ended the loop. Results
 *        come first: what ended the loop is told when there are none left, and those
 *        beyond `max` by the next call. net_turn and net_run drop what was not taken
 *   int  net_collect(net *, takt_frame **results, int max, int *count)   net_run() that
 *        keeps results: until nothing is pending, or `max` have come. 0, or what ended
 *        the loop
 *   bool net_submit_op(net *, takt_op, void (*done)(void *user, int64_t result), void *user)
 *        begins one op from outside coroutines, or from a callback: takt_request
 *   int  net_pending(const net *)       tasks and submitted frames that are alive
 *   int  net_failed(const net *)        0, or what ended the loop
 *   int  net_drain(net *)               discards everything: cancels, waits for the
 *        kernel, runs defers (in which every await but close fails at once). Result: how
 *        many were discarded. The loop is over: TAKT_EDISPOSED
 *   int  net_free(net *)                drains, then gives the memory back. 0, or -EBUSY
 *        if the kernel still holds some of it, or of a pool's: then that is kept, on purpose.
 *        Takes up to config.loop.reap_limit, and as long once more for buffers that it is
 *        still sending, see takt_send_lease(). Frames in your own memory must still be there
 *
 * A turn takes at most config.loop.completions, then fires the timers that are due, then
 * resumes at most 1024 that are ready (yielded, spawned, woken): nobody waits longer than
 * that for the kernel to be asked again, and config.loop.slice bounds it in time. Of one
 * stream no more are asked for once `limit` items stand there, see >>stream.
 *
 * `net_run`, `net_turn`, `net_drain` and `net_free` wait: they are the ones that do.
 * From inside a coroutine only net_stop, net_pending and net_failed may be called.
 * ======================================================================== */

/* Declares all of the above, at file scope, in as many files as you like: what is not used
 * is not there. `backend_`: takt_posix, takt_uring, or one of yours, see >>backend. */
#define TAKT_LOOP(name, backend_)                                                            \
    TAKT__LOOP(name, backend_)                                                               \
    TAKT__LOOP_ANY(name)

/* One op, by itself: the task that net_submit_op() spawns. TAKT_POOL(config, takt_request, n)
 * gives n of them room. `done` is called once, in a turn: with the op's result or error, or with
 * TAKT_ECANCELED when the loop was stopped or drained. It may do what a coroutine may, but
 * suspend, and submit the next, for which there must be room beside this one. The ops of streams
 * (takt_every(), takt_accept_multishot() ...) fail with -EINVAL. What the op points to stays put
 * until then. net_submit_op() returns false when there is no room, or the loop is
 * stopping: nobody will be called. */
typedef struct takt_request {
    takt_frame frame;
    takt_op op;
    void (*done)(void *user, int64_t result);
    void *user;
    int64_t result;
} takt_request;

/* Its body: what TAKT_CORO() declares. */
takt_status takt_request_coro(takt_frame *takt_self);

/* net_submit_op(), of any loop: `sched` is &loop.sched, or takt_sched_of(). */
TAKT__MUST_USE bool takt_submit_op(takt_sched *sched, takt_op op,
                                   void (*done)(void *user, int64_t result), void *user);

/* The same for submissions of one coroutine: `int name_submit(name *, struct coro *)`, and
 * results of name_poll() and name_collect() are `struct coro *`. */
#define TAKT_LOOP_OF(name, backend_, coro)                                                   \
    TAKT__LOOP(name, backend_)                                                               \
    TAKT__LOOP_TYPED(name, coro)

/* ==========================================================================
 * >>relay - from one socket to another, until the end
 *
 * A coroutine for TAKT_CALL and TAKT_START; the other direction is another one. What comes
 * in small pieces goes through a buffer of a pool, which costs least then; what comes in
 * bulk through takt_splice(), without being copied. It sees for itself which it is, in turn,
 * and needs no pipes where there are none. While nothing comes it holds neither.
 *
 *     takt_idle_start(&my->frame, &my->idle, 60 * TAKT_SEC);
 *     TAKT_START(my->down, takt_relay, .from = my->server, .to = my->client,
 *                .bufs = &my->app->bufs, .idle = &my->idle);
 *     TAKT_CALL(my->up, takt_relay, .from = my->client, .to = my->server,
 *               .bufs = &my->app->bufs, .idle = &my->idle);
 *     TAKT_JOIN(my->down);
 * ======================================================================== */

/* Passes on all that arrives on the stream socket `from`, then its end: it shuts `to` down
 * for writing. That is its only good end. It fails as recv and send do, with what failed;
 * then, and when it is cancelled, `to` has got a part, from the beginning and without a gap,
 * and is not shut down: takt_reset_on_close() tells its peer that this was not all. What
 * was read and not yet sent is lost with it. A deadline is TAKT_CALL_WITHIN's. */
typedef struct takt_relay {
    takt_frame frame;
    int from, to;    /* in: sockets, non-blocking, borrowed; they may be the same */
    takt_bufs *bufs; /* in: for small pieces; 16 KiB a buffer is a good size */
    takt_idle *idle; /* in: touched whenever something moves: of a parent's, which has called
                      * takt_idle_start(); or NULL. A socket takes no more until a third of
                      * its send buffer is free (tcp(7): tcp_wmem, up to 4 MiB): who reads
                      * less than that within the limit is silent. SO_SNDBUF makes it less */
    uint64_t bytes;  /* handed to `to`; while a buffer is being sent, maybe more */
    /* The relay's: */
    union {
        unsigned char *data;    /* unless */
        struct takt_pipe *pipe; /* it splices */
    } held;
    int32_t n;
    uint8_t full;     /* buffers that came full, in a row; at most 255 */
    uint8_t trickles; /* small pieces in a row, while it splices */
    bool splices, refused;
} takt_relay;

/* Its body: what TAKT_CORO() declares. */
takt_status takt_relay_coro(takt_frame *takt_self);

/* Ends with what takt_splice() has left in `*pipe`, unless that is NULL: these bytes are
 * lost, and the pipe, in which nobody else may find them, is closed. Sets it to NULL. `frame`
 * is alive, and of the loop whose pipe it is. For those who call takt_splice() themselves. */
void takt_pipe_drop(takt_frame *frame, struct takt_pipe **pipe);

/* ==========================================================================
 * >>post - from other threads
 *
 * A loop has one owner thread. The others hand it messages, through an inbox: whoever runs
 * takt_delivery on that loop runs them there. takt_offload is the way back and forth: a call
 * that blocks, on a thread of yours, awaited as any other.
 *
 *     takt_inbox_init(&app->inbox);                                  before the threads
 *     TAKT_SPAWN_ON(&loop, takt_delivery, .inbox = &app->inbox);     in the loop's own
 *     takt_post(&app->inbox, &mine->message);                        in any
 *
 * takt starts no thread. The memory of a message is its sender's: that is the bound of an
 * inbox. What is posted is never lost, and nobody waits for it. All this is there where the
 * compiler has the atomics of gcc, and not under TAKT_NO_POSIX.
 * ======================================================================== */

/* What is posted. Yours again when `run` is called, which may free it. */
typedef struct takt_message {
    struct takt_message *next;                 /* the inbox's, once it is posted */
    void (*run)(struct takt_message *message); /* in: on the loop's thread, in a turn of it: it
                                                * may do what a coroutine may, but suspend */
} takt_message;

/* Where they stand, newest first. It must not move. */
typedef struct takt_inbox {
    takt_message *first; /* of all threads' */
    int in, out;         /* of a pipe, which holds a byte while there is something */
} takt_inbox;

/* Opens it; it needs no contents before. In any thread, before others know it. 0, or -EMFILE,
 * -ENFILE, -ENOMEM. Again after its takt_delivery has ended: posts are taken again. */
int takt_inbox_init(takt_inbox *inbox);
/* Gives what is left of it back: when its takt_delivery has ended, or never ran, and nobody
 * posts any more. */
void takt_inbox_free(takt_inbox *inbox);
/* Hands `message` over, from any thread, or from a signal handler. It does not wait, and the
 * loop is woken once for many. Messages of one thread run in their order. 0; or TAKT_ECLOSED
 * if the takt_delivery has ended: the message is still yours. Before that runs, messages
 * wait. */
int takt_post(takt_inbox *inbox, takt_message *message);

/* Runs what is posted, at most 64 before others have their turn, until it is cancelled or its
 * loop ends: then it runs what has been posted so far, and from there on posts are refused. */
typedef struct takt_delivery {
    takt_frame frame;
    takt_inbox *inbox; /* in: outlives it */
    takt_message *left; /* oldest first */
    int fd;
    char bytes[16];     /* what the pipe held */
} takt_delivery;

/* Its body: what TAKT_CORO() declares. */
takt_status takt_delivery_coro(takt_frame *takt_self);

/* A call that blocks. First in a struct of yours that holds what it needs and yields. */
typedef struct takt_job {
    takt_message message;
    void (*work)(struct takt_job *job); /* in: on another thread */
    void (*drop)(struct takt_job *job); /* in: see takt_offload; or NULL */
    /* The job's: */
    takt_inbox *inbox;
    takt_event done;
    uint32_t state;
    bool over;
} takt_job;

/* Does the work of `job`: what an executor does on a thread of its own, once. */
void takt_job_run(takt_job *job);

/* Hands `job` to an executor and suspends until its work is done. `execute` is called in the
 * loop's thread: it sees to it that some thread calls takt_job_run(), without waiting for
 * that, and returns 0; or an error, which is thrown: then the job never was its.
 *
 * When it is cancelled: a job with `drop` is left to itself, and dropped in the loop's thread
 * once the work is done, or, if the inbox is closed by then, in the other; one without is
 * waited for, as the thread works in its memory, which must stay until then. So is it by
 * takt_drain, which has nothing better to do. */
typedef struct takt_offload {
    takt_frame frame;
    takt_job *job;     /* in */
    takt_inbox *inbox; /* in: of this loop; its takt_delivery runs */
    int (*execute)(void *executor, takt_job *job); /* in */
    void *executor;    /* in */
    /* The offload's: */
    int n;
    bool begun;
} takt_offload;

/* Its body: what TAKT_CORO() declares. */
takt_status takt_offload_coro(takt_frame *takt_self);

/* ==========================================================================
 * >>dump - where everything stands, and what it costs
 *
 * Nothing in here allocates, suspends or changes what it looks at. Lines come one at a
 * time, without their end, at most 255 bytes long, in memory that the next one reuses.
 * From the loop's thread, or from a debugger that has stopped it: `call takt_dump(&LOOP.sched)`.
 * Of a core file test/takt-gdb.py prints the same.
 * ======================================================================== */

/* Prints the loop, then every strand as a logical stack, callers first: name, file:line of
 * the suspension, what is awaited on which descriptor, how long already, how much of its
 * limit is left, and whether it is being cancelled. Children, groups, batches and idle
 * limits stand below the frame that they belong to, two columns further in. Then the
 * pools, and those buffer pools that somebody receives into with takt_recv_lease().
 *
 * How long already: known where a clock was read anyway, for sleeps and under
 * takt_within(); with TAKT_AGES defined, for every op.
 *
 * `print` is handed `user` and one line; NULL prints to TAKT_LOG. */
void takt_dump_to(const takt_sched *sched, void (*print)(void *user, const char *line),
                  void *user);

/* The same, to TAKT_LOG. `sched`: the loop's member, &loop.sched, or takt_sched_of(). */
void takt_dump(const takt_sched *sched);

/* Prints what memory a loop costs, in bytes: of each pool a task's share and all of them,
 * the strands beside, the room for completions, the sum. `config`: before init the
 * config's member .loop, later loop.sched.config; NULL prints the fixed sizes alone. The
 * backend's memory is not in it. `print`, `user`: as above. */
void takt_sizes(const takt_config *config, void (*print)(void *user, const char *line),
                void *user);

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
    TAKT__AS_IT_IS, /* the strand's op is to be submitted, and nothing has to be looked at */
    TAKT__OP,       /* the same, but look closer */
    TAKT__SUSPEND, /* it waits for something else */
    TAKT__AGAIN,   /* straight back in: there is nothing to wait for */
    TAKT__CALLING, /* the callee runs */
    TAKT__RETURN,  /* it was called, and has left without an error */
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
    TAKT__CALL_CANCELLED = 16, /* and with it what it has called, but not its caller */
    TAKT__SUBMITTED = 32,  /* its end is a result */
    TAKT__HELD = 64 /* there may be something to see to before it ends: children, defers, what
                     * hangs on it, an error. Once set it stays */
};

enum { TAKT__DEFER_RUNS = 0x8000 }; /* takt_frame.defers */

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
    TAKT__ON_CHILDREN,
    TAKT__ON_STREAM, /* not a chain of frames: a stream's request */
    TAKT__ON_NEXT    /* for an item of a stream */
};

enum { /* takt_strand.flags */
    TAKT__STOP = 1,      /* look closer at every await */
    TAKT__CANCELLED = 2, /* from its root on */
    TAKT__NEW = 4,       /* its leaf has not run yet */
    TAKT__REQUEST = 8,   /* one op of a batch */
    TAKT__AWAITED = 16,  /* in the set that its parent waits for */
    TAKT__EXPIRED = 32,  /* the limit of what it awaits has passed */
    TAKT__ASKED = 64,    /* the backend was asked to cancel its op */
    TAKT__STARVED = 128, /* a batch that waits for a free strand */
    TAKT__PUMPING = 256, /* its batch is being submitted */
    TAKT__LIMITED = 512, /* its op has a limit: the timer is armed */
    TAKT__FOREIGN = 1024 /* the backend knows its op by a token of its own */
};

enum { /* takt_attached.kind */
    TAKT__IDLE = 1,
    TAKT__GROUP,
    TAKT__STREAM
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

takt_status takt__await_batch(takt_frame *f, takt_op *ops, size_t count, bool any, uint32_t line);
takt_status takt__yield(takt_frame *f, uint32_t line);
bool takt__may_begin(takt_frame *f, takt_frame *child, size_t size, uint32_t line);
bool takt__start(takt_frame *f, takt_frame *child, uint32_t line);
bool takt__start_within(takt_frame *f, takt_frame *child, takt_ns ns, uint32_t line);
void takt__join_begin(takt_frame *f);
void takt__join_add(takt_frame *f, takt_frame *child, int index);
void takt__join_all(takt_frame *f);
takt_status takt__join(takt_frame *f, bool race, uint32_t line);
takt_status takt__join_group(takt_frame *f, takt_group *group, uint32_t line);
takt_status takt__failing(takt_frame *f);
bool takt__open(takt_frame *f, takt_stream *stream, takt_op op, uint32_t line);
takt_status takt__next(takt_frame *f, takt_stream *stream, uint32_t line);
void takt__next_take(takt_frame *f, takt_stream *stream, takt_item *item);
bool takt__defer(takt_frame *f, uint32_t line);
takt_status takt__unwind_step(takt_frame *f);
takt_status takt__lost(takt_frame *f);
TAKT__WARN_IF_CALLED("a break leaves the coroutine's body; use TAKT_RETURN")
void takt__fell_out(takt_frame *f, uint32_t line);
TAKT__WARN_IF_CALLED("a thrown error must be negative: -EINVAL, not EINVAL")
void takt__throw_positive(takt_frame *f, int error, uint32_t line);
void takt__return(takt_frame *f);
takt_status takt__returned(takt_frame *f);
void takt__throw(takt_frame *f, int error, uint32_t line);
int64_t takt__take_result(takt_frame *f);

takt_frame *TAKT__NAMED(takt__spawn_begin)(takt_sched *s, takt_group *group,
                                           takt_frame *owner, takt_body *body, size_t size);
bool takt__spawn_end(takt_sched *s);
bool TAKT__NAMED(takt__start_on_begin)(takt_sched *s, takt_frame *frame, takt_body *body,
                                       size_t size);
takt_pool *TAKT__NAMED(takt__pool_add)(takt_config *config, takt_body *body, const char *name,
                                       size_t size, uint32_t count);

int TAKT__NAMED(takt__sched_init)(takt_sched *s, const takt_config *config,
                                  const takt__calls *calls, void *backend,
                                  takt_completion **completions);
void takt__sched_begin(takt_sched *s);
void takt__sched_free(takt_sched *s, takt_completion **completions);
void takt__give_completions(takt_sched *s, takt_completion **completions);
void takt__defaults(takt_config *config);
takt_strand *takt__next_ready(takt_sched *s);
void takt__turn_begins(takt_sched *s);
takt_body *takt__step(takt_sched *s, takt_strand *strand, int go);
bool takt__refuse(takt_sched *s, takt_strand *strand);
void takt__arm_limit(takt_sched *s, takt_strand *strand);
void takt__settle(takt_sched *s, takt_strand *strand);
takt_strand *takt__claim(takt_sched *s, takt_strand *strand, const takt_completion *done);
void takt__orphan(takt_sched *s, const takt_completion *done);
void takt__results_taken(takt_sched *s, uint32_t count);
int takt__foreign_add(takt_sched *s, takt_strand *strand, takt_token token);
int takt__expire(takt_sched *s);
takt_ns takt__wait(takt_sched *s, takt_ns wait);
void takt__fail_loop(takt_sched *s, int error);
int takt__too_many(void);
int takt__discard_all(takt_sched *s);
int takt__submit(takt_sched *s, takt_frame *frame, takt_body *body);

typedef struct takt__route {
    takt_slot slot;
    takt_token id;
    uint32_t next; /* free list */
    uint32_t state;
} takt__route;

int takt__routes_init(takt_routes *r, uint32_t count);
void takt__routes_free(takt_routes *r);
takt__route *takt__route_take(takt_routes *r);
void takt__route_give(takt_routes *r, takt__route *route);
int takt__route_open(takt_routes *r, takt__route *route, takt_token id);
bool takt__route_accept(takt_routes *r, const takt_completion *done, takt_route *which);
takt_op *takt__route_cancel(takt_routes *r, takt_route which, int *rc);
bool takt__route_forget(takt_routes *r, uint32_t *at, takt_op **op);
void *takt__calloc(size_t count, size_t size);
void takt__free(void *memory);

/* Notes when an op begins, in the place of its result, which is not there yet. */
#ifdef TAKT_AGES
enum { TAKT__AGES = 1 };
static inline void takt__begins(takt_sched *s, takt_strand *strand)
{
    if (!s->now_known) {
        s->now = s->calls->now(s->backend);
        s->now_known = s->in_turn;
        s->only_ops = false;
    }
    strand->slot.op.result = s->now;
}
#define TAKT__BEGINS(s, strand) takt__begins((s), (strand))
#else
enum { TAKT__AGES = 0 };
#define TAKT__BEGINS(s, strand) ((void)0)
#endif

void takt__lend(takt_sched *s, takt_strand *strand);
bool takt__regain(takt_sched *s, takt_strand *strand);
void takt__lent_open(takt_sched *s, bool open);
int takt__run_body(takt_sched *s, takt_strand *strand, takt_body *body);
void takt__stray(takt_frame *f, const takt_coro *coro);

/* The op of `strand` is the backend's from here on. */
#define TAKT__LEND(s, strand) (TAKT__GUARDED ? takt__lend((s), (strand)) : (void)0)
/* It is over. False: its frame is gone, and nothing can go on. */
#define TAKT__REGAIN(s, strand) (!TAKT__GUARDED || takt__regain((s), (strand)))
/* Runs `body` of the strand's leaf. */
#define TAKT__RUN_BODY(s, strand, body)                                                      \
    (TAKT_DEBUG ? takt__run_body((s), (strand), (body)) : (body)((strand)->who.leaf).go)
/* Whether the backend may write into what it was lent. */
#if defined(TAKT__ASAN)
#define TAKT__LENT_OPEN(s, open) takt__lent_open((s), (open))
#else
#define TAKT__LENT_OPEN(s, open) ((void)0)
#endif

/* Of an address, never 0: a frame that was moved does not have its own. */
static inline uint16_t takt__mark(const takt_frame *f)
{
    const uintptr_t at = (uintptr_t)f >> 3;
    return (uint16_t)((at ^ at >> 15 ^ at >> 30) | 1);
}

/* True unless the frame was moved, or overwritten. */
static inline bool takt__in_place(const takt_frame *f)
{
    return f->state != TAKT__RUNNING || !f->failed_at || f->failed_at == takt__mark(f);
}

/* The body of `f` is to run now. */
static inline bool takt__runs(const takt_frame *f)
{
    return f->state != TAKT__FINISHED && f->strand && f->strand->who.leaf == f &&
           f->strand->wait != TAKT__ON_OP && takt__in_place(f);
}

/* A spawn can be refused: the compiler asks you to look. */
TAKT__MUST_USE static inline bool takt__spawned(bool ok)
{
    return ok;
}

/* True if `at` lies in the `size` bytes of the struct of `f`. A body's own memory is at a
 * fixed place in there, so the compiler answers this, not the processor. */
static inline bool takt__within(const takt_frame *f, size_t size, const void *at)
{
    return (uintptr_t)at - (uintptr_t)f < size;
}

/* The op has been put in place; how does it get to the backend? Asked in the body, where the
 * op is known when this is compiled: without a limit, and with memory of the struct's or
 * none, as most are, no question is left for the loop. */
static inline takt_status takt__await(takt_frame *f, size_t size, uint32_t line)
{
    const takt_strand *const strand = f->strand;
    const takt_op *const op = &strand->slot.op;
    f->line = line;
    return takt__leave(TAKT__LIKELY(!(strand->flags & TAKT__STOP)) &&
                               op->kind >= TAKT_OP_FIRST_AS_IT_IS && !op->when &&
                               !(op->flags & TAKT_OP_MULTI) &&
                               (!op->buf || takt__within(f, size, op->buf)) &&
                               (!op->arg.ptr || takt__within(f, size, op->arg.ptr))
                           ? TAKT__AS_IT_IS
                           : TAKT__OP);
}

/* Leaves with an op; by value, so that a compiler can see what it points to. */
static inline takt_status takt__leave_with(takt_frame *f, takt_op op TAKT__KEPT, size_t size,
                                           uint32_t line)
{
    takt_op *const at = takt__op_of(f);
    at->kind = op.kind; /* all but what is the backend's */
    at->flags = op.flags;
    at->state = 0;
    at->fd = op.fd;
    at->buf = op.buf;
    at->len = op.len;
    at->arg = op.arg;
    at->bits = op.bits;
    at->extra = op.extra;
    at->when = op.when;
    return takt__await(f, size, line);
}

static inline int64_t takt__result(takt_frame *f)
{
    return takt__op_of(f)->result;
}

static inline takt_status takt__call(takt_frame *f, uint32_t line)
{
    f->line = line;
    return takt__leave(TAKT__CALLING);
}

/* The header of a frame that begins. */
static inline void takt__frame_begin(takt_frame *frame, takt_frame *parent, takt_strand *strand,
                                     takt_body *body, uint8_t bits)
{
    memset((void *)frame, 0, sizeof *frame);
    frame->of.first = body;
    frame->parent = parent;
    frame->strand = strand;
    frame->state = TAKT__RUNNING;
    frame->bits = bits;
    if (TAKT__GUARDED)
        frame->failed_at = takt__mark(frame);
}

/* True if a child of `f` may begin at `child`; else it has been thrown in `f`. In the
 * caller's own struct, with no children around, nothing can be in the way. */
static inline bool takt__prepare(takt_frame *f, size_t own, takt_frame *child, size_t size,
                                 uint32_t line)
{
    return (!TAKT__GUARDED && TAKT__LIKELY(!f->children) && takt__within(f, own, child)) ||
           takt__may_begin(f, child, size, line);
}

/* True if `f` was called, and nothing has to be seen to before it ends: then it has ended,
 * without an error. */
static inline bool takt__ends(takt_frame *f)
{
    if (TAKT__UNLIKELY(f->bits & (TAKT__HELD | TAKT__INTERRUPTED | TAKT__ROOT)))
        return false;
    f->line = TAKT__DEFERRED; /* there is no way back in */
    return true;
}

/* What is to run of a strand that was ready. */
static inline takt_body *takt__first_or_next(takt_strand *strand)
{
    if (!(strand->flags & TAKT__NEW))
        return strand->who.leaf->of.coro->body;
    strand->flags &= (uint16_t)~TAKT__NEW;
    return strand->who.leaf->of.first;
}

/* The leaf of `strand`, which was called, has ended without an error: its caller is the leaf. */
static inline void takt__return_to_caller(takt_strand *strand)
{
    takt_frame *const f = strand->who.leaf;
    f->state = TAKT__FINISHED;
    f->strand = NULL;
    strand->who.leaf = f->parent;
    strand->slot.op.result = 0;
}

enum { TAKT__MOST_READY = 1024 }; /* resumed in one go: then the backend is asked again */

enum { TAKT__BODY_STACK = 16384 }; /* how far below the turn a body's locals may lie */

/* True if the op cannot go to the backend as it is; takt__refuse() looks closer. */
static inline bool takt__refuse_inline(takt_sched *s, takt_strand *strand)
{
    const takt_op *const op = &strand->slot.op;
    return TAKT__UNLIKELY(op->kind < TAKT_OP_FIRST_AS_IT_IS || strand->flags & TAKT__STOP ||
                          op->flags & TAKT_OP_MULTI ||
                          s->stack_base - (uintptr_t)op->buf < TAKT__BODY_STACK ||
                          s->stack_base - (uintptr_t)op->arg.ptr < TAKT__BODY_STACK) &&
           takt__refuse(s, strand);
}

/* takt_slot_find(), with a stride that the compiler knows. */
static inline takt_strand *takt__strand_of_token(const takt_sched *s, takt_token token)
{
    takt_strand *const strand =
        (takt_strand *)(void *)(s->slots.base + (size_t)(uint32_t)token * sizeof(takt_strand));
    return (uint32_t)token < s->slots.count && strand->slot.generation == (uint32_t)(token >> 32)
               ? strand
               : NULL;
}

/* True if there is nothing to see to but ops in flight, of which there are some. */
static inline bool takt__only_ops(const takt_sched *s)
{
    return !(s->ready_first | s->later_first | s->wheel.count | s->result_count) && !s->fatal &&
           s->pending;
}

static inline void takt__turn_ends(takt_sched *s)
{
    s->now_known = false;
    s->only_ops = takt__only_ops(s);
}

/* Of a loop that runs on its own: true if there is another turn. Nobody has taken the results
 * of the last one. */
static inline bool takt__goes_on(takt_sched *s)
{
    s->result_count = 0;
    return s->pending && !s->fatal;
}

/* What a turn has done: resumptions since `before`. */
static inline int takt__progress(const takt_sched *s, uint64_t before)
{
    const uint64_t count = s->stats.resumed - before;
    return count > INT32_MAX ? INT32_MAX : (int)count;
}

/* ==========================================================================
 * >>macros - how the keywords work; nothing below is API
 *
 * A suspension point is a case label made of a tag and its source line. The tag puts
 * the label outside the range of int, so that an await inside a switch of yours is
 * refused by the compiler instead of resuming in the wrong place. The bare line is
 * what the frame stores.
 * ======================================================================== */

#define TAKT__AT(line) ((uint64_t)0x7a6b000000000000 ^ (line)) /* compilers see through it */


/* clang-format off */
#define TAKT__HEAD(head, ...) head
#define TAKT__REST(head, ...) __VA_ARGS__
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

/* Functions that are made where the program says so have names in them that it may have, too:
 * gcc looks at these pragmas, and so does clang. */
#if defined(__GNUC__)
#define TAKT__OWN_NAMES                                                                      \
    _Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wshadow\"")
#define TAKT__OWN_NAMES_END _Pragma("GCC diagnostic pop")
#else
#define TAKT__OWN_NAMES
#define TAKT__OWN_NAMES_END
#endif

#define TAKT__BEGIN(name_, my)                                                                \
    TAKT__STATIC_ASSERT(offsetof(struct name_, frame) == 0,                                   \
        "the first member of struct " #name_ " must be `takt_frame frame;`");                 \
    TAKT__PLAIN_DATA(name_)                                                                   \
    static const takt_coro takt__coro = {name_##_coro, #name_, __FILE__, __LINE__,             \
                                         (uint32_t)sizeof(struct name_)};                     \
    struct name_ *const my = (struct name_ *)(void *)takt_self;                                \
    (void)my;                                                                                \
    if (TAKT_DEBUG && TAKT__UNLIKELY(!takt__runs(takt_self))) {                              \
        takt__stray(takt_self, &takt__coro);                                                 \
        return takt__leave(TAKT__SUSPEND);                                                   \
    }                                                                                        \
    TAKT__WATCH_BODY                                                                         \
    switch (TAKT__AT(takt_self->line)) {                                                     \
        TAKT__BODY_SCOPE                                                                     \
    default:                                                                                 \
        return takt__lost(takt_self);                                                        \
    case TAKT__AT(0):                                                                        \
        takt_self->of.coro = &takt__coro

#define TAKT__END                                                                            \
        TAKT__UNWATCH_BODY                                                                   \
        if (TAKT__LIKELY(takt__ends(takt_self)))                                             \
            return takt__leave(TAKT__RETURN);                                                \
        return takt__returned(takt_self);                                                    \
    case TAKT__AT(TAKT__UNWIND):                                                             \
        goto takt__unwind;                                                                   \
    }                                                                                        \
    takt__fell_out(takt_self, __LINE__);                                                     \
takt__unwind:                                                                                \
    return takt__unwind_step(takt_self)

/* Every await leaves and comes back by its label, even when it need not wait: so the
 * compiler can see that no local survives it. */
#define TAKT__LEAVE_AND_RETURN_AT(line, status)                                              \
    return (status);                                                                         \
    case TAKT__AT(line):

#define TAKT__THROW_IF_FAILED                                                                \
    if (TAKT__UNLIKELY(takt__op_of(takt_self)->result < 0))                                  \
        return takt__failing(takt_self)

#define TAKT__AWAIT1(op) TAKT__AWAIT_(op, (void)0, __LINE__)
#define TAKT__AWAIT2(result, op)                                                             \
    TAKT__AWAIT_(op, (result) = (__typeof__(result))takt__result(takt_self), __LINE__)
#define TAKT__AWAIT_(op, store, line)                                                        \
    do { /* a statement, no value: the result goes into its first argument, if it has two */ \
        return takt__leave_with(takt_self, (op), takt__coro.size, line);                     \
    case TAKT__AT(line):                                                                     \
        store;                                                                               \
        TAKT__THROW_IF_FAILED;                                                               \
    } while (0)

#define TAKT__TRY_AWAIT(result, op, line)                                                    \
    do { /* a statement, no value: the result goes into its first argument */                \
        TAKT__STATIC_ASSERT((__typeof__(result))-1 < 0 && sizeof(result) >= sizeof(int),     \
            "the result of TAKT_TRY_AWAIT must be signed and at least an int");              \
        return takt__leave_with(takt_self, (op), takt__coro.size, line);                     \
    case TAKT__AT(line):                                                                     \
        (result) = (__typeof__(result))takt__take_result(takt_self);                         \
        TAKT__THROW_IF_FAILED;                                                               \
    } while (0)

#define TAKT__AWAIT_ALL(ops, count, line)                                                    \
    do {                                                                                     \
        TAKT__LEAVE_AND_RETURN_AT(                                                           \
            line, takt__await_batch(takt_self, (ops), (count), false, line))                 \
        TAKT__THROW_IF_FAILED;                                                               \
    } while (0)

#define TAKT__AWAIT_ANY(who, ops, count, line)                                               \
    do {                                                                                     \
        TAKT__STATIC_ASSERT((__typeof__(who))-1 < 0 && sizeof(who) >= sizeof(int),           \
            "the winner of TAKT_AWAIT_ANY must be signed and at least an int: -1 is none");  \
        TAKT__LEAVE_AND_RETURN_AT(                                                           \
            line, takt__await_batch(takt_self, (ops), (count), true, line))                  \
        (who) = takt__op_of(takt_self)->fd;                                                  \
        TAKT__THROW_IF_FAILED;                                                               \
    } while (0)

#define TAKT__YIELD(line)                                                                    \
    do {                                                                                     \
        TAKT__LEAVE_AND_RETURN_AT(line, takt__yield(takt_self, line))                        \
        TAKT__THROW_IF_FAILED;                                                               \
    } while (0)

/* Copies `size` bytes, which is constant. What is cleared first, in wide stores, and then set
 * word by word, a compiler that knows what is in `from` sets only where that is not zero, and
 * it needs no `from`. */
TAKT__HOT void takt__copy_in(char *to, const char *from, size_t size)
{
    size_t done = 0;
#if defined(__OPTIMIZE__)
#define TAKT__CLEAR(at)                                                                      \
    if (size > (at))                                                                         \
        memset(to + (at), 0, size - (at) < 64 ? size - (at) : 64);
    TAKT__CLEAR(0)
    TAKT__CLEAR(64)
    TAKT__CLEAR(128)
    TAKT__CLEAR(192)
#undef TAKT__CLEAR
#define TAKT__WORD(at)                                                                       \
    if (size >= (at) + 8)                                                                    \
        memcpy(to + (at), from + (at), 8), done += 8;
#define TAKT__WORDS(at)                                                                      \
    TAKT__WORD(at) TAKT__WORD((at) + 8) TAKT__WORD((at) + 16) TAKT__WORD((at) + 24)
    TAKT__WORDS(0)
    TAKT__WORDS(32)
    TAKT__WORDS(64)
    TAKT__WORDS(96)
    TAKT__WORDS(128)
    TAKT__WORDS(160)
#undef TAKT__WORDS
#undef TAKT__WORD
#endif
    memcpy(to + done, from + done, size - done);
}

/* The child, cleared, with its arguments, which may speak of what it was: so they are
 * gathered in a copy, or, where that would cost more, in an initializer. C++ has none with
 * names. Its header is takt__frame_begin()'s. */
#define TAKT__FILL_BY_COPY(child, fn, ...)                                                   \
    struct fn takt__in;                                                                      \
    (void)sizeof((child) = takt__in); /* the same type, or it does not compile */            \
    memset((char *)(void *)&takt__in + sizeof(takt_frame), 0,                                \
           sizeof takt__in - sizeof(takt_frame));                                            \
    TAKT__SET(takt__in, __VA_ARGS__)(void) 0;                                                \
    takt__copy_in((char *)(void *)&(child) + sizeof(takt_frame),                             \
                  (const char *)(const void *)&takt__in + sizeof(takt_frame),                \
                  sizeof takt__in - sizeof(takt_frame));
#ifndef __cplusplus
#define TAKT__FILL(child, fn, ...)                                                           \
    if (sizeof(struct fn) > 256) {                                                           \
        (child) = (struct fn){TAKT__REST(__VA_ARGS__, .frame.parent = NULL)};                \
    } else {                                                                                 \
        TAKT__FILL_BY_COPY(child, fn, __VA_ARGS__)                                           \
    }
#else
#define TAKT__FILL(child, fn, ...) TAKT__FILL_BY_COPY(child, fn, __VA_ARGS__)
#endif

#define TAKT__PREPARE(child, line, act, fn, ...)                                             \
    {                                                                                        \
        TAKT__STATIC_ASSERT(sizeof(child) == sizeof(struct fn),                              \
            "the child is a struct " #fn " of yours, by its name: no pointer, no &");        \
        if (!takt__prepare(takt_self, takt__coro.size, &(child).frame, sizeof(struct fn), line))\
            goto takt__unwind;                                                               \
        TAKT__FILL(child, fn, __VA_ARGS__)                                                   \
        takt__frame_begin(&(child).frame, takt_self, takt_self->strand, fn##_coro, 0);       \
        if (!(act))                                                                          \
            goto takt__unwind;                                                               \
    }

#define TAKT__ENTER(child) (takt_self->strand->who.leaf = &(child).frame, true)

#define TAKT__CALL(child, line, fn, ...)                                                     \
    do { /* a statement, no value: results stand in the child */                             \
        TAKT__PREPARE(child, line, TAKT__ENTER(child), fn, __VA_ARGS__)                      \
        TAKT__LEAVE_AND_RETURN_AT(line, takt__call(takt_self, line))                         \
        TAKT__THROW_IF_FAILED;                                                               \
    } while (0)

#define TAKT__TRY_CALL(err, child, line, fn, ...)                                            \
    do { /* a statement, no value: the error goes into its first argument */                 \
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
        TAKT__LEAVE_AND_RETURN_AT(line, takt__leave(TAKT__SUSPEND))                          \
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

#define TAKT__NEXT(item, stream, line)                                                       \
    do {                                                                                     \
        TAKT__LEAVE_AND_RETURN_AT(line, takt__next(takt_self, &(stream), line))              \
        takt__next_take(takt_self, &(stream), &(item));                                      \
        TAKT__THROW_IF_FAILED;                                                               \
    } while (0)

#define TAKT__TRY_NEXT(err, item, stream, line)                                              \
    do {                                                                                     \
        TAKT__STATIC_ASSERT((__typeof__(err))-1 < 0 && sizeof(err) >= sizeof(int),           \
            "the result of TAKT_TRY_NEXT must be signed and at least an int");               \
        TAKT__LEAVE_AND_RETURN_AT(line, takt__next(takt_self, &(stream), line))              \
        takt__next_take(takt_self, &(stream), &(item));                                      \
        (err) = (int)takt__take_result(takt_self);                                           \
        TAKT__THROW_IF_FAILED;                                                               \
    } while (0)

#define TAKT__SPAWN(...) TAKT__SPAWN_(__VA_ARGS__)
#define TAKT__SPAWN_(s, group, owner, fn, ...)                                               \
    takt__spawned(TAKT__NAMED(takt__spawn_begin)((s), (group), (owner), fn##_coro,           \
                                                 sizeof(struct fn)) != NULL &&               \
                  (TAKT__SET((*(struct fn *)(void *)(s)->spawning), __VA_ARGS__)             \
                       takt__spawn_end(s)))

#define TAKT__START_ON(...) TAKT__START_ON_(__VA_ARGS__)
#define TAKT__START_ON_(s, object, fn, ...)                                                  \
    takt__spawned(((void)sizeof((object) = *(struct fn *)(void *)(s)->spawning),             \
                   TAKT__NAMED(takt__start_on_begin)((s), &(object).frame, fn##_coro,        \
                                                     sizeof(struct fn))) &&                  \
                  (TAKT__SET((object), __VA_ARGS__) takt__spawn_end(s)))

#define TAKT__EXEC(...) TAKT__EXEC_(__VA_ARGS__)
#define TAKT__EXEC_(dispatcher, object, fn, ...)                                             \
    ((void)sizeof((object) = *(struct fn *)(void *)&(object)),                               \
     (void)memset((void *)&(object), 0, sizeof(struct fn)),                                  \
     TAKT__SET((object), __VA_ARGS__) takt_exec((dispatcher), &(object).frame, fn##_coro))

#define TAKT__POOL(config, coro, ...)                                                        \
    do {                                                                                     \
        takt_pool *const takt__pool =                                                        \
            TAKT__NAMED(takt__pool_add)(&(config), coro##_coro, #coro, sizeof(struct coro),  \
                                        (uint32_t)(TAKT__HEAD(__VA_ARGS__, ~)));             \
        TAKT__SET((*takt__pool), __VA_ARGS__)(void) takt__pool;                              \
    } while (0)

/* The block's end is a return. The typedef repeats the one of TAKT_BEGIN: in a block inside
 * the body it is a shadow, and the compiler says so by its name. */
#if defined(__GNUC__)
#define TAKT__CATCH_HERE                                                                     \
        if (TAKT__LIKELY(takt__ends(takt_self)))                                             \
            return takt__leave(TAKT__RETURN);                                                \
        return takt__returned(takt_self);                                                    \
        TAKT__WATCH_CATCH                                                                    \
        TAKT__BODY_SCOPE                                                                     \
    case TAKT__AT(TAKT__CATCH):                                                              \
        for (;; (void)__extension__({ takt__return(takt_self); goto takt__unwind; true; }))  \
            if (true)
#else
#define TAKT__CATCH_HERE                                                                     \
        return takt__returned(takt_self);                                                    \
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

/* ==========================================================================
 * >>runner - what TAKT_STREAM makes: streams without coroutines
 *
 * Nothing here is API either; so below.
 * ======================================================================== */

#define TAKT__STREAM_RUNNER(name, backend_, payload_)                                        \
    TAKT__OWN_NAMES                                                                          \
    typedef struct name##_event {                                                            \
        takt_route route;                                                                    \
        int64_t value;                                                                       \
        payload_ *payload;                                                                   \
        int error;                                                                           \
        bool has_value;                                                                      \
        bool last;                                                                           \
    } name##_event;                                                                          \
                                                                                             \
    typedef struct name##_config {                                                           \
        uint32_t routes;                                                                     \
        uint32_t events;                                                                     \
        backend_##_config backend;                                                           \
    } name##_config;                                                                         \
                                                                                             \
    typedef struct name {                                                                    \
        takt_routes routes;                                                                  \
        uint32_t max;                                                                        \
        takt_completion *completions;                                                        \
        name##_event *events;                                                                \
        backend_ backend;                                                                    \
    } name;                                                                                  \
                                                                                             \
    TAKT__UNUSED static inline name##_config name##_defaults(void)                           \
    {                                                                                        \
        name##_config config;                                                                \
        memset(&config, 0, sizeof config);                                                   \
        config.routes = 64;                                                                  \
        config.events = TAKT_DEFAULT_COMPLETIONS;                                            \
        return config;                                                                       \
    }                                                                                        \
                                                                                             \
    TAKT__UNUSED static inline int name##_init(name *runner, const name##_config *config)    \
    {                                                                                        \
        int rc = takt__routes_init(&runner->routes, config->routes);                         \
        if (rc < 0)                                                                          \
            return rc;                                                                       \
        runner->max = config->events;                                                        \
        runner->completions = (takt_completion *)takt__calloc(config->events,                \
                                                              sizeof(takt_completion));      \
        runner->events = (name##_event *)takt__calloc(config->events, sizeof(name##_event)); \
        rc = config->events == 0 ? -EINVAL                                                   \
             : !runner->completions || !runner->events                                       \
                 ? -ENOMEM                                                                   \
                 : backend_##_init(&runner->backend, &config->backend,                       \
                                   &runner->routes.slots);                                   \
        if (rc < 0) {                                                                        \
            takt__free(runner->completions);                                                 \
            takt__free(runner->events);                                                      \
            takt__routes_free(&runner->routes);                                              \
        }                                                                                    \
        return rc;                                                                           \
    }                                                                                        \
                                                                                             \
    TAKT__UNUSED static inline void name##__cancel_all(name *runner)                         \
    {                                                                                        \
        takt_op *op;                                                                         \
        for (uint32_t at = 0; takt__route_forget(&runner->routes, &at, &op);)                \
            if (op)                                                                          \
                backend_##_cancel(&runner->backend, op);                                     \
    }                                                                                        \
                                                                                             \
    TAKT__UNUSED static inline int name##_subscribe(name *runner, takt_op op,                \
                                                    takt_route *route)                       \
    {                                                                                        \
        takt__route *const slot = runner->routes.fatal ? NULL                                \
                                                       : takt__route_take(&runner->routes);  \
        takt_token id;                                                                       \
        int rc;                                                                              \
        memset(route, 0, sizeof *route);                                                     \
        if (!slot)                                                                           \
            return runner->routes.fatal ? runner->routes.fatal : -ENOSPC;                    \
        slot->slot.op = op;                                                                  \
        slot->id = id = takt_token_of(&slot->slot.op);                                       \
        rc = backend_##_submit(&runner->backend, &slot->slot.op, &id);                       \
        if (rc < 0) {                                                                        \
            takt__route_give(&runner->routes, slot);                                         \
            return rc;                                                                       \
        }                                                                                    \
        rc = takt__route_open(&runner->routes, slot, id);                                    \
        if (rc < 0) {                                                                        \
            name##__cancel_all(runner);                                                      \
            return rc;                                                                       \
        }                                                                                    \
        route->token = (uint32_t)id;                                                         \
        route->generation = (uint32_t)(id >> 32);                                            \
        return 0;                                                                            \
    }                                                                                        \
                                                                                             \
    TAKT__UNUSED static inline bool name##_accept(name *runner, const takt_completion *done, \
                                                  name##_event *event)                       \
    {                                                                                        \
        memset(event, 0, sizeof *event);                                                     \
        if (!takt__route_accept(&runner->routes, done, &event->route))                       \
            return false;                                                                    \
        event->value = done->value;                                                          \
        event->payload = (payload_ *)done->payload;                                          \
        event->error = done->error;                                                          \
        event->has_value = !done->error && !(done->flags & TAKT_NO_VALUE);                   \
        event->last = !(done->flags & TAKT_MORE);                                            \
        return true;                                                                         \
    }                                                                                        \
                                                                                             \
    TAKT__UNUSED static inline int name##_poll(name *runner, name##_event **events,          \
                                               takt_ns wait)                                 \
    {                                                                                        \
        int count;                                                                           \
        int found = 0;                                                                       \
        *events = NULL;                                                                      \
        if (runner->routes.fatal)                                                            \
            return runner->routes.fatal;                                                     \
        count = backend_##_poll(&runner->backend, runner->completions, (int)runner->max, wait);\
        if (count > (int)runner->max)                                                        \
            count = takt__too_many();                                                        \
        if (count == TAKT_EWOULDBLOCK)                                                       \
            return 0;                                                                        \
        if (count < 0) {                                                                     \
            runner->routes.fatal = count;                                                    \
            name##__cancel_all(runner);                                                      \
            return count;                                                                    \
        }                                                                                    \
        for (int i = 0; i < count; i++)                                                      \
            if (name##_accept(runner, &runner->completions[i], &runner->events[found]))      \
                found++;                                                                     \
        if (found)                                                                           \
            *events = runner->events;                                                        \
        return found;                                                                        \
    }                                                                                        \
                                                                                             \
    TAKT__UNUSED static inline int name##_cancel(name *runner, takt_route route)             \
    {                                                                                        \
        int rc;                                                                              \
        takt_op *const op = takt__route_cancel(&runner->routes, route, &rc);                 \
        if (op)                                                                              \
            backend_##_cancel(&runner->backend, op);                                         \
        return rc;                                                                           \
    }                                                                                        \
                                                                                             \
    TAKT__UNUSED static inline int name##_pending(const name *runner)                        \
    {                                                                                        \
        return (int)runner->routes.pending;                                                  \
    }                                                                                        \
                                                                                             \
    TAKT__UNUSED static inline int name##_failed(const name *runner)                         \
    {                                                                                        \
        return runner->routes.fatal;                                                         \
    }                                                                                        \
                                                                                             \
    TAKT__UNUSED static inline int name##_drain(name *runner)                                \
    {                                                                                        \
        const int count = (int)runner->routes.pending;                                       \
        if (!runner->routes.fatal)                                                           \
            runner->routes.fatal = TAKT_EDISPOSED;                                           \
        name##__cancel_all(runner);                                                          \
        return count;                                                                        \
    }                                                                                        \
                                                                                             \
    TAKT__UNUSED static inline void name##_free(name *runner)                                \
    {                                                                                        \
        name##_drain(runner);                                                                \
        backend_##_free(&runner->backend);                                                   \
        takt__free(runner->completions);                                                     \
        takt__free(runner->events);                                                          \
        takt__routes_free(&runner->routes);                                                  \
    }                                                                                        \
    TAKT__OWN_NAMES_END                                                                      \
    struct name

/* ==========================================================================
 * >>rounds - what TAKT_LOOP makes: one turn of a loop after the other
 * ======================================================================== */

/* Whether a backend has B_each, see >>backend: its TAKT_EACH_B makes two arguments of one. */
#define TAKT__SECOND(first, second, ...) second
#define TAKT__SECOND_OF(...) TAKT__SECOND(__VA_ARGS__)
#define TAKT__EACH_OF(backend_) TAKT__SECOND_OF(TAKT_EACH_##backend_, TAKT__BY_POLL, )
#define TAKT__BY_POLL(backend_, name, loop, most, wait) ((void)(wait), false)
#define TAKT__BY_EACH(backend_, name, loop, most, wait)                                      \
    backend_##_each(&(loop)->backend, (most), (wait), sizeof(takt_strand), name##__succeed, (loop))

/* The same for B_end. */
#define TAKT__END_OF(backend_) TAKT__SECOND_OF(TAKT_END_##backend_, TAKT__BY_FREE, )
#define TAKT__BY_FREE(backend_, backend, limit) (backend_##_free(backend), 0)
#define TAKT__BY_END(backend_, backend, limit) backend_##_end((backend), (limit))

#define TAKT__LOOP(name, backend_)                                                           \
    TAKT__OWN_NAMES                                                                          \
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
    TAKT__UNUSED static inline int name##_init(name *takt_l, const name##_config *config)    \
    {                                                                                        \
        static const takt__calls calls = {name##__call_submit, name##__call_cancel,          \
                                          name##__call_call, name##__call_now};              \
        int rc = TAKT__NAMED(takt__sched_init)(&takt_l->sched, &config->loop, &calls,        \
                                               &takt_l->backend, &takt_l->completions);      \
        if (rc < 0)                                                                          \
            return rc;                                                                       \
        if (!TAKT__GUARDED) /* though the implementation might, elsewhere */                 \
            takt_l->sched.watches = NULL;                                                    \
        rc = backend_##_init(&takt_l->backend, &config->backend, &takt_l->sched.slots);      \
        if (rc < 0) {                                                                        \
            takt__sched_free(&takt_l->sched, &takt_l->completions);                          \
            return rc;                                                                       \
        }                                                                                    \
        takt__sched_begin(&takt_l->sched);                                                   \
        return 0;                                                                            \
    }                                                                                        \
                                                                                             \
    /* Hands the op of `strand` to the backend. False: it has failed at once. */             \
    TAKT__HOT bool name##__begin(name *takt_l, takt_strand *strand)                          \
    {                                                                                        \
        takt_op *const op = &strand->slot.op;                                                \
        takt_token offered, token;                                                           \
        int rc;                                                                              \
        strand->wait = TAKT__ON_OP;                                                          \
        TAKT__BEGINS(&takt_l->sched, strand);                                                \
        token = offered = takt__slot_begin(&strand->slot);                                   \
        rc = backend_##_submit(&takt_l->backend, op, &token);                                \
        if (TAKT__LIKELY(rc >= 0)) {                                                         \
            TAKT__LEND(&takt_l->sched, strand);                                              \
            if (TAKT__UNLIKELY(token != offered))                                            \
                takt__foreign_add(&takt_l->sched, strand, token);                            \
            return true;                                                                     \
        }                                                                                    \
        op->result = rc;                                                                     \
        takt__settle(&takt_l->sched, strand);                                                \
        return false;                                                                        \
    }                                                                                        \
                                                                                             \
    /* Runs `strand` until it waits for something; it has left its body with `go`. */        \
    TAKT__NOINLINE static void name##__go_on(name *takt_l, takt_strand *strand, int go)      \
    {                                                                                        \
        takt_sched *const sched = &takt_l->sched;                                            \
        for (;;) {                                                                           \
            takt_body *body;                                                                 \
            if (go == TAKT__CALLING) {                                                       \
                sched->stats.resumed++;                                                      \
                go = TAKT__RUN_BODY(sched, strand, strand->who.leaf->of.first);              \
            }                                                                                \
            if (go == TAKT__RETURN && !TAKT__GUARDED) {                                      \
                takt__return_to_caller(strand);                                              \
                go = TAKT__AGAIN;                                                            \
            }                                                                                \
            if (go == TAKT__AGAIN) {                                                         \
                sched->stats.resumed++;                                                      \
                go = TAKT__RUN_BODY(sched, strand, strand->who.leaf->of.coro->body);         \
                continue;                                                                    \
            }                                                                                \
            if (go == TAKT__OP && !takt__refuse_inline(sched, strand)) {                     \
                if (strand->slot.op.when)                                                    \
                    takt__arm_limit(sched, strand);                                          \
                go = TAKT__AS_IT_IS;                                                         \
            }                                                                                \
            if (go == TAKT__AS_IT_IS) {                                                      \
                if (name##__begin(takt_l, strand))                                           \
                    return;                                                                  \
                go = TAKT__AGAIN;                                                            \
                continue;                                                                    \
            }                                                                                \
            if (go == TAKT__SUSPEND && !TAKT__GUARDED)                                       \
                return;                                                                      \
            if (go == TAKT__CALLING || go == TAKT__AGAIN)                                    \
                continue;                                                                    \
            body = takt__step(sched, strand, go);                                            \
            if (!body)                                                                       \
                return;                                                                      \
            sched->stats.resumed++;                                                          \
            go = TAKT__RUN_BODY(sched, strand, body);                                        \
        }                                                                                    \
    }                                                                                        \
                                                                                             \
    /* What `strand` awaited is over. From one op straight to the next: what goes on         \
     * otherwise goes on out of line. */                                                     \
    TAKT__HOT void name##__resume(name *takt_l, takt_strand *strand)                         \
    {                                                                                        \
        takt_sched *const sched = &takt_l->sched;                                            \
        int go;                                                                              \
        strand->wait = TAKT__READY;                                                          \
        sched->stats.resumed++;                                                              \
        go = TAKT__RUN_BODY(sched, strand, strand->who.leaf->of.coro->body);                 \
        if (TAKT__UNLIKELY(go != TAKT__AS_IT_IS))                                            \
            name##__go_on(takt_l, strand, go);                                               \
        else if (TAKT__UNLIKELY(!name##__begin(takt_l, strand)))                             \
            name##__go_on(takt_l, strand, TAKT__AGAIN);                                      \
    }                                                                                        \
                                                                                             \
    TAKT__NOINLINE static void name##__complete(name *takt_l, const takt_completion *done)   \
    {                                                                                        \
        takt_sched *const sched = &takt_l->sched;                                            \
        takt_strand *strand = takt__strand_of_token(sched, done->token);                     \
        if (TAKT__UNLIKELY(sched->fatal && !sched->discarding)) {                            \
            takt__orphan(sched, done);                                                       \
            return;                                                                          \
        }                                                                                    \
        if (TAKT__LIKELY(strand && strand->wait == TAKT__ON_OP &&                            \
                         !(strand->flags | done->flags | (uint32_t)done->error))) {          \
            strand->slot.op.result = done->value;                                            \
            if (TAKT__REGAIN(sched, strand))                                                 \
                name##__resume(takt_l, strand);                                              \
        } else if ((strand = takt__claim(sched, strand, done)) != NULL) {                    \
            name##__resume(takt_l, strand);                                                  \
        }                                                                                    \
    }                                                                                        \
                                                                                             \
    /* The op in `slot` has succeeded with `value`; see B_each in >>backend. */           \
    TAKT__UNUSED TAKT__HOT bool name##__succeed(void *loop, takt_slot *slot, int64_t value)  \
    {                                                                                        \
        name *const takt_l = (name *)loop;                                                   \
        takt_sched *const sched = &takt_l->sched;                                            \
        takt_strand *const strand = (takt_strand *)(void *)slot;                             \
        sched->stats.completions++;                                                          \
        if (TAKT__UNLIKELY((TAKT_DEBUG && strand->wait != TAKT__ON_OP) || strand->flags)) {  \
            const takt_completion done = {takt_token_of(&slot->op), value, 0, 0, NULL};      \
            name##__complete(takt_l, &done);                                                 \
            return !sched->fatal || sched->discarding;                                       \
        }                                                                                    \
        strand->slot.op.result = value;                                                      \
        if (TAKT__REGAIN(sched, strand))                                                     \
            name##__resume(takt_l, strand);                                                  \
        return true;                                                                         \
    }                                                                                        \
                                                                                             \
    /* Asks the backend what has completed, and resumes whom that concerns. */               \
    TAKT__HOT void name##__ask(name *takt_l, takt_ns wait, int most)                         \
    {                                                                                        \
        takt_sched *const sched = &takt_l->sched;                                            \
        int count;                                                                           \
        if (TAKT__EACH_OF(backend_)(backend_, name, takt_l, most, wait))                    \
            return;                                                                          \
        TAKT__LENT_OPEN(sched, true);                                                        \
        count = backend_##_poll(&takt_l->backend, takt_l->completions, most, wait);          \
        TAKT__LENT_OPEN(sched, false);                                                       \
        if (TAKT__UNLIKELY((unsigned)count > (unsigned)most)) { /* or below 0 */             \
            if (count > 0)                                                                   \
                count = takt__too_many();                                                    \
            if (count != TAKT_EWOULDBLOCK)                                                   \
                takt__fail_loop(sched, count);                                               \
            count = 0;                                                                       \
        }                                                                                    \
        sched->stats.completions += (uint64_t)count;                                         \
        for (int i = 0; i < count; i++)                                                      \
            name##__complete(takt_l, &takt_l->completions[i]);                               \
    }                                                                                        \
                                                                                             \
    static inline void name##__run_ready(name *takt_l)                                       \
    {                                                                                        \
        takt_sched *const sched = &takt_l->sched;                                            \
        takt_ns until = TAKT_FOREVER;                                                        \
        takt_strand *strand;                                                                 \
        int count = 0;                                                                       \
        if (TAKT__UNLIKELY(sched->config.slice > 0))                                         \
            until = takt_after(backend_##_now(&takt_l->backend), sched->config.slice);       \
        while (count++ < TAKT__MOST_READY && (strand = takt__next_ready(sched)) != NULL) {\
            takt_body *const body = takt__first_or_next(strand);                             \
            int go;                                                                          \
            sched->stats.resumed++;                                                          \
            go = TAKT__RUN_BODY(sched, strand, body);                                        \
            if (go != TAKT__SUSPEND || TAKT__GUARDED)                                        \
                name##__go_on(takt_l, strand, go);                                           \
            if (TAKT__UNLIKELY(until != TAKT_FOREVER) && count % 16 == 0 &&                  \
                backend_##_now(&takt_l->backend) >= until)                                   \
                return;                                                                      \
        }                                                                                    \
    }                                                                                        \
                                                                                             \
    /* One turn, of at most `most` completions. */                                           \
    TAKT__NOINLINE static void name##__round(name *takt_l, takt_ns wait, int most)           \
    {                                                                                        \
        takt_sched *const sched = &takt_l->sched;                                            \
        sched->stats.turns++;                                                                \
        takt__turn_begins(sched);                                                            \
        if (sched->ready_first) {                                                            \
            name##__run_ready(takt_l);                                                       \
            if (TAKT__UNLIKELY(sched->fatal && !sched->discarding)) {                        \
                takt__turn_ends(sched);                                                      \
                return;                                                                      \
            }                                                                                \
        }                                                                                    \
        wait = takt__wait(sched, wait);                                                      \
        sched->now_known = false; /* by the end of that it will be later */                  \
        name##__ask(takt_l, wait, most);                                                     \
        if (sched->wheel.count)                                                              \
            takt__expire(sched);                                                             \
        if (sched->ready_first)                                                              \
            name##__run_ready(takt_l);                                                       \
        takt__turn_ends(sched);                                                              \
    }                                                                                        \
                                                                                             \
    TAKT__UNUSED static inline void name##__turn(name *takt_l, takt_ns wait, int max)        \
    {                                                                                        \
        takt_sched *const sched = &takt_l->sched;                                            \
        const int most = (int)sched->config.completions;                                     \
        sched->stack_base = TAKT__STACK_POINTER();                                           \
        sched->in_turn = true;                                                               \
        name##__round(takt_l, wait, max > 0 && max < most ? max : most);                     \
        sched->in_turn = false;                                                              \
    }                                                                                        \
                                                                                             \
    TAKT__UNUSED static inline int name##_turn(name *takt_l, takt_ns wait, int max)          \
    {                                                                                        \
        takt_sched *const sched = &takt_l->sched;                                            \
        const uint64_t before = sched->stats.resumed;                                        \
        if (sched->fatal | sched->in_turn)                                                   \
            return sched->fatal ? sched->fatal : TAKT_EREENTER;                              \
        sched->result_count = 0;                                                             \
        name##__turn(takt_l, wait, max);                                                     \
        TAKT__LENT_OPEN(sched, true);                                                        \
        backend_##_flush(&takt_l->backend);                                                  \
        TAKT__LENT_OPEN(sched, false);                                                       \
        return sched->fatal ? sched->fatal : takt__progress(sched, before);                  \
    }                                                                                        \
                                                                                             \
    TAKT__UNUSED static inline int name##_run(name *takt_l)                                  \
    {                                                                                        \
        takt_sched *const sched = &takt_l->sched;                                            \
        const int most = (int)sched->config.completions;                                     \
        if (sched->in_turn)                                                                  \
            return TAKT_EREENTER;                                                            \
        sched->stack_base = TAKT__STACK_POINTER(); /* the same in every turn from here */    \
        sched->in_turn = true;                                                               \
        while (takt__goes_on(sched)) {                                                       \
            name##__round(takt_l, TAKT_FOREVER, most);                                       \
            while (!TAKT_DEBUG && sched->only_ops) { /* no more to do than to ask for them */\
                sched->stats.turns++;                                                        \
                name##__ask(takt_l, TAKT_FOREVER, most);                                     \
            }                                                                                \
        }                                                                                    \
        sched->in_turn = false;                                                              \
        return sched->fatal ? sched->fatal : sched->first_error;                             \
    }                                                                                        \
                                                                                             \
    TAKT__UNUSED static inline int name##_fd(name *takt_l)                                   \
    {                                                                                        \
        return backend_##_fd(&takt_l->backend);                                              \
    }                                                                                        \
                                                                                             \
    TAKT__UNUSED static inline takt_ns name##_now(name *takt_l)                              \
    {                                                                                        \
        return backend_##_now(&takt_l->backend);                                             \
    }                                                                                        \
                                                                                             \
    TAKT__UNUSED static inline takt_ns name##_deadline(name *takt_l)                         \
    {                                                                                        \
        if (takt_l->sched.ready_first || takt_l->sched.later_first ||                        \
            backend_##_busy(&takt_l->backend))                                               \
            return 0;                                                                        \
        return takt_wheel_deadline(&takt_l->sched.wheel);                                    \
    }                                                                                        \
                                                                                             \
    TAKT__UNUSED static inline void name##_stop(name *takt_l, takt_ns limit)                 \
    {                                                                                        \
        takt_stop(&takt_l->sched, limit);                                                    \
    }                                                                                        \
                                                                                             \
    static inline int name##__submit(name *takt_l, takt_frame *frame, takt_body *body)       \
    {                                                                                        \
        takt_sched *const sched = &takt_l->sched;                                            \
        const uint32_t results = sched->result_count;                                        \
        const int rc = takt__submit(sched, frame, body);                                     \
        if (rc < 0 || sched->in_turn)                                                        \
            return rc;                                                                       \
        sched->in_turn = true;                                                               \
        sched->stack_base = TAKT__STACK_POINTER();                                           \
        sched->now_known = false;                                                            \
        name##__go_on(takt_l, frame->strand, TAKT__CALLING);                                 \
        sched->in_turn = false;                                                              \
        sched->result_count = results; /* its end is told here */                            \
        if (sched->fatal)                                                                    \
            return sched->fatal;                                                             \
        return takt_error(frame) < 0 ? takt_error(frame) : takt_finished(frame);             \
    }                                                                                        \
                                                                                             \
    static inline int name##__poll(name *takt_l)                                             \
    {                                                                                        \
        takt_sched *const sched = &takt_l->sched;                                            \
        const uint64_t before = sched->stats.resumed;                                        \
        if (sched->result_count && !sched->in_turn)                                          \
            return 0;                                                                        \
        if (sched->fatal | sched->in_turn)                                                   \
            return sched->fatal ? sched->fatal : TAKT_EREENTER;                              \
        name##__turn(takt_l, 0, 0);                                                          \
        if (sched->result_count)                                                             \
            return 0;                                                                        \
        if (sched->fatal)                                                                    \
            return sched->fatal;                                                             \
        return sched->stats.resumed == before ? TAKT_EWOULDBLOCK : 0;                        \
    }                                                                                        \
                                                                                             \
    TAKT__MUST_USE TAKT__UNUSED static inline bool name##_submit_op(                         \
        name *takt_l, takt_op op, void (*done)(void *user, int64_t result), void *user)      \
    {                                                                                        \
        return takt_submit_op(&takt_l->sched, op, done, user);                               \
    }                                                                                        \
                                                                                             \
    TAKT__UNUSED static inline int name##_pending(const name *takt_l)                        \
    {                                                                                        \
        return takt_l->sched.fatal ? 0 : (int)takt_l->sched.pending;                         \
    }                                                                                        \
                                                                                             \
    TAKT__UNUSED static inline int name##_failed(const name *takt_l)                         \
    {                                                                                        \
        return takt_l->sched.fatal;                                                          \
    }                                                                                        \
                                                                                             \
    TAKT__UNUSED static inline int name##_drain(name *takt_l)                                \
    {                                                                                        \
        takt_sched *const sched = &takt_l->sched;                                            \
        const bool broken = sched->fatal && sched->fatal != TAKT_EDISPOSED;                  \
        takt_ns deadline;                                                                    \
        int discarded;                                                                       \
        if (sched->in_turn)                                                                  \
            return TAKT_EREENTER;                                                            \
        discarded = takt__discard_all(sched);                                                \
        deadline = takt_after(backend_##_now(&takt_l->backend), sched->config.reap_limit);   \
        while (broken && (sched->ready_first | sched->later_first)) {                        \
            takt__turn_begins(sched);                                                        \
            name##__run_ready(takt_l);                                                       \
        }                                                                                    \
        while (sched->strands_used && !broken &&                                             \
               backend_##_now(&takt_l->backend) < deadline)                                  \
            name##__turn(takt_l, 10 * TAKT_MS, 0);                                           \
        if (broken || !sched->strands_used) /* there will be no further turn */              \
            takt__give_completions(sched, &takt_l->completions);                             \
        return discarded;                                                                    \
    }                                                                                        \
                                                                                             \
    TAKT__UNUSED static inline int name##_free(name *takt_l)                                 \
    {                                                                                        \
        int rc;                                                                              \
        if (name##_drain(takt_l) == TAKT_EREENTER)                                           \
            return TAKT_EREENTER;                                                            \
        if (takt_l->sched.strands_used)                                                      \
            return -EBUSY;                                                                   \
        rc = TAKT__END_OF(backend_)(backend_, &takt_l->backend,                              \
                                    takt_l->sched.config.reap_limit);                        \
        takt__sched_free(&takt_l->sched, &takt_l->completions);                              \
        return rc;                                                                           \
    }

/* What differs between TAKT_LOOP and TAKT_LOOP_OF: what is submitted, what results are. */
#define TAKT__LOOP_RESULTS(name, result_type)                                                \
    TAKT__UNUSED static inline int name##_poll(name *takt_l, result_type **results, int max) \
    {                                                                                        \
        const int rc = name##__poll(takt_l);                                                 \
        int count = 0;                                                                       \
        if (rc < 0)                                                                          \
            return rc;                                                                       \
        while (count < max && count < (int)takt_l->sched.result_count) {                     \
            results[count] = (result_type *)(void *)takt_l->sched.results[count];            \
            count++;                                                                         \
        }                                                                                    \
        takt__results_taken(&takt_l->sched, (uint32_t)count);                                \
        return count;                                                                        \
    }                                                                                        \
                                                                                             \
    TAKT__UNUSED static inline int name##_collect(name *takt_l, result_type **results, int max,\
                                                  int *count)                                \
    {                                                                                        \
        takt_sched *const sched = &takt_l->sched;                                            \
        int rc = 0;                                                                          \
        *count = 0;                                                                          \
        while (*count < max && (sched->result_count || (sched->pending && !sched->fatal))) { \
            if (sched->in_turn)                                                              \
                return TAKT_EREENTER;                                                        \
            if (!sched->result_count)                                                        \
                name##__turn(takt_l, TAKT_FOREVER, 0);                                       \
            if (sched->result_count && (rc = name##_poll(takt_l, results + *count,           \
                                                         max - *count)) > 0)                 \
                *count += rc;                                                                \
        }                                                                                    \
        return sched->fatal;                                                                 \
    }

#define TAKT__LOOP_ANY(name)                                                                 \
    TAKT__UNUSED static inline int name##_submit(name *takt_l, takt_frame *frame,            \
                                                 takt_body *body)                            \
    {                                                                                        \
        return name##__submit(takt_l, frame, body);                                          \
    }                                                                                        \
                                                                                             \
    TAKT__LOOP_RESULTS(name, takt_frame)                                                     \
    TAKT__OWN_NAMES_END                                                                      \
    struct name

#define TAKT__LOOP_TYPED(name, coro)                                                         \
    TAKT__UNUSED static inline int name##_submit(name *takt_l, struct coro *frame)           \
    {                                                                                        \
        return name##__submit(takt_l, &frame->frame, coro##_coro);                           \
    }                                                                                        \
                                                                                             \
    TAKT__LOOP_RESULTS(name, struct coro)                                                    \
    TAKT__OWN_NAMES_END                                                                      \
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

#ifndef TAKT_PANIC
#include <stdlib.h>
#define TAKT_PANIC(text) (TAKT_LOG(text), abort())
#endif

#ifdef TAKT_VALGRIND
#include <valgrind/memcheck.h>
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

void *takt__calloc(size_t count, size_t size)
{
    return TAKT_CALLOC(count ? count : 1, size);
}

void takt__free(void *memory)
{
    TAKT_FREE(memory);
}

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

enum {
    TAKT__NEITHER,
    TAKT__READER,
    TAKT__WRITER,
    TAKT__EITHER,
    TAKT__BOTH,
    TAKT__THROUGH, /* reader of op->fd, writer of op->extra */
    TAKT__CALL
};

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
    const int direction = op->kind < TAKT_OP_COUNT ? (int)directions[op->kind] : (int)TAKT__NEITHER;
    if (direction != TAKT__EITHER)
        return direction;
    return op->bits & TAKT_READABLE ? TAKT__READER : TAKT__WRITER;
}

/* ==========================================================================
 * >>memory-impl
 * ======================================================================== */

#define TAKT__NO_BUFFER UINT32_MAX
#define TAKT__LEASED (UINT32_MAX - 1)
#define TAKT__WITH_BACKEND (UINT32_MAX - 2) /* with the backend */
#define TAKT__HANDED_OVER (UINT32_MAX - 3)  /* being sent: takt_send_lease() */

int takt_bufs_init(takt_bufs *bufs, uint32_t count, uint32_t size)
{
    memset(bufs, 0, sizeof *bufs);
    if (count == 0 || size == 0 || count >= TAKT__HANDED_OVER ||
        (sizeof(size_t) < 8 && size > SIZE_MAX / count))
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
    TAKT_ASSERT(bufs->in_use == bufs->lost && bufs->waiting == NULL);
    if (bufs->reclaim)
        bufs->reclaim(bufs, true);
    if (!bufs->lost) /* the system may still read it */
        TAKT_FREE(bufs->memory);
    TAKT_FREE(bufs->next);
    memset(bufs, 0, sizeof *bufs);
}

static bool takt__bufs_any(const takt_bufs *bufs)
{
    return bufs->free != TAKT__NO_BUFFER || bufs->fresh < bufs->count;
}

/* The newest free buffer; there must be one. */
static uint32_t takt__bufs_pop(takt_bufs *bufs)
{
    const uint32_t index = bufs->free;
    if (index == TAKT__NO_BUFFER)
        return bufs->fresh++;
    bufs->free = bufs->next[index];
    return index;
}

static void takt__bufs_push(takt_bufs *bufs, uint32_t index)
{
    bufs->next[index] = bufs->free;
    bufs->free = index;
}

/* Buffer `index`, from here on somebody's. */
static unsigned char *takt__bufs_lend(takt_bufs *bufs, uint32_t index)
{
    bufs->next[index] = TAKT__LEASED;
    if (++bufs->in_use > bufs->in_use_max)
        bufs->in_use_max = bufs->in_use;
    return bufs->memory + (size_t)index * bufs->size;
}

unsigned char *takt_bufs_take(takt_bufs *bufs)
{
    if (TAKT__UNLIKELY(!takt__bufs_any(bufs)))
        return NULL;
    return takt__bufs_lend(bufs, takt__bufs_pop(bufs));
}

/* The buffer around `data`, if it is out; else TAKT__NO_BUFFER. */
static uint32_t takt__bufs_around(const takt_bufs *bufs, const unsigned char *data)
{
    const uintptr_t offset = (uintptr_t)data - (uintptr_t)bufs->memory;
    uint32_t index;
    if (offset >= (uintptr_t)bufs->count * bufs->size)
        return TAKT__NO_BUFFER;
    index = (uint32_t)(offset / bufs->size);
    return index < bufs->fresh && bufs->next[index] == TAKT__LEASED ? index : TAKT__NO_BUFFER;
}

int takt_bufs_put(takt_bufs *bufs, unsigned char **data)
{
    const uint32_t index = takt__bufs_around(bufs, *data);
    if (*data == NULL)
        return 0;
    *data = NULL;
    if (index == TAKT__NO_BUFFER)
        return TAKT_EBUFFER;
    takt__bufs_push(bufs, index);
    bufs->in_use--;
    return 0;
}

/* -- buffers that are handed over to be sent; the backends' ---------------------
 *
 * Once it is, an op has: buf, the first byte that is left; len, how many are; extra, how many
 * there were.
 */

/* 0, or TAKT_EBUFFER if what `op` is to send does not lie in a buffer that is out. */
TAKT__UNUSED static int takt__handed_check(const takt_op *op)
{
    const takt_bufs *const bufs = (const takt_bufs *)op->arg.ptr;
    const unsigned char *const data = *(unsigned char *const *)op->buf;
    const uintptr_t offset = (uintptr_t)data - (uintptr_t)bufs->memory;
    return takt__bufs_around(bufs, data) == TAKT__NO_BUFFER ||
                   op->len > bufs->size - offset % bufs->size
               ? TAKT_EBUFFER
               : 0;
}

/* Takes over what was checked. */
TAKT__UNUSED static void takt__handed_take(takt_op *op)
{
    takt_bufs *const bufs = (takt_bufs *)op->arg.ptr;
    unsigned char **const data = (unsigned char **)op->buf;
    bufs->next[takt__bufs_around(bufs, *data)] = TAKT__HANDED_OVER;
    op->buf = *data;
    op->extra = (uint32_t)op->len;
    *data = NULL;
}

/* `n` bytes of it were sent. */
TAKT__UNUSED static void takt__handed_sent(takt_op *op, size_t n)
{
    n = n < op->len ? n : op->len;
    op->buf = (unsigned char *)op->buf + n;
    op->len -= n;
}

/* The number of the buffer that `op` was handed. */
TAKT__UNUSED static uint32_t takt__handed_index(const takt_op *op)
{
    const takt_bufs *const bufs = (const takt_bufs *)op->arg.ptr;
    const unsigned char *const data = (const unsigned char *)op->buf - (op->extra - op->len);
    return (uint32_t)((size_t)(data - bufs->memory) / bufs->size);
}

/* A buffer that was handed over is the pool's again. */
TAKT__UNUSED static void takt__handed_back(takt_bufs *bufs, uint32_t index)
{
    takt__bufs_push(bufs, index);
    bufs->in_use--;
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

/* Takes `op`, which stands there, out of the line. */
TAKT__UNUSED static void takt__bufs_leave(takt_bufs *bufs, takt_op *op)
{
    takt_op *before = NULL;
    for (takt_op *it = bufs->waiting; it != op; it = it->next)
        before = it;
    if (before)
        before->next = op->next;
    else
        bufs->waiting = op->next;
    if (bufs->waiting_last == op)
        bufs->waiting_last = before;
    op->next = NULL;
}

/* Gives a TAKT_OP_BUFFER its buffer. False: there is none, and it has to wait. */
TAKT__UNUSED static bool takt__bufs_grant(takt_op *op)
{
    unsigned char *const data = takt_bufs_take((takt_bufs *)op->arg.ptr);
    if (data)
        *(unsigned char **)op->buf = data;
    return data != NULL;
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

/* True if takt__bufs_serve() would find something, or a line that has become empty. */
TAKT__UNUSED static bool takt__bufs_can_serve(const takt_bufs *starved)
{
    while (starved && !takt__bufs_any(starved))
        starved = starved->next_starved;
    return starved != NULL;
}

/* -- completion memory: the heap -------------------------------------------- */

static void *takt__heap_acquire(void *user, size_t size, size_t *capacity)
{
    takt_heap_memory *const heap = (takt_heap_memory *)user;
    void *slab;
    *capacity = size ? size : (size_t)TAKT_SLAB_DEFAULT;
    if (*capacity == TAKT_SLAB_DEFAULT && heap->kept) {
        slab = heap->kept;
        heap->kept = NULL;
        memset(slab, 0, TAKT_SLAB_DEFAULT);
    } else {
        slab = TAKT_CALLOC(1, *capacity);
    }
    heap->acquired += slab != NULL;
    return slab;
}

static int takt__heap_release(void *user, void *slab, size_t capacity)
{
    takt_heap_memory *const heap = (takt_heap_memory *)user;
    if (!slab)
        return 0;
    if (slab == heap->kept)
        return TAKT_EBUFFER;
    heap->released++;
    if (capacity == TAKT_SLAB_DEFAULT && !heap->kept)
        heap->kept = slab;
    else
        TAKT_FREE(slab);
    return 0;
}

void takt_heap_init(takt_heap_memory *heap)
{
    memset(heap, 0, sizeof *heap);
    heap->memory.acquire = takt__heap_acquire;
    heap->memory.release = takt__heap_release;
    heap->memory.user = heap;
}

void takt_heap_free(takt_heap_memory *heap)
{
    TAKT_FREE(heap->kept);
    heap->kept = NULL;
}

/* -- completion memory: bounded ---------------------------------------------- */

#define TAKT__LINE_BYTES 64

/* Stands before a slab that came from the heap. */
typedef struct takt__grown {
    struct takt__grown *next;
    size_t capacity;
} takt__grown;

enum { TAKT__GROWN_HEAD = TAKT__LINE_BYTES }; /* so the slab is aligned as the head is */

TAKT__STATIC_ASSERT(sizeof(takt__grown) <= TAKT__GROWN_HEAD, "the head has room");

static void *takt__bounded_grow(takt_bounded_memory *bounded, size_t size, size_t *capacity)
{
    takt__grown *more = NULL;
    if (bounded->grow && size <= SIZE_MAX - TAKT__GROWN_HEAD)
        more = (takt__grown *)TAKT_CALLOC(1, TAKT__GROWN_HEAD + size);
    if (!more) {
        bounded->refused++;
        return NULL;
    }
    more->next = bounded->more;
    more->capacity = size;
    bounded->more = more;
    bounded->grown++;
    *capacity = size;
    return (unsigned char *)more + TAKT__GROWN_HEAD;
}

static void *takt__bounded_acquire(void *user, size_t size, size_t *capacity)
{
    takt_bounded_memory *const bounded = (takt_bounded_memory *)user;
    unsigned char *slab;
    uint32_t index;
    if (size > bounded->slab)
        return takt__bounded_grow(bounded, size, capacity);
    if (bounded->in_use == bounded->count)
        return takt__bounded_grow(bounded, bounded->slab, capacity);
    index = bounded->line[bounded->first++ & (bounded->count - 1)];
    if (++bounded->in_use > bounded->in_use_max)
        bounded->in_use_max = bounded->in_use;
    bounded->out[index] = true;
    slab = bounded->block + (size_t)index * bounded->slab;
    memset(slab, 0, bounded->slab);
    *capacity = bounded->slab;
    return slab;
}

/* A slab that came from the heap goes back there. False: it did not. */
static bool takt__bounded_shrink(takt_bounded_memory *bounded, const void *slab, size_t capacity)
{
    for (takt__grown **link = &bounded->more; *link; link = &(*link)->next) {
        takt__grown *const it = *link;
        if ((unsigned char *)it + TAKT__GROWN_HEAD != slab)
            continue;
        if (it->capacity != capacity)
            return false;
        *link = it->next;
        bounded->grown--;
        TAKT_FREE(it);
        return true;
    }
    return false;
}

static int takt__bounded_release(void *user, void *slab, size_t capacity)
{
    takt_bounded_memory *const bounded = (takt_bounded_memory *)user;
    const uintptr_t offset = (uintptr_t)slab - (uintptr_t)bounded->block;
    uint32_t index;
    if (!slab)
        return 0;
    if (capacity == bounded->slab && capacity > 0 && offset % bounded->slab == 0 &&
        offset / bounded->slab < bounded->count) {
        index = (uint32_t)(offset / bounded->slab);
        if (bounded->out[index]) {
            bounded->out[index] = false;
            bounded->line[bounded->last++ & (bounded->count - 1)] = index;
            bounded->in_use--;
            return 0;
        }
    } else if (takt__bounded_shrink(bounded, slab, capacity)) {
        return 0;
    }
    bounded->strange++;
    return TAKT_EBUFFER;
}

static void takt__bounded_clear(takt_bounded_memory *bounded)
{
    TAKT_FREE(bounded->block);
    TAKT_FREE(bounded->line);
    TAKT_FREE(bounded->out);
    bounded->block = NULL;
    bounded->line = NULL;
    bounded->out = NULL;
    bounded->count = 0;
    bounded->slab = 0;
}

int takt_bounded_init(takt_bounded_memory *bounded, uint32_t count, size_t slab)
{
    uint32_t slabs = 1;
    memset(bounded, 0, sizeof *bounded);
    bounded->memory.acquire = takt__bounded_acquire;
    bounded->memory.release = takt__bounded_release;
    bounded->memory.user = bounded;
    if (count == 0 || slab == 0 || count > 1u << 24 || slab > SIZE_MAX / 2)
        return -EINVAL;
    while (slabs < count)
        slabs *= 2;
    slab = (slab + TAKT__LINE_BYTES - 1) & ~(size_t)(TAKT__LINE_BYTES - 1);
    if (slab > SIZE_MAX / 2 / slabs)
        return -EINVAL;
    bounded->block = (unsigned char *)TAKT_CALLOC(slabs, slab);
    bounded->line = (uint32_t *)TAKT_CALLOC(slabs, sizeof *bounded->line);
    bounded->out = (bool *)TAKT_CALLOC(slabs, sizeof *bounded->out);
    if (!bounded->block || !bounded->line || !bounded->out) {
        takt__bounded_clear(bounded);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < slabs; i++)
        bounded->line[i] = i;
    bounded->last = slabs;
    bounded->count = slabs;
    bounded->slab = slab;
    return 0;
}

int takt_bounded_free(takt_bounded_memory *bounded)
{
    if (bounded->in_use || bounded->grown)
        return -EBUSY;
    takt__bounded_clear(bounded);
    return 0;
}

/* ==========================================================================
 * >>backend-impl
 * ======================================================================== */

typedef struct takt__token_place {
    takt_token token;
    void *what; /* NULL: free */
} takt__token_place;

int takt_tokens_init(takt_tokens *tokens, uint32_t count)
{
    tokens->used = 0;
    tokens->size = 2;
    while (tokens->size < 2 * (uint64_t)count)
        tokens->size *= 2;
    tokens->at = (takt__token_place *)TAKT_CALLOC(tokens->size, sizeof *tokens->at);
    return tokens->at ? 0 : -ENOMEM;
}

void takt_tokens_free(takt_tokens *tokens)
{
    TAKT_FREE(tokens->at);
    tokens->at = NULL;
    tokens->used = 0;
}

/* Where `token` stands, or would stand: it steps on from where it hashes to. */
static takt__token_place *takt__token_place_of(const takt_tokens *tokens, takt_token token)
{
    uint32_t at = (uint32_t)((token * 0x9e3779b97f4a7c15u) >> 32) & (tokens->size - 1);
    while (tokens->at[at].what && tokens->at[at].token != token)
        at = (at + 1) & (tokens->size - 1);
    return &tokens->at[at];
}

void *takt_tokens_find(const takt_tokens *tokens, takt_token token)
{
    return tokens->used ? takt__token_place_of(tokens, token)->what : NULL;
}

void takt_tokens_add(takt_tokens *tokens, takt_token token, void *what)
{
    takt__token_place *const place = takt__token_place_of(tokens, token);
    TAKT_ASSERT(!place->what && tokens->used < tokens->size / 2);
    place->token = token;
    place->what = what;
    tokens->used++;
}

void takt_tokens_remove(takt_tokens *tokens, takt_token token)
{
    const uint32_t mask = tokens->size - 1;
    takt__token_place *const place = takt__token_place_of(tokens, token);
    uint32_t next = ((uint32_t)(place - tokens->at) + 1) & mask;
    if (!place->what)
        return;
    place->what = NULL;
    tokens->used--;
    while (tokens->at[next].what) { /* those behind it must be found without it */
        const takt__token_place moving = tokens->at[next];
        tokens->at[next].what = NULL;
        *takt__token_place_of(tokens, moving.token) = moving;
        next = (next + 1) & mask;
    }
}

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

/* True for what may stand in line on a descriptor. */
static bool takt__is_datagram(const takt_op *op)
{
    return op->kind == TAKT_OP_SENDTO || op->kind == TAKT_OP_BURST;
}

static int takt__enter_writer(takt_fds *fds, takt_fd *fd, takt_op *op)
{
    const uint32_t place = takt__place_of(op);
    op->next = NULL;
    if (fd->writer) {
        takt_op *const last = takt_fds_op(fds, fd->writer_last);
        if (!takt__is_datagram(op) || !takt__is_datagram(last))
            return -EBUSY;
        last->next = op;
    } else {
        fd->writer = place;
    }
    fd->writer_last = place;
    return 0;
}

/* Takes both places of an op from descriptor to descriptor. */
static int takt__enter_through(takt_fds *fds, takt_op *op)
{
    const int to = (int)op->extra;
    takt_fd *const from = &fds->at[op->fd];
    if (to < 0)
        return -EBADF;
    if (to >= fds->count)
        return -EMFILE;
    if (fds->at[to].closer)
        return TAKT_ECLOSED;
    if (from->reader || fds->at[to].writer)
        return -EBUSY;
    from->reader = takt__place_of(op);
    return takt__enter_writer(fds, &fds->at[to], op);
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
    if (direction == TAKT__THROUGH)
        return takt__enter_through(fds, op);
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
    if (direction == TAKT__THROUGH && op->extra < (uint32_t)fds->count) {
        takt_fd *const to = &fds->at[op->extra];
        takt__leave_writer(fds, to, op);
        if (!fd->closer || fd->reader || fd->writer)
            fd = to;
    }
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
#if !defined(TAKT_NO_EPOLL) && !defined(__TINYC__) /* tcc does not pack a struct epoll_event */
#include <sys/epoll.h>
#include <sys/timerfd.h>
#define TAKT__EPOLL 1
#endif
#endif

enum { TAKT__UDP_GRO = 104 }; /* of linux/udp.h */

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
    if (bufs->reclaim && !bufs->reclaim(bufs, false))
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
    struct rlimit limit = {MOST, MOST};
    if (count <= 0) {
        (void)getrlimit(RLIMIT_NOFILE, &limit);
        count = limit.rlim_cur < (rlim_t)MOST ? (int)limit.rlim_cur : (int)MOST;
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

static void takt__sip_rounds(uint64_t v[4], int count)
{
#define TAKT__ROTATE(x, bits) ((x) << (bits) | (x) >> (64 - (bits)))
    while (count-- > 0) {
        v[0] += v[1];
        v[2] += v[3];
        v[1] = TAKT__ROTATE(v[1], 13) ^ v[0];
        v[3] = TAKT__ROTATE(v[3], 16) ^ v[2];
        v[2] += v[1];
        v[0] = TAKT__ROTATE(v[0], 32) + v[3];
        v[1] = TAKT__ROTATE(v[1], 17) ^ v[2];
        v[3] = TAKT__ROTATE(v[3], 21) ^ v[0];
        v[2] = TAKT__ROTATE(v[2], 32);
    }
#undef TAKT__ROTATE
}

/* The bytes from `at` to `end`, at most 8, as a number. */
static uint64_t takt__sip_word(const unsigned char *at, const unsigned char *end)
{
    uint64_t word = 0;
    for (int bits = 0; at < end && bits < 64; bits += 8)
        word |= (uint64_t)*at++ << bits;
    return word;
}

uint64_t takt_addr_hash(const takt_addr *addr, const uint64_t key[2])
{
    uint64_t v[4] = {key[0] ^ 0x736f6d6570736575, key[1] ^ 0x646f72616e646f6d,
                     key[0] ^ 0x6c7967656e657261, key[1] ^ 0x7465646279746573};
    takt_addr it = *addr;
    const int family = takt__family(addr);
    if (family == AF_INET)
        it.len = offsetof(struct sockaddr_in, sin_addr) + sizeof(struct in_addr);
    if (family == AF_INET6) {
        memset(it.sockaddr.bytes + offsetof(struct sockaddr_in6, sin6_flowinfo), 0, 4);
        it.len = sizeof(struct sockaddr_in6);
    }
    for (uint32_t at = 0; at <= it.len; at += 8) {
        uint64_t word = takt__sip_word(it.sockaddr.bytes + at, it.sockaddr.bytes + it.len);
        if (it.len - at < 8)
            word |= (uint64_t)it.len << 56;
        v[3] ^= word;
        takt__sip_rounds(v, 2);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    takt__sip_rounds(v, 4);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* -- what the real backends answer at once -------------------------------- */

/* Result of a system call: itself, or -errno. */
static int64_t takt__answer(int64_t result)
{
    return result < 0 ? -errno : result;
}

/* close(2): 0 or an error. One that was interrupted has closed. */
static int64_t takt__do_close(int fd)
{
    const int64_t result = takt__answer(close(fd));
    return result == -EINTR ? 0 : result;
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
    case TAKT_OP_CONNECT: /* of datagrams: it does not wait */
        return takt__answer(connect(op->fd, takt__sockaddr(addr), addr->len));
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
        return takt__do_close(op->fd);
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

int takt_try_send_burst(takt_frame *frame, int fd, takt_packet *packets, size_t count)
{
    takt_op op = takt__op(TAKT_OP_BURST, fd, packets, count);
    const int64_t result = takt__ask(frame, &op);
    if (result != -EAGAIN)
        return (int)result;
    for (size_t i = (size_t)op.arg.done; i < count; i++)
        packets[i].error = -EAGAIN;
    return (int)op.extra;
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
static int takt__bound(takt_frame *frame, const takt_addr *addr, int type, bool shared)
{
    takt_op op = takt__op(TAKT_OP_BIND, -1, NULL, 0);
    int64_t rc = 0;
    const int fd = takt_socket(frame, takt__family(addr), type, 0);
    if (fd < 0)
        return fd;
    if (shared)
        rc = takt_setsockopt(frame, fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (type == SOCK_STREAM && takt__family(addr) != AF_UNIX)
        takt_setsockopt(frame, fd, SOL_SOCKET, SO_REUSEADDR, 1);
    op.fd = fd;
    op.arg.ptr = (void *)(uintptr_t)addr;
    if (rc == 0)
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

static int takt__listening(takt_frame *frame, const takt_addr *addr, int backlog, bool shared)
{
    takt_op op = takt__op(TAKT_OP_LISTEN, -1, NULL, 0);
    int64_t rc;
    int fd;
    if (takt__family(addr) == AF_UNIX)
        takt__remove_dead(addr);
    fd = takt__bound(frame, addr, SOCK_STREAM, shared);
    if (fd < 0)
        return fd;
    op.fd = fd;
    op.bits = (uint32_t)(backlog > 0 ? backlog : SOMAXCONN);
    rc = takt__ask(frame, &op);
    return rc < 0 ? takt__ask_close(frame, fd, rc) : fd;
}

int takt_listen(takt_frame *frame, const takt_addr *addr, int backlog)
{
    return takt__listening(frame, addr, backlog, false);
}

int takt_listen_shared(takt_frame *frame, const takt_addr *addr, int backlog)
{
    return takt__listening(frame, addr, backlog, true);
}

int takt_udp_bind(takt_frame *frame, const takt_addr *addr)
{
    return takt__bound(frame, addr, SOCK_DGRAM, false);
}

int takt_udp_bind_shared(takt_frame *frame, const takt_addr *addr)
{
    return takt__bound(frame, addr, SOCK_DGRAM, true);
}

int takt_udp_connect(takt_frame *frame, const takt_addr *addr)
{
    takt_op op = takt__op(TAKT_OP_CONNECT, -1, NULL, 0);
    int64_t rc;
    const int fd = takt_socket(frame, takt__family(addr), SOCK_DGRAM, 0);
    if (fd < 0)
        return fd;
    op.fd = fd;
    op.arg.ptr = (void *)(uintptr_t)addr;
    rc = takt__ask(frame, &op);
    return rc < 0 ? takt__ask_close(frame, fd, rc) : fd;
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
        const takt_ns seconds = 1 + (options->keepalive - 1) / TAKT_SEC;
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
                      options->user_timeout / TAKT_MS + (options->user_timeout % TAKT_MS > 0));
#endif
    return rc;
}

int takt_udp_options(takt_frame *frame, int fd, const takt_udp *options)
{
    takt_addr own;
    int rc = takt_sockname(frame, fd, &own);
    const bool in6 = takt__family(&own) == AF_INET6;
    rc = takt__option(frame, rc, fd, SOL_SOCKET, SO_RCVBUF, options->receive_buffer);
    rc = takt__option(frame, rc, fd, SOL_SOCKET, SO_SNDBUF, options->send_buffer);
#if defined(IP_PKTINFO) && defined(IPV6_RECVPKTINFO)
    rc = in6 ? takt__option(frame, rc, fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, options->local_address)
             : takt__option(frame, rc, fd, IPPROTO_IP, IP_PKTINFO, options->local_address);
#else
    rc = rc == 0 && options->local_address ? -ENOTSUP : rc;
#endif
#if defined(IP_RECVTOS) && defined(IPV6_RECVTCLASS)
    if (rc == 0 && in6 && options->ecn) /* for IPv4 on the same socket, where it is served */
        takt_setsockopt(frame, fd, IPPROTO_IP, IP_RECVTOS, 1);
    rc = in6 ? takt__option(frame, rc, fd, IPPROTO_IPV6, IPV6_RECVTCLASS, options->ecn)
             : takt__option(frame, rc, fd, IPPROTO_IP, IP_RECVTOS, options->ecn);
#else
    rc = rc == 0 && options->ecn ? -ENOTSUP : rc;
#endif
#if defined(__linux__)
    return takt__option(frame, rc, fd, IPPROTO_UDP, TAKT__UDP_GRO, options->gro);
#else
    (void)in6;
    return rc == 0 && options->gro ? -ENOTSUP : rc;
#endif
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
 * >>pipes-impl
 *
 * splice(2) from socket to socket goes through a pipe. One is taken when there may be
 * something to move, and given back at once when it is empty again, so that a few serve all;
 * one that is not empty is closed, never given back: nobody may find another's bytes in it.
 * ======================================================================== */

enum {
    TAKT__PIPES_MOST = 256,
    TAKT__PIPE_BYTES = 256 * 1024,  /* asked for: the best of 64 KiB to 1 MiB, measured; */
    TAKT__PIPE_FEWEST = 64 * 1024   /* granted at least: below, to copy is as fast */
};

struct takt_pipe {
    int in, out;
    uint32_t size; /* bytes; 0: it is not there */
    uint32_t held; /* of them in use */
    struct takt_pipe *next;
};

/* What there is no memory for is done without. */
static void takt__pipes_init(takt_pipes *pipes, int descriptors)
{
    const uint32_t count = (uint32_t)descriptors / 16;
    memset(pipes, 0, sizeof *pipes);
    pipes->count = count < TAKT__PIPES_MOST ? count : (uint32_t)TAKT__PIPES_MOST;
    pipes->at = (struct takt_pipe *)TAKT_CALLOC(pipes->count ? pipes->count : 1,
                                                sizeof *pipes->at);
    if (!pipes->at)
        pipes->count = 0;
}

static void takt__pipe_close(struct takt_pipe *pipe)
{
    if (pipe->size) {
        close(pipe->in);
        close(pipe->out);
    }
    pipe->size = pipe->held = 0;
}

static void takt__pipes_free(takt_pipes *pipes)
{
    for (uint32_t i = 0; i < pipes->fresh; i++)
        takt__pipe_close(&pipes->at[i]);
    TAKT_FREE(pipes->at);
    memset(pipes, 0, sizeof *pipes);
}

/* Makes a pipe, of the size that is good or that this user may have. */
static bool takt__pipe_open(struct takt_pipe *pipe)
{
#if defined(__linux__)
    int ends[2], size;
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return false;
    pipe->out = ends[0];
    pipe->in = ends[1];
    size = fcntl(ends[1], F_SETPIPE_SZ, (int)TAKT__PIPE_BYTES);
    if (size < 0)
        size = fcntl(ends[1], F_GETPIPE_SZ);
    pipe->size = size > 0 ? (uint32_t)size : 1;
    if (size >= TAKT__PIPE_FEWEST)
        return true;
    takt__pipe_close(pipe);
#else
    (void)pipe;
#endif
    return false;
}

/* An empty pipe, or NULL. */
static struct takt_pipe *takt__pipe_take(takt_pipes *pipes)
{
    struct takt_pipe *pipe = pipes->free;
    if (pipe)
        pipes->free = pipe->next;
    else if (pipes->fresh < pipes->count)
        pipe = &pipes->at[pipes->fresh++];
    else
        return NULL;
    pipes->in_use++;
    if (pipe->size || takt__pipe_open(pipe))
        return pipe;
    pipes->in_use--;
    pipe->next = pipes->free;
    pipes->free = pipe;
    return NULL;
}

/* Back, or closed if it is not empty. */
static void takt__pipe_put(takt_pipes *pipes, struct takt_pipe *pipe)
{
    if (pipe->held)
        takt__pipe_close(pipe);
    pipe->next = pipes->free;
    pipes->free = pipe;
    pipes->in_use--;
}

/* splice(2); it does not wait. Bytes, or an error. */
static int64_t takt__splice_call(int from, int to, uint32_t len)
{
#if defined(__linux__)
    const unsigned flags = SPLICE_F_MOVE | SPLICE_F_NONBLOCK;
    int64_t n;
    do
        n = takt__answer(splice(from, NULL, to, NULL, len, flags));
    while (n == -EINTR);
    return n == -EWOULDBLOCK ? -EAGAIN : n;
#else
    (void)from;
    (void)to;
    (void)len;
    return -ENOSYS;
#endif
}

enum { /* takt_pipes.guard */
    TAKT__UNGUARDED,
    TAKT__GUARD_NOT_NEEDED, /* somebody ignores or blocks it */
    TAKT__GUARDED_BY_US
};

/* splice(2) cannot be told not to raise SIGPIPE: it is blocked, where it would be more than
 * noise, from the first splice of a poll to the end of that. */
static void takt__pipes_guard(takt_pipes *pipes)
{
    struct sigaction action;
    sigset_t raised, before;
    if (pipes->guard != TAKT__UNGUARDED)
        return;
    pipes->guard = TAKT__GUARD_NOT_NEEDED;
    if (sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_IGN)
        return;
    sigemptyset(&raised);
    sigaddset(&raised, SIGPIPE);
    if (sigprocmask(SIG_BLOCK, &raised, &before) == 0 && !sigismember(&before, SIGPIPE))
        pipes->guard = TAKT__GUARDED_BY_US;
}

static void takt__pipes_unguard(takt_pipes *pipes)
{
    sigset_t raised;
    if (pipes->guard == TAKT__GUARDED_BY_US) {
        sigemptyset(&raised);
        sigaddset(&raised, SIGPIPE);
        sigprocmask(SIG_UNBLOCK, &raised, NULL);
    }
    pipes->guard = TAKT__UNGUARDED;
}

/* splice(2) into a socket. Where that has failed, maybe after some bytes, the signal that it
 * may have raised is taken away. */
static int64_t takt__splice_out(takt_pipes *pipes, int from, int to, uint32_t len)
{
    int64_t n;
    takt__pipes_guard(pipes);
    n = takt__splice_call(from, to, len);
#if defined(__linux__)
    if (n != (int64_t)len && n != -EAGAIN && pipes->guard == TAKT__GUARDED_BY_US) {
        const struct timespec at_once = {0, 0};
        sigset_t raised;
        sigemptyset(&raised);
        sigaddset(&raised, SIGPIPE);
        sigtimedwait(&raised, NULL, &at_once);
    }
#endif
    return n;
}

/* True if `op` has something to hand on, and so waits for that; else it waits for more. */
static bool takt__splice_holds(const takt_op *op)
{
    return *(struct takt_pipe *const *)op->buf != NULL;
}

/* splice(2) stops at urgent data and says that nothing comes, or even that this is the end.
 * Then what is behind it has to be received. */
static int64_t takt__splice_end(int fd)
{
    char byte;
    const int64_t n = takt__answer(recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT));
    return n > 0 ? -ENOBUFS : n == -ECONNRESET ? n : 0;
}

/* One move of a splice. Bytes handed on, 0 at the end, -EAGAIN: it has to wait; or an error.
 * What the system is told to write is never above what the pipe holds: older ones would take
 * that for the promise of more to come, and wait for it. */
static int64_t takt__splice_move(takt_pipes *pipes, const takt_op *op)
{
    struct takt_pipe **const at = (struct takt_pipe **)op->buf;
    struct takt_pipe *pipe = *at;
    int64_t n;
    if (!pipe) {
        pipe = takt__pipe_take(pipes);
        if (!pipe)
            return -ENOBUFS;
        n = takt__splice_call(op->fd, pipe->in, pipe->size);
        if (n <= 0) {
            takt__pipe_put(pipes, pipe);
            return n ? n : takt__splice_end(op->fd);
        }
        pipe->held = (uint32_t)n;
        *at = pipe;
    }
    n = takt__splice_out(pipes, pipe->out, (int)op->extra, pipe->held);
    if (n <= 0)
        return n ? n : -EPIPE;
    pipe->held -= (uint32_t)n;
    if (!pipe->held) {
        takt__pipe_put(pipes, pipe);
        *at = NULL;
    }
    return n;
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
    TAKT__QUEUED = 32,   /* in the list of those to try */
    TAKT__BYTES = 64,    /* a stream of bytes: a short read has taken all there was */
    TAKT__PACKETS = 128, /* each read takes one message, or what came with the same rights over a
                          * Unix socket, or stops at urgent data, and says nothing of the next */
    TAKT__RESET = 256    /* the peer has broken the connection: the system tells that once */
};

enum { /* takt_op.state */
    TAKT__IDLE_OP,
    TAKT__WAITING,
    TAKT__NO_BUFFERS, /* in the line of a pool */
    TAKT__DONE,
    TAKT__ITEM,      /* of those that complete many times: done, but goes on after that; */
    TAKT__ITEM_LAST, /* or ends after that, with op.extra; */
    TAKT__EDGE,      /* waits for the next edge, whatever the hints say; */
    TAKT__LATER      /* waits for descriptors or memory */
};

enum {
    TAKT__AT_MOST = 1 << 30, /* bytes a system call */
    TAKT__TIMER = -1         /* stands for the timer among the descriptors of epoll */
};

const char *takt_posix_name(const takt_posix *posix)
{
    return posix->epoll >= 0 ? "epoll" : "poll";
}

int takt_posix_init(takt_posix *posix, const takt_posix_config *config, const takt_slots *slots)
{
    int rc;
    memset(posix, 0, sizeof *posix);
    posix->epoll = -1;
    posix->timer = -1;
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
    if (rc == 0)
        takt__pipes_init(&posix->pipes, posix->fds.count);
    else
        takt_posix_free(posix);
    return rc;
}

/* Items that nobody took: what they carry must not be lost. */
static void takt__posix_orphans(takt_posix *posix)
{
    for (takt_op *op = posix->done_first; op; op = op->next) {
        if (op->state != TAKT__ITEM && op->state != TAKT__ITEM_LAST)
            continue;
        if (op->kind == TAKT_OP_ACCEPT)
            close((int)op->result);
        else if (op->kind != TAKT_OP_READY)
            takt_bufs_put((takt_bufs *)op->arg.ptr, (unsigned char **)&op->buf);
    }
    posix->done_first = NULL;
}

void takt_posix_free(takt_posix *posix)
{
    takt__posix_orphans(posix);
    if (posix->epoll >= 0) {
        close(posix->epoll);
        if (posix->timer >= 0)
            close(posix->timer);
    }
    posix->epoll = -1;
    takt__pipes_free(&posix->pipes);
    TAKT_FREE(posix->polls);
    TAKT_FREE(posix->run_next);
    takt_fds_free(&posix->fds);
    posix->polls = NULL;
    posix->run_next = NULL;
}

#ifndef TAKT_CLOCK
static takt_ns takt__clock(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (takt_ns)ts.tv_sec * TAKT_SEC + ts.tv_nsec;
}
#define TAKT_CLOCK() takt__clock()
#endif

takt_ns takt_posix_now(takt_posix *posix)
{
    (void)posix;
    return TAKT_CLOCK();
}

/* Of every backend: `op` has failed with -ECONNRESET. Whoever reads next has to learn it too. */
static void takt__note_reset(takt_fds *fds, const takt_op *op)
{
    int fd = op->fd;
    if (op->kind == TAKT_OP_SPLICE && takt__splice_holds(op))
        fd = (int)op->extra;
    else if (op->kind != TAKT_OP_RECV && op->kind != TAKT_OP_SEND && op->kind != TAKT_OP_LEASE &&
             op->kind != TAKT_OP_SEND_LEASE && op->kind != TAKT_OP_SPLICE)
        return;
    fds->at[fd].bits |= TAKT__RESET;
}

/* Reading said: the end. But where the peer has broken the connection, and somebody else was
 * told, this is no clean one. `suspect`: that may be. A Unix socket has no such state, and says
 * so. */
static int64_t takt__end_of_stream(int fd, bool suspect)
{
#if defined(TCP_INFO) && defined(__linux__)
    uint8_t state = 0;
    socklen_t len = sizeof state;
    if (suspect && getsockopt(fd, IPPROTO_TCP, TCP_INFO, &state, &len) == 0 && state == TCP_CLOSE)
        return -ECONNRESET;
#else
    (void)fd;
    (void)suspect;
#endif
    return 0;
}

/* -- lists ----------------------------------------------------------------- */

static void takt__posix_append(takt_posix *posix, takt_op *op)
{
    op->next = NULL;
    if (posix->done_first)
        posix->done_last->next = op;
    else
        posix->done_first = op;
    posix->done_last = op;
}

static void takt__posix_done(takt_posix *posix, takt_op *op, int64_t result)
{
    if (TAKT__UNLIKELY(result == -ECONNRESET))
        takt__note_reset(&posix->fds, op);
    takt_fds_leave(&posix->fds, op);
    op->result = result;
    op->state = TAKT__DONE;
    takt__posix_append(posix, op);
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
 * >>many-impl
 *
 * What the backends share for ops that complete many times: which of them there are,
 * which errors they outlive, and how a datagram is laid out in its buffer.
 * ======================================================================== */

enum {
    TAKT__HEAD = 256,             /* bytes before the payload of a datagram */
    TAKT__NAME = 112,             /* of these, for its sender's address */
    TAKT__CONTROLS = 128,         /* of these, for what the kernel says of it */
    TAKT__LATER_MS = 100,         /* until what lacked descriptors or memory is tried again, */
    TAKT__SOON_MS = 10,           /* and what was told to be ready and is not */
    TAKT__AT_ONCE = 64            /* tries in a row */
};

/* What to do after an error. */
typedef enum takt__verdict { TAKT__ENDS, TAKT__NOW, TAKT__AFTER_A_WHILE } takt__verdict;

/* 0, or why `op` cannot complete many times. */
static int takt__many_check(const takt_op *op)
{
    const takt_bufs *const bufs = (const takt_bufs *)op->arg.ptr;
    switch (op->kind) {
    case TAKT_OP_ACCEPT:
    case TAKT_OP_READY:
        return 0;
    case TAKT_OP_LEASE:
        return bufs ? 0 : -EINVAL;
    case TAKT_OP_RECVMSG:
        return bufs && bufs->size > TAKT__HEAD && bufs->size % 8 == 0 ? 0 : -EINVAL;
    default:
        return -ENOTSUP;
    }
}

/* Errors of a single connection or datagram; and those that pass with time. Anything else
 * is the end. */
static takt__verdict takt__many_verdict(const takt_op *op, int64_t error)
{
    const bool one_of_many = op->kind == TAKT_OP_ACCEPT || op->kind == TAKT_OP_RECVMSG;
    switch (-error) {
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
        return TAKT__AFTER_A_WHILE;
    case EPERM: /* a firewall; it may be a filter of system calls too */
        return one_of_many ? TAKT__AFTER_A_WHILE : TAKT__ENDS;
    case ECONNABORTED:
    case ECONNREFUSED:
    case ECONNRESET:
    case EACCES:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case EMSGSIZE:
    case ENETDOWN:
    case ENETUNREACH:
    case ENOPROTOOPT:
    case EPROTO:
    case ETIMEDOUT:
        return one_of_many ? TAKT__NOW : TAKT__ENDS;
    default:
        return TAKT__ENDS;
    }
}

/* True if nothing more will be read from `fd`: an empty datagram looks the same. */
static bool takt__no_more(int fd)
{
#if defined(POLLRDHUP)
    struct pollfd now;
    now.fd = fd;
    now.events = POLLRDHUP;
    now.revents = 0;
    return poll(&now, 1, 0) == 1 && now.revents & (POLLRDHUP | POLLHUP | POLLNVAL);
#else
    (void)fd;
    return false;
#endif
}

/* The address that a datagram was sent to. */
static void takt__many_hit(takt_addr *to, const struct cmsghdr *c)
{
#if defined(IP_PKTINFO) && defined(IPV6_PKTINFO)
    if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
        struct in_pktinfo info;
        struct sockaddr_in in4;
        memcpy(&info, CMSG_DATA(c), sizeof info);
        memset(&in4, 0, sizeof in4);
        in4.sin_family = AF_INET;
        in4.sin_addr = info.ipi_addr;
        to->len = sizeof in4;
        memcpy(&to->sockaddr, &in4, sizeof in4);
    } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
        struct in6_pktinfo info;
        struct sockaddr_in6 in6;
        memcpy(&info, CMSG_DATA(c), sizeof info);
        memset(&in6, 0, sizeof in6);
        in6.sin6_family = AF_INET6;
        in6.sin6_addr = info.ipi6_addr;
        if (IN6_IS_ADDR_LINKLOCAL(&in6.sin6_addr))
            in6.sin6_scope_id = (uint32_t)info.ipi6_ifindex;
        to->len = sizeof in6;
        memcpy(&to->sockaddr, &in6, sizeof in6);
    }
#else
    (void)to;
    (void)c;
#endif
}

/* CMSG_NXTHDR(), which not every libc has without a warning. */
static struct cmsghdr *takt__control_after(const struct msghdr *message, struct cmsghdr *c)
{
    const char *const end = (const char *)message->msg_control + message->msg_controllen;
    const size_t left = (size_t)(end - (char *)c);
    size_t size;
    if (c->cmsg_len < CMSG_LEN(0) || c->cmsg_len > left)
        return NULL;
    size = CMSG_SPACE(c->cmsg_len - CMSG_LEN(0));
    if (left < size + sizeof *c)
        return NULL;
    return (struct cmsghdr *)(void *)((char *)c + size);
}

/* What the kernel says of a datagram beside its payload and its sender. */
static void takt__many_controls(takt_datagram *d, struct msghdr *message)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = takt__control_after(message, c)) {
        int value = 0;
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS) {
            d->ecn = *CMSG_DATA(c) & 3;
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS) {
            memcpy(&value, CMSG_DATA(c), sizeof value);
            d->ecn = (uint8_t)(value & 3);
        } else if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == TAKT__UDP_GRO) {
            memcpy(&value, CMSG_DATA(c), sizeof value);
            d->segment = value > 0 && value <= UINT16_MAX ? (uint16_t)value : 0;
        } else {
            takt__many_hit(&d->to, c);
        }
    }
}

/* Receives one datagram into the buffer at `data`. Its length; or -ENODATA: there will be
 * no more; or an error. */
static int64_t takt__many_receive(int fd, unsigned char *data, uint32_t size)
{
    takt_datagram *const d = (takt_datagram *)(void *)data;
    union {
        struct cmsghdr align;
        unsigned char bytes[TAKT__CONTROLS];
    } controls;
    struct msghdr message;
    struct iovec piece;
    int64_t n;
    memset((void *)d, 0, sizeof *d);
    memset(&message, 0, sizeof message);
    piece.iov_base = data + TAKT__HEAD;
    piece.iov_len = size - TAKT__HEAD;
    message.msg_name = takt__sockaddr(&d->from);
    message.msg_namelen = sizeof d->from.sockaddr;
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = controls.bytes;
    message.msg_controllen = sizeof controls;
    n = takt__answer(recvmsg(fd, &message, MSG_DONTWAIT));
    if (n < 0)
        return n;
    if (n == 0 && message.msg_namelen == 0 && takt__no_more(fd))
        return -ENODATA;
    d->data = data + TAKT__HEAD;
    d->len = (uint32_t)n;
    d->truncated = (message.msg_flags & MSG_TRUNC) != 0;
    d->from.len = message.msg_namelen < sizeof d->from.sockaddr
                      ? (uint32_t)message.msg_namelen
                      : (uint32_t)sizeof d->from.sockaddr;
    takt__many_controls(d, &message);
    return n;
}

/* ==========================================================================
 * >>burst-impl
 *
 * Many datagrams at a time. What can go as one request goes as one.
 * ======================================================================== */

enum {
    TAKT__BURST = 32,           /* requests in a system call, */
    TAKT__BURST_PIECES = 128,   /* datagrams in them; */
    TAKT__SEGMENTS = 64,        /* datagrams in a request, */
    TAKT__SEGMENTS_BYTES = 65000, /* and their bytes */
    TAKT__UDP_SEGMENT = 103     /* of linux/udp.h */
};

#if !defined(__linux__)
struct mmsghdr {
    struct msghdr msg_hdr;
    unsigned msg_len;
};
#endif

/* What a system call is given. */
typedef struct takt__burst {
    struct mmsghdr messages[TAKT__BURST];
    struct iovec pieces[TAKT__BURST_PIECES];
    uint32_t lengths[TAKT__BURST]; /* datagrams in each */
    uint64_t controls[TAKT__BURST][8]; /* words: aligned as a cmsghdr must be */
    uint32_t count, pieces_count;
} takt__burst;

static bool takt__burst_alike(const takt_addr *a, const takt_addr *b)
{
    return a == b ||
           (a && b && a->len == b->len && memcmp(&a->sockaddr, &b->sockaddr, a->len) == 0);
}

/* How many of `count` datagrams can be one request. */
static uint32_t takt__burst_run(const takt_packet *packets, size_t count, bool segments)
{
    const takt_packet *const first = packets;
    uint64_t bytes = first->len;
    uint32_t run = 1;
    if (!segments || first->len == 0)
        return 1;
    while (run < count && run < TAKT__SEGMENTS && packets[run].len > 0 &&
           packets[run].len <= first->len && packets[run - 1].len == first->len &&
           bytes + packets[run].len <= TAKT__SEGMENTS_BYTES &&
           takt__burst_alike(first->to, packets[run].to) &&
           takt__burst_alike(first->from, packets[run].from))
        bytes += packets[run++].len;
    return run;
}

/* Puts a control message behind those in `header`. */
static void takt__burst_control(struct msghdr *header, int level, int type, const void *data,
                                size_t size)
{
    struct cmsghdr *const c =
        (struct cmsghdr *)(void *)((char *)header->msg_control + header->msg_controllen);
    c->cmsg_level = level;
    c->cmsg_type = type;
    c->cmsg_len = (socklen_t)CMSG_LEN(size); /* the types differ from system to system */
    memcpy(CMSG_DATA(c), data, size);
    header->msg_controllen += (socklen_t)CMSG_SPACE(size);
}

/* The address to leave from. */
static void takt__burst_from(struct msghdr *header, const takt_addr *from)
{
#if defined(IP_PKTINFO) && defined(IPV6_PKTINFO)
    if (takt__family(from) == AF_INET) {
        struct sockaddr_in in4;
        struct in_pktinfo info;
        memcpy(&in4, &from->sockaddr, sizeof in4);
        memset(&info, 0, sizeof info);
        info.ipi_spec_dst = in4.sin_addr;
        takt__burst_control(header, IPPROTO_IP, IP_PKTINFO, &info, sizeof info);
    } else if (takt__family(from) == AF_INET6) {
        struct sockaddr_in6 in6;
        struct in6_pktinfo info;
        memcpy(&in6, &from->sockaddr, sizeof in6);
        memset(&info, 0, sizeof info);
        info.ipi6_addr = in6.sin6_addr;
        info.ipi6_ifindex = in6.sin6_scope_id;
        takt__burst_control(header, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof info);
    }
#else
    (void)header;
    (void)from;
#endif
}

/* Adds `run` datagrams as one request. */
static void takt__burst_add(takt__burst *b, const takt_packet *packets, uint32_t run)
{
    struct msghdr *const header = &b->messages[b->count].msg_hdr;
    memset(&b->messages[b->count], 0, sizeof b->messages[b->count]);
    header->msg_iov = &b->pieces[b->pieces_count];
    for (uint32_t i = 0; i < run; i++) {
        b->pieces[b->pieces_count].iov_base = (void *)(uintptr_t)packets[i].data;
        b->pieces[b->pieces_count++].iov_len = packets[i].len;
        header->msg_iovlen++; /* its type is not the same everywhere */
    }
    if (packets->to) {
        header->msg_name = (void *)(uintptr_t)&packets->to->sockaddr;
        header->msg_namelen = packets->to->len;
    }
    if (run > 1 || (packets->from && packets->from->len)) {
        const uint16_t size = (uint16_t)packets->len;
        memset(&b->controls[b->count], 0, sizeof b->controls[b->count]);
        header->msg_control = b->controls[b->count];
        if (packets->from)
            takt__burst_from(header, packets->from);
        if (run > 1)
            takt__burst_control(header, IPPROTO_UDP, TAKT__UDP_SEGMENT, &size, sizeof size);
        if (header->msg_controllen == 0)
            header->msg_control = NULL;
    }
    b->lengths[b->count++] = run;
}

/* Requests sent, or an error of the first. */
static int takt__burst_call(int fd, takt__burst *b)
{
#if defined(__linux__)
    const int n = sendmmsg(fd, b->messages, b->count, TAKT__SEND_FLAGS);
#else
    const int n = sendmsg(fd, &b->messages[0].msg_hdr, TAKT__SEND_FLAGS) < 0 ? -1 : 1;
#endif
    return n < 0 ? -errno : n;
}

/* Others than UDP pass over what they are told of segments, and send all as one. */
static bool takt__burst_segments(int fd)
{
#if defined(SO_PROTOCOL)
    int protocol = 0;
    socklen_t len = sizeof protocol;
    return getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) == 0 &&
           protocol == IPPROTO_UDP;
#else
    (void)fd;
    return false;
#endif
}

/* Sends what of `op` is left. Its result; or -EAGAIN: the socket is full. */
static int64_t takt__try_burst(takt_posix *posix, takt_op *op)
{
    takt_packet *const packets = (takt_packet *)op->buf;
    bool segments = op->len - op->arg.done > 1 && posix->no_segments == 0, asked = false;
    size_t single = 0; /* what stands before goes one by one */
    takt__burst b;
    while (op->arg.done < op->len) {
        takt_packet *at = packets + op->arg.done;
        int n;
        b.count = b.pieces_count = 0;
        for (size_t next = (size_t)op->arg.done; next < op->len && b.count < TAKT__BURST;) {
            uint32_t run =
                takt__burst_run(packets + next, op->len - next, segments && next >= single);
            if (run > 1 && !asked && !takt__burst_segments(op->fd)) {
                segments = false;
                run = 1;
            }
            asked |= run > 1; /* once, and not where each peer gets one */
            if (run > TAKT__BURST_PIECES - b.pieces_count)
                break;
            takt__burst_add(&b, packets + next, run);
            next += run;
        }
        n = takt__burst_call(op->fd, &b);
        if (n == -EINTR)
            continue;
        if (n == -EAGAIN || n == -EWOULDBLOCK)
            return -EAGAIN;
        if (n == -EBADF || n == -ENOTSOCK)
            return n;
        if (n < 0 && b.lengths[0] > 1) { /* are they too long for this way, or can it never be? */
            if (n == -EIO || n == -ENOPROTOOPT || n == -EOPNOTSUPP) {
                posix->no_segments = n;
                segments = false;
            }
            single = (size_t)op->arg.done + b.lengths[0];
            continue;
        }
        for (int i = 0; i < (n < 0 ? 1 : n); i++) {
            for (uint32_t k = 0; k < b.lengths[i]; k++, at++)
                at->error = n < 0 ? n : 0;
            op->arg.done += b.lengths[i];
            op->extra += n < 0 ? 0 : b.lengths[i];
        }
    }
    return op->extra;
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
    while (done >= iov->iov_len) {
        done -= iov->iov_len;
        iov++;
        left--;
        TAKT_ASSERT(left > 0 && "there are bytes left");
    }
    part->iov_base = (char *)iov->iov_base + done;
    part->iov_len = iov->iov_len - (size_t)done;
    *rest = iov + 1;
    return left - 1;
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
        message.msg_iovlen = (uint16_t)(op->len < 1024 ? op->len : 1024); /* its type varies */
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

/* A read got less than it had room for. */
static void takt__fell_short(takt_fd *entry, int fd)
{
    int type = 0;
    socklen_t len = sizeof type;
    if (!(entry->bits & (TAKT__BYTES | TAKT__PACKETS))) {
        struct sockaddr_storage addr;
        socklen_t addr_len = sizeof addr;
        const bool bytes = getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 &&
                           type == SOCK_STREAM &&
                           getsockname(fd, (struct sockaddr *)&addr, &addr_len) == 0 &&
                           addr.ss_family != AF_UNIX;
        entry->bits |= bytes ? TAKT__BYTES : TAKT__PACKETS;
    }
    if ((entry->bits & (TAKT__BYTES | TAKT__PACKETS | TAKT__HUNG_UP)) == TAKT__BYTES)
        entry->bits &= ~(uint32_t)TAKT__MAY_READ;
}

/* send and recv, until all is done where that was asked for. */
static int64_t takt__try_stream(takt_fd *entry, takt_op *op, bool sending)
{
    const uint64_t bytes = takt__op_bytes(op);
    for (;;) {
        const int64_t n = takt__try_bytes(op, sending);
        if (n < 0)
            return n;
        if (n == 0 && op->flags & TAKT_OP_ALL)
            return TAKT_ETRUNCATED;
        if (n == 0)
            return takt__end_of_stream(op->fd, entry->bits & TAKT__RESET);
        if (!(op->flags & TAKT_OP_ALL)) {
            if ((uint64_t)n < bytes && !(op->bits & MSG_PEEK)) /* which leaves it all there */
                takt__fell_short(entry, op->fd);
            return n;
        }
        op->arg.done += (uint64_t)n;
        if (op->arg.done == bytes)
            return (int64_t)bytes;
    }
}

static int64_t takt__try_handed(takt_op *op)
{
    while (op->len) {
        const int64_t n = takt__answer(send(op->fd, op->buf, takt__clamp(op->len),
                                            TAKT__SEND_FLAGS));
        if (n < 0)
            return n;
        if (n == 0)
            return TAKT_ETRUNCATED;
        takt__handed_sent(op, (size_t)n);
    }
    return op->extra;
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

/* A buffer for `op`, whose turn it is if it stood in the pool's line; else it comes behind those
 * who do. NULL: it does now. */
static unsigned char *takt__take_in_turn(takt_posix *posix, takt_op *op)
{
    takt_bufs *const bufs = (takt_bufs *)op->arg.ptr;
    const bool turn = op->state == TAKT__NO_BUFFERS || !bufs->waiting;
    unsigned char *const data = turn ? takt_bufs_take(bufs) : NULL;
    op->state = data ? TAKT__WAITING : TAKT__NO_BUFFERS;
    if (!data)
        takt__bufs_wait(bufs, op, &posix->starved);
    return data;
}

static int64_t takt__try_lease(takt_posix *posix, takt_fd *entry, takt_op *op)
{
    takt_bufs *const bufs = (takt_bufs *)op->arg.ptr;
    unsigned char *data = takt__take_in_turn(posix, op);
    int64_t n;
    if (!data)
        return -EAGAIN;
    n = takt__answer(recv(op->fd, data, bufs->size, MSG_DONTWAIT));
    if (n <= 0) {
        takt_bufs_put(bufs, &data);
        return n ? n : takt__end_of_stream(op->fd, entry->bits & TAKT__RESET);
    }
    if ((uint64_t)n < bufs->size)
        takt__fell_short(entry, op->fd);
    if (op->flags & TAKT_OP_MULTI)
        op->buf = data;
    else
        *(unsigned char **)op->buf = data;
    return n;
}

static int64_t takt__try_recvmsg(takt_posix *posix, const takt_fd *entry, takt_op *op)
{
    takt_bufs *const bufs = (takt_bufs *)op->arg.ptr;
    unsigned char *data = takt__take_in_turn(posix, op);
    int64_t n;
    if (!data)
        return -EAGAIN;
    n = takt__many_receive(op->fd, data, bufs->size);
    if (n >= 0) {
        op->buf = data;
        return n;
    }
    takt_bufs_put(bufs, &data);
    if (n == -EAGAIN && (entry->bits & TAKT__HUNG_UP || posix->epoll < 0) && takt__no_more(op->fd))
        return -ENODATA;
    return n;
}

static int64_t takt__try_file(const takt_op *op)
{
    const size_t len = takt__clamp(op->len);
    const off_t offset = (off_t)op->arg.offset;
    const bool reads = op->kind == TAKT_OP_READ;
    int64_t n = -ESPIPE; /* what has no position does without */
    if (offset >= 0)
        n = takt__answer(reads ? pread(op->fd, op->buf, len, offset)
                               : pwrite(op->fd, op->buf, len, offset));
    return n != -ESPIPE ? n
                        : takt__answer(reads ? read(op->fd, op->buf, len)
                                             : write(op->fd, op->buf, len));
}

static int64_t takt__try_ready(const takt_op *op)
{
    struct pollfd now;
    now.fd = op->fd;
    now.events = (short)op->bits;
    now.revents = 0;
    if (poll(&now, 1, 0) < 0)
        return -errno;
    return now.revents & POLLNVAL ? -EBADF : now.revents ? now.revents : -EAGAIN;
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
    case TAKT_OP_SEND_LEASE:
        return takt__try_handed(op);
    case TAKT_OP_RECVFROM:
        return takt__try_datagram(op, false);
    case TAKT_OP_SENDTO:
        return takt__try_datagram(op, true);
    case TAKT_OP_BURST:
        return takt__try_burst(posix, op);
    case TAKT_OP_LEASE:
        return takt__try_lease(posix, entry, op);
    case TAKT_OP_RECVMSG:
        return takt__try_recvmsg(posix, entry, op);
    case TAKT_OP_READ:
    case TAKT_OP_WRITE:
        return takt__try_file(op);
    case TAKT_OP_READY:
        return takt__try_ready(op);
    default: /* TAKT_OP_SIGNAL */
        return takt__read_signal(op->fd);
    }
}

/* ==========================================================================
 * >>wait-impl
 *
 * What waits for which descriptor: submit and cancel of the portable backend.
 * ======================================================================== */

#if defined(TAKT__EPOLL)
static struct epoll_event takt__posix_all(int fd)
{
    struct epoll_event event;
    memset(&event, 0, sizeof event);
    event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET;
    event.data.fd = fd;
    return event;
}
#endif

/* Tells epoll of a descriptor, of which is not known yet what would succeed. 0, or why that
 * cannot be. */
static int takt__posix_watch(takt_posix *posix, int fd, takt_fd *entry)
{
#if defined(TAKT__EPOLL)
    struct epoll_event event = takt__posix_all(fd);
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
    entry->bits |= TAKT__KNOWN | TAKT__MAY_READ | TAKT__MAY_WRITE;
    return 0;
}

/* Before somebody waits for a descriptor that may be a foreign library's: that may have closed
 * it since, and opened another of its number, of which epoll was not told. */
static void takt__posix_recall(takt_posix *posix, int fd, takt_fd *entry)
{
#if defined(TAKT__EPOLL)
    struct epoll_event event = takt__posix_all(fd);
    if (posix->epoll >= 0 && entry->bits & TAKT__KNOWN &&
        epoll_ctl(posix->epoll, EPOLL_CTL_MOD, fd, &event) < 0)
        entry->bits &= TAKT__QUEUED;
#else
    (void)posix;
    (void)fd;
    (void)entry;
#endif
}

/* What some need after they are over: a connect the descriptor, or its end; and what was
 * handed over goes back. */
static int64_t takt__posix_settle(takt_posix *posix, takt_op *op, int64_t result)
{
    const int fd = op->fd;
    if (op->kind == TAKT_OP_SEND_LEASE)
        takt__handed_back((takt_bufs *)op->arg.ptr, takt__handed_index(op));
    if (op->kind != TAKT_OP_DIAL || fd < 0)
        return result;
    if (result == 0 && takt__met_itself(fd, (const takt_addr *)op->arg.ptr))
        result = TAKT_ESELF;
    takt_fds_leave(&posix->fds, op);
    if (result == 0)
        return fd;
    posix->fds.at[fd].bits &= TAKT__QUEUED;
    close(fd);
    posix->later_now = true;
    op->fd = -1;
    return result;
}

/* -- ops that complete many times --------------------------------------------
 *
 * Each keeps its place in the table of descriptors. What it has to hand out stands in the
 * list of those done, one item at a time, so that nobody starves the others.
 */

/* Makes the timer that wakes whoever sleeps on the backend's descriptor. */
static void takt__posix_timer(takt_posix *posix)
{
#if defined(TAKT__EPOLL)
    struct epoll_event event;
    if (posix->epoll < 0 || posix->timer >= 0)
        return;
    memset(&event, 0, sizeof event);
    event.events = EPOLLIN | EPOLLET;
    event.data.fd = TAKT__TIMER;
    posix->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (posix->timer >= 0)
        epoll_ctl(posix->epoll, EPOLL_CTL_ADD, posix->timer, &event);
#else
    (void)posix;
#endif
}

/* `op` lacks descriptors or memory: it is tried again after a close, or after a while. */
static void takt__posix_later(takt_posix *posix, takt_op *op)
{
    op->state = TAKT__LATER;
    op->next = posix->later;
    if (!posix->later) {
        posix->later_until = takt_posix_now(posix) + TAKT__LATER_MS * TAKT_MS;
        posix->later_now = false;
#if defined(TAKT__EPOLL)
        struct itimerspec when;
        memset(&when, 0, sizeof when);
        when.it_value.tv_nsec = TAKT__LATER_MS * TAKT_MS;
        takt__posix_timer(posix);
        if (posix->timer >= 0)
            timerfd_settime(posix->timer, 0, &when, NULL);
#endif
    }
    posix->later = op;
}

/* True if those who wait for descriptors or memory are due. */
static bool takt__posix_later_due(takt_posix *posix)
{
    return posix->later && (posix->later_now || takt_posix_now(posix) >= posix->later_until);
}

static void takt__posix_run_later(takt_posix *posix)
{
    takt_op *op = posix->later;
    posix->later = NULL;
    while (op) {
        takt_op *const next = op->next;
        op->next = NULL;
        op->state = TAKT__WAITING;
        takt__posix_queue(posix, op->fd);
        op = next;
    }
}

/* Takes `op` out of the line of those who wait for descriptors or memory. */
static void takt__later_leave(takt_op **link, takt_op *op)
{
    while (*link != op)
        link = &(*link)->next;
    *link = op->next;
    op->next = NULL;
}

/* What `op`, of the kind that completes many times, has got: true if it lives on. */
static bool takt__posix_item(takt_posix *posix, takt_op *op, int64_t result)
{
    if (result < 0) {
        if (takt__many_verdict(op, result) == TAKT__ENDS)
            return false;
        takt__posix_later(posix, op);
        return true;
    }
    if (op->kind == TAKT_OP_LEASE && result == 0)
        return false;
    op->result = result;
    op->state = TAKT__ITEM;
    takt__posix_append(posix, op);
    return true;
}

static bool takt__posix_try(takt_posix *posix, takt_op *op, uint32_t hint);

/* The item of `op` was handed out: it goes on. The next datagrams are looked for at once, as
 * long as `more` lasts: those who answer can then do so in one call. */
static void takt__posix_go_on(takt_posix *posix, takt_op *op, int *more)
{
    op->state = op->kind == TAKT_OP_READY && posix->epoll >= 0 ? TAKT__EDGE : TAKT__WAITING;
    if (op->kind == TAKT_OP_RECVMSG && --*more > 0)
        takt__posix_try(posix, op, TAKT__MAY_READ);
    else if (op->kind != TAKT_OP_READY)
        takt__posix_queue(posix, op->fd);
}

/* Prepares for an op that completes many times. 0 or an error. */
static int takt__posix_begin(takt_posix *posix, takt_op *op)
{
    takt_fd *const entry = &posix->fds.at[op->fd];
    op->buf = NULL;
    if (op->kind == TAKT_OP_ACCEPT)
        takt__posix_timer(posix);
    if (op->kind == TAKT_OP_READY) { /* whether it was known or not, what holds is reported */
        const int rc = entry->bits & TAKT__KNOWN ? 0 : takt__posix_watch(posix, op->fd, entry);
        if (rc < 0 || posix->epoll < 0 || entry->bits & TAKT__ALWAYS)
            return rc;
        op->state = TAKT__EDGE;
    }
    return 0;
}

/* The hints under which it makes sense to try `op`, which is a reader. */
static uint32_t takt__posix_hints(const takt_op *op)
{
    return op->kind == TAKT_OP_READY && op->bits & TAKT_WRITABLE ? TAKT__MAY_READ | TAKT__MAY_WRITE
                                                                 : TAKT__MAY_READ;
}

/* -- trying ----------------------------------------------------------------- */

/* A read had to wait. Not on a socket for datagrams that was shut down: that is the end. `result`,
 * or what is true instead. What came just before that is read first. */
static int64_t takt__posix_wait_or_end(takt_posix *posix, takt_fd *entry, takt_op *op,
                                       int64_t result)
{
    if ((op->kind != TAKT_OP_RECV && op->kind != TAKT_OP_RECVFROM) ||
        !(entry->bits & TAKT__HUNG_UP || posix->epoll < 0) || !takt__no_more(op->fd))
        return result;
    result = takt__try(posix, entry, op);
    if (result != -EAGAIN)
        return result;
    return op->flags & TAKT_OP_ALL ? (int64_t)TAKT_ETRUNCATED : 0;
}

/* Tries `op`. True if it is over. */
static bool takt__posix_try(takt_posix *posix, takt_op *op, uint32_t hint)
{
    takt_fd *const entry = &posix->fds.at[op->fd];
    const bool many = (op->flags & TAKT_OP_MULTI) != 0;
    int tries = TAKT__AT_ONCE;
    int64_t result;
    do
        result = takt__try(posix, entry, op);
    while (result == -EINTR || (many && result < 0 && --tries > 0 &&
                                takt__many_verdict(op, result) == TAKT__NOW));
    if (result == -EAGAIN)
        result = takt__posix_wait_or_end(posix, entry, op, result);
    if ((result == -EAGAIN || (EAGAIN != EWOULDBLOCK && result == -EWOULDBLOCK)) &&
        !(entry->bits & TAKT__ALWAYS)) {
        int rc;
        if (op->state == TAKT__NO_BUFFERS)
            return false;
        rc = entry->bits & TAKT__KNOWN ? 0 : takt__posix_watch(posix, op->fd, entry);
        entry->bits &= ~hint;
        if (entry->bits & TAKT__ALWAYS) /* a file after all */
            return takt__posix_try(posix, op, hint);
        if (rc == 0)
            return false;
        result = rc;
    }
    if (many && takt__posix_item(posix, op, result))
        return false;
    if (many && result == -ENODATA)
        result = 0;
    takt__posix_done(posix, op, takt__posix_settle(posix, op, result));
    return true;
}

/* The descriptor that a splice waits for now, and the hint that it may succeed. */
static int takt__posix_side(const takt_op *op, uint32_t *hint)
{
    const bool out = takt__splice_holds(op);
    *hint = out ? TAKT__MAY_WRITE : TAKT__MAY_READ;
    return out ? (int)op->extra : op->fd;
}

/* True if `fd` is ready for `event`, and nothing else has happened. */
static bool takt__posix_ready(int fd, short event)
{
    struct pollfd now;
    now.fd = fd;
    now.events = event;
    now.revents = 0;
    return poll(&now, 1, 0) == 1 && now.revents == event;
}

/* A splice had to wait, though the side that it waits for is ready. Tries it again: it may
 * have become so just now. If not, something else is in the way. */
static int64_t takt__posix_splice_again(takt_posix *posix, takt_op *op)
{
    const bool held = takt__splice_holds(op);
    const int64_t result = takt__splice_move(&posix->pipes, op);
    if (result != -EAGAIN || takt__splice_holds(op) != held)
        return result;
    if (!held)
        return -ENOBUFS; /* urgent data */
    takt__posix_later(posix, op); /* TCP is short of memory */
    return -EAGAIN;
}

/* Tries a splice, where it may succeed. True if it is over. */
static bool takt__posix_splice(takt_posix *posix, takt_op *op)
{
    uint32_t hint;
    int fd = takt__posix_side(op, &hint);
    takt_fd *entry = &posix->fds.at[fd];
    int64_t result;
    int rc = 0;
    if (entry->bits & TAKT__KNOWN && !(entry->bits & (hint | TAKT__ALWAYS)))
        return false;
    result = takt__splice_move(&posix->pipes, op);
    fd = takt__posix_side(op, &hint); /* maybe the other one by now */
    if (result == -EAGAIN && takt__posix_ready(fd, hint == TAKT__MAY_READ ? POLLIN : POLLOUT))
        result = takt__posix_splice_again(posix, op);
    if (result == -EAGAIN && op->state == TAKT__WAITING) {
        fd = takt__posix_side(op, &hint);
        entry = &posix->fds.at[fd];
        if (fd >= posix->fd_limit)
            posix->fd_limit = fd + 1;
        if (!(entry->bits & TAKT__KNOWN))
            rc = takt__posix_watch(posix, fd, entry);
        entry->bits &= ~hint;
        if (rc < 0 || entry->bits & TAKT__ALWAYS)
            result = rc < 0 ? rc : -EINVAL; /* no socket */
    }
    if (result == -EAGAIN)
        return false;
    if (result == 0)
        result = takt__end_of_stream(op->fd, posix->fds.at[op->fd].bits & TAKT__RESET);
    takt__posix_done(posix, op, result);
    return true;
}

/* Tries those who wait to write, in order. */
static void takt__posix_run_writers(takt_posix *posix, int fd)
{
    const takt_fd *const entry = &posix->fds.at[fd];
    takt_op *op;
    while ((op = takt_fds_op(&posix->fds, entry->writer)) != NULL && op->state == TAKT__WAITING &&
           (!(entry->bits & TAKT__KNOWN) || entry->bits & (TAKT__MAY_WRITE | TAKT__ALWAYS)))
        if (!(op->kind == TAKT_OP_SPLICE ? takt__posix_splice(posix, op)
                                         : takt__posix_try(posix, op, TAKT__MAY_WRITE)))
            break;
}

/* Tries what waits on `fd`, where it may succeed. */
static void takt__posix_run(takt_posix *posix, int fd)
{
    const takt_fd *const entry = &posix->fds.at[fd];
    takt_op *const op = takt_fds_op(&posix->fds, entry->reader);
    if (op && op->kind == TAKT_OP_SPLICE && op->state == TAKT__WAITING)
        takt__posix_splice(posix, op);
    else if (op && op->state == TAKT__WAITING &&
             (!(entry->bits & TAKT__KNOWN) ||
              entry->bits & (takt__posix_hints(op) | TAKT__ALWAYS)))
        takt__posix_try(posix, op, takt__posix_hints(op));
    takt__posix_run_writers(posix, fd);
}

/* An edge, for an op that waits for each: one that is not yet handed out takes it in. */
static void takt__posix_edge(takt_op *op)
{
    int64_t now;
    if (op && op->state == TAKT__EDGE)
        op->state = TAKT__WAITING;
    else if (op && op->state == TAKT__ITEM && op->kind == TAKT_OP_READY &&
             (now = takt__try_ready(op)) > 0)
        op->result |= now;
}

static void takt__posix_event(takt_posix *posix, int fd, bool in, bool out, bool gone)
{
    takt_fd *const entry = &posix->fds.at[fd];
    takt__posix_edge(takt_fds_op(&posix->fds, entry->reader));
    takt__posix_edge(takt_fds_op(&posix->fds, entry->writer));
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

/* Ends `op` early. What it has to hand out goes before. */
static void takt__posix_end(takt_posix *posix, takt_op *op, int64_t result)
{
    if (op->state == TAKT__NO_BUFFERS)
        takt__bufs_leave((takt_bufs *)op->arg.ptr, op);
    else if (op->state == TAKT__LATER)
        takt__later_leave(&posix->later, op);
    if (op->state == TAKT__ITEM) {
        takt_fds_leave(&posix->fds, op);
        op->extra = (uint32_t)result;
        op->state = TAKT__ITEM_LAST;
    } else {
        takt__posix_done(posix, op, takt__posix_settle(posix, op, result));
    }
}

/* Gives `op` a buffer, or puts it in the line of the pool; its turn may have come. */
static void takt__posix_buffer(takt_posix *posix, takt_op *op, bool turn)
{
    takt_bufs *const bufs = (takt_bufs *)op->arg.ptr;
    if ((turn || !bufs->waiting) && takt__bufs_grant(op)) {
        takt__posix_done(posix, op, bufs->size);
    } else {
        op->state = TAKT__NO_BUFFERS;
        takt__bufs_wait(bufs, op, &posix->starved);
    }
}

/* Cancels what is in flight on a descriptor and closes it. */
static void takt__posix_close(takt_posix *posix, takt_op *op)
{
    takt_fd *const entry = &posix->fds.at[op->fd];
    takt_op *it;
    while ((it = takt_fds_op(&posix->fds, entry->reader ? entry->reader : entry->writer)) != NULL)
        takt__posix_end(posix, it, TAKT_ECLOSED);
    entry->bits &= TAKT__QUEUED;
    posix->later_now = true;
    takt__posix_done(posix, op, takt__do_close(op->fd));
}

/* Tries a burst at once, behind those that stand before it. True if it is over. */
static bool takt__posix_burst(takt_posix *posix, takt_op *op)
{
    op->arg.done = 0; /* the user's array of a batch may be awaited again */
    op->extra = 0;
    takt__posix_run_writers(posix, op->fd);
    return op->state == TAKT__DONE;
}

int takt_posix_submit(takt_posix *posix, takt_op *op, takt_token *token)
{
    bool empty = false;
    int64_t result;
    int rc;
    (void)token;
    op->state = TAKT__WAITING;
    switch (op->kind) {
    case TAKT_OP_NOP:
        takt__posix_done(posix, op, 0);
        return 0;
    case TAKT_OP_SHUTDOWN:
        if (op->fd >= 0 && op->fd < posix->fds.count)
            takt__posix_run_writers(posix, op->fd); /* what was sent before goes first */
        takt__posix_done(posix, op, takt__do_shutdown(op));
        return 0;
    case TAKT_OP_CONNECT:
    case TAKT_OP_DIAL:
        result = takt__posix_connect(posix, op);
        if (result != -EINPROGRESS)
            takt__posix_done(posix, op, takt__posix_settle(posix, op, result));
        return 0;
    case TAKT_OP_CLOSE:
        if (op->fd < 0 || op->fd >= posix->fds.count) { /* nothing of ours is in flight there */
            posix->later_now = true;
            takt__posix_done(posix, op, op->fd < 0 ? 0 : takt__do_close(op->fd));
            return 0;
        }
        break;
    case TAKT_OP_BUFFER:
        takt__posix_buffer(posix, op, false);
        return 0;
    case TAKT_OP_RECV:
    case TAKT_OP_SEND:
        op->arg.done = 0; /* the user's array of a batch may be awaited again */
        empty = takt__op_bytes(op) == 0;
        break;
    case TAKT_OP_READ:
    case TAKT_OP_WRITE:
        empty = op->len == 0;
        break;
    default:
        if (takt__direction(op) == TAKT__NEITHER || takt__direction(op) == TAKT__CALL)
            return -ENOTSUP;
        break;
    }
    rc = op->flags & TAKT_OP_MULTI           ? takt__many_check(op)
         : op->kind == TAKT_OP_RECVMSG    ? -ENOTSUP
         : op->kind == TAKT_OP_SEND_LEASE ? takt__handed_check(op)
                                          : 0;
    if (rc == 0)
        rc = takt_fds_enter(&posix->fds, op);
    if (rc < 0)
        return rc;
    if (op->kind == TAKT_OP_SEND_LEASE)
        takt__handed_take(op);
    if (op->kind == TAKT_OP_READY)
        takt__posix_recall(posix, op->fd, &posix->fds.at[op->fd]);
    if (op->kind == TAKT_OP_CLOSE)
        takt__posix_close(posix, op);
    else if (empty)
        takt__posix_done(posix, op, 0); /* no question of readiness */
    else if (op->flags & TAKT_OP_MULTI && (rc = takt__posix_begin(posix, op)) < 0)
        takt__posix_done(posix, op, rc);
    else if (op->kind != TAKT_OP_BURST || !takt__posix_burst(posix, op))
        takt__posix_queue(posix, op->fd);
    return 0;
}

void takt_posix_cancel(takt_posix *posix, takt_op *op)
{
    switch (op->state) {
    case TAKT__IDLE_OP:
    case TAKT__DONE:
    case TAKT__ITEM_LAST:
        return; /* too late: it reports what it did */
    default:
        takt__posix_end(posix, op, -ECANCELED);
        return;
    }
}

/* ==========================================================================
 * >>ask-impl
 *
 * What has become of it: poll of the portable backend, and what it hands out.
 * ======================================================================== */

static void takt__posix_run_queued(takt_posix *posix)
{
    takt_op *op;
    while ((op = takt__bufs_serve(&posix->starved)) != NULL) {
        if (op->kind == TAKT_OP_BUFFER)
            takt__posix_buffer(posix, op, true);
        else
            takt__posix_try(posix, op, TAKT__MAY_READ);
    }
    if (takt__posix_later_due(posix))
        takt__posix_run_later(posix);
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
#if defined(__GLIBC_PREREQ) && !defined(TAKT__MSAN) /* which does not know the call */
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
    for (int i = 0; i < count; i++) {
        if (events[i].data.fd == TAKT__TIMER)
            continue;
        if (events[i].events & EPOLLPRI)
            posix->fds.at[events[i].data.fd].bits |= TAKT__PACKETS;
        takt__posix_event(posix, events[i].data.fd, events[i].events & EPOLLIN,
                          events[i].events & EPOLLOUT,
                          events[i].events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP));
    }
    return 0;
}
#endif

/* True for a splice that waits for its other descriptor. */
static bool takt__posix_other_side(const takt_op *op, bool writes)
{
    return op->kind == TAKT_OP_SPLICE && takt__splice_holds(op) != writes;
}

static int takt__posix_poll(takt_posix *posix, takt_ns wait)
{
    nfds_t count = 0;
    int rc;
    for (int fd = 0; fd < posix->fd_limit; fd++) {
        const takt_fd *const entry = &posix->fds.at[fd];
        const takt_op *const reader = takt_fds_op(&posix->fds, entry->reader);
        const takt_op *const writer = takt_fds_op(&posix->fds, entry->writer);
        short events = 0;
        if (reader && reader->state == TAKT__WAITING && !takt__posix_other_side(reader, false))
            events = reader->kind == TAKT_OP_READY ? (short)reader->bits : POLLIN;
        if (writer && writer->state == TAKT__WAITING && !takt__posix_other_side(writer, true))
            events |= writer->kind == TAKT_OP_READY ? (short)writer->bits : POLLOUT;
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
            takt__posix_event(posix, posix->polls[i].fd, events & ~POLLOUT, events & POLLOUT,
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

/* Hands out the first of those done. */
static void takt__posix_hand(takt_posix *posix, takt_completion *completion, int *more)
{
    takt_op *const op = posix->done_first;
    const bool item = op->state != TAKT__DONE;
    const bool opens = op->kind == TAKT_OP_ACCEPT || op->kind == TAKT_OP_DIAL;
    completion->token = takt_token_of(op);
    completion->value = op->result;
    completion->error = op->result < 0 ? (int32_t)op->result : 0;
    completion->flags = opens && op->result >= 0 ? TAKT_FD : 0;
    completion->payload = NULL;
    if (item) {
        completion->flags |= TAKT_MORE;
        completion->payload = op->buf;
        op->buf = NULL;
    }
    if (op->state == TAKT__ITEM_LAST) { /* its end comes next */
        op->result = (int32_t)op->extra;
        op->state = TAKT__DONE;
        return;
    }
    posix->done_first = op->next;
    op->next = NULL;
    op->state = TAKT__IDLE_OP;
    if (item)
        takt__posix_go_on(posix, op, more);
}

int takt_posix_poll(takt_posix *posix, takt_completion *done, int max, takt_ns wait)
{
    enum { SKIPS = 4, DATAGRAMS = 16 }; /* with enough to hand out, the system is asked every so
                                         * often; datagrams come so many at a time */
    int count = 0, more = DATAGRAMS;
    takt__posix_run_queued(posix);
    if (posix->later && wait > 0) {
        const takt_ns left = posix->later_until - takt_posix_now(posix);
        wait = left < wait ? (left > 0 ? left : 0) : wait;
    }
    if (!posix->done_first || ++posix->skipped > SKIPS) {
        int rc;
        if (posix->pipes.guard && wait > 0 && !posix->done_first)
            takt__pipes_unguard(&posix->pipes); /* not while it sleeps */
        rc = takt__posix_ask(posix, posix->done_first ? 0 : wait);
        if (posix->pipes.guard)
            takt__pipes_unguard(&posix->pipes);
        if (rc < 0)
            return rc;
        posix->skipped = 0;
    } else if (posix->pipes.guard) {
        takt__pipes_unguard(&posix->pipes);
    }
    while (posix->done_first && count < max)
        takt__posix_hand(posix, &done[count++], &more);
    return count;
}

void takt_posix_flush(takt_posix *posix)
{
    takt__posix_run_queued(posix);
    if (posix->pipes.guard)
        takt__pipes_unguard(&posix->pipes);
}

bool takt_posix_busy(takt_posix *posix)
{
    return posix->done_first || posix->run_first || takt__bufs_can_serve(posix->starved) ||
           takt__posix_later_due(posix);
}

int takt_posix_fd(takt_posix *posix)
{
    return posix->epoll;
}

int64_t takt_posix_call(takt_posix *posix, takt_op *op)
{
    int64_t result;
    if (op->kind == TAKT_OP_PIPE) {
        takt__pipe_put(&posix->pipes, (struct takt_pipe *)op->buf);
        return 0;
    }
    if (op->kind == TAKT_OP_BURST)
        return takt__try_burst(posix, op);
    result = takt__net_call(op);
    if (op->kind == TAKT_OP_SOCKET || op->kind == TAKT_OP_SIGNALS)
        return takt__posix_opened(posix, result);
    if (op->kind == TAKT_OP_CLOSE) {
        posix->later_now = true;
        if (op->fd >= 0 && op->fd < posix->fds.count)
            posix->fds.at[op->fd].bits &= TAKT__QUEUED;
    }
    return result;
}

#endif /* TAKT_NO_POSIX */

/* ==========================================================================
 * >>lend-impl
 *
 * Memory that an op lends to the backend, as sanitizers see it. What the kernel may write
 * is poisoned for AddressSanitizer, in whole granules; what has arrived is initialised for
 * MemorySanitizer and valgrind, who do not see the kernel write. Of what is only read, the
 * ends are summed up.
 * ======================================================================== */

#if defined(TAKT__ASAN)
void __asan_poison_memory_region(void const volatile *at, size_t size);
void __asan_unpoison_memory_region(void const volatile *at, size_t size);
void *__asan_region_is_poisoned(void *at, size_t size);
void __asan_get_shadow_mapping(size_t *scale, size_t *offset);
#elif defined(TAKT__MSAN)
void __msan_unpoison(const volatile void *at, size_t size);
#endif

/* No pointer of a program's: the system will say so. */
static bool takt__wild(const void *at, size_t len)
{
    return (uintptr_t)at < 65536 || len > SIZE_MAX / 2 || (uintptr_t)at > UINTPTR_MAX - len ||
           (sizeof at == 8 && (intptr_t)at < 0);
}

/* What is done to a piece of memory; `user` is its own business. */
typedef void takt__piece(void *user, void *at, size_t len);

/* Calls `what` for all memory that the system may write for `op`, up to `most` bytes of
 * its buffers. */
TAKT__UNUSED static void takt__lent_pieces(const takt_op *op, uint64_t most, takt__piece *what,
                                           void *user)
{
    const bool addr = op->kind == TAKT_OP_ACCEPT || op->kind == TAKT_OP_RECVFROM;
    if (addr && op->arg.ptr)
        what(user, op->arg.ptr, sizeof(takt_addr));
    if (op->kind != TAKT_OP_RECV && op->kind != TAKT_OP_RECVFROM && op->kind != TAKT_OP_READ)
        return;
    if (!(op->flags & TAKT_OP_VECTOR)) {
        what(user, op->buf, op->len < most ? op->len : (size_t)most);
        return;
    }
#ifndef TAKT_NO_POSIX
    for (size_t i = 0; i < op->len; i++) {
        const struct iovec *const iov = &((const struct iovec *)op->buf)[i];
        const size_t len = iov->iov_len < most ? iov->iov_len : (size_t)most;
        what(user, iov->iov_base, len);
        most -= len;
    }
#endif
}

#if defined(TAKT__ASAN)
/* Poisoned by us or by the program, not by the sanitizer itself. */
__attribute__((no_sanitize_address)) static bool takt__poisoned_by_hand(const void *at)
{
    enum { BY_HAND = 0xf7 };
    size_t scale, offset;
    __asan_get_shadow_mapping(&scale, &offset);
    return *(const unsigned char *)(((uintptr_t)at >> scale) + offset) == BY_HAND;
}

/* Keeps in `user` the first address that is not the program's, or that is lent already. */
static void takt__find_poison(void *user, void *at, size_t len)
{
    void **const found = (void **)user;
    if (!*found && len && !takt__wild(at, len))
        *found = __asan_region_is_poisoned(at, len);
}

static void takt__poison(void *user, void *at, size_t len)
{
    const uintptr_t first = ((uintptr_t)at + 7) & ~(uintptr_t)7;
    const uintptr_t last = ((uintptr_t)at + len) & ~(uintptr_t)7;
    if (takt__wild(at, len) || last <= first)
        return;
    if (*(const bool *)user)
        __asan_poison_memory_region((void *)first, last - first);
    else
        __asan_unpoison_memory_region((void *)first, last - first);
}
#endif

/* Closes what `op` lends, or opens it again. */
static void takt__op_close(const takt_op *op, bool close)
{
#if defined(TAKT__ASAN)
    takt__lent_pieces(op, UINT64_MAX, takt__poison, &close);
#else
    (void)op;
    (void)close;
#endif
}

/* An address in the memory of `op` that is not there, or NULL. `*lent`: another op has
 * been lent some of it. */
static const volatile char *takt__op_bad(const takt_op *op, bool *lent)
{
    *lent = false;
#if defined(TAKT__ASAN)
    {
        void *found = NULL;
        takt__lent_pieces(op, UINT64_MAX, takt__find_poison, &found);
        if (!found && !(op->flags & TAKT_OP_VECTOR) &&
            (op->kind == TAKT_OP_SEND || op->kind == TAKT_OP_SENDTO || op->kind == TAKT_OP_WRITE))
            takt__find_poison(&found, op->buf, op->len);
        *lent = found && takt__poisoned_by_hand(found);
        return *lent ? NULL : (const volatile char *)found;
    }
#else
    (void)op;
    return NULL;
#endif
}

#if defined(TAKT__MSAN) || defined(TAKT_VALGRIND)
static void takt__define(void *user, void *at, size_t len)
{
    (void)user;
    if (takt__wild(at, len))
        return;
#if defined(TAKT__MSAN)
    __msan_unpoison(at, len);
#endif
#if defined(TAKT_VALGRIND)
    VALGRIND_MAKE_MEM_DEFINED(at, len);
#endif
}
#endif

/* What the system has written for `op` is initialised. */
static void takt__op_arrived(const takt_op *op)
{
#if defined(TAKT__MSAN) || defined(TAKT_VALGRIND)
    uint64_t bytes = op->result > 0 ? (uint64_t)op->result : 0;
    if (op->kind == TAKT_OP_RECV && op->flags & TAKT_OP_ALL && op->arg.done > bytes)
        bytes = op->arg.done;
    takt__lent_pieces(op, bytes, takt__define, NULL);
#else
    (void)op;
#endif
}

TAKT__UNUSED static uint64_t takt__sum_up(uint64_t sum, const unsigned char *at, size_t len)
{
    uint64_t word;
    for (; len >= sizeof word; at += sizeof word, len -= sizeof word) {
        memcpy(&word, at, sizeof word);
        sum = (sum << 7 | sum >> 57) ^ word;
    }
    for (; len; at++, len--)
        sum = (sum << 7 | sum >> 57) ^ *at;
    return sum;
}

/* A sum over both ends of what the system only reads for `op`; 0 if there is nothing. The
 * vectors of an op are such memory too. */
static uint32_t takt__op_sum(const takt_op *op)
{
#if defined(TAKT__MSAN) /* padding may be sent, and is no question for it */
    (void)op;
    return 0;
#else
    const size_t end = 64;
    const size_t iovec = sizeof(void *) + sizeof(size_t);
    const unsigned char *const at = (const unsigned char *)op->buf;
    size_t len = op->len;
    uint64_t sum;
    if (op->flags & TAKT_OP_VECTOR)
        len = len <= 1024 ? len * iovec : 0;
    else if (op->kind != TAKT_OP_SEND && op->kind != TAKT_OP_SENDTO && op->kind != TAKT_OP_WRITE)
        return 0;
    if (len == 0 || takt__wild(at, len))
        return 0;
    sum = takt__sum_up(len, at, len < end ? len : end);
    if (len > end) {
        const size_t last = len < 2 * end ? end : len - end;
        sum = takt__sum_up(sum, at + last, len - last);
    }
    sum = sum * 0x9e3779b97f4a7c15u >> 32 | 1;
#if defined(TAKT_VALGRIND)
    VALGRIND_MAKE_MEM_DEFINED(&sum, sizeof sum); /* padding may be sent */
#endif
    return (uint32_t)sum;
#endif
}

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

static inline int takt__highest_bit(uint64_t bits)
{
#if defined(__GNUC__)
    return 63 - __builtin_clzll(bits);
#else
    int index = 0;
    while (bits >>= 1)
        index++;
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
    const uint64_t differs = tick ^ wheel->tick; /* 48 bits */
    int level, slot;
    if (tick <= wheel->tick) {
        takt__list_add(&wheel->due, timer);
        return;
    }
    level = takt__highest_bit(differs) / 6;
    slot = (int)(tick >> (6 * level) & (TAKT__SLOTS - 1));
    takt__list_add(&wheel->at[level][slot], timer);
    wheel->used[level] |= (uint64_t)1 << slot;
}

void takt_timer_disarm(takt_wheel *wheel, takt_timer *timer)
{
    takt_timer *const list = timer->next;
    if (!list)
        return;
    timer->prev->next = timer->next;
    timer->next->prev = timer->prev;
    if (list == timer->prev && list != &wheel->due) {
        const ptrdiff_t index = list - &wheel->at[0][0]; /* the slot is empty now */
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

/* The tick of the next used slot, while none is due; false if there is none. */
static bool takt__wheel_next(const takt_wheel *wheel, uint64_t *tick, int *level, int *slot)
{
    int shift;
    if (wheel->count == 0)
        return false;
    for (*level = 0; !wheel->used[*level];)
        ++*level;
    shift = 6 * *level;
    *slot = takt__lowest_bit(wheel->used[*level]);
    *tick = (wheel->tick >> (shift + 6) << (shift + 6)) | (uint64_t)*slot << shift;
    return true;
}

takt_timer *takt_wheel_expire(takt_wheel *wheel, takt_ns now)
{
    const uint64_t until = now > 0 ? (uint64_t)now >> TAKT__TICK_SHIFT : 0;
    uint64_t tick;
    int level, slot;
    while (wheel->due.next == &wheel->due) {
        takt_timer *list;
        takt_timer moving;
        if (!takt__wheel_next(wheel, &tick, &level, &slot) || tick > until) {
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
    if (!takt__wheel_next(wheel, &tick, &level, &slot))
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
    return place ? (takt_strand *)(void *)s->slots.base + (place - 1) : NULL;
}

static inline uint32_t takt__place(const takt_strand *strand)
{
    return strand ? strand->slot.index + 1 : 0;
}

/* A pointer to the scheduler stands in the place before the first strand. */
static inline takt_sched *takt__sched_of_strand(const takt_strand *strand)
{
    const uintptr_t places = (uintptr_t)strand->slot.index + 1;
    return *(takt_sched *const *)((uintptr_t)strand - places * sizeof *strand);
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
    if (!s->now_known) {
        s->now = s->calls->now(s->backend);
        s->now_known = s->in_turn;
        s->only_ops = false; /* until it is forgotten */
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
    const takt_op *const op = frame->strand ? &frame->strand->slot.op : NULL;
    if (op && op->kind == TAKT_OP_SEND_LEASE)
        return op->extra ? op->extra - op->len : 0; /* nothing was begun */
    return op ? op->arg.done : 0;
}

bool takt_stopping(const takt_frame *frame)
{
    return takt_sched_of(frame)->stopping;
}

/* "takt: FILE:LINE: NAME: words"; without a coroutine, the words alone. */
static const char *takt__say(takt__text *text, const takt_coro *coro, uint32_t line,
                             const char *words)
{
    takt__put(text, "takt: ");
    if (coro) {
        takt__put(text, coro->file);
        takt__put(text, ":");
        takt__put_number(text, line & TAKT__LINES);
        takt__put(text, ": ");
        takt__put(text, coro->name);
        takt__put(text, ": ");
    }
    takt__put(text, words);
    return text->at;
}

/* What `f`, which is alive, runs; NULL while it has not begun. */
static const takt_coro *takt__coro_of(const takt_frame *f)
{
    return f->strand->flags & TAKT__NEW ? NULL : f->of.coro;
}

/* Tells of something that has no better place to be told: name, file:line, words. */
static void takt__complain(const takt_frame *f, const char *words)
{
    char line[256];
    takt__text text = {line, sizeof line, 0};
    TAKT_LOG(takt__say(&text, takt__coro_of(f), f->line, words));
}

/* -- misuse ---------------------------------------------------------------- */

/* What a suspended strand looked like: by this it is named when its frame is gone. */
struct takt__watch {
    const takt_coro *coro;
    uint32_t line;
    uint32_t sum; /* of what its op reads; 0: none */
    bool lent;    /* what its op writes is poisoned */
};

/* A mistake of the program's that cannot go on. `error` is one of takt's codes. */
TAKT__COLD static void takt__misuse(const takt_coro *coro, uint32_t at, int error)
{
    char line[384];
    takt__text text = {line, sizeof line, 0};
    TAKT_PANIC(takt__say(&text, coro, at, takt_strerror(error)));
}

static struct takt__watch *takt__watch_of(const takt_sched *s, const takt_strand *strand)
{
    return &s->watches[strand->slot.index];
}

/* The frame that waits for what `strand` does. */
static takt_frame *takt__waiting_frame(const takt_strand *strand)
{
    if (strand->wait == TAKT__ON_STREAM)
        return strand->who.stream->link.owner;
    return strand->flags & TAKT__REQUEST ? strand->who.owner->who.leaf : strand->who.leaf;
}

/* The address was on the stack below the turn: whatever was there is gone, or will be. */
static bool takt__on_stack(const takt_sched *s, const void *at)
{
    return s->stack_base - (uintptr_t)at < TAKT__BODY_STACK;
}

/* `strand` is about to be left: notes where. */
static void takt__note(const takt_sched *s, const takt_strand *strand)
{
    struct takt__watch *const watch = takt__watch_of(s, strand);
    const takt_frame *const f = takt__waiting_frame(strand);
    watch->coro = takt__coro_of(f);
    watch->line = f->line;
}

/* False, and told of, if the frame that is to go on is not what it was. */
static bool takt__sound(takt_sched *s, const takt_strand *strand)
{
    const struct takt__watch *const watch = takt__watch_of(s, strand);
    const takt_strand *const runs = strand->flags & TAKT__REQUEST ? strand->who.owner : strand;
    const takt_frame *const f = runs->who.leaf;
    if (!takt__on_stack(s, f) && f->strand == runs && takt__in_place(f) &&
        f->state != TAKT__NEVER && f->state < TAKT__FINISHED &&
        (runs->flags & TAKT__NEW || f->of.coro == watch->coro))
        return true;
    takt__misuse(watch->coro, watch->line, TAKT_EFRAME);
    return false;
}

/* True, and told of, if the caller is not the thread that the loop belongs to. */
static bool takt__foreign(const takt_sched *s, const takt_frame *f)
{
    if (TAKT__LIKELY(!s->watches || !s->owner || s->owner == TAKT__THREAD()))
        return false;
    takt__misuse(f ? takt__coro_of(f) : NULL, f ? f->line : 0, TAKT_ETHREAD);
    return true;
}

/* True if `frame` is alive on this loop. Its memory may hold anything. */
static bool takt__alive_here(const takt_sched *s, const takt_frame *frame)
{
    const uintptr_t offset = (uintptr_t)frame->strand - (uintptr_t)s->slots.base;
    const takt_frame *it;
    if (!frame->strand || offset >= (uintptr_t)s->fresh * s->slots.stride ||
        offset % s->slots.stride || frame->strand->wait == TAKT__FREE ||
        frame->strand->flags & TAKT__REQUEST)
        return false;
    for (it = frame->strand->who.leaf; it != frame && !(it->bits & TAKT__ROOT);)
        it = it->parent;
    return it == frame;
}

/* True if `frame` is alive on any loop, as far as its memory, which may hold anything, tells:
 * strands stand at multiples of their size. */
static bool takt__alive_somewhere(const takt_frame *frame)
{
    return frame->strand && (uintptr_t)frame->strand % sizeof(takt_strand) == 0 &&
           frame->state == TAKT__RUNNING && frame->failed_at == takt__mark(frame);
}

/* An error, and told of, if a frame at `frame` cannot begin; else 0. */
static int takt__taken(const takt_sched *s, const takt_frame *frame)
{
    int error = 0;
#if defined(TAKT__MSAN) || defined(TAKT_VALGRIND)
    takt__define(NULL, (void *)(uintptr_t)frame, sizeof *frame); /* it is about to be */
#endif
    if (s->in_turn && takt__on_stack(s, frame))
        error = TAKT_ESTACK;
    else if (s->watches && (takt__alive_here(s, frame) || takt__alive_somewhere(frame)))
        error = TAKT_ERUNNING;
    if (error)
        TAKT_LOG(takt_strerror(error));
    return error;
}

/* A body was entered by somebody who should not. */
TAKT__COLD void takt__stray(takt_frame *f, const takt_coro *coro)
{
    takt__misuse(coro, f->line ? f->line : coro->line,
                 !takt__in_place(f) ? TAKT_EFRAME : TAKT_EBODY);
}

void takt__lend(takt_sched *s, takt_strand *strand)
{
    const takt_op *const op = &strand->slot.op;
    struct takt__watch *watch;
    const volatile char *bad;
    bool lent;
    if (!s->watches)
        return;
    watch = takt__watch_of(s, strand);
    takt__note(s, strand);
    bad = takt__op_bad(op, &lent);
    if (bad) {
        takt__complain(takt__waiting_frame(strand), takt_strerror(TAKT_EBOUNDS));
        (void)*bad; /* the sanitizer knows more */
    }
    watch->sum = takt__op_sum(op);
    watch->lent = !lent;
    if (!lent)
        takt__op_close(op, true);
}

bool takt__regain(takt_sched *s, takt_strand *strand)
{
    const takt_op *const op = &strand->slot.op;
    struct takt__watch *watch;
    takt__op_arrived(op);
    if (!s->watches)
        return true;
    watch = takt__watch_of(s, strand);
    if (watch->lent) {
        watch->lent = false;
        takt__op_close(op, false);
    }
    if (!takt__sound(s, strand))
        return false;
    if (watch->sum && watch->sum != takt__op_sum(op))
        takt__misuse(watch->coro, watch->line, TAKT_ELENT);
    return true;
}

int takt__run_body(takt_sched *s, takt_strand *strand, takt_body *body)
{
    takt_frame *const f = strand->who.leaf; /* its memory stays until the loop ends it */
    takt_ns held;
    int go;
    if (s->config.hold_limit <= 0)
        return body(f).go;
    held = s->calls->now(s->backend);
    go = body(f).go;
    held = s->calls->now(s->backend) - held;
    if (held > s->config.hold_limit) {
        char words[160] = "";
        takt__text text = {words, sizeof words, 0};
        takt__put(&text, "before it came here it kept all others waiting for ");
        takt__put_number(&text, held / TAKT_MS);
        takt__put(&text, " ms; give such work to takt_offload(), or put a TAKT_YIELD into it");
        s->stats.held++;
        takt__complain(f, words);
    }
    return go;
}

void takt__lent_open(takt_sched *s, bool open)
{
    for (uint32_t i = 0; s->watches && i < s->fresh; i++) {
        const takt_strand *const strand = (takt_strand *)(void *)takt_slot_at(&s->slots, i);
        if (strand->wait == TAKT__ON_OP && s->watches[i].lent)
            takt__op_close(&strand->slot.op, !open);
    }
}

/* On a drive: says which word needs a loop. */
static void takt__needs_loop(const takt_frame *f, const char *word)
{
    char line[64];
    takt__text text = {line, sizeof line, 0};
    takt__put(&text, word);
    takt__put(&text, " needs a loop");
    takt__complain(f, line);
}

/* A poll has told of more completions than it was given places for: they are not there. */
int takt__too_many(void)
{
    TAKT_ASSERT(false && "the backend's poll returned more than max");
    return -EOVERFLOW;
}

/* -- the slab of strands --------------------------------------------------- */

static void takt__feed(takt_sched *s);

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
    if (s->watches)
        memset(&s->watches[strand->slot.index], 0, sizeof *s->watches);
    return strand;
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
    if (s->starved_first) /* a batch was waiting for this */
        takt__feed(s);
}

/* -- lists ----------------------------------------------------------------- */

static void takt__append(takt_sched *s, takt_strand *strand, uint32_t *first, uint32_t *last)
{
    const uint32_t place = takt__place(strand);
    strand->next = 0;
    s->only_ops = false;
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

/* Those that have yielded come behind what is ready. */
void takt__turn_begins(takt_sched *s)
{
    TAKT_ASSERT(!s->only_ops || (takt__only_ops(s) && !s->now_known));
    s->now_known = false;
    if (s->watches && !takt__foreign(s, NULL))
        s->owner = TAKT__THREAD();
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
    takt_strand *strand;
    do {
        strand = takt__strand_at(s, s->ready_first);
        if (!strand)
            return NULL;
        s->ready_first = strand->next;
        if (!s->ready_first)
            s->ready_last = 0;
    } while (s->watches && !takt__sound(s, strand));
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
    strand->flags &= (uint16_t)~TAKT__STARVED;
}

static void takt__line_leave(takt_op *op);
static void takt__op_over(takt_sched *s, takt_strand *strand, int64_t result);
static void takt__batch_cancel(takt_sched *s, takt_strand *owner);
static void takt__joiner_leave(takt_sched *s, takt_strand *joiner);

/* Ends early what one op waits for. */
static void takt__interrupt_op(takt_sched *s, takt_strand *strand, int64_t result)
{
    switch (strand->wait) {
    case TAKT__ON_OP:
        if (strand->flags & TAKT__ASKED || strand->slot.op.kind == TAKT_OP_CLOSE)
            return;
        strand->flags |= TAKT__ASKED;
        takt__op_close(&strand->slot.op, false); /* the backend may answer in there */
        s->calls->cancel(s->backend, &strand->slot.op);
        if (s->watches && s->watches[strand->slot.index].lent)
            takt__op_close(&strand->slot.op, true);
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
    switch (strand->wait) {
    case TAKT__ON_OP:
    case TAKT__ON_EVENT:
    case TAKT__ON_SLEEP:
        takt__interrupt_op(s, strand, TAKT_ECANCELED);
        return;
    case TAKT__ON_BATCH:
        takt__batch_cancel(s, strand);
        return;
    case TAKT__ON_JOIN:
    case TAKT__ON_RACE:
    case TAKT__ON_SCOPE:
        op->result = TAKT_ECANCELED;
        takt__cancel_list(s, strand->who.leaf->children, true);
        return;
    case TAKT__ON_GROUP:
        takt__joiner_leave(s, strand);
        op->result = TAKT_ECANCELED;
        takt__ready(s, strand);
        return;
    case TAKT__ON_NEXT:
        op->result = TAKT_ECANCELED;
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
    if (!takt_alive(frame) || takt__foreign(takt__sched_of_strand(frame->strand), frame))
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

/* True if the op that `strand` is about to begin must not: it was told to stop. */
static bool takt__stops(const takt_strand *strand)
{
    return strand->flags & TAKT__STOP && strand->slot.op.kind != TAKT_OP_CLOSE &&
           takt__told(strand->who.leaf) != TAKT__GO_ON;
}

static void takt__request_over(takt_sched *s, takt_strand *request);
static bool takt__batch_ends(const takt_strand *owner);
static takt_strand *takt__foreign_find(takt_sched *s, takt_strand *strand,
                                       const takt_completion *done);
static void takt__stream_item(takt_sched *s, takt_strand *strand, const takt_completion *done);

/* Puts an end to the wait of a strand or of one request: it goes on in this turn. */

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
    strand->flags &= (uint16_t) ~(TAKT__EXPIRED | TAKT__ASKED | TAKT__LIMITED);
    strand->wait = TAKT__READY;
}

/* Arms a timer; a wheel without timers is first brought up to now. */
static void takt__arm(takt_sched *s, takt_timer *timer, takt_ns when)
{
    if (s->wheel.count == 0)
        takt_wheel_expire(&s->wheel, takt__now(s));
    takt_timer_arm(&s->wheel, timer, when);
    s->only_ops = false;
}

void takt__arm_limit(takt_sched *s, takt_strand *strand)
{
    const takt_op *const op = &strand->slot.op;
    strand->flags |= TAKT__LIMITED;
    takt__arm(s, &strand->timer,
              op->flags & TAKT_OP_DEADLINE ? op->when : takt_after(takt__now(s), op->when));
}

static void takt__sleep(takt_sched *s, takt_strand *strand)
{
    const takt_op *const op = &strand->slot.op;
    const takt_ns limit =
        op->flags & TAKT_OP_DEADLINE ? op->when : takt_after(takt__now(s), op->when);
    takt_ns until =
        op->flags & TAKT_OP_UNTIL ? op->arg.sleep : takt_after(takt__now(s), op->arg.sleep);
    if (op->when && limit < until) {
        until = limit;
        strand->flags |= TAKT__EXPIRED; /* its limit will come first */
    }
    strand->wait = TAKT__ON_SLEEP;
    takt__arm(s, &strand->timer, until);
}

static int64_t takt__wait_in_line(takt_strand *strand);

/* The backend has failed for good, and what it does not hold is being discarded. */
static bool takt__broken(const takt_sched *s)
{
    return s->discarding && s->fatal != TAKT_EDISPOSED;
}

/* The frame that awaits what the strand, or a request, is for. */
static takt_frame *takt__leaf_of(const takt_strand *strand)
{
    return strand->flags & TAKT__REQUEST ? strand->who.owner->who.leaf : strand->who.leaf;
}

/* An op that does not go to the backend as it is. False: it may go after all. True: it
 * is over, or waits, and takt__step() finds out which. */
TAKT__NOINLINE bool takt__refuse(takt_sched *s, takt_strand *strand)
{
    takt_op *const op = &strand->slot.op;
    const uintptr_t buf = s->stack_base - (uintptr_t)op->buf;
    const uintptr_t arg = s->stack_base - (uintptr_t)op->arg.ptr;
    if (op->kind == TAKT_OP_SLEEP || op->kind == TAKT_OP_NONE)
        return true;
    if (!(strand->flags & TAKT__REQUEST) && takt__stops(strand))
        return true;
    if (buf < TAKT__BODY_STACK || arg < TAKT__BODY_STACK) {
        takt__complain(takt__leaf_of(strand), takt_strerror(TAKT_ESTACK));
        return true;
    }
    if (op->flags & TAKT_OP_MULTI) /* for TAKT_OPEN: nobody here takes what comes after the first */
        return true;
    return op->kind < TAKT_OP_FIRST_OF_BACKEND || takt__broken(s) ||
           (s->stopping && op->kind == TAKT_OP_ACCEPT);
}

/* Begins an op that takt__refuse() kept from the backend. Zero: it waits. Above: it is
 * over, with one less. Below: it has failed. */
static int64_t takt__begin_here(takt_sched *s, takt_strand *strand)
{
    takt_op *const op = &strand->slot.op;
    int64_t rc;
    switch (op->kind) {
    case TAKT_OP_SLEEP:
        if (op->flags & TAKT_OP_MULTI)
            return -EINVAL;
        takt__sleep(s, strand);
        return 0;
    case TAKT_OP_EVENT:
    case TAKT_OP_ACQUIRE:
    case TAKT_OP_PUT:
    case TAKT_OP_GET:
        if (s->stack_base - (uintptr_t)op->buf < TAKT__BODY_STACK ||
            s->stack_base - (uintptr_t)op->arg.ptr < TAKT__BODY_STACK)
            return TAKT_ESTACK;
        rc = takt__wait_in_line(strand);
        if (rc == 0) {
            TAKT__BEGINS(s, strand);
            if (op->when)
                takt__arm_limit(s, strand);
        }
        return rc;
    case TAKT_OP_NONE:
        return -EINVAL;
    case TAKT_OP_ACCEPT:
        if (s->stopping)
            return TAKT_ESTOPPING;
        break;
    case TAKT_OP_CLOSE: /* a broken loop still gives its descriptors back */
        rc = op->fd < 0 ? 0 : s->calls->call(s->backend, op);
        return rc < 0 ? rc : 1;
    default: /* of a broken loop nothing else comes so far */
        break;
    }
    return op->flags & TAKT_OP_MULTI ? -EINVAL : TAKT_ESTACK;
}

/* Gives the op of a strand to the backend, under a new token. 0 or an error. */
static int64_t takt__hand_over(takt_sched *s, takt_strand *strand)
{
    takt_token token;
    int rc;
    strand->slot.generation++;
    token = takt_token_of(&strand->slot.op);
    rc = s->calls->submit(s->backend, &strand->slot.op, &token);
    if (rc >= 0 && token != takt_token_of(&strand->slot.op))
        takt__foreign_add(s, strand, token);
    return rc;
}

/* Begins the op of any strand or request, by way of the backend's table of calls. */
static void takt__begin(takt_sched *s, takt_strand *strand)
{
    int64_t rc;
    if (takt__refuse_inline(s, strand)) {
        rc = takt__begin_here(s, strand);
        if (rc)
            takt__op_over(s, strand, rc < 0 ? rc : rc - 1);
        return;
    }
    strand->wait = TAKT__ON_OP;
    TAKT__BEGINS(s, strand);
    if (strand->slot.op.when)
        takt__arm_limit(s, strand);
    rc = takt__hand_over(s, strand);
    if (rc < 0)
        takt__op_over(s, strand, rc);
    else if (s->watches)
        takt__lend(s, strand);
}

/* A completion has come that nobody waits for. What it brought must not leak. */
void takt__orphan(takt_sched *s, const takt_completion *done)
{
    takt_op op;
    s->stats.stale++;
    if (!(done->flags & TAKT_FD) && !done->payload)
        return;
    s->stats.orphans++;
    if (s->config.on_orphan) {
        s->config.on_orphan(s->config.user, done);
    } else if (done->flags & TAKT_FD && done->value >= 0) {
        op = takt__op(TAKT_OP_CLOSE, (int)done->value, NULL, 0);
        s->calls->call(s->backend, &op);
    }
}

/* What an op of the strand has ended with, when the end was asked for. */
static int64_t takt__asked_result(const takt_sched *s, const takt_strand *strand, int64_t result)
{
    const uint16_t flags = strand->flags;
    bool ordered; /* and not only the loop stops */
    if (result != TAKT_ECANCELED || !(flags & TAKT__ASKED))
        return result;
    if (flags & TAKT__EXPIRED)
        return -ETIMEDOUT;
    if (!s->stopping || strand->slot.op.kind != TAKT_OP_ACCEPT)
        return result;
    if (flags & TAKT__REQUEST)
        ordered = takt__batch_ends(strand->who.owner);
    else
        ordered = flags & TAKT__STOP && takt__told(strand->who.leaf) != TAKT__GO_ON;
    return ordered ? result : (int64_t)TAKT_ESTOPPING;
}

/* A completion that is not the plain success of a plain op. Returns the strand that goes
 * on with it, or NULL. */
TAKT__NOINLINE takt_strand *takt__claim(takt_sched *s, takt_strand *strand,
                                        const takt_completion *done)
{
    int64_t result = done->error ? done->error : done->value;
    if (s->foreign.used)
        strand = takt__foreign_find(s, strand, done);
    if (strand && strand->wait == TAKT__ON_STREAM) {
        takt__stream_item(s, strand, done);
        return NULL;
    }
    if (!strand || strand->wait != TAKT__ON_OP) {
        takt__orphan(s, done);
        return NULL;
    }
    if (done->error == TAKT_EMORE || done->flags & TAKT_MORE) {
        takt__fail_loop(s, TAKT_EMULTISHOT);
        return NULL;
    }
    if (done->error == TAKT_EWOULDBLOCK) { /* it was too early: once more */
        result = strand->flags & TAKT__ASKED ? TAKT_ECANCELED : takt__hand_over(s, strand);
        if (result == 0)
            return NULL;
    }
    strand->slot.op.result = takt__asked_result(s, strand, result);
    if (!TAKT__REGAIN(s, strand))
        return NULL;
    takt__settle(s, strand);
    if (!(strand->flags & TAKT__REQUEST))
        return strand;
    takt__request_over(s, strand);
    return NULL;
}

/* The backend knows the op of `strand` as `token`. 0, or what ended the loop. */
int takt__foreign_add(takt_sched *s, takt_strand *strand, takt_token token)
{
    const takt_strand *const own =
        (const takt_strand *)(const void *)takt_slot_find(&s->slots, token);
    const bool live = own && !(own->flags & TAKT__FOREIGN) &&
                      (own->wait == TAKT__ON_OP || own->wait == TAKT__ON_STREAM);
    if (live || takt_tokens_find(&s->foreign, token)) {
        takt__fail_loop(s, TAKT_ELIVETOKEN);
        return s->fatal;
    }
    takt_tokens_add(&s->foreign, token, strand);
    strand->flags |= TAKT__FOREIGN;
    return 0;
}

/* Whom a completion is for; `strand` is whose own token it looks like. */
static takt_strand *takt__foreign_find(takt_sched *s, takt_strand *strand,
                                       const takt_completion *done)
{
    takt_strand *const known = (takt_strand *)takt_tokens_find(&s->foreign, done->token);
    if (!known)
        return strand && strand->flags & TAKT__FOREIGN ? NULL : strand;
    if (!(done->flags & TAKT_MORE)) {
        takt_tokens_remove(&s->foreign, done->token);
        known->flags &= (uint16_t)~TAKT__FOREIGN;
    }
    return known;
}

takt_status takt__yield(takt_frame *f, uint32_t line)
{
    takt_sched *const s = takt__sched_of_strand(f->strand);
    f->line = line;
    takt__op_of(f)->result = 0;
    if (f->strand->flags & TAKT__STOP && takt__told(f) != TAKT__GO_ON) {
        takt__op_of(f)->result = TAKT_ECANCELED;
        return takt__leave(TAKT__AGAIN);
    }
    takt__append(s, f->strand, &s->later_first, &s->later_last);
    return takt__leave(TAKT__SUSPEND);
}

/* -- batches ----------------------------------------------------------------
 *
 * The owner's op keeps the account: buf and len are the user's ops, extra the next of
 * them to submit, bits the list of those in flight, fd the winner or -1, result 0 or the
 * order to stop. While there are ops to submit and no strand for them, the owner stands
 * in the line of the starved.
 */

enum { /* state of an account */
    TAKT__ANY = 1,  /* the first to complete ends it */
    TAKT__CUT = 2,  /* an order to stop has cost it something */
    TAKT__LATE = 4  /* it had to wait: arg.sleep is when it began */
};

/* Nothing more is begun: it was told to stop, or has a winner. */
static bool takt__batch_ends(const takt_strand *owner)
{
    return owner->slot.op.result < 0 || owner->slot.op.fd >= 0;
}

/* An op that had to wait for a strand: its times count from when it was awaited. */
static void takt__since(takt_op *op, takt_ns began)
{
    if (op->kind == TAKT_OP_SLEEP && !(op->flags & TAKT_OP_UNTIL)) {
        op->arg.sleep = takt_after(began, op->arg.sleep);
        op->flags |= TAKT_OP_UNTIL;
    }
    if (op->when && !(op->flags & TAKT_OP_DEADLINE)) {
        op->when = takt_after(began, op->when);
        op->flags |= TAKT_OP_DEADLINE;
    }
}

/* Submits one op of a batch. False if there is no strand for it. */
static bool takt__request(takt_sched *s, takt_strand *owner, takt_op *op)
{
    takt_op *const account = &owner->slot.op;
    takt_strand *const request = takt__strand_take(s, TAKT__FOR_A_REQUEST);
    if (!request)
        return false;
    account->extra++;
    request->flags = TAKT__REQUEST;
    request->who.owner = owner;
    request->on.user_op = op;
    request->slot.op = *op;
    if (account->state & TAKT__LATE)
        takt__since(&request->slot.op, account->arg.sleep);
    takt__link(s, &account->bits, request);
    takt__begin(s, request);
    return true;
}

/* Submits what there are free strands for; the owner goes on when all are over. */
static void takt__pump(takt_sched *s, takt_strand *owner)
{
    takt_op *const account = &owner->slot.op;
    takt_op *const ops = (takt_op *)account->buf;
    if (owner->wait != TAKT__ON_BATCH || owner->flags & (TAKT__PUMPING | TAKT__STARVED))
        return; /* already over; in here, further up; or in line for a strand */
    owner->flags |= TAKT__PUMPING;
    while (account->extra < account->len) {
        takt_op *const op = &ops[account->extra];
        if (!takt__batch_ends(owner) || op->kind == TAKT_OP_CLOSE) {
            if (!takt__request(s, owner, op))
                break;
        } else {
            op->result = TAKT_ECANCELED;
            account->state |= account->result < 0 ? TAKT__CUT : 0;
            account->extra++;
        }
    }
    owner->flags &= (uint16_t)~TAKT__PUMPING;
    if (account->extra < account->len) {
        if (!(account->state & TAKT__LATE))
            account->arg.sleep = takt__now(s);
        account->state |= TAKT__LATE;
        owner->flags |= TAKT__STARVED;
        takt__append(s, owner, &s->starved_first, &s->starved_last);
    } else if (!account->bits) {
        if (account->state & TAKT__ANY ? account->fd >= 0 : !(account->state & TAKT__CUT))
            account->result = 0; /* what is done is done: an order takes the next await */
        takt__ready(s, owner);
    }
}

/* Gives free strands to the batches that wait for them, in order. Never from in here
 * again, so that completions at once use constant stack. */
static void takt__feed(takt_sched *s)
{
    if (s->feeding)
        return;
    s->feeding = true;
    while (s->starved_first && s->strands_used < s->slots.count) {
        takt_strand *const owner = takt__strand_at(s, s->starved_first);
        takt__unstarve(s, owner);
        takt__pump(s, owner);
    }
    s->feeding = false;
}

/* Ends early what is in flight. Nothing is begun meanwhile, here or in another batch, so
 * that the list holds still. */
static void takt__batch_end(takt_sched *s, takt_strand *owner)
{
    const uint16_t pumping = owner->flags & TAKT__PUMPING;
    const bool feeding = s->feeding;
    takt_strand *next;
    owner->flags |= TAKT__PUMPING;
    s->feeding = true;
    for (takt_strand *it = takt__strand_at(s, owner->slot.op.bits); it; it = next) {
        next = takt__strand_at(s, it->sibling_next);
        takt__interrupt_op(s, it, TAKT_ECANCELED);
    }
    s->feeding = feeding;
    if (!pumping)
        owner->flags &= (uint16_t)~TAKT__PUMPING;
    takt__unstarve(s, owner);
    takt__pump(s, owner);
    takt__feed(s);
}

/* The order to stop. What has its winner has completed: it takes the next await. */
static void takt__batch_cancel(takt_sched *s, takt_strand *owner)
{
    if (takt__batch_ends(owner))
        return;
    owner->slot.op.result = TAKT_ECANCELED;
    takt__batch_end(s, owner);
}

static void takt__request_over(takt_sched *s, takt_strand *request)
{
    takt_strand *const owner = request->who.owner;
    takt_op *const account = &owner->slot.op;
    takt_op *const op = request->on.user_op;
    const bool told = account->result < 0;
    bool won = false;
    op->result = request->slot.op.result;
    op->fd = request->slot.op.fd;
    if (op->kind != TAKT_OP_SLEEP)
        op->arg = request->slot.op.arg;
    if (told && op->result == TAKT_ECANCELED) {
        account->state |= TAKT__CUT;
    } else if (account->state & TAKT__ANY && account->fd < 0) {
        account->fd = (int32_t)(op - (takt_op *)account->buf);
        won = true;
    }
    takt__unlink(s, &account->bits, request);
    takt__strand_give(s, request);
    if (won && !told)
        takt__batch_end(s, owner);
    else
        takt__pump(s, owner);
}

/* Begins a batch. Where the body goes next. */
takt_status takt__await_batch(takt_frame *f, takt_op *ops, size_t count, bool any, uint32_t line)
{
    takt_strand *const owner = f->strand;
    takt_sched *const s = takt__sched_of_strand(owner);
    takt_op *const account = &owner->slot.op;
    f->line = line;
    *account = takt__op(TAKT_OP_NONE, -1, ops, count);
    account->state = any ? TAKT__ANY : 0;
    if (count && s->stack_base - (uintptr_t)ops < TAKT__BODY_STACK) {
        takt__complain(f, takt_strerror(TAKT_ESTACK));
        account->result = TAKT_ESTACK;
        return takt__leave(TAKT__AGAIN);
    }
    if (owner->flags & TAKT__STOP && takt__told(f) != TAKT__GO_ON) {
        account->result = TAKT_ECANCELED;
        account->state |= count == 0 ? TAKT__CUT : 0;
    }
    if (s->alone && count) {
        takt__needs_loop(f, any ? "TAKT_AWAIT_ANY" : "TAKT_AWAIT_ALL");
        account->result = -ENOTSUP;
        return takt__leave(TAKT__AGAIN);
    }
    owner->wait = TAKT__ON_BATCH;
    takt__pump(s, owner);
    return takt__leave(TAKT__SUSPEND);
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

/* Throws in `f` if its child cannot begin at `child`. Its old contents are not believed. */
bool takt__may_begin(takt_frame *f, takt_frame *child, size_t size, uint32_t line)
{
    takt_sched *const s = takt__sched_of_strand(f->strand);
    int error = 0;
    if ((f->children && takt__child_in(f, child, size)) ||
        (s->watches && takt__alive_here(s, child)))
        error = TAKT_ERUNNING;
    else if (takt__on_stack(s, child))
        error = TAKT_ESTACK;
    if (!error)
        return true;
    takt__throw(f, error, line);
    takt__complain(f, takt_strerror(error));
    return false;
}

/* No strand is free; on a drive, none ever is. */
static bool takt__no_strand(takt_frame *f, takt_frame *child, const char *word, uint32_t line)
{
    const bool alone = takt__sched_of_strand(f->strand)->alone;
    memset((void *)child, 0, sizeof *child);
    takt__throw(f, alone ? -ENOTSUP : TAKT_ESTRANDS, line);
    if (alone)
        takt__needs_loop(f, word);
    return false;
}

bool takt__start(takt_frame *f, takt_frame *child, uint32_t line)
{
    takt_sched *const s = takt__sched_of_strand(f->strand);
    takt_strand *const strand = takt__strand_take(s, TAKT__FOR_A_FRAME);
    if (!strand)
        return takt__no_strand(f, child, "TAKT_START", line);
    child->strand = strand;
    child->bits = TAKT__ROOT;
    strand->who.leaf = child;
    strand->flags = TAKT__NEW;
    takt__link(s, &f->children, strand);
    f->bits |= TAKT__HELD;
    takt__ready(s, strand);
    return true;
}

bool takt__start_within(takt_frame *f, takt_frame *child, takt_ns ns, uint32_t line)
{
    takt_strand *const strand = f->strand;
    takt_sched *const s = takt__sched_of_strand(strand);
    if (s->alone)
        return takt__no_strand(f, child, "TAKT_CALL_WITHIN", line);
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

/* One of them it is. */
static takt_pool *takt__pool_it_is_from(takt_sched *s, const takt_frame *frame)
{
    takt_pool *pool = s->config.pools;
    while (pool->body != frame->of.coro->body)
        pool++;
    return pool;
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

/* On a drive: what cannot throw on the spot throws at the next await. */
static void takt__needs_loop_soon(takt_sched *s, const char *word)
{
    takt_frame *const f = takt__strand_at(s, 1)->who.leaf;
    if (s->pending == 0) /* from outside, and nobody is there to throw it at */
        return;
    takt__needs_loop(f, word);
    takt__interrupt_frame(f, -ENOTSUP);
}

/* The owner of a group is on its way out: nobody else puts anything in. */
static bool takt__group_ends(const takt_group *group, const takt_frame *owner)
{
    const takt_frame *const old = group ? group->link.owner : NULL;
    return old && old != owner && (old->state == TAKT__THROWN || old->state == TAKT__UNWINDING);
}

/* From here on `link` hangs on `f`. */
static void takt__attach(takt_frame *f, takt_attached *link, uint32_t kind)
{
    link->kind = kind;
    link->owner = f;
    link->next = f->strand->on.attached;
    f->strand->on.attached = link;
    f->bits |= TAKT__HELD;
}

/* An empty group goes to whoever puts the first member in. */
static void takt__group_begin(takt_sched *s, takt_group *group, takt_frame *owner)
{
    if (group->count || group->link.owner)
        return;
    group->sched = s;
    if (!owner)
        return;
    takt__attach(owner, &group->link, TAKT__GROUP);
}

/* The arguments of `frame` are being set. They may spawn others: its strand, in no list as
 * yet, remembers whose arguments those are. */
static void takt__spawning(takt_sched *s, takt_frame *frame)
{
    frame->strand->sibling_next = s->spawning ? takt__place(s->spawning->strand) : 0;
    s->spawning = frame;
}

takt_frame *TAKT__NAMED(takt__spawn_begin)(takt_sched *s, takt_group *group,
                                           takt_frame *owner, takt_body *body, size_t size)
{
    takt_pool *const pool = takt__pool_of(s, body);
    takt_strand *strand;
    takt_frame *frame;
    if (s->alone) {
        takt__needs_loop_soon(s, group ? "TAKT_GO" : "TAKT_SPAWN");
        return takt__refuse_spawn(s);
    }
    if (takt__foreign(s, NULL))
        return NULL;
    if (!pool || pool->size < size) {
        TAKT_LOG("takt: a task was spawned that no TAKT_POOL() of the loop's config lists; "
                 "list it before the init");
        return takt__refuse_spawn(s);
    }
    if (s->stopping || s->fatal || pool->used == pool->count || takt__group_ends(group, owner) ||
        (strand = takt__strand_take(s, TAKT__FOR_A_FRAME)) == NULL) {
        pool->refused++;
        return takt__refuse_spawn(s);
    }
    frame = takt__pool_take(pool);
    takt__frame_begin(frame, (takt_frame *)(void *)group, strand, body,
                      TAKT__ROOT | TAKT__POOLED | (group ? TAKT__GROUPED : 0));
    strand->who.leaf = frame;
    strand->flags = TAKT__NEW;
    if (group)
        takt__group_begin(s, group, owner);
    takt__spawning(s, frame);
    return frame;
}

bool TAKT__NAMED(takt__start_on_begin)(takt_sched *s, takt_frame *frame, takt_body *body,
                                       size_t size)
{
    takt_strand *strand = NULL;
    if (takt__foreign(s, NULL))
        return false;
    if (!s->stopping && !s->fatal && !takt__taken(s, frame))
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

/* The first `count` results were handed out. */
void takt__results_taken(takt_sched *s, uint32_t count)
{
    s->result_count -= count;
    memmove(s->results, s->results + count, s->result_count * sizeof *s->results);
}

int takt__submit(takt_sched *s, takt_frame *frame, takt_body *body)
{
    takt_strand *strand;
    if (takt__foreign(s, NULL))
        return TAKT_ETHREAD;
    if (s->fatal)
        return s->fatal;
    if (s->stopping)
        return TAKT_ESTOPPING;
    if (takt_alive(frame))
        return TAKT_ERUNNING;
    if (takt__taken(s, frame))
        return TAKT_ESTACK;
    if (s->in_turn && s->result_count + s->strands_used >= s->slots.count)
        return TAKT_ESTRANDS; /* no room for its result: those of this turn stand there */
    strand = takt__strand_take(s, TAKT__FOR_A_FRAME);
    if (!strand)
        return TAKT_ESTRANDS;
    memset((void *)frame, 0, sizeof *frame);
    takt__frame_begin(frame, NULL, strand, body, TAKT__ROOT | TAKT__SUBMITTED);
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
    if (child->strand && child->parent == f) {
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
    if (account->len) /* completed, whatever was ordered meanwhile */
        return 0;
    return account->result < 0 ? account->result : (int64_t)account->arg.done;
}

takt_status takt__join(takt_frame *f, bool race, uint32_t line)
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
            it->flags &= (uint16_t)~TAKT__AWAITED;
        return takt__leave(TAKT__AGAIN);
    }
    if (account->bits == 0) {
        account->result = race ? takt__race_result(account) : 0;
        return takt__leave(TAKT__AGAIN);
    }
    strand->wait = race ? TAKT__ON_RACE : TAKT__ON_JOIN;
    if (race && account->len)
        takt__cancel_list(s, f->children, true);
    return takt__leave(TAKT__SUSPEND);
}

/* The link of a group's joiners that leads to `strand`; to none: the last. */
static uint32_t *takt__joiner(takt_sched *s, takt_group *group, const takt_strand *strand)
{
    uint32_t *link = &group->joiners;
    while (*link != takt__place(strand))
        link = &takt__strand_at(s, *link)->next;
    return link;
}

static void takt__joiner_leave(takt_sched *s, takt_strand *joiner)
{
    *takt__joiner(s, (takt_group *)joiner->slot.op.buf, joiner) = joiner->next;
}

takt_status takt__join_group(takt_frame *f, takt_group *group, uint32_t line)
{
    takt_strand *const strand = f->strand;
    takt_sched *const s = takt__sched_of_strand(strand);
    f->line = line;
    takt__op_of(f)->result = 0;
    if (strand->flags & TAKT__STOP && takt__told(f) != TAKT__GO_ON) {
        takt__op_of(f)->result = TAKT_ECANCELED;
        return takt__leave(TAKT__AGAIN);
    }
    if (group->count == 0)
        return takt__leave(TAKT__AGAIN);
    *takt__op_of(f) = takt__op(TAKT_OP_NONE, -1, group, 0);
    *takt__joiner(s, group, NULL) = takt__place(strand);
    strand->next = 0;
    strand->wait = TAKT__ON_GROUP;
    return takt__leave(TAKT__SUSPEND);
}

void takt_group_cancel(takt_group *group)
{
    if (group->sched && !takt__foreign(group->sched, NULL))
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
    f->bits = (uint8_t)((f->bits & ~TAKT__INTERRUPTED) | TAKT__HELD);
    f->failed_at = (uint16_t)((f->line & TAKT__LINES) - f->of.coro->line);
    f->error = error;
    f->state = f->state == TAKT__RUNNING ? TAKT__THROWN : TAKT__UNWINDING;
}

/* An await has failed: how does the frame go on? What is done is done: an order to stop
 * waits for the next await, so that no result, and no descriptor in it, is ever lost. */
TAKT__NOINLINE takt_status takt__failing(takt_frame *f)
{
    if (f->state == TAKT__UNWINDING)
        return takt__unwind_step(f); /* ends the deferred block it happened in */
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
    return takt__unwind_step(f);
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

TAKT__NOINLINE void takt__throw(takt_frame *f, int error, uint32_t line)
{
    f->line = line;
    takt__fail(f, error < 0 ? error : TAKT_ERANGE);
}

TAKT__NOINLINE void takt__throw_positive(takt_frame *f, int error, uint32_t line)
{
    takt__throw(f, error, line);
}

TAKT__NOINLINE void takt__return(takt_frame *f)
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

TAKT__NOINLINE takt_status takt__returned(takt_frame *f)
{
    if (!(f->bits & (TAKT__HELD | TAKT__INTERRUPTED))) {
        f->line = TAKT__DEFERRED; /* there is no way back in */
        return takt__leave(TAKT__FINISH);
    }
    takt__return(f);
    return takt__unwind_step(f);
}

TAKT__NOINLINE void takt__fell_out(takt_frame *f, uint32_t line)
{
    takt__throw(f, TAKT_EBREAK, line);
    takt__complain(f, takt_strerror(TAKT_EBREAK));
}

/* The body has no label for where it is to go on. */
TAKT__NOINLINE takt_status takt__lost(takt_frame *f)
{
    if (f->line != TAKT__CATCH) { /* else there is no TAKT_CATCH here */
        takt__complain(f, takt_strerror(TAKT_ERESUME));
        takt__fail(f, TAKT_ERESUME);
    }
    f->state = TAKT__UNWINDING;
    return takt__unwind_step(f);
}

/* Registers a deferred block. True: its end was left by a `break`, or it does not fit. */
TAKT__NOINLINE bool takt__defer(takt_frame *f, uint32_t line)
{
    const uint32_t below = line - f->of.coro->line + 1;
    int i = 0;
    while (i < TAKT_DEFERS_MAX && f->defers[i]) {
        if (f->defers[i] == (below | TAKT__DEFER_RUNS))
            return true;
        i++;
    }
    if (i == TAKT_DEFERS_MAX || below >= TAKT__DEFER_RUNS) {
        const bool inside = f->state == TAKT__UNWINDING; /* of another: nobody is thrown at */
        takt__throw(f, TAKT_EDEFERS, line);
        if (inside)
            takt__complain(f, takt_strerror(TAKT_EDEFERS));
        return true;
    }
    f->defers[i] = (uint16_t)below;
    f->bits |= TAKT__HELD;
    return false;
}

/* Takes out the deferred block that has run; the line of the next one, or 0. */
static uint32_t takt__next_defer(takt_frame *f)
{
    int i = TAKT_DEFERS_MAX;
    while (i-- > 0) {
        if (f->defers[i] & TAKT__DEFER_RUNS)
            f->defers[i] = 0;
        if (f->defers[i]) {
            const uint32_t line = f->of.coro->line + f->defers[i] - 1;
            f->defers[i] |= TAKT__DEFER_RUNS;
            return line;
        }
    }
    return 0;
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
        takt__attach(frame, &idle->link, TAKT__IDLE);
    }
    if (s->alone)
        takt__needs_loop_soon(s, "takt_idle_start");
    idle->link.limit_ms = ms < 1 ? 1 : ms > UINT32_MAX ? UINT32_MAX : (uint32_t)ms;
    takt_idle_touch(idle);
    takt__arm(s, &idle->timer, idle->due);
}

void takt_idle_touch(takt_idle *idle)
{
    if (idle->link.owner) /* it was started */
        idle->due = takt_after(takt__now(takt_sched_of(idle->link.owner)),
                               idle->link.limit_ms * TAKT_MS);
}

static bool takt__stream_close(takt_sched *s, takt_stream *stream);

/* Lets go of what hangs on `f`. False: a group or a stream is still to be waited for. */
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
            all = false;
            link = &it->next;
        } else if (it->kind == TAKT__STREAM &&
                   !takt__stream_close(s, (takt_stream *)(void *)it)) {
            all = false;
            link = &it->next;
        } else {
            *link = it->next;
            if (it->kind == TAKT__GROUP)
                it->owner = NULL;
            else if (it->kind == TAKT__IDLE) /* children that are not over may still touch it */
                takt_timer_disarm(&s->wheel, &((takt_idle *)(void *)it)->timer);
        }
    }
    return all;
}

/* The way out: children and what hangs on the frame, then the catch, then the defers.
 * `line` becomes the label where the body goes on. */
TAKT__NOINLINE takt_status takt__unwind_step(takt_frame *f)
{
    takt_sched *const s = takt__sched_of_strand(f->strand);
    uint32_t line;
    if (f->children)
        takt__cancel_list(s, f->children, false);
    if (!takt__detach(s, f) || f->children) {
        f->line = TAKT__UNWIND;
        f->strand->wait = TAKT__ON_CHILDREN;
        return takt__leave(TAKT__SUSPEND);
    }
    if (f->state == TAKT__THROWN) {
        f->state = TAKT__CATCHING;
        f->line = TAKT__CATCH;
        return takt__leave(TAKT__AGAIN);
    }
    f->state = TAKT__UNWINDING;
    line = takt__next_defer(f);
    f->line = line | TAKT__DEFERRED;
    return takt__leave(line ? TAKT__AGAIN : TAKT__FINISH);
}

/* -- ends ------------------------------------------------------------------ */

/* The line where the error was thrown. */
static uint32_t takt__failed_at(const takt_frame *f)
{
    return f->of.coro->line + f->failed_at;
}

/* A task has ended with an error that nobody caught. */
static void takt__report(takt_sched *s, const takt_frame *f)
{
    const takt_coro *const coro = f->of.coro;
    char line[256];
    takt__text text = {line, sizeof line, 0};
    s->stats.failed++;
    if (s->first_error == 0)
        s->first_error = f->error;
    if (f->bits & TAKT__SUBMITTED)
        return; /* it is told with the result */
    if (s->config.on_failure) {
        s->config.on_failure(s->config.user, coro->name, f->error, coro->file,
                             (int)takt__failed_at(f));
        return;
    }
    takt__put(&text, "takt: ");
    takt__put(&text, coro->file);
    takt__put(&text, ":");
    takt__put_number(&text, takt__failed_at(f));
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
        else if (account->arg.done == 0) /* all have succeeded: a join has completed */
            account->result = 0;
        takt__ready(s, strand);
    }
}

/* A child of `parent` has ended. */
static void takt__child_over(takt_sched *s, takt_frame *parent, takt_strand *strand, int error)
{
    takt_strand *const waiting = parent->strand;
    const bool leaf = waiting->who.leaf == parent;
    const bool awaited = strand->flags & TAKT__AWAITED;
    const bool handed_over =
        awaited && (waiting->wait == TAKT__ON_RACE || waiting->wait == TAKT__ON_SCOPE);
    TAKT_ASSERT(!awaited || leaf);
    takt__unlink(s, &parent->children, strand);
    if (error < 0 && !handed_over && !(strand->flags & TAKT__CANCELLED))
        takt__interrupt_frame(parent, error);
    if (awaited)
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
        if (group->first_error == 0)
            group->first_error = error;
        if (group->fail_fast) {
            takt_group_cancel(group);
            if (owner)
                takt__interrupt_frame(owner, error);
        }
    }
    while (group->count == 0 && group->joiners) {
        takt_strand *const joiner = takt__strand_at(s, group->joiners);
        group->joiners = joiner->next;
        takt__ready(s, joiner);
    }
    if (group->count == 0 && owner && owner->strand->who.leaf == owner &&
        owner->strand->wait == TAKT__ON_CHILDREN)
        takt__ready(s, owner->strand);
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
        s->only_ops = false;
        s->stats.cancelled += cancelled;
        if (error < 0 && !cancelled && !(bits & TAKT__GROUPED))
            takt__report(s, f);
        if (bits & TAKT__SUBMITTED && !s->discarding)
            s->results[s->result_count++] = f;
    }
    if (bits & TAKT__POOLED)
        takt__pool_give(takt__pool_it_is_from(s, f), f);
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
TAKT__NOINLINE takt_body *takt__step(takt_sched *s, takt_strand *strand, int go)
{
    takt_frame *const f = strand->who.leaf;
    int64_t rc;
    if (s->watches)
        takt__note(s, strand);
    switch (go) {
    case TAKT__CALLING: /* the callee has been put in place */
        return f->of.first;
    case TAKT__AGAIN:
        return f->of.coro->body;
    case TAKT__OP:
        rc = takt__stops(strand) ? TAKT_ECANCELED : takt__begin_here(s, strand);
        if (rc == 0)
            return NULL;
        strand->slot.op.result = rc < 0 ? rc : rc - 1;
        if (rc < 0)
            return f->of.coro->body;
        takt__ready(s, strand); /* at once, but others first */
        return NULL;
    case TAKT__RETURN:
    case TAKT__FINISH:
        TAKT_ASSERT(!takt_timer_armed(&strand->timer));
        if (TAKT__UNLIKELY(strand->wait == TAKT__ON_OP)) { /* it still lends */
            takt__misuse(f->of.coro, f->line, TAKT_EBODY);
            return NULL;
        }
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
 * >>drive-impl
 *
 * A drive is a slab of one strand under a scheduler that has nothing else. The op at which
 * the strand waits is never in anybody's hands: an order to stop is noted, and takes the
 * place of the next dispatch.
 * ======================================================================== */

/* -- back-off ---------------------------------------------------------------- */

takt_ns takt_backoff_duration(const takt_backoff *backoff)
{
    const takt_ns base = backoff->base > 0 ? backoff->base : 500 * TAKT_US;
    const takt_ns max = backoff->max > 0 ? backoff->max : 100 * TAKT_MS;
    const takt_ns n = (takt_ns)backoff->block + 1;
    return base > max / n ? max : n * base;
}

takt_ns takt_backoff_next(takt_backoff *backoff)
{
    const takt_ns nominal = takt_backoff_duration(backoff);
    uint64_t x = backoff->seed ? backoff->seed : 0x9e3779b97f4a7c15;
    takt_ns off;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    backoff->seed = x;
    if (++backoff->slept > backoff->block) {
        backoff->slept = 0;
        backoff->block += backoff->block < UINT32_MAX;
    }
    off = (takt_ns)(x & 255) - 128;
    if (nominal > TAKT_FOREVER / 256)
        return nominal;
    return nominal + nominal * off / 1024;
}

static void takt__system_sleep(takt_ns ns)
{
#ifndef TAKT_NO_POSIX
    struct timespec left;
    left.tv_sec = (time_t)(ns / TAKT_SEC);
    left.tv_nsec = (long)(ns % TAKT_SEC);
    while (nanosleep(&left, &left) < 0) /* for a signal */
        ;
#else
    (void)ns;
#endif
}

void takt_backoff_wait(takt_backoff *backoff)
{
    const takt_ns ns = takt_backoff_next(backoff);
    if (backoff->sleep)
        backoff->sleep(backoff->user, ns);
    else
        takt__system_sleep(ns);
}

void takt_backoff_reset(takt_backoff *backoff)
{
    backoff->block = 0;
    backoff->slept = 0;
}

/* -- what the scheduler asks of a drive ---------------------------------------- */

static int takt__drive_ask(takt_drive *drive, takt_op *op, int64_t *value)
{
    const takt_dispatcher *const how = drive->dispatcher;
    *value = 0;
    if (!how || !how->dispatch)
        return -ENOTSUP;
    drive->dispatches++;
    return how->dispatch(how->user, op, value);
}

static void takt__drive_cancel(void *drive, takt_op *op)
{
    (void)drive;
    (void)op; /* TAKT__ASKED is set: the next advance looks there */
}

/* One op that does not wait: the code and the value in one. */
static int64_t takt__drive_call(void *drive, takt_op *op)
{
    int64_t value;
    const int rc = takt__drive_ask((takt_drive *)drive, op, &value);
    return takt_is_progress(rc) ? value : rc;
}

static takt_ns takt__drive_now(void *drive)
{
    const takt_dispatcher *const how = ((takt_drive *)drive)->dispatcher;
    if (how && how->now)
        return how->now(how->user);
#ifndef TAKT_NO_POSIX
    return takt_posix_now(NULL);
#else
    return 0;
#endif
}

/* Whoever drives gets the error: there is nobody else to tell. */
static void takt__drive_failure(void *user, const char *name, int error, const char *file,
                                int line)
{
    (void)user;
    (void)name;
    (void)error;
    (void)file;
    (void)line;
}

void takt_drive_init(takt_drive *drive, const takt_dispatcher *dispatcher)
{
    static const takt__calls calls = {NULL /* of requests: they find no strand */,
                                      takt__drive_cancel, takt__drive_call, takt__drive_now};
    takt_sched *const s = &drive->sched;
    memset((void *)drive, 0, sizeof *drive);
    drive->dispatcher = dispatcher;
    drive->places[0].sched = s;
    s->alone = true;
    s->calls = &calls;
    s->backend = drive;
    s->slots.base = (unsigned char *)&drive->places[1];
    s->slots.stride = (uint32_t)sizeof(takt_strand);
    s->slots.count = 1;
    s->fresh = 1; /* none is left to take */
    s->config.on_failure = takt__drive_failure;
    takt_wheel_init(&s->wheel, 0);
}

/* -- running -------------------------------------------------------------------- */

static bool takt__drive_suspended(const takt_drive *drive)
{
    return drive->frame && drive->places[1].strand.wait == TAKT__ON_OP;
}

/* The body has yielded an op. True: it waits. */
static bool takt__drive_waits(takt_drive *drive)
{
    takt_sched *const s = &drive->sched;
    takt_strand *const strand = &drive->places[1].strand;
    takt_op *const op = &strand->slot.op;
    if (takt__stops(strand)) {
        op->result = TAKT_ECANCELED;
        return false;
    }
    if (s->stack_base - (uintptr_t)op->buf < TAKT__BODY_STACK ||
        s->stack_base - (uintptr_t)op->arg.ptr < TAKT__BODY_STACK) {
        takt__complain(strand->who.leaf, takt_strerror(TAKT_ESTACK));
        op->result = TAKT_ESTACK;
        return false;
    }
    if (s->discarding) { /* only a close comes so far */
        op->result = takt__drive_call(drive, op);
        return false;
    }
    if (s->stopping && op->kind == TAKT_OP_ACCEPT) {
        op->result = TAKT_ESTOPPING;
        return false;
    }
    strand->slot.generation++;
    strand->wait = TAKT__ON_OP;
    return true;
}

/* It waits for something that is not an op. It has yielded, or waits for what only a loop
 * has: then that wait is over. */
static takt_body *takt__drive_go_on(takt_drive *drive)
{
    takt_sched *const s = &drive->sched;
    takt_strand *const strand = &drive->places[1].strand;
    takt__turn_begins(s);
    if (!takt__next_ready(s)) {
        takt__needs_loop(strand->who.leaf, "this wait");
        takt__interrupt(s, strand);
        while (takt__next_ready(s))
            ;
        strand->slot.op.result = -ENOTSUP;
    }
    strand->wait = TAKT__READY;
    return strand->who.leaf->of.coro->body;
}

/* Runs it until it waits for an op, or to its end. 1 if it has finished. */
static int takt__drive_run(takt_drive *drive, takt_body *body)
{
    takt_sched *const s = &drive->sched;
    takt_strand *const strand = &drive->places[1].strand;
    s->in_turn = true;
    s->now_known = false;
    s->stack_base = TAKT__STACK_POINTER();
    while (body) {
        const int go = body(strand->who.leaf).go;
        s->stats.resumed++;
        if (go == TAKT__AS_IT_IS || go == TAKT__OP)
            body = takt__drive_waits(drive) ? NULL : strand->who.leaf->of.coro->body;
        else if (go == TAKT__SUSPEND)
            body = takt__drive_go_on(drive);
        else
            body = takt__step(s, strand, go);
    }
    s->in_turn = false;
    s->now_known = false;
    if (strand->wait != TAKT__FREE)
        return 0;
    drive->frame = NULL;
    s->free = 0; /* none to take, as before */
    return 1;
}

int takt_step(takt_drive *drive, takt_frame *frame, takt_body *body)
{
    takt_sched *const s = &drive->sched;
    takt_strand *const strand = &drive->places[1].strand;
    if (drive->frame || takt_alive(frame))
        return TAKT_ERUNNING;
    s->strands_used = 1;
    s->stopping = false;
    strand->sibling_next = strand->sibling_prev = 0;
    strand->on.attached = NULL;
    strand->flags = 0;
    strand->wait = TAKT__READY;
    strand->who.leaf = frame;
    memset((void *)frame, 0, sizeof *frame);
    takt__frame_begin(frame, NULL, strand, body, TAKT__ROOT);
    takt__link(s, &s->tasks, strand);
    s->pending = 1;
    drive->frame = frame;
    strand->slot.op = takt__op(TAKT_OP_NONE, -1, NULL, 0);
    return takt__drive_run(drive, body);
}

static int takt__drive_resume(takt_drive *drive, int64_t value)
{
    takt_strand *const strand = &drive->places[1].strand;
    drive->epoch++;
    strand->slot.op.result = takt__asked_result(&drive->sched, strand, value);
    takt__settle(&drive->sched, strand);
    return takt__drive_run(drive, strand->who.leaf->of.coro->body);
}

takt_op *takt_drive_op(takt_drive *drive)
{
    return takt__drive_suspended(drive) ? &drive->places[1].strand.slot.op : NULL;
}

int takt_advance(takt_drive *drive)
{
    takt_strand *const strand = &drive->places[1].strand;
    const uint64_t epoch = drive->epoch;
    int64_t value;
    int rc;
    if (!takt__drive_suspended(drive)) {
        TAKT_ASSERT(false && "takt_advance: nothing is suspended");
        return TAKT_ERESUME;
    }
    if (strand->flags & TAKT__ASKED) { /* it was cancelled before anybody began */
        takt__drive_resume(drive, TAKT_ECANCELED);
        return 0;
    }
    rc = takt__drive_ask(drive, &strand->slot.op, &value);
    rc = rc > 0 ? 0 : rc;
    if (takt_is_progress(rc) && epoch == drive->epoch) /* else the dispatcher went first */
        takt__drive_resume(drive, value);
    return rc;
}

int takt_try_resume(takt_drive *drive, uint64_t epoch, int64_t value)
{
    if (epoch != drive->epoch || !takt__drive_suspended(drive))
        return TAKT_ERESUME;
    return takt__drive_resume(drive, value);
}

int takt_resume(takt_drive *drive, uint64_t epoch, int64_t value)
{
    const int rc = takt_try_resume(drive, epoch, value);
    TAKT_ASSERT(rc >= 0 && "takt_resume: this suspension is over");
    return rc;
}

bool takt_discard(takt_drive *drive)
{
    takt_sched *const s = &drive->sched;
    takt_strand *const strand = &drive->places[1].strand;
    takt_op *const op = &strand->slot.op;
    if (!takt__drive_suspended(drive))
        return false;
    drive->discarded++;
    s->stats.discarded++;
    s->discarding = true;
    strand->flags |= TAKT__STOP | TAKT__CANCELLED;
    takt__drive_resume(drive, op->kind == TAKT_OP_CLOSE ? takt__drive_call(drive, op)
                                                        : TAKT_ECANCELED);
    s->discarding = false;
    return true;
}

int takt_exec(const takt_dispatcher *dispatcher, takt_frame *frame, takt_body *body)
{
    takt_drive drive;
    takt_backoff backoff = dispatcher->backoff;
    int rc;
    takt_drive_init(&drive, dispatcher);
    rc = takt_step(&drive, frame, body);
    takt_backoff_reset(&backoff);
    while (rc >= 0 && drive.frame) {
        const int answer = takt_advance(&drive);
        if (takt_is_progress(answer)) {
            takt_backoff_reset(&backoff);
        } else if (answer == TAKT_EWOULDBLOCK) {
            takt_backoff_wait(&backoff);
        } else {
            takt_discard(&drive);
            return answer;
        }
    }
    return rc < 0 ? rc : takt_error(frame);
}

/* -- bodies by hand ---------------------------------------------------------- */

uint32_t takt_enter(takt_frame *frame, const takt_coro *coro)
{
    frame->of.coro = coro;
    return frame->line;
}

takt_status takt_yield(takt_frame *frame, takt_op op, uint32_t state)
{
    TAKT_ASSERT(state > 0 && state <= TAKT__LINES && "takt_yield: no such state");
    *takt__op_of(frame) = op;
    return takt__await(frame, 0, state);
}

takt_status takt_call(takt_frame *frame, takt_frame *child, takt_body *body, uint32_t state)
{
    TAKT_ASSERT(state > 0 && state <= TAKT__LINES && "takt_call: no such state");
    memset((void *)child, 0, sizeof *child);
    takt__frame_begin(child, frame, frame->strand, body, 0);
    frame->strand->who.leaf = child;
    return takt__call(frame, state);
}

/* An order to stop is seen here: what failed with TAKT_ECANCELED was interrupted, perhaps,
 * by something with a name of its own. */
int64_t takt_result(takt_frame *frame)
{
    takt_op *const op = takt__op_of(frame);
    if (frame->line == 0)
        return 0;
    if (op->result < 0 && frame->strand->flags & TAKT__STOP &&
        takt__told(frame) == TAKT__THROW_IT) {
        op->result = frame->error;
        frame->bits &= (uint8_t)~TAKT__INTERRUPTED;
    }
    return op->result;
}

void takt_unwind(takt_frame *frame, int error)
{
    if (error)
        takt__fail(frame, error < 0 ? error : TAKT_ERANGE);
    else
        takt__return(frame);
    frame->state = TAKT__UNWINDING;
}

takt_status takt_finish(takt_frame *frame, int error)
{
    takt_unwind(frame, error); /* nothing, if it comes back from waiting for what it began */
    return takt__unwind_step(frame);
}

/* ==========================================================================
 * >>stream-impl
 *
 * A stream's request has a strand of its own, which no frame runs on: it is in flight, or
 * it pauses because enough items stand in line.
 * ======================================================================== */

enum { /* takt_stream.state */
    TAKT__STREAM_NEVER,
    TAKT__STREAM_OPEN,    /* its request is in flight */
    TAKT__STREAM_PAUSING, /* and was asked to end, as too much stands in line */
    TAKT__STREAM_PAUSED,
    TAKT__STREAM_ENDING,  /* and was asked to end for good; what has come is still taken */
    TAKT__STREAM_CLOSING, /* and nobody takes any more */
    TAKT__STREAM_OVER
};

/* What a completion brought, until somebody takes it. */
typedef struct takt__item {
    int64_t value;
    void *data;
    uint32_t flags; /* of the completion */
    uint32_t next;  /* in line, or free; counted from 1 */
} takt__item;

static takt_op *takt__stream_op(const takt_sched *s, const takt_stream *stream)
{
    return &takt__strand_at(s, stream->strand)->slot.op;
}

/* Gives back what an item holds. */
static void takt__item_drop(takt_sched *s, takt_bufs *pool, const takt__item *item)
{
    takt_completion lost;
    unsigned char *data = (unsigned char *)item->data;
    if (data)
        takt_bufs_put(pool, &data);
    if (!(item->flags & TAKT_FD))
        return;
    memset(&lost, 0, sizeof lost);
    lost.value = item->value;
    lost.flags = item->flags;
    takt__orphan(s, &lost);
    s->stats.stale--; /* somebody did wait for it */
}

static bool takt__item_add(takt_sched *s, takt_stream *stream, int64_t value, void *data,
                           uint32_t flags)
{
    uint32_t place = s->items_free;
    takt__item *item;
    if (place)
        s->items_free = s->items[place - 1].next;
    else if (s->items_fresh < s->config.items)
        place = ++s->items_fresh;
    else
        return false;
    item = &s->items[place - 1];
    item->value = value;
    item->data = data;
    item->flags = flags;
    item->next = 0;
    if (stream->first)
        s->items[stream->last - 1].next = place;
    else
        stream->first = place;
    stream->last = place;
    stream->count++;
    return true;
}

static takt__item takt__item_take(takt_sched *s, takt_stream *stream)
{
    const uint32_t place = stream->first;
    takt__item *const at = &s->items[place - 1];
    const takt__item item = *at;
    stream->first = item.next;
    stream->count--;
    at->next = s->items_free;
    s->items_free = place;
    return item;
}

/* The request is over for good: its strand goes back. */
static void takt__stream_over(takt_sched *s, takt_stream *stream, int64_t result)
{
    takt_strand *const strand = takt__strand_at(s, stream->strand);
    if (result < 0)
        stream->error = (int32_t)result;
    stream->state = TAKT__STREAM_OVER;
    strand->flags = 0;
    takt_timer_disarm(&s->wheel, &strand->timer);
    stream->strand = 0;
    strand->wait = TAKT__READY;
    takt__strand_give(s, strand);
}

/* Whoever waits for an item, or for the end of the stream, goes on. */
static void takt__stream_wake(takt_sched *s, takt_stream *stream)
{
    takt_strand *const waiting = stream->link.owner->strand;
    if (waiting->who.leaf != stream->link.owner)
        return;
    if ((waiting->wait == TAKT__ON_NEXT && waiting->slot.op.buf == stream &&
         (stream->count || takt_stream_ended(stream))) || /* not for the end of a pause */
        (waiting->wait == TAKT__ON_CHILDREN && stream->strand == 0))
        takt__ready(s, waiting);
}

/* Asks the request to end, once. At rest it is over at once, with `result`. */
static void takt__stream_ask(takt_sched *s, takt_stream *stream, uint8_t state, int result)
{
    takt_op *const op = takt__stream_op(s, stream);
    const bool asked = stream->state != TAKT__STREAM_OPEN;
    if (stream->state == TAKT__STREAM_CLOSING)
        return;
    if (stream->state == TAKT__STREAM_PAUSED || op->kind == TAKT_OP_SLEEP) {
        takt__stream_over(s, stream, result);
        return;
    }
    stream->state = state;
    if (!asked)
        s->calls->cancel(s->backend, op);
}

static uint32_t takt__stream_limit(const takt_stream *stream)
{
    return stream->limit ? stream->limit : 16;
}

static int64_t takt__stream_begin(takt_sched *s, takt_strand *strand)
{
    const takt_op *const op = &strand->slot.op;
    if (s->stopping && op->kind == TAKT_OP_ACCEPT)
        return TAKT_ESTOPPING;
    if (op->kind != TAKT_OP_SLEEP)
        return takt__hand_over(s, strand);
    takt__arm(s, &strand->timer, takt_after(takt__now(s), op->arg.sleep));
    return 0;
}

/* The request has ended because too much stood in line; is that still so? */
static void takt__stream_rest(takt_sched *s, takt_stream *stream)
{
    int64_t rc;
    stream->state = TAKT__STREAM_PAUSED;
    if (stream->count > takt__stream_limit(stream) / 2)
        return;
    stream->state = TAKT__STREAM_OPEN;
    rc = takt__stream_begin(s, takt__strand_at(s, stream->strand));
    if (rc < 0)
        takt__stream_over(s, stream, rc);
}

/* Something has come for a stream. */
static void takt__stream_item(takt_sched *s, takt_strand *strand, const takt_completion *done)
{
    takt_stream *const stream = strand->who.stream;
    const bool more = done->flags & TAKT_MORE;
    const bool item = done->error == 0 && (more || done->payload || done->flags & TAKT_FD);
    takt__item lost;
    if (item && (stream->state == TAKT__STREAM_CLOSING ||
                 !takt__item_add(s, stream, done->value, done->payload, done->flags))) {
        lost.value = done->value;
        lost.data = done->payload;
        lost.flags = done->flags;
        takt__item_drop(s, stream->pool, &lost);
    }
    if (more && stream->count >= takt__stream_limit(stream) && stream->state == TAKT__STREAM_OPEN)
        takt__stream_ask(s, stream, TAKT__STREAM_PAUSING, 0);
    else if (!more && stream->state == TAKT__STREAM_PAUSING && done->error == TAKT_ECANCELED)
        takt__stream_rest(s, stream);
    else if (!more)
        takt__stream_over(s, stream,
                          done->error == TAKT_ECANCELED && s->stopping &&
                                  strand->slot.op.kind == TAKT_OP_ACCEPT
                              ? TAKT_ESTOPPING
                              : done->error);
    takt__stream_wake(s, stream);
}

/* A takt_every() has come due; what nobody has taken yet is counted in one item. */
static void takt__stream_tick(takt_sched *s, takt_strand *strand)
{
    takt_stream *const stream = strand->who.stream;
    const takt_ns period = strand->slot.op.arg.sleep;
    const takt_ns late = takt__now(s) - strand->timer.when;
    const int64_t ticks = 1 + late / period;
    if (stream->first)
        s->items[stream->first - 1].value += ticks;
    else if (!takt__item_add(s, stream, ticks, NULL, 0))
        s->stats.orphans++;
    takt__arm(s, &strand->timer, takt_after(strand->timer.when, ticks * period));
    takt__stream_wake(s, stream);
}

bool takt__open(takt_frame *f, takt_stream *stream, takt_op op, uint32_t line)
{
    takt_sched *const s = takt__sched_of_strand(f->strand);
    const uint32_t limit = stream->limit;
    takt_strand *strand = NULL;
    int64_t rc = TAKT_ESTRANDS;
    if (s->alone) {
        takt__needs_loop(f, "TAKT_OPEN");
        rc = -ENOTSUP;
    } else if (stream->strand)
        rc = TAKT_ERUNNING;
    else if (s->discarding)
        rc = TAKT_ECANCELED;
    else if (!(op.flags & TAKT_OP_MULTI))
        rc = -EINVAL;
    else
        strand = takt__strand_take(s, TAKT__FOR_A_FRAME);
    if (strand) {
        memset((void *)stream, 0, sizeof *stream);
        stream->limit = limit;
        stream->strand = takt__place(strand);
        stream->pool = (takt_bufs *)op.arg.ptr;
        stream->state = TAKT__STREAM_OPEN;
        strand->flags = TAKT__REQUEST;
        strand->who.stream = stream;
        strand->slot.op = op;
        strand->wait = TAKT__ON_STREAM;
        rc = takt__stream_begin(s, strand);
    }
    if (rc < 0) {
        if (strand)
            takt__stream_over(s, stream, rc);
        takt__throw(f, (int)rc, line);
        return false;
    }
    takt__attach(f, &stream->link, TAKT__STREAM);
    return true;
}

/* The scheduler that a stream hangs on. */
static takt_sched *takt__stream_sched(const takt_stream *stream)
{
    return takt__sched_of_strand(stream->link.owner->strand);
}

bool takt_stream_take(takt_stream *stream, takt_item *item)
{
    takt_sched *s;
    takt__item next;
    memset(item, 0, sizeof *item);
    item->end = takt_stream_ended(stream);
    if (stream->count == 0)
        return false;
    s = takt__stream_sched(stream);
    next = takt__item_take(s, stream);
    item->value = next.value;
    item->data = (unsigned char *)next.data;
    if (stream->state == TAKT__STREAM_PAUSED)
        takt__stream_rest(s, stream);
    return true;
}

bool takt_stream_ended(const takt_stream *stream)
{
    return stream->count == 0 && stream->strand == 0;
}

void takt_stream_cancel(takt_stream *stream)
{
    takt_sched *s;
    if (stream->strand == 0)
        return;
    s = takt__stream_sched(stream);
    takt__stream_ask(s, stream, TAKT__STREAM_ENDING, TAKT_ECANCELED);
    takt__stream_wake(s, stream);
}

/* The loop stops: no new connections. */
static void takt__stream_stop(takt_sched *s, takt_stream *stream)
{
    takt__stream_ask(s, stream, TAKT__STREAM_ENDING, TAKT_ESTOPPING);
    takt__stream_wake(s, stream);
}

/* The frame leaves. True: the stream holds nothing any more. */
static bool takt__stream_close(takt_sched *s, takt_stream *stream)
{
    if (stream->strand)
        takt__stream_ask(s, stream, TAKT__STREAM_CLOSING, TAKT_ECANCELED);
    if (stream->strand)
        return false;
    while (stream->first) { /* nobody will take them any more */
        const takt__item item = takt__item_take(s, stream);
        takt__item_drop(s, stream->pool, &item);
    }
    return true;
}

takt_status takt__next(takt_frame *f, takt_stream *stream, uint32_t line)
{
    takt_strand *const strand = f->strand;
    f->line = line;
    *takt__op_of(f) = takt__op(TAKT_OP_NONE, -1, stream, 0);
    if (strand->flags & TAKT__STOP && takt__told(f) != TAKT__GO_ON) {
        takt__op_of(f)->result = TAKT_ECANCELED;
        return takt__leave(TAKT__AGAIN);
    }
    if (stream->count || takt_stream_ended(stream))
        return takt__leave(TAKT__AGAIN);
    strand->wait = TAKT__ON_NEXT;
    return takt__leave(TAKT__SUSPEND);
}

void takt__next_take(takt_frame *f, takt_stream *stream, takt_item *item)
{
    takt_op *const op = takt__op_of(f);
    memset(item, 0, sizeof *item);
    if (op->result < 0 || takt_stream_take(stream, item))
        return;
    op->result = stream->error;
    stream->error = 0; /* it is told once */
}

/* -- the runner without coroutines -------------------------------------------- */

enum { TAKT__ROUTE_FREE, TAKT__ROUTE_OPEN, TAKT__ROUTE_CANCELING }; /* takt__route.state */

static takt__route *takt__route_at(const takt_routes *r, uint32_t index)
{
    return (takt__route *)(void *)takt_slot_at(&r->slots, index);
}

static takt_route takt__route_of(takt_token token)
{
    takt_route route;
    route.token = (uint32_t)token;
    route.generation = (uint32_t)(token >> 32);
    return route;
}

static takt__route *takt__route_find(const takt_routes *r, takt_token id)
{
    takt__route *const own = (takt__route *)(void *)takt_slot_find(&r->slots, id);
    takt__route *const known = (takt__route *)takt_tokens_find(&r->foreign, id);
    if (known)
        return known;
    return own && own->state != TAKT__ROUTE_FREE && own->id == id ? own : NULL;
}

int takt__routes_init(takt_routes *r, uint32_t count)
{
    memset(r, 0, sizeof *r);
    if (count == 0 || count > UINT32_MAX / 4)
        return -EINVAL;
    r->slots.base = (unsigned char *)TAKT_CALLOC(count, sizeof(takt__route));
    r->slots.stride = (uint32_t)sizeof(takt__route);
    r->slots.count = count;
    if (!r->slots.base || takt_tokens_init(&r->foreign, count) < 0) {
        TAKT_FREE(r->slots.base);
        return -ENOMEM;
    }
    return 0;
}

void takt__routes_free(takt_routes *r)
{
    takt_tokens_free(&r->foreign);
    TAKT_FREE(r->slots.base);
    r->slots.base = NULL;
    if (!r->fatal)
        r->fatal = TAKT_EDISPOSED;
}

/* A free route, with a generation that is never 0. */
takt__route *takt__route_take(takt_routes *r)
{
    takt__route *route;
    if (r->free) {
        route = takt__route_at(r, r->free - 1);
        r->free = route->next;
    } else if (r->fresh < r->slots.count) {
        route = takt__route_at(r, r->fresh);
        route->slot.index = r->fresh++;
    } else {
        return NULL;
    }
    if (++route->slot.generation == 0)
        route->slot.generation = 1;
    return route;
}

void takt__route_give(takt_routes *r, takt__route *route)
{
    if (route->state != TAKT__ROUTE_FREE)
        r->pending--;
    if (route->id != takt_token_of(&route->slot.op))
        takt_tokens_remove(&r->foreign, route->id);
    route->state = TAKT__ROUTE_FREE;
    route->next = r->free;
    r->free = route->slot.index + 1;
}

/* The backend calls it `id`. 0, or what ended the runner. */
int takt__route_open(takt_routes *r, takt__route *route, takt_token id)
{
    const int rc = id == 0                  ? TAKT_EBADROUTE
                   : takt__route_find(r, id) ? TAKT_ELIVEROUTE
                                             : 0;
    route->id = takt_token_of(&route->slot.op);
    if (rc < 0) {
        r->fatal = rc;
        takt__route_give(r, route);
        return rc;
    }
    if (id != route->id)
        takt_tokens_add(&r->foreign, id, route);
    route->id = id;
    route->state = TAKT__ROUTE_OPEN;
    r->pending++;
    return 0;
}

/* To which route a completion belongs; NULL: to none. The last one closes it. */
bool takt__route_accept(takt_routes *r, const takt_completion *done, takt_route *which)
{
    takt__route *const route = done->token ? takt__route_find(r, done->token) : NULL;
    if (!route)
        return false;
    *which = takt__route_of(done->token);
    if (!(done->flags & TAKT_MORE))
        takt__route_give(r, route);
    return true;
}

/* The op of an open route that is to be cancelled, or NULL. `rc`: 0 or an error. */
takt_op *takt__route_cancel(takt_routes *r, takt_route which, int *rc)
{
    takt__route *const route =
        takt__route_find(r, takt_token_make(which.generation, which.token));
    *rc = r->fatal ? r->fatal : route ? 0 : TAKT_EUNKNOWN;
    if (*rc < 0 || route->state == TAKT__ROUTE_CANCELING)
        return NULL;
    route->state = TAKT__ROUTE_CANCELING;
    return &route->slot.op;
}

/* Forgets the next open route, from index `*at` on. `op`: what is to be cancelled, or
 * NULL. False: there is none. */
bool takt__route_forget(takt_routes *r, uint32_t *at, takt_op **op)
{
    for (; *at < r->fresh; ++*at) {
        takt__route *const route = takt__route_at(r, *at);
        if (route->state == TAKT__ROUTE_FREE)
            continue;
        *op = route->state == TAKT__ROUTE_OPEN ? &route->slot.op : NULL;
        if (route->id != takt_token_of(&route->slot.op))
            takt_tokens_remove(&r->foreign, route->id);
        route->state = TAKT__ROUTE_FREE; /* its slot is not used again */
        r->pending--;
        r->forgotten++;
        return true;
    }
    return false;
}

/* ==========================================================================
 * >>chan-impl
 *
 * A waiter is the op of a strand; while it waits, next and len are its links.
 * ======================================================================== */

static takt_line *takt__line_of(const takt_op *op)
{
    switch (op->kind) {
    case TAKT_OP_EVENT:
        return &((takt_event *)op->arg.ptr)->line;
    case TAKT_OP_ACQUIRE:
        return &((takt_semaphore *)op->arg.ptr)->line;
    case TAKT_OP_PUT:
        return &((takt_channel *)op->arg.ptr)->putters;
    default:
        return &((takt_channel *)op->arg.ptr)->getters;
    }
}

static takt_op *takt__line_before(const takt_op *op)
{
    return (takt_op *)(uintptr_t)op->len;
}

static void takt__line_leave(takt_op *op)
{
    takt_line *const line = takt__line_of(op);
    takt_op *const before = takt__line_before(op);
    if (before)
        before->next = op->next;
    else
        line->first = op->next;
    if (op->next)
        op->next->len = op->len;
    else
        line->last = before;
    op->len = 0;
    op->next = NULL;
}

static void takt__line_join(takt_op *op)
{
    takt_line *const line = takt__line_of(op);
    op->len = (size_t)(uintptr_t)line->last;
    op->next = NULL;
    if (line->last)
        line->last->next = op;
    else
        line->first = op;
    line->last = op;
    takt__strand_of(op)->wait = TAKT__ON_EVENT;
}

/* The first in line goes on. */
static void takt__line_next(takt_line *line, int64_t result)
{
    takt_strand *const strand = takt__strand_of(line->first);
    takt__foreign(takt__sched_of_strand(strand), NULL);
    takt__line_leave(line->first);
    takt__op_over(takt__sched_of_strand(strand), strand, result);
}

/* Takes what an op asks for, or joins the line: zero. Else its result and one more, or an
 * error. */
static int64_t takt__wait_in_line(takt_strand *strand)
{
    takt_op *const op = &strand->slot.op;
    takt_semaphore *const semaphore = (takt_semaphore *)op->arg.ptr;
    int rc = TAKT_EWOULDBLOCK;
    if (op->kind == TAKT_OP_EVENT) {
        if (((takt_event *)op->arg.ptr)->set)
            rc = 0;
    } else if (op->kind == TAKT_OP_PUT) {
        rc = takt_try_put((takt_channel *)op->arg.ptr, op->buf);
    } else if (op->kind == TAKT_OP_GET) {
        rc = takt_try_get((takt_channel *)op->arg.ptr, op->buf);
    } else if (semaphore->permits > 0 && !semaphore->line.first) {
        semaphore->permits--;
        rc = 0;
    }
    if (rc != TAKT_EWOULDBLOCK)
        return rc < 0 ? rc : rc + 1;
    takt__line_join(op);
    return 0;
}

void takt_event_set(takt_event *event)
{
    event->set = true;
    while (event->line.first)
        takt__line_next(&event->line, 0);
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
        takt__line_next(&semaphore->line, 0);
    }
}

/* -- channels: whoever waits to put waits because it is full, whoever waits to get because
 * it is empty. All is in order again before somebody is told that he is done, since a
 * batch may then begin with its next op on the same channel. */

int takt_channel_init(takt_channel *channel, void *ring, size_t size, uint32_t capacity)
{
    memset(channel, 0, sizeof *channel);
    if (size == 0 || (capacity && !ring))
        return -EINVAL;
    channel->ring = (unsigned char *)ring;
    channel->size = size;
    channel->capacity = capacity;
    return 0;
}

/* The place of the item that is `index` behind the oldest. */
static unsigned char *takt__cell(const takt_channel *channel, uint32_t index)
{
    const uint64_t at = (uint64_t)channel->first + index;
    return channel->ring + channel->size * (size_t)(at % channel->capacity);
}

static void takt__cell_fill(takt_channel *channel, const void *item)
{
    memcpy(takt__cell(channel, channel->count), item, channel->size);
    channel->count++;
}

/* Says that there was no takt_channel_init(). */
TAKT__COLD static int takt__channel_is_unset(void)
{
    if (TAKT_DEBUG)
        TAKT_LOG("takt: a channel is used that takt_channel_init() has not made");
    return -EINVAL;
}

int takt_try_put(takt_channel *channel, const void *item)
{
    takt_op *const getter = channel->getters.first;
    if (channel->size == 0)
        return takt__channel_is_unset();
    if (channel->closed)
        return TAKT_ECLOSED;
    if (getter) {
        memcpy(getter->buf, item, channel->size);
        takt__line_next(&channel->getters, 1);
    } else if (channel->count < channel->capacity) {
        takt__cell_fill(channel, item);
    } else {
        return TAKT_EWOULDBLOCK;
    }
    return 0;
}

int takt_try_get(takt_channel *channel, void *item)
{
    takt_op *const putter = channel->putters.first;
    if (channel->size == 0)
        return takt__channel_is_unset();
    if (channel->count) {
        memcpy(item, takt__cell(channel, 0), channel->size);
        channel->first = (channel->first + 1) % channel->capacity;
        channel->count--;
        if (putter)
            takt__cell_fill(channel, putter->buf);
    } else if (putter) {
        memcpy(item, putter->buf, channel->size);
    } else {
        return channel->closed ? 0 : TAKT_EWOULDBLOCK;
    }
    if (putter)
        takt__line_next(&channel->putters, 0);
    return 1;
}

void takt_channel_close(takt_channel *channel)
{
    channel->closed = true;
    while (channel->putters.first)
        takt__line_next(&channel->putters, TAKT_ECLOSED);
    while (channel->getters.first)
        takt__line_next(&channel->getters, 0);
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
    default: /* TAKT__ON_STREAM */
        takt__stream_tick(s, strand);
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
    if (s->fatal && !s->discarding)
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

/* -- one op by itself --------------------------------------------------------- */

TAKT_CORO(takt_request)
{
    TAKT_BEGIN(takt_request, my);
    my->result = TAKT_ECANCELED;
    TAKT_DEFER { my->done(my->user, my->result); }
    TAKT_TRY_AWAIT(my->result, my->op);
    TAKT_END;
}

bool takt_submit_op(takt_sched *sched, takt_op op, void (*done)(void *user, int64_t result),
                    void *user)
{
    return TAKT__SPAWN(sched, NULL, NULL, takt_request, takt_request, .op = op, .done = done,
                       .user = user);
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
    if (strand->slot.op.kind != TAKT_OP_ACCEPT)
        return;
    if (strand->wait == TAKT__ON_OP)
        takt__interrupt_op(s, strand, TAKT_ESTOPPING);
    else if (strand->wait == TAKT__ON_STREAM)
        takt__stream_stop(s, strand->who.stream);
}

void takt_stop(takt_sched *s, takt_ns limit)
{
    if (takt__foreign(s, NULL))
        return;
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

/* The end of a loop: frames that it will never give back may be used again without being
 * told of, and what a broken backend holds, nobody can tell. */
static void takt__unwatch(takt_sched *s, takt_strand *strand)
{
    struct takt__watch *const watch = takt__watch_of(s, strand);
    takt_frame *const f = takt__waiting_frame(strand);
    if (f->state == TAKT__RUNNING)
        f->failed_at = 0;
    if (strand->wait == TAKT__ON_OP && watch->lent && takt__broken(s)) {
        takt__op_close(&strand->slot.op, false);
        watch->lent = false;
    }
}

int takt__discard_all(takt_sched *s)
{
    const int count = s->fatal ? 0 : (int)s->pending;
    s->owner = TAKT__THREAD(); /* a loop may end elsewhere, once nobody runs it */
    if (!s->fatal)
        s->fatal = TAKT_EDISPOSED;
    s->only_ops = false;
    s->stats.discarded += (uint64_t)count;
    s->stopping = true;
    takt__stop_now(s);
    s->discarding = true;
    takt__each(s, takt__discard);
    if (s->watches)
        takt__each(s, takt__unwatch);
    return count;
}

/* From here on nobody runs. Who was ready stands with those that have yielded, until a drain
 * ends them all. */
void takt__fail_loop(takt_sched *s, int error)
{
    if (s->fatal)
        return;
    s->fatal = error;
    s->only_ops = false;
    s->stats.discarded += s->pending;
    if (!s->ready_first)
        return;
    if (s->later_first)
        takt__strand_at(s, s->later_last)->next = s->ready_first;
    else
        s->later_first = s->ready_first;
    s->later_last = s->ready_last;
    s->ready_first = s->ready_last = 0;
}

/* -- a loop's beginning and end ---------------------------------------------- */

void takt__defaults(takt_config *config)
{
    config->strands = 64;
    config->completions = TAKT_DEFAULT_COMPLETIONS;
    config->items = 1024;
    config->reap_limit = 1 * TAKT_SEC;
}

takt_pool *TAKT__NAMED(takt__pool_add)(takt_config *config, takt_body *body, const char *name,
                                       size_t size, uint32_t count)
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
    size_t watches = 0; /* in strands' worth */
    if (count == 0 || count > UINT32_MAX / 4)
        return -EINVAL;
    count++; /* the spare one */
    if (TAKT__GUARDED)
        watches = ((size_t)count * sizeof *s->watches + sizeof(takt_strand) - 1) /
                  sizeof(takt_strand);
    /* before them stands a pointer, and they are aligned */
    s->slab = TAKT_CALLOC((size_t)count + 2 + watches, sizeof(takt_strand));
    if (!s->slab)
        return -ENOMEM;
    base = (unsigned char *)s->slab + sizeof(takt_strand);
    base += (sizeof(takt_strand) - (uintptr_t)base % sizeof(takt_strand)) % sizeof(takt_strand);
    *(takt_sched **)(void *)(base - sizeof(takt_strand)) = s;
    s->slots.base = base;
    s->slots.stride = (uint32_t)sizeof(takt_strand);
    s->slots.count = (uint32_t)count;
    if (watches)
        s->watches = (struct takt__watch *)(void *)(base + (size_t)count * sizeof(takt_strand));
    return 0;
}

static int takt__tables_init(takt_sched *s)
{
    const uint32_t count = s->slots.count;
    const uint32_t items = s->config.items;
    /* one more: a submit that finishes at once, while as many stand there as there can be */
    s->results = (takt_frame **)TAKT_CALLOC((size_t)count + 1, sizeof *s->results);
    s->items = (takt__item *)TAKT_CALLOC(items ? items : 1, sizeof *s->items);
    if (!s->results || !s->items)
        return -ENOMEM;
    return takt_tokens_init(&s->foreign, count);
}

/* Asks the provider, once. What it gives beyond that is not used. */
static int takt__take_completions(takt_sched *s, takt_completion **completions)
{
    const takt_memory *const memory = s->config.memory;
    const size_t size = s->config.completions * sizeof(takt_completion);
    void *slab;
    if (!memory) {
        *completions = (takt_completion *)TAKT_CALLOC(1, size);
        return *completions ? 0 : -ENOMEM;
    }
    slab = memory->acquire(memory->user, size, &s->completions_size);
    if (!slab)
        return -ENOMEM;
    *completions = (takt_completion *)slab;
    if (s->completions_size >= size && (uintptr_t)slab % sizeof(uint64_t) == 0)
        return 0;
    TAKT_LOG("takt: config.memory gave a slab that is too short for config.completions, or "
             "not aligned");
    return -EINVAL;
}

/* Gives them back, if that has not happened yet. */
void takt__give_completions(takt_sched *s, takt_completion **completions)
{
    const takt_memory *const memory = s->config.memory;
    void *const slab = *completions;
    *completions = NULL;
    if (!slab)
        return;
    if (!memory)
        TAKT_FREE(slab);
    else if (memory->release(memory->user, slab, s->completions_size) < 0)
        TAKT_LOG("takt: config.memory does not know the slab that it gave");
}

int TAKT__NAMED(takt__sched_init)(takt_sched *s, const takt_config *config,
                                  const takt__calls *calls, void *backend,
                                  takt_completion **completions)
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
    if (config->slice > 0 && config->completions > 64)
        s->config.completions = 64;
    for (uint32_t i = 0; i < config->pool_count; i++) {
        takt_pool *const pool = &s->config.pools[i];
        if (pool->strands == 0)
            pool->strands = 1;
        strands += (uint64_t)pool->count * pool->strands;
    }
    rc = takt__slab_init(s, strands);
    if (rc == 0)
        rc = takt__tables_init(s);
    if (rc == 0)
        rc = takt__take_completions(s, completions);
    for (uint32_t i = 0; rc == 0 && i < config->pool_count; i++) {
        takt_pool *const pool = &s->config.pools[i];
        pool->memory = (unsigned char *)TAKT_CALLOC(pool->count ? pool->count : 1,
                                                    takt__stride(pool));
        if (!pool->memory)
            rc = -ENOMEM;
    }
    if (rc < 0)
        takt__sched_free(s, completions);
    return rc;
}

void takt__sched_begin(takt_sched *s)
{
    takt_wheel_init(&s->wheel, takt__now(s));
}

void takt__sched_free(takt_sched *s, takt_completion **completions)
{
    for (uint32_t i = 0; i < s->config.pool_count; i++) {
        TAKT_FREE(s->config.pools[i].memory);
        s->config.pools[i].memory = NULL;
    }
    TAKT_FREE(s->slab);
    takt_tokens_free(&s->foreign);
    TAKT_FREE(s->results);
    TAKT_FREE(s->items);
    takt__give_completions(s, completions);
    s->slab = NULL;
    s->results = NULL;
    s->items = NULL;
    s->config.pool_count = 0;
    if (!s->fatal)
        s->fatal = TAKT_EDISPOSED;
}

/* ==========================================================================
 * >>relay-impl
 * ======================================================================== */

enum {
    TAKT__RELAY_BULK = 32 * 1024,        /* in full buffers, two at least: this is bulk; */
    TAKT__RELAY_LATER = 4 * 1024 * 1024, /* after there was no pipe */
    TAKT__RELAY_SMALL = 16 * 1024,       /* a piece below this is small, */
    TAKT__RELAY_SMALLS = 4               /* and so many in a row are not bulk */
};

void takt_pipe_drop(takt_frame *frame, struct takt_pipe **pipe)
{
    takt_op op = takt__op(TAKT_OP_PIPE, -1, *pipe, 0);
    if (*pipe)
        takt__ask(frame, &op);
    *pipe = NULL;
}

/* Something has moved. */
static void takt__relay_touch(struct takt_relay *my)
{
    if (my->idle)
        takt_idle_touch(my->idle);
}

/* my->n bytes have been handed on: which way the next ones go. What is held is NULL whenever
 * that changes. */
static void takt__relay_moved(struct takt_relay *my)
{
    const uint64_t bulk = my->refused ? TAKT__RELAY_LATER : TAKT__RELAY_BULK;
    my->bytes += (uint32_t)my->n;
    takt__relay_touch(my);
    if (my->splices) { /* while `to` is full, parts say nothing of what comes */
        my->trickles++;
        if (my->held.pipe || my->n >= TAKT__RELAY_SMALL)
            my->trickles = 0;
        my->splices = my->trickles < TAKT__RELAY_SMALLS;
        return;
    }
    if ((uint32_t)my->n < my->bufs->size) {
        my->full = 0;
        return;
    }
    my->full = (uint8_t)(my->full + (my->full < UINT8_MAX));
    if (my->full < 2 || ((uint64_t)my->full * my->bufs->size < bulk && my->full < UINT8_MAX))
        return;
    my->splices = true;
    my->full = my->trickles = 0;
}

/* True if there was no pipe, or there can be none: the same bytes can be received. */
static bool takt__relay_refused(struct takt_relay *my)
{
    const bool refused = !my->held.pipe &&
                         (my->n == -ENOBUFS || my->n == -ENOTSUP || my->n == -ENOSYS ||
                          my->n == -EINVAL || my->n == -EPERM);
    if (refused) {
        my->refused = true;
        my->splices = false;
    }
    return refused;
}

TAKT_CORO(takt_relay)
{
    TAKT_BEGIN(takt_relay, my);
    TAKT_DEFER
    {
        if (my->splices)
            takt_pipe_drop(&my->frame, &my->held.pipe);
        else
            takt_bufs_put(my->bufs, &my->held.data);
    }
    for (;;) {
        if (my->splices) {
            TAKT_TRY_AWAIT(my->n, takt_splice(my->from, my->to, &my->held.pipe));
            if (my->n < 0 && takt__relay_refused(my))
                continue;
            TAKT_CHECK(my->n);
        } else {
            TAKT_AWAIT(my->n, takt_recv_lease(my->from, my->bufs, &my->held.data));
            if (my->n > 0) {
                takt__relay_touch(my);
                TAKT_AWAIT(takt_send(my->to, my->held.data, (size_t)my->n));
                takt_bufs_put(my->bufs, &my->held.data);
            }
        }
        if (my->n == 0)
            break;
        takt__relay_moved(my);
    }
    TAKT_AWAIT(takt_shutdown(my->to, TAKT_SHUT_WRITE));
    TAKT_END;
}

/* ==========================================================================
 * >>post-impl
 * ======================================================================== */

#if !defined(TAKT_NO_POSIX) && defined(TAKT__ATOMICS)

/* The loop is woken by a pipe, not by an eventfd(2): where a loop's own descriptor is one, as
 * takt_uring_fd() is, Linux 6.18 tells of an eventfd that is ready inside it once, and never
 * again. */

enum { TAKT__POST_MOST = 64 }; /* messages at a time */

int takt_inbox_init(takt_inbox *inbox)
{
    int ends[2];
    if (pipe(ends) < 0)
        return -errno;
    for (int i = 0; i < 2; i++) {
        fcntl(ends[i], F_SETFD, FD_CLOEXEC);
        fcntl(ends[i], F_SETFL, O_NONBLOCK);
    }
    inbox->first = NULL;
    inbox->in = ends[1];
    inbox->out = ends[0];
    return 0;
}

void takt_inbox_free(takt_inbox *inbox)
{
    close(inbox->in);
    if (inbox->out >= 0)
        close(inbox->out);
}

/* Stands in the place of the newest message where none will follow. */
static takt_message *takt__post_closed(takt_inbox *inbox)
{
    return (takt_message *)(void *)inbox;
}

int takt_post(takt_inbox *inbox, takt_message *message)
{
    const int error = errno;
    takt_message *first = __atomic_load_n(&inbox->first, __ATOMIC_RELAXED);
    do {
        if (first == takt__post_closed(inbox))
            return TAKT_ECLOSED;
        message->next = first;
    } while (!__atomic_compare_exchange_n(&inbox->first, &first, message, true, __ATOMIC_ACQ_REL,
                                          __ATOMIC_RELAXED));
    if (!first) /* else whoever put that there wakes the loop */
        while (write(inbox->in, "", 1) < 0 && errno == EINTR)
            ;
    errno = error; /* a signal handler's caller wants it as it was */
    return 0;
}

/* Takes all messages, and leaves `instead`. They are the oldest first. */
static takt_message *takt__post_take(takt_inbox *inbox, takt_message *instead)
{
    takt_message *message = __atomic_exchange_n(&inbox->first, instead, __ATOMIC_ACQ_REL);
    takt_message *oldest = NULL;
    while (message) {
        takt_message *const next = message->next;
        message->next = oldest;
        oldest = message;
        message = next;
    }
    return oldest;
}

/* Runs at most `most` of *left. True if there are more. */
static bool takt__post_run(takt_message **left, int most)
{
    while (*left && most-- > 0) {
        takt_message *const message = *left;
        *left = message->next;
        message->run(message);
    }
    return *left != NULL;
}

TAKT_CORO(takt_delivery)
{
    TAKT_BEGIN(takt_delivery, my);
    TAKT_DEFER
    {
        takt__post_run(&my->left, INT_MAX);
        my->left = takt__post_take(my->inbox, takt__post_closed(my->inbox));
        takt__post_run(&my->left, INT_MAX);
        my->fd = my->inbox->out;
        my->inbox->out = -1;
        TAKT_AWAIT(takt_close(my->fd)); /* the backend knows it */
    }
    for (;;) { /* a byte more than one is there only if a message came between two takes */
        TAKT_AWAIT(takt_read(my->inbox->out, my->bytes, sizeof my->bytes, -1));
        my->left = takt__post_take(my->inbox, NULL);
        while (takt__post_run(&my->left, TAKT__POST_MOST))
            TAKT_YIELD;
    }
    TAKT_END;
}

/* -- jobs ------------------------------------------------------------------- */

enum { /* takt_job.state */
    TAKT__JOB_AWAITED,
    TAKT__JOB_LEFT, /* to itself */
    TAKT__JOB_DONE  /* but the inbox was closed */
};

/* In the loop's thread again. */
static void takt__job_over(takt_message *message)
{
    takt_job *const job = (takt_job *)(void *)message;
    if (__atomic_load_n(&job->state, __ATOMIC_ACQUIRE) == TAKT__JOB_LEFT) {
        job->drop(job);
        return;
    }
    job->over = true;
    takt_event_set(&job->done);
}

void takt_job_run(takt_job *job)
{
    takt_inbox *const inbox = job->inbox;
    job->work(job);
    if (takt_post(inbox, &job->message) == 0)
        return; /* it is not ours any more */
    if (__atomic_exchange_n(&job->state, TAKT__JOB_DONE, __ATOMIC_ACQ_REL) == TAKT__JOB_LEFT)
        job->drop(job);
}

static void takt__job_begin(takt_job *job, takt_inbox *inbox)
{
    job->message.run = takt__job_over;
    job->inbox = inbox;
    memset((void *)&job->done, 0, sizeof job->done);
    job->state = TAKT__JOB_AWAITED;
    job->over = false;
}

/* True if the work is still being done, and has to be waited for. */
static bool takt__job_busy(struct takt_offload *my)
{
    takt_job *const job = my->job;
    if (!my->begun || job->over)
        return false;
    my->begun = job->drop == NULL;
    if (job->drop &&
        __atomic_exchange_n(&job->state, TAKT__JOB_LEFT, __ATOMIC_ACQ_REL) == TAKT__JOB_DONE)
        job->drop(job);
    return my->begun;
}

/* Whatever was posted is run here: nobody else may be there to do so. */
static void takt__job_wait(struct takt_offload *my)
{
    takt_inbox *const inbox = my->inbox;
    takt_job *const job = my->job;
    while (!job->over && __atomic_load_n(&job->state, __ATOMIC_ACQUIRE) != TAKT__JOB_DONE) {
        takt_message *left;
        if (__atomic_load_n(&inbox->first, __ATOMIC_ACQUIRE) != takt__post_closed(inbox)) {
            left = takt__post_take(inbox, NULL);
            takt__post_run(&left, INT_MAX);
        }
        if (!job->over)
            takt__system_sleep(TAKT_MS / 10);
    }
}

TAKT_CORO(takt_offload)
{
    TAKT_BEGIN(takt_offload, my);
    takt__job_begin(my->job, my->inbox);
    TAKT_CHECK(my->execute(my->executor, my->job));
    my->begun = true;
    TAKT_DEFER
    {
        if (takt__job_busy(my)) {
            TAKT_TRY_AWAIT(my->n, takt_event_wait(&my->job->done));
            takt__job_wait(my); /* for nothing, but where no defer may await */
        }
    }
    TAKT_AWAIT(takt_event_wait(&my->job->done));
    TAKT_END;
}

#endif /* TAKT_NO_POSIX, TAKT__ATOMICS */

/* ==========================================================================
 * >>dump-impl
 *
 * test/takt-gdb.py prints the same lines from a core file: keep them alike.
 * ======================================================================== */

enum {
    TAKT__DUMP_DEPTH = 64, /* of children in children, and of calls on a strand */
    TAKT__DUMP_AGES = TAKT__AGES
};

/* -- lines ----------------------------------------------------------------- */

typedef struct takt__printer {
    const takt_sched *sched;
    void (*print)(void *user, const char *line);
    void *user;
    takt_ns now;
    takt__text text; /* of `line` */
    char line[256];
} takt__printer;

static void takt__log_line(void *user, const char *line)
{
    (void)user;
    TAKT_LOG(line);
}

static void takt__printer_init(takt__printer *p, const takt_sched *sched,
                               void (*print)(void *user, const char *line), void *user)
{
    p->sched = sched;
    p->print = print ? print : takt__log_line;
    p->user = user;
    p->now = 0;
}

/* Begins a line at its depth. */
static takt__text *takt__line_begin(takt__printer *p, int depth)
{
    p->text.at = p->line;
    p->text.size = sizeof p->line;
    p->text.len = 0;
    p->line[0] = '\0';
    for (int i = 0; i < depth && i < 40; i++)
        takt__put(&p->text, "  ");
    return &p->text;
}

static void takt__line_end(takt__printer *p)
{
    p->print(p->user, p->line);
}

static void takt__put_both(takt__text *text, const char *words, uint64_t number)
{
    takt__put(text, words);
    takt__put_number(text, (int64_t)number);
}

static void takt__put_ms(takt__text *text, const char *before, takt_ns ns, const char *after)
{
    takt__put(text, before);
    takt__put_number(text, ns / TAKT_MS);
    takt__put(text, " ms");
    takt__put(text, after);
}

/* -- what a strand waits for ----------------------------------------------- */

/* When the op of `strand` began, or 0 where nobody looked at the clock. */
static takt_ns takt__waits_since(const takt_strand *strand)
{
    const takt_op *const op = &strand->slot.op;
    const bool known = takt_timer_armed(&strand->timer) &&
                       strand->timer.when != TAKT_FOREVER && !(op->flags & TAKT_OP_DEADLINE);
    const bool sleeps = strand->wait == TAKT__ON_SLEEP && !(strand->flags & TAKT__EXPIRED);
    if (TAKT__DUMP_AGES && strand->wait != TAKT__ON_SLEEP)
        return op->result;
    return known ? strand->timer.when - (sleeps ? op->arg.sleep : op->when) : 0;
}

static void takt__put_op(takt__text *text, const takt__printer *p, const takt_strand *strand)
{
    const takt_op *const op = &strand->slot.op;
    const takt_ns since = takt__waits_since(strand);
    takt__put(text, takt_op_name(op->kind));
    if (op->fd >= 0)
        takt__put_both(text, " fd ", (uint64_t)op->fd);
    if (since)
        takt__put_ms(text, ", for ", p->now - since, " already");
}

/* What it was told: its limit, and orders to stop. */
static void takt__put_orders(takt__text *text, const takt__printer *p,
                             const takt_strand *strand)
{
    if (takt_timer_armed(&strand->timer))
        takt__put_ms(text, ", ", strand->timer.when - p->now, " left");
    else if (strand->flags & TAKT__EXPIRED)
        takt__put(text, ", its limit has passed");
    if (strand->flags & TAKT__REQUEST)
        return;
    if (strand->flags & TAKT__CANCELLED)
        takt__put(text, ", cancelled");
    else if (strand->flags & TAKT__STOP)
        takt__put(text, ", being stopped");
}

/* What the leaf of a strand waits for. */
static void takt__put_wait(takt__text *text, const takt__printer *p, const takt_strand *strand)
{
    const takt_op *const op = &strand->slot.op;
    switch (strand->wait) {
    case TAKT__READY:
        takt__put(text, "runs, or is ready to");
        break;
    case TAKT__ON_OP:
    case TAKT__ON_SLEEP:
    case TAKT__ON_EVENT:
        takt__put(text, "awaits ");
        takt__put_op(text, p, strand);
        break;
    case TAKT__ON_BATCH:
        takt__put_both(text, "awaits a batch of ", op->len);
        takt__put_both(text, ", begun: ", op->extra);
        break;
    case TAKT__ON_JOIN:
        takt__put_both(text, "joins ", op->bits);
        break;
    case TAKT__ON_RACE:
        takt__put_both(text, "races ", op->bits);
        break;
    case TAKT__ON_SCOPE:
        takt__put(text, "calls within a limit");
        break;
    case TAKT__ON_GROUP:
        takt__put(text, "joins a group");
        break;
    case TAKT__ON_NEXT:
        takt__put(text, "awaits an item of a stream");
        break;
    default: /* TAKT__ON_CHILDREN */
        takt__put(text, "waits for its children to end");
        break;
    }
    takt__put_orders(text, p, strand);
}

/* -- frames ---------------------------------------------------------------- */

static const char *takt__name_of_body(const takt_sched *s, takt_body *body)
{
    for (uint32_t i = 0; i < s->config.pool_count; i++)
        if (s->config.pools[i].body == body)
            return s->config.pools[i].name;
    return NULL;
}

static bool takt__in_defer(const takt_frame *f)
{
    for (int i = 0; i < TAKT_DEFERS_MAX; i++)
        if (f->defers[i] & TAKT__DEFER_RUNS)
            return true;
    return false;
}

static void takt__put_state(takt__text *text, const takt_frame *f)
{
    if (f->state == TAKT__UNWINDING)
        takt__put(text, takt__in_defer(f) ? ", in its defer" : ", leaving");
    else if (f->state == TAKT__CATCHING)
        takt__put(text, ", in its catch");
    else if (f->state == TAKT__THROWN)
        takt__put(text, ", throwing");
    else if (f->bits & TAKT__INTERRUPTED)
        takt__put(text, ", interrupted");
    else
        return;
    if (f->error) {
        takt__put(text, ", error ");
        takt__put_number(text, f->error);
    }
}

static void takt__dump_frame(takt__printer *p, const takt_strand *strand, const takt_frame *f,
                             int depth)
{
    takt__text *const text = takt__line_begin(p, depth);
    if (strand->flags & TAKT__NEW) {
        const char *const name = takt__name_of_body(p->sched, f->of.first);
        takt__put(text, name ? name : "(a coroutine)");
        takt__put(text, "  has not run yet");
        takt__put_orders(text, p, strand);
        takt__line_end(p);
        return;
    }
    takt__put(text, f->of.coro->name);
    takt__put(text, "  ");
    takt__put(text, f->of.coro->file);
    takt__put_both(text, ":", f->line & TAKT__LINES);
    takt__put(text, "  ");
    if (strand->who.leaf == f)
        takt__put_wait(text, p, strand);
    else
        takt__put(text, "calls");
    takt__put_state(text, f);
    takt__line_end(p);
}

/* The ops of a batch that are in flight, by their index in the user's array. */
static void takt__dump_batch(takt__printer *p, const takt_strand *owner, int depth)
{
    const takt_op *const account = &owner->slot.op;
    const takt_op *const ops = (const takt_op *)account->buf;
    for (const takt_strand *it = takt__strand_at(p->sched, account->bits); it;
         it = takt__strand_at(p->sched, it->sibling_next)) {
        takt__text *const text = takt__line_begin(p, depth);
        takt__put_both(text, "[", (uint64_t)(it->on.user_op - ops));
        takt__put(text, "] ");
        takt__put_op(text, p, it);
        takt__put_orders(text, p, it);
        takt__line_end(p);
    }
}

/* -- strands --------------------------------------------------------------- */

static void takt__dump_strand(takt__printer *p, const takt_strand *strand, int depth);

static void takt__dump_list(takt__printer *p, uint32_t list, int depth)
{
    for (const takt_strand *it = takt__strand_at(p->sched, list);
         it && depth < TAKT__DUMP_DEPTH; it = takt__strand_at(p->sched, it->sibling_next))
        takt__dump_strand(p, it, depth);
}

static void takt__dump_group(takt__printer *p, const takt_group *group, int depth)
{
    takt__text *const text = takt__line_begin(p, depth);
    takt__put_both(text, "(a group of ", group->count);
    if (group->failed) {
        takt__put_both(text, ", failed: ", group->failed);
        takt__put(text, ", the first with ");
        takt__put_number(text, group->first_error);
    }
    takt__put(text, ")");
    takt__line_end(p);
    takt__dump_list(p, group->members, depth + 1);
}

/* What hangs on `f` beside its children. */
static void takt__dump_attached(takt__printer *p, const takt_strand *strand,
                                const takt_frame *f, int depth)
{
    for (const takt_attached *it = strand->on.attached; it; it = it->next) {
        if (it->owner != f)
            continue;
        if (it->kind == TAKT__GROUP) {
            takt__dump_group(p, (const takt_group *)(const void *)it, depth);
        } else if (it->kind == TAKT__IDLE) {
            takt__put_ms(takt__line_begin(p, depth), "(an idle limit, ",
                         ((const takt_idle *)(const void *)it)->due - p->now, " left)");
            takt__line_end(p);
        }
    }
}

static void takt__dump_strand(takt__printer *p, const takt_strand *strand, int depth)
{
    const takt_frame *chain[TAKT__DUMP_DEPTH];
    const takt_frame *f = strand->who.leaf;
    int count = 0;
    chain[count++] = f;
    while (!(f->bits & TAKT__ROOT) && count < TAKT__DUMP_DEPTH) {
        f = f->parent;
        chain[count++] = f;
    }
    if (!(f->bits & TAKT__ROOT)) {
        takt__put(takt__line_begin(p, depth), "(its first callers are left out)");
        takt__line_end(p);
    }
    while (count-- > 0) {
        takt__dump_frame(p, strand, chain[count], depth);
        depth++;
        takt__dump_list(p, chain[count]->children, depth);
        takt__dump_attached(p, strand, chain[count], depth);
    }
    if (strand->wait == TAKT__ON_BATCH)
        takt__dump_batch(p, strand, depth);
}

/* -- the loop -------------------------------------------------------------- */

/* Groups that no frame owns hang on nothing: their first members lead to them. */
static void takt__dump_groups(takt__printer *p)
{
    const takt_sched *const s = p->sched;
    for (uint32_t place = 1; place <= s->fresh; place++) {
        const takt_strand *const strand = takt__strand_at(s, place);
        const takt_frame *f = strand->who.leaf;
        if (strand->wait == TAKT__FREE || strand->flags & TAKT__REQUEST || strand->sibling_prev)
            continue;
        while (!(f->bits & TAKT__ROOT))
            f = f->parent;
        if (f->bits & TAKT__GROUPED) {
            const takt_group *const group = (const takt_group *)(const void *)f->parent;
            if (!group->link.owner)
                takt__dump_group(p, group, 1);
        }
    }
}

static void takt__dump_pools(takt__printer *p)
{
    for (uint32_t i = 0; i < p->sched->config.pool_count; i++) {
        const takt_pool *const pool = &p->sched->config.pools[i];
        takt__text *const text = takt__line_begin(p, 0);
        takt__put(text, "pool ");
        takt__put(text, pool->name);
        takt__put_both(text, ": ", pool->used);
        takt__put_both(text, " of ", pool->count);
        takt__put_both(text, " used, at most ", pool->used_max);
        takt__put_both(text, ", refused: ", pool->refused);
        takt__line_end(p);
    }
}

/* The buffer pools of the receives in flight, each once: as many as find room. */
static void takt__dump_buffers(takt__printer *p)
{
    enum { MOST = 16 };
    const takt_sched *const s = p->sched;
    const takt_bufs *seen[MOST];
    int count = 0;
    for (uint32_t place = 1; place <= s->fresh && count < MOST; place++) {
        const takt_strand *const strand = takt__strand_at(s, place);
        const takt_bufs *const bufs = (const takt_bufs *)strand->slot.op.arg.ptr;
        takt__text *text;
        int i = 0;
        if (strand->wait != TAKT__ON_OP || (strand->slot.op.kind != TAKT_OP_LEASE &&
                                            strand->slot.op.kind != TAKT_OP_BUFFER))
            continue;
        while (i < count && seen[i] != bufs)
            i++;
        if (i < count)
            continue;
        seen[count++] = bufs;
        text = takt__line_begin(p, 0);
        takt__put_both(text, "buffers of ", bufs->size);
        takt__put_both(text, " bytes: ", bufs->in_use);
        takt__put_both(text, " of ", bufs->count);
        takt__put_both(text, " used, at most ", bufs->in_use_max);
        takt__put_both(text, ", waited for: ", bufs->waits);
        takt__line_end(p);
    }
}

static void takt__dump_head(takt__printer *p)
{
    const takt_sched *const s = p->sched;
    takt__text *const text = takt__line_begin(p, 0);
    takt__put_both(text, "takt: ", s->pending);
    takt__put_both(text, " tasks, ", s->strands_used);
    takt__put_both(text, " of ", s->slots.count - !s->alone); /* less the spare one */
    takt__put_both(text, " strands (at most ", s->strands_max);
    takt__put_both(text, "), ", s->wheel.count);
    takt__put_both(text, " timers, turn ", s->stats.turns);
    if (s->fatal) {
        takt__put(text, ", ended: ");
        takt__put(text, takt_strerror(s->fatal));
    } else if (s->stopping) {
        takt__put(text, ", stopping");
    }
    takt__line_end(p);
}

void takt_dump_to(const takt_sched *sched, void (*print)(void *user, const char *line),
                  void *user)
{
    takt__printer p;
    takt__printer_init(&p, sched, print, user);
    p.now = sched->now_known && sched->in_turn ? sched->now : sched->calls->now(sched->backend);
    takt__dump_head(&p);
    takt__dump_list(&p, sched->tasks, 1);
    takt__dump_groups(&p);
    takt__dump_pools(&p);
    takt__dump_buffers(&p);
}

void takt_dump(const takt_sched *sched)
{
    takt_dump_to(sched, NULL, NULL);
}

/* -- sizes ----------------------------------------------------------------- */

/* "..., in all N bytes": a line's end. Returns N. */
static uint64_t takt__put_all(takt__printer *p, uint64_t count, uint64_t size)
{
    takt__put_both(&p->text, ", in all ", count * size);
    takt__put(&p->text, " bytes");
    takt__line_end(p);
    return count * size;
}

/* One pool: its tasks with their strands. */
static uint64_t takt__size_pool(takt__printer *p, const takt_pool *pool)
{
    const uint64_t strands = pool->strands ? pool->strands : 1;
    const uint64_t task = takt__stride(pool) + strands * sizeof(takt_strand);
    takt__text *const text = takt__line_begin(p, 0);
    takt__put(text, "pool ");
    takt__put(text, pool->name);
    takt__put_both(text, ": struct ", pool->size);
    takt__put_both(text, ", strands ", strands);
    takt__put_both(text, ": a task ", task);
    takt__put_both(text, " bytes; tasks ", pool->count);
    return takt__put_all(p, pool->count, task);
}

void takt_sizes(const takt_config *config, void (*print)(void *user, const char *line),
                void *user)
{
    takt__printer p;
    takt__text *text;
    uint64_t sum = sizeof(takt_sched);
    takt__printer_init(&p, NULL, print, user);
    text = takt__line_begin(&p, 0);
    takt__put_both(text, "takt: a frame's header ", sizeof(takt_frame));
    takt__put_both(text, " bytes, an op ", sizeof(takt_op));
    takt__put_both(text, ", a strand ", sizeof(takt_strand));
    takt__put_both(text, ", a loop without its backend ", sizeof(takt_sched));
    takt__line_end(&p);
    if (!config)
        return;
    for (uint32_t i = 0; i < config->pool_count; i++)
        sum += takt__size_pool(&p, &config->pools[i]);
    takt__put_both(takt__line_begin(&p, 0), "strands beside the pools: ", config->strands);
    sum += takt__put_all(&p, config->strands, sizeof(takt_strand));
    takt__put_both(takt__line_begin(&p, 0), "completions at a time: ", config->completions);
    sum += takt__put_all(&p, config->completions, sizeof(takt_completion));
    text = takt__line_begin(&p, 0);
    takt__put_both(text, "the loop without its backend: ", sum);
    takt__put(text, " bytes; pages that were never used cost nothing");
    takt__line_end(&p);
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

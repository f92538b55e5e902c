/*
 * takt_uring.h - the io_uring backend of takt.h
 *
 * Include it in place of takt.h, which it includes. In ONE C or C++ file:
 *
 *     #define TAKT_IMPLEMENTATION
 *     #include "takt_uring.h"
 *
 * Where system headers come first, build with -D_GNU_SOURCE; link with -luring (2.3
 * or newer).
 * It needs Linux 5.10 or newer at run time; where io_uring is missing, forbidden
 * or does not work, the portable backend of takt.h runs in its place, and
 * takt_uring_describe() says why and what to do.
 *
 * What holds here, beside the laws in takt.h:
 *
 *   An op is over when its own completion has come from the kernel: not when it
 *   was cancelled, not when its descriptor was closed.
 *
 *   A turn is one system call: it submits what has gathered and waits.
 *
 *   A full queue is not an error. What does not fit stands in line.
 *
 *   A completion is believed only if the op that it names is in the kernel now.
 *
 * Nothing here knows that coroutines exist.
 *
 * Find a room by searching for its mark; each appears again as >>room-impl:
 *
 *     >>probe  >>ring  >>encode  >>complete  >>cancel  >>doctor
 *     and as -impl only: >>bufring  >>zerocopy  >>multishot
 *
 * Options, to be defined the same way before every include:
 *
 *     TAKT_NO_URING     no io_uring, no liburing: the portable backend, same names
 *
 * Licence: MIT, see the end of takt.h.
 */
#ifndef TAKT_URING_H
#define TAKT_URING_H

#if !defined(TAKT_NO_URING) && !defined(_GNU_SOURCE)
#if !defined(_FEATURES_H)
#define _GNU_SOURCE 1
#elif !defined(__USE_XOPEN2K8)
#error "compile with -D_GNU_SOURCE, or include takt_uring.h first: liburing.h is not strict C"
#endif
#endif

#include "takt.h"

#ifdef TAKT_NO_POSIX
#error "takt_uring.h falls back on the portable backend: do not define TAKT_NO_POSIX"
#endif

#ifndef TAKT_NO_URING
#include <liburing.h>
#if !defined(IORING_SETUP_DEFER_TASKRUN) || !defined(IORING_ENTER_REGISTERED_RING)
#error "takt_uring.h needs liburing 2.3 or newer, or TAKT_NO_URING"
#endif
#endif

TAKT__EXTERN_C_BEGIN

/* ==========================================================================
 * >>probe - what is asked for, and what was granted
 *
 * What the kernel can is found by trying, at init, on a socket pair; versions
 * are not looked at. Whatever fails, the next rung of the ladder is tried.
 * ======================================================================== */

/* What is tried for, for an X(rung, bit, word, what happens without it) of yours. */
#define TAKT_URING_RUNGS(X)                                                               \
    X(SINGLE_ISSUER, 1, "single_issuer", "the kernel allows for other threads")           \
    X(DEFER_TASKRUN, 2, "defer_taskrun", "completions may interrupt running code")        \
    X(COOP_TASKRUN, 4, "coop_taskrun", "the same; asked for where defer_taskrun is not")  \
    X(SUBMIT_ALL, 8, "submit_all", "an invalid request splits a batch in two")            \
    X(IOWAIT, 16, "iowait", "an idle loop is accounted as waiting for a disk")            \
    X(WAITALL, 32, "waitall", "a long recv_all comes back for every part")                \
    X(REGISTERED_RING, 64, "registered_ring", "each call looks up the ring's descriptor")  \
    X(BUFFER_RING, 128, "buffer_ring", "to receive into a pool takes a poll and a call")     \
    X(MULTISHOT, 256, "multishot", "every item of a stream takes a request of its own")     \
    X(EXT_ARG, 512, "ext_arg", "a wait that has an end takes a call of its own")          \
    X(SEND_ZC, 1024, "send_zc", "takt_send_lease() copies what it sends")

enum { /* takt_uring_config.disable */
#define TAKT__X(name, bit, word, without) TAKT_URING_NO_##name = bit,
    TAKT_URING_RUNGS(TAKT__X)
#undef TAKT__X
};

/* Which backend is to run. */
typedef enum takt_uring_mode {
    TAKT_URING_AUTO, /* io_uring, or else the portable backend */
    TAKT_URING_ONLY, /* io_uring, or else an error */
    TAKT_URING_NEVER /* the portable backend */
} takt_uring_mode;

/* Zeroed, its defaults. */
typedef struct takt_uring_config {
    takt_posix_config posix; /* fds_max counts for both */
    takt_uring_mode mode;
    uint32_t entries;    /* requests a system call can submit; 0: 128. Rounded up to a power
                          * of two; fewer, down to 8, where so much memory is not granted */
    uint32_t cq_entries; /* completions that can wait; 0: four times that. More than these
                          * are not lost: the kernel keeps them */
    uint32_t disable;    /* rungs not to use: TAKT_URING_NO_..., or'ed */
    takt_ns spin;        /* before it sleeps, ask for so long whether something has come, at
                            most 1 ms; 0: sleep at once. Halved each time that was in vain,
                            and whole again when something comes within that time */
    uint32_t zerocopy_from; /* bytes from which takt_send_lease() does not copy; 0: 16384 */
    uint32_t zerocopy_max;  /* buffers that the system may hold for that at a time; 0: 256. With
                             * so many out, and where memory may not be locked, it copies */
    bool zerocopy_always;   /* also to where the system copies after all (loopback, some
                             * network cards): else a descriptor that does is noticed */
    bool restrict_ops;      /* the kernel is to refuse, for good, whatever takt does not ask of
                             * its ring: seccomp filters do not see what goes through there.
                             * Where that cannot be had there is no ring */
} takt_uring_config;

/* Sets `config` from the environment: for examples and tests, never for programs
 * with rights of their own. TAKT_BACKEND: auto, uring or poll. TAKT_DISABLE: the
 * words of rungs, with commas between. TAKT_RESTRICT: 1 for restrict_ops. All are
 * ignored in a program that runs with rights its user lacks (AT_SECURE of
 * getauxval(3)). What is not set stays: mode AUTO, and the rungs and the rest of
 * `config`. 0, or -EINVAL at an unknown word; `config` is then changed in part.
 * Before init, from any thread: it reads getenv(3). */
int takt_uring_config_from_env(takt_uring_config *config);

/* ==========================================================================
 * >>ring - the backend
 * ======================================================================== */

#ifndef TAKT_NO_URING
struct takt__uring_message;
struct takt__bufring;
struct takt__loan;
#endif

/* The backend; it allocates in init, and must not move from there on. */
typedef struct takt_uring {
    /* For you to read, from on_ring to zerocopies_held: loop.backend */
    bool on_ring;           /* false: the portable backend runs */
    bool restricted;        /* as restrict_ops says */
    int setup_error;        /* why the ring does not, or 0 */
    const char *setup_step; /* what failed with it */
    uint32_t rungs;         /* those in use; bits as in takt_uring_config.disable */
    uint64_t enters;        /* system calls */
    uint64_t submitted;     /* requests */
    uint64_t stale;         /* completions that nobody waited for */
    uint64_t overflow;      /* turns that found more completions than the ring holds */
    uint64_t spins;         /* times it asked before it slept */
    uint64_t zerocopies;    /* requests that were to send without copying */
    uint64_t zerocopies_copied; /* of these, those for which the system said that it did */
    uint32_t zerocopies_held;   /* buffers that the system has not given back */
    takt_ns spin, spin_now; /* as configured, and as it has proved worth while */
    takt_posix posix;
    /* The ring's: */
#ifndef TAKT_NO_URING
    takt_slots slots;
    takt_fds fds;
    struct io_uring ring;
    unsigned enter_flags, wait_flags;
    int send_flags, recv_flags;            /* of a send, and where all bytes are wanted */
    int fatal;                             /* the ring is broken */
    unsigned plain_end;                    /* tail up to which what is plain may fill the queue */
    uint8_t plain;                         /* whether all there is to do is to ask it */
    bool asked;                            /* it was, a moment ago */
    bool in_line;                          /* it sees to the line of a descriptor */
    unsigned dropped;                      /* completions that the kernel lost, at init */
    struct takt__uring_message *messages;  /* one for each entry of the submission queue */
    uint32_t *parked;                      /* slots of ops that wait for an entry: a circle */
    uint32_t parked_first, parked_count, parked_max;
    uint32_t cancels_due;                  /* ops whose cancel waits for an entry */
    takt_bufs *starved;                    /* pools that somebody waits for */
    takt_op *done_first, *done_last;       /* complete, not yet polled */
    takt_completion *out;                  /* while polling */
    int out_count, out_max;
    int event_fd;                          /* readable when there is work; -1: none yet */
    struct takt__bufring *bufrings;        /* one for each pool */
    takt_op *later;                        /* ops that wait for descriptors or memory */
    takt_ns later_until;                   /* when they are tried again even so */
    struct __kernel_timespec later_wait;
    bool later_now;                        /* a descriptor was closed meanwhile */
    bool later_timer;                      /* the kernel will wake us for them */
    unsigned char trial[8];                /* the probe's: outlives it, should it fail */
    struct takt__loan *loans;              /* buffers that were handed over */
    uint32_t loans_free, loans_fresh, loans_max;
    uint32_t zerocopy_from;
    uint16_t zerocopy_flags;               /* of each request */
    bool zerocopy_always;
#endif
} takt_uring;

/* As TAKT__NAMED: with and without liburing, the struct above is not the same. */
#ifndef TAKT_NO_URING
#define TAKT__URING_INIT takt__uring_init_without_TAKT_NO_URING
#else
#define TAKT__URING_INIT takt__uring_init_with_TAKT_NO_URING
#endif
int TAKT__URING_INIT(takt_uring *uring, const takt_uring_config *config, const takt_slots *slots);

/* The backend functions, as >>backend describes them. Init in the thread that runs the
 * loop: the ring serves no other, and a use from elsewhere is the end of the loop. After
 * fork(2) it is the parent's; the child must not touch it. Init fails with the ring's
 * error under TAKT_URING_ONLY, else with that of the portable backend, which was tried
 * last; `setup_error` tells the ring's.
 *
 * A ring that fails while it runs (its descriptor closed, io_uring forbidden meanwhile, used by
 * another thread) is the end of the loop, and takt_uring_describe() says why. What was in flight
 * then nobody can end any more, and the kernel may still write there: net_free() says -EBUSY
 * and keeps the loop's memory, takt_bufs_free() that of buffers that the kernel has; so keep
 * frames of your own, and what they let the kernel write to. */
int takt_uring_end(takt_uring *uring, takt_ns limit);
void takt_uring_free(takt_uring *uring); /* the same, with a limit of a second */
takt_ns takt_uring_now(takt_uring *uring);
void takt_uring_flush(takt_uring *uring);
bool takt_uring_busy(takt_uring *uring);
int takt_uring_fd(takt_uring *uring);
int64_t takt_uring_call(takt_uring *uring, takt_op *op);
/* A loop's free calls takt_uring_end(). */
#define TAKT_END_takt_uring , TAKT__BY_END
/* The first of them. */
static inline int takt_uring_init(takt_uring *uring, const takt_uring_config *config,
                                  const takt_slots *slots)
{
    return TAKT__URING_INIT(uring, config, slots);
}

/* ==========================================================================
 * >>encode - from an op to a request
 *
 * What is plain is written here, so that it inlines into the loop: nop, recv and send of
 * one buffer, while nothing stands in line. takt__uring_submit() does all the rest.
 * ======================================================================== */

int takt__uring_submit(takt_uring *uring, takt_op *op, takt_token token);
bool takt__ring_has_room(takt_uring *uring);

#ifndef TAKT_NO_URING

enum { /* takt_op.state: where it is, and what was asked of it */
    TAKT__RING_KERNEL = 1,      /* its request is in the kernel, or in the queue to it */
    TAKT__RING_PARKED = 2,      /* waits for an entry in that queue */
    TAKT__RING_NO_BUFFER = 4,   /* in the line of a pool */
    TAKT__RING_DONE = 8,        /* complete, not yet polled */
    TAKT__RING_ENTERED = 16,    /* has a place in the table of descriptors */
    TAKT__RING_READINESS = 32,  /* the request is for readiness, not for the op itself */
    TAKT__RING_CANCELLED = 64,  /* somebody asked for its end */
    TAKT__RING_CLOSED = 128,    /* its descriptor is being closed */
    TAKT__RING_ASKED = 256,     /* the kernel was asked for its end, or will be: */
    TAKT__RING_CANCEL_DUE = 512,
    TAKT__RING_TRY = 1024, /* counts from here on: cancels that found nothing */
    TAKT__RING_LATER = 8192, /* waits for descriptors or memory; never in the kernel then */
    TAKT__RING_IN_LINE = 16384 /* behind another datagram of its descriptor; nor then */
};

enum { TAKT__RING_TRIES = 7 * TAKT__RING_TRY };

/* Requests that the kernel has not taken. */
static inline unsigned takt__ring_unsubmitted(const takt_uring *uring)
{
    return uring->ring.sq.sqe_tail - *uring->ring.sq.khead; /* it takes them as we enter */
}

/* The eight words of a request. Each is written, always: what an entry held before must
 * not leak into the next request. */
static inline void takt__ring_write(struct io_uring_sqe *sqe, uint64_t first, uint64_t off,
                                    uint64_t addr, uint64_t len_and_bits, uint64_t key)
{
    const uint64_t zero = 0;
    unsigned char *const at = (unsigned char *)sqe;
    memcpy(at, &first, 8); /* opcode, flags, ioprio, fd */
    memcpy(at + 8, &off, 8);
    memcpy(at + 16, &addr, 8);
    memcpy(at + 24, &len_and_bits, 8);
    memcpy(at + 32, &key, 8);
    memcpy(at + 40, &zero, 8); /* buffer group, personality, file index */
    memcpy(at + 48, &zero, 8);
    memcpy(at + 56, &zero, 8);
}

/* Takes the place of `op` in the table of descriptors, if that is free. */
static inline bool takt__ring_enter_plain(takt_uring *uring, takt_op *op)
{
    const uint32_t place = ((const takt_slot *)(const void *)op)->index + 1;
    takt_fd *fd;
    if (TAKT__UNLIKELY((unsigned)op->fd >= (unsigned)uring->fds.count))
        return false;
    fd = &uring->fds.at[op->fd];
    if (TAKT__UNLIKELY(fd->closer | (op->kind == TAKT_OP_RECV ? fd->reader : fd->writer)))
        return false;
    if (op->kind == TAKT_OP_RECV)
        fd->reader = place;
    else
        fd->writer = fd->writer_last = place;
    return true;
}

/* The backend function; see >>backend. */
TAKT__HOT int takt_uring_submit(takt_uring *uring, takt_op *op, takt_token *token)
{
    enum { OPCODES = IORING_OP_RECV | IORING_OP_SEND << 8 };
    struct io_uring_sq *const sq = &uring->ring.sq;
    const unsigned tail = sq->sqe_tail;
    const bool sends = op->kind == TAKT_OP_SEND;
    struct io_uring_sqe *sqe;
    if (TAKT__UNLIKELY(tail == uring->plain_end) && !takt__ring_has_room(uring))
        return takt__uring_submit(uring, op, *token);
    sqe = &sq->sqes[tail & sq->ring_mask];
    op->state = TAKT__RING_KERNEL;
    if (op->kind == TAKT_OP_NOP) {
        memset(sqe, 0, sizeof *sqe);
        sqe->opcode = IORING_OP_NOP;
        sqe->user_data = *token;
    } else {
        uint32_t bits = op->bits & ~(uint32_t)MSG_DONTWAIT;
        if ((op->kind != TAKT_OP_RECV && !sends) || op->flags & ~TAKT_OP_ALL || op->len == 0 ||
            op->len > (size_t)1 << 30 || !takt__ring_enter_plain(uring, op))
            return takt__uring_submit(uring, op, *token);
        op->arg.done = 0;
        op->state = TAKT__RING_KERNEL | TAKT__RING_ENTERED;
        if (op->flags)
            bits |= (uint32_t)(sends ? uring->send_flags : uring->recv_flags);
        takt__ring_write(sqe, ((unsigned)OPCODES >> (sends ? 8 : 0) & 255) |
                                  (uint64_t)(uint32_t)op->fd << 32,
                         0, (uintptr_t)op->buf, (uint32_t)op->len | (uint64_t)bits << 32, *token);
    }
    sq->sqe_tail = tail + 1;
    return 0;
}

#else

/* The backend function; see >>backend. */
TAKT__HOT int takt_uring_submit(takt_uring *uring, takt_op *op, takt_token *token)
{
    return takt__uring_submit(uring, op, *token);
}

#endif

/* ==========================================================================
 * >>complete - from the kernel's completions to the loop's
 *
 * Here too: what is plain inlines. An op is plain as long as nobody has asked for its end
 * and its request has succeeded, in full where that was asked for.
 * ======================================================================== */

/* The backend function; see >>backend. */
int takt_uring_poll(takt_uring *uring, takt_completion *done, int max, takt_ns wait);

#ifndef TAKT_NO_URING

int takt__ring_enter_until(takt_uring *uring, unsigned submit, takt_ns wait);
void takt__ring_fell_short(takt_uring *uring, int rc);
bool takt__ring_ask_spinning(takt_uring *uring, takt_ns wait);

enum { /* takt_uring.plain */
    TAKT__RING_PLAIN = 1,
    TAKT__RING_SPINS /* the same, but it spins */
};

/* The one system call. Submits `submit` requests; if `wait` is above 0, waits that long for
 * a completion; if it is below, does not even look for one. Requests submitted, or an error. */
TAKT__HOT int takt__ring_enter_inline(takt_uring *uring, unsigned submit, takt_ns wait)
{
    int rc;
    __atomic_store_n(uring->ring.sq.ktail, uring->ring.sq.sqe_tail, __ATOMIC_RELEASE);
    uring->enters++;
    if (wait == TAKT_FOREVER)
        rc = io_uring_enter2((unsigned)uring->ring.enter_ring_fd, submit, 1, uring->wait_flags,
                             NULL, 0);
    else
        rc = takt__ring_enter_until(uring, submit, wait);
    if (TAKT__LIKELY(rc == (int)submit))
        uring->submitted += submit;
    else
        takt__ring_fell_short(uring, rc);
    return rc;
}

/* Submits and waits. False: poll is to see to the rest. */
TAKT__HOT bool takt__ring_ask(takt_uring *uring, takt_ns wait)
{
    const unsigned submit = takt__ring_unsubmitted(uring);
    int rc;
    if (wait <= 0 && !submit)
        return false;
    rc = takt__ring_enter_inline(uring, submit, wait);
    if (TAKT__LIKELY(rc == (int)submit))
        return true;
    uring->asked = rc != -EAGAIN && rc != -EBUSY;
    return false;
}

/* The slot of the op whose completion `cqe` is, if it is a plain one; else NULL. */
TAKT__HOT takt_slot *takt__ring_take(takt_uring *uring, const struct io_uring_cqe *cqe,
                                     size_t stride)
{
    const uint64_t key = cqe->user_data;
    const uint32_t bytes = (uint32_t)cqe->res;
    takt_slot *const slot =
        (takt_slot *)(void *)(uring->slots.base + (size_t)(uint32_t)key * stride);
    takt_op *const op = &slot->op;
    if (TAKT__UNLIKELY((uint32_t)key >= uring->slots.count || takt_token_of(op) != key ||
                       cqe->flags & ~(uint32_t)IORING_CQE_F_SOCK_NONEMPTY || cqe->res < 0))
        return NULL;
    if (op->state != TAKT__RING_KERNEL) {
        takt_fd *const fd = &uring->fds.at[op->fd];
        if (op->state != (TAKT__RING_KERNEL | TAKT__RING_ENTERED) || fd->closer)
            return NULL;
        if (op->flags == TAKT_OP_ALL ? bytes != op->len : bytes == 0)
            return NULL;
        if (op->kind == TAKT_OP_RECV)
            fd->reader = 0;
        else if (op->kind == TAKT_OP_SEND && op->flags == TAKT_OP_ALL && !op->arg.done)
            fd->writer = fd->writer_last = 0;
        else
            return NULL;
        op->arg.done = bytes;
    }
    op->state = 0;
    return slot;
}

/* It has the function below. */
#define TAKT_EACH_takt_uring , TAKT__BY_EACH

/* The backend function; see >>backend. */
TAKT__HOT bool takt_uring_each(takt_uring *uring, int max, takt_ns wait, size_t stride,
                               bool (*succeed)(void *loop, takt_slot *slot, int64_t value),
                               void *loop)
{
    struct io_uring_cq *const cq = &uring->ring.cq;
    unsigned head, end;
    if (!(TAKT__LIKELY(uring->plain == TAKT__RING_PLAIN) ? takt__ring_ask(uring, wait)
                                                        : takt__ring_ask_spinning(uring, wait)))
        return false;
    head = *cq->khead;
    end = __atomic_load_n(cq->ktail, __ATOMIC_ACQUIRE);
    if (TAKT__UNLIKELY(end - head > (unsigned)max)) {
        if (*cq->koverflow != uring->dropped)
            return false;
        end = head + (unsigned)max;
    }
    while (head != end) {
        const struct io_uring_cqe *const cqe = &cq->cqes[head & cq->ring_mask];
        takt_slot *const slot = takt__ring_take(uring, cqe, stride);
        if (TAKT__UNLIKELY(!slot)) {
            uring->asked = true; /* the rest is not for here */
            break;
        }
        head++;
        if (TAKT__UNLIKELY(!succeed(loop, slot, (unsigned)cqe->res)))
            end = head;
    }
    __atomic_store_n(cq->khead, head, __ATOMIC_RELEASE);
    return head == end;
}

#endif

/* ==========================================================================
 * >>cancel - the early end
 * ======================================================================== */

/* The backend function; see >>backend. */
void takt_uring_cancel(takt_uring *uring, takt_op *op);

/* ==========================================================================
 * >>doctor - what runs here, and why
 * ======================================================================== */

/* "io_uring", "epoll" or "poll"; constant text. After an init that succeeded. */
const char *takt_uring_name(const takt_uring *uring);

/* Writes one line, without its end: what runs, and if that is not io_uring, why and what
 * to do; or what the ring has failed with, and so the loop. Also after an init that failed.
 * 256 bytes are enough; what does not fit in `size` is cut off. Returns its whole length, as
 * snprintf(3) does. */
int takt_uring_describe(const takt_uring *uring, char *text, size_t size);

TAKT__EXTERN_C_END
#endif /* TAKT_URING_H */

/* ==========================================================================
 * The implementation: the same rooms once more
 * ======================================================================== */
#ifdef TAKT_IMPLEMENTATION
#ifndef TAKT_URING_IMPLEMENTED
#define TAKT_URING_IMPLEMENTED

#include "takt.h" /* its implementation, if it was included without */

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* Newer than liburing 2.3: linux/io_uring.h has them as IORING_... */
#define TAKT__RING_ENTER_NO_IOWAIT (1U << 7)
#define TAKT__RING_FEAT_NO_IOWAIT (1U << 17)
#define TAKT__RING_ZC_REPORT_USAGE (1U << 3)
#define TAKT__RING_ZC_COPIED (1U << 31)

TAKT__EXTERN_C_BEGIN

#ifndef TAKT_NO_URING

/* ==========================================================================
 * >>ring-impl
 *
 * The queues are read and written here, not by liburing: a turn is then one
 * system call. Entry i of the submission ring always names request i.
 * ======================================================================== */

/* What a token's unused bits say of its completion. Slots are far fewer than 2^29. */
#define TAKT__RING_KEY_CANCEL ((uint64_t)1 << 30) /* it is of a cancel for this token */
#define TAKT__RING_KEY_ACCEPT ((uint64_t)1 << 31) /* its result is a descriptor */
#define TAKT__RING_KEY_LOAN ((uint64_t)1 << 29)   /* it is no token: a buffer's, see >>zerocopy */
#define TAKT__RING_KEY_BITS (TAKT__RING_KEY_CANCEL | TAKT__RING_KEY_ACCEPT)
#define TAKT__RING_KEY_NOBODY (TAKT__RING_KEY_CANCEL | (TAKT__RING_KEY_CANCEL - 1))
#define TAKT__RING_KEY_TIMER (TAKT__RING_KEY_NOBODY - 1)

/* What a sendmsg or recvmsg points to until the kernel has taken the request. When a
 * recvmsg ends, the kernel also writes flags and lengths back into the header, which
 * may serve a later request by then: that reads neither. */
struct takt__uring_message {
    struct msghdr header;
    struct iovec piece;
};

/* liburing maps memory without libc: ThreadSanitizer does not see that what one thread has
 * given back was another's before. It is told: before any goes, and when a ring has come. */
#if defined(TAKT__TSAN)
static const char takt__ring_memory = 0;
void __tsan_acquire(void *at);
void __tsan_release(void *at);
#endif

static void takt__ring_gives(void)
{
#if defined(TAKT__TSAN)
    __tsan_release((void *)(uintptr_t)&takt__ring_memory);
#endif
}

static void takt__ring_takes(void)
{
#if defined(TAKT__TSAN)
    __tsan_acquire((void *)(uintptr_t)&takt__ring_memory);
#endif
}

static void takt__ring_set(takt_op *op, unsigned bits)
{
    op->state = (uint16_t)(op->state | bits);
}

static void takt__ring_clear(takt_op *op, unsigned bits)
{
    op->state = (uint16_t)(op->state & ~bits);
}

enum { /* takt_uring.rungs */
#define TAKT__X(name, bit, word, without) TAKT__RUNG_##name = bit,
    TAKT_URING_RUNGS(TAKT__X)
#undef TAKT__X
};

/* Completions that were not read. */
static unsigned takt__ring_unread(const takt_uring *uring)
{
    return __atomic_load_n(uring->ring.cq.ktail, __ATOMIC_ACQUIRE) - *uring->ring.cq.khead;
}

/* What the kernel has that it shows only to those who enter. */
static unsigned takt__ring_hidden(const takt_uring *uring)
{
    return __atomic_load_n(uring->ring.sq.kflags, __ATOMIC_RELAXED) &
           (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
}

/* A ring that cannot be told how long to wait is asked, and then waited for as any descriptor:
 * what comes meanwhile is in its queue when that call returns. */
static int takt__ring_enter_and_poll(takt_uring *uring, unsigned submit, takt_ns wait)
{
    const takt_ns most = 1000000 * TAKT_SEC; /* that many seconds fit into any time_t */
    struct pollfd ring;
    struct timespec ts;
    const int rc = io_uring_enter2((unsigned)uring->ring.enter_ring_fd, submit, 0,
                                   uring->enter_flags | IORING_ENTER_GETEVENTS, NULL, 0);
    if (rc < (int)submit || takt__ring_unread(uring))
        return rc;
    ring.fd = uring->ring.ring_fd;
    ring.events = POLLIN;
    ring.revents = 0;
    wait = wait < most ? wait : most;
    ts.tv_sec = (time_t)(wait / TAKT_SEC);
    ts.tv_nsec = (long)(wait % TAKT_SEC);
    uring->enters++;
    return ppoll(&ring, 1, &ts, NULL) < 0 && rc == 0 ? -EINTR : rc;
}

/* The same, but without the counters, and for a wait that has an end. */
int takt__ring_enter_until(takt_uring *uring, unsigned submit, takt_ns wait)
{
    struct io_uring_getevents_arg arg;
    struct __kernel_timespec ts;
    if (wait <= 0)
        return io_uring_enter2((unsigned)uring->ring.enter_ring_fd, submit, 0,
                               uring->enter_flags | (wait ? 0 : IORING_ENTER_GETEVENTS), NULL, 0);
    if (TAKT__UNLIKELY(!(uring->rungs & TAKT__RUNG_EXT_ARG)))
        return takt__ring_enter_and_poll(uring, submit, wait);
    ts.tv_sec = wait / TAKT_SEC;
    ts.tv_nsec = wait % TAKT_SEC;
    memset(&arg, 0, sizeof arg);
    arg.ts = (uint64_t)(uintptr_t)&ts;
    return io_uring_enter2((unsigned)uring->ring.enter_ring_fd, submit, 1,
                           uring->wait_flags | IORING_ENTER_EXT_ARG, (sigset_t *)(void *)&arg,
                           sizeof arg);
}

/* The kernel took fewer requests than it was given, or none: it returned `rc`. */
void takt__ring_fell_short(takt_uring *uring, int rc)
{
    if (rc >= 0)
        uring->submitted += (unsigned)rc;
    else if (rc != -EINTR && rc != -ETIME && rc != -EAGAIN && rc != -EBUSY)
        uring->fatal = rc;
}

/* The same, anywhere but in a turn. */
static int takt__ring_enter(takt_uring *uring, unsigned submit, takt_ns wait)
{
    return takt__ring_enter_inline(uring, submit, wait);
}

/* Makes the kernel take what was submitted, unless it refuses. */
static void takt__ring_push(takt_uring *uring)
{
    unsigned count;
    while ((count = takt__ring_unsubmitted(uring)) > 0 && !uring->fatal) {
        const int rc = takt__ring_enter(uring, count, -1);
        if (rc <= 0 && rc != -EINTR)
            return;
    }
}

/* An entry of the submission queue, to be written in full; or NULL if there is none
 * and the kernel takes nothing. */
static struct io_uring_sqe *takt__ring_sqe(takt_uring *uring)
{
    struct io_uring_sq *const sq = &uring->ring.sq;
    if (TAKT__UNLIKELY(takt__ring_unsubmitted(uring) >= sq->ring_entries)) {
        takt__ring_push(uring);
        if (takt__ring_unsubmitted(uring) >= sq->ring_entries)
            return NULL;
    }
    return &sq->sqes[sq->sqe_tail++ & sq->ring_mask];
}

/* Writes every field: what an entry held before must not leak into the next request. */
static void takt__ring_fill(struct io_uring_sqe *sqe, unsigned opcode, int fd, uint64_t off,
                            const void *addr, size_t len, uint32_t bits, uint64_t key)
{
    sqe->opcode = (uint8_t)opcode;
    sqe->flags = 0;
    sqe->ioprio = 0;
    sqe->fd = fd;
    sqe->off = off;
    sqe->addr = (uint64_t)(uintptr_t)addr;
    sqe->len = (uint32_t)takt__clamp(len);
    sqe->rw_flags = (__kernel_rwf_t)bits;
    sqe->user_data = key;
    sqe->buf_index = 0;
    sqe->personality = 0;
    sqe->file_index = 0;
    sqe->addr3 = 0;
    sqe->__pad2[0] = 0;
}

/* ==========================================================================
 * >>bufring-impl
 *
 * Free buffers of a pool that are with the kernel, so that it puts data straight into one
 * when data is there: one ring a pool, shared by all connections, made when the pool is
 * first received into. It is filled up before every wait, with few, and with more each time
 * that it was found empty; but holds at most half of what is not out, never more than stays
 * in the cache, and gets nothing while somebody waits in the pool's line. The kernel knows
 * a buffer by the number of its place in `indexes`.
 *
 * Bundles (one completion, many buffers) are not asked for: one connection would be given all
 * that the ring holds, past the limit of its stream. Since Linux 6.17 they can be bounded
 * (sqe->len); of 4 buffers each, a received byte then costs 1.1 to 1.5 times the CPU time of a
 * completion for each buffer, of 16 buffers 0.8 to 1.1 times (6.18, loopback, buffers of 2 to
 * 64 KiB), every buffer is an item of its own all the same, and what comes in bulk is spliced.
 * Nor are incremental buffers asked for: a lease is a whole buffer, whose rest is its holder's
 * to fill.
 * ======================================================================== */

enum {
    TAKT__BUFRING_FEWEST = 4,       /* buffers of a pool that is worth a ring */
    TAKT__BUFRING_MOST = 1024,      /* buffers in a ring, */
    TAKT__BUFRING_BYTES = 1 << 20,  /* and their memory */
    TAKT__BUFRING_GROUP = 64        /* the first group: of one below, Linux 6.1 keeps how far it
                                     * was read when a ring goes, and begins the next one there */
};

struct takt__bufring {
    takt_uring *uring;
    takt_bufs *bufs;
    struct takt__bufring *next;
    struct io_uring_buf *entries; /* shared with the kernel */
    size_t bytes;                 /* of these */
    uint32_t *indexes;            /* by number: which buffer, or none */
    uint16_t *numbers;            /* those that stand for none; a stack */
    uint32_t number_count;
    uint32_t most; /* buffers that it may hold */
    uint32_t goal; /* and how many it is worth: the memory of few stays in the cache */
    uint32_t mask;
    uint16_t tail;
    uint16_t group;
    bool retired; /* the kernel takes no more from it; what it took is in completions to come */
};

static void takt__bufring_free(struct takt__bufring *ring)
{
    takt__ring_gives();
    if (ring->entries)
        munmap(ring->entries, ring->bytes);
    TAKT_FREE(ring->indexes);
    TAKT_FREE(ring->numbers);
    TAKT_FREE(ring);
}

static bool takt__ring_in_flight(const takt_uring *uring);

/* Takes the ring back from the kernel, and its buffers with it. False: it is refused (by a
 * seccomp filter, say); then nothing has happened, unless that must not be: when nobody receives
 * any more. If somebody does all the same, on a ring that has failed, the kernel may still write
 * into them: they are out for good. */
static bool takt__bufring_detach(struct takt__bufring *ring, bool going)
{
    takt_bufs *const bufs = ring->bufs;
    struct takt__bufring **link = &ring->uring->bufrings;
    const bool refused =
        !ring->retired && io_uring_unregister_buf_ring(&ring->uring->ring, ring->group) < 0;
    if (refused && !going)
        return false;
    if (refused && takt__ring_in_flight(ring->uring)) {
        bufs->in_use += bufs->kept;
        bufs->lost += bufs->kept;
        memset(ring->indexes, 0xff, ring->most * sizeof *ring->indexes); /* none comes back */
    }
    while (*link != ring)
        link = &(*link)->next;
    *link = ring->next;
    for (uint32_t i = 0; i < ring->most; i++)
        if (ring->indexes[i] != TAKT__NO_BUFFER)
            takt__bufs_push(bufs, ring->indexes[i]);
    bufs->kept = 0;
    bufs->keeper = NULL;
    bufs->reclaim = NULL;
    takt__bufring_free(ring);
    return true;
}

/* First the kernel is told to take no more. A completion that was not read may still name a
 * buffer that it took before: then the rest has to stay until that has been read. */
static bool takt__bufring_reclaim(takt_bufs *bufs, bool going)
{
    struct takt__bufring *const ring = (struct takt__bufring *)bufs->keeper;
    if (!going && !ring->retired)
        ring->retired = io_uring_unregister_buf_ring(&ring->uring->ring, ring->group) == 0;
    if (!going && (!ring->retired || takt__ring_unread(ring->uring) ||
                   takt__ring_hidden(ring->uring) & IORING_SQ_CQ_OVERFLOW))
        return false;
    return takt__bufring_detach(ring, going);
}

/* True if the kernel has buffers of `bufs` that it can use. */
static bool takt__bufring_has(const takt_bufs *bufs)
{
    return bufs->kept && !((const struct takt__bufring *)bufs->keeper)->retired;
}

/* The memory of a ring for `bufs`. False: there is none. */
static bool takt__bufring_alloc(struct takt__bufring *ring, const takt_bufs *bufs)
{
    uint32_t entries = 1;
    uint32_t most = TAKT__BUFRING_BYTES / bufs->size;
    if (most < TAKT__BUFRING_FEWEST)
        most = TAKT__BUFRING_FEWEST;
    if (most > TAKT__BUFRING_MOST)
        most = TAKT__BUFRING_MOST;
    ring->most = most < bufs->count / 2 ? most : bufs->count / 2;
    while (entries < ring->most)
        entries *= 2;
    ring->mask = entries - 1;
    ring->bytes = entries * sizeof *ring->entries;
    ring->indexes = (uint32_t *)TAKT_CALLOC(ring->most, sizeof *ring->indexes);
    ring->numbers = (uint16_t *)TAKT_CALLOC(ring->most, sizeof *ring->numbers);
    ring->entries = (struct io_uring_buf *)mmap(NULL, ring->bytes, PROT_READ | PROT_WRITE,
                                                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if ((void *)ring->entries == MAP_FAILED)
        ring->entries = NULL;
    if (!ring->entries || !ring->indexes || !ring->numbers)
        return false;
    madvise(ring->entries, ring->bytes, MADV_DONTFORK); /* what the kernel reads must stay ours */
    for (uint32_t i = 0; i < ring->most; i++) {
        ring->indexes[i] = TAKT__NO_BUFFER;
        ring->numbers[i] = (uint16_t)i;
    }
    ring->number_count = ring->most;
    ring->goal = ring->most;
    if (ring->goal > TAKT__BUFRING_FEWEST)
        ring->goal = TAKT__BUFRING_FEWEST;
    return true;
}

/* The ring of `bufs`, made if need be; or NULL: it has none here. */
static struct takt__bufring *takt__bufring_of(takt_uring *uring, takt_bufs *bufs)
{
    struct takt__bufring *ring = (struct takt__bufring *)bufs->keeper;
    struct io_uring_buf_reg reg;
    if (ring)
        return ring->uring == uring && !ring->retired ? ring : NULL;
    if (!(uring->rungs & TAKT__RUNG_BUFFER_RING) || bufs->count < TAKT__BUFRING_FEWEST)
        return NULL;
    ring = (struct takt__bufring *)TAKT_CALLOC(1, sizeof *ring);
    memset(&reg, 0, sizeof reg);
    if (ring && takt__bufring_alloc(ring, bufs)) {
        ring->group = (uint16_t)(uring->bufrings ? uring->bufrings->group + 1
                                                 : TAKT__BUFRING_GROUP);
        reg.ring_addr = (uint64_t)(uintptr_t)ring->entries;
        reg.ring_entries = ring->mask + 1;
        reg.bgid = ring->group;
        if (io_uring_register_buf_ring(&uring->ring, &reg, 0) == 0) {
            ring->uring = uring;
            ring->bufs = bufs;
            ring->next = uring->bufrings;
            uring->bufrings = ring;
            bufs->keeper = ring;
            bufs->reclaim = takt__bufring_reclaim;
            return ring;
        }
    }
    if (ring)
        takt__bufring_free(ring);
    uring->rungs &= ~(uint32_t)TAKT__RUNG_BUFFER_RING; /* it is not asked for again and again */
    return NULL;
}

/* It was found empty: it is worth more. */
static void takt__bufring_grow(struct takt__bufring *ring)
{
    if (ring->goal < ring->most)
        ring->goal = 2 * ring->goal < ring->most ? 2 * ring->goal : ring->most;
}

/* The buffers of `bufs` that the kernel may have. */
static uint32_t takt__bufring_share(const struct takt__bufring *ring)
{
    const uint32_t half = (ring->bufs->count - ring->bufs->in_use) / 2;
    return half < ring->goal ? half : ring->goal;
}

/* True if a ring has less than its share, or is to go. */
static bool takt__bufring_low(const takt_uring *uring)
{
    const struct takt__bufring *ring = uring->bufrings;
    while (ring && !ring->retired && ring->bufs->kept >= takt__bufring_share(ring))
        ring = ring->next;
    return ring != NULL;
}

/* Gives the kernel buffers, as many as it may have. */
static void takt__bufring_fill(struct takt__bufring *ring)
{
    takt_bufs *const bufs = ring->bufs;
    const uint32_t most = takt__bufring_share(ring);
    if (bufs->kept >= most || bufs->waiting || ring->retired)
        return;
    while (bufs->kept < most && ring->number_count && takt__bufs_any(bufs)) {
        const uint32_t index = takt__bufs_pop(bufs);
        const uint16_t number = ring->numbers[--ring->number_count];
        struct io_uring_buf *const entry = &ring->entries[ring->tail++ & ring->mask];
        bufs->next[index] = TAKT__WITH_BACKEND;
        bufs->kept++;
        ring->indexes[number] = index;
        entry->addr = (uint64_t)(uintptr_t)(bufs->memory + (size_t)index * bufs->size);
        entry->len = (uint32_t)takt__clamp(bufs->size);
        entry->bid = number;
    }
    __atomic_store_n(&ring->entries[0].resv, ring->tail, __ATOMIC_RELEASE);
}

/* The buffer that the kernel calls `number`, from here on somebody's; or NULL if the
 * kernel did not have it. */
static unsigned char *takt__bufring_claim(takt_bufs *bufs, uint32_t number)
{
    struct takt__bufring *const ring = (struct takt__bufring *)bufs->keeper;
    uint32_t index;
    if (!ring || number >= ring->most || ring->indexes[number] == TAKT__NO_BUFFER)
        return NULL;
    index = ring->indexes[number];
    ring->indexes[number] = TAKT__NO_BUFFER;
    ring->numbers[ring->number_count++] = (uint16_t)number;
    bufs->kept--;
    return takt__bufs_lend(bufs, index);
}

/* A buffer came with a completion that nobody waits for: it goes back to where it came from,
 * if that can be told. */
static void takt__bufring_orphan(takt_uring *uring, uint32_t number)
{
    takt_bufs *from = NULL;
    unsigned char *data;
    for (struct takt__bufring *it = uring->bufrings; it; it = it->next) {
        if (number >= it->most || it->indexes[number] == TAKT__NO_BUFFER)
            continue;
        if (from)
            return;
        from = it->bufs;
    }
    if (from && (data = takt__bufring_claim(from, number)) != NULL)
        takt_bufs_put(from, &data);
}

/* ==========================================================================
 * >>zerocopy-impl
 *
 * Buffers that were handed over to be sent. The kernel completes such a request twice: with
 * its result, and, if that says IORING_CQE_F_MORE, an error or not, once more when it reads
 * the buffer no longer. The op is over at the first; what waits for the second is a loan, of
 * which there is a bounded number, and which the keys of both name. A buffer goes back to its
 * pool when its op is over and no second completion is due.
 *
 * An op that goes on after a part has several requests, one after the other, of one loan.
 * ======================================================================== */

enum { /* takt_fd.bits */
    TAKT__FD_COPIES = 1, /* it is no use there; TAKT__RESET is another one */
    TAKT__FD_SHUT = 2,   /* for writing, by us */
    TAKT__FD_LOAN = 2 * TAKT__RESET /* counts from here on: loans */
};

typedef struct takt__loan {
    takt_bufs *bufs;
    uint32_t index;      /* of the buffer */
    uint32_t generation; /* of this loan: a late completion finds nothing */
    uint32_t place;      /* its op's slot, counted from 1; 0: that is over, or nobody's */
    uint32_t next;       /* free list, counted from 1 */
    int32_t due;         /* second completions; -1: it came before the first */
    int32_t failed;      /* of these, those of requests that failed: they claim to have copied */
    int32_t fd;          /* -1: closed since */
    bool copy;           /* from here on */
} takt__loan;

/* Nobody but the kernel is to touch a buffer that was handed over, or everybody may again. */
static void takt__handed_close(const takt_bufs *bufs, uint32_t index, bool close)
{
#if defined(TAKT__ASAN)
    takt__poison(&close, bufs->memory + (size_t)index * bufs->size, bufs->size);
#else
    (void)bufs;
    (void)index;
    (void)close;
#endif
}

/* A buffer is the pool's again. */
static void takt__handed_home(takt_bufs *bufs, uint32_t index)
{
    takt__handed_close(bufs, index, false);
    takt__handed_back(bufs, index);
}

/* True if the next request of `op` is one that completes twice. */
static bool takt__zerocopy_on(const takt_uring *uring, const takt_op *op)
{
    return op->kind == TAKT_OP_SEND_LEASE && op->bits && !uring->loans[op->bits - 1].copy &&
           !(op->state & TAKT__RING_READINESS);
}

static uint64_t takt__loan_key(const takt_uring *uring, uint32_t i)
{
    return takt_token_make(uring->loans[i].generation, i) | TAKT__RING_KEY_LOAN;
}

static bool takt__zerocopy_init(takt_uring *uring, const takt_uring_config *config)
{
    const uint32_t most = 1 << 20;
    uring->loans_max = config->zerocopy_max ? config->zerocopy_max : 256;
    if (uring->loans_max > most)
        uring->loans_max = most;
    uring->zerocopy_from = config->zerocopy_from ? config->zerocopy_from : 16384;
    uring->zerocopy_always = config->zerocopy_always;
    uring->loans = (takt__loan *)TAKT_CALLOC(uring->loans_max, sizeof *uring->loans);
    return uring->loans != NULL;
}

/* True if the kernel may keep what `op` sends for as long as it likes. Slow receivers must not
 * get hold of a whole pool. */
static bool takt__zerocopy_may(const takt_uring *uring, const takt_op *op)
{
    const takt_bufs *const bufs = (const takt_bufs *)op->arg.ptr;
    const uint32_t bits = uring->fds.at[op->fd].bits;
    return uring->rungs & TAKT__RUNG_SEND_ZC && op->len >= uring->zerocopy_from &&
           !(bits & TAKT__FD_COPIES) && bufs->sending < bufs->count / 2 &&
           bits / TAKT__FD_LOAN <= (bufs->count - 1) / 4;
}

/* Decides how `op` is sent, once: op->bits is its loan, counted from 1, or 0. */
static void takt__zerocopy_begin(takt_uring *uring, takt_op *op)
{
    uint32_t i = uring->loans_free;
    takt__loan *loan;
    op->bits = 0;
    if (!takt__zerocopy_may(uring, op))
        return;
    if (i)
        uring->loans_free = uring->loans[i - 1].next;
    else if (uring->loans_fresh < uring->loans_max)
        i = ++uring->loans_fresh;
    else
        return;
    loan = &uring->loans[i - 1];
    loan->bufs = (takt_bufs *)op->arg.ptr;
    loan->index = takt__handed_index(op);
    loan->generation++;
    loan->place = ((takt_slot *)(void *)op)->index + 1;
    loan->due = loan->failed = 0;
    loan->fd = op->fd;
    loan->copy = false;
    op->bits = i;
    loan->bufs->sending++;
    uring->fds.at[op->fd].bits += TAKT__FD_LOAN;
    uring->zerocopies_held++;
}

/* Nobody reads the buffer any more. */
static void takt__loan_end(takt_uring *uring, takt__loan *loan)
{
    takt__handed_home(loan->bufs, loan->index);
    if (loan->fd >= 0)
        uring->fds.at[loan->fd].bits -= TAKT__FD_LOAN;
    loan->bufs->sending--;
    loan->bufs = NULL;
    loan->generation++;
    loan->next = uring->loans_free;
    uring->loans_free = (uint32_t)(loan - uring->loans) + 1;
    uring->zerocopies_held--;
}

/* The op is over: its buffer goes back, if the kernel does not read it. */
static void takt__zerocopy_over(takt_uring *uring, takt_op *op)
{
    takt__loan *const loan = op->bits ? &uring->loans[op->bits - 1] : NULL;
    if (!loan) {
        takt__handed_home((takt_bufs *)op->arg.ptr, takt__handed_index(op));
        return;
    }
    op->bits = 0;
    loan->place = 0;
    if (loan->due <= 0)
        takt__loan_end(uring, loan);
}

/* `fd` is being closed: what is yet to come says nothing of the next one of that number. */
static void takt__zerocopy_forget(takt_uring *uring, int fd)
{
    uring->fds.at[fd].bits = 0;
    for (uint32_t i = 0; uring->zerocopies_held && i < uring->loans_fresh; i++)
        if (uring->loans[i].fd == fd)
            uring->loans[i].fd = -1;
}

/* What the kernel still reads when the ring goes is out for good. */
static void takt__zerocopy_free(takt_uring *uring)
{
    for (uint32_t i = 0; i < uring->loans_fresh; i++)
        if (uring->loans[i].bufs)
            uring->loans[i].bufs->lost++;
    for (uint32_t i = 0; i < uring->slots.count; i++) { /* of a ring that has failed */
        takt_op *const op = &takt_slot_at(&uring->slots, i)->op;
        if (op->kind == TAKT_OP_SEND_LEASE && op->state & TAKT__RING_KERNEL && !op->bits)
            ((takt_bufs *)op->arg.ptr)->lost++;
    }
    if (uring->zerocopies_held)
        TAKT_LOG("takt_uring_free: buffers are still being sent; they are kept");
    TAKT_FREE(uring->loans);
    uring->loans = NULL;
}

/* ==========================================================================
 * >>probe-impl
 * ======================================================================== */

enum { /* the user_data of the trial's requests, and the bit under which each is seen */
    TAKT__TRIAL_NOP,
    TAKT__TRIAL_POLL,
    TAKT__TRIAL_RECV,
    TAKT__TRIAL_CANCEL,
    TAKT__TRIAL_COUNT
};

/* What came back from a request of the trial, first, and whether that was all. */
typedef struct takt__seen {
    int32_t result;
    uint32_t flags;
    bool over;
} takt__seen;

/* The setup flags of rung `step`, best first, without what is switched off. */
static unsigned takt__probe_flags(int step, uint32_t disable)
{
    unsigned flags = IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE;
    const bool single = !(disable & TAKT_URING_NO_SINGLE_ISSUER);
    /* what is deferred wakes nobody who waits for the ring's descriptor */
    const bool defer = single && !(disable & (TAKT_URING_NO_DEFER_TASKRUN | TAKT_URING_NO_EXT_ARG));
    if (step <= 3 && !(disable & TAKT_URING_NO_SUBMIT_ALL))
        flags |= IORING_SETUP_SUBMIT_ALL;
    if (step <= 1 && single)
        flags |= IORING_SETUP_SINGLE_ISSUER;
    if (step == 0 && defer)
        flags |= IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
    else if (step <= 2 && !(disable & TAKT_URING_NO_COOP_TASKRUN))
        flags |= IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
    return flags;
}

/* Goes down the ladder until the kernel knows all the flags. */
static int takt__probe_descend(takt_uring *uring, const takt_uring_config *config,
                               unsigned entries, unsigned cq)
{
    enum { STEPS = 5 };
    int rc = -EINVAL;
    for (int step = 0; step < STEPS && rc == -EINVAL; step++) {
        struct io_uring_params params;
        memset(&params, 0, sizeof params);
        params.flags = takt__probe_flags(step, config->disable);
        if (config->restrict_ops)
            params.flags |= IORING_SETUP_R_DISABLED;
        params.cq_entries = cq;
        rc = io_uring_queue_init_params(entries, &uring->ring, &params);
    }
    return rc;
}

/* A ring as large as the memory that may be locked allows. That memory comes back a
 * while after another ring has ended: with nothing to fall back on, it is waited for. */
static int takt__probe_setup(takt_uring *uring, const takt_uring_config *config)
{
    const unsigned most = 32768, fewest = 8;
    unsigned entries = config->entries ? config->entries : 128;
    unsigned cq;
    int pause = 1;
    if (entries > most)
        entries = most;
    cq = config->cq_entries ? config->cq_entries : 4 * entries;
    for (;;) {
        const int rc = takt__probe_descend(uring, config, entries, cq > entries ? cq : entries);
        if (rc != -ENOMEM)
            return rc;
        if (entries > fewest) {
            entries = entries / 2 > fewest ? entries / 2 : fewest;
            cq /= 2;
        } else if (config->mode == TAKT_URING_ONLY && pause <= 128) {
            poll(NULL, 0, pause); /* 255 ms in all */
            pause *= 2;
        } else {
            return rc;
        }
    }
}

/* What takt asks of a ring, the newest last: a kernel that does not know one knows none of
 * those behind it. */
#define TAKT__RING_ASKS(X)                   \
    X(SQE_FLAGS_ALLOWED, IOSQE_BUFFER_SELECT) \
    X(SQE_OP, IORING_OP_NOP)                 \
    X(SQE_OP, IORING_OP_POLL_ADD)            \
    X(SQE_OP, IORING_OP_SENDMSG)             \
    X(SQE_OP, IORING_OP_RECVMSG)             \
    X(SQE_OP, IORING_OP_TIMEOUT)             \
    X(SQE_OP, IORING_OP_ACCEPT)              \
    X(SQE_OP, IORING_OP_ASYNC_CANCEL)        \
    X(SQE_OP, IORING_OP_CONNECT)             \
    X(SQE_OP, IORING_OP_READ)                \
    X(SQE_OP, IORING_OP_WRITE)               \
    X(SQE_OP, IORING_OP_SEND)                \
    X(SQE_OP, IORING_OP_RECV)                \
    X(REGISTER_OP, IORING_REGISTER_EVENTFD)  \
    X(REGISTER_OP, IORING_REGISTER_RING_FDS) \
    X(REGISTER_OP, IORING_UNREGISTER_RING_FDS) \
    X(REGISTER_OP, IORING_REGISTER_PBUF_RING) \
    X(REGISTER_OP, IORING_UNREGISTER_PBUF_RING) \
    X(SQE_OP, IORING_OP_SEND_ZC)

/* Ends what else could be asked of the ring, and lets it begin; this thread is its issuer.
 * 0 or an error. */
static int takt__probe_restrict(takt_uring *uring)
{
    static const struct {
        uint16_t kind;
        uint8_t value;
    } asks[] = {
#define TAKT__X(kind, value) {IORING_RESTRICTION_##kind, value},
        TAKT__RING_ASKS(TAKT__X)
#undef TAKT__X
    };
    enum { COUNT = sizeof asks / sizeof asks[0] };
    struct io_uring_restriction list[COUNT];
    const unsigned fd = (unsigned)uring->ring.ring_fd;
    unsigned count = COUNT;
    int rc;
    memset(list, 0, sizeof list);
    for (unsigned i = 0; i < COUNT; i++) {
        list[i].opcode = asks[i].kind;
        list[i].sqe_op = asks[i].value; /* in a union with what the other kinds have */
    }
    do
        rc = io_uring_register(fd, IORING_REGISTER_RESTRICTIONS, list, count);
    while (rc == -EINVAL && --count > 0);
    if (rc == 0)
        rc = io_uring_register(fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
    uring->restricted = rc == 0;
    return rc;
}

/* Reads completions of the trial until all in `wanted` were seen. 0 or an error. */
static int takt__trial_wait(takt_uring *uring, takt__seen *results, unsigned wanted)
{
    struct io_uring_cq *const cq = &uring->ring.cq;
    const takt_ns limit = takt_uring_now(uring) + TAKT_SEC;
    unsigned seen = 0;
    while ((seen & wanted) != wanted) {
        const takt_ns left = limit - takt_uring_now(uring);
        int rc;
        if (left <= 0)
            return -ETIME;
        rc = takt__ring_enter(uring, takt__ring_unsubmitted(uring), left);
        if (rc < 0 && rc != -EINTR && rc != -ETIME)
            return rc;
        while (takt__ring_unread(uring)) {
            const struct io_uring_cqe *const cqe = &cq->cqes[*cq->khead & cq->ring_mask];
            takt__seen *const it = &results[cqe->user_data % TAKT__TRIAL_COUNT];
            if (cqe->user_data >= TAKT__TRIAL_COUNT)
                return -EIO;
            if (!(seen & 1u << cqe->user_data)) {
                it->result = cqe->res;
                it->flags = cqe->flags;
            }
            it->over = !(cqe->flags & IORING_CQE_F_MORE);
            seen |= 1u << cqe->user_data;
            __atomic_store_n(cq->khead, *cq->khead + 1, __ATOMIC_RELEASE);
        }
    }
    return 0;
}

static void takt__trial_ask(takt_uring *uring, unsigned opcode, int fd, const void *addr,
                            size_t len, int bits, uint64_t key)
{
    struct io_uring_sqe *const sqe = takt__ring_sqe(uring);
    if (sqe)
        takt__ring_fill(sqe, opcode, fd, 0, addr, len, (uint32_t)bits, key);
}

/* The requests of the trial, on a socket pair with one byte to read at pair[0]. */
static int takt__trial_run(takt_uring *uring, const int *pair)
{
    takt__seen results[TAKT__TRIAL_COUNT];
    int rc;
    memset(results, 0, sizeof results);
    takt__trial_ask(uring, IORING_OP_NOP, -1, NULL, 0, 0, TAKT__TRIAL_NOP);
    rc = takt__trial_wait(uring, results, 1u << TAKT__TRIAL_NOP);
    if (rc < 0)
        return rc;
    takt__trial_ask(uring, IORING_OP_POLL_ADD, pair[0], NULL, 0, POLLIN, TAKT__TRIAL_POLL);
    rc = takt__trial_wait(uring, results, 1u << TAKT__TRIAL_POLL);
    if (rc < 0)
        return rc;
    takt__trial_ask(uring, IORING_OP_RECV, pair[0], uring->trial, 2, MSG_WAITALL,
                    TAKT__TRIAL_RECV);
    takt__trial_ask(uring, IORING_OP_ASYNC_CANCEL, -1, (void *)(uintptr_t)TAKT__TRIAL_RECV, 0, 0,
                    TAKT__TRIAL_CANCEL);
    rc = takt__trial_wait(uring, results, 1u << TAKT__TRIAL_RECV | 1u << TAKT__TRIAL_CANCEL);
    if (rc < 0)
        return rc;
    if (results[TAKT__TRIAL_NOP].result != 0 || !(results[TAKT__TRIAL_POLL].result & POLLIN))
        return -EIO;
    if (results[TAKT__TRIAL_RECV].result == 1)
        uring->rungs |= TAKT__RUNG_WAITALL; /* a cancel does not lose what had arrived */
    else if (results[TAKT__TRIAL_RECV].result != -ECANCELED &&
             results[TAKT__TRIAL_RECV].result != -EINTR)
        return -EIO;
    return 0;
}

/* A request that may complete many times: does it, with `flags` each time? It has something
 * to report already. 1, 0, or an error that is the ring's. */
static int takt__trial_many(takt_uring *uring, const struct io_uring_sqe *like, uint32_t flags,
                            takt__seen *seen)
{
    takt__seen results[TAKT__TRIAL_COUNT];
    struct io_uring_sqe *sqe = takt__ring_sqe(uring);
    int rc;
    if (!sqe)
        return -EIO;
    *sqe = *like;
    sqe->user_data = TAKT__TRIAL_RECV;
    rc = takt__trial_wait(uring, results, 1u << TAKT__TRIAL_RECV);
    if (rc < 0)
        return rc;
    *seen = results[TAKT__TRIAL_RECV];
    if (!seen->over) {
        takt__trial_ask(uring, IORING_OP_ASYNC_CANCEL, -1, (void *)(uintptr_t)TAKT__TRIAL_RECV, 0,
                        0, TAKT__TRIAL_CANCEL);
        rc = takt__trial_wait(uring, results, 1u << TAKT__TRIAL_RECV | 1u << TAKT__TRIAL_CANCEL);
    }
    if (rc < 0)
        return rc;
    return seen->result >= 0 && (seen->flags & flags) == flags;
}

/* Receives into a ring of buffers, once and many times. */
static int takt__trial_buffers(takt_uring *uring, const int *pair, bool *many)
{
    const uint32_t flags = IORING_CQE_F_BUFFER | IORING_CQE_F_MORE;
    struct io_uring_sqe sqe;
    struct takt__bufring *ring;
    takt__seen seen;
    takt_bufs bufs;
    int rc = takt_bufs_init(&bufs, 8, 8);
    *many = false;
    if (rc < 0)
        return rc;
    uring->rungs |= TAKT__RUNG_BUFFER_RING;
    ring = takt__bufring_of(uring, &bufs);
    for (int twice = 0; ring && rc >= 0 && twice < 2; twice++) {
        unsigned char *data;
        takt__bufring_fill(ring);
        takt__ring_fill(&sqe, IORING_OP_RECV, pair[0], 0, NULL, 0, 0, 0);
        sqe.flags = IOSQE_BUFFER_SELECT;
        sqe.buf_group = ring->group;
        sqe.ioprio = twice ? IORING_RECV_MULTISHOT : 0;
        if (send(pair[1], "y", 1, MSG_NOSIGNAL) != 1)
            rc = -EIO;
        else
            rc = takt__trial_many(uring, &sqe, twice ? flags : (uint32_t)IORING_CQE_F_BUFFER,
                                  &seen);
        data = rc == 1 ? takt__bufring_claim(&bufs, seen.flags >> IORING_CQE_BUFFER_SHIFT) : NULL;
        if (!twice && rc >= 0 && (!data || seen.result != 1 || *data != 'y'))
            uring->rungs &= ~(uint32_t)TAKT__RUNG_BUFFER_RING;
        *many = twice && data && seen.result == 1 && *data == 'y';
        takt_bufs_put(&bufs, &data);
    }
    takt_bufs_free(&bufs);
    return rc < 0 ? rc : 0;
}

/* Accepts many times, from a listener that has somebody waiting. */
static int takt__trial_accept(takt_uring *uring, bool *many)
{
    struct io_uring_sqe sqe;
    struct sockaddr_un addr;
    socklen_t len = sizeof addr;
    takt__seen seen;
    const int type = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
    const int listener = socket(AF_UNIX, type, 0);
    const int client = socket(AF_UNIX, type, 0);
    int rc = 0;
    memset(&addr, 0, sizeof addr);
    addr.sun_family = AF_UNIX; /* and no name: the kernel chooses one */
    *many = false;
    if (listener >= 0 && client >= 0 &&
        bind(listener, (struct sockaddr *)&addr, sizeof addr.sun_family) == 0 &&
        listen(listener, 1) == 0 && getsockname(listener, (struct sockaddr *)&addr, &len) == 0 &&
        connect(client, (struct sockaddr *)&addr, len) == 0) {
        takt__ring_fill(&sqe, IORING_OP_ACCEPT, listener, 0, NULL, 0, SOCK_CLOEXEC, 0);
        sqe.ioprio = IORING_ACCEPT_MULTISHOT;
        rc = takt__trial_many(uring, &sqe, IORING_CQE_F_MORE, &seen);
        if (rc >= 0 && seen.result >= 0)
            close(seen.result);
        *many = rc == 1;
    }
    if (listener >= 0)
        close(listener);
    if (client >= 0)
        close(client);
    return rc < 0 ? rc : 0;
}

/* What streams stand on. 0, or an error that is the ring's. */
static int takt__trial_streams(takt_uring *uring, const int *pair, uint32_t disable)
{
    unsigned char left[8];
    bool receives = true, accepts = false;
    int rc = 0;
    while (recv(pair[0], left, sizeof left, MSG_DONTWAIT) > 0)
        continue;
    if (!(disable & TAKT_URING_NO_BUFFER_RING))
        rc = takt__trial_buffers(uring, pair, &receives);
    if (rc == 0 && !(disable & TAKT_URING_NO_MULTISHOT))
        rc = takt__trial_accept(uring, &accepts);
    if (accepts && (receives || !(uring->rungs & TAKT__RUNG_BUFFER_RING)))
        uring->rungs |= TAKT__RUNG_MULTISHOT;
    return rc;
}

/* Sends without copying, where that is known but not to be had: a Unix socket. With and, for
 * Linux before 6.2, without a report of what became of it. */
static int takt__trial_zerocopy(takt_uring *uring, const int *pair)
{
    struct io_uring_sqe sqe;
    takt__seen seen;
    int rc = 0;
    takt__ring_fill(&sqe, IORING_OP_SEND_ZC, pair[1], 0, uring->trial, 1,
                    MSG_NOSIGNAL | MSG_DONTWAIT, 0);
    sqe.ioprio = TAKT__RING_ZC_REPORT_USAGE;
    memset(&seen, 0, sizeof seen);
    for (int twice = 0; rc >= 0 && twice < 2 && !(uring->rungs & TAKT__RUNG_SEND_ZC); twice++) {
        rc = takt__trial_many(uring, &sqe, 0, &seen);
        if (rc >= 0 && seen.flags & IORING_CQE_F_MORE &&
            (seen.result == 1 || seen.result == -EOPNOTSUPP)) {
            uring->rungs |= TAKT__RUNG_SEND_ZC;
            uring->zerocopy_flags = sqe.ioprio;
        }
        sqe.ioprio = 0;
    }
    return rc < 0 ? rc : 0;
}

/* Does this ring work? Some exist and do not. */
static int takt__probe_trial(takt_uring *uring, uint32_t disable)
{
    int pair[2];
    int rc;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return -errno;
    rc = send(pair[1], "x", 1, MSG_NOSIGNAL) == 1 ? takt__trial_run(uring, pair) : -EIO;
    if (rc == 0)
        rc = takt__trial_streams(uring, pair, disable);
    if (rc == 0 && !(disable & TAKT_URING_NO_SEND_ZC))
        rc = takt__trial_zerocopy(uring, pair);
    close(pair[0]);
    close(pair[1]);
    uring->enters = 0;
    uring->submitted = 0;
    return rc;
}

/* Notes what was granted, and what follows from it. */
static void takt__probe_grant(takt_uring *uring, uint32_t disable)
{
    const unsigned flags = uring->ring.flags;
    if (flags & IORING_SETUP_SINGLE_ISSUER)
        uring->rungs |= TAKT__RUNG_SINGLE_ISSUER;
    if (flags & IORING_SETUP_DEFER_TASKRUN)
        uring->rungs |= TAKT__RUNG_DEFER_TASKRUN;
    if (flags & IORING_SETUP_COOP_TASKRUN)
        uring->rungs |= TAKT__RUNG_COOP_TASKRUN;
    if (flags & IORING_SETUP_SUBMIT_ALL)
        uring->rungs |= TAKT__RUNG_SUBMIT_ALL;
    if (uring->ring.features & TAKT__RING_FEAT_NO_IOWAIT && !(disable & TAKT_URING_NO_IOWAIT))
        uring->rungs |= TAKT__RUNG_IOWAIT;
    uring->rungs &= ~(disable & TAKT_URING_NO_WAITALL);
    uring->recv_flags = uring->rungs & TAKT__RUNG_WAITALL ? MSG_WAITALL : 0;
    uring->send_flags = MSG_NOSIGNAL | MSG_DONTWAIT;
    if (!(disable & TAKT_URING_NO_REGISTERED_RING) &&
        io_uring_register_ring_fd(&uring->ring) == 1) {
        uring->rungs |= TAKT__RUNG_REGISTERED_RING;
        uring->enter_flags = IORING_ENTER_REGISTERED_RING;
    }
    uring->wait_flags = uring->enter_flags | IORING_ENTER_GETEVENTS;
    if (uring->rungs & TAKT__RUNG_IOWAIT)
        uring->wait_flags |= TAKT__RING_ENTER_NO_IOWAIT;
}

static int takt__probe_memory(takt_uring *uring, const takt_uring_config *config,
                              const takt_slots *slots)
{
    const unsigned entries = uring->ring.sq.ring_entries;
    uring->slots = *slots;
    uring->wait_flags = IORING_ENTER_GETEVENTS; /* until it is known what else there is */
    uring->parked_max = slots->count ? slots->count : 1;
    uring->messages = (struct takt__uring_message *)TAKT_CALLOC(entries, sizeof *uring->messages);
    uring->parked = (uint32_t *)TAKT_CALLOC(uring->parked_max, sizeof *uring->parked);
    if (!takt__zerocopy_init(uring, config) || !uring->messages || !uring->parked)
        return -ENOMEM;
    for (unsigned i = 0; i < entries; i++)
        uring->ring.sq.array[i] = i;
    return takt_fds_init(&uring->fds, config->posix.fds_max, slots);
}

static void takt__ring_release(takt_uring *uring)
{
    while (uring->bufrings)
        takt__bufring_detach(uring->bufrings, true);
    takt__ring_gives();
    io_uring_queue_exit(&uring->ring);
    if (uring->event_fd >= 0)
        close(uring->event_fd);
    takt__zerocopy_free(uring);
    TAKT_FREE(uring->messages);
    TAKT_FREE(uring->parked);
    takt_fds_free(&uring->fds);
    takt__pipes_free(&uring->posix.pipes);
    uring->messages = NULL;
    uring->parked = NULL;
    uring->on_ring = false;
}

static int takt__probe_start(takt_uring *uring, const takt_uring_config *config,
                             const takt_slots *slots)
{
    const unsigned needed = IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_FAST_POLL;
    int rc = takt__probe_setup(uring, config);
    uring->setup_step = "io_uring_setup";
    if (rc < 0)
        return rc;
    takt__ring_takes();
    io_uring_ring_dontfork(&uring->ring); /* a child must not share the queues */
    rc = (uring->ring.features & needed) == needed ? 0 : -EOPNOTSUPP;
    if (uring->ring.features & IORING_FEAT_EXT_ARG && !(config->disable & TAKT_URING_NO_EXT_ARG))
        uring->rungs |= TAKT__RUNG_EXT_ARG;
    if (rc == 0)
        rc = takt__probe_memory(uring, config, slots);
    if (rc == 0 && config->restrict_ops) {
        uring->setup_step = "io_uring restrictions";
        rc = takt__probe_restrict(uring);
    }
    if (rc == 0) {
        uring->setup_step = "io_uring trial";
        uring->dropped = *uring->ring.cq.koverflow;
        rc = takt__probe_trial(uring, config->disable);
    }
    if (rc < 0) {
        takt__ring_release(uring);
        uring->rungs = 0; /* these were a ring's that is gone */
        uring->restricted = false;
        return rc;
    }
    takt__probe_grant(uring, config->disable);
    takt__pipes_init(&uring->posix.pipes, uring->fds.count);
    uring->on_ring = true;
    uring->spin = config->spin < 0 ? 0 : config->spin > TAKT_MS ? TAKT_MS : config->spin;
    uring->spin_now = uring->spin;
    return 0;
}

/* ==========================================================================
 * >>encode-impl
 * ======================================================================== */

/* What the kernel gives back with the completion of the request that `op` has now. */
static uint64_t takt__ring_key(const takt_uring *uring, const takt_op *op)
{
    const bool accepts = op->kind == TAKT_OP_ACCEPT && !(op->state & TAKT__RING_READINESS);
    if (TAKT__UNLIKELY(takt__zerocopy_on(uring, op)))
        return takt__loan_key(uring, op->bits - 1);
    return takt_token_of(op) | (accepts ? TAKT__RING_KEY_ACCEPT : 0);
}

static bool takt__ring_reads(const takt_op *op)
{
    switch (op->kind) {
    case TAKT_OP_CONNECT:
    case TAKT_OP_DIAL:
    case TAKT_OP_SEND:
    case TAKT_OP_SEND_LEASE:
    case TAKT_OP_SENDTO:
    case TAKT_OP_BURST:
    case TAKT_OP_WRITE:
        return false;
    default:
        return true;
    }
}

static void takt__encode_readiness(const takt_uring *uring, const takt_op *op,
                                   struct io_uring_sqe *sqe, uint64_t key)
{
    const bool many = op->kind == TAKT_OP_READY && op->flags & TAKT_OP_MULTI &&
                      uring->rungs & TAKT__RUNG_MULTISHOT;
    uint32_t events = takt__ring_reads(op) ? POLLIN : POLLOUT;
    int fd = op->fd;
    if (op->kind == TAKT_OP_READY)
        events = op->bits;
    if (op->kind == TAKT_OP_SPLICE && takt__splice_holds(op)) {
        events = POLLOUT;
        fd = (int)op->extra;
    }
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    events = events << 16 | events >> 16;
#endif
    takt__ring_fill(sqe, IORING_OP_POLL_ADD, fd, 0, NULL, many ? IORING_POLL_ADD_MULTI : 0,
                    events, key);
}

static void takt__encode_accept(const takt_op *op, struct io_uring_sqe *sqe, uint64_t key)
{
    takt_addr *const peer = (takt_addr *)op->arg.ptr;
    if (peer)
        peer->len = sizeof peer->sockaddr;
    takt__ring_fill(sqe, IORING_OP_ACCEPT, op->fd, peer ? (uintptr_t)&peer->len : 0,
                    peer ? &peer->sockaddr : NULL, 0, SOCK_CLOEXEC | SOCK_NONBLOCK, key);
}

static void takt__encode_connect(const takt_op *op, struct io_uring_sqe *sqe, uint64_t key)
{
    const takt_addr *const to = (const takt_addr *)op->arg.ptr;
    takt__ring_fill(sqe, IORING_OP_CONNECT, op->fd, to->len, &to->sockaddr, 0, 0, key);
}

/* The message of an entry, with one vector in it. */
static struct msghdr *takt__encode_message(takt_uring *uring, const struct io_uring_sqe *sqe,
                                           const struct iovec *iov, size_t count)
{
    enum { IOVECS = 1024 }; /* the kernel takes no more */
    struct msghdr *const header = &uring->messages[sqe - uring->ring.sq.sqes].header;
    memset(header, 0, sizeof *header);
    header->msg_iov = (struct iovec *)(uintptr_t)iov;
    header->msg_iovlen = (uint16_t)(count < IOVECS ? count : (size_t)IOVECS);
    return header;
}

/* send and recv of what is left. A vector that was begun goes on with the rest of the
 * buffer that was reached, alone. What there is no room for is tried again from here, when there
 * is some: a send that waits in the kernel takes a thread, once the peer has shut its side down
 * (Linux 6.18). */
static void takt__encode_stream(takt_uring *uring, const takt_op *op, struct io_uring_sqe *sqe,
                                uint64_t key)
{
    const bool sending = op->kind == TAKT_OP_SEND;
    const int all = sending                      ? uring->send_flags
                    : op->flags & TAKT_OP_ALL ? uring->recv_flags
                                                 : 0;
    const uint32_t bits = (op->bits & ~(uint32_t)MSG_DONTWAIT) | (uint32_t)all;
    struct iovec part;
    const struct iovec *rest;
    size_t after;
    if (!(op->flags & TAKT_OP_VECTOR)) {
        takt__ring_fill(sqe, sending ? IORING_OP_SEND : IORING_OP_RECV, op->fd, 0,
                        (char *)op->buf + op->arg.done, op->len - (size_t)op->arg.done, bits, key);
        return;
    }
    after = takt__vector_left(op, &part, &rest);
    if (after == 0 || part.iov_len < rest[-1].iov_len) {
        takt__ring_fill(sqe, sending ? IORING_OP_SEND : IORING_OP_RECV, op->fd, 0, part.iov_base,
                        part.iov_len, bits, key);
        return;
    }
    takt__ring_fill(sqe, sending ? IORING_OP_SENDMSG : IORING_OP_RECVMSG, op->fd, 0,
                    takt__encode_message(uring, sqe, rest - 1, after + 1), 1, bits, key);
}

/* What is left of a buffer that was handed over. */
static void takt__encode_handed(takt_uring *uring, const takt_op *op, struct io_uring_sqe *sqe,
                                uint64_t key)
{
    const bool whole = takt__zerocopy_on(uring, op);
    takt__ring_fill(sqe, whole ? IORING_OP_SEND_ZC : IORING_OP_SEND, op->fd, 0, op->buf, op->len,
                    (uint32_t)uring->send_flags, key);
    if (whole) {
        sqe->ioprio = uring->zerocopy_flags;
        uring->zerocopies++;
    }
}

/* A datagram that finds no room is tried again from here, when there is some: the kernel's own
 * second try of one to a Unix socket sends it without its bytes (Linux 5.10 to 6.18). */
static void takt__encode_sendto(takt_uring *uring, const takt_op *op, struct io_uring_sqe *sqe,
                                uint64_t key)
{
    const uint32_t bits = MSG_NOSIGNAL | MSG_DONTWAIT;
    struct takt__uring_message *const message = &uring->messages[sqe - uring->ring.sq.sqes];
    const takt_addr *const to = (const takt_addr *)op->arg.ptr;
    struct msghdr *header;
    if (!to) {
        takt__ring_fill(sqe, IORING_OP_SEND, op->fd, 0, op->buf, op->len, bits, key);
        return;
    }
    header = takt__encode_message(uring, sqe, &message->piece, 1);
    message->piece.iov_base = op->buf;
    message->piece.iov_len = takt__clamp(op->len);
    header->msg_name = takt__sockaddr(to);
    header->msg_namelen = to->len;
    takt__ring_fill(sqe, IORING_OP_SENDMSG, op->fd, 0, header, 1, bits, key);
}

static void takt__encode_file(const takt_op *op, struct io_uring_sqe *sqe, uint64_t key)
{
    const uint64_t offset = op->arg.offset < 0 ? UINT64_MAX : (uint64_t)op->arg.offset;
    takt__ring_fill(sqe, op->kind == TAKT_OP_READ ? IORING_OP_READ : IORING_OP_WRITE, op->fd,
                    offset, op->buf, op->len, 0, key);
}

/* Connections, datagrams and bytes that come many times, or into a buffer of the kernel's
 * choice. The kernel writes name and controls of a datagram where a takt_datagram is to be. */
static void takt__encode_many(takt_uring *uring, takt_op *op, struct io_uring_sqe *sqe,
                              uint64_t key)
{
    const bool many = op->flags & TAKT_OP_MULTI && uring->rungs & TAKT__RUNG_MULTISHOT;
    const struct takt__bufring *ring;
    struct msghdr *header;
    if (op->kind == TAKT_OP_ACCEPT) {
        takt__encode_accept(op, sqe, key);
        sqe->ioprio = many ? IORING_ACCEPT_MULTISHOT : 0;
        return;
    }
    ring = (const struct takt__bufring *)((const takt_bufs *)op->arg.ptr)->keeper;
    if (!ring || ring->retired) { /* the pool was trimmed while `op` stood in line */
        takt__ring_set(op, TAKT__RING_READINESS);
        takt__encode_readiness(uring, op, sqe, key);
        return;
    }
    if (op->kind == TAKT_OP_RECVMSG) {
        header = takt__encode_message(uring, sqe, NULL, 0);
        header->msg_namelen = TAKT__NAME;
        header->msg_controllen = TAKT__CONTROLS;
        takt__ring_fill(sqe, IORING_OP_RECVMSG, op->fd, 0, header, 1, 0, key);
    } else {
        takt__ring_fill(sqe, IORING_OP_RECV, op->fd, 0, NULL, 0, 0, key);
    }
    sqe->ioprio = many ? IORING_RECV_MULTISHOT : 0;
    sqe->flags = IOSQE_BUFFER_SELECT;
    sqe->buf_group = ring->group;
}

/* Writes the request that `op` needs next. It is the kernel's from here on. */
static void takt__ring_encode(takt_uring *uring, takt_op *op, struct io_uring_sqe *sqe)
{
    const uint64_t key = takt__ring_key(uring, op);
    takt__ring_set(op, TAKT__RING_KERNEL);
    if (op->state & TAKT__RING_READINESS) {
        takt__encode_readiness(uring, op, sqe, key);
        return;
    }
    switch (op->kind) {
    case TAKT_OP_RECV:
    case TAKT_OP_SEND:
        takt__encode_stream(uring, op, sqe, key);
        break;
    case TAKT_OP_SEND_LEASE:
        takt__encode_handed(uring, op, sqe, key);
        break;
    case TAKT_OP_SENDTO:
        takt__encode_sendto(uring, op, sqe, key);
        break;
    case TAKT_OP_ACCEPT:
    case TAKT_OP_LEASE:
    case TAKT_OP_RECVMSG:
        takt__encode_many(uring, op, sqe, key);
        break;
    case TAKT_OP_CONNECT:
    case TAKT_OP_DIAL:
        takt__encode_connect(op, sqe, key);
        break;
    case TAKT_OP_READ:
    case TAKT_OP_WRITE:
        takt__encode_file(op, sqe, key);
        break;
    default:
        takt__ring_fill(sqe, IORING_OP_NOP, -1, 0, NULL, 0, 0, key);
        break;
    }
}

/* ==========================================================================
 * >>complete-impl
 * ======================================================================== */

static void takt__ring_finish(takt_uring *uring, takt_op *op, int64_t result);
static void takt__ring_wait_ready(takt_uring *uring, takt_op *op);
static void takt__zerocopy_over(takt_uring *uring, takt_op *op);

/* -- the line of ops that found the queue full ---------------------------- */

static uint32_t *takt__parked_at(const takt_uring *uring, uint32_t i)
{
    const uint64_t place = (uint64_t)uring->parked_first + i;
    return &uring->parked[place % uring->parked_max];
}

static void takt__ring_park(takt_uring *uring, takt_op *op)
{
    if (uring->parked_count == uring->parked_max) { /* more ops than the slots at init */
        takt__ring_finish(uring, op, -EAGAIN);
        return;
    }
    takt__ring_set(op, TAKT__RING_PARKED);
    *takt__parked_at(uring, uring->parked_count++) = ((takt_slot *)(void *)op)->index;
}

static void takt__ring_unpark(takt_uring *uring, takt_op *op)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < uring->parked_count; i++) {
        const uint32_t index = *takt__parked_at(uring, i);
        if (index != ((takt_slot *)(void *)op)->index)
            *takt__parked_at(uring, kept++) = index;
    }
    uring->parked_count = kept;
    takt__ring_clear(op, TAKT__RING_PARKED);
}

/* Hands `op` to the kernel, or puts it in line behind those that came before. */
static void takt__ring_place(takt_uring *uring, takt_op *op)
{
    struct io_uring_sqe *const sqe =
        TAKT__LIKELY(!uring->parked_count) ? takt__ring_sqe(uring) : NULL;
    if (TAKT__LIKELY(sqe != NULL))
        takt__ring_encode(uring, op, sqe);
    else
        takt__ring_park(uring, op);
}

/* -- the line of datagrams on a descriptor ----------------------------------
 *
 * Single ones go to the kernel together, which takes them in order, as long as there is room.
 * Once the first has to wait, and behind a burst, the next ones stand in line.
 */

static takt_op *takt__line_first(const takt_uring *uring, const takt_op *op)
{
    return takt_fds_op(&uring->fds, uring->fds.at[op->fd].writer);
}

/* True if a datagram for `fd` is to stand in line. */
static bool takt__line_waits(const takt_uring *uring, int fd)
{
    const unsigned waits = TAKT__RING_IN_LINE | TAKT__RING_READINESS;
    const takt_op *first, *last;
    if ((unsigned)fd >= (unsigned)uring->fds.count || !uring->fds.at[fd].writer)
        return false;
    first = takt_fds_op(&uring->fds, uring->fds.at[fd].writer);
    last = takt_fds_op(&uring->fds, uring->fds.at[fd].writer_last);
    return ((unsigned)first->state | last->state) & waits;
}

/* Sends the burst at the front of a line: at once, in one call, which costs less than a request
 * for each. */
static void takt__line_burst(takt_uring *uring, takt_op *op)
{
    const int64_t result = takt__try_burst(&uring->posix, op);
    if (result == -EAGAIN)
        takt__ring_wait_ready(uring, op);
    else
        takt__ring_finish(uring, op, result);
}

/* One has left the line of `fd`: those who now stand at its front go. A burst that is over in
 * here leads here again: then it is the caller that goes on. */
static void takt__line_on(takt_uring *uring, int fd)
{
    enum { AT_A_TIME = 32 };
    const takt_fd *const entry = &uring->fds.at[fd];
    takt_op *op = takt_fds_op(&uring->fds, entry->writer);
    if (!op || !(op->state & TAKT__RING_IN_LINE) || entry->closer || uring->in_line)
        return;
    uring->in_line = true;
    while (op && op->kind == TAKT_OP_BURST && op->state & TAKT__RING_IN_LINE) {
        takt__ring_clear(op, TAKT__RING_IN_LINE);
        takt__line_burst(uring, op);
        op = takt_fds_op(&uring->fds, entry->writer);
    }
    for (int i = 0; i < AT_A_TIME && op && op->kind == TAKT_OP_SENDTO &&
                    op->state & TAKT__RING_IN_LINE;
         i++) {
        takt_op *const next = op->next;
        takt__ring_clear(op, TAKT__RING_IN_LINE);
        takt__ring_place(uring, op);
        op = next;
    }
    uring->in_line = false;
}

/* -- the end of an op ------------------------------------------------------ */

/* Fills the next completion. */
static void takt__ring_hand(takt_uring *uring, takt_op *op)
{
    takt_completion *const completion = &uring->out[uring->out_count++];
    completion->token = takt_token_of(op);
    completion->value = op->result;
    completion->error = op->result < 0 ? (int32_t)op->result : 0;
    completion->flags = (op->kind == TAKT_OP_ACCEPT || op->kind == TAKT_OP_DIAL) &&
                                op->result >= 0
                            ? TAKT_FD
                            : 0;
    completion->payload = NULL;
    op->state = 0;
    op->next = NULL;
}

/* A descriptor beyond the table could not be served. */
static int64_t takt__ring_opened(const takt_uring *uring, int64_t fd)
{
    if (fd >= 0 && fd < uring->fds.count) /* nothing is known of it */
        uring->fds.at[fd].bits &= ~(uint32_t)(TAKT__FD_COPIES | TAKT__FD_SHUT | TAKT__RESET);
    if (fd < uring->fds.count)
        return fd;
    close((int)fd);
    return -EMFILE;
}

/* What accept and dial have beside their result. */
static int64_t takt__ring_settle(const takt_uring *uring, takt_op *op, int64_t result)
{
    const int fd = op->fd;
    if (op->kind == TAKT_OP_ACCEPT) {
        takt_addr *const peer = (takt_addr *)op->arg.ptr;
        takt__op_close(op, false); /* a close of another op's may have led here */
        if (peer && result < 0)
            peer->len = 0;
        else if (peer && peer->len > sizeof peer->sockaddr)
            peer->len = sizeof peer->sockaddr;
        return takt__ring_opened(uring, result);
    }
    if (op->kind != TAKT_OP_DIAL || fd < 0)
        return result;
    if (result == 0 && takt__met_itself(fd, (const takt_addr *)op->arg.ptr))
        result = TAKT_ESELF;
    if (result == 0)
        return fd;
    close(fd);
    op->fd = -1;
    return result;
}

/* `op` is over, with `result`. If a close waited for that, it acts. */
static void takt__ring_finish(takt_uring *uring, takt_op *op, int64_t result)
{
    takt_op *closer = NULL;
    if (TAKT__UNLIKELY(result == -ECONNRESET))
        takt__note_reset(&uring->fds, op);
    if (op->state & TAKT__RING_ENTERED)
        closer = takt_fds_leave(&uring->fds, op);
    if (op->kind == TAKT_OP_ACCEPT || op->kind == TAKT_OP_DIAL)
        result = takt__ring_settle(uring, op, result);
    else if (op->kind == TAKT_OP_SEND_LEASE)
        takt__zerocopy_over(uring, op);
    if (op->kind == TAKT_OP_CLOSE || (op->kind == TAKT_OP_DIAL && result < 0))
        uring->later_now = true; /* a descriptor has become free */
    op->result = result;
    op->state = TAKT__RING_DONE;
    op->next = NULL;
    if (TAKT__LIKELY(uring->out_count < uring->out_max && !uring->done_first)) {
        takt__ring_hand(uring, op);
    } else {
        if (uring->done_first)
            uring->done_last->next = op;
        else
            uring->done_first = op;
        uring->done_last = op;
    }
    while (TAKT__UNLIKELY(closer != NULL)) {
        takt__ring_finish(uring, closer, takt__do_close(closer->fd));
        closer = op->kind == TAKT_OP_SPLICE ? takt_fds_leave(&uring->fds, op) : NULL;
    }
    if (takt__is_datagram(op))
        takt__line_on(uring, op->fd);
}

/* True if somebody wanted an early end of `op`. */
static bool takt__ring_stopped(const takt_op *op)
{
    return (op->state & (TAKT__RING_CANCELLED | TAKT__RING_CLOSED)) != 0;
}

static int takt__ring_stop_code(const takt_op *op)
{
    return op->state & TAKT__RING_CANCELLED ? TAKT_ECANCELED : TAKT_ECLOSED;
}

/* Asks for readiness, and does the op again after that. */
static void takt__ring_wait_ready(takt_uring *uring, takt_op *op)
{
    takt__ring_set(op, TAKT__RING_READINESS);
    takt__ring_place(uring, op);
}

/* A request of `op` has failed: again, or the end. */
static void takt__ring_failed(takt_uring *uring, takt_op *op, int error)
{
    const bool connects = op->kind == TAKT_OP_CONNECT || op->kind == TAKT_OP_DIAL;
    if (takt__ring_stopped(op)) {
        const bool stop = error == -ECANCELED || error == -EINTR || error == -EAGAIN ||
                          error == -EINPROGRESS;
        takt__ring_finish(uring, op, stop ? takt__ring_stop_code(op) : error);
        return;
    }
    switch (error) {
    case -ECANCELED: /* by nobody: the kernel had no worker, or the thread is ending */
        takt__ring_finish(uring, op, -EAGAIN);
        break;
    case -EINPROGRESS:
    case -EINTR:
        if (connects)
            takt__ring_wait_ready(uring, op);
        else if (error == -EINTR)
            takt__ring_place(uring, op);
        else
            takt__ring_finish(uring, op, error);
        break;
    case -EAGAIN:
        if (op->kind == TAKT_OP_SENDTO && takt__line_first(uring, op) != op) {
            takt__ring_set(op, TAKT__RING_IN_LINE);
            break;
        }
        if (!connects && op->kind != TAKT_OP_NOP) {
            takt__ring_wait_ready(uring, op);
            break;
        }
        takt__ring_finish(uring, op, error);
        break;
    default:
        takt__ring_finish(uring, op, error);
        break;
    }
}

/* True if the kernel was to wait for all of it, and it was not we who ended the connection. */
static bool takt__ring_cut_short(const takt_uring *uring, const takt_op *op)
{
    return op->kind == TAKT_OP_RECV && uring->recv_flags &&
           !(uring->fds.at[op->fd].bits & TAKT__FD_SHUT);
}

/* Part of what shall be done in full. */
static void takt__ring_progress(takt_uring *uring, takt_op *op, int res)
{
    uint64_t bytes, done;
    if (op->kind == TAKT_OP_SEND_LEASE) {
        takt__handed_sent(op, (size_t)res);
        bytes = op->extra;
        done = op->extra - op->len;
    } else {
        done = op->arg.done += (unsigned)res;
        bytes = takt__op_bytes(op);
    }
    if (done >= bytes)
        takt__ring_finish(uring, op, (int64_t)bytes);
    else if (res == 0)
        takt__ring_finish(uring, op, op->kind == TAKT_OP_RECV ? TAKT_ETRUNCATED : -EPIPE);
    else if (takt__ring_stopped(op))
        takt__ring_finish(uring, op, takt__ring_stop_code(op));
    else if (op->kind == TAKT_OP_SEND)
        takt__ring_wait_ready(uring, op); /* there was no more room */
    else if (takt__end_of_stream(op->fd, takt__ring_cut_short(uring, op)))
        takt__ring_finish(uring, op, -ECONNRESET); /* that is why; and it is told no more */
    else
        takt__ring_place(uring, op);
}

static void takt__ring_stand_in_line(takt_uring *uring, takt_op *op)
{
    takt__ring_set(op, TAKT__RING_NO_BUFFER);
    takt__bufs_wait((takt_bufs *)op->arg.ptr, op, &uring->starved);
}

/* Reading said: the end. But a reset is told only once, and a send that was begun meanwhile
 * may have been the one that learned of it: then this is no clean end. */
static int64_t takt__ring_end(const takt_uring *uring, const takt_op *op)
{
    const takt_fd *const fd = &uring->fds.at[op->fd];
    return takt__end_of_stream(op->fd, fd->writer || fd->bits & TAKT__RESET);
}

static void takt__many_item(takt_uring *uring, takt_op *op, int64_t value, void *data);
static void takt__many_arm(takt_uring *uring, takt_op *op);
static void takt__many_later(takt_uring *uring, takt_op *op);
static void takt__many_failed(takt_uring *uring, takt_op *op, int error);

/* There is data for a buffer, or is to be: now, and only now, one is taken. */
static void takt__ring_lease(takt_uring *uring, takt_op *op)
{
    takt_bufs *const bufs = (takt_bufs *)op->arg.ptr;
    unsigned char *data;
    int64_t n;
    if (op->kind == TAKT_OP_BUFFER) {
        if (takt__bufs_grant(op))
            takt__ring_finish(uring, op, bufs->size);
        else
            takt__ring_stand_in_line(uring, op);
        return;
    }
    data = takt_bufs_take(bufs);
    if (!data) {
        if (takt__bufring_has(bufs) && op->flags & TAKT_OP_MULTI)
            takt__many_arm(uring, op); /* but the kernel has some */
        else
            takt__ring_stand_in_line(uring, op);
        return;
    }
    if (op->kind == TAKT_OP_RECVMSG)
        n = takt__many_receive(op->fd, data, bufs->size);
    else
        n = takt__answer(recv(op->fd, data, takt__clamp(bufs->size), MSG_DONTWAIT));
    if (n > 0 || (n == 0 && op->kind == TAKT_OP_RECVMSG)) {
        takt__many_item(uring, op, n, data);
        return;
    }
    takt_bufs_put(bufs, &data);
    if (n == -EAGAIN && op->kind == TAKT_OP_RECVMSG && takt__no_more(op->fd))
        n = -ENODATA;
    if (n == 0 || n == -ENODATA)
        takt__ring_finish(uring, op, takt__ring_end(uring, op));
    else if (n == -EAGAIN || n == -EINTR)
        takt__ring_wait_ready(uring, op);
    else
        takt__many_failed(uring, op, (int)n);
}

/* It would take a buffer: behind those that came before. */
static void takt__ring_lease_in_turn(takt_uring *uring, takt_op *op)
{
    if (((const takt_bufs *)op->arg.ptr)->waiting)
        takt__ring_stand_in_line(uring, op);
    else
        takt__ring_lease(uring, op);
}

/* One of the two sides of a splice is ready, the one that it waited for. */
static void takt__ring_splice(takt_uring *uring, takt_op *op)
{
    const bool held = takt__splice_holds(op);
    const int64_t result = takt__splice_move(&uring->posix.pipes, op);
    if (result == -EAGAIN && held)
        takt__many_later(uring, op); /* `to` has room, but TCP is short of memory */
    else if (result == -EAGAIN && takt__splice_holds(op))
        takt__ring_wait_ready(uring, op);
    else if (result == -EAGAIN)
        takt__ring_finish(uring, op, -ENOBUFS); /* `from` has data, but urgent data before it */
    else
        takt__ring_finish(uring, op, result ? result : takt__ring_end(uring, op));
}

/* True if that is not what `op` waits for: where the peer has shut its side down, every request
 * for readiness is answered, and at once. */
static bool takt__ring_idle_call(const takt_op *op, int events)
{
    if (events & (POLLOUT | POLLERR | POLLHUP))
        return false;
    if (op->kind == TAKT_OP_SPLICE)
        return takt__splice_holds(op);
    return op->kind == TAKT_OP_SEND || op->kind == TAKT_OP_SEND_LEASE;
}

/* The descriptor of `op` is ready: what can be done at once, is. */
static void takt__ring_ready(takt_uring *uring, takt_op *op, int events)
{
    int64_t result;
    if (op->kind == TAKT_OP_READY) {
        events &= (int)op->bits | POLLERR | POLLHUP;
        if (events || takt__ring_stopped(op))
            takt__ring_finish(uring, op, events ? events : takt__ring_stop_code(op));
        else
            takt__many_later(uring, op);
        return;
    }
    if (takt__ring_stopped(op)) {
        takt__ring_finish(uring, op, takt__ring_stop_code(op));
        return;
    }
    if (TAKT__UNLIKELY(takt__ring_idle_call(op, events))) {
        takt__many_later(uring, op);
        return;
    }
    switch (op->kind) {
    case TAKT_OP_LEASE:
    case TAKT_OP_RECVMSG:
        takt__ring_lease_in_turn(uring, op);
        return;
    case TAKT_OP_RECVFROM:
        result = takt__try_datagram(op, false);
        if (result == -EAGAIN && events & (POLLRDHUP | POLLHUP))
            result = 0; /* it was shut down */
        break;
    case TAKT_OP_BURST:
        result = takt__try_burst(&uring->posix, op);
        break;
    case TAKT_OP_SIGNAL:
        result = takt__read_signal(op->fd);
        break;
    case TAKT_OP_SPLICE:
        takt__ring_splice(uring, op);
        return;
    case TAKT_OP_CONNECT:
    case TAKT_OP_DIAL:
        result = takt__try_connected(op);
        break;
    default: /* it was tried before, and had to wait */
        takt__ring_place(uring, op);
        return;
    }
    if (result == -EAGAIN || result == -EINTR)
        takt__ring_wait_ready(uring, op);
    else
        takt__ring_finish(uring, op, result);
}

/* -- completions ----------------------------------------------------------- */

static void takt__ring_cancel_ended(takt_uring *uring, uint64_t key, int res);
static void takt__zerocopy_complete(takt_uring *uring, uint64_t key, int res, unsigned flags);
static void takt__many_complete(takt_uring *uring, takt_op *op, int res, unsigned flags);

/* A completion that nobody waits for. What it may carry must not be lost, and what is in
 * use must not be closed for it. */
static void takt__ring_stale(takt_uring *uring, uint64_t key, int res, unsigned flags)
{
    struct io_uring_sqe *const sqe = flags & IORING_CQE_F_MORE ? takt__ring_sqe(uring) : NULL;
    const takt_fd *entry;
    uring->stale++;
    if (sqe) /* and no further ones */
        takt__ring_fill(sqe, IORING_OP_ASYNC_CANCEL, -1, 0, (void *)(uintptr_t)key, 0, 0,
                        TAKT__RING_KEY_NOBODY);
    if (flags & IORING_CQE_F_BUFFER)
        takt__bufring_orphan(uring, flags >> IORING_CQE_BUFFER_SHIFT);
    if (!(key & TAKT__RING_KEY_ACCEPT) || res < 0)
        return;
    entry = res < uring->fds.count ? &uring->fds.at[res] : NULL;
    if (!entry || (!entry->reader && !entry->writer && !entry->closer))
        close(res);
}

/* The request of `op` is over. */
static void takt__ring_came(takt_uring *uring, takt_op *op)
{
    takt__ring_clear(op, TAKT__RING_KERNEL);
    if (TAKT__UNLIKELY(op->state & TAKT__RING_CANCEL_DUE)) {
        takt__ring_clear(op, TAKT__RING_CANCEL_DUE);
        uring->cancels_due--;
    }
}

/* One completion of the kernel. */
static void takt__ring_complete(takt_uring *uring, uint64_t key, int res, unsigned flags)
{
    takt_slot *slot;
    takt_op *op;
    if (TAKT__UNLIKELY(key & TAKT__RING_KEY_CANCEL)) {
        takt__ring_cancel_ended(uring, key, res);
        return;
    }
    if (TAKT__UNLIKELY(key & TAKT__RING_KEY_LOAN)) {
        takt__zerocopy_complete(uring, key, res, flags);
        return;
    }
    slot = takt_slot_find(&uring->slots, key & ~TAKT__RING_KEY_BITS);
    op = slot ? &slot->op : NULL;
    if (TAKT__UNLIKELY(!op || !(op->state & TAKT__RING_KERNEL) ||
                       key != takt__ring_key(uring, op) ||
                       (flags & IORING_CQE_F_MORE && !(op->flags & TAKT_OP_MULTI)))) {
        takt__ring_stale(uring, key, res, flags);
        return;
    }
    if (flags & IORING_CQE_F_MORE) {
        takt__many_complete(uring, op, res, flags);
        return;
    }
    takt__ring_came(uring, op);
    if (op->flags & TAKT_OP_MULTI || op->kind == TAKT_OP_LEASE) {
        takt__many_complete(uring, op, res, flags);
    } else if (op->state & TAKT__RING_READINESS) {
        takt__ring_clear(op, TAKT__RING_READINESS);
        if (res == -EINTR && !takt__ring_stopped(op))
            takt__ring_wait_ready(uring, op);
        else if (res < 0)
            takt__ring_failed(uring, op, res);
        else
            takt__ring_ready(uring, op, res);
    } else if (TAKT__UNLIKELY(res < 0)) {
        takt__ring_failed(uring, op, res);
    } else if (op->flags & TAKT_OP_ALL) {
        takt__ring_progress(uring, op, res);
    } else {
        if (res == 0 && op->kind == TAKT_OP_RECV)
            res = (int)takt__ring_end(uring, op);
        takt__ring_finish(uring, op, res);
    }
}

/* What may go the short way: requests, and asking for completions. */
static void takt__ring_judge(takt_uring *uring)
{
    const bool fair = uring->on_ring && !uring->fatal && !uring->parked_count &&
                      !uring->cancels_due && !uring->later;
    uring->plain_end = uring->ring.sq.sqe_tail;
    if (fair)
        uring->plain_end += uring->ring.sq.ring_entries - takt__ring_unsubmitted(uring);
    uring->plain = 0;
    if (fair && !uring->done_first && !uring->starved && uring->event_fd < 0 &&
        !takt__bufring_low(uring))
        uring->plain = uring->spin ? TAKT__RING_SPINS : TAKT__RING_PLAIN;
}

/* Reads completions while there is room for what they finish. */
static void takt__ring_reap_all(takt_uring *uring)
{
    struct io_uring_cq *const cq = &uring->ring.cq;
    const unsigned tail = __atomic_load_n(cq->ktail, __ATOMIC_ACQUIRE);
    unsigned head = *cq->khead;
    while (head != tail && uring->out_count < uring->out_max) {
        const struct io_uring_cqe *const cqe = &cq->cqes[head++ & cq->ring_mask];
        takt__ring_complete(uring, cqe->user_data, cqe->res, cqe->flags);
    }
    __atomic_store_n(cq->khead, head, __ATOMIC_RELEASE);
}

/* -- completions of requests that complete twice ---------------------------- */

/* The kernel reads the buffer no longer, as far as one request goes. */
static void takt__zerocopy_notice(takt_uring *uring, takt__loan *loan, unsigned usage)
{
    loan->due--;
    if (usage & TAKT__RING_ZC_COPIED && loan->failed > 0) {
        loan->failed--;
    } else if (usage & TAKT__RING_ZC_COPIED) {
        uring->zerocopies_copied++;
        if (loan->fd >= 0 && !uring->zerocopy_always)
            uring->fds.at[loan->fd].bits |= TAKT__FD_COPIES;
    }
    if (!loan->place && loan->due <= 0)
        takt__loan_end(uring, loan);
}

/* Such a request has failed. What it lacks an ordinary one does without. */
static void takt__zerocopy_failed(takt_uring *uring, takt_op *op, takt__loan *loan, int error)
{
    if (error == -EOPNOTSUPP && loan->fd >= 0)
        uring->fds.at[op->fd].bits |= TAKT__FD_COPIES;
    if (!takt__ring_stopped(op) &&
        (error == -EOPNOTSUPP || error == -ENOMEM || error == -ENOBUFS)) {
        loan->copy = true;
        takt__ring_place(uring, op);
    } else {
        takt__ring_failed(uring, op, error);
    }
}

static void takt__zerocopy_complete(takt_uring *uring, uint64_t key, int res, unsigned flags)
{
    const uint32_t i = (uint32_t)(key & ~(TAKT__RING_KEY_BITS | TAKT__RING_KEY_LOAN));
    takt__loan *const loan = i < uring->loans_fresh ? &uring->loans[i] : NULL;
    takt_op *op;
    if (!loan || !loan->bufs || key != takt__loan_key(uring, i)) {
        uring->stale++;
        return;
    }
    op = takt_fds_op(&uring->fds, loan->place);
    if (op && (!(op->state & TAKT__RING_KERNEL) || !takt__zerocopy_on(uring, op)))
        op = NULL;
    if (flags & IORING_CQE_F_NOTIF ? loan->due <= 0 && !(op && loan->due == 0) : !op) {
        uring->stale++;
        return;
    }
    if (flags & IORING_CQE_F_NOTIF) {
        takt__zerocopy_notice(uring, loan, (unsigned)res);
        return;
    }
    loan->due += (flags & IORING_CQE_F_MORE) != 0;
    loan->failed += flags & IORING_CQE_F_MORE && res < 0;
    takt__ring_came(uring, op);
    if (res < 0)
        takt__zerocopy_failed(uring, op, loan, res);
    else
        takt__ring_progress(uring, op, res);
}

/* ==========================================================================
 * >>multishot-impl
 *
 * Ops that complete many times, and those that receive into a pool. The kernel ends its
 * requests at its whim; here, and nowhere else, is decided what follows: what is wrong for
 * one connection or datagram, and what ended without an error, is begun anew at once; what
 * found no buffer stands in the pool's line; what found no descriptor waits for a close, or
 * a while; everything else is the end.
 *
 * Without a ring of buffers, or while that is empty, readiness is asked for, and the data
 * is fetched by a call. So nothing is ever asked for that could only fail.
 * ======================================================================== */

/* Begins the request that `op` needs next. */
static void takt__many_arm(takt_uring *uring, takt_op *op)
{
    takt_bufs *const bufs = (takt_bufs *)op->arg.ptr;
    bool by_poll = op->kind == TAKT_OP_READY;
    if (!(op->flags & TAKT_OP_MULTI)) {
        /* One lease: the newest buffer is still in the cache, and few are ever touched. The
         * kernel would take one after the other. */
        by_poll = true;
    } else if (op->kind == TAKT_OP_LEASE ||
               (op->kind == TAKT_OP_RECVMSG && uring->rungs & TAKT__RUNG_MULTISHOT)) {
        struct takt__bufring *const ring = takt__bufring_of(uring, bufs);
        if (ring && bufs->kept == 0)
            takt__bufring_grow(ring);
        if (ring)
            takt__bufring_fill(ring);
        by_poll = !ring || bufs->kept == 0;
    } else if (op->kind == TAKT_OP_RECVMSG) {
        by_poll = true;
    }
    takt__ring_clear(op, TAKT__RING_READINESS);
    takt__ring_set(op, by_poll ? TAKT__RING_READINESS : 0);
    takt__ring_place(uring, op);
}

/* What a request that is over has left to do. */
static void takt__many_go_on(takt_uring *uring, takt_op *op)
{
    if (takt__ring_stopped(op))
        takt__ring_finish(uring, op, takt__ring_stop_code(op));
    else
        takt__many_arm(uring, op);
}

/* Hands `value` and `data` out. There is room: who reads completions saw to that. */
static void takt__many_item(takt_uring *uring, takt_op *op, int64_t value, void *data)
{
    takt_completion *completion;
    if (!(op->flags & TAKT_OP_MULTI)) {
        *(unsigned char **)op->buf = (unsigned char *)data;
        takt__ring_finish(uring, op, value);
        return;
    }
    completion = &uring->out[uring->out_count++];
    completion->token = takt_token_of(op);
    completion->value = value;
    completion->error = 0;
    completion->flags = TAKT_MORE | (op->kind == TAKT_OP_ACCEPT ? TAKT_FD : 0);
    completion->payload = data;
    if (!(op->state & TAKT__RING_KERNEL))
        takt__many_go_on(uring, op);
}

/* -- those that wait for descriptors or memory -------------------------------- */

/* Until they are tried again. */
static takt_ns takt__many_left(takt_uring *uring)
{
    const takt_ns left = uring->later_until - takt_uring_now(uring);
    return left > 0 ? left : 1;
}

/* Lets the kernel wake whoever sleeps on the ring's descriptor. */
static void takt__many_set_timer(takt_uring *uring)
{
    struct io_uring_sqe *const sqe = uring->later_timer ? NULL : takt__ring_sqe(uring);
    if (!sqe)
        return;
    uring->later_timer = true;
    uring->later_wait.tv_sec = 0;
    uring->later_wait.tv_nsec = takt__many_left(uring);
    takt__ring_fill(sqe, IORING_OP_TIMEOUT, -1, 0, &uring->later_wait, 1, 0,
                    TAKT__RING_KEY_TIMER);
}

/* Room for what is sent is looked for sooner than descriptors or memory. */
static void takt__many_later(takt_uring *uring, takt_op *op)
{
    const bool soon = op->kind == TAKT_OP_SPLICE || op->kind == TAKT_OP_READY ||
                      op->kind == TAKT_OP_SEND || op->kind == TAKT_OP_SEND_LEASE;
    const int ms = soon ? (int)TAKT__SOON_MS : (int)TAKT__LATER_MS;
    const takt_ns until = takt_uring_now(uring) + ms * TAKT_MS;
    takt__ring_set(op, TAKT__RING_LATER);
    op->next = uring->later;
    if (!uring->later)
        uring->later_now = false;
    if (!uring->later || until < uring->later_until)
        uring->later_until = until;
    uring->later = op;
    takt__many_set_timer(uring);
}

static bool takt__many_later_due(takt_uring *uring)
{
    return uring->later && (uring->later_now || takt_uring_now(uring) >= uring->later_until);
}

static void takt__many_run_later(takt_uring *uring)
{
    takt_op *op = uring->later;
    uring->later = NULL;
    while (op) {
        takt_op *const next = op->next;
        op->next = NULL;
        takt__ring_clear(op, TAKT__RING_LATER);
        takt__many_arm(uring, op);
        op = next;
    }
}

/* -- completions ----------------------------------------------------------------- */

/* A request of `op`, or the call in its place, has failed. */
static void takt__many_failed(takt_uring *uring, takt_op *op, int error)
{
    const bool buffered = op->kind == TAKT_OP_LEASE || op->kind == TAKT_OP_RECVMSG;
    const bool readiness = (op->state & TAKT__RING_READINESS) != 0;
    takt__ring_clear(op, TAKT__RING_READINESS);
    if (takt__ring_stopped(op) && takt__many_verdict(op, error) != TAKT__ENDS) {
        takt__ring_finish(uring, op, takt__ring_stop_code(op)); /* it would have gone on */
    } else if (takt__ring_stopped(op) || error == -ECANCELED) {
        takt__ring_failed(uring, op, error);
    } else if (error == -EINTR || error == -EAGAIN) {
        takt__ring_wait_ready(uring, op);
    } else if (error == -ENOBUFS && buffered && !readiness) {
        struct takt__bufring *const ring =
            (struct takt__bufring *)((takt_bufs *)op->arg.ptr)->keeper;
        if (ring)
            takt__bufring_grow(ring);
        takt__ring_lease_in_turn(uring, op);
    } else if (!(op->flags & TAKT_OP_MULTI)) {
        takt__ring_finish(uring, op, error);
    } else {
        switch (takt__many_verdict(op, error)) {
        case TAKT__NOW:
            takt__many_arm(uring, op);
            break;
        case TAKT__AFTER_A_WHILE:
            takt__many_later(uring, op);
            break;
        default:
            takt__ring_finish(uring, op, error);
            break;
        }
    }
}

/* Turns what the kernel wrote before a datagram into a takt_datagram, in place. The length of
 * its payload; or -ENODATA: there will be no more. */
static int64_t takt__many_parse(int fd, unsigned char *data, int res)
{
    takt_datagram *const d = (takt_datagram *)(void *)data;
    struct io_uring_recvmsg_out out;
    union {
        struct cmsghdr align;
        unsigned char bytes[TAKT__CONTROLS + sizeof(struct in6_pktinfo)]; /* were it cut off */
    } controls;
    struct msghdr message;
    memcpy(&out, data, sizeof out);
    if (res < TAKT__HEAD)
        return -EIO;
    if (res == TAKT__HEAD && out.namelen == 0 && takt__no_more(fd))
        return -ENODATA;
    if (out.namelen > TAKT__NAME)
        out.namelen = TAKT__NAME;
    memset(&message, 0, sizeof message);
    message.msg_control = controls.bytes;
    message.msg_controllen = out.controllen;
    if (out.controllen > TAKT__CONTROLS)
        message.msg_controllen = TAKT__CONTROLS;
    memcpy(controls.bytes, data + sizeof out + TAKT__NAME, message.msg_controllen);
    memmove(&d->from.sockaddr, data + sizeof out, out.namelen);
    memset(d->from.sockaddr.bytes + out.namelen, 0, TAKT__NAME - out.namelen);
    d->from.len = out.namelen;
    d->from.reserved = 0;
    memset(&d->to, 0, sizeof d->to);
    d->data = data + TAKT__HEAD;
    d->len = (uint32_t)(res - TAKT__HEAD);
    d->segment = 0;
    d->ecn = 0;
    d->truncated = (out.flags & MSG_TRUNC) != 0;
    if (message.msg_controllen)
        takt__many_controls(d, &message);
    return d->len;
}

/* Bytes or a datagram, in a buffer of the kernel's choice. */
static void takt__many_received(takt_uring *uring, takt_op *op, int res, unsigned char *data)
{
    takt_bufs *const bufs = (takt_bufs *)op->arg.ptr;
    const bool over = !(op->state & TAKT__RING_KERNEL);
    int64_t n = res;
    if (data && (uint32_t)res > bufs->size)
        n = res = (int)bufs->size; /* whatever it says, there is no more */
    if (data && op->kind == TAKT_OP_RECVMSG)
        n = takt__many_parse(op->fd, data, res);
    if (data && (n > 0 || (n == 0 && op->kind == TAKT_OP_RECVMSG))) {
        takt__many_item(uring, op, n, data);
        return;
    }
    takt_bufs_put(bufs, &data);
    if (over)
        takt__ring_finish(uring, op, n == -ENODATA || n == 0 ? takt__ring_end(uring, op) : -EIO);
}

/* A completion of a request of `op`; with IORING_CQE_F_MORE it lives on. */
static void takt__many_complete(takt_uring *uring, takt_op *op, int res, unsigned flags)
{
    unsigned char *data = NULL;
    if (flags & IORING_CQE_F_BUFFER && op->kind != TAKT_OP_ACCEPT && op->kind != TAKT_OP_READY)
        data = takt__bufring_claim((takt_bufs *)op->arg.ptr, flags >> IORING_CQE_BUFFER_SHIFT);
    if (res < 0) {
        if (data)
            takt_bufs_put((takt_bufs *)op->arg.ptr, &data);
        if (!(flags & IORING_CQE_F_MORE))
            takt__many_failed(uring, op, res);
        return;
    }
    if (op->state & TAKT__RING_READINESS && op->kind != TAKT_OP_READY) {
        takt__ring_clear(op, TAKT__RING_READINESS);
        takt__ring_ready(uring, op, res);
        return;
    }
    switch (op->kind) {
    case TAKT_OP_READY:
        res &= (int)op->bits | POLLERR | POLLHUP;
        if (res)
            takt__many_item(uring, op, res, NULL);
        else if (!(flags & IORING_CQE_F_MORE) && takt__ring_stopped(op))
            takt__ring_finish(uring, op, takt__ring_stop_code(op));
        else if (!(flags & IORING_CQE_F_MORE))
            takt__many_later(uring, op);
        break;
    case TAKT_OP_ACCEPT:
        if (takt__ring_opened(uring, res) >= 0)
            takt__many_item(uring, op, res, NULL);
        else if (!(flags & IORING_CQE_F_MORE))
            takt__many_go_on(uring, op);
        break;
    default:
        takt__many_received(uring, op, res, data);
        break;
    }
}

/* Puts an op in flight that completes many times, or into a buffer of a pool. */
static int takt__many_submit(takt_uring *uring, takt_op *op)
{
    int rc = takt__many_check(op);
    if (rc == 0 && op->kind == TAKT_OP_RECVMSG && !(op->flags & TAKT_OP_MULTI))
        rc = -ENOTSUP;
    if (rc == 0)
        rc = takt_fds_enter(&uring->fds, op);
    if (rc < 0)
        return rc;
    takt__ring_set(op, TAKT__RING_ENTERED);
    takt__many_arm(uring, op);
    return 0;
}

/* True if somebody waits for a buffer while the kernel has free ones. */
static bool takt__many_lacks(const takt_bufs *bufs)
{
    return bufs->waiting && bufs->reclaim && bufs->kept &&
           bufs->kept == bufs->count - bufs->in_use;
}

/* What streams do not use just now is for those who wait. */
static void takt__many_reclaim(const takt_uring *uring)
{
    for (takt_bufs *bufs = uring->starved; bufs; bufs = bufs->next_starved)
        if (takt__many_lacks(bufs))
            bufs->reclaim(bufs, false);
}

/* What was put by: ops that stood in line, that wait for descriptors, and room in rings. */
static void takt__many_catch_up(takt_uring *uring)
{
    takt_op *op;
    takt__many_reclaim(uring);
    while (uring->starved && uring->out_count < uring->out_max &&
           (op = takt__bufs_serve(&uring->starved)) != NULL) {
        takt__ring_clear(op, TAKT__RING_NO_BUFFER);
        takt__ring_lease(uring, op);
    }
    if (takt__many_later_due(uring))
        takt__many_run_later(uring);
    else if (uring->later)
        takt__many_set_timer(uring);
    for (struct takt__bufring *ring = uring->bufrings, *next; ring; ring = next) {
        next = ring->next;
        if (ring->retired)
            takt__bufring_reclaim(ring->bufs, false);
        else
            takt__bufring_fill(ring);
    }
}

/* ==========================================================================
 * >>cancel-impl
 *
 * A cancel is a request of its own. Its completion says nothing about the op, but
 * one thing: that the op was not found while it changes its state in the kernel.
 * Then it is repeated.
 * ======================================================================== */

static void takt__ring_ask_cancel(takt_uring *uring, takt_op *op)
{
    struct io_uring_sqe *const sqe = takt__ring_sqe(uring);
    takt__ring_set(op, TAKT__RING_ASKED);
    if (!sqe) {
        takt__ring_set(op, TAKT__RING_CANCEL_DUE);
        uring->cancels_due++;
        return;
    }
    takt__ring_fill(sqe, IORING_OP_ASYNC_CANCEL, -1, 0,
                    (void *)(uintptr_t)takt__ring_key(uring, op), 0, 0,
                    takt_token_of(op) | TAKT__RING_KEY_CANCEL);
}

static void takt__ring_cancel_ended(takt_uring *uring, uint64_t key, int res)
{
    takt_slot *const slot = takt_slot_find(&uring->slots, key & ~TAKT__RING_KEY_BITS);
    takt_op *const op = slot ? &slot->op : NULL;
    if (key == TAKT__RING_KEY_TIMER) {
        uring->later_timer = false;
        if (uring->later)
            takt__many_set_timer(uring);
    }
    if (res != -ENOENT || !op || !(op->state & TAKT__RING_KERNEL) ||
        (op->state & (TAKT__RING_ASKED | TAKT__RING_CANCEL_DUE)) != TAKT__RING_ASKED ||
        op->state >= TAKT__RING_TRIES)
        return;
    op->state = (uint16_t)(op->state + TAKT__RING_TRY);
    takt__ring_ask_cancel(uring, op);
}

/* Ends `op` early, for one of the two reasons in takt__ring_stopped(). */
static void takt__ring_stop(takt_uring *uring, takt_op *op, unsigned why)
{
    takt__ring_set(op, why);
    if (op->state & TAKT__RING_PARKED) {
        takt__ring_unpark(uring, op);
        takt__ring_finish(uring, op, takt__ring_stop_code(op));
    } else if (op->state & TAKT__RING_IN_LINE) {
        takt__ring_finish(uring, op, takt__ring_stop_code(op));
    } else if (op->state & TAKT__RING_NO_BUFFER) {
        takt__bufs_leave((takt_bufs *)op->arg.ptr, op);
        takt__ring_finish(uring, op, takt__ring_stop_code(op));
    } else if (op->state & TAKT__RING_LATER) {
        takt__later_leave(&uring->later, op);
        takt__ring_clear(op, TAKT__RING_LATER);
        takt__ring_finish(uring, op, takt__ring_stop_code(op));
    } else if (op->state & TAKT__RING_KERNEL && !(op->state & TAKT__RING_ASKED)) {
        takt__ring_ask_cancel(uring, op);
    }
}

void takt_uring_cancel(takt_uring *uring, takt_op *op)
{
    if (TAKT__UNLIKELY(!uring->on_ring)) {
        takt_posix_cancel(&uring->posix, op);
        return;
    }
    if (op->state &
        (TAKT__RING_KERNEL | TAKT__RING_PARKED | TAKT__RING_NO_BUFFER | TAKT__RING_LATER |
         TAKT__RING_IN_LINE))
        takt__ring_stop(uring, op, TAKT__RING_CANCELLED);
    takt__ring_judge(uring);
}

/* The cancels that found the queue full. That is rare enough to look at every slot. */
static void takt__ring_cancels_due(takt_uring *uring)
{
    for (uint32_t i = 0; i < uring->slots.count && uring->cancels_due; i++) {
        takt_op *const op = &takt_slot_at(&uring->slots, i)->op;
        if (!(op->state & TAKT__RING_CANCEL_DUE))
            continue;
        takt__ring_clear(op, TAKT__RING_CANCEL_DUE);
        uring->cancels_due--;
        takt__ring_ask_cancel(uring, op);
        if (op->state & TAKT__RING_CANCEL_DUE)
            return;
    }
}

/* -- submit ---------------------------------------------------------------- */

/* Ends what is in flight on the descriptor; the last to leave lets the close act. */
static int takt__ring_close(takt_uring *uring, takt_op *op)
{
    takt_op *reader, *writer;
    int rc = op->fd < 0 ? -EMFILE : takt_fds_enter(&uring->fds, op);
    if (rc == -EMFILE) { /* none, or beyond the table: nothing can be in flight on it */
        takt__ring_finish(uring, op, op->fd < 0 ? 0 : takt__do_close(op->fd));
        return 0;
    }
    if (rc < 0)
        return rc;
    takt__ring_set(op, TAKT__RING_ENTERED);
    takt__zerocopy_forget(uring, op->fd);
    reader = takt_fds_op(&uring->fds, uring->fds.at[op->fd].reader);
    writer = takt_fds_op(&uring->fds, uring->fds.at[op->fd].writer);
    if (!reader && !writer) {
        takt__ring_finish(uring, op, takt__do_close(op->fd));
        return 0;
    }
    if (reader)
        takt__ring_stop(uring, reader, TAKT__RING_CLOSED);
    while (writer) {
        takt_op *const next = takt__is_datagram(writer) ? writer->next : NULL;
        takt__ring_stop(uring, writer, TAKT__RING_CLOSED);
        writer = next;
    }
    return 0;
}

/* Takes a buffer over, and sends what is in it. */
static int takt__zerocopy_submit(takt_uring *uring, takt_op *op)
{
    int rc = takt__handed_check(op);
    if (rc == 0)
        rc = takt_fds_enter(&uring->fds, op);
    if (rc < 0)
        return rc;
    takt__handed_take(op);
    takt__handed_close((const takt_bufs *)op->arg.ptr, takt__handed_index(op), true);
    takt__zerocopy_begin(uring, op);
    op->state = TAKT__RING_ENTERED;
    if (op->len == 0)
        takt__ring_finish(uring, op, 0);
    else
        takt__ring_place(uring, op);
    return 0;
}

/* Ops that are done in place, or begin so. */
static int takt__ring_submit_rare(takt_uring *uring, takt_op *op)
{
    int64_t rc;
    switch (op->kind) {
    case TAKT_OP_NOP:
        takt__ring_place(uring, op);
        return 0;
    case TAKT_OP_CLOSE:
        return takt__ring_close(uring, op);
    case TAKT_OP_SEND_LEASE:
        return takt__zerocopy_submit(uring, op);
    case TAKT_OP_BUFFER:
        takt__ring_lease_in_turn(uring, op);
        return 0;
    case TAKT_OP_SHUTDOWN:
        takt__ring_push(uring); /* what was sent before goes first */
        if (op->bits != TAKT_SHUT_READ && op->fd >= 0 && op->fd < uring->fds.count)
            uring->fds.at[op->fd].bits |= TAKT__FD_SHUT;
        takt__ring_finish(uring, op, takt__do_shutdown(op));
        return 0;
    case TAKT_OP_DIAL:
        op->fd = -1;
        rc = takt__ring_opened(uring, takt__make_socket(
                                          takt__family((const takt_addr *)op->arg.ptr),
                                          SOCK_STREAM, 0));
        if (rc < 0)
            return (int)rc;
        op->fd = (int32_t)rc;
        rc = takt_fds_enter(&uring->fds, op);
        if (rc < 0) {
            close(op->fd);
            op->fd = -1;
            return (int)rc;
        }
        takt__ring_set(op, TAKT__RING_ENTERED);
        takt__ring_place(uring, op);
        return 0;
    default:
        return -ENOTSUP;
    }
}

/* A burst goes at once, unless others stand before it. */
static int takt__ring_burst(takt_uring *uring, takt_op *op)
{
    const int rc = takt_fds_enter(&uring->fds, op);
    if (rc < 0)
        return rc;
    op->arg.done = 0; /* the user's array of a batch may be awaited again */
    op->extra = 0;
    op->state = TAKT__RING_ENTERED;
    if (takt__line_first(uring, op) == op)
        takt__line_burst(uring, op);
    else
        takt__ring_set(op, TAKT__RING_IN_LINE);
    return 0;
}

static int takt__ring_submit(takt_uring *uring, takt_op *op)
{
    unsigned state = TAKT__RING_ENTERED;
    bool empty = false, behind = false;
    int rc;
    op->state = 0;
    op->next = NULL;
    if (TAKT__UNLIKELY(uring->fatal && op->kind != TAKT_OP_CLOSE))
        return uring->fatal;
    if (TAKT__UNLIKELY(op->flags & TAKT_OP_MULTI))
        return takt__many_submit(uring, op);
    switch (op->kind) {
    case TAKT_OP_RECV:
    case TAKT_OP_SEND:
        op->arg.done = 0;
        empty = op->len == 0 || (op->flags & TAKT_OP_VECTOR && takt__op_bytes(op) == 0);
        break;
    case TAKT_OP_READ:
    case TAKT_OP_WRITE:
        empty = op->len == 0;
        break;
    case TAKT_OP_LEASE:
        return takt__many_submit(uring, op);
    case TAKT_OP_BURST:
        return takt__ring_burst(uring, op);
    case TAKT_OP_RECVFROM:
    case TAKT_OP_READY:
    case TAKT_OP_SIGNAL:
    case TAKT_OP_SPLICE:
        state |= TAKT__RING_READINESS;
        break;
    case TAKT_OP_SENDTO:
        behind = takt__line_waits(uring, op->fd);
        break;
    case TAKT_OP_ACCEPT:
    case TAKT_OP_CONNECT:
        break;
    default:
        return takt__ring_submit_rare(uring, op);
    }
    rc = takt_fds_enter(&uring->fds, op);
    if (TAKT__UNLIKELY(rc < 0))
        return rc;
    op->state = (uint16_t)state;
    if (TAKT__UNLIKELY(empty))
        takt__ring_finish(uring, op, 0); /* no request of none: it may wait, or read as an end */
    else if (TAKT__UNLIKELY(behind))
        takt__ring_set(op, TAKT__RING_IN_LINE);
    else
        takt__ring_place(uring, op);
    return 0;
}

/* Looks anew: true if what is plain may enter the queue, which has room. */
bool takt__ring_has_room(takt_uring *uring)
{
    takt__ring_judge(uring);
    return uring->plain_end != uring->ring.sq.sqe_tail;
}

int takt__uring_submit(takt_uring *uring, takt_op *op, takt_token token)
{
    int rc;
    if (!uring->on_ring)
        return takt_posix_submit(&uring->posix, op, &token);
    rc = takt__ring_submit(uring, op);
    takt__ring_judge(uring);
    return rc;
}

/* -- poll ------------------------------------------------------------------ */

/* What was left over: completions without a caller, ops without a buffer or an entry. */
static void takt__ring_catch_up(takt_uring *uring)
{
    struct io_uring_sqe *sqe;
    takt_op *op;
    while (uring->done_first && uring->out_count < uring->out_max) {
        op = uring->done_first;
        uring->done_first = op->next;
        takt__ring_hand(uring, op);
    }
    if (uring->starved || uring->later || uring->bufrings)
        takt__many_catch_up(uring);
    while (uring->parked_count && (sqe = takt__ring_sqe(uring)) != NULL) {
        op = &takt_slot_at(&uring->slots, *takt__parked_at(uring, 0))->op;
        uring->parked_first = (uring->parked_first + 1) % uring->parked_max;
        uring->parked_count--;
        takt__ring_clear(op, TAKT__RING_PARKED);
        takt__ring_encode(uring, op, sqe);
    }
    if (uring->cancels_due)
        takt__ring_cancels_due(uring);
}

/* Asks for a while before it sleeps. Whether something has come. */
static bool takt__ring_spin_until(takt_uring *uring, takt_ns until)
{
    do {
        uring->spins++;
        if (takt__ring_enter(uring, takt__ring_unsubmitted(uring), 0) < 0)
            return true; /* whatever that is: sleeping is not the answer */
        if (takt__ring_unread(uring))
            return true;
    } while (takt_uring_now(uring) < until);
    return false;
}

/* Submits, spins, then sleeps for what is left of `wait`. Requests submitted, or an error. */
static int takt__ring_spin(takt_uring *uring, unsigned submit, takt_ns wait)
{
    takt_ns begin, left;
    if (wait <= uring->spin_now)
        return takt__ring_enter(uring, submit, wait);
    begin = takt_uring_now(uring);
    if (takt__ring_spin_until(uring, begin + uring->spin_now)) {
        uring->spin_now = uring->spin;
    } else {
        if (uring->spin_now > TAKT_US)
            uring->spin_now /= 2;
        left = wait == TAKT_FOREVER ? wait : wait - (takt_uring_now(uring) - begin);
        if (left > 0)
            takt__ring_enter(uring, 0, left);
        if (takt_uring_now(uring) - begin < uring->spin)
            uring->spin_now = uring->spin;
    }
    return uring->fatal ? uring->fatal : (int)(submit - takt__ring_unsubmitted(uring));
}

/* takt__ring_ask() of a ring that is not plain. */
bool takt__ring_ask_spinning(takt_uring *uring, takt_ns wait)
{
    unsigned submit;
    int rc;
    if (uring->plain != TAKT__RING_SPINS)
        return false;
    submit = takt__ring_unsubmitted(uring);
    if (wait <= 0 && !submit)
        return false;
    rc = takt__ring_spin(uring, submit, wait);
    uring->asked = rc != (int)submit && rc != -EAGAIN && rc != -EBUSY;
    return rc == (int)submit;
}

/* Enters the kernel if that can bring anything. */
static void takt__ring_turn(takt_uring *uring, takt_ns wait)
{
    const unsigned submit = takt__ring_unsubmitted(uring);
    const bool asked = uring->asked;
    unsigned hidden;
    uint64_t signals;
    int rc;
    uring->asked = false;
    if (asked || uring->fatal)
        return;
    if (TAKT__UNLIKELY(uring->event_fd >= 0)) /* what comes from here on is announced anew */
        (void)!read(uring->event_fd, &signals, sizeof signals);
    hidden = takt__ring_hidden(uring);
    if (uring->out_count || takt__ring_unread(uring))
        wait = 0;
    if (TAKT__UNLIKELY((uring->parked_count || uring->cancels_due) && wait > TAKT_MS))
        wait = TAKT_MS; /* the kernel is short of memory; it is asked again soon */
    if (TAKT__UNLIKELY(uring->later && wait > 0 && wait > takt__many_left(uring)))
        wait = takt__many_left(uring); /* should there have been no entry for the timer */
    if (hidden & IORING_SQ_CQ_OVERFLOW)
        uring->overflow++;
    if (!submit && !hidden && wait <= 0)
        return;
    if (uring->spin && wait > uring->spin_now) {
        takt__ring_spin(uring, submit, wait);
        return;
    }
    rc = takt__ring_enter(uring, submit, wait);
    if (TAKT__UNLIKELY((rc == -EAGAIN || rc == -EBUSY) && wait > 0 && !takt__ring_unread(uring)))
        takt__ring_enter(uring, 0, wait < TAKT_MS ? wait : TAKT_MS);
}

int takt_uring_poll(takt_uring *uring, takt_completion *done, int max, takt_ns wait)
{
    int count;
    if (!uring->on_ring)
        return takt_posix_poll(&uring->posix, done, max, wait);
    uring->out = done;
    uring->out_count = 0;
    uring->out_max = max;
    takt__ring_catch_up(uring);
    takt__ring_turn(uring, wait);
    if (TAKT__UNLIKELY(*uring->ring.cq.koverflow != uring->dropped))
        uring->fatal = -EBADR; /* completions are lost: nobody can tell whose */
    takt__ring_reap_all(uring);
    if (uring->posix.pipes.guard)
        takt__pipes_unguard(&uring->posix.pipes);
    count = uring->out_count;
    uring->out_count = uring->out_max = 0;
    takt__ring_judge(uring);
    return TAKT__LIKELY(count > 0 || !uring->fatal) ? count : uring->fatal;
}

void takt_uring_flush(takt_uring *uring)
{
    if (!uring->on_ring) {
        takt_posix_flush(&uring->posix);
        return;
    }
    if (uring->parked_count || uring->cancels_due)
        takt__ring_catch_up(uring);
    takt__ring_push(uring);
    takt__ring_judge(uring);
}

bool takt_uring_busy(takt_uring *uring)
{
    if (!uring->on_ring)
        return takt_posix_busy(&uring->posix);
    if (uring->starved)
        takt__many_reclaim(uring);
    return uring->done_first || uring->parked_count || uring->cancels_due ||
           takt__ring_unsubmitted(uring) || takt__ring_unread(uring) ||
           takt__ring_hidden(uring) || takt__bufs_can_serve(uring->starved) ||
           takt__many_later_due(uring);
}

int64_t takt_uring_call(takt_uring *uring, takt_op *op)
{
    int64_t result;
    if (!uring->on_ring)
        return takt_posix_call(&uring->posix, op);
    if (op->kind == TAKT_OP_PIPE || op->kind == TAKT_OP_BURST)
        return takt_posix_call(&uring->posix, op);
    result = takt__net_call(op);
    if (op->kind == TAKT_OP_CLOSE) {
        uring->later_now = true;
        if (op->fd >= 0 && op->fd < uring->fds.count)
            takt__zerocopy_forget(uring, op->fd);
    }
    if (op->kind == TAKT_OP_SOCKET || op->kind == TAKT_OP_SIGNALS)
        result = takt__ring_opened(uring, result);
    return result;
}

/* Work that the kernel defers wakes nobody who sleeps on the ring's own descriptor: then it
 * is told to signal another one, from the first time that somebody asks. */
int takt_uring_fd(takt_uring *uring)
{
    const uint64_t one = 1;
    int fd;
    if (!uring->on_ring)
        return takt_posix_fd(&uring->posix);
    if (!(uring->rungs & TAKT__RUNG_DEFER_TASKRUN))
        return uring->ring.ring_fd;
    if (uring->event_fd >= 0)
        return uring->event_fd;
    fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0 || io_uring_register_eventfd(&uring->ring, fd) < 0) {
        if (fd >= 0)
            close(fd);
        return uring->ring.ring_fd;
    }
    uring->event_fd = fd;
    (void)!write(fd, &one, sizeof one); /* what came before this was announced to nobody */
    takt__ring_judge(uring);
    return fd;
}

/* -- the beginning and the end --------------------------------------------- */

int TAKT__URING_INIT(takt_uring *uring, const takt_uring_config *config, const takt_slots *slots)
{
    takt_uring_config defaults;
    memset(&defaults, 0, sizeof defaults);
    if (!config)
        config = &defaults;
    memset(uring, 0, sizeof *uring);
    uring->posix.epoll = -1; /* for a free after a failure */
    uring->event_fd = -1;
    if (config->mode != TAKT_URING_NEVER) {
        const int rc = takt__probe_start(uring, config, slots);
        takt__ring_judge(uring);
        if (rc == 0)
            return 0;
        uring->setup_error = rc;
        if (config->mode == TAKT_URING_ONLY)
            return rc;
    }
    return takt_posix_init(&uring->posix, &config->posix, slots);
}

/* True if the kernel has a request. It may write into memory of the op's. */
static bool takt__ring_in_flight(const takt_uring *uring)
{
    for (uint32_t i = 0; i < uring->slots.count; i++)
        if (takt_slot_at(&uring->slots, i)->op.state & TAKT__RING_KERNEL)
            return true;
    return false;
}

/* Nothing should be in flight any more. If something is, the kernel still writes into
 * memory that is about to go, also after the ring is gone: so it is ended and waited for. */
static void takt__ring_drain(takt_uring *uring, takt_ns limit)
{
    enum { BATCH = 32 };
    takt_completion done[BATCH];
    const takt_ns until = takt_after(takt_uring_now(uring), limit);
    for (uint32_t i = 0; i < uring->slots.count; i++)
        takt_uring_cancel(uring, &takt_slot_at(&uring->slots, i)->op);
    while (takt__ring_in_flight(uring) || uring->done_first || uring->zerocopies_held) {
        const takt_ns most = 50 * TAKT_MS, left = until - takt_uring_now(uring);
        const int count =
            left <= 0 ? -ETIME : takt_uring_poll(uring, done, BATCH, left < most ? left : most);
        if (count < 0)
            break;
        for (int i = 0; i < count; i++) {
            unsigned char *data = (unsigned char *)done[i].payload;
            if (done[i].flags & TAKT_FD)
                close((int)done[i].value);
            if (data)
                takt_bufs_put((takt_bufs *)takt_slot_at(&uring->slots, (uint32_t)done[i].token)
                                  ->op.arg.ptr, &data);
        }
    }
    if (takt__ring_in_flight(uring))
        TAKT_LOG("takt_uring_free: operations are still in flight");
}

int takt_uring_end(takt_uring *uring, takt_ns limit)
{
    bool kept;
    if (!uring->on_ring) {
        takt_posix_free(&uring->posix);
        return 0;
    }
    if (takt__ring_in_flight(uring) || uring->done_first || uring->parked_count ||
        uring->starved || uring->zerocopies_held)
        takt__ring_drain(uring, limit);
    kept = takt__ring_in_flight(uring) || uring->zerocopies_held;
    takt__ring_release(uring);
    return kept ? -EBUSY : 0;
}

#else /* TAKT_NO_URING: the same functions, without a ring */

int TAKT__URING_INIT(takt_uring *uring, const takt_uring_config *config, const takt_slots *slots)
{
    takt_uring_config defaults;
    memset(&defaults, 0, sizeof defaults);
    if (!config)
        config = &defaults;
    memset(uring, 0, sizeof *uring);
    uring->posix.epoll = -1; /* for a free after a failure */
    uring->setup_error = config->mode == TAKT_URING_NEVER ? 0 : -ENOSYS;
    uring->setup_step = "TAKT_NO_URING";
    if (config->mode == TAKT_URING_ONLY)
        return -ENOSYS;
    return takt_posix_init(&uring->posix, &config->posix, slots);
}

int takt_uring_end(takt_uring *uring, takt_ns limit)
{
    (void)limit;
    takt_posix_free(&uring->posix);
    return 0;
}

int takt__uring_submit(takt_uring *uring, takt_op *op, takt_token token)
{
    return takt_posix_submit(&uring->posix, op, &token);
}

void takt_uring_cancel(takt_uring *uring, takt_op *op)
{
    takt_posix_cancel(&uring->posix, op);
}

int takt_uring_poll(takt_uring *uring, takt_completion *done, int max, takt_ns wait)
{
    return takt_posix_poll(&uring->posix, done, max, wait);
}

void takt_uring_flush(takt_uring *uring)
{
    takt_posix_flush(&uring->posix);
}

bool takt_uring_busy(takt_uring *uring)
{
    return takt_posix_busy(&uring->posix);
}

int takt_uring_fd(takt_uring *uring)
{
    return takt_posix_fd(&uring->posix);
}

int64_t takt_uring_call(takt_uring *uring, takt_op *op)
{
    return takt_posix_call(&uring->posix, op);
}

#endif /* TAKT_NO_URING */

void takt_uring_free(takt_uring *uring)
{
    (void)takt_uring_end(uring, TAKT_SEC);
}

takt_ns takt_uring_now(takt_uring *uring)
{
    (void)uring;
    return TAKT_CLOCK();
}

/* ==========================================================================
 * >>doctor-impl
 * ======================================================================== */

const char *takt_uring_name(const takt_uring *uring)
{
    return uring->on_ring ? "io_uring" : takt_posix_name(&uring->posix);
}

/* error, what stands behind it and what to do. */
#define TAKT__URING_ADVICE(X)                                                                   \
    X(ENOSYS, "this kernel has none, or a seccomp profile hides it; Linux 5.10 or newer has it") \
    X(EPERM, "forbidden by a seccomp profile or by sysctl kernel.io_uring_disabled; "           \
             "allow it to use io_uring")                                                        \
    X(EACCES, "forbidden by a security policy; allow it to use io_uring")                       \
    X(EINVAL, "this kernel knows none of the ways to set it up; Linux 5.10 or newer does")      \
    X(EOPNOTSUPP, "this kernel's io_uring lacks what is needed; Linux 5.10 or newer has it")    \
    X(ENOMEM, "not enough memory may be locked; raise ulimit -l to use io_uring")               \
    X(EMFILE, "no descriptor is free; raise ulimit -n")                                         \
    X(ENFILE, "no descriptor is free in the whole system; raise sysctl fs.file-max")            \
    X(ETIME, "it exists here, but requests do not end")                                         \
    X(EIO, "it exists here, but does not do what it should")                                    \
    X(EBADF, "somebody has closed its descriptor")                                              \
    X(EEXIST, "another thread has used it")                                                     \
    X(EBADR, "the kernel had no memory for completions, and has lost some")

static const char *takt__doctor_name(int error)
{
    switch (-error) {
#define TAKT__X(name, advice) \
    case name:                \
        return #name;
        TAKT__URING_ADVICE(TAKT__X)
#undef TAKT__X
    default:
        return NULL;
    }
}

static const char *takt__doctor_advice(int error)
{
    switch (-error) {
#define TAKT__X(name, advice) \
    case name:                \
        return advice;
        TAKT__URING_ADVICE(TAKT__X)
#undef TAKT__X
    default:
        return takt_strerror(error);
    }
}

#ifndef TAKT_NO_URING
static int takt__doctor_ring(const takt_uring *uring, char *text, size_t size)
{
    char words[160];
    size_t len = 0;
    words[0] = '\0';
#define TAKT__X(name, bit, word, without)                                     \
    if (uring->rungs & TAKT__RUNG_##name && len + sizeof word < sizeof words) { \
        memcpy(words + len, " " word, sizeof " " word);                       \
        len += sizeof word;                                                   \
    }
    TAKT_URING_RUNGS(TAKT__X)
#undef TAKT__X
    if (uring->fatal)
        return snprintf(text, size, "io_uring (it has failed: %s, %s)",
                        takt__doctor_name(uring->fatal) ? takt__doctor_name(uring->fatal) : "error",
                        takt__doctor_advice(uring->fatal));
    return snprintf(text, size, "io_uring (%u entries, %u completions;%s%s)",
                    uring->ring.sq.ring_entries, uring->ring.cq.ring_entries,
                    len ? words : " plain", uring->restricted ? ", restricted" : "");
}
#endif

int takt_uring_describe(const takt_uring *uring, char *text, size_t size)
{
    const int error = uring->setup_error;
    const char *const runs = uring->posix.fds.at ? takt_uring_name(uring) : "nothing";
    const char *const name = takt__doctor_name(error);
    char number[16];
#ifndef TAKT_NO_URING
    if (uring->on_ring)
        return takt__doctor_ring(uring, text, size);
#endif
    if (error == 0)
        return snprintf(text, size, "%s (io_uring was not asked for)", runs);
    snprintf(number, sizeof number, "%d", error);
    return snprintf(text, size, "%s (%s: %s, %s)", runs, uring->setup_step,
                    name ? name : number, takt__doctor_advice(error));
}

/* The bit of a rung's word, or 0. */
static uint32_t takt__doctor_rung(const char *word, size_t len)
{
#define TAKT__X(name, bit, text, without)                            \
    if (len == sizeof text - 1 && memcmp(word, text, len) == 0)      \
        return bit;
    TAKT_URING_RUNGS(TAKT__X)
#undef TAKT__X
    return 0;
}

int takt_uring_config_from_env(takt_uring_config *config)
{
    const char *backend, *words, *restricted;
    if (getauxval(AT_SECURE))
        return 0;
    restricted = getenv("TAKT_RESTRICT");
    if (restricted && strcmp(restricted, "1") == 0)
        config->restrict_ops = true;
    else if (restricted && *restricted && strcmp(restricted, "0") != 0)
        return -EINVAL;
    backend = getenv("TAKT_BACKEND");
    words = getenv("TAKT_DISABLE");
    if (!backend || strcmp(backend, "auto") == 0 || !*backend)
        config->mode = TAKT_URING_AUTO;
    else if (strcmp(backend, "uring") == 0)
        config->mode = TAKT_URING_ONLY;
    else if (strcmp(backend, "poll") == 0)
        config->mode = TAKT_URING_NEVER;
    else
        return -EINVAL;
    while (words && *words) {
        const size_t len = strcspn(words, ",");
        const uint32_t bit = takt__doctor_rung(words, len);
        if (!bit && len)
            return -EINVAL;
        config->disable |= bit;
        words += words[len] ? len + 1 : len;
    }
    return 0;
}

TAKT__EXTERN_C_END

#endif /* TAKT_URING_IMPLEMENTED */
#endif /* TAKT_IMPLEMENTATION */

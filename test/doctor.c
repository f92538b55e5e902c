/*
 * doctor.c - what takt uses here, what not, why, and what to do about it.
 *
 *     build/doctor
 *
 * One line a capability. Exit 0 if io_uring runs, 1 if the portable backend has to.
 * TAKT_DISABLE and TAKT_RESTRICT are heeded, so that what a program was told can be looked at
 * too.
 */
#define TAKT_IMPLEMENTATION
#include "takt_uring.h"

#include <stdio.h>
#include <sys/resource.h>
#include <sys/utsname.h>

TAKT_LOOP(net, takt_uring);

struct rung {
    uint32_t bit;
    const char *word;
    const char *without;
};

static const struct rung rungs[] = {
#define RUNG(name, bit, word, without) {bit, word, without},
    TAKT_URING_RUNGS(RUNG)
#undef RUNG
};

/* The kernel that brought it; man pages io_uring_setup(2), io_uring_enter(2), io_uring(7). */
static const char *since(uint32_t bit)
{
    switch (bit) {
    case TAKT_URING_NO_SINGLE_ISSUER:
        return "6.0";
    case TAKT_URING_NO_DEFER_TASKRUN:
        return "6.1";
    case TAKT_URING_NO_COOP_TASKRUN:
    case TAKT_URING_NO_BUFFER_RING:
    case TAKT_URING_NO_WAITALL:
        return "5.19";
    case TAKT_URING_NO_SUBMIT_ALL:
    case TAKT_URING_NO_REGISTERED_RING:
        return "5.18";
    case TAKT_URING_NO_IOWAIT:
        return "6.15";
    case TAKT_URING_NO_MULTISHOT:
    case TAKT_URING_NO_SEND_ZC:
        return "6.0";
    case TAKT_URING_NO_EXT_ARG:
        return "5.11";
    default:
        return "a later one";
    }
}

static void say_rung(const struct rung *rung, const takt_uring *uring, uint32_t disabled)
{
    if (uring->rungs & rung->bit)
        printf("  %-16s used\n", rung->word);
    else if (disabled & rung->bit)
        printf("  %-16s not used: TAKT_DISABLE says so; %s\n", rung->word, rung->without);
    else if (rung->bit == TAKT_URING_NO_COOP_TASKRUN &&
             uring->rungs & TAKT_URING_NO_DEFER_TASKRUN)
        printf("  %-16s not needed: defer_taskrun takes its place\n", rung->word);
    else if (rung->bit == TAKT_URING_NO_DEFER_TASKRUN &&
             disabled & (TAKT_URING_NO_SINGLE_ISSUER | TAKT_URING_NO_EXT_ARG))
        printf("  %-16s not used: it takes single_issuer and ext_arg; %s\n", rung->word,
               rung->without);
    else
        printf("  %-16s not used: this kernel does not do it (Linux %s does); %s\n", rung->word,
               since(rung->bit), rung->without);
}

static void say_limits(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        printf("  %-16s %llu, at most %llu%s\n", "descriptors",
               (unsigned long long)limit.rlim_cur, (unsigned long long)limit.rlim_max,
               limit.rlim_max < 65536 ? "; raise it with ulimit -Hn or LimitNOFILE=" : "");
    if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
        printf("  %-16s %llu KiB; before Linux 5.12 and from 6.14 on the rings count against it:"
               " LimitMEMLOCK=\n", "locked memory", (unsigned long long)limit.rlim_cur / 1024);
}

int main(void)
{
    static net loop;
    net_config config = net_defaults();
    struct utsname system;
    char text[512];
    int rc = takt_uring_config_from_env(&config.backend);
    if (rc < 0) {
        fprintf(stderr, "doctor: TAKT_BACKEND, TAKT_DISABLE or TAKT_RESTRICT is not understood\n");
        return 2;
    }
    rc = net_init(&loop, &config);
    takt_uring_describe(&loop.backend, text, sizeof text);
    if (uname(&system) == 0)
        printf("%s %s, takt %s\n", system.sysname, system.release, TAKT_VERSION);
    printf("%s\n", text);
    if (rc < 0)
        return 1;
    if (loop.backend.on_ring)
        for (size_t i = 0; i < sizeof rungs / sizeof rungs[0]; i++)
            say_rung(&rungs[i], &loop.backend, config.backend.disable);
    if (loop.backend.on_ring)
        printf("  %-16s %s\n", "restricted",
               loop.backend.restricted ? "to what takt asks of a ring"
                                       : "no: config.backend.restrict_ops was not asked for");
    say_limits();
    rc = loop.backend.on_ring ? 0 : 1;
    net_free(&loop);
    return rc;
}

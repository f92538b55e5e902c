/*
 * script.h - a backend that does what a script says, and counts; include it before takt.h
 *
 * Each submit takes the next entry of the script: its token, its error, what completes by it
 * at the next poll. Each poll takes the next of the polls' errors. When the script is over,
 * submits are accepted, and stay in flight or echo. Also counted: allocations, sleeps,
 * assertions that fail, panics. What it is to do, and has seen, is in `sc`.
 */
#ifndef SCRIPT_H
#define SCRIPT_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* -- hooks: memory, traps ------------------------------------------------------ */

static struct {
    void *at[256];
    int live, allocations;
    int asserts, panics;
    char said[400]; /* the last line of the log, or of a panic */
} hooks;

static void *script_calloc(size_t n, size_t size)
{
    void *const memory = calloc(n, size);
    if (memory && hooks.live < 256)
        hooks.at[hooks.live++] = memory;
    hooks.allocations++;
    return memory;
}

static void script_free_memory(void *memory)
{
    for (int i = 0; i < hooks.live; i++)
        if (hooks.at[i] == memory) {
            hooks.at[i] = hooks.at[--hooks.live];
            break;
        }
    free(memory);
}

static void script_say(const char *text)
{
    snprintf(hooks.said, sizeof hooks.said, "%s", text);
}

static void script_panic(const char *text)
{
    hooks.panics++;
    script_say(text);
}

#define TAKT_CALLOC(n, size) script_calloc((n), (size))
#define TAKT_FREE(memory) script_free_memory(memory)
#define TAKT_LOG(text) script_say(text)
#define TAKT_PANIC(text) script_panic(text)
#define TAKT_ASSERT(condition) ((condition) ? (void)0 : (void)hooks.asserts++)
#undef TAKT_DEBUG
#define TAKT_DEBUG 1
#define TAKT_IMPLEMENTATION
#include "../takt.h"

#include "test.h"

/* -- the script ------------------------------------------------------------------ */

#define NEXT ((takt_token)-2) /* of an entry: 0, 1, 2 ...; or, if told so, what is offered */
#define SAME ((takt_token)-3) /* of a completion: that of its submit */

typedef struct script_entry {
    takt_token token;
    int error;
    takt_completion ready[4];
    int count;
} script_entry;

static struct {
    script_entry entries[64]; /* for the submits */
    int entry_count, entry_at;
    int poll_errors[64]; /* for the polls; 0: none */
    int poll_count, poll_at;
    bool offered;      /* NEXT is the token that the loop offers */
    bool echo;         /* when the script is over, each op completes */
    int64_t value;     /* with this; 0: with its number */
    bool deaf;         /* a cancel completes nothing */
    int call_error;    /* of every call; 0: it works */
    int lie;           /* of the next poll: as many, whatever is there */
    void (*on_submit)(takt_op *op);
    void (*on_cancel)(takt_op *op);
    /* What it has: */
    takt_token next;
    takt_completion ready[1024];
    int ready_count;
    takt_op *live[1024]; /* submitted, and not complete */
    takt_token tokens[1024];
    int live_count;
    takt_ns now;
    takt_completion *slab; /* as the last poll was given it */
    /* What it has seen: */
    int submits, polls, cancels, calls, flushes, max;
    int64_t ops[1024]; /* numbers, in the order of the submits */
    takt_token cancelled[64];
    takt_ns waits[128]; /* of the polls */
} sc;

/* What the next submit gets: a token, or a refusal. */
static TAKT__UNUSED void submit_gives(takt_token token, int error)
{
    script_entry *const entry = &sc.entries[sc.entry_count++];
    entry->token = token;
    entry->error = error;
}

/* And what completes by it, at the next poll. */
static TAKT__UNUSED void and_ready(takt_token token, int64_t value, int error, uint32_t flags)
{
    script_entry *const entry = &sc.entries[sc.entry_count - 1];
    takt_completion *const done = &entry->ready[entry->count++];
    done->token = token;
    done->value = value;
    done->error = error;
    done->flags = flags;
}

/* What the next poll ends with. */
static TAKT__UNUSED void poll_gives(int error)
{
    sc.poll_errors[sc.poll_count++] = error;
}

/* A completion that nothing in the script stands for. */
static void arrive(takt_token token, int64_t value, int error, uint32_t flags)
{
    takt_completion *const done = &sc.ready[sc.ready_count++];
    memset(done, 0, sizeof *done);
    done->token = token;
    done->value = value;
    done->error = error;
    done->flags = flags;
}

/* From the beginning, with an empty script. What is left of a loop that could not be freed
 * is freed here. */
static void script_begin(void)
{
    while (hooks.live)
        free(hooks.at[--hooks.live]);
    memset(&hooks, 0, sizeof hooks);
    memset(&sc, 0, sizeof sc);
    sc.now = TAKT_SEC;
}

/* -- the backend ------------------------------------------------------------------ */

typedef struct script_config {
    int unused;
} script_config;

typedef struct script {
    const takt_slots *slots;
} script;

static int script_init(script *b, const script_config *config, const takt_slots *slots)
{
    (void)config;
    b->slots = slots;
    return 0;
}

static void script_free(script *b)
{
    (void)b;
}

static takt_ns script_now(script *b)
{
    (void)b;
    return sc.now;
}

static TAKT__UNUSED void script_flush(script *b)
{
    (void)b;
    sc.flushes++;
}

static TAKT__UNUSED bool script_busy(script *b)
{
    (void)b;
    return sc.ready_count > 0;
}

static TAKT__UNUSED int script_fd(script *b)
{
    (void)b;
    return -1;
}

static TAKT__UNUSED int64_t script_call(script *b, takt_op *op)
{
    (void)b;
    (void)op;
    sc.calls++;
    return sc.call_error;
}

/* The entry that this submit is given. */
static script_entry script_next_entry(const takt_op *op)
{
    script_entry entry;
    if (sc.entry_at < sc.entry_count)
        return sc.entries[sc.entry_at++];
    memset(&entry, 0, sizeof entry);
    entry.token = NEXT;
    if (sc.echo) {
        entry.count = 1;
        entry.ready[0].token = SAME;
        entry.ready[0].value = sc.value ? sc.value : op->arg.offset;
    }
    return entry;
}

static int script_submit(script *b, takt_op *op, takt_token *token)
{
    const script_entry entry = script_next_entry(op);
    const takt_token offered = *token;
    (void)b;
    if (sc.submits < 1024)
        sc.ops[sc.submits] = op->arg.offset;
    sc.submits++;
    if (sc.on_submit)
        sc.on_submit(op);
    *token = entry.token != NEXT ? entry.token : sc.offered ? offered : sc.next++;
    if (entry.error)
        return entry.error;
    sc.live[sc.live_count] = op;
    sc.tokens[sc.live_count++] = *token;
    for (int i = 0; i < entry.count; i++) {
        const takt_completion *const done = &entry.ready[i];
        arrive(done->token == SAME ? *token : done->token, done->value, done->error,
               done->flags);
    }
    return 0;
}

/* The op is no longer in flight. */
static void script_over(int at)
{
    sc.live_count--;
    sc.live[at] = sc.live[sc.live_count];
    sc.tokens[at] = sc.tokens[sc.live_count];
}

static void script_cancel(script *b, takt_op *op)
{
    (void)b;
    for (int i = 0; i < sc.live_count; i++) {
        if (sc.live[i] != op)
            continue;
        if (sc.cancels < 64)
            sc.cancelled[sc.cancels] = sc.tokens[i];
        if (!sc.deaf)
            arrive(sc.tokens[i], 0, TAKT_ECANCELED, 0);
        break;
    }
    sc.cancels++;
    if (sc.on_cancel)
        sc.on_cancel(op);
}

static int script_poll(script *b, takt_completion *out, int max, takt_ns wait)
{
    const int error = sc.poll_at < sc.poll_count ? sc.poll_errors[sc.poll_at++] : 0;
    const int count = error ? 0 : sc.ready_count < max ? sc.ready_count : max;
    const int lie = sc.lie;
    (void)b;
    if (sc.polls < 128)
        sc.waits[sc.polls] = wait;
    sc.polls++;
    sc.max = max;
    sc.slab = out;
    sc.lie = 0;
    for (int i = 0; i < count; i++) {
        out[i] = sc.ready[i];
        for (int k = sc.live_count - 1; k >= 0; k--)
            if (sc.tokens[k] == out[i].token && !(out[i].flags & TAKT_MORE))
                script_over(k);
    }
    sc.ready_count -= count;
    memmove(sc.ready, sc.ready + count, (size_t)sc.ready_count * sizeof *sc.ready);
    if (error)
        return error;
    if (count == 0 && wait == TAKT_FOREVER && sc.poll_at == sc.poll_count)
        return -EDEADLK; /* nothing would ever happen again */
    if (count == 0 && wait > 0 && wait != TAKT_FOREVER)
        sc.now += wait;
    return lie ? lie : count;
}

#endif

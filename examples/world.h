/*
 * world.h - the world of game.c, and what is said of it: plain C, no takt in here
 */
#ifndef WORLD_H
#define WORLD_H

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum { PARTS = 3, PART = 380, PLAYERS = PARTS * PART }; /* of a snapshot, of one part, of all */

/* -- what is said: both ends are of one kind, so bytes go as they lie in memory ------ */

enum { HELLO, COOKIE, WELCOME, INPUT, SNAPSHOT, LEAVE, BYE, THANKS };
enum { LEFT, TIMED_OUT, KICKED, CLOSING, FULL, NO_ANSWER, REASONS };
static const char *const reasons[REASONS] = {"left",   "timed out", "kicked",
                                             "closed", "full",      "no answer"};

struct note { /* all but snapshots: so an answer is never longer than what it answers */
    uint8_t kind;
    uint8_t number, way; /* of an input */
    uint8_t reason;      /* of a goodbye */
    uint32_t slot;       /* of a welcome */
    uint64_t cookie;     /* of whoever speaks to the server */
};

enum { WAYS = 9, STAND = 4 }; /* way % 3 - 1, way / 3 - 1 */
enum { HERE = 128, NUMBER = 127 };

struct cell {
    uint8_t input; /* HERE, and 7 bits of the number of the last input; 0: nobody */
    uint8_t x, y;  /* beyond 255 comes 0 */
};

struct snapshot { /* a part of one */
    uint8_t kind, part, parts, reserved;
    uint32_t tick;
    uint32_t sum;         /* of all parts */
    struct cell at[PART]; /* in the last fewer */
};

enum { SNAPSHOT_HEAD = offsetof(struct snapshot, at) };

static inline uint32_t sum_of(const struct cell *at, int count, int part)
{
    uint32_t a = (uint32_t)part, b = 0;
    for (int i = 0; i < count; i++) {
        a += (uint32_t)at[i].input << 16 | (uint32_t)at[i].x << 8 | at[i].y;
        b += a;
    }
    return a ^ b << 7;
}

/* -- the world ----------------------------------------------------------------------- */

struct world {
    uint32_t tick;
    struct cell at[PLAYERS];
    uint8_t way[PLAYERS]; /* by the last input */
};

static inline void world_enter(struct world *world, int slot)
{
    const struct cell cell = {HERE, (uint8_t)(slot * 7), (uint8_t)(slot / 4)};
    world->at[slot] = cell;
    world->way[slot] = STAND;
}

/* What was overtaken is passed over. */
static inline void world_input(struct world *world, int slot, int number, uint8_t way)
{
    struct cell *const cell = &world->at[slot];
    if ((int8_t)(uint8_t)((unsigned)(number - cell->input) << 1) <= 0)
        return;
    cell->input = (uint8_t)(HERE | (number & NUMBER));
    world->way[slot] = way;
}

static inline void cell_move(struct cell *cell, int way)
{
    cell->x = (uint8_t)(cell->x + way % 3 - 1);
    cell->y = (uint8_t)(cell->y + way / 3 - 1);
}

static inline void world_step(struct world *world)
{
    world->tick++;
    for (int i = 0; i < PLAYERS; i++)
        if (world->at[i].input)
            cell_move(&world->at[i], world->way[i]);
}

/* Returns how many parts; sets the length of each. */
static inline int world_snapshot(const struct world *world, struct snapshot *parts,
                                 uint32_t *lengths)
{
    uint32_t sum = 0;
    int top = PLAYERS, count = 0;
    while (top > 0 && !world->at[top - 1].input)
        top--;
    for (int at = 0; at < top; at += PART, count++) {
        const int cells = top - at < PART ? top - at : PART;
        memcpy(parts[count].at, world->at + at, (size_t)cells * sizeof(struct cell));
        lengths[count] = (uint32_t)(SNAPSHOT_HEAD + (size_t)cells * sizeof(struct cell));
        sum += sum_of(world->at + at, cells, count);
    }
    for (int i = 0; i < count; i++) {
        parts[i].kind = SNAPSHOT;
        parts[i].part = (uint8_t)i;
        parts[i].parts = (uint8_t)count;
        parts[i].tick = world->tick;
        parts[i].sum = sum;
    }
    return count;
}

static inline void print_ends(uint64_t joined, const uint64_t *ended)
{
    fprintf(stderr, "game: joined %" PRIu64, joined);
    for (int i = 0; i < REASONS; i++)
        fprintf(stderr, ", %s %" PRIu64, reasons[i], ended[i]);
}

#endif

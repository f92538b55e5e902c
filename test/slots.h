/*
 * slots.h - places for the ops of a backend that has no loop above it. To be included where
 * SLOTS says how many.
 */
#ifndef SLOTS_H
#define SLOTS_H

static takt_slot slot_memory[SLOTS];
static takt_slots slots;

/* All are empty. */
static void slots_clear(void)
{
    memset(slot_memory, 0, sizeof slot_memory);
    slots.base = (unsigned char *)slot_memory;
    slots.stride = sizeof slot_memory[0];
    slots.count = SLOTS;
    for (uint32_t i = 0; i < SLOTS; i++)
        slot_memory[i].index = i;
}

/* A new op in place `i`. 0 or an error. */
static int slot_begin(takt_uring *backend, int i, takt_op op)
{
    takt_token token;
    slot_memory[i].generation++;
    slot_memory[i].op = op;
    token = takt_token_of(&slot_memory[i].op);
    return takt_uring_submit(backend, &slot_memory[i].op, &token);
}

#endif

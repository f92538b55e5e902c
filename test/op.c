/*
 * op.c - operation descriptors: plain values
 */
#define TAKT_IMPLEMENTATION
#include "../takt.h"

#include "test.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

static char buf[8];
static struct takt_pipe *pipe_end;
static takt_addr addr;
static struct iovec iov[2];
static takt_bufs pool;
static unsigned char *data;

/* What every constructor leaves alone. */
static void expect_clean(const takt_op *op)
{
    EXPECT_EQ(op->state, 0);
    EXPECT_EQ(op->when, 0);
    EXPECT_EQ(op->result, 0);
    EXPECT_EQ(op->extra, 0);
    EXPECT(op->next == NULL);
    EXPECT(!(op->flags & TAKT_OP_DEADLINE));
}

static void expect_op(takt_op op, int kind, int fd, const void *memory, size_t len)
{
    expect_clean(&op);
    EXPECT_EQ(op.kind, kind);
    EXPECT_EQ(op.fd, fd);
    EXPECT(op.buf == memory);
    EXPECT_EQ(op.len, len);
}

static void an_op_is_one_cache_line(void)
{
    EXPECT(sizeof(takt_op) <= 64);
    EXPECT(sizeof(takt_op *) != 8 || sizeof(takt_op) == 64);
    EXPECT_EQ(offsetof(takt_slot, op), 0);
    EXPECT(sizeof(takt_frame) <= 48);
    EXPECT(sizeof(void *) != 8 || sizeof(takt_strand) == 128);
}

static void constructors_say_what_is_wanted(void)
{
    takt_op op;
    expect_op(takt_nop(), TAKT_OP_NOP, -1, NULL, 0);
    expect_op(takt_accept(3, &addr), TAKT_OP_ACCEPT, 3, NULL, 0);
    expect_op(takt_connect(3, &addr), TAKT_OP_CONNECT, 3, NULL, 0);
    expect_op(takt_tcp_connect(&addr), TAKT_OP_DIAL, -1, NULL, 0);
    expect_op(takt_recv(3, buf, 8), TAKT_OP_RECV, 3, buf, 8);
    expect_op(takt_recv_all(3, buf, 8), TAKT_OP_RECV, 3, buf, 8);
    expect_op(takt_recv_flags(3, buf, 8, MSG_PEEK), TAKT_OP_RECV, 3, buf, 8);
    expect_op(takt_recvv(3, iov, 2), TAKT_OP_RECV, 3, iov, 2);
    expect_op(takt_send(3, buf, 8), TAKT_OP_SEND, 3, buf, 8);
    expect_op(takt_sendv(3, iov, 2), TAKT_OP_SEND, 3, iov, 2);
    expect_op(takt_send_lease(3, &pool, &data, 8), TAKT_OP_SEND_LEASE, 3, &data, 8);
    expect_op(takt_sendto(3, buf, 8, &addr), TAKT_OP_SENDTO, 3, buf, 8);
    expect_op(takt_recvfrom(3, buf, 8, &addr), TAKT_OP_RECVFROM, 3, buf, 8);
    expect_op(takt_shutdown(3, SHUT_WR), TAKT_OP_SHUTDOWN, 3, NULL, 0);
    expect_op(takt_close(-1), TAKT_OP_CLOSE, -1, NULL, 0);
    expect_op(takt_ready(3, POLLIN), TAKT_OP_READY, 3, NULL, 0);
    expect_op(takt_read(3, buf, 8, -1), TAKT_OP_READ, 3, buf, 8);
    expect_op(takt_write(3, buf, 8, 5), TAKT_OP_WRITE, 3, buf, 8);
    expect_op(takt_signal(3), TAKT_OP_SIGNAL, 3, NULL, 0);
    expect_op(takt_splice(3, 0, &pipe_end), TAKT_OP_SPLICE, 3, &pipe_end, 0);

    op = takt_splice(3, 4, &pipe_end);
    EXPECT_EQ(op.extra, 4);
    op = takt_accept(3, &addr);
    EXPECT(op.arg.ptr == &addr);
    op = takt_recv_flags(3, buf, 8, MSG_PEEK);
    EXPECT_EQ(op.bits, MSG_PEEK);
    EXPECT_EQ(op.flags, 0);
    op = takt_recv_all(3, buf, 8);
    EXPECT_EQ(op.flags, TAKT_OP_ALL);
    op = takt_recvv(3, iov, 2);
    EXPECT_EQ(op.flags, TAKT_OP_VECTOR);
    op = takt_recvv(3, iov, -1);
    EXPECT_EQ(op.len, 0);
    op = takt_send_flags(3, buf, 8, MSG_MORE);
    EXPECT_EQ(op.flags, TAKT_OP_ALL);
    EXPECT_EQ(op.bits, MSG_MORE);
    op = takt_sendv(3, iov, 2);
    EXPECT_EQ(op.flags, TAKT_OP_ALL | TAKT_OP_VECTOR);
    op = takt_send_lease(3, &pool, &data, 8);
    EXPECT_EQ(op.flags, TAKT_OP_ALL);
    EXPECT(op.arg.ptr == &pool);
    op = takt_write(3, buf, 8, 5);
    EXPECT_EQ(op.arg.offset, 5);
    op = takt_shutdown(3, SHUT_WR);
    EXPECT_EQ(op.bits, SHUT_WR);
}

static void a_sleep_is_at_least_a_nanosecond(void)
{
    takt_op op = takt_sleep(5);
    EXPECT_EQ(op.arg.sleep, 5);
    op = takt_sleep(0);
    EXPECT_EQ(op.arg.sleep, 1);
    op = takt_sleep(INT64_MIN);
    EXPECT_EQ(op.arg.sleep, 1);
    op = takt_sleep_until(-7);
    EXPECT_EQ(op.arg.sleep, 1);
    EXPECT_EQ(op.flags, TAKT_OP_UNTIL);
}

static void a_modifier_changes_the_limit_and_nothing_else(void)
{
    const takt_op plain = takt_recv_all(3, buf, 8);
    takt_op op = takt_within(7, plain);
    EXPECT_EQ(op.when, 7);
    EXPECT_EQ(op.flags, TAKT_OP_ALL);
    op.when = 0;
    EXPECT(memcmp(&op, &plain, sizeof op) == 0);
    EXPECT_EQ(plain.when, 0); /* a value: the other is as it was */

    op = takt_by(9, plain);
    EXPECT_EQ(op.when, 9);
    EXPECT_EQ(op.flags, TAKT_OP_ALL | TAKT_OP_DEADLINE);
    op = takt_within(7, op); /* the last one counts */
    EXPECT_EQ(op.when, 7);
    EXPECT_EQ(op.flags, TAKT_OP_ALL);
    op = takt_within(0, plain); /* 0 would be no limit at all */
    EXPECT_EQ(op.when, 1);
    op = takt_by(-1, plain);
    EXPECT_EQ(op.when, 1);
    op = takt_within(7, takt_sleep_until(9)); /* the sleep's own point in time stays one */
    EXPECT_EQ(op.flags, TAKT_OP_UNTIL);
    EXPECT_EQ(op.arg.sleep, 9);
    op = takt_by(7, takt_sleep(9)); /* nor does its length become one */
    EXPECT_EQ(op.flags, TAKT_OP_DEADLINE);
    EXPECT_EQ(op.arg.sleep, 9);
}

static void every_kind_has_a_word(void)
{
    for (int kind = 0; kind < TAKT_OP_COUNT; kind++)
        EXPECT(strcmp(takt_op_name(kind), "unknown") != 0);
    EXPECT(strcmp(takt_op_name(TAKT_OP_RECV), "recv") == 0);
    EXPECT(strcmp(takt_op_name(TAKT_OP_COUNT), "unknown") == 0);
    EXPECT(strcmp(takt_op_name(-1), "unknown") == 0);
}

static void time_saturates(void)
{
    EXPECT_EQ(takt_after(5, 7), 12);
    EXPECT_EQ(takt_after(5, 0), 5);
    EXPECT_EQ(takt_after(5, -7), 5);
    EXPECT_EQ(takt_after(5, TAKT_FOREVER), TAKT_FOREVER);
    EXPECT_EQ(takt_after(TAKT_FOREVER, 1), TAKT_FOREVER);
    EXPECT_EQ(takt_after(TAKT_FOREVER - 1, 1), TAKT_FOREVER);
    EXPECT_EQ(takt_after(TAKT_FOREVER - 2, 1), TAKT_FOREVER - 1);
}

/* BK-2 */
static void a_token_is_a_generation_and_an_index(void)
{
    static takt_slot slots[3];
    takt_slots all;
    EXPECT_EQ(takt_token_make(0, 0), 0); /* BK-2: a legal one */
    EXPECT_EQ(takt_token_make(1, 2), (int64_t)0x100000002);
    all.base = (unsigned char *)slots;
    all.stride = sizeof slots[0];
    all.count = 3;
    for (uint32_t i = 0; i < 3; i++) {
        slots[i].index = i;
        slots[i].generation = 10 + i;
        EXPECT(takt_slot_at(&all, i) == &slots[i]);
        EXPECT(takt_slot_find(&all, takt_token_of(&slots[i].op)) == &slots[i]);
    }
    EXPECT(takt_slot_find(&all, takt_token_make(11, 2)) == NULL);
    EXPECT(takt_slot_find(&all, takt_token_make(13, 3)) == NULL);
    EXPECT(takt_slot_find(&all, UINT64_MAX) == NULL);
    slots[1].generation++;
    EXPECT(takt_slot_find(&all, takt_token_make(11, 1)) == NULL);
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        TEST(an_op_is_one_cache_line),
        TEST(constructors_say_what_is_wanted),
        TEST(a_sleep_is_at_least_a_nanosecond),
        TEST(a_modifier_changes_the_limit_and_nothing_else),
        TEST(every_kind_has_a_word),
        TEST(time_saturates),
        TEST(a_token_is_a_generation_and_an_index),
    };
    return RUN_TESTS(argc, argv, tests);
}

#!/usr/bin/env python3
"""mutants.py - the library broken by hand, in one place at a time: does the suite notice?

    test/mutants.py [-v] [-a] [WORD...]    those whose names contain a word; all if there is none
                                           -v says who notices, -a asks every test of the suite

A mutant is a name that says what is broken, a header, a text that stands in it exactly once,
what takes its place, and the tests that should notice, the likeliest first: a program, and its
arguments behind colons. The headers are copied, the mutant is applied, the tests are built
without optimisation and run until one of them fails, crashes or hangs: then it is killed. A
survivor means that a test is missing. A text that is not found once, or a mutant that does not
compile, is a failure too: the table has to follow the headers.
"""
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CC = os.environ.get("CC", "cc").split()
FLAGS = ["-std=c11", "-O0", "-w", "-D_GNU_SOURCE", "-lm"]
T, U = "takt.h", "takt_uring.h"

# what is broken, where, a text that stands there once, what takes its place, who notices
MUTANTS = [
    # -- values
    ("would-block reads as a failure", T,
     "        return TAKT_OUTCOME_WOULD_BLOCK;", "        return TAKT_OUTCOME_FAILURE;", "outcome"),
    ("a duration around a deadline stays a deadline", T,
     "    op.flags &= (uint8_t)~TAKT_OP_DEADLINE;\n", "", "op statements"),
    ("port 65536 is a port", T,
     "takt__parse_number(colon + 1, 65535)", "takt__parse_number(colon + 1, 65536)", "net"),
    ("the hash of an address counts its flow label", T,
     "sin6_flowinfo), 0, 4);", "sin6_flowinfo), 0, 0);", "net"),
    ("datagrams are joined on sockets that do not take them apart", T,
     "           protocol == IPPROTO_UDP;", "           protocol >= 0;", "burst"),
    ("an op from outside that is cancelled tells nobody", T,
     "    TAKT_DEFER { my->done(my->user, my->result); }\n"
     "    TAKT_TRY_AWAIT(my->result, my->op);\n",
     "    TAKT_TRY_AWAIT(my->result, my->op);\n    my->done(my->user, my->result);\n", "embed"),
    ("what a try could not send looks sent", T,
     "packets[i].error = -EAGAIN;", "packets[i].error = 0;", "burst"),
    ("ring: what came before somebody asks for a descriptor is not announced", U,
     "    (void)!write(fd, &one, sizeof one);", "    (void)one;", "embed"),
    # -- memory
    ("a lease is returned twice", T,
     "index < bufs->fresh && bufs->next[index] == TAKT__LEASED ?", "index < bufs->fresh ?",
     "memory"),
    ("a pool with new waiters is not starved again", T,
     "            bufs->starved = false;\n", "", "stream_backend:epoll contract:epoll"),
    ("a waiter that leaves a pool's line takes its tail along", T,
     "    if (bufs->waiting_last == op)\n        bufs->waiting_last = before;\n", "",
     "gaps:who_leaves_the_line_of_a_pool_takes_nobody_along"),
    ("a slab is used again with its old contents", T,
     "    memset(slab, 0, bounded->slab);\n", "", "memory"),
    ("a slab is released twice", T, "        if (bounded->out[index]) {", "        if (true) {",
     "memory"),
    ("the heap hands out old contents", T, "        memset(slab, 0, TAKT_SLAB_DEFAULT);\n", "",
     "memory"),
    ("a task begins with what another left behind", T,
     "    memset(memory, 0, pool->size);\n", "", "gaps_script"),
    # -- what backends share
    ("a stale generation is accepted (backends, routes)", T,
     "return slot->generation == (uint32_t)(token >> 32) ? slot : NULL;", "return slot;",
     "stream sched loop contract:uring"),
    ("a stale generation is accepted (loops)", T,
     "strand->slot.generation == (uint32_t)(token >> 32)\n", "true\n", "sched loop statements"),
    ("a token is used again for the next op", T,
     "    strand->slot.generation++;\n    token =", "    token =", "statements loop choose"),
    ("a token that is removed hides others", T,
     "    while (tokens->at[next].what) { /*", "    while (false) { /*",
     "memory loop statements stream"),
    ("a second reader is let in", T, "    if (fd->reader)\n        return -EBUSY;\n", "",
     "contract:epoll:a_close_ends_what_is_in_flight_and_the_peer_sees_it"),
    ("a second writer is let in", T,
     "!takt__is_datagram(op) || !takt__is_datagram(last)", "false",
     "contract:epoll:a_close_ends_what_is_in_flight_and_the_peer_sees_it"),
    ("an op on a descriptor that is being closed is let in", T,
     "    if (fd->closer)\n        return TAKT_ECLOSED;\n", "",
     "gaps:nothing_begins_on_a_descriptor_that_is_being_closed"),
    ("a close acts while a writer is in flight", T,
     "return fd->closer && !fd->reader && !fd->writer ?", "return fd->closer && !fd->reader ?",
     "gaps:a_close_is_over_after_what_was_in_flight"),
    ("the last of a line of datagrams is forgotten", T,
     "    if (!op->next)\n        fd->writer_last = before ? takt__place_of(before) : 0;\n", "",
     "gaps:who_leaves_the_line_of_a_socket_takes_nobody_along"),
    ("who holds up the others goes unnoticed", T, "    if (held > s->config.hold_limit) {",
     "    if (held < 0) {", "loop:who_holds_up_the_others_is_named"),
    # -- the portable backend
    ("half-close is dropped", T, "takt__posix_done(posix, op, takt__do_shutdown(op));",
     "takt__posix_done(posix, op, 0);",
     "contract:epoll:streams_of_every_family_carry_a_conversation"),
    ("a shutdown overtakes what was sent before", T,
     "            takt__posix_run_writers(posix, op->fd); /* what was sent before goes first */\n",
     "            (void)0;\n", "gaps:a_shutdown_comes_after_what_was_sent_before"),
    ("a hang-up is forgotten after a short read", T,
     "(entry->bits & (TAKT__BYTES | TAKT__PACKETS | TAKT__HUNG_UP)) == TAKT__BYTES",
     "(entry->bits & (TAKT__BYTES | TAKT__PACKETS)) == TAKT__BYTES",
     "relay stream_loop"),
    ("a partial send is treated as complete", T,
     "        if (op->arg.done == bytes)\n            return (int64_t)bytes;",
     "        return (int64_t)bytes;",
     "contract:epoll:streams_of_every_family_carry_a_conversation"),
    ("-EAGAIN is treated as an end", T, "((result == -EAGAIN ||", "((false &&",
     "contract:epoll:streams_of_every_family_carry_a_conversation"),
    ("a truncated recv_all is a success", T,
     "        if (n == 0 && op->flags & TAKT_OP_ALL)\n            return TAKT_ETRUNCATED;\n", "",
     "contract:epoll:streams_of_every_family_carry_a_conversation"),
    ("what lacks descriptors is not tried again", T, "    posix->later = op;\n}", "}",
     "stream_backend:epoll:without_descriptors_it_waits_for_one"),
    ("a close does not wake those who lack descriptors", T,
     "    posix->later_now = true;\n    takt__posix_done(posix, op, takt__do_close(op->fd));",
     "    takt__posix_done(posix, op, takt__do_close(op->fd));",
     "stream_backend:epoll:without_descriptors_it_waits_for_one"),
    ("connections that nobody took leak with the backend", T,
     "        if (op->kind == TAKT_OP_ACCEPT)\n            close((int)op->result);\n"
     "        else if", "        if", "stream_backend:epoll stream_loop"),
    ("a socket that met itself is a connection", T, "        result = TAKT_ESELF;", "        ;",
     "gaps:a_socket_that_meets_itself_is_no_connection"),
    ("poll(2) does not look after a writer beside a reader", T,
     "if (writer && writer->state == TAKT__WAITING &&",
     "if (writer && !reader && writer->state == TAKT__WAITING &&",
     "gaps:a_writer_is_looked_after_beside_a_reader"),
    ("what is done already is cancelled all the same", T,
     "    case TAKT__IDLE_OP:\n    case TAKT__DONE:\n", "    case TAKT__IDLE_OP:\n",
     "gaps:what_is_done_is_delivered_in_spite_of_an_order"),
    ("an edge between two items is lost", T, "        op->result |= now;", "        ;",
     "gaps:an_edge_that_comes_before_its_item_is_handed_out_counts"),
    ("a descriptor beyond the table leaks", T,
     "    if (fd >= posix->fds.count) {\n        close((int)fd);\n",
     "    if (fd >= posix->fds.count) {\n", "gaps:what_is_opened_beyond_the_table_is_closed"),
    ("the length of a datagram that was cut off is not told", T,
     "op->len, MSG_TRUNC | MSG_DONTWAIT, sockaddr", "op->len, MSG_DONTWAIT, sockaddr",
     "contract:epoll:datagrams_keep_their_bounds_and_senders"),
    ("files are read at their current position", T, "pread(op->fd, op->buf, len, offset)",
     "read(op->fd, op->buf, len)", "contract:epoll:pipes_and_files_are_read_and_written"),
    ("a vector that was begun goes on with a buffer that is done", T,
     "while (done >= iov->iov_len) {", "while (done > iov->iov_len) {",
     "contract:epoll contract:uring"),
    ("the address of who connects is not told", T,
     "    if (peer)\n        peer->len = (uint32_t)len;\n", "", "contract:epoll"),
    # -- timers
    ("timers fire early", T, "((uint64_t)when + (uint64_t)TAKT_TICK - 1) >>", "(uint64_t)when >>",
     "timer"),
    ("timers of one tick fire last first", T,
     "    timer->prev = list->prev;\n    timer->next = list;\n    list->prev->next = timer;\n"
     "    list->prev = timer;\n",
     "    timer->next = list->next;\n    timer->prev = list;\n    list->next->prev = timer;\n"
     "    list->next = timer;\n", "timer"),
    ("a disarmed timer takes its slot along", T, "if (list == timer->prev && list != &wheel->due)",
     "if (list != &wheel->due)", "timer"),
    ("a limit is not disarmed when its op is over", T,
     "    takt_timer_disarm(&s->wheel, &strand->timer);\n    strand->flags &= (uint16_t) ~(",
     "    strand->flags &= (uint16_t) ~(", "sched choose"),
    ("a limit that has fired counts for the next op", T,
     "~(TAKT__EXPIRED | TAKT__ASKED | TAKT__LIMITED)", "~(TAKT__ASKED | TAKT__LIMITED)",
     "choose:a_deadline_fits_every_kind_of_op"),
    ("a touched idle limit fires", T, "    if (idle->due > takt__now(s))", "    if (false)",
     "gaps_script"),
    ("a wheel tells its deadline too late", T, ": (takt_ns)(tick << TAKT__TICK_SHIFT);",
     ": (takt_ns)((tick + 1) << TAKT__TICK_SHIFT);", "timer loop sched"),
    ("a turn sleeps past a timer", T, "deadline <= 0 ? 0 : deadline < wait ? deadline : wait",
     "deadline <= 0 ? 0 : wait", "gaps_script sched"),
    # -- orders to stop
    ("a cancel is not delivered", T,
     "    if (strand->flags & TAKT__CANCELLED)\n        return TAKT__CANCEL_IT;\n", "",
     "group keywords"),
    ("a cancelled call cancels its caller", T,
     "        frame->bits |= TAKT__CALL_CANCELLED;\n        takt__stop_strand(",
     "        takt__cancel_strand(", "corners:a_cancelled_call_is_its_callers_to_handle"),
    ("a deferred block is cut short by an order to stop", T,
     "        if (a->state == TAKT__UNWINDING)\n            return TAKT__GO_ON;\n", "",
     "group keywords corners laws"),
    ("a cancellation can be caught", T,
     "        takt__fail(f, TAKT_ECANCELED);\n        f->state = TAKT__UNWINDING;\n",
     "        takt__fail(f, TAKT_ECANCELED);\n", "keywords group sched"),
    ("TAKT_TRY_ swallows an order to stop", T,
     "if (result < 0 && (f->state == TAKT__UNWINDING || !(f->strand->flags & TAKT__STOP) ||\n"
     "                       takt__told(f) == TAKT__GO_ON))", "if (result < 0)",
     "keywords group choose laws"),
    ("what has arrived with its limit is lost", T,
     "if (result != TAKT_ECANCELED || !(flags & TAKT__ASKED))", "if (!(flags & TAKT__ASKED))",
     "gaps_script"),
    ("a discard is lost", T,
     "    strand->flags |= TAKT__STOP;\n    if (!(strand->flags & TAKT__NEW))\n"
     "        takt__interrupt(s, strand);", "    strand->flags |= TAKT__STOP;",
     "gaps_script"),
    ("a stopping loop spawns", T, "    if (s->stopping || s->fatal || pool->used ==",
     "    if (s->fatal || pool->used ==", "gaps_script"),
    ("an op for streams may be awaited", T,
     "    if (op->flags & TAKT_OP_MULTI) /* for TAKT_OPEN", "    if (0) /* for TAKT_OPEN", "await"),
    ("data takes a buffer past those in line", T,
     "op->state == TAKT__NO_BUFFERS || !bufs->waiting;", "true;", "posix"),
    ("a stopping loop accepts", T, "        takt__each(s, takt__refuse_accept);\n", "",
     "contract:epoll:a_loop_that_stops_takes_no_new_work_and_ends"),
    ("the limit of a stop is forgotten", T,
     "        takt__arm(s, &s->stop_timer, takt_after(takt__now(s), limit));", "        ;",
     "corners:between_turns_the_clock_is_read_anew"),
    # -- frames, children, groups
    ("the first error is not kept", T,
     "    if (f->state == TAKT__UNWINDING)\n        return; /* the first error stands */\n", "",
     "keywords corners group"),
    ("a second interruption takes the place of the first", T,
     "f->state == TAKT__UNWINDING || f->bits & TAKT__INTERRUPTED)\n        return;",
     "f->state == TAKT__UNWINDING)\n        return;", "corners:the_first_failure_stands"),
    ("a deferred block runs twice", T,
     "            f->defers[i] = 0;\n",
     "        {\n            static bool again;\n            again = !again;\n"
     "            f->defers[i] &= (uint16_t)(again ? ~TAKT__DEFER_RUNS : 0);\n        }\n",
     "keywords"),
    ("deferred blocks run first to last", T,
     "    int i = TAKT_DEFERS_MAX;\n    while (i-- > 0) {",
     "    int i = -1;\n    while (++i < TAKT_DEFERS_MAX) {", "keywords"),
    ("a join counts its children wrong", T, "        account->bits++;\n    } else if",
     "    } else if", "group keywords"),
    ("the failure of a child is not told", T,
     "        takt__interrupt_frame(parent, error);\n    if (awaited", "        ;\n    if (awaited",
     "gaps_script"),
    ("the losers of a race go on", T,
     "strand->wait == TAKT__ON_RACE && error >= 0 && account->len == 1", "false",
     "choose:the_winner_of_a_race_waits_for_the_losers"),
    ("the last to succeed wins a race", T,
     "    else if (account->len++ == 0)\n        account->extra = racer;",
     "    else {\n        account->len++;\n        account->extra = racer;\n    }",
     "choose:an_order_that_comes_after_the_winner_takes_the_next_await"),
    ("the policy of a group is swapped", T, "        if (group->fail_fast) {",
     "        if (!group->fail_fast) {", "group"),
    ("a group forgets its first error", T, "        if (group->first_error == 0)",
     "        if (true)", "group"),
    ("a cancelled member counts as failed", T,
     "    if (error < 0 && !(strand->flags & TAKT__CANCELLED)) {\n        group->failed++;",
     "    if (error < 0) {\n        group->failed++;", "group"),
    ("a group outlives the frame that owns it", T,
     "            takt_group_cancel((takt_group *)(void *)it);\n            all = false;",
     "            takt_group_cancel((takt_group *)(void *)it);", "group"),
    ("the first error of a loop is not kept", T, "    if (s->first_error == 0)", "    if (true)",
     "sched loop group statements"),
    ("a pool has room for one more", T, "pool->used == pool->count", "pool->used > pool->count",
     "group sched statements"),
    ("a child begins in memory of a living one", T,
     "    if ((f->children && takt__child_in(f, child, size)) ||\n"
     "        (s->watches && takt__alive_here(s, child)))", "    if (false)",
     "misuse group keywords"),
    ("a call within a limit has none", T,
     "    takt__arm(s, &strand->timer, takt_after(takt__now(s), ns > 0 ? ns : 1));\n", "",
     "keywords group choose"),
    ("a call that ends well with its limit has timed out", T,
     "strand->flags & TAKT__EXPIRED && error == TAKT_ECANCELED ?",
     "strand->flags & TAKT__EXPIRED ?", "choose corners keywords group laws"),
    ("a race that somebody has won is lost to an order", T,
     "    if (account->len) /* completed, whatever was ordered meanwhile */\n        return 0;\n",
     "",
     "choose group corners"),
    ("the second who joins a group waits for ever", T,
     "    while (group->count == 0 && group->joiners) {",
     "    if (group->count == 0 && group->joiners) {",
     "group"),
    ("a fifth defer is taken", T,
     "    if (i == TAKT_DEFERS_MAX || below >= TAKT__DEFER_RUNS) {", "    if (false) {",
     "keywords corners"),
    ("a return loses the failure of a child", T,
     "    if (f->bits & TAKT__INTERRUPTED) { /*", "    if (false) { /*",
     "group corners keywords laws"),
    ("a cancelled task is reported as failed", T,
     "if (error < 0 && !cancelled && !(bits & TAKT__GROUPED))",
     "if (error < 0 && !(bits & TAKT__GROUPED))", "sched group"),
    ("an op points into the C stack, and goes to the backend", T,
     "    if (buf < TAKT__BODY_STACK || arg < TAKT__BODY_STACK) {", "    if (false) {",
     "misuse keywords corners"),
    # -- turns
    ("a descriptor that nobody waits for leaks", T,
     "        op = takt__op(TAKT_OP_CLOSE, (int)done->value, NULL, 0);\n"
     "        s->calls->call(s->backend, &op);\n", "", "gaps_script"),
    ("MORE is ignored", T, "done->error == TAKT_EMORE || done->flags & TAKT_MORE", "false",
     "loop sched statements"),
    ("would-block ends an op", T, "if (done->error == TAKT_EWOULDBLOCK) {", "if (false) {",
     "loop statements"),
    ("a loop is run from inside itself", T,
     "        if (sched->in_turn)" + " " * 66 + "\\\n"
     "            return TAKT_EREENTER;" + " " * 60 + "\\\n"
     "        sched->stack_base =", "        sched->stack_base =", "gaps_script"),
    ("a turn sleeps though somebody has yielded", T,
     "if (wait <= 0 || s->ready_first || s->later_first ||", "if (wait <= 0 || s->ready_first ||",
     "sched loop statements contract:epoll"),
    ("an idle loop with somebody who has yielded says: no deadline", T,
     "        if (takt_l->sched.ready_first || takt_l->sched.later_first || ",
     "        if (takt_l->sched.ready_first || ", "gaps_script"),
    ("a yield does not let the others run first", T,
     "    takt__append(s, f->strand, &s->later_first, &s->later_last);",
     "    takt__ready(s, f->strand);", "sched statements"),
    # -- batches
    ("a batch that has completed counts as cancelled", T,
     "account->state & TAKT__ANY ? account->fd >= 0 : !(account->state & TAKT__CUT)", "false",
     "choose:a_choice_that_completes_in_spite_of_the_order_is_delivered"),
    ("the limit of an op counts from when it got its strand", T,
     "    if (account->state & TAKT__LATE)\n        takt__since(",
     "    if (false)\n        takt__since(",
     "choose:a_strand_that_comes_free_anywhere_is_used"),
    ("a batch that was cancelled still stands in line", T,
     "    strand->flags &= (uint16_t)~TAKT__STARVED;\n}", "}", "choose"),
    ("a strand that comes free is not given to a batch that waits", T,
     "    if (s->starved_first) /* a batch was waiting for this */\n        takt__feed(s);\n", "",
     "choose"),
    # -- streams
    ("a stream keeps one item too many", T,
     "stream->count >= takt__stream_limit(stream) &&",
     "stream->count > takt__stream_limit(stream) &&",
     "gaps_script"),
    ("a stream that rests does not go on", T,
     "    if (stream->state == TAKT__STREAM_PAUSED)\n        takt__stream_rest(s, stream);\n", "",
     "stream_loop"),
    ("items that nobody took leak with their stream", T,
     "        takt__item_drop(s, stream->pool, &item);\n    }\n    return true;",
     "    }\n    return true;", "stream_loop"),
    ("a clock drifts", T, "takt_after(strand->timer.when, ticks * period)",
     "takt_after(takt__now(s), period)", "gaps_script"),
    ("the error of a stream is told twice", T,
     "    stream->error = 0; /* it is told once */\n", "", "gaps_script"),
    ("a table of items is one too short", T, "s->items_fresh < s->config.items",
     "s->items_fresh + 1 < s->config.items", "gaps_script"),
    ("a route that is open is opened again", T,
     ": takt__route_find(r, id) ? TAKT_ELIVEROUTE", ": false ? TAKT_ELIVEROUTE", "statements"),
    ("the last event does not close its route", T,
     "    if (!(done->flags & TAKT_MORE))\n        takt__route_give(r, route);", "    ;", "stream"),
    # -- channels
    ("a channel holds one too many", T, "channel->count < channel->capacity",
     "channel->count <= channel->capacity", "chan"),
    ("who waits to put is passed over", T,
     "        if (putter)\n            takt__cell_fill(channel, putter->buf);\n", "", "chan"),
    ("a closed channel takes items", T,
     "    if (channel->closed)\n        return TAKT_ECLOSED;\n", "", "chan"),
    ("a closed channel loses what is in it", T, "    if (channel->count) {\n",
     "    if (channel->count && !channel->closed) {\n", "chan"),
    ("a permit is given twice", T,
     "        semaphore->permits--;\n        takt__line_next(", "        takt__line_next(", "chan"),
    # -- misuse, drives, dumps
    ("memory that was changed while lent goes unnoticed", T,
     "watch->sum && watch->sum != takt__op_sum(op)", "false", "misuse lend"),
    ("a foreign thread goes unnoticed", T,
     "!s->watches || !s->owner || s->owner == TAKT__THREAD()", "true", "misuse"),
    ("a frame that was freed goes unnoticed", T,
     "    takt__misuse(watch->coro, watch->line, TAKT_EFRAME);\n    return false;",
     "    return true;", "misuse"),
    ("a back-off has no end", T, "return base > max / n ? max : n * base;", "return n * base;",
     "drive"),
    ("a drive accepts while it stops", T,
     "    if (s->stopping && op->kind == TAKT_OP_ACCEPT) {\n        op->result = TAKT_ESTOPPING;\n"
     "        return false;\n    }\n    strand", "    strand", "drive"),
    ("a drive is resumed for a suspension of the past", T,
     "epoch != drive->epoch || !takt__drive_suspended(drive)", "!takt__drive_suspended(drive)",
     "drive"),
    ("a discard skips the closes in defers", T,
     "op->kind == TAKT_OP_CLOSE ? takt__drive_call(drive, op)\n"
     + " " * 56 + ": TAKT_ECANCELED", "TAKT_ECANCELED", "drive"),
    ("a back-off goes on growing after progress", T,
     "        if (takt_is_progress(answer)) {\n            takt_backoff_reset(&backoff);\n",
     "        if (takt_is_progress(answer)) {\n            ;\n", "drive"),
    ("a body by hand does not see an interruption", T,
     "        op->result = frame->error;\n        frame->bits &=", "        frame->bits &=",
     "drive statements corners group"),
    # -- io_uring
    ("buffers that the kernel does not give back are handed out", U,
     "    if (refused && takt__ring_in_flight(ring->uring)) {", "    if (false) {",
     "fault:buffers_of_a_ring_that_failed_are_kept"),
    ("a stale completion is believed", U,
     "!op || !(op->state & TAKT__RING_KERNEL) ||\n                       key !=", "!op || key !=",
     "gaps:a_completion_that_cannot_be_is_not_believed"),
    ("a one-shot request with more to come is believed", U,
     "(flags & IORING_CQE_F_MORE && !(op->flags & TAKT_OP_MULTI))", "false",
     "gaps"),
    ("ring: a partial send is treated as complete", U, "    if (done >= bytes)",
     "    if (done)", "contract:uring:streams_of_every_family_carry_a_conversation"),
    ("ring: -EAGAIN is treated as an end", U,
     "        if (!connects && op->kind != TAKT_OP_NOP) {", "        if (false) {",
     "gaps:too_early_is_not_the_end"),
    ("ring: a cancel that found the queue full is lost", U,
     "        takt__ring_set(op, TAKT__RING_CANCEL_DUE);\n        uring->cancels_due++;\n", "",
     "gaps:what_finds_the_queue_full_is_asked_for_later"),
    ("ring: a close does not wait for the kernel", U, "    if (!reader && !writer) {",
     "    if (true) {", "contract:uring:a_close_ends_what_is_in_flight_and_the_peer_sees_it"),
    ("ring: a close forgets the writers", U, "    while (writer) {", "    while (false) {",
     "contract:uring:a_close_ends_what_is_in_flight_and_the_peer_sees_it"),
    ("ring: an op that found the queue full fails", U, "        takt__ring_park(uring, op);",
     "        takt__ring_finish(uring, op, -EAGAIN);",
     "gaps:what_finds_the_queue_full_is_asked_for_later"),
    ("ring: running out of descriptors ends a stream", U,
     "        case TAKT__AFTER_A_WHILE:\n            takt__many_later(uring, op);",
     "        case TAKT__AFTER_A_WHILE:\n            takt__ring_finish(uring, op, error);",
     "stream_backend:uring:without_descriptors_it_waits_for_one"),
    ("ring: a close does not wake those who lack descriptors", U,
     "        uring->later_now = true; /* a descriptor has become free */", "        ;",
     "stream_backend:uring:without_descriptors_it_waits_for_one"),
    ("ring: a pool that the kernel found empty ends a stream", U,
     "} else if (error == -ENOBUFS && buffered && !readiness) {", "} else if (false) {",
     "stream_backend"),
    ("ring: a stale accept leaks its descriptor", U,
     "    if (!entry || (!entry->reader && !entry->writer && !entry->closer))\n        close(res);",
     "    (void)entry;", "stream_backend:uring:what_is_stale_gives_back_what_it_carries"),
    ("ring: a shutdown overtakes what was sent before", U,
     "        takt__ring_push(uring); /* what was sent before goes first */\n", "",
     "gaps:a_shutdown_comes_after_what_was_sent_before"),
    ("ring: a connect that fails leaks its socket", U,
     "    close(fd);\n    op->fd = -1;\n    return result;", "    return result;",
     "contract:uring:a_refused_connection_leaves_no_descriptor"),
    ("ring: what was cancelled counts as closed", U,
     "return op->state & TAKT__RING_CANCELLED ? TAKT_ECANCELED : TAKT_ECLOSED;",
     "return TAKT_ECLOSED;", "contract:uring:a_send_that_times_out_tells_how_many_bytes_went"),
    ("ring: a reset reads as a clean end", U, "fd->writer || fd->bits & TAKT__RESET);",
     "false);", "gaps:a_reset_that_a_send_was_told_of_is_no_clean_end"),
    ("a reset reads as a clean end", T,
     "        return -ECONNRESET;\n#else", "        return 0;\n#else", "alike"),
    ("ring: a send waits with a thread of the kernel's", U,
     "uring->send_flags = MSG_NOSIGNAL | MSG_DONTWAIT;",
     "uring->send_flags = MSG_NOSIGNAL | uring->recv_flags;", "fault"),
    ("a short peek looks like all there was", T,
     "if ((uint64_t)n < bytes && !(op->bits & MSG_PEEK))", "if ((uint64_t)n < bytes)", "alike"),
    ("ring: to receive nothing waits", U, "        empty = op->len == 0 || (op->flags",
     "        empty = (op->flags", "gaps:to_receive_nothing_does_not_wait"),
    ("ring: who sleeps on its descriptor is not woken", U,
     "    if (!(uring->rungs & TAKT__RUNG_DEFER_TASKRUN))\n        return uring->ring.ring_fd;",
     "    if (true)\n        return uring->ring.ring_fd;",
     "stream_backend:uring:the_descriptor_announces_what_comes"),
    ("ring: it is freed with requests in the kernel", U,
     "        takt__ring_drain(uring, limit);\n", "        ;\n",
     "stream_backend:uring:connections_that_nobody_takes_are_closed"),
    ("ring: connections of a stream are not marked as descriptors", U,
     "TAKT_MORE | (op->kind == TAKT_OP_ACCEPT ? TAKT_FD : 0)", "TAKT_MORE",
     "stream_backend:uring:every_connection_is_an_item"),
    ("ring: an empty datagram is an end", U,
     "if (res == TAKT__HEAD && out.namelen == 0 && takt__no_more(fd))", "if (res == TAKT__HEAD)",
     "stream_backend:uring"),
    ("ring: the kernel gets all buffers of a pool", U,
     "(ring->bufs->count - ring->bufs->in_use) / 2;", "(ring->bufs->count - ring->bufs->in_use);",
     "gaps:the_kernel_gets_half_of_what_is_not_out"),
    ("ring: a buffer that has come counts as the kernel's", U,
     "    bufs->kept--;\n    return takt__bufs_lend(", "    return takt__bufs_lend(",
     "stream_backend:uring"),
    ("zero copy: a buffer comes back with the op's result", U,
     "    loan->due += (flags & IORING_CQE_F_MORE) != 0;\n", "",
     "zerocopy:every_result_may_have_a_second"),
    ("zero copy: an error has no second completion", U,
     "loan->due += (flags & IORING_CQE_F_MORE) != 0;",
     "loan->due += flags & IORING_CQE_F_MORE && res >= 0;",
     "zerocopy:every_result_may_have_a_second"),
    ("zero copy: a buffer never comes back", U,
     "    if (!loan->place && loan->due <= 0)\n", "    if (false)\n",
     "zerocopy:every_result_may_have_a_second"),
    ("zero copy: a completion of an earlier loan is believed", U,
     "|| key != takt__loan_key(uring, i)) {", ") {",
     "zerocopy:what_is_owed_to_nobody_is_dropped"),
    ("zero copy: a socket that cannot is asked for ever", U, "        loan->copy = true;\n", "",
     "zerocopy:what_it_lacks_a_copy_does_without"),
    ("zero copy: there is no end of loans", U, "else if (uring->loans_fresh < uring->loans_max)",
     "else if (true)", "zerocopy:with_all_loans_out_it_copies"),
    ("zero copy: the ring goes while the kernel reads", U,
     "        uring->starved || uring->zerocopies_held)", "        uring->starved)",
     "zerocopy:the_coroutine_ends_before_its_buffer_is_back"),
    ("zero copy: what never came back is freed", U, "            uring->loans[i].bufs->lost++;",
     "            uring->loans[i].bufs->in_use--;", "zerocopy:what_never_comes_back_is_kept"),
    ("a buffer that was handed over is nobody's for ever", T,
     "    takt__bufs_push(bufs, index);\n    bufs->in_use--;\n}", "    bufs->in_use--;\n}",
     "zerocopy"),
    ("who is to be handed over is not looked at", T,
     "op->kind == TAKT_OP_SEND_LEASE ? takt__handed_check(op)", "false ? takt__handed_check(op)",
     "zerocopy:what_is_refused_is_not_taken"),
    ("a buffer to fill overtakes those in line", T, "    if ((turn || !bufs->waiting) && ",
     "    if (", "zerocopy:a_buffer_is_waited_for_in_turn"),
    ("restrictions: the ring opens files", U, "    X(SQE_OP, IORING_OP_NOP)                 \\\n",
     "    X(SQE_OP, IORING_OP_NOP) X(SQE_OP, IORING_OP_OPENAT) \\\n",
     "restrict:every_other_request_is_refused"),
    ("restrictions: personalities can be registered", U,
     "    X(REGISTER_OP, IORING_REGISTER_EVENTFD)  \\\n",
     "    X(REGISTER_OP, IORING_REGISTER_EVENTFD) "
     "X(REGISTER_OP, IORING_REGISTER_PERSONALITY) \\\n",
     "restrict:every_other_registration_is_refused"),
    ("restrictions: what is not granted is done without", U,
     "        rc = takt__probe_restrict(uring);\n",
     "        takt__probe_restrict(uring);\n",
     "restrict:without_restrictions_there_is_no_ring"),
    ("a datagram is as long as its completion says", U,
     "if (data && (uint32_t)res > bufs->size)", "if (false)",
     "fault:a_datagram_that_lies_about_itself"),
    ("ring: where it is demanded, epoll takes its place", U,
     "        if (config->mode == TAKT_URING_ONLY)\n            return rc;\n    }", "    }",
     "contract:refused:what_was_asked_for_runs_and_says_so"),
]


def sources():
    """What a scratch directory needs: the headers, and the tests beside each other."""
    for name in (T, U, "examples/sandbox.h"):
        yield name
    for name in sorted(os.listdir(os.path.join(ROOT, "test"))):
        if name.endswith((".c", ".h")):
            yield os.path.join("test", name)


def every_test():
    names = [n[:-2] for n in sorted(os.listdir(os.path.join(ROOT, "test"))) if n.endswith(".c")]
    alone = [n for n in names if n not in ("contract", "demo", "doctor", "library", "soak", "two_a",
                                              "two_b")]
    return alone + [f"contract:{b}" for b in ("epoll", "poll", "uring", "refused")]


def mutate(text, old, new):
    """The mutated text; None if `old` does not stand in it exactly once."""
    return text.replace(old, new) if text.count(old) == 1 else None


class Bench:
    """A directory of its own in which one mutant after the other is built and run."""
    def __init__(self, where):
        self.where = where
        self.built = {}  # programs, since a header was written: whether they compiled
        for name in sources():
            os.makedirs(os.path.dirname(os.path.join(where, name)), exist_ok=True)
            shutil.copy(os.path.join(ROOT, name), os.path.join(where, name))

    def write(self, name, text):
        self.built.clear()
        with open(os.path.join(self.where, name), "w", encoding="utf-8") as f:
            f.write(text)

    def noticed(self, test, limit):
        """None if the test passes; else what it says, in a few words."""
        name, _, arguments = test.partition(":")
        program = os.path.join(self.where, name)
        if name not in self.built:
            done = subprocess.run([*CC, f"test/{name}.c", *FLAGS, "-luring", "-o", program],
                                  cwd=self.where, capture_output=True, check=False)
            self.built[name] = done.returncode == 0
        if not self.built[name]:
            return "does not compile"
        try:
            run = subprocess.run([program, *(a for a in arguments.split(":") if a)], cwd=self.where,
                                 stdin=subprocess.DEVNULL, capture_output=True, timeout=limit,
                                 check=False)
        except subprocess.TimeoutExpired:
            return "hangs"
        if run.returncode == 77:
            return "cannot run here"
        if run.returncode == 0:
            return None
        failed = re.findall(r"^FAIL (\S+)", run.stdout.decode(errors="replace"), re.M)
        return f"exit {run.returncode}" + (f": {failed[0]}" if failed else "")


def on_all(benches, items, work):
    """work(bench, item) of each, two at a time."""
    todo = queue.Queue()
    for item in items:
        todo.put(item)

    def serve(bench):
        while True:
            try:
                item = todo.get_nowait()
            except queue.Empty:
                return
            work(bench, item)
    threads = [threading.Thread(target=serve, args=(bench,)) for bench in benches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def baseline(benches, tests):
    """How long each test takes as it is; those that cannot run here are left out."""
    took, broken = {}, []

    def measure(bench, test):
        bench.noticed(test, 120)  # builds it
        begin = time.monotonic()
        said = bench.noticed(test, 120)
        if said is None:
            took[test] = time.monotonic() - begin
        elif said != "cannot run here":
            broken.append(f"{test}, with nothing broken: {said}")
    on_all(benches, tests, measure)
    if broken:
        raise SystemExit("\n".join(broken))
    return took


def try_mutant(bench, original, mutant, took):
    """(killed, words)"""
    _, header, old, new, tests = mutant
    text = mutate(original[header], old, new)
    if text is None:
        return False, f"its text stands {original[header].count(old)} times in {header}"
    bench.write(header, text)
    said = []
    for test in tests.split():
        if test not in took:
            said.append(f"{test} cannot run here")
            continue
        words = bench.noticed(test, 5 + 3 * took[test])
        if words:
            bench.write(header, original[header])
            return words != "does not compile", f"{test}: {words}"
    bench.write(header, original[header])
    return False, "survives " + tests


def main():
    arguments = sys.argv[1:]
    verbose = "-v" in arguments
    words = [a for a in arguments if a not in ("-v", "-a")]
    mutants = [m for m in MUTANTS if not words or any(w in m[0] for w in words)]
    if "-a" in arguments:
        mutants = [(*m[:4], f"{m[4]} {' '.join(every_test())}") for m in mutants]
    original = {}
    for name in (T, U):
        with open(os.path.join(ROOT, name), encoding="utf-8") as f:
            original[name] = f.read()
    results, lock = {}, threading.Lock()
    with tempfile.TemporaryDirectory() as scratch:
        benches = [Bench(os.path.join(scratch, str(i))) for i in range(min(2, os.cpu_count()))]
        took = baseline(benches, sorted({t for m in mutants for t in m[4].split()}))

        def work(bench, mutant):
            begin = time.monotonic()
            killed, said = try_mutant(bench, original, mutant, took)
            with lock:
                results[mutant[0]] = killed
                if verbose or not killed:
                    print(f"{'ok' if killed else 'FAIL'} {mutant[0]} "
                          f"({said}, {time.monotonic() - begin:.0f} s)", flush=True)
        on_all(benches, mutants, work)
    passed = sum(results.values())
    print(f"{passed} passed, {len(mutants) - passed} failed")
    return passed != len(mutants)


sys.exit(main())

# takt-gdb.py - where everything stands, from a core file or a stopped process.
#
#     gdb -q PROGRAM CORE -x test/takt-gdb.py -ex 'takt-dump loop'
#
# takt-dump LOOP prints what takt_dump(&LOOP.sched) would; LOOP is the variable of a loop, a
# pointer to one, or any expression for it. takt-dump-sched EXPR takes a takt_sched instead,
# takt-frame EXPR the stack that a frame stands in. Nothing is called in the program, which
# may be dead. It must have been built with -g. Times are seen from the loop's last look at its
# clock.
import gdb

# The words of takt_op_name() that are not the kind's own name; test/gdb.sh compares.
WORDS = {
    "NONE": "nothing", "ACQUIRE": "semaphore", "BURST": "sendmmsg", "DIAL": "connect",
    "LEASE": "recv", "SEND_LEASE": "send",
    "READY": "readiness", "SETOPT": "setsockopt", "GETOPT": "getsockopt",
    "SOCKNAME": "getsockname", "PEERNAME": "getpeername", "SIGNALS": "signalfd",
}
FOREVER = (1 << 63) - 1
DEPTH = 64


def constant(name):
    """The value of an enumerator of takt.h."""
    return int(gdb.parse_and_eval(name))


def kinds():
    """Number -> word for every kind of op."""
    words = {}
    for field in gdb.lookup_type("takt_op_kind").strip_typedefs().fields():
        name = field.name[len("TAKT_OP_"):]
        if name != "COUNT" and not name.startswith("FIRST_"):
            words.setdefault(field.enumval, WORDS.get(name, name.lower()))
    return words


def in_defer(frame):
    """takt__in_defer()"""
    defers = frame["defers"]
    first, last = defers.type.range()
    return any(int(defers[i]) & constant("TAKT__DEFER_RUNS") for i in range(first, last + 1))


class Dump:
    """One walk through a takt_sched."""

    def __init__(self, sched):
        self.s = sched
        self.words = kinds()
        self.now = int(sched["now"])
        self.strand_type = gdb.lookup_type("takt_strand").pointer()
        self.frame_type = gdb.lookup_type("takt_frame").pointer()
        self.base = int(sched["slots"]["base"])
        self.stride = int(sched["slots"]["stride"])
        self.wait = {}
        for name in ("FREE READY ON_OP ON_SLEEP ON_EVENT ON_BATCH ON_JOIN ON_RACE ON_SCOPE "
                     "ON_GROUP ON_CHILDREN ON_STREAM ON_NEXT").split():
            self.wait[constant("TAKT__" + name)] = name
        self.ages = constant("TAKT__DUMP_AGES") != 0
        self.seen = set()

    # -- what takt__strand_at() and its like do

    def strand(self, place):
        place = int(place)
        if place == 0:
            return None
        if place > int(self.s["slots"]["count"]):
            raise gdb.GdbError("the slab is damaged: place %d" % place)
        return gdb.Value(self.base + (place - 1) * self.stride).cast(self.strand_type)

    def siblings(self, place):
        strand = self.strand(place)
        met = set()
        while strand is not None and int(strand) not in met:
            met.add(int(strand))
            yield strand
            strand = self.strand(strand["sibling_next"])

    def flag(self, strand, name):
        return int(strand["flags"]) & constant("TAKT__" + name) != 0

    def is_root(self, frame):
        return int(frame["bits"]) & constant("TAKT__ROOT") != 0

    def waits(self, strand):
        return self.wait.get(int(strand["wait"]), "?")

    @staticmethod
    def armed(timer):
        return int(timer["next"]) != 0

    @staticmethod
    def ms(ns):
        return "%d ms" % (abs(int(ns)) // 1000000 * (1 if ns >= 0 else -1))

    # -- lines

    @staticmethod
    def line(depth, text):
        print(("  " * min(depth, 40) + text)[:255])

    def since(self, strand):
        op = strand["slot"]["op"]
        when = int(strand["timer"]["when"])
        armed = self.armed(strand["timer"]) and when != FOREVER
        relative = not int(op["flags"]) & constant("TAKT_OP_DEADLINE")
        if self.waits(strand) == "ON_SLEEP":
            if not (armed and relative):
                return 0
            expired = self.flag(strand, "EXPIRED")
            return when - int(op["when"] if expired else op["arg"]["sleep"])
        if self.ages:
            return int(op["result"])
        return when - int(op["when"]) if armed and int(op["when"]) and relative else 0

    def op(self, strand):
        op = strand["slot"]["op"]
        text = self.words.get(int(op["kind"]), "unknown")
        if int(op["fd"]) >= 0:
            text += " fd %d" % int(op["fd"])
        since = self.since(strand)
        return text + (", for %s already" % self.ms(self.now - since) if since else "")

    def orders(self, strand):
        text = ""
        if self.armed(strand["timer"]):
            text = ", %s left" % self.ms(int(strand["timer"]["when"]) - self.now)
        elif self.flag(strand, "EXPIRED"):
            text = ", its limit has passed"
        if self.flag(strand, "REQUEST"):
            return text
        if self.flag(strand, "CANCELLED"):
            return text + ", cancelled"
        return text + (", being stopped" if self.flag(strand, "STOP") else "")

    def waiting(self, strand):
        op = strand["slot"]["op"]
        wait = self.waits(strand)
        text = {
            "READY": "runs, or is ready to",
            "ON_BATCH": "awaits a batch of %d, begun: %d" % (int(op["len"]), int(op["extra"])),
            "ON_JOIN": "joins %d" % int(op["bits"]),
            "ON_RACE": "races %d" % int(op["bits"]),
            "ON_SCOPE": "calls within a limit",
            "ON_GROUP": "joins a group",
            "ON_NEXT": "awaits an item of a stream",
            "ON_CHILDREN": "waits for its children to end",
        }.get(wait, "waits")
        if wait in ("ON_OP", "ON_SLEEP", "ON_EVENT"):
            text = "awaits " + self.op(strand)
        return text + self.orders(strand)

    def state(self, frame):
        bits = int(frame["bits"])
        state = int(frame["state"])
        if state == constant("TAKT__UNWINDING"):
            text = ", in its defer" if in_defer(frame) else ", leaving"
        elif state == constant("TAKT__CATCHING"):
            text = ", in its catch"
        elif state == constant("TAKT__THROWN"):
            text = ", throwing"
        elif bits & constant("TAKT__INTERRUPTED"):
            text = ", interrupted"
        else:
            return ""
        return text + (", error %d" % int(frame["error"]) if int(frame["error"]) else "")

    def new_name(self, frame):
        """Of a coroutine that has not run: its body is known, and so is its name here."""
        block = gdb.block_for_pc(int(frame["of"]["first"]))
        while block:  # it may begin with what was inlined into it
            name = block.function.name if block.function else ""
            name = name.split("(")[0]  # C++ names its arguments too
            if name.endswith("_coro"):
                return name[:-len("_coro")]
            block = block.superblock
        return "(a coroutine)"

    def frame(self, strand, frame, depth):
        if self.flag(strand, "NEW"):
            text = self.new_name(frame) + "  has not run yet" + self.orders(strand)
            return self.line(depth, text)
        coro = frame["of"]["coro"]
        text = "%s  %s:%d  " % (coro["name"].string(), coro["file"].string(),
                                int(frame["line"]) & constant("TAKT__LINES"))
        leaf = int(strand["who"]["leaf"]) == int(frame)
        self.line(depth, text + (self.waiting(strand) if leaf else "calls") + self.state(frame))

    # -- strands

    def batch(self, owner, depth):
        account = owner["slot"]["op"]
        size = gdb.lookup_type("takt_op").sizeof
        for it in self.siblings(account["bits"]):
            index = (int(it["on"]["user_op"]) - int(account["buf"])) // size
            self.line(depth, "[%d] " % index + self.op(it) + self.orders(it))

    def group(self, group, depth):
        text = "(a group of %d" % int(group["count"])
        if int(group["failed"]):
            text += ", failed: %d, the first with %d" % (int(group["failed"]),
                                                         int(group["first_error"]))
        self.line(depth, text + ")")
        self.list(group["members"], depth + 1)

    def attached(self, strand, frame, depth):
        it = strand["on"]["attached"]
        while int(it):
            if int(it["owner"]) == int(frame):
                if int(it["kind"]) == constant("TAKT__GROUP"):
                    self.group(it.cast(gdb.lookup_type("takt_group").pointer()), depth)
                elif int(it["kind"]) == constant("TAKT__IDLE"):
                    due = int(it.cast(gdb.lookup_type("takt_idle").pointer())["due"])
                    self.line(depth, "(an idle limit, %s left)" % self.ms(due - self.now))
            it = it["next"]

    def list(self, place, depth):
        if depth < DEPTH:
            for strand in self.siblings(place):
                self.one(strand, depth)

    def one(self, strand, depth):
        if int(strand) in self.seen:
            return
        self.seen.add(int(strand))
        chain = [strand["who"]["leaf"]]
        while not self.is_root(chain[-1]) and len(chain) < DEPTH:
            chain.append(chain[-1]["parent"])
        if not self.is_root(chain[-1]):
            self.line(depth, "(its first callers are left out)")
        for frame in reversed(chain):
            self.frame(strand, frame, depth)
            depth += 1
            self.list(frame["children"], depth)
            self.attached(strand, frame, depth)
        if self.waits(strand) == "ON_BATCH":
            self.batch(strand, depth)

    # -- the loop

    def used(self):
        """All strands that are in use, by place."""
        for place in range(1, int(self.s["fresh"]) + 1):
            strand = self.strand(place)
            if self.waits(strand) != "FREE":
                yield strand

    def groups(self):
        for strand in self.used():
            if self.flag(strand, "REQUEST") or int(strand["sibling_prev"]):
                continue
            frame = strand["who"]["leaf"]
            while not self.is_root(frame):
                frame = frame["parent"]
            if int(frame["bits"]) & constant("TAKT__GROUPED"):
                group = frame["parent"].cast(gdb.lookup_type("takt_group").pointer())
                if not int(group["link"]["owner"]):
                    self.group(group, 1)

    def pools(self):
        config = self.s["config"]
        for i in range(int(config["pool_count"])):
            pool = config["pools"][i]
            self.line(0, "pool %s: %d of %d used, at most %d, refused: %d" % (
                pool["name"].string(), int(pool["used"]), int(pool["count"]),
                int(pool["used_max"]), int(pool["refused"])))

    def buffers(self):
        leases = (constant("TAKT_OP_LEASE"), constant("TAKT_OP_BUFFER"))
        met = set()
        for strand in self.used():
            op = strand["slot"]["op"]
            if self.waits(strand) != "ON_OP" or int(op["kind"]) not in leases or len(met) == 16:
                continue
            bufs = op["arg"]["ptr"].cast(gdb.lookup_type("takt_bufs").pointer())
            if int(bufs) in met:
                continue
            met.add(int(bufs))
            self.line(0, "buffers of %d bytes: %d of %d used, at most %d, waited for: %d" % (
                int(bufs["size"]), int(bufs["in_use"]), int(bufs["count"]),
                int(bufs["in_use_max"]), int(bufs["waits"])))

    def head(self):
        s = self.s
        text = "takt: %d tasks, %d of %d strands (at most %d), %d timers, turn %d" % (
            int(s["pending"]), int(s["strands_used"]),
            int(s["slots"]["count"]) - (not int(s["alone"])),
            int(s["strands_max"]), int(s["wheel"]["count"]), int(s["stats"]["turns"]))
        if int(s["fatal"]):
            text += ", ended: error %d" % int(s["fatal"])
        elif bool(s["stopping"]):
            text += ", stopping"
        self.line(0, text)

    def all(self):
        self.head()
        self.list(self.s["tasks"], 1)
        self.groups()
        self.pools()
        self.buffers()


def value_of(expression):
    """An object, whether it is named itself or by a pointer."""
    value = gdb.parse_and_eval(expression)
    while value.type.strip_typedefs().code == gdb.TYPE_CODE_PTR:
        value = value.dereference()
    return value


class TaktDump(gdb.Command):
    """takt-dump LOOP: prints every strand of a loop as a logical stack."""

    def __init__(self):
        super().__init__("takt-dump", gdb.COMMAND_STACK, gdb.COMPLETE_SYMBOL)

    def invoke(self, argument, from_tty):
        Dump(value_of(argument or "loop")["sched"]).all()


class TaktDumpSched(gdb.Command):
    """takt-dump-sched EXPR: the same of a takt_sched, or a pointer to one."""

    def __init__(self):
        super().__init__("takt-dump-sched", gdb.COMMAND_STACK, gdb.COMPLETE_SYMBOL)

    def invoke(self, argument, from_tty):
        Dump(value_of(argument)).all()


class TaktFrame(gdb.Command):
    """takt-frame EXPR: the strand that a live takt_frame, or a struct with one, stands in."""

    def __init__(self):
        super().__init__("takt-frame", gdb.COMMAND_STACK, gdb.COMPLETE_SYMBOL)

    def invoke(self, argument, from_tty):
        value = value_of(argument)
        fields = [field.name for field in value.type.strip_typedefs().fields()]
        frame = value["frame"] if "frame" in fields else value
        strand = frame["strand"]
        if not int(strand):
            raise gdb.GdbError("the coroutine is not alive")
        # a pointer to the scheduler stands in the place before the first strand
        place = (strand - int(strand["slot"]["index"]) - 1)
        sched = place.cast(gdb.lookup_type("takt_sched").pointer().pointer()).dereference()
        Dump(sched.dereference()).one(strand, 0)


TaktDump()
TaktDumpSched()
TaktFrame()

# takt - two headers; this builds the examples and runs the checks.
#
#   make          the examples, into build/
#   make demo     a proxy written in takt carries traffic, and every byte is compared
#   make test     the default suite: gcc plain and under ASan + UBSan on every backend,
#                 clang and C++ compiling everything
#   make contract    each statement of the contract, its tests, how they went; deviations
#   make CC=clang CXX=clang++ ...   another compiler
#
# demo and test install what is missing, by way of `make deps`. The longer runs are targets
# of their own: peers storm soak security rungs kernels mutants bench valgrind asan tsan
# rooms wrong tidy symbols
# readme ports coverage.

CC ?= cc
CXX ?= c++
CFLAGS ?= -O2 -g
PREFIX ?= /usr/local
WARN = -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wimplicit-fallthrough -Werror
CXXWARN = -Wall -Wextra -Wconversion -Wshadow -Wimplicit-fallthrough -Werror
CPPFLAGS += -D_GNU_SOURCE -I.
SAN = -O0 -g -fsanitize=address,undefined -fno-sanitize-recover=all
TSAN = -O1 -g -fsanitize=thread
# every number that wraps around without being meant to, too
INT = -O0 -g -fsanitize=undefined,integer -fno-sanitize=unsigned-shift-base \
      -fno-sanitize-recover=all -fsanitize-ignorelist=test/integer.ignore
LDLIBS += -luring

HEADERS = takt.h takt_uring.h
PARTS = $(wildcard examples/*.h)
# those whose library is missing are left out
there = $(shell $(CC) -E -include $(1) -x c /dev/null > /dev/null 2>&1 && echo yes)
LEFT_OUT := $(if $(call there,enet/enet.h),,enet) $(if $(call there,uv.h),,uv)
EXAMPLES = $(filter-out $(LEFT_OUT),$(patsubst examples/%.c,%,$(wildcard examples/*.c)))
ROOMS = $(filter-out demo doctor library soak two_a two_b,\
                     $(patsubst test/%.c,%,$(wildcard test/*.c)))
# Those whose .san is a program of several files, where their other forms are of one. The
# others replace parts of the library, or look into it.
LINKED = burst chan choose contract dump embed group guests loop net op outcome \
         proxy_protocol sandbox sched stream_backend stream_loop timer
ELSEWHERE = -DTAKT_IMPLEMENTED -DTAKT_URING_IMPLEMENTED # is the implementation
BACKENDS = epoll poll uring refused
SOURCES = $(HEADERS) $(wildcard examples/*.[ch] test/*.c test/*.h test/*.cc test/enet/*.c \
                               test/resolve/*.c)
VARIANTS = $(ROOMS) $(ROOMS:%=%.san)
# whose tests name statements of the contract
STATED = $(shell grep -lE '^/\* [A-Z]{2}-[0-9]' test/*.c | sed 's|test/||; s|\.c$$||')
# contract.c is told which backend; all others run as they are
SUITE = $(foreach v,$(filter-out contract contract.%,$(VARIANTS)),"build/test/$v") \
        $(foreach b,$(BACKENDS),"build/test/contract $b" "build/test/contract.san $b") \
        $(foreach b,poll uring,"build/test/contract.clang $b" "build/test/contract.cxx $b")

all: examples

examples: $(EXAMPLES:%=build/%) build/doctor

demo: deps examples build/demo
	@test/demo.sh

# The longest first, those that compute beside those that wait.
test: deps
	@$(MAKE) --no-print-directory -j2 build-test
	@test/run.sh "test/wrong/run.sh" "test/proxy.py build/proxy.san uring" "test/symbols.sh" \
	    "test/proxy.py build/proxy.san poll" "test/proxy.py build/proxy refused" \
	    "LIBRARY=build/library.san.o test/readme.sh README.md" \
	    "test/proxy.py build/proxy uring+threads+sandbox" "test/gdb.sh" \
	    "test/rooms.sh $(HEADERS)" "test/options.py build/linked" \
	    "test/chat.py build/chat.san uring" "test/chat.py build/chat.san poll" \
	    "test/relay.py build/relay.san uring" "test/relay.py build/relay.san poll" \
	    "test/relay.py build/linked/relay uring sandbox" \
	    "test/game.py build/game.san build/linked/game uring 1145" \
	    "test/game.py build/game.san build/linked/game poll 200" \
	    "test/enet/enet.py build/enet.san build/enet.hidden build/enet.peer uring" \
	    "test/enet/enet.py build/enet.san build/enet.hidden build/enet.peer poll" \
	    "test/embed.py build/embed.san uring" "test/embed.py build/embed.san poll" \
	    "test/uv.py build/uv.san uring" "test/uv.py build/uv.san poll" \
	    "test/resolve/resolve.py build/resolve.held.tsan uring" \
	    "test/resolve/resolve.py build/resolve.held.san poll" \
	    "test/udp_echo.py build/udp_echo.san uring" "test/udp_echo.py build/udp_echo.san poll" \
	    "test/per_core.py build/linked/per_core" "build/soak build/proxy uring 0.5" \
	    "TAKT_RESTRICT=1 build/test/contract uring" "test/contract.sh" \
	    "test/tidy.sh $(SOURCES)" "test/fault/coverage.sh" \
	    $(SUITE) build/test/two build/test/cxx

check: test

build-test: build/proxy $(EXAMPLES:%=build/linked/%) build/linked/doctor build/soak \
            $(EXAMPLES:%=build/%.read) \
            build/proxy.san build/chat.san build/udp_echo.san \
            build/game.san build/embed.san build/relay.san \
            build/enet.san build/enet.hidden build/enet.peer build/uv.san \
            build/resolve.held.tsan build/resolve.held.san \
            $(VARIANTS:%=build/test/%) build/test/two build/test/cxx build/test/contract.clang \
            build/test/contract.cxx $(ROOMS:%=build/test/%.read)

# clang and C++ read everything, and see to its warnings; contract.c do they build, too
build/test/%.read: test/%.c $(wildcard test/*.h) $(HEADERS) | build/test
	clang -std=c11 $(WARN) $(CPPFLAGS) -fsyntax-only $<
	$(CXX) -x c++ -std=c++17 $(CXXWARN) $(CPPFLAGS) -fsyntax-only $<
	@touch $@

# as people would install them: without the search for misuse at run time
build/%: examples/%.c $(PARTS) $(HEADERS) | build/test
	$(CC) -std=c11 $(WARN) $(CPPFLAGS) -DNDEBUG $(CFLAGS) $< $(LDLIBS) -o $@
# the same with the library compiled once for all
build/linked/%: examples/%.c build/library.o $(PARTS) $(HEADERS) | build/linked
	$(CC) -std=c11 $(WARN) $(CPPFLAGS) -DNDEBUG $(CFLAGS) $(ELSEWHERE) $< build/library.o \
	    $(LDLIBS) -o $@
build/linked/%: test/%.c build/library.o $(HEADERS) | build/linked
	$(CC) -std=c11 $(WARN) $(CPPFLAGS) -DNDEBUG $(CFLAGS) $(ELSEWHERE) $< build/library.o \
	    $(LDLIBS) -o $@
build/%.san: examples/%.c build/library.san.o $(PARTS) $(HEADERS) | build/test
	$(CC) -std=c11 $(WARN) $(CPPFLAGS) $(SAN) $(ELSEWHERE) $< build/library.san.o $(LDLIBS) -o $@
build/library.o: test/library.c $(HEADERS) | build/test
	$(CC) -std=c11 $(WARN) $(CPPFLAGS) -DNDEBUG $(CFLAGS) -c $< -o $@
build/library.san.o: test/library.c $(HEADERS) | build/test
	$(CC) -std=c11 $(WARN) $(CPPFLAGS) $(SAN) -c $< -o $@
build/%.tsan: examples/%.c $(PARTS) $(HEADERS) | build/test
	$(CC) -std=c11 $(WARN) $(CPPFLAGS) $(TSAN) $< $(LDLIBS) -o $@
build/%.read: examples/%.c $(PARTS) $(HEADERS) | build/test
	$(CXX) -x c++ -std=c++17 $(CXXWARN) $(CPPFLAGS) -fsyntax-only $<
	clang -std=c11 $(WARN) $(CPPFLAGS) $< $(LDLIBS) -o $@ # complete, each
build/%.clang: examples/%.c $(PARTS) $(HEADERS) | build/test
	clang -std=c11 $(WARN) $(CPPFLAGS) $(CFLAGS) $< $(LDLIBS) -o $@
build/%.cxx: examples/%.c $(PARTS) $(HEADERS) | build/test
	$(CXX) -x c++ -std=c++17 $(CXXWARN) $(CPPFLAGS) $(CFLAGS) $< $(LDLIBS) -o $@
build/uv build/uv.% build/linked/uv: LDLIBS += -luv
$(foreach t,guests proxy_protocol,build/test/$t build/test/$t.san build/test/$t.read): $(PARTS)
build/enet build/enet.% build/linked/enet: LDLIBS += -lenet
build/enet.hidden: examples/enet.c $(PARTS) $(HEADERS) | build/test
	$(CC) -std=c11 $(WARN) $(CPPFLAGS) -O1 -g -fvisibility=hidden $< $(LDLIBS) -o $@
build/enet.peer: test/enet/peer.c | build/test
	$(CC) -std=c11 $(WARN) $(CPPFLAGS) -O1 -g $< $(LDLIBS) -o $@
# with a getaddrinfo() of the test's
HELD = examples/resolve.c test/resolve/hold.c
build/resolve.held.san: $(HELD) build/library.san.o $(PARTS) $(HEADERS) | build/test
	$(CC) -std=c11 $(WARN) $(CPPFLAGS) $(SAN) $(ELSEWHERE) $(HELD) build/library.san.o \
	    $(LDLIBS) -o $@
build/resolve.held.tsan: $(HELD) $(PARTS) $(HEADERS) | build/test
	$(CC) -std=c11 $(WARN) $(CPPFLAGS) $(TSAN) $(HELD) $(LDLIBS) -o $@
build/doctor: test/doctor.c $(HEADERS) | build/test
	$(CC) -std=c11 $(WARN) $(CPPFLAGS) $(CFLAGS) $< $(LDLIBS) -o $@
build/soak: test/soak.c | build/test
	$(CC) -std=c11 $(WARN) $(CPPFLAGS) -O2 -g $< -o $@
build/demo: test/demo.c | build/test
	$(CC) -std=c11 $(WARN) $(CPPFLAGS) $(CFLAGS) $< -o $@
build/test/%: test/%.c test/test.h $(wildcard test/*.h) $(HEADERS) | build/test
	$(CC) -std=c11 $(WARN) $(CPPFLAGS) -O0 -g $< $(LDLIBS) -o $@
build/test/contract: test/contract.c $(wildcard test/*.h) $(HEADERS) | build/test
	$(CC) -std=c11 $(WARN) $(CPPFLAGS) -O1 -g $< $(LDLIBS) -o $@
build/test/%.san: test/%.c $(wildcard test/*.h) $(HEADERS) | build/test
	$(CC) -std=c11 $(WARN) $(CPPFLAGS) $(SAN) $< $(LDLIBS) -o $@
$(LINKED:%=build/test/%.san): build/test/%.san: test/%.c build/library.san.o $(wildcard test/*.h)
	$(CC) -std=c11 $(WARN) $(CPPFLAGS) $(SAN) $(ELSEWHERE) $< build/library.san.o $(LDLIBS) -o $@
build/%.int: examples/%.c $(PARTS) $(HEADERS) test/integer.ignore | build/test
	clang -std=c11 $(WARN) $(CPPFLAGS) $(INT) $< $(LDLIBS) -o $@
build/test/%.int: test/%.c $(wildcard test/*.h) $(HEADERS) test/integer.ignore | build/test
	clang -std=c11 $(WARN) $(CPPFLAGS) $(INT) $< $(LDLIBS) -o $@
build/test/%.tsan: test/%.c $(wildcard test/*.h) $(HEADERS) | build/test
	$(CC) -std=c11 $(WARN) $(CPPFLAGS) $(TSAN) $< $(LDLIBS) -o $@
build/test/%.clang: test/%.c $(wildcard test/*.h) $(HEADERS) | build/test
	clang -std=c11 $(WARN) $(CPPFLAGS) -O1 $< $(LDLIBS) -o $@
build/test/%.cxx: test/%.c $(wildcard test/*.h) $(HEADERS) | build/test
	$(CXX) -x c++ -std=c++17 $(CXXWARN) $(CPPFLAGS) -O1 $< $(LDLIBS) -o $@
build/test/cxx: test/cxx.cc $(wildcard test/*.h) $(HEADERS) | build/test
	$(CXX) -std=c++17 $(CXXWARN) $(CPPFLAGS) -O1 $< $(LDLIBS) -o $@
build/test/two: test/two_a.c test/two_b.c $(HEADERS) | build/test
	$(CC) -std=c11 $(WARN) $(CPPFLAGS) -O0 -g test/two_a.c test/two_b.c $(LDLIBS) -o $@
build/test build/linked:
	mkdir -p $@

asan: $(ROOMS:%=build/test/%.san)
	@test/run.sh $(filter %.san %.san\ %,$(SUITE)) "build/test/contract.san uring"
# fault.c takes limits away that valgrind needs, and has processes that die; restrict.c asks the
# kernel for what valgrind would not
valgrind: $(ROOMS:%=build/test/%)
	@test/run.sh $(foreach v,$(filter-out contract fault restrict,$(ROOMS)),"test/valgrind.sh build/test/$v") \
	    $(foreach b,$(BACKENDS),"test/valgrind.sh build/test/contract $b")
tsan: build/test/post.tsan build/per_core.tsan build/proxy.tsan # whatever has threads
	@test/run.sh build/test/post.tsan "test/per_core.py build/per_core.tsan" \
	    "test/proxy.py build/proxy.tsan uring+threads" "test/proxy.py build/proxy.tsan poll+threads"
GIB = 64
soak: build/proxy build/soak # so much through the proxy, on each backend; every byte is checked
	@LIMIT=3000 JOBS=1 test/run.sh "build/soak build/proxy uring $(GIB)" \
	    "build/soak build/proxy poll $(GIB)"
INTEGERS = op memory relay stream loop burst sched
security: build/proxy build/proxy.int build/relay build/relay.int build/http build/test/sandbox \
          build/per_core $(INTEGERS:%=build/test/%.int) # floods, sandbox, numbers that wrap around
	@LIMIT=1200 JOBS=1 test/run.sh "test/security.py build/proxy uring poll" \
	    "test/security.py build/proxy uring+threads+sandbox" build/test/sandbox \
	    $(foreach b,uring+sandbox poll+sandbox refused+sandbox,"test/proxy.py build/proxy $b") \
	    $(INTEGERS:%=build/test/%.int) "test/proxy.py build/proxy.int uring poll" \
	    $(foreach b,uring poll,"test/relay.py build/relay.int $b" \
	        "test/relay.py build/relay $b million spoofed_sources_fill_nothing")
peers: examples
	@test/peers.sh $(SECONDS)
storm: examples build/proxy.san
	@LIMIT=600 test/run.sh $(foreach b,uring poll refused,"test/storm.py build/proxy $b $(SECONDS)" \
	                                            "test/storm.py build/proxy.san $b $(SECONDS)")
mutants: # the library broken in a hundred places: the suite has to notice each
	@test/mutants.py
rungs: examples $(foreach t,contract stream_backend fault restrict zerocopy,build/test/$t)
	@test/rungs.sh
kernels: examples $(ROOMS:%=build/test/%) # others than the running one
	@test/kernels.sh $(ROOMS)
deps-kernels:
	@test/deps.sh kernels
bench: examples
	@test/bench/run.py
rooms:
	@test/rooms.sh $(HEADERS)
wrong:
	@test/wrong/run.sh
contract: $(STATED:%=build/test/%)
	@test/contract.sh
tidy:
	@test/tidy.sh $(SOURCES)
symbols:
	@test/symbols.sh
readme:
	@test/readme.sh README.md
ports: # other levels, machines and libraries; `make deps-ports` installs what that takes
	@test/ports.sh
deps-ports:
	@test/deps.sh ports
coverage: deps-coverage
	@test/coverage.sh $(ROOMS) lend.asan corners.ndebug stream_loop.ndebug
deps-coverage:
	@test/deps.sh coverage

# The only place where anything is installed: as root, with a sudo that asks nothing, or in CI.
deps:
	@test/deps.sh

install:
	install -d $(DESTDIR)$(PREFIX)/include
	install -m 644 $(HEADERS) $(DESTDIR)$(PREFIX)/include

clean:
	rm -rf build

.PHONY: all examples demo test check build-test asan tsan security soak valgrind peers storm rungs \
        kernels mutants bench rooms wrong tidy symbols readme contract ports coverage deps \
        deps-ports deps-kernels deps-coverage install clean

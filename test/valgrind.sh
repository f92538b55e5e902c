#!/bin/sh
# valgrind.sh COMMAND... - runs it under valgrind; errors and leaks are failures.
command -v valgrind > /dev/null || { echo "valgrind is not installed"; exit 77; }
exec valgrind -q --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=all \
    --show-leak-kinds=all "$@"

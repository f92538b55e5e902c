#!/bin/sh
# coverage.sh - each fault has one row in COVERAGE.md, and each test that is named there exists.
set -u
cd "$(dirname "$0")/../.." || exit 1
table=test/fault/COVERAGE.md
passed=0
failed=0

check() { # TEXT STATUS
    if [ "$2" -eq 0 ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL $1"
    fi
}

there_is() { # FILE: NAME, or wrong/FILE
    case $1 in
    wrong/*) [ -e "test/$1" ] ;;
    *.py:*) grep -q "^def ${1##*: }(" "test/${1%%:*}" ;;
    *.c:*) grep -q "^ *TEST(${1##*: })" "test/${1%%:*}" ;;
    *.c) [ -e "test/$1" ] ;;
    *) false ;;
    esac
}

for section in A:26 B:23 C:18 D:21 E:21 H:9 I:20 S:30; do
    i=1
    while [ $i -le "${section#*:}" ]; do
        id=${section%:*}$i
        i=$((i + 1))
        rows=$(grep -c "^| $id | " $table)
        [ "$rows" -eq 1 ]
        check "$id has $rows rows" $?
        tests=$(sed -n "s/^| $id | [^|]* | *\([^|]*[^| ]\) *|.*/\1/p" $table)
        why=$(sed -n "s/^| $id | [^|]* |[^|]*| *\([^| ][^|]*\) |\$/\1/p" $table)
        [ -n "$tests$why" ]
        check "$id has neither a test nor a reason" $?
    done
done
named=$(mktemp)
trap 'rm -f "$named"' EXIT
awk -F ' *[|] *' '/^\| [A-Z][0-9]+ / { print $4 } /^## Rungs/ { rungs = 1 } rungs { print $4 }' $table |
    tr ';' '\n' | sed 's/^ *//; s/ *$//' | grep -E '^(wrong/|[a-z_]+\.(c|py)(: |$))' | sort -u > "$named"
while read -r test; do
    there_is "$test"
    check "there is no $test" $?
done < "$named"
[ "$(wc -l < "$named")" -gt 50 ]
check "hardly a test is named" $?
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]

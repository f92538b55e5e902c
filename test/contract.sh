#!/bin/sh
# contract.sh - each statement of the contract, the tests that name it, and how they went.
#
# test/STATEMENTS has the statements: ID | words. A test names those that it shows in the
# comment directly above it. test/DEVIATIONS says where takt is different and why; a
# statement may be "not applicable" there, and needs no test then. Every program that has
# such a test is run once, as build/test/NAME.
#
# A statement is tested if a test that names it has passed, and none has failed.
set -u
cd "$(dirname "$0")/.." || exit 1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# "ID NAME TEST" of each statement that FILE's tests name.
named() {
    awk -v name="$(basename "$1" .c)" '
        /^\/\*/ { comment = ""; inside = 1 }
        inside { comment = comment $0 }
        inside && /\*\/$/ { inside = 0; closed = FNR }
        /^static void [a-z0-9_]+\(void\)$/ && closed == FNR - 1 {
            test = $3
            sub(/\(.*/, "", test)
            ids[test] = comment
        }
        /^        TEST\(/ {
            test = $0
            gsub(/^ *TEST\(|\),?$/, "", test)
            text = ids[test]
            while (match(text, /[A-Z][A-Z]-[0-9]+/)) {
                print substr(text, RSTART, RLENGTH), name, test
                text = substr(text, RSTART + RLENGTH)
            }
        }' "$1"
}

for file in test/*.c; do
    named "$file" > "$scratch/here"
    [ -s "$scratch/here" ] || continue
    cat "$scratch/here" >> "$scratch/named"
    program=$(basename "$file" .c)
    timeout -k 5 120 "build/test/$program" -v > "$scratch/said" 2>&1 < /dev/null ||
        echo "build/test/$program: it ended with status $?" >> "$scratch/broken"
    grep -E '^(ok|FAIL) ' "$scratch/said" | sed "s/ / $program /" >> "$scratch/results"
done
touch "$scratch/broken" "$scratch/results"
cat "$scratch/broken"

awk -v statements=test/STATEMENTS -v deviations=test/DEVIATIONS -v named="$scratch/named" \
    -v results="$scratch/results" '
    function wrong(text) { print "FAIL " text; failed++ }

    BEGIN {
        FS = " [|] "
        while ((getline < statements) > 0) {
            if ($1 in words) wrong(statements ": " $1 " twice")
            order[++count] = $1
            words[$1] = $2
        }
        while ((getline < deviations) > 0) {
            if (/^#/) continue
            if (NF != 3 || !($1 in words) || $1 in what) wrong(deviations ": " $0)
            what[$1] = $2
            why[$1] = $3
        }
        FS = " "
        while ((getline < results) > 0) result[$2 " " $3] = $1
        while ((getline < named) > 0) {
            if (!($1 in words)) wrong(named_by($2, $3) " names " $1 ", which is no statement")
            went = $2 " " $3 in result ? result[$2 " " $3] : "not run:"
            tests[$1] = tests[$1] "\n             " (went == "ok" ? "" : went " ") named_by($2, $3)
            if (went == "ok") good[$1]++
            else bad[$1]++
        }
        for (i = 1; i <= count; i++) report(order[i])
        printf "%d statements: %d tested, %d deviating, %d not applicable, %d without a test\n",
            count, tested, deviating, none, without
        printf "%d passed, %d failed\n", passed, failed
        exit failed > 0 || passed == 0
    }

    function named_by(program, test) { return "test/" program ".c: " test }

    function report(id) {
        differs = id in what ? what[id] : ""
        no = differs == "not applicable"
        mark = bad[id] ? "FAIL" : good[id] ? "ok" : no ? "-" : "FAIL"
        printf "%-4s  %-5s  %s%s\n", mark, id, words[id], tests[id]
        if (mark == "FAIL" && !good[id]) print "             no test that names it has passed"
        if (differs)
            printf "             %s%s\n             because: %s\n", no ? "" : "deviates: ", differs,
                why[id]
        if (mark == "FAIL") failed++
        else passed++
        if (mark == "FAIL") without++
        else if (no) none++
        else if (differs) deviating++
        else tested++
    }'

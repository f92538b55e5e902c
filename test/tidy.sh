#!/bin/sh
# tidy.sh FILE... - what a reviewer should not have to say.
#
# Everywhere: lines of at most 100 columns (tables and links of a .md may be longer), no tabs
# (save in a Makefile), no trailing blanks, a newline at the end, nothing left to be done.
# In C: no function of more than 70 lines, no code that is switched off.
# In headers: a comment above every public declaration (a run of them may share one), and no
# public name that does not begin with TAKT_.
set -u
passed=0
failed=0
said=$(mktemp)
trap 'rm -f "$said"' EXIT

everywhere() {
    LC_ALL=C.UTF-8 awk -v name="$1" '
        function say(text) { printf "%s:%d: %s\n", name, FNR, text }
        { line = $0; gsub(/[\200-\277]/, "", line) } # mawk counts bytes
        length(line) > 100 && !(name ~ /\.md$/ && /^\||https?:/) { say("longer than 100 columns") }
        /\t/ && name !~ /(^|\/)(Makefile|.*\.mk)$/ { say("a tab") }
        /[ \t\r]$/ { say("a trailing blank") }
        /(^|[^A-Za-z_])(TOD[O]|FIXM[E]|XX[X])([^A-Za-z_]|$)/ { say("something left to be done") }
    ' "$1"
    if [ -s "$1" ] && [ -n "$(tail -c 1 "$1")" ]; then
        echo "$1: no newline at the end"
    fi
}

in_c() {
    awk -v name="$1" '
        function say(text) { printf "%s:%d: %s\n", name, FNR, text }
        /^[ ]*#[ ]*if[ ]+[0]/ { say("code that is switched off") }
        /^[{]/ || (/[{]$/ && /^[a-z].*[)] *[{]$/) { start = FNR }
        /^[}]/ {
            if (start && FNR - start - 1 > 70) say("a function of " FNR - start - 1 " lines")
            start = 0
        }
    ' "$1"
}

in_headers() {
    awk -v name="$1" '
        function say(text) { printf "%s:%d: %s\n", name, FNR, text }

        # -- names: what is defined is ours, or is undefined again
        /^[ ]*#[ ]*define[ ]/ {
            macro = $0
            sub(/^[ ]*#[ ]*define[ ]+/, "", macro)
            sub(/[^A-Za-z0-9_].*/, "", macro)
            if (macro !~ /^TAKT_/ && macro != "_GNU_SOURCE") defined[macro] = FNR
        }
        /^[ ]*#[ ]*undef[ ]/ { delete defined[$NF] }

        # -- comments: above every public function, type and word
        /^#ifdef TAKT_IMPLEMENTATION/ || /nothing below is API/ { private = 1 }
        private { next }
        {
            function_here = /^[a-zA-Z].*[ *]takt_[a-z0-9][a-z0-9_]*\(/ && !/^typedef/ &&
                            !/takt__[a-z]/
            type_here = /^(typedef )?(struct|union|enum) takt_[a-z0-9_]+ [{]/ && !/takt__/
            word_here = /^#define TAKT_[A-Z][A-Z_0-9]*\(/
            close_above = before ~ /[*]\/$/
            near_above = close_above || (before == "" && before_that ~ /[*]\/$/)
            if (function_here && !close_above && !in_run)
                say("public, but nothing above says what it does")
            if (type_here && !near_above && before !~ /^struct [a-z_]+;$/)
                say("a public type, but nothing above says what it is")
            if (word_here && !near_above && before !~ /[*]\/$/)
                say("a public word, but nothing above says what it does")
            # a run: prototypes directly below one another
            if (function_here) in_run = 1
            else if (in_run && !(before !~ /;$/ && /^ /)) in_run = 0
            if ($0 == "" || /^[{]/) in_run = 0
            before_that = before
            before = $0
        }
        END { for (macro in defined) printf "%s:%d: defines %s\n", name, defined[macro], macro }
    ' "$1"
}

for file; do
    [ -d "$file" ] && continue
    if [ ! -f "$file" ]; then
        echo "$file: not there" > "$said"
    else
        everywhere "$file" > "$said"
        case $file in *.c | *.cc | *.h) in_c "$file" >> "$said" ;; esac
        case $(basename "$file") in takt*.h) in_headers "$file" >> "$said" ;; esac
    fi
    if [ -s "$said" ]; then
        cat "$said"
        failed=$((failed + $(wc -l < "$said")))
    else
        passed=$((passed + 1))
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]

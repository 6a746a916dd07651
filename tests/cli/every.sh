#!/usr/bin/env bash
# What holds for every subcommand because it is declared: the list equals the folder, help and man page exist, options are documented
# and unique, bounds are checked, unknown options name the nearest.
set -u
ounce=$1; src=${OUNCE_SOURCE_DIR:-.}
unset OUNCE_ISA
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
fails=0
bad() { echo "FAIL $*"; fails=$((fails + 1)); }

grep -oE 'X\([a-z_]+\)' "$src/src/cli/list.h" | sed 's/X(//; s/)//' >"$tmp/list"
sort -c "$tmp/list" || bad "list.h is not sorted"
grep -lE '^const cli_command cli_' "$src"/src/cli/*.c | sed 's/.*\///; s/\.c$//' | sort >"$tmp/folder"
diff "$tmp/list" "$tmp/folder" >"$tmp/diff" || { bad "list.h and src/cli differ (< list, > folder):"; cat "$tmp/diff"; }

for word in $(cat "$tmp/list"); do
    sub=${word//_/-}
    "$ounce" help "$sub" >"$tmp/help" 2>"$tmp/err" || bad "help $sub: $(cat "$tmp/err")"
    "$ounce" "$sub" --help 2>&1 | cmp -s - "$tmp/help" || bad "$sub --help differs from help $sub"
    "$ounce" help --man "$sub" | grep -q '^.SH OPTIONS' || bad "$sub has no man page"
    grep -q -- '--json' "$tmp/help" && ! grep -q 'keys of --json' "$tmp/help" && bad "$sub: keys of --json are not documented"
    grep -oE '^ +(-[a-z], )?--[a-z0-9-]+' "$tmp/help" | grep -oE -- '--[a-z0-9-]+' >"$tmp/options"
    d=$(sort "$tmp/options" | uniq -d); [ -z "$d" ] || bad "$sub: declared twice: $d"
    d=$(grep -oE '^ +-[a-z], --' "$tmp/help" | sort | uniq -d); [ -z "$d" ] || bad "$sub: short name twice: $d"
    "$ounce" "$sub" --no-such-option-at-all >"$tmp/out" 2>"$tmp/err" </dev/null; code=$?
    [ $code = 2 ] && grep -q 'there is no option --no-such-option-at-all' "$tmp/err" || bad "$sub: an unknown option gives $code: $(cat "$tmp/err")"
    "$ounce" "$sub" --quite >"$tmp/out" 2>"$tmp/err" </dev/null; code=$?
    [ $code = 2 ] && grep -q 'nearest is --quiet' "$tmp/err" || bad "$sub --quite gives $code: $(cat "$tmp/err")"
    # Every option with bounds refuses what lies outside them.
    sed 's/^ *\(-[a-z], \)\?//' "$tmp/help" | awk '/^--/ {name = $1} match($0, /\(-?[0-9.e+-]+ to -?[0-9.e+-]+/) {print name, substr($0, RSTART + 1, RLENGTH - 1)}' >"$tmp/bounds"
    while read -r option low _ high; do
        for value in $(python3 -c "print($low - 1, $high + 1, 'abc')"); do
            "$ounce" "$sub" "$option=$value" >"$tmp/out" 2>"$tmp/err" </dev/null; code=$?
            [ $code = 2 ] && grep -q -- "$option must be" "$tmp/err" || bad "$sub $option=$value gives $code: $(cat "$tmp/err")"
        done
    done <"$tmp/bounds"
done
[ $fails = 0 ] && echo "ok $(wc -l <"$tmp/list") subcommands" || exit 1

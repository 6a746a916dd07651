#!/usr/bin/env bash
# The frame of the command: exit statuses, nearest words, streams, --json, help. Each test is a title and what a user types.
set -u
ounce=$1
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
fails=0
unset OUNCE_ISA

# is TITLE STATUS STDOUT-REGEX STDERR-REGEX COMMAND...: an empty regex wants an empty stream, '.' does not care.
is() {
    local title=$1 status=$2 out=$3 err=$4 got; shift 4
    "$@" >"$tmp/out" 2>"$tmp/err"; got=$?
    if [ "$got" != "$status" ]; then echo "FAIL $title: exit $got, expected $status"; cat "$tmp/err"; fails=$((fails + 1)); return; fi
    for s in out err; do
        local want=${!s}
        if [ -z "$want" ] && [ -s "$tmp/$s" ]; then echo "FAIL $title: std$s is not empty:"; cat "$tmp/$s"; fails=$((fails + 1)); return; fi
        if [ -n "$want" ] && [ "$want" != . ] && ! grep -qE -- "$want" "$tmp/$s"; then
            echo "FAIL $title: std$s lacks '$want':"; cat "$tmp/$s"; fails=$((fails + 1)); return; fi
    done
    echo "ok $title"
}
json() { # TITLE PYTHON-EXPRESSION over o: of the last command's stdout
    if python3 -c "import json,sys; o=json.load(open('$tmp/out')); sys.exit(0 if ($2) else 1)"; then echo "ok $1"; else
        echo "FAIL $1: $2"; cat "$tmp/out"; fails=$((fails + 1)); fi
}

is "version" 0 '^ounce [0-9]+\.[0-9]+\.[0-9]+$' '' "$ounce" --version
is "no subcommand" 2 '' '^usage: ounce' "$ounce"
is "help lists subcommands" 0 '^  machine +CPU' '' "$ounce" help
is "--help is help" 0 '^  machine +CPU' '' "$ounce" --help
is "unknown subcommand, nearest" 2 '' 'there is no subcommand "mahcine"; nearest is "machine"' "$ounce" mahcine
is "unknown subcommand, none near" 2 '' 'there is no subcommand "xyzzyx"$' "$ounce" xyzzyx

is "help of a subcommand" 0 '--no-peaks' '' "$ounce" help machine
is "--help of a subcommand" 0 '--no-peaks' '' "$ounce" machine --help
is "-h" 0 '--no-peaks' '' "$ounce" machine -h
is "help of a list" 0 '^quantize +choose' '' "$ounce" help verbs
is "help of one" 0 '^verb quantize: ' '' "$ounce" help verb quantize
is "help of an unknown one" 2 '' 'there is no verb "quantise"; nearest is "quantize"' "$ounce" help verb quantise
is "help of an unknown topic" 2 '' 'there is no help about "machin"; nearest is "machine"' "$ounce" help machin
is "needs of what has none" 2 '' 'needing "hessian"' "$ounce" help verbs --needs hessian

is "unknown option, nearest" 2 '' 'ounce machine: there is no option --no-peek; nearest is --no-peaks' "$ounce" machine --no-peek
is "unknown short option" 2 '' 'there is no option -z' "$ounce" machine -z
is "an option of another subcommand" 2 '' 'there is no option --force' "$ounce" machine --force
is "bounds" 2 '' '--threads must be 0 to 1024, got -1' "$ounce" machine --threads -1
is "not a number" 2 '' '--threads must be an integer, 0 to 1024, got "two"' "$ounce" machine --threads=two
is "missing value" 2 '' 'a value is missing: --threads N' "$ounce" machine --threads
is "missing value before an option" 2 . 'a value is missing: --threads N' "$ounce" machine --threads --json
is "memory" 2 '' '--memory must be a size like 900MB or 8GiB, got "8gigs"' "$ounce" machine --memory 8gigs
is "seed" 2 '' '--seed must be an integer, 0 or more, got "-3"' "$ounce" machine --seed -3
is "one argument too many" 2 '' '"x" is one argument too many' "$ounce" machine x
is "the hint" 2 '' 'see .ounce help machine' "$ounce" machine --no-peek

is "machine" 0 '^levels +portable' '' "$ounce" machine --no-peaks
is "underscores are read" 0 '^levels +portable' '' "$ounce" machine --no_peaks
is "flag with a value" 0 '^levels +portable' '' "$ounce" machine --no-peaks=true
is "machine --json" 0 . '' "$ounce" machine --json --threads 1
json "machine's keys" "o['isa'][0]=='portable' and o['threads']>=1 and o['peaks']['f32_gflops']>0 and o['peaks']['read_gbs']>0"
is "OUNCE_ISA masks" 0 '^in use +portable$|^levels +portable$' '' env OUNCE_ISA=portable "$ounce" machine --no-peaks
other=neon; [ "$(uname -m)" = x86_64 ] || other=avx2
is "OUNCE_ISA this CPU lacks" 1 '' "OUNCE_ISA=$other: not supported by this CPU" env OUNCE_ISA=$other "$ounce" machine --no-peaks
is "OUNCE_ISA misspelt" 1 '' 'nearest is "avx512-vnni"' env OUNCE_ISA=avx512vnni "$ounce" machine --no-peaks
is "an error with --json is one object" 2 . 'got -1' "$ounce" machine --json --threads -1
json "the error object" "'--threads' in o['error']['message'] and list(o)==['error']"
is "help --json" 0 . '' "$ounce" help --json
json "subcommands" "'machine' in o['subcommands']"

is "man page" 0 '^.SH OPTIONS' '' "$ounce" help --man machine
is "man page of the whole" 0 '^.TH OUNCE 1' '' "$ounce" help --man ounce
for shell in bash zsh fish; do is "completion of $shell" 0 no-peaks '' "$ounce" help --completion $shell; done
"$ounce" help --completion bash >"$tmp/ounce.bash"
is "bash reads its completion" 0 'machine' '' bash -c "source '$tmp/ounce.bash'; COMP_WORDS=(ounce mach); COMP_CWORD=1; _ounce; echo \${COMPREPLY[@]}"
is "and completes options" 0 '^--no-peaks$' '' bash -c "source '$tmp/ounce.bash'; COMP_WORDS=(ounce machine --no); COMP_CWORD=2; _ounce; echo \${COMPREPLY[@]}"
if command -v zsh >/dev/null; then "$ounce" help --completion zsh >"$tmp/_ounce"; is "zsh parses its completion" 0 '' '' zsh -n "$tmp/_ounce"; fi
is "everything written" 0 '' '' "$ounce" help --write "$tmp/share"
for f in man1/ounce.1 man1/ounce-machine.1 bash/ounce zsh/_ounce fish/ounce.fish; do
    [ -s "$tmp/share/$f" ] || { echo "FAIL $f was not written"; fails=$((fails + 1)); }
done
if command -v man >/dev/null; then
    for f in "$tmp"/share/man1/*.1; do
        w=$(man --warnings -l "$f" 2>&1 >/dev/null); [ -z "$w" ] || { echo "FAIL $f: $w"; fails=$((fails + 1)); }
    done
fi
is "a full disk" 1 '' 'cannot write the result' bash -c "'$ounce' help >/dev/full"
if "$ounce" help machine | grep -q -- --fault; then
    # Test builds: whichever allocation fails, the command says so and exits 1 (or had no need of it).
    n=1
    while [ $n -le 40 ]; do
        "$ounce" machine --no-peaks --json --threads 2 --fault alloc:$n >"$tmp/out" 2>"$tmp/err"; code=$?
        if [ $code = 1 ]; then grep -q 'out of memory' "$tmp/err" || { echo "FAIL alloc:$n:"; cat "$tmp/err"; fails=$((fails + 1)); }
        elif [ $code != 0 ]; then echo "FAIL alloc:$n: exit $code"; cat "$tmp/err"; fails=$((fails + 1)); fi
        n=$((n + 1))
    done
fi
[ $fails = 0 ] || { echo "$fails failed"; exit 1; }

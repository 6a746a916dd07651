#!/usr/bin/env bash
# `ounce eval --protocol llama.cpp` against the plain windows: whole windows of 512, the last 255 tokens of each; where the tokenizer adds
# BOS, a window is BOS and the 511 tokens that follow the place of its first one.
set -u
ounce=$1; src=${OUNCE_SOURCE_DIR:-.}
unset OUNCE_ISA
/usr/bin/python3 -c 'import numpy' 2>/dev/null || { echo "python3-numpy is missing"; exit 77; }
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
fails=0
"$src/tools/models/random-arch" llama tiny,context=2048 "$tmp/m" >"$tmp/out" || { cat "$tmp/out"; exit 1; }
for i in $(seq 1 40); do echo "Line $i says that the square of $i is $((i * i)), and nothing else of note."; done >"$tmp/text.txt"
dump() { # FILE ARGS...
    local file=$1; shift
    "$ounce" eval "$tmp/m" --text "$tmp/text.txt" --dump "$tmp/$file" --quiet --compute exact "$@" >"$tmp/out" 2>&1 || { cat "$tmp/out"; fails=$((fails + 1)); }
}
same() { # TITLE FILE LINES < expected lines
    cat >"$tmp/want"
    if [ "$(wc -l <"$tmp/want")" = "$3" ] && cmp -s "$tmp/want" "$tmp/$2"; then echo "ok $1"; else
        echo "FAIL $1: $(wc -l <"$tmp/$2") lines, expected $3"; fails=$((fails + 1)); fi
}
dump plain --ctx 512 --tokens 1500
dump llama --protocol llama.cpp --tokens 1500
{ sed -n 257,511p "$tmp/plain"; sed -n "$((511 + 257)),$((511 + 511))p" "$tmp/plain"; } | same "no BOS: two whole windows" llama 510

echo '{"tokenizer_class": "GPT2Tokenizer", "eos_token": "<|end|>", "bos_token": "<|end|>", "add_bos_token": true}' >"$tmp/m/tokenizer_config.json"
dump plain --ctx 512 --tokens 511
dump llama --protocol llama.cpp --tokens 511
sed -n 257,511p "$tmp/plain" | same "BOS: one window of 511 tokens of the text" llama 255
dump one --ctx 512 --tokens 511
tail -c "+$((512 + 1))" "$tmp/text.txt" >"$tmp/rest.txt"
dump two --protocol llama.cpp --tokens 1023
"$ounce" eval "$tmp/m" --text "$tmp/rest.txt" --dump "$tmp/second" --quiet --compute exact --ctx 512 --tokens 511 >"$tmp/out" 2>&1 || fails=$((fails + 1))
{ sed -n 257,511p "$tmp/one"; sed -n 257,511p "$tmp/second"; } | same "BOS: the second window begins 512 tokens on" two 510
dump none --protocol llama.cpp --tokens 1500 --no-bos
[ "$(wc -l <"$tmp/none")" = 510 ] && echo "ok --no-bos" || { echo "FAIL --no-bos"; fails=$((fails + 1)); }
"$ounce" eval "$tmp/m" --text "$tmp/text.txt" --tokens 500 --protocol llama.cpp --quiet >"$tmp/out" 2>&1
[ $? = 1 ] && grep -q '500 tokens; .*needs .*512' "$tmp/out" && echo "ok a text too short" ||
    { echo "FAIL a text too short: $(cat "$tmp/out")"; fails=$((fails + 1)); }
[ "$fails" = 0 ]

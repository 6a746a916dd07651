#!/usr/bin/env bash
# `ounce convert`: a directory to GGUF and back holds the same values, shapes, tokenizer and template for every architecture; ggml types
# written by `quantize` and by `convert` decode to what Ounce decodes; what GGUF cannot hold is refused by name.
set -u
ounce=$1; src=${OUNCE_SOURCE_DIR:-.}
unset OUNCE_ISA
/usr/bin/python3 -c 'import numpy' 2>/dev/null || { echo "python3-numpy is missing"; exit 77; }
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
cd "$src" || exit 1
fails=0
bad() { echo "FAIL $*"; fails=$((fails + 1)); }

# is TITLE STATUS MESSAGE-REGEX COMMAND...
is() {
    local title=$1 status=$2 words=$3 got; shift 3
    "$@" >"$tmp/out" 2>"$tmp/err" </dev/null; got=$?
    if [ "$got" != "$status" ]; then bad "$title: exit $got, expected $status: $(cat "$tmp/err")"; return; fi
    if [ -n "$words" ] && ! grep -qE -- "$words" "$tmp/out" "$tmp/err"; then bad "$title: nothing says '$words': $(cat "$tmp/err")"; return; fi
    echo "ok $title"
}
for i in $(seq 1 40); do echo "Line $i says that the square of $i is $((i * i)), and nothing else of note."; done >"$tmp/text.txt"
nll() { "$ounce" eval "$1" --text "$tmp/text.txt" --tokens 300 --compute exact --json --quiet |
    /usr/bin/python3 -c 'import json,sys; print(repr(next(iter(json.load(sys.stdin)["texts"].values()))["nll"]))'; }
same_nll() { # TITLE A B
    local a b; a=$(nll "$2"); b=$(nll "$3")
    if [ -n "$a" ] && [ "$a" = "$b" ]; then echo "ok $1"; else bad "$1: nll $a and $b"; fi
}
tensors() { "$ounce" info "$1" --json | /usr/bin/python3 -c 'import json,sys
o = json.load(sys.stdin)
print(o["architecture"], o["parameters"], o["layers"], sorted((t["name"], t["shape"], t["format"]) for t in o["tensors"] if len(t["shape"]) > 1))'; }

# ---- a directory to GGUF and back -----------------------------------------------------------------------------------
for arch in llama qwen2 qwen3 olmoe; do
    m=$tmp/$arch
    tools/models/random-arch "$arch" tiny "$m" >"$tmp/out" 2>&1 || { bad "$arch: $(cat "$tmp/out")"; continue; }
    is "$arch: to GGUF" 0 'of tensors' "$ounce" convert "$m" -o "$m.gguf"
    is "$arch: and back" 0 'of tensors' "$ounce" convert "$m.gguf" -o "$m-back"
    [ "$(tensors "$m")" = "$(tensors "$m-back")" ] && echo "ok $arch: same names, shapes and types" || bad "$arch: info differs"
    same_nll "$arch: GGUF means the same" "$m" "$m.gguf"
    same_nll "$arch: the directory from GGUF means the same" "$m" "$m-back"
    is "$arch: GGUF to GGUF" 0 '' "$ounce" convert "$m.gguf" -o "$m-copy.gguf"
    cmp -s "$m.gguf" "$m-copy.gguf" || [ "$(tensors "$m.gguf")" = "$(tensors "$m-copy.gguf")" ] || bad "$arch: GGUF to GGUF changes it"
done
m=$tmp/llama
printf '{%% for m in messages %%}{{ m.content }}{%% endfor %%}' >"$m/chat_template.jinja"
is "--dtype" 0 '' "$ounce" convert "$m" -o "$tmp/t.gguf" --dtype f32
"$ounce" info "$tmp/t.gguf" --json | grep -q '"f32"' && echo "ok --dtype f32" || bad "--dtype f32 left no f32"
same_nll "bf16 as f32 loses nothing" "$m" "$tmp/t.gguf"
is "a template" 0 '' "$ounce" convert "$tmp/t.gguf" -o "$tmp/t-back"
cmp "$m/chat_template.jinja" "$tmp/t-back/chat_template.jinja" || bad "the chat template is lost on the way"

# ---- ggml types -----------------------------------------------------------------------------------------------------
q() { local out=$1; shift; "$ounce" quantize "$m" -o "$out" --recipe rtn --no-eval --quiet "$@"; }
for type in q4_0 q4_1 q5_0 q5_1 q8_0; do
    is "rtn to $type" 0 '' q "$tmp/$type.gguf" --set "weights.format=gguf.$type" --tensor embed_tokens=gguf.q8_0
    [ "$("$ounce" info "$tmp/$type.gguf" --json | grep -o "\"$type\"" | wc -l)" -ge 14 ] || bad "$type: not every linear has the type"
    is "$type: read into a directory" 0 '' "$ounce" convert "$tmp/$type.gguf" -o "$tmp/$type" --dtype f32
    same_nll "$type: its values are those of the directory" "$tmp/$type.gguf" "$tmp/$type"
done
for format in int4@32 int8@32 int4@64; do
    name=${format/@/-}
    is "rtn to $format" 0 '' q "$tmp/$name" --set "weights.format=$format"
    is "$format: to GGUF" 0 '' "$ounce" convert "$tmp/$name" -o "$tmp/$name.gguf"
    same_nll "$format: exact in GGUF" "$tmp/$name" "$tmp/$name.gguf"
done
is "rtn to int4.asym@32" 0 '' q "$tmp/asym" --set weights.format=int4.asym@32
is "int4.asym: re-encoded, and said so" 3 'is re-encoded as Q4_1' "$ounce" convert "$tmp/asym" -o "$tmp/asym.gguf"
is "int4.asym: accepted" 0 '' "$ounce" convert "$tmp/asym" -o "$tmp/asym.gguf" --force --accept replaced

# ---- refusals -------------------------------------------------------------------------------------------------------
is "rtn to int3@32" 0 '' q "$tmp/int3" --set weights.format=int3@32
is "int3 has no type" 1 'layers\.0\.self_attn\.q_proj: GGUF has no type that holds int3@32' "$ounce" convert "$tmp/int3" -o "$tmp/no.gguf"
[ -e "$tmp/no.gguf" ] && bad "a refused conversion left a file"
is "a type that is only read" 2 'can be read, not written|multiple of 256' q "$tmp/no.gguf" --set weights.format=gguf.q4_k
is "a ggml type in a directory" 2 'lives only in GGUF files, but the output .* is a directory' q "$tmp/no" --set weights.format=gguf.q4_0
is "activations" 0 '' q "$tmp/acts" --set weights.format=int8@32 --set acts.format=int8@token
is "activations are dropped, and said so" 3 'GGUF keeps no activation format' "$ounce" convert "$tmp/acts" -o "$tmp/acts.gguf"
is "an output that exists" 1 'the output exists already' "$ounce" convert "$m" -o "$m.gguf"
is "no output" 2 'no output was given' "$ounce" convert "$m"
is "an unknown kind" 2 'nearest is "gguf"' "$ounce" convert "$m" -o "$tmp/no" --to ggfu
is "no model" 1 'nowhere' "$ounce" convert "$tmp/nowhere" -o "$tmp/no"
is "owq for a sidecar" 0 '' "$ounce" quantize "$m" -o "$tmp/side" --recipe owq --budget 4.5bpw --no-eval --quiet --calib "$tmp/text.txt" \
    --set calibration.samples=2 --set calibration.length=128 --accept all
is "a sidecar is refused" 1 "GGUF holds no sidecar '\+cols'" "$ounce" convert "$tmp/side" -o "$tmp/no.gguf"

[ "$fails" = 0 ]

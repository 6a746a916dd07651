#!/usr/bin/env bash
# A job that was killed goes on with --resume and ends in the same bytes; what is unfinished, finished or another job's is never
# touched unasked.  kill -9 at random moments of jobs on a random model (OUNCE_FULL=1: also on a real one, 30 times).
set -u
ounce=$1; src=${OUNCE_SOURCE_DIR:-.}
unset OUNCE_ISA
/usr/bin/python3 -c 'import numpy' 2>/dev/null || { echo "python3-numpy is missing"; exit 77; }
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
fails=0
bad() { echo "FAIL $*"; fails=$((fails + 1)); }
RANDOM=${OUNCE_SEED:-$$}; echo "moments from seed ${OUNCE_SEED:-$$} (OUNCE_SEED)"

"$src/tools/models/random" "$tmp/model" || exit 1
for i in $(seq 1 500); do echo "Line $i: the square of it is $((i * i)), the cube ends in $((i * i * i % 1000)), and that is all there is to say."; done >"$tmp/text.txt"
for i in $(seq 1 60); do echo "Other text $i, which nobody has calibrated on; it has $((i * 7 % 13)) sevens in it, more or less."; done >"$tmp/held.txt"
common=(--set calibration.samples=32 --set calibration.length=128 --set weights.format=int4.asym@32 --calib "$tmp/text.txt"
        --eval-text "$tmp/held.txt" --eval-tokens 512 --accept all --quiet)

hash_of() { (cd "$1" && find . -type f | LC_ALL=C sort | xargs sha256sum) | sha256sum | cut -c1-64; }
start() { # OUT RECIPE ARGS...: in the background, its process in $job
    local out=$1 recipe=$2; shift 2
    "$ounce" quantize "$tmp/model" -o "$out" --recipe "$recipe" "${common[@]}" "$@" >"$tmp/out" 2>"$tmp/err" </dev/null &
    job=$!
}
run() { start "$@"; wait $job; }
message() { # CODE WORDS ARGS...: exits with CODE and says WORDS
    local want=$1 words=$2; shift 2
    run "$@"; local code=$?
    [ $code = "$want" ] && grep -q -- "$words" "$tmp/err" || bad "expected exit $want and \"$words\", got $code: $(cat "$tmp/err")"
}

# ---- kill at random moments -----------------------------------------------------------------------------------------
kills() { # RECIPE KILLS ARGS...
    local recipe=$1 want=$2; shift 2
    local t0 t1 span n=0 ends=0 hash threads
    t0=$(date +%s%N); run "$tmp/whole-$recipe" "$recipe" --threads 1 "$@" || { bad "$recipe: $(cat "$tmp/err")"; return; }
    t1=$(date +%s%N); span=$(((t1 - t0) / 1000000))
    hash=$(hash_of "$tmp/whole-$recipe")
    run "$tmp/two-$recipe" "$recipe" --threads 2 "$@" || bad "$recipe --threads 2: $(cat "$tmp/err")"
    [ "$(hash_of "$tmp/two-$recipe")" = "$hash" ] || bad "$recipe: 1 and 2 threads give other bytes"
    [ -e "$tmp/two-$recipe.partial" ] && bad "$recipe: OUT.partial stays after success"
    local out=$tmp/killed-$recipe
    while [ $n -lt "$want" ]; do
        threads=$((RANDOM % 2 + 1))
        start "$out" "$recipe" --resume --threads $threads "$@"
        # mostly short lives, so that one job is killed several times on its way
        local ms=$((span * (RANDOM % 100 + 1) / (ends % 2 ? 100 : 160) + 5))
        sleep "$(printf '%d.%03d' $((ms / 1000)) $((ms % 1000)))"
        kill -9 $job 2>/dev/null
        wait $job 2>/dev/null; local code=$?
        if [ $code = 137 ]; then n=$((n + 1)); else span=$((span * 3 / 4 + 1)); fi # only what was really killed counts
        [ $code = 137 ] || [ $code = 0 ] || bad "$recipe: resumed job ends with $code: $(cat "$tmp/err")"
        if [ -e "$out" ]; then # complete, or not under its name
            [ "$(hash_of "$out")" = "$hash" ] || bad "$recipe: other bytes after $n kills"
            if [ -e "$out.partial" ]; then run "$out" "$recipe" --resume "$@" || bad "$recipe: killed after it got its name: $(cat "$tmp/err")"; fi
            ends=$((ends + 1)); rm -rf "$out"
        fi
    done
    run "$out" "$recipe" --resume "$@" || bad "$recipe: $(cat "$tmp/err")"
    [ "$(hash_of "$out")" = "$hash" ] || bad "$recipe: other bytes after the last kill"
    [ -e "$out.partial" ] && bad "$recipe: OUT.partial stays"
    echo "$recipe: $n kills, $((ends + 1)) jobs ended, all with the same bytes; one takes $span ms"
    rm -rf "$out" "$tmp/two-$recipe"
}
kills gptq 12
kills awq 10

# ---- what is refused ---------------------------------------------------------------------------------------------------
out=$tmp/again
cp -r "$tmp/whole-gptq" "$out"
before=$(hash_of "$out")
message 1 "$out: the output exists already" "$out" gptq
message 1 "--force to replace it" "$out" gptq --resume
[ "$(hash_of "$out")" = "$before" ] || bad "a refused job changed the output that was there"
[ -e "$out.partial" ] && bad "a refused job left OUT.partial"
run "$out" gptq --force --set weights.format=int3.asym@32 || bad "--force: $(cat "$tmp/err")"
[ "$(hash_of "$out")" != "$before" ] || bad "--force did not replace the output"
rm -rf "$out"

unfinished() { # a job that has committed something and was killed
    rm -rf "$out" "$out.partial"
    for try in $(seq 1 50); do
        start "$out" gptq --threads 1 --set calibration.samples=100
        for i in $(seq 1 200); do [ -e "$out.partial/block-0000.json" ] && break; sleep 0.01; done
        kill -9 $job 2>/dev/null; wait $job 2>/dev/null
        [ -e "$out.partial/block-0000.json" ] && [ ! -e "$out" ] && return
        rm -rf "$out" "$out.partial"
    done
    bad "no job could be killed after its first block"
}
unfinished
message 1 "$out.partial: an unfinished job is there" "$out" gptq --set calibration.samples=100
message 1 "was begun by another job" "$out" gptq --resume --set calibration.samples=99
message 1 "was begun by another job" "$out" awq --resume
message 1 "was begun by another job" "$out" gptq --resume --set calibration.samples=100 --seed 5
[ -e "$out" ] && bad "a refused job made an output"
[ -e "$out.partial/block-0000.json" ] || bad "a refused job removed the unfinished one"
run "$out" gptq --force || bad "--force on an unfinished job: $(cat "$tmp/err")"
[ "$(hash_of "$out")" = "$(hash_of "$tmp/whole-gptq")" ] || bad "--force did not start over"
# hidden states that are gone are told, not read as zeros
unfinished
rm -f "$out".partial/q-0.f32
message 1 "start over with --force" "$out" gptq --resume --set calibration.samples=100

# ---- Ctrl-C ---------------------------------------------------------------------------------------------------------------
rm -rf "$out" "$out.partial"
seen=no
for try in $(seq 1 20); do
    start "$out" gptq --threads 1
    sleep "0.$((RANDOM % 3))$((RANDOM % 9 + 1))"
    kill -INT $job 2>/dev/null; wait $job; code=$?
    [ $code = 0 ] && { rm -rf "$out"; continue; } # it was quicker
    [ $code = 130 ] || { bad "SIGINT gives $code: $(cat "$tmp/err")"; break; }
    [ -e "$out" ] && bad "an interrupted job has an output"
    [ -e "$out.partial" ] || continue
    run "$out" gptq --resume || bad "resuming after SIGINT: $(cat "$tmp/err")"
    [ "$(hash_of "$out")" = "$(hash_of "$tmp/whole-gptq")" ] || bad "other bytes after SIGINT"
    seen=yes; break
done
[ $seen = yes ] || bad "no job was interrupted in 20 tries"

# ---- full disk (needs root: a small file system in memory) ------------------------------------------------------------------
mkdir "$tmp/disk"
if mount -t tmpfs -o size=4k tmpfs "$tmp/disk" 2>/dev/null; then
    trap 'umount "$tmp/disk"; rm -rf "$tmp"' EXIT
    full=0
    for size in 16k 1500k 2300k 2150k; do # the folder, one of the two files of hidden states, a block, the output
        rm -rf "$tmp"/disk/*; mount -o "remount,size=$size" "$tmp/disk"
        run "$tmp/disk/out" gptq; code=$?
        [ $code = 0 ] && continue
        full=$((full + 1))
        [ $code = 1 ] && grep -q 'No space left' "$tmp/err" || bad "a disk of $size gives $code: $(cat "$tmp/err")"
        [ -e "$tmp/disk/out" ] && bad "a disk of $size: there is an output"
    done
    [ $full -ge 2 ] || bad "only $full disks were full"
    mount -o remount,size=64m "$tmp/disk"
    run "$tmp/disk/out" gptq --resume || bad "resuming after a full disk: $(cat "$tmp/err")"
    [ "$(hash_of "$tmp/disk/out")" = "$(hash_of "$tmp/whole-gptq")" ] || bad "other bytes after a full disk"
    echo "$full full disks"
fi

# ---- attention ---------------------------------------------------------------------------------------------------------------
rm -rf "$out" "$out.partial"
attn() { "$ounce" quantize "$tmp/model" -o "$out" --force --recipe rtn --no-eval --set weights.format=int4@32 --set weights.where=attn "$@" >"$tmp/out" 2>"$tmp/err"; }
attn; code=$?
[ $code = 3 ] && grep -q 'untouched: model.layers.0.mlp.gate_proj' "$tmp/err" || bad "untouched linears give $code: $(cat "$tmp/err")"
[ -e "$out/model.safetensors" ] || bad "exit 3 without the output"
attn --accept untouched; code=$?
[ $code = 0 ] || bad "--accept untouched gives $code: $(cat "$tmp/err")"
attn --accept starved; code=$?
[ $code = 3 ] || bad "--accept of another kind gives $code"

# ---- a real model ---------------------------------------------------------------------------------------------------------------
real=${OUNCE_MODELS:-${XDG_CACHE_HOME:-$HOME/.cache}/ounce/models}/smollm2-rescaled
if [ "${OUNCE_FULL-}" = 1 ] && [ -e "$real/config.json" ]; then
    rm -rf "$tmp/model"; ln -s "$real" "$tmp/model"
    common=(--set calibration.samples=8 --set calibration.length=256 --set weights.format=int4.asym@64 --calib "$tmp/text.txt" --no-eval --accept all --quiet)
    rm -rf "$tmp"/whole-*
    kills gptq 30 --layers "${OUNCE_LAYERS:-0-3}"
fi
[ $fails = 0 ] && echo "ok" || exit 1

#!/usr/bin/env bash
# Activation formats reach the model that runs: the clip of a pass is in the record, and changes what the written model computes.
set -u
ounce=$1 src=${OUNCE_SOURCE_DIR:-$(dirname "$0")/../..}
/usr/bin/python3 -c 'import numpy' 2>/dev/null || { echo "python3-numpy is missing"; exit 77; }
tmp=$(mktemp -d) && trap 'rm -rf "$tmp"' EXIT
"$src/tools/models/random-arch" llama tiny "$tmp/m" >"$tmp/out" 2>&1 || { cat "$tmp/out"; exit 1; }
for i in $(seq 1 40); do echo "Line $i says that the square of $i is $((i * i)), and nothing else of note."; done >"$tmp/text.txt"
for clip in 1 0.4; do
    "$ounce" quantize "$tmp/m" -o "$tmp/q$clip" --recipe rtn --set weights.format=int8@row --set acts.format=int8@token --set acts.clip=$clip \
        --no-eval --quiet >"$tmp/out" 2>&1 || { cat "$tmp/out"; exit 1; }
    "$ounce" eval "$tmp/q$clip" --text "$tmp/text.txt" --tokens 200 --json --quiet >"$tmp/e$clip.json" || exit 1
done
/usr/bin/python3 - "$tmp" <<'END'
import json, sys
t = sys.argv[1]
nll = {c: next(iter(json.load(open(f"{t}/e{c}.json"))["texts"].values()))["nll"] for c in ("1", "0.4")}
for c in ("1", "0.4"):
    tensors = json.load(open(f"{t}/q{c}/config.json"))["quantization_config"]["tensors"]
    clips = {v.get("act_clip") for v in tensors.values()}
    assert all(v["act"] for v in tensors.values())
    assert clips == {None} if c == "1" else all(x and abs(x - 0.4) < 1e-6 for x in clips), clips
assert nll["1"] != nll["0.4"], nll
print("ok: clip 0.4 is recorded and changes the loss", nll)
END

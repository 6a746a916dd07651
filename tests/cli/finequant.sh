#!/usr/bin/env bash
# finequant:4  the chosen group size is printed for every matrix, and the average bpw is 4 + the weighted mean of 16/g.
set -u
ounce=$1 src=${OUNCE_SOURCE_DIR:-$(dirname "$0")/../..}
tmp=$(mktemp -d) && trap 'rm -rf "$tmp"' EXIT
"$src/tools/models/random-arch" llama tiny,hidden=512,heads=8,kv_heads=2,head=64,ffn=1024 "$tmp/m" >"$tmp/out" 2>&1 || { cat "$tmp/out"; exit 77; }
"$ounce" quantize "$tmp/m" --recipe finequant --set groups.alpha=0.95 --dry-run --json -v >"$tmp/plan.json" 2>"$tmp/log" || { cat "$tmp/log"; exit 1; }
python3 - "$tmp/plan.json" "$tmp/log" <<'END'
import json, re, sys
plan, log = json.load(open(sys.argv[1])), open(sys.argv[2]).read()
shape = {"q_proj": (512, 512), "k_proj": (128, 512), "v_proj": (128, 512), "o_proj": (512, 512), "gate_proj": (1024, 512), "up_proj": (1024, 512), "down_proj": (512, 1024)}
bits = weights = 0
for t in plan["tensors"]:
    out, n = shape[t["name"].rsplit(".", 1)[1]]
    word = re.fullmatch(r"int4@(row|\d+)", t["format"]).group(1)
    g = n if word == "row" else int(word)
    assert t["name"] + ": " + t["format"] in log, "not printed: " + t["name"]
    bits += out * n * (4 + 16 / g)
    weights += out * n
assert len(plan["tensors"]) == 14, len(plan["tensors"])
assert abs(plan["bpw_linears"] - bits / weights) < 1e-9, (plan["bpw_linears"], bits / weights)
print("ok: %d matrices, %.4f bits per weight" % (len(plan["tensors"]), plan["bpw_linears"]))
END

#!/usr/bin/env bash
# owq:7  on the real 135M model the total proxy loss of gptq is below round to nearest at int3.asym@64 and int4.asym@64 (first four
# blocks; with OUNCE_FULL=1 all of them), and with OUNCE_FULL=1 the KLD on held-out text is lower too at 3 bits.
set -u
ounce=$1
models=${OUNCE_MODELS:-${XDG_CACHE_HOME:-$HOME/.cache}/ounce/models}
tmp=$(mktemp -d) && trap 'rm -rf "$tmp"' EXIT
layers=(--layers 0-3)
[ -z "${OUNCE_FULL-}" ] || layers=()
for ref in smollm2-rotated smollm2-rescaled; do
    [ -e "$models/$ref/model.safetensors" ] || { echo "skipped: no $models/$ref (tools/models/derive smollm2)"; exit 77; }
    for format in int3.asym@64 int4.asym@64; do
        "$ounce" quantize "$models/$ref" -o "$tmp/q" --force --recipe gptq --set weights.format=$format --set weights.compare=true --set calibration.samples=4 \
            --set calibration.length=256 "${layers[@]}" --no-eval --json --quiet --accept all >"$tmp/r.json" || exit 1
        /usr/bin/python3 - "$tmp/r.json" "$ref $format" <<'END' || exit 1
import json, sys
r = json.load(open(sys.argv[1]))
assert r["proxy_rtn"] is not None and 0 < r["proxy_loss"] < r["proxy_rtn"], (sys.argv[2], r["proxy_loss"], r["proxy_rtn"])
print("ok %s: proxy loss %.4g, round to nearest %.4g" % (sys.argv[2], r["proxy_loss"], r["proxy_rtn"]))
END
    done
    [ -n "${OUNCE_FULL-}" ] || continue
    "$ounce" compare "$models/$ref" --recipes rtn,gptq --set weights.format=int3.asym@64 --set calibration.samples=8 --set calibration.length=512 --tokens 4096 \
        --json --quiet --accept all >"$tmp/c.json" || exit 1
    /usr/bin/python3 - "$tmp/c.json" "$ref" <<'END' || exit 1
import json, sys
rtn, gptq = json.load(open(sys.argv[1]))["rows"]
assert gptq["kld"]["mean"] < rtn["kld"]["mean"], (rtn["kld"], gptq["kld"])
print("ok %s: KLD %.4f, round to nearest %.4f" % (sys.argv[2], gptq["kld"]["mean"], rtn["kld"]["mean"]))
END
done

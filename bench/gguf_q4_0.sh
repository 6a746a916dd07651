#!/usr/bin/env bash
# Q4_0 by Ounce's gptq against llama.cpp's Q4_0 with an importance matrix: the same bytes a weight, the embedding Q8_0 in both, KL divergence
# to the F16 file by llama.cpp's own llama-perplexity.
#
# usage: bench/gguf_q4_0.sh BIN MODEL CALIB TEXT [OUT]
#   BIN    folder with llama-imatrix, llama-quantize and llama-perplexity
#   MODEL  Hugging Face directory (a llama)     CALIB  text both sides calibrate on     TEXT  text both are measured on
#   OUT    where the files go and stay (default: a folder that is removed)
# OUNCE names the command (default build/release/ounce); SAMPLES (16 of 2048 tokens) and CHUNKS (8 of 512) the sizes.
set -eu
[ $# -ge 4 ] || { sed -n '5,9p' "$0" >&2; exit 2; }
bin=$1 model=$2 calib=$3 text=$4
ounce=${OUNCE:-$(dirname "$0")/../build/release/ounce}
samples=${SAMPLES:-16} chunks=${CHUNKS:-8}
for tool in llama-imatrix llama-quantize llama-perplexity; do
    [ -x "$bin/$tool" ] || { echo "$bin/$tool: not there; build llama.cpp and give its bin folder" >&2; exit 1; }
done
if [ $# -ge 5 ]; then out=$5; mkdir -p "$out"; else out=$(mktemp -d); trap 'rm -rf "$out"' EXIT; fi

"$ounce" convert "$model" -o "$out/f16.gguf" --dtype f16 --force --quiet >&2
"$ounce" quantize "$model" -o "$out/gptq.gguf" --recipe gptq --set weights.format=gguf.q4_0 --tensor embed_tokens=gguf.q8_0 \
    --calib "$calib" --set "calibration.samples=$samples" --no-eval --force --quiet >&2
# the peer reads the same number of calibration tokens, in its windows of 512
"$bin/llama-imatrix" -m "$out/f16.gguf" -f "$calib" -o "$out/imatrix.gguf" -c 512 --chunks $((4 * samples)) >"$out/imatrix.log" 2>&1
"$bin/llama-quantize" --imatrix "$out/imatrix.gguf" --pure --token-embedding-type q8_0 --output-tensor-type q8_0 \
    "$out/f16.gguf" "$out/peer.gguf" Q4_0 >"$out/quantize.log" 2>&1
"$bin/llama-perplexity" -m "$out/f16.gguf" -f "$text" -c 512 --chunks "$chunks" --kl-divergence-base "$out/base.kld" >"$out/base.log" 2>&1
for side in gptq peer; do
    "$bin/llama-perplexity" -m "$out/$side.gguf" -f "$text" -c 512 --chunks "$chunks" --kl-divergence-base "$out/base.kld" \
        --kl-divergence >"$out/$side.log" 2>&1
    echo "$side: $(wc -c <"$out/$side.gguf") bytes"
    grep -E '^(Mean PPL\(Q\) |Mean PPL\(base\) |Mean    KLD|Maximum KLD|Same top p)' "$out/$side.log"
done

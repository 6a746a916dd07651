#!/usr/bin/env bash
# `ounce bench kernels`: every cell of every level of this CPU is right and was called; a level this CPU lacks is said and is no failure.
set -eu
ounce=$1
out=$("$ounce" bench kernels --verify --count)
grep -q '^portable .*is the definition' <<<"$out"
! grep -q WRONG <<<"$out"
for level in portable avx2 avx-vnni avx512 avx512-vnni amx neon neon-dot i8mm; do
    one=$(OUNCE_ISA=$level "$ounce" bench kernels --verify --count)
    if [ "$one" = "$level: not supported by this CPU" ]; then
        grep -q "^$level: not supported by this CPU" <<<"$out"
        continue
    fi
    # the last column is the count of calls: a number above 0 in all 16 rows
    rows=$(awk -v level="$level" '$1 == level && $NF > 0' <<<"$one" | wc -l)
    [ "$rows" = 16 ] || { echo "$level: $rows rows with calls"; exit 1; }
    OUNCE_ISA=$level "$ounce" bench kernels --verify --json | grep -q '"not_supported": \[\]'
done
if OUNCE_ISA=nope "$ounce" bench kernels 2>/tmp/bench_kernels.$$; then echo "a wrong level passed"; exit 1; fi
grep -q 'there is no instruction-set level "nope"' /tmp/bench_kernels.$$
rm -f /tmp/bench_kernels.$$

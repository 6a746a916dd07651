"""Golden blocks of GGUF types: random bytes for each type and what the Python package gguf decodes them to.

Writes tests/golden/ggml/TYPE.bin: u32 rows, u32 values a row, the blocks, then the values as little-endian f32.
Run:  python tools/oracle/ggml.py tests/golden/ggml
HINT: made with gguf 0.10 or later; needs numpy.
"""
import pathlib
import struct
import sys

import numpy as np
from gguf import GGMLQuantizationType as T, quants

TYPES = [T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.Q4_K, T.Q5_K, T.Q6_K]
SCALES = {  # byte offsets of the f16 scales of a block: kept finite and of a usual size
    T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208],
}


def main(folder):
    out = pathlib.Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    for kind in TYPES:
        rng = np.random.default_rng(int(kind))
        block, size = quants.GGML_QUANT_SIZES[kind]
        rows, per = 2, 2
        raw = rng.integers(0, 256, (rows, per, size), dtype=np.uint8)
        for at in SCALES[kind]:
            d = (rng.standard_normal((rows, per)) * 0.05).astype("<f2")
            raw[:, :, at:at + 2] = d.view(np.uint8).reshape(rows, per, 2)
        values = quants.dequantize(raw.reshape(rows, -1), kind).astype("<f4")
        name = kind.name.lower()
        (out / f"{name}.bin").write_bytes(struct.pack("<II", rows, per * block) + raw.tobytes() + values.tobytes())


if __name__ == "__main__":
    main(sys.argv[1])

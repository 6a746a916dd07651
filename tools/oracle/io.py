#!/usr/bin/env python3
"""Files of the formats' own Python packages (safetensors, gguf) for tests/unit/{safetensors,gguf}.c, and the other direction.

    tools/oracle/io.py make  [FOLDER]   writes tests/golden/io/*
    tools/oracle/io.py check FOLDER     reads what test_unit_writer left in BUILD/io with those packages

Needs: pip install safetensors gguf numpy torch. Values: element i of every tensor is i % 8 (E8M0: 2^(i % 8), BOOL: i % 2), exact in
every type; the bytes of a block type T are (7 i + T) % 256.
"""
import json
import os
import sys

import gguf
import numpy as np
import safetensors
import safetensors.torch
import torch

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = os.path.join(HERE, "..", "..", "tests", "golden", "io")
TORCH = {
    "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64, "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2, "F8_E8M0": torch.float8_e8m0fnu, "U8": torch.uint8, "I8": torch.int8, "U16": torch.uint16,
    "I16": torch.int16, "U32": torch.uint32, "I32": torch.int32, "U64": torch.uint64, "I64": torch.int64, "BOOL": torch.bool,
}


def values(name, n):
    i = torch.arange(n)
    return 2.0 ** (i % 8) if name == "F8_E8M0" else i % 2 if name == "BOOL" else i % 8


def all_dtypes():
    t = {}
    for name, dtype in TORCH.items():
        v = values(name, 15).reshape(3, 5)
        # a power of two in e8m0 is its exponent plus 127; not every torch converts to it
        t[name] = (torch.log2(v) + 127).to(torch.uint8).view(dtype) if name == "F8_E8M0" else v.to(dtype)
    t["scalar"] = torch.tensor(5.0)
    t["empty"] = torch.zeros(0, 4)
    t["rank4"] = torch.arange(24).reshape(2, 3, 2, 2).to(torch.float32) % 8
    return t


def block_bytes(kind, n):
    return ((7 * np.arange(n) + kind) % 256).astype(np.uint8)


SKIP = {"Q8_1"}  # the package says 40 bytes, ggml has had 36 since 2024; it lives in memory only


def add_metadata(w):
    T = gguf.GGUFValueType
    for name, kind, value in [
        ("u8", T.UINT8, 200), ("i8", T.INT8, -100), ("u16", T.UINT16, 60000), ("i16", T.INT16, -30000), ("u32", T.UINT32, 4000000000),
        ("i32", T.INT32, -2000000000), ("f32", T.FLOAT32, 0.5), ("bool", T.BOOL, True), ("string", T.STRING, "grüße\n"),
        ("u64", T.UINT64, 2**63 + 1), ("i64", T.INT64, -(2**62)), ("f64", T.FLOAT64, 0.1),
    ]:
        w.add_key_value("test." + name, value, kind)
    w.add_array("test.numbers", [1, -2, 3])
    w.add_array("test.reals", [0.5, -1.5])
    w.add_array("test.texts", ["", "a", "αβγ"])
    w.add_array("test.bools", [True, False])


def make(folder):
    os.makedirs(folder, exist_ok=True)
    safetensors.torch.save_file(all_dtypes(), os.path.join(folder, "all_dtypes.safetensors"), metadata={"format": "pt", "note": "grüße"})
    w = gguf.GGUFWriter(os.path.join(folder, "all_types.gguf"), "test")
    w.add_custom_alignment(64)
    add_metadata(w)
    for kind, (block, size) in gguf.GGML_QUANT_SIZES.items():
        if kind.name in SKIP:
            continue
        if block > 1:
            w.add_tensor("blocks." + kind.name.lower(), block_bytes(int(kind), 3 * size).reshape(3, size), raw_dtype=kind)
    for name, dtype in [("f32", np.float32), ("f16", np.float16), ("f64", np.float64), ("i8", np.int8), ("i16", np.int16), ("i32", np.int32), ("i64", np.int64)]:
        w.add_tensor("plain." + name, (np.arange(15) % 8).astype(dtype).reshape(3, 5))
    bf16 = (np.arange(15) % 8).astype(np.float32).view(np.uint32) >> 16
    w.add_tensor("plain.bf16", bf16.astype(np.uint16).view(np.uint8).reshape(3, 10), raw_dtype=gguf.GGMLQuantizationType.BF16)
    w.add_tensor("rank4", (np.arange(24) % 8).astype(np.float32).reshape(2, 3, 2, 2))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    for f in os.listdir(folder):
        print(f, os.path.getsize(os.path.join(folder, f)))


def check_safetensors(path, names):
    with safetensors.safe_open(path, "pt") as f:
        for name in f.keys():
            if name.startswith("__pad."):
                continue
            t = f.get_tensor(name)
            assert t.dtype == TORCH[name.split(".")[0]], (path, name, t.dtype)
            v = values(name.split(".")[0], t.numel()).reshape(t.shape)
            got = torch.exp2(t.view(torch.uint8).to(torch.float64) - 127) if name.startswith("F8_E8M0") else t.to(torch.float64)
            assert torch.equal(got, v.to(torch.float64)), (path, name)
            names.append(name)
        return f.metadata()


def check(folder):
    names = []
    for f in ("ours.safetensors", "aligned.safetensors"):
        meta = check_safetensors(os.path.join(folder, f), names)
        assert meta == {"format": "pt", "note": "gr\u00fc\u00dfe \"x\"\n"}, meta
        print(f, "read by safetensors", safetensors.__version__, len(names), "tensors so far")
    sharded = os.path.join(folder, "sharded")
    index = json.load(open(os.path.join(sharded, "model.safetensors.index.json")))
    seen = {}
    for shard in sorted(set(index["weight_map"].values())):
        part = []
        assert check_safetensors(os.path.join(sharded, shard), part) == {"format": "pt"}
        seen.update({n: shard for n in part})
    assert seen == index["weight_map"], "index and shards differ"
    print("sharded:", len(set(seen.values())), "shards,", len(seen), "tensors")
    for f in ("ours.gguf", "aligned.gguf"):
        r = gguf.GGUFReader(os.path.join(folder, f))
        for name, want in [("u8", 200), ("i8", -100), ("u16", 60000), ("i16", -30000), ("u32", 4000000000), ("i32", -2000000000), ("f32", 0.5), ("bool", True),
                           ("string", "gr\u00fc\u00dfe\n"), ("u64", 2**63 + 1), ("i64", -(2**62)), ("f64", 0.1), ("numbers", [1, -2, 3]), ("texts", ["", "a", "αβγ"])]:
            got = r.fields["test." + name].contents()
            assert got == want, (f, name, got)
        for t in r.tensors:
            kind = t.tensor_type
            if t.name.startswith("blocks."):
                assert kind.name.lower() == t.name[7:] and np.array_equal(t.data.reshape(-1).view(np.uint8), block_bytes(int(kind), t.n_bytes)), (f, t.name)
                assert list(t.shape) == [gguf.GGML_QUANT_SIZES[kind][0], 3], t.shape
            elif kind == gguf.GGMLQuantizationType.BF16:
                got = (t.data.reshape(-1).view(np.uint16).astype(np.uint32) << 16).view(np.float32)
                assert np.array_equal(got, np.arange(15) % 8), (f, t.name)
            else:
                assert np.array_equal(t.data.reshape(-1).astype(np.float64), np.arange(t.n_elements) % 8), (f, t.name)
        print(f, "read by gguf:", len(r.tensors), "tensors,", len(r.fields), "fields, alignment", r.alignment)


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] == "make":
        make(sys.argv[2] if len(sys.argv) > 2 else GOLDEN)
    elif len(sys.argv) == 3 and sys.argv[1] == "check":
        check(sys.argv[2])
    else:
        sys.exit(__doc__)

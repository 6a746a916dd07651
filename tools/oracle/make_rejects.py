#!/usr/bin/env python3
"""Hostile and broken files, each with a part of the message it must give: tests/rejects/PARSER/NAME.bin and NAME.message, run by
tests/unit/rejects.c.  The same files and a few good ones are the seeds of tests/fuzz/corpus/PARSER (one byte before the file: which
allocation fails, 0 none; see tests/fuzz/fuzz.h).  Files found by fuzzing are kept beside these and not touched.

    tools/oracle/make_rejects.py
"""
import json
import os
import struct

TESTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests")
REJECTS, GOOD = {}, {}


def reject(parser, name, data, message):
    assert (parser, name) not in REJECTS and len(data) < 4096
    REJECTS[parser, name] = (data, message)


def good(parser, name, data):
    GOOD[parser, name] = data


# ---- safetensors ----
def st(header, data=b"", length=None):
    h = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(h) if length is None else length) + h + data


def entry(dtype="F32", shape=(2,), begin=0, end=8):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


S = "safetensors"
good(S, "empty", st({}))
good(S, "two", st({"a": entry(), "b": entry("BF16", (2, 2), 8, 16), "__metadata__": {"format": "pt"}}, bytes(16)))
good(S, "scalar", st({"a": entry("I64", ()), "z": entry("U8", (0, 5), 8, 8)}, bytes(8)))
reject(S, "no_bytes", b"", "too few for a safetensors file")
reject(S, "seven_bytes", b"\1\2\3\4\5\6\7", "has 7 bytes")
reject(S, "length_only", struct.pack("<Q", 8), "the header should have 8 bytes, 0 follow")
reject(S, "length_2_63", st({}, length=2**63), "should have 9223372036854775808 bytes")
reject(S, "length_all_ones", st({}, length=2**64 - 1), "should have 18446744073709551615 bytes")
reject(S, "header_cut", st(b'{"a":{"dtype":"F32"'), "not JSON")
reject(S, "header_is_list", st([1]), "does not begin with '{'")
reject(S, "header_two_values", st(b"{} {}"), "end of file expected")
reject(S, "header_not_utf8", st(b'{"\xff\xfe":{}}'), "unable to decode byte 0xff")
reject(S, "name_with_nul", st(b'{"a\\u0000b":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'), "NUL byte in object key")
reject(S, "deep", st(b'{"a":' + b"[" * 1500 + b"]" * 1500 + b"}"), "nested deeper than 512")
reject(S, "very_deep", st(b'{"a":' + b"[" * 3000), "nested deeper than 512")
reject(S, "data_cut", st({"a": entry()}, bytes(4)), "ends at byte 8 of the data, the file has 4")
reject(S, "data_left_over", st({"a": entry()}, bytes(12)), "4 bytes at the end belong to no tensor")
reject(S, "hole", st({"a": entry(), "b": entry(begin=16, end=24)}, bytes(24)), '8 bytes before tensor "b" belong to no tensor')
reject(S, "overlap", st({"a": entry(), "b": entry(begin=4, end=12)}, bytes(12)), 'tensors "a" and "b" overlap')
reject(S, "same_range", st({"a": entry(), "b": entry()}, bytes(8)), "overlap")
reject(S, "same_name", st(b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'), "duplicate object key")
reject(S, "product_wraps", st({"a": entry(shape=(2**32, 2**32), end=0)}), "does not fit in 63 bits")
reject(S, "product_wraps_to_8", st({"a": entry("U8", (2**61, 8, 8), 0, 0)}), "does not fit in 63 bits")
reject(S, "zero_hides_wrap", st({"a": entry("U8", (0, 2**62, 4), 0, 0)}), "does not fit in 63 bits")
reject(S, "dimension_2_64", st({"a": entry(shape=(2**64,))}), "not a whole number")
reject(S, "negative_offset", st({"a": entry(begin=-8, end=0)}, bytes(8)), "not a pair of whole numbers")
reject(S, "offsets_swapped", st({"a": entry(begin=8, end=0)}, bytes(8)), "data_offsets [8, 0]")
reject(S, "offset_2_63", st({"a": entry(begin=2**63 - 1, end=2**63 - 1, shape=(0,))}), "ends at byte 9223372036854775807")
reject(S, "shape_of_text", st({"a": {"dtype": "F32", "shape": ["2"], "data_offsets": [0, 8]}}, bytes(8)), "not a whole number")
reject(S, "dtype_unknown", st({"a": entry("F7")}, bytes(8)), 'dtype "F7", which is not known')
reject(S, "dtype_number", st({"a": {"dtype": 1, "shape": [2], "data_offsets": [0, 8]}}, bytes(8)), "has no dtype")
reject(S, "metadata_number", st({"__metadata__": {"n": 1}}), '__metadata__ "n" is not a text')
reject(S, "is_gguf", b"GGUF" + struct.pack("<IQQ", 3, 0, 0), "the header should have")


# ---- GGUF ----
def text(s):
    b = s if isinstance(s, bytes) else s.encode()
    return struct.pack("<Q", len(b)) + b


def head(tensors=0, pairs=0, version=3):
    return b"GGUF" + struct.pack("<IQQ", version, tensors, pairs)


def pair(key, kind, value=b""):
    return text(key) + struct.pack("<I", kind) + value


def tensor(name="a", dims=(32,), kind=0, offset=0):
    return text(name) + struct.pack("<I", len(dims)) + b"".join(struct.pack("<Q", d % 2**64) for d in dims) + struct.pack("<IQ", kind, offset)


def file(*parts, data=0, align=32):
    b = b"".join(parts)
    return b + bytes(-len(b) % align + data)


def array(kind, count, items=b""):
    return struct.pack("<IQ", kind, count) + items


G = "gguf"
good(G, "empty", head())
good(G, "two", file(head(2, 2), pair("general.name", 8, text("x")), pair("list", 9, array(8, 2, text("a") + text("b"))), tensor("a", (32, 2), 2), tensor("b", (4,), 0, 64), data=96))
good(G, "kinds", head(0, 5) + pair("a", 0, b"\1") + pair("b", 7, b"\1") + pair("c", 12, bytes(8)) + pair("d", 9, array(6, 2, bytes(8))) + pair("e", 10, bytes(8)))
good(G, "version_2", file(head(1, 1, 2), pair("general.alignment", 4, struct.pack("<I", 8)), tensor(dims=(1, 1, 1, 2)), data=8, align=8))
reject(G, "no_bytes", b"", 'does not begin with "GGUF"')
reject(G, "magic_only", b"GGUF", "a GGUF header alone has 24")
reject(G, "old_ggml", b"lmgg" + bytes(20), 'does not begin with "GGUF"')
reject(G, "version_1", head(version=1), "is GGUF version 1")
reject(G, "version_9", head(version=9), "is GGUF version 9")
reject(G, "big_endian", b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian")
reject(G, "tensors_2_64", head(2**64 - 1), "tensors cannot fit in the 0 bytes")
reject(G, "pairs_2_60", head(0, 2**60) + bytes(64), "1152921504606846976 metadata pairs cannot fit")
reject(G, "key_2_64", head(0, 1) + struct.pack("<Q", 2**64 - 1) + bytes(16), "has a name of 18446744073709551615 bytes")
reject(G, "key_cut", head(0, 1) + struct.pack("<Q", 60) + bytes(16), "ends inside the name of key 0")
reject(G, "key_empty", head(0, 1) + pair("", 4, bytes(16)), "is empty or holds a NUL")
reject(G, "key_nul", head(0, 1) + pair("a\0", 4, bytes(16)), "is empty or holds a NUL")
reject(G, "key_twice", head(0, 2) + pair("k", 4, bytes(4)) * 2, 'key "k" occurs twice')
reject(G, "kind_13", head(0, 1) + pair("k", 13, bytes(8)), "has kind 13")
reject(G, "string_2_64", head(0, 1) + pair("k", 8, struct.pack("<Q", 2**64 - 1)), 'ends inside key "k"')
reject(G, "array_of_arrays", head(0, 1) + pair("k", 9, array(9, 1, array(4, 1, bytes(4)))), "array of arrays")
reject(G, "array_kind_255", head(0, 1) + pair("k", 9, array(255, 1, bytes(4))), "is an array of kind 255")
reject(G, "array_count_wraps", head(0, 1) + pair("k", 9, array(10, 2**61 + 1, bytes(8))), "is an array of 2305843009213693953 items")
reject(G, "array_texts_2_40", head(0, 1) + pair("k", 9, array(8, 2**40, bytes(64))), "is an array of 1099511627776 items")
reject(G, "array_text_cut", head(0, 1) + pair("k", 9, array(8, 2, text("a") + struct.pack("<Q", 100))), 'item 1 of key "k" has 100 bytes')
reject(G, "bool_2", head(0, 1) + pair("k", 7, b"\2"), "is a bool of value 2")
for i, (kind, value) in enumerate([(4, bytes(4)), (4, struct.pack("<I", 48)), (8, text("32")), (5, struct.pack("<i", -32))]):
    reject(G, f"alignment_{i}", file(head(1, 1), pair("general.alignment", kind, value), tensor(), data=256), "general.alignment is not a power of two")
reject(G, "name_65", file(head(1), tensor("n" * 65), data=256), "has a name of 65 bytes")
reject(G, "rank_5", file(head(1), tensor(dims=(1, 1, 1, 1, 1)), data=256), "has 5 dimensions")
reject(G, "rank_2_32", head(1) + text("a") + b"\xff" * 30, "has 4294967295 dimensions")
reject(G, "dimension_2_63", file(head(1), tensor(dims=(2**63,)), data=256), "has a dimension of 9223372036854775808")
reject(G, "product_wraps", file(head(1), tensor(dims=(2**32, 2**32)), data=256), "does not fit in 63 bits")
reject(G, "zero_hides_wrap", file(head(1), tensor(dims=(2**40, 2**40, 0)), data=256), "does not fit in 63 bits")
reject(G, "type_4_removed", file(head(1), tensor(kind=4), data=256), "has ggml type 4")
reject(G, "type_2_31", file(head(1), tensor(kind=2**31), data=256), "has ggml type 2147483648")
reject(G, "row_not_blocks", file(head(1), tensor(dims=(48,), kind=2), data=256), "type q4_0 needs a multiple of 32")
reject(G, "offset_odd", file(head(1), tensor(offset=1), data=256), "not a multiple of 32")
reject(G, "offset_2_64", file(head(1), tensor(offset=2**64 - 32), data=256), "from byte 18446744073709551584")
reject(G, "data_cut", file(head(1), tensor(), data=127), "takes 128 bytes from byte 0 of the data, the file has 127")
reject(G, "no_data", head(1) + tensor(), "the file has 0 there")
reject(G, "overlap", file(head(2), tensor("a"), tensor("b", offset=96), data=256), 'tensors "a" and "b" overlap')
reject(G, "tensor_cut", head(1) + tensor()[:-4], "ends inside")

# ---- JSON and YAML ----
for name, body in {"map": '{"a":[1,-2.5e3,true,null,"x\\u0000\\n"],"b":{}}', "text": '"\\ud83d\\ude00"', "large": '{"max":1000000000000000019884624838656}', "list": "[[],[[]]]"}.items():
    good("json", name, body.encode())
reject("json", "deep", b"[" * 3000, "nested deeper than 512")
reject("json", "same_key", b'{"a":1,"a":2}', "duplicate object key")
reject("json", "half_surrogate", b'"\\ud800"', "invalid Unicode")
reject("json", "comment", b"{} // x", "end of file expected")
reject("json", "nan", b"[NaN]", "invalid token")
reject("json", "huge_real", b"[1e999]", "real number overflow")
reject("json", "huge_integer", b"[" + b"9" * 400 + b"]", "real number overflow")
reject("json", "control", b'"\x01"', "control character 0x1")
reject("json", "nothing", b"", "not JSON")
for name, body in {"recipe": "name: x\npasses:\n  - verb: quantize\n    set: {a: 1, b: [x, 'y', 0x1f]}\n", "block": "a: |\n  b\nc: >-\n  d\n  e\n", "flow": "[a, {b: .inf}, ~]\n", "key": "? a\n: b\n", "empty": ""}.items():
    good("yaml", name, body.encode())
reject("yaml", "bomb", b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", 'anchor "a" is not allowed')
reject("yaml", "merge", b"a: 1\n<<: *a\n", 'alias "a" is not allowed')
reject("yaml", "tag", b"a: !!python/object:os.system x\n", "is not allowed")
reject("yaml", "deep_flow", b"[" * 100, "nested deeper than 64")
reject("yaml", "deep_block", b"- " * 100 + b"x", "nested deeper than 64")
reject("yaml", "same_key", b"a: 1\n'a': 2\n", 'key "a" was already set on line 1')
reject("yaml", "key_is_list", b"[a]: 1\n", "a list stands where a key is expected")
reject("yaml", "documents", b"a\n---\nb\n", "a second document begins")
reject("yaml", "tab", b"a:\n\tb: 1\n", "cannot start any token")
reject("yaml", "not_utf8", b"a: \xc0\x80\n", "not YAML")
reject("yaml", "control", b"a: \x07\n", "control characters are not allowed")

for (parser, name), (data, message) in REJECTS.items():
    folder = os.path.join(TESTS, "rejects", parser)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name + ".bin"), "wb") as f:
        f.write(data)
    with open(os.path.join(folder, name + ".message"), "w") as f:
        f.write(message + "\n")
for parser in {p for p, _ in GOOD}:
    folder = os.path.join(TESTS, "fuzz", "corpus", parser)
    os.makedirs(folder, exist_ok=True)
    seeds = {"good_" + n: d for (p, n), d in GOOD.items() if p == parser}
    seeds.update({n: d for (p, n), (d, _) in sorted(REJECTS.items()) if p == parser and len(d) < 400})
    for name, data in list(seeds.items())[:36]:
        with open(os.path.join(folder, name), "wb") as f:
            f.write(b"\0" + data)
    print(parser, sum(p == parser for p, _ in REJECTS), "rejects,", min(len(seeds), 36), "seeds")

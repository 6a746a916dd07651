#!/usr/bin/env python3
"""Makes tests/golden/model: tiny seeded checkpoints of every architecture, the logits transformers computes for them in f32, and the same weights as GGUF.

usage: tools/oracle/model.py [OUT]         needs torch, transformers, safetensors, gguf
  OUT/ARCH/model.safetensors   bf16
  OUT/ARCH/CASE.config.json    one checkpoint serves several configurations (rope kinds)
  OUT/ARCH/CASE.json           {"versions", "ids", "rows", "logits"}: logits of those rows, all other rows are not stored
  OUT/ARCH/CASE.gguf           some cases: BF16 matrices, F32 vectors, names and row order as llama.cpp's converter writes them
"""
import json
import os
import sys
import tempfile

import gguf
import numpy as np
import torch
import transformers
from safetensors.torch import save_file

V, D, HEADS, KV, HD, F, LAYERS, LENGTH = 128, 32, 4, 2, 16, 48, 2, 48
BASE = dict(hidden_size=D, intermediate_size=F, num_hidden_layers=LAYERS, num_attention_heads=HEADS, num_key_value_heads=KV, head_dim=HD, vocab_size=V,
            max_position_embeddings=4096, rms_norm_eps=1e-5, hidden_act="silu", rope_theta=10000.0, tie_word_embeddings=False, torch_dtype="bfloat16",
            bos_token_id=1, eos_token_id=2)


def config(kind, cls, **more):
    return {**BASE, "architectures": [cls], "model_type": kind, **more}


def scaled(c, **rope):
    return dict(c, rope_scaling=rope, max_position_embeddings=rope.pop("context", c["max_position_embeddings"]))


LLAMA = config("llama", "LlamaForCausalLM")
QWEN3 = dict(config("qwen3", "Qwen3ForCausalLM"), rope_parameters={"rope_type": "default", "rope_theta": 1000000.0})
QWEN3.pop("rope_theta")
CASES = {
    "llama": {
        "plain": LLAMA,
        "linear": scaled(LLAMA, rope_type="linear", factor=4.0),
        "dynamic": scaled(LLAMA, type="dynamic", factor=2.0, context=24),
        "llama3": scaled(LLAMA, rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=2048),
        "yarn": scaled(LLAMA, rope_type="yarn", factor=4.0, original_max_position_embeddings=512),
    },
    "llama_bias": {"plain": dict(LLAMA, attention_bias=True, mlp_bias=True, tie_word_embeddings=True)},
    "mistral": {"plain": config("mistral", "MistralForCausalLM", sliding_window=8)},
    "qwen2": {"plain": config("qwen2", "Qwen2ForCausalLM", use_sliding_window=False)},
    "qwen3": {"plain": QWEN3},
    "olmoe": {
        "plain": config("olmoe", "OlmoeForCausalLM", head_dim=8, num_experts=4, num_experts_per_tok=2, norm_topk_prob=False, intermediate_size=16),
        "topk": config("olmoe", "OlmoeForCausalLM", head_dim=8, num_experts=4, num_experts_per_tok=3, norm_topk_prob=True, intermediate_size=16),
    },
}
GGUF = {"llama": ["plain", "llama3", "yarn"], "llama_bias": ["plain"], "qwen2": ["plain"], "qwen3": ["plain"], "olmoe": ["plain"]}
NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
         "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
         "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
         "mlp.down_proj": "ffn_down", "mlp.gate": "ffn_gate_inp"}


def weights(kind, c, seed):
    """Random tensors under their published names; scales that make attention and routing sharp enough to matter."""
    g = torch.Generator().manual_seed(seed)
    hd = c["head_dim"]                      # olmoe: the norms of q and k span hidden_size, so heads * head_dim is hidden_size
    q, kv = HEADS * hd, KV * hd
    t = {}

    def mat(name, out, inp, std):
        t[name + ".weight"] = torch.randn(out, inp, generator=g) * std

    def vec(name, n, mean, std):
        t[name] = mean + torch.randn(n, generator=g) * std

    mat("model.embed_tokens", V, D, 1.0)
    for layer in range(LAYERS):
        p = f"model.layers.{layer}."
        for part, rows in (("q", q), ("k", kv), ("v", kv)):
            mat(f"{p}self_attn.{part}_proj", rows, D, 0.3)
            if kind == "qwen2" or c.get("attention_bias"):
                vec(f"{p}self_attn.{part}_proj.bias", rows, 0, 0.3)
        mat(p + "self_attn.o_proj", D, q, 0.2)
        if c.get("attention_bias"):
            vec(p + "self_attn.o_proj.bias", D, 0, 0.2)
        if kind == "qwen3":
            vec(p + "self_attn.q_norm.weight", hd, 1, 0.3)
            vec(p + "self_attn.k_norm.weight", hd, 1, 0.3)
        if kind == "olmoe":
            vec(p + "self_attn.q_norm.weight", q, 1, 0.3)
            vec(p + "self_attn.k_norm.weight", kv, 1, 0.3)
            mat(p + "mlp.gate", c["num_experts"], D, 0.5)
        for tower in ([f"{p}mlp.experts.{e}." for e in range(c["num_experts"])] if kind == "olmoe" else [p + "mlp."]):
            f = c["intermediate_size"]
            for part, rows, cols in (("gate", f, D), ("up", f, D), ("down", D, f)):
                mat(f"{tower}{part}_proj", rows, cols, 0.3)
                if c.get("mlp_bias"):
                    vec(f"{tower}{part}_proj.bias", rows, 0, 0.2)
        vec(p + "input_layernorm.weight", D, 1, 0.3)
        vec(p + "post_attention_layernorm.weight", D, 1, 0.3)
    vec("model.norm.weight", D, 1, 0.3)
    if not c["tie_word_embeddings"]:
        mat("lm_head", V, D, 0.3)
    return {k: v.to(torch.bfloat16).contiguous() for k, v in t.items()}


def logits(folder, ids):
    m = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        return m(torch.tensor([ids]), use_cache=False).logits[0]


def permute(w, heads):
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).transpose(1, 2).reshape(w.shape)


def write_gguf(path, kind, case, c, tensors):
    arch = {"llama_bias": "llama"}.get(kind, kind)
    w = gguf.GGUFWriter(path, arch)
    w.add_block_count(LAYERS), w.add_context_length(c["max_position_embeddings"]), w.add_embedding_length(D)
    w.add_feed_forward_length(c["intermediate_size"]), w.add_head_count(HEADS), w.add_head_count_kv(KV)
    w.add_key_length(c["head_dim"]), w.add_value_length(c["head_dim"]), w.add_layer_norm_rms_eps(c["rms_norm_eps"]), w.add_vocab_size(V)
    w.add_rope_dimension_count(c["head_dim"]), w.add_rope_freq_base(c.get("rope_theta") or c["rope_parameters"]["rope_theta"])
    if kind == "olmoe":
        w.add_expert_count(c["num_experts"]), w.add_expert_used_count(c["num_experts_per_tok"])
    if case == "yarn":
        s = c["rope_scaling"]
        w.add_rope_scaling_type(gguf.RopeScalingType.YARN), w.add_rope_scaling_factor(s["factor"])
        w.add_rope_scaling_orig_ctx_len(s["original_max_position_embeddings"])
    if case == "llama3":
        s = c["rope_scaling"]
        inv = 1.0 / c["rope_theta"] ** (torch.arange(0, HD, 2).double() / HD)
        wavelength = 2 * torch.pi / inv
        smooth = (s["original_max_position_embeddings"] / wavelength - s["low_freq_factor"]) / (s["high_freq_factor"] - s["low_freq_factor"])
        smooth = smooth.clamp(0, 1)
        factors = 1 / ((1 - smooth) / s["factor"] + smooth)
        w.add_tensor("rope_freqs.weight", factors.float().numpy())
    stacks = {}
    for name, t in tensors.items():
        base, tail = name.rsplit(".", 1)
        parts = base.split(".")
        if arch == "llama" and base.endswith(("q_proj", "k_proj")):
            t = permute(t, HEADS if base.endswith("q_proj") else KV)
        if "experts" in parts:
            stacks.setdefault((parts[2], parts[6].split("_")[0]), []).append(t)
            continue
        out = NAMES[base] if base in NAMES else f"blk.{parts[2]}.{NAMES['.'.join(parts[3:])]}"
        put(w, f"{out}.{tail}", t)
    for (layer, part), ts in stacks.items():
        put(w, f"blk.{layer}.ffn_{part}_exps.weight", torch.stack(ts))
    w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()


def put(w, name, t):
    if t.dim() == 1:
        w.add_tensor(name, t.float().numpy())
    else:
        w.add_tensor(name, t.contiguous().view(torch.uint16).numpy().view(np.uint8), raw_dtype=gguf.GGMLQuantizationType.BF16)


def main():
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "../../tests/golden/model")
    ids = [int(x) for x in torch.randint(0, V, (LENGTH,), generator=torch.Generator().manual_seed(7))]
    rows = [0, 1, 9, 30, LENGTH - 1]
    for seed, (kind, cases) in enumerate(CASES.items()):
        folder = os.path.join(out, kind)
        os.makedirs(folder, exist_ok=True)
        c0 = next(iter(cases.values()))
        t = weights(kind, c0, 100 + seed)
        save_file(t, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
        for case, c in cases.items():
            with open(os.path.join(folder, case + ".config.json"), "w") as f:
                json.dump(c, f, indent=1)
            with tempfile.TemporaryDirectory() as tmp:
                os.symlink(os.path.abspath(os.path.join(folder, "model.safetensors")), os.path.join(tmp, "model.safetensors"))
                with open(os.path.join(tmp, "config.json"), "w") as f:
                    json.dump(c, f)
                y = logits(tmp, ids)
            with open(os.path.join(folder, case + ".json"), "w") as f:
                json.dump({"versions": {"transformers": transformers.__version__, "torch": torch.__version__.split("+")[0]}, "ids": ids, "rows": rows,
                           "logits": [[float(f"{x:.8g}") for x in y[r].tolist()] for r in rows]}, f)
            print(kind, case, "std of logits", round(y.std().item(), 3))
            if case in GGUF.get(kind, []):
                write_gguf(os.path.join(folder, case + ".gguf"), kind, case, c, t)


main()

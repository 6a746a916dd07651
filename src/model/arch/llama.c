/* model/arch/llama.c: Llama 2 (arXiv:2307.09288), Llama 3 (arXiv:2407.21783) and SmolLM2. GGUF stores q and k rows in neighbour order.
 * Shapes are letters of family.h. */
#include "model/arch/family.h"

static const oz_pattern pattern[] = {
    {"q", "model.layers.%L.self_attn.q_proj", "blk.%L.attn_q", 'q', 'd', 0, OZ_PAT_LAYER | OZ_PAT_ROPE_Q, OZ_BIAS_ATTN},
    {"k", "model.layers.%L.self_attn.k_proj", "blk.%L.attn_k", 'k', 'd', 0, OZ_PAT_LAYER | OZ_PAT_ROPE_K, OZ_BIAS_ATTN},
    {"v", "model.layers.%L.self_attn.v_proj", "blk.%L.attn_v", 'k', 'd', 0, OZ_PAT_LAYER, OZ_BIAS_ATTN},
    {"o", "model.layers.%L.self_attn.o_proj", "blk.%L.attn_output", 'd', 'q', 1, OZ_PAT_LAYER, OZ_BIAS_O},
    {"gate", "model.layers.%L.mlp.gate_proj", "blk.%L.ffn_gate", 'f', 'd', 2, OZ_PAT_LAYER, OZ_BIAS_MLP},
    {"up", "model.layers.%L.mlp.up_proj", "blk.%L.ffn_up", 'f', 'd', 2, OZ_PAT_LAYER, OZ_BIAS_MLP},
    {"down", "model.layers.%L.mlp.down_proj", "blk.%L.ffn_down", 'd', 'f', 3, OZ_PAT_LAYER, OZ_BIAS_MLP},
    {"attn_norm", "model.layers.%L.input_layernorm", "blk.%L.attn_norm", 'd', 0, 0, OZ_PAT_LAYER, 0},
    {"mlp_norm", "model.layers.%L.post_attention_layernorm", "blk.%L.ffn_norm", 'd', 0, 0, OZ_PAT_LAYER, 0},
    {"final_norm", "model.norm", "output_norm", 'd', 0, 0, 0, 0},
    {"embed", "model.embed_tokens", "token_embd", 'V', 'd', 0, 0, 0},
    {"head", "lm_head", "output", 'V', 'd', 0, OZ_PAT_TIED, 0},
    {0}};

const oz_family oz_family_llama = {.name = "llama",
                                   .brief = "Llama 2 and 3, SmolLM2, TinyLlama: RMS norm, rotary positions, gated MLP",
                                   .hf_class = "LlamaForCausalLM",
                                   .gguf = "llama",
                                   .gguf_reads = true,
                                   .gguf_permuted = true,
                                   .pattern = pattern};

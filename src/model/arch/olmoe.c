/* model/arch/olmoe.c: OLMoE (arXiv:2409.02060): every MLP is a router and experts; q and k are normalized over all heads at once.
 * Shapes are letters of family.h. */
#include "model/arch/family.h"

static const oz_pattern pattern[] = {
    {"q", "model.layers.%L.self_attn.q_proj", "blk.%L.attn_q", 'q', 'd', 0, OZ_PAT_LAYER | OZ_PAT_ROPE_Q, OZ_BIAS_ATTN},
    {"k", "model.layers.%L.self_attn.k_proj", "blk.%L.attn_k", 'k', 'd', 0, OZ_PAT_LAYER | OZ_PAT_ROPE_K, OZ_BIAS_ATTN},
    {"v", "model.layers.%L.self_attn.v_proj", "blk.%L.attn_v", 'k', 'd', 0, OZ_PAT_LAYER, OZ_BIAS_ATTN},
    {"o", "model.layers.%L.self_attn.o_proj", "blk.%L.attn_output", 'd', 'q', 1, OZ_PAT_LAYER, OZ_BIAS_O},
    {"router", "model.layers.%L.mlp.gate", "blk.%L.ffn_gate_inp", 'n', 'd', 2, OZ_PAT_LAYER, 0},
    {"gate", "model.layers.%L.mlp.experts.%E.gate_proj", "blk.%L.ffn_gate_exps", 'x', 'd', 2, OZ_PAT_LAYER | OZ_PAT_EXPERT, 0},
    {"up", "model.layers.%L.mlp.experts.%E.up_proj", "blk.%L.ffn_up_exps", 'x', 'd', 2, OZ_PAT_LAYER | OZ_PAT_EXPERT, 0},
    {"down", "model.layers.%L.mlp.experts.%E.down_proj", "blk.%L.ffn_down_exps", 'd', 'x', 3, OZ_PAT_LAYER | OZ_PAT_EXPERT, 0},
    {"attn_norm", "model.layers.%L.input_layernorm", "blk.%L.attn_norm", 'd', 0, 0, OZ_PAT_LAYER, 0},
    {"q_norm", "model.layers.%L.self_attn.q_norm", "blk.%L.attn_q_norm", 'q', 0, 0, OZ_PAT_LAYER, 0},
    {"k_norm", "model.layers.%L.self_attn.k_norm", "blk.%L.attn_k_norm", 'k', 0, 0, OZ_PAT_LAYER, 0},
    {"mlp_norm", "model.layers.%L.post_attention_layernorm", "blk.%L.ffn_norm", 'd', 0, 0, OZ_PAT_LAYER, 0},
    {"final_norm", "model.norm", "output_norm", 'd', 0, 0, 0, 0},
    {"embed", "model.embed_tokens", "token_embd", 'V', 'd', 0, 0, 0},
    {"head", "lm_head", "output", 'V', 'd', 0, OZ_PAT_TIED, 0},
    {0}};
static const char *const refused[] = {"clip_qkv", NULL};
const oz_family oz_family_olmoe = {.name = "olmoe",
                                   .brief = "OLMoE: routed experts, norms over all query and key heads",
                                   .hf_class = "OlmoeForCausalLM",
                                   .gguf = "olmoe",
                                   .gguf_reads = true,
                                   .qk_norm = true,
                                   .qk_norm_full = true,
                                   .experts = true,
                                   .refused = refused,
                                   .pattern = pattern};

/* model/config.c: config.json of a Hugging Face directory -> oz_dims, and back.
 *
 * Keys that change the function and are not understood are refused by name; keys that do not change it (dropout, cache flags, token ids)
 * are left alone and carried into the output. Both spellings of rope are read: rope_theta + rope_scaling, and rope_parameters. */
#include "model/arch/family.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

oz_status oz_config_int(const oz_node *config, const char *key, int64_t min, int64_t max, int32_t *out, const char *file)
{
    const oz_node *v = oz_node_get(config, key);
    if (!v || v->kind == OZ_NODE_NULL) return oz_fail(OZ_ERR_KEY, NULL, "%s: key \"%s\" is missing", file, key);
    if (v->kind != OZ_NODE_INT || v->integer < min || v->integer > max)
        return oz_fail(OZ_ERR_RANGE, NULL, "%s: key \"%s\" must be an integer from %lld to %lld", file, key, (long long)min,
                       (long long)max);
    *out = (int32_t)v->integer;
    return OZ_OK;
}
static oz_status int_or(const oz_node *config, const char *key, int64_t min, int64_t max, int32_t otherwise, int32_t *out, const char *file)
{
    const oz_node *v = oz_node_get(config, key);
    *out = otherwise;
    return v && v->kind != OZ_NODE_NULL ? oz_config_int(config, key, min, max, out, file) : OZ_OK;
}
static oz_status real_or(const oz_node *config, const char *key, double min, double max, double otherwise, double *out, const char *file)
{
    const oz_node *v = oz_node_get(config, key);
    *out = otherwise;
    if (!v || v->kind == OZ_NODE_NULL) return OZ_OK;
    if ((v->kind != OZ_NODE_REAL && v->kind != OZ_NODE_INT) || !(v->real >= min && v->real <= max))
        return oz_fail(OZ_ERR_RANGE, NULL, "%s: key \"%s\" must be a number from %g to %g", file, key, min, max);
    *out = v->real;
    return OZ_OK;
}

static const struct {
    const char *name;
    oz_act_fn fn;
} acts[] = {{"silu", OZ_ACT_SILU},          {"swish", OZ_ACT_SILU},  {"gelu_pytorch_tanh", OZ_ACT_GELU_TANH},
            {"gelu_new", OZ_ACT_GELU_TANH}, {"gelu", OZ_ACT_GELU},   {"gelu_python", OZ_ACT_GELU},
            {"relu", OZ_ACT_RELU},          {"relu2", OZ_ACT_RELU2}, {"quick_gelu", OZ_ACT_QUICK_GELU}};

static oz_status read_act(oz_dims *d, const oz_node *config, const char *file)
{
    const char *word = oz_node_text(oz_node_get(config, "hidden_act"), "silu");
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++)
        if (!strcmp(word, acts[i].name)) {
            d->act = acts[i].fn;
            return OZ_OK;
        }
    return oz_fail(OZ_ERR_UNSUPPORTED, "known: silu, gelu, gelu_new, gelu_pytorch_tanh, relu, relu2, quick_gelu",
                   "%s: hidden_act \"%s\" is not known", file, word);
}

/* Keys of other model families that would change the function: absent, null, false, 0 or 1 (a neutral factor) is fine. */
static const char *const neutral[] = {"attn_logit_softcapping",
                                      "final_logit_softcapping",
                                      "query_pre_attn_scalar",
                                      "residual_multiplier",
                                      "embedding_multiplier",
                                      "attention_multiplier",
                                      "logits_scaling",
                                      "partial_rotary_factor",
                                      "attention_sinks",
                                      "num_shared_experts",
                                      "shared_expert_intermediate_size",
                                      "scale_embedding"};
static bool is_off(const oz_node *v, bool one_too)
{
    if (!v || v->kind == OZ_NODE_NULL) return true;
    if (v->kind == OZ_NODE_BOOL) return !oz_node_bool(v, false);
    if (v->kind == OZ_NODE_INT || v->kind == OZ_NODE_REAL) return v->real == 0 || (one_too && v->real == 1);
    return false;
}
static oz_status refuse_others(const oz_family *f, const oz_node *config, const char *file)
{
    for (size_t i = 0; i < sizeof neutral / sizeof *neutral; i++)
        if (!is_off(oz_node_get(config, neutral[i]), true))
            return oz_fail(OZ_ERR_UNSUPPORTED, "this checkpoint computes something else than its model_type says",
                           "%s: key \"%s\" changes what %s computes and is not supported", file, neutral[i], f->name);
    for (const char *const *k = f->refused; k && *k; k++)
        if (!is_off(oz_node_get(config, *k), false))
            return oz_fail(OZ_ERR_UNSUPPORTED, "only null is supported", "%s: key \"%s\" changes what %s computes and is not supported",
                           file, *k, f->name);
    return OZ_OK;
}

static oz_status read_rope(oz_dims *d, const oz_node *config, const char *file)
{
    const oz_node *both = oz_node_get(config, "rope_parameters"),
                  *s = both && both->kind == OZ_NODE_MAP ? both : oz_node_get(config, "rope_scaling");
    OZ_TRY(real_or(both ? both : config, "rope_theta", 1, 1e12, 10000, &d->rope.base, file));
    d->rope.rotated = d->head_dim;
    d->rope.kind = OZ_ROPE_DEFAULT;
    d->rope.factor = 1;
    d->rope.attn_factor = 1;
    d->rope.original_context = d->context;
    if (!s || s->kind == OZ_NODE_NULL) return OZ_OK;
    if (s->kind != OZ_NODE_MAP) return oz_fail(OZ_ERR_PARSE, NULL, "%s: rope_scaling must be a map", file);
    const char *kind = oz_node_text(oz_node_get(s, "rope_type"), oz_node_text(oz_node_get(s, "type"), "default"));
    if (!strcmp(kind, "default")) return OZ_OK;
    OZ_TRY(int_or(s, "original_max_position_embeddings", 1, INT32_MAX, d->context, &d->rope.original_context, file));
    if (strcmp(kind, "linear") && strcmp(kind, "dynamic") && strcmp(kind, "yarn") && strcmp(kind, "llama3"))
        return oz_fail(OZ_ERR_UNSUPPORTED, "known: default, linear, dynamic, yarn, llama3", "%s: rope scaling \"%s\" is not known", file,
                       kind);
    if (!oz_node_get(s, "factor")) return oz_fail(OZ_ERR_KEY, NULL, "%s: rope scaling \"%s\" needs the key \"factor\"", file, kind);
    OZ_TRY(real_or(s, "factor", 1, 1e6, 1, &d->rope.factor, file));
    if (!strcmp(kind, "linear")) d->rope.kind = OZ_ROPE_LINEAR;
    if (!strcmp(kind, "dynamic")) d->rope.kind = OZ_ROPE_DYNAMIC;
    if (!strcmp(kind, "llama3")) {
        d->rope.kind = OZ_ROPE_LLAMA3;
        OZ_TRY(real_or(s, "low_freq_factor", 1e-3, 1e6, 1, &d->rope.low_freq, file));
        OZ_TRY(real_or(s, "high_freq_factor", 1e-3, 1e6, 4, &d->rope.high_freq, file));
        if (d->rope.high_freq <= d->rope.low_freq)
            return oz_fail(OZ_ERR_RANGE, NULL, "%s: high_freq_factor %g must exceed low_freq_factor %g", file, d->rope.high_freq,
                           d->rope.low_freq);
    }
    if (!strcmp(kind, "yarn")) {
        d->rope.kind = OZ_ROPE_YARN;
        for (int i = 0; i < 3; i++) {
            static const char *const other[] = {"mscale", "mscale_all_dim", "truncate"};
            const oz_node *v = oz_node_get(s, other[i]);
            if (v && v->kind != OZ_NODE_NULL && !(i == 2 && oz_node_bool(v, true)))
                return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "%s: yarn key \"%s\" is not supported", file, other[i]);
        }
        OZ_TRY(real_or(s, "beta_fast", 1e-3, 1e6, 32, &d->rope.beta_fast, file));
        OZ_TRY(real_or(s, "beta_slow", 1e-3, 1e6, 1, &d->rope.beta_slow, file));
        double usual = d->rope.factor > 1 ? 0.1 * log(d->rope.factor) + 1 : 1;
        OZ_TRY(real_or(s, "attention_factor", 1e-3, 1e3, usual, &d->rope.attn_factor, file));
    }
    return OZ_OK;
}

static oz_status read_window(oz_dims *d, const oz_family *f, const oz_node *config, const char *file)
{
    d->window = 0;
    if (f->window == OZ_WINDOW_NEVER) return OZ_OK;
    const oz_node *v = oz_node_get(config, "sliding_window");
    if (f->window == OZ_WINDOW_USE && !oz_node_bool(oz_node_get(config, "use_sliding_window"), false)) return OZ_OK;
    if (v && v->kind == OZ_NODE_NULL) return OZ_OK;
    OZ_TRY(int_or(config, "sliding_window", 1, INT32_MAX, 4096, &d->window, file));
    if (f->window != OZ_WINDOW_USE) return OZ_OK;
    int32_t from;
    OZ_TRY(int_or(config, "max_window_layers", 0, INT32_MAX, 28, &from, file));
    if (from >= d->layers)
        d->window = 0;
    else if (from > 0)
        return oz_fail(OZ_ERR_UNSUPPORTED, NULL,
                       "%s: max_window_layers %d gives some of the %d layers a window and others none: not supported", file, from,
                       d->layers);
    return OZ_OK;
}

oz_status oz_dims_from_config(oz_dims *d, const oz_family *f, const oz_node *c, const char *file)
{
    memset(d, 0, sizeof *d);
    OZ_TRY(refuse_others(f, c, file));
    OZ_TRY(oz_config_int(c, "num_hidden_layers", 1, 4096, &d->layers, file));
    OZ_TRY(oz_config_int(c, "hidden_size", 1, 1 << 20, &d->hidden, file));
    OZ_TRY(oz_config_int(c, "num_attention_heads", 1, 4096, &d->heads, file));
    OZ_TRY(int_or(c, "num_key_value_heads", 1, 4096, d->heads, &d->kv_heads, file));
    OZ_TRY(oz_config_int(c, "intermediate_size", 1, 1 << 24, &d->ffn, file));
    OZ_TRY(oz_config_int(c, "vocab_size", 1, 1 << 26, &d->vocab, file));
    OZ_TRY(int_or(c, "max_position_embeddings", 1, INT32_MAX, 2048, &d->context, file));
    const oz_node *hd = oz_node_get(c, "head_dim");
    if ((!hd || hd->kind == OZ_NODE_NULL) && d->hidden % d->heads)
        return oz_fail(OZ_ERR_SHAPE, "head_dim would settle it", "%s: hidden_size %d is not a multiple of num_attention_heads %d", file,
                       d->hidden, d->heads);
    OZ_TRY(int_or(c, "head_dim", 2, 1 << 14, d->hidden / d->heads, &d->head_dim, file));
    if (d->heads % d->kv_heads || d->head_dim % 2)
        return oz_fail(OZ_ERR_SHAPE, NULL, "%s: %d attention heads cannot share %d key heads of size %d", file, d->heads, d->kv_heads,
                       d->head_dim);
    double eps;
    OZ_TRY(real_or(c, "rms_norm_eps", 0, 1, f->experts ? 1e-5 : 1e-6, &eps, file));
    d->norm_eps = (float)eps;
    d->tied = oz_node_bool(oz_node_get(c, "tie_word_embeddings"), false);
    bool bias = oz_node_bool(oz_node_get(c, "attention_bias"), false);
    d->attn_bias = f->qkv_bias || bias;
    d->o_bias = !f->qkv_bias && bias;
    d->mlp_bias = !f->qkv_bias && oz_node_bool(oz_node_get(c, "mlp_bias"), false);
    d->qk_norm = f->qk_norm;
    d->qk_norm_full = f->qk_norm_full;
    if (f->experts) {
        OZ_TRY(oz_config_int(c, "num_experts", 1, 4096, &d->experts, file));
        OZ_TRY(oz_config_int(c, "num_experts_per_tok", 1, d->experts, &d->experts_used, file));
        d->expert_ffn = d->ffn;
        d->norm_topk = oz_node_bool(oz_node_get(c, "norm_topk_prob"), false);
    }
    OZ_TRY(read_act(d, c, file));
    OZ_TRY(read_window(d, f, c, file));
    return read_rope(d, c, file);
}

/* ---- back to config.json --------------------------------------------------------------------------------------------------------- */
static oz_status put(oz_node *map, const char *key, oz_node *value, oz_arena *a)
{
    return value ? oz_node_put(map, key, value, a) : OZ_ERR_NOMEM;
}
static oz_status put_rope(oz_node *c, const oz_dims *d, oz_arena *a)
{
    static const char *const name[] = {"none", "default", "linear", "dynamic", "llama3", "yarn", "longrope"};
    OZ_TRY(put(c, "rope_theta", oz_node_of_real(a, d->rope.base), a));
    if (d->rope.kind <= OZ_ROPE_DEFAULT) return put(c, "rope_scaling", oz_node_new(a, OZ_NODE_NULL), a);
    oz_node *s = oz_node_map(a);
    OZ_TRY(put(c, "rope_scaling", s, a));
    OZ_TRY(put(s, "rope_type", oz_node_of_text(a, name[d->rope.kind]), a));
    OZ_TRY(put(s, "factor", oz_node_of_real(a, d->rope.factor), a));
    if (d->rope.kind == OZ_ROPE_LLAMA3) {
        OZ_TRY(put(s, "low_freq_factor", oz_node_of_real(a, d->rope.low_freq), a));
        OZ_TRY(put(s, "high_freq_factor", oz_node_of_real(a, d->rope.high_freq), a));
    }
    if (d->rope.kind == OZ_ROPE_YARN) {
        OZ_TRY(put(s, "beta_fast", oz_node_of_real(a, d->rope.beta_fast), a));
        OZ_TRY(put(s, "beta_slow", oz_node_of_real(a, d->rope.beta_slow), a));
        OZ_TRY(put(s, "attention_factor", oz_node_of_real(a, d->rope.attn_factor), a));
    }
    if (d->rope.kind == OZ_ROPE_LLAMA3 || d->rope.kind == OZ_ROPE_YARN)
        OZ_TRY(put(s, "original_max_position_embeddings", oz_node_of_int(a, d->rope.original_context), a));
    return OZ_OK;
}

static oz_status put_token(oz_node *c, const char *key, const oz_ckpt *ck, const char *meta, oz_arena *a)
{
    const oz_gguf_value *v = oz_ckpt_meta(ck, meta);
    int64_t id;
    return v && oz_gguf_int(v, &id) ? put(c, key, oz_node_of_int(a, id), a) : OZ_OK;
}

oz_status oz_arch_config(const oz_arch *arch, const oz_ckpt *ck, oz_node **out, oz_arena *a)
{
    const oz_node *from = oz_ckpt_config(ck);
    if (from) {
        *out = oz_node_copy(a, from);
        return *out ? OZ_OK : OZ_ERR_NOMEM;
    }
    const oz_dims *d = &arch->dims;
    const oz_family *f = oz_arch_family(arch);
    oz_node *c = *out = oz_node_map(a), *list = oz_node_list(a), *name = oz_node_of_text(a, f->hf_class);
    if (!c || !list || !name) return OZ_ERR_NOMEM;
    OZ_TRY(oz_node_push(list, name, a));
    OZ_TRY(put(c, "architectures", list, a));
    OZ_TRY(put(c, "model_type", oz_node_of_text(a, f->name), a));
    const struct {
        const char *key;
        int64_t value;
    } ints[] = {{"hidden_size", d->hidden},
                {"intermediate_size", f->experts ? d->expert_ffn : d->ffn},
                {"num_hidden_layers", d->layers},
                {"num_attention_heads", d->heads},
                {"num_key_value_heads", d->kv_heads},
                {"head_dim", d->head_dim},
                {"vocab_size", d->vocab},
                {"max_position_embeddings", d->context}};
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++) OZ_TRY(put(c, ints[i].key, oz_node_of_int(a, ints[i].value), a));
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++)
        if (acts[i].fn == d->act) {
            OZ_TRY(put(c, "hidden_act", oz_node_of_text(a, acts[i].name), a));
            break;
        }
    char eps[32];
    (void)snprintf(eps, sizeof eps, "%.7g", (double)d->norm_eps); /* 1e-05, not the f32's 9.99999974737875e-06 */
    OZ_TRY(put(c, "rms_norm_eps", oz_node_of_real(a, strtod(eps, NULL)), a));
    OZ_TRY(put(c, "tie_word_embeddings", oz_node_of_bool(a, d->tied), a));
    if (!f->qkv_bias) OZ_TRY(put(c, "attention_bias", oz_node_of_bool(a, d->attn_bias), a));
    if (d->mlp_bias) OZ_TRY(put(c, "mlp_bias", oz_node_of_bool(a, true), a));
    if (f->window == OZ_WINDOW_KEY || d->window)
        OZ_TRY(put(c, "sliding_window", d->window ? oz_node_of_int(a, d->window) : oz_node_new(a, OZ_NODE_NULL), a));
    if (f->window == OZ_WINDOW_USE) OZ_TRY(put(c, "use_sliding_window", oz_node_of_bool(a, d->window > 0), a));
    if (f->window == OZ_WINDOW_USE && d->window) OZ_TRY(put(c, "max_window_layers", oz_node_of_int(a, 0), a));
    if (f->experts) {
        OZ_TRY(put(c, "num_experts", oz_node_of_int(a, d->experts), a));
        OZ_TRY(put(c, "num_experts_per_tok", oz_node_of_int(a, d->experts_used), a));
        OZ_TRY(put(c, "norm_topk_prob", oz_node_of_bool(a, d->norm_topk), a));
    }
    OZ_TRY(put_rope(c, d, a));
    OZ_TRY(put_token(c, "bos_token_id", ck, "tokenizer.ggml.bos_token_id", a));
    OZ_TRY(put_token(c, "eos_token_id", ck, "tokenizer.ggml.eos_token_id", a));
    return put(c, "torch_dtype", oz_node_of_text(a, "float16"), a);
}

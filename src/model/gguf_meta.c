/* model/gguf_meta.c: GGUF metadata (general.*, ARCH.*) -> oz_dims, and oz_dims -> metadata.
 *
 *   ARCH.block_count, .embedding_length, .feed_forward_length, .context_length, .vocab_size
 *   ARCH.attention.head_count, .head_count_kv, .key_length, .value_length, .layer_norm_rms_epsilon, .sliding_window
 *   ARCH.rope.dimension_count, .freq_base, .scaling.{type, factor, original_context_length, attn_factor, yarn_beta_fast, yarn_beta_slow}
 *   ARCH.expert_count, .expert_used_count, .expert_feed_forward_length
 * Llama 3 keeps its scaling in the tensor rope_freqs.weight (rope.c finds the rule). */
#include "model/arch/family.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct source {
    const oz_ckpt *ck;
    const char *arch;
} source;

static const oz_gguf_value *find(const source *s, const char *key, char full[160])
{
    (void)snprintf(full, 160, "%s.%s", s->arch, key);
    return oz_ckpt_meta(s->ck, full);
}
static oz_status read_int(const source *s, const char *key, int64_t min, int64_t max, int64_t otherwise /* < min: must be there */,
                          int32_t *out)
{
    char full[160];
    const oz_gguf_value *v = find(s, key, full);
    if (!v) {
        if (otherwise < min) return oz_fail(OZ_ERR_KEY, NULL, "%s: metadata \"%s\" is missing", oz_ckpt_path(s->ck), full);
        *out = (int32_t)otherwise;
        return OZ_OK;
    }
    int64_t x;
    if (v->kind == OZ_GGUF_ARRAY && v->count) { /* one value a layer: all must agree */
        if (!oz_gguf_int_at(v, 0, &x))
            return oz_fail(OZ_ERR_PARSE, NULL, "%s: metadata \"%s\" must hold integers", oz_ckpt_path(s->ck), full);
        for (uint64_t i = 1; i < v->count; i++) {
            int64_t y;
            if (!oz_gguf_int_at(v, i, &y) || y != x)
                return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "%s: metadata \"%s\" differs from layer to layer: not supported",
                               oz_ckpt_path(s->ck), full);
        }
    } else if (!oz_gguf_int(v, &x))
        return oz_fail(OZ_ERR_PARSE, NULL, "%s: metadata \"%s\" must be an integer", oz_ckpt_path(s->ck), full);
    if (x < min || x > max)
        return oz_fail(OZ_ERR_RANGE, NULL, "%s: metadata \"%s\" must be %lld to %lld, found %lld", oz_ckpt_path(s->ck), full,
                       (long long)min, (long long)max, (long long)x);
    *out = (int32_t)x;
    return OZ_OK;
}
static oz_status read_real(const source *s, const char *key, double otherwise, double *out)
{
    char full[160];
    const oz_gguf_value *v = find(s, key, full);
    *out = otherwise;
    if (!v) return OZ_OK;
    if (!oz_gguf_real(v, out) || !isfinite(*out) || *out < 0)
        return oz_fail(OZ_ERR_PARSE, NULL, "%s: metadata \"%s\" must be a finite number, not negative", oz_ckpt_path(s->ck), full);
    return OZ_OK;
}

static oz_status read_rope(oz_dims *d, const source *s)
{
    char full[160];
    OZ_TRY(read_real(s, "rope.freq_base", 10000, &d->rope.base));
    if (d->rope.base < 1)
        return oz_fail(OZ_ERR_RANGE, NULL, "%s: metadata \"%s.rope.freq_base\" must be 1 or more", oz_ckpt_path(s->ck), s->arch);
    OZ_TRY(read_int(s, "rope.dimension_count", 2, 1 << 14, d->head_dim, &d->rope.rotated));
    if (d->rope.rotated != d->head_dim)
        return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "%s: rope over %d of %d entries of a head is not supported by architecture \"%s\"",
                       oz_ckpt_path(s->ck), d->rope.rotated, d->head_dim, s->arch);
    d->rope.kind = OZ_ROPE_DEFAULT;
    d->rope.attn_factor = 1;
    OZ_TRY(read_real(s, "rope.scaling.factor", 1, &d->rope.factor));
    OZ_TRY(read_int(s, "rope.scaling.original_context_length", 1, INT32_MAX, d->context, &d->rope.original_context));
    const oz_gguf_value *v = find(s, "rope.scaling.type", full);
    size_t n = 0;
    const char *kind = v ? oz_gguf_string(v, &n) : NULL;
    if (v && !kind) return oz_fail(OZ_ERR_PARSE, NULL, "%s: metadata \"%s\" must be a string", oz_ckpt_path(s->ck), full);
    if (kind && n == 4 && !memcmp(kind, "yarn", 4)) {
        d->rope.kind = OZ_ROPE_YARN;
        double factor, usual = d->rope.factor > 1 ? 0.1 * log(d->rope.factor) + 1 : 1;
        OZ_TRY(read_real(s, "rope.scaling.attn_factor", 1, &factor));
        d->rope.attn_factor = factor * usual;
        OZ_TRY(read_real(s, "rope.scaling.yarn_beta_fast", 32, &d->rope.beta_fast));
        OZ_TRY(read_real(s, "rope.scaling.yarn_beta_slow", 1, &d->rope.beta_slow));
    } else if (kind && n == 6 && !memcmp(kind, "linear", 6))
        d->rope.kind = OZ_ROPE_LINEAR;
    else if (kind && !(n == 4 && !memcmp(kind, "none", 4)))
        return oz_fail(OZ_ERR_UNSUPPORTED, "known: none, linear, yarn", "%s: rope scaling \"%.*s\" is not known", oz_ckpt_path(s->ck),
                       (int)(n > 60 ? 60 : n), kind);
    const oz_tensor *t = oz_ckpt_find(s->ck, "rope_freqs.weight");
    if (!t) return OZ_OK;
    if (t->dtype != OZ_F32 || oz_tensor_count(t) != d->head_dim / 2)
        return oz_fail(OZ_ERR_SHAPE, NULL, "%s: tensor rope_freqs.weight must hold %d f32, found %lld elements", oz_ckpt_path(s->ck),
                       d->head_dim / 2, (long long)oz_tensor_count(t));
    float *f = oz_alloc((size_t)d->head_dim / 2, sizeof *f);
    if (!f) return OZ_ERR_NOMEM;
    oz_to_f32(OZ_F32, t->data, f, d->head_dim / 2);
    oz_status status = oz_rope_from_factors(d, f, oz_ckpt_path(s->ck));
    oz_free(f);
    return status;
}

oz_status oz_dims_from_gguf(oz_dims *d, const oz_family *f, const oz_ckpt *ck)
{
    source s = {ck, f->gguf};
    memset(d, 0, sizeof *d);
    const oz_tensor *embed;
    OZ_TRY(oz_ckpt_need(ck, "token_embd.weight", &embed));
    if (embed->rank != 2 || embed->shape[0] > 1 << 26)
        return oz_fail(OZ_ERR_SHAPE, NULL, "%s: tensor token_embd.weight must be a matrix, found rank %d", oz_ckpt_path(ck), embed->rank);
    OZ_TRY(read_int(&s, "block_count", 1, 4096, 0, &d->layers));
    OZ_TRY(read_int(&s, "embedding_length", 1, 1 << 20, 0, &d->hidden));
    OZ_TRY(read_int(&s, "feed_forward_length", 1, 1 << 24, 0, &d->ffn));
    OZ_TRY(read_int(&s, "context_length", 1, INT32_MAX, 0, &d->context));
    OZ_TRY(read_int(&s, "attention.head_count", 1, 4096, 0, &d->heads));
    OZ_TRY(read_int(&s, "attention.head_count_kv", 1, 4096, d->heads, &d->kv_heads));
    d->vocab = (int32_t)embed->shape[0];
    int32_t usual = d->hidden / d->heads, value;
    OZ_TRY(read_int(&s, "attention.key_length", 2, 1 << 14, usual < 2 ? 2 : usual, &d->head_dim));
    OZ_TRY(read_int(&s, "attention.value_length", 2, 1 << 14, d->head_dim, &value));
    if (d->heads % d->kv_heads || d->head_dim % 2 || value != d->head_dim)
        return oz_fail(OZ_ERR_SHAPE, NULL, "%s: %d attention heads cannot share %d key heads of size %d and value heads of size %d",
                       oz_ckpt_path(ck), d->heads, d->kv_heads, d->head_dim, value);
    double eps;
    OZ_TRY(read_real(&s, "attention.layer_norm_rms_epsilon", 1e-5, &eps));
    d->norm_eps = (float)eps;
    OZ_TRY(read_int(&s, "attention.sliding_window", 0, INT32_MAX, 0, &d->window));
    d->tied = oz_ckpt_find(ck, "output.weight") == NULL;
    d->attn_bias = oz_ckpt_find(ck, "blk.0.attn_q.bias") != NULL;
    d->o_bias = oz_ckpt_find(ck, "blk.0.attn_output.bias") != NULL;
    d->mlp_bias = oz_ckpt_find(ck, "blk.0.ffn_up.bias") != NULL;
    d->qk_norm = f->qk_norm;
    d->qk_norm_full = f->qk_norm_full;
    if (f->experts) {
        OZ_TRY(read_int(&s, "expert_count", 1, 4096, 0, &d->experts));
        OZ_TRY(read_int(&s, "expert_used_count", 1, d->experts, 0, &d->experts_used));
        OZ_TRY(read_int(&s, "expert_feed_forward_length", 1, 1 << 24, d->ffn, &d->expert_ffn));
    }
    d->act = OZ_ACT_SILU;
    return read_rope(d, &s);
}

/* ---- writing --------------------------------------------------------------------------------------------------------------------- */
typedef struct sink {
    oz_out_meta *m;
    int n;
    oz_arena *a;
    const char *arch;
    bool failed;
} sink;
static void put(sink *s, const char *key, oz_gguf_kind kind, const void *data, size_t bytes, uint64_t count)
{
    void *copy = oz_arena_alloc(s->a, bytes);
    char *full = strncmp(key, "general.", 8) ? oz_arena_printf(s->a, "%s.%s", s->arch, key) : oz_arena_strdup(s->a, key);
    if (!copy || !full) {
        s->failed = true;
        return;
    }
    memcpy(copy, data, bytes);
    s->m[s->n++] = (oz_out_meta){.key = full, .kind = kind, .count = count, .data = copy};
}
static void put_int(sink *s, const char *key, int64_t x)
{
    uint32_t v = (uint32_t)x;
    put(s, key, OZ_GGUF_U32, &v, sizeof v, 1);
}
static void put_real(sink *s, const char *key, double x)
{
    float v = (float)x;
    put(s, key, OZ_GGUF_F32, &v, sizeof v, 1);
}
static void put_text(sink *s, const char *key, const char *x) { put(s, key, OZ_GGUF_STRING, x, strlen(x) + 1, strlen(x)); }

static oz_status copy_meta(const oz_ckpt *ck, oz_out_meta **out, int *n, oz_arena *a)
{
    int all = oz_ckpt_meta_count(ck);
    oz_out_meta *m = oz_arena_alloc(a, ((size_t)all + 1) * sizeof *m);
    if (!m) return OZ_ERR_NOMEM;
    *n = 0;
    for (int i = 0; i < all; i++) {
        const oz_gguf_value *v = oz_ckpt_meta_at(ck, i);
        static const char *const skip[] = {"general.file_type", "general.alignment",
                                           "general.quantization_version"}; /* of the old tensors */
        bool leave = !strncmp(v->key, "tokenizer.", 10) || !strncmp(v->key, "split.", 6) || !strncmp(v->key, "quantize.", 9);
        for (size_t k = 0; k < sizeof skip / sizeof *skip; k++) leave = leave || !strcmp(v->key, skip[k]);
        if (!leave) m[(*n)++] = (oz_out_meta){.key = v->key, .kind = v->kind, .item = v->item, .count = v->count, .copy = v};
    }
    *out = m;
    return OZ_OK;
}

oz_status oz_arch_gguf_meta(const oz_arch *arch, const oz_ckpt *ck, oz_out_meta **out, int *n, oz_arena *a)
{
    if (oz_ckpt_kind_of(ck) == OZ_CKPT_GGUF) return copy_meta(ck, out, n, a);
    const oz_dims *d = &arch->dims;
    const oz_family *f = oz_arch_family(arch);
    if (d->rope.kind == OZ_ROPE_DYNAMIC || d->rope.kind == OZ_ROPE_LONGROPE)
        return oz_fail(OZ_ERR_EXPORT, NULL, "%s: GGUF has no word for its rope scaling (dynamic)", oz_ckpt_path(ck));
    if (d->act != OZ_ACT_SILU)
        return oz_fail(OZ_ERR_EXPORT, NULL, "%s: GGUF's %s architecture means SiLU, this model has another hidden_act", oz_ckpt_path(ck),
                       f->gguf);
    if (d->experts && d->norm_topk)
        return oz_fail(OZ_ERR_EXPORT, NULL, "%s: GGUF's %s architecture has no word for norm_topk_prob", oz_ckpt_path(ck), f->gguf);
    sink s = {.a = a, .arch = f->gguf};
    s.m = oz_arena_alloc(a, 40 * sizeof *s.m);
    if (!s.m) return OZ_ERR_NOMEM;
    const char *path = oz_ckpt_path(ck), *slash = strrchr(path, '/');
    put_text(&s, "general.architecture", f->gguf);
    put_text(&s, "general.type", "model");
    put_text(&s, "general.name", slash && slash[1] ? slash + 1 : path);
    put_int(&s, "block_count", d->layers);
    /* llama.cpp knows no window in this architecture: within the window the function is the same, so that is the context it is given */
    bool lost = d->window && !strcmp(f->gguf, "llama") && d->window < d->context;
    put_int(&s, "context_length", lost ? d->window : d->context);
    put_int(&s, "embedding_length", d->hidden);
    put_int(&s, "feed_forward_length", d->experts ? d->expert_ffn : d->ffn);
    put_int(&s, "attention.head_count", d->heads);
    put_int(&s, "attention.head_count_kv", d->kv_heads);
    put_int(&s, "attention.key_length", d->head_dim);
    put_int(&s, "attention.value_length", d->head_dim);
    put_real(&s, "attention.layer_norm_rms_epsilon", (double)d->norm_eps);
    put_int(&s, "vocab_size", d->vocab);
    if (d->window) put_int(&s, "attention.sliding_window", d->window);
    put_int(&s, "rope.dimension_count", d->rope.rotated);
    put_real(&s, "rope.freq_base", d->rope.base);
    if (d->rope.kind == OZ_ROPE_LINEAR || d->rope.kind == OZ_ROPE_YARN) {
        put_text(&s, "rope.scaling.type", d->rope.kind == OZ_ROPE_LINEAR ? "linear" : "yarn");
        put_real(&s, "rope.scaling.factor", d->rope.factor);
    }
    if (d->rope.kind == OZ_ROPE_YARN) {
        put_int(&s, "rope.scaling.original_context_length", d->rope.original_context);
        double usual = d->rope.factor > 1 ? 0.1 * log(d->rope.factor) + 1 : 1;
        if (fabs(d->rope.attn_factor / usual - 1) > 1e-6) put_real(&s, "rope.scaling.attn_factor", d->rope.attn_factor / usual);
        put_real(&s, "rope.scaling.yarn_beta_fast", d->rope.beta_fast);
        put_real(&s, "rope.scaling.yarn_beta_slow", d->rope.beta_slow);
    }
    if (d->experts) {
        put_int(&s, "expert_count", d->experts);
        put_int(&s, "expert_used_count", d->experts_used);
        put_int(&s, "expert_feed_forward_length", d->expert_ffn);
    }
    *out = s.m;
    *n = s.n;
    return s.failed ? OZ_ERR_NOMEM : OZ_OK;
}

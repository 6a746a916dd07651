/* tiny_model.h: random checkpoints of a few thousand weights, one for each kind of block: grouped query heads, biases, q/k norms, experts.
 */
#ifndef OUNCE_TESTS_TINY_MODEL_H
#define OUNCE_TESTS_TINY_MODEL_H
#include "quantize_fixture.h"
#include <stdlib.h>
#include <unistd.h>

enum { TINY_D = 32, TINY_HEADS = 4, TINY_KV = 2, TINY_HEAD = 8, TINY_F = 48, TINY_V = 40, TINY_EXPERTS = 4, TINY_LAYERS = 2 };
typedef enum { TINY_LLAMA, TINY_QWEN2, TINY_QWEN3, TINY_OLMOE, TINY_COUNT } tiny_kind;

typedef struct tiny {
    char dir[64];
    oz_ckpt *ckpt;
    oz_arch *arch;
    oz_weights *weights;
} tiny;
typedef struct tiny_tensors {
    oz_out_tensor t[128];
    char name[128][80];
    int n;
} tiny_tensors;

static inline void tiny_add(tiny_tensors *l, const char *name, int64_t rows, int64_t cols)
{
    snprintf(l->name[l->n], 80, "%s", name);
    oz_out_tensor *t = &l->t[l->n];
    *t = (oz_out_tensor){
        .name = l->name[l->n], .dtype = OZ_F32, .ggml_type = -1, .rank = rows ? 2 : 1, .bytes = (size_t)((rows ? rows : 1) * cols) * 4};
    t->shape[0] = rows ? rows : cols;
    t->shape[1] = cols;
    l->n++;
}

static inline void tiny_layer(tiny_tensors *l, tiny_kind kind, int layer)
{
    char p[80];
#define NAME(...) (snprintf(p, sizeof p, __VA_ARGS__), p)
    int kv = kind == TINY_OLMOE ? TINY_HEADS : TINY_KV;
    tiny_add(l, NAME("model.layers.%d.input_layernorm.weight", layer), 0, TINY_D);
    tiny_add(l, NAME("model.layers.%d.post_attention_layernorm.weight", layer), 0, TINY_D);
    static const char *const names[] = {"q", "k", "v"};
    for (int a = 0; a < 3; a++) {
        tiny_add(l, NAME("model.layers.%d.self_attn.%s_proj.weight", layer, names[a]), (a ? kv : TINY_HEADS) * TINY_HEAD, TINY_D);
        if (kind == TINY_QWEN2)
            tiny_add(l, NAME("model.layers.%d.self_attn.%s_proj.bias", layer, names[a]), 0, (a ? kv : TINY_HEADS) * TINY_HEAD);
    }
    tiny_add(l, NAME("model.layers.%d.self_attn.o_proj.weight", layer), TINY_D, TINY_HEADS * TINY_HEAD);
    for (int a = 0; a < 2 && (kind == TINY_QWEN3 || kind == TINY_OLMOE); a++)
        tiny_add(l, NAME("model.layers.%d.self_attn.%s_norm.weight", layer, names[a]), 0,
                 kind == TINY_QWEN3 ? TINY_HEAD : (a ? kv : TINY_HEADS) * TINY_HEAD);
    if (kind != TINY_OLMOE) {
        tiny_add(l, NAME("model.layers.%d.mlp.gate_proj.weight", layer), TINY_F, TINY_D);
        tiny_add(l, NAME("model.layers.%d.mlp.up_proj.weight", layer), TINY_F, TINY_D);
        tiny_add(l, NAME("model.layers.%d.mlp.down_proj.weight", layer), TINY_D, TINY_F);
        return;
    }
    tiny_add(l, NAME("model.layers.%d.mlp.gate.weight", layer), TINY_EXPERTS, TINY_D);
    for (int e = 0; e < TINY_EXPERTS; e++) {
        tiny_add(l, NAME("model.layers.%d.mlp.experts.%d.gate_proj.weight", layer, e), TINY_F, TINY_D);
        tiny_add(l, NAME("model.layers.%d.mlp.experts.%d.up_proj.weight", layer, e), TINY_F, TINY_D);
        tiny_add(l, NAME("model.layers.%d.mlp.experts.%d.down_proj.weight", layer, e), TINY_D, TINY_F);
    }
#undef NAME
}

static inline void tiny_config(const char *dir, tiny_kind kind)
{
    static const char *const arch[] = {"LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "OlmoeForCausalLM"};
    static const char *const type[] = {"llama", "qwen2", "qwen3", "olmoe"};
    char path[96];
    snprintf(path, sizeof path, "%s/config.json", dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(
        f,
        "{\"architectures\": [\"%s\"], \"model_type\": \"%s\", \"hidden_size\": %d, \"num_hidden_layers\": %d, \"num_attention_heads\": "
        "%d, "
        "\"num_key_value_heads\": %d, \"head_dim\": %d, \"intermediate_size\": %d, \"vocab_size\": %d, \"max_position_embeddings\": 64, "
        "\"rms_norm_eps\": 1e-5, \"rope_theta\": 10000.0, \"hidden_act\": \"silu\", \"tie_word_embeddings\": %s%s}\n",
        arch[kind], type[kind], TINY_D, TINY_LAYERS, TINY_HEADS, kind == TINY_OLMOE ? TINY_HEADS : TINY_KV, TINY_HEAD, TINY_F, TINY_V,
        kind == TINY_LLAMA ? "true" : "false",
        kind == TINY_OLMOE ? ", \"num_experts\": 4, \"num_experts_per_tok\": 2, \"norm_topk_prob\": false" : "");
    fclose(f);
}

static inline void tiny_open(tiny *t, tiny_kind kind)
{
    static tiny_tensors l;
    memset(&l, 0, sizeof l);
    snprintf(t->dir, sizeof t->dir, "/tmp/ounce-tiny-XXXXXX");
    assert_non_null(mkdtemp(t->dir));
    tiny_config(t->dir, kind);
    tiny_add(&l, "model.embed_tokens.weight", TINY_V, TINY_D);
    tiny_add(&l, "model.norm.weight", 0, TINY_D);
    if (kind != TINY_LLAMA) tiny_add(&l, "lm_head.weight", TINY_V, TINY_D);
    for (int k = 0; k < TINY_LAYERS; k++) tiny_layer(&l, kind, k);
    char path[96];
    snprintf(path, sizeof path, "%s/model.safetensors", t->dir);
    oz_writer *w;
    OK(oz_safetensors_begin(&w, path, l.t, l.n, NULL, 0, 8));
    for (int i = 0; i < l.n; i++) {
        int64_t n = (int64_t)(l.t[i].bytes / 4);
        float *x = random_matrix(1, n, (uint64_t)(100 + i));
        bool gain = l.t[i].rank == 1 && !strstr(l.name[i], "bias");
        for (int64_t j = 0; j < n; j++) x[j] = gain ? 1 + 0.2f * x[j] : x[j] / 6 * (j % TINY_D == 7 ? 4.0f : 1.0f);
        OK(oz_writer_put(w, l.name[i], x, l.t[i].bytes));
        oz_free(x);
    }
    OK(oz_writer_commit(w));
    OK(oz_ckpt_open(&t->ckpt, t->dir));
    OK(oz_arch_open(&t->arch, t->ckpt));
    OK(oz_weights_new(&t->weights, t->ckpt, t->arch));
}

static inline void tiny_close(tiny *t)
{
    oz_weights_free(t->weights);
    oz_arch_free(t->arch);
    oz_ckpt_close(t->ckpt);
    char path[96];
    snprintf(path, sizeof path, "%s/model.safetensors", t->dir);
    unlink(path);
    snprintf(path, sizeof path, "%s/config.json", t->dir);
    unlink(path);
    rmdir(t->dir);
}

enum { TINY_T = 24 };
/* Logits [T x V] of a fixed text under the weights as folded so far. */
static inline float *tiny_logits(const tiny *t)
{
    oz_model *m;
    oz_model_options o = OZ_MODEL_OPTIONS_INIT;
    o.exact = true;
    o.kv = "f32";
    OK(oz_model_of_weights(&m, t->weights, &o));
    int32_t ids[TINY_T];
    for (int i = 0; i < TINY_T; i++) ids[i] = (i * 7 + 3) % TINY_V;
    float *h = oz_alloc(TINY_T * TINY_D, sizeof *h), *y = oz_alloc(TINY_T * TINY_V, sizeof *y);
    OK(oz_model_embed(m, ids, TINY_T, oz_mat_of(h, TINY_T, TINY_D), NULL));
    for (int k = 0; k < TINY_LAYERS; k++) OK(oz_model_run_block(m, k, oz_mat_of(h, TINY_T, TINY_D), TINY_T, NULL, NULL));
    OK(oz_model_head(m, oz_mat_of(h, TINY_T, TINY_D), oz_mat_of(y, TINY_T, TINY_V), NULL));
    oz_model_free(m);
    oz_free(h);
    return y;
}

/* Inputs of one site on the fixed text: channel statistics and the rows themselves. */
typedef struct tiny_input {
    oz_stats stats;
    float *x;
    int64_t rows, n;
    const oz_arch *arch;
    const oz_site_row *row;
    oz_calib *calib;
} tiny_input;
static inline oz_status tiny_watch(void *ctx, const int32_t *lin, int n, oz_mat x)
{
    tiny_input *in = ctx;
    for (int i = 0; i < n; i++) {
        const oz_site_row *row = &in->arch->site[in->arch->linear[lin[i]].site_in];
        if (row != in->row) continue;
        if (!in->calib) OZ_TRY(oz_calib_new(&in->calib, x.cols, OZ_WANT_CHANNEL, x.rows, 0, 0, 0));
        OZ_TRY(oz_calib_add(in->calib, x, in->rows, NULL));
        in->x = oz_realloc(in->x, (size_t)((in->rows + x.rows) * x.cols), sizeof *in->x);
        in->n = x.cols;
        for (int64_t t = 0; t < x.rows; t++) memcpy(in->x + (in->rows + t) * x.cols, x.p + t * x.ld, (size_t)x.cols * sizeof *in->x);
        in->rows += x.rows;
        return OZ_OK;
    }
    return OZ_OK;
}
static inline void tiny_capture(const tiny *t, const oz_site_row *row, tiny_input *in, oz_model **model)
{
    *in = (tiny_input){.arch = oz_weights_arch(t->weights), .row = row};
    oz_model_options o = OZ_MODEL_OPTIONS_INIT;
    o.exact = true;
    OK(oz_model_of_weights(model, t->weights, &o));
    int32_t ids[TINY_T];
    for (int i = 0; i < TINY_T; i++) ids[i] = (i * 7 + 3) % TINY_V;
    float *h = oz_alloc(TINY_T * TINY_D, sizeof *h);
    OK(oz_model_embed(*model, ids, TINY_T, oz_mat_of(h, TINY_T, TINY_D), NULL));
    for (int k = 0; k < TINY_LAYERS; k++) {
        oz_forward f = {.watch = tiny_watch, .ctx = in, .stop_after_stage = -1};
        OK(oz_model_run_block(*model, k, oz_mat_of(h, TINY_T, TINY_D), TINY_T, &f, NULL));
    }
    oz_free(h);
    if (!in->calib) OK(oz_calib_new(&in->calib, row->width, OZ_WANT_CHANNEL, 1, 0, 0, 0)); /* an expert nobody chose */
    OK(oz_calib_end(in->calib, &in->stats));
    oz_calib_free(in->calib);
}
static inline void tiny_release(tiny_input *in, oz_model *model)
{
    oz_stats_drop(&in->stats);
    oz_free(in->x);
    oz_model_free(model);
}

static inline const oz_transform *transform_scale(void)
{
    int n;
    const oz_transform *const *all = oz_transforms(&n);
    for (int k = 0; k < n; k++)
        if (strcmp(all[k]->entry.name, "scale") == 0) return all[k];
    return NULL;
}
/* Options of transform scale from a YAML flow map, in the arena. */
static inline void *scale_options_of(const char *yaml, oz_arena *arena)
{
    const oz_transform *t = transform_scale();
    void *opt = oz_arena_zalloc(arena, t->entry.options_size);
    oz_options_init(&t->entry, opt);
    oz_node *node;
    OK(oz_yaml_parse(&node, yaml, strlen(yaml), "test", arena));
    for (int i = 0; i < node->n; i++) OK(oz_option_set_node(&t->entry, opt, node->item[i].key, node->item[i].value, "test", arena));
    return opt;
}
static inline double largest_change(const float *a, const float *b, int64_t n)
{
    double worst = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
        size = fmax(size, fabs((double)a[i]));
    }
    return worst / size;
}
#endif

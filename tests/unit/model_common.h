/* The tiny checkpoints of tests/golden/model (made by tools/oracle/model.py), opened as directories or GGUF files. */
#ifndef MODEL_COMMON_H
#define MODEL_COMMON_H
#include "ounce/model.h"
#include <math.h>

typedef struct tiny {
    oz_ckpt *ckpt;
    oz_arch *arch;
    oz_weights *weights;
    oz_model *model;
    char *dir;
    oz_arena *arena;
    oz_node *golden;
} tiny;

#define GOLDEN OUNCE_SOURCE_DIR "/tests/golden/model/"

/* A folder with the checkpoint of `kind` and the configuration of `name`. */
static inline char *tiny_dir(const char *kind, const char *name)
{
    char *dir = strdup("/tmp/ounce-model-XXXXXX"), from[600], to[600], *text;
    size_t n;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(from, sizeof from, GOLDEN "%s/model.safetensors", kind);
    (void)snprintf(to, sizeof to, "%s/model.safetensors", dir);
    assert_int_equal(symlink(from, to), 0);
    (void)snprintf(from, sizeof from, GOLDEN "%s/%s.config.json", kind, name);
    (void)snprintf(to, sizeof to, "%s/config.json", dir);
    assert_int_equal(oz_read_file(from, 1 << 16, &text, &n), OZ_OK);
    assert_int_equal(oz_write_file(to, text, n), OZ_OK);
    oz_free(text);
    return dir;
}
static inline void tiny_finish(tiny *t, const char *path, const char *kind, const char *name)
{
    char golden[600], *text;
    size_t n;
    if (oz_ckpt_open(&t->ckpt, path) || oz_arch_open(&t->arch, t->ckpt)) fail_msg("%s %s: %s", kind, name, oz_message());
    assert_int_equal(oz_weights_new(&t->weights, t->ckpt, t->arch), OZ_OK);
    oz_model_options o = OZ_MODEL_OPTIONS_INIT;
    o.exact = true;
    o.kv = "f32";
    assert_int_equal(oz_model_of_weights(&t->model, t->weights, &o), OZ_OK);
    (void)snprintf(golden, sizeof golden, GOLDEN "%s/%s.json", kind, name);
    assert_int_equal(oz_read_file(golden, 1 << 20, &text, &n), OZ_OK);
    assert_int_equal(oz_arena_new(&t->arena, 0), OZ_OK);
    if (oz_json_parse(&t->golden, text, n, golden, t->arena)) fail_msg("%s", oz_message());
    oz_free(text);
}
static inline tiny tiny_open(const char *kind, const char *name)
{
    tiny t = {.dir = tiny_dir(kind, name)};
    tiny_finish(&t, t.dir, kind, name);
    return t;
}
static inline tiny tiny_open_gguf(const char *kind, const char *name)
{
    tiny t = {0};
    char path[600];
    (void)snprintf(path, sizeof path, GOLDEN "%s/%s.gguf", kind, name);
    tiny_finish(&t, path, kind, name);
    return t;
}
static inline void tiny_close(tiny *t)
{
    oz_model_free(t->model);
    oz_weights_free(t->weights);
    oz_arch_free(t->arch);
    oz_ckpt_close(t->ckpt);
    oz_arena_free(t->arena);
    if (t->dir) assert_int_equal(oz_remove_tree(t->dir), OZ_OK);
    free(t->dir);
}
/* Token ids of the golden, malloc'd. */
static inline int32_t *tiny_ids(const tiny *t, int64_t *n)
{
    const oz_node *list = oz_node_get(t->golden, "ids");
    int32_t *ids = calloc((size_t)list->n, sizeof *ids);
    for (int i = 0; i < list->n; i++) ids[i] = (int32_t)oz_node_int(oz_node_at(list, i), -1);
    *n = list->n;
    return ids;
}
/* All logits [n x vocab] by whole sequences, malloc'd. */
static inline float *tiny_logits(oz_model *m, const int32_t *ids, int64_t n, oz_run *run)
{
    const oz_dims *d = &oz_model_arch(m)->dims;
    float *h = calloc((size_t)(n * d->hidden), sizeof *h), *y = calloc((size_t)(n * d->vocab), sizeof *y);
    oz_mat x = oz_mat_of(h, n, d->hidden);
    if (oz_model_embed(m, ids, n, x, run)) fail_msg("%s", oz_message());
    for (int l = 0; l < d->layers; l++)
        if (oz_model_run_block(m, l, x, n, NULL, run)) fail_msg("%s", oz_message());
    if (oz_model_head(m, x, oz_mat_of(y, n, d->vocab), run)) fail_msg("%s", oz_message());
    free(h);
    return y;
}
/* Largest |a - b| over the largest |b|. */
static inline double tiny_error(const float *a, const float *b, int64_t n)
{
    double err = 0, top = 1e-30;
    for (int64_t i = 0; i < n; i++) {
        double e = fabs((double)a[i] - (double)b[i]);
        err = e > err || e != e ? e : err;
        top = fabs((double)b[i]) > top ? fabs((double)b[i]) : top;
    }
    return err / top;
}
static inline double tiny_golden_error(const tiny *t, const float *logits)
{
    const oz_node *rows = oz_node_get(t->golden, "rows"), *want = oz_node_get(t->golden, "logits");
    int64_t vocab = t->arch->dims.vocab;
    double worst = 0;
    for (int r = 0; r < rows->n; r++) {
        float expected[1024];
        for (int64_t v = 0; v < vocab; v++) expected[v] = (float)oz_node_real(oz_node_at(oz_node_at(want, r), (int)v), NAN);
        double e = tiny_error(logits + oz_node_int(oz_node_at(rows, r), 0) * vocab, expected, vocab);
        worst = e > worst || e != e ? e : worst;
    }
    return worst;
}
#endif

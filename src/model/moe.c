/* model/moe.c: a layer of experts (OLMoE, arXiv:2409.02060): router softmax over all experts, the best k of each token, their outputs
 * weighted by the router's probabilities (renormalized over the k when norm_topk). Each expert sees its own tokens only. */
#include "model/parts.h"
#include <string.h>

static void choose(const float *p, int n, int k, int32_t *best)
{
    for (int i = 0; i < k; i++) {
        int b = -1;
        for (int e = 0; e < n; e++) {
            bool taken = false;
            for (int j = 0; j < i; j++) taken = taken || best[j] == e;
            if (!taken && (b < 0 || p[e] > p[b])) b = e;
        }
        best[i] = b;
    }
}

typedef struct routing {
    float *probability;
    int32_t *best, *rows;
} routing;

static oz_status one_expert(oz_model *m, int layer, int e, oz_mat x, oz_mat y, const routing *r, int stage, const oz_forward *f,
                            oz_run *run)
{
    const oz_arch *arch = oz_arch_of(m);
    const oz_dims *d = &arch->dims;
    int64_t n = 0;
    for (int64_t t = 0; t < x.rows; t++)
        for (int i = 0; i < d->experts_used; i++)
            if (r->best[t * d->experts_used + i] == e) r->rows[n++] = (int32_t)t;
    if (!n) return OZ_OK;
    int32_t both[2] = {oz_arch_find(arch, "gate", layer, e), oz_arch_find(arch, "up", layer, e)},
            down = oz_arch_find(arch, "down", layer, e);
    float *block = oz_alloc((size_t)(n * (2 * d->hidden + 2 * d->expert_ffn)), sizeof *block);
    if (!block) return OZ_ERR_NOMEM;
    oz_mat in = oz_mat_of(block, n, d->hidden), out = oz_mat_of(in.p + n * d->hidden, n, d->hidden);
    oz_mat g[2] = {oz_mat_of(out.p + n * d->hidden, n, d->expert_ffn),
                   oz_mat_of(out.p + n * (d->hidden + d->expert_ffn), n, d->expert_ffn)};
    for (int64_t i = 0; i < n; i++) memcpy(in.p + i * d->hidden, x.p + r->rows[i] * x.ld, (size_t)d->hidden * sizeof *block);
    oz_status s = f && f->watch && stage <= 2 ? f->watch(f->ctx, both, 2, in) : OZ_OK;
    if (!s && stage != 2) {
        s = oz_model_apply(m, both, 2, in, g, run);
        if (!s) s = oz_run_glu(d->act, g[0], g[1], run);
        if (!s && f && f->watch) s = f->watch(f->ctx, &down, 1, g[0]);
        if (!s && stage != 3) s = oz_model_apply(m, &down, 1, g[0], &out, run);
        for (int64_t i = 0; !s && stage != 3 && i < n; i++) {
            float w = r->probability[r->rows[i] * d->experts + e];
            for (int64_t j = 0; j < d->hidden; j++) y.p[r->rows[i] * y.ld + j] += w * out.p[i * d->hidden + j];
        }
    }
    oz_free(block);
    return s;
}

oz_status oz_run_experts(oz_model *m, int layer, oz_mat x, oz_mat y, const oz_forward *f, bool *done, oz_run *run)
{
    const oz_arch *arch = oz_arch_of(m);
    const oz_dims *d = &arch->dims;
    int32_t router = oz_arch_find(arch, "router", layer, -1);
    int last = f ? f->stop_after_stage : -1, stage = last == 2 || last == 3 ? last : 0; /* 0: run all */
    routing r = {oz_alloc((size_t)(x.rows * d->experts), sizeof(float)), oz_alloc((size_t)(x.rows * d->experts_used), sizeof(int32_t)),
                 oz_alloc((size_t)x.rows, sizeof(int32_t))};
    oz_status s = r.probability && r.best && r.rows ? OZ_OK : OZ_ERR_NOMEM;
    oz_mat p = oz_mat_of(r.probability, x.rows, d->experts);
    if (!s && f && f->watch) s = f->watch(f->ctx, &router, 1, x);
    if (!s) s = oz_model_apply(m, &router, 1, x, &p, run);
    for (int64_t t = 0; !s && t < x.rows; t++) {
        float *row = r.probability + t * d->experts, sum = 0;
        int32_t *best = r.best + t * d->experts_used;
        oz_nn_softmax(row, d->experts);
        choose(row, d->experts, d->experts_used, best);
        for (int i = 0; i < d->experts_used; i++) sum += row[best[i]];
        for (int i = 0; d->norm_topk && i < d->experts_used; i++) row[best[i]] /= sum;
        memset(y.p + t * y.ld, 0, (size_t)d->hidden * sizeof *y.p);
    }
    for (int e = 0; !s && e < d->experts; e++) s = one_expert(m, layer, e, x, y, &r, stage, f, run);
    *done = stage != 0;
    oz_free(r.probability);
    oz_free(r.best);
    oz_free(r.rows);
    return s;
}

/* model/moe.c: an MLP of routed experts (OLMoE, arXiv:2409.02060).
 *
 *   p = softmax(x Wrouter);  the k largest p, divided by their sum where norm_topk says so;  y = sum p_e down_e(act(gate_e x) * up_e x)
 * Each expert sees its own tokens only, gathered in token order; ties go to the lower expert. Sums run over experts in ascending order. */
#include "model/parts.h"
#include <string.h>

typedef struct route {
    int32_t *row;
    float *weight;
    int64_t *start;
} route; /* expert e: rows [start[e], start[e + 1]) */

static void pick(const oz_dims *d, float *p, int32_t *chosen)
{
    oz_nn_softmax(p, d->experts);
    float sum = 0;
    for (int k = 0; k < d->experts_used; k++) {
        int best = -1;
        for (int e = 0; e < d->experts; e++) {
            bool taken = false;
            for (int i = 0; i < k; i++) taken = taken || chosen[i] == e;
            if (!taken && (best < 0 || p[e] > p[best])) best = e;
        }
        chosen[k] = best;
        sum += p[best];
    }
    for (int k = 0; d->norm_topk && k < d->experts_used; k++) p[chosen[k]] /= sum;
}

static oz_status plan_routes(oz_model *m, oz_mat logits, route *r)
{
    const oz_dims *d = &oz_arch_of(m)->dims;
    int64_t T = logits.rows, K = d->experts_used;
    int32_t *chosen = oz_arena_alloc(m->scratch, (size_t)(T * K) * sizeof *chosen);
    r->row = oz_arena_alloc(m->scratch, (size_t)(T * K) * sizeof *r->row);
    r->weight = oz_arena_alloc(m->scratch, (size_t)(T * K) * sizeof *r->weight);
    r->start = oz_arena_zalloc(m->scratch, ((size_t)d->experts + 2) * sizeof *r->start);
    if (!chosen || !r->row || !r->weight || !r->start) return OZ_ERR_NOMEM;
    for (int64_t t = 0; t < T; t++) {
        pick(d, logits.p + t * logits.ld, chosen + t * K);
        for (int64_t k = 0; k < K; k++) r->start[chosen[t * K + k] + 2]++;
    }
    for (int e = 0; e < d->experts; e++) r->start[e + 2] += r->start[e + 1]; /* start[e + 1] is now where e is filled */
    for (int64_t t = 0; t < T; t++)
        for (int64_t k = 0; k < K; k++) {
            int e = chosen[t * K + k];
            int64_t at = r->start[e + 1]++;
            r->row[at] = (int32_t)t;
            r->weight[at] = logits.p[t * logits.ld + e];
        }
    return OZ_OK;
}

static oz_status run_expert(oz_model *m, int layer, int e, oz_mat x, const int32_t *row, const float *weight, int64_t n, oz_mat y,
                            const oz_forward *fw, oz_run *run)
{
    const oz_arch *a = oz_arch_of(m);
    const oz_dims *d = &a->dims;
    int32_t in[2] = {oz_arch_find(a, "gate", layer, e), oz_arch_find(a, "up", layer, e)}, down = oz_arch_find(a, "down", layer, e);
    float *p = oz_arena_alloc(m->scratch, (size_t)(n * (2 * x.cols + 2 * (int64_t)d->expert_ffn)) * sizeof *p);
    if (!p) return OZ_ERR_NOMEM;
    oz_mat own = oz_mat_of(p, n, x.cols), out = oz_mat_of(p + n * x.cols, n, x.cols),
           gate = oz_mat_of(out.p + n * x.cols, n, d->expert_ffn), up = oz_mat_of(gate.p + n * d->expert_ffn, n, d->expert_ffn);
    for (int64_t i = 0; i < n; i++) memcpy(own.p + i * own.ld, x.p + row[i] * x.ld, (size_t)x.cols * sizeof *p);
    if (fw && fw->watch) OZ_TRY(fw->watch(fw->ctx, in, 2, own));
    if (fw && fw->stop_after_stage == 2) return OZ_OK;
    OZ_TRY(oz_model_apply(m, in, 2, own, (oz_mat[]){gate, up}, run));
    OZ_TRY(oz_run_glu(d->act, gate, up, run));
    if (fw && fw->watch) OZ_TRY(fw->watch(fw->ctx, &down, 1, gate));
    if (fw && fw->stop_after_stage == 3) return OZ_OK;
    OZ_TRY(oz_model_apply(m, &down, 1, gate, &out, run));
    for (int64_t i = 0; i < n; i++)
        for (int64_t c = 0; c < y.cols; c++) y.p[row[i] * y.ld + c] += weight[i] * out.p[i * out.ld + c];
    return OZ_OK;
}

oz_status oz_run_experts(oz_model *m, int layer, oz_mat x, oz_mat y, const oz_forward *fw, bool *done, oz_run *run)
{
    const oz_arch *a = oz_arch_of(m);
    const oz_dims *d = &a->dims;
    int32_t router = oz_arch_find(a, "router", layer, -1);
    float *p = oz_arena_alloc(m->scratch, (size_t)(x.rows * d->experts) * sizeof *p);
    if (!p) return OZ_ERR_NOMEM;
    oz_mat logits = oz_mat_of(p, x.rows, d->experts);
    route r;
    *done = fw && (fw->stop_after_stage == 2 || fw->stop_after_stage == 3);
    if (fw && fw->watch) OZ_TRY(fw->watch(fw->ctx, &router, 1, x));
    OZ_TRY(oz_model_apply(m, &router, 1, x, &logits, run));
    OZ_TRY(plan_routes(m, logits, &r));
    for (int64_t t = 0; t < y.rows; t++) memset(y.p + t * y.ld, 0, (size_t)y.cols * sizeof *p);
    for (int e = 0; e < d->experts; e++) {
        int64_t n = r.start[e + 1] - r.start[e];
        oz_arena_mark mark = oz_arena_save(m->scratch);
        if (n) OZ_TRY(run_expert(m, layer, e, x, r.row + r.start[e], r.weight + r.start[e], n, y, fw, run));
        oz_arena_rewind(m->scratch, mark);
    }
    return OZ_OK;
}

/* model/forward.c: the forward pass over coarse operations: norm, products of a site, rotate, attend, glu, residual.
 *
 *   h += o(attend(rope(q(n1(h))), rope(k(n1(h))), v(n1(h))))      n1: attn_norm
 *   h += down(act(gate(n2(h))) * up(n2(h)))                       n2: mlp_norm; experts: moe.c
 * The same code runs whole sequences (calibration, scoring) and steps of sessions. */
#include "model/parts.h"
#include <math.h>
#include <string.h>

typedef struct norm_job {
    oz_mat x, y;
    const float *gain;
    float eps;
} norm_job;
static oz_status norm_rows(void *ctx, int64_t i0, int64_t i1, oz_work *work)
{
    const norm_job *j = ctx;
    (void)work;
    for (int64_t t = i0; t < i1; t++) oz_nn_rmsnorm(j->x.p + t * j->x.ld, j->gain, 0, j->eps, j->x.cols, j->y.p + t * j->y.ld);
    return OZ_OK;
}
oz_status oz_run_norm(oz_mat x, const float *gain, float eps, oz_mat y, oz_run *run)
{
    norm_job j = {x, y, gain, eps};
    return oz_pool_for(run ? run->pool : NULL, x.rows, 32, norm_rows, &j);
}

typedef struct glu_job {
    oz_act_fn act;
    oz_mat gate, up;
} glu_job;
static oz_status glu_rows(void *ctx, int64_t i0, int64_t i1, oz_work *work)
{
    const glu_job *j = ctx;
    (void)work;
    for (int64_t t = i0; t < i1; t++)
        oz_nn_glu(j->act, j->gate.p + t * j->gate.ld, j->up.p + t * j->up.ld, j->gate.p + t * j->gate.ld, j->gate.cols);
    return OZ_OK;
}
oz_status oz_run_glu(oz_act_fn act, oz_mat gate, oz_mat up, oz_run *run)
{
    glu_job j = {act, gate, up};
    return oz_pool_for(run ? run->pool : NULL, gate.rows, 16, glu_rows, &j);
}

static oz_mat scratch(oz_model *m, int64_t rows, int64_t cols)
{
    return oz_mat_of(oz_arena_alloc(m->scratch, (size_t)(rows * cols) * sizeof(float)), rows, cols);
}

static void add_to(oz_mat h, oz_mat y)
{
    for (int64_t t = 0; t < h.rows; t++)
        for (int64_t j = 0; j < h.cols; j++) h.p[t * h.ld + j] += y.p[t * y.ld + j];
}

/* Shows the input of a site to the watcher; true: this stage was the last one wanted. */
static oz_status seen(const oz_forward *f, int stage, const int32_t *lin, int n, oz_mat x, bool *stop)
{
    if (f && f->watch) OZ_TRY(f->watch(f->ctx, lin, n, x));
    *stop = f && f->stop_after_stage >= 0 && stage >= f->stop_after_stage;
    return OZ_OK;
}

static oz_status attention_part(oz_model *m, int layer, oz_mat h, const oz_seqs *s, const oz_forward *f, bool *stop, oz_run *run)
{
    const oz_arch *arch = oz_arch_of(m);
    const oz_dims *d = &arch->dims;
    const float *gain;
    int32_t qkv[3] = {oz_arch_find(arch, "q", layer, -1), oz_arch_find(arch, "k", layer, -1), oz_arch_find(arch, "v", layer, -1)},
            o = oz_arch_find(arch, "o", layer, -1);
    OZ_TRY(oz_model_vec(m, oz_arch_vector(arch, "attn_norm", layer), &gain));
    oz_mat x = scratch(m, h.rows, d->hidden), q = scratch(m, h.rows, d->heads * d->head_dim),
           k = scratch(m, h.rows, d->kv_heads * d->head_dim), v = scratch(m, h.rows, d->kv_heads * d->head_dim),
           a = scratch(m, h.rows, d->heads * d->head_dim);
    if (!x.p || !q.p || !k.p || !v.p || !a.p) return OZ_ERR_NOMEM;
    OZ_TRY(oz_run_norm(h, gain, d->norm_eps, x, run));
    OZ_TRY(seen(f, 0, qkv, 3, x, stop));
    if (*stop) return OZ_OK;
    oz_mat y[3] = {q, k, v};
    OZ_TRY(oz_model_apply(m, qkv, 3, x, y, run));
    OZ_TRY(oz_norm_and_rotate(m, layer, q, k, s, run));
    for (int i = 0; s->session && i < s->n; i++) {
        int64_t r0 = oz_seqs_start(s, i), n = oz_seqs_start(s, i + 1) - r0;
        OZ_TRY(oz_session_append(s->session[i], layer, oz_mat_rows(k, r0, n), oz_mat_rows(v, r0, n)));
    }
    OZ_TRY(oz_attend_all(m, layer, q, k, v, a, s, run));
    OZ_TRY(seen(f, 1, &o, 1, a, stop));
    if (*stop) return OZ_OK;
    OZ_TRY(oz_model_apply(m, &o, 1, a, &x, run));
    add_to(h, x);
    return OZ_OK;
}

static oz_status mlp_part(oz_model *m, int layer, oz_mat h, const oz_forward *f, bool *stop, oz_run *run)
{
    const oz_arch *arch = oz_arch_of(m);
    const oz_dims *d = &arch->dims;
    const float *gain;
    OZ_TRY(oz_model_vec(m, oz_arch_vector(arch, "mlp_norm", layer), &gain));
    oz_mat x = scratch(m, h.rows, d->hidden), y = scratch(m, h.rows, d->hidden);
    if (!x.p || !y.p) return OZ_ERR_NOMEM;
    OZ_TRY(oz_run_norm(h, gain, d->norm_eps, x, run));
    if (d->experts) {
        OZ_TRY(oz_run_experts(m, layer, x, y, f, stop, run));
        if (!*stop) add_to(h, y);
        return OZ_OK;
    }
    int32_t both[2] = {oz_arch_find(arch, "gate", layer, -1), oz_arch_find(arch, "up", layer, -1)},
            down = oz_arch_find(arch, "down", layer, -1);
    oz_mat g[2] = {scratch(m, h.rows, d->ffn), scratch(m, h.rows, d->ffn)};
    if (!g[0].p || !g[1].p) return OZ_ERR_NOMEM;
    OZ_TRY(seen(f, 2, both, 2, x, stop));
    if (*stop) return OZ_OK;
    OZ_TRY(oz_model_apply(m, both, 2, x, g, run));
    OZ_TRY(oz_run_glu(d->act, g[0], g[1], run));
    OZ_TRY(seen(f, 3, &down, 1, g[0], stop));
    if (*stop) return OZ_OK;
    OZ_TRY(oz_model_apply(m, &down, 1, g[0], &y, run));
    add_to(h, y);
    return OZ_OK;
}

oz_status oz_run_layer(oz_model *m, int layer, oz_mat h, const oz_seqs *s, const oz_forward *f, oz_run *run)
{
    bool stop = false;
    oz_arena_mark mark = oz_arena_save(m->scratch);
    oz_status status = attention_part(m, layer, h, s, f, &stop, run);
    oz_arena_rewind(m->scratch, mark);
    if (!status && !stop) {
        mark = oz_arena_save(m->scratch);
        status = mlp_part(m, layer, h, f, &stop, run);
        oz_arena_rewind(m->scratch, mark);
    }
    return status;
}

oz_status oz_model_run_block(oz_model *m, int layer, oz_mat hidden, int64_t length, const oz_forward *f, oz_run *run)
{
    if (length < 1 || hidden.rows % length)
        return oz_fail(OZ_ERR_SHAPE, NULL, "block %d: %lld tokens are no whole number of sequences of %lld", layer, (long long)hidden.rows,
                       (long long)length);
    oz_seqs s = {.n = (int)(hidden.rows / length), .length = length, .total = hidden.rows, .longest = length};
    return oz_run_layer(m, layer, hidden, &s, f, run);
}

oz_status oz_model_embed(oz_model *m, const int32_t *ids, int64_t n, oz_mat hidden, oz_run *run)
{
    const oz_arch *arch = oz_arch_of(m);
    oz_linear *e;
    (void)run;
    OZ_TRY(oz_model_load(m, arch->embed, &e));
    for (int64_t t = 0; t < n; t++) {
        if (ids[t] < 0 || ids[t] >= arch->dims.vocab)
            return oz_fail(OZ_ERR_RANGE, NULL, "token %lld is %d; the vocabulary has %d", (long long)t, (int)ids[t], (int)arch->dims.vocab);
        if (e->nside) return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "%s: an embedding with a sidecar is not read yet", e->name);
        OZ_TRY(oz_unpack(&e->w[0], ids[t], 1, oz_mat_of(hidden.p + t * hidden.ld, 1, arch->dims.hidden)));
    }
    return OZ_OK;
}

oz_status oz_model_head(oz_model *m, oz_mat hidden, oz_mat logits, oz_run *run)
{
    const oz_arch *arch = oz_arch_of(m);
    const float *gain;
    OZ_TRY(oz_model_vec(m, arch->final_norm, &gain));
    oz_arena_mark mark = oz_arena_save(m->scratch);
    oz_mat x = scratch(m, hidden.rows, hidden.cols);
    oz_status s = x.p ? oz_run_norm(hidden, gain, arch->dims.norm_eps, x, run) : OZ_ERR_NOMEM;
    int32_t head = arch->head;
    if (!s) s = oz_model_apply(m, &head, 1, x, &logits, run);
    oz_arena_rewind(m->scratch, mark);
    return s;
}

/* y [rows x out] = x W' for given weights, or the block's own linear. */
static oz_status project(oz_model *m, int32_t lin, oz_mat x, const oz_mat *w, oz_mat y, oz_run *run)
{
    if (!w) return oz_model_apply(m, &lin, 1, x, &y, run);
    OZ_TRY(oz_gemm(run ? run->pool : NULL, 0, 1, 1, x, *w, 0, y));
    const oz_linear *own;
    OZ_TRY(oz_model_linear(m, lin, &own));
    for (int64_t t = 0; own->bias && t < y.rows; t++)
        for (int64_t j = 0; j < y.cols; j++) y.p[t * y.ld + j] += own->bias[j];
    return OZ_OK;
}

oz_status oz_model_attention(oz_model *m, int layer, oz_mat x, int64_t length, const oz_mat *wq, const oz_mat *wk, const oz_mat *wv,
                             bool with_o, oz_mat y, oz_run *run)
{
    const oz_arch *arch = oz_arch_of(m);
    const oz_dims *d = &arch->dims;
    oz_seqs s = {.n = (int)(x.rows / length), .length = length, .total = x.rows, .longest = length};
    oz_arena_mark mark = oz_arena_save(m->scratch);
    oz_mat q = scratch(m, x.rows, d->heads * d->head_dim), k = scratch(m, x.rows, d->kv_heads * d->head_dim),
           v = scratch(m, x.rows, d->kv_heads * d->head_dim), a = with_o ? scratch(m, x.rows, d->heads * d->head_dim) : y;
    oz_status status = q.p && k.p && v.p && a.p ? OZ_OK : OZ_ERR_NOMEM;
    if (!status) status = project(m, oz_arch_find(arch, "q", layer, -1), x, wq, q, run);
    if (!status) status = project(m, oz_arch_find(arch, "k", layer, -1), x, wk, k, run);
    if (!status) status = project(m, oz_arch_find(arch, "v", layer, -1), x, wv, v, run);
    if (!status) status = oz_norm_and_rotate(m, layer, q, k, &s, run);
    if (!status) status = oz_attend_all(m, layer, q, k, v, a, &s, run);
    if (!status && with_o) status = project(m, oz_arch_find(arch, "o", layer, -1), a, NULL, y, run);
    oz_arena_rewind(m->scratch, mark);
    return status;
}

oz_status oz_step_hidden(oz_model *m, const oz_step *step, oz_mat hidden, oz_run *run)
{
    const oz_arch *arch = oz_arch_of(m);
    int64_t rows = step->start[step->nseq], d = arch->dims.hidden;
    oz_seqs s = {.n = step->nseq, .start = step->start, .session = step->session, .total = rows};
    for (int i = 0; i < step->nseq; i++) {
        int64_t n = step->start[i + 1] - step->start[i];
        OZ_TRY(oz_session_room(step->session[i], n));
        if (step->session[i]->tokens + n > s.longest) s.longest = step->session[i]->tokens + n;
    }
    float *h = oz_alloc((size_t)(rows * d), sizeof *h);
    oz_status status = h ? oz_model_embed(m, step->ids, rows, oz_mat_of(h, rows, d), run) : OZ_ERR_NOMEM;
    for (int l = 0; !status && l < arch->dims.layers; l++) {
        status = oz_check_cancel(run);
        if (!status) status = oz_run_layer(m, l, oz_mat_of(h, rows, d), &s, NULL, run);
        if (m->opt.stream) oz_model_drop_block(m, l);
    }
    for (int64_t i = 0; !status && i < step->nwant; i++) memcpy(hidden.p + i * hidden.ld, h + step->want[i] * d, (size_t)d * sizeof *h);
    for (int i = 0; !status && i < step->nseq; i++) step->session[i]->tokens += step->start[i + 1] - step->start[i];
    oz_free(h);
    return status;
}

oz_status oz_model_step(oz_model *m, const oz_step *step, oz_mat logits, oz_run *run)
{
    int64_t d = oz_arch_of(m)->dims.hidden;
    float *h = oz_alloc((size_t)((step->nwant ? step->nwant : 1) * d), sizeof *h);
    oz_status s = h ? oz_step_hidden(m, step, oz_mat_of(h, step->nwant, d), run) : OZ_ERR_NOMEM;
    if (!s && step->nwant) s = oz_model_head(m, oz_mat_of(h, step->nwant, d), logits, run);
    oz_free(h);
    return s;
}

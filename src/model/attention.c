/* model/attention.c: norms of heads, rope, and causal attention with shared key heads and sliding windows, f32.
 *
 *   S = Q K^T / sqrt(D);  P = softmax over keys at positions p - window < j <= p;  out = P V
 * One task is (sequence, query head, 64 queries). Keys and values are the pass's own, or read from the session's pages into f32 once a
 * layer. Few queries (generation) run plain loops, no BLAS. */
#include "model/parts.h"
#include <math.h>
#include <string.h>

#define QUERIES 64
#define FEW     8

/* ---- positions --------------------------------------------------------------------------------------------------------------------------
 */
static int64_t first_position(const oz_seqs *s, int i) { return s->session ? s->session[i]->tokens : 0; }

typedef struct rotate_job {
    oz_mat q, k;
    const float *q_norm, *k_norm, *cs;
    const int32_t *position;
    const oz_dims *d;
} rotate_job;

static void norm_heads(const oz_dims *d, float *row, int heads, const float *gain)
{
    if (d->qk_norm_full)
        oz_nn_rmsnorm(row, gain, 0, d->norm_eps, (int64_t)heads * d->head_dim, row);
    else
        for (int h = 0; h < heads; h++)
            oz_nn_rmsnorm(row + (int64_t)h * d->head_dim, gain, 0, d->norm_eps, d->head_dim, row + (int64_t)h * d->head_dim);
}
static oz_status rotate_rows(void *ctx, int64_t i0, int64_t i1, oz_work *w)
{
    const rotate_job *j = ctx;
    const oz_dims *d = j->d;
    (void)w;
    for (int64_t i = i0; i < i1; i++) {
        float *q = j->q.p + i * j->q.ld, *k = j->k.p + i * j->k.ld;
        if (j->q_norm) {
            norm_heads(d, q, d->heads, j->q_norm);
            norm_heads(d, k, d->kv_heads, j->k_norm);
        }
        const float *cs = j->cs + (int64_t)j->position[i] * d->rope.rotated;
        for (int h = 0; h < d->heads; h++) oz_nn_rope(q + (int64_t)h * d->head_dim, d->rope.rotated, cs, true);
        for (int h = 0; h < d->kv_heads; h++) oz_nn_rope(k + (int64_t)h * d->head_dim, d->rope.rotated, cs, true);
    }
    return OZ_OK;
}

oz_status oz_norm_and_rotate(oz_model *m, int layer, oz_mat q, oz_mat k, const oz_seqs *s, oz_run *run)
{
    const oz_arch *a = oz_arch_of(m);
    rotate_job j = {.q = q, .k = k, .cs = m->rope.cs, .d = &a->dims};
    if (a->dims.qk_norm) {
        OZ_TRY(oz_model_vec(m, oz_arch_vector(a, "q_norm", layer), &j.q_norm));
        OZ_TRY(oz_model_vec(m, oz_arch_vector(a, "k_norm", layer), &j.k_norm));
    }
    oz_arena_mark mark = oz_arena_save(m->scratch);
    int32_t *position = oz_arena_alloc(m->scratch, (size_t)q.rows * sizeof *position);
    if (!position) return OZ_ERR_NOMEM;
    for (int i = 0; i < s->n; i++)
        for (int64_t r = oz_seqs_start(s, i), p = first_position(s, i); r < oz_seqs_start(s, i + 1); r++) position[r] = (int32_t)p++;
    j.position = position;
    oz_status status = oz_pool_for(run ? run->pool : NULL, q.rows, 32, rotate_rows, &j);
    oz_arena_rewind(m->scratch, mark);
    return status;
}

/* ---- attention
 * --------------------------------------------------------------------------------------------------------------------------- */
typedef struct keys { /* of one sequence: head h at k + h * stride, position j at + j * ld */
    const float *k, *v;
    int64_t ld, stride, n, p0, row0, rows, task0;
} keys;
typedef struct attend_job {
    oz_mat q, out;
    const keys *seq;
    int nseq;
    const oz_dims *d;
    int layer;
    const oz_seqs *seqs;
    float *copy; /* f32 keys and values of sessions: [seq][k, v][head][n][D] */
} attend_job;

static float dot(const float *a, const float *b, int64_t n)
{
    float lane[8] = {0};
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int l = 0; l < 8; l++) lane[l] += a[i + l] * b[i + l];
    for (; i < n; i++) lane[0] += a[i] * b[i];
    return ((lane[0] + lane[4]) + (lane[1] + lane[5])) + ((lane[2] + lane[6]) + (lane[3] + lane[7]));
}

/* Queries at rows r .. r + n of a sequence, one head. */
static oz_status attend_block(const attend_job *j, const keys *s, int head, int64_t r, int64_t n, oz_work *w)
{
    const oz_dims *d = j->d;
    int64_t D = d->head_dim, first = s->p0 + r, last = first + n - 1;
    int64_t lo = d->window && first - d->window + 1 > 0 ? first - d->window + 1 : 0, hi = last + 1, cols = hi - lo;
    const float *k = s->k + head / (d->heads / d->kv_heads) * s->stride + lo * s->ld, *v = s->v + (k - s->k);
    oz_mat q = oz_mat_cols(oz_mat_rows(j->q, s->row0 + r, n), head * D, D),
           out = oz_mat_cols(oz_mat_rows(j->out, s->row0 + r, n), head * D, D);
    float *p = oz_arena_alloc(w->arena, (size_t)(n * cols) * sizeof *p);
    if (!p) return OZ_ERR_NOMEM;
    float scale = 1 / sqrtf((float)D);
    if (n < FEW)
        for (int64_t i = 0; i < n; i++)
            for (int64_t c = 0; c < cols; c++) p[i * cols + c] = scale * dot(q.p + i * q.ld, k + c * s->ld, D);
    else
        OZ_TRY(oz_gemm(NULL, 0, 1, (double)scale, q, (oz_mat){(float *)(uintptr_t)k, cols, D, s->ld}, 0, oz_mat_of(p, n, cols)));
    for (int64_t i = 0; i < n; i++) {
        int64_t end = first + i + 1 - lo, from = d->window && first + i - d->window + 1 > lo ? first + i - d->window + 1 - lo : 0;
        float *row = p + i * cols;
        memset(row, 0, (size_t)from * sizeof *row);
        oz_nn_softmax(row + from, end - from);
        memset(row + end, 0, (size_t)(cols - end) * sizeof *row);
    }
    if (n >= FEW) return oz_gemm(NULL, 0, 0, 1, oz_mat_of(p, n, cols), (oz_mat){(float *)(uintptr_t)v, cols, D, s->ld}, 0, out);
    for (int64_t i = 0; i < n; i++) {
        float *o = out.p + i * out.ld;
        memset(o, 0, (size_t)D * sizeof *o);
        for (int64_t c = 0; c < cols; c++)
            for (int64_t x = 0; x < D; x++) o[x] += p[i * cols + c] * v[c * s->ld + x];
    }
    return OZ_OK;
}
static oz_status attend_tasks(void *ctx, int64_t t0, int64_t t1, oz_work *w)
{
    const attend_job *j = ctx;
    for (int64_t t = t0; t < t1; t++) {
        int lo = 0, hi = j->nseq; /* the sequence of this task */
        while (hi - lo > 1) {
            int mid = (lo + hi) / 2;
            if (j->seq[mid].task0 <= t)
                lo = mid;
            else
                hi = mid;
        }
        const keys *s = &j->seq[lo];
        int64_t blocks = (s->rows + QUERIES - 1) / QUERIES, i = t - s->task0, r = (blocks - 1 - i % blocks) * QUERIES; /* long ones first */
        oz_arena_mark mark = oz_arena_save(w->arena);
        OZ_TRY(attend_block(j, s, (int)(i / blocks), r, s->rows - r < QUERIES ? s->rows - r : QUERIES, w));
        oz_arena_rewind(w->arena, mark);
    }
    return OZ_OK;
}

/* Sessions: task = (sequence, k or v, head). */
static oz_status copy_tasks(void *ctx, int64_t t0, int64_t t1, oz_work *w)
{
    const attend_job *j = ctx;
    (void)w;
    for (int64_t t = t0; t < t1; t++) {
        int kv = j->d->kv_heads, s = (int)(t / (2 * kv)), v = (int)(t / kv) & 1, h = (int)(t % kv);
        const keys *x = &j->seq[s];
        float *to = (float *)(uintptr_t)(v ? x->v : x->k) + h * x->stride;
        int64_t lo = j->d->window && x->p0 - j->d->window + 1 > 0 ? x->p0 - j->d->window + 1 : 0;
        oz_session_read(j->seqs->session[s], j->layer, v, h, lo, x->n - lo, to + lo * j->d->head_dim);
    }
    return OZ_OK;
}

oz_status oz_attend_all(oz_model *m, int layer, oz_mat q, oz_mat k, oz_mat v, oz_mat out, const oz_seqs *s, oz_run *run)
{
    const oz_dims *d = &oz_arch_of(m)->dims;
    oz_pool *pool = run ? run->pool : NULL;
    oz_arena_mark mark = oz_arena_save(m->scratch);
    keys *seq = oz_arena_alloc(m->scratch, (size_t)s->n * sizeof *seq);
    if (!seq) return OZ_ERR_NOMEM;
    int64_t tasks = 0;
    oz_status status = OZ_OK;
    for (int i = 0; i < s->n && !status; i++) {
        int64_t row0 = oz_seqs_start(s, i), rows = oz_seqs_start(s, i + 1) - row0, p0 = first_position(s, i), n = p0 + rows;
        seq[i] = (keys){.k = k.p + row0 * k.ld,
                        .v = v.p + row0 * v.ld,
                        .ld = k.ld,
                        .stride = d->head_dim,
                        .n = n,
                        .p0 = p0,
                        .row0 = row0,
                        .rows = rows,
                        .task0 = tasks};
        tasks += (rows + QUERIES - 1) / QUERIES * d->heads;
        if (!s->session) continue;
        float *copy = oz_arena_alloc(m->scratch, (size_t)(2 * n * d->kv_heads * d->head_dim) * sizeof *copy);
        if (!copy) status = OZ_ERR_NOMEM;
        seq[i].k = copy;
        seq[i].v = copy + (copy ? n * d->kv_heads * d->head_dim : 0);
        seq[i].ld = d->head_dim;
        seq[i].stride = n * d->head_dim;
    }
    attend_job j = {.q = q, .out = out, .seq = seq, .nseq = s->n, .d = d, .layer = layer, .seqs = s};
    if (!status && s->session) status = oz_pool_for(pool, (int64_t)s->n * 2 * d->kv_heads, 1, copy_tasks, &j);
    if (!status) status = oz_pool_for(pool, tasks, 1, attend_tasks, &j);
    oz_arena_rewind(m->scratch, mark);
    return status;
}

/* ---- the module with other weights (card awq: objectives over the whole attention)
 * --------------------------------------------------------- */
static oz_status project(oz_model *m, int linear, oz_mat x, const oz_mat *w, oz_mat y, oz_run *run)
{
    int32_t i = linear;
    const oz_linear *l;
    if (!w) return oz_model_apply(m, &i, 1, x, &y, run);
    OZ_TRY(oz_gemm(run ? run->pool : NULL, 0, 1, 1, x, *w, 0, y));
    OZ_TRY(oz_model_linear(m, linear, &l));
    for (int64_t t = 0; t < y.rows && l->bias; t++)
        for (int64_t c = 0; c < y.cols; c++) y.p[t * y.ld + c] += l->bias[c];
    return OZ_OK;
}
oz_status oz_model_attention(oz_model *m, int layer, oz_mat x, int64_t length, const oz_mat *wq, const oz_mat *wk, const oz_mat *wv,
                             bool with_o, oz_mat y, oz_run *run)
{
    const oz_arch *a = oz_arch_of(m);
    const oz_dims *d = &a->dims;
    if (length < 1 || x.rows % length)
        return oz_fail(OZ_ERR_SHAPE, NULL, "block %d of %s: %lld rows are no whole sequences of %lld tokens", layer, a->name,
                       (long long)x.rows, (long long)length);
    int64_t nq = (int64_t)d->heads * d->head_dim, nk = (int64_t)d->kv_heads * d->head_dim;
    oz_seqs s = {.n = (int)(x.rows / length), .length = length, .total = x.rows, .longest = length};
    OZ_TRY(oz_rope_table(&m->rope, d, length, length));
    oz_arena_mark mark = oz_arena_save(m->scratch);
    float *p = oz_arena_alloc(m->scratch, (size_t)(x.rows * (2 * nq + 2 * nk)) * sizeof *p);
    oz_status status = p ? OZ_OK : OZ_ERR_NOMEM;
    if (!status) {
        oz_mat q = oz_mat_of(p, x.rows, nq), k = oz_mat_of(p + x.rows * nq, x.rows, nk), v = oz_mat_of(k.p + x.rows * nk, x.rows, nk),
               out = with_o ? oz_mat_of(v.p + x.rows * nk, x.rows, nq) : y;
        status = project(m, oz_arch_find(a, "q", layer, -1), x, wq, q, run);
        if (!status) status = project(m, oz_arch_find(a, "k", layer, -1), x, wk, k, run);
        if (!status) status = project(m, oz_arch_find(a, "v", layer, -1), x, wv, v, run);
        if (!status) status = oz_norm_and_rotate(m, layer, q, k, &s, run);
        if (!status) status = oz_attend_all(m, layer, q, k, v, out, &s, run);
        if (!status && with_o) status = project(m, oz_arch_find(a, "o", layer, -1), out, NULL, y, run);
    }
    oz_arena_rewind(m->scratch, mark);
    return status;
}

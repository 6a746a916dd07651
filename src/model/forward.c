/* model/forward.c: one block, the embedding, the head, and a step of several sequences.
 *
 *   h = norm(x);  q, k, v = h Wq, h Wk, h Wv;  q, k = rope(norm(q), norm(k));  x += attend(q, k, v) Wo
 *   h = norm(x);  x += (act(h Wgate) * h Wup) Wdown        or the experts the router picks (moe.c)
 * x [rows x d], rows of one sequence after another. Everything is cut over rows, or over (sequence, head), never by thread count. */
#include "model/parts.h"
#include <string.h>

/* ---- small steps over rows --------------------------------------------------------------------------------------------------------- */
typedef struct norm_job {
    oz_mat x, y;
    const float *gain;
    float eps;
} norm_job;
static oz_status norm_rows(void *ctx, int64_t i0, int64_t i1, oz_work *w)
{
    const norm_job *j = ctx;
    (void)w;
    for (int64_t i = i0; i < i1; i++) oz_nn_rmsnorm(j->x.p + i * j->x.ld, j->gain, 0, j->eps, j->x.cols, j->y.p + i * j->y.ld);
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
static oz_status glu_rows(void *ctx, int64_t i0, int64_t i1, oz_work *w)
{
    const glu_job *j = ctx;
    (void)w;
    for (int64_t i = i0; i < i1; i++)
        oz_nn_glu(j->act, j->gate.p + i * j->gate.ld, j->up.p + i * j->up.ld, j->gate.p + i * j->gate.ld, j->gate.cols);
    return OZ_OK;
}
oz_status oz_run_glu(oz_act_fn act, oz_mat gate, oz_mat up, oz_run *run)
{
    glu_job j = {act, gate, up};
    return oz_pool_for(run ? run->pool : NULL, gate.rows, 16, glu_rows, &j);
}

static void add_rows(oz_mat x, oz_mat y)
{
    for (int64_t i = 0; i < x.rows; i++)
        for (int64_t j = 0; j < x.cols; j++) x.p[i * x.ld + j] += y.p[i * y.ld + j];
}

static oz_status scratch(oz_model *m, int64_t rows, int64_t cols, oz_mat *out)
{
    size_t bytes;
    if (!oz_mul_size((size_t)rows, (size_t)cols * sizeof(float), &bytes))
        return oz_fail(OZ_ERR_RANGE, "run fewer sequences at once", "%lld rows of %lld do not fit in memory", (long long)rows,
                       (long long)cols);
    float *p = oz_arena_alloc(m->scratch, bytes);
    *out = oz_mat_of(p, rows, cols);
    return p ? OZ_OK : OZ_ERR_NOMEM;
}

/* ---- one block -------------------------------------------------------------------------------------------------------------------------
 */
static oz_status see(const oz_forward *f, const int32_t *lin, int n, oz_mat x)
{
    return f && f->watch ? f->watch(f->ctx, lin, n, x) : OZ_OK;
}
static bool stops(const oz_forward *f, int stage) { return f && f->stop_after_stage == stage; }

static oz_status attention_part(oz_model *m, int layer, oz_mat x, oz_mat h, const oz_seqs *seqs, const oz_forward *fw, bool *done,
                                oz_run *run)
{
    const oz_arch *a = oz_arch_of(m);
    const oz_dims *d = &a->dims;
    const float *gain;
    int32_t qkv[3] = {oz_arch_find(a, "q", layer, -1), oz_arch_find(a, "k", layer, -1), oz_arch_find(a, "v", layer, -1)};
    int32_t o = oz_arch_find(a, "o", layer, -1);
    int64_t kv = (int64_t)d->kv_heads * d->head_dim;
    oz_mat q, k, v, att;
    OZ_TRY(oz_model_vec(m, oz_arch_vector(a, "attn_norm", layer), &gain));
    OZ_TRY(oz_run_norm(x, gain, d->norm_eps, h, run));
    OZ_TRY(see(fw, qkv, 3, h));
    if ((*done = stops(fw, 0))) return OZ_OK;
    OZ_TRY(scratch(m, x.rows, (int64_t)d->heads * d->head_dim, &q));
    OZ_TRY(scratch(m, x.rows, kv, &k));
    OZ_TRY(scratch(m, x.rows, kv, &v));
    OZ_TRY(scratch(m, x.rows, q.cols, &att));
    OZ_TRY(oz_model_apply(m, qkv, 3, h, (oz_mat[]){q, k, v}, run));
    OZ_TRY(oz_norm_and_rotate(m, layer, q, k, seqs, run));
    for (int s = 0; seqs->session && s < seqs->n; s++) {
        int64_t at = oz_seqs_start(seqs, s), n = oz_seqs_start(seqs, s + 1) - at;
        OZ_TRY(oz_session_append(seqs->session[s], layer, oz_mat_rows(k, at, n), oz_mat_rows(v, at, n)));
    }
    OZ_TRY(oz_attend_all(m, layer, q, k, v, att, seqs, run));
    OZ_TRY(see(fw, &o, 1, att));
    if ((*done = stops(fw, 1))) return OZ_OK;
    OZ_TRY(oz_model_apply(m, &o, 1, att, &h, run));
    add_rows(x, h);
    return OZ_OK;
}

static oz_status mlp_part(oz_model *m, int layer, oz_mat x, oz_mat h, const oz_forward *fw, oz_run *run)
{
    const oz_arch *a = oz_arch_of(m);
    const oz_dims *d = &a->dims;
    const float *gain;
    OZ_TRY(oz_model_vec(m, oz_arch_vector(a, "mlp_norm", layer), &gain));
    OZ_TRY(oz_run_norm(x, gain, d->norm_eps, h, run));
    if (d->experts) {
        oz_mat y;
        bool done;
        OZ_TRY(scratch(m, x.rows, x.cols, &y));
        OZ_TRY(oz_run_experts(m, layer, h, y, fw, &done, run));
        if (!done) add_rows(x, y);
        return OZ_OK;
    }
    int32_t in[2] = {oz_arch_find(a, "gate", layer, -1), oz_arch_find(a, "up", layer, -1)}, down = oz_arch_find(a, "down", layer, -1);
    OZ_TRY(see(fw, in, 2, h));
    if (stops(fw, 2)) return OZ_OK;
    oz_mat gate, up;
    OZ_TRY(scratch(m, x.rows, d->ffn, &gate));
    OZ_TRY(scratch(m, x.rows, d->ffn, &up));
    OZ_TRY(oz_model_apply(m, in, 2, h, (oz_mat[]){gate, up}, run));
    OZ_TRY(oz_run_glu(d->act, gate, up, run));
    OZ_TRY(see(fw, &down, 1, gate));
    if (stops(fw, 3)) return OZ_OK;
    OZ_TRY(oz_model_apply(m, &down, 1, gate, &h, run));
    add_rows(x, h);
    return OZ_OK;
}

oz_status oz_run_layer(oz_model *m, int layer, oz_mat x, const oz_seqs *seqs, const oz_forward *fw, oz_run *run)
{
    oz_mat h;
    bool done = false;
    oz_arena_mark all = oz_arena_save(m->scratch);
    OZ_TRY(oz_check_cancel(run));
    oz_status s = scratch(m, x.rows, x.cols, &h);
    oz_arena_mark half = oz_arena_save(m->scratch);
    if (!s) s = attention_part(m, layer, x, h, seqs, fw, &done, run);
    if (!s && !done) {
        oz_arena_rewind(m->scratch, half);
        s = mlp_part(m, layer, x, h, fw, run);
    }
    oz_arena_rewind(m->scratch, all);
    if (m->opt.stream) oz_model_drop_block(m, layer);
    return s;
}

/* Without a watcher, so many rows at a time: working memory stays small and in cache. */
#define CHUNK 4096
oz_status oz_model_run_block(oz_model *m, int layer, oz_mat hidden, int64_t length, const oz_forward *fw, oz_run *run)
{
    const oz_dims *d = &oz_arch_of(m)->dims;
    if (layer < 0 || layer >= d->layers || length < 1 || hidden.rows % length || hidden.cols != d->hidden)
        return oz_fail(OZ_ERR_SHAPE, NULL, "block %d of %s: %lld rows of %lld are no whole sequences of %lld tokens of %d", layer,
                       oz_arch_of(m)->name, (long long)hidden.rows, (long long)hidden.cols, (long long)length, d->hidden);
    OZ_TRY(oz_rope_table(&m->rope, d, length, length));
    int64_t step = fw && fw->watch ? hidden.rows : length > CHUNK ? length : CHUNK / length * length;
    for (int64_t r = 0; r < hidden.rows; r += step) {
        int64_t n = hidden.rows - r < step ? hidden.rows - r : step;
        oz_seqs s = {.n = (int)(n / length), .length = length, .total = n, .longest = length};
        bool keep = m->opt.stream && r + n < hidden.rows;
        if (keep) m->opt.stream = false;
        oz_status status = oz_run_layer(m, layer, oz_mat_rows(hidden, r, n), &s, fw, run);
        if (keep) m->opt.stream = true;
        OZ_TRY(status);
    }
    return OZ_OK;
}

/* ---- embedding and head ----------------------------------------------------------------------------------------------------------------
 */
oz_status oz_model_embed(oz_model *m, const int32_t *ids, int64_t n, oz_mat hidden, oz_run *run)
{
    const oz_arch *a = oz_arch_of(m);
    const oz_linear *l;
    OZ_TRY(oz_check_cancel(run));
    OZ_TRY(oz_model_linear(m, a->embed, &l));
    for (int64_t t = 0; t < n; t++) {
        if (ids[t] < 0 || ids[t] >= a->dims.vocab)
            return oz_fail(OZ_ERR_RANGE, "the tokenizer does not belong to this model", "token %d at position %lld: the vocabulary has %d",
                           ids[t], (long long)t, a->dims.vocab);
        if (l->nside)
            OZ_TRY(oz_weights_rows(m->weights, a->embed, ids[t], 1, hidden.p + t * hidden.ld));
        else
            OZ_TRY(oz_unpack(&l->w[0], ids[t], 1, oz_mat_rows(hidden, t, 1)));
    }
    return OZ_OK;
}

oz_status oz_model_head(oz_model *m, oz_mat hidden, oz_mat logits, oz_run *run)
{
    const oz_arch *a = oz_arch_of(m);
    const float *gain;
    oz_mat h;
    int32_t head = a->head;
    if (logits.cols != a->dims.vocab || logits.rows != hidden.rows)
        return oz_fail(OZ_ERR_SHAPE, NULL, "logits of %lld x %lld for %lld rows of a vocabulary of %d", (long long)logits.rows,
                       (long long)logits.cols, (long long)hidden.rows, a->dims.vocab);
    OZ_TRY(oz_model_vec(m, a->final_norm, &gain));
    oz_arena_mark mark = oz_arena_save(m->scratch);
    oz_status s = scratch(m, hidden.rows, hidden.cols, &h);
    if (!s) s = oz_run_norm(hidden, gain, a->dims.norm_eps, h, run);
    if (!s) s = oz_model_apply(m, &head, 1, h, &logits, run);
    oz_arena_rewind(m->scratch, mark);
    return s;
}

/* ---- steps
 * ------------------------------------------------------------------------------------------------------------------------------- */
oz_status oz_step_hidden(oz_model *m, const oz_step *st, oz_mat out, oz_run *run)
{
    const oz_dims *d = &oz_arch_of(m)->dims;
    int64_t rows = st->start[st->nseq], longest = 0;
    for (int s = 0; s < st->nseq; s++) {
        int64_t n = st->start[s + 1] - st->start[s];
        OZ_TRY(oz_session_room(st->session[s], n));
        if (st->session[s]->tokens + n > longest) longest = st->session[s]->tokens + n;
    }
    for (int64_t i = 0; i < st->nwant; i++)
        if (st->want[i] < 0 || st->want[i] >= rows)
            return oz_fail(OZ_ERR_RANGE, NULL, "logits are wanted of row %lld, the step has %lld", (long long)st->want[i], (long long)rows);
    OZ_TRY(oz_rope_table(&m->rope, d, longest, longest));
    oz_seqs seqs = {.n = st->nseq, .start = st->start, .session = st->session, .total = rows, .longest = longest};
    float *p = oz_alloc((size_t)rows, (size_t)d->hidden * sizeof *p);
    if (!p) return OZ_ERR_NOMEM;
    oz_mat x = oz_mat_of(p, rows, d->hidden);
    oz_status s = oz_model_embed(m, st->ids, rows, x, run);
    for (int L = 0; L < d->layers && !s; L++) s = oz_run_layer(m, L, x, &seqs, NULL, run);
    for (int64_t i = 0; i < st->nwant && !s; i++) memcpy(out.p + i * out.ld, p + st->want[i] * d->hidden, (size_t)d->hidden * sizeof *p);
    oz_free(p);
    for (int i = 0; i < st->nseq && !s; i++) st->session[i]->tokens += st->start[i + 1] - st->start[i];
    return s;
}

oz_status oz_model_step(oz_model *m, const oz_step *st, oz_mat logits, oz_run *run)
{
    float *p = oz_alloc((size_t)st->nwant + 1, (size_t)oz_arch_of(m)->dims.hidden * sizeof *p);
    if (!p) return OZ_ERR_NOMEM;
    oz_mat h = oz_mat_of(p, st->nwant, oz_arch_of(m)->dims.hidden);
    oz_status s = oz_step_hidden(m, st, h, run);
    if (!s && st->nwant) s = oz_model_head(m, h, logits, run);
    oz_free(p);
    return s;
}

/* gptq_sweep.c: the inner loops of GPTQ (card owq, B.5) on one strip of rows and one batch of columns.
 *
 * A strip is kept transposed, z [columns of the batch][rows of the strip], so that a column is contiguous and the whole strip (64 rows x
 * 128 columns, 32 KiB) stays in the first cache levels.  Columns are taken in segments of 16: inside a segment each error is pushed at
 * once (rank one), after it the rest of the batch receives the segment's errors as one small product; the rest of the matrix follows
 * per batch in gptq.c.  Any split gives the same sums up to rounding, and the split depends on the options only, never on threads. */
#include "gptq.h"
#include <math.h>
#include <string.h>

enum { SEGMENT = 16 };
enum { QUANTIZE, KEEP, ZERO };

typedef struct strip {
    gptq_sweep *s;
    oz_work *work;
    int64_t i0, rows, ld; /* ld: rows of a full strip */
    float *z, *q;         /* [B][ld] */
    uint8_t *code, *mode; /* [B][ld]; mode NULL when nothing is masked */
    float *in;            /* [ld * d] what project sees */
    float *value;         /* [ld * d] what project answers */
    float *scale, *zero;  /* [ld] of the group in force */
    float *round;         /* [ld * d] or NULL */
    bool fast;            /* the group in force is a scalar grid with one-byte codes */
    double loss;
    int64_t clipped;
} strip;

static oz_status nomem(void) { return OZ_ERR_NOMEM; }

static void load(strip *t)
{
    const gptq_sweep *s = t->s;
    int64_t width = s->b1 - s->b0;
    for (int64_t i = 0; i < t->rows; i++) {
        const float *w = s->w + (t->i0 + i) * s->n + s->b0;
        for (int64_t j = 0; j < width; j++) t->z[j * t->ld + i] = w[j];
    }
    if (!t->mode) return;
    const oz_sweep *ask = s->ask;
    int64_t words = oz_mask_words(s->n), zwords = oz_mask_words(s->batch);
    for (int64_t j = 0; j < width; j++) {
        int64_t col = s->perm[s->b0 + j];
        for (int64_t i = 0; i < t->rows; i++) {
            int64_t row = t->i0 + i;
            uint8_t mode = QUANTIZE;
            if ((ask->zero && oz_mask_bit(ask->zero, words, row, col)) || (s->zero && oz_mask_bit(s->zero, zwords, row, j))) mode = ZERO;
            if ((ask->skip && ask->skip[col]) || (ask->keep && oz_mask_bit(ask->keep, words, row, col))) mode = KEEP;
            t->mode[j * t->ld + i] = mode;
        }
    }
}

static void store(const strip *t)
{
    const gptq_sweep *s = t->s;
    int64_t width = s->b1 - s->b0, n = s->n;
    for (int64_t i = 0; i < t->rows; i++) {
        int64_t row = t->i0 + i;
        float *w = s->w + row * n + s->b0, *w_hat = s->out->w_hat.p + row * n;
        const int32_t *perm = s->perm + s->b0;
        for (int64_t j = 0; j < width; j++) w[j] = t->z[j * t->ld + i];
        for (int64_t j = 0; j < width; j++) w_hat[perm[j]] = t->q[j * t->ld + i];
        if (t->code) {
            uint8_t *codes = s->out->codes + row * n;
            for (int64_t j = 0; j < width; j++) codes[perm[j]] = t->code[j * t->ld + i];
        }
    }
}

/* Fits the strip's tiles of a group from the current values and seals them. */
static oz_status fit_local(strip *t, const gptq_group *g)
{
    const gptq_sweep *s = t->s;
    const oz_shape *sh = &g->fmt->shape;
    int64_t tile_c = g->col0 / sh->prm_c, tile_r0 = t->i0 / sh->prm_r, ntr = (t->rows + sh->prm_r - 1) / sh->prm_r;
    oz_arena_mark mark = oz_arena_save(t->work->arena);
    int64_t words = oz_mask_words(g->cols);
    float *tile = oz_arena_alloc(t->work->arena, (size_t)(sh->prm_r * g->cols) * sizeof *tile);
    uint64_t *mask = t->mode ? oz_arena_alloc(t->work->arena, (size_t)(sh->prm_r * words) * sizeof *mask) : NULL;
    if (!tile || (t->mode && !mask)) return nomem();
    for (int64_t k = 0; k < ntr; k++) {
        int64_t r0 = k * sh->prm_r, rows = t->rows - r0 < sh->prm_r ? t->rows - r0 : sh->prm_r;
        memset(tile, 0, (size_t)(sh->prm_r * g->cols) * sizeof *tile);
        if (mask) memset(mask, 0, (size_t)(sh->prm_r * words) * sizeof *mask);
        for (int64_t p = g->first; p <= g->last; p++) {
            int64_t j = p - s->b0, c = s->perm[p] - g->col0;
            for (int64_t i = 0; i < rows; i++) {
                tile[i * g->cols + c] = t->z[j * t->ld + r0 + i];
                if (mask && t->mode[j * t->ld + r0 + i] != QUANTIZE) oz_mask_set(mask, words, i, c);
            }
        }
        oz_fit_in in = {.w = oz_mat_of(tile, rows, g->cols),
                        .row0 = t->i0 + r0,
                        .col0 = g->col0,
                        .weight = s->diag + g->col0,
                        .skip = s->ask->skip ? s->ask->skip + g->col0 : NULL,
                        .mask = mask,
                        .mask_ld = words,
                        .stats = s->stats,
                        .rng = {(uint64_t)(tile_r0 + k), (uint64_t)tile_c}};
        OZ_TRY(s->fit_type->fit(s->fit_opt, g->fmt, g->params, tile_r0 + k, tile_c, &in, t->work));
    }
    oz_arena_rewind(t->work->arena, mark);
    return g->fmt->type->seal ? g->fmt->type->seal(g->fmt, g->params, tile_r0, ntr, tile_c, 1) : OZ_OK;
}

/* Makes a group's parameters the ones in force: one scale (and zero) a row of the strip, when its grid is scalar. */
static void enter(strip *t, const gptq_group *g)
{
    const oz_fmt *f = g->fmt;
    t->fast = (f->shape.flags & OZ_FMT_SCALAR) && f->shape.code_bytes == 1 && f->type->encode && t->s->d == 1 && !t->round;
    if (!t->fast) return;
    const float *scale = oz_params_get(g->params, "scale"), *zero = oz_params_get(g->params, "zero");
    int64_t tc = oz_fmt_tiles_c(f), tile_c = g->col0 / f->shape.prm_c;
    for (int64_t i = 0; i < t->rows; i++) {
        int64_t k = (t->i0 + i) / f->shape.prm_r * tc + tile_c;
        t->scale[i] = scale ? scale[k] : 1.0f;
        t->zero[i] = zero ? zero[k] : 0.0f;
    }
}

/* Column j of a scalar grid: codes and values of all rows of the strip. */
static void project_scalar(strip *t, const oz_fmt *f, const float *z, int64_t j)
{
    float *q = t->q + j * t->ld;
    uint8_t *code = t->code + j * t->ld;
    if (f->type->encode_each) {
        f->type->encode_each(f, t->scale, t->zero, z, t->rows, code, q);
        return;
    }
    int64_t step = f->shape.prm_r;
    for (int64_t i = 0; i < t->rows;) {
        int64_t end = (t->i0 + i) / step * step + step - t->i0; /* rows that share a tile are encoded in one call */
        if (end > t->rows) end = t->rows;
        f->type->encode(f, t->scale[i], t->zero[i], z + i, end - i, code + i, q + i);
        i = end;
    }
}

/* Block of d columns at j: any format, by its project hook. */
static oz_status project_block(strip *t, const gptq_group *g, int64_t j)
{
    gptq_sweep *s = t->s;
    const oz_fmt *f = g->fmt;
    int64_t d = s->d, n = s->n, block = (s->b0 + j) / d, col = s->perm[s->b0 + j];
    const oz_shape *sh = &f->shape;
    oz_metric metric = {s->metric_diag ? s->metric_diag + block * d : NULL, s->metric_full ? s->metric_full + block * d * d : NULL};
    bool use = (metric.diag && (sh->flags & OZ_FMT_METRIC_DIAG)) || (metric.full && (sh->flags & OZ_FMT_METRIC_FULL));
    for (int64_t i = 0; i < t->rows; i++) {
        for (int64_t k = 0; k < d; k++) {
            bool zero = t->mode && t->mode[(j + k) * t->ld + i] == ZERO;
            t->in[i * d + k] = zero ? 0.0f : t->z[(j + k) * t->ld + i];
            if (t->round) t->round[i * d + k] = (float)oz_rng_uniform((oz_rng){s->ask->seed, (uint64_t)(t->i0 + i)}, (uint64_t)(col + k));
        }
    }
    int64_t nblock = (t->rows + sh->r - 1) / sh->r, across = n / d, bytes = sh->code_bytes;
    uint8_t *code = oz_arena_alloc(t->work->arena, (size_t)(nblock * bytes));
    if (!code) return nomem();
    OZ_TRY(f->type->project(f, g->params, t->i0, col, oz_mat_of(t->in, t->rows, d), use ? &metric : NULL, t->round, code,
                            oz_mat_of(t->value, t->rows, d)));
    if (t->code)
        memcpy(t->code + j * t->ld, code, (size_t)t->rows);
    else
        for (int64_t b = 0; b < nblock; b++)
            memcpy(s->out->codes + ((t->i0 / sh->r + b) * across + col / d) * bytes, code + b * bytes, (size_t)bytes);
    for (int64_t i = 0; i < t->rows; i++)
        for (int64_t k = 0; k < d; k++) t->q[(j + k) * t->ld + i] = t->value[i * d + k];
    return OZ_OK;
}

static void apply_masks(strip *t, int64_t j)
{
    gptq_sweep *s = t->s;
    float *z = t->z + j * t->ld, *q = t->q + j * t->ld;
    const uint8_t *mode = t->mode + j * t->ld;
    int64_t col = s->perm[s->b0 + j], words = oz_mask_words(s->n);
    for (int64_t i = 0; i < t->rows; i++) {
        if (mode[i] == KEEP)
            q[i] = z[i];
        else if (mode[i] == ZERO)
            q[i] = 0.0f;
        else if (s->ask->keep_test) {
            float kept = z[i];
            if (s->ask->keep_test(s->ask->ctx, t->i0 + i, col, z[i], q[i], s->rjj[s->b0 + j], &kept)) {
                q[i] = kept;
                oz_mask_set(s->out->keep, words, t->i0 + i, col);
            }
        }
    }
}

/* e = (Z - Q) R_JJ into the batch's errors; adds to the loss. */
static void errors(strip *t, int64_t j)
{
    const gptq_sweep *s = t->s;
    int64_t d = s->d, rows = t->rows;
    const float *r = s->rjj + (s->b0 + j) / d * d * d;
    if (d == 1) {
        float *e = s->err + j * s->m + t->i0;
        const float *z = t->z + j * t->ld, *q = t->q + j * t->ld;
        double loss = 0;
        for (int64_t i = 0; i < rows; i++) e[i] = (z[i] - q[i]) * r[0];
        for (int64_t i = 0; i < rows; i++) loss += (double)e[i] * (double)e[i];
        t->loss += loss;
        return;
    }
    for (int64_t k = 0; k < d; k++) {
        float *e = s->err + (j + k) * s->m + t->i0;
        for (int64_t i = 0; i < rows; i++) {
            float sum = 0; /* R_JJ is upper triangular: rows 0..k of its column k */
            for (int64_t l = 0; l <= k; l++) sum += (t->z[(j + l) * t->ld + i] - t->q[(j + l) * t->ld + i]) * r[l * d + k];
            e[i] = sum;
            t->loss += (double)sum * (double)sum;
        }
    }
}

static void count_clipped(strip *t, int64_t j)
{
    const float *z = t->z + j * t->ld, *q = t->q + j * t->ld;
    int64_t count = 0;
    for (int64_t i = 0; i < t->rows; i++) count += fabsf(z[i] - q[i]) > 0.5001f * t->scale[i];
    t->clipped += count;
}

/* z[k] -= e[j] u_jk for positions k in [k0, k1) of the batch. */
static void push(strip *t, int64_t j, int64_t k0, int64_t k1)
{
    const gptq_sweep *s = t->s;
    const float *restrict e = s->err + j * s->m + t->i0, *u = s->u + (s->b0 + j) * s->n + s->b0;
    for (int64_t k = k0; k < k1; k++) {
        float c = u[k], *restrict z = t->z + k * t->ld;
        for (int64_t i = 0; i < t->rows; i++) z[i] -= e[i] * c;
    }
}

static oz_status column_block(strip *t, const gptq_group *g, int64_t j)
{
    const gptq_sweep *s = t->s;
    const float *z = t->z + j * t->ld;
    if (t->fast) {
        if (t->mode) {
            const uint8_t *mode = t->mode + j * t->ld;
            for (int64_t i = 0; i < t->rows; i++) t->in[i] = mode[i] == ZERO ? 0.0f : z[i];
            z = t->in;
        }
        project_scalar(t, g->fmt, z, j);
    } else {
        oz_arena_mark mark = oz_arena_save(t->work->arena);
        OZ_TRY(project_block(t, g, j));
        oz_arena_rewind(t->work->arena, mark);
    }
    for (int64_t k = 0; k < s->d && t->mode; k++) apply_masks(t, j + k);
    if (s->counts_clipped && t->fast) count_clipped(t, j);
    errors(t, j);
    return OZ_OK;
}

/* One past the last position of the segment that starts at j: at most SEGMENT columns, and none that starts a fitted group inside. */
static int64_t segment_end(const gptq_sweep *s, int64_t j)
{
    int64_t width = s->b1 - s->b0, step = s->d >= SEGMENT ? s->d : SEGMENT / s->d * s->d, end = j + step < width ? j + step : width;
    for (int64_t k = j + s->d; s->dynamic && k < end; k += s->d)
        if (s->unit[s->b0 + k] != s->unit[s->b0 + j]) return k;
    return end;
}

static oz_status sweep(strip *t)
{
    gptq_sweep *s = t->s;
    int64_t width = s->b1 - s->b0, d = s->d;
    int32_t current = -1;
    for (int64_t j = 0; j < width;) {
        int64_t end = segment_end(s, j);
        for (int64_t k = j; k < end; k += d) {
            int32_t unit = s->unit[s->b0 + k];
            const gptq_group *g = &s->group[unit];
            if (unit != current) {
                if (s->dynamic && s->local && g->first == s->b0 + k) OZ_TRY(fit_local(t, g));
                enter(t, g);
                current = unit;
            }
            OZ_TRY(column_block(t, g, k));
            if (s->opt->inner)
                for (int64_t l = 0; l < d; l++) push(t, k + l, k + d, end);
        }
        if (s->opt->inner && end < width) {
            oz_mat e = {s->err + j * s->m + t->i0, end - j, t->rows, s->m};
            oz_mat u = {s->u + (s->b0 + j) * s->n + s->b0 + end, end - j, width - end, s->n};
            oz_mat z = {t->z + end * t->ld, width - end, t->rows, t->ld};
            OZ_TRY(oz_gemm(NULL, 1, 0, -1.0, u, e, 1.0, z));
        }
        j = end;
    }
    return OZ_OK;
}

oz_status oz_gptq_strip(void *ctx, int64_t i0, int64_t i1, oz_work *work)
{
    gptq_sweep *s = ctx;
    int64_t width = s->b1 - s->b0, ld = s->strip, cells = width * ld;
    strip t = {.s = s, .work = work, .i0 = i0, .rows = i1 - i0, .ld = ld};
    bool one = s->d == 1 && s->fmt->shape.code_bytes == 1 && s->fmt->shape.r == 1;
    t.z = oz_arena_alloc(work->arena, (size_t)cells * sizeof *t.z);
    t.q = oz_arena_alloc(work->arena, (size_t)cells * sizeof *t.q);
    t.in = oz_arena_alloc(work->arena, (size_t)(ld * s->d) * sizeof *t.in);
    t.value = oz_arena_alloc(work->arena, (size_t)(ld * s->d) * sizeof *t.value);
    t.scale = oz_arena_alloc(work->arena, (size_t)ld * sizeof *t.scale);
    t.zero = oz_arena_alloc(work->arena, (size_t)ld * sizeof *t.zero);
    bool ok = t.z && t.q && t.in && t.value && t.scale && t.zero;
    if (one) ok = ok && (t.code = oz_arena_alloc(work->arena, (size_t)cells));
    if (s->masked) ok = ok && (t.mode = oz_arena_alloc(work->arena, (size_t)cells));
    if (s->opt->round == GPTQ_STOCHASTIC) ok = ok && (t.round = oz_arena_alloc(work->arena, (size_t)(ld * s->d) * sizeof *t.round));
    if (!ok) return nomem();
    load(&t);
    OZ_TRY(sweep(&t));
    store(&t);
    s->loss[i0 / ld] += t.loss;
    s->clipped[i0 / ld] += t.clipped;
    return OZ_OK;
}

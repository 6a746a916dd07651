/* rtn.c: round to nearest (card finequant, B): every tile's parameters are fitted on its weights, every weight goes to the nearest code, no
 * feedback.  The baseline of every other method.  W [m x n], rows are independent unless a code block or tile spans several. */
#include "solver.h"
#include <math.h>
#include <string.h>

typedef struct {
    const oz_fmt *fmt;
    oz_mat w;
    const oz_sweep *ask;
    oz_solution *out;
    int64_t strip;
    int64_t *clipped;
    bool counts;
} rtn_job;

static bool left_alone(const rtn_job *job, int64_t row, int64_t col)
{
    int64_t words = oz_mask_words(job->w.cols);
    return (job->ask->skip && job->ask->skip[col]) || (job->ask->keep && oz_mask_bit(job->ask->keep, words, row, col));
}

/* Skipped and kept entries stay as they are, pruned ones become 0. */
static void apply_masks(const rtn_job *job, int64_t row, int64_t col0, int64_t cols, float *q)
{
    int64_t words = oz_mask_words(job->w.cols);
    for (int64_t j = 0; j < cols; j++) {
        if (left_alone(job, row, col0 + j))
            q[j] = job->w.p[row * job->w.ld + col0 + j];
        else if (job->ask->zero && oz_mask_bit(job->ask->zero, words, row, col0 + j))
            q[j] = 0;
    }
}

/* Scalar grids: a tile's row segment in one call. */
static int64_t encode_row(const rtn_job *job, int64_t row, float *masked)
{
    const oz_fmt *f = job->fmt;
    const oz_sweep *ask = job->ask;
    int64_t n = job->w.cols, g = f->shape.prm_c, tc = oz_fmt_tiles_c(f), clipped = 0;
    const float *scale = oz_params_get(&job->out->params, "scale"), *zero = oz_params_get(&job->out->params, "zero");
    for (int64_t t = 0; t < tc; t++) {
        int64_t k = row / f->shape.prm_r * tc + t, c0 = t * g, cols = n - c0 < g ? n - c0 : g;
        const float *w = job->w.p + row * job->w.ld + c0;
        float *q = job->out->w_hat.p + row * n + c0, step = scale ? scale[k] : 1.0f;
        if (ask->zero) {
            for (int64_t j = 0; j < cols; j++) masked[j] = oz_mask_bit(ask->zero, oz_mask_words(n), row, c0 + j) ? 0.0f : w[j];
            w = masked;
        }
        f->type->encode(f, step, zero ? zero[k] : 0.0f, w, cols, job->out->codes + row * n + c0, q);
        for (int64_t j = 0; job->counts && j < cols; j++) clipped += fabsf(w[j] - q[j]) > 0.5001f * step && !left_alone(job, row, c0 + j);
        apply_masks(job, row, c0, cols, q);
    }
    return clipped;
}

/* Any format, by its project hook: rows of the strip, one code block of columns at a time. */
static oz_status project_rows(const rtn_job *job, int64_t i0, int64_t rows, oz_work *work)
{
    const oz_fmt *f = job->fmt;
    const oz_shape *sh = &f->shape;
    int64_t n = job->w.cols, d = sh->d, across = (n + d - 1) / d, blocks = (rows + sh->r - 1) / sh->r;
    float *z = oz_arena_alloc(work->arena, (size_t)(rows * d) * sizeof *z),
          *q = oz_arena_alloc(work->arena, (size_t)(rows * d) * sizeof *q);
    uint8_t *code = oz_arena_alloc(work->arena, (size_t)(blocks * sh->code_bytes));
    if (!z || !q || !code) return OZ_ERR_NOMEM;
    for (int64_t b = 0; b < across; b++) {
        int64_t c0 = b * d, cols = n - c0 < d ? n - c0 : d;
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < cols; j++) {
                bool zero = job->ask->zero && oz_mask_bit(job->ask->zero, oz_mask_words(n), i0 + i, c0 + j);
                z[i * cols + j] = zero ? 0.0f : job->w.p[(i0 + i) * job->w.ld + c0 + j];
            }
        OZ_TRY(f->type->project(f, &job->out->params, i0, c0, oz_mat_of(z, rows, cols), NULL, NULL, code, oz_mat_of(q, rows, cols)));
        for (int64_t k = 0; k < blocks; k++)
            memcpy(job->out->codes + ((i0 / sh->r + k) * across + b) * sh->code_bytes, code + k * sh->code_bytes, (size_t)sh->code_bytes);
        for (int64_t i = 0; i < rows; i++) {
            apply_masks(job, i0 + i, c0, cols, q + i * cols);
            memcpy(job->out->w_hat.p + (i0 + i) * n + c0, q + i * cols, (size_t)cols * sizeof *q);
        }
    }
    return OZ_OK;
}

static oz_status strip(void *ctx, int64_t i0, int64_t i1, oz_work *work)
{
    const rtn_job *job = ctx;
    const oz_fmt *f = job->fmt;
    for (int64_t i = i0; i < i1; i++)
        memcpy(job->out->compensated.p + i * job->w.cols, job->w.p + i * job->w.ld, (size_t)job->w.cols * sizeof(float));
    if (!(f->shape.flags & OZ_FMT_SCALAR) || f->shape.code_bytes != 1 || !f->type->encode) return project_rows(job, i0, i1 - i0, work);
    float *masked = oz_arena_alloc(work->arena, (size_t)(f->shape.prm_c < job->w.cols ? f->shape.prm_c : job->w.cols) * sizeof *masked);
    if (!masked) return OZ_ERR_NOMEM;
    int64_t clipped = 0;
    for (int64_t i = i0; i < i1; i++) clipped += encode_row(job, i, masked);
    job->clipped[i0 / job->strip] = clipped;
    return OZ_OK;
}

static oz_status solve(const void *opt, const oz_fmt *fmt, const oz_fit *fit, oz_mat w, const oz_stats *stats, const oz_sweep *ask,
                       oz_solution *out, oz_run *run)
{
    (void)opt;
    static const oz_sweep none = {0};
    *out = (oz_solution){.loss = NAN, .loss_rtn = NAN};
    if (!ask) ask = &none;
    if (fmt->m != w.rows || fmt->n != w.cols)
        return oz_fail(OZ_ERR_SHAPE, NULL, "W is %lld x %lld, the format is bound to %lld x %lld", (long long)w.rows, (long long)w.cols,
                       (long long)fmt->m, (long long)fmt->n);
    if (ask->choose_zero || ask->keep_test || ask->member)
        return oz_fail(OZ_ERR_UNSUPPORTED, "use solver gptq",
                       "solver rtn rounds all columns at once: nothing can be decided during a sweep");
    int64_t step = fmt->shape.r, strip_rows = (64 + step - 1) / step * step, strips = (w.rows + strip_rows - 1) / strip_rows;
    float *diag = NULL;
    uint64_t *owned = NULL;
    const uint64_t *mask = NULL;
    int64_t *clipped = oz_zalloc((size_t)strips, sizeof *clipped);
    oz_status status = clipped ? oz_solution_new(out, fmt) : OZ_ERR_NOMEM;
    if (!status) status = fmt->type->init(fmt, &out->params);
    if (!status) status = oz_mask_union(ask->keep, ask->zero, w.rows, w.cols, &mask, &owned);
    if (!status && stats && stats->h) {
        diag = oz_alloc((size_t)w.cols, sizeof *diag);
        if (!diag) status = OZ_ERR_NOMEM;
        for (int64_t j = 0; diag && j < w.cols; j++) diag[j] = (float)stats->h[j * w.cols + j];
    }
    if (!status)
        status = oz_refit(fmt, &out->params, fit, w, 0, diag, ask->skip, mask, oz_mask_words(w.cols), stats, run ? run->pool : NULL);
    rtn_job job = {fmt, w, ask, out, strip_rows, clipped, oz_counts_clipped(fmt)};
    if (!status) status = oz_pool_for(run ? run->pool : NULL, w.rows, strip_rows, strip, &job);
    for (int64_t k = 0; !status && k < strips; k++) out->clipped += clipped[k];
    oz_free(diag);
    oz_free(owned);
    oz_free(clipped);
    if (status) oz_solution_drop(out);
    return status;
}

static const char *refuses(const oz_spec *spec, const void *opt)
{
    (void)opt;
    if (spec->type && (spec->type->flags & OZ_FMT_FLOAT)) return "a floating point format has no grid to choose; leave the solver out";
    if (spec->type && !(spec->type->flags & OZ_FMT_PROJECT))
        return "a format that cannot round one block of columns at a time; use a solver made for it";
    return NULL;
}

static double scratch(const void *opt, int64_t m, int64_t n)
{
    (void)opt;
    return (double)m * (double)n * (4 + 4 + 1);
}

const oz_solver oz_solver_rtn = {.entry = {.kind = "solver",
                                           .name = "rtn",
                                           .paper = "arXiv:2308.09723",
                                           .card = "finequant",
                                           .brief = "rounds every weight to the nearest code, without feedback"},
                                 .refuses = refuses,
                                 .scratch = scratch,
                                 .solve = solve};

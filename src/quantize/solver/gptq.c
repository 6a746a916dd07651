/* gptq.c: GPTQ = OPTQ = LDLQ (arXiv:2210.17323; card owq, B), the one error-feedback loop: rounds columns one block after the other and
 * pushes every block's error into the columns not yet rounded, through H^-1.
 *
 * W [m x n], H [n x n] = mean of x xᵀ.  This file does what surrounds the loops: dead inputs, damping, order, the factor H = R Rᵀ with R
 * upper triangular, U = R^-1, parameters fitted before or during the sweep, one product a batch, undoing the order.  gptq_sweep.c has
 * the loops.  loss = Σ ‖(Z - Q) R_JJ‖² equals tr((W - Ŵ) H (W - Ŵ)ᵀ) for any choice of Q. */
#include "gptq.h"
#include <math.h>
#include <string.h>

#define AT(f) offsetof(gptq_options, f)
static const oz_option options[] = {
    {.name = "block",
     .type = OZ_INT,
     .at = AT(block),
     .init = 128,
     .min = 1,
     .max = 4096,
     .unit = "columns",
     .brief = "columns rounded before the rest of W is updated (B); rounded to whole code blocks"},
    {.name = "damp",
     .type = OZ_REAL,
     .at = AT(damp),
     .init = 0.01,
     .min = 0,
     .max = 1,
     .unit = "of mean diag H",
     .brief = "added to the diagonal of H before it is factored (lambda); ten times more, up to six times, where that fails",
     .was = "damp_percent"},
    {.name = "order",
     .type = OZ_ENUM,
     .at = AT(order),
     .choices = "identity|reverse|act|group_act|given",
     .brief = "which column is rounded first; group_act keeps the columns of a group together; act and given fit all groups beforehand"},
    {.name = "scales",
     .type = OZ_ENUM,
     .at = AT(scales),
     .choices = "dynamic|static",
     .brief = "fit each group when the sweep enters it, or all groups before the sweep"},
    {.name = "dead",
     .type = OZ_ENUM,
     .at = AT(dead),
     .choices = "zero|keep",
     .brief = "inputs that never fired: set their weights to 0, as published, or round them like the others"},
    {.name = "inner",
     .type = OZ_FLAG,
     .at = AT(inner),
     .init = 1,
     .brief = "push errors inside a batch too; without, a batch is rounded from its values at entry (BiLLM's published code)"},
    {.name = "metric",
     .type = OZ_ENUM,
     .at = AT(metric),
     .choices = "diag|full|identity|none",
     .brief = "formats that encode several columns together: the distance in which the nearest code is sought (D_J)"},
    {.name = "round",
     .type = OZ_ENUM,
     .at = AT(round),
     .choices = "nearest|stochastic",
     .brief = "half to even, or up with the probability of the fraction"},
    {.name = "compare",
     .type = OZ_FLAG,
     .at = AT(compare),
     .brief = "also compute the loss of rounding to nearest with the same fit, for the report"},
    {0}};

static const char *refuses(const oz_spec *spec, const void *opt)
{
    const gptq_options *o = opt;
    if (!spec->type) return NULL; /* a mix: its members are asked one by one */
    if (spec->type->flags & OZ_FMT_FLOAT) return "a floating point format has no grid to choose; leave the solver out";
    if (!(spec->type->flags & OZ_FMT_PROJECT)) return "a format that cannot round one block of columns at a time; use a solver made for it";
    if (o->inner == false && !(spec->type->flags & OZ_FMT_SCALAR))
        return "inner: false is defined for formats that round one column at a time";
    return NULL;
}

static double scratch(const void *opt, int64_t m, int64_t n)
{
    const gptq_options *o = opt;
    double rows = (double)m, cols = (double)n;
    return cols * cols * (8 + 8) + rows * cols * (4 + 4 + 4 + 1) + rows * o->block * 4 + (o->compare ? cols * cols * 4 : 0);
}

/* Everything allocated by solve(), so that there is one place to free it. */
typedef struct gptq_memory {
    gptq_sweep s;
    oz_sweep none;
    oz_fit fit;
    double *h, *r, *u;
    double *diag;    /* [n] of H as it is factored, before damping */
    float *original; /* W after step 1 in storage order; NULL when w itself serves */
    float *r32;      /* [n x n] R in f32, for compare */
    uint64_t *mask;  /* owned union of the fixed masks */
    const uint64_t *fit_mask;
    oz_mat w;    /* W after step 1 */
    double mean; /* of the live diagonal */
} gptq_memory;

static void memory_drop(gptq_memory *g)
{
    gptq_sweep *s = &g->s;
    void *all[] = {s->perm, s->unit, s->group,   s->diag, s->w, s->u, s->rjj,  s->metric_diag, s->metric_full, s->rdiag, s->err,
                   s->zero, s->loss, s->clipped, g->h,    g->r, g->u, g->diag, g->original,    g->r32,         g->mask};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) oz_free(all[i]);
}

static void *need(void **slot, int64_t count, size_t size)
{
    *slot = oz_zalloc((size_t)count, size);
    return *slot;
}
#define NEED(field, count)                                                                                                                 \
    if (!need((void **)&(field), (count), sizeof *(field))) return OZ_ERR_NOMEM

/* Step 1: inputs that never fired; and W with their columns at 0. */
static oz_status dead_inputs(gptq_memory *g, oz_mat w, const oz_stats *stats)
{
    gptq_sweep *s = &g->s;
    int64_t n = s->n, live = 0;
    double sum = 0;
    NEED(g->diag, n);
    NEED(s->diag, n);
    for (int64_t j = 0; j < n; j++) {
        double h = stats->h[j * n + j];
        if (!isfinite(h) || h < 0)
            return oz_fail(OZ_ERR_NUMERIC, "the calibration run met values that are not finite",
                           "H[%lld][%lld] is %g: a mean of squares was expected", (long long)j, (long long)j, h);
        g->diag[j] = h;
        s->diag[j] = (float)h;
        if (h > 0) {
            sum += h;
            live++;
        }
    }
    g->mean = live ? sum / (double)live : 1.0;
    s->out->dead = n - live;
    g->w = w;
    bool zero = live < n && s->opt->dead == GPTQ_DEAD_ZERO;
    if (zero) {
        NEED(g->original, s->m * n);
        g->w = oz_mat_of(g->original, s->m, n);
    }
    for (int64_t i = 0; i < s->m; i++) {
        float bad = 0;
        const float *from = w.p + i * w.ld;
        for (int64_t j = 0; j < n; j++) bad += from[j] * 0.0f;
        if (bad != 0.0f || isnan(bad))
            return oz_fail(OZ_ERR_NUMERIC, "the checkpoint holds weights that are not finite",
                           "row %lld of W holds a value that is not finite", (long long)i);
        for (int64_t j = 0; zero && j < n; j++) g->original[i * n + j] = g->diag[j] > 0 ? from[j] : 0.0f;
    }
    for (int64_t j = 0; j < n; j++)
        if (!(g->diag[j] > 0)) g->diag[j] = g->mean;
    return OZ_OK;
}

/* Groups of columns that share parameters; unit[] is indexed by column here. */
static oz_status find_groups(gptq_memory *g, const oz_fmt *fmt)
{
    gptq_sweep *s = &g->s;
    int64_t n = s->n, room = n;
    NEED(s->group, room);
    NEED(s->unit, n);
    for (int64_t col = 0; col < n;) {
        gptq_group *q = &s->group[s->ngroup];
        int64_t limit = n - col;
        *q = (gptq_group){.col0 = col, .fmt = fmt, .params = &s->out->params, .first = -1};
        if (s->ask->member) q->fmt = s->ask->member(s->ask->ctx, col, &q->params, &limit);
        if (!q->fmt || limit < 1)
            return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "solver gptq: no member of the mix holds column %lld", (long long)col);
        const oz_shape *sh = &q->fmt->shape;
        if (sh->d != s->d || sh->r != fmt->shape.r || sh->code_bytes != fmt->shape.code_bytes)
            return oz_fail(OZ_ERR_UNSUPPORTED, NULL,
                           "solver gptq: members of a mix by columns must share one code block, %d x %d is not %d x %d", sh->r, sh->d,
                           fmt->shape.r, fmt->shape.d);
        int64_t end = (col / sh->prm_c + 1) * sh->prm_c;
        q->cols = end - col < limit ? end - col : limit;
        if (q->cols > n - col) q->cols = n - col;
        if (q->cols % s->d && col + q->cols < n)
            return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "solver gptq: groups of %lld columns do not hold whole code blocks of %lld",
                           (long long)q->cols, (long long)s->d);
        for (int64_t j = col; j < col + q->cols; j++) s->unit[j] = (int32_t)s->ngroup;
        col += q->cols;
        s->ngroup++;
    }
    return OZ_OK;
}

static int64_t gcd64(int64_t a, int64_t b) { return b ? gcd64(b, a % b) : a; }

/* Rows a strip: a multiple of what must be seen together; local when every fit finds its rows in one strip. */
static void choose_strip(gptq_sweep *s)
{
    int64_t unit = s->fmt->shape.r;
    s->local = true;
    for (int64_t k = 0; k < s->ngroup; k++) {
        const oz_shape *sh = &s->group[k].fmt->shape;
        int64_t rows[2] = {sh->prm_r, sh->run_r};
        for (int a = 0; a < 2; a++) {
            if (rows[a] <= 1) continue;
            int64_t both = unit / gcd64(unit, rows[a]) * rows[a];
            if (rows[a] >= s->m || both > 512)
                s->local = false;
            else
                unit = both;
        }
    }
    s->strip = (64 + unit - 1) / unit * unit;
}

/* Step 3: order, positions of the groups, and whether groups can be fitted on the way. */
static oz_status set_order(gptq_memory *g, oz_run *run)
{
    gptq_sweep *s = &g->s;
    const gptq_options *o = s->opt;
    NEED(s->perm, s->n);
    OZ_TRY(oz_gptq_order(s, o->order));
    int32_t *column_group = s->unit;
    s->unit = NULL;
    s->unit = oz_alloc((size_t)s->n, sizeof *s->unit);
    if (!s->unit) {
        s->unit = column_group;
        return OZ_ERR_NOMEM;
    }
    bool together = true;
    for (int64_t p = 0; p < s->n; p++) {
        int64_t col = s->perm[p];
        gptq_group *q = &s->group[s->unit[p] = column_group[col]];
        if (s->ask->skip && s->ask->skip[col]) continue;
        if (q->first < 0) q->first = p;
        q->last = p;
        q->count++;
    }
    oz_free(column_group);
    for (int64_t k = 0; k < s->ngroup; k++)
        together = together && (s->group[k].count == 0 || s->group[k].last - s->group[k].first + 1 == s->group[k].count);
    bool can = true;
    for (int64_t k = 0; k < s->ngroup; k++) can = can && (s->group[k].fmt->shape.flags & OZ_FMT_DYNAMIC);
    bool forced = s->ngroup > 1 && (o->order == OZ_ORDER_ACT || o->order == OZ_ORDER_GIVEN || !together);
    s->dynamic = o->scales == GPTQ_DYNAMIC && can && !forced;
    if (o->scales == GPTQ_DYNAMIC && !s->dynamic)
        oz_logf(run, OZ_LOG_INFO, "solver gptq: scales are static: %s",
                can ? "the order mixes the columns of different groups" : "the format fits all its groups at once");
    return OZ_OK;
}

static bool reread(gptq_memory *g, const oz_stats *stats, double damp)
{
    int64_t n = g->s.n;
    const int32_t *perm = g->s.perm;
    bool finite = true;
    for (int64_t a = 0; a < n; a++) {
        const double *row = stats->h + (int64_t)perm[a] * n;
        double *h = g->r + a * n;
        double sum = 0;
        for (int64_t b = a; b < n; b++) sum += h[b] = row[perm[b]];
        finite = finite && isfinite(sum);
        h[a] = g->diag[perm[a]] + damp;
    }
    return finite;
}

/* Steps 2 and 4: damping, H = R Rᵀ, U; f32 copies for the sweep. */
static oz_status factor(gptq_memory *g, const oz_stats *stats, oz_run *run)
{
    gptq_sweep *s = &g->s;
    const gptq_options *o = s->opt;
    int64_t n = s->n, d = s->d;
    NEED(g->r, n * n);
    NEED(g->u, n * n);
    double damp = o->damp * g->mean, first = damp;
    for (int again = 0;; again++) {
        if (!reread(g, stats, damp))
            return oz_fail(OZ_ERR_NUMERIC, "the calibration run met values that are not finite",
                           "H of %lld inputs holds values that are not finite", (long long)n);
        oz_status status = oz_chol_upper_inv(run ? run->pool : NULL, g->r, n, g->r, g->u);
        if (!status) break;
        if (status != OZ_ERR_NUMERIC) return status;
        if (again == 6)
            return oz_fail(OZ_ERR_NUMERIC, "raise damp, or calibrate on more text",
                           "H of %lld inputs is not positive definite, with %g to %g added to a diagonal of mean %g", (long long)n, first,
                           damp, g->mean);
        damp = damp > 0 ? 10 * damp : 1e-6 * g->mean;
        oz_logf(run, OZ_LOG_INFO, "solver gptq: H of %lld inputs is not positive definite; %g is added to its diagonal", (long long)n,
                damp);
        oz_clear_message();
    }
    s->out->damp = damp;
    int metric = d > 1 ? o->metric : GPTQ_METRIC_NONE;
    NEED(s->rjj, n * d);
    NEED(s->rdiag, n);
    if (metric == GPTQ_METRIC_DIAG) { NEED(s->metric_diag, n); }
    if (metric == GPTQ_METRIC_FULL) { NEED(s->metric_full, n * d); }
    for (int64_t a = 0; a < n; a++) s->rdiag[a] = g->r[a * n + a];
    for (int64_t j = 0; j < n; j += d) {
        for (int64_t a = 0; a < d; a++) {
            for (int64_t b = a; b < d; b++) s->rjj[j * d + a * d + b] = (float)g->r[(j + a) * n + j + b];
            for (int64_t b = 0; b < d && metric != GPTQ_METRIC_NONE && metric != GPTQ_METRIC_IDENTITY; b++) {
                double dot = 0; /* D_J[a][b] = Σ_c R[a][c] R[b][c] */
                for (int64_t c = a > b ? a : b; c < d; c++) dot += g->r[(j + a) * n + j + c] * g->r[(j + b) * n + j + c];
                if (s->metric_full)
                    s->metric_full[j * d + a * d + b] = (float)dot;
                else if (a == b)
                    s->metric_diag[j + a] = (float)dot;
            }
        }
    }
    if (o->compare) {
        NEED(g->r32, n * n);
        for (int64_t a = 0; a < n; a++)
            for (int64_t b = a; b < n; b++) g->r32[a * n + b] = (float)g->r[a * n + b];
    }
    oz_free(g->r); /* before U is copied: at 11008 inputs each of these takes a GB */
    g->r = NULL;
    NEED(s->u, n * n);
    for (int64_t a = 0; a < n; a++)
        for (int64_t b = a; b < n; b++) s->u[a * n + b] = (float)g->u[a * n + b];
    oz_free(g->u);
    g->u = NULL;
    return OZ_OK;
}

/* Fits one group from a matrix that holds its columns in storage order (whole W, or a copy of the group). */
static oz_status fit_group(gptq_memory *g, const gptq_group *q, oz_mat cols, const uint64_t *mask, int64_t mask_ld, oz_run *run)
{
    const gptq_sweep *s = &g->s;
    return oz_refit(q->fmt, q->params, s->fit, cols, q->col0, s->diag + q->col0, s->ask->skip ? s->ask->skip + q->col0 : NULL, mask,
                    mask_ld, s->stats, run ? run->pool : NULL);
}

/* The fixed masks' columns [col0, col0 + cols) as a mask of their own. */
static oz_status cut_mask(const gptq_memory *g, int64_t col0, int64_t cols, uint64_t **out)
{
    *out = NULL;
    if (!g->fit_mask && !g->s.zero) return OZ_OK;
    int64_t words = oz_mask_words(cols), from = oz_mask_words(g->s.n);
    *out = oz_zalloc((size_t)(g->s.m * words), sizeof **out);
    if (!*out) return OZ_ERR_NOMEM;
    for (int64_t i = 0; g->fit_mask && i < g->s.m; i++)
        for (int64_t j = 0; j < cols; j++)
            if (oz_mask_bit(g->fit_mask, from, i, col0 + j)) oz_mask_set(*out, words, i, j);
    return OZ_OK;
}

/* cols: the group's columns in storage order; entries pruned in the current batch are left out too. */
static oz_status fit_cut(gptq_memory *g, const gptq_group *q, oz_mat cols, oz_run *run)
{
    const gptq_sweep *s = &g->s;
    uint64_t *mask;
    OZ_TRY(cut_mask(g, q->col0, q->cols, &mask));
    for (int64_t p = s->b0; s->zero && p < s->b1; p++)
        for (int64_t i = 0; s->group + s->unit[p] == q && i < s->m; i++)
            if (oz_mask_bit(s->zero, oz_mask_words(s->batch), i, p - s->b0))
                oz_mask_set(mask, oz_mask_words(q->cols), i, s->perm[p] - q->col0);
    oz_status status = fit_group(g, q, cols, mask, oz_mask_words(q->cols), run);
    oz_free(mask);
    return status;
}

/* Parameters that do not wait for the sweep: all of them (static), or those of groups whose columns are all skipped. */
static oz_status fit_before(gptq_memory *g, oz_run *run)
{
    gptq_sweep *s = &g->s;
    if (!s->dynamic && !s->ask->member)
        return oz_refit(s->fmt, &s->out->params, s->fit, g->w, 0, s->diag, s->ask->skip, g->fit_mask, oz_mask_words(s->n), s->stats,
                        run ? run->pool : NULL);
    for (int64_t k = 0; k < s->ngroup; k++) {
        const gptq_group *q = &s->group[k];
        if (!s->dynamic || q->count == 0) OZ_TRY(fit_cut(g, q, oz_mat_cols(g->w, q->col0, q->cols), run));
    }
    return OZ_OK;
}

/* A group whose parameters are shared by more rows than a strip has: gathered in storage order, fitted at the barrier. */
static oz_status fit_now(gptq_memory *g, const gptq_group *q, oz_run *run)
{
    const gptq_sweep *s = &g->s;
    float *copy = oz_zalloc((size_t)(s->m * q->cols), sizeof *copy);
    if (!copy) return OZ_ERR_NOMEM;
    for (int64_t i = 0; i < s->m; i++)
        for (int64_t p = q->first; p <= q->last; p++) copy[i * q->cols + s->perm[p] - q->col0] = s->w[i * s->n + p];
    oz_status status = fit_cut(g, q, oz_mat_of(copy, s->m, q->cols), run);
    oz_free(copy);
    return status;
}

/* A batch ends early where a group starts that reaches beyond it (all earlier errors must be in before it is fitted) or that is
 * fitted at a barrier. */
static int64_t batch_end(const gptq_sweep *s, int64_t b0)
{
    int64_t b1 = b0 + s->batch < s->n ? b0 + s->batch : s->n;
    if (!s->dynamic) return b1;
    for (int64_t p = b0 + 1; p < b1; p++) {
        const gptq_group *q = &s->group[s->unit[p]];
        if (q->first == p && (!s->local || q->last >= b1)) return p;
    }
    return b1;
}

/* SparseGPT and n:m choose what to prune when a batch starts. */
static oz_status choose_zero(gptq_sweep *s)
{
    if (!s->ask->choose_zero) return OZ_OK;
    memset(s->zero, 0, (size_t)(s->m * oz_mask_words(s->batch)) * sizeof *s->zero);
    oz_mat batch = {s->w + s->b0, s->m, s->b1 - s->b0, s->n};
    return s->ask->choose_zero(s->ask->ctx, batch, s->b0, s->rdiag + s->b0, s->zero);
}

static oz_status run_batches(gptq_memory *g, oz_run *run)
{
    gptq_sweep *s = &g->s;
    oz_pool *pool = run ? run->pool : NULL;
    bool local = s->local;
    for (s->b0 = 0; s->b0 < s->n; s->b0 = s->b1) {
        OZ_TRY(oz_check_cancel(run));
        s->b1 = batch_end(s, s->b0);
        OZ_TRY(choose_zero(s));
        const gptq_group *q = &s->group[s->unit[s->b0]];
        bool barrier = s->dynamic && q->first == s->b0 && (!local || q->last >= s->b1);
        if (barrier) OZ_TRY(fit_now(g, q, run));
        s->local = local && !barrier; /* a group fitted here fills the batch: no other starts inside */
        OZ_TRY(oz_pool_for(pool, s->m, s->strip, oz_gptq_strip, s));
        s->local = local;
        if (s->b1 == s->n) break;
        oz_mat err = {s->err, s->b1 - s->b0, s->m, s->m};
        oz_mat u = {s->u + s->b0 * s->n + s->b1, s->b1 - s->b0, s->n - s->b1, s->n};
        oz_mat rest = {s->w + s->b1, s->m, s->n - s->b1, s->n};
        OZ_TRY(oz_gemm(pool, 1, 0, -1.0, err, u, 1.0, rest));
    }
    return OZ_OK;
}

/* ‖(W - RTN(W)) R‖²: the loss of rounding to nearest with the same fit. No cancellation: a sum of squares. */
static oz_status compare_rtn(gptq_memory *g, oz_run *run)
{
    gptq_sweep *s = &g->s;
    int n_solvers, at = -1;
    const oz_solver *const *all = oz_solvers(&n_solvers);
    for (int k = 0; k < n_solvers; k++)
        if (strcmp(all[k]->entry.name, "rtn") == 0) at = k;
    if (at < 0 || s->ask->member || s->ask->choose_zero || s->ask->keep_test) return OZ_OK;
    oz_solution rtn;
    OZ_TRY(all[at]->solve(NULL, s->fmt, s->fit, g->w, s->stats, s->ask, &rtn, run));
    oz_free(s->u);
    s->u = NULL;
    float *d = s->w; /* free after the sweep's values were moved out */
    for (int64_t i = 0; i < s->m; i++)
        for (int64_t p = 0; p < s->n; p++) {
            int64_t col = s->perm[p];
            d[i * s->n + p] = g->w.p[i * g->w.ld + col] - rtn.w_hat.p[i * s->n + col];
        }
    oz_mat e = rtn.compensated; /* reused */
    oz_status status = oz_gemm(run ? run->pool : NULL, 0, 0, 1.0, oz_mat_of(d, s->m, s->n), oz_mat_of(g->r32, s->n, s->n), 0.0, e);
    double total = 0;
    for (int64_t i = 0; !status && i < s->m; i++)
        for (int64_t p = 0; p < s->n; p++) total += (double)e.p[i * s->n + p] * (double)e.p[i * s->n + p];
    s->out->loss_rtn = total;
    oz_solution_drop(&rtn);
    return status;
}

static oz_status check_request(const gptq_options *o, const oz_fmt *fmt, oz_mat w, const oz_stats *stats, const oz_sweep *ask)
{
    if (!stats || !stats->h)
        return oz_fail(OZ_ERR_UNSUPPORTED, "calibrate, or use solver rtn",
                       "solver gptq needs H, the mean of x x^T over calibration tokens, and got none");
    if (stats->n != w.cols || fmt->n != w.cols || fmt->m != w.rows)
        return oz_fail(OZ_ERR_SHAPE, NULL, "W is %lld x %lld, the format is bound to %lld x %lld, H is of %lld inputs", (long long)w.rows,
                       (long long)w.cols, (long long)fmt->m, (long long)fmt->n, (long long)stats->n);
    if (fmt->n % fmt->shape.d)
        return oz_fail(OZ_ERR_SHAPE, NULL, "%lld inputs are no whole number of code blocks of %d", (long long)fmt->n, fmt->shape.d);
    if (fmt->shape.d > 1 && (!o->inner || ask->keep_test))
        return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "solver gptq: %s is defined for formats that round one column at a time, not %d",
                       o->inner ? "keeping single elements" : "inner: false", fmt->shape.d);
    return OZ_OK;
}

/* oz_refit and the sweep must fit alike: a fit that is off for this linear is plain min-max (oz_refit). */
static oz_status choose_fit(gptq_sweep *s)
{
    s->fit_type = s->fit->type;
    s->fit_opt = s->fit->opt;
    if (!s->fit->off) return OZ_OK;
    int n;
    const oz_fit_type *const *all = oz_fits(&n);
    s->fit_type = NULL;
    s->fit_opt = NULL;
    for (int k = 0; k < n; k++)
        if (strcmp(all[k]->entry.name, "minmax") == 0) s->fit_type = all[k];
    return s->fit_type ? OZ_OK : oz_fail(OZ_ERR_UNSUPPORTED, NULL, "solver gptq: fit minmax is not built in");
}

static oz_status prepare(gptq_memory *g, const gptq_options *o, const oz_fmt *fmt, oz_mat w, const oz_stats *stats, oz_run *run)
{
    gptq_sweep *s = &g->s;
    OZ_TRY(check_request(o, fmt, w, stats, s->ask));
    OZ_TRY(choose_fit(s));
    OZ_TRY(oz_solution_new(s->out, fmt));
    OZ_TRY(dead_inputs(g, w, stats));
    if (!s->ask->member) OZ_TRY(fmt->type->init(fmt, &s->out->params));
    OZ_TRY(find_groups(g, fmt));
    choose_strip(s);
    OZ_TRY(set_order(g, run));
    OZ_TRY(factor(g, stats, run));
    s->batch = o->block / s->d * s->d;
    if (s->batch < s->d) s->batch = s->d;
    if (s->batch > s->n) s->batch = s->n;
    int64_t strips = (s->m + s->strip - 1) / s->strip;
    NEED(s->err, s->batch * s->m);
    NEED(s->loss, strips);
    NEED(s->clipped, strips);
    NEED(s->w, s->m * s->n);
    if (s->ask->choose_zero) { NEED(s->zero, s->m * oz_mask_words(s->batch)); }
    if (s->ask->keep_test) { NEED(s->out->keep, s->m * oz_mask_words(s->n)); }
    s->masked = s->ask->skip || s->ask->keep || s->ask->zero || s->ask->choose_zero || s->ask->keep_test;
    s->counts_clipped = oz_counts_clipped(fmt);
    OZ_TRY(oz_mask_union(s->ask->keep, s->ask->zero, s->m, s->n, &g->fit_mask, &g->mask));
    for (int64_t i = 0; i < s->m; i++)
        for (int64_t p = 0; p < s->n; p++) s->w[i * s->n + p] = g->w.p[i * g->w.ld + s->perm[p]];
    return fit_before(g, run);
}

static oz_status finish(gptq_memory *g, oz_run *run)
{
    gptq_sweep *s = &g->s;
    int64_t strips = (s->m + s->strip - 1) / s->strip;
    s->out->loss = 0;
    for (int64_t k = 0; k < strips; k++) {
        s->out->loss += s->loss[k];
        s->out->clipped += s->clipped[k];
    }
    for (int64_t i = 0; i < s->m; i++)
        for (int64_t p = 0; p < s->n; p++) s->out->compensated.p[i * s->n + s->perm[p]] = s->w[i * s->n + p];
    return s->opt->compare ? compare_rtn(g, run) : OZ_OK;
}

static oz_status solve(const void *opt, const oz_fmt *fmt, const oz_fit *fit, oz_mat w, const oz_stats *stats, const oz_sweep *ask,
                       oz_solution *out, oz_run *run)
{
    gptq_memory g = {0};
    *out = (oz_solution){.loss = NAN, .loss_rtn = NAN};
    g.s = (gptq_sweep){.opt = opt,
                       .fmt = fmt,
                       .fit = fit,
                       .ask = ask ? ask : &g.none,
                       .stats = stats,
                       .m = w.rows,
                       .n = w.cols,
                       .d = fmt->shape.d,
                       .out = out};
    oz_status status = prepare(&g, opt, fmt, w, stats, run);
    if (!status) status = run_batches(&g, run);
    if (!status) status = finish(&g, run);
    memory_drop(&g);
    if (status) oz_solution_drop(out);
    return status;
}

const oz_solver oz_solver_gptq = {.entry = {.kind = "solver",
                                            .name = "gptq",
                                            .paper = "arXiv:2210.17323",
                                            .card = "owq",
                                            .brief = "rounds column after column and pushes each error into the columns still to come",
                                            .options = options,
                                            .options_size = sizeof(gptq_options)},
                                  .needs = OZ_NEEDS_HESSIAN,
                                  .refuses = refuses,
                                  .scratch = scratch,
                                  .solve = solve};

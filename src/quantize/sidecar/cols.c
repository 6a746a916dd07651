/* cols.c: which input columns a linear keeps in 16 bits, and what is stored for them (card owq, D and E; arXiv:2306.02272).
 *
 * Before the sweep: every column gets a score, the k best are skipped: fits ignore them, the sweep leaves them exact at their compensated
 * value and takes them last.  After it: the grid's slot under a stored column holds the code nearest 0, and the sidecar stores the
 * difference of the compensated column to it, so every kernel stays plain dense + k axpys.
 *
 *   hdiag-err  λ_j = H_jj ‖W_:j - RTN(W)_:j‖², H damped, RTN in the pass's own grid with fit lp over all zeros     (OWQ's sensitivity)
 *   hdiag      H_jj     absmax  max |x_j|     norm  ‖W_:j‖     first, last  by position     random  the yardstick of owq:10
 * Ties go to the lower index. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ounce/quantize.h"

enum { HDIAG_ERR, HDIAG, ABSMAX, NORM, FIRST, LAST, RANDOM };
typedef struct cols_options {
    int score;
    double seed;
    const oz_node *ratio;
} cols_options;

#define AT(f) offsetof(cols_options, f)
static const oz_option options[] = {
    {.name = "cols_score",
     .type = OZ_ENUM,
     .at = AT(score),
     .choices = "hdiag-err|hdiag|absmax|norm|first|last|random",
     .brief = "what makes a column worth keeping: hdiag-err is OWQ's sensitivity H_jj times its squared rounding error"},
    {.name = "cols_ratio",
     .type = OZ_TREE,
     .at = AT(ratio),
     .brief = "share of the budgeted columns by kind of linear: {attn: 1.0, mlp: 0.375}; 1 for both by default"},
    {.name = "cols_seed", .type = OZ_REAL, .at = AT(seed), .init = 0, .min = 0, .max = 9007199254740991.0, .brief = "of cols_score random"},
    {0}};
static const oz_entry entry = {.kind = "sidecar",
                               .name = "cols",
                               .paper = "arXiv:2306.02272",
                               .card = "owq",
                               .brief = "which input columns stay in 16 bits",
                               .options = options,
                               .options_size = sizeof(cols_options)};

static double ratio(const void *opt, const oz_linear_row *row)
{
    const cols_options *o = opt;
    bool attn = row->role && strlen(row->role) == 1; /* q k v o */
    double v = oz_node_real(oz_node_get(o->ratio, attn ? "attn" : "mlp"), 1.0);
    return v > 0 ? v : 0;
}

static oz_status missing(const char *score, const char *what)
{
    return oz_fail(OZ_ERR_UNSUPPORTED, "calibrate, or choose cols_score norm",
                   "sidecar cols: cols_score %s needs %s of the linear's inputs and got none", score, what);
}

/* H_jj + δ with δ = 0.01 of the mean over live inputs; dead inputs score 0. */
static void damped(const oz_stats *st, double *score)
{
    int64_t n = st->n, live = 0;
    double sum = 0;
    for (int64_t j = 0; j < n; j++) {
        double h = st->h[j * n + j];
        sum += h;
        live += h > 0;
    }
    for (int64_t j = 0; j < n; j++) {
        double h = st->h[j * n + j];
        score[j] = h > 0 ? h + 0.01 * sum / (double)live : 0;
    }
}

/* Squared rounding error of every column, rounded to nearest with fit lp (all zeros), or min-max where lp does not know the grid. */
static oz_status rounding_errors(const oz_fmt *fmt, oz_mat w, double *error, oz_run *run)
{
    int nfit, nsolver;
    const oz_fit_type *const *fits = oz_fits(&nfit), *lp = NULL, *minmax = NULL;
    const oz_solver *const *solvers = oz_solvers(&nsolver), *rtn = NULL;
    for (int k = 0; k < nfit; k++) {
        if (strcmp(fits[k]->entry.name, "lp") == 0) lp = fits[k];
        if (strcmp(fits[k]->entry.name, "minmax") == 0) minmax = fits[k];
    }
    for (int k = 0; k < nsolver; k++)
        if (strcmp(solvers[k]->entry.name, "rtn") == 0) rtn = solvers[k];
    const oz_fit_type *type = lp ? lp : minmax;
    if (!type || !rtn) return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "sidecar cols: fit lp and solver rtn are needed to score columns");
    oz_arena *arena;
    OZ_TRY(oz_arena_new(&arena, 0));
    void *opt = oz_arena_zalloc(arena, type->entry.options_size ? type->entry.options_size : 1);
    oz_status status = opt ? OZ_OK : OZ_ERR_NOMEM;
    if (!status) {
        oz_options_init(&type->entry, opt);
        if (lp && oz_option_find(&lp->entry, "zeros")) status = oz_option_set(&lp->entry, opt, "zeros", "all", "sidecar cols", arena);
    }
    if (!status && lp && minmax && lp->refuses && lp->refuses(fmt->spec, opt)) {
        oz_logf(run, OZ_LOG_INFO, "sidecar cols: columns are scored with fit minmax: fit lp does not know %s", fmt->spec->text);
        type = minmax;
        opt = oz_arena_zalloc(arena, type->entry.options_size ? type->entry.options_size : 1);
        if (opt)
            oz_options_init(&type->entry, opt);
        else
            status = OZ_ERR_NOMEM;
    }
    oz_fit fit = {.type = type, .opt = opt};
    oz_solution q;
    if (!status) status = rtn->solve(NULL, fmt, &fit, w, NULL, NULL, &q, run);
    if (!status) {
        for (int64_t j = 0; j < w.cols; j++) error[j] = 0;
        for (int64_t i = 0; i < w.rows; i++)
            for (int64_t j = 0; j < w.cols; j++) {
                double e = (double)w.p[i * w.ld + j] - (double)q.w_hat.p[i * w.cols + j];
                error[j] += e * e;
            }
        oz_solution_drop(&q);
    }
    oz_arena_free(arena);
    return status;
}

static oz_status scores(const cols_options *o, const oz_fmt *fmt, oz_mat w, const oz_stats *st, double *score, oz_run *run)
{
    int64_t n = w.cols;
    bool has_h = st && st->h && st->n == n;
    switch (o->score) {
    case HDIAG_ERR: {
        if (!has_h) return missing("hdiag-err", "H");
        double *error = oz_alloc((size_t)n, sizeof *error);
        if (!error) return OZ_ERR_NOMEM;
        oz_status status = rounding_errors(fmt, w, error, run);
        if (!status) damped(st, score);
        for (int64_t j = 0; !status && j < n; j++) score[j] *= error[j];
        oz_free(error);
        return status;
    }
    case HDIAG:
        if (!has_h) return missing("hdiag", "H");
        damped(st, score);
        return OZ_OK;
    case ABSMAX:
        if (!st || !st->absmax || st->n != n) return missing("absmax", "channel statistics");
        for (int64_t j = 0; j < n; j++) score[j] = (double)st->absmax[j];
        return OZ_OK;
    case NORM:
        for (int64_t j = 0; j < n; j++) {
            score[j] = 0;
            for (int64_t i = 0; i < w.rows; i++) score[j] += (double)w.p[i * w.ld + j] * (double)w.p[i * w.ld + j];
        }
        return OZ_OK;
    case RANDOM:
        for (int64_t j = 0; j < n; j++) score[j] = oz_rng_uniform(oz_rng_named((uint64_t)o->seed, "cols"), (uint64_t)j);
        return OZ_OK;
    default:
        for (int64_t j = 0; j < n; j++) score[j] = (double)(o->score == FIRST ? n - j : j);
        return OZ_OK;
    }
}

typedef struct {
    double score;
    int32_t id;
} ranked;

static int better(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

static int ascending(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static oz_status plan(const void *opt, oz_sidecar_plan *p, const oz_fmt *fmt, oz_mat w, const oz_stats *st, int64_t k, oz_run *run)
{
    int64_t n = w.cols;
    if (k < 0 || k > n) return oz_fail(OZ_ERR_RANGE, NULL, "sidecar cols: %lld columns of %lld were asked for", (long long)k, (long long)n);
    p->skip = NULL;
    p->keep = NULL;
    p->ids = NULL;
    p->k = k;
    double *score = oz_alloc((size_t)n, sizeof *score);
    ranked *r = oz_alloc((size_t)n, sizeof *r);
    p->skip = oz_zalloc((size_t)n, 1);
    p->ids = oz_zalloc((size_t)(k ? k : 1), sizeof *p->ids);
    oz_status status = score && r && p->skip && p->ids ? OZ_OK : OZ_ERR_NOMEM;
    if (!status && k > 0 && k < n) status = scores(opt, fmt, w, st, score, run);
    if (!status && (k == 0 || k == n)) memset(score, 0, (size_t)n * sizeof *score);
    if (!status) {
        for (int64_t j = 0; j < n; j++) r[j] = (ranked){score[j], (int32_t)j};
        qsort(r, (size_t)n, sizeof *r, better);
        for (int64_t i = 0; i < k; i++) p->skip[p->ids[i] = r[i].id] = 1;
        qsort(p->ids, (size_t)k, sizeof *p->ids, ascending);
    }
    oz_free(score);
    oz_free(r);
    if (status) {
        oz_free(p->skip);
        oz_free(p->ids);
        p->skip = NULL;
        p->ids = NULL;
    }
    return status;
}

/* The code nearest 0 of every row under column `col`, its value into zero[]; r = d = 1 only for scalar grids, else one block at a time. */
static oz_status nearest_zero(const oz_fmt *fmt, oz_solution *s, int64_t col, float *zero, uint8_t *codes)
{
    const oz_shape *sh = &fmt->shape;
    if (sh->d != 1)
        return oz_fail(OZ_ERR_UNSUPPORTED, "use a scalar format", "sidecar cols: %s encodes %d columns together, so none can be set apart",
                       fmt->spec->text, sh->d);
    float *z = oz_zalloc((size_t)fmt->m, sizeof *z);
    if (!z) return OZ_ERR_NOMEM;
    oz_status status = fmt->type->project(fmt, &s->params, 0, col, oz_mat_of(z, fmt->m, 1), NULL, NULL, codes, oz_mat_of(zero, fmt->m, 1));
    oz_free(z);
    int64_t blocks = (fmt->m + sh->r - 1) / sh->r;
    for (int64_t b = 0; !status && b < blocks; b++)
        memcpy(s->codes + (b * fmt->n + col) * sh->code_bytes, codes + b * sh->code_bytes, (size_t)sh->code_bytes);
    return status;
}

static oz_status store_ids(const oz_array *a, const oz_sidecar_plan *p)
{
    for (int64_t i = 0; i < p->k; i++) {
        if (a->v.dtype == OZ_U16)
            ((uint16_t *)oz_array_data(a))[i] = (uint16_t)p->ids[i];
        else if (a->v.dtype == OZ_U32)
            ((uint32_t *)oz_array_data(a))[i] = (uint32_t)p->ids[i];
        else
            return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "sidecar cols: ids are stored as u16 or u32, not %s", oz_dtype_name(a->v.dtype));
    }
    return OZ_OK;
}

static oz_status fill(const oz_sidecar_plan *p, const oz_fmt *fmt, oz_solution *s, oz_array *cols)
{
    int64_t m = fmt->m, n = fmt->n;
    size_t bytes = oz_dtype_size(cols->v.dtype);
    float *zero = oz_alloc((size_t)m, sizeof *zero), *diff = oz_alloc((size_t)m, sizeof *diff);
    uint8_t *codes = oz_alloc((size_t)m, (size_t)fmt->shape.code_bytes), *to = oz_array_data(cols);
    oz_status status = zero && diff && codes ? OZ_OK : OZ_ERR_NOMEM;
    for (int64_t i = 0; !status && i < p->k; i++) {
        int64_t col = p->ids[i];
        status = nearest_zero(fmt, s, col, zero, codes);
        for (int64_t row = 0; !status && row < m; row++) diff[row] = s->compensated.p[row * n + col] - zero[row];
        if (status) break;
        oz_from_f32(cols->v.dtype, diff, to + (size_t)(i * m) * bytes, m);
        oz_to_f32(cols->v.dtype, to + (size_t)(i * m) * bytes, diff, m);
        for (int64_t row = 0; row < m; row++) s->w_hat.p[row * n + col] = zero[row] + diff[row];
    }
    oz_free(zero);
    oz_free(diff);
    oz_free(codes);
    return status;
}

static oz_status finish(const void *opt, const oz_sidecar_plan *p, const oz_fmt *fmt, oz_solution *s, oz_sidecar *out)
{
    (void)opt;
    const oz_sidecar_type *type = p->spec->type;
    oz_array shape[8];
    int count = 0;
    *out = (oz_sidecar){.type = type, .opt = p->spec->opt, .rows = fmt->m, .inputs = fmt->n};
    OZ_TRY(type->layout(p->spec->opt, fmt->m, fmt->n, p->k, shape, &count));
    out->a = oz_zalloc((size_t)(count ? count : 1), sizeof *out->a);
    if (!out->a) return OZ_ERR_NOMEM;
    oz_status status = OZ_OK;
    bool stored = false;
    for (int i = 0; !status && i < count; i++) {
        status = oz_array_new(&out->a[out->n], shape[i].name, shape[i].v.dtype, shape[i].v.rank, shape[i].v.shape);
        if (status) break;
        oz_array *a = &out->a[out->n++];
        if (strcmp(a->name, "ids") == 0)
            status = store_ids(a, p);
        else if (strcmp(a->name, "cols") == 0 && (a->v.dtype == OZ_F16 || a->v.dtype == OZ_BF16 || a->v.dtype == OZ_F32)) {
            stored = true;
            status = fill(p, fmt, s, a);
        } else
            status = oz_fail(OZ_ERR_UNSUPPORTED, "store columns as f16, bf16 or f32", "sidecar cols: array %s of %s cannot be made here",
                             a->name, oz_dtype_name(a->v.dtype));
    }
    if (!status && !stored && p->k > 0)
        status = oz_fail(OZ_ERR_UNSUPPORTED, NULL, "sidecar cols: the layout of %s has no array \"cols\"", p->spec->text);
    if (status) oz_sidecar_drop(out);
    return status;
}

const oz_sidecar_hook oz_sidecar_hook_cols = {
    .name = "cols", .entry = &entry, .wants = OZ_WANT_H | OZ_WANT_CHANNEL, .ratio = ratio, .plan = plan, .finish = finish};

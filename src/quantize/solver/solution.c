/* solution.c: memory of a solver's result, masks, and the proxy loss tr((W - Ŵ) H (W - Ŵ)ᵀ) by its definition: the check of a sweep. */
#include "solver.h"
#include <math.h>

static oz_status matrix_new(oz_mat *w, int64_t m, int64_t n)
{
    size_t count;
    if (!oz_mul_size((size_t)m, (size_t)n, &count))
        return oz_fail(OZ_ERR_NOMEM, NULL, "a matrix of %lld x %lld", (long long)m, (long long)n);
    float *p = oz_alloc(count, sizeof *p);
    if (!p) return OZ_ERR_NOMEM;
    *w = oz_mat_of(p, m, n);
    return OZ_OK;
}

oz_status oz_solution_new(oz_solution *s, const oz_fmt *fmt)
{
    int64_t m = fmt->m, n = fmt->n, r = fmt->shape.r, d = fmt->shape.d;
    *s = (oz_solution){.loss = NAN, .loss_rtn = NAN};
    size_t blocks = (size_t)((m + r - 1) / r) * (size_t)((n + d - 1) / d);
    s->codes = oz_zalloc(blocks, (size_t)fmt->shape.code_bytes);
    oz_status status = s->codes ? matrix_new(&s->w_hat, m, n) : OZ_ERR_NOMEM;
    if (!status) status = matrix_new(&s->compensated, m, n);
    if (status) oz_solution_drop(s);
    return status;
}

void oz_solution_drop(oz_solution *s)
{
    oz_free(s->codes);
    oz_params_drop(&s->params);
    oz_free(s->w_hat.p);
    oz_free(s->compensated.p);
    oz_free(s->keep);
    *s = (oz_solution){0};
}

oz_status oz_mask_union(const uint64_t *a, const uint64_t *b, int64_t m, int64_t n, const uint64_t **mask, uint64_t **owned)
{
    *owned = NULL;
    *mask = a ? a : b;
    if (!a || !b) return OZ_OK;
    int64_t words = m * oz_mask_words(n);
    *mask = *owned = oz_alloc((size_t)words, sizeof **owned);
    if (!*owned) return OZ_ERR_NOMEM;
    for (int64_t i = 0; i < words; i++) (*owned)[i] = a[i] | b[i];
    return OZ_OK;
}

bool oz_counts_clipped(const oz_fmt *fmt)
{
    if (!(fmt->shape.flags & OZ_FMT_SCALAR) || !fmt->type->kernel) return false;
    oz_kdesc k = {0};
    fmt->type->kernel(fmt, &k);
    return k.family == OZ_KERNEL_DOT_INT;
}

/* D H Dᵀ summed over rows of D = W - Ŵ, four rows at a time so that H is read once for them: Σ_i h_ii d_i² + 2 Σ_i d_i Σ_{j>i} h_ij d_j. */
double oz_proxy_loss(oz_mat w, oz_mat w_hat, const oz_stats *stats, double damp)
{
    int64_t n = w.cols;
    if (!stats || !stats->h || stats->n != n) return NAN;
    double *d = oz_alloc((size_t)n * 4, sizeof *d), total = 0;
    if (!d) return NAN;
    for (int64_t row = 0; row < w.rows; row += 4) {
        int64_t rows = w.rows - row < 4 ? w.rows - row : 4;
        for (int64_t j = 0; j < n; j++)
            for (int64_t a = 0; a < 4; a++)
                d[j * 4 + a] = a < rows ? (double)w.p[(row + a) * w.ld + j] - (double)w_hat.p[(row + a) * w_hat.ld + j] : 0.0;
        for (int64_t i = 0; i < n; i++) {
            const double *h = stats->h + i * n;
            double s[4] = {0, 0, 0, 0};
            for (int64_t j = i + 1; j < n; j++)
                for (int a = 0; a < 4; a++) s[a] += h[j] * d[j * 4 + a];
            for (int a = 0; a < 4; a++) total += d[i * 4 + a] * ((h[i] + damp) * d[i * 4 + a] + 2 * s[a]);
        }
    }
    oz_free(d);
    return total;
}

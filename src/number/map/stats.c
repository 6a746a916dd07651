/* number/map/stats.c: statistics of a linear's inputs after a map, without another pass over the text: H' = T H Tᵀ, mean' = T mean.
 * Diagonals, permutations and shifts also carry the channel statistics; a dense or block map cannot, and says so. */
#include "ounce/linear.h"

#include <math.h>
#include <string.h>

static oz_status again(const char *what)
{
    return oz_fail(OZ_ERR_UNSUPPORTED, "capture the statistics again after the map", "a map cannot carry %s over", what);
}

static void diag(oz_stats *s, const float *a)
{
    int64_t n = s->n;
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; s->h && j < n; j++) s->h[i * n + j] *= (double)a[i] * a[j];
        if (s->mean) s->mean[i] *= a[i];
        if (s->absmax) s->absmax[i] *= fabsf(a[i]);
        if (s->mean_abs) s->mean_abs[i] *= fabsf(a[i]);
        if (s->sum_sq) s->sum_sq[i] *= (double)a[i] * a[i];
        if (s->max && s->min) {
            float hi = s->max[i] * a[i], lo = s->min[i] * a[i];
            s->max[i] = fmaxf(hi, lo);
            s->min[i] = fminf(hi, lo);
        }
    }
}

static void shift(oz_stats *s, const float *a)
{
    int64_t n = s->n;
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; s->h && j < n; j++) s->h[i * n + j] += s->mean[i] * a[j] + a[i] * s->mean[j] + (double)a[i] * a[j];
        if (s->sum_sq) s->sum_sq[i] += s->tokens * (2 * a[i] * s->mean[i] + (double)a[i] * a[i]);
        if (s->max) s->max[i] += a[i];
        if (s->min) s->min[i] += a[i];
        if (s->absmax) s->absmax[i] = fmaxf(fabsf(s->max[i]), fabsf(s->min[i]));
    }
    for (int64_t i = 0; s->mean && i < n; i++) s->mean[i] += a[i];
}

/* out[j] = in[idx[j]], for f64 and f32 vectors. */
static oz_status permute(oz_stats *s, const int32_t *idx)
{
    int64_t n = s->n;
    double *t = oz_alloc((size_t)n, sizeof *t);
    if (!t) return OZ_ERR_NOMEM;
    double *wide[] = {s->mean, s->sum_sq};
    float *narrow[] = {s->absmax, s->mean_abs, s->max, s->min, s->grad2};
    for (int k = 0; k < 2; k++)
        if (wide[k]) {
            for (int64_t j = 0; j < n; j++) t[j] = wide[k][idx[j]];
            memcpy(wide[k], t, sizeof *t * (size_t)n);
        }
    for (int k = 0; k < 5; k++)
        if (narrow[k]) {
            for (int64_t j = 0; j < n; j++) t[j] = narrow[k][idx[j]];
            for (int64_t j = 0; j < n; j++) narrow[k][j] = (float)t[j];
        }
    if (s->h) { /* columns within each row, then rows */
        double *h = oz_alloc((size_t)n * (size_t)n, sizeof *h);
        if (!h) {
            oz_free(t);
            return OZ_ERR_NOMEM;
        }
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++) h[i * n + j] = s->h[(int64_t)idx[i] * n + idx[j]];
        memcpy(s->h, h, sizeof *h * (size_t)n * (size_t)n);
        oz_free(h);
    }
    oz_free(t);
    return OZ_OK;
}

/* T dense [n x n] or block diagonal with blocks of b: two products. */
static oz_status matrix(oz_stats *s, const float *a, int64_t b)
{
    int64_t n = s->n;
    double *t = oz_zalloc((size_t)n * (size_t)(s->h ? n : 1), sizeof *t);
    if (!t) return OZ_ERR_NOMEM;
    if (s->h) {
        for (int64_t i = 0; i < n; i++) /* t = T H */
            for (int64_t k = 0; k < b; k++) {
                int64_t row = i / b * b + k;
                double v = a[i * b + k];
                for (int64_t j = 0; j < n; j++) t[i * n + j] += v * s->h[row * n + j];
            }
        for (int64_t i = 0; i < n; i++) /* H = t Tᵀ */
            for (int64_t j = 0; j < n; j++) {
                double sum = 0;
                for (int64_t k = 0; k < b; k++) sum += t[i * n + j / b * b + k] * a[j * b + k];
                s->h[i * n + j] = sum;
            }
    }
    if (s->mean) {
        for (int64_t i = 0; i < n; i++) {
            double sum = 0;
            for (int64_t k = 0; k < b; k++) sum += a[i * b + k] * s->mean[i / b * b + k];
            t[i] = sum;
        }
        memcpy(s->mean, t, sizeof *t * (size_t)n);
    }
    oz_free(t);
    return OZ_OK;
}

oz_status oz_stats_map(oz_stats *s, const oz_map *m)
{
    if (m->in != s->n || m->out != s->n)
        return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "statistics of %lld inputs and a map from %d to %d", (long long)s->n, m->in, m->out);
    if (s->sample) return again("sampled inputs");
    switch (m->kind) {
    case OZ_MAP_DIAG:
        if (s->grad2) return again("gradients through a diagonal");
        diag(s, oz_array_data(&m->a));
        break;
    case OZ_MAP_SHIFT:
        if (s->mean_abs || s->grad2) return again("the mean of |x| through a shift");
        if ((s->h || s->sum_sq) && !s->mean) return again("H through a shift without the mean");
        if (s->absmax && (!s->max || !s->min)) return again("max |x| through a shift");
        shift(s, oz_array_data(&m->a));
        break;
    case OZ_MAP_PERM:
        OZ_TRY(permute(s, oz_array_data(&m->idx)));
        break;
    case OZ_MAP_DENSE:
    case OZ_MAP_BLOCKS:
        if (s->absmax || s->mean_abs || s->sum_sq || s->max || s->min || s->grad2) return again("channel statistics through a matrix");
        OZ_TRY(matrix(s, oz_array_data(&m->a), m->kind == OZ_MAP_DENSE ? s->n : m->block));
        break;
    default:
        return again("statistics through this kind");
    }
    s->space = oz_hash64(&m->id, sizeof m->id, s->space + 1);
    return OZ_OK;
}

/* scale_rules.c: how s is computed from statistics (cards smoothquant and awq, exploiting-quantization for `random`).
 *
 * m_j = E|x_j|, a_j = max |x_j|, w_j = max_o |W_oj|, all [width].  Where query heads share a kv channel (attn.out), the channel's numbers
 * are taken over all heads that read it, so the factor can fold into the rows of v. */
#include <math.h>

#include "quantize/transform/scale.h"

static float bounded(double s) { return (float)(s < 1e-5 ? 1e-5 : s > 1e5 ? 1e5 : s); }

/* s_j = max(a_j^alpha / w_j^(1 - alpha), 1e-5) (SmoothQuant eq. 4). */
oz_status oz_scale_smooth(const oz_site_row *row, const oz_stats *stats, const float *column_max, double alpha, float *s)
{
    int64_t n = row->width, ties = oz_scale_ties(row), step = row->head_dim;
    for (int64_t j = 0; j < n; j++) {
        if (oz_scale_root(j, ties, step) != j) continue;
        double a = 0, w = 1e-5;
        for (int64_t t = 0; t < ties; t++) {
            int64_t k = j + t * step;
            a = fmax(a, (double)stats->absmax[k]);
            w = fmax(w, (double)column_max[k]);
        }
        s[j] = bounded(pow(a, alpha) / pow(w, 1 - alpha));
    }
    for (int64_t j = 0; j < n; j++) s[j] = s[oz_scale_root(j, ties, step)];
    return OZ_OK;
}

/* s_j = max(m_j^alpha, 1e-4), divided by sqrt(max s min s) (AWQ, search of the per-channel scale). */
oz_status oz_scale_awq(const oz_site_row *row, const oz_stats *stats, double alpha, float *s)
{
    int64_t n = row->width, ties = oz_scale_ties(row), step = row->head_dim;
    double *v = oz_alloc((size_t)n, sizeof *v), least = INFINITY, most = 0;
    if (!v) return OZ_ERR_NOMEM;
    for (int64_t j = 0; j < n; j++) {
        if (oz_scale_root(j, ties, step) != j) continue;
        double m = 0;
        for (int64_t t = 0; t < ties; t++) m += (double)stats->mean_abs[j + t * step];
        v[j] = fmax(pow(m / (double)ties, alpha), 1e-4);
        least = fmin(least, v[j]);
        most = fmax(most, v[j]);
    }
    double middle = sqrt(most * least);
    for (int64_t j = 0; j < n; j++) s[j] = bounded(v[oz_scale_root(j, ties, step)] / middle);
    oz_free(v);
    return OZ_OK;
}

/* s_j = exp(u_j), u_j uniform on [-spread, spread], keyed by (seed, layer, expert, site, j). */
void oz_scale_random(const oz_site_row *row, double spread, uint64_t seed, float *s)
{
    int64_t ties = oz_scale_ties(row);
    oz_rng rng = oz_rng_sub(oz_rng_named(seed, "scale.random"), (uint64_t)((row->layer + 1) * 65536 + row->expert + 1));
    rng = oz_rng_sub(rng, row->site);
    for (int64_t j = 0; j < row->width; j++)
        s[j] = (float)exp(spread * (2 * oz_rng_uniform(rng, (uint64_t)oz_scale_root(j, ties, row->head_dim)) - 1));
}

oz_status oz_scale_column_max(const oz_choose *c, float *column_max)
{
    const oz_arch *arch = oz_weights_arch(c->weights);
    for (int64_t j = 0; j < c->row->width; j++) column_max[j] = 0;
    for (int k = 0; k < c->row->ncons; k++) {
        const oz_end *end = &c->row->cons[k];
        const oz_linear_row *l = &arch->linear[end->linear];
        float *w = oz_alloc((size_t)l->out * (size_t)l->in, sizeof *w);
        oz_status status = w ? oz_weights_matrix(c->weights, end->linear, w) : OZ_ERR_NOMEM;
        for (int64_t i = 0; !status && i < l->out; i++)
            for (int64_t j = 0; j < end->count; j++) {
                float a = fabsf(w[i * l->in + end->first + j]);
                if (a > column_max[j]) column_max[j] = a;
            }
        oz_free(w);
        OZ_TRY(status);
    }
    return OZ_OK;
}

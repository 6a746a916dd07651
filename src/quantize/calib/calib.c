/* calib.c: collects statistics of a site's input over calibration text: makes the collector, feeds every wanted statistic, hands
 * the numbers out as oz_stats.  What each statistic is: hessian.c (card owq, A), channel.c (card smoothquant), sample.c (card awq). */
#include "calib.h"

oz_status oz_calib_new(oz_calib **out, int64_t n, uint32_t wants, int64_t tokens_total, int64_t sample_rows, int32_t skip_first,
                       int64_t length)
{
    *out = NULL;
    if (n < 1) return oz_fail(OZ_ERR_SHAPE, NULL, "statistics of a site with %lld inputs: at least 1 is needed", (long long)n);
    if (wants & (OZ_WANT_GRAD2 | OZ_WANT_OUT_GRAD))
        return oz_fail(OZ_ERR_UNSUPPORTED, "choose a technique that needs no gradients",
                       "statistics of gradients are not collected (wanted of %lld inputs)", (long long)n);
    if (skip_first < 0 || length < 0 || (length > 0 && skip_first >= length))
        return oz_fail(OZ_ERR_RANGE, NULL, "skip_first is %d of samples of %lld tokens: nothing would be left", skip_first,
                       (long long)length);
    oz_calib *c = oz_zalloc(1, sizeof *c);
    if (!c) return OZ_ERR_NOMEM;
    c->n = n;
    c->wants = wants;
    c->tokens_total = tokens_total;
    c->sample_rows = sample_rows;
    c->stride = sample_rows > 0 && tokens_total > sample_rows ? tokens_total / sample_rows : 1;
    c->skip_first = skip_first;
    c->length = length;
    bool ok = true;
    size_t w = (size_t)n, nn = 0;
    if (wants & OZ_WANT_MEAN) ok = ok && (c->sum = oz_zalloc(w, sizeof(double)));
    if (wants & OZ_WANT_H)
        ok = ok &&
             (oz_mul_size(w, w, &nn) || !oz_fail(OZ_ERR_NOMEM, NULL, "H of %lld inputs does not fit the address space", (long long)n)) &&
             (c->h = oz_zalloc(nn, sizeof(double)));
    if (wants & OZ_WANT_CHANNEL) {
        ok = ok && (c->absmax = oz_zalloc(w, sizeof(float))) && (c->max = oz_zalloc(w, sizeof(float))) &&
             (c->min = oz_zalloc(w, sizeof(float))) && (c->sum_abs = oz_zalloc(w, sizeof(double))) &&
             (c->sum_sq = oz_zalloc(w, sizeof(double)));
    }
    if (wants & OZ_WANT_SAMPLE) {
        if (sample_rows < 1) {
            oz_calib_free(c);
            return oz_fail(OZ_ERR_RANGE, NULL, "a sample of inputs was asked for with %lld rows: at least 1 is needed",
                           (long long)sample_rows);
        }
        ok = ok &&
             (oz_mul_size((size_t)sample_rows, w, &nn) ||
              !oz_fail(OZ_ERR_NOMEM, NULL, "a sample of %lld rows does not fit the address space", (long long)sample_rows)) &&
             (c->sample = oz_zalloc(nn, sizeof(uint16_t)));
    }
    if (!ok) {
        oz_calib_free(c);
        return OZ_ERR_NOMEM;
    }
    *out = c;
    return OZ_OK;
}

oz_status oz_calib_add(oz_calib *c, oz_mat x, int64_t first_token, oz_run *run)
{
    if (x.cols != c->n)
        return oz_fail(OZ_ERR_SHAPE, NULL, "inputs have %lld features, the statistics are of %lld", (long long)x.cols, (long long)c->n);
    if (x.rows == 0) return OZ_OK;
    if (c->wants & (OZ_WANT_H | OZ_WANT_MEAN)) OZ_TRY(oz_calib_hessian_add(c, x, run));
    if (c->wants & OZ_WANT_CHANNEL) OZ_TRY(oz_calib_channel_add(c, x, first_token, run));
    if (c->wants & OZ_WANT_SAMPLE) oz_calib_sample_add(c, x, first_token);
    c->tokens += (double)x.rows;
    return OZ_OK;
}

oz_status oz_calib_end(oz_calib *c, oz_stats *s)
{
    *s = (oz_stats){0};
    int64_t n = c->n;
    float *mean_abs = NULL;
    if (c->sum_abs) {
        mean_abs = oz_alloc((size_t)n, sizeof(float));
        if (!mean_abs) return OZ_ERR_NOMEM;
        double inv = c->counted > 0 ? 1.0 / c->counted : 0;
        for (int64_t j = 0; j < n; j++) mean_abs[j] = (float)(c->sum_abs[j] * inv);
    }
    oz_calib_hessian_end(c);
    s->n = n;
    s->tokens = c->tokens;
    s->mean = c->sum;
    s->h = c->h;
    s->absmax = c->absmax;
    s->mean_abs = mean_abs;
    s->sum_sq = c->sum_sq;
    s->max = c->max;
    s->min = c->min;
    s->sample = c->sample;
    s->nsample = c->nsample;
    oz_free(c->sum_abs);
    *c = (oz_calib){.n = n};
    return OZ_OK;
}

void oz_calib_free(oz_calib *c)
{
    if (!c) return;
    oz_free(c->sum);
    oz_free(c->h);
    oz_free(c->absmax);
    oz_free(c->max);
    oz_free(c->min);
    oz_free(c->sum_abs);
    oz_free(c->sum_sq);
    oz_free(c->sample);
    oz_free(c);
}

void oz_stats_drop(oz_stats *s)
{
    oz_free(s->mean);
    oz_free(s->h);
    oz_free(s->absmax);
    oz_free(s->mean_abs);
    oz_free(s->sum_sq);
    oz_free(s->max);
    oz_free(s->min);
    oz_free(s->grad2);
    oz_free((void *)(uintptr_t)s->sample);
    *s = (oz_stats){0};
}

size_t oz_calib_bytes(int64_t n, uint32_t wants, int64_t sample_rows)
{
    size_t w = (size_t)n, total = sizeof(struct oz_calib);
    if (wants & OZ_WANT_MEAN) total += w * sizeof(double);
    if (wants & OZ_WANT_H) total += w * w * sizeof(double);
    if (wants & OZ_WANT_CHANNEL) total += w * (4 * sizeof(float) + 2 * sizeof(double));
    if (wants & OZ_WANT_SAMPLE) total += w * (size_t)sample_rows * sizeof(uint16_t);
    return total;
}

/* channel.c: per-channel statistics of x (card smoothquant, "calib/channel"): max |x|, mean |x|, sum of x², max x, min x, each [n], in
 * one pass.  The first `skip_first` positions of every text sample may be left out: the token there (often BOS) is an attention sink
 * whose `down` input is the global maximum.  Sums are f64; columns are split over the pool, so results do not depend on threads. */
#include "calib.h"
#include <math.h>

typedef struct {
    oz_calib *c;
    oz_mat x;
    int64_t first;
} channel_job;

static bool counted(const oz_calib *c, int64_t token) { return c->length <= 0 || c->skip_first == 0 || token % c->length >= c->skip_first; }

static oz_status add_columns(void *ctx, int64_t j0, int64_t j1, oz_work *work)
{
    (void)work;
    const channel_job *job = ctx;
    oz_calib *c = job->c;
    bool first = c->counted == 0;
    for (int64_t t = 0; t < job->x.rows; t++) {
        if (!counted(c, job->first + t)) continue;
        const float *x = job->x.p + t * job->x.ld;
        if (first) {
            for (int64_t j = j0; j < j1; j++) c->max[j] = c->min[j] = x[j];
            first = false;
        }
        for (int64_t j = j0; j < j1; j++) {
            float v = x[j], a = fabsf(v);
            c->absmax[j] = a > c->absmax[j] ? a : c->absmax[j];
            c->max[j] = v > c->max[j] ? v : c->max[j];
            c->min[j] = v < c->min[j] ? v : c->min[j];
            c->sum_abs[j] += (double)a;
            c->sum_sq[j] += (double)v * (double)v;
        }
    }
    return OZ_OK;
}

oz_status oz_calib_channel_add(oz_calib *c, oz_mat x, int64_t first_token, oz_run *run)
{
    channel_job job = {c, x, first_token};
    OZ_TRY(oz_pool_for(run ? run->pool : NULL, c->n, 256, add_columns, &job));
    for (int64_t t = 0; t < x.rows; t++) c->counted += counted(c, first_token + t);
    return OZ_OK;
}

/* hessian.c: H = mean over calibration tokens of x xᵀ (card owq, A; GPTQ arXiv:2210.17323 eq. 2, without the factor 2, which changes
 * nothing) and the mean of x.  H is f64 [n x n]: products in f32 a chunk of <= 2048 tokens, chunks summed in f64, because the
 * condition number of a `down` input exceeds what f32 sums carry.  H is never damped here: that is the solver's business. */
#include "calib.h"

typedef struct {
    oz_mat x;
    double *sum;
} mean_job;

static oz_status add_mean(void *ctx, int64_t j0, int64_t j1, oz_work *work)
{
    (void)work;
    const mean_job *job = ctx;
    for (int64_t t = 0; t < job->x.rows; t++) {
        const float *x = job->x.p + t * job->x.ld;
        for (int64_t j = j0; j < j1; j++) job->sum[j] += (double)x[j];
    }
    return OZ_OK;
}

oz_status oz_calib_hessian_add(oz_calib *c, oz_mat x, oz_run *run)
{
    oz_pool *pool = run ? run->pool : NULL;
    if (c->h) {
        for (int64_t t = 0; t < x.rows; t += 2048) {
            OZ_TRY(oz_check_cancel(run));
            int64_t rows = x.rows - t < 2048 ? x.rows - t : 2048;
            OZ_TRY(oz_syrk_f64(pool, 1.0, oz_mat_rows(x, t, rows), c->h, c->n));
        }
    }
    if (c->sum) {
        mean_job job = {x, c->sum};
        OZ_TRY(oz_pool_for(pool, c->n, 256, add_mean, &job));
    }
    return OZ_OK;
}

/* Sums to means, upper triangle to both. */
void oz_calib_hessian_end(oz_calib *c)
{
    double inv = c->tokens > 0 ? 1.0 / c->tokens : 0;
    if (c->sum)
        for (int64_t j = 0; j < c->n; j++) c->sum[j] *= inv;
    if (c->h) {
        for (int64_t i = 0; i < c->n; i++)
            for (int64_t j = i; j < c->n; j++) c->h[i * c->n + j] *= inv;
        oz_mirror_upper(c->h, c->n);
    }
}

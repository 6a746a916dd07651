/* calib.h: the collector behind oz_calib, shared by the files of this folder.  One collector per site: the linears of a site read the
 * same x, so they share every number.  x [tokens x n], rows are tokens in order. */
#ifndef OUNCE_QUANTIZE_CALIB_H
#define OUNCE_QUANTIZE_CALIB_H
#include "ounce/quantize.h"

struct oz_calib {
    int64_t n;            /* input features */
    uint32_t wants;       /* OZ_WANT_ bits */
    int64_t tokens_total; /* how many tokens the whole run will show */
    int64_t sample_rows;  /* at most so many rows are kept */
    int64_t stride;       /* of the kept rows */
    int32_t skip_first;   /* positions at the start of every text sample that the channel statistics leave out (attention sinks) */
    int64_t length;       /* tokens a text sample */
    double tokens;        /* seen */
    double counted;       /* of them, in the channel statistics */
    double *sum;          /* [n] sum of x: the mean */
    double *h;            /* [n x n] sum of x xᵀ, upper triangle while collecting */
    float *absmax, *max, *min;
    double *sum_abs, *sum_sq;
    uint16_t *sample; /* [nsample x n] f16 */
    int64_t nsample;
};

oz_status oz_calib_hessian_add(oz_calib *, oz_mat x, oz_run *);
void oz_calib_hessian_end(oz_calib *);
oz_status oz_calib_channel_add(oz_calib *, oz_mat x, int64_t first_token, oz_run *);
void oz_calib_sample_add(oz_calib *, oz_mat x, int64_t first_token);
#endif

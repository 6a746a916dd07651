/* sample.c: keeps rows of x for searches that compare outputs (card awq, "calib/inputs"): every stride-th token, stride =
 * tokens_total / sample_rows, in f16 [nsample x n].  Which rows are kept depends on the token numbers only.  Values beyond f16 (some
 * models' sink tokens) are kept at its largest number, so that a search never meets an infinity. */
#include "calib.h"

void oz_calib_sample_add(oz_calib *c, oz_mat x, int64_t first_token)
{
    int64_t t = (c->stride - first_token % c->stride) % c->stride;
    for (; t < x.rows && c->nsample < c->sample_rows; t += c->stride) {
        uint16_t *row = c->sample + c->nsample++ * c->n;
        oz_from_f32(OZ_F16, x.p + t * x.ld, row, c->n);
        for (int64_t j = 0; j < c->n; j++)
            if ((row[j] & 0x7fff) == 0x7c00) row[j] = (uint16_t)((row[j] & 0x8000) | 0x7bff);
    }
}

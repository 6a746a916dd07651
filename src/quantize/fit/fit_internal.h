/* quantize/fit/fit_internal.h: what the fits share: the elements of a tile that take part, and writing a tile's parameters.
 *
 * A fit serves every scalar format through two hooks: from_range (parameters of a range, rounded as stored) and encode (values under
 * them).  oz_fit_in.mask is the mask of the whole matrix: bit (row0 + i, col0 + j), mask_ld words a row. */
#ifndef OUNCE_FIT_INTERNAL_H
#define OUNCE_FIT_INTERNAL_H
#include "ounce/quantize.h"
#include "quantize/fit/list.h"

#define OZ_FIT_EXTERN(name) extern const oz_fit_type oz_fit_##name;
OZ_FITS(OZ_FIT_EXTERN)
#undef OZ_FIT_EXTERN

static inline bool oz_fit_takes(const oz_fit_in *in, int64_t i, int64_t j)
{
    if (in->skip && in->skip[j]) return false;
    int64_t c = in->col0 + j;
    return !in->mask || !(in->mask[(in->row0 + i) * in->mask_ld + c / 64] >> (c % 64) & 1);
}

/* Smallest and largest of the elements that take part; 0, 0 when none does. */
void oz_fit_range(const oz_fit_in *, float *lo, float *hi);
void oz_fit_set(const oz_fmt *, oz_params *, int64_t tile_r, int64_t tile_c, float scale, float zero);
/* Refused formats, as a sentence; NULL: served. */
const char *oz_fit_refuses(const oz_spec *, const void *opt);
#endif

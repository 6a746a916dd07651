/* quantize/fit/minmax.c: the range of a tile's elements, times a ratio (card finequant A).
 *
 * lo, hi = min and max of the unmasked elements (all R x C of the tile); parameters of (ratio*lo, ratio*hi), by the format's table. */
#include "quantize/fit/fit_internal.h"

typedef struct minmax_options {
    double ratio;
} minmax_options;

static oz_status fit(const void *opt, const oz_fmt *f, oz_params *p, int64_t tile_r, int64_t tile_c, const oz_fit_in *in, oz_work *work)
{
    const minmax_options *o = opt;
    float ratio = o ? (float)o->ratio : 1, lo, hi, scale, zero = 0;
    (void)work;
    oz_fit_range(in, &lo, &hi);
    f->type->from_range(f, ratio * lo, ratio * hi, &scale, &zero);
    oz_fit_set(f, p, tile_r, tile_c, scale, zero);
    return OZ_OK;
}

static const oz_option options[] = {{.name = "ratio",
                                     .type = OZ_REAL,
                                     .at = offsetof(minmax_options, ratio),
                                     .init = 1,
                                     .min = 0.01,
                                     .max = 1,
                                     .unit = "of the range",
                                     .brief = "factor on both ends of the range; values beyond are clamped"},
                                    {0}};

const oz_fit_type oz_fit_minmax = {.entry = {.kind = "fit",
                                             .name = "minmax",
                                             .brief = "the range of each group's weights",
                                             .paper = "arXiv:2308.09723",
                                             .card = "finequant",
                                             .options = options,
                                             .options_size = sizeof(minmax_options)},
                                   .refuses = oz_fit_refuses,
                                   .fit = fit};

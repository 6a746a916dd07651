/* quantize/fit/act_clip.c: a group's range is narrowed as far as the error on sampled inputs falls (AWQ, arXiv:2306.00978; card awq, step
 * 4).
 *
 * For a tile with m0 = max |w|: ratios r = 1 - i/grid, i = 0 ... shrink*grid - 1; range of the weights clamped to [-r m0, r m0] (two_sided:
 * both ends times r); E = sum over rows of the tile, mean over at most `tokens` sampled inputs, of (sum over j of x_tj (what_j - w_j))^2;
 * the first least E wins.  what is the nearest code to the weight itself: clamping first would differ only where a symmetric grid's lowest
 * code, -2^(B-1), is nearer, and the solver uses that code too.  Skipped columns and masked elements have no error. */
#include "quantize/fit/fit_internal.h"

#include <math.h>
#include <string.h>

typedef struct clip_options {
    int grid, tokens;
    double shrink;
    bool two_sided;
} clip_options;
#define MOST_RATIOS 128

static int ratios_of(const clip_options *o)
{
    int n = (int)lround(o->shrink * o->grid);
    return n < 1 ? 1 : n < MOST_RATIOS ? n : MOST_RATIOS;
}

static oz_status fit(const void *opt, const oz_fmt *f, oz_params *p, int64_t tile_r, int64_t tile_c, const oz_fit_in *in, oz_work *work)
{
    const clip_options *o = opt;
    const oz_stats *st = in->stats;
    if (!st || !st->sample || st->nsample < 1)
        return oz_fail(OZ_ERR_UNSUPPORTED, "collect inputs, or use fit minmax",
                       "fit act-clip needs sampled inputs of the linear, none were kept");
    int64_t rows = in->w.rows, g = in->w.cols, tokens = st->nsample < o->tokens ? st->nsample : o->tokens, stride = st->nsample / tokens;
    int n = ratios_of(o);
    float *x = oz_arena_alloc(work->arena, sizeof *x * (size_t)(tokens * g));
    float *d = oz_arena_alloc(work->arena, sizeof *d * (size_t)(n * g)), *y = oz_arena_alloc(work->arena, sizeof *y * (size_t)(n * tokens));
    if (!x || !d || !y) return OZ_ERR_NOMEM;
    for (int64_t t = 0; t < tokens; t++) oz_to_f32(OZ_F16, st->sample + t * stride * st->n + in->col0, x + t * g, g);
    float lo, hi, scale[MOST_RATIOS], zero[MOST_RATIOS];
    double error[MOST_RATIOS] = {0};
    oz_fit_range(in, &lo, &hi);
    float m0 = fmaxf(fabsf(lo), fabsf(hi));
    for (int k = 0; k < n; k++) {
        float r = 1 - (float)k / (float)o->grid, a = o->two_sided ? r * lo : fmaxf(lo, -r * m0),
              b = o->two_sided ? r * hi : fminf(hi, r * m0);
        zero[k] = 0;
        f->type->from_range(f, a, b, &scale[k], &zero[k]);
    }
    for (int64_t i = 0; i < rows; i++) {
        const float *w = in->w.p + i * in->w.ld;
        for (int k = 0; k < n; k++) {
            float *e = d + k * g;
            f->type->encode(f, scale[k], zero[k], w, g, NULL, e);
            for (int64_t j = 0; j < g; j++) e[j] = oz_fit_takes(in, i, j) ? e[j] - w[j] : 0;
        }
        OZ_TRY(oz_gemm(NULL, 0, 1, 1, oz_mat_of(d, n, g), oz_mat_of(x, tokens, g), 0, oz_mat_of(y, n, tokens)));
        for (int k = 0; k < n; k++) {
            double sum = 0;
            for (int64_t t = 0; t < tokens; t++) sum += (double)y[k * tokens + t] * y[k * tokens + t];
            error[k] += sum / (double)tokens;
        }
    }
    int best = 0;
    for (int k = 1; k < n; k++)
        if (error[k] < error[best]) best = k;
    oz_fit_set(f, p, tile_r, tile_c, scale[best], zero[best]);
    return OZ_OK;
}

#define AT(field) offsetof(clip_options, field)
static const oz_option options[] = {{.name = "grid",
                                     .type = OZ_INT,
                                     .at = AT(grid),
                                     .init = 20,
                                     .min = 1,
                                     .max = 1000,
                                     .unit = "steps",
                                     .brief = "steps from the full range to nothing"},
                                    {.name = "shrink",
                                     .type = OZ_REAL,
                                     .at = AT(shrink),
                                     .init = 0.5,
                                     .min = 0,
                                     .max = 0.99,
                                     .unit = "of the range",
                                     .brief = "how far the range is narrowed"},
                                    {.name = "tokens",
                                     .type = OZ_INT,
                                     .at = AT(tokens),
                                     .init = 512,
                                     .min = 1,
                                     .max = 65536,
                                     .unit = "tokens",
                                     .brief = "sampled inputs the error is taken over"},
                                    {.name = "two_sided",
                                     .type = OZ_FLAG,
                                     .at = AT(two_sided),
                                     .brief = "both ends of the range shrink, in place of clamping to the same magnitude"},
                                    {0}};

const oz_fit_type oz_fit_act_clip = {.entry = {.kind = "fit",
                                               .name = "act-clip",
                                               .brief = "narrows each group's range to what sampled inputs notice least",
                                               .paper = "arXiv:2306.00978",
                                               .card = "awq",
                                               .options = options,
                                               .options_size = sizeof(clip_options)},
                                     .wants = OZ_WANT_SAMPLE,
                                     .refuses = oz_fit_refuses,
                                     .fit = fit};

/* quantize/fit/fit.c: the fits that exist (list.h), what they share, and oz_refit: all tiles of some columns, then seal. */
#include "quantize/fit/fit_internal.h"

#include <math.h>

const oz_fit_type *const *oz_fits(int *n)
{
#define OZ_FIT_AT(name) &oz_fit_##name,
    static const oz_fit_type *const all[] = {OZ_FITS(OZ_FIT_AT)};
#undef OZ_FIT_AT
    *n = (int)(sizeof all / sizeof *all);
    return all;
}

void oz_fit_range(const oz_fit_in *in, float *lo, float *hi)
{
    bool any = false;
    *lo = *hi = 0;
    for (int64_t i = 0; i < in->w.rows; i++)
        for (int64_t j = 0; j < in->w.cols; j++) {
            if (!oz_fit_takes(in, i, j)) continue;
            float v = in->w.p[i * in->w.ld + j];
            *lo = !any || v < *lo ? v : *lo;
            *hi = !any || v > *hi ? v : *hi;
            any = true;
        }
}

void oz_fit_set(const oz_fmt *f, oz_params *p, int64_t tile_r, int64_t tile_c, float scale, float zero)
{
    float *s = oz_params_get(p, "scale"), *z = oz_params_get(p, "zero");
    int64_t t = tile_r * oz_fmt_tiles_c(f) + tile_c;
    if (s) s[t] = scale;
    if (z) z[t] = zero;
}

const char *oz_fit_refuses(const oz_spec *s, const void *opt)
{
    (void)opt;
    if (!s->type) return NULL; /* a mix: its members are asked */
    return s->type->flags & OZ_FMT_SCALAR ? NULL : "fits of ranges serve scalar grids only";
}

typedef struct refit {
    const oz_fmt *f;
    oz_params *p;
    const oz_fit_type *type;
    const void *opt;
    oz_fit_in in; /* w: the columns, all rows */
    int64_t tile0, tiles;
} refit;

static oz_status refit_rows(void *ctx, int64_t i0, int64_t i1, oz_work *work)
{
    const refit *r = ctx;
    int64_t pr = r->f->shape.prm_r, pc = r->f->shape.prm_c;
    for (int64_t tr = i0; tr < i1; tr++)
        for (int64_t k = 0; k < r->tiles; k++) {
            oz_fit_in in = r->in;
            int64_t c = k * pc, rows = r->in.w.rows - tr * pr < pr ? r->in.w.rows - tr * pr : pr,
                    cols = r->in.w.cols - c < pc ? r->in.w.cols - c : pc;
            in.w = oz_mat_cols(oz_mat_rows(r->in.w, tr * pr, rows), c, cols);
            in.row0 = tr * pr;
            in.col0 = r->in.col0 + c;
            in.weight = r->in.weight ? r->in.weight + c : NULL;
            in.skip = r->in.skip ? r->in.skip + c : NULL;
            in.rng = (oz_rng){(uint64_t)tr, (uint64_t)(r->tile0 + k)};
            oz_arena_mark mark = oz_arena_save(work->arena);
            OZ_TRY(r->type->fit(r->opt, r->f, r->p, tr, r->tile0 + k, &in, work));
            oz_arena_rewind(work->arena, mark);
        }
    return OZ_OK;
}

oz_status oz_refit(const oz_fmt *f, oz_params *p, const oz_fit *fit, oz_mat w, int64_t col0, const float *weight, const uint8_t *skip,
                   const uint64_t *mask, int64_t mask_ld, const oz_stats *stats, oz_pool *pool)
{
    int64_t pc = f->shape.prm_c;
    const char *why = f->spec && fit->type->refuses ? fit->type->refuses(f->spec, fit->opt) : NULL;
    if (why || !(f->shape.flags & OZ_FMT_PROJECT))
        return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "fit %s cannot serve %s%s%s", fit->type->entry.name,
                       f->spec ? f->spec->text : "this format", why ? ": " : "", why ? why : "");
    if (w.rows != f->m || col0 < 0 || col0 % pc || col0 + w.cols > f->n || (w.cols % pc && col0 + w.cols != f->n))
        return oz_fail(OZ_ERR_SHAPE, NULL, "fit of columns %lld to %lld, %lld rows, in %s of a %lld x %lld matrix", (long long)col0,
                       (long long)(col0 + w.cols), (long long)w.rows, f->spec->text, (long long)f->m, (long long)f->n);
    if (!p->n) return OZ_OK; /* floats, int.unit: nothing to choose */
    refit r = {f,
               p,
               fit->type,
               fit->opt,
               {.w = w, .col0 = col0, .weight = weight, .skip = skip, .mask = mask, .mask_ld = mask_ld, .stats = stats},
               col0 / pc,
               (w.cols + pc - 1) / pc};
    if (fit->off) { /* this linear is left with plain min-max */
        r.type = &oz_fit_minmax;
        r.opt = NULL;
    }
    OZ_TRY(oz_pool_for(pool, oz_fmt_tiles_r(f), f->shape.prm_r > 8 ? 1 : 8, refit_rows, &r));
    return f->type->seal(f, p, 0, oz_fmt_tiles_r(f), r.tile0, r.tiles);
}

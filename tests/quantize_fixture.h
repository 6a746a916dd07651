/* quantize_fixture.h: small grids, fits and matrices for tests of solvers.  The grid here is a test's own: code u in [0, P], value
 * s (u - z), encoded r rows x d inputs together, so that every shape of code block can be tried with arithmetic that is plain to see. */
#ifndef OUNCE_TESTS_QUANTIZE_FIXTURE_H
#define OUNCE_TESTS_QUANTIZE_FIXTURE_H
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "ounce/quantize.h"

#define OK(e)           assert_int_equal((e), OZ_OK)
#define NEAR(a, b, eps) assert_true(fabs((double)(a) - (double)(b)) <= (eps))

typedef struct grid_options {
    float top;
} grid_options; /* P */

static inline float grid_code(const grid_options *o, float s, float z, float w, float u01)
{
    float v = w / s + z, u = u01 < 0 ? rintf(v) : floorf(v + u01);
    return u < 0 ? 0 : u > o->top ? o->top : u;
}

static inline void grid_encode(const oz_fmt *f, float s, float z, const float *w, int64_t n, uint8_t *code, float *q)
{
    for (int64_t i = 0; i < n; i++) {
        float u = grid_code(f->opt, s, z, w[i], -1);
        if (code) code[i] = (uint8_t)u;
        if (q) q[i] = s * (u - z);
    }
}

static inline oz_status grid_project(const oz_fmt *f, const oz_params *p, int64_t row0, int64_t col0, oz_mat z, const oz_metric *metric,
                                     const float *round, uint8_t *code, oz_mat q)
{
    (void)metric; /* the grid is a product of coordinates: a diagonal metric does not move the nearest point */
    int64_t r = f->shape.r, d = f->shape.d, tc = oz_fmt_tiles_c(f);
    for (int64_t i = 0; i < z.rows; i++)
        for (int64_t j = 0; j < z.cols; j++) {
            int64_t t = (row0 + i) / f->shape.prm_r * tc + (col0 + j) / f->shape.prm_c;
            float s = oz_params_get(p, "scale")[t], zero = oz_params_get(p, "zero")[t];
            float u = grid_code(f->opt, s, zero, z.p[i * z.ld + j], round ? round[i * z.cols + j] : -1);
            code[i / r * r * d + i % r * d + j] = (uint8_t)u;
            q.p[i * q.ld + j] = s * (u - zero);
        }
    return OZ_OK;
}

static inline oz_status grid_init(const oz_fmt *f, oz_params *p)
{
    int64_t shape[2] = {oz_fmt_tiles_r(f), oz_fmt_tiles_c(f)};
    p->a = oz_zalloc(2, sizeof *p->a);
    if (!p->a) return OZ_ERR_NOMEM;
    OZ_TRY(oz_array_new(&p->a[0], "scale", OZ_F32, 2, shape));
    p->n = 1;
    OZ_TRY(oz_array_new(&p->a[1], "zero", OZ_F32, 2, shape));
    p->n = 2;
    return OZ_OK;
}

static inline oz_status grid_seal(const oz_fmt *f, oz_params *p, int64_t r0, int64_t nr, int64_t c0, int64_t nc)
{
    (void)f, (void)p, (void)r0, (void)nr, (void)c0, (void)nc;
    return OZ_OK;
}

static const oz_format grid_format = {
    .entry = {.kind = "format", .name = "grid"}, .init = grid_init, .seal = grid_seal, .project = grid_project, .encode = grid_encode};

/* Min-max with 0 in the range, and the grid {0, 1, ... P} itself. */
static inline oz_status range_fit(const void *opt, const oz_fmt *f, oz_params *p, int64_t tr, int64_t tc, const oz_fit_in *in,
                                  oz_work *work)
{
    (void)opt, (void)work;
    float lo = 0, hi = 0, top = ((const grid_options *)f->opt)->top;
    for (int64_t i = 0; i < in->w.rows; i++)
        for (int64_t j = 0; j < in->w.cols; j++) {
            if ((in->skip && in->skip[j]) || (in->mask && in->mask[i * in->mask_ld + j / 64] >> (j % 64) & 1)) continue;
            lo = fminf(lo, in->w.p[i * in->w.ld + j]);
            hi = fmaxf(hi, in->w.p[i * in->w.ld + j]);
        }
    float s = hi > lo ? (hi - lo) / top : 1;
    int64_t t = tr * oz_fmt_tiles_c(f) + tc;
    oz_params_get(p, "scale")[t] = s;
    oz_params_get(p, "zero")[t] = rintf(-lo / s);
    return OZ_OK;
}
static inline oz_status unit_fit(const void *opt, const oz_fmt *f, oz_params *p, int64_t tr, int64_t tc, const oz_fit_in *in, oz_work *work)
{
    (void)opt, (void)in, (void)work;
    int64_t t = tr * oz_fmt_tiles_c(f) + tc;
    oz_params_get(p, "scale")[t] = 1;
    oz_params_get(p, "zero")[t] = 0;
    return OZ_OK;
}
static const oz_fit_type range_fit_type = {.entry = {.kind = "fit", .name = "range"}, .fit = range_fit};
static const oz_fit_type unit_fit_type = {.entry = {.kind = "fit", .name = "unit"}, .fit = unit_fit};
static const oz_fit range_of = {.type = &range_fit_type}, unit_of = {.type = &unit_fit_type};

/* scalar: through encode(), else through project() */
static inline oz_fmt grid_fmt(const grid_options *o, int64_t m, int64_t n, int r, int d, int64_t prm_r, int64_t prm_c, bool scalar)
{
    return (oz_fmt){.type = &grid_format,
                    .opt = o,
                    .m = m,
                    .n = n,
                    .shape = {.r = r,
                              .d = d,
                              .code_bytes = r * d,
                              .prm_r = prm_r,
                              .prm_c = prm_c < n ? prm_c : n,
                              .flags = OZ_FMT_PROJECT | OZ_FMT_DYNAMIC | OZ_FMT_METRIC_DIAG | OZ_FMT_ZERO | (scalar ? OZ_FMT_SCALAR : 0u)}};
}

static inline const oz_solver *solver_named(const char *name)
{
    int n;
    const oz_solver *const *all = oz_solvers(&n);
    for (int k = 0; k < n; k++)
        if (strcmp(all[k]->entry.name, name) == 0) return all[k];
    return NULL;
}

/* Options of gptq set by name from "name=value name=value". */
static inline void *solver_options(const oz_solver *s, const char *text)
{
    void *opt = oz_zalloc(1, s->entry.options_size + 1);
    oz_arena *arena;
    oz_options_init(&s->entry, opt);
    OK(oz_arena_new(&arena, 0));
    char name[64], value[64];
    int used;
    while (sscanf(text, " %63[a-z_]=%63s%n", name, value, &used) == 2) {
        OK(oz_option_set(&s->entry, opt, name, value, "test", arena));
        text += used;
    }
    oz_arena_free(arena);
    return opt;
}

static inline float *random_matrix(int64_t m, int64_t n, uint64_t seed)
{
    float *w = oz_alloc((size_t)(m * n), sizeof *w);
    for (int64_t i = 0; i < m * n; i++) w[i] = (float)oz_rng_normal((oz_rng){seed, 1}, (uint64_t)i);
    return w;
}

/* H of correlated inputs: mean x xᵀ over `tokens`, neighbours alike, some channels loud. */
static inline oz_stats random_stats(int64_t n, int64_t tokens, uint64_t seed)
{
    oz_stats s = {.n = n, .tokens = (double)tokens};
    s.h = oz_zalloc((size_t)(n * n), sizeof *s.h);
    float *x = random_matrix(tokens, n, seed);
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t j = 0; j < n; j++) {
            if (j) x[t * n + j] = 0.7f * x[t * n + j - 1] + 0.7f * x[t * n + j];
            if (j % 13 == 5) x[t * n + j] *= 3;
        }
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++) s.h[i * n + j] += (double)x[t * n + i] * (double)x[t * n + j] / (double)tokens;
    oz_free(x);
    return s;
}
#endif

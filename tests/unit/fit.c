/* Fits: ranges, masks, the p-norm search against brute force, the clip search on sampled inputs, refit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "ounce/quantize.h"

static oz_arena *arena;
static oz_pool *pool;
static int setup(void **state)
{
    (void)state;
    return oz_arena_new(&arena, 0) != OZ_OK || oz_pool_new(&pool, 3) != OZ_OK;
}
static int teardown(void **state)
{
    (void)state;
    oz_pool_free(pool);
    oz_arena_free(arena);
    return 0;
}

static oz_fit fit_of(const char *name, const char *const (*set)[2], int nset)
{
    int n;
    const oz_fit_type *const *all = oz_fits(&n);
    oz_fit f = {0};
    for (int i = 0; i < n; i++)
        if (!strcmp(all[i]->entry.name, name)) f.type = all[i];
    assert_non_null(f.type);
    void *opt = oz_arena_zalloc(arena, f.type->entry.options_size);
    oz_options_init(&f.type->entry, opt);
    for (int i = 0; i < nset; i++)
        if (oz_option_set(&f.type->entry, opt, set[i][0], set[i][1], "test", arena)) fail_msg("%s", oz_message());
    f.opt = opt;
    return f;
}

static void bind(oz_fmt *f, oz_params *p, const char *text, int64_t m, int64_t n)
{
    oz_spec *spec;
    if (oz_spec_parse(&spec, text, NULL, arena) || oz_fmt_bind(f, spec, m, n, "w")) fail_msg("%s", oz_message());
    assert_int_equal(spec->type->init(f, p), OZ_OK);
}

static void fill(float *w, int64_t n, uint64_t stream)
{
    for (int64_t i = 0; i < n; i++) w[i] = (float)oz_rng_normal((oz_rng){11, stream}, (uint64_t)i);
}

enum { M = 20, N = 100 };

static void minmax(void **state)
{
    (void)state;
    static const char *const formats[] = {"int4@32", "int4.asym@32", "int3.zf@row", "int4@2x32", "int4@tensor", "f16"};
    float w[M * N];
    fill(w, M * N, 1);
    uint8_t skip[N] = {0};
    uint64_t mask[M * 2] = {0};
    skip[7] = 1, w[7] = 1000;                  /* row 0 */
    mask[3 * 2 + 1] = 1, w[3 * N + 64] = -500; /* row 3, column 64 */
    oz_fit fit = fit_of("minmax", NULL, 0);
    for (size_t k = 0; k < sizeof formats / sizeof *formats; k++) {
        oz_fmt f;
        oz_params p;
        bind(&f, &p, formats[k], M, N);
        assert_int_equal(oz_refit(&f, &p, &fit, oz_mat_of(w, M, N), 0, NULL, skip, mask, 2, NULL, pool), OZ_OK);
        const float *scale = oz_params_get(&p, "scale"), *zero = oz_params_get(&p, "zero");
        for (int64_t t = 0; scale && t < oz_fmt_tiles_r(&f) * oz_fmt_tiles_c(&f); t++) {
            float lo = INFINITY, hi = -INFINITY, s, z = 0;
            int64_t r0 = t / oz_fmt_tiles_c(&f) * f.shape.prm_r, c0 = t % oz_fmt_tiles_c(&f) * f.shape.prm_c;
            for (int64_t i = r0; i < M && i < r0 + f.shape.prm_r; i++)
                for (int64_t j = c0; j < N && j < c0 + f.shape.prm_c; j++)
                    if (j != 7 && !(i == 3 && j == 64)) lo = fminf(lo, w[i * N + j]), hi = fmaxf(hi, w[i * N + j]);
            f.type->from_range(&f, lo, hi, &s, &z);
            assert_true(scale[t] == s && (!zero || zero[t] == z));
        }
        oz_params_drop(&p);
    }
    /* ratio; columns of one group only, as a sweep asks. */
    oz_fmt f;
    oz_params p;
    fit = fit_of("minmax", (const char *const[][2]){{"ratio", "0.5"}}, 1);
    bind(&f, &p, "int4@50:f32", M, N);
    oz_mat right = {w + 50, M, 50, N};
    memset(oz_array_data(&p.a[0]), 0, oz_array_bytes(&p.a[0]));
    assert_int_equal(oz_refit(&f, &p, &fit, right, 50, NULL, NULL, NULL, 0, NULL, pool), OZ_OK);
    const float *scale = oz_params_get(&p, "scale");
    for (int i = 0; i < M; i++) {
        float most = 0;
        for (int j = 50; j < N; j++) most = fmaxf(most, fabsf(w[i * N + j]));
        assert_true(fabsf(scale[2 * i + 1] - 0.5f * most / 7) < 1e-6f * most);
        assert_true(scale[2 * i] == 0 || scale[2 * i] == 6.103515625e-05f); /* the other group was not fitted */
    }
    assert_int_equal(oz_refit(&f, &p, &fit, right, 25, NULL, NULL, NULL, 0, NULL, pool), OZ_ERR_SHAPE);
    oz_params_drop(&p);
}

static double error_of(const oz_fmt *f, float scale, float zero, const float *w, int n, double norm)
{
    float q[256];
    double e = 0;
    f->type->encode(f, scale, zero, w, n, NULL, q);
    for (int j = 0; j < n; j++) e += pow(fabs((double)q[j] - w[j]), norm);
    return e;
}

/* The search finds what trying every candidate in f64 finds, and never loses to min-max. */
static void lp(void **state)
{
    (void)state;
    static const struct {
        const char *format;
        const char *norm, *zeros;
    } cases[] = {{"int3.asym@50:f32", "2.4", "round"}, {"int3.asym@row:f32", "2.4", "all"}, {"int4@50:f32", "2", "round"},
                 {"int2.mid@50:f32", "3", "round"},    {"int3.zf@50:f32", "2.4", "round"},  {"gguf.q4_0", "2", "round"},
                 {"gguf.q5_1", "2.4", "round"}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        int64_t n = strncmp(cases[k].format, "gguf", 4) ? N : 96;
        float w[M * N];
        fill(w, M * n, 2);
        for (int i = 0; i < M; i++) w[i * n + i] *= 4;
        oz_fmt f;
        oz_params p, best;
        bind(&f, &p, cases[k].format, M, n);
        bind(&f, &best, cases[k].format, M, n);
        double norm = atof(cases[k].norm);
        oz_fit fit = fit_of("lp", (const char *const[][2]){{"norm", cases[k].norm}, {"zeros", cases[k].zeros}}, 2),
               plain = fit_of("minmax", NULL, 0);
        if (oz_refit(&f, &p, &fit, oz_mat_of(w, M, n), 0, NULL, NULL, NULL, 0, NULL, pool)) fail_msg("%s", oz_message());
        assert_int_equal(oz_refit(&f, &best, &plain, oz_mat_of(w, M, n), 0, NULL, NULL, NULL, 0, NULL, pool), OZ_OK);
        int64_t tc = oz_fmt_tiles_c(&f);
        for (int64_t t = 0; t < M * tc; t++) {
            const float *v = w + t / tc * n + t % tc * f.shape.prm_c;
            int len = (int)f.shape.prm_c;
            const float *s = oz_params_get(&p, "scale"), *z = oz_params_get(&p, "zero"), *s0 = oz_params_get(&best, "scale"),
                        *z0 = oz_params_get(&best, "zero");
            double got = error_of(&f, s[t], z ? z[t] : 0, v, len, norm), least = error_of(&f, s0[t], z0 ? z0[t] : 0, v, len, norm);
            bool all = !strcmp(cases[k].zeros, "all");
            if (!all) assert_true(got <= least * 1.00001);
            float lo = INFINITY, hi = -INFINITY;
            for (int j = 0; j < len; j++) lo = fminf(lo, v[j]), hi = fmaxf(hi, v[j]);
            if (strstr(cases[k].format, ".asym")) lo = fminf(lo, 0), hi = fmaxf(hi, 0);
            if (all) {
                least = INFINITY;
                for (int i = 1; i <= 100; i++)
                    for (int zz = 0; zz < 8; zz++)
                        least = fmin(least, error_of(&f, (hi - lo) * (float)i / 700.0f, (float)zz, v, len, norm));
            } else
                for (int i = 0; i < 80; i++) {
                    float c = 1 - (float)i / 100, a, b = 0;
                    f.type->from_range(&f, c * lo, c * hi, &a, &b);
                    least = fmin(least, error_of(&f, a, b, v, len, norm));
                }
            if (got > least * 1.0005) fail_msg("%s tile %lld: %g, brute force %g", cases[k].format, (long long)t, got, least);
        }
        oz_params_drop(&p);
        oz_params_drop(&best);
    }
    /* Weights move the choice: a heavy element is met better. */
    float w[4] = {-0.75f, 0.15f, 0.35f, 1.4f}, heavy[4] = {0, 0, 1, 0};
    oz_fmt f;
    oz_params p;
    bind(&f, &p, "int2.asym@row:f32", 1, 4);
    oz_fit fit = fit_of("lp", (const char *const[][2]){{"zeros", "all"}}, 1);
    assert_int_equal(oz_refit(&f, &p, &fit, oz_mat_of(w, 1, 4), 0, heavy, NULL, NULL, 0, NULL, NULL), OZ_OK);
    assert_true(error_of(&f, oz_params_get(&p, "scale")[0], oz_params_get(&p, "zero")[0], w + 2, 1, 1) < 0.005);
    oz_params_drop(&p);
    fit = fit_of("lp", (const char *const[][2]){{"fit_weights", "hdiag"}}, 1);
    bind(&f, &p, "int2.asym@row:f32", 1, 4);
    assert_int_equal(oz_refit(&f, &p, &fit, oz_mat_of(w, 1, 4), 0, NULL, NULL, NULL, 0, NULL, NULL), OZ_ERR_UNSUPPORTED);
    assert_non_null(strstr(oz_message(), "needs the Hessian"));
    oz_params_drop(&p);
}

/* awq:4 step 4's error is never above that of the whole range, for every row and group. */
static void act_clip(void **state)
{
    enum { T = 64 };
    (void)state;
    float w[M * N], x[T * N];
    uint16_t sample[T * N];
    fill(w, M * N, 3);
    fill(x, T * N, 4);
    for (int j = 0; j < N; j++)
        for (int t = 0; t < T; t++) {
            x[t * N + j] *= j % 10 ? 1 : 10;
            sample[t * N + j] = oz_f32_to_f16(x[t * N + j]);
            x[t * N + j] = oz_f16_to_f32(sample[t * N + j]);
        }
    for (int i = 0; i < M; i++) w[i * N + 3] *= 6, w[i * N + 57] *= 6; /* an outlier on a quiet channel */
    oz_stats st = {.n = N, .tokens = T, .sample = sample, .nsample = T};
    static const char *const formats[] = {"int3.asym@50", "int4@50", "int3.asym@row"};
    int better = 0;
    for (int k = 0; k < 3; k++) {
        oz_fmt f;
        oz_params p, q;
        bind(&f, &p, formats[k], M, N);
        bind(&f, &q, formats[k], M, N);
        oz_fit fit = fit_of("act-clip", NULL, 0), plain = fit_of("minmax", NULL, 0);
        assert_int_equal(fit.type->wants, OZ_WANT_SAMPLE);
        assert_int_equal(oz_refit(&f, &p, &fit, oz_mat_of(w, M, N), 0, NULL, NULL, NULL, 0, &st, pool), OZ_OK);
        assert_int_equal(oz_refit(&f, &q, &plain, oz_mat_of(w, M, N), 0, NULL, NULL, NULL, 0, NULL, pool), OZ_OK);
        int64_t tc = oz_fmt_tiles_c(&f), g = f.shape.prm_c;
        for (int64_t t = 0; t < M * tc; t++) {
            double e[2];
            for (int which = 0; which < 2; which++) {
                const oz_params *a = which ? &q : &p;
                const float *zero = oz_params_get(a, "zero"), *v = w + t / tc * N + t % tc * g;
                float hat[N];
                f.type->encode(&f, oz_params_get(a, "scale")[t], zero ? zero[t] : 0, v, g, NULL, hat);
                e[which] = 0;
                for (int s = 0; s < T; s++) {
                    double d = 0;
                    for (int64_t j = 0; j < g; j++) d += (double)x[s * N + t % tc * g + j] * (hat[j] - v[j]);
                    e[which] += d * d;
                }
            }
            assert_true(e[0] <= e[1] * 1.0001);
            better += e[0] < e[1] * 0.9;
        }
        fit.off = true; /* fit_skip */
        assert_int_equal(oz_refit(&f, &p, &fit, oz_mat_of(w, M, N), 0, NULL, NULL, NULL, 0, NULL, pool), OZ_OK);
        assert_memory_equal(oz_array_data(&p.a[0]), oz_array_data(&q.a[0]), oz_array_bytes(&p.a[0]));
        fit.off = false;
        assert_int_equal(oz_refit(&f, &p, &fit, oz_mat_of(w, M, N), 0, NULL, NULL, NULL, 0, NULL, pool), OZ_ERR_UNSUPPORTED);
        assert_non_null(strstr(oz_message(), "sampled inputs"));
        oz_params_drop(&p);
        oz_params_drop(&q);
    }
    assert_true(better > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(minmax), cmocka_unit_test(lp), cmocka_unit_test(act_clip)};
    return cmocka_run_group_tests(tests, setup, teardown);
}

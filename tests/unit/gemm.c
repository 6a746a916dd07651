/* gemm.c: products against sums in f64, at sizes around the tiles; the same bits for one thread and several.
 * OUNCE_TEST_TIMES=1 prints how the rate of the pool compares with the serial library. */
#include "ounce/tensor.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static float *random_values(int64_t n, const char *name)
{
    float *p = malloc(sizeof(float) * (size_t)n);
    assert_non_null(p);
    oz_rng rng = oz_rng_named(7, name);
    for (int64_t i = 0; i < n; i++) p[i] = (float)oz_rng_normal(rng, (uint64_t)i);
    return p;
}

static void check_product(oz_pool *one, oz_pool *many, int ta, int tb, int64_t m, int64_t k, int64_t n, double alpha, double beta)
{
    int64_t pad = 3;
    oz_mat a = {random_values((ta ? k : m) * ((ta ? m : k) + pad), "a"), ta ? k : m, ta ? m : k, (ta ? m : k) + pad};
    oz_mat b = {random_values((tb ? n : k) * ((tb ? k : n) + pad), "b"), tb ? n : k, tb ? k : n, (tb ? k : n) + pad};
    oz_mat c = {random_values(m * (n + pad), "c"), m, n, n + pad}, c1 = c, c2 = c;
    size_t bytes = sizeof(float) * (size_t)(m * c.ld);
    c1.p = malloc(bytes);
    c2.p = malloc(bytes);
    assert_true(c1.p && c2.p);
    memcpy(c1.p, c.p, bytes);
    memcpy(c2.p, c.p, bytes);
    assert_int_equal(oz_gemm(one, ta, tb, alpha, a, b, beta, c1), OZ_OK);
    assert_int_equal(oz_gemm(many, ta, tb, alpha, a, b, beta, c2), OZ_OK);
    assert_memory_equal(c1.p, c2.p, bytes);
    for (int64_t i = 0; i<m; i += m> 40 ? 13 : 1)
        for (int64_t j = 0; j<n; j += n> 40 ? 11 : 1) {
            double want = 0, size = 0;
            for (int64_t l = 0; l < k; l++) {
                double x = ta ? a.p[l * a.ld + i] : a.p[i * a.ld + l], y = tb ? b.p[j * b.ld + l] : b.p[l * b.ld + j];
                want += x * y;
                size += fabs(x * y);
            }
            want = alpha * want + beta * c.p[i * c.ld + j];
            assert_true(fabs(want - c1.p[i * c.ld + j]) <= 1e-6 * (fabs(alpha) * size + 1));
        }
    for (int64_t i = 0; i + 1 < m; i++) assert_memory_equal(c1.p + i * c.ld + n, c.p + i * c.ld + n, sizeof(float) * (size_t)pad);
    free(a.p);
    free(b.p);
    free(c.p);
    free(c1.p);
    free(c2.p);
}

static void products(void **state)
{
    oz_pool *many = *state;
    static const int64_t size[][3] = {{1, 1, 1}, {3, 5, 7}, {1, 576, 600}, {65, 64, 513}, {300, 100, 700}, {257, 33, 1025}, {7, 0, 5}};
    for (size_t s = 0; s < sizeof size / sizeof *size; s++)
        for (int t = 0; t < 4; t++) {
            check_product(NULL, many, t & 1, t >> 1, size[s][0], size[s][1], size[s][2], 1, 0);
            check_product(NULL, many, t & 1, t >> 1, size[s][0], size[s][1], size[s][2], -0.5, 2);
        }
    oz_mat a = {(float[6]){0}, 2, 3, 3}, c = {(float[4]){0}, 2, 2, 2};
    assert_int_equal(oz_gemm(NULL, 0, 0, 1, a, a, 0, c), OZ_ERR_SHAPE);
    assert_string_equal(oz_message(), "product of [2 x 3] and [2 x 3] into [2 x 2]");
    float old[4] = {NAN, NAN, NAN, NAN};
    oz_mat square = {(float[4]){1, 2, 3, 4}, 2, 2, 2};
    assert_int_equal(oz_gemm(NULL, 0, 0, 1, square, square, 0, oz_mat_of(old, 2, 2)), OZ_OK); /* beta 0 does not read C */
    assert_true(old[0] == 7 && old[3] == 22);
}

static void second_moments(void **state)
{
    oz_pool *many = *state;
    static const int64_t size[][2] = {{1, 1}, {5, 3}, {2049, 70}, {100, 600}};
    for (size_t s = 0; s < sizeof size / sizeof *size; s++) {
        int64_t tokens = size[s][0], n = size[s][1];
        oz_mat x = {random_values(tokens * (n + 1), "x"), tokens, n, n + 1};
        double *h1 = malloc(sizeof(double) * (size_t)(n * n)), *h2 = malloc(sizeof(double) * (size_t)(n * n));
        assert_true(h1 && h2);
        for (int64_t i = 0; i < n * n; i++) h1[i] = h2[i] = 0.25;
        assert_int_equal(oz_syrk_f64(NULL, 2, x, h1, n), OZ_OK);
        assert_int_equal(oz_syrk_f64(many, 2, x, h2, n), OZ_OK);
        assert_memory_equal(h1, h2, sizeof(double) * (size_t)(n * n));
        for (int64_t i = 0; i<n; i += n> 100 ? 37 : 1)
            for (int64_t j = 0; j<n; j += n> 100 ? 23 : 1) {
                double want = 0, mass = 0;
                for (int64_t t = 0; t < tokens; t++) {
                    want += (double)x.p[t * x.ld + i] * x.p[t * x.ld + j];
                    mass += fabs((double)x.p[t * x.ld + i] * x.p[t * x.ld + j]);
                }
                if (j >= i)
                    assert_true(fabs(0.25 + 2 * want - h1[i * n + j]) <= 1e-6 * (mass + 1));
                else
                    assert_true(h1[i * n + j] == 0.25); /* the lower triangle is left alone */
            }
        oz_mirror_upper(h1, n);
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++) assert_true(h1[i * n + j] == h1[j * n + i]);
        free(x.p);
        free(h1);
        free(h2);
    }
    assert_int_equal(oz_syrk_f64(NULL, 1, oz_mat_of((float[2]){0}, 1, 2), (double[9]){0}, 3), OZ_ERR_SHAPE);
}

static double rate(oz_pool *pool, int64_t m, int64_t k, int64_t n)
{
    oz_mat a = oz_mat_of(random_values(m * k, "a"), m, k), b = oz_mat_of(random_values(n * k, "b"), n, k),
           c = oz_mat_of(random_values(m * n, "c"), m, n);
    double best = 1e9;
    for (int r = 0; r < 6; r++) {
        double t = oz_seconds();
        assert_int_equal(oz_gemm(pool, 0, 1, 1, a, b, 0, c), OZ_OK);
        t = oz_seconds() - t;
        if (t < best) best = t;
    }
    free(a.p);
    free(b.p);
    free(c.p);
    return 2e-9 * (double)m * (double)k * (double)n / best;
}

static void times(void **state)
{
    if (!getenv("OUNCE_TEST_TIMES")) skip();
    static const int64_t size[][3] = {{1, 576, 576},    {1, 576, 1536},    {512, 576, 576},   {512, 576, 1536},
                                      {512, 1536, 576}, {2048, 576, 1536}, {512, 2048, 5632}, {512, 576, 49152}};
    for (size_t s = 0; s < sizeof size / sizeof *size; s++)
        printf("%5d x %5d x %5d: %7.1f GFLOP/s on one thread, %7.1f on %d\n", (int)size[s][0], (int)size[s][1], (int)size[s][2],
               rate(NULL, size[s][0], size[s][1], size[s][2]), rate(*state, size[s][0], size[s][1], size[s][2]), oz_pool_threads(*state));
    for (int64_t n = 576; n <= 1536; n += 960) {
        oz_mat x = oz_mat_of(random_values(2048 * n, "x"), 2048, n);
        double *h = calloc((size_t)(n * n), sizeof *h), t[2];
        for (int p = 0; p < 2; p++) {
            t[p] = 1e9;
            for (int r = 0; r < 4; r++) {
                double t0 = oz_seconds();
                assert_int_equal(oz_syrk_f64(p ? *state : NULL, 1, x, h, n), OZ_OK);
                t0 = oz_seconds() - t0;
                if (t0 < t[p]) t[p] = t0;
            }
        }
        printf("moments of 2048 x %d: %7.1f GFLOP/s on one thread, %7.1f on %d (n^2 products counted)\n", (int)n,
               2e-9 * 1024 * (double)(n * n) / t[0], 2e-9 * 1024 * (double)(n * n) / t[1], oz_pool_threads(*state));
        free(h);
        free(x.p);
    }
}

static int begin(void **state) { return (int)oz_pool_new((oz_pool **)state, getenv("OUNCE_TEST_TIMES") ? 0 : 3); }
static int end(void **state)
{
    oz_pool_free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(products), cmocka_unit_test(second_moments), cmocka_unit_test(times)};
    return cmocka_run_group_tests(tests, begin, end);
}

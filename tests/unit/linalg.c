/* linalg.c: R Rᵀ = H and U = R^-1 at sizes around the blocks, the same bits for one thread and several; orthogonal factors. */
#include "ounce/tensor.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static double *zeros(int64_t n)
{
    double *p = calloc((size_t)n, sizeof *p);
    assert_non_null(p);
    return p;
}

static void hand_example(void **state)
{
    (void)state;
    /* R = (2 1; 0 3): R Rᵀ = (5 3; 3 9) */
    double h[4] = {5, 3, -99, 9}, u[4];
    assert_int_equal(oz_chol_upper_inv(NULL, h, 2, h, u), OZ_OK);
    assert_true(fabs(h[0] - 2) < 1e-15 && fabs(h[1] - 1) < 1e-15 && h[2] == 0 && fabs(h[3] - 3) < 1e-15);
    assert_true(fabs(u[0] - 0.5) < 1e-15 && fabs(u[1] + 1. / 6) < 1e-15 && u[2] == 0 && fabs(u[3] - 1. / 3) < 1e-15);
}

static void factor_and_inverse(void **state)
{
    oz_pool *many = *state;
    static const int64_t size[] = {1, 2, 63, 64, 65, 129, 300, 576};
    for (size_t s = 0; s < sizeof size / sizeof *size; s++) {
        int64_t n = size[s];
        double *x = zeros(n * (n + 5)), *h = zeros(n * n), *r1 = zeros(n * n), *u1 = zeros(n * n), *r2 = zeros(n * n), *u2 = zeros(n * n);
        oz_rng rng = oz_rng_named(3, "linalg");
        for (int64_t i = 0; i < n * (n + 5); i++) x[i] = oz_rng_normal(rng, (uint64_t)i);
        for (int64_t t = 0; t < n + 5; t++)
            for (int64_t i = 0; i < n; i++)
                for (int64_t j = i; j < n; j++) h[i * n + j] += x[t * n + i] * x[t * n + j];
        for (int64_t i = 0; i < n; i++) h[i * n + i] += 0.1 * (double)n;
        assert_int_equal(oz_chol_upper_inv(NULL, h, n, r1, u1), OZ_OK);
        memcpy(r2, h, sizeof(double) * (size_t)(n * n));
        assert_int_equal(oz_chol_upper_inv(many, r2, n, r2, u2), OZ_OK);
        assert_memory_equal(r1, r2, sizeof(double) * (size_t)(n * n));
        assert_memory_equal(u1, u2, sizeof(double) * (size_t)(n * n));
        double worst = 0, worst_u = 0;
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = i; j < n; j++) {
                double a = 0, b = 0;
                for (int64_t k = j; k < n; k++) a += r1[i * n + k] * r1[j * n + k];
                for (int64_t k = i; k <= j; k++) b += r1[i * n + k] * u1[k * n + j];
                worst = fmax(worst, fabs(a - h[i * n + j]) / (double)(n + 5));
                worst_u = fmax(worst_u, fabs(b - (i == j)));
                if (i != j) assert_true(r1[j * n + i] == 0 && u1[j * n + i] == 0);
            }
        assert_true(worst < 1e-13);
        assert_true(worst_u < 1e-12);
        for (int64_t i = 0; i < n; i++) assert_true(r1[i * n + i] > 0);
        free(x);
        free(h);
        free(r1);
        free(u1);
        free(r2);
        free(u2);
    }
}

static void refuses_what_is_not_positive(void **state)
{
    (void)state;
    double h[9] = {1, 2, 0, 0, 1, 0, 0, 0, 1}, r[9], u[9];
    assert_int_equal(oz_chol_upper_inv(NULL, h, 3, r, u), OZ_ERR_NUMERIC);
    assert_string_equal(oz_message(), "matrix of second moments [3 x 3] is not positive definite (input 0)");
    h[8] = NAN;
    assert_int_equal(oz_chol_upper_inv(NULL, h, 3, r, u), OZ_ERR_NUMERIC);
    assert_int_equal(oz_chol_upper_inv(NULL, h, 0, r, u), OZ_ERR_SHAPE);
}

static void orthogonal_factor(void **state)
{
    (void)state;
    static const int64_t size[] = {1, 2, 9, 64, 130};
    for (size_t s = 0; s < sizeof size / sizeof *size; s++) {
        int64_t n = size[s];
        double *a = zeros(n * n), *keep = zeros(n * n), *q = zeros(n * n);
        for (int64_t i = 0; i < n * n; i++) a[i] = keep[i] = oz_rng_normal(oz_rng_named(5, "qr"), (uint64_t)i);
        assert_int_equal(oz_qr_orthogonal(a, n, q), OZ_OK);
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++) {
                double qq = 0, r = 0;
                for (int64_t k = 0; k < n; k++) {
                    qq += q[k * n + i] * q[k * n + j];
                    r += q[k * n + i] * keep[k * n + j];
                }
                assert_true(fabs(qq - (i == j)) < 1e-12);
                if (j < i) assert_true(fabs(r) < 1e-11); /* R is upper triangular ... */
                if (j == i) assert_true(r > 0);          /* ... with a positive diagonal */
            }
        free(a);
        free(keep);
        free(q);
    }
    assert_int_equal(oz_qr_orthogonal(NULL, 0, NULL), OZ_ERR_SHAPE);
}

static void failing_allocations(void **state)
{
    (void)state;
#ifdef OUNCE_FAULTS
    for (int nth = 1, done = 0; !done; nth++) {
        double a[9] = {4, 1, 0, 0, 3, 1, 0, 0, 2}, q[9];
        oz_array one = {0}, two = {0};
        oz_fault_alloc(nth);
        oz_status s = oz_qr_orthogonal(a, 3, q);
        if (!s) s = oz_array_new(&one, "one", OZ_F64, 2, (int64_t[]){3, 3});
        if (!s) s = oz_array_copy(&two, &one);
        if (!s) s = oz_syrk_f64(NULL, 1, oz_mat_of((float[6]){1, 2, 3, 4, 5, 6}, 2, 3), oz_array_data(&two), 3);
        oz_fault_alloc(0);
        done = !s;
        if (s) assert_int_equal(s, OZ_ERR_NOMEM);
        assert_true(done ? nth > 7 : nth < 100);
        oz_array_drop(&one);
        oz_array_drop(&two);
    }
#else
    skip();
#endif
}

static int begin(void **state) { return (int)oz_pool_new((oz_pool **)state, 3); }
static int end(void **state)
{
    oz_pool_free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(hand_example), cmocka_unit_test(factor_and_inverse),
                                       cmocka_unit_test(refuses_what_is_not_positive), cmocka_unit_test(orthogonal_factor),
                                       cmocka_unit_test(failing_allocations)};
    return cmocka_run_group_tests(tests, begin, end);
}

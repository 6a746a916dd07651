/* nn.c: the network operations against their formulas in f64. */
#include "ounce/tensor.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void fill(float *x, int64_t n, double scale)
{
    for (int64_t i = 0; i < n; i++) x[i] = (float)(scale * oz_rng_normal(oz_rng_named(11, "nn"), (uint64_t)i));
}

static void near(double got, double want, double relative, double absolute)
{
    assert_true(fabs(got - want) <= relative * fabs(want) + absolute);
}

static void norms(void **state)
{
    (void)state;
    for (int64_t d = 1; d < 700; d = d * 2 + 3) {
        float x[700], gain[700], bias[700], y[700];
        fill(x, d, 3);
        for (int64_t i = 0; i < d; i++) gain[i] = 1 + 0.01f * (float)i, bias[i] = 0.5f - 0.001f * (float)i, x[i] += 0.7f;
        double ss = 0, sum = 0, var = 0;
        for (int64_t i = 0; i < d; i++) ss += (double)x[i] * x[i], sum += x[i];
        for (int64_t i = 0; i < d; i++) var += (x[i] - sum / (double)d) * (x[i] - sum / (double)d);
        oz_nn_rmsnorm(x, gain, 1, 1e-5f, d, y);
        for (int64_t i = 0; i < d; i++) near(y[i], x[i] / sqrt(ss / (double)d + (double)1e-5f) * (gain[i] + 1.0), 3e-7, 1e-12);
        oz_nn_layernorm(x, gain, bias, 1e-5f, d, y);
        for (int64_t i = 0; i < d; i++)
            near(y[i], (x[i] - sum / (double)d) / sqrt(var / (double)d + (double)1e-5f) * gain[i] + bias[i], 3e-7, 1e-6);
        memcpy(y, x, sizeof x);
        oz_nn_rmsnorm(y, NULL, 5, 1e-5f, d, y); /* in place, gain of ones */
        for (int64_t i = 0; i < d; i++) near(y[i], x[i] / sqrt(ss / (double)d + (double)1e-5f), 3e-7, 1e-12);
    }
}

static void rope_turns_pairs(void **state)
{
    (void)state;
    float cs[4] = {(float)cos(0.3), (float)cos(1.1), (float)sin(0.3), (float)sin(1.1)};
    float a[6] = {1, 2, 3, 4, 9, 9}, b[6] = {1, 2, 3, 4, 9, 9};
    oz_nn_rope(a, 4, cs, true); /* pairs (0,2), (1,3) */
    near(a[0], cos(0.3) - 3 * sin(0.3), 1e-6, 0);
    near(a[2], sin(0.3) + 3 * cos(0.3), 1e-6, 0);
    near(a[3], 2 * sin(1.1) + 4 * cos(1.1), 1e-6, 0);
    oz_nn_rope(b, 4, cs, false); /* pairs (0,1), (2,3) */
    near(b[0], cos(0.3) - 2 * sin(0.3), 1e-6, 0);
    near(b[3], 3 * sin(1.1) + 4 * cos(1.1), 1e-6, 0);
    assert_true(a[4] == 9 && b[5] == 9);
}

static void softmax_and_logsumexp(void **state)
{
    (void)state;
    static float x[50000], y[50000];
    for (int64_t n = 1; n <= 50000; n = n * 5 + 2) {
        fill(x, n, 4);
        memcpy(y, x, sizeof(float) * (size_t)n);
        double most = -INFINITY, sum = 0, total = 0;
        for (int64_t i = 0; i < n; i++) most = fmax(most, x[i]);
        for (int64_t i = 0; i < n; i++) sum += exp(x[i] - most);
        near(oz_nn_logsumexp(x, n), most + log(sum), 1e-14, 1e-13);
        oz_nn_softmax(y, n);
        for (int64_t i = 0; i < n; i++) near(y[i], exp(x[i] - most) / sum, 2e-6, 1e-38), total += y[i];
        near(total, 1, 1e-6, 0);
    }
    float masked[3] = {-INFINITY, 1, 1}, none[2] = {-INFINITY, -INFINITY};
    oz_nn_softmax(masked, 3);
    assert_true(masked[0] == 0 && masked[1] == 0.5f);
    near(oz_nn_logsumexp((float[3]){-INFINITY, 1, 1}, 3), 1 + log(2), 1e-15, 0);
    oz_nn_softmax(none, 2);
    assert_true(none[0] == 0);
    assert_true(oz_nn_logsumexp((float[2]){-INFINITY, -INFINITY}, 2) == -INFINITY);
}

static double formula(oz_act_fn f, double x)
{
    switch (f) {
    case OZ_ACT_SILU:
        return x / (1 + exp(-x));
    case OZ_ACT_GELU_TANH:
        return 0.5 * x * (1 + tanh(sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x)));
    case OZ_ACT_GELU:
        return 0.5 * x * erfc(-x / sqrt(2));
    case OZ_ACT_RELU:
        return x > 0 ? x : 0;
    case OZ_ACT_RELU2:
        return x > 0 ? x * x : 0;
    case OZ_ACT_QUICK_GELU:
        return x / (1 + exp(-1.702 * x));
    }
    return 0;
}

static void activations(void **state)
{
    (void)state;
    static float x[4001], y[4001], z[4001];
    for (int f = OZ_ACT_SILU; f <= OZ_ACT_QUICK_GELU; f++) {
        for (int i = 0; i <= 4000; i++) x[i] = y[i] = (float)(i - 2000) * (i % 3 ? 0.004f : 0.05f), z[i] = 1.5f;
        oz_nn_act((oz_act_fn)f, y, 4001);
        for (int i = 0; i <= 4000; i++) near(y[i], formula((oz_act_fn)f, x[i]), 1e-6, 3e-7);
        oz_nn_glu((oz_act_fn)f, x, z, x, 4001); /* the result over the gate */
        for (int i = 0; i <= 4000; i++) assert_true(x[i] == y[i] * 1.5f);
    }
    float ends[2] = {-1e30f, 1e30f};
    oz_nn_act(OZ_ACT_SILU, ends, 2);
    assert_true(fabsf(ends[0]) < 1e-6f && ends[1] == 1e30f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(norms), cmocka_unit_test(rope_turns_pairs), cmocka_unit_test(softmax_and_logsumexp),
                                       cmocka_unit_test(activations)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

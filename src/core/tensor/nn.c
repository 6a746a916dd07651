/* nn.c: the small operations of a network between its products, f32, one definition of each.  Sums run in f64 over eight fixed
 * lanes, so a result depends on the values alone.  exp is a polynomial here (below 2 units in the last place) because a loop over
 * libm's cannot become vector code: with GELU, SiLU and softmax it is the larger part of the time outside products. */
#include "ounce/tensor.h"

#include <math.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

/* e^x for x in [-87, 88]; outside it is held at the ends (1e-38, 1.6e38). */
INLINE float exp_f32(float x)
{
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float t = x * 1.44269504f + 12582912.0f; /* 1.5 * 2^23: the integer part lands in the low bits */
    float n = t - 12582912.0f;
    float r = (x - n * 0.693359375f) + n * 2.12194440e-4f; /* ln 2 in two pieces */
    float p = 1.98412698e-4f;                              /* Taylor to degree 7: |r| <= 0.3466, error 3e-9 */
    p = p * r + 1.38888889e-3f;
    p = p * r + 8.33333333e-3f;
    p = p * r + 4.16666667e-2f;
    p = p * r + 0.166666667f;
    p = p * r + 0.5f;
    p = (p * r) * r + r + 1.0f;
    uint32_t u, two_n;
    memcpy(&u, &t, 4);
    two_n = (u - 0x4b400000u + 127u) << 23;
    float s;
    memcpy(&s, &two_n, 4);
    return p * s;
}

/* e^x for x in [-700, 0], f64, error below 1e-14 relative. */
INLINE double exp_f64(double x)
{
    x = x < -700.0 ? -700.0 : x;
    double t = x * 1.4426950408889634 + 6755399441055744.0; /* 1.5 * 2^52 */
    double n = t - 6755399441055744.0;
    double r = (x - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10;
    static const double c[] = {1. / 479001600, 1. / 39916800, 1. / 3628800, 1. / 362880, 1. / 40320, 1. / 5040, 1. / 720,
                               1. / 120,       1. / 24,       1. / 6,       0.5,         1,          1};
    double p = c[0];
    for (int i = 1; i < 13; i++) p = p * r + c[i];
    uint64_t u, two_n;
    memcpy(&u, &t, 8);
    two_n = (u - 0x4338000000000000u + 1023u) << 52;
    double s;
    memcpy(&s, &two_n, 8);
    return p * s;
}

static double sum_of_lanes(const double *lane)
{
    return ((lane[0] + lane[4]) + (lane[1] + lane[5])) + ((lane[2] + lane[6]) + (lane[3] + lane[7]));
}

void oz_nn_rmsnorm(const float *x, const float *gain, float gain_offset, float eps, int64_t d, float *y)
{
    double lane[8] = {0};
    int64_t i = 0;
    for (; i + 8 <= d; i += 8)
        for (int l = 0; l < 8; l++) lane[l] += (double)x[i + l] * x[i + l];
    for (int l = 0; i < d; i++, l++) lane[l] += (double)x[i] * x[i];
    float f = (float)(1 / sqrt(sum_of_lanes(lane) / (double)d + (double)eps));
    if (gain)
        for (i = 0; i < d; i++) y[i] = x[i] * f * (gain[i] + gain_offset);
    else
        for (i = 0; i < d; i++) y[i] = x[i] * f;
}

void oz_nn_layernorm(const float *x, const float *gain, const float *bias, float eps, int64_t d, float *y)
{
    double sum[8] = {0}, dev[8] = {0};
    int64_t i = 0;
    for (; i + 8 <= d; i += 8)
        for (int l = 0; l < 8; l++) sum[l] += x[i + l];
    for (int l = 0; i < d; i++, l++) sum[l] += x[i];
    double mean = sum_of_lanes(sum) / (double)d;
    for (i = 0; i + 8 <= d; i += 8)
        for (int l = 0; l < 8; l++) dev[l] += (x[i + l] - mean) * (x[i + l] - mean);
    for (int l = 0; i < d; i++, l++) dev[l] += (x[i] - mean) * (x[i] - mean);
    double f = 1 / sqrt(sum_of_lanes(dev) / (double)d + (double)eps);
    for (i = 0; i < d; i++) {
        float v = (float)((x[i] - mean) * f);
        if (gain) v *= gain[i];
        y[i] = bias ? v + bias[i] : v;
    }
}

void oz_nn_rope(float *head, int64_t n, const float *cs, bool neox)
{
    int64_t half = n / 2, a_step = neox ? 1 : 2, b_at = neox ? half : 1;
    const float *c = cs, *s = cs + half;
    for (int64_t i = 0; i < half; i++) {
        float *a = head + i * a_step, *b = a + b_at, x = *a, y = *b;
        *a = x * c[i] - y * s[i];
        *b = x * s[i] + y * c[i];
    }
}

static float largest(const float *x, int64_t n)
{
    float lane[8], most;
    int64_t i = 0;
    for (int l = 0; l < 8; l++) lane[l] = -INFINITY;
    for (; i + 8 <= n; i += 8)
        for (int l = 0; l < 8; l++) lane[l] = x[i + l] > lane[l] ? x[i + l] : lane[l];
    for (; i < n; i++) lane[0] = x[i] > lane[0] ? x[i] : lane[0];
    most = lane[0];
    for (int l = 1; l < 8; l++) most = lane[l] > most ? lane[l] : most;
    return most;
}

void oz_nn_softmax(float *x, int64_t n)
{
    double lane[8] = {0};
    float most = largest(x, n);
    if (most == -INFINITY) most = 0; /* everything masked: zeros below */
    for (int64_t i = 0; i < n; i++) x[i] = x[i] - most < -87.0f ? 0 : exp_f32(x[i] - most);
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int l = 0; l < 8; l++) lane[l] += x[i + l];
    for (int l = 0; i < n; i++, l++) lane[l] += x[i];
    double sum = sum_of_lanes(lane);
    float f = sum > 0 ? (float)(1 / sum) : 0;
    for (i = 0; i < n; i++) x[i] *= f;
}

/* x sigmoid(k x).  GELU with tanh is this too: (1 + tanh u) / 2 = sigmoid(2 u). */
INLINE float times_sigmoid(float x, float u) { return x / (1.0f + exp_f32(-u)); }

void oz_nn_act(oz_act_fn f, float *x, int64_t n)
{
    int64_t i;
    switch (f) {
    case OZ_ACT_SILU:
        for (i = 0; i < n; i++) x[i] = times_sigmoid(x[i], x[i]);
        break;
    case OZ_ACT_GELU_TANH:
        for (i = 0; i < n; i++) x[i] = times_sigmoid(x[i], 1.5957691216f * (x[i] + 0.044715f * x[i] * x[i] * x[i]));
        break;
    case OZ_ACT_GELU:
        for (i = 0; i < n; i++) x[i] = 0.5f * x[i] * (1.0f + erff(x[i] * 0.70710678f));
        break;
    case OZ_ACT_RELU:
        for (i = 0; i < n; i++) x[i] = x[i] > 0 ? x[i] : 0;
        break;
    case OZ_ACT_RELU2:
        for (i = 0; i < n; i++) x[i] = x[i] > 0 ? x[i] * x[i] : 0;
        break;
    case OZ_ACT_QUICK_GELU:
        for (i = 0; i < n; i++) x[i] = times_sigmoid(x[i], 1.702f * x[i]);
        break;
    }
}

void oz_nn_glu(oz_act_fn f, const float *gate, const float *up, float *y, int64_t n)
{
    enum { B = 256 }; /* y may be gate or up: the gate's values are made aside */
    float g[B];
    for (int64_t i = 0; i < n; i += B) {
        int64_t b = n - i < B ? n - i : B;
        memcpy(g, gate + i, sizeof(float) * (size_t)b);
        oz_nn_act(f, g, b);
        for (int64_t j = 0; j < b; j++) y[i + j] = g[j] * up[i + j];
    }
}

double oz_nn_logsumexp(const float *x, int64_t n)
{
    double lane[8] = {0}, most = (double)largest(x, n);
    if (!isfinite(most)) return most;
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int l = 0; l < 8; l++) lane[l] += exp_f64(x[i + l] - most);
    for (int l = 0; i < n; i++, l++) lane[l] += exp_f64(x[i] - most);
    return most + log(sum_of_lanes(lane));
}

/* convert.c: whole arrays to and from f32.  Floating types round to nearest even; integers saturate and NaN becomes 0.
 *
 * The four loops that read models (f16 and bf16, both ways) are compiled twice on x86, once for AVX2; the code is the same, the
 * results are the same bits, only the vector length differs.  This is the one place of the core that asks for the instruction set. */
#include "core/tensor/dtype_inline.h"

#include <math.h>

/* Elements of any alignment. */
#define LOAD(T, p, i)     ((const struct T##_at *)(p))[i].v
#define STORE(T, p, i, x) ((struct T##_at *)(p))[i].v = (x)
#define AT(T)                                                                                                                              \
    struct T##_at {                                                                                                                        \
        T v;                                                                                                                               \
    } __attribute__((packed, may_alias))
AT(uint16_t);
AT(uint32_t);
AT(uint64_t);
AT(int16_t);
AT(int32_t);
AT(int64_t);
AT(float);
AT(double);

#define INLINE static inline __attribute__((always_inline))
INLINE void f16_loop(const void *src, float *dst, int64_t n)
{
    for (int64_t i = 0; i < n; i++) STORE(float, dst, i, f16_to_f32(LOAD(uint16_t, src, i)));
}
INLINE void bf16_loop(const void *src, float *dst, int64_t n)
{
    for (int64_t i = 0; i < n; i++) STORE(float, dst, i, bf16_to_f32(LOAD(uint16_t, src, i)));
}
INLINE void to_f16_loop(const float *src, void *dst, int64_t n)
{
    for (int64_t i = 0; i < n; i++) STORE(uint16_t, dst, i, f32_to_f16(LOAD(float, src, i)));
}
INLINE void to_bf16_loop(const float *src, void *dst, int64_t n)
{
    for (int64_t i = 0; i < n; i++) STORE(uint16_t, dst, i, f32_to_bf16(LOAD(float, src, i)));
}

#if defined(__x86_64__)
#define WIDE __attribute__((target("avx2"))) static
WIDE void f16_wide(const void *src, float *dst, int64_t n) { f16_loop(src, dst, n); }
WIDE void bf16_wide(const void *src, float *dst, int64_t n) { bf16_loop(src, dst, n); }
WIDE void to_f16_wide(const float *src, void *dst, int64_t n) { to_f16_loop(src, dst, n); }
WIDE void to_bf16_wide(const float *src, void *dst, int64_t n) { to_bf16_loop(src, dst, n); }
#define EITHER(name, src, dst, n)                                                                                                          \
    do {                                                                                                                                   \
        if (__builtin_cpu_supports("avx2"))                                                                                                \
            name##_wide(src, dst, n);                                                                                                      \
        else                                                                                                                               \
            name##_loop(src, dst, n);                                                                                                      \
    } while (0)
#else
#define EITHER(name, src, dst, n) name##_loop(src, dst, n)
#endif

void oz_to_f32(oz_dtype t, const void *src, float *dst, int64_t n)
{
    const uint8_t *b = src;
    int64_t i;
    switch (t) {
    case OZ_F32:
        if (n > 0 && src != (const void *)dst) memmove(dst, src, (size_t)n * 4);
        break;
    case OZ_F16:
        EITHER(f16, src, dst, n);
        break;
    case OZ_BF16:
        EITHER(bf16, src, dst, n);
        break;
    case OZ_F64:
        for (i = 0; i < n; i++) STORE(float, dst, i, (float)LOAD(double, src, i));
        break;
    case OZ_E4M3:
        for (i = 0; i < n; i++) STORE(float, dst, i, e4m3_to_f32(b[i]));
        break;
    case OZ_E5M2:
        for (i = 0; i < n; i++) STORE(float, dst, i, f16_to_f32((uint16_t)(b[i] << 8)));
        break;
    case OZ_E8M0:
        for (i = 0; i < n; i++) STORE(float, dst, i, oz_e8m0_to_f32(b[i]));
        break;
    case OZ_U8:
        for (i = 0; i < n; i++) STORE(float, dst, i, b[i]);
        break;
    case OZ_I8:
        for (i = 0; i < n; i++) STORE(float, dst, i, ((const int8_t *)src)[i]);
        break;
    case OZ_U16:
        for (i = 0; i < n; i++) STORE(float, dst, i, LOAD(uint16_t, src, i));
        break;
    case OZ_I16:
        for (i = 0; i < n; i++) STORE(float, dst, i, LOAD(int16_t, src, i));
        break;
    case OZ_U32:
        for (i = 0; i < n; i++) STORE(float, dst, i, (float)LOAD(uint32_t, src, i));
        break;
    case OZ_I32:
        for (i = 0; i < n; i++) STORE(float, dst, i, (float)LOAD(int32_t, src, i));
        break;
    case OZ_U64:
        for (i = 0; i < n; i++) STORE(float, dst, i, (float)LOAD(uint64_t, src, i));
        break;
    case OZ_I64:
        for (i = 0; i < n; i++) STORE(float, dst, i, (float)LOAD(int64_t, src, i));
        break;
    case OZ_BOOL:
        for (i = 0; i < n; i++) STORE(float, dst, i, b[i] ? 1.0f : 0.0f);
        break;
    case OZ_DTYPE_COUNT:
        break;
    }
}

/* x rounded to an integer within [lo, hi]; NaN gives 0.  lo and hi are exact in f64. */
static double to_integer(float x, double lo, double hi)
{
    double r = nearbyint((double)x);
    if (isnan(r)) return 0;
    return r < lo ? lo : r > hi ? hi : r;
}

void oz_from_f32(oz_dtype t, const float *src, void *dst, int64_t n)
{
    uint8_t *b = dst;
    int64_t i;
#define X LOAD(float, src, i)
    switch (t) {
    case OZ_F32:
        if (n > 0 && dst != (const void *)src) memmove(dst, src, (size_t)n * 4);
        break;
    case OZ_F16:
        EITHER(to_f16, src, dst, n);
        break;
    case OZ_BF16:
        EITHER(to_bf16, src, dst, n);
        break;
    case OZ_F64:
        for (i = 0; i < n; i++) STORE(double, dst, i, X);
        break;
    case OZ_E4M3:
        for (i = 0; i < n; i++) b[i] = f32_to_e4m3(X);
        break;
    case OZ_E5M2:
        for (i = 0; i < n; i++) b[i] = f32_to_e5m2(X);
        break;
    case OZ_E8M0:
        for (i = 0; i < n; i++) b[i] = oz_f32_to_e8m0(X);
        break;
    case OZ_U8:
        for (i = 0; i < n; i++) b[i] = (uint8_t)to_integer(X, 0, UINT8_MAX);
        break;
    case OZ_I8:
        for (i = 0; i < n; i++) ((int8_t *)dst)[i] = (int8_t)to_integer(X, INT8_MIN, INT8_MAX);
        break;
    case OZ_U16:
        for (i = 0; i < n; i++) STORE(uint16_t, dst, i, (uint16_t)to_integer(X, 0, UINT16_MAX));
        break;
    case OZ_I16:
        for (i = 0; i < n; i++) STORE(int16_t, dst, i, (int16_t)to_integer(X, INT16_MIN, INT16_MAX));
        break;
    case OZ_U32:
        for (i = 0; i < n; i++) STORE(uint32_t, dst, i, (uint32_t)to_integer(X, 0, UINT32_MAX));
        break;
    case OZ_I32:
        for (i = 0; i < n; i++) STORE(int32_t, dst, i, (int32_t)to_integer(X, INT32_MIN, INT32_MAX));
        break;
    case OZ_U64: /* the largest f64 below 2^64 is not UINT64_MAX: saturation is its own case */
        for (i = 0; i < n; i++) STORE(uint64_t, dst, i, X >= 0x1p64f ? UINT64_MAX : (uint64_t)to_integer(X, 0, 0x1.fffffffffffffp63));
        break;
    case OZ_I64:
        for (i = 0; i < n; i++) STORE(int64_t, dst, i, X >= 0x1p63f ? INT64_MAX : (int64_t)to_integer(X, -0x1p63, 0x1.fffffffffffffp62));
        break;
    case OZ_BOOL:
        for (i = 0; i < n; i++) b[i] = X != 0;
        break;
    case OZ_DTYPE_COUNT:
        break;
    }
#undef X
}

float oz_round_to(oz_dtype t, float x)
{
    uint64_t stored = 0;
    oz_from_f32(t, &x, &stored, 1);
    oz_to_f32(t, &stored, &x, 1);
    return x;
}

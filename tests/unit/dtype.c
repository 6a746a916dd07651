/* dtype.c: every code of the small types against its definition in f64; rounding at every boundary; bulk loops equal single values. */
#include "ounce/tensor.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* The definition: sign, `e` exponent bits, `m` mantissa bits, IEEE rules; specials decided by the caller. */
static double defined(uint32_t code, int e, int m)
{
    int bias = (1 << (e - 1)) - 1, exponent = (int)(code >> m) & ((1 << e) - 1);
    double frac = (double)(code & ((1u << m) - 1)) / (1 << m), sign = code >> (e + m) & 1 ? -1 : 1;
    return sign * (exponent ? ldexp(1 + frac, exponent - bias) : ldexp(frac, 1 - bias));
}

static uint32_t bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, 4);
    return u;
}

static void check_value(float got, double want, int is_nan)
{
    if (is_nan)
        assert_true(isnan(got));
    else {
        assert_true((double)got == want);
        assert_int_equal(signbit(got) != 0, signbit(want) != 0);
    }
}

static void every_code_decodes(void **state)
{
    (void)state;
    for (uint32_t c = 0; c < 65536; c++) {
        int special = (c & 0x7c00) == 0x7c00;
        check_value(oz_f16_to_f32((uint16_t)c), special ? (c & 0x8000 ? -INFINITY : INFINITY) : defined(c, 5, 10), special && (c & 0x3ff));
        float x;
        uint32_t u = c << 16;
        memcpy(&x, &u, 4);
        assert_int_equal(bits(oz_bf16_to_f32((uint16_t)c)), u);
        if (!isnan(oz_f16_to_f32((uint16_t)c)))
            assert_int_equal(oz_f32_to_f16(oz_f16_to_f32((uint16_t)c)), c);
        else
            assert_true(isnan(oz_f16_to_f32(oz_f32_to_f16(oz_f16_to_f32((uint16_t)c)))));
        if (!isnan(x))
            assert_int_equal(oz_f32_to_bf16(x), c);
        else
            assert_true(isnan(oz_bf16_to_f32(oz_f32_to_bf16(x))));
    }
    for (uint32_t c = 0; c < 256; c++) {
        check_value(oz_e4m3_to_f32((uint8_t)c), defined(c, 4, 3), (c & 0x7f) == 0x7f);
        int special = (c & 0x7c) == 0x7c;
        check_value(oz_e5m2_to_f32((uint8_t)c), special ? (c & 0x80 ? -INFINITY : INFINITY) : defined(c, 5, 2), special && (c & 3));
        check_value(oz_e8m0_to_f32((uint8_t)c), ldexp(1, (int)c - 127), c == 255);
        if ((c & 0x7f) != 0x7f) assert_int_equal(oz_f32_to_e4m3(oz_e4m3_to_f32((uint8_t)c)), c);
        if (!special || !(c & 3)) assert_int_equal(oz_f32_to_e5m2(oz_e5m2_to_f32((uint8_t)c)), c);
        assert_int_equal(oz_f32_to_e8m0(oz_e8m0_to_f32((uint8_t)c)), c);
    }
}

/* Around the middle of every two neighbouring codes: below goes down, above up, the middle to the even one. */
static void middles_round_to_even(void **state)
{
    (void)state;
    for (uint32_t c = 0; c < 0x7bff; c++) {
        float middle = (float)((defined(c, 5, 10) + defined(c + 1, 5, 10)) / 2);
        assert_int_equal(oz_f32_to_f16(middle), c + (c & 1));
        assert_int_equal(oz_f32_to_f16(nextafterf(middle, 0)), c);
        assert_int_equal(oz_f32_to_f16(nextafterf(middle, INFINITY)), c + 1);
        assert_int_equal(oz_f32_to_f16(-middle), 0x8000 | (c + (c & 1)));
    }
    for (uint32_t c = 0; c < 0x7e; c++) {
        float middle = (float)((defined(c, 4, 3) + defined(c + 1, 4, 3)) / 2);
        assert_int_equal(oz_f32_to_e4m3(middle), c + (c & 1));
        assert_int_equal(oz_f32_to_e4m3(nextafterf(middle, 0)), c);
        assert_int_equal(oz_f32_to_e4m3(nextafterf(middle, INFINITY)), c + 1);
        assert_int_equal(oz_f32_to_e4m3(-middle), 0x80 | (c + (c & 1)));
    }
    for (uint32_t c = 0; c < 0x7b; c++) {
        float middle = (float)((defined(c, 5, 2) + defined(c + 1, 5, 2)) / 2);
        assert_int_equal(oz_f32_to_e5m2(middle), c + (c & 1));
        assert_int_equal(oz_f32_to_e5m2(nextafterf(middle, 0)), c);
        assert_int_equal(oz_f32_to_e5m2(nextafterf(middle, INFINITY)), c + 1);
    }
    for (uint32_t c = 0; c < 0x7f7f; c += 3) {
        float middle;
        uint32_t u = c << 16 | 0x8000;
        memcpy(&middle, &u, 4);
        assert_int_equal(oz_f32_to_bf16(middle), c + (c & 1));
    }
    for (int c = 0; c < 254; c++) {
        float middle = (float)(0.75 * ldexp(1, c - 126));
        assert_int_equal(oz_f32_to_e8m0(middle), c + (c & 1));
        assert_int_equal(oz_f32_to_e8m0(nextafterf(middle, 0)), c);
        assert_int_equal(oz_f32_to_e8m0(nextafterf(middle, INFINITY)), c + 1);
    }
}

static void ends_of_the_ranges(void **state)
{
    (void)state;
    assert_int_equal(oz_f32_to_f16(65519.996f), 0x7bff);
    assert_int_equal(oz_f32_to_f16(65520), 0x7c00);
    assert_int_equal(oz_f32_to_f16(-3e38f), 0xfc00);
    assert_int_equal(oz_f32_to_f16(INFINITY), 0x7c00);
    assert_true(isnan(oz_f16_to_f32(oz_f32_to_f16(NAN))));
    assert_int_equal(oz_f32_to_e4m3(1e30f), 0x7e);
    assert_int_equal(oz_f32_to_e4m3(-INFINITY), 0xfe);
    assert_int_equal(oz_f32_to_e4m3(NAN) & 0x7f, 0x7f);
    assert_int_equal(oz_f32_to_e5m2(61440), 0x7c);
    assert_int_equal(oz_f32_to_e5m2(INFINITY), 0x7c);
    assert_int_equal(oz_f32_to_bf16(INFINITY), 0x7f80);
    uint32_t quiet_low = 0x7f800001;
    float x;
    memcpy(&x, &quiet_low, 4);
    assert_true(isnan(oz_bf16_to_f32(oz_f32_to_bf16(x))));
    assert_int_equal(oz_f32_to_e8m0(-1), 255);
    assert_int_equal(oz_f32_to_e8m0(INFINITY), 255);
    assert_int_equal(oz_f32_to_e8m0(3e38f), 254);
    assert_float_equal(oz_round_to(OZ_F16, 0.1f), 0.0999755859375f, 0);
    assert_float_equal(oz_round_to(OZ_I8, 127.5f), 127, 0);
    assert_float_equal(oz_round_to(OZ_I8, -2.5f), -2, 0);
    assert_float_equal(oz_round_to(OZ_U8, -3), 0, 0);
    assert_float_equal(oz_round_to(OZ_U8, NAN), 0, 0);
    assert_float_equal(oz_round_to(OZ_I64, 1e30f), 0x1p63f, 0);
    assert_float_equal(oz_round_to(OZ_U64, 1e30f), 0x1p64f, 0);
    assert_float_equal(oz_round_to(OZ_I64, -1e30f), -0x1p63f, 0);
    assert_float_equal(oz_round_to(OZ_I32, 3e9f), 2147483648.0f, 0);
}

/* Loops give what single values give, at every alignment and length. */
static void loops_equal_single_values(void **state)
{
    (void)state;
    enum { N = 65536 };
    uint8_t *raw = malloc(N * 2 + 8);
    float *out = malloc(sizeof(float) * (N + 2)), *back = malloc(sizeof(float) * N);
    assert_true(raw && out && back);
    for (int shift = 0; shift < 3; shift++) {
        for (uint32_t c = 0; c < N; c++) {
            uint16_t h = (uint16_t)c;
            memcpy(raw + shift + 2 * c, &h, 2);
        }
        for (int t = 0; t < 2; t++) {
            oz_dtype type = t ? OZ_BF16 : OZ_F16;
            oz_to_f32(type, raw + shift, out, N - shift);
            for (uint32_t c = 0; c < N - (uint32_t)shift; c++) {
                float want = t ? oz_bf16_to_f32((uint16_t)c) : oz_f16_to_f32((uint16_t)c);
                assert_int_equal(bits(out[c]), bits(want));
            }
            uint8_t again[64];
            for (int n = 0; n < 24; n++) {
                oz_from_f32(type, out + 31000 + shift, again + shift, n);
                for (int i = 0; i < n; i++) {
                    uint16_t h;
                    memcpy(&h, again + shift + 2 * i, 2);
                    assert_int_equal(h, 31000 + shift + i);
                }
            }
        }
    }
    oz_rng rng = oz_rng_named(1, "dtype");
    for (int i = 0; i < N; i++) {
        uint32_t u = (uint32_t)oz_rng_u64(rng, (uint64_t)i);
        memcpy(&out[i], &u, 4);
    }
    uint16_t *codes = malloc(sizeof(uint16_t) * N);
    assert_non_null(codes);
    oz_from_f32(OZ_F16, out, codes, N);
    for (int i = 0; i < N; i++) assert_int_equal(codes[i], oz_f32_to_f16(out[i]));
    oz_from_f32(OZ_BF16, out, codes, N);
    for (int i = 0; i < N; i++) assert_int_equal(codes[i], oz_f32_to_bf16(out[i]));
    for (int t = 0; t < OZ_DTYPE_COUNT; t++) {
        size_t size = oz_dtype_size((oz_dtype)t);
        assert_true(size > 0);
        uint8_t *b = malloc(size * 300 + 1);
        assert_non_null(b);
        float in[300];
        for (int i = 0; i < 300; i++) in[i] = (float)((i * 37) % 256) - 100.25f;
        oz_from_f32((oz_dtype)t, in, b + 1, 300);
        oz_to_f32((oz_dtype)t, b + 1, back, 300);
        for (int i = 0; i < 300; i++) {
            float want = oz_round_to((oz_dtype)t, in[i]);
            assert_true(bits(want) == bits(back[i]));
        }
        free(b);
    }
    free(codes);
    free(raw);
    free(out);
    free(back);
}

static void arrays_and_buffers(void **state)
{
    (void)state;
    oz_array a, b;
    assert_int_equal(oz_array_new(&a, "codes", OZ_F32, 3, (int64_t[]){2, 3, 5}), OZ_OK);
    assert_int_equal(oz_array_count(&a), 30);
    assert_int_equal(oz_array_bytes(&a), 120);
    assert_int_equal(a.v.stride[0], 15);
    assert_int_equal((uintptr_t)oz_array_data(&a) % 64, 0);
    float *p = oz_array_data(&a);
    for (int i = 0; i < 30; i++) {
        assert_true(p[i] == 0);
        p[i] = (float)i;
    }
    oz_array part = a; /* [2 x 3] of every second row, transposed */
    oz_buf_keep(part.v.buf);
    part.v.rank = 2;
    part.v.off = 4;
    part.v.shape[0] = 3, part.v.stride[0] = 5, part.v.shape[1] = 2, part.v.stride[1] = 15;
    assert_int_equal(oz_array_copy(&b, &part), OZ_OK);
    float *q = oz_array_data(&b);
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 2; j++) assert_true(q[i * 2 + j] == (float)(1 + i * 5 + j * 15));
    oz_array_drop(&part);
    oz_array_drop(&a);
    oz_array_drop(&b);
    assert_int_equal(oz_array_new(&a, "x", OZ_F32, 2, (int64_t[]){-1, 3}), OZ_ERR_SHAPE);
    assert_string_equal(oz_message(), "array x: dimension 0 is -1, too large or negative");
    assert_int_equal(oz_array_new(&a, "x", OZ_F32, 2, (int64_t[]){INT64_MAX / 2, 16}), OZ_ERR_SHAPE);
    assert_int_equal(oz_array_new(&a, "a name that is longer than an array's name may be", OZ_F32, 0, NULL), OZ_ERR_RANGE);
    oz_buf_drop(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_decodes),        cmocka_unit_test(middles_round_to_even), cmocka_unit_test(ends_of_the_ranges),
        cmocka_unit_test(loops_equal_single_values), cmocka_unit_test(arrays_and_buffers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

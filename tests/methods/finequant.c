/* FineQuant's card: the integer format (items 1, 2) and the product on its codes (item 5, in f32 arithmetic). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "ounce/linear.h"

static oz_arena *arena;
static int setup(void **state)
{
    (void)state;
    return oz_arena_new(&arena, 0) != OZ_OK;
}
static int teardown(void **state)
{
    (void)state;
    oz_arena_free(arena);
    return 0;
}

static void bind(oz_fmt *f, const char *text, int64_t m, int64_t n)
{
    oz_spec *spec;
    if (oz_spec_parse(&spec, text, NULL, arena)) fail_msg("%s", oz_message());
    if (oz_fmt_bind(f, spec, m, n, "w")) fail_msg("%s", oz_message());
}

static void fit_ranges(const oz_fmt *f, oz_params *p, const float *w)
{
    float *scale = oz_params_get(p, "scale"), *zero = oz_params_get(p, "zero");
    int64_t tr = oz_fmt_tiles_r(f), tc = oz_fmt_tiles_c(f);
    for (int64_t r = 0; scale && r < tr; r++)
        for (int64_t c = 0; c < tc; c++) {
            float lo = INFINITY, hi = -INFINITY;
            for (int64_t i = r * f->shape.prm_r; i < f->m && i < (r + 1) * f->shape.prm_r; i++)
                for (int64_t j = c * f->shape.prm_c; j < f->n && j < (c + 1) * f->shape.prm_c; j++)
                    lo = fminf(lo, w[i * f->n + j]), hi = fmaxf(hi, w[i * f->n + j]);
            f->type->from_range(f, lo, hi, &scale[r * tc + c], zero ? &zero[r * tc + c] : NULL);
        }
}

/* finequant:1 unpack(pack(codes)) = codes, encode(decode(x)) is a fixed point, bytes = bits(), and the affine view agrees. */
static void pack_round_trip(void **state)
{
    static const char *const options[] = {"", ".asym", ".zf", ".off", ".mid", ".unit"};
    static const char *const groups[] = {"@row", "@32", "@24", "@tensor", "@2x64", "@128:f32", "@64:bf16"};
    static const int64_t widths[] = {1, 31, 32, 33, 576};
    enum { M = 3 };
    (void)state;
    for (int bits = 1; bits <= 8; bits++)
        for (int o = 0; o < 6; o++)
            for (int k = 0; k < 5; k++)
                for (int g = 0; g < 7; g++) {
                    char text[64];
                    if (bits == 1 && (o == 0 || o == 5)) continue;
                    if (o == 5 && g >= 5) continue;
                    snprintf(text, sizeof text, "int%d%s%s", bits, options[o], groups[g]);
                    int64_t n = widths[k];
                    oz_fmt f;
                    bind(&f, text, M, n);
                    float *w = oz_alloc((size_t)(M * n), 4), *hat = oz_alloc((size_t)(M * n), 4), *again = oz_alloc((size_t)(M * n), 4);
                    for (int64_t i = 0; i < M * n; i++)
                        w[i] = (float)oz_rng_normal((oz_rng){(uint64_t)bits, (uint64_t)o}, (uint64_t)i) * (o == 5 ? 30 : 0.1f);
                    oz_params p;
                    oz_packed packed, second;
                    assert_int_equal(f.type->init(&f, &p), OZ_OK);
                    fit_ranges(&f, &p, w);
                    size_t size = p.n ? oz_array_bytes(&p.a[0]) : 0;
                    uint8_t before[4096];
                    if (size) memcpy(before, oz_array_data(&p.a[0]), size);
                    assert_int_equal(f.type->seal(&f, &p, 0, oz_fmt_tiles_r(&f), 0, oz_fmt_tiles_c(&f)), OZ_OK);
                    if (size) assert_memory_equal(before, oz_array_data(&p.a[0]), size); /* from_range is sealed already */
                    assert_int_equal(oz_fmt_encode(&f, &p, oz_mat_of(w, M, n), &packed, oz_mat_of(hat, M, n), NULL), OZ_OK);
                    assert_int_equal(oz_unpack(&packed, 0, M, oz_mat_of(again, M, n)), OZ_OK);
                    for (int64_t i = 0; i < M * n; i++)
                        if (hat[i] != again[i])
                            fail_msg("%s, %lld inputs: value %lld is %g, stored %g", text, (long long)n, (long long)i, hat[i], again[i]);
                    assert_int_equal(oz_fmt_encode(&f, &p, oz_mat_of(hat, M, n), &second, oz_mat_of(again, M, n), NULL), OZ_OK);
                    assert_memory_equal(hat, again, (size_t)(M * n) * 4);
                    assert_int_equal(packed.n, second.n);
                    for (int a = 0; a < packed.n; a++)
                        assert_memory_equal(oz_array_data(&packed.a[a]), oz_array_data(&second.a[a]), oz_array_bytes(&packed.a[a]));
                    assert_int_equal(8 * oz_packed_bytes(&packed), (size_t)f.type->bits(&f));
                    oz_packed_drop(&packed);
                    oz_packed_drop(&second);
                    oz_params_drop(&p);
                    oz_free(w), oz_free(hat), oz_free(again);
                }
}

/* finequant:1 every code of every position survives the bit planes. */
static void codes_survive(void **state)
{
    (void)state;
    for (int bits = 1; bits <= 8; bits++) {
        enum { M = 2, N = 33 };
        char text[32];
        snprintf(text, sizeof text, "int%d.asym@row", bits);
        oz_fmt f;
        bind(&f, text, M, N);
        oz_params p;
        oz_packed packed;
        assert_int_equal(f.type->init(&f, &p), OZ_OK);
        oz_params_get(&p, "scale")[0] = oz_params_get(&p, "scale")[1] = 1;
        for (int shift = 0; shift < 1 << bits; shift++) {
            uint8_t codes[M * N];
            float back[M * N];
            for (int i = 0; i < M * N; i++) codes[i] = (uint8_t)((i * 7 + shift) & ((1 << bits) - 1));
            assert_int_equal(f.type->pack(&f, &p, codes, &packed), OZ_OK);
            assert_int_equal(oz_unpack(&packed, 0, M, oz_mat_of(back, M, N)), OZ_OK);
            for (int i = 0; i < M * N; i++) assert_true(back[i] == (float)codes[i]);
            oz_packed_drop(&packed);
        }
        oz_params_drop(&p);
    }
    /* The worked example of int.c. */
    oz_fmt f;
    bind(&f, "int5.asym@row", 1, 32);
    oz_params p;
    oz_packed packed;
    uint8_t codes[32] = {0x13};
    static const uint8_t want[20] = {[0] = 0x03, [16] = 0x01};
    assert_int_equal(f.type->init(&f, &p), OZ_OK);
    oz_params_get(&p, "scale")[0] = 1;
    assert_int_equal(f.type->pack(&f, &p, codes, &packed), OZ_OK);
    assert_memory_equal(oz_array_data(oz_packed_get(&packed, "codes")), want, 20);
    oz_packed_drop(&packed);
    oz_params_drop(&p);
}

/* finequant:2 the hand examples: w = (-0.75, 0.15, 0.35, 1.4). */
static void hand_examples(void **state)
{
    static const struct {
        const char *text;
        float scale, zero;
        uint8_t code[4];
    } want[] = {
        {"int4:f32", 0.2f, 0, {4, 9, 10, 15}}, /* q = -4, 1, 2, 7 */
        {"int2.asym:f32", 0.71667f, 1, {0, 1, 1, 3}},
        {"int2.zf:f32", 0.71667f, -1.0465f, {0, 1, 2, 3}},
        {"int2.mid:f32", 0.93333f, 0, {1, 2, 2, 3}},
    };
    float w[4] = {-0.75f, 0.15f, 0.35f, 1.4f};
    (void)state;
    for (int i = 0; i < 4; i++) {
        oz_fmt f;
        float scale, zero = 0, q[4];
        uint8_t code[4];
        bind(&f, want[i].text, 1, 4);
        f.type->from_range(&f, -0.75f, 1.4f, &scale, &zero);
        assert_true(fabsf(scale - want[i].scale) < 1e-5f);
        assert_true(fabsf(zero - want[i].zero) < 6e-4f); /* the real zero is stored as f16 */
        f.type->encode(&f, scale, zero, w, 4, code, q);
        assert_memory_equal(code, want[i].code, 4);
        if (i == 3)
            for (int j = 0; j < 4; j++) assert_true(fabsf(q[j] - (float[]){-0.46667f, 0.46667f, 0.46667f, 1.4f}[j]) < 1e-4f);
    }
}

static void says(const char *part)
{
    if (!strstr(oz_message(), part)) fail_msg("\"%s\" lacks \"%s\"", oz_message(), part);
}

static void degenerate_and_refused(void **state)
{
    static const char *const all[] = {"int4", "int4.asym", "int4.zf", "int4.off", "int4.mid", "gguf.q4_0", "gguf.q4_1", "gguf.q8_0"};
    (void)state;
    for (int i = 0; i < 8; i++)
        for (int k = 0; k < 2; k++) {
            if (k && (i < 2 || i > 3)) continue; /* a constant that is not 0: exact with a real zero or offset */
            oz_fmt f;
            float scale, zero = 0, q, w = k ? 0.25f : 0;
            bind(&f, all[i], 1, 32);
            f.type->from_range(&f, w, w, &scale, &zero);
            f.type->encode(&f, scale, zero, &w, 1, NULL, &q);
            assert_true(fabsf(q - w) < 1e-4f);
        }
    oz_spec *spec;
    oz_fmt f;
    assert_int_equal(oz_spec_parse(&spec, "int8@token", NULL, arena), OZ_OK);
    assert_int_equal(oz_fmt_bind(&f, spec, 4, 64, "q_proj"), OZ_ERR_UNSUPPORTED);
    says("q_proj: int8@token: a weight has no group \"token\"");
    assert_int_equal(oz_spec_parse(&spec, "int8.static@tensor", NULL, arena), OZ_OK);
    assert_int_equal(oz_fmt_bind(&f, spec, 4, 64, "q_proj"), OZ_ERR_UNSUPPORTED);
    says("for activations");
    assert_int_equal(oz_spec_parse(&spec, "int8@row", NULL, arena), OZ_OK);
    assert_int_equal(oz_fmt_bind(&f, spec, 0, 64, "q_proj"), OZ_ERR_SHAPE);
    says("q_proj: 0 x 64");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(pack_round_trip), cmocka_unit_test(codes_survive), cmocka_unit_test(hand_examples),
                                       cmocka_unit_test(degenerate_and_refused)};
    return cmocka_run_group_tests(tests, setup, teardown);
}

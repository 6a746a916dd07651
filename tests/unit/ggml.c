/* GGUF block types: decode equals the values the Python package gguf gives for the same bytes (tools/oracle/ggml.py makes
 * tests/golden/ggml/TYPE.bin), encode and decode of the types that can be written, refusals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <math.h>
#include <string.h>
#include "ounce/format.h"
#include "number/format/format_internal.h"

static void decode_golden(void **state)
{
    static const char *const types[] = {"q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q4_k", "q5_k", "q6_k"};
    (void)state;
    for (int k = 0; k < 8; k++) {
        char path[512];
        snprintf(path, sizeof path, "%s/tests/golden/ggml/%s.bin", OUNCE_SOURCE_DIR, types[k]);
        char *file;
        size_t bytes;
        assert_int_equal(oz_read_file(path, 1 << 20, &file, &bytes), OZ_OK);
        uint32_t head[2];
        memcpy(head, file, 8);
        int64_t rows = head[0], n = head[1];
        int number = oz_ggml_type_find(types[k]);
        const oz_ggml_type *g = oz_ggml_type_info(number);
        size_t raw = (size_t)(rows * n / g->block * g->bytes);
        assert_int_equal(bytes, 8 + raw + 4 * (size_t)(rows * n));
        oz_tensor t = {
            .name = "t", .dtype = OZ_U8, .ggml_type = number, .rank = 2, .shape = {rows, n}, .data = (uint8_t *)file + 8, .bytes = raw};
        float *out = oz_alloc((size_t)(rows * n), 4), *want = oz_alloc((size_t)(rows * n), 4);
        memcpy(want, file + 8 + raw, 4 * (size_t)(rows * n));
        assert_int_equal(oz_tensor_rows(&t, 0, rows, out), OZ_OK);
        assert_memory_equal(out, want, 4 * (size_t)(rows * n));

        /* The same bytes as a packed matrix, and through the affine view. */
        oz_arena *arena;
        assert_int_equal(oz_arena_new(&arena, 0), OZ_OK);
        oz_packed p;
        assert_int_equal(oz_packed_view(&p, &t, 1, rows - 1, arena), OZ_OK);
        assert_int_equal(oz_packed_bytes(&p), raw / (size_t)rows * (size_t)(rows - 1));
        assert_true(p.fmt.type->bits(&p.fmt) == 8.0 * (double)oz_packed_bytes(&p));
        assert_int_equal(oz_unpack(&p, 0, rows - 1, oz_mat_of(out, rows - 1, n)), OZ_OK);
        assert_memory_equal(out, want + n, 4 * (size_t)((rows - 1) * n));
        oz_affine a;
        assert_true(oz_affine_of(&p.fmt, &a));
        uint8_t u[512];
        float scale[32], shift[32];
        assert_int_equal(oz_affine_row(&p, 0, u, scale, shift), OZ_OK);
        for (int64_t j = 0; j < n; j++) {
            float s = scale[j / a.group], z = shift[j / a.group], v = a.offset ? s * (float)u[j] + z : s * ((float)u[j] - z);
            assert_true(v == want[n + j]);
        }
        oz_packed_drop(&p);
        oz_arena_free(arena);
        oz_free(out), oz_free(want), oz_free(file);
    }
}

static void encode_types(void **state)
{
    static const char *const types[] = {"gguf.q4_0", "gguf.q4_1", "gguf.q5_0", "gguf.q5_1", "gguf.q8_0"};
    static const double worst[] = {1.0 / 8, 1.0 / 15, 1.0 / 16, 1.0 / 31, 1.0 / 127}; /* of a block's largest magnitude or range */
    (void)state;
    oz_arena *arena;
    assert_int_equal(oz_arena_new(&arena, 0), OZ_OK);
    for (int k = 0; k < 5; k++) {
        enum { M = 3, N = 64 };
        float w[M * N], hat[M * N], back[M * N];
        for (int i = 0; i < M * N; i++) w[i] = (float)oz_rng_normal((oz_rng){7, (uint64_t)k}, (uint64_t)i);
        for (int i = 0; i < 32; i++) w[i] = 0; /* an empty block */
        oz_spec *spec;
        oz_fmt f;
        oz_params p;
        oz_packed packed;
        assert_int_equal(oz_spec_parse(&spec, types[k], NULL, arena), OZ_OK);
        assert_int_equal(oz_fmt_bind(&f, spec, M, N, "w"), OZ_OK);
        assert_int_equal(spec->type->init(&f, &p), OZ_OK);
        float *scale = oz_params_get(&p, "scale"), *zero = oz_params_get(&p, "zero");
        for (int t = 0; t < M * N / 32; t++) {
            float lo = w[32 * t], hi = lo;
            for (int j = 1; j < 32; j++) lo = fminf(lo, w[32 * t + j]), hi = fmaxf(hi, w[32 * t + j]);
            spec->type->from_range(&f, lo, hi, &scale[t], zero ? &zero[t] : NULL);
        }
        float before = scale[1];
        assert_int_equal(spec->type->seal(&f, &p, 0, M, 0, N / 32), OZ_OK);
        assert_true(before == scale[1]);
        assert_int_equal(oz_fmt_encode(&f, &p, oz_mat_of(w, M, N), &packed, oz_mat_of(hat, M, N), NULL), OZ_OK);
        assert_int_equal(oz_unpack(&packed, 0, M, oz_mat_of(back, M, N)), OZ_OK);
        for (int t = 0; t < M * N / 32; t++) {
            float most = 0;
            for (int j = 0; j < 32; j++) most = fmaxf(most, fabsf(w[32 * t + j]));
            for (int j = 0; j < 32; j++) {
                assert_true(hat[32 * t + j] == back[32 * t + j]);
                assert_true(fabs((double)back[32 * t + j] - w[32 * t + j]) <= worst[k] * 2.01 * most * 0.51 + 1e-3 * most);
            }
        }
        assert_int_equal(8 * oz_packed_bytes(&packed), (size_t)f.type->bits(&f));
        oz_packed_drop(&packed);
        oz_params_drop(&p);
    }
    /* The end of larger magnitude is the lowest code, whatever its sign. */
    oz_spec *spec;
    oz_fmt f;
    float scale;
    assert_int_equal(oz_spec_parse(&spec, "gguf.q4_0", NULL, arena), OZ_OK);
    assert_int_equal(oz_fmt_bind(&f, spec, 1, 32, "w"), OZ_OK);
    spec->type->from_range(&f, -1.0f, 4.0f, &scale, NULL);
    assert_true(scale == -0.5f);
    spec->type->from_range(&f, -8.0f, 4.0f, &scale, NULL);
    assert_true(scale == 1.0f);
    oz_arena_free(arena);
}

static void says(const char *part) { assert_non_null(strstr(oz_message(), part)); }

static void refusals(void **state)
{
    (void)state;
    oz_arena *arena;
    oz_spec *spec;
    oz_fmt f;
    oz_params p;
    assert_int_equal(oz_arena_new(&arena, 0), OZ_OK);
    assert_int_equal(oz_spec_parse(&spec, "gguf.q4_k", NULL, arena), OZ_OK);
    assert_int_equal(oz_fmt_bind(&f, spec, 4, 576, "model.q_proj"), OZ_ERR_SHAPE);
    says("model.q_proj: gguf.q4_k holds rows of a multiple of 256 inputs, this matrix has 576");
    assert_int_equal(oz_fmt_bind(&f, spec, 4, 512, "model.q_proj"), OZ_OK);
    assert_false(f.shape.flags & OZ_FMT_PROJECT);
    assert_int_equal(spec->type->init(&f, &p), OZ_ERR_UNSUPPORTED);
    says("gguf.q4_k can be read, not written");
    uint8_t bytes[66] = {0};
    oz_tensor t = {.name = "blk.0.x", .dtype = OZ_U8, .ggml_type = 16, .rank = 2, .shape = {1, 256}, .data = bytes, .bytes = 66};
    float out[256];
    assert_int_equal(oz_tensor_rows(&t, 0, 1, out), OZ_ERR_UNSUPPORTED);
    says("tensor blk.0.x is of GGUF type iq2_xxs");
    t.ggml_type = 12;
    assert_int_equal(oz_tensor_rows(&t, 0, 1, out), OZ_ERR_PARSE);
    assert_int_equal(oz_tensor_rows(&t, 1, 1, out), OZ_ERR_SHAPE);
    says("blk.0.x has 1 rows");
    oz_arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(decode_golden), cmocka_unit_test(encode_types), cmocka_unit_test(refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Stored columns: product, matrix form, sizes, and what a file with wrong ids is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>
#include "ounce/linear.h"

enum { M = 300, N = 40, K = 3, T = 2 };

static const oz_sidecar_spec *spec_of(const char *text, oz_arena *arena)
{
    oz_spec *s;
    if (oz_spec_parse(&s, text, NULL, arena)) fail_msg("%s", oz_message());
    return &s->side[0];
}

static void make(oz_sidecar *s, const char *text, int64_t inputs, oz_arena *arena)
{
    const oz_sidecar_spec *spec = spec_of(text, arena);
    oz_array a[4];
    int n;
    assert_int_equal(spec->type->layout(spec->opt, M, inputs, K, a, &n), OZ_OK);
    assert_int_equal(n, 2);
    *s = (oz_sidecar){.type = spec->type, .opt = spec->opt, .a = oz_zalloc(2, sizeof(oz_array)), .n = 2, .rows = M, .inputs = inputs};
    for (int i = 0; i < n; i++) assert_int_equal(oz_array_new(&s->a[i], a[i].name, a[i].v.dtype, a[i].v.rank, a[i].v.shape), OZ_OK);
}

static void product_and_matrix(void **state)
{
    static const char *const texts[] = {"int4+cols(3)", "int4+cols(3:bf16)", "int4+cols(3:f32)"};
    (void)state;
    oz_arena *arena;
    assert_int_equal(oz_arena_new(&arena, 0), OZ_OK);
    for (int k = 0; k < 3; k++) {
        oz_sidecar s;
        make(&s, texts[k], N, arena);
        static const uint16_t ids[K] = {0, 17, 39};
        memcpy(oz_array_data(&s.a[0]), ids, sizeof ids);
        float cols[K * M], x[T * N], y[T * M], w[M * N];
        for (int i = 0; i < K * M; i++) cols[i] = (float)(i % 37) * 0.25f; /* exact in every type */
        oz_from_f32(s.a[1].v.dtype, cols, oz_array_data(&s.a[1]), K * M);
        assert_int_equal(s.type->check(&s, "w"), OZ_OK);
        for (int i = 0; i < T * N; i++) x[i] = (float)(i % 5) - 2;
        for (int i = 0; i < T * M; i++) y[i] = 1;
        memset(w, 0, sizeof w);
        assert_int_equal(s.type->apply(&s, oz_mat_of(x, T, N), oz_mat_of(y, T, M), NULL), OZ_OK);
        assert_int_equal(s.type->dense(&s, oz_mat_of(w, M, N)), OZ_OK);
        for (int t = 0; t < T; t++)
            for (int i = 0; i < M; i++) {
                float want = 1;
                for (int j = 0; j < N; j++) want += w[i * N + j] * x[t * N + j];
                assert_true(fabsf(want - y[t * M + i]) < 1e-4f);
            }
        assert_true(s.type->bits(&s) == s.type->bits_of(s.opt, M, N, K));
        assert_true(s.type->bits(&s) == K * (16 + M * (k == 2 ? 32.0 : 16.0)));
        oz_sidecar_drop(&s);
    }
    oz_arena_free(arena);
}

static void planning(void **state)
{
    (void)state;
    oz_arena *arena;
    assert_int_equal(oz_arena_new(&arena, 0), OZ_OK);
    const oz_sidecar_spec *s = spec_of("int4+cols(1%)", arena);
    assert_int_equal(s->type->count(s->opt, 576), 5);
    assert_int_equal(s->type->count(s->opt, 1000), 10);
    s = spec_of("int4+cols(auto)", arena);
    assert_int_equal(s->type->count(s->opt, 576), -1);
    s = spec_of("int4+cols(700)", arena);
    assert_int_equal(s->type->count(s->opt, 576), 576);
    s = spec_of("int4+cols(7)", arena);
    assert_true(s->type->bits_of(s->opt, 100, 70000, 7) == 7 * (32 + 1600.0)); /* wide ids */
    assert_true(s->type->bits_of(s->opt, 100, 65536, 7) == 7 * (16 + 1600.0));
    oz_arena_free(arena);
}

static void wrong_files(void **state)
{
    (void)state;
    oz_arena *arena;
    assert_int_equal(oz_arena_new(&arena, 0), OZ_OK);
    oz_sidecar s;
    make(&s, "int4+cols(3)", N, arena);
    uint16_t *ids = oz_array_data(&s.a[0]);
    ids[0] = 2, ids[1] = 2, ids[2] = 5;
    assert_int_equal(s.type->check(&s, "blk.0.q"), OZ_ERR_PARSE);
    assert_string_equal(oz_message(), "blk.0.q.cols.ids[1] is 2; ids ascend and stay below 40 inputs");
    ids[1] = 3, ids[2] = 40;
    assert_int_equal(s.type->check(&s, "blk.0.q"), OZ_ERR_PARSE);
    ids[2] = 39;
    assert_int_equal(s.type->check(&s, "blk.0.q"), OZ_OK);
    s.rows = M + 1;
    assert_int_equal(s.type->check(&s, "blk.0.q"), OZ_ERR_PARSE);
    assert_string_equal(oz_message(), "blk.0.q.cols.cols is f16 3 x 300, expected f16 3 x 301");
    s.rows = M, s.inputs = 70000;
    assert_int_equal(s.type->check(&s, "blk.0.q"), OZ_ERR_PARSE);
    assert_non_null(strstr(oz_message(), "expected u32"));
    oz_sidecar_drop(&s);
    oz_arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(product_and_matrix), cmocka_unit_test(planning), cmocka_unit_test(wrong_files)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

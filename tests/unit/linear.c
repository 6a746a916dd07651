/* A linear in memory: order of maps, activation format, sidecars, bias; integer and decoded products agree; results do not depend on
 * threads or on the other tokens of a call. */
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

static float *normal(int64_t n, uint64_t stream)
{
    float *w = oz_arena_alloc(arena, sizeof *w * (size_t)n);
    for (int64_t i = 0; i < n; i++) w[i] = (float)oz_rng_normal((oz_rng){5, stream}, (uint64_t)i);
    return w;
}

/* Random weights in a format, min-max fitted. */
static void quantize(oz_packed *out, const char *text, int64_t m, int64_t n)
{
    oz_spec *spec;
    oz_fmt f;
    oz_params p;
    if (oz_spec_parse(&spec, text, NULL, arena) || oz_fmt_bind(&f, spec, m, n, "w")) fail_msg("%s", oz_message());
    assert_int_equal(spec->type->init(&f, &p), OZ_OK);
    const float *w = normal(m * n, 1);
    float *scale = oz_params_get(&p, "scale"), *zero = oz_params_get(&p, "zero");
    int64_t tc = oz_fmt_tiles_c(&f), g = f.shape.prm_c;
    for (int64_t t = 0; scale && t < oz_fmt_tiles_r(&f) * tc; t++) {
        float lo = INFINITY, hi = -INFINITY;
        for (int64_t i = t / tc * f.shape.prm_r; i < m && i < (t / tc + 1) * f.shape.prm_r; i++)
            for (int64_t j = t % tc * g; j < n && j < (t % tc + 1) * g; j++) lo = fminf(lo, w[i * n + j]), hi = fmaxf(hi, w[i * n + j]);
        spec->type->from_range(&f, lo, hi, &scale[t], zero ? &zero[t] : NULL);
    }
    if (oz_fmt_encode(&f, &p, oz_mat_of((float *)(uintptr_t)w, m, n), out, (oz_mat){0}, pool)) fail_msg("%s", oz_message());
    oz_params_drop(&p);
}

static oz_act act_of(const char *text)
{
    oz_spec *spec;
    oz_act a;
    if (oz_spec_parse(&spec, text, NULL, arena) || oz_act_from_spec(&a, spec, NULL)) fail_msg("%s", oz_message());
    return a;
}

static void run(const oz_linear *l, oz_mat x, oz_mat y, const oz_apply *opt, oz_pool *p)
{
    oz_input in = {x, NULL};
    oz_run r = {.pool = p};
    if (oz_linear_apply(&l, 1, &in, &y, opt, &r)) fail_msg("%s", oz_message());
}

/* y = W x with everything in f64, from the decoded matrix. */
static void reference(const oz_linear *l, oz_mat x, double *y)
{
    int64_t m = l->w[0].fmt.m, n = l->w[0].fmt.n;
    float *w = oz_arena_alloc(arena, sizeof *w * (size_t)(m * n));
    assert_int_equal(oz_unpack(&l->w[0], 0, m, oz_mat_of(w, m, n)), OZ_OK);
    for (int64_t t = 0; t < x.rows; t++)
        for (int64_t i = 0; i < m; i++) {
            double s = 0;
            for (int64_t j = 0; j < n; j++) s += (double)w[i * n + j] * x.p[t * x.ld + j];
            y[t * m + i] = s;
        }
}

static double distance(const float *a, const double *b, int64_t n)
{
    double d = 0, s = 0;
    for (int64_t i = 0; i < n; i++) d += (a[i] - b[i]) * (a[i] - b[i]), s += b[i] * b[i];
    return sqrt(d / (s > 0 ? s : 1));
}

/* finequant:5 the product equals unpack times x to 1e-5, for formats of every kind; integer products equal the same with the activations
 * rounded first. */
static void products(void **state)
{
    static const char *const formats[] = {"f32",       "bf16",        "int4@128",    "int4.asym@64", "int3.zf@32",
                                          "int8@row",  "int5.off@96", "int2.mid@64", "int4@2x64",    "int6@tensor",
                                          "gguf.q4_0", "gguf.q4_1",   "gguf.q5_0",   "gguf.q8_0",    "int8.asym@24"};
    static const char *const acts[] = {NULL,           "int8@token",          "int8@32", "int6.asym@token", "int8.static@tensor",
                                       "int4.asym@64", "int8.clip(0.9)@token"};
    enum { M = 150, N = 576, T = 5 };
    (void)state;
    for (size_t f = 0; f < sizeof formats / sizeof *formats; f++)
        for (size_t a = 0; a < sizeof acts / sizeof *acts; a++) {
            oz_packed w;
            quantize(&w, formats[f], M, N);
            oz_linear l = {.name = "q_proj", .out = M, .in = N, .w = &w, .nw = 1};
            if (acts[a]) l.act = act_of(acts[a]);
            l.act.range_lo = -3, l.act.range_hi = 3;
            float *x = normal(T * N, 2), *fake = normal(T * N, 2), y[T * M], exact[T * M];
            double want[T * M];
            oz_act_fake(&l.act, oz_mat_of(fake, T, N), NULL);
            reference(&l, oz_mat_of(fake, T, N), want);
            run(&l, oz_mat_of(x, T, N), oz_mat_of(y, T, M), NULL, pool);
            run(&l, oz_mat_of(x, T, N), oz_mat_of(exact, T, M), &(oz_apply){.exact = 1}, pool);
            /* a real zero beside asymmetric activations: large sums cancel */
            double most = l.act.asym ? 5e-5 : 1e-5;
            if (distance(y, want, T * M) > most || distance(exact, want, T * M) > 1e-5)
                fail_msg("%s with %s: %g, exact %g", formats[f], acts[a] ? acts[a] : "f32", distance(y, want, T * M),
                         distance(exact, want, T * M));
            /* One thread, and each token alone: the same bits. */
            float alone[T * M];
            run(&l, oz_mat_of(x, T, N), oz_mat_of(alone, T, M), NULL, NULL);
            assert_memory_equal(alone, y, sizeof y);
            for (int e = 0; e < 2; e++) {
                for (int t = 0; t < T; t++)
                    run(&l, oz_mat_of(x + t * N, 1, N), oz_mat_of(alone + t * M, 1, M), &(oz_apply){.exact = (uint8_t)e}, pool);
                if (memcmp(alone, e ? exact : y, sizeof y))
                    fail_msg("%s with %s%s depends on the other tokens", formats[f], acts[a] ? acts[a] : "f32", e ? ", exact," : "");
            }
            static const int32_t some[3] = {4, 1, 1}; /* an expert's tokens */
            run(&l, oz_mat_of(x, T, N), oz_mat_of(alone, 3, M), &(oz_apply){.rows = some, .nrows = 3}, pool);
            for (int i = 0; i < 3; i++) assert_memory_equal(alone + i * M, y + some[i] * M, M * sizeof *y);
            oz_linear_drop(&l);
            oz_packed_drop(&w);
        }
}

static void set_array(oz_array *a, const char *name, oz_dtype t, int rank, int64_t d0, int64_t d1, const void *from)
{
    int64_t shape[2] = {d0, d1};
    assert_int_equal(oz_array_new(a, name, t, rank, shape), OZ_OK);
    memcpy(oz_array_data(a), from, oz_array_bytes(a));
}

/* Maps, a sidecar that reads the original x, one that reads the mapped x, out-map, bias, some tokens only. */
static void order(void **state)
{
    enum { M = 6, N = 32, T = 4 };
    (void)state;
    oz_packed w;
    quantize(&w, "f32", M, N);
    oz_map in = {.kind = OZ_MAP_DIAG, .in = N, .out = N}, out = {.kind = OZ_MAP_DIAG, .in = M, .out = M};
    float d[N], o[M] = {1, 2, 3, 4, 5, 6}, bias[M] = {10, 20, 30, 40, 50, 60};
    for (int j = 0; j < N; j++) d[j] = 1 + 0.125f * (float)j;
    set_array(&in.a, "a", OZ_F32, 1, N, 1, d);
    set_array(&out.a, "a", OZ_F32, 1, M, 1, o);
    assert_int_equal(oz_map_seal(&in), OZ_OK);
    assert_int_equal(oz_map_seal(&out), OZ_OK);
    assert_true(in.id && in.id != out.id);
    oz_spec *spec;
    assert_int_equal(oz_spec_parse(&spec, "int4@row+cols(2:f32)", NULL, arena), OZ_OK);
    uint16_t ids[2] = {3, 20};
    float cols[2 * M];
    for (int i = 0; i < 2 * M; i++) cols[i] = (float)(i + 1);
    oz_array a[2][2];
    oz_sidecar side[2];
    for (int k = 0; k < 2; k++) {
        set_array(&a[k][0], "ids", OZ_U16, 1, 2, 1, ids);
        set_array(&a[k][1], "cols", OZ_F32, 2, 2, M, cols);
        side[k] = (oz_sidecar){.type = spec->side[0].type,
                               .opt = spec->side[0].opt,
                               .a = a[k],
                               .n = 2,
                               .rows = M,
                               .inputs = N,
                               .after_in = (uint8_t)k,
                               .before_out = (uint8_t)(1 - k)};
        assert_int_equal(side[k].type->check(&side[k], "w"), OZ_OK);
    }
    oz_linear l = {.name = "w",
                   .out = M,
                   .in = N,
                   .w = &w,
                   .nw = 1,
                   .in_map = &in,
                   .nin = 1,
                   .out_map = &out,
                   .nout = 1,
                   .side = side,
                   .nside = 2,
                   .bias = bias};
    float *x = normal(T * N, 9), y[T * M];
    run(&l, oz_mat_of(x, T, N), oz_mat_of(y, T, M), NULL, pool);
    float wf[M * N];
    assert_int_equal(oz_unpack(&w, 0, M, oz_mat_of(wf, M, N)), OZ_OK);
    int32_t some[2] = {2, 0};
    float y2[2 * M];
    run(&l, oz_mat_of(x, T, N), oz_mat_of(y2, 2, M), &(oz_apply){.rows = some, .nrows = 2}, pool);
    assert_memory_equal(y2, y + 2 * M, M * sizeof *y);
    assert_memory_equal(y2 + M, y, M * sizeof *y);
    for (int t = 0; t < T; t++)
        for (int i = 0; i < M; i++) {
            const float *v = x + t * N;
            double s = 0;
            for (int j = 0; j < N; j++) s += (double)wf[i * N + j] * v[j] * d[j];
            for (int k = 0; k < 2; k++) s += (double)cols[k * M + i] * v[ids[k]] * d[ids[k]]; /* after the map, before the out-map */
            s *= o[i];
            for (int k = 0; k < 2; k++) s += (double)cols[k * M + i] * v[ids[k]]; /* the original x, outermost */
            s += bias[i];
            assert_true(fabs(s - y[t * M + i]) < 1e-3);
        }
    /* The memo: two linears with the same map share its result, and a reset forgets it. */
    oz_memo *memo;
    assert_int_equal(oz_memo_new(&memo), OZ_OK);
    oz_input input = {oz_mat_of(x, T, N), memo};
    float ya[T * M], yb[T * M];
    const oz_linear *both[2] = {&l, &l};
    oz_mat ys[2] = {oz_mat_of(ya, T, M), oz_mat_of(yb, T, M)};
    oz_run r = {.pool = pool};
    assert_int_equal(oz_linear_apply(both, 2, &input, ys, NULL, &r), OZ_OK);
    assert_memory_equal(ya, y, sizeof y);
    assert_memory_equal(yb, y, sizeof y);
    x[0] += 1;
    oz_memo_reset(memo);
    assert_int_equal(oz_linear_apply(both, 1, &input, ys, NULL, &r), OZ_OK);
    assert_true(memcmp(ya, y, sizeof y) != 0);
    oz_memo_free(memo);
    assert_true(oz_linear_bits(&l) == 8.0 * (4 * M * N + 4 * N + 4 * M + 2 * (2 * 2 + 4 * 2 * M)));
    for (int k = 0; k < 4; k++) oz_array_drop(&a[k / 2][k % 2]);
    oz_array_drop(&in.a);
    oz_array_drop(&out.a);
    oz_packed_drop(&w);
}

static void maps(void **state)
{
    enum { N = 6 };
    (void)state;
    int32_t idx[N] = {3, 1, 0, 5, 4, 2};
    float x[2 * N], y[2 * N], back[2 * N], a[N] = {1, 2, 3, 4, 5, 6}, dense[N * N], inverse[N * N] = {0};
    for (int i = 0; i < 2 * N; i++) x[i] = (float)i;
    for (int i = 0; i < N * N; i++) dense[i] = 0;
    for (int i = 0; i < N; i++) { /* a scaled permutation has an exact inverse */
        dense[i * N + idx[i]] = 2;
        inverse[idx[i] * N + i] = 0.5f;
    }
    oz_map m[4] = {{.kind = OZ_MAP_PERM, .in = N, .out = N},
                   {.kind = OZ_MAP_SHIFT, .in = N, .out = N},
                   {.kind = OZ_MAP_DENSE, .in = N, .out = N},
                   {.kind = OZ_MAP_DIAG, .in = N, .out = N}};
    set_array(&m[0].idx, "idx", OZ_I32, 1, N, 1, idx);
    set_array(&m[1].a, "a", OZ_F32, 1, N, 1, a);
    set_array(&m[2].a, "a", OZ_F32, 2, N, N, dense);
    set_array(&m[2].b, "b", OZ_F32, 2, N, N, inverse);
    set_array(&m[3].a, "a", OZ_F32, 1, N, 1, a);
    for (int k = 0; k < 4; k++) {
        assert_int_equal(oz_map_apply(&m[k], OZ_MAP_FWD, oz_mat_of(x, 2, N), oz_mat_of(y, 2, N), NULL), OZ_OK);
        assert_int_equal(oz_map_apply(&m[k], OZ_MAP_INV, oz_mat_of(y, 2, N), oz_mat_of(back, 2, N), NULL), OZ_OK);
        for (int i = 0; i < 2 * N; i++) assert_true(fabsf(back[i] - x[i]) < 1e-6f);
        assert_int_equal(oz_map_apply(&m[k], OZ_MAP_INV, oz_mat_of(y, 2, N), oz_mat_of(y, 2, N), NULL), OZ_OK); /* in place */
        for (int i = 0; i < 2 * N; i++) assert_true(fabsf(y[i] - x[i]) < 1e-6f);
    }
    assert_int_equal(oz_map_apply(&m[0], OZ_MAP_T, oz_mat_of(x, 2, N), oz_mat_of(y, 2, N), NULL), OZ_OK);
    for (int i = 0; i < N; i++) assert_true(y[idx[i]] == x[i]);
    assert_int_equal(oz_map_apply(&m[2], OZ_MAP_T, oz_mat_of(x, 2, N), oz_mat_of(y, 2, N), NULL), OZ_OK);
    for (int i = 0; i < N; i++) assert_true(y[idx[i]] == 2 * x[i]);
    oz_map h = {.kind = OZ_MAP_HADAMARD, .in = N, .out = N};
    assert_int_equal(oz_map_apply(&h, OZ_MAP_FWD, oz_mat_of(x, 2, N), oz_mat_of(y, 2, N), NULL), OZ_ERR_UNSUPPORTED);
    assert_non_null(strstr(oz_message(), "hadamard"));
    /* Statistics of the mapped input equal statistics taken after the map. */
    enum { T = 50 };
    float *v = normal(T * N, 4), z[T * N];
    for (int k = 0; k < 4; k++) {
        double mean[N] = {0}, hh[N * N] = {0}, mean2[N] = {0}, h2[N * N] = {0};
        assert_int_equal(oz_map_apply(&m[k], OZ_MAP_FWD, oz_mat_of(v, T, N), oz_mat_of(z, T, N), NULL), OZ_OK);
        for (int t = 0; t < T; t++)
            for (int i = 0; i < N; i++) {
                mean[i] += v[t * N + i] / (double)T, mean2[i] += z[t * N + i] / (double)T;
                for (int j = 0; j < N; j++)
                    hh[i * N + j] += (double)v[t * N + i] * v[t * N + j] / T, h2[i * N + j] += (double)z[t * N + i] * z[t * N + j] / T;
            }
        oz_stats s = {.n = N, .tokens = T, .mean = mean, .h = hh};
        assert_int_equal(oz_map_seal(&m[k]), OZ_OK);
        assert_int_equal(oz_stats_map(&s, &m[k]), OZ_OK);
        assert_true(s.space != 0);
        for (int i = 0; i < N; i++) assert_true(fabs(mean[i] - mean2[i]) < 1e-5);
        for (int i = 0; i < N * N; i++) assert_true(fabs(hh[i] - h2[i]) < 1e-4);
    }
    for (int k = 0; k < 4; k++) oz_array_drop(&m[k].a), oz_array_drop(&m[k].b), oz_array_drop(&m[k].idx);
}

static void refusals(void **state)
{
    enum { M = 4, N = 32 };
    (void)state;
    oz_packed w;
    quantize(&w, "int4@32", M, N);
    oz_linear l = {.name = "blk.0.down", .out = M, .in = N, .w = &w, .nw = 1, .act = act_of("int8@token")};
    const oz_linear *p = &l;
    float *x = normal(2 * N, 3), y[2 * M];
    oz_input in = {oz_mat_of(x, 2, N), NULL};
    oz_mat out = oz_mat_of(y, 2, M);
    x[N + 3] = NAN;
    assert_int_equal(oz_linear_apply(&p, 1, &in, &out, NULL, NULL), OZ_ERR_NUMERIC);
    assert_non_null(strstr(oz_message(), "blk.0.down: "));
    assert_non_null(strstr(oz_message(), "not finite at token 1"));
    in.x = oz_mat_of(x, 2, N - 1);
    assert_int_equal(oz_linear_apply(&p, 1, &in, &out, NULL, NULL), OZ_ERR_SHAPE);
    assert_non_null(strstr(oz_message(), "blk.0.down takes 32 inputs, got 31"));
    char text[80];
    assert_non_null(strstr(oz_linear_kernel(&l, 1, text, sizeof text), "dot_int b4"));
    oz_linear_drop(&l);
    oz_packed_drop(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(products), cmocka_unit_test(order), cmocka_unit_test(maps),
                                       cmocka_unit_test(refusals)};
    return cmocka_run_group_tests(tests, setup, teardown);
}

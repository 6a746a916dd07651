/* product.c: stored weights times activations, whole path: formats x activation formats x token counts against sums in f64 over what
 * unpack and oz_act_fake say; the same bits for any thread count and every level; the cards' examples; counters.
 * OUNCE_TEST_TIMES=1 prints speeds beside the floors (bytes / measured bandwidth, operations / measured peak). */
#include "kernel/guard.h"

#include <inttypes.h>

typedef struct made {
    oz_arena *arena;
    oz_spec *spec;
    oz_fmt fmt;
    oz_packed w;
    float *plain; /* unpacked, [m x n] */
} made;

static void make(made *q, const char *format, int64_t m, int64_t n, uint64_t *s)
{
    assert_int_equal(oz_arena_new(&q->arena, 0), OZ_OK);
    if (oz_spec_parse(&q->spec, format, "test", q->arena)) fail_msg("%s", oz_message());
    assert_int_equal(oz_fmt_bind(&q->fmt, q->spec, m, n, "test"), OZ_OK);
    float *w = malloc(sizeof(float) * (size_t)(m * n));
    q->plain = malloc(sizeof(float) * (size_t)(m * n));
    assert_true(w && q->plain);
    for (int64_t i = 0; i < m * n; i++) w[i] = 0.05f * next_normal(s) + 0.01f;
    oz_params p = {0};
    if (q->fmt.type->init) assert_int_equal(q->fmt.type->init(&q->fmt, &p), OZ_OK);
    float *scale = oz_params_get(&p, "scale"), *zero = oz_params_get(&p, "zero");
    int64_t tr = oz_fmt_tiles_r(&q->fmt), tc = oz_fmt_tiles_c(&q->fmt), pr = q->fmt.shape.prm_r, pc = q->fmt.shape.prm_c;
    for (int64_t r = 0; r < tr && scale; r++)
        for (int64_t c = 0; c < tc; c++) {
            float lo = w[r * pr * n + c * pc], hi = lo;
            for (int64_t i = r * pr; i < (r + 1) * pr && i < m; i++)
                for (int64_t j = c * pc; j < (c + 1) * pc && j < n; j++) {
                    lo = w[i * n + j] < lo ? w[i * n + j] : lo;
                    hi = w[i * n + j] > hi ? w[i * n + j] : hi;
                }
            q->fmt.type->from_range(&q->fmt, lo, hi, &scale[r * tc + c], zero ? &zero[r * tc + c] : NULL);
        }
    if (q->fmt.type->seal && p.n) assert_int_equal(q->fmt.type->seal(&q->fmt, &p, 0, tr, 0, tc), OZ_OK);
    if (oz_fmt_encode(&q->fmt, &p, oz_mat_of(w, m, n), &q->w, (oz_mat){0}, NULL)) fail_msg("%s: %s", format, oz_message());
    assert_int_equal(oz_unpack(&q->w, 0, m, oz_mat_of(q->plain, m, n)), OZ_OK);
    oz_params_drop(&p);
    free(w);
}
static void drop(made *q)
{
    oz_packed_drop(&q->w);
    oz_arena_free(q->arena);
    free(q->plain);
}

typedef struct product {
    const oz_tiles *tiles;
    const oz_qact *q; /* NULL: f32 */
    const oz_packed *w;
    oz_mat x, y;
} product;
static oz_status piece(void *ctx, int64_t i0, int64_t i1, oz_work *work)
{
    product *p = ctx;
    if (p->q) return oz_kernel_int(p->tiles, p->q, i0, i1, p->y, work);
    return p->tiles ? oz_kernel_f32(p->tiles, p->x, i0, i1, p->y, work) : oz_kernel_panel(p->w, p->x, i0, i1, p->y, work);
}

/* y against f64; mass is the sum of magnitudes. */
static void check(const char *what, oz_mat y, oz_mat x, const float *w, int64_t m, int64_t n, double tolerance)
{
    for (int64_t t = 0; t < x.rows; t++)
        for (int64_t r = 0; r < m; r++) {
            double want = 0, mass = 0;
            for (int64_t k = 0; k < n; k++) {
                want += (double)x.p[t * x.ld + k] * w[r * n + k];
                mass += fabs((double)x.p[t * x.ld + k] * w[r * n + k]);
            }
            double got = y.p[t * y.ld + r];
            if (!(fabs(got - want) <= tolerance * (mass + 1e-20)))
                fail_msg("%s: token %d, row %d: %.9g instead of %.9g (of %g)", what, (int)t, (int)r, got, want, mass);
        }
}

static const oz_act acts[] = {
    {.kind = 0},
    {.kind = 1, .bits = 8, .group = -1, .clip = 1, .text = "int8@token"},
    {.kind = 1, .bits = 8, .group = 32, .clip = 1, .text = "int8@32"},
    {.kind = 1, .bits = 8, .group = -1, .clip = 1, .asym = 1, .text = "int8.asym@token"},
    {.kind = 1, .bits = 4, .group = 128, .clip = 1, .asym = 1, .text = "int4.asym@128"},
    {.kind = 1, .bits = 8, .group = -2, .clip = 1, .is_static = 1, .range_lo = -2, .range_hi = 2, .text = "int8.static@tensor"},
};

/* finequant:5 cpu-inference:1 cpu-inference:3 quick:3 */
static void formats_and_activations(void **state)
{
    static const char *const formats[] = {"int4@128",     "int4.asym@64",  "int8@row",    "int8.asym@128", "int4@row",    "int2@32",
                                          "int2.asym@64", "int2.mid@64",   "int3@128",    "int3.asym@32",  "int1.mid@64", "int5.asym@64",
                                          "int6@128",     "int7.asym@row", "int4.zf@128", "int8.off@64",   "int4.mid@16", "int8.unit",
                                          "int4@2x64",    "int4@128:f32",  "gguf.q4_0",   "gguf.q4_1",     "gguf.q8_0",   "gguf.q5_0",
                                          "gguf.q5_1",    "f16",           "bf16",        "f32",           "int4@20"};
    static const int64_t tokens[] = {1, 3, 5, 12, 13, 29, 45};
    oz_pool *pool = *state;
    uint64_t s = 0;
    for (size_t f = 0; f < sizeof formats / sizeof *formats; f++) {
        int64_t m = 83, n = strncmp(formats[f], "gguf", 4) ? (f % 3 == 2 ? 571 : 576) : 576;
        made q;
        make(&q, formats[f], m, n, &s);
        oz_tiles *tiles = NULL;
        int integer = strncmp(formats[f], "f", 1) && strncmp(formats[f], "bf", 2) && strcmp(formats[f], "int4@20");
        assert_int_equal(oz_tiles_possible(&q.fmt), integer);
        if (integer) assert_int_equal(oz_tiles_new(&tiles, &q.w, pool), OZ_OK);
        for (size_t a = 0; a < sizeof acts / sizeof *acts; a++)
            for (size_t c = 0; c < sizeof tokens / sizeof *tokens; c++) {
                int64_t T = tokens[c];
                if (acts[a].kind && !integer) continue;
                oz_mat x = oz_mat_of(malloc(sizeof(float) * (size_t)(T * n)), T, n),
                       y1 = {malloc(sizeof(float) * (size_t)(T * (m + 5))), T, m, m + 5}, y2 = y1;
                y2.p = malloc(sizeof(float) * (size_t)(T * (m + 5)));
                assert_true(x.p && y1.p && y2.p);
                for (int64_t i = 0; i < T * n; i++) x.p[i] = next_normal(&s);
                for (int64_t i = 0; i < T * (m + 5); i++) y1.p[i] = y2.p[i] = 77;
                oz_qact *act = NULL;
                int64_t run = 0;
                if (acts[a].kind) {
                    assert_true(oz_qact_possible(&acts[a], n));
                    assert_int_equal(oz_kernel_act_quant(&act, &acts[a], x, NULL, pool), OZ_OK);
                    assert_int_equal(oz_qact_prepare(act, tiles, &run), OZ_OK);
                    assert_true(run > 0);
                    if (acts[a].asym) assert_int_equal(oz_tiles_sums(tiles, run), OZ_OK);
                    oz_act_fake(&acts[a], x, NULL);
                }
                product p = {tiles, act, &q.w, x, y1};
                if (oz_pool_for(NULL, m, 32, piece, &p)) fail_msg("%s: %s", formats[f], oz_message());
                p.y = y2;
                assert_int_equal(oz_pool_for(pool, m, 32, piece, &p), OZ_OK);
                assert_memory_equal(y1.p, y2.p, sizeof(float) * (size_t)(T * (m + 5)));
                for (int64_t t = 0; t < T; t++) assert_true(y1.p[t * (m + 5) + m] == 77);
                char what[80];
                snprintf(what, sizeof what, "%s with %s, %d tokens", formats[f], acts[a].kind ? acts[a].text : "f32", (int)T);
                check(what, y1, x, q.plain, m, n, 1e-5);
                if (act && c % 2) /* every level the same bits */
                    for (int l = 0; l < OZ_ISA_COUNT; l++)
                        if (oz_cpu_isa() & OZ_ISA_BIT(l)) {
                            oz_isa_force(oz_isa_builds_on((oz_isa)l));
                            assert_int_equal(oz_pool_for(NULL, m, 64, piece, &p), OZ_OK);
                            assert_memory_equal(y1.p, y2.p, sizeof(float) * (size_t)(T * (m + 5)));
                        }
                oz_isa_force(oz_cpu_isa());
                oz_qact_free(act);
                free(x.p);
                free(y1.p);
                free(y2.p);
            }
        oz_tiles_free(tiles);
        drop(&q);
    }
}

/* cpu-inference:2: codes (9, 8, 7, 15), z = 8, s = 0.5, x = (1, -2, 0.5, 0): 0.5 * (2/127) * 32.  smoothquant:4: (3, -2) . (10, 20) = -10
 */
static void hand_examples(void **state)
{
    oz_arena *arena;
    oz_spec *spec;
    oz_fmt f;
    assert_int_equal(oz_arena_new(&arena, 0), OZ_OK);
    for (int e = 0; e < 2; e++) {
        static const uint8_t codes[2][4] = {{9, 8, 7, 15}, {131, 126, 128, 128}};
        static const float xs[2][4] = {{1, -2, 0.5f, 0}, {10, 20, 0, 127}};
        float x[4], y = 0, scale_value = e ? 1 : 0.5f;
        memcpy(x, xs[e], sizeof x);
        assert_int_equal(oz_spec_parse(&spec, e ? "int8@row" : "int4@row", "test", arena), OZ_OK);
        assert_int_equal(oz_fmt_bind(&f, spec, 1, 4, "test"), OZ_OK);
        oz_params p;
        oz_packed w;
        assert_int_equal(f.type->init(&f, &p), OZ_OK);
        *oz_params_get(&p, "scale") = scale_value;
        assert_int_equal(f.type->pack(&f, &p, codes[e], &w), OZ_OK);
        oz_tiles *t;
        oz_qact *q;
        int64_t run;
        assert_int_equal(oz_tiles_new(&t, &w, NULL), OZ_OK);
        assert_int_equal(oz_kernel_act_quant(&q, &acts[1], oz_mat_of(x, 1, 4), NULL, *state), OZ_OK);
        assert_int_equal(oz_qact_prepare(q, t, &run), OZ_OK);
        product pr = {t, q, &w, oz_mat_of(x, 1, 4), oz_mat_of(&y, 1, 1)};
        assert_int_equal(oz_pool_for(NULL, 1, 16, piece, &pr), OZ_OK);
        if (e)
            assert_true(y == -10);
        else
            assert_true(fabs((double)y - 0.5 * (2.0 / 127) * 32) < 1e-7);
        oz_tiles_free(t);
        oz_qact_free(q);
        oz_params_drop(&p);
        oz_packed_drop(&w);
    }
    oz_arena_free(arena);
}

static void cells_are_counted(void **state)
{
    (void)state;
    oz_cell_info before[OZ_CELL_COUNT], after[OZ_CELL_COUNT];
    uint64_t s = 5;
    made q;
    make(&q, "int4@32", 40, 64, &s);
    oz_tiles *t;
    assert_int_equal(oz_tiles_new(&t, &q.w, NULL), OZ_OK);
    float x[64] = {1}, y[40];
    assert_int_equal(oz_kernel_cells(before), OZ_OK);
    product p = {t, NULL, &q.w, oz_mat_of(x, 1, 64), oz_mat_of(y, 1, 40)};
    assert_int_equal(oz_pool_for(NULL, 40, 16, piece, &p), OZ_OK);
    assert_int_equal(oz_kernel_cells(after), OZ_OK);
    assert_string_equal(after[OZ_CELL_ROWS4].name, "rows b4");
    assert_int_equal(after[OZ_CELL_ROWS4].calls - before[OZ_CELL_ROWS4].calls, 3);
    char name[64];
    assert_true(strstr(oz_tiles_name(t, true, name, sizeof name), "dot_int b4 g32") == name);
    /* not prepared: refused by name */
    oz_qact *act;
    assert_int_equal(oz_kernel_act_quant(&act, &acts[1], oz_mat_of(x, 1, 64), NULL, NULL), OZ_OK);
    p.q = act;
    assert_int_equal(oz_pool_for(NULL, 40, 64, piece, &p), OZ_ERR_SHAPE);
    assert_string_equal(oz_message(), "integer product of rows 0 to 40 over 1 tokens was not prepared");
    oz_qact_free(act);
    oz_tiles_free(t);
    drop(&q);
}

/* Every allocation on the way fails once: the error comes back, nothing leaks (address sanitizer), nothing is half made. */
static void failing_allocations(void **state)
{
    (void)state;
#ifdef OUNCE_FAULTS
    uint64_t s = 9;
    made q;
    make(&q, "int4.zf@32:f32", 40, 80, &s);
    float x[5 * 80], y[5 * 40];
    for (int i = 0; i < 5 * 80; i++) x[i] = next_normal(&s);
    int64_t nth = 1;
    for (int done = 0; !done; nth++) {
        oz_tiles *t = NULL;
        oz_qact *act = NULL;
        int64_t run = 0;
        product p = {NULL, NULL, &q.w, oz_mat_of(x, 5, 80), oz_mat_of(y, 5, 40)};
        oz_fault_alloc(nth);
        oz_status st = oz_tiles_new(&t, &q.w, NULL);
        if (!st) st = oz_kernel_act_quant(&act, &acts[3], p.x, NULL, NULL);
        if (!st) st = oz_qact_prepare(act, t, &run);
        if (!st) st = oz_tiles_sums(t, run);
        p.tiles = t;
        p.q = act;
        if (!st) st = oz_pool_for(NULL, 40, 16, piece, &p);
        p.q = NULL;
        if (!st) st = oz_pool_for(NULL, 40, 16, piece, &p);
        p.tiles = NULL;
        if (!st) st = oz_pool_for(NULL, 40, 16, piece, &p);
        oz_fault_alloc(0);
        done = !st;
        if (st) assert_int_equal(st, OZ_ERR_NOMEM);
        oz_qact_free(act);
        oz_tiles_free(t);
    }
    assert_true(nth > 15);
    drop(&q);
#else
    skip();
#endif
}

static void times(void **state)
{
    const char *which = getenv("OUNCE_TEST_TIMES");
    if (!which) skip();
    oz_pool *pool;
    assert_int_equal(oz_pool_new(&pool, *which == '1' ? 0 : atoi(which)), OZ_OK);
    (void)state;
    oz_peaks peak;
    assert_int_equal(oz_machine_peaks(pool, &peak), OZ_OK);
    printf("%d threads; peaks: read %.1f GB/s, f32 %.0f GFLOP/s, int8 %.0f GOP/s\n", oz_pool_threads(pool), peak.read_gbs, peak.f32_gflops,
           peak.i8_gops);
    static const struct {
        const char *format;
        int act;
        int64_t m, n, T;
    } jobs[] = {{"int2@128", 1, 16384, 4096, 1},  {"int4@128", 1, 16384, 4096, 1},
                {"int4@32", 2, 16384, 4096, 1},   {"int4.asym@128", 1, 16384, 4096, 1},
                {"int8@row", 1, 16384, 4096, 1},  {"int4@row", 1, 5632, 2048, 256},
                {"int4@128", 1, 5632, 2048, 256}, {"int4@32", 2, 5632, 2048, 256},
                {"int8@row", 1, 5632, 2048, 256}, {"int4@128", 1, 1536, 576, 512},
                {"int4@128", 0, 16384, 4096, 1},  {"int8@row", 0, 16384, 4096, 1},
                {"int2@128", 0, 16384, 4096, 1},  {"f16", 0, 8192, 4096, 1},
                {"bf16", 0, 8192, 4096, 1},       {"f32", 0, 8192, 2048, 1},
                {"int4@128", 0, 5632, 2048, 4},   {"int4@128", 0, 5632, 2048, 8},
                {"int4@128", 0, 5632, 2048, 12},  {"int4@128", 0, 5632, 2048, 256},
                {"f16", 0, 5632, 2048, 8},        {"f16", 0, 5632, 2048, 256}};
    uint64_t s = 0;
    for (size_t j = 0; j < sizeof jobs / sizeof *jobs; j++) {
        made q;
        int64_t m = jobs[j].m, n = jobs[j].n, T = jobs[j].T, run;
        make(&q, jobs[j].format, m, n, &s);
        oz_tiles *t = NULL;
        oz_qact *act = NULL;
        double t0 = oz_seconds(), best = 1e9;
        if (oz_tiles_possible(&q.fmt)) assert_int_equal(oz_tiles_new(&t, &q.w, pool), OZ_OK);
        double laid = oz_seconds() - t0, quantized = 0;
        oz_mat x = oz_mat_of(malloc(sizeof(float) * (size_t)(T * n)), T, n), y = oz_mat_of(malloc(sizeof(float) * (size_t)(T * m)), T, m);
        assert_true(x.p && y.p);
        for (int64_t i = 0; i < T * n; i++) x.p[i] = next_normal(&s);
        for (int r = 0; r < 9; r++) {
            t0 = oz_seconds();
            if (jobs[j].act) {
                oz_qact_free(act);
                assert_int_equal(oz_kernel_act_quant(&act, &acts[jobs[j].act], x, NULL, pool), OZ_OK);
                assert_int_equal(oz_qact_prepare(act, t, &run), OZ_OK);
            }
            quantized = oz_seconds() - t0;
            product p = {t, act, &q.w, x, y};
            t0 = oz_seconds();
            assert_int_equal(oz_pool_for(pool, m, oz_kernel_grain(m, n), piece, &p), OZ_OK);
            t0 = oz_seconds() - t0;
            if (t0 < best) best = t0;
        }
        double bytes = t ? (double)oz_tiles_bytes(t) : (double)oz_packed_bytes(&q.w), ops = 2.0 * (double)m * (double)n * (double)T;
        double floor_bytes = bytes / peak.read_gbs * 1e-9, floor_ops = ops / (jobs[j].act ? peak.i8_gops : peak.f32_gflops) * 1e-9;
        printf("%-14s %-8s %6d x %5d x %4d: %8.1f us %6.1f GB/s %7.0f GOP/s, %4.0f %% of the floor; act %5.1f us, laid out in %.0f ms\n",
               jobs[j].format, jobs[j].act ? acts[jobs[j].act].text : "f32", (int)m, (int)n, (int)T, best * 1e6, bytes / best * 1e-9,
               ops / best * 1e-9, 100 * (floor_bytes > floor_ops ? floor_bytes : floor_ops) / best, quantized * 1e6, laid * 1e3);
        oz_qact_free(act);
        oz_tiles_free(t);
        free(x.p);
        free(y.p);
        drop(&q);
    }
    oz_pool_free(pool);
}

static int begin(void **state) { return (int)oz_pool_new((oz_pool **)state, 3); }
static int end(void **state)
{
    oz_pool_free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(formats_and_activations), cmocka_unit_test(hand_examples),
                                       cmocka_unit_test(cells_are_counted), cmocka_unit_test(failing_allocations), cmocka_unit_test(times)};
    return cmocka_run_group_tests(tests, begin, end);
}

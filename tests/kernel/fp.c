/* fp.c: the f32 cells of every level against the portable ones, with guard pages; attention over f16. */
#include "kernel/guard.h"

static oz_kernels table[OZ_ISA_COUNT];
static oz_isa level[OZ_ISA_COUNT];
static int levels;

static void tiles(void **state)
{
    (void)state;
    static const int64_t shape[][3] = {{16, 16, 16}, {576, 128, 576}, {64, 64, 50}, {96, 32, 95}, {592, 592, 580}};
    uint64_t s = 0;
    for (int width = 0; width < OZ_TILE_WIDTHS; width++)
        for (int mt = 1; mt <= OZ_FEW_TOKENS; mt++)
            for (size_t c = 0; c < sizeof shape / sizeof *shape; c++)
                for (int extras = 0; extras < 8; extras++) {
                    int64_t kpad = shape[c][0], group = shape[c][1], cols = shape[c][2], groups = (kpad + group - 1) / group;
                    size_t code_bytes = (size_t)(kpad * 16 * (2 << width) / 8), ng = (size_t)(groups * 16);
                    int end = mt & 1;
                    guarded codes = guarded_new(code_bytes, end), x = guarded_new((size_t)(kpad * mt) * 4, end),
                            xsum = guarded_new((size_t)(groups * mt) * 4, end);
                    guarded out = guarded_new((size_t)mt * 64, end), s16 = guarded_new(ng * 2, end), s32 = guarded_new(ng * 4, end),
                            zero = guarded_new(ng, end);
                    guarded shift = guarded_new(ng * 4, end), panel = guarded_new((size_t)cols * 64, end);
                    for (size_t i = 0; i < code_bytes; i++) ((uint8_t *)codes.p)[i] = extras == 3 ? 255 : (uint8_t)next_random(&s);
                    for (int64_t i = 0; i < kpad * mt; i++) ((float *)x.p)[i] = next_normal(&s);
                    for (int64_t g = 0; g < groups; g++)
                        for (int t = 0; t < mt; t++) {
                            float sum = 0;
                            for (int64_t k = g * group; k < (g + 1) * group && k < kpad; k++) sum += ((float *)x.p)[t * kpad + k];
                            ((float *)xsum.p)[g * mt + t] = sum;
                        }
                    for (size_t i = 0; i < ng; i++) {
                        ((uint16_t *)s16.p)[i] = oz_f32_to_f16(0.1f + fabsf(next_normal(&s)));
                        ((float *)s32.p)[i] = 0.1f + fabsf(next_normal(&s));
                        ((int8_t *)zero.p)[i] = (int8_t)(next_random(&s) % 31 - 15);
                        ((float *)shift.p)[i] = next_normal(&s);
                    }
                    oz_rows p = {.codes = codes.p,
                                 .kpad = kpad,
                                 .group = group,
                                 .groups = groups,
                                 .x = x.p,
                                 .ldx = kpad,
                                 .xsum = xsum.p,
                                 .out = out.p};
                    if (extras & 4)
                        p.scale32 = s32.p;
                    else
                        p.scale16 = s16.p;
                    if (extras & 1)
                        p.zero = zero.p;
                    else if (extras & 2)
                        p.shift = shift.p;
                    float want[4 * 16], *plain = malloc((size_t)cols * 64);
                    assert_non_null(plain);
                    table[0].fp.rows[width](&p, mt);
                    memcpy(want, out.p, sizeof(float) * 16 * (size_t)mt);
                    table[0].fp.expand[width](&p, cols, plain, 16);
                    for (int t = 0; t < mt && cols == kpad; t++) /* the definition agrees with decoding and multiplying */
                        for (int r = 0; r < 16; r++) {
                            double y = 0, mass = 0;
                            for (int64_t k = 0; k < kpad; k++)
                                y += (double)plain[k * 16 + r] * ((float *)x.p)[t * kpad + k],
                                    mass += fabs((double)plain[k * 16 + r] * ((float *)x.p)[t * kpad + k]);
                            assert_true(fabs(y - want[16 * t + r]) <= 1e-5 * (mass + 1));
                        }
                    for (int l = 1; l < levels; l++) {
                        memset(out.p, 255, (size_t)mt * 64);
                        memset(panel.p, 255, (size_t)cols * 64);
                        table[l].fp.rows[width](&p, mt);
                        table[l].fp.expand[width](&p, cols, panel.p, 16);
                        assert_memory_equal(panel.p, plain, (size_t)cols * 64);
                        for (int i = 0; i < 16 * mt; i++) {
                            double size = 3e-5 * sqrt((double)kpad) * (2 << width) * (1 << (2 << width));
                            if (!(fabs((double)want[i] - ((float *)out.p)[i]) <= size))
                                fail_msg("%s differs: width %d, %d tokens, kpad %d, extras %d: %g instead of %g", oz_isa_name(level[l]),
                                         2 << width, mt, (int)kpad, extras, (double)((float *)out.p)[i], (double)want[i]);
                        }
                    }
                    free(plain);
                    guarded *all[] = {&codes, &x, &xsum, &out, &s16, &s32, &zero, &shift, &panel};
                    for (size_t i = 0; i < sizeof all / sizeof *all; i++) guarded_free(all[i]);
                }
}

static void plain_matrices(void **state)
{
    (void)state;
    static const oz_dtype types[] = {OZ_F16, OZ_BF16, OZ_F32};
    uint64_t s = 0;
    for (int type = 0; type < 3; type++)
        for (int64_t k = 1; k < 700; k = k < 35 ? k + 1 : k * 2 + 3)
            for (int mt = 1; mt <= OZ_FEW_TOKENS; mt++) {
                int64_t rows = 3, ld = k + 1;
                size_t size = oz_dtype_size(types[type]), bytes = (size_t)((rows - 1) * ld + k) * size;
                guarded w = guarded_new(bytes, 1), x = guarded_new((size_t)(mt * k) * 4, 1);
                float wide[3 * 1500];
                for (int64_t i = 0; i < rows * ld; i++) wide[i] = next_normal(&s);
                oz_from_f32(types[type], wide, w.p, (rows - 1) * ld + k);
                oz_to_f32(types[type], w.p, wide, (rows - 1) * ld + k);
                for (int64_t i = 0; i < mt * k; i++) ((float *)x.p)[i] = next_normal(&s);
                for (int l = 0; l < levels; l++) {
                    oz_dense_fn *f[3] = {table[l].fp.f16, table[l].fp.bf16, table[l].fp.f32};
                    float out[4 * 5];
                    for (int i = 0; i < 20; i++) out[i] = 99;
                    f[type](w.p, ld, rows, k, x.p, k, mt, out, 5);
                    for (int t = 0; t < mt; t++)
                        for (int64_t r = 0; r < 5; r++) {
                            double y = 0, mass = 0;
                            for (int64_t i = 0; i < k && r < rows; i++)
                                y += (double)wide[r * ld + i] * ((float *)x.p)[t * k + i],
                                    mass += fabs((double)wide[r * ld + i] * ((float *)x.p)[t * k + i]);
                            if (r < rows)
                                assert_true(fabs(y - out[t * 5 + r]) <= 1e-6 * (mass + 1e-3));
                            else
                                assert_true(out[t * 5 + r] == 99);
                        }
                }
                guarded_free(&w);
                guarded_free(&x);
            }
}

static void attention(void **state)
{
    (void)state;
    uint64_t s = 0;
    static const int64_t sizes[] = {1, 7, 16, 40, 64, 80, 128, 129};
    for (size_t c = 0; c < sizeof sizes / sizeof *sizes; c++)
        for (int64_t n = 0; n < 20; n = n * 2 + 1) {
            int64_t d = sizes[c], ld = d + 8;
            size_t count = (size_t)(n ? (n - 1) * ld + d : 0);
            guarded kv = guarded_new(count * 2, 1), q = guarded_new((size_t)d * 4, 1), p = guarded_new((size_t)n * 4, 1),
                    out = guarded_new((size_t)n * 4, 1), y = guarded_new((size_t)d * 4, 1);
            for (size_t i = 0; i < count; i++) ((uint16_t *)kv.p)[i] = oz_f32_to_f16(next_normal(&s));
            for (int64_t i = 0; i < d; i++) ((float *)q.p)[i] = next_normal(&s);
            for (int64_t i = 0; i < n; i++) ((float *)p.p)[i] = fabsf(next_normal(&s));
            for (int l = 0; l < levels; l++) {
                for (int64_t i = 0; i < d; i++) ((float *)y.p)[i] = 1;
                table[l].attention.dot(q.p, kv.p, ld, n, d, out.p);
                table[l].attention.mix(p.p, kv.p, ld, n, d, y.p);
                for (int64_t i = 0; i < n; i++) {
                    double want = 0;
                    for (int64_t j = 0; j < d; j++) want += (double)((float *)q.p)[j] * oz_f16_to_f32(((uint16_t *)kv.p)[i * ld + j]);
                    assert_true(fabs(want - ((float *)out.p)[i]) < 1e-4);
                }
                for (int64_t j = 0; j < d; j++) {
                    double want = 1;
                    for (int64_t i = 0; i < n; i++) want += (double)((float *)p.p)[i] * oz_f16_to_f32(((uint16_t *)kv.p)[i * ld + j]);
                    assert_true(fabs(want - ((float *)y.p)[j]) < 1e-4);
                }
            }
            guarded *all[] = {&kv, &q, &p, &out, &y};
            for (size_t i = 0; i < sizeof all / sizeof *all; i++) guarded_free(all[i]);
        }
}

int main(void)
{
    levels = levels_here(table, level);
    const struct CMUnitTest tests[] = {cmocka_unit_test(tiles), cmocka_unit_test(plain_matrices), cmocka_unit_test(attention)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

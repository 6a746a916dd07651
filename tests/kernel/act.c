/* act.c: quantized activations.  Every level gives the same codes and ranges; the whole object equals oz_act_fake; the card's example. */
#include "kernel/guard.h"

static oz_kernels table[OZ_ISA_COUNT];
static oz_isa level[OZ_ISA_COUNT];
static int levels;

static void every_level_gives_the_same_codes(void **state)
{
    (void)state;
    uint64_t s = 0;
    static const oz_code_rule rules[] = {
        {40, 0, -127, 127, false}, {3, 0, -8, 7, false}, {0, 0, -127, 127, false}, {0.03f, 97, 0, 255, true}, {0.4f, 3, 0, 15, true}};
    for (int64_t n = 1; n < 600; n = n < 70 ? n + 1 : n * 2 + 5)
        for (size_t r = 0; r < sizeof rules / sizeof *rules; r++)
            for (int end = 0; end < 2; end++) {
                guarded x = guarded_new((size_t)n * 4, end), q = guarded_new((size_t)n, end);
                int8_t want[700];
                oz_range a, b;
                for (int64_t i = 0; i < n; i++)
                    ((float *)x.p)[i] = i % 5 == 3 ? 0.0125f * (float)(2 * (i % 9) - 9) : i % 7 ? next_normal(&s) : 1e9f * next_normal(&s);
                table[0].act.range(x.p, n, &a);
                int64_t out = table[0].act.quantize(x.p, n, &rules[r], q.p);
                memcpy(want, q.p, (size_t)n);
                for (int l = 1; l < levels; l++) {
                    memset(q.p, 77, (size_t)n);
                    assert_int_equal(table[l].act.quantize(x.p, n, &rules[r], q.p), out);
                    assert_memory_equal(q.p, want, (size_t)n);
                    table[l].act.range(x.p, n, &b);
                    assert_true(a.absmax == b.absmax && a.lo == b.lo && a.hi == b.hi);
                }
                guarded_free(&x);
                guarded_free(&q);
            }
}

static void whole_objects_equal_fake_quantization(void **state)
{
    static const struct {
        int bits, asym, is_static, group;
        float clip;
    } formats[] = {{8, 0, 0, -1, 1}, {8, 1, 0, -1, 1}, {4, 0, 0, 32, 0.9f}, {8, 0, 0, 128, 1},  {6, 1, 0, 64, 1},
                   {8, 0, 0, -2, 1}, {8, 0, 1, -2, 1}, {8, 1, 1, -2, 1},    {8, 1, 0, -2, 0.8f}};
    static const int64_t shape[][2] = {{1, 16}, {1, 576}, {12, 576}, {13, 100}, {30, 31}};
    uint64_t s = 0;
    for (size_t f = 0; f < sizeof formats / sizeof *formats; f++)
        for (size_t c = 0; c < sizeof shape / sizeof *shape; c++) {
            int64_t tokens = shape[c][0], k = shape[c][1], ld = k + 3, over1 = 0, over2 = 0;
            oz_act act = {.kind = 1,
                          .bits = (uint8_t)formats[f].bits,
                          .asym = (uint8_t)formats[f].asym,
                          .is_static = (uint8_t)formats[f].is_static,
                          .group = formats[f].group,
                          .clip = formats[f].clip,
                          .range_lo = -1.5f,
                          .range_hi = 1.75f};
            float *x = malloc(sizeof(float) * (size_t)(tokens * ld)), *y = malloc(sizeof(float) * (size_t)(tokens * ld));
            assert_true(x && y);
            for (int64_t i = 0; i < tokens * ld; i++) x[i] = next_normal(&s);
            memset(x, 0, sizeof(float) * (size_t)(k < 40 ? k : 0)); /* an empty token */
            oz_qact *q = NULL;
            assert_int_equal(oz_kernel_act_quant(&q, &act, (oz_mat){x, tokens, k, ld}, &over1, *state), OZ_OK);
            oz_qact_decode(q, (oz_mat){y, tokens, k, ld});
            oz_act_fake(&act, (oz_mat){x, tokens, k, ld}, &over2);
            for (int64_t t = 0; t < tokens; t++)
                for (int64_t i = 0; i < k; i++)
                    if (x[t * ld + i] != y[t * ld + i])
                        fail_msg("format %d, token %d, input %d: %.9g instead of %.9g", (int)f, (int)t, (int)i, (double)y[t * ld + i],
                                 (double)x[t * ld + i]);
            assert_int_equal(over1, over2);
            oz_qact_free(q);
            free(x);
            free(y);
        }
}

static void infinities_are_named(void **state)
{
    float x[3 * 16] = {0};
    x[2 * 16 + 5] = NAN;
    oz_act act = {.kind = 1, .bits = 8, .group = -1, .clip = 1, .text = "int8@token"};
    oz_qact *q;
    assert_int_equal(oz_kernel_act_quant(&q, &act, oz_mat_of(x, 3, 16), NULL, *state), OZ_ERR_NUMERIC);
    assert_string_equal(oz_message(), "input of a product is not finite at token 2");
    act.group = -2;
    x[2 * 16 + 5] = -INFINITY;
    assert_int_equal(oz_kernel_act_quant(&q, &act, oz_mat_of(x, 3, 16), NULL, *state), OZ_ERR_NUMERIC);
    act.group = 24;
    act.text = "int8@24";
    assert_int_equal(oz_kernel_act_quant(&q, &act, oz_mat_of(x, 1, 48), NULL, *state), OZ_ERR_UNSUPPORTED);
    assert_string_equal(oz_message(), "activations in format int8@24 have no integer form of 48 inputs");
}

/* cpu-inference:2, the activation half: x = (1, -2, 0.5, 0), codes (64, -127, 32, 0) */
static void hand_example(void **state)
{
    float x[4] = {1, -2, 0.5f, 0}, y[4];
    static const float code[4] = {64, -127, 32, 0};
    oz_act act = {.kind = 1, .bits = 8, .group = -1, .clip = 1};
    oz_qact *q;
    assert_int_equal(oz_kernel_act_quant(&q, &act, oz_mat_of(x, 1, 4), NULL, *state), OZ_OK);
    oz_qact_decode(q, oz_mat_of(y, 1, 4));
    for (int i = 0; i < 4; i++) assert_true(y[i] == 2.0f / 127.0f * code[i]);
    oz_qact_free(q);
}

static int begin(void **state) { return (int)oz_pool_new((oz_pool **)state, 3); }
static int end(void **state)
{
    oz_pool_free(*state);
    return 0;
}

int main(void)
{
    levels = levels_here(table, level);
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_level_gives_the_same_codes),
                                       cmocka_unit_test(whole_objects_equal_fake_quantization), cmocka_unit_test(infinities_are_named),
                                       cmocka_unit_test(hand_example)};
    return cmocka_run_group_tests(tests, begin, end);
}

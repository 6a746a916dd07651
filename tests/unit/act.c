/* Activation formats: hand examples of the cards smoothquant and cpu-inference, groups, static ranges, refusals; codes equal fake values.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>
#include "number/format/act.h"

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

static oz_act act_of(const char *text)
{
    oz_spec *spec;
    oz_act a;
    if (oz_spec_parse(&spec, text, NULL, arena) || oz_act_from_spec(&a, spec, NULL)) fail_msg("%s", oz_message());
    return a;
}

/* cpu-inference:2 g = 4, x = (1, -2, 0.5, 0): codes 64, -127, 32, 0: 63.5 goes to the even 64. */
static void hand_example(void **state)
{
    float x[4] = {1, -2, 0.5f, 0}, scale;
    int16_t code[4];
    static const int16_t want[4] = {64, -127, 32, 0};
    oz_act a = act_of("int8@token");
    (void)state;
    oz_act_codes(&a, oz_mat_of(x, 1, 4), code, &scale, NULL);
    assert_memory_equal(code, want, sizeof want);
    assert_true(scale == 2.0f / 127);
    /* At 8 bits the lowest code is -127 even when clipping would ask for -128; at 4 bits -8 exists. */
    float y[2] = {-1, 0.5f};
    a = act_of("int8.clip(0.9)@token");
    oz_act_codes(&a, oz_mat_of(y, 1, 2), code, &scale, NULL);
    assert_int_equal(code[0], -127);
    a = act_of("int4.clip(0.5)@token");
    oz_act_codes(&a, oz_mat_of(y, 1, 2), code, &scale, NULL);
    assert_int_equal(code[0], -8);
    /* asym: lo = -1, hi = 2, 2 bits: step 1, z = 1. */
    float z[4] = {-1, 0.4f, 1.6f, 2};
    a = act_of("int2.asym@token");
    oz_act_fake(&a, oz_mat_of(z, 1, 4), NULL);
    static const float wantz[4] = {-1, 0, 2, 2};
    assert_memory_equal(z, wantz, sizeof wantz);
}

static void codes_are_fake_values(void **state)
{
    static const char *const all[] = {"int8@token",
                                      "int8@32",
                                      "int8@tensor",
                                      "int4.asym@64",
                                      "int8.asym@token",
                                      "int8.static@tensor",
                                      "int8.asym.static@tensor",
                                      "int5.clip(0.8)@100",
                                      "int2@token"};
    enum { T = 3, N = 700 };
    (void)state;
    for (size_t k = 0; k < sizeof all / sizeof *all; k++) {
        oz_act a = act_of(all[k]);
        a.range_lo = -1.5f, a.range_hi = 2;
        float x[T * N], fake[T * N], scale[T * N];
        int16_t code[T * N];
        for (int i = 0; i < T * N; i++)
            x[i] = (float)oz_rng_normal((oz_rng){3, k}, (uint64_t)i) * (i < N ? 0 : 1); /* the first token is all zeros */
        memcpy(fake, x, sizeof x);
        int64_t sat = 0, sat2 = 0, over = 0, run = oz_act_run(&a, N), runs = (N + run - 1) / run;
        oz_act_fake(&a, oz_mat_of(fake, T, N), &sat);
        oz_act_codes(&a, oz_mat_of(x, T, N), code, scale, &sat2);
        for (int t = 0; t < T; t++)
            for (int j = 0; j < N; j++) assert_true(fake[t * N + j] == scale[t * runs + j / run] * (float)code[t * N + j]);
        for (int i = 0; i < T * N; i++) over += a.asym ? x[i] < -1.53f || x[i] > 2.03f : fabsf(x[i]) > 2.03f;
        assert_int_equal(sat, sat2);
        assert_true(a.is_static ? sat >= over && sat < over + 30 && sat > 0 : sat == 0);
        float again[T * N];
        memcpy(again, fake, sizeof again);
        if (a.is_static || (!a.asym && a.clip == 1)) { /* a fixed point: the range is kept */
            oz_act_fake(&a, oz_mat_of(again, T, N), NULL);
            for (int i = 0; i < T * N; i++) assert_true(fabsf(again[i] - fake[i]) < 1e-5f);
        }
    }
}

static void refused(const char *text, const char *part)
{
    oz_spec *spec;
    oz_act a;
    assert_int_equal(oz_spec_parse(&spec, text, NULL, arena), OZ_OK);
    assert_int_equal(oz_act_from_spec(&a, spec, "mine.yaml:3: pass \"acts\""), OZ_ERR_UNSUPPORTED);
    if (!strstr(oz_message(), part) || !strstr(oz_message(), spec->text) || strncmp(oz_message(), "mine.yaml:3: pass \"acts\": ", 26))
        fail_msg("%s: \"%s\" lacks \"%s\"", text, oz_message(), part);
}

static void refusals(void **state)
{
    (void)state;
    refused("f16", "no format for activations");
    refused("gguf.q8_0", "no format for activations");
    refused("int8.zf@token", "symmetric or .asym");
    refused("int1.asym@token", "2 to 8 bits");
    refused("int8@row", "do not have this group");
    refused("int8@head", "do not have this group");
    refused("int8.static@token", "one for the whole tensor");
    refused("int8@token:f32", "always f32");
    refused("int8@token+cols(1%)", "no sidecars");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(hand_example), cmocka_unit_test(codes_are_fake_values), cmocka_unit_test(refusals)};
    return cmocka_run_group_tests(tests, setup, teardown);
}

/* dot.c: the integer products of every level against the portable definition: the same bits, with random and with the most extreme codes,
 * short last runs, and guard pages at both ends of everything that is read or written. */
#include "kernel/guard.h"

enum { RANDOM, ALL_MAX, MAX_NEGATIVE, ZERO, ALTERNATING, FILLS };

static oz_kernels table[OZ_ISA_COUNT];
static oz_isa level[OZ_ISA_COUNT];
static int levels;

static uint8_t code_byte(int fill, uint64_t *s, size_t i)
{
    switch (fill) {
    case ALL_MAX:
    case MAX_NEGATIVE:
        return 255;
    case ZERO:
        return 0;
    case ALTERNATING:
        return i & 1 ? 255 : 0;
    default:
        return (uint8_t)next_random(s);
    }
}
static int8_t act_byte(int fill, uint64_t *s, size_t i)
{
    switch (fill) {
    case ALL_MAX:
        return 127;
    case MAX_NEGATIVE:
        return -128; /* asymmetric activations reach it */
    case ZERO:
        return 0;
    case ALTERNATING:
        return i & 1 ? -127 : 127;
    default:
        return (int8_t)next_random(s);
    }
}

static void one_case(int width, int mt, int64_t kpad, int64_t run, int64_t per_group, int fill, int extras, int at_end, uint64_t *s)
{
    int64_t runs = (kpad + run - 1) / run, groups = (runs + per_group - 1) / per_group;
    size_t code_bytes = (size_t)(kpad * 16 * (2 << width) / 8), n = (size_t)(runs * mt), ng = (size_t)(groups * 16);
    guarded codes = guarded_new(code_bytes, at_end), x = guarded_new((size_t)(kpad * mt), at_end), init = guarded_new(n * 4, at_end);
    guarded xsum = guarded_new(n * 4, at_end), a = guarded_new(n * 4, at_end), az = guarded_new(n * 4, at_end),
            out = guarded_new((size_t)mt * 64, at_end);
    guarded s16 = guarded_new(ng * 2, at_end), s32 = guarded_new(ng * 4, at_end), zero = guarded_new(ng, at_end),
            shift = guarded_new(ng * 4, at_end);
    guarded wsum = guarded_new((size_t)runs * 64, at_end);
    for (size_t i = 0; i < code_bytes; i++) ((uint8_t *)codes.p)[i] = code_byte(fill, s, i);
    for (size_t i = 0; i < (size_t)(kpad * mt); i++) ((int8_t *)x.p)[i] = act_byte(fill, s, i);
    for (int64_t f = 0; f < runs; f++)
        for (int t = 0; t < mt; t++) {
            int32_t sum = 0;
            for (int64_t k = f * run; k < (f + 1) * run && k < kpad; k++) sum += ((int8_t *)x.p)[k / 4 * 4 * mt + 4 * t + k % 4];
            ((int32_t *)init.p)[f * mt + t] = -sum * (1 << ((2 << width) - 1));
            ((float *)xsum.p)[f * mt + t] = (float)sum;
            ((float *)a.p)[f * mt + t] = extras ? 0.01f * (1 + fabsf(next_normal(s))) : 1;
            ((float *)az.p)[f * mt + t] = next_normal(s);
        }
    for (size_t i = 0; i < ng; i++) {
        ((uint16_t *)s16.p)[i] = oz_f32_to_f16(extras ? 0.1f + fabsf(next_normal(s)) : 1);
        ((float *)s32.p)[i] = 0.1f + fabsf(next_normal(s));
        ((int8_t *)zero.p)[i] = (int8_t)(next_random(s) % 31 - 15);
        ((float *)shift.p)[i] = next_normal(s);
    }
    for (int64_t i = 0; i < runs * 16; i++) ((float *)wsum.p)[i] = next_normal(s);
    oz_dot d = {.codes = codes.p,
                .x = x.p,
                .kpad = kpad,
                .run = run,
                .runs = runs,
                .runs_per_group = per_group,
                .init = init.p,
                .xsum = xsum.p,
                .a = a.p,
                .out = out.p};
    if (extras & 4)
        d.scale32 = s32.p;
    else
        d.scale16 = s16.p;
    if (extras & 1) d.zero = zero.p;
    if (extras & 2) d.shift = shift.p;
    if (extras & 8) d.wsum = wsum.p, d.az = az.p;
    float want[12 * 16];
    table[0].dot.dot[width](&d, mt);
    memcpy(want, out.p, sizeof(float) * 16 * (size_t)mt);
    if (!extras) /* scales of 1: below 2^24 the result is the integer itself */
        for (int t = 0; t < mt && runs == 1; t++)
            for (int r = 0; r < 16; r++) {
                int64_t sum = 0;
                for (int64_t k = 0; k < kpad; k++) {
                    int step = width == OZ_TILE_2 ? 16 : width == OZ_TILE_4 ? 8 : 4, bits = 2 << width;
                    int u = ((uint8_t *)codes.p)[64 * (k / step) + 4 * r + k % 4] >> (bits * (k % step / 4)) & ((1 << bits) - 1);
                    sum += (u - (1 << (bits - 1))) * ((int8_t *)x.p)[k / 4 * 4 * mt + 4 * t + k % 4];
                }
                if (want[16 * t + r] != (float)sum)
                    fail_msg("portable b%d mt %d kpad %d: %g instead of %lld", 2 << width, mt, (int)kpad, (double)want[16 * t + r],
                             (long long)sum);
            }
    for (int l = 1; l < levels; l++) {
        memset(out.p, 255, (size_t)mt * 64);
        table[l].dot.dot[width](&d, mt);
        if (memcmp(out.p, want, (size_t)mt * 64))
            fail_msg("%s differs: width %d, %d tokens, kpad %d, run %d, fill %d, extras %d", oz_isa_name(level[l]), 2 << width, mt,
                     (int)kpad, (int)run, fill, extras);
    }
    guarded *all[] = {&codes, &x, &init, &xsum, &a, &az, &out, &s16, &s32, &zero, &shift, &wsum};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) guarded_free(all[i]);
}

/* cpu-inference:1 smoothquant:4 (bitwise independent of the instruction set) */
static void every_level_equals_the_definition(void **state)
{
    (void)state;
    static const int64_t shape[][3] = {{16, 16, 1},  {48, 48, 1},   {32, 16, 2},   {576, 128, 1},
                                       {576, 32, 4}, {592, 592, 1}, {1536, 64, 2}, {80, 32, 1}};
    uint64_t s = 0;
    for (int width = 0; width < OZ_TILE_WIDTHS; width++)
        for (int mt = 1; mt <= OZ_TILE_TOKENS; mt++)
            for (size_t c = 0; c < sizeof shape / sizeof *shape; c++)
                for (int fill = 0; fill < FILLS; fill++) {
                    int extras = (int)(next_random(&s) % 16);
                    one_case(width, mt, shape[c][0], shape[c][1], shape[c][2], fill, fill % 2 ? 0 : extras, mt & 1, &s);
                }
}

int main(void)
{
    levels = levels_here(table, level);
    printf("levels:");
    for (int l = 0; l < levels; l++) printf(" %s", oz_isa_name(level[l]));
    printf("\n");
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_level_equals_the_definition)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

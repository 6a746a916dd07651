/* machine.c: instruction-set levels, what they build on, OUNCE_ISA, and the facts about this machine. */
#include "ounce/machine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define B(level) OZ_ISA_BIT(OZ_ISA_##level)

static void names_and_bases(void **state)
{
    (void)state;
    for (int i = 0; i < OZ_ISA_COUNT; i++) {
        oz_isa back;
        assert_int_equal(oz_isa_parse(oz_isa_name((oz_isa)i), &back), OZ_OK);
        assert_int_equal(back, i);
    }
    assert_int_equal(oz_isa_builds_on(OZ_ISA_PORTABLE), B(PORTABLE));
    assert_int_equal(oz_isa_builds_on(OZ_ISA_AVX_VNNI), B(PORTABLE) | B(AVX2) | B(AVX_VNNI));
    assert_int_equal(oz_isa_builds_on(OZ_ISA_AMX), B(PORTABLE) | B(AVX2) | B(AVX512) | B(AVX512_VNNI) | B(AMX));
    assert_int_equal(oz_isa_builds_on(OZ_ISA_I8MM), B(PORTABLE) | B(NEON) | B(NEON_DOT) | B(I8MM));
    oz_isa level;
    assert_int_equal(oz_isa_parse("avx52", &level), OZ_ERR_KEY);
    assert_string_equal(oz_message(), "there is no instruction-set level \"avx52\"; nearest is \"avx2\"");
    assert_int_equal(oz_isa_parse("avx512_vnni", &level), OZ_ERR_KEY);
    assert_non_null(strstr(oz_message(), "nearest is \"avx512-vnni\""));
}

static void environment_masks(void **state)
{
    (void)state;
    uint32_t cpu = oz_cpu_isa(), bits;
    assert_true(cpu & B(PORTABLE));
    /* Whatever the CPU has, it has all that its levels build on. */
    for (int i = 0; i < OZ_ISA_COUNT; i++)
        if (cpu & OZ_ISA_BIT(i)) assert_int_equal(oz_isa_builds_on((oz_isa)i) & ~cpu, 0);
    oz_isa_force(0); /* read again */
    setenv("OUNCE_ISA", "portable", 1);
    assert_int_equal(oz_isa_active(&bits), OZ_OK);
    assert_int_equal(bits, B(PORTABLE));
    setenv("OUNCE_ISA", "avx2", 1); /* read once: no effect */
    assert_int_equal(oz_isa_active(&bits), OZ_OK);
    assert_int_equal(bits, B(PORTABLE));
    oz_isa_force(0);
    setenv("OUNCE_ISA", "axv2", 1);
    assert_int_equal(oz_isa_active(&bits), OZ_ERR_KEY);
    assert_string_equal(oz_message(), "OUNCE_ISA: there is no instruction-set level \"axv2\"; nearest is \"avx2\"");
    const char *other = cpu & B(AVX2) ? "i8mm" : "amx";
    setenv("OUNCE_ISA", other, 1);
    assert_int_equal(oz_isa_active(&bits), OZ_ERR_UNSUPPORTED);
    assert_non_null(strstr(oz_message(), "not supported by this CPU"));
    assert_non_null(strstr(oz_message(), other));
    unsetenv("OUNCE_ISA");
    assert_int_equal(oz_isa_active(&bits), OZ_OK);
    assert_int_equal(bits, cpu);
    oz_isa_force(B(PORTABLE) | B(AVX2));
    assert_int_equal(oz_isa_active(&bits), OZ_OK);
    assert_int_equal(bits, B(PORTABLE) | B(AVX2));
    oz_isa_force(0);
}

static void facts(void **state)
{
    (void)state;
    oz_machine m;
    oz_machine_read(&m);
    assert_true(m.cpu[0] && m.threads >= 1 && m.cores >= 1 && m.memory > 0);
    assert_int_equal(m.isa, oz_cpu_isa());
    assert_true(!m.l1d || (m.l1d >= 4096 && m.l1d <= (uint64_t)16 << 20));
}

static void peaks(void **state)
{
    (void)state;
    oz_pool *pool;
    oz_peaks p, again;
    assert_int_equal(oz_pool_new(&pool, 0), OZ_OK);
    assert_int_equal(oz_machine_peaks(pool, &p), OZ_OK);
    print_message("read %.1f GB/s, f32 %.0f GFLOP/s, i8 %.0f GOP/s, bf16 %.0f GFLOP/s\n", p.read_gbs, p.f32_gflops, p.i8_gops,
                  p.bf16_gflops);
    assert_true(p.read_gbs > 0.1 && p.read_gbs < 20000 && p.f32_gflops > 0.1 && p.f32_gflops < 1e6);
    double start = oz_seconds();
    assert_int_equal(oz_machine_peaks(pool, &again), OZ_OK); /* cached */
    assert_true(oz_seconds() - start < 0.05);
    assert_memory_equal(&p, &again, sizeof p);
    oz_pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(names_and_bases), cmocka_unit_test(environment_masks), cmocka_unit_test(facts),
                                       cmocka_unit_test(peaks)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

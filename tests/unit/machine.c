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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(names_and_bases), cmocka_unit_test(environment_masks), cmocka_unit_test(facts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

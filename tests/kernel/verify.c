/* verify.c: the check that `ounce bench kernels --verify` runs finds nothing on any level of this CPU. */
#include "kernel/guard.h"

static void nothing_wrong_on_any_level(void **state)
{
    (void)state;
    for (int l = 0; l < OZ_ISA_COUNT; l++) {
        if (!(oz_cpu_isa() & OZ_ISA_BIT(l))) continue;
        oz_cell_check check[OZ_CELL_COUNT];
        oz_cell_info before[OZ_CELL_COUNT], after[OZ_CELL_COUNT];
        assert_int_equal(oz_kernel_cells(before), OZ_OK);
        assert_int_equal(oz_kernels_verify(oz_isa_builds_on((oz_isa)l), check, getenv("OUNCE_TEST_TIMES") ? 20 : 0), OZ_OK);
        assert_int_equal(oz_kernel_cells(after), OZ_OK);
        for (int c = 0; c < OZ_CELL_COUNT; c++) {
            if (!check[c].ok) fail_msg("%s on %s: error %g", check[c].name, oz_isa_name(check[c].isa), check[c].error);
            assert_true(after[c].calls - before[c].calls >= 48);
            assert_int_equal(check[c].calls, after[c].calls - before[c].calls);
            assert_true(OZ_ISA_BIT(check[c].isa) & oz_isa_builds_on((oz_isa)l));
            if (getenv("OUNCE_TEST_TIMES"))
                printf("%-12s %-14s from %-12s %8.2f us (portable %8.2f us) %7.1f GOP/s, error %.1e\n", oz_isa_name((oz_isa)l),
                       check[c].name, oz_isa_name(check[c].isa), check[c].seconds * 1e6, check[c].portable_seconds * 1e6,
                       check[c].ops / check[c].seconds * 1e-9, check[c].error);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(nothing_wrong_on_any_level)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

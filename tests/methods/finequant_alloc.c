/* finequant_alloc.c: allocate/threshold and the range measure (card finequant, C and D). */
#include "quantize_fixture.h"

static const char *const chain[] = {"int4@row", "int4@512", "int4@256", "int4@128", "int4@64"};

static const oz_allocator *threshold(void)
{
    int n;
    const oz_allocator *const *all = oz_allocators(&n);
    for (int k = 0; k < n; k++)
        if (strcmp(all[k]->entry.name, "threshold") == 0) return all[k];
    return NULL;
}

/* Index chosen for one matrix at this alpha. */
static int choose(oz_mat w, const char *set, bool max_range, double *cost)
{
    oz_arena *arena;
    OK(oz_arena_new(&arena, 0));
    oz_candidate c[5];
    for (int k = 0; k < 5; k++) {
        oz_spec *spec;
        oz_fmt f;
        OK(oz_spec_parse(&spec, chain[k], "test", arena));
        OK(oz_fmt_bind(&f, spec, w.rows, w.cols, "test"));
        c[k] = (oz_candidate){.spec = spec, .bits = spec->type->bits(&f)};
        OK(oz_sensitivity_range(w, spec, max_range, &c[k].cost));
        if (cost) cost[k] = c[k].cost;
    }
    oz_unit u = {.name = "w", .weights = w.rows * w.cols, .c = c, .n = 5};
    const oz_allocator *t = threshold();
    void *opt = oz_arena_zalloc(arena, t->entry.options_size);
    oz_options_init(&t->entry, opt);
    char name[32], value[32];
    if (set && sscanf(set, "%31[a-z]=%31s", name, value) == 2) OK(oz_option_set(&t->entry, opt, name, value, "test", arena));
    OK(t->allocate(opt, &u, 1, 0, NULL));
    oz_arena_free(arena);
    return u.chosen;
}

/* finequant:3 constant |w| stays at row; a Gaussian with one outlier of 100 a row ends at 64; R(g/2) <= R(g); alpha 1 gives 64, alpha 0
 * row. */
static void heuristic(void **state)
{
    (void)state;
    enum { M = 24, N = 1024 };
    float *w = random_matrix(M, N, 21), *flat = random_matrix(M, N, 22);
    for (int i = 0; i < M; i++) w[i * N + (i * 131) % N] = 100;
    for (int i = 0; i < M * N; i++) flat[i] = flat[i] > 0 ? 0.5f : -0.5f;
    double cost[5];
    oz_mat outliers = oz_mat_of(w, M, N), constant = oz_mat_of(flat, M, N);
    assert_int_equal(choose(outliers, NULL, false, cost), 4);
    for (int k = 1; k < 5; k++) assert_true(cost[k] <= cost[k - 1]);
    assert_int_equal(choose(constant, NULL, false, cost), 0);
    for (int k = 0; k < 5; k++) NEAR(cost[k], 0.25 * M * N, 1e-6);
    for (int max_range = 0; max_range < 2; max_range++) {
        assert_int_equal(choose(outliers, "alpha=1", max_range, NULL), 4);
        assert_int_equal(choose(constant, "alpha=1", max_range, NULL), 4);
        assert_int_equal(choose(outliers, "alpha=0", max_range, NULL), 0);
        assert_int_equal(choose(constant, "alpha=0", max_range, NULL), 0);
    }
    oz_free(w);
    oz_free(flat);
}

/* Sizes of a whole row or more are the row again and are passed over: in 256 inputs the chain is row, 128, 64; in 64 it is row alone. */
static void short_rows(void **state)
{
    (void)state;
    enum { M = 16, N = 256 };
    float *w = random_matrix(M, N, 23);
    for (int i = 0; i < M; i++) w[i * N + (i * 37) % N] = 100;
    assert_int_equal(choose(oz_mat_of(w, M, N), NULL, false, NULL), 4);
    assert_int_equal(choose(oz_mat_of(w, M * 4, 64), "alpha=1", false, NULL), 0);
    oz_free(w);
}

static void other_rule_and_refusals(void **state)
{
    (void)state;
    const oz_allocator *t = threshold();
    oz_arena *arena;
    OK(oz_arena_new(&arena, 0));
    void *opt = oz_arena_zalloc(arena, t->entry.options_size);
    oz_options_init(&t->entry, opt);
    OK(oz_option_set(&t->entry, opt, "rule", "absolute", "test", arena));
    OK(oz_option_set(&t->entry, opt, "limit", "2.5", "test", arena));
    oz_candidate c[3] = {{.bits = 1, .cost = 5}, {.bits = 2, .cost = 2}, {.bits = 3, .cost = 1}};
    oz_unit u = {.name = "w", .c = c, .n = 3};
    OK(t->allocate(opt, &u, 1, 0, NULL));
    assert_int_equal(u.chosen, 1);
    OK(oz_option_set(&t->entry, opt, "limit", "0.5", "test", arena));
    OK(t->allocate(opt, &u, 1, 0, NULL));
    assert_int_equal(u.chosen, 2);
    assert_non_null(strstr(t->refuses(opt, true), "cannot meet a budget"));
    assert_int_equal(t->allocate(opt, &u, 1, 100, NULL), OZ_ERR_BUDGET);
    u.n = 0;
    assert_int_equal(t->allocate(opt, &u, 1, 0, NULL), OZ_ERR_RANGE);
    assert_string_equal(oz_message(), "allocate threshold: w has no candidate formats");
    oz_arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(heuristic), cmocka_unit_test(short_rows),
                                       cmocka_unit_test(other_rule_and_refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Recipes: parsing, names of passes, overrides, techniques' options, refusals by message, the resolved record; every shipped recipe. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "ounce/recipe.h"

static const char *const plain =
    "name: t\npasses:\n  - {do: quantize, name: weights, where: all, format: int4.asym@128, fit: minmax, solver: gptq, damp: 0.05}\n"
    "  - {do: activations, format: int8@token}\n  - {do: activations, where: down, format: none}\n";

static oz_recipe *parsed(const char *text, const char *const *set, int nset)
{
    oz_recipe *r = NULL;
    oz_status s = oz_recipe_parse(&r, text, strlen(text), "t.yaml", set, nset);
    if (s) fail_msg("%s", oz_message());
    return r;
}

static void refused(const char *text, const char *const *set, int nset, oz_status status, const char *message)
{
    oz_recipe *r = NULL;
    assert_int_equal(oz_recipe_parse(&r, text, strlen(text), "t.yaml", set, nset), status);
    assert_null(r);
    if (strcmp(oz_message(), message)) fail_msg("said: %s\nexpected: %s", oz_message(), message);
}

static void passes_are_named_and_read(void **state)
{
    (void)state;
    oz_recipe *r = parsed(plain, NULL, 0);
    assert_int_equal(r->npass, 3);
    assert_string_equal(r->pass[0].name, "weights");
    assert_string_equal(r->pass[1].name, "activations");
    assert_string_equal(r->pass[2].name, "activations-2");
    assert_string_equal(r->pass[0].solver->entry.name, "gptq");
    assert_string_equal(r->pass[0].spec->text, "int4.asym@128");
    assert_int_equal(r->pass[1].act.bits, 8);
    assert_int_equal(r->pass[2].act.kind, 0);
    oz_recipe_free(r);
}

static void overrides_reach_passes_and_sections(void **state)
{
    (void)state;
    const char *set[] = {"weights.format=int3@64", "activations-2.enabled=false", "calibration.samples=8", "seed=5", "weights.damp=0.2"};
    oz_recipe *r = parsed(plain, set, 5);
    assert_string_equal(r->pass[0].spec->text, "int3@64");
    assert_false(r->pass[2].enabled);
    assert_int_equal(r->samples, 8);
    assert_int_equal(r->seed, 5);
    oz_arena *a = NULL;
    assert_int_equal(oz_arena_new(&a, 0), OZ_OK);
    const oz_node *resolved = oz_recipe_resolved(r, a), *weights = oz_node_at(oz_node_get(resolved, "passes"), 0);
    assert_string_equal(oz_node_text(oz_node_get(weights, "damp"), ""), "0.2");
    assert_string_equal(oz_node_text(oz_node_get(weights, "format"), ""), "int3@64");
    assert_non_null(oz_node_get(weights, "block")); /* defaults are recorded too */
    oz_arena_free(a);
    oz_recipe_free(r);
}

static void errors_name_the_place_and_the_nearest_word(void **state)
{
    (void)state;
    const char *pass = "name: t\npasses:\n  - {do: quantize, name: weights, solver: gptq, damp_precent: 1}\n";
    refused(pass, NULL, 0, OZ_ERR_KEY,
            "t.yaml:3: pass \"weights\": no option \"damp_precent\" (quantize, fit minmax, solver gptq); nearest is \"damp\"");
    refused("name: t\npasses:\n  - {do: quantise}\n", NULL, 0, OZ_ERR_KEY,
            "t.yaml:3: pass \"quantise\": there is no verb \"quantise\"; nearest is \"quantize\"");
    refused("name: t\npasses:\n  - {do: tune}\n", NULL, 0, OZ_ERR_UNSUPPORTED, "t.yaml:3: pass \"tune\": the verb 'tune' is not built yet");
    refused("name: t\nbudget: {bpv: 3}\npasses: []\n", NULL, 0, OZ_ERR_KEY, "t.yaml:2: 'budget' has no key \"bpv\"; nearest is \"bpw\"");
    refused("name: t\npasses:\n  - {do: quantize, format: allocated}\n", NULL, 0, OZ_ERR_KEY,
            "t.yaml:3: pass \"quantize\": format 'allocated', but no pass before it allocates");
    const char *set[] = {"weigths.format=int3@64"};
    refused(plain, set, 1, OZ_ERR_KEY, "--set weigths.format=int3@64: no pass is named \"weigths\"; nearest is \"weights\"");
    const char *none[] = {"weights"};
    refused(plain, none, 1, OZ_ERR_KEY, "--set weights: there is no '=' after a key");
    refused("passes: []\n", NULL, 0, OZ_ERR_KEY, "t.yaml: key 'name' is missing");
    refused("- a\n", NULL, 0, OZ_ERR_PARSE, "t.yaml: a recipe is a map of sections, found something else");
}

static void shipped_recipes_parse(void **state)
{
    (void)state;
    assert_int_equal(setenv("OUNCE_RECIPES", OUNCE_SOURCE_DIR "/recipes", 1), 0);
    char **names = NULL;
    assert_int_equal(oz_recipe_names(&names), OZ_OK);
    int n = 0;
    for (; names[n]; n++) {
        oz_recipe *r = NULL;
        if (oz_recipe_open(&r, names[n], NULL, 0)) fail_msg("%s: %s", names[n], oz_message());
        assert_string_equal(r->name, names[n]);
        oz_recipe_free(r);
    }
    assert_true(n >= 6);
    oz_free(names);
    oz_recipe *r = NULL;
    assert_int_equal(oz_recipe_open(&r, "gtpq", NULL, 0), OZ_ERR_KEY);
    assert_string_equal(oz_message(), "no recipe is named \"gtpq\"; nearest is \"gptq\"");
}

#ifdef OUNCE_FAULTS
static void survives_failing_allocations(void **state)
{
    (void)state;
    for (int64_t n = 1; n < 4000; n++) {
        oz_recipe *r = NULL;
        oz_fault_alloc(n);
        oz_status s = oz_recipe_parse(&r, plain, strlen(plain), "t.yaml", NULL, 0);
        oz_fault_alloc(0);
        if (!s) {
            oz_recipe_free(r);
            return;
        }
        assert_null(r);
    }
    fail_msg("every one of 4000 allocations failed the parser");
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(passes_are_named_and_read),
        cmocka_unit_test(overrides_reach_passes_and_sections),
        cmocka_unit_test(errors_name_the_place_and_the_nearest_word),
        cmocka_unit_test(shipped_recipes_parse),
#ifdef OUNCE_FAULTS
        cmocka_unit_test(survives_failing_allocations),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

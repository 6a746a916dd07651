/* Recipes are untrusted text: YAML, then every technique's option table, then format strings. */
#include "ounce/recipe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    oz_recipe *r = NULL;
    if (!size || size > 1 << 16) return 0;
#ifdef OUNCE_FAULTS
    oz_fault_alloc(data[0] < 128 ? 0 : (data[0] - 127) * 3);
#endif
    oz_status s = oz_recipe_parse(&r, (const char *)data + 1, size - 1, "fuzz.yaml", NULL, 0);
#ifdef OUNCE_FAULTS
    oz_fault_alloc(0);
#endif
    if (!s) oz_recipe_free(r);
    return 0;
}

/* registry.c: the sidecar hooks of this folder as an array. */
#include "ounce/quantize.h"
#include "list.h"

#define DECLARE(name) extern const oz_sidecar_hook oz_sidecar_hook_##name;
#define ADDRESS(name) &oz_sidecar_hook_##name,
OZ_SIDECAR_HOOKS(DECLARE)
static const oz_sidecar_hook *const hooks[] = {OZ_SIDECAR_HOOKS(ADDRESS)};

const oz_sidecar_hook *const *oz_sidecar_hooks(int *n)
{
    *n = (int)(sizeof hooks / sizeof *hooks);
    return hooks;
}

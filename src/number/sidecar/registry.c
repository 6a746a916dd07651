/* number/sidecar/registry.c: the sidecars that exist (list.h), and the end of one in memory. */
#include "number/sidecar/list.h"
#include "number/format/format_internal.h"
#include "ounce/linear.h"

#define OZ_SIDECAR_EXTERN(name) extern const oz_sidecar_type oz_sidecar_##name;
OZ_SIDECARS(OZ_SIDECAR_EXTERN)

const oz_sidecar_type *const *oz_sidecar_types(int *n)
{
#define OZ_SIDECAR_AT(name) &oz_sidecar_##name,
    static const oz_sidecar_type *const all[] = {OZ_SIDECARS(OZ_SIDECAR_AT)};
#undef OZ_SIDECAR_AT
    *n = (int)(sizeof all / sizeof *all);
    return all;
}

void oz_sidecar_drop(oz_sidecar *s)
{
    for (int i = 0; i < s->n; i++) oz_array_drop(&s->a[i]);
    oz_free(s->a);
    s->a = NULL;
    s->n = 0;
}

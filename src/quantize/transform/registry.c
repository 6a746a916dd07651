/* registry.c: the transforms of this folder as an array. */
#include "ounce/quantize.h"
#include "list.h"

#define DECLARE(name) extern const oz_transform oz_transform_##name;
#define ADDRESS(name) &oz_transform_##name,
OZ_TRANSFORMS(DECLARE)
static const oz_transform *const transforms[] = {OZ_TRANSFORMS(ADDRESS)};

const oz_transform *const *oz_transforms(int *n)
{
    *n = (int)(sizeof transforms / sizeof *transforms);
    return transforms;
}

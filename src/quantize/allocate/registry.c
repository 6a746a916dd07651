/* registry.c: the allocators of this folder as an array. */
#include "ounce/quantize.h"
#include "list.h"

#define DECLARE(name) extern const oz_allocator oz_allocator_##name;
#define ADDRESS(name) &oz_allocator_##name,
OZ_ALLOCATORS(DECLARE)
static const oz_allocator *const allocators[] = {OZ_ALLOCATORS(ADDRESS)};

const oz_allocator *const *oz_allocators(int *n)
{
    *n = (int)(sizeof allocators / sizeof *allocators);
    return allocators;
}

/* registry.c: the solvers of this folder as an array. */
#include "ounce/quantize.h"
#include "list.h"

#define DECLARE(name) extern const oz_solver oz_solver_##name;
#define ADDRESS(name) &oz_solver_##name,
OZ_SOLVERS(DECLARE)
static const oz_solver *const solvers[] = {OZ_SOLVERS(ADDRESS)};

const oz_solver *const *oz_solvers(int *n)
{
    *n = (int)(sizeof solvers / sizeof *solvers);
    return solvers;
}

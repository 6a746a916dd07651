/* solver.h: what the solvers of this folder share. */
#ifndef OUNCE_QUANTIZE_SOLVER_H
#define OUNCE_QUANTIZE_SOLVER_H
#include "ounce/quantize.h"

/* Allocates codes, w_hat and compensated of a solution for this format; params are left empty. */
oz_status oz_solution_new(oz_solution *, const oz_fmt *);

/* Bit j of row i of a mask of `ld` words a row. */
static inline bool oz_mask_bit(const uint64_t *mask, int64_t ld, int64_t i, int64_t j) { return mask[i * ld + (j >> 6)] >> (j & 63) & 1; }
static inline void oz_mask_set(uint64_t *mask, int64_t ld, int64_t i, int64_t j) { mask[i * ld + (j >> 6)] |= (uint64_t)1 << (j & 63); }
static inline int64_t oz_mask_words(int64_t n) { return (n + 63) / 64; }
/* keep OR zero, or whichever is there; *owned is to be freed. */
oz_status oz_mask_union(const uint64_t *a, const uint64_t *b, int64_t m, int64_t n, const uint64_t **mask, uint64_t **owned);

/* Integer grids count codes that the ends of the range clamped: the step, or 0 for grids where the notion has no meaning. */
bool oz_counts_clipped(const oz_fmt *);
#endif

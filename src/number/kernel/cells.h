/* number/kernel/cells.h: what the files of this folder share: who fills which cells, and reading scales. */
#ifndef OUNCE_KERNEL_CELLS_H
#define OUNCE_KERNEL_CELLS_H
#include "number/kernel/kernel.h"

#include <string.h>

/* One function a file; each overwrites the cells it does better and says so in `from`. */
void oz_cells_portable(oz_kernels *);
#if defined(__x86_64__)
void oz_cells_avx2(oz_kernels *);
void oz_cells_avx2_fp(oz_kernels *);
void oz_cells_avxvnni(oz_kernels *);
void oz_cells_avx512(oz_kernels *);
void oz_cells_avx512_fp(oz_kernels *);
void oz_cells_avx512vnni(oz_kernels *);
#endif

/* Inputs per 64-byte vector, centre c. */
static inline int64_t oz_tile_step(int width) { return width == OZ_TILE_2 ? 16 : width == OZ_TILE_4 ? 8 : 4; }
static inline int oz_tile_bits(int width) { return 2 << width; }
static inline int oz_tile_centre(int width) { return 1 << (oz_tile_bits(width) - 1); }

/* End of a run of F inputs that starts at k. */
static inline int64_t oz_run_end(int64_t k, int64_t run, int64_t kpad) { return kpad - k < run ? kpad : k + run; }

static inline int32_t oz_load4(const int8_t *p)
{
    int32_t v;
    memcpy(&v, p, 4);
    return v;
}
#endif

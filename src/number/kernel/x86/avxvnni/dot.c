/* number/kernel/x86/avxvnni/dot.c: integer products with the 256-bit vpdpbusd of processors without AVX-512. */
#include "number/kernel/x86/dot_256.h"

INLINE void run_sums(const uint8_t *codes, const int8_t *x, int64_t k, int64_t end, int mt, const int width, const int nt, __m256i *n)
{
    const int parts = width == OZ_TILE_8 ? 1 : width == OZ_TILE_4 ? 2 : 4, step = 4 * parts;
    for (; k < end; k += step, codes += 64) {
        __m256i w = _mm256_loadu_si256((const void *)codes);
        for (int h = 0; h < parts; h++, x += 4 * mt) {
            __m256i u = part(w, width, h);
            for (int t = 0; t < nt; t++) n[t] = _mm256_dpbusd_avx_epi32(n[t], u, token4(x + 4 * t));
        }
    }
}

static void dot2(const oz_dot *p, int mt) { dot_any(p, OZ_TILE_2, mt); }
static void dot4(const oz_dot *p, int mt) { dot_any(p, OZ_TILE_4, mt); }
static void dot8(const oz_dot *p, int mt) { dot_any(p, OZ_TILE_8, mt); }

void oz_cells_avxvnni(oz_kernels *k)
{
    k->dot = (oz_cells_dot){{dot2, dot4, dot8}};
    k->from[OZ_CELL_DOT2] = k->from[OZ_CELL_DOT4] = k->from[OZ_CELL_DOT8] = OZ_ISA_AVX_VNNI;
}

/* number/kernel/x86/avx2/dot.c: integer products with vpmaddubsw (why sums of 32 inputs fit in 16 bits, and how codes of 8 bits become
 * two of 4: x86/avx512/dot.c). */
#include "number/kernel/x86/dot_256.h"

INLINE void run_sums(const uint8_t *codes, const int8_t *x, int64_t k, int64_t end, int mt, const int width, const int nt, __m256i *n)
{
    const int parts = width == OZ_TILE_8 ? 1 : width == OZ_TILE_4 ? 2 : 4, step = 4 * parts;
    const __m256i ones = _mm256_set1_epi16(1);
    while (k < end) {
        __m256i lo[4], hi[4];
        for (int t = 0; t < nt; t++) lo[t] = hi[t] = _mm256_setzero_si256();
        for (int64_t stop = oz_run_end(k, 32, end); k < stop; k += step, codes += 64) {
            __m256i w = _mm256_loadu_si256((const void *)codes);
            for (int h = 0; h < parts; h++, x += 4 * mt) {
                __m256i u = part(w, width == OZ_TILE_8 ? OZ_TILE_4 : width, h), v = part(w, OZ_TILE_4, 1);
                for (int t = 0; t < nt; t++) {
                    __m256i x4 = token4(x + 4 * t);
                    lo[t] = _mm256_add_epi16(lo[t], _mm256_maddubs_epi16(u, x4));
                    if (width == OZ_TILE_8) hi[t] = _mm256_add_epi16(hi[t], _mm256_maddubs_epi16(v, x4));
                }
            }
        }
        for (int t = 0; t < nt; t++) {
            n[t] = _mm256_add_epi32(n[t], _mm256_madd_epi16(lo[t], ones));
            if (width == OZ_TILE_8) n[t] = _mm256_add_epi32(n[t], _mm256_madd_epi16(hi[t], _mm256_set1_epi16(16)));
        }
    }
}

static void dot2(const oz_dot *p, int mt) { dot_any(p, OZ_TILE_2, mt); }
static void dot4(const oz_dot *p, int mt) { dot_any(p, OZ_TILE_4, mt); }
static void dot8(const oz_dot *p, int mt) { dot_any(p, OZ_TILE_8, mt); }

void oz_cells_avx2(oz_kernels *k)
{
    k->dot = (oz_cells_dot){{dot2, dot4, dot8}};
    k->from[OZ_CELL_DOT2] = k->from[OZ_CELL_DOT4] = k->from[OZ_CELL_DOT8] = OZ_ISA_AVX2;
}

/* number/kernel/x86/avx512/dot.c: integer products without vpdpbusd.  vpmaddubsw adds two products u8 x s8 in 16 bits, without
 * saturating when u <= 15: 2 * 15 * 128 = 3840, and eight of them still fit (30720).  So sums of 32 inputs are kept in 16 bits and then
 * widened.  Codes of 8 bits are taken as 16 hi + lo, two 4-bit products. */
#include "number/kernel/x86/dot_512.h"

INLINE void dot_block(const oz_dot *p, const int width, const int mt)
{
    const int parts = width == OZ_TILE_8 ? 1 : width == OZ_TILE_4 ? 2 : 4, step = 4 * parts;
    const __m512i ones = _mm512_set1_epi16(1), sixteens = _mm512_set1_epi16(16);
    __m512 y[OZ_TILE_TOKENS];
    for (int t = 0; t < mt; t++) y[t] = _mm512_setzero_ps();
    const uint8_t *codes = p->codes;
    const int8_t *x = p->x;
    int64_t k = 0;
    for (int64_t f = 0; f < p->runs; f++) {
        __m512i n[OZ_TILE_TOKENS];
        for (int t = 0; t < mt; t++) n[t] = _mm512_set1_epi32(p->init[f * mt + t]);
        for (int64_t end = oz_run_end(k, p->run, p->kpad); k < end;) {
            __m512i lo[OZ_TILE_TOKENS], hi[OZ_TILE_TOKENS];
            for (int t = 0; t < mt; t++) lo[t] = hi[t] = _mm512_setzero_si512();
            for (int64_t stop = oz_run_end(k, 32, end); k < stop; k += step, codes += 64) {
                __m512i w = _mm512_loadu_si512(codes);
                for (int h = 0; h < parts; h++, x += 4 * mt) {
                    __m512i u = part(w, width == OZ_TILE_8 ? OZ_TILE_4 : width, h), v = part(w, OZ_TILE_4, 1);
                    for (int t = 0; t < mt; t++) {
                        __m512i x4 = token4(x + 4 * t);
                        lo[t] = _mm512_add_epi16(lo[t], _mm512_maddubs_epi16(u, x4));
                        if (width == OZ_TILE_8) hi[t] = _mm512_add_epi16(hi[t], _mm512_maddubs_epi16(v, x4));
                    }
                }
            }
            for (int t = 0; t < mt; t++) {
                n[t] = _mm512_add_epi32(n[t], _mm512_madd_epi16(lo[t], ones));
                if (width == OZ_TILE_8) n[t] = _mm512_add_epi32(n[t], _mm512_madd_epi16(hi[t], sixteens));
            }
        }
        flush(p, mt, f, n, y);
    }
    for (int t = 0; t < mt; t++) _mm512_storeu_ps(p->out + t * OZ_TILE_ROWS, y[t]);
}

static void dot2(const oz_dot *p, int mt) { dot_any(p, OZ_TILE_2, mt); }
static void dot4(const oz_dot *p, int mt) { dot_any(p, OZ_TILE_4, mt); }
static void dot8(const oz_dot *p, int mt) { dot_any(p, OZ_TILE_8, mt); }

void oz_cells_avx512(oz_kernels *k)
{
    k->dot = (oz_cells_dot){{dot2, dot4, dot8}};
    k->from[OZ_CELL_DOT2] = k->from[OZ_CELL_DOT4] = k->from[OZ_CELL_DOT8] = OZ_ISA_AVX512;
}

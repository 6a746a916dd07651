/* number/kernel/x86/avx512vnni/dot.c: integer products with vpdpbusd, which adds 4 products u8 x s8 to a lane exactly.  Twelve tokens keep
 * twelve integer sums in registers; one to four keep two each, because a sum waits about four cycles for the one before. */
#include "number/kernel/x86/dot_512.h"

INLINE void dot_block(const oz_dot *p, const int width, const int mt)
{
    const int parts = width == OZ_TILE_8 ? 1 : width == OZ_TILE_4 ? 2 : 4, step = 4 * parts, two = mt <= 4;
    __m512 y[OZ_TILE_TOKENS];
    for (int t = 0; t < mt; t++) y[t] = _mm512_setzero_ps();
    const uint8_t *codes = p->codes;
    const int8_t *x = p->x;
    int64_t k = 0;
    for (int64_t f = 0; f < p->runs; f++) {
        __m512i n[OZ_TILE_TOKENS], n2[4];
        for (int t = 0; t < mt; t++) n[t] = _mm512_set1_epi32(p->init[f * mt + t]);
        for (int t = 0; two && t < mt; t++) n2[t] = _mm512_setzero_si512();
        int64_t end = oz_run_end(k, p->run, p->kpad);
        if (two && width == OZ_TILE_8) /* runs are multiples of 16: always pairs of vectors */
            for (; k < end; k += 8, codes += 128, x += 8 * mt) {
                __m512i u0 = _mm512_loadu_si512(codes), u1 = _mm512_loadu_si512(codes + 64);
                for (int t = 0; t < mt; t++) n[t] = _mm512_dpbusd_epi32(n[t], u0, token4(x + 4 * t));
                for (int t = 0; t < mt; t++) n2[t] = _mm512_dpbusd_epi32(n2[t], u1, token4(x + 4 * mt + 4 * t));
            }
        for (; k < end; k += step, codes += 64) {
            __m512i w = _mm512_loadu_si512(codes);
            for (int h = 0; h < parts; h++, x += 4 * mt) {
                __m512i u = part(w, width, h);
                if (two && h & 1)
                    for (int t = 0; t < mt; t++) n2[t] = _mm512_dpbusd_epi32(n2[t], u, token4(x + 4 * t));
                else
                    for (int t = 0; t < mt; t++) n[t] = _mm512_dpbusd_epi32(n[t], u, token4(x + 4 * t));
            }
        }
        for (int t = 0; two && t < mt; t++) n[t] = _mm512_add_epi32(n[t], n2[t]);
        flush(p, mt, f, n, y);
    }
    for (int t = 0; t < mt; t++) _mm512_storeu_ps(p->out + t * OZ_TILE_ROWS, y[t]);
}

static void dot2(const oz_dot *p, int mt) { dot_any(p, OZ_TILE_2, mt); }
static void dot4(const oz_dot *p, int mt) { dot_any(p, OZ_TILE_4, mt); }
static void dot8(const oz_dot *p, int mt) { dot_any(p, OZ_TILE_8, mt); }

void oz_cells_avx512vnni(oz_kernels *k)
{
    k->dot = (oz_cells_dot){{dot2, dot4, dot8}};
    k->from[OZ_CELL_DOT2] = k->from[OZ_CELL_DOT4] = k->from[OZ_CELL_DOT8] = OZ_ISA_AVX512_VNNI;
}

/* number/kernel/x86/dot_256.h: the integer products on 256-bit vectors: each half of a tile (8 rows) on its own, four tokens at a time, so
 * that sums and operands fit in 16 registers.  The including file defines run_sums. */
#ifndef OUNCE_KERNEL_DOT_256_H
#define OUNCE_KERNEL_DOT_256_H
#include "number/kernel/cells.h"

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

/* n[t] += sums of inputs [k, end) of 8 rows for the nt tokens from x on; codes: the half's first vector at k; mt: tokens of the block. */
INLINE void run_sums(const uint8_t *codes, const int8_t *x, int64_t k, int64_t end, int mt, const int width, const int nt, __m256i *n);

INLINE __m256i part(__m256i w, const int width, const int h)
{
    if (width == OZ_TILE_8) return w;
    if (width == OZ_TILE_4) return _mm256_and_si256(h ? _mm256_srli_epi16(w, 4) : w, _mm256_set1_epi8(15));
    return _mm256_and_si256(h ? _mm256_srli_epi16(w, 2 * h) : w, _mm256_set1_epi8(3));
}

INLINE __m256i token4(const int8_t *x) { return _mm256_set1_epi32(oz_load4(x)); }

/* Rows 8 half ... 8 half + 7, tokens t0 ... t0 + nt - 1 of the block's mt. */
INLINE void dot_part(const oz_dot *p, const int width, int half, int t0, const int nt, int mt)
{
    const int step = width == OZ_TILE_8 ? 4 : width == OZ_TILE_4 ? 8 : 16;
    __m256 y[4];
    for (int t = 0; t < nt; t++) y[t] = _mm256_setzero_ps();
    int64_t k = 0;
    for (int64_t f = 0; f < p->runs; f++) {
        int64_t at = f * mt + t0, g = f / p->runs_per_group * OZ_TILE_ROWS + 8 * half, end = oz_run_end(k, p->run, p->kpad);
        __m256i n[4];
        for (int t = 0; t < nt; t++) n[t] = _mm256_set1_epi32(p->init[at + t]);
        run_sums(p->codes + 64 * (k / step) + 32 * half, p->x + k * mt + 4 * t0, k, end, mt, width, nt, n);
        k = end;
        /* the f32 step (kernel.h), in exactly this order */
        __m256 s = p->scale16 ? _mm256_cvtph_ps(_mm_loadu_si128((const void *)(p->scale16 + g))) : _mm256_loadu_ps(p->scale32 + g);
        __m256 z = _mm256_setzero_ps();
        if (p->zero) z = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)(p->zero + g))));
        for (int t = 0; t < nt; t++) {
            float a = p->a[at + t], xs = p->xsum[at + t];
            __m256 v = _mm256_cvtepi32_ps(n[t]);
            if (p->zero) v = _mm256_fnmadd_ps(z, _mm256_set1_ps(xs), v);
            y[t] = _mm256_fmadd_ps(_mm256_mul_ps(_mm256_set1_ps(a), s), v, y[t]);
            if (p->shift) y[t] = _mm256_fmadd_ps(_mm256_loadu_ps(p->shift + g), _mm256_set1_ps(a * xs), y[t]);
            if (p->wsum)
                y[t] = _mm256_fmadd_ps(_mm256_loadu_ps(p->wsum + f * OZ_TILE_ROWS + 8 * half), _mm256_set1_ps(p->az[at + t]), y[t]);
        }
    }
    for (int t = 0; t < nt; t++) _mm256_storeu_ps(p->out + (t0 + t) * OZ_TILE_ROWS + 8 * half, y[t]);
}

INLINE void dot_any(const oz_dot *p, const int width, int mt)
{
    for (int half = 0; half < 2; half++)
        for (int t = 0; t < mt; t += 4) switch (mt - t) {
            case 1:
                dot_part(p, width, half, t, 1, mt);
                break;
            case 2:
                dot_part(p, width, half, t, 2, mt);
                break;
            case 3:
                dot_part(p, width, half, t, 3, mt);
                break;
            default:
                dot_part(p, width, half, t, 4, mt);
                break;
            }
}
#endif

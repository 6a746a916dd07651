/* number/kernel/x86/dot_512.h: what the integer products on 512-bit vectors share.  The including file defines dot_block; every count of
 * tokens becomes its own function, because with a variable count the sums would live in memory. */
#ifndef OUNCE_KERNEL_DOT_512_H
#define OUNCE_KERNEL_DOT_512_H
#include "number/kernel/cells.h"

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

INLINE void dot_block(const oz_dot *p, const int width, const int mt);

INLINE __m512 load_scale(const oz_dot *p, int64_t at)
{
    return p->scale16 ? _mm512_cvtph_ps(_mm256_loadu_si256((const void *)(p->scale16 + at))) : _mm512_loadu_ps(p->scale32 + at);
}

/* The f32 step after run f (kernel.h), in exactly this order. */
INLINE void flush(const oz_dot *p, const int mt, int64_t f, const __m512i *n, __m512 *y)
{
    int64_t g = f / p->runs_per_group * OZ_TILE_ROWS;
    __m512 s = load_scale(p, g);
    const float *a = p->a + f * mt, *xs = p->xsum + f * mt;
    if (p->zero) {
        __m512 z = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)(p->zero + g))));
        for (int t = 0; t < mt; t++) {
            __m512 v = _mm512_fnmadd_ps(z, _mm512_set1_ps(xs[t]), _mm512_cvtepi32_ps(n[t]));
            y[t] = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_set1_ps(a[t]), s), v, y[t]);
        }
    } else
        for (int t = 0; t < mt; t++) y[t] = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_set1_ps(a[t]), s), _mm512_cvtepi32_ps(n[t]), y[t]);
    if (p->shift) {
        __m512 b = _mm512_loadu_ps(p->shift + g);
        for (int t = 0; t < mt; t++) y[t] = _mm512_fmadd_ps(b, _mm512_set1_ps(a[t] * xs[t]), y[t]);
    }
    if (p->wsum) {
        __m512 w = _mm512_loadu_ps(p->wsum + f * OZ_TILE_ROWS);
        for (int t = 0; t < mt; t++) y[t] = _mm512_fmadd_ps(w, _mm512_set1_ps(p->az[f * mt + t]), y[t]);
    }
}

/* The codes of 4 inputs: h-th quarter of a vector of 2-bit codes, half of 4-bit codes. */
INLINE __m512i part(__m512i w, const int width, const int h)
{
    if (width == OZ_TILE_8) return w;
    if (width == OZ_TILE_4) return _mm512_and_si512(h ? _mm512_srli_epi16(w, 4) : w, _mm512_set1_epi8(15));
    return _mm512_and_si512(h ? _mm512_srli_epi16(w, 2 * (unsigned)h) : w, _mm512_set1_epi8(3));
}

/* The 4 activations of a token, in every lane. */
INLINE __m512i token4(const int8_t *x) { return _mm512_set1_epi32(oz_load4(x)); }

INLINE void dot_any(const oz_dot *p, const int width, int mt)
{
    switch (mt) {
    case 1:
        dot_block(p, width, 1);
        break;
    case 2:
        dot_block(p, width, 2);
        break;
    case 3:
        dot_block(p, width, 3);
        break;
    case 4:
        dot_block(p, width, 4);
        break;
    case 5:
        dot_block(p, width, 5);
        break;
    case 6:
        dot_block(p, width, 6);
        break;
    case 7:
        dot_block(p, width, 7);
        break;
    case 8:
        dot_block(p, width, 8);
        break;
    case 9:
        dot_block(p, width, 9);
        break;
    case 10:
        dot_block(p, width, 10);
        break;
    case 11:
        dot_block(p, width, 11);
        break;
    default:
        dot_block(p, width, 12);
        break;
    }
}
#endif

/* number/kernel/x86/avx512/fp.c: f32 cells, activations and attention on 512-bit vectors.  Codes of 2 and 4 bits become f32 by one
 * permutation of a table of 16 values: its index is the low 4 bits of a lane, so neither masking nor conversion is needed (the table of
 * 2-bit codes repeats every 4). */
#include "number/kernel/cells.h"

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

/* ---- tiles ---- */
INLINE __m512 scale16(const oz_rows *p, int64_t at)
{
    return p->scale16 ? _mm512_cvtph_ps(_mm256_loadu_si256((const void *)(p->scale16 + at))) : _mm512_loadu_ps(p->scale32 + at);
}
INLINE __m512 zero16(const int8_t *z) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)z))); }

INLINE __m512 table_of(const int width)
{
    return width == OZ_TILE_4 ? _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7)
                              : _mm512_setr_ps(-2, -1, 0, 1, -2, -1, 0, 1, -2, -1, 0, 1, -2, -1, 0, 1);
}

/* u - c of 16 rows for byte j of every row, quarter or half h of the vector.  8 bits: w has its top bits flipped, so bytes are signed. */
INLINE __m512 centred(__m512i w, __m512 table, const int width, const int h, const int j)
{
    const unsigned shift = 8 * (unsigned)j + (2u << width) * (unsigned)h;
    if (width == OZ_TILE_8) return _mm512_cvtepi32_ps(_mm512_srai_epi32(j == 3 ? w : _mm512_slli_epi32(w, 24 - 8 * (unsigned)j), 24));
    return _mm512_permutexvar_ps(shift ? _mm512_srli_epi32(w, shift) : w, table);
}

INLINE void rows_block(const oz_rows *p, const int width, const int mt)
{
    const int parts = width == OZ_TILE_8 ? 1 : width == OZ_TILE_4 ? 2 : 4, step = 4 * parts;
    const __m512 table = table_of(width);
    __m512 y[OZ_FEW_TOKENS];
    for (int t = 0; t < mt; t++) y[t] = _mm512_setzero_ps();
    for (int64_t g = 0; g < p->groups; g++) {
        __m512 n[OZ_FEW_TOKENS][4];
        for (int t = 0; t < mt; t++)
            for (int j = 0; j < 4; j++) n[t][j] = _mm512_setzero_ps();
        int64_t k = g * p->group, end = oz_run_end(k, p->group, p->kpad), at = g * OZ_TILE_ROWS;
        const float *x = p->x;
        for (const uint8_t *codes = p->codes + 64 * (k / step); k < end; k += step, codes += 64) {
            __m512i w = _mm512_loadu_si512(codes);
            if (width == OZ_TILE_8) w = _mm512_xor_si512(w, _mm512_set1_epi8(-128));
            for (int h = 0; h < parts; h++)
                for (int j = 0; j < 4; j++) {
                    __m512 u = centred(w, table, width, h, j);
                    for (int t = 0; t < mt; t++) n[t][j] = _mm512_fmadd_ps(u, _mm512_set1_ps(x[t * p->ldx + k + 4 * h + j]), n[t][j]);
                }
        }
        __m512 s = scale16(p, at);
        for (int t = 0; t < mt; t++) {
            __m512 v = _mm512_add_ps(_mm512_add_ps(n[t][0], n[t][1]), _mm512_add_ps(n[t][2], n[t][3]));
            if (p->zero) v = _mm512_fnmadd_ps(zero16(p->zero + at), _mm512_set1_ps(p->xsum[g * mt + t]), v);
            y[t] = _mm512_fmadd_ps(s, v, y[t]);
            if (p->shift) y[t] = _mm512_fmadd_ps(_mm512_loadu_ps(p->shift + at), _mm512_set1_ps(p->xsum[g * mt + t]), y[t]);
        }
    }
    for (int t = 0; t < mt; t++) _mm512_storeu_ps(p->out + t * OZ_TILE_ROWS, y[t]);
}

INLINE void rows_any(const oz_rows *p, const int width, int mt)
{
    switch (mt) {
    case 1:
        rows_block(p, width, 1);
        break;
    case 2:
        rows_block(p, width, 2);
        break;
    case 3:
        rows_block(p, width, 3);
        break;
    default:
        rows_block(p, width, 4);
        break;
    }
}
static void rows2(const oz_rows *p, int mt) { rows_any(p, OZ_TILE_2, mt); }
static void rows4(const oz_rows *p, int mt) { rows_any(p, OZ_TILE_4, mt); }
static void rows8(const oz_rows *p, int mt) { rows_any(p, OZ_TILE_8, mt); }

INLINE void expand(const oz_rows *p, const int width, int64_t cols, float *out, int64_t ld)
{
    const int parts = width == OZ_TILE_8 ? 1 : width == OZ_TILE_4 ? 2 : 4, step = 4 * parts;
    const __m512 table = table_of(width);
    for (int64_t g = 0; g < p->groups; g++) {
        int64_t k = g * p->group, end = oz_run_end(k, p->group, p->kpad), at = g * OZ_TILE_ROWS;
        __m512 s = scale16(p, at), z = p->zero ? zero16(p->zero + at) : _mm512_setzero_ps(),
               b = p->shift ? _mm512_loadu_ps(p->shift + at) : _mm512_setzero_ps();
        for (const uint8_t *codes = p->codes + 64 * (k / step); k < end; k += step, codes += 64) {
            __m512i w = _mm512_loadu_si512(codes);
            if (width == OZ_TILE_8) w = _mm512_xor_si512(w, _mm512_set1_epi8(-128));
            for (int h = 0; h < parts; h++)
                for (int j = 0; j < 4; j++)
                    if (k + 4 * h + j < cols)
                        _mm512_storeu_ps(out + (k + 4 * h + j) * ld,
                                         _mm512_add_ps(_mm512_mul_ps(s, _mm512_sub_ps(centred(w, table, width, h, j), z)), b));
        }
    }
}
static void expand2(const oz_rows *p, int64_t cols, float *out, int64_t ld) { expand(p, OZ_TILE_2, cols, out, ld); }
static void expand4(const oz_rows *p, int64_t cols, float *out, int64_t ld) { expand(p, OZ_TILE_4, cols, out, ld); }
static void expand8(const oz_rows *p, int64_t cols, float *out, int64_t ld) { expand(p, OZ_TILE_8, cols, out, ld); }

/* ---- plain matrices: 16 values at a time, two chains a token; the last piece is read under a mask ---- */
enum { F32, F16, BF16 };
INLINE __m512 load16(const char *p, __mmask16 m, const int type)
{
    if (type == F32) return _mm512_maskz_loadu_ps(m, p);
    __m256i h = _mm256_maskz_loadu_epi16(m, p);
    if (type == F16) return _mm512_cvtph_ps(h);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}
INLINE __mmask16 first(int64_t n) { return n >= 16 ? 0xffff : (__mmask16)((1u << n) - 1); }

INLINE void dense_row(const char *w, const int type, int64_t k, const float *x, int64_t ldx, const int mt, float *out, int64_t ldo)
{
    const int size = type == F32 ? 4 : 2;
    __m512 a[OZ_FEW_TOKENS], b[OZ_FEW_TOKENS];
    for (int t = 0; t < mt; t++) a[t] = b[t] = _mm512_setzero_ps();
    int64_t i = 0;
    for (; i + 32 <= k; i += 32) {
        __m512 u = load16(w + i * size, 0xffff, type), v = load16(w + (i + 16) * size, 0xffff, type);
        for (int t = 0; t < mt; t++) a[t] = _mm512_fmadd_ps(u, _mm512_loadu_ps(x + t * ldx + i), a[t]);
        for (int t = 0; t < mt; t++) b[t] = _mm512_fmadd_ps(v, _mm512_loadu_ps(x + t * ldx + i + 16), b[t]);
    }
    for (; i < k; i += 16) {
        __mmask16 m = first(k - i);
        __m512 u = load16(w + i * size, m, type);
        for (int t = 0; t < mt; t++) a[t] = _mm512_fmadd_ps(u, _mm512_maskz_loadu_ps(m, x + t * ldx + i), a[t]);
    }
    for (int t = 0; t < mt; t++) out[t * ldo] = _mm512_reduce_add_ps(_mm512_add_ps(a[t], b[t]));
}
INLINE void dense(const void *w, const int type, int64_t ldw, int64_t n, int64_t k, const float *x, int64_t ldx, int mt, float *out,
                  int64_t ldo)
{
    const int size = type == F32 ? 4 : 2;
    for (int64_t r = 0; r < n; r++) {
        const char *row = (const char *)w + r * ldw * size;
        switch (mt) {
        case 1:
            dense_row(row, type, k, x, ldx, 1, out + r, ldo);
            break;
        case 2:
            dense_row(row, type, k, x, ldx, 2, out + r, ldo);
            break;
        case 3:
            dense_row(row, type, k, x, ldx, 3, out + r, ldo);
            break;
        default:
            dense_row(row, type, k, x, ldx, 4, out + r, ldo);
            break;
        }
    }
}
static void dense_f16(const void *w, int64_t ldw, int64_t n, int64_t k, const float *x, int64_t ldx, int mt, float *out, int64_t ldo)
{
    dense(w, F16, ldw, n, k, x, ldx, mt, out, ldo);
}
static void dense_bf16(const void *w, int64_t ldw, int64_t n, int64_t k, const float *x, int64_t ldx, int mt, float *out, int64_t ldo)
{
    dense(w, BF16, ldw, n, k, x, ldx, mt, out, ldo);
}
static void dense_f32(const void *w, int64_t ldw, int64_t n, int64_t k, const float *x, int64_t ldx, int mt, float *out, int64_t ldo)
{
    dense(w, F32, ldw, n, k, x, ldx, mt, out, ldo);
}

/* ---- activations ---- */
static void range(const float *x, int64_t n, oz_range *out)
{
    __m512 lo = _mm512_set1_ps(x[0]), hi = lo;
    __m512i most = _mm512_setzero_si512(), abs = _mm512_set1_epi32(0x7fffffff);
    for (int64_t i = 0; i < n; i += 16) {
        __mmask16 m = first(n - i);
        __m512 v = _mm512_mask_loadu_ps(_mm512_set1_ps(x[0]), m, x + i);
        lo = _mm512_min_ps(v, lo);
        hi = _mm512_max_ps(v, hi);
        most = _mm512_max_epu32(most, _mm512_and_si512(_mm512_castps_si512(v), abs));
    }
    *out = (oz_range){_mm512_reduce_max_epu32(most), _mm512_reduce_min_ps(lo), _mm512_reduce_max_ps(hi)};
}

static int64_t quantize(const float *x, int64_t n, const oz_code_rule *rule, int8_t *q)
{
    const __m512 f = _mm512_set1_ps(rule->factor), z = _mm512_set1_ps(rule->zero), lo = _mm512_set1_ps(rule->lo),
                 hi = _mm512_set1_ps(rule->hi);
    const __m512i down = _mm512_set1_epi32(rule->asym ? 128 : 0);
    int64_t outside = 0;
    for (int64_t i = 0; i < n; i += 16) {
        __mmask16 m = first(n - i);
        __m512 v = _mm512_maskz_loadu_ps(m, x + i);
        if (rule->asym)
            v = _mm512_add_ps(_mm512_roundscale_ps(_mm512_div_ps(v, f), 0), z);
        else
            v = _mm512_roundscale_ps(_mm512_mul_ps(v, f), 0);
        __mmask16 out = (__mmask16)(_mm512_cmp_ps_mask(v, lo, _CMP_LT_OQ) | _mm512_cmp_ps_mask(v, hi, _CMP_GT_OQ));
        outside += __builtin_popcount((unsigned)(out & m));
        __m512i c = _mm512_sub_epi32(_mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(v, lo), hi)), down);
        _mm_mask_storeu_epi8(q + i, m, _mm512_cvtepi32_epi8(c));
    }
    return outside;
}

/* ---- attention ---- */
static void attention_dot(const float *q, const uint16_t *k, int64_t ldk, int64_t n, int64_t d, float *out)
{
    for (int64_t i = 0; i < n; i++) dense_row((const char *)(k + i * ldk), F16, d, q, 0, 1, out + i, 0);
}

static void attention_mix(const float *p, const uint16_t *v, int64_t ldv, int64_t n, int64_t d, float *y)
{
    for (int64_t j = 0; j < d; j += 64) {
        __m512 a[4];
        __mmask16 m[4];
        for (int c = 0; c < 4; c++) {
            m[c] = first(d - j - 16 * c > 0 ? d - j - 16 * c : 0);
            a[c] = _mm512_maskz_loadu_ps(m[c], y + j + 16 * c);
        }
        for (int64_t i = 0; i < n; i++) {
            __m512 s = _mm512_set1_ps(p[i]);
            for (int c = 0; c < 4; c++) a[c] = _mm512_fmadd_ps(s, load16((const char *)(v + i * ldv + j + 16 * c), m[c], F16), a[c]);
        }
        for (int c = 0; c < 4; c++) _mm512_mask_storeu_ps(y + j + 16 * c, m[c], a[c]);
    }
}

void oz_cells_avx512_fp(oz_kernels *k)
{
    k->act = (oz_cells_act){range, quantize};
    k->fp = (oz_cells_fp){{rows2, rows4, rows8}, {expand2, expand4, expand8}, dense_f16, dense_bf16, dense_f32};
    k->attention = (oz_cells_attention){attention_dot, attention_mix};
    for (int c = OZ_CELL_RANGE; c < OZ_CELL_COUNT; c++) k->from[c] = OZ_ISA_AVX512;
}

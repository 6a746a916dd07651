/* number/kernel/x86/avx2/fp.c: f32 cells, activations and attention on 256-bit vectors. */
#include "number/kernel/cells.h"

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

/* ---- tiles ---- */
INLINE __m256 scale8(const oz_rows *p, int64_t at)
{
    return p->scale16 ? _mm256_cvtph_ps(_mm_loadu_si128((const void *)(p->scale16 + at))) : _mm256_loadu_ps(p->scale32 + at);
}

/* u - c of 8 rows for byte j of every row, quarter or half h of the vector. */
INLINE __m256 centred(__m256i w, const int width, const int h, const int j)
{
    const int bits = 2 << width, shift = 8 * j + bits * h;
    __m256i u = _mm256_and_si256(_mm256_srli_epi32(w, shift), _mm256_set1_epi32((1 << bits) - 1));
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(u, _mm256_set1_epi32(1 << (bits - 1))));
}

INLINE void rows_part(const oz_rows *p, const int width, int half, int t0, const int nt, int mt)
{
    const int parts = width == OZ_TILE_8 ? 1 : width == OZ_TILE_4 ? 2 : 4, step = 4 * parts;
    __m256 y[2];
    for (int t = 0; t < nt; t++) y[t] = _mm256_setzero_ps();
    const float *x = p->x + t0 * p->ldx;
    for (int64_t g = 0; g < p->groups; g++) {
        __m256 n[2][4];
        for (int t = 0; t < nt; t++)
            for (int j = 0; j < 4; j++) n[t][j] = _mm256_setzero_ps();
        int64_t k = g * p->group, end = oz_run_end(k, p->group, p->kpad), at = g * OZ_TILE_ROWS + 8 * half;
        for (const uint8_t *codes = p->codes + 64 * (k / step) + 32 * half; k < end; k += step, codes += 64) {
            __m256i w = _mm256_loadu_si256((const void *)codes);
            for (int h = 0; h < parts; h++)
                for (int j = 0; j < 4; j++) {
                    __m256 u = centred(w, width, h, j);
                    for (int t = 0; t < nt; t++) n[t][j] = _mm256_fmadd_ps(u, _mm256_set1_ps(x[t * p->ldx + k + 4 * h + j]), n[t][j]);
                }
        }
        __m256 s = scale8(p, at);
        for (int t = 0; t < nt; t++) {
            __m256 v = _mm256_add_ps(_mm256_add_ps(n[t][0], n[t][1]), _mm256_add_ps(n[t][2], n[t][3]));
            if (p->zero) {
                __m256 z = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)(p->zero + at))));
                v = _mm256_fnmadd_ps(z, _mm256_set1_ps(p->xsum[g * mt + t0 + t]), v);
            }
            y[t] = _mm256_fmadd_ps(s, v, y[t]);
            if (p->shift) y[t] = _mm256_fmadd_ps(_mm256_loadu_ps(p->shift + at), _mm256_set1_ps(p->xsum[g * mt + t0 + t]), y[t]);
        }
    }
    for (int t = 0; t < nt; t++) _mm256_storeu_ps(p->out + (t0 + t) * OZ_TILE_ROWS + 8 * half, y[t]);
}

INLINE void rows_any(const oz_rows *p, const int width, int mt)
{
    for (int half = 0; half < 2; half++)
        for (int t = 0; t < mt; t += 2) {
            if (mt - t == 1)
                rows_part(p, width, half, t, 1, mt);
            else
                rows_part(p, width, half, t, 2, mt);
        }
}
static void rows2(const oz_rows *p, int mt) { rows_any(p, OZ_TILE_2, mt); }
static void rows4(const oz_rows *p, int mt) { rows_any(p, OZ_TILE_4, mt); }
static void rows8(const oz_rows *p, int mt) { rows_any(p, OZ_TILE_8, mt); }

/* s (u - c - z) is exact before its one rounding, as in unpack; b is added after. */
INLINE void expand(const oz_rows *p, const int width, int64_t cols, float *out, int64_t ld)
{
    const int parts = width == OZ_TILE_8 ? 1 : width == OZ_TILE_4 ? 2 : 4, step = 4 * parts;
    for (int half = 0; half < 2; half++)
        for (int64_t g = 0; g < p->groups; g++) {
            int64_t k = g * p->group, end = oz_run_end(k, p->group, p->kpad), at = g * OZ_TILE_ROWS + 8 * half;
            __m256 s = scale8(p, at), z = _mm256_setzero_ps(), b = _mm256_setzero_ps();
            if (p->zero) z = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)(p->zero + at))));
            if (p->shift) b = _mm256_loadu_ps(p->shift + at);
            for (const uint8_t *codes = p->codes + 64 * (k / step) + 32 * half; k < end; k += step, codes += 64) {
                __m256i w = _mm256_loadu_si256((const void *)codes);
                for (int h = 0; h < parts; h++)
                    for (int j = 0; j < 4; j++)
                        if (k + 4 * h + j < cols)
                            _mm256_storeu_ps(out + (k + 4 * h + j) * ld + 8 * half,
                                             _mm256_add_ps(_mm256_mul_ps(s, _mm256_sub_ps(centred(w, width, h, j), z)), b));
            }
        }
}
static void expand2(const oz_rows *p, int64_t cols, float *out, int64_t ld) { expand(p, OZ_TILE_2, cols, out, ld); }
static void expand4(const oz_rows *p, int64_t cols, float *out, int64_t ld) { expand(p, OZ_TILE_4, cols, out, ld); }
static void expand8(const oz_rows *p, int64_t cols, float *out, int64_t ld) { expand(p, OZ_TILE_8, cols, out, ld); }

/* ---- sums ---- */
INLINE float sum8(__m256 v)
{
    __m128 a = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    a = _mm_add_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_add_ss(a, _mm_shuffle_ps(a, a, 1)));
}

/* ---- plain matrices: 8 values at a time, two chains a token ---- */
enum { F32, F16, BF16 };
INLINE __m256 load8(const char *p, const int type)
{
    if (type == F32) return _mm256_loadu_ps((const void *)p);
    if (type == F16) return _mm256_cvtph_ps(_mm_loadu_si128((const void *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)p)), 16));
}
INLINE float load1(const char *p, const int type)
{
    float f;
    uint16_t h;
    if (type == F32)
        memcpy(&f, p, 4);
    else {
        memcpy(&h, p, 2);
        f = type == F16 ? oz_f16_to_f32(h) : oz_bf16_to_f32(h);
    }
    return f;
}
INLINE void dense_row(const char *w, const int type, int64_t k, const float *x, int64_t ldx, const int mt, float *out, int64_t ldo)
{
    const int size = type == F32 ? 4 : 2;
    __m256 a[OZ_FEW_TOKENS], b[OZ_FEW_TOKENS];
    for (int t = 0; t < mt; t++) a[t] = b[t] = _mm256_setzero_ps();
    int64_t i = 0;
    for (; i + 16 <= k; i += 16) {
        __m256 u = load8(w + i * size, type), v = load8(w + (i + 8) * size, type);
        for (int t = 0; t < mt; t++) a[t] = _mm256_fmadd_ps(u, _mm256_loadu_ps(x + t * ldx + i), a[t]);
        for (int t = 0; t < mt; t++) b[t] = _mm256_fmadd_ps(v, _mm256_loadu_ps(x + t * ldx + i + 8), b[t]);
    }
    float y[OZ_FEW_TOKENS];
    for (int t = 0; t < mt; t++) y[t] = sum8(_mm256_add_ps(a[t], b[t]));
    for (; i < k; i++) {
        float v = load1(w + i * size, type);
        for (int t = 0; t < mt; t++) y[t] += v * x[t * ldx + i];
    }
    for (int t = 0; t < mt; t++) out[t * ldo] = y[t];
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
    uint32_t most = 0;
    float lo = x[0], hi = x[0];
    int64_t i = 0;
    if (n >= 8) {
        __m256 l = _mm256_loadu_ps(x), h = l;
        __m256i m = _mm256_setzero_si256(), abs = _mm256_set1_epi32(0x7fffffff);
        for (; i + 8 <= n; i += 8) {
            __m256 v = _mm256_loadu_ps(x + i);
            l = _mm256_min_ps(v, l);
            h = _mm256_max_ps(v, h);
            m = _mm256_max_epu32(m, _mm256_and_si256(_mm256_castps_si256(v), abs));
        }
        float ls[8], hs[8];
        uint32_t ms[8];
        _mm256_storeu_ps(ls, l);
        _mm256_storeu_ps(hs, h);
        _mm256_storeu_si256((void *)ms, m);
        for (int j = 0; j < 8; j++) {
            lo = ls[j] < lo ? ls[j] : lo;
            hi = hs[j] > hi ? hs[j] : hi;
            most = ms[j] > most ? ms[j] : most;
        }
    }
    for (; i < n; i++) {
        uint32_t u;
        memcpy(&u, x + i, 4);
        u &= 0x7fffffffu;
        most = u > most ? u : most;
        lo = x[i] < lo ? x[i] : lo;
        hi = x[i] > hi ? x[i] : hi;
    }
    *out = (oz_range){most, lo, hi};
}

static int64_t quantize(const float *x, int64_t n, const oz_code_rule *rule, int8_t *q)
{
    const __m256 f = _mm256_set1_ps(rule->factor), z = _mm256_set1_ps(rule->zero), lo = _mm256_set1_ps(rule->lo),
                 hi = _mm256_set1_ps(rule->hi);
    const __m256i down = _mm256_set1_epi32(rule->asym ? 128 : 0);
    int64_t outside = 0;
    for (int64_t i = 0; i < n; i += 8) {
        float in[8] = {0};
        int m = n - i < 8 ? (int)(n - i) : 8;
        if (m < 8) memcpy(in, x + i, sizeof(float) * (size_t)m);
        __m256 v = _mm256_loadu_ps(m < 8 ? in : x + i);
        if (rule->asym)
            v = _mm256_add_ps(_mm256_round_ps(_mm256_div_ps(v, f), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), z);
        else
            v = _mm256_round_ps(_mm256_mul_ps(v, f), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        int out = _mm256_movemask_ps(_mm256_or_ps(_mm256_cmp_ps(v, lo, _CMP_LT_OQ), _mm256_cmp_ps(v, hi, _CMP_GT_OQ)));
        outside += __builtin_popcount((unsigned)out & ((1u << m) - 1));
        __m256i c = _mm256_sub_epi32(_mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(v, lo), hi)), down);
        __m128i s = _mm_packs_epi32(_mm256_castsi256_si128(c), _mm256_extracti128_si256(c, 1));
        s = _mm_packs_epi16(s, s);
        if (m == 8)
            _mm_storel_epi64((void *)(q + i), s);
        else {
            int8_t tail[16];
            _mm_storeu_si128((void *)tail, s);
            memcpy(q + i, tail, (size_t)m);
        }
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
    int64_t j = 0;
    for (; j + 32 <= d; j += 32) {
        __m256 a[4];
        for (int c = 0; c < 4; c++) a[c] = _mm256_loadu_ps(y + j + 8 * c);
        for (int64_t i = 0; i < n; i++) {
            __m256 s = _mm256_set1_ps(p[i]);
            for (int c = 0; c < 4; c++) a[c] = _mm256_fmadd_ps(s, load8((const char *)(v + i * ldv + j + 8 * c), F16), a[c]);
        }
        for (int c = 0; c < 4; c++) _mm256_storeu_ps(y + j + 8 * c, a[c]);
    }
    for (; j < d; j++)
        for (int64_t i = 0; i < n; i++) y[j] += p[i] * oz_f16_to_f32(v[i * ldv + j]);
}

void oz_cells_avx2_fp(oz_kernels *k)
{
    k->act = (oz_cells_act){range, quantize};
    k->fp = (oz_cells_fp){{rows2, rows4, rows8}, {expand2, expand4, expand8}, dense_f16, dense_bf16, dense_f32};
    k->attention = (oz_cells_attention){attention_dot, attention_mix};
    for (int c = OZ_CELL_RANGE; c < OZ_CELL_COUNT; c++) k->from[c] = OZ_ISA_AVX2;
}

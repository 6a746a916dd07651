/* number/kernel/portable.c: the definition of every cell, in plain C.  Generic and slow next to the files under x86/, and needed anyway:
 * what they compute is stated here, and other machines start from here.  Shapes and rules: kernel.h. */
#include "number/kernel/cells.h"

#include <math.h>

/* Code of row r at input k of a tile. */
static inline int code_at(const uint8_t *tile, int width, int64_t k, int r)
{
    int64_t step = oz_tile_step(width), v = k / step, h = k % step / 4, j = k % 4;
    int bits = oz_tile_bits(width);
    return tile[64 * v + 4 * r + j] >> (bits * h) & ((1 << bits) - 1);
}

static inline float scale_at(const uint16_t *s16, const float *s32, int64_t at) { return s16 ? oz_f16_to_f32(s16[at]) : s32[at]; }

/* ---- integer products ---- */
static inline void dot(const oz_dot *p, int width, int mt)
{
    float y[OZ_TILE_TOKENS][OZ_TILE_ROWS] = {{0}};
    int64_t k = 0, step = oz_tile_step(width);
    int bits = oz_tile_bits(width), mask = (1 << bits) - 1;
    for (int64_t f = 0; f < p->runs; f++) {
        int32_t n[OZ_TILE_TOKENS][OZ_TILE_ROWS];
        for (int t = 0; t < mt; t++)
            for (int r = 0; r < OZ_TILE_ROWS; r++) n[t][r] = p->init[f * mt + t];
        for (int64_t end = oz_run_end(k, p->run, p->kpad); k < end; k += 4) {
            const uint8_t *u = p->codes + 64 * (k / step);
            int shift = bits * (int)(k % step / 4);
            const int8_t *x = p->x + k * mt;
            for (int t = 0; t < mt; t++, x += 4)
                for (int r = 0; r < OZ_TILE_ROWS; r++)
                    n[t][r] += (u[4 * r] >> shift & mask) * x[0] + (u[4 * r + 1] >> shift & mask) * x[1] +
                               (u[4 * r + 2] >> shift & mask) * x[2] + (u[4 * r + 3] >> shift & mask) * x[3];
        }
        int64_t g = f / p->runs_per_group * OZ_TILE_ROWS;
        for (int r = 0; r < OZ_TILE_ROWS; r++) {
            float s = scale_at(p->scale16, p->scale32, g + r);
            for (int t = 0; t < mt; t++) {
                float v = (float)n[t][r], a = p->a[f * mt + t], xs = p->xsum[f * mt + t];
                if (p->zero) v = fmaf(-(float)p->zero[g + r], xs, v);
                y[t][r] = fmaf(a * s, v, y[t][r]);
                if (p->shift) y[t][r] = fmaf(p->shift[g + r], a * xs, y[t][r]);
                if (p->wsum) y[t][r] = fmaf(p->wsum[f * OZ_TILE_ROWS + r], p->az[f * mt + t], y[t][r]);
            }
        }
    }
    memcpy(p->out, y, sizeof(float) * OZ_TILE_ROWS * (size_t)mt);
}
static void dot2(const oz_dot *p, int mt) { dot(p, OZ_TILE_2, mt); }
static void dot4(const oz_dot *p, int mt) { dot(p, OZ_TILE_4, mt); }
static void dot8(const oz_dot *p, int mt) { dot(p, OZ_TILE_8, mt); }

/* ---- activations ---- */
static void range(const float *x, int64_t n, oz_range *out)
{
    uint32_t most = 0;
    float lo = x[0], hi = x[0];
    for (int64_t i = 0; i < n; i++) {
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
    int64_t outside = 0;
    for (int64_t i = 0; i < n; i++) {
        float c = rule->asym ? rintf(x[i] / rule->factor) + rule->zero : rintf(x[i] * rule->factor);
        outside += c < rule->lo || c > rule->hi;
        c = c < rule->lo ? rule->lo : c > rule->hi ? rule->hi : c;
        q[i] = (int8_t)((int)c - (rule->asym ? 128 : 0));
    }
    return outside;
}

/* ---- f32 on tiles ---- */
static inline void rows(const oz_rows *p, int width, int mt)
{
    for (int t = 0; t < mt; t++)
        for (int r = 0; r < OZ_TILE_ROWS; r++) {
            float y = 0;
            for (int64_t g = 0; g < p->groups; g++) {
                float part[4] = {0};
                int64_t end = oz_run_end(g * p->group, p->group, p->kpad), at = g * OZ_TILE_ROWS + r;
                for (int64_t k = g * p->group; k < end; k++)
                    part[k % 4] += (float)(code_at(p->codes, width, k, r) - oz_tile_centre(width)) * p->x[t * p->ldx + k];
                float v = (part[0] + part[1]) + (part[2] + part[3]), s = scale_at(p->scale16, p->scale32, at);
                if (p->zero) v -= (float)p->zero[at] * p->xsum[g * mt + t];
                y += s * v;
                if (p->shift) y += p->shift[at] * p->xsum[g * mt + t];
            }
            p->out[t * OZ_TILE_ROWS + r] = y;
        }
}
static void rows2(const oz_rows *p, int mt) { rows(p, OZ_TILE_2, mt); }
static void rows4(const oz_rows *p, int mt) { rows(p, OZ_TILE_4, mt); }
static void rows8(const oz_rows *p, int mt) { rows(p, OZ_TILE_8, mt); }

static inline void expand(const oz_rows *p, int width, int64_t cols, float *out, int64_t ld)
{
    for (int64_t k = 0; k < cols; k++)
        for (int r = 0; r < OZ_TILE_ROWS; r++) {
            int64_t at = k / p->group * OZ_TILE_ROWS + r;
            int u = code_at(p->codes, width, k, r) - oz_tile_centre(width) - (p->zero ? p->zero[at] : 0);
            float w = scale_at(p->scale16, p->scale32, at) * (float)u;
            out[k * ld + r] = p->shift ? w + p->shift[at] : w;
        }
}
static void expand2(const oz_rows *p, int64_t cols, float *out, int64_t ld) { expand(p, OZ_TILE_2, cols, out, ld); }
static void expand4(const oz_rows *p, int64_t cols, float *out, int64_t ld) { expand(p, OZ_TILE_4, cols, out, ld); }
static void expand8(const oz_rows *p, int64_t cols, float *out, int64_t ld) { expand(p, OZ_TILE_8, cols, out, ld); }

/* ---- plain matrices ---- */
static inline void dense(oz_dtype type, const void *w, int64_t ldw, int64_t nrows, int64_t k, const float *x, int64_t ldx, int mt,
                         float *out, int64_t ldo)
{
    enum { B = 256 };
    float part[B];
    for (int64_t r = 0; r < nrows; r++) {
        double y[OZ_FEW_TOKENS] = {0};
        for (int64_t i = 0; i < k; i += B) {
            int64_t n = k - i < B ? k - i : B;
            oz_to_f32(type, (const char *)w + (size_t)(r * ldw + i) * oz_dtype_size(type), part, n);
            for (int t = 0; t < mt; t++) {
                float lane[8] = {0};
                for (int64_t j = 0; j < n; j++) lane[j % 8] += part[j] * x[t * ldx + i + j];
                y[t] += ((lane[0] + lane[4]) + (lane[1] + lane[5])) + ((lane[2] + lane[6]) + (lane[3] + lane[7]));
            }
        }
        for (int t = 0; t < mt; t++) out[t * ldo + r] = (float)y[t];
    }
}
static void dense_f16(const void *w, int64_t ldw, int64_t n, int64_t k, const float *x, int64_t ldx, int mt, float *out, int64_t ldo)
{
    dense(OZ_F16, w, ldw, n, k, x, ldx, mt, out, ldo);
}
static void dense_bf16(const void *w, int64_t ldw, int64_t n, int64_t k, const float *x, int64_t ldx, int mt, float *out, int64_t ldo)
{
    dense(OZ_BF16, w, ldw, n, k, x, ldx, mt, out, ldo);
}
static void dense_f32(const void *w, int64_t ldw, int64_t n, int64_t k, const float *x, int64_t ldx, int mt, float *out, int64_t ldo)
{
    dense(OZ_F32, w, ldw, n, k, x, ldx, mt, out, ldo);
}

/* ---- attention ---- */
static void attention_dot(const float *q, const uint16_t *k, int64_t ldk, int64_t n, int64_t d, float *out)
{
    for (int64_t i = 0; i < n; i++) {
        float lane[8] = {0};
        for (int64_t j = 0; j < d; j++) lane[j % 8] += q[j] * oz_f16_to_f32(k[i * ldk + j]);
        out[i] = ((lane[0] + lane[4]) + (lane[1] + lane[5])) + ((lane[2] + lane[6]) + (lane[3] + lane[7]));
    }
}

static void attention_mix(const float *p, const uint16_t *v, int64_t ldv, int64_t n, int64_t d, float *y)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < d; j++) y[j] += p[i] * oz_f16_to_f32(v[i * ldv + j]);
}

void oz_cells_portable(oz_kernels *k)
{
    *k = (oz_kernels){
        .dot = {{dot2, dot4, dot8}},
        .act = {range, quantize},
        .fp = {{rows2, rows4, rows8}, {expand2, expand4, expand8}, dense_f16, dense_bf16, dense_f32},
        .attention = {attention_dot, attention_mix},
    };
    for (int c = 0; c < OZ_CELL_COUNT; c++) k->from[c] = OZ_ISA_PORTABLE;
}

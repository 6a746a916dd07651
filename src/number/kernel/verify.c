/* number/kernel/verify.c: the cells of a set of levels against the portable definition, on inputs biased towards the ends (`ounce bench
 * kernels
 * --verify`).  The tests of tests/kernel check more shapes and guard pages; this is what a user can run on any machine. */
#include "number/kernel/cells.h"

#include <math.h>

#define K      576 /* 4 runs of 128 and one of 64 */
#define RUN    128
#define RUNS   5
#define TOKENS OZ_TILE_TOKENS
#define ROWS   OZ_TILE_ROWS

typedef struct inputs {
    uint8_t codes[K * ROWS];
    int8_t x[K * TOKENS];
    int32_t init[RUNS * TOKENS];
    float xsum[RUNS * TOKENS], a[RUNS * TOKENS], az[RUNS * TOKENS], wsum[RUNS * ROWS], scale32[RUNS * ROWS], shift[RUNS * ROWS],
        sums[RUNS * OZ_FEW_TOKENS];
    uint16_t scale16[RUNS * ROWS], half[ROWS * K];
    int8_t zero[RUNS * ROWS];
    float xf[OZ_FEW_TOKENS * K], wide[ROWS * K];
    float out[2][ROWS * K];
    int8_t q[2][K];
} inputs;
enum { RANDOM, EXTREME, LOWEST, ZEROS, FILLS };

static void fill(inputs *v, int kind, int width, int mt)
{
    oz_rng r = {91, (uint64_t)kind};
    uint64_t c = 0;
    for (int i = 0; i < K * ROWS; i++) v->codes[i] = kind == RANDOM ? (uint8_t)oz_rng_u64(r, c++) : kind == ZEROS ? 0 : 255;
    for (int i = 0; i < K * TOKENS; i++)
        v->x[i] = (int8_t)(kind == RANDOM    ? (int)(oz_rng_u64(r, c++) % 255) - 127
                           : kind == EXTREME ? (i & 4 ? -127 : 127)
                           : kind == LOWEST  ? -128
                                             : 0);
    for (int f = 0; f < RUNS; f++)
        for (int t = 0; t < mt; t++) {
            int sum = 0, at = f * mt + t;
            for (int k = f * RUN; k < (f + 1) * RUN && k < K; k++) sum += v->x[k / 4 * 4 * mt + 4 * t + k % 4];
            v->init[at] = -sum * oz_tile_centre(width);
            v->xsum[at] = (float)sum;
            v->a[at] = 0.01f + (float)oz_rng_uniform(r, c++);
            v->az[at] = (float)oz_rng_normal(r, c++);
        }
    for (int i = 0; i < RUNS * ROWS; i++) {
        v->wsum[i] = (float)oz_rng_normal(r, c++);
        v->scale32[i] = 0.01f + (float)oz_rng_uniform(r, c++);
        v->scale16[i] = oz_f32_to_f16(v->scale32[i]);
        v->shift[i] = (float)oz_rng_normal(r, c++);
        v->zero[i] = (int8_t)((int)(oz_rng_u64(r, c++) % 31) - 15);
    }
    for (int i = 0; i < OZ_FEW_TOKENS * K; i++) v->xf[i] = kind == ZEROS ? 0 : (float)oz_rng_normal(r, c++);
    for (int i = 0; i < ROWS * K; i++) {
        v->wide[i] = kind == EXTREME ? 60000 : (float)oz_rng_normal(r, c++);
        v->half[i] = oz_f32_to_f16(v->wide[i]);
    }
    int few = mt < OZ_FEW_TOKENS ? mt : OZ_FEW_TOKENS;
    for (int f = 0; f < RUNS; f++)
        for (int t = 0; t < few; t++) {
            double sum = 0;
            for (int k = f * RUN; k < (f + 1) * RUN && k < K; k++) sum += (double)v->xf[t * K + k];
            v->sums[f * few + t] = (float)sum;
        }
}

/* One call of a cell of table k; results in v->out[side] or v->q[side]. How many f32 came out; 0: codes did. */
static int call(const oz_kernels *k, oz_cell c, inputs *v, int side, int mt, int kind)
{
    float *out = v->out[side];
    int few = mt < OZ_FEW_TOKENS ? mt : OZ_FEW_TOKENS;
    oz_dot d = {.codes = v->codes,
                .x = v->x,
                .kpad = K,
                .run = RUN,
                .runs = RUNS,
                .runs_per_group = 1,
                .scale16 = v->scale16,
                .init = v->init,
                .xsum = v->xsum,
                .a = v->a,
                .out = out};
    oz_rows p = {.codes = v->codes,
                 .kpad = K,
                 .group = RUN,
                 .groups = RUNS,
                 .scale16 = v->scale16,
                 .x = v->xf,
                 .ldx = K,
                 .xsum = v->sums,
                 .out = out};
    if (kind & 1)
        d.zero = v->zero, p.zero = v->zero;
    else
        d.shift = v->shift, p.shift = v->shift, d.scale32 = v->scale32, d.scale16 = NULL, d.wsum = v->wsum, d.az = v->az;
    switch (c) {
    case OZ_CELL_DOT2:
    case OZ_CELL_DOT4:
    case OZ_CELL_DOT8:
        k->dot.dot[c - OZ_CELL_DOT2](&d, mt);
        return mt * ROWS;
    case OZ_CELL_RANGE: {
        oz_range r;
        k->act.range(v->xf, K - mt, &r);
        memcpy(out, &r.absmax, 4);
        out[1] = r.lo;
        out[2] = r.hi;
        return 3;
    }
    case OZ_CELL_QUANTIZE: {
        oz_code_rule rule = kind & 1 ? (oz_code_rule){0.02f, 100, 0, 255, true} : (oz_code_rule){50, 0, -127, 127, false};
        k->act.quantize(v->xf, K - mt, &rule, v->q[side]);
        return 0;
    }
    case OZ_CELL_ROWS2:
    case OZ_CELL_ROWS4:
    case OZ_CELL_ROWS8:
        k->fp.rows[c - OZ_CELL_ROWS2](&p, few);
        return few * ROWS;
    case OZ_CELL_EXPAND2:
    case OZ_CELL_EXPAND4:
    case OZ_CELL_EXPAND8:
        k->fp.expand[c - OZ_CELL_EXPAND2](&p, K, out, ROWS);
        return ROWS * K;
    case OZ_CELL_DENSE_F16:
        k->fp.f16(v->half, K, ROWS, K - mt, v->xf, K, few, out, ROWS);
        return few * ROWS;
    case OZ_CELL_DENSE_BF16:
        k->fp.bf16(v->half, K, ROWS, K - mt, v->xf, K, few, out, ROWS);
        return few * ROWS;
    case OZ_CELL_DENSE_F32:
        k->fp.f32(v->wide, K, ROWS, K - mt, v->xf, K, few, out, ROWS);
        return few * ROWS;
    case OZ_CELL_ATTN_DOT:
        k->attention.dot(v->xf, v->half, K, ROWS, K - mt, out);
        return ROWS;
    case OZ_CELL_ATTN_MIX:
        for (int i = 0; i < K - mt; i++) out[i] = 0;
        k->attention.mix(v->xf, v->half, K, ROWS, K - mt, out);
        return K - mt;
    case OZ_CELL_COUNT:
        break;
    }
    return 0;
}

/* Weight bytes and operations of one call. */
static void cost(oz_cell c, int mt, double *bytes, double *ops)
{
    double few = mt < OZ_FEW_TOKENS ? mt : OZ_FEW_TOKENS, n = (double)K * ROWS;
    bool integer = c <= OZ_CELL_DOT8, rows = c >= OZ_CELL_ROWS2 && c <= OZ_CELL_ROWS8,
         expand = c >= OZ_CELL_EXPAND2 && c <= OZ_CELL_EXPAND8;
    *bytes = integer                  ? n * (2 << (c - OZ_CELL_DOT2)) / 8
             : rows                   ? n * (2 << (c - OZ_CELL_ROWS2)) / 8
             : expand                 ? n * (2 << (c - OZ_CELL_EXPAND2)) / 8
             : c == OZ_CELL_DENSE_F32 ? n * 4
                                      : n * 2;
    *ops = integer ? 2 * n * mt : expand ? n : c >= OZ_CELL_ATTN_DOT ? 2 * n : 2 * n * few;
    if (c == OZ_CELL_RANGE || c == OZ_CELL_QUANTIZE) {
        *bytes = 4.0 * K;
        *ops = K;
    }
}

static double best_time(const oz_kernels *k, oz_cell c, inputs *v, int mt, int repeats)
{
    double best = 1e9;
    for (int r = 0; r < repeats; r++) {
        double t = oz_seconds();
        for (int i = 0; i < 16; i++) call(k, c, v, 1, mt, 1);
        t = (oz_seconds() - t) / 16;
        if (t < best) best = t;
    }
    return best;
}

oz_status oz_kernels_verify(uint32_t isa, oz_cell_check out[OZ_CELL_COUNT], int repeats)
{
    oz_kernels portable, checked, *active = &checked;
    oz_kernels_fill(active, isa);
    oz_cells_portable(&portable);
    inputs *v = oz_alloc_aligned(sizeof *v, 64);
    if (!v) return OZ_ERR_NOMEM;
    for (int c = 0; c < OZ_CELL_COUNT; c++) {
        bool exact = c < OZ_CELL_ROWS2 || (c >= OZ_CELL_EXPAND2 && c <= OZ_CELL_EXPAND8);
        out[c] = (oz_cell_check){.name = oz_cell_name((oz_cell)c), .isa = active->from[c], .exact = exact, .ok = true};
        int width = c <= OZ_CELL_DOT8 ? c - OZ_CELL_DOT2 : c >= OZ_CELL_ROWS2 && c <= OZ_CELL_ROWS8 ? c - OZ_CELL_ROWS2 : OZ_TILE_4;
        for (int kind = 0; kind < FILLS; kind++)
            for (int mt = 1; mt <= TOKENS; mt++, out[c].calls++) {
                fill(v, kind, width, mt);
                memset(v->out, 0, sizeof v->out);
                memset(v->q, 0, sizeof v->q);
                int n = call(&portable, (oz_cell)c, v, 0, mt, kind);
                call(active, (oz_cell)c, v, 1, mt, kind);
                if (exact)
                    out[c].ok = out[c].ok && !memcmp(v->out[0], v->out[1], sizeof v->out[0]) && !memcmp(v->q[0], v->q[1], sizeof v->q[0]);
                double most = 1e-30, apart = 0;
                for (int i = 0; i < n; i++) {
                    most = fmax(most, fabs((double)v->out[0][i]));
                    apart = fmax(apart, fabs((double)v->out[0][i] - (double)v->out[1][i]));
                    if (!isfinite(v->out[0][i]) && c != OZ_CELL_RANGE && !isnan(v->out[0][i]) && v->out[0][i] != v->out[1][i])
                        out[c].ok = false;
                }
                if (c != OZ_CELL_RANGE && isfinite(apart / most)) out[c].error = fmax(out[c].error, apart / most);
            }
        if (!exact) out[c].ok = out[c].ok && out[c].error < 2e-5;
        int mt = c <= OZ_CELL_DOT8 ? TOKENS : 1;
        fill(v, RANDOM, width, mt);
        cost((oz_cell)c, mt, &out[c].bytes, &out[c].ops);
        if (repeats > 0) {
            out[c].seconds = best_time(active, (oz_cell)c, v, mt, repeats);
            out[c].portable_seconds = best_time(&portable, (oz_cell)c, v, mt, repeats);
            out[c].calls += 16 * (uint64_t)repeats;
        }
        oz_kernel_count((oz_cell)c, out[c].calls);
    }
    oz_free(v);
    return OZ_OK;
}

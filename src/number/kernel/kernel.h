/* number/kernel/kernel.h: products with stored weights.  Three parts: the table of cells (what differs by instruction set), the
 * objects the cells read (tiled weights, quantized activations), and the drivers that other rooms call.
 *
 * Cells.  portable.c defines each one; x86/... files do the same faster.  dispatch.c fills the table once: portable first, then each level
 * the CPU has (and OUNCE_ISA allows) overwrites what it does better.  Integer sums are exact, so every level gives the same integers; the
 * f32 steps around them are written out below and use fused multiply-adds everywhere, so `dot` and `quantize` give the same bits on
 * every level.  The f32 cells (rows, expand, dense, attention) agree to rounding.
 *
 * Tiled weights.  16 rows make a tile, so that a vector of sums belongs to 16 rows and is never added across.  Any format with an affine
 * view (format_internal.h) becomes codes of 2, 4 or 8 bits with centre c = 2 (8, 128):
 *     value = s (u - c - z)   z an integer, often 0 everywhere and then not stored;     or     value = s (u - c) + b
 * Inputs are padded to a multiple of 16 with u = c, b left out (activations are padded with 0).  One 64-byte vector holds, for the four
 * bytes 4r + j (r: row of the tile, j = 0..3):
 *     8 bits  inputs 4v + j
 *     4 bits  input 8v + j in the low half, 8v + 4 + j in the high half
 *     2 bits  inputs 16v + 4h + j at bits 2h, h = 0..3
 *
 * Quantized activations.  Blocks of 12 tokens (the last may have fewer, mt): [kpad/4][mt][4] signed bytes.  A *run* is the stretch of F
 * inputs between two changes of any scale: F = gcd(weight group, activation group); arrays per block are [runs][mt]. */
#ifndef OUNCE_KERNEL_H
#define OUNCE_KERNEL_H
#include "ounce/linear.h"
#include "ounce/machine.h"

#define OZ_TILE_ROWS   16
#define OZ_TILE_TOKENS 12
#define OZ_FEW_TOKENS  4 /* tokens a call of the f32 row cells */

/* ---- cells: integer products ------------------------------------------------------------------------------ */
/* One tile of rows times one block of tokens.  For run f with weight group G = f / runs_per_group, row r, token t:
 *     n = init[f][t] + sum over the run of u x      (int32; init = -c sum x, so n is the centred sum)
 *     v = (float)n;   if zero: v = fma(-z[G][r], xsum[f][t], v)
 *     y = fma(a[f][t] * s[G][r], v, y)
 *     if shift: y = fma(b[G][r], a[f][t] * xsum[f][t], y);   if wsum: y = fma(wsum[f][r], az[f][t], y)
 * y starts at 0 and is written to out[t * 16 + r].  |sum| stays below 2^31: F <= 32768. */
typedef struct oz_dot {
    const uint8_t *codes; /* the tile */
    const int8_t *x;      /* the block of tokens */
    int64_t kpad;         /* multiple of 16 */
    int64_t run;          /* F, multiple of 16; the last run may be short */
    int64_t runs, runs_per_group;
    const uint16_t *scale16; /* [groups][16] f16, or NULL and ... */
    const float *scale32;    /* ... f32 */
    const int8_t *zero;      /* [groups][16] or NULL */
    const float *shift;      /* [groups][16] or NULL */
    const float *wsum;       /* [runs][16] sums of the decoded weights of a run; NULL when activations are symmetric */
    const int32_t *init;
    const float *xsum, *a, *az; /* [runs][mt]; az may be NULL */
    float *out;                 /* [mt][16] */
} oz_dot;
enum { OZ_TILE_2, OZ_TILE_4, OZ_TILE_8, OZ_TILE_WIDTHS };
typedef void oz_dot_fn(const oz_dot *, int mt); /* 1 <= mt <= 12 */
typedef struct oz_cells_dot {
    oz_dot_fn *dot[OZ_TILE_WIDTHS];
} oz_cells_dot;

/* ---- cells: activations ---------------------------------------------------------------------------------------- */
/* range: largest |x| as the bits of an f32 (>= 0x7f800000: not finite), smallest and largest x; n >= 1.
 * quantize: q = rint(x * inv), or rint(x / step) + zero - 128 when asym, held within [lo, hi]; returns how many were outside.
 * x and q need no alignment; nothing is read or written beyond n. */
typedef struct oz_range {
    uint32_t absmax;
    float lo, hi;
} oz_range;
typedef struct oz_code_rule {
    float factor, zero, lo, hi;
    bool asym;
} oz_code_rule; /* factor: inv or step; asym: lo, hi before the 128 is taken off */
typedef struct oz_cells_act {
    void (*range)(const float *x, int64_t n, oz_range *);
    int64_t (*quantize)(const float *x, int64_t n, const oz_code_rule *, int8_t *q);
} oz_cells_act;

/* ---- cells: f32 ------------------------------------------------------------------------------------------------------ */
/* rows: one tile times mt <= 4 tokens in f32, x [mt] rows of stride ldx holding kpad values; xsum [groups][mt] sums of x (NULL unless zero
 * or shift): out[t*16 + r] = sum over groups of s (sum (u - c) x - z xsum) + b xsum.
 * expand: the tile's values, p[k * ld + r] for all k < cols.
 * dense: `rows` rows of a plain matrix (stride ldw elements) times mt <= 4 tokens: out[t * ldo + r]. */
typedef struct oz_rows {
    const uint8_t *codes;
    int64_t kpad, group, groups;
    const uint16_t *scale16;
    const float *scale32;
    const int8_t *zero;
    const float *shift;
    const float *x;
    int64_t ldx;
    const float *xsum;
    float *out;
} oz_rows;
typedef void oz_rows_fn(const oz_rows *, int mt);
typedef void oz_expand_fn(const oz_rows *, int64_t cols, float *p, int64_t ld); /* x, xsum, out unused */
typedef void oz_dense_fn(const void *w, int64_t ldw, int64_t rows, int64_t k, const float *x, int64_t ldx, int mt, float *out, int64_t ldo);
typedef struct oz_cells_fp {
    oz_rows_fn *rows[OZ_TILE_WIDTHS];
    oz_expand_fn *expand[OZ_TILE_WIDTHS];
    oz_dense_fn *f16, *bf16, *f32;
} oz_cells_fp;

/* ---- cells: attention over f16 keys and values ------------------------------------------------------------------------- */
/* dot: out[i] = q . k_i for n keys of d values at stride ldk.  mix: y += sum over i of p[i] v_i. */
typedef struct oz_cells_attention {
    void (*dot)(const float *q, const uint16_t *k, int64_t ldk, int64_t n, int64_t d, float *out);
    void (*mix)(const float *p, const uint16_t *v, int64_t ldv, int64_t n, int64_t d, float *y);
} oz_cells_attention;

typedef enum {
    OZ_CELL_DOT2,
    OZ_CELL_DOT4,
    OZ_CELL_DOT8,
    OZ_CELL_RANGE,
    OZ_CELL_QUANTIZE,
    OZ_CELL_ROWS2,
    OZ_CELL_ROWS4,
    OZ_CELL_ROWS8,
    OZ_CELL_EXPAND2,
    OZ_CELL_EXPAND4,
    OZ_CELL_EXPAND8,
    OZ_CELL_DENSE_F16,
    OZ_CELL_DENSE_BF16,
    OZ_CELL_DENSE_F32,
    OZ_CELL_ATTN_DOT,
    OZ_CELL_ATTN_MIX,
    OZ_CELL_COUNT
} oz_cell;
typedef struct oz_kernels {
    oz_cells_dot dot;
    oz_cells_act act;
    oz_cells_fp fp;
    oz_cells_attention attention;
    oz_isa from[OZ_CELL_COUNT]; /* which level's file won each cell */
} oz_kernels;
/* The table for a set of levels (oz_isa bits), and the one in use. */
void oz_kernels_fill(oz_kernels *, uint32_t isa);
OZ_MUST oz_status oz_kernels_active(const oz_kernels **); /* fails when OUNCE_ISA is not possible here */

/* What won each cell, and how often it was called through the drivers below. */
typedef struct oz_cell_info {
    const char *name;
    oz_isa isa;
    uint64_t calls;
} oz_cell_info; /* "dot b4" */
OZ_MUST oz_status oz_kernel_cells(oz_cell_info out[OZ_CELL_COUNT]);
void oz_kernel_count(oz_cell, uint64_t calls); /* for callers that use a cell directly */

const char *oz_cell_name(oz_cell);

/* Checks every cell of the table for these levels against the portable one: random codes, all codes at their maximum with activations of
 * +-127 and -128, zeros; 576 inputs (the last run is short) and one to twelve tokens.  `exact` cells must give the same bits, the others
 * agree to `error` (largest difference relative to the largest value).  Times are of one call, best of `repeats` (0: none); every call is
 * counted. */
typedef struct oz_cell_check {
    const char *name;
    oz_isa isa; /* whose file the cell is from; OZ_ISA_PORTABLE: it is the definition */
    bool exact, ok;
    double error, seconds, portable_seconds, bytes, ops;
    uint64_t calls;
} oz_cell_check;
OZ_MUST oz_status oz_kernels_verify(uint32_t isa, oz_cell_check out[OZ_CELL_COUNT], int repeats);

/* ---- tiled weights ------------------------------------------------------------------------------------------------------------ */
typedef struct oz_tiles {
    int64_t rows, cols, kpad, group, groups; /* group == kpad: one scale a row */
    int width;                               /* OZ_TILE_2 ... */
    size_t tile_bytes;
    uint8_t *codes; /* [tiles][tile_bytes] */
    uint16_t *scale16;
    float *scale32; /* [tiles][groups][16] */
    int8_t *zero;
    float *shift;
    float *wsum; /* [tiles][runs][16], for runs of `wsum_run` inputs; NULL until oz_tiles_sums */
    int64_t wsum_run;
} oz_tiles;
/* False: this matrix has no affine view, or groups that are not a multiple of 16; it is served by oz_kernel_panel. */
bool oz_tiles_possible(const oz_fmt *);
OZ_MUST oz_status oz_tiles_new(oz_tiles **, const oz_packed *, oz_pool *);
void oz_tiles_free(oz_tiles *);
size_t oz_tiles_bytes(const oz_tiles *);
/* Makes wsum for runs of `run` inputs (asymmetric activations need it).  Not thread safe: call it before products run. */
OZ_MUST oz_status oz_tiles_sums(oz_tiles *, int64_t run);

/* ---- quantized activations ---------------------------------------------------------------------------------------------------- */
typedef struct oz_qact oz_qact;
/* True when the kernels know this activation format for k inputs. */
bool oz_qact_possible(const oz_act *, int64_t k);
/* Quantizes all rows of x (card cpu-inference; asym and static: card smoothquant).  saturated counts (adds) clipped elements of static
 * formats, may be NULL.  OZ_ERR_NUMERIC when x is not finite (names the token; callers add the layer). */
OZ_MUST oz_status oz_kernel_act_quant(oz_qact **, const oz_act *, oz_mat x, int64_t *saturated, oz_pool *);
void oz_qact_free(oz_qact *);
void oz_qact_decode(const oz_qact *, oz_mat x); /* what the codes mean: tests */
/* Run length for this pair, 0: the pair has none (a group that divides neither): use fake quantization and the f32 path.  Prepares the
 * per-run arrays (kept in the qact); not thread safe: call it before products run. */
OZ_MUST oz_status oz_qact_prepare(oz_qact *, const oz_tiles *, int64_t *run);

/* ---- products; rows [row0, row1) of the weight, row0 a multiple of 16; y [tokens x rows of the weight]; safe in parallel on disjoint rows
 */
OZ_MUST oz_status oz_kernel_int(const oz_tiles *, const oz_qact *, int64_t row0, int64_t row1, oz_mat y, oz_work *);
/* f32 activations on tiles: few tokens row by row, many by expanding rows to f32 and a BLAS product. */
OZ_MUST oz_status oz_kernel_f32(const oz_tiles *, oz_mat x, int64_t row0, int64_t row1, oz_mat y, oz_work *);
/* f32 activations on any packed matrix: plain f32, f16, bf16 by the dense cells when tokens are few; else decoded by its own unpack. */
OZ_MUST oz_status oz_kernel_panel(const oz_packed *, oz_mat x, int64_t row0, int64_t row1, oz_mat y, oz_work *);
/* Rows a piece of parallel work should have (multiple of 16) for a weight [rows x k]. */
int64_t oz_kernel_grain(int64_t rows, int64_t k);
const char *oz_tiles_name(const oz_tiles *, bool integer, char *out, size_t n); /* "dot_int b4 g128 avx512-vnni" */
#endif

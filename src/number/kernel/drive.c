/* number/kernel/drive.c: products with f32 activations.  Few tokens: row cells that decode in registers.  Many: a panel of rows is decoded
 * to f32 once and a BLAS product does the rest.  Which one depends on the number of tokens alone, never on threads. */
#include "number/kernel/cells.h"

#include <inttypes.h>

#define PANEL_TOKENS 40          /* from here a panel pays: measured, OUNCE_TEST_TIMES=1 of tests/kernel/product.c */
#define PANEL_BYTES  (512 << 10) /* stays in the second-level cache */

int64_t oz_kernel_grain(int64_t rows, int64_t k)
{
    int64_t grain = (256 << 10) / (k > 0 ? k : 1) / OZ_TILE_ROWS * OZ_TILE_ROWS; /* about 256 Ki weights a piece */
    if (grain > rows / 8) grain = rows / 8 / OZ_TILE_ROWS * OZ_TILE_ROWS;        /* and at least 8 pieces when there are rows for them */
    if (grain < 2 * OZ_TILE_ROWS) grain = 2 * OZ_TILE_ROWS;
    return grain;
}

static oz_rows tile_of(const oz_tiles *w, int64_t tile)
{
    int64_t g = tile * w->groups * OZ_TILE_ROWS;
    return (oz_rows){.codes = w->codes + (size_t)tile * w->tile_bytes,
                     .kpad = w->kpad,
                     .group = w->group,
                     .groups = w->groups,
                     .scale16 = w->scale16 ? w->scale16 + g : NULL,
                     .scale32 = w->scale32 ? w->scale32 + g : NULL,
                     .zero = w->zero ? w->zero + g : NULL,
                     .shift = w->shift ? w->shift + g : NULL};
}

static int64_t panel_rows(int64_t k)
{
    int64_t n = PANEL_BYTES / 4 / (k > 0 ? k : 1) / OZ_TILE_ROWS * OZ_TILE_ROWS;
    return n < 2 * OZ_TILE_ROWS ? 2 * OZ_TILE_ROWS : n > 256 ? 256 : n;
}

oz_status oz_kernel_f32(const oz_tiles *w, oz_mat x, int64_t row0, int64_t row1, oz_mat y, oz_work *work)
{
    const oz_kernels *kernels;
    OZ_TRY(oz_kernels_active(&kernels));
    if (x.cols != w->cols || y.rows != x.rows || y.cols < row1 || row0 % OZ_TILE_ROWS)
        return oz_fail(OZ_ERR_SHAPE, NULL,
                       "product of [%" PRId64 " x %" PRId64 "] with rows %" PRId64 " to %" PRId64 " of a weight of %" PRId64 " inputs",
                       x.rows, x.cols, row0, row1, w->cols);
    if (x.rows >= PANEL_TOKENS) {
        int64_t most = panel_rows(w->cols);
        float *p = oz_arena_alloc(work->arena, sizeof(float) * (size_t)(most * w->cols));
        if (!p) return OZ_ERR_NOMEM;
        for (int64_t r0 = row0; r0 < row1; r0 += most) {
            int64_t n = row1 - r0 < most ? row1 - r0 : most;
            for (int64_t r = 0; r < n; r += OZ_TILE_ROWS) {
                oz_rows tile = tile_of(w, (r0 + r) / OZ_TILE_ROWS);
                kernels->fp.expand[w->width](&tile, w->cols, p + r, most);
            }
            oz_kernel_count((oz_cell)(OZ_CELL_EXPAND2 + w->width), (uint64_t)((n + OZ_TILE_ROWS - 1) / OZ_TILE_ROWS));
            oz_mat panel = {p, w->cols, n, most}, part = {y.p + r0, y.rows, n, y.ld};
            OZ_TRY(oz_gemm(NULL, 0, 0, 1, x, panel, 0, part));
        }
        return OZ_OK;
    }
    const float *px = x.p;
    int64_t ldx = x.ld;
    if (w->kpad != w->cols) { /* the padding is read: it must exist and be finite */
        float *padded = oz_arena_zalloc(work->arena, sizeof(float) * (size_t)(x.rows * w->kpad));
        if (!padded) return OZ_ERR_NOMEM;
        for (int64_t t = 0; t < x.rows; t++) memcpy(padded + t * w->kpad, x.p + t * x.ld, sizeof(float) * (size_t)w->cols);
        px = padded;
        ldx = w->kpad;
    }
    float *sums = NULL, out[OZ_FEW_TOKENS * OZ_TILE_ROWS] __attribute__((aligned(64)));
    if ((w->zero || w->shift) && !(sums = oz_arena_alloc(work->arena, sizeof(float) * OZ_FEW_TOKENS * (size_t)w->groups)))
        return OZ_ERR_NOMEM;
    for (int64_t t0 = 0; t0 < x.rows; t0 += OZ_FEW_TOKENS) {
        int mt = (int)(x.rows - t0 < OZ_FEW_TOKENS ? x.rows - t0 : OZ_FEW_TOKENS);
        for (int64_t g = 0; sums && g < w->groups; g++)
            for (int t = 0; t < mt; t++) {
                float lane[16] = {0};
                const float *v = px + (t0 + t) * ldx;
                for (int64_t k = g * w->group, end = oz_run_end(k, w->group, w->kpad); k < end; k += 16)
                    for (int l = 0; l < 16; l++) lane[l] += v[k + l];
                for (int h = 8; h; h /= 2)
                    for (int l = 0; l < h; l++) lane[l] += lane[l + h];
                sums[g * mt + t] = lane[0];
            }
        for (int64_t r0 = row0; r0 < row1; r0 += OZ_TILE_ROWS) {
            int64_t n = row1 - r0 < OZ_TILE_ROWS ? row1 - r0 : OZ_TILE_ROWS;
            oz_rows tile = tile_of(w, r0 / OZ_TILE_ROWS);
            tile.x = px + t0 * ldx;
            tile.ldx = ldx;
            tile.xsum = sums;
            tile.out = out;
            kernels->fp.rows[w->width](&tile, mt);
            for (int t = 0; t < mt; t++) memcpy(y.p + (t0 + t) * y.ld + r0, out + t * OZ_TILE_ROWS, sizeof(float) * (size_t)n);
        }
        oz_kernel_count((oz_cell)(OZ_CELL_ROWS2 + w->width), (uint64_t)((row1 - row0 + OZ_TILE_ROWS - 1) / OZ_TILE_ROWS));
    }
    return OZ_OK;
}

oz_status oz_kernel_panel(const oz_packed *w, oz_mat x, int64_t row0, int64_t row1, oz_mat y, oz_work *work)
{
    const oz_kernels *kernels;
    OZ_TRY(oz_kernels_active(&kernels));
    int64_t k = w->fmt.n;
    if (x.cols != k || y.rows != x.rows || y.cols < row1)
        return oz_fail(OZ_ERR_SHAPE, NULL,
                       "product of [%" PRId64 " x %" PRId64 "] with rows %" PRId64 " to %" PRId64 " of a weight of %" PRId64 " inputs",
                       x.rows, x.cols, row0, row1, k);
    oz_dtype type = w->n ? w->a[0].v.dtype : OZ_U8;
    bool plain = w->fmt.type && w->fmt.type->flags & OZ_FMT_FLOAT && w->n == 1 && w->a[0].v.rank == 2 && w->a[0].v.stride[1] == 1;
    if (plain && x.rows < PANEL_TOKENS && (type == OZ_F16 || type == OZ_BF16 || type == OZ_F32)) {
        oz_dense_fn *f = type == OZ_F16 ? kernels->fp.f16 : type == OZ_BF16 ? kernels->fp.bf16 : kernels->fp.f32;
        int64_t ld = w->a[0].v.stride[0];
        const char *p = (const char *)oz_array_data(&w->a[0]) + (size_t)(row0 * ld) * oz_dtype_size(type);
        for (int64_t t = 0; t < x.rows; t += OZ_FEW_TOKENS)
            f(p, ld, row1 - row0, k, x.p + t * x.ld, x.ld, (int)(x.rows - t < OZ_FEW_TOKENS ? x.rows - t : OZ_FEW_TOKENS),
              y.p + t * y.ld + row0, y.ld);
        oz_kernel_count(type == OZ_F16 ? OZ_CELL_DENSE_F16 : type == OZ_BF16 ? OZ_CELL_DENSE_BF16 : OZ_CELL_DENSE_F32, 1);
        return OZ_OK;
    }
    int64_t most = panel_rows(k);
    float *p = oz_arena_alloc(work->arena, sizeof(float) * (size_t)(most * k));
    if (!p) return OZ_ERR_NOMEM;
    for (int64_t r0 = row0; r0 < row1; r0 += most) {
        int64_t n = row1 - r0 < most ? row1 - r0 : most;
        OZ_TRY(oz_unpack(w, r0, n, oz_mat_of(p, n, k)));
        OZ_TRY(oz_gemm(NULL, 0, 1, 1, x, oz_mat_of(p, n, k), 0, (oz_mat){y.p + r0, y.rows, n, y.ld}));
    }
    return OZ_OK;
}

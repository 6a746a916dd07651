/* gemm.c: dense products over the pool, OpenBLAS below, one thread a call.  The result is cut into tiles whose size depends on the shapes
 * alone, each tile is one BLAS call, so every element is the same bits whatever the number of threads. */
#include "core/tensor/blas.h"
#include "ounce/tensor.h"

#include <cblas.h>
#include <inttypes.h>
#include <limits.h>

/* A tile is large enough that packing its operands costs little (BLAS packs per call: mt + nt values read for mt * nt products)
 * and small enough that a layer of a small model still feeds all threads. */
#define TILE_ROWS 256
#define TILE_COLS 512

typedef struct product {
    int ta, tb;
    float alpha, beta;
    oz_mat a, b, c;
    int64_t k, mt, nt, across; /* tiles per row of tiles */
} product;

static oz_status tile(void *ctx, int64_t t0, int64_t t1, oz_work *work)
{
    const product *p = ctx;
    (void)work;
    for (int64_t t = t0; t < t1; t++) {
        int64_t i = t / p->across * p->mt, j = t % p->across * p->nt;
        int64_t m = p->c.rows - i < p->mt ? p->c.rows - i : p->mt, n = p->c.cols - j < p->nt ? p->c.cols - j : p->nt;
        const float *a = p->a.p + (p->ta ? i : i * p->a.ld), *b = p->b.p + (p->tb ? j * p->b.ld : j);
        float *c = p->c.p + i * p->c.ld + j;
        cblas_sgemm(CblasRowMajor, p->ta ? CblasTrans : CblasNoTrans, p->tb ? CblasTrans : CblasNoTrans, (int)m, (int)n, (int)p->k,
                    p->alpha, a, (int)p->a.ld, b, (int)p->b.ld, p->beta, c, (int)p->c.ld);
    }
    return OZ_OK;
}

/* Tiles of nearly equal size, at most `most`, a multiple of 16: 576 columns are 2 x 288, not 512 + 64. */
static int64_t even(int64_t n, int64_t most)
{
    int64_t tiles = (n + most - 1) / most;
    return ((n + tiles - 1) / tiles + 15) / 16 * 16;
}

oz_status oz_gemm(oz_pool *pool, int ta, int tb, double alpha, oz_mat a, oz_mat b, double beta, oz_mat c)
{
    int64_t m = ta ? a.cols : a.rows, k = ta ? a.rows : a.cols, k2 = tb ? b.cols : b.rows, n = tb ? b.rows : b.cols;
    if (m != c.rows || n != c.cols || k != k2)
        return oz_fail(OZ_ERR_SHAPE, NULL,
                       "product of [%" PRId64 " x %" PRId64 "] and [%" PRId64 " x %" PRId64 "] into [%" PRId64 " x %" PRId64 "]", m, k, k2,
                       n, c.rows, c.cols);
    if (m <= 0 || n <= 0) return OZ_OK;
    oz_blas_ready();
    if (k > INT_MAX || a.ld > INT_MAX || b.ld > INT_MAX || c.ld > INT_MAX)
        return oz_fail(OZ_ERR_SHAPE, NULL, "product with a dimension above %d", INT_MAX);
    product p = {ta, tb, (float)alpha, (float)beta, a, b, c, k, TILE_ROWS, TILE_COLS, 0};
    if (m <= 64) p.nt = TILE_COLS / 2; /* few tokens: only the outputs can be shared out */
    p.nt = even(n, p.nt);
    p.mt = even(m, p.mt);
    p.across = (n + p.nt - 1) / p.nt;
    return oz_pool_for(pool, (m + p.mt - 1) / p.mt * p.across, 1, tile, &p);
}

/* ---- H += alpha XᵀX ------------------------------------------------------------------------------------------- */
#define GRAM_TILE   256
#define GRAM_TOKENS 2048

typedef struct gram {
    double alpha;
    oz_mat x;
    double *h;
    int64_t n, across;
} gram;

static oz_status gram_tile(void *ctx, int64_t t0, int64_t t1, oz_work *work)
{
    const gram *g = ctx;
    float *part = oz_arena_alloc(work->arena, sizeof(float) * GRAM_TILE * GRAM_TILE);
    if (!part) return OZ_ERR_NOMEM;
    for (int64_t t = t0; t < t1; t++) {
        int64_t bi = 0, left = t; /* t-th tile of the upper triangle, row by row */
        while (left >= g->across - bi) left -= g->across - bi++;
        int64_t i0 = bi * GRAM_TILE, j0 = (bi + left) * GRAM_TILE;
        int64_t m = g->n - i0 < GRAM_TILE ? g->n - i0 : GRAM_TILE, n = g->n - j0 < GRAM_TILE ? g->n - j0 : GRAM_TILE;
        for (int64_t s = 0; s < g->x.rows; s += GRAM_TOKENS) {
            int k = (int)(g->x.rows - s < GRAM_TOKENS ? g->x.rows - s : GRAM_TOKENS);
            const float *x = g->x.p + s * g->x.ld;
            if (i0 == j0)
                cblas_ssyrk(CblasRowMajor, CblasUpper, CblasTrans, (int)n, k, 1, x + i0, (int)g->x.ld, 0, part, GRAM_TILE);
            else
                cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)m, (int)n, k, 1, x + i0, (int)g->x.ld, x + j0, (int)g->x.ld, 0,
                            part, GRAM_TILE);
            for (int64_t i = 0; i < m; i++) {
                double *h = g->h + (i0 + i) * g->n + j0;
                for (int64_t j = i0 == j0 ? i : 0; j < n; j++) h[j] += g->alpha * (double)part[i * GRAM_TILE + j];
            }
        }
    }
    return OZ_OK;
}

oz_status oz_syrk_f64(oz_pool *pool, double alpha, oz_mat x, double *h, int64_t n)
{
    if (x.cols != n) return oz_fail(OZ_ERR_SHAPE, NULL, "second moments of %" PRId64 " features into a matrix for %" PRId64, x.cols, n);
    if (x.ld > INT_MAX) return oz_fail(OZ_ERR_SHAPE, NULL, "product with a dimension above %d", INT_MAX);
    oz_blas_ready();
    gram g = {alpha, x, h, n, (n + GRAM_TILE - 1) / GRAM_TILE};
    return oz_pool_for(pool, g.across * (g.across + 1) / 2, 1, gram_tile, &g);
}

void oz_mirror_upper(double *h, int64_t n)
{
    enum { B = 32 }; /* blocks: both sides stay in cache */
    for (int64_t i0 = 0; i0 < n; i0 += B)
        for (int64_t j0 = i0; j0 < n; j0 += B)
            for (int64_t i = i0; i < i0 + B && i < n; i++)
                for (int64_t j = j0 > i ? j0 : i + 1; j < j0 + B && j < n; j++) h[j * n + i] = h[i * n + j];
}

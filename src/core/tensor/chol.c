/* chol.c: H = R Rᵀ with R upper triangular, and U = R^-1 (card owq, B.4: then H^-1 = UᵀU, the factor the sweeps read).
 *
 * R is found from the last block to the first, the mirror image of the usual factorization:
 *     R_kk from H_kk = R_kk R_kkᵀ;   R_ik = H_ik R_kk^-T for i < k;   H_ij -= R_ik R_jkᵀ for i <= j < k.
 * The updates are cut into fixed tiles over the pool: the bits do not depend on the number of threads. */
#include "core/tensor/blas.h"
#include "ounce/tensor.h"

#include <cblas.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <string.h>

#define BLOCK 64
#define TILE  256 /* a multiple of BLOCK */

/* One diagonal block, in place.  Returns the row whose pivot is not positive, or -1. */
static int64_t small_factor(double *a, int64_t nb, int64_t ld)
{
    for (int64_t j = nb - 1; j >= 0; j--) {
        double *rj = a + j * ld, d = rj[j];
        for (int64_t k = j + 1; k < nb; k++) d -= rj[k] * rj[k];
        if (!(d > 0) || !isfinite(d)) return j;
        rj[j] = sqrt(d);
        for (int64_t i = 0; i < j; i++) {
            double *ri = a + i * ld, s = ri[j];
            for (int64_t k = j + 1; k < nb; k++) s -= ri[k] * rj[k];
            ri[j] = s / rj[j];
        }
    }
    return -1;
}

typedef struct step {
    double *r;
    int64_t n, k0, nb; /* the block [k0, k0 + nb) was just factored */
} step;

static oz_status panel(void *ctx, int64_t i0, int64_t i1, oz_work *work)
{
    const step *s = ctx;
    (void)work;
    cblas_dtrsm(CblasRowMajor, CblasRight, CblasUpper, CblasTrans, CblasNonUnit, (int)(i1 - i0), (int)s->nb, 1, s->r + s->k0 * s->n + s->k0,
                (int)s->n, s->r + i0 * s->n + s->k0, (int)s->n);
    return OZ_OK;
}

static oz_status update(void *ctx, int64_t t0, int64_t t1, oz_work *work)
{
    const step *s = ctx;
    (void)work;
    for (int64_t t = t0; t < t1; t++) {
        int64_t bj = 0;
        while ((bj + 1) * (bj + 2) / 2 <= t) bj++;
        int64_t i0 = (t - bj * (bj + 1) / 2) * TILE, j0 = bj * TILE;
        int64_t m = s->k0 - i0 < TILE ? s->k0 - i0 : TILE, n = s->k0 - j0 < TILE ? s->k0 - j0 : TILE;
        double *h = s->r + i0 * s->n + j0;
        const double *a = s->r + i0 * s->n + s->k0, *b = s->r + j0 * s->n + s->k0;
        if (i0 == j0)
            cblas_dsyrk(CblasRowMajor, CblasUpper, CblasNoTrans, (int)n, (int)s->nb, -1, a, (int)s->n, 1, h, (int)s->n);
        else
            cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)m, (int)n, (int)s->nb, -1, a, (int)s->n, b, (int)s->n, 1, h,
                        (int)s->n);
    }
    return OZ_OK;
}

typedef struct inverse {
    const double *r;
    double *u;
    int64_t n, across;
} inverse;

/* Columns [j0, j1) of U solve R U = I; only rows above j1 are not zero.  The widest come first. */
static oz_status invert(void *ctx, int64_t t0, int64_t t1, oz_work *work)
{
    const inverse *v = ctx;
    (void)work;
    for (int64_t t = t0; t < t1; t++) {
        int64_t j0 = (v->across - 1 - t) * BLOCK * 2, j1 = j0 + BLOCK * 2 < v->n ? j0 + BLOCK * 2 : v->n;
        for (int64_t i = 0; i < v->n; i++) memset(v->u + i * v->n + j0, 0, sizeof(double) * (size_t)(j1 - j0));
        for (int64_t j = j0; j < j1; j++) v->u[j * v->n + j] = 1;
        cblas_dtrsm(CblasRowMajor, CblasLeft, CblasUpper, CblasNoTrans, CblasNonUnit, (int)j1, (int)(j1 - j0), 1, v->r, (int)v->n,
                    v->u + j0, (int)v->n);
        for (int64_t i = j0; i < j1; i++) /* exact zeros below the diagonal */
            for (int64_t j = j0; j < i; j++) v->u[i * v->n + j] = 0;
    }
    return OZ_OK;
}

oz_status oz_chol_upper_inv(oz_pool *pool, const double *h, int64_t n, double *r, double *u)
{
    if (n <= 0 || n > INT_MAX) return oz_fail(OZ_ERR_SHAPE, NULL, "Cholesky factor of a matrix of %" PRId64 " rows", n);
    oz_blas_ready();
    if (r != h) memcpy(r, h, sizeof(double) * (size_t)n * (size_t)n);
    for (int64_t k0 = (n - 1) / BLOCK * BLOCK; k0 >= 0; k0 -= BLOCK) {
        step s = {r, n, k0, n - k0 < BLOCK ? n - k0 : BLOCK};
        int64_t bad = small_factor(r + k0 * n + k0, s.nb, n), tiles = (k0 + TILE - 1) / TILE;
        if (bad >= 0)
            return oz_fail(OZ_ERR_NUMERIC, "use more damping, more calibration text, or a solver without second-order information",
                           "matrix of second moments [%" PRId64 " x %" PRId64 "] is not positive definite (input %" PRId64 ")", n, n,
                           k0 + bad);
        if (!k0) break;
        OZ_TRY(oz_pool_for(pool, k0, BLOCK * 2, panel, &s));
        OZ_TRY(oz_pool_for(pool, tiles * (tiles + 1) / 2, 1, update, &s));
    }
    for (int64_t i = 1; i < n; i++) memset(r + i * n, 0, sizeof(double) * (size_t)i);
    inverse v = {r, u, n, (n + BLOCK * 2 - 1) / (BLOCK * 2)};
    return oz_pool_for(pool, v.across, 1, invert, &v);
}

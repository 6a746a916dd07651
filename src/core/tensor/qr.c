/* qr.c: the orthogonal factor of a square f64 matrix, with the signs that make it unique (diagonal of R positive): applied to a
 * matrix of normal numbers this gives a uniformly distributed rotation.  Householder reflections by LAPACK (dgeqrf, dorgqr). */
#include "ounce/tensor.h"

#include <inttypes.h>

void dgeqrf_(const int *m, const int *n, double *a, const int *lda, double *tau, double *work, const int *lwork, int *info);
void dorgqr_(const int *m, const int *n, const int *k, double *a, const int *lda, const double *tau, double *work, const int *lwork,
             int *info);

static void transpose(double *a, int64_t n)
{
    enum { B = 32 };
    for (int64_t i0 = 0; i0 < n; i0 += B)
        for (int64_t j0 = i0; j0 < n; j0 += B)
            for (int64_t i = i0; i < i0 + B && i < n; i++)
                for (int64_t j = j0 > i ? j0 : i + 1; j < j0 + B && j < n; j++) {
                    double t = a[i * n + j];
                    a[i * n + j] = a[j * n + i];
                    a[j * n + i] = t;
                }
}

oz_status oz_qr_orthogonal(double *a, int64_t n, double *q)
{
    if (n <= 0 || n > 1 << 15) return oz_fail(OZ_ERR_SHAPE, NULL, "orthogonal factor of a matrix of %" PRId64 " rows", n);
    int k = (int)n, lwork = k * 64, info = 0;
    double *tau = oz_alloc((size_t)n, sizeof *tau), *sign = oz_alloc((size_t)n, sizeof *sign),
           *work = oz_alloc((size_t)lwork, sizeof *work);
    oz_status s = tau && sign && work ? OZ_OK : OZ_ERR_NOMEM;
    if (s) goto done;
    transpose(a, n); /* LAPACK stores columns */
    dgeqrf_(&k, &k, a, &k, tau, work, &lwork, &info);
    for (int64_t i = 0; i < n; i++) sign[i] = a[i * n + i] < 0 ? -1 : 1;
    if (!info) dorgqr_(&k, &k, &k, a, &k, tau, work, &lwork, &info);
    if (info) {
        s = oz_fail(OZ_ERR_NUMERIC, NULL, "QR of a [%" PRId64 " x %" PRId64 "] matrix failed (LAPACK info %d)", n, n, info);
        goto done;
    }
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) q[i * n + j] = a[j * n + i] * sign[j];
done:
    oz_free(tau);
    oz_free(sign);
    oz_free(work);
    return s;
}

/* blas.h: what every caller of BLAS in this folder does first. */
#ifndef OUNCE_TENSOR_BLAS_H
#define OUNCE_TENSOR_BLAS_H

/* One thread a call, once: work is shared out by the pool of core/base.  The pthread build of OpenBLAS is used because its buffers are
 * locked; Debian's serial build gives wrong results when two threads call it at the same time. */
void oz_blas_ready(void);

#endif

/* blas.c: makes OpenBLAS run each call on the calling thread. */
#include "core/tensor/blas.h"

#include <cblas.h>
#include <pthread.h>

static void one_thread(void) { openblas_set_num_threads(1); }

void oz_blas_ready(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, one_thread);
}

/* Products started from several threads at once give the bits they give alone (a BLAS whose buffers are not locked fails here). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <string.h>

#include "ounce/tensor.h"

enum { M = 64, N = 128, K = 64, TIMES = 3000 };
typedef struct work {
    float a[M * K], b[N * K], c[M * N], alone[M * N];
    int bad;
} work;

static void product(work *w, float *c)
{
    (void)!oz_gemm(NULL, 0, 1, 1, oz_mat_of(w->a, M, K), oz_mat_of(w->b, N, K), 0, oz_mat_of(c, M, N));
}

static void *again(void *arg)
{
    work *w = arg;
    for (int i = 0; i < TIMES; i++) {
        product(w, w->c);
        w->bad += memcmp(w->c, w->alone, sizeof w->c) != 0;
    }
    return NULL;
}

static void products_at_once_equal_products_alone(void **state)
{
    (void)state;
    static work w[4];
    pthread_t thread[4];
    for (int t = 0; t < 4; t++) {
        for (int i = 0; i < M * K; i++) w[t].a[i] = (float)oz_rng_normal((oz_rng){1, (uint64_t)t}, (uint64_t)i);
        for (int i = 0; i < N * K; i++) w[t].b[i] = (float)oz_rng_normal((oz_rng){2, (uint64_t)t}, (uint64_t)i);
        product(&w[t], w[t].alone);
    }
    for (int t = 0; t < 4; t++) assert_int_equal(pthread_create(&thread[t], NULL, again, &w[t]), 0);
    for (int t = 0; t < 4; t++) pthread_join(thread[t], NULL);
    for (int t = 0; t < 4; t++) assert_int_equal(w[t].bad, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(products_at_once_equal_products_alone)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

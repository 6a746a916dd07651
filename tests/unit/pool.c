/* pool.c: pieces, errors, nesting, and independence of the number of threads. Clean under the tsan preset. */
#include "ounce/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { N = 100003 };

typedef struct sums {
    double *piece;
    int64_t grain;
    _Atomic int64_t seen;
    oz_pool *pool;
    _Atomic int threads;
} sums;

static oz_status add(void *ctx, int64_t i0, int64_t i1, oz_work *work)
{
    sums *s = ctx;
    if (i0 % s->grain || i1 - i0 > s->grain || work->thread >= work->nthread) return oz_fail(OZ_ERR_RANGE, NULL, "piece at %d", (int)i0);
    double *scratch = oz_arena_alloc(work->arena, (size_t)(i1 - i0) * sizeof *scratch);
    if (!scratch) return OZ_ERR_NOMEM;
    double sum = 0;
    for (int64_t i = i0; i < i1; i++) scratch[i - i0] = 1.0 / (double)(i + 1);
    for (int64_t i = i0; i < i1; i++) sum += scratch[i - i0];
    s->piece[i0 / s->grain] = sum;
    atomic_fetch_add(&s->seen, i1 - i0);
    atomic_fetch_or(&s->threads, 1 << work->thread);
    return OZ_OK;
}

static void results_do_not_depend_on_threads(void **state)
{
    (void)state;
    static double first[N], other[N];
    const int64_t grains[] = {1, 7, 1000, N, 10 * N};
    for (size_t g = 0; g < sizeof grains / sizeof *grains; g++) {
        for (int threads = 0; threads <= 5; threads++) {
            oz_pool *pool = NULL;
            if (threads) assert_int_equal(oz_pool_new(&pool, threads), OZ_OK);
            assert_int_equal(oz_pool_threads(pool), threads ? threads : 1);
            sums s = {.piece = threads ? other : first, .grain = grains[g]};
            assert_int_equal(oz_pool_for(pool, N, grains[g], add, &s), OZ_OK);
            assert_int_equal(s.seen, N);
            if (threads) assert_memory_equal(first, other, (size_t)((N + grains[g] - 1) / grains[g]) * sizeof *first);
            oz_pool_free(pool);
        }
    }
    sums s = {.piece = first, .grain = 1};
    assert_int_equal(oz_pool_for(NULL, 0, 1, add, &s), OZ_OK);
    assert_int_equal(s.seen, 0);
}

static oz_status fails_at(void *ctx, int64_t i0, int64_t i1, oz_work *work)
{
    (void)i1;
    (void)work;
    if (i0 == *(int64_t *)ctx) return oz_fail(OZ_ERR_NUMERIC, "a hint", "row %d is not finite", (int)i0);
    return OZ_OK;
}

static void errors_reach_the_caller(void **state)
{
    (void)state;
    oz_pool *pool;
    assert_int_equal(oz_pool_new(&pool, 4), OZ_OK);
    for (int64_t at = 0; at < 400; at++) {
        oz_clear_message();
        assert_int_equal(oz_pool_for(pool, 400, 1, fails_at, &at), OZ_ERR_NUMERIC);
        char expected[64];
        snprintf(expected, sizeof expected, "row %d is not finite", (int)at);
        assert_string_equal(oz_message(), expected);
        assert_string_equal(oz_hint(), "a hint");
    }
    int64_t never = -1;
    assert_int_equal(oz_pool_for(pool, 400, 1, fails_at, &never), OZ_OK); /* the pool is usable after a failure */
    oz_pool_free(pool);
}

static oz_status nested(void *ctx, int64_t i0, int64_t i1, oz_work *work)
{
    (void)i0;
    (void)i1;
    (void)work;
    sums *s = ctx;
    static _Thread_local double piece[1000];
    sums inner = {.piece = piece, .grain = 10};
    OZ_TRY(oz_pool_for(s->pool, 1000, 10, add, &inner));
    atomic_fetch_add(&s->seen, inner.seen);
    atomic_fetch_or(&s->threads, inner.threads);
    return OZ_OK;
}

static void nested_calls_run_serially(void **state)
{
    (void)state;
    sums s = {.grain = 1};
    assert_int_equal(oz_pool_new(&s.pool, 3), OZ_OK);
    assert_int_equal(oz_pool_for(s.pool, 40, 1, nested, &s), OZ_OK);
    assert_int_equal(s.seen, 40000);
    assert_int_equal(s.threads, 1); /* thread 0 of 1 everywhere */
    oz_pool_free(s.pool);
}

static void many_short_jobs(void **state)
{
    (void)state;
    static double piece[64];
    oz_pool *pool;
    assert_int_equal(oz_pool_new(&pool, 3), OZ_OK);
    for (int i = 0; i < 3000; i++) {
        sums s = {.piece = piece, .grain = 1};
        assert_int_equal(oz_pool_for(pool, 1 + i % 64, 1, add, &s), OZ_OK);
        assert_int_equal(s.seen, 1 + i % 64);
    }
    oz_pool_free(pool);
}

static void bounds(void **state)
{
    (void)state;
    oz_pool *pool;
    assert_int_equal(oz_pool_new(&pool, 0), OZ_OK);
    assert_true(oz_pool_threads(pool) >= 1);
    oz_pool_free(pool);
    oz_pool_free(NULL);
    assert_int_equal(oz_pool_new(&pool, 100000), OZ_ERR_RANGE);
    assert_string_equal(oz_message(), "threads must be at most 1024, got 100000");
    assert_null(pool);
}

#ifdef OUNCE_FAULTS
static void allocation_failures(void **state)
{
    (void)state;
    int failed = 0;
    for (int64_t nth = 1;; nth++) {
        oz_pool *pool;
        oz_fault_alloc(nth);
        oz_status s = oz_pool_new(&pool, 3);
        oz_fault_alloc(0);
        if (!s) {
            oz_pool_free(pool);
            break;
        }
        assert_int_equal(s, OZ_ERR_NOMEM);
        assert_null(pool);
        assert_non_null(strstr(oz_message(), "out of memory"));
        failed++;
    }
    assert_int_equal(failed, 5);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_do_not_depend_on_threads),
        cmocka_unit_test(errors_reach_the_caller),
        cmocka_unit_test(nested_calls_run_serially),
        cmocka_unit_test(many_short_jobs),
        cmocka_unit_test(bounds),
#ifdef OUNCE_FAULTS
        cmocka_unit_test(allocation_failures),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

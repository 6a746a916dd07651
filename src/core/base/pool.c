/* pool.c: the thread pool.  Pieces of [0, n) are handed out by one atomic counter; pieces are the same whatever the number of
 * threads, so results are too.  The caller works along with the workers.
 *
 * Between jobs a worker spins about 20 microseconds (the gap between two products of one layer) and then sleeps on a condition
 * variable.  A job is published by raising `job`; the caller waits until every worker has left it, so the fields of the job are
 * stable while anyone reads them.  The first error wins; its message is moved to the caller's thread. */
#include "ounce/base.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SPIN_SECONDS 20e-6
#define MOST_THREADS 1024

typedef oz_status (*piece_fn)(void *ctx, int64_t i0, int64_t i1, oz_work *);

typedef struct worker {
    oz_pool *pool;
    pthread_t id;
    oz_arena *arena;
    int thread;
} worker;

struct oz_pool {
    int nthread;
    worker *workers; /* [nthread]; 0 is the caller */
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    _Atomic uint64_t job; /* rises once per job */
    _Atomic int running;  /* workers that have not left the job */
    _Atomic bool quit;
    atomic_flag busy; /* a job is running: a call from inside it, or from another thread, runs serially */
    /* the job */
    piece_fn fn;
    void *ctx;
    int64_t n, grain;
    _Atomic int64_t next;
    _Atomic bool failed;
    oz_saved_error error; /* of the first failure, under lock */
};

static void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __asm__ __volatile__("pause");
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

static oz_status run_piece(piece_fn fn, void *ctx, int64_t i0, int64_t n, int64_t grain, oz_work *work)
{
    int64_t i1 = n - i0 > grain ? i0 + grain : n;
    oz_arena_mark mark = oz_arena_save(work->arena);
    oz_status s = fn(ctx, i0, i1, work);
    oz_arena_rewind(work->arena, mark);
    return s;
}

static void run_share(oz_pool *pool, worker *w)
{
    oz_work work = {w->arena, w->thread, pool->nthread};
    while (!atomic_load_explicit(&pool->failed, memory_order_relaxed)) {
        int64_t i0 = atomic_fetch_add(&pool->next, pool->grain);
        if (i0 >= pool->n) return;
        oz_status s = run_piece(pool->fn, pool->ctx, i0, pool->n, pool->grain, &work);
        if (!s) continue;
        pthread_mutex_lock(&pool->lock);
        if (!atomic_exchange(&pool->failed, true)) oz_error_save(&pool->error, s);
        pthread_mutex_unlock(&pool->lock);
        return;
    }
}

static void *work_loop(void *arg)
{
    worker *w = arg;
    oz_pool *pool = w->pool;
    uint64_t seen = 0;
    for (;;) {
        double until = oz_seconds() + SPIN_SECONDS;
        for (int i = 1; atomic_load(&pool->job) == seen; i++) {
            cpu_relax();
            if (i % 64 == 0 && oz_seconds() > until) break;
        }
        if (atomic_load(&pool->job) == seen) {
            pthread_mutex_lock(&pool->lock);
            while (atomic_load(&pool->job) == seen) pthread_cond_wait(&pool->wake, &pool->lock);
            pthread_mutex_unlock(&pool->lock);
        }
        seen++;
        if (atomic_load(&pool->quit)) return NULL;
        run_share(pool, w);
        if (atomic_fetch_sub(&pool->running, 1) == 1) {
            pthread_mutex_lock(&pool->lock);
            pthread_cond_signal(&pool->done);
            pthread_mutex_unlock(&pool->lock);
        }
    }
}

static void publish(oz_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->job, 1);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
}

void oz_pool_free(oz_pool *pool)
{
    if (!pool) return;
    atomic_store(&pool->quit, true);
    publish(pool);
    for (int i = 1; i < pool->nthread; i++) pthread_join(pool->workers[i].id, NULL);
    for (int i = 0; pool->workers && i < pool->nthread; i++) oz_arena_free(pool->workers[i].arena);
    pthread_cond_destroy(&pool->done);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
    oz_free(pool->workers);
    oz_free(pool);
}

oz_status oz_pool_new(oz_pool **out, int threads)
{
    *out = NULL;
    if (threads <= 0) {
        long online = sysconf(_SC_NPROCESSORS_ONLN);
        threads = online > 0 ? (int)online : 1;
    }
    if (threads > MOST_THREADS) return oz_fail(OZ_ERR_RANGE, NULL, "threads must be at most %d, got %d", MOST_THREADS, threads);
    oz_pool *pool = oz_zalloc(1, sizeof *pool);
    if (!pool) return OZ_ERR_NOMEM;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->done, NULL);
    atomic_flag_clear(&pool->busy);
    pool->workers = oz_zalloc((size_t)threads, sizeof *pool->workers);
    oz_status s = pool->workers ? OZ_OK : OZ_ERR_NOMEM;
    for (int i = 0; !s && i < threads; i++) {
        worker *w = &pool->workers[i];
        w->pool = pool;
        w->thread = i;
        s = oz_arena_new(&w->arena, (size_t)256 << 10);
        if (s) break;
        int error = i ? pthread_create(&w->id, NULL, work_loop, w) : 0;
        if (error) {
            oz_arena_free(w->arena);
            w->arena = NULL;
            s = oz_fail(OZ_ERR_NOMEM, "ask for fewer threads with --threads", "cannot start thread %d of %d: %s", i + 1, threads,
                        strerror(error));
            break;
        }
        pool->nthread = i + 1;
    }
    if (s) {
        oz_saved_error saved;
        oz_error_save(&saved, s);
        oz_pool_free(pool);
        return oz_error_restore(&saved);
    }
    *out = pool;
    return OZ_OK;
}

int oz_pool_threads(const oz_pool *pool) { return pool ? pool->nthread : 1; }

static oz_status run_serially(int64_t n, int64_t grain, piece_fn fn, void *ctx)
{
    oz_work work = {.nthread = 1};
    OZ_TRY(oz_arena_new(&work.arena, 0));
    oz_status s = OZ_OK;
    for (int64_t i0 = 0; !s && i0 < n; i0 += grain) s = run_piece(fn, ctx, i0, n, grain, &work);
    oz_arena_free(work.arena);
    return s;
}

oz_status oz_pool_for(oz_pool *pool, int64_t n, int64_t grain, piece_fn fn, void *ctx)
{
    if (n <= 0) return OZ_OK;
    if (grain < 1) grain = 1;
    if (!pool || atomic_flag_test_and_set(&pool->busy)) return run_serially(n, grain, fn, ctx);
    pool->fn = fn;
    pool->ctx = ctx;
    pool->n = n;
    pool->grain = grain;
    atomic_store(&pool->next, 0);
    atomic_store(&pool->failed, false);
    bool alone = pool->nthread == 1 || n <= grain;
    if (!alone) {
        atomic_store(&pool->running, pool->nthread - 1);
        publish(pool);
    }
    run_share(pool, &pool->workers[0]);
    if (!alone) {
        double until = oz_seconds() + SPIN_SECONDS;
        for (int i = 1; atomic_load(&pool->running) > 0; i++) {
            cpu_relax();
            if (i % 64 == 0 && oz_seconds() > until) break;
        }
        /* Always under the lock: the last worker takes it after its countdown, and must not find the pool freed. */
        pthread_mutex_lock(&pool->lock);
        while (atomic_load(&pool->running) > 0) pthread_cond_wait(&pool->done, &pool->lock);
        pthread_mutex_unlock(&pool->lock);
    }
    oz_status s = atomic_load(&pool->failed) ? oz_error_restore(&pool->error) : OZ_OK;
    atomic_flag_clear(&pool->busy);
    return s;
}

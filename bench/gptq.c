/* gptq.c: times the solver on one random matrix of int4.asym, H given; the counterpart of gptq_torch.py.
 *
 *     cmake --preset release && cmake --build build/release
 *     cc -std=c17 -O2 -Iinclude bench/gptq.c build/release/libounce.a -o build/bench_gptq \
 *        $(pkg-config --libs jansson yaml-0.1 libpcre2-8 libutf8proc libcrypto) -l:libopenblas.so.0 -lm -lpthread
 *     build/bench_gptq 4096 4096 128 2                 out, in, group, threads; best of three */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "ounce/quantize.h"

#define CHECK(e)                                                                                                                           \
    if ((e)) return fprintf(stderr, "%s\n", oz_message()), 1

int main(int argc, char **argv)
{
    int64_t m = argc > 1 ? atoi(argv[1]) : 4096, n = argc > 2 ? atoi(argv[2]) : 4096, g = argc > 3 ? atoi(argv[3]) : 128;
    int threads = argc > 4 ? atoi(argv[4]) : 2, count;
    oz_pool *pool;
    oz_arena *arena;
    CHECK(oz_pool_new(&pool, threads));
    CHECK(oz_arena_new(&arena, 0));
    oz_run run = {.pool = pool};
    float *w = oz_alloc((size_t)(m * n), sizeof *w), *x = oz_alloc((size_t)(2 * n * n), sizeof *x);
    oz_stats stats = {.n = n, .tokens = (double)(2 * n), .h = oz_zalloc((size_t)(n * n), sizeof(double))};
    if (!w || !x || !stats.h) return 1;
    for (int64_t i = 0; i < m * n; i++) w[i] = (float)oz_rng_normal((oz_rng){1, 0}, (uint64_t)i);
    for (int64_t i = 0; i < 2 * n * n; i++) x[i] = (float)(oz_rng_uniform((oz_rng){2, 0}, (uint64_t)i) * 3.4641 - 1.732);
    for (int64_t t = 0; t < 2 * n; t++)
        for (int64_t j = n - 1; j > 0; j--) x[t * n + j] += 0.7f * x[t * n + j - 1];
    CHECK(oz_syrk_f64(pool, 0.5 / (double)n, oz_mat_of(x, 2 * n, n), stats.h, n));
    oz_mirror_upper(stats.h, n);
    oz_free(x);
    char format[64];
    snprintf(format, sizeof format, "int4.asym@%d", (int)g);
    oz_spec *spec;
    oz_fmt fmt;
    CHECK(oz_spec_parse(&spec, format, "bench", arena));
    CHECK(oz_fmt_bind(&fmt, spec, m, n, "bench"));
    const oz_solver *solver = NULL, *const *solvers = oz_solvers(&count);
    for (int k = 0; k < count; k++)
        if (!strcmp(solvers[k]->entry.name, "gptq")) solver = solvers[k];
    const oz_fit_type *const *fits = oz_fits(&count);
    oz_fit fit = {0};
    for (int k = 0; k < count; k++)
        if (!strcmp(fits[k]->entry.name, "minmax")) fit.type = fits[k];
    void *opt = oz_arena_zalloc(arena, solver->entry.options_size), *fit_opt = oz_arena_zalloc(arena, fit.type->entry.options_size + 1);
    oz_options_init(&solver->entry, opt);
    oz_options_init(&fit.type->entry, fit_opt);
    fit.opt = fit_opt;
    double best = INFINITY, loss = 0;
    for (int k = 0; k < 3; k++) {
        oz_solution s;
        double t = oz_seconds();
        CHECK(solver->solve(opt, &fmt, &fit, oz_mat_of(w, m, n), &stats, NULL, &s, &run));
        t = oz_seconds() - t;
        if (t < best) best = t;
        loss = s.loss;
        oz_solution_drop(&s);
    }
    double flops = (double)m * (double)n * (double)n + 4.0 / 3 * (double)n * (double)n * (double)n;
    printf("ounce threads %d: %lld x %lld %s: %.3f s, %.1f GFLOP/s, loss %.6g\n", threads, (long long)m, (long long)n, format, best,
           flops / best / 1e9, loss);
    oz_free(w);
    oz_stats_drop(&stats);
    oz_arena_free(arena);
    oz_pool_free(pool);
    return 0;
}

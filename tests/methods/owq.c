/* owq.c: what card owq demands of the solver and of stored columns. Items are named owq:n. */
#include <stdio.h>
#include "quantize_fixture.h"

static const char *const orders[] = {"identity", "reverse", "act", "group_act", "given"};

/* owq:1 H = c I: codes equal rtn with the same fit bit for bit, any order, any d, any damp. */
static void identity_h_is_rtn(void **state)
{
    (void)state;
    enum { M = 70, N = 96 };
    grid_options o = {7};
    const oz_solver *gptq = solver_named("gptq"), *rtn = solver_named("rtn");
    float *w = random_matrix(M, N, 3);
    oz_stats st = {.n = N, .tokens = 100, .h = oz_zalloc(N * N, sizeof(double))};
    for (int j = 0; j < N; j++) st.h[j * N + j] = 0.37;
    int32_t given[N];
    static const int ds[] = {1, 2, 4, 8};
    for (int a = 0; a < 4; a++)
        for (int scalar = 0; scalar <= (ds[a] == 1); scalar++)
            for (int k = 0; k < 5; k++)
                for (int damp = 0; damp < 2; damp++) {
                    oz_fmt f = grid_fmt(&o, M, N, 1, ds[a], 1, 32, scalar);
                    int nb = N / ds[a];
                    for (int b = 0; b < nb; b++) given[b] = (b * 5 + 3) % nb;
                    if (nb % 5 == 0) continue;
                    char text[128];
                    snprintf(text, sizeof text, "order=%s damp=%s block=32", orders[k], damp ? "0.01" : "0");
                    void *opt = solver_options(gptq, text);
                    oz_solution a1, a2;
                    oz_sweep sweep = {.given = given};
                    OK(gptq->solve(opt, &f, &range_of, oz_mat_of(w, M, N), &st, &sweep, &a1, NULL));
                    OK(rtn->solve(NULL, &f, &range_of, oz_mat_of(w, M, N), NULL, NULL, &a2, NULL));
                    assert_memory_equal(a1.codes, a2.codes, M * N);
                    assert_memory_equal(a1.w_hat.p, a2.w_hat.p, M * N * sizeof(float));
                    assert_memory_equal(oz_params_get(&a1.params, "scale"), oz_params_get(&a2.params, "scale"), M * 3 * sizeof(float));
                    oz_solution_drop(&a1);
                    oz_solution_drop(&a2);
                    oz_free(opt);
                }
    oz_free(w);
    oz_stats_drop(&st);
}

/* owq:2 the hand example, d = 1. */
static void hand_example(void **state)
{
    (void)state;
    double h[] = {2, 1, 1, 2}, r[4] = {0}, u[4] = {0};
    OK(oz_chol_upper_inv(NULL, h, 2, r, u));
    NEAR(u[0], 0.8165, 1e-4);
    NEAR(u[1], -0.4082, 1e-4);
    grid_options o = {1};
    oz_fmt f = grid_fmt(&o, 1, 2, 1, 1, 1, 2, true);
    float w[] = {0.6f, 0.6f};
    oz_stats st = {.n = 2, .h = h};
    const oz_solver *gptq = solver_named("gptq");
    void *opt = solver_options(gptq, "damp=0 compare=true");
    oz_solution s;
    OK(gptq->solve(opt, &f, &unit_of, oz_mat_of(w, 1, 2), &st, NULL, &s, NULL));
    assert_float_equal(s.w_hat.p[0], 1, 0);
    assert_float_equal(s.w_hat.p[1], 0, 0);
    assert_float_equal((s.compensated.p[0] - s.w_hat.p[0]) / (float)u[0], -0.4899, 1e-4);
    assert_float_equal(s.compensated.p[1], 0.4, 1e-6);
    NEAR(s.loss, 0.56, 1e-6);
    NEAR(s.loss_rtn, 0.96, 1e-6);
    NEAR(oz_proxy_loss(oz_mat_of(w, 1, 2), s.w_hat, &st, 0), 0.56, 1e-6);
    oz_solution_drop(&s);
    oz_free(opt);
}

/* owq:3 the hand example, d = 2: blocks of two, metric identity. */
static void hand_example_blocks(void **state)
{
    (void)state;
    double h[16] = {2, 1, 0, 0, 1, 2, 1, 0, 0, 1, 2, 1, 0, 0, 1, 2};
    float w[] = {0.6f, 0.6f, 0.6f, 0.6f};
    grid_options o = {1};
    oz_stats st = {.n = 4, .h = h};
    const oz_solver *gptq = solver_named("gptq");
    static const float want[2][4] = {{1, 0, 1, 0}, {1, 1, 0, 1}};
    static const double loss[2] = {0.64, 1.04};
    for (int d = 1; d <= 2; d++) {
        oz_fmt f = grid_fmt(&o, 1, 4, 1, d, 1, 4, false);
        void *opt = solver_options(gptq, "damp=0 compare=true metric=identity");
        oz_solution s;
        OK(gptq->solve(opt, &f, &unit_of, oz_mat_of(w, 1, 4), &st, NULL, &s, NULL));
        for (int j = 0; j < 4; j++) assert_float_equal(s.w_hat.p[j], want[d - 1][j], 0);
        NEAR(s.loss, loss[d - 1], 1e-6);
        NEAR(s.loss_rtn, 2.24, 1e-6);
        oz_solution_drop(&s);
        oz_free(opt);
    }
}

static void random_bits(uint64_t *mask, int64_t m, int64_t n, uint64_t seed, double share)
{
    memset(mask, 0, (size_t)(m * ((n + 63) / 64)) * sizeof *mask);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++)
            if (oz_rng_uniform((oz_rng){seed, 2}, (uint64_t)(i * n + j)) < share)
                mask[i * ((n + 63) / 64) + j / 64] |= (uint64_t)1 << (j % 64);
}

/* owq:4 the sweep's loss is tr((W - What) H (W - What)^T): every order, d in {1, 2, 4, 8}, r = 16, with keep, zero and skip. */
static void loss_identity(void **state)
{
    (void)state;
    enum { M = 80, N = 160, WORDS = 3 };
    grid_options o = {7};
    const oz_solver *gptq = solver_named("gptq");
    float *w = random_matrix(M, N, 4);
    oz_stats st = random_stats(N, 300, 5);
    uint64_t keep[M * WORDS], zero[M * WORDS];
    uint8_t skip[N] = {0};
    int32_t given[N];
    random_bits(keep, M, N, 6, 0.03);
    random_bits(zero, M, N, 7, 0.1);
    static const int shapes[][2] = {{1, 1}, {1, 2}, {1, 4}, {1, 8}, {16, 4}};
    for (int a = 0; a < 5; a++)
        for (int k = 0; k < 5; k++)
            for (int masks = 0; masks < 4; masks++) {
                int r = shapes[a][0], d = shapes[a][1], nb = N / d;
                oz_fmt f = grid_fmt(&o, M, N, r, d, r, 64, r * d == 1);
                for (int b = 0; b < nb; b++) given[b] = (b * 7 + 1) % nb;
                memset(skip, 0, N);
                if (masks == 3)
                    for (int j = 0; j < N; j++) skip[j] = j / 8 % 5 == 2 || (d == 1 && j % 31 == 4);
                char text[128];
                snprintf(text, sizeof text, "order=%s block=48 metric=%s", orders[k], k % 2 ? "full" : "diag");
                void *opt = solver_options(gptq, text);
                oz_sweep sweep = {
                    .given = given, .keep = masks == 1 ? keep : NULL, .zero = masks == 2 ? zero : NULL, .skip = masks == 3 ? skip : NULL};
                oz_solution s;
                OK(gptq->solve(opt, &f, &range_of, oz_mat_of(w, M, N), &st, &sweep, &s, NULL));
                double truth = oz_proxy_loss(oz_mat_of(w, M, N), s.w_hat, &st, s.damp);
                assert_true(fabs(s.loss - truth) <= 1e-5 * truth);
                for (int i = 0; i < M; i++)
                    for (int j = 0; j < N; j++) {
                        float q = s.w_hat.p[i * N + j], z = s.compensated.p[i * N + j];
                        if (masks == 1 && keep[i * WORDS + j / 64] >> (j % 64) & 1) assert_float_equal(q, z, 0);
                        if (masks == 2 && zero[i * WORDS + j / 64] >> (j % 64) & 1) assert_float_equal(q, 0, 0);
                        if (masks == 3 && skip[j]) assert_float_equal(q, z, 0);
                    }
                oz_solution_drop(&s);
                oz_free(opt);
            }
    oz_free(w);
    oz_stats_drop(&st);
}

/* Lower Cholesky H = L Lᵀ. */
static void lower_cholesky(const double *h, int n, double *l)
{
    memset(l, 0, (size_t)(n * n) * sizeof *l);
    for (int j = 0; j < n; j++)
        for (int i = j; i < n; i++) {
            double s = h[i * n + j];
            for (int k = 0; k < j; k++) s -= l[i * n + k] * l[j * n + k];
            l[i * n + j] = i == j ? sqrt(s) : s / l[j * n + j];
        }
}

/* Textbook (block) LDLQ, last block first: Z_J = w_J + Σ_{K after J} (w_K - ŵ_K) M_KJ, M = L blockdiag(L_JJ)^-1 - I. */
static void ldlq(const double *l, int n, int d, const float *w, const grid_options *o, float s, float z, float *q)
{
    for (int j = n - d; j >= 0; j -= d) {
        double in[8], solved[8];
        for (int t = 0; t < d; t++) {
            in[t] = 0;
            for (int k = j + d; k < n; k++) in[t] += ((double)w[k] - (double)q[k]) * l[k * n + j + t];
        }
        for (int t = d - 1; t >= 0; t--) { /* solved · L_JJ = in */
            solved[t] = in[t];
            for (int k = t + 1; k < d; k++) solved[t] -= solved[k] * l[(j + k) * n + j + t];
            solved[t] /= l[(j + t) * n + j + t];
        }
        for (int t = 0; t < d; t++) q[j + t] = s * (grid_code(o, s, z, (float)((double)w[j + t] + solved[t]), -1) - z);
    }
}

/* owq:5 order reverse equals textbook LDLQ code for code, d = 1 and block LDL d = 4; the batch width does not matter. */
static void reverse_is_ldlq(void **state)
{
    (void)state;
    enum { M = 33, N = 128 };
    grid_options o = {15};
    const oz_solver *gptq = solver_named("gptq");
    float *w = random_matrix(M, N, 8), q[N];
    oz_stats st = random_stats(N, 400, 9);
    double *l = oz_alloc(N * N, sizeof *l);
    lower_cholesky(st.h, N, l);
    static const char *const blocks[] = {"4", "128", "4096"};
    for (int d = 1; d <= 4; d += 3) {
        oz_fmt f = grid_fmt(&o, M, N, 1, d, 1, N, d == 1);
        uint8_t *first = NULL;
        for (int b = 0; b < 3; b++) {
            char text[96];
            snprintf(text, sizeof text, "order=reverse damp=0 scales=static block=%s", blocks[b]);
            void *opt = solver_options(gptq, text);
            oz_solution s;
            OK(gptq->solve(opt, &f, &range_of, oz_mat_of(w, M, N), &st, NULL, &s, NULL));
            int differ = 0;
            for (int i = 0; i < M; i++) {
                ldlq(l, N, d, w + i * N, &o, oz_params_get(&s.params, "scale")[i], oz_params_get(&s.params, "zero")[i], q);
                for (int j = 0; j < N; j++) differ += fabsf(q[j] - s.w_hat.p[i * N + j]) > 1e-6f;
            }
            assert_int_equal(differ, 0);
            if (!first) {
                first = oz_alloc(M * N, 1);
                memcpy(first, s.codes, M * N);
            }
            assert_memory_equal(first, s.codes, M * N);
            oz_solution_drop(&s);
            oz_free(opt);
        }
        oz_free(first);
    }
    oz_free(l);
    oz_free(w);
    oz_stats_drop(&st);
}

/* owq:6 static equals dynamic when a group is a row and the order is identity; 1 and 8 threads give the same bytes. */
static void static_dynamic_threads(void **state)
{
    (void)state;
    enum { M = 300, N = 192 };
    grid_options o = {7};
    const oz_solver *gptq = solver_named("gptq");
    float *w = random_matrix(M, N, 10);
    oz_stats st = random_stats(N, 300, 11);
    oz_pool *pool;
    OK(oz_pool_new(&pool, 8));
    oz_run run = {.pool = pool};
    for (int g = 0; g < 3; g++) {
        static const int groups[] = {N, 32, 64};
        oz_fmt f = grid_fmt(&o, M, N, 1, 1, 1, groups[g], true);
        void *dynamic = solver_options(gptq, "scales=dynamic"), *fixed = solver_options(gptq, "scales=static");
        oz_solution a, b, c;
        OK(gptq->solve(dynamic, &f, &range_of, oz_mat_of(w, M, N), &st, NULL, &a, NULL));
        OK(gptq->solve(fixed, &f, &range_of, oz_mat_of(w, M, N), &st, NULL, &b, NULL));
        OK(gptq->solve(dynamic, &f, &range_of, oz_mat_of(w, M, N), &st, NULL, &c, &run));
        assert_int_equal(memcmp(a.codes, b.codes, M * N) == 0, g == 0);
        assert_memory_equal(a.codes, c.codes, M * N);
        assert_memory_equal(a.w_hat.p, c.w_hat.p, M * N * sizeof(float));
        assert_memory_equal(&a.loss, &c.loss, sizeof a.loss);
        oz_solution_drop(&a);
        oz_solution_drop(&b);
        oz_solution_drop(&c);
        oz_free(dynamic);
        oz_free(fixed);
    }
    oz_pool_free(pool);
    oz_free(w);
    oz_stats_drop(&st);
}

/* owq:7 its part that needs no model: the loss is lower than rounding to nearest, groups of 64 at 3 and 4 bits. */
static void loss_below_rtn(void **state)
{
    (void)state;
    enum { M = 96, N = 256 };
    const oz_solver *gptq = solver_named("gptq");
    float *w = random_matrix(M, N, 12);
    oz_stats st = random_stats(N, 600, 13);
    for (int bits = 3; bits <= 4; bits++) {
        oz_arena *arena;
        oz_spec *spec;
        oz_fmt f;
        OK(oz_arena_new(&arena, 0));
        OK(oz_spec_parse(&spec, bits == 3 ? "int3.asym@64" : "int4.asym@64", "test", arena));
        OK(oz_fmt_bind(&f, spec, M, N, "test"));
        int nfit;
        const oz_fit_type *const *fits = oz_fits(&nfit);
        oz_fit fit = {0};
        for (int k = 0; k < nfit; k++)
            if (strcmp(fits[k]->entry.name, "minmax") == 0) fit.type = fits[k];
        void *fit_opt = oz_zalloc(1, fit.type->entry.options_size + 1), *opt = solver_options(gptq, "compare=true order=act");
        oz_options_init(&fit.type->entry, fit_opt);
        fit.opt = fit_opt;
        oz_solution s;
        OK(gptq->solve(opt, &f, &fit, oz_mat_of(w, M, N), &st, NULL, &s, NULL));
        assert_true(s.loss < s.loss_rtn);
        double truth = oz_proxy_loss(oz_mat_of(w, M, N), s.w_hat, &st, s.damp);
        assert_true(fabs(s.loss - truth) <= 1e-5 * truth);
        oz_solution_drop(&s);
        oz_free(opt);
        oz_free(fit_opt);
        oz_arena_free(arena);
    }
    oz_free(w);
    oz_stats_drop(&st);
}

/* What a quantize pass does for one linear with +cols. */
typedef struct columns {
    oz_solution s;
    oz_sidecar side;
    oz_sidecar_plan plan;
    oz_packed packed;
    oz_fmt fmt;
} columns;
static void solve_columns(columns *c, oz_mat w, const oz_stats *st, const char *format, int64_t k, const char *score, oz_arena *arena)
{
    int n;
    const oz_sidecar_hook *hook = oz_sidecar_hooks(&n)[0];
    const oz_solver *gptq = solver_named("gptq");
    memset(c, 0, sizeof *c);
    oz_spec *spec;
    OK(oz_spec_parse(&spec, format, "test", arena));
    OK(oz_fmt_bind(&c->fmt, spec, w.rows, w.cols, "test"));
    void *hook_opt = oz_arena_zalloc(arena, hook->entry->options_size), *opt = solver_options(gptq, "scales=static");
    oz_options_init(hook->entry, hook_opt);
    if (score) OK(oz_option_set(hook->entry, hook_opt, "cols_score", score, "test", arena));
    const oz_fit_type *const *fits = oz_fits(&n);
    oz_fit fit = {0};
    for (int i = 0; i < n; i++)
        if (strcmp(fits[i]->entry.name, "lp") == 0) fit.type = fits[i];
    void *fit_opt = oz_arena_zalloc(arena, fit.type->entry.options_size);
    oz_options_init(&fit.type->entry, fit_opt);
    fit.opt = fit_opt;
    c->plan.spec = spec->nside ? &spec->side[0] : NULL;
    oz_sweep sweep = {0};
    if (c->plan.spec) {
        OK(hook->plan(hook_opt, &c->plan, &c->fmt, w, st, k, NULL));
        sweep.skip = c->plan.skip;
    }
    OK(gptq->solve(opt, &c->fmt, &fit, w, st, &sweep, &c->s, NULL));
    if (c->plan.spec) OK(hook->finish(hook_opt, &c->plan, &c->fmt, &c->s, &c->side));
    OK(c->fmt.type->pack(&c->fmt, &c->s.params, c->s.codes, &c->packed));
    oz_free(opt);
}
static void drop_columns(columns *c)
{
    oz_solution_drop(&c->s);
    if (c->side.type) oz_sidecar_drop(&c->side);
    oz_packed_drop(&c->packed);
    oz_free(c->plan.skip);
    oz_free(c->plan.ids);
}

/* owq:8 k = n keeps W to f16; k = 0 equals gptq; bytes equal the formula.  owq:9 stored columns are compensated; more columns, less loss.
 */
static void stored_columns(void **state)
{
    (void)state;
    enum { M = 48, N = 96 };
    oz_arena *arena;
    OK(oz_arena_new(&arena, 0));
    float *w = random_matrix(M, N, 14), *decoded = oz_alloc(M * N, sizeof *decoded);
    oz_stats st = random_stats(N, 400, 15);
    oz_mat wm = oz_mat_of(w, M, N);
    columns all, none, plain, some;
    solve_columns(&all, wm, &st, "int3.asym@row+cols(96)", N, NULL, arena);
    OK(oz_unpack(&all.packed, 0, M, oz_mat_of(decoded, M, N)));
    OK(all.side.type->dense(&all.side, oz_mat_of(decoded, M, N)));
    for (int i = 0; i < M * N; i++) {
        assert_float_equal(decoded[i], w[i], fabsf(w[i]) / 1024 + 1e-6f);
        assert_float_equal(decoded[i], all.s.w_hat.p[i], 1e-7);
    }
    solve_columns(&none, wm, &st, "int3.asym@row+cols(0)", 0, NULL, arena);
    solve_columns(&plain, wm, &st, "int3.asym@row", 0, NULL, arena);
    assert_memory_equal(none.s.codes, plain.s.codes, M * N);
    assert_memory_equal(none.s.w_hat.p, plain.s.w_hat.p, M * N * sizeof(float));
    double loss = INFINITY;
    for (int k = 0; k <= 24; k += 6) {
        char format[64];
        snprintf(format, sizeof format, "int3.asym@row+cols(%d)", k);
        solve_columns(&some, wm, &st, format, k, NULL, arena);
        double bits = 8.0 * (double)oz_packed_bytes(&some.packed);
        for (int i = 0; i < some.side.n; i++) bits += 8.0 * (double)oz_array_bytes(&some.side.a[i]);
        /* 3 a weight, 16 + 3 a row (zeros in whole bytes), 16 m + 16 a stored column */
        NEAR(bits, 3.0 * M * N + M * (16 + 8) + k * (16.0 * M + 16), 0);
        NEAR(bits, some.fmt.type->bits(&some.fmt) + some.side.type->bits(&some.side), 0);
        int same = 0;
        for (int i = 0; i < k; i++) {
            int64_t j = some.plan.ids[i];
            assert_true(some.plan.skip[j]);
            for (int row = 0; row < M; row++) same += some.s.compensated.p[row * N + j] == w[row * N + j];
        }
        assert_true(k == 0 || same < k * M / 10);
        assert_true(some.s.loss <= loss * 1.02);
        loss = some.s.loss;
        OK(oz_unpack(&some.packed, 0, M, oz_mat_of(decoded, M, N)));
        OK(some.side.type->dense(&some.side, oz_mat_of(decoded, M, N)));
        for (int i = 0; i < M * N; i++) assert_float_equal(decoded[i], some.s.w_hat.p[i], 1e-6);
        drop_columns(&some);
    }
    drop_columns(&all);
    drop_columns(&none);
    drop_columns(&plain);
    oz_free(w);
    oz_free(decoded);
    oz_stats_drop(&st);
    oz_arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(identity_h_is_rtn),   cmocka_unit_test(hand_example),
                                       cmocka_unit_test(hand_example_blocks), cmocka_unit_test(loss_identity),
                                       cmocka_unit_test(reverse_is_ldlq),     cmocka_unit_test(static_dynamic_threads),
                                       cmocka_unit_test(loss_below_rtn),      cmocka_unit_test(stored_columns)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

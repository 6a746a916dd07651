/* awq.c: what card awq demands of transform/scale, rule awq. Items are named awq:n. There is no writer of AWQ checkpoints yet, so its item
 * is not held. */
#include "tiny_model.h"

static const oz_site_row *site_of(const tiny *t, oz_site site, int layer)
{
    for (int s = 0; s < t->arch->nsite; s++)
        if (t->arch->site[s].site == site && t->arch->site[s].layer == layer) return &t->arch->site[s];
    return NULL;
}

static void scale_at(const oz_choose *c, const char *yaml, float *s)
{
    oz_arena *arena;
    OK(oz_arena_new(&arena, 0));
    const oz_transform *tf = transform_scale();
    void *self;
    OK(tf->choose(scale_options_of(yaml, arena), c, &self, NULL));
    oz_array a;
    int n;
    OK(tf->save(self, c->row, &a, &n));
    memcpy(s, oz_array_data(&a), (size_t)c->row->width * sizeof *s);
    oz_array_drop(&a);
    tf->end(self);
    oz_arena_free(arena);
}

/* awq:1 logits after the folds of all four sites, searched by the module's output, equal the original's to 1e-3 relative.
 * awq:4 L(alpha*) <= L(0) at every site (the clip search's half is held by tests/unit/fit.c). */
static void searched_folds_keep_logits(void **state)
{
    (void)state;
    static const oz_site sites[] = {OZ_SITE_ATTN_IN, OZ_SITE_ATTN_OUT, OZ_SITE_MLP_IN, OZ_SITE_DOWN};
    for (int kind = 0; kind < TINY_COUNT; kind++) {
        tiny t;
        tiny_open(&t, (tiny_kind)kind);
        oz_arena *arena;
        OK(oz_arena_new(&arena, 0));
        const oz_transform *tf = transform_scale();
        void *opt = scale_options_of("{rule: awq, alpha: {from: 0.0, to: 0.95, step: 0.19}, objective: module-output}", arena), *self[64];
        oz_spec *spec;
        OK(oz_spec_parse(&spec, "int3.asym@16", "test", arena));
        struct oz_pass_formats f = {.weights = spec};
        float *before = tiny_logits(&t);
        int n = 0, better = 0;
        for (int layer = 0; layer < TINY_LAYERS; layer++)
            for (int k = 0; k < 4; k++) {
                const oz_site_row *row = site_of(&t, sites[k], layer);
                tiny_input in;
                oz_model *m;
                tiny_capture(&t, row, &in, &m);
                double at_one = NAN, chosen = NAN;
                oz_choose c = {.weights = t.weights,
                               .model = m,
                               .layer = layer,
                               .row = row,
                               .stats = &in.stats,
                               .x = oz_mat_of(in.x, in.rows, in.n),
                               .length = row->expert < 0 ? TINY_T : 0,
                               .formats = &f,
                               .before = &at_one,
                               .after = &chosen};
                if (in.rows) {
                    OK(tf->choose(opt, &c, &self[n], NULL));
                    assert_true(at_one > 0 && chosen <= at_one);
                    better += chosen < at_one;
                    OK(oz_weights_fold(t.weights, row, tf->fold, self[n]));
                    n++;
                }
                tiny_release(&in, m);
            }
        assert_true(better > 0);
        float *after = tiny_logits(&t);
        assert_true(largest_change(before, after, TINY_T * TINY_V) < 1e-3);
        oz_free(before);
        oz_free(after);
        tiny_close(&t);
        for (int k = 0; k < n; k++) tf->end(self[k]);
        oz_arena_free(arena);
    }
}

/* awq:2 a grid of alpha = 0 alone, fit minmax: the folded weights are the original bits, so codes and scales equal rtn's. */
static void alpha_zero_is_rtn(void **state)
{
    (void)state;
    tiny t;
    tiny_open(&t, TINY_LLAMA);
    oz_arena *arena;
    OK(oz_arena_new(&arena, 0));
    oz_spec *spec;
    OK(oz_spec_parse(&spec, "int4.asym@16", "test", arena));
    struct oz_pass_formats f = {.weights = spec};
    const oz_transform *tf = transform_scale();
    const oz_site_row *row = site_of(&t, OZ_SITE_MLP_IN, 0);
    tiny_input in;
    oz_model *m;
    tiny_capture(&t, row, &in, &m);
    oz_choose c = {.weights = t.weights,
                   .model = m,
                   .layer = 0,
                   .row = row,
                   .stats = &in.stats,
                   .x = oz_mat_of(in.x, in.rows, in.n),
                   .length = TINY_T,
                   .formats = &f};
    void *self;
    OK(tf->choose(scale_options_of("{rule: awq, alpha: {from: 0, to: 0, step: 0.05}, objective: module-output}", arena), &c, &self, NULL));
    int gate = oz_arch_find(t.arch, "gate", 0, -1);
    float *w0 = oz_alloc(TINY_F * TINY_D, sizeof *w0), *w1 = oz_alloc(TINY_F * TINY_D, sizeof *w1);
    OK(oz_weights_matrix(t.weights, gate, w0));
    OK(oz_weights_fold(t.weights, row, tf->fold, self));
    OK(oz_weights_matrix(t.weights, gate, w1));
    assert_memory_equal(w0, w1, TINY_F * TINY_D * sizeof(float));
    const oz_solver *rtn = solver_named("rtn");
    int nfit;
    const oz_fit_type *const *fits = oz_fits(&nfit);
    oz_fit fit = {0};
    for (int k = 0; k < nfit; k++)
        if (strcmp(fits[k]->entry.name, "minmax") == 0) fit.type = fits[k];
    void *fit_opt = oz_arena_zalloc(arena, fit.type->entry.options_size + 1);
    oz_options_init(&fit.type->entry, fit_opt);
    fit.opt = fit_opt;
    oz_fmt fmt;
    OK(oz_fmt_bind(&fmt, spec, TINY_F, TINY_D, "gate"));
    oz_solution a, b;
    OK(rtn->solve(NULL, &fmt, &fit, oz_mat_of(w0, TINY_F, TINY_D), NULL, NULL, &a, NULL));
    OK(rtn->solve(NULL, &fmt, &fit, oz_mat_of(w1, TINY_F, TINY_D), NULL, NULL, &b, NULL));
    assert_memory_equal(a.codes, b.codes, TINY_F * TINY_D);
    assert_memory_equal(oz_params_get(&a.params, "scale"), oz_params_get(&b.params, "scale"), TINY_F * 2 * sizeof(float));
    oz_solution_drop(&a);
    oz_solution_drop(&b);
    oz_free(w0);
    oz_free(w1);
    tiny_release(&in, m);
    tiny_close(&t);
    tf->end(self);
    oz_arena_free(arena);
}

/* awq:3 equal m_j: every alpha gives s = 1.  awq:5 hand example: m = (4, 1), alpha 0.5 gives (2, 1)/sqrt(2). */
static void formula(void **state)
{
    (void)state;
    tiny t;
    tiny_open(&t, TINY_LLAMA);
    const oz_site_row *row = site_of(&t, OZ_SITE_MLP_IN, 0);
    float m[TINY_D], s[TINY_D];
    oz_stats st = {.n = TINY_D, .mean_abs = m, .absmax = m};
    oz_choose c = {.weights = t.weights, .layer = 0, .row = row, .stats = &st};
    static const char *const alphas[] = {"{rule: awq, alpha: 0}", "{rule: awq, alpha: 0.35}", "{rule: awq, alpha: 0.95}"};
    for (int k = 0; k < 3; k++) {
        for (int j = 0; j < TINY_D; j++) m[j] = 0.37f;
        scale_at(&c, alphas[k], s);
        for (int j = 0; j < TINY_D; j++) assert_float_equal(s[j], 1, 1e-7);
    }
    for (int j = 0; j < TINY_D; j++) m[j] = j == 0 ? 4 : 1;
    scale_at(&c, "{rule: awq, alpha: 0.5}", s);
    assert_float_equal(s[0], 1.4142f, 1e-4);
    assert_float_equal(s[1], 0.7071f, 1e-4);
    tiny_close(&t);
}

/* attn.out with grouped query heads: one scale a kv channel, from the mean over the heads that read it, repeated over them. */
static void grouped_heads_are_tied(void **state)
{
    (void)state;
    tiny t;
    tiny_open(&t, TINY_LLAMA);
    const oz_site_row *row = site_of(&t, OZ_SITE_ATTN_OUT, 0);
    float m[TINY_D], s[TINY_D];
    for (int j = 0; j < TINY_D; j++) m[j] = 1 + (float)(j * 7 % 11);
    oz_stats st = {.n = TINY_D, .mean_abs = m, .absmax = m};
    oz_choose c = {.weights = t.weights, .layer = 0, .row = row, .stats = &st};
    scale_at(&c, "{rule: awq, alpha: 1}", s);
    for (int kv = 0; kv < TINY_KV; kv++)
        for (int i = 0; i < TINY_HEAD; i++) {
            int a = kv * 2 * TINY_HEAD + i, b = a + TINY_HEAD;
            assert_float_equal(s[a], s[b], 0);
            assert_float_equal(s[a] / s[0], (m[a] + m[b]) / (m[0] + m[TINY_HEAD]), 1e-5);
        }
    tiny_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(searched_folds_keep_logits), cmocka_unit_test(alpha_zero_is_rtn),
                                       cmocka_unit_test(formula), cmocka_unit_test(grouped_heads_are_tied)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

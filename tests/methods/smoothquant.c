/* smoothquant.c: what card smoothquant demands of transform/scale. Items are named smoothquant:n; the integer products of smoothquant:4 are
 * held by tests/kernel/dot.c, the hand example here checks its arithmetic. */
#include "tiny_model.h"

static bool folds(const oz_site_row *r)
{
    return r->site == OZ_SITE_ATTN_IN || r->site == OZ_SITE_MLP_IN || r->site == OZ_SITE_ATTN_OUT || r->site == OZ_SITE_DOWN ||
           r->site == OZ_SITE_HEAD;
}

/* smoothquant:1 f32 logits after the pass alone equal the original's to 1e-4 relative: grouped heads, biases, q/k norms, experts, every
 * site. */
static void logits_unchanged(void **state)
{
    (void)state;
    static const char *const rules[] = {"{rule: smooth, alpha: 0.5}", "{rule: smooth, alpha: 0.9}", "{rule: random, spread: 1.0, seed: 3}",
                                        "{rule: awq, alpha: 0.5}"};
    for (int kind = 0; kind < TINY_COUNT; kind++)
        for (int rule = 0; rule < 4; rule++) {
            tiny t;
            tiny_open(&t, (tiny_kind)kind);
            oz_arena *arena;
            OK(oz_arena_new(&arena, 0));
            const oz_transform *tf = transform_scale();
            void *opt = scale_options_of(rules[rule], arena), *self[64];
            float *before = tiny_logits(&t);
            int n = 0, sites = t.arch->nsite;
            for (int s = 0; s < sites; s++) {
                const oz_site_row *row = &t.arch->site[s];
                if (!folds(row)) {
                    assert_non_null(tf->refuses(opt, row));
                    continue;
                }
                assert_null(tf->refuses(opt, row));
                tiny_input in;
                oz_model *m;
                tiny_capture(&t, row, &in, &m);
                if (row->site == OZ_SITE_HEAD) { /* its input is not a block's: any positive statistics do */
                    for (int j = 0; j < row->width; j++) in.stats.absmax[j] = in.stats.mean_abs[j] = 0.1f + (float)(j % 5);
                }
                for (int j = 0; j < row->width; j++) /* channels that never fired would be scaled by 1e-5, and back */
                    if (!(in.stats.absmax[j] > 0)) in.stats.absmax[j] = in.stats.mean_abs[j] = 0.5f;
                oz_choose c = {.weights = t.weights, .model = m, .layer = row->layer, .row = row, .stats = &in.stats, .seed = 1};
                OK(tf->choose(opt, &c, &self[n], NULL));
                OK(oz_weights_fold(t.weights, row, tf->fold, self[n]));
                n++;
                tiny_release(&in, m);
            }
            float *after = tiny_logits(&t);
            assert_true(n >= 4 * TINY_LAYERS);
            assert_true(largest_change(before, after, TINY_T * TINY_V) < 1e-4);
            oz_free(before);
            oz_free(after);
            tiny_close(&t);
            for (int k = 0; k < n; k++) tf->end(self[k]);
            oz_arena_free(arena);
        }
}

/* A forgotten consumer must show: each end of each site skipped alone changes the logits by ten times the tolerance. */
typedef struct skipping {
    const void *self;
    int skip;
    int seen;
    oz_fold_fn fold;
} skipping;
static oz_status fold_all_but_one(const void *self, const oz_site_row *row, const oz_end *end, double *w, int64_t rows, int64_t cols)
{
    const skipping *s = self;
    const oz_end *skip = s->skip < row->nprod ? &row->prod[s->skip] : &row->cons[s->skip - row->nprod];
    bool same = end->linear == skip->linear && end->side == skip->side;
    return same ? OZ_OK : s->fold(s->self, row, end, w, rows, cols);
}
static void forgotten_end_shows(void **state)
{
    (void)state;
    for (int kind = 0; kind < TINY_COUNT; kind++) {
        tiny t;
        tiny_open(&t, (tiny_kind)kind);
        oz_arena *arena;
        OK(oz_arena_new(&arena, 0));
        const oz_transform *tf = transform_scale();
        void *opt = scale_options_of("{rule: random, spread: 0.7, seed: 5}", arena);
        float *before = tiny_logits(&t);
        for (int s = 0; s < t.arch->nsite; s++) {
            const oz_site_row *row = &t.arch->site[s];
            if (!folds(row) || row->layer == 1) continue;
            oz_choose c = {.weights = t.weights, .layer = row->layer, .row = row, .seed = 1};
            for (int e = 0; e < row->nprod + row->ncons; e++) {
                void *self;
                OK(tf->choose(opt, &c, &self, NULL));
                skipping skip = {.self = self, .skip = e, .fold = tf->fold};
                int count = oz_weights_fold_count(t.weights);
                OK(oz_weights_fold(t.weights, row, fold_all_but_one, &skip));
                float *after = tiny_logits(&t);
                const oz_end *left = e < row->nprod ? &row->prod[e] : &row->cons[e - row->nprod];
                bool gain = left->side == OZ_END_GAIN; /* an expert may be one that no token chose */
                bool maybe_idle = !gain && t.arch->linear[left->linear].expert >= 0;
                assert_true(maybe_idle || largest_change(before, after, TINY_T * TINY_V) > 1e-3);
                oz_free(after);
                oz_weights_fold_rewind(t.weights, count);
                tf->end(self);
            }
        }
        oz_free(before);
        oz_arena_free(arena);
        tiny_close(&t);
    }
}

/* The scale chosen for given statistics of attn.in of block 0, through the transform's own save(). */
static void scale_at(tiny *t, const oz_site_row *row, const char *yaml, oz_stats *st, float *s)
{
    oz_arena *arena;
    OK(oz_arena_new(&arena, 0));
    const oz_transform *tf = transform_scale();
    void *self;
    oz_choose c = {.weights = t->weights, .layer = row->layer, .row = row, .stats = st};
    OK(tf->choose(scale_options_of(yaml, arena), &c, &self, NULL));
    oz_array a;
    int n;
    OK(tf->save(self, row, &a, &n));
    memcpy(s, oz_array_data(&a), (size_t)row->width * sizeof *s);
    void *again;
    OK(tf->load(NULL, row, &a, n, &again));
    oz_array_drop(&a);
    tf->end(again);
    tf->end(self);
    oz_arena_free(arena);
}

static const oz_site_row *site_of(const tiny *t, oz_site site, int layer)
{
    for (int s = 0; s < t->arch->nsite; s++)
        if (t->arch->site[s].site == site && t->arch->site[s].layer == layer) return &t->arch->site[s];
    return NULL;
}

static void column_maxima(const tiny *t, const oz_site_row *row, float *most)
{
    memset(most, 0, (size_t)row->width * sizeof *most);
    for (int k = 0; k < row->ncons; k++) {
        const oz_linear_row *l = &t->arch->linear[row->cons[k].linear];
        float *w = oz_alloc((size_t)(l->out * l->in), sizeof *w);
        OK(oz_weights_matrix(t->weights, row->cons[k].linear, w));
        for (int64_t i = 0; i < l->out; i++)
            for (int64_t j = 0; j < l->in; j++) most[j] = fmaxf(most[j], fabsf(w[i * l->in + j]));
        oz_free(w);
    }
}

/* smoothquant:2 hand example: a = (16, 1), w = (1, 1), alpha 0.5 gives s = (4, 1); the product 17 stays, the static step falls from 16/127
 * to 4/127. smoothquant:4 the arithmetic of the integer hand example. */
static void hand_examples(void **state)
{
    (void)state;
    tiny t;
    tiny_open(&t, TINY_LLAMA);
    const oz_site_row *row = site_of(&t, OZ_SITE_ATTN_IN, 0);
    float most[TINY_D], s[TINY_D], absmax[TINY_D], mean_abs[TINY_D];
    column_maxima(&t, row, most);
    /* s depends on a and w by a^alpha / w^(1 - alpha): channel 0 has a/w = 16, channel 1 has a/w = 1 after dividing by w */
    for (int j = 0; j < TINY_D; j++) absmax[j] = mean_abs[j] = (j == 0 ? 16 : 1) * most[j];
    oz_stats st = {.n = TINY_D, .absmax = absmax, .mean_abs = mean_abs};
    scale_at(&t, row, "{rule: smooth, alpha: 0.5}", &st, s);
    assert_float_equal(s[0], 4, 1e-5);
    assert_float_equal(s[1], 1, 1e-6);
    float x[2] = {16, 1}, w[2] = {1, 1};
    float y = x[0] * w[0] + x[1] * w[1], folded = x[0] / s[0] * (w[0] * s[0]) + x[1] / s[1] * (w[1] * s[1]);
    assert_float_equal(y, 17, 0);
    assert_float_equal(folded, 17, 1e-5);
    assert_float_equal(x[0] / s[0] / 127, 4.0f / 127, 1e-6);
    assert_int_equal(3 * 10 - 2 * 20, -10);
    assert_int_equal(3 * (10 + 128) - 2 * (20 + 128) - 128 * (3 - 2), -10);
    tiny_close(&t);
}

/* smoothquant:3 alpha 0: every column of the stacked consumers gets absmax 1; alpha 1: every calibration channel does. */
static void ends_of_alpha(void **state)
{
    (void)state;
    tiny t;
    tiny_open(&t, TINY_OLMOE); /* router and experts are consumers too */
    const oz_site_row *row = site_of(&t, OZ_SITE_MLP_IN, 1);
    float most[TINY_D], s[TINY_D];
    tiny_input in;
    oz_model *m;
    tiny_capture(&t, row, &in, &m);
    column_maxima(&t, row, most);
    scale_at(&t, row, "{rule: smooth, alpha: 0}", &in.stats, s);
    for (int j = 0; j < TINY_D; j++) assert_float_equal(most[j] * s[j], 1, 1e-5);
    scale_at(&t, row, "{rule: smooth, alpha: 1}", &in.stats, s);
    for (int j = 0; j < TINY_D; j++) assert_float_equal(in.stats.absmax[j] / s[j], 1, 1e-5);
    tiny_release(&in, m);
    tiny_close(&t);
}

/* smoothquant:5 the objective at the chosen scales is at most that at s = 1, with both quantizers on. */
static void search_never_loses(void **state)
{
    (void)state;
    static const char *const formats[][2] = {{"int8@row", "int8@token"}, {"int4@row", "int8.static@tensor"}, {"int3.asym@16", NULL}};
    for (int kind = 0; kind < TINY_COUNT; kind++)
        for (int k = 0; k < 3; k++) {
            tiny t;
            tiny_open(&t, (tiny_kind)kind);
            oz_arena *arena;
            OK(oz_arena_new(&arena, 0));
            const oz_transform *tf = transform_scale();
            oz_spec *weights, *acts;
            struct oz_pass_formats f = {0};
            OK(oz_spec_parse(&weights, formats[k][0], "test", arena));
            f.weights = weights;
            if (formats[k][1]) {
                OK(oz_spec_parse(&acts, formats[k][1], "test", arena));
                OK(oz_act_from_spec(&f.acts, acts, "test"));
                f.has_acts = true;
            }
            static const oz_site sites[] = {OZ_SITE_ATTN_IN, OZ_SITE_ATTN_OUT, OZ_SITE_MLP_IN, OZ_SITE_DOWN};
            static const char *const objective[] = {"layer-error", "site-output", "module-output"};
            for (int site = 0; site < 4; site++)
                for (int o = 0; o < 3; o++) {
                    const oz_site_row *row = site_of(&t, sites[site], 1);
                    tiny_input in;
                    oz_model *m;
                    tiny_capture(&t, row, &in, &m);
                    char yaml[128];
                    snprintf(yaml, sizeof yaml, "{rule: smooth, alpha: {from: 0.2, to: 0.8, step: 0.2}, objective: %s}", objective[o]);
                    double before = NAN, after = NAN;
                    oz_choose c = {.weights = t.weights,
                                   .model = m,
                                   .layer = 1,
                                   .row = row,
                                   .stats = &in.stats,
                                   .x = oz_mat_of(in.x, in.rows, in.n),
                                   .length = row->expert < 0 ? TINY_T : 0,
                                   .formats = &f,
                                   .before = &before,
                                   .after = &after};
                    void *self;
                    if (in.rows) {
                        OK(tf->choose(scale_options_of(yaml, arena), &c, &self, NULL));
                        assert_true(before > 0 && after <= before);
                        tf->end(self);
                    }
                    tiny_release(&in, m);
                }
            oz_arena_free(arena);
            tiny_close(&t);
        }
}

/* Refusals say why. */
static void refusals(void **state)
{
    (void)state;
    tiny t;
    tiny_open(&t, TINY_LLAMA);
    oz_arena *arena;
    OK(oz_arena_new(&arena, 0));
    const oz_transform *tf = transform_scale();
    const oz_site_row *row = site_of(&t, OZ_SITE_ATTN_IN, 0);
    assert_string_equal(tf->refuses(scale_options_of("{rule: smooth, alpha: 1.5}", arena), row),
                        "alpha must be a number from 0 to 1, or a grid {from, to, step}");
    assert_non_null(
        strstr(tf->refuses(scale_options_of("{alpha: {from: 0.3, to: 0.9, step: 0.05}, objective: kld}", arena), row), "not built"));
    assert_non_null(strstr(tf->refuses(scale_options_of("{alpha: 0.5}", arena), site_of(&t, OZ_SITE_QK, 0)),
                           "attn.in, attn.out, mlp.in, down and head only"));
    void *opt = scale_options_of("{alpha: 0.5}", arena), *self;
    assert_int_equal(oz_option_set(&tf->entry, opt, "rule", "smoth", "test", arena), OZ_ERR_RANGE);
    oz_choose c = {.weights = t.weights, .layer = 0, .row = row};
    assert_int_equal(tf->choose(opt, &c, &self, NULL), OZ_ERR_UNSUPPORTED);
    assert_non_null(strstr(oz_message(), "attn.in of layer 0 needs channel statistics of 32 inputs"));
    oz_arena_free(arena);
    tiny_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(logits_unchanged),   cmocka_unit_test(forgotten_end_shows),
                                       cmocka_unit_test(hand_examples),      cmocka_unit_test(ends_of_alpha),
                                       cmocka_unit_test(search_never_loses), cmocka_unit_test(refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

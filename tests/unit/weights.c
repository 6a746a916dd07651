/* Site tables and pending folds: a random map folded at every site of every architecture leaves the logits as they were, and forgetting any
 * single end of it does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "model_common.h"

static const char *const kinds[] = {"llama", "llama_bias", "mistral", "qwen2", "qwen3", "olmoe"};
enum { KINDS = sizeof kinds / sizeof *kinds };

/* ---- maps for tests
 * ----------------------------------------------------------------------------------------------------------------------- */
typedef struct map {
    double s[512];
    double *q;
    int64_t n;
    int skip; /* this end is forgotten, -1: none */
} map;

static int end_number(const oz_site_row *r, const oz_end *e)
{
    for (int i = 0; i < r->nprod; i++)
        if (r->prod[i].linear == e->linear && r->prod[i].side == e->side) return i;
    for (int i = 0; i < r->ncons; i++)
        if (r->cons[i].linear == e->linear && r->cons[i].side == e->side) return r->nprod + i;
    return -1;
}
/* Entry of the diagonal for feature j of an end: query heads share their key head's. */
static int64_t entry(const oz_site_row *r, const oz_end *e, int64_t j)
{
    int64_t D = r->head_dim;
    return e->repeat > 1 ? j / D / e->repeat * D + j % D : j;
}
static oz_status diagonal(const void *self, const oz_site_row *r, const oz_end *e, double *w, int64_t rows, int64_t cols)
{
    const map *m = self;
    int k = end_number(r, e);
    assert_true(k >= 0);
    if (k == m->skip) return OZ_OK;
    bool by_row = e->side == OZ_END_ROWS;
    assert_int_equal(e->count, by_row ? rows : cols);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++) {
            double s = m->s[entry(r, e, by_row ? i : j)];
            w[i * cols + j] = k < r->nprod ? w[i * cols + j] / s : w[i * cols + j] * s;
        }
    return OZ_OK;
}
/* Rows of w times Q (n x n), or columns by Q' where the end meets rows. */
static oz_status orthogonal(const void *self, const oz_site_row *r, const oz_end *e, double *w, int64_t rows, int64_t cols)
{
    const map *m = self;
    int64_t n = m->n;
    double *t = calloc((size_t)n, sizeof *t);
    if (end_number(r, e) == m->skip) {
        free(t);
        return OZ_OK;
    }
    bool by_row = e->side == OZ_END_ROWS;
    int64_t lines = by_row ? cols : rows, step = by_row ? cols : 1, line = by_row ? 1 : cols, blocks = (by_row ? rows : cols) / n;
    for (int64_t l = 0; l < lines; l++)
        for (int64_t b = 0; b < blocks; b++) {
            double *x = w + l * line + b * n * step;
            for (int64_t j = 0; j < n; j++) {
                t[j] = 0;
                for (int64_t i = 0; i < n; i++) t[j] += x[i * step] * m->q[i * n + j];
            }
            for (int64_t j = 0; j < n; j++) x[j * step] = t[j];
        }
    free(t);
    return OZ_OK;
}
static void random_orthogonal(map *m, int64_t n, uint64_t seed)
{
    double *a = calloc((size_t)(n * n), sizeof *a);
    m->q = calloc((size_t)(n * n), sizeof *m->q);
    m->n = n;
    for (int64_t i = 0; i < n * n; i++) a[i] = oz_rng_normal((oz_rng){seed, 9}, (uint64_t)i);
    assert_int_equal(oz_qr_orthogonal(a, n, m->q), OZ_OK);
    free(a);
}
static void random_diagonal(map *m, const oz_site_row *r, uint64_t seed)
{
    for (int i = 0; i < 512; i++) {
        int64_t half = r->head_dim / 2, j = i;
        if (r->pairing == 1) j = i / r->head_dim * r->head_dim + i % half; /* tied over a rope pair */
        m->s[i] = exp(oz_rng_normal((oz_rng){seed, 5}, (uint64_t)j) * 0.7);
    }
}

static double error_now(tiny *t, oz_weights *w)
{
    int64_t n;
    int32_t *ids = tiny_ids(t, &n);
    oz_model_options o = OZ_MODEL_OPTIONS_INIT;
    o.exact = true;
    oz_model *m;
    assert_int_equal(oz_model_of_weights(&m, w, &o), OZ_OK);
    float *y = tiny_logits(m, ids, n, NULL);
    double e = tiny_golden_error(t, y);
    oz_model_free(m);
    free(y);
    free(ids);
    return e;
}
static void fold_and_forget(tiny *t, const char *kind, const oz_site_row *r, oz_fold_fn fn, map *m)
{
    int base = oz_weights_fold_count(t->weights);
    for (m->skip = -1; m->skip < r->nprod + r->ncons; m->skip++) {
        assert_int_equal(oz_weights_fold(t->weights, r, fn, m), OZ_OK);
        double e = error_now(t, t->weights);
        oz_weights_fold_rewind(t->weights, base);
        if (m->skip < 0 ? !(e < 1e-4) : !(e > 1e-3))
            fail_msg("%s, site %s of block %d expert %d, end %d of %d forgotten: logits move by %g", kind, oz_site_name((oz_site)r->site),
                     r->layer, r->expert, m->skip, r->nprod + r->ncons, e);
    }
    m->skip = -1;
}

/* ---- the table
 * ----------------------------------------------------------------------------------------------------------------------------- */
static void diagonals_fold_at_every_site(void **state)
{
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        tiny t = tiny_open(kinds[k], "plain");
        for (int i = 0; i < t.arch->nsite; i++) {
            const oz_site_row *r = &t.arch->site[i];
            map m = {.skip = -1};
            if (!(r->fold & (OZ_FOLD_DIAG | OZ_FOLD_PAIR_DIAG))) continue;
            random_diagonal(&m, r, (uint64_t)i);
            fold_and_forget(&t, kinds[k], r, diagonal, &m);
        }
        assert_true(error_now(&t, t.weights) < 1e-4); /* all folds are gone */
        tiny_close(&t);
    }
}
static void values_rotate_inside_a_head(void **state)
{
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        tiny t = tiny_open(kinds[k], "plain");
        for (int i = 0; i < t.arch->nsite; i++) {
            const oz_site_row *r = &t.arch->site[i];
            map m = {.skip = -1};
            if (r->site != OZ_SITE_VALUE) continue;
            assert_true(r->fold & OZ_FOLD_HEAD);
            random_orthogonal(&m, r->head_dim, (uint64_t)i);
            fold_and_forget(&t, kinds[k], r, orthogonal, &m);
            free(m.q);
        }
        tiny_close(&t);
    }
}
static void the_residual_rotates_once_gains_are_folded(void **state)
{
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        tiny t = tiny_open(kinds[k], "plain");
        map *gain = calloc((size_t)t.arch->nsite, sizeof *gain), m = {.skip = -1};
        const oz_site_row *residual = NULL;
        bool tied = t.arch->dims.tied;
        for (int i = 0; i < t.arch->nsite; i++) {
            const oz_site_row *r = &t.arch->site[i];
            if (r->site == OZ_SITE_RESIDUAL) residual = r;
            if (r->nprod != 1 || r->prod[0].side != OZ_END_GAIN || r->site == OZ_SITE_QK) continue;
            float v[512];
            assert_int_equal(oz_weights_vector(t.weights, r->prod[0].linear, v), OZ_OK);
            for (int j = 0; j < r->width; j++) gain[i].s[j] = (double)v[j];
            gain[i].skip = -1;
            assert_int_equal(oz_weights_fold(t.weights, r, diagonal, &gain[i]), OZ_OK);
            assert_int_equal(oz_weights_vector(t.weights, r->prod[0].linear, v), OZ_OK);
            for (int j = 0; j < r->width; j++) assert_true(fabsf(v[j] - 1) < 1e-6f);
        }
        assert_int_equal(oz_weights_untied(t.weights), tied); /* the head's gain went into one of the two */
        assert_int_equal(oz_weights_arch(t.weights)->nlinear, t.arch->nlinear + tied);
        assert_non_null(residual);
        random_orthogonal(&m, t.arch->dims.hidden, 77);
        fold_and_forget(&t, kinds[k], residual, orthogonal, &m);
        oz_weights_fold_rewind(t.weights, 0);
        assert_false(oz_weights_untied(t.weights));
        free(m.q);
        free(gain);
        tiny_close(&t);
    }
}
static void a_tied_embedding_is_folded_once(void **state)
{
    (void)state;
    tiny t = tiny_open("llama_bias", "plain");
    map m = {.skip = -1};
    random_orthogonal(&m, t.arch->dims.hidden, 3);
    float *a = calloc(128 * 32, sizeof *a), *b = calloc(128 * 32, sizeof *b);
    assert_int_equal(oz_weights_matrix(t.weights, t.arch->embed, a), OZ_OK);
    assert_int_equal(oz_weights_fold(t.weights, &t.arch->site[0], orthogonal, &m), OZ_OK);
    assert_false(oz_weights_untied(t.weights)); /* both ends, the same rotation */
    assert_int_equal(oz_weights_matrix(t.weights, t.arch->embed, b), OZ_OK);
    for (int v = 0; v < 128; v++)
        for (int j = 0; j < 32; j++) {
            double x = 0;
            for (int i = 0; i < 32; i++) x += (double)a[v * 32 + i] * m.q[i * 32 + j];
            assert_true(fabs(x - (double)b[v * 32 + j]) < 1e-5);
        }
    assert_int_equal(oz_weights_rows(t.weights, t.arch->embed, 17, 2, a), OZ_OK);
    assert_memory_equal(a, b + 17 * 32, 2 * 32 * sizeof *a);
    assert_int_not_equal(oz_weights_rows(t.weights, t.arch->embed, 127, 2, a), OZ_OK);
    assert_string_equal(oz_message(), "model.embed_tokens has 128 rows, asked for 127 to 129");
    free(a);
    free(b);
    free(m.q);
    tiny_close(&t);
}
static void rows_of_a_folded_matrix_are_rows_of_the_whole(void **state)
{
    (void)state;
    tiny t = tiny_open_gguf("llama", "plain"); /* q and k rows come in another order in the file */
    tiny h = tiny_open("llama", "plain");
    for (int pass = 0; pass < 2; pass++) {
        map m = {.skip = -1};
        for (int i = 0; i < t.arch->nlinear; i++) {
            const oz_linear_row *r = &t.arch->linear[i];
            float *a = calloc((size_t)(r->out * r->in), sizeof *a), *b = calloc((size_t)(r->out * r->in), sizeof *b);
            assert_int_equal(oz_weights_matrix(t.weights, i, a), OZ_OK);
            assert_int_equal(oz_weights_rows(t.weights, i, 3, r->out - 5, b), OZ_OK);
            assert_memory_equal(b, a + 3 * r->in, (size_t)((r->out - 5) * r->in) * sizeof *a);
            assert_int_equal(oz_weights_matrix(h.weights, i, b), OZ_OK);
            assert_memory_equal(b, a, (size_t)(r->out * r->in) * sizeof *a);
            free(a);
            free(b);
        }
        static map d[64];
        for (int i = 0; i < t.arch->nsite && !pass; i++) {
            d[i] = m;
            random_diagonal(&d[i], &t.arch->site[i], (uint64_t)i);
            if (t.arch->site[i].fold & (OZ_FOLD_DIAG | OZ_FOLD_PAIR_DIAG)) {
                assert_int_equal(oz_weights_fold(t.weights, &t.arch->site[i], diagonal, &d[i]), OZ_OK);
                assert_int_equal(oz_weights_fold(h.weights, &h.arch->site[i], diagonal, &d[i]), OZ_OK);
            }
        }
    }
    assert_true(error_now(&t, t.weights) < 1e-4);
    tiny_close(&t);
    tiny_close(&h);
}
/* smoothquant: sites refuse with a sentence what they cannot fold */
static void every_site_says_what_does_not_fold(void **state)
{
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        tiny t = tiny_open(kinds[k], "plain");
        for (int i = 0; i < t.arch->nsite; i++) {
            const oz_site_row *r = &t.arch->site[i];
            oz_site s;
            assert_true(oz_site_parse(oz_site_name((oz_site)r->site), &s) && s == (oz_site)r->site);
            assert_non_null(r->refuse);
            assert_true(strlen(r->refuse) > 40);
            assert_true(r->nprod > 0 && r->ncons > 0);
        }
        tiny_close(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(diagonals_fold_at_every_site),
                                       cmocka_unit_test(values_rotate_inside_a_head),
                                       cmocka_unit_test(the_residual_rotates_once_gains_are_folded),
                                       cmocka_unit_test(a_tied_embedding_is_folded_once),
                                       cmocka_unit_test(rows_of_a_folded_matrix_are_rows_of_the_whole),
                                       cmocka_unit_test(every_site_says_what_does_not_fold)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

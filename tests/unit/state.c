/* Sessions: steps give what whole sequences give, batches and forks do not disturb each other, truncation forgets. */
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

static void step(oz_model *m, oz_session *s, const int32_t *ids, int64_t n, float *logits)
{
    int64_t start[2] = {0, n}, *want = calloc((size_t)n, sizeof *want);
    for (int64_t i = 0; i < n; i++) want[i] = i;
    oz_step st = {&s, 1, start, ids, want, n};
    if (oz_model_step(m, &st, oz_mat_of(logits, n, oz_model_arch(m)->dims.vocab), NULL)) fail_msg("%s", oz_message());
    free(want);
}

/* One token at a time, in pieces and at once, over more than a page of 64. */
static void steps_equal_whole_sequences(void **state)
{
    (void)state;
    static const char *const kinds[] = {"llama", "mistral", "qwen3", "olmoe"};
    for (int k = 0; k < 4; k++) {
        tiny t = tiny_open(kinds[k], "plain");
        int64_t n, V = t.arch->dims.vocab;
        int32_t *first = tiny_ids(&t, &n), ids[150];
        for (int i = 0; i < 150; i++) ids[i] = first[(i * 7) % n];
        float *whole = tiny_logits(t.model, ids, 150, NULL), *y = calloc((size_t)(150 * V), sizeof *y);
        static const int64_t pieces[] = {150, 1, 37, 5};
        for (int p = 0; p < 4; p++) {
            oz_session *s;
            assert_int_equal(oz_session_new(&s, t.model, 150), OZ_OK);
            for (int64_t a = 0; a < 150; a += pieces[p]) step(t.model, s, ids + a, 150 - a < pieces[p] ? 150 - a : pieces[p], y + a * V);
            assert_int_equal(oz_session_tokens(s), 150);
            double e = tiny_error(y, whole, 150 * V);
            if (!(e < 2e-5)) fail_msg("%s in pieces of %d: logits differ by %g", kinds[k], (int)pieces[p], e);
            oz_session_free(s);
        }
        free(whole);
        free(y);
        free(first);
        tiny_close(&t);
    }
}
static void f16_pages_cost_little(void **state)
{
    (void)state;
    tiny t = tiny_open("llama", "plain");
    oz_model_options o = OZ_MODEL_OPTIONS_INIT;
    oz_model *m;
    oz_session *s;
    int64_t n, V = t.arch->dims.vocab;
    int32_t *ids = tiny_ids(&t, &n);
    float *whole = tiny_logits(t.model, ids, n, NULL), *y = calloc((size_t)(n * V), sizeof *y);
    assert_int_equal(oz_model_of_weights(&m, t.weights, &o), OZ_OK);
    assert_int_equal(oz_session_new(&s, m, 64), OZ_OK);
    step(m, s, ids, n, y);
    double e = tiny_error(y, whole, n * V);
    assert_true(e < 5e-3 && e > 1e-7);
    /* 2 layers x (k, v) x 2 heads x 64 tokens x 16 entries x 2 bytes */
    assert_true(oz_session_bytes(s) >= 16384 && oz_session_bytes(s) < 17500);
    oz_session_free(s);
    oz_model_free(m);
    o.kv = "int4";
    assert_int_not_equal(oz_model_of_weights(&m, t.weights, &o), OZ_OK);
    assert_string_equal(oz_message(), "KV format \"int4\" is not built");
    free(whole);
    free(y);
    free(ids);
    tiny_close(&t);
}

/* The result of a sequence is the same to the bit whatever shares its batch. */
static void a_batch_changes_nothing(void **state)
{
    (void)state;
    tiny t = tiny_open("olmoe", "plain");
    int64_t n, V = t.arch->dims.vocab;
    int32_t *ids = tiny_ids(&t, &n), batch[40];
    float *alone = calloc((size_t)V, sizeof *alone), *both = calloc((size_t)(3 * V), sizeof *both);
    oz_session *s[3], *one;
    assert_int_equal(oz_session_new(&one, t.model, 64), OZ_OK);
    int64_t start1[2] = {0, 9}, want1 = 8;
    oz_step st1 = {&one, 1, start1, ids, &want1, 1};
    assert_int_equal(oz_model_step(t.model, &st1, oz_mat_of(alone, 1, V), NULL), OZ_OK);
    for (int i = 0; i < 3; i++) assert_int_equal(oz_session_new(&s[i], t.model, 64), OZ_OK);
    memcpy(batch, ids + 20, 11 * sizeof *ids);
    memcpy(batch + 11, ids, 9 * sizeof *ids);
    memcpy(batch + 20, ids + 3, 20 * sizeof *ids);
    int64_t start[4] = {0, 11, 20, 40}, want[3] = {19, 0, 39};
    oz_step st = {s, 3, start, batch, want, 3};
    oz_run run = {0};
    assert_int_equal(oz_pool_new(&run.pool, 2), OZ_OK);
    assert_int_equal(oz_model_step(t.model, &st, oz_mat_of(both, 3, V), &run), OZ_OK);
    assert_memory_equal(alone, both, (size_t)V * sizeof *alone);
    oz_pool_free(run.pool);
    for (int i = 0; i < 3; i++) oz_session_free(s[i]);
    oz_session_free(one);
    free(alone);
    free(both);
    free(ids);
    tiny_close(&t);
}

static void forks_share_until_they_write(void **state)
{
    (void)state;
    tiny t = tiny_open("llama", "plain");
    int64_t n, V = t.arch->dims.vocab;
    int32_t *ids = tiny_ids(&t, &n);
    float *a = calloc((size_t)(n * V), sizeof *a), *b = calloc((size_t)(n * V), sizeof *b);
    oz_session *s, *f, *g;
    assert_int_equal(oz_session_new(&s, t.model, 100), OZ_OK);
    step(t.model, s, ids, 30, a);
    assert_int_equal(oz_session_fork(&f, s), OZ_OK);
    assert_int_equal(oz_session_fork(&g, s), OZ_OK);
    step(t.model, f, ids + 40, 8, a); /* another continuation, first */
    step(t.model, s, ids + 30, 8, a);
    oz_session_free(s);
    step(t.model, g, ids + 30, 8, b);
    assert_memory_equal(a, b, (size_t)(8 * V) * sizeof *a);
    assert_int_equal(oz_session_truncate(f, 30), OZ_OK); /* f forgets its own way */
    step(t.model, f, ids + 30, 8, b);
    assert_memory_equal(a, b, (size_t)(8 * V) * sizeof *a);
    assert_int_not_equal(oz_session_truncate(f, 39), OZ_OK);
    assert_string_equal(oz_message(), "a session of 38 tokens cannot be cut to 39");
    assert_int_equal(oz_session_truncate(f, 0), OZ_OK);
    step(t.model, f, ids, n, b);
    float *whole = tiny_logits(t.model, ids, n, NULL);
    assert_true(tiny_error(b, whole, n * V) < 2e-5);
    /* room */
    int64_t start[2] = {0, 60};
    int32_t more[60] = {0};
    oz_step st = {&f, 1, start, more, NULL, 0};
    assert_int_not_equal(oz_model_step(t.model, &st, oz_mat_of(a, 0, V), NULL), OZ_OK);
    assert_string_equal(oz_message(), "the session holds 48 of 100 tokens, 60 more do not fit");
    assert_int_equal(oz_session_tokens(f), 48);
    oz_session_free(f);
    oz_session_free(g);
    free(whole);
    free(a);
    free(b);
    free(ids);
    tiny_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(steps_equal_whole_sequences), cmocka_unit_test(f16_pages_cost_little),
                                       cmocka_unit_test(a_batch_changes_nothing), cmocka_unit_test(forks_share_until_they_write)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The forward pass against transformers in f32 (goldens by tools/oracle/model.py; HINT: run it again when a golden is stale), and what it
 * promises: watchers, stages, batches, sessions. */
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

static void check(tiny *t, const char *what)
{
    int64_t n;
    int32_t *ids = tiny_ids(t, &n);
    float *y = tiny_logits(t->model, ids, n, NULL);
    double e = tiny_golden_error(t, y);
    if (!(e < 1e-4)) fail_msg("%s: logits differ by %g of the largest", what, e);
    free(y);
    free(ids);
}
static void logits_equal_transformers(void **state)
{
    (void)state;
    static const char *const cases[][2] = {{"llama", "plain"}, {"llama", "linear"},     {"llama", "dynamic"}, {"llama", "llama3"},
                                           {"llama", "yarn"},  {"llama_bias", "plain"}, {"mistral", "plain"}, {"qwen2", "plain"},
                                           {"qwen3", "plain"}, {"olmoe", "plain"},      {"olmoe", "topk"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tiny t = tiny_open(cases[i][0], cases[i][1]);
        char what[64];
        (void)snprintf(what, sizeof what, "%s %s", cases[i][0], cases[i][1]);
        check(&t, what);
        tiny_close(&t);
    }
}
static void gguf_gives_the_same_logits(void **state)
{
    (void)state;
    static const char *const cases[][2] = {{"llama", "plain"}, {"llama", "llama3"}, {"llama", "yarn"}, {"llama_bias", "plain"},
                                           {"qwen2", "plain"}, {"qwen3", "plain"},  {"olmoe", "plain"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tiny t = tiny_open_gguf(cases[i][0], cases[i][1]);
        char what[64];
        (void)snprintf(what, sizeof what, "GGUF %s %s", cases[i][0], cases[i][1]);
        check(&t, what);
        tiny_close(&t);
    }
}

/* ---- a batch of sequences, threads, chunks
 * ------------------------------------------------------------------------------------------------ */
static void sequences_do_not_touch_each_other(void **state)
{
    (void)state;
    static const char *const kinds[] = {"mistral", "olmoe"};
    for (int k = 0; k < 2; k++) {
        tiny t = tiny_open(kinds[k], "plain");
        int64_t n, d = t.arch->dims.hidden;
        int32_t *ids = tiny_ids(&t, &n), both[128];
        for (int64_t i = 0; i < n; i++) both[i] = ids[i], both[n + i] = ids[n - 1 - i];
        float *one = calloc((size_t)(2 * n * d), sizeof *one), *two = calloc((size_t)(2 * n * d), sizeof *two);
        oz_run run = {0};
        assert_int_equal(oz_pool_new(&run.pool, 3), OZ_OK);
        assert_int_equal(oz_model_embed(t.model, both, 2 * n, oz_mat_of(one, 2 * n, d), NULL), OZ_OK);
        memcpy(two, one, (size_t)(2 * n * d) * sizeof *one);
        assert_int_equal(oz_model_run_block(t.model, 0, oz_mat_of(one, 2 * n, d), n, NULL, &run), OZ_OK);
        assert_int_equal(oz_model_run_block(t.model, 0, oz_mat_of(two, n, d), n, NULL, NULL), OZ_OK);
        assert_int_equal(oz_model_run_block(t.model, 0, oz_mat_of(two + n * d, n, d), n, NULL, NULL), OZ_OK);
        assert_memory_equal(one, two, (size_t)(2 * n * d) * sizeof *one);
        assert_int_not_equal(oz_model_run_block(t.model, 0, oz_mat_of(one, 2 * n - 1, d), n, NULL, NULL), OZ_OK);
        assert_non_null(strstr(oz_message(), "95 rows of 32 are no whole sequences of 48 tokens"));
        oz_pool_free(run.pool);
        free(one);
        free(two);
        free(ids);
        tiny_close(&t);
    }
}

/* ---- watchers
 * -------------------------------------------------------------------------------------------------------------------------------- */
typedef struct seen {
    const oz_arch *arch;
    int calls, tokens_of_down[8];
    char order[512];
} seen;
static oz_status watch(void *ctx, const int32_t *lin, int n, oz_mat x)
{
    seen *s = ctx;
    s->calls++;
    for (int i = 0; i < n; i++) {
        assert_int_equal(x.cols, s->arch->linear[lin[i]].in);
        (void)strncat(s->order, s->arch->linear[lin[i]].role, 10);
        (void)strncat(s->order, " ", 2);
        if (s->arch->linear[lin[i]].expert >= 0 && !strcmp(s->arch->linear[lin[i]].role, "down"))
            s->tokens_of_down[s->arch->linear[lin[i]].expert] += (int)x.rows;
    }
    return OZ_OK;
}
static void watchers_see_every_site_in_order(void **state)
{
    (void)state;
    static const char *const until[] = {"q k v ", "q k v o ", "q k v o gate up ", "q k v o gate up down "};
    tiny t = tiny_open("llama", "plain");
    int64_t n, d = t.arch->dims.hidden;
    int32_t *ids = tiny_ids(&t, &n);
    float *h = calloc((size_t)(n * d), sizeof *h);
    for (int stop = -1; stop < 4; stop++) {
        seen s = {.arch = t.arch};
        oz_forward f = {watch, &s, stop};
        assert_int_equal(oz_model_embed(t.model, ids, n, oz_mat_of(h, n, d), NULL), OZ_OK);
        assert_int_equal(oz_model_run_block(t.model, 1, oz_mat_of(h, n, d), n, &f, NULL), OZ_OK);
        assert_string_equal(s.order, until[stop < 0 ? 3 : stop]);
    }
    tiny_close(&t);
    t = tiny_open("olmoe", "plain");
    seen s = {.arch = t.arch};
    oz_forward f = {watch, &s, -1};
    assert_int_equal(oz_model_embed(t.model, ids, n, oz_mat_of(h, n, d), NULL), OZ_OK);
    assert_int_equal(oz_model_run_block(t.model, 0, oz_mat_of(h, n, d), n, &f, NULL), OZ_OK);
    int sum = 0;
    for (int e = 0; e < 4; e++) sum += s.tokens_of_down[e];
    assert_int_equal(sum, 2 * n); /* every token is at two experts */
    assert_true(s.tokens_of_down[0] != n || s.tokens_of_down[1] != n);
    free(h);
    free(ids);
    tiny_close(&t);
}

/* ---- the attention module with given weights (card awq)
 * ------------------------------------------------------------------------------------------ */
static void attention_with_own_weights_is_the_block(void **state)
{
    (void)state;
    static const char *const kinds[] = {"qwen2", "qwen3", "llama_bias"};
    for (int k = 0; k < 3; k++) {
        tiny t = tiny_open(kinds[k], "plain");
        int64_t n = 32, d = t.arch->dims.hidden;
        float *x = calloc((size_t)(n * d), sizeof *x), *a = calloc((size_t)(n * d), sizeof *a), *b = calloc((size_t)(n * d), sizeof *b);
        for (int64_t i = 0; i < n * d; i++) x[i] = (float)oz_rng_normal((oz_rng){1, 2}, (uint64_t)i);
        oz_mat w[3];
        const char *role[] = {"q", "k", "v"};
        for (int i = 0; i < 3; i++) {
            int at = oz_arch_find(t.arch, role[i], 1, -1);
            w[i] = oz_mat_of(calloc((size_t)(t.arch->linear[at].out * d), sizeof(float)), t.arch->linear[at].out, d);
            assert_int_equal(oz_weights_matrix(t.weights, at, w[i].p), OZ_OK);
        }
        assert_int_equal(oz_model_attention(t.model, 1, oz_mat_of(x, n, d), 16, NULL, NULL, NULL, true, oz_mat_of(a, n, d), NULL), OZ_OK);
        assert_int_equal(oz_model_attention(t.model, 1, oz_mat_of(x, n, d), 16, &w[0], &w[1], &w[2], true, oz_mat_of(b, n, d), NULL),
                         OZ_OK);
        assert_true(tiny_error(a, b, n * d) < 1e-5);
        w[2].p[0] += 1;
        assert_int_equal(oz_model_attention(t.model, 1, oz_mat_of(x, n, d), 16, &w[0], NULL, &w[2], true, oz_mat_of(b, n, d), NULL), OZ_OK);
        assert_true(tiny_error(a, b, n * d) > 1e-3);
        for (int i = 0; i < 3; i++) free(w[i].p);
        free(x);
        free(a);
        free(b);
        tiny_close(&t);
    }
}

static void tokens_outside_the_vocabulary(void **state)
{
    (void)state;
    tiny t = tiny_open("llama", "plain");
    float h[32];
    int32_t id = 128;
    assert_int_not_equal(oz_model_embed(t.model, &id, 1, oz_mat_of(h, 1, 32), NULL), OZ_OK);
    assert_string_equal(oz_message(), "token 128 at position 0: the vocabulary has 128");
    tiny_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(logits_equal_transformers),
                                       cmocka_unit_test(gguf_gives_the_same_logits),
                                       cmocka_unit_test(sequences_do_not_touch_each_other),
                                       cmocka_unit_test(watchers_see_every_site_in_order),
                                       cmocka_unit_test(attention_with_own_weights_is_the_block),
                                       cmocka_unit_test(tokens_outside_the_vocabulary)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

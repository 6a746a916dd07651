/* Scoring: the protocols' windows against a plain computation from all logits, the divergence of two models, and the perplexity of MODELS.
 */
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

/* -ln p(next) after tokens ids[0 .. n). */
static double nll_after(oz_model *m, const int32_t *ids, int64_t n, int32_t next, float *copy)
{
    int64_t V = oz_model_arch(m)->dims.vocab;
    float *y = tiny_logits(m, ids, n, NULL), *last = y + (n - 1) * V;
    double z = oz_nn_logsumexp(last, V), r = z - (double)last[next];
    if (copy) memcpy(copy, last, (size_t)V * sizeof *copy);
    free(y);
    return r;
}
static void windows_are_scored_apart_and_the_tail_dropped(void **state)
{
    (void)state;
    tiny t = tiny_open("llama", "plain");
    int64_t n;
    int32_t *ids = tiny_ids(&t, &n);
    oz_score_options o = OZ_SCORE_OPTIONS_INIT;
    oz_score s;
    float dump[64];
    o.ctx = 20;
    o.dump = dump;
    assert_int_equal(oz_score_text(&s, t.model, NULL, ids, n, -1, &o, NULL), OZ_OK);
    assert_int_equal(s.tokens, 2 * 19); /* 48 tokens: two windows, eight left over */
    double sum = 0;
    int at = 0;
    for (int w = 0; w < 2; w++)
        for (int i = 1; i < 20; i++) {
            double x = nll_after(t.model, ids + 20 * w, i, ids[20 * w + i], NULL);
            assert_true(fabs(x + (double)dump[at++]) < 1e-3);
            sum += x / 38;
        }
    assert_true(fabs(s.nll - sum) < 1e-4 && fabs(s.ppl - exp(sum)) < 1e-3 * s.ppl);
    assert_false(s.has_ref);
    /* a BOS stands in front of the text once: the windows move by one */
    assert_int_equal(oz_score_text(&s, t.model, NULL, ids, n, 1, &o, NULL), OZ_OK);
    int32_t first[1] = {1};
    assert_true(fabs((double)dump[0] + nll_after(t.model, first, 1, ids[0], NULL)) < 1e-3);
    assert_true(fabs((double)dump[19] + nll_after(t.model, ids + 19, 1, ids[20], NULL)) < 1e-3);
    o.no_bos = true;
    double with = s.nll;
    assert_int_equal(oz_score_text(&s, t.model, NULL, ids, n, 1, &o, NULL), OZ_OK);
    assert_true(fabs(s.nll - sum) < 1e-4 && s.nll != with);
    /* shorter than a window: one window of what there is; --tokens */
    o.ctx = 2048;
    o.tokens = 10;
    assert_int_equal(oz_score_text(&s, t.model, NULL, ids, n, -1, &o, NULL), OZ_OK);
    assert_int_equal(s.tokens, 9);
    assert_int_not_equal(oz_score_text(&s, t.model, NULL, ids, 1, -1, &o, NULL), OZ_OK);
    assert_string_equal(oz_message(), "1 tokens; this protocol needs 2");
    free(ids);
    tiny_close(&t);
}
static void llama_cpp_scores_the_second_half_after_bos(void **state)
{
    (void)state;
    tiny t = tiny_open("llama", "plain");
    int64_t n;
    int32_t *ids = tiny_ids(&t, &n), w[16];
    oz_score_options o = OZ_SCORE_OPTIONS_INIT;
    oz_score s;
    o.ctx = 16;
    o.llama_cpp = true;
    float dump[64];
    o.dump = dump;
    assert_int_equal(oz_score_text(&s, t.model, NULL, ids, n, 1, &o, NULL), OZ_OK);
    assert_int_equal(s.tokens, 3 * 7); /* n_ctx - n_ctx / 2 - 1 a window */
    for (int k = 0; k < 3; k++) {
        w[0] = 1;
        memcpy(w + 1, ids + 16 * k, 15 * sizeof *w); /* the text begins with a BOS, each window's first token becomes one */
        for (int i = 8; i < 15; i++)
            assert_true(fabs((double)dump[7 * k + i - 8] + nll_after(t.model, w, i + 1, ids[16 * k + i], NULL)) < 1e-3);
    }
    assert_int_equal(oz_score_text(&s, t.model, NULL, ids, n, -1, &o, NULL), OZ_OK); /* no BOS: windows as they are */
    assert_true(fabs((double)dump[0] + nll_after(t.model, ids, 9, ids[9], NULL)) < 1e-3);
    assert_int_not_equal(oz_score_text(&s, t.model, NULL, ids, 15, -1, &o, NULL), OZ_OK);
    assert_string_equal(oz_message(), "15 tokens; this protocol needs 16");
    free(ids);
    tiny_close(&t);
}
static void rolling_scores_every_token_once(void **state)
{
    (void)state;
    tiny t = tiny_open("llama", "plain");
    int64_t n;
    int32_t *ids = tiny_ids(&t, &n), w[64] = {1};
    oz_score_options o = OZ_SCORE_OPTIONS_INIT;
    oz_score s;
    float dump[64];
    o.ctx = 20;
    o.rolling = true;
    o.dump = dump;
    assert_int_equal(oz_score_text(&s, t.model, NULL, ids, n, 1, &o, NULL), OZ_OK);
    assert_int_equal(s.tokens, 48);
    memcpy(w + 1, ids, 47 * sizeof *w);
    assert_true(fabs((double)dump[19] + nll_after(t.model, w, 20, ids[19], NULL)) < 1e-3);
    assert_true(fabs((double)dump[20] + nll_after(t.model, w + 20, 1, ids[20], NULL)) < 1e-3); /* next window sees one token back */
    assert_true(fabs((double)dump[40] + nll_after(t.model, w + 28, 13, ids[40], NULL)) <
                1e-3); /* the last window reaches back as far as it can */
    assert_true(fabs((double)dump[47] + nll_after(t.model, w + 28, 20, ids[47], NULL)) < 1e-3);
    assert_int_equal(oz_score_text(&s, t.model, NULL, ids, n, -1, &o, NULL), OZ_OK);
    assert_int_equal(s.tokens, 47);
    assert_true(fabs((double)dump[0] + nll_after(t.model, ids, 1, ids[1], NULL)) < 1e-3);
    free(ids);
    tiny_close(&t);
}
static void divergence_of_two_models(void **state)
{
    (void)state;
    tiny a = tiny_open("llama", "plain"), b = tiny_open("mistral", "plain");
    int64_t n, V = a.arch->dims.vocab;
    int32_t *ids = tiny_ids(&a, &n);
    oz_score_options o = OZ_SCORE_OPTIONS_INIT;
    oz_score s;
    assert_int_equal(oz_score_text(&s, a.model, a.model, ids, n, -1, &o, NULL), OZ_OK);
    assert_true(s.has_ref && s.kld_max < 1e-9 && s.top1 == 1 && s.ppl == s.ppl_ref);
    assert_int_equal(oz_score_text(&s, a.model, b.model, ids, n, -1, &o, NULL), OZ_OK);
    float *p = calloc((size_t)V, sizeof *p), *q = calloc((size_t)V, sizeof *q);
    double sum = 0, same = 0, top = 0;
    for (int64_t i = 1; i < n; i++) {
        (void)nll_after(a.model, ids, i, 0, p);
        (void)nll_after(b.model, ids, i, 0, q);
        double zp = oz_nn_logsumexp(p, V), zq = oz_nn_logsumexp(q, V), kl = 0;
        int64_t bp = 0, bq = 0;
        for (int64_t v = 0; v < V; v++) {
            kl += exp((double)q[v] - zq) * ((double)q[v] - zq - (double)p[v] + zp);
            bp = p[v] > p[bp] ? v : bp;
            bq = q[v] > q[bq] ? v : bq;
        }
        sum += kl / (double)(n - 1);
        same += (double)(bp == bq) / (double)(n - 1);
        top = kl > top ? kl : top;
    }
    assert_true(fabs(s.kld_mean - sum) < 1e-4 * sum && fabs(s.top1 - same) < 1e-9 && fabs(s.kld_max - top) < 1e-4 * top);
    assert_true(s.kld_p50 <= s.kld_p99 && s.kld_p99 <= s.kld_max && s.ppl != s.ppl_ref);
    free(p);
    free(q);
    free(ids);
    tiny_close(&a);
    tiny_close(&b);
}

/* MODELS: smollm2, first 2048 tokens of wiki.test.raw, no BOS, one window: 15.23 */
static void perplexity_of_smollm2(void **state)
{
    (void)state;
    const char *models = getenv("OUNCE_MODELS"), *data = getenv("OUNCE_DATA"), *home = getenv("HOME");
    char model[600], text[600];
    if (models)
        (void)snprintf(model, sizeof model, "%s/smollm2.gguf", models);
    else
        (void)snprintf(model, sizeof model, "%s/.cache/ounce/models/smollm2.gguf", home ? home : "");
    (void)snprintf(text, sizeof text, "%s/wikitext-2/wiki.test.raw", data ? data : "");
    if (!data || !oz_path_exists(model) || !oz_path_exists(text)) {
        print_message("smollm2.gguf or wikitext-2/wiki.test.raw is not here\n");
        skip();
        return;
    }
    char *raw;
    size_t bytes, k = 0;
    int64_t n;
    int32_t *ids;
    oz_model *m;
    oz_tokenizer *tok;
    oz_run run = {0};
    oz_model_options mo = OZ_MODEL_OPTIONS_INIT;
    assert_int_equal(oz_pool_new(&run.pool, 2), OZ_OK);
    assert_int_equal(oz_model_open(&m, model, &mo, &run), OZ_OK);
    assert_string_equal(oz_model_arch(m)->reference, "dequantized from Q4_1");
    assert_int_equal(oz_tokenizer_open(&tok, oz_model_ckpt(m)), OZ_OK);
    assert_int_equal(oz_read_file(text, 1 << 24, &raw, &bytes), OZ_OK);
    for (size_t i = 0; i < 20000 && i < bytes; i++)
        if (raw[i] != '\r') raw[k++] = raw[i];
    assert_int_equal(oz_tokenize(tok, raw, k, 0, &ids, &n), OZ_OK);
    oz_score_options o = OZ_SCORE_OPTIONS_INIT;
    o.tokens = 2048;
    oz_score s;
    double start = oz_seconds();
    if (oz_score_text(&s, m, NULL, ids, n, -1, &o, &run)) fail_msg("%s", oz_message());
    print_message("perplexity %.4f over %lld tokens, %.1f s\n", s.ppl, (long long)s.tokens, oz_seconds() - start);
    assert_int_equal(s.tokens, 2047);
    assert_true(fabs(s.ppl - 15.23) < 0.01);
    oz_free(ids);
    oz_free(raw);
    oz_tokenizer_free(tok);
    oz_model_free(m);
    oz_pool_free(run.pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(windows_are_scored_apart_and_the_tail_dropped),
                                       cmocka_unit_test(llama_cpp_scores_the_second_half_after_bos),
                                       cmocka_unit_test(rolling_scores_every_token_once), cmocka_unit_test(divergence_of_two_models),
                                       cmocka_unit_test(perplexity_of_smollm2)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The next token: greedy with ties, the order penalty -> temperature -> top-k -> top-p -> min-p -> draw, noise by (seed, position); and
 * generation. */
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

static const float base[6] = {1, 3, 3, 0, -1, 2};
static int32_t draw(oz_sampling o, const int32_t *history, int64_t n, int64_t position)
{
    float l[6];
    memcpy(l, base, sizeof l);
    return oz_sample(&o, l, 6, history, n, position);
}
static void greedy_takes_the_lowest_id_on_ties(void **state)
{
    (void)state;
    oz_sampling o = OZ_SAMPLING_INIT;
    o.temp = 0;
    assert_int_equal(draw(o, NULL, 0, 0), 1);
    int32_t history[] = {1, 1, 4};
    o.repeat_penalty = 2; /* once for a token, however often it came: 3 / 2 */
    assert_int_equal(draw(o, history, 3, 3), 2);
    o.repeat_last = 1; /* only the last token counts */
    assert_int_equal(draw(o, history, 3, 3), 1);
}
static void counts(oz_sampling o, int *seen)
{
    memset(seen, 0, 6 * sizeof *seen);
    for (int64_t p = 0; p < 20000; p++) seen[draw(o, NULL, 0, p)]++;
}
static void draws_follow_the_distribution(void **state)
{
    (void)state;
    oz_sampling o = {.temp = 1, .top_p = 1, .min_p = 0, .repeat_penalty = 1, .top_k = 0, .seed = 7};
    int seen[6];
    double z = 0;
    counts(o, seen);
    for (int i = 0; i < 6; i++) z += exp((double)base[i]);
    for (int i = 0; i < 6; i++) {
        double p = exp((double)base[i]) / z, sigma = sqrt(20000 * p * (1 - p));
        if (fabs(seen[i] - 20000 * p) > 4 * sigma) fail_msg("token %d came %d times, expected %.0f", i, seen[i], 20000 * p);
    }
    o.temp = 2;
    z = 0;
    counts(o, seen);
    for (int i = 0; i < 6; i++) z += exp((double)base[i] / 2);
    assert_true(fabs(seen[1] - 20000 * exp(1.5) / z) < 4 * 70);
}
static void cuts(void **state)
{
    (void)state;
    oz_sampling o = {.temp = 1, .top_p = 1, .min_p = 0, .repeat_penalty = 1, .top_k = 2, .seed = 1};
    int seen[6];
    counts(o, seen);
    assert_int_equal(seen[1] + seen[2], 20000);
    o.top_k = 0;
    o.top_p = 0.7f; /* the two best hold 0.745 of the mass */
    counts(o, seen);
    assert_int_equal(seen[1] + seen[2], 20000);
    o.top_p = 1;
    o.min_p = 0.3f; /* e^-1 = 0.37 of the best stays, e^-2 goes */
    counts(o, seen);
    assert_int_equal(seen[0] + seen[3] + seen[4], 0);
    assert_true(seen[5] > 0);
}
static void noise_is_keyed_by_seed_and_position(void **state)
{
    (void)state;
    oz_sampling o = OZ_SAMPLING_INIT, p = OZ_SAMPLING_INIT;
    o.top_p = p.top_p = 1;
    o.temp = p.temp = 3;
    p.seed = 1;
    int differ = 0;
    for (int64_t i = 0; i < 200; i++) {
        assert_int_equal(draw(o, NULL, 0, i), draw(o, NULL, 0, i));
        differ += draw(o, NULL, 0, i) != draw(p, NULL, 0, i);
    }
    assert_true(differ > 50);
}

typedef struct taken {
    int32_t id[64];
    int n, limit;
} taken;
static bool take(void *ctx, int32_t id)
{
    taken *t = ctx;
    t->id[t->n++] = id;
    return t->n < t->limit;
}
static void generation_continues_the_most_likely_way(void **state)
{
    (void)state;
    tiny t = tiny_open("qwen3", "plain");
    int64_t n;
    int32_t *ids = tiny_ids(&t, &n), all[64];
    oz_sampling greedy = OZ_SAMPLING_INIT;
    greedy.temp = 0;
    taken a = {.limit = 64}, b = {.limit = 3};
    oz_session *s;
    assert_int_equal(oz_session_new(&s, t.model, 40), OZ_OK);
    assert_int_equal(oz_generate(t.model, s, NULL, ids, 12, 8, &greedy, take, &a, NULL), OZ_OK);
    assert_int_equal(a.n, 8);
    memcpy(all, ids, 12 * sizeof *all);
    for (int i = 0; i < 8; i++) {
        float *y = tiny_logits(t.model, all, 12 + i, NULL), *last = y + (11 + i) * 128;
        int best = 0;
        for (int v = 1; v < 128; v++) best = last[v] > last[best] ? v : best;
        assert_int_equal(a.id[i], best);
        all[12 + i] = best;
        free(y);
    }
    oz_session_free(s);
    assert_int_equal(oz_session_new(&s, t.model, 40), OZ_OK);
    assert_int_equal(oz_generate(t.model, s, NULL, ids, 12, 30, &greedy, take, &b, NULL), OZ_OK); /* emit says stop */
    assert_int_equal(b.n, 3);
    oz_session_free(s);
    a = (taken){.limit = 64};
    assert_int_equal(oz_session_new(&s, t.model, 16), OZ_OK); /* the session fills: 16 tokens in it, one more was drawn */
    assert_int_equal(oz_generate(t.model, s, NULL, ids, 12, 30, &greedy, take, &a, NULL), OZ_OK);
    assert_int_equal(a.n, 5);
    oz_session_free(s);
    free(ids);
    tiny_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_takes_the_lowest_id_on_ties), cmocka_unit_test(draws_follow_the_distribution), cmocka_unit_test(cuts),
        cmocka_unit_test(noise_is_keyed_by_seed_and_position), cmocka_unit_test(generation_continues_the_most_likely_way)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

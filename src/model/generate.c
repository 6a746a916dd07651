/* model/generate.c: the next token from logits, and text token by token.
 * Order: repeat penalty -> temperature -> top-k -> top-p -> min-p -> draw.  The draw's noise is keyed by (seed, position). */
#include "model/parts.h"
#include <math.h>
#include <stdlib.h>

typedef struct choice {
    float logit;
    int32_t id;
} choice;
static int by_logit(const void *a, const void *b)
{
    const choice *x = a, *y = b;
    if (x->logit != y->logit) return x->logit < y->logit ? 1 : -1;
    return (x->id > y->id) - (x->id < y->id);
}

static int32_t best(const float *logits, int32_t n)
{
    int32_t b = 0;
    for (int32_t i = 1; i < n; i++)
        if (logits[i] > logits[b]) b = i;
    return b;
}

int32_t oz_sample(const oz_sampling *o, float *logits, int32_t vocab, const int32_t *history, int64_t n, int64_t position)
{
    int64_t first = o->repeat_last > 0 && n > o->repeat_last ? n - o->repeat_last : 0;
    for (int64_t i = first; o->repeat_penalty != 1 && i < n; i++) {
        bool before = false;
        for (int64_t j = first; j < i && !before; j++) before = history[j] == history[i];
        float *x = &logits[history[i]];
        if (!before) *x = *x > 0 ? *x / o->repeat_penalty : *x * o->repeat_penalty;
    }
    if (o->temp <= 0) return best(logits, vocab);
    choice *c = oz_alloc((size_t)vocab, sizeof *c);
    if (!c) return -1;
    float top = logits[best(logits, vocab)];
    int32_t m = 0;
    float floor_logit = top - 40 * o->temp; /* below: probability under 1e-17 of the best */
    for (int32_t i = 0; i < vocab; i++)
        if (logits[i] >= floor_logit) c[m++] = (choice){logits[i], i};
    qsort(c, (size_t)m, sizeof *c, by_logit);
    if (o->top_k > 0 && m > o->top_k) m = o->top_k;
    double total = 0, sum = 0;
    for (int32_t i = 0; i < m; i++) total += exp((c[i].logit - top) / o->temp);
    int32_t keep = m;
    for (int32_t i = 0; i < m && o->top_p < 1; i++) {
        sum += exp((c[i].logit - top) / o->temp);
        if (sum >= o->top_p * total) {
            keep = i + 1;
            break;
        }
    }
    while (keep > 1 && exp((c[keep - 1].logit - top) / o->temp) < o->min_p) keep--;
    total = 0;
    for (int32_t i = 0; i < keep; i++) total += exp((c[i].logit - top) / o->temp);
    double u = oz_rng_uniform((oz_rng){o->seed, 0x73616d70}, (uint64_t)position) * total;
    int32_t id = c[keep - 1].id;
    for (int32_t i = 0; i < keep; i++) {
        u -= exp((c[i].logit - top) / o->temp);
        if (u < 0) {
            id = c[i].id;
            break;
        }
    }
    oz_free(c);
    return id;
}

enum { CHUNK = 512 };

oz_status oz_generate(oz_model *m, oz_session *session, const oz_tokenizer *tokenizer, const int32_t *prompt, int64_t n, int64_t max,
                      const oz_sampling *o, bool (*emit)(void *, int32_t id), void *ctx, oz_run *run)
{
    int32_t vocab = oz_arch_of(m)->dims.vocab;
    float *logits = oz_alloc((size_t)vocab, sizeof *logits);
    int32_t *history = oz_alloc((size_t)(n + max), sizeof *history);
    oz_status s = logits && history ? OZ_OK : OZ_ERR_NOMEM;
    oz_mat out = oz_mat_of(logits, 1, vocab);
    for (int64_t a = 0; !s && a < n; a += CHUNK) {
        int64_t k = n - a < CHUNK ? n - a : CHUNK, start[2] = {0, k}, want = k - 1;
        oz_step step = {&session, 1, start, prompt + a, &want, a + k == n ? 1 : 0};
        s = oz_model_step(m, &step, out, run);
        for (int64_t i = 0; !s && i < k; i++) history[a + i] = prompt[a + i];
    }
    for (int64_t i = 0; !s && i < max; i++) {
        int32_t id = oz_sample(o, logits, vocab, history, n + i, session->tokens);
        if (id < 0) {
            s = OZ_ERR_NOMEM;
            break;
        }
        if (tokenizer && oz_tokenizer_is_end(tokenizer, id)) break;
        history[n + i] = id;
        if (!emit(ctx, id) || i + 1 == max || session->tokens == session->max) break;
        int64_t start[2] = {0, 1}, want = 0;
        oz_step step = {&session, 1, start, &id, &want, 1};
        s = oz_model_step(m, &step, out, run);
    }
    oz_free(logits);
    oz_free(history);
    return s;
}

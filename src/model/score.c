/* model/score.c: two models read the same tokens; negative log-likelihood, KL divergence and top-1 agreement of the scored positions.
 *
 *   windows    non-overlapping windows of ctx tokens (BOS in front where the tokenizer adds one); every position that has a token before it
 *   llama.cpp  whole windows of 512 of the text, BOS in front of it where the tokenizer adds one; the first token of every window gives way
 *              to BOS; the last 255 tokens of a window are scored
 *   rolling    windows of ctx that overlap by half; only tokens not scored before count
 * Logits are made for a strip of positions at a time, so a large vocabulary costs STRIP rows and not a window. */
#include "model/parts.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STRIP = 64 };

typedef struct tally {
    int64_t n, room;
    double nll, nll_ref, agree;
    float *kld;
    double *window;
    int64_t nwindow; /* mean KLD of each window, for the standard error */
} tally;

typedef struct strip_job {
    const float *p, *q;
    const int32_t *next;
    int64_t vocab;
    double *nll, *nll_ref, *kld;
    int *same;
} strip_job;

static oz_status score_rows(void *ctx, int64_t i0, int64_t i1, oz_work *work)
{
    const strip_job *j = ctx;
    (void)work;
    for (int64_t t = i0; t < i1; t++) {
        const float *p = j->p + t * j->vocab, *q = j->q ? j->q + t * j->vocab : NULL; /* p: this model, q: reference */
        double zp = oz_nn_logsumexp(p, j->vocab);
        j->nll[t] = zp - p[j->next[t]];
        if (!q) continue;
        double zq = oz_nn_logsumexp(q, j->vocab), kl = 0;
        int64_t bp = 0, bq = 0;
        for (int64_t v = 0; v < j->vocab; v++) {
            double lq = q[v] - zq;
            kl += exp(lq) * (lq - (p[v] - zp));
            bp = p[v] > p[bp] ? v : bp, bq = q[v] > q[bq] ? v : bq;
        }
        j->nll_ref[t] = zq - q[j->next[t]];
        j->kld[t] = kl > 0 ? kl : 0; /* rounding may leave -1e-17 */
        j->same[t] = bp == bq;
    }
    return OZ_OK;
}

static oz_status hidden_of(oz_model *m, const int32_t *ids, int64_t n, float *h, oz_run *run)
{
    int64_t d = oz_arch_of(m)->dims.hidden;
    oz_mat x = oz_mat_of(h, n, d);
    OZ_TRY(oz_model_embed(m, ids, n, x, run));
    for (int l = 0; l < oz_arch_of(m)->dims.layers; l++) {
        OZ_TRY(oz_check_cancel(run));
        OZ_TRY(oz_model_run_block(m, l, x, n, NULL, run));
        if (m->opt.stream) oz_model_drop_block(m, l);
    }
    return OZ_OK;
}

/* One window of n tokens; positions from .. n - 2 predict the token after them. */
static oz_status window(oz_model *m, oz_model *ref, const int32_t *ids, int64_t n, int64_t from, tally *t, float *dump, oz_run *run)
{
    int64_t vocab = oz_arch_of(m)->dims.vocab, dm = oz_arch_of(m)->dims.hidden, dr = ref ? oz_arch_of(ref)->dims.hidden : 0;
    float *h = oz_alloc((size_t)(n * (dm + dr)), sizeof *h), *logits = oz_alloc((size_t)(STRIP * vocab * (ref ? 2 : 1)), sizeof *logits);
    oz_status s = h && logits ? hidden_of(m, ids, n, h, run) : OZ_ERR_NOMEM;
    if (!s && ref) s = hidden_of(ref, ids, n, h + n * dm, run);
    double nll[STRIP], nll_ref[STRIP], kld[STRIP], sum = 0;
    int same[STRIP];
    int64_t scored = 0;
    for (int64_t a = from; !s && a < n - 1; a += STRIP) {
        int64_t k = n - 1 - a < STRIP ? n - 1 - a : STRIP;
        s = oz_model_head(m, oz_mat_of(h + a * dm, k, dm), oz_mat_of(logits, k, vocab), run);
        if (!s && ref) s = oz_model_head(ref, oz_mat_of(h + n * dm + a * dr, k, dr), oz_mat_of(logits + STRIP * vocab, k, vocab), run);
        strip_job j = {logits, ref ? logits + STRIP * vocab : NULL, ids + a + 1, vocab, nll, nll_ref, kld, same};
        if (!s) s = oz_pool_for(run ? run->pool : NULL, k, 4, score_rows, &j);
        for (int64_t i = 0; !s && i < k; i++, t->n++, scored++) {
            if (!isfinite(nll[i])) {
                s = oz_fail(OZ_ERR_NUMERIC, "run ounce verify", "position %lld of a window: the model's logits are not finite",
                            (long long)(a + i));
                break;
            }
            t->nll += nll[i];
            if (dump) dump[t->n] = (float)-nll[i];
            if (!ref) continue;
            t->nll_ref += nll_ref[i], t->agree += same[i], t->kld[t->n] = (float)kld[i], sum += kld[i];
        }
    }
    if (!s && ref && scored) t->window[t->nwindow++] = sum / (double)scored;
    oz_free(h);
    oz_free(logits);
    return s;
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void finish(oz_score *out, tally *t, bool ref)
{
    out->tokens = t->n;
    out->nll = t->nll / (double)t->n, out->ppl = exp(out->nll);
    out->has_ref = ref;
    if (!ref) return;
    double sum = 0, mean = 0, var = 0;
    for (int64_t i = 0; i < t->n; i++) sum += t->kld[i];
    qsort(t->kld, (size_t)t->n, sizeof *t->kld, by_value);
    out->nll_ref = t->nll_ref / (double)t->n, out->ppl_ref = exp(out->nll_ref);
    out->kld_mean = sum / (double)t->n, out->top1 = t->agree / (double)t->n;
    out->kld_p50 = t->kld[t->n / 2], out->kld_p99 = t->kld[(t->n - 1) * 99 / 100], out->kld_max = t->kld[t->n - 1];
    for (int64_t i = 0; i < t->nwindow; i++) mean += t->window[i] / (double)t->nwindow;
    for (int64_t i = 0; i < t->nwindow; i++) var += (t->window[i] - mean) * (t->window[i] - mean);
    out->kld_stderr = t->nwindow > 1 ? sqrt(var / ((double)t->nwindow * (double)(t->nwindow - 1))) : 0;
}

oz_status oz_score_text(oz_score *out, oz_model *m, oz_model *ref, const int32_t *ids, int64_t n, int32_t bos, const oz_score_options *o,
                        oz_run *run)
{
    int64_t ctx = o->llama_cpp ? 512 : o->ctx, step = o->rolling ? ctx / 2 : ctx;
    memset(out, 0, sizeof *out);
    if (ctx < 2 || step < 1) return oz_fail(OZ_ERR_RANGE, NULL, "windows of %lld tokens; at least 2", (long long)ctx);
    bool prefix = bos >= 0; /* each window begins with BOS */
    if (o->llama_cpp && n + prefix < ctx)
        return oz_fail(OZ_ERR_RANGE, "give a longer text", "%lld tokens; the llama.cpp protocol needs a whole window of 512", (long long)n);
    int64_t body = prefix ? ctx - 1 : ctx;
    if (prefix && step == ctx && !o->llama_cpp) step = body; /* llama.cpp: BOS takes the place of a token */
    tally t = {.room = n + 1};
    int32_t *w = oz_alloc((size_t)ctx, sizeof *w);
    t.kld = oz_alloc((size_t)n + 1, sizeof *t.kld);
    t.window = oz_alloc((size_t)(n / step) + 2, sizeof *t.window);
    oz_status s = w && t.kld && t.window ? OZ_OK : OZ_ERR_NOMEM;
    int64_t end = 0; /* tokens before this one were scored (rolling) */
    for (int64_t a = 0; !s && a < n - (prefix ? 0 : 1); a += step) {
        int64_t k = n - a < body ? n - a : body, from = 0;
        if (o->llama_cpp && k < body) break; /* whole windows only */
        if (o->rolling && a && end >= n) break;
        if (prefix) w[0] = bos;
        memcpy(w + prefix, ids + a, (size_t)k * sizeof *w);
        if (o->llama_cpp) {
            from = ctx / 2;
        } else if (o->rolling && a) {
            from = end - a - 1 + prefix;
        }
        oz_progress(run, "scoring", (double)a, (double)n);
        s = window(m, ref, w, k + prefix, from, &t, o->dump, run);
        end = a + k;
    }
    if (!s && !t.n) s = oz_fail(OZ_ERR_RANGE, "give a longer text", "%lld tokens leave no position to score", (long long)n);
    if (!s) finish(out, &t, ref != NULL);
    oz_free(w);
    oz_free(t.kld);
    oz_free(t.window);
    return s;
}

/* model/score.c: one or two models read the same tokens: negative log-likelihood, KL divergence, top-1 agreement of the scored positions.
 *
 * windows
 *     windows of ctx tokens that do not overlap, as they come (a tokenizer's BOS stands in front of the text, once); the tail is dropped,
 *     unless the text is shorter than a window; positions 2 .. ctx are scored; the mean of the window means (card evaluating-quantized)
 * llama.cpp
 *     windows of 512, the first token replaced by BOS where the tokenizer adds one; the last 255 tokens of each are scored
 * rolling
 *     every token once, with what context fits: windows of ctx, each seeing the last token of the one before, the last one ending at the
 *     last token (lm-evaluation-harness); a BOS, where there is one, is the context of the first token
 *
 * KLD = sum p_ref (ln p_ref - ln p) over the whole vocabulary, nats, f64. Its standard error is over blocks: windows, or 256 positions when
 * there are fewer than 8 windows. Logits exist for a strip of positions at a time, whatever the window. */
#include "model/parts.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STRIP = 64, BLOCK = 256 };

typedef struct tally {
    int64_t n;               /* scored positions */
    double means, means_ref; /* sums of window means */
    double total, total_ref; /* sums over positions */
    int64_t windows, agree;
    float *kld;
    double *window_kld;
} tally;

typedef struct strip_job {
    const float *p, *q;
    const int32_t *next;
    int64_t vocab;
    double nll[STRIP], nll_ref[STRIP], kld[STRIP];
    int same[STRIP];
} strip_job;

static oz_status score_rows(void *ctx, int64_t i0, int64_t i1, oz_work *work)
{
    strip_job *j = ctx;
    (void)work;
    for (int64_t t = i0; t < i1; t++) {
        const float *p = j->p + t * j->vocab, *q = j->q ? j->q + t * j->vocab : NULL; /* p: this model, q: reference */
        double zp = oz_nn_logsumexp(p, j->vocab);
        j->nll[t] = zp - (double)p[j->next[t]];
        if (!q) continue;
        double zq = oz_nn_logsumexp(q, j->vocab), kl = 0;
        int64_t bp = 0, bq = 0;
        for (int64_t v = 0; v < j->vocab; v++) {
            double lq = (double)q[v] - zq;
            if (lq > -60) kl += exp(lq) * (lq - ((double)p[v] - zp)); /* less than 1e-26 each below */
            bp = p[v] > p[bp] ? v : bp;
            bq = q[v] > q[bq] ? v : bq;
        }
        j->nll_ref[t] = zq - (double)q[j->next[t]];
        j->kld[t] = kl > 0 ? kl : 0; /* rounding may leave -1e-17 */
        j->same[t] = bp == bq;
    }
    return OZ_OK;
}

/* Hidden states of one window. The runtime path is the one a user gets, through a session and its KV pages; exact and streamed models run
 * whole sequences in f32. */
static oz_status hidden_of(oz_model *m, const int32_t *ids, int64_t n, float *h, oz_run *run)
{
    int64_t d = oz_arch_of(m)->dims.hidden;
    oz_mat x = oz_mat_of(h, n, d);
    if (!m->opt.exact && !m->opt.stream) {
        oz_session *s;
        int64_t start[2] = {0, n}, *want = oz_alloc((size_t)n, sizeof *want);
        if (!want) return OZ_ERR_NOMEM;
        for (int64_t i = 0; i < n; i++) want[i] = i;
        oz_status status = oz_session_new(&s, m, n);
        if (!status) {
            oz_step step = {&s, 1, start, ids, want, n};
            status = oz_step_hidden(m, &step, x, run);
            oz_session_free(s);
        }
        oz_free(want);
        return status;
    }
    OZ_TRY(oz_model_embed(m, ids, n, x, run));
    for (int l = 0; l < oz_arch_of(m)->dims.layers; l++) OZ_TRY(oz_model_run_block(m, l, x, n, NULL, run));
    return OZ_OK;
}

/* One window of n tokens; positions from .. n - 2 predict next[] (the token after them in the text). */
static oz_status window(oz_model *m, oz_model *ref, const int32_t *ids, const int32_t *next, int64_t n, int64_t from, tally *t, float *dump,
                        oz_run *run)
{
    int64_t vocab = oz_arch_of(m)->dims.vocab, dm = oz_arch_of(m)->dims.hidden, dr = ref ? oz_arch_of(ref)->dims.hidden : 0, scored = 0;
    float *h = oz_alloc((size_t)n, (size_t)(dm + dr) * sizeof *h),
          *logits = oz_alloc((size_t)(STRIP * (ref ? 2 : 1)), (size_t)vocab * sizeof *logits);
    oz_status s = h && logits ? hidden_of(m, ids, n, h, run) : OZ_ERR_NOMEM;
    if (!s && ref) s = hidden_of(ref, ids, n, h + n * dm, run);
    double nll = 0, nll_ref = 0, kld = 0;
    for (int64_t a = from; !s && a < n; a += STRIP) {
        int64_t k = n - a < STRIP ? n - a : STRIP;
        strip_job j = {.p = logits, .q = ref ? logits + STRIP * vocab : NULL, .next = next + a, .vocab = vocab};
        s = oz_model_head(m, oz_mat_of(h + a * dm, k, dm), oz_mat_of(logits, k, vocab), run);
        if (!s && ref) s = oz_model_head(ref, oz_mat_of(h + n * dm + a * dr, k, dr), oz_mat_of(logits + STRIP * vocab, k, vocab), run);
        if (!s) s = oz_pool_for(run ? run->pool : NULL, k, 4, score_rows, &j);
        for (int64_t i = 0; !s && i < k; i++, t->n++, scored++) {
            if (!isfinite(j.nll[i])) {
                s = oz_fail(OZ_ERR_NUMERIC, "run ounce verify", "position %lld of window %lld: the logits of %s are not finite",
                            (long long)(a + i), (long long)t->windows, oz_ckpt_path(oz_model_ckpt(m)));
                break;
            }
            nll += j.nll[i];
            if (dump) dump[t->n] = (float)-j.nll[i];
            if (!ref) continue;
            nll_ref += j.nll_ref[i];
            kld += j.kld[i];
            t->agree += j.same[i];
            t->kld[t->n] = (float)j.kld[i];
        }
    }
    if (!s && scored) {
        t->total += nll;
        t->total_ref += nll_ref;
        t->means += nll / (double)scored;
        t->means_ref += nll_ref / (double)scored;
        t->window_kld[t->windows++] = kld / (double)scored;
    }
    oz_free(h);
    oz_free(logits);
    return s;
}

/* ---- the protocols: which tokens, which targets
 * ------------------------------------------------------------------------------------------- */
typedef struct reading {
    oz_model *m, *ref;
    const int32_t *ids;
    int64_t n, ctx;
    int32_t bos;
    float *dump;
    int32_t *in;
    oz_run *run;
} reading;

static oz_status read_windows(const reading *r, tally *t)
{
    int64_t ctx = r->n < r->ctx ? r->n : r->ctx;
    for (int64_t a = 0; a + ctx <= r->n; a += ctx) {
        oz_progress(r->run, "scoring", (double)a, (double)r->n);
        /* the last position has no target of its own in the window: run ctx - 1 tokens, the last one predicted is position ctx */
        OZ_TRY(window(r->m, r->ref, r->ids + a, r->ids + a + 1, ctx - 1, 0, t, r->dump, r->run));
    }
    return OZ_OK;
}
static oz_status read_llama_cpp(const reading *r, tally *t)
{
    for (int64_t a = 0; a + r->ctx <= r->n; a += r->ctx) {
        oz_progress(r->run, "scoring", (double)a, (double)r->n);
        memcpy(r->in, r->ids + a, (size_t)r->ctx * sizeof *r->in);
        if (r->bos >= 0) r->in[0] = r->bos;
        OZ_TRY(window(r->m, r->ref, r->in, r->ids + a + 1, r->ctx - 1, r->ctx / 2, t, r->dump, r->run));
    }
    return OZ_OK;
}
static oz_status read_rolling(const reading *r, tally *t)
{
    const int32_t *ids = r->ids;
    int64_t n = r->n, done = r->bos >= 0 ? 0 : 1; /* tokens before `done` were scored, or have no context */
    while (done < n) {
        int64_t end = done + r->ctx < n ? done + r->ctx : n, first = end - r->ctx; /* inputs are tokens first - 1 .. end - 2 */
        if (first < 1) first = r->bos >= 0 ? 0 : 1;
        int64_t len = end - first;
        oz_progress(r->run, "scoring", (double)done, (double)n);
        for (int64_t i = 0; i < len; i++) r->in[i] = first + i ? ids[first + i - 1] : r->bos;
        OZ_TRY(window(r->m, r->ref, r->in, ids + first, len, done - first, t, r->dump, r->run));
        done = end;
    }
    return OZ_OK;
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}
static double standard_error(const double *x, int64_t n)
{
    double mean = 0, var = 0;
    for (int64_t i = 0; i < n; i++) mean += x[i] / (double)n;
    for (int64_t i = 0; i < n; i++) var += (x[i] - mean) * (x[i] - mean);
    return n > 1 ? sqrt(var / ((double)n * (double)(n - 1))) : 0;
}

static oz_status finish(oz_score *out, tally *t, double nll, double nll_ref, bool ref)
{
    out->tokens = t->n;
    out->nll = nll;
    out->ppl = exp(nll);
    out->has_ref = ref;
    if (!ref) return OZ_OK;
    double sum = 0;
    for (int64_t i = 0; i < t->n; i++) sum += (double)t->kld[i];
    out->nll_ref = nll_ref;
    out->ppl_ref = exp(nll_ref);
    out->kld_mean = sum / (double)t->n;
    out->top1 = (double)t->agree / (double)t->n;
    int64_t blocks = t->n / BLOCK;
    if (t->windows >= 8 || blocks < 2)
        out->kld_stderr = standard_error(t->window_kld, t->windows);
    else {
        double *mean = oz_zalloc((size_t)blocks, sizeof *mean);
        if (!mean) return OZ_ERR_NOMEM;
        for (int64_t i = 0; i < blocks * BLOCK; i++) mean[i / BLOCK] += (double)t->kld[i] / BLOCK;
        out->kld_stderr = standard_error(mean, blocks);
        oz_free(mean);
    }
    qsort(t->kld, (size_t)t->n, sizeof *t->kld, by_value);
    out->kld_p50 = (double)t->kld[t->n / 2];
    out->kld_p99 = (double)t->kld[(t->n - 1) * 99 / 100];
    out->kld_max = (double)t->kld[t->n - 1];
    return OZ_OK;
}

oz_status oz_score_text(oz_score *out, oz_model *m, oz_model *ref, const int32_t *ids, int64_t n, int32_t bos, const oz_score_options *o,
                        oz_run *run)
{
    int64_t ctx = o->ctx > 0 ? o->ctx : o->llama_cpp ? 512 : 2048, limit = oz_arch_of(m)->dims.context;
    memset(out, 0, sizeof *out);
    if (o->llama_cpp && ctx > 512) ctx = 512;
    if (ctx > limit) ctx = limit;
    if (o->tokens > 0 && o->tokens < n) n = o->tokens;
    if (ctx < 2) return oz_fail(OZ_ERR_RANGE, NULL, "windows of %lld tokens; at least 2", (long long)ctx);
    bool prefix = bos >= 0 && !o->no_bos && !o->rolling && n > 0 && ids[0] != bos;
    if (n + prefix < 2 || (o->llama_cpp && n + prefix < ctx))
        return oz_fail(OZ_ERR_RANGE, "give a longer text", "%lld tokens; this protocol needs %lld", (long long)n,
                       (long long)(o->llama_cpp ? ctx : 2));
    if (ref && oz_arch_of(ref)->dims.vocab != oz_arch_of(m)->dims.vocab)
        return oz_fail(OZ_ERR_SHAPE, "compare a model with the one it was made from",
                       "%s has a vocabulary of %d, the reference %s one of %d", oz_ckpt_path(oz_model_ckpt(m)), oz_arch_of(m)->dims.vocab,
                       oz_ckpt_path(oz_model_ckpt(ref)), oz_arch_of(ref)->dims.vocab);
    tally t = {0};
    reading r = {m, ref, ids, n, ctx, o->no_bos ? -1 : bos, o->dump, NULL, run};
    int32_t *text = NULL;
    if (prefix) { /* the tokenizer's own habit: once, in front of the text */
        if (!(text = oz_alloc((size_t)n + 1, sizeof *text))) return OZ_ERR_NOMEM;
        text[0] = r.bos;
        memcpy(text + 1, ids, (size_t)n * sizeof *text);
        r.ids = text;
        r.n = ++n;
    }
    r.in = oz_alloc((size_t)ctx, sizeof *r.in);
    t.kld = oz_alloc((size_t)n + 1, sizeof *t.kld);
    t.window_kld = oz_alloc((size_t)(n / (ctx - 1)) + 2, sizeof *t.window_kld);
    oz_status s = r.in && t.kld && t.window_kld ? OZ_OK : OZ_ERR_NOMEM;
    if (!s) s = o->llama_cpp ? read_llama_cpp(&r, &t) : o->rolling ? read_rolling(&r, &t) : read_windows(&r, &t);
    if (!s && !t.n) s = oz_fail(OZ_ERR_RANGE, "give a longer text", "%lld tokens leave no position to score", (long long)n);
    /* equal windows: the mean of means is the mean; rolling windows differ, each token counts once */
    double nll = t.means / (double)(t.windows ? t.windows : 1), nll_ref = t.means_ref / (double)(t.windows ? t.windows : 1);
    if (!s && o->rolling) {
        nll = t.total / (double)t.n;
        nll_ref = t.total_ref / (double)t.n;
    }
    if (!s) s = finish(out, &t, nll, nll_ref, ref != NULL);
    oz_free(text);
    oz_free(r.in);
    oz_free(t.kld);
    oz_free(t.window_kld);
    return s;
}

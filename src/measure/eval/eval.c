/* Scores a text with one model, or with two side by side.  Perplexity and KLD follow the protocols of oz_score_text; texts come from
 * corpora, whose held-out part is used, so that calibration text is never scored (documents in common are counted and reported). */
#include <math.h>
#include <string.h>

#include "ounce/measure.h"

static oz_status same_vocabulary(const oz_model *a, const char *pa, const oz_model *b, const char *pb)
{
    int32_t va = oz_model_arch(a)->dims.vocab, vb = oz_model_arch(b)->dims.vocab;
    if (va != vb)
        return oz_fail(OZ_ERR_SHAPE, "compare models with one tokenizer", "%s has a vocabulary of %d, %s of %d; divergence needs the same",
                       pa, (int)va, pb, (int)vb);
    return OZ_OK;
}

oz_status oz_eval_paths(oz_eval *out, const char *path, const char *against, const oz_eval_options *o, oz_run *run)
{
    oz_model *model = NULL, *reference = NULL;
    oz_corpus *corpus = NULL, *calibration = NULL;
    oz_tokenizer *tokenizer = NULL;
    int32_t *ids = NULL;
    int64_t n = 0;
    double start = oz_seconds();
    memset(out, 0, sizeof *out);
    oz_model_options mo = OZ_MODEL_OPTIONS_INIT;
    mo.exact = o->exact;
    oz_status s = oz_corpus_open(&corpus, o->text, OZ_TEXT_HELD_OUT);
    if (!s && o->not_text) s = oz_corpus_open(&calibration, o->not_text, OZ_TEXT_CALIBRATION);
    if (!s && calibration) {
        out->overlap = oz_corpus_overlap(corpus, calibration);
        if (out->overlap < 0) s = OZ_ERR_NOMEM;
    }
    if (!s) s = oz_model_open(&model, path, &mo, run);
    if (!s && against) {
        oz_model_options ro = OZ_MODEL_OPTIONS_INIT;
        ro.exact = true; /* the reference is the unquantized function */
        s = oz_model_open(&reference, against, &ro, run);
        if (!s) s = same_vocabulary(model, path, reference, against);
    }
    if (!s) s = oz_tokenizer_open(&tokenizer, oz_model_ckpt(model));
    if (!s) {
        /* enough text for the tokens asked: tokenizing all of a large corpus for a short score wastes minutes */
        size_t bytes = corpus->bytes;
        if (o->score.tokens > 0 && (size_t)o->score.tokens * 16 + 4096 < bytes) bytes = (size_t)o->score.tokens * 16 + 4096;
        s = oz_tokenize(tokenizer, corpus->text, bytes, 0, &ids, &n);
    }
    if (!s && o->score.tokens > 0 && n > o->score.tokens) n = o->score.tokens;
    if (!s && n < 2)
        s = oz_fail(OZ_ERR_RANGE, "give a longer text", "%s: %lld tokens; at least 2 are needed to score one", o->text, (long long)n);
    int32_t bos = !s && !o->score.no_bos && oz_tokenizer_adds_bos(tokenizer) ? oz_tokenizer_bos(tokenizer) : -1;
    if (!s) s = oz_score_text(&out->score, model, reference, ids, n, bos, &o->score, run);
    if (!s) {
        strncpy(out->text, corpus->name, sizeof out->text - 1);
        out->seconds = oz_seconds() - start;
    }
    oz_free(ids);
    oz_tokenizer_free(tokenizer);
    oz_corpus_free(corpus);
    oz_corpus_free(calibration);
    oz_model_free(reference);
    oz_model_free(model);
    return s;
}

static bool put(oz_node *map, const char *key, oz_node *v, oz_arena *a) { return v && oz_node_put(map, key, v, a) == OZ_OK; }

oz_node *oz_eval_node(const oz_eval *e, const oz_eval_options *o, oz_arena *a)
{
    oz_node *m = oz_node_map(a), *kld = oz_node_map(a);
    const oz_score *s = &e->score;
    const char *protocol = o->score.llama_cpp ? "llama.cpp" : o->score.rolling ? "rolling" : "windows";
    if (!m || !kld) return NULL;
    bool good = put(m, "ppl", oz_node_of_real(a, s->ppl), a) && put(m, "nll", oz_node_of_real(a, s->nll), a) &&
                put(m, "tokens", oz_node_of_int(a, s->tokens), a);
    if (s->has_ref) {
        good = good && put(kld, "mean", oz_node_of_real(a, s->kld_mean), a) && put(kld, "p50", oz_node_of_real(a, s->kld_p50), a);
        good = good && put(kld, "p99", oz_node_of_real(a, s->kld_p99), a) && put(kld, "max", oz_node_of_real(a, s->kld_max), a);
        good = good && put(kld, "stderr", oz_node_of_real(a, s->kld_stderr), a) && put(m, "kld", kld, a) &&
               put(m, "top1", oz_node_of_real(a, s->top1), a);
        good = good && put(m, "ppl_reference", oz_node_of_real(a, s->ppl_ref), a);
    }
    good = good && put(m, "compute", oz_node_of_text(a, o->exact ? "exact" : "runtime"), a) &&
           put(m, "protocol", oz_node_of_text(a, protocol), a);
    good = good && put(m, "ctx", oz_node_of_int(a, o->score.llama_cpp ? 512 : o->score.ctx), a);
    return good ? m : NULL;
}

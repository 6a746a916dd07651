/* A job: runs a plan block by block in OUT.partial, commits each block, resumes after a kill, puts the output under its name at the end.
 *
 *   OUT.partial/job.json              fingerprint of the plan and of the calibration tokens
 *   OUT.partial/block-LLLL.*          committed blocks (part.c)
 *   OUT.partial/{ref,q}-{0,1}.f32     hidden states (stream.c)
 *   OUT.partial/result                the output while it is written and measured */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "quantize/recipe/recipe_internal.h"

static oz_status tokens_hash(const oz_job *j, char out[65])
{
    uint8_t digest[32];
    OZ_TRY(oz_sha256_of(j->ids ? (const void *)j->ids : "", (size_t)j->tokens * sizeof *j->ids, digest));
    oz_hex(digest, 32, out);
    return OZ_OK;
}

/* The output gets its name in the job's last moment.  A job killed right after it finds an output that is its own, which --resume may
 * replace with the same: the identity of what was renamed is noted before. */
oz_status oz_job_naming(const oz_job *j, const char *result)
{
    struct stat st;
    char *path = oz_path_join(j->dir, "naming"), *text = NULL;
    oz_status s = path ? OZ_OK : OZ_ERR_NOMEM;
    if (!s && stat(result, &st)) s = oz_fail(OZ_ERR_IO, NULL, "%s: cannot be looked at: %s", result, strerror(errno));
    if (!s && !(text = oz_format_text("%llu %llu\n", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino))) s = OZ_ERR_NOMEM;
    if (!s) s = oz_write_file(path, text, strlen(text));
    oz_free(text);
    oz_free(path);
    return s;
}

static bool is_own_output(const oz_job *j)
{
    struct stat st;
    char *path = oz_path_join(j->dir, "naming"), *text = NULL, want[64];
    size_t bytes = 0;
    bool own = false;
    if (path && oz_path_exists(path) && stat(j->out, &st) == 0 && oz_read_file(path, 256, &text, &bytes) == OZ_OK) {
        snprintf(want, sizeof want, "%llu %llu\n", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
        own = strcmp(want, text) == 0;
    }
    oz_free(text);
    oz_free(path);
    return own;
}

oz_status oz_job_fetch(const oz_job *j, const oz_source *src)
{
    const oz_ckpt *ckpt = oz_weights_ckpt(j->weights);
    const oz_tensor *t = src->tensor ? oz_ckpt_find(ckpt, src->tensor) : NULL;
    return t ? oz_ckpt_fetch(ckpt, t) : OZ_OK;
}

/* Makes OUT.partial, or checks that the one there belongs to this plan. */
static oz_status enter(oz_job *j)
{
    char tokens[65];
    OZ_TRY(tokens_hash(j, tokens));
    if (oz_path_exists(j->out) && !j->options->force && !(j->options->resume && is_own_output(j)))
        return oz_fail(OZ_ERR_POLICY, "give another -o, or --force to replace it", "%s: the output exists already", j->out);
    char *state = oz_path_join(j->dir, "job.json");
    if (!state) return OZ_ERR_NOMEM;
    oz_status s = OZ_OK;
    bool fresh = true;
    if (oz_path_exists(j->dir)) {
        if (j->options->resume && oz_path_exists(state)) {
            char *text = NULL;
            size_t bytes = 0;
            oz_node *node = NULL;
            s = oz_read_file(state, (size_t)1 << 20, &text, &bytes);
            if (!s) s = oz_json_parse(&node, text, bytes, state, j->arena);
            oz_free(text);
            if (!s && (strcmp(oz_node_text(oz_node_get(node, "fingerprint"), ""), j->plan->fingerprint) ||
                       strcmp(oz_node_text(oz_node_get(node, "tokens"), ""), tokens)))
                s = oz_fail(OZ_ERR_POLICY, "run the same command as before, or start over with --force instead of --resume",
                            "%s: was begun by another job (recipe, options, input, text or version differ)", j->dir);
            fresh = false;
        } else if (j->options->force || (j->options->resume && !oz_path_exists(state))) {
            s = oz_remove_tree(j->dir);
        } else {
            s = oz_fail(OZ_ERR_POLICY, "--resume continues it, --force starts over", "%s: an unfinished job is there", j->dir);
        }
    }
    if (!s && fresh) {
        s = oz_make_dirs(j->dir);
        char *text = s ? NULL : oz_format_text("{\"fingerprint\": \"%s\", \"tokens\": \"%s\"}\n", j->plan->fingerprint, tokens);
        if (!s && !text) s = OZ_ERR_NOMEM;
        if (!s) s = oz_write_file(state, text, strlen(text));
        oz_free(text);
    }
    oz_free(state);
    return s;
}

static oz_status read_text(oz_job *j)
{
    if (!j->plan->needs_calibration) return OZ_OK;
    oz_corpus *corpus = NULL;
    oz_tokenizer *tokenizer = NULL;
    const char *name = j->plan->options.calib_text ? j->plan->options.calib_text : j->plan->recipe->text;
    oz_status s = oz_corpus_open(&corpus, name, OZ_TEXT_CALIBRATION);
    if (!s) s = oz_tokenizer_open(&tokenizer, oz_weights_ckpt(j->weights));
    if (!s)
        s = oz_corpus_windows(corpus, tokenizer, j->plan->samples, j->plan->length, oz_tokenizer_adds_bos(tokenizer), &j->ids, &j->samples);
    if (!s && j->samples < 1)
        s = oz_fail(OZ_ERR_RANGE, "give a longer text or a smaller calibration.length", "%s: shorter than one sample of %lld tokens", name,
                    (long long)j->plan->length);
    if (!s) {
        j->length = j->plan->length;
        j->tokens = j->samples * j->length;
        j->shortfall = (j->plan->samples - j->samples) * j->length;
        j->text = oz_arena_strdup(j->arena, corpus->name);
        if (!j->text) s = OZ_ERR_NOMEM;
        if (j->shortfall > 0)
            oz_logf(j->run, OZ_LOG_WARN, "%s holds %lld samples of %lld tokens, %lld were asked; each is read once", name,
                    (long long)j->samples, (long long)j->length, (long long)j->plan->samples);
    }
    oz_tokenizer_free(tokenizer);
    oz_corpus_free(corpus);
    return s;
}

static oz_status embed(oz_job *j, oz_stream *s)
{
    int64_t step = oz_chunk_sequences(j->length) * j->length;
    float *x = oz_alloc((size_t)(step * s->d), sizeof *x);
    oz_status status = x ? oz_job_fetch(j, &j->plan->arch->linear[j->plan->arch->embed].src) : OZ_ERR_NOMEM;
    for (int64_t t = 0; !status && t < j->tokens; t += step) {
        int64_t n = j->tokens - t < step ? j->tokens - t : step;
        status = oz_model_embed(j->model, j->ids + t, n, oz_mat_of(x, n, s->d), j->run);
        if (!status) status = oz_stream_write(s, 0, t, n, x);
    }
    oz_free(x);
    return status ? status : oz_stream_sync(s, 0);
}

static oz_status open_streams(oz_job *j, bool fresh)
{
    int64_t d = j->plan->arch->dims.hidden;
    if (j->plan->reads_ref) {
        OZ_TRY(oz_stream_open(&j->ref, j->dir, "ref", j->tokens, d, fresh));
        if (fresh) OZ_TRY(embed(j, &j->ref));
    }
    if (j->plan->reads_q) {
        OZ_TRY(oz_stream_open(&j->q, j->dir, "q", j->tokens, d, fresh));
        if (fresh) OZ_TRY(embed(j, &j->q));
    }
    return OZ_OK;
}

/* Head and embedding, after the blocks.  The head's inputs are the final norm of the last hidden states. */
oz_status oz_job_ends(oz_job *j)
{
    const oz_arch *arch = j->plan->arch;
    int layer = arch->dims.layers, attention0 = j->plan->attention.n;
    oz_part part = {.lin = oz_zalloc(2, sizeof *part.lin)};
    oz_node *lines = oz_node_list(j->arena);
    oz_status s = part.lin && lines ? OZ_OK : OZ_ERR_NOMEM;
    int ends[2] = {arch->embed, arch->head};
    for (int k = 0; !s && k < (arch->embed == arch->head ? 1 : 2); k++) {
        int i = ends[k];
        if (!j->plan->linear[i].spec) continue;
        oz_stats stats = {0};
        uint32_t wants = oz_plan_wants(j->plan, i);
        if (wants) {
            const oz_quantize_options *o = j->plan->linear[i].pass->opt;
            oz_stream *stream = o->inputs == OZ_INPUTS_REFERENCE ? &j->ref : &j->q;
            int64_t d = arch->dims.hidden, step = oz_chunk_sequences(j->length) * j->length;
            oz_calib *calib = NULL;
            float *gain = oz_alloc((size_t)d, sizeof *gain), *x = oz_alloc((size_t)(step * d), sizeof *x);
            s = gain && x ? oz_weights_vector(j->weights, arch->final_norm, gain) : OZ_ERR_NOMEM;
            if (!s) s = oz_calib_new(&calib, d, wants, j->tokens, OZ_SAMPLE_ROWS, 0, j->length);
            for (int64_t t = 0; !s && t < j->tokens; t += step) {
                int64_t n = j->tokens - t < step ? j->tokens - t : step;
                s = oz_stream_read(stream, layer & 1, t, n, x);
                for (int64_t r = 0; !s && r < n; r++) oz_nn_rmsnorm(x + r * d, gain, 0, arch->dims.norm_eps, d, x + r * d);
                if (!s) s = oz_calib_add(calib, oz_mat_of(x, n, d), t, j->run);
            }
            if (!s) s = oz_calib_end(calib, &stats);
            oz_calib_free(calib);
            oz_free(gain);
            oz_free(x);
        }
        oz_node *line = oz_node_map(j->arena);
        if (!s && !line) s = OZ_ERR_NOMEM;
        oz_progress(j->run, k ? "head" : "embedding", layer, layer + 1);
        if (!s) s = oz_job_solve(j, i, wants ? &stats : NULL, &part.lin[part.nlinear], line);
        if (!s) part.nlinear++, s = oz_node_push(lines, line, j->arena);
        oz_stats_drop(&stats);
    }
    if (!s) s = oz_job_record(j, layer, &part, lines, attention0);
    if (!s) s = oz_part_write(j->dir, layer, &part);
    for (int i = 0; i < part.nlinear; i++) oz_linear_drop(&part.lin[i]);
    oz_free(part.lin);
    return s;
}

static oz_status run_blocks(oz_job *j)
{
    int layers = j->plan->arch->dims.layers, done = 0, last = j->plan->options.layer1 < 0 ? layers : j->plan->options.layer1 + 1;
    while (done < layers + 1 && oz_part_exists(j->dir, done)) done++;
    if (done) oz_logf(j->run, OZ_LOG_INFO, "resuming after %d committed blocks", done > layers ? layers : done);
    for (int l = 0; l < done; l++) OZ_TRY(oz_job_restore(j, l));
    if (done < layers && j->plan->needs_calibration) OZ_TRY(open_streams(j, done == 0));
    for (int l = done; l < last; l++) {
        oz_progress(j->run, "block", l, layers);
        OZ_TRY(oz_check_cancel(j->run));
        oz_status s = oz_job_block(j, l);
        if (s) return oz_fail_in(s, "block %d", l);
    }
    if (done <= layers) {
        if (done == layers && j->plan->needs_calibration && j->plan->options.layer1 < 0) OZ_TRY(open_streams(j, false));
        OZ_TRY(oz_job_ends(j));
    }
    oz_progress(j->run, "block", layers, layers);
    return OZ_OK;
}

oz_status oz_job_run(oz_plan *plan, oz_weights *weights, const oz_job_options *options, oz_job_result **out, oz_run *run)
{
    oz_arena *arena = NULL;
    *out = NULL;
    double start = oz_seconds();
    OZ_TRY(oz_arena_new(&arena, 0));
    oz_job j = {
        .plan = plan, .weights = weights, .options = options, .run = run, .arena = arena, .ref = {.fd = {-1, -1}}, .q = {.fd = {-1, -1}}};
    oz_job_result *r = oz_arena_zalloc(arena, sizeof *r);
    j.out = oz_arena_strdup(arena, plan->options.out);
    oz_status s = r && j.out ? OZ_OK : OZ_ERR_NOMEM;
    if (!s) {
        for (size_t n = strlen(j.out); n > 1 && j.out[n - 1] == '/';) j.out[--n] = 0;
        j.dir = oz_arena_printf(arena, "%s.partial", j.out);
        if (!j.dir) s = OZ_ERR_NOMEM;
    }
    if (!s) s = read_text(&j);
    if (!s) s = enter(&j);
    oz_model_options mo = OZ_MODEL_OPTIONS_INIT;
    mo.exact = true, mo.stream = true; /* solvers see f32 products on decoded weights */
    if (!s) s = oz_model_of_weights(&j.model, weights, &mo);
    if (!s) s = run_blocks(&j);
    oz_stream_close(&j.ref);
    oz_stream_close(&j.q);
    oz_model_free(j.model);
    if (!s) {
        r->arena = arena;
        r->text = j.text, r->calibration_tokens = j.tokens, r->shortfall_tokens = j.shortfall;
        r->seconds_solver = j.seconds_solver, r->seconds_forward = j.seconds_forward;
        s = oz_job_finish(&j, r);
        r->seconds = oz_seconds() - start;
    }
    for (int i = 0; i < j.napplied; i++) {
        for (int k = 0; k < j.applied[i].na; k++) oz_array_drop(&j.applied[i].a[k]);
        if (j.applied[i].pass->transform->end) j.applied[i].pass->transform->end(j.applied[i].self);
    }
    oz_weights_fold_rewind(weights, 0);
    oz_free(j.applied);
    oz_free(j.ids);
    if (s) {
        oz_arena_free(arena);
        return s;
    }
    *out = r;
    return OZ_OK;
}

void oz_job_result_free(oz_job_result *r)
{
    if (r) oz_arena_free(r->arena);
}

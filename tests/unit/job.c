/* A job on a random model, held to what it says: the loss it reports is the loss of what it stored on the inputs it should have seen,
 * block after block; the bits it prints are the bytes of the file; a failed allocation, write or read leaves no output. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ounce/recipe.h"

enum { SAMPLES = 12, LENGTH = 64, TOKENS = SAMPLES * LENGTH };
static char folder[256], model_path[300], text_path[300], out_path[300];
static oz_run run;

static int setup(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/ounce-job-XXXXXX");
    if (!mkdtemp(folder)) return 1;
    snprintf(model_path, sizeof model_path, "%s/model", folder);
    snprintf(text_path, sizeof text_path, "%s/text.txt", folder);
    snprintf(out_path, sizeof out_path, "%s/out", folder);
    char command[1024];
    snprintf(command, sizeof command, "/usr/bin/python3 %s/tools/models/random %s --layers 2", OUNCE_SOURCE_DIR, model_path);
    if (system(command)) {
        puts("skipped: tools/models/random needs python3-numpy");
        exit(77);
    }
    FILE *f = fopen(text_path, "w");
    for (int i = 0; f && i < 60; i++)
        fprintf(f, "Line %d: the square of it is %d, and a byte model reads every sign of this line.\n", i, i * i);
    if (!f || fclose(f)) return 1;
    setenv("OUNCE_RECIPES", OUNCE_SOURCE_DIR "/recipes", 1);
    return oz_pool_new(&run.pool, 2) ? 1 : 0;
}

static int teardown(void **state)
{
    (void)state;
    oz_pool_free(run.pool);
    return oz_remove_tree(folder) ? 1 : 0;
}

typedef struct job {
    oz_ckpt *ckpt;
    oz_arch *arch;
    oz_weights *weights;
    oz_recipe *recipe;
    oz_plan *plan;
    oz_job_result *result;
} job;

static oz_status start(job *j, const char *recipe, const char *const *set, int nset, const char *tensor, int layer1)
{
    memset(j, 0, sizeof *j);
    OZ_TRY(oz_recipe_open(&j->recipe, recipe, set, nset));
    OZ_TRY(oz_ckpt_open(&j->ckpt, model_path));
    OZ_TRY(oz_arch_open(&j->arch, j->ckpt));
    OZ_TRY(oz_weights_new(&j->weights, j->ckpt, j->arch));
    oz_plan_options po = {.tensor = &tensor, .ntensor = tensor ? 1 : 0, .layer1 = layer1, .calib_text = text_path, .out = out_path};
    OZ_TRY(oz_plan_make(&j->plan, j->recipe, j->weights, &po, &run));
    oz_job_options jo = {.force = true};
    return oz_job_run(j->plan, j->weights, &jo, &j->result, &run);
}

static void end(job *j)
{
    oz_job_result_free(j->result);
    oz_plan_free(j->plan);
    oz_weights_free(j->weights);
    oz_arch_free(j->arch);
    oz_ckpt_close(j->ckpt);
    oz_recipe_free(j->recipe);
}

static const char *const small[] = {"calibration.samples=12", "calibration.length=64", "weights.format=int3.asym@32"};

static void must(job *j, const char *recipe, const char *const *set, int nset, const char *tensor)
{
    oz_status s = start(j, recipe, set, nset, tensor, -1);
    if (s) fail_msg("%s", oz_message());
}

/* ---- loss -------------------------------------------------------------------------------------------------------- */
typedef struct seen {
    double *h[16]; /* by linear of the block */
    int first;
    int64_t n[16], tokens;
} seen;

static oz_status watch(void *ctx, const int32_t *lin, int n, oz_mat x)
{
    seen *s = ctx;
    for (int k = 0; k < n; k++) {
        int i = lin[k] - s->first;
        s->n[i] = x.cols;
        if (!s->h[i]) s->h[i] = oz_zalloc((size_t)(x.cols * x.cols), sizeof(double));
        if (!s->h[i]) return OZ_ERR_NOMEM;
        for (int64_t t = 0; t < x.rows; t++)
            for (int64_t a = 0; a < x.cols; a++)
                for (int64_t b = 0; b < x.cols; b++) s->h[i][a * x.cols + b] += (double)x.p[t * x.ld + a] * x.p[t * x.ld + b] / TOKENS;
    }
    return OZ_OK;
}

/* tr((W - Ŵ)(H + damp·mean diag H·I)(W - Ŵ)ᵀ) with nothing of the job's own code */
static double loss_of(const float *w, const float *w_hat, const double *h, int64_t m, int64_t n)
{
    double damp = 0, total = 0;
    for (int64_t i = 0; i < n; i++) damp += 0.01 * h[i * n + i] / (double)n;
    for (int64_t r = 0; r < m; r++)
        for (int64_t a = 0; a < n; a++) {
            double e = (double)w[r * n + a] - w_hat[r * n + a], sum = damp * e;
            for (int64_t b = 0; b < n; b++) sum += h[a * n + b] * ((double)w[r * n + b] - w_hat[r * n + b]);
            total += e * sum;
        }
    return total;
}

static const oz_tensor_result *result_of(const job *j, const char *name)
{
    for (int i = 0; i < j->result->ntensor; i++)
        if (strcmp(j->result->tensor[i].name, name) == 0) return &j->result->tensor[i];
    fail_msg("no result of %s", name);
    return NULL;
}

static void losses(const char *inputs, bool quantized)
{
    job j;
    const char *const set[] = {small[0], small[1], small[2], inputs};
    must(&j, "gptq", set, 4, NULL);
    oz_model *before = NULL, *after = NULL;
    oz_model_options mo = OZ_MODEL_OPTIONS_INIT;
    mo.exact = true;
    assert_int_equal(oz_model_open(&before, model_path, &mo, &run), OZ_OK);
    assert_int_equal(oz_model_open(&after, out_path, &mo, &run), OZ_OK);
    oz_corpus *corpus = NULL;
    oz_tokenizer *tokenizer = NULL;
    int32_t *ids = NULL;
    int64_t n = 0, d = j.arch->dims.hidden;
    assert_int_equal(oz_corpus_open(&corpus, text_path, OZ_TEXT_CALIBRATION), OZ_OK);
    assert_int_equal(oz_tokenizer_open(&tokenizer, j.ckpt), OZ_OK);
    assert_int_equal(oz_corpus_windows(corpus, tokenizer, SAMPLES, LENGTH, oz_tokenizer_adds_bos(tokenizer), &ids, &n), OZ_OK);
    assert_int_equal(n, SAMPLES);
    float *x = oz_alloc((size_t)(TOKENS * d), sizeof *x), *copy = oz_alloc((size_t)(TOKENS * d), sizeof *copy);
    assert_int_equal(oz_model_embed(before, ids, TOKENS, oz_mat_of(x, TOKENS, d), &run), OZ_OK);
    int compared = 0;
    for (int l = 0; l < j.arch->dims.layers; l++) {
        seen s = {.first = -1};
        for (int i = j.arch->nlinear - 1; i >= 0; i--)
            if (j.arch->linear[i].layer == l) s.first = i;
        oz_forward f = {watch, &s, -1};
        memcpy(copy, x, (size_t)(TOKENS * d) * sizeof *x);
        assert_int_equal(oz_model_run_block(before, l, oz_mat_of(copy, TOKENS, d), LENGTH, &f, &run), OZ_OK);
        for (int i = s.first; i < j.arch->nlinear && j.arch->linear[i].layer == l; i++, compared++) {
            const oz_linear_row *row = &j.arch->linear[i];
            float *w = oz_alloc((size_t)(row->out * row->in), sizeof *w), *w_hat = oz_alloc((size_t)(row->out * row->in), sizeof *w);
            const oz_linear *stored = NULL;
            assert_int_equal(oz_weights_matrix(j.weights, i, w), OZ_OK);
            assert_int_equal(oz_model_linear(after, i, &stored), OZ_OK);
            assert_int_equal(oz_linear_decode(stored, oz_mat_of(w_hat, row->out, row->in)), OZ_OK);
            double want = loss_of(w, w_hat, s.h[i - s.first], row->out, row->in), got = result_of(&j, row->name)->proxy_loss;
            if (!(fabs(got - want) <= 1e-5 * want)) fail_msg("%s: reported loss %.9g, of what is stored %.9g", row->name, got, want);
            oz_free(w);
            oz_free(w_hat);
        }
        for (int i = 0; i < 16; i++) oz_free(s.h[i]);
        assert_int_equal(oz_model_run_block(quantized ? after : before, l, oz_mat_of(x, TOKENS, d), LENGTH, NULL, &run), OZ_OK);
    }
    assert_int_equal(compared, 14);
    oz_free(x);
    oz_free(copy);
    oz_free(ids);
    oz_tokenizer_free(tokenizer);
    oz_corpus_free(corpus);
    oz_model_free(before);
    oz_model_free(after);
    end(&j);
}

static void reported_loss_quantized_inputs(void **state)
{
    (void)state;
    losses("weights.inputs=quantized", true);
}

static void reported_loss_reference_inputs(void **state)
{
    (void)state;
    losses("weights.inputs=reference", false);
}

/* Block 0 at 2 bits instead of 3: block 1 sees it through its inputs, or does not. */
static void spoiled_block(void **state)
{
    (void)state;
    static const char *const inputs[] = {"weights.inputs=quantized", "weights.inputs=reference"};
    for (int k = 0; k < 2; k++) {
        job a, b;
        const char *const set[] = {small[0], small[1], small[2], inputs[k]};
        must(&a, "gptq", set, 4, NULL);
        must(&b, "gptq", set, 4, "layers\\.0\\.=int2.asym@32");
        int same = 0, other = 0;
        for (int i = 0; i < a.arch->nlinear; i++) {
            if (a.arch->linear[i].layer != 1) continue;
            double x = result_of(&a, a.arch->linear[i].name)->proxy_loss, y = result_of(&b, a.arch->linear[i].name)->proxy_loss;
            same += memcmp(&x, &y, sizeof x) == 0, other += fabs(x - y) > 1e-3 * x;
        }
        assert_int_equal(same, k == 0 ? 0 : 7);
        assert_int_equal(other, k == 0 ? 7 : 0);
        end(&a);
        end(&b);
    }
}

/* ---- bits --------------------------------------------------------------------------------------------------------------- */
static bool ends_with(const char *name, const char *end_of)
{
    size_t n = strlen(name), k = strlen(end_of);
    return n >= k && strcmp(name + n - k, end_of) == 0;
}

static void bits_are_bytes(void **state)
{
    (void)state;
    static const char *const recipes[] = {"gptq", "owq", "awq", "rtn", "finequant", "smoothquant"};
    for (int r = 0; r < 6; r++) {
        job j;
        const char *const set[] = {small[0], small[1]};
        /* groups of the shipped formats are wider than this model's rows in part; the formats stay the recipe's */
        oz_status s = start(&j, recipes[r], set, 2, NULL, -1);
        if (s) { /* a group that does not divide 64 inputs is refused by name */
            const char *const narrow[] = {small[0], small[1], strcmp(recipes[r], "owq") ? "weights.format=int4.asym@32" : "budget.bpw=4.6"};
            end(&j);
            must(&j, recipes[r], narrow, 3, NULL);
        }
        char file[400];
        snprintf(file, sizeof file, "%s/model.safetensors", out_path);
        oz_file_map map;
        oz_arena *arena = NULL;
        oz_node *header = NULL;
        assert_int_equal(oz_map_open(&map, file), OZ_OK);
        assert_int_equal(oz_arena_new(&arena, 0), OZ_OK);
        uint64_t length = 0, all = 0, named = 0, linears = 0;
        for (int k = 0; k < 8; k++) length |= (uint64_t)map.data[k] << 8 * k;
        assert_int_equal(oz_json_parse(&header, (const char *)map.data + 8, (size_t)length, file, arena), OZ_OK);
        double weights = 0;
        for (int i = 0; i < header->n; i++) {
            const char *name = header->item[i].key;
            const oz_node *at = oz_node_get(header->item[i].value, "data_offsets");
            if (!at) continue;
            uint64_t bytes = (uint64_t)(oz_node_int(oz_node_at(at, 1), 0) - oz_node_int(oz_node_at(at, 0), 0));
            all += bytes;
            if (strncmp(name, "__pad.", 6) == 0) continue;
            named += bytes;
            bool part = ends_with(name, ".codes") || ends_with(name, ".scale") || ends_with(name, ".zero") || strstr(name, ".cols.");
            if (part) linears += bytes;
            /* nothing that says where a column or a group went */
            assert_true(part || ends_with(name, ".weight") || ends_with(name, ".bias"));
            assert_null(strstr(name, "g_idx"));
            assert_null(strstr(name, "perm"));
        }
        for (int i = 0; i < j.arch->nlinear; i++)
            if (j.plan->linear[i].spec) weights += (double)j.arch->linear[i].out * (double)j.arch->linear[i].in;
        assert_int_equal(all, map.bytes - 8 - length);
        assert_int_equal(named, j.result->bytes);
        if (fabs(j.result->bpw_linears * weights - 8.0 * (double)linears) > 1e-6 * weights)
            fail_msg("%s: %.9g bits a weight times %.0f weights is not the %llu bytes stored", recipes[r], j.result->bpw_linears, weights,
                     (unsigned long long)linears);
        oz_map_close(&map);
        oz_arena_free(arena);
        end(&j);
    }
}

/* ---- faults --------------------------------------------------------------------------------------------------------------- */
static void faults(void **state)
{
    (void)state;
#ifdef OUNCE_FAULTS
    static const struct {
        const char *recipe, *kind;
        void (*arm)(int64_t);
        oz_status want;
    } cases[] = {{"gptq", "alloc", oz_fault_alloc, OZ_ERR_NOMEM}, {"awq", "alloc", oz_fault_alloc, OZ_ERR_NOMEM},
                 {"gptq", "write", oz_fault_write, OZ_ERR_IO},    {"awq", "write", oz_fault_write, OZ_ERR_IO},
                 {"gptq", "read", oz_fault_read, OZ_ERR_IO},      {"awq", "read", oz_fault_read, OZ_ERR_IO}};
    const char *const set[] = {"calibration.samples=2", "calibration.length=32", "weights.format=int4.asym@32"};
    for (int c = 0; c < 6; c++) {
        int good = 0, runs = 0;
        for (int64_t nth = 1; good < 3; nth += 1 + nth / 25, runs++) {
            job j;
            assert_int_equal(oz_remove_tree(out_path), OZ_OK);
            cases[c].arm(nth);
            oz_status s = start(&j, cases[c].recipe, set, 3, NULL, 0);
            cases[c].arm(0);
            if (s && s != cases[c].want)
                fail_msg("%s: %s %lld gives status %d: %s", cases[c].recipe, cases[c].kind, (long long)nth, (int)s, oz_message());
            if (s && !*oz_message()) fail_msg("%s: %s %lld gives no message", cases[c].recipe, cases[c].kind, (long long)nth);
            if ((s == OZ_OK) != oz_path_exists(out_path))
                fail_msg("%s: %s %lld: status %d, output %s", cases[c].recipe, cases[c].kind, (long long)nth, (int)s,
                         s ? "is there" : "is missing");
            good = s ? 0 : good + 1;
            end(&j);
        }
        printf("%s, %s: %d jobs with one failure each\n", cases[c].recipe, cases[c].kind, runs);
    }
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(reported_loss_quantized_inputs), cmocka_unit_test(reported_loss_reference_inputs),
                                       cmocka_unit_test(spoiled_block), cmocka_unit_test(bits_are_bytes), cmocka_unit_test(faults)};
    return cmocka_run_group_tests(tests, setup, teardown);
}

/* Checks of a finished model: what is stored is finite, and what runs equals what is stored.
 *
 *   finite.values        every decoded weight and every norm gain is a finite number
 *   kernel.<format>      for each format, over all its linears: |y_runtime - y_exact| / max |y_exact| for a random input of 3 tokens; both
 * paths quantize activations alike, so only the order of sums differs */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "measure/eval/eval_internal.h"

oz_status oz_add_check(oz_checks *c, const char *name, double value, double limit, bool at_least, const char *message)
{
    if ((c->n & (c->n - 1)) == 0) {
        oz_check *more = oz_arena_alloc(c->arena, (c->n ? 2 * (size_t)c->n : 1) * sizeof *more);
        if (!more) return OZ_ERR_NOMEM;
        if (c->n) memcpy(more, c->check, (size_t)c->n * sizeof *more);
        c->check = more;
    }
    oz_check *k = &c->check[c->n];
    *k = (oz_check){.name = oz_arena_strdup(c->arena, name),
                    .value = value,
                    .limit = limit,
                    .at_least = at_least,
                    .message = oz_arena_strdup(c->arena, message)};
    if (!k->name || !k->message) return OZ_ERR_NOMEM;
    k->ok = at_least ? value >= limit : value <= limit;
    c->n++;
    return OZ_OK;
}

enum { TOKENS = 3 };

static oz_status product_error(const oz_linear *lin, oz_run *run, double *error)
{
    float *x = oz_alloc((size_t)(TOKENS * lin->in), sizeof *x), *y = oz_zalloc((size_t)(2 * TOKENS * lin->out), sizeof *y);
    oz_memo *memo[2] = {NULL, NULL};
    oz_status s = x && y ? OZ_OK : OZ_ERR_NOMEM;
    for (int64_t i = 0; !s && i < TOKENS * lin->in; i++) x[i] = (float)oz_rng_normal((oz_rng){7, 1}, (uint64_t)i);
    for (int k = 0; !s && k < 2; k++) {
        s = oz_memo_new(&memo[k]);
        oz_input in = {oz_mat_of(x, TOKENS, lin->in), memo[k]};
        oz_mat out = oz_mat_of(y + k * TOKENS * lin->out, TOKENS, lin->out);
        oz_apply how = {.exact = (uint8_t)k};
        if (!s) s = oz_linear_apply(&lin, 1, &in, &out, &how, run);
    }
    double most = 0, worst = 0;
    for (int64_t i = 0; !s && i < TOKENS * lin->out; i++) {
        double a = y[i], b = y[TOKENS * lin->out + i];
        most = fabs(b) > most ? fabs(b) : most;
        worst = !(fabs(a - b) <= worst) ? fabs(a - b) : worst;
    }
    *error = most > 0 ? worst / most : worst;
    oz_memo_free(memo[0]);
    oz_memo_free(memo[1]);
    oz_free(x);
    oz_free(y);
    return s;
}

static oz_status count_not_finite(const oz_linear *lin, int64_t *count)
{
    float *w = oz_alloc((size_t)(lin->out * lin->in), sizeof *w);
    oz_status s = w ? oz_linear_decode(lin, oz_mat_of(w, lin->out, lin->in)) : OZ_ERR_NOMEM;
    for (int64_t i = 0; !s && i < lin->out * lin->in; i++) *count += !isfinite(w[i]);
    oz_free(w);
    return s;
}

typedef struct by_format {
    char name[96];
    double worst;
    char where[160];
} by_format;

oz_status oz_verify_model(oz_checks *c, const char *path, oz_run *run)
{
    oz_model *m = NULL;
    oz_model_options mo = OZ_MODEL_OPTIONS_INIT;
    mo.stream = true;
    OZ_TRY(oz_model_open(&m, path, &mo, run));
    const oz_arch *arch = oz_model_arch(m);
    by_format f[32];
    int nf = 0, layer = -1;
    int64_t bad = 0;
    char where[160] = "all values are finite";
    oz_status s = OZ_OK;
    for (int i = 0; !s && i < arch->nlinear; i++) {
        const oz_linear *lin = NULL;
        oz_progress(run, "verifying", i, arch->nlinear);
        s = oz_check_cancel(run);
        if (arch->linear[i].layer != layer && layer >= 0) oz_model_drop_block(m, layer);
        layer = arch->linear[i].layer;
        if (!s) s = oz_model_linear(m, i, &lin);
        int64_t before = bad;
        if (!s) s = count_not_finite(lin, &bad);
        if (!s && bad > before && !before)
            snprintf(where, sizeof where, "the first value that is not finite is in %s", arch->linear[i].name);
        double error = 0;
        if (!s) s = product_error(lin, run, &error);
        if (s) break;
        char name[96];
        snprintf(name, sizeof name, "kernel.%s%s%s", lin->nw == 1 && lin->w->fmt.spec ? lin->w->fmt.spec->text : "mixed",
                 lin->act.kind ? "/" : "", lin->act.kind && lin->act.text ? lin->act.text : "");
        int k = 0;
        while (k < nf && strcmp(f[k].name, name)) k++;
        if (k == nf && nf < 32) {
            memset(&f[nf], 0, sizeof f[nf]);
            memcpy(f[nf++].name, name, sizeof name);
        }
        if (k < nf && !(error <= f[k].worst)) {
            f[k].worst = error;
            snprintf(f[k].where, sizeof f[k].where, "largest in %s", arch->linear[i].name);
        }
    }
    if (!s) s = oz_add_check(c, "finite.values", (double)bad, 0, false, where);
    for (int k = 0; !s && k < nf; k++) s = oz_add_check(c, f[k].name, f[k].worst, 2e-5, false, f[k].where);
    oz_model_free(m);
    return s;
}

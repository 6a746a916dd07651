/* Equivalence of a model's transforms (CHECKS of a fold): folded into the source with every quantizer off they must leave its logits alone
 * (<= 1e-3 of the largest), and with any single consumer skipped they must not (>= 10 times that), else the transform does nothing or its
 * consumer list is wrong. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "measure/eval/eval_internal.h"

enum { TOKENS = 48 };
static const double tolerance = 1e-3;

typedef struct applied {
    const oz_transform *type;
    const void *opt;
    int site;
    void *self;
} applied;
typedef struct equivalence {
    oz_ckpt *ckpt, *transforms;
    oz_arch *arch;
    oz_recipe *recipe;
    applied *a;
    int n;
    int32_t ids[TOKENS];
    float *reference, *logits;
    oz_run *run;
} equivalence;

/* Logits of the source under the folds of all transforms; `skip`: this consumer of that transform is left out. */
static oz_status logits_of(equivalence *e, bool folded, int skip, int consumer, float *out)
{
    oz_weights *w = NULL;
    oz_model *m = NULL;
    oz_model_options mo = OZ_MODEL_OPTIONS_INIT;
    mo.exact = true, mo.stream = true;
    int64_t d = e->arch->dims.hidden, vocab = e->arch->dims.vocab;
    float *hidden = oz_alloc((size_t)(TOKENS * d), sizeof *hidden);
    oz_site_row short_row;
    oz_end *ends = NULL;
    oz_status s = hidden ? oz_weights_new(&w, e->ckpt, e->arch) : OZ_ERR_NOMEM;
    for (int i = 0; !s && folded && i < e->n; i++) {
        const oz_site_row *row = &e->arch->site[e->a[i].site];
        if (i == skip) { /* the same row without one consumer */
            short_row = *row;
            ends = oz_alloc((size_t)row->ncons, sizeof *ends);
            if (!ends) {
                s = OZ_ERR_NOMEM;
                break;
            }
            memcpy(ends, row->cons, (size_t)row->ncons * sizeof *ends);
            memmove(ends + consumer, ends + consumer + 1, (size_t)(row->ncons - consumer - 1) * sizeof *ends);
            short_row.cons = ends, short_row.ncons = row->ncons - 1;
            row = &short_row;
        }
        s = oz_weights_fold(w, row, e->a[i].type->fold, e->a[i].self);
    }
    if (!s) s = oz_model_of_weights(&m, w, &mo);
    if (!s) s = oz_model_embed(m, e->ids, TOKENS, oz_mat_of(hidden, TOKENS, d), e->run);
    for (int l = 0; !s && l < e->arch->dims.layers; l++) {
        s = oz_model_run_block(m, l, oz_mat_of(hidden, TOKENS, d), TOKENS, NULL, e->run);
        oz_model_drop_block(m, l);
    }
    if (!s) s = oz_model_head(m, oz_mat_of(hidden, TOKENS, d), oz_mat_of(out, TOKENS, vocab), e->run);
    oz_model_free(m);
    oz_weights_free(w);
    oz_free(hidden);
    oz_free(ends);
    return s;
}

static double difference(const equivalence *e)
{
    double most = 0, worst = 0;
    for (int64_t i = 0; i < (int64_t)TOKENS * e->arch->dims.vocab; i++) {
        double r = fabs((double)e->reference[i]), x = fabs((double)e->logits[i] - (double)e->reference[i]);
        most = r > most ? r : most;
        worst = !(x <= worst) ? x : worst;
    }
    return worst / most;
}

/* "PASS.LAYER.SITE.ARRAY" or "PASS.LAYER.EXPERT.SITE.ARRAY": builds each transform from its arrays. */
static oz_status load_transforms(equivalence *e, oz_arena *arena, const char *model)
{
    e->a = oz_arena_zalloc(arena, ((size_t)oz_ckpt_count(e->transforms) + 1) * sizeof *e->a);
    if (!e->a) return OZ_ERR_NOMEM;
    int used = 0;
    for (int i = 0; i < e->arch->nsite; i++) {
        const oz_site_row *row = &e->arch->site[i];
        for (int k = 0; k < e->recipe->npass; k++) {
            const oz_pass *p = &e->recipe->pass[k];
            if (p->verb != OZ_VERB_TRANSFORM || !p->enabled) continue;
            char prefix[192];
            if (row->expert >= 0)
                snprintf(prefix, sizeof prefix, "%.60s.%d.%d.%s.", p->name, row->layer, row->expert, oz_site_name((oz_site)row->site));
            else
                snprintf(prefix, sizeof prefix, "%.60s.%d.%s.", p->name, row->layer, oz_site_name((oz_site)row->site));
            oz_array array[4];
            int n = 0;
            oz_status s = OZ_OK;
            for (int t = 0; !s && t < oz_ckpt_count(e->transforms) && n < 4; t++) {
                const oz_tensor *tensor = oz_ckpt_tensor(e->transforms, t);
                size_t length = strlen(prefix);
                if (strncmp(tensor->name, prefix, length)) continue;
                s = oz_array_new(&array[n], tensor->name + length, tensor->dtype, tensor->rank, tensor->shape);
                if (!s) memcpy(oz_array_data(&array[n++]), tensor->data, tensor->bytes);
                used++;
            }
            if (!s && n) {
                applied *a = &e->a[e->n];
                *a = (applied){.type = p->transform, .opt = p->transform_opt, .site = i};
                s = p->transform->load(p->transform_opt, row, array, n, &a->self);
                if (!s) e->n++;
            }
            for (int t = 0; t < n; t++) oz_array_drop(&array[t]);
            OZ_TRY(s);
        }
    }
    if (used != oz_ckpt_count(e->transforms))
        return oz_fail(OZ_ERR_PARSE, NULL, "%s: transforms.safetensors has %d arrays that no pass of the record explains", model,
                       oz_ckpt_count(e->transforms) - used);
    return OZ_OK;
}

static oz_status open_all(equivalence *e, const char *model, const char *source, oz_arena *arena)
{
    oz_ckpt *made = NULL;
    OZ_TRY(oz_ckpt_open(&made, model));
    const oz_node *record = oz_node_get(oz_ckpt_config(made), "quantization_config"), *recipe = oz_node_get(record, "recipe");
    char *yaml = recipe ? oz_yaml_print(recipe) : NULL;
    oz_status s = OZ_OK;
    if (!recipe)
        s = oz_fail(OZ_ERR_KEY, "give a directory that ounce quantize wrote", "%s: config.json holds no recipe of Ounce", model);
    else if (!yaml)
        s = OZ_ERR_NOMEM;
    if (!s) s = oz_recipe_parse(&e->recipe, yaml, strlen(yaml), "record", NULL, 0);
    oz_free(yaml);
    oz_ckpt_close(made);
    if (!s) s = oz_ckpt_open(&e->ckpt, source);
    if (!s) s = oz_arch_open(&e->arch, e->ckpt);
    char *path = oz_path_join(model, "transforms.safetensors");
    if (!s && !path) s = OZ_ERR_NOMEM;
    if (!s && !oz_path_exists(path))
        s = oz_fail(OZ_ERR_KEY, "its recipe has no transform: there is nothing to check", "%s: no transforms.safetensors", model);
    if (!s) s = oz_ckpt_open(&e->transforms, path);
    oz_free(path);
    if (!s) s = load_transforms(e, arena, model);
    if (s) return s;
    size_t n = (size_t)TOKENS * (size_t)e->arch->dims.vocab;
    e->reference = oz_alloc(n, sizeof *e->reference);
    e->logits = oz_alloc(n, sizeof *e->logits);
    for (int i = 0; i < TOKENS; i++) e->ids[i] = (int32_t)(oz_rng_u64((oz_rng){3, 4}, (uint64_t)i) % (uint64_t)e->arch->dims.vocab);
    return e->reference && e->logits ? OZ_OK : OZ_ERR_NOMEM;
}

oz_status oz_verify_equivalence(oz_checks *c, const char *model, const char *source, oz_run *run)
{
    equivalence e = {.run = run};
    char name[128], text[160];
    oz_status s = open_all(&e, model, source, c->arena);
    if (!s) s = logits_of(&e, false, -1, 0, e.reference);
    if (!s) s = logits_of(&e, true, -1, 0, e.logits);
    if (!s) {
        snprintf(text, sizeof text, "%d transforms folded into the source, quantizers off, %d tokens", e.n, TOKENS);
        s = oz_add_check(c, "equivalence", difference(&e), tolerance, false, text);
    }
    for (int i = 0; !s && i < e.n; i++) {
        const oz_site_row *row = &e.arch->site[e.a[i].site];
        int consumer = row->ncons ? i % row->ncons : 0;
        if (!row->ncons) continue;
        oz_progress(run, "skipping one consumer", i, e.n);
        s = logits_of(&e, true, i, consumer, e.logits);
        if (s) break;
        snprintf(name, sizeof name, "skip.%d.%s", row->layer, oz_site_name((oz_site)row->site));
        snprintf(text, sizeof text, "without the fold into %s", e.arch->linear[row->cons[consumer].linear].name);
        s = oz_add_check(c, name, difference(&e), 10 * tolerance, true, text);
    }
    for (int i = 0; i < e.n; i++)
        if (e.a[i].type->end) e.a[i].type->end(e.a[i].self);
    oz_free(e.reference);
    oz_free(e.logits);
    oz_recipe_free(e.recipe);
    oz_arch_free(e.arch);
    oz_ckpt_close(e.ckpt);
    oz_ckpt_close(e.transforms);
    return s;
}

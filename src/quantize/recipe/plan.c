/* A plan: the recipe resolved against one model.  Which linear gets which format, fit and solver; which inputs are quantized; what the
 * output weighs; what the job needs.  Everything that can be refused before work starts is refused here, by tensor name. */
#include <math.h>
#include <regex.h>
#include <stdio.h>
#include <string.h>

#include "quantize/recipe/recipe_internal.h"

oz_status oz_attend(oz_attentions *list, const char *kind, const char *tensor, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if ((list->n & (list->n - 1)) == 0) { /* room doubles at powers of two */
        oz_attention *more = oz_arena_alloc(list->arena, (list->n ? 2 * (size_t)list->n : 1) * sizeof *more);
        if (!more) return OZ_ERR_NOMEM;
        if (list->n) memcpy(more, list->a, (size_t)list->n * sizeof *more);
        list->a = more;
    }
    oz_attention a = {oz_arena_strdup(list->arena, kind), oz_arena_strdup(list->arena, tensor), oz_arena_strdup(list->arena, text)};
    if (!a.kind || !a.tensor || !a.message) return OZ_ERR_NOMEM;
    list->a[list->n++] = a;
    return OZ_OK;
}

oz_status oz_where_select(const oz_arch *arch, const oz_node *where, uint8_t *chosen, const char *context)
{
    if (!where || where->kind == OZ_NODE_NULL) return oz_arch_select(arch, "all", chosen, context);
    if (where->kind != OZ_NODE_LIST) return oz_arch_select(arch, oz_node_text(where, ""), chosen, context);
    for (int i = 0; i < where->n; i++) OZ_TRY(oz_arch_select(arch, oz_node_text(where->item[i].value, ""), chosen, context));
    return OZ_OK;
}

static bool in_layers(const oz_plan *p, const oz_linear_row *row)
{
    return p->options.layer1 < 0 || (row->layer >= p->options.layer0 && row->layer <= p->options.layer1);
}

/* A finequant-style allocation reads weights only, so the plan itself can decide it. */
static oz_status allocate(oz_plan *p, const oz_pass *pass, const oz_weights *w, const oz_spec **spec, oz_run *run)
{
    const oz_allocate_options *o = pass->opt;
    const oz_arch *arch = p->arch;
    int n = o->candidates->n, units = 0;
    uint8_t *chosen = oz_arena_zalloc(p->arena, (size_t)arch->nlinear);
    oz_spec **candidate = oz_arena_zalloc(p->arena, (size_t)n * sizeof *candidate);
    oz_unit *unit = oz_arena_zalloc(p->arena, (size_t)arch->nlinear * sizeof *unit);
    if (!chosen || !candidate || !unit) return OZ_ERR_NOMEM;
    char *where = oz_arena_printf(p->arena, "%s:%d: pass \"%s\"", p->recipe->file, pass->line, pass->name);
    if (!where) return OZ_ERR_NOMEM;
    for (int c = 0; c < n; c++) OZ_TRY(oz_spec_parse(&candidate[c], oz_node_text(o->candidates->item[c].value, ""), where, p->arena));
    OZ_TRY(oz_where_select(arch, o->where, chosen, where));
    for (int i = 0; i < arch->nlinear; i++) {
        const oz_linear_row *row = &arch->linear[i];
        if (!chosen[i] || !in_layers(p, row)) continue;
        OZ_TRY(oz_check_cancel(run));
        oz_progress(run, "measuring ranges", i, arch->nlinear);
        oz_unit *u = &unit[units++];
        *u = (oz_unit){.name = row->name, .linear = i, .weights = row->out * row->in};
        u->c = oz_arena_zalloc(p->arena, (size_t)n * sizeof *u->c);
        float *values = oz_alloc((size_t)(row->out * row->in), sizeof *values);
        oz_status s = u->c && values ? oz_weights_matrix(w, i, values) : OZ_ERR_NOMEM;
        for (int c = 0; !s && c < n; c++) {
            /* groups as wide as the row or wider repeat the row's candidate */
            if (c > 0 && candidate[c]->group.kind == OZ_GROUP_NUMBER && candidate[c]->group.cols >= row->in) continue;
            oz_fmt fmt;
            s = oz_fmt_bind(&fmt, candidate[c], row->out, row->in, row->name);
            oz_candidate *k = &u->c[u->n];
            k->spec = candidate[c];
            if (!s) s = oz_sensitivity_range(oz_mat_of(values, row->out, row->in), candidate[c], o->statistic == 1, &k->cost);
            if (!s) k->bits = fmt.type->bits(&fmt), u->n++;
        }
        oz_free(values);
        if (s) return s;
    }
    OZ_TRY(pass->allocator->allocate(pass->allocator_opt, unit, units, 0, run));
    double bits = 0, weights = 0;
    for (int u = 0; u < units; u++) {
        spec[unit[u].linear] = unit[u].c[unit[u].chosen].spec;
        bits += unit[u].c[unit[u].chosen].bits, weights += (double)unit[u].weights;
        oz_logf(run, OZ_LOG_INFO, "%s: %s", unit[u].name, unit[u].c[unit[u].chosen].spec->text);
    }
    if (weights > 0) oz_logf(run, OZ_LOG_INFO, "%s chose %.4f bits per weight on average", pass->name, bits / weights);
    return OZ_OK;
}

static oz_status apply_passes(oz_plan *p, const oz_weights *w, oz_run *run)
{
    const oz_arch *arch = p->arch;
    const oz_spec **allocated = oz_arena_zalloc(p->arena, (size_t)arch->nlinear * sizeof *allocated);
    uint8_t *chosen = oz_arena_alloc(p->arena, (size_t)arch->nlinear);
    if (!allocated || !chosen) return OZ_ERR_NOMEM;
    for (int k = 0; k < p->recipe->npass; k++) {
        const oz_pass *pass = &p->recipe->pass[k];
        if (!pass->enabled) continue;
        char *where = oz_arena_printf(p->arena, "%s:%d: pass \"%s\"", p->recipe->file, pass->line, pass->name);
        if (!where) return OZ_ERR_NOMEM;
        if (pass->verb == OZ_VERB_ALLOCATE) OZ_TRY(allocate(p, pass, w, allocated, run));
        memset(chosen, 0, (size_t)arch->nlinear);
        if (pass->verb == OZ_VERB_QUANTIZE) {
            OZ_TRY(oz_where_select(arch, ((const oz_quantize_options *)pass->opt)->where, chosen, where));
            for (int i = 0; i < arch->nlinear; i++) {
                if (!chosen[i] || !in_layers(p, &arch->linear[i])) continue;
                const oz_spec *spec = pass->spec ? pass->spec : allocated[i];
                if (!spec)
                    return oz_fail(OZ_ERR_KEY, "let the allocate pass cover it, or narrow 'where'", "%s: no format was allocated for %s",
                                   where, arch->linear[i].name);
                p->linear[i].spec = spec, p->linear[i].pass = pass;
            }
        } else if (pass->verb == OZ_VERB_ACTIVATIONS) {
            OZ_TRY(oz_where_select(arch, ((const oz_activations_options *)pass->opt)->where, chosen, where));
            for (int i = 0; i < arch->nlinear; i++)
                if (chosen[i] && in_layers(p, &arch->linear[i])) p->linear[i].act = pass->act, p->linear[i].has_act = pass->act.kind != 0;
        } else if (pass->verb == OZ_VERB_TRANSFORM) {
            p->needs_calibration = p->needs_calibration || (pass->transform->wants && pass->transform->wants(pass->transform_opt));
        }
    }
    return OZ_OK;
}

/* --tensor REGEX=FORMAT: any linear, embedding and head too. */
static oz_status apply_tensors(oz_plan *p)
{
    for (int k = 0; k < p->options.ntensor; k++) {
        const char *text = p->options.tensor[k], *equals = strrchr(text, '=');
        if (!equals || equals == text)
            return oz_fail(OZ_ERR_KEY, "write --tensor 'REGEX=FORMAT', as in --tensor 'down_proj=int8@128'",
                           "--tensor %s: there is no '=FORMAT'", text);
        char *pattern = oz_arena_strndup(p->arena, text, (size_t)(equals - text));
        if (!pattern) return OZ_ERR_NOMEM;
        char where[160];
        snprintf(where, sizeof where, "--tensor %.100s", text);
        oz_spec *spec = NULL;
        if (strcmp(equals + 1, "none")) OZ_TRY(oz_spec_parse(&spec, equals + 1, where, p->arena));
        regex_t re;
        int bad = regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB);
        if (bad) {
            char why[128];
            regerror(bad, &re, why, sizeof why);
            return oz_fail(OZ_ERR_PARSE, "use a POSIX extended regular expression", "--tensor %s: '%s' is no regular expression: %s", text,
                           pattern, why);
        }
        int hits = 0;
        for (int i = 0; i < p->arch->nlinear; i++) {
            if (regexec(&re, p->arch->linear[i].name, 0, NULL, 0)) continue;
            hits++;
            if (!in_layers(p, &p->arch->linear[i])) continue;
            p->linear[i].spec = spec;
            if (!spec) p->linear[i].pass = NULL;
        }
        regfree(&re);
        if (!hits)
            return oz_fail(OZ_ERR_KEY, "ounce info MODEL --tensors lists the names", "--tensor %s: '%s' matches no linear, e.g. not %s",
                           text, pattern, p->arch->linear[0].name);
    }
    return OZ_OK;
}

static bool is_static(const oz_plan_linear *l) { return l->has_act && l->act.is_static; }

/* Formats bind (shapes refused by name), sidecars get their columns, storage is counted. */
static oz_status bind_all(oz_plan *p)
{
    const oz_arch *arch = p->arch;
    for (int i = 0; i < arch->nlinear; i++) {
        oz_plan_linear *l = &p->linear[i];
        const oz_linear_row *row = &arch->linear[i];
        if (!l->spec) continue;
        oz_fmt fmt;
        OZ_TRY(oz_fmt_bind(&fmt, l->spec, row->out, row->in, row->name));
        if (l->spec->type && (l->spec->type->flags & OZ_FMT_FOREIGN) && !(fmt.shape.flags & OZ_FMT_PROJECT))
            return oz_fail(OZ_ERR_UNSUPPORTED, "types that can be written: gguf.q4_0, q4_1, q5_0, q5_1, q8_0",
                           "%s: %s can be read, not written", row->name, l->spec->text);
        if (l->spec->type && (l->spec->type->flags & OZ_FMT_FOREIGN) && !p->options.gguf)
            return oz_fail(OZ_ERR_UNSUPPORTED, "give an output that ends in .gguf, or an Ounce format",
                           "%s: %s lives only in GGUF files, but the output %s is a directory", row->name, l->spec->text,
                           p->options.out ? p->options.out : "");
        if (l->pass && l->pass->spec != l->spec) { /* overridden or allocated: the pass's techniques must take it */
            const char *why = l->pass->solver->refuses ? l->pass->solver->refuses(l->spec, l->pass->solver_opt) : NULL;
            if (!why && l->pass->fit->refuses) why = l->pass->fit->refuses(l->spec, l->pass->fit_opt);
            if (why)
                return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "%s: pass \"%s\" cannot make %s: %s", row->name, l->pass->name, l->spec->text,
                               why);
        }
        l->bits = fmt.type->bits(&fmt);
        if (l->pass && l->pass->solver && (l->pass->solver->needs & OZ_NEEDS_HESSIAN)) p->needs_calibration = true;
        if (l->pass && l->pass->fit && l->pass->fit->wants) p->needs_calibration = true;
        if (l->spec->nside) p->needs_calibration = true;
        if (is_static(l)) p->needs_calibration = true;
    }
    return oz_plan_columns(p);
}

/* Linears of the blocks that the recipe's quantize passes should have touched and did not. */
static oz_status find_untouched(oz_plan *p)
{
    bool quantizes = false;
    for (int k = 0; k < p->recipe->npass; k++)
        quantizes = quantizes || (p->recipe->pass[k].enabled && p->recipe->pass[k].verb == OZ_VERB_QUANTIZE);
    uint8_t *all = oz_arena_zalloc(p->arena, (size_t)p->arch->nlinear);
    if (!all) return OZ_ERR_NOMEM;
    OZ_TRY(oz_arch_select(p->arch, "all", all, "plan"));
    for (int i = 0; quantizes && i < p->arch->nlinear; i++)
        if (all[i] && !p->linear[i].spec && in_layers(p, &p->arch->linear[i]))
            OZ_TRY(oz_attend(&p->attention, "untouched", p->arch->linear[i].name, "no quantize pass covers it; it stays as it is"));
    return OZ_OK;
}

static oz_status fingerprint(oz_plan *p, const oz_weights *w)
{
    oz_node *resolved = oz_recipe_resolved(p->recipe, p->arena);
    if (!resolved) return OZ_ERR_NOMEM;
    char *text = oz_json_print(resolved, 0);
    oz_sha256 *h = NULL;
    uint8_t digest[32];
    oz_status s = text ? oz_ckpt_hash(oz_weights_ckpt(w), digest) : OZ_ERR_NOMEM;
    if (!s) s = oz_sha256_new(&h);
    if (!s) {
        oz_sha256_add(h, OZ_VERSION, sizeof OZ_VERSION);
        oz_sha256_add(h, digest, sizeof digest);
        oz_sha256_add(h, text, strlen(text));
        for (int i = 0; i < p->arch->nlinear; i++) {
            const oz_plan_linear *l = &p->linear[i];
            const char *parts[3] = {p->arch->linear[i].name, l->spec ? l->spec->text : "", l->has_act && l->act.text ? l->act.text : ""};
            for (int k = 0; k < 3; k++) oz_sha256_add(h, parts[k], strlen(parts[k]) + 1);
            oz_sha256_add(h, &l->k, sizeof l->k);
        }
        const char *calib = p->options.calib_text ? p->options.calib_text : "";
        oz_sha256_add(h, calib, strlen(calib));
        oz_sha256_add(h, p->options.gguf ? "gguf" : "hf", 2);
        oz_sha256_end(h, digest);
        oz_hex(digest, 32, p->fingerprint);
    }
    oz_free(text);
    return s;
}

oz_status oz_plan_make(oz_plan **out, const oz_recipe *recipe, const oz_weights *w, const oz_plan_options *options, oz_run *run)
{
    oz_arena *arena = NULL;
    *out = NULL;
    OZ_TRY(oz_arena_new(&arena, 0));
    oz_plan *p = oz_arena_zalloc(arena, sizeof *p);
    oz_status s = p ? OZ_OK : OZ_ERR_NOMEM;
    if (!s) {
        *p = (oz_plan){.recipe = recipe, .arch = oz_weights_arch(w), .options = *options, .arena = arena, .attention = {.arena = arena}};
        p->linear = oz_arena_zalloc(arena, (size_t)p->arch->nlinear * sizeof *p->linear);
        if (!p->linear) s = OZ_ERR_NOMEM;
    }
    if (!s && options->layer1 >= 0 && (options->layer0 < 0 || options->layer0 > options->layer1 || options->layer1 >= p->arch->dims.layers))
        s = oz_fail(OZ_ERR_RANGE, "write --layers A-B with 0 <= A <= B", "--layers %d-%d: the model has blocks 0 to %d", options->layer0,
                    options->layer1, p->arch->dims.layers - 1);
    if (!s) s = apply_passes(p, w, run);
    if (!s) s = apply_tensors(p);
    if (!s) s = bind_all(p);
    if (!s && p->needs_calibration) {
        p->samples = recipe->samples ? recipe->samples : 128;
        p->length = recipe->length;
    }
    if (!s) s = oz_plan_cost(p, w);
    if (!s) s = find_untouched(p);
    if (!s) s = fingerprint(p, w);
    if (s) {
        oz_arena_free(arena);
        return s;
    }
    *out = p;
    return OZ_OK;
}

void oz_plan_free(oz_plan *p)
{
    if (p) oz_arena_free(p->arena);
}

/* One block of a job: statistics, transforms chosen and folded, linears solved, hidden states carried on, the result committed.
 *
 *   reference stream  X_ref  inputs as the unquantized model makes them: transforms, and passes with inputs: reference
 *   quantized stream  X_q    inputs as the blocks quantized so far make them (weights only unless inputs: quantized+acts)
 * A fold is an equivalence, so X_ref is carried on by whichever form of the unquantized block is loaded. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "quantize/recipe/recipe_internal.h"

/* ---- running a stream ---------------------------------------------------------------------------------------- */
oz_status oz_job_run_stream(oz_job *j, oz_stream *s, int layer, bool write, const oz_forward *forward)
{
    int from = layer & 1, to = from ^ 1;
    int64_t step = oz_chunk_sequences(j->length) * j->length, d = s->d;
    double start = oz_seconds();
    float *hidden = oz_alloc((size_t)(step * d), sizeof *hidden);
    oz_status status = hidden ? OZ_OK : OZ_ERR_NOMEM;
    for (int64_t t = 0; !status && t < s->tokens; t += step) {
        int64_t n = s->tokens - t < step ? s->tokens - t : step;
        status = oz_check_cancel(j->run);
        if (status) break;
        status = oz_stream_read(s, from, t, n, hidden);
        if (!status) status = oz_model_run_block(j->model, layer, oz_mat_of(hidden, n, d), j->length, forward, j->run);
        if (!status && write) status = oz_stream_write(s, to, t, n, hidden);
    }
    oz_free(hidden);
    if (!status && write) status = oz_stream_sync(s, to);
    j->seconds_forward += oz_seconds() - start;
    return status;
}

/* ---- transforms ------------------------------------------------------------------------------------------------ */
static bool names_site(const oz_node *sites, oz_site site)
{
    int n = sites->kind == OZ_NODE_LIST ? sites->n : 1;
    for (int i = 0; i < n; i++) {
        oz_site s;
        const char *text = oz_node_text(sites->kind == OZ_NODE_LIST ? sites->item[i].value : sites, "");
        if (oz_site_parse(text, &s) && s == site) return true;
    }
    return false;
}

static bool pass_reads_block(const oz_job *j, const oz_pass *p, int layer)
{
    const oz_plan_options *o = &j->plan->options;
    return p->enabled && p->verb == OZ_VERB_TRANSFORM && (o->layer1 < 0 || (layer >= o->layer0 && layer <= o->layer1));
}

typedef struct transform_wants {
    const oz_job *job;
    int layer;
} transform_wants;

/* What the transforms of this block want to know about a linear's input. */
static uint32_t wants_for_transforms(void *ctx, int linear)
{
    const transform_wants *t = ctx;
    const oz_arch *arch = t->job->plan->arch;
    const oz_linear_row *row = &arch->linear[linear];
    uint32_t wants = 0;
    if (row->site_in < 0) return 0;
    for (int k = 0; k < t->job->plan->recipe->npass; k++) {
        const oz_pass *p = &t->job->plan->recipe->pass[k];
        if (!pass_reads_block(t->job, p, t->layer) || !p->transform->wants) continue;
        if (names_site(((const oz_transform_options *)p->opt)->site, (oz_site)arch->site[row->site_in].site))
            wants |= p->transform->wants(p->transform_opt);
    }
    return wants;
}

/* The slot that saw all tokens of a site: an expert layer's site is seen whole by its router. */
static const oz_capture_slot *slot_of_site(const oz_capture *c, const oz_site_row *row)
{
    const oz_capture_slot *best = NULL;
    for (int i = 0; i < row->ncons; i++) {
        if (row->cons[i].side != OZ_END_COLS) continue;
        const oz_capture_slot *s = oz_capture_find(c, row->cons[i].linear);
        if (s && (!best || s->seen > best->seen)) best = s;
    }
    return best;
}

/* Formats of the passes that `quant` names, as the objective rounds with them. */
static oz_status formats_of(const oz_job *j, const oz_pass *p, struct oz_pass_formats *f)
{
    const oz_node *quant = ((const oz_transform_options *)p->opt)->quant;
    memset(f, 0, sizeof *f);
    int n = !quant ? 0 : quant->kind == OZ_NODE_LIST ? quant->n : 1;
    for (int i = 0; i < n; i++) {
        const char *name = oz_node_text(quant->kind == OZ_NODE_LIST ? quant->item[i].value : quant, "");
        bool found = false;
        for (int k = 0; k < j->plan->recipe->npass; k++) {
            const oz_pass *other = &j->plan->recipe->pass[k];
            if (strcmp(other->name, name)) continue;
            found = true;
            if (other->verb == OZ_VERB_QUANTIZE) f->weights = other->spec;
            if (other->verb == OZ_VERB_ACTIVATIONS) f->acts = other->act, f->has_acts = other->act.kind != 0;
        }
        if (!found)
            return oz_fail(OZ_ERR_KEY, "name passes of this recipe", "%s:%d: pass \"%s\": 'quant' names a pass \"%s\" that does not exist",
                           j->plan->recipe->file, p->line, p->name, name);
    }
    return OZ_OK;
}

static void drop_applied(oz_applied *a)
{
    for (int k = 0; k < a->na; k++) oz_array_drop(&a->a[k]);
    if (a->self && a->pass->transform->end) a->pass->transform->end(a->self);
}

/* Takes what a holds, also when it fails. */
oz_status oz_job_remember(oz_job *j, oz_applied *a)
{
    if (j->napplied == j->applied_room) {
        int room = j->applied_room ? 2 * j->applied_room : 64;
        oz_applied *more = oz_realloc(j->applied, (size_t)room, sizeof *more);
        if (!more) {
            drop_applied(a);
            return OZ_ERR_NOMEM;
        }
        j->applied = more, j->applied_room = room;
    }
    j->applied[j->napplied++] = *a;
    return oz_weights_fold(j->weights, &j->plan->arch->site[a->site], a->pass->transform->fold, a->self);
}

static oz_status choose_one(oz_job *j, int layer, const oz_pass *p, int site, const oz_capture *c)
{
    const oz_site_row *row = &j->plan->arch->site[site];
    struct oz_pass_formats formats;
    OZ_TRY(formats_of(j, p, &formats));
    const char *why = p->transform->refuses ? p->transform->refuses(p->transform_opt, row) : NULL;
    if (why)
        return oz_fail(OZ_ERR_UNSUPPORTED, "leave this site out of the pass", "%s:%d: pass \"%s\": site %s of block %d: %s",
                       j->plan->recipe->file, p->line, p->name, oz_site_name((oz_site)row->site), layer, why);
    const oz_capture_slot *slot = slot_of_site(c, row);
    oz_applied a = {.pass = p, .site = site, .before = NAN, .after = NAN};
    oz_choose in = {.weights = j->weights,
                    .model = j->model,
                    .layer = layer,
                    .row = row,
                    .stats = slot ? &slot->stats : NULL,
                    .length = j->length,
                    .formats = &formats,
                    .seed = j->plan->recipe->seed,
                    .before = &a.before,
                    .after = &a.after};
    if (slot && slot->x) in.x = oz_mat_of(slot->x, slot->rows, slot->n);
    OZ_TRY(p->transform->choose(p->transform_opt, &in, &a.self, j->run));
    oz_status s = p->transform->save ? p->transform->save(a.self, row, a.a, &a.na) : OZ_OK;
    if (s) {
        drop_applied(&a);
        return s;
    }
    return oz_job_remember(j, &a);
}

static oz_status transforms(oz_job *j, int layer, bool *ref_written)
{
    const oz_recipe *r = j->plan->recipe;
    const oz_arch *arch = j->plan->arch;
    transform_wants t = {j, layer};
    int64_t keep = j->length < 1 ? 0 : j->length >= 8192 ? j->length : 8192 / j->length * j->length;
    oz_capture c = {.plan = j->plan,
                    .wants = wants_for_transforms,
                    .ctx = &t,
                    .tokens = j->tokens,
                    .keep_rows = keep < j->tokens ? keep : j->tokens,
                    .run = j->run};
    bool any = false, data = false;
    for (int k = 0; k < r->npass; k++)
        if (pass_reads_block(j, &r->pass[k], layer))
            any = true, data = data || (r->pass[k].transform->wants && r->pass[k].transform->wants(r->pass[k].transform_opt));
    if (!any) return OZ_OK;
    oz_status s = OZ_OK;
    if (data) {
        oz_forward f = {oz_capture_watch, &c, -1};
        s = oz_job_run_stream(j, &j->ref, layer, true, &f);
        *ref_written = true;
        if (!s) s = oz_capture_end(&c);
    }
    for (int k = 0; !s && k < r->npass; k++) {
        const oz_pass *p = &r->pass[k];
        if (!pass_reads_block(j, p, layer)) continue;
        int hits = 0;
        for (int i = 0; !s && i < arch->nsite; i++) {
            if (arch->site[i].layer != layer || !names_site(((const oz_transform_options *)p->opt)->site, (oz_site)arch->site[i].site))
                continue;
            s = choose_one(j, layer, p, i, &c);
            hits++;
        }
        if (!s && !hits)
            s = oz_fail(OZ_ERR_KEY, "ounce help transforms lists sites", "%s:%d: pass \"%s\": block %d has none of its sites", r->file,
                        p->line, p->name, layer);
    }
    oz_capture_free(&c);
    if (!s) oz_model_drop_block(j->model, layer); /* loads again with the folds */
    return s;
}

/* ---- quantize ------------------------------------------------------------------------------------------------------ */
typedef struct solve_wants {
    const oz_job *job;
    int stage;
    int inputs;
} solve_wants;

static int inputs_of(const oz_plan_linear *l)
{
    if (!l->pass) return OZ_INPUTS_REFERENCE;
    return ((const oz_quantize_options *)l->pass->opt)->inputs;
}

static uint32_t wants_for_solving(void *ctx, int linear)
{
    const solve_wants *s = ctx;
    const oz_plan_linear *l = &s->job->plan->linear[linear];
    bool reference = inputs_of(l) == OZ_INPUTS_REFERENCE;
    if (s->stage >= 0 && s->job->plan->arch->linear[linear].stage != s->stage) return 0;
    return reference == (s->inputs == OZ_INPUTS_REFERENCE) ? oz_plan_wants(s->job->plan, linear) : 0;
}

static bool wanted(const oz_job *j, int layer, int stage, int inputs)
{
    solve_wants w = {j, stage, inputs};
    for (int i = 0; i < j->plan->arch->nlinear; i++)
        if (j->plan->arch->linear[i].layer == layer && wants_for_solving(&w, i)) return true;
    return false;
}

static bool is_sequential(const oz_job *j, int layer)
{
    for (int i = 0; i < j->plan->arch->nlinear; i++) {
        const oz_plan_linear *l = &j->plan->linear[i];
        if (j->plan->arch->linear[i].layer == layer && l->spec && l->pass && ((const oz_quantize_options *)l->pass->opt)->sequential)
            return true;
    }
    return false;
}

/* Puts the solved linear into the running block and into the part. */
static oz_status install(oz_job *j, int i, oz_linear *made, oz_part *part)
{
    const oz_plan_linear *l = &j->plan->linear[i];
    const oz_linear *old = NULL;
    OZ_TRY(oz_model_linear(j->model, i, &old));
    oz_linear *shown = oz_zalloc(1, sizeof *shown); /* shares the arrays with the part, which owns them */
    if (!shown) return OZ_ERR_NOMEM;
    *shown = *made;
    shown->owns = false;
    shown->layout = NULL;
    shown->bias = old->bias;
    if (inputs_of(l) == OZ_INPUTS_QUANTIZED_ACTS && l->has_act) shown->act = l->act;
    oz_status s = oz_model_replace(j->model, i, shown);
    oz_free(shown);
    if (!s) part->lin[part->nlinear++] = *made;
    return s;
}

/* Statistics whose last linear is solved leave memory: a Hessian of 11008 inputs takes a GB. */
static void drop_used(const oz_job *j, oz_capture *c, int linear)
{
    for (int k = 0; k < c->n; k++) {
        oz_capture_slot *slot = &c->slot[k];
        bool used = false, later = false;
        for (int i = 0; i < slot->nlin; i++) {
            used = used || slot->lin[i] == linear;
            later = later || (slot->lin[i] > linear && (j->plan->linear[slot->lin[i]].spec || j->plan->linear[slot->lin[i]].has_act));
        }
        if (used && !later) oz_stats_drop(&slot->stats);
    }
}

static oz_status solve_stage(oz_job *j, int layer, int stage, oz_capture *ref, oz_capture *q, oz_part *part, oz_node *lines)
{
    const oz_arch *arch = j->plan->arch;
    for (int i = 0; i < arch->nlinear; i++) {
        oz_plan_linear *l = &j->plan->linear[i];
        if (arch->linear[i].layer != layer || (!l->spec && !l->has_act) || (stage >= 0 && arch->linear[i].stage != stage)) continue;
        OZ_TRY(oz_check_cancel(j->run));
        const oz_capture_slot *slot = oz_capture_find(inputs_of(l) == OZ_INPUTS_REFERENCE ? ref : q, i);
        const oz_stats *stats = slot ? &slot->stats : NULL;
        if (oz_plan_wants(j->plan, i) && (!stats || stats->tokens <= 0)) {
            OZ_TRY(oz_attend(&j->plan->attention, "starved", arch->linear[i].name,
                             "no calibration token reached it; it is rounded to nearest"));
            stats = NULL;
        } else if (stats && arch->linear[i].expert >= 0 && stats->tokens < (double)arch->linear[i].in) {
            OZ_TRY(oz_attend(&j->plan->attention, "starved", arch->linear[i].name,
                             "only %.0f calibration tokens reached it, fewer than its %lld inputs", stats->tokens,
                             (long long)arch->linear[i].in));
        }
        if (l->has_act && l->act.is_static && stats && stats->max) {
            float hi = 0, lo = 0;
            for (int64_t c = 0; c < stats->n; c++)
                hi = stats->max[c] > hi ? stats->max[c] : hi, lo = stats->min[c] < lo ? stats->min[c] : lo;
            l->act.range_hi = l->act.asym ? hi : (hi > -lo ? hi : -lo), l->act.range_lo = l->act.asym ? lo : -l->act.range_hi;
        }
        oz_capture *held = inputs_of(l) == OZ_INPUTS_REFERENCE ? ref : q;
        if (!l->spec) {
            drop_used(j, held, i);
            continue;
        }
        oz_linear made;
        oz_node *line = oz_node_map(j->arena);
        if (!line) return OZ_ERR_NOMEM;
        OZ_TRY(oz_job_solve(j, i, stats, &made, line));
        oz_status s = oz_node_push(lines, line, j->arena);
        if (!s) s = install(j, i, &made, part);
        drop_used(j, held, i);
        if (s) {
            oz_linear_drop(&made);
            return s;
        }
    }
    return OZ_OK;
}

static oz_status quantize(oz_job *j, int layer, bool *ref_written, oz_part *part, oz_node *lines)
{
    bool sequential = is_sequential(j, layer);
    oz_status s = OZ_OK;
    for (int stage = sequential ? 0 : -1; !s && stage < (sequential ? 4 : 0); stage++) {
        oz_capture ref = {0}, q = {0};
        solve_wants wr = {j, stage, OZ_INPUTS_REFERENCE}, wq = {j, stage, OZ_INPUTS_QUANTIZED};
        if (wanted(j, layer, stage, OZ_INPUTS_REFERENCE)) {
            ref = (oz_capture){.plan = j->plan, .wants = wants_for_solving, .ctx = &wr, .tokens = j->tokens, .run = j->run};
            oz_forward f = {oz_capture_watch, &ref, sequential ? stage : -1};
            s = oz_job_run_stream(j, &j->ref, layer, !*ref_written && !sequential, &f);
            if (!sequential) *ref_written = true;
            if (!s) s = oz_capture_end(&ref);
        }
        if (!s && wanted(j, layer, stage, OZ_INPUTS_QUANTIZED)) {
            q = (oz_capture){.plan = j->plan, .wants = wants_for_solving, .ctx = &wq, .tokens = j->tokens, .run = j->run};
            oz_forward f = {oz_capture_watch, &q, sequential ? stage : 3};
            s = oz_job_run_stream(j, &j->q, layer, false, &f);
            if (!s) s = oz_capture_end(&q);
        }
        if (!s) s = solve_stage(j, layer, stage, &ref, &q, part, lines);
        oz_capture_free(&ref);
        oz_capture_free(&q);
    }
    return s;
}

/* The block's weights from the disk, before anything reads them through the map. */
static oz_status fetch_block(const oz_job *j, int layer)
{
    const oz_arch *arch = j->plan->arch;
    const char *last = NULL; /* fused tensors and experts share one */
    for (int i = 0; i < arch->nlinear; i++) {
        if (arch->linear[i].layer != layer) continue;
        if (arch->linear[i].src.tensor != last) OZ_TRY(oz_job_fetch(j, &arch->linear[i].src));
        last = arch->linear[i].src.tensor;
        OZ_TRY(oz_job_fetch(j, &arch->linear[i].bias));
    }
    for (int i = 0; i < arch->nvector; i++)
        if (arch->vector[i].layer == layer) OZ_TRY(oz_job_fetch(j, &arch->vector[i].src));
    return OZ_OK;
}

/* ---- commit ----------------------------------------------------------------------------------------------------------- */
static oz_status put(oz_node *map, const char *key, oz_node *v, oz_arena *arena)
{
    return v ? oz_node_put(map, key, v, arena) : OZ_ERR_NOMEM;
}

oz_status oz_job_record(oz_job *j, int layer, oz_part *part, oz_node *lines, int first_attention)
{
    oz_arena *a = j->arena;
    oz_node *acts = oz_node_map(a), *list = oz_node_list(a), *attention = oz_node_list(a);
    part->record = oz_node_map(a);
    if (!part->record || !list || !attention || !acts) return OZ_ERR_NOMEM;
    OZ_TRY(put(part->record, "layer", oz_node_of_int(a, layer), a));
    OZ_TRY(oz_node_put(part->record, "tensors", lines, a));
    for (int i = 0; i < part->napplied; i++) {
        const oz_applied *t = &part->applied[i];
        oz_node *m = oz_node_map(a), *names = oz_node_list(a);
        if (!m || !names) return OZ_ERR_NOMEM;
        OZ_TRY(put(m, "pass", oz_node_of_text(a, t->pass->name), a));
        OZ_TRY(put(m, "site", oz_node_of_int(a, t->site), a));
        for (int k = 0; k < t->na; k++) {
            oz_node *name = oz_node_of_text(a, t->a[k].name);
            if (!name || oz_node_push(names, name, a)) return OZ_ERR_NOMEM;
        }
        OZ_TRY(oz_node_put(m, "arrays", names, a));
        OZ_TRY(put(m, "before", oz_node_of_real(a, t->before), a));
        OZ_TRY(put(m, "after", oz_node_of_real(a, t->after), a));
        OZ_TRY(oz_node_push(list, m, a));
    }
    OZ_TRY(oz_node_put(part->record, "transforms", list, a));
    for (int i = 0; i < j->plan->arch->nlinear; i++) {
        const oz_plan_linear *l = &j->plan->linear[i];
        if (j->plan->arch->linear[i].layer != layer || !l->has_act || !l->act.is_static) continue;
        oz_node *range = oz_node_list(a), *lo = oz_node_of_real(a, l->act.range_lo), *hi = oz_node_of_real(a, l->act.range_hi);
        if (!range || !lo || !hi || oz_node_push(range, lo, a) || oz_node_push(range, hi, a)) return OZ_ERR_NOMEM;
        OZ_TRY(oz_node_put(acts, j->plan->arch->linear[i].name, range, a));
    }
    OZ_TRY(oz_node_put(part->record, "ranges", acts, a));
    for (int i = first_attention; i < j->plan->attention.n; i++) {
        const oz_attention *t = &j->plan->attention.a[i];
        oz_node *m = oz_node_map(a);
        if (!m) return OZ_ERR_NOMEM;
        OZ_TRY(put(m, "kind", oz_node_of_text(a, t->kind), a));
        OZ_TRY(put(m, "tensor", oz_node_of_text(a, t->tensor), a));
        OZ_TRY(put(m, "message", oz_node_of_text(a, t->message), a));
        OZ_TRY(oz_node_push(attention, m, a));
    }
    return oz_node_put(part->record, "attention", attention, a);
}

oz_status oz_job_block(oz_job *j, int layer)
{
    const oz_plan_options *o = &j->plan->options;
    bool inside = o->layer1 < 0 || (layer >= o->layer0 && layer <= o->layer1), ref_written = false;
    int applied0 = j->napplied, attention0 = j->plan->attention.n, nlinear = 0;
    for (int i = 0; i < j->plan->arch->nlinear; i++) nlinear += j->plan->arch->linear[i].layer == layer;
    oz_part part = {.lin = oz_zalloc((size_t)nlinear + 1, sizeof *part.lin)};
    oz_node *lines = oz_node_list(j->arena);
    oz_status s = part.lin && lines ? OZ_OK : OZ_ERR_NOMEM;
    if (!s) s = fetch_block(j, layer);
    if (!s && inside) s = transforms(j, layer, &ref_written);
    if (!s && inside) s = quantize(j, layer, &ref_written, &part, lines);
    /* carry the streams on, unless nothing after this block reads them */
    bool more = layer + 1 < j->plan->arch->dims.layers && (o->layer1 < 0 || layer < o->layer1);
    more = more || (o->layer1 < 0 && oz_plan_wants(j->plan, j->plan->arch->head));
    if (!s && j->plan->reads_q && more) s = oz_job_run_stream(j, &j->q, layer, true, NULL);
    if (!s && j->plan->reads_ref && more && !ref_written) {
        oz_model_drop_block(j->model, layer); /* the unquantized block */
        s = oz_job_run_stream(j, &j->ref, layer, true, NULL);
    }
    part.applied = j->applied + applied0, part.napplied = j->napplied - applied0;
    if (!s) s = oz_job_record(j, layer, &part, lines, attention0);
    if (!s) s = oz_part_write(j->dir, layer, &part);
    oz_model_drop_block(j->model, layer);
    for (int i = 0; i < part.nlinear; i++) oz_linear_drop(&part.lin[i]);
    oz_free(part.lin);
    return s;
}

oz_status oz_job_restore(oz_job *j, int layer)
{
    oz_ckpt *ckpt = NULL;
    oz_node *record = NULL;
    OZ_TRY(oz_part_open(j->dir, layer, &ckpt, &record, j->arena));
    const oz_node *list = oz_node_get(record, "transforms"), *ranges = oz_node_get(record, "ranges"),
                  *attention = oz_node_get(record, "attention");
    oz_status s = OZ_OK;
    for (int i = 0; !s && list && i < list->n; i++) {
        const oz_node *m = list->item[i].value, *names = oz_node_get(m, "arrays");
        const char *name = oz_node_text(oz_node_get(m, "pass"), "");
        oz_applied a = {.site = (int)oz_node_int(oz_node_get(m, "site"), -1),
                        .before = oz_node_real(oz_node_get(m, "before"), NAN),
                        .after = oz_node_real(oz_node_get(m, "after"), NAN)};
        for (int k = 0; k < j->plan->recipe->npass; k++)
            if (strcmp(j->plan->recipe->pass[k].name, name) == 0) a.pass = &j->plan->recipe->pass[k];
        if (!a.pass || !a.pass->transform || a.site < 0 || a.site >= j->plan->arch->nsite)
            s = oz_fail(OZ_ERR_PARSE, "start over with --force", "%s: block %d records a transform of pass \"%s\" that the plan lacks",
                        j->dir, layer, name);
        char prefix[128];
        snprintf(prefix, sizeof prefix, "transform.%.60s.%d", name, a.site);
        for (int k = 0; !s && names && k < names->n && k < 4; k++) {
            s = oz_part_array(&a.a[k], ckpt, prefix, oz_node_text(oz_node_at(names, k), ""));
            if (!s) a.na++;
        }
        if (!s) s = a.pass->transform->load(a.pass->transform_opt, &j->plan->arch->site[a.site], a.a, a.na, &a.self);
        if (!s)
            s = oz_job_remember(j, &a);
        else
            for (int k = 0; k < a.na; k++) oz_array_drop(&a.a[k]);
    }
    for (int i = 0; !s && ranges && i < ranges->n; i++)
        for (int k = 0; k < j->plan->arch->nlinear; k++)
            if (strcmp(j->plan->arch->linear[k].name, ranges->item[i].key) == 0) {
                j->plan->linear[k].act.range_lo = (float)oz_node_real(oz_node_at(ranges->item[i].value, 0), 0);
                j->plan->linear[k].act.range_hi = (float)oz_node_real(oz_node_at(ranges->item[i].value, 1), 0);
            }
    for (int i = 0; !s && attention && i < attention->n; i++) {
        const oz_node *m = attention->item[i].value;
        s = oz_attend(&j->plan->attention, oz_node_text(oz_node_get(m, "kind"), ""), oz_node_text(oz_node_get(m, "tensor"), ""), "%s",
                      oz_node_text(oz_node_get(m, "message"), ""));
    }
    oz_ckpt_close(ckpt);
    return s;
}

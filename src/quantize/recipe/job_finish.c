/* The end of a job: parts become one output, the output is measured, the record gets the quality, and only then the name. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "quantize/recipe/recipe_internal.h"

static oz_status put(oz_node *map, const char *key, oz_node *v, oz_arena *arena)
{
    return v ? oz_node_put(map, key, v, arena) : OZ_ERR_NOMEM;
}

/* ---- results from the parts' records -------------------------------------------------------------------------- */
static oz_status collect(oz_job *j, oz_job_result *r)
{
    int layers = j->plan->arch->dims.layers;
    r->tensor = oz_arena_zalloc(j->arena, (size_t)j->plan->arch->nlinear * sizeof *r->tensor + 1);
    if (!r->tensor) return OZ_ERR_NOMEM;
    for (int l = 0; l <= layers; l++) {
        if (!oz_part_exists(j->dir, l)) continue;
        oz_ckpt *ckpt = NULL;
        oz_node *record = NULL;
        OZ_TRY(oz_part_open(j->dir, l, &ckpt, &record, j->arena));
        oz_ckpt_close(ckpt);
        const oz_node *list = oz_node_get(record, "tensors");
        for (int i = 0; list && i < list->n && r->ntensor < j->plan->arch->nlinear; i++) {
            const oz_node *t = list->item[i].value;
            oz_tensor_result *x = &r->tensor[r->ntensor++];
            x->name = oz_node_text(oz_node_get(t, "name"), "");
            x->format = oz_node_text(oz_node_get(t, "format"), "");
            x->bpw = oz_node_real(oz_node_get(t, "bpw"), NAN);
            x->proxy_loss = oz_node_real(oz_node_get(t, "proxy_loss"), NAN);
            x->proxy_rtn = oz_node_real(oz_node_get(t, "proxy_rtn"), NAN);
            x->clipped = oz_node_int(oz_node_get(t, "clipped"), 0);
            x->seconds = oz_node_real(oz_node_get(t, "seconds"), 0);
            if (isfinite(x->proxy_loss)) r->proxy_loss += x->proxy_loss;
            r->proxy_rtn += x->proxy_rtn; /* NAN, null in JSON, unless every solver was asked to compare */
        }
    }
    r->attention = j->plan->attention;
    r->bpw_linears = j->plan->bpw_linears;
    return OZ_OK;
}

/* ---- the record -------------------------------------------------------------------------------------------------- */
static oz_status make_record(oz_job *j, oz_node **out)
{
    oz_arena *a = j->arena;
    const oz_arch *arch = j->plan->arch;
    oz_node *root = oz_node_map(a), *tensors = oz_node_map(a), *source = oz_node_map(a), *bpw = oz_node_map(a);
    if (!root || !tensors || !source || !bpw) return OZ_ERR_NOMEM;
    OZ_TRY(put(root, "quant_method", oz_node_of_text(a, "ounce"), a));
    OZ_TRY(put(root, "version", oz_node_of_text(a, OZ_VERSION), a));
    OZ_TRY(put(root, "fingerprint", oz_node_of_text(a, j->plan->fingerprint), a));
    OZ_TRY(put(root, "compute", oz_node_of_text(a, "runtime"), a));
    OZ_TRY(put(root, "recipe", oz_recipe_resolved(j->plan->recipe, a), a));
    for (int i = 0; i < arch->nlinear; i++) {
        const oz_plan_linear *l = &j->plan->linear[i];
        if (!l->spec && !l->has_act) continue;
        if (i == arch->head && arch->head != arch->embed && !l->spec) continue;
        oz_node *t = oz_node_map(a);
        if (!t) return OZ_ERR_NOMEM;
        if (l->spec) OZ_TRY(put(t, "format", oz_node_of_text(a, l->spec->text), a));
        if (l->spec && l->spec->nside) OZ_TRY(put(t, "columns", oz_node_of_int(a, l->k), a));
        if (l->has_act) OZ_TRY(put(t, "act", oz_node_of_text(a, l->act.text), a));
        if (l->has_act && l->act.clip != 1) OZ_TRY(put(t, "act_clip", oz_node_of_real(a, (double)l->act.clip), a));
        if (l->has_act && l->act.is_static) {
            oz_node *range = oz_node_list(a), *lo = oz_node_of_real(a, l->act.range_lo), *hi = oz_node_of_real(a, l->act.range_hi);
            if (!range || !lo || !hi || oz_node_push(range, lo, a) || oz_node_push(range, hi, a)) return OZ_ERR_NOMEM;
            OZ_TRY(oz_node_put(t, "act_range", range, a));
        }
        OZ_TRY(oz_node_put(tensors, arch->linear[i].name, t, a));
    }
    OZ_TRY(oz_node_put(root, "tensors", tensors, a));
    if (arch->reference) OZ_TRY(put(root, "reference", oz_node_of_text(a, arch->reference), a));
    uint8_t digest[32];
    char hex[65];
    OZ_TRY(oz_ckpt_hash(oz_weights_ckpt(j->weights), digest));
    oz_hex(digest, 32, hex);
    const char *path = oz_ckpt_path(oz_weights_ckpt(j->weights)), *slash = strrchr(path, '/');
    OZ_TRY(put(source, "name", oz_node_of_text(a, slash && slash[1] ? slash + 1 : path), a));
    OZ_TRY(put(source, "hash", oz_node_of_text(a, hex), a));
    const oz_node *licence = oz_node_get(oz_ckpt_config(oz_weights_ckpt(j->weights)), "license");
    if (licence) OZ_TRY(put(source, "license", oz_node_copy(a, licence), a));
    OZ_TRY(oz_node_put(root, "source", source, a));
    if (j->tokens) {
        oz_node *calibration = oz_node_map(a);
        if (!calibration) return OZ_ERR_NOMEM;
        OZ_TRY(put(calibration, "text", oz_node_of_text(a, j->text), a));
        OZ_TRY(put(calibration, "samples", oz_node_of_int(a, j->samples), a));
        OZ_TRY(put(calibration, "length", oz_node_of_int(a, j->length), a));
        OZ_TRY(oz_node_put(root, "calibration", calibration, a));
    }
    OZ_TRY(put(bpw, "linears", oz_node_of_real(a, j->plan->bpw_linears), a));
    OZ_TRY(oz_node_put(root, "bpw", bpw, a));
    *out = root;
    return OZ_OK;
}

/* ---- export: one part open at a time ------------------------------------------------------------------------------ */
typedef struct source {
    oz_job *job;
    oz_ckpt *ckpt;
    int layer;
    oz_linear lin;
    bool held;
} source;

static void release(source *s)
{
    if (s->held) oz_linear_drop(&s->lin);
    s->held = false;
}

static oz_status stored_linear(void *ctx, int linear, const oz_linear **lin)
{
    source *s = ctx;
    const oz_plan *p = s->job->plan;
    *lin = NULL;
    release(s);
    if (!p->linear[linear].spec) return OZ_OK;
    int layer = p->arch->linear[linear].layer < 0 ? p->arch->dims.layers : p->arch->linear[linear].layer;
    if (layer != s->layer) {
        oz_ckpt_close(s->ckpt);
        s->ckpt = NULL;
        OZ_TRY(oz_part_open(s->job->dir, layer, &s->ckpt, NULL, s->job->arena));
        s->layer = layer;
    }
    OZ_TRY(oz_part_linear(s->ckpt, p, linear, &s->lin));
    s->held = true;
    if (p->linear[linear].has_act) s->lin.act = p->linear[linear].act;
    *lin = &s->lin;
    return OZ_OK;
}

/* transforms.safetensors: the parameters of every transform, folded ones too. */
static oz_status write_transforms(const oz_job *j, const char *dir)
{
    if (!j->napplied) return OZ_OK;
    int n = 0;
    oz_out_tensor *t = oz_zalloc((size_t)j->napplied * 4, sizeof *t);
    char(*name)[192] = oz_zalloc((size_t)j->napplied * 4, sizeof *name);
    char *path = oz_path_join(dir, "transforms.safetensors");
    oz_writer *w = NULL;
    oz_status s = t && name && path ? OZ_OK : OZ_ERR_NOMEM;
    for (int i = 0; !s && i < j->napplied; i++) {
        const oz_applied *a = &j->applied[i];
        const oz_site_row *row = &j->plan->arch->site[a->site];
        for (int k = 0; k < a->na; k++, n++) {
            const oz_view *v = &a->a[k].v;
            if (row->expert >= 0)
                snprintf(name[n], sizeof name[n], "%.60s.%d.%d.%s.%s", a->pass->name, row->layer, row->expert,
                         oz_site_name((oz_site)row->site), a->a[k].name);
            else
                snprintf(name[n], sizeof name[n], "%.60s.%d.%s.%s", a->pass->name, row->layer, oz_site_name((oz_site)row->site),
                         a->a[k].name);
            t[n] = (oz_out_tensor){
                .name = name[n], .dtype = v->dtype, .ggml_type = OZ_GGML_NONE, .rank = v->rank, .bytes = oz_array_bytes(&a->a[k])};
            memcpy(t[n].shape, v->shape, sizeof t[n].shape);
        }
    }
    if (!s) s = oz_safetensors_begin(&w, path, t, n, NULL, 0, 64);
    n = 0;
    for (int i = 0; !s && i < j->napplied; i++)
        for (int k = 0; !s && k < j->applied[i].na; k++, n++) {
            s = oz_writer_put(w, name[n], oz_array_data(&j->applied[i].a[k]), t[n].bytes);
            if (s) oz_writer_abandon(w);
        }
    if (!s) s = oz_writer_commit(w);
    oz_free(t);
    oz_free(name);
    oz_free(path);
    return s;
}

/* Adds the measured quality to the record in config.json. */
static oz_status write_quality(oz_job *j, const char *dir, const oz_node *quality)
{
    char *path = oz_path_join(dir, "config.json"), *text = NULL, *printed = NULL;
    size_t bytes = 0;
    oz_node *config = NULL;
    oz_status s = path ? oz_read_file(path, (size_t)1 << 26, &text, &bytes) : OZ_ERR_NOMEM;
    if (!s) s = oz_json_parse(&config, text, bytes, path, j->arena);
    for (int i = 0; !s && i < config->n; i++)
        if (strcmp(config->item[i].key, "quantization_config") == 0)
            s = put(config->item[i].value, "quality", oz_node_copy(j->arena, quality), j->arena);
    if (!s) s = (printed = oz_json_print(config, 2)) ? oz_write_file(path, printed, strlen(printed)) : OZ_ERR_NOMEM;
    oz_free(printed);
    oz_free(text);
    oz_free(path);
    return s;
}

/* An output that is there already (--force was given: entering checked) leaves only when the new one is about to take its name. */
static oz_status give_name(oz_job *j, const char *result)
{
    char *old = oz_arena_printf(j->arena, "%s/replaced", j->dir);
    if (!old) return OZ_ERR_NOMEM;
    if (oz_path_exists(old)) OZ_TRY(oz_remove_tree(old));
    if (oz_path_exists(j->out) && rename(j->out, old))
        return oz_fail(OZ_ERR_IO, NULL, "%s: cannot be replaced: %s", j->out, strerror(errno));
    if (rename(result, j->out)) return oz_fail(OZ_ERR_IO, NULL, "%s: cannot be put under its name %s: %s", result, j->out, strerror(errno));
    return OZ_OK;
}

oz_status oz_job_finish(oz_job *j, oz_job_result *r)
{
    OZ_TRY(collect(j, r));
    oz_node *record = NULL, *quality = NULL;
    OZ_TRY(make_record(j, &record));
    char *result = oz_arena_printf(j->arena, "%s/result%s", j->dir, j->plan->options.gguf ? ".gguf" : "");
    if (!result) return OZ_ERR_NOMEM;
    if (oz_path_exists(result)) OZ_TRY(oz_remove_tree(result));
    source src = {.job = j, .layer = -1};
    oz_export_source from = {stored_linear, &src};
    oz_export_options eo = {.gguf = j->plan->options.gguf, .record = record, .attention = &j->plan->attention};
    oz_progress(j->run, "writing", 0, 1);
    oz_status s = oz_export(result, j->weights, &from, &eo, &r->bytes, j->run);
    release(&src);
    oz_ckpt_close(src.ckpt);
    if (!s && !j->plan->options.gguf) s = write_transforms(j, result);
    r->attention = j->plan->attention;
    double weights = 0;
    for (int i = 0; i < j->plan->arch->nlinear; i++)
        if (!(i == j->plan->arch->head && j->plan->arch->head != j->plan->arch->embed && j->plan->arch->dims.tied))
            weights += (double)j->plan->arch->linear[i].out * (double)j->plan->arch->linear[i].in;
    for (int i = 0; i < j->plan->arch->nvector; i++) weights += (double)j->plan->arch->vector[i].n;
    r->bpw_file = weights > 0 ? 8.0 * (double)r->bytes / weights : 0;
    if (!s && j->options->measure) {
        oz_progress(j->run, "measuring", 0, 1);
        s = j->options->measure(j->options->ctx, result, &quality, j->arena);
        if (!s && quality && !j->plan->options.gguf) s = write_quality(j, result, quality);
    }
    if (!s) s = oz_check_cancel(j->run);
    if (!s) s = oz_job_naming(j, result);
    if (!s) s = give_name(j, result);
    if (!s) s = oz_remove_tree(j->dir);
    return s;
}

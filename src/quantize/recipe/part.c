/* The committed result of one block: DIR/block-LLLL.safetensors with the arrays of its linears and transforms, and DIR/block-LLLL.json with
 * what was measured.  The json is renamed into place last: a block whose json exists is done. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "quantize/recipe/recipe_internal.h"

static char *part_path(const char *dir, int layer, const char *ending) { return oz_format_text("%s/block-%04d.%s", dir, layer, ending); }

bool oz_part_exists(const char *dir, int layer)
{
    char *path = part_path(dir, layer, "json");
    bool there = path && oz_path_exists(path);
    oz_free(path);
    return there;
}

typedef struct entry {
    char name[320];
    const oz_array *a;
} entry;

static oz_status add(entry *list, int room, int *n, const oz_array *a, const char *prefix, const char *middle)
{
    if (*n >= room) return oz_fail(OZ_ERR_RANGE, NULL, "%s: more arrays than a block can have", prefix);
    int length = snprintf(list[*n].name, sizeof list[*n].name, "%s%s%s.%s", prefix, middle ? "." : "", middle ? middle : "", a->name);
    if (length < 0 || (size_t)length >= sizeof list[*n].name)
        return oz_fail(OZ_ERR_RANGE, NULL, "%s.%s: the name is too long", prefix, a->name);
    list[(*n)++].a = a;
    return OZ_OK;
}

static oz_status write_arrays(const char *path, const entry *list, int n)
{
    oz_out_tensor *out = oz_zalloc((size_t)n + 1, sizeof *out);
    oz_writer *w = NULL;
    if (!out) return OZ_ERR_NOMEM;
    for (int i = 0; i < n; i++) {
        const oz_view *v = &list[i].a->v;
        out[i] = (oz_out_tensor){
            .name = list[i].name, .dtype = v->dtype, .ggml_type = OZ_GGML_NONE, .rank = v->rank, .bytes = oz_array_bytes(list[i].a)};
        memcpy(out[i].shape, v->shape, sizeof out[i].shape);
    }
    oz_status s = oz_safetensors_begin(&w, path, out, n, NULL, 0, 64);
    for (int i = 0; !s && i < n; i++) {
        s = oz_writer_put(w, list[i].name, oz_array_data(list[i].a), out[i].bytes);
        if (s) oz_writer_abandon(w);
    }
    if (!s) s = oz_writer_commit(w);
    oz_free(out);
    return s;
}

oz_status oz_part_write(const char *dir, int layer, const oz_part *part)
{
    int room = part->nlinear * 12 + part->napplied * 4 + 1, n = 0;
    entry *list = oz_zalloc((size_t)room, sizeof *list);
    char *arrays = part_path(dir, layer, "safetensors"), *json = part_path(dir, layer, "json"), *text = NULL;
    oz_status s = list && arrays && json ? OZ_OK : OZ_ERR_NOMEM;
    for (int i = 0; !s && i < part->nlinear; i++) {
        const oz_linear *lin = &part->lin[i];
        for (int k = 0; !s && k < lin->w->n; k++) s = add(list, room, &n, &lin->w->a[k], lin->name, NULL);
        for (int d = 0; !s && d < lin->nside; d++)
            for (int k = 0; !s && k < lin->side[d].n; k++)
                s = add(list, room, &n, &lin->side[d].a[k], lin->name, lin->side[d].type->entry.name);
    }
    for (int i = 0; !s && i < part->napplied; i++) {
        const oz_applied *t = &part->applied[i];
        char prefix[128];
        snprintf(prefix, sizeof prefix, "transform.%.60s.%d", t->pass->name, t->site);
        for (int k = 0; !s && k < t->na; k++) s = add(list, room, &n, &t->a[k], prefix, NULL);
    }
    if (!s) s = write_arrays(arrays, list, n);
    if (!s) s = (text = oz_json_print(part->record, 1)) ? oz_write_file(json, text, strlen(text)) : OZ_ERR_NOMEM;
    oz_free(text);
    oz_free(list);
    oz_free(arrays);
    oz_free(json);
    return s;
}

oz_status oz_part_open(const char *dir, int layer, oz_ckpt **ckpt, oz_node **record, oz_arena *arena)
{
    char *arrays = part_path(dir, layer, "safetensors"), *json = part_path(dir, layer, "json"), *text = NULL;
    size_t bytes = 0;
    *ckpt = NULL;
    oz_status s = arrays && json ? OZ_OK : OZ_ERR_NOMEM;
    if (!s && record) {
        s = oz_read_file(json, (size_t)1 << 28, &text, &bytes);
        if (!s) s = oz_json_parse(record, text, bytes, json, arena);
    }
    if (!s) s = oz_ckpt_open(ckpt, arrays);
    oz_free(text);
    oz_free(arrays);
    oz_free(json);
    return s;
}

/* Copies a tensor of a part into an array; the shape is what the writer gave it. */
oz_status oz_part_array(oz_array *out, const oz_ckpt *ckpt, const char *prefix, const char *name)
{
    char full[384];
    const oz_tensor *t;
    snprintf(full, sizeof full, "%s.%s", prefix, name);
    OZ_TRY(oz_ckpt_need(ckpt, full, &t));
    OZ_TRY(oz_array_new(out, name, t->dtype, t->rank, t->shape));
    if (oz_array_bytes(out) != t->bytes)
        return oz_fail(OZ_ERR_SHAPE, NULL, "%s: %zu bytes, expected %zu", full, t->bytes, oz_array_bytes(out));
    memcpy(oz_array_data(out), t->data, t->bytes);
    return OZ_OK;
}

oz_status oz_part_linear(const oz_ckpt *ckpt, const oz_plan *p, int i, oz_linear *lin)
{
    const oz_linear_row *row = &p->arch->linear[i];
    const oz_plan_linear *l = &p->linear[i];
    *lin = (oz_linear){.name = row->name, .out = row->out, .in = row->in, .owns = true};
    lin->w = oz_zalloc(1, sizeof *lin->w);
    lin->side = l->spec->nside ? oz_zalloc((size_t)l->spec->nside, sizeof *lin->side) : NULL;
    if (!lin->w || (l->spec->nside && !lin->side)) {
        oz_linear_drop(lin);
        return OZ_ERR_NOMEM;
    }
    lin->nw = 1;
    oz_status s = oz_packed_load(lin->w, l->spec, row->out, row->in, ckpt, row->name);
    for (int d = 0; !s && d < l->spec->nside; d++) {
        const oz_sidecar_spec *spec = &l->spec->side[d];
        oz_array want[4];
        int n = 0;
        char prefix[320];
        snprintf(prefix, sizeof prefix, "%s.%s", row->name, spec->type->entry.name);
        oz_sidecar *side = &lin->side[lin->nside++];
        *side = (oz_sidecar){.type = spec->type, .opt = spec->opt, .rows = row->out, .inputs = row->in};
        s = spec->type->layout(spec->opt, row->out, row->in, l->k, want, &n);
        if (!s && !(side->a = oz_zalloc((size_t)n + 1, sizeof *side->a))) s = OZ_ERR_NOMEM;
        for (int k = 0; !s && k < n; k++) {
            s = oz_part_array(&side->a[k], ckpt, prefix, want[k].name);
            if (!s) side->n++;
        }
        if (!s && spec->type->check) s = spec->type->check(side, row->name);
    }
    if (s) oz_linear_drop(lin);
    return s;
}

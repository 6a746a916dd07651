/* model/slot.c: one linear of a model in memory.
 *   recorded   arrays NAME.codes, NAME.scale ... (and NAME.<sidecar>.<array>) of a directory Ounce wrote, mapped
 *   as stored  a dense or GGUF tensor that no fold touches, mapped; rows in GGUF's neighbour order are copied into halves order, still
 * packed folded     f32, made by the weights */
#include "model/arch/family.h"
#include "model/parts.h"
#include <stdio.h>
#include <string.h>

void oz_slot_drop(oz_slot *s)
{
    oz_linear_drop(&s->lin);
    oz_arena_free(s->arena);
    oz_free(s->bytes);
    oz_free(s->bias);
    *s = (oz_slot){0};
}

static oz_status load_side(oz_sidecar *side, const oz_sidecar_spec *spec, const oz_fmt *fmt, const oz_ckpt *ck, const char *name)
{
    const char *word = spec->type->entry.name;
    oz_array a[8];
    int n = 0;
    char full[1200];
    if (!spec->type->layout) return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "%s: sidecar %s cannot be loaded", name, word);
    /* how many columns there are is known from the first array */
    OZ_TRY(spec->type->layout(spec->opt, fmt->m, fmt->n, 0, a, &n));
    const oz_tensor *first;
    (void)snprintf(full, sizeof full, "%s.%s.%s", name, word, a[0].name);
    OZ_TRY(oz_ckpt_need(ck, full, &first));
    if (first->rank < 1 || first->shape[0] > fmt->n)
        return oz_fail(OZ_ERR_SHAPE, NULL, "%s: tensor %s holds %lld entries for %lld inputs", oz_ckpt_path(ck), full,
                       (long long)first->shape[0], (long long)fmt->n);
    OZ_TRY(spec->type->layout(spec->opt, fmt->m, fmt->n, first->shape[0], a, &n));
    *side = (oz_sidecar){.type = spec->type, .opt = spec->opt, .rows = fmt->m, .inputs = fmt->n};
    side->a = oz_zalloc((size_t)n, sizeof *side->a);
    if (!side->a) return OZ_ERR_NOMEM;
    for (int i = 0; i < n; i++) {
        const oz_tensor *t;
        (void)snprintf(full, sizeof full, "%s.%s.%s", name, word, a[i].name);
        OZ_TRY(oz_ckpt_need(ck, full, &t));
        OZ_TRY(oz_array_new(&side->a[i], a[i].name, a[i].v.dtype, a[i].v.rank, a[i].v.shape));
        side->n = i + 1;
        if (t->dtype != a[i].v.dtype || t->bytes != oz_array_bytes(&side->a[i]))
            return oz_fail(OZ_ERR_SHAPE, NULL, "%s: tensor %s holds %zu bytes of %s, expected %zu of %s", oz_ckpt_path(ck), full, t->bytes,
                           oz_dtype_name(t->dtype), oz_array_bytes(&side->a[i]), oz_dtype_name(a[i].v.dtype));
        memcpy(oz_array_data(&side->a[i]), t->data, t->bytes);
    }
    return spec->type->check ? spec->type->check(side, name) : OZ_OK;
}

static oz_status load_act(oz_act *act, const oz_node *rec, const char *where, oz_arena *arena)
{
    const char *text = oz_node_text(oz_node_get(rec, "act"), NULL);
    if (!text) return OZ_OK;
    oz_spec *spec;
    OZ_TRY(oz_spec_parse(&spec, text, where, arena));
    OZ_TRY(oz_act_from_spec(act, spec, where));
    const oz_node *range = oz_node_get(rec, "act_range");
    if (act->is_static && (!range || range->n != 2))
        return oz_fail(OZ_ERR_KEY, NULL, "%s: static activation format \"%s\" needs \"act_range\": [low, high]", where, text);
    if (range && range->n == 2) {
        act->range_lo = (float)oz_node_real(oz_node_at(range, 0), 0);
        act->range_hi = (float)oz_node_real(oz_node_at(range, 1), 0);
    }
    const oz_node *clip = oz_node_get(rec, "act_clip");
    if (clip) act->clip = (float)oz_node_real(clip, 1);
    return OZ_OK;
}

oz_status oz_slot_recorded(oz_slot *s, const oz_weights *w, const oz_node *rec, const oz_linear_row *row)
{
    const oz_ckpt *ck = oz_weights_ckpt(w);
    char where[320];
    (void)snprintf(where, sizeof where, "%s: quantization_config.tensors.%s", oz_ckpt_path(ck), row->name);
    const char *format = oz_node_text(oz_node_get(rec, "format"), NULL);
    if (!format) return oz_fail(OZ_ERR_KEY, NULL, "%s: key \"format\" is missing", where);
    if (!s->arena) OZ_TRY(oz_arena_new(&s->arena, 4096));
    oz_spec *spec;
    OZ_TRY(oz_spec_parse(&spec, format, where, s->arena));
    oz_linear *l = &s->lin;
    *l = (oz_linear){.name = row->name, .out = row->out, .in = row->in, .owns = true};
    l->w = oz_zalloc(1, sizeof *l->w);
    if (!l->w) return OZ_ERR_NOMEM;
    if (spec->type && (spec->type->flags & OZ_FMT_FOREIGN))
        return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "%s: %s lives in GGUF files only", where, spec->text);
    OZ_TRY(oz_packed_load(l->w, spec, row->out, row->in, ck, row->name));
    l->nw = 1;
    if (spec->nside) {
        l->side = oz_zalloc((size_t)spec->nside, sizeof *l->side);
        if (!l->side) return OZ_ERR_NOMEM;
        for (; l->nside < spec->nside;) {
            oz_status status = load_side(&l->side[l->nside], &spec->side[l->nside], &l->w->fmt, ck, row->name);
            l->nside++; /* dropped with the linear even when half loaded */
            OZ_TRY(status);
        }
    }
    return OZ_OK;
}

/* The rows of a tensor in neighbour order, in halves order, still in their stored form. */
static oz_status unpermuted(oz_slot *s, const oz_source *src, oz_tensor *t)
{
    size_t row = t->bytes / (size_t)t->shape[0];
    uint8_t *p = s->bytes = oz_alloc((size_t)src->rows, row);
    if (!p) return OZ_ERR_NOMEM;
    for (int64_t r = 0; r < src->rows; r++) memcpy(p + (size_t)r * row, t->data + (size_t)oz_source_row(src, r) * row, row);
    t->data = p;
    t->shape[0] = src->rows;
    t->bytes = row * (size_t)src->rows;
    return OZ_OK;
}

static oz_status fill(oz_slot *s, const oz_weights *w, const oz_node *rec, int linear)
{
    const oz_linear_row *row = &oz_weights_arch(w)->linear[linear];
    bool folded = oz_weights_folded(w, false, linear);
    OZ_TRY(oz_arena_new(&s->arena, 4096));
    if (rec && !folded)
        OZ_TRY(oz_slot_recorded(s, w, rec, row));
    else {
        oz_tensor t = {.name = row->name, .dtype = OZ_F32, .ggml_type = OZ_GGML_NONE, .rank = 2, .shape = {row->out, row->in}};
        int64_t row0 = 0;
        if (!folded) {
            OZ_TRY(oz_source_tensor(oz_weights_ckpt(w), &row->src, &t));
            row0 = row->src.row0;
            if (row->src.unpermute_heads > 0) {
                OZ_TRY(unpermuted(s, &row->src, &t));
                row0 = 0;
            }
        } else {
            t.bytes = (size_t)(row->out * row->in) * sizeof(float);
            if (!(s->bytes = oz_alloc((size_t)row->out, (size_t)row->in * sizeof(float)))) return OZ_ERR_NOMEM;
            OZ_TRY(oz_weights_matrix(w, linear, s->bytes));
            t.data = s->bytes;
        }
        s->lin = (oz_linear){.name = row->name, .out = row->out, .in = row->in, .owns = true};
        if (!(s->lin.w = oz_zalloc(1, sizeof *s->lin.w))) return OZ_ERR_NOMEM;
        OZ_TRY(oz_packed_view(s->lin.w, &t, row0, row->out, s->arena));
        s->lin.nw = 1;
    }
    if (rec) { /* an activation format may stand alone: W16A8 */
        char where[320];
        (void)snprintf(where, sizeof where, "%s: quantization_config.tensors.%s", oz_ckpt_path(oz_weights_ckpt(w)), row->name);
        OZ_TRY(load_act(&s->lin.act, rec, where, s->arena));
    }
    if (!row->bias.tensor) return OZ_OK;
    bool present;
    if (!(s->bias = oz_alloc((size_t)row->out, sizeof *s->bias))) return OZ_ERR_NOMEM;
    OZ_TRY(oz_weights_bias(w, linear, s->bias, &present));
    s->lin.bias = s->bias;
    return OZ_OK;
}

oz_status oz_slot_load(oz_slot *s, const oz_weights *w, const oz_node *record, int linear)
{
    const oz_linear_row *row = &oz_weights_arch(w)->linear[linear];
    oz_status status = fill(s, w, oz_node_get(record, row->name), linear);
    if (status) {
        oz_saved_error e;
        oz_error_save(&e, status);
        oz_slot_drop(s);
        return oz_error_restore(&e);
    }
    s->loaded = true;
    return OZ_OK;
}

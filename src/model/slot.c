/* model/slot.c: one linear in memory: mapped as it is stored where nothing has to change, else decoded, folded and kept as f32.
 * Directories Ounce wrote name a format, an activation format and sidecars for each linear in their record (recipe.h). */
#include "model/parts.h"
#include <stdio.h>
#include <string.h>

void oz_slot_drop(oz_slot *s)
{
    oz_linear_drop(&s->lin);
    oz_arena_free(s->arena);
    oz_free(s->bytes);
    oz_free(s->bias);
    memset(s, 0, sizeof *s);
}

static oz_status load_sidecars(oz_slot *s, const oz_weights *w, const oz_spec *spec, int64_t k)
{
    s->lin.side = oz_zalloc((size_t)spec->nside, sizeof *s->lin.side);
    if (!s->lin.side) return OZ_ERR_NOMEM;
    for (int d = 0; d < spec->nside; d++) {
        const oz_sidecar_spec *ss = &spec->side[d];
        oz_sidecar *side = &s->lin.side[s->lin.nside++];
        oz_array want[4];
        int n = 0;
        *side = (oz_sidecar){.type = ss->type, .opt = ss->opt, .rows = s->lin.out, .inputs = s->lin.in};
        OZ_TRY(ss->type->layout(ss->opt, s->lin.out, s->lin.in, k, want, &n));
        side->a = oz_zalloc((size_t)n + 1, sizeof *side->a);
        if (!side->a) return OZ_ERR_NOMEM;
        for (int a = 0; a < n; a++) {
            char name[1024];
            const oz_tensor *t;
            snprintf(name, sizeof name, "%s.%s.%s", s->lin.name, ss->type->entry.name, want[a].name);
            OZ_TRY(oz_ckpt_need(oz_weights_ckpt(w), name, &t));
            if (t->dtype != want[a].v.dtype || t->rank != want[a].v.rank ||
                memcmp(t->shape, want[a].v.shape, (size_t)t->rank * sizeof *t->shape))
                return oz_fail(OZ_ERR_SHAPE, "the file is damaged or of another version", "%s: type or shape differ from what '%s' stores",
                               name, spec->text);
            OZ_TRY(oz_array_new(&side->a[a], want[a].name, t->dtype, t->rank, t->shape));
            side->n++;
            memcpy(oz_array_data(&side->a[a]), t->data, oz_array_bytes(&side->a[a]));
        }
        if (ss->type->check) OZ_TRY(ss->type->check(side, s->lin.name));
    }
    return OZ_OK;
}

static oz_status load_stored(oz_slot *s, const oz_weights *w, const oz_node *entry)
{
    oz_spec *spec;
    OZ_TRY(oz_spec_parse(&spec, oz_node_text(oz_node_get(entry, "format"), ""), s->lin.name, s->arena));
    s->lin.w = oz_zalloc(1, sizeof *s->lin.w);
    if (!s->lin.w) return OZ_ERR_NOMEM;
    s->lin.owns = true;
    if (spec->type && (spec->type->flags & OZ_FMT_FOREIGN))
        return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "%s: %s lives in GGUF files only, not in %s", s->lin.name, spec->text,
                       oz_ckpt_path(oz_weights_ckpt(w)));
    OZ_TRY(oz_packed_load(s->lin.w, spec, s->lin.out, s->lin.in, oz_weights_ckpt(w), s->lin.name));
    s->lin.nw = 1;
    return spec->nside ? load_sidecars(s, w, spec, oz_node_int(oz_node_get(entry, "columns"), 0)) : OZ_OK;
}

static oz_status load_dense(oz_slot *s, const oz_weights *w, int i)
{
    const oz_linear_row *row = &oz_weights_arch(w)->linear[i];
    const oz_tensor *t;
    OZ_TRY(oz_ckpt_need(oz_weights_ckpt(w), row->src.tensor, &t));
    s->lin.w = oz_zalloc(1, sizeof *s->lin.w);
    if (!s->lin.w) return OZ_ERR_NOMEM;
    s->lin.owns = true;
    bool as_it_is = !oz_weights_folded(w, false, i) && row->src.unpermute_heads <= 0 && !row->src.transposed && t->rank == 2;
    if (as_it_is) {
        OZ_TRY(oz_packed_view(s->lin.w, t, row->src.row0, row->out, s->arena));
    } else {
        oz_tensor f32 = {.name = row->name, .dtype = OZ_F32, .ggml_type = OZ_GGML_NONE, .rank = 2, .shape = {row->out, row->in}};
        oz_tensor *kept = oz_arena_alloc(s->arena, sizeof *kept);
        if (!oz_mul_size((size_t)(row->out * row->in), sizeof(float), &f32.bytes) || !kept || !(s->bytes = oz_alloc(f32.bytes, 1)))
            return OZ_ERR_NOMEM;
        f32.data = s->bytes;
        *kept = f32;
        OZ_TRY(oz_weights_matrix(w, i, s->bytes));
        OZ_TRY(oz_packed_view(s->lin.w, kept, 0, row->out, s->arena));
    }
    s->lin.nw = 1;
    return OZ_OK;
}

oz_status oz_slot_load(oz_slot *s, const oz_weights *w, const oz_node *record, int i)
{
    const oz_linear_row *row = &oz_weights_arch(w)->linear[i];
    const oz_node *entry = oz_node_get(oz_node_get(record, "tensors"), row->name);
    *s = (oz_slot){.lin = {.name = row->name, .out = row->out, .in = row->in}};
    oz_status status = oz_arena_new(&s->arena, 0);
    if (!status) status = oz_node_get(entry, "format") && !oz_weights_folded(w, false, i) ? load_stored(s, w, entry) : load_dense(s, w, i);
    const char *act = oz_node_text(oz_node_get(entry, "act"), NULL);
    if (!status && act) {
        oz_spec *spec;
        status = oz_spec_parse(&spec, act, row->name, s->arena);
        if (!status) status = oz_act_from_spec(&s->lin.act, spec, row->name);
        const oz_node *range = oz_node_get(entry, "act_range");
        if (!status && range) {
            s->lin.act.range_lo = (float)oz_node_real(oz_node_at(range, 0), 0);
            s->lin.act.range_hi = (float)oz_node_real(oz_node_at(range, 1), 0);
        }
        const oz_node *clip = oz_node_get(entry, "act_clip");
        if (!status && clip) s->lin.act.clip = (float)oz_node_real(clip, 1);
    }
    if (!status && row->bias.tensor) {
        bool present = false;
        s->bias = oz_alloc((size_t)row->out, sizeof *s->bias);
        status = s->bias ? oz_weights_bias(w, i, s->bias, &present) : OZ_ERR_NOMEM;
        s->lin.bias = s->bias;
    }
    s->loaded = !status;
    if (status) {
        oz_saved_error e;
        oz_error_save(&e, status);
        oz_slot_drop(s);
        status = oz_error_restore(&e);
    }
    return status;
}

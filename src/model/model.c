/* model/model.c: a model that runs: linears and vectors loaded when needed, blocks dropped when a caller streams through them. */
#include "model/parts.h"
#include <string.h>

const oz_arch *oz_arch_of(const oz_model *m) { return oz_weights_arch(m->weights); }
const oz_arch *oz_model_arch(const oz_model *m) { return oz_arch_of(m); }
const oz_ckpt *oz_model_ckpt(const oz_model *m) { return oz_weights_ckpt(m->weights); }
const oz_node *oz_model_record(const oz_model *m) { return m->record; }

oz_status oz_model_of_weights(oz_model **out, const oz_weights *w, const oz_model_options *o)
{
    const oz_arch *arch = oz_weights_arch(w);
    oz_model *m = oz_zalloc(1, sizeof *m);
    *out = NULL;
    if (!m) return OZ_ERR_NOMEM;
    m->weights = w, m->opt = *o;
    m->nslot = arch->nlinear + 1;
    m->slot = oz_zalloc((size_t)m->nslot, sizeof *m->slot);
    m->vec = oz_zalloc((size_t)arch->nvector + 1, sizeof *m->vec);
    m->block = oz_zalloc((size_t)arch->dims.layers, sizeof *m->block);
    oz_status s = m->slot && m->vec && m->block ? OZ_OK : OZ_ERR_NOMEM;
    if (!s) s = oz_arena_new(&m->scratch, 0);
    if (!s) s = oz_memo_new(&m->memo);
    const oz_node *q = oz_node_get(oz_ckpt_config(oz_weights_ckpt(w)), "quantization_config");
    if (strcmp(oz_node_text(oz_node_get(q, "quant_method"), ""), "ounce") == 0)
        m->record = q;
    else if (!s && q)
        s = oz_fail(OZ_ERR_UNSUPPORTED, "convert it with its own tools first", "%s: quant_method %s is not read yet",
                    oz_ckpt_path(oz_weights_ckpt(w)), oz_node_text(oz_node_get(q, "quant_method"), "?"));
    if (s) {
        oz_model_free(m);
        return s;
    }
    *out = m;
    return OZ_OK;
}

oz_status oz_model_open(oz_model **out, const char *path, const oz_model_options *o, oz_run *run)
{
    oz_ckpt *ckpt = NULL;
    oz_arch *arch = NULL;
    oz_weights *w = NULL;
    *out = NULL;
    oz_status s = oz_ckpt_open(&ckpt, path);
    if (!s) s = oz_arch_open(&arch, ckpt);
    if (!s) s = oz_weights_new(&w, ckpt, arch);
    if (!s) s = oz_check_cancel(run);
    if (!s) s = oz_model_of_weights(out, w, o);
    if (s) {
        oz_weights_free(w);
        oz_arch_free(arch);
        oz_ckpt_close(ckpt);
        return s;
    }
    (*out)->own_ckpt = ckpt, (*out)->own_arch = arch, (*out)->own_weights = w;
    return OZ_OK;
}

static void drop_vector(oz_model *m, int i)
{
    oz_free(m->vec[i]);
    m->vec[i] = NULL;
}

void oz_model_free(oz_model *m)
{
    if (!m) return;
    for (int i = 0; m->slot && i < m->nslot; i++) oz_slot_drop(&m->slot[i]);
    if (m->vec)
        for (int i = 0; i < oz_arch_of(m)->nvector; i++) drop_vector(m, i);
    for (int l = 0; m->block && l < oz_arch_of(m)->dims.layers; l++) {
        oz_free(m->block[l].lin);
        oz_free(m->block[l].vec);
    }
    oz_free(m->slot);
    oz_free(m->vec);
    oz_free(m->block);
    oz_free(m->rope.cs);
    oz_memo_free(m->memo);
    oz_arena_free(m->scratch);
    oz_weights_free(m->own_weights);
    oz_arch_free(m->own_arch);
    oz_ckpt_close(m->own_ckpt);
    oz_free(m);
}

oz_status oz_model_load(oz_model *m, int i, oz_linear **out)
{
    if (!m->slot[i].loaded) OZ_TRY(oz_slot_load(&m->slot[i], m->weights, m->record, i));
    *out = &m->slot[i].lin;
    return OZ_OK;
}

oz_status oz_model_linear(oz_model *m, int i, const oz_linear **out)
{
    oz_linear *lin;
    OZ_TRY(oz_model_load(m, i, &lin));
    *out = lin;
    return OZ_OK;
}

oz_status oz_model_vec(oz_model *m, int i, const float **out)
{
    if (!m->vec[i]) {
        float *v = oz_alloc((size_t)oz_arch_of(m)->vector[i].n, sizeof *v);
        oz_status s = v ? oz_weights_vector(m->weights, i, v) : OZ_ERR_NOMEM;
        if (s) {
            oz_free(v);
            return s;
        }
        m->vec[i] = v;
    }
    *out = m->vec[i];
    return OZ_OK;
}

oz_status oz_model_block(oz_model *m, int layer, oz_block **out)
{
    const oz_arch *arch = oz_arch_of(m);
    oz_block *b = &m->block[layer];
    if (!b->lin) {
        int n = 0, vn = 0, first = -1, vfirst = -1;
        for (int i = 0; i < arch->nlinear; i++)
            if (arch->linear[i].layer == layer) first = first < 0 ? i : first, n = i - first + 1;
        for (int i = 0; i < arch->nvector; i++)
            if (arch->vector[i].layer == layer) vfirst = vfirst < 0 ? i : vfirst, vn = i - vfirst + 1;
        b->first = first, b->n = n, b->vfirst = vfirst, b->vn = vn;
        b->lin = oz_zalloc((size_t)n + 1, sizeof *b->lin);
        b->vec = oz_zalloc((size_t)vn + 1, sizeof *b->vec);
        if (!b->lin || !b->vec) return OZ_ERR_NOMEM;
    }
    for (int i = 0; i < b->n; i++) {
        oz_linear *lin;
        OZ_TRY(oz_model_load(m, b->first + i, &lin));
        b->lin[i] = *lin;
        b->lin[i].owns = false;
    }
    for (int i = 0; i < b->vn; i++) {
        const float *v;
        OZ_TRY(oz_model_vec(m, b->vfirst + i, &v));
        b->vec[i] = m->vec[b->vfirst + i];
    }
    *out = b;
    return OZ_OK;
}

void oz_model_drop_block(oz_model *m, int layer)
{
    const oz_arch *arch = oz_arch_of(m);
    if (layer < 0 || layer >= arch->dims.layers) return;
    for (int i = 0; i < arch->nlinear; i++)
        if (arch->linear[i].layer == layer) {
            oz_slot_drop(&m->slot[i]);
            const oz_tensor *t = arch->linear[i].src.tensor ? oz_ckpt_find(oz_weights_ckpt(m->weights), arch->linear[i].src.tensor) : NULL;
            if (t && m->opt.stream) oz_ckpt_drop_pages(oz_weights_ckpt(m->weights), t);
        }
    for (int i = 0; i < arch->nvector; i++)
        if (arch->vector[i].layer == layer) drop_vector(m, i);
    oz_free(m->block[layer].lin);
    oz_free(m->block[layer].vec);
    m->block[layer] = (oz_block){0};
}

oz_status oz_model_replace(oz_model *m, int i, oz_linear *lin)
{
    oz_slot *s = &m->slot[i];
    float *bias = s->bias;
    s->bias = NULL; /* the bias stays: the new linear may point at it */
    oz_slot_drop(s);
    s->lin = *lin;
    s->bias = bias;
    s->loaded = true;
    memset(lin, 0, sizeof *lin);
    return OZ_OK;
}

oz_status oz_model_apply(oz_model *m, const int32_t *lin, int n, oz_mat x, const oz_mat *y, oz_run *run)
{
    const oz_linear *l[64];
    if (n > 64) return oz_fail(OZ_ERR_RANGE, NULL, "%s: %d linears share an input; at most 64", oz_arch_of(m)->linear[lin[0]].name, n);
    for (int i = 0; i < n; i++) OZ_TRY(oz_model_linear(m, lin[i], &l[i]));
    oz_memo_reset(m->memo);
    oz_input in = {x, m->memo};
    oz_apply how = {.exact = m->opt.exact};
    return oz_linear_apply(l, n, &in, y, &how, run);
}

/* model/model.c: a model that runs: an architecture, weights, and slots into which linears are loaded when a pass needs them. */
#include "model/parts.h"
#include "model/arch/family.h"
#include <string.h>

const oz_arch *oz_arch_of(const oz_model *m) { return oz_weights_arch(m->weights); }
const oz_arch *oz_model_arch(const oz_model *m) { return oz_arch_of(m); }
const oz_ckpt *oz_model_ckpt(const oz_model *m) { return oz_weights_ckpt(m->weights); }
const oz_node *oz_model_record(const oz_model *m) { return m->record; }

static oz_status prepare(oz_model *m, const oz_model_options *o)
{
    const oz_arch *a = oz_arch_of(m);
    m->opt = *o;
    if (!m->opt.kv) m->opt.kv = "f16";
    if (strcmp(m->opt.kv, "f16") && strcmp(m->opt.kv, "f32"))
        return oz_fail(OZ_ERR_UNSUPPORTED, "f16 and f32 exist", "KV format \"%s\" is not built", m->opt.kv);
    m->record = oz_node_get(oz_ckpt_config(oz_model_ckpt(m)), "quantization_config");
    m->nslot = a->nlinear + (oz_weights_untied(m->weights) ? 0 : 1);
    m->slot = oz_zalloc((size_t)m->nslot, sizeof *m->slot);
    m->vec = oz_zalloc((size_t)a->nvector + 1, sizeof *m->vec);
    m->block = oz_zalloc((size_t)a->dims.layers, sizeof *m->block);
    if (!m->slot || !m->vec || !m->block) return OZ_ERR_NOMEM;
    for (int i = 0; i < a->nlinear; i++) {
        int L = a->linear[i].layer;
        if (L < 0) continue;
        if (!m->block[L].n) m->block[L].first = i;
        m->block[L].n++;
    }
    for (int i = 0; i < a->nvector; i++) {
        int L = a->vector[i].layer;
        if (L < 0) continue;
        if (!m->block[L].vn) m->block[L].vfirst = i;
        m->block[L].vn++;
    }
    OZ_TRY(oz_arena_new(&m->scratch, 0));
    return oz_memo_new(&m->memo);
}

oz_status oz_model_of_weights(oz_model **out, const oz_weights *w, const oz_model_options *o)
{
    oz_model_options usual = OZ_MODEL_OPTIONS_INIT;
    oz_model *m = oz_zalloc(1, sizeof *m);
    *out = NULL;
    if (!m) return OZ_ERR_NOMEM;
    m->weights = w;
    oz_status s = prepare(m, o ? o : &usual);
    if (s)
        oz_model_free(m);
    else
        *out = m;
    return s;
}

oz_status oz_model_open(oz_model **out, const char *path, const oz_model_options *o, oz_run *run)
{
    oz_model_options usual = OZ_MODEL_OPTIONS_INIT;
    oz_model *m = oz_zalloc(1, sizeof *m);
    (void)run;
    *out = NULL;
    if (!m) return OZ_ERR_NOMEM;
    oz_status s = oz_ckpt_open(&m->own_ckpt, path);
    if (!s) s = oz_arch_open(&m->own_arch, m->own_ckpt);
    if (!s) s = oz_weights_new(&m->own_weights, m->own_ckpt, m->own_arch);
    m->weights = m->own_weights;
    if (!s) s = prepare(m, o ? o : &usual);
    if (s) {
        oz_saved_error e;
        oz_error_save(&e, s);
        oz_model_free(m);
        return oz_error_restore(&e);
    }
    *out = m;
    return OZ_OK;
}

void oz_model_free(oz_model *m)
{
    if (!m) return;
    for (int i = 0; m->slot && i < m->nslot; i++)
        if (m->slot[i].loaded) oz_slot_drop(&m->slot[i]);
    if (m->vec && m->weights)
        for (int i = 0; i < oz_arch_of(m)->nvector; i++) oz_free(m->vec[i]);
    for (int L = 0; m->block && L < oz_arch_of(m)->dims.layers; L++) {
        oz_free(m->block[L].lin);
        oz_free(m->block[L].vec);
    }
    oz_free(m->slot);
    oz_free(m->vec);
    oz_free(m->block);
    oz_free(m->rope.cs);
    oz_arena_free(m->scratch);
    oz_memo_free(m->memo);
    oz_weights_free(m->own_weights);
    oz_arch_free(m->own_arch);
    oz_ckpt_close(m->own_ckpt);
    oz_free(m);
}

oz_status oz_model_load(oz_model *m, int i, oz_linear **out)
{
    if (i < 0 || i >= oz_arch_of(m)->nlinear || i >= m->nslot)
        return oz_fail(OZ_ERR_RANGE, NULL, "%s has %d linears, asked for number %d", oz_arch_of(m)->name, oz_arch_of(m)->nlinear, i);
    if (!m->slot[i].loaded) OZ_TRY(oz_slot_load(&m->slot[i], m->weights, oz_node_get(m->record, "tensors"), i));
    *out = &m->slot[i].lin;
    return OZ_OK;
}
oz_status oz_model_linear(oz_model *m, int i, const oz_linear **out)
{
    oz_linear *l;
    OZ_TRY(oz_model_load(m, i, &l));
    *out = l;
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
    if (layer < 0 || layer >= oz_arch_of(m)->dims.layers)
        return oz_fail(OZ_ERR_RANGE, NULL, "%s has %d blocks, asked for block %d", oz_arch_of(m)->name, oz_arch_of(m)->dims.layers, layer);
    oz_block *b = &m->block[layer];
    if (!b->lin) b->lin = oz_zalloc((size_t)b->n, sizeof *b->lin);
    if (!b->vec) b->vec = oz_zalloc((size_t)b->vn, sizeof *b->vec);
    if (!b->lin || !b->vec) return OZ_ERR_NOMEM;
    for (int i = 0; i < b->n; i++) {
        oz_linear *l;
        OZ_TRY(oz_model_load(m, b->first + i, &l));
        b->lin[i] = *l; /* a view: the slot owns it */
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
    oz_block *b = &m->block[layer];
    for (int i = 0; i < b->n; i++)
        if (m->slot[b->first + i].loaded) oz_slot_drop(&m->slot[b->first + i]);
    for (int i = 0; i < b->vn; i++) {
        oz_free(m->vec[b->vfirst + i]);
        m->vec[b->vfirst + i] = NULL;
    }
    if (m->opt.stream)
        for (int i = 0; i < b->n; i++) {
            const char *name = oz_arch_of(m)->linear[b->first + i].src.tensor;
            const oz_tensor *t = oz_ckpt_find(oz_model_ckpt(m), name);
            if (t) oz_ckpt_drop_pages(oz_model_ckpt(m), t);
        }
}

oz_status oz_model_replace(oz_model *m, int i, oz_linear *l)
{
    const oz_arch *a = oz_arch_of(m);
    if (i < 0 || i >= a->nlinear || l->out != a->linear[i].out || l->in != a->linear[i].in)
        return oz_fail(OZ_ERR_SHAPE, NULL, "%s: a linear of %lld x %lld cannot take place %d", l->name ? l->name : "(no name)",
                       (long long)l->out, (long long)l->in, i);
    oz_slot fresh = {.lin = *l, .loaded = true};
    fresh.lin.name = a->linear[i].name;
    if (a->linear[i].bias.tensor) { /* a bias that is not owned may go with the old slot: keep a copy here */
        bool present;
        if (!(fresh.bias = oz_alloc((size_t)l->out, sizeof(float)))) return OZ_ERR_NOMEM;
        oz_status s = OZ_OK;
        if (l->bias)
            memcpy(fresh.bias, l->bias, (size_t)l->out * sizeof(float));
        else
            s = oz_weights_bias(m->weights, i, fresh.bias, &present);
        if (s) {
            oz_free(fresh.bias);
            return s;
        }
        fresh.lin.bias = fresh.bias;
    }
    if (m->slot[i].loaded) oz_slot_drop(&m->slot[i]);
    m->slot[i] = fresh;
    *l = (oz_linear){0};
    return OZ_OK;
}

oz_status oz_model_apply(oz_model *m, const int32_t *lin, int n, oz_mat x, const oz_mat *y, oz_run *run)
{
    const oz_linear *l[8];
    for (int i = 0; i < n; i++) OZ_TRY(oz_model_linear(m, lin[i], &l[i]));
    oz_memo_reset(m->memo);
    oz_input in = {x, m->memo};
    oz_apply how = {.exact = m->opt.exact};
    return oz_linear_apply(l, n, &in, y, &how, run);
}

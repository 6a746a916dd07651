/* model/weights.c: matrices and vectors of a checkpoint with pending folds applied.
 *
 * A fold is recorded, not executed: it runs in f64 when a matrix is loaded, so a transform over a model larger than memory costs no
 * rewrite. Folding only one of a tied embedding and head makes the head a linear of its own (appended last). */
#include "model/arch/family.h"
#include "model/parts.h"
#include <string.h>

typedef struct fold {
    oz_site_row row;
    oz_end *ends; /* copies: producers, then consumers */
    oz_fold_fn fn;
    const void *self;
} fold;
struct oz_weights {
    const oz_ckpt *ckpt;
    const oz_arch *base;
    oz_arch *untied;
    fold *fold;
    int n, room;
};

oz_status oz_weights_new(oz_weights **out, const oz_ckpt *ckpt, const oz_arch *arch)
{
    oz_weights *w = oz_zalloc(1, sizeof *w);
    *out = w;
    if (!w) return OZ_ERR_NOMEM;
    w->ckpt = ckpt, w->base = arch;
    return OZ_OK;
}

void oz_weights_free(oz_weights *w)
{
    if (!w) return;
    oz_weights_fold_rewind(w, 0);
    oz_free(w->fold);
    oz_free(w);
}

const oz_arch *oz_weights_arch(const oz_weights *w) { return w->untied ? w->untied : w->base; }
const oz_ckpt *oz_weights_ckpt(const oz_weights *w) { return w->ckpt; }
int oz_weights_fold_count(const oz_weights *w) { return w->n; }
bool oz_weights_untied(const oz_weights *w) { return w->untied != NULL; }

/* Which of a tied pair an end means: columns of the head, features of the embedding. */
static bool is_head(const oz_weights *w, const oz_end *e) { return e->side == OZ_END_COLS && e->linear == w->base->head; }
static bool is_embed(const oz_weights *w, const oz_end *e) { return e->side == OZ_END_EMBED && e->linear == w->base->embed; }

/* Drops the untied arch when no remaining fold tells head and embedding apart. */
static oz_status retie(oz_weights *w)
{
    bool apart = false;
    for (int i = 0; i < w->n && !apart; i++) {
        bool head = false, embed = false;
        for (int k = 0; k < w->fold[i].row.nprod + w->fold[i].row.ncons; k++) {
            head = head || is_head(w, &w->fold[i].ends[k]);
            embed = embed || is_embed(w, &w->fold[i].ends[k]);
        }
        apart = head != embed;
    }
    apart = apart && w->base->head == w->base->embed;
    if (apart && !w->untied) return oz_arch_untie(&w->untied, w->base);
    if (!apart && w->untied) {
        oz_arch_free(w->untied);
        w->untied = NULL;
    }
    return OZ_OK;
}

oz_status oz_weights_fold(oz_weights *w, const oz_site_row *row, oz_fold_fn fn, const void *self)
{
    if (w->n == w->room) {
        int room = w->room ? 2 * w->room : 16;
        fold *more = oz_realloc(w->fold, (size_t)room, sizeof *more);
        if (!more) return OZ_ERR_NOMEM;
        w->fold = more, w->room = room;
    }
    fold *f = &w->fold[w->n];
    *f = (fold){.row = *row, .fn = fn, .self = self};
    f->ends = oz_alloc((size_t)(row->nprod + row->ncons), sizeof *f->ends);
    if (!f->ends) return OZ_ERR_NOMEM;
    if (row->nprod) memcpy(f->ends, row->prod, (size_t)row->nprod * sizeof *f->ends);
    if (row->ncons) memcpy(f->ends + row->nprod, row->cons, (size_t)row->ncons * sizeof *f->ends);
    f->row.prod = f->ends, f->row.cons = f->ends + row->nprod;
    w->n++;
    return retie(w);
}

void oz_weights_fold_rewind(oz_weights *w, int count)
{
    while (w->n > count) oz_free(w->fold[--w->n].ends);
    oz_status s = retie(w); /* only ever drops the untied arch here */
    (void)s;
}

/* Does this end mean linear i of the current arch? */
static bool meets(const oz_weights *w, const oz_end *e, int i)
{
    if (e->side == OZ_END_GAIN || e->side == OZ_END_GAIN_BIAS) return false;
    if (!w->untied || (i != w->base->embed && i != w->untied->head)) return e->linear == i;
    return i == w->untied->head ? is_head(w, e) : is_embed(w, e);
}

bool oz_weights_folded(const oz_weights *w, bool vector, int index)
{
    for (int i = 0; i < w->n; i++)
        for (int k = 0; k < w->fold[i].row.nprod + w->fold[i].row.ncons; k++) {
            const oz_end *e = &w->fold[i].ends[k];
            bool gain = e->side == OZ_END_GAIN || e->side == OZ_END_GAIN_BIAS;
            if (vector ? gain && e->linear == index : meets(w, e, index)) return true;
        }
    return false;
}

static oz_status run_folds(const oz_weights *w, bool vector, int index, bool bias, double *x, int64_t rows, int64_t cols)
{
    for (int i = 0; i < w->n; i++)
        for (int k = 0; k < w->fold[i].row.nprod + w->fold[i].row.ncons; k++) {
            const oz_end *e = &w->fold[i].ends[k];
            bool gain = e->side == OZ_END_GAIN || e->side == OZ_END_GAIN_BIAS;
            bool hit = vector ? gain && e->linear == index : meets(w, e, index) && (e->side == OZ_END_BIAS) == bias;
            if (hit) OZ_TRY(w->fold[i].fn(w->fold[i].self, &w->fold[i].row, e, x, rows, cols));
        }
    return OZ_OK;
}

/* GGUF's llama order keeps pairs (2i, 2i+1) of a head together; halves order (i, i + D/2) is used everywhere here. */
static int64_t source_row(const oz_source *s, int64_t rows, int64_t r)
{
    if (s->unpermute_heads <= 0) return r;
    int64_t d = rows / s->unpermute_heads, h = r / d, i = r % d;
    return h * d + (i < d / 2 ? 2 * i : 2 * (i - d / 2) + 1);
}

static oz_status read_rows(const oz_weights *w, const oz_source *s, int64_t out, int64_t in, int64_t row0, int64_t rows, float *x)
{
    const oz_tensor *t;
    OZ_TRY(oz_ckpt_need(w->ckpt, s->tensor, &t));
    if (s->transposed) return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "%s: transposed tensors are not read yet", s->tensor);
    int64_t base = s->row0 + (s->expert > 0 ? s->expert * out : 0);
    if (s->unpermute_heads <= 0) return oz_tensor_rows(t, base + row0, rows, x);
    for (int64_t r = 0; r < rows; r++) OZ_TRY(oz_tensor_rows(t, base + source_row(s, out, row0 + r), 1, x + r * in));
    return OZ_OK;
}

static const oz_node *record_of(const oz_weights *w)
{
    const oz_node *q = oz_node_get(oz_ckpt_config(w->ckpt), "quantization_config");
    return strcmp(oz_node_text(oz_node_get(q, "quant_method"), ""), "ounce") == 0 ? q : NULL;
}

static oz_status decode_stored(const oz_weights *w, int i, float *x)
{
    oz_slot slot = {0};
    const oz_linear_row *row = &oz_weights_arch(w)->linear[i];
    OZ_TRY(oz_slot_load(&slot, w, record_of(w), i));
    oz_status s = oz_linear_decode(&slot.lin, oz_mat_of(x, row->out, row->in));
    oz_slot_drop(&slot);
    return s;
}

bool oz_weights_is_stored(const oz_weights *w, int i)
{
    return oz_node_get(oz_node_get(oz_node_get(record_of(w), "tensors"), oz_weights_arch(w)->linear[i].name), "format") != NULL;
}

oz_status oz_weights_matrix(const oz_weights *w, int i, float *x)
{
    const oz_linear_row *row = &oz_weights_arch(w)->linear[i];
    if (oz_weights_is_stored(w, i))
        OZ_TRY(decode_stored(w, i, x));
    else
        OZ_TRY(read_rows(w, &row->src, row->out, row->in, 0, row->out, x));
    if (!oz_weights_folded(w, false, i)) return OZ_OK;
    double *f = oz_alloc((size_t)(row->out * row->in), sizeof *f);
    if (!f) return OZ_ERR_NOMEM;
    for (int64_t k = 0; k < row->out * row->in; k++) f[k] = x[k];
    oz_status s = run_folds(w, false, i, false, f, row->out, row->in);
    for (int64_t k = 0; !s && k < row->out * row->in; k++) x[k] = (float)f[k];
    oz_free(f);
    return s;
}

oz_status oz_weights_rows(const oz_weights *w, int i, int64_t row0, int64_t rows, float *x)
{
    const oz_linear_row *row = &oz_weights_arch(w)->linear[i];
    if (row0 < 0 || rows < 0 || row0 + rows > row->out)
        return oz_fail(OZ_ERR_RANGE, NULL, "%s: rows %lld to %lld of %lld", row->name, (long long)row0, (long long)(row0 + rows),
                       (long long)row->out);
    if (!oz_weights_folded(w, false, i) && !oz_weights_is_stored(w, i)) return read_rows(w, &row->src, row->out, row->in, row0, rows, x);
    float *all = oz_alloc((size_t)(row->out * row->in), sizeof *all);
    oz_status s = all ? oz_weights_matrix(w, i, all) : OZ_ERR_NOMEM;
    if (!s) memcpy(x, all + row0 * row->in, (size_t)(rows * row->in) * sizeof *x);
    oz_free(all);
    return s;
}

oz_status oz_weights_vector(const oz_weights *w, int i, float *x)
{
    const oz_vector_row *v = &oz_weights_arch(w)->vector[i];
    const oz_tensor *t;
    OZ_TRY(oz_ckpt_need(w->ckpt, v->src.tensor, &t));
    if (t->ggml_type > 1 && t->ggml_type != 30)
        return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "%s: a vector stored in blocks (ggml type %d)", t->name, t->ggml_type);
    oz_to_f32(t->dtype, t->data, x, v->n);
    if (!oz_weights_folded(w, true, i)) return OZ_OK;
    double *f = oz_alloc((size_t)v->n, sizeof *f);
    if (!f) return OZ_ERR_NOMEM;
    for (int64_t k = 0; k < v->n; k++) f[k] = x[k];
    oz_status s = run_folds(w, true, i, false, f, 1, v->n);
    for (int64_t k = 0; !s && k < v->n; k++) x[k] = (float)f[k];
    oz_free(f);
    return s;
}

oz_status oz_weights_bias(const oz_weights *w, int i, float *x, bool *present)
{
    const oz_linear_row *row = &oz_weights_arch(w)->linear[i];
    *present = row->bias.tensor != NULL;
    if (!*present) return OZ_OK;
    const oz_tensor *t;
    OZ_TRY(oz_ckpt_need(w->ckpt, row->bias.tensor, &t));
    float *all = oz_alloc((size_t)(row->bias.row0 + row->out), sizeof *all);
    double *f = oz_alloc((size_t)row->out, sizeof *f);
    oz_status s = all && f ? OZ_OK : OZ_ERR_NOMEM;
    if (!s) {
        oz_to_f32(t->dtype, t->data, all, row->bias.row0 + row->out);
        for (int64_t r = 0; r < row->out; r++) f[r] = all[row->bias.row0 + source_row(&row->bias, row->out, r)];
        s = run_folds(w, false, i, true, f, 1, row->out);
        for (int64_t r = 0; !s && r < row->out; r++) x[r] = (float)f[r];
    }
    oz_free(all);
    oz_free(f);
    return s;
}

/* model/weights.c: the tensors of a checkpoint as f32 matrices [out x in], with folds that are recorded and applied in f64 when a matrix is
 * read.
 *
 * A fold is (site row, function, self). It touches a linear when one of the row's ends names it; folds apply in the order they were added.
 * Ends that meet columns (and the embedding) act on each row alone, so such a matrix is folded a strip of rows at a time; an end that meets
 * rows may mix them and gets the whole matrix. A tied head is addressed as the columns of the embedding's linear until a fold touches one
 * and not the other: then the head becomes a linear of its own, last in oz_weights_arch(). */
#include "model/arch/family.h"
#include "model/parts.h"
#include "ounce/format.h"
#include <string.h>

typedef struct fold {
    const oz_site_row *row;
    oz_fold_fn fn;
    const void *self;
} fold;
struct oz_weights {
    const oz_ckpt *ckpt;
    const oz_arch *arch;
    oz_arch *split; /* the arch with the head apart; made when first needed */
    fold *fold;
    int nfold, room;
    bool untied;
    const oz_node *record;
};

oz_status oz_weights_new(oz_weights **out, const oz_ckpt *ckpt, const oz_arch *arch)
{
    *out = oz_zalloc(1, sizeof **out);
    if (!*out) return OZ_ERR_NOMEM;
    **out = (oz_weights){
        .ckpt = ckpt, .arch = arch, .record = oz_node_get(oz_node_get(oz_ckpt_config(ckpt), "quantization_config"), "tensors")};
    return OZ_OK;
}
void oz_weights_free(oz_weights *w)
{
    if (!w) return;
    oz_arch_free(w->split);
    oz_free(w->fold);
    oz_free(w);
}
const oz_arch *oz_weights_arch(const oz_weights *w) { return w->untied ? w->split : w->arch; }
const oz_ckpt *oz_weights_ckpt(const oz_weights *w) { return w->ckpt; }
bool oz_weights_untied(const oz_weights *w) { return w->untied; }
int oz_weights_fold_count(const oz_weights *w) { return w->nfold; }

/* ---- which folds touch what -----------------------------------------------------------------------------------------------------------
 */
typedef enum { TARGET_LINEAR, TARGET_EMBED, TARGET_HEAD, TARGET_BIAS, TARGET_VECTOR } target_kind;
typedef struct target {
    target_kind kind;
    int index;
} target;

/* An index of either arch, as the thing that ends name. Ends may come from the arch before or after untying. */
static target linear_target(const oz_weights *w, int i)
{
    if (i == w->arch->nlinear) return (target){TARGET_HEAD, w->arch->head};
    if (w->arch->head == w->arch->embed && i == w->arch->embed) return (target){TARGET_EMBED, i};
    return (target){TARGET_LINEAR, i};
}
static bool touches(const oz_weights *w, const oz_end *e, target t)
{
    bool vector = e->side == OZ_END_GAIN || e->side == OZ_END_GAIN_BIAS;
    if (t.kind == TARGET_VECTOR) return vector && e->linear == t.index;
    if (vector) return false;
    if (t.kind == TARGET_BIAS) return e->side == OZ_END_BIAS && e->linear == t.index;
    if (e->side == OZ_END_BIAS) return false;
    if (t.kind == TARGET_EMBED) return e->linear == t.index && e->side == OZ_END_EMBED;
    if (t.kind == TARGET_HEAD) return e->linear == w->arch->nlinear || (e->linear == w->arch->embed && e->side == OZ_END_COLS);
    return e->linear == t.index;
}
static const oz_end *end_of(const oz_weights *w, const oz_site_row *r, target t, int from, int *next)
{
    for (int i = from; i < r->nprod + r->ncons; i++) {
        const oz_end *e = i < r->nprod ? &r->prod[i] : &r->cons[i - r->nprod];
        if (touches(w, e, t)) {
            *next = i + 1;
            return e;
        }
    }
    return NULL;
}
static bool touched(const oz_weights *w, target t)
{
    int next;
    for (int f = 0; f < w->nfold; f++)
        if (end_of(w, w->fold[f].row, t, 0, &next)) return true;
    return false;
}
/* Does any fold mix rows of the target? */
static bool mixes_rows(const oz_weights *w, target t)
{
    for (int f = 0; f < w->nfold; f++)
        for (int i = 0; i < w->fold[f].row->nprod + w->fold[f].row->ncons;) {
            const oz_end *e = end_of(w, w->fold[f].row, t, i, &i);
            if (!e) break;
            if (e->side == OZ_END_ROWS) return true;
        }
    return false;
}
static oz_status apply(const oz_weights *w, target t, double *x, int64_t rows, int64_t cols)
{
    for (int f = 0; f < w->nfold; f++)
        for (int i = 0; i < w->fold[f].row->nprod + w->fold[f].row->ncons;) {
            const oz_end *e = end_of(w, w->fold[f].row, t, i, &i);
            if (!e) break;
            OZ_TRY(w->fold[f].fn(w->fold[f].self, w->fold[f].row, e, x, rows, cols));
        }
    return OZ_OK;
}

static oz_status settle_tie(oz_weights *w)
{
    w->untied = false;
    if (w->arch->head != w->arch->embed) return OZ_OK;
    target e = {TARGET_EMBED, w->arch->embed}, h = {TARGET_HEAD, w->arch->embed};
    for (int f = 0; f < w->nfold && !w->untied; f++) {
        int next;
        w->untied = (end_of(w, w->fold[f].row, e, 0, &next) != NULL) != (end_of(w, w->fold[f].row, h, 0, &next) != NULL);
    }
    return w->untied && !w->split ? oz_arch_untie(&w->split, w->arch) : OZ_OK;
}
oz_status oz_weights_fold(oz_weights *w, const oz_site_row *row, oz_fold_fn fn, const void *self)
{
    if (w->nfold == w->room) {
        int room = w->room ? 2 * w->room : 64;
        fold *more = oz_realloc(w->fold, (size_t)room, sizeof *more);
        if (!more) return OZ_ERR_NOMEM;
        w->fold = more;
        w->room = room;
    }
    w->fold[w->nfold++] = (fold){row, fn, self};
    oz_status s = settle_tie(w);
    if (s) w->nfold--;
    return s;
}
void oz_weights_fold_rewind(oz_weights *w, int count)
{
    if (count < 0 || count >= w->nfold) return;
    w->nfold = count;
    (void)settle_tie(w); /* never makes an arch it did not have */
}
bool oz_weights_folded(const oz_weights *w, bool vector, int i)
{
    if (vector) return touched(w, (target){TARGET_VECTOR, i});
    target t = linear_target(w, i), bias = {TARGET_BIAS, t.index};
    if (t.kind == TARGET_EMBED && !w->untied && touched(w, (target){TARGET_HEAD, t.index})) return true;
    return touched(w, t) || touched(w, bias);
}

/* ---- reading ---------------------------------------------------------------------------------------------------------------------------
 */
oz_status oz_source_tensor(const oz_ckpt *ck, const oz_source *s, oz_tensor *out)
{
    const oz_tensor *t;
    OZ_TRY(oz_ckpt_need(ck, s->tensor, &t));
    *out = *t;
    if (s->expert < 0) return OZ_OK;
    out->rank = 2;
    out->shape[0] = t->shape[1];
    out->shape[1] = t->shape[2];
    out->bytes = t->bytes / (size_t)t->shape[0];
    out->data = t->data + out->bytes * (size_t)s->expert;
    return OZ_OK;
}
/* Row of the file that holds row r of the linear: within a head, row i of the first half is 2i in the file, row i of the second 2i + 1. */
int64_t oz_source_row(const oz_source *s, int64_t r)
{
    if (s->unpermute_heads <= 0) return s->row0 + r;
    int64_t d = s->rows / s->unpermute_heads, half = d / 2, head = r / d, i = r % d;
    return s->row0 + head * d + (i < half ? 2 * i : 2 * (i - half) + 1);
}

static oz_status read_rows(const oz_weights *w, const oz_linear_row *r, int64_t row0, int64_t rows, float *out)
{
    const oz_node *rec = oz_node_get(w->record, r->name);
    if (oz_node_get(rec, "format")) { /* a linear Ounce quantized: what it decodes to */
        oz_slot slot = {0};
        OZ_TRY(oz_slot_recorded(&slot, w, rec, r));
        oz_status s = OZ_OK;
        if (!slot.lin.nside)
            s = oz_unpack(&slot.lin.w[0], row0, rows, oz_mat_of(out, rows, r->in));
        else {
            float *all = oz_alloc((size_t)r->out, (size_t)r->in * sizeof *all);
            s = all ? oz_linear_decode(&slot.lin, oz_mat_of(all, r->out, r->in)) : OZ_ERR_NOMEM;
            if (!s) memcpy(out, all + row0 * r->in, (size_t)(rows * r->in) * sizeof *out);
            oz_free(all);
        }
        oz_slot_drop(&slot);
        return s;
    }
    oz_tensor t;
    OZ_TRY(oz_source_tensor(w->ckpt, &r->src, &t));
    if (r->src.unpermute_heads <= 0) return oz_tensor_rows(&t, r->src.row0 + row0, rows, out);
    for (int64_t i = 0; i < rows; i++) OZ_TRY(oz_tensor_rows(&t, oz_source_row(&r->src, row0 + i), 1, out + i * r->in));
    return OZ_OK;
}

/* Folds rows [row0, row0 + rows) of a matrix whose folds leave rows apart. */
static oz_status folded_strip(const oz_weights *w, target t, int64_t rows, int64_t cols, float *x)
{
    double *d = oz_alloc((size_t)rows, (size_t)cols * sizeof *d);
    if (!d) return OZ_ERR_NOMEM;
    for (int64_t i = 0; i < rows * cols; i++) d[i] = (double)x[i];
    oz_status s = apply(w, t, d, rows, cols);
    for (int64_t i = 0; i < rows * cols && !s; i++) x[i] = (float)d[i];
    oz_free(d);
    return s;
}

oz_status oz_weights_rows(const oz_weights *w, int linear, int64_t row0, int64_t rows, float *x)
{
    const oz_linear_row *r = &oz_weights_arch(w)->linear[linear];
    target t = linear_target(w, linear);
    if (row0 < 0 || rows < 0 || row0 + rows > r->out)
        return oz_fail(OZ_ERR_RANGE, NULL, "%s has %lld rows, asked for %lld to %lld", r->name, (long long)r->out, (long long)row0,
                       (long long)(row0 + rows));
    if (!touched(w, t)) return read_rows(w, r, row0, rows, x);
    if (mixes_rows(w, t) && rows < r->out) {
        float *all = oz_alloc((size_t)r->out, (size_t)r->in * sizeof *all);
        oz_status s = all ? oz_weights_rows(w, linear, 0, r->out, all) : OZ_ERR_NOMEM;
        if (!s) memcpy(x, all + row0 * r->in, (size_t)(rows * r->in) * sizeof *x);
        oz_free(all);
        return s;
    }
    int64_t step = mixes_rows(w, t) ? rows : 4096;
    for (int64_t i = 0; i < rows; i += step) {
        int64_t n = rows - i < step ? rows - i : step;
        OZ_TRY(read_rows(w, r, row0 + i, n, x + i * r->in));
        OZ_TRY(folded_strip(w, t, n, r->in, x + i * r->in));
    }
    return OZ_OK;
}
oz_status oz_weights_matrix(const oz_weights *w, int linear, float *x)
{
    return oz_weights_rows(w, linear, 0, oz_weights_arch(w)->linear[linear].out, x);
}

static oz_status read_vector(const oz_weights *w, const oz_source *src, int64_t n, float *v)
{
    const oz_tensor *t;
    OZ_TRY(oz_ckpt_need(w->ckpt, src->tensor, &t));
    oz_tensor flat = *t;
    flat.rank = 2;
    flat.shape[0] = 1;
    flat.shape[1] = oz_tensor_count(t);
    OZ_TRY(oz_tensor_rows(&flat, 0, 1, v));
    if (src->unpermute_heads <= 0) return OZ_OK;
    float *copy = oz_alloc((size_t)n, sizeof *copy);
    if (!copy) return OZ_ERR_NOMEM;
    memcpy(copy, v, (size_t)n * sizeof *v);
    for (int64_t i = 0; i < n; i++) v[i] = copy[oz_source_row(src, i)];
    oz_free(copy);
    return OZ_OK;
}
oz_status oz_weights_vector(const oz_weights *w, int vector, float *v)
{
    const oz_vector_row *r = &w->arch->vector[vector];
    target t = {TARGET_VECTOR, vector};
    OZ_TRY(read_vector(w, &r->src, r->n, v));
    return touched(w, t) ? folded_strip(w, t, 1, r->n, v) : OZ_OK;
}
oz_status oz_weights_bias(const oz_weights *w, int linear, float *b, bool *present)
{
    const oz_linear_row *r = &oz_weights_arch(w)->linear[linear];
    target t = {TARGET_BIAS, linear};
    *present = r->bias.tensor != NULL;
    if (!*present) return OZ_OK;
    OZ_TRY(read_vector(w, &r->bias, r->out, b));
    return touched(w, t) ? folded_strip(w, t, 1, r->out, b) : OZ_OK;
}

/* number/linear/memo.c: the mapped and quantized forms of one site's input, made once and shared by its linears.  A reset keeps the memory.
 */
#include "number/linear/linear_internal.h"

struct oz_memo {
    oz_form **form;
    int n, room;
}; /* forms keep their address while others are added */

oz_status oz_memo_new(oz_memo **out)
{
    *out = oz_zalloc(1, sizeof **out);
    return *out ? OZ_OK : OZ_ERR_NOMEM;
}

void oz_memo_reset(oz_memo *m)
{
    for (int i = 0; m && i < m->n; i++) {
        m->form[i]->used = false;
        oz_qact_free(m->form[i]->q);
        m->form[i]->q = NULL;
    }
}

void oz_memo_free(oz_memo *m)
{
    if (!m) return;
    oz_memo_reset(m);
    for (int i = 0; i < m->n; i++) {
        oz_free(m->form[i]->x);
        oz_free(m->form[i]->code);
        oz_free(m->form[i]->scale);
        oz_free(m->form[i]);
    }
    oz_free(m->form);
    oz_free(m);
}

static oz_status room(void **p, size_t *have, size_t want, size_t size)
{
    if (*have >= want) return OZ_OK;
    oz_free(*p);
    *have = 0;
    *p = oz_alloc(want, size);
    if (!*p) return OZ_ERR_NOMEM;
    *have = want;
    return OZ_OK;
}

/* An unused form, new or from before a reset. */
static oz_status spare(oz_memo *m, oz_form **out)
{
    for (int i = 0; i < m->n; i++)
        if (!m->form[i]->used) {
            *out = m->form[i];
            return OZ_OK;
        }
    if (m->n == m->room) {
        oz_form **more = oz_realloc(m->form, (size_t)m->room * 2 + 8, sizeof *more);
        if (!more) return OZ_ERR_NOMEM;
        m->form = more;
        m->room = m->room * 2 + 8;
    }
    *out = oz_zalloc(1, sizeof **out);
    if (!*out) return OZ_ERR_NOMEM;
    m->form[m->n++] = *out;
    return OZ_OK;
}

oz_status oz_memo_form(oz_memo *m, uint64_t key, int64_t rows, int64_t cols, oz_form_kind kind, int64_t runs, oz_form **out, bool *fresh)
{
    *fresh = false;
    for (int i = 0; i < m->n; i++) {
        oz_form *f = m->form[i];
        if (f->used && f->key == key && f->rows == rows && f->cols == cols) {
            *out = f;
            return OZ_OK;
        }
    }
    oz_form *f;
    OZ_TRY(spare(m, &f));
    void *x = f->x, *code = f->code, *scale = f->scale;
    oz_status s = OZ_OK;
    if (kind == OZ_FORM_CODES) {
        s = room(&code, &f->code_room, (size_t)(rows * cols), sizeof *f->code);
        if (!s) s = room(&scale, &f->scale_room, (size_t)(rows * runs), sizeof *f->scale);
    } else if (kind == OZ_FORM_F32)
        s = room(&x, &f->x_room, (size_t)(rows * cols), sizeof *f->x);
    f->x = x, f->code = code, f->scale = scale;
    OZ_TRY(s);
    f->key = key;
    f->rows = rows;
    f->cols = cols;
    f->runs = runs;
    f->used = *fresh = true;
    *out = f;
    return OZ_OK;
}

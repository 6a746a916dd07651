/* number/linear/memo.c: the mapped and quantized forms of one site's input, made once and shared by its linears.  A reset keeps the memory.
 */
#include "number/linear/linear_internal.h"

#define MOST_FORMS 32
struct oz_memo {
    oz_form *form[MOST_FORMS];
}; /* forms keep their address while others are added */

oz_status oz_memo_new(oz_memo **out)
{
    *out = oz_zalloc(1, sizeof **out);
    return *out ? OZ_OK : OZ_ERR_NOMEM;
}

void oz_memo_reset(oz_memo *m)
{
    for (int i = 0; m && i < MOST_FORMS; i++)
        if (m->form[i]) m->form[i]->used = false;
}

void oz_memo_free(oz_memo *m)
{
    if (!m) return;
    for (int i = 0; i < MOST_FORMS; i++) {
        if (!m->form[i]) continue;
        oz_free(m->form[i]->x);
        oz_free(m->form[i]->code);
        oz_free(m->form[i]->scale);
        oz_free(m->form[i]);
    }
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

oz_status oz_memo_form(oz_memo *m, uint64_t key, int64_t rows, int64_t cols, bool codes, int64_t runs, oz_form **out, bool *fresh)
{
    int slot = -1;
    *fresh = false;
    for (int i = 0; i < MOST_FORMS; i++) {
        oz_form *f = m->form[i];
        if (f && f->used && f->key == key && f->rows == rows && f->cols == cols) {
            *out = f;
            return OZ_OK;
        }
        if ((!f || !f->used) && slot < 0) slot = i;
    }
    if (slot < 0) return oz_fail(OZ_ERR_RANGE, NULL, "one input is wanted in more than %d forms", MOST_FORMS);
    if (!m->form[slot] && !(m->form[slot] = oz_zalloc(1, sizeof *m->form[slot]))) return OZ_ERR_NOMEM;
    oz_form *f = m->form[slot];
    if (codes) {
        void *code = f->code, *scale = f->scale;
        f->code = NULL, f->scale = NULL;
        oz_status s = room(&code, &f->code_room, (size_t)(rows * cols), sizeof *f->code);
        oz_status s2 = s ? s : room(&scale, &f->scale_room, (size_t)(rows * runs), sizeof *f->scale);
        f->code = code, f->scale = scale;
        OZ_TRY(s2);
    } else {
        void *x = f->x;
        f->x = NULL;
        oz_status s = room(&x, &f->x_room, (size_t)(rows * cols), sizeof *f->x);
        f->x = x;
        OZ_TRY(s);
    }
    f->key = key;
    f->rows = rows;
    f->cols = cols;
    f->runs = runs;
    f->used = true;
    *fresh = true;
    *out = f;
    return OZ_OK;
}

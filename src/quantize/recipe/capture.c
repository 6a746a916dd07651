/* Statistics of the inputs of one block's linears.  Linears that share an input share a slot; an expert has its own, over its own tokens.
 */
#include <string.h>

#include "quantize/recipe/recipe_internal.h"

static oz_capture_slot *slot_of(oz_capture *c, int32_t first)
{
    for (int i = 0; i < c->n; i++)
        if (c->slot[i].lin[0] == first) return &c->slot[i];
    return NULL;
}

static oz_status open_slot(oz_capture *c, const int32_t *lin, int n, int64_t width, oz_capture_slot **out)
{
    if (c->n == c->room) {
        int room = c->room ? c->room * 2 : 16;
        oz_capture_slot *more = oz_realloc(c->slot, (size_t)room, sizeof *more);
        if (!more) return OZ_ERR_NOMEM;
        c->slot = more, c->room = room;
    }
    oz_capture_slot *s = &c->slot[c->n];
    memset(s, 0, sizeof *s);
    if (n > (int)(sizeof s->lin / sizeof *s->lin))
        return oz_fail(OZ_ERR_RANGE, NULL, "%s: %d linears share an input", c->plan->arch->linear[lin[0]].name, n);
    memcpy(s->lin, lin, (size_t)n * sizeof *lin);
    s->nlin = n, s->n = width;
    for (int i = 0; i < n; i++) s->wants |= c->wants(c->ctx, lin[i]);
    if (s->wants) {
        OZ_TRY(oz_calib_new(&s->calib, width, s->wants, c->tokens, OZ_SAMPLE_ROWS, 0, c->plan->length));
        s->room = s->wants & OZ_WANT_SAMPLE ? c->keep_rows : 0;
        if (s->room && !(s->x = oz_alloc((size_t)(s->room * width), sizeof *s->x))) {
            oz_calib_free(s->calib);
            s->calib = NULL;
            return OZ_ERR_NOMEM;
        }
    }
    c->n++;
    *out = s;
    return OZ_OK;
}

oz_status oz_capture_watch(void *capture, const int32_t *lin, int n, oz_mat x)
{
    oz_capture *c = capture;
    oz_capture_slot *s = slot_of(c, lin[0]);
    if (!s) OZ_TRY(open_slot(c, lin, n, x.cols, &s));
    if (!s->calib) return OZ_OK;
    int64_t keep = s->room - s->rows < x.rows ? s->room - s->rows : x.rows;
    for (int64_t t = 0; t < keep; t++) memcpy(s->x + (s->rows + t) * s->n, x.p + t * x.ld, (size_t)s->n * sizeof(float));
    if (keep > 0) s->rows += keep;
    OZ_TRY(oz_calib_add(s->calib, x, s->seen, c->run));
    s->seen += x.rows;
    return OZ_OK;
}

oz_status oz_capture_end(oz_capture *c)
{
    for (int i = 0; i < c->n; i++)
        if (c->slot[i].calib) OZ_TRY(oz_calib_end(c->slot[i].calib, &c->slot[i].stats));
    return OZ_OK;
}

const oz_capture_slot *oz_capture_find(const oz_capture *c, int linear)
{
    for (int i = 0; i < c->n; i++)
        for (int k = 0; k < c->slot[i].nlin; k++)
            if (c->slot[i].lin[k] == linear && c->slot[i].calib) return &c->slot[i];
    return NULL;
}

void oz_capture_free(oz_capture *c)
{
    for (int i = 0; i < c->n; i++) {
        oz_calib_free(c->slot[i].calib);
        oz_stats_drop(&c->slot[i].stats);
        oz_free(c->slot[i].x);
    }
    oz_free(c->slot);
    memset(c, 0, sizeof *c);
}

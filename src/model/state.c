/* model/state.c: keys and values of one sequence, f16, in pages of 64 tokens that forks share until one of them writes.
 *
 *   page   [layer][k, v][kv head][64][D] f16; position p of a sequence is row p % 64 of page p / 64
 * One layer set (full attention) so far, behind oz_state_type. */
#include "model/parts.h"
#include <string.h>

typedef struct page {
    int refs;
    uint16_t *data;
} page;
typedef struct kv_state {
    oz_state base;
    int64_t tokens, max, D, heads, npage, room;
    page **page;
} kv_state;

static size_t page_values(const kv_state *s) { return (size_t)s->base.layers * 2 * (size_t)s->heads * OZ_PAGE * (size_t)s->D; }

static void drop_page(page *p)
{
    if (p && --p->refs == 0) {
        oz_free(p->data);
        oz_free(p);
    }
}

static oz_status new_page(const kv_state *s, const page *from, page **out)
{
    page *p = oz_zalloc(1, sizeof *p);
    *out = NULL;
    if (!p) return OZ_ERR_NOMEM;
    p->data = oz_alloc(page_values(s), sizeof *p->data);
    if (!p->data) {
        oz_free(p);
        return OZ_ERR_NOMEM;
    }
    if (from) memcpy(p->data, from->data, page_values(s) * sizeof *p->data);
    p->refs = 1;
    *out = p;
    return OZ_OK;
}

static void end(oz_state *state)
{
    kv_state *s = (kv_state *)state;
    for (int64_t i = 0; i < s->npage; i++) drop_page(s->page[i]);
    oz_free(s->page);
    oz_free(s);
}

static oz_status fork_state(oz_state **out, const oz_state *state)
{
    const kv_state *s = (const kv_state *)state;
    kv_state *f = oz_zalloc(1, sizeof *f);
    *out = NULL;
    if (!f) return OZ_ERR_NOMEM;
    *f = *s;
    f->room = s->npage + 1;
    f->page = oz_zalloc((size_t)f->room, sizeof *f->page);
    if (!f->page) {
        oz_free(f);
        return OZ_ERR_NOMEM;
    }
    for (int64_t i = 0; i < s->npage; i++) {
        f->page[i] = s->page[i];
        f->page[i]->refs++;
    }
    *out = &f->base;
    return OZ_OK;
}

static oz_status mark(oz_state *state, uint64_t *out)
{
    *out = (uint64_t)((kv_state *)state)->tokens;
    return OZ_OK;
}

static oz_status rollback(oz_state *state, uint64_t to)
{
    kv_state *s = (kv_state *)state;
    if (to > (uint64_t)s->tokens)
        return oz_fail(OZ_ERR_RANGE, NULL, "a state of %lld tokens cannot roll back to %llu", (long long)s->tokens, (unsigned long long)to);
    s->tokens = (int64_t)to;
    int64_t keep = (s->tokens + OZ_PAGE - 1) / OZ_PAGE;
    while (s->npage > keep) drop_page(s->page[--s->npage]);
    return OZ_OK;
}

static oz_status drop(oz_state *state, const int32_t *positions, int n)
{
    (void)positions;
    return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "layers %d to %d: single tokens (%d asked) cannot be dropped from f16 pages", state->layer0,
                   state->layer0 + state->layers - 1, n);
}

static oz_status save(const oz_state *state, oz_writer *writer)
{
    (void)writer;
    return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "layers %d to %d: states are not written to files yet", state->layer0,
                   state->layer0 + state->layers - 1);
}

static size_t bytes(const oz_state *state)
{
    const kv_state *s = (const kv_state *)state;
    return (size_t)s->npage * page_values(s) * sizeof(uint16_t);
}

static const struct oz_state_type kv_f16 = {"kv f16", fork_state, mark, rollback, drop, save, bytes, end};

oz_status oz_session_new(oz_session **out, const oz_model *m, int64_t max)
{
    const oz_dims *d = &oz_arch_of(m)->dims;
    *out = NULL;
    if (max < 1) return oz_fail(OZ_ERR_RANGE, "ask for room for a token at least", "a session of %lld tokens", (long long)max);
    oz_session *s = oz_zalloc(1, sizeof *s);
    kv_state *k = oz_zalloc(1, sizeof *k);
    oz_state **list = oz_zalloc(1, sizeof *list);
    if (!s || !k || !list) {
        oz_free(s);
        oz_free(k);
        oz_free(list);
        return OZ_ERR_NOMEM;
    }
    k->base = (oz_state){&kv_f16, OZ_STATE_TRUNCATE | OZ_STATE_SHARE | OZ_STATE_CAUSAL, 0, d->layers};
    k->max = max, k->D = d->head_dim, k->heads = d->kv_heads;
    list[0] = &k->base;
    *s = (oz_session){.model = m, .max = max, .nstate = 1, .state = list};
    *out = s;
    return OZ_OK;
}

void oz_session_free(oz_session *s)
{
    if (!s) return;
    for (int i = 0; i < s->nstate; i++)
        if (s->state[i]) s->state[i]->type->end(s->state[i]);
    oz_free(s->state);
    oz_free(s);
}

int64_t oz_session_tokens(const oz_session *s) { return s->tokens; }

size_t oz_session_bytes(const oz_session *s)
{
    size_t sum = 0;
    for (int i = 0; i < s->nstate; i++) sum += s->state[i]->type->bytes(s->state[i]);
    return sum;
}

oz_status oz_session_fork(oz_session **out, const oz_session *from)
{
    oz_session *s = oz_zalloc(1, sizeof *s);
    *out = NULL;
    if (!s) return OZ_ERR_NOMEM;
    *s = *from;
    s->state = oz_zalloc((size_t)from->nstate, sizeof *s->state);
    oz_status status = s->state ? OZ_OK : OZ_ERR_NOMEM;
    s->nstate = 0;
    for (int i = 0; !status && i < from->nstate; i++) {
        status = from->state[i]->type->fork(&s->state[i], from->state[i]);
        if (!status) s->nstate++;
    }
    if (status) {
        oz_session_free(s);
        return status;
    }
    *out = s;
    return OZ_OK;
}

oz_status oz_session_truncate(oz_session *s, int64_t tokens)
{
    if (tokens < 0 || tokens > s->tokens)
        return oz_fail(OZ_ERR_RANGE, NULL, "a session of %lld tokens cannot be cut to %lld", (long long)s->tokens, (long long)tokens);
    for (int i = 0; i < s->nstate; i++) OZ_TRY(s->state[i]->type->rollback(s->state[i], (uint64_t)tokens));
    s->tokens = tokens;
    return OZ_OK;
}

/* Pages for `tokens` more, none of them shared where something will be written. */
oz_status oz_session_room(oz_session *s, int64_t tokens)
{
    if (s->tokens + tokens > s->max)
        return oz_fail(OZ_ERR_RANGE, "give a larger --ctx", "the session has room for %lld tokens; %lld are in it and %lld more were given",
                       (long long)s->max, (long long)s->tokens, (long long)tokens);
    for (int i = 0; i < s->nstate; i++) {
        kv_state *k = (kv_state *)s->state[i];
        int64_t need = (s->tokens + tokens + OZ_PAGE - 1) / OZ_PAGE;
        if (need > k->room) {
            int64_t room = need + need / 2 + 4;
            page **more = oz_realloc(k->page, (size_t)room, sizeof *more);
            if (!more) return OZ_ERR_NOMEM;
            k->page = more, k->room = room;
        }
        for (; k->npage < need; k->npage++) OZ_TRY(new_page(k, NULL, &k->page[k->npage]));
        for (int64_t p = s->tokens / OZ_PAGE; p < need; p++)
            if (k->page[p]->refs > 1) {
                page *own;
                OZ_TRY(new_page(k, k->page[p], &own));
                drop_page(k->page[p]);
                k->page[p] = own;
            }
        k->tokens = s->tokens + tokens;
    }
    return OZ_OK;
}

static uint16_t *row_at(const kv_state *k, int layer, bool v, int head, int64_t position)
{
    size_t slab = (((size_t)(layer - k->base.layer0) * 2 + v) * (size_t)k->heads + (size_t)head) * OZ_PAGE + (size_t)(position % OZ_PAGE);
    return k->page[position / OZ_PAGE]->data + slab * (size_t)k->D;
}

oz_status oz_session_append(oz_session *s, int layer, oz_mat k, oz_mat v)
{
    kv_state *st = (kv_state *)s->state[0];
    for (int64_t t = 0; t < k.rows; t++)
        for (int h = 0; h < st->heads; h++) {
            oz_from_f32(OZ_F16, k.p + t * k.ld + h * st->D, row_at(st, layer, false, h, s->tokens + t), st->D);
            oz_from_f32(OZ_F16, v.p + t * v.ld + h * st->D, row_at(st, layer, true, h, s->tokens + t), st->D);
        }
    return OZ_OK;
}

void oz_session_read(const oz_session *s, int layer, bool v, int head, int64_t p0, int64_t n, float *out)
{
    const kv_state *k = (const kv_state *)s->state[0];
    while (n > 0) { /* rows of one page and head are contiguous */
        int64_t m = OZ_PAGE - p0 % OZ_PAGE < n ? OZ_PAGE - p0 % OZ_PAGE : n;
        oz_to_f32(OZ_F16, row_at(k, layer, v, head, p0), out, m * k->D);
        p0 += m, n -= m, out += m * k->D;
    }
}

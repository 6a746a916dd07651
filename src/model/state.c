/* model/state.c: session state: a list of stores by layer set, here one store of keys and values in f16 (or f32).
 *
 * A page holds 64 tokens of every layer of the set: [layer][keys, values][kv head][64][D]. Forks share pages; a page is copied when one of
 * its owners writes to it, so a fork costs at most one page. Positions are rotated before they are stored: dropping one from the middle is
 * not offered (OZ_STATE_DROP), truncating is. */
#include "model/parts.h"
#include <string.h>

typedef struct page {
    int refs;
    size_t bytes;
} page; /* data follows, 64-byte aligned */
typedef struct kv_store {
    oz_state base;
    oz_dtype dtype;
    int kv, dim;
    int64_t tokens;
    page **page;
    int npage, room;
} kv_store;

static uint8_t *data_of(page *p) { return (uint8_t *)p + 64; }
static size_t page_bytes(const kv_store *s)
{
    return (size_t)s->base.layers * 2 * (size_t)s->kv * OZ_PAGE * (size_t)s->dim * oz_dtype_size(s->dtype);
}
static page *page_new(const kv_store *s)
{
    page *p = oz_alloc_aligned(64 + page_bytes(s), 64);
    if (p) *p = (page){1, page_bytes(s)};
    return p;
}
static void page_drop(page *p)
{
    if (p && --p->refs == 0) oz_free(p);
}
static size_t offset_of(const kv_store *s, int layer, bool v, int head)
{
    return (((size_t)(layer - s->base.layer0) * 2 + v) * (size_t)s->kv + (size_t)head) * OZ_PAGE * (size_t)s->dim * oz_dtype_size(s->dtype);
}

static void kv_cut(kv_store *s, int64_t tokens)
{
    int keep = (int)((tokens + OZ_PAGE - 1) / OZ_PAGE);
    while (s->npage > keep) page_drop(s->page[--s->npage]);
    if (s->tokens > tokens) s->tokens = tokens;
}
static void kv_end(oz_state *st)
{
    kv_store *s = (kv_store *)st;
    kv_cut(s, 0);
    oz_free(s->page);
    oz_free(s);
}
static oz_status kv_fork(oz_state **out, const oz_state *from)
{
    const kv_store *f = (const kv_store *)from;
    kv_store *s = oz_alloc(1, sizeof *s);
    *out = NULL;
    if (!s) return OZ_ERR_NOMEM;
    *s = *f;
    s->room = f->npage;
    s->page = oz_alloc((size_t)f->npage + 1, sizeof(page *));
    if (!s->page) {
        oz_free(s);
        return OZ_ERR_NOMEM;
    }
    for (int i = 0; i < f->npage; i++) {
        s->page[i] = f->page[i];
        s->page[i]->refs++;
    }
    *out = &s->base;
    return OZ_OK;
}
static oz_status kv_mark(oz_state *st, uint64_t *mark)
{
    *mark = (uint64_t)((kv_store *)st)->tokens;
    return OZ_OK;
}
static oz_status kv_rollback(oz_state *st, uint64_t mark)
{
    kv_store *s = (kv_store *)st;
    if (mark > (uint64_t)s->tokens)
        return oz_fail(OZ_ERR_RANGE, NULL, "KV store of %lld tokens cannot roll back to token %llu", (long long)s->tokens,
                       (unsigned long long)mark);
    kv_cut(s, (int64_t)mark);
    return OZ_OK;
}
static oz_status kv_drop(oz_state *st, const int32_t *positions, int n)
{
    (void)positions;
    return n ? oz_fail(OZ_ERR_UNSUPPORTED, "truncate instead",
                       "KV store of %lld tokens: keys are rotated by position, single ones cannot be dropped",
                       (long long)((kv_store *)st)->tokens)
             : OZ_OK;
}
/* One tensor a page, "kv.page.N", bytes as in memory. */
static oz_status kv_save(const oz_state *st, oz_writer *w)
{
    const kv_store *s = (const kv_store *)st;
    char name[32] = "kv.page.";
    for (int i = 0; i < s->npage; i++) {
        char digits[12];
        int n = 0, x = i, at = 8;
        do digits[n++] = (char)('0' + x % 10);
        while ((x /= 10));
        while (n) name[at++] = digits[--n];
        name[at] = 0;
        OZ_TRY(oz_writer_put(w, name, data_of(s->page[i]), s->page[i]->bytes));
    }
    return OZ_OK;
}
static size_t kv_bytes(const oz_state *st)
{
    const kv_store *s = (const kv_store *)st;
    return (size_t)s->npage * (64 + page_bytes(s)) + sizeof *s;
}
static const struct oz_state_type kv_type = {.name = "kv",
                                             .fork = kv_fork,
                                             .mark = kv_mark,
                                             .rollback = kv_rollback,
                                             .drop = kv_drop,
                                             .save = kv_save,
                                             .bytes = kv_bytes,
                                             .end = kv_end};

static oz_status kv_new(oz_state **out, const oz_dims *d, oz_dtype dtype)
{
    kv_store *s = oz_zalloc(1, sizeof *s);
    if (!s) return OZ_ERR_NOMEM;
    s->base = (oz_state){&kv_type, OZ_STATE_TRUNCATE | OZ_STATE_SHARE | OZ_STATE_CAUSAL, 0, d->layers};
    s->dtype = dtype;
    s->kv = d->kv_heads;
    s->dim = d->head_dim;
    *out = &s->base;
    return OZ_OK;
}

/* ---- sessions
 * ------------------------------------------------------------------------------------------------------------------------------ */
oz_status oz_session_new(oz_session **out, const oz_model *m, int64_t max_tokens)
{
    const oz_dims *d = &oz_arch_of(m)->dims;
    *out = NULL;
    if (max_tokens < 1) return oz_fail(OZ_ERR_RANGE, NULL, "a session of %lld tokens", (long long)max_tokens);
    oz_session *s = oz_zalloc(1, sizeof *s);
    if (!s) return OZ_ERR_NOMEM;
    *s = (oz_session){.model = m, .max = max_tokens};
    s->state = oz_zalloc(1, sizeof(oz_state *));
    oz_status status = s->state ? kv_new(&s->state[0], d, strcmp(m->opt.kv, "f32") ? OZ_F16 : OZ_F32) : OZ_ERR_NOMEM;
    if (status)
        oz_session_free(s);
    else {
        s->nstate = 1;
        *out = s;
    }
    return status;
}
void oz_session_free(oz_session *s)
{
    if (!s) return;
    for (int i = 0; i < s->nstate; i++) s->state[i]->type->end(s->state[i]);
    oz_free(s->state);
    oz_free(s);
}
int64_t oz_session_tokens(const oz_session *s) { return s->tokens; }
size_t oz_session_bytes(const oz_session *s)
{
    size_t sum = sizeof *s;
    for (int i = 0; i < s->nstate; i++) sum += s->state[i]->type->bytes(s->state[i]);
    return sum;
}
oz_status oz_session_fork(oz_session **out, const oz_session *from)
{
    *out = NULL;
    oz_session *s = oz_zalloc(1, sizeof *s);
    if (!s) return OZ_ERR_NOMEM;
    *s = (oz_session){.model = from->model, .max = from->max, .tokens = from->tokens};
    s->state = oz_zalloc((size_t)from->nstate, sizeof(oz_state *));
    oz_status status = s->state ? OZ_OK : OZ_ERR_NOMEM;
    for (int i = 0; i < from->nstate && !status; i++) {
        status = from->state[i]->type->fork(&s->state[i], from->state[i]);
        if (!status) s->nstate++;
    }
    if (status)
        oz_session_free(s);
    else
        *out = s;
    return status;
}
oz_status oz_session_truncate(oz_session *s, int64_t tokens)
{
    if (tokens < 0 || tokens > s->tokens)
        return oz_fail(OZ_ERR_RANGE, NULL, "a session of %lld tokens cannot be cut to %lld", (long long)s->tokens, (long long)tokens);
    for (int i = 0; i < s->nstate; i++) { OZ_TRY(s->state[i]->type->rollback(s->state[i], (uint64_t)tokens)); }
    s->tokens = tokens;
    return OZ_OK;
}

oz_status oz_session_room(oz_session *ses, int64_t more)
{
    if (ses->tokens + more > ses->max)
        return oz_fail(OZ_ERR_RANGE, "give the session more room (--ctx)", "the session holds %lld of %lld tokens, %lld more do not fit",
                       (long long)ses->tokens, (long long)ses->max, (long long)more);
    for (int i = 0; i < ses->nstate; i++) {
        kv_store *s = (kv_store *)ses->state[i];
        int want = (int)((ses->tokens + more + OZ_PAGE - 1) / OZ_PAGE), first = (int)(ses->tokens / OZ_PAGE);
        if (want > s->room) {
            page **p = oz_realloc(s->page, (size_t)want * 2, sizeof(page *));
            if (!p) return OZ_ERR_NOMEM;
            s->page = p;
            s->room = want * 2;
        }
        if (more && first < s->npage && s->page[first]->refs > 1) { /* a fork shares the page that is written next */
            page *own = page_new(s);
            if (!own) return OZ_ERR_NOMEM;
            memcpy(data_of(own), data_of(s->page[first]), own->bytes);
            page_drop(s->page[first]);
            s->page[first] = own;
        }
        while (s->npage < want) {
            if (!(s->page[s->npage] = page_new(s))) return OZ_ERR_NOMEM;
            s->npage++;
        }
        s->tokens = ses->tokens + more;
    }
    return OZ_OK;
}
static kv_store *store_of(const oz_session *s, int layer)
{
    for (int i = 0; i < s->nstate; i++)
        if (layer >= s->state[i]->layer0 && layer < s->state[i]->layer0 + s->state[i]->layers) return (kv_store *)s->state[i];
    return NULL;
}
oz_status oz_session_append(oz_session *ses, int layer, oz_mat k, oz_mat v)
{
    kv_store *s = store_of(ses, layer);
    if (!s) return oz_fail(OZ_ERR_SHAPE, NULL, "block %d has no store in this session", layer);
    size_t item = oz_dtype_size(s->dtype), row = (size_t)s->dim * item;
    for (int64_t t = 0; t < k.rows; t++) {
        int64_t at = ses->tokens + t;
        uint8_t *base = data_of(s->page[at / OZ_PAGE]);
        for (int h = 0; h < s->kv; h++) {
            oz_from_f32(s->dtype, k.p + t * k.ld + (int64_t)h * s->dim, base + offset_of(s, layer, false, h) + (size_t)(at % OZ_PAGE) * row,
                        s->dim);
            oz_from_f32(s->dtype, v.p + t * v.ld + (int64_t)h * s->dim, base + offset_of(s, layer, true, h) + (size_t)(at % OZ_PAGE) * row,
                        s->dim);
        }
    }
    return OZ_OK;
}
void oz_session_read(const oz_session *ses, int layer, bool v, int head, int64_t p0, int64_t n, float *out)
{
    const kv_store *s = store_of(ses, layer);
    size_t row = (size_t)s->dim * oz_dtype_size(s->dtype);
    while (n > 0) {
        int64_t at = p0 % OZ_PAGE, take = OZ_PAGE - at < n ? OZ_PAGE - at : n;
        oz_to_f32(s->dtype, data_of(s->page[p0 / OZ_PAGE]) + offset_of(s, layer, v, head) + (size_t)at * row, out, take * s->dim);
        out += take * s->dim;
        p0 += take;
        n -= take;
    }
}

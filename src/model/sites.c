/* model/sites.c: the site table (card smoothquant): one row for each site and layer with its producers, consumers and what folds there.
 *
 * A producer absorbs the inverse of the map, a consumer the map. q and k are held in halves order whatever the file says, so pairing is
 * always 1. site       width        producers                         consumers                 folds residual   d            rows of o,
 * down; embedding        columns of all readers    orthogonal (gains must be 1) attn.in    d            gain of attn_norm columns of q, k,
 * v        diagonal qk         nk*D or D    rows of k, its bias (or k_norm)   rows of q (or q_norm)     diagonal tied over rope pairs value
 * nk*D         rows of v, its bias               columns of o, repeated    any D x D a key head attn.out   nq*D         rows of v, its bias
 * columns of o, repeated    diagonal of nk*D entries, repeated mlp.in     d            gain of mlp_norm                  columns of gate,
 * up, router (all experts) down       f            rows of up, its bias              columns of down           diagonal (one row an expert)
 *   head       d            gain of final_norm                columns of the head */
#include "model/arch/family.h"
#include <string.h>

static const char *const names[OZ_SITE_COUNT] = {"residual", "attn.in", "qk",  "value", "attn.out",
                                                 "mlp.in",   "down",    "ssm", "head",  "cross.in"};
const char *oz_site_name(oz_site s) { return s < OZ_SITE_COUNT ? names[s] : "none"; }
bool oz_site_parse(const char *word, oz_site *s)
{
    for (int i = 0; i < OZ_SITE_COUNT; i++)
        if (!strcmp(word, names[i])) {
            *s = (oz_site)i;
            return true;
        }
    return false;
}

static const char why_residual[] =
    "the residual stream passes through RMS norms, which only commute with orthogonal maps; fold the gains into the linears first";
static const char why_norm[] = "the norm in front has a gain a channel and no bias: it absorbs a diagonal and nothing else";
static const char why_qk[] = "rope stands between the rows of q, k and their product: only a diagonal tied over its pairs commutes with it";
static const char why_value[] = "key heads are summed apart: a map must stay inside a head";
static const char why_out[] =
    "each key head feeds several query heads: only a diagonal repeated over them folds, maps across heads run online";
static const char why_down[] = "act(gate) * up is linear in up only: a diagonal folds into its rows, anything else runs online";

typedef struct builder {
    oz_arch *a;
    oz_linear_row *lin;
    oz_site_row *row;
    oz_end *end; /* ends of the row being made, then copied */
    int nend, nprod;
    oz_arena *arena;
} builder;

static void add(builder *b, int index, uint8_t side, uint8_t repeat, int64_t count)
{
    b->end[b->nend++] = (oz_end){.linear = index, .side = side, .repeat = repeat, .first = 0, .count = count};
}
static void rows_and_bias(builder *b, int i)
{
    add(b, i, OZ_END_ROWS, 1, b->lin[i].out);
    if (b->lin[i].bias.tensor) add(b, i, OZ_END_BIAS, 1, b->lin[i].out);
}
static void cols(builder *b, int i, uint8_t repeat) { add(b, i, OZ_END_COLS, repeat, b->lin[i].in); }
static void producers_done(builder *b) { b->nprod = b->nend; }

static oz_status finish(builder *b, oz_site site, int layer, int expert, int32_t width, uint32_t fold, const char *refuse, int *index)
{
    oz_site_row *r = &b->row[b->a->nsite];
    oz_end *e = oz_arena_alloc(b->arena, (size_t)b->nend * sizeof *e);
    if (!e) return OZ_ERR_NOMEM;
    memcpy(e, b->end, (size_t)b->nend * sizeof *e);
    *r = (oz_site_row){.site = (uint8_t)site,
                       .pairing = site == OZ_SITE_QK ? 1 : 0,
                       .layer = (int16_t)layer,
                       .expert = (int16_t)expert,
                       .width = width,
                       .head_dim = b->a->dims.head_dim,
                       .fold = fold,
                       .prod = e,
                       .nprod = b->nprod,
                       .cons = e + b->nprod,
                       .ncons = b->nend - b->nprod,
                       .refuse = refuse};
    *index = b->a->nsite++;
    b->nend = b->nprod = 0;
    return OZ_OK;
}

static oz_status attention(builder *b, int L, int residual)
{
    const oz_dims *d = &b->a->dims;
    int at, q = oz_arch_find(b->a, "q", L, -1), k = oz_arch_find(b->a, "k", L, -1), v = oz_arch_find(b->a, "v", L, -1),
            o = oz_arch_find(b->a, "o", L, -1);
    uint8_t g = (uint8_t)(d->heads / d->kv_heads);
    int32_t kv = d->kv_heads * d->head_dim;
    add(b, oz_arch_vector(b->a, "attn_norm", L), OZ_END_GAIN, 1, d->hidden);
    producers_done(b);
    cols(b, q, 1);
    cols(b, k, 1);
    cols(b, v, 1);
    OZ_TRY(finish(b, OZ_SITE_ATTN_IN, L, -1, d->hidden, OZ_FOLD_DIAG, why_norm, &at));
    b->lin[q].site_in = b->lin[k].site_in = b->lin[v].site_in = at;

    if (d->qk_norm) { /* the norm removes any scale of the rows: its gain is the end */
        int32_t width = d->qk_norm_full ? kv : d->head_dim;
        add(b, oz_arch_vector(b->a, "k_norm", L), OZ_END_GAIN, 1, width);
        producers_done(b);
        add(b, oz_arch_vector(b->a, "q_norm", L), OZ_END_GAIN, d->qk_norm_full ? g : 1, d->qk_norm_full ? (int64_t)width * g : width);
        OZ_TRY(finish(b, OZ_SITE_QK, L, -1, width, OZ_FOLD_PAIR_DIAG, why_qk, &at));
    } else {
        rows_and_bias(b, k);
        producers_done(b);
        add(b, q, OZ_END_ROWS, g, b->lin[q].out);
        if (b->lin[q].bias.tensor) add(b, q, OZ_END_BIAS, g, b->lin[q].out);
        OZ_TRY(finish(b, OZ_SITE_QK, L, -1, kv, OZ_FOLD_PAIR_DIAG, why_qk, &at));
    }
    b->lin[q].site_out = b->lin[k].site_out = at;

    rows_and_bias(b, v);
    producers_done(b);
    cols(b, o, g);
    OZ_TRY(finish(b, OZ_SITE_VALUE, L, -1, kv, OZ_FOLD_HEAD, why_value, &at));
    rows_and_bias(b, v);
    producers_done(b);
    cols(b, o, g);
    OZ_TRY(finish(b, OZ_SITE_ATTN_OUT, L, -1, d->heads * d->head_dim, OZ_FOLD_DIAG, g > 1 ? why_out : why_value, &at));
    b->lin[v].site_out = b->lin[o].site_in = at;
    b->lin[o].site_out = residual;
    return OZ_OK;
}

static oz_status mlp(builder *b, int L, int residual)
{
    const oz_dims *d = &b->a->dims;
    int at, n = d->experts ? d->experts : 1, router = oz_arch_find(b->a, "router", L, -1);
    add(b, oz_arch_vector(b->a, "mlp_norm", L), OZ_END_GAIN, 1, d->hidden);
    producers_done(b);
    for (int e = 0; e < n; e++) {
        int x = d->experts ? e : -1;
        cols(b, oz_arch_find(b->a, "gate", L, x), 1);
        cols(b, oz_arch_find(b->a, "up", L, x), 1);
    }
    if (router >= 0) cols(b, router, 1);
    OZ_TRY(finish(b, OZ_SITE_MLP_IN, L, -1, d->hidden, OZ_FOLD_DIAG, why_norm, &at));
    if (router >= 0) b->lin[router].site_in = at;
    int in = at;
    for (int e = 0; e < n; e++) {
        int x = d->experts ? e : -1, gate = oz_arch_find(b->a, "gate", L, x), up = oz_arch_find(b->a, "up", L, x),
            down = oz_arch_find(b->a, "down", L, x);
        rows_and_bias(b, up);
        producers_done(b);
        cols(b, down, 1);
        OZ_TRY(finish(b, OZ_SITE_DOWN, L, x, (int32_t)b->lin[down].in, OZ_FOLD_DIAG, why_down, &at));
        b->lin[gate].site_in = b->lin[up].site_in = in;
        b->lin[up].site_out = b->lin[down].site_in = at;
        b->lin[down].site_out = residual;
    }
    return OZ_OK;
}

oz_status oz_sites_build(oz_arch *a, oz_linear_row *lin, oz_arena *arena)
{
    const oz_dims *d = &a->dims;
    int most = 6 * d->layers + (d->experts ? d->experts : 1) * d->layers + 2, at;
    builder b = {.a = a, .lin = lin, .arena = arena};
    b.row = oz_arena_alloc(arena, (size_t)most * sizeof *b.row);
    b.end = oz_alloc((size_t)a->nlinear * 2 + 16, sizeof *b.end);
    if (!b.row || !b.end) {
        oz_free(b.end);
        return OZ_ERR_NOMEM;
    }
    a->site = b.row;
    oz_status s = OZ_OK;
    /* residual: index 0 */
    add(&b, a->embed, OZ_END_EMBED, 1, d->hidden);
    for (int i = 0; i < a->nlinear; i++)
        if (lin[i].layer >= 0 && (!strcmp(lin[i].role, "o") || !strcmp(lin[i].role, "down"))) rows_and_bias(&b, i);
    producers_done(&b);
    for (int i = 0; i < a->nlinear; i++)
        if (lin[i].layer >= 0 && strcmp(lin[i].role, "o") && strcmp(lin[i].role, "down")) cols(&b, i, 1);
    cols(&b, a->head, 1);
    s = finish(&b, OZ_SITE_RESIDUAL, -1, -1, d->hidden, OZ_FOLD_ORTHO, why_residual, &at);
    for (int L = 0; L < d->layers && !s; L++) {
        s = attention(&b, L, 0);
        if (!s) s = mlp(&b, L, 0);
    }
    if (!s) {
        add(&b, a->final_norm, OZ_END_GAIN, 1, d->hidden);
        producers_done(&b);
        cols(&b, a->head, 1);
        s = finish(&b, OZ_SITE_HEAD, -1, -1, d->hidden, OZ_FOLD_DIAG, why_norm, &at);
    }
    if (!s) {
        lin[a->embed].site_out = 0;
        lin[a->head].site_in = at;
    }
    oz_free(b.end);
    return s;
}

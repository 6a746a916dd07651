/* number/linear/linear.c: a linear in memory, and the one way its product is computed.
 *
 * Order: in-maps (made once per site, kept in the memo by map id) -> activation format (kept by format) -> product with the weights ->
 * sidecars and out-maps in their places -> bias.  What multiplies (choose):
 *     tiles, integer   codes and activations are integers: the kernels, on a layout made at the first product (oz_linear.layout)
 *     rows, integer    the same in portable loops (int_rows.c), for groups that the layout does not take
 *     tiles, f32       integer codes, f32 activations: the kernels
 *     panel            plain f32, f16 and bf16 matrices in their own type
 *     exact            --compute exact and all other formats: panels of rows decoded to f32 by the format's own definition, one BLAS
 * product Integer products and exact ones do not depend on the other tokens of the call; the f32 kernels take another way for many tokens
 * than for few, and agree to rounding.  Nothing depends on the number of threads: pieces of work depend on shapes alone. */
#include "number/linear/linear_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define PANEL        128
#define TOKENS       512
#define MOST_MAPS    8
#define MOST_LINEARS 16

/* ---- life ---- */
void oz_linear_drop(oz_linear *l)
{
    oz_tiles_free(l->layout);
    if (l->owns) {
        for (int i = 0; i < l->nw; i++) oz_packed_drop(&l->w[i]);
        oz_free(l->w);
        oz_array_drop(&l->rows);
        oz_array_drop(&l->cols);
        for (int i = 0; i < l->nin + l->nout; i++) {
            oz_map *m = i < l->nin ? &l->in_map[i] : &l->out_map[i - l->nin];
            oz_array_drop(&m->a);
            oz_array_drop(&m->b);
            oz_array_drop(&m->idx);
        }
        oz_free(l->in_map);
        oz_free(l->out_map);
        for (int i = 0; i < l->nside; i++) oz_sidecar_drop(&l->side[i]);
        oz_free(l->side);
    }
    memset(l, 0, sizeof *l);
}

oz_status oz_linear_decode(const oz_linear *l, oz_mat w)
{
    if (l->nw != 1) return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "%s: a mix of formats inside one linear is not built yet", l->name);
    OZ_TRY(oz_unpack(&l->w[0], 0, l->w[0].fmt.m, w));
    for (int i = 0; i < l->nside; i++) {
        if (!l->side[i].type->dense)
            return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "%s: sidecar %s has no matrix form", l->name, l->side[i].type->entry.name);
        OZ_TRY(l->side[i].type->dense(&l->side[i], w));
    }
    return OZ_OK;
}

double oz_linear_bits(const oz_linear *l)
{
    double sum = 0;
    for (int i = 0; i < l->nw; i++) sum += l->w[i].fmt.type->bits(&l->w[i].fmt);
    for (int i = 0; i < l->nside; i++) sum += l->side[i].type->bits(&l->side[i]);
    for (int i = 0; i < l->nin + l->nout; i++) {
        const oz_map *m = i < l->nin ? &l->in_map[i] : &l->out_map[i - l->nin];
        const oz_array *a[] = {&m->a, &m->b, &m->idx};
        for (int k = 0; k < 3; k++)
            if (a[k]->v.buf) sum += 8.0 * (double)oz_array_bytes(a[k]);
    }
    return sum;
}

/* ---- forms of the input ---- */
typedef struct map_job {
    const oz_map *map;
    oz_mat x, y;
} map_job;
static oz_status map_tokens(void *ctx, int64_t i0, int64_t i1, oz_work *work)
{
    const map_job *j = ctx;
    return oz_map_apply(j->map, OZ_MAP_FWD, oz_mat_rows(j->x, i0, i1 - i0), oz_mat_rows(j->y, i0, i1 - i0), work);
}

typedef enum { WAY_EXACT, WAY_PANEL, WAY_TILES_F32, WAY_INT_ROWS, WAY_INT_TILES } way;
static uint64_t act_key(const oz_act *a, uint64_t chain, int kind)
{
    struct {
        float clip, lo, hi;
        int32_t group;
        uint8_t bits, asym, is_static, kind;
    } k = {a->clip, a->range_lo, a->range_hi, a->group, a->bits, a->asym, a->is_static, (uint8_t)kind};
    return oz_hash64(&k, sizeof k, chain);
}

static oz_status check_finite(oz_mat x, const char *linear)
{
    for (int64_t t = 0; t < x.rows; t++) {
        float zero = 0;
        for (int64_t j = 0; j < x.cols; j++) zero += x.p[t * x.ld + j] * 0.0f;
        if (zero != 0 || zero != zero)
            return oz_fail(OZ_ERR_NUMERIC, NULL, "%s: input of a product is not finite at token %lld", linear, (long long)t);
    }
    return OZ_OK;
}

/* ---- one call ---- */
typedef struct product {
    const oz_linear *l;
    way way;
    oz_tiles *tiles;
    oz_mat stage[MOST_MAPS + 1]; /* x after that many in-maps */
    oz_mat x;                    /* what the product reads, f32 */
    const oz_form *form;         /* or as integers, plain or in the order of the kernels */
    oz_mat z;                    /* product, before out-maps */
    float *z_own;
    int64_t tasks, across, grain; /* pieces of `grain` rows; across: a block of tokens */
} product;
typedef struct call {
    product p[MOST_LINEARS];
    int n;
    int64_t tokens;
} call;

/* The layout is made at the first product that wants it; a race leaves one of two equal layouts. */
static oz_status tiles_of(const oz_linear *l, oz_pool *pool, oz_tiles **out)
{
    void **at = (void **)(uintptr_t)&l->layout, *have = __atomic_load_n(at, __ATOMIC_ACQUIRE);
    if (!have) {
        oz_tiles *made;
        OZ_TRY(oz_tiles_new(&made, &l->w[0], pool));
        if (__atomic_compare_exchange_n(at, &have, made, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
            have = made;
        else
            oz_tiles_free(made);
    }
    *out = have;
    return OZ_OK;
}

static way choose(const oz_linear *l, bool exact)
{
    const oz_fmt *f = &l->w[0].fmt;
    oz_affine a;
    if (exact) return WAY_EXACT;
    if (l->act.kind && oz_affine_of(f, &a)) return oz_tiles_possible(f) && oz_qact_possible(&l->act, f->n) ? WAY_INT_TILES : WAY_INT_ROWS;
    if (oz_tiles_possible(f)) return WAY_TILES_F32;
    return f->type->flags & OZ_FMT_FLOAT ? WAY_PANEL : WAY_EXACT; /* decoded all the same: then independently of other tokens */
}

/* Rows of an expert out of all tokens; key names them. */
static oz_status gather(oz_mat *x, oz_memo *memo, const oz_apply *opt, uint64_t key)
{
    oz_form *f;
    bool fresh;
    if (!opt || !opt->rows) return OZ_OK;
    OZ_TRY(oz_memo_form(memo, key, opt->nrows, x->cols, OZ_FORM_F32, 0, &f, &fresh));
    for (int i = 0; fresh && i < opt->nrows; i++) memcpy(f->x + i * x->cols, x->p + opt->rows[i] * x->ld, sizeof *f->x * (size_t)x->cols);
    *x = oz_mat_of(f->x, opt->nrows, x->cols);
    return OZ_OK;
}

/* The input in the linear's activation format: codes for an integer product, else rounded f32. */
static oz_status make_form(const product *p, oz_form *f, const oz_apply *opt, oz_pool *pool)
{
    const oz_act *act = &p->l->act;
    oz_mat x = p->x;
    int64_t *saturated = opt ? opt->saturated : NULL;
    if (p->way == WAY_INT_TILES) {
        oz_status s = oz_kernel_act_quant(&f->q, act, x, saturated, pool);
        return s ? oz_fail_in(s, "%s", p->l->name) : OZ_OK;
    }
    OZ_TRY(check_finite(x, p->l->name));
    if (p->way == WAY_INT_ROWS) {
        oz_act_codes(act, x, f->code, f->scale, saturated);
        return OZ_OK;
    }
    for (int64_t t = 0; t < x.rows; t++) memcpy(f->x + t * x.cols, x.p + t * x.ld, sizeof(float) * (size_t)x.cols);
    oz_act_fake(act, oz_mat_of(f->x, x.rows, x.cols), saturated);
    return OZ_OK;
}

static oz_status activate(product *p, oz_memo *memo, uint64_t chain, const oz_apply *opt, oz_pool *pool)
{
    oz_mat x = p->x;
    oz_form *f;
    bool fresh;
    int64_t run = oz_act_run(&p->l->act, x.cols), runs = (x.cols + run - 1) / run, flush;
    oz_form_kind kind = p->way == WAY_INT_TILES ? OZ_FORM_KERNEL : p->way == WAY_INT_ROWS ? OZ_FORM_CODES : OZ_FORM_F32;
    OZ_TRY(oz_memo_form(memo, act_key(&p->l->act, chain, kind), x.rows, x.cols, kind, runs, &f, &fresh));
    oz_status s = fresh ? make_form(p, f, opt, pool) : OZ_OK;
    if (s) {
        f->used = false;
        return s;
    }
    p->form = f;
    if (kind == OZ_FORM_F32) p->x = oz_mat_of(f->x, x.rows, x.cols);
    if (kind != OZ_FORM_KERNEL) return OZ_OK;
    OZ_TRY(oz_qact_prepare(f->q, p->tiles, &flush));
    if (flush) return p->l->act.asym ? oz_tiles_sums(p->tiles, flush) : OZ_OK;
    p->way = WAY_INT_ROWS; /* groups of weights and activations that do not fit into one another */
    return activate(p, memo, chain, opt ? &(oz_apply){.rows = opt->rows, .nrows = opt->nrows} : NULL, pool);
}

static oz_status prepare(product *p, const oz_linear *l, oz_input *in, oz_memo *memo, const oz_apply *opt, oz_pool *pool)
{
    p->l = l;
    if (l->nw != 1) return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "%s: a mix of formats inside one linear is not built yet", l->name);
    if (l->nin > MOST_MAPS || l->nout > MOST_MAPS)
        return oz_fail(OZ_ERR_RANGE, NULL, "%s has more than %d maps on a side", l->name, MOST_MAPS);
    for (int i = 0; i < l->nside; i++)
        if (l->side[i].type->claim)
            return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "%s: sidecar %s takes entries out of the product, which is not built yet", l->name,
                           l->side[i].type->entry.name);
    oz_mat x = in->x;
    uint64_t chain = 0;
    p->stage[0] = x;
    for (int i = 0; i < l->nin; i++) {
        oz_form *f;
        bool fresh;
        chain = oz_hash64(&l->in_map[i].id, sizeof l->in_map[i].id, chain + 1);
        OZ_TRY(oz_memo_form(memo, chain, x.rows, l->in_map[i].out, OZ_FORM_F32, 0, &f, &fresh));
        oz_mat y = oz_mat_of(f->x, x.rows, l->in_map[i].out);
        map_job job = {&l->in_map[i], x, y};
        if (fresh) {
            oz_status s = oz_pool_for(pool, x.rows, 16, map_tokens, &job);
            if (s) {
                f->used = false;
                return s;
            }
        }
        p->stage[i + 1] = x = y;
    }
    if (x.cols != l->w[0].fmt.n)
        return oz_fail(OZ_ERR_SHAPE, NULL, "%s takes %lld inputs, got %lld", l->name, (long long)l->w[0].fmt.n, (long long)x.cols);
    p->way = choose(l, opt && opt->exact);
    if (p->way == WAY_INT_TILES || p->way == WAY_TILES_F32) OZ_TRY(tiles_of(l, pool, &p->tiles));
    uint64_t some = opt && opt->rows ? oz_hash64(opt->rows, sizeof *opt->rows * (size_t)opt->nrows, 7) : 0;
    for (int i = 0; i <= l->nin; i++) { /* the product reads the last, sidecars may read others */
        bool wanted = i == l->nin;
        for (int k = 0; k < l->nside; k++) wanted = wanted || l->side[k].after_in == i;
        if (wanted) OZ_TRY(gather(&p->stage[i], memo, opt, oz_hash64(&i, sizeof i, chain ^ some)));
    }
    p->x = p->stage[l->nin];
    if (!l->act.kind) return OZ_OK;
    return activate(p, memo, chain ^ some, opt, pool);
}

/* x [tokens x k] times 128 decoded rows.  OpenBLAS takes another way for small products, which rounds differently, so tokens are padded to
 * a multiple of 16 and past its limit (10^6 multiplications), rows to a whole panel: then a token's result does not depend on the others.
 */
#define ALIGN_TOKENS 16
#define SMALL_BLAS   1100000
static oz_status product_f32(oz_mat x, oz_mat panel, oz_mat y, oz_work *work)
{
    int64_t least = SMALL_BLAS / (PANEL * x.cols) + 1, tokens = x.rows > least ? x.rows : least;
    tokens = (tokens + ALIGN_TOKENS - 1) / ALIGN_TOKENS * ALIGN_TOKENS;
    if (tokens == x.rows && y.cols == PANEL) return oz_gemm(NULL, 0, 1, 1, x, panel, 0, y);
    float *out = oz_arena_alloc(work->arena, sizeof(float) * (size_t)(tokens * PANEL));
    if (!out) return OZ_ERR_NOMEM;
    if (tokens != x.rows) {
        float *in = oz_arena_zalloc(work->arena, sizeof(float) * (size_t)(tokens * x.cols));
        if (!in) return OZ_ERR_NOMEM;
        for (int64_t t = 0; t < x.rows; t++) memcpy(in + t * x.cols, x.p + t * x.ld, sizeof(float) * (size_t)x.cols);
        x = oz_mat_of(in, tokens, x.cols);
    }
    OZ_TRY(oz_gemm(NULL, 0, 1, 1, x, panel, 0, oz_mat_of(out, tokens, PANEL)));
    for (int64_t t = 0; t < y.rows; t++) memcpy(y.p + t * y.ld, out + t * PANEL, sizeof(float) * (size_t)y.cols);
    return OZ_OK;
}

static oz_status piece(const product *p, int64_t task, oz_work *work)
{
    const oz_packed *w = &p->l->w[0];
    int64_t r0 = task % p->across * p->grain, t0 = task / p->across * TOKENS;
    int64_t r1 = w->fmt.m < r0 + p->grain ? w->fmt.m : r0 + p->grain, t1 = p->z.rows < t0 + TOKENS ? p->z.rows : t0 + TOKENS;
    oz_mat y = oz_mat_cols(oz_mat_rows(p->z, t0, t1 - t0), r0, r1 - r0);
    switch (p->way) {
    case WAY_INT_TILES:
        return oz_kernel_int(p->tiles, p->form->q, r0, r1, p->z, work);
    case WAY_TILES_F32:
        return oz_kernel_f32(p->tiles, p->x, r0, r1, p->z, work);
    case WAY_PANEL:
        return oz_kernel_panel(w, p->x, r0, r1, p->z, work);
    case WAY_INT_ROWS:
        return oz_int_rows(w, &p->l->act, p->form, r0, r1, t0, t1, y, work);
    case WAY_EXACT:
        break;
    }
    float *decoded = oz_arena_alloc(work->arena, sizeof(float) * (size_t)(PANEL * w->fmt.n));
    if (!decoded) return OZ_ERR_NOMEM;
    OZ_TRY(w->fmt.type->unpack(w, r0, r1 - r0, 0, oz_mat_of(decoded, r1 - r0, w->fmt.n)));
    if (r1 - r0 < PANEL) memset(decoded + (r1 - r0) * w->fmt.n, 0, sizeof(float) * (size_t)((PANEL - (r1 - r0)) * w->fmt.n));
    return product_f32(oz_mat_rows(p->x, t0, t1 - t0), oz_mat_of(decoded, PANEL, w->fmt.n), y, work);
}

static oz_status region(void *ctx, int64_t i0, int64_t i1, oz_work *work)
{
    call *c = ctx;
    for (int64_t i = i0; i < i1; i++) {
        int64_t task = i;
        int k = 0;
        while (task >= c->p[k].tasks) task -= c->p[k++].tasks;
        oz_arena_mark mark = oz_arena_save(work->arena);
        OZ_TRY(piece(&c->p[k], task, work));
        oz_arena_rewind(work->arena, mark);
    }
    return OZ_OK;
}

typedef struct tail {
    const product *p;
    oz_mat y;
} tail;
/* Sidecars, out-maps and bias, token by token. */
static oz_status finish(void *ctx, int64_t i0, int64_t i1, oz_work *work)
{
    const tail *f = ctx;
    const oz_linear *l = f->p->l;
    oz_mat y = oz_mat_rows(f->p->z, i0, i1 - i0), last = oz_mat_rows(f->y, i0, i1 - i0);
    for (int step = 0; step <= l->nout; step++) {
        for (int k = 0; k < l->nside; k++)
            if (l->side[k].before_out == step)
                OZ_TRY(l->side[k].type->apply(&l->side[k], oz_mat_rows(f->p->stage[l->side[k].after_in], i0, i1 - i0), y, work));
        if (step == l->nout) break;
        oz_mat to = last;
        if (step + 1 < l->nout) {
            float *t = oz_arena_alloc(work->arena, sizeof(float) * (size_t)((i1 - i0) * l->out_map[step].out));
            if (!t) return OZ_ERR_NOMEM;
            to = oz_mat_of(t, i1 - i0, l->out_map[step].out);
        }
        OZ_TRY(oz_map_apply(&l->out_map[step], OZ_MAP_FWD, y, to, work));
        y = to;
    }
    for (int64_t t = 0; l->bias && t < y.rows; t++)
        for (int64_t j = 0; j < y.cols; j++) y.p[t * y.ld + j] += l->bias[j];
    return OZ_OK;
}

static oz_status apply(call *c, const oz_linear *const *lin, oz_input *in, oz_memo *memo, const oz_mat *y, const oz_apply *opt,
                       oz_pool *pool)
{
    int64_t tasks = 0;
    for (int i = 0; i < c->n; i++) {
        product *p = &c->p[i];
        OZ_TRY(prepare(p, lin[i], in, memo, opt, pool));
        int64_t m = lin[i]->w[0].fmt.m, out = lin[i]->nout ? lin[i]->out_map[lin[i]->nout - 1].out : m;
        if (y[i].rows != c->tokens || y[i].cols != out)
            return oz_fail(OZ_ERR_SHAPE, NULL, "%s gives %lld x %lld, its output is %lld x %lld", lin[i]->name, (long long)c->tokens,
                           (long long)out, (long long)y[i].rows, (long long)y[i].cols);
        p->z = y[i];
        if (lin[i]->nout) {
            p->z_own = oz_alloc((size_t)c->tokens * (size_t)m, sizeof(float));
            if (!p->z_own) return OZ_ERR_NOMEM;
            p->z = oz_mat_of(p->z_own, c->tokens, m);
        }
        bool ours = p->way == WAY_EXACT || p->way == WAY_INT_ROWS; /* the kernels cut tokens themselves */
        p->grain = ours ? PANEL : oz_kernel_grain(m, lin[i]->w[0].fmt.n);
        p->across = (m + p->grain - 1) / p->grain;
        p->tasks = p->across * (ours ? (c->tokens + TOKENS - 1) / TOKENS : 1);
        tasks += p->tasks;
    }
    OZ_TRY(oz_pool_for(pool, tasks, 1, region, c));
    for (int i = 0; i < c->n; i++) {
        tail f = {&c->p[i], y[i]};
        if (lin[i]->nside || lin[i]->nout || lin[i]->bias) OZ_TRY(oz_pool_for(pool, c->tokens, 16, finish, &f));
    }
    return OZ_OK;
}

oz_status oz_linear_apply(const oz_linear *const *lin, int n, oz_input *in, const oz_mat *y, const oz_apply *opt, oz_run *run)
{
    if (n < 1 || n > MOST_LINEARS) return oz_fail(OZ_ERR_RANGE, NULL, "1 to %d linears share an input, got %d", MOST_LINEARS, n);
    for (int i = 0; opt && opt->rows && i < opt->nrows; i++)
        if (opt->rows[i] < 0 || opt->rows[i] >= in->x.rows)
            return oz_fail(OZ_ERR_RANGE, NULL, "%s: token %d of %lld", lin[0]->name, opt->rows[i], (long long)in->x.rows);
    oz_memo *memo = in->memo, *own = NULL;
    if (!memo) {
        OZ_TRY(oz_memo_new(&own));
        memo = own;
    }
    call *c = oz_zalloc(1, sizeof *c);
    oz_status s = c ? OZ_OK : OZ_ERR_NOMEM;
    if (!s) {
        c->n = n;
        c->tokens = opt && opt->rows ? opt->nrows : in->x.rows;
        s = apply(c, lin, in, memo, y, opt, run ? run->pool : NULL);
        for (int i = 0; i < n; i++) oz_free(c->p[i].z_own);
    }
    oz_free(c);
    oz_memo_free(own);
    return s;
}

const char *oz_linear_kernel(const oz_linear *l, int64_t tokens, char *out, size_t n)
{
    (void)tokens;
    oz_affine a;
    oz_tiles *tiles;
    if (l->nw != 1) {
        snprintf(out, n, "none");
        return out;
    }
    way w = choose(l, false);
    if ((w == WAY_INT_TILES || w == WAY_TILES_F32) && !tiles_of(l, NULL, &tiles)) return oz_tiles_name(tiles, w == WAY_INT_TILES, out, n);
    if (w == WAY_INT_ROWS && oz_affine_of(&l->w[0].fmt, &a))
        snprintf(out, n, "dot_int b%d g%lld portable", a.bits, (long long)a.group);
    else
        snprintf(out, n, "unpack %s", l->w[0].fmt.spec->text);
    return out;
}

/* number/kernel/qact.c: quantizes activations for the integer products (card cpu-inference, kernel/act_quant; asymmetric and static
 * formats: card smoothquant) and keeps what a product needs beside the codes: scales and sums of every run.
 *
 * Per token t and group of A inputs, Q = 2^(b-1) - 1:
 *     symmetric   m = clip max|x|; m < 1e-30: codes 0, a = 0; else inv = Q/m, a = m/Q, q = rint(x inv) in [-Q, Q] (b = 8), [-Q-1, Q] (b <
 * 8) asym        lo = clip min(min x, 0), hi = clip max(max x, 0), a = (hi - lo)/P, z = rint(-lo/a) in [0, P], q = rint(x/a) + z in [0, P];
 *                 stored as q - 128, so the products see x = a (stored + (128 - z))
 *     tensor      one group for all tokens;  static: the range comes from calibration and elements outside are counted */
#include "number/kernel/cells.h"

#include <inttypes.h>
#include <math.h>

typedef struct runs_of {
    int64_t run, runs;
    int32_t *init[OZ_TILE_WIDTHS]; /* [runs * tokens] as blocks of [runs][mt] */
    float *xsum, *a, *az;
} runs_of;
#define MOST_RUNS 8 /* different run lengths of the linears that share one input */

struct oz_qact {
    oz_act act;
    int64_t tokens, k, kpad, group, groups; /* activation groups a token; tensor: groups = 1 and the same scale in all tokens */
    int8_t *codes;                          /* blocks of 12 tokens: [kpad/4][mt][4] */
    float *a, *zero;                        /* [tokens][groups]; zero: 128 - z, NULL when symmetric */
    runs_of memo[MOST_RUNS];
    int nmemo;
};

bool oz_qact_possible(const oz_act *f, int64_t k)
{
    if (f->kind != 1 || f->bits < 2 || f->bits > 8) return false;
    return f->group == -1 || f->group == -2 || f->group >= k || (f->group > 0 && f->group % 16 == 0);
}

void oz_qact_free(oz_qact *q)
{
    if (!q) return;
    for (int i = 0; i < q->nmemo; i++) {
        for (int w = 0; w < OZ_TILE_WIDTHS; w++) oz_free(q->memo[i].init[w]);
        oz_free(q->memo[i].xsum);
        oz_free(q->memo[i].a);
        oz_free(q->memo[i].az);
    }
    oz_free(q->codes);
    oz_free(q->a);
    oz_free(q->zero);
    oz_free(q);
}

/* Scale, zero and the rule for codes from a range. */
static void rule_of(const oz_act *f, const oz_range *r, float *a, float *z, oz_code_rule *rule)
{
    int top = (1 << (f->bits - 1)) - 1, all = (1 << f->bits) - 1;
    *z = 0;
    if (f->asym) {
        float lo = f->clip * (r->lo < 0 ? r->lo : 0), hi = f->clip * (r->hi > 0 ? r->hi : 0);
        *a = (hi - lo) / (float)all;
        if (!(*a > 0)) *a = 1;
        *z = rintf(-lo / *a);
        *z = *z < 0 ? 0 : *z > (float)all ? (float)all : *z;
        *rule = (oz_code_rule){*a, *z, 0, (float)all, true};
        return;
    }
    float m;
    memcpy(&m, &r->absmax, 4);
    m *= f->clip;
    *a = m < 1e-30f ? 0 : m / (float)top;
    *rule = (oz_code_rule){m < 1e-30f ? 0 : (float)top / m, 0, f->bits == 8 ? (float)-top : (float)(-top - 1), (float)top, false};
}

typedef struct job {
    oz_qact *q;
    oz_mat x;
    const oz_kernels *kernels;
    const oz_range *fixed; /* static and tensor formats */
    oz_range *found;       /* of each block, tensor formats */
    int64_t *outside;
} job;

static oz_status not_finite(int64_t token)
{
    return oz_fail(OZ_ERR_NUMERIC, "the model or an earlier step produces infinities; look at the first layer that does",
                   "input of a product is not finite at token %" PRId64, token);
}

static oz_status find_range(void *ctx, int64_t t0, int64_t t1, oz_work *work)
{
    const job *j = ctx;
    (void)work;
    oz_range all = {0, INFINITY, -INFINITY}, r;
    for (int64_t t = t0; t < t1; t++) {
        j->kernels->act.range(j->x.p + t * j->x.ld, j->q->k, &r);
        if (r.absmax >= 0x7f800000u) return not_finite(t);
        if (r.absmax > all.absmax) all.absmax = r.absmax;
        if (r.lo < all.lo) all.lo = r.lo;
        if (r.hi > all.hi) all.hi = r.hi;
    }
    j->found[t0 / OZ_TILE_TOKENS] = all;
    return OZ_OK;
}

static oz_status one_block(void *ctx, int64_t t0, int64_t t1, oz_work *work)
{
    const job *j = ctx;
    oz_qact *q = j->q;
    int64_t outside = 0, calls = 0, mt = t1 - t0;
    int8_t *block = q->codes + t0 * q->kpad, *row = block;
    if (mt > 1 && !(row = oz_arena_alloc(work->arena, (size_t)q->kpad))) return OZ_ERR_NOMEM;
    for (int64_t t = t0; t < t1; t++) {
        const float *x = j->x.p + t * j->x.ld;
        for (int64_t g = 0; g < q->groups; g++) {
            int64_t at = g * q->group, n = q->k - at < q->group ? q->k - at : q->group;
            oz_range r;
            oz_code_rule rule;
            float z;
            if (j->fixed && q->act.is_static) {
                j->kernels->act.range(x + at, n, &r);
                if (r.absmax >= 0x7f800000u) return not_finite(t);
            }
            if (j->fixed)
                r = *j->fixed;
            else
                j->kernels->act.range(x + at, n, &r);
            if (r.absmax >= 0x7f800000u) return not_finite(t);
            rule_of(&q->act, &r, &q->a[t * q->groups + g], &z, &rule);
            if (q->zero) q->zero[t * q->groups + g] = 128 - z;
            outside += j->kernels->act.quantize(x + at, n, &rule, row + at);
            if (!rule.factor) /* an empty static range: whatever is not 0 is outside */
                for (int64_t i = at; i < at + n; i++) outside += x[i] != 0;
            calls++;
        }
        memset(row + q->k, 0, (size_t)(q->kpad - q->k));
        if (mt > 1)
            for (int64_t k = 0; k < q->kpad; k += 4) memcpy(block + k * mt + 4 * (t - t0), row + k, 4);
    }
    if (q->act.is_static && j->outside) __atomic_add_fetch(j->outside, outside, __ATOMIC_RELAXED);
    oz_kernel_count(OZ_CELL_QUANTIZE, (uint64_t)calls);
    oz_kernel_count(OZ_CELL_RANGE, (uint64_t)(j->fixed ? 0 : calls));
    return OZ_OK;
}

oz_status oz_kernel_act_quant(oz_qact **out, const oz_act *f, oz_mat x, int64_t *saturated, oz_pool *pool)
{
    *out = NULL;
    if (!oz_qact_possible(f, x.cols))
        return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "activations in format %s have no integer form of %" PRId64 " inputs",
                       f->text ? f->text : "?", x.cols);
    oz_qact *q = oz_zalloc(1, sizeof *q);
    if (!q) return OZ_ERR_NOMEM;
    q->act = *f;
    q->tokens = x.rows;
    q->k = x.cols;
    q->kpad = (x.cols + 15) / 16 * 16;
    q->group = f->group <= 0 || f->group >= x.cols ? q->kpad : f->group;
    q->groups = (q->k + q->group - 1) / q->group;
    int64_t outside = 0, blocks = (x.rows + OZ_TILE_TOKENS - 1) / OZ_TILE_TOKENS;
    job j = {.q = q, .x = x, .outside = &outside};
    oz_range fixed = {0, INFINITY, -INFINITY};
    oz_status s = oz_kernels_active(&j.kernels);
    if (s) goto done;
    s = OZ_ERR_NOMEM;
    q->codes = oz_alloc_aligned((size_t)(q->tokens * q->kpad) + 64, 64);
    q->a = oz_alloc((size_t)(q->tokens * q->groups), sizeof(float));
    if (f->asym) q->zero = oz_alloc((size_t)(q->tokens * q->groups), sizeof(float));
    if (!q->codes || !q->a || (f->asym && !q->zero)) goto done;
    if (f->is_static) {
        float most = fmaxf(fabsf(f->range_lo), fabsf(f->range_hi));
        if (f->asym)
            fixed = (oz_range){0, f->range_lo, f->range_hi};
        else
            memcpy(&fixed.absmax, &most, 4);
        j.fixed = &fixed;
    } else if (f->group == -2 && x.rows) {
        if (!(j.found = oz_alloc((size_t)blocks, sizeof *j.found))) goto done;
        s = oz_pool_for(pool, x.rows, OZ_TILE_TOKENS, find_range, &j);
        if (s) goto done;
        for (int64_t b = 0; b < blocks; b++) {
            if (j.found[b].absmax > fixed.absmax) fixed.absmax = j.found[b].absmax;
            if (j.found[b].lo < fixed.lo) fixed.lo = j.found[b].lo;
            if (j.found[b].hi > fixed.hi) fixed.hi = j.found[b].hi;
        }
        j.fixed = &fixed;
    }
    s = oz_pool_for(pool, x.rows, OZ_TILE_TOKENS, one_block, &j);
done:
    oz_free(j.found);
    if (s) {
        oz_qact_free(q);
        return s;
    }
    if (saturated) *saturated += outside;
    *out = q;
    return OZ_OK;
}

/* Code of token t at input k. */
static int8_t code_of(const oz_qact *q, int64_t t, int64_t k)
{
    int64_t b = t / OZ_TILE_TOKENS * OZ_TILE_TOKENS, mt = q->tokens - b < OZ_TILE_TOKENS ? q->tokens - b : OZ_TILE_TOKENS;
    return q->codes[b * q->kpad + k / 4 * 4 * mt + (t - b) * 4 + k % 4];
}

void oz_qact_decode(const oz_qact *q, oz_mat x)
{
    for (int64_t t = 0; t < q->tokens; t++)
        for (int64_t k = 0; k < q->k; k++) {
            int64_t g = t * q->groups + k / q->group;
            x.p[t * x.ld + k] = q->a[g] * ((float)code_of(q, t, k) + (q->zero ? q->zero[g] : 0));
        }
}

static int64_t common_divisor(int64_t a, int64_t b)
{
    while (b) {
        int64_t r = a % b;
        a = b;
        b = r;
    }
    return a;
}

#define LONGEST_RUN 32768 /* 255 * 127 * 32768 < 2^31 */

static int64_t run_of(const oz_qact *q, int64_t group, int64_t kpad)
{
    int64_t g = group >= kpad ? 0 : group, a = q->group >= q->kpad ? 0 : q->group, run = common_divisor(g, a);
    if (!run) run = kpad;
    while (run > LONGEST_RUN) {
        if (g || a) { /* halves stay divisors of both groups */
            if (run % 32) return 0;
            run /= 2;
        } else
            run = LONGEST_RUN;
    }
    return run % 16 ? 0 : run;
}

static const runs_of *known(const oz_qact *q, int64_t run)
{
    for (int i = 0; i < q->nmemo; i++)
        if (q->memo[i].run == run) return &q->memo[i];
    return NULL;
}

oz_status oz_qact_prepare(oz_qact *q, const oz_tiles *w, int64_t *out)
{
    *out = 0;
    if (w->kpad != q->kpad || w->cols != q->k)
        return oz_fail(OZ_ERR_SHAPE, NULL, "weight for %" PRId64 " inputs and activations of %" PRId64, w->cols, q->k);
    int64_t run = run_of(q, w->group, w->kpad), runs = run ? (q->kpad + run - 1) / run : 0;
    if (!run || known(q, run)) {
        *out = run;
        return OZ_OK;
    }
    if (q->nmemo == MOST_RUNS) return OZ_OK; /* the f32 path serves the ninth kind of group at one site */
    runs_of *m = &q->memo[q->nmemo];
    *m = (runs_of){.run = run, .runs = runs};
    q->nmemo++; /* oz_qact_free owns what follows, also when it is incomplete */
    size_t n = (size_t)(runs * q->tokens);
    for (int b = 0; b < OZ_TILE_WIDTHS; b++)
        if (!(m->init[b] = oz_alloc(n, sizeof(int32_t)))) goto fail;
    if (!(m->xsum = oz_alloc(n, sizeof(float))) || !(m->a = oz_alloc(n, sizeof(float))) ||
        (q->zero && !(m->az = oz_alloc(n, sizeof(float)))))
        goto fail;
    for (int64_t t0 = 0; t0 < q->tokens; t0 += OZ_TILE_TOKENS) {
        int64_t mt = q->tokens - t0 < OZ_TILE_TOKENS ? q->tokens - t0 : OZ_TILE_TOKENS;
        for (int64_t f = 0; f < runs; f++) {
            int64_t k0 = f * run, end = oz_run_end(k0, run, q->kpad);
            int32_t sum[OZ_TILE_TOKENS] = {0};
            const int8_t *c = q->codes + t0 * q->kpad + k0 * mt;
            for (int64_t k = k0; k < end; k += 4)
                for (int64_t t = 0; t < mt; t++, c += 4) sum[t] += c[0] + c[1] + c[2] + c[3];
            for (int64_t t = 0; t < mt; t++) {
                int64_t at = t0 * runs + f * mt + t, g = (t0 + t) * q->groups + k0 / q->group;
                for (int b = 0; b < OZ_TILE_WIDTHS; b++) m->init[b][at] = -sum[t] * oz_tile_centre(b);
                m->xsum[at] = (float)sum[t];
                m->a[at] = q->a[g];
                if (m->az) m->az[at] = q->a[g] * q->zero[g];
            }
        }
    }
    *out = run;
    return OZ_OK;
fail:
    m->run = 0; /* never found again */
    return OZ_ERR_NOMEM;
}

oz_status oz_kernel_int(const oz_tiles *w, const oz_qact *q, int64_t row0, int64_t row1, oz_mat y, oz_work *work)
{
    const oz_kernels *kernels;
    OZ_TRY(oz_kernels_active(&kernels));
    (void)work;
    const runs_of *m = known(q, run_of(q, w->group, w->kpad));
    if (!m || y.rows != q->tokens || y.cols < row1 || row0 % OZ_TILE_ROWS)
        return oz_fail(OZ_ERR_SHAPE, NULL, "integer product of rows %" PRId64 " to %" PRId64 " over %" PRId64 " tokens was not prepared",
                       row0, row1, q->tokens);
    if (q->zero && !(w->wsum && w->wsum_run == m->run))
        return oz_fail(OZ_ERR_SHAPE, NULL, "integer product with asymmetric activations needs weight sums of runs of %" PRId64, m->run);
    oz_dot_fn *dot = kernels->dot.dot[w->width];
    float out[OZ_TILE_TOKENS * OZ_TILE_ROWS] __attribute__((aligned(64)));
    uint64_t calls = 0;
    for (int64_t t0 = 0; t0 < q->tokens; t0 += OZ_TILE_TOKENS) {
        int mt = (int)(q->tokens - t0 < OZ_TILE_TOKENS ? q->tokens - t0 : OZ_TILE_TOKENS);
        int64_t at = t0 * m->runs;
        oz_dot d = {.x = q->codes + t0 * q->kpad,
                    .kpad = q->kpad,
                    .run = m->run,
                    .runs = m->runs,
                    .runs_per_group = w->group >= w->kpad ? INT64_MAX : w->group / m->run,
                    .init = m->init[w->width] + at,
                    .xsum = m->xsum + at,
                    .a = m->a + at,
                    .az = m->az ? m->az + at : NULL,
                    .out = out};
        for (int64_t r0 = row0; r0 < row1; r0 += OZ_TILE_ROWS, calls++) {
            int64_t tile = r0 / OZ_TILE_ROWS, g = tile * w->groups * OZ_TILE_ROWS, n = row1 - r0 < OZ_TILE_ROWS ? row1 - r0 : OZ_TILE_ROWS;
            d.codes = w->codes + (size_t)tile * w->tile_bytes;
            d.scale16 = w->scale16 ? w->scale16 + g : NULL;
            d.scale32 = w->scale32 ? w->scale32 + g : NULL;
            d.zero = w->zero ? w->zero + g : NULL;
            d.shift = w->shift ? w->shift + g : NULL;
            d.wsum = q->zero ? w->wsum + tile * m->runs * OZ_TILE_ROWS : NULL;
            dot(&d, mt);
            for (int t = 0; t < mt; t++) memcpy(y.p + (t0 + t) * y.ld + r0, out + t * OZ_TILE_ROWS, sizeof(float) * (size_t)n);
        }
    }
    oz_kernel_count((oz_cell)(OZ_CELL_DOT2 + w->width), calls);
    return OZ_OK;
}

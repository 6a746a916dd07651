/* quantize/fit/lp.c: scale and zero by a grid search on a p-norm (OWQ, arXiv:2306.02272; card owq C).
 *
 * Over the n elements w_j of a tile that take part, with weights v_j, minimise  sum v_j |Q(w_j) - w_j|^p,  p = norm.
 *     zeros: round   c = 1 - i/grid, i = 0 ... shrink*grid - 1 (or c = 1, then 50 even steps to each end of ratio_range, nearest to 1
 * first): parameters of the range (c lo, c hi), as the format's from_range gives them (the zero follows the scale) zeros: all     step =
 * (hi - lo) i / (N P), i = 1 ... N, and every z in 0 ... P; N = grid, at most 40 when a group is shorter than the row; formats whose zero
 * is an integer code only Parameters are rounded as stored before the error is measured; ties keep the first candidate.  A GGUF type with a
 * signed scale is tried with both signs.  |e|^p is e^2 |e|^(p - 2) by a polynomial (relative error below 1e-5), the same on every machine.
 */
#include "ounce/io.h"
#include "quantize/fit/fit_internal.h"

#include <math.h>
#include <string.h>

typedef struct lp_options {
    double norm, shrink;
    int grid, zeros, fit_weights;
    const oz_node *ratio_range;
} lp_options;
enum { ZEROS_ROUND, ZEROS_ALL };
enum { WEIGHTS_NONE, WEIGHTS_HDIAG, WEIGHTS_GRAD };

/* x^p for x > 0: 2^(p log2 x).  log2: exponent and a series of the mantissa around sqrt(2)/2...sqrt(2); exp2: Taylor on [-1/2, 1/2]. */
static inline float power(float x, float p)
{
    union {
        float f;
        uint32_t u;
    } a = {.f = x > 1e-30f ? x : 1e-30f};
    int32_t e = (int32_t)(a.u - 0x3f3504f3u) >> 23; /* so that the mantissa lies in [0.707, 1.414) */
    a.u -= (uint32_t)e << 23;
    float t = (a.f - 1) / (a.f + 1), t2 = t * t;
    float log2 = (float)e + t * (2.885390082f + t2 * (0.961796694f + t2 * (0.577078016f + t2 * (0.412198583f + t2 * 0.3206f))));
    float y = p * log2;
    y = y > -120 ? y : -120;
    y = y < 120 ? y : 120;
    float whole = (y + 12582912.0f) - 12582912.0f, f = y - whole;
    float r =
        1 + f * (0.6931471806f + f * (0.2402265070f + f * (0.0555041087f + f * (0.0096181291f + f * (0.0013333558f + f * 0.000154035f)))));
    union {
        float f;
        uint32_t u;
    } s = {.f = r};
    s.u += (uint32_t)((int32_t)whole) << 23;
    return s.f;
}

typedef struct search {
    const oz_fmt *f;
    const float *w, *v; /* gathered */
    float *q;
    int64_t n;
    float p;
    double best;
    float scale, zero;
} search;

/* The error under these parameters, given up once it passes the best so far; a better one is kept.  Most candidates of a search are bad
 * within the first few elements, so pieces are short; four sums a piece let the compiler use vectors. */
static void try_params(search *s, float scale, float zero)
{
    enum { PIECE = 32 };
    double sum = 0;
    for (int64_t j = 0; j < s->n && sum <= s->best; j += PIECE) {
        int64_t len = s->n - j < PIECE ? s->n - j : PIECE;
        float e[PIECE] = {0}, part[4] = {0};
        s->f->type->encode(s->f, scale, zero, s->w + j, len, NULL, s->q);
        for (int64_t i = 0; i < len; i++) e[i] = fabsf(s->q[i] - s->w[j + i]);
        if (s->p == 2)
            for (int i = 0; i < PIECE; i++) e[i] *= e[i];
        else
            for (int i = 0; i < PIECE; i++) e[i] = power(e[i], s->p);
        if (s->v)
            for (int64_t i = 0; i < len; i++) e[i] *= s->v[j + i];
        for (int64_t i = len; i < PIECE; i++) e[i] = 0;
        for (int i = 0; i < PIECE; i += 4)
            for (int k = 0; k < 4; k++) part[k] += e[i + k];
        sum += (double)(part[0] + part[1]) + (double)(part[2] + part[3]);
    }
    if (sum < s->best) {
        s->best = sum;
        s->scale = scale;
        s->zero = zero;
    }
}

static void try_range(search *s, float lo, float hi)
{
    float scale, zero = 0;
    s->f->type->from_range(s->f, lo, hi, &scale, &zero);
    try_params(s, scale, zero);
    bool sign = (s->f->shape.flags & OZ_FMT_FOREIGN) && (s->f->shape.flags & OZ_FMT_ZERO);
    if (!sign) return;
    s->f->type->from_range(s->f, -hi, -lo, &scale, &zero);
    try_params(s, scale, zero);
}

static void all_zeros(search *s, const lp_options *o, float lo, float hi)
{
    oz_kdesc k;
    s->f->type->kernel(s->f, &k);
    int top = (1 << k.bits) - 1, steps = s->f->shape.prm_c < s->f->n && o->grid > 40 ? 40 : o->grid;
    /* A good bound first, so that most candidates are given up early; found again in order below, so ties still keep the first. */
    for (int i = steps; 2 * i >= steps; i -= steps / 8 + 1) {
        float scale, zero;
        s->f->type->from_range(s->f, 0, (hi - lo) * (float)i / (float)steps, &scale, &zero);
        float z = scale > 0 ? rintf(-lo * (float)i / (float)steps / scale) : 0;
        try_params(s, scale, z < 0 ? 0 : z > (float)top ? (float)top : z);
    }
    s->best = nextafter(s->best, INFINITY);
    for (int i = 1; i <= steps; i++) {
        float scale, zero;
        s->f->type->from_range(s->f, 0, (hi - lo) * (float)i / (float)steps, &scale, &zero); /* the step, as it is stored */
        for (int z = 0; z <= top; z++) try_params(s, scale, (float)z);
    }
}

static oz_status weights_of(const lp_options *o, const oz_fit_in *in, int64_t j, float *v)
{
    const oz_stats *st = in->stats;
    int64_t c = in->col0 + j;
    if (o->fit_weights == WEIGHTS_HDIAG) {
        if (!st || !st->h)
            return oz_fail(OZ_ERR_UNSUPPORTED, "use solver gptq or fit_weights: none",
                           "fit lp: fit_weights hdiag needs the Hessian, which was not collected");
        *v = (float)st->h[c * st->n + c];
    } else if (o->fit_weights == WEIGHTS_GRAD) {
        if (!st || !st->grad2)
            return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "fit lp: fit_weights grad-sq needs squared gradients, which were not collected");
        *v = st->grad2[c];
    } else
        *v = in->weight ? in->weight[j] : 1;
    return OZ_OK;
}

static oz_status fit(const void *opt, const oz_fmt *f, oz_params *p, int64_t tile_r, int64_t tile_c, const oz_fit_in *in, oz_work *work)
{
    const lp_options *o = opt;
    int64_t most = in->w.rows * in->w.cols;
    float *w = oz_arena_alloc(work->arena, sizeof *w * (size_t)most), *v = NULL, *q = oz_arena_alloc(work->arena, sizeof *q * 256), lo, hi;
    bool weighed = in->weight || o->fit_weights != WEIGHTS_NONE;
    if (weighed) v = oz_arena_alloc(work->arena, sizeof *v * (size_t)most);
    if (!w || !q || (weighed && !v)) return OZ_ERR_NOMEM;
    search s = {f, w, v, q, 0, (float)o->norm, INFINITY, 1, 0};
    for (int64_t i = 0; i < in->w.rows; i++)
        for (int64_t j = 0; j < in->w.cols; j++) {
            if (!oz_fit_takes(in, i, j)) continue;
            w[s.n] = in->w.p[i * in->w.ld + j];
            if (v) OZ_TRY(weights_of(o, in, j, &v[s.n]));
            s.n++;
        }
    oz_fit_range(in, &lo, &hi);
    if (f->shape.flags & OZ_FMT_INT_ZERO) {
        lo = fminf(lo, 0);
        hi = fmaxf(hi, 0);
    }
    if (!(hi > lo) && !(fabsf(hi) > 0)) { /* nothing to choose: the format's own answer */
        f->type->from_range(f, lo, hi, &s.scale, &s.zero);
    } else if (o->zeros == ZEROS_ALL && (f->shape.flags & OZ_FMT_INT_ZERO)) {
        all_zeros(&s, o, lo, hi);
    } else if (o->ratio_range) {
        float from = (float)oz_node_real(oz_node_at(o->ratio_range, 0), 1), to = (float)oz_node_real(oz_node_at(o->ratio_range, 1), 1);
        try_range(&s, lo, hi);
        for (int up = 1, down = 1; up <= 50 || down <= 50;) {
            float cu = 1 + (to - 1) * (float)up / 50, cd = 1 + (from - 1) * (float)down / 50;
            bool take_up = down > 50 || (up <= 50 && cu - 1 <= 1 - cd);
            float c = take_up ? cu : cd;
            try_range(&s, c * lo, c * hi);
            if (take_up)
                up++;
            else
                down++;
        }
    } else {
        int steps = (int)lround(o->shrink * o->grid);
        for (int i = 0; i < (steps > 0 ? steps : 1); i++) {
            float c = 1 - (float)i / (float)o->grid;
            try_range(&s, c * lo, c * hi);
        }
    }
    oz_fit_set(f, p, tile_r, tile_c, s.scale, s.zero);
    return OZ_OK;
}

static const char *refuses(const oz_spec *s, const void *opt)
{
    const lp_options *o = opt;
    if (o && o->ratio_range &&
        (o->ratio_range->kind != OZ_NODE_LIST || o->ratio_range->n != 2 || oz_node_real(oz_node_at(o->ratio_range, 0), 0) <= 0 ||
         oz_node_real(oz_node_at(o->ratio_range, 0), 0) > 1 || oz_node_real(oz_node_at(o->ratio_range, 1), 0) < 1))
        return "fit lp: ratio_range is a list [low, high] with 0 < low <= 1 <= high";
    return oz_fit_refuses(s, opt);
}

#define AT(field) offsetof(lp_options, field)
static const oz_option options[] = {
    {.name = "norm",
     .type = OZ_REAL,
     .at = AT(norm),
     .init = 2.4,
     .min = 0.1,
     .max = 8,
     .brief = "exponent p of the error that is minimised"},
    {.name = "grid",
     .type = OZ_INT,
     .at = AT(grid),
     .init = 100,
     .min = 1,
     .max = 1000,
     .unit = "steps",
     .brief = "steps of the search; with zeros: all at most 40 inside groups"},
    {.name = "shrink",
     .type = OZ_REAL,
     .at = AT(shrink),
     .init = 0.8,
     .min = 0,
     .max = 0.99,
     .unit = "of the range",
     .brief = "how far the range is narrowed"},
    {.name = "zeros",
     .type = OZ_ENUM,
     .at = AT(zeros),
     .init = ZEROS_ROUND,
     .choices = "round|all",
     .brief = "the zero follows from the range, or every integer zero is tried"},
    {.name = "fit_weights",
     .type = OZ_ENUM,
     .at = AT(fit_weights),
     .init = WEIGHTS_NONE,
     .choices = "none|hdiag|grad-sq",
     .brief = "weights of the elements in the error: the diagonal of H, squared gradients"},
    {.name = "ratio_range", .type = OZ_TREE, .at = AT(ratio_range), .brief = "[low, high]: ratios of the range to try, in place of shrink"},
    {0}};

const oz_fit_type oz_fit_lp = {.entry = {.kind = "fit",
                                         .name = "lp",
                                         .brief = "scale and zero by a grid search on the p-norm of the error",
                                         .paper = "arXiv:2306.02272",
                                         .card = "owq",
                                         .options = options,
                                         .options_size = sizeof(lp_options)},
                               .refuses = refuses,
                               .fit = fit};

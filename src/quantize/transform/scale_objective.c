/* scale_objective.c: what a choice of scales costs: the change of an output when the site's linears are rounded in their scaled form.
 *
 *   layer-error    Σ over the site's linears ‖X Wᵀ - Q(X/s) Q(W s)ᵀ‖²                                        (card smoothquant)
 *   site-output    mean of the squared change of: attention before o, act(gate)·up, or the linear's output   (card qqq)
 *   module-output  the same for the whole attention or MLP output                                            (card awq)
 *
 * X [T x width] are the site's inputs in current units.  Q rounds to nearest with min-max parameters in the formats of the passes named in
 * quant.  Q(X/s) Q(W s)ᵀ is evaluated as X~ Ŵᵀ with X~ = s Q(X/s) and Ŵ = Q(W s)/s, so the rest of the module sees ordinary units. */
#include <math.h>
#include <string.h>

#include "quantize/transform/scale.h"

struct scale_objective {
    const scale_options *o;
    const oz_choose *c;
    const oz_arch *arch;
    oz_run *run;
    oz_pool *pool;
    oz_mat x, xs;   /* inputs; X~ */
    int64_t length; /* tokens a text sample; T when samples are not kept apart */
    oz_mat want;    /* the unrounded module output, for objectives that need one */
    int64_t out;    /* its width */
    bool module;    /* an attention or MLP output rather than single linears */
    const oz_spec *weights;
    const oz_act *acts;
    oz_fit fit;
    const oz_solver *rtn;
};

static oz_status mat_new(oz_mat *m, int64_t rows, int64_t cols)
{
    float *p = oz_zalloc((size_t)rows * (size_t)cols, sizeof *p);
    if (!p) return OZ_ERR_NOMEM;
    *m = oz_mat_of(p, rows, cols);
    return OZ_OK;
}

void oz_scale_objective_free(scale_objective *b)
{
    if (!b) return;
    oz_free(b->x.p);
    oz_free(b->xs.p);
    oz_free(b->want.p);
    oz_free((void *)(uintptr_t)b->fit.opt);
    oz_free(b);
}

/* X: the first whole text samples of the captured inputs, at most `tokens`; else the kept sample of rows. */
static oz_status take_inputs(scale_objective *b)
{
    const oz_choose *c = b->c;
    int64_t n = c->row->width, rows = c->x.rows, limit = b->o->tokens;
    b->length = c->length > 0 ? c->length : rows;
    if (rows > 0) {
        if (limit < b->length) limit = b->length;
        if (rows > limit) rows = limit / b->length * b->length;
        OZ_TRY(mat_new(&b->x, rows, n));
        for (int64_t t = 0; t < rows; t++) memcpy(b->x.p + t * n, c->x.p + t * c->x.ld, (size_t)n * sizeof(float));
    } else if (c->stats && c->stats->sample && c->stats->nsample > 0 && !b->module) {
        rows = c->stats->nsample < limit ? c->stats->nsample : limit;
        OZ_TRY(mat_new(&b->x, rows, n));
        oz_to_f32(OZ_F16, c->stats->sample, b->x.p, rows * n);
    } else {
        return oz_fail(OZ_ERR_UNSUPPORTED, "give a calibration text",
                       "transform scale at %s of layer %d: the objective needs inputs of the site and got none",
                       oz_site_name((oz_site)c->row->site), c->row->layer);
    }
    return mat_new(&b->xs, rows, n);
}

static oz_status find_rounding(scale_objective *b)
{
    int nfit, nsolver;
    const oz_fit_type *const *fits = oz_fits(&nfit);
    const oz_solver *const *solvers = oz_solvers(&nsolver);
    for (int k = 0; k < nfit; k++)
        if (strcmp(fits[k]->entry.name, "minmax") == 0) b->fit.type = fits[k];
    for (int k = 0; k < nsolver; k++)
        if (strcmp(solvers[k]->entry.name, "rtn") == 0) b->rtn = solvers[k];
    if (!b->fit.type || !b->rtn)
        return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "transform scale: fit minmax and solver rtn are needed by its objectives");
    void *opt = oz_zalloc(1, b->fit.type->entry.options_size ? b->fit.type->entry.options_size : 1);
    if (!opt) return OZ_ERR_NOMEM;
    oz_options_init(&b->fit.type->entry, opt);
    b->fit.opt = opt;
    return OZ_OK;
}

/* Ŵ = Q(W s) / s in place. */
static oz_status round_weights(const scale_objective *b, oz_mat w, const float *s)
{
    if (!b->weights) return OZ_OK;
    for (int64_t i = 0; i < w.rows; i++)
        for (int64_t j = 0; j < w.cols; j++) w.p[i * w.ld + j] *= s[j];
    oz_fmt fmt;
    OZ_TRY(oz_fmt_bind(&fmt, b->weights, w.rows, w.cols, "transform scale"));
    oz_solution q;
    OZ_TRY(b->rtn->solve(NULL, &fmt, &b->fit, w, NULL, NULL, &q, b->run));
    for (int64_t i = 0; i < w.rows; i++)
        for (int64_t j = 0; j < w.cols; j++) w.p[i * w.ld + j] = q.w_hat.p[i * w.cols + j] / s[j];
    oz_solution_drop(&q);
    return OZ_OK;
}

/* X~ = s Q(X / s); X itself when inputs are not quantized. */
static oz_mat round_inputs(scale_objective *b, const float *s)
{
    if (!b->acts) return b->x;
    oz_act act = *b->acts;
    const oz_stats *st = b->c->stats;
    int64_t n = b->x.cols;
    if (act.is_static && st) { /* the range calibration will find for the scaled input */
        float hi = 0, lo = 0;
        for (int64_t j = 0; j < n; j++) {
            if (act.asym && st->max && st->min) {
                hi = fmaxf(hi, st->max[j] / s[j]);
                lo = fminf(lo, st->min[j] / s[j]);
            } else if (st->absmax) {
                hi = fmaxf(hi, st->absmax[j] / s[j]);
                lo = -hi;
            }
        }
        act.range_hi = hi;
        act.range_lo = lo;
    }
    for (int64_t t = 0; t < b->x.rows; t++)
        for (int64_t j = 0; j < n; j++) b->xs.p[t * n + j] = b->x.p[t * n + j] / s[j];
    oz_act_fake(&act, b->xs, NULL);
    for (int64_t t = 0; t < b->x.rows; t++)
        for (int64_t j = 0; j < n; j++) b->xs.p[t * n + j] *= s[j];
    return b->xs;
}

/* A linear's weights, rounded at s unless s is NULL; to be freed. */
static oz_status take_weights(const scale_objective *b, int linear, const float *s, oz_mat *w)
{
    const oz_linear_row *l = &b->arch->linear[linear];
    OZ_TRY(mat_new(w, l->out, l->in));
    oz_status status = oz_weights_matrix(b->c->weights, linear, w->p);
    if (!status && s) status = round_weights(b, *w, s);
    if (status) oz_free(w->p), w->p = NULL; /* callers free what they hold in every case */
    return status;
}

static double squares(oz_mat a, oz_mat minus)
{
    double total = 0;
    for (int64_t i = 0; i < a.rows; i++)
        for (int64_t j = 0; j < a.cols; j++) {
            double v = (double)a.p[i * a.ld + j] - (minus.p ? (double)minus.p[i * minus.ld + j] : 0);
            total += v * v;
        }
    return total;
}

/* Σ over linears ‖X~ Ŵᵀ - X Wᵀ‖². The router stays as it is and is left out. */
static oz_status linear_errors(scale_objective *b, const float *s, double *value)
{
    oz_mat x = round_inputs(b, s);
    *value = 0;
    for (int k = 0; k < b->c->row->ncons; k++) {
        int linear = b->c->row->cons[k].linear;
        if (strcmp(b->arch->linear[linear].role, "router") == 0) continue;
        oz_mat w = {0}, y = {0}, w_hat = {0};
        oz_status status = take_weights(b, linear, NULL, &w);
        if (!status) status = take_weights(b, linear, s, &w_hat);
        if (!status) status = mat_new(&y, b->x.rows, w.rows);
        if (!status) status = oz_gemm(b->pool, 0, 1, 1.0, b->x, w, 0.0, y);
        if (!status) status = oz_gemm(b->pool, 0, 1, 1.0, x, w_hat, -1.0, y);
        if (!status) *value += squares(y, (oz_mat){0});
        oz_free(w.p);
        oz_free(w_hat.p);
        oz_free(y.p);
        OZ_TRY(status);
    }
    return OZ_OK;
}

static oz_status attention(scale_objective *b, const float *s, oz_mat x, oz_mat y)
{
    static const char *const roles[3] = {"q", "k", "v"};
    oz_mat w[3] = {{0}, {0}, {0}};
    const oz_mat *use[3] = {NULL, NULL, NULL};
    oz_status status = OZ_OK;
    for (int k = 0; s && !status && k < 3; k++) {
        int linear = oz_arch_find(b->arch, roles[k], b->c->layer, -1);
        if (linear < 0) status = oz_fail(OZ_ERR_UNSUPPORTED, NULL, "transform scale: layer %d has no linear %s", b->c->layer, roles[k]);
        if (!status) status = take_weights(b, linear, s, &w[k]);
        use[k] = &w[k];
    }
    if (!status)
        status = oz_model_attention(b->c->model, b->c->layer, x, b->length, use[0], use[1], use[2], b->o->objective == SCALE_MODULE_OUTPUT,
                                    y, b->run);
    for (int k = 0; k < 3; k++) oz_free(w[k].p);
    return status;
}

static oz_status project(scale_objective *b, int linear, const float *s, oz_mat x, oz_mat y)
{
    oz_mat w = {0};
    const oz_linear_row *l = &b->arch->linear[linear];
    float *bias = oz_alloc((size_t)l->out, sizeof *bias);
    bool present = false;
    oz_status status = bias ? take_weights(b, linear, s, &w) : OZ_ERR_NOMEM;
    if (!status) status = oz_gemm(b->pool, 0, 1, 1.0, x, w, 0.0, y);
    if (!status) status = oz_weights_bias(b->c->weights, linear, bias, &present);
    for (int64_t t = 0; !status && present && t < y.rows; t++)
        for (int64_t j = 0; j < y.cols; j++) y.p[t * y.ld + j] += bias[j];
    oz_free(bias);
    oz_free(w.p);
    return status;
}

/* One MLP (expert -1: the dense one) on rows of x: y = down(act(gate x) up x), or without down for site-output. */
static oz_status mlp(scale_objective *b, int expert, const float *s, oz_mat x, oz_mat y)
{
    int layer = b->c->layer, gate = oz_arch_find(b->arch, "gate", layer, expert), up = oz_arch_find(b->arch, "up", layer, expert);
    int down = oz_arch_find(b->arch, "down", layer, expert);
    if (gate < 0 || up < 0 || down < 0)
        return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "transform scale: the MLP of layer %d is not gated", layer);
    oz_mat g = {0}, u = {0};
    oz_status status = mat_new(&g, x.rows, b->arch->linear[gate].out);
    if (!status) status = mat_new(&u, x.rows, b->arch->linear[up].out);
    if (!status) status = project(b, gate, s, x, g);
    if (!status) status = project(b, up, s, x, u);
    for (int64_t t = 0; !status && t < x.rows; t++)
        oz_nn_glu(b->arch->dims.act, g.p + t * g.cols, u.p + t * u.cols, g.p + t * g.cols, g.cols);
    if (!status && b->o->objective == SCALE_MODULE_OUTPUT) status = project(b, down, NULL, g, y);
    if (!status && b->o->objective != SCALE_MODULE_OUTPUT)
        for (int64_t t = 0; t < x.rows; t++) memcpy(y.p + t * y.ld, g.p + t * g.cols, (size_t)g.cols * sizeof *y.p);
    oz_free(g.p);
    oz_free(u.p);
    return status;
}

/* The router's choice for every token, from the unrounded input: experts [T x k] and their weights. */
static oz_status route(scale_objective *b, int32_t *expert, float *weight)
{
    const oz_dims *d = &b->arch->dims;
    int router = oz_arch_find(b->arch, "router", b->c->layer, -1), used = d->experts_used;
    if (router < 0) return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "transform scale: layer %d has experts and no router", b->c->layer);
    oz_mat logits;
    OZ_TRY(mat_new(&logits, b->x.rows, d->experts));
    oz_status status = project(b, router, NULL, b->x, logits);
    for (int64_t t = 0; !status && t < b->x.rows; t++) {
        float *p = logits.p + t * d->experts, sum = 0;
        oz_nn_softmax(p, d->experts);
        for (int k = 0; k < used; k++) {
            int best = 0;
            for (int e = 1; e < d->experts; e++)
                if (p[e] > p[best]) best = e;
            expert[t * used + k] = best;
            weight[t * used + k] = p[best];
            sum += p[best];
            p[best] = -1;
        }
        for (int k = 0; d->norm_topk && k < used; k++) weight[t * used + k] /= sum;
    }
    oz_free(logits.p);
    return status;
}

static oz_status expert_rows(scale_objective *b, int e, const float *s, oz_mat x, oz_mat y, const int32_t *expert, const float *weight)
{
    int used = b->arch->dims.experts_used;
    int64_t count = 0, n = x.cols, at = 0;
    for (int64_t i = 0; i < x.rows * used; i++) count += expert[i] == e;
    if (!count) return OZ_OK;
    oz_mat xe = {0}, ye = {0};
    oz_status status = mat_new(&xe, count, n);
    if (!status) status = mat_new(&ye, count, y.cols);
    for (int64_t i = 0; !status && i < x.rows * used; i++)
        if (expert[i] == e) memcpy(xe.p + at++ * n, x.p + i / used * x.ld, (size_t)n * sizeof *xe.p);
    if (!status) status = mlp(b, e, s, xe, ye);
    at = 0;
    for (int64_t i = 0; !status && i < x.rows * used; i++) {
        if (expert[i] != e) continue;
        float *row = y.p + i / used * y.ld;
        for (int64_t j = 0; j < y.cols; j++) row[j] += weight[i] * ye.p[at * y.cols + j];
        at++;
    }
    oz_free(xe.p);
    oz_free(ye.p);
    return status;
}

static oz_status experts(scale_objective *b, const float *s, oz_mat x, oz_mat y)
{
    const oz_dims *d = &b->arch->dims;
    size_t count = (size_t)b->x.rows * (size_t)d->experts_used;
    int32_t *expert = oz_alloc(count, sizeof *expert);
    float *weight = oz_alloc(count, sizeof *weight);
    oz_status status = expert && weight ? route(b, expert, weight) : OZ_ERR_NOMEM;
    memset(y.p, 0, (size_t)(y.rows * y.cols) * sizeof *y.p);
    for (int e = 0; !status && e < d->experts; e++) status = expert_rows(b, e, s, x, y, expert, weight);
    oz_free(expert);
    oz_free(weight);
    return status;
}

static oz_status module_output(scale_objective *b, const float *s, oz_mat y)
{
    oz_mat x = s ? round_inputs(b, s) : b->x;
    if (b->c->row->site == OZ_SITE_ATTN_IN) return attention(b, s, x, y);
    return b->arch->dims.experts > 0 ? experts(b, s, x, y) : mlp(b, -1, s, x, y);
}

/* Width of what is compared. */
static int64_t output_width(const scale_objective *b)
{
    const oz_dims *d = &b->arch->dims;
    if (b->o->objective == SCALE_MODULE_OUTPUT) return d->hidden;
    if (b->c->row->site == OZ_SITE_ATTN_IN) return (int64_t)d->heads * d->head_dim;
    return d->experts > 0 ? d->expert_ffn : d->ffn;
}

oz_status oz_scale_objective_new(scale_objective **out, const scale_options *o, const oz_choose *c, oz_run *run)
{
    *out = NULL;
    scale_objective *b = oz_zalloc(1, sizeof *b);
    if (!b) return OZ_ERR_NOMEM;
    *b = (scale_objective){.o = o, .c = c, .arch = oz_weights_arch(c->weights), .run = run, .pool = run ? run->pool : NULL};
    bool inner = c->row->site == OZ_SITE_ATTN_IN || c->row->site == OZ_SITE_MLP_IN;
    b->module = inner && o->objective != SCALE_LAYER_ERROR;
    if (c->formats) {
        b->weights = c->formats->weights;
        b->acts = c->formats->has_acts && c->formats->acts.kind ? &c->formats->acts : NULL;
    }
    oz_status status = OZ_OK;
    if (!b->weights && !b->acts)
        status = oz_fail(OZ_ERR_KEY, "add 'quant: [weights]' with the names of later passes",
                         "transform scale: a grid of alpha needs formats to round with, and quant names no pass that has one");
    if (!status) status = find_rounding(b);
    if (!status) status = take_inputs(b);
    if (!status && b->module) {
        b->out = output_width(b);
        status = mat_new(&b->want, b->x.rows, b->out);
        if (!status) status = module_output(b, NULL, b->want);
    }
    if (status)
        oz_scale_objective_free(b);
    else
        *out = b;
    return status;
}

oz_status oz_scale_objective_at(scale_objective *b, const float *s, double *value)
{
    double outputs = (double)b->x.rows;
    if (!b->module) {
        OZ_TRY(linear_errors(b, s, value));
        if (b->o->objective != SCALE_LAYER_ERROR) *value /= outputs;
        return OZ_OK;
    }
    oz_mat y;
    OZ_TRY(mat_new(&y, b->x.rows, b->out));
    oz_status status = module_output(b, s, y);
    if (!status) *value = squares(y, b->want) / (outputs * (double)b->out);
    oz_free(y.p);
    return status;
}

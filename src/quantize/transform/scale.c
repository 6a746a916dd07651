/* scale.c: per-channel equivalent scaling of a site (cards smoothquant and awq; arXiv:2211.10438, arXiv:2306.00978).
 *
 * x'_j = x_j / s_j and W'_oj = W_oj s_j for every consumer of the site; the division folds into the site's producers (a norm's gain, the
 * rows of v or up), so nothing runs at inference.  This file declares the transform, walks the grid of alpha and folds; how s comes from
 * statistics is in scale_rules.c, what a choice costs in scale_objective.c.  The grid always contains s = 1, and ties keep it. */
#include "quantize/transform/scale.h"

#include <math.h>
#include <string.h>

#define AT(f) offsetof(scale_options, f)
static const oz_option options[] = {
    {.name = "rule",
     .type = OZ_ENUM,
     .at = AT(rule),
     .choices = "smooth|awq|ones|random",
     .brief = "how s is chosen: from max |x| and max |W| (SmoothQuant), from mean |x| (AWQ), 1, or at random"},
    {.name = "alpha",
     .type = OZ_TREE,
     .at = AT(alpha),
     .brief = "migration strength: a number, or a grid {from, to, step} searched by the objective (smooth 0.5, awq 0 to 0.95 by 0.05)"},
    {.name = "objective",
     .type = OZ_ENUM,
     .at = AT(objective),
     .choices = "layer-error|site-output|module-output|hidden-mse|kld",
     .brief = "what a grid minimises, with the formats of the passes named in quant"},
    {.name = "tokens",
     .type = OZ_INT,
     .at = AT(tokens),
     .init = 4096,
     .min = 1,
     .max = 1 << 24,
     .unit = "tokens",
     .brief = "calibration tokens the objective compares outputs on, whole text samples (Ounce's choice)"},
    {.name = "spread",
     .type = OZ_REAL,
     .at = AT(spread),
     .init = 0.2,
     .min = 0,
     .max = 10,
     .brief = "rule random: ln s is uniform on [-spread, spread] (rho)"},
    {.name = "seed",
     .type = OZ_REAL,
     .at = AT(seed),
     .init = -1,
     .min = -1,
     .max = 9007199254740991.0,
     .brief = "rule random: -1 takes the recipe's seed"},
    {0}};

typedef struct scale {
    int64_t width, ties, head_dim;
    uint64_t id;
    float *s;
} scale;

static bool number_of(const oz_node *node, double *value)
{
    if (!node) return false;
    if (node->kind == OZ_NODE_TEXT) return oz_parse_f64(oz_node_text(node, ""), 0, 1, value);
    *value = oz_node_real(node, NAN);
    return isfinite(*value) && *value >= 0 && *value <= 1;
}

const char *oz_scale_grid(const scale_options *o, scale_grid *g)
{
    *g = o->rule == SCALE_AWQ ? (scale_grid){0, 0.05, 20} : (scale_grid){0.5, 0, 1};
    if (!o->alpha) return NULL;
    if (o->alpha->kind != OZ_NODE_MAP) {
        g->n = 1;
        return number_of(o->alpha, &g->first) ? NULL : "alpha must be a number from 0 to 1, or a grid {from, to, step}";
    }
    double to;
    if (!number_of(oz_node_get(o->alpha, "from"), &g->first) || !number_of(oz_node_get(o->alpha, "to"), &to) ||
        !number_of(oz_node_get(o->alpha, "step"), &g->step) || to < g->first)
        return "a grid of alpha needs from <= to and step, each from 0 to 1";
    if (o->alpha->n != 3) return "a grid of alpha has the keys from, to, step and no other";
    if (to == g->first) g->step = 1;
    if (g->step < 1e-3) return "the step of a grid of alpha must be at least 0.001";
    g->n = (int)floor((to - g->first) / g->step + 1e-9) + 1;
    return NULL;
}

static bool searches(const scale_options *o, scale_grid *g)
{
    return !oz_scale_grid(o, g) && o->rule <= SCALE_AWQ && o->alpha && o->alpha->kind == OZ_NODE_MAP;
}

static bool has_grid(const scale_options *o, scale_grid *g)
{
    return searches(o, g) || (o->rule == SCALE_AWQ && !o->alpha && !oz_scale_grid(o, g));
}

static uint32_t wants(const void *opt)
{
    const scale_options *o = opt;
    scale_grid g;
    return (o->rule <= SCALE_AWQ ? OZ_WANT_CHANNEL : 0u) | (has_grid(o, &g) ? OZ_WANT_SAMPLE | OZ_WANT_CHANNEL : 0u);
}

static const char *refuses(const void *opt, const oz_site_row *row)
{
    const scale_options *o = opt;
    scale_grid g;
    const char *why = oz_scale_grid(o, &g);
    if (why) return why;
    if (has_grid(o, &g) && o->objective == SCALE_KLD)
        return "objective kld searches one alpha for the whole model, which is not built; use layer-error or module-output";
    if (has_grid(o, &g) && o->objective == SCALE_HIDDEN_MSE)
        return "objective hidden-mse belongs to a method that is not built; use layer-error or module-output";
    if (!row) return NULL;
    if (row->site != OZ_SITE_ATTN_IN && row->site != OZ_SITE_MLP_IN && row->site != OZ_SITE_ATTN_OUT && row->site != OZ_SITE_DOWN &&
        row->site != OZ_SITE_HEAD)
        return "scales fold at attn.in, attn.out, mlp.in, down and head only";
    if (!(row->fold & OZ_FOLD_DIAG)) return row->refuse ? row->refuse : "nothing before this site can take the division";
    if (row->ncons == 0) return "no linear reads this site";
    return NULL;
}

int64_t oz_scale_ties(const oz_site_row *row)
{
    int64_t ties = 1;
    for (int k = 0; k < row->nprod; k++)
        if (row->prod[k].side == OZ_END_ROWS && row->prod[k].count > 0 && row->width % row->prod[k].count == 0)
            ties = row->width / row->prod[k].count;
    return row->head_dim > 0 ? ties : 1;
}

static void end_scale(void *self)
{
    scale *t = self;
    if (t) oz_free(t->s);
    oz_free(t);
}

static oz_status new_scale(const oz_site_row *row, scale **out)
{
    scale *t = oz_zalloc(1, sizeof *t);
    if (!t) return OZ_ERR_NOMEM;
    *t = (scale){.width = row->width, .ties = oz_scale_ties(row), .head_dim = row->head_dim};
    t->s = oz_alloc((size_t)row->width, sizeof *t->s);
    if (!t->s) {
        end_scale(t);
        return OZ_ERR_NOMEM;
    }
    for (int64_t j = 0; j < t->width; j++) t->s[j] = 1;
    *out = t;
    return OZ_OK;
}

static oz_status at_alpha(const scale_options *o, const oz_choose *c, const float *column_max, double alpha, float *s)
{
    return o->rule == SCALE_AWQ ? oz_scale_awq(c->row, c->stats, alpha, s) : oz_scale_smooth(c->row, c->stats, column_max, alpha, s);
}

/* The grid: s = 1 first, then each alpha; only a smaller objective replaces. */
static oz_status search_grid(const scale_options *o, const oz_choose *c, scale_grid g, const float *column_max, float *s, oz_run *run)
{
    scale_objective *objective = NULL;
    float *trial = oz_alloc((size_t)c->row->width, sizeof *trial);
    oz_status status = trial ? oz_scale_objective_new(&objective, o, c, run) : OZ_ERR_NOMEM;
    double best = 0, value;
    if (!status) status = oz_scale_objective_at(objective, s, &best);
    if (!status && c->before) *c->before = best;
    for (int i = 0; !status && i < g.n; i++) {
        status = oz_check_cancel(run);
        if (!status) status = at_alpha(o, c, column_max, g.first + i * g.step, trial);
        if (!status) status = oz_scale_objective_at(objective, trial, &value);
        if (status || !(value < best)) continue;
        best = value;
        memcpy(s, trial, (size_t)c->row->width * sizeof *s);
    }
    if (!status && c->after) *c->after = best;
    oz_scale_objective_free(objective);
    oz_free(trial);
    return status;
}

static oz_status check_inputs(const scale_options *o, const oz_choose *c)
{
    const oz_stats *st = c->stats;
    bool have = st && st->n == c->row->width && (o->rule == SCALE_AWQ ? st->mean_abs != NULL : st->absmax != NULL);
    if (o->rule > SCALE_AWQ || have) return OZ_OK;
    return oz_fail(OZ_ERR_UNSUPPORTED, "give a calibration text",
                   "transform scale at %s of layer %d needs channel statistics of %d inputs and got none",
                   oz_site_name((oz_site)c->row->site), c->row->layer, c->row->width);
}

static oz_status choose(const void *opt, const oz_choose *c, void **self, oz_run *run)
{
    const scale_options *o = opt;
    *self = NULL;
    scale *t = NULL;
    scale_grid g;
    float *column_max = NULL;
    const char *why = refuses(opt, c->row);
    if (why)
        return oz_fail(OZ_ERR_UNSUPPORTED, "leave this site out of the pass's list", "transform scale at %s of layer %d: %s",
                       oz_site_name((oz_site)c->row->site), c->row->layer, why);
    if (c->before) *c->before = NAN;
    if (c->after) *c->after = NAN;
    OZ_TRY(check_inputs(o, c));
    OZ_TRY(new_scale(c->row, &t));
    oz_status status = OZ_OK;
    if (o->rule == SCALE_SMOOTH) {
        column_max = oz_alloc((size_t)t->width, sizeof *column_max);
        status = column_max ? oz_scale_column_max(c, column_max) : OZ_ERR_NOMEM;
    }
    bool grid = has_grid(o, &g);
    if (status || o->rule == SCALE_ONES) {
        ;
    } else if (o->rule == SCALE_RANDOM) {
        oz_scale_random(c->row, o->spread, o->seed < 0 ? c->seed : (uint64_t)o->seed, t->s);
    } else if (grid) {
        status = search_grid(o, c, g, column_max, t->s, run);
    } else {
        oz_scale_grid(o, &g);
        status = at_alpha(o, c, column_max, g.first, t->s);
    }
    oz_free(column_max);
    if (status) {
        end_scale(t);
        return status;
    }
    t->id = oz_hash64(t->s, (size_t)t->width * sizeof *t->s, 0x7363616c65);
    *self = t;
    return OZ_OK;
}

/* Channel of the site that entry j of an end belongs to: producers before query heads were repeated have fewer entries. */
static int64_t channel(const scale *t, int64_t count, int64_t j)
{
    return count == t->width ? j : j / t->head_dim * t->ties * t->head_dim + j % t->head_dim;
}

static oz_status fold(const void *self, const oz_site_row *row, const oz_end *end, double *w, int64_t rows, int64_t cols)
{
    const scale *t = self;
    int64_t n = end->count, first = end->first, limit = end->side == OZ_END_COLS ? cols : end->side == OZ_END_ROWS ? rows : rows * cols;
    if ((n != t->width && n * t->ties != t->width) || first < 0 || first + n > limit)
        return oz_fail(OZ_ERR_SHAPE, NULL,
                       "transform scale at %s of layer %d: an end of %lld channels from %lld meets a site of %lld in a %lld x %lld tensor",
                       oz_site_name((oz_site)row->site), row->layer, (long long)n, (long long)first, (long long)t->width, (long long)rows,
                       (long long)cols);
    switch (end->side) {
    case OZ_END_COLS:
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < n; j++) w[i * cols + first + j] *= (double)t->s[channel(t, n, j)];
        return OZ_OK;
    case OZ_END_ROWS:
        for (int64_t j = 0; j < n; j++)
            for (int64_t k = 0; k < cols; k++) w[(first + j) * cols + k] /= (double)t->s[channel(t, n, j)];
        return OZ_OK;
    case OZ_END_GAIN:
    case OZ_END_BIAS:
    case OZ_END_GAIN_BIAS:
        for (int64_t j = 0; j < n; j++) w[first + j] /= (double)t->s[channel(t, n, j)];
        return OZ_OK;
    default:
        return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "transform scale at %s of layer %d: a scale does not fold into an embedding",
                       oz_site_name((oz_site)row->site), row->layer);
    }
}

/* Statistics of x / s. */
static oz_status scaled_stats(const void *self, const oz_site_row *row, oz_stats *st)
{
    (void)row;
    const scale *t = self;
    int64_t n = t->width;
    for (int64_t j = 0; j < n; j++) {
        double inv = 1.0 / (double)t->s[j];
        if (st->mean) st->mean[j] *= inv;
        if (st->sum_sq) st->sum_sq[j] *= inv * inv;
        if (st->absmax) st->absmax[j] = (float)((double)st->absmax[j] * inv);
        if (st->mean_abs) st->mean_abs[j] = (float)((double)st->mean_abs[j] * inv);
        if (st->max) st->max[j] = (float)((double)st->max[j] * inv);
        if (st->min) st->min[j] = (float)((double)st->min[j] * inv);
        for (int64_t k = 0; st->h && k < n; k++) st->h[j * n + k] *= inv / (double)t->s[k];
    }
    if (st->sample) {
        uint16_t *copy = (uint16_t *)(uintptr_t)st->sample;
        for (int64_t i = 0; i < st->nsample; i++)
            for (int64_t j = 0; j < n; j++) copy[i * n + j] = oz_f32_to_f16(oz_f16_to_f32(copy[i * n + j]) / t->s[j]);
    }
    st->space = oz_hash64(&t->id, sizeof t->id, st->space);
    return OZ_OK;
}

static oz_status save(const void *self, const oz_site_row *row, oz_array *out, int *n)
{
    (void)row;
    const scale *t = self;
    *n = 0;
    OZ_TRY(oz_array_new(out, "scale", OZ_F32, 1, &t->width));
    memcpy(oz_array_data(out), t->s, (size_t)t->width * sizeof *t->s);
    *n = 1;
    return OZ_OK;
}

static oz_status load(const void *opt, const oz_site_row *row, const oz_array *a, int n, void **self)
{
    (void)opt;
    *self = NULL;
    if (n != 1 || strcmp(a->name, "scale") || a->v.dtype != OZ_F32 || oz_array_count(a) != row->width)
        return oz_fail(OZ_ERR_SHAPE, NULL, "transform scale at %s of layer %d: one array \"scale\" of %d f32 numbers was expected",
                       oz_site_name((oz_site)row->site), row->layer, row->width);
    scale *t;
    OZ_TRY(new_scale(row, &t));
    memcpy(t->s, oz_array_data(a), (size_t)t->width * sizeof *t->s);
    for (int64_t j = 0; j < t->width; j++)
        if (!(t->s[j] > 0) || !isfinite(t->s[j])) {
            float bad = t->s[j];
            end_scale(t);
            return oz_fail(OZ_ERR_RANGE, NULL, "transform scale at %s of layer %d: scale %lld is %g, a positive number was expected",
                           oz_site_name((oz_site)row->site), row->layer, (long long)j, (double)bad);
        }
    t->id = oz_hash64(t->s, (size_t)t->width * sizeof *t->s, 0x7363616c65);
    *self = t;
    return OZ_OK;
}

const oz_transform oz_transform_scale = {
    .entry = {.kind = "transform",
              .name = "scale",
              .paper = "arXiv:2211.10438",
              .card = "smoothquant",
              .brief = "divides each input channel by a factor and multiplies its weights by it, folded into what comes before",
              .options = options,
              .options_size = sizeof(scale_options)},
    .flags = OZ_TF_LINEAR | OZ_TF_EXACT,
    .wants = wants,
    .refuses = refuses,
    .choose = choose,
    .fold = fold,
    .stats = scaled_stats,
    .save = save,
    .load = load,
    .end = end_scale};

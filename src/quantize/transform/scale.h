/* scale.h: what the files of transform/scale share.  One factor s_j an input channel j of a site, tied over the query heads that read one
 * kv channel: x'_j = x_j / s_j, W'_oj = W_oj s_j, so y = W x is unchanged. */
#ifndef OUNCE_QUANTIZE_SCALE_H
#define OUNCE_QUANTIZE_SCALE_H
#include "ounce/quantize.h"

enum { SCALE_SMOOTH, SCALE_AWQ, SCALE_ONES, SCALE_RANDOM };
enum { SCALE_LAYER_ERROR, SCALE_SITE_OUTPUT, SCALE_MODULE_OUTPUT, SCALE_HIDDEN_MSE, SCALE_KLD };
typedef struct scale_options {
    int rule, objective, tokens;
    double seed, spread;
    const oz_node *alpha;
} scale_options;

/* The grid of alpha: first + i * step for i < n; n == 1: a number. */
typedef struct scale_grid {
    double first, step;
    int n;
} scale_grid;
const char *oz_scale_grid(const scale_options *, scale_grid *); /* a sentence when the option is malformed */

/* Index of the first of the tied channels that channel j belongs to; ties: (query heads) a kv head of head_dim channels, 1: none. */
static inline int64_t oz_scale_root(int64_t j, int64_t ties, int64_t head_dim)
{
    return ties > 1 ? j / head_dim / ties * ties * head_dim + j % head_dim : j;
}
/* Query heads that read one producer channel of this site: width / producer rows. */
int64_t oz_scale_ties(const oz_site_row *);

/* s [width] of a rule at alpha; the statistics are those of the site's input, column_max [width] of its consumers (smooth). */
oz_status oz_scale_smooth(const oz_site_row *, const oz_stats *, const float *column_max, double alpha, float *s);
oz_status oz_scale_awq(const oz_site_row *, const oz_stats *, double alpha, float *s);
void oz_scale_random(const oz_site_row *, double spread, uint64_t seed, float *s);
/* max over all rows of all consumers of |W_oj|, [width] */
oz_status oz_scale_column_max(const oz_choose *, float *column_max);

/* What a choice of s costs (scale_objective.c). */
typedef struct scale_objective scale_objective;
oz_status oz_scale_objective_new(scale_objective **, const scale_options *, const oz_choose *, oz_run *);
oz_status oz_scale_objective_at(scale_objective *, const float *s, double *value);
void oz_scale_objective_free(scale_objective *);
#endif

/* gptq.h: the state of one GPTQ sweep, shared by gptq.c (before and after), gptq_order.c and gptq_sweep.c (the inner loops).
 *
 * Positions p run in sweep order, columns in storage order: perm[p] is the column at position p.  W is kept permuted while sweeping. */
#ifndef OUNCE_QUANTIZE_GPTQ_H
#define OUNCE_QUANTIZE_GPTQ_H
#include "solver.h"

enum { GPTQ_DYNAMIC, GPTQ_STATIC };
enum { GPTQ_DEAD_ZERO, GPTQ_DEAD_KEEP };
enum { GPTQ_METRIC_DIAG, GPTQ_METRIC_FULL, GPTQ_METRIC_IDENTITY, GPTQ_METRIC_NONE };
enum { GPTQ_NEAREST, GPTQ_STOCHASTIC };
typedef struct gptq_options {
    int block, order, scales, dead, metric, round;
    double damp;
    bool inner, compare;
} gptq_options;

/* Columns that share parameters: one column of parameter tiles of one format (a member of a mix has its own). */
typedef struct gptq_group {
    int64_t col0, cols;
    const oz_fmt *fmt;
    oz_params *params;
    int64_t first, last, count; /* positions of its columns that are not skipped; count 0: nothing to fit from */
} gptq_group;

typedef struct gptq_sweep {
    const gptq_options *opt;
    const oz_fmt *fmt;
    const oz_fit *fit;
    const oz_fit_type *fit_type; /* fit's, or min-max where it is off */
    const void *fit_opt;
    const oz_sweep *ask; /* never NULL */
    const oz_stats *stats;
    int64_t m, n, d;
    int32_t *perm; /* [n] */
    int32_t *unit; /* [n] group of the column at position p */
    gptq_group *group;
    int64_t ngroup;
    bool dynamic, local;              /* local: every fit needs rows of one strip only */
    int64_t strip;                    /* rows a strip */
    float *diag;                      /* [n] H_jj before damping, storage order: element weights of fits */
    float *w;                         /* [m x n] permuted, compensated so far */
    float *u;                         /* [n x n] U = R^-1, upper */
    float *rjj;                       /* [n/d][d x d] R_JJ */
    float *metric_diag, *metric_full; /* [n/d][d], [n/d][d x d] of D_J = R_JJ R_JJᵀ, or NULL */
    double *rdiag;                    /* [n] R_jj, for choose_zero */
    int64_t batch;                    /* B, a multiple of d */
    float *err;                       /* [B x m] of the current batch */
    uint64_t *zero;                   /* [m][words(B)] chosen at batch entry, or NULL */
    oz_solution *out;
    double *loss;     /* [strips] */
    int64_t *clipped; /* [strips] */
    bool counts_clipped, masked;
    int64_t b0, b1; /* current batch, positions */
} gptq_sweep;

/* perm from the order: d-blocks sorted as the option says, blocks of skipped columns last. given: [n/d]. */
oz_status oz_gptq_order(gptq_sweep *, int order);
/* Rounds positions [b0, b1) of rows [i0, i1): one strip. ctx: gptq_sweep. */
oz_status oz_gptq_strip(void *ctx, int64_t i0, int64_t i1, oz_work *);
#endif

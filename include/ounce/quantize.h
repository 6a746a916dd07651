/* ounce/quantize.h: how a model is made small: statistics, fits, solvers, transforms, allocators, sidecar choices.
 * Each technique is one constant struct at the end of its file and one word in its room's list.h. */
#ifndef OUNCE_QUANTIZE_H
#define OUNCE_QUANTIZE_H
#include "ounce/model.h"

/* ---- fit: parameters of one tile ----------------------------------------------------------------------------------- */
struct oz_fit;
typedef struct oz_fit_in {
    oz_mat w;                 /* the tile's weights [prm_r x prm_c] (short at the ends), current values */
    int64_t row0, col0;       /* where it sits in the matrix */
    const float *weight;      /* [cols] element weights of these columns (hdiag ...), or NULL */
    const uint8_t *skip;      /* [cols] 1: this column takes no part, or NULL */
    const uint64_t *mask; int64_t mask_ld; /* bit (i, j) 1: this element takes no part; words a row; or NULL */
    const oz_stats *stats;    /* of the whole linear; NULL when the fit wants none */
    oz_rng rng;
} oz_fit_in;
typedef struct oz_fit_type {
    oz_entry entry;
    uint32_t wants; /* OZ_WANT_... */
    const char *(*refuses)(const oz_spec *, const void *opt); /* may be NULL */
    /* Sets the parameters of the tile at (tile_r, tile_c); the caller seals. */
    oz_status (*fit)(const void *opt, const oz_fmt *, oz_params *, int64_t tile_r, int64_t tile_c, const oz_fit_in *, oz_work *);
} oz_fit_type;
typedef struct oz_fit { const oz_fit_type *type; const void *opt; bool off; /* awq's fit_skip: plain min-max for this linear */ } oz_fit;
const oz_fit_type *const *oz_fits(int *n);
/* Fits all tiles of columns [col0, col0 + w.cols) for all rows (w: those columns of the matrix), in parallel, then seals: the barrier of a sweep.
 * col0 is a multiple of prm_c. skip, weight: [w.cols]. */
OZ_MUST oz_status oz_refit(const oz_fmt *, oz_params *, const oz_fit *, oz_mat w, int64_t col0, const float *weight, const uint8_t *skip, const uint64_t *mask,
                           int64_t mask_ld, const oz_stats *, oz_pool *);

/* ---- solver: codes ------------------------------------------------------------------------------------------------------ */
typedef enum { OZ_ORDER_IDENTITY, OZ_ORDER_REVERSE, OZ_ORDER_ACT, OZ_ORDER_GROUP_ACT, OZ_ORDER_GIVEN } oz_order;
/* What a caller (a sidecar, a mix, a KV codec) asks of the sweep besides the solver's own options (INTERFACES: one loop for all of it). */
typedef struct oz_sweep {
    const int32_t *given;       /* order: given, permutation of the d-blocks */
    const uint8_t *skip;        /* [n] columns left exact at their compensated value, ordered last */
    const uint64_t *zero, *keep;/* [m][(n + 63) / 64] fixed masks: pruned to 0; kept at the compensated value */
    oz_status (*choose_zero)(void *, oz_mat w, int64_t col0, const double *rjj, uint64_t *zero); /* at batch entry: SparseGPT, n:m */
    int (*keep_test)(void *, int64_t row, int64_t col, float z, float q, float rjj, float *kept); /* after project; d = 1 */
    const oz_fmt *(*member)(void *, int64_t col0, oz_params **, int64_t *cols);                   /* mix by columns */
    void *ctx;
    uint64_t seed;              /* stochastic rounding */
} oz_sweep;
typedef struct oz_solution {
    uint8_t *codes;   /* [m/r][n/d] x code_bytes, original column order */
    oz_params params; /* sealed */
    oz_mat w_hat;     /* decoded, skipped and kept entries at their stored value */
    oz_mat compensated; /* W after the sweep: what skipped columns and kept elements became */
    double loss;      /* proxy loss of the sweep, damped H */
    double loss_rtn;  /* the same measure for round-to-nearest with the same fit, NAN when not computed */
    int64_t clipped;  /* codes that were clamped */
    uint64_t *keep;   /* what keep_test chose, or NULL */
    double damp;      /* what was added to the diagonal */
    int64_t dead;     /* inputs that never fired */
} oz_solution;
void oz_solution_drop(oz_solution *);
enum { OZ_NEEDS_HESSIAN = 1 };
typedef struct oz_solver {
    oz_entry entry;
    uint32_t needs;
    const char *(*refuses)(const oz_spec *, const void *opt);       /* may be NULL */
    double (*scratch)(const void *opt, int64_t m, int64_t n);        /* bytes of working memory */
    /* w: original weights [m x n], not modified. */
    oz_status (*solve)(const void *opt, const oz_fmt *, const oz_fit *, oz_mat w, const oz_stats *, const oz_sweep *, oz_solution *, oz_run *);
} oz_solver;
const oz_solver *const *oz_solvers(int *n);
/* tr((W - What) H (W - What)^T) with the stats' H plus damp on the diagonal; f64. */
double oz_proxy_loss(oz_mat w, oz_mat w_hat, const oz_stats *, double damp);

/* ---- statistics over calibration text ---------------------------------------------------------------------------------------- */
/* Collects per-linear-input statistics; sites share one. wants: OZ_WANT_ bits. sample_rows: rows kept for OZ_WANT_SAMPLE (fixed stride over `tokens_total`). */
typedef struct oz_calib oz_calib;
OZ_MUST oz_status oz_calib_new(oz_calib **, int64_t n, uint32_t wants, int64_t tokens_total, int64_t sample_rows, int32_t skip_first, int64_t length);
OZ_MUST oz_status oz_calib_add(oz_calib *, oz_mat x, int64_t first_token, oz_run *); /* rows in token order */
OZ_MUST oz_status oz_calib_end(oz_calib *, oz_stats *); /* moves the numbers out; H full symmetric, mean over tokens */
void oz_calib_free(oz_calib *);
void oz_stats_drop(oz_stats *);
size_t oz_calib_bytes(int64_t n, uint32_t wants, int64_t sample_rows);

/* ---- transforms: choose + fold (+ maps that run, + unapply) ---------------------------------------------------------------------- */
enum { OZ_TF_LINEAR = 1, OZ_TF_EXACT = 2, OZ_TF_WIDTH = 4, OZ_TF_ONLINE = 8, OZ_TF_LEARN = 16, OZ_TF_PER_LINEAR = 32, OZ_TF_TWO_SIDED = 64 };
/* What choose() may look at. */
typedef struct oz_choose {
    const oz_weights *weights; oz_model *model; int layer;
    const oz_site_row *row;
    const oz_stats *stats;              /* of the site's input */
    oz_mat x; int64_t length;           /* inputs of the site (module-output objectives), may be empty */
    const struct oz_pass_formats { const oz_spec *weights; oz_act acts; bool has_acts; } *formats; /* of the passes named in quant: */
    uint64_t seed;
    double *before, *after;             /* objective at no change and at the choice, for the report; NAN when the rule has none */
} oz_choose;
typedef struct oz_transform {
    oz_entry entry;
    uint32_t flags;
    uint32_t (*wants)(const void *opt);  /* statistics; OZ_WANT_SAMPLE means x */
    const char *(*refuses)(const void *opt, const oz_site_row *); /* e.g. a site that cannot fold it; may be NULL */
    oz_status (*choose)(const void *opt, const oz_choose *, void **self, oz_run *);
    oz_fold_fn fold;
    oz_status (*maps)(const void *self, const oz_site_row *, oz_map *in, int *nin, oz_map *out, int *nout); /* may be NULL: all folds */
    oz_status (*stats)(const void *self, const oz_site_row *, oz_stats *);  /* statistics of the transformed input; NULL: capture again */
    oz_status (*unapply)(const void *self, const oz_site_row *, oz_mat hidden_or_kv); /* may be NULL */
    oz_status (*save)(const void *self, const oz_site_row *, oz_array *, int *n);     /* parameters, at most 4 arrays */
    oz_status (*load)(const void *opt, const oz_site_row *, const oz_array *, int n, void **self);
    void (*end)(void *self);
} oz_transform;
const oz_transform *const *oz_transforms(int *n);

/* ---- allocators: where the bits go --------------------------------------------------------------------------------------------------- */
typedef struct oz_candidate { const oz_spec *spec; double bits, cost; } oz_candidate; /* of one unit: storage in bits, measured cost */
typedef struct oz_unit { const char *name; int linear; int64_t weights; oz_candidate *c; int n; int chosen; } oz_unit;
typedef struct oz_allocator {
    oz_entry entry;
    const char *(*refuses)(const void *opt, bool has_budget);
    oz_status (*allocate)(const void *opt, oz_unit *, int n, double budget_bits /* 0: none */, oz_run *);
} oz_allocator;
const oz_allocator *const *oz_allocators(int *n);
/* Sensitivity measures fill cost: "range" (finequant: sum of absmax^2 * |G|, or max_range). */
OZ_MUST oz_status oz_sensitivity_range(oz_mat w, const oz_spec *, bool max_range, double *cost);

/* ---- sidecars: plan before a sweep, finish after it ---------------------------------------------------------------------------------------- */
typedef struct oz_sidecar_plan {
    const oz_sidecar_spec *spec;
    uint8_t *skip; uint64_t *keep; /* owned */
    int64_t k;                     /* columns */
    int32_t *ids;
} oz_sidecar_plan;
typedef struct oz_sidecar_hook {
    const char *name; /* of the sidecar type */
    const oz_entry *entry; /* options the quantize pass gains (cols_score, cols_ratio ...) */
    uint32_t wants;
    double (*ratio)(const void *opt, const oz_linear_row *); /* of the budgeted number, this linear's share (cols_ratio: {attn, mlp}); NULL: 1 */
    /* score of every column (owq E.1); k columns chosen */
    oz_status (*plan)(const void *opt, oz_sidecar_plan *, const oz_fmt *, oz_mat w, const oz_stats *, int64_t k, oz_run *);
    oz_status (*finish)(const void *opt, const oz_sidecar_plan *, const oz_fmt *, oz_solution *, oz_sidecar *out); /* difference values; sets codes under stored columns */
} oz_sidecar_hook;
const oz_sidecar_hook *const *oz_sidecar_hooks(int *n);
#endif

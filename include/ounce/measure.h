/* ounce/measure.h: how a model is judged: a text scored by a model, beside its reference, on the path that runs. */
#ifndef OUNCE_MEASURE_H
#define OUNCE_MEASURE_H
#include "ounce/recipe.h"

typedef struct oz_eval_options {
    const char *text;       /* corpus name or file; its held-out part */
    oz_score_options score;
    bool exact;             /* f32 on decoded weights: a label on the number, never the default */
    const char *not_text;   /* a text that must share no document with it (the calibration text), or NULL */
} oz_eval_options;
typedef struct oz_eval {
    char text[64];          /* base name of what was scored */
    oz_score score;
    double seconds;
    int64_t overlap;        /* documents shared with not_text */
} oz_eval;
/* Scores MODEL (and AGAINST when not NULL: KLD, top-1) on one text. Both are paths; they must share a vocabulary. */
OZ_MUST oz_status oz_eval_paths(oz_eval *, const char *model, const char *against, const oz_eval_options *, oz_run *);
/* The node eval --json and the record hold: {ppl, nll, tokens, kld: {mean, p50, p99, max, stderr}, top1, compute, ctx, protocol}. */
oz_node *oz_eval_node(const oz_eval *, const oz_eval_options *, oz_arena *);

/* A trial: a recipe applied to a model and measured; what `quantize` does once and `compare` for each recipe. */
typedef struct oz_trial_options {
    const char *model, *recipe;
    const char *const *set; int nset;
    oz_plan_options plan;
    bool resume, force;
    oz_eval_options eval;
    bool no_eval;
} oz_trial_options;
typedef struct oz_trial {
    const oz_trial_options *options;
    oz_recipe *recipe;
    oz_ckpt *ckpt; oz_arch *arch; oz_weights *weights;
    oz_plan *plan;
    oz_job_result *result;
    oz_eval eval; bool measured;
    oz_run *run;
} oz_trial;
/* In three steps, so that a caller can tell a wrong recipe (open, plan) from failed work, and show the plan. Close after any of them. */
OZ_MUST oz_status oz_trial_open(oz_trial *, const oz_trial_options *, oz_run *); /* reads the recipe */
OZ_MUST oz_status oz_trial_load(oz_trial *);                                     /* opens the model */
OZ_MUST oz_status oz_trial_plan(oz_trial *);
OZ_MUST oz_status oz_trial_run(oz_trial *);
void oz_trial_close(oz_trial *);
/* The result object of `quantize --json` without the attention list. */
oz_node *oz_trial_node(const oz_trial *, oz_arena *);

/* Checks of a finished model (`verify`). value <= limit is good unless at_least. */
typedef struct oz_check { const char *name; bool ok, at_least; double value, limit; const char *message; } oz_check;
typedef struct oz_checks { oz_check *check; int n; oz_arena *arena; } oz_checks;
/* Values finite, sidecars in range, each stored linear's product on the path that runs against f32 on decoded weights. */
OZ_MUST oz_status oz_verify_model(oz_checks *, const char *model, oz_run *);
/* The transforms of MODEL folded into SOURCE with quantizers off leave its logits alone; with any one consumer skipped they do not. */
OZ_MUST oz_status oz_verify_equivalence(oz_checks *, const char *model, const char *source, oz_run *);
#endif

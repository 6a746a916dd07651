/* ounce/recipe.h: recipes, plans and jobs.  A recipe is data (YAML); a plan is the recipe resolved against one model; a job runs the plan block
 * by block, commits each block, resumes after a kill, and puts the output under its name only when it is complete. */
/* The record (config.json, key quantization_config) and the arrays of a directory Ounce wrote:
 *   {"quant_method": "ounce", "version": "0.1.0", "recipe": {resolved recipe}, "fingerprint": "...", "compute": "runtime",
 *    "tensors": {"model.layers.0.self_attn.q_proj": {"format": "int3.asym@row+cols(1%)", "act": "int8.static@tensor", "act_range": [lo, hi],
 *                "act_clip": 0.9, "columns": 12}, ...},
 *    "reference": "dequantized from Q4_1" (or absent), "source": {...}, "calibration": {...}, "quality": {...}, "bpw": {...}}
 *   Keys of "tensors" are oz_linear_row names (embedding: "model.embed_tokens", head: "lm_head"); "act" is absent when there is none.
 *   Arrays: "<linear>.codes", "<linear>.scale", "<linear>.zero" as the format's layout() names them; a sidecar's as "<linear>.<sidecar>.<array>"
 *   ("<linear>.cols.ids"). Linears not in "tensors" are "<linear>.weight", vectors "<vector>.weight", biases "<linear>.bias". A head that folding or
 *   quantization untied is stored as lm_head and config.json says tie_word_embeddings: false. */
#ifndef OUNCE_RECIPE_H
#define OUNCE_RECIPE_H
#include "ounce/quantize.h"

/* ---- recipe ------------------------------------------------------------------------------------------------------------ */
typedef enum { OZ_VERB_TRANSFORM, OZ_VERB_ALLOCATE, OZ_VERB_QUANTIZE, OZ_VERB_ACTIVATIONS, OZ_VERB_KV } oz_verb;
typedef struct oz_quantize_options { const oz_node *where, *fit_skip; const char *format, *fit, *solver; int inputs; bool sequential; } oz_quantize_options;
typedef struct oz_transform_options { const oz_node *site; const char *kind; bool online, learned; const oz_node *quant; } oz_transform_options;
typedef struct oz_allocate_options { const oz_node *where, *candidates; const char *kind, *sensitivity; int unit, statistic; } oz_allocate_options;
typedef struct oz_activations_options { const oz_node *where; const char *format; double clip; } oz_activations_options;
typedef struct oz_kv_options { const char *format, *k, *v; double clip; } oz_kv_options;
enum { OZ_INPUTS_QUANTIZED, OZ_INPUTS_REFERENCE, OZ_INPUTS_QUANTIZED_ACTS };

typedef struct oz_pass {
    oz_verb verb;
    const char *name;
    bool enabled;
    int line;
    void *opt;                                                    /* one of the structs above */
    const oz_fit_type *fit; void *fit_opt;                        /* quantize */
    const oz_solver *solver; void *solver_opt;
    const oz_sidecar_hook *side; void *side_opt;                  /* of the format's sidecar, when it has options */
    const oz_transform *transform; void *transform_opt;           /* transform */
    const oz_allocator *allocator; void *allocator_opt;           /* allocate */
    const oz_spec *spec;                                          /* quantize, activations: parsed format; NULL for "allocated" and "none" */
    oz_act act; bool has_act;                                     /* activations */
} oz_pass;
typedef struct oz_recipe {
    const char *name, *paper, *title, *file;
    const char *text; int64_t samples, length; const char *paper_text; /* calibration; samples 0: none wanted */
    double budget_bpw;                                             /* 0: none */
    uint64_t seed;
    oz_pass *pass; int npass;
    const oz_node *tree;                                           /* after overrides */
    oz_arena *arena;
} oz_recipe;
/* name_or_file: a shipped recipe's name, or a path (has a '/' or ends in .yaml). set: "pass.key=value", "calibration.samples=8", "budget.bpw=3.1", "seed=1". */
OZ_MUST oz_status oz_recipe_open(oz_recipe **, const char *name_or_file, const char *const *set, int nset);
OZ_MUST oz_status oz_recipe_parse(oz_recipe **, const char *yaml, size_t bytes, const char *file, const char *const *set, int nset);
void oz_recipe_free(oz_recipe *);
/* All options resolved, defaults included: what the output records and the fingerprint covers. In the arena. */
oz_node *oz_recipe_resolved(const oz_recipe *, oz_arena *);
/* Names of the shipped recipes, sorted, NULL-terminated; freed with oz_free. Folders: $OUNCE_RECIPES, the source tree's, the installed one. */
OZ_MUST oz_status oz_recipe_names(char ***);
/* Which recipe a user without --recipe gets, and why (one sentence). */
const char *oz_recipe_default(double budget_bpw, const char **why);
const oz_entry *const *oz_verbs(int *n);

/* ---- attention list ---------------------------------------------------------------------------------------------------------- */
typedef struct oz_attention { const char *kind, *tensor, *message; } oz_attention; /* kinds: untouched, starved, not-finite, replaced, kernel, dropped, clipped */
typedef struct oz_attentions { oz_attention *a; int n; oz_arena *arena; } oz_attentions;
oz_status oz_attend(oz_attentions *, const char *kind, const char *tensor, const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* ---- plan ------------------------------------------------------------------------------------------------------------------------ */
typedef struct oz_plan_options {
    const char *const *tensor; int ntensor; /* "REGEX=FORMAT" */
    int layer0, layer1;                     /* --layers A-B inclusive; layer1 < 0: all */
    const char *calib_text;                 /* --calib; NULL: the recipe's */
    double budget_bpw;                      /* --budget; 0: the recipe's */
    const char *out;                        /* a directory, or ends in .gguf */
    bool gguf;
    uint64_t seed; bool has_seed;
} oz_plan_options;
typedef struct oz_plan_linear {
    const oz_spec *spec;        /* NULL: stays as it is */
    const oz_pass *pass;        /* the quantize pass that makes it (NULL with spec: --tensor on a linear no pass covers; rtn, minmax) */
    oz_act act; bool has_act;
    int64_t k;                  /* cols: columns kept */
    double bits;                /* storage incl. sidecars; of what stays: its bits in the output */
} oz_plan_linear;
typedef struct oz_plan {
    const oz_recipe *recipe;
    const oz_arch *arch;
    oz_plan_options options;
    oz_plan_linear *linear;     /* [arch->nlinear] */
    bool needs_calibration;
    bool reads_ref, reads_q;    /* streams */
    int64_t samples, length;
    double bpw_linears, bpw_file;
    uint64_t file_bytes, memory_bytes, disk_bytes;
    double seconds;             /* estimate */
    char fingerprint[65];
    oz_attentions attention;
    oz_arena *arena;
} oz_plan;
OZ_MUST oz_status oz_plan_make(oz_plan **, const oz_recipe *, const oz_weights *, const oz_plan_options *, oz_run *);
void oz_plan_free(oz_plan *);
oz_node *oz_plan_node(const oz_plan *, oz_arena *); /* what --dry-run --json prints */
char *oz_plan_text(const oz_plan *);                /* what --dry-run prints; caller frees */

/* ---- job --------------------------------------------------------------------------------------------------------------------------- */
typedef struct oz_tensor_result { const char *name, *format; double bpw, proxy_loss, proxy_rtn; int64_t clipped; double seconds; } oz_tensor_result;
typedef struct oz_job_result {
    oz_tensor_result *tensor; int ntensor;
    double proxy_loss, proxy_rtn;   /* sums */
    double bpw_linears, bpw_file;
    uint64_t bytes;
    double seconds, seconds_solver, seconds_forward;
    const char *text; int64_t calibration_tokens, shortfall_tokens;
    oz_attentions attention;
    oz_arena *arena;
} oz_job_result;
typedef struct oz_job_options {
    bool resume, force;
    /* Measures the finished model (quantize's closing KLD); bound by the caller, since measure/ is a room below. NULL: none. The node goes into the record. */
    oz_status (*measure)(void *ctx, const char *partial_output, oz_node **record, oz_arena *);
    void *ctx;
} oz_job_options;
OZ_MUST oz_status oz_job_run(oz_plan *, oz_weights *, const oz_job_options *, oz_job_result **, oz_run *);
void oz_job_result_free(oz_job_result *);

/* ---- export: HF directory or GGUF from a model or a job's parts (also `convert`) ------------------------------------------------------- */
typedef struct oz_export_source {
    /* The linear as it will be stored: borrowed until the next call. NULL *lin: dense, from the weights (folds applied). */
    oz_status (*linear)(void *ctx, int linear, const oz_linear **lin);
    void *ctx;
} oz_export_source;
typedef struct oz_export_options {
    bool gguf;
    const char *dtype;          /* of dense tensors: NULL keeps float sources and turns block types into f16; "f16", "bf16", "f32" */
    const oz_node *record;      /* quantization_config, or NULL */
    oz_attentions *attention;
    bool force;
} oz_export_options;
/* Writes PATH completely or not at all. Refusals (OZ_ERR_EXPORT) name the tensor and what blocks. */
OZ_MUST oz_status oz_export(const char *path, const oz_weights *, const oz_export_source *, const oz_export_options *, uint64_t *bytes, oz_run *);
#endif

/* Shared by the files of the recipe room. */
#ifndef OUNCE_RECIPE_INTERNAL_H
#define OUNCE_RECIPE_INTERNAL_H
#include "ounce/recipe.h"

/* override.c: gives every pass of the tree its name, then applies "pass.key=value". */
oz_status oz_recipe_name_passes(oz_node *tree, const char *file, oz_arena *);
oz_status oz_recipe_apply_sets(oz_node *tree, const char *file, const char *const *set, int nset, oz_arena *);
/* passes.c: the option tables a pass is read through; NULL-terminated (at most 5). */
void oz_pass_tables(const oz_pass *, const oz_entry *entry[6], void *opt[6]);
oz_status oz_pass_read(oz_pass *, const oz_node *, const char *file, oz_arena *);
/* plan.c: whether `where` (a text or a list) covers each linear: chosen[i] |= 1. NULL means all. */
oz_status oz_where_select(const oz_arch *, const oz_node *where, uint8_t *chosen, const char *context);
/* plan_columns.c, plan_cost.c: parts of making a plan. */
oz_status oz_plan_columns(oz_plan *);
oz_status oz_plan_cost(oz_plan *, const oz_weights *);
/* Statistics the linear's fit, solver and sidecar want (OZ_WANT_ bits), and the rows of a sample. */
uint32_t oz_plan_wants(const oz_plan *, int linear);
/* Tokens of one forward chunk: whole sequences, a number that depends on the length alone (so results never depend on --memory). */
int64_t oz_chunk_sequences(int64_t length);
enum { OZ_SAMPLE_ROWS = 512 };

/* stream.c: hidden states of all calibration tokens, [tokens x d] f32 in a file, two buffers: block l reads one and writes the other. */
typedef struct oz_stream {
    char *path[2];
    int fd[2];
    int64_t tokens, d;
    size_t bytes;
} oz_stream;
/* fresh: makes the files; else they must be there, whole. */
oz_status oz_stream_open(oz_stream *, const char *dir, const char *name, int64_t tokens, int64_t d, bool fresh);
void oz_stream_close(oz_stream *);
oz_status oz_stream_read(const oz_stream *, int buffer, int64_t token0, int64_t tokens, float *x);
oz_status oz_stream_write(const oz_stream *, int buffer, int64_t token0, int64_t tokens, const float *x);
oz_status oz_stream_sync(const oz_stream *, int buffer);

/* A transform that was chosen: folded into the weights now and kept as arrays. site: index into arch->site. */
typedef struct oz_applied {
    const oz_pass *pass;
    int site;
    void *self;
    oz_array a[4];
    int na;
    double before, after;
} oz_applied;
/* part.c: the committed result of one block (of the head and embedding: layer = number of blocks). */
typedef struct oz_part {
    oz_linear *lin;
    int nlinear; /* made in this block, in arch order */
    oz_applied *applied;
    int napplied;
    oz_node *record; /* {layer, tensors: [...], transforms: [...], attention: [...]} */
} oz_part;
oz_status oz_part_write(const char *dir, int layer, const oz_part *);
bool oz_part_exists(const char *dir, int layer);
oz_status oz_part_open(const char *dir, int layer, oz_ckpt **, oz_node **record /* or NULL */, oz_arena *);
oz_status oz_part_linear(const oz_ckpt *, const oz_plan *, int linear,
                         oz_linear *); /* packed arrays mapped: the checkpoint must stay open */
oz_status oz_part_array(oz_array *, const oz_ckpt *, const char *prefix, const char *name);

/* capture.c: statistics of the inputs of one block's linears, while hidden states stream through it. */
typedef struct oz_capture_slot {
    int32_t lin[64];
    int nlin;
    int64_t n;
    uint32_t wants;
    oz_calib *calib;
    oz_stats stats;
    int64_t seen;
    float *x;
    int64_t rows, room;
} oz_capture_slot;
typedef struct oz_capture {
    const oz_plan *plan;
    uint32_t (*wants)(void *ctx, int linear);
    void *ctx;
    int64_t tokens, keep_rows; /* keep_rows: inputs kept whole for objectives that compare outputs, from the start */
    oz_capture_slot *slot;
    int n, room;
    oz_run *run;
} oz_capture;
oz_status oz_capture_watch(void *capture, const int32_t *lin, int n, oz_mat x);
oz_status oz_capture_end(oz_capture *); /* statistics are ready */
const oz_capture_slot *oz_capture_find(const oz_capture *, int linear);
void oz_capture_free(oz_capture *);

/* job.c's state, shared with job_block.c and job_finish.c */
typedef struct oz_job {
    oz_plan *plan;
    oz_weights *weights;
    oz_model *model;
    const oz_job_options *options;
    oz_run *run;
    char *out, *dir; /* final path; partial folder */
    int32_t *ids;
    int64_t samples, length, tokens, shortfall;
    const char *text;
    oz_stream ref, q;
    oz_applied *applied;
    int napplied, applied_room; /* of all blocks: folds need their selves while the job lives */
    double seconds_solver, seconds_forward;
    oz_arena *arena;
} oz_job;
oz_status oz_job_block(oz_job *, int layer);       /* everything of one block, committed at the end */
oz_status oz_job_restore(oz_job *, int layer);     /* a committed block: its folds come back */
oz_status oz_job_remember(oz_job *, oz_applied *); /* keeps a transform and folds it */
oz_status oz_job_record(oz_job *, int layer, oz_part *, oz_node *lines, int first_attention);
oz_status oz_job_ends(oz_job *);                             /* head and embedding */
oz_status oz_job_naming(const oz_job *, const char *result); /* notes which file or folder is about to get the output's name */
/* Reads a linear's, a bias's or a vector's pages now: a failing disk is an error here, and would end the process later. */
oz_status oz_job_fetch(const oz_job *, const oz_source *);
oz_status oz_job_finish(oz_job *, oz_job_result *); /* export, measure, rename */
/* Runs one block over a stream; write: into the other buffer, which is synced. */
oz_status oz_job_run_stream(oz_job *, oz_stream *, int layer, bool write, const oz_forward *);
/* One linear: fit, solve, pack; and its line in the record. stats may be NULL. */
oz_status oz_job_solve(oz_job *, int linear, const oz_stats *, oz_linear *out, oz_node *line);

/* export_hf.c, export_gguf.c */
oz_status oz_export_hf(const char *path, const oz_weights *, const oz_export_source *, const oz_export_options *, uint64_t *bytes,
                       oz_run *);
oz_status oz_export_gguf(const char *path, const oz_weights *, const oz_export_source *, const oz_export_options *, uint64_t *bytes,
                         oz_run *);

#endif

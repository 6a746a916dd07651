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
typedef struct oz_stream { char *path[2]; int fd[2]; float *map[2]; int64_t tokens, d; size_t bytes; } oz_stream;
oz_status oz_stream_open(oz_stream *, const char *dir, const char *name, int64_t tokens, int64_t d);
void oz_stream_close(oz_stream *, bool remove);
oz_status oz_stream_sync(oz_stream *, int buffer);
void oz_stream_release(oz_stream *, int buffer, int64_t token0, int64_t tokens); /* these pages may leave memory */

/* part.c: the committed result of one block: DIR/block-LLLL.safetensors and .json. */
typedef struct oz_part_result { oz_linear *lin; oz_tensor_result r; int linear; } oz_part_result; /* lin NULL: not made */
oz_status oz_part_write(const char *dir, int layer, const oz_plan *, const oz_part_result *, int n, const oz_node *folds);
bool oz_part_exists(const char *dir, int layer);
/* Reads a part back: the record node (results, folds) and the open checkpoint its linears are mapped from (the caller closes it). */
oz_status oz_part_open(const char *dir, int layer, const oz_plan *, oz_ckpt **, oz_node **record, oz_arena *);
/* Builds the linear of a part (or of any directory Ounce wrote): packed arrays mapped, sidecars checked. */
oz_status oz_part_linear(oz_ckpt *, const oz_plan *, int linear, oz_linear *);

#endif

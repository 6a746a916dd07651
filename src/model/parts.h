/* model/parts.h: what the files of this room share: slots of loaded linears, rope tables, sequences of one pass, KV stores. */
#ifndef OZ_MODEL_PARTS_H
#define OZ_MODEL_PARTS_H
#include "ounce/model.h"

typedef struct oz_rope {
    int64_t n, length;
    float *cs;
} oz_rope; /* rope.c */
OZ_MUST oz_status oz_rope_table(oz_rope *, const oz_dims *, int64_t n, int64_t length);

/* One linear in memory and what it stands on. */
typedef struct oz_slot {
    oz_linear lin;
    oz_arena *arena;
    void *bytes;
    float *bias;
    bool loaded;
} oz_slot;
OZ_MUST oz_status oz_slot_load(oz_slot *, const oz_weights *, const oz_node *record, int linear);
/* A linear of the record alone, without its bias. */
OZ_MUST oz_status oz_slot_recorded(oz_slot *, const oz_weights *, const oz_node *rec, const oz_linear_row *);
void oz_slot_drop(oz_slot *);
/* weights.c: the tensor behind a source (a slice of 3-D experts as a matrix), and the file's row of a row. */
OZ_MUST oz_status oz_source_tensor(const oz_ckpt *, const oz_source *, oz_tensor *);
int64_t oz_source_row(const oz_source *, int64_t row);

struct oz_model {
    oz_ckpt *own_ckpt;
    oz_arch *own_arch;
    oz_weights *own_weights;
    const oz_weights *weights;
    oz_model_options opt;
    const oz_node *record; /* quantization_config of a directory Ounce wrote */
    oz_slot *slot;         /* [nlinear + 1]: an untied head comes last */
    int nslot;
    float **vec;     /* [nvector], NULL: not loaded */
    oz_block *block; /* [layers] */
    oz_rope rope;
    oz_arena *scratch;
    oz_memo *memo;
};
const oz_arch *oz_arch_of(const oz_model *); /* the weights' arch: folds may have untied the head since */
OZ_MUST oz_status oz_model_load(oz_model *, int linear, oz_linear **);
OZ_MUST oz_status oz_model_vec(oz_model *, int vector, const float **);
/* Applies n linears of one input; y[i] are made by the caller. */
OZ_MUST oz_status oz_model_apply(oz_model *, const int32_t *lin, int n, oz_mat x, const oz_mat *y, oz_run *);

/* ---- the sequences one pass runs over: rows of `hidden`, sequence after sequence ------------------------------------------- */
typedef struct oz_kv oz_kv;
typedef struct oz_seqs {
    int n;
    const int64_t *start; /* [n + 1] rows of each; NULL: all have `length` */
    int64_t length;
    oz_session **session; /* NULL: whole sequences from position 0 without a cache */
    int64_t total;        /* rows */
    int64_t longest;      /* positions of the longest sequence after this pass */
} oz_seqs;
static inline int64_t oz_seqs_start(const oz_seqs *s, int i) { return s->start ? s->start[i] : (int64_t)i * s->length; }
OZ_MUST oz_status oz_run_layer(oz_model *, int layer, oz_mat hidden, const oz_seqs *, const oz_forward *, oz_run *);

/* attention.c: q [rows x nq*D], k, v [rows x nk*D] already normed and rotated -> out [rows x nq*D]. With sessions k, v were appended
 * before. */
OZ_MUST oz_status oz_attend_all(oz_model *, int layer, oz_mat q, oz_mat k, oz_mat v, oz_mat out, const oz_seqs *, oz_run *);
/* Bias is in q, k already; norms of heads and rope, in place. */
OZ_MUST oz_status oz_norm_and_rotate(oz_model *, int layer, oz_mat q, oz_mat k, const oz_seqs *, oz_run *);
/* moe.c: x normed input; y = sum of the experts' outputs. done: stop_after_stage was reached. */
OZ_MUST oz_status oz_run_experts(oz_model *, int layer, oz_mat x, oz_mat y, const oz_forward *, bool *done, oz_run *);
OZ_MUST oz_status oz_run_norm(oz_mat x, const float *gain, float eps, oz_mat y, oz_run *);
OZ_MUST oz_status oz_run_glu(oz_act_fn, oz_mat gate, oz_mat up, oz_run *); /* gate = act(gate) * up */

/* state.c: pages of 64 tokens; a page holds [layer][k, v][kv head][64][D], shared between forks until written. */
enum { OZ_PAGE = 64 };
struct oz_session {
    const oz_model *model;
    int64_t max, tokens;
    int nstate;
    oz_state **state;
};
OZ_MUST oz_status oz_session_room(oz_session *, int64_t tokens);                  /* pages for so many more */
OZ_MUST oz_status oz_session_append(oz_session *, int layer, oz_mat k, oz_mat v); /* rows at tokens .. tokens + n */
/* Keys (v: values) of one layer and head, positions p0 .. p0 + n, to f32 [n x D]. */
void oz_session_read(const oz_session *, int layer, bool v, int head, int64_t p0, int64_t n, float *out);
/* A step that gives the final hidden state of the wanted rows (before the last norm). */
OZ_MUST oz_status oz_step_hidden(oz_model *, const oz_step *, oz_mat hidden, oz_run *);
#endif

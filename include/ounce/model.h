/* ounce/model.h: architectures as data, weights with pending folds, the forward pass, session state, score and generate.
 *
 * An architecture is resolved for one checkpoint into rows of data: which linears exist, which tensors they come from, and the site
 * table (card smoothquant): for each site its producers and consumers and what can be folded there, or a sentence why not. */
#ifndef OUNCE_MODEL_H
#define OUNCE_MODEL_H
#include "ounce/linear.h"
#include "ounce/text.h"

/* ---- sites ------------------------------------------------------------------------------------------------------ */
typedef enum {
    OZ_SITE_RESIDUAL, OZ_SITE_ATTN_IN, OZ_SITE_QK, OZ_SITE_VALUE, OZ_SITE_ATTN_OUT, OZ_SITE_MLP_IN, OZ_SITE_DOWN, OZ_SITE_SSM, OZ_SITE_HEAD,
    OZ_SITE_CROSS_IN, OZ_SITE_COUNT
} oz_site;
const char *oz_site_name(oz_site); /* "attn.in" */
bool oz_site_parse(const char *, oz_site *);
enum { OZ_END_COLS = 1, OZ_END_ROWS, OZ_END_GAIN, OZ_END_EMBED, OZ_END_BIAS, OZ_END_GAIN_BIAS }; /* which side of a tensor meets the site */
enum { OZ_FOLD_DIAG = 1, OZ_FOLD_PAIR_DIAG = 2, OZ_FOLD_PERM = 4, OZ_FOLD_HEAD = 8, OZ_FOLD_ORTHO = 16, OZ_FOLD_SHIFT = 32 };
typedef struct oz_end {
    int32_t linear; /* index into arch->linear; for OZ_END_GAIN and OZ_END_GAIN_BIAS: into arch->vector */
    uint8_t side;
    uint8_t repeat; /* query heads a kv head: attn.out's consumers repeat each producer channel so often */
    int64_t first, count;
} oz_end;
typedef struct oz_site_row {
    uint8_t site, stream, pairing; /* pairing: 0 none, 1 rope halves (i, i+D/2), 2 neighbours (2i, 2i+1) */
    int16_t layer, expert;         /* -1: none */
    int32_t width, head_dim;
    uint32_t fold;
    const oz_end *prod, *cons;
    int nprod, ncons;
    const char *refuse;            /* why the other folds are impossible here; NULL when all are possible */
} oz_site_row;

/* ---- architecture ------------------------------------------------------------------------------------------------- */
typedef enum { OZ_ROPE_NONE, OZ_ROPE_DEFAULT, OZ_ROPE_LINEAR, OZ_ROPE_DYNAMIC, OZ_ROPE_LLAMA3, OZ_ROPE_YARN, OZ_ROPE_LONGROPE } oz_rope_kind;
typedef struct oz_dims {
    int32_t layers, hidden, heads, kv_heads, head_dim, ffn, vocab, context;
    int32_t experts, experts_used, expert_ffn;
    bool norm_topk, tied, qk_norm, qk_norm_full /* OLMoE: over all heads at once */, attn_bias, o_bias, mlp_bias;
    int32_t window;              /* sliding window, 0: none */
    float norm_eps;
    oz_act_fn act;
    struct { oz_rope_kind kind; double base, factor, low_freq, high_freq, beta_fast, beta_slow, attn_factor; int32_t original_context, rotated; } rope;
} oz_dims;
typedef struct oz_source {
    const char *tensor;      /* name in the checkpoint */
    int64_t row0, rows;      /* fused tensors: this range */
    int64_t expert;          /* 3-D expert tensors: this slice; -1: the tensor is a matrix */
    uint8_t transposed;
    int32_t unpermute_heads; /* > 0: rows are in GGUF's llama order for so many heads; loading puts them into halves order */
} oz_source;
typedef struct oz_linear_row {
    const char *name;        /* Ounce's and Hugging Face's: "model.layers.3.self_attn.q_proj" */
    const char *role;        /* q k v o gate up down router head embed */
    int16_t layer, expert;   /* -1: none */
    int64_t out, in;
    oz_source src, bias;     /* bias.tensor NULL: none */
    int32_t site_in, site_out; /* indices into arch->site, -1 */
    uint8_t stage;           /* within a block: 0 q,k,v  1 o  2 gate,up (and router)  3 down */
} oz_linear_row;
typedef struct oz_vector_row { const char *name, *role; int16_t layer; int64_t n; oz_source src; } oz_vector_row; /* norm gains: "attn_norm", "mlp_norm", "q_norm", "final_norm" ... */
typedef struct oz_arch {
    const char *name;        /* "llama", "qwen2", "qwen3", "olmoe", "mistral" */
    const char *reference;   /* "dequantized from Q4_1" when the source tensors are quantized; NULL otherwise */
    oz_dims dims;
    const oz_linear_row *linear; int nlinear; /* block linears layer by layer, then embed, head */
    const oz_vector_row *vector; int nvector;
    const oz_site_row *site; int nsite;
    int embed, head;         /* indices into linear; head == embed when tied */
    int final_norm;          /* index into vector */
} oz_arch;
/* From config.json or GGUF metadata; every tensor of the checkpoint must be claimed: an unknown architecture or left-over tensors are errors that
 * list them. A directory written by Ounce resolves to the original's rows. */
OZ_MUST oz_status oz_arch_open(oz_arch **, const oz_ckpt *);
void oz_arch_free(oz_arch *);
int oz_arch_find(const oz_arch *, const char *role, int layer, int expert); /* index of a linear or -1 */
int oz_arch_vector(const oz_arch *, const char *role, int layer);
/* Role selectors of recipes: all, attn, mlp, down, experts, embed, head, q, k, ..., layer:3-7, globs over names; a list is a union. */
OZ_MUST oz_status oz_arch_select(const oz_arch *, const char *where, uint8_t *chosen /* [nlinear] */, const char *context);
/* config.json of the Hugging Face form (from the HF config, or built from GGUF metadata). In the arena. */
OZ_MUST oz_status oz_arch_config(const oz_arch *, const oz_ckpt *, oz_node **, oz_arena *);
/* GGUF metadata (general.*, ARCH.*) without the tokenizer's; and the GGUF tensor name of a row ("blk.3.attn_q"). */
OZ_MUST oz_status oz_arch_gguf_meta(const oz_arch *, const oz_ckpt *, oz_out_meta **, int *n, oz_arena *);
/* Llama 3 scaling lives in a GGUF tensor of its own, "rope_freqs.weight", f32 [head_dim / 2]; present: this model needs one. */
OZ_MUST oz_status oz_arch_rope_factors(const oz_arch *, float *factors, bool *present);
OZ_MUST oz_status oz_arch_gguf_name(const oz_arch *, bool vector, int index, char *out, size_t n);

/* ---- weights with pending folds -------------------------------------------------------------------------------------- */
/* A fold changes one end in f64 when it is loaded: w is [rows x cols] of that linear (or the vector as 1 x n; embedding as V x d). */
typedef oz_status (*oz_fold_fn)(const void *self, const oz_site_row *, const oz_end *, double *w, int64_t rows, int64_t cols);
typedef struct oz_weights oz_weights;
OZ_MUST oz_status oz_weights_new(oz_weights **, const oz_ckpt *, const oz_arch *);
void oz_weights_free(oz_weights *);
const oz_arch *oz_weights_arch(const oz_weights *);
const oz_ckpt *oz_weights_ckpt(const oz_weights *);
/* Adds a fold for every end of a site, applied after the earlier ones. self must outlive the weights. Unties the head when only one of the two is folded. */
OZ_MUST oz_status oz_weights_fold(oz_weights *, const oz_site_row *, oz_fold_fn, const void *self);
int oz_weights_fold_count(const oz_weights *);
void oz_weights_fold_rewind(oz_weights *, int count); /* drops folds added after */
OZ_MUST oz_status oz_weights_matrix(const oz_weights *, int linear, float *w);          /* [out x in] f32, folds applied */
OZ_MUST oz_status oz_weights_rows(const oz_weights *, int linear, int64_t row0, int64_t rows, float *w);
OZ_MUST oz_status oz_weights_vector(const oz_weights *, int vector, float *v);
OZ_MUST oz_status oz_weights_bias(const oz_weights *, int linear, float *b, bool *present);
bool oz_weights_folded(const oz_weights *, bool vector, int index); /* does any fold touch it: else bytes may be copied unchanged */
bool oz_weights_untied(const oz_weights *);

/* ---- a model that runs ------------------------------------------------------------------------------------------------- */
typedef struct oz_block { oz_linear *lin; int first, n; /* arch->linear[first .. first+n) */ float **vec; int vfirst, vn; } oz_block;
typedef struct oz_model oz_model;
typedef struct oz_model_options {
    bool exact;         /* f32 on decoded weights */
    bool stream;        /* blocks are loaded when needed and dropped after (models larger than memory) */
    size_t memory;      /* 0: decide from the machine */
    const char *kv;     /* "f16" (default), "f32" for exact */
} oz_model_options;
#define OZ_MODEL_OPTIONS_INIT {false, false, 0, "f16"}
/* Any checkpoint Ounce reads, quantized by it or not (records of quantization_config are applied: formats, activation formats, sidecars, maps). */
OZ_MUST oz_status oz_model_open(oz_model **, const char *path, const oz_model_options *, oz_run *);
/* Over weights with pending folds (quantize's own use); the weights are not owned. */
OZ_MUST oz_status oz_model_of_weights(oz_model **, const oz_weights *, const oz_model_options *);
void oz_model_free(oz_model *);
const oz_arch *oz_model_arch(const oz_model *);
const oz_ckpt *oz_model_ckpt(const oz_model *);
const oz_node *oz_model_record(const oz_model *); /* quantization_config or NULL */
/* The block's linears and vectors, loaded if they were not; stays until dropped. */
OZ_MUST oz_status oz_model_block(oz_model *, int layer, oz_block **);
void oz_model_drop_block(oz_model *, int layer);
/* Puts a new linear in place of the loaded one (quantize: the block as quantized so far). Takes ownership of the contents. */
OZ_MUST oz_status oz_model_replace(oz_model *, int linear, oz_linear *);
OZ_MUST oz_status oz_model_linear(oz_model *, int linear, const oz_linear **); /* any, loaded if needed */

/* ---- session state: a list of stores by layer set ------------------------------------------------------------------------- */
enum { OZ_STATE_TREE = 1, OZ_STATE_TRUNCATE = 2, OZ_STATE_SHARE = 4, OZ_STATE_CAUSAL = 8, OZ_STATE_DROP = 16 };
typedef struct oz_state oz_state;
struct oz_state_type {
    const char *name;
    oz_status (*fork)(oz_state **, const oz_state *);
    oz_status (*mark)(oz_state *, uint64_t *);
    oz_status (*rollback)(oz_state *, uint64_t);
    oz_status (*drop)(oz_state *, const int32_t *positions, int n);
    oz_status (*save)(const oz_state *, oz_writer *);
    size_t (*bytes)(const oz_state *);
    void (*end)(oz_state *);
};
struct oz_state { const struct oz_state_type *type; uint32_t caps; int layer0, layers; }; /* one layer set; the store's own data follows */
/* All stores of one sequence. Keys and values are appended by the forward pass. */
typedef struct oz_session oz_session;
OZ_MUST oz_status oz_session_new(oz_session **, const oz_model *, int64_t max_tokens);
void oz_session_free(oz_session *);
int64_t oz_session_tokens(const oz_session *);
size_t oz_session_bytes(const oz_session *);
OZ_MUST oz_status oz_session_fork(oz_session **, const oz_session *);
OZ_MUST oz_status oz_session_truncate(oz_session *, int64_t tokens);

/* ---- forward ------------------------------------------------------------------------------------------------------------------ */
/* Watches the input of a linear before its maps and activation quantization: x [tokens x in] (an expert: its tokens only). Called once per
 * site of linears that share x: lin[0..n). */
typedef oz_status (*oz_watch_fn)(void *ctx, const int32_t *lin, int n, oz_mat x);
typedef struct oz_forward {
    oz_watch_fn watch; void *ctx; /* may be NULL */
    int stop_after_stage;         /* within a block: stop once the inputs of this stage were seen; -1: run all */
} oz_forward;
/* Runs one block on whole sequences, no cache: hidden [tokens x d] in place, sequences of `length` tokens each starting at position 0. */
OZ_MUST oz_status oz_model_run_block(oz_model *, int layer, oz_mat hidden, int64_t length, const oz_forward *, oz_run *);
OZ_MUST oz_status oz_model_embed(oz_model *, const int32_t *ids, int64_t n, oz_mat hidden, oz_run *);
/* Final norm and head on these rows. logits [rows x vocab]. */
OZ_MUST oz_status oz_model_head(oz_model *, oz_mat hidden, oz_mat logits, oz_run *);
/* Attention output of one layer for given q, k, v already projected: used by objectives that compare the whole module (card awq). x: normed input
 * [tokens x d] of attn.in, lin: replacements for q, k, v (NULL: the block's own); y: output after o (with_o) or before. */
OZ_MUST oz_status oz_model_attention(oz_model *, int layer, oz_mat x, int64_t length, const oz_mat *wq, const oz_mat *wk, const oz_mat *wv, bool with_o, oz_mat y, oz_run *);
/* One step of several sequences: tokens of sequence s are ids[start[s] .. start[s+1]), appended to session[s]; logits only for the rows listed. A
 * sequence's result does not depend on the others. */
typedef struct oz_step { oz_session **session; int nseq; const int64_t *start; const int32_t *ids; const int64_t *want; int64_t nwant; } oz_step;
OZ_MUST oz_status oz_model_step(oz_model *, const oz_step *, oz_mat logits, oz_run *);

/* ---- score: two models, tokens -> nll, KLD, top-1 -------------------------------------------------------------------------------- */
typedef struct oz_score_options {
    int64_t ctx;          /* window length, 2048 */
    int64_t tokens;       /* only the first N of the text, 0: all */
    bool llama_cpp;       /* windows of 512, BOS replaces the first token where the tokenizer has one, second half scored */
    bool rolling;
    bool no_bos;
    float *dump; /* per scored position log-probability of the right token, caller's [tokens] or NULL */
} oz_score_options;
#define OZ_SCORE_OPTIONS_INIT {2048, 0, false, false, false, NULL}
typedef struct oz_score {
    int64_t tokens;       /* scored positions */
    double nll, ppl, nll_ref, ppl_ref;
    double kld_mean, kld_p50, kld_p99, kld_max, kld_stderr, top1; /* only with a reference */
    bool has_ref;
} oz_score;
OZ_MUST oz_status oz_score_text(oz_score *, oz_model *, oz_model *reference /* or NULL */, const int32_t *ids, int64_t n, int32_t bos, const oz_score_options *, oz_run *);

/* ---- generate: greedy and sampled, one batch ------------------------------------------------------------------------------------------- */
typedef struct oz_sampling { float temp, top_p, min_p, repeat_penalty; int32_t top_k, repeat_last; uint64_t seed; } oz_sampling;
#define OZ_SAMPLING_INIT {0.8f, 0.95f, 0.05f, 1.0f, 40, 64, 0}
/* Next token from logits (modified). history: tokens so far, for the penalty. Noise keyed by (seed, position). temp 0: greedy, lowest id on ties.
 * -1 and a message when out of memory. */
int32_t oz_sample(const oz_sampling *, float *logits, int32_t vocab, const int32_t *history, int64_t n, int64_t position);
/* Calls emit for each new token until it returns false, `max` tokens, the session is full, or an end token (not emitted). */
OZ_MUST oz_status oz_generate(oz_model *, oz_session *, const oz_tokenizer *, const int32_t *prompt, int64_t n, int64_t max, const oz_sampling *,
                              bool (*emit)(void *, int32_t id), void *ctx, oz_run *);
#endif

/* model/arch/family.h: how an architecture family declares itself: one constant struct at the end of its file, one word in list.h.
 *
 * A family is a table of tensor name patterns. In a pattern "%L" stands for the layer and "%E" for the expert; shapes are written with one
 * letter a side:  d hidden   q heads*head_dim   k kv_heads*head_dim   f MLP width   x expert width   n experts   D head_dim   V vocabulary.
 */
#ifndef OZ_MODEL_FAMILY_H
#define OZ_MODEL_FAMILY_H
#include "ounce/model.h"

enum {                    /* oz_pattern.flags */
       OZ_PAT_LAYER = 1,  /* one a block */
       OZ_PAT_EXPERT = 2, /* one an expert; in GGUF a slice of a 3-D tensor */
       OZ_PAT_ROPE_Q = 4, /* rows of query heads that rope rotates: GGUF may store them in neighbour order */
       OZ_PAT_ROPE_K = 8, /* the same of key heads */
       OZ_PAT_TIED = 16   /* absent when the head is the embedding */
};
enum { OZ_BIAS_NONE, OZ_BIAS_ATTN, OZ_BIAS_O, OZ_BIAS_MLP }; /* which flag of oz_dims says that the linear has a bias */

typedef struct oz_pattern {
    const char *role;
    const char *hf, *gguf; /* without ".weight" */
    char out, in;          /* in 0: a vector */
    uint8_t stage, flags, bias;
} oz_pattern;

typedef struct oz_family {
    const char *name; /* model_type of config.json */
    const char *brief;
    const char *hf_class; /* architectures[0] */
    const char *gguf;     /* general.architecture */
    bool gguf_reads;      /* false: a GGUF file of that name resolves to another family */
    bool gguf_permuted;   /* GGUF holds q and k rows in neighbour order (2i, 2i+1); loading restores halves */
    bool qkv_bias;        /* q, k, v always have a bias; otherwise the key attention_bias decides, for o too */
    bool qk_norm, qk_norm_full;
    bool experts;
    enum { OZ_WINDOW_NEVER, OZ_WINDOW_KEY /* sliding_window */, OZ_WINDOW_USE /* only with use_sliding_window */ } window;
    const char *const *refused; /* config keys that must be absent, null, 0 or false; NULL-terminated, or NULL */
    const oz_pattern *pattern;  /* role NULL ends it; block linears in order of stage, then block vectors, then the rest */
} oz_family;

const oz_family *const *oz_families(int *n); /* sorted by name */

/* config.c and gguf_meta.c */
OZ_MUST oz_status oz_dims_from_config(oz_dims *, const oz_family *, const oz_node *config, const char *file);
OZ_MUST oz_status oz_dims_from_gguf(oz_dims *, const oz_family *, const oz_ckpt *);
/* Value that must be there, else OZ_ERR_KEY naming file and key. */
OZ_MUST oz_status oz_config_int(const oz_node *config, const char *key, int64_t min, int64_t max, int32_t *out, const char *file);
/* The family and whether the file is GGUF, from any open arch. */
const oz_family *oz_arch_family(const oz_arch *);
/* The same rows with the head as a linear of its own, appended last (arch.c). */
OZ_MUST oz_status oz_arch_untie(oz_arch **, const oz_arch *);
/* sites.c: fills site, nsite and the linears' site_in, site_out. */
OZ_MUST oz_status oz_sites_build(oz_arch *, oz_linear_row *linear, oz_arena *);
/* rope.c: inverse frequencies [rotated / 2] for sequences of `length` tokens (matters to dynamic scaling only) and the factor on cos and
 * sin. */
double oz_rope_frequencies(const oz_dims *, int64_t length, double *inv);
/* "rope_freqs.weight" of GGUF (llama3 scaling): factors the plain frequencies are divided by. Finds the rule behind them. */
OZ_MUST oz_status oz_rope_from_factors(oz_dims *, const float *factor, const char *file);
#endif

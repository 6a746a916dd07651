/* ounce/linear.h: run-time maps, sidecars, and a linear in memory.
 *
 * Order of oz_linear_apply: sidecars claim their inputs -> in-maps (memoised by map id) -> activation quantization (memoised by format) ->
 * product of the members -> inner sidecars -> out-maps -> outer sidecars -> bias.  All linears of a site run as one parallel region. */
#ifndef OUNCE_LINEAR_H
#define OUNCE_LINEAR_H
#include "ounce/format.h"

/* ---- maps: what runs beside a product -------------------------------------------------------------------------- */
typedef enum { OZ_MAP_DIAG, OZ_MAP_SHIFT, OZ_MAP_PERM, OZ_MAP_HADAMARD, OZ_MAP_BLOCKS, OZ_MAP_DENSE, OZ_MAP_HEADS, OZ_MAP_KRON, OZ_MAP_SPLIT } oz_map_kind;
typedef enum { OZ_MAP_FWD, OZ_MAP_INV, OZ_MAP_T, OZ_MAP_INV_T } oz_map_dir;
typedef struct oz_map { oz_map_kind kind; int32_t in, out, block, n1, n2; uint64_t seed; uint64_t id; oz_array a, b, idx; } oz_map; /* id: content hash, keys the memo */
/* Rows are tokens; x may be y when in == out. Kinds that are not built yet answer OZ_ERR_UNSUPPORTED naming the kind. */
OZ_MUST oz_status oz_map_apply(const oz_map *, oz_map_dir, oz_mat x, oz_mat y, oz_work *);
OZ_MUST oz_status oz_map_seal(oz_map *); /* computes id */
OZ_MUST oz_status oz_stats_map(oz_stats *, const oz_map *); /* H' = T H T', mean; OZ_ERR_UNSUPPORTED: capture again */

/* ---- sidecars ------------------------------------------------------------------------------------------------------ */
typedef struct oz_sidecar {
    const struct oz_sidecar_type *type;
    const void *opt;
    uint8_t after_in;   /* reads x after that many in-maps (0: the original x) */
    uint8_t before_out; /* adds to y before that out-map (nout: the original y) */
    oz_array *a; int n; /* stored arrays: cols: "ids", "cols" */
    int64_t rows, inputs; /* of the linear */
} oz_sidecar;
struct oz_sidecar_type {
    oz_entry entry;
    const char *(*refuses)(const oz_spec *);
    oz_status (*parse)(const char *args, void *opt, const char *where, oz_arena *); /* "1%", "128:int8", "auto" */
    void (*print)(const void *opt, char *out, size_t n);
    oz_status (*claim)(const oz_sidecar *, oz_mat x, oz_mat x_rest, oz_work *); /* may be NULL: claims nothing */
    oz_status (*apply)(const oz_sidecar *, oz_mat x, oz_mat y, oz_work *);      /* y += */
    double (*bits)(const oz_sidecar *);
    oz_status (*dense)(const oz_sidecar *, oz_mat w); /* w += what it adds, as a matrix (for decode, export, tests); may be NULL */
    oz_status (*check)(const oz_sidecar *, const char *linear); /* loaded from a file: ids in range, sizes right */
    /* Planning: how many items the spec asks of a linear with n inputs (-1: "auto", solved from a budget), and the storage of k of them in bits
     * for a linear [m x n] (ids included). */
    int64_t (*count)(const void *opt, int64_t n);
    double (*bits_of)(const void *opt, int64_t m, int64_t n, int64_t k);
    /* Stored arrays for k items: names, types and shapes (v.buf NULL), so that a file can be declared, checked and loaded; at most 4. */
    oz_status (*layout)(const void *opt, int64_t m, int64_t n, int64_t k, oz_array *out, int *count);
};
typedef struct oz_sidecar_type oz_sidecar_type;
const oz_sidecar_type *const *oz_sidecar_types(int *n);
void oz_sidecar_drop(oz_sidecar *);

/* ---- the linear -------------------------------------------------------------------------------------------------------- */
typedef struct oz_linear {
    const char *name;
    int64_t out, in;
    oz_packed *w; int nw;   /* nw > 1: mix members */
    oz_array rows, cols;    /* of members, when nw > 1 */
    oz_map *in_map, *out_map; int nin, nout;
    oz_sidecar *side; int nside;
    oz_act act;
    const float *bias;      /* [out] or NULL; not owned */
    void *layout;           /* kernel layout derived from w, owned; NULL: canonical is used */
    bool owns;              /* drop frees w, maps, sidecars */
} oz_linear;
void oz_linear_drop(oz_linear *);
OZ_MUST oz_status oz_linear_decode(const oz_linear *, oz_mat w); /* W-hat incl. sidecars, maps excluded */
double oz_linear_bits(const oz_linear *);                        /* storage */

/* One input a site and step: its mapped and quantized forms are made once. */
typedef struct oz_memo oz_memo;
typedef struct oz_input { oz_mat x; oz_memo *memo; } oz_input;
OZ_MUST oz_status oz_memo_new(oz_memo **);
void oz_memo_reset(oz_memo *); /* x changed */
void oz_memo_free(oz_memo *);
typedef struct oz_apply {
    const int32_t *rows; int nrows; /* tokens of this expert; NULL: all */
    uint8_t exact;                  /* f32 on decoded weights, activation formats still applied (fake): --compute exact */
    int64_t *saturated;             /* may be NULL */
} oz_apply;
/* y[i] = linear i of x, for n linears that share the input.  y[i]: [tokens x out_i]. One parallel region. */
OZ_MUST oz_status oz_linear_apply(const oz_linear *const *lin, int n, oz_input *, const oz_mat *y, const oz_apply *, oz_run *);
/* What serves this linear for so many tokens: "dot_int b4 g128 avx512-vnni", printed by `machine` and `info -v`. */
const char *oz_linear_kernel(const oz_linear *, int64_t tokens, char *out, size_t n);
#endif

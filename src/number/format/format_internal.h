/* number/format/format_internal.h: what the files of this room share, and the affine view that kernels and the linear read.
 *
 * Affine view.  Every scalar grid that is stored as integer codes (all of int, the ggml types with affine blocks) decodes one of two ways:
 *     value = scale * (u - zero)     or     value = scale * u + offset,      u in [0, 2^bits)
 * with one (scale, zero | offset) for `group` consecutive inputs of a row.  Products on integers need nothing else. */
#ifndef OUNCE_FORMAT_INTERNAL_H
#define OUNCE_FORMAT_INTERNAL_H
#include "number/format/list.h"
#include "ounce/format.h"

#define OZ_FORMAT_EXTERN(name) extern const oz_format oz_format_##name;
OZ_FORMATS(OZ_FORMAT_EXTERN)
#undef OZ_FORMAT_EXTERN

typedef struct oz_affine {
    int32_t bits;
    int64_t group; /* inputs under one scale; the last run of a row may be short */
    bool offset;   /* scale*u + offset instead of scale*(u - zero) */
} oz_affine;
/* False: the format has no affine view. */
bool oz_affine_of(const oz_fmt *, oz_affine *);
/* One row: codes u[n]; scale and shift (zero or offset) one a group, ceil(n/group) entries.  Any of the three may be NULL. */
oz_status oz_affine_row(const oz_packed *, int64_t row, uint8_t *u, float *scale, float *shift);

/* Nearest integer, ties to even, for |x| < 2^21; beyond that, and for NaN, a value at the limit.  Vectorises without SSE4.1. */
static inline float oz_round_even(float x)
{
    x = x > -2097152.0f ? x : -2097152.0f;
    x = x < 2097152.0f ? x : 2097152.0f;
    return (x + 12582912.0f) - 12582912.0f;
}
static inline float oz_clampf(float x, float lo, float hi)
{
    x = x > lo ? x : lo;
    return x < hi ? x : hi;
}

/* Tile of a weight's group; refuses groups that only activations have. group_default: inputs when none is written, 0: the row. */
oz_status oz_group_tile(const oz_spec *, int64_t m, int64_t n, int64_t group_default, int64_t *rows, int64_t *cols);
/* An array without storage: what layout() fills. */
void oz_array_describe(oz_array *, const char *name, oz_dtype, int rank, int64_t d0, int64_t d1);
/* Allocates the arrays of layout() in a packed matrix. */
oz_status oz_packed_new(const oz_fmt *, oz_packed *);
/* An array over memory somebody else owns; the buffer's descriptor lives in the arena. */
oz_status oz_array_borrow(oz_array *, const char *name, oz_dtype, int rank, int64_t d0, int64_t d1, const void *data, oz_arena *);
/* Sum of the sizes of layout()'s arrays, in bits. */
double oz_layout_bits(const oz_fmt *);
/* Canonical bit planes of 32 codes (int.c). */
void oz_planes_pack(int bits, const uint8_t u[32], uint8_t *out /* 4 * bits bytes */);
void oz_planes_unpack(int bits, const uint8_t *in, uint8_t u[32]);

/* ggml blocks of the k types (ggml_k.c): one super-block of 256 as codes, scale and shift a group. */
void oz_ggml_q4_k_block(const uint8_t *block, uint8_t *u, float *scale, float *shift);
void oz_ggml_q5_k_block(const uint8_t *block, uint8_t *u, float *scale, float *shift);
void oz_ggml_q6_k_block(const uint8_t *block, uint8_t *u, float *scale, float *shift);
/* ggml: the option value of a type number, -1 when this file does not know the type. */
int oz_ggml_kind(int ggml_type);
const char *oz_ggml_kind_name(int kind); /* "q4_0" */
/* Decodes `rows` whole rows of n values. */
void oz_ggml_rows(int kind, const uint8_t *data, int64_t rows, int64_t n, float *out);
bool oz_ggml_affine(int kind, oz_affine *);
void oz_ggml_affine_row(int kind, const uint8_t *data, int64_t n, uint8_t *u, float *scale, float *shift);
int64_t oz_ggml_row_bytes(int kind, int64_t n);
int oz_ggml_opt_kind(const void *opt); /* of the format's options */

/* int: stored pieces of a row for the affine view. */
bool oz_int_affine(const oz_fmt *, oz_affine *);
void oz_int_affine_row(const oz_packed *, int64_t row, uint8_t *u, float *scale, float *shift);
/* int: what activations read of the options. */
typedef struct oz_int_options {
    int bits, zero;
    bool is_static;
    double clip;
} oz_int_options;
enum { OZ_INT_SYM, OZ_INT_ASYM, OZ_INT_ZF, OZ_INT_OFF, OZ_INT_MID, OZ_INT_UNIT };
#endif

/* ounce/format.h: how values are stored.  A format string names a format, its options, its group, scale type and sidecars:
 *
 *     format = item *( "|" item ) / "mix(" format ",unit=" unit ")" ;   item = GRID *("." OPTION) ["@" GROUP] [":" SCALE] *( "+" SIDECAR )
 *     int4.asym@128   int8@row   f16   gguf.q4_0   int3.asym@row+cols(1%)   int8.static@tensor (activations)
 *
 * A format has three regions (they may differ): the code block (r rows x d inputs encoded together), the parameter tile (what one
 * fit decides), the second-level run (scales quantized together).  `unpack` is the definition of what the stored bytes mean. */
#ifndef OUNCE_FORMAT_H
#define OUNCE_FORMAT_H
#include "ounce/io.h"

typedef struct oz_format oz_format;

/* ---- the parsed string ------------------------------------------------------------------------------------- */
typedef enum {
    OZ_GROUP_DEFAULT, /* none written: the format's own (row for int, 32 for gguf.q4_0, irrelevant for f16) */
    OZ_GROUP_NUMBER, OZ_GROUP_ROW, OZ_GROUP_TENSOR, OZ_GROUP_TOKEN, OZ_GROUP_HEAD, OZ_GROUP_CHANNEL, /* channel or channelG */
    OZ_GROUP_TILE     /* RxC */
} oz_group_kind;
typedef struct oz_group { oz_group_kind kind; int32_t rows, cols; } oz_group; /* NUMBER: rows 1, cols g */
typedef struct oz_sidecar_spec { const struct oz_sidecar_type *type; void *opt; const char *text; } oz_sidecar_spec;
typedef struct oz_spec {
    const oz_format *type;
    void *opt;             /* filled options struct of the type */
    oz_group group;
    const char *scale;     /* "f16" when none is written; "f32", "e8m0", "int8xrow" ...: the format's card owns the list */
    oz_sidecar_spec *side; /* +cols(1%) ... */
    int nside;
    struct oz_spec **member; /* mix(...|...): type is NULL then */
    int nmember;
    const char *unit;      /* of mix: row, group ... */
    const char *text;      /* canonical string: parses to an equal spec */
} oz_spec;
/* Parses, checks options against their tables, asks the format's refuses(); the spec lives in the arena.  where begins messages. */
OZ_MUST oz_status oz_spec_parse(oz_spec **, const char *text, const char *where, oz_arena *);
bool oz_spec_equal(const oz_spec *, const oz_spec *);

/* ---- a format bound to one matrix ---------------------------------------------------------------------------- */
enum {
    OZ_FMT_PROJECT = 1, OZ_FMT_DYNAMIC = 2 /* tiles can be fitted during the sweep */, OZ_FMT_METRIC_DIAG = 4, OZ_FMT_METRIC_FULL = 8,
    OZ_FMT_ZERO = 16 /* represents 0 exactly */, OZ_FMT_FAKE = 32, OZ_FMT_MATRIX = 64, OZ_FMT_OPERATOR = 128, OZ_FMT_LEVELS = 256,
    OZ_FMT_EVAL_ONLY = 512, OZ_FMT_SCALAR = 1024 /* r = d = 1 with the `scalar` hooks below */, OZ_FMT_INT_ZERO = 2048 /* zero is an integer code 0..P */,
    OZ_FMT_FOREIGN = 4096 /* a GGUF type: lives only in GGUF files */, OZ_FMT_FLOAT = 8192 /* f32, f16, bf16: no parameters */
};
typedef struct oz_shape {
    int32_t r, d;          /* code block */
    int32_t code_bytes;    /* of one block's code in memory */
    int64_t prm_r, prm_c;  /* parameter tile, resolved (never -1): rows x cols; the last tile of a row or column may be short */
    int64_t run_r, run_c;  /* second-level run; 0: none */
    uint32_t flags;
} oz_shape;
typedef struct oz_fmt { const oz_spec *spec; const oz_format *type; const void *opt; int64_t m, n; oz_shape shape; } oz_fmt;
OZ_MUST oz_status oz_fmt_bind(oz_fmt *, const oz_spec *, int64_t m, int64_t n, const char *tensor); /* refuses shapes naming the tensor */
static inline int64_t oz_fmt_tiles_r(const oz_fmt *f) { return (f->m + f->shape.prm_r - 1) / f->shape.prm_r; }
static inline int64_t oz_fmt_tiles_c(const oz_fmt *f) { return (f->n + f->shape.prm_c - 1) / f->shape.prm_c; }

/* Working parameters while solving: named f32 arrays with one entry a tile, [tiles_r x tiles_c], already rounded to what is
 * stored once sealed: "scale", "zero" (integer code for .asym, real for .zf, beta for .off); vector formats add their own. */
typedef struct oz_params { oz_array *a; int n; } oz_params;
float *oz_params_get(const oz_params *, const char *name); /* NULL when the format has none of that name */
void oz_params_drop(oz_params *);
typedef struct oz_metric { const float *diag, *full; } oz_metric; /* of one code block's inputs: d, d x d */

/* Stored form: canonical arrays ("codes", "scale", "zero", ...), what files hold and kernels read. */
typedef struct oz_packed { oz_fmt fmt; oz_array *a; int n; } oz_packed;
const oz_array *oz_packed_get(const oz_packed *, const char *name);
void oz_packed_drop(oz_packed *);
size_t oz_packed_bytes(const oz_packed *); /* sum of the arrays */

typedef enum { OZ_KERNEL_DENSE, OZ_KERNEL_DOT_INT, OZ_KERNEL_LUT, OZ_KERNEL_FP, OZ_KERNEL_CODEBOOK, OZ_KERNEL_TRELLIS, OZ_KERNEL_COLUMN, OZ_KERNEL_LUT_PLANES,
               OZ_KERNEL_BITPLANE, OZ_KERNEL_EXPAND, OZ_KERNEL_UNPACK /* any format: tile decode */ } oz_kernel_family;
typedef struct oz_kdesc { uint8_t family, bits, scale_mode, zero_mode, act_kind, table, r, d; int32_t group, act_group; } oz_kdesc;
enum { OZ_ZERO_NONE, OZ_ZERO_CODE /* s(q - z) */, OZ_ZERO_REAL /* s(q + z) */, OZ_ZERO_OFFSET /* s q + b */, OZ_ZERO_MID /* s(q - P/2) */ };

struct oz_format {
    oz_entry entry;
    uint32_t flags;
    /* Recognizes its GRID word ("int4", "f16", "gguf") and sets the options it implies; false: not this format. Required. */
    bool (*grid)(const char *word, size_t length, void *opt);
    void (*print_grid)(const void *opt, char out[32]);
    const char *(*refuses)(const oz_spec *);                                             /* a sentence, or NULL; may be NULL */
    oz_status (*bind)(const oz_spec *, int64_t m, int64_t n, oz_shape *);                /* refuses shapes */
    oz_status (*init)(const oz_fmt *, oz_params *);                                      /* allocates the parameters (cleared) */
    /* Rounds parameters of these tiles to their stored type; second level. Idempotent. */
    oz_status (*seal)(const oz_fmt *, oz_params *, int64_t tile_r0, int64_t ntr, int64_t tile_c0, int64_t ntc);
    /* Nearest representable block: z [rows x d] at (row0, col0); code: rows/r blocks of code_bytes, q: the value. round: NULL nearest even,
     * else uniform numbers in [0,1) per element for floor(x + u). */
    oz_status (*project)(const oz_fmt *, const oz_params *, int64_t row0, int64_t col0, oz_mat z, const oz_metric *, const float *round, uint8_t *code, oz_mat q);
    oz_status (*pack)(const oz_fmt *, const oz_params *, const uint8_t *codes, oz_packed *out); /* codes [m/r][n/d] blocks, row-major */
    oz_status (*unpack)(const oz_packed *, int64_t row0, int64_t rows, int level, oz_mat w);    /* reference decode, f32 */
    /* Shapes and types of the stored arrays, so that a file can be declared, checked and loaded; codes[] etc. with v.buf NULL. */
    oz_status (*layout)(const oz_fmt *, oz_array *out, int *n);                          /* at most 8 */
    double (*bits)(const oz_fmt *);                                                      /* storage in bits, all counted, equals 8 x bytes of the arrays */
    void (*kernel)(const oz_fmt *, oz_kdesc *);                                          /* which family serves it; NULL: OZ_KERNEL_UNPACK */
    /* Scalar grids (OZ_FMT_SCALAR): parameters of a tile from a range, already rounded to the stored type; lo <= hi as the fit chose them
     * (the format includes 0, or takes max |.|, as its card says; zero may be NULL). */
    void (*from_range)(const oz_fmt *, float lo, float hi, float *scale, float *zero);
    /* n values under one tile's parameters: codes and decoded values (either may be NULL). */
    void (*encode)(const oz_fmt *, float scale, float zero, const float *w, int64_t n, uint8_t *code, float *q);
    /* The same for n values that have a scale and zero each (a column of a sweep), bit for bit; NULL: encode() is called for one at a time. */
    void (*encode_each)(const oz_fmt *, const float *scale, const float *zero, const float *w, int64_t n, uint8_t *code, float *q);
    oz_status (*cells)(const oz_fmt *, const oz_params *, int64_t row, int64_t col, float *lo, float *hi); /* may be NULL */
};
const oz_format *const *oz_formats(int *n); /* sorted by name */

/* Helpers over the hooks */
OZ_MUST oz_status oz_packed_declare(const oz_fmt *, oz_array out[8], int *n);
/* Stored arrays named PREFIX.codes, PREFIX.scale ... of a checkpoint Ounce wrote; sizes checked against layout(). Mapped, not copied. */
OZ_MUST oz_status oz_packed_load(oz_packed *, const oz_spec *, int64_t m, int64_t n, const oz_ckpt *, const char *prefix);
/* A GGUF tensor, or a plain f32/f16/bf16 tensor (rows row0 .. row0+m of it), as a packed matrix without copying. */
OZ_MUST oz_status oz_packed_view(oz_packed *, const oz_tensor *, int64_t row0, int64_t m, oz_arena *);
OZ_MUST oz_status oz_unpack(const oz_packed *, int64_t row0, int64_t rows, oz_mat w);
/* Decodes rows of any checkpoint tensor (all dtypes, every ggml type that is known) to f32. */
OZ_MUST oz_status oz_tensor_rows(const oz_tensor *, int64_t row0, int64_t rows, float *out);
/* Quantizes a whole matrix under fitted, sealed parameters (project row by row), then packs. */
OZ_MUST oz_status oz_fmt_encode(const oz_fmt *, const oz_params *, oz_mat w, oz_packed *, oz_mat w_hat /* p may be NULL */, oz_pool *);

/* ---- activation formats ---------------------------------------------------------------------------------------------- */
typedef struct oz_act {
    uint8_t kind;      /* 0 none, 1 integer */
    uint8_t bits, asym, is_static;
    int32_t group;     /* > 0 inputs, -1 token, -2 tensor */
    float clip;        /* factor on the range, 1 */
    float range_lo, range_hi; /* static: from calibration (symmetric: hi = max |x|) */
    const char *text;  /* canonical */
} oz_act;
OZ_MUST oz_status oz_act_from_spec(oz_act *, const oz_spec *, const char *where); /* refuses what activations cannot be */
/* Definition: fake quantization in place, rows are tokens; saturated counts clipped elements of static formats (may be NULL). */
void oz_act_fake(const oz_act *, oz_mat x, int64_t *saturated);
#endif

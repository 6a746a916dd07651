/* number/sidecar/cols.c: k input columns of a linear in 16 or 32 bits beside its grid (OWQ, arXiv:2306.02272; card owq D).
 *
 *     +cols(6)  +cols(1%)  +cols(auto)  +cols(1%:bf16)
 *
 * Stored arrays: ids u16 [k] (u32 when n > 65536), ascending; cols f16|bf16|f32 [k][m], one stored column contiguous, so the product is k
 * axpys: y += sum over i of x[ids[i]] * P_i.  The grid keeps its slots: a slot under a stored column holds the code nearest 0 and P the
 * *difference* to it.  A percentage of n inputs is rounded down. */
#include "number/format/format_internal.h"
#include "ounce/linear.h"

#include <stdio.h>
#include <string.h>

extern const oz_sidecar_type oz_sidecar_cols;

typedef struct cols_options {
    int64_t count;
    double percent;
    bool automatic;
    int dtype;
} cols_options;

static const char *refuses(const oz_spec *s)
{
    if (s->type && s->type->flags & OZ_FMT_FLOAT) return "an unquantized format needs no stored columns";
    return NULL;
}

static oz_status bad(const char *where, const char *args, const char *what)
{
    return oz_fail(OZ_ERR_PARSE, "+cols(6), +cols(1%), +cols(1%:bf16), +cols(auto)", "%s: cols(%s): %s", where, args, what);
}

static oz_status parse(const char *args, void *opt, const char *where, oz_arena *arena)
{
    cols_options *o = opt;
    *o = (cols_options){.dtype = OZ_F16};
    const char *colon = strchr(args, ':');
    size_t n = colon ? (size_t)(colon - args) : strlen(args);
    char *head = oz_arena_strndup(arena, args, n);
    if (!head) return OZ_ERR_NOMEM;
    if (colon) {
        static const struct {
            const char *name;
            oz_dtype type;
        } types[] = {{"f16", OZ_F16}, {"bf16", OZ_BF16}, {"f32", OZ_F32}};
        o->dtype = -1;
        for (int i = 0; i < 3; i++)
            if (!strcmp(colon + 1, types[i].name)) o->dtype = (int)types[i].type;
        if (o->dtype < 0) return bad(where, args, "columns are stored as f16, bf16 or f32; quantized columns are not built yet");
    }
    if (!strcmp(head, "auto")) {
        o->automatic = true;
        return OZ_OK;
    }
    if (n && head[n - 1] == '%') {
        head[n - 1] = 0;
        if (!oz_parse_f64(head, 0, 100, &o->percent)) return bad(where, args, "a percentage of the inputs lies between 0% and 100%");
        o->count = -1;
        return OZ_OK;
    }
    if (!oz_parse_i64(head, 0, INT32_MAX, &o->count)) return bad(where, args, "expected a number of columns, a percentage or auto");
    return OZ_OK;
}

static void print(const void *opt, char *out, size_t n)
{
    const cols_options *o = opt;
    const char *type = o->dtype == OZ_F16 ? "" : o->dtype == OZ_BF16 ? ":bf16" : ":f32";
    if (o->automatic)
        snprintf(out, n, "auto%s", type);
    else if (o->count < 0) {
        char number[40]; /* shortest that reads back */
        for (int digits = 1; digits <= 17; digits++) {
            double back;
            snprintf(number, sizeof number, "%.*g", digits, o->percent);
            if (oz_parse_f64(number, 0, 100, &back) && back == o->percent) break;
        }
        snprintf(out, n, "%s%%%s", number, type);
    } else
        snprintf(out, n, "%lld%s", (long long)o->count, type);
}

static int64_t count(const void *opt, int64_t n)
{
    const cols_options *o = opt;
    if (o->automatic) return -1;
    int64_t k = o->count < 0 ? (int64_t)(o->percent / 100 * (double)n + 1e-9) : o->count;
    return k < n ? k : n;
}

static oz_dtype id_type(int64_t n) { return n > 65536 ? OZ_U32 : OZ_U16; }

static oz_status layout(const void *opt, int64_t m, int64_t n, int64_t k, oz_array *out, int *number)
{
    oz_array_describe(&out[0], "ids", id_type(n), 1, k, 1);
    oz_array_describe(&out[1], "cols", (oz_dtype)((const cols_options *)opt)->dtype, 2, k, m);
    *number = 2;
    return OZ_OK;
}

static double bits_of(const void *opt, int64_t m, int64_t n, int64_t k)
{
    return 8.0 * (double)k *
           ((double)oz_dtype_size(id_type(n)) + (double)m * (double)oz_dtype_size((oz_dtype)((const cols_options *)opt)->dtype));
}

static const oz_array *find(const oz_sidecar *s, const char *name)
{
    for (int i = 0; i < s->n; i++)
        if (!strcmp(s->a[i].name, name)) return &s->a[i];
    return NULL;
}
static int64_t id_at(const oz_array *ids, int64_t i)
{
    const uint8_t *p = oz_array_data(ids);
    if (ids->v.dtype == OZ_U16) return p[2 * i] | p[2 * i + 1] << 8;
    return (int64_t)((uint32_t)p[4 * i] | (uint32_t)p[4 * i + 1] << 8 | (uint32_t)p[4 * i + 2] << 16 | (uint32_t)p[4 * i + 3] << 24);
}

static oz_status check(const oz_sidecar *s, const char *linear)
{
    const oz_array *ids = find(s, "ids"), *cols = find(s, "cols");
    if (!ids || !cols) return oz_fail(OZ_ERR_PARSE, NULL, "%s: stored columns lack the array %s", linear, ids ? "cols" : "ids");
    oz_dtype want = (oz_dtype)((const cols_options *)s->opt)->dtype;
    int64_t k = ids->v.shape[0];
    if (ids->v.rank != 1 || ids->v.dtype != id_type(s->inputs))
        return oz_fail(OZ_ERR_PARSE, NULL, "%s.cols.ids is %s of rank %d, expected %s of rank 1", linear, oz_dtype_name(ids->v.dtype),
                       ids->v.rank, oz_dtype_name(id_type(s->inputs)));
    if (cols->v.rank != 2 || cols->v.dtype != want || cols->v.shape[0] != k || cols->v.shape[1] != s->rows)
        return oz_fail(OZ_ERR_PARSE, NULL, "%s.cols.cols is %s %lld x %lld, expected %s %lld x %lld", linear, oz_dtype_name(cols->v.dtype),
                       (long long)cols->v.shape[0], (long long)cols->v.shape[1], oz_dtype_name(want), (long long)k, (long long)s->rows);
    for (int64_t i = 0, before = -1; i < k; i++) {
        int64_t id = id_at(ids, i);
        if (id <= before || id >= s->inputs)
            return oz_fail(OZ_ERR_PARSE, NULL, "%s.cols.ids[%lld] is %lld; ids ascend and stay below %lld inputs", linear, (long long)i,
                           (long long)id, (long long)s->inputs);
        before = id;
    }
    return OZ_OK;
}

/* One stored column times a number, added to y[rows]; pieces of 256 keep the f32 copy on the stack. */
static void add_column(const oz_array *cols, int64_t i, int64_t rows, float x, float *y, int64_t step)
{
    size_t size = oz_dtype_size(cols->v.dtype);
    const uint8_t *p = (const uint8_t *)oz_array_data(cols) + (size_t)(i * rows) * size;
    float v[256];
    for (int64_t r = 0; r < rows; r += 256) {
        int64_t n = rows - r < 256 ? rows - r : 256;
        oz_to_f32(cols->v.dtype, p + (size_t)r * size, v, n);
        for (int64_t j = 0; j < n; j++) y[(r + j) * step] += x * v[j];
    }
}

static oz_status apply(const oz_sidecar *s, oz_mat x, oz_mat y, oz_work *work)
{
    const oz_array *ids = find(s, "ids"), *cols = find(s, "cols");
    (void)work;
    for (int64_t t = 0; t < x.rows; t++)
        for (int64_t i = 0; i < ids->v.shape[0]; i++) add_column(cols, i, s->rows, x.p[t * x.ld + id_at(ids, i)], y.p + t * y.ld, 1);
    return OZ_OK;
}

static oz_status dense(const oz_sidecar *s, oz_mat w)
{
    const oz_array *ids = find(s, "ids"), *cols = find(s, "cols");
    for (int64_t i = 0; i < ids->v.shape[0]; i++) add_column(cols, i, s->rows, 1, w.p + id_at(ids, i), w.ld);
    return OZ_OK;
}

static double bits(const oz_sidecar *s)
{
    double sum = 0;
    for (int i = 0; i < s->n; i++) sum += 8.0 * (double)oz_array_bytes(&s->a[i]);
    return sum;
}

const oz_sidecar_type oz_sidecar_cols = {.entry = {.kind = "sidecar",
                                                   .name = "cols",
                                                   .brief = "a few input columns in 16 bits beside the grid: +cols(1%), +cols(auto)",
                                                   .paper = "arXiv:2306.02272",
                                                   .card = "owq",
                                                   .options_size = sizeof(cols_options)},
                                         .refuses = refuses,
                                         .parse = parse,
                                         .print = print,
                                         .apply = apply,
                                         .bits = bits,
                                         .dense = dense,
                                         .check = check,
                                         .count = count,
                                         .bits_of = bits_of,
                                         .layout = layout};

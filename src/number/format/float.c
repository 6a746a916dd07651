/* number/format/float.c: f32, f16, bf16 as formats: no parameters, one value a code.
 *
 * Stored array: codes f32|f16|bf16 [m][n].  A code in memory is the stored value's bytes.  Rounding is to nearest, ties to even. */
#include "number/format/format_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct float_options {
    int type;
} float_options; /* an oz_dtype */

static oz_dtype type_of(const void *opt) { return (oz_dtype)((const float_options *)opt)->type; }

static bool grid(const char *word, size_t n, void *opt)
{
    static const struct {
        const char *word;
        oz_dtype type;
    } words[] = {{"f32", OZ_F32}, {"f16", OZ_F16}, {"bf16", OZ_BF16}};
    for (int i = 0; i < 3; i++)
        if (strlen(words[i].word) == n && !memcmp(word, words[i].word, n)) {
            ((float_options *)opt)->type = (int)words[i].type;
            return true;
        }
    return false;
}
static void print_grid(const void *opt, char out[32])
{
    oz_dtype t = type_of(opt);
    snprintf(out, 32, "%s", t == OZ_F32 ? "f32" : t == OZ_BF16 ? "bf16" : "f16");
}

static const char *refuses(const oz_spec *s)
{
    if (s->group.kind != OZ_GROUP_DEFAULT) return "f32, f16 and bf16 have no groups";
    if (strcmp(s->scale, "f16")) return "f32, f16 and bf16 have no scales";
    return NULL;
}

static oz_status bind(const oz_spec *s, int64_t m, int64_t n, oz_shape *shape)
{
    shape->r = shape->d = 1;
    shape->code_bytes = (int32_t)oz_dtype_size(type_of(s->opt));
    shape->prm_r = m;
    shape->prm_c = n;
    return OZ_OK;
}

static oz_status init(const oz_fmt *f, oz_params *p)
{
    (void)f;
    *p = (oz_params){0};
    return OZ_OK;
}
static oz_status seal(const oz_fmt *f, oz_params *p, int64_t r0, int64_t nr, int64_t c0, int64_t nc)
{
    (void)f, (void)p, (void)r0, (void)nr, (void)c0, (void)nc;
    return OZ_OK;
}
static void from_range(const oz_fmt *f, float lo, float hi, float *scale, float *zero)
{
    (void)f, (void)lo, (void)hi;
    *scale = 1;
    if (zero) *zero = 0;
}

static void encode(const oz_fmt *f, float scale, float zero, const float *w, int64_t n, uint8_t *code, float *q)
{
    oz_dtype t = type_of(f->opt);
    (void)scale, (void)zero;
    if (code) oz_from_f32(t, w, code, n);
    for (int64_t i = 0; q && i < n; i++) q[i] = oz_round_to(t, w[i]);
}

static oz_status project(const oz_fmt *f, const oz_params *p, int64_t row0, int64_t col0, oz_mat z, const oz_metric *metric,
                         const float *round, uint8_t *code, oz_mat q)
{
    (void)p, (void)row0, (void)col0, (void)metric, (void)round;
    for (int64_t i = 0; i < z.rows; i++) encode(f, 1, 0, z.p + i * z.ld, z.cols, code + i * z.cols * f->shape.code_bytes, q.p + i * q.ld);
    return OZ_OK;
}

static oz_status layout(const oz_fmt *f, oz_array *out, int *n)
{
    oz_array_describe(&out[0], "codes", type_of(f->opt), 2, f->m, f->n);
    *n = 1;
    return OZ_OK;
}

static oz_status pack(const oz_fmt *f, const oz_params *p, const uint8_t *codes, oz_packed *out)
{
    (void)p;
    OZ_TRY(oz_packed_new(f, out));
    memcpy(oz_array_data(&out->a[0]), codes, oz_array_bytes(&out->a[0]));
    return OZ_OK;
}

static oz_status unpack(const oz_packed *p, int64_t row0, int64_t rows, int level, oz_mat w)
{
    oz_dtype t = type_of(p->fmt.opt);
    const uint8_t *codes = oz_array_data(&p->a[0]);
    size_t row = (size_t)p->fmt.n * oz_dtype_size(t);
    (void)level;
    for (int64_t i = 0; i < rows; i++) oz_to_f32(t, codes + (size_t)(row0 + i) * row, w.p + i * w.ld, p->fmt.n);
    return OZ_OK;
}

static void kernel(const oz_fmt *f, oz_kdesc *k)
{
    *k = (oz_kdesc){
        .family = OZ_KERNEL_FP, .bits = (uint8_t)(8 * oz_dtype_size(type_of(f->opt))), .table = (uint8_t)type_of(f->opt), .r = 1, .d = 1};
}

const oz_format oz_format_float = {
    .entry = {.kind = "format", .name = "float", .brief = "f32, f16, bf16: unquantized values", .options_size = sizeof(float_options)},
    .flags = OZ_FMT_PROJECT | OZ_FMT_DYNAMIC | OZ_FMT_SCALAR | OZ_FMT_ZERO | OZ_FMT_FLOAT,
    .grid = grid,
    .print_grid = print_grid,
    .refuses = refuses,
    .bind = bind,
    .init = init,
    .seal = seal,
    .project = project,
    .pack = pack,
    .unpack = unpack,
    .layout = layout,
    .bits = oz_layout_bits,
    .kernel = kernel,
    .from_range = from_range,
    .encode = encode};

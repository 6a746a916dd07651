/* number/format/ggml.c: GGUF block types with one scale for 32 inputs, read and written: q4_0, q4_1, q5_0, q5_1, q8_0; and the format
 * "gguf" over these and the k types (ggml_k.c, read only).
 *
 * Stored array: blocks u8 [m][n / block * bytes], exactly the bytes of a GGUF tensor; d and m are little-endian f16, qs a byte array:
 *     type   bytes  layout                              value           low nibbles are inputs 0-15, high nibbles inputs 16-31
 *     q4_0   18     d, qs[16]                           d*(u - 8)
 *     q4_1   20     d, m, qs[16]                        d*u + m
 *     q5_0   22     d, qh (u32), qs[16]                 d*(u - 16)      bit j of qh is bit 4 of u[j]
 *     q5_1   24     d, m, qh (u32), qs[16]              d*u + m
 *     q8_0   34     d, q[32] signed                     d*q             u = q + 128
 * Example, q4_0: 00 3c 98 88...: d = 1, u[0] = 8, u[16] = 9, the rest 8: value 1 at input 16, else 0.
 *
 * from_range follows ggml's reference: q4_0 and q5_0 take a signed d so that the end of larger magnitude is the lowest code (d = end / -8,
 * end / -16; the negative end on ties), q8_0 d = max|.| / 127, q4_1 and q5_1 d = (hi - lo) / top, m = lo.  d is rounded to f16 before codes
 * are computed, codes are nearest with ties to even (ggml rounds with the unrounded d, ties away from 0).  d = 0: all codes mean 0 (or m).
 */
#include "number/format/format_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K, NKIND };
typedef struct kind_row {
    const char *name;
    int number, bits, group, block, bytes;
    bool offset;
    float zero;
} kind_row;
static const kind_row kinds[NKIND] = {
    {"q4_0", 2, 4, 32, 32, 18, false, 8},   {"q4_1", 3, 4, 32, 32, 20, true, 0},      {"q5_0", 6, 5, 32, 32, 22, false, 16},
    {"q5_1", 7, 5, 32, 32, 24, true, 0},    {"q8_0", 8, 8, 32, 32, 34, false, 128},   {"q4_k", 12, 4, 32, 256, 144, true, 0},
    {"q5_k", 13, 5, 32, 256, 176, true, 0}, {"q6_k", 14, 6, 16, 256, 210, false, 32},
};
typedef struct ggml_options {
    int kind;
} ggml_options;

int oz_ggml_opt_kind(const void *opt) { return ((const ggml_options *)opt)->kind; }
const char *oz_ggml_kind_name(int kind) { return kinds[kind].name; }
int oz_ggml_kind(int number)
{
    for (int k = 0; k < NKIND; k++)
        if (kinds[k].number == number) return k;
    return -1;
}
int64_t oz_ggml_row_bytes(int kind, int64_t n) { return n / kinds[kind].block * kinds[kind].bytes; }

/* ---- blocks ---- */
static float f16_at(const uint8_t *p) { return oz_f16_to_f32((uint16_t)(p[0] | p[1] << 8)); }
static void put_f16(uint8_t *p, float v)
{
    uint16_t h = oz_f32_to_f16(v);
    p[0] = (uint8_t)h;
    p[1] = (uint8_t)(h >> 8);
}

static void block_of_32(int kind, const uint8_t *b, uint8_t *u, float *scale, float *shift)
{
    const kind_row *k = &kinds[kind];
    *scale = f16_at(b);
    *shift = k->offset ? f16_at(b + 2) : k->zero;
    b += k->offset ? 4 : 2;
    if (kind == Q8_0) {
        for (int j = 0; j < 32; j++) u[j] = b[j] ^ 0x80; /* q + 128 */
        return;
    }
    uint32_t high = 0;
    if (k->bits == 5) {
        high = (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
        b += 4;
    }
    for (int j = 0; j < 16; j++) {
        u[j] = (uint8_t)((b[j] & 15) | (high >> j & 1) << 4);
        u[j + 16] = (uint8_t)(b[j] >> 4 | (high >> (j + 16) & 1) << 4);
    }
}

static void store_32(int kind, const uint8_t *u, float scale, float shift, uint8_t *b)
{
    const kind_row *k = &kinds[kind];
    put_f16(b, scale);
    if (k->offset) put_f16(b + 2, shift);
    b += k->offset ? 4 : 2;
    if (kind == Q8_0) {
        for (int j = 0; j < 32; j++) b[j] = u[j] ^ 0x80;
        return;
    }
    if (k->bits == 5) {
        uint32_t high = 0;
        for (int j = 0; j < 32; j++) high |= (uint32_t)(u[j] >> 4) << j;
        for (int j = 0; j < 4; j++) b[j] = (uint8_t)(high >> 8 * j);
        b += 4;
    }
    for (int j = 0; j < 16; j++) b[j] = (uint8_t)((u[j] & 15) | (u[j + 16] & 15) << 4);
}

static void block_at(int kind, const uint8_t *b, uint8_t *u, float *scale, float *shift)
{
    switch (kind) {
    case Q4_K:
        oz_ggml_q4_k_block(b, u, scale, shift);
        break;
    case Q5_K:
        oz_ggml_q5_k_block(b, u, scale, shift);
        break;
    case Q6_K:
        oz_ggml_q6_k_block(b, u, scale, shift);
        break;
    default:
        block_of_32(kind, b, u, scale, shift);
    }
}

void oz_ggml_rows(int kind, const uint8_t *data, int64_t rows, int64_t n, float *out)
{
    const kind_row *k = &kinds[kind];
    int64_t blocks = rows * (n / k->block);
    for (int64_t i = 0; i < blocks; i++, data += k->bytes, out += k->block) {
        uint8_t u[256];
        float scale[16], shift[16];
        block_at(kind, data, u, scale, shift);
        for (int g = 0; g * k->group < k->block; g++) {
            const uint8_t *c = u + g * k->group;
            float *y = out + g * k->group, s = scale[g], z = shift[g];
            if (k->offset)
                for (int j = 0; j < k->group; j++) y[j] = s * (float)c[j] + z;
            else
                for (int j = 0; j < k->group; j++) y[j] = s * ((float)c[j] - z);
        }
    }
}

bool oz_ggml_affine(int kind, oz_affine *a)
{
    *a = (oz_affine){kinds[kind].bits, kinds[kind].group, kinds[kind].offset};
    return true;
}

void oz_ggml_affine_row(int kind, const uint8_t *row, int64_t n, uint8_t *u, float *scale, float *shift)
{
    const kind_row *k = &kinds[kind];
    int per = k->block / k->group;
    for (int64_t b = 0; b < n / k->block; b++) {
        uint8_t code[256];
        float s[16], z[16];
        block_at(kind, row + b * k->bytes, code, s, z);
        if (u) memcpy(u + b * k->block, code, (size_t)k->block);
        if (scale) memcpy(scale + b * per, s, sizeof(float) * (size_t)per);
        if (shift) memcpy(shift + b * per, z, sizeof(float) * (size_t)per);
    }
}

/* ---- the format ---- */
static bool grid(const char *word, size_t n, void *opt)
{
    (void)opt;
    return n == 4 && !memcmp(word, "gguf", 4);
}
static void print_grid(const void *opt, char out[32])
{
    (void)opt;
    snprintf(out, 32, "gguf");
}

static const char *refuses(const oz_spec *s)
{
    if (oz_ggml_opt_kind(s->opt) < 0) return "gguf names no type; write for example gguf.q4_0";
    if (s->group.kind != OZ_GROUP_DEFAULT) return "a GGUF type fixes its group; leave out @GROUP";
    if (strcmp(s->scale, "f16")) return "a GGUF type fixes its scales; leave out :SCALE";
    if (s->nside) return "a GGUF type has no sidecars";
    return NULL;
}

static oz_status bind(const oz_spec *s, int64_t m, int64_t n, oz_shape *shape)
{
    const kind_row *k = &kinds[oz_ggml_opt_kind(s->opt)];
    (void)m;
    if (n % k->block)
        return oz_fail(OZ_ERR_SHAPE, NULL, "%s holds rows of a multiple of %d inputs, this matrix has %lld", s->text, k->block,
                       (long long)n);
    shape->r = shape->d = shape->code_bytes = 1;
    shape->prm_r = 1;
    shape->prm_c = k->group;
    if (k->block == 32)
        shape->flags |= OZ_FMT_PROJECT | OZ_FMT_DYNAMIC;
    else
        shape->flags &= ~(uint32_t)OZ_FMT_PROJECT; /* read only */
    if (!k->offset) shape->flags |= OZ_FMT_ZERO;
    return OZ_OK;
}

static oz_status read_only(const oz_fmt *f)
{
    return oz_fail(OZ_ERR_UNSUPPORTED, "types that can be written: gguf.q4_0, q4_1, q5_0, q5_1, q8_0", "%s can be read, not written",
                   f->spec->text);
}

static oz_status init(const oz_fmt *f, oz_params *p)
{
    const kind_row *k = &kinds[oz_ggml_opt_kind(f->opt)];
    *p = (oz_params){0};
    if (k->block != 32) return read_only(f);
    int64_t shape[2] = {oz_fmt_tiles_r(f), oz_fmt_tiles_c(f)};
    p->a = oz_zalloc(2, sizeof(oz_array));
    if (!p->a) return OZ_ERR_NOMEM;
    for (int i = 0; i < (k->offset ? 2 : 1); i++) {
        oz_status s = oz_array_new(&p->a[i], i ? "zero" : "scale", OZ_F32, 2, shape);
        if (s) {
            oz_params_drop(p);
            return s;
        }
        p->n = i + 1;
    }
    return OZ_OK;
}

static float stored(float v) { return oz_clampf(oz_round_to(OZ_F16, v), -65504.0f, 65504.0f); }

static oz_status seal(const oz_fmt *f, oz_params *p, int64_t r0, int64_t nr, int64_t c0, int64_t nc)
{
    int64_t tc = oz_fmt_tiles_c(f);
    for (int a = 0; a < p->n; a++) {
        float *v = oz_array_data(&p->a[a]);
        for (int64_t r = r0; r < r0 + nr; r++)
            for (int64_t c = c0; c < c0 + nc; c++) v[r * tc + c] = stored(v[r * tc + c]);
    }
    return OZ_OK;
}

static void from_range(const oz_fmt *f, float lo, float hi, float *scale, float *zero)
{
    const kind_row *k = &kinds[oz_ggml_opt_kind(f->opt)];
    float top = (float)((1 << k->bits) - 1);
    if (k->offset)
        *scale = stored((hi - lo) / top);
    else if (k->bits == 8)
        *scale = stored(fmaxf(fabsf(lo), fabsf(hi)) / 127.0f);
    else
        *scale = stored((fabsf(lo) >= fabsf(hi) ? lo : hi) / -k->zero);
    if (zero) *zero = k->offset ? stored(lo) : 0;
}

static void encode(const oz_fmt *f, float s, float z, const float *w, int64_t n, uint8_t *code, float *q)
{
    const kind_row *k = &kinds[oz_ggml_opt_kind(f->opt)];
    float top = (float)((1 << k->bits) - 1);
    for (int64_t i = 0; i < n; i++) {
        float u = s == 0 ? k->zero : k->offset ? oz_round_even((w[i] - z) / s) : oz_round_even(w[i] / s) + k->zero;
        u = oz_clampf(u, 0, top);
        if (code) code[i] = (uint8_t)u;
        if (q) q[i] = k->offset ? s * u + z : s * (u - k->zero);
    }
}

static oz_status project(const oz_fmt *f, const oz_params *p, int64_t row0, int64_t col0, oz_mat w, const oz_metric *metric,
                         const float *round, uint8_t *code, oz_mat q)
{
    const kind_row *k = &kinds[oz_ggml_opt_kind(f->opt)];
    const float *scale = oz_params_get(p, "scale"), *zero = oz_params_get(p, "zero");
    int64_t tc = oz_fmt_tiles_c(f);
    (void)metric;
    if (k->block != 32) return read_only(f);
    for (int64_t i = 0; i < w.rows; i++)
        for (int64_t j = 0; j < w.cols; j++) {
            int64_t t = (row0 + i) * tc + (col0 + j) / 32;
            float s = scale[t], z = zero ? zero[t] : 0, x = w.p[i * w.ld + j];
            if (round && s != 0) { /* move x so that nearest becomes floor(x/s + r): the centre of the code's cell */
                float at = k->offset ? (x - z) / s : x / s;
                at = floorf(oz_clampf(at, -1e6f, 1e6f) + round[i * w.cols + j]);
                x = k->offset ? s * at + z : s * at;
            }
            encode(f, s, z, &x, 1, &code[i * w.cols + j], &q.p[i * q.ld + j]);
        }
    return OZ_OK;
}

static oz_status layout(const oz_fmt *f, oz_array *out, int *n)
{
    oz_array_describe(&out[0], "blocks", OZ_U8, 2, f->m, oz_ggml_row_bytes(oz_ggml_opt_kind(f->opt), f->n));
    *n = 1;
    return OZ_OK;
}

static oz_status pack(const oz_fmt *f, const oz_params *p, const uint8_t *codes, oz_packed *out)
{
    int kind = oz_ggml_opt_kind(f->opt);
    if (kinds[kind].block != 32) return read_only(f);
    OZ_TRY(oz_packed_new(f, out));
    uint8_t *b = oz_array_data(&out->a[0]);
    const float *scale = oz_params_get(p, "scale"), *zero = oz_params_get(p, "zero");
    for (int64_t t = 0; t < f->m * (f->n / 32); t++, b += kinds[kind].bytes)
        store_32(kind, codes + 32 * t, scale[t], zero ? zero[t] : 0, b);
    return OZ_OK;
}

static oz_status unpack(const oz_packed *p, int64_t row0, int64_t rows, int level, oz_mat w)
{
    int kind = oz_ggml_opt_kind(p->fmt.opt);
    int64_t rb = oz_ggml_row_bytes(kind, p->fmt.n);
    const uint8_t *b = oz_array_data(&p->a[0]);
    (void)level;
    for (int64_t i = 0; i < rows; i++) oz_ggml_rows(kind, b + (row0 + i) * rb, 1, p->fmt.n, w.p + i * w.ld);
    return OZ_OK;
}

static void kernel(const oz_fmt *f, oz_kdesc *d)
{
    const kind_row *k = &kinds[oz_ggml_opt_kind(f->opt)];
    *d = (oz_kdesc){.family = OZ_KERNEL_DOT_INT,
                    .bits = (uint8_t)k->bits,
                    .zero_mode = k->offset ? OZ_ZERO_OFFSET : OZ_ZERO_NONE,
                    .r = 1,
                    .d = 1,
                    .group = k->group};
}

static const oz_option options[] = {{.name = "type",
                                     .type = OZ_ENUM,
                                     .at = offsetof(ggml_options, kind),
                                     .init = -1,
                                     .choices = "q4_0|q4_1|q5_0|q5_1|q8_0|q4_k|q5_k|q6_k",
                                     .brief = "the GGUF type; q4_k, q5_k and q6_k are read, not written"},
                                    {0}};

const oz_format oz_format_ggml = {.entry = {.kind = "format",
                                            .name = "gguf",
                                            .brief = "block types of GGUF files: gguf.q4_0, gguf.q8_0",
                                            .options = options,
                                            .options_size = sizeof(ggml_options)},
                                  .flags = OZ_FMT_SCALAR | OZ_FMT_FOREIGN | OZ_FMT_PROJECT,
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

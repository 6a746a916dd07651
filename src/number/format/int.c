/* number/format/int.c: integer grids intB[.OPTION]@GROUP[:SCALE], B = 1...8 (FineQuant, arXiv:2308.09723; card finequant A).
 *
 * A tile (R consecutive rows x C consecutive inputs, mostly 1 x g) shares one scale s; P = 2^B - 1:
 *     symmetric   value s*q         q in [-2^(B-1), 2^(B-1) - 1]      s = max|w| / (2^(B-1) - 1)
 *     .asym       value s*(q - z)   q, z integers in [0, P]           range [min(0, w), max(0, w)]
 *     .zf         value s*(q + z)   z real, f16                       range [min w, max w], z = lo/s
 *     .off        value s*q + b     b real, f16                       as .zf, b = lo
 *     .mid        value s*(q - P/2) half-integer levels, no zero      s = 2 max|w| / P
 *     .unit       value q           the scale lives elsewhere
 * s is rounded to its stored type first (f16; :f32, :bf16), then z, then codes are computed with the rounded values: nearest, ties to
 * even, clamped.  Codes in memory are u = q - (lowest code), one byte each.
 *
 * Stored arrays (tiles_r = ceil(m/R), tiles_c = ceil(n/C)):
 *     codes  u8 [m][ceil(n/32) * 4B]   per row, blocks of 32 inputs (the last padded with u = 0); inside a block u is cut from its low
 *                                      end into a 4-bit part (B >= 4), a 2-bit part, a 1-bit part, one plane each, in this order:
 *                       4-bit plane 16 bytes   byte i = u[i] | u[i+16] << 4
 *                       2-bit plane  8 bytes   byte i = u[i] | u[i+8] << 2 | u[i+16] << 4 | u[i+24] << 6
 *                       1-bit plane  4 bytes   bit i of a little-endian u32 = u[i]
 *                       B = 8                  32 plain bytes
 *     scale  f16|f32|bf16 [tiles_r][tiles_c]   (not .unit)
 *     zero   .asym: u8 [tiles_r][ceil(tiles_c*B/8)], B bits each, lowest bit first;  .zf, .off: f16 [tiles_r][tiles_c]
 * Example, B = 5: u = 0x13 at input 0, 0 elsewhere: 4-bit plane 03 00..., 1-bit plane 01 00 00 00.
 *
 * What differs from the card: an all-zero .mid tile takes the smallest normal f16 as its scale instead of 1 (the grid has no zero), and a
 * .zf tile so narrow that z would overflow f16 keeps z = +-65504 and widens s.  A scale that would round to 0 becomes 2^-14. */
#include "number/format/format_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define SMALLEST_NORMAL 6.103515625e-05f
#define LARGEST_F16     65504.0f

static const oz_int_options *opts(const oz_fmt *f) { return f->opt; }
static oz_dtype scale_type(const oz_spec *s) { return !strcmp(s->scale, "f32") ? OZ_F32 : !strcmp(s->scale, "bf16") ? OZ_BF16 : OZ_F16; }
static bool has_zero(const oz_int_options *o) { return o->zero == OZ_INT_ASYM || o->zero == OZ_INT_ZF || o->zero == OZ_INT_OFF; }

/* ---- grid word ---- */
static bool grid(const char *word, size_t n, void *opt)
{
    oz_int_options *o = opt;
    if (n != 4 || memcmp(word, "int", 3) || word[3] < '1' || word[3] > '8') return false;
    o->bits = word[3] - '0';
    return true;
}
static void print_grid(const void *opt, char out[32])
{
    const oz_int_options *o = opt;
    snprintf(out, 32, "int%d", o->bits ? o->bits : 4);
}

static const char *refuses(const oz_spec *s)
{
    const oz_int_options *o = s->opt;
    if (o->bits == 1 && (o->zero == OZ_INT_SYM || o->zero == OZ_INT_UNIT))
        return "one bit has no symmetric codes; write int1.mid or int1.asym";
    if (strcmp(s->scale, "f16") && strcmp(s->scale, "f32") && strcmp(s->scale, "bf16"))
        return "int stores its scales as f16, f32 or bf16; scales of two levels are not built yet";
    if (o->zero == OZ_INT_UNIT && strcmp(s->scale, "f16")) return "int.unit stores no scale";
    return NULL;
}

static oz_status bind(const oz_spec *s, int64_t m, int64_t n, oz_shape *shape)
{
    const oz_int_options *o = s->opt;
    if (o->is_static || o->clip != 1)
        return oz_fail(OZ_ERR_UNSUPPORTED, "a weight's range is the business of its fit",
                       "%s: .static and .clip are for activations, not for weights", s->text);
    shape->r = shape->d = shape->code_bytes = 1;
    OZ_TRY(oz_group_tile(s, m, n, 0, &shape->prm_r, &shape->prm_c));
    if (o->zero == OZ_INT_SYM || o->zero == OZ_INT_ASYM || o->zero == OZ_INT_UNIT) shape->flags |= OZ_FMT_ZERO;
    if (o->zero == OZ_INT_ASYM) shape->flags |= OZ_FMT_INT_ZERO;
    return OZ_OK;
}

/* ---- parameters ---- */
static oz_status init(const oz_fmt *f, oz_params *p)
{
    const oz_int_options *o = opts(f);
    int n = o->zero == OZ_INT_UNIT ? 0 : has_zero(o) ? 2 : 1;
    int64_t shape[2] = {oz_fmt_tiles_r(f), oz_fmt_tiles_c(f)};
    *p = (oz_params){oz_zalloc(2, sizeof(oz_array)), 0};
    if (!p->a) return OZ_ERR_NOMEM;
    for (int i = 0; i < n; i++) {
        oz_status s = oz_array_new(&p->a[i], i ? "zero" : "scale", OZ_F32, 2, shape);
        if (s) {
            oz_params_drop(p);
            return s;
        }
        p->n = i + 1;
    }
    return OZ_OK;
}

static float stored_scale(const oz_fmt *f, float s)
{
    oz_dtype t = scale_type(f->spec);
    s = oz_round_to(t, s);
    if (s == 0) return SMALLEST_NORMAL;
    return t == OZ_F16 ? oz_clampf(s, -LARGEST_F16, LARGEST_F16) : s;
}

static float stored_zero(const oz_fmt *f, float z)
{
    const oz_int_options *o = opts(f);
    if (o->zero == OZ_INT_ASYM) return oz_clampf(oz_round_even(z), 0, (float)((1 << o->bits) - 1));
    return oz_clampf(oz_round_to(OZ_F16, z), -LARGEST_F16, LARGEST_F16);
}

static oz_status seal(const oz_fmt *f, oz_params *p, int64_t r0, int64_t nr, int64_t c0, int64_t nc)
{
    float *scale = oz_params_get(p, "scale"), *zero = oz_params_get(p, "zero");
    int64_t tc = oz_fmt_tiles_c(f);
    for (int64_t r = r0; r < r0 + nr; r++)
        for (int64_t c = c0; c < c0 + nc; c++) {
            if (scale) scale[r * tc + c] = stored_scale(f, scale[r * tc + c]);
            if (zero) zero[r * tc + c] = stored_zero(f, zero[r * tc + c]);
        }
    return OZ_OK;
}

static void from_range(const oz_fmt *f, float lo, float hi, float *scale, float *zero)
{
    const oz_int_options *o = opts(f);
    float top = (float)((1 << o->bits) - 1), half = (float)((1 << (o->bits - 1)) - 1), most = fmaxf(fabsf(lo), fabsf(hi)), s = 1, z = 0;
    switch (o->zero) {
    case OZ_INT_SYM:
        s = most > 0 ? stored_scale(f, most / half) : 1;
        break;
    case OZ_INT_MID:
        s = most > 0 ? stored_scale(f, 2 * most / top) : SMALLEST_NORMAL;
        break;
    case OZ_INT_ASYM:
        lo = fminf(lo, 0);
        hi = fmaxf(hi, 0);
        if (hi > lo) {
            s = stored_scale(f, (hi - lo) / top);
            z = stored_zero(f, -lo / s);
        }
        break;
    case OZ_INT_ZF:
        z = stored_zero(f, lo);
        if (hi > lo) {
            s = stored_scale(f, (hi - lo) / top);
            z = lo / s;
            if (fabsf(z) > LARGEST_F16) s = stored_scale(f, fabsf(lo) / LARGEST_F16 * 1.0005f); /* narrow and far from 0 */
            z = stored_zero(f, lo / s);
        }
        break;
    case OZ_INT_OFF:
        z = stored_zero(f, lo);
        if (hi > lo) s = stored_scale(f, (hi - lo) / top);
        break;
    default:
        break; /* unit */
    }
    *scale = s;
    if (zero) *zero = z;
}

/* ---- codes ---- */
/* Every option is one formula: u = clamp(round((w - from)/s + before) + after), value s*(u - at) + from. */
typedef struct steps {
    float from, before, after, at, top;
} steps;

static steps steps_of(const oz_int_options *o, float z)
{
    float top = (float)((1 << o->bits) - 1), low = (float)(1 << (o->bits - 1)), mid = 0.5f * top;
    switch (o->zero) {
    case OZ_INT_ASYM:
        return (steps){0, 0, z, z, top};
    case OZ_INT_ZF:
        return (steps){0, -z, 0, -z, top};
    case OZ_INT_OFF:
        return (steps){z, 0, 0, 0, top};
    case OZ_INT_MID:
        return (steps){0, mid, 0, mid, top};
    default:
        return (steps){0, 0, low, low, top}; /* sym, unit */
    }
}

static void encode(const oz_fmt *f, float s, float z, const float *w, int64_t n, uint8_t *code, float *q)
{
    steps k = steps_of(opts(f), z);
    if (opts(f)->zero == OZ_INT_UNIT) s = 1;
    for (int64_t i = 0; i < n; i++) {
        float u = oz_clampf(oz_round_even((w[i] - k.from) / s + k.before) + k.after, 0, k.top);
        if (code) code[i] = (uint8_t)u;
        if (q) q[i] = s * (u - k.at) + k.from;
    }
}

/* floor(x + r) in place of nearest, r uniform in [0, 1). */
static void encode_random(const oz_fmt *f, float s, float z, float w, float r, uint8_t *code, float *q)
{
    steps k = steps_of(opts(f), z);
    if (opts(f)->zero == OZ_INT_UNIT) s = 1;
    float x = oz_clampf((w - k.from) / s + k.before, -2097152.0f, 2097152.0f);
    float u = oz_clampf(floorf(x + r) + k.after, 0, k.top);
    *code = (uint8_t)u;
    *q = s * (u - k.at) + k.from;
}

static oz_status project(const oz_fmt *f, const oz_params *p, int64_t row0, int64_t col0, oz_mat z, const oz_metric *metric,
                         const float *round, uint8_t *code, oz_mat q)
{
    const float *scale = oz_params_get(p, "scale"), *zero = oz_params_get(p, "zero");
    int64_t tc = oz_fmt_tiles_c(f);
    (void)metric; /* d = 1: there is nothing to weigh */
    for (int64_t i = 0; i < z.rows; i++)
        for (int64_t j = 0; j < z.cols; j++) {
            int64_t t = (row0 + i) / f->shape.prm_r * tc + (col0 + j) / f->shape.prm_c;
            float s = scale ? scale[t] : 1, zz = zero ? zero[t] : 0;
            if (round)
                encode_random(f, s, zz, z.p[i * z.ld + j], round[i * z.cols + j], &code[i * z.cols + j], &q.p[i * q.ld + j]);
            else
                encode(f, s, zz, &z.p[i * z.ld + j], 1, &code[i * z.cols + j], &q.p[i * q.ld + j]);
        }
    return OZ_OK;
}

/* ---- storage ---- */
void oz_planes_pack(int bits, const uint8_t u[32], uint8_t *out)
{
    if (bits == 8) {
        memcpy(out, u, 32);
        return;
    }
    int shift = 0;
    if (bits >= 4) {
        for (int i = 0; i < 16; i++) out[i] = (uint8_t)((u[i] & 15) | (u[i + 16] & 15) << 4);
        out += 16;
        shift = 4;
    }
    if (bits - shift >= 2) {
        for (int i = 0; i < 8; i++)
            out[i] = (uint8_t)((u[i] >> shift & 3) | (u[i + 8] >> shift & 3) << 2 | (u[i + 16] >> shift & 3) << 4 |
                               (u[i + 24] >> shift & 3) << 6);
        out += 8;
        shift += 2;
    }
    if (bits - shift >= 1) {
        memset(out, 0, 4);
        for (int i = 0; i < 32; i++) out[i / 8] |= (uint8_t)((u[i] >> shift & 1) << (i % 8));
    }
}

void oz_planes_unpack(int bits, const uint8_t *in, uint8_t u[32])
{
    if (bits == 8) {
        memcpy(u, in, 32);
        return;
    }
    int shift = 0;
    memset(u, 0, 32);
    if (bits >= 4) {
        for (int i = 0; i < 16; i++) {
            u[i] = in[i] & 15;
            u[i + 16] = in[i] >> 4;
        }
        in += 16;
        shift = 4;
    }
    if (bits - shift >= 2) {
        for (int k = 0; k < 4; k++)
            for (int i = 0; i < 8; i++) u[8 * k + i] |= (uint8_t)((in[i] >> 2 * k & 3) << shift);
        in += 8;
        shift += 2;
    }
    if (bits - shift >= 1)
        for (int i = 0; i < 32; i++) u[i] |= (uint8_t)((in[i / 8] >> (i % 8) & 1) << shift);
}

static int64_t row_bytes(const oz_fmt *f) { return (f->n + 31) / 32 * 4 * opts(f)->bits; }

static oz_status layout(const oz_fmt *f, oz_array *out, int *n)
{
    const oz_int_options *o = opts(f);
    int64_t tr = oz_fmt_tiles_r(f), tc = oz_fmt_tiles_c(f);
    *n = 0;
    oz_array_describe(&out[(*n)++], "codes", OZ_U8, 2, f->m, row_bytes(f));
    if (o->zero != OZ_INT_UNIT) oz_array_describe(&out[(*n)++], "scale", scale_type(f->spec), 2, tr, tc);
    if (o->zero == OZ_INT_ASYM)
        oz_array_describe(&out[(*n)++], "zero", OZ_U8, 2, tr, (tc * o->bits + 7) / 8);
    else if (has_zero(o))
        oz_array_describe(&out[(*n)++], "zero", OZ_F16, 2, tr, tc);
    return OZ_OK;
}

static oz_status pack(const oz_fmt *f, const oz_params *p, const uint8_t *codes, oz_packed *out)
{
    const oz_int_options *o = opts(f);
    OZ_TRY(oz_packed_new(f, out));
    uint8_t *dst = oz_array_data(&out->a[0]);
    int64_t rb = row_bytes(f), tr = oz_fmt_tiles_r(f), tc = oz_fmt_tiles_c(f);
    for (int64_t i = 0; i < f->m; i++)
        for (int64_t b = 0; b * 32 < f->n; b++) {
            uint8_t u[32] = {0};
            int64_t len = f->n - b * 32 < 32 ? f->n - b * 32 : 32;
            memcpy(u, codes + i * f->n + b * 32, (size_t)len);
            oz_planes_pack(o->bits, u, dst + i * rb + b * 4 * o->bits);
        }
    const float *scale = oz_params_get(p, "scale"), *zero = oz_params_get(p, "zero");
    if (scale) oz_from_f32(scale_type(f->spec), scale, oz_array_data(&out->a[1]), tr * tc);
    if (o->zero == OZ_INT_ASYM) {
        uint8_t *z = oz_array_data(&out->a[2]);
        int64_t zb = (tc * o->bits + 7) / 8;
        for (int64_t r = 0; r < tr; r++)
            for (int64_t c = 0; c < tc; c++)
                for (int64_t k = 0, at = c * o->bits; k < o->bits; k++, at++)
                    z[r * zb + at / 8] |= (uint8_t)(((unsigned)zero[r * tc + c] >> k & 1) << (at % 8));
    } else if (zero)
        oz_from_f32(OZ_F16, zero, oz_array_data(&out->a[2]), tr * tc);
    return OZ_OK;
}

/* Scale and zero of tile t of tile row r as stored. */
static float scale_at(const oz_packed *p, int64_t r, int64_t t)
{
    if (opts(&p->fmt)->zero == OZ_INT_UNIT) return 1;
    float s;
    oz_dtype type = p->a[1].v.dtype;
    size_t size = oz_dtype_size(type);
    oz_to_f32(type, (const uint8_t *)oz_array_data(&p->a[1]) + (size_t)(r * oz_fmt_tiles_c(&p->fmt) + t) * size, &s, 1);
    return s;
}
static float zero_at(const oz_packed *p, int64_t r, int64_t t)
{
    const oz_int_options *o = opts(&p->fmt);
    if (!has_zero(o)) return 0;
    const uint8_t *z = oz_array_data(&p->a[2]);
    int64_t tc = oz_fmt_tiles_c(&p->fmt);
    if (o->zero == OZ_INT_ASYM) {
        int64_t at = t * o->bits;
        z += r * ((tc * o->bits + 7) / 8);
        unsigned two = z[at / 8] | (unsigned)(at % 8 + o->bits > 8 ? z[at / 8 + 1] : 0) << 8;
        return (float)(two >> (at % 8) & ((1u << o->bits) - 1));
    }
    float v;
    oz_to_f32(OZ_F16, z + 2 * (r * tc + t), &v, 1);
    return v;
}

static oz_status unpack(const oz_packed *p, int64_t row0, int64_t rows, int level, oz_mat w)
{
    const oz_fmt *f = &p->fmt;
    const oz_int_options *o = opts(f);
    const uint8_t *codes = oz_array_data(&p->a[0]);
    int64_t rb = row_bytes(f), g = f->shape.prm_c;
    float low = (float)(1 << (o->bits - 1)), mid = 0.5f * (float)((1 << o->bits) - 1);
    (void)level;
    for (int64_t i = 0; i < rows; i++) {
        const uint8_t *row = codes + (row0 + i) * rb;
        int64_t tr = (row0 + i) / f->shape.prm_r, t = -1, end = 0; /* tile t ends at input `end` */
        float s = 1, z = 0, *y = w.p + i * w.ld;
        for (int64_t b = 0; b < f->n; b += 32) {
            uint8_t u[32];
            oz_planes_unpack(o->bits, row + b / 8 * o->bits, u);
            int64_t stop = b + 32 < f->n ? b + 32 : f->n;
            for (int64_t j = b; j < stop;) {
                if (j == end) {
                    t++;
                    end = (t + 1) * g < f->n ? (t + 1) * g : f->n;
                    s = scale_at(p, tr, t);
                    z = o->zero == OZ_INT_SYM || o->zero == OZ_INT_UNIT ? low : o->zero == OZ_INT_MID ? mid : zero_at(p, tr, t);
                }
                int64_t run = end < stop ? end : stop;
                if (o->zero == OZ_INT_OFF)
                    for (; j < run; j++) y[j] = s * (float)u[j - b] + z;
                else if (o->zero == OZ_INT_ZF)
                    for (; j < run; j++) y[j] = s * ((float)u[j - b] + z);
                else
                    for (; j < run; j++) y[j] = s * ((float)u[j - b] - z);
            }
        }
    }
    return OZ_OK;
}

/* ---- the affine view ---- */
bool oz_int_affine(const oz_fmt *f, oz_affine *a)
{
    *a = (oz_affine){opts(f)->bits, f->shape.prm_c, opts(f)->zero == OZ_INT_OFF};
    return true;
}

void oz_int_affine_row(const oz_packed *p, int64_t row, uint8_t *u, float *scale, float *shift)
{
    const oz_fmt *f = &p->fmt;
    const oz_int_options *o = opts(f);
    const uint8_t *codes = (const uint8_t *)oz_array_data(&p->a[0]) + row * row_bytes(f);
    for (int64_t b = 0; u && b < f->n; b += 32) {
        uint8_t block[32];
        oz_planes_unpack(o->bits, codes + b / 8 * o->bits, block);
        memcpy(u + b, block, (size_t)(f->n - b < 32 ? f->n - b : 32));
    }
    int64_t tr = row / f->shape.prm_r;
    for (int64_t t = 0; t < oz_fmt_tiles_c(f); t++) {
        if (scale) scale[t] = scale_at(p, tr, t);
        if (!shift) continue;
        if (o->zero == OZ_INT_SYM || o->zero == OZ_INT_UNIT)
            shift[t] = (float)(1 << (o->bits - 1));
        else if (o->zero == OZ_INT_MID)
            shift[t] = 0.5f * (float)((1 << o->bits) - 1);
        else
            shift[t] = o->zero == OZ_INT_ZF ? -zero_at(p, tr, t) : zero_at(p, tr, t);
    }
}

static void kernel(const oz_fmt *f, oz_kdesc *k)
{
    static const uint8_t zero[] = {OZ_ZERO_NONE, OZ_ZERO_CODE, OZ_ZERO_REAL, OZ_ZERO_OFFSET, OZ_ZERO_MID, OZ_ZERO_NONE};
    const oz_int_options *o = opts(f);
    *k = (oz_kdesc){.family = OZ_KERNEL_DOT_INT, .bits = (uint8_t)o->bits, .zero_mode = zero[o->zero], .r = 1, .d = 1};
    k->group = (int32_t)(f->shape.prm_c < INT32_MAX ? f->shape.prm_c : INT32_MAX);
}

#define AT(field) offsetof(oz_int_options, field)
static const oz_option options[] = {
    {.name = "zero",
     .type = OZ_ENUM,
     .at = AT(zero),
     .init = OZ_INT_SYM,
     .choices = "sym|asym|zf|off|mid|unit",
     .brief = "where 0 lies: symmetric codes, an integer zero, a real zero, a real offset, half-integer levels, no scale at all"},
    {.name = "static",
     .type = OZ_FLAG,
     .at = AT(is_static),
     .word = "static",
     .brief = "activations: the range comes from calibration, not from each token"},
    {.name = "clip",
     .type = OZ_REAL,
     .at = AT(clip),
     .init = 1,
     .min = 0.01,
     .max = 1,
     .unit = "of the range",
     .word = "clip",
     .brief = "activations: factor on both ends of the range"},
    {0}};

const oz_format oz_format_int = {.entry = {.kind = "format",
                                           .name = "int",
                                           .brief = "integers with a scale a group: int4@128, int3.asym@row",
                                           .paper = "arXiv:2308.09723",
                                           .card = "finequant",
                                           .options = options,
                                           .options_size = sizeof(oz_int_options)},
                                 .flags = OZ_FMT_PROJECT | OZ_FMT_DYNAMIC | OZ_FMT_SCALAR,
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

/* number/format/act.c: activation formats intB[.asym][.static][.clip(c)]@token|tensor|NUMBER (card smoothquant, "Activation formats"; the
 * arithmetic is card cpu-inference's kernel/act_quant, so that every instruction set agrees bit for bit).
 *
 * A run is g consecutive inputs of a token (token: all of them; tensor: all tokens of the call share one range).  With Q = 2^(B-1) - 1:
 *     symmetric   m = c*max|x|;  m < 1e-30: all codes 0;  code = clamp(round(x * (Q/m)), -Q-1, Q), at B = 8 the lowest is -127; value code
 * * (m/Q) asym        hi = c*max(max x, 0), lo = c*min(min x, 0), step = (hi - lo)/(2^B - 1) (1 if 0), z = clamp(round(-lo/step)), q =
 * clamp(round(x/step) + z, 0, 2^B - 1); value (q - z)*step Static formats take m (or lo, hi) from calibration; every element that the clamp
 * changes is counted.  Rounding: ties to even. */
#include "number/format/act.h"
#include "number/format/format_internal.h"

#include <math.h>
#include <string.h>

oz_status oz_act_from_spec(oz_act *a, const oz_spec *s, const char *where)
{
    const char *w = where ? where : "", *colon = where && *where ? ": " : "";
    *a = (oz_act){.group = -1, .clip = 1, .text = s->text};
    if (s->type != &oz_format_int)
        return oz_fail(OZ_ERR_UNSUPPORTED, "int8@token, int8.static@tensor, int8.asym@128 or none", "%s%s%s is no format for activations",
                       w, colon, s->text);
    const oz_int_options *o = s->opt;
    if (o->zero != OZ_INT_SYM && o->zero != OZ_INT_ASYM)
        return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "%s%s%s: activations are symmetric or .asym", w, colon, s->text);
    if (o->bits < 2) return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "%s%s%s: activations have 2 to 8 bits", w, colon, s->text);
    if (s->nside) return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "%s%s%s: activations have no sidecars", w, colon, s->text);
    if (strcmp(s->scale, "f16"))
        return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "%s%s%s: scales of activations are always f32; leave out :%s", w, colon, s->text,
                       s->scale);
    switch (s->group.kind) {
    case OZ_GROUP_DEFAULT:
    case OZ_GROUP_TOKEN:
        a->group = -1;
        break;
    case OZ_GROUP_TENSOR:
        a->group = -2;
        break;
    case OZ_GROUP_NUMBER:
        a->group = s->group.cols;
        break;
    default:
        return oz_fail(OZ_ERR_UNSUPPORTED, "@token, @tensor or a number of inputs", "%s%s%s: inputs of linears do not have this group", w,
                       colon, s->text);
    }
    if (o->is_static && a->group != -2)
        return oz_fail(OZ_ERR_UNSUPPORTED, "write @tensor", "%s%s%s: a static range is one for the whole tensor", w, colon, s->text);
    a->kind = 1;
    a->bits = (uint8_t)o->bits;
    a->asym = o->zero == OZ_INT_ASYM;
    a->is_static = o->is_static;
    a->clip = (float)o->clip;
    return OZ_OK;
}

int64_t oz_act_run(const oz_act *a, int64_t n) { return a->group > 0 && a->group < n ? a->group : n; }

typedef struct range {
    float lo, hi, most;
} range;

static range range_of(const float *x, int64_t n, range r)
{
    for (int64_t i = 0; i < n; i++) {
        r.lo = x[i] < r.lo ? x[i] : r.lo;
        r.hi = x[i] > r.hi ? x[i] : r.hi;
    }
    r.most = r.hi > -r.lo ? r.hi : -r.lo;
    return r;
}

/* One run under one range: codes and the scale. */
static float run_codes(const oz_act *a, range r, const float *x, int64_t n, int16_t *code, int64_t *saturated)
{
    int64_t over = 0;
    float step;
    if (a->asym) {
        float top = (float)((1 << a->bits) - 1), hi = a->clip * fmaxf(r.hi, 0), lo = a->clip * fminf(r.lo, 0);
        step = (hi - lo) / top;
        if (!(step > 0)) step = 1;
        float z = oz_clampf(oz_round_even(-lo / step), 0, top);
        for (int64_t i = 0; i < n; i++) {
            float q = oz_round_even(x[i] / step) + z, c = oz_clampf(q, 0, top);
            over += q != c;
            code[i] = (int16_t)(c - z);
        }
    } else {
        float top = (float)((1 << (a->bits - 1)) - 1), low = a->bits == 8 ? -top : -top - 1, m = a->clip * r.most;
        if (!(m >= 1e-30f)) {
            memset(code, 0, sizeof *code * (size_t)n);
            if (saturated && a->is_static)
                for (int64_t i = 0; i < n; i++) *saturated += x[i] != 0;
            return 0;
        }
        float inv = top / m;
        step = m / top;
        for (int64_t i = 0; i < n; i++) {
            float q = oz_round_even(x[i] * inv), c = oz_clampf(q, low, top);
            over += q != c;
            code[i] = (int16_t)c;
        }
    }
    if (saturated && a->is_static) *saturated += over;
    return step;
}

static range tensor_range(const oz_act *a, oz_mat x)
{
    range r = {0, 0, 0};
    if (a->is_static) {
        r.lo = a->range_lo;
        r.hi = a->range_hi;
        r.most = fmaxf(fabsf(r.lo), fabsf(r.hi));
    } else
        for (int64_t t = 0; t < x.rows; t++) r = range_of(x.p + t * x.ld, x.cols, r);
    return r;
}

void oz_act_codes(const oz_act *a, oz_mat x, int16_t *code, float *scale, int64_t *saturated)
{
    int64_t g = oz_act_run(a, x.cols), runs = (x.cols + g - 1) / g;
    range all = a->group == -2 ? tensor_range(a, x) : (range){0, 0, 0};
    for (int64_t t = 0; t < x.rows; t++)
        for (int64_t k = 0; k < runs; k++) {
            int64_t c0 = k * g, n = x.cols - c0 < g ? x.cols - c0 : g;
            const float *v = x.p + t * x.ld + c0;
            range r = a->group == -2 ? all : range_of(v, n, (range){0, 0, 0});
            scale[t * runs + k] = run_codes(a, r, v, n, code + t * x.cols + c0, saturated);
        }
}

void oz_act_fake(const oz_act *a, oz_mat x, int64_t *saturated)
{
    if (!a->kind) return;
    int64_t g = oz_act_run(a, x.cols);
    range all = a->group == -2 ? tensor_range(a, x) : (range){0, 0, 0};
    for (int64_t t = 0; t < x.rows; t++)
        for (int64_t c0 = 0; c0 < x.cols; c0 += g) {
            int64_t n = x.cols - c0 < g ? x.cols - c0 : g;
            float *v = x.p + t * x.ld + c0;
            range r = a->group == -2 ? all : range_of(v, n, (range){0, 0, 0});
            for (int64_t i = 0; i < n;) { /* pieces: no memory is asked for; the range is the run's */
                int16_t code[256];
                int64_t len = n - i < 256 ? n - i : 256;
                float step = run_codes(a, r, v + i, len, code, saturated);
                for (int64_t j = 0; j < len; j++) v[i + j] = step * (float)code[j];
                i += len;
            }
        }
}

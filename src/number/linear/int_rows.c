/* number/linear/int_rows.c: the product of integer weights and integer activations, in portable loops: the definition (card
 * cpu-inference, kernel/dot_int; card smoothquant, "Integer product").
 *
 * Row r has codes u, and for each weight group a scale s and a zero z (or an offset b).  Token t has centred codes c = q - zero and a scale
 * a for each activation run.  F runs over the pieces between two changes of either: y = sum over F, ascending, of (a s) * ( sum u c - z X
 * ),  X = sum c            or   (a s) * sum u c + (a b) * X Sums of codes are integers; z X is an integer too when z is one. */
#include "number/linear/linear_internal.h"

#include <math.h>

/* |u c| <= 255 * 255: 32768 products stay below 2^31. */
#define SAFE 32768

static int64_t dot(const uint8_t *u, const int16_t *c, int64_t n)
{
    int64_t sum = 0;
    for (int64_t i = 0; i < n; i += SAFE) {
        int32_t part = 0;
        int64_t end = n - i < SAFE ? n : i + SAFE;
        for (int64_t j = i; j < end; j++) part += (int32_t)u[j] * c[j];
        sum += part;
    }
    return sum;
}

static int64_t total(const int16_t *c, int64_t n)
{
    int64_t sum = 0;
    for (int64_t i = 0; i < n; i++) sum += c[i];
    return sum;
}

oz_status oz_int_rows(const oz_packed *w, const oz_act *act, const oz_form *x, int64_t r0, int64_t r1, int64_t t0, int64_t t1, oz_mat y,
                      oz_work *work)
{
    oz_affine a;
    if (!oz_affine_of(&w->fmt, &a)) return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "format %s has no integer codes", w->fmt.spec->text);
    int64_t n = w->fmt.n, g = a.group, groups = (n + g - 1) / g, run = oz_act_run(act, n);
    uint8_t *u = oz_arena_alloc(work->arena, (size_t)n);
    float *scale = oz_arena_alloc(work->arena, sizeof *scale * (size_t)groups),
          *shift = oz_arena_alloc(work->arena, sizeof *shift * (size_t)groups);
    /* Pieces and each token's sum over them: the same for all rows. */
    int64_t pieces = 0;
    for (int64_t j = 0; j < n; pieces++) {
        int64_t end = (j / g + 1) * g, end_a = (j / run + 1) * run;
        j = end < end_a ? end : end_a;
    }
    int64_t *sums = oz_arena_alloc(work->arena, sizeof *sums * (size_t)(pieces * (t1 - t0)));
    if (!u || !scale || !shift || !sums) return OZ_ERR_NOMEM;
    for (int64_t t = t0; t < t1; t++)
        for (int64_t j = 0, f = 0; j < n; f++) {
            int64_t end = (j / g + 1) * g, end_a = (j / run + 1) * run;
            end = end < end_a ? end : end_a;
            if (end > n) end = n;
            sums[(t - t0) * pieces + f] = total(x->code + t * n + j, end - j);
            j = end;
        }
    for (int64_t r = r0; r < r1; r++) {
        OZ_TRY(oz_affine_row(w, r, u, scale, shift));
        for (int64_t t = t0; t < t1; t++) {
            const int16_t *c = x->code + t * n;
            float acc = 0;
            for (int64_t j = 0, f = 0; j < n; f++) {
                int64_t end = (j / g + 1) * g, end_a = (j / run + 1) * run;
                end = end < end_a ? end : end_a;
                if (end > n) end = n;
                float ta = x->scale[t * x->runs + j / run], s = scale[j / g], z = shift[j / g];
                int64_t d = dot(u + j, c + j, end - j), sum = sums[(t - t0) * pieces + f];
                if (a.offset)
                    acc += ta * s * (float)d + ta * z * (float)sum;
                else if (z == (float)(int32_t)z)
                    acc += ta * s * (float)(d - (int64_t)z * sum);
                else
                    acc += ta * s * ((float)d - z * (float)sum);
                j = end;
            }
            y.p[(t - t0) * y.ld + (r - r0)] = acc;
        }
    }
    return OZ_OK;
}

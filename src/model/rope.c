/* model/rope.c: rotary frequencies of every scaling kind, and tables of cosines and sines.
 *
 *   default   theta_i = base^(-2i/n)                                   RoFormer, arXiv:2104.09864
 *   linear    theta_i / factor                                         arXiv:2306.15595
 *   dynamic   base grows with the sequence once it exceeds the context
 *   llama3    slow pairs divided by factor, fast ones kept, a blend between (arXiv:2407.21783)
 *   yarn      the same by numbers of turns, and cos, sin times attn_factor (arXiv:2309.00071)
 * n = rotated entries of a head; pairs are (i, i + n/2). Angles are formed in f32 like the reference does. */
#include "model/arch/family.h"
#include "model/parts.h"
#include <math.h>
#include <string.h>

#define TAU 6.283185307179586476925286766559

static double yarn_dim(const oz_dims *d, double turns)
{
    double n = d->rope.rotated;
    return n * log(d->rope.original_context / (turns * TAU)) / (2 * log(d->rope.base));
}

double oz_rope_frequencies(const oz_dims *d, int64_t length, double *inv)
{
    int n = d->rope.rotated;
    double base = d->rope.base, factor = d->rope.factor;
    if (d->rope.kind == OZ_ROPE_DYNAMIC && length > d->rope.original_context)
        base *= pow(factor * (double)length / d->rope.original_context - (factor - 1), (double)n / (n - 2));
    for (int i = 0; i < n / 2; i++) inv[i] = pow(base, -2.0 * i / n);
    if (d->rope.kind == OZ_ROPE_LINEAR)
        for (int i = 0; i < n / 2; i++) inv[i] /= factor;
    if (d->rope.kind == OZ_ROPE_LLAMA3)
        for (int i = 0; i < n / 2; i++) {
            double turns = d->rope.original_context * inv[i] / TAU; /* over the original context */
            double blend = (turns - d->rope.low_freq) / (d->rope.high_freq - d->rope.low_freq);
            blend = blend < 0 ? 0 : blend > 1 ? 1 : blend;
            inv[i] = (1 - blend) * inv[i] / factor + blend * inv[i];
        }
    if (d->rope.kind == OZ_ROPE_YARN) {
        double low = floor(yarn_dim(d, d->rope.beta_fast)), high = ceil(yarn_dim(d, d->rope.beta_slow));
        low = low < 0 ? 0 : low;
        high = high > n - 1 ? n - 1 : high;
        if (low == high) high += 0.001;
        for (int i = 0; i < n / 2; i++) {
            double ramp = (i - low) / (high - low);
            ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
            inv[i] = inv[i] / factor * ramp + inv[i] * (1 - ramp);
        }
    }
    return d->rope.kind == OZ_ROPE_YARN ? d->rope.attn_factor : 1;
}

/* Contexts and blends seen in published checkpoints; a file whose factors none of them gives is refused. */
oz_status oz_rope_from_factors(oz_dims *d, const float *factor, const char *file)
{
    static const struct {
        int context;
        double low, high;
    } rule[] = {{8192, 1, 4}, {4096, 1, 4}, {2048, 1, 4}, {16384, 1, 4}, {32768, 1, 4}};
    int n = d->rope.rotated / 2;
    double inv[4096];
    if (n > 4096) return oz_fail(OZ_ERR_RANGE, NULL, "%s: heads of %d entries are too large", file, 2 * n);
    for (size_t r = 0; r < sizeof rule / sizeof *rule; r++) {
        oz_dims t = *d;
        t.rope.kind = OZ_ROPE_LLAMA3;
        t.rope.factor = (double)factor[n - 1];
        t.rope.original_context = rule[r].context;
        t.rope.low_freq = rule[r].low;
        t.rope.high_freq = rule[r].high;
        bool same = t.rope.factor >= 1;
        (void)oz_rope_frequencies(&t, 0, inv);
        for (int i = 0; i < n && same; i++) {
            double f = pow(d->rope.base, -2.0 * i / (2 * n)) / inv[i];
            same = fabs(f - (double)factor[i]) <= 1e-4 * f;
        }
        if (same) {
            *d = t;
            return OZ_OK;
        }
    }
    return oz_fail(OZ_ERR_UNSUPPORTED, "only the scaling of Llama 3 is known in this tensor",
                   "%s: the factors of rope_freqs.weight follow no known rule", file);
}

oz_status oz_arch_rope_factors(const oz_arch *a, float *out, bool *present)
{
    const oz_dims *d = &a->dims;
    *present = d->rope.kind == OZ_ROPE_LLAMA3;
    if (!*present) return OZ_OK;
    double *inv = oz_alloc((size_t)d->rope.rotated / 2, sizeof *inv);
    if (!inv) return OZ_ERR_NOMEM;
    (void)oz_rope_frequencies(d, 0, inv);
    for (int i = 0; i < d->rope.rotated / 2; i++) out[i] = (float)(pow(d->rope.base, -2.0 * i / d->rope.rotated) / inv[i]);
    oz_free(inv);
    return OZ_OK;
}

/* Table for positions 0 .. n-1: [n][rotated / 2 cosines, rotated / 2 sines]; rebuilt when a longer one, or for dynamic scaling another
 * sequence length, is asked for. */
oz_status oz_rope_table(oz_rope *r, const oz_dims *d, int64_t n, int64_t length)
{
    bool moves = d->rope.kind == OZ_ROPE_DYNAMIC && (length > d->rope.original_context || r->length > d->rope.original_context);
    if (n <= r->n && !(moves && length != r->length)) return OZ_OK;
    if (n < r->n) n = r->n;
    int64_t half = d->rope.rotated / 2, room = n < 64 ? 64 : n + n / 4;
    double *inv = oz_alloc((size_t)half, sizeof *inv);
    float *cs = oz_alloc((size_t)(room * half), 2 * sizeof *cs);
    if (!inv || !cs) {
        oz_free(inv);
        oz_free(cs);
        return OZ_ERR_NOMEM;
    }
    double scale = oz_rope_frequencies(d, length, inv);
    for (int64_t t = 0; t < room; t++)
        for (int64_t i = 0; i < half; i++) {
            float angle = (float)t * (float)inv[i];
            cs[t * 2 * half + i] = (float)(cos((double)angle) * scale);
            cs[t * 2 * half + half + i] = (float)(sin((double)angle) * scale);
        }
    oz_free(inv);
    oz_free(r->cs);
    *r = (oz_rope){room, length, cs};
    return OZ_OK;
}

/* gptq_order.c: which d-block of columns is rounded first (card owq, B.3).  Columns of a block stay together and in place; ties go to the
 * lower index; skipped blocks come last, unless the order is given. */
#include "gptq.h"
#include <stdlib.h>

typedef struct {
    double key;
    int64_t tie;
    int32_t block;
} ranked;

/* Descending key, then ascending tie, then ascending block: a total order, so qsort's instability cannot show. */
static int compare(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->key != y->key) return x->key > y->key ? -1 : 1;
    if (x->tie != y->tie) return x->tie < y->tie ? -1 : 1;
    return (x->block > y->block) - (x->block < y->block);
}

static bool skipped(const gptq_sweep *s, int64_t block)
{
    if (!s->ask->skip) return false;
    for (int64_t t = 0; t < s->d; t++)
        if (!s->ask->skip[block * s->d + t]) return false;
    return true;
}

static oz_status check_given(const gptq_sweep *s, int64_t nb)
{
    if (!s->ask->given)
        return oz_fail(OZ_ERR_RANGE, "choose order identity or act", "solver gptq: order is `given` but no order was given");
    uint8_t *seen = oz_zalloc((size_t)nb, 1);
    if (!seen) return OZ_ERR_NOMEM;
    int64_t bad = -1;
    for (int64_t b = 0; b < nb && bad < 0; b++) {
        int32_t v = s->ask->given[b];
        if (v < 0 || v >= nb || seen[v])
            bad = b;
        else
            seen[v] = 1;
    }
    oz_free(seen);
    if (bad >= 0)
        return oz_fail(OZ_ERR_RANGE, NULL, "solver gptq: the given order is no permutation of %lld blocks: entry %lld is %d", (long long)nb,
                       (long long)bad, s->ask->given[bad]);
    return OZ_OK;
}

oz_status oz_gptq_order(gptq_sweep *s, int order)
{
    int64_t d = s->d, nb = s->n / d;
    if (order == OZ_ORDER_GIVEN) OZ_TRY(check_given(s, nb));
    ranked *r = oz_alloc((size_t)nb, sizeof *r);
    double *sum = oz_zalloc((size_t)s->ngroup, sizeof *sum);
    if (!r || !sum) {
        oz_free(r);
        oz_free(sum);
        return OZ_ERR_NOMEM;
    }
    /* unit[] is still in storage order here */
    for (int64_t j = 0; j < s->n; j++) sum[s->unit[j]] += (double)s->diag[j];
    for (int64_t b = 0; b < nb; b++) {
        double own = 0;
        for (int64_t t = 0; t < d; t++) own += (double)s->diag[b * d + t];
        int32_t g = s->unit[b * d];
        switch (order) {
        case OZ_ORDER_REVERSE:
            r[b] = (ranked){(double)b, 0, (int32_t)b};
            break;
        case OZ_ORDER_ACT:
            r[b] = (ranked){own, 0, (int32_t)b};
            break;
        case OZ_ORDER_GROUP_ACT:
            r[b] = (ranked){sum[g], g, (int32_t)b};
            break;
        default:
            r[b] = (ranked){-(double)b, 0, (int32_t)b};
            break;
        }
    }
    if (order == OZ_ORDER_GIVEN)
        for (int64_t b = 0; b < nb; b++) r[b].block = s->ask->given[b];
    else
        qsort(r, (size_t)nb, sizeof *r, compare);
    int64_t p = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t b = 0; b < nb; b++) {
            bool late = order != OZ_ORDER_GIVEN && skipped(s, r[b].block);
            if (late != (pass == 1)) continue;
            for (int64_t t = 0; t < d; t++) s->perm[p++] = (int32_t)(r[b].block * d + t);
        }
    }
    oz_free(r);
    oz_free(sum);
    return OZ_OK;
}

/* How many columns (or other sidecar items) each linear keeps.  A fixed number comes from the format string.  "auto" is solved from the
 * budget (card owq, E.2): k_l = floor(kappa * ratio_l * n_l), kappa the largest for which the bits of the quantized linears fit. */
#include <math.h>

#include "quantize/recipe/recipe_internal.h"

static double share(const oz_plan *p, int i)
{
    const oz_pass *pass = p->linear[i].pass;
    return pass && pass->side && pass->side->ratio ? pass->side->ratio(pass->side_opt, &p->arch->linear[i]) : 1.0;
}

static int64_t columns_at(const oz_plan *p, int i, double kappa)
{
    double n = (double)p->arch->linear[i].in, k = floor(kappa * share(p, i) * n);
    return (int64_t)(k < n ? k : n);
}

/* Bits of all quantized linears when every "auto" linear keeps its share of kappa. */
static double bits_at(const oz_plan *p, double kappa)
{
    double bits = 0;
    for (int i = 0; i < p->arch->nlinear; i++) {
        const oz_plan_linear *l = &p->linear[i];
        if (!l->spec) continue;
        bits += l->bits;
        for (int s = 0; s < l->spec->nside; s++) {
            const oz_sidecar_spec *side = &l->spec->side[s];
            const oz_linear_row *row = &p->arch->linear[i];
            int64_t k = side->type->count(side->opt, row->in);
            bits += side->type->bits_of(side->opt, row->out, row->in, k < 0 ? columns_at(p, i, kappa) : k);
        }
    }
    return bits;
}

oz_status oz_plan_columns(oz_plan *p)
{
    double weights = 0, budget = p->options.budget_bpw > 0 ? p->options.budget_bpw : p->recipe->budget_bpw;
    bool automatic = false;
    for (int i = 0; i < p->arch->nlinear; i++) {
        const oz_plan_linear *l = &p->linear[i];
        if (!l->spec) continue;
        weights += (double)p->arch->linear[i].out * (double)p->arch->linear[i].in;
        for (int s = 0; s < l->spec->nside; s++)
            automatic = automatic || l->spec->side[s].type->count(l->spec->side[s].opt, p->arch->linear[i].in) < 0;
    }
    double kappa = 0, base = weights > 0 ? bits_at(p, 0) / weights : 0;
    if (budget > 0 && !automatic && weights > 0 && fabs(base - budget) > 1e-9)
        return oz_fail(OZ_ERR_BUDGET,
                       "choose a format of that size with --set weights.format=..., or a recipe with an allocator or '+cols(auto)'",
                       "%s: a budget of %.4f bits per weight was asked, but nothing in recipe %s can turn it; as written it makes %.4f",
                       p->recipe->file, budget, p->recipe->name, base);
    if (automatic) {
        if (budget <= 0)
            return oz_fail(OZ_ERR_BUDGET, "add --budget 3.1bpw or 'budget: {bpw: 3.1}'",
                           "%s: '+cols(auto)' needs a budget, and none is given", p->recipe->file);
        if (budget < base)
            return oz_fail(OZ_ERR_BUDGET, "raise the budget or choose a smaller base format",
                           "%s: the budget of %.4f bits per weight is below the base format's %.4f", p->recipe->file, budget, base);
        double lo = 0, hi = 1;
        while (bits_at(p, hi) < budget * weights && hi < 64) hi *= 2;
        for (int step = 0; step < 60; step++) {
            double mid = (lo + hi) / 2;
            if (bits_at(p, mid) <= budget * weights)
                lo = mid;
            else
                hi = mid;
        }
        kappa = lo;
    }
    for (int i = 0; i < p->arch->nlinear; i++) {
        oz_plan_linear *l = &p->linear[i];
        for (int s = 0; l->spec && s < l->spec->nside; s++) {
            const oz_sidecar_spec *side = &l->spec->side[s];
            const oz_linear_row *row = &p->arch->linear[i];
            int64_t k = side->type->count(side->opt, row->in);
            l->k = k < 0 ? columns_at(p, i, kappa) : k;
            l->bits += side->type->bits_of(side->opt, row->out, row->in, l->k);
        }
    }
    return OZ_OK;
}

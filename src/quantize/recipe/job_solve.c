/* One linear: its weights with folds applied, the sidecar's choice, fit and solver, the packed result and its line of the record. */
#include <math.h>
#include <string.h>

#include "quantize/recipe/recipe_internal.h"

static const oz_fit_type *fit_named(const char *name)
{
    int n;
    const oz_fit_type *const *all = oz_fits(&n);
    for (int i = 0; i < n; i++)
        if (strcmp(all[i]->entry.name, name) == 0) return all[i];
    return NULL;
}

static const oz_solver *solver_named(const char *name)
{
    int n;
    const oz_solver *const *all = oz_solvers(&n);
    for (int i = 0; i < n; i++)
        if (strcmp(all[i]->entry.name, name) == 0) return all[i];
    return NULL;
}

static oz_status defaults_of(const oz_entry *e, const void **opt, oz_arena *arena)
{
    void *o = oz_arena_zalloc(arena, e->options_size ? e->options_size : 1);
    if (!o) return OZ_ERR_NOMEM;
    oz_options_init(e, o);
    *opt = o;
    return OZ_OK;
}

static bool role_in(const oz_node *list, const char *role)
{
    int n = !list ? 0 : list->kind == OZ_NODE_LIST ? list->n : 1;
    for (int i = 0; i < n; i++)
        if (strcmp(oz_node_text(list->kind == OZ_NODE_LIST ? list->item[i].value : list, ""), role) == 0) return true;
    return false;
}

/* Fit and solver of the linear: its pass's; --tensor on a linear no pass covers, and a linear without statistics, round to nearest
 * under min-max ranges (the latter is on the attention list). */
static oz_status techniques(const oz_job *j, int linear, const oz_stats *stats, oz_fit *fit, const oz_solver **solver, const void **opt,
                            oz_arena *arena)
{
    const oz_pass *p = j->plan->linear[linear].pass;
    bool blind = p && oz_plan_wants(j->plan, linear) && !stats;
    bool plain = p && role_in(((const oz_quantize_options *)p->opt)->fit_skip, j->plan->arch->linear[linear].role);
    if (p && !blind) {
        *solver = p->solver, *opt = p->solver_opt;
    } else {
        *solver = solver_named("rtn");
        if (!*solver) return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "%s: solver rtn is not built in", j->plan->arch->linear[linear].name);
        OZ_TRY(defaults_of(&(*solver)->entry, opt, arena));
    }
    if (p && !blind && !plain) {
        *fit = (oz_fit){.type = p->fit, .opt = p->fit_opt};
    } else {
        fit->type = fit_named("minmax");
        if (!fit->type) return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "%s: fit minmax is not built in", j->plan->arch->linear[linear].name);
        OZ_TRY(defaults_of(&fit->type->entry, &fit->opt, arena));
    }
    return OZ_OK;
}

static oz_status put(oz_node *map, const char *key, oz_node *v, oz_arena *arena)
{
    return v ? oz_node_put(map, key, v, arena) : OZ_ERR_NOMEM;
}

static oz_status fill_line(const oz_job *j, int linear, const oz_solution *s, double seconds, oz_node *line)
{
    const oz_linear_row *row = &j->plan->arch->linear[linear];
    const oz_plan_linear *l = &j->plan->linear[linear];
    oz_arena *a = j->arena;
    OZ_TRY(put(line, "name", oz_node_of_text(a, row->name), a));
    OZ_TRY(put(line, "format", oz_node_of_text(a, l->spec->text), a));
    OZ_TRY(put(line, "bpw", oz_node_of_real(a, l->bits / ((double)row->out * (double)row->in)), a));
    OZ_TRY(put(line, "proxy_loss", oz_node_of_real(a, s->loss), a));
    OZ_TRY(put(line, "proxy_rtn", oz_node_of_real(a, s->loss_rtn), a));
    OZ_TRY(put(line, "clipped", oz_node_of_int(a, s->clipped), a));
    OZ_TRY(put(line, "dead", oz_node_of_int(a, s->dead), a));
    OZ_TRY(put(line, "columns", oz_node_of_int(a, l->k), a));
    return put(line, "seconds", oz_node_of_real(a, seconds), a);
}

static oz_status find_not_finite(const oz_linear_row *row, const float *w)
{
    for (int64_t i = 0; i < row->out * row->in; i++)
        if (!isfinite(w[i]))
            return oz_fail(OZ_ERR_NUMERIC, "the checkpoint is damaged; fetch it again",
                           "%s: weight [%lld, %lld] is %f; expected a finite number", row->name, (long long)(i / row->in),
                           (long long)(i % row->in), (double)w[i]);
    return OZ_OK;
}

/* Packs the codes and attaches what the sidecar stores. */
static oz_status build(const oz_job *j, int linear, const oz_fmt *fmt, const oz_sidecar_plan *plan, oz_solution *solution, oz_linear *out)
{
    const oz_linear_row *row = &j->plan->arch->linear[linear];
    const oz_plan_linear *l = &j->plan->linear[linear];
    *out = (oz_linear){.name = row->name, .out = row->out, .in = row->in, .owns = true};
    out->w = oz_zalloc(1, sizeof *out->w);
    if (!out->w) return OZ_ERR_NOMEM;
    if (plan) {
        out->side = oz_zalloc(1, sizeof *out->side);
        if (!out->side) return OZ_ERR_NOMEM;
        OZ_TRY(l->pass->side->finish(l->pass->side_opt, plan, fmt, solution, out->side));
        out->nside = 1;
    }
    oz_status s = fmt->type->pack(fmt, &solution->params, solution->codes, out->w);
    if (!s) out->nw = 1;
    return s;
}

oz_status oz_job_solve(oz_job *j, int linear, const oz_stats *stats, oz_linear *out, oz_node *line)
{
    const oz_linear_row *row = &j->plan->arch->linear[linear];
    const oz_plan_linear *l = &j->plan->linear[linear];
    double start = oz_seconds();
    oz_fmt fmt;
    oz_fit fit = {0};
    const oz_solver *solver = NULL;
    const void *solver_opt = NULL;
    oz_solution solution = {0};
    oz_sidecar_plan plan = {0};
    oz_sweep sweep = {.seed = j->plan->recipe->seed};
    *out = (oz_linear){0};
    float *w = oz_alloc((size_t)(row->out * row->in), sizeof *w);
    oz_status s = w ? oz_weights_matrix(j->weights, linear, w) : OZ_ERR_NOMEM;
    if (!s) s = find_not_finite(row, w);
    if (!s) s = oz_fmt_bind(&fmt, l->spec, row->out, row->in, row->name);
    if (!s) s = techniques(j, linear, stats, &fit, &solver, &solver_opt, j->arena);
    oz_mat m = {w, row->out, row->in, row->in};
    bool side = !s && l->spec->nside > 0;
    if (side && l->spec->nside > 1)
        s = oz_fail(OZ_ERR_UNSUPPORTED, "use one sidecar", "%s: %s has %d sidecars; one is built so far", row->name, l->spec->text,
                    l->spec->nside);
    if (side && !s && (!l->pass || !l->pass->side))
        s = oz_fail(OZ_ERR_UNSUPPORTED, "name the sidecar in the pass's format instead",
                    "%s: the sidecar of %s needs options that only a quantize pass carries", row->name, l->spec->text);
    if (side && !s) {
        plan.spec = &l->spec->side[0];
        s = l->pass->side->plan(l->pass->side_opt, &plan, &fmt, m, stats, l->k, j->run);
        sweep.skip = plan.skip, sweep.keep = plan.keep;
    }
    if (!s) {
        s = solver->solve(solver_opt, &fmt, &fit, m, stats, &sweep, &solution, j->run);
        if (s) s = oz_fail_in(s, "%s", row->name); /* solvers do not know the name */
    }
    if (!s) s = build(j, linear, &fmt, side ? &plan : NULL, &solution, out);
    if (!s) {
        double seconds = oz_seconds() - start;
        j->seconds_solver += seconds;
        s = fill_line(j, linear, &solution, seconds, line);
        oz_logf(j->run, OZ_LOG_DEBUG, "%s: %s, proxy loss %.6g", row->name, l->spec->text, solution.loss);
    }
    if (s) oz_linear_drop(out);
    oz_solution_drop(&solution);
    oz_free(plan.skip);
    oz_free(plan.keep);
    oz_free(plan.ids);
    oz_free(w);
    return s;
}

/* A trial: recipe, model, plan, job and closing measurement held together (measure.h). */
#include <math.h>
#include <string.h>

#include "ounce/measure.h"

oz_status oz_trial_open(oz_trial *t, const oz_trial_options *o, oz_run *run)
{
    memset(t, 0, sizeof *t);
    t->options = o;
    t->run = run;
    return oz_recipe_open(&t->recipe, o->recipe, o->set, o->nset);
}

oz_status oz_trial_load(oz_trial *t)
{
    OZ_TRY(oz_ckpt_open(&t->ckpt, t->options->model));
    OZ_TRY(oz_arch_open(&t->arch, t->ckpt));
    return oz_weights_new(&t->weights, t->ckpt, t->arch);
}

oz_status oz_trial_plan(oz_trial *t) { return oz_plan_make(&t->plan, t->recipe, t->weights, &t->options->plan, t->run); }

static oz_eval_options closing(const oz_trial *t)
{
    oz_eval_options o = t->options->eval;
    if (t->plan->needs_calibration) o.not_text = t->options->plan.calib_text ? t->options->plan.calib_text : t->recipe->text;
    return o;
}

/* The job's last step before the output gets its name: the finished model against its source. */
static oz_status measure(void *ctx, const char *output, oz_node **record, oz_arena *arena)
{
    oz_trial *t = ctx;
    oz_eval_options o = closing(t);
    OZ_TRY(oz_eval_paths(&t->eval, output, t->options->model, &o, t->run));
    t->measured = true;
    oz_node *node = oz_eval_node(&t->eval, &o, arena), *text = oz_node_of_text(arena, t->eval.text);
    char *line = oz_arena_printf(arena, "ounce eval OUT --against SOURCE --text %s --tokens %lld --ctx %lld", o.text,
                                 (long long)o.score.tokens, (long long)o.score.ctx);
    oz_node *command = line ? oz_node_of_text(arena, line) : NULL;
    if (!node || !text || !command) return OZ_ERR_NOMEM;
    OZ_TRY(oz_node_put(node, "text", text, arena));
    OZ_TRY(oz_node_put(node, "command", command, arena));
    *record = node;
    return OZ_OK;
}

oz_status oz_trial_run(oz_trial *t)
{
    oz_job_options o = {
        .resume = t->options->resume, .force = t->options->force, .measure = t->options->no_eval ? NULL : measure, .ctx = t};
    return oz_job_run(t->plan, t->weights, &o, &t->result, t->run);
}

void oz_trial_close(oz_trial *t)
{
    oz_job_result_free(t->result);
    oz_plan_free(t->plan);
    oz_weights_free(t->weights);
    oz_arch_free(t->arch);
    oz_ckpt_close(t->ckpt);
    oz_recipe_free(t->recipe);
    memset(t, 0, sizeof *t);
}

static bool put(oz_node *map, const char *key, oz_node *v, oz_arena *a) { return v && oz_node_put(map, key, v, a) == OZ_OK; }

oz_node *oz_trial_node(const oz_trial *t, oz_arena *a)
{
    const oz_job_result *x = t->result;
    oz_node *o = oz_node_map(a), *list = oz_node_list(a);
    if (!o || !list) return NULL;
    bool good = put(o, "recipe", oz_node_of_text(a, t->recipe->name), a) && put(o, "output", oz_node_of_text(a, t->options->plan.out), a);
    good = good && put(o, "bytes", oz_node_of_int(a, (int64_t)x->bytes), a) && put(o, "bpw_linears", oz_node_of_real(a, x->bpw_linears), a);
    good = good && put(o, "bpw_file", oz_node_of_real(a, x->bpw_file), a) && put(o, "seconds", oz_node_of_real(a, x->seconds), a);
    good = good && put(o, "seconds_solver", oz_node_of_real(a, x->seconds_solver), a) &&
           put(o, "seconds_forward", oz_node_of_real(a, x->seconds_forward), a);
    good = good && put(o, "peak_rss_bytes", oz_node_of_int(a, (int64_t)oz_peak_rss()), a) &&
           put(o, "proxy_loss", oz_node_of_real(a, x->proxy_loss), a);
    good = good && put(o, "proxy_rtn", oz_node_of_real(a, x->proxy_rtn), a) &&
           put(o, "calibration_tokens", oz_node_of_int(a, x->calibration_tokens), a);
    if (t->measured) {
        const oz_score *s = &t->eval.score;
        oz_eval_options eo = closing(t);
        const oz_node *kld = oz_node_get(oz_eval_node(&t->eval, &eo, a), "kld");
        good = good && kld && put(o, "text", oz_node_of_text(a, t->eval.text), a) && put(o, "kld", oz_node_copy(a, kld), a) &&
               put(o, "top1", oz_node_of_real(a, s->top1), a);
        good = good && put(o, "ppl", oz_node_of_real(a, s->ppl), a) && put(o, "ppl_reference", oz_node_of_real(a, s->ppl_ref), a);
    }
    for (int i = 0; good && i < x->ntensor; i++) {
        const oz_tensor_result *r = &x->tensor[i];
        oz_node *n = oz_node_map(a);
        good = n && put(n, "name", oz_node_of_text(a, r->name), a) && put(n, "format", oz_node_of_text(a, r->format), a) &&
               put(n, "bpw", oz_node_of_real(a, r->bpw), a) && put(n, "proxy_loss", oz_node_of_real(a, r->proxy_loss), a) &&
               put(n, "proxy_rtn", oz_node_of_real(a, r->proxy_rtn), a) && put(n, "clipped", oz_node_of_int(a, r->clipped), a) &&
               oz_node_push(list, n, a) == OZ_OK;
    }
    return good && put(o, "tensors", list, a) ? o : NULL;
}

/* quantize.c: `ounce quantize MODEL -o OUT`: the main job. */
#include "cli/cli.h"
#include "ounce/measure.h"

#include <math.h>
#include <string.h>

typedef struct quantize_options {
    const char *recipe, *budget, *calib, *text, *imatrix, *to;
    bool no_eval;
    int tokens;
} quantize_options;

#define AT(f) offsetof(quantize_options, f)
static const oz_option options[] = {
    {.name = "recipe",
     .type = OZ_TEXT,
     .at = AT(recipe),
     .unit = "NAME|FILE",
     .brief = "which method (ounce help recipes); without it one is picked, and why is said"},
    {.name = "budget", .type = OZ_TEXT, .at = AT(budget), .unit = "SIZE", .brief = "bits per weight of the quantized linears: 3.1bpw"},
    {.name = "calib",
     .type = OZ_TEXT,
     .at = AT(calib),
     .unit = "TEXT",
     .brief = "calibration text: a corpus name, a file, or -; default: the recipe's"},
    {.name = "imatrix", .type = OZ_TEXT, .at = AT(imatrix), .unit = "FILE", .brief = "importance matrix of another program (not read yet)"},
    {.name = "to",
     .type = OZ_TEXT,
     .at = AT(to),
     .unit = "hf|gguf",
     .brief = "kind of output; default: gguf when OUT ends in .gguf, else a directory"},
    {.name = "no_eval", .type = OZ_FLAG, .at = AT(no_eval), .brief = "do not measure the result on held-out text"},
    {.name = "eval_text",
     .type = OZ_TEXT,
     .at = AT(text),
     .unit = "TEXT",
     .brief = "held-out text of the closing measurement; default: of the corpus 'default'"},
    {.name = "eval_tokens",
     .type = OZ_INT,
     .at = AT(tokens),
     .init = 8192,
     .min = 2,
     .max = 1e9,
     .unit = "tokens",
     .brief = "how many tokens the closing measurement scores"},
    {0}};

static int layer_of(const char *name)
{
    const char *p = strstr(name, "layers.");
    int layer = -1;
    for (p = p ? p + 7 : NULL; p && *p >= '0' && *p <= '9'; p++) layer = (layer < 0 ? 0 : layer) * 10 + (*p - '0');
    return layer;
}

static void print_report(cli *c, const oz_trial *trial)
{
    const oz_recipe *r = trial->recipe;
    const oz_job_result *x = trial->result;
    static const char *const head[] = {"block", "linears", "format", "bpw", "proxy loss", "of rtn's", "seconds"};
    static const char *const plain[] = {"block", "linears", "format", "bpw", "proxy loss", "seconds"};
    bool compared = isfinite(x->proxy_rtn); /* --set weights.compare=true */
    cli_table *t = compared ? cli_table_new(c->arena, "lrlrrrr", head) : cli_table_new(c->arena, "lrlrrr", plain);
    for (int i = 0; t && i < x->ntensor;) {
        int layer = layer_of(x->tensor[i].name), n = 0;
        double loss = 0, rtn = 0, seconds = 0, bpw = 0;
        const char *format = x->tensor[i].format;
        bool mixed = false;
        for (; i < x->ntensor && layer_of(x->tensor[i].name) == layer; i++, n++) {
            loss += x->tensor[i].proxy_loss, rtn += x->tensor[i].proxy_rtn, seconds += x->tensor[i].seconds, bpw += x->tensor[i].bpw;
            mixed = mixed || strcmp(format, x->tensor[i].format);
        }
        if (layer < 0)
            cli_table_cell(t, "-");
        else
            cli_table_cell(t, "%d", layer);
        cli_table_cell(t, "%d", n);
        cli_table_cell(t, "%s", mixed ? "several" : format);
        cli_table_cell(t, "%.3f", bpw / n);
        if (isfinite(loss))
            cli_table_cell(t, "%.5g", loss);
        else
            cli_table_cell(t, "-");
        if (compared) cli_table_cell(t, "%.3f", loss / rtn);
        cli_table_cell(t, "%.2f", seconds);
    }
    if (t) cli_table_print(t, stdout, 0);
    printf("\nrecipe      %s%s%s\n", r->name, r->title ? ": " : "", r->title ? r->title : "");
    printf("output      %s\n", c->out);
    printf("size        %s, %.4f bits per weight (quantized linears), %.4f (whole file)\n", cli_bytes(c, x->bytes), x->bpw_linears,
           x->bpw_file);
    if (x->calibration_tokens) printf("calibrated  on '%s', %lld tokens\n", x->text, (long long)x->calibration_tokens);
    if (trial->measured) {
        const oz_score *s = &trial->eval.score;
        printf("quality     KLD %.5f nats a token (median %.5f, 99 %% %.4f, max %.3f), same top token %.2f %%\n", s->kld_mean, s->kld_p50,
               s->kld_p99, s->kld_max, 100 * s->top1);
        printf("            perplexity %.4f, reference %.4f; held-out text '%s', %lld tokens, compute: runtime\n", s->ppl, s->ppl_ref,
               trial->eval.text, (long long)s->tokens);
    }
    printf("time        %.1f s (forward passes %.1f, solving %.1f), peak memory %s\n", x->seconds, x->seconds_forward, x->seconds_solver,
           cli_bytes(c, oz_peak_rss()));
}

static bool ends_in(const char *text, const char *end)
{
    size_t n = strlen(text), k = strlen(end);
    return n >= k && strcmp(text + n - k, end) == 0;
}

/* Errors of the recipe, the plan and its shapes are the command line's (2); those of files and of the work itself are 1. */
static bool is_plan_error(oz_status s)
{
    return s == OZ_ERR_KEY || s == OZ_ERR_RANGE || s == OZ_ERR_UNSUPPORTED || s == OZ_ERR_SHAPE || s == OZ_ERR_BUDGET || s == OZ_ERR_PARSE;
}

static int work(cli *c, oz_trial *t)
{
    oz_status s = oz_trial_load(t);
    if (s) return cli_failed(c, s);
    s = oz_trial_plan(t);
    if (s) return is_plan_error(s) ? cli_refused(c, s) : cli_failed(c, s);
    if (c->dry_run && c->json) return cli_print_json(c, oz_plan_node(t->plan, c->arena));
    if (c->dry_run) {
        char *text = oz_plan_text(t->plan);
        if (!text) return cli_failed(c, OZ_ERR_NOMEM);
        cli_term_clear(c->term);
        fputs(text, stdout);
        oz_free(text);
        return CLI_EXIT_OK;
    }
    s = oz_trial_run(t);
    if (s) return cli_failed(c, s);
    const oz_attentions *attention = &t->result->attention;
    for (int i = 0; i < attention->n; i++) cli_attend(c, attention->a[i].kind, attention->a[i].tensor, attention->a[i].message);
    if (t->measured && t->eval.overlap > 0) {
        char text[128];
        snprintf(text, sizeof text, "%lld documents of the held-out text were calibrated on", (long long)t->eval.overlap);
        cli_attend(c, "overlap", t->eval.text, text);
    }
    cli_term_clear(c->term);
    if (!c->json) {
        print_report(c, t);
        return cli_done(c);
    }
    oz_node *o = oz_trial_node(t, c->arena), *list = o ? oz_node_copy(c->arena, cli_attention(c)) : NULL;
    int status = cli_print_json(c, list && oz_node_put(o, "attention", list, c->arena) == OZ_OK ? o : NULL);
    return status ? status : cli_done(c);
}

static int run(cli *c)
{
    const quantize_options *o = c->opt;
    double bpw = 0;
    uint64_t bytes = 0;
    if (!c->out && !c->dry_run) return cli_refused(c, oz_fail(OZ_ERR_KEY, "add -o OUT", "quantize %s: no output was given", c->arg[0]));
    if (o->imatrix)
        return cli_refused(
            c, oz_fail(OZ_ERR_UNSUPPORTED, "calibrate with --calib", "--imatrix %s: importance matrices are not read yet", o->imatrix));
    if (o->to && strcmp(o->to, "hf") && strcmp(o->to, "gguf"))
        return cli_refused(c, oz_fail(OZ_ERR_KEY, "quantize to a directory, then convert", "--to %s: quantize writes hf or gguf", o->to));
    oz_status s = o->budget ? cli_parse_budget(o->budget, &bpw, &bytes) : OZ_OK;
    if (!s && bytes)
        s = oz_fail(OZ_ERR_UNSUPPORTED, "give it as bits per weight: --budget 3.1bpw", "--budget %s: sizes in bytes are not solved for yet",
                    o->budget);
    if (s) return cli_refused(c, s);
    const char *name = o->recipe, *why = NULL;
    if (!name) {
        name = oz_recipe_default(bpw, &why);
        cli_note(c, "recipe %s: %s", name, why);
    }
    const char **set = oz_arena_zalloc(c->arena, ((size_t)c->nset + 1) * sizeof *set);
    char *seed = c->has_seed ? oz_arena_printf(c->arena, "seed=%llu", (unsigned long long)c->seed) : NULL;
    if (!set || (c->has_seed && !seed)) return cli_failed(c, OZ_ERR_NOMEM);
    for (int i = 0; i < c->nset; i++) set[i] = c->set[i];
    if (seed) set[c->nset] = seed;
    oz_trial_options to = {.model = c->arg[0],
                           .recipe = name,
                           .set = set,
                           .nset = c->nset + (seed ? 1 : 0),
                           .resume = c->resume,
                           .force = c->force,
                           .no_eval = o->no_eval};
    to.plan = (oz_plan_options){.tensor = c->tensor,
                                .ntensor = c->ntensor,
                                .layer0 = c->layer0,
                                .layer1 = c->layer1,
                                .calib_text = o->calib,
                                .budget_bpw = bpw,
                                .out = c->out};
    to.plan.gguf = o->to ? strcmp(o->to, "gguf") == 0 : c->out && ends_in(c->out, ".gguf");
    to.eval = (oz_eval_options){.text = o->text ? o->text : "default", .score = OZ_SCORE_OPTIONS_INIT};
    to.eval.score.tokens = o->tokens;
    oz_trial trial;
    s = oz_trial_open(&trial, &to, &c->run);
    int status = s == OZ_ERR_IO || s == OZ_ERR_NOMEM ? cli_failed(c, s) : s ? cli_refused(c, s) : work(c, &trial);
    oz_trial_close(&trial);
    return status;
}

const cli_command cli_quantize = {
    .entry = {.kind = "command",
              .name = "quantize",
              .brief = "make a model smaller with any method",
              .options = options,
              .options_size = sizeof(quantize_options)},
    .usage = "MODEL",
    .min_args = 1,
    .max_args = 1,
    .takes = CLI_WORK | CLI_OUT | CLI_RECIPE | CLI_JOB | CLI_ACCEPT,
    .details =
        "Works block by block and commits each block, so a killed job goes on with --resume. The output appears under its name only when "
        "it is "
        "complete and measured. Any key of a recipe is overridden with --set PASS.KEY=VALUE; --dry-run shows the plan and touches nothing.",
    .json = "recipe              its name\n"
            "output              path\n"
            "bytes               of all tensors\n"
            "bpw_linears         bits per weight of the quantized linears, everything counted\n"
            "bpw_file            of the whole file\n"
            "seconds             of the job; seconds_solver, seconds_forward: parts of it\n"
            "peak_rss_bytes      peak memory\n"
            "proxy_loss          sum over linears of tr((W-What) H (W-What)'), H damped; proxy_rtn: the same for round to\n"
            "                    nearest where the solver was asked (--set weights.compare=true), else null\n"
            "calibration_tokens  how many were read\n"
            "text                held-out text; kld {mean, p50, p99, max, stderr}, top1, ppl, ppl_reference are measured on it\n"
            "tensors             [{name, format, bpw, proxy_loss, proxy_rtn, clipped}]\n"
            "attention           [{kind, tensor, message}]",
    .examples = "ounce quantize model/ -o model-4bit --recipe gptq\n"
                "ounce quantize model.gguf -o small --recipe owq --budget 3.1bpw\n"
                "ounce quantize model/ -o try --recipe awq --layers 0-1 --set calibration.samples=8\n"
                "ounce quantize model/ -o model-q4_0.gguf --recipe gptq --set weights.format=gguf.q4_0",
    .run = run};

/* compare.c: `ounce compare MODEL --recipes a,b,c`: the same model through several recipes, measured side by side. */
#include "cli/cli.h"
#include "ounce/measure.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct compare_options {
    const char *recipes, *text, *html, *calib, *keep;
    int tokens, ctx;
} compare_options;

#define AT(f) offsetof(compare_options, f)
static const oz_option options[] = {
    {.name = "recipes", .type = OZ_TEXT, .at = AT(recipes), .unit = "a,b,c", .brief = "recipe names or files, separated by commas"},
    {.name = "text",
     .type = OZ_TEXT,
     .at = AT(text),
     .init_text = "default",
     .unit = "TEXT",
     .brief = "held-out text all of them are measured on"},
    {.name = "tokens",
     .type = OZ_INT,
     .at = AT(tokens),
     .init = 16384,
     .min = 2,
     .max = 1e9,
     .unit = "tokens",
     .brief = "how many tokens are scored"},
    {.name = "ctx", .type = OZ_INT, .at = AT(ctx), .init = 2048, .min = 2, .max = 1e6, .unit = "tokens", .brief = "length of a window (L)"},
    {.name = "calib", .type = OZ_TEXT, .at = AT(calib), .unit = "TEXT", .brief = "calibration text; default: each recipe's"},
    {.name = "keep", .type = OZ_TEXT, .at = AT(keep), .unit = "DIR", .brief = "keep the quantized models in this folder"},
    {.name = "html", .type = OZ_TEXT, .at = AT(html), .unit = "FILE", .brief = "page with plots (not built yet)"},
    {0}};

typedef struct speed {
    double prompt, generate;
} speed;

/* Tokens per second of one prompt and of the tokens after it, on the model as it was written. */
static oz_status measure_speed(cli *c, const char *path, speed *out)
{
    enum { PROMPT = 256, MORE = 32 };
    oz_model *model = NULL;
    oz_session *session = NULL;
    oz_model_options mo = OZ_MODEL_OPTIONS_INIT;
    OZ_TRY(oz_model_open(&model, path, &mo, &c->run));
    int32_t vocab = oz_model_arch(model)->dims.vocab, ids[PROMPT];
    float *logits = oz_alloc((size_t)vocab, sizeof *logits);
    oz_status s = logits ? oz_session_new(&session, model, PROMPT + MORE + 1) : OZ_ERR_NOMEM;
    for (int i = 0; i < PROMPT; i++) ids[i] = (int32_t)(oz_rng_u64((oz_rng){1, 2}, (uint64_t)i) % (uint64_t)(vocab < 1000 ? vocab : 1000));
    int64_t start[2] = {0, PROMPT}, want = PROMPT - 1;
    oz_step step = {&session, 1, start, ids, &want, 1};
    double t0 = oz_seconds();
    if (!s) s = oz_model_step(model, &step, oz_mat_of(logits, 1, vocab), &c->run);
    double t1 = oz_seconds();
    start[1] = 1, want = 0;
    for (int i = 0; !s && i < MORE; i++) s = oz_model_step(model, &step, oz_mat_of(logits, 1, vocab), &c->run);
    double t2 = oz_seconds();
    *out = (speed){PROMPT / (t1 - t0), MORE / (t2 - t1)};
    oz_session_free(session);
    oz_free(logits);
    oz_model_free(model);
    return s;
}

static bool put(oz_node *map, const char *key, oz_node *v, oz_arena *a) { return v && oz_node_put(map, key, v, a) == OZ_OK; }

static oz_status one(cli *c, const char *recipe, const char *folder, cli_table *table, oz_node *rows)
{
    const compare_options *o = c->opt;
    const char *slash = strrchr(recipe, '/');
    char *out = oz_arena_printf(c->arena, "%s/%s", folder, slash ? slash + 1 : recipe);
    if (!out) return OZ_ERR_NOMEM;
    oz_trial_options to = {.model = c->arg[0], .recipe = recipe, .set = c->set, .nset = c->nset, .force = c->force};
    to.plan = (oz_plan_options){
        .tensor = c->tensor, .ntensor = c->ntensor, .layer0 = c->layer0, .layer1 = c->layer1, .calib_text = o->calib, .out = out};
    to.eval = (oz_eval_options){.text = o->text, .score = OZ_SCORE_OPTIONS_INIT};
    to.eval.score.tokens = o->tokens, to.eval.score.ctx = o->ctx;
    oz_trial t;
    speed v = {0};
    cli_note(c, "%s ...", recipe);
    oz_status s = oz_trial_open(&t, &to, &c->run);
    if (!s) s = oz_trial_load(&t);
    if (!s) s = oz_trial_plan(&t);
    if (!s) s = oz_trial_run(&t);
    if (!s) s = measure_speed(c, out, &v);
    if (!s) {
        const oz_score *e = &t.eval.score;
        for (int i = 0; i < t.result->attention.n; i++)
            cli_attend(c, t.result->attention.a[i].kind, t.result->attention.a[i].tensor, t.result->attention.a[i].message);
        cli_table_cell(table, "%s", t.recipe->name);
        cli_table_cell(table, "%.4f", t.result->bpw_linears);
        cli_table_cell(table, "%s", cli_bytes(c, t.result->bytes));
        cli_table_cell(table, "%.5f", e->kld_mean);
        cli_table_cell(table, "%.5f", e->kld_stderr);
        cli_table_cell(table, "%.2f", 100 * e->top1);
        cli_table_cell(table, "%.4f", e->ppl);
        cli_table_cell(table, "%.4f", e->ppl_ref);
        cli_table_cell(table, "%.0f", v.prompt);
        cli_table_cell(table, "%.1f", v.generate);
        cli_table_cell(table, "%.1f", t.result->seconds);
        oz_node *row = oz_trial_node(&t, c->arena), *tasks = oz_node_map(c->arena);
        if (!row || !put(row, "tasks", tasks, c->arena) || !put(row, "prompt", oz_node_of_real(c->arena, v.prompt), c->arena) ||
            !put(row, "generate", oz_node_of_real(c->arena, v.generate), c->arena) || oz_node_push(rows, row, c->arena))
            s = OZ_ERR_NOMEM;
    }
    oz_trial_close(&t);
    return s;
}

static int run(cli *c)
{
    const compare_options *o = c->opt;
    static const char *const head[] = {"recipe",    "bpw",          "size",           "KLD",    "+-", "top-1 %", "ppl",
                                       "reference", "prompt tok/s", "generate tok/s", "seconds"};
    if (!o->recipes) return cli_refused(c, oz_fail(OZ_ERR_KEY, "add --recipes rtn,gptq", "compare %s: no recipes were named", c->arg[0]));
    if (o->html) return cli_refused(c, oz_fail(OZ_ERR_UNSUPPORTED, "leave --html out", "--html %s: pages are not built yet", o->html));
    const char *tmp = getenv("TMPDIR");
    char *folder =
        o->keep ? oz_arena_strdup(c->arena, o->keep) : oz_arena_printf(c->arena, "%s/ounce-compare-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    cli_table *table = cli_table_new(c->arena, "lrrrrrrrrrr", head);
    oz_node *root = oz_node_map(c->arena), *rows = oz_node_list(c->arena);
    char *list = oz_arena_strdup(c->arena, o->recipes);
    if (!folder || !table || !root || !rows || !list) return cli_failed(c, OZ_ERR_NOMEM);
    oz_status s = OZ_OK;
    if (o->keep)
        s = oz_make_dirs(folder);
    else if (!mkdtemp(folder))
        s = oz_fail(OZ_ERR_IO, "set TMPDIR to a folder with room", "%s: cannot make a temporary folder", folder);
    for (char *rest = list, *name; !s && rest && *rest;) {
        name = rest;
        rest = strchr(rest, ',');
        if (rest) *rest++ = 0;
        s = one(c, name, folder, table, rows);
    }
    int status = s ? cli_failed(c, s) : CLI_EXIT_OK;
    if (!o->keep) {
        oz_saved_error e;
        oz_error_save(&e, s);
        if (oz_remove_tree(folder)) cli_note(c, "%s could not be removed", folder);
        (void)oz_error_restore(&e);
    }
    if (s) return status;
    cli_term_clear(c->term);
    if (!c->json) {
        cli_table_print(table, stdout, 0);
        printf("\nKLD in nats a token against %s on held-out '%s', %d tokens at most, ctx %d, compute: runtime\n", c->arg[0], o->text,
               o->tokens, o->ctx);
        return cli_done(c);
    }
    bool good =
        put(root, "reference", oz_node_of_text(c->arena, c->arg[0]), c->arena) && oz_node_put(root, "rows", rows, c->arena) == OZ_OK;
    status = cli_print_json(c, good ? root : NULL);
    return status ? status : cli_done(c);
}

const cli_command cli_compare = {.entry = {.kind = "command",
                                           .name = "compare",
                                           .brief = "several recipes side by side",
                                           .options = options,
                                           .options_size = sizeof(compare_options)},
                                 .usage = "MODEL",
                                 .min_args = 1,
                                 .max_args = 1,
                                 .takes = CLI_WORK | CLI_OUT | CLI_RECIPE | CLI_ACCEPT,
                                 .details = "Quantizes the model with each recipe into a temporary folder (or --keep DIR) and measures "
                                            "size, quality against the unquantized model and speed. "
                                            "--set and --tensor apply to every recipe, so one format can be given to all.",
                                 .json = "reference  path\n"
                                         "rows       [{what quantize --json prints, tasks, prompt, generate}]",
                                 .examples = "ounce compare model/ --recipes rtn,gptq,awq --set weights.format=int3.asym@64",
                                 .run = run};

/* verify.c: `ounce verify MODEL`: checks a finished model. */
#include "cli/cli.h"
#include "ounce/measure.h"

typedef struct verify_options {
    const char *source;
    bool equivalence;
} verify_options;

#define AT(f) offsetof(verify_options, f)
static const oz_option options[] = {
    {.name = "equivalence",
     .type = OZ_FLAG,
     .at = AT(equivalence),
     .brief = "fold the model's transforms into --source with quantizers off: logits must stay; skipping one consumer must change them"},
    {.name = "source", .type = OZ_TEXT, .at = AT(source), .unit = "REF", .brief = "the model this one was made from"},
    {0}};

static int run(cli *c)
{
    const verify_options *o = c->opt;
    oz_checks checks = {.arena = c->arena};
    if (o->equivalence && !o->source)
        return cli_refused(c,
                           oz_fail(OZ_ERR_KEY, "add --source REF", "verify %s --equivalence: the source model was not named", c->arg[0]));
    oz_status s = oz_verify_model(&checks, c->arg[0], &c->run);
    if (!s && o->equivalence) s = oz_verify_equivalence(&checks, c->arg[0], o->source, &c->run);
    if (s) return cli_failed(c, s);
    cli_term_clear(c->term);
    int bad = 0;
    oz_arena *a = c->arena;
    oz_node *root = oz_node_map(a), *list = oz_node_list(a);
    bool good = root && list;
    for (int i = 0; i < checks.n; i++) {
        const oz_check *k = &checks.check[i];
        bad += !k->ok;
        if (!c->json)
            printf("%-6s %-40s %.3g (%s %.3g)  %s\n", k->ok ? "ok" : "FAILED", k->name, k->value, k->at_least ? "at least" : "at most",
                   k->limit, k->message);
        oz_node *n = oz_node_map(a);
        good = good && n && !oz_node_put(n, "name", oz_node_of_text(a, k->name), a) &&
               !oz_node_put(n, "ok", oz_node_of_bool(a, k->ok), a) && !oz_node_put(n, "value", oz_node_of_real(a, k->value), a) &&
               !oz_node_put(n, "limit", oz_node_of_real(a, k->limit), a) && !oz_node_put(n, "message", oz_node_of_text(a, k->message), a) &&
               !oz_node_push(list, n, a);
    }
    if (c->json) {
        int status = cli_print_json(c, good && !oz_node_put(root, "checks", list, a) ? root : NULL);
        if (status) return status;
    }
    if (bad)
        return cli_failed(
            c, oz_fail(OZ_ERR_NUMERIC, "quantize it again from its source", "%s: %d of %d checks failed", c->arg[0], bad, checks.n));
    return cli_done(c);
}

const cli_command cli_verify = {.entry = {.kind = "command",
                                          .name = "verify",
                                          .brief = "check a finished model",
                                          .options = options,
                                          .options_size = sizeof(verify_options)},
                                .usage = "MODEL",
                                .min_args = 1,
                                .max_args = 1,
                                .takes = CLI_WORK,
                                .details = "Reads every tensor: structure, finite values, stored indices in range, and for each format the "
                                           "product that runs against f32 on decoded weights.",
                                .json = "checks  [{name, ok, value, limit, message}]",
                                .examples = "ounce verify model-4bit\nounce verify model-awq --equivalence --source model/",
                                .run = run};

/* eval.c: `ounce eval MODEL [--against REF]`: perplexity and divergence on texts, on the path that runs. */
#include "cli/cli.h"
#include "ounce/measure.h"

#include <stdlib.h>
#include <string.h>

typedef struct eval_options {
    const oz_node *text;
    const char *against, *tasks, *dump;
    int ctx, tokens, protocol, compute;
    bool no_bos;
} eval_options;
enum { WINDOWS, LLAMA_CPP, ROLLING };

#define AT(f) offsetof(eval_options, f)
static const oz_option options[] = {
    {.name = "against",
     .type = OZ_TEXT,
     .at = AT(against),
     .unit = "REF",
     .brief = "the reference model: KL divergence and top-1 agreement are measured too"},
    {.name = "text",
     .type = OZ_TREE,
     .at = AT(text),
     .unit = "NAME",
     .brief = "a corpus name or a file; may be repeated (default wikitext2)"},
    {.name = "tasks", .type = OZ_TEXT, .at = AT(tasks), .unit = "NAMES", .brief = "tasks (not built yet)"},
    {.name = "ctx", .type = OZ_INT, .at = AT(ctx), .init = 2048, .min = 2, .max = 1e6, .unit = "tokens", .brief = "length of a window (L)"},
    {.name = "tokens",
     .type = OZ_INT,
     .at = AT(tokens),
     .init = 0,
     .min = 0,
     .max = 2e9,
     .unit = "tokens",
     .brief = "only the first N tokens of the text; 0: all"},
    {.name = "protocol",
     .type = OZ_ENUM,
     .at = AT(protocol),
     .choices = "windows|llama.cpp|rolling",
     .brief = "windows: non-overlapping, positions 2 to L; llama.cpp: windows of 512, second half scored"},
    {.name = "compute",
     .type = OZ_ENUM,
     .at = AT(compute),
     .choices = "runtime|exact",
     .brief = "the kernels a user gets, or f32 on decoded weights"},
    {.name = "no_bos", .type = OZ_FLAG, .at = AT(no_bos), .brief = "never put the begin token in front of a window"},
    {.name = "dump", .type = OZ_TEXT, .at = AT(dump), .unit = "FILE", .brief = "log-probability of each scored token, one line each"},
    {0}};

static bool put(oz_node *map, const char *key, oz_node *v, oz_arena *a) { return v && oz_node_put(map, key, v, a) == OZ_OK; }

static oz_status write_dump(const char *path, const float *p, int64_t n)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *f = open_memstream(&text, &bytes);
    if (!f) return oz_fail(OZ_ERR_NOMEM, NULL, "%s: out of memory for %lld lines", path, (long long)n);
    for (int64_t i = 0; i < n; i++) fprintf(f, "%.9g\n", (double)p[i]);
    bool bad = fclose(f) != 0;
    oz_status s =
        bad ? oz_fail(OZ_ERR_NOMEM, NULL, "%s: out of memory for %lld lines", path, (long long)n) : oz_write_file(path, text, bytes);
    free(text);
    return s;
}

static void print_one(const oz_eval *e, const oz_eval_options *o, bool reference)
{
    const oz_score *s = &e->score;
    printf("%s: %lld tokens, ctx %lld, protocol %s, compute %s\n", e->text, (long long)s->tokens,
           o->score.llama_cpp ? 512LL : (long long)o->score.ctx,
           o->score.llama_cpp ? "llama.cpp"
           : o->score.rolling ? "rolling"
                              : "windows",
           o->exact ? "exact" : "runtime");
    printf("  perplexity  %.4f (nll %.5f)\n", s->ppl, s->nll);
    if (!reference) return;
    printf("  reference   %.4f\n", s->ppl_ref);
    printf("  KLD         %.6f +- %.6f nats a token; median %.6f, 99 %% %.5f, max %.4f\n", s->kld_mean, s->kld_stderr, s->kld_p50,
           s->kld_p99, s->kld_max);
    printf("  same top-1  %.3f %%\n", 100 * s->top1);
}

static int run(cli *c)
{
    const eval_options *o = c->opt;
    int n = 0;
    if (o->tasks) return cli_refused(c, oz_fail(OZ_ERR_UNSUPPORTED, "use --text", "--tasks %s: tasks are not built yet", o->tasks));
    const char *const *text = cli_texts(c, o->text, &n);
    static const char *const standard[] = {"wikitext2", NULL};
    if (!text) return cli_failed(c, OZ_ERR_NOMEM);
    if (!n) text = standard, n = 1;
    if (o->dump && n > 1)
        return cli_refused(c, oz_fail(OZ_ERR_KEY, "score one text at a time", "--dump %s takes one text, found %d", o->dump, n));
    oz_arena *a = c->arena;
    oz_node *root = oz_node_map(a), *texts = oz_node_map(a), *tasks = oz_node_map(a);
    bool good = root && texts && tasks && put(root, "model", oz_node_of_text(a, c->arg[0]), a);
    good = good && put(root, "against", o->against ? oz_node_of_text(a, o->against) : oz_node_new(a, OZ_NODE_NULL), a);
    for (int i = 0; good && i < n; i++) {
        oz_eval_options eo = {.text = text[i], .score = OZ_SCORE_OPTIONS_INIT, .exact = o->compute == 1};
        eo.score.ctx = o->ctx, eo.score.tokens = o->tokens, eo.score.no_bos = o->no_bos;
        eo.score.llama_cpp = o->protocol == LLAMA_CPP, eo.score.rolling = o->protocol == ROLLING;
        float *dump = NULL;
        if (o->dump) { /* at most one position a byte of text */
            oz_corpus *corpus = NULL;
            oz_status s = oz_corpus_open(&corpus, text[i], OZ_TEXT_HELD_OUT);
            size_t room = s ? 0 : corpus->bytes + 1;
            oz_corpus_free(corpus);
            if (s || !(dump = oz_alloc(o->tokens ? (size_t)o->tokens : room, sizeof *dump))) return cli_failed(c, s ? s : OZ_ERR_NOMEM);
            eo.score.dump = dump;
        }
        oz_eval e;
        oz_status s = oz_eval_paths(&e, c->arg[0], o->against, &eo, &c->run);
        if (!s && dump) s = write_dump(o->dump, dump, e.score.tokens);
        oz_free(dump);
        if (s) return cli_failed(c, s);
        cli_term_clear(c->term);
        if (!c->json) print_one(&e, &eo, o->against != NULL);
        good = put(texts, e.text, oz_eval_node(&e, &eo, a), a);
    }
    good = good && put(root, "texts", texts, a) && put(root, "tasks", tasks, a);
    if (!c->json) return good ? cli_done(c) : cli_failed(c, OZ_ERR_NOMEM);
    int status = cli_print_json(c, good ? root : NULL);
    return status ? status : cli_done(c);
}

const cli_command cli_eval = {
    .entry = {.kind = "command",
              .name = "eval",
              .brief = "perplexity and divergence on a text",
              .options = options,
              .options_size = sizeof(eval_options)},
    .usage = "MODEL",
    .min_args = 1,
    .max_args = 1,
    .takes = CLI_WORK,
    .details = "A corpus that has two parts is scored on its held-out part. With --against both models read the same windows: KL(p_ref || "
               "p) in nats per token, its "
               "median and tail, and how often both would choose the same next token. Numbers are measured on the kernels that run; "
               "--compute exact is a label.",
    .json = "model    path\n"
            "against  path or null\n"
            "texts    {NAME: {ppl, nll, tokens, kld {mean, p50, p99, max, stderr}, top1, ppl_reference, compute, protocol, ctx}}\n"
            "tasks    {}",
    .examples = "ounce eval model-4bit --against model/ --text wikitext2 --tokens 16384\nounce eval model.gguf --protocol llama.cpp --text "
                "wiki.test.raw",
    .run = run};

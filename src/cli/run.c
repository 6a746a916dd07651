/* run.c: `ounce run MODEL [-p PROMPT]`: generate text; without a prompt an interactive chat by the model's own template. */
#include "cli/cli.h"
#include "ounce/model.h"

#include <string.h>

typedef struct run_options {
    const char *prompt, *grammar, *json_schema, *draft, *kv, *system;
    double temp, top_p, min_p, repeat_penalty;
    int n, top_k, ctx;
    bool chat;
} run_options;

#define AT(f) offsetof(run_options, f)
static const oz_option options[] = {
    {.name = "prompt", .type = OZ_TEXT, .at = AT(prompt), .word = "p", .unit = "TEXT", .brief = "text to go on from; without it: a chat"},
    {.name = "chat", .type = OZ_FLAG, .at = AT(chat), .brief = "put --prompt through the model's chat template as one user message"},
    {.name = "system", .type = OZ_TEXT, .at = AT(system), .unit = "TEXT", .brief = "system message of a chat"},
    {.name = "tokens",
     .type = OZ_INT,
     .at = AT(n),
     .init = 256,
     .min = 1,
     .max = 1e9,
     .word = "n",
     .unit = "N",
     .brief = "how many tokens at most"},
    {.name = "temp",
     .type = OZ_REAL,
     .at = AT(temp),
     .init = 0.8,
     .min = 0,
     .max = 100,
     .brief = "temperature; 0 takes the most likely token"},
    {.name = "top_k",
     .type = OZ_INT,
     .at = AT(top_k),
     .init = 40,
     .min = 0,
     .max = 1e9,
     .unit = "tokens",
     .brief = "only the K most likely; 0: all"},
    {.name = "top_p",
     .type = OZ_REAL,
     .at = AT(top_p),
     .init = 0.95,
     .min = 0,
     .max = 1,
     .brief = "only the most likely whose probabilities reach P; 1: all"},
    {.name = "min_p",
     .type = OZ_REAL,
     .at = AT(min_p),
     .init = 0.05,
     .min = 0,
     .max = 1,
     .brief = "only those with at least this share of the best one's probability"},
    {.name = "repeat_penalty",
     .type = OZ_REAL,
     .at = AT(repeat_penalty),
     .init = 1,
     .min = 0.01,
     .max = 100,
     .brief = "divides the logits of recent tokens; 1: off"},
    {.name = "ctx",
     .type = OZ_INT,
     .at = AT(ctx),
     .init = 0,
     .min = 0,
     .max = 1e8,
     .unit = "tokens",
     .brief = "room for prompt and reply; 0: as needed, up to the model's"},
    {.name = "kv", .type = OZ_TEXT, .at = AT(kv), .init_text = "f16", .unit = "FORMAT", .brief = "how keys and values are stored: f16"},
    {.name = "grammar", .type = OZ_TEXT, .at = AT(grammar), .unit = "FILE", .brief = "grammar the reply must follow (not built yet)"},
    {.name = "json_schema",
     .type = OZ_TEXT,
     .at = AT(json_schema),
     .unit = "FILE",
     .brief = "schema the reply must follow (not built yet)"},
    {.name = "draft", .type = OZ_TEXT, .at = AT(draft), .unit = "MODEL", .brief = "small model that proposes tokens (not built yet)"},
    {0}};

/* Reply as it grows: whole characters are printed at once, the rest waits. */
typedef struct reply {
    cli *c;
    const oz_tokenizer *tokenizer;
    char *text;
    size_t bytes, room, shown;
    bool failed;
    int64_t tokens;
    int32_t *ids;
    int64_t id_room;
} reply;

static bool emit(void *ctx, int32_t id)
{
    reply *r = ctx;
    size_t n = 0;
    const char *piece = oz_tokenizer_is_special(r->tokenizer, id) ? "" : oz_tokenizer_piece(r->tokenizer, id, &n);
    if (r->bytes + n + 1 > r->room) {
        size_t room = 2 * (r->bytes + n) + 256;
        char *more = oz_realloc(r->text, room, 1);
        if (!more) return !(r->failed = true);
        r->text = more, r->room = room;
    }
    if (r->tokens == r->id_room) {
        int64_t room = r->id_room ? 2 * r->id_room : 256;
        int32_t *more = oz_realloc(r->ids, (size_t)room, sizeof *more);
        if (!more) return !(r->failed = true);
        r->ids = more, r->id_room = room;
    }
    r->ids[r->tokens++] = id;
    if (n) memcpy(r->text + r->bytes, piece, n);
    r->bytes += n;
    r->text[r->bytes] = 0;
    size_t whole = r->shown + oz_utf8_complete(r->text + r->shown, r->bytes - r->shown);
    if (!r->c->json && whole > r->shown) {
        cli_term_clear(r->c->term);
        fwrite(r->text + r->shown, 1, whole - r->shown, stdout);
        fflush(stdout);
        r->shown = whole;
    }
    return !oz_cancelled(&r->c->run);
}

static void reply_free(reply *r)
{
    oz_free(r->text);
    oz_free(r->ids);
    *r = (reply){.c = r->c, .tokenizer = r->tokenizer};
}

static oz_sampling sampling_of(const cli *c)
{
    const run_options *o = c->opt;
    oz_sampling s = OZ_SAMPLING_INIT;
    s.temp = (float)o->temp, s.top_p = (float)o->top_p, s.min_p = (float)o->min_p, s.repeat_penalty = (float)o->repeat_penalty;
    s.top_k = o->top_k, s.seed = c->seed;
    return s;
}

/* The conversation so far as the template spells it. */
static oz_status spell(cli *c, const oz_template *t, const oz_tokenizer *tokenizer, const oz_node *messages, char **text, size_t *bytes)
{
    oz_arena *a = c->arena;
    oz_node *vars = oz_node_map(a), *yes = oz_node_of_bool(a, true);
    if (!vars || !yes) return OZ_ERR_NOMEM;
    OZ_TRY(oz_node_put(vars, "messages", oz_node_copy(a, messages), a));
    OZ_TRY(oz_node_put(vars, "add_generation_prompt", yes, a));
    int32_t special[2] = {oz_tokenizer_bos(tokenizer), oz_tokenizer_eos(tokenizer)};
    static const char *const names[2] = {"bos_token", "eos_token"};
    for (int i = 0; i < 2; i++) {
        size_t n = 0;
        const char *piece = special[i] < 0 ? "" : oz_tokenizer_piece(tokenizer, special[i], &n);
        char *word = oz_arena_strndup(a, piece, n);
        oz_node *v = word ? oz_node_of_text(a, word) : NULL;
        if (!v) return OZ_ERR_NOMEM;
        OZ_TRY(oz_node_put(vars, names[i], v, a));
    }
    return oz_template_render(t, vars, text, bytes);
}

static oz_status say(oz_node *messages, const char *role, const char *content, oz_arena *a)
{
    oz_node *m = oz_node_map(a), *r = oz_node_of_text(a, role), *text = oz_node_of_text(a, content);
    if (!m || !r || !text) return OZ_ERR_NOMEM;
    OZ_TRY(oz_node_put(m, "role", r, a));
    OZ_TRY(oz_node_put(m, "content", text, a));
    return oz_node_push(messages, m, a);
}

/* Generates after the tokens of `text`; what the session holds already (a chat's earlier turns) is a prefix of it and not read again. */
static oz_status go_on(cli *c, oz_model *model, oz_session *session, int32_t **held, const oz_tokenizer *tokenizer, const char *text,
                       size_t bytes, unsigned flags, reply *r, int64_t *prompt_tokens)
{
    const run_options *o = c->opt;
    oz_sampling sampling = sampling_of(c);
    int32_t *ids = NULL;
    int64_t n = 0, same = 0, have = oz_session_tokens(session);
    OZ_TRY(oz_tokenize(tokenizer, text, bytes, flags, &ids, &n));
    oz_status s = n > 0 ? OZ_OK : oz_fail(OZ_ERR_RANGE, "give a prompt with --prompt TEXT", "the prompt has no tokens: %zu bytes", bytes);
    while (*held && same < have && same < n - 1 && (*held)[same] == ids[same]) same++;
    if (!s && same < have) s = oz_session_truncate(session, same);
    if (!s) s = oz_generate(model, session, tokenizer, ids + same, n - same, o->n, &sampling, emit, r, &c->run);
    if (!s && r->failed) s = OZ_ERR_NOMEM;
    *prompt_tokens = n - same;
    if (!s && r->ids) { /* prompt and reply are what the session holds now */
        int32_t *more = oz_realloc(ids, (size_t)(n + r->tokens), sizeof *ids);
        if (more) {
            memcpy(more + n, r->ids, (size_t)r->tokens * sizeof *more);
            ids = more;
        } else {
            s = OZ_ERR_NOMEM;
        }
    }
    oz_free(*held);
    *held = ids;
    return s;
}

static int chat(cli *c, oz_model *model, oz_session *session, const oz_tokenizer *tokenizer, const oz_template *template)
{
    const run_options *o = c->opt;
    oz_node *messages = oz_node_list(c->arena);
    int32_t *held = NULL;
    char line[1 << 14];
    oz_status s = messages ? OZ_OK : OZ_ERR_NOMEM;
    if (!s && o->system) s = say(messages, "system", o->system, c->arena);
    cli_note(c, "an empty line or end of input leaves");
    while (!s && !oz_cancelled(&c->run)) {
        if (!c->quiet) fputs("> ", stderr);
        fflush(stderr);
        if (!fgets(line, sizeof line, stdin)) break;
        size_t n = strcspn(line, "\n");
        line[n] = 0;
        if (!n) break;
        char *text = NULL;
        size_t bytes = 0;
        int64_t read = 0;
        reply r = {.c = c, .tokenizer = tokenizer};
        s = say(messages, "user", line, c->arena);
        if (!s) s = spell(c, template, tokenizer, messages, &text, &bytes);
        if (!s) s = go_on(c, model, session, &held, tokenizer, text, bytes, OZ_TOKENIZE_SPECIAL, &r, &read);
        if (!s) s = say(messages, "assistant", r.text ? r.text : "", c->arena);
        printf("\n");
        fflush(stdout);
        oz_free(text);
        reply_free(&r);
    }
    oz_free(held);
    return s ? cli_failed(c, s) : cli_done(c);
}

static int once(cli *c, oz_model *model, oz_session *session, const oz_tokenizer *tokenizer, const char *text, size_t bytes, unsigned flags)
{
    int32_t *held = NULL;
    int64_t read = 0;
    reply r = {.c = c, .tokenizer = tokenizer};
    double start = oz_seconds();
    oz_status s = go_on(c, model, session, &held, tokenizer, text, bytes, flags, &r, &read);
    double seconds = oz_seconds() - start;
    int status = CLI_EXIT_OK;
    if (s) {
        status = cli_failed(c, s);
    } else if (c->json) {
        oz_arena *a = c->arena;
        oz_node *o = oz_node_map(a);
        bool bad = !o || oz_node_put(o, "text", oz_node_of_text(a, r.text ? r.text : ""), a) ||
                   oz_node_put(o, "prompt_tokens", oz_node_of_int(a, read), a);
        bad = bad || oz_node_put(o, "tokens", oz_node_of_int(a, r.tokens), a) || oz_node_put(o, "seconds", oz_node_of_real(a, seconds), a);
        status = cli_print_json(c, bad ? NULL : o);
    } else {
        if (r.shown < r.bytes) fwrite(r.text + r.shown, 1, r.bytes - r.shown, stdout);
        printf("\n");
        fflush(stdout); /* before the note, where both go to one terminal */
        cli_note(c, "%lld prompt tokens, %lld new tokens, %.2f s", (long long)read, (long long)r.tokens, seconds);
    }
    reply_free(&r);
    oz_free(held);
    return status ? status : cli_done(c);
}

static int with_model(cli *c, oz_model *model, const oz_tokenizer *tokenizer, const oz_template *template)
{
    const run_options *o = c->opt;
    oz_session *session = NULL;
    char *text = NULL;
    size_t bytes = 0;
    int64_t ctx = o->ctx ? o->ctx : oz_model_arch(model)->dims.context;
    if (o->prompt && !o->ctx && ctx > (int64_t)strlen(o->prompt) + o->n + 1024) ctx = (int64_t)strlen(o->prompt) + o->n + 1024;
    oz_status s = oz_session_new(&session, model, ctx);
    int status = 0;
    if (s) {
        status = cli_failed(c, s);
    } else if (!o->prompt) {
        status = chat(c, model, session, tokenizer, template);
    } else if (o->chat) {
        oz_node *messages = oz_node_list(c->arena);
        s = messages ? OZ_OK : OZ_ERR_NOMEM;
        if (!s && o->system) s = say(messages, "system", o->system, c->arena);
        if (!s) s = say(messages, "user", o->prompt, c->arena);
        if (!s) s = spell(c, template, tokenizer, messages, &text, &bytes);
        status = s ? cli_failed(c, s) : once(c, model, session, tokenizer, text, bytes, OZ_TOKENIZE_SPECIAL);
    } else {
        status = once(c, model, session, tokenizer, o->prompt, strlen(o->prompt), OZ_TOKENIZE_BOS);
    }
    oz_free(text);
    oz_session_free(session);
    return status;
}

static int run(cli *c)
{
    const run_options *o = c->opt;
    const char *const later[3][2] = {{"--grammar", o->grammar}, {"--json-schema", o->json_schema}, {"--draft", o->draft}};
    for (int i = 0; i < 3; i++)
        if (later[i][1])
            return cli_refused(c, oz_fail(OZ_ERR_UNSUPPORTED, "leave it out", "%s %s: not built yet", later[i][0], later[i][1]));
    if (strcmp(o->kv, "f16"))
        return cli_refused(c, oz_fail(OZ_ERR_UNSUPPORTED, "use --kv f16", "--kv %s: keys and values are stored as f16 only so far", o->kv));
    if (!o->prompt && c->json)
        return cli_refused(c, oz_fail(OZ_ERR_KEY, "add --prompt TEXT", "run %s --json: a chat has no result object", c->arg[0]));
    oz_model *model = NULL;
    oz_tokenizer *tokenizer = NULL;
    oz_template *template = NULL;
    oz_model_options mo = OZ_MODEL_OPTIONS_INIT;
    oz_status s = oz_model_open(&model, c->arg[0], &mo, &c->run);
    if (!s) s = oz_tokenizer_open(&tokenizer, oz_model_ckpt(model));
    if (!s && (!o->prompt || o->chat)) s = oz_template_open(&template, oz_model_ckpt(model));
    int status = s ? cli_failed(c, s) : with_model(c, model, tokenizer, template);
    oz_template_free(template);
    oz_tokenizer_free(tokenizer);
    oz_model_free(model);
    return status;
}

const cli_command cli_run = {
    .entry = {.kind = "command", .name = "run", .brief = "generate text, or chat", .options = options, .options_size = sizeof(run_options)},
    .usage = "MODEL",
    .min_args = 1,
    .max_args = 1,
    .takes = CLI_WORK,
    .details = "With -p the text is continued as it stands; --chat sends it through the model's template. Without -p a chat reads a line "
               "at a time from standard "
               "input. Replies stream as they are made. The same seed gives the same text.",
    .json = "text           the reply\nprompt_tokens  read\ntokens         made\nseconds        reading and making",
    .examples = "ounce run model-4bit -p 'The capital of France is' -n 32 --temp 0\nounce run model-4bit",
    .run = run};

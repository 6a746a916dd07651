/* args.c: the command line of one subcommand, read through its option table and the table of common options below. */
#include "cli/cli.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

typedef struct common {
    int threads;
    const char *memory, *seed, *output, *layers, *fault;
    bool force, resume, dry_run, json, quiet, verbose, help;
    const oz_node *set, *tensor, *accept;
} common;

#define AT(f) offsetof(common, f)
static const struct {
    uint32_t when; /* 0: every command */
    oz_option option;
} commons[] = {
    {CLI_OUT,
     {.name = "output",
      .type = OZ_TEXT,
      .at = AT(output),
      .unit = "OUT",
      .word = "o",
      .brief = "where the result goes: a directory, or a GGUF file when it ends in .gguf"}},
    {CLI_OUT,
     {.name = "force", .type = OZ_FLAG, .at = AT(force), .brief = "replace an existing output; without it an existing output is an error"}},
    {CLI_RECIPE,
     {.name = "set", .type = OZ_TREE, .at = AT(set), .unit = "PASS.KEY=VALUE", .brief = "change one option of a recipe; may be repeated"}},
    {CLI_RECIPE,
     {.name = "tensor",
      .type = OZ_TREE,
      .at = AT(tensor),
      .unit = "REGEX=FORMAT",
      .brief = "format of the tensors whose name matches; may be repeated"}},
    {CLI_RECIPE,
     {.name = "layers",
      .type = OZ_TEXT,
      .at = AT(layers),
      .unit = "A-B",
      .brief = "only these blocks, counted from 0; the rest stays as it is"}},
    {CLI_JOB, {.name = "resume", .type = OZ_FLAG, .at = AT(resume), .brief = "go on with an interrupted job"}},
    {CLI_JOB, {.name = "dry_run", .type = OZ_FLAG, .at = AT(dry_run), .brief = "print the plan and touch nothing"}},
    {CLI_ACCEPT,
     {.name = "accept",
      .type = OZ_TREE,
      .at = AT(accept),
      .unit = "KIND",
      .brief = "attention of this kind (or all) does not make the exit status 3; may be repeated"}},
    {CLI_WORK,
     {.name = "threads", .type = OZ_INT, .at = AT(threads), .init = 0, .min = 0, .max = 1024, .brief = "threads to use; 0 is all"}},
    {CLI_WORK,
     {.name = "memory",
      .type = OZ_TEXT,
      .at = AT(memory),
      .unit = "SIZE",
      .brief = "upper bound for working memory (8GiB); results do not depend on it"}},
    {CLI_WORK, {.name = "seed", .type = OZ_TEXT, .at = AT(seed), .unit = "N", .init_text = "0", .brief = "start of the random numbers"}},
#ifdef OUNCE_FAULTS
    {0, {.name = "fault", .type = OZ_TEXT, .at = AT(fault), .unit = "KIND:N", .brief = "test builds: the N-th alloc, write or read fails"}},
#endif
    {0, {.name = "json", .type = OZ_FLAG, .at = AT(json), .brief = "print exactly one JSON object"}},
    {0, {.name = "quiet", .type = OZ_FLAG, .at = AT(quiet), .word = "q", .brief = "print errors only"}},
    {0, {.name = "verbose", .type = OZ_FLAG, .at = AT(verbose), .word = "v", .brief = "say more"}},
    {0, {.name = "help", .type = OZ_FLAG, .at = AT(help), .word = "h", .brief = "print this"}},
};
#define NCOMMON ((int)(sizeof commons / sizeof *commons))

static bool takes(const cli_command *command, int i)
{
    if (!strcmp(commons[i].option.name, "json") && !command->json) return false;
    return !commons[i].when || (command->takes & commons[i].when);
}

int cli_options(const cli_command *command, const oz_option **out, int most, int *own)
{
    int n = 0;
    for (const oz_option *o = command->entry.options; o && o->name && n < most; o++) out[n++] = o;
    *own = n;
    for (int i = 0; i < NCOMMON && n < most; i++)
        if (takes(command, i)) out[n++] = &commons[i].option;
    return n;
}

const char *cli_value_name(const oz_option *o, char *out, size_t size)
{
    switch (o->type) {
    case OZ_FLAG:
        snprintf(out, size, "%s", "");
        break;
    case OZ_INT:
        snprintf(out, size, "N");
        break;
    case OZ_REAL:
        snprintf(out, size, "X");
        break;
    case OZ_ENUM:
        snprintf(out, size, "%s", o->choices);
        break;
    case OZ_TEXT:
    case OZ_TREE:
        snprintf(out, size, "%s", o->unit ? o->unit : o->name);
        for (char *p = out; !o->unit && *p; p++) *p = (char)toupper((unsigned char)*p);
        break;
    }
    return out;
}

static void dashed(const char *name, char *out, size_t size)
{
    snprintf(out, size, "--%s", name);
    for (char *p = out; *p; p++)
        if (*p == '_') *p = '-';
}

void cli_option_spelling(const oz_option *o, char *out, size_t size)
{
    char name[64], value[256];
    dashed(o->name, name, sizeof name);
    cli_value_name(o, value, sizeof value);
    snprintf(out, size, "%s%s%s%s%s%s", o->word ? "-" : "", o->word ? o->word : "", o->word ? ", " : "", name, *value ? " " : "", value);
}

/* ---- finding ---- */
typedef struct found {
    const oz_option *option;
    void *into;
    bool common;
} found;

static bool matches(const oz_option *o, const char *name, size_t n, bool is_short)
{
    if (is_short) return o->word && n == strlen(o->word) && !strncmp(o->word, name, n);
    if (strlen(o->name) != n) return false;
    for (size_t i = 0; i < n; i++)
        if ((name[i] == '-' ? '_' : name[i]) != o->name[i]) return false;
    return true;
}

static found find(const cli *c, common *into, const char *name, size_t n, bool is_short)
{
    for (const oz_option *o = c->command->entry.options; o && o->name; o++)
        if (matches(o, name, n, is_short)) return (found){o, c->opt, false};
    for (int i = 0; i < NCOMMON; i++)
        if (takes(c->command, i) && matches(&commons[i].option, name, n, is_short)) return (found){&commons[i].option, into, true};
    return (found){0};
}

static const char usage_hint[] = "see `ounce help %s`";

static oz_status wrong(const cli *c, const char *text, const char *more)
{
    char hint[128];
    snprintf(hint, sizeof hint, usage_hint, c->command->entry.name);
    return oz_fail(OZ_ERR_KEY, hint, "ounce %s: %s%s", c->command->entry.name, text, more);
}

static oz_status unknown(const cli *c, const char *text)
{
    enum { MOST = 128 };
    const oz_option *all[MOST];
    static const char none[] = "";
    const char *names[MOST + 1];
    int own, n = cli_options(c->command, all, MOST, &own);
    for (int i = 0; i < n; i++) names[i] = all[i]->name;
    names[n] = NULL;
    char message[300], near[80];
    const char *word = text + strspn(text, "-");
    char key[64];
    snprintf(key, sizeof key, "%.*s", (int)strcspn(word, "="), word);
    int k = text[1] == '-' ? oz_nearest(key, names) : -1;
    snprintf(message, sizeof message, "there is no option %s%.60s", text[1] == '-' ? "--" : "-", key);
    if (k < 0) return wrong(c, message, none);
    dashed(names[k], near, sizeof near);
    size_t used = strlen(message);
    snprintf(message + used, sizeof message - used, "; nearest is %s", near);
    return wrong(c, message, none);
}

/* ---- setting ---- */
/* The value goes through oz_option_set with the option under its spelling on the command line, so that messages speak of --top-k. */
static oz_status set_value(cli *c, found f, const char *value)
{
    if (f.option->type == OZ_TREE) {
        const oz_node **at = (const oz_node **)(void *)((char *)f.into + f.option->at);
        oz_node *list = *at ? (oz_node *)(uintptr_t)*at : oz_node_list(c->arena);
        oz_node *item = oz_node_of_text(c->arena, value);
        if (!list || !item) return OZ_ERR_NOMEM;
        OZ_TRY(oz_node_push(list, item, c->arena));
        *at = list;
        return OZ_OK;
    }
    char name[64];
    dashed(f.option->name, name, sizeof name);
    oz_option one[2] = {*f.option, {0}};
    one[0].name = name;
    one[0].was = NULL;
    oz_entry entry = {.kind = "ounce", .name = c->command->entry.name, .options = one, .options_size = c->command->entry.options_size};
    return oz_option_set(&entry, f.into, name, value, NULL, c->arena);
}

static oz_status option_with_value(cli *c, common *into, int argc, char **argv, int *i)
{
    const char *text = argv[*i], *value = NULL;
    bool is_short = text[1] != '-';
    const char *name = text + (is_short ? 1 : 2);
    size_t n = is_short ? 1 : strcspn(name, "=");
    found f = find(c, into, name, n, is_short);
    if (!f.option) return unknown(c, text);
    if (name[n]) value = name + n + (name[n] == '=');
    if (f.option->type == OZ_FLAG) {
        if (is_short && value) return unknown(c, text);
        return set_value(c, f, value ? value : "true");
    }
    char spelled[400], message[500];
    cli_option_spelling(f.option, spelled, sizeof spelled);
    if (!value) {
        if (*i + 1 >= argc || (argv[*i + 1][0] == '-' && argv[*i + 1][1] == '-')) {
            snprintf(message, sizeof message, "a value is missing: %s", spelled);
            return wrong(c, message, "");
        }
        value = argv[++*i];
    }
    return set_value(c, f, value);
}

/* ---- common options after parsing ---- */
const char *const *cli_texts(cli *c, const oz_node *list, int *n)
{
    *n = list ? list->n : 0;
    const char **texts = oz_arena_alloc(c->arena, ((size_t)*n + 1) * sizeof *texts);
    if (!texts) {
        *n = 0;
        return NULL;
    }
    for (int i = 0; i < *n; i++) texts[i] = oz_node_text(oz_node_at(list, i), "");
    texts[*n] = NULL;
    return texts;
}

static oz_status take_common(cli *c, const common *m)
{
    const char *name = c->command->entry.name;
    c->json = m->json;
    c->quiet = m->quiet;
    c->verbose = m->verbose;
    c->out = m->output;
    c->force = m->force;
    c->resume = m->resume;
    c->dry_run = m->dry_run;
    c->threads = m->threads;
    c->fault = m->fault;
    c->set = cli_texts(c, m->set, &c->nset);
    c->tensor = cli_texts(c, m->tensor, &c->ntensor);
    c->accept = cli_texts(c, m->accept, &c->naccept);
    if (!c->set || !c->tensor || !c->accept) return OZ_ERR_NOMEM;
    uint64_t bytes;
    if (m->memory) {
        if (!oz_parse_size(m->memory, &bytes) || !bytes)
            return oz_fail(OZ_ERR_RANGE, NULL, "ounce %s: --memory must be a size like 900MB or 8GiB, got \"%s\"", name, m->memory);
        c->run.memory = (size_t)bytes;
    }
    int64_t seed = 0;
    if (m->seed && !oz_parse_i64(m->seed, 0, INT64_MAX, &seed))
        return oz_fail(OZ_ERR_RANGE, NULL, "ounce %s: --seed must be an integer, 0 or more, got \"%s\"", name, m->seed);
    c->seed = (uint64_t)seed;
    c->layer1 = -1;
    if (!m->layers) return OZ_OK;
    const char *dash = strchr(m->layers, '-');
    char first[24];
    int64_t a = 0, b = 0;
    snprintf(first, sizeof first, "%.*s", (int)(dash ? dash - m->layers : 20), m->layers);
    if (!oz_parse_i64(first, 0, 100000, &a) || (dash ? !oz_parse_i64(dash + 1, a, 100000, &b) : (b = a, false)))
        return oz_fail(OZ_ERR_RANGE, NULL, "ounce %s: --layers must be A-B with A <= B (0-1), got \"%s\"", name, m->layers);
    c->layer0 = (int)a;
    c->layer1 = (int)b;
    return OZ_OK;
}

oz_status cli_parse_budget(const char *text, double *bpw, uint64_t *bytes)
{
    *bpw = 0;
    *bytes = 0;
    size_t n = strlen(text);
    char digits[32];
    if (n > 3 && n < sizeof digits && !strcmp(text + n - 3, "bpw")) {
        memcpy(digits, text, n - 3);
        digits[n - 3] = 0;
        if (oz_parse_f64(digits, 0.01, 64, bpw)) return OZ_OK;
    } else if (oz_parse_size(text, bytes) && *bytes) {
        return OZ_OK;
    }
    return oz_fail(OZ_ERR_RANGE, NULL, "a budget is like 4.25bpw, 900MB or 8GiB, got \"%s\"", text);
}

oz_status cli_parse(cli *c, int argc, char **argv, bool *help)
{
    const oz_entry *entry = &c->command->entry;
    common m = {.seed = "0"};
    *help = false;
    /* --json and --quiet count even when the line turns out to be wrong. */
    for (int i = 0; i < argc && strcmp(argv[i], "--"); i++) {
        if (!strcmp(argv[i], "--json") && c->command->json) c->json = true;
        if (!strcmp(argv[i], "--quiet")) c->quiet = true;
    }
    c->opt = oz_arena_zalloc(c->arena, entry->options_size ? entry->options_size : 1);
    const char **args = oz_arena_alloc(c->arena, ((size_t)argc + 1) * sizeof *args);
    if (!c->opt || !args) return OZ_ERR_NOMEM;
    oz_options_init(entry, c->opt);
    bool only_args = false;
    for (int i = 0; i < argc; i++) {
        if (!only_args && !strcmp(argv[i], "--")) {
            only_args = true;
        } else if (!only_args && argv[i][0] == '-' && argv[i][1]) {
            bool seed = !strncmp(argv[i], "--seed", 6);
            OZ_TRY(option_with_value(c, &m, argc, argv, &i));
            c->has_seed |= seed;
        } else {
            args[c->narg++] = argv[i];
        }
    }
    args[c->narg] = NULL;
    c->arg = args;
    OZ_TRY(take_common(c, &m));
    *help = m.help;
    if (*help) return OZ_OK;
    char message[400];
    if (c->narg < c->command->min_args) {
        snprintf(message, sizeof message, "an argument is missing: ounce %s %.300s", entry->name, c->command->usage);
        return wrong(c, message, "");
    }
    if (c->command->max_args >= 0 && c->narg > c->command->max_args) {
        snprintf(message, sizeof message, "\"%.100s\" is one argument too many: ounce %s %.200s", args[c->command->max_args], entry->name,
                 c->command->usage);
        return wrong(c, message, "");
    }
    return OZ_OK;
}

/* help.c: `ounce help ...`: prints what the declarations say: subcommands, techniques of every kind, man pages, completions. */
#include "cli/cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MOST_OPTIONS 128
#define WIDTH        100

typedef struct help_options {
    const char *man, *needs, *write;
    int completion;
} help_options;

#define AT(f) offsetof(help_options, f)
static const oz_option options[] = {
    {.name = "needs", .type = OZ_TEXT, .at = AT(needs), .unit = "WHAT", .brief = "of a list: only what needs this (hessian)"},
    {.name = "man", .type = OZ_TEXT, .at = AT(man), .unit = "SUBCOMMAND", .brief = "print a man page; `ounce` is the page of the whole"},
    {.name = "completion",
     .type = OZ_ENUM,
     .at = AT(completion),
     .choices = "none|bash|zsh|fish",
     .brief = "print the completion of a shell"},
    {.name = "write", .type = OZ_TEXT, .at = AT(write), .unit = "DIR", .brief = "write all man pages and completions into a directory"},
    {0}};

void cli_wrap(FILE *out, const char *text, int indent, int width)
{
    int used = 0;
    while (*text) {
        if (*text == '\n') {
            fprintf(out, "\n%*s", text[1] ? indent : 0, "");
            used = 0;
            text++;
            continue;
        }
        int n = (int)strcspn(text, " \n");
        if (used && indent + used + 1 + n > width) {
            fprintf(out, "\n%*s", indent, "");
            used = 0;
        } else if (used && n) {
            fputc(' ', out);
            used++;
        }
        fprintf(out, "%.*s", n, text);
        used += n;
        text += n;
        text += strspn(text, " ");
    }
    fputc('\n', out);
}

void cli_help_commands(FILE *out)
{
    int n;
    const cli_command *const *all = cli_commands(&n);
    fprintf(out, "usage: ounce SUBCOMMAND [options]\n\nOunce makes large language models small and runs them fast on CPUs.\n\n");
    for (int i = 0; i < n; i++) fprintf(out, "  %-12s %s\n", all[i]->entry.name, all[i]->entry.brief);
    fprintf(out, "\n`ounce help SUBCOMMAND` explains one; `ounce help KIND NAME` shows the options, ranges and paper of a technique.\n");
    fprintf(out, "`ounce help KINDS` lists a kind:");
    const cli_kind *kind = cli_kinds(&n);
    for (int i = 0; i < n; i++) fprintf(out, " %s,", kind[i].plural);
    fprintf(out, " recipes.\n");
}

static void print_option(FILE *out, const oz_option *o)
{
    char spelled[400], range[200] = "";
    cli_option_spelling(o, spelled, sizeof spelled);
    if (o->word)
        fprintf(out, "  %s", spelled);
    else
        fprintf(out, "      %s", spelled);
    int used = (int)strlen(spelled) + (o->word ? 2 : 6);
    fprintf(out, used > 32 ? "\n%*s" : "%*s", used > 32 ? 34 : 34 - used, "");
    if (o->type == OZ_INT && (o->min != 0 || o->max != 0))
        snprintf(range, sizeof range, " (%.0f to %.0f%s%s, default %.0f)", o->min, o->max, o->unit ? " " : "", o->unit ? o->unit : "",
                 o->init);
    else if (o->type == OZ_REAL && (o->min != 0 || o->max != 0))
        snprintf(range, sizeof range, " (%g to %g%s%s, default %g)", o->min, o->max, o->unit ? " " : "", o->unit ? o->unit : "", o->init);
    else if (o->type == OZ_INT || o->type == OZ_REAL)
        snprintf(range, sizeof range, " (default %g)", o->init);
    else if (o->type == OZ_TEXT && o->init_text && *o->init_text)
        snprintf(range, sizeof range, " (default %s)", o->init_text);
    if (o->type == OZ_ENUM) {
        const char *p = o->choices;
        for (int k = (int)o->init; k > 0 && strchr(p, '|'); k--) p = strchr(p, '|') + 1;
        snprintf(range, sizeof range, " (default %.*s)", (int)strcspn(p, "|"), p);
    }
    char text[1024];
    snprintf(text, sizeof text, "%s%s", o->brief, range);
    cli_wrap(out, text, 34, WIDTH);
}

static void print_lines(FILE *out, const char *title, const char *lines)
{
    if (!lines) return;
    fprintf(out, "\n%s:\n", title);
    while (*lines) {
        int n = (int)strcspn(lines, "\n");
        fprintf(out, "  %.*s\n", n, lines);
        lines += n + (lines[n] == '\n');
    }
}

void cli_help_command(const cli_command *command, FILE *out)
{
    const oz_option *all[MOST_OPTIONS];
    int own, n = cli_options(command, all, MOST_OPTIONS, &own);
    fprintf(out, "usage: ounce %s%s%s [options]\n\n", command->entry.name, *command->usage ? " " : "", command->usage);
    cli_wrap(out, command->entry.brief, 0, WIDTH);
    if (command->details) {
        fputc('\n', out);
        cli_wrap(out, command->details, 0, WIDTH);
    }
    if (own) fprintf(out, "\noptions:\n");
    for (int i = 0; i < own; i++) print_option(out, all[i]);
    fprintf(out, "\ncommon options:\n");
    for (int i = own; i < n; i++) print_option(out, all[i]);
    print_lines(out, "keys of --json", command->json);
    print_lines(out, "examples", command->examples);
}

/* ---- kinds ---- */
static const cli_kind *find_kind(const char *word, bool *plural)
{
    int n;
    const cli_kind *kind = cli_kinds(&n);
    for (int i = 0; i < n; i++) {
        *plural = !strcmp(word, kind[i].plural);
        if (*plural || !strcmp(word, kind[i].name)) return &kind[i];
    }
    return NULL;
}

static int list_kind(cli *c, const cli_kind *kind, const char *needs)
{
    bool known = false;
    const oz_entry *e;
    oz_node *list = oz_node_list(c->arena);
    cli_table *table = cli_table_new(c->arena, "lll", NULL);
    if (!list || !table) return cli_failed(c, OZ_ERR_NOMEM);
    for (int i = 0; (e = kind->entry(i)) != NULL; i++) {
        if (needs && !(kind->needs && kind->needs(i, needs, &known))) continue;
        cli_table_cell(table, "%s", e->name);
        cli_table_cell(table, "%s", e->brief ? e->brief : "");
        cli_table_cell(table, "%s", e->paper ? e->paper : "");
        oz_node *item = oz_node_map(c->arena);
        if (!item || oz_node_put(item, "name", oz_node_of_text(c->arena, e->name), c->arena) ||
            oz_node_put(item, "brief", oz_node_of_text(c->arena, e->brief ? e->brief : ""), c->arena) || oz_node_push(list, item, c->arena))
            return cli_failed(c, OZ_ERR_NOMEM);
    }
    if (needs && !known)
        return cli_refused(c, oz_fail(OZ_ERR_KEY, kind->needs ? "try hessian, mean, channel, sample" : NULL,
                                      "nothing among the %s can be asked for needing \"%s\"", kind->plural, needs));
    if (!c->json) {
        cli_table_print(table, stdout, 0);
        return cli_done(c);
    }
    oz_node *o = oz_node_map(c->arena);
    if (!o || oz_node_put(o, kind->plural, list, c->arena)) return cli_failed(c, OZ_ERR_NOMEM);
    return cli_print_json(c, o);
}

static int show_entry(cli *c, const cli_kind *kind, const char *name)
{
    enum { MOST = 512 };
    const oz_entry *all[MOST], *e;
    int n = 0;
    for (; n < MOST && (e = kind->entry(n)) != NULL; n++) {
        all[n] = e;
        if (strcmp(e->name, name)) continue;
        char *text = oz_entry_help(e);
        if (!text) return cli_failed(c, OZ_ERR_NOMEM);
        if (c->json) {
            oz_node *o = oz_node_map(c->arena);
            oz_status s = o ? oz_node_put(o, "help", oz_node_of_text(c->arena, text), c->arena) : OZ_ERR_NOMEM;
            oz_free(text);
            return cli_print_json(c, s ? NULL : o);
        }
        fputs(text, stdout);
        oz_free(text);
        static const char *const needed[] = {"hessian", "mean", "channel", "sample"};
        bool known, first = true;
        for (size_t k = 0; kind->needs && k < sizeof needed / sizeof *needed; k++)
            if (kind->needs(n, needed[k], &known)) {
                printf("%s%s", first ? "\nneeds: " : ", ", needed[k]);
                first = false;
            }
        if (!first) printf("\n");
        return cli_done(c);
    }
    return cli_refused(c, oz_unknown_name(kind->name, name, all, n, NULL));
}

static const cli_command *find_command(const char *name)
{
    int n;
    const cli_command *const *all = cli_commands(&n);
    for (int i = 0; i < n; i++)
        if (!strcmp(all[i]->entry.name, name)) return all[i];
    return NULL;
}

static int unknown_topic(cli *c, const char *word)
{
    enum { MOST = 256 };
    const char *names[MOST + 1];
    int n, k = 0;
    const cli_command *const *all = cli_commands(&n);
    for (int i = 0; i < n && k < MOST; i++) names[k++] = all[i]->entry.name;
    const cli_kind *kind = cli_kinds(&n);
    for (int i = 0; i < n && k + 1 < MOST; i++) {
        names[k++] = kind[i].name;
        names[k++] = kind[i].plural;
    }
    if (k < MOST) names[k++] = "recipes";
    names[k] = NULL;
    int near = oz_nearest(word, names);
    if (near < 0)
        return cli_refused(c, oz_fail(OZ_ERR_KEY, "`ounce help` lists subcommands and kinds", "there is no help about \"%s\"", word));
    return cli_refused(c, oz_fail(OZ_ERR_KEY, "`ounce help` lists subcommands and kinds",
                                  "there is no help about \"%s\"; nearest is \"%s\"", word, names[near]));
}

/* ---- files for an installation ---- */
static FILE *open_under(const char *dir, const char *sub, const char *name, oz_status *s)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", dir, sub);
    *s = oz_make_dirs(path);
    if (*s) return NULL;
    size_t n = strlen(path);
    snprintf(path + n, sizeof path - n, "/%s", name);
    FILE *file = fopen(path, "w");
    if (!file) *s = oz_fail(OZ_ERR_IO, NULL, "%s: cannot write: %s", path, strerror(errno));
    return file;
}

static oz_status close_written(FILE *file, const char *name, oz_status s)
{
    bool bad = ferror(file) != 0;
    if (fclose(file)) bad = true;
    return s || !bad ? s : oz_fail(OZ_ERR_IO, NULL, "%s: cannot write: %s", name, strerror(errno));
}

static oz_status write_all(const char *dir)
{
    static const struct {
        const char *shell, *sub, *name;
    } shells[] = {{"bash", "bash", "ounce"}, {"zsh", "zsh", "_ounce"}, {"fish", "fish", "ounce.fish"}};
    int n;
    oz_status s = OZ_OK;
    const cli_command *const *all = cli_commands(&n);
    for (int i = -1; !s && i < n; i++) {
        char name[128];
        snprintf(name, sizeof name, i < 0 ? "ounce.1" : "ounce-%s.1", i < 0 ? "" : all[i]->entry.name);
        FILE *file = open_under(dir, "man1", name, &s);
        if (!file) return s;
        cli_man_page(i < 0 ? NULL : all[i], file);
        s = close_written(file, name, s);
    }
    for (size_t i = 0; !s && i < sizeof shells / sizeof *shells; i++) {
        FILE *file = open_under(dir, shells[i].sub, shells[i].name, &s);
        if (!file) return s;
        cli_completion(shells[i].shell, file);
        s = close_written(file, shells[i].name, s);
    }
    return s;
}

static int run(cli *c)
{
    const help_options *opt = c->opt;
    static const char *const shells[] = {NULL, "bash", "zsh", "fish"};
    if (opt->write) {
        oz_status s = write_all(opt->write);
        return s ? cli_failed(c, s) : cli_done(c);
    }
    if (opt->completion) {
        cli_completion(shells[opt->completion], stdout);
        return cli_done(c);
    }
    if (opt->man) {
        const cli_command *command = find_command(opt->man);
        if (!command && strcmp(opt->man, "ounce")) return unknown_topic(c, opt->man);
        cli_man_page(command, stdout);
        return cli_done(c);
    }
    if (!c->narg && c->json) {
        int n;
        const cli_command *const *all = cli_commands(&n);
        oz_node *o = oz_node_map(c->arena), *list = oz_node_list(c->arena);
        bool bad = !o || !list;
        for (int i = 0; !bad && i < n; i++) bad = oz_node_push(list, oz_node_of_text(c->arena, all[i]->entry.name), c->arena) != OZ_OK;
        bad = bad || oz_node_put(o, "subcommands", list, c->arena);
        return cli_print_json(c, bad ? NULL : o);
    }
    if (!c->narg) {
        cli_help_commands(stdout);
        return cli_done(c);
    }
    if (!strcmp(c->arg[0], "recipes") || !strcmp(c->arg[0], "recipe")) return cli_help_recipe(c, c->arg[1]);
    bool plural;
    const cli_kind *kind = find_kind(c->arg[0], &plural);
    const cli_command *command = find_command(c->arg[0]);
    if (kind && c->narg == 2) return show_entry(c, kind, c->arg[1]);
    if (kind && (plural || !command)) return list_kind(c, kind, opt->needs);
    if (!command) return unknown_topic(c, c->arg[0]);
    if (c->narg > 1)
        return cli_refused(c, oz_fail(OZ_ERR_KEY, NULL, "\"%s\" is a subcommand and has no topic \"%s\"", c->arg[0], c->arg[1]));
    if (c->json) {
        oz_node *o = oz_node_map(c->arena);
        char *text = NULL;
        size_t bytes = 0;
        FILE *file = open_memstream(&text, &bytes);
        if (!file) return cli_failed(c, OZ_ERR_NOMEM);
        cli_help_command(command, file);
        oz_status s = fclose(file) || !o ? OZ_ERR_NOMEM : oz_node_put(o, "help", oz_node_of_text(c->arena, text), c->arena);
        free(text);
        return cli_print_json(c, s ? NULL : o);
    }
    cli_help_command(command, stdout);
    return cli_done(c);
}

const cli_command cli_help = {
    .entry = {.kind = "command",
              .name = "help",
              .brief = "explains subcommands and techniques",
              .options = options,
              .options_size = sizeof(help_options)},
    .usage = "[SUBCOMMAND | KINDS | KIND NAME]",
    .max_args = 2,
    .details =
        "Without arguments the subcommands are listed. KINDS lists the techniques of a kind (solvers, formats, fits, transforms ...); "
        "KIND NAME shows one: its options with range, unit and default, and the paper it follows.",
    .json = "subcommands  names, without arguments\n"
            "KINDS        [{name, brief}], of a list\n"
            "help         the text, of a subcommand or a technique",
    .examples = "ounce help quantize\nounce help solver gptq\nounce help solvers --needs hessian\nounce help --man quantize\n"
                "ounce help --completion bash",
    .run = run};

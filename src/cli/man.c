/* man.c: man pages (roff, man(7)) from the declarations. */
#include "cli/cli.h"

#include <string.h>

/* Text with what roff would read as commands escaped. */
static void roff(FILE *out, const char *text, size_t n)
{
    bool line_start = true;
    for (size_t i = 0; i < n && text[i]; i++) {
        char ch = text[i];
        if (line_start && (ch == '.' || ch == '\'')) fputs("\\&", out);
        if (ch == '\\')
            fputs("\\e", out);
        else if (ch == '-')
            fputs("\\-", out);
        else
            fputc(ch, out);
        line_start = ch == '\n';
    }
}

static void paragraphs(FILE *out, const char *text)
{
    while (text && *text) {
        const char *end = strstr(text, "\n\n");
        size_t n = end ? (size_t)(end - text) : strlen(text);
        fputs(".PP\n", out);
        roff(out, text, n);
        fputc('\n', out);
        text = end ? end + 2 : NULL;
    }
}

static void verbatim(FILE *out, const char *title, const char *text)
{
    if (!text) return;
    fprintf(out, ".SH %s\n.nf\n", title);
    roff(out, text, strlen(text));
    fputs("\n.fi\n", out);
}

static void option(FILE *out, const oz_option *o)
{
    char spelled[400];
    cli_option_spelling(o, spelled, sizeof spelled);
    fputs(".TP\n.B ", out);
    roff(out, spelled, strlen(spelled));
    fputc('\n', out);
    roff(out, o->brief, strlen(o->brief));
    if (o->type == OZ_INT || o->type == OZ_REAL) {
        if (o->min != 0 || o->max != 0) fprintf(out, "; %.12g to %.12g%s%s", o->min, o->max, o->unit ? " " : "", o->unit ? o->unit : "");
        fprintf(out, "; default %.12g", o->init);
    } else if (o->type == OZ_TEXT && o->init_text && *o->init_text) {
        fputs("; default ", out);
        roff(out, o->init_text, strlen(o->init_text));
    } else if (o->type == OZ_ENUM) {
        const char *p = o->choices;
        for (int k = (int)o->init; k > 0 && strchr(p, '|'); k--) p = strchr(p, '|') + 1;
        fputs("; default ", out);
        roff(out, p, strcspn(p, "|"));
    }
    fputs(".\n", out);
}

static void exit_status(FILE *out)
{
    static const char *const rows[][2] = {{"0", "done"},
                                          {"1", "the work failed; the message says what, where, what was expected and what to do"},
                                          {"2", "the command line or the recipe is wrong; the message names the nearest valid word"},
                                          {"3", "done, but something wants attention and is not named by --accept"},
                                          {"130", "interrupted; jobs can be resumed"}};
    fputs(".SH EXIT STATUS\n", out);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fprintf(out, ".TP\n.B %s\n", rows[i][0]);
        roff(out, rows[i][1], strlen(rows[i][1]));
        fputs(".\n", out);
    }
}

static void environment(FILE *out)
{
    static const char *const rows[][2] = {
        {"OUNCE_ISA",
         "instruction-set level to use, with those it builds on: portable, avx2, avx-vnni, avx512, avx512-vnni, amx, neon, neon-dot, i8mm"},
        {"OUNCE_DATA", "folders of texts and tasks, separated by colons"},
        {"OUNCE_MODELS", "where fetched models are kept"},
        {"OUNCE_RECIPES", "a folder of recipes, looked at first"},
        {"NO_COLOR", "when set, messages have no color"}};
    fputs(".SH ENVIRONMENT\n", out);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fprintf(out, ".TP\n.B %s\n", rows[i][0]);
        roff(out, rows[i][1], strlen(rows[i][1]));
        fputs(".\n", out);
    }
}

static void whole(FILE *out)
{
    int n;
    const cli_command *const *all = cli_commands(&n);
    fprintf(out,
            ".TH OUNCE 1 \"\" \"Ounce %s\" \"Ounce\"\n.SH NAME\nounce \\- make large language models small and run them fast on CPUs\n",
            OZ_VERSION);
    fputs(".SH SYNOPSIS\n.B ounce\n.I SUBCOMMAND\n.RI [ options ]\n.SH SUBCOMMANDS\n", out);
    for (int i = 0; i < n; i++) {
        fprintf(out, ".TP\n.BR ounce\\-");
        roff(out, all[i]->entry.name, strlen(all[i]->entry.name));
        fputs(" (1)\n", out);
        roff(out, all[i]->entry.brief, strlen(all[i]->entry.brief));
        fputs(".\n", out);
    }
    exit_status(out);
    environment(out);
}

void cli_man_page(const cli_command *command, FILE *out)
{
    enum { MOST = 128 };
    if (!command) {
        whole(out);
        return;
    }
    const oz_option *all[MOST];
    const char *name = command->entry.name;
    int own, n = cli_options(command, all, MOST, &own);
    fprintf(out, ".TH \"OUNCE\\-");
    for (const char *p = name; *p; p++) fputc(*p >= 'a' && *p <= 'z' ? *p - 'a' + 'A' : *p, out);
    fprintf(out, "\" 1 \"\" \"Ounce %s\" \"Ounce\"\n.SH NAME\nounce\\-%s \\- ", OZ_VERSION, name);
    roff(out, command->entry.brief, strlen(command->entry.brief));
    fprintf(out, "\n.SH SYNOPSIS\n.B ounce %s\n", name);
    if (*command->usage) {
        fputs(".I ", out);
        roff(out, command->usage, strlen(command->usage));
        fputc('\n', out);
    }
    fputs(".RI [ options ]\n", out);
    if (command->details) fputs(".SH DESCRIPTION\n", out);
    paragraphs(out, command->details);
    fputs(".SH OPTIONS\n", out);
    for (int i = 0; i < own; i++) option(out, all[i]);
    if (own) fputs(".SS Common options\n", out);
    for (int i = own; i < n; i++) option(out, all[i]);
    verbatim(out, "JSON", command->json);
    exit_status(out);
    verbatim(out, "EXAMPLES", command->examples);
    fputs(".SH SEE ALSO\n.BR ounce (1)\n", out);
}

/* completion.c: shell completions from the declarations: subcommands, their options, the choices of enumerated options, and the
 * kinds and names that `help` knows.  Everything else completes to files. */
#include "cli/cli.h"

#include <string.h>

#define MOST 128

/* "--top-k" */
static const char *long_name(const oz_option *o, char out[64])
{
    snprintf(out, 64, "--%s", o->name);
    for (char *p = out; *p; p++)
        if (*p == '_') *p = '-';
    return out;
}

static void words(FILE *out, const char *choices)
{
    for (; *choices; choices++) fputc(*choices == '|' ? ' ' : *choices, out);
}

static void names_of(FILE *out, const cli_kind *kind)
{
    const oz_entry *e;
    for (int i = 0; (e = kind->entry(i)) != NULL; i++) fprintf(out, "%s%s", i ? " " : "", e->name);
}

static void topics(FILE *out)
{
    int n, k;
    const cli_command *const *all = cli_commands(&n);
    for (int i = 0; i < n; i++) fprintf(out, "%s ", all[i]->entry.name);
    const cli_kind *kind = cli_kinds(&k);
    for (int i = 0; i < k; i++) fprintf(out, "%s %s ", kind[i].name, kind[i].plural);
    fputs("recipe recipes", out);
}

static void subcommands(FILE *out)
{
    int n;
    const cli_command *const *all = cli_commands(&n);
    for (int i = 0; i < n; i++) fprintf(out, "%s%s", i ? " " : "", all[i]->entry.name);
}

static void bash(FILE *out)
{
    char name[64];
    int n, k, own;
    const cli_command *const *all = cli_commands(&n);
    const cli_kind *kind = cli_kinds(&k);
    fputs("# bash completion of ounce\n_ounce() {\n    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} "
          "sub=${COMP_WORDS[1]}\n"
          "    COMPREPLY=()\n    if [ \"$COMP_CWORD\" -eq 1 ]; then\n        COMPREPLY=($(compgen -W \"",
          out);
    subcommands(out);
    fputs("\" -- \"$cur\"))\n        return\n    fi\n    case \"$sub $prev\" in\n", out);
    for (int i = 0; i < n; i++) {
        const oz_option *o[MOST];
        int count = cli_options(all[i], o, MOST, &own);
        for (int j = 0; j < count; j++) {
            if (o[j]->type != OZ_ENUM) continue;
            fprintf(out, "    '%s %s') COMPREPLY=($(compgen -W \"", all[i]->entry.name, long_name(o[j], name));
            words(out, o[j]->choices);
            fputs("\" -- \"$cur\")); return ;;\n", out);
        }
    }
    fputs("    'help help') COMPREPLY=($(compgen -W \"", out);
    topics(out);
    fputs("\" -- \"$cur\")); return ;;\n", out);
    for (int i = 0; i < k; i++) {
        fprintf(out, "    'help %s') COMPREPLY=($(compgen -W \"", kind[i].name);
        names_of(out, &kind[i]);
        fputs("\" -- \"$cur\")); return ;;\n", out);
    }
    fputs("    esac\n    case \"$cur\" in\n    -*)\n        case \"$sub\" in\n", out);
    for (int i = 0; i < n; i++) {
        const oz_option *o[MOST];
        int count = cli_options(all[i], o, MOST, &own);
        fprintf(out, "        %s) COMPREPLY=($(compgen -W \"", all[i]->entry.name);
        for (int j = 0; j < count; j++) fprintf(out, "%s%s", j ? " " : "", long_name(o[j], name));
        fputs("\" -- \"$cur\")) ;;\n", out);
    }
    fputs("        esac ;;\n    *) COMPREPLY=($(compgen -f -- \"$cur\")) ;;\n    esac\n}\ncomplete -o filenames -F _ounce ounce\n", out);
}

/* Text inside single quotes of a shell, with the characters that zsh's specs give a meaning left out. */
static void quoted(FILE *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '\'')
            fputs("'\\''", out);
        else if (*text == '[' || *text == ']' || *text == ':')
            fputc(' ', out);
        else
            fputc(*text, out);
    }
}

static void zsh(FILE *out)
{
    char name[64], value[256];
    int n, k, own;
    const cli_command *const *all = cli_commands(&n);
    const cli_kind *kind = cli_kinds(&k);
    fputs("#compdef ounce\n_ounce() {\n    local -a subcommands\n    subcommands=(\n", out);
    for (int i = 0; i < n; i++) {
        fprintf(out, "        '%s:", all[i]->entry.name);
        quoted(out, all[i]->entry.brief);
        fputs("'\n", out);
    }
    fputs("    )\n    if (( CURRENT == 2 )); then\n        _describe subcommand subcommands\n        return\n    fi\n", out);
    fputs("    if [[ $words[2] == help && CURRENT -eq 3 && $words[3] != -* ]]; then\n        compadd -- ", out);
    topics(out);
    fputs("\n        return\n    fi\n    if [[ $words[2] == help && CURRENT -eq 4 ]]; then\n        case $words[3] in\n", out);
    for (int i = 0; i < k; i++) {
        fprintf(out, "        %s) compadd -- ", kind[i].name);
        names_of(out, &kind[i]);
        fputs("; return ;;\n", out);
    }
    fputs("        esac\n    fi\n    local sub=$words[2]\n    shift words\n    (( CURRENT-- ))\n    case $sub in\n", out);
    for (int i = 0; i < n; i++) {
        const oz_option *o[MOST];
        int count = cli_options(all[i], o, MOST, &own);
        fprintf(out, "    %s) _arguments", all[i]->entry.name);
        for (int j = 0; j < count; j++) {
            fprintf(out, " \\\n        '%s%s%s[", o[j]->type == OZ_TREE ? "*" : "", long_name(o[j], name),
                    o[j]->type == OZ_FLAG ? "" : "=");
            quoted(out, o[j]->brief);
            fputc(']', out);
            if (o[j]->type == OZ_ENUM) {
                fputs(":choice:(", out);
                words(out, o[j]->choices);
                fputc(')', out);
            } else if (o[j]->type != OZ_FLAG) {
                fputc(':', out);
                quoted(out, cli_value_name(o[j], value, sizeof value));
                fputs(o[j]->type == OZ_TEXT ? ":_files" : ":", out);
            }
            fputc('\'', out);
        }
        fputs(" \\\n        '*:file:_files' ;;\n", out);
    }
    fputs("    esac\n}\n_ounce \"$@\"\n", out);
}

static void fish_option(FILE *out, const char *command, const oz_option *o)
{
    char name[64];
    fprintf(out, "complete -c ounce -n '__fish_seen_subcommand_from %s' -l %s", command, long_name(o, name) + 2);
    if (o->word && !o->word[1]) fprintf(out, " -s %s", o->word);
    if (o->type != OZ_FLAG) fputs(" -r", out);
    if (o->type == OZ_ENUM) {
        fputs(" -f -a '", out);
        words(out, o->choices);
        fputc('\'', out);
    }
    fputs(" -d '", out);
    quoted(out, o->brief);
    fputs("'\n", out);
}

static void fish(FILE *out)
{
    int n, k, own;
    const cli_command *const *all = cli_commands(&n);
    const cli_kind *kind = cli_kinds(&k);
    fputs("# fish completion of ounce\n", out);
    for (int i = 0; i < n; i++) {
        fprintf(out, "complete -c ounce -n __fish_use_subcommand -f -a %s -d '", all[i]->entry.name);
        quoted(out, all[i]->entry.brief);
        fputs("'\n", out);
    }
    for (int i = 0; i < n; i++) {
        const oz_option *o[MOST];
        int count = cli_options(all[i], o, MOST, &own);
        for (int j = 0; j < count; j++) fish_option(out, all[i]->entry.name, o[j]);
    }
    fputs("complete -c ounce -n '__fish_seen_subcommand_from help' -f -a '", out);
    topics(out);
    fputs("'\n", out);
    for (int i = 0; i < k; i++) {
        fprintf(out, "complete -c ounce -n '__fish_seen_subcommand_from help; and __fish_seen_subcommand_from %s' -f -a '", kind[i].name);
        names_of(out, &kind[i]);
        fputs("'\n", out);
    }
}

void cli_completion(const char *shell, FILE *out)
{
    if (!strcmp(shell, "bash")) bash(out);
    if (!strcmp(shell, "zsh")) zsh(out);
    if (!strcmp(shell, "fish")) fish(out);
}

/* kinds.c: the registries behind one face, for `ounce help KINDS`, `ounce help KIND NAME` and completions. */
#include "cli/cli.h"
#include "ounce/recipe.h"

#include <string.h>

static const oz_entry *verb_entry(int i)
{
    int n;
    const oz_entry *const *all = oz_verbs(&n);
    return i >= 0 && i < n ? all[i] : NULL;
}

static const oz_entry *command_entry(int i)
{
    int n;
    const cli_command *const *all = cli_commands(&n);
    return i >= 0 && i < n ? &all[i]->entry : NULL;
}

const cli_kind *cli_kinds(int *n)
{
    static const cli_kind kinds[] = {
        {"verb", "verbs", verb_entry, NULL},
        {"subcommand", "subcommands", command_entry, NULL},
    };
    *n = (int)(sizeof kinds / sizeof *kinds);
    return kinds;
}

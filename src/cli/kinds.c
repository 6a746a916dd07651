/* kinds.c: the registries behind one face, for `ounce help KINDS`, `ounce help KIND NAME` and completions. */
#include "cli/cli.h"
#include "ounce/recipe.h"

/* Registries are arrays of pointers to structs that have an oz_entry called `entry`. */
#define ENTRIES(function, type, list)                                                                                                      \
    static const oz_entry *function(int i)                                                                                                 \
    {                                                                                                                                      \
        int n;                                                                                                                             \
        const type *const *all = list(&n);                                                                                                 \
        return i >= 0 && i < n ? &all[i]->entry : NULL;                                                                                    \
    }

ENTRIES(format_entry, oz_format, oz_formats)
ENTRIES(sidecar_entry, oz_sidecar_type, oz_sidecar_types)
ENTRIES(command_entry, cli_command, cli_commands)

static const oz_entry *verb_entry(int i)
{
    int n;
    const oz_entry *const *all = oz_verbs(&n);
    return i >= 0 && i < n ? all[i] : NULL;
}

const cli_kind *cli_kinds(int *n)
{
    static const cli_kind kinds[] = {
        {"format", "formats", format_entry, NULL},
        {"sidecar", "sidecars", sidecar_entry, NULL},
        {"verb", "verbs", verb_entry, NULL},
        {"subcommand", "subcommands", command_entry, NULL},
    };
    *n = (int)(sizeof kinds / sizeof *kinds);
    return kinds;
}

/* kinds.c: the registries behind one face, for `ounce help KINDS`, `ounce help KIND NAME` and completions. */
#include "cli/cli.h"
#include "ounce/recipe.h"

#include <string.h>

/* Registries are arrays of pointers to structs that have an oz_entry called `entry`. */
#define ENTRIES(function, type, list)                                                                                                      \
    static const oz_entry *function(int i)                                                                                                 \
    {                                                                                                                                      \
        int n;                                                                                                                             \
        const type *const *all = list(&n);                                                                                                 \
        return i >= 0 && i < n ? &all[i]->entry : NULL;                                                                                    \
    }

ENTRIES(solver_entry, oz_solver, oz_solvers)
ENTRIES(fit_entry, oz_fit_type, oz_fits)
ENTRIES(format_entry, oz_format, oz_formats)
ENTRIES(transform_entry, oz_transform, oz_transforms)
ENTRIES(allocator_entry, oz_allocator, oz_allocators)
ENTRIES(sidecar_entry, oz_sidecar_type, oz_sidecar_types)
ENTRIES(command_entry, cli_command, cli_commands)

static const oz_entry *verb_entry(int i)
{
    int n;
    const oz_entry *const *all = oz_verbs(&n);
    return i >= 0 && i < n ? all[i] : NULL;
}

/* The words of --needs, and the statistics they stand for. */
static uint32_t statistic(const char *what, bool *known)
{
    static const struct {
        const char *word;
        uint32_t bit;
    } words[] = {{"hessian", OZ_WANT_H}, {"mean", OZ_WANT_MEAN}, {"channel", OZ_WANT_CHANNEL}, {"sample", OZ_WANT_SAMPLE}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcmp(what, words[i].word)) {
            *known = true;
            return words[i].bit;
        }
    *known = false;
    return 0;
}

static bool solver_needs(int i, const char *what, bool *known)
{
    int n;
    const oz_solver *const *all = oz_solvers(&n);
    return i < n && statistic(what, known) == OZ_WANT_H && (all[i]->needs & OZ_NEEDS_HESSIAN);
}

static bool fit_needs(int i, const char *what, bool *known)
{
    int n;
    const oz_fit_type *const *all = oz_fits(&n);
    return i < n && (all[i]->wants & statistic(what, known));
}

/* What a transform looks at can depend on its options; help asks with the defaults. */
static bool transform_needs(int i, const char *what, bool *known)
{
    enum { LARGEST = 1024 };
    int n;
    const oz_transform *const *all = oz_transforms(&n);
    uint32_t bit = statistic(what, known);
    union {
        char bytes[LARGEST];
        double aligned;
    } opt;
    if (i >= n || !all[i]->wants || all[i]->entry.options_size > sizeof opt) return false;
    memset(&opt, 0, sizeof opt);
    oz_options_init(&all[i]->entry, &opt);
    return (all[i]->wants(&opt) & bit) != 0;
}

const cli_kind *cli_kinds(int *n)
{
    static const cli_kind kinds[] = {
        {"format", "formats", format_entry, NULL},
        {"fit", "fits", fit_entry, fit_needs},
        {"solver", "solvers", solver_entry, solver_needs},
        {"transform", "transforms", transform_entry, transform_needs},
        {"allocator", "allocators", allocator_entry, NULL},
        {"sidecar", "sidecars", sidecar_entry, NULL},
        {"verb", "verbs", verb_entry, NULL},
        {"subcommand", "subcommands", command_entry, NULL},
    };
    *n = (int)(sizeof kinds / sizeof *kinds);
    return kinds;
}

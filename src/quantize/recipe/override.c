/* Names of passes and --set overrides, applied to the tree of a recipe before it is interpreted.
 *   "weights.format=int3@64"   key of the pass named weights
 *   "budget.bpw=3.1", "calibration.samples=8", "seed=1"   keys of the recipe's own sections
 * The value is read as YAML ('{from: 0.3, to: 0.9, step: 0.05}' is a map); text YAML cannot read ('@64') is taken literally. */
#include <stdio.h>
#include <string.h>

#include "quantize/recipe/recipe_internal.h"

/* Every pass has a name: as written, else its kind, else its verb; the second of a name gets "-2". */
oz_status oz_recipe_name_passes(oz_node *tree, const char *file, oz_arena *arena)
{
    const oz_node *passes = oz_node_get(tree, "passes");
    if (!passes) return OZ_OK;
    if (passes->kind != OZ_NODE_LIST)
        return oz_fail(OZ_ERR_PARSE, "write passes as a list: '- {do: quantize, ...}'", "%s:%d: 'passes' is not a list", file,
                       passes->line);
    for (int i = 0; i < passes->n; i++) {
        oz_node *pass = passes->item[i].value;
        if (pass->kind != OZ_NODE_MAP)
            return oz_fail(OZ_ERR_PARSE, "write it as '{do: VERB, key: value, ...}'", "%s:%d: pass %d is not a map", file, pass->line,
                           i + 1);
        const char *verb = oz_node_text(oz_node_get(pass, "do"), NULL);
        if (!verb)
            return oz_fail(OZ_ERR_KEY, "add 'do: quantize' (or transform, allocate, activations, kv)", "%s:%d: pass %d has no key 'do'",
                           file, pass->line, i + 1);
        if (oz_node_text(oz_node_get(pass, "name"), NULL)) continue;
        const char *base = oz_node_text(oz_node_get(pass, "kind"), verb);
        char *name = oz_arena_strdup(arena, base);
        for (int again = 2, clash = 1; clash && name; again++) {
            clash = 0;
            for (int j = 0; j < passes->n && !clash; j++) {
                const char *other = j == i ? NULL : oz_node_text(oz_node_get(passes->item[j].value, "name"), NULL);
                clash = other && strcmp(other, name) == 0;
            }
            if (clash) name = oz_arena_printf(arena, "%s-%d", base, again);
        }
        oz_node *text = name ? oz_node_of_text(arena, name) : NULL;
        if (!text) return OZ_ERR_NOMEM;
        OZ_TRY(oz_node_put(pass, "name", text, arena));
    }
    for (int i = 0; i < passes->n; i++)
        for (int j = 0; j < i; j++) {
            const char *a = oz_node_text(oz_node_get(passes->item[i].value, "name"), ""),
                       *b = oz_node_text(oz_node_get(passes->item[j].value, "name"), "");
            if (strcmp(a, b) == 0)
                return oz_fail(OZ_ERR_KEY, "give each pass a name of its own", "%s:%d: two passes are named \"%s\"", file,
                               passes->item[i].value->line, a);
        }
    return OZ_OK;
}

static oz_node *find_pass(const oz_node *tree, const char *name, size_t length)
{
    const oz_node *passes = oz_node_get(tree, "passes");
    for (int i = 0; passes && i < passes->n; i++) {
        const char *text = oz_node_text(oz_node_get(passes->item[i].value, "name"), "");
        if (strlen(text) == length && memcmp(text, name, length) == 0) return passes->item[i].value;
    }
    return NULL;
}

static oz_status no_such_pass(const oz_node *tree, const char *set, const char *name, oz_arena *arena)
{
    const oz_node *passes = oz_node_get(tree, "passes");
    int n = passes ? passes->n : 0;
    const char **names = oz_arena_alloc(arena, ((size_t)n + 4) * sizeof *names);
    if (!names) return OZ_ERR_NOMEM;
    int k = 0;
    for (int i = 0; i < n; i++) names[k++] = oz_node_text(oz_node_get(passes->item[i].value, "name"), "");
    names[k++] = "calibration", names[k++] = "budget", names[k++] = "seed", names[k] = NULL;
    int near = oz_nearest(name, names);
    char *list = oz_arena_strdup(arena, "");
    for (int i = 0; i < n && list; i++) list = oz_arena_printf(arena, "%s%s%s", list, i ? ", " : "", names[i]);
    return near >= 0 ? oz_fail(OZ_ERR_KEY, "the passes of this recipe are named as listed by --dry-run",
                               "--set %s: no pass is named \"%s\"; nearest is \"%s\"", set, name, names[near])
                     : oz_fail(OZ_ERR_KEY, "use --set PASS.KEY=VALUE", "--set %s: no pass is named \"%s\"; this recipe has %s", set, name,
                               list ? list : "");
}

oz_status oz_recipe_apply_sets(oz_node *tree, const char *file, const char *const *set, int nset, oz_arena *arena)
{
    (void)file;
    for (int i = 0; i < nset; i++) {
        const char *equals = strchr(set[i], '=');
        if (!equals || equals == set[i])
            return oz_fail(OZ_ERR_KEY, "write --set PASS.KEY=VALUE, as in --set weights.format=int3@64",
                           "--set %s: there is no '=' after a key", set[i]);
        oz_node *value = NULL;
        if (oz_yaml_parse(&value, equals + 1, strlen(equals + 1), "--set", arena) || !value || (value->kind == OZ_NODE_NULL && equals[1])) {
            oz_clear_message();
            value = oz_node_of_text(arena, equals + 1);
        }
        if (!value) return OZ_ERR_NOMEM;
        const char *dot = memchr(set[i], '.', (size_t)(equals - set[i]));
        const char *word_end = dot ? dot : equals;
        size_t length = (size_t)(word_end - set[i]);
        char *word = oz_arena_strndup(arena, set[i], length);
        char *key = dot ? oz_arena_strndup(arena, dot + 1, (size_t)(equals - dot - 1)) : NULL;
        if (!word || (dot && !key)) return OZ_ERR_NOMEM;
        oz_node *pass = find_pass(tree, word, length);
        if (pass) {
            if (!key || !*key)
                return oz_fail(OZ_ERR_KEY, "write --set PASS.KEY=VALUE", "--set %s: a key of pass \"%s\" is missing before '='", set[i],
                               word);
            if (strcmp(key, "do") == 0 || strcmp(key, "name") == 0)
                return oz_fail(OZ_ERR_KEY, "edit the recipe file instead", "--set %s: '%s' of a pass cannot be overridden", set[i], key);
            OZ_TRY(oz_node_put(pass, key, value, arena));
        } else if (!key && strcmp(word, "seed") == 0) {
            OZ_TRY(oz_node_put(tree, "seed", value, arena));
        } else if (key && (strcmp(word, "calibration") == 0 || strcmp(word, "budget") == 0)) {
            oz_node *section = NULL;
            for (int k = 0; k < tree->n; k++)
                if (strcmp(tree->item[k].key, word) == 0) section = tree->item[k].value;
            if (!section) {
                section = oz_node_map(arena);
                if (!section) return OZ_ERR_NOMEM;
                OZ_TRY(oz_node_put(tree, word, section, arena));
            }
            OZ_TRY(oz_node_put(section, key, value, arena));
        } else {
            return no_such_pass(tree, set[i], word, arena);
        }
    }
    return OZ_OK;
}

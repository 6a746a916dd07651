/* Recipe files: where they are found, the sections they may have, and the resolved record of one (DESIGN section 5). */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "quantize/recipe/recipe_internal.h"

static const char *const sections[] = {"name",  "paper",   "title", "class", "calibration", "paper_text", "budget",     "seed",   "passes",
                                       "model", "runtime", "serve", "codec", "audit",       "auto",       "vocabulary", "branch", NULL};
static const char *const calibration_keys[] = {"text", "samples", "length", NULL};
static const char *const budget_keys[] = {"bpw", NULL};

static oz_status check_keys(const oz_node *map, const char *const *allowed, const char *file, const char *what)
{
    for (int i = 0; map && i < map->n; i++) {
        int k = 0;
        while (allowed[k] && strcmp(allowed[k], map->item[i].key)) k++;
        if (allowed[k]) continue;
        int near = oz_nearest(map->item[i].key, allowed);
        int line = map->item[i].value->line;
        if (near >= 0)
            return oz_fail(OZ_ERR_KEY, NULL, "%s:%d: %s has no key \"%s\"; nearest is \"%s\"", file, line, what, map->item[i].key,
                           allowed[near]);
        return oz_fail(OZ_ERR_KEY, NULL, "%s:%d: %s has no key \"%s\"", file, line, what, map->item[i].key);
    }
    return OZ_OK;
}

static oz_status number_in(const oz_node *map, const char *key, double min, double max, double *out, const char *file)
{
    const oz_node *v = oz_node_get(map, key);
    if (!v) return OZ_OK;
    if (v->kind != OZ_NODE_INT && v->kind != OZ_NODE_REAL)
        return oz_fail(OZ_ERR_PARSE, NULL, "%s:%d: '%s' must be a number, found %s", file, v->line, key, oz_node_text(v, "a list or map"));
    if (v->real < min || v->real > max)
        return oz_fail(OZ_ERR_RANGE, NULL, "%s:%d: '%s' must be %g to %g, found %g", file, v->line, key, min, max, v->real);
    *out = v->real;
    return OZ_OK;
}

static oz_status interpret(oz_recipe *r)
{
    const oz_node *t = r->tree;
    OZ_TRY(check_keys(t, sections, r->file, "a recipe"));
    r->name = oz_node_text(oz_node_get(t, "name"), NULL);
    if (!r->name) return oz_fail(OZ_ERR_KEY, "add 'name: my-recipe'", "%s: key 'name' is missing", r->file);
    r->paper = oz_node_text(oz_node_get(t, "paper"), NULL);
    r->title = oz_node_text(oz_node_get(t, "title"), NULL);
    r->paper_text = oz_node_text(oz_node_get(t, "paper_text"), NULL);
    const oz_node *calibration = oz_node_get(t, "calibration"), *budget = oz_node_get(t, "budget");
    OZ_TRY(check_keys(calibration, calibration_keys, r->file, "'calibration'"));
    OZ_TRY(check_keys(budget, budget_keys, r->file, "'budget'"));
    double samples = 0, length = 2048, seed = 0;
    r->text = oz_node_text(oz_node_get(calibration, "text"), "default");
    OZ_TRY(number_in(calibration, "samples", 1, 1e7, &samples, r->file));
    OZ_TRY(number_in(calibration, "length", 2, 1e6, &length, r->file));
    OZ_TRY(number_in(budget, "bpw", 0.05, 64, &r->budget_bpw, r->file));
    const oz_node *s = oz_node_get(t, "seed");
    if (s && s->kind == OZ_NODE_TEXT && strcmp(s->text, "os") == 0) {
        if (getentropy(&r->seed, sizeof r->seed))
            return oz_fail(OZ_ERR_IO, NULL, "%s: 'seed: os' found no entropy from the system", r->file);
        r->seed &= ((uint64_t)1 << 53) - 1;
    } else {
        OZ_TRY(number_in(t, "seed", 0, 9007199254740992.0, &seed, r->file));
        r->seed = (uint64_t)seed;
    }
    r->samples = (int64_t)samples, r->length = (int64_t)length;

    const oz_node *passes = oz_node_get(t, "passes");
    r->npass = passes ? passes->n : 0;
    r->pass = oz_arena_zalloc(r->arena, ((size_t)r->npass + 1) * sizeof *r->pass);
    if (!r->pass) return OZ_ERR_NOMEM;
    for (int i = 0; i < r->npass; i++) OZ_TRY(oz_pass_read(&r->pass[i], passes->item[i].value, r->file, r->arena));
    /* "allocated" needs a pass before it that allocates */
    for (int i = 0, allocated = 0; i < r->npass; i++) {
        const oz_pass *p = &r->pass[i];
        if (p->verb == OZ_VERB_ALLOCATE && p->enabled) allocated = 1;
        if (p->verb == OZ_VERB_QUANTIZE && p->enabled && !p->spec && !allocated)
            return oz_fail(OZ_ERR_KEY, "write a format, or put a pass 'do: allocate' before it",
                           "%s:%d: pass \"%s\": format 'allocated', but no pass before it allocates", r->file, p->line, p->name);
    }
    return OZ_OK;
}

oz_status oz_recipe_parse(oz_recipe **out, const char *yaml, size_t bytes, const char *file, const char *const *set, int nset)
{
    oz_arena *arena = NULL;
    oz_node *tree = NULL;
    *out = NULL;
    OZ_TRY(oz_arena_new(&arena, 0));
    oz_recipe *r = oz_arena_zalloc(arena, sizeof *r);
    oz_status s = r ? OZ_OK : OZ_ERR_NOMEM;
    if (!s) {
        r->arena = arena;
        r->file = oz_arena_strdup(arena, file);
        s = r->file ? oz_yaml_parse(&tree, yaml, bytes, r->file, arena) : OZ_ERR_NOMEM;
    }
    if (!s && (!tree || tree->kind != OZ_NODE_MAP))
        s = oz_fail(OZ_ERR_PARSE, "a recipe begins with 'name: ...'", "%s: a recipe is a map of sections, found something else", file);
    if (!s) s = oz_recipe_name_passes(tree, r->file, arena);
    if (!s) s = oz_recipe_apply_sets(tree, r->file, set, nset, arena);
    if (!s) {
        r->tree = tree;
        s = interpret(r);
    }
    if (s) {
        oz_arena_free(arena);
        return s;
    }
    *out = r;
    return OZ_OK;
}

void oz_recipe_free(oz_recipe *r)
{
    if (r) oz_arena_free(r->arena);
}

/* Folders that hold shipped recipes: $OUNCE_RECIPES, then beside the program: the source tree's, the installed one. */
static char *recipe_folder(int i)
{
    if (i == 0) {
        const char *env = getenv("OUNCE_RECIPES");
        return oz_strdup(env ? env : "");
    }
    char exe[4096];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (n <= 0) return oz_strdup("");
    exe[n] = 0;
    char *slash = strrchr(exe, '/');
    if (slash) *slash = 0;
    return oz_format_text(i == 1 ? "%s/../../recipes" : "%s/../share/ounce/recipes", exe);
}

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

oz_status oz_recipe_names(char ***out)
{
    size_t n = 0, room = 0;
    char **names = NULL;
    *out = NULL;
    for (int f = 0; f < 3; f++) {
        char *folder = recipe_folder(f);
        DIR *d = folder && *folder ? opendir(folder) : NULL;
        oz_free(folder);
        for (struct dirent *e; d && (e = readdir(d));) {
            size_t length = strlen(e->d_name);
            if (length < 6 || strcmp(e->d_name + length - 5, ".yaml")) continue;
            if (n + 2 > room) {
                char **more = oz_realloc(names, room ? room * 2 : 32, sizeof *names);
                if (!more) break;
                names = more, room = room ? room * 2 : 32;
            }
            char *name = oz_strndup(e->d_name, length - 5);
            size_t k = 0;
            while (name && k < n && strcmp(names[k], name)) k++;
            if (name && k == n)
                names[n++] = name;
            else
                oz_free(name);
        }
        if (d) closedir(d);
    }
    if (n) qsort(names, n, sizeof *names, by_text);
    /* one block: the pointers, then the texts */
    size_t bytes = (n + 1) * sizeof *names;
    for (size_t i = 0; i < n; i++) bytes += strlen(names[i]) + 1;
    char **block = oz_alloc(bytes, 1);
    char *text = block ? (char *)(block + n + 1) : NULL;
    for (size_t i = 0; i < n; i++) {
        if (block) {
            block[i] = text;
            memcpy(text, names[i], strlen(names[i]) + 1);
            text += strlen(names[i]) + 1;
        }
        oz_free(names[i]);
    }
    oz_free(names);
    if (!block) return OZ_ERR_NOMEM;
    block[n] = NULL;
    *out = block;
    return OZ_OK;
}

oz_status oz_recipe_open(oz_recipe **out, const char *name, const char *const *set, int nset)
{
    size_t length = strlen(name);
    char *path = NULL;
    *out = NULL;
    if (strchr(name, '/') || (length > 5 && strcmp(name + length - 5, ".yaml") == 0)) {
        path = oz_strdup(name);
    } else {
        for (int f = 0; f < 3 && !path; f++) {
            char *folder = recipe_folder(f);
            char *tried = folder && *folder ? oz_format_text("%s/%s.yaml", folder, name) : NULL;
            oz_free(folder);
            if (tried && oz_path_exists(tried))
                path = tried;
            else
                oz_free(tried);
        }
        if (!path) {
            char **names = NULL;
            OZ_TRY(oz_recipe_names(&names));
            int near = oz_nearest(name, (const char *const *)names);
            oz_status s = near >= 0 ? oz_fail(OZ_ERR_KEY, "ounce help recipes lists them; a file needs a '/' or the ending .yaml",
                                              "no recipe is named \"%s\"; nearest is \"%s\"", name, names[near])
                                    : oz_fail(OZ_ERR_KEY, "ounce help recipes lists them; a file needs a '/' or the ending .yaml",
                                              "no recipe is named \"%s\"", name);
            oz_free(names);
            return s;
        }
    }
    if (!path) return OZ_ERR_NOMEM;
    char *text = NULL;
    size_t bytes = 0;
    oz_status s = oz_read_file(path, (size_t)1 << 20, &text, &bytes);
    if (!s) s = oz_recipe_parse(out, text, bytes, path, set, nset);
    oz_free(text);
    oz_free(path);
    return s;
}

static oz_status put_text(oz_node *map, const char *key, const char *text, oz_arena *arena)
{
    if (!text) return OZ_OK;
    oz_node *v = oz_node_of_text(arena, text);
    return v ? oz_node_put(map, key, v, arena) : OZ_ERR_NOMEM;
}

static oz_status resolve_pass(const oz_pass *p, oz_node *map, oz_arena *arena)
{
    const oz_entry *entry[6];
    void *opt[6];
    oz_pass_tables(p, entry, opt);
    OZ_TRY(put_text(map, "do", entry[0]->name, arena));
    OZ_TRY(put_text(map, "name", p->name, arena));
    oz_node *enabled = oz_node_of_bool(arena, p->enabled);
    if (!enabled) return OZ_ERR_NOMEM;
    OZ_TRY(oz_node_put(map, "enabled", enabled, arena));
    for (int i = 0; entry[i]; i++)
        for (const oz_option *o = entry[i]->options; o && o->name; o++) {
            const char *at = (const char *)opt[i] + o->at;
            oz_node *v = NULL;
            if (o->type == OZ_TREE) {
                const oz_node *tree = *(const oz_node *const *)(const void *)at;
                if (!tree) continue;
                v = oz_node_copy(arena, tree);
            } else {
                const char *text = o->type == OZ_TEXT ? *(const char *const *)(const void *)at : oz_option_text(o, opt[i], arena);
                if (!text) continue;
                v = oz_node_of_text(arena, text);
            }
            if (!v) return OZ_ERR_NOMEM;
            OZ_TRY(oz_node_put(map, o->name, v, arena));
        }
    return OZ_OK;
}

oz_node *oz_recipe_resolved(const oz_recipe *r, oz_arena *arena)
{
    oz_node *root = oz_node_map(arena), *list = oz_node_list(arena), *calibration = oz_node_map(arena);
    if (!root || !list || !calibration) return NULL;
    if (put_text(root, "name", r->name, arena) || put_text(root, "paper", r->paper, arena)) return NULL;
    oz_node *samples = oz_node_of_int(arena, r->samples), *length = oz_node_of_int(arena, r->length),
            *seed = oz_node_of_int(arena, (int64_t)r->seed);
    if (!samples || !length || !seed) return NULL;
    if (put_text(calibration, "text", r->text, arena) || oz_node_put(calibration, "samples", samples, arena) ||
        oz_node_put(calibration, "length", length, arena) || oz_node_put(root, "calibration", calibration, arena) ||
        oz_node_put(root, "seed", seed, arena))
        return NULL;
    if (r->budget_bpw > 0) {
        oz_node *budget = oz_node_map(arena), *bpw = oz_node_of_real(arena, r->budget_bpw);
        if (!budget || !bpw || oz_node_put(budget, "bpw", bpw, arena) || oz_node_put(root, "budget", budget, arena)) return NULL;
    }
    for (int i = 0; i < r->npass; i++) {
        oz_node *map = oz_node_map(arena);
        if (!map || resolve_pass(&r->pass[i], map, arena) || oz_node_push(list, map, arena)) return NULL;
    }
    return oz_node_put(root, "passes", list, arena) ? NULL : root;
}

const char *oz_recipe_default(double budget_bpw, const char **why)
{
    if (budget_bpw > 0 && budget_bpw < 4) {
        *why = "below 4 bits per weight: GPTQ with outlier columns spends the budget exactly";
        return "owq";
    }
    *why = "4-bit GPTQ in groups of 128 keeps the quality of the model at a quarter of its size";
    return "gptq";
}

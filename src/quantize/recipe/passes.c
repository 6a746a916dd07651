/* Reads one pass of a recipe: finds the techniques it names, then sends every key to the option table that has it.
 * A key that no table has is an error with the nearest valid key. */
#include <stdio.h>
#include <string.h>

#include "quantize/recipe/recipe_internal.h"

/* Verbs of the closed set that are known words but not built. */
static const char *const later_verbs[] = {"select-text", "prune",  "low-rank", "alternate", "tune", "train",
                                          "reinforce",   "factor", "merge",    "export",    NULL};

void oz_pass_tables(const oz_pass *p, const oz_entry *entry[6], void *opt[6])
{
    int n = 0, nverb;
    const oz_entry *const *verbs = oz_verbs(&nverb);
    entry[n] = verbs[p->verb], opt[n++] = p->opt;
    if (p->fit) entry[n] = &p->fit->entry, opt[n++] = p->fit_opt;
    if (p->solver) entry[n] = &p->solver->entry, opt[n++] = p->solver_opt;
    if (p->side) entry[n] = p->side->entry, opt[n++] = p->side_opt;
    if (p->transform) entry[n] = &p->transform->entry, opt[n++] = p->transform_opt;
    if (p->allocator) entry[n] = &p->allocator->entry, opt[n++] = p->allocator_opt;
    entry[n] = NULL, opt[n] = NULL;
}

static oz_status options_of(const oz_entry *e, void **opt, oz_arena *arena)
{
    size_t bytes = e->options_size ? e->options_size : 1;
    *opt = oz_arena_zalloc(arena, bytes);
    if (!*opt) return OZ_ERR_NOMEM;
    oz_options_init(e, *opt);
    return OZ_OK;
}

/* One lookup by name in a registry of structs that begin with an oz_entry. */
#define FIND(function, type, what, wanted, out)                                                                                            \
    do {                                                                                                                                   \
        int count_;                                                                                                                        \
        const type *const *all_ = function(&count_);                                                                                       \
        (out) = NULL;                                                                                                                      \
        for (int i_ = 0; i_ < count_; i_++)                                                                                                \
            if (strcmp(all_[i_]->entry.name, (wanted)) == 0) (out) = all_[i_];                                                             \
        if (!(out)) {                                                                                                                      \
            const oz_entry **names_ = oz_arena_alloc(arena, ((size_t)count_ + 1) * sizeof *names_);                                        \
            if (!names_) return OZ_ERR_NOMEM;                                                                                              \
            for (int i_ = 0; i_ < count_; i_++) names_[i_] = &all_[i_]->entry;                                                             \
            return oz_unknown_name((what), (wanted), names_, count_, where);                                                               \
        }                                                                                                                                  \
    } while (0)

static const oz_sidecar_hook *hook_of(const oz_spec *spec)
{
    int n;
    const oz_sidecar_hook *const *hooks = oz_sidecar_hooks(&n);
    for (int s = 0; spec && s < spec->nside; s++)
        for (int i = 0; i < n; i++)
            if (strcmp(hooks[i]->name, spec->side[s].type->entry.name) == 0) return hooks[i];
    return NULL;
}

static oz_status read_quantize(oz_pass *p, const char *where, oz_arena *arena)
{
    oz_quantize_options *o = p->opt;
    FIND(oz_fits, oz_fit_type, "fit", o->fit, p->fit);
    OZ_TRY(options_of(&p->fit->entry, &p->fit_opt, arena));
    FIND(oz_solvers, oz_solver, "solver", o->solver, p->solver);
    OZ_TRY(options_of(&p->solver->entry, &p->solver_opt, arena));
    if (strcmp(o->format, "allocated") == 0) return OZ_OK;
    oz_spec *spec = NULL;
    OZ_TRY(oz_spec_parse(&spec, o->format, where, arena));
    p->spec = spec;
    p->side = hook_of(spec);
    if (p->side) OZ_TRY(options_of(p->side->entry, &p->side_opt, arena));
    return OZ_OK;
}

/* Impossible compositions are refused when the recipe is read, with the technique's own sentence. */
static oz_status check_quantize(const oz_pass *p, const char *where)
{
    if (!p->spec) return OZ_OK;
    const char *why = p->solver->refuses ? p->solver->refuses(p->spec, p->solver_opt) : NULL;
    if (why)
        return oz_fail(OZ_ERR_UNSUPPORTED, "choose another solver or format (ounce help solvers)", "%s: solver %s refuses %s: %s", where,
                       p->solver->entry.name, p->spec->text, why);
    why = p->fit->refuses ? p->fit->refuses(p->spec, p->fit_opt) : NULL;
    if (why)
        return oz_fail(OZ_ERR_UNSUPPORTED, "choose another fit or format (ounce help fits)", "%s: fit %s refuses %s: %s", where,
                       p->fit->entry.name, p->spec->text, why);
    return OZ_OK;
}

static oz_status read_activations(oz_pass *p, const char *where, oz_arena *arena)
{
    const oz_activations_options *o = p->opt;
    p->has_act = true;
    if (strcmp(o->format, "none") == 0) return OZ_OK;
    oz_spec *spec = NULL;
    OZ_TRY(oz_spec_parse(&spec, o->format, where, arena));
    OZ_TRY(oz_act_from_spec(&p->act, spec, where));
    p->spec = spec;
    p->act.clip = (float)o->clip;
    return OZ_OK;
}

static oz_status check_kv(const oz_pass *p, const char *where)
{
    const oz_kv_options *o = p->opt;
    const char *const formats[3] = {o->format, o->k, o->v};
    for (int i = 0; i < 3; i++)
        if (formats[i] && strcmp(formats[i], "none") && strcmp(formats[i], "f16"))
            return oz_fail(OZ_ERR_UNSUPPORTED, "use format: none, or --set with this pass's .enabled=false",
                           "%s: keys and values are stored as f16 only so far; found %s", where, formats[i]);
    return OZ_OK;
}

static oz_status set_key(oz_pass *p, const char *key, const oz_node *value, const char *where, oz_arena *arena)
{
    const oz_entry *entry[6];
    void *opt[6];
    oz_pass_tables(p, entry, opt);
    bool found = false;
    for (int i = 0; entry[i]; i++)
        if (oz_option_find(entry[i], key)) {
            OZ_TRY(oz_option_set_node(entry[i], opt[i], key, value, where, arena));
            found = true;
        }
    if (found) return OZ_OK;
    const char *names[128] = {"enabled", "do", "name"};
    int n = 3;
    for (int i = 0; entry[i]; i++)
        for (const oz_option *o = entry[i]->options; o && o->name && n < 127; o++) names[n++] = o->name;
    names[n] = NULL;
    int near = oz_nearest(key, names);
    char *tables = oz_arena_strdup(arena, entry[0]->name);
    for (int i = 1; entry[i] && tables; i++) tables = oz_arena_printf(arena, "%s, %s %s", tables, entry[i]->kind, entry[i]->name);
    if (near >= 0)
        return oz_fail(OZ_ERR_KEY, "the options are listed by ounce help", "%s: no option \"%s\" (%s); nearest is \"%s\"", where, key,
                       tables ? tables : "", names[near]);
    return oz_fail(OZ_ERR_KEY, "the options are listed by ounce help", "%s: no option \"%s\" (%s)", where, key, tables ? tables : "");
}

oz_status oz_pass_read(oz_pass *p, const oz_node *node, const char *file, oz_arena *arena)
{
    const char *verb = oz_node_text(oz_node_get(node, "do"), "");
    *p = (oz_pass){.name = oz_node_text(oz_node_get(node, "name"), verb), .enabled = true, .line = node->line};
    int nverb, found = -1;
    const oz_entry *const *verbs = oz_verbs(&nverb);
    for (int i = 0; i < nverb; i++)
        if (strcmp(verbs[i]->name, verb) == 0) found = i;
    char *where = oz_arena_printf(arena, "%s:%d: pass \"%s\"", file, node->line, p->name);
    if (!where) return OZ_ERR_NOMEM;
    if (found < 0) {
        for (int i = 0; later_verbs[i]; i++)
            if (strcmp(later_verbs[i], verb) == 0)
                return oz_fail(OZ_ERR_UNSUPPORTED, "leave this pass out", "%s: the verb '%s' is not built yet", where, verb);
        return oz_unknown_name("verb", verb, verbs, nverb, where);
    }
    p->verb = (oz_verb)found;
    const oz_entry *entry = verbs[found];
    OZ_TRY(options_of(entry, &p->opt, arena));
    for (int i = 0; i < node->n; i++)
        if (oz_option_find(entry, node->item[i].key))
            OZ_TRY(oz_option_set_node(entry, p->opt, node->item[i].key, node->item[i].value, where, arena));

    if (p->verb == OZ_VERB_QUANTIZE) OZ_TRY(read_quantize(p, where, arena));
    if (p->verb == OZ_VERB_ACTIVATIONS) OZ_TRY(read_activations(p, where, arena));
    if (p->verb == OZ_VERB_TRANSFORM) {
        const oz_transform_options *o = p->opt;
        if (!o->kind) return oz_fail(OZ_ERR_KEY, "add 'kind: scale' (ounce help transforms)", "%s: key 'kind' is missing", where);
        FIND(oz_transforms, oz_transform, "transform", o->kind, p->transform);
        OZ_TRY(options_of(&p->transform->entry, &p->transform_opt, arena));
        if (!o->site) return oz_fail(OZ_ERR_KEY, "add 'site: attn.in' or a list", "%s: key 'site' is missing", where);
        if (o->learned)
            return oz_fail(OZ_ERR_UNSUPPORTED, "leave 'learned' out", "%s: learned transforms need the verb 'tune', which is not built yet",
                           where);
        if (o->online && !(p->transform->flags & OZ_TF_ONLINE))
            return oz_fail(OZ_ERR_UNSUPPORTED, "leave 'online' out", "%s: transform %s folds, it has no online form", where, o->kind);
    }
    if (p->verb == OZ_VERB_ALLOCATE) {
        const oz_allocate_options *o = p->opt;
        if (!o->kind) return oz_fail(OZ_ERR_KEY, "add 'kind: threshold' (ounce help allocators)", "%s: key 'kind' is missing", where);
        FIND(oz_allocators, oz_allocator, "allocator", o->kind, p->allocator);
        OZ_TRY(options_of(&p->allocator->entry, &p->allocator_opt, arena));
        if (strcmp(o->sensitivity, "range"))
            return oz_fail(OZ_ERR_KEY, "use sensitivity: range", "%s: no sensitivity measure \"%s\"; nearest is \"range\"", where,
                           o->sensitivity);
        if (!o->candidates || o->candidates->kind != OZ_NODE_LIST || o->candidates->n < 1)
            return oz_fail(OZ_ERR_KEY, "add 'candidates: [int4@row, int4@128]'", "%s: key 'candidates' needs a list of formats", where);
    }

    for (int i = 0; i < node->n; i++) {
        const char *key = node->item[i].key;
        const oz_node *value = node->item[i].value;
        if (strcmp(key, "do") == 0 || strcmp(key, "name") == 0) continue;
        if (strcmp(key, "enabled") == 0) {
            if (value->kind != OZ_NODE_BOOL)
                return oz_fail(OZ_ERR_RANGE, "write enabled: true or false", "%s: 'enabled' must be true or false, found %s", where,
                               oz_node_text(value, "a list or map"));
            p->enabled = oz_node_bool(value, true);
        } else if (!oz_option_find(entry, key)) {
            OZ_TRY(set_key(p, key, value, where, arena));
        }
    }
    if (p->verb == OZ_VERB_QUANTIZE && p->enabled) OZ_TRY(check_quantize(p, where));
    if (p->verb == OZ_VERB_KV && p->enabled) OZ_TRY(check_kv(p, where));
    return OZ_OK;
}

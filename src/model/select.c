/* model/select.c: role selectors of recipes over the rows of an architecture.
 *
 *   where = word *( ("," / " ") word )          a union
 *   word  = all | attn | mlp | experts | q k v o gate up down router embed head | layer:3 | layer:3-7 | a glob over names
 * all: q k v o gate up down of every block, experts included; router, embed and head only when named. */
#include "ounce/model.h"
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

static bool is_one(const char *role, const char *const *list)
{
    for (; *list; list++)
        if (!strcmp(role, *list)) return true;
    return false;
}
static const char *const all[] = {"q", "k", "v", "o", "gate", "up", "down", NULL}, *const attn[] = {"q", "k", "v", "o", NULL},
                         *const mlp[] = {"gate", "up", "down", NULL};

/* 1 chosen, 0 not, -1 the word is malformed */
static int picks(const oz_linear_row *r, const char *word)
{
    if (!strncmp(word, "layer:", 6)) {
        char *end, *second;
        long a = strtol(word + 6, &end, 10), b = a;
        if (end == word + 6 || a < 0) return -1;
        if (*end == '-') {
            second = end + 1;
            b = strtol(second, &end, 10);
            if (end == second) return -1;
        }
        if (*end || b < a) return -1;
        return r->layer >= a && r->layer <= b && is_one(r->role, all);
    }
    if (!strcmp(word, "all")) return r->layer >= 0 && is_one(r->role, all);
    if (!strcmp(word, "attn")) return is_one(r->role, attn);
    if (!strcmp(word, "mlp")) return is_one(r->role, mlp);
    if (!strcmp(word, "experts")) return r->expert >= 0;
    if (!strcmp(word, r->role)) return 1;
    return fnmatch(word, r->name, 0) == 0;
}

static oz_status choose(const oz_arch *a, const char *word, uint8_t *chosen, const char *context)
{
    static const char *const known[] = {"all",  "attn", "mlp",  "experts", "q",     "k",    "v", "o",
                                        "gate", "up",   "down", "router",  "embed", "head", NULL};
    int found = 0;
    bool head = !strcmp(word, "head") && a->head == a->embed; /* tied: the embedding's row is the head too */
    for (int i = 0; i < a->nlinear; i++) {
        int p = head ? i == a->head : picks(&a->linear[i], word);
        if (p < 0) return oz_fail(OZ_ERR_PARSE, "write layer:3 or layer:3-7", "%s: \"%s\" is not a range of layers", context, word);
        if (p) chosen[i] = 1;
        found += p;
    }
    if (found) return OZ_OK;
    if (is_one(word, known) || !strncmp(word, "layer:", 6))
        return oz_fail(OZ_ERR_KEY, NULL, "%s: \"%s\" selects no linear of this model (%s, %d layers)", context, word, a->name,
                       a->dims.layers);
    int near = oz_nearest(word, known);
    const char *hint = near >= 0 ? known[near] : "all, attn, mlp, down, embed, head, layer:3-7 or a glob over names";
    return oz_fail(OZ_ERR_KEY, hint, "%s: \"%s\" is no role and matches no linear%s%s", context, word, near >= 0 ? "; nearest is " : "",
                   near >= 0 ? known[near] : "");
}

oz_status oz_arch_select(const oz_arch *a, const char *where, uint8_t *chosen, const char *context)
{
    memset(chosen, 0, (size_t)a->nlinear);
    char *copy = oz_strdup(where), *save = NULL;
    if (!copy) return OZ_ERR_NOMEM;
    oz_status s = OZ_OK;
    int words = 0;
    for (char *w = strtok_r(copy, ", \t\n[]\"'", &save); w && !s; w = strtok_r(NULL, ", \t\n[]\"'", &save), words++)
        s = choose(a, w, chosen, context);
    oz_free(copy);
    if (!s && !words) return oz_fail(OZ_ERR_KEY, "all selects every linear of the blocks", "%s: an empty selector", context);
    return s;
}

/* option.c: the one parser and printer of option tables (ounce/option.h).  Recipes, --set, format strings, help, man pages and the
 * record in an output all pass through here, so a bound or a default is written once: in the technique's table. */
#include "ounce/io.h"

#include <limits.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HELP_COLUMNS 110

static void *field(void *opt, const oz_option *o) { return (char *)opt + o->at; }
static const void *field_of(const void *opt, const oz_option *o) { return (const char *)opt + o->at; }
static bool bounded(const oz_option *o) { return o->min != 0 || o->max != 0; }

void oz_options_init(const oz_entry *e, void *opt)
{
    if (e->options_size) memset(opt, 0, e->options_size);
    for (const oz_option *o = e->options; o && o->name; o++) {
        void *p = field(opt, o);
        switch (o->type) {
        case OZ_INT:
        case OZ_ENUM:
            *(int *)p = (int)o->init;
            break;
        case OZ_REAL:
            *(double *)p = o->init;
            break;
        case OZ_FLAG:
            *(bool *)p = o->init != 0;
            break;
        case OZ_TEXT:
            *(const char **)p = o->init_text && *o->init_text ? o->init_text : NULL;
            break;
        case OZ_TREE:
            *(const oz_node **)p = NULL;
            break;
        }
    }
}

const oz_option *oz_option_find(const oz_entry *e, const char *name)
{
    for (const oz_option *o = e->options; o && o->name; o++)
        if (!strcmp(o->name, name)) return o;
    for (const oz_option *o = e->options; o && o->name; o++)
        if (o->was && !strcmp(o->was, name)) return o;
    return NULL;
}

/* ---- messages ---- */
/* "solver gptq", after `where` and a colon when there is one. */
typedef struct place {
    char text[512];
} place;

static place place_of(const oz_entry *e, const char *where)
{
    place p;
    snprintf(p.text, sizeof p.text, "%s%s%s%s%s", where ? where : "", where && *where ? ": " : "", e->kind, e->name && *e->name ? " " : "",
             e->name ? e->name : "");
    return p;
}

static oz_status unknown_option(const oz_entry *e, const char *name, const char *where)
{
    enum { MOST = 256 };
    const char *names[MOST + 1];
    int n = 0;
    char hint[512];
    size_t used = (size_t)snprintf(hint, sizeof hint, "options are:");
    for (const oz_option *o = e->options; o && o->name && n < MOST; o++) {
        names[n++] = o->name;
        size_t left = sizeof hint - used, need = strlen(o->name) + 2;
        if (need < left) used += (size_t)snprintf(hint + used, left, "%s %s", n > 1 ? "," : "", o->name);
    }
    names[n] = NULL;
    int k = oz_nearest(name, names);
    place p = place_of(e, where);
    if (!n) return oz_fail(OZ_ERR_KEY, NULL, "%s has no options, got \"%s\"", p.text, name);
    if (k < 0) return oz_fail(OZ_ERR_KEY, hint, "%s has no option \"%s\"", p.text, name);
    return oz_fail(OZ_ERR_KEY, hint, "%s has no option \"%s\"; nearest is \"%s\"", p.text, name, names[k]);
}

/* Shortest text that reads back as the same double, in the "C" locale. */
static void real_text(double v, char *out, size_t size)
{
    locale_t c = newlocale(LC_NUMERIC_MASK, "C", (locale_t)0), before = (locale_t)0;
    if (c) before = uselocale(c);
    bool whole = v > -1e15 && v < 1e15 && v == (double)(long long)v;
    if (whole) snprintf(out, size, "%lld", (long long)v);
    for (int digits = 1; !whole && digits <= 17; digits++) {
        snprintf(out, size, "%.*g", digits, v);
        if (strtod(out, NULL) == v) break;
    }
    if (c) {
        uselocale(before);
        freelocale(c);
    }
}

/* " 1 to 4096 columns", "" when there is neither bound nor unit. */
static void range_text(const oz_option *o, char *out, size_t size)
{
    char lo[40], hi[40];
    const char *unit = o->unit ? o->unit : "", *gap = o->unit ? " " : "";
    real_text(o->min, lo, sizeof lo);
    real_text(o->max, hi, sizeof hi);
    if (bounded(o))
        snprintf(out, size, "%s to %s%s%s", lo, hi, gap, unit);
    else
        snprintf(out, size, "%s", unit);
}

static oz_status bad_number(const oz_entry *e, const oz_option *o, const char *text, const char *where, bool is_number)
{
    char range[160];
    place p = place_of(e, where);
    range_text(o, range, sizeof range);
    const char *what = o->type == OZ_INT ? "an integer" : "a number";
    if (is_number && bounded(o)) return oz_fail(OZ_ERR_RANGE, NULL, "%s: %s must be %s, got %s", p.text, o->name, range, text);
    return oz_fail(OZ_ERR_RANGE, NULL, "%s: %s must be %s%s%s, got \"%s\"", p.text, o->name, what, *range ? ", " : "", range, text);
}

/* ---- enum choices ---- */
/* Index of `text` in "a|b|c", or -1; n counts them. */
static int choice_find(const char *choices, const char *text)
{
    size_t len = strlen(text);
    int i = 0;
    for (const char *p = choices; p; i++) {
        const char *end = strchr(p, '|');
        size_t n = end ? (size_t)(end - p) : strlen(p);
        if (n == len && !memcmp(p, text, n)) return i;
        p = end ? end + 1 : NULL;
    }
    return -1;
}

static const char *choice_at(const char *choices, int index, size_t *n)
{
    const char *p = index < 0 ? NULL : choices; /* -1: no default */
    for (int i = 0; p && i < index; i++) {
        p = strchr(p, '|');
        if (p) p++;
    }
    *n = p ? strcspn(p, "|") : 0;
    return p;
}

static oz_status unknown_choice(const oz_entry *e, const oz_option *o, const char *text, const char *where)
{
    enum { MOST = 64, LENGTH = 64 };
    char words[MOST][LENGTH], hint[400];
    const char *list[MOST + 1];
    int n = 0;
    size_t len;
    for (const char *p; n < MOST && (p = choice_at(o->choices, n, &len)) != NULL; n++) {
        snprintf(words[n], LENGTH, "%.*s", (int)len, p);
        list[n] = words[n];
    }
    list[n] = NULL;
    place p = place_of(e, where);
    snprintf(hint, sizeof hint, "%s is one of %s", o->name, o->choices);
    int k = oz_nearest(text, list);
    if (k < 0) return oz_fail(OZ_ERR_RANGE, hint, "%s: %s must be one of %s, got \"%s\"", p.text, o->name, o->choices, text);
    return oz_fail(OZ_ERR_RANGE, hint, "%s: %s must be one of %s, got \"%s\"; nearest is \"%s\"", p.text, o->name, o->choices, text,
                   list[k]);
}

/* ---- setting ---- */
static bool flag_parse(const char *text, bool *out)
{
    static const char *const yes[] = {"true", "yes", "on", "1"}, *const no[] = {"false", "no", "off", "0"};
    for (size_t i = 0; i < 4; i++) {
        if (!strcmp(text, yes[i])) return *out = true, true;
        if (!strcmp(text, no[i])) return *out = false, true;
    }
    return false;
}

oz_status oz_option_set(const oz_entry *e, void *opt, const char *name, const char *text, const char *where, oz_arena *arena)
{
    const oz_option *o = oz_option_find(e, name);
    if (!o) return unknown_option(e, name, where);
    void *p = field(opt, o);
    int64_t integer;
    double real;
    switch (o->type) {
    case OZ_INT:
        if (!oz_parse_i64(text, INT64_MIN, INT64_MAX, &integer)) return bad_number(e, o, text, where, false);
        if (integer < INT_MIN || integer > INT_MAX) return bad_number(e, o, text, where, true);
        if (bounded(o) && ((double)integer < o->min || (double)integer > o->max)) return bad_number(e, o, text, where, true);
        *(int *)p = (int)integer;
        return OZ_OK;
    case OZ_REAL:
        if (!oz_parse_f64(text, -1e308, 1e308, &real)) return bad_number(e, o, text, where, false);
        if (bounded(o) && (real < o->min || real > o->max)) return bad_number(e, o, text, where, true);
        *(double *)p = real;
        return OZ_OK;
    case OZ_FLAG:
        if (!flag_parse(text, p)) {
            place q = place_of(e, where);
            return oz_fail(OZ_ERR_RANGE, NULL, "%s: %s must be true or false, got \"%s\"", q.text, o->name, text);
        }
        return OZ_OK;
    case OZ_ENUM: {
        int k = choice_find(o->choices, text);
        if (k < 0) return unknown_choice(e, o, text, where);
        *(int *)p = k;
        return OZ_OK;
    }
    case OZ_TEXT: {
        const char *copy = NULL;
        if (*text && !(copy = oz_arena_strdup(arena, text))) return OZ_ERR_NOMEM;
        *(const char **)p = copy;
        return OZ_OK;
    }
    case OZ_TREE:
        break;
    }
    place q = place_of(e, where);
    return oz_fail(OZ_ERR_KEY, "write it in a recipe file", "%s: %s is a list or a map and cannot be set from the text \"%s\"", q.text,
                   o->name, text);
}

static const char *scalar_text(const oz_node *node, char *buffer, size_t size)
{
    switch (node->kind) {
    case OZ_NODE_NULL:
        return "";
    case OZ_NODE_BOOL:
        return node->integer ? "true" : "false";
    case OZ_NODE_INT:
        snprintf(buffer, size, "%lld", (long long)node->integer);
        return buffer;
    case OZ_NODE_REAL:
        real_text(node->real, buffer, size);
        return buffer;
    case OZ_NODE_TEXT:
        return node->text;
    case OZ_NODE_LIST:
    case OZ_NODE_MAP:
        break;
    }
    return NULL;
}

oz_status oz_option_set_node(const oz_entry *e, void *opt, const char *name, const oz_node *node, const char *where, oz_arena *arena)
{
    const oz_option *o = oz_option_find(e, name);
    if (!o) return unknown_option(e, name, where);
    if (o->type == OZ_TREE) {
        *(const oz_node **)field(opt, o) = node->kind == OZ_NODE_NULL ? NULL : node;
        return OZ_OK;
    }
    char buffer[40];
    const char *text = scalar_text(node, buffer, sizeof buffer);
    /* Text options and words like `on` or `1e-2` keep their spelling in the file. */
    if (text && node->text && (o->type == OZ_TEXT || o->type == OZ_ENUM) && node->kind != OZ_NODE_NULL) text = node->text;
    if (!text) {
        place p = place_of(e, where);
        return oz_fail(OZ_ERR_RANGE, NULL, "%s: %s must be a single value, got a %s", p.text, o->name,
                       node->kind == OZ_NODE_LIST ? "list" : "map");
    }
    return oz_option_set(e, opt, name, text, where, arena);
}

/* ---- printing ---- */
/* One line of JSON, for the resolved record and the fingerprint; NULL and a message when out of memory. */
static char *tree_text(const oz_node *node, oz_arena *arena)
{
    if (!node) return oz_arena_strdup(arena, "");
    char *json = oz_json_print(node, 0);
    char *copy = json ? oz_arena_strdup(arena, json) : NULL;
    oz_free(json);
    return copy;
}

char *oz_option_text(const oz_option *o, const void *opt, oz_arena *arena)
{
    const void *p = field_of(opt, o);
    char buffer[40];
    switch (o->type) {
    case OZ_INT:
        return oz_arena_printf(arena, "%d", *(const int *)p);
    case OZ_REAL:
        real_text(*(const double *)p, buffer, sizeof buffer);
        return oz_arena_strdup(arena, buffer);
    case OZ_FLAG:
        return oz_arena_strdup(arena, *(const bool *)p ? "true" : "false");
    case OZ_ENUM: {
        size_t n;
        const char *word = choice_at(o->choices, *(const int *)p, &n);
        return oz_arena_strndup(arena, word ? word : "", n);
    }
    case OZ_TEXT: {
        const char *text = *(const char *const *)p;
        return oz_arena_strdup(arena, text ? text : "");
    }
    case OZ_TREE:
        return tree_text(*(const oz_node *const *)p, arena);
    }
    return NULL;
}

bool oz_option_is_default(const oz_option *o, const void *opt)
{
    const void *p = field_of(opt, o);
    switch (o->type) {
    case OZ_INT:
    case OZ_ENUM:
        return *(const int *)p == (int)o->init;
    case OZ_REAL:
        return *(const double *)p == o->init;
    case OZ_FLAG:
        return *(const bool *)p == (o->init != 0);
    case OZ_TEXT: {
        const char *text = *(const char *const *)p, *init = o->init_text;
        return !strcmp(text ? text : "", init ? init : "");
    }
    case OZ_TREE:
        return *(const oz_node *const *)p == NULL;
    }
    return false;
}

oz_status oz_unknown_name(const char *what, const char *name, const oz_entry *const *entries, int n, const char *where)
{
    const char **names = oz_alloc((size_t)n + 1, sizeof *names);
    if (!names) return OZ_ERR_NOMEM;
    char hint[512];
    size_t used = (size_t)snprintf(hint, sizeof hint, "known:");
    for (int i = 0; i < n; i++) {
        names[i] = entries[i]->name;
        size_t left = sizeof hint - used;
        if (strlen(names[i]) + 2 < left) used += (size_t)snprintf(hint + used, left, "%s %s", i ? "," : "", names[i]);
    }
    names[n] = NULL;
    int k = oz_nearest(name, names);
    const char *gap = where && *where ? ": " : "";
    where = where ? where : "";
    oz_status s = k < 0 ? oz_fail(OZ_ERR_KEY, hint, "%s%sthere is no %s \"%s\"", where, gap, what, name)
                        : oz_fail(OZ_ERR_KEY, hint, "%s%sthere is no %s \"%s\"; nearest is \"%s\"", where, gap, what, name, names[k]);
    oz_free(names);
    return s;
}

/* ---- help ---- */
static void kind_text(const oz_option *o, char *out, size_t size)
{
    switch (o->type) {
    case OZ_INT:
    case OZ_REAL:
        range_text(o, out, size);
        if (!bounded(o))
            snprintf(out, size, "%s%s%s", o->type == OZ_INT ? "integer" : "number", o->unit ? ", " : "", o->unit ? o->unit : "");
        return;
    case OZ_FLAG:
        snprintf(out, size, "true|false");
        return;
    case OZ_ENUM:
        snprintf(out, size, "%s", o->choices);
        return;
    case OZ_TEXT:
        snprintf(out, size, "%s", o->unit ? o->unit : "text");
        return;
    case OZ_TREE:
        snprintf(out, size, "%s", o->unit ? o->unit : "list or map");
        return;
    }
}

static void default_text(const oz_option *o, char *out, size_t size)
{
    size_t n;
    const char *word;
    switch (o->type) {
    case OZ_INT:
    case OZ_REAL:
        real_text(o->init, out, size);
        return;
    case OZ_FLAG:
        snprintf(out, size, "%s", o->init != 0 ? "true" : "false");
        return;
    case OZ_ENUM:
        word = choice_at(o->choices, (int)o->init, &n);
        snprintf(out, size, "%.*s", word ? (int)n : 1, word ? word : "-");
        return;
    case OZ_TEXT:
        snprintf(out, size, "%s", o->init_text && *o->init_text ? o->init_text : "-");
        return;
    case OZ_TREE:
        snprintf(out, size, "-");
        return;
    }
}

/* `text` in lines of at most HELP_COLUMNS, continued at column `at`. */
static void wrapped(FILE *out, const char *text, int at)
{
    int room = HELP_COLUMNS - at, used = 0;
    if (room < 30) room = 30;
    while (*text) {
        int n = (int)strcspn(text, " ");
        if (used && used + 1 + n > room) {
            fprintf(out, "\n%*s", at, "");
            used = 0;
        } else if (used) {
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

char *oz_entry_help(const oz_entry *e)
{
    char *text = NULL, kind[300], init[100];
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    if (!out) {
        oz_fail(OZ_ERR_NOMEM, NULL, "out of memory: help of %s %s", e->kind, e->name);
        return NULL;
    }
    fprintf(out, "%s %s: %s\n", e->kind, e->name, e->brief);
    if (e->paper) fprintf(out, "  paper  %s\n", e->paper);
    if (e->card) fprintf(out, "  card   %s\n", e->card);
    int name_w = 6, kind_w = 5, init_w = 7;
    for (const oz_option *o = e->options; o && o->name; o++) {
        kind_text(o, kind, sizeof kind);
        default_text(o, init, sizeof init);
        if ((int)strlen(o->name) > name_w) name_w = (int)strlen(o->name);
        if ((int)strlen(kind) > kind_w && strlen(kind) <= 32) kind_w = (int)strlen(kind);
        if ((int)strlen(init) > init_w) init_w = (int)strlen(init);
    }
    if (e->options && e->options->name)
        fprintf(out, "\n  %-*s  %-*s  %-*s  %s\n", name_w, "option", kind_w, "range", init_w, "default", "meaning");
    for (const oz_option *o = e->options; o && o->name; o++) {
        kind_text(o, kind, sizeof kind);
        default_text(o, init, sizeof init);
        if ((int)strlen(kind) > kind_w)
            fprintf(out, "  %-*s  %s\n  %*s  ", name_w, o->name, kind, name_w + 2 + kind_w, "");
        else
            fprintf(out, "  %-*s  %-*s  ", name_w, o->name, kind_w, kind);
        fprintf(out, "%-*s  ", init_w, init);
        wrapped(out, o->brief, 2 + name_w + 2 + kind_w + 2 + init_w + 2);
    }
    bool failed = ferror(out) != 0;
    if (fclose(out)) failed = true;
    if (!failed) return text;
    free(text);
    oz_fail(OZ_ERR_NOMEM, NULL, "out of memory: help of %s %s", e->kind, e->name);
    return NULL;
}

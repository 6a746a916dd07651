/* tables.c: what holds for every declared technique: its options can be set to
 * their default, lowest and highest value, refuse what lies outside, name the
 * nearest when misspelt, and the tables that meet in one pass do not clash. */
#include "ounce/recipe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static int checked;

static void check_name(const oz_entry *e, const char *name)
{
    if (!name || !*name || strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") != strlen(name) || (name != e->name && strchr(name, '-')))
        fail_msg("%s %s: \"%s\" is not a lower-case name", e->kind, e->name, name ? name : "(none)");
}

static void accepts(const oz_entry *e, void *opt, const char *name, const char *text, oz_arena *arena)
{
    if (oz_option_set(e, opt, name, text, "test", arena)) fail_msg("%s %s: %s = %s: %s", e->kind, e->name, name, text, oz_message());
}

static void refuses(const oz_entry *e, void *opt, const char *name, const char *text, const char *says, oz_arena *arena)
{
    if (!oz_option_set(e, opt, name, text, "test", arena)) fail_msg("%s %s: %s = %s was accepted", e->kind, e->name, name, text);
    if (!strstr(oz_message(), says) || strncmp(oz_message(), "test: ", 6))
        fail_msg("%s %s: %s = %s says: %s", e->kind, e->name, name, text, oz_message());
}

static void check_option(const oz_entry *e, const oz_option *o, void *opt, oz_arena *arena)
{
    static const size_t size[] = {[OZ_INT] = sizeof(int),  [OZ_REAL] = sizeof(double),       [OZ_FLAG] = sizeof(bool),
                                  [OZ_ENUM] = sizeof(int), [OZ_TEXT] = sizeof(const char *), [OZ_TREE] = sizeof(void *)};
    char text[64], misspelt[80];
    check_name(e, o->name);
    assert_true(o->at + size[o->type] <= e->options_size);
    if (!o->brief || !*o->brief) fail_msg("%s %s: option %s has no sentence", e->kind, e->name, o->name);
    for (const oz_option *p = e->options; p != o; p++)
        if (!strcmp(p->name, o->name)) fail_msg("%s %s: option %s is declared twice", e->kind, e->name, o->name);
    snprintf(misspelt, sizeof misspelt, "%sx", o->name);
    if (!oz_option_find(e, misspelt)) refuses(e, opt, misspelt, "1", "nearest is", arena);
    char *shown = oz_option_text(o, opt, arena);
    assert_non_null(shown);
    if (o->type != OZ_TREE && !(o->type == OZ_ENUM && o->init < 0)) accepts(e, opt, o->name, shown, arena);
    assert_true(oz_option_is_default(o, opt));
    if (o->was) assert_ptr_equal(oz_option_find(e, o->was), o);
    checked++;
    if (o->type == OZ_ENUM) {
        assert_non_null(o->choices);
        for (const char *p = o->choices; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL) {
            snprintf(text, sizeof text, "%.*s", (int)strcspn(p, "|"), p);
            accepts(e, opt, o->name, text, arena);
            assert_string_equal(oz_option_text(o, opt, arena), text);
        }
        refuses(e, opt, o->name, "no such choice", "must be one of", arena);
    } else if (o->type == OZ_FLAG) {
        accepts(e, opt, o->name, "true", arena);
        accepts(e, opt, o->name, "false", arena);
        refuses(e, opt, o->name, "2", "must be true or false", arena);
    } else if (o->type == OZ_INT || o->type == OZ_REAL) {
        refuses(e, opt, o->name, "abc", o->type == OZ_INT ? "must be an integer" : "must be a number", arena);
        if (o->min == 0 && o->max == 0) return;
        if (o->init < o->min || o->init > o->max) fail_msg("%s %s: default of %s is outside its bounds", e->kind, e->name, o->name);
        const double inside[] = {o->min, o->max};
        double step = o->type == OZ_INT ? 1 : 1e-3 * (1 + (o->max > 1 ? o->max : 1));
        const double outside[] = {o->min - step, o->max + step};
        for (int k = 0; k < 2; k++) {
            snprintf(text, sizeof text, "%.17g", inside[k]);
            accepts(e, opt, o->name, text, arena);
            snprintf(text, sizeof text, o->type == OZ_INT ? "%.0f" : "%.17g", outside[k]);
            if (outside[k] >= -2147483648.0) refuses(e, opt, o->name, text, "must be", arena);
        }
    }
}

static void check_entry(const oz_entry *e, const char *kind)
{
    oz_arena *arena;
    assert_int_equal(oz_arena_new(&arena, 0), OZ_OK);
    assert_string_equal(e->kind, kind);
    check_name(e, e->name);
    if (!e->brief || !*e->brief) fail_msg("%s %s has no line that says what it is", e->kind, e->name);
    void *opt = oz_arena_zalloc(arena, e->options_size + 1);
    for (const oz_option *o = e->options; o && o->name; o++) {
        oz_options_init(e, opt);
        check_option(e, o, opt, arena);
    }
    char *help = oz_entry_help(e);
    assert_non_null(help);
    assert_non_null(strstr(help, e->brief));
    oz_free(help);
    oz_arena_free(arena);
}

static void no_clash(const oz_entry *a, const oz_entry *b)
{
    for (const oz_option *o = a->options; o && o->name; o++) {
        const oz_option *p = oz_option_find(b, o->name);
        if (p) fail_msg("%s %s and %s %s meet in one pass and both have option %s", a->kind, a->name, b->kind, b->name, o->name);
    }
}

static const oz_entry *verb(const char *name)
{
    int n;
    const oz_entry *const *all = oz_verbs(&n);
    for (int i = 0; i < n; i++)
        if (!strcmp(all[i]->name, name)) return all[i];
    fail_msg("there is no verb %s", name);
    return NULL;
}

/* Of one kind: sorted, each checked, no clash with the verb whose pass it
 * joins; the same option of two has the same unit. */
static void check_kind(const char *kind, const char *of_verb, const oz_entry *const *all, int n)
{
    assert_true(n > 0);
    for (int i = 0; i < n; i++) {
        if (i && strcmp(all[i - 1]->name, all[i]->name) >= 0) fail_msg("%s %s is out of order", kind, all[i]->name);
        check_entry(all[i], kind);
        if (of_verb) no_clash(verb(of_verb), all[i]);
        for (int j = 0; j < i; j++)
            for (const oz_option *o = all[j]->options; o && o->name; o++) {
                const oz_option *p = oz_option_find(all[i], o->name);
                if (p && strcmp(p->unit ? p->unit : "", o->unit ? o->unit : ""))
                    fail_msg("%s: option %s has two units, in %s and in %s", kind, o->name, all[j]->name, all[i]->name);
            }
    }
}

#define CHECK_REGISTRY(test, type, list, kind, of_verb)                                                                                    \
    static void test(void **state)                                                                                                         \
    {                                                                                                                                      \
        (void)state;                                                                                                                       \
        int n;                                                                                                                             \
        const type *const *all = list(&n);                                                                                                 \
        const oz_entry *entries[256];                                                                                                      \
        assert_true(n <= 256);                                                                                                             \
        for (int i = 0; i < n; i++) entries[i] = &all[i]->entry;                                                                           \
        check_kind(kind, of_verb, entries, n);                                                                                             \
    }

CHECK_REGISTRY(solvers, oz_solver, oz_solvers, "solver", "quantize")
CHECK_REGISTRY(fits, oz_fit_type, oz_fits, "fit", "quantize")
CHECK_REGISTRY(formats, oz_format, oz_formats, "format", NULL)
CHECK_REGISTRY(transforms, oz_transform, oz_transforms, "transform", "transform")
CHECK_REGISTRY(allocators, oz_allocator, oz_allocators, "allocate", "allocate")
CHECK_REGISTRY(sidecar_types, oz_sidecar_type, oz_sidecar_types, "sidecar", NULL)

static void verbs(void **state)
{
    (void)state;
    int n;
    const oz_entry *const *all = oz_verbs(&n);
    for (int i = 0; i < n; i++) check_entry(all[i], "verb");
}

static void solvers_fits_and_sidecars_meet(void **state)
{
    (void)state;
    int ns, nf, nh;
    const oz_solver *const *s = oz_solvers(&ns);
    const oz_fit_type *const *f = oz_fits(&nf);
    const oz_sidecar_hook *const *h = oz_sidecar_hooks(&nh);
    for (int i = 0; i < ns; i++)
        for (int j = 0; j < nf; j++) no_clash(&s[i]->entry, &f[j]->entry);
    for (int k = 0; k < nh; k++) {
        if (!h[k]->entry) continue;
        no_clash(verb("quantize"), h[k]->entry);
        for (int i = 0; i < ns; i++) no_clash(&s[i]->entry, h[k]->entry);
        for (int j = 0; j < nf; j++) no_clash(&f[j]->entry, h[k]->entry);
    }
    print_message("%d options\n", checked);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(verbs),         cmocka_unit_test(solvers),
                                       cmocka_unit_test(fits),          cmocka_unit_test(formats),
                                       cmocka_unit_test(transforms),    cmocka_unit_test(allocators),
                                       cmocka_unit_test(sidecar_types), cmocka_unit_test(solvers_fits_and_sidecars_meet)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

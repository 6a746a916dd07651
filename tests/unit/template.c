/* template.c (test): rendered chats equal transformers' for four families' templates in small, every rule of the subset, and the standard
 * model's own; what is refused says so with its line; bounds hold. */
#include "text_common.h"

static oz_status render(const char *source, size_t bytes, const oz_node *vars, char **text, size_t *n)
{
    oz_template *t;
    OZ_TRY(oz_template_parse(&t, source, bytes, "x.jinja"));
    oz_status s = oz_template_render(t, vars, text, n);
    oz_template_free(t);
    return s;
}

static void chats(void **state)
{
    (void)state;
    oz_arena *arena;
    assert_int_equal(oz_arena_new(&arena, 0), OZ_OK);
    oz_node *root = golden("chats.json", arena), *templates;
    char *source;
    size_t bytes;
    if (oz_read_file(GOLDEN "templates.json", 1 << 20, &source, &bytes) ||
        oz_json_parse(&templates, source, bytes, "templates.json", arena))
        fail_msg("%s", oz_message());
    oz_ckpt *model = standard_model();
    oz_template *real = NULL;
    if (model && oz_template_open(&real, model)) fail_msg("%s", oz_message());
    const oz_node *cases = oz_node_get(root, "cases");
    int errors = 0;
    for (int i = 0; i < cases->n; i++) {
        const oz_node *c = oz_node_at(cases, i), *want = oz_node_get(c, "text"), *vars = oz_node_get(c, "vars");
        const char *name = oz_node_text(oz_node_get(c, "name"), "");
        const oz_node *mine = oz_node_get(templates, name);
        char *text = NULL;
        size_t n = 0;
        if (!mine && !real) continue;
        oz_status s = mine ? render(mine->text, mine->length, vars, &text, &n) : oz_template_render(real, vars, &text, &n);
        if (want && s) fail_msg("%s, case %d: %s", name, i, oz_message());
        if (want && (n != want->length || memcmp(text, want->text, n)))
            fail_msg("%s, case %d:\n%s\nexpected:\n%s", name, i, text, want->text);
        if (!want && !s) fail_msg("%s, case %d: rendered, transformers says: %s", name, i, oz_node_text(oz_node_get(c, "error"), ""));
        errors += !want;
        oz_free(text);
    }
    print_message("%d chats, %d of them refused\n", cases->n, errors);
    oz_template_free(real);
    oz_ckpt_close(model);
    oz_free(source);
    oz_arena_free(arena);
}

static void errors(void **state)
{
    (void)state;
    static const struct {
        const char *source;
        oz_status status;
        const char *message;
    } bad[] = {
        {"{% if x %}", OZ_ERR_PARSE, "x.jinja:1: the template ends where endif was expected"},
        {"a\n{{ 1 + }}", OZ_ERR_PARSE, "x.jinja:2: expected an expression, found \"}}\""},
        {"\n\n{{ x", OZ_ERR_PARSE, "x.jinja:3: the tag that begins here has no \"}}\""},
        {"{% include 'f' %}", OZ_ERR_UNSUPPORTED, "statement \"include\" is not supported"},
        {"{{ 'abc }}", OZ_ERR_PARSE, "a text that begins with ' has no end"},
        {"{{ x | shuffle }}", OZ_ERR_UNSUPPORTED, "filter \"shuffle\" is not supported"},
        {"{{ x is prime }}", OZ_ERR_UNSUPPORTED, "test \"prime\""},
        {"\n{{ x.y }}", OZ_ERR_KEY, "x.jinja:2: template: \"x\" is not defined"},
        {"{{ 'a'.encode() }}", OZ_ERR_UNSUPPORTED, "texts have no method \"encode\""},
        {"{{ ''.__class__.__mro__ }}", OZ_ERR_KEY, "\"__class__\" is not defined"},
        {"{{ open('f') }}", OZ_ERR_KEY, "\"open\" is not defined and cannot be called"},
        {"{{ raise_exception('no ' ~ 'such role') }}", OZ_ERR_POLICY, "refuses these messages: no such role"},
        {"{{ 1 // 0 }}", OZ_ERR_RANGE, "1 is divided by zero"},
        {"{{ 9223372036854775807 + 1 }}", OZ_ERR_RANGE, "beyond 64 bits"},
        {"{{ 'x' * 99999999999 }}", OZ_ERR_RANGE, "a text of more than"},
        {"{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}", OZ_ERR_RANGE, "more than "},
        {"{% set n = namespace(s='x') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}", OZ_ERR_RANGE,
         "more than 67108864 bytes"},
        {"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", OZ_ERR_RANGE, "deeper than"},
        {"{% set n = namespace() %}{% set n.n = n %}{{ n | tojson }}", OZ_ERR_RANGE, "nested deeper than"},
        {"{% set x.y = 1 %}", OZ_ERR_UNSUPPORTED, "x.y cannot be set"},
        {"{% break %}", OZ_ERR_PARSE, "\"break\" outside of a loop"},
        {"{{ \x01 }}", OZ_ERR_PARSE, "unexpected character 0x01"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char *text = NULL;
        size_t n;
        oz_status s = render(bad[i].source, strlen(bad[i].source), NULL, &text, &n);
        if (s != bad[i].status || !strstr(oz_message(), bad[i].message))
            fail_msg("\"%s\" gives %s: %s", bad[i].source, oz_status_name(s), s ? oz_message() : text);
        assert_null(text);
    }
    char deep[206] = "{{"; /* {{((( ... 1 ... )))}} */
    memset(deep + 2, '(', 100);
    deep[102] = '1';
    memset(deep + 103, ')', 100);
    strcat(deep, "}}");
    char *text = NULL;
    size_t n;
    assert_int_equal(render(deep, strlen(deep), NULL, &text, &n), OZ_ERR_RANGE);
    assert_non_null(strstr(oz_message(), "nests deeper than 64"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(chats), cmocka_unit_test(errors)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

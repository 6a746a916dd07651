/* option.c: one table read by the parser, the printer, the messages and the help. */
#include "ounce/io.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

typedef struct opts {
    int block;
    double damp, wide;
    int order;
    bool keep;
    const char *file, *text;
    const oz_node *list;
    int free_int, must;
} opts;

#define AT(f) offsetof(opts, f)
static const oz_option table[] = {
    {.name = "block",
     .type = OZ_INT,
     .at = AT(block),
     .init = 128,
     .min = 1,
     .max = 4096,
     .unit = "columns",
     .brief = "columns rounded before the rest of W is updated (B)"},
    {.name = "damp",
     .type = OZ_REAL,
     .at = AT(damp),
     .init = 0.01,
     .min = 0,
     .max = 1,
     .unit = "of mean diag H",
     .brief = "added to the diagonal of H before it is inverted (lambda), long enough a sentence to be broken into two lines",
     .was = "damp_percent"},
    {.name = "order", .type = OZ_ENUM, .at = AT(order), .init = 1, .choices = "identity|reverse|act", .brief = "which column first"},
    {.name = "keep", .type = OZ_FLAG, .at = AT(keep), .init = 1, .brief = "keep it"},
    {.name = "file", .type = OZ_TEXT, .at = AT(file), .brief = "a file"},
    {.name = "text", .type = OZ_TEXT, .at = AT(text), .init_text = "prose", .brief = "a text"},
    {.name = "list", .type = OZ_TREE, .at = AT(list), .brief = "a list"},
    {.name = "wide", .type = OZ_REAL, .at = AT(wide), .brief = "any number"},
    {.name = "must", .type = OZ_ENUM, .at = AT(must), .init = -1, .choices = "x|y", .brief = "has no default"},
    {.name = "free_int", .type = OZ_INT, .at = AT(free_int), .brief = "any"},
    {0}};
static const oz_entry entry = {.kind = "solver",
                               .name = "gptq",
                               .brief = "rounds column after column",
                               .paper = "arXiv:2210.17323",
                               .card = "gptq",
                               .options = table,
                               .options_size = sizeof(opts)};

static int setup(void **state) { return oz_arena_new((oz_arena **)state, 0); }
static int teardown(void **state)
{
    oz_arena_free(*state);
    return 0;
}

static void defaults(void **state)
{
    opts o;
    memset(&o, 0xff, sizeof o);
    oz_options_init(&entry, &o);
    assert_int_equal(o.block, 128);
    assert_true(o.damp == 0.01 && o.order == 1 && o.keep && !o.file && !o.list);
    assert_string_equal(o.text, "prose");
    for (const oz_option *p = table; p->name; p++) {
        assert_true(oz_option_is_default(p, &o));
        /* The printed form of every default parses back to it. */
        char *text = oz_option_text(p, &o, *state);
        if (p->type != OZ_TREE && *text) assert_int_equal(oz_option_set(&entry, &o, p->name, text, NULL, *state), OZ_OK);
        assert_true(oz_option_is_default(p, &o));
    }
}

static void sets_and_prints(void **state)
{
    opts o;
    oz_options_init(&entry, &o);
    static const char *const pairs[][3] = {{"block", "1", "1"},
                                           {"block", "4096", "4096"},
                                           {"damp", "0", "0"},
                                           {"damp", "1", "1"},
                                           {"damp", "1e-1", "0.1"},
                                           {"damp_percent", "0.3333333333333333", "0.3333333333333333"},
                                           {"order", "act", "act"},
                                           {"keep", "off", "false"},
                                           {"file", "a b.txt", "a b.txt"},
                                           {"free_int", "-5", "-5"},
                                           {"wide", "20", "20"},
                                           {"wide", "-1e6", "-1000000"},
                                           {"wide", "2.5e-7", "2.5e-07"},
                                           {"wide", "1e300", "1e+300"}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        assert_int_equal(oz_option_set(&entry, &o, pairs[i][0], pairs[i][1], "x", *state), OZ_OK);
        const oz_option *p = oz_option_find(&entry, pairs[i][0]);
        assert_string_equal(oz_option_text(p, &o, *state), pairs[i][2]);
        assert_false(oz_option_is_default(p, &o));
    }
    assert_int_equal(oz_option_set(&entry, &o, "file", "", "x", *state), OZ_OK);
    assert_null(o.file);
}

static void refused(void **state, const char *name, const char *text, oz_status status, const char *message)
{
    opts o, before;
    memset(&o, 0, sizeof o);
    oz_options_init(&entry, &o);
    before = o;
    assert_int_equal(oz_option_set(&entry, &o, name, text, "recipes/mine.yaml:9: pass \"weights\"", *state), status);
    assert_string_equal(oz_message(), message);
    assert_memory_equal(&o, &before, sizeof o);
}

#define W "recipes/mine.yaml:9: pass \"weights\": solver gptq"
static void messages_read_exactly(void **state)
{
    refused(state, "damp_precent", "1", OZ_ERR_KEY, W " has no option \"damp_precent\"; nearest is \"damp\"");
    assert_string_equal(oz_hint(), "options are: block, damp, order, keep, file, text, list, wide, must, free_int");
    refused(state, "zzzzzz", "1", OZ_ERR_KEY, W " has no option \"zzzzzz\"");
    refused(state, "block", "0", OZ_ERR_RANGE, W ": block must be 1 to 4096 columns, got 0");
    refused(state, "block", "4097", OZ_ERR_RANGE, W ": block must be 1 to 4096 columns, got 4097");
    refused(state, "block", "99999999999", OZ_ERR_RANGE, W ": block must be 1 to 4096 columns, got 99999999999");
    refused(state, "block", "1.5", OZ_ERR_RANGE, W ": block must be an integer, 1 to 4096 columns, got \"1.5\"");
    refused(state, "damp", "-0.001", OZ_ERR_RANGE, W ": damp must be 0 to 1 of mean diag H, got -0.001");
    refused(state, "damp", "nan", OZ_ERR_RANGE, W ": damp must be a number, 0 to 1 of mean diag H, got \"nan\"");
    refused(state, "order", "atc", OZ_ERR_RANGE, W ": order must be one of identity|reverse|act, got \"atc\"; nearest is \"act\"");
    refused(state, "keep", "maybe", OZ_ERR_RANGE, W ": keep must be true or false, got \"maybe\"");
    refused(state, "list", "1", OZ_ERR_KEY, W ": list is a list or a map and cannot be set from the text \"1\"");
    refused(state, "free_int", "99999999999", OZ_ERR_RANGE, W ": free_int must be an integer, got \"99999999999\"");
    const oz_entry bare = {.kind = "solver", .name = "rtn", .brief = "rounds"};
    assert_int_equal(oz_option_set(&bare, NULL, "x", "1", NULL, *state), OZ_ERR_KEY);
    assert_string_equal(oz_message(), "solver rtn has no options, got \"x\"");
}

static void from_nodes(void **state)
{
    opts o;
    oz_options_init(&entry, &o);
    oz_node *list = NULL, *map = NULL;
    static const char json[] = "[1, {\"a\": \"b\\\"c\"}, null, 0.5]";
    assert_int_equal(oz_json_parse(&list, json, strlen(json), "test", *state), OZ_OK);
    assert_int_equal(oz_option_set_node(&entry, &o, "list", list, "x", *state), OZ_OK);
    assert_ptr_equal(o.list, list);
    oz_node *back = NULL;
    char *text = oz_option_text(oz_option_find(&entry, "list"), &o, *state);
    assert_int_equal(oz_json_parse(&back, text, strlen(text), "printed", *state), OZ_OK);
    assert_true(oz_node_equal(list, back));
    assert_int_equal(oz_option_set_node(&entry, &o, "block", list, "x", *state), OZ_ERR_RANGE);
    assert_string_equal(oz_message(), "x: solver gptq: block must be a single value, got a list");
    static const char yaml[] = "block: 64\ndamp: 1e-2\norder: act\nkeep: false\nfile: 12\n";
    assert_int_equal(oz_yaml_parse(&map, yaml, strlen(yaml), "t.yaml", *state), OZ_OK);
    for (int i = 0; i < map->n; i++)
        assert_int_equal(oz_option_set_node(&entry, &o, map->item[i].key, map->item[i].value, "x", *state), OZ_OK);
    assert_true(o.block == 64 && o.damp == 0.01 && o.order == 2 && !o.keep);
    assert_string_equal(o.file, "12");
    assert_int_equal(oz_option_set_node(&entry, &o, "keep", oz_node_of_bool(*state, true), "x", *state), OZ_OK);
    assert_true(o.keep);
    assert_int_equal(oz_option_set_node(&entry, &o, "damp", oz_node_of_real(*state, 0.125), "x", *state), OZ_OK);
    assert_true(o.damp == 0.125);
    assert_int_equal(oz_option_set_node(&entry, &o, "damp", oz_node_of_int(*state, 2), "x", *state), OZ_ERR_RANGE);
    assert_string_equal(oz_message(), "x: solver gptq: damp must be 0 to 1 of mean diag H, got 2");
}

static void unknown_names(void **state)
{
    (void)state;
    const oz_entry a = {.kind = "solver", .name = "beam"}, b = {.kind = "solver", .name = "gptq"};
    const oz_entry *const list[] = {&a, &b};
    assert_int_equal(oz_unknown_name("solver", "gtpq", list, 2, "r.yaml:3"), OZ_ERR_KEY);
    assert_string_equal(oz_message(), "r.yaml:3: there is no solver \"gtpq\"; nearest is \"gptq\"");
    assert_string_equal(oz_hint(), "known: beam, gptq");
    assert_int_equal(oz_unknown_name("solver", "xxxxxxxx", list, 2, NULL), OZ_ERR_KEY);
    assert_string_equal(oz_message(), "there is no solver \"xxxxxxxx\"");
}

static void help(void **state)
{
    (void)state;
    char *text = oz_entry_help(&entry);
    assert_non_null(text);
    static const char *const parts[] = {"solver gptq: rounds column after column\n",
                                        "  paper  arXiv:2210.17323\n",
                                        "  card   gptq\n",
                                        "  block     1 to 4096 columns      128      columns rounded before",
                                        "  order     identity|reverse|act   reverse  which column first\n",
                                        "  damp      0 to 1 of mean diag H  0.01     added",
                                        "  text      text                   prose    a text\n",
                                        "  list      list or map            -        a list\n",
                                        "  must      x|y                    -        has no default\n"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!strstr(text, parts[i])) fail_msg("help lacks: %s\n%s", parts[i], text);
    for (const char *p = text; *p; p += strcspn(p, "\n") + (p[strcspn(p, "\n")] != 0)) assert_true(strcspn(p, "\n") <= 110);
    oz_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),   cmocka_unit_test(sets_and_prints), cmocka_unit_test(messages_read_exactly),
        cmocka_unit_test(from_nodes), cmocka_unit_test(unknown_names),   cmocka_unit_test(help)};
    return cmocka_run_group_tests(tests, setup, teardown);
}

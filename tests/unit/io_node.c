/* io_node.c: the tree; JSON and YAML in and out; files and folders; the bounded reader. */
#include "unit/io_common.h"

static oz_arena *arena;

static oz_node *json(const char *text)
{
    oz_node *v = NULL;
    OK(oz_json_parse(&v, text, strlen(text), "t.json", arena));
    return v;
}

static oz_node *yaml(const char *text)
{
    oz_node *v = NULL;
    OK(oz_yaml_parse(&v, text, strlen(text), "t.yaml", arena));
    return v;
}

static void json_values(void **state)
{
    (void)state;
    oz_node *v = json("{\"a\": [1, -2.5, true, null, \"x\\u0000y\", 9223372036854775807], \"b\": {\"c\": 1e300}, \"n\": 4096.0}");
    const oz_node *a = oz_node_get(v, "a");
    assert_int_equal(a->n, 6);
    assert_int_equal(oz_node_int(oz_node_at(a, 0), 7), 1);
    assert_true(oz_node_real(oz_node_at(a, 0), 7) == 1);
    assert_true(oz_node_real(oz_node_at(a, 1), 7) == -2.5);
    assert_true(oz_node_bool(oz_node_at(a, 2), false));
    assert_int_equal(oz_node_at(a, 3)->kind, OZ_NODE_NULL);
    assert_int_equal(oz_node_at(a, 4)->length, 3);
    assert_memory_equal(oz_node_text(oz_node_at(a, 4), ""), "x\0y", 4);
    assert_true(oz_node_int(oz_node_at(a, 5), 0) == INT64_MAX);
    assert_null(oz_node_at(a, 6));
    assert_null(oz_node_at(a, -1));
    assert_null(oz_node_get(a, "a"));
    assert_true(oz_node_real(oz_node_get(oz_node_get(v, "b"), "c"), 0) == 1e300);
    assert_int_equal(oz_node_int(oz_node_get(v, "n"), 0), 4096);
    assert_int_equal(oz_node_int(oz_node_at(a, 1), 9), 9);
    assert_string_equal(oz_node_text(NULL, "other"), "other");
    /* published tokenizer files hold such a number; others of the same file stay integers */
    v = json("{\"s\": \"\\\"99999999999999999999\", \"max\": 1000000000000000019884624838656, \"n\": 12, \"low\": -9223372036854775809}");
    assert_int_equal(oz_node_get(v, "max")->kind, OZ_NODE_REAL);
    assert_true(oz_node_get(v, "max")->real == 1000000000000000019884624838656.0);
    assert_int_equal(oz_node_get(v, "low")->kind, OZ_NODE_REAL);
    assert_int_equal(oz_node_get(v, "n")->kind, OZ_NODE_INT);
    assert_string_equal(oz_node_get(v, "s")->text, "\"99999999999999999999");
}

static void json_errors(void **state)
{
    (void)state;
    oz_node *v;
    const struct {
        const char *text, *message;
    } bad[] = {
        {"{\"a\": 1, \"a\": 2}", "t.json:1:12: not JSON: duplicate object key"},
        {"{\"a\": 1,\n \"b\" 2}", "t.json:2:6: not JSON: ':' expected"},
        {"", "t.json:1:0: not JSON"},
        {"[1] x", "t.json:1:5: not JSON: end of file expected"},
        {"[\"\xff\"]", "not JSON: unable to decode byte 0xff"},
        {"[1e999]", "real number overflow"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        FAILS(oz_json_parse(&v, bad[i].text, strlen(bad[i].text), "t.json", arena), OZ_ERR_PARSE, bad[i].message);
    char deep[6001];
    memset(deep, '[', 3000);
    memset(deep + 3000, ']', 3000);
    FAILS(oz_json_parse(&v, deep, 6000, "t.json", arena), OZ_ERR_PARSE, "nested deeper than 512");
    FAILS(oz_json_parse(&v, deep + 2400, 1200, "t.json", arena), OZ_ERR_PARSE, "t.json: lists and maps are nested deeper than 512");
    OK(oz_json_parse(&v, deep + 2500, 1000, "t.json", arena));
}

static void building(void **state)
{
    (void)state;
    oz_node *m = oz_node_map(arena), *list = oz_node_list(arena);
    for (int i = 0; i < 100; i++) OK(oz_node_push(list, oz_node_of_int(arena, i), arena));
    OK(oz_node_put(m, "list", list, arena));
    OK(oz_node_put(m, "x", oz_node_of_real(arena, 0.1), arena));
    OK(oz_node_put(m, "x", oz_node_of_real(arena, 0.25), arena));
    OK(oz_node_put(m, "nan", oz_node_of_real(arena, NAN), arena));
    OK(oz_node_put(m, "t", oz_node_of_text(arena, "hello"), arena));
    OK(oz_node_put(m, "b", oz_node_of_bool(arena, true), arena));
    assert_int_equal(m->n, 5);
    assert_int_equal(oz_node_get(m, "list")->n, 100);
    assert_int_equal(oz_node_int(oz_node_at(list, 99), 0), 99);
    assert_true(oz_node_real(oz_node_get(m, "x"), 0) == 0.25);
    assert_int_equal(oz_node_get(m, "nan")->kind, OZ_NODE_NULL);
    oz_node *copy = oz_node_copy(arena, m);
    assert_true(oz_node_equal(copy, m));
    OK(oz_node_put(copy, "b", oz_node_of_bool(arena, false), arena));
    assert_false(oz_node_equal(copy, m));
    assert_true(oz_node_bool(oz_node_get(m, "b"), false));
    /* a parsed map takes more keys */
    oz_node *p = json("{\"a\": 1, \"b\": 2, \"c\": 3, \"d\": 4, \"e\": 5}");
    for (int i = 0; i < 40; i++) OK(oz_node_put(p, oz_arena_printf(arena, "k%d", i), oz_node_of_int(arena, i), arena));
    assert_int_equal(p->n, 45);
    assert_int_equal(oz_node_int(oz_node_get(p, "k39"), 0), 39);
    FAILS(oz_node_put(list, "k", m, arena), OZ_ERR_PARSE, "cannot set \"k\"");
    FAILS(oz_node_push(m, list, arena), OZ_ERR_PARSE, "is not a list");
    assert_true(oz_node_equal(json("{\"a\": 1, \"b\": 2}"), json("{\"b\": 2, \"a\": 1}")));
    assert_false(oz_node_equal(json("{\"a\": 1}"), json("{\"a\": 1.0}")));
    assert_false(oz_node_equal(json("[1, 2]"), json("[2, 1]")));
}

static void json_printing(void **state)
{
    (void)state;
    const char *text = "{\"a\": [1, -2.5, true, null, \"q\\\"\\\\\\n\\u0000\\u007f\xc3\xbc\"], \"b\": {}, \"c\": [], \"d\": 1.0, \"e\": "
                       "1e+300, \"f\": 0.1}";
    oz_node *v = json(text);
    char *line = oz_json_print(v, 0), *pretty = oz_json_print(v, 2);
    assert_string_equal(line, text);
    assert_true(oz_node_equal(json(pretty), v));
    assert_non_null(strstr(pretty, "{\n  \"a\": [\n    1,\n    -2.5,"));
    oz_free(line);
    oz_free(pretty);
    /* reals come back to the bit */
    for (int i = 0; i < 2000; i++) {
        double x = ldexp(oz_rng_normal((oz_rng){1, 2}, (uint64_t)i), i % 600 - 300);
        char *s = oz_json_print(oz_node_of_real(arena, x), 0);
        assert_true(json(s)->real == x);
        oz_free(s);
    }
    oz_node *bad = oz_node_of_text(arena, "a\xff\xc0\x80\xed\xa0\x80z");
    char *s = oz_json_print(bad, 0);
    assert_int_equal(json(s)->kind, OZ_NODE_TEXT); /* malformed bytes were replaced */
    oz_free(s);
}

static void yaml_values(void **state)
{
    (void)state;
    oz_node *v =
        yaml("# a recipe\nname: gptq\npasses:\n  - verb: quantize\n    format: int4.asym@128\n    damp: 0.01\n  - {verb: tune, steps: 100, "
             "rate: 1e-4, on: true}\nempty:\nquoted: \"12\"\nsingle: 'true'\nblock: |\n  two\n  lines\nhex: 0x1F\noctal: 0o17\nleading: "
             "010\ninf: -.inf\n"
             "version: 1.2.3\nyes: yes\nbig: 99999999999999999999\nplus: +5\n");
    assert_string_equal(oz_node_text(oz_node_get(v, "name"), ""), "gptq");
    assert_int_equal(oz_node_get(v, "name")->line, 2);
    assert_int_equal(oz_node_get(v, "name")->column, 7);
    const oz_node *passes = oz_node_get(v, "passes"), *one = oz_node_at(passes, 0), *two = oz_node_at(passes, 1);
    assert_int_equal(passes->n, 2);
    assert_int_equal(one->line, 4);
    assert_string_equal(oz_node_text(oz_node_get(one, "format"), ""), "int4.asym@128");
    assert_true(oz_node_real(oz_node_get(one, "damp"), 0) == 0.01);
    assert_string_equal(oz_node_get(one, "damp")->text, "0.01");
    assert_int_equal(oz_node_get(one, "damp")->line, 6);
    assert_int_equal(oz_node_int(oz_node_get(two, "steps"), 0), 100);
    assert_true(oz_node_real(oz_node_get(two, "rate"), 0) == 1e-4);
    assert_true(oz_node_bool(oz_node_get(two, "on"), false));
    assert_int_equal(oz_node_get(v, "empty")->kind, OZ_NODE_NULL);
    assert_int_equal(oz_node_get(v, "quoted")->kind, OZ_NODE_TEXT);
    assert_true(oz_node_get(v, "quoted")->quoted);
    assert_int_equal(oz_node_get(v, "single")->kind, OZ_NODE_TEXT);
    assert_string_equal(oz_node_text(oz_node_get(v, "block"), ""), "two\nlines\n");
    assert_int_equal(oz_node_int(oz_node_get(v, "hex"), 0), 31);
    assert_int_equal(oz_node_int(oz_node_get(v, "octal"), 0), 15);
    assert_int_equal(oz_node_int(oz_node_get(v, "leading"), 0), 10);
    assert_true(isinf(oz_node_real(oz_node_get(v, "inf"), 0)));
    assert_int_equal(oz_node_get(v, "version")->kind, OZ_NODE_TEXT);
    assert_int_equal(oz_node_get(v, "yes")->kind, OZ_NODE_TEXT);
    assert_int_equal(oz_node_get(v, "big")->kind, OZ_NODE_REAL);
    assert_int_equal(oz_node_int(oz_node_get(v, "plus"), 0), 5);
    const char *reals[] = {"5.", ".5", "+.5", "-5.e-1", "1E3", "+1.5e+2"};
    const double values[] = {5, 0.5, 0.5, -0.5, 1000, 150};
    for (int i = 0; i < 6; i++) {
        assert_int_equal(yaml(reals[i])->kind, OZ_NODE_REAL);
        assert_true(yaml(reals[i])->real == values[i]);
    }
    const char *plain[] = {".", "-", "1e", "e5", "0x", "0xg", "1_000", "12:30", "-.", "1e999"};
    for (int i = 0; i < 10; i++) {
        oz_node *list = yaml(oz_arena_printf(arena, "[%s, x]", plain[i]));
        assert_int_equal(oz_node_at(list, 0)->kind, OZ_NODE_TEXT);
    }
    assert_int_equal(yaml("")->kind, OZ_NODE_NULL);
    assert_int_equal(yaml("# nothing\n")->kind, OZ_NODE_NULL);
}

static void yaml_errors(void **state)
{
    (void)state;
    oz_node *v;
    const struct {
        const char *text, *message;
    } bad[] = {
        {"a: 1\nb: 2\na: 3\n", "t.yaml:3: key \"a\" was already set on line 1"},
        {"a: &x 1\nb: *x\n", "t.yaml:1:4: anchor \"x\" is not allowed"},
        {"a: *x\n", "alias \"x\" is not allowed"},
        {"a: !!str 1\n", "tag \"tag:yaml.org,2002:str\" is not allowed"},
        {"a: !mine {}\n", "tag \"!mine\" is not allowed"},
        {"? [1]\n: 2\n", "t.yaml:1: a list stands where a key is expected"},
        {"a: 1\n---\nb: 2\n", "t.yaml:2: a second document begins"},
        {"a: [1, 2\n", "t.yaml:2:1: not YAML: did not find expected ',' or ']'"},
        {"a:\n\t- 1\n", "t.yaml:2:1: not YAML: found character that cannot start any token"},
        {"a: \xff\n", "t.yaml: not YAML: invalid leading UTF-8 octet at byte 3"},
        {"\"a\\0b\": 1\n", "holds a NUL"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        FAILS(oz_yaml_parse(&v, bad[i].text, strlen(bad[i].text), "t.yaml", arena), OZ_ERR_PARSE, bad[i].message);
    char deep[200];
    memset(deep, '[', 100);
    memset(deep + 100, ']', 100);
    FAILS(oz_yaml_parse(&v, deep, 200, "t.yaml", arena), OZ_ERR_PARSE, "t.yaml:1: lists and maps are nested deeper than 64");
    OK(oz_yaml_parse(&v, deep + 36, 128, "t.yaml", arena));
    char *large = calloc(1, (1 << 20) + 1);
    assert_non_null(large);
    memset(large, ' ', (1 << 20) + 1);
    FAILS(oz_yaml_parse(&v, large, (1 << 20) + 1, "t.yaml", arena), OZ_ERR_RANGE, "1048577 bytes of YAML, at most 1048576");
    free(large);
}

static void yaml_printing(void **state)
{
    (void)state;
    oz_node *v = json("{\"name\": \"gptq\", \"empty\": {}, \"none\": [], \"n\": null, \"t\": true, \"numbers\": [1, 2.5, \"3\", \"\", "
                      "\"~\", \"a: b\", \"- c\", \" d\", \"e#\", \"f \"],"
                      "\"passes\": [{\"verb\": \"quantize\", \"o\": {\"damp\": 0.01, \"deep\": [[1], [2, [3]]]}}, {}, [], 7, [{\"a\": "
                      "1}]], \"odd key: \": \"x\\ny\\u0000z\","
                      "\"true\": \"false\", \"1\": \"0x10\", \"\": \"null\", \"inf\": \".inf\"}");
    char longer[1200];
    memset(longer, 'k', sizeof longer);
    longer[sizeof longer - 1] = 0;
    OK(oz_node_put(v, longer, oz_node_copy(arena, v), arena));
    char *text = oz_yaml_print(v);
    oz_node *back = yaml(text);
    if (!oz_node_equal(back, v)) fail_msg("not equal after printing:\n%s", text);
    assert_non_null(strstr(text, "name: gptq\n"));
    assert_non_null(strstr(text, "numbers: [1, 2.5, \"3\", \"\","));
    assert_non_null(strstr(text, "passes:\n  - verb: quantize\n    o:\n      damp: 0.01\n"));
    oz_free(text);
    for (int k = 0; k < 3; k++) {
        oz_node *leaf = json(k == 0 ? "3" : k == 1 ? "[]" : "\"a b\"");
        text = oz_yaml_print(leaf);
        assert_true(oz_node_equal(yaml(text), leaf));
        oz_free(text);
    }
}

static void reader(void **state)
{
    (void)state;
    const uint8_t data[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
    oz_reader r;
    oz_reader_init(&r, data, sizeof data, "f");
    assert_int_equal(oz_read_u8(&r), 1);
    assert_int_equal(oz_read_u16(&r), 0x0302);
    assert_int_equal(oz_read_u32(&r), 0x07060504);
    assert_true(oz_read_u64(&r) == 0x0f0e0d0c0b0a0908u);
    assert_int_equal(oz_reader_left(&r), 1);
    assert_null(oz_read_bytes(&r, UINT64_MAX));
    assert_true(r.failed);
    assert_int_equal(oz_read_u8(&r), 0);
    oz_reader_init(&r, NULL, 0, "f");
    assert_int_equal(oz_read_u8(&r), 0);
    assert_true(r.failed);
}

static void files(void **state)
{
    (void)state;
    char folder[64], *text;
    size_t bytes;
    io_folder(folder);
    OK(oz_make_dirs(io_path(folder, "a/b/c")));
    assert_true(oz_path_is_dir(io_path(folder, "a/b/c")));
    OK(oz_write_file(io_path(folder, "a/b/c/f"), "hello", 5));
    OK(oz_read_file(io_path(folder, "a/b/c/f"), 100, &text, &bytes));
    assert_int_equal(bytes, 5);
    assert_string_equal(text, "hello");
    oz_free(text);
    OK(oz_read_file(io_path(folder, "a/b/c/f"), 5, &text, NULL));
    oz_free(text);
    FAILS(oz_read_file(io_path(folder, "a/b/c/f"), 4, &text, &bytes), OZ_ERR_RANGE, "has 5 bytes, at most 4 are read");
    FAILS(oz_read_file(io_path(folder, "none"), 4, &text, &bytes), OZ_ERR_IO, "none: No such file");
    FAILS(oz_read_file(folder, 4, &text, &bytes), OZ_ERR_IO, "is a directory");
    FAILS(oz_make_dirs(io_path(folder, "a/b/c/f/g")), OZ_ERR_IO, "a file of that name exists");
    FAILS(oz_write_file(io_path(folder, "none/x"), "x", 1), OZ_ERR_IO, "cannot create");
    oz_file_map map;
    OK(oz_map_open(&map, io_path(folder, "a/b/c/f")));
    assert_memory_equal(map.data, "hello", 5);
    oz_map_advise_drop(map.data, map.bytes);
    oz_map_close(&map);
    OK(oz_write_file(io_path(folder, "empty"), NULL, 0));
    OK(oz_map_open(&map, io_path(folder, "empty")));
    assert_int_equal(map.bytes, 0);
    oz_map_close(&map);
    FAILS(oz_map_open(&map, folder), OZ_ERR_IO, "is a directory, expected a regular file");
    oz_map_close(&map);
    /* a link is removed, what it points to stays */
    assert_int_equal(symlink(io_path(folder, "a"), io_path(folder, "link")), 0);
    OK(oz_remove_tree(io_path(folder, "link")));
    assert_true(oz_path_exists(io_path(folder, "a/b/c/f")));
    char *joined = oz_path_join("x/", "y");
    assert_string_equal(joined, "x/y");
    oz_free(joined);
    const struct {
        const char *path, *folder;
    } f[] = {{"a", "."}, {"/a", "/"}, {"a/b", "a"}, {"/a/b/c", "/a/b"}};
    for (int i = 0; i < 4; i++) {
        char *p = oz_path_folder(f[i].path);
        assert_string_equal(p, f[i].folder);
        oz_free(p);
    }
    const char *plain[] = {"a", "..a", "...", "a.b"}, *odd[] = {"", ".", "..", "a/b", "/a"};
    for (int i = 0; i < 4; i++) assert_true(oz_plain_name(plain[i], strlen(plain[i])));
    for (int i = 0; i < 5; i++) assert_false(oz_plain_name(odd[i], strlen(odd[i])));
    io_remove(folder);
    OK(oz_remove_tree(folder)); /* already gone */
#ifdef OUNCE_FAULTS
    io_folder(folder);
    oz_fault_write(1);
    FAILS(oz_write_file(io_path(folder, "full"), "hello", 5), OZ_ERR_IO, "cannot write 5 bytes at byte 0 of");
    oz_fault_write(0);
    assert_false(oz_path_exists(io_path(folder, "full")));
    OK(oz_write_file(io_path(folder, "f"), "hello", 5));
    oz_fault_read(1);
    FAILS(oz_read_file(io_path(folder, "f"), 10, &text, &bytes), OZ_ERR_IO, "cannot read");
    oz_fault_read(0);
    assert_int_equal(rmdir(folder), -1);
    OK(oz_remove_tree(io_path(folder, "f")));
    assert_int_equal(rmdir(folder), 0); /* no temporary file is left */
#endif
}

static int setup(void **state)
{
    (void)state;
    return oz_arena_new(&arena, 0);
}

static int teardown(void **state)
{
    (void)state;
    oz_arena_free(arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(json_values),   cmocka_unit_test(json_errors), cmocka_unit_test(building),
                                       cmocka_unit_test(json_printing), cmocka_unit_test(yaml_values), cmocka_unit_test(yaml_errors),
                                       cmocka_unit_test(yaml_printing), cmocka_unit_test(reader),      cmocka_unit_test(files)};
    return cmocka_run_group_tests(tests, setup, teardown);
}

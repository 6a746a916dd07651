/* rejects.c: every file of tests/rejects/PARSER is refused with the message beside it.  A crash found by fuzzing becomes such
 * a pair; tools/oracle/make_rejects.py makes the hand-made ones. */
#include "unit/io_common.h"
#include <dirent.h>

typedef oz_status parser_fn(const void *, size_t, oz_arena *);
static oz_status safetensors(const void *p, size_t n, oz_arena *a)
{
    oz_parsed out;
    return oz_safetensors_parse(p, n, "file", a, &out);
}
static oz_status gguf(const void *p, size_t n, oz_arena *a)
{
    oz_parsed out;
    return oz_gguf_parse(p, n, "file", a, &out);
}
static oz_status json(const void *p, size_t n, oz_arena *a)
{
    oz_node *out;
    return oz_json_parse(&out, p, n, "file", a);
}
static oz_status yaml(const void *p, size_t n, oz_arena *a)
{
    oz_node *out;
    return oz_yaml_parse(&out, p, n, "file", a);
}

static void run(const char *parser, parser_fn *parse, int least)
{
    char folder[512];
    snprintf(folder, sizeof folder, OUNCE_SOURCE_DIR "/tests/rejects/%s", parser);
    DIR *d = opendir(folder);
    if (!d) fail_msg("no folder %s", folder);
    int n = 0, wrong = 0;
    for (struct dirent *e; (e = readdir(d));) {
        size_t length = strlen(e->d_name);
        if (length < 5 || strcmp(e->d_name + length - 4, ".bin")) continue;
        char name[256], *data, *want, *exact;
        size_t bytes, want_bytes;
        snprintf(name, sizeof name, "%.*s.message", (int)(length - 4), e->d_name);
        OK(oz_read_file(io_path(folder, e->d_name), 1 << 16, &data, &bytes));
        OK(oz_read_file(io_path(folder, name), 1 << 12, &want, &want_bytes));
        want[strcspn(want, "\n")] = 0;
        exact = malloc(bytes ? bytes : 1); /* no NUL behind it: a read past the end is seen */
        memcpy(exact, data, bytes);
        oz_arena *arena;
        OK(oz_arena_new(&arena, 0));
        oz_clear_message();
        oz_status status = parse(exact, bytes, arena);
        if (status == OZ_OK || status == OZ_ERR_NOMEM || !*want || !strstr(oz_message(), want) || !strstr(oz_message(), "file")) {
            print_error("%s/%s: status %s, message \"%s\", expected \"%s\"\n", parser, e->d_name, oz_status_name(status), oz_message(),
                        want);
            wrong++;
        }
        oz_arena_free(arena);
        free(exact);
        oz_free(data);
        oz_free(want);
        n++;
    }
    closedir(d);
    assert_int_equal(wrong, 0);
    assert_true(n >= least);
}

static void rejects_safetensors(void **state) { (void)state, run("safetensors", safetensors, 12); }
static void rejects_gguf(void **state) { (void)state, run("gguf", gguf, 12); }
static void rejects_json(void **state) { (void)state, run("json", json, 5); }
static void rejects_yaml(void **state) { (void)state, run("yaml", yaml, 5); }

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(rejects_safetensors), cmocka_unit_test(rejects_gguf),
                                       cmocka_unit_test(rejects_json), cmocka_unit_test(rejects_yaml)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Format strings: canonical forms, examples of the design page that exist, messages that name the string and the nearest word. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "ounce/linear.h"

static oz_arena *arena;
static int setup(void **state)
{
    (void)state;
    return oz_arena_new(&arena, 0) != OZ_OK;
}
static int teardown(void **state)
{
    (void)state;
    oz_arena_free(arena);
    return 0;
}

static void canonical(const char *text, const char *want)
{
    oz_spec *a, *b;
    if (oz_spec_parse(&a, text, NULL, arena)) fail_msg("%s: %s", text, oz_message());
    assert_string_equal(a->text, want);
    assert_int_equal(oz_spec_parse(&b, a->text, NULL, arena), OZ_OK);
    assert_true(oz_spec_equal(a, b));
}

static void examples(void **state)
{
    (void)state;
    static const char *const same[] = {"int4@128",
                                       "int4.asym@64",
                                       "int3.zf@64",
                                       "int8@row",
                                       "int2.mid@64",
                                       "gguf.q4_k",
                                       "gguf.q4_0",
                                       "f16",
                                       "f32",
                                       "bf16",
                                       "int4@2x128",
                                       "int8@token",
                                       "int8.static@tensor",
                                       "int4.asym@head",
                                       "int3.asym@row+cols(1%)",
                                       "int4@channel64",
                                       "mix(int4.asym@128|int8@128,unit=row)",
                                       "int4@128:f32",
                                       "int4.off@32:bf16",
                                       "int3.asym@row+cols(auto)",
                                       "int4.clip(0.9)@token",
                                       "int8.unit",
                                       "int4@128+cols(6:bf16)",
                                       "int4@128+cols(0.5%:f32)"};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) canonical(same[i], same[i]);
    canonical("int4@1x128:f16", "int4@128");
    canonical("int3.asym@row+cols(1.0%:f16)", "int3.asym@row+cols(1%)");
    canonical("int4.clip(1)@token", "int4@token");
    canonical("int4.sym", "int4");
    oz_spec *s;
    assert_int_equal(oz_spec_parse(&s, "int5.asym@2x64:bf16", NULL, arena), OZ_OK);
    assert_int_equal(s->group.kind, OZ_GROUP_TILE);
    assert_int_equal(s->group.rows, 2);
    assert_int_equal(s->group.cols, 64);
    assert_string_equal(s->scale, "bf16");
    assert_int_equal(oz_spec_parse(&s, "mix(int4@64|int8@64|f16,unit=row)", NULL, arena), OZ_OK);
    assert_int_equal(s->nmember, 3);
    oz_fmt f;
    assert_int_equal(oz_fmt_bind(&f, s, 8, 64, "q_proj"), OZ_ERR_UNSUPPORTED);
    assert_non_null(strstr(oz_message(), "q_proj"));
}

static void refused(const char *text, const char *part)
{
    oz_spec *s;
    oz_clear_message();
    if (!oz_spec_parse(&s, text, "recipes/mine.yaml:9: pass \"weights\"", arena)) fail_msg("%s was accepted as %s", text, s->text);
    if (!strstr(oz_message(), part)) fail_msg("%s: message \"%s\" lacks \"%s\"", text, oz_message(), part);
    if (strlen(text) < 64 && !strstr(oz_message(), text)) fail_msg("%s is not named in \"%s\"", text, oz_message());
    assert_int_equal(strncmp(oz_message(), "recipes/mine.yaml:9: pass \"weights\": ", 37), 0);
}

static void messages(void **state)
{
    (void)state;
    refused("itn4@128", "no format is called \"itn4\"; nearest is \"int4\"");
    refused("int9@128", "no format is called \"int9\"; nearest is \"int4\"");
    refused("int4.asmy@128", "int4 has no option \"asmy\"; nearest is \"asym\"");
    refused("gguf.q4_9", "gguf has no option \"q4_9\"");
    refused("gguf", "gguf names no type");
    refused("gguf.q4_0@32", "fixes its group");
    refused("int4@rwo", "no group is called \"rwo\"; nearest is \"row\"");
    refused("int4@0", "from 1 to 1073741824");
    refused("int4@99999999999", "99999999999");
    refused("int4@128:f17", "no scale type is called \"f17\"; nearest is \"f16\"");
    refused("int4@128:int8xrow", "f16, f32 or bf16");
    refused("int4@128+colls(1%)", "no sidecar is called \"colls\"; nearest is \"cols\"");
    refused("int4@128+cols(1%)+cols(2%)", "stands twice");
    refused("int4@128+cols(101%)", "between 0% and 100%");
    refused("int4@128+cols(few)", "a number of columns, a percentage or auto");
    refused("int4@128+cols(1", "parentheses");
    refused("int4@128.asym", "\"128.asym\"");
    refused("int4:f32@128", "out of place is \"@128\"");
    refused("int1@64", "one bit has no symmetric codes");
    refused("int4.clip(2)@token", "clip must be");
    refused("int4|int8", "stand inside mix");
    refused("mix(int4|int8)", "unit");
    refused("mix(int4|int8,unit=rwo)", "nearest is \"row\"");
    refused("", "no grid is named");
    refused("int4 @128", "a space");
    refused("mix(mix(mix(mix(mix(mix(int4,unit=row),unit=row),unit=row),unit=row),unit=row),unit=row)", "more than 4 deep");
    char text[2000];
    memset(text, 'a', sizeof text);
    text[1999] = 0;
    refused(text, "longer than 512");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(examples), cmocka_unit_test(messages)};
    return cmocka_run_group_tests(tests, setup, teardown);
}

/* safetensors.c: reading safetensors from memory: the example of the format's page, a file of the format's own library with
 * every element type, and what a strict reader refuses. */
#include "unit/io_common.h"

static oz_arena *arena;

static oz_status parse(const char *header, size_t data, oz_parsed *p)
{
    size_t n;
    void *image = io_safetensors(header, data, &n);
    oz_status status = oz_safetensors_parse(image, n, "t.safetensors", arena, p);
    free(image);
    return status;
}

static void worked_example(void **state)
{
    (void)state;
    static const uint8_t file[] = "\x36\0\0\0\0\0\0\0{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}\0\0\x80\x3f";
    oz_parsed p;
    OK(oz_safetensors_parse(file, sizeof file - 1, "t", arena, &p));
    assert_int_equal(sizeof file - 1, 66);
    assert_int_equal(p.ntensor, 1);
    assert_string_equal(p.tensor[0].name, "a");
    assert_int_equal(p.tensor[0].rank, 1);
    float x;
    oz_to_f32(p.tensor[0].dtype, p.tensor[0].data, &x, 1);
    assert_true(x == 1.0f);
}

static void golden(void **state)
{
    (void)state;
    oz_file_map map;
    OK(oz_map_open(&map, OUNCE_SOURCE_DIR "/tests/golden/io/all_dtypes.safetensors"));
    oz_parsed p;
    OK(oz_safetensors_parse(map.data, map.bytes, "all_dtypes.safetensors", arena, &p));
    assert_int_equal(p.ntensor, OZ_DTYPE_COUNT + 3);
    assert_string_equal(oz_node_text(oz_node_get(p.metadata, "note"), ""), "gr\xc3\xbc\xc3\x9f"
                                                                           "e");
    int seen = 0;
    for (int i = 0; i < p.ntensor; i++) {
        const oz_tensor *t = &p.tensor[i];
        assert_int_equal(t->ggml_type, OZ_GGML_NONE);
        if (!strcmp(t->name, "scalar")) {
            float x;
            assert_int_equal(t->rank, 0);
            assert_int_equal(oz_tensor_count(t), 1);
            oz_to_f32(t->dtype, t->data, &x, 1);
            assert_true(x == 5);
        } else if (!strcmp(t->name, "empty")) {
            assert_int_equal(t->bytes, 0);
            assert_int_equal(oz_tensor_count(t), 0);
        } else {
            float x[24];
            bool r4 = !strcmp(t->name, "rank4");
            int64_t n = r4 ? 24 : 15;
            if (!r4) {
                assert_string_equal(t->name, oz_safetensors_dtype(t->dtype));
                seen |= 1 << t->dtype;
                assert_int_equal(t->shape[0], 3);
                assert_int_equal(t->shape[1], 5);
            } else
                assert_int_equal(t->shape[3], 2);
            assert_int_equal(oz_tensor_count(t), n);
            oz_to_f32(t->dtype, t->data, x, n);
            for (int64_t k = 0; k < n; k++)
                if (x[k] != io_value(t->dtype, k)) fail_msg("%s element %d: %g", t->name, (int)k, (double)x[k]);
        }
    }
    assert_int_equal(seen, (1 << OZ_DTYPE_COUNT) - 1);
    oz_map_close(&map);
}

#define A "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}"
static void refusals(void **state)
{
    (void)state;
    oz_parsed p;
    const struct {
        const char *header;
        size_t data;
        oz_status status;
        const char *message;
    } bad[] = {
        {"{" A "}", 7, OZ_ERR_PARSE, "tensor \"a\" ends at byte 8 of the data, the file has 7"},
        {"{" A "}", 9, OZ_ERR_PARSE, "1 bytes at the end belong to no tensor"},
        {"{" A ",\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, OZ_ERR_PARSE,
         "tensors \"a\" and \"b\" overlap at byte 4"},
        {"{" A ",\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[12,16]}}", 16, OZ_ERR_PARSE,
         "4 bytes before tensor \"b\" belong to no tensor"},
        {"{" A "," A "}", 8, OZ_ERR_PARSE, "duplicate object key"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 8, OZ_ERR_SHAPE,
         "data_offsets [0, 8] but dtype F32 and shape need 12 bytes"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8, OZ_ERR_SHAPE, "data_offsets [8, 0]"},
        {"{\"a\":{\"dtype\":\"F4\",\"shape\":[2],\"data_offsets\":[0,1]}}", 1, OZ_ERR_UNSUPPORTED,
         "tensor \"a\" has dtype \"F4\", which is not known"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,2],\"data_offsets\":[0,8]}}", 8, OZ_ERR_UNSUPPORTED, "has 5 dimensions, at most 4"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0, OZ_ERR_SHAPE,
         "does not fit in 63 bits"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[0,9223372036854775807,3],\"data_offsets\":[0,0]}}", 0, OZ_ERR_SHAPE,
         "does not fit in 63 bits"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 8, OZ_ERR_PARSE,
         "dimension 0 of the shape is not a whole number"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2.0],\"data_offsets\":[0,8]}}", 8, OZ_ERR_PARSE,
         "dimension 0 of the shape is not a whole number"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":2,\"data_offsets\":[0,8]}}", 8, OZ_ERR_PARSE, "tensor \"a\" has no shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}}", 8, OZ_ERR_PARSE, "data_offsets is not a pair"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[-1,7]}}", 8, OZ_ERR_PARSE, "data_offsets is not a pair"},
        {"{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8, OZ_ERR_PARSE, "tensor \"a\" has no dtype"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8],\"x\":1}}", 8, OZ_ERR_PARSE, "unknown key \"x\""},
        {"{\"a\":7}", 0, OZ_ERR_PARSE, "tensor \"a\": expected a map"},
        {"{\"__metadata__\":{\"k\":1}}", 0, OZ_ERR_PARSE, "__metadata__ \"k\" is not a text"},
        {"{\"__metadata__\":1}", 0, OZ_ERR_PARSE, "__metadata__ is not a map"},
        {"[]", 0, OZ_ERR_PARSE, "does not begin with '{'"},
        {"{\"a\":", 0, OZ_ERR_PARSE, "t.safetensors:1:"},
        {"", 0, OZ_ERR_PARSE, "header of 0 bytes does not begin with '{'"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) FAILS(parse(bad[i].header, bad[i].data, &p), bad[i].status, bad[i].message);
    FAILS(oz_safetensors_parse("1234567", 7, "t", arena, &p), OZ_ERR_PARSE, "t has 7 bytes, too few");
    FAILS(oz_safetensors_parse("\xff\xff\xff\xff\xff\xff\xff\x7f{}", 10, "t", arena, &p), OZ_ERR_PARSE,
          "should have 9223372036854775807 bytes, 2 follow");
    OK(parse("{}", 0, &p));
    assert_int_equal(p.ntensor, 0);
    OK(parse("{" A "}    ", 8, &p));
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(worked_example), cmocka_unit_test(golden), cmocka_unit_test(refusals)};
    return cmocka_run_group_tests(tests, setup, teardown);
}

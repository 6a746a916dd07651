/* gguf.c: reading GGUF from memory: a file of the format's own Python package with every value kind and every block type, files
 * put together here byte by byte, and what is refused. */
#include "unit/io_common.h"

static oz_arena *arena;

/* ---- a GGUF image in pieces ---- */
static oz_grow g;
static void num(uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++) {
        char c = (char)(v >> (8 * i));
        oz_grow_add(&g, &c, 1);
    }
}
static void str(const char *s)
{
    num(strlen(s), 8);
    oz_grow_text(&g, s);
}
static void head(uint32_t version, uint64_t tensors, uint64_t pairs)
{
    oz_free(g.p);
    g = (oz_grow){0};
    oz_grow_text(&g, "GGUF");
    num(version, 4);
    num(tensors, 8);
    num(pairs, 8);
}
static void key(const char *name, uint32_t kind)
{
    str(name);
    num(kind, 4);
}
static void tensor(const char *name, int64_t ne0, int64_t ne1, uint32_t type, uint64_t offset)
{
    str(name);
    num(2, 4);
    num((uint64_t)ne0, 8);
    num((uint64_t)ne1, 8);
    num(type, 4);
    num(offset, 8);
}
static void data(size_t align, size_t bytes) { oz_grow_fill(&g, 0, (align - g.n % align) % align + bytes); }
static oz_status parse(oz_parsed *p)
{
    char *copy = malloc(g.n); /* exactly as large, so that asan sees reads behind it */
    memcpy(copy, g.p, g.n);
    oz_status status = oz_gguf_parse(copy, g.n, "t.gguf", arena, p);
    free(copy);
    return status;
}

static const oz_gguf_value *find(const oz_parsed *p, const char *name)
{
    for (int i = 0; i < p->nvalue; i++)
        if (!strcmp(p->value[i].key, name)) return &p->value[i];
    fail_msg("no key %s", name);
    return NULL;
}

static void golden(void **state)
{
    (void)state;
    oz_file_map map;
    OK(oz_map_open(&map, OUNCE_SOURCE_DIR "/tests/golden/io/all_types.gguf"));
    oz_parsed p;
    OK(oz_gguf_parse(map.data, map.bytes, "all_types.gguf", arena, &p));
    assert_int_equal(p.align, 64);
    const struct {
        const char *key;
        int64_t value;
    } ints[] = {{"test.u8", 200}, {"test.i8", -100},        {"test.u16", 60000},       {"test.i16", -30000},
                {"test.bool", 1}, {"test.u32", 4000000000}, {"test.i32", -2000000000}, {"test.i64", -(1LL << 62)}};
    int64_t i;
    double x;
    size_t n;
    for (size_t k = 0; k < sizeof ints / sizeof *ints; k++) {
        assert_true(oz_gguf_int(find(&p, ints[k].key), &i));
        assert_true(i == ints[k].value);
    }
    assert_false(oz_gguf_int(find(&p, "test.u64"), &i)); /* 2^63 + 1 */
    assert_true(oz_gguf_real(find(&p, "test.u64"), &x) && x == 9223372036854775808.0);
    assert_true(oz_gguf_real(find(&p, "test.f32"), &x) && x == 0.5);
    assert_true(oz_gguf_real(find(&p, "test.f64"), &x) && x == 0.1);
    assert_true(oz_gguf_real(find(&p, "test.i8"), &x) && x == -100);
    assert_false(oz_gguf_real(find(&p, "test.string"), &x));
    assert_false(oz_gguf_int(find(&p, "test.f32"), &i));
    assert_memory_equal(oz_gguf_string(find(&p, "test.string"), &n),
                        "gr\xc3\xbc\xc3\x9f"
                        "e\n",
                        8);
    assert_int_equal(n, 8);
    assert_null(oz_gguf_string(find(&p, "test.u8"), &n));
    const oz_gguf_value *texts = find(&p, "test.texts"), *numbers = find(&p, "test.numbers");
    assert_int_equal(texts->count, 3);
    assert_non_null(oz_gguf_string_at(texts, 0, &n));
    assert_int_equal(n, 0);
    assert_memory_equal(oz_gguf_string_at(texts, 2, &n), "\xce\xb1\xce\xb2\xce\xb3", 6);
    assert_int_equal(n, 6);
    assert_null(oz_gguf_string_at(texts, 3, &n));
    assert_true(oz_gguf_int_at(numbers, 1, &i) && i == -2);
    assert_false(oz_gguf_int_at(numbers, 3, &i));
    assert_true(oz_gguf_real_at(find(&p, "test.reals"), 1, &x) && x == -1.5);
    assert_true(oz_gguf_int_at(find(&p, "test.bools"), 0, &i) && i == 1);
    int blocks = 0;
    for (int k = 0; k < p.ntensor; k++) {
        const oz_tensor *t = &p.tensor[k];
        assert_int_equal((t->data - map.data) % 64, 0);
        if (!strncmp(t->name, "blocks.", 7)) {
            const oz_ggml_type *info = oz_ggml_type_info(t->ggml_type);
            assert_string_equal(info->name, t->name + 7);
            assert_int_equal(oz_ggml_type_find(info->name), t->ggml_type);
            assert_int_equal(t->dtype, OZ_U8);
            assert_int_equal(t->shape[0], 3);
            assert_int_equal(t->shape[1], info->block);
            assert_int_equal(t->bytes, 3 * info->bytes);
            for (size_t b = 0; b < t->bytes; b++) assert_int_equal(t->data[b], (7 * b + (size_t)t->ggml_type) % 256);
            blocks++;
            continue;
        }
        float y[24];
        int64_t count = oz_tensor_count(t);
        assert_int_equal(count, t->rank == 4 ? 24 : 15);
        if (t->rank == 4) assert_true(t->shape[0] == 2 && t->shape[1] == 3 && t->shape[2] == 2 && t->shape[3] == 2);
        oz_to_f32(t->dtype, t->data, y, count);
        for (int64_t e = 0; e < count; e++)
            if (y[e] != (float)(e % 8)) fail_msg("%s element %d is %g", t->name, (int)e, (double)y[e]);
    }
    assert_true(blocks >= 20);
    assert_int_equal(p.ntensor - blocks, 9);
    oz_map_close(&map);
}

static void worked_example(void **state)
{
    (void)state;
    static const uint8_t file[68] = {0x47, 0x47, 0x55, 0x46, 3, 0, 0, 0, 1,    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,           0,   0,
                                     1,    0,    0,    0,    0, 0, 0, 0, 0x61, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, [66] = 0x80, 0x3f};
    oz_parsed p;
    OK(oz_gguf_parse(file, sizeof file, "t", arena, &p));
    assert_int_equal(p.ntensor, 1);
    assert_string_equal(p.tensor[0].name, "a");
    assert_int_equal(p.header_bytes, 64);
    float x;
    oz_to_f32(p.tensor[0].dtype, p.tensor[0].data, &x, 1);
    assert_true(x == 1.0f);
}

static void types(void **state)
{
    (void)state;
    assert_null(oz_ggml_type_info(4));
    assert_null(oz_ggml_type_info(-1));
    assert_null(oz_ggml_type_info(1000));
    assert_int_equal(oz_ggml_type_find("q4_0"), 2);
    assert_int_equal(oz_ggml_type_find("Q9"), OZ_GGML_NONE);
    size_t bytes;
    assert_true(oz_ggml_bytes(oz_ggml_type_info(144), 2, (int64_t[]){3, 512}, &bytes));
    assert_int_equal(bytes, 3 * (4 + 2 * 136)); /* iq4_ks begins each row with a float */
    assert_false(oz_ggml_bytes(oz_ggml_type_info(2), 2, (int64_t[]){3, 33}, &bytes));
    assert_false(oz_ggml_bytes(oz_ggml_type_info(0), 2, (int64_t[]){INT64_MAX, 4}, &bytes));
    assert_false(oz_ggml_bytes(oz_ggml_type_info(0), 3, (int64_t[]){INT64_MAX, 4, 0}, &bytes));
}

static void by_hand(void **state)
{
    (void)state;
    oz_parsed p;
    head(2, 2, 1);
    key("general.alignment", OZ_GGUF_U32);
    num(8, 4);
    tensor("b", 2, 1, 0, 24);
    tensor("a", 32, 1, 2, 0);
    data(8, 32);
    OK(parse(&p));
    assert_string_equal(p.tensor[0].name, "a"); /* by position */
    assert_int_equal(p.tensor[0].bytes, 18);
    assert_int_equal(p.tensor[1].shape[0], 1);
    assert_int_equal(p.tensor[1].shape[1], 2);
    head(3, 0, 0);
    OK(parse(&p));
    head(3, 1, 0); /* nothing to store: the file may end before the data begins */
    tensor("z", 0, 4, 0, 0);
    OK(parse(&p));
    assert_int_equal(p.tensor[0].bytes, 0);
    /* every cut of a good file is refused or harmless, never read past */
    head(3, 1, 3);
    key("x", OZ_GGUF_STRING);
    str("hello");
    key("y", OZ_GGUF_ARRAY);
    num(OZ_GGUF_STRING, 4);
    num(2, 8);
    str("p");
    str("q");
    key("z", OZ_GGUF_F64);
    num(0, 8);
    tensor("t", 4, 1, 0, 0);
    data(32, 16);
    size_t whole = g.n;
    OK(parse(&p));
    for (g.n = 0; g.n < whole; g.n++) {
        oz_clear_message();
        assert_int_equal(parse(&p), OZ_ERR_PARSE);
        assert_non_null(strstr(oz_message(), "t.gguf"));
    }
}

static void refusals(void **state)
{
    (void)state;
    oz_parsed p;
    head(1, 0, 0);
    FAILS(parse(&p), OZ_ERR_UNSUPPORTED, "t.gguf is GGUF version 1, versions 2 and 3 are read");
    head(4, 0, 0);
    FAILS(parse(&p), OZ_ERR_UNSUPPORTED, "is GGUF version 4");
    head(0x03000000, 0, 0);
    FAILS(parse(&p), OZ_ERR_UNSUPPORTED, "big-endian");
    head(3, 0, 0);
    g.p[0] = 'g';
    FAILS(parse(&p), OZ_ERR_PARSE, "does not begin with \"GGUF\"");
    head(3, 0, UINT64_MAX);
    FAILS(parse(&p), OZ_ERR_PARSE, "18446744073709551615 metadata pairs cannot fit in the 0 bytes");
    head(3, UINT64_MAX / 2, 0);
    FAILS(parse(&p), OZ_ERR_PARSE, "descriptions of 9223372036854775807 tensors cannot fit");
    head(3, 0, 1);
    key("a", 99);
    num(0, 8);
    FAILS(parse(&p), OZ_ERR_PARSE, "key \"a\" has kind 99, expected 0 to 12");
    head(3, 0, 1);
    key("a", OZ_GGUF_BOOL);
    num(2, 1);
    FAILS(parse(&p), OZ_ERR_PARSE, "key \"a\" is a bool of value 2");
    head(3, 0, 1);
    key("a", OZ_GGUF_ARRAY);
    num(OZ_GGUF_ARRAY, 4);
    num(1, 8);
    num(0, 8);
    FAILS(parse(&p), OZ_ERR_UNSUPPORTED, "key \"a\" is an array of arrays");
    for (int k = 0; k < 2; k++) {
        head(3, 0, 1);
        key("a", OZ_GGUF_ARRAY);
        num(k ? OZ_GGUF_STRING : OZ_GGUF_U64, 4);
        num(UINT64_MAX / 8 + 2, 8); /* times 8 wraps to a small number */
        num(0, 8);
        FAILS(parse(&p), OZ_ERR_PARSE, "is an array of 2305843009213693953 items");
    }
    head(3, 0, 1);
    key("a", OZ_GGUF_STRING);
    num(UINT64_MAX, 8);
    FAILS(parse(&p), OZ_ERR_PARSE, "t.gguf ends inside key \"a\"");
    head(3, 0, 2);
    key("a", OZ_GGUF_U8);
    num(1, 1);
    key("a", OZ_GGUF_U8);
    num(1, 1);
    FAILS(parse(&p), OZ_ERR_PARSE, "key \"a\" occurs twice");
    head(3, 0, 1);
    num(5, 8);
    oz_grow_add(&g, "a\0b\0c\0\0\0\0\0", 10);
    FAILS(parse(&p), OZ_ERR_PARSE, "the name of key 0 is empty or holds a NUL");
    for (int k = 0; k < 3; k++) {
        head(3, 0, 1);
        key("general.alignment", k == 2 ? OZ_GGUF_F32 : OZ_GGUF_U32);
        num(k ? 24 : 0, 4);
        FAILS(parse(&p), OZ_ERR_PARSE, "general.alignment is not a power of two");
    }
    head(3, 1, 0);
    tensor("this name has sixty-five bytes, one more than the format allows..", 1, 1, 0, 0);
    FAILS(parse(&p), OZ_ERR_PARSE, "tensor 0 has a name of 65 bytes, at most 64");
    head(3, 1, 0);
    str("a");
    num(5, 4);
    oz_grow_fill(&g, 1, 60);
    FAILS(parse(&p), OZ_ERR_UNSUPPORTED, "tensor \"a\" has 5 dimensions");
    head(3, 1, 0);
    tensor("a", 32, 1, 4, 0);
    FAILS(parse(&p), OZ_ERR_UNSUPPORTED, "tensor \"a\" has ggml type 4, which is not known");
    head(3, 1, 0);
    tensor("a", 33, 1, 2, 0);
    FAILS(parse(&p), OZ_ERR_SHAPE, "has rows of 33 elements, type q4_0 needs a multiple of 32");
    head(3, 1, 0);
    tensor("a", 1LL << 32, 1LL << 32, 0, 0);
    FAILS(parse(&p), OZ_ERR_SHAPE, "does not fit in 63 bits");
    head(3, 1, 0);
    tensor("a", -1, 1, 0, 0);
    FAILS(parse(&p), OZ_ERR_SHAPE, "has a dimension of 18446744073709551615");
    head(3, 1, 0);
    tensor("a", 4, 1, 0, 4);
    data(32, 64);
    FAILS(parse(&p), OZ_ERR_PARSE, "begins at byte 4 of the data, not a multiple of 32");
    head(3, 1, 0);
    tensor("a", 4, 1, 0, UINT64_MAX - 31);
    data(32, 64);
    FAILS(parse(&p), OZ_ERR_PARSE, "takes 16 bytes from byte 18446744073709551584 of the data, the file has 64");
    head(3, 1, 0);
    tensor("a", 17, 1, 0, 0);
    data(32, 64);
    FAILS(parse(&p), OZ_ERR_PARSE, "takes 68 bytes from byte 0");
    head(3, 2, 0);
    tensor("a", 16, 1, 0, 0);
    tensor("b", 4, 1, 0, 32);
    data(32, 64);
    FAILS(parse(&p), OZ_ERR_PARSE, "tensors \"a\" and \"b\" overlap");
}

static int setup(void **state)
{
    (void)state;
    return oz_arena_new(&arena, 0);
}

static int teardown(void **state)
{
    (void)state;
    oz_free(g.p);
    oz_arena_free(arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(golden), cmocka_unit_test(worked_example), cmocka_unit_test(types),
                                       cmocka_unit_test(by_hand), cmocka_unit_test(refusals)};
    return cmocka_run_group_tests(tests, setup, teardown);
}

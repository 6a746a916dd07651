/* ckpt.c: checkpoints behind one face: a folder with one file or with shards, a single file, GGUF; and broken ones. */
#include "unit/io_common.h"
#include <fcntl.h>

static char folder[64];

static void put_safetensors(const char *name, const char *header, size_t bytes)
{
    size_t n;
    void *p = io_safetensors(header, bytes, &n);
    io_put(folder, name, p, n);
    free(p);
}
static void put_text(const char *name, const char *text) { io_put(folder, name, text, strlen(text)); }

#define W1                                                                                                                                 \
    "{\"model.up.weight\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[0,8]},\"__pad.0\":{\"dtype\":\"U8\",\"shape\":[8],\"data_"  \
    "offsets\":[8,16]}}"
#define W2 "{\"model.down.weight\":{\"dtype\":\"BF16\",\"shape\":[2,2],\"data_offsets\":[0,8]}}"

static int fresh(void **state)
{
    (void)state;
    io_folder(folder);
    return 0;
}
static int done(void **state)
{
    (void)state;
    return oz_remove_tree(folder) != OZ_OK;
}

static void one_file(void **state)
{
    (void)state;
    oz_ckpt *c;
    FAILS(oz_ckpt_open(&c, folder), OZ_ERR_IO, "has no config.json");
    put_text("config.json", "{\"model_type\": \"llama\"}");
    FAILS(oz_ckpt_open(&c, folder), OZ_ERR_IO, "has neither model.safetensors nor model.safetensors.index.json");
    put_text("pytorch_model.bin", "x");
    FAILS(oz_ckpt_open(&c, folder), OZ_ERR_IO, "has neither");
    assert_non_null(strstr(oz_hint(), "save pytorch_model.bin as safetensors"));
    put_safetensors("model.safetensors", W1, 16);
    put_text("tokenizer.json", "{}");
    OK(oz_ckpt_open(&c, folder));
    assert_int_equal(oz_ckpt_kind_of(c), OZ_CKPT_HF);
    assert_string_equal(oz_ckpt_path(c), folder);
    assert_int_equal(oz_ckpt_count(c), 1); /* the filler is not shown */
    assert_string_equal(oz_node_text(oz_node_get(oz_ckpt_config(c), "model_type"), ""), "llama");
    const oz_tensor *t;
    OK(oz_ckpt_need(c, "model.up.weight", &t));
    assert_ptr_equal(t, oz_ckpt_tensor(c, 0));
    assert_int_equal(t->data[5], 5);
    assert_null(oz_ckpt_find(c, "nothing"));
    FAILS(oz_ckpt_need(c, "model.ip.weight", &t), OZ_ERR_KEY, "has no tensor \"model.ip.weight\"; the nearest is \"model.up.weight\"");
    assert_null(oz_ckpt_tensor(c, 1));
    assert_null(oz_ckpt_meta(c, "general.name"));
    assert_int_equal(oz_ckpt_file_bytes(c), 8 + strlen(W1) + 16);
    char *text;
    size_t n;
    OK(oz_ckpt_side_file(c, "tokenizer.json", &text, &n));
    assert_string_equal(text, "{}");
    oz_free(text);
    FAILS(oz_ckpt_side_file(c, "chat_template.jinja", &text, &n), OZ_ERR_IO, "chat_template.jinja: No such file");
    FAILS(oz_ckpt_side_file(c, "../secret", &text, &n), OZ_ERR_IO, "\"../secret\" is not the name of a file");
    OK(oz_ckpt_fetch(c, oz_ckpt_tensor(c, 0)));
    oz_ckpt_drop_pages(c, oz_ckpt_tensor(c, 0));
    assert_int_equal(oz_ckpt_tensor(c, 0)->data[7], 7);
    uint8_t a[32], b[32];
    OK(oz_ckpt_hash(c, a));
    oz_ckpt_close(c);
    OK(oz_ckpt_open(&c, io_path(folder, "model.safetensors"))); /* the file itself */
    OK(oz_ckpt_hash(c, b));
    assert_memory_equal(a, b, 32);
    oz_ckpt_close(c);
    put_text("config.json", "{\"model_type\": \"qwen2\"}");
    OK(oz_ckpt_open(&c, folder));
    OK(oz_ckpt_hash(c, b));
    assert_memory_not_equal(a, b, 32);
    oz_ckpt_close(c);
    put_text("config.json", "[1]");
    FAILS(oz_ckpt_open(&c, folder), OZ_ERR_PARSE, "config.json: expected a map at the top");
    put_text("config.json", "{");
    FAILS(oz_ckpt_open(&c, folder), OZ_ERR_PARSE, "config.json:1:1: not JSON");
    oz_ckpt_close(NULL);
}

static void index_of(const char *up, const char *down)
{
    char text[512];
    snprintf(text, sizeof text, "{\"metadata\": {}, \"weight_map\": {\"model.up.weight\": \"%s\", \"model.down.weight\": \"%s\"}}", up,
             down);
    put_text("model.safetensors.index.json", text);
}

static void shards(void **state)
{
    (void)state;
    oz_ckpt *c;
    put_text("config.json", "{}");
    put_safetensors("m-1.safetensors", W1, 16);
    put_safetensors("m-2.safetensors", W2, 8);
    index_of("m-1.safetensors", "m-2.safetensors");
    OK(oz_ckpt_open(&c, folder));
    assert_int_equal(oz_ckpt_count(c), 2);
    assert_int_equal(oz_ckpt_find(c, "model.down.weight")->shard, 1);
    assert_int_equal(oz_ckpt_find(c, "model.up.weight")->shard, 0);
    oz_ckpt_close(c);
    index_of("m-2.safetensors", "m-2.safetensors");
    FAILS(oz_ckpt_open(&c, folder), OZ_ERR_PARSE, "says that tensor \"model.up.weight\" is in ");
    index_of("m-1.safetensors", "m-3.safetensors");
    FAILS(oz_ckpt_open(&c, folder), OZ_ERR_IO, "names this shard for tensor \"model.down.weight\": cannot open");
    const char *odd[] = {"../m-1.safetensors", "/etc/passwd", "", "..", "a/b.safetensors", "m\\u0000x"};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        index_of(odd[i], "m-2.safetensors");
        FAILS(oz_ckpt_open(&c, folder), OZ_ERR_PARSE, "expected the name of a file in the same folder");
    }
    put_safetensors("m-3.safetensors", W1, 16);
    index_of("m-1.safetensors", "m-3.safetensors");
    FAILS(oz_ckpt_open(&c, folder), OZ_ERR_PARSE, "tensor \"model.up.weight\" occurs twice, also in ");
    put_text("model.safetensors.index.json", "{\"weight_map\": {}}");
    FAILS(oz_ckpt_open(&c, folder), OZ_ERR_PARSE, "no weight_map with tensors in it");
    put_text("model.safetensors.index.json", "{\"weight_map\": {\"a\": 1}}");
    FAILS(oz_ckpt_open(&c, folder), OZ_ERR_PARSE, "tensor \"a\" is said to be in \"(not a text)\"");
    assert_int_equal(truncate(io_path(folder, "m-2.safetensors"), 20), 0);
    index_of("m-1.safetensors", "m-2.safetensors");
    FAILS(oz_ckpt_open(&c, folder), OZ_ERR_PARSE, "m-2.safetensors: the header should have");
}

static void gguf_file(void **state)
{
    (void)state;
    oz_ckpt *c;
    OK(oz_ckpt_open(&c, OUNCE_SOURCE_DIR "/tests/golden/io/all_types.gguf"));
    assert_int_equal(oz_ckpt_kind_of(c), OZ_CKPT_GGUF);
    assert_null(oz_ckpt_config(c));
    size_t n;
    assert_memory_equal(oz_gguf_string(oz_ckpt_meta(c, "general.architecture"), &n), "test", 4);
    assert_true(oz_ckpt_meta_count(c) >= 17);
    assert_null(oz_ckpt_meta_at(c, oz_ckpt_meta_count(c)));
    assert_non_null(oz_ckpt_find(c, "plain.f32"));
    char *text;
    FAILS(oz_ckpt_side_file(c, "tokenizer.json", &text, &n), OZ_ERR_IO, "is a GGUF file and has no tokenizer.json");
    uint8_t a[32], b[32];
    OK(oz_ckpt_hash(c, a));
    OK(oz_ckpt_hash(c, b));
    assert_memory_equal(a, b, 32);
    oz_ckpt_close(c);
    put_text("text", "hello, world");
    FAILS(oz_ckpt_open(&c, io_path(folder, "text")), OZ_ERR_PARSE,
          "text is neither GGUF nor safetensors: 12 bytes beginning with 68 65 6c 6c");
    put_text("none", "");
    FAILS(oz_ckpt_open(&c, io_path(folder, "none")), OZ_ERR_PARSE, "is neither GGUF nor safetensors: 0 bytes");
    FAILS(oz_ckpt_open(&c, io_path(folder, "absent")), OZ_ERR_IO, "absent: No such file");
    static const char split[] = "GGUF\3\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\x0b\0\0\0\0\0\0\0split.count\2\0\0\0\5";
    io_put(folder, "split", split, sizeof split); /* u16, 5: the array's own NUL is the second byte */
    FAILS(oz_ckpt_open(&c, io_path(folder, "split")), OZ_ERR_UNSUPPORTED, "is one of 5 parts of a split GGUF file");
}

/* A file that shrinks while it is mapped would end the process at the next access; fetch says so instead. */
static void file_cut_meanwhile(void **state)
{
    (void)state;
    oz_ckpt *c;
    put_safetensors("big.safetensors", "{\"a\":{\"dtype\":\"U8\",\"shape\":[100000],\"data_offsets\":[0,100000]}}", 100000);
    OK(oz_ckpt_open(&c, io_path(folder, "big.safetensors")));
    OK(oz_ckpt_fetch(c, oz_ckpt_tensor(c, 0)));
#ifdef OUNCE_FAULTS
    oz_fault_read(1);
    FAILS(oz_ckpt_fetch(c, oz_ckpt_tensor(c, 0)), OZ_ERR_IO, "tensor \"a\": cannot read 100000 bytes at byte");
    oz_fault_read(0);
#endif
    assert_int_equal(truncate(io_path(folder, "big.safetensors"), 100), 0);
    FAILS(oz_ckpt_fetch(c, oz_ckpt_tensor(c, 0)), OZ_ERR_IO, "big.safetensors: Input/output error");
    assert_string_equal(oz_hint(), "the disk failed, or the file was changed while it was in use");
    oz_ckpt_close(c);
#ifdef OUNCE_FAULTS
    oz_fault_read(1);
    FAILS(oz_ckpt_open(&c, io_path(folder, "big.safetensors")), OZ_ERR_IO, "cannot read");
    oz_fault_read(0);
#endif
}

#ifdef OUNCE_FAULTS
/* Whichever allocation fails, open reports it and leaks nothing (the sanitizer looks). */
static void no_memory(void **state)
{
    (void)state;
    put_text("config.json", "{\"model_type\": \"llama\"}");
    put_safetensors("m-1.safetensors", W1, 16);
    put_safetensors("m-2.safetensors", W2, 8);
    index_of("m-1.safetensors", "m-2.safetensors");
    const char *paths[] = {folder, OUNCE_SOURCE_DIR "/tests/golden/io/all_types.gguf"};
    for (int k = 0; k < 2; k++)
        for (int i = 1;; i++) {
            oz_ckpt *c;
            assert_true(i < 1000);
            oz_fault_alloc(i);
            oz_status status = oz_ckpt_open(&c, paths[k]);
            oz_fault_alloc(0);
            if (!status) {
                oz_ckpt_close(c);
                assert_true(i > 4);
                break;
            }
            assert_int_equal(status, OZ_ERR_NOMEM);
        }
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_file, fresh, done),  cmocka_unit_test_setup_teardown(shards, fresh, done),
        cmocka_unit_test_setup_teardown(gguf_file, fresh, done), cmocka_unit_test_setup_teardown(file_cut_meanwhile, fresh, done),
#ifdef OUNCE_FAULTS
        cmocka_unit_test_setup_teardown(no_memory, fresh, done),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

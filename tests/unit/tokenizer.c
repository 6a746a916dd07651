/* tokenizer.c (test): ids equal Hugging Face's on 27 scripts, code, emoji, white space, malformed bytes and every special token, for small
 * tokenizers of the GPT-2, Llama 3 and Qwen2 patterns and for the standard model; the same ids from tokenizer.json and from GGUF; what
 * is not supported is refused by name. */
#include "text_common.h"

static oz_tokenizer *open_json(const char *name)
{
    char path[1024], *text;
    size_t n;
    oz_tokenizer *t = NULL;
    snprintf(path, sizeof path, GOLDEN "%s", name);
    if (oz_read_file(path, 1 << 20, &text, &n) || oz_tokenizer_from_json(&t, text, n, NULL, 0, path)) fail_msg("%s", oz_message());
    oz_free(text);
    return t;
}

static size_t unhex(const char *s, char *out)
{
    size_t n = strlen(s) / 2;
    for (size_t i = 0; i < n; i++) {
        char two[3] = {s[2 * i], s[2 * i + 1], 0};
        out[i] = (char)strtol(two, NULL, 16);
    }
    return n;
}

static void check_cases(const oz_tokenizer *t, const oz_node *root, const char *route)
{
    const oz_node *cases = oz_node_get(root, "cases");
    assert_true(cases->n > 60);
    for (int i = 0; i < cases->n; i++) {
        const oz_node *c = oz_node_at(cases, i), *text = oz_node_get(c, "text"), *hex = oz_node_get(c, "hex"),
                      *want = oz_node_get(c, "ids");
        char raw[512];
        const char *s = text ? text->text : raw;
        size_t n = text ? text->length : unhex(hex->text, raw), bytes;
        int32_t *ids;
        int64_t count;
        char *back;
        unsigned flags = oz_node_bool(oz_node_get(c, "special"), false) ? OZ_TOKENIZE_SPECIAL : 0;
        if (oz_tokenize(t, s, n, flags, &ids, &count)) fail_msg("%s", oz_message());
        for (int64_t k = 0; k < count || k < want->n; k++) {
            int64_t x = k < count ? ids[k] : -1, y = oz_node_int(oz_node_at(want, (int)k), -1);
            if (x != y)
                fail_msg("%s: case %d, \"%s\": token %lld is %lld, tokenizers says %lld", route, i, text ? s : hex->text, (long long)k,
                         (long long)x, (long long)y);
        }
        if (oz_detokenize(t, ids, count, false, &back, &bytes)) fail_msg("%s", oz_message());
        /* [L] and [R] swallow the blanks beside them */
        if (!oz_node_bool(oz_node_get(c, "lossy"), false) && !strstr(s, "[L]") && !strstr(s, "[R]")) {
            assert_int_equal(bytes, n);
            assert_memory_equal(back, s, n);
        }
        oz_free(back);
        oz_free(ids);
    }
}

/* Writes the tokenizer as GGUF and reads it back. */
static oz_ckpt *as_gguf(const oz_tokenizer *t)
{
    oz_arena *arena;
    oz_out_meta *meta;
    int n;
    oz_writer *w;
    oz_ckpt *c = NULL;
    const float x = 1;
    const oz_out_tensor one = {.name = "x", .dtype = OZ_F32, .ggml_type = 0, .rank = 1, .shape = {1}, .bytes = 4};
    const char *path = OUNCE_BINARY_DIR "/test_tokenizer.gguf";
    assert_int_equal(oz_arena_new(&arena, 0), OZ_OK);
    if (oz_tokenizer_export_gguf(t, &meta, &n, arena) || oz_gguf_begin(&w, path, &one, 1, meta, n, 32)) fail_msg("%s", oz_message());
    if (oz_writer_put(w, "x", &x, 4) || oz_writer_commit(w) || oz_ckpt_open(&c, path)) fail_msg("%s", oz_message());
    oz_arena_free(arena);
    return c;
}

static void small(const char *name, const char *kind)
{
    char file[64];
    oz_arena *arena;
    assert_int_equal(oz_arena_new(&arena, 0), OZ_OK);
    snprintf(file, sizeof file, "%s.json", name);
    oz_node *root = golden(file, arena);
    oz_tokenizer *t = open_json(oz_node_text(oz_node_get(root, "tokenizer"), "")), *u, *v;
    assert_string_equal(oz_tokenizer_kind(t), kind);
    check_cases(t, root, "tokenizer.json");
    const oz_node *bos = oz_node_get(root, "bos");
    assert_int_equal(oz_tokenizer_adds_bos(t), bos->n == 1);
    assert_int_equal(oz_tokenizer_bos(t), bos->n == 1 ? oz_node_int(oz_node_at(bos, 0), -2) : -1);
    char *json, *config;
    if (oz_tokenizer_export_json(t, &json, &config) || oz_tokenizer_from_json(&u, json, strlen(json), config, strlen(config), "exported"))
        fail_msg("%s", oz_message());
    check_cases(u, root, "exported tokenizer.json");
    oz_free(json);
    oz_free(config);
    oz_tokenizer_free(u);
    if (strcmp(name, "gpt2")) { /* whose added tokens swallow blanks, which GGUF cannot say */
        oz_ckpt *c = as_gguf(t);
        if (oz_tokenizer_open(&v, c)) fail_msg("%s", oz_message());
        check_cases(v, root, "GGUF");
        assert_int_equal(oz_tokenizer_bos(v), oz_tokenizer_bos(t));
        assert_int_equal(oz_tokenizer_adds_bos(v), oz_tokenizer_adds_bos(t));
        oz_tokenizer_free(v);
        oz_ckpt_close(c);
    }
    oz_tokenizer_free(t);
    oz_arena_free(arena);
}

static void gpt2(void **state) { (void)state, small("gpt2", "byte-level BPE, gpt-2"); }
static void llama3(void **state) { (void)state, small("llama3", "byte-level BPE, llama-bpe"); }
static void qwen2(void **state) { (void)state, small("qwen2", "byte-level BPE, qwen2"); }

static void standard(void **state)
{
    (void)state;
    oz_ckpt *c = standard_model();
    if (!c) skip();
    oz_arena *arena;
    oz_tokenizer *t, *u;
    char *json, *config;
    assert_int_equal(oz_arena_new(&arena, 0), OZ_OK);
    oz_node *root = golden("smollm2.json", arena);
    if (oz_tokenizer_open(&t, c)) fail_msg("%s", oz_message());
    check_cases(t, root, "GGUF");
    assert_string_equal(oz_tokenizer_kind(t), "byte-level BPE, smollm");
    assert_int_equal(oz_tokenizer_vocab(t), 49152);
    assert_int_equal(oz_tokenizer_bos(t), 1);
    assert_int_equal(oz_tokenizer_eos(t), 2);
    assert_false(oz_tokenizer_adds_bos(t));
    assert_true(oz_tokenizer_is_end(t, 0) && oz_tokenizer_is_end(t, 2) && !oz_tokenizer_is_end(t, 1));
    assert_int_equal(oz_tokenizer_find(t, "<|im_end|>"), 2);
    assert_int_equal(oz_tokenizer_find(t, "no such token"), -1);
    if (oz_tokenizer_export_json(t, &json, &config) || oz_tokenizer_from_json(&u, json, strlen(json), config, strlen(config), "exported"))
        fail_msg("%s", oz_message());
    check_cases(u, root, "tokenizer.json");
    assert_int_equal(oz_tokenizer_eos(u), 2);
    assert_int_equal(oz_tokenizer_bos(u), 1);
    assert_false(oz_tokenizer_adds_bos(u));
    oz_free(json);
    oz_free(config);
    oz_tokenizer_free(u);
    oz_tokenizer_free(t);
    oz_arena_free(arena);
    oz_ckpt_close(c);
}

/* The same text in one piece (with its memory of words) and word by word of another length gives the same ids. */
static void long_text(void **state)
{
    (void)state;
    oz_tokenizer *t = open_json("gpt2.tokenizer.json");
    size_t n = 0, cap = 200000;
    char *text = malloc(cap);
    for (uint32_t i = 0; n + 16 < cap; i++) n += (size_t)sprintf(text + n, "word%u the and\n", (unsigned)(i * 2654435761u >> 20));
    memset(text + n - 90000, 'a', 40000); /* one word of 40000 letters: merged by the heap */
    int32_t *all, *part;
    int64_t count, some, at = 0;
    assert_int_equal(oz_tokenize(t, text, n, 0, &all, &count), OZ_OK);
    for (size_t i = 0; i < n;) { /* lines on their own are too short for the memory */
        const char *end = memchr(text + i + 1, '\n', n - i - 1);
        size_t len = end ? (size_t)(end - text) - i : n - i;
        assert_int_equal(oz_tokenize(t, text + i, len, 0, &part, &some), OZ_OK);
        assert_true(at + some <= count);
        assert_memory_equal(all + at, part, (size_t)some * sizeof *all);
        at += some, i += len;
        oz_free(part);
    }
    assert_int_equal(at, count);
    oz_free(all);
    free(text);
    oz_tokenizer_free(t);
}

static void streaming(void **state)
{
    (void)state;
    assert_int_equal(oz_utf8_complete("ab\xe4\xb8", 4), 2);
    assert_int_equal(oz_utf8_complete("ab\xe4\xb8\xad", 5), 5);
    assert_int_equal(oz_utf8_complete("\xf0\x9f\x98", 3), 0);
    assert_int_equal(oz_utf8_complete("a\xff", 2), 2); /* malformed: nothing to wait for */
    assert_int_equal(oz_utf8_complete("\x80\x80\x80\x80", 4), 4);
    assert_int_equal(oz_utf8_complete("", 0), 0);
    oz_tokenizer *t = open_json("qwen2.tokenizer.json");
    int32_t bad = 1 << 20, *ids;
    int64_t n;
    char *text;
    size_t bytes;
    assert_int_equal(oz_detokenize(t, &bad, 1, false, &text, &bytes), OZ_ERR_RANGE);
    assert_non_null(strstr(oz_message(), "1048576"));
    assert_int_equal(oz_tokenize(t, "x", 1, OZ_TOKENIZE_BOS, &ids, &n), OZ_ERR_UNSUPPORTED);
    assert_non_null(strstr(oz_message(), "no BOS token"));
    assert_int_equal(oz_tokenize(t, "a<|im_end|>b", 12, OZ_TOKENIZE_SPECIAL, &ids, &n), OZ_OK);
    assert_int_equal(oz_detokenize(t, ids, n, true, &text, &bytes), OZ_OK);
    assert_string_equal(text, "ab");
    oz_free(ids);
    oz_free(text);
    oz_tokenizer_free(t);
}

static void refusals(void **state)
{
    (void)state;
#define BPE(rest) "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2}, \"merges\": [\"a b\"]" rest "}"
#define BYTES     ", \"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false}"
    static const struct {
        const char *json, *message;
    } bad[] = {
        {"{}", "key \"model\" is missing"},
        {"{\"model\": {\"type\": \"WordPiece\"}}", "tokenizer model \"WordPiece\" is not supported"},
        {BPE(", \"byte_fallback\": true") "}", "model.byte_fallback"},
        {BPE(", \"dropout\": 0.1") "}", "model.dropout 0.1"},
        {BPE("") "}", "no ByteLevel step"},
        {BPE("") ", \"pre_tokenizer\": {\"type\": \"Metaspace\"}}", "pre_tokenizer of type \"Metaspace\""},
        {BPE("") BYTES ", \"normalizer\": {\"type\": \"Lowercase\"}}", "normalizer of type \"Lowercase\""},
        {BPE("") BYTES ", \"post_processor\": {\"type\": \"BertProcessing\"}}", "post_processor of type \"BertProcessing\""},
        {BPE("") BYTES ", \"decoder\": {\"type\": \"WordPiece\"}}", "decoder of type \"WordPiece\""},
        {BPE("") ", \"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"(x\"}, \"behavior\": \"Isolated\"}"
                 "}",
         "no ByteLevel step"},
        {BPE("") ", \"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"pattern\": {\"Regex\": "
                 "\"(x\"}, \"behavior\": \"Isolated\"}, "
                 "{\"type\": \"ByteLevel\", \"add_prefix_space\": false}]}}",
         "\"(x\" does not compile: missing closing parenthesis"},
        {BPE("") BYTES ", \"added_tokens\": [{\"id\": 2, \"content\": \"zz\"}]}", "id 2 is given to both \"ab\" and \"zz\""},
        {BPE("") BYTES ", \"added_tokens\": [{\"id\": 900000000, \"content\": \"zz\"}]}", "largest token id is 900000000"},
        {"{\"model\": {\"vocab\": {\"a\": 0, \"b\": 1}, \"merges\": [\"a b\"]}" BYTES "}",
         "merge 0, \"a\" + \"b\": the result is not in the vocabulary"},
        {"{\"model\": {\"vocab\": {\"a\": 0, \"b\": 1}, \"merges\": [\"ab\"]}" BYTES "}", "merge 0 is \"ab\", expected two parts"},
        {"{\"model\": {\"vocab\": {\"a\": 0, \"b\": \"x\"}, \"merges\": []}" BYTES "}", "token \"b\" has no integer id"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        oz_tokenizer *t = NULL;
        assert_int_not_equal(oz_tokenizer_from_json(&t, bad[i].json, strlen(bad[i].json), NULL, 0, "dir/tokenizer.json"), OZ_OK);
        if (!strstr(oz_message(), bad[i].message) || strncmp(oz_message(), "dir/tokenizer.json", 18))
            fail_msg("case %zu says: %s", i, oz_message());
        assert_null(t);
    }
    oz_tokenizer *t;
    const char *good = BPE("") BYTES "}", *config = "{\"eos_token\": {\"content\": \"nope\"}}";
    assert_int_equal(oz_tokenizer_from_json(&t, good, strlen(good), config, strlen(config), "d"), OZ_ERR_PARSE);
    assert_non_null(strstr(oz_message(), "eos_token \"nope\" is not in the vocabulary"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(gpt2),     cmocka_unit_test(llama3),    cmocka_unit_test(qwen2),
                                       cmocka_unit_test(standard), cmocka_unit_test(long_text), cmocka_unit_test(streaming),
                                       cmocka_unit_test(refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

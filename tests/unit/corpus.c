/* corpus.c (test): texts by name from the data folders, their two parts, documents that are shared, windows; an absent text names file and
 * command and is never replaced. */
#include "text_common.h"
#include <unistd.h>

#define DIR OUNCE_BINARY_DIR "/test_corpus"

static void put(const char *name, const char *text)
{
    char path[1024];
    snprintf(path, sizeof path, DIR "/%s", name);
    if (oz_write_file(path, text, strlen(text))) fail_msg("%s", oz_message());
}

static int setup(void **state)
{
    (void)state;
    char prose[4000] = "";
    if (oz_make_dirs(DIR "/texts") || oz_make_dirs(DIR "/wikitext-2")) return 1;
    for (int i = 0; i < 10; i++) {
        char p[300];
        snprintf(p, sizeof p,
                 "Paragraph number %d says something that is longer than sixty-four bytes, so that it counts as a document.\n\n", i);
        strcat(prose, p);
    }
    put("texts/prose.txt", prose);
    put("wikitext-2/valid.tokens.txt", "a <unk> lobster\n \n the <unk><unk> end\n");
    put("wikitext-2/wiki.test.raw", "kept <unk> as it is\n");
    put("lines.jsonl", "{\"text\": \"one\\ntwo\", \"n\": 1}\n\n{\"text\": \"three\"}\n");
    put("bad.jsonl", "{\"text\": \"one\"}\n{\"txt\": \"two\"}\n");
    put("worse.jsonl", "{\"text\": \"one\"}\n{oops\n");
    put("blank.txt", " \n\n \n");
    put("data.parquet", "PAR1....");
    setenv("OUNCE_DATA", "/nowhere:" DIR, 1);
    setenv("XDG_DATA_HOME", "/nowhere", 1);
    return 0;
}

static oz_corpus *open_text(const char *name, oz_text_part part)
{
    oz_corpus *c = NULL;
    if (oz_corpus_open(&c, name, part)) fail_msg("%s", oz_message());
    return c;
}

static void parts(void **state)
{
    (void)state;
    oz_corpus *a = open_text("default", OZ_TEXT_CALIBRATION), *b = open_text("prose", OZ_TEXT_HELD_OUT);
    assert_string_equal(a->name, "default");
    assert_int_equal(a->ndoc + b->ndoc, 10);
    assert_true(a->ndoc == 8 || a->ndoc == 9);
    assert_memory_equal(b->text, "Paragraph number ", 17);
    assert_int_equal(b->text[17] - '0', a->ndoc);
    assert_int_equal(oz_corpus_overlap(a, b), 0);
    oz_corpus *whole = open_text(DIR "/texts/prose.txt", OZ_TEXT_CALIBRATION), *same = open_text(DIR "/texts/prose.txt", OZ_TEXT_HELD_OUT);
    assert_string_equal(whole->name, "prose.txt");
    assert_int_equal(oz_corpus_overlap(whole, a), a->ndoc);
    assert_int_equal(oz_corpus_overlap(whole, same), 10);
    oz_corpus_free(a), oz_corpus_free(b), oz_corpus_free(whole), oz_corpus_free(same);
    /* the held-out half loses what the other half has too */
    char repeated[4096] = "";
    for (int i = 0; i < 20; i++)
        snprintf(repeated + strlen(repeated), sizeof repeated - strlen(repeated),
                 "%s number %d, long enough to count as a document of its own in every test.\n\n",
                 i == 2 || i == 19 ? "Boilerplate" : "A paragraph", i == 19 ? 2 : i);
    put("texts/prose.txt", repeated);
    a = open_text("default", OZ_TEXT_CALIBRATION), b = open_text("default", OZ_TEXT_HELD_OUT);
    assert_int_equal(oz_corpus_overlap(a, b), 0);
    assert_int_equal(a->ndoc + b->ndoc, 19);
    assert_null(strstr(b->text, "Boilerplate"));
    oz_corpus_free(a), oz_corpus_free(b);
    a = open_text("wikitext2", OZ_TEXT_CALIBRATION), b = open_text("wikitext2", OZ_TEXT_HELD_OUT);
    assert_string_equal(a->text, "a  lobster\n \n the  end\n");
    assert_string_equal(b->text, "kept <unk> as it is\n");
    assert_int_equal(a->ndoc, 2);
    oz_corpus_free(a), oz_corpus_free(b);
    a = open_text("lines", OZ_TEXT_CALIBRATION);
    assert_string_equal(a->text, "one\ntwo\n\nthree");
    assert_int_equal(a->ndoc, 2);
    assert_int_equal(a->doc[1], 9);
    oz_corpus_free(a);
}

static void refusals(void **state)
{
    (void)state;
    static const struct {
        const char *name, *message, *hint;
    } bad[] = {
        {"c4", "text \"c4\": file c4 was not found in $OUNCE_DATA (/nowhere:", "tools/models/get texts"},
        {DIR "/data.parquet", "data.parquet: parquet files are not read", "jsonl"},
        {DIR "/bad.jsonl", "bad.jsonl:2: key \"text\" is missing", "\"text\""},
        {DIR "/worse.jsonl", "line 2: ", ""},
        {DIR "/blank.txt", "blank.txt: holds no text", ""},
        {DIR "/texts", "is a directory", "file"},
    };
    oz_corpus *c;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_not_equal(oz_corpus_open(&c, bad[i].name, OZ_TEXT_CALIBRATION), OZ_OK);
        if (!strstr(oz_message(), bad[i].message) || !strstr(oz_hint(), bad[i].hint))
            fail_msg("%s: %s (%s)", bad[i].name, oz_message(), oz_hint());
    }
    setenv("OUNCE_DATA", "/nowhere", 1);
    assert_int_equal(oz_corpus_open(&c, "wikitext2", OZ_TEXT_HELD_OUT), OZ_ERR_IO);
    assert_non_null(strstr(oz_message(), "wikitext-2/wiki.test.raw"));
    assert_int_equal(oz_corpus_open(&c, "default", OZ_TEXT_CALIBRATION), OZ_ERR_IO);
    assert_non_null(strstr(oz_message(), "texts/prose.txt"));
    assert_string_equal(oz_hint(), "run: tools/models/get texts");
    setenv("OUNCE_DATA", "/nowhere:" DIR, 1);
}

static void windows(void **state)
{
    (void)state;
    char *json;
    size_t bytes;
    oz_tokenizer *t;
    if (oz_read_file(GOLDEN "llama3.tokenizer.json", 1 << 20, &json, &bytes) || oz_tokenizer_from_json(&t, json, bytes, NULL, 0, "llama3"))
        fail_msg("%s", oz_message());
    oz_free(json);
    oz_corpus *c = open_text("prose", OZ_TEXT_CALIBRATION);
    int32_t *all, *ids;
    int64_t count, n;
    assert_int_equal(oz_tokenize(t, c->text, c->bytes, 0, &all, &count), OZ_OK);
    /* less text is tokenized for few windows, with the same ids */
    assert_int_equal(oz_corpus_windows(c, t, 3, 5, false, &ids, &n), OZ_OK);
    assert_int_equal(n, 3);
    assert_memory_equal(ids, all, 15 * sizeof *ids);
    oz_free(ids);
    /* the tokenizer adds a BOS: once a window, which is no longer for it */
    assert_int_equal(oz_corpus_windows(c, t, 2, 5, true, &ids, &n), OZ_OK);
    assert_int_equal(ids[0], oz_tokenizer_bos(t));
    assert_int_equal(ids[5], oz_tokenizer_bos(t));
    assert_memory_equal(ids + 1, all, 4 * sizeof *ids);
    assert_memory_equal(ids + 6, all + 4, 4 * sizeof *ids);
    oz_free(ids);
    /* shorter than asked: read once */
    assert_int_equal(oz_corpus_windows(c, t, 1000, 100, false, &ids, &n), OZ_OK);
    assert_int_equal(n, count / 100);
    oz_free(ids);
    assert_int_equal(oz_corpus_windows(c, t, 1, 100000, false, &ids, &n), OZ_ERR_SHAPE);
    assert_non_null(strstr(oz_message(), "prose.txt"));
    oz_free(all);
    oz_corpus_free(c);
    oz_tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(parts), cmocka_unit_test(refusals), cmocka_unit_test(windows)};
    return cmocka_run_group_tests(tests, setup, NULL);
}

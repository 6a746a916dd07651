/* fuzz_tokenizer.c: a tokenizer.json, a NUL, and a text to tokenize; both are any bytes.  A byte-level tokenizer that has every byte gives
 * the text back, and what it exports reads back as a tokenizer that gives the same ids. */
#include "fuzz.h"
#include <string.h>
#include "ounce/text.h"

static oz_status again(const oz_tokenizer *t, const char *text, size_t bytes, const int32_t *ids, int64_t n)
{
    char *json = NULL, *config = NULL;
    oz_tokenizer *u = NULL;
    int32_t *other = NULL;
    int64_t m = 0;
    oz_status s = oz_tokenizer_export_json(t, &json, &config);
    if (!s) s = oz_tokenizer_from_json(&u, json, strlen(json), config, strlen(config), "exported");
    if (!s) s = oz_tokenize(u, text, bytes, OZ_TOKENIZE_SPECIAL, &other, &m);
    if (!s && (m != n || (n && memcmp(ids, other, (size_t)n * sizeof *ids)))) abort();
    oz_free(other);
    oz_tokenizer_free(u);
    oz_free(json);
    oz_free(config);
    return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_begin(&data, &size);
    const char *file = (const char *)data, *text = size ? memchr(file, 0, size) : NULL;
    size_t bytes = text ? (size_t)(text - file) : size, text_bytes = text ? size - bytes - 1 : 0, back_bytes = 0;
    text = text ? text + 1 : "";
    oz_tokenizer *t = NULL;
    int32_t *ids = NULL;
    int64_t n = 0;
    char *back = NULL;
    oz_status s = oz_tokenizer_from_json(&t, file, bytes, NULL, 0, "input");
    if (!s) s = oz_tokenize(t, text, text_bytes, OZ_TOKENIZE_SPECIAL, &ids, &n);
    for (int64_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= oz_tokenizer_vocab(t)) abort();
    if (!s) s = oz_detokenize(t, ids, n, false, &back, &back_bytes);
    if (!s) s = again(t, text, text_bytes, ids, n);
    oz_free(back);
    oz_free(ids);
    oz_tokenizer_free(t);
    fuzz_end(s);
    return 0;
}

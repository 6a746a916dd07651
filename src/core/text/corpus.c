/* core/text/corpus.c: texts by name, cut into documents, and token windows over them.
 *
 *   default, prose   texts/prose.txt; its first 80 % (to a paragraph's end) calibrate, the rest is held out
 *   wikitext2        wikitext-2/valid.tokens.txt without its "<unk>" calibrates, wikitext-2/wiki.test.raw is held out
 *   FILE             .txt (any text), .jsonl (one object a line, key "text"); the same text in both roles
 *   NAME             NAME, NAME.txt, NAME.jsonl, texts/NAME.txt in the data folders
 *   -                standard input
 *
 * Data folders: those of $OUNCE_DATA, separated by ':', then ${XDG_DATA_HOME:-~/.local/share}/ounce.  A text that is absent is an
 * error that names the file; it is never replaced by another.
 *
 * A document is a paragraph (plain text: blank lines between) or a line of a .jsonl file.  Its hash, over the text without outer
 * white space, tells whether calibration and evaluation share text. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "core/text/tokenizer.h"

static const size_t TEXT_MAX = (size_t)4 << 30;
enum { DOCUMENT_MIN = 64 }; /* shorter paragraphs (headings) say nothing about shared text */

static bool blank(char c) { return c == ' ' || (c >= 9 && c <= 13); }
static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && !strcmp(s + n - m, end);
}

/* ---- where ---- */
static oz_status try_file(const char *dir, size_t dir_bytes, const char *name, char **path)
{
    char *folder = oz_strndup(dir, dir_bytes), *p = folder ? oz_path_join(folder, name) : NULL;
    oz_free(folder);
    if (!p) return OZ_ERR_NOMEM;
    if (oz_path_exists(p) && !oz_path_is_dir(p))
        *path = p;
    else
        oz_free(p);
    return OZ_OK;
}

static oz_status search(const char *name, char **path)
{
    *path = NULL;
    for (const char *d = getenv("OUNCE_DATA"); d && *d && !*path;) {
        size_t n = strcspn(d, ":");
        if (n) OZ_TRY(try_file(d, n, name, path));
        d += n + (d[n] == ':');
    }
    if (*path) return OZ_OK;
    const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    char *dir = data && *data ? oz_path_join(data, "ounce") : home && *home ? oz_path_join(home, ".local/share/ounce") : NULL;
    if (!dir) return OZ_OK;
    oz_status s = try_file(dir, strlen(dir), name, path);
    oz_free(dir);
    return s;
}

static oz_status absent(const char *corpus, const char *file, bool fetched)
{
    const char *data = getenv("OUNCE_DATA");
    return oz_fail(OZ_ERR_IO,
                   fetched ? "run: tools/models/get texts"
                           : "give a file, or put it into a folder of $OUNCE_DATA; tools/models/get texts fetches the named corpora",
                   "text \"%.200s\": file %.200s was not found in $OUNCE_DATA (%.300s) or the user's data folder", corpus, file,
                   data && *data ? data : "not set");
}

/* ---- reading ---- */
static oz_status read_stdin(char **text, size_t *bytes)
{
    oz_sb b = {0};
    char chunk[65536];
    size_t n;
    while ((n = fread(chunk, 1, sizeof chunk, stdin)) > 0 && b.n <= TEXT_MAX && !b.failed) oz_sb_put(&b, chunk, n);
    if (ferror(stdin) || b.n > TEXT_MAX) {
        oz_free(b.s);
        return oz_fail(OZ_ERR_IO, NULL, "standard input: %s", ferror(stdin) ? "cannot be read" : "more text than 4 GiB");
    }
    return oz_sb_end(&b, text, bytes);
}

static void drop_word(char *text, size_t *bytes, const char *word)
{
    size_t m = strlen(word), to = 0, n = *bytes;
    for (size_t i = 0; i < n;) {
        if (text[i] == word[0] && n - i >= m && !memcmp(text + i, word, m)) {
            i += m;
            continue;
        }
        text[to++] = text[i++];
    }
    *bytes = to;
    text[to] = 0;
}

/* Start of the first paragraph at or after `at`. */
static size_t next_paragraph(const char *s, size_t n, size_t at)
{
    for (size_t i = at; i < n; i++) {
        if (s[i] != '\n') continue;
        size_t j = i + 1;
        while (j < n && s[j] != '\n' && blank(s[j])) j++;
        if (j < n && s[j] == '\n') {
            while (j < n && blank(s[j])) j++;
            return j;
        }
    }
    return n;
}

static oz_status add_document(oz_corpus *c, size_t start, size_t end, int64_t *cap)
{
    const char *s = c->text;
    while (start < end && blank(s[start])) start++;
    while (end > start && blank(s[end - 1])) end--;
    if (start == end) return OZ_OK;
    if (c->ndoc == *cap) {
        int64_t more = *cap ? *cap * 2 : 256;
        size_t *doc = oz_realloc(c->doc, (size_t)more, sizeof *doc);
        if (!doc) return OZ_ERR_NOMEM;
        c->doc = doc;
        uint64_t *hash = oz_realloc(c->doc_hash, (size_t)more, sizeof *hash);
        if (!hash) return OZ_ERR_NOMEM;
        c->doc_hash = hash;
        *cap = more;
    }
    c->doc[c->ndoc] = start;
    /* length in the hash's seed; too short: 0, which never counts as shared */
    c->doc_hash[c->ndoc++] = end - start < DOCUMENT_MIN ? 0 : oz_hash64(s + start, end - start, end - start);
    return OZ_OK;
}

static oz_status cut_paragraphs(oz_corpus *c)
{
    int64_t cap = 0;
    for (size_t at = 0; at < c->bytes;) {
        size_t next = next_paragraph(c->text, c->bytes, at);
        OZ_TRY(add_document(c, at, next, &cap));
        at = next;
    }
    return OZ_OK;
}

/* The texts of all lines, a blank line between two. */
static oz_status read_jsonl(oz_corpus *c)
{
    oz_sb b = {0};
    size_t *start = NULL, lines = 0, cap = 0;
    int64_t line = 0, docs = 0;
    oz_arena *arena = NULL;
    oz_status s = oz_arena_new(&arena, 0);
    for (size_t i = 0; i < c->bytes && !s;) {
        const char *from = c->text + i, *stop = memchr(from, '\n', c->bytes - i);
        size_t n = stop ? (size_t)(stop - from) : c->bytes - i, k = 0;
        i += n + 1, line++;
        while (k < n && blank(from[k])) k++;
        if (k == n) continue;
        oz_arena_mark mark = oz_arena_save(arena);
        oz_node *node = NULL;
        s = oz_json_parse(&node, from, n, c->path, arena);
        const oz_node *text = s ? NULL : oz_node_get(node, "text");
        if (s)
            s = oz_fail_in(s, "line %lld", (long long)line);
        else if (!text || text->kind != OZ_NODE_TEXT)
            s = oz_fail(OZ_ERR_PARSE, "every line is an object with a \"text\"", "%s:%lld: key \"text\" is missing or not a text", c->path,
                        (long long)line);
        if (!s && lines == cap) {
            cap = cap ? cap * 2 : 256;
            size_t *p = oz_realloc(start, cap, sizeof *p);
            if (p)
                start = p;
            else
                s = OZ_ERR_NOMEM;
        }
        if (!s) {
            if (lines) oz_sb_text(&b, "\n\n");
            start[lines++] = b.n;
            oz_sb_put(&b, text->text, text->length);
        }
        oz_arena_rewind(arena, mark);
    }
    oz_arena_free(arena);
    char *all = NULL;
    size_t bytes = 0;
    if (!s) s = oz_sb_end(&b, &all, &bytes);
    if (!s) {
        oz_free(c->text);
        c->text = all, c->bytes = bytes;
        for (size_t i = 0; i < lines && !s; i++) s = add_document(c, start[i], i + 1 < lines ? start[i + 1] : bytes, &docs);
    }
    oz_free(b.s);
    oz_free(start);
    return s;
}

/* ---- opening ---- */
static oz_status find(const char *name, oz_text_part part, char **path)
{
    const char *file = !strcmp(name, "default") || !strcmp(name, "prose") ? "texts/prose.txt" : NULL;
    if (!strcmp(name, "wikitext2")) file = part == OZ_TEXT_CALIBRATION ? "wikitext-2/valid.tokens.txt" : "wikitext-2/wiki.test.raw";
    if (file) {
        OZ_TRY(search(file, path));
        return *path ? OZ_OK : absent(name, file, true);
    }
    if (oz_path_exists(name)) {
        if (oz_path_is_dir(name)) return oz_fail(OZ_ERR_IO, "give a file", "text \"%.200s\" is a directory", name);
        *path = oz_strdup(name);
        return *path ? OZ_OK : OZ_ERR_NOMEM;
    }
    static const char *const folder[] = {"", "", "", "texts/", "texts/"}, *const ending[] = {"", ".txt", ".jsonl", ".txt", ".jsonl"};
    *path = NULL;
    for (int i = 0; i < 5 && !*path; i++) {
        char *file_name = oz_format_text("%s%s%s", folder[i], name, ending[i]);
        oz_status s = file_name ? search(file_name, path) : OZ_ERR_NOMEM;
        oz_free(file_name);
        OZ_TRY(s);
    }
    return *path ? OZ_OK : absent(name, name, false);
}

static int by_hash(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* A held-out half loses the documents that the calibration half has too: books repeat their boilerplate. */
static oz_status drop_shared(oz_corpus *held, char *calibration, size_t bytes)
{
    oz_corpus other = {.text = calibration, .bytes = bytes};
    int64_t shared = 0;
    oz_status s = cut_paragraphs(&other);
    if (!s) s = cut_paragraphs(held);
    if (!s) qsort(other.doc_hash, (size_t)other.ndoc, sizeof *other.doc_hash, by_hash);
    size_t to = 0;
    for (int64_t i = 0; !s && i < held->ndoc; i++) {
        size_t from = held->doc[i], end = i + 1 < held->ndoc ? held->doc[i + 1] : held->bytes;
        const uint64_t *h = &held->doc_hash[i];
        if (*h && other.ndoc && bsearch(h, other.doc_hash, (size_t)other.ndoc, sizeof *h, by_hash)) {
            shared++;
            continue;
        }
        memmove(held->text + to, held->text + from, end - from);
        to += end - from;
    }
    if (!s && shared) { /* the places moved: cut again */
        held->bytes = to;
        held->text[to] = 0;
    }
    oz_free(held->doc);
    oz_free(held->doc_hash);
    held->doc = NULL, held->doc_hash = NULL, held->ndoc = 0;
    oz_free(other.doc);
    oz_free(other.doc_hash);
    return s;
}

static oz_status fill(oz_corpus *c, const char *name, oz_text_part part)
{
    bool halves = !strcmp(name, "default") || !strcmp(name, "prose"), wikitext = !strcmp(name, "wikitext2");
    if (!strcmp(name, "-")) {
        c->path = oz_strdup("-");
        c->name = oz_strdup("stdin");
        if (!c->path || !c->name) return OZ_ERR_NOMEM;
        OZ_TRY(read_stdin(&c->text, &c->bytes));
        return cut_paragraphs(c);
    }
    static const char *const hint = "convert it to .jsonl, one {\"text\": ...} a line";
    if (ends_with(name, ".parquet")) return oz_fail(OZ_ERR_UNSUPPORTED, hint, "%.300s: parquet files are not read", name);
    OZ_TRY(find(name, part, &c->path));
    const char *base = strrchr(c->path, '/');
    c->name = oz_strdup(halves || wikitext ? name : base ? base + 1 : c->path);
    if (!c->name) return OZ_ERR_NOMEM;
    OZ_TRY(oz_read_file(c->path, TEXT_MAX, &c->text, &c->bytes));
    if (c->bytes >= 4 && !memcmp(c->text, "PAR1", 4)) return oz_fail(OZ_ERR_UNSUPPORTED, hint, "%s: parquet files are not read", c->path);
    if (ends_with(c->path, ".jsonl")) return read_jsonl(c);
    if (wikitext && part == OZ_TEXT_CALIBRATION) drop_word(c->text, &c->bytes, "<unk>");
    if (wikitext)
        drop_word(c->text, &c->bytes,
                  "\r"); /* some copies have CR LF; published figures read lines. A file by its path is read as it is. */
    if (halves) {
        size_t at = next_paragraph(c->text, c->bytes, c->bytes / 5 * 4);
        if (part == OZ_TEXT_CALIBRATION) {
            c->bytes = at;
        } else {
            char *first = oz_alloc(at + 1, 1);
            if (!first) return OZ_ERR_NOMEM;
            memcpy(first, c->text, at);
            first[at] = 0;
            memmove(c->text, c->text + at, c->bytes - at);
            c->bytes -= at;
            c->text[c->bytes] = 0;
            oz_status s = drop_shared(c, first, at);
            oz_free(first);
            OZ_TRY(s);
        }
        c->text[c->bytes] = 0;
    }
    return cut_paragraphs(c);
}

oz_status oz_corpus_open(oz_corpus **out, const char *name, oz_text_part part)
{
    *out = NULL;
    oz_corpus *c = oz_zalloc(1, sizeof *c);
    if (!c) return OZ_ERR_NOMEM;
    oz_status s = fill(c, name, part);
    if (!s && c->ndoc == 0) s = oz_fail(OZ_ERR_PARSE, NULL, "%s: holds no text", c->path);
    if (s) {
        oz_corpus_free(c);
        return s;
    }
    *out = c;
    return OZ_OK;
}

void oz_corpus_free(oz_corpus *c)
{
    if (!c) return;
    oz_free(c->text);
    oz_free(c->name);
    oz_free(c->path);
    oz_free(c->doc);
    oz_free(c->doc_hash);
    oz_free(c);
}

int64_t oz_corpus_overlap(const oz_corpus *a, const oz_corpus *b)
{
    uint64_t *h = oz_alloc((size_t)b->ndoc + 1, sizeof *h);
    if (!h) return -1;
    memcpy(h, b->doc_hash, (size_t)b->ndoc * sizeof *h);
    qsort(h, (size_t)b->ndoc, sizeof *h, by_hash);
    int64_t common = 0;
    for (int64_t i = 0; i < a->ndoc; i++) common += a->doc_hash[i] && bsearch(&a->doc_hash[i], h, (size_t)b->ndoc, sizeof *h, by_hash);
    oz_free(h);
    return common;
}

/* ---- windows ---- */
/* A prefix of the text whose tokens are the first tokens of the whole: it ends before a newline that follows a letter or digit,
 * where every pre-tokenizer cuts. */
static size_t safe_cut(const char *s, size_t n, size_t at)
{
    for (size_t i = at; i < n; i++)
        if (s[i] == '\n' && i > 0 && ((s[i - 1] | 32) >= 'a') && ((s[i - 1] | 32) <= 'z')) return i;
    return n;
}

oz_status oz_corpus_windows(const oz_corpus *c, const oz_tokenizer *t, int64_t samples, int64_t length, bool bos, int32_t **ids, int64_t *n)
{
    *ids = NULL, *n = 0;
    const int64_t put = bos && oz_tokenizer_adds_bos(t), body = length - put;
    if (samples < 1 || body < 1 || samples > INT64_MAX / 16 / length)
        return oz_fail(OZ_ERR_RANGE, NULL, "%s: %lld samples of %lld tokens cannot be taken", c->name, (long long)samples,
                       (long long)length);
    int32_t *all = NULL;
    int64_t count = 0, need = samples * body;
    size_t take = c->bytes / 8 > (size_t)need ? (size_t)need * 5 : c->bytes;
    for (;;) { /* only as much text as the windows need is tokenized */
        take = safe_cut(c->text, c->bytes, take < c->bytes ? take : c->bytes);
        OZ_TRY(oz_tokenize(t, c->text, take, 0, &all, &count));
        if (count >= need || take == c->bytes) break;
        oz_free(all);
        take = take > c->bytes / 2 ? c->bytes : take * 2;
    }
    int64_t got = count / body < samples ? count / body : samples;
    if (got == 0) {
        oz_free(all);
        return oz_fail(OZ_ERR_SHAPE, "use a longer text or shorter samples", "%s: %lld tokens, expected at least one sample of %lld",
                       c->path, (long long)count, (long long)length);
    }
    int32_t *w = oz_alloc((size_t)(got * length), sizeof *w);
    if (!w) {
        oz_free(all);
        return OZ_ERR_NOMEM;
    }
    for (int64_t i = 0; i < got; i++) {
        if (put) w[i * length] = oz_tokenizer_bos(t);
        memcpy(w + i * length + put, all + i * body, (size_t)body * sizeof *w);
    }
    oz_free(all);
    *ids = w, *n = got;
    return OZ_OK;
}

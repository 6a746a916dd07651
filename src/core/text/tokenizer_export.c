/* core/text/tokenizer_export.c: writing a tokenizer in the other file kind.
 *
 * From either source: tokenizer.json and tokenizer_config.json as Hugging Face's tokenizers read them, or the tokenizer.ggml.* keys
 * as llama.cpp reads them.  Reading the result back gives equal ids; the tests hold that. */
#include "core/text/tokenizer.h"

static void key(oz_sb *b, const char *name)
{
    oz_sb_text(b, "\"");
    oz_sb_text(b, name);
    oz_sb_text(b, "\": ");
}
static void flag(oz_sb *b, const char *name, bool on)
{
    key(b, name);
    oz_sb_text(b, on ? "true" : "false");
}
static void spelled(oz_sb *b, const oz_tokenizer *t, int32_t id) { oz_sb_json(b, t->spell[id].s, t->spell[id].n); }

static void put_added(oz_sb *b, const oz_tokenizer *t)
{
    oz_sb_text(b, "  \"added_tokens\": [");
    for (int i = 0; i < t->nadded; i++) {
        const oz_added *a = &t->added[i];
        oz_sb_format(b, "%s\n    {\"id\": %d, \"content\": ", i ? "," : "", (int)a->id);
        spelled(b, t, a->id);
        oz_sb_text(b, ", "), flag(b, "single_word", a->single_word);
        oz_sb_text(b, ", "), flag(b, "lstrip", a->lstrip);
        oz_sb_text(b, ", "), flag(b, "rstrip", a->rstrip);
        oz_sb_text(b, ", "), flag(b, "normalized", a->normalized);
        oz_sb_text(b, ", "), flag(b, "special", a->special);
        oz_sb_text(b, "}");
    }
    oz_sb_text(b, t->nadded ? "\n  ],\n" : "],\n");
}

static void put_step(oz_sb *b, const oz_pre_step *s)
{
    static const char *const behaviors[] = {"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
    switch (s->kind) {
    case OZ_PRE_SPLIT:
        oz_sb_format(b, "{\"type\": \"Split\", \"pattern\": {\"%s\": ", s->literal ? "String" : "Regex");
        oz_sb_json(b, s->pattern, s->pattern_bytes);
        oz_sb_format(b, "}, \"behavior\": \"%s\", ", behaviors[s->behavior]), flag(b, "invert", s->invert);
        break;
    case OZ_PRE_DIGITS:
        oz_sb_text(b, "{\"type\": \"Digits\", "), flag(b, "individual_digits", s->individual);
        break;
    case OZ_PRE_BYTES:
        oz_sb_text(b, "{\"type\": \"ByteLevel\", "), flag(b, "add_prefix_space", s->prefix_space);
        oz_sb_text(b, ", \"trim_offsets\": true, "), flag(b, "use_regex", s->use_regex);
        break;
    }
    oz_sb_text(b, "}");
}

static void put_pipeline(oz_sb *b, const oz_tokenizer *t)
{
    static const char *const norms[] = {"null", "{\"type\": \"NFC\"}", "{\"type\": \"NFD\"}", "{\"type\": \"NFKC\"}",
                                        "{\"type\": \"NFKD\"}"};
    oz_sb_text(b, "  \"normalizer\": "), oz_sb_text(b, norms[t->norm]), oz_sb_text(b, ",\n  \"pre_tokenizer\": ");
    if (t->pre.n > 1) oz_sb_text(b, "{\"type\": \"Sequence\", \"pretokenizers\": [");
    for (int i = 0; i < t->pre.n; i++) {
        oz_sb_text(b, i ? ", " : "");
        put_step(b, &t->pre.step[i]);
    }
    oz_sb_text(b, t->pre.n > 1 ? "]},\n" : ",\n");
    const char *bytes = "{\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": false, \"use_regex\": true}";
    oz_sb_text(b, "  \"post_processor\": ");
    if (oz_tokenizer_adds_bos(t)) {
        oz_sb_text(b, "{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": "), spelled(b, t, t->bos);
        oz_sb_text(b, ", \"type_id\": 0}}, {\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}], \"pair\": [{\"SpecialToken\": {\"id\": "),
            spelled(b, t, t->bos);
        oz_sb_text(b, ", \"type_id\": 0}}, {\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}, {\"SpecialToken\": {\"id\": "),
            spelled(b, t, t->bos);
        oz_sb_text(b, ", \"type_id\": 1}}, {\"Sequence\": {\"id\": \"B\", \"type_id\": 1}}], \"special_tokens\": {"), spelled(b, t, t->bos);
        oz_sb_text(b, ": {\"id\": "), spelled(b, t, t->bos);
        oz_sb_format(b, ", \"ids\": [%d], \"tokens\": [", (int)t->bos), spelled(b, t, t->bos), oz_sb_text(b, "]}}}");
    } else {
        oz_sb_text(b, bytes);
    }
    oz_sb_text(b, ",\n  \"decoder\": "), oz_sb_text(b, bytes), oz_sb_text(b, ",\n");
}

static void put_model(oz_sb *b, const oz_tokenizer *t)
{
    oz_sb_text(b, "  \"model\": {\"type\": \"BPE\", \"dropout\": null, \"unk_token\": ");
    if (t->bpe.unk >= 0)
        spelled(b, t, t->bpe.unk);
    else
        oz_sb_text(b, "null");
    oz_sb_text(b, ", \"continuing_subword_prefix\": null, \"end_of_word_suffix\": null, "), flag(b, "fuse_unk", t->bpe.fuse_unk);
    oz_sb_text(b, ", \"byte_fallback\": false, "), flag(b, "ignore_merges", t->ignore_merges);
    oz_sb_text(b, ",\n  \"vocab\": {");
    bool first = true, spaces = false;
    for (int32_t id = 0; id < t->n; id++) {
        if (!t->spell[id].s || !(t->flag[id] & OZ_TOKEN_MODEL)) continue;
        oz_sb_text(b, first ? "\n    " : ",\n    ");
        spelled(b, t, id);
        oz_sb_format(b, ": %d", (int)id);
        first = false;
        spaces |= memchr(t->spell[id].s, ' ', t->spell[id].n) != NULL;
    }
    oz_sb_text(b, "\n  },\n  \"merges\": [");
    for (int32_t i = 0; i < t->nmerge; i++) { /* "a b", which every version reads, unless a token holds a space */
        oz_str l = t->spell[t->merge[i][0]], r = t->spell[t->merge[i][1]];
        oz_sb_text(b, i ? ",\n    " : "\n    ");
        if (spaces) {
            oz_sb_text(b, "["), oz_sb_json(b, l.s, l.n), oz_sb_text(b, ", "), oz_sb_json(b, r.s, r.n), oz_sb_text(b, "]");
            continue;
        }
        oz_sb_json(b, l.s, l.n);
        if (b->n && !b->failed) b->n--; /* one string: the closing quote gives way to the space */
        size_t quote = b->n;
        oz_sb_json(b, r.s, r.n);
        if (!b->failed && quote < b->n) b->s[quote] = ' ';
    }
    oz_sb_text(b, "\n  ]}\n}\n");
}

oz_status oz_tokenizer_export_json(const oz_tokenizer *t, char **json, char **config_json)
{
    oz_sb b = {0}, c = {0};
    *json = *config_json = NULL;
    oz_sb_text(&b, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n");
    put_added(&b, t);
    put_pipeline(&b, t);
    put_model(&b, t);
    oz_sb_text(&c, "{\n  "), flag(&c, "add_bos_token", oz_tokenizer_adds_bos(t));
    oz_sb_text(&c, ",\n  \"add_prefix_space\": "), oz_sb_text(&c, t->pre.n && t->pre.step[0].prefix_space ? "true" : "false");
    const struct {
        const char *key;
        int32_t id;
    } names[] = {{"bos_token", t->bos}, {"eos_token", t->eos}, {"pad_token", t->pad}, {"unk_token", t->unk_id}};
    for (int i = 0; i < 4; i++) {
        oz_sb_text(&c, ",\n  "), key(&c, names[i].key);
        if (names[i].id >= 0 && t->spell[names[i].id].s)
            spelled(&c, t, names[i].id);
        else
            oz_sb_text(&c, "null");
    }
    oz_sb_text(&c, ",\n  \"clean_up_tokenization_spaces\": false,\n  \"tokenizer_class\": \"PreTrainedTokenizerFast\"\n}\n");
    oz_status s = oz_sb_end(&b, json, NULL);
    if (!s) s = oz_sb_end(&c, config_json, NULL);
    if (s) {
        oz_free(c.s);
        oz_free(*json);
        *json = NULL;
    }
    return s;
}

/* ---- GGUF ---- */
typedef struct {
    oz_out_meta *m;
    int n;
    oz_arena *arena;
} metas;

static void *scalar(metas *x, const char *name, oz_gguf_kind kind, const void *value, size_t bytes)
{
    void *copy = oz_arena_alloc(x->arena, bytes + 1);
    if (!copy) return NULL;
    memcpy(copy, value, bytes);
    ((char *)copy)[bytes] = 0;
    x->m[x->n++] = (oz_out_meta){.key = name, .kind = kind, .count = kind == OZ_GGUF_STRING ? bytes : 1, .data = copy};
    return copy;
}

static const char *terminated(oz_arena *a, oz_str s) { return s.s ? oz_arena_strndup(a, s.s, s.n) : ""; }

oz_status oz_tokenizer_export_gguf(const oz_tokenizer *t, oz_out_meta **out, int *n, oz_arena *arena)
{
    const char *const hint = "keep the model as a directory, or use a tokenizer of a known family";
    *out = NULL, *n = 0;
    if (!t->preset)
        return oz_fail(OZ_ERR_EXPORT, hint, "pre_tokenizer: GGUF names pre-tokenizers, and these %d steps have no name there", t->pre.n);
    metas x = {.m = oz_arena_zalloc(arena, 16 * sizeof(oz_out_meta)), .arena = arena};
    const char **tokens = oz_arena_alloc(arena, (size_t)t->n * sizeof *tokens + 1),
               **merges = oz_arena_alloc(arena, (size_t)t->nmerge * sizeof *merges + 1);
    int32_t *types = oz_arena_alloc(arena, (size_t)t->n * sizeof *types + 1);
    if (!x.m || !tokens || !merges || !types) return OZ_ERR_NOMEM;
    for (int32_t id = 0; id < t->n; id++) {
        unsigned f = t->flag[id];
        tokens[id] = t->spell[id].s ? terminated(arena, t->spell[id]) : oz_arena_printf(arena, "[UNUSED%d]", (int)id);
        types[id] = !t->spell[id].s || f & OZ_TOKEN_UNUSED ? 5 : f & OZ_TOKEN_SPECIAL ? 3 : f & OZ_TOKEN_ADDED ? 4 : 1;
        if (!tokens[id]) return OZ_ERR_NOMEM;
        if (memchr(tokens[id], 0, t->spell[id].n) && t->spell[id].s)
            return oz_fail(OZ_ERR_EXPORT, hint, "token %d holds a NUL character", (int)id);
    }
    for (int32_t i = 0; i < t->nmerge; i++) {
        oz_str l = t->spell[t->merge[i][0]], r = t->spell[t->merge[i][1]];
        if (memchr(l.s, ' ', l.n) || memchr(r.s, ' ', r.n))
            return oz_fail(OZ_ERR_EXPORT, hint, "merge %d: a part with a space cannot be written in GGUF", (int)i);
        merges[i] = oz_arena_printf(arena, "%.*s %.*s", (int)l.n, l.s, (int)r.n, r.s);
        if (!merges[i]) return OZ_ERR_NOMEM;
    }
    bool ok = scalar(&x, "tokenizer.ggml.model", OZ_GGUF_STRING, "gpt2", 4) != NULL;
    ok = ok && scalar(&x, "tokenizer.ggml.pre", OZ_GGUF_STRING, t->preset->name, strlen(t->preset->name));
    x.m[x.n++] = (oz_out_meta){
        .key = "tokenizer.ggml.tokens", .kind = OZ_GGUF_ARRAY, .item = OZ_GGUF_STRING, .count = (uint64_t)t->n, .data = tokens};
    x.m[x.n++] = (oz_out_meta){
        .key = "tokenizer.ggml.token_type", .kind = OZ_GGUF_ARRAY, .item = OZ_GGUF_I32, .count = (uint64_t)t->n, .data = types};
    x.m[x.n++] = (oz_out_meta){
        .key = "tokenizer.ggml.merges", .kind = OZ_GGUF_ARRAY, .item = OZ_GGUF_STRING, .count = (uint64_t)t->nmerge, .data = merges};
    const struct {
        const char *key;
        int32_t id;
    } ids[] = {{"tokenizer.ggml.bos_token_id", t->bos},
               {"tokenizer.ggml.eos_token_id", t->eos},
               {"tokenizer.ggml.unknown_token_id", t->unk_id},
               {"tokenizer.ggml.padding_token_id", t->pad}};
    for (int i = 0; i < 4 && ok; i++) {
        uint32_t id = (uint32_t)ids[i].id;
        if (ids[i].id >= 0) ok = scalar(&x, ids[i].key, OZ_GGUF_U32, &id, sizeof id) != NULL;
    }
    uint8_t add = oz_tokenizer_adds_bos(t), prefix = 0;
    ok = ok && scalar(&x, "tokenizer.ggml.add_bos_token", OZ_GGUF_BOOL, &add, 1) &&
         scalar(&x, "tokenizer.ggml.add_space_prefix", OZ_GGUF_BOOL, &prefix, 1);
    if (!ok) return OZ_ERR_NOMEM;
    *out = x.m, *n = x.n;
    return OZ_OK;
}

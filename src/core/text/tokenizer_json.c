/* core/text/tokenizer_json.c: reading Hugging Face's tokenizer.json and tokenizer_config.json.
 *
 *   tokenizer.json         model (BPE: vocab, merges, ignore_merges, unk_token, fuse_unk), added_tokens, normalizer, pre_tokenizer,
 *                          post_processor (TemplateProcessing: is a BOS put in front), decoder (must be ByteLevel)
 *   tokenizer_config.json  bos_token, eos_token, pad_token, unk_token, add_bos_token
 *
 * What is not understood is refused by name: a tokenizer that is nearly right gives wrong ids and no error. */
#include <stdlib.h>
#include "core/text/tokenizer.h"

enum { ID_GAP = 1 << 20 }; /* ids may skip some numbers, not many more than there are tokens */

static bool is(const oz_node *n, const char *key, const char *word)
{
    const char *s = oz_node_text(oz_node_get(n, key), NULL);
    return s && !strcmp(s, word);
}
static bool absent(const oz_node *n) { return !n || n->kind == OZ_NODE_NULL; }

static oz_status read_normalizer(oz_tokenizer *t, const oz_node *n, const char *file)
{
    static const char *const names[] = {"NFC", "NFD", "NFKC", "NFKD"};
    if (absent(n)) return OZ_OK;
    const char *type = oz_node_text(oz_node_get(n, "type"), "");
    const oz_node *list = oz_node_get(n, "normalizers");
    if (!strcmp(type, "Sequence") && list && list->kind == OZ_NODE_LIST && list->n <= 1)
        return list->n ? read_normalizer(t, oz_node_at(list, 0), file) : OZ_OK;
    for (int i = 0; i < 4; i++)
        if (!strcmp(type, names[i])) {
            t->norm = (oz_norm)(OZ_NORM_NFC + i);
            return OZ_OK;
        }
    return oz_fail(OZ_ERR_UNSUPPORTED, "supported: none, NFC, NFD, NFKC, NFKD", "%s: normalizer of type \"%.60s\" is not supported", file,
                   type);
}

static oz_status read_split(oz_tokenizer *t, const oz_node *n, oz_pre_step *s, const char *file)
{
    static const char *const behaviors[] = {"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
    const oz_node *pattern = oz_node_get(n, "pattern"), *regex = oz_node_get(pattern, "Regex"), *plain = oz_node_get(pattern, "String");
    const oz_node *text = regex ? regex : plain;
    if (!text || text->kind != OZ_NODE_TEXT)
        return oz_fail(OZ_ERR_PARSE, NULL, "%s: pre_tokenizer Split: key \"pattern\" must hold \"Regex\" or \"String\"", file);
    char *copy = oz_arena_alloc(t->arena, text->length + 1);
    if (!copy) return OZ_ERR_NOMEM;
    memcpy(copy, text->text, text->length);
    copy[text->length] = 0;
    *s = (oz_pre_step){.kind = OZ_PRE_SPLIT,
                       .pattern = copy,
                       .pattern_bytes = text->length,
                       .literal = !regex,
                       .invert = oz_node_bool(oz_node_get(n, "invert"), false)};
    const char *behavior = oz_node_text(oz_node_get(n, "behavior"), "");
    for (int i = 0; i < 5; i++)
        if (!strcmp(behavior, behaviors[i])) {
            s->behavior = (oz_split_behavior)i;
            return OZ_OK;
        }
    return oz_fail(OZ_ERR_PARSE, "expected Isolated, Removed, MergedWithPrevious, MergedWithNext or Contiguous",
                   "%s: pre_tokenizer Split: unknown behavior \"%.60s\"", file, behavior);
}

static oz_status read_pre(oz_tokenizer *t, const oz_node *n, int depth, const char *file)
{
    const char *type = oz_node_text(oz_node_get(n, "type"), "");
    if (!strcmp(type, "Sequence")) {
        const oz_node *list = oz_node_get(n, "pretokenizers");
        if (!list || list->kind != OZ_NODE_LIST || depth > 4)
            return oz_fail(OZ_ERR_PARSE, NULL, "%s: pre_tokenizer Sequence: \"pretokenizers\" must be a list, nested at most 4 deep", file);
        for (int i = 0; i < list->n; i++) OZ_TRY(read_pre(t, oz_node_at(list, i), depth + 1, file));
        return OZ_OK;
    }
    if (t->pre.n == OZ_PRE_MAX) return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "%s: pre_tokenizer of more than %d steps", file, OZ_PRE_MAX);
    oz_pre_step *s = &t->pre.step[t->pre.n];
    if (!strcmp(type, "Split")) {
        OZ_TRY(read_split(t, n, s, file));
    } else if (!strcmp(type, "Digits")) {
        *s = (oz_pre_step){.kind = OZ_PRE_DIGITS, .individual = oz_node_bool(oz_node_get(n, "individual_digits"), false)};
    } else if (!strcmp(type, "ByteLevel")) {
        *s = (oz_pre_step){.kind = OZ_PRE_BYTES,
                           .use_regex = oz_node_bool(oz_node_get(n, "use_regex"), true),
                           .prefix_space = oz_node_bool(oz_node_get(n, "add_prefix_space"), true)};
        if (s->prefix_space && t->pre.n > 0)
            return oz_fail(OZ_ERR_UNSUPPORTED, NULL,
                           "%s: pre_tokenizer ByteLevel with add_prefix_space is supported as the first step, here it is step %d", file,
                           t->pre.n + 1);
    } else {
        return oz_fail(OZ_ERR_UNSUPPORTED, "supported: ByteLevel, Split, Digits and Sequence of them",
                       "%s: pre_tokenizer of type \"%.60s\" is not supported", file, type);
    }
    t->pre.n++;
    return OZ_OK;
}

/* A token by its text, of the added tokens first. */
static int32_t find_node(const oz_tokenizer *t, const oz_node *n)
{
    if (n && n->kind == OZ_NODE_MAP) n = oz_node_get(n, "content");
    if (!n || n->kind != OZ_NODE_TEXT) return -1;
    for (int i = 0; i < t->nadded; i++) {
        oz_str s = t->spell[t->added[i].id];
        if (s.n == n->length && !memcmp(s.s, n->text, s.n)) return t->added[i].id;
    }
    return oz_str_map_find(&t->by_spell, t->spell, n->text, n->length);
}

/* A template that begins with a special token puts a BOS in front. */
static oz_status read_post(oz_tokenizer *t, const oz_node *n, int depth, const char *file)
{
    if (absent(n)) return OZ_OK;
    const char *type = oz_node_text(oz_node_get(n, "type"), "");
    if (!strcmp(type, "ByteLevel")) return OZ_OK; /* offsets only */
    if (!strcmp(type, "Sequence") && depth < 4) {
        const oz_node *list = oz_node_get(n, "processors");
        for (int i = 0; list && list->kind == OZ_NODE_LIST && i < list->n; i++) OZ_TRY(read_post(t, oz_node_at(list, i), depth + 1, file));
        return OZ_OK;
    }
    if (strcmp(type, "TemplateProcessing"))
        return oz_fail(OZ_ERR_UNSUPPORTED, "supported: ByteLevel, TemplateProcessing and Sequence of them",
                       "%s: post_processor of type \"%.60s\" is not supported", file, type);
    const oz_node *first = oz_node_get(oz_node_at(oz_node_get(n, "single"), 0), "SpecialToken");
    if (!first) return OZ_OK;
    t->bos = find_node(t, oz_node_get(first, "id"));
    if (t->bos < 0)
        return oz_fail(OZ_ERR_PARSE, NULL, "%s: post_processor: the token \"%.60s\" is not in the vocabulary", file,
                       oz_node_text(oz_node_get(first, "id"), ""));
    t->adds_bos = true;
    return OZ_OK;
}

static oz_status read_config(oz_tokenizer *t, const oz_node *c, const char *file)
{
    const struct {
        const char *key;
        int32_t *id;
    } names[] = {{"bos_token", &t->bos}, {"eos_token", &t->eos}, {"pad_token", &t->pad}, {"unk_token", &t->unk_id}};
    for (int i = 0; i < 4; i++) {
        const oz_node *n = oz_node_get(c, names[i].key);
        if (absent(n)) continue;
        int32_t id = find_node(t, n);
        if (id < 0) {
            const oz_node *text = n->kind == OZ_NODE_MAP ? oz_node_get(n, "content") : n;
            return oz_fail(OZ_ERR_PARSE, NULL, "%s: tokenizer_config.json: %s \"%.60s\" is not in the vocabulary", file, names[i].key,
                           oz_node_text(text, ""));
        }
        if (i > 0 || !t->adds_bos) *names[i].id = id; /* the template's own token is the one that is put in front */
    }
    const oz_node *add = oz_node_get(c, "add_bos_token");
    if (!absent(add)) t->adds_bos = oz_node_bool(add, false);
    return OZ_OK;
}

/* Size of everything, so that nothing grows while it is read. */
static oz_status measure(const oz_node *vocab, const oz_node *added, int32_t *ids, size_t *bytes, const char *file)
{
    int64_t max = -1, count = (int64_t)vocab->n + added->n;
    *bytes = 0;
    for (int i = 0; i < vocab->n; i++) {
        const oz_pair *p = &vocab->item[i];
        if (!p->value || p->value->kind != OZ_NODE_INT)
            return oz_fail(OZ_ERR_PARSE, NULL, "%s: model.vocab: token \"%.60s\" has no integer id", file, p->key);
        if (p->value->integer > max) max = p->value->integer;
        *bytes += strlen(p->key);
    }
    for (int i = 0; i < added->n; i++) {
        const oz_node *a = oz_node_at(added, i), *id = oz_node_get(a, "id"), *content = oz_node_get(a, "content");
        if (!id || id->kind != OZ_NODE_INT || !content || content->kind != OZ_NODE_TEXT)
            return oz_fail(OZ_ERR_PARSE, NULL, "%s: added_tokens[%d] needs an integer \"id\" and a text \"content\"", file, i);
        if (id->integer > max) max = id->integer;
        *bytes += content->length;
    }
    if (max >= count + ID_GAP)
        return oz_fail(OZ_ERR_RANGE, NULL, "%s: largest token id is %lld for %lld tokens", file, (long long)max, (long long)count);
    *ids = (int32_t)(max + 1);
    return OZ_OK;
}

static oz_status read_merges(oz_tokenizer *t, const oz_node *merges, const char *file)
{
    for (int i = 0; i < merges->n; i++) {
        const oz_node *m = oz_node_at(merges, i);
        if (m->kind == OZ_NODE_TEXT) {
            const char *space = memchr(m->text, ' ', m->length);
            size_t left = space ? (size_t)(space - m->text) : 0;
            if (!left || left + 1 >= m->length || memchr(space + 1, ' ', m->length - left - 1))
                return oz_fail(OZ_ERR_PARSE, NULL, "%s: merge %d is \"%.80s\", expected two parts with a space between", file, i, m->text);
            OZ_TRY(oz_tokenizer_put_merge(t, m->text, left, space + 1, m->length - left - 1, file));
            continue;
        }
        const oz_node *a = oz_node_at(m, 0), *b = oz_node_at(m, 1);
        if (m->kind != OZ_NODE_LIST || m->n != 2 || a->kind != OZ_NODE_TEXT || b->kind != OZ_NODE_TEXT)
            return oz_fail(OZ_ERR_PARSE, NULL, "%s: merge %d is neither \"a b\" nor [\"a\", \"b\"]", file, i);
        OZ_TRY(oz_tokenizer_put_merge(t, a->text, a->length, b->text, b->length, file));
    }
    return OZ_OK;
}

static oz_status check_model(const oz_node *root, const char *file)
{
    const oz_node *model = oz_node_get(root, "model"), *decoder = oz_node_get(root, "decoder");
    if (!model || model->kind != OZ_NODE_MAP)
        return oz_fail(OZ_ERR_PARSE, "is this a tokenizer.json?", "%s: key \"model\" is missing", file);
    if (!is(model, "type", "BPE") && !absent(oz_node_get(model, "type")))
        return oz_fail(OZ_ERR_UNSUPPORTED, "supported: BPE over bytes (GPT-2, SmolLM, Llama 3, Qwen2 and their like)",
                       "%s: tokenizer model \"%.60s\" is not supported", file, oz_node_text(oz_node_get(model, "type"), "?"));
    if (oz_node_bool(oz_node_get(model, "byte_fallback"), false))
        return oz_fail(OZ_ERR_UNSUPPORTED, "supported: BPE over bytes (pre_tokenizer ByteLevel)",
                       "%s: model.byte_fallback (SentencePiece-style BPE) is not supported", file);
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (int i = 0; i < 2; i++) {
        const oz_node *n = oz_node_get(model, affixes[i]);
        if (n && n->kind == OZ_NODE_TEXT && n->length)
            return oz_fail(OZ_ERR_UNSUPPORTED, "supported: none", "%s: model.%s \"%.20s\" is not supported", file, affixes[i], n->text);
    }
    if (oz_node_real(oz_node_get(model, "dropout"), 0) != 0)
        return oz_fail(OZ_ERR_UNSUPPORTED, "supported: none", "%s: model.dropout %g makes ids random", file,
                       oz_node_real(oz_node_get(model, "dropout"), 0));
    if (!absent(decoder) && !is(decoder, "type", "ByteLevel"))
        return oz_fail(OZ_ERR_UNSUPPORTED, "supported: ByteLevel", "%s: decoder of type \"%.60s\" is not supported", file,
                       oz_node_text(oz_node_get(decoder, "type"), "?"));
    const char *const keys[] = {"vocab", "merges"};
    for (int i = 0; i < 2; i++) {
        const oz_node *n = oz_node_get(model, keys[i]);
        if (!n || n->kind != (i ? OZ_NODE_LIST : OZ_NODE_MAP))
            return oz_fail(OZ_ERR_PARSE, NULL, "%s: key \"model.%s\" is missing or not a %s", file, keys[i], i ? "list" : "map");
    }
    return OZ_OK;
}

static oz_status build(oz_tokenizer **out, const oz_node *root, const oz_node *config, const char *file)
{
    static const oz_node none = {.kind = OZ_NODE_LIST};
    OZ_TRY(check_model(root, file));
    const oz_node *model = oz_node_get(root, "model"), *vocab = oz_node_get(model, "vocab"), *merges = oz_node_get(model, "merges");
    const oz_node *added = oz_node_get(root, "added_tokens");
    if (absent(added) || added->kind != OZ_NODE_LIST) added = &none;
    int32_t n = 0;
    size_t bytes = 0;
    OZ_TRY(measure(vocab, added, &n, &bytes, file));
    oz_tokenizer *t;
    OZ_TRY(oz_tokenizer_new(&t, n, bytes, (size_t)merges->n, (size_t)added->n));
    oz_status s = read_normalizer(t, oz_node_get(root, "normalizer"), file);
    for (int i = 0; !s && i < vocab->n; i++)
        s = oz_tokenizer_put(t, (int32_t)vocab->item[i].value->integer, vocab->item[i].key, strlen(vocab->item[i].key), OZ_TOKEN_MODEL,
                             file);
    for (int i = 0; !s && i < added->n; i++) {
        const oz_node *a = oz_node_at(added, i), *content = oz_node_get(a, "content");
        bool special = oz_node_bool(oz_node_get(a, "special"), false);
        int32_t id = (int32_t)oz_node_int(oz_node_get(a, "id"), -1);
        s = oz_tokenizer_put(t, id, content->text, content->length, OZ_TOKEN_ADDED, file);
        if (!s)
            s = oz_tokenizer_put_added(t,
                                       &(oz_added){.id = id,
                                                   .special = special,
                                                   .lstrip = oz_node_bool(oz_node_get(a, "lstrip"), false),
                                                   .rstrip = oz_node_bool(oz_node_get(a, "rstrip"), false),
                                                   .single_word = oz_node_bool(oz_node_get(a, "single_word"), false),
                                                   .normalized = oz_node_bool(oz_node_get(a, "normalized"), !special)},
                                       file);
    }
    if (!s) s = oz_tokenizer_index(t, file);
    if (!s) s = read_merges(t, merges, file);
    if (!s) {
        t->ignore_merges = oz_node_bool(oz_node_get(model, "ignore_merges"), false);
        t->bpe.fuse_unk = oz_node_bool(oz_node_get(model, "fuse_unk"), false);
        t->bpe.unk = t->unk_id = find_node(t, oz_node_get(model, "unk_token"));
        const oz_node *pre = oz_node_get(root, "pre_tokenizer");
        if (!absent(pre)) s = read_pre(t, pre, 0, file);
    }
    bool bytes_step = false;
    for (int i = 0; i < t->pre.n; i++) bytes_step |= t->pre.step[i].kind == OZ_PRE_BYTES;
    if (!s && !bytes_step) s = oz_fail(OZ_ERR_UNSUPPORTED, "supported: BPE over bytes", "%s: pre_tokenizer has no ByteLevel step", file);
    if (!s) s = read_post(t, oz_node_get(root, "post_processor"), 0, file);
    if (!s && config) s = read_config(t, config, file);
    if (!s) s = oz_tokenizer_finish(t, file);
    if (s) {
        oz_tokenizer_free(t);
        return s;
    }
    *out = t;
    return OZ_OK;
}

oz_status oz_tokenizer_from_json(oz_tokenizer **out, const char *json, size_t bytes, const char *config_json, size_t config_bytes,
                                 const char *file)
{
    oz_arena *arena;
    oz_node *root = NULL, *config = NULL;
    *out = NULL;
    OZ_TRY(oz_arena_new(&arena, 0));
    oz_status s = oz_json_parse(&root, json, bytes, file, arena);
    if (!s && config_json) s = oz_json_parse(&config, config_json, config_bytes, "tokenizer_config.json", arena);
    if (!s) s = build(out, root, config, file);
    oz_arena_free(arena);
    return s;
}

/* generation_config.json and config.json name more ends than tokenizer_config.json does. */
static void mark_ends(oz_tokenizer *t, const oz_node *config)
{
    const oz_node *eos = oz_node_get(config, "eos_token_id");
    int n = eos && eos->kind == OZ_NODE_LIST ? eos->n : 1;
    for (int i = 0; eos && i < n; i++) {
        int64_t id = oz_node_int(eos->kind == OZ_NODE_LIST ? oz_node_at(eos, i) : eos, -1);
        if (id < 0 || id >= t->n) continue;
        t->flag[id] |= OZ_TOKEN_END;
        if (t->eos < 0) t->eos = (int32_t)id;
    }
}

static oz_status read_ends(oz_tokenizer *t, const oz_ckpt *c)
{
    mark_ends(t, oz_ckpt_config(c));
    char *path = oz_path_join(oz_ckpt_path(c), "generation_config.json"), *text = NULL;
    if (!path) return OZ_ERR_NOMEM;
    bool there = oz_path_exists(path);
    oz_free(path);
    if (!there) return OZ_OK;
    oz_arena *arena = NULL;
    oz_node *node = NULL;
    size_t bytes = 0;
    oz_status s = oz_ckpt_side_file(c, "generation_config.json", &text, &bytes);
    if (!s) s = oz_arena_new(&arena, 0);
    if (!s) s = oz_json_parse(&node, text, bytes, "generation_config.json", arena);
    if (!s) mark_ends(t, node);
    oz_arena_free(arena);
    oz_free(text);
    return s;
}

oz_status oz_tokenizer_open(oz_tokenizer **out, const oz_ckpt *c)
{
    *out = NULL;
    if (oz_ckpt_kind_of(c) == OZ_CKPT_GGUF) return oz_tokenizer_from_gguf(out, c);
    char *json = NULL, *config = NULL, *file = oz_path_join(oz_ckpt_path(c), "tokenizer.json"),
         *other = oz_path_join(oz_ckpt_path(c), "tokenizer_config.json");
    size_t bytes = 0, config_bytes = 0;
    oz_tokenizer *t = NULL;
    oz_status s = file && other ? oz_ckpt_side_file(c, "tokenizer.json", &json, &bytes) : OZ_ERR_NOMEM;
    if (!s && oz_path_exists(other)) s = oz_ckpt_side_file(c, "tokenizer_config.json", &config, &config_bytes);
    if (!s) s = oz_tokenizer_from_json(&t, json, bytes, config, config_bytes, file);
    if (!s) s = read_ends(t, c);
    oz_free(json);
    oz_free(config);
    oz_free(file);
    oz_free(other);
    if (s) {
        oz_tokenizer_free(t);
        return s;
    }
    *out = t;
    return OZ_OK;
}

/* core/text/tokenizer_gguf.c: a tokenizer from GGUF metadata.
 *
 *   tokenizer.ggml.model         "gpt2": byte-level BPE, the only kind read
 *   tokenizer.ggml.pre           name of the pre-tokenizer (preset.c); absent: "default"
 *   tokenizer.ggml.tokens        strings in the byte alphabet, id = place
 *   tokenizer.ggml.token_type    1 normal, 2 unknown, 3 control (special), 4 user defined, 5 unused, 6 byte
 *   tokenizer.ggml.merges        "left right", rank = place
 *   tokenizer.ggml.{bos,eos,eot,eom,unknown,padding}_token_id, .add_bos_token */
#include "core/text/tokenizer.h"

#define KEY "tokenizer.ggml."

static oz_status array_of(const oz_ckpt *c, const char *key, oz_gguf_kind item, const oz_gguf_value **out)
{
    const oz_gguf_value *v = oz_ckpt_meta(c, key);
    if (!v) return oz_fail(OZ_ERR_KEY, NULL, "%s: key \"%s\" is missing", oz_ckpt_path(c), key);
    if (v->kind != OZ_GGUF_ARRAY || v->item != item)
        return oz_fail(OZ_ERR_PARSE, NULL, "%s: key \"%s\" is not an array of %s", oz_ckpt_path(c), key,
                       item == OZ_GGUF_STRING ? "strings" : "i32");
    if (v->count > INT32_MAX / 2)
        return oz_fail(OZ_ERR_RANGE, NULL, "%s: key \"%s\" has %llu items", oz_ckpt_path(c), key, (unsigned long long)v->count);
    *out = v;
    return OZ_OK;
}

static oz_status id_of(const oz_ckpt *c, const char *key, int32_t n, int32_t *id)
{
    const oz_gguf_value *v = oz_ckpt_meta(c, key);
    int64_t i = -1;
    if (!v) return OZ_OK;
    if (!oz_gguf_int(v, &i) || i < -1 || (i >= n && i != UINT32_MAX))
        return oz_fail(OZ_ERR_RANGE, NULL, "%s: key \"%s\" is %lld, expected a token id, 0 to %d", oz_ckpt_path(c), key, (long long)i,
                       (int)n - 1);
    *id = i == UINT32_MAX ? -1 : (int32_t)i;
    return OZ_OK;
}

static oz_status check_model(const oz_ckpt *c, const oz_preset **preset)
{
    const char *file = oz_ckpt_path(c);
    size_t n = 0;
    const oz_gguf_value *v = oz_ckpt_meta(c, KEY "model");
    const char *s = v ? oz_gguf_string(v, &n) : NULL;
    if (!s) return oz_fail(OZ_ERR_KEY, "the file holds no tokenizer", "%s: key \"" KEY "model\" is missing", file);
    if (n != 4 || memcmp(s, "gpt2", 4))
        return oz_fail(OZ_ERR_UNSUPPORTED, "supported: gpt2 (byte-level BPE)", "%s: tokenizer model \"%.*s\" is not supported", file,
                       (int)(n < 60 ? n : 60), s);
    v = oz_ckpt_meta(c, KEY "pre");
    s = v ? oz_gguf_string(v, &n) : "default";
    if (!v) n = strlen(s);
    *preset = s ? oz_preset_named(s, n) : NULL;
    if (*preset) return OZ_OK;
    char *names = oz_preset_names();
    if (!names) return OZ_ERR_NOMEM;
    char *hint = oz_format_text("supported: %s", names);
    oz_free(names);
    oz_status status = hint ? oz_fail(OZ_ERR_UNSUPPORTED, hint, "%s: pre-tokenizer \"%.*s\" (" KEY "pre) is not supported", file,
                                      (int)(n < 60 ? n : 60), s ? s : "?")
                            : OZ_ERR_NOMEM;
    oz_free(hint);
    return status;
}

static oz_status read_tokens(oz_tokenizer *t, const oz_gguf_value *tokens, const oz_gguf_value *types, const char *file)
{
    for (int32_t id = 0; id < t->n; id++) {
        size_t n = 0;
        int64_t type = 1;
        const char *s = oz_gguf_string_at(tokens, (uint64_t)id, &n);
        if (!s || (types && !oz_gguf_int_at(types, (uint64_t)id, &type)))
            return oz_fail(OZ_ERR_PARSE, NULL, "%s: token %d cannot be read", file, (int)id);
        unsigned flags = type == 3 || type == 4 ? OZ_TOKEN_MODEL | OZ_TOKEN_ADDED
                         : type == 5            ? OZ_TOKEN_MODEL | OZ_TOKEN_UNUSED
                                                : OZ_TOKEN_MODEL;
        OZ_TRY(oz_tokenizer_put(t, id, s, n, flags, file));
        if (flags & OZ_TOKEN_ADDED && n > 0) OZ_TRY(oz_tokenizer_put_added(t, &(oz_added){.id = id, .special = type == 3}, file));
    }
    return OZ_OK;
}

static oz_status read_merges(oz_tokenizer *t, const oz_gguf_value *merges, const char *file)
{
    for (uint64_t i = 0; i < merges->count; i++) {
        size_t n = 0;
        const char *s = oz_gguf_string_at(merges, i, &n), *space = s && n > 2 ? memchr(s + 1, ' ', n - 2) : NULL;
        if (!space)
            return oz_fail(OZ_ERR_PARSE, NULL, "%s: merge %llu is \"%.*s\", expected two parts with a space between", file,
                           (unsigned long long)i, (int)(n < 60 ? n : 60), s ? s : "");
        size_t left = (size_t)(space - s);
        OZ_TRY(oz_tokenizer_put_merge(t, s, left, space + 1, n - left - 1, file));
    }
    return OZ_OK;
}

static oz_status read_ids(oz_tokenizer *t, const oz_ckpt *c, const oz_preset *preset)
{
    int32_t end[2] = {-1, -1};
    const struct {
        const char *key;
        int32_t *id;
    } keys[] = {{KEY "bos_token_id", &t->bos},     {KEY "eos_token_id", &t->eos}, {KEY "unknown_token_id", &t->unk_id},
                {KEY "padding_token_id", &t->pad}, {KEY "eot_token_id", &end[0]}, {KEY "eom_token_id", &end[1]}};
    for (int i = 0; i < 6; i++) OZ_TRY(id_of(c, keys[i].key, t->n, keys[i].id));
    for (int i = 0; i < 2; i++)
        if (end[i] >= 0) t->flag[end[i]] |= OZ_TOKEN_END;
    int64_t add = preset->adds_bos;
    const oz_gguf_value *v = oz_ckpt_meta(c, KEY "add_bos_token");
    if (v && !oz_gguf_int(v, &add))
        return oz_fail(OZ_ERR_PARSE, NULL, "%s: key \"" KEY "add_bos_token\" is not a boolean", oz_ckpt_path(c));
    t->adds_bos = add != 0;
    return OZ_OK;
}

oz_status oz_tokenizer_from_gguf(oz_tokenizer **out, const oz_ckpt *c)
{
    const char *file = oz_ckpt_path(c);
    const oz_preset *preset = NULL;
    const oz_gguf_value *tokens = NULL, *merges = NULL, *types = NULL;
    *out = NULL;
    OZ_TRY(check_model(c, &preset));
    OZ_TRY(array_of(c, KEY "tokens", OZ_GGUF_STRING, &tokens));
    OZ_TRY(array_of(c, KEY "merges", OZ_GGUF_STRING, &merges));
    if (oz_ckpt_meta(c, KEY "token_type")) OZ_TRY(array_of(c, KEY "token_type", OZ_GGUF_I32, &types));
    if (types && types->count != tokens->count)
        return oz_fail(OZ_ERR_SHAPE, NULL, "%s: " KEY "token_type has %llu items for %llu tokens", file, (unsigned long long)types->count,
                       (unsigned long long)tokens->count);
    size_t bytes = 0, added = 0;
    for (uint64_t i = 0; i < tokens->count; i++) {
        size_t n = 0;
        int64_t type = 1;
        if (oz_gguf_string_at(tokens, i, &n)) bytes += n;
        if (types && oz_gguf_int_at(types, i, &type) && (type == 3 || type == 4)) added++;
    }
    oz_tokenizer *t;
    OZ_TRY(oz_tokenizer_new(&t, (int32_t)tokens->count, bytes, (size_t)merges->count, added));
    t->norm = preset->norm;
    t->preset = preset;
    t->ignore_merges = preset->ignore_merges;
    oz_preset_steps(preset, &t->pre);
    oz_status s = read_tokens(t, tokens, types, file);
    if (!s) s = oz_tokenizer_index(t, file);
    if (!s) s = read_merges(t, merges, file);
    if (!s) s = read_ids(t, c, preset);
    if (!s) s = oz_tokenizer_finish(t, file);
    if (s) {
        oz_tokenizer_free(t);
        return s;
    }
    *out = t;
    return OZ_OK;
}

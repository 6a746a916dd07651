/* core/io/json.c: JSON into the tree, by jansson.
 *
 * jansson checks the grammar, UTF-8, duplicate keys and its own depth; what is added here: a lower bound of the depth, and
 * integers beyond 64 bits.  Such numbers occur in published tokenizer files (a "no limit" of 10^30) and jansson
 * refuses them, so the text is then read once more with ".0" behind each integer that does not fit: they become reals, all others
 * stay what they are. */
#include "core/io/io_internal.h"
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* Strings are short and many: they share blocks, the arena would give each 64 bytes. */
typedef struct {
    oz_arena *arena;
    char *block;
    size_t left;
    const char *file;
} builder;

static const char *keep(builder *b, const char *text, size_t n)
{
    if (n + 1 > b->left) {
        size_t size = n + 1 > 1024 ? n + 1 : 4096;
        char *p = oz_arena_alloc(b->arena, size);
        if (!p) return NULL;
        if (size == 4096) {
            b->block = p;
            b->left = size;
        } else {
            memcpy(p, text, n);
            p[n] = 0;
            return p;
        }
    }
    char *at = b->block;
    memcpy(at, text, n);
    at[n] = 0;
    b->block += n + 1;
    b->left -= n + 1;
    return at;
}

static oz_status convert(builder *b, const json_t *j, int depth, oz_node *v)
{
    memset(v, 0, sizeof *v);
    switch (json_typeof(j)) {
    case JSON_NULL:
        v->kind = OZ_NODE_NULL;
        return OZ_OK;
    case JSON_TRUE:
    case JSON_FALSE:
        v->kind = OZ_NODE_BOOL;
        v->integer = json_is_true(j);
        return OZ_OK;
    case JSON_INTEGER:
        v->kind = OZ_NODE_INT;
        v->integer = json_integer_value(j);
        v->real = (double)v->integer;
        return OZ_OK;
    case JSON_REAL:
        v->kind = OZ_NODE_REAL;
        v->real = json_real_value(j);
        return OZ_OK;
    case JSON_STRING:
        v->kind = OZ_NODE_TEXT;
        v->length = json_string_length(j);
        v->text = keep(b, json_string_value(j), v->length);
        return v->text ? OZ_OK : OZ_ERR_NOMEM;
    case JSON_ARRAY:
    case JSON_OBJECT:
        break;
    }
    if (depth >= OZ_JSON_DEPTH_MAX)
        return oz_fail(OZ_ERR_PARSE, NULL, "%s: lists and maps are nested deeper than %d", b->file, OZ_JSON_DEPTH_MAX);
    bool map = json_is_object(j);
    size_t n = map ? json_object_size(j) : json_array_size(j), k = 0;
    if (n > INT32_MAX / 2)
        return oz_fail(OZ_ERR_RANGE, NULL, "%s: a %s of %zu values, at most 2^30 are read", b->file, map ? "map" : "list", n);
    v->kind = map ? OZ_NODE_MAP : OZ_NODE_LIST;
    v->item = oz_node_items(b->arena, (int)n);
    oz_node *values = n ? oz_arena_alloc(b->arena, n * sizeof *values) : NULL;
    if (!v->item || (n && !values)) return OZ_ERR_NOMEM;
    v->n = (int)n;
    void *at = map ? json_object_iter((json_t *)(uintptr_t)j) : NULL;
    for (; k < n; k++) {
        const json_t *value = map ? json_object_iter_value(at) : json_array_get(j, k);
        if (map) {
            const char *key = json_object_iter_key(at);
            if (!(v->item[k].key = keep(b, key, strlen(key)))) return OZ_ERR_NOMEM;
            at = json_object_iter_next((json_t *)(uintptr_t)j, at);
        }
        v->item[k].value = &values[k];
        OZ_TRY(convert(b, value, depth + 1, &values[k]));
    }
    return OZ_OK;
}

/* A copy of the text in which every integer outside int64 is followed by ".0". */
static char *widen_integers(const char *text, size_t bytes, size_t *out_bytes)
{
    oz_grow g = {0};
    bool quoted = false;
    for (size_t i = 0; i < bytes;) {
        size_t start = i;
        bool digit = text[i] == '-' || (text[i] >= '0' && text[i] <= '9');
        if (quoted || !digit) {
            if (quoted && text[i] == '\\' && i + 1 < bytes)
                i++;
            else if (text[i] == '"')
                quoted = !quoted;
            i++;
            oz_grow_add(&g, text + start, i - start);
            continue;
        }
        while (i < bytes && memchr("+-.eE0123456789", text[i], 15)) i++;
        oz_grow_add(&g, text + start, i - start);
        char number[32];
        size_t n = i - start < sizeof number - 1 ? i - start : sizeof number - 1;
        memcpy(number, text + start, n);
        number[n] = 0;
        errno = 0;
        if (!memchr(text + start, '.', i - start) && !memchr(text + start, 'e', i - start) && !memchr(text + start, 'E', i - start)) {
            (void)strtoll(number, NULL, 10);
            if (errno == ERANGE) oz_grow_text(&g, ".0");
        }
    }
    *out_bytes = g.n;
    return oz_grow_take(&g);
}

oz_status oz_json_parse(oz_node **out, const char *text, size_t bytes, const char *file, oz_arena *arena)
{
    const size_t flags = JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY;
    *out = NULL;
    json_error_t e;
    json_t *j = json_loadb(text, bytes, flags, &e);
    if (!j && json_error_code(&e) == json_error_numeric_overflow) {
        size_t wide_bytes = 0;
        char *wide = widen_integers(text, bytes, &wide_bytes);
        if (!wide) return OZ_ERR_NOMEM;
        j = json_loadb(wide, wide_bytes, flags, &e);
        oz_free(wide);
    }
    if (!j && json_error_code(&e) == json_error_out_of_memory)
        return oz_fail(OZ_ERR_NOMEM, NULL, "%s: no memory to read %zu bytes of JSON", file, bytes);
    if (!j && json_error_code(&e) == json_error_stack_overflow)
        return oz_fail(OZ_ERR_PARSE, NULL, "%s:%d:%d: lists and maps are nested deeper than %d", file, e.line, e.column, OZ_JSON_DEPTH_MAX);
    if (!j)
        return oz_fail(OZ_ERR_PARSE, NULL, "%s:%d:%d: not JSON: %s", file, e.line < 0 ? 0 : e.line, e.column < 0 ? 0 : e.column, e.text);
    builder b = {.arena = arena, .file = file};
    oz_node *root = oz_arena_alloc(arena, sizeof *root);
    oz_status status = root ? convert(&b, j, 0, root) : OZ_ERR_NOMEM;
    json_decref(j);
    if (!status) *out = root;
    return status;
}

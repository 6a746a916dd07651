/* core/io/writer_gguf.c: lays out a GGUF file of version 3 (the byte table is in gguf.c).  Tensors keep the declared order, each
 * at a multiple of the alignment; the last one is filled up too, as other writers do.  general.alignment is written only
 * when it is not the default of 32 and replaces one among the given pairs. */
#include "core/io/writer.h"
#include <string.h>

static void number(oz_grow *g, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++) {
        char c = (char)(v >> (8 * i));
        oz_grow_add(g, &c, 1);
    }
}

static void string(oz_grow *g, const char *text, size_t bytes)
{
    number(g, bytes, 8);
    oz_grow_add(g, text, bytes);
}

static oz_status pair(oz_grow *g, const oz_out_meta *m, const char *path)
{
    const oz_gguf_value *v = m->copy;
    oz_gguf_kind kind = v ? v->kind : m->kind, item = v ? v->item : m->item;
    uint64_t count = v ? v->count : m->count;
    size_t size = oz_gguf_kind_size(kind == OZ_GGUF_ARRAY ? item : kind);
    bool known = size > 0 || kind == OZ_GGUF_STRING || (kind == OZ_GGUF_ARRAY && item == OZ_GGUF_STRING);
    if (!m->key || !*m->key || strlen(m->key) > 65535)
        return oz_fail(OZ_ERR_KEY, NULL, "%s: a metadata key \"%.64s\" of 0 or more than 65535 bytes", path, m->key ? m->key : "");
    if (!known)
        return oz_fail(OZ_ERR_EXPORT, NULL, "%s: metadata \"%s\" is of kind %s%s, which is not written", path, m->key,
                       oz_gguf_kind_name(kind), kind == OZ_GGUF_ARRAY ? " of arrays" : "");
    string(g, m->key, strlen(m->key));
    number(g, kind, 4);
    if (kind == OZ_GGUF_ARRAY) {
        number(g, item, 4);
        number(g, count, 8);
    }
    if (v) {
        if (kind == OZ_GGUF_STRING) number(g, v->raw_bytes, 8);
        oz_grow_add(g, v->raw, v->raw_bytes);
    } else if (kind == OZ_GGUF_STRING)
        string(g, m->data, (size_t)count);
    else if (kind == OZ_GGUF_ARRAY && item == OZ_GGUF_STRING) {
        const char *const *texts = m->data;
        for (uint64_t i = 0; i < count; i++) string(g, texts[i], strlen(texts[i]));
    } else
        oz_grow_add(g, m->data, kind == OZ_GGUF_ARRAY ? (size_t)count * size : size);
    return OZ_OK;
}

static oz_status pairs(oz_grow *g, const oz_out_meta *meta, int n, uint32_t align, const char *path)
{
    const oz_out_meta alignment = {.key = "general.alignment", .kind = OZ_GGUF_U32, .data = &align};
    for (int i = 0; i < n; i++) {
        if (meta[i].key && !strcmp(meta[i].key, alignment.key)) continue;
        for (int k = 0; k < i; k++)
            if (meta[i].key && meta[k].key && !strcmp(meta[k].key, meta[i].key))
                return oz_fail(OZ_ERR_KEY, NULL, "%s: metadata \"%s\" is given twice", path, meta[i].key);
        OZ_TRY(pair(g, &meta[i], path));
    }
    return align == 32 ? OZ_OK : pair(g, &alignment, path);
}

static uint64_t up(uint64_t at, uint32_t align) { return (at + align - 1) / align * align; }

oz_status oz_gguf_begin(oz_writer **out, const char *path, const oz_out_tensor *t, int n, const oz_out_meta *meta, int nmeta,
                        uint32_t align)
{
    *out = NULL;
    oz_writer *w = NULL;
    oz_grow g = {0};
    int count = align != 0 && align != 32;
    align = align ? align : 32;
    for (int i = 0; i < nmeta; i++) count += !meta[i].key || strcmp(meta[i].key, "general.alignment") != 0;
    oz_status status = oz_writer_align(align, path);
    if (!status) status = oz_writer_new(&w, path, n);
    if (status) goto done;
    oz_grow_text(&g, "GGUF");
    number(&g, 3, 4);
    number(&g, (uint64_t)n, 8);
    number(&g, (uint64_t)count, 8);
    status = pairs(&g, meta, nmeta, align, path);
    uint64_t at = 0;
    for (int i = 0; i < n && !status; i++) {
        int type;
        status = oz_writer_check(&t[i], path, true, &type);
        if (status) break;
        string(&g, t[i].name, strlen(t[i].name));
        number(&g, (uint64_t)t[i].rank, 4);
        for (int d = t[i].rank - 1; d >= 0; d--) number(&g, (uint64_t)t[i].shape[d], 8);
        number(&g, (uint64_t)type, 4);
        number(&g, at, 8);
        if (t[i].bytes > (INT64_MAX >> 1) - at) status = oz_fail(OZ_ERR_SHAPE, NULL, "%s: the file would be larger than 2^62 bytes", path);
        at = up(at + t[i].bytes, align);
    }
    oz_grow_fill(&g, 0, (size_t)(up(g.n, align) - g.n));
    uint64_t begin = g.n;
    at = 0;
    for (int i = 0; i < n && !status; i++) {
        status = oz_writer_slot(w, i, t[i].name, begin + at, t[i].bytes);
        at = up(at + t[i].bytes, align);
    }
    if (!status && g.failed) status = OZ_ERR_NOMEM;
    if (!status) status = oz_writer_start(w, g.p, g.n, begin + at);
done:
    oz_free(g.p);
    if (status)
        oz_writer_abandon(w);
    else
        *out = w;
    return status;
}

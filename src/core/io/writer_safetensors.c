/* core/io/writer_safetensors.c: lays out a safetensors file (the byte table is in safetensors.c).
 *
 * align = 0: no fillers; tensors are ordered by falling element size, as the format's own library does, so each starts at a
 * multiple of its element.  align > 0: declared order; the header is filled with spaces so that the data begins at a multiple
 * of align, and where a tensor's size leaves the next one off, a u8 tensor "__pad.N" fills the gap: the format allows no holes. */
#include "core/io/writer.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void entry(oz_grow *g, const char *name, const char *dtype, int rank, const int64_t *shape, uint64_t begin, uint64_t end)
{
    char s[96];
    oz_grow_text(g, g->n > 1 ? "," : "");
    oz_grow_json_string(g, name, strlen(name));
    snprintf(s, sizeof s, ":{\"dtype\":\"%s\",\"shape\":[", dtype);
    oz_grow_text(g, s);
    for (int i = 0; i < rank; i++) {
        snprintf(s, sizeof s, "%s%lld", i ? "," : "", (long long)shape[i]);
        oz_grow_text(g, s);
    }
    snprintf(s, sizeof s, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)begin, (unsigned long long)end);
    oz_grow_text(g, s);
}

static oz_status metadata(oz_grow *g, const oz_out_meta *meta, int n, const char *path)
{
    if (n == 0) return OZ_OK;
    oz_grow_text(g, "\"__metadata__\":{");
    for (int i = 0; i < n; i++) {
        const oz_out_meta *m = &meta[i];
        size_t bytes = (size_t)m->count;
        const char *text = m->copy ? oz_gguf_string(m->copy, &bytes) : m->kind == OZ_GGUF_STRING ? m->data : NULL;
        if (!text)
            return oz_fail(OZ_ERR_EXPORT, NULL, "%s: metadata \"%s\" is %s, safetensors holds texts only", path, m->key,
                           oz_gguf_kind_name(m->copy ? m->copy->kind : m->kind));
        for (int k = 0; k < i; k++)
            if (!strcmp(meta[k].key, m->key)) return oz_fail(OZ_ERR_KEY, NULL, "%s: metadata \"%s\" is given twice", path, m->key);
        oz_grow_text(g, i ? "," : "");
        oz_grow_json_string(g, m->key, strlen(m->key));
        oz_grow_text(g, ":");
        oz_grow_json_string(g, text, bytes);
    }
    oz_grow_text(g, "}");
    return OZ_OK;
}

typedef struct {
    const oz_out_tensor *t;
    size_t size;
    int place;
} ordered;

static int by_size(const void *a, const void *b)
{
    const ordered *x = a, *y = b;
    if (x->size != y->size) return x->size > y->size ? -1 : 1;
    return x->place - y->place;
}

/* Offsets count from the start of the data here and are moved behind the header at the end. */
static oz_status layout(oz_writer *w, oz_grow *g, const ordered *o, int n, uint64_t *offset, uint32_t align, const char *path,
                        uint64_t *total)
{
    uint64_t at = 0;
    int pads = 0;
    for (int i = 0; i < n; i++) {
        const oz_out_tensor *t = o[i].t;
        uint64_t start = align ? (at + align - 1) / align * align : at;
        if (start > at) {
            char name[32];
            int64_t shape = (int64_t)(start - at);
            snprintf(name, sizeof name, "__pad.%d", pads++);
            entry(g, name, "U8", 1, &shape, at, start);
        }
        if (t->bytes > INT64_MAX - start) return oz_fail(OZ_ERR_SHAPE, NULL, "%s: the file would be larger than 2^63 bytes", path);
        at = start + t->bytes;
        offset[i] = start;
        entry(g, t->name, oz_safetensors_dtype(t->dtype), t->rank, t->shape, start, at);
    }
    oz_grow_text(g, "}");
    uint64_t unit = align > 8 ? align : 8;
    oz_grow_fill(g, ' ', (size_t)((unit - (8 + g->n) % unit) % unit));
    if (g->n > OZ_SAFETENSORS_HEADER_MAX)
        return oz_fail(OZ_ERR_EXPORT, NULL, "%s: the header would have %zu bytes, at most %u are allowed", path, g->n,
                       OZ_SAFETENSORS_HEADER_MAX);
    for (int i = 0; i < n; i++) OZ_TRY(oz_writer_slot(w, i, o[i].t->name, 8 + g->n + offset[i], o[i].t->bytes));
    *total = 8 + g->n + at;
    return OZ_OK;
}

oz_status oz_safetensors_begin(oz_writer **out, const char *path, const oz_out_tensor *t, int n, const oz_out_meta *meta, int nmeta,
                               uint32_t align)
{
    *out = NULL;
    oz_writer *w = NULL;
    oz_grow g = {0};
    uint64_t total = 0;
    ordered *o = oz_alloc((size_t)n + 1, sizeof *o);
    uint64_t *offset = oz_alloc((size_t)n + 1, sizeof *offset);
    char *file = NULL;
    oz_status status = o && offset ? oz_writer_align(align, path) : OZ_ERR_NOMEM;
    for (int i = 0; i < n && !status; i++) {
        int type;
        status = oz_writer_check(&t[i], path, false, &type);
        if (!status) o[i] = (ordered){&t[i], oz_dtype_size(t[i].dtype), i};
    }
    if (!status) status = oz_writer_new(&w, path, n);
    if (status) goto done;
    if (align == 0) qsort(o, (size_t)n, sizeof *o, by_size);
    oz_grow_text(&g, "{");
    status = metadata(&g, meta, nmeta, path);
    if (!status) status = layout(w, &g, o, n, offset, align, path, &total);
    if (status) goto done;
    size_t header = g.n;
    char *text = oz_grow_take(&g);
    file = text ? oz_alloc(header + 8, 1) : NULL;
    if (file) {
        for (int i = 0; i < 8; i++) file[i] = (char)((uint64_t)header >> (8 * i));
        memcpy(file + 8, text, header);
        status = oz_writer_start(w, file, header + 8, total);
    } else
        status = OZ_ERR_NOMEM;
    oz_free(text);
done:
    oz_free(g.p);
    oz_free(file);
    oz_free(o);
    oz_free(offset);
    if (status)
        oz_writer_abandon(w);
    else
        *out = w;
    return status;
}

/* core/io/safetensors.c: reads the safetensors format.
 *
 *   offset      size  content
 *   0           8     N, little-endian: bytes of the header
 *   8           N     JSON: {"__metadata__": {text: text}, "name": {"dtype": "BF16", "shape": [rows, columns], "data_offsets": [begin,
 * end]}, ...}; begins with '{', may end with spaces 8 + N       rest  the tensors' bytes, row-major little-endian; offsets count from here
 *
 * The data is covered exactly once: no byte belongs to two tensors or to none, which is the format's own rule (a file can
 * then hide nothing).  A tensor's range must equal its shape times its element size.
 *
 * Example, one f32 tensor "a" of shape [1] holding 1.0, 66 bytes (tests/unit/safetensors.c decodes it):
 *   36 00 00 00 00 00 00 00  {"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}  00 00 80 3f */
#include "core/io/io_internal.h"
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    oz_dtype dtype;
} dtypes[] = {
    {"F32", OZ_F32},      {"F16", OZ_F16}, {"BF16", OZ_BF16}, {"F64", OZ_F64},   {"F8_E4M3", OZ_E4M3}, {"F8_E5M2", OZ_E5M2},
    {"F8_E8M0", OZ_E8M0}, {"U8", OZ_U8},   {"I8", OZ_I8},     {"U16", OZ_U16},   {"I16", OZ_I16},      {"U32", OZ_U32},
    {"I32", OZ_I32},      {"U64", OZ_U64}, {"I64", OZ_I64},   {"BOOL", OZ_BOOL},
};
enum { NDTYPE = sizeof dtypes / sizeof *dtypes };

const char *oz_safetensors_dtype(oz_dtype d)
{
    for (int i = 0; i < NDTYPE; i++)
        if (dtypes[i].dtype == d) return dtypes[i].name;
    return NULL;
}

static oz_status offset_of(const oz_node *pair, int i, uint64_t *out)
{
    const oz_node *v = oz_node_at(pair, i);
    if (!v || v->kind != OZ_NODE_INT || v->integer < 0) return OZ_ERR_PARSE;
    *out = (uint64_t)v->integer;
    return OZ_OK;
}

static oz_status tensor_of(const char *file, const char *name, const oz_node *v, const uint8_t *data, uint64_t data_bytes, oz_tensor *t)
{
    if (v->kind != OZ_NODE_MAP)
        return oz_fail(OZ_ERR_PARSE, NULL, "%s: tensor \"%s\": expected a map of dtype, shape and data_offsets", file, name);
    for (int i = 0; i < v->n; i++)
        if (strcmp(v->item[i].key, "dtype") && strcmp(v->item[i].key, "shape") && strcmp(v->item[i].key, "data_offsets"))
            return oz_fail(OZ_ERR_PARSE, NULL, "%s: tensor \"%s\": unknown key \"%s\", expected dtype, shape and data_offsets", file, name,
                           v->item[i].key);
    const oz_node *shape = oz_node_get(v, "shape"), *range = oz_node_get(v, "data_offsets");
    const char *dtype = oz_node_text(oz_node_get(v, "dtype"), NULL);
    if (!dtype) return oz_fail(OZ_ERR_PARSE, NULL, "%s: tensor \"%s\" has no dtype", file, name);
    *t = (oz_tensor){.name = name, .ggml_type = OZ_GGML_NONE};
    int k = 0;
    while (k < NDTYPE && strcmp(dtypes[k].name, dtype)) k++;
    if (k == NDTYPE)
        return oz_fail(OZ_ERR_UNSUPPORTED, "known: F64 F32 F16 BF16 F8_E4M3 F8_E5M2 F8_E8M0 I8 to I64 U8 to U64 BOOL",
                       "%s: tensor \"%s\" has dtype \"%s\", which is not known", file, name, dtype);
    t->dtype = dtypes[k].dtype;
    if (!shape || shape->kind != OZ_NODE_LIST) return oz_fail(OZ_ERR_PARSE, NULL, "%s: tensor \"%s\" has no shape", file, name);
    if (shape->n > 4)
        return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "%s: tensor \"%s\" has %d dimensions, at most 4 are read", file, name, shape->n);
    size_t bytes = oz_dtype_size(t->dtype);
    int64_t count = 1; /* with empty dimensions as 1: a zero must not hide an overflow */
    bool fits = true;
    for (t->rank = 0; t->rank < shape->n; t->rank++) {
        const oz_node *d = shape->item[t->rank].value;
        if (d->kind != OZ_NODE_INT || d->integer < 0)
            return oz_fail(OZ_ERR_PARSE, NULL, "%s: tensor \"%s\": dimension %d of the shape is not a whole number from 0", file, name,
                           t->rank);
        t->shape[t->rank] = d->integer;
        fits = fits && !__builtin_mul_overflow(count, d->integer ? d->integer : 1, &count);
        fits = fits && oz_mul_size(bytes, (size_t)d->integer, &bytes) && bytes <= INT64_MAX;
    }
    if (!fits) return oz_fail(OZ_ERR_SHAPE, NULL, "%s: tensor \"%s\": the size of its shape does not fit in 63 bits", file, name);
    uint64_t begin = 0, end = 0;
    if (!range || range->kind != OZ_NODE_LIST || range->n != 2 || offset_of(range, 0, &begin) || offset_of(range, 1, &end))
        return oz_fail(OZ_ERR_PARSE, NULL, "%s: tensor \"%s\": data_offsets is not a pair of whole numbers from 0", file, name);
    if (end < begin || end - begin != bytes)
        return oz_fail(OZ_ERR_SHAPE, NULL, "%s: tensor \"%s\": data_offsets [%llu, %llu] but dtype %s and shape need %zu bytes", file, name,
                       (unsigned long long)begin, (unsigned long long)end, dtype, bytes);
    if (end > data_bytes)
        return oz_fail(OZ_ERR_PARSE, "the file may be cut off: download it again",
                       "%s: tensor \"%s\" ends at byte %llu of the data, the file has %llu", file, name, (unsigned long long)end,
                       (unsigned long long)data_bytes);
    t->data = data + begin;
    t->bytes = bytes;
    return OZ_OK;
}

static int by_position(const void *a, const void *b)
{
    const oz_tensor *x = a, *y = b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1; /* an empty tensor comes before the one that begins there */
    return strcmp(x->name, y->name);
}

static oz_status check_metadata(const char *file, const oz_node *m)
{
    if (m->kind != OZ_NODE_MAP) return oz_fail(OZ_ERR_PARSE, NULL, "%s: __metadata__ is not a map", file);
    for (int i = 0; i < m->n; i++)
        if (m->item[i].value->kind != OZ_NODE_TEXT)
            return oz_fail(OZ_ERR_PARSE, NULL, "%s: __metadata__ \"%s\" is not a text", file, m->item[i].key);
    return OZ_OK;
}

oz_status oz_safetensors_parse(const void *data, size_t bytes, const char *file, oz_arena *arena, oz_parsed *out)
{
    *out = (oz_parsed){0};
    oz_reader r;
    oz_reader_init(&r, data, bytes, file);
    uint64_t n = oz_read_u64(&r);
    if (r.failed) return oz_fail(OZ_ERR_PARSE, NULL, "%s has %zu bytes, too few for a safetensors file", file, bytes);
    if (n > oz_reader_left(&r) || n > OZ_SAFETENSORS_HEADER_MAX)
        return oz_fail(OZ_ERR_PARSE, "the file may be cut off or not be safetensors",
                       "%s: the header should have %llu bytes, %zu follow and at most %u are read", file, (unsigned long long)n,
                       oz_reader_left(&r), OZ_SAFETENSORS_HEADER_MAX);
    const char *header = (const char *)oz_read_bytes(&r, n);
    if (n < 2 || header[0] != '{')
        return oz_fail(OZ_ERR_PARSE, NULL, "%s: the safetensors header of %llu bytes does not begin with '{'", file, (unsigned long long)n);
    oz_node *tree;
    OZ_TRY(oz_json_parse(&tree, header, (size_t)n, file, arena));
    if (tree->kind != OZ_NODE_MAP) return oz_fail(OZ_ERR_PARSE, NULL, "%s: the safetensors header is not a map", file);
    uint64_t data_bytes = oz_reader_left(&r);
    out->header_bytes = (size_t)n + 8;
    out->tensor = oz_arena_zalloc(arena, ((size_t)tree->n + 1) * sizeof *out->tensor);
    if (!out->tensor) return OZ_ERR_NOMEM;
    for (int i = 0; i < tree->n; i++) {
        const oz_pair *p = &tree->item[i];
        if (!strcmp(p->key, "__metadata__")) {
            OZ_TRY(check_metadata(file, p->value));
            out->metadata = p->value;
        } else
            OZ_TRY(tensor_of(file, p->key, p->value, r.p, data_bytes, &out->tensor[out->ntensor++]));
    }
    qsort(out->tensor, (size_t)out->ntensor, sizeof *out->tensor, by_position);
    const uint8_t *at = r.p;
    for (int i = 0; i < out->ntensor; i++) {
        const oz_tensor *t = &out->tensor[i];
        if (t->data < at)
            return oz_fail(OZ_ERR_PARSE, NULL, "%s: tensors \"%s\" and \"%s\" overlap at byte %td of the data", file,
                           out->tensor[i - 1].name, t->name, t->data - r.p);
        if (t->data > at)
            return oz_fail(OZ_ERR_PARSE, NULL, "%s: %td bytes before tensor \"%s\" belong to no tensor", file, t->data - at, t->name);
        at = t->data + t->bytes;
    }
    if (at < r.end)
        return oz_fail(OZ_ERR_PARSE, NULL, "%s: %td bytes at the end belong to no tensor: %td are described, the file has %llu", file,
                       r.end - at, at - r.p, (unsigned long long)data_bytes);
    return OZ_OK;
}

/* core/io/gguf.c: reads GGUF, versions 2 and 3.  All numbers little-endian.
 *
 *   "GGUF"  version u32  tensors u64  pairs u64
 *   pairs:    key (length u64, bytes), kind u32, value: scalar | string (length u64, bytes) | array (kind u32, count u64, items)
 *   tensors:  name (length u64, bytes), dimensions u32, each u64 with the fastest first, type u32, offset u64
 *   zeros up to a multiple of general.alignment (32 unless given), then the data that the offsets count in
 *
 * No count is believed: before anything is allocated for it, it is compared with the bytes left divided by the least an
 * entry can take.  Arrays stay in the file; arrays of strings get a table of where each item starts.  Nested arrays, which
 * no writer makes, are refused.  Tensors may leave holes but not overlap.
 *
 * Example, one f32 tensor "a" of shape [1] holding 1.0, 68 bytes (tests/unit/gguf.c decodes it):
 *   47 47 55 46  03 00 00 00  01 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00                       magic, version, 1 tensor, 0 pairs
 *   01 00 00 00 00 00 00 00 61  01 00 00 00  01 00 00 00 00 00 00 00  00 00 00 00  00 x 8            "a", 1 dimension of 1, f32, offset 0
 *   00 x 7  00 00 80 3f                                                                              up to 64; 1.0 */
#include "core/io/io_internal.h"
#include <stdlib.h>
#include <string.h>

#define KEY_MAX   65535
#define NAME_MAX_ 64
enum { NKIND = 13 };
static const struct {
    const char *name;
    uint8_t size;
} kinds[NKIND] = {{"u8", 1},   {"i8", 1},     {"u16", 2},   {"i16", 2}, {"u32", 4}, {"i32", 4}, {"f32", 4},
                  {"bool", 1}, {"string", 0}, {"array", 0}, {"u64", 8}, {"i64", 8}, {"f64", 8}};

size_t oz_gguf_kind_size(oz_gguf_kind k) { return (unsigned)k < NKIND ? kinds[k].size : 0; }
const char *oz_gguf_kind_name(uint32_t k) { return k < NKIND ? kinds[k].name : "unknown"; }

/* A string as a C string in the arena: a NUL inside would make two different names look the same. */
static oz_status read_name(oz_reader *r, uint64_t max, const char *what, uint64_t i, oz_arena *arena, const char **out)
{
    uint64_t n = oz_read_u64(r);
    if (!r->failed && n > max)
        return oz_fail(OZ_ERR_PARSE, NULL, "%s: %s %llu has a name of %llu bytes, at most %llu are allowed", r->file, what,
                       (unsigned long long)i, (unsigned long long)n, (unsigned long long)max);
    const uint8_t *p = oz_read_bytes(r, n);
    if (!p) return oz_fail(OZ_ERR_PARSE, NULL, "%s ends inside the name of %s %llu", r->file, what, (unsigned long long)i);
    if (n == 0 || memchr(p, 0, n))
        return oz_fail(OZ_ERR_PARSE, NULL, "%s: the name of %s %llu is empty or holds a NUL", r->file, what, (unsigned long long)i);
    char *name = oz_arena_alloc(arena, n + 1);
    if (!name) return OZ_ERR_NOMEM;
    memcpy(name, p, n);
    name[n] = 0;
    *out = name;
    return OZ_OK;
}

static oz_status read_array(oz_reader *r, oz_arena *arena, oz_gguf_value *v)
{
    uint32_t item = oz_read_u32(r);
    uint64_t n = oz_read_u64(r);
    if (r->failed) return OZ_OK; /* the caller says where the file ends */
    if (item == OZ_GGUF_ARRAY)
        return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "%s: key \"%s\" is an array of arrays, which is not read", r->file, v->key);
    if (item >= NKIND) return oz_fail(OZ_ERR_PARSE, NULL, "%s: key \"%s\" is an array of kind %u, expected 0 to 12", r->file, v->key, item);
    v->item = (oz_gguf_kind)item;
    v->count = n;
    size_t least = item == OZ_GGUF_STRING ? 8 : kinds[item].size;
    if (n > oz_reader_left(r) / least)
        return oz_fail(OZ_ERR_PARSE, NULL, "%s: key \"%s\" is an array of %llu items of kind %s, but only %zu bytes follow", r->file,
                       v->key, (unsigned long long)n, kinds[item].name, oz_reader_left(r));
    v->raw = r->p;
    if (item != OZ_GGUF_STRING) {
        (void)oz_read_bytes(r, n * least);
    } else {
        uint64_t *offset = oz_arena_alloc(arena, (size_t)(n ? n : 1) * sizeof *offset);
        if (!offset) return OZ_ERR_NOMEM;
        for (uint64_t i = 0; i < n; i++) {
            offset[i] = (uint64_t)(r->p - v->raw);
            uint64_t length = oz_read_u64(r);
            if (!oz_read_bytes(r, length))
                return oz_fail(OZ_ERR_PARSE, NULL, "%s: item %llu of key \"%s\" has %llu bytes, more than follow", r->file,
                               (unsigned long long)i, v->key, (unsigned long long)length);
        }
        v->offset = offset;
    }
    v->raw_bytes = (size_t)(r->p - v->raw);
    return OZ_OK;
}

static oz_status read_value(oz_reader *r, oz_arena *arena, oz_gguf_value *v)
{
    uint32_t kind = oz_read_u32(r);
    if (!r->failed && kind >= NKIND)
        return oz_fail(OZ_ERR_PARSE, NULL, "%s: key \"%s\" has kind %u, expected 0 to 12", r->file, v->key, kind);
    v->kind = (oz_gguf_kind)kind;
    if (kind == OZ_GGUF_ARRAY) {
        OZ_TRY(read_array(r, arena, v));
    } else {
        v->count = kind == OZ_GGUF_STRING ? oz_read_u64(r) : 1;
        v->raw_bytes = kind == OZ_GGUF_STRING ? (size_t)v->count : kinds[kind].size;
        v->raw = oz_read_bytes(r, v->raw_bytes);
    }
    if (r->failed) return oz_fail(OZ_ERR_PARSE, NULL, "%s ends inside key \"%s\"", r->file, v->key);
    if (kind == OZ_GGUF_BOOL && *v->raw > 1)
        return oz_fail(OZ_ERR_PARSE, NULL, "%s: key \"%s\" is a bool of value %u, expected 0 or 1", r->file, v->key, *v->raw);
    return OZ_OK;
}

static oz_status read_tensor(oz_reader *r, uint64_t i, oz_arena *arena, oz_tensor *t, uint64_t *offset)
{
    *t = (oz_tensor){0};
    OZ_TRY(read_name(r, NAME_MAX_, "tensor", i, arena, &t->name));
    uint32_t rank = oz_read_u32(r);
    if (rank > 4)
        return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "%s: tensor \"%s\" has %u dimensions, at most 4 are read", r->file, t->name, rank);
    t->rank = (int)rank;
    for (int d = t->rank - 1; d >= 0; d--) {
        uint64_t n = oz_read_u64(r);
        if (n > INT64_MAX)
            return oz_fail(OZ_ERR_SHAPE, NULL, "%s: tensor \"%s\" has a dimension of %llu", r->file, t->name, (unsigned long long)n);
        t->shape[d] = (int64_t)n;
    }
    uint32_t type = oz_read_u32(r);
    *offset = oz_read_u64(r);
    if (r->failed) return oz_fail(OZ_ERR_PARSE, NULL, "%s ends inside the description of tensor \"%s\"", r->file, t->name);
    const oz_ggml_type *info = type <= INT32_MAX ? oz_ggml_type_info((int)type) : NULL;
    if (!info) return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "%s: tensor \"%s\" has ggml type %u, which is not known", r->file, t->name, type);
    t->ggml_type = (int)type;
    static const struct {
        int ggml;
        oz_dtype dtype;
    } plain[] = {{0, OZ_F32}, {1, OZ_F16}, {24, OZ_I8}, {25, OZ_I16}, {26, OZ_I32}, {27, OZ_I64}, {28, OZ_F64}, {30, OZ_BF16}};
    t->dtype = OZ_U8;
    for (size_t k = 0; k < sizeof plain / sizeof *plain; k++)
        if (plain[k].ggml == t->ggml_type) t->dtype = plain[k].dtype;
    int64_t row = t->rank ? t->shape[t->rank - 1] : 1;
    if (row % info->block)
        return oz_fail(OZ_ERR_SHAPE, NULL, "%s: tensor \"%s\" has rows of %lld elements, type %s needs a multiple of %d", r->file, t->name,
                       (long long)row, info->name, info->block);
    if (!oz_ggml_bytes(info, t->rank, t->shape, &t->bytes))
        return oz_fail(OZ_ERR_SHAPE, NULL, "%s: tensor \"%s\": the size of its shape does not fit in 63 bits", r->file, t->name);
    return OZ_OK;
}

static int by_key(const void *a, const void *b)
{
    return strcmp((*(const oz_gguf_value *const *)a)->key, (*(const oz_gguf_value *const *)b)->key);
}

static oz_status check_keys(const char *file, const oz_parsed *g)
{
    const oz_gguf_value **sorted = oz_alloc((size_t)g->nvalue + 1, sizeof *sorted);
    if (!sorted) return OZ_ERR_NOMEM;
    for (int i = 0; i < g->nvalue; i++) sorted[i] = &g->value[i];
    qsort(sorted, (size_t)g->nvalue, sizeof *sorted, by_key);
    oz_status status = OZ_OK;
    for (int i = 1; i < g->nvalue && !status; i++)
        if (!strcmp(sorted[i - 1]->key, sorted[i]->key))
            status = oz_fail(OZ_ERR_PARSE, NULL, "%s: key \"%s\" occurs twice", file, sorted[i]->key);
    oz_free(sorted);
    return status;
}

static int by_position(const void *a, const void *b)
{
    const oz_tensor *x = a, *y = b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

static oz_status read_alignment(const char *file, oz_parsed *g)
{
    g->align = 32;
    for (int i = 0; i < g->nvalue; i++) {
        int64_t n;
        if (strcmp(g->value[i].key, "general.alignment")) continue;
        if (!oz_gguf_int(&g->value[i], &n) || n < 1 || n > (1 << 30) || (n & (n - 1)))
            return oz_fail(OZ_ERR_PARSE, NULL, "%s: general.alignment is not a power of two from 1 to 2^30", file);
        g->align = (uint32_t)n;
    }
    return OZ_OK;
}

static oz_status read_tensors(oz_reader *r, uint64_t n, oz_arena *arena, oz_parsed *g)
{
    uint64_t *offset = oz_alloc((size_t)n + 1, sizeof *offset);
    if (!offset) return OZ_ERR_NOMEM;
    oz_status status = OZ_OK;
    for (uint64_t i = 0; i < n && !status; i++) status = read_tensor(r, i, arena, &g->tensor[i], &offset[i]);
    size_t at = (size_t)(r->p - r->begin), total = (size_t)(r->end - r->begin);
    size_t begin = (at + g->align - 1) / g->align * g->align;
    g->header_bytes = n ? begin : at;
    for (uint64_t i = 0; i < n && !status; i++) {
        oz_tensor *t = &g->tensor[i];
        size_t room = begin < total ? total - begin : 0;
        if (offset[i] % g->align)
            status = oz_fail(OZ_ERR_PARSE, NULL, "%s: tensor \"%s\" begins at byte %llu of the data, not a multiple of %u", r->file,
                             t->name, (unsigned long long)offset[i], g->align);
        else if (offset[i] > room || t->bytes > room - offset[i])
            status = oz_fail(OZ_ERR_PARSE, "the file may be cut off: download it again",
                             "%s: tensor \"%s\" takes %zu bytes from byte %llu of the data, the file has %zu there", r->file, t->name,
                             t->bytes, (unsigned long long)offset[i], room);
        else
            t->data = r->begin + (begin < total ? begin : total) + offset[i];
    }
    oz_free(offset);
    OZ_TRY(status);
    g->ntensor = (int)n;
    qsort(g->tensor, (size_t)n, sizeof *g->tensor, by_position);
    for (int i = 1; i < g->ntensor; i++)
        if (g->tensor[i - 1].bytes > (size_t)(g->tensor[i].data - g->tensor[i - 1].data))
            return oz_fail(OZ_ERR_PARSE, NULL, "%s: tensors \"%s\" and \"%s\" overlap", r->file, g->tensor[i - 1].name, g->tensor[i].name);
    return OZ_OK;
}

oz_status oz_gguf_parse(const void *data, size_t bytes, const char *file, oz_arena *arena, oz_parsed *g)
{
    *g = (oz_parsed){0};
    oz_reader r;
    oz_reader_init(&r, data, bytes, file);
    const uint8_t *magic = oz_read_bytes(&r, 4);
    uint32_t version = oz_read_u32(&r);
    if (!magic || memcmp(magic, "GGUF", 4)) return oz_fail(OZ_ERR_PARSE, NULL, "%s does not begin with \"GGUF\"", file);
    if (version == 1)
        return oz_fail(OZ_ERR_UNSUPPORTED, "convert the original model again", "%s is GGUF version 1, versions 2 and 3 are read", file);
    if ((version & 0xffff) == 0 && version)
        return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "%s is a big-endian GGUF file (version field %08x), little-endian ones are read", file,
                       version);
    if (!r.failed && (version < 2 || version > 3))
        return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "%s is GGUF version %u, versions 2 and 3 are read", file, version);
    uint64_t ntensor = oz_read_u64(&r), nvalue = oz_read_u64(&r);
    if (r.failed) return oz_fail(OZ_ERR_PARSE, NULL, "%s has %zu bytes, a GGUF header alone has 24", file, bytes);
    /* a pair takes at least 8 + 1 + 4 + 1 bytes, a tensor's description 8 + 1 + 4 + 4 + 8 */
    if (nvalue > oz_reader_left(&r) / 14 || nvalue > INT32_MAX)
        return oz_fail(OZ_ERR_PARSE, NULL, "%s: %llu metadata pairs cannot fit in the %zu bytes that follow", file,
                       (unsigned long long)nvalue, oz_reader_left(&r));
    if (!(g->value = oz_arena_zalloc(arena, ((size_t)nvalue + 1) * sizeof *g->value))) return OZ_ERR_NOMEM;
    for (uint64_t i = 0; i < nvalue; i++) {
        OZ_TRY(read_name(&r, KEY_MAX, "key", i, arena, &g->value[i].key));
        OZ_TRY(read_value(&r, arena, &g->value[i]));
    }
    g->nvalue = (int)nvalue;
    OZ_TRY(check_keys(file, g));
    OZ_TRY(read_alignment(file, g));
    if (ntensor > oz_reader_left(&r) / 25 || ntensor > INT32_MAX)
        return oz_fail(OZ_ERR_PARSE, NULL, "%s: the descriptions of %llu tensors cannot fit in the %zu bytes that follow", file,
                       (unsigned long long)ntensor, oz_reader_left(&r));
    if (!(g->tensor = oz_arena_zalloc(arena, ((size_t)ntensor + 1) * sizeof *g->tensor))) return OZ_ERR_NOMEM;
    return read_tensors(&r, ntensor, arena, g);
}

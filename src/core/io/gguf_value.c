/* core/io/gguf_value.c: numbers and strings out of GGUF metadata.  Values stay where they are in the file, unaligned and
 * little-endian; gguf.c has checked that raw .. raw + raw_bytes is inside it. */
#include "core/io/io_internal.h"
#include <string.h>

static bool int_of(oz_gguf_kind kind, const uint8_t *p, int64_t *out)
{
    size_t n = oz_gguf_kind_size(kind);
    uint64_t u = 0;
    if (n == 0) return false;
    for (size_t i = n; i-- > 0;) u = u << 8 | p[i];
    switch (kind) {
    case OZ_GGUF_U64:
        if (u > INT64_MAX) return false;
        *out = (int64_t)u;
        return true;
    case OZ_GGUF_U8:
    case OZ_GGUF_U16:
    case OZ_GGUF_U32:
    case OZ_GGUF_BOOL:
        *out = (int64_t)u;
        return true;
    case OZ_GGUF_I8:
        *out = (int8_t)u;
        return true;
    case OZ_GGUF_I16:
        *out = (int16_t)u;
        return true;
    case OZ_GGUF_I32:
        *out = (int32_t)u;
        return true;
    case OZ_GGUF_I64:
        *out = (int64_t)u;
        return true;
    default:
        return false;
    }
}

static bool real_of(oz_gguf_kind kind, const uint8_t *p, double *out)
{
    uint64_t u = 0;
    for (size_t i = oz_gguf_kind_size(kind); i-- > 0;) u = u << 8 | p[i];
    int64_t i;
    if (kind == OZ_GGUF_F64) {
        memcpy(out, &u, sizeof *out);
        return true;
    }
    if (kind == OZ_GGUF_F32) {
        uint32_t bits = (uint32_t)u;
        float f;
        memcpy(&f, &bits, sizeof f);
        *out = (double)f;
        return true;
    }
    if (kind == OZ_GGUF_U64) {
        *out = (double)u;
        return true;
    }
    if (kind == OZ_GGUF_BOOL || !int_of(kind, p, &i)) return false;
    *out = (double)i;
    return true;
}

bool oz_gguf_int(const oz_gguf_value *v, int64_t *out) { return v && int_of(v->kind, v->raw, out); }
bool oz_gguf_real(const oz_gguf_value *v, double *out) { return v && real_of(v->kind, v->raw, out); }

const char *oz_gguf_string(const oz_gguf_value *v, size_t *bytes)
{
    if (!v || v->kind != OZ_GGUF_STRING) return NULL;
    if (bytes) *bytes = v->raw_bytes;
    return (const char *)v->raw;
}

static const uint8_t *item_at(const oz_gguf_value *v, uint64_t i)
{
    size_t size = oz_gguf_kind_size(v->item);
    return v->kind == OZ_GGUF_ARRAY && i < v->count && size ? v->raw + i * size : NULL;
}

const char *oz_gguf_string_at(const oz_gguf_value *v, uint64_t i, size_t *bytes)
{
    if (!v || v->kind != OZ_GGUF_ARRAY || v->item != OZ_GGUF_STRING || i >= v->count) return NULL;
    uint64_t end = i + 1 < v->count ? v->offset[i + 1] : v->raw_bytes;
    if (bytes) *bytes = (size_t)(end - v->offset[i] - 8);
    return (const char *)v->raw + v->offset[i] + 8;
}

bool oz_gguf_real_at(const oz_gguf_value *v, uint64_t i, double *out)
{
    const uint8_t *p = v ? item_at(v, i) : NULL;
    return p && real_of(v->item, p, out);
}

bool oz_gguf_int_at(const oz_gguf_value *v, uint64_t i, int64_t *out)
{
    const uint8_t *p = v ? item_at(v, i) : NULL;
    return p && int_of(v->item, p, out);
}

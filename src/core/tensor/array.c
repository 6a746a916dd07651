/* array.c: counted buffers and named arrays.  A buffer with align 0 only borrows its memory (a mapped file): dropping the last
 * reference frees the oz_buf, not the bytes. */
#include "ounce/tensor.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

oz_status oz_buf_new(oz_buf **out, size_t bytes, uint32_t align)
{
    *out = NULL;
    if (align < 64) align = 64;
    oz_buf *b = oz_zalloc(1, sizeof *b);
    if (!b) return OZ_ERR_NOMEM;
    b->host = oz_alloc_aligned(bytes ? bytes : 1, align);
    if (!b->host) {
        oz_free(b);
        return OZ_ERR_NOMEM;
    }
    memset(b->host, 0, bytes ? bytes : 1);
    b->bytes = bytes;
    b->align = align;
    b->refs = 1;
    *out = b;
    return OZ_OK;
}

oz_buf *oz_buf_keep(oz_buf *b)
{
    if (b) __atomic_add_fetch(&b->refs, 1, __ATOMIC_RELAXED);
    return b;
}

void oz_buf_drop(oz_buf *b)
{
    if (!b || __atomic_sub_fetch(&b->refs, 1, __ATOMIC_ACQ_REL)) return;
    if (b->align) oz_free(b->host);
    oz_free(b);
}

oz_status oz_array_new(oz_array *a, const char *name, oz_dtype t, int rank, const int64_t *shape)
{
    *a = (oz_array){0};
    size_t bytes = oz_dtype_size(t);
    if (!bytes || rank < 0 || rank > 4) return oz_fail(OZ_ERR_SHAPE, NULL, "array %s: type %d, rank %d (ranks 0 to 4)", name, (int)t, rank);
    if (strlen(name) >= sizeof a->name)
        return oz_fail(OZ_ERR_RANGE, NULL, "array %s: a name has at most %zu letters", name, sizeof a->name - 1);
    int64_t step = 1;
    for (int k = rank - 1; k >= 0; k--) {
        if (shape[k] < 0 || !oz_mul_size(bytes, (size_t)shape[k], &bytes) || bytes > INT64_MAX)
            return oz_fail(OZ_ERR_SHAPE, NULL, "array %s: dimension %d is %" PRId64 ", too large or negative", name, k, shape[k]);
        a->v.shape[k] = shape[k];
        a->v.stride[k] = step;
        step *= shape[k];
    }
    a->v.dtype = t;
    a->v.rank = rank;
    OZ_TRY(oz_buf_new(&a->v.buf, bytes, 64));
    memcpy(a->name, name, strlen(name) + 1);
    return OZ_OK;
}

oz_status oz_array_copy(oz_array *to, const oz_array *from)
{
    oz_array made;
    *to = (oz_array){0};
    OZ_TRY(oz_array_new(&made, from->name, from->v.dtype, from->v.rank, from->v.shape));
    made.scope = from->scope;
    size_t size = oz_dtype_size(from->v.dtype), at = 0;
    const oz_view *v = &from->v;
    int64_t n[4] = {1, 1, 1, 1}, s[4] = {0, 0, 0, 0}; /* aligned to the last dimension */
    for (int k = 0; k < v->rank; k++) {
        n[4 - v->rank + k] = v->shape[k];
        s[4 - v->rank + k] = v->stride[k];
    }
    const char *src = oz_array_data(from);
    char *dst = oz_array_data(&made);
    for (int64_t i = 0; src && i < n[0]; i++)
        for (int64_t j = 0; j < n[1]; j++)
            for (int64_t k = 0; k < n[2]; k++) {
                const char *row = src + (size_t)(i * s[0] + j * s[1] + k * s[2]) * size;
                if (s[3] == 1) {
                    memcpy(dst + at, row, (size_t)n[3] * size);
                    at += (size_t)n[3] * size;
                } else
                    for (int64_t l = 0; l < n[3]; l++, at += size) memcpy(dst + at, row + (size_t)(l * s[3]) * size, size);
            }
    *to = made;
    return OZ_OK;
}

void oz_array_drop(oz_array *a)
{
    if (!a) return;
    oz_buf_drop(a->v.buf);
    *a = (oz_array){0};
}

void *oz_array_data(const oz_array *a) { return a->v.buf ? (char *)a->v.buf->host + a->v.off : NULL; }

int64_t oz_array_count(const oz_array *a)
{
    int64_t n = 1;
    for (int k = 0; k < a->v.rank; k++) n *= a->v.shape[k];
    return n;
}

size_t oz_array_bytes(const oz_array *a) { return (size_t)oz_array_count(a) * oz_dtype_size(a->v.dtype); }

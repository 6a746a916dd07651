/* core/io/writer.c: output that appears under its name only when it is whole.
 *
 * The layout is fixed before the first byte, so tensors are written in any order and from several threads, each to its own
 * place.  Until commit the file is PATH.partial; commit makes it durable, then renames it, then makes the rename durable.
 * A process that dies in between leaves at most a .partial, which the next writer of that path overwrites. */
#include "core/io/writer.h"
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensors are written as they lie in memory");

typedef struct {
    const char *name;
    uint64_t offset;
    size_t bytes;
    _Atomic uint64_t put;
} slot;
struct oz_writer {
    char *path, *partial;
    int fd; /* -1 before the start */
    oz_arena *arena;
    slot *slot;
    slot **sorted; /* by name */
    int n;
    atomic_bool failed;
};

oz_status oz_writer_align(uint32_t align, const char *path)
{
    if (align & (align - 1) || align > 1u << 21)
        return oz_fail(OZ_ERR_RANGE, NULL, "%s: an alignment of %u bytes, expected a power of two up to 2097152", path, align);
    return OZ_OK;
}

oz_status oz_writer_check(const oz_out_tensor *t, const char *path, bool want_ggml, int *type)
{
    static const struct {
        oz_dtype dtype;
        int ggml;
    } plain[] = {{OZ_F32, 0}, {OZ_F16, 1}, {OZ_I8, 24}, {OZ_I16, 25}, {OZ_I32, 26}, {OZ_I64, 27}, {OZ_F64, 28}, {OZ_BF16, 30}};
    if (!t->name || !*t->name) return oz_fail(OZ_ERR_KEY, NULL, "%s: a tensor without a name cannot be written", path);
    if (!strncmp(t->name, "__", 2))
        return oz_fail(OZ_ERR_KEY, NULL, "%s: tensor \"%s\": names that begin with \"__\" are kept for fillers and metadata", path,
                       t->name);
    if (t->rank < 0 || t->rank > 4)
        return oz_fail(OZ_ERR_SHAPE, NULL, "%s: tensor \"%s\" has %d dimensions, at most 4 are written", path, t->name, t->rank);
    size_t bytes = oz_dtype_size(t->dtype);
    bool fits = true;
    for (int i = 0; i < t->rank; i++)
        fits = fits && t->shape[i] >= 0 && oz_mul_size(bytes, (size_t)t->shape[i], &bytes) && bytes <= INT64_MAX;
    *type = t->ggml_type;
    if (want_ggml) {
        for (size_t k = 0; *type == OZ_GGML_NONE && k < sizeof plain / sizeof *plain; k++)
            if (plain[k].dtype == t->dtype) *type = plain[k].ggml;
        const oz_ggml_type *info = oz_ggml_type_info(*type);
        if (!info)
            return oz_fail(OZ_ERR_EXPORT, NULL, "%s: tensor \"%s\" is %s, for which GGUF has no type", path, t->name,
                           oz_dtype_name(t->dtype));
        int64_t row = t->rank ? t->shape[t->rank - 1] : 1;
        if (row % info->block)
            return oz_fail(OZ_ERR_SHAPE, NULL, "%s: tensor \"%s\" has rows of %lld elements, type %s needs a multiple of %d", path, t->name,
                           (long long)row, info->name, info->block);
        fits = oz_ggml_bytes(info, t->rank, t->shape, &bytes);
        if (strlen(t->name) > 63)
            return oz_fail(OZ_ERR_EXPORT, NULL, "%s: tensor name \"%s\" has %zu bytes, GGUF programs read at most 63", path, t->name,
                           strlen(t->name));
    } else if (t->ggml_type != OZ_GGML_NONE) {
        const oz_ggml_type *info = oz_ggml_type_info(t->ggml_type);
        if (!info || info->block != 1)
            return oz_fail(OZ_ERR_EXPORT, "write a GGUF file", "%s: tensor \"%s\" has ggml type %s, which only GGUF files hold", path,
                           t->name, info ? info->name : "unknown");
    }
    if (!fits) return oz_fail(OZ_ERR_SHAPE, NULL, "%s: tensor \"%s\": the size of its shape does not fit in 63 bits", path, t->name);
    if (bytes != t->bytes)
        return oz_fail(OZ_ERR_SHAPE, NULL, "%s: tensor \"%s\" is declared with %zu bytes, its type and shape need %zu", path, t->name,
                       t->bytes, bytes);
    return OZ_OK;
}

oz_status oz_writer_new(oz_writer **out, const char *path, int n)
{
    *out = NULL;
    oz_writer *w = oz_zalloc(1, sizeof *w);
    if (!w) return OZ_ERR_NOMEM;
    w->fd = -1;
    w->n = n;
    oz_status status = oz_arena_new(&w->arena, 0);
    if (!status) {
        w->path = oz_strdup(path);
        w->partial = oz_format_text("%s.partial", path);
        w->slot = oz_zalloc((size_t)n + 1, sizeof *w->slot);
        w->sorted = oz_zalloc((size_t)n + 1, sizeof *w->sorted);
        if (!w->path || !w->partial || !w->slot || !w->sorted) status = OZ_ERR_NOMEM;
    }
    if (status)
        oz_writer_abandon(w);
    else
        *out = w;
    return status;
}

oz_status oz_writer_slot(oz_writer *w, int i, const char *name, uint64_t offset, size_t bytes)
{
    slot *s = &w->slot[i];
    if (!(s->name = oz_arena_strdup(w->arena, name))) return OZ_ERR_NOMEM;
    s->offset = offset;
    s->bytes = bytes;
    w->sorted[i] = s;
    return OZ_OK;
}

static int by_name(const void *a, const void *b) { return strcmp((*(slot *const *)a)->name, (*(slot *const *)b)->name); }

oz_status oz_writer_start(oz_writer *w, const void *header, size_t header_bytes, uint64_t total)
{
    qsort(w->sorted, (size_t)w->n, sizeof *w->sorted, by_name);
    for (int i = 1; i < w->n; i++)
        if (!strcmp(w->sorted[i - 1]->name, w->sorted[i]->name))
            return oz_fail(OZ_ERR_KEY, NULL, "%s: tensor \"%s\" is declared twice", w->path, w->sorted[i]->name);
    w->fd = open(w->partial, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (w->fd < 0) return oz_fail(OZ_ERR_IO, NULL, "cannot create %s: %s", w->partial, strerror(errno));
    if (ftruncate(w->fd, (off_t)total))
        return oz_fail(OZ_ERR_IO, NULL, "cannot give %s its size of %llu bytes: %s", w->partial, (unsigned long long)total,
                       strerror(errno));
    return oz_write_all(w->fd, header, header_bytes, 0, w->partial);
}

static slot *find(oz_writer *w, const char *name)
{
    for (int a = 0, b = w->n; a < b;) {
        int m = a + (b - a) / 2, order = strcmp(name, w->sorted[m]->name);
        if (order == 0) return w->sorted[m];
        if (order < 0)
            b = m;
        else
            a = m + 1;
    }
    return NULL;
}

oz_status oz_writer_put_part(oz_writer *w, const char *tensor, size_t offset, const void *data, size_t bytes)
{
    slot *s = find(w, tensor);
    if (!s) return oz_fail(OZ_ERR_KEY, NULL, "%s: tensor \"%s\" was not declared", w->path, tensor);
    if (offset > s->bytes || bytes > s->bytes - offset)
        return oz_fail(OZ_ERR_SHAPE, NULL, "%s: tensor \"%s\": bytes %zu to %zu are put, it has %zu", w->path, tensor, offset,
                       offset + bytes, s->bytes);
    oz_status status = oz_write_all(w->fd, data, bytes, s->offset + offset, w->partial);
    if (status) {
        atomic_store(&w->failed, true);
        return oz_fail_in(status, "tensor \"%s\"", tensor);
    }
    if (atomic_fetch_add(&s->put, bytes) + bytes > s->bytes)
        return oz_fail(OZ_ERR_SHAPE, NULL, "%s: tensor \"%s\": more than its %zu bytes were put", w->path, tensor, s->bytes);
    return OZ_OK;
}

oz_status oz_writer_put(oz_writer *w, const char *tensor, const void *data, size_t bytes)
{
    slot *s = find(w, tensor);
    if (s && s->bytes != bytes)
        return oz_fail(OZ_ERR_SHAPE, NULL, "%s: tensor \"%s\": %zu bytes are put, it has %zu", w->path, tensor, bytes, s->bytes);
    return oz_writer_put_part(w, tensor, 0, data, bytes);
}

static oz_status finish(oz_writer *w)
{
    if (atomic_load(&w->failed)) return oz_fail(OZ_ERR_IO, NULL, "%s is not complete: a write to it failed", w->path);
    for (int i = 0; i < w->n; i++) {
        uint64_t put = atomic_load(&w->slot[i].put);
        if (put != w->slot[i].bytes)
            return oz_fail(OZ_ERR_SHAPE, NULL, "%s: tensor \"%s\" was declared with %zu bytes, %llu were put", w->path, w->slot[i].name,
                           w->slot[i].bytes, (unsigned long long)put);
    }
#ifdef OUNCE_FAULTS
    if (oz_fault_write_now()) return oz_fail(OZ_ERR_IO, NULL, "cannot sync %s: %s", w->partial, strerror(EIO));
#endif
    if (fsync(w->fd)) return oz_fail(OZ_ERR_IO, NULL, "cannot sync %s: %s", w->partial, strerror(errno));
    int failed = close(w->fd);
    w->fd = -1;
    if (failed || rename(w->partial, w->path)) {
        oz_status status =
            oz_fail(OZ_ERR_IO, NULL, "cannot %s %s: %s", failed ? "close" : "rename to its final name", w->partial, strerror(errno));
        (void)unlink(w->partial);
        return status;
    }
    char *folder = oz_path_folder(w->path);
    oz_status status = folder ? oz_sync_folder(folder) : OZ_ERR_NOMEM;
    oz_free(folder);
    return status;
}

oz_status oz_writer_commit(oz_writer *w)
{
    oz_status status = finish(w);
    oz_writer_abandon(w);
    return status;
}

/* Also the end of a commit, after which fd is -1 and nothing is removed. */
void oz_writer_abandon(oz_writer *w)
{
    if (!w) return;
    if (w->fd >= 0) {
        close(w->fd);
        (void)unlink(w->partial);
    }
    oz_arena_free(w->arena);
    oz_free(w->slot);
    oz_free(w->sorted);
    oz_free(w->partial);
    oz_free(w->path);
    oz_free(w);
}

/* Hidden states of all calibration tokens, [tokens x d] f32, in two files that take turns: block l reads one and writes the other, so a
 * job killed in block l finds the inputs of block l unharmed.  Mapped, so they leave memory when it is short. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "quantize/recipe/recipe_internal.h"

oz_status oz_stream_open(oz_stream *s, const char *dir, const char *name, int64_t tokens, int64_t d)
{
    *s = (oz_stream){.fd = {-1, -1}, .tokens = tokens, .d = d};
    size_t row;
    if (!oz_mul_size((size_t)d, sizeof(float), &row) || !oz_mul_size(row, (size_t)tokens, &s->bytes))
        return oz_fail(OZ_ERR_RANGE, "fewer samples", "%s: %lld tokens of %lld values do not fit the address space", name,
                       (long long)tokens, (long long)d);
    for (int b = 0; b < 2; b++) {
        char file[64];
        snprintf(file, sizeof file, "%s-%d.f32", name, b);
        s->path[b] = oz_path_join(dir, file);
        if (!s->path[b]) return OZ_ERR_NOMEM;
        s->fd[b] = open(s->path[b], O_RDWR | O_CREAT | O_CLOEXEC, 0644);
        if (s->fd[b] < 0) return oz_fail(OZ_ERR_IO, NULL, "%s: cannot create: %s", s->path[b], strerror(errno));
        int why = posix_fallocate(s->fd[b], 0, (off_t)s->bytes); /* now, so that a full disk is an error and not a signal later */
        if (why)
            return oz_fail(OZ_ERR_IO, "free disk space, or calibrate on fewer samples",
                           "%s: cannot reserve %zu bytes for hidden states: %s", s->path[b], s->bytes, strerror(why));
        void *p = mmap(NULL, s->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd[b], 0);
        if (p == MAP_FAILED) return oz_fail(OZ_ERR_IO, NULL, "%s: cannot map %zu bytes: %s", s->path[b], s->bytes, strerror(errno));
        s->map[b] = p;
    }
    return OZ_OK;
}

void oz_stream_close(oz_stream *s, bool remove)
{
    for (int b = 0; b < 2; b++) {
        if (s->map[b]) munmap(s->map[b], s->bytes);
        if (s->fd[b] > 0) close(s->fd[b]);
        if (remove && s->path[b]) unlink(s->path[b]);
        oz_free(s->path[b]);
    }
    memset(s, 0, sizeof *s);
}

oz_status oz_stream_sync(oz_stream *s, int b)
{
    if (msync(s->map[b], s->bytes, MS_SYNC) || fdatasync(s->fd[b]))
        return oz_fail(OZ_ERR_IO, "free disk space and continue with --resume", "%s: cannot write %zu bytes: %s", s->path[b], s->bytes,
                       strerror(errno));
    return OZ_OK;
}

void oz_stream_release(oz_stream *s, int b, int64_t token0, int64_t tokens)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), at = (size_t)token0 * (size_t)s->d * sizeof(float),
           end = at + (size_t)tokens * (size_t)s->d * sizeof(float);
    at = (at + page - 1) / page * page;
    end = end / page * page;
    if (end > at) madvise((char *)s->map[b] + at, end - at, MADV_DONTNEED);
}

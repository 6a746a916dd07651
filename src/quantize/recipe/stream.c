/* Hidden states of all calibration tokens, [tokens x d] f32, in two files that take turns: block l reads one and writes the other, so a
 * job killed in block l finds the inputs of block l unharmed.  Read and written piece by piece, so memory holds one chunk and a failing
 * disk is an error. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "quantize/recipe/recipe_internal.h"

static oz_status open_one(oz_stream *s, int b, bool fresh)
{
    s->fd[b] = open(s->path[b], fresh ? O_RDWR | O_CREAT | O_CLOEXEC : O_RDWR | O_CLOEXEC, 0644);
    if (s->fd[b] < 0)
        return oz_fail(OZ_ERR_IO, fresh ? NULL : "start over with --force", "%s: cannot open: %s", s->path[b], strerror(errno));
    struct stat st;
    if (!fresh && (fstat(s->fd[b], &st) || st.st_size != (off_t)s->bytes))
        return oz_fail(OZ_ERR_IO, "start over with --force", "%s: %lld bytes, expected %zu: the unfinished job is damaged", s->path[b],
                       (long long)st.st_size, s->bytes);
    int why = posix_fallocate(s->fd[b], 0, (off_t)s->bytes); /* now, so that a full disk is told before hours of work */
#ifdef OUNCE_FAULTS
    if (!why && oz_fault_write_now()) why = ENOSPC;
#endif
    if (why)
        return oz_fail(OZ_ERR_IO, "free disk space, or calibrate on fewer samples", "%s: cannot reserve %zu bytes for hidden states: %s",
                       s->path[b], s->bytes, strerror(why));
    return OZ_OK;
}

oz_status oz_stream_open(oz_stream *s, const char *dir, const char *name, int64_t tokens, int64_t d, bool fresh)
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
        OZ_TRY(open_one(s, b, fresh));
    }
    return OZ_OK;
}

void oz_stream_close(oz_stream *s)
{
    for (int b = 0; b < 2; b++) {
        if (s->path[b] && s->fd[b] >= 0) close(s->fd[b]);
        oz_free(s->path[b]);
    }
    *s = (oz_stream){.fd = {-1, -1}};
}

oz_status oz_stream_read(const oz_stream *s, int b, int64_t token0, int64_t tokens, float *x)
{
    size_t row = (size_t)s->d * sizeof(float), left = (size_t)tokens * row;
    off_t at = (off_t)((size_t)token0 * row);
    char *p = (char *)x;
    int why = 0;
#ifdef OUNCE_FAULTS
    if (oz_fault_read_now()) why = EIO;
#endif
    while (!why && left) {
        ssize_t got = pread(s->fd[b], p, left, at);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0)
            why = got < 0 ? errno : EIO; /* shorter than it was */
        else
            p += got, at += got, left -= (size_t)got;
    }
    if (why)
        return oz_fail(OZ_ERR_IO, "the disk failed, or the file was changed while it was in use", "%s: cannot read hidden states: %s",
                       s->path[b], strerror(why));
    return OZ_OK;
}

oz_status oz_stream_write(const oz_stream *s, int b, int64_t token0, int64_t tokens, const float *x)
{
    size_t row = (size_t)s->d * sizeof(float), left = (size_t)tokens * row;
    off_t at = (off_t)((size_t)token0 * row);
    const char *p = (const char *)x;
    int why = 0;
#ifdef OUNCE_FAULTS
    if (oz_fault_write_now()) why = ENOSPC;
#endif
    while (!why && left) {
        ssize_t put = pwrite(s->fd[b], p, left, at);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0)
            why = put < 0 ? errno : ENOSPC;
        else
            p += put, at += put, left -= (size_t)put;
    }
    if (why)
        return oz_fail(OZ_ERR_IO, "free disk space and continue with --resume", "%s: cannot write hidden states: %s", s->path[b],
                       strerror(why));
    return OZ_OK;
}

oz_status oz_stream_sync(const oz_stream *s, int b)
{
    int why = fdatasync(s->fd[b]) ? errno : 0;
#ifdef OUNCE_FAULTS
    if (!why && oz_fault_write_now()) why = EIO;
#endif
    if (why)
        return oz_fail(OZ_ERR_IO, "free disk space and continue with --resume", "%s: cannot write %zu bytes: %s", s->path[b], s->bytes,
                       strerror(why));
    return OZ_OK;
}

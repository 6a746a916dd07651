/* core/io/map.c: read-only memory maps of whole files.  A mapped page costs memory only while it is used: the page cache
 * may drop it, and oz_map_advise_drop says that it may do so now (streaming of checkpoints larger than memory). */
#include "core/io/io_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

oz_status oz_map_open(oz_file_map *map, const char *path)
{
    *map = (oz_file_map){.fd = -1};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return oz_fail(OZ_ERR_IO, NULL, "cannot open %s: %s", path, strerror(errno));
    struct stat s;
    oz_status status = OZ_OK;
    if (fstat(fd, &s))
        status = oz_fail(OZ_ERR_IO, NULL, "cannot read the size of %s: %s", path, strerror(errno));
    else if (!S_ISREG(s.st_mode))
        status = oz_fail(OZ_ERR_IO, NULL, "%s is %s, expected a regular file", path, S_ISDIR(s.st_mode) ? "a directory" : "not a file");
    else if ((uint64_t)s.st_size > SIZE_MAX / 2)
        status = oz_fail(OZ_ERR_IO, NULL, "%s has %lld bytes, more than this machine can map", path, (long long)s.st_size);
#ifdef OUNCE_FAULTS
    if (!status && oz_fault_read_now()) status = oz_fail(OZ_ERR_IO, NULL, "cannot read %s: %s", path, strerror(EIO));
#endif
    if (!status && s.st_size > 0) {
        void *p = mmap(NULL, (size_t)s.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED)
            status = oz_fail(OZ_ERR_IO, NULL, "cannot map %lld bytes of %s: %s", (long long)s.st_size, path, strerror(errno));
        else
            *map = (oz_file_map){.data = p, .bytes = (size_t)s.st_size};
    }
    if (status) {
        close(fd);
        return status;
    }
    map->fd = fd;
    return OZ_OK;
}

void oz_map_close(oz_file_map *map)
{
    if (map->data) munmap((void *)(uintptr_t)map->data, map->bytes);
    if (map->fd >= 0) close(map->fd);
    *map = (oz_file_map){.fd = -1};
}

/* Only pages that lie wholly inside: the ones at the ends are shared with neighbours that may still be needed. */
void oz_map_advise_drop(const void *data, size_t bytes)
{
    long page = sysconf(_SC_PAGESIZE);
    if (!data || page <= 0) return;
    uintptr_t size = (uintptr_t)page, a = ((uintptr_t)data + size - 1) / size * size, b = ((uintptr_t)data + bytes) / size * size;
    if (b > a) (void)madvise((void *)a, b - a, MADV_DONTNEED);
}

/* Reads ahead so that a failing disk, or a file that was cut short behind our back, is an error here and not a SIGBUS later. */
oz_status oz_map_fetch(const oz_file_map *map, const uint8_t *data, size_t bytes, const char *path)
{
    size_t at = (size_t)(data - map->data), done = 0;
    int why = 0;
#ifdef OUNCE_FAULTS
    if (oz_fault_read_now()) why = EIO;
#endif
#ifdef MADV_POPULATE_READ
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)data / page * page;
    size_t length = (uintptr_t)data + bytes - begin;
    while (!why) {
        if (madvise((void *)begin, length, MADV_POPULATE_READ) == 0) return OZ_OK;
        if (errno == EINTR || errno == EAGAIN) continue;
        if (errno == EINVAL) break; /* a kernel before 5.14 */
        why = errno == EFAULT ? EIO : errno;
    }
#endif
    uint8_t piece[65536];
    while (!why && done < bytes) {
        ssize_t got = pread(map->fd, piece, bytes - done < sizeof piece ? bytes - done : sizeof piece, (off_t)(at + done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0)
            why = errno;
        else if (got == 0)
            why = EIO; /* the file is shorter than when it was opened */
        else
            done += (size_t)got;
    }
    if (!why) return OZ_OK;
    return oz_fail(OZ_ERR_IO, "the disk failed, or the file was changed while it was in use", "cannot read %zu bytes at byte %zu of %s: %s",
                   bytes, at, path, strerror(why));
}

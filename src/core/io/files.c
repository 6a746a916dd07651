/* core/io/files.c: small files as a whole, paths, folders.  A file that is written appears under its name only when it is
 * complete and on disk: NAME.tmp-PID, fsync, rename, fsync of the folder. */
#include "core/io/io_internal.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool oz_path_exists(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0;
}

bool oz_path_is_dir(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

char *oz_path_join(const char *dir, const char *name)
{
    size_t n = strlen(dir);
    return oz_format_text("%s%s%s", dir, n && dir[n - 1] != '/' ? "/" : "", name);
}

char *oz_path_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash) return oz_strdup(".");
    return slash == path ? oz_strdup("/") : oz_strndup(path, (size_t)(slash - path));
}

bool oz_plain_name(const char *name, size_t length)
{
    if (length == 0 || length > 255 || memchr(name, '/', length) || memchr(name, 0, length)) return false;
    return !(length <= 2 && memcmp(name, "..", length) == 0);
}

oz_status oz_read_file(const char *path, size_t max_bytes, char **text, size_t *bytes)
{
    *text = NULL;
    if (bytes) *bytes = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return oz_fail(OZ_ERR_IO, NULL, "cannot open %s: %s", path, strerror(errno));
    oz_status status = OZ_OK;
    char *p = NULL;
    size_t n = 0, room = 0;
    struct stat s;
    if (fstat(fd, &s))
        status = oz_fail(OZ_ERR_IO, NULL, "cannot read the size of %s: %s", path, strerror(errno));
    else if (S_ISDIR(s.st_mode))
        status = oz_fail(OZ_ERR_IO, NULL, "%s is a directory, expected a file", path);
    else if (S_ISREG(s.st_mode) && (uint64_t)s.st_size > max_bytes)
        status = oz_fail(OZ_ERR_RANGE, NULL, "%s has %lld bytes, at most %zu are read", path, (long long)s.st_size, max_bytes);
    else
        room = S_ISREG(s.st_mode) ? (size_t)s.st_size : 0; /* a pipe tells no size */
    if (!status && !(p = oz_alloc(room + 1, 1))) status = OZ_ERR_NOMEM;
    while (!status) {
        if (n == room) { /* full: either this is the end or the file is a pipe or grew */
            char probe;
            ssize_t got = read(fd, &probe, 1);
            if (got < 0 && errno == EINTR) continue;
            if (got == 0) break;
            if (got < 0) {
                status = oz_fail(OZ_ERR_IO, NULL, "cannot read %s at byte %zu: %s", path, n, strerror(errno));
                break;
            }
            size_t more = room < 4096 ? 8192 : room * 2;
            if (n >= max_bytes)
                status = oz_fail(OZ_ERR_RANGE, NULL, "%s has more than %zu bytes, at most so many are read", path, max_bytes);
            else {
                char *q = oz_realloc(p, more + 1, 1);
                if (!q)
                    status = OZ_ERR_NOMEM;
                else {
                    p = q;
                    room = more;
                    p[n++] = probe;
                }
            }
            continue;
        }
        ssize_t got = read(fd, p + n, room - n);
#ifdef OUNCE_FAULTS
        if (oz_fault_read_now()) {
            got = -1;
            errno = EIO;
        }
#endif
        if (got < 0 && errno == EINTR) continue;
        if (got < 0)
            status = oz_fail(OZ_ERR_IO, NULL, "cannot read %s at byte %zu: %s", path, n, strerror(errno));
        else if (got == 0)
            break;
        else
            n += (size_t)got;
    }
    if (!status && n > max_bytes)
        status = oz_fail(OZ_ERR_RANGE, NULL, "%s has more than %zu bytes, at most so many are read", path, max_bytes);
    close(fd);
    if (status) {
        oz_free(p);
        return status;
    }
    p[n] = 0;
    *text = p;
    if (bytes) *bytes = n;
    return OZ_OK;
}

oz_status oz_write_all(int fd, const void *data, size_t bytes, uint64_t offset, const char *path)
{
    const uint8_t *p = data;
    size_t done = 0;
    while (done < bytes) {
        size_t piece = bytes - done < (1u << 30) ? bytes - done : 1u << 30;
        ssize_t got = pwrite(fd, p + done, piece, (off_t)(offset + done));
#ifdef OUNCE_FAULTS
        if (oz_fault_write_now()) {
            got = -1;
            errno = ENOSPC;
        }
#endif
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0)
            return oz_fail(OZ_ERR_IO, got < 0 && (errno == ENOSPC || errno == EDQUOT) ? "free some space or write to another disk" : NULL,
                           "cannot write %zu bytes at byte %llu of %s (%zu were written): %s", bytes, (unsigned long long)offset, path,
                           done, got < 0 ? strerror(errno) : "the system took none");
        done += (size_t)got;
    }
    return OZ_OK;
}

oz_status oz_sync_folder(const char *folder)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return oz_fail(OZ_ERR_IO, NULL, "cannot open folder %s: %s", folder, strerror(errno));
    int failed = fsync(fd), why = errno;
    close(fd);
    /* Some file systems cannot sync a folder and say EINVAL; there is nothing more to do there. */
    if (failed && why != EINVAL) return oz_fail(OZ_ERR_IO, NULL, "cannot sync folder %s: %s", folder, strerror(why));
    return OZ_OK;
}

oz_status oz_write_file(const char *path, const void *data, size_t bytes)
{
    oz_status status = OZ_OK;
    int fd = -1;
    char *folder = oz_path_folder(path), *partial = folder ? oz_format_text("%s.tmp-%ld", path, (long)getpid()) : NULL;
    if (!partial) {
        oz_free(folder);
        return OZ_ERR_NOMEM;
    }
    fd = open(partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) {
        status = oz_fail(OZ_ERR_IO, NULL, "cannot create %s: %s", partial, strerror(errno));
        goto done;
    }
    status = oz_write_all(fd, data, bytes, 0, path);
    if (!status && fsync(fd)) status = oz_fail(OZ_ERR_IO, NULL, "cannot sync %zu bytes of %s: %s", bytes, path, strerror(errno));
    if (close(fd) && !status) status = oz_fail(OZ_ERR_IO, NULL, "cannot close %s: %s", path, strerror(errno));
    if (!status && rename(partial, path)) status = oz_fail(OZ_ERR_IO, NULL, "cannot rename %s to %s: %s", partial, path, strerror(errno));
    if (status)
        (void)unlink(partial);
    else
        status = oz_sync_folder(folder);
done:
    oz_free(partial);
    oz_free(folder);
    return status;
}

oz_status oz_make_dirs(const char *path)
{
    oz_status status = OZ_OK;
    char *p = oz_strdup(path);
    if (!p) return OZ_ERR_NOMEM;
    for (size_t i = 1, n = strlen(p); i <= n && !status; i++) {
        if (p[i] != '/' && p[i] != 0) continue;
        char kept = p[i];
        p[i] = 0;
        if (mkdir(p, 0777) && errno != EEXIST)
            status = oz_fail(OZ_ERR_IO, NULL, "cannot create folder %s: %s", p, strerror(errno));
        else if (!oz_path_is_dir(p))
            status = oz_fail(OZ_ERR_IO, NULL, "cannot create folder %s: a file of that name exists", p);
        p[i] = kept;
    }
    oz_free(p);
    return status;
}

/* Symbolic links are removed, never followed. */
static oz_status remove_at(const char *path, int depth)
{
    struct stat s;
    if (lstat(path, &s)) return errno == ENOENT ? OZ_OK : oz_fail(OZ_ERR_IO, NULL, "cannot look at %s: %s", path, strerror(errno));
    if (S_ISDIR(s.st_mode)) {
        if (depth > 64) return oz_fail(OZ_ERR_IO, NULL, "cannot remove %s: folders are nested more than 64 deep", path);
        DIR *d = opendir(path);
        if (!d) return oz_fail(OZ_ERR_IO, NULL, "cannot open folder %s: %s", path, strerror(errno));
        oz_status status = OZ_OK;
        for (struct dirent *e; !status && (e = readdir(d));) {
            if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
            char *inner = oz_path_join(path, e->d_name);
            status = inner ? remove_at(inner, depth + 1) : OZ_ERR_NOMEM;
            oz_free(inner);
        }
        closedir(d);
        OZ_TRY(status);
        if (rmdir(path)) return oz_fail(OZ_ERR_IO, NULL, "cannot remove folder %s: %s", path, strerror(errno));
        return OZ_OK;
    }
    if (unlink(path)) return oz_fail(OZ_ERR_IO, NULL, "cannot remove %s: %s", path, strerror(errno));
    return OZ_OK;
}

oz_status oz_remove_tree(const char *path) { return remove_at(path, 0); }

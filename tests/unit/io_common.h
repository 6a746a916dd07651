/* tests/unit/io_common.h: folders, raw files and messages for the tests of core/io. */
#ifndef TESTS_IO_COMMON_H
#define TESTS_IO_COMMON_H
#include "core/io/io_internal.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#define OK(e)                                                                                                                              \
    do {                                                                                                                                   \
        oz_clear_message();                                                                                                                \
        oz_status ok_status_ = (e);                                                                                                        \
        if (ok_status_) fail_msg("%s: %s", #e, oz_message());                                                                              \
    } while (0)

/* The call fails with this status, and its message holds this text. */
#define FAILS(e, want, text)                                                                                                               \
    do {                                                                                                                                   \
        oz_clear_message();                                                                                                                \
        assert_int_equal((e), (want));                                                                                                     \
        if (!strstr(oz_message(), (text))) fail_msg("%s: message \"%s\" lacks \"%s\"", #e, oz_message(), (text));                          \
    } while (0)

static inline void io_folder(char out[64])
{
    strcpy(out, "/tmp/ounce-io-XXXXXX");
    assert_non_null(mkdtemp(out));
}

static inline void io_remove(const char *folder) { OK(oz_remove_tree(folder)); }

/* folder/name in one of four static texts */
static inline const char *io_path(const char *folder, const char *name)
{
    static char text[4][1024];
    static int k;
    k = (k + 1) % 4;
    snprintf(text[k], sizeof text[k], "%s/%s", folder, name);
    return text[k];
}

static inline void io_put(const char *folder, const char *name, const void *data, size_t bytes)
{
    FILE *f = fopen(io_path(folder, name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, bytes, f), bytes);
    assert_int_equal(fclose(f), 0);
}

/* A safetensors image: length, header, `bytes` bytes of data counting up from 0. */
static inline void *io_safetensors(const char *header, size_t bytes, size_t *total)
{
    size_t n = strlen(header);
    uint8_t *p = malloc(8 + n + bytes);
    assert_non_null(p);
    for (size_t i = 0; i < 8; i++) p[i] = (uint8_t)((uint64_t)n >> (8 * i));
    memcpy(p + 8, header, n);
    for (size_t i = 0; i < bytes; i++) p[8 + n + i] = (uint8_t)i;
    *total = 8 + n + bytes;
    return p;
}

/* Value of element i of the golden tensors (tools/oracle/io.py). */
static inline float io_value(oz_dtype dtype, int64_t i)
{
    return dtype == OZ_E8M0 ? (float)(1 << (i % 8)) : dtype == OZ_BOOL ? (float)(i % 2) : (float)(i % 8);
}
#endif

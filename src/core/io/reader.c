/* core/io/reader.c: the bounded reader.  Little-endian numbers are put together byte by byte, so neither the machine's
 * byte order nor alignment matters.  `end` is kept beside the position so that a corrupt length cannot lead outside;
 * after the first failed read every later one gives zero, and the caller may check once at the end. */
#include "core/io/io_internal.h"

void oz_reader_init(oz_reader *r, const void *data, size_t bytes, const char *file)
{
    static const uint8_t nothing[1] = {0};
    r->begin = r->p = data ? data : nothing;
    r->end = r->begin + (data ? bytes : 0);
    r->file = file;
    r->failed = false;
}

size_t oz_reader_left(const oz_reader *r) { return (size_t)(r->end - r->p); }

const uint8_t *oz_read_bytes(oz_reader *r, uint64_t n)
{
    if (r->failed || n > oz_reader_left(r)) {
        r->failed = true;
        r->p = r->end;
        return NULL;
    }
    const uint8_t *at = r->p;
    r->p += n;
    return at;
}

static uint64_t little(oz_reader *r, int n)
{
    const uint8_t *b = oz_read_bytes(r, (uint64_t)n);
    uint64_t v = 0;
    for (int i = n - 1; b && i >= 0; i--) v = v << 8 | b[i];
    return v;
}

uint8_t oz_read_u8(oz_reader *r) { return (uint8_t)little(r, 1); }
uint16_t oz_read_u16(oz_reader *r) { return (uint16_t)little(r, 2); }
uint32_t oz_read_u32(oz_reader *r) { return (uint32_t)little(r, 4); }
uint64_t oz_read_u64(oz_reader *r) { return little(r, 8); }

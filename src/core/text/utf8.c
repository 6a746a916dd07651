/* core/text/utf8.c: UTF-8 as RFC 3629 defines it: no overlong forms, no surrogates, nothing above U+10FFFF. */
#include "core/text/utf8.h"
#include <string.h>
#include <utf8proc.h>
#include "ounce/text.h"

/* Length that a lead byte announces and the bounds of the second byte; 0: not a lead byte. */
static int lead(uint8_t b, uint8_t *lo, uint8_t *hi)
{
    *lo = 0x80, *hi = 0xbf;
    if (b < 0x80) return 1;
    if (b < 0xc2) return 0;
    if (b < 0xe0) return 2;
    if (b < 0xf0) {
        if (b == 0xe0) *lo = 0xa0;
        if (b == 0xed) *hi = 0x9f;
        return 3;
    }
    if (b > 0xf4) return 0;
    if (b == 0xf0) *lo = 0x90;
    if (b == 0xf4) *hi = 0x8f;
    return 4;
}

int oz_utf8_decode(const char *s, size_t n, uint32_t *code)
{
    const uint8_t *p = (const uint8_t *)s;
    uint8_t lo, hi;
    if (n == 0) return 0;
    int len = lead(p[0], &lo, &hi);
    if (len <= 1) {
        *code = p[0];
        return len;
    }
    if ((size_t)len > n || p[1] < lo || p[1] > hi) return 0;
    uint32_t c = p[0] & (0x7fu >> len);
    for (int i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80) return 0;
        c = c << 6 | (p[i] & 0x3f);
    }
    *code = c;
    return len;
}

int oz_utf8_encode(uint32_t c, char out[4])
{
    if (c < 0x80) return out[0] = (char)c, 1;
    if (c < 0x800) return out[0] = (char)(0xc0 | c >> 6), out[1] = (char)(0x80 | (c & 63)), 2;
    if (c < 0x10000) return out[0] = (char)(0xe0 | c >> 12), out[1] = (char)(0x80 | (c >> 6 & 63)), out[2] = (char)(0x80 | (c & 63)), 3;
    out[0] = (char)(0xf0 | c >> 18), out[1] = (char)(0x80 | (c >> 12 & 63)), out[2] = (char)(0x80 | (c >> 6 & 63));
    out[3] = (char)(0x80 | (c & 63));
    return 4;
}

size_t oz_utf8_valid(const char *s, size_t n)
{
    size_t i = 0;
    while (i < n) {
        uint64_t w;
        while (i + 8 <= n && (memcpy(&w, s + i, 8), !(w & 0x8080808080808080u))) i += 8; /* mostly ASCII */
        if (i >= n) break;
        uint32_t code;
        int len = oz_utf8_decode(s + i, n - i, &code);
        if (len == 0) break;
        i += (size_t)len;
    }
    return i;
}

size_t oz_utf8_malformed(const char *s, size_t n)
{
    uint32_t code;
    size_t i = 0;
    while (i < n && oz_utf8_decode(s + i, n - i, &code) == 0) i++;
    return i;
}

size_t oz_utf8_before(const char *s, size_t at)
{
    if (at == 0) return 0;
    size_t i = at - 1;
    while (i > 0 && at - i < 4 && ((uint8_t)s[i] & 0xc0) == 0x80) i--;
    return i;
}

size_t oz_utf8_complete(const char *text, size_t bytes)
{
    /* Only an unfinished character at the very end is held back; malformed bytes are whole as they are. */
    for (size_t back = 1; back <= 3 && back <= bytes; back++) {
        const uint8_t *p = (const uint8_t *)text + bytes - back;
        uint8_t lo, hi;
        if ((*p & 0xc0) == 0x80) continue;
        int len = lead(*p, &lo, &hi);
        if (len <= (int)back || (back > 1 && (p[1] < lo || p[1] > hi))) return bytes;
        return bytes - back;
    }
    return bytes;
}

bool oz_utf8_is_space(uint32_t c)
{
    if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13);
    return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000;
}

bool oz_utf8_is_number(uint32_t c)
{
    if (c < 0x80) return c >= '0' && c <= '9';
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO;
}

bool oz_utf8_is_word(uint32_t c)
{
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO) || (k >= UTF8PROC_CATEGORY_MN && k <= UTF8PROC_CATEGORY_ME) ||
           k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_PC;
}

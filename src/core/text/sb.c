/* core/text/sb.c: text that grows.  A failed allocation is remembered and reported once, by oz_sb_end. */
#include <stdio.h>
#include "core/text/tokenizer.h"

static bool room(oz_sb *b, size_t more)
{
    if (b->failed) return false;
    if (b->cap - b->n > more) return true;
    size_t cap = b->cap < 256 ? 256 : b->cap;
    while (cap - b->n <= more && cap < SIZE_MAX / 2) cap *= 2;
    char *s = cap - b->n > more ? oz_realloc(b->s, cap, 1) : NULL;
    if (!s) return b->failed = true, false;
    b->s = s, b->cap = cap;
    return true;
}

void oz_sb_put(oz_sb *b, const char *s, size_t n)
{
    if (n == 0 || !room(b, n)) return;
    memcpy(b->s + b->n, s, n);
    b->n += n;
}

void oz_sb_text(oz_sb *b, const char *s) { oz_sb_put(b, s, strlen(s)); }

void oz_sb_format(oz_sb *b, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n > 0) oz_sb_put(b, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
}

void oz_sb_json(oz_sb *b, const char *s, size_t n)
{
    oz_sb_put(b, "\"", 1);
    for (size_t i = 0; i < n;) {
        uint32_t c;
        int len = oz_utf8_decode(s + i, n - i, &c);
        if (len == 0) {
            oz_sb_text(b, "\xef\xbf\xbd");
            i++;
            continue;
        }
        if (c == '"' || c == '\\') {
            char esc[2] = {'\\', (char)c};
            oz_sb_put(b, esc, 2);
        } else if (c == '\n') {
            oz_sb_text(b, "\\n");
        } else if (c == '\r') {
            oz_sb_text(b, "\\r");
        } else if (c == '\t') {
            oz_sb_text(b, "\\t");
        } else if (c == '\b') {
            oz_sb_text(b, "\\b");
        } else if (c == '\f') {
            oz_sb_text(b, "\\f");
        } else if (c < 0x20) {
            oz_sb_format(b, "\\u%04x", (unsigned)c);
        } else {
            oz_sb_put(b, s + i, (size_t)len);
        }
        i += (size_t)len;
    }
    oz_sb_put(b, "\"", 1);
}

oz_status oz_sb_end(oz_sb *b, char **text, size_t *bytes)
{
    if (!room(b, 1)) {
        oz_free(b->s);
        *b = (oz_sb){0};
        return OZ_ERR_NOMEM; /* oz_realloc has set the message */
    }
    b->s[b->n] = 0;
    *text = b->s;
    if (bytes) *bytes = b->n;
    *b = (oz_sb){0};
    return OZ_OK;
}

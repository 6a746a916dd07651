/* core/text/utf8.h: characters in untrusted bytes. */
#ifndef OUNCE_CORE_TEXT_UTF8_H
#define OUNCE_CORE_TEXT_UTF8_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of the well-formed character at s (1..4) and its code point; 0 when the bytes are malformed or cut short. */
int oz_utf8_decode(const char *s, size_t n, uint32_t *code);
int oz_utf8_encode(uint32_t code, char out[4]);
size_t oz_utf8_valid(const char *s, size_t n);     /* bytes of the longest well-formed prefix */
size_t oz_utf8_malformed(const char *s, size_t n); /* bytes before the next well-formed character */
size_t oz_utf8_before(const char *s, size_t at);   /* start of the character that ends at `at` (s well formed up to there) */
bool oz_utf8_is_space(uint32_t code);              /* Unicode White_Space */
bool oz_utf8_is_number(uint32_t code);             /* category N */
bool oz_utf8_is_word(uint32_t code);               /* letter, mark, decimal digit, connector */
#endif

/* core/text/preset.c: the pre-tokenizers that have a name.
 *
 * GGUF stores a name (tokenizer.ggml.pre) where tokenizer.json stores the steps.  This table goes both ways: steps for a name, and a
 * name for steps.  Patterns are the published ones of each family; those of "default" are what llama.cpp applies to a file that names
 * none.  A new family is one row. */
#include <utf8proc.h>
#include "core/text/tokenizer.h"

#define CONTRACTION "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define LINES       "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static const oz_preset presets[] = {
    {.name = "gpt-2", .also = " gpt2 phi-2 jina-es jina-de jina-v2-es jina-v2-de mpt jais trillion "},
    {.name = "smollm", .also = " starcoder refact command-r codeshell exaone minerva-7b ", .digits = true},
    {.name = "olmo", .also = " ", .norm = OZ_NORM_NFC},
    {.name = "llama-bpe",
     .also = " llama3 llama-v3 falcon3 ",
     .pattern = {CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" LINES},
     .ignore_merges = true,
     .adds_bos = true},
    {.name = "dbrx",
     .also = " smaug-bpe ",
     .pattern = {CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" LINES}},
    {.name = "qwen2",
     .also = " deepseek-r1-qwen stablelm2 ",
     .norm = OZ_NORM_NFC,
     .pattern = {CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" LINES}},
    {.name = "tekken",
     .also = " ",
     .pattern = {"[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|"
                 "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|"
                 "\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" LINES},
     .ignore_merges = true,
     .adds_bos = true},
    {.name = "default",
     .also = " ",
     .pattern = {"[\\p{P}\\$\\+<=>\\^~\\|]+", "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)", "\\p{N}+",
                 "[0-9][0-9][0-9]"}},
};
enum { PRESETS = sizeof presets / sizeof presets[0] };

const oz_preset *oz_preset_named(const char *name, size_t bytes)
{
    char spaced[64];
    if (bytes == 0 || bytes + 3 > sizeof spaced || memchr(name, ' ', bytes) || memchr(name, 0, bytes)) return NULL;
    spaced[0] = ' ';
    memcpy(spaced + 1, name, bytes);
    spaced[bytes + 1] = ' ', spaced[bytes + 2] = 0;
    for (int i = 0; i < PRESETS; i++) {
        if (strlen(presets[i].name) == bytes && !memcmp(presets[i].name, name, bytes)) return &presets[i];
        if (strstr(presets[i].also, spaced)) return &presets[i];
    }
    return NULL;
}

void oz_preset_steps(const oz_preset *p, oz_pretokenizer *pre)
{
    *pre = (oz_pretokenizer){0};
    if (p->digits) pre->step[pre->n++] = (oz_pre_step){.kind = OZ_PRE_DIGITS, .individual = true};
    for (int i = 0; i < 4 && p->pattern[i]; i++)
        pre->step[pre->n++] = (oz_pre_step){.kind = OZ_PRE_SPLIT, .pattern = p->pattern[i], .pattern_bytes = strlen(p->pattern[i])};
    pre->step[pre->n++] = (oz_pre_step){.kind = OZ_PRE_BYTES, .use_regex = !p->pattern[0]};
}

const oz_preset *oz_preset_like(const oz_pretokenizer *pre, oz_norm norm)
{
    for (int i = 0; i < PRESETS; i++) {
        oz_pretokenizer steps;
        oz_preset_steps(&presets[i], &steps);
        if (presets[i].norm == norm && oz_pre_equal(&steps, pre)) return &presets[i];
    }
    return NULL;
}

char *oz_preset_names(void)
{
    oz_sb b = {0};
    for (int i = 0; i < PRESETS; i++) {
        oz_sb_text(&b, i ? ", " : "");
        oz_sb_text(&b, presets[i].name);
    }
    char *text = NULL;
    return oz_sb_end(&b, &text, NULL) ? NULL : text;
}

/* ---- normal forms (Unicode Standard Annex 15), by utf8proc ---- */
oz_status oz_normalize(oz_norm norm, const char *text, size_t bytes, oz_sb *buffer, oz_str *out)
{
    *out = (oz_str){text, bytes};
    bool plain = norm == OZ_NORM_NONE;
    if (!plain) { /* nothing below U+0300 combines, and below U+00A0 nothing decomposes */
        plain = true;
        for (size_t i = 0; i < bytes && plain; i++) plain = (uint8_t)text[i] < (norm == OZ_NORM_NFC ? 0xcc : 0x80);
    }
    if (plain || bytes == 0) return OZ_OK;
    utf8proc_option_t how = UTF8PROC_STABLE;
    how |= norm == OZ_NORM_NFC || norm == OZ_NORM_NFKC ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
    if (norm == OZ_NORM_NFKC || norm == OZ_NORM_NFKD) how |= UTF8PROC_COMPAT;
    if (bytes > SIZE_MAX / 128)
        return oz_fail(OZ_ERR_RANGE, "split the text", "a text of %zu bytes cannot be normalized in one piece", bytes);
    utf8proc_ssize_t need = utf8proc_decompose((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)bytes, NULL, 0, how);
    if (need < 0) return oz_fail(OZ_ERR_PARSE, NULL, "a text of %zu bytes cannot be normalized: %s", bytes, utf8proc_errmsg(need));
    size_t room = ((size_t)need + 1) * sizeof(utf8proc_int32_t);
    if (buffer->cap < room) {
        char *p = oz_realloc(buffer->s, room, 1);
        if (!p) return OZ_ERR_NOMEM;
        buffer->s = p, buffer->cap = room;
    }
    utf8proc_int32_t *code = (utf8proc_int32_t *)(void *)buffer->s;
    utf8proc_ssize_t n = utf8proc_decompose((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)bytes, code, need, how);
    if (n >= 0) n = utf8proc_reencode(code, n, how); /* in place: UTF-8 is never longer than 4 bytes a character */
    if (n < 0) return oz_fail(OZ_ERR_PARSE, NULL, "a text of %zu bytes cannot be normalized: %s", bytes, utf8proc_errmsg(n));
    *out = (oz_str){buffer->s, (size_t)n};
    return OZ_OK;
}

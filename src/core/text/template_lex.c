/* core/text/template_lex.c: a template's source as tokens.
 *
 *   {{ expression }}   {% statement %}   {# comment #}   {% raw %} ... {% endraw %}
 *
 * White space is decided here and nowhere else.  A '-' inside a tag's edge strips all white space on that side; otherwise a statement
 * or comment alone at the start of its line loses the blanks before it (lstrip_blocks) and the newline behind it (trim_blocks),
 * unless a '+' keeps them. */
#include "core/text/template.h"

typedef struct {
    const char *s;
    size_t n, i;
    int line;
    const char *file;
    oz_arena *arena;
    t_tokens *out;
} lexer;

static bool blank(char c) { return c == ' ' || (c >= 9 && c <= 13); }
static bool digit(char c) { return c >= '0' && c <= '9'; }
static bool letter(char c) { return (c | 32) >= 'a' && (c | 32) <= 'z'; }
static bool at(const lexer *x, const char *word) { return x->n - x->i >= strlen(word) && !memcmp(x->s + x->i, word, strlen(word)); }

static oz_status put(lexer *x, t_token_kind kind, const char *s, size_t n)
{
    t_tokens *t = x->out;
    if (t->n == t->cap) {
        size_t cap = t->cap ? t->cap * 2 : 256;
        t_token *p = oz_realloc(t->token, cap, sizeof *p);
        if (!p) return OZ_ERR_NOMEM;
        t->token = p, t->cap = cap;
    }
    t->token[t->n++] = (t_token){kind, x->line, s, n};
    return OZ_OK;
}

static void forward(lexer *x, size_t to)
{
    for (; x->i < to; x->i++) x->line += x->s[x->i] == '\n';
}

static int hex(char c) { return digit(c) ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1; }

/* \xHH, \uHHHH, \UHHHHHHHH at s (after the backslash): characters taken, 0 when malformed. */
static size_t hex_escape(const char *s, size_t n, uint32_t *code)
{
    size_t digits = s[0] == 'x' ? 2 : s[0] == 'u' ? 4 : 8;
    if (n < digits + 1) return 0;
    *code = 0;
    for (size_t k = 1; k <= digits; k++) {
        int h = hex(s[k]);
        if (h < 0) return 0;
        *code = *code << 4 | (uint32_t)h;
    }
    return *code <= 0x10ffff && (*code < 0xd800 || *code > 0xdfff) ? digits + 1 : 0;
}

static oz_status lex_text(lexer *x)
{
    const char quote = x->s[x->i];
    size_t end = x->i + 1;
    while (end < x->n && x->s[end] != quote) end += x->s[end] == '\\' ? 2 : 1;
    if (end >= x->n) return oz_fail(OZ_ERR_PARSE, NULL, "%s:%d: a text that begins with %c has no end", x->file, x->line, quote);
    char *to = oz_arena_alloc(x->arena, end - x->i + 1);
    if (!to) return OZ_ERR_NOMEM;
    size_t n = 0;
    static const char from[] = "nrtbfav0\\'\"", into[] = "\n\r\t\b\f\a\v\0\\'\"";
    for (size_t i = x->i + 1; i < end; i++) {
        if (x->s[i] != '\\') {
            to[n++] = x->s[i];
            continue;
        }
        const char *hit = memchr(from, x->s[++i], sizeof from - 1);
        uint32_t code;
        size_t used;
        if (x->s[i] == '\n') continue; /* a line carried on */
        if (hit) {
            to[n++] = into[hit - from];
        } else if ((x->s[i] == 'x' || x->s[i] == 'u' || x->s[i] == 'U') && (used = hex_escape(x->s + i, end - i, &code)) > 0) {
            n += (size_t)oz_utf8_encode(code, to + n); /* never longer than its spelling */
            i += used - 1;
        } else {
            to[n++] = '\\';
            to[n++] = x->s[i];
        }
    }
    OZ_TRY(put(x, TOK_TEXT, to, n));
    forward(x, end + 1);
    return OZ_OK;
}

static oz_status lex_number(lexer *x)
{
    size_t i = x->i;
    bool real = false;
    while (i < x->n && (digit(x->s[i]) || x->s[i] == '_')) i++;
    if (i + 1 < x->n && x->s[i] == '.' && digit(x->s[i + 1])) {
        real = true;
        for (i++; i < x->n && digit(x->s[i]);) i++;
    }
    size_t e = i;
    if (e < x->n && (x->s[e] | 32) == 'e') {
        e++;
        if (e < x->n && (x->s[e] == '+' || x->s[e] == '-')) e++;
        if (e < x->n && digit(x->s[e])) {
            real = true;
            for (i = e; i < x->n && digit(x->s[i]);) i++;
        }
    }
    OZ_TRY(put(x, real ? TOK_REAL : TOK_INT, x->s + x->i, i - x->i));
    forward(x, i);
    return OZ_OK;
}

/* Where a tag ends here ("%}", "-%}", "+%}"), else 0. */
static size_t tag_end(const lexer *x, const char *end)
{
    size_t sign = x->s[x->i] == '-' || (x->s[x->i] == '+' && end[0] != '}');
    return x->n - x->i >= sign + 2 && !memcmp(x->s + x->i + sign, end, 2) ? x->i + sign + 2 : 0;
}

/* Behind a tag: what of the white space belongs to it. */
static size_t behind(const lexer *x, size_t end, char sign, bool statement)
{
    if (sign == '-')
        while (end < x->n && blank(x->s[end])) end++;
    else if (statement && sign != '+' && end < x->n && x->s[end] == '\n')
        end++;
    return end;
}

static oz_status lex_inside(lexer *x, const char *end, t_token_kind end_kind)
{
    static const char *const ops[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "*", "/", "%", "~", "[",
                                      "]",  "(",  ")",  "{",  "}",  "<",  ">", "=", ".", ":", "|", ",", ";"};
    int open = 0;
    const int line = x->line;
    while (x->i < x->n) {
        const char c = x->s[x->i];
        size_t stop = open == 0 ? tag_end(x, end) : 0;
        if (stop) {
            OZ_TRY(put(x, end_kind, end, 2));
            forward(x, behind(x, stop, c, end_kind == TOK_BLOCK_END));
            return OZ_OK;
        }
        if (blank(c)) {
            forward(x, x->i + 1);
        } else if (letter(c) || c == '_') {
            size_t i = x->i;
            while (i < x->n && (letter(x->s[i]) || digit(x->s[i]) || x->s[i] == '_')) i++;
            OZ_TRY(put(x, TOK_NAME, x->s + x->i, i - x->i));
            x->i = i;
        } else if (digit(c)) {
            OZ_TRY(lex_number(x));
        } else if (c == '"' || c == '\'') {
            OZ_TRY(lex_text(x));
        } else {
            const char *op = NULL;
            for (size_t k = 0; k < sizeof ops / sizeof ops[0] && !op; k++)
                if (at(x, ops[k])) op = ops[k];
            if (!op)
                return oz_fail(OZ_ERR_PARSE, NULL, "%s:%d: unexpected character 0x%02x in a template expression", x->file, x->line,
                               (unsigned)(uint8_t)c);
            if (strchr("([{", op[0])) open++;
            if (strchr(")]}", op[0])) open -= open > 0;
            OZ_TRY(put(x, TOK_OP, op, strlen(op)));
            x->i += strlen(op);
        }
    }
    return oz_fail(OZ_ERR_PARSE, NULL, "%s:%d: the tag that begins here has no \"%s\"", x->file, line, end);
}

/* {% raw %}: everything up to {% endraw %} is text.  Returns whether there was one. */
static bool is_raw(const lexer *x, size_t i, const char *word, size_t *end, char *sign)
{
    size_t n = strlen(word);
    if (x->n - i < 2 || memcmp(x->s + i, "{%", 2)) return false;
    i += 2;
    if (i < x->n && (x->s[i] == '-' || x->s[i] == '+')) i++;
    while (i < x->n && blank(x->s[i])) i++;
    if (x->n - i < n || memcmp(x->s + i, word, n)) return false;
    i += n;
    while (i < x->n && blank(x->s[i])) i++;
    *sign = i < x->n ? x->s[i] : 0;
    if (*sign == '-' || *sign == '+') i++;
    if (x->n - i < 2 || memcmp(x->s + i, "%}", 2)) return false;
    *end = i + 2;
    return true;
}

static oz_status lex_raw(lexer *x, size_t from, char sign)
{
    forward(x, behind(x, from, sign, true));
    for (size_t i = x->i; i < x->n; i++) {
        size_t end;
        char last;
        if (x->s[i] != '{' || !is_raw(x, i, "endraw", &end, &last)) continue;
        size_t stop = i;
        if (x->s[i + 2] == '-')
            while (stop > x->i && blank(x->s[stop - 1])) stop--;
        if (stop > x->i) OZ_TRY(put(x, TOK_DATA, x->s + x->i, stop - x->i));
        forward(x, behind(x, end, last, true));
        return OZ_OK;
    }
    return oz_fail(OZ_ERR_PARSE, NULL, "%s:%d: \"raw\" has no \"endraw\"", x->file, x->line);
}

/* Text up to the next tag, without the white space that the tag takes away. */
static oz_status lex_data(lexer *x)
{
    size_t i = x->i;
    while (i < x->n && !(x->s[i] == '{' && i + 1 < x->n && (x->s[i + 1] == '{' || x->s[i + 1] == '%' || x->s[i + 1] == '#'))) i++;
    size_t stop = i;
    if (i < x->n) {
        const char sign = i + 2 < x->n ? x->s[i + 2] : 0;
        if (sign == '-') {
            while (stop > x->i && blank(x->s[stop - 1])) stop--;
        } else if (x->s[i + 1] != '{' && sign != '+') {
            size_t line = i;
            while (line > x->i && blank(x->s[line - 1]) && x->s[line - 1] != '\n') line--;
            bool starts = line == 0 || x->s[line - 1] == '\n'; /* also when that newline belongs to the tag before */
            if (starts) stop = line;
        }
    }
    if (stop > x->i) OZ_TRY(put(x, TOK_DATA, x->s + x->i, stop - x->i));
    forward(x, i);
    return OZ_OK;
}

oz_status oz_template_lex(t_tokens *out, const char *source, size_t bytes, const char *file, oz_arena *arena)
{
    if (bytes > OZ_T_SOURCE_MAX)
        return oz_fail(OZ_ERR_RANGE, NULL, "%s: a template of %zu bytes, at most %d are read", file, bytes, OZ_T_SOURCE_MAX);
    char *s = oz_arena_alloc(arena, bytes + 1);
    if (!s) return OZ_ERR_NOMEM;
    lexer x = {.s = s, .line = 1, .file = file, .arena = arena, .out = out};
    for (size_t i = 0; i < bytes; i++) { /* all newlines are \n */
        if (source[i] == '\r' && i + 1 < bytes && source[i + 1] == '\n') continue;
        s[x.n++] = source[i] == '\r' ? '\n' : source[i];
    }
    if (x.n && s[x.n - 1] == '\n') x.n--;
    while (x.i < x.n) {
        OZ_TRY(lex_data(&x));
        if (x.i >= x.n) break;
        const char kind = s[x.i + 1];
        size_t end;
        char sign;
        if (kind == '#') {
            size_t i = x.i + 2;
            while (i + 1 < x.n && !(s[i] == '#' && s[i + 1] == '}')) i++;
            if (i + 1 >= x.n) return oz_fail(OZ_ERR_PARSE, NULL, "%s:%d: the comment that begins here has no \"#}\"", file, x.line);
            sign = i > x.i + 2 ? s[i - 1] : 0;
            forward(&x, behind(&x, i + 2, sign, true));
            continue;
        }
        if (kind == '%' && is_raw(&x, x.i, "raw", &end, &sign)) {
            OZ_TRY(lex_raw(&x, end, sign));
            continue;
        }
        OZ_TRY(put(&x, kind == '{' ? TOK_VAR : TOK_BLOCK, s + x.i, 2));
        x.i += 2;
        if (x.i < x.n && (s[x.i] == '-' || (s[x.i] == '+' && kind == '%'))) x.i++;
        OZ_TRY(lex_inside(&x, kind == '{' ? "}}" : "%}", kind == '{' ? TOK_VAR_END : TOK_BLOCK_END));
    }
    return put(&x, TOK_END, s + x.n, 0);
}

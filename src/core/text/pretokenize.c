/* core/text/pretokenize.c: cutting a text into the words that merging never crosses.
 *
 * The steps of tokenizer.json's pre_tokenizer, in order; each cuts the pieces of the one before, and sees a piece as a whole text
 * (so a look-ahead stops at its end):
 *   Split      a regular expression or plain text, five behaviours
 *   Digits     one by one or in runs
 *   ByteLevel  the GPT-2 expression when use_regex
 * Expressions run in PCRE2 with Unicode properties.  What Hugging Face means by \s and \S is Unicode White_Space, while PCRE2 also
 * counts U+180E, so both are written out before compiling. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include "core/text/tokenizer.h"

const char oz_pattern_gpt2[] = "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/* An untrusted expression must not run away: backtracking steps and memory of one match. */
enum { MATCH_LIMIT = 5000000, HEAP_LIMIT_KIB = 16384, JIT_STACK = 1 << 20, PATTERN_MAX = 16384 };

static void *re_alloc(size_t n, void *user)
{
    (void)user;
    return oz_alloc(n, 1);
}
static void re_free(void *p, void *user)
{
    (void)user;
    oz_free(p);
}

/* \s and \S spelled out; inside a class \S cannot be, and keeps PCRE2's meaning. */
static void rewrite(oz_sb *out, const char *p, size_t n)
{
    bool in_class = false;
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '\\' && i + 1 < n) {
            if (p[i + 1] == 's') {
                oz_sb_text(out, in_class ? "\\p{Z}\\x09-\\x0d\\x{85}" : "[\\p{Z}\\x09-\\x0d\\x{85}]");
            } else if (p[i + 1] == 'S' && !in_class) {
                oz_sb_text(out, "[^\\p{Z}\\x09-\\x0d\\x{85}]");
            } else {
                oz_sb_put(out, p + i, 2);
            }
            i++;
            continue;
        }
        oz_sb_put(out, p + i, 1);
        if (p[i] == '[' && !in_class) {
            in_class = true;
            if (i + 1 < n && p[i + 1] == '^') oz_sb_put(out, p + ++i, 1);
            if (i + 1 < n && p[i + 1] == ']') oz_sb_put(out, p + ++i, 1); /* first in a class: itself */
        } else if (p[i] == ']') {
            in_class = false;
        }
    }
}

static oz_status compile_step(oz_pre_step *s, const char *file)
{
    const char *pattern = s->pattern;
    size_t bytes = s->pattern_bytes;
    if (s->kind == OZ_PRE_BYTES) {
        if (!s->use_regex) return OZ_OK;
        pattern = oz_pattern_gpt2, bytes = strlen(pattern);
    } else if (s->kind != OZ_PRE_SPLIT || s->literal) {
        return OZ_OK;
    }
    if (bytes > PATTERN_MAX)
        return oz_fail(OZ_ERR_RANGE, NULL, "%s: a Split pattern of %zu bytes, at most %d are read", file, bytes, PATTERN_MAX);
    oz_sb sb = {0};
    char *text = NULL;
    size_t text_bytes = 0;
    rewrite(&sb, pattern, bytes);
    OZ_TRY(oz_sb_end(&sb, &text, &text_bytes));
    oz_status status = OZ_OK;
    pcre2_compile_context *context = NULL;
    pcre2_general_context *general = pcre2_general_context_create(re_alloc, re_free, NULL);
    if (general) context = pcre2_compile_context_create(general);
    if (!context) {
        status = oz_fail(OZ_ERR_NOMEM, NULL, "%s: no memory to compile the Split pattern", file);
        goto done;
    }
    int code = 0;
    PCRE2_SIZE at = 0;
    s->code = pcre2_compile((PCRE2_SPTR)text, text_bytes, PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &code, &at, context);
    if (!s->code) {
        char why[160] = "";
        pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
        status = oz_fail(code == PCRE2_ERROR_HEAP_FAILED ? OZ_ERR_NOMEM : OZ_ERR_PARSE, NULL,
                         "%s: pre_tokenizer: the Split pattern \"%.*s\" does not compile: %s", file, (int)(bytes < 200 ? bytes : 200),
                         pattern, why);
        goto done;
    }
    s->jit = pcre2_jit_compile(s->code, PCRE2_JIT_COMPLETE) == 0; /* without it the interpreter does the same, slower */
done:
    pcre2_compile_context_free(context);
    pcre2_general_context_free(general);
    oz_free(text);
    return status;
}

oz_status oz_pre_compile(oz_pretokenizer *p, const char *file)
{
    for (int i = 0; i < p->n; i++) OZ_TRY(compile_step(&p->step[i], file));
    return OZ_OK;
}

void oz_pre_free(oz_pretokenizer *p)
{
    for (int i = 0; i < p->n; i++) {
        pcre2_code_free(p->step[i].code);
        p->step[i].code = NULL;
    }
}

bool oz_pre_equal(const oz_pretokenizer *a, const oz_pretokenizer *b)
{
    if (a->n != b->n) return false;
    for (int i = 0; i < a->n; i++) {
        const oz_pre_step *x = &a->step[i], *y = &b->step[i];
        if (x->kind != y->kind) return false;
        if (x->kind == OZ_PRE_DIGITS && x->individual != y->individual) return false;
        if (x->kind == OZ_PRE_BYTES && (x->use_regex != y->use_regex || x->prefix_space != y->prefix_space)) return false;
        if (x->kind == OZ_PRE_SPLIT && (x->literal != y->literal || x->invert != y->invert || x->behavior != y->behavior ||
                                        x->pattern_bytes != y->pattern_bytes || memcmp(x->pattern, y->pattern, x->pattern_bytes)))
            return false;
    }
    return true;
}

/* ---- running ---- */
oz_status oz_pre_begin(oz_pre_run *r, const oz_pretokenizer *p, oz_word_fn word, void *ctx)
{
    *r = (oz_pre_run){.pre = p, .word = word, .ctx = ctx};
    bool any = false, jit = false;
    for (int i = 0; i < p->n; i++) any |= p->step[i].code != NULL, jit |= p->step[i].jit;
    if (!any) return OZ_OK;
    pcre2_general_context *general = pcre2_general_context_create(re_alloc, re_free, NULL);
    if (general) {
        r->match = pcre2_match_data_create(1, general);
        r->match_context = pcre2_match_context_create(general);
        if (jit) r->jit_stack = pcre2_jit_stack_create(32 * 1024, JIT_STACK, general);
    }
    pcre2_general_context_free(general);
    if (!r->match || !r->match_context || (jit && !r->jit_stack)) {
        oz_pre_end(r);
        return oz_fail(OZ_ERR_NOMEM, NULL, "no memory to match a pre-tokenizer of %d steps", p->n);
    }
    pcre2_set_match_limit(r->match_context, MATCH_LIMIT);
    pcre2_set_heap_limit(r->match_context, HEAP_LIMIT_KIB);
    if (r->jit_stack) pcre2_jit_stack_assign(r->match_context, NULL, r->jit_stack);
    return OZ_OK;
}

void oz_pre_end(oz_pre_run *r)
{
    pcre2_match_data_free(r->match);
    pcre2_match_context_free(r->match_context);
    pcre2_jit_stack_free(r->jit_stack);
    oz_free(r->prefixed);
    *r = (oz_pre_run){0};
}

static oz_status from_step(oz_pre_run *, int step, const char *s, size_t n);

/* What a Split does with the stretches it is told of, in text order: `match` or the text between. */
typedef struct {
    oz_pre_run *run;
    const oz_pre_step *step;
    int next;
    size_t start, end; /* the stretch not yet passed on */
    bool have, was_match;
} splitter;

static oz_status flush(splitter *x, const char *s)
{
    if (!x->have) return OZ_OK;
    x->have = false;
    return from_step(x->run, x->next, s + x->start, x->end - x->start);
}

static oz_status stretch(splitter *x, const char *s, size_t start, size_t end, bool match)
{
    if (start == end) return OZ_OK;
    match ^= x->step->invert;
    bool join = false;
    switch (x->step->behavior) {
    case OZ_SPLIT_ISOLATED:
        return from_step(x->run, x->next, s + start, end - start);
    case OZ_SPLIT_REMOVED:
        return match ? OZ_OK : from_step(x->run, x->next, s + start, end - start);
    case OZ_SPLIT_PREVIOUS:
        join = match && !x->was_match;
        break;
    case OZ_SPLIT_NEXT:
        join = !match && x->was_match;
        break;
    case OZ_SPLIT_CONTIGUOUS:
        join = match == x->was_match;
        break;
    }
    if (join && x->have) {
        x->end = end;
    } else {
        OZ_TRY(flush(x, s));
        x->start = start, x->end = end, x->have = true;
    }
    x->was_match = match;
    return OZ_OK;
}

static oz_status split_regex(oz_pre_run *r, int step, const char *s, size_t n)
{
    const oz_pre_step *p = &r->pre->step[step];
    splitter x = {.run = r, .step = p, .next = step + 1};
    size_t at = 0, done = 0;
    while (at <= n) {
        int rc = p->jit ? pcre2_jit_match(p->code, (PCRE2_SPTR)s, n, at, PCRE2_NO_UTF_CHECK, r->match, r->match_context)
                        : pcre2_match(p->code, (PCRE2_SPTR)s, n, at, PCRE2_NO_UTF_CHECK, r->match, r->match_context);
        if (rc == PCRE2_ERROR_NOMATCH) break;
        if (rc < 0) {
            char why[160] = "";
            pcre2_get_error_message(rc, (PCRE2_UCHAR *)why, sizeof why);
            return oz_fail(rc == PCRE2_ERROR_NOMEMORY ? OZ_ERR_NOMEM : OZ_ERR_RANGE, "a pattern that backtracks this much cannot be used",
                           "pre_tokenizer pattern \"%.100s\" at byte %zu of a text of %zu: %s", p->pattern ? p->pattern : oz_pattern_gpt2,
                           at, n, why);
        }
        const PCRE2_SIZE *o = pcre2_get_ovector_pointer(r->match);
        size_t a = o[0], b = o[1];
        if (a > b || a < done) { /* \K and look-behind may report odd places */
            a = b = at;
        }
        if (a == b) { /* an empty match cuts nothing; go on one character further */
            if (at >= n) break;
            uint32_t c;
            int len = oz_utf8_decode(s + (b > at ? b : at), n - (b > at ? b : at), &c);
            at = (b > at ? b : at) + (size_t)(len ? len : 1);
            continue;
        }
        OZ_TRY(stretch(&x, s, done, a, false));
        OZ_TRY(stretch(&x, s, a, b, true));
        at = done = b;
    }
    OZ_TRY(stretch(&x, s, done, n, false));
    return flush(&x, s);
}

static oz_status split_literal(oz_pre_run *r, int step, const char *s, size_t n)
{
    const oz_pre_step *p = &r->pre->step[step];
    splitter x = {.run = r, .step = p, .next = step + 1};
    size_t done = 0, m = p->pattern_bytes;
    for (size_t i = 0; m && i + m <= n;) {
        const char *hit = memchr(s + i, p->pattern[0], n - m - i + 1);
        if (!hit) break;
        i = (size_t)(hit - s);
        if (memcmp(hit, p->pattern, m)) {
            i++;
            continue;
        }
        OZ_TRY(stretch(&x, s, done, i, false));
        OZ_TRY(stretch(&x, s, i, i + m, true));
        i = done = i + m;
    }
    OZ_TRY(stretch(&x, s, done, n, false));
    return flush(&x, s);
}

static oz_status split_digits(oz_pre_run *r, int step, const char *s, size_t n)
{
    const bool individual = r->pre->step[step].individual;
    size_t from = 0;
    bool digits = false; /* what s[from..i) is */
    for (size_t i = 0; i < n;) {
        uint32_t c = (uint8_t)s[i];
        size_t len = 1;
        bool number = c >= '0' && c <= '9';
        if (c >= 0x80) {
            len = (size_t)oz_utf8_decode(s + i, n - i, &c);
            if (len == 0) len = 1;
            number = oz_utf8_is_number(c);
        }
        if (i > from && (number != digits || (number && individual))) {
            OZ_TRY(from_step(r, step + 1, s + from, i - from));
            from = i;
        }
        digits = number;
        i += len;
    }
    return n > from ? from_step(r, step + 1, s + from, n - from) : OZ_OK;
}

static oz_status from_step(oz_pre_run *r, int step, const char *s, size_t n)
{
    if (n == 0) return OZ_OK;
    if (step == r->pre->n) return r->word(r->ctx, s, n);
    const oz_pre_step *p = &r->pre->step[step];
    switch (p->kind) {
    case OZ_PRE_DIGITS:
        return split_digits(r, step, s, n);
    case OZ_PRE_SPLIT:
        return p->literal ? split_literal(r, step, s, n) : split_regex(r, step, s, n);
    case OZ_PRE_BYTES:
        break;
    }
    if (p->prefix_space && s[0] != ' ') { /* only read as the first step, so this happens once a segment */
        if (r->prefixed_cap < n + 1) {
            char *grown = oz_realloc(r->prefixed, n + 1, 1);
            if (!grown) return OZ_ERR_NOMEM;
            r->prefixed = grown, r->prefixed_cap = n + 1;
        }
        r->prefixed[0] = ' ';
        memcpy(r->prefixed + 1, s, n);
        s = r->prefixed, n++;
    }
    return p->code ? split_regex(r, step, s, n) : from_step(r, step + 1, s, n);
}

oz_status oz_pre_words(oz_pre_run *r, const char *text, size_t bytes) { return from_step(r, 0, text, bytes); }

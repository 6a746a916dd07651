/* core/io/yaml.c: YAML into the tree, by libyaml's events.
 *
 * The subset: one document, block and flow style, scalars typed by the core schema of YAML 1.2 (so `on` and `no` are texts, as
 * in JSON-minded YAML, and 010 is ten).  Anchors, aliases and tags are refused: they make a small text stand for a large one.
 * Keys are scalars and unique.  Every node knows its line, which messages about recipes print. */
#include "core/io/io_internal.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

static bool is_one_of(const char *s, size_t n, const char *const *words)
{
    for (; *words; words++)
        if (strlen(*words) == n && !memcmp(*words, s, n)) return true;
    return false;
}

/* [-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?  ; *whole: no point and no exponent */
static bool is_number(const char *s, size_t n, bool *whole)
{
    size_t i = n && (s[0] == '-' || s[0] == '+'), before = 0, after = 0, digits = 0;
    *whole = true;
    for (; i < n && s[i] >= '0' && s[i] <= '9'; i++) before++;
    if (i < n && s[i] == '.') {
        *whole = false;
        for (i++; i < n && s[i] >= '0' && s[i] <= '9'; i++) after++;
    }
    if (before + after == 0) return false;
    if (i < n && (s[i] == 'e' || s[i] == 'E')) {
        *whole = false;
        i++;
        if (i < n && (s[i] == '-' || s[i] == '+')) i++;
        for (; i < n && s[i] >= '0' && s[i] <= '9'; i++) digits++;
        if (digits == 0) return false;
    }
    return i == n;
}

oz_node_kind oz_yaml_scalar(const char *s, size_t n, int64_t *integer, double *real)
{
    static const char *const null[] = {"", "~", "null", "Null", "NULL", NULL}, *const yes[] = {"true", "True", "TRUE", NULL},
                             *const no[] = {"false", "False", "FALSE", NULL}, *const nan[] = {".nan", ".NaN", ".NAN", NULL},
                             *const inf[] = {".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF", NULL},
                             *const minus_inf[] = {"-.inf", "-.Inf", "-.INF", NULL};
    *integer = 0;
    *real = 0;
    if (is_one_of(s, n, null)) return OZ_NODE_NULL;
    if (is_one_of(s, n, no)) return OZ_NODE_BOOL;
    if (is_one_of(s, n, yes)) return *integer = 1, OZ_NODE_BOOL;
    if (is_one_of(s, n, inf)) return *real = INFINITY, OZ_NODE_REAL;
    if (is_one_of(s, n, minus_inf)) return *real = -INFINITY, OZ_NODE_REAL;
    if (is_one_of(s, n, nan)) return *real = NAN, OZ_NODE_REAL;
    char copy[512];
    if (n >= sizeof copy) return OZ_NODE_TEXT; /* no number is spelled like that */
    memcpy(copy, s, n);
    copy[n] = 0;
    int base = n > 2 && s[0] == '0' && s[1] == 'x' ? 16 : n > 2 && s[0] == '0' && s[1] == 'o' ? 8 : 10;
    if (base != 10 && strspn(copy + 2, base == 16 ? "0123456789abcdefABCDEF" : "01234567") == n - 2) {
        errno = 0;
        *integer = strtoll(copy + 2, NULL, base);
        *real = (double)*integer;
        return errno ? OZ_NODE_TEXT : OZ_NODE_INT;
    }
    bool whole;
    if (!is_number(s, n, &whole)) return OZ_NODE_TEXT;
    if (whole) {
        errno = 0;
        *integer = strtoll(copy, NULL, 10);
        if (!errno) return *real = (double)*integer, OZ_NODE_INT;
        *integer = 0;
    }
    /* beyond double: kept as text, whoever wants a number will say so */
    const char *unsigned_part = copy[0] == '+' ? copy + 1 : copy;
    return oz_parse_f64(unsigned_part, -1.7976931348623157e308, 1.7976931348623157e308, real) ? OZ_NODE_REAL : OZ_NODE_TEXT;
}

/* ---- the event loop ---- */

typedef struct {
    oz_node *node;
    const char *key;
    int key_line;
    oz_pair *item;
    size_t room;
} frame; /* item: malloc'd while it grows */
typedef struct {
    frame stack[OZ_YAML_DEPTH_MAX];
    int depth;
    oz_node *root;
    oz_arena *arena;
    const char *file;
} builder;

static const char *keep(builder *b, const void *text, size_t n)
{
    char *p = oz_arena_alloc(b->arena, n + 1);
    if (!p) return NULL;
    memcpy(p, text, n);
    p[n] = 0;
    return p;
}

static oz_status attach(builder *b, oz_node *v)
{
    if (b->depth == 0) {
        b->root = v;
        return OZ_OK;
    }
    frame *f = &b->stack[b->depth - 1];
    if ((size_t)f->node->n == f->room) {
        size_t room = f->room ? f->room * 2 : 8;
        oz_pair *more = oz_realloc(f->item, room, sizeof *more);
        if (!more) return OZ_ERR_NOMEM;
        f->item = more;
        f->room = room;
    }
    f->item[f->node->n++] = (oz_pair){f->key, v};
    f->key = NULL;
    return OZ_OK;
}

static int by_key(const void *a, const void *b) { return strcmp((*(const oz_pair *const *)a)->key, (*(const oz_pair *const *)b)->key); }

static oz_status finish(builder *b)
{
    frame *f = &b->stack[b->depth - 1];
    oz_node *v = f->node;
    oz_status status = OZ_OK;
    if (!(v->item = oz_node_items(b->arena, v->n))) return OZ_ERR_NOMEM;
    if (v->n) memcpy(v->item, f->item, (size_t)v->n * sizeof *v->item);
    if (v->kind == OZ_NODE_MAP && v->n > 1) {
        const oz_pair **sorted = oz_alloc((size_t)v->n, sizeof *sorted);
        if (!sorted) return OZ_ERR_NOMEM;
        for (int i = 0; i < v->n; i++) sorted[i] = &v->item[i];
        qsort(sorted, (size_t)v->n, sizeof *sorted, by_key);
        for (int i = 1; i < v->n && !status; i++)
            if (!strcmp(sorted[i - 1]->key, sorted[i]->key)) {
                int a = sorted[i - 1]->value->line, c = sorted[i]->value->line;
                status = oz_fail(OZ_ERR_PARSE, NULL, "%s:%d: key \"%s\" was already set on line %d", b->file, a > c ? a : c, sorted[i]->key,
                                 a > c ? c : a);
            }
        oz_free(sorted);
    }
    oz_free(f->item);
    f->item = NULL;
    b->depth--;
    return status;
}

static oz_status refuse(builder *b, const yaml_event_t *e, const char *what, const void *name)
{
    return oz_fail(OZ_ERR_PARSE, "write the value out", "%s:%zu:%zu: %s \"%s\" is not allowed", b->file, e->start_mark.line + 1,
                   e->start_mark.column + 1, what, name ? (const char *)name : "");
}

static oz_status scalar(builder *b, const yaml_event_t *e)
{
    const char *s = (const char *)e->data.scalar.value;
    size_t n = e->data.scalar.length;
    int line = (int)e->start_mark.line + 1;
    frame *f = b->depth ? &b->stack[b->depth - 1] : NULL;
    if (f && f->node->kind == OZ_NODE_MAP && !f->key) {
        if (memchr(s, 0, n)) return oz_fail(OZ_ERR_PARSE, NULL, "%s:%d: key \"%s\" holds a NUL character", b->file, line, s);
        f->key_line = line;
        return (f->key = keep(b, s, n)) ? OZ_OK : OZ_ERR_NOMEM;
    }
    oz_node *v = oz_node_new(b->arena, OZ_NODE_TEXT);
    if (!v || !(v->text = keep(b, s, n))) return OZ_ERR_NOMEM;
    v->length = n;
    v->line = line;
    v->column = (int)e->start_mark.column + 1;
    v->quoted = e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    if (!v->quoted) v->kind = oz_yaml_scalar(s, n, &v->integer, &v->real);
    return attach(b, v);
}

static oz_status open_container(builder *b, const yaml_event_t *e, oz_node_kind kind)
{
    frame *f = b->depth ? &b->stack[b->depth - 1] : NULL;
    int line = (int)e->start_mark.line + 1;
    if (f && f->node->kind == OZ_NODE_MAP && !f->key)
        return oz_fail(OZ_ERR_PARSE, NULL, "%s:%d: a %s stands where a key is expected", b->file, line,
                       kind == OZ_NODE_MAP ? "map" : "list");
    if (b->depth == OZ_YAML_DEPTH_MAX)
        return oz_fail(OZ_ERR_PARSE, NULL, "%s:%d: lists and maps are nested deeper than %d", b->file, line, OZ_YAML_DEPTH_MAX);
    oz_node *v = oz_arena_zalloc(b->arena, sizeof *v);
    if (!v) return OZ_ERR_NOMEM;
    v->kind = kind;
    v->line = f && f->node->kind == OZ_NODE_MAP ? f->key_line : line;
    v->column = (int)e->start_mark.column + 1;
    OZ_TRY(attach(b, v));
    b->stack[b->depth++] = (frame){.node = v};
    return OZ_OK;
}

static oz_status take(builder *b, const yaml_event_t *e, int *documents)
{
    const char *why = "anchor";
    const yaml_char_t *anchor = NULL, *tag = NULL;
    switch (e->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (++*documents > 1)
            return oz_fail(OZ_ERR_PARSE, NULL, "%s:%zu: a second document begins, one is expected", b->file, e->start_mark.line + 1);
        return OZ_OK;
    case YAML_ALIAS_EVENT:
        why = "alias", anchor = e->data.alias.anchor;
        break;
    case YAML_SCALAR_EVENT:
        anchor = e->data.scalar.anchor, tag = e->data.scalar.tag;
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = e->data.sequence_start.anchor, tag = e->data.sequence_start.tag;
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = e->data.mapping_start.anchor, tag = e->data.mapping_start.tag;
        break;
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        return finish(b);
    default:
        return OZ_OK;
    }
    if (anchor) return refuse(b, e, why, anchor);
    if (tag) return refuse(b, e, "tag", tag);
    if (e->type == YAML_SCALAR_EVENT) return scalar(b, e);
    return open_container(b, e, e->type == YAML_MAPPING_START_EVENT ? OZ_NODE_MAP : OZ_NODE_LIST);
}

oz_status oz_yaml_parse(oz_node **out, const char *text, size_t bytes, const char *file, oz_arena *arena)
{
    *out = NULL;
    if (bytes > OZ_YAML_BYTES_MAX)
        return oz_fail(OZ_ERR_RANGE, NULL, "%s: %zu bytes of YAML, at most %u are read", file, bytes, OZ_YAML_BYTES_MAX);
    yaml_parser_t p;
    builder b = {.arena = arena, .file = file};
    oz_status status = OZ_OK;
    int documents = 0;
    if (!yaml_parser_initialize(&p)) return oz_fail(OZ_ERR_NOMEM, NULL, "%s: no memory to read %zu bytes of YAML", file, bytes);
    yaml_parser_set_encoding(&p, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&p, (const unsigned char *)text, bytes);
    for (bool more = true; more && !status;) {
        yaml_event_t e;
        if (!yaml_parser_parse(&p, &e)) {
            if (p.error == YAML_MEMORY_ERROR)
                status = oz_fail(OZ_ERR_NOMEM, NULL, "%s: no memory to read %zu bytes of YAML", file, bytes);
            else if (p.error == YAML_READER_ERROR)
                status = oz_fail(OZ_ERR_PARSE, NULL, "%s: not YAML: %s at byte %zu", file, p.problem ? p.problem : "unreadable text",
                                 p.problem_offset);
            else
                status =
                    oz_fail(OZ_ERR_PARSE, NULL, "%s:%zu:%zu: not YAML: %s%s%s", file, p.problem_mark.line + 1, p.problem_mark.column + 1,
                            p.problem ? p.problem : "unreadable text", p.context ? ", " : "", p.context ? p.context : "");
            break;
        }
        more = e.type != YAML_STREAM_END_EVENT;
        status = take(&b, &e, &documents);
        yaml_event_delete(&e);
    }
    yaml_parser_delete(&p);
    while (b.depth > 0) oz_free(b.stack[--b.depth].item);
    if (!status && !b.root && !(b.root = oz_node_new(arena, OZ_NODE_NULL))) status = OZ_ERR_NOMEM; /* empty or only comments */
    if (!status) *out = b.root;
    return status;
}

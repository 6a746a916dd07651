/* core/io/print.c: trees as JSON and as YAML text.
 *
 * Both print strings the same way (JSON's escapes are also YAML's), reals in the shortest spelling that reads back to the
 * same double and always with a point or an exponent, so that a real stays a real.  YAML: maps in block style, lists of
 * scalars in flow style on one line; a text is quoted when plain it would be read as something else. */
#include "core/io/io_internal.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void oz_grow_add(oz_grow *g, const void *p, size_t n)
{
    if (g->failed || n == 0) return;
    if (g->room - g->n < n) {
        size_t room = g->room ? g->room : 256;
        while (room - g->n < n && room <= SIZE_MAX / 4) room *= 2;
        char *q = room - g->n < n ? NULL : oz_realloc(g->p, room, 1);
        if (!q) {
            g->failed = true;
            return;
        }
        g->p = q;
        g->room = room;
    }
    memcpy(g->p + g->n, p, n);
    g->n += n;
}

void oz_grow_text(oz_grow *g, const char *text) { oz_grow_add(g, text, strlen(text)); }

void oz_grow_fill(oz_grow *g, char c, size_t n)
{
    for (; n; n--) oz_grow_add(g, &c, 1);
}

char *oz_grow_take(oz_grow *g)
{
    oz_grow_add(g, "", 1);
    char *p = g->p;
    if (g->failed) {
        oz_free(p);
        p = NULL;
    }
    *g = (oz_grow){0};
    return p;
}

/* Bytes of the UTF-8 character at p (n are left), 0 when malformed: overlong, surrogate, above 10FFFF, cut off. */
static size_t utf8_length(const unsigned char *p, size_t n, unsigned *code)
{
    static const unsigned smallest[5] = {0, 0, 0x80, 0x800, 0x10000};
    size_t k = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;
    if (k == 0 || k > n) return 0;
    unsigned c = k == 1 ? p[0] : p[0] & (0x7fu >> k);
    for (size_t i = 1; i < k; i++) {
        if ((p[i] & 0xc0) != 0x80) return 0;
        c = c << 6 | (p[i] & 0x3f);
    }
    if (c < smallest[k] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) return 0;
    *code = c;
    return k;
}

/* Malformed bytes become U+FFFD: both formats allow Unicode only. */
void oz_grow_json_string(oz_grow *g, const char *text, size_t n)
{
    oz_grow_text(g, "\"");
    for (size_t i = 0; i < n;) {
        unsigned c = 0;
        size_t k = utf8_length((const unsigned char *)text + i, n - i, &c);
        char code[16];
        const char *named = c == '"' ? "\\\"" : c == '\\' ? "\\\\" : c == '\n' ? "\\n" : c == '\t' ? "\\t" : c == '\r' ? "\\r" : NULL;
        if (k == 0)
            oz_grow_text(g, "\xef\xbf\xbd");
        else if (named)
            oz_grow_text(g, named);
        /* control characters, and those that YAML reads as line ends or refuses */
        else if (c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029 || c == 0xfeff || c == 0xfffe || c == 0xffff) {
            snprintf(code, sizeof code, "\\u%04x", c);
            oz_grow_text(g, code);
        } else
            oz_grow_add(g, text + i, k);
        i += k ? k : 1;
    }
    oz_grow_text(g, "\"");
}

void oz_grow_real(oz_grow *g, double x)
{
    char s[40];
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(s, sizeof s, "%.*g", digits, x);
        if (strtod(s, NULL) == x) break;
    }
    bool real = false;
    for (char *p = s; *p; p++) {
        if (!strchr("+-0123456789e", *p)) *p = '.'; /* the locale's decimal sign */
        real = real || *p == '.' || *p == 'e';
    }
    oz_grow_text(g, s);
    if (!real) oz_grow_text(g, ".0");
}

static void new_line(oz_grow *g, int spaces)
{
    oz_grow_text(g, "\n");
    oz_grow_fill(g, ' ', (size_t)spaces);
}

static void grow_int(oz_grow *g, int64_t i)
{
    char s[32];
    snprintf(s, sizeof s, "%lld", (long long)i);
    oz_grow_text(g, s);
}

static void json(oz_grow *g, const oz_node *v, int indent, int depth)
{
    switch (v->kind) {
    case OZ_NODE_NULL:
        oz_grow_text(g, "null");
        return;
    case OZ_NODE_BOOL:
        oz_grow_text(g, v->integer ? "true" : "false");
        return;
    case OZ_NODE_INT:
        grow_int(g, v->integer);
        return;
    case OZ_NODE_REAL:
        if (isfinite(v->real))
            oz_grow_real(g, v->real);
        else
            oz_grow_text(g, "null"); /* JSON has no such number */
        return;
    case OZ_NODE_TEXT:
        oz_grow_json_string(g, v->text, v->length);
        return;
    case OZ_NODE_LIST:
    case OZ_NODE_MAP:
        break;
    }
    bool map = v->kind == OZ_NODE_MAP, lines = indent > 0 && v->n > 0;
    oz_grow_text(g, map ? "{" : "[");
    for (int i = 0; i < v->n; i++) {
        if (i) oz_grow_text(g, lines ? "," : ", ");
        if (lines) new_line(g, indent * (depth + 1));
        if (map) {
            oz_grow_json_string(g, v->item[i].key, strlen(v->item[i].key));
            oz_grow_text(g, ": ");
        }
        json(g, v->item[i].value, indent, depth + 1);
    }
    if (lines) new_line(g, indent * depth);
    oz_grow_text(g, map ? "}" : "]");
}

char *oz_json_print(const oz_node *v, int indent)
{
    oz_grow g = {0};
    if (v)
        json(&g, v, indent, 0);
    else
        oz_grow_text(&g, "null");
    if (indent > 0) oz_grow_text(&g, "\n");
    return oz_grow_take(&g);
}

/* ---- YAML ---- */

static bool plain_is_text(const char *s, size_t n)
{
    int64_t i;
    double x;
    if (n == 0 || n > 200) return false;
    for (size_t k = 0; k < n; k++) {
        bool word = (s[k] >= 'a' && s[k] <= 'z') || (s[k] >= 'A' && s[k] <= 'Z') || (s[k] >= '0' && s[k] <= '9') || s[k] == '_';
        bool inner = k > 0 && memchr("./+@-(); ", s[k], 9);
        if (!word && !inner) return false;
    }
    if (s[n - 1] == ' ') return false;
    return oz_yaml_scalar(s, n, &i, &x) == OZ_NODE_TEXT;
}

static void yaml_text(oz_grow *g, const char *s, size_t n)
{
    if (plain_is_text(s, n))
        oz_grow_add(g, s, n);
    else
        oz_grow_json_string(g, s, n);
}

static bool leaf(const oz_node *v) { return (v->kind != OZ_NODE_LIST && v->kind != OZ_NODE_MAP) || v->n == 0; }

static bool flow(const oz_node *v)
{
    if (leaf(v)) return true;
    for (int i = 0; v->kind == OZ_NODE_LIST && i < v->n; i++)
        if (!leaf(v->item[i].value)) return false;
    return v->kind == OZ_NODE_LIST;
}

static void yaml_flow(oz_grow *g, const oz_node *v)
{
    if (v->kind == OZ_NODE_TEXT)
        yaml_text(g, v->text, v->length);
    else if (v->kind == OZ_NODE_REAL && !isfinite(v->real))
        oz_grow_text(g, isnan(v->real) ? ".nan" : v->real > 0 ? ".inf" : "-.inf");
    else if (v->kind != OZ_NODE_LIST || v->n == 0)
        json(g, v, 0, 0);
    else
        for (int i = 0; i < v->n; i++) {
            oz_grow_text(g, i ? ", " : "[");
            yaml_flow(g, v->item[i].value);
            if (i == v->n - 1) oz_grow_text(g, "]");
        }
}

/* The first line begins where the caller stands: at the margin, or behind "- ". */
static void yaml_block(oz_grow *g, const oz_node *v, int margin)
{
    for (int i = 0; i < v->n; i++) {
        const oz_node *x = v->item[i].value;
        if (i) new_line(g, margin);
        if (v->kind == OZ_NODE_LIST) {
            oz_grow_text(g, "- ");
            if (flow(x))
                yaml_flow(g, x);
            else
                yaml_block(g, x, margin + 2);
            continue;
        }
        const char *key = v->item[i].key;
        bool longer = strlen(key) > 100; /* a key that stands before ':' may have 1024 characters, escapes included */
        if (longer) oz_grow_text(g, "? ");
        yaml_text(g, key, strlen(key));
        if (longer) new_line(g, margin);
        oz_grow_text(g, flow(x) ? ": " : ":");
        if (flow(x))
            yaml_flow(g, x);
        else {
            new_line(g, margin + 2);
            yaml_block(g, x, margin + 2);
        }
    }
}

char *oz_yaml_print(const oz_node *v)
{
    oz_grow g = {0};
    if (!v)
        oz_grow_text(&g, "null");
    else if (flow(v))
        yaml_flow(&g, v);
    else
        yaml_block(&g, v, 0);
    oz_grow_text(&g, "\n");
    return oz_grow_take(&g);
}

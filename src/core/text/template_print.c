/* core/text/template_print.c: values as text: str() and repr() of Python, and JSON as Python's json.dumps(ensure_ascii=False). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "core/text/template.h"

enum { DEEP = 64 };

oz_status oz_t_take(t_run *r, oz_sb *b, t_value *out)
{
    bool failed = b->failed;
    char *s = failed ? NULL : oz_t_alloc(r, b->n);
    if (s && b->n) memcpy(s, b->s, b->n);
    *out = oz_t_text(s, b->n);
    oz_free(b->s);
    *b = (oz_sb){0};
    return s ? OZ_OK : OZ_ERR_NOMEM;
}

/* The shortest digits that read back as x, laid out as Python does: 0.1, 1e+16, 1e-05, 2.0. */
static void put_real(oz_sb *b, double x)
{
    char text[40], digits[24];
    if (!isfinite(x)) {
        oz_sb_text(b, isnan(x) ? "nan" : x < 0 ? "-inf" : "inf");
        return;
    }
    for (int p = 0; p <= 16; p++) {
        double back = 0;
        snprintf(text, sizeof text, "%.*e", p, x);
        back = strtod(text, NULL); /* the same locale wrote it */
        if (back <= x && back >= x) break;
    }
    int n = 0, exponent = atoi(strchr(text, 'e') + 1);
    for (const char *s = text; *s != 'e'; s++)
        if (*s >= '0' && *s <= '9') digits[n++] = *s;
    if (text[0] == '-') oz_sb_text(b, "-");
    if (exponent < -4 || exponent >= 16) {
        oz_sb_put(b, digits, 1);
        if (n > 1) oz_sb_text(b, "."), oz_sb_put(b, digits + 1, (size_t)n - 1);
        oz_sb_format(b, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
        return;
    }
    if (exponent < 0) {
        oz_sb_text(b, "0.");
        for (int i = -1; i > exponent; i--) oz_sb_text(b, "0");
        oz_sb_put(b, digits, (size_t)n);
        return;
    }
    for (int i = 0; i <= exponent; i++) oz_sb_put(b, i < n ? digits + i : "0", 1);
    oz_sb_text(b, ".");
    if (n > exponent + 1)
        oz_sb_put(b, digits + exponent + 1, (size_t)(n - exponent - 1));
    else
        oz_sb_text(b, "0");
}

static void put_repr(oz_sb *b, const char *s, size_t n)
{
    const char *quote = memchr(s, '\'', n) && !memchr(s, '"', n) ? "\"" : "'";
    oz_sb_text(b, quote);
    for (size_t i = 0; i < n; i++) {
        const char c = s[i];
        if (c == '\\' || c == quote[0])
            oz_sb_format(b, "\\%c", c);
        else if (c == '\n')
            oz_sb_text(b, "\\n");
        else if (c == '\r')
            oz_sb_text(b, "\\r");
        else if (c == '\t')
            oz_sb_text(b, "\\t");
        else if ((uint8_t)c < 0x20 || c == 0x7f)
            oz_sb_format(b, "\\x%02x", (unsigned)(uint8_t)c);
        else
            oz_sb_put(b, s + i, 1);
    }
    oz_sb_text(b, quote);
}

static oz_status print(t_run *r, oz_sb *b, const t_value *v, int depth)
{
    if (depth > DEEP) return oz_t_fail(r, OZ_ERR_RANGE, "a value nested deeper than %d is printed", DEEP);
    OZ_TRY(oz_t_step(r));
    if (b->n > OZ_T_OUTPUT_MAX) return oz_t_fail(r, OZ_ERR_RANGE, "a value of more than %d bytes is printed", OZ_T_OUTPUT_MAX);
    switch (v->kind) {
    case V_UNDEFINED:
        return OZ_OK;
    case V_NONE:
        return oz_sb_text(b, "None"), OZ_OK;
    case V_BOOL:
        return oz_sb_text(b, v->u.boolean ? "True" : "False"), OZ_OK;
    case V_INT:
        return oz_sb_format(b, "%lld", (long long)v->u.integer), OZ_OK;
    case V_REAL:
        return put_real(b, v->u.real), OZ_OK;
    case V_TEXT:
        if (depth == 0)
            oz_sb_put(b, v->u.text.s, v->u.text.n);
        else
            put_repr(b, v->u.text.s, v->u.text.n);
        return OZ_OK;
    case V_LIST:
        oz_sb_text(b, v->u.list->tuple ? "(" : "[");
        for (int i = 0; i < v->u.list->n; i++) {
            oz_sb_text(b, i ? ", " : "");
            OZ_TRY(print(r, b, &v->u.list->item[i], depth + 1));
        }
        oz_sb_text(b, v->u.list->tuple ? v->u.list->n == 1 ? ",)" : ")" : "]");
        return OZ_OK;
    case V_MAP:
        oz_sb_text(b, "{");
        for (int i = 0; i < v->u.map->n; i++) {
            oz_sb_text(b, i ? ", " : "");
            OZ_TRY(print(r, b, &v->u.map->key[i], depth + 1));
            oz_sb_text(b, ": ");
            OZ_TRY(print(r, b, &v->u.map->value[i], depth + 1));
        }
        oz_sb_text(b, "}");
        return OZ_OK;
    default:
        return oz_t_fail(r, OZ_ERR_UNSUPPORTED, "a value of kind %d cannot be printed", (int)v->kind);
    }
}

oz_status oz_t_print(t_run *r, oz_sb *b, const t_value *v) { return print(r, b, v, 0); }

oz_status oz_t_string(t_run *r, const t_value *v, t_value *out)
{
    if (v->kind == V_TEXT) return *out = *v, OZ_OK;
    oz_sb b = {0};
    oz_status s = print(r, &b, v, 0);
    if (!s) return oz_t_take(r, &b, out);
    oz_free(b.s);
    return s;
}

static void new_line(oz_sb *b, int indent, int level)
{
    if (indent < 0) return;
    oz_sb_text(b, "\n");
    for (int i = 0; i < indent * level; i++) oz_sb_text(b, " ");
}

oz_status oz_t_json(t_run *r, oz_sb *b, const t_value *v, int indent, int level)
{
    const char *comma = indent < 0 ? ", " : ",";
    if (level > DEEP) return oz_t_fail(r, OZ_ERR_RANGE, "a value nested deeper than %d is printed as JSON", DEEP);
    OZ_TRY(oz_t_step(r));
    if (b->n > OZ_T_OUTPUT_MAX) return oz_t_fail(r, OZ_ERR_RANGE, "JSON of more than %d bytes", OZ_T_OUTPUT_MAX);
    switch (v->kind) {
    case V_NONE:
        return oz_sb_text(b, "null"), OZ_OK;
    case V_BOOL:
        return oz_sb_text(b, v->u.boolean ? "true" : "false"), OZ_OK;
    case V_INT:
    case V_REAL:
        return print(r, b, v, 0);
    case V_TEXT:
        return oz_sb_json(b, v->u.text.s, v->u.text.n), OZ_OK;
    case V_LIST:
        oz_sb_text(b, "[");
        for (int i = 0; i < v->u.list->n; i++) {
            oz_sb_text(b, i ? comma : "");
            new_line(b, indent, level + 1);
            OZ_TRY(oz_t_json(r, b, &v->u.list->item[i], indent, level + 1));
        }
        if (v->u.list->n) new_line(b, indent, level);
        return oz_sb_text(b, "]"), OZ_OK;
    case V_MAP:
        oz_sb_text(b, "{");
        for (int i = 0; i < v->u.map->n; i++) {
            t_value key;
            oz_sb_text(b, i ? comma : "");
            new_line(b, indent, level + 1);
            OZ_TRY(oz_t_string(r, &v->u.map->key[i], &key));
            oz_sb_json(b, key.u.text.s, key.u.text.n);
            oz_sb_text(b, ": ");
            OZ_TRY(oz_t_json(r, b, &v->u.map->value[i], indent, level + 1));
        }
        if (v->u.map->n) new_line(b, indent, level);
        return oz_sb_text(b, "}"), OZ_OK;
    default:
        return oz_t_fail(r, OZ_ERR_UNSUPPORTED, "a value of kind %d is not JSON", (int)v->kind);
    }
}

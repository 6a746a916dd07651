/* core/text/template_filter.c: filters (value | name) and tests (value is name), a row or a case each. */
#include <math.h>
#include <stdlib.h>
#include "core/text/template.h"

static bool called(const char *name, size_t n, const char *s) { return strlen(s) == n && !memcmp(name, s, n); }

static oz_status length(t_run *r, const t_value *v, t_value *out)
{
    if (v->kind == V_TEXT)
        *out = oz_t_int(oz_t_characters(v->u.text.s, v->u.text.n));
    else if (v->kind == V_LIST)
        *out = oz_t_int(v->u.list->n);
    else if (v->kind == V_MAP)
        *out = oz_t_int(v->u.map->n);
    else if (v->kind == V_UNDEFINED)
        *out = oz_t_int(0);
    else
        return oz_t_fail(r, OZ_ERR_UNSUPPORTED, "length of a value of kind %d", (int)v->kind);
    return OZ_OK;
}

static oz_status to_json(t_run *r, const t_value *v, const t_args *a, t_value *out)
{
    const t_value *indent = oz_t_arg(a, a->nnamed ? a->n : 0, "indent");
    int spaces = indent && indent->kind == V_INT && indent->u.integer >= 0 && indent->u.integer <= 16 ? (int)indent->u.integer : -1;
    oz_sb b = {0};
    oz_status s = oz_t_json(r, &b, v, spaces, 0);
    if (!s) return oz_t_take(r, &b, out);
    oz_free(b.s);
    return s;
}

static oz_status to_number(t_run *r, const t_value *v, const t_args *a, bool whole, t_value *out)
{
    const t_value *other = oz_t_arg(a, 0, "default");
    double x = 0;
    *out = other ? *other : whole ? oz_t_int(0) : (t_value){.kind = V_REAL};
    if (v->kind == V_INT || v->kind == V_BOOL) {
        int64_t i = v->kind == V_INT ? v->u.integer : v->u.boolean;
        return *out = whole ? oz_t_int(i) : (t_value){.kind = V_REAL, .u.real = (double)i}, OZ_OK;
    }
    if (v->kind == V_REAL) {
        x = v->u.real;
    } else {
        char text[64];
        t_value t;
        if (v->kind != V_TEXT) return OZ_OK;
        OZ_TRY(oz_t_strip(r, v, NULL, true, true, &t));
        if (t.u.text.n == 0 || t.u.text.n >= sizeof text) return OZ_OK;
        memcpy(text, t.u.text.s, t.u.text.n);
        text[t.u.text.n] = 0;
        int64_t i;
        if (whole && oz_parse_i64(text, INT64_MIN, INT64_MAX, &i)) return *out = oz_t_int(i), OZ_OK;
        if (!oz_parse_f64(text, -1e308, 1e308, &x)) return OZ_OK;
    }
    if (!whole) return *out = (t_value){.kind = V_REAL, .u.real = x}, OZ_OK;
    if (!(fabs(x) < 9e18)) return oz_t_fail(r, OZ_ERR_RANGE, "%g as an integer", x);
    *out = oz_t_int((int64_t)x);
    return OZ_OK;
}

/* select, reject, selectattr, rejectattr: the items whose value (or attribute) passes a test, or is true when none is named */
static oz_status choose(t_run *r, const t_value *v, const t_args *a, bool attribute, bool keep, t_value *out)
{
    t_value list;
    OZ_TRY(oz_t_to_list(r, v, &list));
    OZ_TRY(oz_t_new_list(r, list.u.list->n, out));
    const int at = attribute ? 1 : 0;
    if (attribute && (a->n < 1 || a->value[0].kind != V_TEXT))
        return oz_t_fail(r, OZ_ERR_SHAPE, "selectattr needs the attribute's name, %d arguments given", a->n);
    if (a->n > at && a->value[at].kind != V_TEXT) return oz_t_fail(r, OZ_ERR_SHAPE, "argument %d must be a test's name", at + 1);
    t_args rest = {0};
    for (int i = at + 1; i < a->n; i++) rest.value[rest.n++] = a->value[i];
    for (int i = 0; i < list.u.list->n; i++) {
        t_value x = list.u.list->item[i];
        bool yes;
        OZ_TRY(oz_t_step(r));
        if (attribute) OZ_TRY(oz_t_attribute(r, &list.u.list->item[i], a->value[0].u.text.s, a->value[0].u.text.n, &x));
        yes = oz_t_true(&x);
        if (a->n > at) OZ_TRY(oz_t_test(r, a->value[at].u.text.s, a->value[at].u.text.n, &x, &rest, &yes));
        if (yes == keep) OZ_TRY(oz_t_push(r, out->u.list, list.u.list->item[i]));
    }
    return OZ_OK;
}

/* map(attribute="x", default=...) or map("filter", arguments) */
static oz_status map(t_run *r, const t_value *v, const t_args *a, t_value *out)
{
    t_value list;
    OZ_TRY(oz_t_to_list(r, v, &list));
    OZ_TRY(oz_t_new_list(r, list.u.list->n, out));
    const t_value *attribute = oz_t_arg(a, 8, "attribute"), *other = oz_t_arg(a, 8, "default"), *filter = a->n ? &a->value[0] : NULL;
    if (!attribute == !filter || (attribute ? attribute : filter)->kind != V_TEXT)
        return oz_t_fail(r, OZ_ERR_SHAPE, "map needs attribute=name or a filter's name, %d arguments given", a->n);
    t_args rest = {0};
    for (int i = 1; i < a->n; i++) rest.value[rest.n++] = a->value[i];
    if (r->depth >= OZ_T_DEPTH_MAX) return oz_t_fail(r, OZ_ERR_RANGE, "filters nest deeper than %d", OZ_T_DEPTH_MAX);
    for (int i = 0; i < list.u.list->n; i++) {
        t_value x;
        OZ_TRY(oz_t_step(r));
        if (attribute)
            OZ_TRY(oz_t_attribute(r, &list.u.list->item[i], attribute->u.text.s, attribute->u.text.n, &x));
        else
            OZ_TRY(oz_t_filter(r, filter->u.text.s, filter->u.text.n, &list.u.list->item[i], &rest, &x));
        if (attribute && other && x.kind == V_UNDEFINED) x = *other;
        OZ_TRY(oz_t_push(r, out->u.list, x));
    }
    return OZ_OK;
}

static oz_status dict_sort(t_run *r, const t_value *v, t_value *out)
{
    OZ_TRY(oz_t_items(r, v, 'i', out));
    t_value *item = out->u.list->item;
    for (int i = 1; i < out->u.list->n; i++)
        for (int j = i; j > 0; j--) {
            int order;
            OZ_TRY(oz_t_step(r));
            OZ_TRY(oz_t_compare(r, &item[j - 1].u.list->item[0], &item[j].u.list->item[0], &order));
            if (order <= 0) break;
            t_value x = item[j];
            item[j] = item[j - 1], item[j - 1] = x;
        }
    return OZ_OK;
}

static oz_status indent(t_run *r, const t_value *v, const t_args *a, t_value *out)
{
    t_value text;
    const t_value *width = oz_t_arg(a, 0, "width"), *first = oz_t_arg(a, 1, "first");
    OZ_TRY(oz_t_string(r, v, &text));
    int64_t n = width && width->kind == V_INT ? width->u.integer : 4;
    if (n < 0 || n > 64) return oz_t_fail(r, OZ_ERR_RANGE, "indent by %lld, 0 to 64 are taken", (long long)n);
    oz_sb b = {0};
    const char *s = text.u.text.s;
    for (size_t i = 0; i < text.u.text.n && b.n <= OZ_T_OUTPUT_MAX; i++) {
        bool start = i == 0 ? first && oz_t_true(first) : s[i - 1] == '\n' && s[i] != '\n';
        for (int64_t k = 0; start && k < n; k++) oz_sb_text(&b, " ");
        oz_sb_put(&b, s + i, 1);
    }
    return oz_t_take(r, &b, out);
}

oz_status oz_t_filter(t_run *r, const char *name, size_t n, const t_value *v, const t_args *a, t_value *out)
{
#define IS(s) called(name, n, s)
    t_value text, list;
    static const t_value last = {V_INT, {.integer = -1}}, first = {V_INT, {.integer = 0}};
    if (IS("default") || IS("d")) {
        const t_value *other = oz_t_arg(a, 0, "default_value"), *falsy = oz_t_arg(a, 1, "boolean");
        bool replace = v->kind == V_UNDEFINED || (falsy && oz_t_true(falsy) && !oz_t_true(v));
        return *out = !replace ? *v : other ? *other : oz_t_text("", 0), OZ_OK;
    }
    if (IS("trim")) {
        OZ_TRY(oz_t_string(r, v, &text));
        return oz_t_strip(r, &text, oz_t_arg(a, 0, "chars"), true, true, out);
    }
    if (IS("tojson")) return to_json(r, v, a, out);
    if (IS("length") || IS("count")) return length(r, v, out);
    if (IS("upper") || IS("lower") || IS("title") || IS("capitalize")) return oz_t_case(r, v, name[0], out);
    if (IS("string") || IS("safe")) return oz_t_string(r, v, out);
    if (IS("join")) {
        const t_value *attribute = oz_t_arg(a, 1, "attribute");
        list = *v;
        if (attribute) OZ_TRY(map(r, v, &(t_args){.nnamed = 1, .named = {{"attribute", 9, *attribute}}}, &list));
        return oz_t_join(r, &list, oz_t_arg(a, 0, "d"), out);
    }
    if (IS("replace")) {
        OZ_TRY(oz_t_string(r, v, &text));
        return oz_t_replace(r, &text, oz_t_arg(a, 0, "old"), oz_t_arg(a, 1, "new"), -1, out);
    }
    if (IS("first") || IS("last")) {
        OZ_TRY(oz_t_to_list(r, v, &list));
        return oz_t_item(r, &list, name[0] == 'f' ? &first : &last, out);
    }
    if (IS("list") || IS("reverse")) {
        t_value at[3] = {{.kind = V_UNDEFINED}, {.kind = V_UNDEFINED}, oz_t_int(name[0] == 'l' ? 1 : -1)};
        list = *v;
        if (name[0] == 'l') OZ_TRY(oz_t_to_list(r, v, &list));
        return oz_t_slice(r, &list, at, out);
    }
    if (IS("items")) return v->kind == V_UNDEFINED ? oz_t_new_list(r, 1, out) : oz_t_items(r, v, 'i', out);
    if (IS("dictsort")) return dict_sort(r, v, out);
    if (IS("int") || IS("float")) return to_number(r, v, a, name[0] == 'i', out);
    if (IS("abs")) {
        t_value zero = oz_t_int(0);
        int order;
        OZ_TRY(oz_t_compare(r, v, &zero, &order));
        return order < 0 ? oz_t_binary(r, OP_SUB, &zero, v, out) : (*out = *v, OZ_OK);
    }
    if (IS("select") || IS("reject")) return choose(r, v, a, false, name[0] == 's', out);
    if (IS("selectattr") || IS("rejectattr")) return choose(r, v, a, true, name[0] == 's', out);
    if (IS("map")) {
        r->depth += 4;
        oz_status s = map(r, v, a, out);
        r->depth -= 4;
        return s;
    }
    if (IS("indent")) return indent(r, v, a, out);
    return oz_t_fail(r, OZ_ERR_UNSUPPORTED, "filter \"%.*s\" is not supported", (int)(n < 40 ? n : 40), name);
}

oz_status oz_t_test(t_run *r, const char *name, size_t n, const t_value *v, const t_args *a, bool *yes)
{
    static const struct {
        const char *name;
        t_op op;
    } comparisons[] = {{"equalto", OP_EQ}, {"eq", OP_EQ}, {"==", OP_EQ}, {"sameas", OP_EQ}, {"ne", OP_NE},
                       {"!=", OP_NE},      {"lt", OP_LT}, {"<", OP_LT},  {"le", OP_LE},     {"<=", OP_LE},
                       {"gt", OP_GT},      {">", OP_GT},  {"ge", OP_GE}, {">=", OP_GE},     {"in", OP_IN}};
    const t_value *x = oz_t_arg(a, 0, "other");
    t_value result;
    const bool whole = v->kind == V_INT, text = v->kind == V_TEXT, set = v->kind == V_LIST || v->kind == V_MAP;
    if (IS("defined")) return *yes = v->kind != V_UNDEFINED, OZ_OK;
    if (IS("undefined")) return *yes = v->kind == V_UNDEFINED, OZ_OK;
    if (IS("none")) return *yes = v->kind == V_NONE, OZ_OK;
    if (IS("string")) return *yes = text, OZ_OK;
    if (IS("mapping")) return *yes = v->kind == V_MAP, OZ_OK;
    if (IS("iterable")) return *yes = text || set || v->kind == V_UNDEFINED, OZ_OK;
    if (IS("sequence")) return *yes = text || set, OZ_OK;
    if (IS("number")) return *yes = whole || v->kind == V_REAL || v->kind == V_BOOL, OZ_OK;
    if (IS("integer")) return *yes = whole, OZ_OK;
    if (IS("float")) return *yes = v->kind == V_REAL, OZ_OK;
    if (IS("boolean")) return *yes = v->kind == V_BOOL, OZ_OK;
    if (IS("true") || IS("false")) return *yes = v->kind == V_BOOL && v->u.boolean == (name[0] == 't'), OZ_OK;
    if (IS("callable")) return *yes = v->kind == V_MACRO || v->kind == V_FUNCTION, OZ_OK;
    if ((IS("odd") || IS("even")) && whole) return *yes = (v->u.integer % 2 != 0) == (name[0] == 'o'), OZ_OK;
    if (IS("divisibleby") && whole && x && x->kind == V_INT && x->u.integer > 0) return *yes = v->u.integer % x->u.integer == 0, OZ_OK;
    for (size_t i = 0; x && i < sizeof comparisons / sizeof comparisons[0]; i++)
        if (IS(comparisons[i].name)) {
            OZ_TRY(oz_t_binary(r, comparisons[i].op, v, x, &result));
            return *yes = oz_t_true(&result), OZ_OK;
        }
#undef IS
    return oz_t_fail(r, OZ_ERR_UNSUPPORTED, "test \"%.*s\" on a value of kind %d is not supported", (int)(n < 40 ? n : 40), name,
                     (int)v->kind);
}

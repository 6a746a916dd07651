/* core/text/template_value.c: values of a template: making, comparing, indexing and printing them as Python does. */
#include <math.h>
#include <stdio.h>
#include "core/text/template.h"

enum { DEEP = 64 }; /* lists inside lists, when comparing or printing */

t_value oz_t_text(const char *s, size_t n) { return (t_value){.kind = V_TEXT, .u.text = {s, n}}; }
t_value oz_t_int(int64_t i) { return (t_value){.kind = V_INT, .u.integer = i}; }
t_value oz_t_bool(bool b) { return (t_value){.kind = V_BOOL, .u.boolean = b}; }
bool oz_t_is(const t_value *v, const char *s)
{
    return v->kind == V_TEXT && v->u.text.n == strlen(s) && !memcmp(v->u.text.s, s, v->u.text.n);
}

bool oz_t_true(const t_value *v)
{
    switch (v->kind) {
    case V_UNDEFINED:
    case V_NONE:
        return false;
    case V_BOOL:
        return v->u.boolean;
    case V_INT:
        return v->u.integer != 0;
    case V_REAL:
        return v->u.real < 0 || v->u.real > 0;
    case V_TEXT:
        return v->u.text.n > 0;
    case V_LIST:
        return v->u.list->n > 0;
    case V_MAP:
        return v->u.map->is_namespace || v->u.map->n > 0;
    default:
        return true;
    }
}

static bool number(const t_value *v, double *x)
{
    if (v->kind == V_BOOL) return *x = v->u.boolean, true;
    if (v->kind == V_INT) return *x = (double)v->u.integer, true;
    if (v->kind == V_REAL) return *x = v->u.real, true;
    return false;
}

bool oz_t_equal(const t_value *a, const t_value *b, int depth)
{
    double x, y;
    if (depth > DEEP) return false;
    if (a->kind == V_INT && b->kind == V_INT) return a->u.integer == b->u.integer;
    if (number(a, &x) && number(b, &y)) return x <= y && x >= y;
    if (a->kind != b->kind) return false;
    switch (a->kind) {
    case V_TEXT:
        return a->u.text.n == b->u.text.n && !memcmp(a->u.text.s, b->u.text.s, a->u.text.n);
    case V_LIST:
        if (a->u.list->n != b->u.list->n) return false;
        for (int i = 0; i < a->u.list->n; i++)
            if (!oz_t_equal(&a->u.list->item[i], &b->u.list->item[i], depth + 1)) return false;
        return true;
    case V_MAP:
        if (a->u.map->n != b->u.map->n) return false;
        for (int i = 0; i < a->u.map->n; i++) {
            const t_value *v = oz_t_get(b->u.map, &a->u.map->key[i]);
            if (!v || !oz_t_equal(&a->u.map->value[i], v, depth + 1)) return false;
        }
        return true;
    case V_LOOP:
        return a->u.loop == b->u.loop;
    case V_MACRO:
        return a->u.macro == b->u.macro;
    case V_FUNCTION:
        return a->u.function == b->u.function;
    default:
        return true; /* none and none, undefined and undefined */
    }
}

oz_status oz_t_compare(t_run *r, const t_value *a, const t_value *b, int *order)
{
    double x, y;
    if (number(a, &x) && number(b, &y)) return *order = (x > y) - (x < y), OZ_OK;
    if (a->kind != V_TEXT || b->kind != V_TEXT)
        return oz_t_fail(r, OZ_ERR_UNSUPPORTED, "values of kinds %d and %d have no order", (int)a->kind, (int)b->kind);
    size_t n = a->u.text.n < b->u.text.n ? a->u.text.n : b->u.text.n;
    int c = n ? memcmp(a->u.text.s, b->u.text.s, n) : 0;
    *order = c ? c : (a->u.text.n > b->u.text.n) - (a->u.text.n < b->u.text.n);
    return OZ_OK;
}

/* ---- lists and maps ---- */
oz_status oz_t_new_list(t_run *r, int cap, t_value *out)
{
    t_list *l = oz_t_alloc(r, sizeof *l);
    t_value *item = l ? oz_t_alloc(r, (size_t)(cap > 0 ? cap : 1) * sizeof *item) : NULL;
    if (!item) return OZ_ERR_NOMEM;
    *l = (t_list){.cap = cap > 0 ? cap : 1, .item = item};
    *out = (t_value){.kind = V_LIST, .u.list = l};
    return OZ_OK;
}

oz_status oz_t_push(t_run *r, t_list *l, t_value v)
{
    if (l->n == l->cap) {
        t_value *item = oz_t_alloc(r, (size_t)l->cap * 2 * sizeof *item);
        if (!item) return OZ_ERR_NOMEM;
        memcpy(item, l->item, (size_t)l->n * sizeof *item);
        l->item = item, l->cap *= 2;
    }
    l->item[l->n++] = v;
    return OZ_OK;
}

oz_status oz_t_new_map(t_run *r, t_value *out)
{
    t_map *m = oz_t_alloc(r, sizeof *m);
    if (!m) return OZ_ERR_NOMEM;
    *out = (t_value){.kind = V_MAP, .u.map = m};
    return OZ_OK;
}

const t_value *oz_t_get(const t_map *m, const t_value *key)
{
    for (int i = 0; i < m->n; i++)
        if (oz_t_equal(&m->key[i], key, 0)) return &m->value[i];
    return NULL;
}

const t_value *oz_t_get_text(const t_map *m, const char *key, size_t n)
{
    t_value k = oz_t_text(key, n);
    return oz_t_get(m, &k);
}

oz_status oz_t_put(t_run *r, t_map *m, t_value key, t_value v)
{
    if (key.kind == V_LIST || key.kind == V_MAP || key.kind == V_UNDEFINED)
        return oz_t_fail(r, OZ_ERR_UNSUPPORTED, "a value of kind %d cannot be a key", (int)key.kind);
    t_value *old = (t_value *)(uintptr_t)oz_t_get(m, &key);
    if (old) return *old = v, OZ_OK;
    r->steps += m->n / 64; /* keys are searched one by one: a map of thousands costs accordingly */
    OZ_TRY(oz_t_step(r));
    if (m->n == m->cap) {
        int cap = m->cap ? m->cap * 2 : 8;
        t_value *k = oz_t_alloc(r, (size_t)cap * sizeof *k), *x = k ? oz_t_alloc(r, (size_t)cap * sizeof *x) : NULL;
        if (!x) return OZ_ERR_NOMEM;
        if (m->n) memcpy(k, m->key, (size_t)m->n * sizeof *k), memcpy(x, m->value, (size_t)m->n * sizeof *x);
        m->key = k, m->value = x, m->cap = cap;
    }
    m->key[m->n] = key, m->value[m->n++] = v;
    return OZ_OK;
}

oz_status oz_t_from_node(t_run *r, const oz_node *n, t_value *out)
{
    t_value v;
    *out = (t_value){.kind = V_NONE};
    switch (n->kind) {
    case OZ_NODE_NULL:
        return OZ_OK;
    case OZ_NODE_BOOL:
        return *out = oz_t_bool(n->integer != 0), OZ_OK;
    case OZ_NODE_INT:
        return *out = oz_t_int(n->integer), OZ_OK;
    case OZ_NODE_REAL:
        return *out = (t_value){.kind = V_REAL, .u.real = n->real}, OZ_OK;
    case OZ_NODE_TEXT:
        return *out = oz_t_text(n->text, n->length ? n->length : strlen(n->text)), OZ_OK;
    case OZ_NODE_LIST:
        OZ_TRY(oz_t_new_list(r, n->n, out));
        break;
    case OZ_NODE_MAP:
        OZ_TRY(oz_t_new_map(r, out));
        break;
    }
    if (++r->depth > DEEP) return oz_t_fail(r, OZ_ERR_RANGE, "values nest deeper than %d", DEEP);
    for (int i = 0; i < n->n; i++) {
        OZ_TRY(oz_t_from_node(r, n->item[i].value, &v));
        if (n->kind == OZ_NODE_LIST)
            OZ_TRY(oz_t_push(r, out->u.list, v));
        else
            OZ_TRY(oz_t_put(r, out->u.map, oz_t_text(n->item[i].key, strlen(n->item[i].key)), v));
    }
    r->depth--;
    return OZ_OK;
}

int64_t oz_t_characters(const char *s, size_t n)
{
    int64_t count = 0;
    for (size_t i = 0; i < n; i++) count += ((uint8_t)s[i] & 0xc0) != 0x80;
    return count;
}

/* Byte where character `at` begins. */
static size_t character(const char *s, size_t n, int64_t at)
{
    size_t i = 0;
    for (; i < n; i++)
        if (((uint8_t)s[i] & 0xc0) != 0x80 && at-- == 0) break;
    return i;
}

oz_status oz_t_to_list(t_run *r, const t_value *v, t_value *out)
{
    if (v->kind == V_LIST) return *out = *v, OZ_OK;
    OZ_TRY(oz_t_new_list(r, 8, out));
    if (v->kind == V_UNDEFINED) return OZ_OK;
    if (v->kind == V_MAP) {
        for (int i = 0; i < v->u.map->n; i++) OZ_TRY(oz_t_push(r, out->u.list, v->u.map->key[i]));
        return OZ_OK;
    }
    if (v->kind != V_TEXT) return oz_t_fail(r, OZ_ERR_UNSUPPORTED, "a value of kind %d cannot be gone over", (int)v->kind);
    for (size_t i = 0, j; i < v->u.text.n; i = j) {
        for (j = i + 1; j < v->u.text.n && ((uint8_t)v->u.text.s[j] & 0xc0) == 0x80;) j++;
        OZ_TRY(oz_t_push(r, out->u.list, oz_t_text(v->u.text.s + i, j - i)));
    }
    return OZ_OK;
}

/* ---- indexing ---- */
oz_status oz_t_item(t_run *r, const t_value *v, const t_value *index, t_value *out)
{
    *out = (t_value){.kind = V_UNDEFINED, .u.text = {"an item", 7}};
    if (index->kind == V_TEXT) out->u.text.s = index->u.text.s, out->u.text.n = index->u.text.n;
    if (v->kind == V_UNDEFINED)
        return oz_t_fail(r, OZ_ERR_KEY, "\"%.*s\" is not defined", (int)v->u.text.n, v->u.text.s ? v->u.text.s : "");
    if (v->kind == V_MAP) {
        const t_value *x = oz_t_get(v->u.map, index);
        if (x) *out = *x;
        return OZ_OK;
    }
    if (index->kind != V_INT)
        return v->kind == V_LOOP && index->kind == V_TEXT ? oz_t_attribute(r, v, index->u.text.s, index->u.text.n, out) : OZ_OK;
    int64_t i = index->u.integer, n = v->kind == V_LIST ? v->u.list->n : v->kind == V_TEXT ? oz_t_characters(v->u.text.s, v->u.text.n) : 0;
    if (i < 0) i += n;
    if (i < 0 || i >= n) return OZ_OK;
    if (v->kind == V_LIST) return *out = v->u.list->item[i], OZ_OK;
    size_t at = character(v->u.text.s, v->u.text.n, i), end = at + character(v->u.text.s + at, v->u.text.n - at, 1);
    *out = oz_t_text(v->u.text.s + at, end - at);
    return OZ_OK;
}

oz_status oz_t_slice(t_run *r, const t_value *v, const t_value at[3], t_value *out)
{
    int64_t part[3] = {0, 0, 1};
    bool given[3];
    for (int i = 0; i < 3; i++) {
        given[i] = at[i].kind == V_INT;
        if (given[i])
            part[i] = at[i].u.integer;
        else if (at[i].kind != V_UNDEFINED && at[i].kind != V_NONE)
            return oz_t_fail(r, OZ_ERR_UNSUPPORTED, "a slice's bound of kind %d is not an integer", (int)at[i].kind);
    }
    if (part[2] == 0) return oz_t_fail(r, OZ_ERR_RANGE, "a slice of step %d", 0);
    if (v->kind == V_UNDEFINED)
        return oz_t_fail(r, OZ_ERR_KEY, "\"%.*s\" is not defined", (int)v->u.text.n, v->u.text.s ? v->u.text.s : "");
    t_value list;
    OZ_TRY(oz_t_to_list(r, v, &list));
    const int64_t n = list.u.list->n, low = part[2] > 0 ? 0 : -1, high = part[2] > 0 ? n : n - 1;
    for (int i = 0; i < 2; i++) {
        if (!given[i])
            part[i] = (i == 0) == (part[2] > 0) ? low : high;
        else if (part[i] < 0)
            part[i] = part[i] < low - n ? low : part[i] + n;
        part[i] = part[i] < low ? low : part[i] > high ? high : part[i];
    }
    const int64_t step = part[2] > n ? n + 1 : part[2] < -n ? -n - 1 : part[2];
    t_value made;
    oz_sb b = {0};
    OZ_TRY(oz_t_new_list(r, 8, &made));
    for (int64_t i = part[0]; step > 0 ? i < part[1] : i > part[1]; i += step) {
        const t_value *x = &list.u.list->item[i];
        if (v->kind == V_TEXT)
            oz_sb_put(&b, x->u.text.s, x->u.text.n);
        else
            OZ_TRY(oz_t_push(r, made.u.list, *x));
    }
    if (v->kind == V_TEXT) return oz_t_take(r, &b, out);
    *out = made;
    return OZ_OK;
}

oz_status oz_t_attribute(t_run *r, const t_value *v, const char *name, size_t n, t_value *out)
{
    static const char *const names[] = {"index",     "index0",   "first",    "last",  "length", "revindex",
                                        "revindex0", "previtem", "nextitem", "depth", "depth0"};
    t_value key = oz_t_text(name, n);
    if (v->kind != V_LOOP)
        return v->kind == V_LIST || v->kind == V_TEXT ? (*out = (t_value){.kind = V_UNDEFINED, .u.text = {name, n}}, OZ_OK)
                                                      : oz_t_item(r, v, &key, out);
    const t_loop *l = v->u.loop;
    int which = 0;
    while (which < 11 && !oz_t_is(&key, names[which])) which++;
    *out = (t_value){.kind = V_UNDEFINED, .u.text = {name, n}};
    switch (which) {
    case 0:
        *out = oz_t_int(l->i + 1);
        break;
    case 1:
        *out = oz_t_int(l->i);
        break;
    case 2:
        *out = oz_t_bool(l->i == 0);
        break;
    case 3:
        *out = oz_t_bool(l->i + 1 == l->list->n);
        break;
    case 4:
        *out = oz_t_int(l->list->n);
        break;
    case 5:
        *out = oz_t_int(l->list->n - l->i);
        break;
    case 6:
        *out = oz_t_int(l->list->n - l->i - 1);
        break;
    case 7:
        if (l->i > 0) *out = l->list->item[l->i - 1];
        break;
    case 8:
        if (l->i + 1 < l->list->n) *out = l->list->item[l->i + 1];
        break;
    case 9:
        *out = oz_t_int(l->depth);
        break;
    case 10:
        *out = oz_t_int(l->depth - 1);
        break;
    default:
        return oz_t_fail(r, OZ_ERR_KEY, "loop.%.*s is not known", (int)n, name);
    }
    return OZ_OK;
}

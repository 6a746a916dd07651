/* core/text/template_method.c: what templates call: methods of texts, maps and loops, and the global functions. */
#include <utf8proc.h>
#include "core/text/template.h"

static bool called(const char *name, size_t n, const char *s) { return strlen(s) == n && !memcmp(name, s, n); }

const t_value *oz_t_arg(const t_args *a, int place, const char *name)
{
    if (place < a->n) return &a->value[place];
    for (int i = 0; i < a->nnamed; i++)
        if (called(a->named[i].name, a->named[i].n, name)) return &a->named[i].value;
    return NULL;
}

static oz_status need_text(t_run *r, const t_value *v, const char *what)
{
    if (v && v->kind == V_TEXT) return OZ_OK;
    if (v && v->kind == V_UNDEFINED)
        return oz_t_fail(r, OZ_ERR_KEY, "%s: \"%.*s\" is not defined", what, (int)v->u.text.n, v->u.text.s ? v->u.text.s : "");
    return oz_t_fail(r, OZ_ERR_UNSUPPORTED, "%s needs a text, found a value of kind %d", what, v ? (int)v->kind : -1);
}

oz_status oz_t_strip(t_run *r, const t_value *v, const t_value *chars, bool left, bool right, t_value *out)
{
    OZ_TRY(need_text(r, v, "strip"));
    if (chars && chars->kind == V_NONE) chars = NULL;
    if (chars) OZ_TRY(need_text(r, chars, "strip"));
    const char *s = v->u.text.s;
    size_t a = 0, b = v->u.text.n;
    for (int side = 0; side < 2; side++) {
        if (!(side ? right : left)) continue;
        while (a < b) {
            uint32_t c, d;
            size_t at = side ? oz_utf8_before(s, b) : a;
            if (at < a) at = a;
            int len = oz_utf8_decode(s + at, b - at, &c);
            bool hit = false;
            if (len == 0) break;
            if (!chars) hit = oz_utf8_is_space(c) || (c >= 0x1c && c <= 0x1f);
            for (size_t i = 0; chars && i < chars->u.text.n && !hit;) {
                int k = oz_utf8_decode(chars->u.text.s + i, chars->u.text.n - i, &d);
                hit = k && c == d;
                i += (size_t)(k ? k : 1);
            }
            if (!hit) break;
            if (side)
                b = at;
            else
                a += (size_t)len;
        }
    }
    *out = oz_t_text(s + a, b - a);
    return OZ_OK;
}

oz_status oz_t_case(t_run *r, const t_value *v, int how, t_value *out)
{
    t_value text;
    OZ_TRY(oz_t_string(r, v, &text));
    oz_sb b = {0};
    bool start = true;
    for (size_t i = 0; i < text.u.text.n;) {
        uint32_t c;
        char to[4];
        int len = oz_utf8_decode(text.u.text.s + i, text.u.text.n - i, &c);
        if (len == 0) {
            oz_sb_put(&b, text.u.text.s + i++, 1);
            continue;
        }
        bool up = how == 'u' || (how != 'l' && start);
        utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
        start = how == 't' && !(k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO);
        utf8proc_int32_t d = up ? utf8proc_toupper((utf8proc_int32_t)c) : utf8proc_tolower((utf8proc_int32_t)c);
        oz_sb_put(&b, to, (size_t)oz_utf8_encode((uint32_t)d, to));
        i += (size_t)len;
    }
    return oz_t_take(r, &b, out);
}

static const char *find(const char *s, size_t n, const char *x, size_t m)
{
    for (size_t i = 0; m && i + m <= n; i++) {
        const char *hit = memchr(s + i, x[0], n - m - i + 1);
        if (!hit) return NULL;
        if (!memcmp(hit, x, m)) return hit;
        i = (size_t)(hit - s);
    }
    return NULL;
}

oz_status oz_t_replace(t_run *r, const t_value *v, const t_value *from, const t_value *to, int64_t count, t_value *out)
{
    OZ_TRY(need_text(r, v, "replace"));
    OZ_TRY(need_text(r, from, "replace"));
    OZ_TRY(need_text(r, to, "replace"));
    if (from->u.text.n == 0) return oz_t_fail(r, OZ_ERR_UNSUPPORTED, "replace of an empty text by \"%.20s\"", to->u.text.n ? "..." : "");
    oz_sb b = {0};
    const char *s = v->u.text.s, *end = s + v->u.text.n, *hit;
    while (count != 0 && (hit = find(s, (size_t)(end - s), from->u.text.s, from->u.text.n)) && b.n <= OZ_T_OUTPUT_MAX) {
        oz_sb_put(&b, s, (size_t)(hit - s));
        oz_sb_put(&b, to->u.text.s, to->u.text.n);
        s = hit + from->u.text.n;
        count--;
    }
    oz_sb_put(&b, s, (size_t)(end - s));
    return oz_t_take(r, &b, out);
}

oz_status oz_t_join(t_run *r, const t_value *list, const t_value *between, t_value *out)
{
    t_value items;
    OZ_TRY(oz_t_to_list(r, list, &items));
    if (between) OZ_TRY(need_text(r, between, "join"));
    oz_sb b = {0};
    oz_status s = OZ_OK;
    for (int i = 0; i < items.u.list->n && !s; i++) {
        if (i && between) oz_sb_put(&b, between->u.text.s, between->u.text.n);
        s = oz_t_print(r, &b, &items.u.list->item[i]);
    }
    if (!s) return oz_t_take(r, &b, out);
    oz_free(b.s);
    return s;
}

oz_status oz_t_items(t_run *r, const t_value *v, int what, t_value *out)
{
    if (v->kind != V_MAP)
        return oz_t_fail(r, OZ_ERR_UNSUPPORTED, "items, keys or values of a value of kind %d, expected a map", (int)v->kind);
    OZ_TRY(oz_t_new_list(r, v->u.map->n, out));
    for (int i = 0; i < v->u.map->n; i++) {
        t_value pair = what == 'k' ? v->u.map->key[i] : v->u.map->value[i];
        if (what == 'i') {
            OZ_TRY(oz_t_new_list(r, 2, &pair));
            pair.u.list->tuple = true;
            OZ_TRY(oz_t_push(r, pair.u.list, v->u.map->key[i]));
            OZ_TRY(oz_t_push(r, pair.u.list, v->u.map->value[i]));
        }
        OZ_TRY(oz_t_push(r, out->u.list, pair));
    }
    return OZ_OK;
}

static oz_status split(t_run *r, const t_value *v, const t_value *by, int64_t max, t_value *out)
{
    const char *s = v->u.text.s;
    size_t n = v->u.text.n, from = 0;
    OZ_TRY(oz_t_new_list(r, 4, out));
    if (!by || by->kind == V_NONE) { /* at runs of white space */
        for (size_t i = 0; i < n;) {
            while (i < n && oz_utf8_is_space((uint8_t)s[i])) i++;
            if (i == n) break;
            from = i;
            if (max-- == 0) i = n;
            while (i < n && !((uint8_t)s[i] < 0x80 && oz_utf8_is_space((uint8_t)s[i]))) i++;
            OZ_TRY(oz_t_push(r, out->u.list, oz_t_text(s + from, i - from)));
        }
        return OZ_OK;
    }
    OZ_TRY(need_text(r, by, "split"));
    if (by->u.text.n == 0) return oz_t_fail(r, OZ_ERR_RANGE, "split by a text of %d bytes", 0);
    const char *hit;
    while (max-- != 0 && (hit = find(s + from, n - from, by->u.text.s, by->u.text.n))) {
        OZ_TRY(oz_t_push(r, out->u.list, oz_t_text(s + from, (size_t)(hit - s) - from)));
        from = (size_t)(hit - s) + by->u.text.n;
    }
    return oz_t_push(r, out->u.list, oz_t_text(s + from, n - from));
}

static bool begins(const t_value *v, const t_value *x, bool end)
{
    if (x->kind != V_TEXT || x->u.text.n > v->u.text.n) return false;
    return !memcmp(v->u.text.s + (end ? v->u.text.n - x->u.text.n : 0), x->u.text.s, x->u.text.n);
}

static int64_t whole(const t_value *v, int64_t otherwise) { return v && v->kind == V_INT ? v->u.integer : otherwise; }

static oz_status text_method(t_run *r, const t_value *v, const char *name, size_t n, const t_args *a, t_value *out)
{
    const t_value *x = oz_t_arg(a, 0, "chars");
    if (called(name, n, "strip")) return oz_t_strip(r, v, x, true, true, out);
    if (called(name, n, "lstrip")) return oz_t_strip(r, v, x, true, false, out);
    if (called(name, n, "rstrip")) return oz_t_strip(r, v, x, false, true, out);
    if (called(name, n, "upper")) return oz_t_case(r, v, 'u', out);
    if (called(name, n, "lower")) return oz_t_case(r, v, 'l', out);
    if (called(name, n, "title")) return oz_t_case(r, v, 't', out);
    if (called(name, n, "capitalize")) return oz_t_case(r, v, 'c', out);
    if (called(name, n, "split")) return split(r, v, oz_t_arg(a, 0, "sep"), whole(oz_t_arg(a, 1, "maxsplit"), -1), out);
    if (called(name, n, "replace"))
        return oz_t_replace(r, v, oz_t_arg(a, 0, "old"), oz_t_arg(a, 1, "new"), whole(oz_t_arg(a, 2, "count"), -1), out);
    if (called(name, n, "startswith") || called(name, n, "endswith")) {
        bool end = name[0] == 'e', yes = false;
        if (!x || (x->kind != V_TEXT && x->kind != V_LIST)) return need_text(r, x, end ? "endswith" : "startswith");
        for (int i = 0; x->kind == V_LIST && i < x->u.list->n; i++) yes |= begins(v, &x->u.list->item[i], end);
        return *out = oz_t_bool(yes || begins(v, x, end)), OZ_OK;
    }
    if (called(name, n, "join")) return x ? oz_t_join(r, x, v, out) : need_text(r, x, "join");
    if (called(name, n, "find")) {
        OZ_TRY(need_text(r, x, "find"));
        const char *hit = x->u.text.n ? find(v->u.text.s, v->u.text.n, x->u.text.s, x->u.text.n) : v->u.text.s;
        return *out = oz_t_int(hit ? oz_t_characters(v->u.text.s, (size_t)(hit - v->u.text.s)) : -1), OZ_OK;
    }
    return oz_t_fail(r, OZ_ERR_UNSUPPORTED, "texts have no method \"%.*s\" here", (int)(n < 40 ? n : 40), name);
}

oz_status oz_t_method(t_run *r, const t_value *v, const char *name, size_t n, const t_args *a, t_value *out)
{
    if (v->kind == V_TEXT) return text_method(r, v, name, n, a, out);
    if (v->kind == V_MAP) {
        if (called(name, n, "items") || called(name, n, "keys") || called(name, n, "values")) return oz_t_items(r, v, name[0], out);
        if (called(name, n, "get")) {
            const t_value *key = oz_t_arg(a, 0, "key"), *other = oz_t_arg(a, 1, "default"), *hit = key ? oz_t_get(v->u.map, key) : NULL;
            return *out = hit ? *hit : other ? *other : (t_value){.kind = V_NONE}, OZ_OK;
        }
    }
    if (v->kind == V_LOOP && called(name, n, "cycle") && a->n > 0) return *out = a->value[v->u.loop->i % a->n], OZ_OK;
    if (v->kind == V_UNDEFINED)
        return oz_t_fail(r, OZ_ERR_KEY, "\"%.*s\" is not defined, and .%.*s() is asked of it", (int)v->u.text.n,
                         v->u.text.s ? v->u.text.s : "", (int)(n < 40 ? n : 40), name);
    return oz_t_fail(r, OZ_ERR_UNSUPPORTED, "a value of kind %d has no method \"%.*s\" here", (int)v->kind, (int)(n < 40 ? n : 40), name);
}

/* ---- global functions ---- */
enum { F_RAISE, F_NAMESPACE, F_DICT, F_RANGE, FUNCTIONS };
static const char *const functions[] = {"raise_exception", "namespace", "dict", "range"};

int oz_t_function_named(const char *name, size_t n)
{
    for (int i = 0; i < FUNCTIONS; i++)
        if (called(name, n, functions[i])) return i;
    return -1;
}

bool oz_t_makes_map(int f) { return f == F_NAMESPACE || f == F_DICT; }

static oz_status range(t_run *r, const t_args *a, t_value *out)
{
    int64_t from = a->n > 1 ? whole(&a->value[0], 0) : 0, to = a->n ? whole(&a->value[a->n > 1], 0) : 0,
            step = a->n > 2 ? whole(&a->value[2], 1) : 1;
    const int64_t far = 100000;
    if (step == 0 || from < -far || from > far || to < -far || to > far || step > far || step < -far)
        return oz_t_fail(r, OZ_ERR_RANGE, "range(%lld, %lld, %lld): bounds within %lld and a step that is not 0 are taken", (long long)from,
                         (long long)to, (long long)step, (long long)far);
    OZ_TRY(oz_t_new_list(r, 8, out));
    for (; step > 0 ? from < to : from > to; from += step) OZ_TRY(oz_t_push(r, out->u.list, oz_t_int(from)));
    return OZ_OK;
}

oz_status oz_t_function(t_run *r, int function, const t_args *a, t_value *out)
{
    const t_value *x = oz_t_arg(a, 0, "message");
    t_value text;
    switch (function) {
    case F_RAISE:
        OZ_TRY(oz_t_string(r, x ? x : &(t_value){.kind = V_NONE}, &text));
        return oz_t_fail(r, OZ_ERR_POLICY, "the model's template refuses these messages: %.*s",
                         (int)(text.u.text.n < 200 ? text.u.text.n : 200), text.u.text.s);
    case F_RANGE:
        return range(r, a, out);
    default:
        OZ_TRY(oz_t_new_map(r, out));
        out->u.map->is_namespace = function == F_NAMESPACE;
        for (int i = 0; x && x->kind == V_MAP && i < x->u.map->n; i++)
            OZ_TRY(oz_t_put(r, out->u.map, x->u.map->key[i], x->u.map->value[i]));
        return OZ_OK;
    }
}

/* core/text/template_ops.c: the operators between two values, with Python's meaning; integers that overflow are an error. */
#include <math.h>
#include "core/text/template.h"

static bool integer(const t_value *v, int64_t *i)
{
    if (v->kind == V_BOOL) return *i = v->u.boolean, true;
    if (v->kind == V_INT) return *i = v->u.integer, true;
    return false;
}
static bool real(const t_value *v, double *x)
{
    int64_t i;
    if (v->kind == V_REAL) return *x = v->u.real, true;
    if (integer(v, &i)) return *x = (double)i, true;
    return false;
}

static bool multiply(int64_t a, int64_t b, int64_t *out)
{
    if (a == 0 || b == 0) return *out = 0, true;
    const double size = fabs((double)a) * fabs((double)b);
    return size < 9.0e18 ? (*out = a * b, true) : false;
}

static oz_status on_integers(t_run *r, t_op op, int64_t a, int64_t b, t_value *out)
{
    int64_t x = 0;
    bool ok = true;
    switch (op) {
    case OP_ADD:
        ok = b >= 0 ? a <= INT64_MAX - b : a >= INT64_MIN - b;
        x = ok ? a + b : 0;
        break;
    case OP_SUB:
        ok = b >= 0 ? a >= INT64_MIN + b : a <= INT64_MAX + b;
        x = ok ? a - b : 0;
        break;
    case OP_MUL:
        ok = multiply(a, b, &x);
        break;
    case OP_FLOOR:
    case OP_MOD:
        if (b == 0) return oz_t_fail(r, OZ_ERR_RANGE, "%lld is divided by zero", (long long)a);
        if (b == -1) { /* INT64_MIN / -1 does not exist */
            ok = a != INT64_MIN;
            x = op == OP_MOD ? 0 : ok ? -a : 0;
            break;
        }
        x = op == OP_FLOOR ? a / b - (a % b != 0 && (a < 0) != (b < 0)) : (a % b + b) % b;
        break;
    default: /* OP_POW, b >= 0 */
        for (x = 1; b > 0 && ok; b--) {
            ok = multiply(x, a, &x) && b < 4096;
            if (x == 0 || x == 1) break;
        }
    }
    if (!ok) return oz_t_fail(r, OZ_ERR_RANGE, "an integer result beyond 64 bits (operands %lld, %lld)", (long long)a, (long long)b);
    *out = oz_t_int(x);
    return OZ_OK;
}

static oz_status on_reals(t_run *r, t_op op, double a, double b, t_value *out)
{
    double x;
    if ((op == OP_DIV || op == OP_FLOOR || op == OP_MOD) && !(b < 0 || b > 0))
        return oz_t_fail(r, OZ_ERR_RANGE, "%g is divided by zero", a);
    switch (op) {
    case OP_ADD:
        x = a + b;
        break;
    case OP_SUB:
        x = a - b;
        break;
    case OP_MUL:
        x = a * b;
        break;
    case OP_DIV:
        x = a / b;
        break;
    case OP_FLOOR:
        x = floor(a / b);
        break;
    case OP_MOD:
        x = a - b * floor(a / b);
        break;
    default:
        x = pow(a, b);
    }
    *out = (t_value){.kind = V_REAL, .u.real = x};
    return OZ_OK;
}

static oz_status contains(t_run *r, const t_value *list, const t_value *x, bool *yes)
{
    *yes = false;
    if (list->kind == V_TEXT && x->kind == V_TEXT) {
        const size_t n = list->u.text.n, m = x->u.text.n;
        *yes = m == 0;
        for (size_t i = 0; i + m <= n && !*yes; i++) *yes = !memcmp(list->u.text.s + i, x->u.text.s, m);
        return OZ_OK;
    }
    if (list->kind == V_MAP) return *yes = oz_t_get(list->u.map, x) != NULL, OZ_OK;
    if (list->kind == V_UNDEFINED) return OZ_OK;
    if (list->kind != V_LIST) return oz_t_fail(r, OZ_ERR_UNSUPPORTED, "\"in\" a value of kind %d", (int)list->kind);
    for (int i = 0; i < list->u.list->n && !*yes; i++) *yes = oz_t_equal(&list->u.list->item[i], x, 0);
    return OZ_OK;
}

static oz_status repeat(t_run *r, const t_value *text, int64_t times, t_value *out)
{
    oz_sb b = {0};
    if (times > 0 && text->u.text.n && times > OZ_T_OUTPUT_MAX / (int64_t)text->u.text.n)
        return oz_t_fail(r, OZ_ERR_RANGE, "a text of more than %d bytes", OZ_T_OUTPUT_MAX);
    for (int64_t i = 0; i < times && text->u.text.n; i++) oz_sb_put(&b, text->u.text.s, text->u.text.n);
    return oz_t_take(r, &b, out);
}

static oz_status concatenate(t_run *r, const t_value *a, const t_value *b, t_value *out)
{
    const size_t n = a->u.text.n + b->u.text.n;
    char *s = oz_t_alloc(r, n);
    if (!s) return OZ_ERR_NOMEM;
    if (a->u.text.n) memcpy(s, a->u.text.s, a->u.text.n);
    if (b->u.text.n) memcpy(s + a->u.text.n, b->u.text.s, b->u.text.n);
    *out = oz_t_text(s, n);
    return OZ_OK;
}

oz_status oz_t_binary(t_run *r, t_op op, const t_value *a, const t_value *b, t_value *out)
{
    int64_t i, j;
    double x, y;
    int order = 0;
    bool yes;
    t_value s, t;
    switch (op) {
    case OP_EQ:
    case OP_NE:
        return *out = oz_t_bool(oz_t_equal(a, b, 0) == (op == OP_EQ)), OZ_OK;
    case OP_LT:
        OZ_TRY(oz_t_compare(r, a, b, &order));
        return *out = oz_t_bool(order < 0), OZ_OK;
    case OP_LE:
        OZ_TRY(oz_t_compare(r, a, b, &order));
        return *out = oz_t_bool(order <= 0), OZ_OK;
    case OP_GT:
        OZ_TRY(oz_t_compare(r, a, b, &order));
        return *out = oz_t_bool(order > 0), OZ_OK;
    case OP_GE:
        OZ_TRY(oz_t_compare(r, a, b, &order));
        return *out = oz_t_bool(order >= 0), OZ_OK;
    case OP_IN:
    case OP_NOT_IN:
        OZ_TRY(contains(r, b, a, &yes));
        return *out = oz_t_bool(yes == (op == OP_IN)), OZ_OK;
    case OP_JOIN:
        OZ_TRY(oz_t_string(r, a, &s));
        OZ_TRY(oz_t_string(r, b, &t));
        return concatenate(r, &s, &t, out);
    default:
        break;
    }
    if (integer(a, &i) && integer(b, &j) && op != OP_DIV && !(op == OP_POW && j < 0)) return on_integers(r, op, i, j, out);
    if (real(a, &x) && real(b, &y)) return on_reals(r, op, x, y, out);
    if (op == OP_ADD && a->kind == V_TEXT && b->kind == V_TEXT) return concatenate(r, a, b, out);
    if (op == OP_MUL && a->kind == V_TEXT && integer(b, &j)) return repeat(r, a, j, out);
    if (op == OP_ADD && a->kind == V_LIST && b->kind == V_LIST) {
        OZ_TRY(oz_t_new_list(r, a->u.list->n + b->u.list->n, out));
        for (int k = 0; k < a->u.list->n; k++) OZ_TRY(oz_t_push(r, out->u.list, a->u.list->item[k]));
        for (int k = 0; k < b->u.list->n; k++) OZ_TRY(oz_t_push(r, out->u.list, b->u.list->item[k]));
        return OZ_OK;
    }
    const t_value *undefined = a->kind == V_UNDEFINED ? a : b->kind == V_UNDEFINED ? b : NULL;
    if (undefined)
        return oz_t_fail(r, OZ_ERR_KEY, "\"%.*s\" is not defined", (int)undefined->u.text.n,
                         undefined->u.text.s ? undefined->u.text.s : "");
    return oz_t_fail(r, OZ_ERR_UNSUPPORTED, "operator %d between values of kinds %d and %d", (int)op, (int)a->kind, (int)b->kind);
}

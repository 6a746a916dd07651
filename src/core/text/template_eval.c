/* core/text/template_eval.c: running a template's tree.
 *
 * Names live in scopes: one for the whole render, one for each turn of a loop and each macro call; `set` writes into the innermost,
 * so a loop does not change names outside it (a namespace's entries it does), as in Jinja.  Every operation is counted, nesting and
 * memory are bounded, and an error names the line. */
#include <stdio.h>
#include "core/text/template.h"

oz_status oz_t_fail(t_run *r, oz_status status, const char *fmt, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return oz_fail(status, NULL, "%s:%d: template: %s", r->file, r->line, text);
}

void *oz_t_alloc(t_run *r, size_t bytes)
{
    if (bytes > OZ_T_MEMORY_MAX || r->memory + bytes + 64 > OZ_T_MEMORY_MAX) {
        r->full = true;
        oz_t_fail(r, OZ_ERR_RANGE, "its values need more than %d bytes", OZ_T_MEMORY_MAX);
        return NULL;
    }
    r->memory += bytes + 64;
    return oz_arena_zalloc(r->arena, bytes + 1);
}

oz_status oz_t_step(t_run *r)
{
    if (++r->steps > OZ_T_STEPS_MAX) return oz_t_fail(r, OZ_ERR_RANGE, "more than %d operations", OZ_T_STEPS_MAX);
    if (r->out && r->out->failed) return OZ_ERR_NOMEM;
    if (r->out && r->out->n > OZ_T_OUTPUT_MAX) return oz_t_fail(r, OZ_ERR_RANGE, "its output is longer than %d bytes", OZ_T_OUTPUT_MAX);
    return OZ_OK;
}

/* ---- scopes ---- */
oz_status oz_t_set(t_run *r, t_scope *s, const char *name, size_t n, t_value v)
{
    for (int i = 0; i < s->n; i++)
        if (s->var[i].n == n && !memcmp(s->var[i].name, name, n)) {
            s->var[i].value = v;
            return OZ_OK;
        }
    if (s->n == s->cap) {
        int cap = s->cap ? s->cap * 2 : 4;
        void *grown = oz_t_alloc(r, (size_t)cap * sizeof *s->var);
        if (!grown) return OZ_ERR_NOMEM;
        if (s->n) memcpy(grown, s->var, (size_t)s->n * sizeof *s->var);
        s->var = grown, s->cap = cap;
    }
    s->var[s->n].name = name, s->var[s->n].n = n, s->var[s->n].value = v;
    s->n++;
    return OZ_OK;
}

static t_value lookup(const t_run *r, const char *name, size_t n)
{
    for (const t_scope *s = r->scope; s; s = s->up)
        for (int i = 0; i < s->n; i++)
            if (s->var[i].n == n && !memcmp(s->var[i].name, name, n)) return s->var[i].value;
    int f = oz_t_function_named(name, n);
    t_value v = {.kind = f >= 0 ? V_FUNCTION : V_UNDEFINED};
    if (f >= 0)
        v.u.function = f;
    else
        v.u.text.s = name, v.u.text.n = n;
    return v;
}

static oz_status new_scope(t_run *r, t_scope *up, t_scope **out)
{
    *out = oz_t_alloc(r, sizeof **out);
    if (!*out) return OZ_ERR_NOMEM;
    (*out)->up = up;
    return OZ_OK;
}

/* Gives a value to `a`, to `a, b` (the value is then a list of two) or to `namespace.a`. */
static oz_status assign(t_run *r, t_scope *scope, const t_node *targets, t_value v)
{
    t_value list = {0};
    int count = 0;
    for (const t_node *t = targets; t; t = t->next) count++;
    if (count > 1) {
        OZ_TRY(oz_t_to_list(r, &v, &list));
        if (list.u.list->n != count) return oz_t_fail(r, OZ_ERR_SHAPE, "%d values for %d names", list.u.list->n, count);
    }
    int i = 0;
    for (const t_node *t = targets; t; t = t->next, i++) {
        t_value x = count > 1 ? list.u.list->item[i] : v;
        if (t->kind == T_NAME) {
            OZ_TRY(oz_t_set(r, scope, t->name, t->n, x));
            continue;
        }
        t_value space = lookup(r, t->a->name, t->a->n);
        if (space.kind != V_MAP || !space.u.map->is_namespace)
            return oz_t_fail(r, OZ_ERR_UNSUPPORTED, "%.*s.%.*s cannot be set: only a namespace's entries can", (int)t->a->n, t->a->name,
                             (int)t->n, t->name);
        OZ_TRY(oz_t_put(r, space.u.map, oz_t_text(t->name, t->n), x));
    }
    return OZ_OK;
}

/* ---- expressions ---- */
static oz_status arguments(t_run *r, const t_node *n, t_args *out)
{
    out->n = out->nnamed = 0;
    for (const t_node *a = n; a; a = a->next) {
        if (out->n == 8 || out->nnamed == 8) return oz_t_fail(r, OZ_ERR_RANGE, "more than %d arguments", 8);
        if (a->kind == T_NAMED) {
            OZ_TRY(oz_t_eval(r, a->a, &out->named[out->nnamed].value));
            out->named[out->nnamed].name = a->name, out->named[out->nnamed].n = a->n;
            out->nnamed++;
        } else {
            OZ_TRY(oz_t_eval(r, a, &out->value[out->n]));
            out->n++;
        }
    }
    return OZ_OK;
}

static bool all_named(const t_node *n)
{
    for (; n; n = n->next)
        if (n->kind != T_NAMED) return false;
    return true;
}

static oz_status call(t_run *r, const t_node *n, t_value *out)
{
    t_args args;
    t_value f;
    if (n->a->kind == T_ATTR) {
        t_value self;
        OZ_TRY(oz_t_eval(r, n->a->a, &self));
        const t_value *own = self.kind == V_MAP ? oz_t_get_text(self.u.map, n->a->name, n->a->n) : NULL;
        if (!own || own->kind != V_MACRO) {
            OZ_TRY(arguments(r, n->args, &args));
            return oz_t_method(r, &self, n->a->name, n->a->n, &args, out);
        }
        f = *own;
    } else {
        OZ_TRY(oz_t_eval(r, n->a, &f));
    }
    if (f.kind == V_FUNCTION && oz_t_makes_map(f.u.function) && all_named(n->args)) { /* namespace(a=1, ...) of any length */
        t_value map;
        OZ_TRY(oz_t_function(r, f.u.function, &(t_args){0}, &map));
        for (const t_node *a = n->args; a; a = a->next) {
            t_value v;
            OZ_TRY(oz_t_eval(r, a->a, &v));
            OZ_TRY(oz_t_put(r, map.u.map, oz_t_text(a->name, a->n), v));
        }
        return *out = map, OZ_OK;
    }
    OZ_TRY(arguments(r, n->args, &args));
    r->line = n->line;
    if (f.kind == V_FUNCTION) return oz_t_function(r, f.u.function, &args, out);
    if (f.kind == V_MACRO) return oz_t_call_macro(r, f.u.macro, &args, out);
    if (f.kind == V_UNDEFINED)
        return oz_t_fail(r, OZ_ERR_KEY, "\"%.*s\" is not defined and cannot be called", (int)f.u.text.n, f.u.text.s ? f.u.text.s : "");
    return oz_t_fail(r, OZ_ERR_UNSUPPORTED, "a value of kind %d cannot be called", (int)f.kind);
}

static oz_status display(t_run *r, const t_node *n, t_value *out)
{
    if (n->kind == T_LIST) {
        OZ_TRY(oz_t_new_list(r, 4, out));
        out->u.list->tuple = n->negate;
        for (const t_node *a = n->args; a; a = a->next) {
            t_value v;
            OZ_TRY(oz_t_eval(r, a, &v));
            OZ_TRY(oz_t_push(r, out->u.list, v));
        }
        return OZ_OK;
    }
    OZ_TRY(oz_t_new_map(r, out));
    for (const t_node *a = n->args; a; a = a->next->next) {
        t_value k, v;
        OZ_TRY(oz_t_eval(r, a, &k));
        OZ_TRY(oz_t_eval(r, a->next, &v));
        OZ_TRY(oz_t_put(r, out->u.map, k, v));
    }
    return OZ_OK;
}

static oz_status minus(t_run *r, t_kind kind, const t_value *a, t_value *out)
{
    *out = *a;
    if (a->kind == V_BOOL) *out = oz_t_int(a->u.boolean);
    if (out->kind == V_REAL) {
        if (kind == T_NEG) out->u.real = -out->u.real;
        return OZ_OK;
    }
    if (out->kind != V_INT || out->u.integer == INT64_MIN)
        return oz_t_fail(r, OZ_ERR_UNSUPPORTED, "a sign before what is not a number (kind %d)", (int)a->kind);
    if (kind == T_NEG) out->u.integer = -out->u.integer;
    return OZ_OK;
}

static oz_status evaluate(t_run *r, const t_node *n, t_value *out)
{
    t_value a, b;
    bool yes;
    switch (n->kind) {
    case T_LITERAL:
        *out = n->value;
        return OZ_OK;
    case T_NAME:
        *out = lookup(r, n->name, n->n);
        return OZ_OK;
    case T_LIST:
    case T_MAP:
        return display(r, n, out);
    case T_CALL:
        return call(r, n, out);
    case T_AND:
    case T_OR:
        OZ_TRY(oz_t_eval(r, n->a, out));
        return oz_t_true(out) == (n->kind == T_AND) ? oz_t_eval(r, n->b, out) : OZ_OK;
    case T_NOT:
        OZ_TRY(oz_t_eval(r, n->a, &a));
        *out = oz_t_bool(!oz_t_true(&a));
        return OZ_OK;
    case T_COND:
        OZ_TRY(oz_t_eval(r, n->b, &b));
        if (oz_t_true(&b)) return oz_t_eval(r, n->a, out);
        if (n->c) return oz_t_eval(r, n->c, out);
        *out = (t_value){.kind = V_UNDEFINED};
        return OZ_OK;
    default:
        break;
    }
    OZ_TRY(oz_t_eval(r, n->a, &a));
    r->line = n->line;
    switch (n->kind) {
    case T_ATTR:
        return oz_t_attribute(r, &a, n->name, n->n, out);
    case T_INDEX:
        OZ_TRY(oz_t_eval(r, n->b, &b));
        return oz_t_item(r, &a, &b, out);
    case T_SLICE: {
        t_value at[3];
        const t_node *x = n->args;
        for (int i = 0; i < 3; i++, x = x->next) OZ_TRY(oz_t_eval(r, x, &at[i]));
        return oz_t_slice(r, &a, at, out);
    }
    case T_FILTER:
    case T_TEST: {
        t_args args;
        OZ_TRY(arguments(r, n->args, &args));
        r->line = n->line;
        if (n->kind == T_FILTER) return oz_t_filter(r, n->name, n->n, &a, &args, out);
        OZ_TRY(oz_t_test(r, n->name, n->n, &a, &args, &yes));
        *out = oz_t_bool(yes != n->negate);
        return OZ_OK;
    }
    case T_NEG:
    case T_PLUS:
        return minus(r, n->kind, &a, out);
    case T_BINARY:
        OZ_TRY(oz_t_eval(r, n->b, &b));
        return oz_t_binary(r, n->op, &a, &b, out);
    default:
        return oz_t_fail(r, OZ_ERR_PARSE, "an expression of kind %d", (int)n->kind);
    }
}

oz_status oz_t_eval(t_run *r, const t_node *n, t_value *out)
{
    OZ_TRY(oz_t_step(r));
    if (r->depth >= OZ_T_DEPTH_MAX) return oz_t_fail(r, OZ_ERR_RANGE, "operations nest deeper than %d", OZ_T_DEPTH_MAX);
    r->depth++;
    oz_status s = evaluate(r, n, out);
    r->depth--;
    return s;
}

/* ---- statements ---- */
/* Runs a body into a text of its own. */
static oz_status captured(t_run *r, const t_node *body, t_value *out)
{
    oz_sb mine = {0}, *before = r->out;
    r->out = &mine;
    oz_status s = oz_t_body(r, body);
    r->out = before;
    if (!s) return oz_t_take(r, &mine, out);
    oz_free(mine.s);
    return s;
}

oz_status oz_t_call_macro(t_run *r, const t_closure *c, const t_args *args, t_value *out)
{
    t_scope *scope, *before = r->scope;
    OZ_TRY(new_scope(r, c->scope, &scope));
    int i = 0;
    for (const t_node *p = c->macro->args; p; p = p->next, i++) {
        t_value v = {.kind = V_UNDEFINED, .u.text = {p->name, p->n}};
        const t_value *given = i < args->n ? &args->value[i] : NULL;
        for (int k = 0; k < args->nnamed && !given; k++)
            if (args->named[k].n == p->n && !memcmp(args->named[k].name, p->name, p->n)) given = &args->named[k].value;
        if (given)
            v = *given;
        else if (p->kind == T_NAMED)
            OZ_TRY(oz_t_eval(r, p->a, &v));
        OZ_TRY(oz_t_set(r, scope, p->name, p->n, v));
    }
    if (args->n > i)
        return oz_t_fail(r, OZ_ERR_SHAPE, "macro %.*s takes %d arguments, not %d", (int)c->macro->n, c->macro->name, i, args->n);
    if (r->depth >= OZ_T_DEPTH_MAX) return oz_t_fail(r, OZ_ERR_RANGE, "macros nest deeper than %d", OZ_T_DEPTH_MAX);
    const int depth = r->depth;
    r->depth += 4;
    r->scope = scope;
    oz_status s = captured(r, c->macro->body, out);
    r->scope = before;
    r->depth = depth;
    return s;
}

/* What the loop goes over: the list, without what its `if` rejects. */
static oz_status loop_items(t_run *r, const t_node *n, t_value *out)
{
    t_value over, all;
    OZ_TRY(oz_t_eval(r, n->a, &over));
    OZ_TRY(oz_t_to_list(r, &over, &all));
    if (!n->b) return *out = all, OZ_OK;
    t_scope *scope, *before = r->scope;
    OZ_TRY(oz_t_new_list(r, all.u.list->n, out));
    OZ_TRY(new_scope(r, before, &scope));
    for (int i = 0; i < all.u.list->n; i++) {
        t_value keep;
        OZ_TRY(assign(r, scope, n->args, all.u.list->item[i]));
        r->scope = scope;
        oz_status s = oz_t_eval(r, n->b, &keep);
        r->scope = before;
        OZ_TRY(s);
        if (oz_t_true(&keep)) OZ_TRY(oz_t_push(r, out->u.list, all.u.list->item[i]));
    }
    return OZ_OK;
}

static oz_status run_for(t_run *r, const t_node *n)
{
    t_value items;
    t_scope *before = r->scope;
    OZ_TRY(loop_items(r, n, &items));
    const t_list *list = items.u.list;
    if (list->n == 0) return oz_t_body(r, n->other);
    t_loop *loop = oz_t_alloc(r, sizeof *loop);
    if (!loop) return OZ_ERR_NOMEM;
    *loop = (t_loop){.list = list, .depth = ++r->loops};
    oz_status s = OZ_OK;
    t_scope *scope = NULL;
    for (int i = 0; i < list->n && !s; i++) {
        loop->i = i;
        s = new_scope(r, before, &scope); /* a fresh one: what a turn sets is gone in the next */
        if (!s) s = assign(r, scope, n->args, list->item[i]);
        if (!s) s = oz_t_set(r, scope, "loop", 4, (t_value){.kind = V_LOOP, .u.loop = loop});
        r->scope = scope;
        if (!s) s = oz_t_body(r, n->body);
        r->scope = before;
        const int jump = r->jump;
        r->jump = 0;
        if (jump == 'b') break;
    }
    r->loops--;
    return s;
}

static oz_status statement(t_run *r, const t_node *n)
{
    t_value v;
    r->line = n->line;
    switch (n->kind) {
    case T_TEXT:
        oz_sb_put(r->out, n->name, n->n);
        return OZ_OK;
    case T_OUTPUT:
        OZ_TRY(oz_t_eval(r, n->a, &v));
        return oz_t_print(r, r->out, &v);
    case T_SET:
        OZ_TRY(oz_t_eval(r, n->a, &v));
        return assign(r, r->scope, n->args, v);
    case T_SET_BLOCK:
        OZ_TRY(captured(r, n->body, &v));
        return assign(r, r->scope, n->args, v);
    case T_FOR:
        return run_for(r, n);
    case T_IF:
        for (; n && n->kind == T_IF; n = n->other) { /* an elif hangs on `other` */
            OZ_TRY(oz_t_eval(r, n->a, &v));
            if (oz_t_true(&v)) return oz_t_body(r, n->body);
            if (!n->other || n->other->kind != T_IF || !n->other->negate) return oz_t_body(r, n->other);
        }
        return OZ_OK;
    case T_MACRO: {
        t_closure *c = oz_t_alloc(r, sizeof *c);
        if (!c) return OZ_ERR_NOMEM;
        *c = (t_closure){n, r->scope};
        return oz_t_set(r, r->scope, n->name, n->n, (t_value){.kind = V_MACRO, .u.macro = c});
    }
    case T_BREAK:
        r->jump = 'b';
        return OZ_OK;
    case T_CONTINUE:
        r->jump = 'c';
        return OZ_OK;
    default:
        return oz_t_fail(r, OZ_ERR_PARSE, "a statement of kind %d", (int)n->kind);
    }
}

oz_status oz_t_body(t_run *r, const t_node *n)
{
    if (r->depth >= OZ_T_DEPTH_MAX) return oz_t_fail(r, OZ_ERR_RANGE, "blocks nest deeper than %d", OZ_T_DEPTH_MAX);
    r->depth++;
    oz_status s = OZ_OK;
    for (; n && !s && !r->jump; n = n->next) {
        s = oz_t_step(r);
        if (!s) s = statement(r, n);
    }
    r->depth--;
    return s;
}

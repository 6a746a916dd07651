/* core/text/template_parse.c: a template's tokens as a tree, by recursive descent in the order of Jinja's grammar.
 *
 * Where a node's children are:
 *   OUTPUT a            SET args (targets) a        SET_BLOCK name body     FOR args (targets) a (list) b (if) body other
 *   IF a body other     MACRO name args body        TEXT name, n
 *   ATTR a name         INDEX a b                   SLICE a, args (start, stop, step; LITERAL undefined when absent)
 *   CALL a args         FILTER a name args          TEST a name args        NAMED name a (an argument name=value)
 *   BINARY op a b       AND, OR a b                 NOT, NEG, PLUS a        COND a if b else c
 *   LIST args           MAP args (key, value, key, value ...) */
#include "core/text/template.h"

typedef struct {
    const t_token *t;
    const char *file;
    oz_arena *arena;
    int depth, in_loop;
} parser;

static oz_status expression(parser *, t_node **);
static oz_status statements(parser *, t_node **, const char *const *stops);

static bool op(const parser *p, const char *s) { return p->t->kind == TOK_OP && p->t->n == strlen(s) && !memcmp(p->t->s, s, p->t->n); }
static bool word(const parser *p, const char *s) { return p->t->kind == TOK_NAME && p->t->n == strlen(s) && !memcmp(p->t->s, s, p->t->n); }
static bool take_op(parser *p, const char *s)
{
    bool yes = op(p, s);
    p->t += yes;
    return yes;
}
static bool take_word(parser *p, const char *s)
{
    bool yes = word(p, s);
    p->t += yes;
    return yes;
}

static oz_status expected(const parser *p, const char *what)
{
    const t_token *t = p->t;
    if (t->kind == TOK_END) return oz_fail(OZ_ERR_PARSE, NULL, "%s:%d: the template ends where %s was expected", p->file, t->line, what);
    return oz_fail(OZ_ERR_PARSE, NULL, "%s:%d: expected %s, found \"%.*s\"", p->file, t->line, what, (int)(t->n < 40 ? t->n : 40), t->s);
}

static oz_status need_op(parser *p, const char *s)
{
    char what[16] = "\"";
    if (take_op(p, s)) return OZ_OK;
    strncat(what, s, 8);
    strncat(what, "\"", 2);
    return expected(p, what);
}

static oz_status make(parser *p, t_kind kind, t_node **out)
{
    t_node *n = oz_arena_zalloc(p->arena, sizeof *n);
    if (!n) return OZ_ERR_NOMEM;
    n->kind = kind, n->line = p->t->line;
    *out = n;
    return OZ_OK;
}

static oz_status wrap(parser *p, t_kind kind, t_node *a, t_node *b, t_node **out)
{
    t_node *n;
    OZ_TRY(make(p, kind, &n));
    n->a = a, n->b = b;
    if (a) n->line = a->line;
    *out = n;
    return OZ_OK;
}

static oz_status enter(parser *p)
{
    if (++p->depth > OZ_T_NEST_MAX)
        return oz_fail(OZ_ERR_RANGE, NULL, "%s:%d: the template nests deeper than %d", p->file, p->t->line, OZ_T_NEST_MAX);
    return OZ_OK;
}

static oz_status literal(parser *p, t_value v, t_node **out)
{
    OZ_TRY(make(p, T_LITERAL, out));
    (*out)->value = v;
    return OZ_OK;
}

static oz_status name_of(parser *p, const char *what, t_node *n)
{
    if (p->t->kind != TOK_NAME) return expected(p, what);
    n->name = p->t->s, n->n = p->t->n;
    p->t++;
    return OZ_OK;
}

/* items up to `close`; for calls an item may be name=value, for maps each item is key : value */
static oz_status items(parser *p, const char *close, bool call, bool map, bool *comma, t_node **first)
{
    t_node **last = first;
    *first = NULL;
    while (!op(p, close)) {
        if (call && p->t->kind == TOK_NAME && p->t[1].kind == TOK_OP && p->t[1].n == 1 && p->t[1].s[0] == '=') {
            OZ_TRY(make(p, T_NAMED, last));
            OZ_TRY(name_of(p, "a name", *last));
            p->t++;
            OZ_TRY(expression(p, &(*last)->a));
        } else {
            OZ_TRY(expression(p, last));
        }
        last = &(*last)->next;
        if (map) {
            OZ_TRY(need_op(p, ":"));
            OZ_TRY(expression(p, last));
            last = &(*last)->next;
        }
        if (!take_op(p, ",")) break;
        if (comma) *comma = true;
    }
    return need_op(p, close);
}

static oz_status number(parser *p, t_node **out)
{
    char text[64];
    size_t n = 0;
    for (size_t i = 0; i < p->t->n && n + 1 < sizeof text; i++)
        if (p->t->s[i] != '_') text[n++] = p->t->s[i];
    text[n] = 0;
    t_value v = {.kind = p->t->kind == TOK_INT ? V_INT : V_REAL};
    if (v.kind == V_INT ? !oz_parse_i64(text, INT64_MIN, INT64_MAX, &v.u.integer) : !oz_parse_f64(text, -1e308, 1e308, &v.u.real))
        return oz_fail(OZ_ERR_RANGE, NULL, "%s:%d: the number %.60s is too large", p->file, p->t->line, text);
    OZ_TRY(literal(p, v, out));
    p->t++;
    return OZ_OK;
}

static oz_status primary(parser *p, t_node **out)
{
    static const struct {
        const char *word;
        t_value value;
    } words[] = {{"true", {V_BOOL, {.boolean = true}}},   {"True", {V_BOOL, {.boolean = true}}},  {"false", {V_BOOL, {.boolean = false}}},
                 {"False", {V_BOOL, {.boolean = false}}}, {"none", {V_NONE, {.boolean = false}}}, {"None", {V_NONE, {.boolean = false}}}};
    const t_token *t = p->t;
    if (t->kind == TOK_INT || t->kind == TOK_REAL) return number(p, out);
    if (t->kind == TOK_TEXT) { /* texts side by side are one */
        size_t n = 0;
        for (const t_token *k = t; k->kind == TOK_TEXT; k++) n += k->n;
        char *s = oz_arena_alloc(p->arena, n + 1);
        if (!s) return OZ_ERR_NOMEM;
        OZ_TRY(literal(p, oz_t_text(s, n), out));
        for (n = 0; p->t->kind == TOK_TEXT; p->t++) {
            memcpy(s + n, p->t->s, p->t->n);
            n += p->t->n;
        }
        return OZ_OK;
    }
    if (t->kind == TOK_NAME) {
        for (int i = 0; i < 6; i++)
            if (take_word(p, words[i].word)) return literal(p, words[i].value, out);
        OZ_TRY(make(p, T_NAME, out));
        return name_of(p, "a name", *out);
    }
    if (op(p, "(")) {
        p->t++;
        t_node *first;
        bool comma = false;
        const t_token *begin = p->t;
        OZ_TRY(items(p, ")", false, false, &comma, &first));
        if (first && !comma) return *out = first, OZ_OK;
        OZ_TRY(make(p, T_LIST, out));
        (*out)->args = first, (*out)->negate = true; /* a tuple */
        (*out)->line = begin->line;
        return OZ_OK;
    }
    if (op(p, "[") || op(p, "{")) {
        bool map = op(p, "{");
        OZ_TRY(make(p, map ? T_MAP : T_LIST, out));
        p->t++;
        return items(p, map ? "}" : "]", false, map, NULL, &(*out)->args);
    }
    return expected(p, "an expression");
}

static oz_status subscript(parser *p, t_node *of, t_node **out)
{
    t_node *part[3] = {0};
    int n = 0;
    bool slice = false;
    for (;;) {
        if (!op(p, ":") && !op(p, "]")) OZ_TRY(expression(p, &part[n]));
        if (n == 2 || !take_op(p, ":")) break;
        slice = true, n++;
    }
    if (!slice) {
        if (!part[0]) return expected(p, "an index");
        OZ_TRY(wrap(p, T_INDEX, of, part[0], out));
        return need_op(p, "]");
    }
    OZ_TRY(wrap(p, T_SLICE, of, NULL, out));
    for (int i = 2; i >= 0; i--) {
        if (!part[i]) OZ_TRY(literal(p, (t_value){.kind = V_UNDEFINED}, &part[i]));
        part[i]->next = (*out)->args;
        (*out)->args = part[i];
    }
    return need_op(p, "]");
}

/* .name  .0  [i]  [a:b:c]  (args) */
static oz_status postfix(parser *p, t_node **out)
{
    for (;;) {
        t_node *n = *out;
        if (take_op(p, ".")) {
            if (p->t->kind == TOK_INT) {
                OZ_TRY(wrap(p, T_INDEX, n, NULL, out));
                OZ_TRY(number(p, &(*out)->b));
                continue;
            }
            OZ_TRY(wrap(p, T_ATTR, n, NULL, out));
            OZ_TRY(name_of(p, "a name behind \".\"", *out));
        } else if (take_op(p, "[")) {
            OZ_TRY(subscript(p, n, out));
        } else if (take_op(p, "(")) {
            OZ_TRY(wrap(p, T_CALL, n, NULL, out));
            OZ_TRY(items(p, ")", true, false, NULL, &(*out)->args));
        } else {
            return OZ_OK;
        }
    }
}

/* | filter(args)   is [not] test [args] */
static oz_status filters(parser *p, t_node **out)
{
    for (;;) {
        t_node *n = *out;
        if (take_op(p, "|")) {
            OZ_TRY(wrap(p, T_FILTER, n, NULL, out));
            OZ_TRY(name_of(p, "a filter's name", *out));
            if (take_op(p, "(")) OZ_TRY(items(p, ")", true, false, NULL, &(*out)->args));
        } else if (take_word(p, "is")) {
            OZ_TRY(wrap(p, T_TEST, n, NULL, out));
            (*out)->negate = take_word(p, "not");
            OZ_TRY(name_of(p, "a test's name", *out));
            const t_token *t = p->t;
            bool stop =
                word(p, "else") || word(p, "or") || word(p, "and") || word(p, "is") || word(p, "if") || word(p, "in") || word(p, "not");
            if (take_op(p, "(")) {
                OZ_TRY(items(p, ")", true, false, NULL, &(*out)->args));
            } else if (!stop && (t->kind == TOK_NAME || t->kind == TOK_TEXT || t->kind == TOK_INT || t->kind == TOK_REAL || op(p, "[") ||
                                 op(p, "{"))) {
                OZ_TRY(primary(p, &(*out)->args));
                OZ_TRY(postfix(p, &(*out)->args));
            }
        } else if (op(p, "(")) {
            OZ_TRY(postfix(p, out));
        } else {
            return OZ_OK;
        }
    }
}

static oz_status unary(parser *p, bool with_filter, t_node **out)
{
    OZ_TRY(enter(p));
    bool neg = op(p, "-");
    if (neg || op(p, "+")) {
        t_node *a;
        p->t++;
        OZ_TRY(unary(p, false, &a));
        OZ_TRY(wrap(p, neg ? T_NEG : T_PLUS, a, NULL, out));
    } else {
        OZ_TRY(primary(p, out));
    }
    OZ_TRY(postfix(p, out));
    if (with_filter) OZ_TRY(filters(p, out));
    p->depth--;
    return OZ_OK;
}

/* Binary operators by rank: comparison binds loosest, power tightest. */
static const struct {
    const char *text;
    t_op op;
    int rank;
} operators[] = {{"==", OP_EQ, 0}, {"!=", OP_NE, 0},    {"<=", OP_LE, 0}, {">=", OP_GE, 0},  {"<", OP_LT, 0},
                 {">", OP_GT, 0},  {"+", OP_ADD, 1},    {"-", OP_SUB, 1}, {"~", OP_JOIN, 2}, {"*", OP_MUL, 3},
                 {"/", OP_DIV, 3}, {"//", OP_FLOOR, 3}, {"%", OP_MOD, 3}, {"**", OP_POW, 4}};

static bool take_operator(parser *p, int rank, t_op *o)
{
    for (size_t i = 0; i < sizeof operators / sizeof operators[0]; i++)
        if (operators[i].rank == rank && take_op(p, operators[i].text)) return *o = operators[i].op, true;
    if (rank != 0) return false;
    if (take_word(p, "in")) return *o = OP_IN, true;
    if (word(p, "not") && p->t[1].kind == TOK_NAME && p->t[1].n == 2 && !memcmp(p->t[1].s, "in", 2)) return p->t += 2, *o = OP_NOT_IN, true;
    return false;
}

static oz_status binary(parser *p, int rank, t_node **out)
{
    if (rank > 4) return unary(p, true, out);
    OZ_TRY(binary(p, rank + 1, out));
    t_op o;
    t_node *before = NULL; /* a < b < c is a < b and b < c */
    while (take_operator(p, rank, &o)) {
        t_node *left = rank == 0 && before ? before : *out, *right, *n;
        OZ_TRY(binary(p, rank + 1, &right));
        OZ_TRY(wrap(p, T_BINARY, left, right, &n));
        n->op = o;
        if (rank == 0 && before) OZ_TRY(wrap(p, T_AND, *out, n, &n));
        before = right;
        *out = n;
    }
    return OZ_OK;
}

static oz_status negation(parser *p, t_node **out)
{
    if (!word(p, "not")) return binary(p, 0, out);
    t_node *a;
    OZ_TRY(enter(p));
    p->t++;
    OZ_TRY(negation(p, &a));
    p->depth--;
    return wrap(p, T_NOT, a, NULL, out);
}

static oz_status logic(parser *p, bool any, t_node **out)
{
    OZ_TRY(any ? logic(p, false, out) : negation(p, out));
    while (take_word(p, any ? "or" : "and")) {
        t_node *left = *out, *right;
        OZ_TRY(any ? logic(p, false, &right) : negation(p, &right));
        OZ_TRY(wrap(p, any ? T_OR : T_AND, left, right, out));
    }
    return OZ_OK;
}

static oz_status expression(parser *p, t_node **out)
{
    OZ_TRY(enter(p));
    OZ_TRY(logic(p, true, out));
    while (take_word(p, "if")) {
        t_node *value = *out, *when, *otherwise = NULL;
        OZ_TRY(logic(p, true, &when));
        if (take_word(p, "else")) OZ_TRY(expression(p, &otherwise));
        OZ_TRY(wrap(p, T_COND, value, when, out));
        (*out)->c = otherwise;
    }
    p->depth--;
    return OZ_OK;
}

/* An expression, or a tuple without brackets: a, b */
static oz_status expressions(parser *p, t_node **out)
{
    OZ_TRY(expression(p, out));
    if (!op(p, ",")) return OZ_OK;
    t_node *list, **last = &(*out)->next;
    OZ_TRY(wrap(p, T_LIST, NULL, NULL, &list));
    list->args = *out, list->negate = true;
    while (take_op(p, ",")) {
        if (p->t->kind == TOK_BLOCK_END || p->t->kind == TOK_VAR_END) break;
        OZ_TRY(expression(p, last));
        last = &(*last)->next;
    }
    *out = list;
    return OZ_OK;
}

/* ---- statements ---- */
static oz_status block_end(parser *p)
{
    if (p->t->kind != TOK_BLOCK_END) return expected(p, "\"%}\"");
    p->t++;
    return OZ_OK;
}

static oz_status targets(parser *p, t_node **first)
{
    bool bracket = take_op(p, "(");
    do {
        OZ_TRY(make(p, T_NAME, first));
        OZ_TRY(name_of(p, "a name", *first));
        if (take_op(p, ".")) { /* namespace.name */
            t_node *space = *first;
            OZ_TRY(wrap(p, T_ATTR, space, NULL, first));
            OZ_TRY(name_of(p, "a name behind \".\"", *first));
        }
        first = &(*first)->next;
    } while (take_op(p, ","));
    return bracket ? need_op(p, ")") : OZ_OK;
}

static oz_status set_statement(parser *p, t_node **out)
{
    OZ_TRY(make(p, T_SET, out));
    OZ_TRY(targets(p, &(*out)->args));
    if (take_op(p, "=")) {
        OZ_TRY(expressions(p, &(*out)->a));
        return block_end(p);
    }
    if ((*out)->args->next || op(p, "|")) return expected(p, "\"=\"");
    (*out)->kind = T_SET_BLOCK;
    OZ_TRY(block_end(p));
    static const char *const stops[] = {"endset", NULL};
    OZ_TRY(statements(p, &(*out)->body, stops));
    p->t++;
    return block_end(p);
}

static oz_status for_statement(parser *p, t_node **out)
{
    static const char *const stops[] = {"else", "endfor", NULL};
    OZ_TRY(make(p, T_FOR, out));
    OZ_TRY(targets(p, &(*out)->args));
    if (!take_word(p, "in")) return expected(p, "\"in\"");
    OZ_TRY(logic(p, true, &(*out)->a));
    if (take_word(p, "if")) OZ_TRY(expression(p, &(*out)->b));
    if (word(p, "recursive"))
        return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "%s:%d: \"for ... recursive\" is not supported in templates", p->file, p->t->line);
    OZ_TRY(block_end(p));
    p->in_loop++;
    OZ_TRY(statements(p, &(*out)->body, stops));
    p->in_loop--;
    if (take_word(p, "else")) {
        OZ_TRY(block_end(p));
        OZ_TRY(statements(p, &(*out)->other, stops + 1));
    }
    p->t++;
    return block_end(p);
}

static oz_status if_statement(parser *p, t_node **out)
{
    static const char *const stops[] = {"elif", "else", "endif", NULL};
    bool elif = false;
    for (;;) { /* each elif is the `other` of the one before, marked */
        OZ_TRY(make(p, T_IF, out));
        (*out)->negate = elif;
        OZ_TRY(expression(p, &(*out)->a));
        OZ_TRY(block_end(p));
        OZ_TRY(statements(p, &(*out)->body, stops));
        if (!take_word(p, "elif")) break;
        out = &(*out)->other;
        elif = true;
    }
    if (take_word(p, "else")) {
        OZ_TRY(block_end(p));
        OZ_TRY(statements(p, &(*out)->other, stops + 2));
    }
    p->t++;
    return block_end(p);
}

static oz_status macro_statement(parser *p, t_node **out)
{
    static const char *const stops[] = {"endmacro", NULL};
    OZ_TRY(make(p, T_MACRO, out));
    OZ_TRY(name_of(p, "the macro's name", *out));
    OZ_TRY(need_op(p, "("));
    OZ_TRY(items(p, ")", true, false, NULL, &(*out)->args));
    for (const t_node *a = (*out)->args; a; a = a->next)
        if (a->kind != T_NAME && a->kind != T_NAMED)
            return oz_fail(OZ_ERR_PARSE, NULL, "%s:%d: macro %.*s: parameters are names", p->file, a->line, (int)(*out)->n, (*out)->name);
    OZ_TRY(block_end(p));
    const int loops = p->in_loop;
    p->in_loop = 0;
    OZ_TRY(statements(p, &(*out)->body, stops));
    p->in_loop = loops;
    p->t++;
    if (p->t->kind == TOK_NAME) p->t++; /* endmacro may repeat the name */
    return block_end(p);
}

static oz_status statement(parser *p, t_node **out)
{
    if (take_word(p, "set")) return set_statement(p, out);
    if (take_word(p, "for")) return for_statement(p, out);
    if (take_word(p, "if")) return if_statement(p, out);
    if (take_word(p, "macro")) return macro_statement(p, out);
    if (word(p, "break") || word(p, "continue")) {
        if (!p->in_loop)
            return oz_fail(OZ_ERR_PARSE, NULL, "%s:%d: \"%.*s\" outside of a loop", p->file, p->t->line, (int)p->t->n, p->t->s);
        OZ_TRY(make(p, word(p, "break") ? T_BREAK : T_CONTINUE, out));
        p->t++;
        return block_end(p);
    }
    if (take_word(p, "generation")) { /* marks the assistant's text for training; here it is only its body */
        static const char *const stops[] = {"endgeneration", NULL};
        OZ_TRY(block_end(p));
        OZ_TRY(statements(p, out, stops));
        p->t++;
        return block_end(p);
    }
    if (p->t->kind != TOK_NAME) return expected(p, "a statement");
    return oz_fail(OZ_ERR_UNSUPPORTED, "supported: set, for, if, macro, break, continue, generation, raw",
                   "%s:%d: template statement \"%.*s\" is not supported here", p->file, p->t->line, (int)(p->t->n < 40 ? p->t->n : 40),
                   p->t->s);
}

/* Up to a block that begins with one of `stops`, whose name is left as the next token; NULL: up to the end. */
static oz_status statements(parser *p, t_node **out, const char *const *stops)
{
    OZ_TRY(enter(p));
    for (;;) {
        const t_token *t = p->t;
        if (t->kind == TOK_DATA) {
            OZ_TRY(make(p, T_TEXT, out));
            (*out)->name = t->s, (*out)->n = t->n;
            p->t++;
        } else if (t->kind == TOK_VAR) {
            p->t++;
            OZ_TRY(make(p, T_OUTPUT, out));
            OZ_TRY(expressions(p, &(*out)->a));
            if (p->t->kind != TOK_VAR_END) return expected(p, "\"}}\"");
            p->t++;
        } else if (t->kind == TOK_BLOCK) {
            p->t++;
            for (int i = 0; stops && stops[i]; i++)
                if (word(p, stops[i])) return p->depth--, OZ_OK;
            OZ_TRY(statement(p, out));
        } else if (t->kind == TOK_END && !stops) {
            return p->depth--, OZ_OK;
        } else {
            while (stops && stops[1]) stops++; /* the one that must come */
            return expected(p, stops ? *stops : "text or a tag");
        }
        while (*out) out = &(*out)->next;
    }
}

oz_status oz_template_build(t_node **root, const t_tokens *tokens, const char *file, oz_arena *arena)
{
    parser p = {.t = tokens->token, .file = file, .arena = arena};
    *root = NULL;
    return statements(&p, root, NULL);
}

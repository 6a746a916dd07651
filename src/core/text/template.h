/* core/text/template.h: the inside of a chat template: a subset of Jinja, without files, imports, attributes of objects or any
 * function that reaches outside.  Source -> tokens -> tree (in the template's arena) -> text.
 *
 * White space is treated as Hugging Face's transformers set it: trim_blocks and lstrip_blocks on, one last newline dropped.
 * Templates are untrusted: source, nesting, steps, memory and output are bounded. */
#ifndef OUNCE_CORE_TEXT_TEMPLATE_H
#define OUNCE_CORE_TEXT_TEMPLATE_H
#include "core/text/tokenizer.h"

enum {
    OZ_T_SOURCE_MAX = 1 << 19,  /* bytes */
    OZ_T_NEST_MAX = 64,         /* brackets and blocks, when parsing */
    OZ_T_DEPTH_MAX = 160,       /* operations inside operations, when rendering */
    OZ_T_STEPS_MAX = 1000000,   /* operations */
    OZ_T_MEMORY_MAX = 64 << 20, /* bytes of values */
    OZ_T_OUTPUT_MAX = 16 << 20  /* bytes */
};

/* ---- tokens ---- */
typedef enum {
    TOK_END,
    TOK_DATA,
    TOK_VAR,
    TOK_VAR_END,
    TOK_BLOCK,
    TOK_BLOCK_END,
    TOK_NAME,
    TOK_INT,
    TOK_REAL,
    TOK_TEXT,
    TOK_OP
} t_token_kind;
typedef struct t_token {
    t_token_kind kind;
    int line;
    const char *s; /* TEXT: escapes undone */
    size_t n;
} t_token;
typedef struct t_tokens {
    t_token *token;
    size_t n, cap;
} t_tokens;
OZ_MUST oz_status oz_template_lex(t_tokens *, const char *source, size_t bytes, const char *file, oz_arena *);

/* ---- tree ---- */
typedef enum {
    /* statements, chained by next */
    T_TEXT,
    T_OUTPUT,
    T_SET,
    T_SET_BLOCK,
    T_FOR,
    T_IF,
    T_MACRO,
    T_BREAK,
    T_CONTINUE,
    /* expressions */
    T_LITERAL,
    T_NAME,
    T_ATTR,
    T_INDEX,
    T_SLICE,
    T_CALL,
    T_FILTER,
    T_TEST,
    T_NOT,
    T_NEG,
    T_PLUS,
    T_BINARY,
    T_AND,
    T_OR,
    T_COND,
    T_LIST,
    T_MAP,
    T_NAMED
} t_kind;
typedef enum {
    OP_ADD,
    OP_SUB,
    OP_MUL,
    OP_DIV,
    OP_FLOOR,
    OP_MOD,
    OP_POW,
    OP_JOIN,
    OP_EQ,
    OP_NE,
    OP_LT,
    OP_LE,
    OP_GT,
    OP_GE,
    OP_IN,
    OP_NOT_IN
} t_op;

typedef enum { V_UNDEFINED, V_NONE, V_BOOL, V_INT, V_REAL, V_TEXT, V_LIST, V_MAP, V_LOOP, V_MACRO, V_FUNCTION } t_value_kind;
typedef struct t_value {
    t_value_kind kind;
    union {
        bool boolean;
        int64_t integer;
        double real;
        struct {
            const char *s; /* TEXT; UNDEFINED: the name that was looked for */
            size_t n;
        } text;
        struct t_list *list;
        struct t_map *map;
        struct t_loop *loop;
        struct t_closure *macro;
        int function;
    } u;
} t_value;
typedef struct t_list {
    int n, cap;
    t_value *item;
    bool tuple;
} t_list;
typedef struct t_map {
    int n, cap;
    t_value *key, *value; /* keys are texts or numbers */
    bool is_namespace;
} t_map;

typedef struct t_node {
    t_kind kind;
    t_op op;
    int line;
    bool negate;              /* TEST: is not */
    const char *name;         /* NAME, ATTR, FILTER, TEST, NAMED, SET, MACRO, FOR */
    size_t n;                 /* of name; of TEXT's data */
    t_value value;            /* LITERAL */
    struct t_node *a, *b, *c; /* by kind, see template_parse.c */
    struct t_node *args;      /* chained by next: arguments, items, key and value in turn */
    struct t_node *body, *other;
    struct t_node *next;
} t_node;

struct oz_template {
    oz_arena *arena;
    const char *source, *file;
    t_node *root;
};
OZ_MUST oz_status oz_template_build(t_node **, const t_tokens *, const char *file, oz_arena *);

/* ---- running ---- */
typedef struct t_loop {
    const t_list *list;
    int i, depth;
} t_loop;
typedef struct t_scope {
    struct t_scope *up;
    int n, cap;
    struct {
        const char *name;
        size_t n;
        t_value value;
    } * var;
} t_scope;
typedef struct t_closure {
    const t_node *macro;
    t_scope *scope;
} t_closure;
typedef struct t_run {
    const char *file;
    oz_arena *arena;
    size_t memory;
    bool full; /* memory reached its bound */
    int64_t steps;
    int depth, line, loops;
    oz_sb *out;
    t_scope *scope;
    int jump; /* 0, 'b'reak or 'c'ontinue */
} t_run;
typedef struct t_args {
    int n, nnamed;
    t_value value[8];
    struct {
        const char *name;
        size_t n;
        t_value value;
    } named[8];
} t_args;

oz_status oz_t_fail(t_run *, oz_status, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void *oz_t_alloc(t_run *, size_t); /* cleared; NULL and a message when there is no more */
OZ_MUST oz_status oz_t_step(t_run *);
OZ_MUST oz_status oz_t_body(t_run *, const t_node *);
OZ_MUST oz_status oz_t_eval(t_run *, const t_node *, t_value *);
OZ_MUST oz_status oz_t_set(t_run *, t_scope *, const char *name, size_t n, t_value);
OZ_MUST oz_status oz_t_call_macro(t_run *, const t_closure *, const t_args *, t_value *);

/* values */
t_value oz_t_text(const char *, size_t);
t_value oz_t_int(int64_t);
t_value oz_t_bool(bool);
bool oz_t_is(const t_value *, const char *text); /* a text equal to this */
bool oz_t_true(const t_value *);
bool oz_t_equal(const t_value *, const t_value *, int depth);
OZ_MUST oz_status oz_t_compare(t_run *, const t_value *, const t_value *, int *);
OZ_MUST oz_status oz_t_new_list(t_run *, int cap, t_value *);
OZ_MUST oz_status oz_t_push(t_run *, t_list *, t_value);
OZ_MUST oz_status oz_t_new_map(t_run *, t_value *);
OZ_MUST oz_status oz_t_put(t_run *, t_map *, t_value key, t_value);
const t_value *oz_t_get(const t_map *, const t_value *key);
const t_value *oz_t_get_text(const t_map *, const char *key, size_t n);
OZ_MUST oz_status oz_t_from_node(t_run *, const oz_node *, t_value *);
OZ_MUST oz_status oz_t_to_list(t_run *, const t_value *, t_value *); /* what a for loop goes over */
OZ_MUST oz_status oz_t_print(t_run *, oz_sb *, const t_value *);     /* str() */
OZ_MUST oz_status oz_t_json(t_run *, oz_sb *, const t_value *, int indent, int level);
OZ_MUST oz_status oz_t_string(t_run *, const t_value *, t_value *); /* str() as a value */
OZ_MUST oz_status oz_t_take(t_run *, oz_sb *, t_value *);           /* the builder's text, into the arena; frees it */
int64_t oz_t_characters(const char *, size_t);
OZ_MUST oz_status oz_t_item(t_run *, const t_value *, const t_value *index, t_value *);
OZ_MUST oz_status oz_t_slice(t_run *, const t_value *, const t_value at[3], t_value *);
OZ_MUST oz_status oz_t_attribute(t_run *, const t_value *, const char *name, size_t n, t_value *);
OZ_MUST oz_status oz_t_binary(t_run *, t_op, const t_value *, const t_value *, t_value *);

/* names that templates call */
const t_value *oz_t_arg(const t_args *, int place, const char *name); /* NULL: not given */
OZ_MUST oz_status oz_t_filter(t_run *, const char *name, size_t n, const t_value *, const t_args *, t_value *);
OZ_MUST oz_status oz_t_test(t_run *, const char *name, size_t n, const t_value *, const t_args *, bool *);
OZ_MUST oz_status oz_t_method(t_run *, const t_value *, const char *name, size_t n, const t_args *, t_value *);
OZ_MUST oz_status oz_t_function(t_run *, int function, const t_args *, t_value *);
int oz_t_function_named(const char *name, size_t n); /* -1: none */
bool oz_t_makes_map(int function);                   /* namespace, dict */
/* shared by filters and methods of the same name */
OZ_MUST oz_status oz_t_strip(t_run *, const t_value *, const t_value *chars, bool left, bool right, t_value *);
OZ_MUST oz_status oz_t_case(t_run *, const t_value *, int how, t_value *); /* 'u'pper 'l'ower 't'itle 'c'apitalize */
OZ_MUST oz_status oz_t_replace(t_run *, const t_value *, const t_value *from, const t_value *to, int64_t count, t_value *);
OZ_MUST oz_status oz_t_join(t_run *, const t_value *list, const t_value *between, t_value *);
OZ_MUST oz_status oz_t_items(t_run *, const t_value *, int what, t_value *); /* 'i'tems 'k'eys 'v'alues */
#endif

/* core/text/template.c: chat templates: finding a model's, parsing, rendering. */
#include "core/text/template.h"

static const char no_template[] = "give the prompt as plain text";

oz_status oz_template_parse(oz_template **out, const char *source, size_t bytes, const char *file)
{
    *out = NULL;
    oz_template *t = oz_zalloc(1, sizeof *t);
    t_tokens tokens = {0};
    if (!t) return OZ_ERR_NOMEM;
    oz_status s = oz_arena_new(&t->arena, 0);
    if (!s) {
        char *copy = oz_arena_alloc(t->arena, bytes + 1), *name = oz_arena_strdup(t->arena, file);
        if (!copy || !name) s = OZ_ERR_NOMEM;
        if (!s && bytes) memcpy(copy, source, bytes);
        if (!s) copy[bytes] = 0;
        t->source = copy, t->file = name;
    }
    if (!s) s = oz_template_lex(&tokens, source, bytes, t->file, t->arena);
    if (!s) s = oz_template_build(&t->root, &tokens, t->file, t->arena);
    oz_free(tokens.token);
    if (s) {
        oz_template_free(t);
        return s;
    }
    *out = t;
    return OZ_OK;
}

void oz_template_free(oz_template *t)
{
    if (!t) return;
    oz_arena_free(t->arena);
    oz_free(t);
}

const char *oz_template_source(const oz_template *t) { return t->source; }

/* The template of tokenizer_config.json: a text, or a list of {name, template} of which "default" is taken. */
static oz_status from_config(oz_template **out, const char *json, size_t bytes, const char *file)
{
    oz_arena *arena;
    oz_node *root = NULL;
    OZ_TRY(oz_arena_new(&arena, 0));
    oz_status s = oz_json_parse(&root, json, bytes, file, arena);
    const oz_node *n = s ? NULL : oz_node_get(root, "chat_template");
    for (int i = 0; n && n->kind == OZ_NODE_LIST; i++) {
        const oz_node *x = oz_node_at(n, i);
        if (!x || !strcmp(oz_node_text(oz_node_get(x, "name"), ""), "default")) n = oz_node_get(x, "template");
    }
    if (!s && (!n || n->kind != OZ_NODE_TEXT))
        s = oz_fail(OZ_ERR_KEY, no_template, "%s: the model has no chat template (key \"chat_template\")", file);
    if (!s) s = oz_template_parse(out, n->text, n->length, file);
    oz_arena_free(arena);
    return s;
}

oz_status oz_template_open(oz_template **out, const oz_ckpt *c)
{
    *out = NULL;
    if (oz_ckpt_kind_of(c) == OZ_CKPT_GGUF) {
        size_t n = 0;
        const oz_gguf_value *v = oz_ckpt_meta(c, "tokenizer.chat_template");
        const char *s = v ? oz_gguf_string(v, &n) : NULL;
        if (!s)
            return oz_fail(OZ_ERR_KEY, no_template, "%s: the model has no chat template (key \"tokenizer.chat_template\")",
                           oz_ckpt_path(c));
        return oz_template_parse(out, s, n, oz_ckpt_path(c));
    }
    static const char *const names[] = {"chat_template.jinja", "tokenizer_config.json"};
    for (int i = 0; i < 2; i++) {
        char *path = oz_path_join(oz_ckpt_path(c), names[i]), *text = NULL;
        size_t bytes = 0;
        if (!path) return OZ_ERR_NOMEM;
        if (!oz_path_exists(path)) {
            oz_free(path);
            continue;
        }
        oz_status s = oz_ckpt_side_file(c, names[i], &text, &bytes);
        if (!s) s = i ? from_config(out, text, bytes, path) : oz_template_parse(out, text, bytes, path);
        oz_free(text);
        oz_free(path);
        return s;
    }
    return oz_fail(OZ_ERR_KEY, no_template, "%s: the model has no chat template (neither chat_template.jinja nor tokenizer_config.json)",
                   oz_ckpt_path(c));
}

oz_status oz_template_render(const oz_template *t, const oz_node *vars, char **text, size_t *bytes)
{
    oz_sb out = {0};
    t_scope top = {0};
    t_run r = {.file = t->file, .out = &out, .scope = &top, .line = 1};
    *text = NULL, *bytes = 0;
    OZ_TRY(oz_arena_new(&r.arena, 0));
    oz_status s = OZ_OK;
    for (int i = 0; vars && vars->kind == OZ_NODE_MAP && i < vars->n && !s; i++) {
        t_value v;
        s = oz_t_from_node(&r, vars->item[i].value, &v);
        if (!s) s = oz_t_set(&r, &top, vars->item[i].key, strlen(vars->item[i].key), v);
    }
    if (!s) s = oz_t_body(&r, t->root);
    if (!s) s = oz_t_step(&r); /* the bounds once more, for what was printed last */
    oz_arena_free(r.arena);
    if (s == OZ_ERR_NOMEM && r.full) s = OZ_ERR_RANGE; /* its own bound, not the machine's */
    if (s) {
        oz_free(out.s);
        return s;
    }
    return oz_sb_end(&out, text, bytes);
}

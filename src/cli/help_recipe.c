/* help_recipe.c: `ounce help recipes` and `ounce help recipe NAME`: the shipped recipes and what one of them does, all options resolved. */
#include "cli/cli.h"
#include "ounce/recipe.h"

static int list(cli *c, char *const *names)
{
    static const char *const head[] = {"recipe", "does", "paper"};
    oz_node *o = oz_node_map(c->arena), *all = oz_node_list(c->arena);
    cli_table *table = cli_table_new(c->arena, "lll", head);
    if (!o || !all || !table) return cli_failed(c, OZ_ERR_NOMEM);
    for (int i = 0; names[i]; i++) {
        oz_recipe *r = NULL;
        oz_status s = oz_recipe_open(&r, names[i], NULL, 0);
        if (s) return cli_failed(c, s);
        oz_node *item = oz_node_map(c->arena);
        s = item ? oz_node_put(item, "name", oz_node_of_text(c->arena, names[i]), c->arena) : OZ_ERR_NOMEM;
        if (!s) s = oz_node_put(item, "brief", oz_node_of_text(c->arena, r->title ? r->title : ""), c->arena);
        if (!s) s = oz_node_push(all, item, c->arena);
        cli_table_cell(table, "%s", names[i]);
        cli_table_cell(table, "%s", r->title ? r->title : "");
        cli_table_cell(table, "%s", r->paper ? r->paper : "");
        oz_recipe_free(r);
        if (s) return cli_failed(c, s);
    }
    if (c->json) return cli_print_json(c, oz_node_put(o, "recipes", all, c->arena) ? NULL : o);
    cli_table_print(table, stdout, 0);
    return cli_done(c);
}

static int show(cli *c, const char *name)
{
    oz_recipe *r = NULL;
    oz_status s = oz_recipe_open(&r, name, NULL, 0);
    if (s) return cli_refused(c, s);
    int code;
    oz_node *resolved = oz_recipe_resolved(r, c->arena);
    char *text = resolved && !c->json ? oz_yaml_print(resolved) : NULL;
    if (c->json) {
        code = cli_print_json(c, resolved);
    } else if (!text) {
        code = cli_failed(c, OZ_ERR_NOMEM);
    } else {
        printf("recipe %s: %s\n  file   %s\n", name, r->title ? r->title : "", r->file);
        if (r->paper) printf("  paper  %s\n", r->paper);
        printf("\nwith every option resolved (change one with --set PASS.KEY=VALUE):\n\n%s", text);
        code = cli_done(c);
    }
    oz_free(text);
    oz_recipe_free(r);
    return code;
}

int cli_help_recipe(cli *c, const char *name)
{
    if (name) return show(c, name);
    char **names = NULL;
    oz_status s = oz_recipe_names(&names);
    if (s) return cli_failed(c, s);
    int code = list(c, names);
    oz_free(names);
    return code;
}

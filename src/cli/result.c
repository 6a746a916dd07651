/* result.c: how a subcommand ends: messages on stderr, one JSON object on stdout, the attention list, the exit status. */
#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int put_json(cli *c, const oz_node *node)
{
    char *text = oz_json_print(node, 2);
    if (!text) return -1;
    cli_term_clear(c->term);
    fputs(text, stdout);
    if (!*text || text[strlen(text) - 1] != '\n') fputc('\n', stdout);
    oz_free(text);
    c->printed = true;
    return 0;
}

/* A failing command with --json says so on stdout too, so that there is exactly one object whatever happened. */
static void put_error(cli *c, oz_status status, const char *message, const char *hint)
{
    oz_node *error = oz_node_map(c->arena), *node = oz_node_map(c->arena);
    if (!error || !node) return;
    if (oz_node_put(error, "status", oz_node_of_text(c->arena, oz_status_name(status)), c->arena) ||
        oz_node_put(error, "message", oz_node_of_text(c->arena, message), c->arena) ||
        oz_node_put(error, "hint", oz_node_of_text(c->arena, hint), c->arena) || oz_node_put(node, "error", error, c->arena))
        return;
    put_json(c, node);
}

static int say(cli *c, oz_status status, int code)
{
    oz_saved_error saved;
    oz_error_save(&saved, status);
    cli_term_clear(c->term);
    bool color = isatty(STDERR_FILENO) && !getenv("NO_COLOR");
    const char *name = c->command ? c->command->entry.name : "";
    /* Messages of the parser already begin with the program's name. */
    bool named = !strncmp(saved.message, "ounce ", 6);
    if (named)
        fprintf(stderr, "%s%s%s\n", color ? "\033[31m" : "", saved.message, color ? "\033[0m" : "");
    else
        fprintf(stderr, "%sounce %s: %s%s\n", color ? "\033[31m" : "", name, *saved.message ? saved.message : oz_status_name(status),
                color ? "\033[0m" : "");
    if (*saved.hint) fprintf(stderr, "  %s\n", saved.hint);
    if (c->json && !c->printed && c->arena) put_error(c, status, saved.message, saved.hint);
    return code;
}

int cli_failed(cli *c, oz_status status) { return say(c, status, status == OZ_CANCELLED ? CLI_EXIT_INTERRUPTED : CLI_EXIT_FAILED); }

int cli_refused(cli *c, oz_status status)
{
    return say(c, status, status == OZ_CANCELLED ? CLI_EXIT_INTERRUPTED : status == OZ_ERR_NOMEM ? CLI_EXIT_FAILED : CLI_EXIT_USAGE);
}

int cli_done(cli *c) { return c->attention ? CLI_EXIT_ATTENTION : CLI_EXIT_OK; }

int cli_print_json(cli *c, const oz_node *node)
{
    if (!node || put_json(c, node)) return cli_failed(c, OZ_ERR_NOMEM);
    return cli_done(c);
}

const oz_node *cli_attention(const cli *c)
{
    static const oz_node none = {.kind = OZ_NODE_LIST};
    return c->attention_list ? c->attention_list : &none;
}

void cli_attend(cli *c, const char *kind, const char *tensor, const char *message)
{
    bool accepted = false;
    for (int i = 0; i < c->naccept; i++) accepted |= !strcmp(c->accept[i], kind) || !strcmp(c->accept[i], "all");
    if (!accepted) c->attention++;
    cli_note(c, "attention: %s: %s%s%s%s", kind, tensor ? tensor : "", tensor ? ": " : "", message, accepted ? " (accepted)" : "");
    oz_arena *a = c->arena;
    if (!c->attention_list) c->attention_list = oz_node_list(a);
    oz_node *item = oz_node_map(a);
    /* Out of memory here loses a line of the report, not the exit status. */
    if (!item || !c->attention_list || oz_node_put(item, "kind", oz_node_of_text(a, kind), a) ||
        oz_node_put(item, "tensor", tensor ? oz_node_of_text(a, tensor) : oz_node_new(a, OZ_NODE_NULL), a) ||
        oz_node_put(item, "message", oz_node_of_text(a, message), a) || oz_node_push(c->attention_list, item, a))
        cli_note(c, "attention: the report lacks an item: %s", oz_message());
}

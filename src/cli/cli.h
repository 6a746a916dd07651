/* cli.h: the frame every subcommand stands in.
 *
 * To add a subcommand (smallest example: machine.c):
 *   1. src/cli/NAME.c ends with `const cli_command cli_NAME = {...}`: an oz_entry of kind "command" whose option table lies over a private
 *      struct, which common options it takes, and run().  Dashes of a name are underscores in the identifier.
 *   2. one word in list.h, sorted.
 * Help, man page, completions, parsing, bounds, nearest words, --json and exit codes follow from the declaration.
 *
 * Options.  A table is the same oz_option table techniques use.  `top_k` is spelled --top-k (--top_k is read too); `--key value` and
 * `--key=value` both work; `.word = "p"` gives the short name -p; a FLAG takes no value; `.unit` names the value in help ("FILE");
 * a TREE option may be repeated and gives a list of texts (cli_texts).
 *
 * run() returns an exit status, made by one of:
 *   return cli_done(c);                 0, or 3 when cli_attend was called with a kind that --accept does not name
 *   return cli_failed(c, status);       prints this thread's message and hint; 1, or 130 when cancelled
 *   return cli_refused(c, status);      the same, 2: the command line or recipe is wrong
 * stdout is the result alone: printf for people when !c->json, else one cli_print_json().  Messages and progress go to stderr through
 * c->run (give it to the library) and cli_note(). */
#ifndef OUNCE_CLI_H
#define OUNCE_CLI_H
#include "ounce/io.h"
#include "ounce/machine.h"

#include <stdio.h>

/* Which common options a command takes; --json, --quiet, --verbose, --help belong to all. */
enum {
    CLI_WORK = 1,    /* --threads --memory --seed; c->run.pool is there */
    CLI_OUT = 2,     /* -o OUT, --force */
    CLI_RECIPE = 4,  /* --set --tensor --layers */
    CLI_JOB = 8,     /* --resume --dry-run */
    CLI_ACCEPT = 16, /* --accept */
    CLI_ANY_ISA = 32 /* looks at OUNCE_ISA itself (bench); all other commands fail when this CPU lacks the level */
};

enum { CLI_EXIT_OK = 0, CLI_EXIT_FAILED = 1, CLI_EXIT_USAGE = 2, CLI_EXIT_ATTENTION = 3, CLI_EXIT_INTERRUPTED = 130 };

typedef struct cli_command cli_command;
typedef struct cli_term cli_term;
typedef struct cli {
    const cli_command *command;
    void *opt;              /* the command's own options, filled and checked */
    const char *const *arg; /* positional arguments, NULL after the last */
    int narg;
    bool json, quiet, verbose;
    /* common options the command takes; at their defaults otherwise */
    const char *out; /* NULL: none given */
    bool force, resume, dry_run;
    int layer0, layer1; /* --layers A-B, inclusive; layer1 < 0: all */
    uint64_t seed;
    bool has_seed;
    int threads; /* 0: all */
    const char *const *set, *const *tensor, *const *accept;
    int nset, ntensor, naccept;
    const char *fault; /* test builds: --fault alloc:N, write:N, read:N are set up by the frame; other kinds are the command's */
    oz_run run;        /* cancel (SIGINT), progress, log, pool, memory */
    oz_arena *arena;   /* lives as long as the command */
    cli_term *term;
    bool printed;  /* the JSON object is out */
    int attention; /* not accepted so far */
    oz_node *attention_list;
} cli;

struct cli_command {
    oz_entry entry;         /* kind "command" */
    const char *usage;      /* positional arguments as help shows them: "MODEL [TEXT]" */
    int min_args, max_args; /* max_args < 0: any number */
    uint32_t takes;
    const char *details;  /* paragraphs separated by an empty line: help and man page; may be NULL */
    const char *json;     /* the keys of --json, one "key  meaning" a line; NULL: the command has no --json */
    const char *examples; /* one command line a line; may be NULL */
    int (*run)(cli *);
};

const cli_command *const *cli_commands(int *n); /* list.h, sorted */

/* ---- results ---- */
int cli_done(cli *);
int cli_failed(cli *, oz_status);
int cli_refused(cli *, oz_status);
/* The one JSON object; call at most once.  node may be NULL (out of memory while it was built): then cli_failed. */
int cli_print_json(cli *, const oz_node *);
/* Adds to the attention list (exit 3 unless its kind is accepted), and says it on stderr. tensor may be NULL. */
void cli_attend(cli *, const char *kind, const char *tensor, const char *message);
const oz_node *cli_attention(const cli *); /* [{kind, tensor, message}] for the result object */

/* ---- arguments ---- */
/* Fills c (command, opt, arg ...) from argv[0..argc) after the subcommand's name. OZ_ERR_KEY / RANGE with a message on a wrong line. *help:
 * --help was seen. */
oz_status cli_parse(cli *, int argc, char **argv, bool *help);
/* Own and taken common options, in help order; returns how many, at most `most`; *own: how many of them are the command's. */
int cli_options(const cli_command *, const oz_option **out, int most, int *own);
void cli_option_spelling(const oz_option *, char *out, size_t size);   /* "-o, --output OUT" */
const char *cli_value_name(const oz_option *, char *out, size_t size); /* "OUT"; "" for flags */
const char *const *cli_texts(cli *, const oz_node *list, int *n);      /* a repeated option; NULL on failure (n = 0 gives an empty list) */
/* "4.25bpw" sets *bpw, "900MB" sets *bytes; the other is 0. */
oz_status cli_parse_budget(const char *text, double *bpw, uint64_t *bytes);

/* ---- terminal ---- */
cli_term *cli_term_new(bool quiet, bool verbose);
void cli_term_free(cli_term *);  /* clears the bar */
void cli_term_clear(cli_term *); /* takes the bar away, before something is printed on stdout */
void cli_term_progress(void *term, const char *what, double done, double of);
void cli_term_log(void *term, oz_log_level, const char *text);
void cli_note(cli *, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* a line on stderr, not with --quiet */
const char *cli_bytes(cli *, uint64_t bytes);                                     /* "1.45 GiB", in the arena; "?" when out of memory */

/* ---- tables ---- */
/* Columns are aligned over all rows: align is one of 'l', 'r' a column ("lrr").  Cells are added left to right, row by row. */
typedef struct cli_table cli_table;
cli_table *cli_table_new(oz_arena *, const char *align, const char *const *head); /* head NULL: none; NULL on failure */
void cli_table_cell(cli_table *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void cli_table_print(const cli_table *, FILE *, int indent);

/* machine_kernels.c: appends {weights, inputs, kernel} to list and a row to table, for each usual pair of formats */
oz_status cli_machine_kernels(cli *, oz_node *list, cli_table *table);

/* ---- help ---- */
void cli_help_commands(FILE *);
void cli_help_command(const cli_command *, FILE *);
int cli_help_recipe(cli *, const char *name);                   /* help_recipe.c; name NULL: the list */
void cli_wrap(FILE *, const char *text, int indent, int width); /* paragraphs; continued lines start at indent */
void cli_man_page(const cli_command *, FILE *);                 /* NULL: ounce(1) */
void cli_completion(const char *shell, FILE *);                 /* bash, zsh, fish */

/* Everything that has an oz_entry, by kind. */
typedef struct cli_kind {
    const char *name, *plural;                           /* "solver", "solvers" */
    const oz_entry *(*entry)(int i);                     /* NULL when i is past the end */
    bool (*needs)(int i, const char *what, bool *known); /* may be NULL: nothing of this kind needs anything */
} cli_kind;
const cli_kind *cli_kinds(int *n);
#endif

/* ounce/option.h: how a technique declares itself (CONTRIBUTING.md).
 *
 * One constant struct per technique embeds an oz_entry: kind, name, one line, paper, card, and a table of options over
 * a private struct.  One parser and one printer walk these tables for recipes, --set, format strings, help, man pages,
 * completions, "nearest key" errors, the resolved record of the output and the resume fingerprint. */
#ifndef OUNCE_OPTION_H
#define OUNCE_OPTION_H
#include "ounce/base.h"

typedef struct oz_node oz_node; /* a YAML or JSON value, see ounce/io.h */

typedef enum {
    OZ_INT,  /* int      */
    OZ_REAL, /* double   */
    OZ_FLAG, /* bool     */
    OZ_ENUM, /* int, index into choices "a|b|c" */
    OZ_TEXT, /* const char *, in the arena given to the parser; NULL when the default is empty */
    OZ_TREE  /* const oz_node *: the technique reads it (lists, maps); NULL when absent */
} oz_option_type;

typedef struct oz_option {
    const char *name; /* snake_case; NULL ends the table */
    oz_option_type type;
    size_t at;            /* offsetof in the options struct */
    double init;          /* default of INT, REAL, FLAG, ENUM (an ENUM of -1 has none and must be given) */
    const char *init_text;/* default of TEXT */
    double min, max;      /* INT, REAL: inclusive bounds (min == max == 0: none) */
    const char *choices;  /* ENUM: "identity|reverse|act" */
    const char *unit;     /* "columns", "of mean diag H" */
    const char *brief;    /* one sentence; required */
    const char *was;      /* an older name, still read, never written */
    const char *word;     /* formats: how the dotted word of the format string spells it, e.g. "asym"; a FLAG is set by its word,
                             an INT by word + digits ("k256"), an ENUM by the choice itself */
} oz_option;

typedef struct oz_entry {
    const char *kind; /* "solver", "format", "fit", "transform", "allocate", "sidecar", "verb", "command", ... */
    const char *name;
    const char *brief; /* one line */
    const char *paper; /* "arXiv:2210.17323", or NULL */
    const char *card;  /* slug */
    const oz_option *options; /* NULL: none */
    size_t options_size;
} oz_entry;

/* Fills *opt (options_size bytes) with the defaults. */
void oz_options_init(const oz_entry *, void *opt);
/* Finds an option by name or old name; NULL when there is none. */
const oz_option *oz_option_find(const oz_entry *, const char *name);
/* Sets one option from text ("0.01", "act", "true").  `where` ("recipes/mine.yaml:9: pass \"weights\"") begins every message.
 * Unknown name: OZ_ERR_KEY naming the nearest; out of bounds: OZ_ERR_RANGE with bounds and unit. */
OZ_MUST oz_status oz_option_set(const oz_entry *, void *opt, const char *name, const char *text, const char *where, oz_arena *);
/* The same from a parsed value (scalars go through oz_option_set; TREE options keep the node; a node for a non-TREE option must be scalar). */
OZ_MUST oz_status oz_option_set_node(const oz_entry *, void *opt, const char *name, const oz_node *, const char *where, oz_arena *);
/* Value as text, shortest form that parses back to the same value; in the arena. */
char *oz_option_text(const oz_option *, const void *opt, oz_arena *);
bool oz_option_is_default(const oz_option *, const void *opt);
/* The unknown-name error with the nearest of a list of entries' names. what: "solver"; where may be NULL. */
oz_status oz_unknown_name(const char *what, const char *name, const oz_entry *const *entries, int n, const char *where);
/* The help text of one entry (what `ounce help solver gptq` prints): brief, paper, a table of options. Caller frees with oz_free. */
char *oz_entry_help(const oz_entry *);
#endif

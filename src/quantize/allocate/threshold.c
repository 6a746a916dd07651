/* threshold.c: walks a unit's candidate formats from cheap to dear while the next one pays (card finequant, C; arXiv:2308.09723).
 *
 * v_i is a candidate's measure (cost).  `ratio`: accept i+1 while v_{i+1} <= alpha v_i, with a look-ahead of one: also accept i+2 when
 * v_{i+2} <= alpha^2 v_i.  `absolute`: the first i with v_i <= limit, else the last.  Every unit is decided alone: there is no budget. */
#include "ounce/quantize.h"

enum { RATIO, ABSOLUTE };
typedef struct threshold_options {
    int rule;
    double alpha, limit;
} threshold_options;

#define AT(f) offsetof(threshold_options, f)
static const oz_option options[] = {
    {.name = "rule",
     .type = OZ_ENUM,
     .at = AT(rule),
     .choices = "ratio|absolute",
     .brief = "compare a candidate with the one before, or with a limit"},
    {.name = "alpha",
     .type = OZ_REAL,
     .at = AT(alpha),
     .init = 0.8,
     .min = 0,
     .max = 1,
     .brief = "rule ratio: a finer candidate is taken while its measure is at most alpha times the coarser one's"},
    {.name = "limit",
     .type = OZ_REAL,
     .at = AT(limit),
     .init = 0,
     .min = 0,
     .max = 1e300,
     .brief = "rule absolute: the first candidate whose measure is at most this is taken"},
    {0}};

static const char *refuses(const void *opt, bool has_budget)
{
    (void)opt;
    return has_budget ? "a threshold decides every linear alone and cannot meet a budget; leave the budget out, or set alpha" : NULL;
}

/* The next candidate after i that is another format: one that stores no more bits is the same thing (a group as long as the row), or -1. */
static int next(const oz_unit *u, int i)
{
    for (int k = i + 1; k < u->n; k++)
        if (u->c[k].bits > u->c[i].bits) return k;
    return -1;
}

static int by_ratio(const oz_unit *u, double alpha)
{
    for (int i = 0;;) {
        int one = next(u, i), two = one < 0 ? -1 : next(u, one);
        if (one >= 0 && u->c[one].cost <= alpha * u->c[i].cost)
            i = one;
        else if (two >= 0 && u->c[two].cost <= alpha * alpha * u->c[i].cost)
            i = two;
        else
            return i;
    }
}

static int by_limit(const oz_unit *u, double limit)
{
    for (int i = 0; i < u->n; i++)
        if (u->c[i].cost <= limit) return i;
    return u->n - 1;
}

static oz_status allocate(const void *opt, oz_unit *units, int n, double budget_bits, oz_run *run)
{
    const threshold_options *o = opt;
    (void)run;
    if (budget_bits > 0) return oz_fail(OZ_ERR_BUDGET, NULL, "allocate threshold: %s", refuses(opt, true));
    for (int k = 0; k < n; k++) {
        oz_unit *u = &units[k];
        if (u->n < 1) return oz_fail(OZ_ERR_RANGE, "give a list of formats", "allocate threshold: %s has no candidate formats", u->name);
        u->chosen = o->rule == RATIO ? by_ratio(u, o->alpha) : by_limit(u, o->limit);
    }
    return OZ_OK;
}

const oz_allocator oz_allocator_threshold = {.entry = {.kind = "allocate",
                                                       .name = "threshold",
                                                       .paper = "arXiv:2308.09723",
                                                       .card = "finequant",
                                                       .brief = "takes finer formats as long as each step pays enough",
                                                       .options = options,
                                                       .options_size = sizeof(threshold_options)},
                                             .refuses = refuses,
                                             .allocate = allocate};

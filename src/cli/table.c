/* table.c: text in aligned columns. Width is counted in characters of UTF-8; the last column is not padded. */
#include "cli/cli.h"

#include <string.h>

#define MOST_COLUMNS 16

typedef struct row {
    const char *cell[MOST_COLUMNS];
    struct row *next;
} row;

struct cli_table {
    oz_arena *arena;
    const char *align;
    int columns, filled; /* of the last row */
    row *first, *last;
    bool failed;
};

static int width_of(const char *text)
{
    int n = 0;
    for (; *text; text++) n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

cli_table *cli_table_new(oz_arena *arena, const char *align, const char *const *head)
{
    cli_table *t = oz_arena_zalloc(arena, sizeof *t);
    if (!t) return NULL;
    t->arena = arena;
    t->align = align;
    t->columns = (int)strlen(align) < MOST_COLUMNS ? (int)strlen(align) : MOST_COLUMNS;
    t->filled = t->columns;
    for (int j = 0; head && j < t->columns; j++) cli_table_cell(t, "%s", head[j]);
    return t;
}

void cli_table_cell(cli_table *t, const char *fmt, ...)
{
    if (t->failed) return;
    if (t->filled == t->columns) {
        row *r = oz_arena_zalloc(t->arena, sizeof *r);
        if (!r) {
            t->failed = true;
            return;
        }
        if (t->last)
            t->last->next = r;
        else
            t->first = r;
        t->last = r;
        t->filled = 0;
    }
    char text[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    const char *copy = oz_arena_strdup(t->arena, text);
    if (!copy) t->failed = true;
    t->last->cell[t->filled++] = copy;
}

void cli_table_print(const cli_table *t, FILE *out, int indent)
{
    if (t->failed) {
        fprintf(out, "(out of memory while a table was made)\n");
        return;
    }
    int width[MOST_COLUMNS] = {0};
    for (const row *r = t->first; r; r = r->next)
        for (int j = 0; j < t->columns && r->cell[j]; j++)
            if (width_of(r->cell[j]) > width[j]) width[j] = width_of(r->cell[j]);
    for (const row *r = t->first; r; r = r->next) {
        fprintf(out, "%*s", indent, "");
        for (int j = 0; j < t->columns && r->cell[j]; j++) {
            int pad = width[j] - width_of(r->cell[j]);
            bool last = true; /* nothing but empty cells follow */
            for (int k = j + 1; k < t->columns && r->cell[k]; k++) last = last && !*r->cell[k];
            if (t->align[j] == 'r')
                fprintf(out, "%*s%s", pad, "", r->cell[j]);
            else
                fprintf(out, "%s%*s", r->cell[j], last ? 0 : pad, "");
            if (last) break;
            fputs("  ", out);
        }
        fputc('\n', out);
    }
}

/* Shared by the files of the recipe room. */
#ifndef OUNCE_RECIPE_INTERNAL_H
#define OUNCE_RECIPE_INTERNAL_H
#include "ounce/recipe.h"

/* override.c: gives every pass of the tree its name, then applies "pass.key=value". */
oz_status oz_recipe_name_passes(oz_node *tree, const char *file, oz_arena *);
oz_status oz_recipe_apply_sets(oz_node *tree, const char *file, const char *const *set, int nset, oz_arena *);
/* passes.c: the option tables a pass is read through; NULL-terminated (at most 5). */
void oz_pass_tables(const oz_pass *, const oz_entry *entry[6], void *opt[6]);
oz_status oz_pass_read(oz_pass *, const oz_node *, const char *file, oz_arena *);
/* Whether `where` (a text or a list) covers each linear: chosen[i] |= 1. NULL means all. */
oz_status oz_where_select(const oz_arch *, const oz_node *where, uint8_t *chosen, const char *context);

#endif

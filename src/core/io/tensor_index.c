/* core/io/tensor_index.c: tensors by name: pointers sorted once, found by halving.  Names come from files, so a table whose
 * cost depends on chosen names (a hash) is avoided. */
#include "core/io/io_internal.h"
#include <stdlib.h>
#include <string.h>

int64_t oz_tensor_count(const oz_tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++) n *= t->shape[i]; /* the parsers made sure that this fits */
    return n;
}

static int by_name(const void *a, const void *b)
{
    const oz_tensor *x = *(const oz_tensor *const *)a, *y = *(const oz_tensor *const *)b;
    int order = strcmp(x->name, y->name);
    return order ? order : (x > y) - (x < y);
}

oz_status oz_tensor_index(const oz_tensor *t, int n, oz_arena *arena, const oz_tensor ***index, const oz_tensor **twice)
{
    const oz_tensor **p = oz_arena_alloc(arena, (size_t)(n ? n : 1) * sizeof *p);
    if (!p) return OZ_ERR_NOMEM;
    for (int i = 0; i < n; i++) p[i] = &t[i];
    qsort(p, (size_t)n, sizeof *p, by_name);
    *index = p;
    *twice = NULL;
    for (int i = 1; i < n && !*twice; i++)
        if (!strcmp(p[i - 1]->name, p[i]->name)) *twice = p[i];
    return OZ_OK;
}

const oz_tensor *oz_tensor_lookup(const oz_tensor *const *index, int n, const char *name)
{
    for (int a = 0, b = n; a < b;) {
        int m = a + (b - a) / 2, order = strcmp(name, index[m]->name);
        if (order == 0) return index[m];
        if (order < 0)
            b = m;
        else
            a = m + 1;
    }
    return NULL;
}

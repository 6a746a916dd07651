/* tests/kernel/guard.h: memory that ends (or begins) exactly at a page nobody may touch, and the instruction-set levels of this CPU. */
#ifndef OUNCE_TEST_GUARD_H
#define OUNCE_TEST_GUARD_H
#include "number/kernel/kernel.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

typedef struct guarded {
    void *p; /* `bytes` of use */
    void *map;
    size_t length;
} guarded;

/* at_end: one byte past the last faults; else one byte before the first does. */
static inline guarded guarded_new(size_t bytes, int at_end)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), body = (bytes + page - 1) / page * page + (bytes ? 0 : page);
    guarded g = {.length = body + 2 * page};
    g.map = mmap(NULL, g.length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(g.map != MAP_FAILED);
    char *base = g.map;
    assert_int_equal(mprotect(base, page, PROT_NONE), 0);
    assert_int_equal(mprotect(base + page + body, page, PROT_NONE), 0);
    g.p = at_end ? base + page + body - bytes : base + page;
    return g;
}
static inline void guarded_free(guarded *g) { munmap(g->map, g->length); }

static inline guarded guarded_copy(const void *from, size_t bytes, int at_end)
{
    guarded g = guarded_new(bytes, at_end);
    memcpy(g.p, from, bytes);
    return g;
}

/* Tables of every level this CPU supports; returns how many. */
static inline int levels_here(oz_kernels *table, oz_isa *level)
{
    int n = 0;
    for (int i = 0; i < OZ_ISA_COUNT; i++)
        if (oz_cpu_isa() & OZ_ISA_BIT(i)) {
            level[n] = (oz_isa)i;
            oz_kernels_fill(&table[n++], oz_isa_builds_on((oz_isa)i));
        }
    return n;
}

static inline uint64_t next_random(uint64_t *s) { return oz_rng_u64((oz_rng){17, 4}, (*s)++); }
static inline float next_normal(uint64_t *s) { return (float)oz_rng_normal((oz_rng){17, 5}, (*s)++); }
#endif

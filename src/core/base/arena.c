/* arena.c: a list of chunks; objects are cut from the newest and freed together, or rewound to a mark.
 *
 * Chunks double up to 64 MiB.  Rewinding keeps the chunks after the mark and uses them again in order, so scratch that is
 * rewound after each piece of work stops allocating after the first.  Every object is 64-byte aligned (a cache line). */
#include "ounce/base.h"

#include <stdio.h>
#include <string.h>

#define ALIGN        64
#define FIRST_CHUNK  ((size_t)16 << 10)
#define LARGEST_STEP ((size_t)64 << 20)

typedef struct chunk {
    struct chunk *next; /* newer */
    size_t size;
    unsigned char *bytes;
} chunk;

struct oz_arena {
    chunk *first, *now; /* objects come from `now`; chunks after it are empty */
    size_t used;        /* of `now` */
    size_t step, total;
};

static chunk *chunk_new(oz_arena *arena, size_t size)
{
    chunk *c = oz_alloc(1, sizeof *c);
    if (!c) return NULL;
    *c = (chunk){.size = size, .bytes = oz_alloc_aligned(size, ALIGN)};
    if (!c->bytes) {
        oz_free(c);
        return NULL;
    }
    arena->total += size;
    return c;
}

oz_status oz_arena_new(oz_arena **out, size_t first_chunk)
{
    *out = NULL;
    oz_arena *arena = oz_zalloc(1, sizeof *arena);
    if (!arena) return OZ_ERR_NOMEM;
    arena->step = first_chunk ? (first_chunk + ALIGN - 1) / ALIGN * ALIGN : FIRST_CHUNK;
    *out = arena;
    return OZ_OK;
}

void oz_arena_free(oz_arena *arena)
{
    if (!arena) return;
    for (chunk *c = arena->first, *next; c; c = next) {
        next = c->next;
        oz_free(c->bytes);
        oz_free(c);
    }
    oz_free(arena);
}

void *oz_arena_alloc(oz_arena *arena, size_t bytes)
{
    size_t need;
    if (!oz_add_size(bytes ? bytes : 1, ALIGN - 1, &need)) {
        oz_fail(OZ_ERR_NOMEM, NULL, "out of memory: %zu bytes asked of an arena", bytes);
        return NULL;
    }
    need = need / ALIGN * ALIGN;
    if (arena->now && arena->now->size - arena->used >= need) {
        void *p = arena->now->bytes + arena->used;
        arena->used += need;
        return p;
    }
    /* The next chunk kept by a rewind, if it is large enough; else a new one is put before it. */
    chunk *next = arena->now ? arena->now->next : arena->first;
    if (!next || next->size < need) {
        size_t size = arena->step > need ? arena->step : need;
        chunk *c = chunk_new(arena, size);
        if (!c) return NULL;
        if (arena->step < LARGEST_STEP) arena->step *= 2;
        c->next = next;
        if (arena->now)
            arena->now->next = c;
        else
            arena->first = c;
        next = c;
    }
    arena->now = next;
    arena->used = need;
    return next->bytes;
}

void *oz_arena_zalloc(oz_arena *arena, size_t bytes)
{
    void *p = oz_arena_alloc(arena, bytes);
    if (p) memset(p, 0, bytes);
    return p;
}

char *oz_arena_strndup(oz_arena *arena, const char *text, size_t n)
{
    size_t len = strnlen(text, n);
    char *copy = oz_arena_alloc(arena, len + 1);
    if (!copy) return NULL;
    memcpy(copy, text, len);
    copy[len] = 0;
    return copy;
}

char *oz_arena_strdup(oz_arena *arena, const char *text) { return oz_arena_strndup(arena, text, strlen(text)); }

char *oz_arena_printf(oz_arena *arena, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    char *text = n < 0 ? NULL : oz_arena_alloc(arena, (size_t)n + 1);
    if (text) vsnprintf(text, (size_t)n + 1, fmt, again);
    va_end(again);
    return text;
}

oz_arena_mark oz_arena_save(oz_arena *arena) { return (oz_arena_mark){arena->now, arena->used}; }

void oz_arena_rewind(oz_arena *arena, oz_arena_mark mark)
{
    arena->now = mark.chunk;
    arena->used = mark.used;
}

size_t oz_arena_bytes(const oz_arena *arena) { return arena->total; }

/* memory.c: checked allocation.  Sizes are multiplied with an overflow check, a failure leaves a message, and in fault builds
 * (-DOUNCE_FAULTS) the n-th allocation, write or read from now can be made to fail so that tests can walk every error path. */
#include "ounce/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef OUNCE_FAULTS
#include <stdatomic.h>
/* Counters of test builds only: 0 is off, n > 0 counts down to the failure. */
static _Atomic int64_t fault_alloc, fault_write, fault_read;

static bool fault_now(_Atomic int64_t *left)
{
    int64_t now = atomic_load_explicit(left, memory_order_relaxed);
    while (now > 0)
        if (atomic_compare_exchange_weak(left, &now, now - 1)) return now == 1;
    return false;
}
void oz_fault_alloc(int64_t nth) { atomic_store(&fault_alloc, nth); }
void oz_fault_write(int64_t nth) { atomic_store(&fault_write, nth); }
void oz_fault_read(int64_t nth) { atomic_store(&fault_read, nth); }
bool oz_fault_write_now(void) { return fault_now(&fault_write); }
bool oz_fault_read_now(void) { return fault_now(&fault_read); }
static bool refuse_alloc(void) { return fault_now(&fault_alloc); }
#else
static bool refuse_alloc(void) { return false; }
#endif

static const char hint[] = "lower --memory or close other programs";

static void *no_memory(size_t n, size_t size)
{
    oz_fail(OZ_ERR_NOMEM, hint, "out of memory: %zu items of %zu bytes", n, size);
    return NULL;
}

bool oz_mul_size(size_t a, size_t b, size_t *out)
{
    if (b && a > SIZE_MAX / b) return false;
    *out = a * b;
    return true;
}

bool oz_add_size(size_t a, size_t b, size_t *out)
{
    if (a > SIZE_MAX - b) return false;
    *out = a + b;
    return true;
}

void *oz_alloc(size_t n, size_t size)
{
    size_t bytes;
    if (!oz_mul_size(n, size, &bytes) || refuse_alloc()) return no_memory(n, size);
    void *p = malloc(bytes ? bytes : 1);
    return p ? p : no_memory(n, size);
}

void *oz_zalloc(size_t n, size_t size)
{
    size_t bytes;
    if (!oz_mul_size(n, size, &bytes) || refuse_alloc()) return no_memory(n, size);
    void *p = calloc(bytes ? bytes : 1, 1);
    return p ? p : no_memory(n, size);
}

void *oz_realloc(void *old, size_t n, size_t size)
{
    size_t bytes;
    if (!oz_mul_size(n, size, &bytes) || refuse_alloc()) return no_memory(n, size);
    void *p = realloc(old, bytes ? bytes : 1);
    return p ? p : no_memory(n, size);
}

void *oz_alloc_aligned(size_t bytes, size_t align)
{
    void *p = NULL;
    if (align < sizeof(void *)) align = sizeof(void *);
    if (refuse_alloc() || posix_memalign(&p, align, bytes ? bytes : 1)) return no_memory(bytes, 1);
    return p;
}

void oz_free(void *p) { free(p); }

char *oz_strndup(const char *text, size_t n)
{
    size_t len = strnlen(text, n);
    char *copy = oz_alloc(len + 1, 1);
    if (!copy) return NULL;
    memcpy(copy, text, len);
    copy[len] = 0;
    return copy;
}

char *oz_strdup(const char *text) { return oz_strndup(text, strlen(text)); }

char *oz_format_text(const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    char *text = n < 0 ? NULL : oz_alloc((size_t)n + 1, 1);
    if (text) vsnprintf(text, (size_t)n + 1, fmt, again);
    va_end(again);
    return text;
}

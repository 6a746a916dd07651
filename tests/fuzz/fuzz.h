/* tests/fuzz/fuzz.h: what a fuzz target shares.  The first byte of an input says which allocation fails (0: none; only in builds
 * with OUNCE_FAULTS), the rest is the file. */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H
#include "core/io/io_internal.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline void fuzz_begin(const uint8_t **data, size_t *size)
{
#ifdef OUNCE_FAULTS
    oz_fault_alloc(*size ? **data : 0);
#endif
    if (*size) ++*data, --*size;
}

/* Allocations work again.  A failure must have left a message. */
static inline void fuzz_end(oz_status status)
{
#ifdef OUNCE_FAULTS
    oz_fault_alloc(0);
#endif
    if (status && !*oz_message()) abort();
    oz_clear_message();
}

/* Reads what a parsed file points to, so that a pointer outside of it is seen. */
static inline void fuzz_touch(const void *p, size_t n)
{
    const volatile uint8_t *b = p;
    if (n) (void)b[0], (void)b[n / 2], (void)b[n - 1];
}
#endif

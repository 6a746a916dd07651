/* number/kernel/dispatch.c: fills the table of cells, once, and counts calls.  The ladder below is the whole of it: every level overwrites
 * what it does better, and `ounce machine` prints which level won each cell. */
#include "number/kernel/cells.h"

#include <pthread.h>
#include <stdatomic.h>

void oz_kernels_fill(oz_kernels *k, uint32_t isa)
{
    oz_cells_portable(k);
#if defined(__x86_64__)
    if (!(isa & OZ_ISA_BIT(OZ_ISA_AVX2))) return;
    oz_cells_avx2(k);
    oz_cells_avx2_fp(k);
    if (isa & OZ_ISA_BIT(OZ_ISA_AVX_VNNI)) oz_cells_avxvnni(k);
    if (!(isa & OZ_ISA_BIT(OZ_ISA_AVX512))) return;
    oz_cells_avx512(k);
    oz_cells_avx512_fp(k);
    if (!(isa & OZ_ISA_BIT(OZ_ISA_AVX512_VNNI))) return;
    oz_cells_avx512vnni(k);
#else
    (void)isa;
#endif
}

/* Filled at the first call and constant from then on (tests that force other levels refill it between products). */
static struct {
    pthread_mutex_t lock;
    _Atomic uint32_t isa; /* 0: not filled; a set of levels is never empty */
    oz_kernels table;
} active = {.lock = PTHREAD_MUTEX_INITIALIZER};

oz_status oz_kernels_active(const oz_kernels **out)
{
    uint32_t isa;
    *out = NULL;
    OZ_TRY(oz_isa_active(&isa));
    if (atomic_load_explicit(&active.isa, memory_order_acquire) != isa) {
        pthread_mutex_lock(&active.lock);
        if (atomic_load_explicit(&active.isa, memory_order_relaxed) != isa) {
            oz_kernels_fill(&active.table, isa);
            atomic_store_explicit(&active.isa, isa, memory_order_release);
        }
        pthread_mutex_unlock(&active.lock);
    }
    *out = &active.table;
    return OZ_OK;
}

static _Atomic uint64_t calls[OZ_CELL_COUNT];

void oz_kernel_count(oz_cell c, uint64_t n) { atomic_fetch_add_explicit(&calls[c], n, memory_order_relaxed); }

const char *oz_cell_name(oz_cell c)
{
    static const char *const name[OZ_CELL_COUNT] = {"dot b2",     "dot b4",    "dot b8",        "act range",    "act quantize", "rows b2",
                                                    "rows b4",    "rows b8",   "expand b2",     "expand b4",    "expand b8",    "dense f16",
                                                    "dense bf16", "dense f32", "attention dot", "attention mix"};
    return (unsigned)c < OZ_CELL_COUNT ? name[c] : "unknown";
}

oz_status oz_kernel_cells(oz_cell_info out[OZ_CELL_COUNT])
{
    const oz_kernels *k;
    OZ_TRY(oz_kernels_active(&k));
    for (int c = 0; c < OZ_CELL_COUNT; c++)
        out[c] = (oz_cell_info){oz_cell_name((oz_cell)c), k->from[c], atomic_load_explicit(&calls[c], memory_order_relaxed)};
    return OZ_OK;
}

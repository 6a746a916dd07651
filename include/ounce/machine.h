/* ounce/machine.h: what this CPU can do.  Levels build on one another (INTERFACES of kernels: src/number/kernel/kernel.h).
 * OUNCE_ISA=LEVEL in the environment allows LEVEL and those it builds on; a level this CPU lacks is an error. */
#ifndef OUNCE_MACHINE_H
#define OUNCE_MACHINE_H
#include "ounce/base.h"

typedef enum {
    OZ_ISA_PORTABLE, OZ_ISA_AVX2, OZ_ISA_AVX_VNNI, OZ_ISA_AVX512, OZ_ISA_AVX512_VNNI, OZ_ISA_AMX,
    OZ_ISA_NEON, OZ_ISA_NEON_DOT, OZ_ISA_I8MM, OZ_ISA_COUNT
} oz_isa;
#define OZ_ISA_BIT(level) (1u << (level))
const char *oz_isa_name(oz_isa);              /* "avx512-vnni" */
oz_status oz_isa_parse(const char *name, oz_isa *);
uint32_t oz_isa_builds_on(oz_isa);            /* bits of the level and all levels below it: avx512-vnni = portable|avx2|avx512|avx512-vnni */
uint32_t oz_cpu_isa(void);                    /* bits this CPU and OS support */
/* The levels in use: oz_cpu_isa masked by OUNCE_ISA.  Fails when OUNCE_ISA is unknown or this CPU lacks it. Read once. */
OZ_MUST oz_status oz_isa_active(uint32_t *bits);
void oz_isa_force(uint32_t bits);             /* tests: replace the active set from now on */

typedef struct oz_machine {
    char cpu[96];
    int cores, threads;
    uint64_t l1d, l2, l3, memory;
    uint32_t isa;
} oz_machine;
void oz_machine_read(oz_machine *);
/* Measured peaks, with the pool's threads; each takes a fraction of a second and is cached for the process. */
typedef struct oz_peaks { double read_gbs, f32_gflops, i8_gops, bf16_gflops; } oz_peaks;
OZ_MUST oz_status oz_machine_peaks(oz_pool *, oz_peaks *);
#endif

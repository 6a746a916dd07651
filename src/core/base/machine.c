/* machine.c: what this CPU and its operating system support, and what OUNCE_ISA allows.
 *
 * x86: CPUID leaf 7 says what the processor has; XCR0 says which register files the system saves (ymm: bits 1-2, zmm: 5-7,
 * tiles: 17-18); tiles also need the system's permission (arch_prctl ARCH_REQ_XCOMP_PERM).  arm64: the auxiliary vector. */
#include "ounce/machine.h"

#include <ctype.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

/* name, and the level directly below; portable is its own base */
static const struct {
    const char *name;
    oz_isa below;
} levels[OZ_ISA_COUNT] = {[OZ_ISA_PORTABLE] = {"portable", OZ_ISA_PORTABLE},
                          [OZ_ISA_AVX2] = {"avx2", OZ_ISA_PORTABLE},
                          [OZ_ISA_AVX_VNNI] = {"avx-vnni", OZ_ISA_AVX2},
                          [OZ_ISA_AVX512] = {"avx512", OZ_ISA_AVX2},
                          [OZ_ISA_AVX512_VNNI] = {"avx512-vnni", OZ_ISA_AVX512},
                          [OZ_ISA_AMX] = {"amx", OZ_ISA_AVX512_VNNI},
                          [OZ_ISA_NEON] = {"neon", OZ_ISA_PORTABLE},
                          [OZ_ISA_NEON_DOT] = {"neon-dot", OZ_ISA_NEON},
                          [OZ_ISA_I8MM] = {"i8mm", OZ_ISA_NEON_DOT}};

const char *oz_isa_name(oz_isa level) { return level >= 0 && level < OZ_ISA_COUNT ? levels[level].name : "unknown"; }

oz_status oz_isa_parse(const char *name, oz_isa *out)
{
    const char *names[OZ_ISA_COUNT + 1];
    for (int i = 0; i < OZ_ISA_COUNT; i++) {
        names[i] = levels[i].name;
        if (!strcmp(name, names[i])) return *out = (oz_isa)i, OZ_OK;
    }
    names[OZ_ISA_COUNT] = NULL;
    static const char hint[] = "levels are portable, avx2, avx-vnni, avx512, avx512-vnni, amx, neon, neon-dot, i8mm";
    int k = oz_nearest(name, names);
    if (k < 0) return oz_fail(OZ_ERR_KEY, hint, "there is no instruction-set level \"%s\"", name);
    return oz_fail(OZ_ERR_KEY, hint, "there is no instruction-set level \"%s\"; nearest is \"%s\"", name, names[k]);
}

uint32_t oz_isa_builds_on(oz_isa level)
{
    uint32_t bits = OZ_ISA_BIT(OZ_ISA_PORTABLE);
    for (; level != OZ_ISA_PORTABLE; level = levels[level].below) bits |= OZ_ISA_BIT(level);
    return bits;
}

#if defined(__x86_64__)
static uint64_t saved_state(void)
{
    uint32_t lo, hi;
    __asm__ __volatile__("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

#define HAS(reg, bit) (((reg) >> (bit)) & 1u)

static uint32_t detect(void)
{
    uint32_t a, b, c, d, isa = OZ_ISA_BIT(OZ_ISA_PORTABLE);
    if (!__get_cpuid(1, &a, &b, &c, &d) || !HAS(c, 27)) return isa; /* 27: OSXSAVE */
    bool fma = HAS(c, 12), f16c = HAS(c, 29), avx = HAS(c, 28);
    uint64_t state = saved_state();
    bool ymm = (state & 0x6) == 0x6, zmm = (state & 0xe6) == 0xe6, tiles = (state & 0x60000) == 0x60000;
    uint32_t b7, c7, d7, a71, b71, c71, d71;
    if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d7)) return isa;
    uint32_t last = a;
    if (!(avx && fma && f16c && HAS(b7, 5) && ymm)) return isa;
    isa |= OZ_ISA_BIT(OZ_ISA_AVX2);
    if (last >= 1 && __get_cpuid_count(7, 1, &a71, &b71, &c71, &d71) && HAS(a71, 4)) isa |= OZ_ISA_BIT(OZ_ISA_AVX_VNNI);
    /* F 16, DQ 17, BW 30, VL 31 */
    if (!(zmm && HAS(b7, 16) && HAS(b7, 17) && HAS(b7, 30) && HAS(b7, 31))) return isa;
    isa |= OZ_ISA_BIT(OZ_ISA_AVX512);
    if (!(HAS(c7, 11) && HAS(c7, 1))) return isa; /* VNNI, VBMI */
    isa |= OZ_ISA_BIT(OZ_ISA_AVX512_VNNI);
    /* BF16 22, TILE 24, INT8 25 */
    if (!(tiles && HAS(d7, 22) && HAS(d7, 24) && HAS(d7, 25))) return isa;
    enum { REQUEST = 0x1023, TILE_DATA = 18 };
    if (!syscall(SYS_arch_prctl, REQUEST, TILE_DATA)) isa |= OZ_ISA_BIT(OZ_ISA_AMX);
    return isa;
}
#elif defined(__aarch64__)
static uint32_t detect(void)
{
    unsigned long one = getauxval(AT_HWCAP), two = getauxval(AT_HWCAP2);
    uint32_t isa = OZ_ISA_BIT(OZ_ISA_PORTABLE);
    if (!(one >> 1 & 1)) return isa; /* ASIMD */
    isa |= OZ_ISA_BIT(OZ_ISA_NEON);
    if (!(one >> 20 & 1)) return isa; /* ASIMDDP */
    isa |= OZ_ISA_BIT(OZ_ISA_NEON_DOT);
    if (two >> 13 & 1) isa |= OZ_ISA_BIT(OZ_ISA_I8MM);
    return isa;
}
#else
static uint32_t detect(void) { return OZ_ISA_BIT(OZ_ISA_PORTABLE); }
#endif

uint32_t oz_cpu_isa(void)
{
    /* A cache of a fact about the CPU; 0 is "not read yet" (portable is always set). */
    static _Atomic uint32_t found;
    uint32_t isa = atomic_load(&found);
    if (!isa) atomic_store(&found, isa = detect());
    return isa;
}

/* The active levels, 0: not decided yet. */
static _Atomic uint32_t active;

void oz_isa_force(uint32_t bits) { atomic_store(&active, bits); }

oz_status oz_isa_active(uint32_t *out)
{
    uint32_t bits = atomic_load(&active);
    if (!bits) {
        bits = oz_cpu_isa();
        const char *name = getenv("OUNCE_ISA");
        if (name && *name) {
            oz_isa level;
            oz_status s = oz_isa_parse(name, &level);
            if (s) return oz_fail_in(s, "%s", "OUNCE_ISA");
            uint32_t wanted = oz_isa_builds_on(level);
            if (wanted & ~bits)
                return oz_fail(OZ_ERR_UNSUPPORTED, "`ounce machine` lists the levels of this CPU",
                               "OUNCE_ISA=%s: not supported by this CPU", name);
            bits = wanted;
        }
        atomic_store(&active, bits);
    }
    *out = bits;
    return OZ_OK;
}

static uint64_t cache_size(int level, const char *type)
{
    char path[128], text[64];
    for (int i = 0; i < 8; i++) {
        uint64_t found_level = 0, bytes = 0;
        static const char *const part[] = {"level", "type", "size"};
        bool match = true;
        for (int k = 0; k < 3 && match; k++) {
            snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/%s", i, part[k]);
            FILE *file = fopen(path, "r");
            if (!file) return 0;
            match = fgets(text, sizeof text, file) != NULL;
            fclose(file);
            text[match ? strcspn(text, "\n") : 0] = 0;
            if (k == 0) match = oz_parse_size(text, &found_level) && found_level == (uint64_t)level;
            if (k == 1) match = !strcmp(text, type);
        }
        if (!match) continue;
        size_t n = strlen(text);
        if (n && n + 3 < sizeof text && isalpha((unsigned char)text[n - 1])) strcpy(text + n, "iB"); /* "48K" is 48 KiB here */
        if (oz_parse_size(text, &bytes)) return bytes;
    }
    return 0;
}

static void cpu_name(char *out, size_t size, int *cores)
{
    snprintf(out, size, "unknown");
    FILE *file = fopen("/proc/cpuinfo", "r");
    if (!file) return;
    char line[512];
    bool named = false;
    /* Cores are distinct (physical id, core id) pairs. */
    enum { MOST = 4096 };
    int64_t package = 0, *seen = oz_zalloc(MOST, sizeof *seen);
    int n = 0;
    while (fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        if (!colon) continue;
        char *value = colon + 1 + strspn(colon + 1, " \t");
        value[strcspn(value, "\n")] = 0;
        if (!named && !strncmp(line, "model name", 10)) {
            snprintf(out, size, "%.90s", value);
            named = true;
        }
        if (!strncmp(line, "physical id", 11)) package = atoi(value);
        if (!strncmp(line, "core id", 7) && seen) {
            int64_t id = package << 32 | atoi(value);
            int i = 0;
            while (i < n && seen[i] != id) i++;
            if (i == n && n < MOST) seen[n++] = id;
        }
    }
    oz_free(seen);
    fclose(file);
    if (n) *cores = n;
}

void oz_machine_read(oz_machine *m)
{
    memset(m, 0, sizeof *m);
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    m->threads = online > 0 ? (int)online : 1;
    m->cores = m->threads;
    cpu_name(m->cpu, sizeof m->cpu, &m->cores);
    m->l1d = cache_size(1, "Data");
    m->l2 = cache_size(2, "Unified");
    m->l3 = cache_size(3, "Unified");
    m->memory = oz_total_memory();
    m->isa = oz_cpu_isa();
}

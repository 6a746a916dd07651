/* machine_peaks.c: what this machine can do at most, measured: bytes read per second from memory, and multiply-adds per second in
 * f32, i8 (into i32) and bf16 (into f32).  A multiply-add counts as two operations.
 *
 * Arithmetic: every thread runs a loop of independent multiply-adds on registers for PIECE_SECONDS; the peak is all operations over
 * the wall time, best of ROUNDS.  The loops exist once per instruction set (the only such code outside number/kernel; the compiler's
 * function attribute selects it, so no flags are needed) and the best set of this CPU is taken, whatever OUNCE_ISA says: a peak
 * belongs to the machine.  Reading: a buffer several times the last cache is summed in 1 MiB pieces, best of ROUNDS passes.
 * A peak that this CPU has no instructions for (or this file no loop) is 0. */
#include "ounce/machine.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define ROUNDS        3
#define PIECE_SECONDS 0.03
#define STEPS         4096 /* of a loop between two looks at the clock */
#define READ_PIECE    ((size_t)1 << 20)
#define CHAINS        12 /* independent accumulators: latency 4 x 2 units, and some */

/* Runs STEPS steps and returns the operations done; *sink receives something that depends on all of them. */
typedef double (*ops_loop)(float *sink);
typedef uint64_t (*read_loop)(const uint8_t *p, size_t bytes); /* bytes: a multiple of 512 */

/* ---- any machine ---- */
static double f32_portable(float *sink)
{
    float a[CHAINS];
    for (int k = 0; k < CHAINS; k++) a[k] = *sink + (float)k;
    for (int i = 0; i < STEPS; i++)
        for (int k = 0; k < CHAINS; k++) a[k] = a[k] * 0.999f + 0.5f;
    for (int k = 0; k < CHAINS; k++) *sink += a[k];
    return 2.0 * CHAINS * STEPS;
}

static uint64_t read_portable(const uint8_t *p, size_t bytes)
{
    uint64_t sum[4] = {0}, w[4];
    for (size_t i = 0; i < bytes; i += sizeof w) {
        memcpy(w, p + i, sizeof w);
        for (int k = 0; k < 4; k++) sum[k] += w[k];
    }
    return sum[0] + sum[1] + sum[2] + sum[3];
}

#if defined(__x86_64__)
/* ---- x86 ---- */
__attribute__((target("avx2,fma"))) static double f32_avx2(float *sink)
{
    __m256 a[CHAINS], x = _mm256_set1_ps(0.999f), y = _mm256_set1_ps(0.5f);
    for (int k = 0; k < CHAINS; k++) a[k] = _mm256_set1_ps(*sink + (float)k);
    for (int i = 0; i < STEPS; i++)
        for (int k = 0; k < CHAINS; k++) a[k] = _mm256_fmadd_ps(a[k], x, y);
    for (int k = 1; k < CHAINS; k++) a[0] = _mm256_add_ps(a[0], a[k]);
    *sink += _mm_cvtss_f32(_mm256_castps256_ps128(a[0]));
    return 2.0 * 8 * CHAINS * STEPS;
}

__attribute__((target("avx512f,fma"))) static double f32_avx512(float *sink)
{
    __m512 a[CHAINS], x = _mm512_set1_ps(0.999f), y = _mm512_set1_ps(0.5f);
    for (int k = 0; k < CHAINS; k++) a[k] = _mm512_set1_ps(*sink + (float)k);
    for (int i = 0; i < STEPS; i++)
        for (int k = 0; k < CHAINS; k++) a[k] = _mm512_fmadd_ps(a[k], x, y);
    for (int k = 1; k < CHAINS; k++) a[0] = _mm512_add_ps(a[0], a[k]);
    *sink += _mm512_cvtss_f32(a[0]);
    return 2.0 * 16 * CHAINS * STEPS;
}

/* Without a dot instruction: u8 x i8 pairs into i16, pairs into i32, sum; three instructions for 32 multiply-adds. The i16 operand
 * comes from the accumulator, so that nothing can be hoisted. */
__attribute__((target("avx2"))) static double i8_avx2(float *sink)
{
    __m256i a[CHAINS], x = _mm256_set1_epi8((char)(*sink > 0 ? 3 : 5)), one = _mm256_set1_epi16(1);
    for (int k = 0; k < CHAINS; k++) a[k] = _mm256_set1_epi32(k);
    for (int i = 0; i < STEPS; i++)
        for (int k = 0; k < CHAINS; k++) a[k] = _mm256_add_epi32(x, _mm256_madd_epi16(_mm256_maddubs_epi16(a[k], x), one));
    for (int k = 1; k < CHAINS; k++) a[0] = _mm256_add_epi32(a[0], a[k]);
    *sink += (float)(_mm_cvtsi128_si32(_mm256_castsi256_si128(a[0])) & 255);
    return 2.0 * 32 * CHAINS * STEPS;
}

__attribute__((target("avx512f,avx512vnni"))) static double i8_avx512vnni(float *sink)
{
    __m512i a[CHAINS], x = _mm512_set1_epi32(*sink > 0 ? 0x01020304 : 0x04030201), y = _mm512_set1_epi32(0x7f010101);
    for (int k = 0; k < CHAINS; k++) a[k] = _mm512_set1_epi32(k);
    for (int i = 0; i < STEPS; i++)
        for (int k = 0; k < CHAINS; k++) a[k] = _mm512_dpbusd_epi32(a[k], x, y);
    for (int k = 1; k < CHAINS; k++) a[0] = _mm512_add_epi32(a[0], a[k]);
    *sink += (float)(_mm_cvtsi128_si32(_mm512_castsi512_si128(a[0])) & 255);
    return 2.0 * 64 * CHAINS * STEPS;
}

__attribute__((target("avx2,avxvnni"))) static double i8_avxvnni(float *sink)
{
    __m256i a[CHAINS], x = _mm256_set1_epi32(*sink > 0 ? 0x01020304 : 0x04030201), y = _mm256_set1_epi32(0x7f010101);
    for (int k = 0; k < CHAINS; k++) a[k] = _mm256_set1_epi32(k);
    for (int i = 0; i < STEPS; i++)
        for (int k = 0; k < CHAINS; k++) a[k] = _mm256_dpbusd_avx_epi32(a[k], x, y);
    for (int k = 1; k < CHAINS; k++) a[0] = _mm256_add_epi32(a[0], a[k]);
    *sink += (float)(_mm_cvtsi128_si32(_mm256_castsi256_si128(a[0])) & 255);
    return 2.0 * 32 * CHAINS * STEPS;
}

__attribute__((target("avx512f,avx512bf16"))) static double bf16_avx512(float *sink)
{
    __m512 a[CHAINS], seed = _mm512_set1_ps(0.0625f * (1 + *sink / 1e30f));
    __m512bh x = _mm512_cvtne2ps_pbh(seed, seed), y = _mm512_cvtne2ps_pbh(seed, _mm512_set1_ps(-0.0625f));
    for (int k = 0; k < CHAINS; k++) a[k] = _mm512_set1_ps((float)k);
    for (int i = 0; i < STEPS; i++)
        for (int k = 0; k < CHAINS; k++) a[k] = _mm512_dpbf16_ps(a[k], x, y);
    for (int k = 1; k < CHAINS; k++) a[0] = _mm512_add_ps(a[0], a[k]);
    *sink += _mm512_cvtss_f32(a[0]);
    return 2.0 * 32 * CHAINS * STEPS;
}

/* Eight tiles of 16 rows x 64 bytes: four sums, two and two factors. */
typedef struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t bytes_per_row[16];
    uint8_t rows[16];
} tile_config;

static tile_config eight_tiles(void)
{
    tile_config c = {.palette = 1};
    for (int t = 0; t < 8; t++) c.bytes_per_row[t] = 64, c.rows[t] = 16;
    return c;
}

__attribute__((target("amx-tile,amx-int8"))) static double i8_amx(float *sink)
{
    uint8_t data[1024] __attribute__((aligned(64)));
    tile_config c = eight_tiles();
    memset(data, *sink > 0 ? 1 : 2, sizeof data);
    _tile_loadconfig(&c);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(4, data, 64);
    _tile_loadd(5, data, 64);
    _tile_loadd(6, data, 64);
    _tile_loadd(7, data, 64);
    for (int i = 0; i < STEPS; i++) {
        _tile_dpbssd(0, 4, 6);
        _tile_dpbssd(1, 4, 7);
        _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(3, 5, 7);
    }
    _tile_stored(3, data, 64);
    _tile_release();
    *sink += (float)data[0];
    return 2.0 * 16 * 16 * 64 * 4 * STEPS;
}

__attribute__((target("amx-tile,amx-bf16"))) static double bf16_amx(float *sink)
{
    uint8_t data[1024] __attribute__((aligned(64)));
    tile_config c = eight_tiles();
    memset(data, *sink > 0 ? 0x3c : 0x3d, sizeof data);
    _tile_loadconfig(&c);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(4, data, 64);
    _tile_loadd(5, data, 64);
    _tile_loadd(6, data, 64);
    _tile_loadd(7, data, 64);
    for (int i = 0; i < STEPS; i++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(3, data, 64);
    _tile_release();
    *sink += (float)data[0];
    return 2.0 * 16 * 16 * 32 * 4 * STEPS;
}

__attribute__((target("avx2"))) static uint64_t read_avx2(const uint8_t *p, size_t bytes)
{
    __m256i s[8];
    for (int k = 0; k < 8; k++) s[k] = _mm256_setzero_si256();
    for (size_t i = 0; i < bytes; i += 256)
        for (int k = 0; k < 8; k++) s[k] = _mm256_xor_si256(s[k], _mm256_load_si256((const __m256i *)(const void *)(p + i + 32 * k)));
    for (int k = 1; k < 8; k++) s[0] = _mm256_xor_si256(s[0], s[k]);
    return (uint64_t)_mm_cvtsi128_si64(_mm256_castsi256_si128(s[0]));
}

static bool has_avx512_bf16(void)
{
    uint32_t a, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 5 & 1);
}
#elif defined(__aarch64__)
/* ---- arm64: no loop for i8 and bf16 here ---- */
static double f32_neon(float *sink)
{
    float32x4_t a[CHAINS], x = vdupq_n_f32(0.999f), y = vdupq_n_f32(0.5f);
    for (int k = 0; k < CHAINS; k++) a[k] = vdupq_n_f32(*sink + (float)k);
    for (int i = 0; i < STEPS; i++)
        for (int k = 0; k < CHAINS; k++) a[k] = vfmaq_f32(y, a[k], x);
    for (int k = 1; k < CHAINS; k++) a[0] = vaddq_f32(a[0], a[k]);
    *sink += vgetq_lane_f32(a[0], 0);
    return 2.0 * 4 * CHAINS * STEPS;
}
#endif

typedef struct loops {
    ops_loop f32, i8, bf16; /* NULL: none */
    read_loop read;
} loops;

static loops best_loops(void)
{
    loops l = {.f32 = f32_portable, .read = read_portable};
#if defined(__x86_64__)
    uint32_t isa = oz_cpu_isa();
    if (!(isa & OZ_ISA_BIT(OZ_ISA_AVX2))) return l;
    l = (loops){f32_avx2, i8_avx2, NULL, read_avx2};
    if (isa & OZ_ISA_BIT(OZ_ISA_AVX_VNNI)) l.i8 = i8_avxvnni;
    if (!(isa & OZ_ISA_BIT(OZ_ISA_AVX512))) return l;
    l.f32 = f32_avx512;
    if (has_avx512_bf16()) l.bf16 = bf16_avx512;
    if (isa & OZ_ISA_BIT(OZ_ISA_AVX512_VNNI)) l.i8 = i8_avx512vnni;
    if (isa & OZ_ISA_BIT(OZ_ISA_AMX)) l.i8 = i8_amx, l.bf16 = bf16_amx;
#elif defined(__aarch64__)
    if (oz_cpu_isa() & OZ_ISA_BIT(OZ_ISA_NEON)) l.f32 = f32_neon;
#endif
    return l;
}

/* ---- measuring ---- */
typedef struct job {
    ops_loop ops;
    read_loop read;
    double *done; /* [pieces] operations */
    uint8_t *bytes;
    _Atomic uint64_t sink;
} job;

static oz_status spin(void *ctx, int64_t i0, int64_t i1, oz_work *work)
{
    (void)work;
    job *j = ctx;
    for (int64_t i = i0; i < i1; i++) {
        float sink = (float)i;
        double until = oz_seconds() + PIECE_SECONDS;
        j->done[i] = 0;
        do j->done[i] += j->ops(&sink);
        while (oz_seconds() < until);
        atomic_fetch_add(&j->sink, sink > 0 ? 1 : 0);
    }
    return OZ_OK;
}

static oz_status measure_ops(oz_pool *pool, ops_loop ops, double *giga)
{
    *giga = 0;
    if (!ops) return OZ_OK;
    int threads = oz_pool_threads(pool);
    job j = {.ops = ops, .done = oz_zalloc((size_t)threads, sizeof *j.done)};
    if (!j.done) return OZ_ERR_NOMEM;
    oz_status s = OZ_OK;
    for (int r = 0; !s && r < ROUNDS; r++) {
        double start = oz_seconds(), all = 0;
        s = oz_pool_for(pool, threads, 1, spin, &j);
        double seconds = oz_seconds() - start;
        for (int i = 0; i < threads; i++) all += j.done[i];
        if (all / seconds * 1e-9 > *giga) *giga = all / seconds * 1e-9;
    }
    oz_free(j.done);
    return s;
}

static oz_status fill(void *ctx, int64_t i0, int64_t i1, oz_work *work)
{
    (void)work;
    memset(((job *)ctx)->bytes + (size_t)i0 * READ_PIECE, 1, (size_t)(i1 - i0) * READ_PIECE);
    return OZ_OK;
}

static oz_status read_piece(void *ctx, int64_t i0, int64_t i1, oz_work *work)
{
    (void)work;
    job *j = ctx;
    uint64_t sum = j->read(j->bytes + (size_t)i0 * READ_PIECE, (size_t)(i1 - i0) * READ_PIECE);
    atomic_fetch_add_explicit(&j->sink, sum, memory_order_relaxed);
    return OZ_OK;
}

static oz_status measure_read(oz_pool *pool, read_loop read, double *gbs)
{
    *gbs = 0;
    oz_machine m;
    oz_machine_read(&m);
    uint64_t want = 4 * m.l3 > (uint64_t)256 << 20 ? 4 * m.l3 : (uint64_t)256 << 20;
    if (want > (uint64_t)2 << 30) want = (uint64_t)2 << 30;
    if (m.memory && want > m.memory / 8) want = m.memory / 8;
    int64_t pieces = (int64_t)(want / READ_PIECE) + 1;
    job j = {.read = read, .bytes = oz_alloc_aligned((size_t)pieces * READ_PIECE, 4096)};
    if (!j.bytes) return OZ_ERR_NOMEM;
    oz_status s = oz_pool_for(pool, pieces, 1, fill, &j);
    for (int r = 0; !s && r < ROUNDS; r++) {
        double start = oz_seconds();
        s = oz_pool_for(pool, pieces, 1, read_piece, &j);
        double rate = (double)pieces * (double)READ_PIECE / (oz_seconds() - start) * 1e-9;
        if (rate > *gbs) *gbs = rate;
    }
    oz_free(j.bytes);
    return s;
}

oz_status oz_machine_peaks(oz_pool *pool, oz_peaks *out)
{
    /* Measured once per process and thread count: the machine does not change. */
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static oz_peaks cached;
    static int cached_threads;
    loops l = best_loops();
    oz_status s = OZ_OK;
    pthread_mutex_lock(&lock);
    if (cached_threads != oz_pool_threads(pool)) {
        oz_peaks p = {0};
        s = measure_read(pool, l.read, &p.read_gbs);
        if (!s) s = measure_ops(pool, l.f32, &p.f32_gflops);
        if (!s) s = measure_ops(pool, l.i8, &p.i8_gops);
        if (!s) s = measure_ops(pool, l.bf16, &p.bf16_gflops);
        if (!s) {
            cached = p;
            cached_threads = oz_pool_threads(pool);
        }
    }
    *out = cached;
    pthread_mutex_unlock(&lock);
    return s;
}

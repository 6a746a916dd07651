/* ounce/base.h: what every part of Ounce stands on: status and messages, memory, random numbers,
 * hashes, the thread pool, and the run context (cancel, progress, log) that long work receives.
 *
 * Errors.  Every function that can fail returns oz_status.  The failing function calls oz_fail(),
 * which stores a message (what, in which file/tensor/key, what was expected) and a hint (what to do)
 * for this thread and returns the code.  Callers pass codes up with OZ_TRY, and never overwrite a message.
 * Ownership: out-parameters first; whoever receives an object frees it with the matching _free. */
#ifndef OUNCE_BASE_H
#define OUNCE_BASE_H
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OZ_VERSION "0.1.0"

/* ---- status ---------------------------------------------------------------------------------------- */
typedef enum {
    OZ_OK = 0,
    OZ_ERR_NOMEM,       /* an allocation failed */
    OZ_ERR_IO,          /* the operating system refused a read, write, open ... */
    OZ_ERR_PARSE,       /* a file's content is not what its format says */
    OZ_ERR_KEY,         /* an unknown name: option, recipe key, tensor, corpus */
    OZ_ERR_SHAPE,       /* sizes that do not fit together */
    OZ_ERR_RANGE,       /* a value outside its bounds */
    OZ_ERR_NUMERIC,     /* not finite, not positive definite ... */
    OZ_ERR_POLICY,      /* asked for something the rules forbid (an existing output, a text in both roles) */
    OZ_ERR_UNSUPPORTED, /* a combination that does not exist */
    OZ_ERR_EXPORT,      /* the target file kind cannot hold it */
    OZ_ERR_BUDGET,      /* size or memory budget cannot be met */
    OZ_CANCELLED        /* the caller asked to stop */
} oz_status;

#define OZ_MUST __attribute__((warn_unused_result))
#define OZ_TRY(e)                   \
    do {                            \
        oz_status oz_s_ = (e);      \
        if (oz_s_) return oz_s_;    \
    } while (0)

/* Sets this thread's message and hint (hint may be NULL) and returns `status`.  The format must name something. */
oz_status oz_fail(oz_status status, const char *hint, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Puts "prefix: " before this thread's message; used to add a file or tensor name on the way up. */
oz_status oz_fail_in(oz_status status, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
const char *oz_message(void); /* "" when nothing failed; valid until this thread's next failure */
const char *oz_hint(void);    /* "" when there is none */
void oz_clear_message(void);
const char *oz_status_name(oz_status);
/* Saved message around cleanup that may itself fail. */
typedef struct oz_saved_error { oz_status status; char message[1024], hint[512]; } oz_saved_error;
void oz_error_save(oz_saved_error *, oz_status);
oz_status oz_error_restore(const oz_saved_error *);

/* ---- memory ---------------------------------------------------------------------------------------- */
/* Checked allocation; memory is not cleared by oz_alloc and is by oz_zalloc.  NULL and a message on failure (n == 0 gives
 * a unique pointer).  In -DOUNCE_FAULTS builds the N-th allocation can be made to fail (oz_fault_alloc). */
void *oz_alloc(size_t n, size_t size);
void *oz_zalloc(size_t n, size_t size);
void *oz_realloc(void *, size_t n, size_t size); /* frees nothing on failure */
void *oz_alloc_aligned(size_t bytes, size_t align); /* freed with oz_free */
void oz_free(void *);
char *oz_strdup(const char *);
char *oz_strndup(const char *, size_t);
char *oz_format_text(const char *fmt, ...) __attribute__((format(printf, 1, 2))); /* malloc'd printf */
bool oz_mul_size(size_t a, size_t b, size_t *out); /* false on overflow */
bool oz_add_size(size_t a, size_t b, size_t *out);

/* Arena: many small objects freed together, or scratch that is rewound. */
typedef struct oz_arena oz_arena;
OZ_MUST oz_status oz_arena_new(oz_arena **, size_t first_chunk); /* 0: a default */
void oz_arena_free(oz_arena *);
void *oz_arena_alloc(oz_arena *, size_t bytes);                  /* 64-byte aligned; NULL and message on failure */
void *oz_arena_zalloc(oz_arena *, size_t bytes);
char *oz_arena_strdup(oz_arena *, const char *);
char *oz_arena_strndup(oz_arena *, const char *, size_t);
char *oz_arena_printf(oz_arena *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
typedef struct oz_arena_mark { void *chunk; size_t used; } oz_arena_mark;
oz_arena_mark oz_arena_save(oz_arena *);
void oz_arena_rewind(oz_arena *, oz_arena_mark);
size_t oz_arena_bytes(const oz_arena *);

/* ---- random numbers: counter based, the same on every machine and thread count ------------------------ */
typedef struct oz_rng { uint64_t seed, stream; } oz_rng;
uint64_t oz_rng_u64(oz_rng, uint64_t counter);
double oz_rng_uniform(oz_rng, uint64_t counter); /* [0, 1), 53 bits */
double oz_rng_normal(oz_rng, uint64_t counter);  /* N(0,1), Box-Muller on counters 2c, 2c+1 */
oz_rng oz_rng_sub(oz_rng, uint64_t stream);      /* an independent stream */
oz_rng oz_rng_named(uint64_t seed, const char *name);

/* ---- hashes ------------------------------------------------------------------------------------------ */
typedef struct oz_sha256 oz_sha256; /* libcrypto behind it */
OZ_MUST oz_status oz_sha256_new(oz_sha256 **);
void oz_sha256_add(oz_sha256 *, const void *, size_t);
void oz_sha256_end(oz_sha256 *, uint8_t out[32]); /* also frees */
OZ_MUST oz_status oz_sha256_of(const void *, size_t, uint8_t out[32]);
OZ_MUST oz_status oz_sha256_file(const char *path, uint8_t out[32]);
void oz_hex(const uint8_t *, size_t n, char *out); /* 2n + 1 chars */
uint64_t oz_hash64(const void *, size_t, uint64_t seed); /* stable, not cryptographic: memo and cache keys */

/* ---- thread pool ---------------------------------------------------------------------------------------- */
typedef struct oz_pool oz_pool;
typedef struct oz_work { oz_arena *arena; int thread, nthread; } oz_work; /* per-thread scratch; rewound after each call of fn */
/* threads <= 0: as many as the machine has.  A NULL pool is legal everywhere and means this thread only. */
OZ_MUST oz_status oz_pool_new(oz_pool **, int threads);
void oz_pool_free(oz_pool *);
int oz_pool_threads(const oz_pool *);
/* Calls fn on [i0, i1) pieces of [0, n), each at most `grain` long and starting at a multiple of grain (so results cannot
 * depend on the thread count).  Waiting threads spin briefly, then sleep.  The first error stops the rest and is returned,
 * its message moved to the caller's thread.  Not reentrant: fn must not call oz_pool_for on the same pool (it then runs serially). */
oz_status oz_pool_for(oz_pool *, int64_t n, int64_t grain, oz_status (*fn)(void *ctx, int64_t i0, int64_t i1, oz_work *), void *ctx);

/* ---- the run context of long work ------------------------------------------------------------------------ */
typedef enum { OZ_LOG_ERROR, OZ_LOG_WARN, OZ_LOG_INFO, OZ_LOG_DEBUG } oz_log_level;
typedef struct oz_run {
    volatile int *cancel; /* set to non-zero to stop; may be NULL */
    void (*progress)(void *user, const char *what, double done, double of); /* may be NULL */
    void (*log)(void *user, oz_log_level, const char *text);                /* may be NULL */
    void *user;
    oz_pool *pool;
    size_t memory; /* upper bound for working memory in bytes, 0: none; results never depend on it */
} oz_run;
bool oz_cancelled(const oz_run *);      /* run may be NULL */
oz_status oz_check_cancel(const oz_run *); /* OZ_CANCELLED with a message, or OZ_OK */
void oz_progress(const oz_run *, const char *what, double done, double of);
void oz_logf(const oz_run *, oz_log_level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* ---- words and time ---------------------------------------------------------------------------------------- */
/* Index of the candidate nearest to `word` (edit distance, swaps cheap), or -1 when none is near.  candidates ends with NULL. */
int oz_nearest(const char *word, const char *const *candidates);
/* The one integer parser: whole text, base 10, optional sign, within [min, max]; false otherwise. */
bool oz_parse_i64(const char *text, int64_t min, int64_t max, int64_t *out);
bool oz_parse_f64(const char *text, double min, double max, double *out); /* whole text, finite, locale independent */
/* "900MB", "8GiB", "4096"; false when malformed. */
bool oz_parse_size(const char *text, uint64_t *bytes);
double oz_seconds(void);       /* monotonic clock */
uint64_t oz_peak_rss(void);    /* bytes */
uint64_t oz_total_memory(void);/* of the machine or its cgroup, the smaller */

#ifdef OUNCE_FAULTS
/* Test builds: the n-th (from now, 1 = next) allocation / write / read fails; 0 switches off. */
void oz_fault_alloc(int64_t nth);
void oz_fault_write(int64_t nth);
void oz_fault_read(int64_t nth);
bool oz_fault_write_now(void);
bool oz_fault_read_now(void);
#endif
#endif

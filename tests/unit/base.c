/* base.c: status, memory, arena, random numbers, hashes, words, sizes, the clock. */
#include "ounce/base.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static void messages_name_things(void **state)
{
    (void)state;
    assert_int_equal(oz_fail(OZ_ERR_PARSE, "do this", "%s: line %d", "a.json", 3), OZ_ERR_PARSE);
    assert_string_equal(oz_message(), "a.json: line 3");
    assert_string_equal(oz_hint(), "do this");
    assert_int_equal(oz_fail_in(OZ_ERR_PARSE, "model %s", "m"), OZ_ERR_PARSE);
    assert_string_equal(oz_message(), "model m: a.json: line 3");
    assert_string_equal(oz_hint(), "do this");
    /* The arguments may be the current message itself. */
    assert_int_equal(oz_fail(OZ_ERR_IO, NULL, "again: %s", oz_message()), OZ_ERR_IO);
    assert_string_equal(oz_message(), "again: model m: a.json: line 3");
    assert_string_equal(oz_hint(), "");
    oz_saved_error saved;
    oz_error_save(&saved, OZ_ERR_IO);
    assert_int_equal(oz_fail(OZ_ERR_NOMEM, NULL, "%s", "cleanup failed too"), OZ_ERR_NOMEM);
    assert_int_equal(oz_error_restore(&saved), OZ_ERR_IO);
    assert_string_equal(oz_message(), "again: model m: a.json: line 3");
    char longer[3000];
    memset(longer, 'x', sizeof longer);
    longer[sizeof longer - 1] = 0;
    assert_int_equal(oz_fail(OZ_ERR_IO, longer, "%s", longer), OZ_ERR_IO);
    assert_int_equal(strlen(oz_message()), 1023);
    assert_int_equal(oz_fail_in(OZ_ERR_IO, "%s", longer), OZ_ERR_IO);
    oz_clear_message();
    assert_string_equal(oz_message(), "");
    assert_string_equal(oz_status_name(OZ_ERR_BUDGET), "budget");
    assert_string_equal(oz_status_name((oz_status)99), "unknown");
}

static void allocation_checks_overflow(void **state)
{
    (void)state;
    assert_null(oz_alloc(SIZE_MAX / 2, 3));
    assert_non_null(strstr(oz_message(), "out of memory: 9223372036854775807 items of 3 bytes"));
    size_t n;
    assert_false(oz_mul_size(SIZE_MAX, 2, &n));
    assert_true(oz_mul_size(1u << 20, 0, &n) && n == 0);
    assert_false(oz_add_size(SIZE_MAX, 1, &n));
    void *a = oz_alloc(0, 4), *b = oz_alloc(0, 4);
    assert_non_null(a);
    assert_ptr_not_equal(a, b);
    oz_free(a);
    oz_free(b);
    void *c = oz_alloc_aligned(10, 4096);
    assert_int_equal((uintptr_t)c % 4096, 0);
    oz_free(c);
    char *t = oz_format_text("%s-%d", "tensor", 7);
    assert_string_equal(t, "tensor-7");
    oz_free(t);
    t = oz_strndup("abcdef", 3);
    assert_string_equal(t, "abc");
    oz_free(t);
}

static void arena_rewinds_and_aligns(void **state)
{
    (void)state;
    oz_arena *arena;
    assert_int_equal(oz_arena_new(&arena, 256), OZ_OK);
    for (int i = 0; i < 100; i++) {
        char *p = oz_arena_alloc(arena, (size_t)i * 7);
        assert_int_equal((uintptr_t)p % 64, 0);
        memset(p, i, (size_t)i * 7);
    }
    char *text = oz_arena_printf(arena, "layer %d", 5);
    oz_arena_mark mark = oz_arena_save(arena);
    size_t bytes = 0;
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 50; i++) {
            unsigned char *p = oz_arena_zalloc(arena, 3000);
            for (int j = 0; j < 3000; j++) assert_int_equal(p[j], 0);
            memset(p, 0xff, 3000);
        }
        if (round) assert_int_equal(oz_arena_bytes(arena), bytes); /* scratch that is rewound stops growing */
        bytes = oz_arena_bytes(arena);
        oz_arena_rewind(arena, mark);
    }
    assert_string_equal(text, "layer 5");
    assert_null(oz_arena_alloc(arena, SIZE_MAX - 3));
    oz_arena_free(arena);
    /* Rewound to the very beginning. */
    assert_int_equal(oz_arena_new(&arena, 0), OZ_OK);
    mark = oz_arena_save(arena);
    void *first = oz_arena_alloc(arena, 100);
    oz_arena_rewind(arena, mark);
    assert_ptr_equal(oz_arena_alloc(arena, 100), first);
    oz_arena_free(arena);
    oz_arena_free(NULL);
}

/* Values of files and tests rest on these: they may never change. */
static void rng_is_stable(void **state)
{
    (void)state;
    oz_rng r = {0, 0}, named = oz_rng_named(7, "rotation");
    assert_int_equal(oz_rng_u64(r, 0), UINT64_C(0x25dfd47debb87837));
    assert_int_equal(oz_rng_u64(r, 1), UINT64_C(0x99da872e0188e241));
    assert_int_equal(oz_rng_u64((oz_rng){42, 3}, 1000), UINT64_C(0x6a5b0cbef401248d));
    assert_int_equal(oz_rng_u64(oz_rng_sub((oz_rng){42, 3}, 9), 5), UINT64_C(0xd3e720c6154d90bb));
    assert_int_equal(oz_rng_u64(named, 0), UINT64_C(0xc67d4e83c03cd374));
    assert_int_equal(oz_hash64("ounce", 5, 0), UINT64_C(0xc7f8282708bc74a3));
    assert_int_equal(oz_hash64("", 0, 1), UINT64_C(0x98a68d189a999cb7));
    assert_int_equal(oz_hash64("twelve bytes", 12, 2), UINT64_C(0x7cc515934ef3f5ed));
}

static void rng_moments(void **state)
{
    (void)state;
    enum { N = 400000, BINS = 64 };
    for (uint64_t stream = 0; stream < 3; stream++) {
        oz_rng r = {123, stream};
        double m1 = 0, m2 = 0, n1 = 0, n2 = 0, n3 = 0, n4 = 0, lag = 0, before = 0, chi = 0;
        int bins[BINS] = {0};
        for (uint64_t i = 0; i < N; i++) {
            double u = oz_rng_uniform(r, i), z = oz_rng_normal(r, i);
            assert_true(u >= 0 && u < 1 && isfinite(z));
            bins[(int)(u * BINS)]++;
            m1 += u, m2 += u * u;
            n1 += z, n2 += z * z, n3 += z * z * z, n4 += z * z * z * z;
            lag += (u - 0.5) * (before - 0.5);
            before = u;
        }
        for (int b = 0; b < BINS; b++) chi += pow(bins[b] - (double)N / BINS, 2) / ((double)N / BINS);
        /* Bounds are five standard errors. */
        assert_true(fabs(m1 / N - 0.5) < 5 * sqrt(1.0 / 12 / N));
        assert_true(fabs(m2 / N - 1.0 / 3) < 5 * sqrt(4.0 / 45 / N));
        assert_true(fabs(lag / N) < 5.0 / 12 / sqrt(N));
        assert_true(fabs(n1 / N) < 5 / sqrt(N));
        assert_true(fabs(n2 / N - 1) < 5 * sqrt(2.0 / N));
        assert_true(fabs(n3 / N) < 5 * sqrt(15.0 / N));
        assert_true(fabs(n4 / N - 3) < 5 * sqrt(96.0 / N));
        assert_true(chi < 63 + 5 * sqrt(2 * 63.0));
    }
}

static void hashes(void **state)
{
    (void)state;
    uint8_t out[32], again[32];
    char hex[65];
    assert_int_equal(oz_sha256_of("abc", 3, out), OZ_OK);
    oz_hex(out, 32, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"); /* FIPS 180-4 example */
    oz_sha256 *h;
    assert_int_equal(oz_sha256_new(&h), OZ_OK);
    oz_sha256_add(h, "a", 1);
    oz_sha256_add(h, "", 0);
    oz_sha256_add(h, "bc", 2);
    oz_sha256_end(h, again);
    assert_memory_equal(out, again, 32);
    char path[] = "/tmp/ounce-base-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    FILE *file = fdopen(fd, "wb");
    fputs("abc", file);
    fclose(file);
    assert_int_equal(oz_sha256_file(path, again), OZ_OK);
    assert_memory_equal(out, again, 32);
    remove(path);
    assert_int_equal(oz_sha256_file(path, again), OZ_ERR_IO);
    assert_non_null(strstr(oz_message(), path));
    /* One flipped bit anywhere changes the hash. */
    uint8_t data[40] = {0};
    uint64_t h0 = oz_hash64(data, sizeof data, 5);
    for (int i = 0; i < 320; i++) {
        data[i / 8] ^= (uint8_t)(1 << i % 8);
        assert_int_not_equal(oz_hash64(data, sizeof data, 5), h0);
        data[i / 8] ^= (uint8_t)(1 << i % 8);
    }
    assert_int_not_equal(oz_hash64(data, 39, 5), h0);
    assert_int_not_equal(oz_hash64(data, 40, 6), h0);
}

static void nearest_words(void **state)
{
    (void)state;
    const char *const list[] = {"quantize", "convert", "compare", "info", "eval", "damp", "activations", NULL};
    static const struct {
        const char *word;
        int index;
    } cases[] = {{"quantise", 0},     {"qauntize", 0}, {"covnert", 1}, {"conpare", 2}, {"INFO", 3},  {"evla", 4},
                 {"damp_precent", 5}, {"dmap", 5},     {"zebra", -1},  {"", -1},       {"activ", 6}, {"x", -1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int got = oz_nearest(cases[i].word, list);
        if (got != cases[i].index) fail_msg("nearest of %s is %d, expected %d", cases[i].word, got, cases[i].index);
    }
    const char *const damp[] = {"block", "damp", "order", "scales", NULL};
    assert_int_equal(oz_nearest("damp_percent", damp), 1); /* begins with the candidate */
}

static void numbers(void **state)
{
    (void)state;
    int64_t i = 0;
    assert_true(oz_parse_i64("-12", -20, 20, &i) && i == -12);
    assert_true(oz_parse_i64("+7", 0, 20, &i) && i == 7);
    assert_true(oz_parse_i64("9223372036854775807", INT64_MIN, INT64_MAX, &i) && i == INT64_MAX);
    static const char *const bad[] = {"", "-", "1x", " 1", "1 ", "0x10", "9223372036854775808", "1.0", "1e3", "--1"};
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) assert_false(oz_parse_i64(bad[k], INT64_MIN, INT64_MAX, &i));
    assert_false(oz_parse_i64("21", 0, 20, &i));
    assert_false(oz_parse_i64(NULL, 0, 20, &i));
    double d = 0;
    assert_true(oz_parse_f64("-1.5e-3", -1, 1, &d) && d == -1.5e-3);
    assert_true(oz_parse_f64(".5", 0, 1, &d) && d == 0.5);
    static const char *const not_real[] = {"", "nan", "inf", "0x1p3", "1,5", " 1", "1 ", "1e999", "e", "1.2.3", "-"};
    for (size_t k = 0; k < sizeof not_real / sizeof *not_real; k++) assert_false(oz_parse_f64(not_real[k], -1e300, 1e300, &d));
    assert_false(oz_parse_f64("2", 0, 1, &d));
}

static void sizes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {{"4096", 4096}, {"900MB", 900000000}, {"8GiB", 8589934592},  {"1.5KiB", 1536},
                {"0", 0},       {"64K", 64000},       {"2TB", 2000000000000}};
    uint64_t bytes;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_true(oz_parse_size(good[i].text, &bytes));
        assert_int_equal(bytes, good[i].bytes);
    }
    static const char *const bad[] = {"", "GB", "-1", "1 GB", "4.25bpw", "1e3", "9999999999999TiB", "1..2", "8gib"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_false(oz_parse_size(bad[i], &bytes));
}

static int seen_progress;
static void on_progress(void *user, const char *what, double done, double of)
{
    (void)user;
    assert_string_equal(what, "layer");
    assert_true(done == 1 && of == 2);
    seen_progress++;
}
static void on_log(void *user, oz_log_level level, const char *text)
{
    assert_int_equal(level, OZ_LOG_WARN);
    snprintf(user, 64, "%s", text);
}

static void run_context(void **state)
{
    (void)state;
    char text[64];
    volatile int cancel = 0;
    oz_run run = {.cancel = &cancel, .progress = on_progress, .log = on_log, .user = text};
    assert_int_equal(oz_check_cancel(NULL), OZ_OK);
    assert_int_equal(oz_check_cancel(&run), OZ_OK);
    cancel = 1;
    assert_int_equal(oz_check_cancel(&run), OZ_CANCELLED);
    assert_non_null(strstr(oz_message(), "stopped"));
    oz_progress(&run, "layer", 1, 2);
    oz_progress(NULL, "layer", 1, 2);
    assert_int_equal(seen_progress, 1);
    oz_logf(&run, OZ_LOG_WARN, "tensor %s", "q_proj");
    assert_string_equal(text, "tensor q_proj");
    oz_logf(NULL, OZ_LOG_WARN, "tensor %s", "q_proj");
}

static void time_and_memory(void **state)
{
    (void)state;
    double t = oz_seconds();
    assert_true(oz_seconds() >= t);
    assert_true(oz_peak_rss() > 500000);
    assert_true(oz_total_memory() > oz_peak_rss());
}

#ifdef OUNCE_FAULTS
static void faults_reach_every_allocation(void **state)
{
    (void)state;
    int failed = 0;
    for (int64_t nth = 1; nth < 50; nth++) {
        oz_fault_alloc(nth);
        oz_arena *arena = NULL;
        oz_status s = oz_arena_new(&arena, 64);
        char *t = !s ? oz_arena_strdup(arena, "text") : NULL;
        if (!s && !t) s = OZ_ERR_NOMEM;
        char *u = !s ? oz_format_text("%d", 3) : NULL;
        if (!s && !u) s = OZ_ERR_NOMEM;
        void *v = !s ? oz_alloc_aligned(64, 64) : NULL;
        if (!s && !v) s = OZ_ERR_NOMEM;
        uint8_t out[32];
        if (!s) s = oz_sha256_of("x", 1, out);
        oz_fault_alloc(0);
        oz_free(u);
        oz_free(v);
        oz_arena_free(arena);
        if (!s) break;
        assert_int_equal(s, OZ_ERR_NOMEM);
        assert_non_null(strstr(oz_message(), "out of memory"));
        failed++;
    }
    assert_int_equal(failed, 6); /* arena, chunk, its bytes, text, aligned, hash */
    oz_fault_read(1);
    assert_true(oz_fault_read_now());
    assert_false(oz_fault_read_now());
    oz_fault_write(2);
    assert_false(oz_fault_write_now());
    assert_true(oz_fault_write_now());
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_name_things),
        cmocka_unit_test(allocation_checks_overflow),
        cmocka_unit_test(arena_rewinds_and_aligns),
        cmocka_unit_test(rng_is_stable),
        cmocka_unit_test(rng_moments),
        cmocka_unit_test(hashes),
        cmocka_unit_test(nearest_words),
        cmocka_unit_test(numbers),
        cmocka_unit_test(sizes),
        cmocka_unit_test(run_context),
        cmocka_unit_test(time_and_memory),
#ifdef OUNCE_FAULTS
        cmocka_unit_test(faults_reach_every_allocation),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

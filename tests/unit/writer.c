/* writer.c: safetensors, GGUF and sharded folders written and read back: every element type, value kind and block type; what is
 * refused; nothing under its name after a failure.  The files stay in BUILD/io for tools/oracle/io.py check, which reads
 * them with the formats' own packages. */
#include "unit/io_common.h"
#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>

#define OUT OUNCE_BINARY_DIR "/io"
enum { NT = OZ_DTYPE_COUNT + 2 };

static uint8_t data[NT][256];
static oz_out_tensor declared[NT];

/* One [3, 5] tensor of every type, an empty one and one of rank 4, with the values of the golden files. */
static void make_tensors(void)
{
    for (int k = 0; k < NT; k++) {
        oz_out_tensor *t = &declared[k];
        *t = (oz_out_tensor){.dtype = k < OZ_DTYPE_COUNT ? (oz_dtype)k : OZ_F32, .ggml_type = OZ_GGML_NONE, .rank = 2, .shape = {3, 5}};
        t->name = k < OZ_DTYPE_COUNT ? oz_safetensors_dtype(t->dtype) : k == OZ_DTYPE_COUNT ? "F32.empty" : "F32.rank4";
        if (k == OZ_DTYPE_COUNT) t->shape[0] = 0;
        if (k == OZ_DTYPE_COUNT + 1) *t = (oz_out_tensor){t->name, OZ_F32, OZ_GGML_NONE, 4, {2, 3, 2, 2}, 0};
        int64_t n = 1;
        for (int d = 0; d < t->rank; d++) n *= t->shape[d];
        t->bytes = (size_t)n * oz_dtype_size(t->dtype);
        float v[24];
        for (int64_t i = 0; i < n; i++) v[i] = io_value(t->dtype, i);
        oz_from_f32(t->dtype, v, data[k], n);
    }
}

static void check_tensor(const oz_tensor *t)
{
    float v[24];
    int64_t n = oz_tensor_count(t);
    oz_to_f32(t->dtype, t->data, v, n);
    for (int64_t i = 0; i < n; i++)
        if (v[i] != io_value(t->dtype, i)) fail_msg("%s element %d is %g", t->name, (int)i, (double)v[i]);
}

static const oz_out_meta notes[] = {{.key = "format", .kind = OZ_GGUF_STRING, .count = 2, .data = "pt"},
                                    {.key = "note",
                                     .kind = OZ_GGUF_STRING,
                                     .count = 12,
                                     .data = "gr\xc3\xbc\xc3\x9f"
                                             "e \"x\"\n"}};

static int entries(const char *folder)
{
    int n = 0;
    DIR *d = opendir(folder);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void safetensors(void **state)
{
    (void)state;
    OK(oz_make_dirs(OUT));
    for (int aligned = 0; aligned < 2; aligned++) {
        oz_writer *w;
        const char *path = aligned ? OUT "/aligned.safetensors" : OUT "/ours.safetensors";
        OK(oz_safetensors_begin(&w, path, declared, NT, notes, 2, aligned ? 64 : 0));
        for (int k = NT - 1; k >= 0; k--) { /* any order, also in parts */
            size_t n = declared[k].bytes, half = n / 2;
            if (k % 2)
                OK(oz_writer_put(w, declared[k].name, data[k], n));
            else {
                OK(oz_writer_put_part(w, declared[k].name, half, data[k] + half, n - half));
                OK(oz_writer_put_part(w, declared[k].name, 0, data[k], half));
            }
        }
        OK(oz_writer_commit(w));
        assert_false(oz_path_exists(aligned ? OUT "/aligned.safetensors.partial" : OUT "/ours.safetensors.partial"));
        oz_ckpt *c;
        OK(oz_ckpt_open(&c, path));
        assert_int_equal(oz_ckpt_count(c), NT);
        for (int k = 0; k < NT; k++) {
            const oz_tensor *t;
            OK(oz_ckpt_need(c, declared[k].name, &t));
            assert_int_equal(t->dtype, declared[k].dtype);
            assert_int_equal(t->rank, declared[k].rank);
            assert_memory_equal(t->shape, declared[k].shape, (size_t)t->rank * sizeof *t->shape);
            assert_int_equal((uintptr_t)t->data % (aligned ? 64 : oz_dtype_size(t->dtype)), 0);
            if (aligned) assert_string_equal(oz_ckpt_tensor(c, k)->name, declared[k].name); /* declared order is kept */
            check_tensor(t);
        }
        oz_ckpt_close(c);
    }
}

static const int64_t i64 = -(1LL << 62);
static const uint64_t u64 = (1ULL << 63) + 1;
static const double f64 = 0.1, reals[] = {0.5, -1.5};
static const float f32 = 0.5f;
static const uint32_t u32 = 4000000000u;
static const int32_t i32 = -2000000000, numbers[] = {1, -2, 3};
static const uint16_t u16 = 60000;
static const int16_t i16 = -30000;
static const uint8_t u8 = 200, yes = 1, bools[] = {1, 0};
static const int8_t i8 = -100;
static const char *const texts[] = {"", "a", "\xce\xb1\xce\xb2\xce\xb3"};
static const oz_out_meta pairs[] = {
    {.key = "general.architecture", .kind = OZ_GGUF_STRING, .count = 4, .data = "test"},
    {.key = "general.alignment", .kind = OZ_GGUF_U32, .data = &u32}, /* replaced by the argument */
    {.key = "test.u8", .kind = OZ_GGUF_U8, .data = &u8},
    {.key = "test.i8", .kind = OZ_GGUF_I8, .data = &i8},
    {.key = "test.u16", .kind = OZ_GGUF_U16, .data = &u16},
    {.key = "test.i16", .kind = OZ_GGUF_I16, .data = &i16},
    {.key = "test.u32", .kind = OZ_GGUF_U32, .data = &u32},
    {.key = "test.i32", .kind = OZ_GGUF_I32, .data = &i32},
    {.key = "test.f32", .kind = OZ_GGUF_F32, .data = &f32},
    {.key = "test.bool", .kind = OZ_GGUF_BOOL, .data = &yes},
    {.key = "test.string",
     .kind = OZ_GGUF_STRING,
     .count = 8,
     .data = "gr\xc3\xbc\xc3\x9f"
             "e\n"},
    {.key = "test.u64", .kind = OZ_GGUF_U64, .data = &u64},
    {.key = "test.i64", .kind = OZ_GGUF_I64, .data = &i64},
    {.key = "test.f64", .kind = OZ_GGUF_F64, .data = &f64},
    {.key = "test.numbers", .kind = OZ_GGUF_ARRAY, .item = OZ_GGUF_I32, .count = 3, .data = numbers},
    {.key = "test.reals", .kind = OZ_GGUF_ARRAY, .item = OZ_GGUF_F64, .count = 2, .data = reals},
    {.key = "test.bools", .kind = OZ_GGUF_ARRAY, .item = OZ_GGUF_BOOL, .count = 2, .data = bools},
    {.key = "test.texts", .kind = OZ_GGUF_ARRAY, .item = OZ_GGUF_STRING, .count = 3, .data = texts},
};
enum { NPAIR = sizeof pairs / sizeof *pairs };

static void gguf(void **state)
{
    (void)state;
    enum { MAX = 80 };
    oz_out_tensor t[MAX];
    char names[MAX][32];
    int n = 0;
    for (int k = 0; k < NT; k++) {
        oz_dtype d = declared[k].dtype;
        bool held = d == OZ_F32 || d == OZ_F16 || d == OZ_BF16 || d == OZ_F64 || d == OZ_I8 || d == OZ_I16 || d == OZ_I32 || d == OZ_I64;
        if (held && declared[k].bytes) t[n++] = declared[k];
    }
    int plain = n;
    for (int type = 0; type < 100; type++) { /* the types that the package knows */
        const oz_ggml_type *info = oz_ggml_type_info(type);
        if (!info || info->block == 1 || !strcmp(info->name, "q8_1") || type > 41) continue;
        snprintf(names[n], sizeof names[n], "blocks.%s", info->name);
        t[n] = (oz_out_tensor){names[n], OZ_U8, type, 2, {3, info->block}, (size_t)(3 * info->bytes)};
        n++;
    }
    for (int aligned = 0; aligned < 2; aligned++) {
        const char *path = aligned ? OUT "/aligned.gguf" : OUT "/ours.gguf";
        oz_writer *w;
        OK(oz_gguf_begin(&w, path, t, n, pairs, NPAIR, aligned ? 4096 : 0));
        for (int k = n - 1; k >= 0; k--) {
            uint8_t blocks[1024];
            const uint8_t *from = blocks;
            for (size_t i = 0; i < t[k].bytes; i++) blocks[i] = (uint8_t)(7 * i + (size_t)t[k].ggml_type);
            for (int j = 0; j < NT && k < plain; j++)
                if (declared[j].name == t[k].name) from = data[j];
            OK(oz_writer_put(w, t[k].name, from, t[k].bytes));
        }
        OK(oz_writer_commit(w));
        oz_ckpt *c;
        OK(oz_ckpt_open(&c, path));
        assert_int_equal(oz_ckpt_count(c), n);
        assert_int_equal(oz_ckpt_meta_count(c), NPAIR - 1 + aligned);
        for (int k = 0; k < n; k++) {
            const oz_tensor *got = oz_ckpt_tensor(c, k);
            assert_string_equal(got->name, t[k].name);
            assert_int_equal((uintptr_t)got->data % (aligned ? 4096 : 32), 0);
            assert_memory_equal(got->shape, t[k].shape, (size_t)got->rank * sizeof *got->shape);
            if (k < plain)
                check_tensor(got);
            else
                assert_int_equal(got->data[4], (28 + got->ggml_type) % 256);
        }
        /* values copied from a checkpoint are the same bytes */
        if (!aligned) {
            oz_out_meta copies[NPAIR];
            int m = oz_ckpt_meta_count(c);
            for (int k = 0; k < m; k++) copies[k] = (oz_out_meta){.key = oz_ckpt_meta_at(c, k)->key, .copy = oz_ckpt_meta_at(c, k)};
            OK(oz_gguf_begin(&w, OUT "/copy.gguf", NULL, 0, copies, m, 0));
            OK(oz_writer_commit(w));
            oz_ckpt *b;
            OK(oz_ckpt_open(&b, OUT "/copy.gguf"));
            assert_int_equal(oz_ckpt_meta_count(b), m);
            for (int k = 0; k < m; k++) {
                const oz_gguf_value *x = oz_ckpt_meta_at(c, k), *y = oz_ckpt_meta(b, x->key);
                assert_true(x->kind == y->kind && x->item == y->item && x->count == y->count && x->raw_bytes == y->raw_bytes);
                assert_memory_equal(x->raw, y->raw, x->raw_bytes);
            }
            oz_ckpt_close(b);
            OK(oz_remove_tree(OUT "/copy.gguf"));
        }
        oz_ckpt_close(c);
    }
}

typedef struct {
    oz_hf_writer *h;
} put_job;
static oz_status put_some(void *ctx, int64_t a, int64_t b, oz_work *work)
{
    (void)work;
    for (int64_t k = a; k < b; k++) OZ_TRY(oz_hf_put(((put_job *)ctx)->h, declared[k].name, data[k], declared[k].bytes));
    return OZ_OK;
}

static void sharded(void **state)
{
    (void)state;
    OK(oz_remove_tree(OUT "/sharded"));
    OK(oz_make_dirs(OUT "/sharded"));
    OK(oz_write_file(OUT "/sharded/config.json", "{}", 2));
    oz_hf_writer *h;
    oz_pool *pool;
    OK(oz_pool_new(&pool, 3));
    OK(oz_hf_begin(&h, OUT "/sharded", declared, NT, NULL, 0, 200, 0));
    put_job job = {h};
    OK(oz_pool_for(pool, NT, 1, put_some, &job)); /* puts from several threads */
    FAILS(oz_hf_put(h, "other", data[0], 1), OZ_ERR_KEY, "tensor \"other\" was not declared");
    OK(oz_hf_commit(h));
    oz_pool_free(pool);
    oz_ckpt *c;
    OK(oz_ckpt_open(&c, OUT "/sharded"));
    assert_int_equal(oz_ckpt_count(c), NT);
    int last = 0;
    for (int k = 0; k < NT; k++) {
        const oz_tensor *t = oz_ckpt_find(c, declared[k].name);
        assert_non_null(t);
        check_tensor(t);
        if (t->shard > last) last = t->shard;
    }
    oz_ckpt_close(c);
    assert_int_equal(entries(OUT "/sharded"), last + 1 + 2); /* shards, index, config.json */
    assert_true(last >= 3);
    char folder[64];
    io_folder(folder);
    OK(oz_hf_begin(&h, folder, declared, 2, NULL, 0, 0, 0)); /* no limit: one file, no index */
    for (int k = 0; k < 2; k++) OK(oz_hf_put_part(h, declared[k].name, 0, data[k], declared[k].bytes));
    OK(oz_hf_commit(h));
    assert_int_equal(entries(folder), 1);
    assert_true(oz_path_exists(io_path(folder, "model.safetensors")));
    OK(oz_hf_begin(&h, folder, declared, NT, NULL, 0, 64, 0));
    FAILS(oz_hf_commit(h), OZ_ERR_SHAPE, "tensor \"F32\" was declared with 60 bytes, 0 were put");
    assert_int_equal(entries(folder), 1);
    oz_out_tensor twice[] = {declared[0], declared[1], declared[0]};
    FAILS(oz_hf_begin(&h, folder, twice, 3, NULL, 0, 64, 0), OZ_ERR_KEY, "tensor \"F32\" is declared twice");
    io_remove(folder);
}

static void refusals(void **state)
{
    (void)state;
    char folder[64];
    io_folder(folder);
    const char *path = oz_path_join(folder, "x");
    oz_writer *w;
    const oz_out_tensor good = {"a", OZ_F32, OZ_GGML_NONE, 2, {2, 3}, 24};
    oz_out_tensor t = good;
    t.bytes = 23;
    FAILS(oz_safetensors_begin(&w, path, &t, 1, NULL, 0, 0), OZ_ERR_SHAPE,
          "tensor \"a\" is declared with 23 bytes, its type and shape need 24");
    FAILS(oz_gguf_begin(&w, path, &t, 1, NULL, 0, 0), OZ_ERR_SHAPE, "tensor \"a\" is declared with 23 bytes");
    t = good;
    t.name = "__pad.3";
    FAILS(oz_safetensors_begin(&w, path, &t, 1, NULL, 0, 0), OZ_ERR_KEY, "tensor \"__pad.3\": names that begin with");
    t = good;
    t.rank = 5;
    FAILS(oz_safetensors_begin(&w, path, &t, 1, NULL, 0, 0), OZ_ERR_SHAPE, "tensor \"a\" has 5 dimensions");
    t = good;
    t.shape[0] = t.shape[1] = 1LL << 32;
    FAILS(oz_safetensors_begin(&w, path, &t, 1, NULL, 0, 0), OZ_ERR_SHAPE, "does not fit in 63 bits");
    t = (oz_out_tensor){"q", OZ_U8, 2, 2, {2, 32}, 36};
    FAILS(oz_safetensors_begin(&w, path, &t, 1, NULL, 0, 0), OZ_ERR_EXPORT, "tensor \"q\" has ggml type q4_0, which only GGUF files hold");
    t = (oz_out_tensor){"q", OZ_U8, 2, 2, {2, 33}, 36};
    FAILS(oz_gguf_begin(&w, path, &t, 1, NULL, 0, 0), OZ_ERR_SHAPE, "rows of 33 elements, type q4_0 needs a multiple of 32");
    t = (oz_out_tensor){"q", OZ_E4M3, OZ_GGML_NONE, 1, {4}, 4};
    FAILS(oz_gguf_begin(&w, path, &t, 1, NULL, 0, 0), OZ_ERR_EXPORT, "tensor \"q\" is e4m3, for which GGUF has no type");
    t = good;
    t.name = "a name of sixty-four bytes is one too many for programs that use ";
    FAILS(oz_gguf_begin(&w, path, &t, 1, NULL, 0, 0), OZ_ERR_EXPORT, "GGUF programs read at most 63");
    oz_out_tensor twice[] = {good, good};
    FAILS(oz_safetensors_begin(&w, path, twice, 2, NULL, 0, 0), OZ_ERR_KEY, "tensor \"a\" is declared twice");
    FAILS(oz_gguf_begin(&w, path, twice, 2, NULL, 0, 0), OZ_ERR_KEY, "tensor \"a\" is declared twice");
    FAILS(oz_safetensors_begin(&w, path, &good, 1, NULL, 0, 24), OZ_ERR_RANGE, "an alignment of 24 bytes");
    FAILS(oz_safetensors_begin(&w, path, &good, 1, &pairs[2], 1, 0), OZ_ERR_EXPORT,
          "metadata \"test.u8\" is u8, safetensors holds texts only");
    const oz_out_meta same[] = {notes[0], notes[0]}, nested = {.key = "n", .kind = OZ_GGUF_ARRAY, .item = OZ_GGUF_ARRAY};
    FAILS(oz_safetensors_begin(&w, path, &good, 1, same, 2, 0), OZ_ERR_KEY, "metadata \"format\" is given twice");
    FAILS(oz_gguf_begin(&w, path, &good, 1, same, 2, 0), OZ_ERR_KEY, "metadata \"format\" is given twice");
    FAILS(oz_gguf_begin(&w, path, &good, 1, &nested, 1, 0), OZ_ERR_EXPORT, "metadata \"n\" is of kind array of arrays");
    FAILS(oz_gguf_begin(&w, io_path(folder, "none/x"), &good, 1, NULL, 0, 0), OZ_ERR_IO, "none/x.partial: No such file");
    assert_int_equal(entries(folder), 0);
    OK(oz_safetensors_begin(&w, path, &good, 1, NULL, 0, 0));
    FAILS(oz_writer_put(w, "b", data[0], 24), OZ_ERR_KEY, "tensor \"b\" was not declared");
    FAILS(oz_writer_put(w, "a", data[0], 20), OZ_ERR_SHAPE, "tensor \"a\": 20 bytes are put, it has 24");
    FAILS(oz_writer_put_part(w, "a", 20, data[0], 8), OZ_ERR_SHAPE, "tensor \"a\": bytes 20 to 28 are put, it has 24");
    FAILS(oz_writer_put_part(w, "a", SIZE_MAX, data[0], 8), OZ_ERR_SHAPE, "it has 24");
    OK(oz_writer_put_part(w, "a", 0, data[0], 20));
    assert_int_equal(entries(folder), 1); /* x.partial */
    FAILS(oz_writer_commit(w), OZ_ERR_SHAPE, "tensor \"a\" was declared with 24 bytes, 20 were put");
    assert_int_equal(entries(folder), 0);
    OK(oz_gguf_begin(&w, path, &good, 1, NULL, 0, 0));
    OK(oz_writer_put(w, "a", data[0], 24));
    FAILS(oz_writer_put_part(w, "a", 0, data[0], 1), OZ_ERR_SHAPE, "tensor \"a\": more than its 24 bytes were put");
    oz_writer_abandon(w);
    oz_writer_abandon(NULL);
    oz_hf_abandon(NULL);
    assert_int_equal(entries(folder), 0);
    oz_free((void *)(uintptr_t)path);
    io_remove(folder);
}

/* The system itself refuses: a limit on the size of files. */
static void too_large_for_the_system(void **state)
{
    (void)state;
    char folder[64];
    io_folder(folder);
    struct rlimit old, small = {4096, RLIM_INFINITY};
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small.rlim_max = old.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    oz_writer *w;
    const oz_out_tensor t = {"a", OZ_F32, OZ_GGML_NONE, 1, {4096}, 16384};
    oz_status status = oz_safetensors_begin(&w, io_path(folder, "x"), &t, 1, NULL, 0, 0);
    static const char zeros[8192];
    oz_status other = oz_write_file(io_path(folder, "y"), zeros, sizeof zeros);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(other, OZ_ERR_IO);
    assert_non_null(strstr(oz_message(), "cannot write 8192 bytes at byte 0 of "));
    assert_non_null(strstr(oz_message(), "(4096 were written): File too large")); /* a short write, then the error */
    assert_int_equal(status, OZ_ERR_IO);
    assert_int_equal(entries(folder), 0);
    io_remove(folder);
}

#ifdef OUNCE_FAULTS
/* Every write fails once, every allocation fails once: an error that says so, and nothing under the name. */
static oz_status whole_job(const char *folder, int which)
{
    oz_writer *w;
    oz_hf_writer *h;
    if (which == 2) {
        OZ_TRY(oz_hf_begin(&h, folder, declared, 3, notes, 2, 64, 64));
        for (int k = 0; k < 3; k++) {
            oz_status status = oz_hf_put(h, declared[k].name, data[k], declared[k].bytes);
            if (status) {
                oz_hf_abandon(h);
                return status;
            }
        }
        return oz_hf_commit(h);
    }
    const char *path = io_path(folder, "x");
    OZ_TRY(which ? oz_gguf_begin(&w, path, declared, 3, pairs, NPAIR, 0) : oz_safetensors_begin(&w, path, declared, 3, notes, 2, 64));
    for (int k = 0; k < 3; k++) {
        oz_status status = oz_writer_put(w, declared[k].name, data[k], declared[k].bytes);
        if (status && k == 0) { /* the caller forgot: commit knows */
            FAILS(oz_writer_commit(w), OZ_ERR_IO, "is not complete: a write to it failed");
            return status;
        }
        if (status) {
            oz_writer_abandon(w);
            return status;
        }
    }
    return oz_writer_commit(w);
}

static void faults(void **state)
{
    (void)state;
    for (int which = 0; which < 3; which++)
        for (int what = 0; what < 2; what++)
            for (int i = 1;; i++) {
                char folder[64];
                io_folder(folder);
                assert_true(i < 300);
                void (*arm)(int64_t) = what ? oz_fault_alloc : oz_fault_write;
                arm(i);
                oz_status status = whole_job(folder, which);
                arm(0);
                if (!status) {
                    assert_int_equal(entries(folder), which == 2 ? 3 : 1);
                    io_remove(folder);
                    assert_true(i > 4);
                    break;
                }
                assert_int_equal(status, what ? OZ_ERR_NOMEM : OZ_ERR_IO);
                if (!what && !strstr(oz_message(), "No space left on device") && !strstr(oz_message(), "cannot sync") &&
                    !strstr(oz_message(), "is not complete"))
                    fail_msg("message: %s", oz_message());
                /* a folder may have some whole shards, which the caller's partial folder hides; never an index or a partial file */
                if (which < 2 && !oz_path_exists(io_path(folder, "x"))) assert_int_equal(entries(folder), 0);
                assert_false(oz_path_exists(io_path(folder, "x.partial")));
                assert_false(oz_path_exists(io_path(folder, "model.safetensors.index.json")));
                if (which < 2 && !what) assert_false(oz_path_exists(io_path(folder, "x")));
                io_remove(folder);
            }
}
#endif

int main(void)
{
    make_tensors();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(safetensors),
        cmocka_unit_test(gguf),
        cmocka_unit_test(sharded),
        cmocka_unit_test(refusals),
        cmocka_unit_test(too_large_for_the_system),
#ifdef OUNCE_FAULTS
        cmocka_unit_test(faults),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

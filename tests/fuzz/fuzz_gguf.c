/* fuzz_gguf.c: the GGUF reader and its value accessors on any bytes. */
#include "fuzz.h"

static void values(const oz_gguf_value *v)
{
    int64_t i = 0;
    double x = 0;
    size_t n = 0;
    fuzz_touch(v->raw, v->raw_bytes);
    (void)oz_gguf_int(v, &i), (void)oz_gguf_real(v, &x);
    const char *s = oz_gguf_string(v, &n);
    if (s) fuzz_touch(s, n);
    for (uint64_t k = 0; v->kind == OZ_GGUF_ARRAY && k <= v->count; k++) {
        (void)oz_gguf_int_at(v, k, &i), (void)oz_gguf_real_at(v, k, &x);
        s = oz_gguf_string_at(v, k, &n);
        if (s) fuzz_touch(s, n);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    oz_arena *arena;
    oz_parsed p;
    fuzz_begin(&data, &size);
    oz_status status = oz_arena_new(&arena, 0);
    if (!status) {
        status = oz_gguf_parse(data, size, "input", arena, &p);
        for (int i = 0; !status && i < p.ntensor; i++) fuzz_touch(p.tensor[i].data, p.tensor[i].bytes), (void)oz_tensor_count(&p.tensor[i]);
        for (int i = 0; !status && i < p.nvalue; i++) values(&p.value[i]);
        oz_arena_free(arena);
    }
    fuzz_end(status);
    return 0;
}

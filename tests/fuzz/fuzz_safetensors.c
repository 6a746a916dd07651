/* fuzz_safetensors.c: the safetensors reader on any bytes. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    oz_arena *arena;
    oz_parsed p;
    fuzz_begin(&data, &size);
    oz_status status = oz_arena_new(&arena, 0);
    if (!status) {
        status = oz_safetensors_parse(data, size, "input", arena, &p);
        for (int i = 0; !status && i < p.ntensor; i++) fuzz_touch(p.tensor[i].data, p.tensor[i].bytes), (void)oz_tensor_count(&p.tensor[i]);
        oz_arena_free(arena);
    }
    fuzz_end(status);
    return 0;
}

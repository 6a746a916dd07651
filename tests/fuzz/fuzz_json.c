/* fuzz_json.c: the JSON reader on any bytes; what it accepts must print and read back equal. */
#include "fuzz.h"
#include <string.h>

static void round_trip(const oz_node *tree, size_t size, oz_arena *arena)
{
    oz_node *again;
    char *text = oz_json_print(tree, (int)(size % 3));
    (void)size;
    if (!text) return;
    oz_status status = oz_json_parse(&again, text, strlen(text), "printed", arena);
    if (!status && !oz_node_equal(tree, again)) abort();
    if (status && status != OZ_ERR_NOMEM) abort();
    oz_free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    oz_arena *arena;
    oz_node *tree;
    fuzz_begin(&data, &size);
    oz_status status = oz_arena_new(&arena, 0);
    if (!status) {
        status = oz_json_parse(&tree, (const char *)data, size, "input", arena);
        if (!status) round_trip(tree, size, arena);
        oz_arena_free(arena);
    }
    fuzz_end(status);
    return 0;
}

/* fuzz_spec.c: the parser of format strings on any text (a directory's record holds them); what it accepts must print to a text that
 * parses to itself, and bind to a matrix or refuse it with a message. */
#include "fuzz.h"
#include "ounce/format.h"
#include <string.h>

static oz_status use(const oz_spec *spec, const char *text, oz_arena *arena)
{
    oz_spec *again;
    oz_fmt f;
    oz_act act;
    oz_array arrays[8];
    int n;
    oz_status status = oz_spec_parse(&again, spec->text, "printed", arena);
    if (status == OZ_ERR_NOMEM) return status;
    if (status || !oz_spec_equal(spec, again)) abort();
    if (!oz_fmt_bind(&f, spec, 48, 96, "w")) {
        if (oz_packed_declare(&f, arrays, &n) || n < 1 || n > 8) abort();
        if (!(f.type->bits(&f) > 0)) abort();
    }
    (void)text;
    return oz_act_from_spec(&act, spec, "input");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    oz_arena *arena;
    oz_spec *spec;
    fuzz_begin(&data, &size);
    oz_status status = oz_arena_new(&arena, 0);
    if (!status) {
        char *text = oz_arena_strndup(arena, (const char *)data, size);
        status = text ? oz_spec_parse(&spec, text, "input", arena) : OZ_ERR_NOMEM;
        if (!status) status = use(spec, text, arena);
        oz_arena_free(arena);
    }
    fuzz_end(status);
    return 0;
}

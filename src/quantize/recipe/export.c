/* Export by target: a Hugging Face directory (export_hf.c) or a GGUF file (export_gguf.c). */
#include "quantize/recipe/recipe_internal.h"

oz_status oz_export(const char *path, const oz_weights *w, const oz_export_source *from, const oz_export_options *o, uint64_t *bytes,
                    oz_run *run)
{
    *bytes = 0;
    return o->gguf ? oz_export_gguf(path, w, from, o, bytes, run) : oz_export_hf(path, w, from, o, bytes, run);
}

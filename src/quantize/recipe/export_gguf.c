/* Writes a GGUF file.  Not built yet: the refusal names the file. */
#include "quantize/recipe/recipe_internal.h"

oz_status oz_export_gguf(const char *path, const oz_weights *w, const oz_export_source *from, const oz_export_options *o, uint64_t *bytes, oz_run *run)
{
    (void)w, (void)from, (void)o, (void)run;
    *bytes = 0;
    return oz_fail(OZ_ERR_UNSUPPORTED, "write to a directory", "%s: GGUF output is not built yet", path);
}

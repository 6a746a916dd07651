/* text_common.h: what the tests of core/text share: reading goldens, finding the standard model. */
#ifndef TEXT_COMMON_H
#define TEXT_COMMON_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "ounce/text.h"

#define GOLDEN OUNCE_SOURCE_DIR "/tests/golden/text/"

static inline oz_node *golden(const char *name, oz_arena *arena)
{
    char path[1024], *text = NULL;
    size_t n = 0;
    oz_node *root = NULL;
    snprintf(path, sizeof path, GOLDEN "%s", name);
    if (oz_read_file(path, 1 << 20, &text, &n) || oz_json_parse(&root, text, n, path, arena))
        fail_msg("%s (HINT: tools/oracle/text.py makes the goldens)", oz_message());
    assert_int_equal(oz_node_int(oz_node_get(root, "version"), 0), 1);
    oz_free(text);
    return root;
}

/* smollm2.gguf of the models folder; NULL (and a line that says so) when it has not been fetched. */
static inline oz_ckpt *standard_model(void)
{
    const char *models = getenv("OUNCE_MODELS"), *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char path[1024];
    if (models && *models)
        snprintf(path, sizeof path, "%s/smollm2.gguf", models);
    else if (cache && *cache)
        snprintf(path, sizeof path, "%s/ounce/models/smollm2.gguf", cache);
    else
        snprintf(path, sizeof path, "%s/.cache/ounce/models/smollm2.gguf", home ? home : "");
    oz_ckpt *c = NULL;
    if (!oz_path_exists(path)) {
        printf("skipped: %s is missing (tools/models/get smollm2)\n", path);
        return NULL;
    }
    if (oz_ckpt_open(&c, path)) fail_msg("%s", oz_message());
    return c;
}
#endif
